//! What CloudFormation says of a change set, and the review that is made of it and of its nested ones.

use std::collections::{BTreeMap, HashMap, VecDeque};

use aws_sdk_cloudformation::operation::describe_change_set::DescribeChangeSetOutput;
use aws_sdk_cloudformation::types as cfn;
use slipway_domain::approval::Bound;
use slipway_domain::change_set::SeenChangeSet;
use slipway_domain::deployment::DeploymentRecord;
use slipway_domain::names::Digest;
use slipway_domain::review::{
    Change, ChangeAction, Fate, NESTED_STACK, Property, Recreation, Replacement, Review, Unseen,
};

use super::Stack;
use crate::error::{AwsError, Kind, sort};

const CALL: &str = "cloudformation:DescribeChangeSet";
/// How deep a nested stack may be for its changes to be read.
const MAX_DEPTH: usize = 8;
/// The most calls of one review, over all nested change sets: at some tens of milliseconds each, well within a step's time.
const MAX_PAGES: usize = 100;
/// What CloudFormation shows of a `NoEcho` parameter.
const HIDDEN: &str = "****";

/// What CloudFormation says of a change set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeSetDescription {
    /// Its ARN.
    pub arn: String,
    /// The id of its stack.
    pub stack_id: String,
    /// Whether it is being made, is ready, or failed.
    pub status: String,
    /// Whether it can be, is being, or was executed.
    pub execution_status: String,
    /// Why it failed.
    pub reason: Option<String>,
    /// Its parameters. What CloudFormation hides, it hides here too.
    pub parameters: BTreeMap<String, String>,
}

impl ChangeSetDescription {
    /// What a rule looks at.
    #[must_use]
    pub fn seen(&self) -> SeenChangeSet<'_> {
        let Self { status, execution_status, reason, .. } = self;
        SeenChangeSet { status, execution_status, reason: reason.as_deref() }
    }

    /// The digest that an approval of this change set, as it is now, is bound to; nothing before the release is packaged.
    #[must_use]
    pub fn binding(&self, record: &DeploymentRecord) -> Option<Digest> {
        let release = record.release.as_ref()?;
        let bound = Bound {
            change_set_arn: &self.arn,
            stack_id: &self.stack_id,
            template: &release.template,
            manifest: &release.manifest,
            parameters: &self.parameters,
        };
        Some(bound.digest())
    }
}

impl Stack {
    /// What there is under the change set's name or ARN.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn describe_change_set(&self, name: &str) -> Result<Option<ChangeSetDescription>, AwsError> {
        let request = self.client.describe_change_set().stack_name(self.name.as_str()).change_set_name(name);
        match request.send().await.map_err(|error| sort(CALL, &error)) {
            Ok(answer) => described(answer).map(Some),
            Err(error) if error.kind == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the change set would do: all pages of its changes and of those of its nested change sets, with the values of
    /// properties. What is nested too deep, or is more than 100 pages, is said to be missing. Nothing if the change set is gone.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn review(&self, change_set_arn: &str) -> Result<Option<Review>, AwsError> {
        let mut changes: Vec<Change> = Vec::new();
        let (mut unseen, mut pages) = (None, MAX_PAGES);
        let mut sets = VecDeque::from([Set { arn: change_set_arn.to_owned(), stack: Vec::new(), change: None }]);
        while let Some(set) = sets.pop_front() {
            let (read, missing) = self.changes(&set, &mut pages).await?;
            match set.change.and_then(|index| changes.get_mut(index)) {
                Some(nested) => nested.unseen = missing,
                None if missing == Some(Unseen::Gone) => return Ok(None),
                None => unseen = missing,
            }
            for told in read {
                let mut change = change(&set.stack, &told);
                match told.change_set_id().filter(|_| change.resource_type == NESTED_STACK) {
                    Some(_) if set.stack.len() >= MAX_DEPTH => change.unseen = Some(Unseen::TooDeep),
                    Some(arn) => {
                        let stack = set.stack.iter().chain([&change.logical_id]).cloned().collect();
                        sets.push_back(Set { arn: arn.to_owned(), stack, change: Some(changes.len()) });
                    }
                    None if change.resource_type == NESTED_STACK => change.unseen = Some(Unseen::NotMade),
                    None => {}
                }
                changes.push(change);
            }
        }
        Ok(Some(Review::new(changes, unseen)))
    }

