//! The functions `api` and `reader`: asking, and reading their answers.

use std::time::Duration;

use aws_sdk_lambda::primitives::Blob;
use serde::Serialize;
use serde::de::DeserializeOwned;
use slipway_domain::ErrorName;
use slipway_domain::deployment::DeploymentId;
use slipway_domain::names::ProjectId;
use slipway_domain::protocol::{
    Admitted, Ask, AuditPage, AuditRequest, DeployRequest, EnvironmentsPage, EnvironmentsRequest, HistoryPage,
    HistoryRequest, KeepRequest, KeptUntil, MAX_REQUEST_BYTES, On, PlanRequest, Question, ReaderRequest, RepairRequest,
    Request, RollbackRequest, Status, StatusRequest, TeardownRequest, UnlockRequest, Unlocked, WhyRequest,
};
use slipway_domain::registry::Why;
use slipway_domain::teardown::Plan;

use crate::aws::remote;
use crate::error::CliError;
use crate::settings::Secret;

/// How often an admission is asked for, when the answer is "later".
const TRIES: u32 = 3;

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) enum Asker {
    /// A job asks `api`, by its ID token.
    Job(Secret),
    /// A person asks `reader`, by their AWS credentials, about one project or all of them.
    Person(Option<ProjectId>),
}

/// The function.
pub(crate) struct Api {
    client: aws_sdk_lambda::Client,
    function: String,
    asker: Asker,
}

impl Api {
    /// The function `function`, asked by `asker`.
    pub(crate) fn new(config: &aws_config::SdkConfig, function: &str, asker: Asker) -> Self {
        Self { client: aws_sdk_lambda::Client::new(config), function: function.to_owned(), asker }
    }

    /// Asks to deploy.
    pub(crate) async fn deploy(&self, request: DeployRequest) -> Result<Admitted, CliError> {
        self.ask_patiently(Ask::Deploy(request)).await
    }

    /// Asks to tear down.
    pub(crate) async fn teardown(&self, request: TeardownRequest) -> Result<Admitted, CliError> {
        self.ask_patiently(Ask::Teardown(request)).await
    }

    /// Asks what a teardown would do.
    pub(crate) async fn plan_teardown(&self, request: PlanRequest) -> Result<Plan, CliError> {
        self.ask_patiently(Ask::PlanTeardown(request)).await
    }

    /// Asks to launch again what was live before.
    pub(crate) async fn rollback(&self, request: RollbackRequest) -> Result<Admitted, CliError> {
        self.ask_patiently(Ask::Rollback(request)).await
    }

    /// Asks to repair.
    pub(crate) async fn repair(&self, request: RepairRequest) -> Result<Admitted, CliError> {
        self.ask_patiently(Ask::Repair(request)).await
    }

    /// Asks to change how long an environment lives.
    pub(crate) async fn keep(&self, request: KeepRequest) -> Result<KeptUntil, CliError> {
        self.ask_patiently(Ask::Keep(request)).await
    }

    /// Asks who holds an environment, or to take it away from them.
    pub(crate) async fn unlock(&self, request: UnlockRequest) -> Result<Unlocked, CliError> {
        self.ask_patiently(Ask::Unlock(request)).await
    }

    /// Asks how things stand, once: who follows asks again anyway.
    pub(crate) async fn status(&self, on: &On, deployment: Option<&DeploymentId>) -> Result<Status, CliError> {
        let request = StatusRequest { on: on.clone(), deployment: deployment.cloned() };
        self.ask(Ask::Look(Question::Status(request))).await
    }

    /// Asks how things stand, for an answer that is needed.
    pub(crate) async fn status_patiently(
        &self,
        on: &On,
        deployment: Option<&DeploymentId>,
    ) -> Result<Status, CliError> {
        self.look(Question::Status(StatusRequest { on: on.clone(), deployment: deployment.cloned() })).await
    }

    /// Asks what is recorded of an environment after row number `after`.
    pub(crate) async fn audit(&self, on: &On, after: u64) -> Result<AuditPage, CliError> {
        self.look(Question::Audit(AuditRequest { on: on.clone(), after })).await
    }

    /// Asks which environments there are.
    pub(crate) async fn environments(&self, request: EnvironmentsRequest) -> Result<EnvironmentsPage, CliError> {
        self.look(Question::Environments(request)).await
    }

    /// Asks what was done to an environment.
    pub(crate) async fn history(&self, request: HistoryRequest) -> Result<HistoryPage, CliError> {
        self.look(Question::History(request)).await
    }

