//! What happens in one run: the stages, what lives there already, who deploys what and when, what people do, and what goes wrong.

use std::collections::BTreeMap;

use jiff::Timestamp;
use slipway_domain::ErrorName;
use slipway_domain::approval::{Approval, DecisionError, Verdict, Void};
use slipway_domain::approver::Approver;
use slipway_domain::claims::{JobClaims, RefType};
use slipway_domain::deployment::{Action, Deployment, DeploymentId, Launch, Requester, Target};
use slipway_domain::environment::{Environment, EnvironmentState};
use slipway_domain::expiry::Due;
use slipway_domain::names::{
    AccountId, ApplicationName, Digest, EnvironmentKey, EnvironmentName, ProjectId, Region, StageName,
};
use slipway_domain::stages::{ApprovalPolicy, OnFailure, Span, StackRules};

use crate::cloudformation::{Fate, HOUR, MINUTE, Ms, SECOND, Template};
use crate::machines;
use crate::random::Random;
use crate::steps::{answer, question, void};
use crate::world::{Failure, State, Weather, World, moment, timestamp};

/// When `sweep` begins no teardown any more, so that a run comes to its end.
const LAST_TEARDOWN: Ms = 14 * HOUR;
/// How long a run is.
pub(crate) const HORIZON: Ms = 40 * HOUR;

/// An environment, and the policy of its stage.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) key: EnvironmentKey,
    pub(crate) target: Target,
    approval: Option<ApprovalPolicy>,
    timeout: Span,
    expires_in: Option<Span>,
    rules: StackRules,
    /// A person changed the stack or its change sets behind Slipway's back.
    pub(crate) touched: bool,
}

/// What an execution is started for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) label: String,
    pub(crate) stage: usize,
    pub(crate) deployment: Deployment,
    pub(crate) template: Option<Template>,
    /// CloudFormation cannot make a change set of it.
    pub(crate) wrong: bool,
}

/// The digest that stands for a template's bundle.
pub(crate) fn bundle(template: Template) -> Digest {
    Digest::of_parts(&["bundle", &template.0.to_string()])
}

/// How the operation that is begun now will go.
pub(crate) fn fate(state: &mut State) -> Fate {
    if state.facts.calm {
        return Fate::Succeeds;
    }
    match state.random.below(100) {
        0..70 => Fate::Succeeds,
        70..88 => Fate::Fails,
        88..97 => Fate::FailsTwice,
        _ => Fate::Hangs,
    }
}

fn stage(index: usize, random: &mut Random) -> Stage {
    let protected = random.chance(1, 3);
    let minutes = |random: &mut Random, of: &[&str]| Span::parse(random.one_of(of)).unwrap();
    let approval = random.chance(2, 5).then(|| ApprovalPolicy {
        required: random.one_of(&[1, 1, 2]),
        approvers: ["lead", "other", "dana"].map(|login| Approver::parse(login).unwrap()).to_vec(),
        principals: Vec::new(),
        by_job: true,
        self_approval: false,
        reason_required: false,
        expires_in: minutes(random, &["20m", "2h"]),
    });
    let on_failure = match random.below(4) {
        0 if !protected => OnFailure::Keep,
        1 if !protected => OnFailure::Delete,
        _ => OnFailure::Rollback,
    };
    Stage {
        key: EnvironmentKey {
            project: ProjectId(42),
            application: ApplicationName::new("news").unwrap(),
            stage: StageName::new(if protected { "prod" } else { "dev" }).unwrap(),
            environment: EnvironmentName::new(format!("e{index}")).unwrap(),
        },
        target: Target {
            account: AccountId::new("111111111111").unwrap(),
            region: Region::new("eu-central-1").unwrap(),
            protected,
        },
        approval,
        timeout: minutes(random, &["30m", "1h", "2h"]),
        expires_in: (!protected).then(|| minutes(random, &["3h", "10h", "30d"])),
        rules: StackRules { on_failure, ..StackRules::default() },
        touched: false,
    }
}

