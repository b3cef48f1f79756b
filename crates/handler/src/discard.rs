//! What nobody will use is taken away.

use jiff::Timestamp;
use slipway_aws::Kind;
use slipway_aws::store::Store;
use slipway_aws::target::Targets;
use slipway_domain::ErrorName;
use slipway_domain::deployment::{Deployment, DeploymentRecord};
use slipway_domain::lease::Taking;
use slipway_domain::session_policy::Purpose;

use crate::Failure;

/// Deletes the change set that a deployment which ended left behind, if it did. The empty stack that the change set made goes
/// only while nobody else is at work on the environment: then the deployment holds the lease afterwards, for the caller to give up.
///
/// # Errors
/// What can be done a little later, and what the table says. What cannot be done at all is only logged.
pub async fn discard(
    store: &Store,
    targets: &Targets,
    record: &DeploymentRecord,
    now: Timestamp,
) -> Result<(), Failure> {
    if !record.may_leave_change_set() {
        return Ok(());
    }
    let Deployment { environment, id, .. } = &record.deployment;
    let alone = matches!(store.take_lease(environment, id, None, now).await?, Taking::Ours(_));
    let discarded = match targets.stack(&record.deployment, Purpose::Discard).await {
        Ok(stack) if alone => stack.discard(&record.deployment).await,
        Ok(stack) => stack.delete_change_set(&id.change_set_name()).await,
        Err(error) => Err(error),
    };
    match discarded {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind, Kind::Throttled | Kind::Unavailable) => Err(error.into()),
        // CloudFormation still makes it, and deletes none meanwhile.
        Err(error) if error.code == "InvalidChangeSetStatus" && record.operation.is_none() => {
            Err(Failure::new(ErrorName::Unavailable, error.to_string()))
        }
        // It costs nothing and does nothing: the result is what matters.
        Err(error) => {
            tracing::warn!(deployment = %id, %error, "a change set is left behind");
            Ok(())
        }
    }
}
