//! Why a stack failed: the first thing that went wrong, not what followed from it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A stack event, as CloudFormation tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StackEvent {
    /// Its id.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// The resource, or the stack itself.
    pub logical_id: String,
    /// Its type.
    pub resource_type: String,
    /// The status that it reached.
    pub status: String,
    /// Why.
    pub reason: Option<String>,
    /// The `ClientRequestToken` of the operation that it belongs to.
    pub token: Option<String>,
}

const STACK: &str = "AWS::CloudFormation::Stack";

impl StackEvent {
    /// Whether CloudFormation gave this resource up only because another one failed.
    fn is_aftermath(&self) -> bool {
        self.reason.as_deref().is_some_and(|reason| reason.contains("cancelled"))
    }
}

/// The events of the operation whose request carried `token`, oldest first. CloudFormation tells them newest first.
#[must_use]
pub fn of_operation(newest_first: &[StackEvent], token: &str) -> Vec<StackEvent> {
    newest_first.iter().filter(|event| event.token.as_deref() == Some(token)).rev().cloned().collect()
}

/// The first resource that failed, with its reason; `oldest_first` are the events of one operation. A nested stack fails
/// because of what is in it, so a plain resource comes before it, and the stack itself last.
#[must_use]
pub fn root_cause(oldest_first: &[StackEvent]) -> Option<&StackEvent> {
    let failed = |event: &&StackEvent| event.status.ends_with("_FAILED") && !event.is_aftermath();
    oldest_first
        .iter()
        .filter(failed)
        .find(|event| event.resource_type != STACK)
        .or_else(|| oldest_first.iter().filter(failed).find(|event| event.resource_type == STACK))
        .or_else(|| oldest_first.iter().find(|event| event.status.contains("ROLLBACK") && event.reason.is_some()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn event(second: i64, id: &str, kind: &str, status: &str, reason: &str, token: &str) -> StackEvent {
        StackEvent {
            id: second.to_string(),
            at: Timestamp::from_second(second).unwrap(),
            logical_id: id.into(),
            resource_type: kind.into(),
            status: status.into(),
            reason: (!reason.is_empty()).then(|| reason.into()),
            token: Some(token.into()),
        }
    }

    #[test]
    fn the_first_failure_is_the_cause_and_what_followed_is_not() {
        let newest_first = [
            event(
                6,
                "app",
                STACK,
                "ROLLBACK_IN_PROGRESS",
                "The following resource(s) failed to create: [B, Child]",
                "new",
            ),
            event(5, "C", "AWS::SNS::Topic", "CREATE_FAILED", "Resource creation cancelled", "new"),
            event(4, "Child", STACK, "CREATE_FAILED", "Embedded stack was not successfully created", "new"),
            event(3, "B", "AWS::SQS::Queue", "CREATE_FAILED", "Value out of range", "new"),
            event(2, "A", "AWS::SQS::Queue", "CREATE_IN_PROGRESS", "", "new"),
            event(1, "Z", "AWS::SQS::Queue", "UPDATE_FAILED", "of an earlier operation", "old"),
        ];
        let events = of_operation(&newest_first, "new");
        assert_eq!(root_cause(&events).unwrap().logical_id, "B");
        let only_stack = [event(1, "app", STACK, "ROLLBACK_IN_PROGRESS", "denied", "new")];
        assert_eq!(root_cause(&only_stack).unwrap().reason.as_deref(), Some("denied"));
        assert_eq!(root_cause(&[]), None);
    }
}
