//! Starts what is due: the teardown of expired environments, and the end of questions that nobody answered. It asks the index
//! what is due and looks at nothing else; whatever it starts twice happens once.

use std::convert::Infallible;
use std::time::Duration;

use crate::branches::AskGitLab;
use crate::collect::Collect;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use slipway_aws::machines::Machines;
use slipway_aws::store::{Due as Found, Store};
use slipway_domain::ErrorName;
use slipway_domain::admission::Admission;
use slipway_domain::approval::Void;
use slipway_domain::branch::Asked;
use slipway_domain::environment::{Environment, Waiting};
use slipway_domain::expiry::Due;
use slipway_domain::garbage::Collected;
use slipway_domain::names::EnvironmentKey;
use slipway_domain::protocol::ExecutionInput;
use slipway_handler::Failure;

/// How many environments of each partition one sweep looks at: the rest is the next sweep's.
const PAGE: i32 = 100;
/// How long GitLab is asked about branches in one run.
const ASKS: Duration = Duration::from_secs(60);
/// How long one run looks for garbage.
const COLLECTS: Duration = Duration::from_secs(180);

/// What the function works with.
pub(crate) struct Sweep {
    pub(crate) store: Store,
    pub(crate) machines: Machines,
    pub(crate) teardown_machine: String,
    pub(crate) collect: Collect,
    /// Nothing where there is no token to ask GitLab with.
    pub(crate) ask_gitlab: Option<AskGitLab>,
}

/// What a caller may ask; whoever asks nothing gets a sweep.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Input {
    /// Only to say what would be marked and deleted of what nobody needs any more.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

/// What one sweep did.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Swept {
    /// How many teardowns it started, or found started.
    teardowns: usize,
    /// How many questions it ended.
    expired_approvals: usize,
    /// How many answers that were lost on their way it handed on.
    answers: usize,
    /// How many of all these it could not; the log says why.
    failed: usize,
    /// What became of what nobody needs any more.
    garbage: Collected,
    /// What GitLab said of branches.
    branches: Asked,
}

impl Swept {
    fn count(&mut self, key: &EnvironmentKey, done: Result<(), Failure>, of: fn(&mut Self) -> &mut usize) {
        match done {
            Ok(()) => *of(self) += 1,
            Err(failure) => {
                // One that cannot be helped does not keep the others waiting.
                tracing::error!(environment = %key, error = %failure.name, message = failure.message);
                self.failed += 1;
            }
        }
    }
}

impl Sweep {
    pub(crate) async fn handle(&self, input: Input, now: Timestamp) -> Result<Swept, Failure> {
        let mut swept = Swept::default();
        if input.dry_run {
            swept.garbage = self.collect.run(now, COLLECTS, true).await?;
            return Ok(swept);
        }
        for due in self.store.due(now, PAGE).await? {
            let environment = match due {
                Found::Environment(environment) => environment,
                Found::Answer(approval) => {
                    let delivered = slipway_handler::deliver(&self.store, &self.machines, &approval).await;
                    swept.count(&approval.deployment.environment, delivered, |swept| &mut swept.answers);
                    continue;
                }
            };
            for due in environment.due(now) {
                match due {
                    Due::ExpireApproval(waiting) => {
                        let expired = self.expire(&environment, &waiting, now).await;
                        swept.count(&environment.key, expired, |swept| &mut swept.expired_approvals);
                    }
                    Due::Warn { .. } | Due::Look(_) => {}
                    Due::Teardown { expired_at } => {
                        let started = self.tear_down(&environment, expired_at, now).await;
                        swept.count(&environment.key, started, |swept| &mut swept.teardowns);
                    }
                }
            }
        }
        if let Some(ask_gitlab) = &self.ask_gitlab {
            match ask_gitlab.run(now, ASKS).await {
                Ok(asked) => swept.branches = asked,
                Err(failure) => {
                    tracing::error!(error = %failure.name, message = failure.message, "no branch is known to be gone");
                    swept.failed += 1;
                }
            }
        }
        match self.collect.run(now, COLLECTS, false).await {
            Ok(garbage) => swept.garbage = garbage,
            Err(failure) => {
                tracing::error!(error = %failure.name, message = failure.message, "no garbage is collected");
                swept.failed += 1;
            }
        }
        Ok(swept)
    }

    async fn expire(&self, environment: &Environment, waiting: &Waiting, now: Timestamp) -> Result<(), Failure> {
        let why = format!("nobody decided until {:.0}", waiting.until);
        let void = Void { error: ErrorName::ApprovalExpired, why, at: now };
        if let Some(approval) = self.store.void_approval(&waiting.approval, &void).await? {
            slipway_handler::deliver(&self.store, &self.machines, &approval).await?;
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
        let admission = self
            .store
            .admit(&Admission::of_sweep(&environment.key, expired_at, environment.failed_teardowns, now))
            .await?;
        let input = ExecutionInput { admission: admission.id.clone(), attempt: 1 };
        let input = serde_json::to_string(&input).map_err(|error| {
            Failure::new(ErrorName::Internal, format!("the execution's input cannot be written: {error}"))
        })?;
        Ok(self.machines.start(&self.teardown_machine, &admission.execution_name(1), &input).await?)
    }
}
