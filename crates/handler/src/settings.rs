//! A function's settings: the environment variables that template.yaml gives it, each read once, when it starts.

use slipway_domain::names::Region;
use slipway_domain::sweep::Limits;
use slipway_identity::{Audience, ClientId, Issuer, StsEndpoint};

/// A setting is missing or not what it should be. The function does not start.
#[derive(Debug, thiserror::Error)]
#[error("environment variable {name}: {why}")]
pub struct SettingsError {
    name: &'static str,
    why: String,
}

/// The function's environment.
#[derive(Debug, Clone, Copy)]
pub struct Settings;

macro_rules! texts {
    ($($(#[$doc:meta])* $method:ident = $name:literal;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// When it is not set.
            pub fn $method(self) -> Result<String, SettingsError> {
                Self::read($name)
            }
        )*
    };
}

impl Settings {
    #[allow(clippy::disallowed_methods, reason = "settings enter here, and are passed on")]
    fn read(name: &'static str) -> Result<String, SettingsError> {
        match std::env::var(name) {
            Ok(value) if !value.is_empty() => Ok(value),
            Ok(_) | Err(_) => Err(SettingsError { name, why: "it is not set".into() }),
        }
    }

    #[allow(clippy::disallowed_methods, reason = "settings enter here, and are passed on")]
    fn read_optional(name: &'static str) -> Result<Option<String>, SettingsError> {
        match std::env::var(name) {
            Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
            Err(_) => Err(SettingsError { name, why: "it is not set".into() }),
        }
    }

    texts! {
        /// The table's name.
        table = "SLIPWAY_TABLE";
        /// The bucket's name.
        bucket = "SLIPWAY_BUCKET";
        /// The name of the SSM parameter with the stages.
        stages_parameter = "SLIPWAY_STAGES";
        /// The ExternalId that the target accounts' roles ask for.
        external_id = "SLIPWAY_EXTERNAL_ID";
        /// The ARN of the state machine that deploys.
        deploy_machine = "SLIPWAY_DEPLOY_MACHINE";
        /// The ARN of the state machine that tears down.
        teardown_machine = "SLIPWAY_TEARDOWN_MACHINE";
        /// The ARN of the function `teardown`.
        teardown_function = "SLIPWAY_TEARDOWN_FUNCTION";
        /// The name of the function `settle`.
        settle_function = "SLIPWAY_SETTLE_FUNCTION";
        /// The address of the function `web`, with a slash at its end.
        web_url = "SLIPWAY_WEB_URL";
        /// The name of the SSM parameter with the key of the approval links.
        link_key_parameter = "SLIPWAY_LINK_KEY";
        /// The name of the event bus that Slipway tells its events.
        bus = "SLIPWAY_BUS";
        /// The ARN of the SNS topic that is told when a decision is wanted.
        topic = "SLIPWAY_TOPIC";
    }

    /// How much one sweep may begin to delete before it wants a person's word.
    ///
    /// # Errors
    /// When one is not set, or no number.
    pub fn sweep_limits(self) -> Result<Limits, SettingsError> {
        let number = |name| {
            let text = Self::read(name)?;
            text.parse().map_err(|error: std::num::ParseIntError| SettingsError { name, why: error.to_string() })
        };
        Ok(Limits { most: number("SLIPWAY_SWEEP_MOST")?, percent: number("SLIPWAY_SWEEP_PERCENT")? })
    }

    /// The region that the function runs in, which is the bucket's and every target's.
    ///
    /// # Errors
    /// When it is not set, or no region.
    pub fn region(self) -> Result<Region, SettingsError> {
        const NAME: &str = "AWS_REGION";
        Region::new(Self::read(NAME)?).map_err(|error| SettingsError { name: NAME, why: error.to_string() })
    }

    /// The GitLab instance.
    ///
    /// # Errors
    /// When it is not set, or not a URL that an instance can have.
    pub fn gitlab_url(self) -> Result<Issuer, SettingsError> {
        const NAME: &str = "SLIPWAY_GITLAB_URL";
        Issuer::parse(&Self::read(NAME)?).map_err(|error| SettingsError { name: NAME, why: error.to_string() })
    }

    /// The name of the SSM parameter with the instance's public keys, where AWS cannot reach the instance.
    ///
    /// # Errors
    /// When it is not set at all.
    pub fn gitlab_keys_parameter(self) -> Result<Option<String>, SettingsError> {
        Self::read_optional("SLIPWAY_GITLAB_KEYS")
    }

    /// The name of the SSM parameter with the token that GitLab is asked about branches with; nothing where nobody asks.
    ///
    /// # Errors
    /// When it is not set at all.
    pub fn gitlab_token_parameter(self) -> Result<Option<String>, SettingsError> {
        Self::read_optional("SLIPWAY_GITLAB_TOKEN")
    }

    /// The name of the secret with the token that GitLab is told results with; nothing where nobody tells it.
    ///
    /// # Errors
    /// When it is not set at all.
    pub fn gitlab_write_token_secret(self) -> Result<Option<String>, SettingsError> {
        Self::read_optional("SLIPWAY_GITLAB_WRITE_TOKEN")
    }

    /// The application id with which people sign in to GitLab; nothing where nobody does.
    ///
    /// # Errors
    /// When it is not set at all, or no application id.
    pub fn gitlab_client_id(self) -> Result<Option<ClientId>, SettingsError> {
        const NAME: &str = "SLIPWAY_GITLAB_CLIENT_ID";
        let read = Self::read_optional(NAME)?.map(|text| ClientId::parse(&text)).transpose();
        read.map_err(|error| SettingsError { name: NAME, why: error.to_string() })
    }

    /// Where STS answers: where the SDK is told to look for it, else the region's.
    ///
    /// # Errors
    /// When that is no address of STS.
    pub fn sts_endpoint(self, aws: &aws_config::SdkConfig) -> Result<StsEndpoint, SettingsError> {
        let endpoint = match aws.endpoint_url() {
            Some(url) => StsEndpoint::parse(url),
            None => StsEndpoint::regional(&self.region()?),
        };
        endpoint.map_err(|error| SettingsError { name: "AWS_ENDPOINT_URL", why: error.to_string() })
    }

    /// The audience that ID tokens must be made for.
    ///
    /// # Errors
    /// When it is not set, or no audience.
    pub fn audience(self) -> Result<Audience, SettingsError> {
        const NAME: &str = "SLIPWAY_AUDIENCE";
        Audience::parse(&Self::read(NAME)?).map_err(|error| SettingsError { name: NAME, why: error.to_string() })
    }
}
