//! AWS clients, with the job's ID token or with whatever credentials there are.

use std::time::{Duration, SystemTime};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_sts::config::http::HttpResponse;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};

use crate::error::CliError;
use crate::settings::{ControlPlane, Secret};

/// What every client is made with.
pub(crate) async fn config(plane: &ControlPlane, token: &Secret) -> Result<SdkConfig, CliError> {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .operation_attempt_timeout(Duration::from_secs(40))
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::standard().with_max_attempts(4))
        .timeout_config(timeouts);
    if let Some(region) = &plane.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if plane.role_arn.is_some() {
        loader = loader.no_credentials();
    }
    let config = loader.load().await;
    if config.region().is_none() {
        return Err(CliError::Usage("the region is not known: set AWS_REGION, or give --api an ARN".into()));
    }
    let Some(role_arn) = plane.role_arn.clone() else { return Ok(config) };
    let assumed = Assumed {
        sts: aws_sdk_sts::Client::new(&config),
        role_arn,
        session_name: plane.session_name.clone(),
        token: token.clone(),
    };
    Ok(config.into_builder().credentials_provider(SharedCredentialsProvider::new(assumed)).build())
}

/// What clients of a person's own account are made with: credentials, region and profile by the AWS SDK's own rules.
pub(crate) async fn own_config(region: Option<&str>, profile: Option<&str>) -> Result<SdkConfig, CliError> {
    let mut loader =
        aws_config::defaults(BehaviorVersion::latest()).retry_config(RetryConfig::standard().with_max_attempts(4));
    if let Some(region) = region {
        loader = loader.region(Region::new(region.to_owned()));
    }
    if let Some(profile) = profile {
        loader = loader.profile_name(profile);
    }
    let config = loader.load().await;
    if config.region().is_none() {
        return Err(CliError::Usage("the region is not known: set AWS_REGION, or give --region".into()));
    }
    Ok(config)
}

/// The role's credentials, again whenever they expire, for the token that stays in memory.
#[derive(Debug)]
struct Assumed {
    sts: aws_sdk_sts::Client,
    role_arn: String,
    session_name: String,
    token: Secret,
}

impl Assumed {
    async fn assume(&self) -> provider::Result {
        let sent = self
            .sts
            .assume_role_with_web_identity()
            .role_arn(&self.role_arn)
            .role_session_name(&self.session_name)
            .web_identity_token(&self.token.0)
            .send();
        let answer = sent
            .await
            .map_err(|error| CredentialsError::provider_error(remote("sts:AssumeRoleWithWebIdentity", &error)))?;
        let given =
            answer.credentials().ok_or_else(|| CredentialsError::unhandled("STS answered without credentials"))?;
        let expires = SystemTime::try_from(*given.expiration()).map_err(CredentialsError::unhandled)?;
        Ok(Credentials::new(
            given.access_key_id(),
            given.secret_access_key(),
            Some(given.session_token().to_owned()),
            Some(expires),
            "SlipwayIdToken",
        ))
    }
}

impl ProvideCredentials for Assumed {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.assume())
    }
}

/// The innermost message: the outer ones only say "dispatch failure".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// What the SDK reports, in our words.
pub(crate) fn remote<E>(call: &'static str, error: &SdkError<E, HttpResponse>) -> CliError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    // The reason why there are no credentials is what a person needs, and it may be ours.
    let mut source: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(ours) = inner.downcast_ref::<CliError>() {
            return ours.clone();
        }
        if let Some(none) = inner.downcast_ref::<CredentialsError>()
            && std::error::Error::source(none).is_none_or(|cause| cause.downcast_ref::<CliError>().is_none())
        {
            let message = format!("there are no AWS credentials: {}", innermost(none));
            return CliError::Remote { call, code: "NoCredentials".into(), message, transient: false };
        }
        source = inner.source();
    }
    let service = error.as_service_error();
    let code = service.and_then(ProvideErrorMetadata::code).unwrap_or_default().to_owned();
    let status = error.raw_response().map(|response| response.status().as_u16());
    let message = match service.and_then(ProvideErrorMetadata::message) {
        Some(message) if !message.is_empty() => format!("{code}: {message}"),
        Some(_) | None if !code.is_empty() => code.clone(),
        Some(_) | None => innermost(error),
    };
    let throttled = code.contains("Throttl") || code == "TooManyRequestsException" || message.contains("Rate exceeded");
    let transient = throttled || status.is_none_or(|status| status == 429 || status >= 500);
    CliError::Remote { call, code, message, transient }
}
