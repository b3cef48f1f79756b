//! GET shows and never decides; POST decides, for whoever proves who they are.

use aws_lambda_events::event::lambda_function_urls::LambdaFunctionUrlRequest;
use jiff::{SignedDuration, Timestamp};
use slipway_aws::bucket::{Bucket, TOO_LARGE};
use slipway_aws::machines::Machines;
use slipway_aws::store::{Store, StoreError};
use slipway_domain::ErrorName;
use slipway_domain::approval::{Approval, DecisionError, Session, Verdict, Who, caller_binding};
use slipway_domain::approver::Approver;
use slipway_domain::audit::Entry;
use slipway_domain::cause::StackEvent;
use slipway_domain::claims::{Caller, JobClaims, Person};
use slipway_domain::deployment::DeploymentRecord;
use slipway_domain::names::Digest;
use slipway_domain::release::{events_key, review_key};
use slipway_domain::review::Review;
use slipway_handler::Failure;
use slipway_identity::{Attempt, Callers, SignIn, Verifier};
use slipway_web::request::{self, Asked, BadRequest, Form, Link, Proof, Request, Return};
use slipway_web::session::{self, Secret, SigningIn};

use crate::answer::{Answer, html, json, redirect};
use crate::page::{self, Page, Viewer};

/// The most bytes of a review, or of events, that a page shows.
const MAX_SHOWN_BYTES: u64 = 2 * 1024 * 1024;

/// What the function works with.
pub(crate) struct Web {
    pub(crate) store: Store,
    pub(crate) bucket: Bucket,
    pub(crate) machines: Machines,
    pub(crate) verifier: Verifier,
    pub(crate) sign_in: Option<SignIn>,
    pub(crate) callers: Callers,
}

/// Whose decision it is, proven.
enum Proven {
    Person(Person),
    Job(Box<JobClaims>),
    Caller(Caller),
}

impl Proven {
    fn who(&self) -> Who<'_> {
        match self {
            Proven::Person(person) => Who::Person(person),
            Proven::Job(claims) => Who::Job(claims),
            Proven::Caller(caller) => Who::Caller(caller),
        }
    }
}

fn nothing_here() -> Failure {
    Failure::new(ErrorName::NotFound, "There is nothing here.")
}

impl Web {
    pub(crate) async fn handle(&self, event: &LambdaFunctionUrlRequest, now: Timestamp) -> Answer {
        let asked_in_json = request::wants_json(event);
        let request = match request::read(event) {
            Ok(request) => request,
            Err(why) => {
                let (status, name) = match &why {
                    BadRequest::NotFound => (404, ErrorName::NotFound),
                    BadRequest::Method => (405, ErrorName::InvalidRequest),
                    BadRequest::Malformed(_) => (400, ErrorName::InvalidRequest),
                    BadRequest::OtherSite => (403, ErrorName::NotAllowed),
                };
                return refuse(status, asked_in_json, name, &why.to_string(), None);
            }
        };
        let (is_json, head) = (request.json, request.head);
        let back = match &request.asked {
            Asked::Show(_) | Asked::Return(_) => None,
            Asked::SignIn { link, .. } | Asked::Decide(link, _) => Some(link.clone()),
        };
        let answered = match self.answer(request, now).await {
            Ok(answer) => answer,
            Err(failure) => {
                const STATUSES: [(ErrorName, u16); 6] = [
                    (ErrorName::Throttled, 503),
                    (ErrorName::Unavailable, 503),
                    (ErrorName::InvalidToken, 401),
                    (ErrorName::NotAllowed, 403),
                    (ErrorName::InvalidRequest, 400),
                    (ErrorName::NotFound, 404),
                ];
                let status = STATUSES.iter().find(|(name, _)| *name == failure.name).map_or(500, |(_, status)| *status);
                log(status, &failure);
                // What went wrong inside is for the log, not for whoever holds a link.
                let message = if status == 500 {
                    "Something went wrong; the function's log says what."
                } else {
                    &failure.message
                };
                refuse(status, is_json, failure.name, message, back.as_ref())
            }
        };
        if head { answered.without_body() } else { answered }
    }

