//! Does what is due: ends questions that nobody answered, hands on answers that were lost, tells people whose environment expires soon,
//! has the end of deployments recorded whose execution died unseen, and starts the teardown of what expired. It asks the index what is due
//! and looks at nothing else; whatever it starts twice happens once; what it does not get to, the next run does.

use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use serde_json::json;
use slipway_aws::announcements::Bus;
use slipway_aws::functions::Function;
use slipway_aws::machines::{EndedExecution, Machines};
use slipway_aws::store::{DUE_PARTITIONS, Due as Found, Store};
use slipway_domain::ErrorName;
use slipway_domain::admission::Admission;
use slipway_domain::announcement::{EnvironmentExpiring, SweepStopped};
use slipway_domain::approval::Void;
use slipway_domain::deployment::DeploymentId;
use slipway_domain::environment::{Environment, Waiting};
use slipway_domain::expiry::{Due, Lead};
use slipway_domain::names::EnvironmentKey;
use slipway_domain::protocol::ExecutionInput;
use slipway_domain::sweep::{Census, Doomed, Limits, MAX_PLANNED, Stopped, SweepAsk, SweepState, Swept};
use slipway_handler::{Budget, Failure};

use crate::branches::AskGitLab;
use crate::collect::Collect;

/// The most teardowns that one sweep starts: CloudFormation has its limits, and the next run goes on.
const MOST_TEARDOWNS: usize = 500;
/// How many teardowns are started at the same time.
const AT_ONCE: usize = 8;
/// What has to be left of the function's time for it to go on: more than one environment takes.
const RESERVE: Duration = Duration::from_secs(30);

/// How much of what is left the count of all environments takes at the most: a third.
const COUNTS: u32 = 3;

/// How long GitLab is asked about branches in one run, at the most.
const ASKS: Duration = Duration::from_secs(60);

/// What the function works with.
pub(crate) struct Sweep {
    pub(crate) store: Store,
    pub(crate) machines: Machines,
    pub(crate) bus: Bus,
    pub(crate) settle: Function,
    pub(crate) teardown_machine: String,
    pub(crate) limits: Limits,
    pub(crate) collect: Collect,
    /// Nothing where there is no token to ask GitLab with.
    pub(crate) ask_gitlab: Option<AskGitLab>,
}

/// What one look at the index found, besides what was done about it at once.
#[derive(Default)]
struct Look {
    swept: Swept,
    /// What may be torn down whatever else is: somebody said so, or it was begun before.
    cleared: Vec<Doomed>,
    /// What may be, if it is not too much.
    fresh: Vec<Doomed>,
    /// How much of it there is.
    expired: u64,
}

impl Look {
    fn count(&mut self, key: &EnvironmentKey, done: Result<(), Failure>, of: fn(&mut Swept) -> &mut u64) {
        match done {
            Ok(()) => *of(&mut self.swept) += 1,
            // One that cannot be helped does not keep the others waiting.
            Err(failure) => {
                tracing::error!(environment = %key, error = %failure.name, message = failure.message);
                self.swept.failed += 1;
            }
        }
    }

    fn doom(
        &mut self,
        environment: &Environment,
        expired_at: Timestamp,
        state: &SweepState,
        now: Timestamp,
        most: usize,
    ) {
        let doomed =
            Doomed { environment: environment.key.clone(), expired_at, failures: environment.failed_teardowns };
        let cleared = doomed.failures > 0 || state.is_confirmed(expired_at, now);
        self.expired += u64::from(!cleared);
        let list = if cleared { &mut self.cleared } else { &mut self.fresh };
        if list.len() < most {
            list.push(doomed);
        }
    }
}

impl Sweep {
    pub(crate) async fn handle(&self, ask: SweepAsk, now: Timestamp, budget: Budget) -> Result<Swept, Failure> {
        match ask {
            SweepAsk::Sweep {} => self.sweep(now, budget).await,
            SweepAsk::Plan {} => self.plan(now, budget).await,
            SweepAsk::Confirm { stopped_at } => {
                self.store.update_sweep_state(|state| state.confirm(stopped_at, now)).await?;
                self.sweep(now, budget).await
            }
        }
    }

