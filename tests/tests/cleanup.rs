//! How long environments live, and what the cleanup does about it, over the real functions and machines.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test may, and its time is now"
)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use slipway_domain::admission::Admission;
use slipway_domain::deployment::{DeploymentId, Target};
use slipway_domain::environment::{Environment, EnvironmentState};
use slipway_domain::names::{AccountId, Digest, EnvironmentKey, ProjectId, Region};
use slipway_domain::protocol::{Ask, Keep, KeepRequest, On, RepairRequest};
use slipway_domain::repair::Asked;
use slipway_domain::stages::Span;
use slipway_local::job::NewsJob;
use slipway_local::{DEV, PROD, REGION, STAGING, TOOLING, control_plane};
use slipway_tests::{Ended, Refused, World, faults, in_world, job, launch, on, tiny, unique};

/// What one test lets expire, another one's sweep must not take for its own.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn named(prefix: &str) -> String {
    format!("review/{prefix}-{}", unique())
}

fn green(ended: &Ended) {
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
}

async fn keep(world: &World, job: &NewsJob, on: &On, keep: Keep) -> Result<Value, Refused> {
    world.ask(&world.token(job), Ask::Keep(KeepRequest { on: on.clone(), keep })).await
}

fn pin(days: u32, reason: &str) -> Keep {
    Keep::Pin { span: Span::days(days), reason: reason.to_owned() }
}

async fn live(world: &World, prefix: &str) -> (NewsJob, On) {
    let (owner, on) = (job("deploy-dev", "feature"), on("dev", &named(prefix)));
    green(&world.deploy(&owner, &on, &tiny(prefix)).await);
    world.settled(&owner, &on).await;
    (owner, on)
}

async fn state(world: &World, on: &On) -> Value {
    world.row(on, "META").await.unwrap()["state"].clone()
}

