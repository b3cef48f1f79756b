//! A deployment: one execution of a state machine on one environment, and what it was asked to do.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ErrorName;
use crate::claims::RefType;
use crate::lease::Holder;
use crate::names::{AccountId, Digest, EnvironmentKey, ParameterName, Region, StackName};
use crate::repair::{Asked, Found};
use crate::stages::{ApprovalPolicy, Capability, Span, StackRules};
use crate::teardown::{Progress, TeardownPolicy};

/// A deployment's id: a UUID of version 7, so that ids sort by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeploymentId(uuid::Uuid);

impl DeploymentId {
    /// The id of the deployment that an execution is. The same execution gives the same id wherever it is computed, so that
    /// a repeated step, and the event that tells of an execution's end, find the same deployment.
    #[must_use]
    pub fn from_execution(started: Timestamp, arn: &str) -> Self {
        let hash: [u8; 32] = Sha256::digest(arn.as_bytes()).into();
        let mut random = [0; 10];
        random.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        let millis = u64::try_from(started.as_millisecond()).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// Reads an id.
    ///
    /// # Errors
    /// When it is no UUID.
    pub fn parse(text: &str) -> Result<Self, uuid::Error> {
        uuid::Uuid::try_parse(text).map(Self)
    }

    /// The name of the deployment's change set: unique, and legal
    /// (`[a-zA-Z][-a-zA-Z0-9]*`, at most 128: <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateChangeSet.html>).
    #[must_use]
    pub fn change_set_name(&self) -> String {
        format!("slipway-{self}")
    }

    /// The `ClientRequestToken` of the operation `what`, the same each time that the step is repeated.
    #[must_use]
    pub fn request_token(&self, what: Operation) -> String {
        format!("slipway-{}-{self}", what.as_str())
    }
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// An operation on a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// The execution of a change set.
    Execute,
    /// The deletion of a stack.
    Delete,
    /// The rest of a rollback.
    Repair,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Operation::Execute => "execute",
            Operation::Delete => "delete",
            Operation::Repair => "repair",
        }
    }
}

/// What the steps of a state machine hand on to each other: which deployment, and with which right. Everything else is in
/// the deployment's row, so that no history holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeploymentRef {
    /// The environment.
    pub environment: EnvironmentKey,
    /// The deployment.
    pub id: DeploymentId,
    /// The fence of the lease that it took.
    pub fence: u64,
}

/// What a state machine was started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Launch a release.
    Deploy,
    /// Delete the environment.
    Teardown,
    /// Look at a stack whose update could not be rolled back, or go on with that rollback.
    Repair,
}

impl Action {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Deploy => "deploy",
            Action::Teardown => "teardown",
            Action::Repair => "repair",
        }
    }

    /// The action that the state machine is called by which does this one.
    #[must_use]
    pub fn machine(self) -> Action {
        match self {
            Action::Deploy | Action::Repair => Action::Deploy,
            Action::Teardown => Action::Teardown,
        }
    }
}

/// Who asked for it, by the verified claims of the job's ID token; nobody when `sweep` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requester {
    /// The user's numeric id.
    pub user_id: u64,
    /// The user's login when the job ran.
    pub user_login: String,
    /// The pipeline.
    pub pipeline_id: u64,
    /// The job.
    pub job_id: u64,
    /// The project's path when the job ran.
    pub project_path: String,
    /// The branch or tag.
    pub ref_name: String,
    /// Which of the two; not known of what began before this was noted.
    #[serde(default)]
    pub ref_type: Option<RefType>,
    /// The commit.
    pub sha: String,
}

/// Where a stage's environments live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The account.
    pub account: AccountId,
    /// The region.
    pub region: Region,
    /// Whether its stacks are never deleted.
    pub protected: bool,
}

/// What is to be launched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// The digest of the bundle, which is the address of the release.
    pub bundle: Digest,
    /// Parameters that the job overrides.
    #[serde(default)]
    pub parameters: BTreeMap<ParameterName, String>,
    /// Tags of the stack.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// What the template may do only when asked for by name.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// When the environment expires after this deployment; the stage's own span when absent, never in a protected stage.
    #[serde(default)]
    pub expires_in: Option<Span>,
}

/// Where a rollback goes back to, as the environment was when it was admitted: only from there it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Back {
    /// The deployment that made what is live, and is to go.
    pub from: DeploymentId,
    /// The one that made what was live before, and is to come back.
    pub to: DeploymentId,
    /// Its release.
    pub release: Digest,
    /// The commit that it launched.
    pub commit: Option<String>,
    /// The pipeline that deployed it.
    pub pipeline_id: Option<u64>,
}

impl Back {
    /// From `from` to what `to` launched.
    #[must_use]
    pub fn new(from: DeploymentId, to: &Deployment, launch: &Launch) -> Self {
        Self {
            from,
            to: to.id.clone(),
            release: launch.bundle.clone(),
            commit: to.commit().map(str::to_owned),
            pipeline_id: to.requester.as_ref().map(|requester| requester.pipeline_id),
        }
    }
}

