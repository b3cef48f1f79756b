//! The functions, call by call, as `functions/*/src` have them: what they read, what they ask the rules, and what they do then.

use std::collections::BTreeMap;

use jiff::Timestamp;
use slipway_domain::ErrorName;
use slipway_domain::approval::{Answer, Approval, Bound, Void};
use slipway_domain::cause::StackEvent;
use slipway_domain::change_set::{
    self, Making, MakingError, NotExecutable, Opening, OpeningError, SeenChangeSet, SeenStack,
};
use slipway_domain::deployment::{
    Action, ChangeSetRef, DeploymentId, DeploymentRecord, DeploymentRef, Ending, Operation, OperationMark, Outcome,
    ReleaseDigests,
};
use slipway_domain::environment::{Environment, Shown, Superseded, Waiting};
use slipway_domain::lease::{Holder, Lost, Taking};
use slipway_domain::names::Digest;
use slipway_domain::stack_change::{self, SKEW, Seen, StackError, Standing};
use slipway_domain::stack_status::{Entry, StackStatus, UnknownStatus};
use slipway_domain::stages::OnFailure;
use slipway_domain::waiting::next_wait;

use crate::cloudformation::{ChangeSetSeen, Event, NewChangeSet, No, StackSeen};
use crate::properties::{self, Mutation};
use crate::rules::Rules;
use crate::scenario::{Asked, fate};
use crate::world::{Failure, State, Table, World, failure, moment, timestamp};

/// One invocation of a function.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) world: World,
    pub(crate) rules: Rules,
    /// Which execution it works for.
    pub(crate) execution: usize,
    /// What the scenario asked that for.
    pub(crate) asked: Asked,
    pub(crate) now: Timestamp,
}

/// A `settle` at work: whether it came to its end, or was dropped with its process.
struct Settling {
    world: World,
    deployment: String,
    ended: bool,
}

impl Drop for Settling {
    fn drop(&mut self) {
        let mut state = self.world.change();
        if self.ended {
            state.facts.unsettled.remove(&self.deployment);
        } else {
            let now = state.now;
            state.facts.unsettled.insert(self.deployment.clone(), now);
        }
    }
}

/// What CloudFormation says where a change set is still made, or is executed.
const NOT_NOW: &str = "cloudformation:DeleteChangeSet: InvalidChangeSetStatus";

/// What `begin` answers.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) fence: u64,
    pub(crate) wait: u32,
}

/// What the other steps answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// Ask again after so many seconds.
    Again(u32),
    Done,
    /// There is nothing to change.
    NoChanges,
    /// There is no stack.
    Absent,
}

/// How a stack that is to be deleted stands.
enum Stands {
    Absent,
    Busy(Said),
    There(Box<DeploymentRecord>, String),
}

macro_rules! named {
    ($($error:ty => |$it:ident| $name:expr;)*) => {
        $(impl From<$error> for Failure {
            fn from($it: $error) -> Self {
                Failure::new($name, $it.to_string())
            }
        })*
    };
}

// As crates/handler/src/failure.rs names them.
named! {
    Superseded => |error| ErrorName::Superseded;
    Lost => |error| ErrorName::LeaseHeld;
    UnknownStatus => |error| ErrorName::StackNeedsRepair;
    OpeningError => |error| match &error {
        OpeningError::Unknown(_) | OpeningError::Repair { .. } => ErrorName::StackNeedsRepair,
        OpeningError::Busy { .. } => ErrorName::StackBusy,
    };
    MakingError => |error| match &error {
        MakingError::Failed(_) | MakingError::TimedOut { .. } => ErrorName::ChangeSetFailed,
        MakingError::Gone(_) => ErrorName::ChangeSetStale,
    };
    NotExecutable => |error| match &error {
        NotExecutable::Stale(_) => ErrorName::ChangeSetStale,
        NotExecutable::NotApproved => ErrorName::NotAllowed,
    };
    StackError => |error| match &error {
        StackError::Unknown(_) => ErrorName::StackNeedsRepair,
        StackError::Gone(_) | StackError::Failed { .. } => ErrorName::StackFailed,
        StackError::TimedOut { .. } => ErrorName::StackTimedOut,
    };
}

fn deployments(state: &mut State) -> &mut Table<DeploymentRecord> {
    &mut state.deployments
}

fn environments(state: &mut State) -> &mut Table<Environment> {
    &mut state.environments
}

fn approvals(state: &mut State) -> &mut Table<Approval> {
    &mut state.approvals
}

