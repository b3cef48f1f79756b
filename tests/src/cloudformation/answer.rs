//! Each action: what it does, and the XML that the service answers with.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::stack::{Change, ChangeSet, Misbehaviour, Phase, Stack, Told};
use super::{Call, Stacks};

/// How many events a page has.
const EVENTS_A_PAGE: usize = 100;

/// An error of the service: HTTP status, code, message.
type Refusal = (u16, &'static str, String);
type Answer = Result<String, Refusal>;

/// What a call's signature says.
pub(super) struct Signed {
    pub(super) access_key: String,
    pub(super) region: String,
    pub(super) session: Option<String>,
}

/// Answers one call, and remembers it: the HTTP status and the body, or nothing when the connection just ends.
pub(super) fn answer(stacks: &mut Stacks, form: BTreeMap<String, String>, signed: Signed) -> Option<(u16, String)> {
    let action = form.get("Action").cloned().unwrap_or_default();
    let stack = about(stacks, &form);
    let Signed { access_key, region, session } = signed;
    let mut call = Call { action, stack, form, access_key, region, session, refused: None };
    // Whoever asks about a stack that no test speaks of finds none.
    let account = call.field("RoleARN").split(':').nth(4).unwrap_or("000000000000").to_owned();
    let stack = stacks.by_name.entry(call.stack.clone()).or_insert_with(|| Stack::absent(&call.stack, &account));
    let how = stack.misbehaviour(&call.action);
    let answer = match how {
        None | Some(Misbehaviour::Lost | Misbehaviour::Garbage | Misbehaviour::Empty) => act(stacks, &call),
        Some(Misbehaviour::Throttled) => Err((400, "Throttling", "Rate exceeded".to_owned())),
        Some(Misbehaviour::Error(status, code)) => Err((status, code, "as the test wants it".to_owned())),
        Some(Misbehaviour::Silence) => Ok(String::new()),
    };
    call.refused = answer.as_ref().err().map(|(_, code, _)| (*code).to_owned());
    let action = call.action.clone();
    if matches!(how, Some(Misbehaviour::Lost | Misbehaviour::Silence)) {
        call.refused = call.refused.or_else(|| Some("NoAnswer".to_owned()));
    }
    stacks.calls.push(call);
    match (how, answer) {
        (Some(Misbehaviour::Lost | Misbehaviour::Silence), _) => None,
        (Some(Misbehaviour::Garbage), _) => Some((200, "<html>the proxy says hello".to_owned())),
        (Some(Misbehaviour::Empty), _) => Some((200, response(&action, ""))),
        (_, Ok(result)) => Some((200, response(&action, &result))),
        (_, Err((status, code, message))) => {
            let error = format!("<Type>Sender</Type>{}{}", tag("Code", code), tag("Message", &message));
            Some((status, format!("<ErrorResponse {NAMESPACE}><Error>{error}</Error></ErrorResponse>")))
        }
    }
}

const NAMESPACE: &str = r#"xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/""#;

fn response(action: &str, result: &str) -> String {
    let metadata = "<ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000</RequestId></ResponseMetadata>";
    format!("<{action}Response {NAMESPACE}><{action}Result>{result}</{action}Result>{metadata}</{action}Response>")
}

/// The name of the stack that a call is about: said, in the stack's ARN, or that of the change set.
fn about(stacks: &Stacks, form: &BTreeMap<String, String>) -> String {
    let said = form.get("StackName").map(String::as_str).unwrap_or_default();
    if said.starts_with("arn:") {
        return said.split('/').nth(1).unwrap_or_default().to_owned();
    }
    if !said.is_empty() {
        return said.to_owned();
    }
    let set = form.get("ChangeSetName").map(String::as_str).unwrap_or_default();
    let holds = |stack: &&Stack| stack.change_sets.iter().any(|known| known.id == set);
    stacks.by_name.values().find(holds).map(|stack| stack.name.clone()).unwrap_or_default()
}

fn act(stacks: &mut Stacks, call: &Call) -> Answer {
    let Some(stack) = stacks.by_name.get_mut(&call.stack) else { return Err(invalid("no stack is named")) };
    match call.action.as_str() {
        "DescribeStacks" => {
            stack.look();
            known(stack, call)?;
            Ok(list("Stacks", [description(stack)]))
        }
        "DescribeStackEvents" => {
            known(stack, call)?;
            let from: usize = call.field("NextToken").parse().unwrap_or(0);
            let all: Vec<&Told> = stack.events().collect();
            let page = all.iter().skip(from).take(EVENTS_A_PAGE).map(|told| event(stack, told));
            let next = from + EVENTS_A_PAGE;
            Ok(list("StackEvents", page) + &next_token((next < all.len()).then_some(next)))
        }
        "DescribeStackResources" => {
            known(stack, call)?;
            Ok(list("StackResources", stack.resources.iter().map(|resource| resource_of(stack, resource))))
        }
        "ListStackResources" => {
            known(stack, call)?;
            Ok(list("StackResourceSummaries", stack.resources.iter().map(|resource| resource_of(stack, resource))))
        }
        "GetTemplate" => {
            known(stack, call)?;
            if stack.status.as_deref() == Some("REVIEW_IN_PROGRESS") {
                return Err(invalid("GetTemplate operation cannot be called on REVIEW_IN_PROGRESS stacks."));
            }
            let resources =
                stack.resources.iter().map(|one| format!(r#""{}":{{"Type":"{}"}}"#, one.logical_id, one.kind));
            let resources = resources.collect::<Vec<_>>().join(",");
            Ok(tag("TemplateBody", &format!(r#"{{"Resources":{{{resources}}}}}"#)))
        }
        "GetTemplateSummary" => {
            let parameters = stack.parameters.iter().map(|(name, value)| {
                tag("ParameterKey", name) + &tag("DefaultValue", value) + &tag("ParameterType", "String")
            });
            Ok(list("Parameters", parameters))
        }
        "ListChangeSets" => {
            known(stack, call)?;
            Ok(list("Summaries", stack.change_sets.iter().map(|set| summary(stack, set))))
        }
        "CreateChangeSet" => create(stack, call),
        "DescribeChangeSet" => describe(stack, call),
        "ExecuteChangeSet" => execute(stack, call),
        "DeleteChangeSet" => {
            let place = set(stack, call)?;
            stack.change_sets.remove(place);
            Ok(String::new())
        }
        "DeleteStack" => delete(stack, call),
        "ContinueUpdateRollback" => {
            known(stack, call)?;
            if stack.status.as_deref() != Some("UPDATE_ROLLBACK_FAILED") {
                let status = stack.status.clone().unwrap_or_default();
                return Err(invalid(&format!(
                    "Stack:{} is in {status} state and can not continue rollback.",
                    stack.id()
                )));
            }
            let phases = match stack.going_on.as_slice() {
                [] => vec![Phase::of("UPDATE_ROLLBACK_IN_PROGRESS"), Phase::of("UPDATE_ROLLBACK_COMPLETE")],
                phases => phases.to_vec(),
            };
            stack.begin(call.field("ClientRequestToken"), phases);
            Ok(String::new())
        }
        "UpdateTerminationProtection" => {
            known(stack, call)?;
            stack.termination_protection = call.field("EnableTerminationProtection") == "true";
            Ok(tag("StackId", &stack.id()))
        }
        "SetStackPolicy" => {
            known(stack, call)?;
            stack.policy = Some(call.field("StackPolicyBody").to_owned());
            Ok(String::new())
        }
        other => Err((400, "InvalidAction", format!("Could not find operation {other} for version 2010-05-15"))),
    }
}

fn invalid(message: &str) -> Refusal {
    (400, "ValidationError", message.to_owned())
}

fn known(stack: &Stack, call: &Call) -> Result<(), Refusal> {
    let asked = call.field("StackName");
    // A change set's ARN may speak for its stack.
    if (asked.is_empty() && stack.status.is_some()) || stack.answers_to(asked) {
        return Ok(());
    }
    Err(invalid(&match call.action.as_str() {
        "DescribeStacks" => format!("Stack with id {asked} does not exist"),
        _ => format!("Stack [{asked}] does not exist"),
    }))
}

/// Statuses that admit an update. Those that failed do where nothing was rolled back:
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stack-failure-options.html>.
const UPDATABLE: [&str; 7] = [
    "CREATE_COMPLETE",
    "CREATE_FAILED",
    "UPDATE_COMPLETE",
    "UPDATE_FAILED",
    "UPDATE_ROLLBACK_COMPLETE",
    "IMPORT_COMPLETE",
    "IMPORT_ROLLBACK_COMPLETE",
];

fn create(stack: &mut Stack, call: &Call) -> Answer {
    let name = call.field("ChangeSetName");
    let client_token = call.field("ClientToken");
    if let Some(same) = stack.change_sets.iter().find(|set| set.name == name && set.stack == stack.name) {
        if !client_token.is_empty() && same.client_token == client_token {
            return Ok(tag("Id", &same.id) + &tag("StackId", &stack.id()));
        }
        return Err((400, "AlreadyExistsException", format!("ChangeSet {name} already exists")));
    }
    let creates = call.field("ChangeSetType") == "CREATE";
    let status = stack.status.clone().filter(|status| !stack.gone && status != "DELETE_COMPLETE");
    match (creates, status.as_deref()) {
        (true, None) | (true, Some("REVIEW_IN_PROGRESS")) => {}
        (true, Some(_)) => {
            let message = "already exists and cannot be created again with the changeSet";
            return Err(invalid(&format!("Stack [{}] {message} [{name}].", stack.name)));
        }
        (false, None) => return Err(invalid(&format!("Stack [{}] does not exist", stack.name))),
        (false, Some(status)) if !UPDATABLE.contains(&status) => {
            return Err(invalid(&format!("Stack:{} is in {status} state and can not be updated.", stack.id())));
        }
        (false, Some(_)) => {}
    }
    let mut parameters = BTreeMap::new();
    for (name, value) in call.parameters() {
        let previous = stack.parameters.get(&name).filter(|_| !creates);
        let Some(value) = value.or_else(|| previous.cloned()) else {
            let message = "Cannot specify usePreviousValue as true for a parameter key not in the previous template";
            return Err(invalid(&format!("Invalid input for parameter key {name}. {message}")));
        };
        parameters.insert(name, value);
    }
    if creates && status.is_none() {
        stack.shell();
    }
    let place = format!("arn:aws:cloudformation:{}:{}:changeSet", slipway_local::REGION, stack.account);
    let id = format!("{place}/{name}/{:08}-0000", stack.change_sets.len());
    let mut set = ChangeSet::ready(&id, &stack.name).through(&stack.making);
    set.client_token = client_token.to_owned();
    set.creates = creates;
    set.nested = call.field("IncludeNestedStacks") == "true";
    set.parameters = parameters;
    set.pages = stack.pages.clone();
    stack.change_sets.push(set);
    Ok(tag("Id", &id) + &tag("StackId", &stack.id()))
}

/// Which of the stack's change sets a call means.
fn set(stack: &Stack, call: &Call) -> Result<usize, Refusal> {
    let asked = call.field("ChangeSetName");
    if !asked.starts_with("arn:") {
        known(stack, call)?;
    }
    let is = |set: &ChangeSet| {
        let named = set.id == asked || (set.name == asked && set.stack == stack.name);
        named && set.now.status() != "DELETE_COMPLETE"
    };
    let missing = || (404, "ChangeSetNotFound", format!("ChangeSet [{asked}] does not exist"));
    stack.change_sets.iter().position(is).ok_or_else(missing)
}

fn describe(stack: &mut Stack, call: &Call) -> Answer {
    let page: usize = call.field("NextToken").parse().unwrap_or(0);
    let place = set(stack, call)?;
    if page == 0
        && let Some(set) = stack.change_sets.get_mut(place)
    {
        set.look();
    }
    // That look may have been the one that finds it gone.
    let place = set(stack, call)?;
    let Some(set) = stack.change_sets.get(place) else { return Err(invalid("no change set")) };
    let values = call.field("IncludePropertyValues") == "true";
    let changes = set.pages.get(page).into_iter().flatten().map(|entry| change(entry, values, set.nested));
    let parameters = set.parameters.iter().map(|(name, value)| parameter(name, value));
    let next = (page + 1 < set.pages.len()).then_some(page + 1);
    Ok(summary(stack, set) + &list("Parameters", parameters) + &list("Changes", changes) + &next_token(next))
}

fn execute(stack: &mut Stack, call: &Call) -> Answer {
    let place = set(stack, call)?;
    let token = call.field("ClientRequestToken");
    let Some(set) = stack.change_sets.get_mut(place) else { return Err(invalid("no change set")) };
    if set.executed_with.as_deref() == Some(token) && !token.is_empty() {
        return Ok(String::new());
    }
    let (status, execution) = (set.now.status().to_owned(), set.now.execution().to_owned());
    if execution != "AVAILABLE" || set.executed_with.is_some() {
        let message = "cannot be executed in its current status of";
        return Err((400, "InvalidChangeSetStatus", format!("ChangeSet [{}] {message} [{status}]", set.id)));
    }
    set.executed_with = Some(token.to_owned());
    set.now = super::SetPhase::of("CREATE_COMPLETE", "EXECUTE_IN_PROGRESS");
    let (parameters, creates) = (set.parameters.clone(), set.creates);
    stack.parameters = parameters;
    let phases = if !stack.executing.is_empty() {
        stack.executing.clone()
    } else if creates {
        vec![Phase::of("CREATE_IN_PROGRESS"), Phase::of("CREATE_COMPLETE")]
    } else {
        vec![Phase::of("UPDATE_IN_PROGRESS"), Phase::of("UPDATE_COMPLETE")]
    };
    stack.begin(token, phases);
    Ok(String::new())
}

fn delete(stack: &mut Stack, call: &Call) -> Answer {
    if !stack.answers_to(call.field("StackName")) {
        // Nothing to delete is deleted.
        return Ok(String::new());
    }
    let status = stack.status.clone().unwrap_or_default();
    let name = stack.name.clone();
    if stack.termination_protection {
        return Err(invalid(&format!("Stack [{name}] cannot be deleted while TerminationProtection is enabled")));
    }
    let token = call.field("ClientRequestToken");
    match status.as_str() {
        "DELETE_COMPLETE" => {}
        "DELETE_IN_PROGRESS" if !stack.next.is_empty() => stack.go_on(token),
        "CREATE_IN_PROGRESS" | "REVIEW_IN_PROGRESS" | "DELETE_IN_PROGRESS" => begin_deletion(stack, token),
        busy if busy.ends_with("_IN_PROGRESS") => {
            return Err(invalid(&format!("Stack [{name}] cannot be deleted while in status {busy}")));
        }
        _ => begin_deletion(stack, token),
    }
    Ok(String::new())
}

fn begin_deletion(stack: &mut Stack, token: &str) {
    let phases = match stack.deleting.as_slice() {
        [] => vec![Phase::of("DELETE_IN_PROGRESS"), Phase::of("DELETE_COMPLETE")],
        phases => phases.to_vec(),
    };
    stack.change_sets.retain(|set| set.stack != stack.name);
    stack.begin(token, phases);
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn tag(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escape(text))
}

fn optional(name: &str, text: Option<&str>) -> String {
    text.map(|text| tag(name, text)).unwrap_or_default()
}

fn list(name: &str, members: impl IntoIterator<Item = String>) -> String {
    let mut text = format!("<{name}>");
    for member in members {
        let _ = write!(text, "<member>{member}</member>");
    }
    text + &format!("</{name}>")
}

fn next_token(next: Option<usize>) -> String {
    optional("NextToken", next.map(|next| next.to_string()).as_deref())
}

fn parameter(name: &str, value: &str) -> String {
    tag("ParameterKey", name) + &tag("ParameterValue", value)
}

fn description(stack: &Stack) -> String {
    let outputs = stack.outputs.iter().map(|(name, value)| tag("OutputKey", name) + &tag("OutputValue", value));
    let parameters = stack.parameters.iter().map(|(name, value)| parameter(name, value));
    [
        tag("StackId", &stack.id()),
        tag("StackName", &stack.name),
        tag("StackStatus", stack.status.as_deref().unwrap_or_default()),
        tag("CreationTime", "2026-01-01T00:00:00.000Z"),
        tag("EnableTerminationProtection", if stack.termination_protection { "true" } else { "false" }),
        list("Parameters", parameters),
        list("Outputs", outputs),
    ]
    .concat()
}

fn event(stack: &Stack, told: &Told) -> String {
    let Told { id, at, token, event } = told;
    let of_stack = event.resource.is_empty();
    let resource = if of_stack { stack.name.as_str() } else { event.resource.as_str() };
    let made_up = || if of_stack { stack.id() } else { format!("physical-{resource}") };
    let physical = event.physical_id.clone().unwrap_or_else(made_up);
    [
        tag("StackId", &stack.id()),
        tag("StackName", &stack.name),
        tag("EventId", id),
        tag("LogicalResourceId", resource),
        tag("PhysicalResourceId", &physical),
        tag("ResourceType", &event.kind),
        tag("Timestamp", &at.to_string()),
        tag("ResourceStatus", &event.status),
        optional("ResourceStatusReason", event.reason.as_deref()),
        optional("ClientRequestToken", token.as_deref()),
    ]
    .concat()
}

fn resource_of(stack: &Stack, resource: &super::Resource) -> String {
    [
        tag("StackId", &stack.id()),
        tag("StackName", &stack.name),
        tag("LogicalResourceId", &resource.logical_id),
        tag("PhysicalResourceId", &resource.physical_id),
        tag("ResourceType", &resource.kind),
        tag("Timestamp", "2026-01-01T00:00:00.000Z"),
        tag("LastUpdatedTimestamp", "2026-01-01T00:00:00.000Z"),
        tag("ResourceStatus", &resource.status),
        optional("ResourceStatusReason", resource.reason.as_deref()),
    ]
    .concat()
}

fn summary(stack: &Stack, set: &ChangeSet) -> String {
    [
        tag("ChangeSetName", &set.name),
        tag("ChangeSetId", &set.id),
        tag("StackId", &stack.id()),
        tag("StackName", &set.stack),
        tag("Status", set.now.status()),
        tag("ExecutionStatus", set.now.execution()),
        optional("StatusReason", set.now.reason()),
        tag("CreationTime", "2026-01-01T00:00:00.000Z"),
        tag("IncludeNestedStacks", if set.nested { "true" } else { "false" }),
    ]
    .concat()
}

/// Values, and the change sets of nested stacks, only where they were asked for.
fn change(change: &Change, values: bool, nested: bool) -> String {
    let details = change.properties.iter().map(|property| {
        let value = |name: &str, value: &Option<String>| optional(name, value.as_deref().filter(|_| values));
        let target = [
            tag("Attribute", "Properties"),
            tag("Name", &property.name),
            tag("Path", &property.path),
            tag("RequiresRecreation", &property.recreation),
            value("BeforeValue", &property.before),
            value("AfterValue", &property.after),
        ];
        format!("<Target>{}</Target>", target.concat())
            + &tag("Evaluation", "Static")
            + &tag("ChangeSource", "DirectModification")
    });
    let context = |name: &str, value: fn(&super::Property) -> &Option<String>| {
        let known = change.properties.iter().filter_map(|property| Some((&property.name, value(property).as_ref()?)));
        let properties: serde_json::Map<_, _> =
            known.map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        let context = serde_json::json!({ "Properties": properties }).to_string();
        optional(name, Some(context.as_str()).filter(|_| values && !change.properties.is_empty()))
    };
    let scope: Vec<String> = if change.properties.is_empty() { Vec::new() } else { vec!["Properties".to_owned()] };
    let resource = [
        tag("Action", change.action),
        tag("LogicalResourceId", &change.resource),
        optional("PhysicalResourceId", change.physical_id.as_deref()),
        tag("ResourceType", &change.kind),
        optional("Replacement", change.replacement),
        list("Scope", scope),
        list("Details", details),
        optional("ChangeSetId", change.change_set.as_deref().filter(|_| nested)),
        context("BeforeContext", |property| &property.before),
        context("AfterContext", |property| &property.after),
    ];
    tag("Type", "Resource") + &format!("<ResourceChange>{}</ResourceChange>", resource.concat())
}
