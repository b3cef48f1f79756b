//! A small GitLab: the one part of it that Slipway asks, the issuer of ID tokens.
//!
//! It serves the OpenID discovery document and the keys on a loopback port, and signs the tokens that GitLab would give
//! to a job. The demo and the tests use it, so that verification needs no switch to turn it off.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A running issuer. It stops when it is dropped.
pub struct GitLab {
    url: String,
    key: SigningKey,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
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

/// One CI job, as its token describes it. [`Job::new`] fills in a push to a branch; change what matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The project's number.
    pub project_id: u64,
    /// Its full path; all but the last part is the namespace.
    pub project_path: String,
    /// The project whose pipeline this is: another one for a fork's merge request.
    pub job_project_id: u64,
    /// Who started the job.
    pub user_id: u64,
    /// That user's name.
    pub user_login: String,
    /// That user's role in the project.
    pub user_access_level: String,
    /// The groups with that user as a direct member.
    pub groups_direct: Vec<String>,
    /// The pipeline's number: larger is newer.
    pub pipeline_id: u64,
    /// What started it.
    pub pipeline_source: String,
    /// The job's number: another one for each retry.
    pub job_id: u64,
    /// The branch or tag.
    pub ref_name: String,
    /// `branch` or `tag`.
    pub ref_type: String,
    /// Whether that branch or tag is protected.
    pub ref_protected: bool,
    /// The job's `environment: name`.
    pub environment: Option<String>,
    /// Its `action`, of a job with an environment.
    pub environment_action: String,
    /// The commit.
    pub sha: String,
    /// The `aud` that the job's `id_tokens:` asks for.
    pub audience: String,
    /// How many seconds the token is valid; GitLab takes the job's timeout.
    pub lifetime: i64,
    /// The token's id; without one, each token gets its own.
    pub jti: Option<String>,
}

impl Job {
    /// A push to `ref_name` of a project, by a maintainer, in pipeline 1001. `main` is protected, no other branch is.
    #[must_use]
    pub fn new(project_path: &str, ref_name: &str, user_id: u64, user_login: &str, audience: &str) -> Self {
        Self {
            project_id: 101,
            project_path: project_path.to_owned(),
            job_project_id: 101,
            user_id,
            user_login: user_login.to_owned(),
            user_access_level: "maintainer".to_owned(),
            groups_direct: Vec::new(),
            pipeline_id: 1001,
            pipeline_source: "push".to_owned(),
            job_id: 10_001,
            ref_name: ref_name.to_owned(),
            ref_type: "branch".to_owned(),
            ref_protected: ref_name == "main",
            environment: None,
            environment_action: "start".to_owned(),
            sha: "714a629c0b401fdce83e847fc9589983fc6f46bc".to_owned(),
            audience: audience.to_owned(),
            lifetime: 3600,
            jti: None,
        }
    }

    /// The claims of this job's token, as GitLab 18.9 has them.
    fn claims(&self, issuer: &str, issued_at: Timestamp) -> Result<Value, GitLabError> {
        let namespace = self.project_path.rsplit_once('/').map_or("", |(namespace, _)| namespace);
        let now = issued_at.as_second();
        let expires_at =
            now.checked_add(self.lifetime).ok_or(GitLabError::Lifetime { lifetime: self.lifetime, issued_at })?;
        let jti = match &self.jti {
            Some(jti) => jti.clone(),
            None => random_uuid()?,
        };
        let heads_or_tags = if self.ref_type == "tag" { "tags" } else { "heads" };
        let mut claims = json!({
            "iss": issuer,
            "sub": format!("project_path:{}:ref_type:{}:ref:{}", self.project_path, self.ref_type, self.ref_name),
            "aud": self.audience,
            "iat": now,
            "nbf": now.saturating_sub(5),
            "exp": expires_at,
            "jti": jti,
            "namespace_id": "11",
            "namespace_path": namespace,
            "project_id": self.project_id.to_string(),
            "project_path": self.project_path,
            "job_project_id": self.job_project_id.to_string(),
            "job_namespace_id": "11",
            "user_id": self.user_id.to_string(),
            "user_login": self.user_login,
            "user_email": format!("{}@example.com", self.user_login),
            "user_access_level": self.user_access_level,
            "groups_direct": self.groups_direct,
            "pipeline_id": self.pipeline_id.to_string(),
            "pipeline_source": self.pipeline_source,
            "job_id": self.job_id.to_string(),
            "job_source": self.pipeline_source,
            "ref": self.ref_name,
            "ref_type": self.ref_type,
            "ref_path": format!("refs/{heads_or_tags}/{}", self.ref_name),
            "ref_protected": self.ref_protected.to_string(),
            "runner_id": 1,
            "runner_environment": "self-hosted",
            "sha": self.sha,
            "project_visibility": "private",
            "ci_config_ref_uri": null,
            "ci_config_sha": null,
        });
        if let (Some(environment), Some(all)) = (&self.environment, claims.as_object_mut()) {
            all.insert("environment".to_owned(), json!(environment));
            // Always: protected environments are a paid feature, so nothing here may need one.
            all.insert("environment_protected".to_owned(), json!("false"));
            all.insert("environment_action".to_owned(), json!(self.environment_action));
            all.insert("deployment_tier".to_owned(), json!("other"));
        }
        Ok(claims)
    }
}

