//! CloudFormation, as far as a deployment can tell, over virtual time.
//!
//! Statuses and what leads from one to the next:
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html>; change sets:
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-updating-stacks-changesets.html> and the API
//! reference of each call. What is not documented, and is taken from what people report, says so where it stands.
//!
//! The model knows nothing of the domain's own tables: its statuses are CloudFormation's words, so that a wrong row in one is
//! not a wrong row in both.

use std::collections::VecDeque;

use slipway_domain::stages::OnFailure;

use crate::random::Random;

/// Virtual time, in milliseconds.
pub(crate) type Ms = i64;

pub(crate) const SECOND: Ms = 1000;
pub(crate) const MINUTE: Ms = 60 * SECOND;
pub(crate) const HOUR: Ms = 60 * MINUTE;

/// What AWS answers instead of what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum No {
    /// "Rate exceeded".
    Throttled,
    /// No answer; the call may have had its effect.
    Unavailable,
    /// It is not there.
    NotFound,
    /// It exists already, or was written by somebody else.
    Conflict,
    /// Not in this state.
    Refused(String),
}

/// A template, by number. What it does is decided by what a run draws for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Template(pub(crate) u32);

/// How an operation will go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Succeeds,
    Fails,
    /// It fails, and so does what CloudFormation does about it.
    FailsTwice,
    /// It goes on for longer than any deployment may.
    Hangs,
}

/// What is done to a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Create,
    Update,
    Delete,
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Succeeded,
    Failed,
}

/// An operation, for good: what the properties are checked against.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) token: Option<String>,
    stack: usize,
    pub(crate) kind: Kind,
    pub(crate) template: Option<Template>,
    pub(crate) ended: Option<End>,
}

/// What happens to a stack at a time that was fixed when its operation began.
#[derive(Debug, Clone)]
struct Phase {
    at: Ms,
    status: &'static str,
    operation: usize,
    /// A resource that fails right before.
    resource: Option<&'static str>,
    /// What is live from then on.
    live: Option<Option<Template>>,
    end: Option<End>,
}

/// An event of a stack.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) at: Ms,
    pub(crate) is_stack: bool,
    pub(crate) status: &'static str,
    pub(crate) token: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Stack {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) live: Option<Template>,
    pub(crate) termination_protection: bool,
    /// Every status that it had, and since when.
    pub(crate) history: Vec<(Ms, &'static str)>,
    plan: VecDeque<Phase>,
    pub(crate) events: Vec<Event>,
}

impl Stack {
    pub(crate) fn status(&self) -> &'static str {
        self.history.last().map_or("", |(_, status)| status)
    }

    fn status_at(&self, at: Ms) -> Option<&'static str> {
        self.history.iter().rev().find(|(since, _)| *since <= at).map(|(_, status)| *status)
    }

    pub(crate) fn is_busy(&self) -> bool {
        !self.plan.is_empty()
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.status() == "DELETE_COMPLETE"
    }
}

/// What becomes of a change set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    Ready,
    /// Nothing to change.
    Empty,
    /// A transform, a hook or a parameter is wrong.
    Wrong,
}

#[derive(Debug, Clone)]
pub(crate) struct ChangeSet {
    pub(crate) arn: String,
    pub(crate) name: String,
    pub(crate) stack: usize,
    pub(crate) creates: bool,
    pub(crate) template: Template,
    on_failure: OnFailure,
    pub(crate) made_at: Ms,
    ready_at: Ms,
    pub(crate) made: Made,
    /// Execution statuses after it became ready, and since when.
    execution: Vec<(Ms, &'static str)>,
    pub(crate) token: Option<String>,
    pub(crate) deleted_at: Option<Ms>,
}

impl ChangeSet {
    fn execution_status_at(&self, at: Ms) -> &'static str {
        if at < self.ready_at || self.made != Made::Ready {
            return "UNAVAILABLE";
        }
        self.execution.iter().rev().find(|(since, _)| *since <= at).map_or("AVAILABLE", |(_, status)| status)
    }

