//! The verified right of one job to do one action on one environment.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::approval::MAX_REASON_CHARS;
use crate::claims::JobClaims;
use crate::deployment::{Action, Back, DeploymentId, Ending, Launch, Outcome, Requester, execution_name};
use crate::expiry::{Keeping, MAX_PIN, Pin};
use crate::names::{Digest, EnvironmentKey, StageName};
use crate::protocol::{
    DeployRequest, Keep, KeepRequest, MAX_JOB_BYTES, MAX_VALUES_BYTES, On, RepairRequest, RollbackRequest,
    TeardownRequest, UnlockRequest,
};
use crate::repair::Asked;
use crate::stages::{Refusal, Stages, StagesError};
use crate::teardown::TeardownPolicy;

/// How long an admission may be used to start an execution.
pub const ADMISSION: SignedDuration = SignedDuration::from_hours(2);
/// How often one job's deployment may be tried anew after it failed.
pub const MAX_ATTEMPT: u32 = 100;

/// The recorded answer "yes".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// Its id: a digest over the token's `jti`, the action and the environment, so that the same request is the same
    /// admission. The token's id is a secret of the job, so nobody else can name its admission.
    pub id: Digest,
    /// What may be done.
    pub action: Action,
    /// On which environment.
    pub environment: EnvironmentKey,
    /// What may be launched; nothing in a teardown or a repair.
    pub launch: Option<Launch>,
    /// What a repair may do; nothing in anything else.
    #[serde(default)]
    pub repair: Option<Asked>,
    /// Whether a teardown may also delete the log groups of the stack's functions.
    #[serde(default)]
    pub purge_logs: bool,
    /// By whom; nobody when `sweep` asked.
    pub requester: Option<Requester>,
    /// The job's name: it tells two jobs of one pipeline apart. Not a verified claim, and no right hangs on it.
    pub job: String,
    /// Where a rollback goes back to; nothing in anything else.
    #[serde(default)]
    pub back: Option<Back>,
    /// When it was given.
    pub admitted_at: Timestamp,
    /// The deployment that it was last used for.
    #[serde(default)]
    pub used_for: Option<DeploymentId>,
}

/// Why a request is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// The stage's policy says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no such stage, or the stages are misconfigured.
    #[error(transparent)]
    Stages(#[from] StagesError),
    /// No job: all that have no name would run under the same one.
    #[error("the job has no name: `slipway` takes it from CI_JOB_NAME")]
    Nameless,
    /// A pin without a reason.
    #[error("a pin needs a reason, for whoever wants the environment gone")]
    NoReason,
    /// A field is over its limit.
    #[error("{what} has {found} bytes; the limit is {limit}")]
    TooLarge {
        /// Which.
        what: &'static str,
        /// Its size in bytes.
        found: usize,
        /// The most, in bytes.
        limit: usize,
    },
    /// The state machine is not the one that does what was admitted.
    #[error("the admission admits a {admitted}, not a {asked}: start the state machine that `api` named")]
    OtherAction {
        /// What may be done.
        admitted: &'static str,
        /// What the state machine does.
        asked: &'static str,
    },
    /// The execution is not one that this admission admits.
    #[error("the execution {0} is not one that its admission admits: start it with the name that belongs to it")]
    OtherExecution(String),
    /// It was used, and what it was used for goes on, or ended well.
    #[error("the admission was used already, for deployment {0}: retry the job")]
    Used(DeploymentId),
    /// Too late.
    #[error("the admission was given at {0} and may be used for two hours: retry the job")]
    Expired(Timestamp),
    /// The token already stands for another request.
    #[error(
        "this job's token was already used for another request on the same environment: retry the job for a new token"
    )]
    Reused,
}

/// Who a job is, for the record.
#[must_use]
pub fn requester(claims: &JobClaims) -> Requester {
    Requester {
        user_id: claims.user_id,
        user_login: claims.user_login.clone(),
        pipeline_id: claims.pipeline_id,
        job_id: claims.job_id,
        project_path: claims.project_path.clone(),
        ref_name: claims.ref_name.clone(),
        ref_type: Some(claims.ref_type),
        sha: claims.sha.clone(),
    }
}

fn key(names: &On, claims: &JobClaims) -> EnvironmentKey {
    EnvironmentKey {
        project: claims.project_id,
        application: names.application.clone(),
        stage: names.stage.clone(),
        environment: names.environment.clone(),
    }
}

