//! What can go wrong, with the exit code and the advice that belong to it.

use slipway_domain::ErrorName;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CliError {
    /// The command line, the environment or a file of settings is wrong.
    #[error("{0}")]
    Usage(String),
    /// Slipway said no, or what it was given is wrong, under a name of the closed set.
    #[error("{name}: {message}")]
    Named {
        /// The name.
        name: ErrorName,
        /// What happened.
        message: String,
    },
    /// An AWS service, or the callback address, did not do what was asked.
    #[error("{call}: {message}")]
    Remote {
        /// What was asked: `lambda:Invoke`.
        call: &'static str,
        /// The service's error code, empty if there is none.
        code: String,
        /// What it answered.
        message: String,
        /// Whether the same request may succeed later.
        transient: bool,
    },
    /// This machine did not do what was asked.
    #[error("{what}: {why}")]
    Local {
        /// What was being done.
        what: String,
        /// What the system said.
        why: String,
    },
}

/// The exit code of a command that a policy refused.
pub(crate) const EXIT_REFUSED: u8 = 3;
/// The exit code of a command that did not follow to the end, since people still have to approve.
pub(crate) const EXIT_AWAITS: u8 = 4;

/// The exit code of a failure of this name.
pub(crate) fn exit_code_of(name: Option<ErrorName>) -> u8 {
    let refused = matches!(
        name,
        Some(
            ErrorName::NotAllowed
                | ErrorName::StageProtected
                | ErrorName::UnknownStage
                | ErrorName::InvalidToken
                | ErrorName::TooManyEnvironments
        )
    );
    if refused { EXIT_REFUSED } else { 1 }
}

impl CliError {
    /// A failure with a name of the closed set.
    pub(crate) fn named(name: ErrorName, message: impl Into<String>) -> Self {
        Self::Named { name, message: message.into() }
    }

    /// A failure of this machine.
    pub(crate) fn local(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Local { what: what.into(), why: why.to_string() }
    }

    /// Its name, if it has one of the closed set.
    pub(crate) fn name(&self) -> Option<ErrorName> {
        match self {
            Self::Named { name, .. } => Some(*name),
            Self::Usage(_) | Self::Remote { .. } | Self::Local { .. } => None,
        }
    }

    /// What happened, without the name.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Named { message, .. } => message.clone(),
            Self::Usage(_) | Self::Remote { .. } | Self::Local { .. } => self.to_string(),
        }
    }

    /// The exit code of the command.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Named { name, .. } => exit_code_of(Some(*name)),
            Self::Remote { .. } | Self::Local { .. } => 1,
        }
    }

    /// Whether the same request may succeed a little later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Named { name, .. } => matches!(name, ErrorName::Throttled | ErrorName::Unavailable),
            Self::Remote { transient, .. } => *transient,
            Self::Usage(_) | Self::Local { .. } => false,
        }
    }

    /// What a person can do next.
    pub(crate) fn what_to_do(&self) -> &'static str {
        match self {
            Self::Usage(_) => "Correct it; `slipway <command> --help` shows what there is.",
            Self::Named { name, .. } => name.what_to_do(),
            Self::Remote { call, code, transient, .. } => match (*call, code.as_str()) {
                (_, "ExpiredToken" | "ExpiredTokenException") => {
                    "Retry the job: its token, or the credentials that came of it, are no longer accepted."
                }
                (_, "InvalidIdentityToken") => {
                    "Have the platform team run `slipway doctor`: AWS's OpenID provider for the GitLab instance is missing, lacks the token's audience, or cannot read the instance's keys."
                }
                (
                    "lambda:Invoke of the reader",
                    "ResourceNotFoundException" | "AccessDenied" | "AccessDeniedException",
                ) => {
                    "Check --reader (SLIPWAY_READER), the region, and that your AWS credentials are those of the control plane's ReaderRole, or may invoke the function."
                }
                ("lambda:Invoke of the reader", "NoCredentials") => {
                    "Sign in to AWS first, as the control plane's ReaderRole."
                }
                ("lambda:Invoke", "ResourceNotFoundException") => {
                    "Check --api (SLIPWAY_API), the region and the account: the control plane's function `api` is not there."
                }
                (_, "AccessDenied" | "AccessDeniedException") => {
                    "Check --role-arn (SLIPWAY_ROLE_ARN): the role of setup/gitlab.yaml, whose conditions on aud and sub the job's token must meet."
                }
                (_, "NoCredentials") => {
                    "Give a role by --role-arn (SLIPWAY_ROLE_ARN), or AWS credentials in the usual places."
                }
                (_, "NoSuchBucket") => "Check the bucket's name and region, or make it: aws s3 mb s3://NAME",
                _ if *transient => "Try again; if it stays, see whether the network or the service is down.",
                _ => "Correct what the message names, then try again.",
            },
            Self::Local { .. } => "Correct what the message names, then try again.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_a_refusal_from_a_failure() {
        assert_eq!(CliError::Usage("x".into()).exit_code(), 2);
        assert_eq!(CliError::named(ErrorName::NotAllowed, "x").exit_code(), 3);
        assert_eq!(CliError::named(ErrorName::StackFailed, "x").exit_code(), 1);
        assert_eq!(exit_code_of(None), 1);
        assert!(CliError::named(ErrorName::Throttled, "x").is_transient());
    }
}
