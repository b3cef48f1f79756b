//! Stores the question, with the token by which Step Functions waits for the answer, and gives the lease up meanwhile.

use std::convert::Infallible;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use jiff::Timestamp;
use serde::Deserialize;
use slipway_aws::announcements::Announcements;
use slipway_aws::bucket::Bucket;
use slipway_aws::machines::Machines;
use slipway_aws::parameters::Parameters;
use slipway_aws::store::Store;
use slipway_domain::ErrorName;
use slipway_domain::announcement::ApprovalRequested;
use slipway_domain::approval::{Approval, link_id};
use slipway_domain::deployment::{Deployment, DeploymentRecord, DeploymentRef};
use slipway_domain::environment::{Environment, Waiting};
use slipway_domain::names::Digest;
use slipway_domain::release::review_key;
use slipway_domain::review::{MAX_REVIEW_BYTES, Review};
use slipway_handler::{Done, Failure};

/// How long telling people may take: the question stands whether it succeeds or not.
const ANNOUNCING: Duration = Duration::from_secs(15);

/// What the function works with.
pub(crate) struct Ask {
    pub(crate) store: Store,
    pub(crate) parameters: Parameters,
    pub(crate) machines: Machines,
    pub(crate) bucket: Bucket,
    pub(crate) announcements: Announcements,
    pub(crate) web_url: String,
    pub(crate) link_key_parameter: String,
}

/// What a state machine asks. It has no `Debug`: the token is in nobody's log.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    deployment: DeploymentRef,
    task_token: String,
    /// How often the step was tried before. Each try has a token of its own, and one that comes late must not put its own in the place of
    /// a later one's.
    tried: u32,
}

impl Ask {
    pub(crate) async fn handle(&self, input: Input, now: Timestamp) -> Result<Done, Failure> {
        let internal = |what: &str| Failure::new(ErrorName::Internal, what);
        let record = slipway_handler::record(&self.store, &input.deployment).await?;
        let deployment = &record.deployment;
        let policy = deployment.approval.clone().ok_or_else(|| internal("the stage asks for no approval"))?;
        let requester = deployment.requester.clone().ok_or_else(|| internal("nobody asked for this deployment"))?;
        let binding = record.binding.clone().ok_or_else(|| internal("the change set is not ready"))?;
        let link = link_id(&self.link_key().await?, &deployment.id);
        let id = Digest::of(link.as_bytes());
        let expires_at = now + policy.expires_in.duration();
        let question = Approval {
            id: id.clone(),
            deployment: input.deployment.clone(),
            task_token: input.task_token,
            tried: input.tried,
            binding,
            policy,
            requester: requester.clone(),
            asked_at: now,
            expires_at,
            decisions: Vec::new(),
            void: None,
            announced: false,
            delivered: false,
        };
        let stored = self.store.update_approval(&id, |known| {
            Ok::<_, Infallible>(match known {
                None => Some(question.clone()),
                // The step is tried again, with a token of its own: the question is the same, and so is its answer.
                Some(known) => known.tried_again(&question.task_token, question.tried),
            })
        });
        let stored = stored.await?.unwrap_or(question);
        if stored.tried != input.tried {
            return Ok(Done {});
        }
        let key = &deployment.environment;
        let waiting = Waiting {
            deployment: deployment.id.clone(),
            pipeline_id: requester.pipeline_id,
            approval: id.clone(),
            until: stored.expires_at,
        };
        slipway_handler::note(&self.store, &record, |record| record.approval = Some(id.clone())).await?;
        // A newer pipeline may have come while this one made its change set: then nobody is asked.
        let environment = self.store.update_environment(key, |current| {
            let next = slipway_domain::environment::resume(current, deployment)?;
            Ok::<_, slipway_domain::environment::Superseded>(Environment { waiting: Some(waiting.clone()), ..next })
        });
        environment.await?;
        self.store.give_up_lease(key, &deployment.id, now).await?;
        // An answer that was given to an earlier try of this step belongs to this one's token, too.
        slipway_handler::deliver(&self.store, &self.machines, &stored).await?;
        if !stored.announced && stored.is_open(now).is_ok() {
            let told = tokio::time::timeout(ANNOUNCING, self.announce(&record, &stored, &link)).await;
            let failed = match told {
                Ok(Ok(())) => None,
                Ok(Err(failure)) => Some(failure.to_string()),
                Err(_) => Some("it took too long".to_owned()),
            };
            if let Some(message) = failed {
                tracing::error!(message, "nobody could be told that a decision is wanted");
            }
        }
        Ok(Done {})
    }

    /// Tells whoever listens that a decision is wanted. That nobody could be told fails nothing: the link is in the job's log and in
    /// `slipway status`, too.
    async fn announce(&self, record: &DeploymentRecord, asked: &Approval, link: &str) -> Result<(), Failure> {
        let Deployment { environment, id, .. } = &record.deployment;
        let review: Option<Review> =
            self.bucket.get_json(&review_key(environment, id), MAX_REVIEW_BYTES as u64).await?;
        let summary = review.map(|review| review.summary()).unwrap_or_default();
        let url = format!("{}a/{link}", self.web_url);
        let asked_for = ApprovalRequested::new(record, asked, summary, url);
        self.announcements.approval_requested(&asked_for).await?;
        let noted = self.store.update_approval(&asked.id, |current| {
            Ok::<_, Infallible>(current.map(|current| Approval { announced: true, ..current.clone() }))
        });
        noted.await?;
        Ok(())
    }

    async fn link_key(&self) -> Result<[u8; 32], Failure> {
        let mut fresh = [0; 32];
        let random = SystemRandom::new().fill(&mut fresh);
        random.map_err(|_| Failure::new(ErrorName::Internal, "no random numbers can be had"))?;
        Ok(self.parameters.key_or_make(&self.link_key_parameter, fresh).await?)
    }
}
