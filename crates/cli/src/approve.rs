//! A person's decision, sent to the callback address with the proof of who decides.

use std::time::Duration;

use reqwest::header::{ACCEPT, HOST};
use serde::{Deserialize, Serialize};
use slipway_domain::ErrorName;

use crate::error::CliError;
use crate::http::{self, Route};
use crate::settings::Secret;

/// How often a decision is sent when the address does not answer. A decision counts once, however often it arrives.
const TRIES: u32 = 3;

/// What a person decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Decision {
    /// It is to be executed.
    Approve,
    /// It is not.
    Reject,
}

#[derive(Serialize)]
struct Form<'a> {
    decision: Decision,
    id_token: &'a str,
    reason: &'a str,
}

/// What the callback address answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Decided {
    /// How the approval stands now.
    pub(crate) state: String,
    /// The same for a person.
    pub(crate) message: String,
}

/// Sends a decision.
pub(crate) async fn decide(
    route: &Route,
    decision: Decision,
    token: &Secret,
    reason: &str,
) -> Result<Decided, CliError> {
    let client = http::client()?;
    let mut delay = Duration::from_millis(500);
    let mut tried = 1;
    loop {
        match send(&client, route, &Form { decision, id_token: &token.0, reason }).await {
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