/// The digest that stands for what was reviewed, worked out of what is described now.
fn binding(record: &DeploymentRecord, seen: &ChangeSetSeen) -> Option<Digest> {
    let release = record.release.as_ref()?;
    let bound = Bound {
        change_set_arn: &seen.arn,
        stack_id: &seen.stack_id,
        template: &release.template,
        manifest: &release.manifest,
        parameters: &BTreeMap::new(),
    };
    Some(bound.digest())
}

/// The id of the question of a deployment: in the model, nobody guesses links.
pub(crate) fn question(deployment: &DeploymentId) -> Digest {
    Digest::of_parts(&["question", &deployment.to_string()])
}

impl Step {
    fn key(&self) -> String {
        self.asked.deployment.environment.to_string()
    }

    fn id(&self) -> String {
        self.asked.deployment.id.to_string()
    }

    async fn update_environment(
        &self,
        mut rule: impl FnMut(Option<&Environment>) -> Result<Environment, Failure>,
    ) -> Result<Environment, Failure> {
        let update = self.world.update(environments, self.key(), |current| {
            let next = rule(current)?;
            Ok((Some(next.clone()), next))
        });
        update.await
    }

    async fn note(
        &self,
        record: &DeploymentRecord,
        change: impl Fn(&mut DeploymentRecord),
    ) -> Result<DeploymentRecord, Failure> {
        let update = self.world.update(deployments, self.id(), |current| {
            let mut next = current.unwrap_or(record).clone();
            change(&mut next);
            Ok((Some(next.clone()), next))
        });
        update.await
    }

    async fn record(&self) -> Result<DeploymentRecord, Failure> {
        let record = self.world.read(deployments, &self.id()).await?;
        record.ok_or_else(|| Failure::new(ErrorName::NotFound, "there is no such deployment"))
    }

    async fn take(&self, dead: Option<&DeploymentId>) -> Result<Taking, Failure> {
        let me = &self.asked.deployment.id;
        let update = self.world.update(
            |state| &mut state.leases,
            self.key(),
            |current| {
                let taking = (self.rules.take)(current, me, dead, self.now);
                let next = match &taking {
                    Taking::Ours(lease) => Some(lease.clone()),
                    Taking::Held { .. } => None,
                };
                Ok((next, taking))
            },
        );
        update.await
    }

    async fn give_up(&self) -> Result<(), Failure> {
        let me = &self.asked.deployment.id;
        let give_up = self.world.update(
            |state| &mut state.leases,
            self.key(),
            |current| Ok(((self.rules.give_up)(current, me, self.now), ())),
        );
        give_up.await
    }

    /// The row, once the lease was checked and renewed.
    async fn hold(&self, fence: u64) -> Result<DeploymentRecord, Failure> {
        let me = &self.asked.deployment.id;
        let hold = self.world.update(
            |state| &mut state.leases,
            self.key(),
            |current| Ok((Some((self.rules.hold)(current, me, fence, self.now)?), ())),
        );
        hold.await?;
        self.record().await
    }

    /// A call that takes its time, and of which nothing comes that matters here.
    async fn passes(&self, call: &'static str) -> Result<(), Failure> {
        self.world.call(call, |_| Ok(())).await.map_err(|no| failure(call, no))
    }

    /// A session in the target account.
    async fn session(&self) -> Result<(), Failure> {
        self.passes("sts:AssumeRole").await
    }

    /// Nothing is begun after the end was recorded.
    fn not_ended(&self, record: &DeploymentRecord) -> Result<(), Failure> {
        if (self.rules.has_ended)(record) {
            return Err(Failure::new(ErrorName::Stopped, "the deployment ended while this step was at work"));
        }
        Ok(())
    }

    /// A call that changes a stack, checked against the properties at the moment that it has its effect.
    async fn mutate<T>(
        &self,
        what: &'static str,
        mutation: Mutation,
        fence: Option<u64>,
        effect: impl FnOnce(&mut State) -> Result<T, No>,
    ) -> Result<T, Failure> {
        let (execution, label) = (self.execution, self.asked.label.clone());
        let called = self.world.call(what, |state| {
            properties::before(state, execution, &mutation, fence);
            let done = effect(state);
            state.note(|| match &done {
                Ok(_) => format!("{label}: {what}"),
                Err(no) => format!("{label}: {what} is refused: {no:?}"),
            });
            done
        });
        called.await.map_err(|no| failure(what, no))
    }

    async fn describe(&self, id: Option<&str>) -> Result<Option<StackSeen>, Failure> {
        let name = id.unwrap_or(self.asked.deployment.stack_name.as_str()).to_owned();
        let seen = self.world.call("cloudformation:DescribeStacks", |state| {
            let at = state.look();
            Ok(state.cloudformation.describe(&name, at))
        });
        seen.await.map_err(|no| failure("cloudformation:DescribeStacks", no))
    }

