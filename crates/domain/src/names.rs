//! The names of things. Each is a newtype that is checked once, where it enters, and is legal from then on.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A text that is not the name it was given as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} \"{shown}\" is not valid: {rule}")]
pub struct InvalidName {
    what: &'static str,
    shown: String,
    rule: &'static str,
}

impl InvalidName {
    fn new(what: &'static str, found: &str, rule: &'static str) -> Self {
        // Someone else's text goes into our message: keep it short and on one line.
        let shown = found.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect();
        Self { what, shown, rule }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text`.
            ///
            /// # Errors
            /// [`InvalidName`], which says the rule.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                let check: fn(&str) -> bool = $check;
                if check(&text) { Ok(Self(text)) } else { Err(InvalidName::new($what, &text, $rule)) }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

/// Lower-case letters, digits and hyphens, not at either end; at most `max` characters.
fn is_label(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_lower_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

name!(
    /// An application: one SAM template of a project.
    ApplicationName, "application",
    "1 to 40 lower-case letters, digits and hyphens, not at either end",
    |t| is_label(t, 40)
);
name!(
    /// A stage, as the platform team calls it: `dev`, `staging`, `prod`.
    StageName, "stage",
    "1 to 20 lower-case letters, digits and hyphens, not at either end",
    |t| is_label(t, 20)
);
name!(
    /// An environment: `review/feature-x`, `staging`, `prod`. GitLab's own rule for environment names, in at most 255 characters
    /// (<https://docs.gitlab.com/ci/yaml/#environmentname>), without spaces and without `#`, which separates the parts of a key.
    EnvironmentName, "environment",
    "1 to 255 letters, digits and any of - _ / . and not a slash at either end",
    |t| (1..=255).contains(&t.len())
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'/' | b'.'))
        && !t.starts_with('/')
        && !t.ends_with('/')
);
name!(
    /// An AWS account id: 12 digits.
    AccountId, "account", "12 digits",
    |t| t.len() == 12 && t.bytes().all(|b| b.is_ascii_digit())
);
name!(
    /// An AWS region: `eu-central-1`.
    Region, "region", "a region such as eu-central-1",
    |t| is_label(t, 32) && t.contains('-')
);
name!(
    /// A SHA-256 digest: 64 lower-case hexadecimal digits.
    Digest, "digest", "64 lower-case hexadecimal digits",
    |t| is_lower_hex(t, 64)
);
name!(
    /// A CloudFormation stack name: a letter, then letters, digits and hyphens, at most 128
    /// (<https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html>).
    StackName, "stack name", "a letter, then letters, digits and hyphens; at most 128",
    |t| (1..=128).contains(&t.len())
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && t.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
);
name!(
    /// A DNS label, as the first part of a host's name: a lower-case letter, then letters, digits and hyphens, not at the end; at most
    /// 63 (<https://www.rfc-editor.org/rfc/rfc1035#section-2.3.1>).
    DnsLabel, "DNS label", "a lower-case letter, then letters, digits and hyphens, not at the end; at most 63",
    |t| is_label(t, 63) && t.starts_with(|c: char| c.is_ascii_lowercase())
);
name!(
    /// The name of a CloudFormation parameter: letters and digits, at most 255.
    ParameterName, "parameter", "1 to 255 letters and digits",
    |t| (1..=255).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_alphanumeric())
);

name!(
    /// A resource whose rollback failed, as ContinueUpdateRollback takes it: its logical id or, in a nested stack, that stack's name,
    /// a dot and the logical id
    /// (<https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ContinueUpdateRollback.html>).
    RolledBackName, "resource", "a logical id, or the name of a nested stack, a dot and a logical id: letters and digits, at most 255",
    |t| {
        let (stack, id) = t.split_once('.').map_or((None, t), |(stack, id)| (Some(stack), id));
        (1..=255).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric())
            && stack.is_none_or(|stack| StackName::new(stack).is_ok())
    }
);

