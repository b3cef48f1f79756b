//! What was decided is handed on.

use std::convert::Infallible;
use std::time::Duration;

use slipway_aws::Kind;
use slipway_aws::machines::Machines;
use slipway_aws::store::Store;
use slipway_domain::approval::Approval;

use crate::Failure;

/// How often an answer is handed on before it is left to `sweep`; the SDK has tried each of these several times.
const TRIES: u32 = 4;

/// Hands the answer to `approval`, if there is one, on to the step that waits for it, until Step Functions has it or says that nobody
/// waits, and notes that. What could not be handed on, `sweep` finds.
///
/// # Errors
/// When Step Functions, or the table, does not answer.
pub async fn deliver(store: &Store, machines: &Machines, approval: &Approval) -> Result<(), Failure> {
    if approval.undelivered_since().is_none() {
        return Ok(());
    }
    let mut tried = 0;
    while let Err(error) = machines.answer(approval).await {
        tried += 1;
        if tried == TRIES || !matches!(error.kind, Kind::Throttled | Kind::Unavailable) {
            return Err(error.into());
        }
        tokio::time::sleep(Duration::from_millis(250 << tried)).await;
    }
    let noted = store.update_approval(&approval.id, |current| {
        // A step that is tried again waits with another token.
        let same = current.filter(|current| current.task_token == approval.task_token && !current.delivered);
        Ok::<_, Infallible>(same.map(Approval::delivered))
    });
    noted.await?;
    Ok(())
}