    async fn describe_change_set(&self, name: &str) -> Result<Option<ChangeSetSeen>, Failure> {
        let seen = self.world.call("cloudformation:DescribeChangeSet", |state| {
            let at = state.look();
            Ok(state.cloudformation.describe_change_set(name, at))
        });
        seen.await.map_err(|no| failure("cloudformation:DescribeChangeSet", no))
    }

    async fn delete_stack(&self, id: &str, fence: Option<u64>) -> Result<(), Failure> {
        let token = self.asked.deployment.id.request_token(Operation::Delete);
        let mutation = Mutation::DeleteStack(id.to_owned());
        let delete = self.mutate("cloudformation:DeleteStack", mutation, fence, |state| {
            let (now, fate) = (state.now, fate(state));
            let State { cloudformation, random, .. } = state;
            cloudformation.delete(id, &token, fate, random, now).map(drop)
        });
        delete.await
    }

    async fn delete_change_set(&self) -> Result<(), Failure> {
        let (label, name) = (self.asked.label.clone(), self.asked.deployment.id.change_set_name());
        let deleted = self.world.call("cloudformation:DeleteChangeSet", |state| {
            let now = state.now;
            let done = state.cloudformation.delete_change_set(&name, now);
            state.note(|| format!("{label}: cloudformation:DeleteChangeSet: {done:?}"));
            match done {
                Err(No::NotFound) => Ok(()),
                done => done,
            }
        });
        deleted.await.map_err(|no| match no {
            No::Refused(_) => Failure::new(ErrorName::Internal, NOT_NOW),
            no => failure("cloudformation:DeleteChangeSet", no),
        })
    }

    async fn discard(&self, fence: Option<u64>) -> Result<(), Failure> {
        self.delete_change_set().await?;
        if self.asked.deployment.target.protected {
            return Ok(());
        }
        let shell = self.describe(None).await?;
        let shell = shell.filter(|shell| shell.status == StackStatus::ReviewInProgress.as_str());
        let Some(shell) = shell else { return Ok(()) };
        let listed = self.world.call("cloudformation:ListChangeSets", |state| {
            let at = state.look();
            Ok(state.cloudformation.list_change_sets(&shell.id, at))
        });
        let listed = listed.await.map_err(|no| failure("cloudformation:ListChangeSets", no))?;
        let mine = self.asked.deployment.id.change_set_name();
        if (self.rules.is_nobodys)(&listed, &mine) {
            self.delete_stack(&shell.id, fence).await?;
        }
        Ok(())
    }

    /// Step Functions gets the answer to a question, if there is one.
    async fn answer(&self, approval: &Approval) -> Result<(), Failure> {
        answer(&self.world, approval).await
    }

    // ---- begin

    pub(crate) async fn begin(self) -> Result<Begun, Failure> {
        let deployment = &self.asked.deployment;
        self.admitted().await?;
        let create = self.world.update(deployments, self.id(), |known| {
            Ok((Some(known.cloned().unwrap_or_else(|| DeploymentRecord::new(deployment.clone()))), ()))
        });
        create.await?;
        let begin = self.update_environment(|current| Ok((self.rules.begin)(current, deployment)?));
        let environment = begin.await?;
        self.supersede_waiting(&environment).await?;
        self.lease().await
    }

    /// The admission, which is used for this execution, the stages, and what the environment is.
    async fn admitted(&self) -> Result<(), Failure> {
        for call in ["dynamodb:GetItem", "dynamodb:GetItem", "dynamodb:PutItem", "ssm:GetParameter", "dynamodb:GetItem"]
        {
            self.passes(call).await?;
        }
        Ok(())
    }

    pub(crate) async fn resume(self) -> Result<Begun, Failure> {
        self.record().await?;
        self.still_newest().await?;
        self.lease().await
    }

    async fn supersede_waiting(&self, environment: &Environment) -> Result<(), Failure> {
        let waiting = environment.waiting.as_ref();
        let Some(waiting) = waiting.filter(|waiting| waiting.deployment != self.asked.deployment.id) else {
            return Ok(());
        };
        self.void(&waiting.approval, ErrorName::Superseded).await
    }

    async fn void(&self, id: &Digest, error: ErrorName) -> Result<(), Failure> {
        let why = Void { error, why: "it ended".into(), at: self.now };
        match void(&self.world, self.rules, id, &why).await? {
            Some(approval) => self.answer(&approval).await,
            None => Ok(()),
        }
    }

    async fn still_newest(&self) -> Result<(), Failure> {
        let resumed = self.update_environment(|current| Ok((self.rules.resume)(current, &self.asked.deployment)?));
        resumed.await.map(drop)
    }

