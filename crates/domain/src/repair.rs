//! A stack whose update could not be rolled back: what is wrong with it, and how its rollback goes on.
//!
//! What CloudFormation does then, and what it takes to name a resource that it is to skip:
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ContinueUpdateRollback.html>.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cause::{STACK, StackEvent};
use crate::change_set::{OpeningError, SeenStack, busy_for_too_long, needs_person};
use crate::deployment::Deployment;
use crate::names::RolledBackName;
use crate::stack_status::{Entry, StackStatus};

/// The most resources that one repair may skip.
pub const MAX_SKIPPED: usize = 100;
/// The most resources that are recorded and shown.
pub const MAX_SHOWN: usize = 100;
/// The most characters of a reason that are recorded.
const MAX_REASON_CHARS: usize = 500;
/// How an operation that goes back begins.
const ROLLING_BACK: &str = "UPDATE_ROLLBACK_IN_PROGRESS";

/// What is asked of a repair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// To look what is wrong, and to change nothing.
    Look,
    /// To go on, and to try each resource again.
    Retry,
    /// To go on without these resources, and to try the others again.
    Skip(SkipList),
}

impl Asked {
    /// The job that `job`, which asks for this, counts as: what it asks for is part of its name, so that a job which looks and one
    /// which goes on are never taken for tries of the same.
    #[must_use]
    pub fn job(&self, job: &str) -> String {
        match self {
            Asked::Look => format!("{job} looks"),
            Asked::Retry => format!("{job} retries"),
            Asked::Skip(SkipList(names)) => {
                let names: Vec<&str> = names.iter().map(RolledBackName::as_str).collect();
                format!("{job} skips {}", names.join(","))
            }
        }
    }
}

/// Resources to go on without: at least one, at most [`MAX_SKIPPED`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeSet<RolledBackName>", into = "BTreeSet<RolledBackName>")]
pub struct SkipList(BTreeSet<RolledBackName>);

/// A list of resources that is too short or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} resources to skip: from 1 to {MAX_SKIPPED} may be named")]
pub struct SkipListLength(usize);

impl SkipList {
    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &RolledBackName> {
        self.0.iter()
    }
}

impl TryFrom<BTreeSet<RolledBackName>> for SkipList {
    type Error = SkipListLength;
    fn try_from(names: BTreeSet<RolledBackName>) -> Result<Self, SkipListLength> {
        if (1..=MAX_SKIPPED).contains(&names.len()) { Ok(Self(names)) } else { Err(SkipListLength(names.len())) }
    }
}

impl From<SkipList> for BTreeSet<RolledBackName> {
    fn from(list: SkipList) -> Self {
        list.0
    }
}

/// What a repair does with the stack that it finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// Nothing: a deployment can go on from there.
    Nothing,
    /// It waits for what is going on with it.
    Wait,
    /// Its rollback failed, and can go on.
    Stuck {
        /// The stack's id.
        stack_id: String,
    },
}

/// How the repair `deployment` goes on from what is `seen` under its stack's name at `now`; it waits for the stack since `since`.
///
/// # Errors
/// [`OpeningError`]: what a continued rollback does not lead out of is a person's.
pub fn open(
    deployment: &Deployment,
    seen: Option<SeenStack<'_>>,
    since: Timestamp,
    now: Timestamp,
) -> Result<Opening, OpeningError> {
    let Some(seen) = seen else { return Ok(Opening::Nothing) };
    let status = StackStatus::parse(seen.status)?;
    match status.entry(deployment.target.protected) {
        Entry::Create | Entry::Update | Entry::Recreate => Ok(Opening::Nothing),
        Entry::Busy => busy_for_too_long(deployment, status, since, now).map_or(Ok(Opening::Wait), Err),
        Entry::Repair if status == StackStatus::UpdateRollbackFailed => {
            Ok(Opening::Stuck { stack_id: seen.id.to_owned() })
        }
        Entry::Repair => Err(needs_person(deployment, status)),
    }
}

/// Whether `event` is the one with which the last rollback of the stack `stack_id` began: what is older does not matter.
#[must_use]
pub fn begins_rollback(event: &StackEvent, stack_id: &str) -> bool {
    event.physical_id.as_deref() == Some(stack_id) && event.status == ROLLING_BACK
}

