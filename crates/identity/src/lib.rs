//! Who is asking: verifies the ID token of a GitLab CI job.
//!
//! A [`Verifier`] is built once per process. It finds the instance's keys by OpenID discovery, caches them, and turns
//! a token into [`JobClaims`], or into an [`IdentityError`] that names the claim, its value and the rule. What the
//! claims *may do* is decided elsewhere (`slipway-domain`): this crate only proves that they are true.
//!
//! The clock is the caller's: every check takes `now`.

mod claims;
mod error;
mod fetch;
mod issuer;
mod keys;
mod provider;
mod sign_in;
mod token;
mod verifier;

pub use error::{IdentityError, SetupError};
pub use issuer::{Audience, ClientId, Issuer};
pub use keys::Keys;
pub use sign_in::{Attempt, SignIn};
pub use slipway_domain::claims::{JobClaims, Person, RefType};
pub use token::{LEEWAY_SECONDS, MAX_TOKEN_BYTES};
pub use verifier::Verifier;
