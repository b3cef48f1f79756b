//! What has to hold, whatever happens: after every step, and at the end of a run.

use std::collections::{BTreeMap, BTreeSet};

use slipway_domain::ErrorName;
use slipway_domain::approval::{Decision, Verdict};
use slipway_domain::deployment::{
    Action, Deployment, DeploymentId, DeploymentRecord, Ending, Operation, Outcome, ReleaseDigests,
};
use slipway_domain::environment::EnvironmentState;
use slipway_domain::lease::Lease;
use slipway_domain::names::Digest;

use crate::cloudformation::{ChangeSet, End, HOUR, Kind, MINUTE, Made, Ms, Operation as Done, SECOND};
use crate::machines::Execution;
use crate::scenario::bundle;
use crate::steps::question;
use crate::world::{STEP, State, moment};

/// The most transitions of one execution: Step Functions ends one after 25,000 events, of which each makes about five.
const MOST_TRANSITIONS: u32 = 4000;

/// What is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Property {
    /// Green only when the stack is as asked, by the deployment's own operation.
    GreenIsTrue,
    /// Red because of the stack or the change set only when it is as said.
    RedIsTrue,
    /// Who changes a stack holds its environment's lease.
    OneWriter,
    /// The lease passes from one to the next only when it was given up, ran out, or its owner is dead; its fence grows.
    LeaseIsALease,
    /// What ended green in a protected stage cannot be deleted by mistake.
    ProtectedIsProtected,
    /// What is executed was reviewed and, where the stage asks, approved: by somebody else, in time, and not refused before.
    OnlyTheApproved,
    /// Nothing live is deleted by a deployment, and nothing at all in a protected stage.
    NothingLiveIsDeleted,
    /// No older pipeline's release after a newer one's, and nobody is asked about one.
    NewestWins,
    /// The environment's row says what is live.
    RowIsTrue,
    /// The first end that is recorded is the end.
    OneEnd,
    /// Every deployment ends, in bounded time and steps, with a recorded result and the lease free.
    AlwaysAnEnd,
    /// No change set and no shell is left behind.
    NothingLeft,
    /// Where nothing goes wrong, nothing fails.
    CalmIsGreen,
}

/// Something that does not hold.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) property: Property,
    pub(crate) what: String,
    /// A weakness that is known: counted, and not a failure.
    pub(crate) known: Option<Weakness>,
}

/// What the design does not promise, or does not keep: each is described in docs/RELIABILITY.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weakness {
    /// A step of an execution that ended goes on for as long as a function may, while another deployment takes over.
    OrphanedStep,
    /// `settle` died each time that it was tried: the lease runs out by itself, the end may be recorded nowhere.
    SettleDied,
    /// A change set that was seen is not seen by the next look, at another server, and is taken for deleted.
    NotSeenYet,
    /// CloudFormation still makes a change set, and deletes none meanwhile, when `settle` is tried for the last time.
    LeftWhileMade,
    /// A shell is left to whoever holds the lease, who then does not use it.
    LeftToTheHolder,
    /// An environment remembers one deployment that waits for a person: of two, `sweep` ends only the one that asked last.
    TwoWait,
}

impl Weakness {
    /// Those that show in every long run.
    pub(crate) const OFTEN: &[Weakness] =
        &[Weakness::OrphanedStep, Weakness::SettleDied, Weakness::NotSeenYet, Weakness::LeftWhileMade];
}

/// What was seen to be true, apart from what the rows say.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Nothing goes wrong in this run.
    pub(crate) calm: bool,
    pub(crate) violations: Vec<Violation>,
    leases: BTreeMap<String, Lease>,
    outcomes: BTreeMap<String, Outcome>,
    decisions: BTreeMap<String, Vec<Decision>>,
    /// What was there to review when a question was put, or the change set became ready.
    reviewed: BTreeMap<String, (Option<Digest>, Reviewed)>,
    /// The newest pipeline whose release was live, by environment.
    executed: BTreeMap<String, u64>,
    /// Which deployment each environment knows to wait for a person.
    waiting: BTreeMap<String, DeploymentId>,
    /// Since when each environment has known its newest pipeline.
    newest: BTreeMap<String, (u64, Ms)>,
    /// Since when each lease has its owner.
    taken: BTreeMap<String, Ms>,
    /// Deployments whose last `settle` did not come to a good end, and when that was.
    pub(crate) unsettled: BTreeMap<String, Ms>,
    /// Deployments of which a `begin` failed, or ended, after it may have taken the lease.
    pub(crate) cut_short: BTreeSet<String>,
    /// Stacks that `settle` left to whoever held the lease.
    pub(crate) left_to_holder: BTreeSet<String>,
    /// When the release of a deployment became another one.
    pub(crate) tampered: BTreeMap<String, Ms>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Reviewed {
    change_set: Option<String>,
    release: Option<ReleaseDigests>,
}

