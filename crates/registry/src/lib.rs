//! The questions that change nothing, answered from the table and the bucket: for a job about its own project (`api`), and for a
//! person about any (`reader`).

use jiff::Timestamp;
use serde::Serialize;
use slipway_aws::bucket::{Bucket, TOO_LARGE};
use slipway_aws::parameters::Parameters;
use slipway_aws::store::Store;
use slipway_domain::ErrorName;
use slipway_domain::approval::{Approval, DecisionError, link_id};
use slipway_domain::cause::StackEvent;
use slipway_domain::deployment::{DeploymentId, DeploymentRecord, Ending};
use slipway_domain::environment::Environment;
use slipway_domain::lease::Holder;
use slipway_domain::names::{EnvironmentKey, ProjectId};
use slipway_domain::protocol::{
    AuditPage, AuditRequest, DeploymentStatus, EnvironmentsPage, EnvironmentsRequest, HistoryPage, HistoryRequest,
    MAX_HISTORY, On, Question, Status, StatusRequest,
};
use slipway_domain::registry::{self, Listed, Past, Selection, Waits, Why};
use slipway_domain::release::{events_key, review_key};
use slipway_domain::review::Review;
use slipway_domain::teardown::Leftovers;
use slipway_handler::Failure;

/// The most bytes of a review or of events that an answer carries: a Lambda answer holds 6 MB.
const MAX_SHOWN_BYTES: u64 = 2 * 1024 * 1024;
/// How many audit rows an answer carries at the most: each has some kilobytes.
const AUDIT_ROWS: i32 = 200;
/// How many environments are looked at for an answer. One is listed in about a kilobyte.
const LISTED: i32 = 100;
/// How many deployments an answer carries where nobody says how many.
const HISTORY: u16 = 20;

/// Where people decide, for who may know.
#[derive(Debug, Clone)]
pub struct Links {
    /// The parameter store.
    pub parameters: Parameters,
    /// The name of the parameter with the key of the links.
    pub key_parameter: String,
    /// The address of the function `web`, with a slash at its end.
    pub web_url: String,
}

impl Links {
    async fn link(&self, id: &DeploymentId) -> Result<String, Failure> {
        let link = link_id(&self.parameters.key(&self.key_parameter).await?, id);
        Ok(format!("{}a/{link}", self.web_url))
    }
}

/// An answer.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// How an environment stands.
    Status(Box<Status>),
    /// What is recorded of it.
    Audit(Box<AuditPage>),
    /// Which environments there are.
    Environments(Box<EnvironmentsPage>),
    /// What was done to one.
    History(Box<HistoryPage>),
    /// What it waits for.
    Why(Box<Why>),
}

/// Answers.
#[derive(Debug, Clone)]
pub struct Registry {
    store: Store,
    bucket: Bucket,
    links: Option<Links>,
}

impl Registry {
    /// From this table and this bucket. Without `links`, nobody is told where people decide.
    #[must_use]
    pub fn new(store: Store, bucket: Bucket, links: Option<Links>) -> Self {
        Self { store, bucket, links }
    }

    /// Answers `question` about `project`; a list may be about all projects.
    ///
    /// # Errors
    /// [`ErrorName::NotFound`], when what it is about is not there; [`ErrorName::InvalidRequest`], when it does not say of which
    /// project, or a list is to go on where it cannot; and what AWS says.
    pub async fn answer(
        &self,
        project: Option<ProjectId>,
        question: Question,
        now: Timestamp,
    ) -> Result<Answer, Failure> {
        let key = |on: On| match project {
            Some(project) => {
                let On { application, stage, environment } = on;
                Ok(EnvironmentKey { project, application, stage, environment })
            }
            None => {
                let message = "it takes the project's number to know which environment is meant";
                Err(Failure::new(ErrorName::InvalidRequest, message))
            }
        };
        Ok(match question {
            Question::Status(StatusRequest { on, deployment }) => {
                Answer::Status(Box::new(self.status(key(on)?, deployment.as_ref(), now).await?))
            }
            Question::Audit(AuditRequest { on, after }) => Answer::Audit(Box::new(self.audit(key(on)?, after).await?)),
            Question::Environments(request) => {
                Answer::Environments(Box::new(self.environments(project, request, now).await?))
            }
            Question::History(HistoryRequest { on, before, limit }) => {
                let limit = limit.unwrap_or(HISTORY).clamp(1, MAX_HISTORY);
                Answer::History(Box::new(self.history(key(on)?, before.as_ref(), limit).await?))
            }
            Question::Why(request) => Answer::Why(Box::new(self.why(key(request.on)?, now).await?)),
        })
    }

