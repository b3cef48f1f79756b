//! Who may decide, as a stage's policy names them.

use serde::{Deserialize, Serialize};

use crate::claims::Caller;
use crate::names::AccountId;

/// A GitLab user or group whose members may decide.
///
/// A login can be given up by one person and taken by another. Written with its number, `release-manager#8`, the number is what
/// counts, and the login is there to be read. A group's number is in nobody's token, so groups are known by their full path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Approver {
    /// `release-manager`: a user by login.
    Login(String),
    /// `release-manager#8`: a user by number.
    User {
        /// For people to read.
        login: String,
        /// What counts.
        id: u64,
    },
    /// `group/leads`, or `@leads` where the path has no slash: a group by its full path.
    Group(String),
}

/// A text that names no [`Approver`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no approver: write a login, login#number, a group's full path, or @group")]
pub struct InvalidApprover(String);

impl Approver {
    /// Reads one.
    ///
    /// # Errors
    /// [`InvalidApprover`].
    pub fn parse(text: &str) -> Result<Self, InvalidApprover> {
        let invalid = || InvalidApprover(text.chars().take(80).collect());
        let plain = |part: &str| {
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
            (!part.is_empty() && part.len() <= 512 && part.chars().all(legal)).then(|| part.to_owned())
        };
        if let Some(group) = text.strip_prefix('@') {
            return plain(group).map(Self::Group).ok_or_else(invalid);
        }
        if text.contains('/') {
            return plain(text).map(Self::Group).ok_or_else(invalid);
        }
        match text.split_once('#') {
            None => plain(text).map(Self::Login).ok_or_else(invalid),
            Some((login, id)) => {
                let id = id.parse().ok().filter(|number| *number > 0 && id == format!("{number}"));
                plain(login).zip(id).map(|(login, id)| Self::User { login, id }).ok_or_else(invalid)
            }
        }
    }

    /// Whether the user, a member of `groups`, is meant.
    #[must_use]
    pub fn is(&self, user_id: u64, user_login: &str, groups: &[String]) -> bool {
        match self {
            // No two of GitLab's logins, or paths, differ in case alone.
            Self::Login(login) => login.eq_ignore_ascii_case(user_login),
            Self::User { id, .. } => *id == user_id,
            Self::Group(path) => groups.iter().any(|group| group.eq_ignore_ascii_case(path)),
        }
    }
}

impl TryFrom<String> for Approver {
    type Error = InvalidApprover;
    fn try_from(text: String) -> Result<Self, InvalidApprover> {
        Self::parse(&text)
    }
}

impl From<Approver> for String {
    fn from(approver: Approver) -> String {
        approver.to_string()
    }
}

impl std::fmt::Display for Approver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Login(login) => f.write_str(login),
            Self::User { login, id } => write!(f, "{login}#{id}"),
            Self::Group(path) if path.contains('/') => f.write_str(path),
            Self::Group(path) => write!(f, "@{path}"),
        }
    }
}

/// An IAM role or user that may decide: `arn:aws:iam::123456789012:role/Release`.
///
/// A session of a role says the role's name and not its path, and a name is an account's own whatever the path
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html>): so a role is known by its account and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Principal {
    partition: String,
    account: AccountId,
    kind: PrincipalKind,
    /// For a user with its path, as its ARN has it.
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PrincipalKind {
    Role,
    User,
}

/// A text that names no [`Principal`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no principal that can decide: write an IAM role's or user's ARN, arn:aws:iam::ACCOUNT:role/NAME")]
pub struct InvalidPrincipal(String);

/// The parts of an ARN of IAM or STS that has no region: partition, account, resource.
fn parts<'a>(arn: &'a str, service: &str) -> Option<(&'a str, AccountId, &'a str)> {
    let (partition, rest) = arn.strip_prefix("arn:")?.split_once(':')?;
    let (account, resource) = rest.strip_prefix(service)?.strip_prefix("::")?.split_once(':')?;
    let account = AccountId::new(account).ok()?;
    matches!(partition, "aws" | "aws-cn" | "aws-us-gov").then_some((partition, account, resource))
}

/// A name of IAM: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>.
fn legal(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-/".contains(c);
    !name.is_empty() && name.len() <= 576 && !name.ends_with('/') && name.chars().all(legal)
}

impl Principal {
    /// Reads the ARN of a role or a user.
    ///
    /// # Errors
    /// [`InvalidPrincipal`], also for an account's root: that is nobody.
    pub fn parse(arn: &str) -> Result<Self, InvalidPrincipal> {
        let read = || {
            let (partition, account, resource) = parts(arn, "iam")?;
            let (kind, name) = match resource.split_once('/')? {
                ("role", name) => (PrincipalKind::Role, name.rsplit('/').next()?),
                ("user", name) => (PrincipalKind::User, name),
                _ => return None,
            };
            legal(name).then(|| Self { partition: partition.to_owned(), account, kind, name: name.to_owned() })
        };
        read().ok_or_else(|| InvalidPrincipal(arn.chars().take(200).collect()))
    }

