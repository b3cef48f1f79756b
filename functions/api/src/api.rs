//! The questions of a job.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use slipway_aws::bucket::{Bucket, TOO_LARGE};
use slipway_aws::functions::Function;
use slipway_aws::parameters::Parameters;
use slipway_aws::store::Store;
use slipway_domain::ErrorName;
use slipway_domain::admission::{self, Admission, AdmissionError};
use slipway_domain::approval::{Approval, DecisionError, link_id};
use slipway_domain::audit::{Act, Actor, Entry};
use slipway_domain::cause::StackEvent;
use slipway_domain::claims::JobClaims;
use slipway_domain::deployment::{Back, DeploymentId, DeploymentRecord, Ending};
use slipway_domain::lease::Holder;
use slipway_domain::names::{Digest, EnvironmentKey};
use slipway_domain::protocol::{
    Admitted, Ask, AuditPage, AuditRequest, DeployRequest, DeploymentStatus, MAX_BUNDLE_BYTES, MAX_REQUEST_BYTES, On,
    PlanRequest, RepairRequest, Request, RollbackRequest, Status, StatusRequest, TeardownRequest, UnlockRequest,
    Unlocked, Upload,
};
use slipway_domain::release::{bundle_key, events_key, possession_key, review_key};
use slipway_domain::review::Review;
use slipway_domain::stages::Stages;
use slipway_domain::teardown::{Leftovers, Plan};
use slipway_handler::Failure;
use slipway_identity::Verifier;

/// The most bytes of a review or of events that an answer carries: a Lambda answer holds 6 MB.
const MAX_SHOWN_BYTES: u64 = 2 * 1024 * 1024;
/// How many audit rows an answer carries at the most: each has some kilobytes.
const AUDIT_ROWS: i32 = 200;

/// What the function works with.
pub(crate) struct Api {
    pub(crate) store: Store,
    pub(crate) bucket: Bucket,
    pub(crate) parameters: Parameters,
    pub(crate) verifier: Verifier,
    /// Whether people can sign in in the browser.
    pub(crate) sign_in: bool,
    pub(crate) stages_parameter: String,
    pub(crate) link_key_parameter: String,
    pub(crate) deploy_machine: String,
    pub(crate) teardown_machine: String,
    pub(crate) teardown_function: Function,
    pub(crate) web_url: String,
}

/// An answer.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    Admitted(Box<Admitted>),
    Unlocked(Box<Unlocked>),
    Status(Box<Status>),
    Audit(Box<AuditPage>),
    Plan(Box<Plan>),
}

/// Reads a request.
pub(crate) fn read(payload: serde_json::Value) -> Result<Request, Failure> {
    let bytes = payload.to_string().len();
    if bytes > MAX_REQUEST_BYTES {
        let message = format!("the request has {bytes} bytes; the limit is {MAX_REQUEST_BYTES}");
        return Err(Failure::new(ErrorName::InvalidRequest, message));
    }
    slipway_handler::parse(payload)
}

impl Api {
    pub(crate) async fn handle(&self, request: Request, now: Timestamp) -> Result<Answer, Failure> {
        let claims = self.verifier.verify(&request.id_token, now).await?;
        let admit = |admitted| Answer::Admitted(Box::new(admitted));
        match request.ask {
            Ask::Deploy(deploy) => self.deploy(&deploy, &claims, now).await.map(admit),
            Ask::Teardown(teardown) => self.teardown(&teardown, &claims, now).await.map(admit),
            Ask::PlanTeardown(plan) => {
                self.plan_teardown(&plan, &claims).await.map(|plan| Answer::Plan(Box::new(plan)))
            }
            Ask::Rollback(rollback) => self.rollback(&rollback, &claims, now).await.map(admit),
            Ask::Repair(repair) => self.repair(&repair, &claims, now).await.map(admit),
            Ask::Unlock(unlock) => {
                self.unlock(&unlock, &claims, now).await.map(|unlocked| Answer::Unlocked(Box::new(unlocked)))
            }
            Ask::Status(status) => {
                self.status(&status, &claims, now).await.map(|status| Answer::Status(Box::new(status)))
            }
            Ask::Audit(audit) => self.audit(&audit, &claims).await.map(|page| Answer::Audit(Box::new(page))),
        }
    }

