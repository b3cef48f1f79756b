//! Every error, mapped once to the closed set of names that the state machines know.

use lambda_runtime::Diagnostic;
use slipway_aws::store::StoreError;
use slipway_aws::{AwsError, Kind};
use slipway_bundle::BundleError;
use slipway_domain::ErrorName;
use slipway_domain::admission::AdmissionError;
use slipway_domain::approval::DecisionError;
use slipway_domain::change_set::{MakingError, NotExecutable, OpeningError};
use slipway_domain::environment::Superseded;
use slipway_domain::expiry::KeepError;
use slipway_domain::lease;
use slipway_domain::registry::InvalidPage;
use slipway_domain::release::ParametersError;
use slipway_domain::repair::NotAmong;
use slipway_domain::stack_change::StackError;
use slipway_domain::stack_status::UnknownStatus;
use slipway_domain::stages::{Refusal, StagesError};
use slipway_domain::sweep::ConfirmError;
use slipway_identity::IdentityError;
use slipway_packaging::PackagingError;

/// What the calls begin with that are made in target accounts only.
const IN_TARGETS: [&str; 8] = [
    "cloudformation:",
    "sts:AssumeRole",
    "ecr:",
    "logs:",
    "s3:ListObjectVersions",
    "s3:ListMultipartUploads",
    "s3:AbortMultipartUpload",
    "s3:DeleteObjects",
];
/// How much of a long message is kept at its beginning, in characters.
const HEAD_CHARS: usize = 3000;
/// How much at its end, where it says what to do.
const TAIL_CHARS: usize = 1000;

/// A step, or a request, failed: under which name, and why, for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {message}")]
pub struct Failure {
    /// The name.
    pub name: ErrorName,
    /// What happened, to what, and why.
    pub message: String,
}

impl Failure {
    /// A failure. A message without end, made of somebody's endless words, loses its middle: Step Functions hands on 256 KiB,
    /// and what is over that ends an execution outside its failure tail.
    #[must_use]
    pub fn new(name: ErrorName, message: impl Into<String>) -> Self {
        let message: String = message.into();
        let chars = message.chars().count();
        if chars <= HEAD_CHARS + TAIL_CHARS {
            return Self { name, message };
        }
        let head = message.chars().take(HEAD_CHARS);
        let tail = message.chars().skip(chars - TAIL_CHARS);
        Self { name, message: head.chain(['…']).chain(tail).collect() }
    }
}

impl From<Failure> for Diagnostic {
    fn from(failure: Failure) -> Self {
        Diagnostic { error_type: failure.name.to_string(), error_message: failure.message }
    }
}

impl From<AwsError> for Failure {
    fn from(error: AwsError) -> Self {
        let in_target = IN_TARGETS.iter().any(|call| error.call.starts_with(call));
        let name = match error.kind {
            Kind::Throttled => ErrorName::Throttled,
            Kind::Unavailable => ErrorName::Unavailable,
            Kind::Denied if in_target => ErrorName::TargetDenied,
            Kind::Refused | Kind::NotFound if error.call == "cloudformation:CreateChangeSet" => {
                ErrorName::ChangeSetFailed
            }
            Kind::Refused | Kind::NotFound | Kind::Conflict if error.call == "cloudformation:ExecuteChangeSet" => {
                ErrorName::ChangeSetStale
            }
            Kind::Refused
                if ["cloudformation:DeleteStack", "cloudformation:ContinueUpdateRollback"].contains(&error.call) =>
            {
                ErrorName::StackNeedsRepair
            }
            Kind::Denied | Kind::NotFound | Kind::Conflict | Kind::Refused => ErrorName::Internal,
        };
        Self::new(name, error.to_string())
    }
}

impl<E: Into<Failure>> From<StoreError<E>> for Failure {
    fn from(error: StoreError<E>) -> Self {
        match error {
            StoreError::Aws(error) => error.into(),
            StoreError::Rule(error) => error.into(),
        }
    }
}