fn reviewed(record: &DeploymentRecord) -> Reviewed {
    let change_set = record.change_set.as_ref().map(|set| set.arn.clone());
    Reviewed { change_set, release: record.release.clone() }
}

/// A call that changes a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mutation {
    CreateChangeSet,
    ExecuteChangeSet(String),
    DeleteStack(String),
}

impl State {
    fn violate(&mut self, property: Property, known: Option<Weakness>, what: String) {
        self.note(|| format!("VIOLATION of {property:?}{}: {what}", known.map_or("", |_| " (known)")));
        self.facts.violations.push(Violation { property, what, known });
    }
}

/// Right before a call that changes a stack has its effect. `fence` is the one that its step was given; `settle` has none.
pub(crate) fn before(state: &mut State, execution: usize, mutation: &Mutation, fence: Option<u64>) {
    let Execution { asked, running, .. } = state.executions[execution].clone();
    let deployment = &asked.deployment;
    let key = deployment.environment.to_string();
    let lease = state.leases.get(&key).map(|(lease, _)| lease.clone());
    let holds = lease.as_ref().is_some_and(|lease| {
        lease.owner.as_ref() == Some(&deployment.id) && fence.is_none_or(|fence| fence == lease.fence)
    });
    if !holds {
        // Beside a second `settle`, which gave the lease up, the first one may still be at work.
        let beside = fence.is_none() && lease.as_ref().is_some_and(|lease| lease.owner.is_none());
        let orphaned = (!running || beside).then_some(Weakness::OrphanedStep);
        let what = format!("{}: {mutation:?} with the fence {fence:?}, and the lease is {lease:?}", asked.label);
        state.violate(Property::OneWriter, orphaned, what);
    }
    match mutation {
        Mutation::CreateChangeSet => {}
        Mutation::ExecuteChangeSet(arn) => {
            approved(state, execution, arn);
            let pipeline = deployment.requester.as_ref().map_or(0, |requester| requester.pipeline_id);
            let last = state.facts.executed.get(&key).copied().unwrap_or(0);
            if pipeline < last {
                let orphaned = (!running).then_some(Weakness::OrphanedStep);
                let what = format!("{} executes after pipeline {last}", asked.label);
                state.violate(Property::NewestWins, orphaned, what);
            }
            // Who takes the lease is the newest then, but for what began while that step was at work.
            let (newest, since) = state.facts.newest.get(&key).copied().unwrap_or((0, 0));
            let taken = state.facts.taken.get(&key).copied().unwrap_or(0);
            if pipeline < newest && since + 2 * MINUTE < taken && holds {
                let what = format!("{} took the lease and executes, long after pipeline {newest} began", asked.label);
                state.violate(Property::NewestWins, None, what);
            }
            let available = state.cloudformation.change_sets.iter().any(|set| set.arn == *arn && set.token.is_none());
            if available {
                state.facts.executed.insert(key, pipeline);
            }
        }
        Mutation::DeleteStack(id) => deletable(state, execution, id),
    }
}

fn approved(state: &mut State, execution: usize, arn: &str) {
    let asked = state.executions[execution].asked.clone();
    let id = asked.deployment.id.to_string();
    let Some((record, _)) = state.deployments.get(&id).cloned() else { return };
    // What becomes another while a step is at work is not for that step to see.
    if state.facts.tampered.get(&id).is_some_and(|at| at + 2 * MINUTE > state.now) {
        return;
    }
    let now = Reviewed { change_set: Some(arn.to_owned()), release: record.release.clone() };
    let reviewed = state.facts.reviewed.get(&id).map(|(_, reviewed)| reviewed.clone());
    if reviewed.as_ref() != Some(&now) {
        let what = format!("{} executes {now:?}, reviewed was {reviewed:?}", asked.label);
        state.violate(Property::OnlyTheApproved, None, what);
    }
    if asked.deployment.approval.is_none() {
        return;
    }
    let required = asked.deployment.approval.as_ref().map_or(0, |policy| policy.required as usize);
    let decisions = state.facts.decisions.get(question(&asked.deployment.id).as_str()).cloned().unwrap_or_default();
    let yes = decisions.iter().take_while(|decision| decision.verdict == Verdict::Approve);
    let people: BTreeSet<&str> = yes.map(|decision| decision.decider.name()).collect();
    if people.len() < required {
        let what = format!("{} executes, {required} had to approve, and decided was {decisions:?}", asked.label);
        state.violate(Property::OnlyTheApproved, None, what);
    }
}

