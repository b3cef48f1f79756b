//! A person signs in with GitLab in the browser: authorization code with PKCE, as a public application without a secret.
//!
//! What GitLab tells (its documentation "GitLab as OpenID Connect identity provider", and
//! `config/initializers/doorkeeper_openid_connect.rb` of its source):
//! - The scope `openid` is enough: every claim below belongs to it, and it gives no access to the API.
//! - `sub` is the user's number, as a string, in the ID token and in the user information.
//! - `nickname`, the login, is in the user information of every version; newer ones have `preferred_username` as well.
//! - `groups`, the memberships with the inherited ones, is in the user information only. The ID token has `groups_direct`.
//! - An application that is not "confidential" needs no secret (its documentation "OAuth 2.0 identity provider API").

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use slipway_domain::claims::Person;
use tokio::sync::Mutex;

use crate::claims::Claims;
use crate::error::IdentityError;
use crate::issuer::ClientId;
use crate::keys::{Cache, Keys};
use crate::provider::{answered, ask};

/// GitLab's codes have 64 characters.
const MAX_CODE_BYTES: usize = 512;

/// What a sign-in keeps to itself until the browser comes back: random, and of one sign-in only. Each is 32 bytes in base64url,
/// 43 characters, as RFC 7636 wants a verifier to be at least.
pub struct Attempt {
    /// Goes to GitLab and comes back with the browser: shows that it is the one that was sent. Who has the browser compares it
    /// before [`SignIn::finish`]: without that somebody could make a person's browser end another's sign-in.
    pub state: String,
    /// Goes to GitLab and comes back in the ID token: shows that the token is of this sign-in.
    pub nonce: String,
    /// Goes to GitLab with the code, its digest with the browser: shows that the code is of this sign-in.
    pub verifier: String,
}

impl Attempt {
    /// Draws a new one.
    ///
    /// # Errors
    /// [`IdentityError::NoRandomness`].
    pub fn new() -> Result<Self, IdentityError> {
        Ok(Self { state: random()?, nonce: random()?, verifier: random()? })
    }
}