    async fn sweep(&self, now: Timestamp, budget: Budget) -> Result<Swept, Failure> {
        let mut state = self.store.sweep_state().await?;
        let counted = state.wants_census(now);
        let counted = if counted { self.count(now, budget).await } else { Ok(None) };
        if let Ok(Some(census)) = &counted {
            let remembered = self.store.update_sweep_state(|state| {
                Ok::<_, Infallible>(SweepState { census: Some(census.clone()), ..state.clone() })
            });
            (_, state) = remembered.await?;
        }
        let mut look = self.look(&state, now, budget, MOST_TEARDOWNS, true).await?;
        if let Err(failure) = &counted {
            missed(&mut look.swept, "the environments are not counted", failure);
        }
        if let Ok(Some(_)) = &counted {
            look.swept.environments = state.census.as_ref().map(|census| census.stages.clone()).unwrap_or_default();
        }
        // Who did not get to all of it cannot say that nothing is expired any more.
        let unseen = look.swept.unfinished && look.expired == 0;
        let (_, state) = self
            .store
            .update_sweep_state(|state| {
                let unchanged = unseen && state.stopped.is_some();
                Ok::<_, Infallible>(if unchanged {
                    state.clone()
                } else {
                    state.judged(look.expired, self.limits, now)
                })
            })
            .await?;
        if let Some(stopped) = state.to_tell() {
            self.tell_stopped(stopped).await?;
        }
        look.swept.stopped = state.stopped;
        match &look.swept.stopped {
            Some(stopped) => {
                look.swept.held_back = look.expired;
                tracing::error!(%stopped, "nothing is deleted until a person has looked: slipway sweep --dry-run");
            }
            // What was seen of all that is due may be little enough, and all of it too much.
            None if look.swept.unfinished => {
                tracing::warn!(
                    expired = look.expired,
                    "not all that is due was seen: what is newly expired waits for the next run"
                );
            }
            None => look.cleared.append(&mut look.fresh),
        }
        let doomed = std::mem::take(&mut look.cleared);
        let mut begun = futures::stream::iter(doomed)
            .map(|doomed| async move {
                let started = if budget.left() < RESERVE { None } else { Some(self.tear_down(&doomed, now).await) };
                (doomed.environment, started)
            })
            .buffer_unordered(AT_ONCE);
        while let Some((key, started)) = begun.next().await {
            match started {
                Some(started) => look.count(&key, started, |swept| &mut swept.teardowns),
                None => look.swept.unfinished = true,
            }
        }
        drop(begun);
        let mut swept = look.swept;
        if let Some(ask_gitlab) = &self.ask_gitlab
            && let Some(left) = time_left(&mut swept, budget)
        {
            match ask_gitlab.run(now, left.min(ASKS)).await {
                Ok(asked) => swept.branches = asked,
                Err(failure) => missed(&mut swept, "GitLab is not asked", &failure),
            }
        }
        if let Some(left) = time_left(&mut swept, budget) {
            match self.collect.run(now, left, false).await {
                Ok(collected) => swept.garbage = collected,
                Err(failure) => missed(&mut swept, "no garbage is collected", &failure),
            }
        }
        Ok(swept)
    }

    /// Counts the environments, for as long as leaves enough time for all else. Who is not done by then has counted nothing: the last
    /// count holds, and the next run tries again.
    async fn count(&self, now: Timestamp, budget: Budget) -> Result<Option<Census>, Failure> {
        let within = budget.left().saturating_sub(RESERVE) / COUNTS;
        match tokio::time::timeout(within, self.store.census()).await {
            Ok(stages) => Ok(Some(Census::new(stages?, now))),
            Err(_) => {
                tracing::warn!(?within, "there is no time to count the environments: the last count holds");
                Ok(None)
            }
        }
    }

