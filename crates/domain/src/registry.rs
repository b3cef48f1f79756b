//! What there is: environments as they are listed, what was done to them, and what one waits for. The index that lists them is
//! told after the table, mostly within a second: what is listed may be a moment old.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ErrorName;
use crate::approval::{Approval, Standing};
use crate::deployment::{Action, DeploymentId, DeploymentRecord, Ending, Operation};
use crate::environment::{Environment, EnvironmentState, Open};
use crate::expiry::Pin;
use crate::lease::Holder;
use crate::names::{
    AccountId, ApplicationName, Digest, DnsLabel, EnvironmentKey, EnvironmentName, ProjectId, Region, StackName,
    StageName,
};
use crate::stages::{Refusal, Stage};

/// Over how many partitions each half of the index is spread, by project.
const SHARDS: u8 = 4;
/// How many environments a refusal names.
const NAMED: usize = 5;

/// A partition of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Whether of the half with what was torn down.
    gone: bool,
    shard: u8,
}

impl Partition {
    fn of(project: ProjectId, gone: bool) -> Self {
        let shard = u8::try_from(project.0 % u64::from(SHARDS)).unwrap_or(0);
        Self { gone, shard }
    }

    /// Its key.
    #[must_use]
    pub fn key(self) -> String {
        format!("{}#{}", if self.gone { "GONE" } else { "LISTED" }, self.shard)
    }
}

/// Where the index has an environment: the partition's key, and the key in it.
#[must_use]
pub fn listed(environment: &Environment) -> (String, String) {
    let partition = Partition::of(environment.key.project, !is_there(environment));
    (partition.key(), listed_as(&environment.key))
}

/// Under which key a partition of the index has an environment: no part of it holds a `#`.
#[must_use]
pub fn listed_as(key: &EnvironmentKey) -> String {
    let EnvironmentKey { project, application, stage, environment } = key;
    format!("{project}#{stage}#{application}#{environment}")
}

/// Whether an environment takes a place: what was torn down does not, until something is deployed there again.
#[must_use]
pub fn is_there(environment: &Environment) -> bool {
    let comes = |open: &Open| open.action == Action::Deploy && !open.settled;
    environment.state != EnvironmentState::TornDown || environment.open.iter().any(comes)
}

/// Where a listing goes on. As text it is for whoever got it to give back: what it says is checked, and is nobody else's to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PageToken {
    /// In which partition.
    pub partition: Partition,
    /// After which environment; from the first on when absent.
    pub after: Option<EnvironmentKey>,
}

/// A text that is no [`PageToken`], or one of another listing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no place where this listing goes on: give back what the last answer said, with the same filters")]
pub struct InvalidPage;

impl PageToken {
    /// After the environment with this key in `partition`.
    ///
    /// # Errors
    /// [`InvalidPage`], when it is no key of that partition.
    pub fn after(partition: Partition, listed_as: &str) -> Result<Self, InvalidPage> {
        let key = key_of(listed_as).ok_or(InvalidPage)?;
        let is_there = Partition::of(key.project, partition.gone) == partition;
        if is_there { Ok(Self { partition, after: Some(key) }) } else { Err(InvalidPage) }
    }
}

/// The environment that is listed so.
#[must_use]
pub fn key_of(listed_as: &str) -> Option<EnvironmentKey> {
    let mut parts = listed_as.splitn(4, '#');
    Some(EnvironmentKey {
        project: ProjectId(parts.next()?.parse().ok()?),
        stage: StageName::new(parts.next()?).ok()?,
        application: ApplicationName::new(parts.next()?).ok()?,
        environment: EnvironmentName::new(parts.next()?).ok()?,
    })
}

impl TryFrom<String> for PageToken {
    type Error = InvalidPage;
    fn try_from(text: String) -> Result<Self, InvalidPage> {
        let (partition, after) = text.split_once(':').ok_or(InvalidPage)?;
        let partition = partitions(None, true).find(|known| known.key() == partition).ok_or(InvalidPage)?;
        if after.is_empty() { Ok(Self { partition, after: None }) } else { Self::after(partition, after) }
    }
}

impl From<PageToken> for String {
    fn from(token: PageToken) -> String {
        format!("{}:{}", token.partition.key(), token.after.as_ref().map(listed_as).unwrap_or_default())
    }
}

