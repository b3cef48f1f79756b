//! What a teardown would do, and what it left, for a person.

use slipway_domain::teardown::{Hindrance, Leftover, Leftovers, Plan, Resource, advice};

/// Each resource with what becomes of it, and what hinders it all.
pub(crate) fn plan(plan: &Plan) -> Vec<String> {
    let Plan { environment, stack_name, target, resources, .. } = plan;
    let Some(status) = &plan.stack_status else {
        return vec![format!("{environment} has no stack: there is nothing to delete.")];
    };
    let account = &target.account;
    let mut lines = vec![format!("{environment}: the stack {stack_name} ({status}) in account {account}")];
    let (what, name) = (widest(resources, |one| one.becomes.as_str().len()), widest(resources, |one| one.name().len()));
    let kind = widest(resources, |one| one.resource_type.len());
    for resource in resources {
        let data = if resource.holds_data { "  holds data" } else { "" };
        let id = resource.physical_id.as_deref().unwrap_or_default();
        let (becomes, named) = (resource.becomes.as_str(), resource.name());
        let line = format!("  {becomes:<what$}  {named:<name$}  {:<kind$}  {id}{data}", resource.resource_type);
        lines.push(line.trim_end().to_owned());
    }
    if !plan.log_groups.is_empty() {
        lines
            .push("Log groups of its functions, left where they wrote anything, deleted with --purge-logs:".to_owned());
        lines.extend(plan.log_groups.iter().map(|name| format!("  {name}")));
    }
    for hindrance in &plan.hindrances {
        let why = advice(hindrance, environment, stack_name, target);
        lines.push(match hindrance {
            Hindrance::Protected => format!("Nothing would be done: {why}."),
            Hindrance::TerminationProtection | Hindrance::Imported { .. } => format!("It would be refused: {why}."),
        });
    }
    if plan.hindrances.is_empty() {
        lines.push("Nothing was changed.".to_owned());
    }
    lines
}

fn widest(resources: &[Resource], of: impl Fn(&Resource) -> usize) -> usize {
    resources.iter().map(of).max().unwrap_or(0)
}

/// What is left, each with the command that removes it.
pub(crate) fn leftovers(left: &Leftovers) -> Vec<String> {
    let mut lines = Vec::new();
    let all: Vec<&Leftover> = left.retained.iter().chain(&left.log_groups).collect();
    if !all.is_empty() {
        lines.push("Left behind; each with the command that removes it, in that account:".to_owned());
    }
    for leftover in all {
        lines.push(format!("  {leftover}"));
        lines.push(match &leftover.command {
            Some(command) => format!("    {command}"),
            None => "    AWS has no command for it: look at what it made".to_owned(),
        });
    }
    if left.more > 0 {
        lines.push(format!("  and {} more", left.more));
    }
    if !left.purged.is_empty() {
        lines.push(format!("Log groups deleted: {}", left.purged.join(", ")));
    }
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use serde_json::json;
    use slipway_domain::names::Region;

    use super::*;

    #[test]
    fn whoever_looks_sees_each_resource_and_what_hinders() {
        let resource = |path: &[&str], id: &str, kind: &str, becomes: &str, data: bool| {
            json!({"stack_id": "arn:1", "path": path, "logical_id": id, "physical_id": id.to_lowercase(), "resource_type": kind,
                "becomes": becomes, "holds_data": data})
        };
        let read: Plan = serde_json::from_value(json!({
            "environment": {"project": 101, "application": "news", "stage": "dev", "environment": "review/x"},
            "stack_name": "slipway-news-dev-review-x-1", "stack_status": "CREATE_COMPLETE",
            "target": {"account": "111111111111", "region": "eu-central-1", "protected": false},
            "hindrances": [{"imported": {"export": "Shared Topic", "by": ["one", "two"]}}],
            "resources": [
                resource(&[], "Uploads", "AWS::S3::Bucket", "emptied", true),
                resource(&["Child"], "Table", "AWS::DynamoDB::Table", "retained", true),
                resource(&[], "Api", "AWS::Lambda::Function", "deleted", false),
            ],
            "log_groups": ["/aws/lambda/api"],
        }))
        .unwrap();
        assert_eq!(
            plan(&read).join("\n"),
            "\
review/x in dev (news, project 101): the stack slipway-news-dev-review-x-1 (CREATE_COMPLETE) in account 111111111111
  emptied and deleted  Uploads      AWS::S3::Bucket        uploads  holds data
  retained             Child.Table  AWS::DynamoDB::Table   table  holds data
  deleted              Api          AWS::Lambda::Function  api
Log groups of its functions, left where they wrote anything, deleted with --purge-logs:
  /aws/lambda/api
It would be refused: the stack slipway-news-dev-review-x-1 exports Shared Topic, which other stacks in account 111111111111 import: one, two; nothing was touched. Let them do without it, or delete them, first; who imports it shows: aws cloudformation list-imports --export-name 'Shared Topic' --region eu-central-1."
        );
    }

    #[test]
    fn what_is_left_comes_with_its_command() {
        let region = Region::new("eu-central-1").unwrap();
        let mut left = Leftovers { more: 2, purged: vec!["/aws/lambda/b".into()], ..Leftovers::default() };
        left.retain(Leftover::resource("Thing".into(), "Custom::Thing", "thing", &region));
        left.log_groups.push(Leftover::log_group("/aws/lambda/a", &region));
        assert_eq!(
            leftovers(&left).join("\n"),
            "\
Left behind; each with the command that removes it, in that account:
  Thing (Custom::Thing thing)
    AWS has no command for it: look at what it made
  /aws/lambda/a (AWS::Logs::LogGroup /aws/lambda/a)
    aws logs delete-log-group --log-group-name /aws/lambda/a --region eu-central-1
  and 2 more
Log groups deleted: /aws/lambda/b"
        );
        assert!(leftovers(&Leftovers::default()).is_empty());
    }
}
