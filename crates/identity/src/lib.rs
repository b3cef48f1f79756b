//! Who is asking: a GitLab CI job, a person, or an AWS principal.
//!
//! - A [`Verifier`] turns a job's ID token into [`JobClaims`].
//! - A [`SignIn`] turns what a browser comes back with from GitLab into a [`Person`]. Both take their keys from [`Keys`], which
//!   finds them by OpenID discovery, or reads them where somebody keeps them.
//! - [`Branches`] asks the same GitLab whether the branch that a job ran for is still there.
//! - [`Results`] tells it how a deployment ended.
//! - [`Callers`] turns a presigned `sts:GetCallerIdentity` into a [`Caller`].
//!
//! Each is built once per process. What is not proven is an [`IdentityError`], which names what it is about, its value and the
//! rule. What somebody *may do* is decided elsewhere (`slipway-domain`): this crate only proves who they are.
//!
//! The clock is the caller's: every check takes `now`.

mod api;
mod branches;
mod caller;
mod claims;
mod error;
mod fetch;
mod issuer;
mod keys;
#[cfg(feature = "presign")]
mod presign;
mod provider;
mod results;
mod sign_in;
mod token;
mod verifier;

pub use branches::{Branches, BranchesError};
pub use caller::{BINDING_HEADER, Callers, MAX_PRESIGNED_BYTES, MAX_SIGNED_SECONDS, Presigned, StsEndpoint};
pub use error::{IdentityError, SetupError};
pub use issuer::{Audience, ClientId, Issuer};
pub use keys::Keys;
#[cfg(feature = "presign")]
pub use presign::presign;
pub use results::{Results, ResultsError};
pub use sign_in::{Attempt, SignIn};
pub use slipway_domain::claims::{Caller, JobClaims, Person, RefType};
pub use token::{LEEWAY_SECONDS, MAX_TOKEN_BYTES};
pub use verifier::Verifier;
