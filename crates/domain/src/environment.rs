//! An environment's row: what is live, and what is about to be. The transitions are pure; the store writes their result on
//! the condition that the row still is what was read.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ErrorName;
use crate::branch::Because;
use crate::claims::RefType;
use crate::deployment::{Action, Deployment, DeploymentId, Ending, Launch, Outcome, Target};
use crate::expiry::{LOOK, Lead, Pin, backoff};
use crate::names::{AccountId, Digest, EnvironmentKey, StackName};
use crate::repair::Asked;

/// How an environment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvironmentState {
    /// Its first deployment has not ended.
    New,
    /// Its last deployment succeeded.
    Live,
    /// Its last deployment failed; what was live before may still be.
    Failed,
    /// It is gone.
    TornDown,
}

impl EnvironmentState {
    /// As a person reads it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            EnvironmentState::New => "new",
            EnvironmentState::Live => "live",
            EnvironmentState::Failed => "failed",
            EnvironmentState::TornDown => "torn down",
        }
    }
}

/// A deployment that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Which.
    pub deployment: DeploymentId,
    /// Its pipeline.
    pub pipeline_id: u64,
    /// Its approval.
    pub approval: Digest,
    /// Until when.
    pub until: Timestamp,
}

/// A deployment that began, and whose end is not recorded in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Which.
    pub deployment: DeploymentId,
    /// What it does.
    pub action: Action,
    /// The release that it launches.
    pub release: Option<Digest>,
    /// When `sweep` looks whether its execution still runs.
    pub look_at: Timestamp,
    /// Whether its end is in the environment's row.
    #[serde(default)]
    pub settled: bool,
}

/// One live copy of an application in a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Its name.
    pub key: EnvironmentKey,
    /// Its stack.
    pub stack_name: StackName,
    /// Where.
    pub target: Target,
    /// How it stands.
    pub state: EnvironmentState,
    /// The newest pipeline that began a deployment.
    pub pipeline_id: u64,
    /// The last deployment that began.
    pub deployment: Option<DeploymentId>,
    /// The last rollback that began: no deployment that began before it comes after it.
    #[serde(default)]
    pub rollback: Option<DeploymentId>,
    /// The repair that changes the stack, if one began since.
    #[serde(default)]
    pub repair: Option<DeploymentId>,
    /// The deployment that waits for a person.
    pub waiting: Option<Waiting>,
    /// When the last deployment that ended as asked did so.
    #[serde(default)]
    pub ended: Option<Timestamp>,
    /// The deployment that made what is live.
    #[serde(default)]
    pub live: Option<DeploymentId>,
    /// The one that made what was live before: what a rollback launches again.
    #[serde(default)]
    pub previous: Option<DeploymentId>,
    /// The release that is live.
    pub release: Option<Digest>,
    /// The release of the deployment [`Environment::live`]: what the stack's template names. What found nothing to change made another
    /// release live, but not another template.
    #[serde(default)]
    pub live_release: Option<Digest>,
    /// The release of the deployment [`Environment::previous`].
    #[serde(default)]
    pub previous_release: Option<Digest>,
    /// The commit that is live.
    pub commit: Option<String>,
    /// The branch or tag that it came from.
    #[serde(default)]
    pub ref_name: Option<String>,
    /// Which of the two; not known of what was deployed before this was noted.
    #[serde(default)]
    pub ref_type: Option<RefType>,
    /// The login of who deployed it.
    #[serde(default)]
    pub deployed_by: Option<String>,
    /// When it became live.
    #[serde(default)]
    pub deployed_at: Option<Timestamp>,
    /// Where it answers.
    pub url: Option<String>,
    /// The stack's outputs.
    pub outputs: BTreeMap<String, String>,
    /// When it expires, unless it is pinned; never in a protected stage.
    pub expires_at: Option<Timestamp>,
    /// Why it expired before its time, if it did.
    #[serde(default)]
    pub expired_because: Option<Because>,
    /// Who wants to keep it for longer, if anybody.
    #[serde(default)]
    pub pin: Option<Pin>,
    /// What is told next of its end.
    #[serde(default)]
    pub next_warning: Option<Lead>,
    /// How often its teardown failed since it was last deployed.
    #[serde(default)]
    pub failed_teardowns: u32,
    /// When `sweep` tries it again.
    #[serde(default)]
    pub retry_at: Option<Timestamp>,
    /// The deployments that began, and whose end is not recorded in full, oldest first.
    #[serde(default)]
    pub open: Vec<Open>,
    /// How many seconds the last successful execution of a change set took, for the next wait.
    pub last_seconds: Option<u32>,
}