    /// What a sweep would do now, without anything of it.
    async fn plan(&self, now: Timestamp, budget: Budget) -> Result<Swept, Failure> {
        let state = self.store.sweep_state().await?;
        let look = self.look(&state, now, budget, MAX_PLANNED, false).await?;
        let stopped = state.judged(look.expired, self.limits, now).stopped;
        let held_back = if stopped.is_some() { look.expired } else { 0 };
        let teardowns = u64::try_from(look.cleared.len()).unwrap_or(u64::MAX) + look.expired - held_back;
        let plan = look.cleared.into_iter().chain(look.fresh).take(MAX_PLANNED).collect();
        let mut swept = Swept { teardowns, held_back, stopped, plan, ..look.swept };
        if let Some(ask_gitlab) = &self.ask_gitlab
            && let Some(left) = time_left(&mut swept, budget)
        {
            match ask_gitlab.plan(now, left.min(ASKS)).await {
                Ok((asked, all)) => {
                    swept.branches = asked;
                    swept.unfinished |= !all;
                }
                Err(failure) => missed(&mut swept, "GitLab is not asked", &failure),
            }
        }
        if let Some(left) = time_left(&mut swept, budget) {
            match self.collect.run(now, left, true).await {
                Ok(collected) => swept.garbage = collected,
                Err(failure) => missed(&mut swept, "no garbage would be collected", &failure),
            }
        }
        Ok(swept)
    }

