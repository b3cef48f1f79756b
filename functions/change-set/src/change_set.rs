//! The three things that are done with a change set.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use slipway_aws::bucket::Bucket;
use slipway_aws::store::Store;
use slipway_aws::target::{ChangeSetDescription, NewChangeSet, StackDescription, Targets};
use slipway_domain::ErrorName;
use slipway_domain::deployment::{
    ChangeSetRef, Deployment, DeploymentRecord, DeploymentRef, Launch, Operation, OperationMark,
};
use slipway_domain::release::{Manifest, manifest_key, parameters, template_key};
use slipway_domain::session_policy::Purpose;
use slipway_domain::stack_status::{Entry, StackStatus};
use slipway_domain::waiting::next_wait;
use slipway_handler::{Failure, Polled};

/// The most bytes that a manifest may have.
const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;

/// What the function works with.
pub(crate) struct ChangeSet {
    pub(crate) store: Store,
    pub(crate) bucket: Bucket,
    pub(crate) targets: Targets,
}

/// What a state machine asks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    #[serde(rename = "do")]
    what: What,
    deployment: DeploymentRef,
}

/// What to do.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Create,
    Execute,
    Discard,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// The stack is busy: ask again.
    Busy,
    /// CloudFormation makes the change set.
    Made,
    /// CloudFormation executes it.
    Executing,
    /// It is gone.
    Discarded,
}

impl ChangeSet {
    pub(crate) async fn handle(&self, input: Input, now: Timestamp) -> Result<Polled<State>, Failure> {
        let record = slipway_handler::hold(&self.store, &input.deployment, now).await?;
        match input.what {
            What::Create => self.create(&record, now).await,
            What::Execute => self.execute(&record, now).await,
            What::Discard => self.discard(&record).await,
        }
    }

    async fn create(&self, record: &DeploymentRecord, now: Timestamp) -> Result<Polled<State>, Failure> {
        if record.change_set.is_some() {
            return Ok(Polled { state: State::Made, wait: 0 });
        }
        let deployment = &record.deployment;
        let launch = launch(deployment)?;
        let purpose = Purpose::Create { bucket: self.bucket.name(), release: &launch.bundle };
        let stack = self.targets.stack(deployment, purpose).await?;
        let described = stack.describe(None).await?;
        let entry = match &described {
            Some(stack) => StackStatus::parse(&stack.status)?.entry(deployment.target.protected),
            None => Entry::Create,
        };
        let creates_stack = match (entry, &described) {
            (Entry::Create, _) => true,
            (Entry::Update, _) => false,
            (Entry::Busy, _) => return busy(deployment, now),
            (Entry::Recreate, Some(old)) => {
                // Its first create failed: nothing lives, and CloudFormation lets it only be deleted.
                stack.delete(&old.id, &deployment.id.request_token(Operation::Delete)).await?;
                return busy(deployment, now);
            }
            (Entry::Recreate | Entry::Repair, described) => return Err(repair(deployment, described.as_ref())),
        };
        let manifest: Option<Manifest> =
            self.bucket.get_json(&manifest_key(&launch.bundle), MAX_MANIFEST_BYTES).await?;
        let manifest = manifest.ok_or_else(|| Failure::new(ErrorName::Internal, "the release has no manifest"))?;
        let previous = described.map(|stack| stack.parameters).unwrap_or_default();
        let parameters = parameters(&manifest.parameters, &launch.parameters, &previous)?;
        let name = deployment.id.change_set_name();
        let template_url = self.bucket.https_url(&template_key(&launch.bundle), deployment.target.region.as_str());
        let new = NewChangeSet { name: &name, creates_stack, template_url: &template_url, parameters: &parameters };
        stack.create_change_set(deployment, &new).await?;
        let made = stack.describe_change_set(&name).await?.ok_or_else(|| {
            // CloudFormation answers from several places: one may not know yet what another has just made.
            Failure::new(ErrorName::Unavailable, format!("the change set {name} was made and cannot be seen yet"))
        })?;
        let change_set = ChangeSetRef { arn: made.arn, stack_id: made.stack_id, creates_stack, made_at: now };
        slipway_handler::note(&self.store, record, |record| record.change_set = Some(change_set.clone())).await?;
        Ok(Polled { state: State::Made, wait: 0 })
    }

