//! The questions of a job.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use slipway_aws::announcements::Bus;
use slipway_aws::bucket::Bucket;
use slipway_aws::functions::Function;
use slipway_aws::parameters::Parameters;
use slipway_aws::store::Store;
use slipway_domain::ErrorName;
use slipway_domain::admission::{self, Admission, AdmissionError};
use slipway_domain::announcement::EnvironmentKept;
use slipway_domain::audit::{Act, Actor, Entry};
use slipway_domain::claims::JobClaims;
use slipway_domain::deployment::{Back, DeploymentId};
use slipway_domain::expiry::KeepError;
use slipway_domain::lease::Holder;
use slipway_domain::names::{Digest, EnvironmentKey};
use slipway_domain::protocol::{
    Admitted, Ask, DeployRequest, KeepRequest, KeptUntil, MAX_BUNDLE_BYTES, MAX_REQUEST_BYTES, On, PlanRequest,
    RepairRequest, Request, RollbackRequest, TeardownRequest, UnlockRequest, Unlocked, Upload,
};
use slipway_domain::registry::{self, Selection};
use slipway_domain::release::{bundle_key, possession_key};
use slipway_domain::stages::{Refusal, Stages};
use slipway_domain::teardown::Plan;
use slipway_handler::Failure;
use slipway_identity::Verifier;
use slipway_registry::Registry;

/// How many environments of an application are looked at in one request to the table.
const LISTED: i32 = 200;

/// What the function works with.
pub(crate) struct Api {
    pub(crate) store: Store,
    pub(crate) bus: Bus,
    pub(crate) bucket: Bucket,
    pub(crate) parameters: Parameters,
    pub(crate) verifier: Verifier,
    /// Whether people can sign in in the browser.
    pub(crate) sign_in: bool,
    pub(crate) stages_parameter: String,
    pub(crate) deploy_machine: String,
    pub(crate) teardown_machine: String,
    pub(crate) teardown_function: Function,
    /// Answers the questions that change nothing.
    pub(crate) registry: Registry,
}

/// An answer.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    Admitted(Box<Admitted>),
    Unlocked(Box<Unlocked>),
    Kept(Box<KeptUntil>),
    Seen(slipway_registry::Answer),
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
            Ask::Keep(keep) => self.keep(&keep, &claims, now).await.map(|kept| Answer::Kept(Box::new(kept))),
            Ask::Look(question) => self.registry.answer(Some(claims.project_id), question, now).await.map(Answer::Seen),
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
        let mut admission = admission::deploy(request, claims, &stages, now);
        if let Ok(admitted) = &admission
            && let Err(full) = self.room(&stages, &admitted.environment, now).await?
        {
            admission = Err(full.into());
        }
        let admission = self.on_record("deploy", &request.on, claims, now, admission).await?;
        let admission = self.store.admit(&admission).await?;
        let upload = self.upload(request, &admission).await?;
        let done_by = self.done_by(&admission).await?;
        Ok(Admitted { upload, done_by, ..admitted(admission, claims, &self.deploy_machine) })
    }

    /// Whether there is room for an environment that is not there yet: by the index, so that two that come at once may both find it.
    async fn room(
        &self,
        stages: &Stages,
        key: &EnvironmentKey,
        now: Timestamp,
    ) -> Result<Result<(), Refusal>, Failure> {
        let stage = stages.get(&key.stage)?;
        if stage.max_environments.is_none()
            || self.store.environment(key).await?.as_ref().is_some_and(registry::is_there)
        {
            return Ok(Ok(()));
        }
        let selection = Selection {
            project: Some(key.project),
            application: Some(key.application.clone()),
            stage: Some(key.stage.clone()),
            ..Selection::default()
        };
        let (mut there, mut unread, mut page) = (Vec::new(), 0, None);
        loop {
            let list = self.store.list(&selection, page.as_ref(), LISTED).await?;
            there.extend(list.environments);
            unread += list.unreadable.len();
            page = match list.next {
                Some(next) => Some(next),
                None => return Ok(registry::room(&key.stage, stage, key, &there, unread, now)),
            };
        }
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

    async fn keep(&self, request: &KeepRequest, claims: &JobClaims, now: Timestamp) -> Result<KeptUntil, Failure> {
        let stages = slipway_handler::stages(&self.parameters, &self.stages_parameter).await?;
        let admitted = admission::keep(request, claims, &stages, now);
        let (by, keeping) = self.on_record("keep", &request.on, claims, now, admitted).await?;
        let key = key(&request.on, claims);
        let kept = self.store.update_environment_recording(&key, |current| {
            let current = current.ok_or_else(|| KeepError::Absent(key.clone()))?;
            let next = keeping.keep(current, now)?;
            let entry = Entry {
                act: Act::Kept { how: keeping.how(), until: next.lives_until() },
                by: Actor::Job(by.clone()),
                reason: keeping.reason().map(str::to_owned),
                deployment: None,
                at: now,
            };
            Ok::<_, KeepError>(Some((next, entry)))
        });
        let kept = kept.await?.ok_or_else(|| KeepError::Absent(key.clone()))?;
        // Telling people fails nothing.
        if let Err(error) = self.bus.tell(&EnvironmentKept::new(&kept, &by.user_login, now)).await {
            tracing::error!(environment = %key, %error, "nobody was told how long it lives");
        }
        let until = kept.lives_until();
        Ok(KeptUntil { environment: key, until, expires_at: kept.expires_at, pin: kept.pin })
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