    async fn environment(&self, key: &EnvironmentKey) -> Result<Environment, Failure> {
        self.store.environment(key).await?.ok_or_else(|| not_found(format!("there is no environment {key}")))
    }

    async fn audit(&self, environment: EnvironmentKey, after: u64) -> Result<AuditPage, Failure> {
        let (rows, head) = self.store.audit(&environment, after, AUDIT_ROWS).await?;
        Ok(AuditPage { environment, rows, head })
    }

    async fn environments(
        &self,
        project: Option<ProjectId>,
        request: EnvironmentsRequest,
        now: Timestamp,
    ) -> Result<EnvironmentsPage, Failure> {
        let EnvironmentsRequest { application, stage, state, expiring, gone, page } = request;
        let expiring_by = expiring.map(|span| now + span.duration());
        let selection = Selection { project, application, stage, state, expiring_by, gone };
        if let Some(page) = &page {
            selection.check(page)?;
        }
        let list = self.store.list(&selection, page.as_ref(), LISTED).await?;
        let environments = list.environments.iter().map(|environment| Listed::of(environment, now)).collect();
        let version = Some(env!("CARGO_PKG_VERSION").to_owned());
        Ok(EnvironmentsPage { environments, unreadable: list.unreadable, next: list.next, version })
    }

    async fn history(
        &self,
        environment: EnvironmentKey,
        before: Option<&DeploymentId>,
        limit: u16,
    ) -> Result<HistoryPage, Failure> {
        let list = self.store.deployments(&environment, before, i32::from(limit)).await?;
        if list.records.is_empty() && list.unreadable.is_empty() && before.is_none() {
            return Err(not_found(format!("there is no deployment of {environment}")));
        }
        let deployments = list.records.iter().map(Past::of).collect();
        Ok(HistoryPage { environment, deployments, unreadable: list.unreadable, next: list.next })
    }

    async fn why(&self, key: EnvironmentKey, now: Timestamp) -> Result<Why, Failure> {
        let environment = self.environment(&key).await?;
        let shown = match environment.last() {
            None => None,
            Some(id) => self.store.deployment(&key, id).await?,
        };
        let owner = self.store.lease(&key).await?.and_then(|lease| lease.owner);
        let owner = match owner {
            None => None,
            Some(owner) => self.store.deployment(&key, &owner).await?.filter(|owner| owner.outcome.is_none()),
        };
        let goes_on = shown.as_ref().is_some_and(|shown| shown.outcome.is_none());
        // What began last may have ended, as superseded for one, while an older one is at work.
        let record = match &owner {
            Some(owner) if !goes_on => Some(owner),
            Some(_) | None => shown.as_ref(),
        };
        let approval = match record.and_then(|record| record.approval.as_ref()) {
            None => None,
            Some(id) => self.store.approval(id).await?,
        };
        let mine = record.map(|record| &record.deployment.id);
        let holder = owner.as_ref().filter(|owner| Some(&owner.deployment.id) != mine).map(Holder::of);
        let mut why = registry::why(&environment, record, holder, approval.as_ref(), now);
        if let (Some(Waits::People { url, .. }), Some(links), Some(id)) = (&mut why.waits, &self.links, mine) {
            *url = Some(links.link(id).await?);
        }
        Ok(why)
    }

    async fn status(
        &self,
        key: EnvironmentKey,
        deployment: Option<&DeploymentId>,
        now: Timestamp,
    ) -> Result<Status, Failure> {
        let environment = self.environment(&key).await?;
        let deployment = match deployment.or(environment.last()) {
            None => None,
            Some(id) => {
                let record = self.store.deployment(&key, id).await?;
                let record = record.ok_or_else(|| not_found(format!("there is no deployment {id} of {key}")))?;
                Some(self.deployment_status(&key, record, now).await?)
            }
        };
        Ok(Status {
            dns_label: key.dns_label(),
            environment: key,
            expires_at: environment.lives_until(),
            expired_because: environment.expired_because.clone(),
            pin: environment.pinned(now).cloned(),
            stack_name: environment.stack_name,
            state: environment.state,
            release: environment.release,
            commit: environment.commit,
            ref_name: environment.ref_name,
            deployed_by: environment.deployed_by,
            deployed_at: environment.deployed_at,
            url: environment.url,
            outputs: environment.outputs,
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
        let approval_url = match (&question, &self.links) {
            (Some(_), Some(links)) => Some(links.link(&deployment.id).await?),
            (Some(_) | None, _) => None,
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

fn not_found(what: String) -> Failure {
    Failure::new(ErrorName::NotFound, what)
}