/// Something else came first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Superseded {
    /// A newer pipeline.
    #[error("pipeline {mine} is older than pipeline {newest}, which deployed or is deploying to {environment}")]
    ByPipeline {
        /// Ours.
        mine: u64,
        /// The newest.
        newest: u64,
        /// Where.
        environment: EnvironmentKey,
    },
    /// A rollback, which was asked for after this deployment began.
    #[error("rollback {rollback} of {environment} began after this deployment did: run a new job to deploy over it")]
    ByRollback {
        /// Which.
        rollback: DeploymentId,
        /// Where.
        environment: EnvironmentKey,
    },
    /// A deployment that began after this rollback did.
    #[error("deployment {later} of {environment} began after this rollback did")]
    ByLater {
        /// Which.
        later: DeploymentId,
        /// Where.
        environment: EnvironmentKey,
    },
    /// Somebody wants to keep what was to be torn down.
    #[error("{environment} is pinned until {:.0}, by {} ({}): `slipway unpin` it first", .pin.until, .pin.by, .pin.reason)]
    Pinned {
        /// Which.
        environment: EnvironmentKey,
        /// How.
        pin: Box<Pin>,
    },
    /// It is, or is about to be, in another account than its stage is now.
    #[error("{environment} lives in account {lives_in}, and its stage is account {stage} now: tear it down first")]
    Elsewhere {
        /// Which.
        environment: Box<EnvironmentKey>,
        /// The account of its stack.
        lives_in: AccountId,
        /// The stage's.
        stage: AccountId,
    },
    /// What was to be rolled back is not live any more.
    #[error("{what} is live on {environment} meanwhile, and deployment {from} was to be rolled back: look, and ask again",
        what = .live.as_ref().map_or_else(|| "nothing".to_owned(), |live| format!("deployment {live}")))]
    Moved {
        /// What is live instead.
        live: Option<DeploymentId>,
        /// What was, when the rollback was admitted.
        from: DeploymentId,
        /// Where.
        environment: EnvironmentKey,
    },
}

/// A deployment begins on `current`: the row to write. It is the newest, or it is superseded.
///
/// A repair is neither. It launches nothing, so that an old pipeline's job may do it, and nothing is older than it: it changes
/// neither the newest pipeline nor the last deployment, and takes nobody's question to people away. What waits for an answer keeps its
/// change set, and CloudFormation, which marks that as obsolete once the stack changes, has the last word.
///
/// # Errors
/// [`Superseded`].
pub fn begin(current: Option<&Environment>, deployment: &Deployment) -> Result<Environment, Superseded> {
    let mut environment = match current {
        Some(environment) => environment.clone(),
        None => {
            Environment::new(deployment.environment.clone(), deployment.stack_name.clone(), deployment.target.clone())
        }
    };
    superseded(&environment, deployment)?;
    if environment.is_bound(&deployment.id) {
        stays(&environment, deployment)?;
    }
    if deployment.action == Action::Teardown
        && let Some(pin) = environment.pinned(deployment.started_at)
    {
        return Err(Superseded::Pinned { environment: environment.key.clone(), pin: Box::new(pin.clone()) });
    }
    // Whoever waits for the lease comes here again and again.
    if !environment.open.iter().any(|open| open.deployment == deployment.id) {
        environment.open.push(Open {
            deployment: deployment.id.clone(),
            action: deployment.action,
            release: deployment.launch.as_ref().map(|launch| launch.bundle.clone()),
            look_at: deployment.started_at + LOOK,
            settled: false,
        });
    }
    if deployment.back.is_some() {
        environment.rollback = Some(deployment.id.clone());
    } else if deployment.action == Action::Deploy {
        environment.pipeline_id = deployment.requester.as_ref().map_or(environment.pipeline_id, |r| r.pipeline_id);
    }
    match (deployment.action, &deployment.repair) {
        (Action::Deploy | Action::Teardown, _) => {
            environment.target = deployment.target.clone();
            // Whoever waits for the lease comes here again and again: the last is who began last. Ids sort by time.
            if environment.deployment.as_ref().is_none_or(|last| *last < deployment.id) {
                environment.deployment = Some(deployment.id.clone());
                environment.repair = None;
            }
        }
        (Action::Repair, Some(Asked::Retry | Asked::Skip(_))) => environment.repair = Some(deployment.id.clone()),
        // Who only looks is no news.
        (Action::Repair, Some(Asked::Look) | None) => {}
    }
    Ok(environment)
}

/// A deployment goes on after it waited, for a person or for the lease: the row to write, unless a newer pipeline came.
///
/// # Errors
/// [`Superseded`].
pub fn resume(current: Option<&Environment>, deployment: &Deployment) -> Result<Environment, Superseded> {
    let mut environment = match current {
        Some(environment) => environment.clone(),
        None => begin(None, deployment)?,
    };
    superseded(&environment, deployment)?;
    environment.waiting = environment.waiting.filter(|waiting| waiting.deployment != deployment.id);
    Ok(environment)
}