/// The partitions of one half of the index, or of both, that hold a project's environments, or everybody's.
fn partitions(project: Option<ProjectId>, both: bool) -> impl Iterator<Item = Partition> {
    let halves = if both { &[false, true][..] } else { &[false][..] };
    halves.iter().flat_map(move |gone| {
        let own = project.map(|project| Partition::of(project, *gone));
        (0..SHARDS).map(|shard| Partition { gone: *gone, shard }).filter(move |one| own.is_none_or(|own| own == *one))
    })
}

/// Which environments are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of this project; of all when absent.
    pub project: Option<ProjectId>,
    /// Of this application.
    pub application: Option<ApplicationName>,
    /// In this stage.
    pub stage: Option<StageName>,
    /// That stand so.
    pub state: Option<EnvironmentState>,
    /// That expire by then, and are not kept longer.
    pub expiring_by: Option<Timestamp>,
    /// Also what was torn down.
    pub gone: bool,
}

impl Selection {
    /// The partitions to look into, one after the other.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> {
        let gone = self.state.map(|state| state == EnvironmentState::TornDown);
        let both = partitions(self.project, self.gone || gone == Some(true));
        // What is deployed again is in the other half, and still torn down until that ends.
        both.filter(move |partition| gone != Some(false) || !partition.gone)
    }

    /// What the keys in a partition begin with; nothing when all of them count.
    #[must_use]
    pub fn prefix(&self) -> Option<String> {
        let project = self.project?;
        Some(match (&self.stage, &self.application) {
            (Some(stage), Some(application)) => format!("{project}#{stage}#{application}#"),
            (Some(stage), None) => format!("{project}#{stage}#"),
            (None, _) => format!("{project}#"),
        })
    }

    /// Whether this environment, found under that prefix, is asked for.
    #[must_use]
    pub fn has(&self, environment: &Environment) -> bool {
        let key = &environment.key;
        self.project.is_none_or(|project| project == key.project)
            && self.application.as_ref().is_none_or(|application| *application == key.application)
            && self.stage.as_ref().is_none_or(|stage| *stage == key.stage)
            && self.state.is_none_or(|state| state == environment.state)
            && self.expiring_by.is_none_or(|by| environment.lives_until().is_some_and(|at| at <= by))
    }

    /// Checks where a listing is asked to go on.
    ///
    /// # Errors
    /// [`InvalidPage`], when this one never comes there.
    pub fn check(&self, page: &PageToken) -> Result<(), InvalidPage> {
        let is_ours = self.partitions().any(|partition| partition == page.partition);
        let prefix = self.prefix().unwrap_or_default();
        let begins = page.after.as_ref().is_none_or(|after| listed_as(after).starts_with(&prefix));
        if is_ours && begins { Ok(()) } else { Err(InvalidPage) }
    }
}

/// An environment, as a list shows it. Its outputs are in [`crate::protocol::Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Which.
    pub environment: EnvironmentKey,
    /// How it stands.
    pub state: EnvironmentState,
    /// Its stack.
    pub stack_name: StackName,
    /// A label for its host name.
    pub dns_label: DnsLabel,
    /// The account that it is in.
    pub account: AccountId,
    /// The region.
    pub region: Region,
    /// The release that is live.
    pub release: Option<Digest>,
    /// The commit that is live.
    pub commit: Option<String>,
    /// The branch or tag that it came from.
    pub ref_name: Option<String>,
    /// The login of who deployed it.
    pub deployed_by: Option<String>,
    /// When it became live.
    pub deployed_at: Option<Timestamp>,
    /// Where it answers.
    pub url: Option<String>,
    /// When it is torn down, unless it is deployed or kept anew; never when absent.
    pub expires_at: Option<Timestamp>,
    /// Who keeps it for longer than it would live, if anybody.
    pub pin: Option<Pin>,
}

impl Listed {
    /// The environment of that row.
    #[must_use]
    pub fn of(environment: &Environment, now: Timestamp) -> Self {
        Self {
            environment: environment.key.clone(),
            state: environment.state,
            stack_name: environment.stack_name.clone(),
            dns_label: environment.key.dns_label(),
            account: environment.target.account.clone(),
            region: environment.target.region.clone(),
            release: environment.release.clone(),
            commit: environment.commit.clone(),
            ref_name: environment.ref_name.clone(),
            deployed_by: environment.deployed_by.clone(),
            deployed_at: environment.deployed_at,
            url: environment.url.clone(),
            expires_at: environment.lives_until(),
            pin: environment.pinned(now).cloned(),
        }
    }
}