fn deletable(state: &mut State, execution: usize, id: &str) {
    let Execution { asked, running, .. } = state.executions[execution].clone();
    let lease = state.leases.get(&asked.deployment.environment.to_string());
    let holds = lease.is_some_and(|(lease, _)| lease.owner.as_ref() == Some(&asked.deployment.id));
    let Some(stack) = state.cloudformation.stacks.iter().position(|stack| stack.id == id) else { return };
    let status = state.cloudformation.stacks[stack].status();
    let touched = state.stages[asked.stage].touched;
    if asked.deployment.target.protected {
        let what = format!("{} deletes a protected stack, {status}", asked.label);
        state.violate(Property::NothingLiveIsDeleted, None, what);
    }
    if asked.deployment.action == Action::Teardown || touched {
        return;
    }
    let dead = ["REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED"];
    if !dead.contains(&status) && !status.starts_with("DELETE_") {
        let what = format!("{} deletes a stack that is {status}", asked.label);
        state.violate(Property::NothingLiveIsDeleted, None, what);
    }
    if status != "REVIEW_IN_PROGRESS" {
        // No change set can be executed on a stack whose first create failed.
        return;
    }
    // A shell with somebody else's change set in it, who still wants it.
    let wanted = |execution: &Execution| {
        let name = execution.asked.deployment.id.change_set_name();
        let mut sets = state.cloudformation.change_sets.iter();
        let theirs = |set: &ChangeSet| set.stack == stack && set.name == name && set.token.is_none();
        execution.running && sets.any(|set| theirs(set) && set.deleted_at.is_none())
    };
    let others = state.executions.iter().enumerate().filter(|(index, _)| *index != execution);
    let robbed = others.map(|(_, other)| other).find(|other| wanted(other)).map(|other| other.asked.label.clone());
    if let Some(robbed) = robbed {
        let known = (!running && !holds).then_some(Weakness::OrphanedStep);
        let what = format!("{} deletes the shell with the change set of {robbed}", asked.label);
        state.violate(Property::NothingLiveIsDeleted, known, what);
    }
}

/// A deployment has the lease, and goes on.
pub(crate) fn begins(state: &mut State, execution: usize) {
    let asked = state.executions[execution].asked.clone();
    let row = state.deployments.get(&asked.deployment.id.to_string());
    if let Some(outcome) = row.and_then(|(record, _)| record.outcome.clone()) {
        let what = format!("{} begins, and has ended: {outcome:?}", asked.label);
        state.violate(Property::AlwaysAnEnd, None, what);
    }
}

/// A deployment is told to wait for the lease of `owner`, by a step that began at `since`.
pub(crate) fn waits_for(state: &mut State, execution: usize, owner: &DeploymentId, since: Ms) {
    let dead = state.executions.iter().find(|other| other.asked.deployment.id == *owner);
    let dead = dead.filter(|other| other.ended_at.is_some_and(|ended| ended < since)).cloned();
    if let Some(dead) = dead {
        let what = format!("{} waits for {}, which ended", state.executions[execution].asked.label, dead.asked.label);
        let taken = state.facts.taken.get(&dead.asked.deployment.environment.to_string());
        let orphaned = taken.is_some_and(|taken| dead.ended_at.is_some_and(|ended| ended < *taken));
        state.violate(Property::LeaseIsALease, orphaned.then_some(Weakness::OrphanedStep), what);
    }
}

