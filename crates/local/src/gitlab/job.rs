//! A CI job, and what GitLab says of it.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{GitLabError, random_uuid};

/// One CI job, as its token describes it. [`Job::new`] fills in a push to a branch; change what matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The project's number.
    pub project_id: u64,
    /// Its full path; all but the last part is the namespace.
    pub project_path: String,
    /// The project whose pipeline this is: another one for a fork's merge request.
    pub job_project_id: u64,
    /// Who started the job.
    pub user_id: u64,
    /// That user's name.
    pub user_login: String,
    /// That user's role in the project.
    pub user_access_level: String,
    /// The groups with that user as a direct member.
    pub groups_direct: Vec<String>,
    /// The pipeline's number: larger is newer.
    pub pipeline_id: u64,
    /// What started it.
    pub pipeline_source: String,
    /// The job's number: another one for each retry.
    pub job_id: u64,
    /// The branch or tag.
    pub ref_name: String,
    /// `branch` or `tag`.
    pub ref_type: String,
    /// Whether that branch or tag is protected.
    pub ref_protected: bool,
    /// The job's `environment: name`.
    pub environment: Option<String>,
    /// Its `action`, of a job with an environment.
    pub environment_action: String,
    /// The commit.
    pub sha: String,
    /// The `aud` that the job's `id_tokens:` asks for.
    pub audience: String,
    /// How many seconds the token is valid; GitLab takes the job's timeout.
    pub lifetime: i64,
    /// The token's id; without one, each token gets its own.
    pub jti: Option<String>,
}

impl Job {
    /// A push to `ref_name` of a project, by a maintainer, in pipeline 1001. `main` is protected, no other branch is.
    #[must_use]
    pub fn new(project_path: &str, ref_name: &str, user_id: u64, user_login: &str, audience: &str) -> Self {
        Self {
            project_id: 101,
            project_path: project_path.to_owned(),
            job_project_id: 101,
            user_id,
            user_login: user_login.to_owned(),
            user_access_level: "maintainer".to_owned(),
            groups_direct: Vec::new(),
            pipeline_id: 1001,
            pipeline_source: "push".to_owned(),
            job_id: 10_001,
            ref_name: ref_name.to_owned(),
            ref_type: "branch".to_owned(),
            ref_protected: ref_name == "main",
            environment: None,
            environment_action: "start".to_owned(),
            sha: super::TIP.to_owned(),
            audience: audience.to_owned(),
            lifetime: 3600,
            jti: None,
        }
    }

    /// The claims of this job's token, as GitLab 18.9 has them.
    pub(super) fn claims(&self, issuer: &str, issued_at: Timestamp) -> Result<Value, GitLabError> {
        let namespace = self.project_path.rsplit_once('/').map_or("", |(namespace, _)| namespace);
        let now = issued_at.as_second();
        let expires_at =
            now.checked_add(self.lifetime).ok_or(GitLabError::Lifetime { lifetime: self.lifetime, issued_at })?;
        let jti = match &self.jti {
            Some(jti) => jti.clone(),
            None => random_uuid()?,
        };
        let heads_or_tags = if self.ref_type == "tag" { "tags" } else { "heads" };
        let mut claims = json!({
            "iss": issuer,
            "sub": format!("project_path:{}:ref_type:{}:ref:{}", self.project_path, self.ref_type, self.ref_name),
            "aud": self.audience,
            "iat": now,
            "nbf": now.saturating_sub(5),
            "exp": expires_at,
            "jti": jti,
            "namespace_id": "11",
            "namespace_path": namespace,
            "project_id": self.project_id.to_string(),
            "project_path": self.project_path,
            "job_project_id": self.job_project_id.to_string(),
            "job_namespace_id": "11",
            "user_id": self.user_id.to_string(),
            "user_login": self.user_login,
            "user_email": format!("{}@example.com", self.user_login),
            "user_access_level": self.user_access_level,
            "groups_direct": self.groups_direct,
            "pipeline_id": self.pipeline_id.to_string(),
            "pipeline_source": self.pipeline_source,
            "job_id": self.job_id.to_string(),
            "job_source": self.pipeline_source,
            "ref": self.ref_name,
            "ref_type": self.ref_type,
            "ref_path": format!("refs/{heads_or_tags}/{}", self.ref_name),
            "ref_protected": self.ref_protected.to_string(),
            "runner_id": 1,
            "runner_environment": "self-hosted",
            "sha": self.sha,
            "project_visibility": "private",
            "ci_config_ref_uri": null,
            "ci_config_sha": null,
        });
        if let (Some(environment), Some(all)) = (&self.environment, claims.as_object_mut()) {
            all.insert("environment".to_owned(), json!(environment));
            // Always: protected environments are a paid feature, so nothing here may need one.
            all.insert("environment_protected".to_owned(), json!("false"));
            all.insert("environment_action".to_owned(), json!(self.environment_action));
            all.insert("deployment_tier".to_owned(), json!("other"));
        }
        Ok(claims)
    }
}
