//! The OpenID provider: authorization code with PKCE for public applications, as GitLab's (the gems `doorkeeper` and
//! `doorkeeper-openid_connect`, as its `config/initializers` set them up).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Bytes;
use axum::extract::{Form, Query, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use reqwest::Url;
use serde_json::{Value, json};

use super::{SigningKey, random_uuid};

/// How long a code can be redeemed, in seconds. GitLab gives ten minutes.
const CODE_SECONDS: i64 = 60;
/// How long the ID token of a sign-in is valid, in seconds: GitLab keeps the gem's default.
const ID_TOKEN_SECONDS: i64 = 120;

/// Somebody with an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub id: u64,
    /// The user's name.
    pub login: String,
    /// The groups, by full path, of which the user is a member, directly or through an ancestor.
    pub groups: Vec<String>,
}

/// What can be wrong with a sign-in that GitLab seems to have let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// The ID token has another sign-in's nonce.
    WrongNonce,
    /// The ID token has no nonce.
    NoNonce,
    /// The ID token is for another application.
    WrongAudience,
    /// The ID token is another instance's.
    WrongIssuer,
    /// The ID token expired an hour ago.
    Expired,
    /// The user information is another user's.
    OtherSub,
    /// The ID token's signature is broken.
    BadSignature,
    /// The answer has no ID token, as without the scope `openid`.
    NoIdToken,
    /// The token endpoint answers that it is down.
    TokenEndpointDown,
    /// The discovery document names a token endpoint on another host.
    ForeignTokenEndpoint,
}

/// What all requests share.
pub(super) struct Provider {
    url: String,
    discoveries: AtomicUsize,
    key_fetches: AtomicUsize,
    state: Mutex<Known>,
}

pub(super) struct Known {
    pub(super) key: Arc<SigningKey>,
    /// Client id and redirect URI.
    pub(super) applications: Vec<(String, String)>,
    pub(super) users: Vec<User>,
    pub(super) lie: Option<Lie>,
    pub(super) later_by: i64,
    pub(super) answers: super::Answers,
    /// Project and branch.
    pub(super) deleted: Vec<(u64, String)>,
    /// Project, branch, the commit that was merged, and the merge request's number.
    pub(super) merged: Vec<(u64, String, String, u64)>,
    /// Project, branch, and the number of the open merge request.
    pub(super) opened: Vec<(u64, String, u64)>,
    pub(super) protected: Vec<String>,
    pub(super) asked_branches: Vec<String>,
    /// How often it was called with the token that may write.
    pub(super) calls: usize,
    pub(super) notes: Vec<super::Note>,
    pub(super) statuses: Vec<super::Status>,
    /// By project, package, version and name.
    pub(super) packages: HashMap<(String, String, String, String), Bytes>,
    /// By code.
    grants: HashMap<String, Grant>,
    /// By access token.
    sessions: HashMap<String, User>,
}

struct Grant {
    user: User,
    client_id: String,
    redirect_uri: String,
    challenge: String,
    nonce: Option<String>,
    expires_at: i64,
}