    async fn answer(&self, request: Request, now: Timestamp) -> Result<Answer, Failure> {
        match &request.asked {
            Asked::Show(link) => {
                let approval = self.find(link).await?;
                if request.json {
                    return Ok(state(&approval, now));
                }
                let viewer = self.viewer(&request, &approval, now).await?;
                self.page(&approval, link, viewer, now).await
            }
            Asked::SignIn { link, anew } => self.sign_in(&request, link, *anew, now).await,
            Asked::Return(returned) => self.returned(&request, returned, now).await,
            Asked::Decide(link, form) => self.decide(&request, link, form, now).await,
        }
    }

    async fn find(&self, link: &Link) -> Result<Approval, Failure> {
        self.store.approval(&link.id()).await?.ok_or_else(nothing_here)
    }

    async fn page(
        &self,
        approval: &Approval,
        link: &Link,
        viewer: Option<Viewer>,
        now: Timestamp,
    ) -> Result<Answer, Failure> {
        let reference = &approval.deployment;
        let key = review_key(&reference.environment, &reference.id);
        let review: Option<Review> = self.bucket.get_json(&key, MAX_SHOWN_BYTES).await?;
        // Nobody is asked to approve what cannot be shown.
        let review = review.ok_or_else(|| Failure::new(ErrorName::Internal, format!("the review {key} is missing")))?;
        let record = slipway_handler::record(&self.store, reference).await?;
        let events = self.events(&record).await?;
        let page = Page::new(approval, &record, review, &events, now);
        let page = page.for_viewer(link, viewer, self.sign_in.is_some());
        Ok(html(200, page.html()?))
    }

    /// What the stack tells of the deployment, oldest first.
    async fn events(&self, record: &DeploymentRecord) -> Result<Vec<StackEvent>, Failure> {
        if record.events == 0 {
            return Ok(Vec::new());
        }
        let key = events_key(&record.deployment.environment, &record.deployment.id);
        match self.bucket.get_json(&key, MAX_SHOWN_BYTES).await {
            // How it ended is what counts: more than can be shown is not shown.
            Err(error) if error.code == TOO_LARGE => Ok(Vec::new()),
            read => Ok(read?.unwrap_or_default()),
        }
    }

    /// Who signed in for the approval in this browser, and the browser's secret.
    async fn session(
        &self,
        request: &Request,
        id: &Digest,
        now: Timestamp,
    ) -> Result<Option<(Secret, Session)>, Failure> {
        let secret = request.cookie(&session::cookie_name(id)).and_then(Secret::read);
        let Some(secret) = secret else { return Ok(None) };
        let session = self.store.session(id, &secret.id()).await?;
        Ok(session.filter(|session| now < session.until).map(|session| (secret, session)))
    }

    async fn viewer(&self, request: &Request, approval: &Approval, now: Timestamp) -> Result<Option<Viewer>, Failure> {
        let Some((secret, session)) = self.session(request, &approval.id, now).await? else { return Ok(None) };
        let person = session.person();
        // Whether a reason is wanted is said where it is written.
        let decides = |verdict| approval.decide(verdict, Some("…"), Who::Person(&person), now).err();
        let (approve, reject) = (decides(Verdict::Approve), decides(Verdict::Reject));
        Ok(Some(Viewer {
            login: session.user_login,
            csrf: session::csrf(&secret, &approval.binding),
            has_decided: matches!(approve, Some(DecisionError::Again { .. })),
            may_not_approve: approve.map(|why| why.to_string()),
            may_not_reject: reject.map(|why| why.to_string()),
        }))
    }

    async fn sign_in(&self, request: &Request, link: &Link, anew: bool, now: Timestamp) -> Result<Answer, Failure> {
        // Nobody is sent anywhere for a link that is none.
        self.find(link).await?;
        let sign_in = self.sign_in.as_ref().ok_or_else(nothing_here)?;
        let begun = SigningIn::begin(link.clone(), draw()?);
        let location = sign_in.location(&callback(request), &attempt(&begun), anew, now).await?;
        Ok(redirect(&location).with_cookie(Some(begun.cookie())))
    }

