//! Why a stack failed: the first thing that went wrong, not what followed from it.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A stack event, as CloudFormation tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackEvent {
    /// Its id.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// The resource, or the stack itself.
    pub logical_id: String,
    /// Its id in AWS, once it has one.
    #[serde(default)]
    pub physical_id: Option<String>,
    /// Its type.
    pub resource_type: String,
    /// The status that it reached.
    pub status: String,
    /// Why.
    pub reason: Option<String>,
    /// The `ClientRequestToken` of the operation that it belongs to.
    pub token: Option<String>,
}

/// The type of a stack, and of a stack in a stack.
pub(crate) const STACK: &str = "AWS::CloudFormation::Stack";

impl StackEvent {
    fn has_failed(&self) -> bool {
        self.status.ends_with("_FAILED")
    }

    /// Whether CloudFormation gave this resource up only because another one failed.
    pub(crate) fn is_given_up(&self) -> bool {
        self.has_failed() && self.reason.as_deref().is_some_and(says_cancelled)
    }

    /// Whether it is of the stack `stack_id` itself, not of something in it.
    pub(crate) fn is_of(&self, stack_id: &str) -> bool {
        self.resource_type == STACK && self.physical_id.as_deref() == Some(stack_id)
    }

    /// Whether something of its own went wrong with it.
    fn is_failure(&self) -> bool {
        self.has_failed() && !self.is_given_up()
    }
}

/// The events of the operation whose request carried `token`, oldest first. CloudFormation tells them newest first.
#[must_use]
pub fn of_operation(newest_first: &[StackEvent], token: &str) -> Vec<StackEvent> {
    newest_first.iter().filter(|event| event.token.as_deref() == Some(token)).rev().cloned().collect()
}

/// The last status that `events`, oldest first, tell of the stack `stack_id` itself.
#[must_use]
pub fn told<'e>(events: &'e [StackEvent], stack_id: &str) -> Option<&'e str> {
    events.iter().rev().find(|event| event.is_of(stack_id)).map(|event| event.status.as_str())
}

/// Whether a reason is CloudFormation's own "Resource creation cancelled", or the same of an update or a deletion. Other words about
/// something that was cancelled are a service's, and may be the cause.
fn says_cancelled(reason: &str) -> bool {
    reason
        .strip_prefix("Resource ")
        .and_then(|rest| rest.split_once(' '))
        .is_some_and(|(_, rest)| rest.starts_with("cancelled"))
}

/// The events of one stack in one operation, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackEvents {
    /// The names of the stacks that it is in, the outermost first: those of nested stacks in their parents' templates; nothing
    /// for the deployment's own stack.
    pub path: Vec<String>,
    /// The events.
    pub events: Vec<StackEvent>,
}

/// A nested stack that failed: what went wrong is in its own events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedChild {
    /// Its path, as in [`StackEvents`].
    pub path: Vec<String>,
    /// Its id.
    pub stack_id: String,
    /// When its parent first told of it in this operation: what is older belongs to an earlier one.
    pub since: Timestamp,
}

impl StackEvents {
    /// The nested stacks in it that failed.
    #[must_use]
    pub fn failed_children(&self) -> Vec<FailedChild> {
        let children = self.events.iter().filter(|event| event.resource_type == STACK && event.has_failed());
        let mut found: Vec<FailedChild> = Vec::new();
        for event in children {
            let Some(stack_id) = event.physical_id.clone().filter(|id| id.starts_with("arn:")) else { continue };
            let first = self.events.iter().find(|first| first.logical_id == event.logical_id);
            let since = first.map_or(event.at, |first| first.at);
            let path = self.path.iter().chain([&event.logical_id]).cloned().collect();
            if !found.iter().any(|child| child.stack_id == stack_id) {
                found.push(FailedChild { path, stack_id, since });
            }
        }
        found
    }
}

/// Where a resource stands in a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateLine {
    /// The template, as a path in the application.
    pub template: String,
    /// The line, from 1.
    pub line: usize,
}

/// Why a stack failed: the first thing that went wrong, and how much followed from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The nested stacks that it is in, the outermost first.
    pub path: Vec<String>,
    /// What went wrong.
    pub event: StackEvent,
    /// Where the resource stands in its template, if that is known.
    pub place: Option<TemplateLine>,
    /// How many other resources failed after it.
    pub others: usize,
    /// How many were given up because of it.
    pub given_up: usize,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StackEvent { logical_id, resource_type, status, reason, .. } = &self.event;
        for stack in &self.path {
            write!(f, "{stack}/")?;
        }
        write!(f, "{logical_id} {status} ({resource_type}")?;
        if let Some(TemplateLine { template, line }) = &self.place {
            write!(f, ", {template}:{line}")?;
        }
        write!(f, "): {}", reason.as_deref().unwrap_or("CloudFormation gives no reason"))?;
        let followed = match (self.others, self.given_up) {
            (0, 0) => return Ok(()),
            (others, 0) => format!("{others} more failed"),
            (0, given_up) => format!("{given_up} more were given up"),
            (others, given_up) => format!("{others} more failed and {given_up} were given up"),
        };
        write!(f, " [after it, {followed}]")
    }
}