    async fn deploy(&self, request: &DeployRequest, claims: &JobClaims, now: Timestamp) -> Result<Admitted, Failure> {
        match request.bundle_bytes {
            0 => return Err(Failure::new(ErrorName::BundleInvalid, "the bundle has 0 bytes")),
            1..=MAX_BUNDLE_BYTES => {}
            bytes => {
                let message = format!("the bundle has {bytes} bytes; the limit is {MAX_BUNDLE_BYTES}");
                return Err(Failure::new(ErrorName::LimitExceeded, message));
            }
        }
        let stages = slipway_handler::stages(&self.parameters, &self.stages_parameter).await?;
        self.can_be_approved(&stages, &request.on)?;
        let admission = admission::deploy(request, claims, &stages, now);
        let admission = self.on_record("deploy", &request.on, claims, now, admission).await?;
        let admission = self.store.admit(&admission).await?;
        let upload = self.upload(request, &admission).await?;
        let done_by = self.done_by(&admission).await?;
        Ok(Admitted { upload, done_by, ..admitted(admission, claims, &self.deploy_machine) })
    }

    /// Where to send the bundle, unless one of this project was verified before. What merely lies there may be anything.
    async fn upload(&self, request: &DeployRequest, admission: &Admission) -> Result<Option<Upload>, Failure> {
        let bundle = &request.launch.bundle;
        let project = admission.environment.project;
        let (key, possession) = (bundle_key(project, bundle), possession_key(project, bundle));
        if self.bucket.size(&possession).await?.is_some() {
            return Ok(None);
        }
        let (url, headers) = self.bucket.presigned_upload(&key, request.bundle_bytes).await?;
        Ok(Some(Upload { url, headers }))
    }

    /// The deployment that made what is live, if that is what is admitted.
    async fn done_by(&self, admission: &Admission) -> Result<Option<DeploymentId>, Failure> {
        let (key, launch) = (&admission.environment, &admission.launch);
        let (Some(environment), Some(launch)) = (self.store.environment(key).await?, launch) else { return Ok(None) };
        let Some(live) = &environment.live else { return Ok(None) };
        let live = self.store.deployment(key, live).await?.map(|record| record.deployment);
        Ok(live.filter(|live| environment.is_as_launched(live, launch)).map(|live| live.id))
    }

    async fn teardown(
        &self,
        request: &TeardownRequest,
        claims: &JobClaims,
        now: Timestamp,
    ) -> Result<Admitted, Failure> {
        let stages = slipway_handler::stages(&self.parameters, &self.stages_parameter).await?;
        let admission = admission::teardown(request, claims, &stages, now);
        let admission = self.on_record("teardown", &request.on, claims, now, admission).await?;
        let admission = self.store.admit(&admission).await?;
        Ok(admitted(admission, claims, &self.teardown_machine))
    }

    /// What a teardown would do: asked of the function that would, which may see the stack.
    async fn plan_teardown(&self, request: &PlanRequest, claims: &JobClaims) -> Result<Plan, Failure> {
        let stages = slipway_handler::stages(&self.parameters, &self.stages_parameter).await?;
        let (protected, policy) = admission::plan_teardown(&request.on.stage, claims, &stages)?;
        let environment = key(&request.on, claims);
        let requester = admission::requester(claims);
        let plan = json!({
            "environment": environment, "protected": protected, "policy": policy, "requester": requester,
        });
        let answer = self.teardown_function.ask(&json!({"plan": plan})).await?;
        answer.map_err(|error| match ErrorName::parse(&error.name) {
            Some(name) => Failure::new(name, error.message),
            None => Failure::new(ErrorName::Unavailable, format!("the function teardown failed: {error}")),
        })
    }

