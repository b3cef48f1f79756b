//! A function that another one asks.

use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{AwsError, sort};

/// A function.
#[derive(Debug, Clone)]
pub struct Function {
    client: aws_sdk_lambda::Client,
    name: String,
}

/// A function's error, as it gave it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {message}")]
pub struct FunctionError {
    /// Its name.
    pub name: String,
    /// What it says.
    pub message: String,
}

impl Function {
    /// The function called `name`, or with that ARN.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig, name: impl Into<String>) -> Self {
        Self { client: aws_sdk_lambda::Client::new(config), name: name.into() }
    }

    /// Asks, and waits for no answer: Lambda asks again where the function fails.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn send(&self, input: &impl Serialize) -> Result<(), AwsError> {
        const CALL: &str = "lambda:InvokeFunction";
        let payload = serde_json::to_vec(input).map_err(|error| AwsError::unexpected(CALL, error.to_string()))?;
        let request = self.client.invoke().function_name(&self.name).invocation_type(InvocationType::Event);
        request.payload(Blob::new(payload)).send().await.map(drop).map_err(|error| sort(CALL, &error))
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`AwsError`] when there is no answer that can be read; within, what the function itself says.
    pub async fn ask<T: DeserializeOwned>(&self, input: &impl Serialize) -> Result<Result<T, FunctionError>, AwsError> {
        const CALL: &str = "lambda:InvokeFunction";
        let unexpected = |error: serde_json::Error| AwsError::unexpected(CALL, error.to_string());
        let payload = Blob::new(serde_json::to_vec(input).map_err(unexpected)?);
        let sent = self.client.invoke().function_name(&self.name).payload(payload).send().await;
        let answer = sent.map_err(|error| sort(CALL, &error))?;
        let body = answer.payload().map(Blob::as_ref).unwrap_or_default();
        if answer.function_error().is_none() {
            return serde_json::from_slice(body).map(Ok).map_err(unexpected);
        }
        let told: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |field: &str| told.get(field).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        Ok(Err(FunctionError { name: text("errorType"), message: text("errorMessage") }))
    }
}
