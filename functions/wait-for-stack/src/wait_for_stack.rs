//! One look. The state machine waits between two of them for as long as this one says.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use slipway_aws::bucket::Bucket;
use slipway_aws::store::Store;
use slipway_aws::target::{ChangeSetDescription, Stack, Targets};
use slipway_domain::ErrorName;
use slipway_domain::audit::Entry;
use slipway_domain::cause::{Cause, FailedChild, StackEvents, of_operation, root_cause};
use slipway_domain::change_set::{self, Making, MakingError};
use slipway_domain::deployment::{Action, Deployment, DeploymentRecord, DeploymentRef, Operation};
use slipway_domain::release::{events_key, review_key};
use slipway_domain::session_policy::Purpose;
use slipway_domain::stack_change::{self, SKEW, Seen, Standing};
use slipway_domain::stack_status::StackStatus;
use slipway_domain::teardown::{self, Failed};
use slipway_handler::{Failure, Polled};

use crate::place;

/// The most stacks whose events are read for the cause of a failure.
const MOST_STACKS: usize = 20;

/// What the function works with.
pub(crate) struct WaitForStack {
    pub(crate) store: Store,
    pub(crate) bucket: Bucket,
    pub(crate) targets: Targets,
}

/// What a state machine asks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    #[serde(rename = "for")]
    what: What,
    deployment: DeploymentRef,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    /// That the change set is made.
    ChangeSet,
    /// That the stack is changed or deleted.
    Stack,
}

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Not yet.
    Pending,
    /// The change set can be executed.
    Ready,
    /// There is nothing to change.
    NoChanges,
    /// The stack is as asked.
    Done,
    /// The stack of a teardown could not be deleted; what is done about it is another step's to say.
    Failed,
}

impl WaitForStack {
    pub(crate) async fn handle(&self, input: Input, now: Timestamp) -> Result<Polled<State>, Failure> {
        let record = slipway_handler::hold(&self.store, &input.deployment, now).await?;
        let stack = self.targets.stack(&record.deployment, Purpose::Look).await?;
        match input.what {
            What::ChangeSet => self.change_set(&record, &stack, now).await,
            What::Stack => self.stack(&record, &stack, now).await,
        }
    }

    async fn change_set(
        &self,
        record: &DeploymentRecord,
        stack: &Stack,
        now: Timestamp,
    ) -> Result<Polled<State>, Failure> {
        let Some(made) = &record.change_set else {
            return Err(Failure::new(ErrorName::Internal, "the change set was not made yet"));
        };
        let described = stack.describe_change_set(&made.arn).await?;
        let seen = described.as_ref().map(ChangeSetDescription::seen);
        let making = change_set::making(&record.deployment, made, seen, now)?;
        if let (Making::Ready, Some(described)) = (making, &described) {
            let Deployment { environment, id, .. } = &record.deployment;
            let review = stack.review(&described.arn).await?;
            let review = review.ok_or_else(|| MakingError::Gone("somebody deleted the change set".into()))?;
            self.bucket.put_json(&review_key(environment, id), &review).await?;
            let binding = described.binding(record);
            let noted = slipway_handler::note_recording(&self.store, record, |record| {
                let first = record.binding != binding;
                record.binding.clone_from(&binding);
                record.changes = Some(review.summary());
                binding.as_ref().filter(|_| first).and_then(|binding| Entry::reviewed(record, binding, now))
            });
            noted.await?;
        }
        Ok(match making {
            Making::Pending(wait) => Polled { state: State::Pending, wait },
            Making::Ready => Polled { state: State::Ready, wait: 0 },
            Making::NoChanges => Polled { state: State::NoChanges, wait: 0 },
        })
    }