impl GitLab {
    /// Starts the issuer on 127.0.0.1, on `port` or on a free one.
    ///
    /// # Errors
    /// [`GitLabError`] when the port is taken or no key can be made.
    pub async fn start(port: Option<u16>) -> Result<Self, GitLabError> {
        let port = port.unwrap_or(0);
        let refused = |source| GitLabError::Port { port, source };
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.map_err(refused)?;
        let url = format!("http://{}", listener.local_addr().map_err(refused)?);
        let key = SigningKey::generate()?;
        let shared = Arc::new(Shared {
            discovery: discovery(&url).to_string(),
            keys: RwLock::new(key.published.clone()),
            key_fetches: AtomicUsize::new(0),
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self { url, key, shared, server })
    }

    /// The instance's URL: the issuer of its tokens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
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
        self.shared.key_fetches.load(Ordering::Relaxed)
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
        job.claims(&self.url, issued_at)
    }

    /// Signs any claims.
    ///
    /// # Errors
    /// [`GitLabError`] when they cannot be signed.
    pub fn sign(&self, claims: &Value) -> Result<String, GitLabError> {
        self.sign_with(&json!({"alg": "RS256", "typ": "JWT", "kid": self.key.kid}), claims)
    }

    /// Signs any claims under any header: what an attacker might try.
    ///
    /// # Errors
    /// [`GitLabError`] when they cannot be signed.
    pub fn sign_with(&self, header: &Value, claims: &Value) -> Result<String, GitLabError> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(message.as_bytes())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Replaces the key: from now on only the new one signs and is published.
    ///
    /// # Errors
    /// [`GitLabError`] when no key can be made.
    pub fn rotate(&mut self) -> Result<(), GitLabError> {
        self.key = SigningKey::generate()?;
        *self.shared.keys.write().unwrap_or_else(PoisonError::into_inner) = self.key.published.clone();
        Ok(())
    }
}

impl Drop for GitLab {
    fn drop(&mut self) {
        self.server.abort();
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

fn discovery(url: &str) -> Value {
    json!({
        "issuer": url,
        "jwks_uri": format!("{url}/oauth/discovery/keys"),
        "authorization_endpoint": format!("{url}/oauth/authorize"),
        "token_endpoint": format!("{url}/oauth/token"),
        "userinfo_endpoint": format!("{url}/oauth/userinfo"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    })
}

struct Shared {
    discovery: String,
    keys: RwLock<String>,
    key_fetches: AtomicUsize,
}

impl Shared {
    /// The answer to a request line: status and body.
    fn answer(&self, request_line: &str) -> (&'static str, String) {
        let mut words = request_line.split(' ');
        match (words.next(), words.next()) {
            (Some("GET"), Some("/.well-known/openid-configuration")) => ("200 OK", self.discovery.clone()),
            (Some("GET"), Some("/oauth/discovery/keys")) => {
                self.key_fetches.fetch_add(1, Ordering::Relaxed);
                ("200 OK", self.keys.read().unwrap_or_else(PoisonError::into_inner).clone())
            }
            _ => ("404 Not Found", json!({"error": "404 Not Found"}).to_string()),
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Open connections end with the server.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let answering = tokio::time::timeout(Duration::from_secs(5), answer(stream, Arc::clone(&shared)));
                    connections.spawn(answering);
                }
                // Out of file descriptors, for example: that passes.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Reads one request's head, answers it and closes.
async fn answer(mut stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > 16 * 1024 || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&head);
    let (status, body) = shared.answer(head.lines().next().unwrap_or_default());
    let response = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}