impl Provider {
    pub(super) fn new(url: String, key: Arc<SigningKey>) -> Self {
        let user = |id, login: &str, groups: &[&str]| User {
            id,
            login: login.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        };
        let known = Known {
            key,
            applications: Vec::new(),
            users: vec![
                user(7, "dana", &[]),
                user(8, "release-manager", &[]),
                user(9, "eve", &["group/leads"]),
                user(66, "mallory", &[]),
            ],
            lie: None,
            later_by: 0,
            answers: super::Answers::Truly,
            deleted: Vec::new(),
            merged: Vec::new(),
            opened: Vec::new(),
            protected: vec!["main".to_owned()],
            asked_branches: Vec::new(),
            calls: 0,
            notes: Vec::new(),
            statuses: Vec::new(),
            packages: HashMap::new(),
            grants: HashMap::new(),
            sessions: HashMap::new(),
        };
        Self { url, discoveries: AtomicUsize::default(), key_fetches: AtomicUsize::default(), state: Mutex::new(known) }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn discoveries(&self) -> usize {
        self.discoveries.load(Ordering::Relaxed)
    }

    pub(super) fn key_fetches(&self) -> usize {
        self.key_fetches.load(Ordering::Relaxed)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, Known> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    pub(super) fn add_note(&mut self, project: u64, request: u64, author: u64, body: String) -> super::Note {
        let id = self.notes.len() as u64 + 1;
        let note = super::Note { id, project, request, author, body, changes: 0 };
        self.notes.push(note.clone());
        note
    }

    #[allow(clippy::disallowed_methods, reason = "whoever signs in does it now")]
    fn now(&self) -> i64 {
        Timestamp::now().as_second().saturating_add(self.later_by)
    }

    fn lies(&self, lie: Lie) -> bool {
        self.lie == Some(lie)
    }
}

type Shared = State<Arc<Provider>>;
type Parameters = HashMap<String, String>;

pub(super) fn routes(provider: Arc<Provider>) -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/oauth/discovery/keys", get(keys))
        .route("/oauth/authorize", get(ask_who).post(let_in))
        .route("/oauth/token", post(token))
        .route("/oauth/userinfo", get(userinfo))
        .merge(super::api::routes())
        .fallback(|| async { (StatusCode::NOT_FOUND, Json(json!({"error": "404 Not Found"}))) })
        .with_state(provider)
}

async fn discovery(State(provider): Shared) -> Json<Value> {
    provider.discoveries.fetch_add(1, Ordering::Relaxed);
    let url = &provider.url;
    let token_host = if provider.state().lies(Lie::ForeignTokenEndpoint) { "http://127.0.0.1:9" } else { url };
    Json(json!({
        "issuer": url,
        "jwks_uri": format!("{url}/oauth/discovery/keys"),
        "authorization_endpoint": format!("{url}/oauth/authorize"),
        "token_endpoint": format!("{token_host}/oauth/token"),
        "userinfo_endpoint": format!("{url}/oauth/userinfo"),
        "scopes_supported": ["openid"],
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code"],
        "code_challenge_methods_supported": ["S256"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }))
}

async fn keys(State(provider): Shared) -> Response {
    provider.key_fetches.fetch_add(1, Ordering::Relaxed);
    ([(CONTENT_TYPE, "application/json")], provider.state().key.published.clone()).into_response()
}

/// What an application asks for, once it is known to be one.
struct Authorization {
    client_id: String,
    redirect_uri: String,
    /// The same, to be added to.
    back: Url,
    challenge: String,
    state: Option<String>,
    nonce: Option<String>,
}

impl Known {
    /// Checks what an application asks for; the error is OAuth's name for what is wrong. GitLab shows that on a page of its own
    /// and sends nobody back.
    fn authorization(&self, asked: &Parameters) -> Result<Authorization, &'static str> {
        let given = |name: &str| asked.get(name).filter(|value| !value.is_empty()).cloned();
        let client_id = given("client_id").ok_or("invalid_request")?;
        if !self.applications.iter().any(|(known, _)| *known == client_id) {
            return Err("invalid_client");
        }
        let redirect_uri = given("redirect_uri").ok_or("invalid_redirect_uri")?;
        if !self.applications.contains(&(client_id.clone(), redirect_uri.clone())) {
            return Err("invalid_redirect_uri");
        }
        match given("response_type").as_deref() {
            Some("code") => {}
            Some(_) => return Err("unsupported_response_type"),
            None => return Err("invalid_request"),
        }
        // Without a scope GitLab takes its default, `api`, which this application has not.
        if given("scope").as_deref() != Some("openid") {
            return Err("invalid_scope");
        }
        let challenge = given("code_challenge").ok_or("invalid_request")?;
        if given("code_challenge_method").as_deref() != Some("S256") {
            return Err("invalid_code_challenge_method");
        }
        let back = Url::parse(&redirect_uri).map_err(|_| "invalid_redirect_uri")?;
        Ok(Authorization { client_id, redirect_uri, back, challenge, state: given("state"), nonce: given("nonce") })
    }
}

async fn ask_who(State(provider): Shared, Query(asked): Query<Parameters>) -> Response {
    let known = provider.state();
    if let Err(error) = known.authorization(&asked) {
        return refusal(error);
    }
    let buttons: String = known
        .users
        .iter()
        .map(|user| escaped(&user.login))
        .map(|login| format!("<p><button name=\"user\" value=\"{login}\">{login}</button></p>\n"))
        .collect();
    // A form without an action goes to the page's own address, with all that was asked for.
    let form =
        format!("<form method=\"post\">\n{buttons}<p><button name=\"deny\" value=\"1\">Deny</button></p>\n</form>");
    page("Sign in · GitLab", &form)
}

async fn let_in(State(provider): Shared, Query(asked): Query<Parameters>, Form(answer): Form<Parameters>) -> Response {
    let mut known = provider.state();
    let Authorization { client_id, redirect_uri, mut back, challenge, state, nonce } = match known.authorization(&asked)
    {
        Ok(authorization) => authorization,
        Err(error) => return refusal(error),
    };
    if answer.contains_key("deny") {
        back.query_pairs_mut()
            .append_pair("error", "access_denied")
            .append_pair("error_description", "The user denied the request.");
    } else {
        let Some(user) = known.users.iter().find(|user| answer.get("user") == Some(&user.login)).cloned() else {
            return (StatusCode::UNPROCESSABLE_ENTITY, page("GitLab", "<p>Nobody has that name.</p>")).into_response();
        };
        let Ok(code) = random_uuid() else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
        back.query_pairs_mut().append_pair("code", &code);
        let expires_at = known.now() + CODE_SECONDS;
        known.grants.insert(code, Grant { user, client_id, redirect_uri, challenge, nonce, expires_at });
    }
    if let Some(state) = state {
        back.query_pairs_mut().append_pair("state", &state);
    }
    (StatusCode::FOUND, [(LOCATION, String::from(back))]).into_response()
}

async fn token(State(provider): Shared, Form(asked): Form<Parameters>) -> Response {
    let mut known = provider.state();
    if known.lies(Lie::TokenEndpointDown) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let refused = |status: StatusCode, error: &str| (status, Json(json!({ "error": error }))).into_response();
    let given = |name: &str| asked.get(name).map(String::as_str).filter(|value| !value.is_empty());
    if given("grant_type") != Some("authorization_code") {
        return refused(StatusCode::BAD_REQUEST, "unsupported_grant_type");
    }
    let (Some(code), Some(redirect_uri), Some(verifier)) =
        (given("code"), given("redirect_uri"), given("code_verifier"))
    else {
        return refused(StatusCode::BAD_REQUEST, "invalid_request");
    };
    let Some(client_id) = given("client_id").filter(|id| known.applications.iter().any(|(known, _)| known == id))
    else {
        return refused(StatusCode::UNAUTHORIZED, "invalid_client");
    };
    let now = known.now();
    let fits = known.grants.get(code).is_some_and(|grant| {
        grant.client_id == client_id
            && grant.redirect_uri == redirect_uri
            && now < grant.expires_at
            && grant.challenge == URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))
    });
    // A code counts once; one that was presented wrongly still counts, as GitLab's does.
    let Some(grant) = fits.then(|| known.grants.remove(code)).flatten() else {
        return refused(StatusCode::BAD_REQUEST, "invalid_grant");
    };
    let (Ok(access_token), Ok(id_token)) = (random_uuid(), id_token(&provider.url, &known, &grant, now)) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    known.sessions.insert(access_token.clone(), grant.user);
    let mut answer = json!({
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": 7200,
        "scope": "openid",
        "created_at": now,
    });
    if !known.lies(Lie::NoIdToken)
        && let Some(members) = answer.as_object_mut()
    {
        members.insert("id_token".to_owned(), json!(id_token));
    }
    Json(answer).into_response()
}