    /// Whether it is executed right now.
    pub(crate) fn is_executed(&self, now: Ms) -> bool {
        self.execution_status_at(now) == "EXECUTE_IN_PROGRESS"
    }

    /// Whether CloudFormation still makes it.
    pub(crate) fn is_being_made(&self, now: Ms) -> bool {
        now < self.ready_at
    }
}

/// What DescribeStacks says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StackSeen {
    pub(crate) id: String,
    pub(crate) status: &'static str,
}

/// What DescribeChangeSet says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChangeSetSeen {
    pub(crate) arn: String,
    pub(crate) stack_id: String,
    pub(crate) status: &'static str,
    pub(crate) execution_status: &'static str,
    pub(crate) reason: Option<&'static str>,
}

/// What CreateChangeSet is asked for.
#[derive(Debug, Clone)]
pub(crate) struct NewChangeSet<'a> {
    pub(crate) stack_name: &'a str,
    pub(crate) name: &'a str,
    pub(crate) creates: bool,
    pub(crate) template: Template,
    pub(crate) wrong: bool,
    /// CloudFormation is still making it when nobody waits any more.
    pub(crate) endless: bool,
    pub(crate) on_failure: OnFailure,
}

#[derive(Debug, Default)]
pub(crate) struct CloudFormation {
    pub(crate) stacks: Vec<Stack>,
    pub(crate) change_sets: Vec<ChangeSet>,
    pub(crate) operations: Vec<Operation>,
    /// What a person, looking, would see happen: for the trace.
    pub(crate) seen: Vec<(Ms, String)>,
}

impl CloudFormation {
    /// Lets happen what is due until `now`.
    pub(crate) fn advance(&mut self, now: Ms) {
        for index in 0..self.stacks.len() {
            while self.stacks[index].plan.front().is_some_and(|phase| phase.at <= now) {
                let phase = self.stacks[index].plan.pop_front().unwrap();
                self.happen(index, &phase);
            }
        }
    }

    fn happen(&mut self, index: usize, phase: &Phase) {
        let token = self.operations[phase.operation].token.clone();
        let stack = &mut self.stacks[index];
        if let Some(status) = phase.resource {
            stack.events.push(Event { at: phase.at, is_stack: false, status, token: token.clone() });
        }
        stack.events.push(Event { at: phase.at, is_stack: true, status: phase.status, token: token.clone() });
        stack.history.push((phase.at, phase.status));
        if let Some(live) = phase.live {
            stack.live = live;
        }
        self.seen.push((phase.at, format!("{} is {}", stack.id, phase.status)));
        let Some(end) = phase.end else { return };
        self.operations[phase.operation].ended = Some(end);
        let gone = stack.is_gone();
        for set in self.change_sets.iter_mut().filter(|set| set.stack == index && set.deleted_at.is_none()) {
            if set.is_executed(phase.at) {
                // EXECUTE_COMPLETE, EXECUTE_FAILED: API_DescribeChangeSet, ExecutionStatus.
                let status = if end == End::Succeeded { "EXECUTE_COMPLETE" } else { "EXECUTE_FAILED" };
                set.execution.push((phase.at, status));
            }
            // "After you execute the change set, CloudFormation removes all change sets that are associated with the stack":
            // using-cfn-updating-stacks-changesets-execute. A stack that is gone has none.
            if gone || (end == End::Succeeded && self.operations[phase.operation].kind != Kind::Delete) {
                set.deleted_at = Some(phase.at);
            }
        }
    }

    /// The stack that has the name now.
    pub(crate) fn named(&self, name: &str) -> Option<usize> {
        self.stacks.iter().position(|stack| stack.name == name && !stack.is_gone())
    }

    fn found(&self, name_or_id: &str) -> Option<usize> {
        self.stacks.iter().position(|stack| stack.id == name_or_id).or_else(|| self.named(name_or_id))
    }

