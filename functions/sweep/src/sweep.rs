//! Starts what is due: the teardown of expired environments, and the end of questions that nobody answered. It asks the index
//! what is due and looks at nothing else; whatever it starts twice happens once.

use std::convert::Infallible;

use jiff::Timestamp;
use serde::Serialize;
use slipway_aws::machines::Machines;
use slipway_aws::store::Store;
use slipway_domain::ErrorName;
use slipway_domain::admission::Admission;
use slipway_domain::environment::{Due, Environment, Waiting};
use slipway_domain::protocol::ExecutionInput;
use slipway_handler::Failure;

/// How many environments of each partition one sweep looks at: the rest is the next sweep's.
const PAGE: i32 = 100;

/// What the function works with.
pub(crate) struct Sweep {
    pub(crate) store: Store,
    pub(crate) machines: Machines,
    pub(crate) teardown_machine: String,
}

/// What one sweep did.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Swept {
    /// How many teardowns it started, or found started.
    teardowns: usize,
    /// How many questions it ended.
    expired_approvals: usize,
    /// How many of both it could not; the log says why.
    failed: usize,
}

impl Sweep {
    pub(crate) async fn handle(&self, now: Timestamp) -> Result<Swept, Failure> {
        let mut swept = Swept::default();
        for environment in self.store.due(now, PAGE).await? {
            for due in environment.due(now) {
                let (done, count) = match due {
                    Due::ExpireApproval(waiting) => {
                        (self.expire(&environment, &waiting).await, &mut swept.expired_approvals)
                    }
                    Due::Teardown { expired_at } => {
                        (self.tear_down(&environment, expired_at, now).await, &mut swept.teardowns)
                    }
                };
                match done {
                    Ok(()) => *count += 1,
                    Err(failure) => {
                        // One that cannot be helped does not keep the others waiting.
                        tracing::error!(environment = %environment.key, error = %failure.name, message = failure.message);
                        swept.failed += 1;
                    }
                }
            }
        }
        Ok(swept)
    }

    async fn expire(&self, environment: &Environment, waiting: &Waiting) -> Result<(), Failure> {
        let why = format!("nobody decided until {}", waiting.until);
        match self.store.void_approval(&waiting.approval, &why).await? {
            // Decided in time, and the answer was lost on its way.
            Some(approval) if approval.decision.is_some() => self.machines.answer(&approval).await?,
            Some(approval) => {
                self.machines.fail(&approval.task_token, ErrorName::ApprovalExpired, &why).await?;
            }
            None => {}
        }
        let cleared = self.store.update_environment(&environment.key, |current| {
            let mut current = current.unwrap_or(environment).clone();
            current.waiting = current.waiting.filter(|other| other != waiting);
            Ok::<_, Infallible>(current)
        });
        cleared.await?;
        Ok(())
    }

    async fn tear_down(&self, environment: &Environment, expired_at: Timestamp, now: Timestamp) -> Result<(), Failure> {
        let admission = self.store.admit(&Admission::of_sweep(&environment.key, expired_at, now)).await?;
        let input = ExecutionInput { admission: admission.id.clone(), attempt: 1 };
        let input = serde_json::to_string(&input).map_err(|error| {
            Failure::new(ErrorName::Internal, format!("the execution's input cannot be written: {error}"))
        })?;
        Ok(self.machines.start(&self.teardown_machine, &admission.execution_name(1), &input).await?)
    }
}