async fn until_torn_down(world: &World, on: &On) {
    let began = Instant::now();
    while state(world, on).await != json!("torn_down") {
        assert!(began.elapsed().as_secs() < 60, "it is still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Somebody who listens to Slipway's bus.
struct Ear {
    sqs: aws_sdk_sqs::Client,
    queue: String,
}

impl Ear {
    async fn listen(world: &World, name: &str) -> Self {
        let config = world.control_plane.emulator.sdk_config(TOOLING);
        let (sqs, events) = (aws_sdk_sqs::Client::new(&config), aws_sdk_eventbridge::Client::new(&config));
        let policy = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": "*"}]});
        let make = sqs.create_queue().queue_name(name);
        let make = make.attributes(aws_sdk_sqs::types::QueueAttributeName::Policy, policy.to_string());
        let queue = make.send().await.unwrap().queue_url.unwrap();
        let bus = world.control_plane.output("BusName");
        let rule = events.put_rule().name(name).event_bus_name(bus).event_pattern(r#"{"source":["slipway"]}"#);
        rule.send().await.unwrap();
        let arn = format!("arn:aws:sqs:{REGION}:{TOOLING}:{name}");
        let target = aws_sdk_eventbridge::types::Target::builder().id("queue").arn(arn).build().unwrap();
        events.put_targets().rule(name).event_bus_name(bus).targets(target).send().await.unwrap();
        Self { sqs, queue }
    }

    /// The first `count` events that are `wanted`, and what came with them; fewer when no more come.
    async fn hears(&self, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut heard: Vec<Value> = Vec::new();
        let began = Instant::now();
        while heard.len() < count && began.elapsed().as_secs() < 60 {
            let got =
                self.sqs.receive_message().queue_url(&self.queue).max_number_of_messages(10).send().await.unwrap();
            for message in got.messages.unwrap_or_default() {
                let event: Value = serde_json::from_str(&message.body.unwrap()).unwrap();
                let delete = self.sqs.delete_message().queue_url(&self.queue);
                delete.receipt_handle(message.receipt_handle.unwrap()).send().await.unwrap();
                if wanted(&event) {
                    heard.push(event);
                }
            }
        }
        heard
    }
}

/// An environment whose stack somebody deleted by hand, and that expired.
async fn expired(world: &World, prefix: &str) -> On {
    let on = on("dev", &named(prefix));
    let key = EnvironmentKey {
        project: ProjectId(101),
        application: on.application.clone(),
        stage: on.stage.clone(),
        environment: on.environment.clone(),
    };
    let target =
        Target { account: AccountId::new(DEV).unwrap(), region: Region::new(REGION).unwrap(), protected: false };
    let row = Environment {
        state: EnvironmentState::Live,
        expires_at: Some(Timestamp::now() - SignedDuration::from_mins(5)),
        ..Environment::new(key.clone(), key.stack_name(), target)
    };
    world.put_row(&on, "META", &serde_json::to_value(row).unwrap()).await;
    world.due(&on).await;
    on
}

async fn invoke_sweep(world: &World, ask: Value) -> Result<Value, Refused> {
    world.invoke(world.control_plane.output("SweepFunction"), &ask).await
}

#[test]
fn an_environment_is_kept_for_as_long_as_somebody_wants_it() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let (owner, on) = live(world, "kept").await;
        let before = world.row(&on, "META").await.unwrap()["expires_at"].clone();
        let shorter = keep(world, &owner, &on, Keep::Extend { span: Some(Span::days(1)) }).await.unwrap();
        assert_eq!(shorter["until"], before, "never shorter");
        let longer = keep(world, &owner, &on, Keep::Extend { span: None }).await.unwrap();
        assert!(longer["until"].as_str() > before.as_str(), "{longer}");
        for (asked, name) in [
            (Keep::Extend { span: Some(Span::days(300)) }, "NotAllowed"),
            (pin(91, "for good"), "NotAllowed"),
            (pin(1, " "), "InvalidRequest"),
            (pin(1, &"x".repeat(501)), "InvalidRequest"),
        ] {
            let refused = keep(world, &owner, &on, asked.clone()).await.unwrap_err();
            assert_eq!(refused.name, name, "{asked:?}: {refused:?}");
        }
        let nowhere = slipway_tests::on("dev", &named("nowhere"));
        assert_eq!(keep(world, &owner, &nowhere, pin(1, "x")).await.unwrap_err().name, "NotFound");

        let pinned = keep(world, &owner, &on, pin(14, "shown at the fair")).await.unwrap();
        assert_eq!(pinned["pin"]["by"], json!("dana"));
        let shorter = keep(world, &owner, &on, pin(1, "less")).await.unwrap_err();
        assert!(shorter.message.contains("shown at the fair"), "{shorter:?}");
        // Neither a job nor the cleanup takes it down.
        let stopped = world.teardown(&job("stop-dev", "feature"), &on).await;
        assert!(stopped.error == "NotAllowed" && stopped.cause.contains("pinned until"), "{stopped:?}");
        world.set_in_row(&on, "expires_at", &json!(Timestamp::now() - SignedDuration::from_mins(1))).await;
        world.due(&on).await;
        assert_eq!(world.sweep().await["teardowns"], json!(0));
        assert_eq!(state(world, &on).await, json!("live"));

        keep(world, &owner, &on, Keep::Unpin {}).await.unwrap();
        assert_eq!(world.sweep().await["teardowns"], json!(1));
        until_torn_down(world, &on).await;
        assert_eq!(world.stack_status(DEV, &owner, &on).await, None);
        assert_eq!(keep(world, &owner, &on, Keep::Extend { span: None }).await.unwrap_err().name, "NotFound");
        let (rows, head) = world.audit(&owner, &on).await;
        let text = serde_json::to_string(&rows).unwrap();
        for kept in ["extended", "pinned", "unpinned", "shown at the fair"] {
            assert!(text.contains(kept), "{kept} in {text}");
        }
        assert!(head.number >= 6);
    });
}

#[test]
fn too_much_at_once_waits_for_a_person() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let ear = Ear::listen(world, "hears-of-too-much").await;
        world.set_variable("SweepFunction", "SLIPWAY_SWEEP_MOST", "2").await;
        let doomed = [expired(world, "one").await, expired(world, "two").await, expired(world, "three").await];
        let plan = invoke_sweep(world, json!({"plan": {}})).await.unwrap();
        assert_eq!((&plan["held_back"], &plan["teardowns"]), (&json!(3), &json!(0)), "{plan}");
        let named: BTreeSet<&str> = plan["plan"]
            .as_array()
            .unwrap()
            .iter()
            .map(|doomed| doomed["environment"]["environment"].as_str().unwrap())
            .collect();
        assert_eq!(named, doomed.iter().map(|on| on.environment.as_str()).collect());
        let since = Timestamp::now();
        let mut stopped_at = Value::Null;
        for _ in 0..2 {
            let swept = world.sweep().await;
            assert_eq!((&swept["held_back"], &swept["teardowns"]), (&json!(3), &json!(0)), "{swept}");
            assert!(stopped_at.is_null() || stopped_at == swept["stopped"]["at"], "{swept}");
            stopped_at = swept["stopped"]["at"].clone();
        }
        for on in &doomed {
            assert_eq!(state(world, on).await, json!("live"));
        }
        let log = world.log("sweep", since).await;
        assert!(log.contains("\"SweepStopped\":1"), "{log}");
        // A share of all counts as well, once they were counted.
        let total = world.sweep_state().await["census"]["total"].as_u64().unwrap();
        assert!(total >= 1, "{total}");
        let other = invoke_sweep(world, json!({"confirm": {"stopped_at": "2020-01-01T00:00:00Z"}})).await.unwrap_err();
        assert!(other.name == "NotAllowed" && other.message.contains("had expired at once"), "{other:?}");
        let swept = invoke_sweep(world, json!({"confirm": {"stopped_at": stopped_at}})).await.unwrap();
        assert_eq!((&swept["teardowns"], &swept["stopped"]), (&json!(3), &Value::Null), "{swept}");
        for on in &doomed {
            until_torn_down(world, on).await;
        }
        // It was told once, though it was seen twice: all that was told until the end of the last one.
        let last = |event: &Value| {
            let detail = &event["detail"];
            detail["environment"]["environment"] == json!(doomed[2].environment) && detail["ending"] == "torn_down"
        };
        let heard = ear.hears(1 + 1, |event| event["detail-type"] == "Sweep Stopped" || last(event)).await;
        let told: Vec<(&Value, &Value)> = heard
            .iter()
            .filter(|event| !last(event))
            .map(|event| (&event["detail"]["at"], &event["detail"]["expired"]))
            .collect();
        assert_eq!(told, [(&stopped_at, &json!(3))], "{heard:?}");
        let nothing = invoke_sweep(world, json!({"confirm": {"stopped_at": stopped_at}})).await.unwrap_err();
        assert!(nothing.message.contains("nothing is held back"), "{nothing:?}");
        world.set_variable("SweepFunction", "SLIPWAY_SWEEP_MOST", "50").await;
    });
}

