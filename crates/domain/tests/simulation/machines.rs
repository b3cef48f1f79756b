//! The two state machines, state by state, as `statemachine/*.asl.json` have them, and what surrounds them: retries, task tokens,
//! people who stop executions, and EventBridge, which tells of the ends that no Catch sees.

use std::future::Future;

use slipway_domain::ErrorName;
use slipway_domain::deployment::{Action, DeploymentId, Ending};

use crate::cloudformation::{MINUTE, Ms, SECOND};
use crate::scenario::Asked;
use crate::steps::{Begun, Said, Step, is_retried};
use crate::world::{Failure, State, Token, World, timestamp};

/// How long the functions may take, in seconds, as `template.yaml` says.
const BEGIN: i64 = 50;
const PACKAGE: i64 = 890;
const OTHERS: i64 = 110;
/// How often a step is tried again that AWS was too busy for; and a look, which must not be what a deployment fails of.
const RETRIES: u32 = 6;
const LOOK_RETRIES: u32 = 20;

/// The steps of `deploy.asl.json` that are played here.
pub(crate) const DEPLOY: [&str; 13] = [
    "Approval",
    "Begin",
    "Create change set",
    "Discard change set",
    "Execute change set",
    "Look at change set",
    "Look at stack",
    "Package",
    "Protect stack",
    "Settle failure",
    "Settle no changes",
    "Settle success",
    "Take lease again",
];
/// The one of them that is not played: nothing here asks for a repair.
pub(crate) const REPAIR: &str = "Repair stack";
/// Those of `teardown.asl.json`.
pub(crate) const TEARDOWN: [&str; 8] = [
    "Begin",
    "Delete stack",
    "Deletion failed",
    "Empty stack",
    "Look at leftovers",
    "Look at stack",
    "Settle failure",
    "Settle success",
];

/// An execution of a state machine.
#[derive(Debug, Clone)]
pub(crate) struct Execution {
    pub(crate) asked: Asked,
    pub(crate) running: bool,
    pub(crate) stopped: bool,
    pub(crate) started_at: Ms,
    pub(crate) ended_at: Option<Ms>,
    pub(crate) transitions: u32,
    task: u64,
}

/// One execution, from inside.
#[derive(Clone)]
struct Machine {
    world: World,
    execution: usize,
}

/// StartExecution.
pub(crate) fn start(world: &World, mut asked: Asked) -> usize {
    let mut state = world.change();
    let (now, execution) = (state.now, state.executions.len());
    asked.deployment.started_at = timestamp(now);
    asked.deployment.execution_arn = format!("arn:execution/{}/{execution}", asked.label);
    asked.deployment.id = DeploymentId::from_execution(timestamp(now), &asked.deployment.execution_arn);
    asked.label = format!("{}#{execution}", asked.label);
    state.note(|| format!("{} starts ({})", asked.label, asked.deployment.id));
    let action = asked.deployment.action;
    let machine = Machine { world: world.of(&asked.label), execution };
    let task = state.spawn(None, async move {
        let ended = match action {
            Action::Deploy => machine.deploy().await,
            Action::Teardown => machine.teardown().await,
            Action::Repair => unreachable!("nothing here asks for a repair"),
        };
        if let Err(failure) = ended {
            let settled = machine.settle(Err(failure.clone())).await;
            if let Err(failure) = settled {
                machine.world.note(|| format!("settle failed: {failure:?}"));
            }
            end(&mut machine.world.change(), execution);
            tell(&machine.world, execution, &failure);
        } else {
            end(&mut machine.world.change(), execution);
        }
    });
    state.executions.push(Execution {
        asked,
        running: true,
        stopped: false,
        started_at: now,
        ended_at: None,
        transitions: 0,
        task,
    });
    execution
}

/// StopExecution, by a person: the functions that are at work go on.
pub(crate) fn stop(world: &World, execution: usize) {
    let task = {
        let mut state = world.change();
        let stopped = &mut state.executions[execution];
        if !stopped.running {
            return;
        }
        stopped.stopped = true;
        let (task, label) = (stopped.task, stopped.asked.label.clone());
        state.note(|| format!("{label} is stopped by a person"));
        end(&mut state, execution);
        for token in state.tokens.values_mut() {
            // Nothing waits with the token of an execution that ended.
            token.open &= token.execution != execution;
        }
        task
    };
    world.change().cancel(task);
    tell(world, execution, &Failure { error: "Execution.ABORTED", message: String::new() });
}

fn end(state: &mut State, execution: usize) {
    let now = state.now;
    let ended = &mut state.executions[execution];
    ended.running = false;
    ended.ended_at = Some(now);
    let label = ended.asked.label.clone();
    state.note(|| format!("{label} ends"));
}

