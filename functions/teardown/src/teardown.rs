//! The first of the walls before a protected stack, then what the stack holds, and then the deletion.
//!
//! The order is what counts: nothing is emptied before everything is known that could keep the stack from being deleted.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use slipway_aws::parameters::Parameters;
use slipway_aws::store::Store;
use slipway_aws::target::{Behalf, BucketToEmpty, Page, RepositoryToEmpty, Stack, StackDescription, Targets, Visit};
use slipway_aws::{AwsError, Kind};
use slipway_domain::ErrorName;
use slipway_domain::change_set;
use slipway_domain::deployment::{
    Deployment, DeploymentRecord, DeploymentRef, Operation, OperationMark, Requester, Target,
};
use slipway_domain::entrance::{EntranceAsk, RoleSeen};
use slipway_domain::names::{EnvironmentKey, Region};
use slipway_domain::session_policy::Purpose;
use slipway_domain::stack_change::SKEW;
use slipway_domain::stack_status::{Entry, StackStatus};
use slipway_domain::stages::Refusal;
use slipway_domain::teardown::{self, Hindrance, Holding, Leftover, Next, Plan, TeardownPolicy, Then};
use slipway_handler::{Budget, Failure, Polled};

use crate::kept::kept;
use crate::survey::{Survey, leftover, survey};

/// How long one invocation goes on with emptying.
const EMPTYING: Duration = Duration::from_secs(60);
/// How much of the function's time one more page may take: up to a thousand uploads are aborted one after the other.
const PAGE: Duration = Duration::from_secs(40);
/// What the names of the log groups begin with that the cleanup role may look at.
const OWN_GROUPS: &str = "/aws/lambda/slipway-";

/// What the function works with.
pub(crate) struct Teardown {
    pub(crate) store: Store,
    pub(crate) targets: Targets,
    pub(crate) parameters: Parameters,
    pub(crate) stages_parameter: String,
    pub(crate) region: Region,
}

/// What a state machine, or `api`, asks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Input {
    /// To empty what has to be empty.
    Empty(DeploymentRef),
    /// To begin the deletion.
    Delete(DeploymentRef),
    /// What to do about a deletion that failed.
    Failed(DeploymentRef),
    /// To see, and where it is wanted to take away, what is left.
    Leftovers(DeploymentRef),
    /// What a teardown would do.
    Plan(Planned),
    /// Whether a stage's account lets us in, and only as it should: `slipway doctor` asks that.
    Entrance(EntranceAsk),
}

/// Whose teardown is planned.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Planned {
    environment: EnvironmentKey,
    /// Whether its stage is protected.
    protected: bool,
    policy: TeardownPolicy,
    requester: Requester,
}

/// An answer.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    Polled(Polled<State>),
    Plan(Box<Plan>),
    Entrance(Vec<RoleSeen>),
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// There is no stack.
    Absent,
    /// Something else is going on with it: ask again.
    Busy,
    /// There is more to empty: ask again.
    More,
    /// That is done.
    Done,
    /// CloudFormation deletes it.
    Deleting,
    /// The deletion is to be asked for once more.
    Again,
}

/// How the stack stands.
enum Stands {
    Absent,
    Busy(u32),
    There(StackDescription, StackStatus),
}

/// A stack that is there, and may go.
struct Doomed {
    record: DeploymentRecord,
    stack: Stack,
    root: StackDescription,
    status: StackStatus,
}

/// What is emptied.
enum Inside<'n> {
    Bucket(BucketToEmpty<'n>),
    Repository(RepositoryToEmpty<'n>),
}

impl Inside<'_> {
    async fn page(&mut self) -> Result<Page, Failure> {
        Ok(match self {
            Inside::Bucket(bucket) => bucket.page().await?,
            Inside::Repository(repository) => repository.page().await?,
        })
    }
}

fn polled(state: State, wait: u32) -> Result<Polled<State>, Failure> {
    Ok(Polled { state, wait })
}

impl Teardown {
    pub(crate) async fn handle(&self, input: Input, now: Timestamp, budget: Budget) -> Result<Answer, Failure> {
        match input {
            Input::Empty(reference) => self.empty(&reference, now, budget).await.map(Answer::Polled),
            Input::Delete(reference) => self.delete(&reference, now).await.map(Answer::Polled),
            Input::Failed(reference) => self.failed(&reference, now).await.map(Answer::Polled),
            Input::Leftovers(reference) => self.leftovers(&reference, now).await.map(Answer::Polled),
            Input::Plan(planned) => self.plan(&planned).await.map(|plan| Answer::Plan(Box::new(plan))),
            Input::Entrance(ask) => self.entrance(&ask).await.map(Answer::Entrance),
        }
    }

