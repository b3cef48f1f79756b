//! The way a token takes.

use jiff::Timestamp;
use jsonwebtoken::DecodingKey;
use reqwest::Client;
use tokio::sync::{Mutex, RwLock};

use crate::error::IdentityError;
use crate::fetch;
use crate::issuer::{Audience, Issuer};
use crate::keys::Cache;
use crate::token::{Unverified, check_audience, check_times};
use slipway_domain::claims::JobClaims;

/// Verifies the ID tokens of one GitLab instance for one audience. Build one per process: it keeps the keys.
pub struct Verifier {
    issuer: Issuer,
    audience: Audience,
    cache: RwLock<Cache>,
    /// Who asks the issuer holds this; the client is made by the first who does, because reading the system's TLS roots
    /// takes about 9 ms: most of what a function may take to start.
    asking: Mutex<Option<Client>>,
}

impl Verifier {
    /// Makes a verifier; the issuer is asked for its keys by the first token.
    #[must_use]
    pub fn new(issuer: Issuer, audience: Audience) -> Self {
        Self { issuer, audience, cache: RwLock::default(), asking: Mutex::default() }
    }

    /// Proves that `token` is a GitLab job's, of our issuer and for us alone, and valid at `now`.
    ///
    /// Size, form and algorithm come first, then the issuer, the key, the signature, the audience, the times and last
    /// each claim.
    ///
    /// # Errors
    /// [`IdentityError`] names the claim, its value and the rule.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<JobClaims, IdentityError> {
        let token = Unverified::parse(token)?;
        token.check_issuer(&self.issuer)?;
        let key = self.key(&token.kid, now).await?;
        let claims = token.verified_by(&key)?;
        check_audience(&claims, &self.audience)?;
        check_times(&claims, now)?;
        crate::claims::read(&claims)
    }

    async fn key(&self, kid: &str, now: Timestamp) -> Result<DecodingKey, IdentityError> {
        if let Some(key) = self.cache.read().await.find(kid, now) {
            return Ok(key);
        }
        // One asks; who waited here looks at what the other got.
        let mut client = self.asking.lock().await;
        {
            let cache = self.cache.read().await;
            if let Some(key) = cache.find(kid, now) {
                return Ok(key);
            }
            if !cache.may_ask(now) {
                return Err(cache.refusal(kid, now));
            }
        }
        let client = match &mut *client {
            Some(client) => client,
            none => none.insert(fetch::client(&self.issuer)?),
        };
        let answer = fetch::keys(client, &self.issuer).await;
        let mut cache = self.cache.write().await;
        cache.record(answer, now);
        cache.find(kid, now).ok_or_else(|| cache.refusal(kid, now))
    }
}