#[test]
fn a_cleanup_that_is_killed_as_it_stops_says_so_all_the_same() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let ear = Ear::listen(world, "hears-in-the-end").await;
        world.set_variable("SweepFunction", "SLIPWAY_SWEEP_MOST", "0").await;
        let on = expired(world, "held").await;
        let counted = json!({"at": Timestamp::now(), "total": 1000, "stages": {}});
        // It noted that it stopped; it told; it noted that it told.
        for call in ["PutItem", "PutEvents", "PutItem.2"] {
            world.put_sweep_state(&json!({"census": counted})).await;
            let killed = faults::killed_after(world, "SweepFunction", call).await;
            assert!(world.invoke(&killed, &json!({"sweep": {}})).await.is_err(), "{call}: it was not killed");
            let mut stopped_at = Value::Null;
            for _ in 0..2 {
                let swept = world.sweep().await;
                assert_eq!((&swept["held_back"], &swept["teardowns"]), (&json!(1), &json!(0)), "{call}: {swept}");
                stopped_at = swept["stopped"]["at"].clone();
            }
            assert_eq!(world.sweep_state().await["told"], stopped_at, "{call}");
            // Once at least: an event may come twice.
            let heard = ear.hears(1, |event| event["detail"]["at"] == stopped_at).await;
            assert!(heard.iter().any(|event| event["detail-type"] == "Sweep Stopped"), "{call}: {heard:?}");
            assert_eq!(state(world, &on).await, json!("live"), "{call}");
        }
        world.set_variable("SweepFunction", "SLIPWAY_SWEEP_MOST", "50").await;
        world.put_sweep_state(&json!({"census": counted})).await;
        assert_eq!(world.sweep().await["teardowns"], json!(1));
        until_torn_down(world, &on).await;
    });
}