    /// The stack that is to be emptied or deleted; without one, the answer.
    async fn doomed(
        &self,
        reference: &DeploymentRef,
        now: Timestamp,
    ) -> Result<Result<Doomed, Polled<State>>, Failure> {
        let record = slipway_handler::hold(&self.store, reference, now).await?;
        self.may_go(&record.deployment, now).await?;
        let stack = self.targets.stack(&record.deployment, Purpose::Delete).await?;
        Ok(match self.stands(&record, &stack, now).await? {
            Stands::Absent => Err(Polled { state: State::Absent, wait: 0 }),
            Stands::Busy(wait) => Err(Polled { state: State::Busy, wait }),
            Stands::There(root, status) => Ok(Doomed { record, stack, root, status }),
        })
    }

    async fn empty(&self, reference: &DeploymentRef, now: Timestamp, budget: Budget) -> Result<Polled<State>, Failure> {
        let Doomed { record, stack, root, status } = match self.doomed(reference, now).await? {
            Ok(doomed) => doomed,
            Err(answer) => return Ok(answer),
        };
        let deployment = &record.deployment;
        if status == StackStatus::DeleteInProgress {
            // Whoever deletes it is ahead; if that fails, this step is here again.
            return polled(State::Done, 0);
        }
        let survey = self.unhindered(deployment, &stack, &root).await?;
        let emptied_until = record.teardown.emptied_until.as_deref();
        let to_empty = teardown::to_empty(&survey.resources, emptied_until);
        if to_empty.is_empty() && emptied_until.is_none() {
            return polled(State::Done, 0);
        }
        let since = record.teardown.emptying_since.unwrap_or(now);
        if now.duration_since(since) > deployment.timeout.duration() {
            let (stack, limit) = (&deployment.stack_name, deployment.timeout);
            let message =
                format!("the stack {stack} still holds objects or images after {limit}, the stage's time limit");
            return Err(Failure::new(ErrorName::StackTimedOut, message));
        }
        slipway_handler::note(&self.store, &record, |record| record.teardown.emptying_since = Some(since)).await?;
        // However long it took to look into the stack, each invocation gets at least a page further.
        let (began, time) = (Instant::now(), EMPTYING.min(budget.left().saturating_sub(PAGE)));
        let mut pages = 0_u32;
        for (place, resource) in to_empty {
            // What CloudFormation calls the resource now is what is emptied: it may have been made anew, or be gone.
            let current = stack.resource(&resource.stack_id, &resource.logical_id).await?;
            let same = current.filter(|current| {
                current.resource_type == resource.resource_type && current.physical_id == resource.physical_id
            });
            let Some(name) = same.and_then(|current| current.physical_id) else { continue };
            let visit = Visit::of(deployment);
            let (what, mut inside) = match resource.holding() {
                Holding::Bucket => ("bucket", Inside::Bucket(self.targets.bucket(&visit, &name).await?)),
                Holding::Repository => {
                    ("repository", Inside::Repository(self.targets.repository(&visit, &name).await?))
                }
                Holding::Function | Holding::Stack | Holding::Other => continue,
            };
            let mut any = false;
            loop {
                if pages > 0 && began.elapsed() >= time {
                    let sentence = format!("Emptying the {what} {name}: it holds much.");
                    slipway_handler::note(&self.store, &record, |record| record.say(&sentence)).await?;
                    return polled(State::More, 0);
                }
                pages += 1;
                // Each page anew: in the meantime the execution may have been stopped, and the lease may be another's.
                slipway_handler::not_ended(&slipway_handler::hold(&self.store, reference, now).await?)?;
                match inside.page().await? {
                    Page::Gone | Page::Empty => break,
                    Page::Emptied => any = true,
                }
            }
            let sentence = format!("Emptied the {what} {name}.");
            slipway_handler::note(&self.store, &record, |record| {
                record.teardown.emptied_until = Some(place.clone());
                if any {
                    record.say(&sentence);
                }
            })
            .await?;
        }
        // Whoever comes back looks into all of them again: by then, something may have been put there.
        slipway_handler::note(&self.store, &record, |record| record.teardown.emptied_until = None).await?;
        polled(State::Done, 0)
    }