/// "Step Functions Execution Status Change": at least once, and the invocation is tried three times, as Lambda does with events
/// (<https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html>).
fn tell(world: &World, execution: usize, failure: &Failure) {
    let (first, again) = {
        let mut state = world.change();
        if state.facts.calm {
            (SECOND, None)
        } else {
            let first = state.random.span(300, 10 * MINUTE);
            let again = state.random.chance(1, 10).then(|| state.random.span(SECOND, 60 * MINUTE));
            (first, again)
        }
    };
    for after in [Some(first), again].into_iter().flatten() {
        let machine = Machine { world: world.clone(), execution };
        let failure = failure.clone();
        world.change().spawn(None, async move {
            machine.world.sleep(after).await;
            for pause in [MINUTE, 2 * MINUTE, 0] {
                let step = machine.step();
                let told =
                    machine.world.invoke("settle, told by EventBridge", OTHERS, step.settle(Err(failure.clone())));
                if told.await.is_ok() {
                    return;
                }
                machine.world.sleep(pause).await;
            }
        });
    }
}

impl Machine {
    fn step(&self) -> Step {
        let state = self.world.state();
        let asked = state.executions[self.execution].asked.clone();
        let (rules, now) = (state.rules, timestamp(state.now));
        Step { world: self.world.of(&asked.label), rules, execution: self.execution, asked, now }
    }

    fn count(&self, transitions: u32) {
        self.world.change().executions[self.execution].transitions += transitions;
    }

    async fn wait(&self, seconds: u32) {
        self.count(2);
        let stalled = {
            let mut state = self.world.change();
            let stalls = state.weather.stalls;
            if state.random.chance(stalls, 1000) { state.random.between(25, 60) * MINUTE } else { 0 }
        };
        if stalled > 0 {
            self.world.note(|| format!("Step Functions goes on only in {} minutes", stalled / MINUTE));
        }
        self.world.sleep(Ms::from(seconds) * SECOND + stalled).await;
    }

    /// A Task with its two Retry rules: ours, and Lambda's.
    async fn task<T: 'static, F>(&self, name: &str, seconds: i64, work: impl Fn(Step) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>> + 'static,
    {
        self.patient_task(name, seconds, RETRIES, work).await
    }

    /// One that tries again so often what AWS was too busy for.
    async fn patient_task<T: 'static, F>(
        &self,
        name: &str,
        seconds: i64,
        retries: u32,
        work: impl Fn(Step) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>> + 'static,
    {
        let mut tried = [0u32; 2];
        loop {
            self.count(1);
            let step = self.step();
            if retries == RETRIES {
                self.stopped_within(6 * SECOND);
            }
            let result = self.world.invoke(name, seconds, work(step)).await;
            self.world.note(|| format!("{name} ends{}", if result.is_ok() { " well" } else { "" }));
            let Err(failure) = result else { return result };
            self.world.note(|| format!("{name} fails: {} {}", failure.error, failure.message));
            if self.retry(&failure, retries, &mut tried).await {
                continue;
            }
            return Err(failure);
        }
    }

    /// Now and then, a person stops the execution within `longest`.
    fn stopped_within(&self, longest: Ms) {
        let stops = {
            let mut state = self.world.change();
            let stops = state.weather.stops;
            state.random.chance(stops, 1000).then(|| state.random.between(0, longest))
        };
        let Some(after) = stops else { return };
        let (world, execution) = (self.world.clone(), self.execution);
        self.world.change().spawn(None, async move {
            world.sleep(after).await;
            stop(&world, execution);
        });
    }

    /// Waits before the next try, if there is one.
    async fn retry(&self, failure: &Failure, retries: u32, tried: &mut [u32; 2]) -> bool {
        let lambda = ["Lambda.Unknown", "Sandbox.Timedout", "Runtime.ExitError"].contains(&failure.error);
        let (kind, interval, most, longest) = match failure {
            failure if is_retried(failure) => (0, 2 * SECOND, retries, 60 * SECOND),
            _ if lambda => (1, SECOND, 4, 30 * SECOND),
            _ => return false,
        };
        if tried[kind] == most {
            return false;
        }
        let pause = (interval << tried[kind]).min(longest);
        tried[kind] += 1;
        let pause = self.world.change().random.between(0, pause);
        self.world.sleep(pause).await;
        true
    }

    async fn settle(&self, end: Result<Ending, Failure>) -> Result<Said, Failure> {
        self.task("settle", OTHERS, |step| step.settle(end.clone())).await
    }