fn asked(stage: &Stage, index: usize, action: Action, pipeline_id: u64, template: u32, wrong: bool) -> Asked {
    let template = (action == Action::Deploy).then_some(Template(template));
    let label = match template {
        Some(template) => format!("deploy {} of pipeline {pipeline_id} to e{index}", template.0),
        None => format!("teardown of pipeline {pipeline_id} on e{index}"),
    };
    let deployment = Deployment {
        id: DeploymentId::from_execution(Timestamp::UNIX_EPOCH, "not started"),
        action,
        environment: stage.key.clone(),
        target: stage.target.clone(),
        stack_name: stage.key.stack_name(),
        launch: template.map(|template| Launch {
            bundle: bundle(template),
            parameters: BTreeMap::new(),
            tags: BTreeMap::new(),
            capabilities: Vec::new(),
            expires_in: stage.expires_in,
        }),
        repair: None,
        back: None,
        approval: stage.approval.clone(),
        timeout: stage.timeout,
        stack_rules: stage.rules.clone(),
        teardown: Default::default(),
        purge_logs: false,
        requester: (pipeline_id > 0).then(|| Requester {
            user_id: 7,
            user_login: "dana".into(),
            pipeline_id,
            job_id: pipeline_id * 10,
            project_path: "group/news".into(),
            ref_name: "main".into(),
            ref_type: None,
            sha: format!("c0ffee{pipeline_id}"),
        }),
        execution_arn: String::new(),
        admission: Digest::of(b"admission"),
        started_at: Timestamp::UNIX_EPOCH,
    };
    Asked { label, stage: index, deployment, template, wrong }
}

/// Sets a run up. In a calm one nothing goes wrong, so that everything has to end well.
pub(crate) fn set_up(world: &World) {
    let calm = {
        let mut state = world.change();
        let calm = state.random.chance(1, 8);
        state.facts.calm = calm;
        let rough = |state: &mut State, of: &[u64]| if calm { 0 } else { state.random.one_of(of) };
        state.weather = Weather {
            throttled: rough(&mut state, &[0, 5, 15]),
            lost: rough(&mut state, &[0, 5, 15]),
            dies: rough(&mut state, &[0, 3, 8]),
            hangs: rough(&mut state, &[0, 0, 4]),
            behind: rough(&mut state, &[0, 100, 300]),
            unheard: rough(&mut state, &[0, 5, 20]),
            stalls: rough(&mut state, &[0, 0, 15]),
            stops: 0,
        };
        calm
    };
    let crowded = !calm && world.change().random.chance(1, 2);
    if crowded {
        let mut state = world.change();
        state.weather.stops = state.random.one_of(&[0, 60, 120]);
    }
    let environments = { world.change().random.one_of(&[1, 1, 1, 2, 3]) };
    for index in 0..environments {
        let mut state = world.change();
        let stage = stage(index, &mut state.random);
        found(&mut state, &stage, calm);
        state.stages.push(stage);
        let deployments = state.random.between(1, 5);
        drop(state);
        for _ in 0..deployments {
            plan(world, index, crowded);
        }
    }
    let world = world.clone();
    let sweeper = world.clone();
    world.change().spawn(None, async move { sweep(&sweeper).await });
}

/// What is there before the run begins.
fn found(state: &mut State, stage: &Stage, calm: bool) {
    const STATUSES: [&str; 9] = [
        "UPDATE_ROLLBACK_COMPLETE",
        "ROLLBACK_COMPLETE",
        "ROLLBACK_FAILED",
        "CREATE_FAILED",
        "REVIEW_IN_PROGRESS",
        "UPDATE_ROLLBACK_FAILED",
        "DELETE_FAILED",
        "UPDATE_FAILED",
        "IMPORT_COMPLETE",
    ];
    let status = match state.random.below(10) {
        0..4 => return,
        4..8 => state.random.one_of(&["CREATE_COMPLETE", "UPDATE_COMPLETE"]),
        _ if calm => return,
        _ => state.random.one_of(&STATUSES),
    };
    let never = ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "REVIEW_IN_PROGRESS"].contains(&status);
    let live = (!never).then_some(Template(1));
    let name = stage.key.stack_name();
    let stack = state.cloudformation.given(name.as_str(), status, live, -HOUR);
    state.cloudformation.stacks[stack].termination_protection = stage.target.protected && state.random.chance(1, 2);
    state.note(|| format!("{name} is there, {status}"));
    let row = Environment {
        state: EnvironmentState::Live,
        pipeline_id: 1,
        release: live.map(bundle),
        expires_at: stage.expires_in.map(|span| timestamp(0) + span.duration()),
        ..Environment::new(stage.key.clone(), name, stage.target.clone())
    };
    state.environments.insert(stage.key.to_string(), (row, 1));
}