    async fn delete(&self, reference: &DeploymentRef, now: Timestamp) -> Result<Polled<State>, Failure> {
        let Doomed { record, stack, root, status } = match self.doomed(reference, now).await? {
            Ok(doomed) => doomed,
            Err(answer) => return Ok(answer),
        };
        let deployment = &record.deployment;
        let going = status == StackStatus::DeleteInProgress;
        let then = record.teardown.then.clone().unwrap_or(Then { attempt: 1, ..Then::default() });
        let begun = record.operation.is_some() && record.teardown.attempt == then.attempt;
        let survey = if going { None } else { Some(self.unhindered(deployment, &stack, &root).await?) };
        let region = &deployment.target.region;
        let mark = OperationMark { what: Operation::Delete, stack_id: root.id.clone(), began_at: now };
        let noted = slipway_handler::note(&self.store, &record, |record| {
            let progress = &mut record.teardown;
            if !begun {
                record.operation = Some(mark.clone());
                progress.attempt = then.attempt;
                progress.emptying_since = None;
                progress.emptied_until = None;
            }
            let Some(survey) = &survey else { return };
            // What is deleted now cannot be asked later.
            survey.retained(region).into_iter().for_each(|left| progress.leftovers.retain(left));
            let without =
                survey.resources.iter().filter(|one| one.path.is_empty() && then.retain.contains(&one.logical_id));
            without.filter_map(|one| leftover(one, region)).for_each(|left| progress.leftovers.retain(left));
            for group in survey.log_groups() {
                if !progress.log_groups.contains(&group) && progress.log_groups.len() < teardown::MAX_KEPT {
                    progress.log_groups.push(group);
                }
            }
        })
        .await?;
        slipway_handler::still_ours(&self.store, reference, &noted, now).await?;
        if going && begun {
            return polled(State::Deleting, 0);
        }
        // CloudFormation takes neither of the two for a stack that it has not failed to delete.
        let then = if status == StackStatus::DeleteFailed { then } else { Then::default() };
        stack.delete_as(&root.id, &noted.request_token(&mark), &then).await?;
        polled(State::Deleting, 0)
    }

    async fn failed(&self, reference: &DeploymentRef, now: Timestamp) -> Result<Polled<State>, Failure> {
        let record = slipway_handler::hold(&self.store, reference, now).await?;
        let deployment = &record.deployment;
        let progress = &record.teardown;
        let decided = teardown::next(progress, deployment.teardown.blocked, deployment.timeout.duration(), now);
        let Next::Again { then, wait } = decided else {
            let why = progress.failed.as_ref().map(|failed| failed.message.clone()).unwrap_or_default();
            return Err(Failure::new(ErrorName::StackFailed, why));
        };
        let sentence = if then.waits {
            "Network interfaces are still in use: waiting until Lambda gives them back.".to_owned()
        } else if then.force {
            "CloudFormation is told to keep what it cannot delete, and what that depends on.".to_owned()
        } else if then.retain.is_empty() {
            "Something could not be deleted: trying once more.".to_owned()
        } else {
            format!("Going on without what cannot be deleted: {}.", then.retain.join(", "))
        };
        slipway_handler::note(&self.store, &record, |record| {
            let progress = &mut record.teardown;
            if progress.then.as_ref() != Some(&then) {
                progress.waited += u32::from(then.waits);
                progress.then = Some(then.clone());
            }
            record.say(&sentence);
        })
        .await?;
        polled(State::Again, wait)
    }

    async fn leftovers(&self, reference: &DeploymentRef, now: Timestamp) -> Result<Polled<State>, Failure> {
        let record = slipway_handler::hold(&self.store, reference, now).await?;
        let deployment = &record.deployment;
        let region = &deployment.target.region;
        let mut left = record.teardown.leftovers.clone();
        let mut groups = record.teardown.log_groups.clone();
        if let Some(mark) = &record.operation {
            // A deleted stack answers by its id. It tells itself what it went without, in whichever deletion.
            let stack = self.targets.stack(deployment, Purpose::Plan).await?;
            let since = deployment.started_at - SKEW;
            let kept = kept(&stack, &mark.stack_id, since, &left.retained, region).await?;
            kept.resources.into_iter().for_each(|leftover| left.retain(leftover));
            groups.retain(|group| !kept.log_groups.contains(group));
        }
        let (own, others): (Vec<String>, Vec<String>) =
            groups.into_iter().partition(|name| name.starts_with(OWN_GROUPS));
        let visit = Visit::of(deployment);
        let mut trouble = None;
        let mut there = own.clone();
        if !own.is_empty() {
            match self.targets.log_groups(&visit, &own).await {
                Ok(found) => there = found,
                Err(error) => trouble = Some(passed(error)?),
            }
        }
        if deployment.purge_logs && trouble.is_none() && !there.is_empty() {
            slipway_handler::still_ours(&self.store, reference, &record, now).await?;
            match self.targets.delete_log_groups(&visit, &there).await {
                Ok(()) => left.purged = std::mem::take(&mut there),
                Err(error) => trouble = Some(passed(error)?),
            }
        }
        left.log_groups = there.iter().chain(&others).map(|name| Leftover::log_group(name, region)).collect();
        slipway_handler::note(&self.store, &record, |record| {
            record.teardown.leftovers = left.clone();
            if let Some(trouble) = &trouble {
                record.say(&format!("The stack is gone; of its log groups not all is known: {trouble}"));
            }
        })
        .await?;
        polled(State::Done, 0)
    }

