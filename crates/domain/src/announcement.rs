//! What Slipway tells others of its own accord: events, each with a version that grows with whatever is not merely added.

use jiff::Timestamp;
use serde::Serialize;

use crate::ErrorName;
use crate::approval::Approval;
use crate::deployment::{Action, Deployment, DeploymentId, DeploymentRecord, Ending, Outcome};
use crate::environment::{Environment, EnvironmentState};
use crate::expiry::{Lead, Pin};
use crate::names::{Digest, EnvironmentKey, StackName};
use crate::review::visible;
use crate::sweep::Stopped;

/// The source of Slipway's events on its bus.
pub const SOURCE: &str = "slipway";

/// Something that Slipway tells: the detail of an event. Each has a `version`, of 1 today.
pub trait Announcement: Serialize {
    /// The detail-type of the event.
    const DETAIL_TYPE: &str;
}

/// That a deployment, a teardown or a repair began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeploymentStarted {
    version: u32,
    environment: EnvironmentKey,
    deployment: DeploymentId,
    action: Action,
    rollback: bool,
    account: String,
    stack_name: StackName,
    commit: Option<String>,
    requested_by: Option<String>,
    pipeline_id: Option<u64>,
    at: Timestamp,
}

impl Announcement for DeploymentStarted {
    const DETAIL_TYPE: &str = "Deployment Started";
}

impl DeploymentStarted {
    /// That `deployment` began.
    #[must_use]
    pub fn new(deployment: &Deployment) -> Self {
        let requester = deployment.requester.as_ref();
        Self {
            version: 1,
            environment: deployment.environment.clone(),
            deployment: deployment.id.clone(),
            action: deployment.action,
            rollback: deployment.back.is_some(),
            account: deployment.target.account.to_string(),
            stack_name: deployment.stack_name.clone(),
            commit: deployment.commit().map(str::to_owned),
            requested_by: requester.map(|requester| requester.user_login.clone()),
            pipeline_id: requester.map(|requester| requester.pipeline_id),
            at: deployment.started_at,
        }
    }
}

/// How a deployment ended, and how its environment stands then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeploymentEnded {
    version: u32,
    environment: EnvironmentKey,
    deployment: DeploymentId,
    action: Action,
    rollback: bool,
    ending: Ending,
    error: Option<ErrorName>,
    account: String,
    stack_name: StackName,
    commit: Option<String>,
    requested_by: Option<String>,
    pipeline_id: Option<u64>,
    started_at: Timestamp,
    ended_at: Timestamp,
    seconds: i64,
    state: EnvironmentState,
    release: Option<Digest>,
    url: Option<String>,
    expires_at: Option<Timestamp>,
}

impl Announcement for DeploymentEnded {
    const DETAIL_TYPE: &str = "Deployment Ended";
}

impl DeploymentEnded {
    /// That `deployment` ended so, and left `environment` behind.
    #[must_use]
    pub fn new(deployment: &Deployment, outcome: &Outcome, environment: &Environment) -> Self {
        let requester = deployment.requester.as_ref();
        Self {
            version: 1,
            environment: deployment.environment.clone(),
            deployment: deployment.id.clone(),
            action: deployment.action,
            rollback: deployment.back.is_some(),
            ending: outcome.ending,
            error: outcome.error,
            account: deployment.target.account.to_string(),
            stack_name: deployment.stack_name.clone(),
            commit: deployment.commit().map(str::to_owned),
            requested_by: requester.map(|requester| requester.user_login.clone()),
            pipeline_id: requester.map(|requester| requester.pipeline_id),
            started_at: deployment.started_at,
            ended_at: outcome.ended_at,
            seconds: outcome.ended_at.duration_since(deployment.started_at).as_secs(),
            state: environment.state,
            release: environment.release.clone(),
            url: environment.url.clone(),
            expires_at: environment.lives_until(),
        }
    }
}

/// What all that is told of an environment's time says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Life {
    version: u32,
    environment: EnvironmentKey,
    account: String,
    stack_name: StackName,
    url: Option<String>,
    commit: Option<String>,
    ref_name: Option<String>,
    deployed_by: Option<String>,
    expires_at: Option<Timestamp>,
    at: Timestamp,
}

impl Life {
    fn of(environment: &Environment, at: Timestamp) -> Self {
        Self {
            version: 1,
            environment: environment.key.clone(),
            account: environment.target.account.to_string(),
            stack_name: environment.stack_name.clone(),
            url: environment.url.clone(),
            commit: environment.commit.clone(),
            ref_name: environment.ref_name.clone(),
            deployed_by: environment.deployed_by.clone(),
            expires_at: environment.lives_until(),
            at,
        }
    }
}

/// That an environment expires soon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EnvironmentExpiring {
    #[serde(flatten)]
    life: Life,
    within: Lead,
}

impl Announcement for EnvironmentExpiring {
    const DETAIL_TYPE: &str = "Environment Expiring";
}

impl EnvironmentExpiring {
    /// That `environment` expires `within` so long.
    #[must_use]
    pub fn new(environment: &Environment, within: Lead, at: Timestamp) -> Self {
        Self { life: Life::of(environment, at), within }
    }
}

/// That somebody extended, pinned or unpinned an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EnvironmentKept {
    #[serde(flatten)]
    life: Life,
    by: String,
    pin: Option<Pin>,
}