    async fn returned(&self, request: &Request, returned: &Return, now: Timestamp) -> Result<Answer, Failure> {
        const AGAIN: &str =
            "This sign-in did not begin in this browser, or is over: open the approval's link, and sign in from there.";
        let sign_in = self.sign_in.as_ref().ok_or_else(nothing_here)?;
        let cookie_name = SigningIn::cookie_name(&returned.state);
        let kept = request.cookie(&cookie_name).and_then(|cookie| SigningIn::open(cookie, &returned.state));
        let kept = kept.ok_or_else(|| Failure::new(ErrorName::InvalidToken, AGAIN))?;
        let link = &kept.link;
        let forget = session::forget(&cookie_name);
        let code = match &returned.code {
            Ok(code) => code,
            Err(error) => {
                let message = match error.as_str() {
                    "access_denied" => "The sign-in was cancelled, and nothing was decided.".to_owned(),
                    other => format!("GitLab did not sign you in: {}.", slipway_domain::review::visible(other)),
                };
                return Ok(html(403, page::refusal("Not signed in", &message, Some(link))).with_cookie(Some(forget)));
            }
        };
        let person = match sign_in.finish(&callback(request), code, &attempt(&kept), now).await {
            Ok(person) => person,
            Err(error) => {
                let failure = Failure::from(error);
                let status = if failure.name == ErrorName::InvalidToken { 401 } else { 503 };
                log(status, &failure);
                let refused = page::refusal("Not signed in", &failure.message, Some(link));
                return Ok(html(status, refused).with_cookie(Some(forget)));
            }
        };
        let approval = self.find(link).await?;
        let named = |group: &String| {
            let is = |approver: &Approver| approver.is(0, "", std::slice::from_ref(group));
            approval.policy.approvers.iter().any(|approver| matches!(approver, Approver::Group(_)) && is(approver))
        };
        let until = now + SignedDuration::from_mins(session::SESSION_MINUTES);
        let session = Session {
            user_id: person.user_id,
            user_login: person.user_login,
            groups: person.groups.into_iter().filter(named).collect(),
            until,
        };
        // Who signs in once more keeps the tabs that are open.
        let known = self.session(request, &approval.id, now).await?;
        let known = known.filter(|(_, known)| known.user_id == session.user_id).map(|(secret, _)| secret);
        let secret = known.map_or_else(draw, Ok)?;
        self.store.keep_session(&approval.id, &secret.id(), &session).await?;
        let signed_in = redirect(&format!("/a/{}", link.as_str()));
        Ok(signed_in.with_cookie(Some(forget)).with_cookie(Some(session::cookie(&approval.id, &secret))))
    }

    /// Whose decision it is.
    async fn prove(
        &self,
        request: &Request,
        form: &Form,
        approval: &Approval,
        now: Timestamp,
    ) -> Result<Proven, Failure> {
        const AGAIN: &str = "You are not signed in any more: sign in again. Nothing was decided.";
        match &form.proof {
            Proof::Session { csrf } => {
                let session = self.session(request, &approval.id, now).await?;
                let session = session.filter(|(secret, _)| session::is_csrf(secret, &approval.binding, csrf));
                let (_, session) = session.ok_or_else(|| Failure::new(ErrorName::InvalidToken, AGAIN))?;
                Ok(Proven::Person(session.person()))
            }
            Proof::Job { id_token } => Ok(Proven::Job(Box::new(self.verifier.verify(id_token, now).await?))),
            Proof::Caller { url } => {
                let binding = caller_binding(&approval.id, &request.host, form.verdict, form.reason.as_deref());
                Ok(Proven::Caller(self.callers.verify(url, binding.as_str(), now).await?))
            }
        }
    }

