//! The first of the walls before a protected stack, and then the deletion.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use slipway_aws::store::Store;
use slipway_aws::target::Targets;
use slipway_domain::ErrorName;
use slipway_domain::change_set;
use slipway_domain::deployment::{Deployment, DeploymentRef, Operation, OperationMark};
use slipway_domain::session_policy::Purpose;
use slipway_domain::stack_status::{Entry, StackStatus};
use slipway_domain::stages::Refusal;
use slipway_handler::{Failure, Polled};

/// What the function works with.
pub(crate) struct Teardown {
    pub(crate) store: Store,
    pub(crate) targets: Targets,
}

/// What a state machine asks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    deployment: DeploymentRef,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// There is no stack.
    Absent,
    /// Something else is going on with it: ask again.
    Busy,
    /// CloudFormation deletes it.
    Deleting,
}

impl Teardown {
    pub(crate) async fn handle(&self, input: Input, now: Timestamp) -> Result<Polled<State>, Failure> {
        let record = slipway_handler::hold(&self.store, &input.deployment, now).await?;
        let deployment = &record.deployment;
        if deployment.target.protected {
            return Err(Refusal::Protected(deployment.environment.stage.clone()).into());
        }
        if deployment.requester.is_none() {
            self.check_still_expired(deployment, now).await?;
        }
        let stack = self.targets.stack(deployment, Purpose::Delete).await?;
        let described = stack.describe(None).await?;
        let Some(described) = described.filter(|stack| stack.status != StackStatus::DeleteComplete.as_str()) else {
            return Ok(Polled { state: State::Absent, wait: 0 });
        };
        let status = StackStatus::parse(&described.status)?;
        if status.entry(false) == Entry::Busy && status != StackStatus::DeleteInProgress {
            let since = record.busy_since.unwrap_or(now);
            if let Some(error) = change_set::busy_for_too_long(deployment, status, since, now) {
                return Err(error.into());
            }
            let wait = slipway_handler::wait_for_idle(&self.store, &record, now).await?;
            return Ok(Polled { state: State::Busy, wait });
        }
        let mark = OperationMark { what: Operation::Delete, stack_id: described.id.clone(), began_at: now };
        let noted = slipway_handler::note(&self.store, &record, |record| {
            record.operation = record.operation.clone().or_else(|| Some(mark.clone()));
        });
        slipway_handler::still_ours(&self.store, &input.deployment, &noted.await?, now).await?;
        stack.delete(&described.id, &deployment.id.request_token(Operation::Delete)).await?;
        Ok(Polled { state: State::Deleting, wait: 0 })
    }

    /// `sweep` read that the environment expired before this deployment had the lease: it may have been deployed since.
    async fn check_still_expired(&self, deployment: &Deployment, now: Timestamp) -> Result<(), Failure> {
        let environment = self.store.environment(&deployment.environment).await?;
        if environment.is_some_and(|known| known.is_expired(now)) {
            return Ok(());
        }
        let message = format!("{} was deployed again, and is not expired any more", deployment.environment);
        Err(Failure::new(ErrorName::Superseded, message))
    }
}