#[test]
fn two_sweeps_at_once_tear_down_once() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let (owner, on) = live(world, "twice").await;
        world.overdue(&on).await;
        let (one, other) = tokio::join!(world.sweep(), world.sweep());
        assert!(one["failed"] == json!(0) && other["failed"] == json!(0), "{one} {other}");
        until_torn_down(world, &on).await;
        world.settled(&owner, &on).await;
        let (rows, _) = world.audit(&owner, &on).await;
        let torn_down = rows.iter().filter(|row| row.text.contains(r#""act":"torn_down""#)).count();
        assert_eq!(torn_down, 1, "{rows:?}");
    });
}

#[test]
fn a_row_that_cannot_be_read_keeps_no_other_waiting() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let broken = on("dev", &named("broken"));
        world.put_row(&broken, "META", &json!({"key": "of another version"})).await;
        world.due(&broken).await;
        let expired = expired(world, "readable").await;
        let swept = world.sweep().await;
        assert!(swept["failed"].as_u64() >= Some(1), "{swept}");
        until_torn_down(world, &expired).await;
        world.put_row(&broken, "META", &json!({})).await;
    });
}

/// The names of an environment's change sets in `account`; nothing where there is no stack, not even the shell of one.
async fn change_sets(world: &World, account: &str, stack: &str) -> Option<Vec<String>> {
    let cloudformation = world.cloudformation(account);
    cloudformation.describe_stacks().stack_name(stack).send().await.ok()?;
    let found = cloudformation.list_change_sets().stack_name(stack).send().await.unwrap();
    Some(found.summaries().iter().filter_map(|found| found.change_set_name()).map(str::to_owned).collect())
}

#[test]
fn the_end_of_what_died_unseen_is_recorded_and_its_change_set_goes() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        world
            .set_stages(|stages| {
                let approval = json!({"required": 1, "approvers": ["release-manager"]});
                stages["gate"] = json!({"account": DEV, "ephemeral": true, "approval": approval});
            })
            .await;
        // In a protected stage nothing deletes a stack, not even an empty one: the next deployment uses it.
        for (stage, account, left) in [("prod", PROD, Some(vec![])), ("gate", DEV, None)] {
            let (dana, on) = (job("create-change", "main"), on(stage, &named("died")));
            let arn = world.begin(&dana, &on, &tiny("died")).await;
            world.asked(&dana, &on).await;
            let stack = world.status(&dana, &on).await.unwrap().stack_name.to_string();
            let made = change_sets(world, account, &stack).await;
            assert!(made.as_ref().is_some_and(|made| made.len() == 1), "{stage}: {made:?}");
            // Whatever tells of its end tells nobody.
            world.set_variable("SettleFunction", "SLIPWAY_TABLE", "no-such-table").await;
            world.machines.stop_execution().execution_arn(&arn).send().await.unwrap();
            tokio::time::sleep(Duration::from_secs(2)).await;
            world.set_variable("SettleFunction", "SLIPWAY_TABLE", world.control_plane.output("TableName")).await;
            let open = world.row(&on, "META").await.unwrap()["open"].clone();
            assert_eq!(open.as_array().unwrap().len(), 1, "{open}");
            assert_eq!(change_sets(world, account, &stack).await, made, "{stage}: nobody took it away yet");
            look_at(world, &on).await;
            world.sweep().await;
            row_until(world, &on, |row| row["open"] == json!([])).await;
            let outcome = world.settled(&dana, &on).await.deployment.unwrap().outcome.unwrap();
            assert_eq!(outcome.error.map(|error| error.as_str()), Some("Stopped"), "{outcome:?}");
            assert!(world.lease_is_free(&on).await);
            assert_eq!(change_sets(world, account, &stack).await, left, "{stage}");
        }
        world.set_stages(|_| {}).await;
    });
}

