//! The one end of every deployment: of those that succeed, of those that a state machine catches, and, through EventBridge, of
//! those that are stopped, time out or die outside any Catch. The first record of an end stays. As it is the one that tells GitLab, it
//! also shows there that people are asked.

use aws_lambda_events::event::eventbridge::EventBridgeEvent;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use slipway_aws::announcements::Bus;
use slipway_aws::machines::Machines;
use slipway_aws::store::Store;
use slipway_aws::target::Targets;
use slipway_domain::ErrorName;
use slipway_domain::announcement::{DeploymentEnded, TeardownStuck};
use slipway_domain::approval::Void;
use slipway_domain::audit::Entry;
use slipway_domain::deployment::{Action, Deployment, DeploymentId, DeploymentRecord, Ending, Operation, Outcome};
use slipway_domain::environment::{self, Environment, Shown};
use slipway_domain::expiry::STUCK;
use slipway_domain::names::{Digest, EnvironmentKey};
use slipway_domain::protocol::ExecutionInput;
use slipway_domain::session_policy::Purpose;
use slipway_handler::Failure;
use slipway_handler::metrics::{Metrics, Unit};

use crate::show::ShowInGitLab;

/// What the function works with.
pub(crate) struct Settle {
    pub(crate) store: Store,
    pub(crate) targets: Targets,
    pub(crate) machines: Machines,
    pub(crate) bus: Bus,
    /// Where GitLab is shown how a deployment ended; nothing where it is not.
    pub(crate) show: Option<ShowInGitLab>,
    /// The control plane's name.
    pub(crate) control_plane: String,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// An execution ends.
    Ends {
        /// Which.
        of: Of,
        /// How.
        end: End,
    },
    /// People are asked.
    Asked(Known),
}

/// How it is known.
#[derive(Debug)]
pub(crate) enum Of {
    /// As Step Functions tells it.
    Execution(Execution),
    /// By the deployment that it was.
    Deployment(Known),
}

/// What a state machine sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    execution: Execution,
    end: End,
}

/// What `sweep` sends, of an execution whose admission may be gone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    deployment: Known,
    end: End,
}

/// What the rule of template.yaml makes of the event that people are asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    asked: Known,
}

/// A deployment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Known {
    environment: EnvironmentKey,
    id: DeploymentId,
}

/// An execution.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Execution {
    arn: String,
    started_at: Timestamp,
    /// What it was started with: somebody's words.
    input: serde_json::Value,
}

/// How.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum End {
    /// As asked.
    Done(Ending),
    /// With an error that the state machine caught.
    Failed(Caught),
}

/// An error, as a Catch gives it.
#[derive(Debug, Deserialize)]
pub(crate) struct Caught {
    #[serde(rename = "Error")]
    error: String,
    #[serde(rename = "Cause", default)]
    cause: Option<String>,
}

/// How the state machine ends.
#[derive(Debug, Serialize)]
pub(crate) struct Output {
    /// The name of the error; nothing when it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorName>,
    /// The root cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// The deployment, if there is one to speak of.
    deployment: Option<DeploymentId>,
}

/// The detail of "Step Functions Execution Status Change"
/// (<https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html>).
#[derive(Debug, Deserialize, Serialize)]
struct StatusChange {
    #[serde(rename = "executionArn")]
    arn: String,
    #[serde(rename = "startDate")]
    started_at_millis: i64,
    status: String,
    #[serde(default)]
    input: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    cause: Option<String>,
}

