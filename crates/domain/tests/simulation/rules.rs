//! Every decision of a deployment, as one table of functions: the domain's own, or, to see whether the simulation notices, one
//! that is subtly wrong.

use jiff::Timestamp;
use slipway_domain::approval::{Approval, Decision, DecisionError, Verdict, Void, Who};
use slipway_domain::cause::{self, StackEvent};
use slipway_domain::change_set::{
    self, Making, MakingError, NotExecutable, Opening, OpeningError, SeenChangeSet, SeenStack,
};
use slipway_domain::claims::JobClaims;
use slipway_domain::deployment::{
    ChangeSetRef, Deployment, DeploymentId, DeploymentRecord, Ending, OperationMark, Outcome,
};
use slipway_domain::environment::{self, Environment, Shown, Superseded};
use slipway_domain::expiry::Due;
use slipway_domain::lease::{self, Lease, Lost, Taking};
use slipway_domain::names::Digest;
use slipway_domain::stack_change::{self, Seen, StackError, Standing};

/// What the driver asks before it does anything.
#[derive(Clone, Copy)]
#[allow(clippy::type_complexity, reason = "the domain's own signatures")]
pub(crate) struct Rules {
    pub(crate) begin: fn(Option<&Environment>, &Deployment) -> Result<Environment, Superseded>,
    pub(crate) resume: fn(Option<&Environment>, &Deployment) -> Result<Environment, Superseded>,
    pub(crate) settle: fn(Environment, &Deployment, &Outcome, &Shown) -> Environment,
    pub(crate) due: fn(&Environment, Timestamp) -> Vec<Due>,
    pub(crate) is_expired: fn(&Environment, Timestamp) -> bool,
    pub(crate) take: fn(Option<&Lease>, &DeploymentId, Option<&DeploymentId>, Timestamp) -> Taking,
    pub(crate) hold: fn(Option<&Lease>, &DeploymentId, u64, Timestamp) -> Result<Lease, Lost>,
    pub(crate) give_up: fn(Option<&Lease>, &DeploymentId, Timestamp) -> Option<Lease>,
    pub(crate) open: fn(&Deployment, Option<SeenStack<'_>>, Timestamp, Timestamp) -> Result<Opening, OpeningError>,
    pub(crate) making:
        fn(&Deployment, &ChangeSetRef, Option<SeenChangeSet<'_>>, Timestamp) -> Result<Making, MakingError>,
    pub(crate) executable: fn(
        &DeploymentRecord,
        Option<SeenChangeSet<'_>>,
        Option<&Digest>,
        Option<&Approval>,
    ) -> Result<(), NotExecutable>,
    pub(crate) of_operation: fn(&[StackEvent], &str) -> Vec<StackEvent>,
    pub(crate) look: fn(&Deployment, &OperationMark, Seen<'_>, Option<u32>, Timestamp) -> Result<Standing, StackError>,
    pub(crate) decide: fn(&Approval, Verdict, &JobClaims, Timestamp) -> Result<Decision, DecisionError>,
    pub(crate) voided: fn(&Approval, &Void) -> Option<Approval>,

    // What the functions decide by themselves.
    /// Which of two ends is a deployment's: the one that is recorded, or the one that is told.
    pub(crate) first_end: fn(Option<&Outcome>, &Outcome) -> Outcome,
    /// Whether nothing is begun any more.
    pub(crate) has_ended: fn(&DeploymentRecord) -> bool,
    /// Whether a stack is protected once it is live.
    pub(crate) protects: fn(&Deployment) -> bool,
    /// Whether a deployment that ended so is cleaned up after.
    pub(crate) cleans_up: fn(&Outcome) -> bool,
    /// Whether there may be a change set to take away.
    pub(crate) may_leave: fn(&DeploymentRecord) -> bool,
    /// Whether `settle` comes back for a change set that CloudFormation did not delete.
    pub(crate) comes_back: fn(&DeploymentRecord) -> bool,
    /// Whether a shell with these change sets in it is nobody's, once the one of this name is deleted.
    pub(crate) is_nobodys: fn(&[String], &str) -> bool,
    /// Whether a teardown is refused whatever was asked.
    pub(crate) is_untouchable: fn(&Deployment) -> bool,
    /// Whether `settle` may delete a shell, by what came of asking for the lease.
    pub(crate) is_alone: fn(&Taking) -> bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            begin: environment::begin,
            resume: environment::resume,
            settle: environment::settle,
            due: Environment::due,
            is_expired: Environment::is_expired,
            take: lease::take,
            hold: lease::hold,
            give_up: lease::give_up,
            open: change_set::open,
            making: change_set::making,
            executable: change_set::executable,
            of_operation: cause::of_operation,
            look: stack_change::look,
            decide: |approval, verdict, claims, now| approval.decide(verdict, None, Who::Job(claims), now),
            voided: Approval::voided,
            first_end: |recorded, told| recorded.unwrap_or(told).clone(),
            has_ended: |record| record.outcome.is_some(),
            protects: |deployment| deployment.target.protected,
            cleans_up: |outcome| outcome.ending == Ending::Failed,
            may_leave: DeploymentRecord::may_leave_change_set,
            comes_back: |record| record.operation.is_none(),
            is_nobodys: |listed, mine| listed.iter().all(|listed| listed == mine),
            is_untouchable: |deployment| deployment.target.protected,
            is_alone: |taking| matches!(taking, Taking::Ours(_)),
        }
    }
}