#[test]
fn a_teardown_that_fails_is_tried_again_later_each_time() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let ear = Ear::listen(world, "hears-of-stuck").await;
        let (owner, on) = (job("deploy-dev", "feature"), on("dev", &named("stuck")));
        green(&world.deploy(&owner, &on, &slipway_tests::clinging("stuck")).await);
        world.settled(&owner, &on).await;
        world.overdue(&on).await;
        assert_eq!(world.sweep().await["teardowns"], json!(1));
        let began = Instant::now();
        let row = loop {
            let row = world.row(&on, "META").await.unwrap();
            if row["failed_teardowns"] == json!(1) && row["open"] == json!([]) {
                break row;
            }
            assert!(began.elapsed().as_secs() < 120, "{row}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        assert_eq!(world.sweep().await["teardowns"], json!(0), "not at once");
        assert!(row["retry_at"].as_str().unwrap().parse::<Timestamp>().unwrap() > Timestamp::now());
        // The fourth failure is nobody's business yet, and the fifth is.
        for failures in [3, 4] {
            world.set_in_row(&on, "failed_teardowns", &json!(failures)).await;
            world.set_in_row(&on, "retry_at", &json!("2020-01-01T00:00:00Z")).await;
            world.due(&on).await;
            // The end of the last one is told once more by EventBridge: a row that is written meanwhile may be found twice.
            let swept = world.sweep().await;
            assert!(swept["teardowns"].as_u64() >= Some(1), "{swept}");
            loop {
                let row = world.row(&on, "META").await.unwrap();
                if row["failed_teardowns"] == json!(failures + 1) && row["open"] == json!([]) {
                    break;
                }
                assert!(began.elapsed().as_secs() < 360, "it was not tried again: {row}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        let heard = ear.hears(1, |event| event["detail-type"] == "Teardown Stuck").await;
        let detail = &heard[0]["detail"];
        let told = (&detail["environment"]["environment"], &detail["failures"], &detail["error"]);
        assert_eq!(told, (&json!(on.environment), &json!(5), &json!("StackFailed")), "{detail}");
        let row = world.row(&on, "META").await.unwrap();
        assert_eq!((&detail["next_try_at"], &detail["version"]), (&row["retry_at"], &json!(1)), "{detail}");
    });
}

#[test]
fn an_environment_outlives_its_stage_no_longer_than_its_time() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        world.set_stages(|stages| stages["leaving"] = json!({"account": DEV, "ephemeral": true})).await;
        let (owner, on) = (job("deploy", "feature"), on("leaving", &named("left")));
        green(&world.deploy(&owner, &on, &tiny("left")).await);
        let stack = world.settled(&owner, &on).await.stack_name.to_string();
        let asking = NewsJob { name: "repair".into(), ..owner.clone() };
        let looks = RepairRequest { on: on.clone(), job: asking.name.clone(), asked: Asked::Look };
        let admitted = world.ask(&world.token(&asking), Ask::Repair(looks)).await.unwrap();
        world.set_stages(|_| {}).await;

        let named = NewsJob { name: Asked::Look.job(&asking.name), ..asking };
        let looked = world.start_admitted(&serde_json::from_value(admitted).unwrap(), &named).await;
        green(&world.end(&looked).await);
        let refused = world.admit(&owner, &on, launch(&Digest::of(b"x")), 1).await.unwrap_err();
        assert_eq!(refused.name, "UnknownStage", "nothing is deployed there any more");
        world.overdue(&on).await;
        assert_eq!(world.sweep().await["teardowns"], json!(1));
        until_torn_down(world, &on).await;
        let found = world.cloudformation(DEV).describe_stacks().stack_name(&stack).send().await;
        assert!(found.is_err(), "{found:?}");
    });
}

#[test]
fn what_was_protected_stays_when_its_stage_goes() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let on = on("left-behind", &named("kept"));
        let key = EnvironmentKey {
            project: ProjectId(101),
            application: on.application.clone(),
            stage: on.stage.clone(),
            environment: on.environment.clone(),
        };
        let target =
            Target { account: AccountId::new(STAGING).unwrap(), region: Region::new(REGION).unwrap(), protected: true };
        let row =
            Environment { state: EnvironmentState::Live, ..Environment::new(key.clone(), key.stack_name(), target) };
        world.put_row(&on, "META", &serde_json::to_value(row).unwrap()).await;
        let now = Timestamp::now();
        let admission = Admission::of_sweep(&key, now, 0, now);
        world.put_admission(&admission).await;
        let request = world.machines.start_execution().state_machine_arn(world.control_plane.output("TeardownMachine"));
        let input = json!({"admission": admission.id, "attempt": 1}).to_string();
        let started = request.name(admission.execution_name(1)).input(input).send().await.unwrap();
        let ended = world.end(started.execution_arn()).await;
        assert_eq!(ended.error, "StageProtected", "{ended:?}");
        assert_eq!(world.row(&on, "META").await.unwrap()["target"]["account"], json!(STAGING));
    });
}

/// Somebody whose execution nobody knows holds the environment.
async fn hold(world: &World, on: &On) {
    let somebody = DeploymentId::from_execution(Timestamp::now(), "somebody");
    let lease = json!({"owner": somebody, "until": "2100-01-01T00:00:00Z", "fence": 70});
    world.put_row(on, "LEASE", &lease).await;
}

