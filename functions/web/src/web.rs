//! GET shows and never decides; POST decides, for whoever proves who they are.

use aws_lambda_events::event::lambda_function_urls::LambdaFunctionUrlRequest;
use base64::Engine as _;
use jiff::Timestamp;
use serde::Serialize;
use slipway_aws::bucket::Bucket;
use slipway_aws::machines::Machines;
use slipway_aws::store::{Store, StoreError};
use slipway_domain::ErrorName;
use slipway_domain::approval::{Approval, DecisionError, Verdict};
use slipway_domain::names::Digest;
use slipway_domain::release::review_key;
use slipway_domain::review::Review;
use slipway_handler::Failure;
use slipway_identity::Verifier;

use crate::page::{self, Page};

/// The most bytes of a decision: a token and a reason.
const MAX_BODY_BYTES: usize = 32 * 1024;
/// The most bytes of a review that a page shows.
const MAX_REVIEW_BYTES: u64 = 2 * 1024 * 1024;

/// What the function works with.
pub(crate) struct Web {
    pub(crate) store: Store,
    pub(crate) bucket: Bucket,
    pub(crate) machines: Machines,
    pub(crate) verifier: Verifier,
}

/// An answer, as a function URL takes it
/// (<https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html>).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    status_code: u16,
    headers: serde_json::Map<String, serde_json::Value>,
    body: String,
}

/// A decision, as the form or `slipway approve` sends it. It has no `Debug`: the token is in nobody's log.
struct Form {
    verdict: Verdict,
    id_token: String,
    reason: Option<String>,
}

impl Web {
    pub(crate) async fn handle(&self, request: &LambdaFunctionUrlRequest, now: Timestamp) -> Answer {
        let json = wants_json(request);
        let path = request.raw_path.as_deref().unwrap_or_default();
        let method = request.request_context.http.method.as_deref().unwrap_or_default();
        let Some(link) = path.strip_prefix("/a/").filter(|link| Digest::new(*link).is_ok()) else {
            return refuse(404, json, ErrorName::NotFound, "There is nothing here.");
        };
        let id = Digest::of(link.as_bytes());
        let answered = match method {
            "GET" => self.show(&id, json, now).await,
            "POST" => match form(request) {
                Ok(form) => self.decide(&id, form, json, now).await,
                Err(why) => Ok(refuse(400, json, ErrorName::InvalidRequest, &why)),
            },
            _ => Ok(refuse(405, json, ErrorName::InvalidRequest, "Only GET and POST are answered.")),
        };
        answered.unwrap_or_else(|failure| {
            const STATUSES: [(ErrorName, u16); 4] = [
                (ErrorName::Throttled, 503),
                (ErrorName::Unavailable, 503),
                (ErrorName::InvalidToken, 401),
                (ErrorName::NotFound, 404),
            ];
            let status = STATUSES.iter().find(|(name, _)| *name == failure.name).map_or(500, |(_, status)| *status);
            tracing::error!(error = %failure.name, message = failure.message, "failed");
            // What went wrong inside is for the log, not for whoever holds a link.
            let message =
                if status == 500 { "Something went wrong; the function's log says what." } else { &failure.message };
            refuse(status, json, failure.name, message)
        })
    }

    async fn find(&self, id: &Digest) -> Result<Approval, Failure> {
        let found = self.store.approval(id).await?;
        found.ok_or_else(|| Failure::new(ErrorName::NotFound, "There is nothing here."))
    }

    async fn show(&self, id: &Digest, json: bool, now: Timestamp) -> Result<Answer, Failure> {
        let approval = self.find(id).await?;
        self.page(&approval, json, now).await
    }

    async fn page(&self, approval: &Approval, json: bool, now: Timestamp) -> Result<Answer, Failure> {
        if json {
            return Ok(state(approval, now));
        }
        let reference = &approval.deployment;
        let key = review_key(&reference.environment, &reference.id);
        let review: Option<Review> = self.bucket.get_json(&key, MAX_REVIEW_BYTES).await?;
        // Nobody is asked to approve what cannot be shown.
        let review = review.ok_or_else(|| Failure::new(ErrorName::Internal, format!("the review {key} is missing")))?;
        let record = slipway_handler::record(&self.store, reference).await?;
        let body = Page::new(approval, &record, review, now).html()?;
        Ok(html(200, body))
    }

    async fn decide(&self, id: &Digest, form: Form, json: bool, now: Timestamp) -> Result<Answer, Failure> {
        let claims = self.verifier.verify(&form.id_token, now).await?;
        let decided = self.store.update_approval(id, |current| {
            let Some(current) = current else { return Ok(None) };
            let decision = current.decide(form.verdict, form.reason.as_deref(), &claims, now)?;
            Ok::<_, DecisionError>(Some(Approval { decision: Some(decision), ..current.clone() }))
        });
        match decided.await {
            Ok(None) => Err(Failure::new(ErrorName::NotFound, "There is nothing here.")),
            Ok(Some(approval)) => {
                self.machines.answer(&approval).await?;
                self.page(&approval, json, now).await
            }
            Err(StoreError::Rule(DecisionError::Decided(decision))) => {
                // Whoever comes second is told; and if the first one's answer was lost on the way, it is handed on now.
                self.machines.answer(&self.find(id).await?).await?;
                let again = DecisionError::Decided(decision).to_string();
                Ok(refuse(409, json, ErrorName::NotAllowed, &again))
            }
            Err(StoreError::Rule(error)) => {
                let failure = Failure::from(error);
                Ok(refuse(403, json, failure.name, &failure.message))
            }
            Err(StoreError::Aws(error)) => Err(error.into()),
        }
    }
}