impl Announcement for EnvironmentKept {
    const DETAIL_TYPE: &str = "Environment Kept";
}

impl EnvironmentKept {
    /// That the one called `by` changed how long `environment` lives.
    #[must_use]
    pub fn new(environment: &Environment, by: &str, at: Timestamp) -> Self {
        Self { life: Life::of(environment, at), by: by.to_owned(), pin: environment.pin.clone() }
    }
}

/// That the teardown of an environment fails again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TeardownStuck {
    #[serde(flatten)]
    life: Life,
    deployment: DeploymentId,
    failures: u32,
    error: Option<ErrorName>,
    next_try_at: Option<Timestamp>,
}

impl Announcement for TeardownStuck {
    const DETAIL_TYPE: &str = "Teardown Stuck";
}

impl TeardownStuck {
    /// That `deployment` was one more that failed to tear `environment` down.
    #[must_use]
    pub fn new(environment: &Environment, deployment: &Deployment, outcome: &Outcome) -> Self {
        Self {
            life: Life::of(environment, outcome.ended_at),
            deployment: deployment.id.clone(),
            failures: environment.failed_teardowns,
            error: outcome.error,
            next_try_at: environment.retry_at,
        }
    }
}

/// That the cleanup deletes nothing, because it would delete too much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SweepStopped {
    version: u32,
    #[serde(flatten)]
    stopped: Stopped,
}

impl Announcement for SweepStopped {
    const DETAIL_TYPE: &str = "Sweep Stopped";
}

impl SweepStopped {
    /// That it `stopped`.
    #[must_use]
    pub fn new(stopped: Stopped) -> Self {
        Self { version: 1, stopped }
    }
}

/// That a decision is wanted: the detail of the event `Approval Requested`. It holds the link, which shows the review to whoever
/// has it; to decide takes more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApprovalRequested {
    /// 1.
    pub version: u32,
    /// The environment.
    pub environment: EnvironmentKey,
    /// The deployment that waits.
    pub deployment: DeploymentId,
    /// The account that it waits to change.
    pub account: String,
    /// The project's path.
    pub project_path: String,
    /// The commit that is to be launched, where it is known.
    pub commit: Option<String>,
    /// The branch or tag of the pipeline.
    pub ref_name: String,
    /// The pipeline.
    pub pipeline_id: u64,
    /// Who asked for the deployment.
    pub requested_by: String,
    /// Whether it is a rollback.
    pub rollback: bool,
    /// The review in one line.
    pub summary: String,
    /// How many people have to approve.
    pub required: u32,
    /// Who may.
    pub approvers: String,
    /// Until when.
    pub expires_at: Timestamp,
    /// Where.
    pub url: String,
}

impl Announcement for ApprovalRequested {
    const DETAIL_TYPE: &str = "Approval Requested";
}

impl ApprovalRequested {
    /// That `asked` waits at `url`, with the review that `summary` sums up.
    #[must_use]
    pub fn new(record: &DeploymentRecord, asked: &Approval, summary: String, url: String) -> Self {
        let deployment = &record.deployment;
        Self {
            version: 1,
            environment: deployment.environment.clone(),
            deployment: deployment.id.clone(),
            account: deployment.target.account.to_string(),
            project_path: asked.requester.project_path.clone(),
            commit: deployment.commit().map(str::to_owned),
            ref_name: asked.requester.ref_name.clone(),
            pipeline_id: asked.requester.pipeline_id,
            requested_by: asked.requester.user_login.clone(),
            rollback: deployment.back.is_some(),
            summary,
            required: asked.policy.required,
            approvers: asked.policy.who(),
            expires_at: asked.expires_at,
            url,
        }
    }

    /// The line that a mail shows first: at most 100 characters of printable ASCII, which is all that SNS takes
    /// (<https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>).
    #[must_use]
    pub fn subject(&self) -> String {
        let EnvironmentKey { application, stage, .. } = &self.environment;
        let what = if self.rollback { "roll back" } else { "deploy" };
        let text = format!("{stage}: {what} {application}? (pipeline {}, {})", self.pipeline_id, self.requested_by);
        text.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).take(100).collect()
    }

    /// The mail: what somebody else wrote is in it as text, without characters that cannot be seen.
    #[must_use]
    pub fn text(&self) -> String {
        let EnvironmentKey { application, stage, environment, .. } = &self.environment;
        let what = if self.rollback { "rolled back" } else { "deployed" };
        let people = if self.required == 1 { "1 person".to_owned() } else { format!("{} people", self.required) };
        let commit = self.commit.as_deref().unwrap_or("a release");
        let lines = [
            format!("{application} is to be {what} in {stage} ({environment}, account {}).", self.account),
            String::new(),
            self.summary.clone(),
            String::new(),
            format!("Project:  {}", self.project_path),
            format!("Commit:   {commit} on {}", self.ref_name),
            format!("Pipeline: {}, asked for by {}", self.pipeline_id, self.requested_by),
            format!("Approval: {people} of {}", self.approvers),
            format!("Until:    {:.0}", self.expires_at),
            String::new(),
            "Look at it, and decide:".to_owned(),
            self.url.clone(),
        ];
        lines.map(|line| visible(&line).to_string() + "\n").concat()
    }
}