/// Reads what a state machine, `sweep` or EventBridge sends.
pub(crate) fn read(payload: serde_json::Value) -> Result<Input, Failure> {
    if payload.get("asked").is_some() {
        let Asked { asked } = slipway_handler::parse(payload)?;
        return Ok(Input::Asked(asked));
    }
    if payload.get("deployment").is_some() {
        let Seen { deployment, end } = slipway_handler::parse(payload)?;
        return Ok(Input::Ends { of: Of::Deployment(deployment), end });
    }
    if payload.get("detail-type").is_none() {
        let Told { execution, end } = slipway_handler::parse(payload)?;
        return Ok(Input::Ends { of: Of::Execution(execution), end });
    }
    let event: EventBridgeEvent<StatusChange> = slipway_handler::parse(payload)?;
    let invalid = |what: String| Failure::new(ErrorName::InvalidRequest, format!("the execution's event: {what}"));
    let StatusChange { arn, started_at_millis, status, input, error, cause } = event.detail;
    let started_at = Timestamp::from_millisecond(started_at_millis).map_err(|error| invalid(error.to_string()))?;
    let input = input.ok_or_else(|| invalid("its input is too large to be told".into()))?;
    let input = serde_json::from_str(&input).map_err(|error| invalid(error.to_string()))?;
    // Whoever stops an execution may give it any error: the status says what happened.
    let error = error.filter(|_| status == "FAILED").unwrap_or_else(|| format!("Execution.{status}"));
    let of = Of::Execution(Execution { arn, started_at, input });
    Ok(Input::Ends { of, end: End::Failed(Caught { error, cause }) })
}

impl Settle {
    pub(crate) async fn handle(&self, input: Input, now: Timestamp) -> Result<Output, Failure> {
        let (of, end) = match input {
            Input::Ends { of, end } => (of, end),
            Input::Asked(known) => {
                if let Err(failure) = self.show_waiting(&known).await {
                    tracing::warn!(deployment = %known.id, message = %failure, "GitLab was not shown that people are asked");
                }
                return Ok(Output { error: None, cause: None, deployment: Some(known.id) });
            }
        };
        let failed = match &end {
            End::Done(_) => None,
            End::Failed(caught) => Some(named(caught)),
        };
        let Some(record) = self.find(of).await? else {
            if let Some((ErrorName::Stopped, why)) = &failed {
                // Its first step may still be at work, and about to write the row: Lambda asks again when that has ended.
                return Err(Failure::new(ErrorName::Unavailable, format!("{why}, and there is no row of it yet")));
            }
            // It failed before it was admitted: there is nothing to record it on, and nothing to give up.
            let (error, cause) = failed.unzip();
            return Ok(Output { error, cause, deployment: None });
        };
        let (error, message) = failed.unzip();
        let ending = match end {
            End::Done(ending) => record.deployment.ending(ending),
            End::Failed(_) => Ending::Failed,
        };
        let outcome = Outcome { ending, error, message, ended_at: now };
        // The first end that was recorded is the end, whatever is told later.
        let noted = slipway_handler::note_recording(&self.store, &record, |record| {
            if record.outcome.is_some() {
                return None;
            }
            record.outcome = Some(outcome.clone());
            Some(Entry::settled(&record.deployment, &outcome))
        });
        let record = noted.await?;
        let deployment = &record.deployment;
        let outcome = record.outcome.clone().unwrap_or(outcome);
        if record.told {
            // Told once more, after all was done: a failed execution's end is told by its own last step, and by EventBridge.
            self.close(deployment).await?;
            return Ok(Output {
                error: outcome.error,
                cause: outcome.message,
                deployment: Some(deployment.id.clone()),
            });
        }
        // The end of each execution that fails is told twice: by its own last step, and by EventBridge.
        let to_clean = outcome.ending == Ending::Failed && !record.cleaned_up;
        let cleaned = if to_clean { self.clean_up(&record, now).await } else { Ok(()) };
        let shown = if outcome.ending == Ending::Failed { Shown::default() } else { self.shown(&record, now).await? };
        let settled = self.store.update_environment(&deployment.environment, |current| {
            let current: Environment = match current {
                Some(current) => current.clone(),
                None => environment::begin(None, deployment)?,
            };
            Ok::<_, slipway_domain::environment::Superseded>(environment::settle(current, deployment, &outcome, &shown))
        });
        let environment = settled.await?;
        self.store.give_up_lease(&deployment.environment, &deployment.id, now).await?;
        // What can be done a little later is tried again; nobody has to wait for it.
        cleaned?;
        if self.tell(&record, &outcome, &environment, now).await? {
            self.close(deployment).await?;
            // Not when it is told once more: GitLab was shown then, or did not want to be.
            if let Some(show) = &self.show {
                show.run(&record, &outcome, &environment).await;
            }
        }
        Ok(Output { error: outcome.error, cause: outcome.message, deployment: Some(deployment.id.clone()) })
    }