/// What a deployment was asked to do and where, fixed when it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// What it does.
    pub action: Action,
    /// Where, by name.
    pub environment: EnvironmentKey,
    /// Where, in AWS.
    pub target: Target,
    /// The environment's stack.
    pub stack_name: StackName,
    /// What is launched; nothing in a teardown or a repair.
    pub launch: Option<Launch>,
    /// What a repair is asked to do; nothing in anything else.
    #[serde(default)]
    pub repair: Option<Asked>,
    /// Where a rollback goes back to: it comes first although its pipeline may be an old one. Nothing in anything else.
    #[serde(default)]
    pub back: Option<Back>,
    /// Who has to approve, as the stage said when the deployment began.
    pub approval: Option<ApprovalPolicy>,
    /// How long it may take, without the time that people decide in.
    pub timeout: Span,
    /// What CloudFormation is told about the stack, as the stage said when the deployment began.
    #[serde(default)]
    pub stack_rules: StackRules,
    /// How it is torn down, as the stage said when the deployment began.
    #[serde(default)]
    pub teardown: TeardownPolicy,
    /// Whether a teardown also deletes the log groups of the stack's functions.
    #[serde(default)]
    pub purge_logs: bool,
    /// Who asked for it.
    pub requester: Option<Requester>,
    /// The execution.
    pub execution_arn: String,
    /// The admission that it began with.
    pub admission: Digest,
    /// When it began.
    pub started_at: Timestamp,
}

impl Deployment {
    /// How it ended when its state machine came to the end `reached`. A machine knows whether something was done to the stack; that a
    /// stack is back at what was live makes nothing new live.
    #[must_use]
    pub fn ending(&self, reached: Ending) -> Ending {
        match (self.action, reached) {
            (Action::Repair, Ending::Succeeded) => Ending::Repaired,
            (Action::Repair, Ending::NoChanges) => Ending::Looked,
            (Action::Deploy | Action::Teardown | Action::Repair, reached) => reached,
        }
    }

    /// The commit that it launches: the one of the job that asked, or the one that a rollback goes back to.
    #[must_use]
    pub fn commit(&self) -> Option<&str> {
        match &self.back {
            Some(back) => back.commit.as_deref(),
            None => self.requester.as_ref().map(|requester| requester.sha.as_str()),
        }
    }

    /// How long it may take at the most, with the time that people may decide in.
    #[must_use]
    pub fn longest(&self) -> SignedDuration {
        let people = self.approval.as_ref().map_or(SignedDuration::ZERO, |approval| approval.expires_in.duration());
        self.timeout.duration() + people
    }
}

/// How a deployment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The stack is live as asked.
    Succeeded,
    /// It already was.
    NoChanges,
    /// The environment is gone as asked.
    TornDown,
    /// The stack is back at what it was before the update that failed.
    Repaired,
    /// A repair looked at the stack and did nothing: it was only asked to look, or there was nothing to repair.
    Looked,
    /// It is not as asked; [`Outcome::error`] says why.
    Failed,
}

impl Ending {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Succeeded => "succeeded",
            Ending::NoChanges => "no_changes",
            Ending::TornDown => "torn_down",
            Ending::Repaired => "repaired",
            Ending::Looked => "looked",
            Ending::Failed => "failed",
        }
    }
}

/// The recorded result of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How.
    pub ending: Ending,
    /// Under which name it failed.
    pub error: Option<ErrorName>,
    /// The root cause, for a person.
    pub message: Option<String>,
    /// When.
    pub ended_at: Timestamp,
}

/// A deployment's row: what it was asked to do, and how far it got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentRecord {
    /// What it was asked to do.
    pub deployment: Deployment,
    /// The SHA-256 of its release's template and manifest, once it is packaged.
    pub release: Option<ReleaseDigests>,
    /// Who holds the environment's lease, while it waits for that.
    #[serde(default)]
    pub waits_for: Option<Holder>,
    /// Since when it waits for the stack, which something else changes.
    #[serde(default)]
    pub busy_since: Option<Timestamp>,
    /// Whether CloudFormation was asked to make its change set, written before it is.
    #[serde(default)]
    pub change_set_asked: bool,
    /// Its change set, once it is made.
    pub change_set: Option<ChangeSetRef>,
    /// What an approval of it is bound to, once the change set is ready.
    pub binding: Option<Digest>,
    /// What its change set does, in one line, once that was reviewed.
    #[serde(default)]
    pub changes: Option<String>,
    /// The approval that it asked for.
    pub approval: Option<Digest>,
    /// What it does to the stack, written before it is done.
    pub operation: Option<OperationMark>,
    /// How many events of that operation were seen.
    pub events: usize,
    /// The stack's status when it was last looked at.
    pub stack_status: Option<String>,
    /// What a repair found.
    #[serde(default)]
    pub found: Option<Found>,
    /// How far a teardown is.
    #[serde(default)]
    pub teardown: Progress,
    /// What it did that nobody asked for, one sentence each.
    #[serde(default)]
    pub said: Vec<String>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Whether what it left behind was taken away.
    #[serde(default)]
    pub cleaned_up: bool,
    /// Whether its end was told to whoever listens.
    #[serde(default)]
    pub told: bool,
}

