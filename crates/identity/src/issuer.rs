//! Whom to trust, and what a token must be meant for.

use std::fmt;

use reqwest::Url;

use crate::error::{SetupError, shown};
use crate::fetch;

/// The GitLab instance whose tokens are trusted: its URL, exactly as its tokens' `iss` has it.
///
/// `https` always, except for a loopback host (`127.0.0.1`, `localhost`, `[::1]`), where nobody can listen in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    text: String,
    url: Url,
}

impl Issuer {
    /// Reads an instance's URL: no query, fragment or user, no slash at the end.
    ///
    /// # Errors
    /// [`SetupError::Issuer`] names what is wrong.
    pub fn parse(text: &str) -> Result<Self, SetupError> {
        let refused = |reason| SetupError::Issuer { found: shown(text), reason };
        if text.len() > 512 || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return Err(refused("must be at most 512 printable ASCII characters"));
        }
        let url = Url::parse(text).map_err(|_| refused("is no URL"))?;
        if text.contains(['?', '#', '@']) {
            return Err(refused("must have no query, fragment or user"));
        }
        if text.ends_with('/') {
            return Err(refused("must not end in a slash"));
        }
        let issuer = Self { text: text.to_owned(), url };
        match issuer.url.scheme() {
            "https" => Ok(issuer),
            "http" if fetch::is_loopback(&issuer.url) => Ok(issuer),
            _ => Err(refused("must be https")),
        }
    }

    /// The URL as configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a token's `aud` must be, and be alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience(String);

impl Audience {
    /// Reads an audience: 1 to 255 printable ASCII characters.
    ///
    /// # Errors
    /// [`SetupError::Audience`].
    pub fn parse(text: &str) -> Result<Self, SetupError> {
        if is_short_graphic(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(SetupError::Audience { found: shown(text) })
        }
    }

    /// The audience as configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of the application that GitLab knows us as when people sign in: the `aud` of what it says of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientId(String);

impl ClientId {
    /// Reads a client id: 1 to 255 printable ASCII characters.
    ///
    /// # Errors
    /// [`SetupError::ClientId`].
    pub fn parse(text: &str) -> Result<Self, SetupError> {
        if is_short_graphic(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(SetupError::ClientId { found: shown(text) })
        }
    }

    /// The id as configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_short_graphic(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::{Audience, ClientId, Issuer};

    #[test]
    fn issuers() {
        for good in [
            "https://gitlab.com",
            "https://gitlab.example.com:8443",
            "https://example.com/gitlab",
            "http://127.0.0.1:8929",
            "http://localhost:1",
            "http://[::1]:1",
        ] {
            assert_eq!(Issuer::parse(good).map(|issuer| issuer.to_string()), Ok(good.to_owned()));
        }
        for (bad, why) in [
            ("", "no URL"),
            ("gitlab.com", "no URL"),
            ("https://", "no URL"),
            ("http://gitlab.com", "must be https"),
            ("http://127.0.0.1.example.com", "must be https"),
            ("http://localhost.example.com", "must be https"),
            ("http://127.0.0.2", "must be https"),
            ("ftp://gitlab.com", "must be https"),
            ("file:///etc/passwd", "must be https"),
            ("https://gitlab.com/", "slash"),
            ("https://gitlab.com?a", "no query"),
            ("https://gitlab.com#a", "no query"),
            ("https://me@gitlab.com", "no query"),
            ("https://@gitlab.com", "no query"),
            ("http://127.0.0.1@gitlab.com", "no query"),
            ("https:\\\\gitlab.com", "printable"),
            (" https://gitlab.com", "printable"),
            ("https://gitlab.com\n", "printable"),
            ("https://gıtlab.com", "printable"),
        ] {
            let message = Issuer::parse(bad).map_err(|error| error.to_string());
            assert!(matches!(&message, Err(text) if text.contains(why)), "{bad}: {message:?}");
        }
    }

    #[test]
    fn audiences_and_client_ids() {
        assert!(Audience::parse("https://slipway.example.com").is_ok());
        for bad in ["", "a b", "a\n", "é", &"a".repeat(256)] {
            assert!(Audience::parse(bad).is_err(), "{bad}");
            assert!(ClientId::parse(bad).is_err(), "{bad}");
        }
        assert!(ClientId::parse("2c1dc6a1a4b2").is_ok());
    }
}