/// After every step that wrote a row.
pub(crate) fn after(state: &mut State) {
    if !std::mem::take(&mut state.written) {
        return;
    }
    leases(state);
    let mut broken = Vec::new();
    let State { environments, facts, now, executions, .. } = state;
    for (key, (row, _)) in environments {
        // Nothing is newer than what was torn down.
        if row.pipeline_id == 0 {
            facts.executed.remove(key);
        }
        let newest = facts.newest.entry(key.clone()).or_insert((row.pipeline_id, *now));
        if newest.0 != row.pipeline_id {
            let last = executions
                .iter()
                .find(|last| last.running && row.deployment.as_ref() == Some(&last.asked.deployment.id));
            let pipeline =
                last.and_then(|last| last.asked.deployment.requester.as_ref()).map(|asked| asked.pipeline_id);
            let began_last = last.is_some_and(|last| last.asked.deployment.action == Action::Deploy);
            if row.pipeline_id < newest.0 && began_last && pipeline == Some(newest.0) {
                broken.push(format!("the row of {key} forgets pipeline {}, which began last and goes on", newest.0));
            }
            *newest = (row.pipeline_id, *now);
        }
        let Some(waiting) = &row.waiting else { continue };
        let before = facts.waiting.insert(key.clone(), waiting.deployment.clone());
        if before.as_ref() != Some(&waiting.deployment) && waiting.pipeline_id < row.pipeline_id {
            broken.push(format!("people are asked about {waiting:?}, and pipeline {} has begun", row.pipeline_id));
        }
    }
    for what in broken {
        state.violate(Property::NewestWins, None, what);
    }
    for (id, (record, _)) in state.deployments.clone() {
        let known = state.facts.reviewed.get(&id).and_then(|(binding, _)| binding.clone());
        if record.binding != known && record.approval.is_none() {
            state.facts.reviewed.insert(id.clone(), (record.binding.clone(), reviewed(&record)));
        }
        let known = state.facts.outcomes.get(&id).cloned();
        match (known, record.outcome.clone()) {
            (None, Some(outcome)) => {
                let what = format!("{id} ends {:?} {:?} {:?}", outcome.ending, outcome.error, outcome.message);
                state.note(|| what);
                state.facts.outcomes.insert(id, outcome.clone());
                green(state, &record, &outcome);
            }
            (Some(known), found) if found.as_ref() != Some(&known) => {
                let what = format!("{id} ended {known:?}, and then {found:?}");
                state.violate(Property::OneEnd, None, what);
                state.facts.outcomes.insert(id, found.unwrap_or(known));
            }
            (Some(_) | None, _) => {}
        }
    }
    for (id, (approval, _)) in state.approvals.clone() {
        let known = state.facts.decisions.get(&id).cloned().unwrap_or_default();
        if known == approval.decisions {
            continue;
        }
        let over = known.len() >= approval.policy.required as usize
            || known.iter().any(|decision| decision.verdict == Verdict::Reject);
        if over || !approval.decisions.starts_with(&known) {
            let what = format!("{known:?} was decided, and then {:?}", approval.decisions);
            state.violate(Property::OnlyTheApproved, None, what);
        }
        for decision in approval.decisions.iter().skip(known.len()) {
            let late = decision.at >= approval.asked_at + approval.policy.expires_in.duration();
            let own = decision.verdict == Verdict::Approve && decision.decider.name() == approval.requester.user_login;
            if late || own || approval.void.is_some() {
                let what = format!("{decision:?} counts, of a question that was {approval:?}");
                state.violate(Property::OnlyTheApproved, None, what);
            }
        }
        state.facts.decisions.insert(id, approval.decisions);
    }
}

fn leases(state: &mut State) {
    for (key, (lease, _)) in state.leases.clone() {
        if state.facts.leases.get(&key).is_none_or(|before| before.owner != lease.owner) {
            state.facts.taken.insert(key.clone(), state.now);
        }
        let before = state.facts.leases.insert(key, lease.clone());
        let Some(before) = before.filter(|before| *before != lease) else { continue };
        let changed = before.owner != lease.owner && lease.owner.is_some();
        if lease.fence < before.fence || (changed && lease.fence <= before.fence) {
            state.violate(Property::LeaseIsALease, None, format!("the fence went from {before:?} to {lease:?}"));
        }
        let Some(owner) = before.owner.as_ref().filter(|_| changed) else { continue };
        let outcome = state.deployments.get(&owner.to_string()).and_then(|(record, _)| record.outcome.as_ref());
        let ended_long_ago = outcome.is_some_and(|outcome| moment(outcome.ended_at) + 5 * MINUTE < state.now);
        let orphaned = state.facts.cut_short.contains(&owner.to_string()).then_some(Weakness::OrphanedStep);
        if ended_long_ago && !state.facts.unsettled.contains_key(&owner.to_string()) {
            let what = format!("{before:?} was still held by who had ended long before");
            state.violate(Property::AlwaysAnEnd, orphaned, what);
        }
        let lives = |execution: &Execution| execution.running && execution.asked.deployment.id == *owner;
        // A step decides by the time that it began at.
        let ran_out = moment(before.until) <= state.now + STEP;
        if !ran_out && state.executions.iter().any(lives) {
            state.violate(Property::LeaseIsALease, None, format!("{before:?} was taken: {lease:?}"));
        }
    }
}

