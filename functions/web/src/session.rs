//! What a browser keeps: a sign-in on its way, and a session, each signed, each of one approval, and short.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use slipway_domain::claims::Person;
use slipway_domain::names::Digest;

/// For how long a sign-in may be on its way.
pub const SIGN_IN_MINUTES: i64 = 10;
/// For how long a session lasts: as long as it takes to read a review.
pub const SESSION_MINUTES: i64 = 30;

/// The key that signs what a browser keeps.
#[derive(Clone)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// The key.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    fn mac(&self, purpose: &str, parts: &[&str]) -> Hmac<Sha256> {
        // HMAC itself pads a short key with zeros to the hash's block of 64 bytes.
        let mut block = [0; 64];
        block.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
        let mut mac = <Hmac<Sha256>>::new(&block.into());
        for part in std::iter::once(&purpose).chain(parts) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac
    }

    /// `value`, signed for `purpose`.
    fn sign<T: Serialize>(&self, purpose: &str, value: &T) -> Option<String> {
        let text = URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).ok()?);
        let signature = URL_SAFE_NO_PAD.encode(self.mac(purpose, &[&text]).finalize().into_bytes());
        Some(format!("{text}.{signature}"))
    }

    /// What was signed for `purpose`, if it was.
    fn open<T: DeserializeOwned>(&self, purpose: &str, cookie: &str) -> Option<T> {
        let (text, signature) = cookie.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.mac(purpose, &[text]).verify_slice(&signature).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }
}

/// A sign-in on its way: what has to come back with the browser. It has no `Debug`: it is in nobody's log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigningIn {
    /// The approval that it is for.
    pub link: String,
    /// What GitLab hands back.
    pub state: String,
    /// What the ID token has to hold.
    pub nonce: String,
    /// What the code is exchanged with.
    pub verifier: String,
    /// Until when it may come back.
    pub until: Timestamp,
}

const SIGN_IN: &str = "slipway sign-in";
const SESSION: &str = "slipway session";
const CSRF: &str = "slipway csrf";

impl SigningIn {
    /// The name of its cookie: several may be on their way in one browser.
    #[must_use]
    pub fn cookie_name(state: &str) -> String {
        let short: String = Digest::of(state.as_bytes()).as_str().chars().take(16).collect();
        format!("__Host-slipway-sign-in-{short}")
    }

    /// The cookie that keeps it.
    #[must_use]
    pub fn cookie(&self, key: &SessionKey) -> Option<String> {
        let value = key.sign(SIGN_IN, self)?;
        Some(set_cookie(&Self::cookie_name(&self.state), &value, SIGN_IN_MINUTES * 60))
    }

    /// The sign-in that `cookie` keeps, if it is the one that `state` belongs to, and in time.
    #[must_use]
    pub fn open(key: &SessionKey, cookie: &str, state: &str, now: Timestamp) -> Option<Self> {
        let kept: Self = key.open(SIGN_IN, cookie)?;
        // The state is in a signed cookie that was found by it: comparing it tells an attacker nothing new.
        (kept.state == state && now < kept.until).then_some(kept)
    }
}

/// Somebody who signed in, for one approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// The approval.
    pub approval: Digest,
    /// The user's number.
    pub user_id: u64,
    /// The user's login.
    pub user_login: String,
    /// Of the user's groups, those that the approval's policy names: a cookie holds 4 KB.
    pub groups: Vec<String>,
    /// Until when.
    pub until: Timestamp,
}

impl Session {
    /// The session of `person`, who signed in for `approval`, whose policy names `groups`.
    #[must_use]
    pub fn new(approval: &Digest, person: Person, names: impl Fn(&str) -> bool, now: Timestamp) -> Self {
        Self {
            approval: approval.clone(),
            user_id: person.user_id,
            user_login: person.user_login,
            groups: person.groups.into_iter().filter(|group| names(group)).collect(),
            until: now + SignedDuration::from_mins(SESSION_MINUTES),
        }
    }

    /// The name of the cookie of a session for `approval`.
    #[must_use]
    pub fn cookie_name(approval: &Digest) -> String {
        let short: String = approval.as_str().chars().take(16).collect();
        format!("__Host-slipway-{short}")
    }

    /// What its cookie is worth.
    #[must_use]
    pub fn signed(&self, key: &SessionKey) -> Option<String> {
        key.sign(SESSION, self)
    }

    /// The cookie that keeps it.
    #[must_use]
    pub fn cookie(&self, key: &SessionKey) -> Option<String> {
        Some(set_cookie(&Self::cookie_name(&self.approval), &self.signed(key)?, SESSION_MINUTES * 60))
    }

    /// The session that `cookie` keeps, if it is for `approval`, and lasts.
    #[must_use]
    pub fn open(key: &SessionKey, cookie: &str, approval: &Digest, now: Timestamp) -> Option<Self> {
        let kept: Self = key.open(SESSION, cookie)?;
        (kept.approval == *approval && now < kept.until).then_some(kept)
    }

    /// Who it is.
    #[must_use]
    pub fn person(&self) -> Person {
        Person { user_id: self.user_id, user_login: self.user_login.clone(), groups: self.groups.clone() }
    }