/// A deployment, as a history shows it. Nothing of it is a parameter's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Past {
    /// Which.
    pub id: DeploymentId,
    /// What it did.
    pub action: Action,
    /// Whether it launched again what was live before.
    pub rollback: bool,
    /// How it ended; absent while it goes on.
    pub result: Option<Ending>,
    /// Under which name it failed.
    pub error: Option<ErrorName>,
    /// The root cause.
    pub message: Option<String>,
    /// The release that it launched.
    pub release: Option<Digest>,
    /// The commit that it launched.
    pub commit: Option<String>,
    /// The branch or tag of the job that asked.
    pub ref_name: Option<String>,
    /// The login of who asked; nobody when the cleanup did.
    pub user_login: Option<String>,
    /// The pipeline of who asked.
    pub pipeline_id: Option<u64>,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How many seconds that took, with the time that it waited for others and for people.
    pub seconds: Option<u64>,
}

impl Past {
    /// The deployment of that row.
    #[must_use]
    pub fn of(record: &DeploymentRecord) -> Self {
        let (deployment, outcome) = (&record.deployment, record.outcome.as_ref());
        let requester = deployment.requester.as_ref();
        let ended_at = outcome.map(|outcome| outcome.ended_at);
        let seconds = ended_at.map(|ended| ended.duration_since(deployment.started_at).as_secs());
        Self {
            id: deployment.id.clone(),
            action: deployment.action,
            rollback: deployment.back.is_some(),
            result: outcome.map(|outcome| outcome.ending),
            error: outcome.and_then(|outcome| outcome.error),
            message: outcome.and_then(|outcome| outcome.message.clone()),
            release: deployment.launch.as_ref().map(|launch| launch.bundle.clone()),
            // What a teardown's or a repair's job ran on, they did not launch.
            commit: deployment.launch.as_ref().and_then(|_| deployment.commit()).map(str::to_owned),
            ref_name: requester.map(|requester| requester.ref_name.clone()),
            user_login: requester.map(|requester| requester.user_login.clone()),
            pipeline_id: requester.map(|requester| requester.pipeline_id),
            began_at: deployment.started_at,
            ended_at,
            seconds: seconds.and_then(|seconds| u64::try_from(seconds).ok()),
        }
    }
}

/// What a deployment waits for. `since` is since when, `until` until when at the most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum Waits {
    /// Another deployment, which holds the environment.
    Lease {
        /// Whose it is, and what that one does.
        holder: Holder,
        /// Since when.
        since: Timestamp,
        /// Until when.
        until: Timestamp,
    },
    /// The stack, which something outside Slipway changes.
    Stack {
        /// The stack's status when it was last looked at.
        status: Option<String>,
        /// Since when.
        since: Timestamp,
        /// Until when.
        until: Timestamp,
    },
    /// People's approval.
    People {
        /// How many of them have to approve.
        required: u32,
        /// Who may.
        who: String,
        /// Who did already: "approved by eve: 1 of 2".
        progress: Option<String>,
        /// Since when.
        since: Timestamp,
        /// Until when.
        until: Timestamp,
        /// Where they decide; shown to jobs of the project only.
        url: Option<String>,
    },
    /// CloudFormation, which changes the stack.
    CloudFormation {
        /// What it does.
        doing: String,
        /// Since when.
        since: Timestamp,
        /// When it is expected to be done, if it takes as long as the last time.
        expected: Option<Timestamp>,
        /// Until when.
        until: Timestamp,
    },
    /// Nobody: Slipway itself is at work.
    Slipway {
        /// What it does.
        doing: String,
        /// Since when the deployment goes on.
        since: Timestamp,
    },
}

/// What an environment waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Why {
    /// Which environment.
    pub environment: EnvironmentKey,
    /// How it stands.
    pub state: EnvironmentState,
    /// The deployment that goes on, or else the last one.
    pub deployment: Option<Past>,
    /// What that waits for; nothing when none goes on.
    pub waits: Option<Waits>,
    /// What to do next, when nothing goes on and something is left to do.
    pub next: Option<String>,
    /// When it is torn down, unless it is deployed or kept anew; never when absent.
    pub expires_at: Option<Timestamp>,
    /// Who keeps it for longer than it would live, if anybody.
    pub pin: Option<Pin>,
    /// How often its teardown failed since it was last deployed.
    pub failed_teardowns: u32,
    /// When that is tried again.
    pub retry_at: Option<Timestamp>,
}

