//! Where the execution of a change set, a deletion, or a rollback that goes on, stands: what one look at the stack says.

use jiff::{SignedDuration, Timestamp};

use crate::cause::{Cause, StackEvent, told};
use crate::change_set::advice;
use crate::deployment::{Deployment, Operation, OperationMark};
use crate::names::StackName;
use crate::stack_status::{Entry, Progress, StackStatus, UnknownStatus};
use crate::stages::Span;
use crate::waiting::next_wait;

/// How far CloudFormation's clock may be behind ours: events from that long before our call still count.
pub const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// How long a deletion that somebody else asked for has to have failed before it is the end of ours, too: ours may have been asked for
/// right after that, and not have begun yet.
const JOINED: SignedDuration = SignedDuration::from_mins(1);

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It goes on: look again after so many seconds.
    Running(u32),
    /// It ended as asked.
    Done,
    /// It ended otherwise; the events say why.
    Failed(StackStatus),
}

/// Why an operation did not end as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StackError {
    /// CloudFormation says a word of the future.
    #[error(transparent)]
    Unknown(#[from] UnknownStatus),
    /// The stack was there, and is not any more.
    #[error("the stack {0} is gone: its first create failed, or somebody deleted it")]
    Gone(StackName),
    /// It takes longer than a deployment may.
    #[error("the stack {stack} is still {status} after {limit}, the stage's time limit")]
    TimedOut {
        /// Which.
        stack: StackName,
        /// Its status.
        status: StackStatus,
        /// The limit.
        limit: Span,
    },
    /// It failed.
    #[error("the stack {stack} is {status}: {}{}", why(.cause.as_deref()), stuck(.advice.as_deref()))]
    Failed {
        /// Which.
        stack: StackName,
        /// Its status.
        status: StackStatus,
        /// Why.
        cause: Option<Box<Cause>>,
        /// What a person does about it, if only a person can.
        advice: Option<String>,
    },
}

fn stuck(advice: Option<&str>) -> String {
    advice.map(|advice| format!("; to repair it, {advice}")).unwrap_or_default()
}

/// The failure of the operation of `deployment` whose stack ended as `status`.
#[must_use]
pub fn failed(deployment: &Deployment, status: StackStatus, cause: Option<Cause>) -> StackError {
    let stuck = status.entry(deployment.target.protected) == Entry::Repair;
    let advice = stuck.then(|| advice(deployment, status));
    StackError::Failed { stack: deployment.stack_name.clone(), status, cause: cause.map(Box::new), advice }
}

fn why(cause: Option<&Cause>) -> String {
    cause.map_or_else(|| "CloudFormation tells no failed resource".to_owned(), ToString::to_string)
}

/// What is seen of a stack in a look.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Its status, by its id, as CloudFormation spells it; nothing when there is no such stack.
    pub status: Option<&'a str>,
    /// The events that carry the operation's token, oldest first.
    pub ours: &'a [StackEvent],
    /// All events since a little before the operation began, whosever they are, newest first.
    pub all: &'a [StackEvent],
}

impl Seen<'_> {
    /// Whether the stack's last event tells that it is `status` since the operation `mark` began, whoever brought it about. Ours
    /// began when it has events; a deletion that joined one which was going on has none, and ends with that one.
    fn since(&self, mark: &OperationMark, status: StackStatus, now: Timestamp) -> bool {
        let Some(last) = self.all.iter().find(|event| event.is_of(&mark.stack_id)) else { return false };
        let joined = status == StackStatus::DeleteFailed && last.at > mark.began_at && last.at + JOINED < now;
        last.status == status.as_str() && (joined || !self.ours.is_empty())
    }
}

/// Where the operation `mark` of `deployment` stands at `now`, by what is `seen`; `expected` is how many seconds it took the last
/// time.
///
/// Only what our own operation's events tell is a success. A failure counts whoever brought it about: a person who cancels the
/// update, or whose deletion was going on already, ends it as well.
///
/// # Errors
/// [`StackError`].
pub fn look(
    deployment: &Deployment,
    mark: &OperationMark,
    seen: Seen<'_>,
    expected: Option<u32>,
    now: Timestamp,
) -> Result<Standing, StackError> {
    let stack = || deployment.stack_name.clone();
    let Some(status) = seen.status else {
        return match mark.what {
            Operation::Delete => Ok(Standing::Done),
            Operation::Execute | Operation::Repair => Err(StackError::Gone(stack())),
        };
    };
    let status = StackStatus::parse(status)?;
    let progress = match mark.what {
        Operation::Execute => status.deploying(),
        Operation::Delete => status.deleting(),
        Operation::Repair => status.repairing(),
    };
    // The status may still be the one of before: it is ours only once an event of our call tells it.
    let ours = told(seen.ours, &mark.stack_id) == Some(status.as_str());
    // A stack's id is never used again: deleted is deleted, whoever began it.
    let gone = status == StackStatus::DeleteComplete && (mark.what == Operation::Delete || !seen.ours.is_empty());
    match progress {
        Progress::Succeeded if ours || gone => Ok(Standing::Done),
        Progress::Failed if ours || gone || seen.since(mark, status, now) => Ok(Standing::Failed(status)),
        Progress::Running | Progress::Succeeded | Progress::Failed => {
            let elapsed = now.duration_since(mark.began_at);
            if elapsed > deployment.timeout.duration() {
                return Err(StackError::TimedOut { stack: stack(), status, limit: deployment.timeout });
            }
            // What was expected was an end without a rollback.
            let expected = expected.filter(|_| !status.is_rolling_back());
            Ok(Standing::Running(next_wait(u32::try_from(elapsed.as_secs().max(0)).unwrap_or(u32::MAX), expected)))
        }
    }
}
