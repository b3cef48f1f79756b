//! Virtual time, the tasks that live in it, the table, and what goes wrong with calls.
//!
//! Every call to AWS is a point at which another task may go on: a task sleeps for as long as the call takes, and whoever is
//! due next goes on, in the order that the seed gives. Nothing here is a thread, and nothing looks at a clock.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use jiff::Timestamp;
use slipway_domain::ErrorName;
use slipway_domain::approval::Approval;
use slipway_domain::deployment::DeploymentRecord;
use slipway_domain::environment::Environment;
use slipway_domain::lease::Lease;

use crate::cloudformation::{CloudFormation, MINUTE, Ms, No, SECOND};
use crate::machines::Execution;
use crate::properties::Facts;
use crate::random::Random;
use crate::rules::Rules;
use crate::scenario::Stage;

/// When every run begins: 2023-11-14, in milliseconds.
const EPOCH: Ms = 1_700_000_000_000;

/// `now` as the domain has it.
pub(crate) fn timestamp(now: Ms) -> Timestamp {
    Timestamp::from_millisecond(EPOCH + now).unwrap()
}

/// A moment of the domain as the world has it.
pub(crate) fn moment(at: Timestamp) -> Ms {
    at.as_millisecond() - EPOCH
}

/// Why a step failed: one of our names, or one of Lambda's or Step Functions' own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) error: &'static str,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(name: ErrorName, message: impl Into<String>) -> Self {
        Self { error: name.as_str(), message: message.into() }
    }
}

/// The rows of one kind, with their versions.
pub(crate) type Table<V> = BTreeMap<String, (V, u64)>;

/// How often what goes wrong, in a thousand calls or invocations.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) throttled: u64,
    /// The call had its effect, and nobody was told.
    pub(crate) lost: u64,
    /// The process ends, before the call or after it.
    pub(crate) dies: u64,
    /// The call takes longer than the function may.
    pub(crate) hangs: u64,
    /// A look shows the state of up to some seconds ago.
    pub(crate) behind: u64,
    /// A step's answer is lost after it ended, or while it goes on: Step Functions invokes it again.
    pub(crate) unheard: u64,
    /// Step Functions goes on only after a lease has run out.
    pub(crate) stalls: u64,
    /// A person stops an execution while a step that is no look is at work.
    pub(crate) stops: u64,
}

/// What a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wake {
    At(Ms),
    On(u64),
    /// Its process has ended.
    Never,
}

type Work = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    id: u64,
    wake: Wake,
    /// Among those that are due at once.
    order: u64,
    /// A process that is ended when it takes too long; what is signalled when it ended without an answer.
    process: Option<(Ms, u64)>,
    work: Work,
}

/// The world, without its tasks.
pub(crate) struct State {
    pub(crate) now: Ms,
    pub(crate) random: Random,
    pub(crate) rules: Rules,
    pub(crate) weather: Weather,
    pub(crate) stages: Vec<Stage>,
    pub(crate) cloudformation: CloudFormation,
    pub(crate) leases: Table<Lease>,
    pub(crate) environments: Table<Environment>,
    pub(crate) deployments: Table<DeploymentRecord>,
    pub(crate) approvals: Table<Approval>,
    pub(crate) executions: Vec<Execution>,
    /// Step Functions' task tokens: what to signal, and the answer.
    pub(crate) tokens: BTreeMap<String, Token>,
    pub(crate) facts: Facts,
    /// Whether a row was written since the properties were checked.
    pub(crate) written: bool,
    pub(crate) tracing: bool,
    pub(crate) trace: Vec<(Ms, String)>,
    pub(crate) polls: u64,
    next: u64,
    wake: Option<Wake>,
    spawned: Vec<Task>,
    signals: Vec<u64>,
    cancelled: BTreeSet<u64>,
    /// Signals of processes that ended without an answer, and why.
    pub(crate) ended: BTreeMap<u64, &'static str>,
}

/// A task token.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) signal: u64,
    pub(crate) execution: usize,
    pub(crate) open: bool,
    pub(crate) answer: Option<Result<(), Failure>>,
}

