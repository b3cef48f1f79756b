//! What is done with a stack to make a change set, when a change set is ready, and whether it may be executed.

use jiff::{SignedDuration, Timestamp};

use crate::approval::Approval;
use crate::deployment::{ChangeSetRef, Deployment, DeploymentRecord};
use crate::names::{Digest, EnvironmentKey, StackName};
use crate::stack_status::{Entry, StackStatus, UnknownStatus};
use crate::stages::Span;
use crate::waiting::next_wait;

/// What is seen of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenStack<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its status, as CloudFormation spells it.
    pub status: &'a str,
}

/// How a deployment goes on from what is there under its stack's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// With a change set that creates the stack.
    Create,
    /// With one that updates it.
    Update,
    /// With its deletion: its first create failed, nothing lives, and CloudFormation lets it only be deleted. Then it waits.
    Delete {
        /// The stack's id.
        stack_id: String,
        /// Its status.
        status: StackStatus,
    },
    /// By waiting for what is going on with it.
    Wait,
}

/// Why a deployment does not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// CloudFormation says a word of the future.
    #[error(transparent)]
    Unknown(#[from] UnknownStatus),
    /// The stack is a person's to repair.
    #[error("the stack {stack} is {status}; {advice}")]
    Repair {
        /// Which.
        stack: StackName,
        /// Its status.
        status: StackStatus,
        /// What leads out of it.
        advice: String,
    },
    /// It has been busy for as long as a deployment may take.
    #[error("the stack {stack} has been {status} for {minutes} minutes, the stage's time limit")]
    Busy {
        /// Which.
        stack: StackName,
        /// Its status.
        status: StackStatus,
        /// Since the deployment first found it so.
        minutes: i64,
    },
}

/// How `deployment` goes on from what is `seen` under its stack's name at `now`; it waits for the stack since `since`.
///
/// # Errors
/// [`OpeningError`].
pub fn open(
    deployment: &Deployment,
    seen: Option<SeenStack<'_>>,
    since: Timestamp,
    now: Timestamp,
) -> Result<Opening, OpeningError> {
    let Some(seen) = seen else { return Ok(Opening::Create) };
    let status = StackStatus::parse(seen.status)?;
    match status.entry(deployment.target.protected) {
        Entry::Create => Ok(Opening::Create),
        Entry::Update => Ok(Opening::Update),
        Entry::Repair => Err(needs_person(deployment, status)),
        Entry::Busy => busy_for_too_long(deployment, status, since, now).map_or(Ok(Opening::Wait), Err),
        Entry::Recreate => {
            let delete = Opening::Delete { stack_id: seen.id.to_owned(), status };
            busy_for_too_long(deployment, status, since, now).map_or(Ok(delete), Err)
        }
    }
}

/// What is wrong at `now` when the stack still is `status`: `deployment` waits since `since`, which is as long as it may.
pub fn busy_for_too_long(
    deployment: &Deployment,
    status: StackStatus,
    since: Timestamp,
    now: Timestamp,
) -> Option<OpeningError> {
    let waited = now.duration_since(since);
    let stack = deployment.stack_name.clone();
    let minutes = waited.as_mins();
    (waited > deployment.timeout.duration()).then_some(OpeningError::Busy { stack, status, minutes })
}

/// The stack of `deployment` is a person's to repair.
pub(crate) fn needs_person(deployment: &Deployment, status: StackStatus) -> OpeningError {
    OpeningError::Repair { stack: deployment.stack_name.clone(), status, advice: advice(deployment, status) }
}

/// What a person does about a stack that is stuck in `status`: where, and the exact command.
pub(crate) fn advice(deployment: &Deployment, status: StackStatus) -> String {
    let Deployment { stack_name: stack, target, environment, .. } = deployment;
    let EnvironmentKey { application, stage, environment, .. } = environment;
    let (account, region) = (&target.account, &target.region);
    let on = format!("--application {application} --stage {stage} --environment {environment}");
    if status == StackStatus::UpdateRollbackFailed {
        return format!(
            "in account {account}: slipway repair {on} shows what could not be rolled back, and how to go on"
        );
    }
    let command = status.repair();
    let torn_down = status == StackStatus::DeleteFailed && !target.protected;
    let again = if torn_down { format!(", or: slipway teardown {on}") } else { String::new() };
    format!(
        "in account {account}, after a look at its events: aws cloudformation {command} --stack-name {stack} --region {region}{again}"
    )
}

/// How long to wait at `now` for a stack that somebody else keeps busy, in seconds; it was waited for since `since`.
#[must_use]
pub fn wait_for_idle(since: Timestamp, now: Timestamp) -> u32 {
    let waited = now.duration_since(since).as_secs();
    next_wait(u32::try_from(waited).unwrap_or(0), None)
}

/// What is seen of a change set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenChangeSet<'a> {
    /// Whether it is being made, is ready, or failed, as CloudFormation spells it.
    pub status: &'a str,
    /// Whether it can be, is being, or was executed, as CloudFormation spells it.
    pub execution_status: &'a str,
    /// Why it failed.
    pub reason: Option<&'a str>,
}

/// How long after it was made a change set may not be seen yet: CloudFormation answers from several places.
const UNSEEN: SignedDuration = SignedDuration::from_secs(20);