impl Digest {
    /// The SHA-256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(hex(&Sha256::digest(bytes)))
    }

    /// The SHA-256 of several parts, each led by its length, so that no two lists of parts give the same bytes.
    #[must_use]
    pub fn of_parts(parts: &[&str]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        Self(hex(&hasher.finalize()))
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The numeric id of a GitLab project. Paths are renamed and used again; the id is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProjectId(pub u64);

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which environment: one live copy of an application in a stage. One environment is one stack.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentKey {
    /// The GitLab project that owns the application.
    pub project: ProjectId,
    /// The application.
    pub application: ApplicationName,
    /// The stage it lives in.
    pub stage: StageName,
    /// The environment's own name.
    pub environment: EnvironmentName,
}

/// How many characters of a digest end a stack's name and a DNS label: 60 bits.
const HASH_LEN: usize = 15;
/// How many characters of a DNS label show the application, and how many the environment: with two hyphens and the hash, 63.
const LABEL_APPLICATION: usize = 15;
const LABEL_ENVIRONMENT: usize = 31;
/// What every stack name begins with; the roles in target accounts reach no other stack.
pub const STACK_PREFIX: &str = "slipway-";

impl EnvironmentKey {
    /// The name of the environment's stack: readable parts, then a hash of fixed length over the exact names, so that no
    /// name is another's prefix and names that read the same stay different.
    #[must_use]
    pub fn stack_name(&self) -> StackName {
        let slug = slug(self.environment.as_str(), 30);
        let readable = without_hashes(&format!("{STACK_PREFIX}{}-{}-{slug}", self.application, self.stage));
        StackName(format!("{readable}-{}", self.hash("stack")))
    }

    /// A label for the environment's host name, which a template may take as a parameter: the same for the same environment, and
    /// another one for each other, with the hash at its end. No two environments of all projects share one.
    #[must_use]
    pub fn dns_label(&self) -> DnsLabel {
        let application = slug(self.application.as_str(), LABEL_APPLICATION);
        // What begins with a digit, or has no letter or digit at all, begins with a letter all the same.
        let application = match application.starts_with(|c: char| c.is_ascii_lowercase()) {
            true => application,
            false => slug(&format!("x{application}"), LABEL_APPLICATION),
        };
        let environment = slug(self.environment.as_str(), LABEL_ENVIRONMENT);
        DnsLabel(format!("{application}-{environment}-{}", self.hash("dns")))
    }

    fn hash(&self, what: &str) -> String {
        let Self { project, application, stage, environment } = self;
        let digest =
            Digest::of_parts(&[what, &project.to_string(), application.as_str(), stage.as_str(), environment.as_str()]);
        digest.as_str().chars().take(HASH_LEN).collect()
    }
}

/// `text` without words that could be taken for the hash at the end of another name: of two names, one could begin with the other.
fn without_hashes(text: &str) -> String {
    let cut = |word: &str| -> String {
        let digits = word.bytes().take_while(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')).count();
        word.chars().take(if digits < HASH_LEN { word.len() } else { HASH_LEN - 1 }).collect()
    };
    text.split('-').map(cut).collect::<Vec<_>>().join("-")
}

impl fmt::Display for EnvironmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} ({}, project {})", self.environment, self.stage, self.application, self.project)
    }
}