/// Whether `deployment` is about the account that the environment is in: a stack that was made elsewhere would be nobody's.
///
/// # Errors
/// [`Superseded::Elsewhere`].
pub fn stays(environment: &Environment, deployment: &Deployment) -> Result<(), Superseded> {
    let (lives_in, stage) = (&environment.target.account, &deployment.target.account);
    if lives_in == stage {
        return Ok(());
    }
    Err(Superseded::Elsewhere {
        environment: Box::new(environment.key.clone()),
        lives_in: lives_in.clone(),
        stage: stage.clone(),
    })
}

/// A rollback got the lease: whether it would do what was told when it was asked for.
///
/// # Errors
/// [`Superseded::Moved`].
pub fn goes_back(current: Option<&Environment>, deployment: &Deployment) -> Result<(), Superseded> {
    let Some(back) = &deployment.back else { return Ok(()) };
    let live = current.and_then(|environment| environment.live.clone());
    let previous = current.and_then(|environment| environment.previous.as_ref());
    if live.as_ref() == Some(&back.from) && previous == Some(&back.to) {
        return Ok(());
    }
    Err(Superseded::Moved { live, from: back.from.clone(), environment: deployment.environment.clone() })
}

fn superseded(environment: &Environment, deployment: &Deployment) -> Result<(), Superseded> {
    let key = || environment.key.clone();
    if deployment.back.is_some() {
        // A person asked for it, from whatever pipeline: only what began later comes before it. Ids sort by time.
        return match environment.deployment.as_ref().filter(|last| **last > deployment.id) {
            Some(later) => Err(Superseded::ByLater { later: later.clone(), environment: key() }),
            None => Ok(()),
        };
    }
    if deployment.action == Action::Deploy
        && let Some(rollback) = environment.rollback.as_ref().filter(|rollback| **rollback > deployment.id)
    {
        return Err(Superseded::ByRollback { rollback: rollback.clone(), environment: key() });
    }
    let newest = environment.pipeline_id;
    let mine = deployment.requester.as_ref().map_or(0, |requester| requester.pipeline_id);
    // A branch's stop job runs in the pipeline that created the environment, and an expired one has no pipeline: a teardown
    // is asked for by what is there, not by what is newest.
    if deployment.requester.is_some() && deployment.action == Action::Deploy && mine < newest {
        return Err(Superseded::ByPipeline { mine, newest, environment: key() });
    }
    Ok(())
}

/// What the stack showed when its deployment ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// Its outputs.
    pub outputs: BTreeMap<String, String>,
    /// How many seconds the execution of the change set took.
    pub seconds: Option<u32>,
}

/// A deployment ended: the row to write. However often its end is told, it counts once.
#[must_use]
pub fn settle(mut environment: Environment, deployment: &Deployment, outcome: &Outcome, shown: &Shown) -> Environment {
    match environment.open.iter_mut().find(|open| open.deployment == deployment.id) {
        Some(open) if open.settled => return environment,
        Some(open) => open.settled = true,
        // All that belongs to its end is done already, or it never got so far as to begin.
        None if environment.ended == Some(outcome.ended_at) && environment.live.as_ref() == Some(&deployment.id) => {
            return environment;
        }
        None if deployment.action == Action::Teardown && outcome.ending == Ending::Failed => return environment,
        None => {}
    }
    if environment.waiting.as_ref().is_some_and(|waiting| waiting.deployment == deployment.id) {
        environment.waiting = None;
    }
    let last = environment.deployment.as_ref() == Some(&deployment.id);
    if !matches!(outcome.ending, Ending::Failed | Ending::Repaired | Ending::Looked) {
        if environment.ended.is_some_and(|ended| ended > outcome.ended_at) {
            // Told late: what ended since counts. One at a time is at work, but not in the order in which they began.
            return environment;
        }
        environment.ended = Some(outcome.ended_at);
    }
    match outcome.ending {
        Ending::Succeeded | Ending::NoChanges => {
            environment.state = EnvironmentState::Live;
            let release = deployment.launch.as_ref().map(|launch| launch.bundle.clone());
            if outcome.ending == Ending::Succeeded && environment.live.as_ref() != Some(&deployment.id) {
                environment.previous = environment.live.replace(deployment.id.clone());
                environment.previous_release = std::mem::replace(&mut environment.live_release, release.clone());
            }
            if let Some(launch) = &deployment.launch {
                environment.release = release;
                environment.expires_at = launch.expires_in.map(|span| outcome.ended_at + span.duration());
                environment.expired_because = None;
                environment = environment.told_again(outcome.ended_at);
            }
            environment.commit = deployment.commit().map(str::to_owned);
            let requester = deployment.requester.as_ref();
            environment.ref_name = requester.map(|requester| requester.ref_name.clone());
            environment.ref_type = requester.and_then(|requester| requester.ref_type);
            environment.deployed_by = requester.map(|requester| requester.user_login.clone());
            environment.deployed_at = Some(outcome.ended_at);
            environment.url = environment_url(&shown.outputs);
            environment.outputs.clone_from(&shown.outputs);
            environment.last_seconds = shown.seconds.or(environment.last_seconds);
        }
        Ending::TornDown => {
            environment.state = EnvironmentState::TornDown;
            if last {
                // Nothing is there, or about to be, that an older pipeline could overwrite.
                environment.pipeline_id = 0;
            }
            environment.live = None;
            environment.previous = None;
            environment.release = None;
            environment.live_release = None;
            environment.previous_release = None;
            environment.commit = None;
            environment.ref_name = None;
            environment.ref_type = None;
            environment.expired_because = None;
            environment.deployed_by = None;
            environment.deployed_at = None;
            environment.url = None;
            environment.outputs = BTreeMap::new();
            environment.expires_at = None;
            environment.pin = None;
            environment = environment.told_again(outcome.ended_at);
        }
        // What is live is what was live before, and the last deployment is the last deployment.
        Ending::Repaired | Ending::Looked => {}
        Ending::Failed => {
            if last && outcome.error != Some(ErrorName::Superseded) {
                environment.state = EnvironmentState::Failed;
            }
            if deployment.action == Action::Teardown {
                return teardown_failed(environment, deployment, outcome);
            }
            // What a failed deployment leaves behind in an ephemeral stage expires like everything else there.
            if environment.expires_at.is_none()
                && !deployment.target.protected
                && let Some(span) = deployment.launch.as_ref().and_then(|launch| launch.expires_in)
            {
                environment.expires_at = Some(outcome.ended_at + span.duration());
                environment = environment.told_again(outcome.ended_at);
            }
        }
    }
    environment
}