    /// Executes the change set, if everything still is what it was when it became ready and, where the stage asks for it,
    /// when somebody approved it.
    async fn execute(&self, record: &DeploymentRecord, now: Timestamp) -> Result<Polled<State>, Failure> {
        const EXECUTING: Polled<State> = Polled { state: State::Executing, wait: 0 };
        let deployment = &record.deployment;
        let change_set = made(record)?;
        let purpose = Purpose::Execute { bucket: self.bucket.name() };
        let stack = self.targets.stack(deployment, purpose).await?;
        let described = stack.describe_change_set(&change_set.arn).await?;
        if record.operation.is_some()
            && described.as_ref().is_none_or(|set| set.execution_status.starts_with("EXECUTE_"))
        {
            // An earlier try of this step got it going, and died before it could say so.
            return Ok(EXECUTING);
        }
        let described = described.ok_or_else(|| stale("it is gone"))?;
        self.check_unchanged(record, &described)?;
        self.check_approved(record).await?;
        let mark = OperationMark { what: Operation::Execute, stack_id: described.stack_id.clone(), began_at: now };
        let noted = slipway_handler::note(&self.store, record, |record| {
            record.operation = record.operation.clone().or_else(|| Some(mark.clone()));
        });
        if noted.await?.outcome.is_some() {
            // Stopped while this step was at work: settle has recorded the end, and nothing is begun after it.
            return Err(Failure::new(ErrorName::Stopped, "the deployment ended before its change set was executed"));
        }
        stack.execute(&change_set.arn, &deployment.id.request_token(Operation::Execute)).await?;
        Ok(EXECUTING)
    }

    fn check_unchanged(&self, record: &DeploymentRecord, now: &ChangeSetDescription) -> Result<(), Failure> {
        if now.execution_status != "AVAILABLE" {
            return Err(stale(&format!("its execution status is {}", now.execution_status)));
        }
        let binding = now.binding(record);
        match &record.binding {
            Some(reviewed) if binding.as_ref() == Some(reviewed) => Ok(()),
            Some(_) | None => Err(stale("the change set, its stack, its parameters or its release changed")),
        }
    }

    async fn check_approved(&self, record: &DeploymentRecord) -> Result<(), Failure> {
        if record.deployment.approval.is_none() {
            return Ok(());
        }
        let not_approved =
            || Failure::new(ErrorName::NotAllowed, "the stage asks for an approval, and nobody gave one");
        let id = record.approval.as_ref().ok_or_else(not_approved)?;
        let approval = self.store.approval(id).await?.ok_or_else(not_approved)?;
        let binding = record.binding.as_ref().ok_or_else(not_approved)?;
        if approval.allows(binding) { Ok(()) } else { Err(not_approved()) }
    }

    async fn discard(&self, record: &DeploymentRecord) -> Result<Polled<State>, Failure> {
        const DISCARDED: Polled<State> = Polled { state: State::Discarded, wait: 0 };
        if let Some(change_set) = record.change_set.as_ref().filter(|_| record.operation.is_none()) {
            let stack = self.targets.stack(&record.deployment, Purpose::Discard).await?;
            stack.discard(&record.deployment, change_set).await?;
        }
        Ok(DISCARDED)
    }
}

fn launch(deployment: &Deployment) -> Result<&Launch, Failure> {
    deployment.launch.as_ref().ok_or_else(|| Failure::new(ErrorName::Internal, "a teardown has no change set"))
}

fn made(record: &DeploymentRecord) -> Result<&ChangeSetRef, Failure> {
    record.change_set.as_ref().ok_or_else(|| Failure::new(ErrorName::Internal, "the change set was not made yet"))
}

fn stale(why: &str) -> Failure {
    Failure::new(ErrorName::ChangeSetStale, format!("the change set is not what was reviewed any more: {why}"))
}

/// Something else is going on with the stack: wait for it, but not longer than a deployment may take.
fn busy(deployment: &Deployment, now: Timestamp) -> Result<Polled<State>, Failure> {
    let waited = now.duration_since(deployment.started_at);
    if waited > deployment.timeout.duration() {
        let message = format!("the stack {} has been busy for {waited:#}", deployment.stack_name);
        return Err(Failure::new(ErrorName::StackBusy, message));
    }
    Ok(Polled { state: State::Busy, wait: next_wait(u32::try_from(waited.as_secs()).unwrap_or(0), None) })
}

fn repair(deployment: &Deployment, stack: Option<&StackDescription>) -> Failure {
    let status = stack.map_or("unknown", |stack| stack.status.as_str());
    let name = &deployment.stack_name;
    let advice = match status {
        "UPDATE_ROLLBACK_FAILED" => format!("aws cloudformation continue-update-rollback --stack-name {name}"),
        "CREATE_FAILED" | "ROLLBACK_FAILED" | "ROLLBACK_COMPLETE" | "DELETE_FAILED" => {
            format!("aws cloudformation delete-stack --stack-name {name}")
        }
        _ => format!("aws cloudformation describe-stack-events --stack-name {name}"),
    };
    let Deployment { target, .. } = deployment;
    Failure::new(
        ErrorName::StackNeedsRepair,
        format!(
            "the stack {name} is {status}; in account {}, after a look at its events: {advice} --region {}",
            target.account, target.region
        ),
    )
}
