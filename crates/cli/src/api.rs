//! The function `api`: asking, and reading its answer.

use std::time::Duration;

use aws_sdk_lambda::primitives::Blob;
use serde::de::DeserializeOwned;
use slipway_domain::ErrorName;
use slipway_domain::deployment::DeploymentId;
use slipway_domain::protocol::{
    Admitted, Ask, AuditPage, AuditRequest, DeployRequest, MAX_REQUEST_BYTES, On, PlanRequest, RepairRequest, Request,
    RollbackRequest, Status, StatusRequest, TeardownRequest, UnlockRequest, Unlocked,
};
use slipway_domain::teardown::Plan;

use crate::aws::remote;
use crate::error::CliError;
use crate::settings::Secret;

/// How often an admission is asked for, when the answer is "later".
const TRIES: u32 = 3;

/// The function.
pub(crate) struct Api {
    client: aws_sdk_lambda::Client,
    function: String,
    token: Secret,
}

impl Api {
    /// The function `function`, asked with `token`.
    pub(crate) fn new(config: &aws_config::SdkConfig, function: &str, token: Secret) -> Self {
        Self { client: aws_sdk_lambda::Client::new(config), function: function.to_owned(), token }
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

    /// Asks who holds an environment, or to take it away from them.
    pub(crate) async fn unlock(&self, request: UnlockRequest) -> Result<Unlocked, CliError> {
        self.ask_patiently(Ask::Unlock(request)).await
    }

    /// Asks how things stand, once: who follows asks again anyway.
    pub(crate) async fn status(&self, on: &On, deployment: Option<&DeploymentId>) -> Result<Status, CliError> {
        self.ask(Ask::Status(StatusRequest { on: on.clone(), deployment: deployment.cloned() })).await
    }

    /// Asks how things stand, for an answer that is needed.
    pub(crate) async fn status_patiently(&self, on: &On) -> Result<Status, CliError> {
        self.ask_patiently(Ask::Status(StatusRequest { on: on.clone(), deployment: None })).await
    }

    /// Asks what is recorded of an environment after row number `after`.
    pub(crate) async fn audit(&self, on: &On, after: u64) -> Result<AuditPage, CliError> {
        self.ask_patiently(Ask::Audit(AuditRequest { on: on.clone(), after })).await
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
        let request = Request { id_token: self.token.0.clone(), ask };
        let payload = serde_json::to_vec(&request).map_err(|error| CliError::local("writing the request", error))?;
        if payload.len() > MAX_REQUEST_BYTES {
            let message = format!(
                "the request has {} bytes; the limit is {MAX_REQUEST_BYTES}: shorten parameters and tags",
                payload.len()
            );
            return Err(CliError::named(ErrorName::InvalidRequest, message));
        }
        let sent = self.client.invoke().function_name(&self.function).payload(Blob::new(payload)).send().await;
        let answer = sent.map_err(|error| remote("lambda:Invoke", &error))?;
        read(answer.payload().map(Blob::as_ref).unwrap_or_default(), answer.function_error())
    }
}

/// Reads what the function answered.
fn read<T: DeserializeOwned>(payload: &[u8], function_error: Option<&str>) -> Result<T, CliError> {
    if function_error.is_some() {
        return Err(refusal(payload));
    }
    serde_json::from_slice(payload).map_err(|error| {
        let message =
            format!("its answer is not what this version of slipway reads ({error}): use the control plane's version");
        CliError::Remote { call: "the function api", code: String::new(), message, transient: false }
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
            CliError::Remote { call: "the function api", code: text("errorType").to_owned(), message, transient: true }
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