/// It is tried again after a while, unless something came first. What a job wants gone, and failed to tear down, has had its time.
fn teardown_failed(environment: Environment, deployment: &Deployment, outcome: &Outcome) -> Environment {
    if matches!(outcome.error, Some(ErrorName::Superseded | ErrorName::NotAllowed | ErrorName::StageProtected)) {
        return environment;
    }
    let failed_teardowns = environment.failed_teardowns.saturating_add(1);
    let retry_at = Some(outcome.ended_at + backoff(failed_teardowns));
    let unwanted = deployment.requester.is_some() && outcome.error != Some(ErrorName::Stopped);
    let expires_at = match environment.expires_at {
        Some(expires_at) if unwanted => Some(expires_at.min(outcome.ended_at)),
        expires_at => expires_at,
    };
    let failed = Environment { failed_teardowns, retry_at, expires_at, ..environment };
    // What has ended is not announced.
    let next_warning = failed.next_warning.filter(|_| !failed.is_expired(outcome.ended_at));
    Environment { next_warning, ..failed }
}

/// The environment's address: the output that says so by name, else the only one that is a URL.
#[must_use]
pub fn environment_url(outputs: &BTreeMap<String, String>) -> Option<String> {
    const NAMES: [&str; 6] = ["Url", "URL", "ApiUrl", "WebsiteUrl", "EnvironmentUrl", "Endpoint"];
    let is_url = |value: &&String| value.starts_with("https://") || value.starts_with("http://");
    if let Some(url) = NAMES.iter().find_map(|name| outputs.get(*name).filter(is_url)) {
        return Some(url.clone());
    }
    let mut urls = outputs.values().filter(is_url);
    match (urls.next(), urls.next()) {
        (Some(url), None) => Some(url.clone()),
        _ => None,
    }
}

impl Environment {
    /// One that nothing was deployed to yet.
    #[must_use]
    pub fn new(key: EnvironmentKey, stack_name: StackName, target: Target) -> Self {
        Self {
            key,
            stack_name,
            target,
            state: EnvironmentState::New,
            pipeline_id: 0,
            deployment: None,
            rollback: None,
            repair: None,
            waiting: None,
            ended: None,
            live: None,
            previous: None,
            release: None,
            live_release: None,
            previous_release: None,
            commit: None,
            ref_name: None,
            ref_type: None,
            deployed_by: None,
            deployed_at: None,
            url: None,
            outputs: BTreeMap::new(),
            expires_at: None,
            expired_because: None,
            pin: None,
            next_warning: None,
            failed_teardowns: 0,
            retry_at: None,
            open: Vec::new(),
            last_seconds: None,
        }
    }