fn named(job: &str) -> Result<(), AdmissionError> {
    if job.is_empty() {
        return Err(AdmissionError::Nameless);
    }
    limit("job", job.len(), MAX_JOB_BYTES)
}

fn limit(what: &'static str, found: usize, limit: usize) -> Result<(), AdmissionError> {
    if found > limit { Err(AdmissionError::TooLarge { what, found, limit }) } else { Ok(()) }
}

fn admission(
    claims: &JobClaims,
    action: Action,
    environment: EnvironmentKey,
    launch: Option<Launch>,
    job: &str,
    now: Timestamp,
) -> Admission {
    let id = Digest::of_parts(&[
        "admission",
        &claims.jti,
        action.as_str(),
        environment.application.as_str(),
        environment.stage.as_str(),
        environment.environment.as_str(),
    ]);
    Admission {
        id,
        action,
        environment,
        launch,
        repair: None,
        purge_logs: false,
        requester: Some(requester(claims)),
        job: job.to_owned(),
        back: None,
        admitted_at: now,
        used_for: None,
    }
}

/// Decides whether the job behind `claims` may deploy what it asks for.
///
/// # Errors
/// [`AdmissionError`], which names the claim, its value and the rule.
pub fn deploy(
    request: &DeployRequest,
    claims: &JobClaims,
    stages: &Stages,
    now: Timestamp,
) -> Result<Admission, AdmissionError> {
    let name = &request.on.stage;
    let stage = stages.get(name)?;
    stage.allows(name, claims)?;
    named(&request.job)?;
    let launch = &request.launch;
    let values: usize = launch.parameters.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>()
        + launch.tags.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    limit("parameters and tags", values, MAX_VALUES_BYTES)?;
    if let Some(capability) = launch.capabilities.iter().find(|asked| !stage.capabilities.contains(asked)) {
        return Err(Refusal::Capability { stage: name.clone(), capability: capability.as_str() }.into());
    }
    let mut launch = launch.clone();
    launch.expires_in = match launch.expires_in {
        _ if stage.protected => None,
        Some(asked) if asked > stage.expires_in => {
            return Err(Refusal::Expiry { stage: name.clone(), asked, allowed: stage.expires_in }.into());
        }
        Some(asked) => Some(asked),
        None => Some(stage.expires_in),
    };
    Ok(admission(claims, Action::Deploy, key(&request.on, claims), Some(launch), &request.job, now))
}

/// Decides whether the job behind `claims` may launch `previous` again on the environment of `request`, which is where it goes
/// `back` to: what it may deploy, it may roll back to.
///
/// # Errors
/// [`AdmissionError`], which names the claim, its value and the rule.
pub fn rollback(
    request: &RollbackRequest,
    previous: Launch,
    back: Back,
    claims: &JobClaims,
    stages: &Stages,
    now: Timestamp,
) -> Result<Admission, AdmissionError> {
    let RollbackRequest { on, job } = request.clone();
    let launch = Launch { expires_in: None, ..previous };
    let admission = deploy(&DeployRequest { on, job, bundle_bytes: 0, launch }, claims, stages, now)?;
    Ok(Admission { back: Some(back), ..admission })
}

/// Decides whether the job behind `claims` may take the lease of the environment of `request` away: whoever may deploy there
/// may. Who asked, for the record.
///
/// # Errors
/// [`AdmissionError`], which names the claim, its value and the rule.
pub fn unlock(request: &UnlockRequest, claims: &JobClaims, stages: &Stages) -> Result<Requester, AdmissionError> {
    let name = &request.on.stage;
    stages.get(name)?.allows(name, claims)?;
    let chars = request.reason.as_deref().map_or(0, |reason| reason.chars().count());
    limit("reason", chars, MAX_REASON_CHARS)?;
    Ok(requester(claims))
}

