//! The issuer's keys: where they come from, and how long they are believed.

use std::future::Future;
use std::pin::Pin;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Mutex, RwLock};

use crate::claims::Claims;
use crate::error::{IdentityError, shown};
use crate::issuer::Issuer;
use crate::provider::Provider;
use crate::token::{Unverified, check_audience, check_times};

/// An unknown kid makes us read the keys again at most this often.
pub(crate) const REFRESH_SECONDS: i64 = 60;
/// A process that has no keys asks again this long after a failure: a hiccup should not cost a minute.
pub(crate) const FAILURE_PAUSE_SECONDS: i64 = 5;
/// Keys are read anew after this time, so that one that was withdrawn is not believed for a process's whole life.
pub(crate) const MAX_AGE_SECONDS: i64 = 3600;

const KEY_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The keys of one issuer. Build one per process and share it: each of them keeps what it read.
///
/// An unknown key makes them read again at most once a minute, and none is believed for more than an hour.
pub struct Keys {
    provider: Provider,
    source: Source,
    cache: RwLock<Cache<KeySet>>,
    /// Held by the one who reads.
    reading: Mutex<()>,
}

type Reading = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send>>;

enum Source {
    Discovery,
    Given(Box<dyn Fn() -> Reading + Send + Sync>),
}

impl Keys {
    /// Keys that are found by OpenID discovery, once a token asks for one.
    #[must_use]
    pub fn discovered(issuer: Issuer) -> Self {
        Self::of(issuer, Source::Discovery)
    }

    /// Keys of an issuer that cannot be reached from here: `read` gives its key set (a JWKS, the document that GitLab has at
    /// `/oauth/discovery/keys`) from where somebody keeps it up to date, or says in a line why it cannot be had now.
    #[must_use]
    pub fn read_by<R, F>(issuer: Issuer, read: R) -> Self
    where
        R: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<Vec<u8>, String>> + Send + 'static,
    {
        Self::of(issuer, Source::Given(Box::new(move || Box::pin(read()))))
    }

    fn of(issuer: Issuer, source: Source) -> Self {
        Self { provider: Provider::new(issuer), source, cache: RwLock::default(), reading: Mutex::default() }
    }

    /// Whose keys these are.
    #[must_use]
    pub fn issuer(&self) -> &Issuer {
        &self.provider.issuer
    }

    pub(crate) fn provider(&self) -> &Provider {
        &self.provider
    }

    /// The claims of an ID token of our issuer, for `audience` alone, and valid at `now`.
    pub(crate) async fn verify(&self, token: &str, audience: &str, now: Timestamp) -> Result<Claims, IdentityError> {
        let token = Unverified::parse(token)?;
        token.check_issuer(self.issuer())?;
        let key = self.key(&token.kid, now).await?;
        let claims = token.verified_by(&key)?;
        check_audience(&claims, audience)?;
        check_times(&claims, now)?;
        Ok(claims)
    }

    async fn key(&self, kid: &str, now: Timestamp) -> Result<DecodingKey, IdentityError> {
        if let Some(key) = self.cache.read().await.key(kid, now) {
            return Ok(key);
        }
        // One reads; who waited here looks at what the other got.
        let _reading = self.reading.lock().await;
        {
            let cache = self.cache.read().await;
            if let Some(key) = cache.key(kid, now) {
                return Ok(key);
            }
            if !cache.may_ask(now) {
                return Err(cache.refusal(kid, now));
            }
        }
        let answer = self.read().await;
        let mut cache = self.cache.write().await;
        cache.record(answer, now);
        cache.key(kid, now).ok_or_else(|| cache.refusal(kid, now))
    }

    async fn read(&self) -> Result<KeySet, IdentityError> {
        match &self.source {
            Source::Discovery => {
                let found = self.provider.discover().await?.location("jwks_uri", self.issuer())?;
                let document = self.provider.get(found.as_str()).await?;
                KeySet::parse(&document).map_err(|reason| IdentityError::AnswerInvalid { url: found.into(), reason })
            }
            Source::Given(read) => {
                let document = read().await.map_err(|reason| IdentityError::IssuerUnavailable { reason })?;
                KeySet::parse(&document).map_err(|reason| IdentityError::KeysInvalid { reason })
            }
        }
    }
}