    /// What is shown of it: what waits for a person, else what began last.
    #[must_use]
    pub fn last(&self) -> Option<&DeploymentId> {
        let waiting = self.waiting.as_ref().map(|waiting| &waiting.deployment);
        waiting.or(self.repair.as_ref()).or(self.deployment.as_ref())
    }

    /// Whether deploying `launch` was done by `live`, the deployment that made what is live, and nothing came of anything since.
    #[must_use]
    pub fn is_as_launched(&self, live: &Deployment, launch: &Launch) -> bool {
        self.state == EnvironmentState::Live
            && self.live.as_ref() == Some(&live.id)
            && live.launch.as_ref() == Some(launch)
            // One that found nothing to change makes nothing else live, but its release counts.
            && self.release.as_ref() == Some(&launch.bundle)
    }

    /// Whether there may be a stack: not once it was torn down, or when its first deployment never came that far.
    #[must_use]
    pub fn is_somewhere(&self) -> bool {
        match self.state {
            EnvironmentState::Live | EnvironmentState::Failed => true,
            EnvironmentState::New | EnvironmentState::TornDown => false,
        }
    }

    /// Whether its account is not to change: there may be a stack, or something else than `deployment` is under way that makes one, or
    /// takes it for gone.
    #[must_use]
    pub fn is_bound(&self, deployment: &DeploymentId) -> bool {
        self.is_somewhere() || self.open.iter().any(|open| !open.settled && open.deployment != *deployment)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
pub(crate) mod tests {
    use super::*;
    use crate::deployment::{Back, Requester};
    use crate::expiry::Due;
    use crate::names::{ApplicationName, EnvironmentName, ProjectId, Region, StageName};
    use crate::stages::Span;
    use jiff::SignedDuration;

    /// A deployment of a pipeline; a repair tries everything again.
    pub(crate) fn deployment(action: Action, pipeline_id: u64, protected: bool) -> Deployment {
        let environment = EnvironmentKey {
            project: ProjectId(42),
            application: ApplicationName::new("news").unwrap(),
            stage: StageName::new("dev").unwrap(),
            environment: EnvironmentName::new("review/x").unwrap(),
        };
        // A pipeline begins each second, and its stop job with it, a moment later.
        let seconds = i64::try_from(pipeline_id).unwrap_or(0);
        let begins = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
        let begins = if action == Action::Teardown { begins + SignedDuration::from_millis(1) } else { begins };
        Deployment {
            id: DeploymentId::from_execution(begins, &format!("{action:?}{pipeline_id}")),
            action,
            stack_name: environment.stack_name(),
            environment,
            target: Target {
                account: AccountId::new("111111111111").unwrap(),
                region: Region::new("eu-central-1").unwrap(),
                protected,
            },
            launch: (action == Action::Deploy).then(|| Launch {
                bundle: Digest::of(b"b"),
                parameters: BTreeMap::new(),
                tags: BTreeMap::new(),
                capabilities: vec![],
                expires_in: (!protected).then(|| Span::days(7)),
            }),
            repair: (action == Action::Repair).then_some(Asked::Retry),
            approval: None,
            timeout: Span::days(1),
            stack_rules: crate::stages::StackRules::default(),
            teardown: Default::default(),
            purge_logs: false,
            back: None,
            requester: Some(Requester {
                user_id: 7,
                user_login: "dana".into(),
                pipeline_id,
                job_id: 1,
                project_path: "group/news".into(),
                ref_name: "x".into(),
                ref_type: None,
                sha: "c0ffee".into(),
            }),
            execution_arn: "arn".into(),
            admission: Digest::of(b"a"),
            started_at: Timestamp::UNIX_EPOCH,
        }
    }

    /// A rollback of pipeline 10, which begins in second `second`.
    fn rollback(second: i64, from: &Deployment, to: &Deployment) -> Deployment {
        let at = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second);
        let launch = to.launch.clone().unwrap();
        Deployment {
            id: DeploymentId::from_execution(at, "rollback"),
            back: Some(Back::new(from.id.clone(), to, &launch)),
            launch: Some(launch),
            ..deployment(Action::Deploy, 10, false)
        }
    }

    fn outcome(ending: Ending) -> Outcome {
        let error = (ending == Ending::Failed).then_some(ErrorName::StackFailed);
        Outcome { ending, error, message: None, ended_at: Timestamp::UNIX_EPOCH }
    }

    fn outcome_at(second: i64, ending: Ending) -> Outcome {
        Outcome { ended_at: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second), ..outcome(ending) }
    }

    #[test]
    fn the_newest_pipeline_wins() {
        let first = begin(None, &deployment(Action::Deploy, 10, false)).unwrap();
        let second = begin(Some(&first), &deployment(Action::Deploy, 12, false)).unwrap();
        assert_eq!(second.pipeline_id, 12);
        let late = begin(Some(&second), &deployment(Action::Deploy, 11, false)).unwrap_err();
        assert!(matches!(late, Superseded::ByPipeline { mine: 11, newest: 12, .. }));
        assert!(begin(Some(&second), &deployment(Action::Teardown, 10, false)).is_ok(), "a stop job is never too old");
    }