async fn row_until(world: &World, on: &On, wanted: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let row = world.row(on, "META").await.unwrap_or_default();
        if wanted(&row) {
            return row;
        }
        assert!(began.elapsed().as_secs() < 60, "still {row}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn a_stage_that_moves_leaves_no_stack_behind() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let here = json!({"account": DEV, "ephemeral": true});
        let there = |stages: &mut Value| {
            stages.as_object_mut().unwrap().remove("staging");
            stages["moving"] = json!({"account": STAGING, "ephemeral": true});
        };
        world.set_stages(|stages| stages["moving"] = here.clone()).await;
        let on = on("moving", &named("moved"));
        hold(world, &on).await;
        // Two jobs of one pipeline: neither is older.
        let first = job("first", "feature");
        let second = NewsJob { name: "second".into(), ..first.clone() };
        let waiting = world.begin(&first, &on, &tiny("first")).await;
        row_until(world, &on, |row| row["open"].as_array().is_some_and(|open| open.len() == 1)).await;
        world.set_stages(there).await;
        let elsewhere = world.begin(&second, &on, &tiny("second")).await;
        // Without an answer it would wait, too.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(world.unlock(&first, &on, true).await.unlocked);
        green(&world.end(&waiting).await);
        let refused = world.end(&elsewhere).await;
        let moved = format!("lives in account {DEV}, and its stage is account {STAGING} now: tear it down first");
        assert!(refused.error == "NotAllowed" && refused.cause.contains(&moved), "{refused:?}");
        assert!(world.lease_is_free(&on).await);
        let row = world.row(&on, "META").await.unwrap();
        assert_eq!((&row["target"]["account"], &row["state"]), (&json!(DEV), &json!("live")), "{row}");
        let stack = row["stack_name"].as_str().unwrap();
        for (account, wanted) in [(DEV, true), (STAGING, false)] {
            let found = world.cloudformation(account).describe_stacks().stack_name(stack).send().await;
            assert_eq!(found.is_ok(), wanted, "{account}: {found:?}");
        }

        // Whatever was noted meanwhile counts, too, once it may go on.
        hold(world, &on).await;
        world.set_stages(|stages| stages["moving"] = here.clone()).await;
        let third = world.begin(&job("third", "feature"), &on, &tiny("third")).await;
        row_until(world, &on, |row| row["open"].as_array().is_some_and(|open| open.len() == 1)).await;
        let target = json!({"account": STAGING, "region": REGION, "protected": false});
        world.set_in_row(&on, "target", &target).await;
        assert!(world.unlock(&first, &on, true).await.unlocked);
        let refused = world.end(&third).await;
        let moved = format!("lives in account {STAGING}, and its stage is account {DEV} now: tear it down first");
        assert!(refused.error == "NotAllowed" && refused.cause.contains(&moved), "{refused:?}");
        assert!(world.lease_is_free(&on).await);
        world.set_stages(|_| {}).await;
    });
}

/// A deployment that nobody noticed the end of is to be looked at.
async fn look_at(world: &World, on: &On) {
    let mut open = world.row(on, "META").await.unwrap()["open"].clone();
    for open in open.as_array_mut().unwrap() {
        open["look_at"] = json!("2020-01-01T00:00:00Z");
    }
    world.set_in_row(on, "open", &open).await;
    world.due(on).await;
}

async fn delete_row(world: &World, partition: String, sort: String) {
    use aws_sdk_dynamodb::types::AttributeValue as A;
    let request = world.dynamodb.delete_item().table_name(world.control_plane.output("TableName"));
    request.key("pk", A::S(partition)).key("sk", A::S(sort)).send().await.unwrap();
}