/// The usable keys of a JSON web key set.
pub(crate) struct KeySet(Vec<(String, DecodingKey)>);

impl KeySet {
    /// Takes the RS256 signature keys of 2048 to 8192 bits; others are ignored.
    pub(crate) fn parse(document: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document =
            serde_json::from_slice(document).map_err(|_| "it is no JSON object with a list of keys".to_owned())?;
        let keys: Vec<_> = document.keys.iter().filter_map(usable).collect();
        if keys.is_empty() {
            return Err(format!(
                "none of its {} keys is an RSA signature key with a kid and at least {} bits",
                document.keys.len(),
                KEY_BITS.start()
            ));
        }
        Ok(Self(keys))
    }

    fn find(&self, kid: &str) -> Option<&DecodingKey> {
        self.0.iter().find(|(id, _)| id == kid).map(|(_, key)| key)
    }
}

fn usable(jwk: &Value) -> Option<(String, DecodingKey)> {
    let member = |name: &str| jwk.get(name).and_then(Value::as_str);
    let absent_or = |name: &str, value: &str| jwk.get(name).is_none_or(|found| found.as_str() == Some(value));
    let kid = member("kid").filter(|kid| !kid.is_empty())?;
    if member("kty") != Some("RSA") || !absent_or("use", "sig") || !absent_or("alg", "RS256") {
        return None;
    }
    let modulus = URL_SAFE_NO_PAD.decode(member("n")?).ok()?;
    let exponent = URL_SAFE_NO_PAD.decode(member("e")?).ok()?;
    let first = modulus.iter().position(|byte| *byte != 0)?;
    let modulus = modulus.get(first..)?;
    let bits = modulus.len() * 8 - usize::try_from(modulus.first()?.leading_zeros()).ok()?;
    KEY_BITS.contains(&bits).then(|| (kid.to_owned(), DecodingKey::from_rsa_raw_components(modulus, &exponent)))
}

/// What the issuer last said of one thing, and when it was last asked.
pub(crate) struct Cache<T> {
    value: Option<(T, Timestamp)>,
    attempt: Option<(Timestamp, Option<IdentityError>)>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self { value: None, attempt: None }
    }
}

impl<T> Cache<T> {
    /// What is known, unless it is too old.
    pub(crate) fn fresh(&self, now: Timestamp) -> Option<&T> {
        self.value.as_ref().filter(|(_, read_at)| apart(*read_at, now) < MAX_AGE_SECONDS).map(|(value, _)| value)
    }

    /// Whether the issuer may be asked now.
    pub(crate) fn may_ask(&self, now: Timestamp) -> bool {
        self.pause_left(now) == 0
    }

    /// Why the issuer gave no answer when it was last asked.
    pub(crate) fn failure(&self) -> Option<&IdentityError> {
        self.attempt.as_ref()?.1.as_ref()
    }

    /// Notes the issuer's answer. What is still fresh outlives a failure.
    pub(crate) fn record(&mut self, answer: Result<T, IdentityError>, now: Timestamp) {
        match answer {
            Ok(value) => {
                self.value = Some((value, now));
                self.attempt = Some((now, None));
            }
            Err(failure) => self.attempt = Some((now, Some(failure))),
        }
    }

    fn pause_left(&self, now: Timestamp) -> i64 {
        let Some((asked_at, failure)) = &self.attempt else { return 0 };
        let pause =
            if failure.is_some() && self.fresh(now).is_none() { FAILURE_PAUSE_SECONDS } else { REFRESH_SECONDS };
        (pause - apart(*asked_at, now)).max(0)
    }
}

impl Cache<KeySet> {
    /// The key, if what is known is recent and has it.
    fn key(&self, kid: &str, now: Timestamp) -> Option<DecodingKey> {
        self.fresh(now)?.find(kid).cloned()
    }

