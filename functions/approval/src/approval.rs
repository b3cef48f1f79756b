//! Stores the question, with the token by which Step Functions waits for the answer, and gives the lease up meanwhile.

use std::convert::Infallible;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use jiff::Timestamp;
use serde::Deserialize;
use slipway_aws::machines::Machines;
use slipway_aws::parameters::Parameters;
use slipway_aws::store::Store;
use slipway_domain::ErrorName;
use slipway_domain::approval::{Approval, link_id};
use slipway_domain::deployment::DeploymentRef;
use slipway_domain::environment::{Environment, Waiting};
use slipway_domain::names::Digest;
use slipway_handler::{Done, Failure};

/// What the function works with.
pub(crate) struct Ask {
    pub(crate) store: Store,
    pub(crate) parameters: Parameters,
    pub(crate) machines: Machines,
    pub(crate) link_key_parameter: String,
}

/// What a state machine asks. It has no `Debug`: the token is in nobody's log.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    deployment: DeploymentRef,
    task_token: String,
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
            binding,
            policy,
            requester: requester.clone(),
            asked_at: now,
            expires_at,
            decision: None,
            void: None,
        };
        let stored = self.store.update_approval(&id, |known| {
            Ok::<_, Infallible>(Some(match known {
                None => question.clone(),
                // The step is tried again, with a token of its own: the question is the same, and so is its answer.
                Some(known) => Approval { task_token: question.task_token.clone(), ..known.clone() },
            }))
        });
        let stored = stored.await?.unwrap_or(question);
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
        self.machines.answer(&stored).await?;
        Ok(Done {})
    }

    async fn link_key(&self) -> Result<[u8; 32], Failure> {
        let mut fresh = [0; 32];
        let random = SystemRandom::new().fill(&mut fresh);
        random.map_err(|_| Failure::new(ErrorName::Internal, "no random numbers can be had"))?;
        Ok(self.parameters.link_key_or_make(&self.link_key_parameter, fresh).await?)
    }
}
