//! A small GitLab: the parts of it that Slipway asks, the OpenID provider, what its API says of branches, and what it is told.
//!
//! On a loopback port it serves the discovery document and the keys, signs the tokens that GitLab would give to a job, and
//! lets people sign in: without a password, by a button for each of them. The demo and the tests use it, so that
//! verification needs no switch to turn it off.

mod api;
mod job;
mod sign_in;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use api::{Answers, Note, Status, TIP};
pub use job::Job;
use sign_in::Provider;
pub use sign_in::{Lie, User};

/// A running instance. It stops when it is dropped.
pub struct GitLab {
    key: Arc<SigningKey>,
    provider: Arc<Provider>,
    /// Gone with this, it stops the server and closes its connections.
    _stop: oneshot::Sender<()>,
}

/// Why the small GitLab does not start or sign.
#[derive(Debug, thiserror::Error)]
pub enum GitLabError {
    /// The port is somebody else's, or may not be had.
    #[error(
        "GitLab's port {port} on 127.0.0.1 cannot be had ({source}): stop what listens there, or give another port"
    )]
    Port {
        /// The port asked for; 0 is any free one.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// The cryptographic library failed.
    #[error("{0} failed")]
    Crypto(&'static str),
    /// A job whose times are out of range.
    #[error("the job's token cannot expire {lifetime} s after {issued_at}")]
    Lifetime {
        /// What the job asks for, in seconds.
        lifetime: i64,
        /// When it asks.
        issued_at: Timestamp,
    },
}

impl GitLab {
    /// Starts the instance on 127.0.0.1, on `port` or on a free one.
    ///
    /// # Errors
    /// [`GitLabError`] when the port is taken or no key can be made.
    pub async fn start(port: Option<u16>) -> Result<Self, GitLabError> {
        let port = port.unwrap_or(0);
        let refused = |source| GitLabError::Port { port, source };
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.map_err(refused)?;
        let url = format!("http://{}", listener.local_addr().map_err(refused)?);
        let key = Arc::new(SigningKey::generate()?);
        let provider = Arc::new(Provider::new(url, Arc::clone(&key)));
        let (stop, stopped) = oneshot::channel::<()>();
        let server = axum::serve(listener, sign_in::routes(Arc::clone(&provider))).with_graceful_shutdown(async {
            let _ = stopped.await;
        });
        tokio::spawn(server.into_future());
        Ok(Self { key, provider, _stop: stop })
    }

    /// Lets an application sign people in, who come back to exactly `redirect_uri`. It is a public one with the scope
    /// `openid`; it may come back to several addresses.
    pub fn register(&self, client_id: &str, redirect_uri: &str) {
        self.provider.state().applications.push((client_id.to_owned(), redirect_uri.to_owned()));
    }

    /// One more person who can sign in; one with the same login is replaced. `dana`, `release-manager`, `eve` and `mallory`
    /// are known from the start.
    pub fn add_user(&self, user: User) {
        let users = &mut self.provider.state().users;
        users.retain(|known| known.login != user.login);
        users.push(user);
    }

    /// Deletes a branch of a project. Every other one is there, at the commit that the jobs of a test run on.
    pub fn delete_branch(&self, project: u64, branch: &str) {
        self.provider.state().deleted.push((project, branch.to_owned()));
    }

    /// Merges a branch of a project at `head`, by merge request `number`.
    pub fn merge_branch(&self, project: u64, branch: &str, head: &str, number: u64) {
        self.provider.state().merged.push((project, branch.to_owned(), head.to_owned(), number));
    }

    /// Opens merge request `number` of a branch of a project.
    pub fn open_merge_request(&self, project: u64, branch: &str, number: u64) {
        self.provider.state().opened.push((project, branch.to_owned(), number));
    }

    /// Protects a branch, as of all projects.
    pub fn protect_branch(&self, branch: &str) {
        self.provider.state().protected.push(branch.to_owned());
    }

    /// From now on, its API answers so.
    pub fn answer(&self, answers: Answers) {
        self.provider.state().answers = answers;
    }

    /// About which branches its API was asked, by whoever had the token.
    #[must_use]
    pub fn asked_branches(&self) -> Vec<String> {
        self.provider.state().asked_branches.clone()
    }

    /// Somebody writes a note in a merge request of a project.
    pub fn write_note(&self, project: u64, request: u64, author: u64, body: &str) {
        self.provider.state().add_note(project, request, author, body.to_owned());
    }

    /// The notes of a merge request of a project, the oldest first.
    #[must_use]
    pub fn notes(&self, project: u64, request: u64) -> Vec<Note> {
        let of_it = |note: &&Note| (note.project, note.request) == (project, request);
        self.provider.state().notes.iter().filter(of_it).cloned().collect()
    }

    /// The statuses that a project's commits were given, the oldest first.
    #[must_use]
    pub fn statuses(&self, project: u64) -> Vec<Status> {
        self.provider.state().statuses.iter().filter(|status| status.project == project).cloned().collect()
    }

    /// How often its API was called with the token that may write.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.provider.state().calls
    }

    /// From now on, it says something that is not so.
    pub fn lie(&self, lie: Lie) {
        self.provider.state().lie = Some(lie);
    }

    /// From now on, it is later by so many seconds to whoever signs in: codes expire.
    pub fn wait(&self, seconds: i64) {
        self.provider.state().later_by += seconds;
    }

    /// The token that its API answers to.
    #[must_use]
    pub fn read_token(&self) -> &'static str {
        api::READ_TOKEN
    }

    /// The token with which it is told.
    #[must_use]
    pub fn write_token(&self) -> &'static str {
        api::WRITE_TOKEN
    }

    /// The instance's URL: the issuer of its tokens.
    #[must_use]
    pub fn url(&self) -> &str {
        self.provider.url()
    }

    /// The `kid` of the key that signs.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.key.kid
    }

    /// The public key, as the DER that people keep in PEM files.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        self.key.pair.public_key().as_ref()
    }

    /// The key set that it publishes: what a platform team keeps in a parameter where AWS cannot reach the instance.
    #[must_use]
    pub fn key_set(&self) -> &str {
        &self.key.published
    }

    /// How often the keys were fetched.
    #[must_use]
    pub fn hits(&self) -> usize {
        self.provider.key_fetches()
    }

    /// How often the discovery document was fetched.
    #[must_use]
    pub fn discoveries(&self) -> usize {
        self.provider.discoveries()
    }

    /// The ID token that `job` gets now.
    ///
    /// # Errors
    /// [`GitLabError`] when it cannot be signed.
    #[allow(clippy::disallowed_methods, reason = "a token is issued when it is asked for")]
    pub fn token(&self, job: &Job) -> Result<String, GitLabError> {
        self.token_at(job, Timestamp::now())
    }

    /// The ID token that `job` would have got at another time.
    ///
    /// # Errors
    /// [`GitLabError`] when it cannot be signed.
    pub fn token_at(&self, job: &Job, issued_at: Timestamp) -> Result<String, GitLabError> {
        self.sign(&self.claims(job, issued_at)?)
    }

    /// The claims that [`GitLab::token_at`] signs, to be changed and signed with [`GitLab::sign`].
    ///
    /// # Errors
    /// [`GitLabError`] when the times are out of range.
    pub fn claims(&self, job: &Job, issued_at: Timestamp) -> Result<Value, GitLabError> {
        job.claims(self.url(), issued_at)
    }

    /// Signs any claims.
    ///
    /// # Errors
    /// [`GitLabError`] when they cannot be signed.
    pub fn sign(&self, claims: &Value) -> Result<String, GitLabError> {
        self.key.token(&self.key.header(), claims)
    }

    /// Signs any claims under any header: what an attacker might try.
    ///
    /// # Errors
    /// [`GitLabError`] when they cannot be signed.
    pub fn sign_with(&self, header: &Value, claims: &Value) -> Result<String, GitLabError> {
        self.key.token(header, claims)
    }

    /// Replaces the key: from now on only the new one signs and is published.
    ///
    /// # Errors
    /// [`GitLabError`] when no key can be made.
    pub fn rotate(&mut self) -> Result<(), GitLabError> {
        self.key = Arc::new(SigningKey::generate()?);
        self.provider.state().key = Arc::clone(&self.key);
        Ok(())
    }
}