/// A handle on the world, that every task has.
#[derive(Clone)]
pub(crate) struct World {
    state: Rc<RefCell<State>>,
    /// Who acts through it, for the trace.
    who: Rc<str>,
}

impl World {
    pub(crate) fn new(seed: u64, rules: Rules, tracing: bool) -> Self {
        let state = State {
            now: 0,
            random: Random::new(seed),
            rules,
            weather: Weather::default(),
            stages: Vec::new(),
            cloudformation: CloudFormation::default(),
            leases: Table::new(),
            environments: Table::new(),
            deployments: Table::new(),
            approvals: Table::new(),
            executions: Vec::new(),
            tokens: BTreeMap::new(),
            facts: Facts::default(),
            written: false,
            tracing,
            trace: Vec::new(),
            polls: 0,
            next: 0,
            wake: None,
            spawned: Vec::new(),
            signals: Vec::new(),
            cancelled: BTreeSet::new(),
            ended: BTreeMap::new(),
        };
        Self { state: Rc::new(RefCell::new(state)), who: "somebody".into() }
    }

    /// The same world, through which `who` acts.
    pub(crate) fn of(&self, who: &str) -> Self {
        Self { state: Rc::clone(&self.state), who: who.into() }
    }

    pub(crate) fn state(&self) -> Ref<'_, State> {
        self.state.borrow()
    }

    pub(crate) fn change(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    pub(crate) fn now(&self) -> Ms {
        self.state().now
    }

    pub(crate) fn rules(&self) -> Rules {
        self.state().rules
    }

    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        if self.state().tracing {
            let line = format!("{}: {}", self.who, what());
            self.change().note(|| line);
        }
    }

    async fn park(&self, wake: Wake) {
        let mut parked = false;
        std::future::poll_fn(|_| {
            if parked {
                return Poll::Ready(());
            }
            parked = true;
            self.change().wake = Some(wake);
            Poll::Pending
        })
        .await;
    }

    /// The process of this task ends here.
    async fn die<T>(&self) -> T {
        self.change().wake = Some(Wake::Never);
        std::future::pending().await
    }

    pub(crate) async fn sleep(&self, for_ms: Ms) {
        let at = self.now() + for_ms;
        self.park(Wake::At(at)).await;
    }

    pub(crate) async fn signalled(&self, signal: u64) {
        self.park(Wake::On(signal)).await;
    }

    /// One call to AWS: it takes time, during which others go on, and it may go wrong before or after its effect.
    pub(crate) async fn call<T>(
        &self,
        what: &'static str,
        effect: impl FnOnce(&mut State) -> Result<T, No>,
    ) -> Result<T, No> {
        let (takes, weather, dice) = {
            let mut state = self.change();
            let weather = state.weather;
            let hangs = state.random.chance(weather.hangs, 1000);
            let takes = if hangs { state.random.between(20, 900) * SECOND } else { state.random.between(20, 900) };
            (takes, weather, state.random.below(1000))
        };
        self.sleep(takes).await;
        let (throttled, lost) = (weather.throttled, weather.throttled + weather.lost);
        if dice < throttled {
            self.note(|| format!("{what}: throttled"));
            return Err(No::Throttled);
        }
        if dice < lost {
            let done = effect(&mut self.change()).is_ok();
            self.note(|| format!("{what}: answer lost{}", if done { ", done" } else { "" }));
            return Err(No::Unavailable);
        }
        if dice < lost + weather.dies {
            let before = dice % 2 == 0;
            if !before {
                let _ = effect(&mut self.change());
            }
            self.note(|| format!("{what}: the process ends {} it", if before { "before" } else { "after" }));
            return self.die().await;
        }
        effect(&mut self.change())
    }

    /// Reads a row.
    pub(crate) async fn read<V: Clone>(
        &self,
        table: fn(&mut State) -> &mut Table<V>,
        key: &str,
    ) -> Result<Option<V>, Failure> {
        let row = self.call("GetItem", |state| Ok(table(state).get(key).map(|row| row.0.clone()))).await;
        row.map_err(|no| failure("dynamodb:GetItem", no))
    }

    /// Reads a row, asks `rule` for the next one, and writes it on the condition that the version still is what was read; again
    /// if it is not, as `crates/aws/src/store.rs` does.
    pub(crate) async fn update<V: Clone, R>(
        &self,
        table: fn(&mut State) -> &mut Table<V>,
        key: String,
        mut rule: impl FnMut(Option<&V>) -> Result<(Option<V>, R), Failure>,
    ) -> Result<R, Failure> {
        for _ in 0..20 {
            let row = self.call("GetItem", |state| Ok(table(state).get(&key).cloned())).await;
            let row = row.map_err(|no| failure("dynamodb:GetItem", no))?;
            let (next, result) = rule(row.as_ref().map(|row| &row.0))?;
            let Some(next) = next else { return Ok(result) };
            let read = row.map_or(0, |row| row.1);
            let written = self.call("PutItem", |state| {
                let rows = table(state);
                if rows.get(&key).map_or(0, |row| row.1) != read {
                    return Err(No::Conflict);
                }
                rows.insert(key.clone(), (next, read + 1));
                state.written = true;
                Ok(())
            });
            match written.await {
                Ok(()) => return Ok(result),
                Err(No::Conflict) => {}
                Err(no) => return Err(failure("dynamodb:PutItem", no)),
            }
        }
        Err(Failure::new(ErrorName::Unavailable, "written by others 20 times in a row"))
    }

    /// Invokes a function: a process of its own, which ends after `seconds` whatever it does, and which goes on when whoever
    /// invoked it does not.
    pub(crate) async fn invoke<T: 'static>(
        &self,
        name: &str,
        seconds: i64,
        work: impl Future<Output = Result<T, Failure>> + 'static,
    ) -> Result<T, Failure> {
        let answer: Rc<RefCell<Option<Result<T, Failure>>>> = Rc::default();
        let signal = self.change().fresh();
        let (world, told) = (self.clone(), Rc::clone(&answer));
        let until = self.now() + seconds * SECOND;
        let process = async move {
            let result = work.await;
            *told.borrow_mut() = Some(result);
            world.change().signals.push(signal);
        };
        let unheard = {
            let mut state = self.change();
            state.spawn(Some((until, signal)), process);
            let weather = state.weather;
            state.random.chance(weather.unheard, 1000).then(|| state.random.between(0, 30) * SECOND)
        };
        if let Some(after) = unheard {
            self.sleep(after).await;
            self.note(|| format!("{name}: Step Functions hears nothing of it"));
            return Err(Failure { error: "Lambda.Unknown", message: String::new() });
        }
        self.signalled(signal).await;
        let answered = answer.borrow_mut().take();
        answered.unwrap_or_else(|| {
            let error = self.change().ended.remove(&signal).unwrap_or("Lambda.Unknown");
            self.note(|| format!("{name}: {error}"));
            Err(Failure { error, message: String::new() })
        })
    }

    /// Lets the world go on until nothing more happens, or `until`. Whether everything came to its end.
    pub(crate) fn run(&self, until: Ms, mut after_each: impl FnMut(&mut State)) -> bool {
        let mut tasks: Vec<Task> = Vec::new();
        loop {
            {
                let mut state = self.change();
                tasks.append(&mut state.spawned);
                let signals = std::mem::take(&mut state.signals);
                let cancelled = std::mem::take(&mut state.cancelled);
                tasks.retain(|task| !cancelled.contains(&task.id));
                for task in &mut tasks {
                    if matches!(task.wake, Wake::On(signal) if signals.contains(&signal)) {
                        task.wake = Wake::At(state.now);
                    }
                }
            }
            let due = |task: &Task| {
                let ends = task.process.map(|(until, _)| until);
                match task.wake {
                    Wake::At(at) => Some(ends.map_or(at, |ends| at.min(ends))),
                    Wake::Never => Some(self.now()),
                    Wake::On(_) => ends,
                }
            };
            let next = tasks.iter().enumerate().filter_map(|(index, task)| Some((due(task)?, task.order, index))).min();
            let Some((at, _, index)) = next else {
                self.change().advance(until);
                after_each(&mut self.change());
                return tasks.is_empty();
            };
            if at > until {
                self.change().advance(until);
                after_each(&mut self.change());
                return false;
            }
            self.change().advance(at);
            let task = &mut tasks[index];
            let ended = match (task.wake, task.process) {
                (Wake::Never, process) => Some((process, "Runtime.ExitError")),
                (Wake::At(_) | Wake::On(_), Some((ends, _))) if ends <= at => Some((task.process, "Sandbox.Timedout")),
                (Wake::At(_) | Wake::On(_), _) => None,
            };
            if let Some((process, why)) = ended {
                tasks.swap_remove(index);
                if let Some((_, signal)) = process {
                    let mut state = self.change();
                    state.ended.insert(signal, why);
                    state.signals.push(signal);
                }
            } else {
                self.change().polls += 1;
                let done = task.work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
                let mut state = self.change();
                let wake = state.wake.take();
                if done {
                    tasks.swap_remove(index);
                } else {
                    let order = state.random.below(u64::MAX);
                    let task = &mut tasks[index];
                    task.wake = wake.unwrap_or(Wake::Never);
                    task.order = order;
                }
            }
            after_each(&mut self.change());
        }
    }
}