    /// A stack that nobody of ours made.
    pub(crate) fn given(&mut self, name: &str, status: &'static str, live: Option<Template>, now: Ms) -> usize {
        let id = format!("arn:stack/{name}/{}", self.stacks.len());
        let events = vec![Event { at: now, is_stack: true, status, token: Some("somebody".into()) }];
        self.stacks.push(Stack {
            id,
            name: name.to_owned(),
            live,
            termination_protection: false,
            history: vec![(now, status)],
            plan: VecDeque::new(),
            events,
        });
        self.stacks.len() - 1
    }

    /// DescribeStacks, by name or id, as it was at `at`: any of its servers may be behind. A deleted stack answers only by its
    /// id (API_DescribeStacks, StackName).
    pub(crate) fn describe(&self, name_or_id: &str, at: Ms) -> Option<StackSeen> {
        let seen = |stack: &Stack| stack.status_at(at).map(|status| StackSeen { id: stack.id.clone(), status });
        if let Some(stack) = self.stacks.iter().find(|stack| stack.id == name_or_id) {
            return seen(stack);
        }
        let mut named = self.stacks.iter().filter(|stack| stack.name == name_or_id).filter_map(seen);
        named.find(|stack| stack.status != "DELETE_COMPLETE")
    }

    /// DescribeStackEvents by id, newest first, as it was at `at`.
    pub(crate) fn events(&self, id: &str, at: Ms) -> Vec<Event> {
        let stack = self.stacks.iter().find(|stack| stack.id == id);
        let events = stack.map(|stack| stack.events.as_slice()).unwrap_or_default();
        events.iter().filter(|event| event.at <= at).rev().cloned().collect()
    }

    /// CreateChangeSet. One of type CREATE makes a stack that is REVIEW_IN_PROGRESS, or uses one that is (API_CreateChangeSet,
    /// ChangeSetType); one of type UPDATE needs a stack that can be updated.
    pub(crate) fn create_change_set(&mut self, new: &NewChangeSet<'_>, random: &mut Random, now: Ms) -> Result<(), No> {
        let stack = self.named(new.stack_name);
        if stack.is_some_and(|stack| self.open_change_set(new.name, stack).is_some()) {
            return Err(No::Conflict);
        }
        let status = stack.map(|stack| self.stacks[stack].status());
        let busy = stack.is_some_and(|stack| self.stacks[stack].is_busy());
        let refused = |what: &str| Err(No::Refused(format!("{what} ({})", status.unwrap_or("absent"))));
        let stack = match (stack, status) {
            (None, _) if new.creates => {
                self.seen.push((now, format!("{} is made, REVIEW_IN_PROGRESS", new.stack_name)));
                let stack = self.given(new.stack_name, "REVIEW_IN_PROGRESS", None, now);
                self.stacks[stack].events.clear();
                stack
            }
            (None, _) => return Err(No::Refused("the stack does not exist".into())),
            (Some(_), _) if busy => return refused("the stack cannot be updated in this state"),
            (Some(stack), Some("REVIEW_IN_PROGRESS")) if new.creates => stack,
            (Some(_), _) if new.creates => return refused("the stack already exists and cannot be created again"),
            (Some(stack), Some(status)) if is_updatable(status) => stack,
            (Some(_), _) => return refused("the stack cannot be updated in this state"),
        };
        let made = match self.stacks[stack].live {
            _ if new.wrong => Made::Wrong,
            Some(live) if live == new.template => Made::Empty,
            Some(_) | None => Made::Ready,
        };
        let takes = if new.endless { 6 * HOUR } else { random.between(2 * SECOND, 60 * SECOND) };
        self.change_sets.push(ChangeSet {
            arn: format!("arn:changeSet/{}/{}", new.name, self.change_sets.len()),
            name: new.name.to_owned(),
            stack,
            creates: new.creates,
            template: new.template,
            on_failure: new.on_failure,
            made_at: now,
            ready_at: now + takes,
            made,
            execution: Vec::new(),
            token: None,
            deleted_at: None,
        });
        Ok(())
    }

