//! Requests to one origin. Bounded in time and size, never redirected.

use std::error::Error as _;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode, Url, redirect};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no answer to look at.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Another try can help.
    Unavailable(String),
    /// There is an answer, but none that is taken.
    Unusable(String),
}

/// The client for one origin.
pub(crate) fn client(origin: &Url) -> Result<Client, Failed> {
    let builder = Client::builder()
        .redirect(redirect::Policy::none())
        .https_only(origin.scheme() == "https")
        .timeout(TIMEOUT)
        .user_agent("slipway");
    // A proxy's loopback is not ours.
    let builder = if is_loopback(origin) { builder.no_proxy() } else { builder };
    builder.build().map_err(|error| Failed::Unavailable(with_causes(&error)))
}

/// Whether nobody between us and that host can listen in.
pub(crate) fn is_loopback(url: &Url) -> bool {
    matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"))
}

/// Whether `url` is served by the very same scheme, host and port, and names no user.
pub(crate) fn is_same_origin(origin: &Url, url: &Url) -> bool {
    origin.origin() == url.origin() && url.username().is_empty() && url.password().is_none()
}

/// The answer's status and its body, which may have `limit` bytes. No failure's text has the address: it may hold secrets.
pub(crate) async fn send(request: RequestBuilder, limit: usize) -> Result<(StatusCode, Vec<u8>), Failed> {
    let failed = |error: reqwest::Error| Failed::Unavailable(with_causes(&error.without_url()));
    let mut response = request.header("accept", "application/json").send().await.map_err(failed)?;
    let status = response.status();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT {
        return Err(Failed::Unavailable(format!("answered {status}")));
    }
    if status.is_redirection() {
        return Err(Failed::Unusable(format!("it answered {status}, and redirects are not followed")));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > limit {
            return Err(Failed::Unusable(format!("it has more than {limit} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, body))
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