    /// Shows in GitLab that people are asked, where they still are.
    async fn show_waiting(&self, known: &Known) -> Result<(), Failure> {
        let Some(show) = &self.show else { return Ok(()) };
        let Some(record) = self.store.deployment(&known.environment, &known.id).await? else { return Ok(()) };
        let Some(environment) = self.store.environment(&known.environment).await? else { return Ok(()) };
        if !show.waits(&record, &environment).await {
            return Ok(());
        }
        // The end is recorded and told before it is shown. If it is told by now, it may have been shown before this was: so it is shown
        // once more. If not, it is shown later than this.
        let Some(record) = self.store.deployment(&known.environment, &known.id).await? else { return Ok(()) };
        if let (Some(outcome), true) = (&record.outcome, record.told) {
            let environment = self.store.environment(&known.environment).await?.unwrap_or(environment);
            show.run(&record, outcome, &environment).await;
        }
        Ok(())
    }

    /// Tells whoever listens that a deployment ended, unless they were told. Whether they are: it fails no deployment if not, and
    /// `sweep` comes back for it.
    async fn tell(
        &self,
        record: &DeploymentRecord,
        outcome: &Outcome,
        environment: &Environment,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        if record.told {
            return Ok(true);
        }
        let deployment = &record.deployment;
        let mut told = self.bus.tell(&DeploymentEnded::new(deployment, outcome, environment)).await;
        let failed = deployment.action == Action::Teardown && outcome.ending == Ending::Failed;
        if told.is_ok() && failed && environment.failed_teardowns >= STUCK {
            told = self.bus.tell(&TeardownStuck::new(environment, deployment, outcome)).await;
        }
        if let Err(error) = told {
            tracing::error!(deployment = %deployment.id, %error, "nobody was told of its end");
            return Ok(false);
        }
        slipway_handler::note(&self.store, record, |record| record.told = true).await?;
        self.measure(deployment, outcome, now);
        Ok(true)
    }

    fn measure(&self, deployment: &Deployment, outcome: &Outcome, now: Timestamp) {
        let result = outcome.error.map_or(outcome.ending.as_str(), ErrorName::as_str);
        let stage = deployment.environment.stage.as_str();
        let seconds = outcome.ended_at.duration_since(deployment.started_at).as_secs();
        let (deployments, seconds) =
            (("Deployments", Unit::Count, 1), ("DeploymentSeconds", Unit::Seconds, seconds.unsigned_abs()));
        let action = ("Action", deployment.action.as_str());
        let metrics = Metrics {
            control_plane: &self.control_plane,
            dimensions: &[("Stage", stage), action, ("Result", result)],
            numbers: &[deployments],
        };
        metrics.write(now);
        Metrics { dimensions: &[("Stage", stage), action], numbers: &[seconds], ..metrics }.write(now);
    }

    /// All is done: `sweep` need not look any more whether it ended.
    async fn close(&self, deployment: &Deployment) -> Result<(), Failure> {
        let closed = self.store.update_environment(&deployment.environment, |current| match current {
            Some(current) => Ok::<_, environment::Superseded>(current.closed(&deployment.id)),
            None => environment::begin(None, deployment),
        });
        closed.await?;
        Ok(())
    }

    /// The deployment that an execution is.
    async fn find(&self, of: Of) -> Result<Option<DeploymentRecord>, Failure> {
        let execution = match of {
            Of::Execution(execution) => execution,
            Of::Deployment(Known { environment, id }) => return Ok(self.store.deployment(&environment, &id).await?),
        };
        // Whatever it was started with: what cannot be read was never admitted.
        let Ok(input) = slipway_handler::parse::<ExecutionInput>(execution.input) else { return Ok(None) };
        let Some(admission) = self.store.admission(&input.admission).await? else { return Ok(None) };
        let id = DeploymentId::from_execution(execution.started_at, &execution.arn);
        Ok(self.store.deployment(&admission.environment, &id).await?)
    }

    /// Takes away what a failed deployment leaves behind: its question to people, and its change set.
    async fn clean_up(&self, record: &DeploymentRecord, now: Timestamp) -> Result<(), Failure> {
        if let Some(approval) = &record.approval {
            self.void(approval, record, now).await?;
        }
        slipway_handler::discard(&self.store, &self.targets, record, now).await?;
        slipway_handler::note(&self.store, record, |record| record.cleaned_up = true).await?;
        Ok(())
    }