/// What the last rollback of a stack, or of a nested one, told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRollback {
    /// The stack's id.
    pub stack_id: String,
    /// Whether it is in another one.
    pub nested: bool,
    /// Its events since the last rollback began, newest first, as CloudFormation tells them.
    pub events: Vec<StackEvent>,
}

impl LastRollback {
    /// The resources that could not be rolled back, by their logical ids: the last that was told of each. One that was only given
    /// up because of another is none of them, and CloudFormation does not let it be skipped.
    fn failed(&self) -> BTreeMap<&str, &StackEvent> {
        let mut last: BTreeMap<&str, &StackEvent> = BTreeMap::new();
        for event in self.events.iter().filter(|event| event.physical_id.as_deref() != Some(&self.stack_id)) {
            last.entry(&event.logical_id).or_insert(event);
        }
        last.retain(|_, event| event.status == "UPDATE_FAILED" && !event.is_given_up());
        last
    }

    /// The ids of the nested stacks in it that could not be rolled back.
    #[must_use]
    pub fn failed_children(&self) -> Vec<String> {
        self.failed().into_values().filter_map(nested_stack).map(str::to_owned).collect()
    }

    /// What ResourcesToSkip calls the resource: in a nested stack by that stack's own name, not by its logical id.
    fn name(&self, logical_id: &str) -> Option<RolledBackName> {
        let name = match self.stack_id.split('/').nth(1) {
            Some(stack) if self.nested => format!("{stack}.{logical_id}"),
            Some(_) | None => logical_id.to_owned(),
        };
        RolledBackName::new(name).ok()
    }
}

/// The id of the stack that a resource is.
fn nested_stack(event: &StackEvent) -> Option<&str> {
    event.physical_id.as_deref().filter(|id| event.resource_type == STACK && id.starts_with("arn:"))
}

/// A resource that CloudFormation could not roll back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedResource {
    /// How it is named to be skipped.
    pub name: RolledBackName,
    /// Its type.
    pub resource_type: String,
    /// Why, in CloudFormation's words.
    pub reason: Option<String>,
    /// What is done with it; nothing when the repair only looks.
    pub then: Option<Treatment>,
}

/// What a repair does with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Treatment {
    /// CloudFormation counts it as rolled back; it stays as it is.
    Skipped,
    /// CloudFormation tries once more to roll it back.
    TriedAgain,
}

