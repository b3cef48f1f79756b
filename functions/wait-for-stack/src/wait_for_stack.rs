//! One look. The state machine waits between two of them for as long as this one says.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use slipway_aws::bucket::Bucket;
use slipway_aws::store::Store;
use slipway_aws::target::{Stack, Targets};
use slipway_domain::ErrorName;
use slipway_domain::cause::{of_operation, root_cause};
use slipway_domain::deployment::{Deployment, DeploymentRecord, DeploymentRef, Operation};
use slipway_domain::release::{events_key, review_key};
use slipway_domain::session_policy::Purpose;
use slipway_domain::stack_status::{Progress, StackStatus};
use slipway_domain::waiting::next_wait;
use slipway_handler::{Failure, Polled};

/// How far CloudFormation's clock may be behind ours: events from that long before our call still count.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

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
        let stale = |why: String| Failure::new(ErrorName::ChangeSetStale, why);
        let Some(change_set) = &record.change_set else {
            return Err(Failure::new(ErrorName::Internal, "the change set was not made yet"));
        };
        let described = stack.describe_change_set(&change_set.arn).await?;
        let described = described.ok_or_else(|| stale("somebody deleted the change set".into()))?;
        let reason = described.reason.as_deref().unwrap_or("CloudFormation gives no reason");
        match described.status.as_str() {
            "CREATE_PENDING" | "CREATE_IN_PROGRESS" => {
                let elapsed =
                    within_limit(&record.deployment, change_set.made_at, now, ErrorName::ChangeSetFailed, || {
                        format!("the change set is still {} ({reason})", described.status)
                    })?;
                Ok(Polled { state: State::Pending, wait: next_wait(elapsed, None) })
            }
            "CREATE_COMPLETE" => {
                let Deployment { environment, id, .. } = &record.deployment;
                let review = stack.review(&described.arn).await?;
                let review = review.ok_or_else(|| stale("somebody deleted the change set".into()))?;
                self.bucket.put_json(&review_key(environment, id), &review).await?;
                let binding = described.binding(record);
                slipway_handler::note(&self.store, record, |record| record.binding.clone_from(&binding)).await?;
                Ok(Polled { state: State::Ready, wait: 0 })
            }
            "FAILED" if says_empty(reason) => Ok(Polled { state: State::NoChanges, wait: 0 }),
            "FAILED" => Err(Failure::new(ErrorName::ChangeSetFailed, format!("CloudFormation says: {reason}"))),
            other => Err(stale(format!("the change set is {other}"))),
        }
    }

    async fn stack(&self, record: &DeploymentRecord, stack: &Stack, now: Timestamp) -> Result<Polled<State>, Failure> {
        let Some(mark) = &record.operation else {
            return Err(Failure::new(ErrorName::Internal, "nothing was done to the stack yet"));
        };
        let Deployment { environment, id, stack_name, .. } = &record.deployment;
        let Some(described) = stack.describe(Some(&mark.stack_id)).await? else {
            return match mark.what {
                Operation::Delete => Ok(Polled { state: State::Done, wait: 0 }),
                Operation::Execute => {
                    let message =
                        format!("the stack {stack_name} is gone: its first create failed, or somebody deleted it");
                    Err(Failure::new(ErrorName::StackFailed, message))
                }
            };
        };
        let status = StackStatus::parse(&described.status)?;
        let events = stack.events(&mark.stack_id, mark.began_at - SKEW).await?;
        let events = of_operation(&events, &id.request_token(mark.what));
        if events.len() != record.events {
            self.bucket.put_json(&events_key(environment, id), &events).await?;
        }
        slipway_handler::note(&self.store, record, |record| {
            record.events = events.len();
            record.stack_status = Some(described.status.clone());
        })
        .await?;
        let progress = match mark.what {
            Operation::Execute => status.deploying(),
            Operation::Delete => status.deleting(),
        };
        match progress {
            // A stack's id is never used again: deleted is deleted, whoever began it.
            Progress::Succeeded if mark.what == Operation::Delete => Ok(Polled { state: State::Done, wait: 0 }),
            // The status may still be the one of before: it is ours only once CloudFormation tells events of our call.
            Progress::Succeeded if !events.is_empty() => Ok(Polled { state: State::Done, wait: 0 }),
            Progress::Failed if !events.is_empty() => {
                let message = match root_cause(&events) {
                    Some(event) => format!(
                        "the stack {stack_name} is {status}: {} {} ({}): {}",
                        event.logical_id,
                        event.status,
                        event.resource_type,
                        event.reason.as_deref().unwrap_or("CloudFormation gives no reason")
                    ),
                    None => format!("the stack {stack_name} is {status}; CloudFormation tells no failed resource"),
                };
                Err(Failure::new(ErrorName::StackFailed, message))
            }
            Progress::Running | Progress::Succeeded | Progress::Failed => {
                let elapsed = within_limit(&record.deployment, mark.began_at, now, ErrorName::StackTimedOut, || {
                    format!("the stack {stack_name} is still {status}")
                })?;
                let expected = match mark.what {
                    Operation::Execute => {
                        self.store.environment(environment).await?.and_then(|known| known.last_seconds)
                    }
                    Operation::Delete => None,
                };
                Ok(Polled { state: State::Pending, wait: next_wait(elapsed, expected) })
            }
        }
    }
}

/// How many seconds have gone by since `began_at`, if the deployment may still take longer.
fn within_limit(
    deployment: &Deployment,
    began_at: Timestamp,
    now: Timestamp,
    name: ErrorName,
    what: impl Fn() -> String,
) -> Result<u32, Failure> {
    let elapsed = now.duration_since(began_at);
    if elapsed > deployment.timeout.duration() {
        let limit = deployment.timeout;
        return Err(Failure::new(name, format!("{} after {limit}, the stage's time limit", what())));
    }
    Ok(u32::try_from(elapsed.as_secs().max(0)).unwrap_or(u32::MAX))
}

/// CloudFormation has no status for "nothing to change", only these words
/// (<https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateChangeSet.html> does not list them; they are
/// what its own command line looks for).
fn says_empty(reason: &str) -> bool {
    reason.contains("The submitted information didn't contain changes")
        || reason.contains("No updates are to be performed")
}

#[cfg(test)]
mod tests {
    use super::says_empty;

    #[test]
    fn only_the_two_sentences_are_empty() {
        assert!(says_empty(
            "The submitted information didn't contain changes. Submit different information to create a change set."
        ));
        assert!(says_empty("No updates are to be performed."));
        assert!(!says_empty(
            "Transform AWS::Serverless-2016-10-31 failed with: Invalid Serverless Application Specification document."
        ));
    }
}
