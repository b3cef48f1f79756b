//! Who signed a presigned `sts:GetCallerIdentity`: what AWS's STS says and refuses, so that tests of it mean something.

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use jiff::Timestamp;
use slipway_domain::names::Region;
use slipway_identity::{Callers, IdentityError, StsEndpoint, presign};
use slipway_local::emulator::Emulator;
use slipway_local::{DEV, REGION};

use crate::{Outcome, emulator, role};

async fn credentials(config: &SdkConfig) -> Result<Credentials, Box<dyn std::error::Error>> {
    Ok(config.credentials_provider().ok_or("no credentials")?.provide_credentials().await?)
}

/// Signs for one purpose and shows it for another: who that was, as `ARN UserId`.
async fn shown(
    aws: &Emulator,
    signer: &Credentials,
    purpose: &str,
    shown_for: &str,
) -> Result<Result<String, IdentityError>, Box<dyn std::error::Error>> {
    #[allow(clippy::disallowed_methods, reason = "the request is signed now")]
    let now = Timestamp::now();
    let (endpoint, region) = (StsEndpoint::parse(aws.endpoint())?, Region::new(REGION)?);
    let signed = presign(signer, &endpoint, &region, purpose, now)?;
    let caller = Callers::new(endpoint, region).verify(&signed, shown_for, now).await;
    Ok(caller.map(|caller| format!("{} {} {}", caller.account, caller.arn, caller.user_id)))
}

#[tokio::test]
async fn a_signed_request_shows_who_signed_it_for_what() -> Outcome {
    let aws = emulator().await?;
    // The signatures of accounts' own keys are not checked here, as those of users and sessions are.
    let root = credentials(&aws.sdk_config(DEV)).await?;
    let is_root = format!("{DEV} arn:aws:iam::{DEV}:root {DEV}");
    assert_eq!(shown(aws, &root, "one", "one").await?, Ok(is_root));

    // GetCallerIdentity needs no right, so that one of another service does.
    let other_right = r#"{"Effect":"Allow","Action":"s3:ListAllMyBuckets","Resource":"*"}"#;
    let session = credentials(&role(aws, DEV, "embedded-signer", other_right).await?).await?;
    let found = shown(aws, &session, "one", "one").await??;
    let session_arn = format!("{DEV} arn:aws:sts::{DEV}:assumed-role/embedded-signer/test-session AROA");
    assert!(found.starts_with(&session_arn) && found.ends_with(":test-session"), "{found}");

    let refused = |code: &str| Err(IdentityError::CallerRefused { code: code.to_owned() });
    assert_eq!(shown(aws, &session, "one", "another").await?, refused("SignatureDoesNotMatch"));
    let token = session.session_token().map(str::to_owned);
    let guessed = Credentials::new(session.access_key_id(), "guessed", token, None, "test");
    assert_eq!(shown(aws, &guessed, "one", "one").await?, refused("SignatureDoesNotMatch"));
    let tokenless = Credentials::new(session.access_key_id(), session.secret_access_key(), None, None, "test");
    assert_eq!(shown(aws, &tokenless, "one", "one").await?, refused("InvalidClientTokenId"));
    let nobody = Credentials::new("AKIAIOSFODNN7EXAMPLE", "guessed", None, None, "test");
    assert_eq!(shown(aws, &nobody, "one", "one").await?, refused("InvalidClientTokenId"));
    Ok(())
}