    /// Why `kid` has no key, once the issuer was asked.
    fn refusal(&self, kid: &str, now: Timestamp) -> IdentityError {
        let unknown = || IdentityError::UnknownKey { kid: shown(kid), retry_in_seconds: self.pause_left(now) };
        self.failure().cloned().unwrap_or_else(unknown)
    }
}

/// Seconds between two times: a clock that was set back must not make us wait for it.
fn apart(one: Timestamp, other: Timestamp) -> i64 {
    (other.as_second() - one.as_second()).abs()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::{Cache, KeySet};
    use crate::IdentityError;

    fn jwk(bits: usize) -> Value {
        let mut modulus = vec![0xff_u8; bits.div_ceil(8)];
        if let Some(first) = modulus.first_mut() {
            *first >>= (8 - bits % 8) % 8;
        }
        json!({"kty": "RSA", "kid": "a", "use": "sig", "alg": "RS256", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode(modulus)})
    }

    fn set(keys: Vec<Value>) -> Result<KeySet, String> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn changed(member: &str, value: Value) -> Value {
        let mut key = jwk(2048);
        key[member] = value;
        key
    }

    #[test]
    fn only_strong_rsa_signature_keys_count() {
        for bits in [2048, 2049, 4096, 8192] {
            assert!(set(vec![jwk(bits)]).is_ok(), "{bits}");
        }
        for bits in [8, 1024, 2047, 8193] {
            assert!(set(vec![jwk(bits)]).is_err(), "{bits}");
        }
        let padded = URL_SAFE_NO_PAD.encode([vec![0_u8; 200], vec![0xff_u8; 128]].concat());
        for weak in [
            changed("n", json!(padded)),
            changed("n", json!("")),
            changed("n", json!("not base64!")),
            changed("kty", json!("EC")),
            changed("kty", json!("oct")),
            changed("use", json!("enc")),
            changed("alg", json!("RS512")),
            changed("kid", json!("")),
            changed("kid", json!(7)),
            json!("key"),
        ] {
            assert!(set(vec![weak.clone()]).is_err(), "{weak}");
            assert!(set(vec![weak.clone(), jwk(2048)]).is_ok(), "{weak} is ignored");
        }
    }

    #[test]
    fn what_is_no_key_set() {
        for document in ["", "{}", "[]", r#"{"keys":{}}"#, r#"{"keys":[]}"#] {
            assert!(KeySet::parse(document.as_bytes()).is_err(), "{document}");
        }
    }

    #[test]
    fn keys_are_read_again_once_a_minute_and_believed_for_an_hour() {
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap_or_default();
        let down = || Err(IdentityError::IssuerUnavailable { reason: "down".to_owned() });
        let read = || set(vec![jwk(2048)]).map_err(|reason| IdentityError::IssuerUnavailable { reason });
        let mut cache = Cache::default();
        assert!(cache.may_ask(at(0)));

        cache.record(down(), at(0));
        assert!(cache.refusal("a", at(1)).is_transient());
        assert!(!cache.may_ask(at(4)));
        assert!(cache.may_ask(at(5)));

        cache.record(read(), at(5));
        assert!(cache.key("a", at(6)).is_some());
        assert!(cache.key("b", at(6)).is_none());
        assert_eq!(
            cache.refusal("b", at(6)),
            IdentityError::UnknownKey { kid: "\"b\"".to_owned(), retry_in_seconds: 59 }
        );
        assert!(!cache.may_ask(at(64)));
        assert!(cache.may_ask(at(65)));
        assert!(cache.may_ask(at(-56)), "the clock was set back");

        cache.record(down(), at(65));
        assert!(cache.key("a", at(66)).is_some(), "what was read stays");
        assert!(cache.refusal("b", at(66)).is_transient());
        assert!(!cache.may_ask(at(124)), "nor does a failure make it more often");
        assert!(cache.key("a", at(3604)).is_some());
        assert!(cache.key("a", at(3605)).is_none());
        assert!(cache.may_ask(at(3605)));
    }
}