#[test]
fn what_step_functions_forgot_is_settled_and_what_is_lost_is_closed() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let (owner, on) = live(world, "forgotten").await;
        row_until(world, &on, |row| row["open"] == json!([])).await;
        let id = world.row(&on, "META").await.unwrap()["deployment"].as_str().unwrap().to_owned();
        let mut record = world.row(&on, &format!("DEPLOY#{id}")).await.unwrap();
        // Ninety days later: neither the execution nor the admission is there, and its end was never heard of.
        let arn = record["deployment"]["execution_arn"].as_str().unwrap().replace("deploy-", "forgotten-");
        record["deployment"]["execution_arn"] = json!(arn);
        record["outcome"] = Value::Null;
        record["told"] = json!(false);
        world.put_row(&on, &format!("DEPLOY#{id}"), &record).await;
        let admission = record["deployment"]["admission"].as_str().unwrap();
        delete_row(world, format!("ADMISSION#{admission}"), "ADMISSION".into()).await;
        let lost = DeploymentId::from_execution(Timestamp::now(), "lost");
        let open = |id: &str| json!({"deployment": id, "action": "deploy", "release": null, "look_at": "2020-01-01T00:00:00Z"});
        world.set_in_row(&on, "open", &json!([open(&id), open(&lost.to_string())])).await;
        world.due(&on).await;
        let swept = world.sweep().await;
        assert_eq!((&swept["settled"], &swept["failed"]), (&json!(2), &json!(0)), "{swept}");
        row_until(world, &on, |row| row["open"] == json!([])).await;
        let outcome = world.settled(&owner, &on).await.deployment.unwrap().outcome.unwrap();
        assert_eq!(outcome.error.map(|error| error.as_str()), Some("Internal"), "{outcome:?}");
        assert!(outcome.message.as_ref().is_some_and(|why| why.contains("90 days")), "{outcome:?}");
        assert_eq!(world.sweep().await["settled"], json!(0), "once");
    });
}

#[test]
fn what_there_is_no_time_for_the_next_run_does() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let counted = json!({"at": "2020-01-01T00:00:00Z", "total": 4711, "stages": {"dev": 4711}});
        world.put_sweep_state(&json!({"census": counted})).await;
        let on = expired(world, "unfinished").await;
        // Less than what it keeps in reserve.
        world.set_timeout("SweepFunction", 20).await;
        let swept = world.sweep().await;
        assert_eq!((&swept["unfinished"], &swept["teardowns"]), (&json!(true), &json!(0)), "{swept}");
        assert_eq!(swept["environments"], json!({}), "what was not counted is not told: {swept}");
        assert_eq!(world.sweep_state().await["census"], counted, "half a count is none");
        assert_eq!(state(world, &on).await, json!("live"));
        world.set_timeout("SweepFunction", 300).await;
        let swept = world.sweep().await;
        assert_eq!((&swept["unfinished"], &swept["teardowns"]), (&json!(false), &json!(1)), "{swept}");
        let total = world.sweep_state().await["census"]["total"].as_u64().unwrap();
        assert!((1..4711).contains(&total), "{total}");
        until_torn_down(world, &on).await;
    });
}

#[test]
fn whoever_listens_hears_each_change() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let ear = Ear::listen(world, "hears").await;
        let (owner, on) = live(world, "heard").await;
        let url = world.status(&owner, &on).await.unwrap().url.unwrap();
        keep(world, &owner, &on, pin(1, "a demo")).await.unwrap();
        keep(world, &owner, &on, Keep::Unpin {}).await.unwrap();
        world.set_in_row(&on, "next_warning", &json!("day")).await;
        for left in [SignedDuration::from_hours(23), SignedDuration::from_mins(50)] {
            world.set_in_row(&on, "expires_at", &json!(Timestamp::now() + left)).await;
            world.due(&on).await;
            assert_eq!(world.sweep().await["warnings"], json!(1));
            world.due(&on).await;
            assert_eq!(world.sweep().await["warnings"], json!(0), "once");
        }
        green(&world.teardown(&job("stop-dev", "feature"), &on).await);

        let heard = ear.hears(8, |event| event["detail"]["environment"]["environment"] == json!(on.environment)).await;
        let of = |detail_type: &str| -> Vec<&Value> {
            heard
                .iter()
                .filter(|event| event["detail-type"] == json!(detail_type))
                .map(|event| &event["detail"])
                .collect()
        };
        assert!(heard.iter().all(|event| event["detail"]["version"] == json!(1)));
        let started: Vec<&Value> = of("Deployment Started").iter().map(|detail| &detail["action"]).collect();
        assert_eq!(started, [&json!("deploy"), &json!("teardown")]);
        let ended: Vec<(&Value, &Value)> =
            of("Deployment Ended").iter().map(|detail| (&detail["ending"], &detail["state"])).collect();
        let expected = [(&json!("succeeded"), &json!("live")), (&json!("torn_down"), &json!("torn_down"))];
        assert_eq!(ended, expected);
        let kept: Vec<&Value> = of("Environment Kept").iter().map(|detail| &detail["pin"]["reason"]).collect();
        assert_eq!(kept, [&json!("a demo"), &Value::Null]);
        let within: Vec<&Value> = of("Environment Expiring").iter().map(|detail| &detail["within"]).collect();
        assert_eq!(within, [&json!("day"), &json!("hour")]);
        assert_eq!(of("Environment Expiring")[0]["url"], json!(url), "for whoever wants to look once more");
    });
}

