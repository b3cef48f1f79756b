//! What a browser keeps: a secret of a sign-in on its way, and a secret of a session. Neither is worth anything but together with what
//! GitLab sends back, or with the row that the table has of it; so there is no key that makes either.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use slipway_domain::names::Digest;

use crate::request::Link;

/// For how long a sign-in may be on its way.
const SIGN_IN_SECONDS: i64 = 10 * 60;
/// For how long a session lasts: as long as it takes to read a review.
pub const SESSION_MINUTES: i64 = 30;

/// 256 random bits that one browser has. It has no `Debug`: it is in nobody's log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// A new one; nothing where no random numbers can be had.
    #[must_use]
    pub fn draw() -> Option<Self> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// The one that a cookie holds.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }

    fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// What is kept of it.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest::of(&self.0)
    }

    fn mac(&self, purpose: &str, of: &str) -> Hmac<Sha256> {
        // HMAC itself pads a short key with zeros to the hash's block of 64 bytes.
        let mut block = [0; 64];
        block.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
        let mut mac = <Hmac<Sha256>>::new(&block.into());
        for part in [purpose, of] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac
    }

    /// Something that only who has the secret can work out: 43 characters of base64url.
    fn derived(&self, purpose: &str, of: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.mac(purpose, of).finalize().into_bytes())
    }

    /// Whether `given` is that; in constant time.
    fn is_derived(&self, purpose: &str, of: &str, given: &str) -> bool {
        let given = URL_SAFE_NO_PAD.decode(given);
        given.is_ok_and(|given| self.mac(purpose, of).verify_slice(&given).is_ok())
    }
}

/// A sign-in on its way, for one approval.
pub struct SigningIn {
    /// The approval.
    pub link: Link,
    secret: Secret,
}

impl SigningIn {
    /// A new one.
    #[must_use]
    pub fn begin(link: Link, secret: Secret) -> Self {
        Self { link, secret }
    }

    /// What GitLab hands back with the browser.
    #[must_use]
    pub fn state(&self) -> String {
        self.secret.derived("state", self.link.as_str())
    }

    /// What the ID token has to hold.
    #[must_use]
    pub fn nonce(&self) -> String {
        self.secret.derived("nonce", self.link.as_str())
    }

    /// What the code is exchanged with: as long as RFC 7636 wants it at least.
    #[must_use]
    pub fn verifier(&self) -> String {
        self.secret.derived("verifier", self.link.as_str())
    }

    /// The name of the cookie of the sign-in that `state` belongs to: several may be on their way in one browser.
    #[must_use]
    pub fn cookie_name(state: &str) -> String {
        let short: String = Digest::of(state.as_bytes()).as_str().chars().take(16).collect();
        format!("__Host-slipway-sign-in-{short}")
    }

    /// The cookie that keeps it.
    #[must_use]
    pub fn cookie(&self) -> String {
        let value = format!("{}.{}", self.link.as_str(), self.secret.text());
        set_cookie(&Self::cookie_name(&self.state()), &value, SIGN_IN_SECONDS)
    }

    /// The sign-in that a cookie keeps, if it is the one that `state` belongs to.
    #[must_use]
    pub fn open(cookie: &str, state: &str) -> Option<Self> {
        let (link, secret) = cookie.split_once('.')?;
        let kept = Self { link: Link::new(link)?, secret: Secret::read(secret)? };
        kept.secret.is_derived("state", kept.link.as_str(), state).then_some(kept)
    }
}

/// The name of the cookie of a session for `approval`.
#[must_use]
pub fn cookie_name(approval: &Digest) -> String {
    let short: String = approval.as_str().chars().take(16).collect();
    format!("__Host-slipway-{short}")
}

/// The cookie of a session for `approval`.
#[must_use]
pub fn cookie(approval: &Digest, secret: &Secret) -> String {
    set_cookie(&cookie_name(approval), &secret.text(), SESSION_MINUTES * 60)
}

/// What only a page that was shown in this session can send back: it is of the session, and of what exactly is decided on.
#[must_use]
pub fn csrf(session: &Secret, binding: &Digest) -> String {
    session.derived("csrf", binding.as_str())
}

/// Whether `given` is that.
#[must_use]
pub fn is_csrf(session: &Secret, binding: &Digest, given: &str) -> bool {
    session.is_derived("csrf", binding.as_str(), given)
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

    fn link(digit: &str) -> Link {
        Link::new(&digit.repeat(64)).unwrap()
    }

    fn value(cookie: &str) -> &str {
        cookie.split_once('=').unwrap().1.split_once(';').unwrap().0
    }

    #[test]
    fn a_cookie_is_for_this_host_alone() {
        let cookie = cookie(&Digest::of(b"a"), &Secret::draw().unwrap());
        assert!(cookie.starts_with("__Host-slipway-"), "{cookie}");
        assert!(cookie.ends_with("; Path=/; Max-Age=1800; Secure; HttpOnly; SameSite=Lax"), "{cookie}");
        assert_ne!(cookie_name(&Digest::of(b"a")), cookie_name(&Digest::of(b"b")));
    }

    #[test]
    fn a_secret_is_drawn_anew_and_read_back() {
        let (one, other) = (Secret::draw().unwrap(), Secret::draw().unwrap());
        assert!(one != other && one.id() != other.id());
        assert!(Secret::read(&one.text()).is_some_and(|read| read == one));
        for text in ["", "AAAA", &format!("{}A", one.text()), &"!".repeat(43)] {
            assert!(Secret::read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_csrf_token_is_one_sessions_and_one_change_sets() {
        let (session, binding) = (Secret::draw().unwrap(), Digest::of(b"bound"));
        let given = csrf(&session, &binding);
        assert!(is_csrf(&session, &binding, &given));
        assert!(!is_csrf(&session, &Digest::of(b"else"), &given));
        assert!(!is_csrf(&Secret::draw().unwrap(), &binding, &given));
        for nothing in ["", "AAAA", &session.text()] {
            assert!(!is_csrf(&session, &binding, nothing));
        }
    }

    #[test]
    fn a_sign_in_comes_back_to_where_it_began() {
        let begun = SigningIn::begin(link("a"), Secret::draw().unwrap());
        let (cookie, state) = (begun.cookie(), begun.state());
        let kept = SigningIn::open(value(&cookie), &state).unwrap();
        assert!(kept.link == begun.link && kept.nonce() == begun.nonce() && kept.verifier() == begun.verifier());
        assert_eq!(state.len(), 43);
        assert!(begun.nonce() != state && begun.verifier() != state && begun.nonce() != begun.verifier());
        let other = SigningIn::begin(link("a"), Secret::draw().unwrap());
        assert!(SigningIn::open(value(&cookie), &other.state()).is_none());
        assert!(SigningIn::open(value(&other.cookie()), &state).is_none());
        // It is of this approval: with another link the same secret has another state.
        let moved = value(&cookie).replace(&"a".repeat(64), &"b".repeat(64));
        assert!(SigningIn::open(&moved, &state).is_none());
        for nothing in ["", ".", "a.b", value(&cookie).split_once('.').unwrap().0] {
            assert!(SigningIn::open(nothing, &state).is_none(), "{nothing}");
        }
        assert_ne!(SigningIn::cookie_name(&state), SigningIn::cookie_name(&other.state()));
    }
}
