//! What a repair found, for a person.

use slipway_domain::repair::{Found, Treatment};

/// The stack's status, and each resource that could not be rolled back; nothing when the stack needs no repair.
pub(crate) fn lines(found: &Found) -> Vec<String> {
    if !found.is_stuck() {
        return Vec::new();
    }
    let status = found.stack_status.as_deref().unwrap_or_default();
    if found.failed.is_empty() {
        return vec![format!("The stack is {status}, and its events do not tell what could not be rolled back.")];
    }
    let mut lines = vec![format!("The stack is {status}. What could not be rolled back:")];
    let widest = |of: fn(&slipway_domain::repair::FailedResource) -> usize| found.failed.iter().map(of).max();
    let name = widest(|resource| resource.name.as_str().len()).unwrap_or(0);
    let kind = widest(|resource| resource.resource_type.len()).unwrap_or(0);
    for resource in &found.failed {
        let then = match resource.then {
            None => "",
            Some(Treatment::TriedAgain) => "tried again  ",
            Some(Treatment::Skipped) => "skipped      ",
        };
        let reason = resource.reason.as_deref().unwrap_or("CloudFormation gives no reason");
        lines.push(format!("  {then}{:<name$}  {:<kind$}  {reason}", resource.name.as_str(), resource.resource_type));
    }
    if found.more > 0 {
        lines.push(format!("  and {} more", found.more));
    }
    lines
}

/// How to go on; `command` is the one that only looks.
pub(crate) fn ways_on(found: &Found, command: &str) -> Vec<String> {
    if !found.is_stuck() {
        return Vec::new();
    }
    let mut lines = vec![
        "Nothing was changed. To go on:".to_owned(),
        format!("  {command} --retry"),
        "    tries each of them again: once what hindered CloudFormation is out of the way".to_owned(),
    ];
    if !found.failed.is_empty() {
        let names: Vec<&str> = found.failed.iter().map(|resource| resource.name.as_str()).collect();
        lines.extend([
            format!("  {command} --skip {}", names.join(",")),
            "    goes on without them, or without those that you name: they stay as they are now, and CloudFormation counts them"
                .to_owned(),
            "    as rolled back. They may then differ from the template: look at each before the next deployment.".to_owned(),
        ]);
    }
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use slipway_domain::names::RolledBackName;
    use slipway_domain::repair::FailedResource;

    use super::*;

    fn found(then: [Option<Treatment>; 2]) -> Found {
        let resource = |name: &str, kind: &str, reason: Option<&str>, then| FailedResource {
            name: RolledBackName::new(name).unwrap(),
            resource_type: kind.into(),
            reason: reason.map(str::to_owned),
            then,
        };
        Found {
            stack_status: Some("UPDATE_ROLLBACK_FAILED".into()),
            failed: vec![
                resource("Queue", "AWS::SQS::Queue", Some("it was deleted"), then[0]),
                resource("app-Child-1X2Y.Thing", "Custom::Thing", None, then[1]),
            ],
            more: 0,
        }
    }

    #[test]
    fn who_looks_sees_what_failed_and_both_ways_on() {
        let found = found([None, None]);
        let all = [lines(&found), ways_on(&found, "slipway repair --stage dev")].concat().join("\n");
        assert_eq!(
            all,
            "\
The stack is UPDATE_ROLLBACK_FAILED. What could not be rolled back:
  Queue                 AWS::SQS::Queue  it was deleted
  app-Child-1X2Y.Thing  Custom::Thing    CloudFormation gives no reason
Nothing was changed. To go on:
  slipway repair --stage dev --retry
    tries each of them again: once what hindered CloudFormation is out of the way
  slipway repair --stage dev --skip Queue,app-Child-1X2Y.Thing
    goes on without them, or without those that you name: they stay as they are now, and CloudFormation counts them
    as rolled back. They may then differ from the template: look at each before the next deployment."
        );
    }

    #[test]
    fn who_goes_on_sees_what_becomes_of_each() {
        let lines = lines(&found([Some(Treatment::Skipped), Some(Treatment::TriedAgain)])).join("\n");
        assert_eq!(
            lines,
            "\
The stack is UPDATE_ROLLBACK_FAILED. What could not be rolled back:
  skipped      Queue                 AWS::SQS::Queue  it was deleted
  tried again  app-Child-1X2Y.Thing  Custom::Thing    CloudFormation gives no reason"
        );
    }

    #[test]
    fn a_stack_that_needs_no_repair_has_no_list() {
        let found = Found::nothing(Some("UPDATE_COMPLETE"));
        assert!(lines(&found).is_empty() && ways_on(&found, "slipway repair").is_empty());
    }
}
