//! What several steps look up before they do anything, and how they note what they did.

use jiff::Timestamp;
use slipway_aws::parameters::Parameters;
use slipway_aws::store::Store;
use slipway_domain::ErrorName;
use slipway_domain::audit::Entry;
use slipway_domain::change_set;
use slipway_domain::deployment::{Deployment, DeploymentRecord, DeploymentRef};
use slipway_domain::stages::Stages;

use crate::Failure;

/// The row of the deployment that a state machine speaks of.
///
/// # Errors
/// [`ErrorName::NotFound`] when there is none.
pub async fn record(store: &Store, reference: &DeploymentRef) -> Result<DeploymentRecord, Failure> {
    let DeploymentRef { environment, id, .. } = reference;
    let record = store.deployment(environment, id).await?;
    record.ok_or_else(|| Failure::new(ErrorName::NotFound, format!("there is no deployment {id} of {environment}")))
}

/// The row, once the deployment's lease was checked and renewed: what every step that changes something starts with.
///
/// # Errors
/// [`ErrorName::LeaseHeld`] when the lease was lost.
pub async fn hold(store: &Store, reference: &DeploymentRef, now: Timestamp) -> Result<DeploymentRecord, Failure> {
    store.hold_lease(reference, now).await?;
    record(store, reference).await
}

/// Makes sure once more, right before a stack is changed, that this deployment is still the one that may: the looks before it
/// took their time, the execution may have been stopped, and the lease may be another's. `noted` is the row as it is now.
///
/// # Errors
/// [`ErrorName::Stopped`] when the deployment's end is recorded, [`ErrorName::LeaseHeld`] when the lease was lost.
pub async fn still_ours(
    store: &Store,
    reference: &DeploymentRef,
    noted: &DeploymentRecord,
    now: Timestamp,
) -> Result<(), Failure> {
    not_ended(noted)?;
    store.hold_lease(reference, now).await?;
    Ok(())
}

/// Makes sure that the deployment's execution was not stopped while the step is at work: its end would be recorded.
///
/// # Errors
/// [`ErrorName::Stopped`].
pub fn not_ended(noted: &DeploymentRecord) -> Result<(), Failure> {
    match &noted.outcome {
        None => Ok(()),
        Some(_) => Err(Failure::new(ErrorName::Stopped, "the deployment ended while this step was at work")),
    }
}

/// Something else is at work on the deployment's stack: notes since when, and says how many seconds to wait before the next look.
///
/// # Errors
/// When the table cannot be written.
pub async fn wait_for_idle(store: &Store, record: &DeploymentRecord, now: Timestamp) -> Result<u32, Failure> {
    if record.busy_since.is_none() {
        note(store, record, |record| record.busy_since = Some(now)).await?;
    }
    Ok(change_set::wait_for_idle(record.busy_since.unwrap_or(now), now))
}

/// The stages, as they are configured now.
///
/// # Errors
/// [`ErrorName::Internal`] when the platform team's configuration cannot be read.
pub async fn stages(parameters: &Parameters, name: &str) -> Result<Stages, Failure> {
    Ok(Stages::parse(&parameters.text(name).await?)?)
}

/// Notes in the deployment's row what a step does; `record` is the row that it read. The row as it is then.
///
/// # Errors
/// When the table cannot be written.
pub async fn note(
    store: &Store,
    record: &DeploymentRecord,
    change: impl Fn(&mut DeploymentRecord),
) -> Result<DeploymentRecord, Failure> {
    note_recording(store, record, |record| {
        change(record);
        None
    })
    .await
}

/// The same for a change that goes on record: what `change` gives is written with the row, or neither is.
///
/// # Errors
/// When the table cannot be written.
pub async fn note_recording(
    store: &Store,
    record: &DeploymentRecord,
    change: impl Fn(&mut DeploymentRecord) -> Option<Entry>,
) -> Result<DeploymentRecord, Failure> {
    let Deployment { environment, id, .. } = &record.deployment;
    let noted = store.update_deployment_recording(environment, id, |current| {
        let mut current = current.unwrap_or(record).clone();
        let entry = change(&mut current);
        Ok::<_, std::convert::Infallible>((current, entry))
    });
    Ok(noted.await?)
}