    /// Goes through all that is due. Whatever deletes nothing is done at once, if anything is to be `done`.
    async fn look(
        &self,
        state: &SweepState,
        now: Timestamp,
        budget: Budget,
        most: usize,
        done: bool,
    ) -> Result<Look, Failure> {
        let mut look = Look::default();
        for partition in DUE_PARTITIONS {
            let mut after = None;
            loop {
                if budget.left() < RESERVE {
                    look.swept.unfinished = true;
                    return Ok(look);
                }
                let page = self.store.due(partition, now, after.take()).await?;
                for due in page.due {
                    if budget.left() < RESERVE {
                        look.swept.unfinished = true;
                        return Ok(look);
                    }
                    match due {
                        Ok(Found::Environment(environment)) => {
                            self.environment(&mut look, &environment, state, now, most, done).await;
                        }
                        Ok(Found::Answer(approval)) if done => {
                            let delivered = slipway_handler::deliver(&self.store, &self.machines, &approval).await;
                            look.count(&approval.deployment.environment, delivered, |swept| &mut swept.answers);
                        }
                        Ok(Found::Answer(_)) => look.swept.answers += 1,
                        Err(error) => {
                            tracing::error!(%error, partition, "what is due cannot be read");
                            look.swept.failed += 1;
                        }
                    }
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(look)
    }

    async fn environment(
        &self,
        look: &mut Look,
        environment: &Environment,
        state: &SweepState,
        now: Timestamp,
        most: usize,
        done: bool,
    ) {
        let key = &environment.key;
        let mut looked = false;
        for due in environment.due(now) {
            match due {
                Due::ExpireApproval(waiting) => {
                    let expired = if done { self.expire(environment, &waiting, now).await } else { Ok(()) };
                    look.count(key, expired, |swept| &mut swept.expired_approvals);
                }
                Due::Warn { lead, .. } => {
                    let warned = if done { self.warn(environment, lead, now).await } else { Ok(()) };
                    look.count(key, warned, |swept| &mut swept.warnings);
                }
                Due::Look(deployment) => {
                    looked = true;
                    match if done { self.settle(key, &deployment).await } else { Ok(false) } {
                        Ok(false) => {}
                        Ok(true) => look.swept.settled += 1,
                        Err(failure) => look.count(key, Err(failure), |swept| &mut swept.settled),
                    }
                }
                Due::Teardown { expired_at } => look.doom(environment, expired_at, state, now, most),
            }
        }
        if looked && done {
            let noted = self
                .store
                .update_environment(key, |current| Ok::<_, Infallible>(current.unwrap_or(environment).looked(now)));
            if let Err(failure) = noted.await.map_err(Failure::from) {
                look.count(key, Err(failure), |swept| &mut swept.settled);
            }
        }
    }

    async fn expire(&self, environment: &Environment, waiting: &Waiting, now: Timestamp) -> Result<(), Failure> {
        let why = format!("nobody decided until {:.0}", waiting.until);
        let void = Void { error: ErrorName::ApprovalExpired, why, at: now };
        if let Some(approval) = self.store.void_approval(&waiting.approval, &void).await? {
            slipway_handler::deliver(&self.store, &self.machines, &approval).await?;
        }
        let cleared = self.store.update_environment(&environment.key, |current| {
            let mut current = current.unwrap_or(environment).clone();
            current.waiting = current.waiting.filter(|other| other != waiting);
            Ok::<_, Infallible>(current)
        });
        cleared.await?;
        Ok(())
    }

    async fn warn(&self, environment: &Environment, lead: Lead, now: Timestamp) -> Result<(), Failure> {
        self.bus.tell(&EnvironmentExpiring::new(environment, lead, now)).await?;
        let warned = self.store.update_environment(&environment.key, |current| {
            let current = current.unwrap_or(environment);
            // It may live for longer by now, and then has its own warnings.
            let same = current.lives_until() == environment.lives_until();
            Ok::<_, Infallible>(if same { current.warned(lead) } else { current.clone() })
        });
        warned.await?;
        Ok(())
    }

    /// Has the end of a deployment recorded whose execution ended and nobody noticed. Whether it had.
    async fn settle(&self, key: &EnvironmentKey, deployment: &DeploymentId) -> Result<bool, Failure> {
        let Some(record) = self.store.deployment(key, deployment).await? else {
            // There is nothing to record its end on, today or ever.
            self.close(key, deployment).await?;
            tracing::warn!(environment = %key, %deployment, "there is no row of a deployment that was under way");
            return Ok(true);
        };
        let deployment = record.deployment;
        let Some(EndedExecution { status, error, cause }) = self.machines.ended(&deployment.execution_arn).await?
        else {
            return Ok(false);
        };
        let error = error.unwrap_or_else(|| format!("Execution.{status}"));
        let end = json!({
            "deployment": {"environment": key, "id": deployment.id},
            "end": {"failed": {"Error": error, "Cause": cause}},
        });
        self.settle.send(&end).await?;
        tracing::warn!(environment = %key, deployment = %deployment.id, status, "its end was not recorded");
        Ok(true)
    }

    /// A deployment is under way no more.
    async fn close(&self, key: &EnvironmentKey, deployment: &DeploymentId) -> Result<(), Failure> {
        let closed = self.store.update_environment(key, |current| match current {
            Some(current) => Ok(current.closed(deployment)),
            None => Err(Failure::new(ErrorName::NotFound, format!("there is no environment {key} any more"))),
        });
        closed.await?;
        Ok(())
    }

    async fn tear_down(&self, doomed: &Doomed, now: Timestamp) -> Result<(), Failure> {
        let admission = Admission::of_sweep(&doomed.environment, doomed.expired_at, doomed.failures, now);
        let admission = self.store.admit(&admission).await?;
        let input = ExecutionInput { admission: admission.id.clone(), attempt: 1 };
        let input = serde_json::to_string(&input).map_err(|error| {
            Failure::new(ErrorName::Internal, format!("the execution's input cannot be written: {error}"))
        })?;
        Ok(self.machines.start(&self.teardown_machine, &admission.execution_name(1), &input).await?)
    }

    /// What is held back stays held back whether anybody hears of it or not; the next run tells them.
    async fn tell_stopped(&self, stopped: &Stopped) -> Result<(), Failure> {
        if let Err(error) = self.bus.tell(&SweepStopped::new(stopped.clone())).await {
            tracing::error!(%error, "nobody was told that nothing is deleted");
            return Ok(());
        }
        let noted = self
            .store
            .update_sweep_state(|state| Ok::<_, Infallible>(SweepState { told: Some(stopped.at), ..state.clone() }));
        noted.await?;
        Ok(())
    }
}

/// What is left of the time, if that is enough to begin something else.
fn time_left(swept: &mut Swept, budget: Budget) -> Option<Duration> {
    let left = budget.left().checked_sub(RESERVE).filter(|left| !left.is_zero());
    swept.unfinished |= left.is_none();
    left
}

fn missed(swept: &mut Swept, what: &str, failure: &Failure) {
    tracing::error!(error = %failure.name, why = failure.message, what);
    swept.failed += 1;
}