/// `text` as lower-case letters, digits and single hyphens, at most `max` characters, for a person to recognise.
fn slug(text: &str, max: usize) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        let c = if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        if slug.len() == max {
            break;
        }
        if c != '-' || !(slug.is_empty() || slug.ends_with('-')) {
            slug.push(c);
        }
    }
    let trimmed = slug.trim_end_matches('-');
    if trimmed.is_empty() { "x".to_owned() } else { trimmed.to_owned() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(environment: &str) -> EnvironmentKey {
        EnvironmentKey {
            project: ProjectId(42),
            application: ApplicationName::new("news").unwrap(),
            stage: StageName::new("dev").unwrap(),
            environment: EnvironmentName::new(environment).unwrap(),
        }
    }

    #[test]
    fn names_that_read_the_same_are_different_stacks() {
        assert_ne!(key("Feature/X_1").stack_name(), key("feature-x-1").stack_name());
        assert_eq!(key("Feature/X_1").stack_name(), key("Feature/X_1").stack_name());
        assert!(key("Feature/X_1").stack_name().as_str().starts_with("slipway-news-dev-feature-x-1-"));
    }

    #[test]
    fn a_refused_name_is_shown_short_and_on_one_line() {
        let error = StageName::new(format!("a\nb{}", "x".repeat(500))).unwrap_err().to_string();
        assert!(error.starts_with("stage \"a?bxxx"), "{error}");
        assert!(error.len() < 200, "{error}");
    }

    #[test]
    fn a_name_that_holds_another_ones_hash_does_not_begin_with_it() {
        let one = key("review/x").stack_name();
        let (_, hash) = one.as_str().rsplit_once('-').unwrap();
        for environment in [format!("review/x/{hash}"), format!("review/x/{hash}/y"), format!("review/x-{hash}0")] {
            let other = key(&environment).stack_name();
            assert!(!other.as_str().starts_with(one.as_str()), "{other}");
        }
        let whole = format!("news-dev-review-x-{hash}");
        let other = EnvironmentKey { application: ApplicationName::new(whole).unwrap(), ..key("y") }.stack_name();
        assert!(!other.as_str().starts_with(one.as_str()), "{other}");
    }

    #[test]
    fn a_label_shows_what_it_is_of_and_is_another_for_each() {
        let label = key("Feature/X_1").dns_label();
        assert!(label.as_str().starts_with("news-feature-x-1-"), "{label}");
        assert_ne!(label, key("feature-x-1").dns_label());
        assert_ne!(label, EnvironmentKey { project: ProjectId(43), ..key("Feature/X_1") }.dns_label());
        assert_ne!(label, EnvironmentKey { stage: StageName::new("qa").unwrap(), ..key("Feature/X_1") }.dns_label());
    }

    fn keys() -> impl Strategy<Value = EnvironmentKey> {
        let names = (
            0_u64..3,
            "[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?",
            "[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?",
            "[A-Za-z0-9_.-][A-Za-z0-9_./-]{0,253}[A-Za-z0-9_.-]",
        );
        names.prop_map(|(project, application, stage, environment)| EnvironmentKey {
            project: ProjectId(u64::MAX - project),
            application: ApplicationName::new(application).unwrap(),
            stage: StageName::new(stage).unwrap(),
            environment: EnvironmentName::new(environment).unwrap(),
        })
    }

    /// Names of few letters, so that many of them begin or read like each other.
    fn alike() -> impl Strategy<Value = EnvironmentKey> {
        ("[a0](-?[a0]){0,3}", "[a0](-?[a0]){0,2}", "[aA0_.-]([aA0_./-]{0,3}[aA0_.-])?").prop_map(
            |(app, stage, environment)| EnvironmentKey {
                project: ProjectId(1),
                application: ApplicationName::new(app).unwrap(),
                stage: StageName::new(stage).unwrap(),
                environment: EnvironmentName::new(environment).unwrap(),
            },
        )
    }

    proptest! {
        #[test]
        fn every_environment_has_a_legal_stack_name_and_label(key in keys()) {
            let (name, label) = (key.stack_name(), key.dns_label());
            prop_assert!(StackName::new(name.as_str()).is_ok(), "{name}");
            prop_assert!(DnsLabel::new(label.as_str()).is_ok(), "{label}");
            for (text, hash) in [(name.as_str(), key.hash("stack")), (label.as_str(), key.hash("dns"))] {
                prop_assert!(is_lower_hex(&hash, HASH_LEN) && text.ends_with(&format!("-{hash}")), "{text}");
            }
            prop_assert!(!name.as_str().contains("--") || key.application.as_str().contains("--") || key.stage.as_str().contains("--"));
            prop_assert_eq!((name, label), (key.clone().stack_name(), key.clone().dns_label()));
        }

        #[test]
        fn no_stack_name_is_the_beginning_of_another(one in alike(), other in alike(), chained in any::<bool>()) {
            // An environment that is called by another one's stack is the worst case.
            let other = match chained {
                true => {
                    let readable = one.stack_name().as_str().rsplit('-').next().unwrap().to_owned();
                    let environment = format!("{}-{readable}/{}", one.environment, other.environment);
                    EnvironmentKey { environment: EnvironmentName::new(environment.trim_matches('/')).unwrap(), ..one.clone() }
                }
                false => other,
            };
            prop_assume!(one != other);
            let (a, b) = (one.stack_name(), other.stack_name());
            prop_assert!(!a.as_str().starts_with(b.as_str()) && !b.as_str().starts_with(a.as_str()), "{a} {b}");
            prop_assert_ne!(one.dns_label(), other.dns_label());
        }
    }
}