fn wants_json(request: &LambdaFunctionUrlRequest) -> bool {
    let accept = request.headers.get("accept").and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.starts_with("application/json")
}

/// Reads `decision=approve&id_token=…&reason=…`.
fn form(request: &LambdaFunctionUrlRequest) -> Result<Form, String> {
    let content_type = request.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !content_type.starts_with("application/x-www-form-urlencoded") {
        return Err("The decision must be sent as a form.".into());
    }
    let body = request.body.as_deref().unwrap_or_default();
    if body.len() > MAX_BODY_BYTES {
        return Err(format!("The decision has {} bytes; the limit is {MAX_BODY_BYTES}.", body.len()));
    }
    let body = if request.is_base64_encoded {
        base64::engine::general_purpose::STANDARD.decode(body).map_err(|_| "The decision cannot be read.".to_owned())?
    } else {
        body.as_bytes().to_vec()
    };
    let (mut verdict, mut id_token, mut reason) = (None, None, None);
    for (name, value) in form_urlencoded::parse(&body) {
        let field = match name.as_ref() {
            "decision" => &mut verdict,
            "id_token" => &mut id_token,
            "reason" => &mut reason,
            _ => return Err("The decision has a field that is not known.".into()),
        };
        if field.replace(value.into_owned()).is_some() {
            return Err("The decision has a field twice.".into());
        }
    }
    let verdict = match verdict.as_deref() {
        Some("approve") => Verdict::Approve,
        Some("reject") => Verdict::Reject,
        _ => return Err("The decision must be approve or reject.".into()),
    };
    let id_token = id_token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
    let id_token = id_token.ok_or("Who decides? The decision needs a GitLab ID token.")?;
    Ok(Form { verdict, id_token, reason })
}

fn state(approval: &Approval, now: Timestamp) -> Answer {
    let (state, message) = match approval.is_open(now) {
        Ok(()) => ("open".to_owned(), "nobody has decided yet".to_owned()),
        Err(DecisionError::Decided(decision)) => {
            let done = decision.verdict.done();
            (done.to_owned(), format!("{done} by {}", decision.user_login))
        }
        Err(error) => ("closed".to_owned(), error.to_string()),
    };
    answer(200, "application/json", serde_json::json!({"state": state, "message": message}).to_string())
}

fn refuse(status: u16, json: bool, name: ErrorName, message: &str) -> Answer {
    if json {
        let body = serde_json::json!({"error": name, "message": message});
        return answer(status, "application/json", body.to_string());
    }
    html(status, page::refusal(name, message))
}

fn html(status: u16, body: String) -> Answer {
    answer(status, "text/html; charset=utf-8", body)
}

/// With the headers that keep the page from being framed, cached, followed back, or made to do what it was not written for.
fn answer(status: u16, content_type: &str, body: String) -> Answer {
    let style = format!("sha256-{}", base64::engine::general_purpose::STANDARD.encode(page::style_digest()));
    let policy =
        format!("default-src 'none'; style-src '{style}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'");
    let headers = [
        ("content-type", content_type),
        ("content-security-policy", &policy),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("strict-transport-security", "max-age=31536000"),
        ("x-robots-tag", "noindex"),
    ];
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    Answer { status_code: status, headers, body }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn posted(content_type: &str, body: &str) -> Result<Form, String> {
        let request = serde_json::json!({
            "headers": {"content-type": content_type}, "body": body, "isBase64Encoded": false, "rawPath": "/",
            "requestContext": {"timeEpoch": 0, "http": {"method": "POST"}},
        });
        form(&serde_json::from_value(request).unwrap())
    }

    #[test]
    fn a_decision_is_read_strictly() {
        const FORM: &str = "application/x-www-form-urlencoded";
        let read = posted(FORM, "decision=approve&id_token=a.b.c&reason=looks+good%21").unwrap();
        assert_eq!(
            (read.verdict, read.id_token.as_str(), read.reason.as_deref()),
            (Verdict::Approve, "a.b.c", Some("looks good!"))
        );
        for body in [
            "",
            "decision=approve",
            "decision=approve&id_token=",
            "decision=maybe&id_token=a",
            "decision=approve&decision=reject&id_token=a",
            "decision=approve&id_token=a&admin=1",
        ] {
            assert!(posted(FORM, body).is_err(), "{body}");
        }
        assert!(posted("application/json", "{}").is_err());
        assert!(posted(FORM, &format!("decision=approve&id_token={}", "a".repeat(MAX_BODY_BYTES))).is_err());
    }
}