    async fn decide(&self, request: &Request, link: &Link, form: &Form, now: Timestamp) -> Result<Answer, Failure> {
        let approval = self.find(link).await?;
        let proven = self.prove(request, form, &approval, now).await?;
        let reason = form.reason.as_deref();
        let decided =
            self.store.decide(&approval.id, |current| current.decide(form.verdict, reason, proven.who(), now));
        let (approval, refused) = match decided.await {
            Ok(approval) => (approval.ok_or_else(nothing_here)?, None),
            // The same one again: a second click, or an answer that was lost on its way.
            Err(StoreError::Rule(DecisionError::Again { verdict, .. })) if verdict == form.verdict => {
                (self.find(link).await?, None)
            }
            Err(StoreError::Rule(error)) => (self.find(link).await?, Some(error)),
            Err(StoreError::Aws(error)) => return Err(error.into()),
        };
        // Whoever comes second is told; and if the first one's answer was lost on the way, it is handed on now.
        if let Err(failure) = slipway_handler::deliver(&self.store, &self.machines, &approval).await {
            tracing::error!(error = %failure.name, message = failure.message, "the decision waits for sweep to hand it on");
        }
        match refused {
            None if request.json => Ok(state(&approval, now)),
            None => Ok(redirect(&format!("/a/{}", link.as_str()))),
            Some(error) => {
                if approval.is_open(now).is_ok() {
                    self.on_record(&approval, &proven, form.verdict, &error, now).await?;
                }
                let (status, title) = match &error {
                    DecisionError::Decided { .. } | DecisionError::Again { .. } => (409, "Decided already"),
                    DecisionError::NoReason(_) => (400, "A reason is wanted"),
                    DecisionError::ReasonTooLong => (400, "The reason is too long"),
                    DecisionError::Expired(_) => (403, "Too late"),
                    DecisionError::Void(..) => (403, "Nothing to decide any more"),
                    DecisionError::NotByJob(_)
                    | DecisionError::OtherProject(_)
                    | DecisionError::OtherPipeline { .. }
                    | DecisionError::Unprotected
                    | DecisionError::TooEarly
                    | DecisionError::OwnJob(_)
                    | DecisionError::Own(_)
                    | DecisionError::NotApprover { .. } => (403, "Not allowed"),
                };
                let failure = Failure::from(error);
                Ok(refuse_as(title, status, request.json, failure.name, &failure.message, Some(link)))
            }
        }
    }
}

/// What strangers get wrong is no failure of ours.
fn log(status: u16, failure: &Failure) {
    if status >= 500 {
        tracing::error!(error = %failure.name, message = failure.message, "failed");
    } else {
        tracing::info!(error = %failure.name, message = failure.message, "refused");
    }
}

fn draw() -> Result<Secret, Failure> {
    Secret::draw().ok_or_else(|| Failure::new(ErrorName::Internal, "no random numbers can be had"))
}

fn attempt(signing_in: &SigningIn) -> Attempt {
    Attempt { state: signing_in.state(), nonce: signing_in.nonce(), verifier: signing_in.verifier() }
}

impl Web {
    /// Who tried to decide, and was not let, goes on record once.
    async fn on_record(
        &self,
        approval: &Approval,
        proven: &Proven,
        verdict: Verdict,
        why: &DecisionError,
        now: Timestamp,
    ) -> Result<(), Failure> {
        match Entry::refused(approval, proven.who(), verdict, why, now) {
            Some((who, entry)) => Ok(self.store.refuse_decision(approval, &who, &entry).await?),
            None => Ok(()),
        }
    }
}

/// Where GitLab sends a browser back to.
fn callback(request: &Request) -> String {
    format!("{}/callback", request.origin)
}

/// How an approval stands, for a program.
fn state(approval: &Approval, now: Timestamp) -> Answer {
    let (state, message) = match approval.is_open(now) {
        Ok(()) if approval.decisions.is_empty() => ("open".to_owned(), "nobody has decided yet".to_owned()),
        Ok(()) => ("open".to_owned(), approval.progress().unwrap_or_default()),
        Err(error @ DecisionError::Decided { verdict, .. }) => (verdict.done().to_owned(), error.to_string()),
        Err(error) => ("closed".to_owned(), error.to_string()),
    };
    json(200, &serde_json::json!({"state": state, "message": message}))
}

fn refuse(status: u16, is_json: bool, name: ErrorName, message: &str, back: Option<&Link>) -> Answer {
    let title = match status {
        400 => "That cannot be read",
        401 => "Not signed in",
        403 => "Not allowed",
        404 => "Not found",
        405 => "Not answered",
        503 => "Try again in a moment",
        _ => "Something went wrong",
    };
    refuse_as(title, status, is_json, name, message, back)
}

fn refuse_as(title: &str, status: u16, is_json: bool, name: ErrorName, message: &str, back: Option<&Link>) -> Answer {
    if is_json {
        return json(status, &serde_json::json!({"error": name, "message": message}));
    }
    html(status, page::refusal(title, message, back))
}
