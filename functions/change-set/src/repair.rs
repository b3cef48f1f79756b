//! What is done with a stack whose update could not be rolled back.

use jiff::Timestamp;
use slipway_aws::Kind;
use slipway_aws::target::{Stack, StackDescription};
use slipway_domain::ErrorName;
use slipway_domain::cause::of_operation;
use slipway_domain::deployment::{DeploymentRecord, DeploymentRef, Operation, OperationMark};
use slipway_domain::repair::{self, Asked, Found, LastRollback, Opening};
use slipway_domain::session_policy::Purpose;
use slipway_domain::stack_change::SKEW;
use slipway_handler::{Failure, Polled};

use crate::change_set::{ChangeSet, State};

/// The most stacks that are looked into for what could not be rolled back.
const MOST_STACKS: usize = 20;

impl ChangeSet {
    /// Finds out why the stack could not be rolled back, notes it, and lets the rollback go on if that is what is asked.
    pub(crate) async fn repair(
        &self,
        reference: &DeploymentRef,
        record: &DeploymentRecord,
        now: Timestamp,
    ) -> Result<Polled<State>, Failure> {
        const REPAIRING: Polled<State> = Polled { state: State::Repairing, wait: 0 };
        const LOOKED: Polled<State> = Polled { state: State::Looked, wait: 0 };
        let deployment = &record.deployment;
        let asked = deployment.repair.as_ref();
        let asked = asked.ok_or_else(|| Failure::new(ErrorName::Internal, "nothing was asked of this repair"))?;
        let stack = self.targets.stack(deployment, Purpose::Repair).await?;
        let token = deployment.id.request_token(Operation::Repair);
        if let Some(mark) = &record.operation {
            let events = stack.events(&mark.stack_id, mark.began_at - SKEW).await?;
            if !of_operation(&events, &token).is_empty() {
                // An earlier try of this step got it going, and died before it could say so.
                return Ok(REPAIRING);
            }
        }
        let (described, since) = (stack.describe(None).await?, record.busy_since.unwrap_or(now));
        let stack_id = match repair::open(deployment, described.as_ref().map(StackDescription::seen), since, now)? {
            Opening::Wait => return self.busy(record, now).await,
            Opening::Nothing => {
                let status = described.as_ref().map(|stack| stack.status.as_str());
                self.note_found(record, &Found::nothing(status)).await?;
                return Ok(LOOKED);
            }
            Opening::Stuck { stack_id } => stack_id,
        };
        let failed = repair::failed(&last_rollbacks(&stack, &stack_id).await?);
        let found = Found::stuck(asked, failed.clone());
        let skip = found.to_skip(asked);
        // Said before it is done.
        let said = if skip.is_ok() { found } else { Found::stuck(&Asked::Look, failed) };
        self.note_found(record, &said).await?;
        let skip = skip?;
        if *asked == Asked::Look {
            return Ok(LOOKED);
        }
        let mark = OperationMark { what: Operation::Repair, stack_id: stack_id.clone(), began_at: now };
        let noted = slipway_handler::note(&self.store, record, |record| {
            record.operation = record.operation.clone().or_else(|| Some(mark.clone()));
        });
        slipway_handler::still_ours(&self.store, reference, &noted.await?, now).await?;
        match stack.continue_rollback(&stack_id, &skip, &token).await {
            Ok(()) => Ok(REPAIRING),
            Err(error) if matches!(error.kind, Kind::Refused | Kind::Conflict) => {
                // A call whose answer was lost is refused when it is sent again: the stack's events tell whose operation goes on.
                let described = stack.describe(None).await?;
                match repair::open(deployment, described.as_ref().map(StackDescription::seen), since, now)? {
                    Opening::Stuck { .. } => Err(error.into()),
                    Opening::Wait | Opening::Nothing => self.busy(record, now).await,
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn note_found(&self, record: &DeploymentRecord, found: &Found) -> Result<(), Failure> {
        let noted = slipway_handler::note(&self.store, record, |record| {
            record.stack_status.clone_from(&found.stack_status);
            record.found = Some(found.clone());
        });
        noted.await.map(drop)
    }
}

/// What the last rollback told of the stack `id`, and of the nested ones that could not be rolled back in it.
async fn last_rollbacks(stack: &Stack, id: &str) -> Result<Vec<LastRollback>, Failure> {
    let mut stacks = vec![stack.last_rollback(id, false).await?];
    let mut next = 0;
    while let Some(parent) = stacks.get(next) {
        next += 1;
        for child in parent.failed_children() {
            if stacks.len() < MOST_STACKS && !stacks.iter().any(|known| known.stack_id == child) {
                stacks.push(stack.last_rollback(&child, true).await?);
            }
        }
    }
    Ok(stacks)
}
