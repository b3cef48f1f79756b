//! HTTP: the upload of a bundle, and the callback address. Redirects are never followed: what is sent is for one address.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Client, Url};

use crate::error::CliError;

/// A client.
pub(crate) fn client() -> Result<Client, CliError> {
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(120))
        .user_agent(concat!("slipway/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| CliError::local("setting up HTTP", error))
}

/// Where a request for a link goes: the address, and the host that it is for if that is another.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The address.
    pub(crate) url: Url,
    /// The `Host` header.
    pub(crate) host: Option<String>,
}

/// A link's route. An ID token is sent there, so that it must be encrypted unless it does not leave this machine.
/// `connect_to` is an address of this machine that answers for the link's host by plain HTTP: the tests' AWS does.
pub(crate) fn route(link: &str, connect_to: Option<&str>) -> Result<Route, CliError> {
    let mut url = Url::parse(link).map_err(|error| CliError::Usage(format!("the link is no URL: {error}")))?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let Some(connect_to) = connect_to else {
        let is_local = matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]");
        return if url.scheme() == "https" || (url.scheme() == "http" && is_local) {
            Ok(Route { url, host: None })
        } else {
            Err(CliError::Usage("the link must begin with https://".into()))
        };
    };
    let wrong =
        || CliError::Usage("SLIPWAY_CONNECT_TO must be an address of this machine, such as 127.0.0.1:4566".into());
    let address: SocketAddr = connect_to.replace("localhost:", "127.0.0.1:").parse().map_err(|_| wrong())?;
    if !address.ip().is_loopback() {
        return Err(wrong());
    }
    let host = url.port().map_or(host.clone(), |port| format!("{host}:{port}"));
    url.set_scheme("http").and_then(|()| url.set_ip_host(address.ip())).map_err(|()| wrong())?;
    url.set_port(Some(address.port())).map_err(|()| wrong())?;
    Ok(Route { url, host: Some(host) })
}

/// The innermost message of a failed request, which does not hold its URL.
pub(crate) fn why(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut inner: &dyn std::error::Error = &error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn a_token_only_goes_where_it_is_encrypted_or_stays() {
        let link = "https://abc.lambda-url.eu-central-1.on.aws/a/1?x=y";
        assert_eq!(route(link, None).unwrap(), Route { url: link.parse().unwrap(), host: None });
        assert!(route("http://127.0.0.1:8080/a/1", None).is_ok());
        for link in ["http://example.com/a/1", "ftp://localhost/", "no link"] {
            assert!(route(link, None).is_err(), "{link}");
        }
    }

    #[test]
    fn a_test_sends_it_elsewhere_on_this_machine() {
        let there = route("https://abc.on.aws/a/1?x=y", Some("localhost:4566")).unwrap();
        assert_eq!(there.url.as_str(), "http://127.0.0.1:4566/a/1?x=y");
        assert_eq!(there.host.as_deref(), Some("abc.on.aws"));
        for address in ["10.0.0.1:80", "example.com:80", "127.0.0.1", ""] {
            assert!(route("https://abc.on.aws/", Some(address)).is_err(), "{address}");
        }
    }
}