    fn open_change_set(&self, name_or_arn: &str, stack: usize) -> Option<usize> {
        self.change_sets.iter().position(|set| {
            (set.name == name_or_arn || set.arn == name_or_arn) && set.stack == stack && set.deleted_at.is_none()
        })
    }

    /// DescribeChangeSet, as it was at `at`.
    pub(crate) fn describe_change_set(&self, name_or_arn: &str, at: Ms) -> Option<ChangeSetSeen> {
        let mut sets = self.change_sets.iter().rev();
        let set = sets.find(|set| {
            let there = set.made_at <= at && set.deleted_at.is_none_or(|deleted| deleted > at);
            there && (set.name == name_or_arn || set.arn == name_or_arn)
        })?;
        let ready = at >= set.ready_at;
        // The two sentences for "empty", and one for everything else: what CloudFormation says, and no code for it.
        let (status, reason) = match set.made {
            _ if !ready => ("CREATE_IN_PROGRESS", None),
            Made::Ready => ("CREATE_COMPLETE", None),
            Made::Empty if set.template.0.is_multiple_of(2) => ("FAILED", Some("No updates are to be performed.")),
            Made::Empty => (
                "FAILED",
                Some(
                    "The submitted information didn't contain changes. Submit different information to create a change set.",
                ),
            ),
            Made::Wrong => ("FAILED", Some("Transform AWS::Serverless-2016-10-31 failed with: Invalid document.")),
        };
        Some(ChangeSetSeen {
            arn: set.arn.clone(),
            stack_id: self.stacks[set.stack].id.clone(),
            status,
            execution_status: set.execution_status_at(at),
            reason,
        })
    }

    /// ListChangeSets, as it was at `at`: the names of those of a stack.
    pub(crate) fn list_change_sets(&self, stack_id: &str, at: Ms) -> Vec<String> {
        let there = |set: &&ChangeSet| set.made_at <= at && set.deleted_at.is_none_or(|deleted| deleted > at);
        let of_stack = |set: &&ChangeSet| self.stacks[set.stack].id == stack_id;
        self.change_sets.iter().filter(of_stack).filter(there).map(|set| set.name.clone()).collect()
    }

    /// ExecuteChangeSet: only one that is CREATE_COMPLETE and AVAILABLE, of a stack at rest (InvalidChangeSetStatus otherwise).
    /// The same ClientRequestToken again is the same request (API_ExecuteChangeSet, ClientRequestToken).
    pub(crate) fn execute(
        &mut self,
        arn: &str,
        token: &str,
        fate: Fate,
        random: &mut Random,
        now: Ms,
    ) -> Result<bool, No> {
        let found = self.change_sets.iter().position(|set| set.arn == arn && set.deleted_at.is_none());
        let index = found.ok_or(No::NotFound)?;
        let set = &self.change_sets[index];
        if set.token.as_deref() == Some(token) {
            return Ok(false);
        }
        let status = set.execution_status_at(now);
        if status != "AVAILABLE" || self.stacks[set.stack].is_busy() {
            return Err(No::Refused(format!("the change set cannot be executed: {status}")));
        }
        let (stack, template, on_failure, creates) = (set.stack, set.template, set.on_failure, set.creates);
        self.obsolete(stack, now);
        let set = &mut self.change_sets[index];
        set.execution.push((now, "EXECUTE_IN_PROGRESS"));
        set.token = Some(token.to_owned());
        let kind = if creates { Kind::Create } else { Kind::Update };
        self.begin(stack, kind, Some(template), Some(token), on_failure, fate, random, now);
        Ok(true)
    }

    /// What was reviewed against a stack that changed since is OBSOLETE (API_DescribeChangeSet, ExecutionStatus).
    fn obsolete(&mut self, stack: usize, now: Ms) {
        for set in self.change_sets.iter_mut().filter(|set| set.stack == stack && set.deleted_at.is_none()) {
            set.execution.push((now.max(set.ready_at), "OBSOLETE"));
        }
    }

