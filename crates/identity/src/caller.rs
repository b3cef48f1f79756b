//! An AWS principal: a presigned `sts:GetCallerIdentity`, which STS answers to whoever holds it with who signed it.
//!
//! STS says who signed, but not for whom and for what: a header of ours is signed as well, and we send it with what the request
//! must be meant for, so that a request that was signed for something else is refused by STS itself. STS does not look at
//! `X-Amz-Expires` (kubernetes-sigs/aws-iam-authenticator, pkg/token/token.go) and takes a request for 15 minutes: the age
//! is checked here.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use reqwest::header::HeaderValue;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use slipway_domain::claims::Caller;
use slipway_domain::names::{AccountId, Region};
use tokio::sync::OnceCell;

use crate::error::{IdentityError, SetupError, shown};
use crate::fetch::{self, Failed};
use crate::token::LEEWAY_SECONDS;

/// The signed header that says what the request is meant for.
pub const BINDING_HEADER: &str = "x-slipway-approval";

/// How long a signed request counts at most, in seconds.
pub const MAX_SIGNED_SECONDS: i64 = 300;

/// Longer URLs are refused unread; a session token alone can have some thousand bytes.
pub const MAX_PRESIGNED_BYTES: usize = 8 * 1024;

const MAX_ANSWER_BYTES: usize = 64 * 1024;
const MAX_BINDING_BYTES: usize = 256;

const ACTION: (&str, &str) = ("Action", "GetCallerIdentity");
const VERSION: (&str, &str) = ("Version", "2011-06-15");
const ALGORITHM: (&str, &str) = ("X-Amz-Algorithm", "AWS4-HMAC-SHA256");
const SIGNED_HEADERS: (&str, &str) = ("X-Amz-SignedHeaders", "host;x-slipway-approval");
const CREDENTIAL: &str = "X-Amz-Credential";
const DATE: &str = "X-Amz-Date";
const EXPIRES: &str = "X-Amz-Expires";
const SECURITY_TOKEN: &str = "X-Amz-Security-Token";
const SIGNATURE: &str = "X-Amz-Signature";

/// Where STS is asked: a scheme, a host and a port, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StsEndpoint(Url);

impl StsEndpoint {
    /// AWS's own endpoint of a region. The isolated partitions have other domains: those are for [`StsEndpoint::parse`].
    ///
    /// # Errors
    /// [`SetupError::StsEndpoint`].
    pub fn regional(region: &Region) -> Result<Self, SetupError> {
        let domain = match region.as_str().split('-').next() {
            Some("cn") => "amazonaws.com.cn",
            Some("eusc") => "amazonaws.eu",
            Some(_) | None => "amazonaws.com",
        };
        Self::parse(&format!("https://sts.{region}.{domain}"))
    }

    /// Reads what the SDK's endpoint setting says: `https` always, except for a loopback host, where nobody can listen in.
    ///
    /// # Errors
    /// [`SetupError::StsEndpoint`] names what is wrong.
    pub fn parse(text: &str) -> Result<Self, SetupError> {
        let refused = |reason| SetupError::StsEndpoint { found: shown(text), reason };
        let url = Url::parse(text).map_err(|_| refused("is no URL"))?;
        let plain = url.path() == "/" && !text.contains(['?', '#', '@', '\\']);
        if !plain || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(refused("must be a scheme, a host and a port, and nothing else"));
        }
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if fetch::is_loopback(&url) => Ok(Self(url)),
            _ => Err(refused("must be https")),
        }
    }

    /// The request that is to be signed, without its signature.
    #[cfg(feature = "presign")]
    pub(crate) fn unsigned(&self) -> Url {
        let mut url = self.0.clone();
        url.query_pairs_mut().extend_pairs([ACTION, VERSION]);
        url
    }
}

/// A presigned `sts:GetCallerIdentity` that has every part it must have, and none besides. What it proves says STS alone.
///
/// It counts like a password until it is too old, so it is never shown.
pub struct Presigned {
    /// Built anew from the parts.
    url: Url,
}

