//! What is proven of who asks: a job by its GitLab ID token, a person by a sign-in, an AWS principal by its signature.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::names::{AccountId, ProjectId};

/// The verified claims of one CI job. Nothing else may be believed about who asks. Only `crates/identity` makes one from a
/// token, so it cannot be read from anything else.
///
/// There is no job *name* among GitLab's claims, and none that says that a job was started by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobClaims {
    /// `project_id`: the project, for good (paths are renamed and reused).
    ///
    /// In a merge request's pipeline for a fork this is the *fork*: see [`JobClaims::is_for_a_fork`].
    pub project_id: ProjectId,
    /// `project_path`, like `group/news`.
    pub project_path: String,
    /// `namespace_path`, like `group`.
    pub namespace_path: String,
    /// `job_project_id`: the project the job runs in. GitLab has it since 18.4.
    pub job_project_id: Option<ProjectId>,
    /// `user_id`: who started the job.
    pub user_id: u64,
    /// `user_login`: may be given up and taken by another; a stage can name its approvers by number instead.
    pub user_login: String,
    /// `user_email`.
    pub user_email: Option<String>,
    /// `user_access_level`: the user's role in `project_id`, like `maintainer`. Since 16.9.
    pub user_access_level: Option<String>,
    /// `groups_direct`: the groups, by full path, of which the user is a direct member. GitLab leaves it out above 200
    /// groups, before 16.11, and where the flag `ci_jwt_groups_direct` is off: an empty list then.
    pub groups_direct: Vec<String>,
    /// `pipeline_id`.
    pub pipeline_id: u64,
    /// `pipeline_source`, like `push` or `merge_request_event`.
    pub pipeline_source: String,
    /// `job_id`: another one each time that a job is retried.
    pub job_id: u64,
    /// `ref`: the branch or tag; the *source* branch in a merge request's pipeline.
    pub ref_name: String,
    /// `ref_type`.
    pub ref_type: RefType,
    /// `ref_protected`.
    pub ref_protected: bool,
    /// `environment`: the name, where the job has one.
    pub environment: Option<String>,
    /// `environment_protected`.
    pub environment_protected: Option<bool>,
    /// `environment_action`: start, stop, prepare, verify or access. Since 16.5.
    pub environment_action: Option<String>,
    /// `deployment_tier`, like `production`.
    pub deployment_tier: Option<String>,
    /// `sha`: the commit. Since 16.0.
    pub sha: String,
    /// `jti`: this token, and no other.
    pub jti: String,
    /// `iat`: since when there is this token, which GitLab makes when the job begins.
    pub issued_at: Timestamp,
    /// `exp`: until when the token is valid (the job's timeout).
    pub expires_at: Timestamp,
}

/// Whether a job runs for a branch or a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefType {
    /// `branch`.
    Branch,
    /// `tag`.
    Tag,
}

/// Who signed in with GitLab in a browser. Only `crates/identity` makes one from what GitLab says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The user's number, for good: `sub` of the ID token and of the user information alike.
    pub user_id: u64,
    /// The user's name, `nickname` of the user information: it may be changed, so for people to read only.
    pub user_login: String,
    /// `groups` of the user information: the groups, by full path, of which the user is a member, directly or through an
    /// ancestor group. That is more than [`JobClaims::groups_direct`].
    pub groups: Vec<String>,
}

/// Whose AWS credentials signed a request, as STS says. Only `crates/identity` makes one from STS's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The ARN of the user, or of the *session* of a role: `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`. There the role's
    /// path is left out, and who assumed the role may have chosen the session's name.
    pub arn: String,
    /// The account that the ARN names.
    pub account: AccountId,
    /// The unique id, for good: `AIDA…` of a user, `AROA…:SESSION` of a role's session. A user or role that is deleted and made
    /// again under the same name has another one.
    pub user_id: String,
}

impl JobClaims {
    /// Whether the job runs in one project for the code of another: a merge request's pipeline for a fork. `project_*`,
    /// `ref` and `user_access_level` then speak of the fork, whose owner chose them. Unknown before GitLab 18.4, where
    /// `pipeline_source` tells merge requests apart.
    #[must_use]
    pub fn is_for_a_fork(&self) -> bool {
        self.job_project_id.is_some_and(|id| id != self.project_id)
    }
}
