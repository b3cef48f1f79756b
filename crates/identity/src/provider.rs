//! The issuer as an OpenID provider: its discovery document, and what that leads to.

use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use crate::error::{IdentityError, shown};
use crate::fetch::{self, Failed};
use crate::issuer::Issuer;

const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// One issuer, and the one client that asks it.
pub(crate) struct Provider {
    pub(crate) issuer: Issuer,
    /// Made by the first who asks, because reading the system's TLS roots takes about 9 ms: most of what a function may
    /// take to start.
    client: OnceCell<Client>,
}

impl Provider {
    pub(crate) fn new(issuer: Issuer) -> Self {
        Self { issuer, client: OnceCell::new() }
    }

    pub(crate) async fn client(&self) -> Result<&Client, IdentityError> {
        let made = self.client.get_or_try_init(|| async { fetch::client(self.issuer.url()) }).await;
        made.map_err(|failed| refused(self.issuer.as_str(), failed))
    }

    /// What the issuer publishes about itself now.
    pub(crate) async fn discover(&self) -> Result<Discovery, IdentityError> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer);
        let document = self.get(&url).await?;
        Discovery::read(&document, &self.issuer).map_err(|reason| IdentityError::AnswerInvalid { url, reason })
    }

    /// The body of a plain GET, which must succeed.
    pub(crate) async fn get(&self, url: &str) -> Result<Vec<u8>, IdentityError> {
        let (status, body) = ask(url, self.client().await?.get(url)).await?;
        if status == StatusCode::OK { Ok(body) } else { Err(answered(url, status)) }
    }
}

/// What the issuer answers `request`, which goes to `url`.
pub(crate) async fn ask(url: &str, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), IdentityError> {
    fetch::send(request, MAX_ANSWER_BYTES).await.map_err(|failed| refused(url, failed))
}

pub(crate) fn answered(url: &str, status: StatusCode) -> IdentityError {
    IdentityError::AnswerInvalid { url: url.to_owned(), reason: format!("it answered {status}") }
}

fn refused(url: &str, failed: Failed) -> IdentityError {
    match failed {
        Failed::Unavailable(reason) => IdentityError::IssuerUnavailable { reason: format!("{url}: {reason}") },
        Failed::Unusable(reason) => IdentityError::AnswerInvalid { url: url.to_owned(), reason },
    }
}

/// A discovery document of our issuer.
pub(crate) struct Discovery(Map<String, Value>);

impl Discovery {
    fn read(document: &[u8], issuer: &Issuer) -> Result<Self, String> {
        let document = Self(serde_json::from_slice(document).map_err(|_| "it is no JSON object".to_owned())?);
        let found = document.text("issuer")?;
        if found == issuer.as_str() {
            Ok(document)
        } else {
            Err(format!("its issuer is {}, not {issuer}", shown(found)))
        }
    }

    /// An address that the document names. It must be the issuer's own: what is sent there, or read from there, is
    /// trusted as the issuer itself.
    pub(crate) fn location(&self, member: &'static str, issuer: &Issuer) -> Result<Url, IdentityError> {
        let invalid =
            |reason| IdentityError::AnswerInvalid { url: format!("{issuer}/.well-known/openid-configuration"), reason };
        let found = self.text(member).map_err(invalid)?;
        let elsewhere = || invalid(format!("its {member} {} is not on the issuer's own host and port", shown(found)));
        Url::parse(found).ok().filter(|url| fetch::is_same_origin(issuer.url(), url)).ok_or_else(elsewhere)
    }

    fn text(&self, member: &'static str) -> Result<&str, String> {
        self.0
            .get(member)
            .and_then(Value::as_str)
            .ok_or_else(|| format!("it is no JSON object with the string {member}"))
    }
}
