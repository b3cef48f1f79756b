//! What AWS answered, reduced to what Slipway does about it.

use std::error::Error;
use std::io;

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

    /// The AWS error that an I/O error was made of, however deep it is in there.
    #[must_use]
    pub fn from_io(error: &io::Error) -> Option<Self> {
        let mut inner: &(dyn Error + 'static) = error;
        loop {
            if let Some(found) = inner.downcast_ref::<Self>() {
                return Some(found.clone());
            }
            // An I/O error calls the source of what it holds its own.
            let held = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            inner = match held {
                Some(held) => held,
                None => inner.source()?,
            };
        }
    }

    /// The same error, which says what it is about.
    pub(crate) fn about(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl From<AwsError> for io::Error {
    fn from(error: AwsError) -> Self {
        let kind = match error.kind {
            Kind::NotFound => io::ErrorKind::NotFound,
            Kind::Denied => io::ErrorKind::PermissionDenied,
            Kind::Throttled | Kind::Unavailable | Kind::Conflict | Kind::Refused => io::ErrorKind::Other,
        };
        Self::new(kind, error)
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
const NOT_FOUND: [&str; 10] = [
    "NoSuchKey",
    "NoSuchVersion",
    "NoSuchUpload",
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
    E: ProvideErrorMetadata + Error + 'static,
    R: RawAnswer + std::fmt::Debug + 'static,
{
    let (code, message) = match error.as_service_error() {
        Some(service) => (service.code().unwrap_or_default(), service.message().unwrap_or_default()),
        None => ("", ""),
    };
    let status = error.raw_response().map(RawAnswer::status);
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
    // What says "yes" and cannot be read is some proxy's, or was cut off: the service has not answered.
    } else if !status.is_some_and(|status| (300..500).contains(&status)) {
        Kind::Unavailable
    } else {
        Kind::Refused
    };
    if status == Some(301)
        && let Some(region) = error.raw_response().and_then(RawAnswer::bucket_region)
    {
        let message = format!("the bucket is in the region {region}: use that region");
        return AwsError { kind: Kind::Refused, call, code: "PermanentRedirect".to_owned(), message };
    }
    let code = match (code, status) {
        ("", Some(status)) => format!("HTTP {status}"),
        ("", None) => "NoAnswer".to_owned(),
        (code, _) => code.to_owned(),
    };
    let message = match message {
        "" if error.as_service_error().is_some() => "no reason was given".to_owned(),
        "" => deepest(error),
        message => message.to_owned(),
    };
    AwsError { kind, call, code, message }
}

/// The innermost message: the outer ones only say "dispatch failure".
pub(crate) fn deepest(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// What a raw response says besides the error.
pub(crate) trait RawAnswer {
    /// The HTTP status.
    fn status(&self) -> u16;
    /// Where S3 says that the bucket is.
    fn bucket_region(&self) -> Option<&str>;
}

impl RawAnswer for aws_sdk_s3::config::http::HttpResponse {
    fn status(&self) -> u16 {
        Self::status(self).as_u16()
    }

    fn bucket_region(&self) -> Option<&str> {
        self.headers().get("x-amz-bucket-region")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn an_aws_error_is_found_in_an_io_error() {
        let error = AwsError::unexpected("s3:GetObject", "what");
        let plain = io::Error::from(error.clone());
        assert_eq!(plain.to_string(), "s3:GetObject: UnexpectedAnswer: what");
        assert_eq!(AwsError::from_io(&plain), Some(error.clone()));
        let deep = io::Error::other(Outer(io::Error::other(io::Error::from(error.clone()))));
        assert_eq!(AwsError::from_io(&deep), Some(error));
        assert_eq!(AwsError::from_io(&io::Error::other(Outer(io::ErrorKind::NotFound.into()))), None);
        assert_eq!(AwsError::from_io(&io::Error::other("text")), None);
    }
}