impl State {
    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        if self.tracing {
            let line = what();
            self.trace.push((self.now, line));
        }
    }

    pub(crate) fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn advance(&mut self, to: Ms) {
        self.cloudformation.advance(to);
        self.now = self.now.max(to);
        for (at, what) in std::mem::take(&mut self.cloudformation.seen) {
            if self.tracing {
                self.trace.push((at, format!("    CloudFormation: {what}")));
            }
        }
    }

    /// Starts a task; a process if it ends by itself.
    pub(crate) fn spawn(&mut self, process: Option<(Ms, u64)>, work: impl Future<Output = ()> + 'static) -> u64 {
        let (id, order) = (self.fresh(), self.random.below(u64::MAX));
        self.spawned.push(Task { id, wake: Wake::At(self.now), order, process, work: Box::pin(work) });
        id
    }

    pub(crate) fn cancel(&mut self, task: u64) {
        self.cancelled.insert(task);
    }

    pub(crate) fn signal(&mut self, signal: u64) {
        self.signals.push(signal);
    }

    /// The moment that one look shows: now, or a little ago.
    pub(crate) fn look(&mut self) -> Ms {
        let weather = self.weather;
        if self.random.chance(weather.behind, 1000) { self.now - self.random.between(1, 8 * SECOND) } else { self.now }
    }

    /// Answers a waiting step; nothing when it does not wait any more.
    pub(crate) fn answer(&mut self, token: &str, answer: Result<(), Failure>) {
        let Some(waiting) = self.tokens.get_mut(token).filter(|token| token.open) else { return };
        waiting.open = false;
        waiting.answer = Some(answer);
        let signal = waiting.signal;
        self.signal(signal);
    }
}

/// What a step makes of an answer of AWS, as `crates/handler/src/failure.rs` does.
pub(crate) fn failure(call: &str, no: No) -> Failure {
    let target = call.starts_with("cloudformation:");
    match no {
        No::Throttled => Failure::new(ErrorName::Throttled, call),
        No::Unavailable => Failure::new(ErrorName::Unavailable, call),
        No::Refused(why) if call == "cloudformation:CreateChangeSet" => Failure::new(ErrorName::ChangeSetFailed, why),
        No::NotFound | No::Conflict | No::Refused(_) if call == "cloudformation:ExecuteChangeSet" => {
            Failure::new(ErrorName::ChangeSetStale, call)
        }
        No::Refused(why) if target && call.ends_with("DeleteStack") => Failure::new(ErrorName::StackNeedsRepair, why),
        No::NotFound | No::Conflict | No::Refused(_) => Failure::new(ErrorName::Internal, call),
    }
}

/// The longest that one step may take, in milliseconds, with room: shorter than a lease.
pub(crate) const STEP: Ms = 15 * MINUTE;