    async fn void(&self, approval: &Digest, record: &DeploymentRecord, at: Timestamp) -> Result<(), Failure> {
        let outcome = record.outcome.as_ref();
        let error = outcome.and_then(|outcome| outcome.error).unwrap_or(ErrorName::ChangeSetStale);
        let why = outcome.and_then(|outcome| outcome.message.as_deref()).unwrap_or("nobody said why");
        let void = Void { error, why: format!("the deployment ended: {why}"), at };
        match self.store.void_approval(approval, &void).await?.filter(|approval| approval.void.is_some()) {
            // What people answered meanwhile is theirs to hand on who heard it, or sweep's.
            Some(approval) => slipway_handler::deliver(&self.store, &self.machines, &approval).await,
            None => Ok(()),
        }
    }

    /// What the stack shows at the end of a deployment that succeeded.
    async fn shown(&self, record: &DeploymentRecord, now: Timestamp) -> Result<Shown, Failure> {
        let Deployment { launch: Some(_), .. } = &record.deployment else { return Ok(Shown::default()) };
        let stack = self.targets.stack(&record.deployment, Purpose::Look).await?;
        let outputs = stack.describe(None).await?.map(|stack| stack.outputs).unwrap_or_default();
        let executed = record.operation.as_ref().filter(|mark| mark.what == Operation::Execute);
        let seconds = executed.and_then(|mark| u32::try_from(now.duration_since(mark.began_at).as_secs()).ok());
        Ok(Shown { outputs, seconds })
    }
}

/// The name and the message of a caught error. A function's own come as JSON in the cause.
fn named(caught: &Caught) -> (ErrorName, String) {
    let cause = caught.cause.as_deref().unwrap_or_default();
    let told = serde_json::from_str::<serde_json::Value>(cause).ok();
    let told = told.as_ref().and_then(|cause| cause.get("errorMessage")).and_then(serde_json::Value::as_str);
    let message = told.unwrap_or(cause).to_owned();
    if let Some(name) = ErrorName::parse(&caught.error) {
        return (name, message);
    }
    let name = match caught.error.as_str() {
        "Execution.ABORTED" => ErrorName::Stopped,
        "Execution.TIMED_OUT" => ErrorName::StackTimedOut,
        _ => ErrorName::Internal,
    };
    let what = match caught.error.as_str() {
        "Execution.ABORTED" => "the execution was stopped by a person".to_owned(),
        "Execution.TIMED_OUT" => "the execution ran into its time limit".to_owned(),
        "Execution.FORGOTTEN" => {
            "nobody noted how the execution ended, and Step Functions has forgotten it, as it does after 90 days"
                .to_owned()
        }
        "States.Timeout" => "a step did not answer in time".to_owned(),
        other => format!("a step failed with {other}"),
    };
    (name, if message.is_empty() { what } else { format!("{what}: {message}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caught(error: &str, cause: Option<&str>) -> (ErrorName, String) {
        named(&Caught { error: error.into(), cause: cause.map(str::to_owned) })
    }

    #[test]
    fn every_end_has_a_name_and_a_message() {
        let function = r#"{"errorType":"StackFailed","errorMessage":"Queue: out of range"}"#;
        assert_eq!(caught("StackFailed", Some(function)), (ErrorName::StackFailed, "Queue: out of range".into()));
        assert_eq!(caught("ApprovalRejected", Some("no")), (ErrorName::ApprovalRejected, "no".into()));
        assert_eq!(
            caught("Execution.ABORTED", None),
            (ErrorName::Stopped, "the execution was stopped by a person".into())
        );
        assert_eq!(caught("Sandbox.Timedout", Some("x")).0, ErrorName::Internal);
        let forgotten = caught("Execution.FORGOTTEN", None);
        assert!(forgotten.0 == ErrorName::Internal && forgotten.1.contains("forgotten"), "{forgotten:?}");
        assert_eq!(caught("States.Timeout", None), (ErrorName::Internal, "a step did not answer in time".into()));
    }
}