/// Decides whether the job behind `claims` may change how long the environment of `request` lives: whoever may deploy there may. Who
/// asked, and the rule that makes the environment's next row.
///
/// # Errors
/// [`AdmissionError`], which names the claim, its value and the rule.
pub fn keep(
    request: &KeepRequest,
    claims: &JobClaims,
    stages: &Stages,
    now: Timestamp,
) -> Result<(Requester, Keeping), AdmissionError> {
    let name = &request.on.stage;
    let stage = stages.get(name)?;
    stage.allows(name, claims)?;
    let keeping = match &request.keep {
        Keep::Extend { span } => {
            let (asked, allowed) = (span.unwrap_or(stage.expires_in), stage.expires_in);
            if asked > allowed {
                return Err(Refusal::Expiry { stage: name.clone(), asked, allowed }.into());
            }
            Keeping::Extend(asked)
        }
        Keep::Pin { span, reason } => {
            if *span > MAX_PIN {
                return Err(Refusal::Pin { asked: *span, allowed: MAX_PIN }.into());
            }
            if reason.trim().is_empty() {
                return Err(AdmissionError::NoReason);
            }
            limit("reason", reason.chars().count(), MAX_REASON_CHARS)?;
            let by = claims.user_login.clone();
            Keeping::Pin(Pin { until: now + span.duration(), reason: reason.clone(), by, at: now })
        }
        Keep::Unpin {} => Keeping::Unpin,
    };
    Ok((requester(claims), keeping))
}

/// Decides whether the job behind `claims` may tear the environment down.
///
/// # Errors
/// [`AdmissionError`], which names the claim, its value and the rule.
pub fn teardown(
    request: &TeardownRequest,
    claims: &JobClaims,
    stages: &Stages,
    now: Timestamp,
) -> Result<Admission, AdmissionError> {
    let name = &request.on.stage;
    let stage = stages.get(name)?;
    stage.allows(name, claims)?;
    if stage.protected {
        return Err(Refusal::Protected(name.clone()).into());
    }
    named(&request.job)?;
    let admission = admission(claims, Action::Teardown, key(&request.on, claims), None, &request.job, now);
    Ok(Admission { purge_logs: request.purge_logs, ..admission })
}

/// Decides whether the job behind `claims` may see what a teardown of an environment in the stage `name` would do: whoever may deploy there
/// may, also where the teardown itself would be refused. Whether the stage is protected, and how its environments are torn down.
///
/// # Errors
/// [`AdmissionError`], which names the claim, its value and the rule.
pub fn plan_teardown(
    name: &StageName,
    claims: &JobClaims,
    stages: &Stages,
) -> Result<(bool, TeardownPolicy), AdmissionError> {
    let stage = stages.get(name)?;
    stage.allows(name, claims)?;
    Ok((stage.protected, stage.teardown.clone().unwrap_or_default()))
}

/// Decides whether the job behind `claims` may repair the environment's stack: whoever may deploy there may, and nobody has to
/// approve it. It only goes back to what was live, and so was approved.
///
/// # Errors
/// [`AdmissionError`], which names the claim, its value and the rule.
pub fn repair(
    request: &RepairRequest,
    claims: &JobClaims,
    stages: &Stages,
    now: Timestamp,
) -> Result<Admission, AdmissionError> {
    let RepairRequest { on, job, asked } = request;
    stages.get(&on.stage)?.allows(&on.stage, claims)?;
    named(job)?;
    let job = asked.job(job);
    let admission = admission(claims, Action::Repair, key(on, claims), None, &job, now);
    // One job may look, and then go on: each is a request of its own.
    let id = Digest::of_parts(&[admission.id.as_str(), &job]);
    Ok(Admission { id, repair: Some(asked.clone()), ..admission })
}

impl Admission {
    /// The admission with which `sweep` tears down an environment that expired at `expired_at`: the same each time that it
    /// looks within an hour, so that a teardown that failed is tried again in the next one.
    #[must_use]
    pub fn of_sweep(environment: &EnvironmentKey, expired_at: Timestamp, failures: u32, now: Timestamp) -> Self {
        let job = format!("sweep-{}-{failures}-{}", expired_at.as_second(), now.as_second() / 3600);
        Self {
            id: Digest::of_parts(&["sweep", &environment.to_string(), &job]),
            action: Action::Teardown,
            environment: environment.clone(),
            launch: None,
            repair: None,
            purge_logs: false,
            requester: None,
            job,
            back: None,
            admitted_at: now,
            used_for: None,
        }
    }

    /// Uses this admission for deployment `id`: the row to write. It may be used again only after what it was used for failed, or only
    /// looked: whoever may describe an execution can read the admission's id, and must not be able to do the same thing once more.
    ///
    /// # Errors
    /// [`AdmissionError::Used`].
    pub fn use_for(&self, id: &DeploymentId, last: Option<&Outcome>) -> Result<Self, AdmissionError> {
        match &self.used_for {
            Some(used) if used != id && last.is_none_or(|outcome| !may_be_repeated(outcome.ending)) => {
                Err(AdmissionError::Used(used.clone()))
            }
            _ => Ok(Self { used_for: Some(id.clone()), ..self.clone() }),
        }
    }

