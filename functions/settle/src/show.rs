//! Shows in GitLab that a deployment waits for people, and how it ended, where there is a token for it. Nothing depends on it.

use std::time::Duration;

use slipway_aws::secrets::Secrets;
use slipway_domain::claims::RefType;
use slipway_domain::deployment::{DeploymentRecord, Outcome};
use slipway_domain::environment::Environment;
use slipway_domain::gitlab_note::Shown;
use slipway_identity::{Issuer, Results};
use tokio::time::timeout;

/// How long all of it may take: so much longer is the last step of a deployment where GitLab is slow. Nobody waits for the rest.
const WITHIN: Duration = Duration::from_secs(10);

/// What it works with.
pub(crate) struct ShowInGitLab {
    pub(crate) secrets: Secrets,
    pub(crate) issuer: Issuer,
    /// The name of the secret with the token.
    pub(crate) token: String,
}

impl ShowInGitLab {
    /// Shows that `record` ended so, and left `environment` behind. What does not work is in the log.
    pub(crate) async fn run(&self, record: &DeploymentRecord, outcome: &Outcome, environment: &Environment) {
        let Some(shown) = Shown::new(record, outcome, environment, self.issuer.as_str()) else { return };
        self.show_in_time(record, &shown).await;
    }

    /// Shows that `record` waits for people in `environment`: whether there was anything to show.
    pub(crate) async fn waits(&self, record: &DeploymentRecord, environment: &Environment) -> bool {
        let Some(shown) = Shown::waiting(record, environment, self.issuer.as_str()) else { return false };
        self.show_in_time(record, &shown).await;
        true
    }

    async fn show_in_time(&self, record: &DeploymentRecord, shown: &Shown<'_>) {
        if timeout(WITHIN, self.show(record, shown)).await.is_err() {
            let deployment = &record.deployment.id;
            tracing::warn!(%deployment, "GitLab was not shown all of it: there was no answer in {WITHIN:?}");
        }
    }

    async fn show(&self, record: &DeploymentRecord, shown: &Shown<'_>) {
        let deployment = &record.deployment.id;
        let token = match self.secrets.text(&self.token).await {
            Ok(token) => token,
            Err(error) => return tracing::warn!(%deployment, %error, "there is no token to tell GitLab with"),
        };
        let results = match Results::new(self.issuer.clone(), &token) {
            Ok(results) => results,
            Err(error) => return tracing::warn!(%deployment, %error),
        };
        let (project, requester) = (record.deployment.environment.project, record.deployment.requester.as_ref());
        let Some(requester) = requester else { return };
        let note = async {
            // A tag has no merge request; of what began before it was noted, GitLab may know a branch.
            match shown.note().filter(|_| requester.ref_type != Some(RefType::Tag)) {
                Some(note) => results.keep_note(project, &requester.ref_name, &note).await,
                None => Ok(()),
            }
        };
        let status = shown.status();
        let (status, note) = tokio::join!(results.set_status(project, &requester.sha, &status), note);
        for error in [status, note].into_iter().filter_map(Result::err) {
            tracing::warn!(%deployment, %error);
        }
    }
}