/// One execution: when, what, and what people do about it. In a crowded run all come at once.
fn plan(world: &World, index: usize, crowded: bool) {
    let (mut after, asked, stopped, person) = {
        let mut state = world.change();
        let stage = state.stages[index].clone();
        let calm = state.facts.calm;
        let State { random, .. } = &mut *state;
        let action =
            if random.chance(1, 6) && !(calm && stage.target.protected) { Action::Teardown } else { Action::Deploy };
        let newest = if crowded { random.one_of(&[11, 14]) } else { 14 };
        let pipeline = u64::try_from(random.between(10, newest)).unwrap();
        let template = u32::try_from(random.between(1, 4)).unwrap();
        let wrong = !calm && random.chance(1, 12);
        let asked = asked(&stage, index, action, pipeline, template, wrong);
        let after = random.span(SECOND, if crowded { 2 * MINUTE } else { 90 * MINUTE });
        let stopped = (!calm && random.chance(1, 7)).then(|| random.span(200, 60 * MINUTE));
        let person = (!calm && random.chance(1, 6)).then(|| (random.below(7), random.span(SECOND, 90 * MINUTE)));
        (after, asked, stopped, person)
    };
    if world.state().facts.calm {
        // One after the other: that a newer pipeline comes in between is not calm.
        after += Ms::try_from(world.state().stages.len()).unwrap();
    }
    let starter = world.clone();
    let approves = asked.deployment.approval.is_some() && asked.deployment.action == Action::Deploy;
    world.change().spawn(None, async move {
        starter.sleep(after).await;
        let execution = machines::start(&starter, asked);
        if let Some(stopped) = stopped {
            let stopper = starter.clone();
            starter.change().spawn(None, async move {
                stopper.sleep(stopped).await;
                machines::stop(&stopper, execution);
            });
        }
        if approves {
            decide(&starter, execution).await;
        }
    });
    if let Some((what, after)) = person {
        let meddler = world.clone();
        world.change().spawn(None, async move {
            meddler.sleep(after).await;
            meddle(&meddler, index, what).await;
        });
    }
}

/// The approver waits for the question, and answers it, well or badly.
async fn decide(world: &World, execution: usize) {
    let id = question(&world.state().executions[execution].asked.deployment.id);
    let approval = loop {
        world.sleep(20 * SECOND).await;
        let state = world.state();
        if let Some((approval, _)) = state.approvals.get(id.as_str()) {
            break approval.clone();
        }
        if !state.executions[execution].running {
            return;
        }
    };
    let (kind, takes) = {
        let mut state = world.change();
        let takes = state.random.span(SECOND, 15 * MINUTE);
        (if state.facts.calm { 0 } else { state.random.below(10) }, takes)
    };
    // Now and then what is decided on becomes another thing before the decision.
    let replaced = {
        let mut state = world.change();
        let stage = state.executions[execution].asked.stage;
        !state.facts.calm && state.random.chance(1, 6) && meddled(&mut state, stage, 3)
    };
    let takes = if replaced { takes + 3 * MINUTE } else { takes };
    let until_late = moment(approval.expires_at) - world.now() + SECOND;
    match kind {
        0..5 => {
            world.sleep(takes).await;
            say(world, &approval, Verdict::Approve, "lead").await;
            // The same one again counts for nothing; whether anybody else has to agree is the stage's matter.
            say(world, &approval, Verdict::Approve, "lead").await;
            say(world, &approval, Verdict::Approve, "other").await;
        }
        5 => {
            world.sleep(takes).await;
            say(world, &approval, Verdict::Reject, "lead").await;
            world.sleep(2 * SECOND).await;
            say(world, &approval, Verdict::Approve, "lead").await;
        }
        6 | 7 => {
            world.sleep(until_late.max(0)).await;
            say(world, &approval, Verdict::Approve, "lead").await;
        }
        8 => {
            world.sleep(takes).await;
            say(world, &approval, Verdict::Approve, "dana").await;
        }
        _ => {}
    }
}

