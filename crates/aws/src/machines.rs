//! The state machines: starting one, and answering one that waits for a person.

use aws_sdk_sfn::Client;
use aws_sdk_sfn::types::ExecutionStatus;
use slipway_domain::ErrorName;
use slipway_domain::approval::{Answer, Approval};

use crate::error::{AwsError, Kind, sort};

/// Step Functions.
#[derive(Debug, Clone)]
pub struct Machines {
    client: Client,
}

/// An execution that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedExecution {
    /// How, in Step Functions' word; `FORGOTTEN` where it remembers nothing, 90 days after the end.
    pub status: String,
    /// The error that it failed with.
    pub error: Option<String>,
    /// What was said of it.
    pub cause: Option<String>,
}

/// What came of an answer to a waiting step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// Step Functions has it.
    Delivered,
    /// The step does not wait any more.
    Gone,
}

impl Machines {
    /// Those of the account that `config` speaks to.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        Self { client: Client::new(config) }
    }

    /// Starts `machine` under `name`, unless an execution of that name was started before: both are success.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn start(&self, machine: &str, name: &str, input: &str) -> Result<(), AwsError> {
        let started = self.client.start_execution().state_machine_arn(machine).name(name).input(input).send().await;
        match started.map_err(|error| sort("states:StartExecution", &error)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind == Kind::Conflict => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether an execution still runs. One that Step Functions has forgotten, 90 days after its end, does not.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn is_running(&self, execution: &str) -> Result<bool, AwsError> {
        Ok(self.ended(execution).await?.is_none())
    }

    /// How an execution ended; nothing while it runs.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn ended(&self, execution: &str) -> Result<Option<EndedExecution>, AwsError> {
        let described = self.client.describe_execution().execution_arn(execution).send().await;
        match described.map_err(|error| sort("states:DescribeExecution", &error)) {
            Ok(described) => {
                let status = described.status;
                let runs = matches!(status, ExecutionStatus::Running | ExecutionStatus::PendingRedrive);
                let error = described.error.filter(|_| status == ExecutionStatus::Failed);
                let ended = EndedExecution { status: status.as_str().to_owned(), error, cause: described.cause };
                Ok((!runs).then_some(ended))
            }
            Err(error) if error.kind == Kind::NotFound => {
                Ok(Some(EndedExecution { status: "FORGOTTEN".to_owned(), error: None, cause: None }))
            }
            Err(error) => Err(error),
        }
    }

    /// Lets the step that waits with `task_token` go on with `output`.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn succeed(&self, task_token: &str, output: &str) -> Result<Answered, AwsError> {
        let sent = self.client.send_task_success().task_token(task_token).output(output).send().await;
        answered(sent.map_err(|error| sort("states:SendTaskSuccess", &error)))
    }

    /// Hands on how `approval` was answered, if it was. Step Functions forgets a token with the first answer that it gets, so
    /// doing it again does no harm.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn answer(&self, approval: &Approval) -> Result<(), AwsError> {
        let token = &approval.task_token;
        match approval.answer() {
            Some(Answer::GoOn) => self.succeed(token, "{}").await.map(drop),
            Some(Answer::Fail(name, cause)) => self.fail(token, name, &cause).await.map(drop),
            None => Ok(()),
        }
    }

    /// Lets the step that waits with `task_token` fail as `name`, with `cause` for a person.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn fail(&self, task_token: &str, name: ErrorName, cause: &str) -> Result<Answered, AwsError> {
        let sent =
            self.client.send_task_failure().task_token(task_token).error(name.as_str()).cause(cause).send().await;
        answered(sent.map_err(|error| sort("states:SendTaskFailure", &error)))
    }
}

fn answered<T>(sent: Result<T, AwsError>) -> Result<Answered, AwsError> {
    match sent {
        Ok(_) => Ok(Answered::Delivered),
        // <https://docs.aws.amazon.com/step-functions/latest/apireference/API_SendTaskSuccess.html>
        Err(error)
            if error.kind == Kind::NotFound || ["TaskTimedOut", "InvalidToken"].contains(&error.code.as_str()) =>
        {
            Ok(Answered::Gone)
        }
        Err(error) => Err(error),
    }
}
