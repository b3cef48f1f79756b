//! The SSM parameters that Slipway reads: the stages, GitLab's keys where AWS cannot reach it, and the keys of its links and sessions.

use aws_sdk_ssm::Client;
use aws_sdk_ssm::types::ParameterType;
use slipway_domain::names::hex;

use crate::error::{AwsError, Kind, sort};

/// Slipway's SSM parameters.
#[derive(Debug, Clone)]
pub struct Parameters {
    client: Client,
}

impl Parameters {
    /// Those of the account that `config` speaks to.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        Self { client: Client::new(config) }
    }

    async fn get(&self, name: &str, decrypt: bool) -> Result<String, AwsError> {
        const CALL: &str = "ssm:GetParameter";
        let answer = self.client.get_parameter().name(name).with_decryption(decrypt).send().await;
        let answer = answer.map_err(|error| sort(CALL, &error))?;
        let value = answer.parameter.and_then(|parameter| parameter.value);
        value.ok_or_else(|| AwsError::unexpected(CALL, format!("{name} has no value")))
    }

    /// The text of a parameter that is no secret: the stages, or GitLab's public keys.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn text(&self, name: &str) -> Result<String, AwsError> {
        self.get(name, false).await
    }

    /// The text of a parameter that is a secret: it goes nowhere but where it is needed.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn secret(&self, name: &str) -> Result<String, AwsError> {
        self.get(name, true).await
    }

    /// A key of 32 bytes.
    ///
    /// # Errors
    /// [`AwsError`], with [`Kind::NotFound`] when none was made yet.
    pub async fn key(&self, name: &str) -> Result<[u8; 32], AwsError> {
        let value = self.get(name, true).await?;
        read_key(&value).ok_or_else(|| AwsError::unexpected("ssm:GetParameter", format!("{name} is not 64 hex digits")))
    }

    /// A key of 32 bytes; `fresh` becomes it if there is none. CloudFormation cannot make a SecureString, so the first who needs it
    /// does; whoever comes second reads what the first wrote.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn key_or_make(&self, name: &str, fresh: [u8; 32]) -> Result<[u8; 32], AwsError> {
        match self.key(name).await {
            Err(error) if error.kind == Kind::NotFound => {}
            known => return known,
        }
        let made = self.client.put_parameter().name(name).r#type(ParameterType::SecureString).overwrite(false);
        match made.value(hex(&fresh)).send().await.map_err(|error| sort("ssm:PutParameter", &error)) {
            Ok(_) => Ok(fresh),
            Err(error) if error.kind == Kind::Conflict => self.key(name).await,
            Err(error) => Err(error),
        }
    }
}

fn read_key(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 {
        return None;
    }
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_64_hex_digits() {
        assert_eq!(read_key(&hex(&[7; 32])), Some([7; 32]));
        assert_eq!(read_key("00"), None);
        assert_eq!(read_key(&"zz".repeat(32)), None);
        assert_eq!(read_key(&"é".repeat(32)), None);
    }
}