    /// The changes of one change set, and why they are not all, if so. Each page is taken off `pages`.
    async fn changes(
        &self,
        set: &Set,
        pages: &mut usize,
    ) -> Result<(Vec<cfn::ResourceChange>, Option<Unseen>), AwsError> {
        let (mut changes, mut next) = (Vec::new(), None);
        loop {
            let Some(left) = pages.checked_sub(1) else { return Ok((changes, Some(Unseen::TooMuch))) };
            *pages = left;
            let request = self.client.describe_change_set().change_set_name(&set.arn).include_property_values(true);
            // A nested stack has a name that only its change set's ARN tells.
            let root = set.change.is_none().then(|| self.name.to_string());
            let answer = match request.set_stack_name(root).set_next_token(next).send().await {
                Ok(answer) => answer,
                Err(error) => match sort(CALL, &error) {
                    error if error.kind == Kind::NotFound => return Ok((Vec::new(), Some(Unseen::Gone))),
                    error => return Err(error),
                },
            };
            changes.extend(answer.changes.unwrap_or_default().into_iter().filter_map(|change| change.resource_change));
            next = answer.next_token;
            if next.is_none() {
                return Ok((changes, None));
            }
        }
    }
}

/// A change set that is to be read.
struct Set {
    arn: String,
    /// The nested stack that it is of; empty for the root.
    stack: Vec<String>,
    /// Which change is that of the nested stack itself.
    change: Option<usize>,
}

fn described(answer: DescribeChangeSetOutput) -> Result<ChangeSetDescription, AwsError> {
    let missing = |what: &str| AwsError::unexpected(CALL, format!("a change set without {what}"));
    let parameters = answer.parameters.unwrap_or_default().into_iter();
    Ok(ChangeSetDescription {
        arn: answer.change_set_id.ok_or_else(|| missing("an id"))?,
        stack_id: answer.stack_id.ok_or_else(|| missing("a stack"))?,
        status: answer.status.ok_or_else(|| missing("a status"))?.as_str().to_owned(),
        execution_status: answer.execution_status.map(|status| status.as_str().to_owned()).unwrap_or_default(),
        reason: answer.status_reason,
        parameters: parameters.filter_map(|parameter| parameter.parameter_key.zip(parameter.parameter_value)).collect(),
    })
}

/// A word that this SDK does not know is taken for the worst that it can mean.
fn change(stack: &[String], told: &cfn::ResourceChange) -> Change {
    let action = match told.action() {
        Some(cfn::ChangeAction::Add) => ChangeAction::Add,
        Some(cfn::ChangeAction::Modify) => ChangeAction::Modify,
        Some(cfn::ChangeAction::Remove) => ChangeAction::Remove,
        Some(cfn::ChangeAction::Import) => ChangeAction::Import,
        Some(cfn::ChangeAction::SyncWithActual) => ChangeAction::Sync,
        _ => ChangeAction::Dynamic,
    };
    let (replaces, fate) = match told.policy_action() {
        Some(cfn::PolicyAction::Delete) => (false, Some(Fate::Deleted)),
        Some(cfn::PolicyAction::Retain) => (false, Some(Fate::Kept)),
        Some(cfn::PolicyAction::Snapshot) => (false, Some(Fate::Snapshot)),
        Some(cfn::PolicyAction::ReplaceAndDelete) => (true, Some(Fate::Deleted)),
        Some(cfn::PolicyAction::ReplaceAndRetain) => (true, Some(Fate::Kept)),
        Some(cfn::PolicyAction::ReplaceAndSnapshot) => (true, Some(Fate::Snapshot)),
        Some(_) | None => (false, None),
    };
    let replacement = match told.replacement() {
        Some(cfn::Replacement::True) => Replacement::Yes,
        Some(cfn::Replacement::False) | None if !replaces => Replacement::No,
        Some(_) | None => Replacement::Conditional,
    };
    let id = told.logical_resource_id().unwrap_or_default();
    Change {
        stack: stack.to_vec(),
        replacement,
        fate,
        properties: properties(action, told),
        ..Change::new(action, id, told.resource_type().unwrap_or_default())
            .with_physical_id(told.physical_resource_id())
    }
}

/// What is told of a property, in several details perhaps.
struct Told {
    path: String,
    before: Option<String>,
    after: Option<String>,
    recreation: Recreation,
    causes: Vec<String>,
}