    #[test]
    fn an_environment_stays_where_it_is_while_anything_is_there_or_under_way() {
        let first = deployment(Action::Deploy, 10, false);
        let mut second = deployment(Action::Deploy, 11, false);
        second.target.account = AccountId::new("222222222222").unwrap();
        let elsewhere = |current: &Environment| {
            let refused = begin(Some(current), &second).map_err(|refused| refused.to_string());
            refused
                .is_err_and(|why| why.contains("lives in account 111111111111, and its stage is account 222222222222"))
        };
        let begun = begin(None, &first).unwrap();
        assert!(elsewhere(&begun), "it may be making its stack");
        assert!(begin(Some(&begun), &first).is_ok(), "whoever waits asks again");
        let live = settle(begun, &first, &outcome(Ending::Succeeded), &Shown::default());
        assert!(elsewhere(&live) && elsewhere(&live.closed(&first.id)));
        let teardown = deployment(Action::Teardown, 10, false);
        let going = begin(Some(&live.closed(&first.id)), &teardown).unwrap();
        let gone = settle(going.clone(), &teardown, &outcome_at(1, Ending::TornDown), &Shown::default());
        let again = begin(Some(&gone), &deployment(Action::Teardown, 12, false)).unwrap();
        assert!(elsewhere(&going) && elsewhere(&again), "it would be taken for gone");
        let moved = begin(Some(&gone), &second).unwrap();
        assert_eq!(moved.target, second.target);
        assert!(stays(&moved, &first).is_err() && stays(&moved, &second).is_ok());
    }

    #[test]
    fn what_only_began_takes_nothing_from_what_ends() {
        let first = deployment(Action::Deploy, 10, false);
        let second = deployment(Action::Deploy, 11, false);
        let waiting = begin(Some(&begin(None, &first).unwrap()), &second).unwrap();
        let release = first.launch.as_ref().map(|launch| launch.bundle.clone());
        let live = settle(waiting, &first, &outcome(Ending::Succeeded), &Shown::default());
        assert_eq!((live.release.clone(), live.live.clone()), (release, Some(first.id.clone())));
        let failed = settle(live.clone(), &second, &outcome(Ending::Failed), &Shown::default());
        assert_eq!((failed.state, failed.live), (EnvironmentState::Failed, Some(first.id.clone())));
        // Told late, an end changes nothing that ended since.
        let newer = settle(live, &second, &outcome_at(1, Ending::Succeeded), &Shown::default());
        assert_eq!(newer.previous.as_ref(), Some(&first.id));
        assert_eq!(settle(newer.clone(), &first, &outcome(Ending::Succeeded), &Shown::default()), newer);
    }

    #[test]
    fn what_began_first_and_ended_last_is_what_counts() {
        let teardown = deployment(Action::Teardown, 10, false);
        let deploy = deployment(Action::Deploy, 11, false);
        let begun = begin(Some(&begin(None, &teardown).unwrap()), &deploy).unwrap();
        let live = settle(begun, &deploy, &outcome_at(1, Ending::Succeeded), &Shown::default());
        let gone = settle(live, &teardown, &outcome_at(2, Ending::TornDown), &Shown::default());
        assert_eq!((gone.state, gone.live, gone.release), (EnvironmentState::TornDown, None, None));
    }

    #[test]
    fn a_teardown_forgets_no_pipeline_that_waits_for_its_end() {
        let teardown = deployment(Action::Teardown, 10, false);
        let waiting = begin(Some(&begin(None, &teardown).unwrap()), &deployment(Action::Deploy, 14, false)).unwrap();
        let gone = settle(waiting, &teardown, &outcome(Ending::TornDown), &Shown::default());
        assert!(begin(Some(&gone), &deployment(Action::Deploy, 12, false)).is_err());
    }

    #[test]
    fn a_rollback_comes_before_a_newer_pipeline_but_not_before_what_began_since() {
        let newest = begin(None, &deployment(Action::Deploy, 12, false)).unwrap();
        let rollback = rollback(20, &deployment(Action::Deploy, 12, false), &deployment(Action::Deploy, 11, false));
        let begun = begin(Some(&newest), &rollback).unwrap();
        assert_eq!(begun.pipeline_id, 12, "an older pipeline's own deployment still does not");
        assert!(resume(Some(&begun), &rollback).is_ok());
        let since = begin(Some(&begun), &deployment(Action::Deploy, 30, false)).unwrap();
        assert!(matches!(resume(Some(&since), &rollback), Err(Superseded::ByLater { .. })));
    }

