//! The page: rendered here, whole, without a script.

use askama::Template;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use slipway_domain::ErrorName;
use slipway_domain::approval::{Approval, Decider, Decision, MAX_REASON_CHARS, Standing};
use slipway_domain::cause::StackEvent;
use slipway_domain::deployment::{DeploymentRecord, Ending};
use slipway_domain::review::{Group, Recreation, Review, Risk, Shown, visible};
use slipway_handler::Failure;
use slipway_web::request::Link;

/// The page's only style; the content security policy names its digest.
const STYLE: &str = include_str!("../templates/style.css");

/// The SHA-256 of the page's style.
pub(crate) fn style_digest() -> [u8; 32] {
    Sha256::digest(STYLE.as_bytes()).into()
}

/// How many of the stack's last events are shown.
const EVENTS: usize = 12;

/// Who looks, once they signed in.
pub(crate) struct Viewer {
    pub(crate) login: String,
    pub(crate) csrf: String,
    /// Why this one may not approve, or reject.
    pub(crate) may_not_approve: Option<String>,
    pub(crate) may_not_reject: Option<String>,
    /// Whether this one decided already.
    pub(crate) has_decided: bool,
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
    events: &'a [StackEvent],
    standing: Standing<'a>,
    closed: Option<String>,
    left: String,
    link: Option<&'a Link>,
    viewer: Option<Viewer>,
    sign_in: bool,
}

impl<'a> Page<'a> {
    /// The page of `approval` at `now`.
    pub(crate) fn new(
        approval: &'a Approval,
        record: &'a DeploymentRecord,
        review: Review,
        events: &'a [StackEvent],
        now: Timestamp,
    ) -> Self {
        let standing = approval.standing(now);
        let closed = approval.is_open(now).err().map(|why| sentence(&why.to_string()));
        let left = approval.expires_at.duration_since(now);
        let left = match left.as_hours() {
            hours if hours >= 48 => format!("{} days", hours / 24),
            hours if hours >= 2 => format!("{hours} hours"),
            _ => format!("{} minutes", left.as_mins().max(0)),
        };
        let events = events.get(events.len().saturating_sub(EVENTS)..).unwrap_or_default();
        Self {
            style: STYLE,
            max_reason_chars: MAX_REASON_CHARS,
            approval,
            record,
            review,
            events,
            standing,
            closed,
            left,
            link: None,
            viewer: None,
            sign_in: false,
        }
    }

    /// As `viewer` sees it, who came by `link`.
    pub(crate) fn for_viewer(mut self, link: &'a Link, viewer: Option<Viewer>, sign_in: bool) -> Self {
        (self.link, self.viewer, self.sign_in) = (Some(link), viewer, sign_in);
        self
    }

    /// Whether people answered: otherwise the page says why nobody can any more.
    fn is_decided(&self) -> bool {
        matches!(self.standing, Standing::Approved | Standing::Rejected(_))
    }

    /// How many people more have to approve.
    fn missing(&self) -> usize {
        match self.standing {
            Standing::Open { missing } => missing,
            Standing::Approved | Standing::Rejected(_) | Standing::Void(_) | Standing::Expired => 0,
        }
    }

    /// How a decision was proven.
    fn proof(&self, decision: &Decision) -> String {
        match &decision.decider {
            Decider::Person { .. } => "signed in".to_owned(),
            Decider::Job { job_id, .. } => format!("job {job_id}"),
            Decider::Principal { .. } => "AWS".to_owned(),
        }
    }