    async fn lease(&self) -> Result<Begun, Failure> {
        // What this invocation takes is given up by itself, or by the end of the execution, once it came past its own look for that.
        self.world.change().facts.cut_short.insert(self.id());
        let mut taking = self.take(None).await?;
        let mut holder = None;
        if let Taking::Held { owner, .. } = &taking {
            holder = self.world.read(deployments, &owner.to_string()).await?;
            let lives = match &holder {
                Some(record) => self.is_running(&record.deployment.execution_arn).await?,
                None => true,
            };
            if !lives {
                let owner = owner.clone();
                taking = self.take(Some(&owner)).await?;
            }
        }
        let holder = holder.as_ref().map(Holder::of).filter(|_| matches!(taking, Taking::Held { .. }));
        self.note_holder(holder).await?;
        let record = self.world.read(deployments, &self.id()).await?;
        if record.is_some_and(|record| (self.rules.has_ended)(&record)) {
            self.give_up().await?;
            self.world.change().facts.cut_short.remove(&self.id());
            return Err(Failure::new(ErrorName::Stopped, "the deployment ended while it began"));
        }
        self.world.change().facts.cut_short.remove(&self.id());
        match taking {
            Taking::Ours(lease) => {
                properties::begins(&mut self.world.change(), self.execution);
                Ok(Begun { fence: lease.fence, wait: 0 })
            }
            Taking::Held { owner, .. } => {
                properties::waits_for(&mut self.world.change(), self.execution, &owner, moment(self.now));
                let deployment = &self.asked.deployment;
                let waited = self.now.duration_since(deployment.started_at);
                if waited > deployment.longest() {
                    return Err(Failure::new(ErrorName::LeaseHeld, format!("waited for too long; {owner} holds it")));
                }
                self.still_newest().await?;
                Ok(Begun { fence: 0, wait: next_wait(u32::try_from(waited.as_secs()).unwrap_or(0), None) })
            }
        }
    }

    async fn note_holder(&self, holder: Option<Holder>) -> Result<(), Failure> {
        let known = self.world.read(deployments, &self.id()).await?;
        let Some(record) = known.filter(|record| record.waits_for != holder) else { return Ok(()) };
        self.note(&record, |record| record.waits_for.clone_from(&holder)).await.map(drop)
    }

    async fn is_running(&self, arn: &str) -> Result<bool, Failure> {
        let running = self.world.call("states:DescribeExecution", |state| {
            Ok(state
                .executions
                .iter()
                .any(|execution| execution.asked.deployment.execution_arn == arn && execution.running))
        });
        running.await.map_err(|no| failure("states:DescribeExecution", no))
    }

    // ---- package

    pub(crate) async fn package(self, fence: u64) -> Result<Said, Failure> {
        let record = self.hold(fence).await?;
        for call in ["s3:HeadObject", "s3:GetObject", "s3:PutObject", "s3:PutObject"] {
            self.passes(call).await?;
        }
        let bundle = self.asked.template.map_or(0, |template| template.0).to_string();
        let release = ReleaseDigests {
            template: Digest::of_parts(&["template", &bundle]),
            manifest: Digest::of_parts(&["manifest", &bundle]),
        };
        self.note(&record, |record| record.release = Some(release.clone())).await?;
        Ok(Said::Done)
    }

    // ---- change-set

    pub(crate) async fn create(self, fence: u64) -> Result<Said, Failure> {
        let record = self.hold(fence).await?;
        if record.change_set.is_some() {
            return Ok(Said::Done);
        }
        let deployment = &record.deployment;
        self.session().await?;
        let described = self.describe(None).await?;
        let seen = described.as_ref().map(|stack| SeenStack { id: &stack.id, status: stack.status });
        let since = record.busy_since.unwrap_or(self.now);
        let creates = match (self.rules.open)(deployment, seen, since, self.now)? {
            Opening::Create => true,
            Opening::Update => false,
            Opening::Wait => return self.busy(&record).await,
            Opening::Delete { stack_id, status } => {
                let said = format!("The stack is {status}: its first create failed, so it is deleted and made anew.");
                let noted = self.note(&record, |record| record.say(&said)).await?;
                self.passes("s3:GetObject").await?;
                self.not_ended(&noted)?;
                self.hold(fence).await?;
                self.delete_stack(&stack_id, Some(fence)).await?;
                return self.busy(&record).await;
            }
        };
        self.passes("s3:GetObject").await?;
        let name = deployment.id.change_set_name();
        let noted = self.note(&record, |record| record.change_set_asked = true).await?;
        self.not_ended(&noted)?;
        self.hold(fence).await?;
        let mutation = Mutation::CreateChangeSet;
        let made = self.mutate("cloudformation:CreateChangeSet", mutation, Some(fence), |state| {
            let now = state.now;
            let endless = !state.facts.calm && state.random.chance(1, 100);
            let new = NewChangeSet {
                endless,
                stack_name: deployment.stack_name.as_str(),
                name: &name,
                creates,
                template: self.asked.template.unwrap(),
                wrong: self.asked.wrong,
                on_failure: match deployment.stack_rules.on_failure {
                    OnFailure::Rollback if creates && deployment.target.protected => OnFailure::Delete,
                    rules => rules,
                },
            };
            let State { cloudformation, random, .. } = state;
            match cloudformation.create_change_set(&new, random, now) {
                Err(No::Conflict) => Ok(()),
                made => made,
            }
        });
        made.await?;
        let made = self.describe_change_set(&name).await?;
        let made = made.ok_or_else(|| Failure::new(ErrorName::Unavailable, "it cannot be seen yet"))?;
        let change_set =
            ChangeSetRef { arn: made.arn, stack_id: made.stack_id, creates_stack: creates, made_at: self.now };
        self.note(&record, |record| record.change_set = Some(change_set.clone())).await?;
        Ok(Said::Done)
    }

