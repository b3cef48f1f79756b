//! The closed set of names under which a step fails. The state machines match on exactly these; a test over their JSON
//! holds both sides together.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! error_names {
    ($($(#[$doc:meta])* $name:ident => $next:literal,)*) => {
        /// Why a step failed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum ErrorName {
            $($(#[$doc])* $name,)*
        }

        impl ErrorName {
            /// Every name.
            pub const ALL: &'static [ErrorName] = &[$(ErrorName::$name,)*];

            /// The name as the state machines, the table and the messages spell it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(ErrorName::$name => stringify!($name),)*
                }
            }

            /// What a person can do next: one sentence.
            #[must_use]
            pub fn what_to_do(self) -> &'static str {
                match self {
                    $(ErrorName::$name => $next,)*
                }
            }

            /// The name that `text` spells, if it is one of ours.
            #[must_use]
            pub fn parse(text: &str) -> Option<ErrorName> {
                match text {
                    $(stringify!($name) => Some(ErrorName::$name),)*
                    _ => None,
                }
            }
        }
    };
}

error_names! {
    /// The request, or a function's input, is malformed, has unknown fields or is over a limit.
    InvalidRequest => "Correct the request; `slipway --help` shows what each command takes.",
    /// Who asks is not proven: the ID token is not one that this GitLab instance signed for Slipway, a sign-in is over, or an AWS
    /// signature is for something else.
    InvalidToken => "Prove it anew: a job by its id_tokens (the audience must be the one that the control plane was deployed with, and the token no older than the job), a person by signing in again, an AWS principal by another try with its credentials.",
    /// The stage is not configured.
    UnknownStage => "Use a stage that the platform team configured, or ask them to add it.",
    /// The stage's policy does not let this job do this.
    NotAllowed => "Run it from a ref and project that the stage allows, or ask the platform team to change the stage.",
    /// The application has as many environments in the stage as it may.
    TooManyEnvironments => "Tear down one that the message names, or ask the platform team for a larger max_environments.",
    /// No environment, deployment or admission of that name exists.
    NotFound => "Check the names; `slipway environments` shows what there is.",
    /// A newer pipeline deployed, or is deploying, to the environment.
    Superseded => "Nothing: what the cause names came first. To have this one nevertheless, run a new pipeline.",
    /// Another deployment held the environment for too long, or this one lost it.
    LeaseHeld => "Wait for the other deployment to end, then retry the job.",
    /// The bundle that the job announced is not in the bucket.
    BundleMissing => "Retry the job: the upload did not arrive.",
    /// The bundle is no zip, truncated, names paths outside itself, or is not the one announced.
    BundleInvalid => "Build and upload again; if it stays, look at the file that the message names.",
    /// The template is missing, not YAML or JSON, has duplicate keys or no Resources, or names what cannot be packaged.
    TemplateInvalid => "Correct the template at the place that the message names.",
    /// The application is larger than Slipway, CloudFormation or Lambda takes. The message names the limit.
    LimitExceeded => "Make it smaller at the place that the message names; docs/PACKAGING.md lists the limits.",
    /// A parameter is not one of the template's, or one without a default was not given.
    ParameterInvalid => "Correct parameter_overrides in samconfig.toml or on the command line.",
    /// The stack is in a state that only a person can lead out of.
    StackNeedsRepair => "Run the command that the message gives, then retry the job.",
    /// Something outside Slipway kept the stack busy for too long.
    StackBusy => "Wait until the stack is idle, then retry the job.",
    /// CloudFormation could not make the change set.
    ChangeSetFailed => "Correct the template or the parameters as CloudFormation's reason says.",
    /// The stack, or the change set, is not what was reviewed any more.
    ChangeSetStale => "Retry the job for a new change set and a new review.",
    /// The stack failed and was rolled back or left as it is.
    StackFailed => "Correct the resource that the message names, then push again.",
    /// The stack was still busy at the stage's time limit.
    StackTimedOut => "Look at the stack's events: CloudFormation goes on by itself. Retry the job when it is done.",
    /// A person refused the change set.
    ApprovalRejected => "Talk to the person who rejected it; a new pipeline asks again.",
    /// Nobody decided in time.
    ApprovalExpired => "Retry the job to ask again.",
    /// A person stopped the execution.
    Stopped => "Retry the job to deploy again; a stack that was being changed goes on by itself.",
    /// The stage is protected: its stacks are never deleted by Slipway.
    StageProtected => "Nothing deletes a protected stack here; that is for a person with rights in the account.",
    /// The target account refused: a role is missing, or lacks a right.
    TargetDenied => "Deploy setup/roles.yaml in the target account, and check its ExternalId and the control plane's name.",
    /// AWS asked to slow down for longer than we retry at once. Retried.
    Throttled => "Retry the job.",
    /// A service that we need did not answer. Retried.
    Unavailable => "Retry the job; if it stays, see whether AWS or the GitLab instance is down.",
    /// A defect of Slipway, or a set-up that it cannot work with.
    Internal => "Report it with the deployment's id; the function's log says more.",
}

impl ErrorName {
    /// Whether a state machine tries the step again: what fails with another name fails again.
    #[must_use]
    pub fn is_retried(self) -> bool {
        self == ErrorName::Throttled || self == ErrorName::Unavailable
    }
}

impl fmt::Display for ErrorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