    #[test]
    fn what_began_before_a_rollback_does_not_deploy_over_it() {
        let (old, bad) = (deployment(Action::Deploy, 10, false), deployment(Action::Deploy, 11, false));
        let waits = deployment(Action::Deploy, 15, false);
        let first = rollback(20, &bad, &old);
        let begun = begin(Some(&begin(None, &waits).unwrap()), &first).unwrap();
        let by_rollback =
            Err(Superseded::ByRollback { rollback: first.id.clone(), environment: first.environment.clone() });
        assert_eq!(begin(Some(&begun), &waits), by_rollback, "each time that it asks for the lease");
        assert_eq!(resume(Some(&begun), &waits), by_rollback, "and after a person decided");
        // Not even once the rollback has ended, or another one began.
        let live = settle(begun, &first, &outcome(Ending::Succeeded), &Shown::default());
        assert_eq!(begin(Some(&live), &waits), by_rollback);
        let second = begin(Some(&live), &rollback(30, &first, &bad)).unwrap();
        assert!(begin(Some(&second), &deployment(Action::Deploy, 25, false)).is_err());
        assert!(begin(Some(&second), &deployment(Action::Deploy, 31, false)).is_ok(), "what begins since is newer");
        let mut repair = deployment(Action::Repair, 9, false);
        repair.id = waits.id.clone();
        assert!(begin(Some(&second), &repair).is_ok());
    }

    #[test]
    fn a_rollback_goes_back_only_from_what_it_was_asked_for() {
        let (old, bad) = (deployment(Action::Deploy, 10, false), deployment(Action::Deploy, 11, false));
        let live = settle(begin(None, &old).unwrap(), &old, &outcome(Ending::Succeeded), &Shown::default());
        let live = settle(live, &bad, &outcome(Ending::Succeeded), &Shown::default());
        let back = rollback(20, &bad, &old);
        assert_eq!(goes_back(Some(&live), &back), Ok(()));
        assert_eq!(goes_back(Some(&live), &bad), Ok(()), "what is no rollback goes nowhere");
        let other = deployment(Action::Deploy, 12, false);
        let meanwhile = settle(live, &other, &outcome(Ending::Succeeded), &Shown::default());
        let moved = goes_back(Some(&meanwhile), &back).unwrap_err();
        let expected = format!("deployment {} is live on {} meanwhile", other.id, other.environment);
        assert!(moved.to_string().starts_with(&expected), "{moved}");
        assert!(moved.to_string().ends_with("look, and ask again"), "{moved}");
        assert!(goes_back(None, &back).unwrap_err().to_string().starts_with("nothing is live"));
    }

    #[test]
    fn a_rollback_brings_its_commit_back() {
        let mut old = deployment(Action::Deploy, 10, false);
        old.requester.as_mut().unwrap().sha = "900d".into();
        let bad = deployment(Action::Deploy, 11, false);
        let back = rollback(20, &bad, &old);
        let live = settle(begin(None, &old).unwrap(), &bad, &outcome(Ending::Succeeded), &Shown::default());
        assert_eq!(live.commit.as_deref(), Some("c0ffee"));
        let live = settle(live, &back, &outcome(Ending::Succeeded), &Shown::default());
        assert_eq!(live.commit.as_deref(), Some("900d"));
        // And so does one that goes back to a rollback.
        let forth = settle(live, &rollback(30, &back, &bad), &outcome(Ending::Succeeded), &Shown::default());
        assert_eq!(forth.commit.as_deref(), Some("c0ffee"));
        let again = settle(forth, &rollback(40, &bad, &back), &outcome(Ending::Succeeded), &Shown::default());
        assert_eq!(again.commit.as_deref(), Some("900d"));
    }

    #[test]
    fn a_deployment_is_done_while_what_it_launched_is_live() {
        let done = deployment(Action::Deploy, 10, false);
        let launch = done.launch.clone().unwrap();
        let live = settle(begin(None, &done).unwrap(), &done, &outcome(Ending::Succeeded), &Shown::default());
        assert!(live.is_as_launched(&done, &launch));
        let mut other = launch.clone();
        other.parameters.insert(crate::names::ParameterName::new("Size").unwrap(), "large".into());
        assert!(!live.is_as_launched(&done, &other), "it is asked for something else");
        let failed = Environment { state: EnvironmentState::Failed, ..live.clone() };
        assert!(!failed.is_as_launched(&done, &launch));
        let next = deployment(Action::Deploy, 11, false);
        let newer = settle(live, &next, &outcome(Ending::Succeeded), &Shown::default());
        assert!(!newer.is_as_launched(&done, &launch), "the same again, but not by that deployment");
    }