fn operation<'a>(state: &'a State, record: &DeploymentRecord, what: Operation) -> Option<&'a Done> {
    let token = record.deployment.id.request_token(what);
    state.cloudformation.operations.iter().rev().find(|operation| operation.token.as_ref() == Some(&token))
}

/// A green end, at the moment that it is recorded.
fn green(state: &mut State, record: &DeploymentRecord, outcome: &Outcome) {
    let deployment = &record.deployment;
    let Some(execution) = state.executions.iter().find(|execution| execution.asked.deployment.id == deployment.id)
    else {
        return;
    };
    let (asked, touched) = (execution.asked.clone(), state.stages[execution.asked.stage].touched);
    let false_because = match outcome.ending {
        Ending::Failed => return red(state, record, outcome, touched),
        Ending::Succeeded => match operation(state, record, Operation::Execute) {
            Some(operation) if operation.ended == Some(End::Succeeded) && operation.template == asked.template => None,
            other => Some(format!("its operation is {other:?}")),
        },
        Ending::NoChanges => {
            let name = deployment.id.change_set_name();
            let set = state.cloudformation.change_sets.iter().rev().find(|set| set.name == name);
            let empty = set.is_some_and(|set| set.made == Made::Empty);
            (!empty).then(|| format!("its change set is {set:?}"))
        }
        Ending::Repaired | Ending::Looked => Some("nothing here asks for a repair".to_owned()),
        Ending::TornDown => {
            let stack = state.cloudformation.named(deployment.stack_name.as_str());
            let stack = stack.map(|stack| &state.cloudformation.stacks[stack]);
            let there = stack.filter(|stack| !touched && stack.status() != "REVIEW_IN_PROGRESS");
            there.map(|stack| format!("the stack is {}", stack.status()))
        }
    };
    let stack = state.cloudformation.named(deployment.stack_name.as_str());
    let bare = stack.filter(|stack| !state.cloudformation.stacks[*stack].termination_protection);
    if deployment.target.protected && bare.is_some() && !touched {
        let what = format!("{} is {:?}, and its stack may be deleted", asked.label, outcome.ending);
        state.violate(Property::ProtectedIsProtected, None, what);
    }
    if let (Ending::NoChanges, Some(requester)) = (outcome.ending, &deployment.requester) {
        let newest = state.facts.executed.entry(deployment.environment.to_string()).or_insert(0);
        *newest = requester.pipeline_id.max(*newest);
    }
    if let Some(because) = false_because {
        let what = format!("{} is {:?}, and {because}", asked.label, outcome.ending);
        state.violate(Property::GreenIsTrue, None, what);
    }
}

/// A red end that blames the stack or the change set, at the moment that it is recorded.
fn red(state: &mut State, record: &DeploymentRecord, outcome: &Outcome, touched: bool) {
    let deployment = &record.deployment;
    let message = outcome.message.as_deref().unwrap_or_default();
    if touched {
        return;
    }
    match outcome.error {
        Some(ErrorName::StackFailed) => {
            let what = record.operation.as_ref().map(|mark| mark.what);
            let running =
                what.and_then(|what| operation(state, record, what)).filter(|op| op.ended != Some(End::Failed));
            if let Some(running) = running {
                let what = format!("{} failed, {message}, and its operation is {running:?}", deployment.id);
                state.violate(Property::RedIsTrue, None, what);
            }
        }
        Some(ErrorName::ChangeSetStale) if message.contains("deleted") || message.contains("gone") => {
            let name = deployment.id.change_set_name();
            let set = state.cloudformation.change_sets.iter().rev().find(|set| set.name == name).cloned();
            if let Some(set) = set.filter(|set| set.deleted_at.is_none()) {
                let known = (set.made_at + 5 * MINUTE > state.now).then_some(Weakness::NotSeenYet);
                state.violate(
                    Property::RedIsTrue,
                    known,
                    format!("{}: {message}, and there is {set:?}", deployment.id),
                );
            }
        }
        Some(_) | None => {}
    }
}