/// One decision at the callback URL. Whoever gets no answer tries once more.
async fn say(world: &World, approval: &Approval, verdict: Verdict, login: &'static str) {
    for _ in 0..2 {
        world.note(|| format!("{login} says {verdict:?} to {}", approval.deployment.id));
        let (at, decider, approval) = (timestamp(world.now()), world.clone(), approval.clone());
        let decision = async move {
            let claims = claims(&approval, login);
            let rules = decider.rules();
            let refused = |error: DecisionError| Failure::new(ErrorName::NotAllowed, error.to_string());
            let decided = decider.update(
                |state| &mut state.approvals,
                approval.id.to_string(),
                |current| {
                    let Some(current) = current else { return Ok((None, None)) };
                    let decision = (rules.decide)(current, verdict, &claims, at).map_err(refused)?;
                    let next = current.with(decision);
                    Ok((Some(next.clone()), Some(next)))
                },
            );
            match decided.await {
                Ok(Some(decided)) => answer(&decider, &decided).await,
                Ok(None) => Ok(()),
                // Whoever comes second is told; and if the first one's answer was lost on the way, it is handed on now.
                Err(failure) if failure.error == ErrorName::NotAllowed.as_str() => {
                    match decider.read(|state| &mut state.approvals, approval.id.as_str()).await? {
                        Some(known) => answer(&decider, &known).await,
                        None => Ok(()),
                    }
                }
                Err(failure) => Err(failure),
            }
        };
        if world.invoke("web", 25, decision).await.is_ok() {
            return;
        }
    }
}

fn claims(approval: &Approval, login: &str) -> JobClaims {
    JobClaims {
        project_id: ProjectId(42),
        project_path: "group/news".into(),
        namespace_path: "group".into(),
        job_project_id: None,
        user_id: match login {
            "dana" => 7,
            "lead" => 8,
            _ => 9,
        },
        user_login: login.into(),
        user_email: None,
        user_access_level: None,
        groups_direct: Vec::new(),
        pipeline_id: approval.requester.pipeline_id,
        pipeline_source: "push".into(),
        job_id: 1,
        ref_name: "main".into(),
        ref_type: RefType::Branch,
        ref_protected: true,
        environment: None,
        environment_protected: None,
        environment_action: None,
        deployment_tier: None,
        sha: "c0ffee".into(),
        jti: "jti".into(),
        issued_at: approval.asked_at,
        expires_at: approval.expires_at,
    }
}

/// A person with rights in the account, or in the control plane, does something behind Slipway's back.
async fn meddle(world: &World, index: usize, what: u64) {
    for _ in 0..200 {
        if meddled(&mut world.change(), index, what) {
            return;
        }
        world.sleep(20 * SECOND).await;
    }
}