    /// Asks what an environment waits for.
    pub(crate) async fn why(&self, on: &On) -> Result<Why, CliError> {
        self.look(Question::Why(WhyRequest { on: on.clone() })).await
    }

    async fn look<T: DeserializeOwned>(&self, question: Question) -> Result<T, CliError> {
        self.ask_patiently(Ask::Look(question)).await
    }

    /// The same question has the same answer, so that it can be repeated.
    async fn ask_patiently<T: DeserializeOwned>(&self, ask: Ask) -> Result<T, CliError> {
        let mut delay = Duration::from_millis(500);
        for _ in 1..TRIES {
            match self.ask(ask.clone()).await {
                Err(error) if error.is_transient() => {
                    tokio::time::sleep(delay).await;
                    delay *= 2;
                }
                answered => return answered,
            }
        }
        self.ask(ask).await
    }

    async fn ask<T: DeserializeOwned>(&self, ask: Ask) -> Result<T, CliError> {
        let payload = match (&self.asker, ask) {
            (Asker::Job(token), ask) => serde_json::to_vec(&Request { id_token: token.0.clone(), ask }),
            (Asker::Person(project), Ask::Look(look)) => serde_json::to_vec(&ReaderRequest { project: *project, look }),
            (Asker::Person(_), _) => {
                return Err(CliError::Usage("only a job does that: it takes the job's ID token".into()));
            }
        };
        let payload = payload.map_err(|error| CliError::local("writing the request", error))?;
        if payload.len() > MAX_REQUEST_BYTES {
            let message = format!(
                "the request has {} bytes; the limit is {MAX_REQUEST_BYTES}: shorten parameters and tags",
                payload.len()
            );
            return Err(CliError::named(ErrorName::InvalidRequest, message));
        }
        let sent = self.client.invoke().function_name(&self.function).payload(Blob::new(payload)).send().await;
        let call = match &self.asker {
            Asker::Job(_) => "lambda:Invoke",
            Asker::Person(_) => "lambda:Invoke of the reader",
        };
        let answer = sent.map_err(|error| remote(call, &error))?;
        read(answer.payload().map(Blob::as_ref).unwrap_or_default(), answer.function_error())
    }
}

/// Invokes `function` with `input`, by the AWS credentials at hand.
pub(crate) async fn invoke<T: DeserializeOwned>(
    client: &aws_sdk_lambda::Client,
    function: &str,
    input: &impl Serialize,
) -> Result<T, CliError> {
    let payload = serde_json::to_vec(input).map_err(|error| CliError::local("writing the request", error))?;
    let sent = client.invoke().function_name(function).payload(Blob::new(payload)).send().await;
    let answer = sent.map_err(|error| remote("lambda:Invoke", &error))?;
    read(answer.payload().map(Blob::as_ref).unwrap_or_default(), answer.function_error())
}

/// Reads what the function answered.
fn read<T: DeserializeOwned>(payload: &[u8], function_error: Option<&str>) -> Result<T, CliError> {
    if function_error.is_some() {
        return Err(refusal(payload));
    }
    serde_json::from_slice(payload).map_err(|error| {
        let message =
            format!("its answer is not what this version of slipway reads ({error}): use the control plane's version");
        CliError::Remote { call: "the function", code: String::new(), message, transient: false }
    })
}

/// A function's error: one of ours, or one that Lambda made of a crash or a timeout.
fn refusal(payload: &[u8]) -> CliError {
    let value: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
    let text = |key: &str| value.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
    match ErrorName::parse(text("errorType")) {
        Some(name) => CliError::named(name, text("errorMessage")),
        None => {
            let message = format!("it failed: {} {}", text("errorType"), text("errorMessage"));
            CliError::Remote { call: "the function", code: text("errorType").to_owned(), message, transient: true }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_an_error_keeps_its_name() {
        assert_eq!(read::<u32>(b"7", None), Ok(7));
        let no = br#"{"errorType":"NotAllowed","errorMessage":"claim ref is \"x\""}"#;
        let error = read::<u32>(no, Some("Unhandled")).unwrap_err();
        assert_eq!(error, CliError::named(ErrorName::NotAllowed, "claim ref is \"x\""));
        assert_eq!(error.exit_code(), 3);
        let crash = br#"{"errorType":"Runtime.ExitError","errorMessage":"exit status 1"}"#;
        assert!(read::<u32>(crash, Some("Unhandled")).unwrap_err().is_transient());
        assert!(!read::<u32>(b"{}", None).unwrap_err().is_transient());
        assert!(read::<u32>(b"no json", Some("Unhandled")).unwrap_err().is_transient());
    }
}
