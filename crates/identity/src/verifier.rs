//! The way a job's token takes.

use std::sync::Arc;

use jiff::Timestamp;
use slipway_domain::claims::JobClaims;

use crate::error::IdentityError;
use crate::issuer::{Audience, Issuer};
use crate::keys::Keys;

/// Verifies the ID tokens of one GitLab instance's jobs for one audience. Build one per process: it keeps the keys.
pub struct Verifier {
    keys: Arc<Keys>,
    audience: Audience,
}

impl Verifier {
    /// Makes a verifier that finds the keys by discovery; the issuer is asked for them by the first token.
    #[must_use]
    pub fn new(issuer: Issuer, audience: Audience) -> Self {
        Self::with_keys(Arc::new(Keys::discovered(issuer)), audience)
    }

    /// Makes a verifier that shares `keys` with others.
    #[must_use]
    pub fn with_keys(keys: Arc<Keys>, audience: Audience) -> Self {
        Self { keys, audience }
    }

    /// Proves that `token` is a GitLab job's, of our issuer and for us alone, and valid at `now`.
    ///
    /// Size, form and algorithm come first, then the issuer, the key, the signature, the audience, the times and last
    /// each claim.
    ///
    /// # Errors
    /// [`IdentityError`] names the claim, its value and the rule.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<JobClaims, IdentityError> {
        crate::claims::read(&self.keys.verify(token, self.audience.as_str(), now).await?)
    }
}