fn meddled(state: &mut State, index: usize, what: u64) -> bool {
    let (name, now) = (state.stages[index].key.stack_name(), state.now);
    let Some(stack) = state.cloudformation.named(name.as_str()) else { return false };
    let fate = state.random.one_of(&[Fate::Succeeds, Fate::Succeeds, Fate::Fails]);
    let State { cloudformation, random, .. } = state;
    match what {
        0 => {
            if !cloudformation.update(stack, Template(99), fate, random, now) {
                return false;
            }
            state.note(|| format!("a person updates {name}"));
        }
        1 => {
            let deleted = cloudformation.delete(name.as_str(), "a person", fate, random, now);
            if deleted != Ok(true) {
                return false;
            }
            state.note(|| format!("a person deletes {name}"));
        }
        2 => {
            let ours =
                cloudformation.change_sets.iter().rev().find(|set| set.stack == stack && set.deleted_at.is_none());
            let Some(arn) = ours.map(|set| set.arn.clone()) else { return false };
            if cloudformation.delete_change_set(&arn, now).is_err() {
                return false;
            }
            state.note(|| format!("a person deletes {arn}"));
        }
        3 | 4 => {
            // The release is another one than what was reviewed.
            let mut rows = state.deployments.values_mut();
            let reviewed = rows.find(|(record, _)| {
                let here = record.deployment.stack_name == name && record.outcome.is_none();
                here && record.binding.is_some() && record.operation.is_none()
            });
            let Some((record, version)) = reviewed else { return false };
            let Some(release) = &mut record.release else { return false };
            release.manifest = Digest::of(b"another");
            *version += 1;
            let id = record.deployment.id.to_string();
            state.facts.tampered.insert(id.clone(), now);
            state.note(|| format!("the release of {id} is another one now"));
            return true;
        }
        _ => {
            // Somebody answers in Step Functions itself: the token is in the execution's history.
            let open = state.tokens.iter().find(|(token, waiting)| {
                waiting.open && state.approvals.values().any(|(approval, _)| approval.task_token == **token)
            });
            let Some(token) = open.map(|(token, _)| token.clone()) else { return false };
            state.note(|| format!("somebody answers {token} in Step Functions itself"));
            state.answer(&token, Ok(()));
            return true;
        }
    }
    state.stages[index].touched = true;
    true
}

/// The scheduled cleanup, every 15 minutes.
async fn sweep(world: &World) {
    loop {
        world.sleep(15 * MINUTE).await;
        let at = timestamp(world.now());
        let approvals: Vec<Approval> = world.state().approvals.values().map(|(row, _)| row.clone()).collect();
        let grace = jiff::SignedDuration::from_mins(2);
        for lost in approvals.into_iter().filter(|row| row.undelivered_since().is_some_and(|since| since + grace <= at))
        {
            let sweeper = world.clone();
            let _ = world.invoke("sweep", 300, async move { answer(&sweeper, &lost).await }).await;
        }
        let rows: Vec<Environment> = world.state().environments.values().map(|(row, _)| row.clone()).collect();
        for row in rows {
            let rules = world.rules();
            for due in (rules.due)(&row, at) {
                match due {
                    Due::ExpireApproval(waiting) => {
                        let (sweeper, row) = (world.clone(), row.clone());
                        let expire = async move {
                            let why = Void { error: ErrorName::ApprovalExpired, why: "nobody decided".into(), at };
                            if let Some(approval) = void(&sweeper, rules, &waiting.approval, &why).await? {
                                answer(&sweeper, &approval).await?;
                            }
                            let cleared = sweeper.update(
                                |state| &mut state.environments,
                                row.key.to_string(),
                                |current| {
                                    let mut current = current.unwrap_or(&row).clone();
                                    current.waiting = current.waiting.filter(|other| *other != waiting);
                                    Ok((Some(current), ()))
                                },
                            );
                            cleared.await
                        };
                        let _ = world.invoke("sweep", 300, expire).await;
                    }
                    Due::Teardown { expired_at } => tear_down(world, &row, expired_at),
                    // Nobody reads what is told, and no execution of this world dies without its end being told.
                    Due::Warn { .. } | Due::Look(_) => {}
                }
            }
        }
    }
}

/// Starts the teardown of an expired environment, once an hour.
fn tear_down(world: &World, row: &Environment, expired_at: Timestamp) {
    let now = world.now();
    if now > LAST_TEARDOWN {
        return;
    }
    let found = world.state().stages.iter().position(|stage| stage.key == row.key).unwrap();
    let stage = world.state().stages[found].clone();
    let mut asked = asked(&stage, found, Action::Teardown, 0, 0, false);
    asked.label = format!("sweep's teardown of e{found} ({}, {})", expired_at.as_second(), now / HOUR);
    let begun = |execution: &machines::Execution| execution.asked.label.starts_with(&asked.label);
    if world.state().executions.iter().any(begun) {
        return;
    }
    machines::start(world, asked);
}