fn random() -> Result<String, IdentityError> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| IdentityError::NoRandomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// In constant time: how much of a guess is right must not show.
fn are_equal(one: &str, other: &str) -> bool {
    verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

/// Signs people in with one GitLab instance. Build one per process, with the [`Keys`] that verify jobs' tokens.
///
/// The instance must be within reach, wherever its keys are read from: it is asked who came back.
pub struct SignIn {
    keys: Arc<Keys>,
    client_id: ClientId,
    endpoints: Mutex<Cache<Endpoints>>,
}

#[derive(Clone)]
struct Endpoints {
    authorization: Url,
    token: Url,
    userinfo: Url,
}

/// What the token endpoint answers. It is never shown.
#[derive(Deserialize)]
struct Tokens {
    access_token: String,
    token_type: String,
    id_token: Option<String>,
}

impl SignIn {
    /// Makes a sign-in as the application `client_id`; the issuer is asked for its endpoints by the first who signs in.
    #[must_use]
    pub fn new(keys: Arc<Keys>, client_id: ClientId) -> Self {
        Self { keys, client_id, endpoints: Mutex::default() }
    }

    /// Where the browser is sent: GitLab's page, which sends it back to `redirect_uri` with `code` and `state`, or with `error`
    /// and `state`. Whom it has signed in already it need not ask again; with `anew` it does, so that it can be somebody else
    /// (`prompt`: <https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest>).
    ///
    /// # Errors
    /// [`IdentityError`] when the issuer does not say where that is.
    pub async fn location(
        &self,
        redirect_uri: &str,
        attempt: &Attempt,
        anew: bool,
        now: Timestamp,
    ) -> Result<String, IdentityError> {
        let mut location = self.endpoints(now).await?.authorization;
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, attempt.verifier.as_bytes()));
        location.query_pairs_mut().extend_pairs([
            ("client_id", self.client_id.as_str()),
            ("redirect_uri", redirect_uri),
            ("response_type", "code"),
            ("scope", "openid"),
            ("state", &attempt.state),
            ("nonce", &attempt.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        if anew {
            location.query_pairs_mut().append_pair("prompt", "login");
        }
        Ok(location.into())
    }

    /// Who came back with `code` to `redirect_uri`. A code counts once: after any error the person signs in again.
    ///
    /// # Errors
    /// [`IdentityError`] says what GitLab refused, or what in its answers is not of this sign-in. None holds the code, a token,
    /// the verifier or the nonce.
    pub async fn finish(
        &self,
        redirect_uri: &str,
        code: &str,
        attempt: &Attempt,
        now: Timestamp,
    ) -> Result<Person, IdentityError> {
        if !(1..=MAX_CODE_BYTES).contains(&code.len()) || !code.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(IdentityError::CodeRefused);
        }
        let endpoints = self.endpoints(now).await?;
        let (id_token, access_token) = self.redeem(&endpoints.token, redirect_uri, code, attempt).await?;
        let claims = self.keys.verify(&id_token, self.client_id.as_str(), now).await?;
        let nonce = claims.get("nonce").and_then(|nonce| nonce.as_str());
        if !nonce.is_some_and(|nonce| are_equal(nonce, &attempt.nonce)) {
            return Err(IdentityError::OtherSignIn);
        }
        let user_id = claims.id("sub")?;
        let about = self.userinfo(&endpoints.userinfo, access_token).await?;
        let found = about.id("sub")?;
        if found != user_id {
            return Err(IdentityError::OtherPerson { expected: user_id, found });
        }
        Ok(Person { user_id, user_login: about.text("nickname")?.to_owned(), groups: about.texts("groups")? })
    }

    /// The issuer's endpoints, from a discovery document of the last hour.
    async fn endpoints(&self, now: Timestamp) -> Result<Endpoints, IdentityError> {
        // One asks, the others wait for the answer.
        let mut cache = self.endpoints.lock().await;
        if cache.fresh(now).is_none() && cache.may_ask(now) {
            let answer = self.discover().await;
            cache.record(answer, now);
        }
        match cache.fresh(now) {
            Some(endpoints) => Ok(endpoints.clone()),
            None => Err(cache.failure().cloned().unwrap_or_else(|| IdentityError::IssuerUnavailable {
                reason: "its discovery document is too old".to_owned(),
            })),
        }
    }

    async fn discover(&self) -> Result<Endpoints, IdentityError> {
        let (document, issuer) = (self.keys.provider().discover().await?, self.keys.issuer());
        Ok(Endpoints {
            authorization: document.location("authorization_endpoint", issuer)?,
            token: document.location("token_endpoint", issuer)?,
            userinfo: document.location("userinfo_endpoint", issuer)?,
        })
    }

    /// The ID token and the access token (as a header's value) for a code.
    async fn redeem(
        &self,
        endpoint: &Url,
        redirect_uri: &str,
        code: &str,
        attempt: &Attempt,
    ) -> Result<(String, HeaderValue), IdentityError> {
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", self.client_id.as_str()),
            ("code", code),
            ("code_verifier", &attempt.verifier),
            ("redirect_uri", redirect_uri),
        ];
        let request = self.keys.provider().client().await?.post(endpoint.clone()).form(&form);
        let (status, body) = ask(endpoint.as_str(), request).await?;
        if status != StatusCode::OK {
            return Err(refused(endpoint, status, &body));
        }
        let invalid =
            |reason: &str| IdentityError::AnswerInvalid { url: endpoint.to_string(), reason: reason.to_owned() };
        let tokens: Tokens =
            serde_json::from_slice(&body).map_err(|_| invalid("it is no JSON object with the tokens of a sign-in"))?;
        let id_token = tokens.id_token.ok_or_else(|| invalid("it has no id_token"))?;
        let bearer = Some(tokens.token_type)
            .filter(|kind| kind.eq_ignore_ascii_case("bearer"))
            .and_then(|_| HeaderValue::try_from(format!("Bearer {}", tokens.access_token)).ok());
        let mut bearer = bearer.ok_or_else(|| invalid("its access token is no bearer token"))?;
        bearer.set_sensitive(true);
        Ok((id_token, bearer))
    }

    /// What GitLab says of whoever signed in.
    async fn userinfo(&self, endpoint: &Url, bearer: HeaderValue) -> Result<Claims, IdentityError> {
        let request = self.keys.provider().client().await?.get(endpoint.clone()).header(AUTHORIZATION, bearer);
        let (status, body) = ask(endpoint.as_str(), request).await?;
        if status != StatusCode::OK {
            return Err(answered(endpoint.as_str(), status));
        }
        let invalid =
            |_| IdentityError::AnswerInvalid { url: endpoint.to_string(), reason: "it is no JSON object".to_owned() };
        serde_json::from_slice(&body).map(Claims).map_err(invalid)
    }
}

/// Why the token endpoint gave no tokens (RFC 6749, 5.2). Only the error's name is read, and it is shown only if it is one.
fn refused(endpoint: &Url, status: StatusCode, body: &[u8]) -> IdentityError {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    let error = serde_json::from_slice(body).map(|Refusal { error }| error).unwrap_or_default();
    match error.as_str() {
        "invalid_grant" => IdentityError::CodeRefused,
        "invalid_client" => IdentityError::ClientRefused { error: "invalid_client" },
        "invalid_request" => IdentityError::ClientRefused { error: "invalid_request" },
        "invalid_scope" => IdentityError::ClientRefused { error: "invalid_scope" },
        "unauthorized_client" => IdentityError::ClientRefused { error: "unauthorized_client" },
        "unsupported_grant_type" => IdentityError::ClientRefused { error: "unsupported_grant_type" },
        _ => answered(endpoint.as_str(), status),
    }
}