    async fn rollback(
        &self,
        request: &RollbackRequest,
        claims: &JobClaims,
        now: Timestamp,
    ) -> Result<Admitted, Failure> {
        let key = key(&request.on, claims);
        let nothing =
            || Failure::new(ErrorName::NotFound, format!("nothing was live on {key} before what is live now"));
        let environment = self.store.environment(&key).await?.ok_or_else(nothing)?;
        let (live, previous) = environment.live.zip(environment.previous).ok_or_else(nothing)?;
        let last = self.store.deployment(&key, &live).await?;
        // A rollback that is live is done: whoever retries its job does not want to go forth again.
        let done_by = last.filter(|last| last.deployment.back.is_some()).map(|last| last.deployment.id);
        let previous = self.store.deployment(&key, &previous).await?.ok_or_else(nothing)?.deployment;
        let launch = previous.launch.clone().ok_or_else(nothing)?;
        let back = Back::new(live, &previous, &launch);
        let stages = slipway_handler::stages(&self.parameters, &self.stages_parameter).await?;
        self.can_be_approved(&stages, &request.on)?;
        let admission = admission::rollback(request, launch, back, claims, &stages, now);
        let admission = self.on_record("rollback", &request.on, claims, now, admission).await?;
        let admission = self.store.admit(&admission).await?;
        let back = admission.back.clone();
        Ok(Admitted { back, done_by, ..admitted(admission, claims, &self.deploy_machine) })
    }

    async fn repair(&self, request: &RepairRequest, claims: &JobClaims, now: Timestamp) -> Result<Admitted, Failure> {
        let stages = slipway_handler::stages(&self.parameters, &self.stages_parameter).await?;
        let admission = admission::repair(request, claims, &stages, now);
        let admission = self.on_record("repair", &request.on, claims, now, admission).await?;
        let key = &admission.environment;
        if self.store.environment(key).await?.is_none() {
            return Err(Failure::new(ErrorName::NotFound, format!("there is no environment {key}")));
        }
        let admission = self.store.admit(&admission).await?;
        Ok(admitted(admission, claims, &self.deploy_machine))
    }

    async fn unlock(&self, request: &UnlockRequest, claims: &JobClaims, now: Timestamp) -> Result<Unlocked, Failure> {
        let stages = slipway_handler::stages(&self.parameters, &self.stages_parameter).await?;
        let by =
            self.on_record("unlock", &request.on, claims, now, admission::unlock(request, claims, &stages)).await?;
        let environment = key(&request.on, claims);
        let lease = self.store.lease(&environment).await?;
        let Some((owner, fence)) = lease.and_then(|lease| Some((lease.owner?, lease.fence))) else {
            return Ok(Unlocked { environment, holder: None, unlocked: false });
        };
        let holder = self.store.deployment(&environment, &owner).await?.as_ref().map(Holder::of);
        if !request.force {
            return Ok(Unlocked { environment, holder, unlocked: false });
        }
        let act = Act::Unlocked { holder: holder.clone(), fence };
        let entry = Entry { act, by: Actor::Job(by), reason: request.reason.clone(), deployment: Some(owner), at: now };
        let unlocked = self.store.break_lease(&environment, fence, &entry).await?;
        Ok(Unlocked { environment, holder, unlocked })
    }

    /// Makes sure, before anybody waits for it, that somebody can give the approval that the stage asks for.
    fn can_be_approved(&self, stages: &Stages, on: &On) -> Result<(), Failure> {
        let policy = stages.get(&on.stage).ok().and_then(|stage| stage.approval.as_ref());
        if policy.is_none_or(|policy| policy.can_be_given(self.sign_in)) {
            return Ok(());
        }
        let message = format!(
            "stage {} asks for an approval that nobody can give: deploy the control plane with GitLabClientId, or let the stage's \
             approval have \"by_job\": true or \"principals\"",
            on.stage
        );
        Err(Failure::new(ErrorName::Internal, message))
    }

    /// What a stage's policy refuses goes on record, once for each token and request.
    async fn on_record<T>(
        &self,
        asked: &str,
        on: &On,
        claims: &JobClaims,
        now: Timestamp,
        decided: Result<T, AdmissionError>,
    ) -> Result<T, Failure> {
        if let Err(AdmissionError::Refused(why)) = &decided {
            let environment = key(on, claims);
            let id = Digest::of_parts(&["refusal", &claims.jti, asked, &environment.to_string()]);
            let entry = Entry {
                act: Act::Refused { asked: asked.to_owned(), why: why.to_string() },
                by: Actor::Job(admission::requester(claims)),
                reason: None,
                deployment: None,
                at: now,
            };
            self.store.refuse(&id, &environment, &entry).await?;
        }
        Ok(decided?)
    }