    async fn stack(&self, record: &DeploymentRecord, stack: &Stack, now: Timestamp) -> Result<Polled<State>, Failure> {
        let Some(mark) = &record.operation else {
            return Err(Failure::new(ErrorName::Internal, "nothing was done to the stack yet"));
        };
        let deployment = &record.deployment;
        let Deployment { environment, id, .. } = deployment;
        let described = stack.describe(Some(&mark.stack_id)).await?;
        let status = described.as_ref().map(|described| described.status.as_str());
        let token = record.request_token(mark);
        let all = match status {
            Some(_) => stack.events(&mark.stack_id, mark.began_at - SKEW).await?,
            None => Vec::new(),
        };
        let events = of_operation(&all, &token);
        if status.is_some() {
            if events.len() != record.events {
                self.bucket.put_json(&events_key(environment, id), &events).await?;
            }
            slipway_handler::note(&self.store, record, |record| {
                record.events = events.len();
                record.stack_status = status.map(str::to_owned);
            })
            .await?;
        }
        let expected = match mark.what {
            Operation::Execute => self.store.environment(environment).await?.and_then(|known| known.last_seconds),
            Operation::Delete | Operation::Repair => None,
        };
        let seen = Seen { status, ours: &events, all: &all };
        match stack_change::look(deployment, mark, seen, expected, now)? {
            Standing::Running(wait) => Ok(Polled { state: State::Pending, wait }),
            Standing::Done => Ok(Polled { state: State::Done, wait: 0 }),
            Standing::Failed(status) => {
                // Where somebody else's operation ended it, only theirs tell why.
                let events = if events.is_empty() { all.into_iter().rev().collect() } else { events };
                let root = StackEvents { path: Vec::new(), events };
                let stacks = with_children(stack, &mark.stack_id, root, &token).await?;
                let cause = match root_cause(&stacks) {
                    Some(cause) => Some(self.placed(deployment, cause).await),
                    None => None,
                };
                let blockers = teardown::blockers(&mark.stack_id, &stacks);
                let error = stack_change::failed(deployment, status, cause);
                if deployment.action != Action::Teardown || status != StackStatus::DeleteFailed {
                    return Err(error.into());
                }
                let message = Failure::from(error).message;
                slipway_handler::note(&self.store, record, |record| {
                    let since = record.teardown.failed.as_ref().map_or(now, |failed| failed.since);
                    let (attempt, blockers, message) = (record.teardown.attempt, blockers.clone(), message.clone());
                    record.teardown.failed = Some(Failed { attempt, since, blockers, message });
                })
                .await?;
                Ok(Polled { state: State::Failed, wait: 0 })
            }
        }
    }

    /// Finds the resource of `cause` in its template. That is worth a look, not a failure of its own.
    async fn placed(&self, deployment: &Deployment, cause: Cause) -> Cause {
        let Some(launch) = &deployment.launch else { return cause };
        let place = match place::find(&self.bucket, &launch.bundle, &cause).await {
            Ok(place) => place,
            Err(failure) => {
                tracing::warn!(error = %failure.name, message = failure.message, "the resource's line is not known");
                None
            }
        };
        Cause { place, ..cause }
    }
}

/// The events of `root`, and of the nested stacks that failed in it.
async fn with_children(stack: &Stack, id: &str, root: StackEvents, token: &str) -> Result<Vec<StackEvents>, Failure> {
    // A stack that failed tells so itself, too: it is not in itself.
    let mut read = BTreeSet::from([id.to_owned()]);
    let mut stacks = vec![root];
    let mut next = 0;
    while let Some(parent) = stacks.get(next) {
        next += 1;
        for FailedChild { path, stack_id, since } in parent.failed_children() {
            if stacks.len() == MOST_STACKS {
                return Ok(stacks);
            }
            if !read.insert(stack_id.clone()) {
                continue;
            }
            let all = stack.events(&stack_id, since).await?;
            let ours = of_operation(&all, token);
            // A nested stack's events need not carry its parent's token.
            let events = if ours.is_empty() { all.into_iter().rev().collect() } else { ours };
            stacks.push(StackEvents { path, events });
        }
    }
    Ok(stacks)
}