impl DeploymentRecord {
    /// The row of a deployment that just began.
    #[must_use]
    pub fn new(deployment: Deployment) -> Self {
        Self {
            deployment,
            release: None,
            waits_for: None,
            busy_since: None,
            change_set_asked: false,
            change_set: None,
            binding: None,
            changes: None,
            approval: None,
            operation: None,
            events: 0,
            stack_status: None,
            found: None,
            teardown: Progress::default(),
            said: Vec::new(),
            outcome: None,
            cleaned_up: false,
            told: false,
        }
    }

    /// Whether there may be a change set that nobody executed: one that was asked for and need not have been noted, or one
    /// whose execution was noted and need not have been heard of. What CloudFormation told events of was executed.
    #[must_use]
    pub fn may_leave_change_set(&self) -> bool {
        self.change_set_asked && self.events == 0
    }

    /// The `ClientRequestToken` of what `mark` says. A deletion that is asked for once more is another request.
    #[must_use]
    pub fn request_token(&self, mark: &OperationMark) -> String {
        let token = self.deployment.id.request_token(mark.what);
        match (mark.what, self.teardown.attempt) {
            (Operation::Execute | Operation::Repair, _) | (Operation::Delete, 0 | 1) => token,
            (Operation::Delete, attempt) => format!("{token}-{attempt}"),
        }
    }

    /// Says `sentence`, once.
    pub fn say(&mut self, sentence: &str) {
        if !self.said.iter().any(|said| said == sentence) {
            self.said.push(sentence.to_owned());
        }
    }

    /// What it does now, for a person: a verb and what belongs to it.
    #[must_use]
    pub fn doing(&self) -> String {
        let stack = self.stack_status.as_ref().map(|status| format!(" ({status})")).unwrap_or_default();
        match &self.operation {
            _ if self.outcome.is_some() => "ending".to_owned(),
            Some(OperationMark { what: Operation::Execute, .. }) => format!("executing its change set{stack}"),
            Some(OperationMark { what: Operation::Delete, .. }) => format!("deleting the stack{stack}"),
            Some(OperationMark { what: Operation::Repair, .. }) => format!("going on with the stack's rollback{stack}"),
            None if self.teardown.emptying_since.is_some() => "emptying what the stack holds".to_owned(),
            None if self.approval.is_some() => "awaiting or applying a decision".to_owned(),
            None if self.change_set.is_some() => "making its change set".to_owned(),
            None if self.release.is_some() => format!("preparing its change set{stack}"),
            None if self.deployment.action == Action::Deploy => "packaging".to_owned(),
            None => format!("beginning{stack}"),
        }
    }
}

/// The digests of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseDigests {
    /// The SHA-256 of the template.
    pub template: Digest,
    /// The SHA-256 of the manifest.
    pub manifest: Digest,
}

/// The mark that a step leaves before it changes a stack, so that the step, repeated, knows its own doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationMark {
    /// What is done.
    pub what: Operation,
    /// The stack that it is done to.
    pub stack_id: String,
    /// Since when.
    pub began_at: Timestamp,
}

/// A change set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeSetRef {
    /// Its ARN.
    pub arn: String,
    /// The stack that it is for.
    pub stack_id: String,
    /// Whether the stack does not exist yet: then discarding the change set leaves an empty shell to delete.
    pub creates_stack: bool,
    /// When it was made.
    pub made_at: Timestamp,
}

/// The name of an execution: the same for the same job's same try, whatever else changes, so that a retried job joins. At
/// most 80 characters of `[A-Za-z0-9-_]` (<https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html>).
#[must_use]
pub fn execution_name(
    action: Action,
    environment: &EnvironmentKey,
    pipeline_id: u64,
    job: &str,
    attempt: u32,
) -> String {
    let digest = Digest::of_parts(&[
        "execution",
        &environment.project.to_string(),
        &pipeline_id.to_string(),
        job,
        environment.application.as_str(),
        environment.stage.as_str(),
        environment.environment.as_str(),
        &attempt.to_string(),
    ]);
    let hash: String = digest.as_str().chars().take(40).collect();
    format!("{}-{hash}", action.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_is_one_deployment_wherever_it_is_computed() {
        let at = Timestamp::UNIX_EPOCH;
        let id = DeploymentId::from_execution(at, "arn:one");
        assert_eq!(id, DeploymentId::from_execution(at, "arn:one"));
        assert_ne!(id, DeploymentId::from_execution(at, "arn:two"));
        assert_eq!(DeploymentId::parse(&id.to_string()), Ok(id.clone()));
        assert!(id.change_set_name().len() <= 128);
        assert!(id.request_token(Operation::Execute).len() <= 128);
        assert_ne!(id.request_token(Operation::Repair), id.request_token(Operation::Execute));
    }
}
