//! Executions: starting one, or joining the one that an earlier try of the same job started.

use aws_sdk_sfn::operation::start_execution::StartExecutionError;
use jiff::Timestamp;
use slipway_domain::ErrorName;
use slipway_domain::admission::MAX_ATTEMPT;
use slipway_domain::deployment::{Action, DeploymentId, execution_name};
use slipway_domain::environment::EnvironmentState;
use slipway_domain::protocol::{Admitted, ExecutionInput, On};

use crate::api::Api;
use crate::aws::remote;
use crate::error::CliError;

/// Step Functions.
pub(crate) struct Executions {
    client: aws_sdk_sfn::Client,
}

/// An execution, as Step Functions describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Execution {
    /// `RUNNING`, `SUCCEEDED`, `FAILED`, `TIMED_OUT`, `ABORTED`, `PENDING_REDRIVE`.
    pub(crate) status: String,
    /// When it started, to the millisecond.
    pub(crate) started_at: Timestamp,
    /// The error that it failed with.
    pub(crate) error: Option<String>,
    /// What belongs to that error.
    pub(crate) cause: Option<String>,
}

/// How an execution came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// We started it.
    Started,
    /// An earlier try of the job did, and it runs.
    Joined,
    /// An earlier try of the job did, and it succeeded.
    Done,
}

/// An execution to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    /// Which.
    pub(crate) arn: String,
    /// How it came about.
    pub(crate) how: How,
}

/// What to do when an execution of the wanted name exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Join,
    Result,
    Anew,
}

/// Decides by the earlier execution's status. What it did counts as long as it stands.
fn next(status: &str, stands: bool) -> Next {
    match status {
        "RUNNING" => Next::Join,
        _ if stands => Next::Result,
        _ => Next::Anew,
    }
}

/// The ARN of the execution `name` of a state machine.
fn execution_arn(machine: &str, name: &str) -> Result<String, CliError> {
    match machine.split_once(":stateMachine:") {
        Some((account, machine)) => Ok(format!("{account}:execution:{machine}:{name}")),
        None => Err(CliError::named(ErrorName::Internal, format!("\"{machine}\" is no state machine's ARN"))),
    }
}

impl Executions {
    /// Those of the account that `config` speaks to.
    pub(crate) fn new(config: &aws_config::SdkConfig) -> Self {
        Self { client: aws_sdk_sfn::Client::new(config) }
    }

    /// Starts what was admitted, or joins what an earlier try of the same job started.
    pub(crate) async fn start_or_join(
        &self,
        api: &Api,
        on: &On,
        admitted: &Admitted,
        job: &str,
    ) -> Result<Running, CliError> {
        let Admitted { action, environment, pipeline_id, state_machine_arn: machine, done_by, .. } = admitted;
        for attempt in 1..=MAX_ATTEMPT {
            let name = execution_name(*action, environment, *pipeline_id, job, attempt);
            let input = ExecutionInput { admission: admitted.admission.clone(), attempt };
            let input = serde_json::to_string(&input).map_err(|error| CliError::local("writing the input", error))?;
            if let Some(arn) = self.start(machine, &name, &input).await? {
                return Ok(Running { arn, how: How::Started });
            }
            let arn = execution_arn(machine, &name)?;
            let earlier = self.describe(&arn).await?;
            let stands = match (action, earlier.status.as_str()) {
                // The row is the truth: what made something live did so, whatever its execution came to.
                (Action::Deploy, _) => *done_by == Some(DeploymentId::from_execution(earlier.started_at, &arn)),
                (Action::Teardown, "SUCCEEDED") => match api.status_patiently(on, None).await {
                    Ok(status) => status.state == EnvironmentState::TornDown,
                    Err(error) if error.name() == Some(ErrorName::NotFound) => false,
                    Err(error) => return Err(error),
                },
                // Done once more, a repair looks whether there is anything to do.
                (Action::Teardown | Action::Repair, _) => false,
            };
            match next(&earlier.status, stands) {
                Next::Join => return Ok(Running { arn, how: How::Joined }),
                Next::Result => return Ok(Running { arn, how: How::Done }),
                Next::Anew => {}
            }
        }
        let message = format!("this job was tried {MAX_ATTEMPT} times in this pipeline: run a new pipeline");
        Err(CliError::named(ErrorName::InvalidRequest, message))
    }

    /// Starts an execution; `None` when one of that name exists.
    async fn start(&self, machine: &str, name: &str, input: &str) -> Result<Option<String>, CliError> {
        let sent = self.client.start_execution().state_machine_arn(machine).name(name).input(input).send().await;
        match sent {
            Ok(started) => Ok(Some(started.execution_arn)),
            Err(error) if error.as_service_error().is_some_and(StartExecutionError::is_execution_already_exists) => {
                Ok(None)
            }
            Err(error) => Err(remote("states:StartExecution", &error)),
        }
    }

    /// How an execution stands.
    pub(crate) async fn describe(&self, arn: &str) -> Result<Execution, CliError> {
        let sent = self.client.describe_execution().execution_arn(arn).send().await;
        let found = sent.map_err(|error| remote("states:DescribeExecution", &error))?;
        // It comes as a fraction of seconds: the nearest millisecond is the one that was meant, not the one below.
        let nearest = i64::from(found.start_date.subsec_nanos() + 500_000) / 1_000_000;
        let millis = found.start_date.secs().saturating_mul(1000).saturating_add(nearest);
        let started_at = Timestamp::from_millisecond(millis).unwrap_or_default();
        Ok(Execution { status: found.status.as_str().to_owned(), started_at, error: found.error, cause: found.cause })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_try_is_joined_taken_over_or_followed_by_a_new_one() {
        assert_eq!(next("RUNNING", false), Next::Join);
        assert_eq!(next("SUCCEEDED", true), Next::Result);
        assert_eq!(next("SUCCEEDED", false), Next::Anew);
        for status in ["FAILED", "TIMED_OUT", "ABORTED", "PENDING_REDRIVE", "SOMETHING_NEW"] {
            assert_eq!(next(status, false), Next::Anew);
            assert_eq!(next(status, true), Next::Result, "the row says so");
        }
    }

    #[test]
    fn the_executions_arn_follows_from_the_machines() {
        let machine = "arn:aws:states:eu-central-1:999999999999:stateMachine:slipway-deploy";
        assert_eq!(
            execution_arn(machine, "deploy-1").unwrap(),
            "arn:aws:states:eu-central-1:999999999999:execution:slipway-deploy:deploy-1"
        );
        assert!(execution_arn("arn", "x").is_err());
    }
}