    #[test]
    fn a_repair_of_any_pipeline_takes_nothing_from_anybody() {
        let first = deployment(Action::Deploy, 10, false);
        let live = settle(begin(None, &first).unwrap(), &first, &outcome(Ending::Succeeded), &Shown::default());
        let newer = deployment(Action::Deploy, 12, false);
        let failed = settle(begin(Some(&live), &newer).unwrap(), &newer, &outcome(Ending::Failed), &Shown::default());
        let mut repair = deployment(Action::Repair, 9, false);
        repair.id = DeploymentId::from_execution(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(20), "repair");
        let begun = begin(Some(&failed), &repair).unwrap();
        assert_eq!(begun.last(), Some(&repair.id));
        assert_eq!(Environment { repair: None, ..begun.closed(&repair.id) }, failed);
        assert!(resume(Some(&begun), &repair).is_ok());
        for ending in [Ending::Repaired, Ending::Looked, Ending::Failed] {
            let settled = settle(begun.clone(), &repair, &outcome(ending), &Shown::default());
            assert_eq!(settled.closed(&repair.id), begun.closed(&repair.id), "{ending:?}");
        }
        // A rollback that began before still is the last that was asked for, and a question is still shown.
        let rollback = rollback(15, &newer, &first);
        let mut waits = begin(Some(&failed), &rollback).unwrap();
        let approval = Digest::of(b"question");
        let until = Timestamp::UNIX_EPOCH;
        waits.waiting = Some(Waiting { deployment: rollback.id.clone(), pipeline_id: 10, approval, until });
        let waits = begin(Some(&waits), &repair).unwrap();
        assert_eq!(waits.last(), Some(&rollback.id));
        assert!(resume(Some(&waits), &rollback).is_ok());
        // Who only looks is not shown, and what begins afterwards is.
        repair.repair = Some(Asked::Look);
        assert_eq!(begin(Some(&failed), &repair).unwrap().closed(&repair.id), failed);
        let next = deployment(Action::Deploy, 30, false);
        assert_eq!(begin(Some(&begun), &next).unwrap().last(), Some(&next.id));
    }

    #[test]
    fn an_environment_lives_expires_and_goes() {
        let deploy = deployment(Action::Deploy, 10, false);
        let new = begin(None, &deploy).unwrap();
        let shown = Shown { outputs: BTreeMap::from([("ApiUrl".into(), "https://x".into())]), seconds: Some(30) };
        let live = settle(new, &deploy, &outcome(Ending::Succeeded), &shown).closed(&deploy.id);
        assert_eq!((live.state, live.url.as_deref()), (EnvironmentState::Live, Some("https://x")));
        let expiry = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(7 * 24);
        let day = expiry - SignedDuration::from_hours(24);
        assert_eq!(live.due_at(), Some(day));
        assert_eq!(live.due(day), [Due::Warn { lead: Lead::Day, expires_at: expiry }]);
        let live = live.warned(Lead::Day).warned(Lead::Hour);
        assert_eq!(live.due_at(), Some(expiry));
        assert!(live.due(expiry - SignedDuration::from_secs(1)).is_empty());
        assert_eq!(live.due(expiry), [Due::Teardown { expired_at: expiry }]);
        let teardown = Deployment { requester: None, ..deployment(Action::Teardown, 10, false) };
        let begun = begin(Some(&live), &teardown).unwrap();
        assert_eq!(begun.due(expiry), [Due::Look(teardown.id.clone())], "one teardown at a time");
        let failed = settle(begun.clone(), &teardown, &outcome_at(1, Ending::Failed), &Shown::default());
        let again = settle(failed.clone(), &teardown, &outcome_at(1, Ending::Failed), &Shown::default());
        assert_eq!((failed.failed_teardowns, &again), (1, &failed), "its end counts once");
        let gone = settle(begun, &teardown, &outcome(Ending::TornDown), &Shown::default()).closed(&teardown.id);
        assert_eq!((gone.state, gone.due_at()), (EnvironmentState::TornDown, None));
    }

    #[test]
    fn a_failed_first_deployment_expires_too() {
        let deploy = deployment(Action::Deploy, 10, false);
        let failed = settle(begin(None, &deploy).unwrap(), &deploy, &outcome(Ending::Failed), &Shown::default());
        assert_eq!(failed.state, EnvironmentState::Failed);
        assert!(failed.due_at().is_some());
    }

    #[test]
    fn a_protected_environment_never_expires() {
        let deploy = deployment(Action::Deploy, 10, true);
        let live = settle(begin(None, &deploy).unwrap(), &deploy, &outcome(Ending::Succeeded), &Shown::default());
        let mut live = live.closed(&deploy.id);
        assert_eq!(live.expires_at, None);
        live.expires_at = Some(Timestamp::UNIX_EPOCH);
        assert!(live.due(Timestamp::MAX).is_empty());
    }
}