/// A name, and the dimensions that it is told with.
type Metric = (String, BTreeSet<String>);

/// The metrics that lines of a log hold: each is of this control plane, and has a number.
fn told(log: &str) -> BTreeSet<Metric> {
    let lines =
        log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter(|line| line["_aws"].is_object());
    let mut found = BTreeSet::new();
    for line in lines {
        assert!(line["_aws"]["Timestamp"].as_i64() > Some(0), "{line}");
        for directive in line["_aws"]["CloudWatchMetrics"].as_array().unwrap() {
            assert_eq!(directive["Namespace"], "Slipway", "{line}");
            for dimensions in directive["Dimensions"].as_array().unwrap() {
                let dimensions: BTreeSet<String> =
                    dimensions.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
                assert!(dimensions.iter().all(|name| line[name].is_string()), "{line}");
                assert_eq!(line["ControlPlane"], json!(control_plane::STACK), "{line}");
                for metric in directive["Metrics"].as_array().unwrap() {
                    let name = metric["Name"].as_str().unwrap();
                    assert!(line[name].is_u64(), "{name} in {line}");
                    found.insert((name.to_owned(), dimensions.clone()));
                }
            }
        }
    }
    found
}

#[test]
fn what_alarms_look_at_and_the_docs_list_is_told() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let since = Timestamp::now();
        let (_, on) = live(world, "counted").await;
        row_until(world, &on, |row| row["open"] == json!([])).await;
        world.put_sweep_state(&json!({})).await;
        world.sweep().await;
        let emitted = told(&(world.log("settle", since).await + &world.log("sweep", since).await));

        let template = slipway_template::Template::parse(include_bytes!("../../template.yaml")).unwrap();
        let template: Value = serde_json::from_str(&template.to_json().unwrap()).unwrap();
        let resources = template["Resources"].as_object().unwrap();
        let mut watched = 0;
        for (id, alarm) in resources.iter().filter(|(_, resource)| resource["Type"] == "AWS::CloudWatch::Alarm") {
            let alarm = &alarm["Properties"];
            let dimensions = alarm["Dimensions"].as_array().unwrap();
            if alarm["Namespace"] == "AWS/Lambda" {
                // Lambda's own: of a function that is there.
                let function = dimensions[0]["Value"]["Ref"].as_str().unwrap();
                assert_eq!((dimensions.len(), &dimensions[0]["Name"]), (1, &json!("FunctionName")), "{id}");
                assert_eq!(resources[function]["Type"], "AWS::Serverless::Function", "{id}");
                assert_eq!(alarm["MetricName"], "Errors", "{id}");
                continue;
            }
            assert_eq!(alarm["Namespace"], "Slipway", "{id}");
            let stack = |dimension: &Value| {
                dimension["Name"] == "ControlPlane" && dimension["Value"]["Ref"] == "AWS::StackName"
            };
            assert!(dimensions.iter().all(stack), "{id}: {alarm}");
            let names = dimensions.iter().map(|dimension| dimension["Name"].as_str().unwrap().to_owned()).collect();
            let metric = (alarm["MetricName"].as_str().unwrap().to_owned(), names);
            assert!(emitted.contains(&metric), "{id} looks at {metric:?}; there is {emitted:?}");
            watched += 1;
        }
        assert!(watched >= 3, "{watched}");

        let words =
            |cell: &str| -> BTreeSet<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
        let table = include_str!("../../docs/EVENTS.md").split("| metric |").nth(1).unwrap();
        let mut documented = BTreeSet::new();
        for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
            let mut cells = row.split('|').skip(1);
            let (names, mut dimensions) = (words(cells.next().unwrap()), words(cells.next().unwrap()));
            dimensions.insert("ControlPlane".to_owned());
            documented.extend(names.into_iter().map(|name| (name, dimensions.clone())));
        }
        assert_eq!(documented, emitted);
    });
}
