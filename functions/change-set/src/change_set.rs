//! What is done with a change set.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use slipway_aws::Kind;
use slipway_aws::bucket::Bucket;
use slipway_aws::store::Store;
use slipway_aws::target::{ChangeSetDescription, NewChangeSet, StackDescription, Targets};
use slipway_domain::ErrorName;
use slipway_domain::audit::{Act, Entry};
use slipway_domain::change_set;
use slipway_domain::deployment::{
    ChangeSetRef, Deployment, DeploymentRecord, DeploymentRef, Launch, Operation, OperationMark,
};
use slipway_domain::release::{MAX_MANIFEST_BYTES, Manifest, manifest_key, parameters, template_key};
use slipway_domain::session_policy::Purpose;
use slipway_handler::{Failure, Polled};

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
    Protect,
    Discard,
    Repair,
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
    /// The stack that it made is protected.
    Protected,
    /// It is gone.
    Discarded,
    /// CloudFormation goes on with the stack's rollback.
    Repairing,
    /// The stack was looked at, and nothing is done.
    Looked,
}

impl ChangeSet {
    pub(crate) async fn handle(&self, input: Input, now: Timestamp) -> Result<Polled<State>, Failure> {
        let deployment = &input.deployment;
        let record = slipway_handler::hold(&self.store, deployment, now).await?;
        match input.what {
            What::Create => self.create(deployment, &record, now).await,
            What::Execute => self.execute(deployment, &record, now).await,
            What::Protect => self.protect(&record).await,
            What::Discard => self.discard(&record).await,
            What::Repair => self.repair(deployment, &record, now).await,
        }
    }

    async fn create(
        &self,
        reference: &DeploymentRef,
        record: &DeploymentRecord,
        now: Timestamp,
    ) -> Result<Polled<State>, Failure> {
        if record.change_set.is_some() {
            return Ok(Polled { state: State::Made, wait: 0 });
        }
        let deployment = &record.deployment;
        let launch = launch(deployment)?;
        let purpose = Purpose::Create { bucket: self.bucket.name(), release: &launch.bundle };
        let stack = self.targets.stack(deployment, purpose).await?;
        let described = stack.describe(None).await?;
        let (seen, since) = (described.as_ref().map(StackDescription::seen), record.busy_since.unwrap_or(now));
        let creates_stack = match change_set::open(deployment, seen, since, now)? {
            change_set::Opening::Create => true,
            change_set::Opening::Update => false,
            change_set::Opening::Wait => return self.busy(record, now).await,
            change_set::Opening::Delete { stack_id, status } => {
                // Said before it is done: whoever looks later finds why the stack is another one.
                let said = format!("The stack is {status}: its first create failed, so it is deleted and made anew.");
                let noted = slipway_handler::note(&self.store, record, |record| record.say(&said)).await?;
                // What is asked for wrongly is refused before anything is changed.
                parameters(&self.manifest(launch).await?.parameters, &launch.parameters, &BTreeSet::new(), false)?;
                slipway_handler::still_ours(&self.store, reference, &noted, now).await?;
                stack.delete(&stack_id, &deployment.id.request_token(Operation::Delete)).await?;
                return self.busy(record, now).await;
            }
        };
        let manifest = self.manifest(launch).await?;
        // An empty shell has no values that could be kept, whatever it tells.
        let previous = described.filter(|_| !creates_stack).map(|stack| stack.parameters).unwrap_or_default();
        let parameters = parameters(&manifest.parameters, &launch.parameters, &previous, deployment.back.is_some())?;
        let name = deployment.id.change_set_name();
        let template_url = self.bucket.https_url(&template_key(&launch.bundle), deployment.target.region.as_str());
        let new = NewChangeSet { name: &name, creates_stack, template_url: &template_url, parameters: &parameters };
        let noted = slipway_handler::note(&self.store, record, |record| record.change_set_asked = true).await?;
        slipway_handler::still_ours(&self.store, reference, &noted, now).await?;
        stack.create_change_set(deployment, &new).await?;
        let made = stack.describe_change_set(&name).await?.ok_or_else(|| {
            // CloudFormation answers from several places: one may not know yet what another has just made.
            Failure::new(ErrorName::Unavailable, format!("the change set {name} was made and cannot be seen yet"))
        })?;
        let change_set = ChangeSetRef { arn: made.arn, stack_id: made.stack_id, creates_stack, made_at: now };
        let noted = slipway_handler::note(&self.store, record, |record| record.change_set = Some(change_set.clone()));
        let noted = noted.await?;
        if let Err(stopped) = slipway_handler::not_ended(&noted) {
            // The execution was stopped while CloudFormation was called: whoever cleaned up found nothing yet.
            let discarded = slipway_handler::discard(&self.store, &self.targets, &noted, now).await;
            self.store.give_up_lease(&deployment.environment, &deployment.id, now).await?;
            return Err(discarded.err().unwrap_or(stopped));
        }
        Ok(Polled { state: State::Made, wait: 0 })
    }