/// The resources that could not be rolled back in `stacks`, by name. A nested stack is one of them only when nothing in it is.
#[must_use]
pub fn failed(stacks: &[LastRollback]) -> Vec<FailedResource> {
    let explained: BTreeSet<&str> =
        stacks.iter().filter(|stack| !stack.failed().is_empty()).map(|stack| stack.stack_id.as_str()).collect();
    let mut found = Vec::new();
    for stack in stacks {
        for (logical_id, event) in stack.failed() {
            let Some(name) = stack.name(logical_id) else { continue };
            if nested_stack(event).is_some_and(|id| explained.contains(id)) {
                continue;
            }
            let reason = event.reason.as_deref().map(|reason| reason.chars().take(MAX_REASON_CHARS).collect());
            let resource_type = event.resource_type.clone();
            found.push(FailedResource { name, resource_type, reason, then: None });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Resources that shall be skipped did not fail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nothing was done: {} cannot be skipped; what could not be rolled back is {}", .asked.join(", "), those(.failed))]
pub struct NotAmong {
    asked: Vec<String>,
    failed: Vec<String>,
}

fn those(failed: &[String]) -> String {
    if failed.is_empty() { "not told".to_owned() } else { failed.join(", ") }
}

/// What a repair found, and does with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The stack's status; nothing when there is no stack.
    pub stack_status: Option<String>,
    /// The resources that could not be rolled back; at most [`MAX_SHOWN`].
    pub failed: Vec<FailedResource>,
    /// How many more there are.
    pub more: usize,
}

impl Found {
    /// A stack that needs no repair.
    #[must_use]
    pub fn nothing(stack_status: Option<&str>) -> Self {
        Self { stack_status: stack_status.map(str::to_owned), ..Self::default() }
    }

    /// A stack whose rollback failed because of `failed`.
    #[must_use]
    pub fn stuck(asked: &Asked, mut failed: Vec<FailedResource>) -> Self {
        for resource in &mut failed {
            resource.then = match asked {
                Asked::Look => None,
                Asked::Skip(SkipList(names)) if names.contains(&resource.name) => Some(Treatment::Skipped),
                Asked::Retry | Asked::Skip(_) => Some(Treatment::TriedAgain),
            };
        }
        // Those that are skipped are shown whatever their number is: there are no more of them than are shown.
        failed.sort_by(|a, b| (a.then, &a.name).cmp(&(b.then, &b.name)));
        let more = failed.len().saturating_sub(MAX_SHOWN);
        failed.truncate(MAX_SHOWN);
        Self { stack_status: Some(StackStatus::UpdateRollbackFailed.to_string()), failed, more }
    }

    /// Whether the stack waits for a repair.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.stack_status.as_deref() == Some(StackStatus::UpdateRollbackFailed.as_str())
    }

    /// Whether the rollback goes on without anything.
    #[must_use]
    pub fn skips(&self) -> bool {
        self.failed.iter().any(|resource| resource.then == Some(Treatment::Skipped))
    }

    /// The names of the resources to skip as they were `asked` for: each of them must have failed.
    ///
    /// # Errors
    /// [`NotAmong`].
    pub fn to_skip(&self, asked: &Asked) -> Result<Vec<RolledBackName>, NotAmong> {
        let names = match asked {
            Asked::Look | Asked::Retry => return Ok(Vec::new()),
            Asked::Skip(SkipList(names)) => names,
        };
        let known = |name: &&RolledBackName| self.failed.iter().any(|resource| resource.name == **name);
        let unknown: Vec<String> = names.iter().filter(|name| !known(name)).map(ToString::to_string).collect();
        if unknown.is_empty() {
            return Ok(names.iter().cloned().collect());
        }
        let mut failed: Vec<String> = self.failed.iter().map(|resource| resource.name.to_string()).collect();
        failed.sort();
        Err(NotAmong { asked: unknown, failed })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]
mod tests {
    use super::*;
    use crate::cause::tests::told_event as event;
    use crate::deployment::Action;
    use crate::environment::tests::deployment;

    const ROOT: &str = "arn:aws:cloudformation:eu-central-1:1:stack/app/1";
    const CHILD: &str = "arn:aws:cloudformation:eu-central-1:1:stack/app-Child-1X2Y/2";

    fn queue(id: &str, status: &str, reason: &str) -> StackEvent {
        event(id, "AWS::SQS::Queue", "q", status, reason)
    }

    fn rollback(stack_id: &str, events: Vec<StackEvent>) -> LastRollback {
        LastRollback { stack_id: stack_id.into(), nested: stack_id != ROOT, events }
    }

    fn names(failed: &[FailedResource]) -> Vec<&str> {
        failed.iter().map(|resource| resource.name.as_str()).collect()
    }

    fn skip(names: &[&str]) -> Asked {
        let names: BTreeSet<_> = names.iter().map(|&name| RolledBackName::new(name).unwrap()).collect();
        Asked::Skip(names.try_into().unwrap())
    }

    #[test]
    fn what_failed_is_what_was_told_last_of_it() {
        let root = rollback(
            ROOT,
            vec![
                event("app", STACK, ROOT, "UPDATE_ROLLBACK_FAILED", "failed to update: [Queue]"),
                queue("Again", "UPDATE_COMPLETE", ""),
                queue("Dropped", "UPDATE_FAILED", "Resource update cancelled"),
                queue("Queue", "UPDATE_FAILED", "it was deleted"),
                queue("Again", "UPDATE_FAILED", "throttled"),
            ],
        );
        let found = failed(&[root]);
        assert_eq!(names(&found), ["Queue"]);
        assert_eq!(found[0].reason.as_deref(), Some("it was deleted"));
    }

    #[test]
    fn what_is_in_a_nested_stack_is_named_by_that_stacks_own_name() {
        let parent = |child: Vec<StackEvent>| {
            let root = rollback(ROOT, vec![event("Child", STACK, CHILD, "UPDATE_FAILED", "its rollback failed")]);
            assert_eq!(root.failed_children(), [CHILD]);
            failed(&[root, rollback(CHILD, child)])
        };
        let own = event("app-Child-1X2Y", STACK, CHILD, "UPDATE_ROLLBACK_FAILED", "");
        let inner = parent(vec![own.clone(), queue("Queue", "UPDATE_FAILED", "it was deleted")]);
        assert_eq!(names(&inner), ["app-Child-1X2Y.Queue"]);
        assert_eq!(names(&parent(vec![own])), ["Child"], "a nested stack without a failure of its own is itself one");
    }

    #[test]
    fn only_what_failed_may_be_skipped() {
        let all = failed(&[rollback(
            ROOT,
            vec![queue("A", "UPDATE_FAILED", ""), queue("B", "UPDATE_FAILED", ""), queue("C", "UPDATE_COMPLETE", "")],
        )]);
        let asked = skip(&["B"]);
        let found = Found::stuck(&asked, all.clone());
        assert_eq!(
            found.failed.iter().map(|found| (found.name.as_str(), found.then.unwrap())).collect::<Vec<_>>(),
            [("B", Treatment::Skipped), ("A", Treatment::TriedAgain)]
        );
        assert_eq!(found.to_skip(&asked).unwrap().len(), 1);
        assert_eq!(Found::stuck(&Asked::Retry, all.clone()).to_skip(&Asked::Retry), Ok(vec![]));
        let asked = skip(&["A", "C", "Nowhere"]);
        let refused = Found::stuck(&asked, all).to_skip(&asked).unwrap_err().to_string();
        assert_eq!(refused, "nothing was done: C, Nowhere cannot be skipped; what could not be rolled back is A, B");
    }

    #[test]
    fn a_list_and_a_record_have_a_bound() {
        let name = |number: usize| RolledBackName::new(format!("R{number}")).unwrap();
        assert!(SkipList::try_from((0..=MAX_SKIPPED).map(name).collect::<BTreeSet<_>>()).is_err());
        assert!(SkipList::try_from(BTreeSet::new()).is_err());
        let asked = skip(&["R999"]);
        let events = (0..1000).map(|number| queue(&format!("R{number}"), "UPDATE_FAILED", &"x".repeat(9999))).collect();
        let found = Found::stuck(&asked, failed(&[rollback(ROOT, events)]));
        assert_eq!((found.failed.len(), found.more), (MAX_SHOWN, 900));
        assert!(found.to_skip(&asked).is_ok(), "what is skipped is among those that are kept");
        // The most bytes of a row of the table are 400 KiB.
        assert!(serde_json::to_vec(&found).unwrap().len() < 100_000);
    }

    #[test]
    fn each_question_is_a_job_of_its_own() {
        let jobs: BTreeSet<String> = [Asked::Look, Asked::Retry, skip(&["A"]), skip(&["A", "B"])]
            .iter()
            .map(|asked| asked.job("repair"))
            .collect();
        assert_eq!(jobs.len(), 4);
    }

    #[test]
    fn only_a_failed_rollback_goes_on() {
        for protected in [false, true] {
            let deployment = deployment(Action::Repair, 1, protected);
            let now = deployment.started_at;
            for status in StackStatus::ALL {
                let seen = SeenStack { id: ROOT, status: status.as_str() };
                let opening = open(&deployment, Some(seen), now, now);
                match status.entry(protected) {
                    Entry::Busy => assert_eq!(opening, Ok(Opening::Wait), "{status}"),
                    Entry::Repair if *status == StackStatus::UpdateRollbackFailed => {
                        assert_eq!(opening, Ok(Opening::Stuck { stack_id: ROOT.into() }));
                    }
                    Entry::Repair => assert!(matches!(opening, Err(OpeningError::Repair { .. })), "{status}"),
                    Entry::Create | Entry::Update | Entry::Recreate => {
                        assert_eq!(opening, Ok(Opening::Nothing), "{status}");
                    }
                }
                let late = now + deployment.timeout.duration() * 2;
                if status.entry(protected) == Entry::Busy {
                    assert!(
                        matches!(open(&deployment, Some(seen), now, late), Err(OpeningError::Busy { .. })),
                        "{status}"
                    );
                }
            }
            assert_eq!(open(&deployment, None, now, now), Ok(Opening::Nothing));
            let unknown = SeenStack { id: ROOT, status: "UPDATE_PAUSED" };
            assert!(matches!(open(&deployment, Some(unknown), now, now), Err(OpeningError::Unknown(_))));
        }
    }
}
