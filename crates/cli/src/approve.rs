//! A person's decision, sent to the callback address with the proof of who decides.

use std::time::Duration;

use aws_credential_types::provider::ProvideCredentials as _;
use reqwest::header::{ACCEPT, HOST};
use serde::{Deserialize, Serialize};
use slipway_domain::ErrorName;
use slipway_domain::approval::{Verdict, caller_binding};
use slipway_domain::names::{Digest, Region};
use slipway_identity::{StsEndpoint, presign};

use crate::error::CliError;
use crate::http::{self, Route};
use crate::settings::Secret;

/// How often a decision is sent when the address does not answer. A decision counts once, however often it arrives.
const TRIES: u32 = 3;

#[derive(Serialize)]
struct Form<'a> {
    decision: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aws_identity: Option<&'a str>,
    reason: &'a str,
}

/// What proves who decides. It has no `Debug`: it is in nobody's log.
pub(crate) enum Proof {
    /// A job's ID token.
    Job(Secret),
    /// A presigned `sts:GetCallerIdentity`: whoever has it can send this one decision for five minutes.
    Aws(String),
}

/// Signs as the AWS principal whose credentials are found in the usual places, for `decision` on the approval at `link`.
pub(crate) async fn aws_proof(
    link: &str,
    decision: Verdict,
    reason: Option<&str>,
    region: Option<&str>,
) -> Result<Proof, CliError> {
    let wrong = || CliError::Usage("the link is not an approval's: it ends in /a/ and 64 hex digits".into());
    let url = reqwest::Url::parse(link).map_err(|_| wrong())?;
    let secret = url.path().strip_prefix("/a/").filter(|secret| Digest::new(*secret).is_ok()).ok_or_else(wrong)?;
    // The control plane asks the STS of its own region.
    let of_link = url.host_str().and_then(|host| host.strip_suffix(".on.aws")?.split_once(".lambda-url."));
    let region = of_link.map(|(_, region)| region).or(region);
    let config = crate::aws::own_config(region, None).await?;
    let region = config.region().map(ToString::to_string).unwrap_or_default();
    let region = Region::new(region).map_err(|error| CliError::Usage(error.to_string()))?;
    let endpoint = match config.endpoint_url() {
        Some(url) => StsEndpoint::parse(url),
        None => StsEndpoint::regional(&region),
    };
    let endpoint = endpoint.map_err(|error| CliError::Usage(error.to_string()))?;
    let none =
        || CliError::Usage("there are no AWS credentials: sign in to AWS first, or give a job's ID token".into());
    let provider = config.credentials_provider().ok_or_else(none)?;
    let credentials = provider.provide_credentials().await.map_err(|_| none())?;
    let binding = caller_binding(&Digest::of(secret.as_bytes()), url.host_str().unwrap_or_default(), decision, reason);
    let signed = presign(&credentials, &endpoint, &region, binding.as_str(), now());
    signed.map(Proof::Aws).map_err(|error| CliError::local("signing", error))
}

#[allow(clippy::disallowed_methods, reason = "a signature is made when it is asked for")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// The state of an approval that more people have to give.
pub(crate) const OPEN: &str = "open";

/// What the callback address answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Decided {
    /// How the approval stands now.
    pub(crate) state: String,
    /// The same for a person.
    pub(crate) message: String,
}

/// Sends a decision.
pub(crate) async fn decide(route: &Route, decision: Verdict, proof: &Proof, reason: &str) -> Result<Decided, CliError> {
    let client = http::client()?;
    let (id_token, aws_identity) = match proof {
        Proof::Job(token) => (Some(token.0.as_str()), None),
        Proof::Aws(signed) => (None, Some(signed.as_str())),
    };
    let mut delay = Duration::from_millis(500);
    let mut tried = 1;
    loop {
        match send(&client, route, &Form { decision, id_token, aws_identity, reason }).await {
            Err(error) if error.is_transient() && tried < TRIES => {
                tokio::time::sleep(delay).await;
                delay *= 4;
                tried += 1;
            }
            answered => return answered,
        }
    }
}

async fn send(client: &reqwest::Client, route: &Route, form: &Form<'_>) -> Result<Decided, CliError> {
    let mut request = client.post(route.url.clone()).header(ACCEPT, "application/json").form(form);
    if let Some(host) = &route.host {
        request = request.header(HOST, host);
    }
    let answer = request.send().await.map_err(|error| remote(http::why(error), true))?;
    let status = answer.status().as_u16();
    let body = answer.bytes().await.map_err(|error| remote(http::why(error), true))?;
    read(status, &body)
}

fn remote(message: String, transient: bool) -> CliError {
    CliError::Remote { call: "the approval's address", code: String::new(), message, transient }
}

/// Reads an answer.
fn read(status: u16, body: &[u8]) -> Result<Decided, CliError> {
    if status == 200 {
        let what = "it answered, but not as an approval does: check the link";
        return serde_json::from_slice(body).map_err(|_| remote(what.into(), false));
    }
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| value.get(key).and_then(serde_json::Value::as_str);
    match text("error").and_then(ErrorName::parse) {
        Some(name) => Err(CliError::named(name, text("message").unwrap_or("it was refused"))),
        None => Err(remote(format!("it answered {status}"), status == 429 || status >= 500)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let yes = read(200, br#"{"state":"approved","message":"Approved by dana."}"#).unwrap();
        assert_eq!((yes.state.as_str(), yes.message.as_str()), ("approved", "Approved by dana."));
        let no = read(403, br#"{"error":"NotAllowed","message":"not an approver"}"#).unwrap_err();
        assert_eq!(no, CliError::named(ErrorName::NotAllowed, "not an approver"));
        assert!(!read(200, b"<html>").unwrap_err().is_transient());
        assert!(!read(403, b"<html>").unwrap_err().is_transient());
        assert!(read(502, b"").unwrap_err().is_transient());
    }
}
