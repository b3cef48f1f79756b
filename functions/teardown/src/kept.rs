//! What CloudFormation kept of a stack, as its events tell it: by force, or because it was told to.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use slipway_aws::target::Stack;
use slipway_domain::names::Region;
use slipway_domain::teardown::{self, Holding, Leftover};
use slipway_handler::Failure;

use crate::survey::MOST_STACKS;

/// What was kept.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The resources, those of the stack itself first. What is in a nested stack that was kept is not named by itself.
    pub(crate) resources: Vec<Leftover>,
    /// The log groups of all functions that were kept, also of those in such a nested stack: they go on writing there.
    pub(crate) log_groups: BTreeSet<String>,
}

/// Reads what was kept of the stack `root`, and of those that were nested in it, since `since`. `known` are resources that are known to
/// have been kept.
pub(crate) async fn kept(
    stack: &Stack,
    root: &str,
    since: Timestamp,
    known: &[Leftover],
    region: &Region,
) -> Result<Kept, Failure> {
    let mut kept = Kept::default();
    let mut gone = vec![(root.to_owned(), Vec::new())];
    let mut next = 0;
    while let Some((id, path)) = gone.get(next).cloned() {
        next += 1;
        // Newest first: what was told last of each counts.
        let mut told = BTreeMap::new();
        for event in stack.events(&id, since).await? {
            told.entry(event.logical_id.clone()).or_insert(event);
        }
        for event in told.into_values() {
            let Some(physical_id) = event.physical_id.filter(|physical_id| *physical_id != id) else { continue };
            let path: Vec<String> = path.iter().chain([&event.logical_id]).cloned().collect();
            if event.status == "DELETE_SKIPPED" {
                kept.resources.push(Leftover::resource(path.join("."), &event.resource_type, &physical_id, region));
            } else if teardown::holding(&event.resource_type) == Holding::Stack
                && gone.len() < MOST_STACKS
                && !gone.iter().any(|(known, _)| *known == physical_id)
            {
                gone.push((physical_id, path));
            }
        }
    }
    let all = || known.iter().chain(&kept.resources);
    kept.log_groups = all().filter_map(|one| teardown::log_group(&one.resource_type, &one.physical_id)).collect();
    let stacks = all().filter(|one| teardown::holding(&one.resource_type) == Holding::Stack);
    let mut stacks: Vec<String> = stacks.map(|one| one.physical_id.clone()).collect();
    next = 0;
    while let Some(id) = stacks.get(next).cloned() {
        next += 1;
        for listed in stack.resources(&id).await? {
            let Some(physical_id) = listed.physical_id else { continue };
            kept.log_groups.extend(teardown::log_group(&listed.resource_type, &physical_id));
            if teardown::holding(&listed.resource_type) == Holding::Stack && !stacks.contains(&physical_id) {
                stacks.push(physical_id);
            }
        }
    }
    Ok(kept)
}
