//! What is in a stack and in its nested ones, and what becomes of it.

use slipway_aws::target::{Stack, StackDescription};
use slipway_domain::ErrorName;
use slipway_domain::names::Region;
use slipway_domain::stack_status::StackStatus;
use slipway_domain::teardown::{Becomes, Declared, Hindrance, Holding, Leftover, Resource, Rules, TeardownPolicy};
use slipway_handler::Failure;
use slipway_template::{DeletionPolicy, Template};

/// The most stacks, nested ones included, that one teardown looks into.
pub(crate) const MOST_STACKS: usize = 50;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Every resource, those of nested stacks after the stack itself.
    pub(crate) resources: Vec<Resource>,
    /// What is exported and would be gone.
    exports: Vec<String>,
}

/// A stack that is looked into.
struct Inside {
    id: String,
    path: Vec<String>,
    retained: bool,
}

/// Looks into the stack `root`, and into those that are nested in it.
pub(crate) async fn survey(
    stack: &Stack,
    root: &StackDescription,
    policy: &TeardownPolicy,
    protected: bool,
) -> Result<Survey, Failure> {
    if root.status == StackStatus::ReviewInProgress.as_str() {
        // Nothing was ever made, and CloudFormation shows no template of such a stack.
        return Ok(Survey::default());
    }
    let mut survey = Survey { exports: root.exports.clone(), ..Survey::default() };
    let mut stacks = vec![Inside { id: root.id.clone(), path: Vec::new(), retained: false }];
    let mut next = 0;
    while let Some(Inside { id, path, retained }) = stacks.get(next) {
        let (id, path, retained) = (id.clone(), path.clone(), *retained);
        next += 1;
        if !path.is_empty() && !retained {
            survey.exports.extend(stack.describe(Some(&id)).await?.into_iter().flat_map(|nested| nested.exports));
        }
        let template = stack.template(&id).await?.and_then(|body| Template::parse(body.as_bytes()).ok());
        for listed in stack.resources(&id).await? {
            let policy_of = template.as_ref().and_then(|template| template.deletion_policy(&listed.logical_id));
            let declared = match &policy_of {
                Some(DeletionPolicy::Absent) => Declared::Nothing,
                Some(DeletionPolicy::Text(text)) => Declared::Policy(text),
                Some(DeletionPolicy::Computed) | None => Declared::Unclear,
            };
            let resource = Resource::new(listed, &id, &path, declared, Rules { policy, protected, retained });
            if let (Holding::Stack, Some(nested)) = (resource.holding(), &resource.physical_id) {
                let path = path.iter().chain([&resource.logical_id]).cloned().collect();
                let retained = resource.becomes == Becomes::Retained;
                stacks.push(Inside { id: nested.clone(), path, retained });
            }
            survey.resources.push(resource);
        }
        if stacks.len() > MOST_STACKS {
            let message = format!("the stack {} has more than {MOST_STACKS} nested stacks in it", root.id);
            return Err(Failure::new(ErrorName::LimitExceeded, message));
        }
    }
    Ok(survey)
}

impl Survey {
    /// What keeps the stack `root` from being deleted.
    pub(crate) async fn hindrances(
        &self,
        stack: &Stack,
        root: &StackDescription,
        protected: bool,
    ) -> Result<Vec<Hindrance>, Failure> {
        let mut found = Vec::new();
        if protected {
            found.push(Hindrance::Protected);
        }
        if root.termination_protection {
            found.push(Hindrance::TerminationProtection);
        }
        for export in &self.exports {
            let mut by = stack.importers(export).await?;
            // Stacks of the same tree go together.
            by.retain(|importer| !self.resources.iter().any(|resource| resource.is_stack_called(importer)));
            by.retain(|importer| root.id.split('/').nth(1) != Some(importer));
            if !by.is_empty() {
                found.push(Hindrance::Imported { export: export.clone(), by });
            }
        }
        Ok(found)
    }

    /// What stays without its stack. What is in a stack that stays is not named by itself.
    pub(crate) fn retained(&self, region: &Region) -> Vec<Leftover> {
        let inside = |resource: &&Resource| {
            let stacks = self.resources.iter().filter(|stack| stack.holding() == Holding::Stack);
            let mut kept = stacks.filter(|stack| stack.becomes == Becomes::Retained);
            kept.any(|stack| stack.physical_id.as_ref() == Some(&resource.stack_id))
        };
        let retained = self.resources.iter().filter(|resource| resource.becomes == Becomes::Retained);
        retained.filter(|resource| !inside(resource)).filter_map(|resource| leftover(resource, region)).collect()
    }

    /// The log groups that Lambda makes for its functions, and that are no resources of the stack themselves.
    pub(crate) fn log_groups(&self) -> Vec<String> {
        let going = self.resources.iter().filter(|resource| resource.becomes == Becomes::Deleted);
        let mut groups: Vec<String> = going.filter_map(Resource::log_group).collect();
        groups.retain(|group| !self.resources.iter().any(|known| known.physical_id.as_ref() == Some(group)));
        groups
    }
}

/// What a resource is when it stays.
pub(crate) fn leftover(resource: &Resource, region: &Region) -> Option<Leftover> {
    let id = resource.physical_id.as_deref()?;
    Some(Leftover::resource(resource.name(), &resource.resource_type, id, region))
}
