//! The other side of [`Callers`](crate::Callers): signs the request that shows who somebody is.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use jiff::Timestamp;
use slipway_domain::names::Region;

use crate::caller::{BINDING_HEADER, MAX_SIGNED_SECONDS, StsEndpoint, binding_value};
use crate::error::IdentityError;

/// A `sts:GetCallerIdentity` that is signed for `binding` alone and good for [`MAX_SIGNED_SECONDS`]. Whoever has it can show the
/// signer's identity for that one purpose: it is sent to whoever asked, and kept nowhere.
///
/// # Errors
/// [`IdentityError::SignedRequest`] if `binding` cannot be a header, [`IdentityError::Unsigned`] if the signer fails.
pub fn presign(
    credentials: &Credentials,
    endpoint: &StsEndpoint,
    region: &Region,
    binding: &str,
    now: Timestamp,
) -> Result<String, IdentityError> {
    binding_value(binding)?;
    let mut url = endpoint.unsigned();
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_secs(MAX_SIGNED_SECONDS.unsigned_abs()));
    let identity = credentials.clone().into();
    let failed = |error: &dyn std::error::Error| IdentityError::Unsigned { reason: error.to_string() };
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region.as_str())
        .name("sts")
        .time(SystemTime::from(now))
        .settings(settings)
        .build()
        .map_err(|error| failed(&error))?
        .into();
    let headers = [(BINDING_HEADER, binding)];
    let request = SignableRequest::new("GET", url.as_str(), headers.into_iter(), SignableBody::Bytes(&[]))
        .map_err(|error| failed(&error))?;
    let (signed, _) = sign(request, &parameters).map_err(|error| failed(&error))?.into_parts();
    let (_, query) = signed.into_parts();
    url.query_pairs_mut().extend_pairs(query);
    Ok(url.into())
}
