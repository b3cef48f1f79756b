//! Asks the issuer: discovery, then its keys. Bounded in time and size, never redirected.

use std::error::Error as _;
use std::time::Duration;

use reqwest::{Client, StatusCode, Url, redirect};
use serde::Deserialize;

use crate::error::{IdentityError, shown};
use crate::issuer::Issuer;
use crate::keys::KeySet;

const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// The client for one issuer.
pub(crate) fn client(issuer: &Issuer) -> Result<Client, IdentityError> {
    let builder = Client::builder()
        .redirect(redirect::Policy::none())
        .https_only(issuer.is_https())
        .timeout(TIMEOUT)
        .user_agent("slipway");
    // A proxy's loopback is not ours.
    let builder = if issuer.is_loopback() { builder.no_proxy() } else { builder };
    builder.build().map_err(|error| IdentityError::IssuerUnavailable { reason: with_causes(&error) })
}

/// The issuer's keys, as it publishes them now.
pub(crate) async fn keys(client: &Client, issuer: &Issuer) -> Result<KeySet, IdentityError> {
    let url = format!("{issuer}/.well-known/openid-configuration");
    let jwks_uri = keys_location(&get(client, &url).await?, issuer)
        .map_err(|reason| IdentityError::DiscoveryInvalid { url, reason })?;
    KeySet::parse(&get(client, &jwks_uri).await?)
        .map_err(|reason| IdentityError::DiscoveryInvalid { url: jwks_uri, reason })
}

/// Where the discovery document says that the keys are.
fn keys_location(document: &[u8], issuer: &Issuer) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Discovery {
        issuer: String,
        jwks_uri: String,
    }
    let found: Discovery = serde_json::from_slice(document)
        .map_err(|_| "it is no JSON object with the strings issuer and jwks_uri".to_owned())?;
    if found.issuer != issuer.as_str() {
        return Err(format!("its issuer is {}, not {issuer}", shown(&found.issuer)));
    }
    let uri = Url::parse(&found.jwks_uri).ok().filter(|uri| issuer.is_origin_of(uri));
    match uri {
        Some(uri) => Ok(uri.into()),
        None => Err(format!("its jwks_uri {} is not on the issuer's own host and port", shown(&found.jwks_uri))),
    }
}

async fn get(client: &Client, url: &str) -> Result<Vec<u8>, IdentityError> {
    let unavailable = |reason: String| IdentityError::IssuerUnavailable { reason: format!("GET {url}: {reason}") };
    let invalid = |reason: String| IdentityError::DiscoveryInvalid { url: url.to_owned(), reason };
    let failed = |error: reqwest::Error| unavailable(with_causes(&error.without_url()));

    let mut response = client.get(url).header("accept", "application/json").send().await.map_err(failed)?;
    let status = response.status();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT {
        return Err(unavailable(format!("answered {status}")));
    }
    if status.is_redirection() {
        return Err(invalid(format!("it answered {status}, and redirects are not followed")));
    }
    if status != StatusCode::OK {
        return Err(invalid(format!("it answered {status}")));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(invalid(format!("it has more than {MAX_ANSWER_BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error with its causes in one line: the client's own text leaves out why.
fn with_causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