/// At the end of a run.
pub(crate) fn at_end(state: &mut State) {
    for execution in state.executions.clone() {
        ended(state, &execution);
    }
    for (key, (lease, _)) in state.leases.clone() {
        let Some(owner) = &lease.owner else { continue };
        let known = state.executions.iter().find(|execution| execution.asked.deployment.id == *owner);
        let known = known.and_then(|execution| endless_because(state, execution));
        state.violate(Property::AlwaysAnEnd, known, format!("{key} is still held: {lease:?}"));
    }
    left(state);
    for stage in 0..state.stages.len() {
        row(state, stage);
    }
}

fn ended(state: &mut State, execution: &Execution) {
    let asked = &execution.asked;
    let deployment = &asked.deployment;
    let Some(ended_at) = execution.ended_at else {
        let open =
            state.approvals.get(question(&deployment.id).as_str()).map(|(approval, _)| approval.task_token.clone());
        let waits = open.is_some_and(|token| state.tokens.get(&token).is_some_and(|token| token.open));
        let row = state.environments.get(&deployment.environment.to_string());
        let seen = row.and_then(|(row, _)| row.waiting.as_ref()).is_some_and(|mark| mark.deployment == deployment.id);
        let known = (waits && !seen).then_some(Weakness::TwoWait);
        state.violate(Property::AlwaysAnEnd, known, format!("{} goes on for ever", asked.label));
        return;
    };
    let people = deployment.longest() - deployment.timeout.duration();
    let most = deployment.longest() + people + deployment.timeout.duration() * 3;
    let took = ended_at - execution.started_at;
    if i128::from(took) > most.as_millis() + i128::from(HOUR) || execution.transitions > MOST_TRANSITIONS {
        let what = format!("{} took {} s and {} transitions", asked.label, took / 1000, execution.transitions);
        state.violate(Property::AlwaysAnEnd, None, what);
    }
    match state.deployments.get(&deployment.id.to_string()).map(|(record, _)| record.outcome.clone()) {
        Some(None) => {
            let known = endless_because(state, execution);
            state.violate(Property::AlwaysAnEnd, known, format!("{} has no recorded end", asked.label));
        }
        Some(Some(outcome)) if state.facts.calm && outcome.ending == Ending::Failed => {
            // Two jobs of one pipeline may both ask: what the first one changes, the second one's review knows nothing of.
            // And who comes behind others waits for no longer than its stage's own time limit.
            let fair = [ErrorName::Superseded, ErrorName::ApprovalExpired, ErrorName::ChangeSetStale];
            let waited = outcome.message.as_deref().is_some_and(|message| message.starts_with("waited for too long"));
            if !waited && !outcome.error.is_some_and(|error| fair.contains(&error)) {
                state.violate(Property::CalmIsGreen, None, format!("{} failed: {outcome:?}", asked.label));
            }
        }
        // It ended before it was admitted: there is nothing to record it on.
        None | Some(Some(_)) => {}
    }
}

/// Why a deployment has no recorded end, or keeps the lease, as far as that is known to happen.
fn endless_because(state: &State, execution: &Execution) -> Option<Weakness> {
    let deployment = &execution.asked.deployment;
    if died(state, deployment) {
        return Some(Weakness::SettleDied);
    }
    let cut_short = state.facts.cut_short.contains(&deployment.id.to_string());
    (!execution.running && cut_short).then_some(Weakness::OrphanedStep)
}

/// Whether the last `settle` of a deployment did not come to its end.
fn died(state: &State, deployment: &Deployment) -> bool {
    state.facts.unsettled.contains_key(&deployment.id.to_string())
}

