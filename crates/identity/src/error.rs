//! Why somebody is not believed.

use jiff::Timestamp;

/// Why a proof is not accepted. No variant holds a token, a code, or any part of a signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The token was not even looked at.
    #[error("the ID token has {bytes} bytes; at most {limit} are read")]
    TokenTooLarge {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// No JSON web token of the compact form.
    #[error("the ID token is malformed: {reason}. A job passes the variable that its `id_tokens:` names, unchanged")]
    Malformed {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Signed in another way than GitLab signs, or not at all.
    #[error("the ID token's header says alg {found}; only RS256 is accepted")]
    WrongAlgorithm {
        /// The `alg` of the header.
        found: String,
    },
    /// The issuer does not publish that key.
    #[error(
        "the ID token is signed with key {kid}, which the issuer does not publish. Its keys were read less than a \
         minute ago, they can be read again in {retry_in_seconds} s: run the job again after that, or sign in again"
    )]
    UnknownKey {
        /// The `kid` of the header.
        kid: String,
        /// When a refresh is allowed again.
        retry_in_seconds: i64,
    },
    /// The signature is not the issuer's.
    #[error("the ID token's signature is not by the issuer's key {kid}")]
    BadSignature {
        /// The `kid` of the header.
        kid: String,
    },
    /// The token of another instance.
    #[error("claim iss is {found}: this Slipway trusts {expected} only")]
    WrongIssuer {
        /// The claim.
        found: String,
        /// Our issuer.
        expected: String,
    },
    /// A token for somebody else, or not for us alone.
    #[error("claim aud is {found}: it must be {expected} and nothing else (for a job, `aud:` under its `id_tokens:`)")]
    WrongAudience {
        /// The claim.
        found: String,
        /// Our audience.
        expected: String,
    },
    /// Too late.
    #[error(
        "claim exp is {expired_at}: the ID token has expired (it is {now}). Run the job again, or raise its timeout; \
         a person signs in again"
    )]
    Expired {
        /// The claim.
        expired_at: Timestamp,
        /// When it was checked.
        now: Timestamp,
    },
    /// Too early.
    #[error("claim {claim} is {valid_from}: the ID token is not valid yet (it is {now}). Compare the clocks")]
    NotYetValid {
        /// `nbf` or `iat`.
        claim: &'static str,
        /// The claim's value.
        valid_from: Timestamp,
        /// When it was checked.
        now: Timestamp,
    },
    /// A claim that GitLab always sets is not there.
    #[error("claim {claim} is missing; GitLab always gives it")]
    MissingClaim {
        /// Its name.
        claim: &'static str,
    },
    /// A claim of another type or form than GitLab's.
    #[error("claim {claim} is {found}: it must be {rule}")]
    BadClaim {
        /// Its name.
        claim: &'static str,
        /// Its value, shortened.
        found: String,
        /// What it must be.
        rule: &'static str,
    },
    /// The issuer could not be asked, or its keys not be read. Trying again can help.
    #[error("the issuer could not be asked: {reason}")]
    IssuerUnavailable {
        /// What happened.
        reason: String,
    },
    /// GitLab does not take the code that the browser came back with.
    #[error(
        "GitLab does not take the sign-in's code: it has expired, was used already, or is another's. Sign in again"
    )]
    CodeRefused,
    /// GitLab does not take Slipway as an application.
    #[error(
        "GitLab refuses Slipway's sign-in application ({error}): in GitLab it must have this client id, the scope openid, \
         this very redirect URI, and not be confidential"
    )]
    ClientRefused {
        /// OAuth's name for why (RFC 6749, 5.2).
        error: &'static str,
    },
    /// The ID token is not of this sign-in.
    #[error("claim nonce is not the one of this sign-in. Sign in again")]
    OtherSignIn,
    /// GitLab's two answers speak of two people.
    #[error("GitLab's user information is of user {found}, its ID token of user {expected}. Sign in again")]
    OtherPerson {
        /// `sub` of the ID token.
        expected: u64,
        /// `sub` of the user information.
        found: u64,
    },
    /// A presigned request that is not exactly what it must be.
    #[error("the signed sts:GetCallerIdentity is refused: {part} is {found}, and must be {rule}")]
    SignedRequest {
        /// Which part of it.
        part: &'static str,
        /// What it is, shortened; not if it is a secret.
        found: String,
        /// What it must be.
        rule: String,
    },
    /// A presigned request of another time.
    #[error(
        "the signed sts:GetCallerIdentity is of {signed_at} and good for {valid_for} s, but it is {now}. Sign a new one, \
         and compare the clocks"
    )]
    SignedRequestTime {
        /// When it was signed, as it says itself.
        signed_at: Timestamp,
        /// For how many seconds.
        valid_for: i64,
        /// When it was checked.
        now: Timestamp,
    },
    /// STS does not know, or not believe, who signed.
    #[error(
        "AWS STS refuses the signed sts:GetCallerIdentity ({code}). Sign a new one, for this very decision and with AWS \
         credentials that are valid"
    )]
    CallerRefused {
        /// STS's code, like `SignatureDoesNotMatch`; the HTTP status where there is none.
        code: String,
    },
    /// STS could not be asked. Trying again can help.
    #[error("AWS STS could not be asked: {reason}")]
    StsUnavailable {
        /// What happened.
        reason: String,
    },
    /// STS answered, but not who signed.
    #[error("AWS STS's answer is not usable: {reason}")]
    StsAnswerInvalid {
        /// What is wrong with it.
        reason: String,
    },
    /// The request cannot be signed with these credentials.
    #[error("sts:GetCallerIdentity cannot be signed: {reason}")]
    Unsigned {
        /// Why.
        reason: String,
    },
    /// The system gives no random bytes.
    #[error("no random bytes can be drawn")]
    NoRandomness,
    /// The key set that is kept for an issuer which cannot be reached is none.
    #[error("the key set that is kept for the issuer is not usable: {reason}. Copy its /oauth/discovery/keys anew")]
    KeysInvalid {
        /// What is wrong with it.
        reason: String,
    },
    /// The issuer answered, but not as an OpenID provider that we can trust.
    #[error("{url} is no usable answer of the issuer: {reason}")]
    AnswerInvalid {
        /// What was asked.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

impl IdentityError {
    /// Whether the same proof can be accepted when it is tried again shortly. A sign-in's code may have been used up.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::IssuerUnavailable { .. } | Self::StsUnavailable { .. })
    }
}