/// The changed properties, each once; of a resource that is created or removed, what it is made of.
fn properties(action: ChangeAction, told: &cfn::ResourceChange) -> Vec<Property> {
    let context = |text: Option<&str>| -> Option<serde_json::Value> { serde_json::from_str(text?).ok() };
    let (before, after) = (context(told.before_context()), context(told.after_context()));
    if told.details().is_empty() {
        return match action {
            ChangeAction::Add | ChangeAction::Import => made_of(None, after.as_ref()),
            // What is kept stays as it is.
            ChangeAction::Remove if told.policy_action() == Some(&cfn::PolicyAction::Retain) => Vec::new(),
            ChangeAction::Remove => made_of(before.as_ref(), None),
            ChangeAction::Modify | ChangeAction::Sync | ChangeAction::Dynamic => {
                let scopes = told.scope().iter().map(|scope| format!("/{}", scope.as_str()));
                scopes.map(|path| Property::new(&path, None, None, Recreation::Never)).collect()
            }
        };
    }
    let (mut all, mut known): (Vec<Told>, HashMap<String, usize>) = (Vec::new(), HashMap::new());
    for detail in told.details() {
        let Some(target) = detail.target() else { continue };
        let found = one(target, before.as_ref(), after.as_ref());
        let index = *known.entry(found.path.clone()).or_insert(all.len());
        if index == all.len() {
            all.push(found);
        } else if let Some(same) = all.get_mut(index) {
            same.before = same.before.take().or(found.before);
            same.after = same.after.take().or(found.after);
            same.recreation = same.recreation.min(found.recreation);
        }
        let cause = detail.causing_entity().filter(|cause| !cause.is_empty());
        if let (Some(cause), Some(property)) = (cause, all.get_mut(index))
            && !property.causes.iter().any(|known| known == cause)
        {
            property.causes.push(cause.to_owned());
        }
    }
    let told = all.into_iter().map(|told| {
        let Told { path, before, after, recreation, causes } = told;
        Property::new(&path, before.as_deref(), after.as_deref(), recreation).because_of(&causes.join(", "))
    });
    told.collect()
}

/// One property, with its values from where they are told: in the detail itself, or in the resource as a whole.
fn one(
    target: &cfn::ResourceTargetDefinition,
    before: Option<&serde_json::Value>,
    after: Option<&serde_json::Value>,
) -> Told {
    let attribute = target.attribute().map_or("Properties", cfn::ResourceAttribute::as_str);
    let path = match (target.path(), target.name()) {
        (Some(path), _) if !path.is_empty() => path.to_owned(),
        (_, Some(name)) if !name.is_empty() => format!("/{attribute}/{name}"),
        _ => format!("/{attribute}"),
    };
    let hidden = [target.before_value(), target.after_value()].contains(&Some(HIDDEN));
    let value = |told: Option<&str>, context: Option<&serde_json::Value>| {
        let elsewhere = || context.filter(|_| !hidden)?.pointer(&path).map(text);
        told.map(str::to_owned).or_else(elsewhere)
    };
    let recreation = match target.requires_recreation() {
        Some(cfn::RequiresRecreation::Always) => Recreation::Always,
        Some(cfn::RequiresRecreation::Never) | None => Recreation::Never,
        Some(_) => Recreation::Conditionally,
    };
    let (before, after) = (value(target.before_value(), before), value(target.after_value(), after));
    Told { path, before, after, recreation, causes: Vec::new() }
}

/// The properties of a resource that only comes or only goes. Its metadata do nothing.
fn made_of(before: Option<&serde_json::Value>, after: Option<&serde_json::Value>) -> Vec<Property> {
    let mut properties = Vec::new();
    for (context, goes) in [(before, true), (after, false)] {
        let parts = context.and_then(serde_json::Value::as_object).into_iter().flatten();
        for (name, value) in parts.filter(|(name, _)| *name != "Metadata") {
            let mut add = |path: &str, value: &serde_json::Value| {
                let value = text(value);
                let (before, after) = if goes { (Some(value.as_str()), None) } else { (None, Some(value.as_str())) };
                properties.push(Property::new(path, before, after, Recreation::Never));
            };
            match (name.as_str(), value.as_object()) {
                ("Properties", Some(all)) => {
                    all.iter().for_each(|(name, value)| add(&format!("/Properties/{name}"), value));
                }
                (name, _) => add(&format!("/{name}"), value),
            }
        }
    }
    properties
}

/// A value as CloudFormation tells it in a detail: a string without quotes, all else as JSON.
fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