/// Change sets and shells that nobody will use.
fn left(state: &mut State) {
    let sets: Vec<ChangeSet> = state.cloudformation.change_sets.clone();
    let mut shells = BTreeMap::new();
    for set in sets.iter().filter(|set| set.deleted_at.is_none()) {
        let stack = state.cloudformation.stacks[set.stack].clone();
        let owner =
            state.executions.iter().find(|execution| execution.asked.deployment.id.change_set_name() == set.name);
        let Some(owner) = owner.map(|owner| owner.asked.clone()) else { continue };
        // What is executed cannot be deleted; it goes with the next success, or with the stack.
        if state.stages[owner.stage].touched || set.token.is_some() || stack.is_gone() {
            continue;
        }
        let row = state.deployments.get(&owner.deployment.id.to_string()).map(|(record, _)| record.clone());
        let what = format!("{} left {} on a stack that is {}; {row:?}", owner.label, set.arn, stack.status());
        let known = left_because(state, set, row.as_ref());
        if let Some(known) = known {
            shells.insert(set.stack, known);
        }
        state.violate(Property::NothingLeft, known, what);
    }
    for (index, stack) in state.cloudformation.stacks.clone().into_iter().enumerate() {
        let stage = state.stages.iter().find(|stage| stage.key.stack_name().as_str() == stack.name).unwrap();
        let ours = stack.history.first().is_some_and(|(at, _)| *at >= 0);
        if stack.status() == "REVIEW_IN_PROGRESS" && !stage.target.protected && !stage.touched && ours {
            let here = |execution: &&Execution| execution.asked.deployment.stack_name.as_str() == stack.name;
            let dead = state.executions.iter().filter(here).any(|execution| died(state, &execution.asked.deployment));
            let known = match shells.get(&index) {
                Some(known) => Some(*known),
                None if dead => Some(Weakness::SettleDied),
                None => state.facts.left_to_holder.contains(&stack.name).then_some(Weakness::LeftToTheHolder),
            };
            state.violate(Property::NothingLeft, known, format!("the shell {} is left", stack.id));
        }
    }
}

/// Why a change set is left behind, as far as that is known to happen.
fn left_because(state: &State, set: &ChangeSet, row: Option<&DeploymentRecord>) -> Option<Weakness> {
    let row = row?;
    let Some(last) = state.facts.unsettled.get(&row.deployment.id.to_string()) else {
        // The step had looked whether its deployment had ended, and `settle` whether there was a change set.
        let longest = if state.weather.hangs > 0 { 2 * MINUTE } else { 8 * SECOND };
        let ended_at = moment(row.outcome.as_ref()?.ended_at);
        return (ended_at..ended_at + longest).contains(&set.made_at).then_some(Weakness::OrphanedStep);
    };
    Some(if set.is_being_made(*last) { Weakness::LeftWhileMade } else { Weakness::SettleDied })
}

/// Whether the environment's row says what is live, where Slipway can know.
fn row(state: &mut State, stage: usize) {
    let stage = state.stages[stage].clone();
    let Some((row, _)) = state.environments.get(&stage.key.to_string()).cloned() else { return };
    let stack = state.cloudformation.named(stage.key.stack_name().as_str());
    let stack = stack.map(|stack| state.cloudformation.stacks[stack].clone());
    let broken = |status: &str| status.ends_with("_FAILED");
    // What goes on by itself after its deployment ended, and what CloudFormation could not finish, is nobody's to know.
    let went_on = state.deployments.values().any(|(record, _)| {
        let execute = operation(state, record, Operation::Execute);
        let failed = record.outcome.as_ref().is_none_or(|outcome| outcome.ending == Ending::Failed);
        let here = record.deployment.environment == stage.key;
        let delete =
            operation(state, record, Operation::Delete).filter(|_| record.deployment.action == Action::Teardown);
        here && failed && execute.or(delete).is_some_and(|operation| operation.ended == Some(End::Succeeded))
    });
    let unclear = stack.as_ref().is_some_and(|stack| stack.is_busy() || broken(stack.status()));
    if stage.touched || unclear || went_on {
        return;
    }
    let live = stack.as_ref().and_then(|stack| stack.live).map(bundle);
    if row.release != live {
        let what = format!("the row says {:?} of {:?}, live is {live:?}; {stack:?}", row.state, row.release);
        state.violate(Property::RowIsTrue, None, what);
    }
    if row.state == EnvironmentState::TornDown && live.is_some() {
        state.violate(Property::RowIsTrue, None, format!("the row says torn down, and {stack:?} lives"));
    }
}

/// For the count of what a run did: an operation of some kind that ended so.
pub(crate) fn happened(state: &State, kind: Kind, end: End) -> usize {
    let operations = state.cloudformation.operations.iter();
    operations.filter(|operation| operation.kind == kind && operation.ended == Some(end)).count()
}