/// The first thing that went wrong in `stacks`: the deployment's own, and the nested ones that failed.
///
/// A nested stack fails because of what is in it, and a stack because of a resource, so a plain resource comes before them; a
/// stack that fails without one says why itself.
#[must_use]
pub fn root_cause(stacks: &[StackEvents]) -> Option<Cause> {
    let all = || stacks.iter().flat_map(|stack| stack.events.iter().map(move |event| (&stack.path, event)));
    let resources = || all().filter(|(_, event)| event.is_failure() && event.resource_type != STACK);
    let of_stacks =
        || all().filter(|(_, event)| event.is_failure() || event.status.contains("ROLLBACK") && event.reason.is_some());
    let (path, event) = resources()
        .min_by_key(|(_, event)| event.at)
        // The innermost stack knows best.
        .or_else(|| of_stacks().min_by_key(|(path, event)| (std::cmp::Reverse(path.len()), event.at)))?;
    Some(Cause {
        path: path.clone(),
        event: event.clone(),
        place: None,
        others: resources().filter(|(_, other)| other.id != event.id).count(),
        given_up: all().filter(|(_, other)| other.is_given_up()).count(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
pub(crate) mod tests {
    use super::*;

    /// An event of the resource `id`, of which the time does not count.
    pub(crate) fn told_event(id: &str, kind: &str, physical: &str, status: &str, reason: &str) -> StackEvent {
        StackEvent {
            id: format!("{id}-{status}"),
            at: Timestamp::UNIX_EPOCH,
            logical_id: id.into(),
            physical_id: Some(physical.into()),
            resource_type: kind.into(),
            status: status.into(),
            reason: (!reason.is_empty()).then(|| reason.into()),
            token: None,
        }
    }

    fn event(second: i64, id: &str, kind: &str, status: &str, reason: &str, token: &str) -> StackEvent {
        StackEvent {
            id: format!("{id}-{second}"),
            at: Timestamp::from_second(second).unwrap(),
            logical_id: id.into(),
            physical_id: (kind == STACK).then(|| format!("arn:{id}")),
            resource_type: kind.into(),
            status: status.into(),
            reason: (!reason.is_empty()).then(|| reason.into()),
            token: Some(token.into()),
        }
    }

    fn of(path: &[&str], events: &[StackEvent]) -> StackEvents {
        StackEvents { path: path.iter().map(|&name| name.to_owned()).collect(), events: events.to_vec() }
    }

    #[test]
    fn the_first_failure_is_the_cause_and_what_followed_is_folded() {
        let newest_first = [
            event(7, "app", STACK, "ROLLBACK_IN_PROGRESS", "The following resource(s) failed to create: [B, D]", "new"),
            event(6, "C", "AWS::SNS::Topic", "CREATE_FAILED", "Resource creation cancelled", "new"),
            event(5, "D", "AWS::SQS::Queue", "CREATE_FAILED", "Also out of range", "new"),
            event(3, "B", "AWS::SQS::Queue", "CREATE_FAILED", "Value out of range", "new"),
            event(2, "A", "AWS::SQS::Queue", "CREATE_IN_PROGRESS", "", "new"),
            event(1, "Z", "AWS::SQS::Queue", "UPDATE_FAILED", "of an earlier operation", "old"),
        ];
        let mut cause = root_cause(&[of(&[], &of_operation(&newest_first, "new"))]).unwrap();
        assert_eq!(
            cause.to_string(),
            "B CREATE_FAILED (AWS::SQS::Queue): Value out of range [after it, 1 more failed and 1 were given up]"
        );
        cause.place = Some(TemplateLine { template: "template.yaml".into(), line: 12 });
        assert!(cause.to_string().starts_with("B CREATE_FAILED (AWS::SQS::Queue, template.yaml:12): Value"));
    }

    #[test]
    fn only_cloudformations_own_cancellation_is_no_cause() {
        for (reason, given_up) in [
            ("Resource creation cancelled", true),
            ("Resource update cancelled", true),
            ("Resource deletion cancelled", true),
            ("The certificate's validation was cancelled by the domain's owner", false),
            ("Resource handler returned message: the order was cancelled", false),
        ] {
            assert_eq!(event(1, "A", "AWS::X::Y", "CREATE_FAILED", reason, "new").is_given_up(), given_up, "{reason}");
        }
    }

    #[test]
    fn a_nested_stack_fails_because_of_what_is_in_it() {
        let root = of(
            &[],
            &[
                event(1, "Child", STACK, "CREATE_IN_PROGRESS", "", "new"),
                event(5, "Topic", "AWS::SNS::Topic", "CREATE_FAILED", "no such key", "new"),
                event(
                    6,
                    "Child",
                    STACK,
                    "CREATE_FAILED",
                    "Embedded stack arn:Child was not successfully created",
                    "new",
                ),
            ],
        );
        let since = Timestamp::from_second(1).unwrap();
        let child = FailedChild { path: vec!["Child".into()], stack_id: "arn:Child".into(), since };
        assert_eq!(root.failed_children(), [child]);
        let inner = of(&["Child"], &[event(3, "Queue", "AWS::SQS::Queue", "CREATE_FAILED", "out of range", "new")]);
        assert_eq!(
            root_cause(&[root.clone(), inner]).unwrap().to_string(),
            "Child/Queue CREATE_FAILED (AWS::SQS::Queue): out of range [after it, 1 more failed]"
        );
        let denied = of(&["Child"], &[event(3, "Child", STACK, "ROLLBACK_IN_PROGRESS", "denied", "new")]);
        let only_child = of(&[], &root.events[2..]);
        assert_eq!(root_cause(&[only_child, denied]).unwrap().event.reason.as_deref(), Some("denied"));
    }

    #[test]
    fn a_stack_that_fails_by_itself_says_why() {
        let only_stack = of(&[], &[event(1, "app", STACK, "ROLLBACK_IN_PROGRESS", "denied", "new")]);
        assert_eq!(root_cause(&[only_stack]).unwrap().event.reason.as_deref(), Some("denied"));
        assert_eq!(root_cause(&[]), None);
    }
}
