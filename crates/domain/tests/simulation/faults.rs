//! Decisions that are subtly wrong, one at a time. Each has to be noticed.

use slipway_domain::approval::Who;
use slipway_domain::cause;
use slipway_domain::change_set::{self, Making, MakingError, Opening, OpeningError};
use slipway_domain::deployment::{Ending, Operation};
use slipway_domain::environment::{self, Environment, EnvironmentState};
use slipway_domain::expiry::Due;
use slipway_domain::lease::{self, Lease, Taking};
use slipway_domain::stack_change::{self, StackError, Standing};
use slipway_domain::stack_status::StackStatus;

use crate::rules::Rules;

/// What is wrong, and the rules with it.
pub(crate) fn all() -> Vec<(&'static str, Rules)> {
    let right = Rules::default;
    vec![
        (
            "a rolled back update is a success",
            Rules {
                look: |deployment, mark, seen, expected, now| match stack_change::look(
                    deployment, mark, seen, expected, now,
                ) {
                    Ok(Standing::Failed(StackStatus::UpdateRollbackComplete)) => Ok(Standing::Done),
                    looked => looked,
                },
                ..right()
            },
        ),
        (
            "a cleanup is the end of an update",
            Rules {
                look: |deployment, mark, seen, expected, now| {
                    let ours = cause::told(seen.ours, &mark.stack_id) == seen.status;
                    if ours && seen.status == Some("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS") {
                        return Ok(Standing::Done);
                    }
                    stack_change::look(deployment, mark, seen, expected, now)
                },
                ..right()
            },
        ),
        ("events of other operations count", Rules { of_operation: |events, _| events.to_vec(), ..right() }),
        (
            "a status counts without an event of the operation",
            Rules {
                look: |deployment, mark, seen, expected, now| {
                    let complete =
                        seen.status.is_some_and(|status| ["CREATE_COMPLETE", "UPDATE_COMPLETE"].contains(&status));
                    if complete && mark.what == Operation::Execute {
                        return Ok(Standing::Done);
                    }
                    stack_change::look(deployment, mark, seen, expected, now)
                },
                ..right()
            },
        ),
        (
            "a stack that is gone was executed",
            Rules {
                look: |deployment, mark, seen, expected, now| match seen.status {
                    None | Some("DELETE_COMPLETE") => Ok(Standing::Done),
                    Some(_) => stack_change::look(deployment, mark, seen, expected, now),
                },
                ..right()
            },
        ),
        (
            "a failed deletion is a deletion",
            Rules {
                look: |deployment, mark, seen, expected, now| match seen.status {
                    Some("DELETE_FAILED") if mark.what == Operation::Delete => Ok(Standing::Done),
                    Some(_) | None => stack_change::look(deployment, mark, seen, expected, now),
                },
                ..right()
            },
        ),
        (
            "a wait has no end",
            Rules {
                look: |deployment, mark, seen, expected, now| match stack_change::look(
                    deployment, mark, seen, expected, now,
                ) {
                    Err(StackError::TimedOut { .. }) => Ok(Standing::Running(60)),
                    looked => looked,
                },
                ..right()
            },
        ),
        (
            "a busy stack is waited for without end",
            Rules {
                open: |deployment, seen, since, now| match change_set::open(deployment, seen, since, now) {
                    Err(OpeningError::Busy { .. } | OpeningError::Repair { .. }) => Ok(Opening::Wait),
                    opened => opened,
                },
                ..right()
            },
        ),
        (
            "a protected stack is made anew",
            Rules {
                open: |deployment, seen, since, now| {
                    let mut ephemeral = deployment.clone();
                    ephemeral.target.protected = false;
                    change_set::open(&ephemeral, seen, since, now)
                },
                ..right()
            },
        ),
        (
            "a stack that was rolled back is made anew",
            Rules {
                open: |deployment, seen, since, now| match seen {
                    Some(seen) if seen.status == "UPDATE_ROLLBACK_COMPLETE" && !deployment.target.protected => {
                        Ok(Opening::Delete {
                            stack_id: seen.id.to_owned(),
                            status: StackStatus::UpdateRollbackComplete,
                        })
                    }
                    seen => change_set::open(deployment, seen, since, now),
                },
                ..right()
            },
        ),
        (
            "a change set that failed is an empty one",
            Rules {
                making: |deployment, made, seen, now| match change_set::making(deployment, made, seen, now) {
                    Err(MakingError::Failed(_)) => Ok(Making::NoChanges),
                    making => making,
                },
                ..right()
            },
        ),
        (
            "a change set is executed without an approval",
            Rules {
                executable: |record, seen, binding, approval| {
                    let mut unasked = record.clone();
                    unasked.deployment.approval = None;
                    change_set::executable(&unasked, seen, binding, approval)
                },
                ..right()
            },
        ),
        (
            "a change set is executed whatever it has become",
            Rules {
                executable: |record, seen, _, approval| {
                    change_set::executable(record, seen, record.binding.as_ref(), approval)
                },
                ..right()
            },
        ),
        (
            "a decision counts when it is too late",
            Rules {
                decide: |approval, verdict, claims, now| {
                    let mut open = approval.clone();
                    open.expires_at = jiff::Timestamp::MAX;
                    open.decide(verdict, None, Who::Job(claims), now)
                },
                ..right()
            },
        ),
        (
            "a decision is changed afterwards",
            Rules {
                decide: |approval, verdict, claims, now| {
                    let mut open = approval.clone();
                    open.decisions.clear();
                    open.decide(verdict, None, Who::Job(claims), now)
                },
                ..right()
            },
        ),
        (
            "one person counts as two",
            Rules {
                decide: |approval, verdict, claims, now| {
                    let mut open = approval.clone();
                    open.decisions.retain(|decision| decision.decider.name() != claims.user_login);
                    open.decide(verdict, None, Who::Job(claims), now)
                },
                ..right()
            },
        ),
        (
            "who asks approves",
            Rules {
                decide: |approval, verdict, claims, now| {
                    let mut lax = approval.clone();
                    lax.requester.user_id = 0;
                    lax.decide(verdict, None, Who::Job(claims), now)
                },
                ..right()
            },
        ),
        (
            "a step does not check the lease",
            Rules {
                hold: |current, me, fence, now| {
                    let held = lease::hold(current, me, fence, now);
                    held.or_else(|lost| current.map(|lease| Ok(lease.clone())).unwrap_or(Err(lost)))
                },
                ..right()
            },
        ),
        (
            "the lease is taken from who has it",
            Rules {
                take: |current, me, _, now| {
                    lease::take(current, me, current.and_then(|lease| lease.owner.as_ref()), now)
                },
                ..right()
            },
        ),
        (
            "the fence does not grow",
            Rules {
                take: |current, me, dead, now| match (lease::take(current, me, dead, now), current) {
                    (Taking::Ours(lease), Some(before)) => Taking::Ours(Lease { fence: before.fence, ..lease }),
                    (taking, _) => taking,
                },
                ..right()
            },
        ),
        ("the lease is not given up", Rules { give_up: |_, _, _| None, ..right() }),
        (
            "an older pipeline deploys over a newer one",
            Rules {
                begin: |current, deployment| match environment::begin(current, deployment) {
                    Err(_) => Ok(current.unwrap().clone()),
                    begun => begun,
                },
                ..right()
            },
        ),
        (
            "who waited is not superseded",
            Rules {
                resume: |current, deployment| match environment::resume(current, deployment) {
                    Err(_) => Ok(current.unwrap().clone()),
                    resumed => resumed,
                },
                ..right()
            },
        ),
        (
            "a dead holder's lease is not taken over",
            Rules { take: |current, me, _, now| lease::take(current, me, None, now), ..right() },
        ),
        ("what has ended is begun", Rules { has_ended: |_| false, ..right() }),
        (
            "what ends last is what began last",
            Rules {
                settle: |environment, deployment, outcome, shown| {
                    let last = environment.deployment.as_ref() == Some(&deployment.id);
                    if !last && outcome.ending != Ending::Failed {
                        return environment;
                    }
                    environment::settle(environment, deployment, outcome, shown)
                },
                ..right()
            },
        ),
        (
            "a teardown forgets who waits for its end",
            Rules {
                settle: |environment, deployment, outcome, shown| {
                    let settled = environment::settle(environment, deployment, outcome, shown);
                    let pipeline_id = if outcome.ending == Ending::TornDown { 0 } else { settled.pipeline_id };
                    Environment { pipeline_id, ..settled }
                },
                ..right()
            },
        ),
        ("a protected stack is not protected", Rules { protects: |_| false, ..right() }),
        (
            "a change set that was not noted is none",
            Rules { may_leave: |record| record.change_set.is_some(), ..right() },
        ),
        ("a change set that is still made is left", Rules { comes_back: |_| false, ..right() }),
        ("a shell with a change set is deleted", Rules { is_nobodys: |_, _| true, ..right() }),
        ("a later end replaces the first", Rules { first_end: |_, told| told.clone(), ..right() }),
        ("a change set is not discarded", Rules { cleans_up: |_| false, ..right() }),
        ("a shell is discarded by who does not have the lease", Rules { is_alone: |_| true, ..right() }),
        ("a protected stack is torn down", Rules { is_untouchable: |_| false, ..right() }),
        (
            "a failed deployment is live",
            Rules {
                settle: |environment, deployment, outcome, shown| {
                    let mut settled = environment::settle(environment, deployment, outcome, shown);
                    if let (Ending::Failed, Some(launch)) = (outcome.ending, &deployment.launch) {
                        settled.release = Some(launch.bundle.clone());
                    }
                    settled
                },
                ..right()
            },
        ),
        (
            "what is torn down is still there",
            Rules {
                settle: |environment, deployment, outcome, shown| {
                    let release = environment.release.clone();
                    let settled = environment::settle(environment, deployment, outcome, shown);
                    if settled.state == EnvironmentState::TornDown {
                        return Environment { release, ..settled };
                    }
                    settled
                },
                ..right()
            },
        ),
        (
            "an environment expires at once",
            Rules {
                due: |environment, now| {
                    let mut due = environment.due(now);
                    let expired_at = environment.expires_at.unwrap_or(now);
                    if due.is_empty() && environment.is_somewhere() {
                        due.push(Due::Teardown { expired_at });
                    }
                    due
                },
                is_expired: |environment, _| environment.is_somewhere(),
                ..right()
            },
        ),
    ]
}