    async fn begin(&self) -> Result<u64, Failure> {
        loop {
            let Begun { fence, wait } = self.task("begin", BEGIN, Step::begin).await?;
            if wait == 0 {
                return Ok(fence);
            }
            self.wait(wait).await;
        }
    }

    /// Looks again for as long as the answer is to do so.
    async fn looked<F>(&self, name: &str, work: impl Fn(Step) -> F) -> Result<Said, Failure>
    where
        F: Future<Output = Result<Said, Failure>> + 'static,
    {
        self.until_done(name, LOOK_RETRIES, work).await
    }

    /// Asks again for as long as the answer is to do so.
    async fn until_done<F>(&self, name: &str, retries: u32, work: impl Fn(Step) -> F) -> Result<Said, Failure>
    where
        F: Future<Output = Result<Said, Failure>> + 'static,
    {
        loop {
            match self.patient_task(name, OTHERS, retries, &work).await? {
                Said::Again(wait) => self.wait(wait).await,
                said @ (Said::Done | Said::NoChanges | Said::Absent) => return Ok(said),
            }
        }
    }

    async fn deploy(&self) -> Result<(), Failure> {
        let mut fence = self.begin().await?;
        self.task("package", PACKAGE, |step| step.package(fence)).await?;
        self.until_done("change-set create", RETRIES, |step| step.create(fence)).await?;
        let said = self.looked("look at change set", |step| step.look_at_change_set(fence)).await?;
        if said == Said::NoChanges {
            self.task("change-set discard", OTHERS, |step| step.discard_empty(fence)).await?;
            return self.settle(Ok(Ending::NoChanges)).await.map(drop);
        }
        let (approval, protected) = {
            let state = self.world.state();
            let deployment = &state.executions[self.execution].asked.deployment;
            (deployment.approval.is_some(), (state.rules.protects)(deployment))
        };
        if approval {
            self.approval(fence).await?;
            fence = self.resume().await?;
        }
        self.task("change-set execute", OTHERS, |step| step.execute(fence)).await?;
        self.looked("look at stack", |step| step.look_at_stack(fence)).await?;
        if protected {
            self.task("change-set protect", OTHERS, |step| step.protect(fence)).await?;
        }
        self.settle(Ok(Ending::Succeeded)).await.map(drop)
    }

    async fn resume(&self) -> Result<u64, Failure> {
        loop {
            let Begun { fence, wait } = self.task("begin resume", BEGIN, Step::resume).await?;
            if wait == 0 {
                return Ok(fence);
            }
            self.wait(wait).await;
        }
    }

    async fn teardown(&self) -> Result<(), Failure> {
        let fence = self.begin().await?;
        if self.until_done("empty", RETRIES, |step| step.empty(fence)).await? == Said::Done
            && self.until_done("teardown", RETRIES, |step| step.tear_down(fence)).await? == Said::Done
            && let Err(failed) = self.looked("look at stack", |step| step.look_at_stack(fence)).await
        {
            if failed.error == ErrorName::StackFailed.as_str() {
                self.task("deletion failed", OTHERS, |step| step.holds(fence)).await?;
            }
            // What is asked for once more is the same deletion again, which is not played.
            return Err(failed);
        }
        self.task("leftovers", OTHERS, |step| step.holds(fence)).await?;
        self.settle(Ok(Ending::TornDown)).await.map(drop)
    }

    /// The Task that waits for a token, a new one at each try.
    async fn approval(&self, fence: u64) -> Result<(), Failure> {
        let mut tried = [0u32; 2];
        loop {
            self.count(1);
            let (token, signal) = {
                let mut state = self.world.change();
                let signal = state.fresh();
                let token = format!("token {signal}");
                let waiting = Token { signal, execution: self.execution, open: true, answer: None };
                state.tokens.insert(token.clone(), waiting);
                (token, signal)
            };
            let answer = |world: &World| world.state().tokens.get(&token).and_then(|token| token.answer.clone());
            self.stopped_within(2 * MINUTE);
            let asked = self.world.invoke("approval", OTHERS, self.step().ask(fence, token.clone())).await;
            if let Some(answer) = answer(&self.world) {
                return answer;
            }
            match asked {
                Ok(_) => {
                    self.world.signalled(signal).await;
                    let closed = || Err(Failure::new(ErrorName::Internal, "the token was closed"));
                    return answer(&self.world).unwrap_or_else(closed);
                }
                Err(failure) => {
                    self.world.note(|| format!("approval fails: {}", failure.error));
                    if let Some(token) = self.world.change().tokens.get_mut(&token) {
                        token.open = false;
                    }
                    if !self.retry(&failure, RETRIES, &mut tried).await {
                        return Err(failure);
                    }
                }
            }
        }
    }
}