    pub(crate) async fn execute(self, fence: u64) -> Result<Said, Failure> {
        let record = self.hold(fence).await?;
        let made = made(&record)?;
        self.session().await?;
        let described = self.describe_change_set(&made.arn).await?;
        if record.operation.is_some()
            && described.as_ref().is_none_or(|set| set.execution_status.starts_with("EXECUTE_"))
        {
            return Ok(Said::Done);
        }
        let bound = described.as_ref().and_then(|described| binding(&record, described));
        let approval = match &record.approval {
            Some(id) => self.world.read(approvals, id.as_str()).await?,
            None => None,
        };
        let seen = described.as_ref().map(seen);
        (self.rules.executable)(&record, seen, bound.as_ref(), approval.as_ref())?;
        let mark = OperationMark { what: Operation::Execute, stack_id: made.stack_id.clone(), began_at: self.now };
        let noted = self.note(&record, |record| {
            record.operation = record.operation.clone().or_else(|| Some(mark.clone()));
        });
        self.not_ended(&noted.await?)?;
        self.hold(fence).await?;
        let token = record.deployment.id.request_token(Operation::Execute);
        let mutation = Mutation::ExecuteChangeSet(made.arn.clone());
        let execute = self.mutate("cloudformation:ExecuteChangeSet", mutation, Some(fence), |state| {
            let (now, fate) = (state.now, fate(state));
            let State { cloudformation, random, .. } = state;
            cloudformation.execute(&made.arn, &token, fate, random, now).map(drop)
        });
        execute.await?;
        Ok(Said::Done)
    }

    pub(crate) async fn protect(self, fence: u64) -> Result<Said, Failure> {
        let record = self.hold(fence).await?;
        self.make_protected(&record).await?;
        Ok(Said::Done)
    }

    async fn make_protected(&self, record: &DeploymentRecord) -> Result<(), Failure> {
        if (self.rules.protects)(&record.deployment) {
            self.session().await?;
            let name = record.deployment.stack_name.clone();
            let protect = self.world.call("cloudformation:UpdateTerminationProtection", |state| {
                let stack = state.cloudformation.named(name.as_str()).ok_or(No::NotFound)?;
                state.cloudformation.stacks[stack].termination_protection = true;
                Ok(())
            });
            protect.await.map_err(|no| failure("cloudformation:UpdateTerminationProtection", no))?;
        }
        Ok(())
    }

    pub(crate) async fn discard_empty(self, fence: u64) -> Result<Said, Failure> {
        let record = self.hold(fence).await?;
        self.session().await?;
        self.discard(Some(fence)).await?;
        self.make_protected(&record).await?;
        Ok(Said::Done)
    }

    // ---- wait-for-stack

    pub(crate) async fn look_at_change_set(self, fence: u64) -> Result<Said, Failure> {
        let record = self.hold(fence).await?;
        self.session().await?;
        let made = made(&record)?;
        let described = self.describe_change_set(&made.arn).await?;
        let making = (self.rules.making)(&record.deployment, made, described.as_ref().map(seen), self.now)?;
        if let (Making::Ready, Some(described)) = (making, &described) {
            let review = self.describe_change_set(&made.arn).await?;
            review.ok_or_else(|| MakingError::Gone("somebody deleted the change set".into()))?;
            self.passes("s3:PutObject").await?;
            let bound = binding(&record, described);
            self.note(&record, |record| record.binding.clone_from(&bound)).await?;
        }
        Ok(match making {
            Making::Pending(wait) => Said::Again(wait),
            Making::Ready => Said::Done,
            Making::NoChanges => Said::NoChanges,
        })
    }