    async fn audit(&self, request: &AuditRequest, claims: &JobClaims) -> Result<AuditPage, Failure> {
        let environment = key(&request.on, claims);
        let (rows, head) = self.store.audit(&environment, request.after, AUDIT_ROWS).await?;
        Ok(AuditPage { environment, rows, head })
    }

    async fn status(&self, request: &StatusRequest, claims: &JobClaims, now: Timestamp) -> Result<Status, Failure> {
        let key = key(&request.on, claims);
        let not_found = |what: String| Failure::new(ErrorName::NotFound, what);
        let environment =
            self.store.environment(&key).await?.ok_or_else(|| not_found(format!("there is no environment {key}")))?;
        let deployment = match request.deployment.as_ref().or(environment.last()) {
            None => None,
            Some(id) => {
                let record = self.store.deployment(&key, id).await?;
                let record = record.ok_or_else(|| not_found(format!("there is no deployment {id} of {key}")))?;
                Some(self.deployment_status(&key, record, now).await?)
            }
        };
        Ok(Status {
            environment: key,
            stack_name: environment.stack_name,
            state: environment.state,
            release: environment.release,
            commit: environment.commit,
            url: environment.url,
            outputs: environment.outputs,
            expires_at: environment.expires_at,
            deployment,
        })
    }

    async fn deployment_status(
        &self,
        key: &EnvironmentKey,
        record: DeploymentRecord,
        now: Timestamp,
    ) -> Result<DeploymentStatus, Failure> {
        let deployment = record.deployment;
        let events: Option<Vec<StackEvent>> = match record.events {
            0 => None,
            _ => match self.bucket.get_json(&events_key(key, &deployment.id), MAX_SHOWN_BYTES).await {
                // How it ended is what counts: more than can be shown is not shown.
                Err(error) if error.code == TOO_LARGE => None,
                shown => shown?,
            },
        };
        let review: Option<Review> = match record.binding {
            None => None,
            Some(_) => self.bucket.get_json(&review_key(key, &deployment.id), MAX_SHOWN_BYTES).await?,
        };
        let asked = match record.approval {
            None => None,
            Some(id) => self.store.approval(&id).await?,
        };
        let answer = asked.as_ref().and_then(|asked| asked.is_open(now).err());
        // What would have been left is nothing that anybody should remove while the stack is there.
        let is_gone = record.outcome.as_ref().is_some_and(|outcome| outcome.ending == Ending::TornDown);
        let leftovers = if is_gone { record.teardown.leftovers } else { Leftovers::default() };
        let question = asked.filter(|_| answer.is_none() && record.outcome.is_none());
        let approval_url = match question {
            None => None,
            Some(_) => {
                let link = link_id(&self.parameters.key(&self.link_key_parameter).await?, &deployment.id);
                Some(format!("{}a/{link}", self.web_url))
            }
        };
        Ok(DeploymentStatus {
            id: deployment.id,
            action: deployment.action,
            account: deployment.target.account.to_string(),
            started_at: deployment.started_at,
            waits_for: record.waits_for,
            said: record.said,
            outcome: record.outcome,
            stack_status: record.stack_status,
            found: record.found,
            leftovers,
            events: events.unwrap_or_default(),
            review,
            approval_url,
            approval_wants: question
                .as_ref()
                .map(|asked| format!("{} of {}", asked.policy.required, asked.policy.who())),
            approval_progress: question.as_ref().and_then(Approval::progress),
            approval_verdict: match &answer {
                Some(DecisionError::Decided { verdict, .. }) => Some(*verdict),
                Some(_) | None => None,
            },
            approval_answer: answer.map(|answer| answer.to_string()),
            approval_until: question.map(|approval| approval.expires_at),
        })
    }
}

/// The environment of the job's own project that it names.
fn key(on: &On, claims: &JobClaims) -> EnvironmentKey {
    let On { application, stage, environment } = on.clone();
    EnvironmentKey { project: claims.project_id, application, stage, environment }
}

fn admitted(admission: Admission, claims: &JobClaims, machine: &str) -> Admitted {
    Admitted {
        admission: admission.id,
        environment: admission.environment,
        action: admission.action,
        pipeline_id: claims.pipeline_id,
        state_machine_arn: machine.to_owned(),
        upload: None,
        back: None,
        done_by: None,
    }
}
