//! A token's form, signature, audience and times. Pure: no I/O, no clock.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::claims::{Claims, value_shown};
use crate::error::{IdentityError, shown};
use crate::issuer::Issuer;

/// Longer tokens are refused unread. GitLab's have about 2 KiB, and up to 200 group paths.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// How far the issuer's clock and ours may be apart.
pub const LEEWAY_SECONDS: i64 = 60;

/// A token that is well-formed and says RS256; nothing in it is proven.
#[derive(Debug)]
pub(crate) struct Unverified<'a> {
    pub(crate) kid: String,
    claims: Claims,
    signed: &'a str,
    signature: &'a str,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

impl<'a> Unverified<'a> {
    pub(crate) fn parse(token: &'a str) -> Result<Self, IdentityError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(IdentityError::TokenTooLarge { bytes: token.len(), limit: MAX_TOKEN_BYTES });
        }
        let malformed = |reason| IdentityError::Malformed { reason };
        let (signed, signature) = token.rsplit_once('.').ok_or(malformed("it has not three parts"))?;
        let (header, payload) = signed.split_once('.').ok_or(malformed("it has not three parts"))?;
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| malformed("its header is no base64url"))?;
        let header: Header =
            serde_json::from_slice(&header).map_err(|_| malformed("its header is no JSON object with an alg"))?;
        if header.alg != "RS256" {
            return Err(IdentityError::WrongAlgorithm { found: shown(&header.alg) });
        }
        if header.crit.is_some() {
            return Err(malformed("its header asks for critical extensions"));
        }
        let kid = header.kid.filter(|kid| !kid.is_empty()).ok_or(malformed("its header has no kid"))?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| malformed("its claims are no base64url"))?;
        let claims = serde_json::from_slice(&payload).map_err(|_| malformed("its claims are no JSON object"))?;
        Ok(Self { kid, claims: Claims(claims), signed, signature })
    }

    /// Refuses another instance's token before its key is looked for: that says what is wrong, and costs no request.
    pub(crate) fn check_issuer(&self, issuer: &Issuer) -> Result<(), IdentityError> {
        let found = self.claims.text("iss")?;
        if found == issuer.as_str() {
            Ok(())
        } else {
            Err(IdentityError::WrongIssuer { found: shown(found), expected: issuer.to_string() })
        }
    }

    /// The claims, once the signature is proven.
    pub(crate) fn verified_by(self, key: &DecodingKey) -> Result<Claims, IdentityError> {
        match jsonwebtoken::crypto::verify(self.signature, self.signed.as_bytes(), key, Algorithm::RS256) {
            Ok(true) => Ok(self.claims),
            Ok(false) | Err(_) => Err(IdentityError::BadSignature { kid: shown(&self.kid) }),
        }
    }
}

/// `aud` must be ours alone: a token that is also meant for others could be replayed here by them.
pub(crate) fn check_audience(claims: &Claims, audience: &str) -> Result<(), IdentityError> {
    let value = claims.get("aud").ok_or(IdentityError::MissingClaim { claim: "aud" })?;
    let found = match value.as_array().map(Vec::as_slice) {
        None => value,
        Some([only]) => only,
        Some(_) => value,
    };
    if found.as_str() == Some(audience) {
        return Ok(());
    }
    let found = match value.as_array() {
        Some(list) => {
            let items: Vec<String> = list.iter().take(4).map(value_shown).collect();
            let more = if list.len() > items.len() { ", …" } else { "" };
            format!("[{}{more}]", items.join(", "))
        }
        None => value_shown(value),
    };
    Err(IdentityError::WrongAudience { found, expected: audience.to_string() })
}

