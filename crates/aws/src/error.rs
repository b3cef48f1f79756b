//! What AWS answered, reduced to what Slipway does about it.

use aws_sdk_s3::error::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// What kind of "no" it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Too many requests: try again later.
    Throttled,
    /// No answer, or a fault of the service: try again.
    Unavailable,
    /// No right to do this.
    Denied,
    /// It is not there.
    NotFound,
    /// It is not what it was expected to be: a condition failed, or it exists already.
    Conflict,
    /// Anything else: the request itself is wrong.
    Refused,
}

/// An AWS call that did not succeed. The SDK has retried what it thinks worth retrying before this is seen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {code}: {message}")]
pub struct AwsError {
    /// What kind of "no".
    pub kind: Kind,
    /// The call: `cloudformation:DescribeStacks`.
    pub call: &'static str,
    /// AWS's error code.
    pub code: String,
    /// AWS's message.
    pub message: String,
}

impl AwsError {
    /// An answer that AWS should not give, such as a field that is documented to be there and is not.
    #[must_use]
    pub fn unexpected(call: &'static str, what: impl Into<String>) -> Self {
        Self { kind: Kind::Unavailable, call, code: "UnexpectedAnswer".into(), message: what.into() }
    }
}

/// Error codes that mean "slow down", over all services that we call.
const THROTTLED: [&str; 8] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "ProvisionedThroughputExceededException",
    "RequestThrottled",
    "SlowDown",
];
const DENIED: [&str; 4] = ["AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AccessDeniedFault"];
const NOT_FOUND: [&str; 8] = [
    "NoSuchKey",
    "NotFound",
    "404",
    "ChangeSetNotFound",
    "ChangeSetNotFoundException",
    "ParameterNotFound",
    "ExecutionDoesNotExist",
    "TaskDoesNotExist",
];
const CONFLICT: [&str; 8] = [
    "ConditionalCheckFailedException",
    "TransactionConflictException",
    "PreconditionFailed",
    "ConditionalRequestConflict",
    "AlreadyExistsException",
    "ExecutionAlreadyExists",
    "ParameterAlreadyExists",
    "OperationInProgressException",
];

/// Sorts what the SDK reports into an [`AwsError`].
pub(crate) fn sort<E, R>(call: &'static str, error: &SdkError<E, R>) -> AwsError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: HttpStatus + std::fmt::Debug + 'static,
{
    let (code, message) = match error.as_service_error() {
        Some(service) => (service.code().unwrap_or_default(), service.message().unwrap_or_default()),
        None => ("", ""),
    };
    let status = error.raw_response().map(HttpStatus::status);
    let says_absent =
        code == "ValidationError" && (message.contains("does not exist") || message.contains("not exist"));
    let kind = if THROTTLED.contains(&code) || message.contains("Rate exceeded") || status == Some(429) {
        Kind::Throttled
    } else if DENIED.contains(&code) || status == Some(403) {
        Kind::Denied
    } else if NOT_FOUND.contains(&code) || says_absent || (code.is_empty() && status == Some(404)) {
        Kind::NotFound
    } else if CONFLICT.contains(&code) {
        Kind::Conflict
    } else if status.is_none_or(|status| status >= 500) {
        Kind::Unavailable
    } else {
        Kind::Refused
    };
    let code = match (code, status) {
        ("", Some(status)) => format!("HTTP {status}"),
        ("", None) => "NoAnswer".to_owned(),
        (code, _) => code.to_owned(),
    };
    let message = if message.is_empty() { deepest(error) } else { message.to_owned() };
    AwsError { kind, call, code, message }
}

/// The innermost message: the outer ones only say "dispatch failure".
fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The HTTP status of a raw response.
pub(crate) trait HttpStatus {
    /// The status.
    fn status(&self) -> u16;
}

impl HttpStatus for aws_sdk_s3::config::http::HttpResponse {
    fn status(&self) -> u16 {
        Self::status(self).as_u16()
    }
}