/// How far a change set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Making {
    /// CloudFormation still makes it: look again after so many seconds.
    Pending(u32),
    /// It can be executed.
    Ready,
    /// There is nothing to change.
    NoChanges,
}

/// Why a change set will not be ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MakingError {
    /// CloudFormation could not make it.
    #[error("CloudFormation says: {0}")]
    Failed(String),
    /// It takes longer than a deployment may.
    #[error("the change set is still {status} ({reason}) after {limit}, the stage's time limit")]
    TimedOut {
        /// Its status.
        status: String,
        /// CloudFormation's words.
        reason: String,
        /// The limit.
        limit: Span,
    },
    /// Somebody deleted it, or is about to.
    #[error("{0}")]
    Gone(String),
}

/// How far the change set of `deployment` is that was made as `made`, from what is `seen` of it at `now`.
///
/// # Errors
/// [`MakingError`].
pub fn making(
    deployment: &Deployment,
    made: &ChangeSetRef,
    seen: Option<SeenChangeSet<'_>>,
    now: Timestamp,
) -> Result<Making, MakingError> {
    let Some(seen) = seen else {
        let elapsed = now.duration_since(made.made_at);
        if elapsed > UNSEEN {
            return Err(MakingError::Gone("somebody deleted the change set".into()));
        }
        return Ok(Making::Pending(next_wait(u32::try_from(elapsed.as_secs()).unwrap_or(0), None)));
    };
    let reason = seen.reason.unwrap_or("CloudFormation gives no reason");
    match seen.status {
        "CREATE_PENDING" | "CREATE_IN_PROGRESS" => {
            let elapsed = now.duration_since(made.made_at);
            if elapsed > deployment.timeout.duration() {
                let (status, reason) = (seen.status.to_owned(), reason.to_owned());
                return Err(MakingError::TimedOut { status, reason, limit: deployment.timeout });
            }
            Ok(Making::Pending(next_wait(u32::try_from(elapsed.as_secs()).unwrap_or(0), None)))
        }
        "CREATE_COMPLETE" => Ok(Making::Ready),
        "FAILED" if says_empty(reason) => Ok(Making::NoChanges),
        "FAILED" => Err(MakingError::Failed(reason.to_owned())),
        other => Err(MakingError::Gone(format!("the change set is {other}"))),
    }
}

/// CloudFormation has no status for "nothing to change", only these words
/// (<https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateChangeSet.html> does not list them; they are
/// what its own command line looks for).
fn says_empty(reason: &str) -> bool {
    reason.contains("The submitted information didn't contain changes")
        || reason.contains("No updates are to be performed")
}

/// Why a change set is not executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotExecutable {
    /// It is not what was reviewed any more.
    #[error("the change set is not what was reviewed any more: {0}")]
    Stale(String),
    /// The stage asks for an approval, and there is none of exactly this.
    #[error("the stage asks for an approval, and nobody gave one")]
    NotApproved,
}

/// Whether the change set of `record` may be executed: it must be what it was when it was reviewed and, where the stage asks
/// for it, when somebody approved it. `binding` is worked out of everything as it is described now.
///
/// # Errors
/// [`NotExecutable`].
pub fn executable(
    record: &DeploymentRecord,
    seen: Option<SeenChangeSet<'_>>,
    binding: Option<&Digest>,
    approval: Option<&Approval>,
) -> Result<(), NotExecutable> {
    let stale = |why: &str| NotExecutable::Stale(why.to_owned());
    let seen = seen.ok_or_else(|| stale("it is gone"))?;
    if seen.execution_status != "AVAILABLE" {
        return Err(stale(&format!("its execution status is {}", seen.execution_status)));
    }
    let reviewed = record.binding.as_ref().filter(|reviewed| binding == Some(*reviewed));
    let reviewed = reviewed.ok_or_else(|| stale("the change set, its stack, its parameters or its release changed"))?;
    let approved = approval.is_some_and(|approval| approval.allows(reviewed));
    if record.deployment.approval.is_some() && !approved { Err(NotExecutable::NotApproved) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::{advice, says_empty};
    use crate::deployment::Action;
    use crate::environment::tests::deployment;
    use crate::stack_status::StackStatus;

    #[test]
    fn advice_is_the_exact_command() {
        let advice = |status, protected| advice(&deployment(Action::Deploy, 1, protected), status);
        let on = "--application news --stage dev --environment review/x";
        for protected in [true, false] {
            assert_eq!(
                advice(StackStatus::UpdateRollbackFailed, protected),
                format!(
                    "in account 111111111111: slipway repair {on} shows what could not be rolled back, and how to go on"
                )
            );
        }
        let stack = deployment(Action::Deploy, 1, false).stack_name;
        let delete = format!(
            "in account 111111111111, after a look at its events: aws cloudformation delete-stack --stack-name {stack} --region \
             eu-central-1"
        );
        assert_eq!(advice(StackStatus::DeleteFailed, true), delete);
        assert_eq!(advice(StackStatus::DeleteFailed, false), format!("{delete}, or: slipway teardown {on}"));
        assert_eq!(advice(StackStatus::RollbackFailed, true), delete);
    }

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