/// What `environment` waits for at `now`: `record` is the deployment that goes on, or the last one; `holder` has the lease, if
/// another deployment does; `approval` is what `record` asked people.
#[must_use]
pub fn why(
    environment: &Environment,
    record: Option<&DeploymentRecord>,
    holder: Option<Holder>,
    approval: Option<&Approval>,
    now: Timestamp,
) -> Why {
    let waits = record
        .filter(|record| record.outcome.is_none())
        .map(|record| waits(environment, record, holder, approval, now));
    let next = match record.and_then(|record| record.outcome.as_ref()) {
        _ if waits.is_some() => None,
        Some(outcome) => outcome.error.map(|error| error.what_to_do().to_owned()),
        None => None,
    };
    Why {
        environment: environment.key.clone(),
        state: environment.state,
        deployment: record.map(Past::of),
        waits,
        next,
        expires_at: environment.lives_until(),
        pin: environment.pinned(now).cloned(),
        failed_teardowns: environment.failed_teardowns,
        retry_at: environment.retry_at,
    }
}

fn waits(
    environment: &Environment,
    record: &DeploymentRecord,
    holder: Option<Holder>,
    approval: Option<&Approval>,
    now: Timestamp,
) -> Waits {
    let deployment = &record.deployment;
    let timeout = deployment.timeout.duration();
    if let Some(noted) = &record.waits_for {
        // After a decision it waits anew.
        let decided = approval.and_then(|approval| approval.decisions.last()).map(|decision| decision.at);
        return Waits::Lease {
            holder: holder.unwrap_or_else(|| noted.clone()),
            since: decided.unwrap_or(deployment.started_at),
            until: deployment.started_at + deployment.longest(),
        };
    }
    if let Some(mark) = &record.operation {
        let last = environment.last_seconds.filter(|_| mark.what == Operation::Execute);
        return Waits::CloudFormation {
            doing: record.doing(),
            since: mark.began_at,
            expected: last.map(|seconds| mark.began_at + jiff::SignedDuration::from_secs(i64::from(seconds))),
            until: mark.began_at + timeout,
        };
    }
    if let Some(asked) = approval.filter(|approval| matches!(approval.standing(now), Standing::Open { .. })) {
        return Waits::People {
            required: asked.policy.required,
            who: asked.policy.who(),
            progress: asked.progress(),
            since: asked.asked_at,
            until: asked.expires_at,
            url: None,
        };
    }
    match record.busy_since.filter(|_| !record.change_set_asked) {
        Some(since) => Waits::Stack { status: record.stack_status.clone(), since, until: since + timeout },
        None => Waits::Slipway { doing: record.doing(), since: deployment.started_at },
    }
}

/// Whether there is room in the stage called `name` for `new`, an environment that is not there yet. `there` is what is listed of
/// the same application in this stage, and `unread` is how many more are.
///
/// # Errors
/// [`Refusal::Full`], which names those that are nearest to expiry.
pub fn room(
    name: &StageName,
    stage: &Stage,
    new: &EnvironmentKey,
    there: &[Environment],
    unread: usize,
    now: Timestamp,
) -> Result<(), Refusal> {
    let Some(most) = stage.max_environments else { return Ok(()) };
    let mut others: Vec<&Environment> = there.iter().filter(|environment| environment.key != *new).collect();
    let count = others.len() + unread;
    if count < most as usize {
        return Ok(());
    }
    others.sort_by_key(|environment| {
        let until = environment.lives_until().unwrap_or(Timestamp::MAX);
        (environment.pinned(now).is_some(), until, environment.key.environment.clone())
    });
    let named = others.iter().take(NAMED).map(|environment| {
        let EnvironmentKey { application, stage, environment: called, .. } = &environment.key;
        let expires = match environment.expires_at {
            Some(at) => format!("expires {}", at.strftime("%Y-%m-%d %H:%M UTC")),
            None => "never expires".to_owned(),
        };
        format!(
            "{called} ({expires}): slipway teardown --stage {stage} --application {application} --environment {called}"
        )
    });
    let way = if stage.protected {
        "its stage is protected, where nothing is torn down: ask the platform team for more".to_owned()
    } else {
        format!(
            "nearest to expiry, each with the command that frees its place: {}",
            named.collect::<Vec<_>>().join("; ")
        )
    };
    Err(Refusal::Full { stage: name.clone(), application: new.application.clone(), count, most, way })
}