    /// How the deployment ended, in a word.
    fn ending(&self) -> &'static str {
        let Some(outcome) = &self.record.outcome else { return "" };
        match outcome.ending {
            Ending::Succeeded => "live",
            Ending::NoChanges => "nothing to change",
            Ending::TornDown => "torn down",
            Ending::Repaired | Ending::Looked => "repaired",
            Ending::Failed if outcome.error == Some(ErrorName::ApprovalRejected) => "nothing was changed",
            Ending::Failed => "failed",
        }
    }

    /// Whether the deployment goes on after the decision.
    fn goes_on(&self) -> bool {
        self.standing == Standing::Approved && self.record.outcome.is_none()
    }

    /// As HTML.
    pub(crate) fn html(&self) -> Result<String, Failure> {
        self.render()
            .map_err(|error| Failure::new(ErrorName::Internal, format!("the page cannot be rendered: {error}")))
    }

    /// Its colour; the word is beside it.
    fn class(&self, group: &Group<'_>) -> &'static str {
        match group.risk {
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
    title: &'a str,
    message: &'a str,
    back: Option<&'a Link>,
}

/// A message as a sentence: those of errors begin small and have no end.
fn sentence(message: &str) -> String {
    let mut chars = visible(message).chars().collect::<Vec<_>>();
    if let Some(first) = chars.first_mut() {
        *first = first.to_ascii_uppercase();
    }
    if !chars.last().is_some_and(|last| matches!(last, '.' | '!' | '?')) {
        chars.push('.');
    }
    chars.into_iter().collect()
}

/// The page that says no, and leads `back` to the approval that it is about.
pub(crate) fn refusal(title: &str, message: &str, back: Option<&Link>) -> String {
    let message = sentence(message);
    Refusal { style: STYLE, title, message: &message, back }.render().unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use serde_json::json;
    use slipway_domain::approval::Verdict;
    use slipway_domain::review::{Change, ChangeAction, MAX_REVIEW_BYTES, MAX_VALUE_CHARS, Property};

    fn asked(application: &str) -> Approval {
        serde_json::from_value(json!({
            "id": "0".repeat(64),
            "deployment": {
                "environment": {"project": 42, "application": application, "stage": "prod", "environment": "prod"},
                "id": "01a20632-4446-7cc2-a162-1ba210a234b5", "fence": 1
            },
            "task_token": "never shown", "tried": 0,
            "binding": "1".repeat(64),
            "policy": {"required": 1, "approvers": ["release-manager", "group/leads"], "expires_in": "3d"},
            "requester": {
                "user_id": 7, "user_login": "dana", "pipeline_id": 2002, "job_id": 20, "ref_name": "main",
                "project_path": "group/<script>alert(1)</script>", "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc"
            },
            "asked_at": "2026-01-01T09:00:00Z", "expires_at": "2026-01-04T09:00:00Z", "decisions": [], "void": null,
            "announced": true, "delivered": false
        }))
        .unwrap()
    }

    fn record(approval: &Approval) -> DeploymentRecord {
        let deployment = json!({
            "id": approval.deployment.id, "action": "deploy", "environment": approval.deployment.environment,
            "target": {"account": "333333333333", "region": "eu-central-1", "protected": true},
            "stack_name": "slipway-news-prod-prod-9b9bdf6036f2b30", "launch": null, "approval": null, "timeout": "2h",
            "requester": approval.requester, "execution_arn": "arn", "admission": "2".repeat(64),
            "started_at": "2026-01-01T09:00:00Z"
        });
        DeploymentRecord::new(serde_json::from_value(deployment).unwrap())
    }

    /// The review that the domain's own test shows in its other renderings.
    fn rich() -> Review {
        serde_json::from_str(include_str!("../../../crates/domain/tests/review/review.json")).unwrap()
    }

    fn page(approval: &Approval, now: &str) -> String {
        let link = Link::new(&"f".repeat(64)).unwrap();
        let viewer = Viewer {
            login: "eve".into(),
            csrf: "csrf-of-eve".into(),
            may_not_approve: None,
            may_not_reject: None,
            has_decided: false,
        };
        let record = record(approval);
        let page = Page::new(approval, &record, rich(), &[], now.parse().unwrap());
        page.for_viewer(&link, Some(viewer), true).html().unwrap()
    }

    /// `SLIPWAY_BLESS=1` writes it anew: look at it in a browser before it is kept.
    #[test]
    fn the_page_is_as_expected() {
        let html = page(&asked("news"), "2026-01-02T09:00:00Z");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/approval.html");
        #[allow(clippy::disallowed_methods, reason = "it is asked for from outside")]
        if std::env::var_os("SLIPWAY_BLESS").is_some() {
            std::fs::write(path, &html).unwrap();
        }
        assert!(html == std::fs::read_to_string(path).unwrap_or_default(), "{path} is different:\n{html}");
    }

    #[test]
    fn the_page_shows_what_is_decided_on_and_nothing_secret() {
        let html = page(&asked("news"), "2026-01-02T09:00:00Z");
        for shown in [
            "Deploy news to prod?",
            "LOSS OF DATA",
            "Billing/Tax/Rates",
            "2 days left",
            "333333333333",
            "714a629c",
            "Signed in as",
            "csrf-of-eve",
        ] {
            assert!(html.contains(shown), "{shown} in {html}");
        }
        assert!(html.contains("group/&#60;script&#62;"), "what others wrote is text, not markup");
        for hidden in ["never shown", "<script", "0000000000", "\u{202e}", "\u{1b}"] {
            assert!(!html.contains(hidden), "{hidden} in {html}");
        }
    }

    #[test]
    fn a_rollback_says_what_it_goes_back_to() {
        let approval = asked("news");
        let mut record = record(&approval);
        let back = json!({
            "from": "01a20632-4446-7cc2-a162-1ba210a234b5", "to": "01a20632-4446-7cc2-a162-1ba210a234b4",
            "release": "3".repeat(64), "commit": "900d", "pipeline_id": 1999
        });
        record.deployment.back = serde_json::from_value(back).unwrap();
        let html = Page::new(&approval, &record, rich(), &[], approval.asked_at).html().unwrap();
        for shown in ["Roll news back in prod?", "commit 900d, which pipeline 1999 deployed"] {
            assert!(html.contains(shown), "{shown} in {html}");
        }
        assert!(!html.contains("714a629c"), "the commit of the job that asks is not what is launched");
    }

    #[test]
    fn the_largest_page_fits_into_an_answer() {
        // Lambda's limit: <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>.
        const ANSWER_BYTES: usize = 6 * 1024 * 1024;
        let full = MAX_VALUE_CHARS;
        for (words, properties, changes) in [
            ("<".repeat(full), 50, 8),
            ("\u{200b}".repeat(full), 50, 8),
            ("\"".repeat(full), 50, 8),
            (String::new(), 50, 200),
            (String::new(), 0, 5000),
        ] {
            let property = Property::new("/P", Some(&words), Some(&words), Recreation::Always);
            let change = Change::new(ChangeAction::Modify, "A", "AWS::IAM::Role");
            let change = Change { properties: vec![property; properties], ..change };
            let review = Review::new(vec![change; changes], None);
            let stored = serde_json::to_vec(&review).unwrap().len();
            assert!(stored > MAX_REVIEW_BYTES / 2, "only {stored} bytes of {words:.1}");
            let approval = asked("news");
            let html = Page::new(&approval, &record(&approval), review, &[], approval.asked_at).html().unwrap();
            let answer = serde_json::to_string(&html).unwrap().len();
            assert!(answer < ANSWER_BYTES, "{answer} bytes of {words:.1}");
        }
    }

    #[test]
    fn a_page_without_a_question_has_no_form() {
        let late = page(&asked("news"), "2026-01-05T09:00:00Z");
        assert!(late.contains("Not decided in time") && !late.contains("<form"), "{late}");
        let mut decided = asked("news");
        decided.decisions.push(Decision {
            verdict: Verdict::Approve,
            decider: Decider::Job { user_id: 8, user_login: "release-manager".into(), job_id: 21 },
            reason: Some("looks <good>".into()),
            at: "2026-01-02T09:00:00Z".parse().unwrap(),
        });
        let html = page(&decided, "2026-01-02T10:00:00Z");
        assert!(
            html.contains("approved</strong> by release-manager") && html.contains("looks &#60;good&#62;"),
            "{html}"
        );
        assert!(!html.contains("<form"), "{html}");
    }
}
