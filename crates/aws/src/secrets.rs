//! The secret that the platform team keeps for Slipway in Secrets Manager.

use aws_sdk_secretsmanager::Client;

use crate::error::{AwsError, sort};

/// Secrets Manager.
#[derive(Debug, Clone)]
pub struct Secrets {
    client: Client,
}

impl Secrets {
    /// That of the account that `config` speaks to.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        Self { client: Client::new(config) }
    }

    /// The current text of the secret called `name`. It goes nowhere but where it is needed.
    ///
    /// # Errors
    /// [`AwsError`]; also when it is no text.
    pub async fn text(&self, name: &str) -> Result<String, AwsError> {
        const CALL: &str = "secretsmanager:GetSecretValue";
        let answer = self.client.get_secret_value().secret_id(name).send().await;
        let answer = answer.map_err(|error| sort(CALL, &error))?;
        answer.secret_string.ok_or_else(|| AwsError::unexpected(CALL, format!("{name} holds no text")))
    }
}