    /// The role or user that `caller` is.
    ///
    /// # Errors
    /// [`InvalidPrincipal`] for what is neither: an account's root, a federated user.
    pub fn of(caller: &Caller) -> Result<Self, InvalidPrincipal> {
        let read = || {
            let (partition, account, resource) = parts(&caller.arn, "sts")?;
            let (role, session) = resource.strip_prefix("assumed-role/")?.split_once('/')?;
            let whole = legal(role) && legal(session) && !session.contains('/') && account == caller.account;
            whole.then(|| Self {
                partition: partition.to_owned(),
                account,
                kind: PrincipalKind::Role,
                name: role.to_owned(),
            })
        };
        match read() {
            Some(role) => Ok(role),
            None => Self::parse(&caller.arn)
                .ok()
                .filter(|user| user.kind == PrincipalKind::User && user.account == caller.account)
                .ok_or_else(|| InvalidPrincipal(caller.arn.chars().take(200).collect())),
        }
    }
}

impl TryFrom<String> for Principal {
    type Error = InvalidPrincipal;
    fn try_from(text: String) -> Result<Self, InvalidPrincipal> {
        Self::parse(&text)
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> String {
        principal.to_string()
    }
}

impl std::fmt::Display for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            PrincipalKind::Role => "role",
            PrincipalKind::User => "user",
        };
        write!(f, "arn:{}:iam::{}:{kind}/{}", self.partition, self.account, self.name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn an_approver_is_a_login_a_number_or_a_group() {
        let groups = ["top".to_owned(), "group/leads".to_owned()];
        for (text, id, login, is) in [
            ("release-manager", 8, "release-manager", true),
            ("release-manager", 8, "Release-Manager", true),
            ("release-manager", 8, "eve", false),
            ("release-manager#8", 8, "renamed", true),
            ("release-manager#8", 9, "release-manager", false),
            ("group/leads", 9, "eve", true),
            ("@top", 9, "eve", true),
            ("top", 9, "eve", false),
            ("group", 9, "eve", false),
            ("group/lead", 9, "eve", false),
        ] {
            let approver = Approver::parse(text).unwrap();
            assert_eq!(approver.is(id, login, &groups), is, "{text} {login}#{id}");
            assert_eq!(approver.to_string(), text);
        }
        for text in ["", "@", "a b", "a#", "a#0", "a#08", "a#-1", "#8", "a#8#9", "a\n", "group/*"] {
            assert!(Approver::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_principal_is_a_role_or_a_user_and_nothing_like_one() {
        let caller = |arn: &str, account: &str| {
            let account = AccountId::new(account).unwrap();
            Principal::of(&Caller { arn: arn.into(), account, user_id: "AIDA".into() })
        };
        let ours = "123456789012";
        let role = Principal::parse("arn:aws:iam::123456789012:role/teams/Release").unwrap();
        assert_eq!(role.to_string(), "arn:aws:iam::123456789012:role/Release");
        assert_eq!(caller("arn:aws:sts::123456789012:assumed-role/Release/dana", ours), Ok(role.clone()));
        let user = Principal::parse("arn:aws:iam::123456789012:user/teams/dana").unwrap();
        assert_eq!(caller("arn:aws:iam::123456789012:user/teams/dana", ours), Ok(user.clone()));
        for (arn, account) in [
            ("arn:aws:sts::123456789012:assumed-role/Release2/dana", ours),
            ("arn:aws:sts::210987654321:assumed-role/Release/dana", "210987654321"),
            ("arn:aws-cn:sts::123456789012:assumed-role/Release/dana", ours),
            ("arn:aws:iam::123456789012:user/dana", ours),
        ] {
            let other = caller(arn, account).unwrap();
            assert!(other != role && other != user, "{arn}");
        }
        for arn in [
            "arn:aws:iam::123456789012:root",
            "arn:aws:iam::123456789012:role/Release",
            "arn:aws:sts::123456789012:federated-user/dana",
            "arn:aws:sts::123456789012:assumed-role/Release",
            "arn:aws:sts::123456789012:assumed-role/a/Release/dana",
            "arn:aws:sts:eu-central-1:123456789012:assumed-role/Release/dana",
            "arn:evil:sts::123456789012:assumed-role/Release/dana",
            "",
        ] {
            assert!(caller(arn, ours).is_err(), "{arn}");
        }
        assert!(caller("arn:aws:sts::123456789012:assumed-role/Release/dana", "210987654321").is_err());
        for arn in [
            "arn:aws:iam::123456789012:root",
            "arn:aws:iam::*:role/Release",
            "arn:aws:iam::123456789012:role/*",
            "Release",
        ] {
            assert!(Principal::parse(arn).is_err(), "{arn}");
        }
    }
}