/// The ID token of a sign-in.
fn id_token(issuer: &str, known: &Known, grant: &Grant, now: i64) -> Result<String, super::GitLabError> {
    let issued_at = if known.lies(Lie::Expired) { now - 3600 - ID_TOKEN_SECONDS } else { now };
    let nonce = match known.lie {
        Some(Lie::WrongNonce) => Some("another sign-in's"),
        Some(Lie::NoNonce) => None,
        Some(_) | None => grant.nonce.as_deref(),
    };
    let mut claims = json!({
        "iss": if known.lies(Lie::WrongIssuer) { "https://gitlab.example.com" } else { issuer },
        "sub": grant.user.id.to_string(),
        "aud": if known.lies(Lie::WrongAudience) { "another-application" } else { &grant.client_id },
        "iat": issued_at,
        "exp": issued_at + ID_TOKEN_SECONDS,
        "auth_time": issued_at,
        "groups_direct": grant.user.groups,
    });
    if let (Some(nonce), Some(members)) = (nonce, claims.as_object_mut()) {
        members.insert("nonce".to_owned(), json!(nonce));
    }
    let token = known.key.token(&known.key.header(), &claims)?;
    if !known.lies(Lie::BadSignature) {
        return Ok(token);
    }
    // Another claim under the signature of this one.
    let mut parts = token.split('.');
    let (header, signature) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default());
    claims["sub"] = json!("1");
    Ok(format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims.to_string())))
}

async fn userinfo(State(provider): Shared, headers: HeaderMap) -> Response {
    let known = provider.state();
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let Some(user) = bearer.and_then(|token| known.sessions.get(token)) else {
        return (StatusCode::UNAUTHORIZED, Json(json!({"error": "invalid_token"}))).into_response();
    };
    let id = if known.lies(Lie::OtherSub) { 1 } else { user.id };
    Json(json!({
        "sub": id.to_string(),
        "name": user.login,
        "nickname": user.login,
        "preferred_username": user.login,
        "profile": format!("{}/{}", provider.url, user.login),
        "groups": user.groups,
    }))
    .into_response()
}

/// GitLab's answer to an application that asks wrongly: a page, with status 200.
fn refusal(error: &str) -> Response {
    page("An error has occurred · GitLab", &format!("<p>An error has occurred: <code>{error}</code></p>"))
}

fn page(title: &str, body: &str) -> Response {
    Html(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body>\n<main>\n<h1>{title}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    ))
    .into_response()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