    pub(crate) async fn look_at_stack(self, fence: u64) -> Result<Said, Failure> {
        let record = self.hold(fence).await?;
        self.session().await?;
        let internal = || Failure::new(ErrorName::Internal, "nothing was done to the stack yet");
        let mark = record.operation.as_ref().ok_or_else(internal)?;
        let described = self.describe(Some(&mark.stack_id)).await?;
        let status = described.as_ref().map(|stack| stack.status);
        let token = record.deployment.id.request_token(mark.what);
        let since = moment(mark.began_at - SKEW);
        let all = match status {
            Some(_) => {
                let events = self.world.call("cloudformation:DescribeStackEvents", |state| {
                    let at = state.look();
                    let events = state.cloudformation.events(&mark.stack_id, at).into_iter();
                    Ok(events.filter(|event| event.at >= since).collect::<Vec<_>>())
                });
                let events = events.await.map_err(|no| failure("cloudformation:DescribeStackEvents", no))?;
                let told = |(index, event)| told(index, event, &mark.stack_id);
                events.iter().enumerate().map(told).collect::<Vec<StackEvent>>()
            }
            None => Vec::new(),
        };
        let events = (self.rules.of_operation)(&all, &token);
        if status.is_some() {
            if events.len() != record.events {
                self.passes("s3:PutObject").await?;
            }
            self.note(&record, |record| {
                record.events = events.len();
                record.stack_status = status.map(str::to_owned);
            })
            .await?;
        }
        let expected = match mark.what {
            Operation::Execute => {
                self.world.read(environments, &self.key()).await?.and_then(|known| known.last_seconds)
            }
            Operation::Delete | Operation::Repair => None,
        };
        let standing =
            (self.rules.look)(&record.deployment, mark, Seen { status, ours: &events, all: &all }, expected, self.now)?;
        match standing {
            Standing::Running(wait) => Ok(Said::Again(wait)),
            Standing::Done => Ok(Said::Done),
            Standing::Failed(status) => Err(stack_change::failed(&record.deployment, status, None).into()),
        }
    }

    // ---- approval

    pub(crate) async fn ask(self, fence: u64, token: String) -> Result<Said, Failure> {
        let record = self.record().await?;
        let internal = |what: &str| Failure::new(ErrorName::Internal, what);
        let deployment = &record.deployment;
        let policy = deployment.approval.clone().ok_or_else(|| internal("the stage asks for no approval"))?;
        let requester = deployment.requester.clone().ok_or_else(|| internal("nobody asked for this deployment"))?;
        let binding = record.binding.clone().ok_or_else(|| internal("the change set is not ready"))?;
        self.passes("ssm:GetParameter").await?;
        let id = question(&deployment.id);
        let expires_at = self.now + policy.expires_in.duration();
        let pipeline_id = requester.pipeline_id;
        let question = Approval {
            id: id.clone(),
            deployment: DeploymentRef { environment: deployment.environment.clone(), id: deployment.id.clone(), fence },
            task_token: token,
            tried: 0,
            binding,
            policy,
            requester,
            asked_at: self.now,
            expires_at,
            decisions: Vec::new(),
            void: None,
            announced: false,
            delivered: false,
        };
        let stored = self.world.update(approvals, id.to_string(), |known| {
            let next = match known {
                None => question.clone(),
                Some(known) => Approval { task_token: question.task_token.clone(), delivered: false, ..known.clone() },
            };
            Ok((Some(next.clone()), next))
        });
        let stored = stored.await?;
        let waiting =
            Waiting { deployment: deployment.id.clone(), pipeline_id, approval: id.clone(), until: stored.expires_at };
        self.note(&record, |record| record.approval = Some(id.clone())).await?;
        let environment = self.update_environment(|current| {
            let next = (self.rules.resume)(current, deployment)?;
            Ok(Environment { waiting: Some(waiting.clone()), ..next })
        });
        environment.await?;
        self.give_up().await?;
        self.answer(&stored).await?;
        Ok(Said::Done)
    }

    // ---- teardown

    async fn busy(&self, record: &DeploymentRecord) -> Result<Said, Failure> {
        let since = record.busy_since.unwrap_or(self.now);
        if record.busy_since.is_none() {
            self.note(record, |record| record.busy_since = Some(self.now)).await?;
        }
        Ok(Said::Again(change_set::wait_for_idle(since, self.now)))
    }