    /// DeleteChangeSet. While it is made, or executed, it is refused: "InvalidChangeSetStatus: Cannot delete ChangeSet in
    /// status CREATE_IN_PROGRESS", as people report it (<https://github.com/mweagle/Sparta/issues/45>).
    pub(crate) fn delete_change_set(&mut self, name_or_arn: &str, now: Ms) -> Result<(), No> {
        let named = |set: &&mut ChangeSet| set.name == name_or_arn || set.arn == name_or_arn;
        let set = self.change_sets.iter_mut().filter(|set| set.deleted_at.is_none()).find(named);
        let Some(set) = set else { return Err(No::NotFound) };
        if set.is_being_made(now) || set.is_executed(now) {
            return Err(No::Refused("the change set cannot be deleted now".into()));
        }
        set.deleted_at = Some(now);
        self.seen.push((now, format!("{} is deleted", set.arn)));
        Ok(())
    }

    /// UpdateStack, by a person, who does not ask us.
    pub(crate) fn update(
        &mut self,
        stack: usize,
        template: Template,
        fate: Fate,
        random: &mut Random,
        now: Ms,
    ) -> bool {
        let there = &self.stacks[stack];
        if there.is_busy() || !is_updatable(there.status()) {
            return false;
        }
        self.obsolete(stack, now);
        self.begin(stack, Kind::Update, Some(template), Some("a person"), OnFailure::Rollback, fate, random, now);
        true
    }

    /// DeleteStack: of one that is created, or at rest; not of one that is updated or rolled back; the
    /// same request again, by its ClientRequestToken, is nothing (API_DeleteStack). Termination protection refuses it.
    pub(crate) fn delete(
        &mut self,
        name_or_id: &str,
        token: &str,
        fate: Fate,
        random: &mut Random,
        now: Ms,
    ) -> Result<bool, No> {
        let Some(stack) = self.found(name_or_id) else { return Ok(false) };
        let there = &self.stacks[stack];
        let again = |operation: &Operation| operation.stack == stack && operation.token.as_deref() == Some(token);
        if there.is_gone() || there.status() == "DELETE_IN_PROGRESS" || self.operations.iter().any(again) {
            return Ok(false);
        }
        if there.termination_protection {
            return Err(No::Refused("termination protection is on".into()));
        }
        if there.is_busy() && there.status() != "CREATE_IN_PROGRESS" {
            return Err(No::Refused(format!("the stack cannot be deleted while {}", there.status())));
        }
        if let Some(cancelled) = self.stacks[stack].plan.front().map(|phase| phase.operation) {
            self.operations[cancelled].ended = Some(End::Failed);
            self.stacks[stack].plan.clear();
        }
        self.obsolete(stack, now);
        let shell = self.stacks[stack].status() == "REVIEW_IN_PROGRESS";
        let fate = if shell { Fate::Succeeds } else { fate };
        self.begin(stack, Kind::Delete, None, Some(token), OnFailure::Rollback, fate, random, now);
        Ok(true)
    }