impl Presigned {
    /// Reads a presigned URL: of `endpoint` and `region`, signed at most [`MAX_SIGNED_SECONDS`] before `now`, over the host and
    /// [`BINDING_HEADER`].
    ///
    /// # Errors
    /// [`IdentityError::SignedRequest`] names the part and its rule, [`IdentityError::SignedRequestTime`] the times.
    pub fn parse(text: &str, endpoint: &StsEndpoint, region: &Region, now: Timestamp) -> Result<Self, IdentityError> {
        if text.len() > MAX_PRESIGNED_BYTES {
            return Err(refused("its length", &format!("{} bytes", text.len()), "at most 8192 bytes"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return Err(refused("the URL", "of other characters", "of printable ASCII without blanks or backslashes"));
        }
        let given = Url::parse(text).map_err(|_| refused("the URL", "none", "a URL"))?;
        if !given.username().is_empty() || given.password().is_some() {
            return Err(refused("the URL", "with a user", "without one"));
        }
        if !fetch::is_same_origin(&endpoint.0, &given) {
            let origin = given.origin().ascii_serialization();
            return Err(refused("its host", &shown(&origin), &endpoint.0.origin().ascii_serialization()));
        }
        if given.path() != "/" {
            return Err(refused("its path", &shown(given.path()), "/"));
        }
        if given.fragment().is_some() {
            return Err(refused("its fragment", "there", "left out"));
        }
        let given = Parameters::read(&given)?;
        for (name, only) in [ACTION, VERSION, ALGORITHM, SIGNED_HEADERS] {
            given.required(name, only, |text| (text == only).then_some(()))?;
        }
        let (date, signed_at) =
            given.required(DATE, "a time like 20261122T120000Z", |text| Some((text, time(text)?)))?;
        let (expires, valid_for) = given.required(EXPIRES, "1 to 300 seconds", |text| Some((text, seconds(text)?)))?;
        let scope = format!("/{}/{region}/sts/aws4_request", date.get(..8).unwrap_or_default());
        let credential = given.required(CREDENTIAL, &format!("an access key id and {scope}"), |text| {
            text.strip_suffix(&scope).filter(|id| is_access_key_id(id)).map(|_| text)
        })?;
        let token = given.optional(SECURITY_TOKEN, "printable ASCII", |text| is_graphic(text).then_some(text))?;
        let signature = given.required(SIGNATURE, "64 lower-case hex digits", |text| {
            let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            (text.len() == 64 && text.bytes().all(is_hex)).then_some(text)
        })?;
        let age = now.as_second() - signed_at.as_second();
        if age > valid_for || age < -LEEWAY_SECONDS {
            return Err(IdentityError::SignedRequestTime { signed_at, valid_for, now });
        }

        let mut url = endpoint.0.clone();
        url.query_pairs_mut()
            .extend_pairs([ACTION, VERSION, ALGORITHM, (CREDENTIAL, credential), (DATE, date), (EXPIRES, expires)])
            .extend_pairs(token.map(|token| (SECURITY_TOKEN, token)))
            .extend_pairs([SIGNED_HEADERS, (SIGNATURE, signature)]);
        Ok(Self { url })
    }
}

/// The query of a presigned URL: no parameter but those that it may have, each at most once.
struct Parameters(Vec<(&'static str, String)>);

impl Parameters {
    fn read(url: &Url) -> Result<Self, IdentityError> {
        let known =
            [ACTION.0, VERSION.0, ALGORITHM.0, CREDENTIAL, DATE, EXPIRES, SIGNED_HEADERS.0, SECURITY_TOKEN, SIGNATURE];
        let mut all = Self(Vec::new());
        for (name, value) in url.query_pairs() {
            let Some(name) = known.into_iter().find(|known| *known == name) else {
                let rule = "without any that is not of a presigned sts:GetCallerIdentity";
                return Err(refused("the query", &format!("with {}", shown(&name)), rule));
            };
            if all.get(name).is_some() {
                return Err(refused(name, "given twice", "given once"));
            }
            all.0.push((name, value.into_owned()));
        }
        Ok(all)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    fn optional<'a, T>(
        &'a self,
        name: &'static str,
        rule: &str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<Option<T>, IdentityError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        // A token or a signature is never shown, and of a credential only what it is for.
        let found = || match name {
            SECURITY_TOKEN | SIGNATURE => "something else".to_owned(),
            CREDENTIAL => value.split_once('/').map_or_else(|| "something else".to_owned(), |(_, scope)| shown(scope)),
            _ => shown(value),
        };
        read(value).map(Some).ok_or_else(|| refused(name, &found(), rule))
    }

    fn required<'a, T>(
        &'a self,
        name: &'static str,
        rule: &str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, IdentityError> {
        self.optional(name, rule, read)?.ok_or_else(|| refused(name, "missing", rule))
    }
}

fn refused(part: &'static str, found: &str, rule: &str) -> IdentityError {
    IdentityError::SignedRequest { part, found: found.to_owned(), rule: rule.to_owned() }
}

/// The basic form of ISO 8601 that AWS signs, and nothing that only resembles it.
fn time(text: &str) -> Option<Timestamp> {
    const FORM: &str = "%Y%m%dT%H%M%SZ";
    let time = DateTime::strptime(FORM, text).ok()?;
    if time.strftime(FORM).to_string() != text {
        return None;
    }
    Offset::UTC.to_timestamp(time).ok()
}

fn seconds(text: &str) -> Option<i64> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|seconds| canonical && (1..=MAX_SIGNED_SECONDS).contains(seconds))
}

/// STS's own rule for one, but for the shortest length: the access keys of an emulator are account ids.
fn is_access_key_id(text: &str) -> bool {
    (12..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_graphic(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What a request is bound to, as a header's value.
pub(crate) fn binding_value(binding: &str) -> Result<HeaderValue, IdentityError> {
    let value = HeaderValue::from_str(binding).ok();
    value
        .filter(|_| is_graphic(binding) && binding.len() <= MAX_BINDING_BYTES)
        .ok_or_else(|| refused(BINDING_HEADER, "something else", "1 to 256 printable ASCII characters without blanks"))
}

/// Asks STS who signed a request. Build one per process.
pub struct Callers {
    endpoint: StsEndpoint,
    region: Region,
    client: OnceCell<Client>,
}

impl Callers {
    /// Makes one for requests that are signed for `region` and sent to `endpoint`.
    #[must_use]
    pub fn new(endpoint: StsEndpoint, region: Region) -> Self {
        Self { endpoint, region, client: OnceCell::new() }
    }

    /// Who signed `presigned` for `binding`, and for nothing else, at most [`MAX_SIGNED_SECONDS`] before `now`.
    ///
    /// Within that time the same URL proves the same again: it is bound to one decision, which counts once.
    ///
    /// # Errors
    /// Those of [`Presigned::parse`]; [`IdentityError::CallerRefused`] with STS's code;
    /// [`IdentityError::StsUnavailable`], where another try can help. None holds the signature or a session token.
    pub async fn verify(&self, presigned: &str, binding: &str, now: Timestamp) -> Result<Caller, IdentityError> {
        let binding = binding_value(binding)?;
        let presigned = Presigned::parse(presigned, &self.endpoint, &self.region, now)?;
        let client = self.client.get_or_try_init(|| async { fetch::client(&self.endpoint.0) }).await;
        let request = client.map_err(failed)?.get(presigned.url).header(BINDING_HEADER, binding);
        let (status, body) = fetch::send(request, MAX_ANSWER_BYTES).await.map_err(failed)?;
        if status == StatusCode::OK { read_answer(&body) } else { Err(read_refusal(status, &body)) }
    }
}

fn failed(failed: Failed) -> IdentityError {
    match failed {
        Failed::Unavailable(reason) => IdentityError::StsUnavailable { reason },
        Failed::Unusable(reason) => IdentityError::StsAnswerInvalid { reason },
    }
}

/// STS's answer to `accept: application/json` (as kubernetes-sigs/aws-iam-authenticator reads it, pkg/token/token.go).
fn read_answer(body: &[u8]) -> Result<Caller, IdentityError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        get_caller_identity_response: Response,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Response {
        get_caller_identity_result: Identity,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Identity {
        arn: String,
        account: String,
        user_id: String,
    }
    let invalid = |reason: String| IdentityError::StsAnswerInvalid { reason };
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|_| invalid("it is no JSON object with the result of GetCallerIdentity".to_owned()))?;
    let Identity { arn, account, user_id } = answer.get_caller_identity_response.get_caller_identity_result;
    let account = AccountId::new(account).map_err(|error| invalid(error.to_string()))?;
    let mut parts = arn.splitn(6, ':');
    let mut next = || parts.next().unwrap_or_default();
    let (start, partition, service, region, owner, resource) = (next(), next(), next(), next(), next(), next());
    let is_principal = start == "arn" && !partition.is_empty() && region.is_empty() && !resource.is_empty();
    if !is_principal || !["iam", "sts"].contains(&service) || owner != account.as_str() || !is_plain(&arn) {
        return Err(invalid(format!("its Arn {} is no principal of account {account}", shown(&arn))));
    }
    if user_id.is_empty() || !is_plain(&user_id) {
        return Err(invalid(format!("its UserId is {}", shown(&user_id))));
    }
    Ok(Caller { arn, account, user_id })
}

fn is_plain(text: &str) -> bool {
    text.len() <= 2048 && !text.chars().any(|char| char.is_control() || char.is_whitespace())
}

/// Why STS gives no answer: its error's code, if it is one.
fn read_refusal(status: StatusCode, body: &[u8]) -> IdentityError {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Refusal {
        error: Reason,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Reason {
        code: String,
    }
    let code = serde_json::from_slice(body).map(|refusal: Refusal| refusal.error.code).ok();
    let code = code.filter(|code| {
        (1..=64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
    });
    let code = code.unwrap_or_else(|| status.to_string());
    if ["Throttling", "ThrottlingException", "RequestLimitExceeded"].contains(&code.as_str()) {
        IdentityError::StsUnavailable { reason: code }
    } else if status.is_client_error() {
        IdentityError::CallerRefused { code }
    } else {
        IdentityError::StsAnswerInvalid { reason: format!("it answered {status}") }
    }
}
