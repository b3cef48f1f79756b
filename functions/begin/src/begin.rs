//! The first step of both state machines, and the one after a person decided.

use std::convert::Infallible;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use slipway_aws::announcements::Bus;
use slipway_aws::machines::Machines;
use slipway_aws::parameters::Parameters;
use slipway_aws::store::Store;
use slipway_domain::ErrorName;
use slipway_domain::admission::Admission;
use slipway_domain::announcement::DeploymentStarted;
use slipway_domain::approval::Void;
use slipway_domain::deployment::{Action, Deployment, DeploymentId, DeploymentRecord, DeploymentRef, Target};
use slipway_domain::environment::{self, Environment};
use slipway_domain::lease::{Holder, Taking};
use slipway_domain::names::Region;
use slipway_domain::protocol::ExecutionInput;
use slipway_domain::stages::DEFAULT_TIMEOUT;
use slipway_domain::waiting::next_wait;
use slipway_handler::Failure;

/// What the function works with.
pub(crate) struct Begin {
    pub(crate) store: Store,
    pub(crate) parameters: Parameters,
    pub(crate) machines: Machines,
    pub(crate) bus: Bus,
    pub(crate) stages_parameter: String,
    pub(crate) region: Region,
}

/// What a state machine asks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Input {
    /// To begin this execution.
    Begin(Execution),
    /// To take the lease again, after it was given up while a person decided.
    Resume(DeploymentRef),
}

/// An execution, as the context object of its state machine tells it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Execution {
    /// What the state machine does.
    action: Action,
    arn: String,
    name: String,
    started_at: Timestamp,
    /// What it was started with: somebody's words.
    input: serde_json::Value,
}

/// What the state machine goes on with.
#[derive(Debug, Serialize)]
pub(crate) struct Output {
    /// The deployment, with the fence of its lease; nobody's (0) while `wait` is not 0.
    deployment: DeploymentRef,
    /// Whether somebody has to approve its change set.
    approval: bool,
    /// Whether its stack is protected once it is live.
    protected: bool,
    /// Whether it repairs the stack, and launches nothing.
    repair: bool,
    /// How many seconds to wait before asking for the lease again; 0 when it is taken.
    wait: u32,
}

impl Begin {
    pub(crate) async fn handle(&self, input: Input, now: Timestamp) -> Result<Output, Failure> {
        match input {
            Input::Begin(execution) => {
                let deployment = self.admitted(execution).await?;
                let (key, id) = (&deployment.environment, &deployment.id);
                let mut first = false;
                let record = self.store.update_deployment(key, id, |known| {
                    first = known.is_none();
                    Ok::<_, Infallible>(known.cloned().unwrap_or_else(|| DeploymentRecord::new(deployment.clone())))
                });
                // What the stages said when it began is what counts, whatever they say by the time that it has the lease.
                let deployment = record.await?.deployment;
                let environment =
                    self.store.update_environment(key, |current| environment::begin(current, &deployment)).await?;
                // Telling people fails no deployment.
                if first && let Err(error) = self.bus.tell(&DeploymentStarted::new(&deployment)).await {
                    tracing::error!(deployment = %deployment.id, %error, "nobody was told that it began");
                }
                self.supersede_waiting(&environment, &deployment, now).await?;
                self.lease(&deployment, now).await
            }
            Input::Resume(reference) => {
                let deployment = slipway_handler::record(&self.store, &reference).await?.deployment;
                self.same_rules(&deployment).await?;
                self.still_newest(&deployment).await?;
                self.lease(&deployment, now).await
            }
        }
    }

    /// The deployment that this execution is, if its admission admits it.
    async fn admitted(&self, execution: Execution) -> Result<Deployment, Failure> {
        let input: ExecutionInput = slipway_handler::parse(execution.input)?;
        let admission = self.store.admission(&input.admission).await?.ok_or_else(|| {
            Failure::new(
                ErrorName::NotFound,
                "the execution's admission does not exist: only `slipway` starts executions",
            )
        })?;
        admission.admits(execution.action, &execution.name, input.attempt, execution.started_at)?;
        let id = DeploymentId::from_execution(execution.started_at, &execution.arn);
        let Admission { id: admission, action, environment, launch, repair, purge_logs, requester, back, .. } =
            self.store.use_admission(&admission, &id).await?;
        let stages = slipway_handler::stages(&self.parameters, &self.stages_parameter).await?;
        let known = self.store.environment(&environment).await?;
        // However names are made today: its stack keeps the one that it was made with.
        let stack_name = known.as_ref().map_or_else(|| environment.stack_name(), |known| known.stack_name.clone());
        let bound = known.filter(|known| known.is_bound(&id));
        let (target, stage) = match &bound {
            // What is there goes, or is put right, where it is: its stage may have been moved since, or taken away.
            Some(there) if action != Action::Deploy => {
                let stage = stages.get(&environment.stage).ok();
                let protected = there.target.protected || stage.is_some_and(|stage| stage.protected);
                (Target { protected, ..there.target.clone() }, stage)
            }
            Some(_) | None => {
                let stage = stages.get(&environment.stage)?;
                let (account, region) = (stage.account.clone(), self.region.clone());
                (Target { account, region, protected: stage.protected }, Some(stage))
            }
        };
        let deployment = Deployment {
            id,
            action,
            stack_name,
            target,
            environment,
            launch,
            repair,
            back,
            // A repair goes back to what was live, and so was approved.
            approval: stage.and_then(|stage| stage.approval.clone()).filter(|_| action != Action::Repair),
            timeout: stage.map_or(DEFAULT_TIMEOUT, |stage| stage.timeout),
            stack_rules: stage.map(|stage| stage.stack.clone()).unwrap_or_default(),
            teardown: stage.and_then(|stage| stage.teardown.clone()).unwrap_or_default(),
            purge_logs,
            requester,
            execution_arn: execution.arn,
            admission,
            started_at: execution.started_at,
        };
        if let Some(there) = &bound {
            environment::stays(there, &deployment)?;
        }
        Ok(deployment)
    }

