//! What Slipway tells others of its own accord: events, each with a version that grows with whatever is not merely added.

use jiff::Timestamp;
use serde::Serialize;

use crate::approval::Approval;
use crate::deployment::{DeploymentId, DeploymentRecord};
use crate::names::EnvironmentKey;
use crate::review::visible;

/// The source of Slipway's events on its bus.
pub const SOURCE: &str = "slipway";

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

impl ApprovalRequested {
    /// The detail-type of the event.
    pub const DETAIL_TYPE: &str = "Approval Requested";

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