    /// What only a page that this person was shown can send back: it is of this person, this approval, and of what exactly is decided
    /// on. Another sign-in of the same person, in another tab, makes the same.
    #[must_use]
    pub fn csrf(&self, key: &SessionKey, binding: &Digest) -> String {
        URL_SAFE_NO_PAD.encode(self.csrf_mac(key, binding).finalize().into_bytes())
    }

    /// Whether `csrf` is that.
    #[must_use]
    pub fn is_csrf(&self, key: &SessionKey, binding: &Digest, csrf: &str) -> bool {
        let given = URL_SAFE_NO_PAD.decode(csrf);
        given.is_ok_and(|given| self.csrf_mac(key, binding).verify_slice(&given).is_ok())
    }

    fn csrf_mac(&self, key: &SessionKey, binding: &Digest) -> Hmac<Sha256> {
        key.mac(CSRF, &[self.approval.as_str(), &self.user_id.to_string(), binding.as_str()])
    }
}

/// A cookie that only this host gets, over TLS, out of reach of scripts and of other sites' forms. `Lax`, since the way back from GitLab
/// begins on another site.
fn set_cookie(name: &str, value: &str, seconds: i64) -> String {
    format!("{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax")
}

/// Takes the cookie called `name` away.
#[must_use]
pub fn forget(name: &str) -> String {
    set_cookie(name, "", 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn value(cookie: &str) -> &str {
        cookie.split_once('=').unwrap().1.split_once(';').unwrap().0
    }

    fn session() -> Session {
        let groups = vec!["group/leads".to_owned(), "else".to_owned()];
        let person = Person { user_id: 9, user_login: "eve".into(), groups };
        Session::new(&Digest::of(b"a"), person, |group| group == "group/leads", Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_session_is_one_approvals_and_short() {
        let (key, now) = (SessionKey::new([1; 32]), Timestamp::UNIX_EPOCH);
        let session = session();
        assert_eq!(session.groups, ["group/leads"]);
        let cookie = session.cookie(&key).unwrap();
        assert!(
            cookie.starts_with("__Host-slipway-")
                && cookie.ends_with("; Path=/; Max-Age=1800; Secure; HttpOnly; SameSite=Lax")
        );
        let kept = value(&cookie);
        let open = |key: &SessionKey, kept: &str, of: &[u8], minutes: i64| {
            Session::open(key, kept, &Digest::of(of), now + SignedDuration::from_mins(minutes))
        };
        assert_eq!(open(&key, kept, b"a", 29), Some(session.clone()));
        assert_eq!(open(&key, kept, b"a", 30), None, "too late");
        assert_eq!(open(&key, kept, b"b", 0), None, "another approval's");
        assert_eq!(open(&SessionKey::new([2; 32]), kept, b"a", 0), None, "another key's");
        let forged = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&Session { user_id: 8, ..session.clone() }).unwrap());
        assert_eq!(open(&key, &format!("{forged}.{}", kept.split_once('.').unwrap().1), b"a", 0), None);
        for nothing in ["", ".", "a.b", kept.split_once('.').unwrap().0] {
            assert_eq!(open(&key, nothing, b"a", 0), None, "{nothing}");
        }
    }

    #[test]
    fn a_csrf_token_is_one_sessions_and_one_change_sets() {
        let key = SessionKey::new([1; 32]);
        let (session, binding) = (session(), Digest::of(b"bound"));
        let csrf = session.csrf(&key, &binding);
        assert!(session.is_csrf(&key, &binding, &csrf));
        let later = Session { until: session.until + SignedDuration::from_mins(5), ..session.clone() };
        assert!(later.is_csrf(&key, &binding, &csrf), "who signs in once more keeps the tabs that are open");
        let elsewhere = Session { approval: Digest::of(b"b"), ..session.clone() };
        assert!(!elsewhere.is_csrf(&key, &binding, &csrf));
        assert!(!session.is_csrf(&key, &Digest::of(b"else"), &csrf));
        assert!(!Session { user_id: 8, ..session.clone() }.is_csrf(&key, &binding, &csrf));
        assert!(!session.is_csrf(&SessionKey::new([2; 32]), &binding, &csrf));
        assert!(!session.is_csrf(&key, &binding, ""));
        assert_ne!(session.signed(&key).unwrap(), csrf);
    }

    #[test]
    fn a_sign_in_comes_back_to_where_it_began() {
        let (key, now) = (SessionKey::new([1; 32]), Timestamp::UNIX_EPOCH);
        let until = now + SignedDuration::from_mins(SIGN_IN_MINUTES);
        let begun = SigningIn { link: "l".into(), state: "s".into(), nonce: "n".into(), verifier: "v".into(), until };
        let cookie = begun.cookie(&key).unwrap();
        let kept = value(&cookie);
        assert!(SigningIn::open(&key, kept, "s", now).is_some_and(|kept| kept == begun));
        assert!(SigningIn::open(&key, kept, "t", now).is_none());
        assert!(SigningIn::open(&key, kept, "s", until).is_none());
        assert!(Session::open(&key, kept, &Digest::of(b"a"), now).is_none(), "a sign-in is no session");
        assert_ne!(SigningIn::cookie_name("s"), SigningIn::cookie_name("t"));
    }
}