    async fn manifest(&self, launch: &Launch) -> Result<Manifest, Failure> {
        let manifest = self.bucket.get_json(&manifest_key(&launch.bundle), MAX_MANIFEST_BYTES).await?;
        manifest.ok_or_else(|| Failure::new(ErrorName::Internal, "the release has no manifest"))
    }

    /// Something else is going on with the stack.
    pub(crate) async fn busy(&self, record: &DeploymentRecord, now: Timestamp) -> Result<Polled<State>, Failure> {
        let wait = slipway_handler::wait_for_idle(&self.store, record, now).await?;
        Ok(Polled { state: State::Busy, wait })
    }

    /// Executes the change set, if everything still is what it was when it became ready and, where the stage asks for it,
    /// when somebody approved it.
    async fn execute(
        &self,
        reference: &DeploymentRef,
        record: &DeploymentRecord,
        now: Timestamp,
    ) -> Result<Polled<State>, Failure> {
        const EXECUTING: Polled<State> = Polled { state: State::Executing, wait: 0 };
        let deployment = &record.deployment;
        let made = made(record)?;
        let purpose = Purpose::Execute { bucket: self.bucket.name() };
        let stack = self.targets.stack(deployment, purpose).await?;
        let described = stack.describe_change_set(&made.arn).await?;
        if record.operation.is_some()
            && described.as_ref().is_none_or(|set| set.execution_status.starts_with("EXECUTE_"))
        {
            // An earlier try of this step got it going, and died before it could say so.
            return Ok(EXECUTING);
        }
        let binding = described.as_ref().and_then(|described| described.binding(record));
        let approval = match &record.approval {
            Some(id) => self.store.approval(id).await?,
            None => None,
        };
        let seen = described.as_ref().map(ChangeSetDescription::seen);
        change_set::executable(record, seen, binding.as_ref(), approval.as_ref())?;
        let mark = OperationMark { what: Operation::Execute, stack_id: made.stack_id.clone(), began_at: now };
        let noted = slipway_handler::note_recording(&self.store, record, |record| {
            if record.operation.is_some() {
                return None;
            }
            record.operation = Some(mark.clone());
            let (change_set, approval) = (made.arn.clone(), record.approval.clone());
            let act = Act::Executed { change_set, binding: binding.clone()?, approval };
            Some(Entry::of_deployment(act, &record.deployment, now))
        });
        slipway_handler::still_ours(&self.store, reference, &noted.await?, now).await?;
        match stack.execute(&made.arn, &deployment.id.request_token(Operation::Execute)).await {
            Ok(()) => Ok(EXECUTING),
            Err(error) if matches!(error.kind, Kind::Refused | Kind::Conflict) => {
                // A call whose answer was lost is refused when it is sent again.
                let described = stack.describe_change_set(&made.arn).await?;
                if described.is_some_and(|set| set.execution_status.starts_with("EXECUTE_")) {
                    Ok(EXECUTING)
                } else {
                    Err(error.into())
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Protects the stack, if its stage is protected.
    async fn protect(&self, record: &DeploymentRecord) -> Result<Polled<State>, Failure> {
        const PROTECTED: Polled<State> = Polled { state: State::Protected, wait: 0 };
        let deployment = &record.deployment;
        if deployment.target.protected {
            let policy = deployment.stack_rules.policy.as_ref().map(serde_json::to_string).transpose();
            let policy = policy.map_err(|error| Failure::new(ErrorName::Internal, error.to_string()))?;
            self.targets.stack(deployment, Purpose::Protect).await?.protect(policy.as_deref()).await?;
        }
        Ok(PROTECTED)
    }

    async fn discard(&self, record: &DeploymentRecord) -> Result<Polled<State>, Failure> {
        const DISCARDED: Polled<State> = Polled { state: State::Discarded, wait: 0 };
        let stack = self.targets.stack(&record.deployment, Purpose::Discard).await?;
        stack.discard(&record.deployment).await?;
        // The deployment that made it live may have failed before it could protect it.
        self.protect(record).await?;
        Ok(DISCARDED)
    }
}

fn launch(deployment: &Deployment) -> Result<&Launch, Failure> {
    deployment
        .launch
        .as_ref()
        .ok_or_else(|| Failure::new(ErrorName::Internal, "a teardown or a repair has no change set"))
}

fn made(record: &DeploymentRecord) -> Result<&ChangeSetRef, Failure> {
    record.change_set.as_ref().ok_or_else(|| Failure::new(ErrorName::Internal, "the change set was not made yet"))
}