struct SigningKey {
    kid: String,
    pair: KeyPair,
    /// The key set with this key's public part.
    published: String,
}

impl SigningKey {
    fn generate() -> Result<Self, GitLabError> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| GitLabError::Crypto("making an RSA key"))?;
        let kid = random_uuid()?;
        let public = pair.public_key();
        let published = json!({"keys": [{
            "kty": "RSA",
            "kid": kid,
            "use": "sig",
            "alg": "RS256",
            "n": URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero()),
            "e": URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero()),
        }]});
        Ok(Self { kid, published: published.to_string(), pair })
    }

    fn header(&self) -> Value {
        json!({"alg": "RS256", "typ": "JWT", "kid": self.kid})
    }

    fn token(&self, header: &Value, claims: &Value) -> Result<String, GitLabError> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.sign(message.as_bytes())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, GitLabError> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| GitLabError::Crypto("signing a token"))?;
        Ok(signature)
    }
}

/// A version 4 UUID.
fn random_uuid() -> Result<String, GitLabError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| GitLabError::Crypto("drawing random bytes"))?;
    let bits = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let group = |shift: u32, digits: u32| bits >> shift & ((1 << (4 * digits)) - 1);
    Ok(format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        group(96, 8),
        group(80, 4),
        group(64, 4),
        group(48, 4),
        group(0, 12)
    ))
}