    async fn plan(&self, planned: &Planned) -> Result<Plan, Failure> {
        let Planned { environment, policy, requester, .. } = planned;
        let known = self.store.environment(environment).await?;
        let known =
            known.ok_or_else(|| Failure::new(ErrorName::NotFound, format!("there is no environment {environment}")))?;
        let protected = planned.protected || known.target.protected;
        let target = Target { protected, ..known.target };
        let name = format!("slipway-plan-{}", requester.job_id);
        let visit = Visit { name, target: &target, environment, behalf: Behalf::Requester(requester) };
        let stack = self.targets.stack_for(&visit, &known.stack_name, Purpose::Plan).await?;
        let root = stack.describe(None).await?.filter(|root| root.status != StackStatus::DeleteComplete.as_str());
        let mut plan = Plan {
            environment: environment.clone(),
            stack_name: known.stack_name,
            stack_status: root.as_ref().map(|root| root.status.clone()),
            target: target.clone(),
            hindrances: if protected { vec![Hindrance::Protected] } else { Vec::new() },
            resources: Vec::new(),
            log_groups: Vec::new(),
        };
        if let Some(root) = root {
            let survey = survey(&stack, &root, policy, protected).await?;
            plan.hindrances = survey.hindrances(&stack, &root, protected).await?;
            plan.log_groups = survey.log_groups();
            plan.resources = survey.resources;
        }
        Ok(plan)
    }

    async fn entrance(&self, ask: &EntranceAsk) -> Result<Vec<RoleSeen>, Failure> {
        let environment =
            ask.environment().map_err(|error| Failure::new(ErrorName::InvalidRequest, error.to_string()))?;
        let stages = slipway_handler::stages(&self.parameters, &self.stages_parameter).await?;
        let stage = stages.get(&ask.stage)?;
        let target = Target { account: stage.account.clone(), region: self.region.clone(), protected: stage.protected };
        let name = "slipway-doctor".to_owned();
        let visit = Visit { name, target: &target, environment: &environment, behalf: Behalf::Doctor };
        Ok(self.targets.entrance(&visit, &environment.stack_name()).await?)
    }

    /// What the rules say before anything of the stack is looked at.
    async fn may_go(&self, deployment: &Deployment, now: Timestamp) -> Result<(), Failure> {
        if deployment.target.protected {
            return Err(Refusal::Protected(deployment.environment.stage.clone()).into());
        }
        if deployment.requester.is_none() {
            self.check_still_expired(deployment, now).await?;
        }
        Ok(())
    }

    async fn stands(&self, record: &DeploymentRecord, stack: &Stack, now: Timestamp) -> Result<Stands, Failure> {
        let root = stack.describe(None).await?;
        let Some(root) = root.filter(|root| root.status != StackStatus::DeleteComplete.as_str()) else {
            return Ok(Stands::Absent);
        };
        let status = StackStatus::parse(&root.status)?;
        if status.entry(false) == Entry::Busy && status != StackStatus::DeleteInProgress {
            let since = record.busy_since.unwrap_or(now);
            if let Some(error) = change_set::busy_for_too_long(&record.deployment, status, since, now) {
                return Err(error.into());
            }
            return Ok(Stands::Busy(slipway_handler::wait_for_idle(&self.store, record, now).await?));
        }
        Ok(Stands::There(root, status))
    }

    /// What is in the stack `root`, if nothing keeps it from being deleted.
    async fn unhindered(
        &self,
        deployment: &Deployment,
        stack: &Stack,
        root: &StackDescription,
    ) -> Result<Survey, Failure> {
        let survey = survey(stack, root, &deployment.teardown, false).await?;
        let Some(hindrance) = survey.hindrances(stack, root, false).await?.into_iter().next() else {
            return Ok(survey);
        };
        let Deployment { environment, stack_name, target, .. } = deployment;
        let advice = teardown::advice(&hindrance, environment, stack_name, target);
        Err(Failure::new(ErrorName::StackNeedsRepair, advice))
    }

    /// `sweep` read that the environment expired before this deployment had the lease: it may have been deployed since.
    async fn check_still_expired(&self, deployment: &Deployment, now: Timestamp) -> Result<(), Failure> {
        let environment = self.store.environment(&deployment.environment).await?;
        if environment.is_some_and(|known| known.is_expired(now)) {
            return Ok(());
        }
        let message = format!("{} was deployed again, and is not expired any more", deployment.environment);
        Err(Failure::new(ErrorName::Superseded, message))
    }
}

/// The stack is gone: what cannot be known or taken away any more is said, and fails nothing. What can be a little later is tried again.
fn passed(error: AwsError) -> Result<AwsError, Failure> {
    match error.kind {
        Kind::Throttled | Kind::Unavailable => Err(error.into()),
        Kind::Denied | Kind::NotFound | Kind::Conflict | Kind::Refused => Ok(error),
    }
}