impl From<std::convert::Infallible> for Failure {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl From<AdmissionError> for Failure {
    fn from(error: AdmissionError) -> Self {
        match error {
            AdmissionError::Refused(refusal) => refusal.into(),
            AdmissionError::Stages(error) => error.into(),
            AdmissionError::OtherAction { .. }
            | AdmissionError::OtherExecution(_)
            | AdmissionError::Used(_)
            | AdmissionError::Expired(_) => Self::new(ErrorName::NotAllowed, error.to_string()),
            AdmissionError::Nameless
            | AdmissionError::NoReason
            | AdmissionError::TooLarge { .. }
            | AdmissionError::Reused => Self::new(ErrorName::InvalidRequest, error.to_string()),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let name = match &refusal {
            Refusal::Protected(_) => ErrorName::StageProtected,
            Refusal::Full { .. } => ErrorName::TooManyEnvironments,
            Refusal::Project { .. }
            | Refusal::Source { .. }
            | Refusal::Ref { .. }
            | Refusal::Unprotected { .. }
            | Refusal::Fork
            | Refusal::MergeRequest(_)
            | Refusal::Capability { .. }
            | Refusal::Pin { .. }
            | Refusal::Expiry { .. } => ErrorName::NotAllowed,
        };
        Self::new(name, refusal.to_string())
    }
}

impl From<StagesError> for Failure {
    fn from(error: StagesError) -> Self {
        let name = match &error {
            StagesError::Unknown { .. } => ErrorName::UnknownStage,
            StagesError::Malformed(_)
            | StagesError::TooLarge(_)
            | StagesError::OneClass(_)
            | StagesError::MixedAccount(..)
            | StagesError::Approval(..)
            | StagesError::Timeout(_)
            | StagesError::Teardown(_)
            | StagesError::Stack(..) => ErrorName::Internal,
        };
        Self::new(name, error.to_string())
    }
}

impl From<DecisionError> for Failure {
    fn from(error: DecisionError) -> Self {
        let name = match &error {
            DecisionError::Expired(_) => ErrorName::ApprovalExpired,
            DecisionError::Void(error, _) => *error,
            DecisionError::ReasonTooLong | DecisionError::NoReason(_) => ErrorName::InvalidRequest,
            DecisionError::Decided { .. }
            | DecisionError::Again { .. }
            | DecisionError::NotByJob(_)
            | DecisionError::OtherProject(_)
            | DecisionError::OtherPipeline { .. }
            | DecisionError::Unprotected
            | DecisionError::OwnJob(_)
            | DecisionError::TooEarly
            | DecisionError::Own(_)
            | DecisionError::NotApprover { .. } => ErrorName::NotAllowed,
        };
        Self::new(name, error.to_string())
    }
}

impl From<Superseded> for Failure {
    fn from(error: Superseded) -> Self {
        let name = match &error {
            Superseded::ByPipeline { .. }
            | Superseded::ByRollback { .. }
            | Superseded::ByLater { .. }
            | Superseded::Moved { .. } => ErrorName::Superseded,
            Superseded::Pinned { .. } | Superseded::Elsewhere { .. } => ErrorName::NotAllowed,
        };
        Self::new(name, error.to_string())
    }
}

impl From<KeepError> for Failure {
    fn from(error: KeepError) -> Self {
        let name = match &error {
            KeepError::Absent(_) => ErrorName::NotFound,
            KeepError::Protected(_) | KeepError::GoingDown { .. } | KeepError::Pinned { .. } => ErrorName::NotAllowed,
        };
        Self::new(name, error.to_string())
    }
}

impl From<OpeningError> for Failure {
    fn from(error: OpeningError) -> Self {
        let name = match &error {
            OpeningError::Unknown(_) | OpeningError::Repair { .. } => ErrorName::StackNeedsRepair,
            OpeningError::Busy { .. } => ErrorName::StackBusy,
        };
        Self::new(name, error.to_string())
    }
}

impl From<MakingError> for Failure {
    fn from(error: MakingError) -> Self {
        let name = match &error {
            MakingError::Failed(_) | MakingError::TimedOut { .. } => ErrorName::ChangeSetFailed,
            MakingError::Gone(_) => ErrorName::ChangeSetStale,
        };
        Self::new(name, error.to_string())
    }
}

impl From<NotExecutable> for Failure {
    fn from(error: NotExecutable) -> Self {
        let name = match &error {
            NotExecutable::Stale(_) => ErrorName::ChangeSetStale,
            NotExecutable::NotApproved => ErrorName::NotAllowed,
        };
        Self::new(name, error.to_string())
    }
}

impl From<StackError> for Failure {
    fn from(error: StackError) -> Self {
        let name = match &error {
            StackError::Unknown(_) => ErrorName::StackNeedsRepair,
            StackError::Gone(_) | StackError::Failed { .. } => ErrorName::StackFailed,
            StackError::TimedOut { .. } => ErrorName::StackTimedOut,
        };
        Self::new(name, error.to_string())
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        let name = if error.is_transient() { ErrorName::Unavailable } else { ErrorName::InvalidToken };
        Self::new(name, error.to_string())
    }
}

/// An error all of whose cases have one name.
macro_rules! always {
    ($($error:ty => $name:ident;)*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(ErrorName::$name, error.to_string())
            }
        })*
    };
}

always! {
    ConfirmError => NotAllowed;
    lease::Lost => LeaseHeld;
    ParametersError => ParameterInvalid;
    NotAmong => InvalidRequest;
    InvalidPage => InvalidRequest;
    UnknownStatus => StackNeedsRepair;
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        PackagingError::from(error).into()
    }
}

impl From<PackagingError> for Failure {
    fn from(error: PackagingError) -> Self {
        // Reading a bundle is reading S3: what that answered counts, since some of it is worth another try.
        match error.reading().map(AwsError::from_io) {
            Some(Some(aws)) => aws.into(),
            Some(None) => Self::new(ErrorName::Unavailable, error.to_string()),
            None => Self::new(error.name(), error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_loses_its_middle() {
        let cut = Failure::new(ErrorName::Internal, format!("begins {} ends", "é".repeat(9000))).message;
        assert_eq!(cut.chars().count(), HEAD_CHARS + 1 + TAIL_CHARS);
        assert!(cut.starts_with("begins é") && cut.contains("é…é") && cut.ends_with("é ends"), "{cut}");
        let whole = "é".repeat(HEAD_CHARS + TAIL_CHARS);
        assert_eq!(Failure::new(ErrorName::Internal, whole.clone()).message, whole);
    }
}