    /// The name of the execution that this admission's try number `attempt` runs under.
    #[must_use]
    pub fn execution_name(&self, attempt: u32) -> String {
        let pipeline = self.requester.as_ref().map_or(0, |requester| requester.pipeline_id);
        execution_name(self.action, &self.environment, pipeline, &self.job, attempt)
    }

    /// Whether this admission admits the execution called `name` of the state machine called by `action`, as its try number
    /// `attempt`.
    ///
    /// # Errors
    /// [`AdmissionError::OtherAction`], [`AdmissionError::OtherExecution`] and [`AdmissionError::Expired`].
    pub fn admits(&self, action: Action, name: &str, attempt: u32, started: Timestamp) -> Result<(), AdmissionError> {
        if action != self.action.machine() {
            return Err(AdmissionError::OtherAction { admitted: self.action.as_str(), asked: action.as_str() });
        }
        if attempt == 0 || attempt > MAX_ATTEMPT || name != self.execution_name(attempt) {
            return Err(AdmissionError::OtherExecution(name.chars().take(80).collect()));
        }
        if started > self.admitted_at + ADMISSION {
            return Err(AdmissionError::Expired(self.admitted_at));
        }
        Ok(())
    }

    /// Whether `other` asks for the same thing: then it is this admission.
    #[must_use]
    pub fn is_same_request(&self, other: &Admission) -> bool {
        Admission { admitted_at: other.admitted_at, used_for: other.used_for.clone(), ..self.clone() } == *other
    }
}