/// Why something configured is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// No issuer to trust.
    #[error(
        "the issuer {found} {reason}; give the GitLab instance's URL as its tokens name it, like https://gitlab.com"
    )]
    Issuer {
        /// What was configured.
        found: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No application to sign in with.
    #[error("the client id {found} must be 1 to 255 printable ASCII characters without spaces")]
    ClientId {
        /// What was configured.
        found: String,
    },
    /// No STS to ask.
    #[error("the STS endpoint {found} {reason}; give one like https://sts.eu-central-1.amazonaws.com")]
    StsEndpoint {
        /// What was configured.
        found: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No audience to expect.
    #[error("the audience {found} must be 1 to 255 printable ASCII characters without spaces")]
    Audience {
        /// What was configured.
        found: String,
    },
}

/// Untrusted text as it may appear in a message: quoted, escaped, short.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut quoted = String::from("\"");
    quoted.extend(text.chars().take(LONGEST).flat_map(char::escape_debug));
    if text.chars().nth(LONGEST).is_some() {
        quoted.push('…');
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn untrusted_text_is_quoted_escaped_and_short() {
        assert_eq!(shown("main"), r#""main""#);
        assert_eq!(shown("a\n\u{1b}[31m\"b"), r#""a\n\u{1b}[31m\"b""#);
        assert_eq!(shown(&"é".repeat(121)), format!("\"{}…\"", "é".repeat(120)));
    }
}