    /// Fixes what will happen to a stack, and when.
    #[allow(clippy::too_many_arguments, reason = "what an operation is")]
    fn begin(
        &mut self,
        stack: usize,
        kind: Kind,
        template: Option<Template>,
        token: Option<&str>,
        on_failure: OnFailure,
        fate: Fate,
        random: &mut Random,
        now: Ms,
    ) {
        let operation = self.operations.len();
        self.operations.push(Operation { token: token.map(str::to_owned), stack, kind, template, ended: None });
        let path = path(kind, fate, on_failure);
        // The call is answered before the stack's status is another one.
        let mut at = now + random.between(0, 4 * SECOND);
        let last = path.len() - 1;
        let mut plan = VecDeque::new();
        for (step, &status) in path.iter().enumerate() {
            let failing = step > 0 && (status.contains("ROLLBACK_IN_PROGRESS") || status.ends_with("_FAILED"));
            let resource = failing.then_some(match kind {
                Kind::Create => "CREATE_FAILED",
                Kind::Update => "UPDATE_FAILED",
                Kind::Delete => "DELETE_FAILED",
            });
            let succeeded = matches!(status, "CREATE_COMPLETE" | "UPDATE_COMPLETE")
                || (kind == Kind::Delete && status == "DELETE_COMPLETE");
            let live = match status {
                "CREATE_COMPLETE" | "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS" => Some(template),
                "DELETE_COMPLETE" | "ROLLBACK_COMPLETE" => Some(None),
                _ => None,
            };
            let end = (step == last).then_some(if succeeded { End::Succeeded } else { End::Failed });
            plan.push_back(Phase { at, status, operation, resource, live, end });
            let takes = if fate == Fate::Hangs && step == 0 { 6 * HOUR } else { random.span(3 * SECOND, 15 * MINUTE) };
            at += takes;
        }
        self.stacks[stack].plan = plan;
    }
}

/// Whether a stack at rest takes an update. ROLLBACK_COMPLETE and the like do not; a failed update that was kept does
/// (using-cfn-updating-stacks; stack-failure-options).
fn is_updatable(status: &str) -> bool {
    matches!(
        status,
        "CREATE_COMPLETE"
            | "UPDATE_COMPLETE"
            | "UPDATE_ROLLBACK_COMPLETE"
            | "UPDATE_FAILED"
            | "IMPORT_COMPLETE"
            | "IMPORT_ROLLBACK_COMPLETE"
    )
}

/// The statuses that an operation leads through.
fn path(kind: Kind, fate: Fate, on_failure: OnFailure) -> &'static [&'static str] {
    use Fate::{Fails, FailsTwice, Hangs, Succeeds};
    match (kind, fate, on_failure) {
        (Kind::Create, Succeeds | Hangs, _) => &["CREATE_IN_PROGRESS", "CREATE_COMPLETE"],
        (Kind::Create, Fails, OnFailure::Rollback) => {
            &["CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "ROLLBACK_COMPLETE"]
        }
        (Kind::Create, FailsTwice, OnFailure::Rollback) => {
            &["CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "ROLLBACK_FAILED"]
        }
        // OnStackFailure=DO_NOTHING.
        (Kind::Create, Fails | FailsTwice, OnFailure::Keep) => &["CREATE_IN_PROGRESS", "CREATE_FAILED"],
        // OnStackFailure=DELETE; "if the deletion of the stack fails, the status of the stack is DELETE_FAILED".
        (Kind::Create, Fails, OnFailure::Delete) => {
            &["CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "DELETE_IN_PROGRESS", "DELETE_COMPLETE"]
        }
        (Kind::Create, FailsTwice, OnFailure::Delete) => {
            &["CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "DELETE_IN_PROGRESS", "DELETE_FAILED"]
        }
        (Kind::Update, Succeeds | Hangs, _) => {
            &["UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE"]
        }
        (Kind::Update, Fails, OnFailure::Rollback | OnFailure::Delete) => &[
            "UPDATE_IN_PROGRESS",
            "UPDATE_ROLLBACK_IN_PROGRESS",
            "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
            "UPDATE_ROLLBACK_COMPLETE",
        ],
        (Kind::Update, FailsTwice, OnFailure::Rollback | OnFailure::Delete) => {
            &["UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED"]
        }
        (Kind::Update, Fails | FailsTwice, OnFailure::Keep) => &["UPDATE_IN_PROGRESS", "UPDATE_FAILED"],
        (Kind::Delete, Succeeds | Hangs, _) => &["DELETE_IN_PROGRESS", "DELETE_COMPLETE"],
        (Kind::Delete, Fails | FailsTwice, _) => &["DELETE_IN_PROGRESS", "DELETE_FAILED"],
    }
}
