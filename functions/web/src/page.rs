//! The page: rendered here, whole, without a script.

use askama::Template;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use slipway_domain::ErrorName;
use slipway_domain::approval::{Approval, MAX_REASON_CHARS};
use slipway_domain::deployment::DeploymentRecord;
use slipway_domain::review::{Review, Risk};
use slipway_handler::Failure;

/// The page's only style; the content security policy names its digest.
const STYLE: &str = include_str!("../templates/style.css");

/// The SHA-256 of the page's style.
pub(crate) fn style_digest() -> [u8; 32] {
    Sha256::digest(STYLE.as_bytes()).into()
}

/// What the page shows.
#[derive(Template)]
#[template(path = "approval.html")]
pub(crate) struct Page<'a> {
    style: &'static str,
    max_reason_chars: usize,
    approval: &'a Approval,
    record: &'a DeploymentRecord,
    review: Review,
    closed: Option<String>,
    left: String,
}

impl<'a> Page<'a> {
    /// The page of `approval` at `now`.
    pub(crate) fn new(approval: &'a Approval, record: &'a DeploymentRecord, review: Review, now: Timestamp) -> Self {
        let closed = approval.is_open(now).err().map(|why| why.to_string());
        let left = approval.expires_at.duration_since(now);
        let left = match left.as_hours() {
            hours if hours >= 48 => format!("{} days", hours / 24),
            hours if hours >= 2 => format!("{hours} hours"),
            _ => format!("{} minutes", left.as_mins().max(0)),
        };
        Self { style: STYLE, max_reason_chars: MAX_REASON_CHARS, approval, record, review, closed, left }
    }

    /// As HTML.
    pub(crate) fn html(&self) -> Result<String, Failure> {
        self.render()
            .map_err(|error| Failure::new(ErrorName::Internal, format!("the page cannot be rendered: {error}")))
    }

    fn class(&self, risk: Risk) -> &'static str {
        match risk {
            Risk::DataLoss => "loss",
            Risk::Replacement => "replace",
            Risk::Iam => "iam",
            Risk::Other => "",
        }
    }
}

#[derive(Template)]
#[template(path = "refusal.html")]
struct Refusal<'a> {
    style: &'static str,
    name: ErrorName,
    message: &'a str,
}

/// The page that says no.
pub(crate) fn refusal(name: ErrorName, message: &str) -> String {
    Refusal { style: STYLE, name, message }.render().unwrap_or_default()
}