/// Whether what ended so may be done again with the same admission: nothing came of it.
fn may_be_repeated(ending: Ending) -> bool {
    match ending {
        Ending::Failed | Ending::Looked => true,
        Ending::Succeeded | Ending::NoChanges | Ending::TornDown | Ending::Repaired => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use crate::names::{ApplicationName, EnvironmentName};
    use crate::stages::tests::{THREE, claims};
    use crate::stages::{Capability, Span};

    fn on(stage: &str) -> On {
        On {
            application: ApplicationName::new("news").unwrap(),
            stage: StageName::new(stage).unwrap(),
            environment: EnvironmentName::new("review/x").unwrap(),
        }
    }

    fn request(stage: &str) -> DeployRequest {
        DeployRequest {
            on: on(stage),
            job: "deploy-dev".into(),
            bundle_bytes: 10,
            launch: Launch {
                bundle: Digest::of(b"x"),
                parameters: Default::default(),
                tags: Default::default(),
                capabilities: vec![Capability::Iam],
                expires_in: None,
            },
        }
    }

    #[test]
    fn an_admission_admits_its_own_executions_for_two_hours() {
        let stages = Stages::parse(THREE).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let given = deploy(&request("dev"), &claims(), &stages, now).unwrap();
        assert_eq!(given.launch.as_ref().unwrap().expires_in, Some(Span::days(7)));
        let name = given.execution_name(1);
        assert_eq!(given.admits(Action::Deploy, &name, 1, now), Ok(()));
        assert!(given.admits(Action::Deploy, &name, 2, now).is_err());
        assert!(given.admits(Action::Deploy, "deploy-0", 1, now).is_err());
        assert!(matches!(given.admits(Action::Teardown, &name, 1, now), Err(AdmissionError::OtherAction { .. })));
        let late = now + SignedDuration::from_hours(3);
        assert!(matches!(given.admits(Action::Deploy, &name, 1, late), Err(AdmissionError::Expired(_))));
        let later = deploy(&request("dev"), &claims(), &stages, now + SignedDuration::from_mins(1)).unwrap();
        assert!(given.is_same_request(&later));
        let mut other = request("dev");
        other.launch.bundle = Digest::of(b"y");
        let other = deploy(&other, &claims(), &stages, now).unwrap();
        assert_eq!(other.id, given.id);
        assert!(!given.is_same_request(&other));
    }

    #[test]
    fn an_admission_is_used_again_only_after_a_failure() {
        let stages = Stages::parse(THREE).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let fresh = deploy(&request("dev"), &claims(), &stages, now).unwrap();
        let (one, two) = (DeploymentId::from_execution(now, "one"), DeploymentId::from_execution(now, "two"));
        let used = fresh.use_for(&one, None).unwrap();
        assert!(used.is_same_request(&fresh));
        assert_eq!(used.use_for(&one, None), Ok(used.clone()), "the step that is repeated uses it once");
        let outcome = |ending| Outcome { ending, error: None, message: None, ended_at: now };
        assert_eq!(used.use_for(&two, None), Err(AdmissionError::Used(one.clone())));
        assert_eq!(used.use_for(&two, Some(&outcome(Ending::Succeeded))), Err(AdmissionError::Used(one)));
        assert_eq!(used.use_for(&two, Some(&outcome(Ending::Failed))).unwrap().used_for, Some(two));
    }

    #[test]
    fn whoever_may_deploy_may_look_and_then_repair() {
        let stages = Stages::parse(THREE).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let ask = |stage: &str, claims: &JobClaims, asked: Asked| {
            repair(&RepairRequest { on: on(stage), job: "repair".into(), asked }, claims, &stages, now)
        };
        let (look, retry) = (ask("dev", &claims(), Asked::Look).unwrap(), ask("dev", &claims(), Asked::Retry).unwrap());
        assert_ne!((&look.id, look.execution_name(1)), (&retry.id, retry.execution_name(1)));
        assert_eq!(look.admits(Action::Deploy, &look.execution_name(1), 1, now), Ok(()), "on the deploy machine");
        assert!(look.admits(Action::Teardown, &look.execution_name(1), 1, now).is_err());
        // Looking may be repeated, and repairing only after it failed.
        let (one, two) = (DeploymentId::from_execution(now, "one"), DeploymentId::from_execution(now, "two"));
        let outcome = |ending| Outcome { ending, error: None, message: None, ended_at: now };
        assert!(look.use_for(&one, None).unwrap().use_for(&two, Some(&outcome(Ending::Looked))).is_ok());
        assert!(retry.use_for(&one, None).unwrap().use_for(&two, Some(&outcome(Ending::Repaired))).is_err());
        let unprotected = JobClaims { ref_protected: false, ..claims() };
        let as_a_deployment = deploy(&request("prod"), &unprotected, &stages, now).unwrap_err();
        assert_eq!(ask("prod", &unprotected, Asked::Look).unwrap_err(), as_a_deployment);
    }

    #[test]
    fn a_retried_job_runs_under_the_same_name() {
        let stages = Stages::parse(THREE).unwrap();
        let retried = JobClaims { jti: "b".into(), job_id: 1001, ..claims() };
        let first = deploy(&request("dev"), &claims(), &stages, Timestamp::UNIX_EPOCH).unwrap();
        let second = deploy(&request("dev"), &retried, &stages, Timestamp::UNIX_EPOCH).unwrap();
        assert_ne!(first.id, second.id);
        assert_eq!(first.execution_name(1), second.execution_name(1));
    }

    #[test]
    fn a_protected_stage_admits_no_teardown() {
        let stages = Stages::parse(THREE).unwrap();
        let ask = |stage| {
            teardown(
                &TeardownRequest { on: on(stage), job: "stop".into(), purge_logs: false },
                &claims(),
                &stages,
                Timestamp::UNIX_EPOCH,
            )
        };
        assert!(ask("dev").is_ok());
        assert!(matches!(ask("prod"), Err(AdmissionError::Refused(Refusal::Protected(_)))));
    }

    #[test]
    fn limits_and_the_stage_bound_what_is_asked() {
        let stages = Stages::parse(THREE).unwrap();
        let ask = |change: &dyn Fn(&mut DeployRequest)| {
            let mut request = request("dev");
            change(&mut request);
            deploy(&request, &claims(), &stages, Timestamp::UNIX_EPOCH).map_err(|error| error.to_string())
        };
        assert!(ask(&|r| r.launch.expires_in = Some(Span::days(8))).unwrap_err().contains("at most 7d"));
        assert!(ask(&|r| r.job = "j".repeat(MAX_JOB_BYTES + 1)).unwrap_err().contains("the limit is"));
        assert!(
            ask(&|r| {
                r.launch.tags.insert("k".into(), "v".repeat(MAX_VALUES_BYTES));
            })
            .unwrap_err()
            .contains("the limit is")
        );
    }
}