    /// What only looks, and notes what it saw.
    pub(crate) async fn holds(self, fence: u64) -> Result<Said, Failure> {
        let record = self.hold(fence).await?;
        self.session().await?;
        self.note(&record, |_| {}).await?;
        Ok(Said::Done)
    }

    /// The stacks here hold nothing: what is left are the looks before it.
    pub(crate) async fn empty(self, fence: u64) -> Result<Said, Failure> {
        Ok(match self.stands(fence).await? {
            Stands::Absent => Said::Absent,
            Stands::Busy(said) => said,
            Stands::There(..) => Said::Done,
        })
    }

    pub(crate) async fn tear_down(self, fence: u64) -> Result<Said, Failure> {
        let (record, stack_id) = match self.stands(fence).await? {
            Stands::Absent => return Ok(Said::Absent),
            Stands::Busy(said) => return Ok(said),
            Stands::There(record, stack_id) => (*record, stack_id),
        };
        let mark = OperationMark { what: Operation::Delete, stack_id: stack_id.clone(), began_at: self.now };
        let noted = self.note(&record, |record| {
            record.operation = record.operation.clone().or_else(|| Some(mark.clone()));
        });
        self.not_ended(&noted.await?)?;
        self.hold(fence).await?;
        self.delete_stack(&stack_id, Some(fence)).await?;
        Ok(Said::Done)
    }

    async fn stands(&self, fence: u64) -> Result<Stands, Failure> {
        let record = self.hold(fence).await?;
        let deployment = &record.deployment;
        if (self.rules.is_untouchable)(deployment) {
            return Err(Failure::new(ErrorName::StageProtected, "protected"));
        }
        if deployment.requester.is_none() {
            let environment = self.world.read(environments, &self.key()).await?;
            if !environment.is_some_and(|known| (self.rules.is_expired)(&known, self.now)) {
                return Err(Failure::new(ErrorName::Superseded, "deployed again"));
            }
        }
        self.session().await?;
        let described = self.describe(None).await?;
        let Some(described) = described.filter(|stack| stack.status != StackStatus::DeleteComplete.as_str()) else {
            return Ok(Stands::Absent);
        };
        let status = StackStatus::parse(described.status)?;
        if status.entry(false) == Entry::Busy && status != StackStatus::DeleteInProgress {
            let since = record.busy_since.unwrap_or(self.now);
            if let Some(error) = change_set::busy_for_too_long(deployment, status, since, self.now) {
                return Err(error.into());
            }
            return self.busy(&record).await.map(Stands::Busy);
        }
        let stack_id = described.id.clone();
        Ok(Stands::There(Box::new(record), stack_id))
    }

    // ---- settle

    pub(crate) async fn settle(self, end: Result<Ending, Failure>) -> Result<Said, Failure> {
        let mut ending = Settling { world: self.world.clone(), deployment: self.id(), ended: false };
        let settled = self.record_end(end).await;
        ending.ended = settled.is_ok();
        settled
    }

    async fn record_end(&self, end: Result<Ending, Failure>) -> Result<Said, Failure> {
        self.passes("dynamodb:GetItem").await?;
        let Some(record) = self.world.read(deployments, &self.id()).await? else {
            if end.is_err_and(|failure| named(failure.error) == ErrorName::Stopped) {
                return Err(Failure::new(ErrorName::Unavailable, "it may still be about to begin"));
            }
            return Ok(Said::Done);
        };
        let (ending, error, message) = match end {
            Ok(ending) => (ending, None, None),
            Err(failure) => (Ending::Failed, Some(named(failure.error)), Some(failure.message)),
        };
        let outcome = Outcome { ending, error, message, ended_at: self.now };
        let noted = self.note(&record, |record| {
            record.outcome = Some((self.rules.first_end)(record.outcome.as_ref(), &outcome));
        });
        let record = noted.await?;
        let deployment = &record.deployment;
        let outcome = record.outcome.clone().unwrap_or(outcome);
        let to_clean = (self.rules.cleans_up)(&outcome) && !record.cleaned_up;
        let cleaned = if to_clean { self.clean_up(&record).await } else { Ok(()) };
        let shown = if outcome.ending == Ending::Failed { Shown::default() } else { self.shown(&record).await? };
        let settled = self.update_environment(|current| {
            let current = match current {
                Some(current) => current.clone(),
                None => (self.rules.begin)(None, deployment)?,
            };
            Ok((self.rules.settle)(current, deployment, &outcome, &shown))
        });
        settled.await?;
        self.give_up().await?;
        cleaned?;
        let closed = self.update_environment(|current| {
            let current = current.ok_or_else(|| Failure::new(ErrorName::Internal, "it was settled before"))?;
            Ok(current.closed(&deployment.id))
        });
        closed.await?;
        Ok(Said::Done)
    }