/// `exp` is required; `nbf` and `iat` count where they are given.
pub(crate) fn check_times(claims: &Claims, now: Timestamp) -> Result<(), IdentityError> {
    let expired_at = claims.time("exp")?;
    if now.as_second() >= expired_at.as_second().saturating_add(LEEWAY_SECONDS) {
        return Err(IdentityError::Expired { expired_at, now });
    }
    for claim in ["nbf", "iat"] {
        if let Some(valid_from) = claims.optional_time(claim)?
            && valid_from.as_second() > now.as_second().saturating_add(LEEWAY_SECONDS)
        {
            return Err(IdentityError::NotYetValid { claim, valid_from, now });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::{Unverified, check_audience, check_times};
    use crate::claims::Claims;
    use crate::{Audience, IdentityError};

    fn claims(value: &Value) -> Claims {
        Claims(value.as_object().cloned().unwrap_or_default())
    }

    #[test]
    fn times() {
        let now = Timestamp::from_second(1_000_000).unwrap_or_default();
        for (name, value, accepted) in [
            ("valid", json!({"exp": 1_000_300, "nbf": 999_995, "iat": 1_000_000}), true),
            ("exp alone", json!({"exp": 1_000_300}), true),
            ("within the leeway", json!({"exp": 999_941}), true),
            ("expired", json!({"exp": 999_940}), false),
            ("never expires", json!({"nbf": 999_995}), false),
            ("expires as text", json!({"exp": "1000300"}), false),
            ("a little early", json!({"exp": 1_000_300, "nbf": 1_000_060, "iat": 1_000_060}), true),
            ("too early", json!({"exp": 1_000_300, "nbf": 1_000_061}), false),
            ("issued later", json!({"exp": 1_000_300, "iat": 1_000_061}), false),
            ("nbf as text", json!({"exp": 1_000_300, "nbf": "0"}), false),
            ("at the end of time", json!({"exp": 253_402_207_200_i64, "nbf": -377_705_023_201_i64}), true),
        ] {
            assert_eq!(check_times(&claims(&value), now).is_ok(), accepted, "{name}");
        }
    }

    #[test]
    fn audiences() -> Result<(), Box<dyn std::error::Error>> {
        let ours = Audience::parse("slipway")?;
        for (value, accepted) in [
            (json!({"aud": "slipway"}), true),
            (json!({"aud": ["slipway"]}), true),
            (json!({"aud": ["slipway", "slipway"]}), false),
            (json!({"aud": ["slipway", "other"]}), false),
            (json!({"aud": []}), false),
            (json!({"aud": [["slipway"]]}), false),
            (json!({"aud": "Slipway"}), false),
            (json!({"aud": "slipway "}), false),
            (json!({"aud": {"slipway": true}}), false),
            (json!({"aud": null}), false),
            (json!({}), false),
        ] {
            assert_eq!(check_audience(&claims(&value), ours.as_str()).is_ok(), accepted, "{value}");
        }
        Ok(())
    }

    #[test]
    fn forms() {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(json!({"alg": "RS256", "kid": "a"}));
        let body = part(json!({}));
        assert!(Unverified::parse(&format!("{header}.{body}.")).is_ok());
        for token in [
            String::new(),
            "a".to_owned(),
            "..".to_owned(),
            format!("{header}.{body}"),
            format!("{header}.{body}.c.d"),
            format!("{header}.{body}.c.d.e"),
            format!(" {header}.{body}.c"),
            format!("{header}=.{body}.c"),
            format!("{}.{body}.c", part(json!({"kid": "a"}))),
            format!("{}.{body}.c", part(json!({"alg": "RS256"}))),
            format!("{}.{body}.c", part(json!({"alg": "RS256", "kid": ""}))),
            format!("{}.{body}.c", part(json!({"alg": "RS256", "kid": "a", "crit": ["b64"]}))),
            format!("{}.{body}.c", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","alg":"RS256","kid":"a"}"#)),
            format!("{header}.{}.c", part(json!([1]))),
            format!("{header}.{}.c", URL_SAFE_NO_PAD.encode("[".repeat(5_000))),
        ] {
            let parsed = Unverified::parse(&token);
            assert!(matches!(parsed, Err(IdentityError::Malformed { .. })), "{token}: {parsed:?}");
        }
    }
}