    /// Ends an older deployment that waits for a person: its change set is not what anybody wants any more. A repair wants nothing
    /// else in its place.
    async fn supersede_waiting(
        &self,
        environment: &Environment,
        by: &Deployment,
        now: Timestamp,
    ) -> Result<(), Failure> {
        if by.action == Action::Repair {
            return Ok(());
        }
        let Some(waiting) = environment.waiting.as_ref().filter(|waiting| waiting.deployment != by.id) else {
            return Ok(());
        };
        let why = match by.requester.as_ref() {
            Some(requester) => {
                format!("superseded by the {} of pipeline {}", by.action.as_str(), requester.pipeline_id)
            }
            None => format!("superseded by a {} of an expired environment", by.action.as_str()),
        };
        let void = Void { error: ErrorName::Superseded, why, at: now };
        match self.store.void_approval(&waiting.approval, &void).await?.filter(|approval| approval.void.is_some()) {
            // What people answered meanwhile is theirs to hand on who heard it, or sweep's.
            Some(approval) => slipway_handler::deliver(&self.store, &self.machines, &approval).await,
            None => Ok(()),
        }
    }

    /// Makes sure that what people agreed to is what the stage asks for today: who may, or how many have to, may have changed while they
    /// decided.
    async fn same_rules(&self, deployment: &Deployment) -> Result<(), Failure> {
        let stages = slipway_handler::stages(&self.parameters, &self.stages_parameter).await?;
        let stage = &deployment.environment.stage;
        if stages.get(stage)?.approval == deployment.approval {
            return Ok(());
        }
        let message = format!("who has to approve in stage {stage} was changed since this was asked");
        Err(Failure::new(ErrorName::ChangeSetStale, message))
    }

    /// Clears the mark that this deployment waits for a person, unless a newer pipeline came meanwhile.
    async fn still_newest(&self, deployment: &Deployment) -> Result<(), Failure> {
        let key = &deployment.environment;
        let resumed = self.store.update_environment(key, |current| environment::resume(current, deployment));
        resumed.await.map(drop).map_err(Failure::from)
    }

    async fn lease(&self, deployment: &Deployment, now: Timestamp) -> Result<Output, Failure> {
        let Deployment { environment: key, id, .. } = deployment;
        let reference = |fence| DeploymentRef { environment: key.clone(), id: id.clone(), fence };
        let repair = deployment.action == Action::Repair;
        let (approval, protected) = (deployment.approval.is_some(), deployment.target.protected && !repair);
        let mut taking = self.store.take_lease(key, id, None, now).await?;
        let mut holder = None;
        if let Taking::Held { owner, .. } = &taking {
            holder = self.store.deployment(key, owner).await?;
            let execution = holder.as_ref().map(|holder| holder.deployment.execution_arn.as_str());
            let lives = match execution {
                Some(execution) => self.machines.is_running(execution).await?,
                None => true,
            };
            if !lives {
                let owner = owner.clone();
                taking = self.store.take_lease(key, id, Some(&owner), now).await?;
            }
        }
        let holder = holder.as_ref().map(Holder::of).filter(|_| matches!(taking, Taking::Held { .. }));
        self.note_holder(deployment, holder).await?;
        let record = self.store.deployment(key, id).await?;
        if record.is_some_and(|record| record.outcome.is_some()) {
            // Stopped while this step was at work: settle has recorded the end, and gives nothing up any more.
            self.store.give_up_lease(key, id, now).await?;
            return Err(Failure::new(ErrorName::Stopped, "the deployment ended while it began"));
        }
        match taking {
            Taking::Ours(lease) => {
                let environment = self.store.environment(key).await?;
                // What began with an older version may have been given another account meanwhile.
                if let Some(environment) = &environment {
                    environment::stays(environment, deployment)?;
                }
                environment::goes_back(environment.as_ref(), deployment)?;
                Ok(Output { deployment: reference(lease.fence), approval, protected, repair, wait: 0 })
            }
            Taking::Held { owner, until } => {
                // Who waits for longer than a deployment may take waits for something that does not end.
                let waited = now.duration_since(deployment.started_at);
                if waited > deployment.longest() {
                    let message =
                        format!("waited {waited:#} for {key}: now deployment {owner} holds it, until {until}");
                    return Err(Failure::new(ErrorName::LeaseHeld, message));
                }
                self.still_newest(deployment).await?;
                Ok(Output {
                    deployment: reference(0),
                    approval,
                    protected,
                    repair,
                    wait: next_wait(u32::try_from(waited.as_secs()).unwrap_or(0), None),
                })
            }
        }
    }
}

impl Begin {
    /// Notes whom the deployment waits for, so that whoever waits with it is told.
    async fn note_holder(&self, deployment: &Deployment, holder: Option<Holder>) -> Result<(), Failure> {
        let Deployment { environment: key, id, .. } = deployment;
        let known = self.store.deployment(key, id).await?;
        let Some(record) = known.filter(|record| record.waits_for != holder) else { return Ok(()) };
        slipway_handler::note(&self.store, &record, |record| record.waits_for.clone_from(&holder)).await?;
        Ok(())
    }
}