    async fn clean_up(&self, record: &DeploymentRecord) -> Result<(), Failure> {
        if let Some(approval) = &record.approval {
            self.void(approval, ErrorName::ChangeSetStale).await?;
        }
        self.take_away(record).await?;
        self.note(record, |record| record.cleaned_up = true).await.map(drop)
    }

    async fn take_away(&self, record: &DeploymentRecord) -> Result<(), Failure> {
        if !(self.rules.may_leave)(record) {
            return Ok(());
        }
        let taking = self.take(None).await?;
        let alone = (self.rules.is_alone)(&taking);
        let discarded = match self.session().await {
            Ok(()) if alone => self.discard(None).await,
            Ok(()) => {
                self.world.change().facts.left_to_holder.insert(self.asked.deployment.stack_name.to_string());
                self.delete_change_set().await
            }
            Err(failure) => Err(failure),
        };
        match discarded {
            Err(failure) if is_retried(&failure) => Err(failure),
            Err(failure) if failure.message == NOT_NOW && (self.rules.comes_back)(record) => {
                Err(Failure::new(ErrorName::Unavailable, failure.message))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn shown(&self, record: &DeploymentRecord) -> Result<Shown, Failure> {
        if record.deployment.action == Action::Teardown {
            return Ok(Shown::default());
        }
        self.session().await?;
        self.describe(None).await?;
        let executed = record.operation.as_ref().filter(|mark| mark.what == Operation::Execute);
        let seconds = executed.and_then(|mark| u32::try_from(self.now.duration_since(mark.began_at).as_secs()).ok());
        Ok(Shown { outputs: BTreeMap::new(), seconds })
    }
}

fn made(record: &DeploymentRecord) -> Result<&ChangeSetRef, Failure> {
    record.change_set.as_ref().ok_or_else(|| Failure::new(ErrorName::Internal, "the change set was not made yet"))
}

fn seen(described: &ChangeSetSeen) -> SeenChangeSet<'_> {
    SeenChangeSet { status: described.status, execution_status: described.execution_status, reason: described.reason }
}

fn told(index: usize, event: &Event, stack_id: &str) -> StackEvent {
    StackEvent {
        id: index.to_string(),
        at: timestamp(event.at),
        logical_id: if event.is_stack { "stack".into() } else { "Queue".into() },
        physical_id: event.is_stack.then(|| stack_id.to_owned()),
        resource_type: if event.is_stack { "AWS::CloudFormation::Stack".into() } else { "AWS::SQS::Queue".into() },
        status: event.status.into(),
        reason: None,
        token: event.token.clone(),
    }
}

/// The name under which an end is recorded, as `settle` has it.
fn named(error: &str) -> ErrorName {
    ErrorName::parse(error).unwrap_or(match error {
        "Execution.ABORTED" => ErrorName::Stopped,
        "Execution.TIMED_OUT" => ErrorName::StackTimedOut,
        _ => ErrorName::Internal,
    })
}

/// Whether a state machine tries a step again that failed so, as its first `Retry` says.
pub(crate) fn is_retried(failure: &Failure) -> bool {
    ErrorName::parse(failure.error).is_some_and(ErrorName::is_retried)
}

/// Makes a question void.
pub(crate) async fn void(world: &World, rules: Rules, id: &Digest, why: &Void) -> Result<Option<Approval>, Failure> {
    let voided = world.update(approvals, id.to_string(), |current| {
        let next = current.and_then(|approval| (rules.voided)(approval, why));
        Ok((next.clone(), next.or_else(|| current.cloned())))
    });
    voided.await
}

/// SendTaskSuccess or SendTaskFailure.
async fn send(world: &World, approval: &Approval, how: Result<(), Failure>) -> Result<(), Failure> {
    let token = approval.task_token.clone();
    let sent = world.call("states:SendTask", |state| {
        state.answer(&token, how);
        Ok(())
    });
    sent.await.map_err(|no| failure("states:SendTask", no))
}

/// Hands on how a question was answered, if it was.
pub(crate) async fn answer(world: &World, approval: &Approval) -> Result<(), Failure> {
    let how = match approval.answer().filter(|_| !approval.delivered) {
        Some(Answer::GoOn) => Ok(()),
        Some(Answer::Fail(error, why)) => Err(Failure::new(error, why)),
        None => return Ok(()),
    };
    send(world, approval, how).await?;
    let noted = world.update(approvals, approval.id.to_string(), |current| {
        let same = current.filter(|current| current.task_token == approval.task_token && !current.delivered);
        Ok((same.map(Approval::delivered), ()))
    });
    noted.await
}
