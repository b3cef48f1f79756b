//! Environments whose branch is gone, or was merged, expire; and none of those of which GitLab does not clearly say so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test may, and its time is now"
)]

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use slipway_domain::audit::{Act, Actor};
use slipway_domain::branch::{Asked, Because};
use slipway_domain::environment::EnvironmentState;
use slipway_domain::protocol::{Ask, On, Question, WhyRequest};
use slipway_local::DEV;
use slipway_local::gitlab::{Answers, TIP};
use slipway_local::job::NewsJob;
use slipway_tests::{World, in_world, job, on, tiny, unique};

/// The tests share one GitLab, and each lets it say something.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn named(prefix: &str) -> String {
    format!("{prefix}-{}", unique())
}

/// An environment of a branch of its own.
async fn live(world: &World, job: &NewsJob) -> On {
    let on = on("dev", &named("review/branch"));
    let ended = world.deploy(job, &on, &tiny("branch")).await;
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
    on
}

/// Sweeps, as on the next day: what GitLab said, and how much failed.
async fn asked(world: &World) -> (Value, Value) {
    world.next_round().await;
    let swept = world.sweep().await;
    (swept["branches"].clone(), swept["failed"].clone())
}

async fn because(world: &World, on: &On) -> Value {
    world.row(on, "META").await.unwrap()["expired_because"].clone()
}

#[test]
fn what_was_deleted_or_merged_is_torn_down() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let gitlab = &world.control_plane.gitlab;
        let branches =
            ["feature/kept", "feature/gone", "merged", "merged-and-pushed", "develop", "merged-twice"].map(named);
        let mut environments = Vec::new();
        for branch in &branches {
            let job = job("deploy-dev", branch);
            environments.push((live(world, &job).await, job));
        }
        let [kept, gone, merged, pushed, develop, twice] = &branches;
        let before = asked(world).await;
        assert_eq!(before, (json!({"asked": 6, "unclear": 0, "expired": 0}), json!(0)));
        assert_eq!(world.sweep().await["branches"]["asked"], 0, "it asks once a day");

        gitlab.delete_branch(101, gone);
        gitlab.merge_branch(101, merged, TIP, 7);
        gitlab.merge_branch(101, pushed, "0123456789012345678901234567890123456789", 8);
        gitlab.protect_branch(develop);
        gitlab.merge_branch(101, develop, TIP, 9);
        gitlab.merge_branch(101, twice, TIP, 10);
        gitlab.open_merge_request(101, twice, 11);
        // A plan asks, too, whenever GitLab was asked last, and changes nothing.
        let planned = world.invoke(world.control_plane.output("SweepFunction"), &json!({"plan": {}})).await.unwrap();
        let planned: Asked = serde_json::from_value(planned["branches"].clone()).unwrap();
        assert_eq!((planned.asked, planned.unclear, planned.expired), (6, 0, 2));
        let would =
            |at: usize| planned.plan.iter().find(|one| one.environment.environment == environments[at].0.environment);
        let gone_by = Because::BranchGone { branch: gone.clone() };
        assert_eq!(would(1).map(|one| &one.because), Some(&gone_by));
        assert_eq!(
            would(2).map(|one| &one.because),
            Some(&Because::Merged { branch: merged.clone(), merge_request: 7 })
        );
        assert_eq!(planned.plan.len(), 2, "{planned:?}");
        assert_eq!(because(world, &environments[1].0).await, Value::Null);
        assert_eq!(asked(world).await, (json!({"asked": 6, "unclear": 0, "expired": 2}), json!(0)));
        let merged_by = Because::Merged { branch: merged.clone(), merge_request: 7 };
        for (index, expected) in [
            (0, None),
            (1, Some(Because::BranchGone { branch: gone.clone() })),
            (2, Some(merged_by.clone())),
            (3, None),
            (4, None),
            (5, None),
        ] {
            let (on, _) = &environments[index];
            assert_eq!(because(world, on).await, json!(expected), "{}", branches[index]);
        }
        let (on, owner) = &environments[2];
        let why = Ask::Look(Question::Why(WhyRequest { on: on.clone() }));
        let why = world.ask(&world.token(owner), why).await.unwrap();
        assert_eq!(why["expired_because"], json!(merged_by));
        let (rows, _) = world.audit(owner, on).await;
        let recorded = rows.last().unwrap().read().unwrap().entry;
        assert_eq!((&recorded.act, &recorded.by), (&Act::Expired { because: merged_by }, &Actor::Sweep));

        // The next sweep tears down what expired.
        world.sweep().await;
        for (index, (on, owner)) in environments.iter().enumerate() {
            let began = std::time::Instant::now();
            let goes = [1, 2].contains(&index);
            while goes && world.status(owner, on).await.unwrap().state != EnvironmentState::TornDown {
                assert!(began.elapsed().as_secs() < 60, "{} is still there", branches[index]);
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
            let stack = world.stack_status(DEV, owner, on).await;
            assert_eq!(stack.is_none(), goes, "{}: {stack:?}", branches[index]);
        }
        assert!(gitlab.asked_branches().contains(kept));
        // What is deployed from it again is another life.
        let (on, owner) = &environments[1];
        let ended = world.deploy(&job("deploy-dev", &owner.job.ref_name), on, &tiny("again")).await;
        assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
        assert_eq!(because(world, on).await, Value::Null);
    });
}

#[test]
fn what_gitlab_does_not_clearly_say_ends_nothing() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let gitlab = &world.control_plane.gitlab;
        let branch = named("unclear");
        let owner = job("deploy-dev", &branch);
        let on = live(world, &owner).await;
        gitlab.delete_branch(101, &branch);
        for (answers, unclear) in [
            (Answers::Forbidden, true),
            (Answers::NoProject, true),
            (Answers::NoBranchOfNoProject, true),
            (Answers::Html, true),
            (Answers::Redirect, true),
            (Answers::Down, false),
            (Answers::Unauthorized, false),
        ] {
            gitlab.answer(answers);
            let (branches, failed) = asked(world).await;
            assert_eq!(branches["expired"], 0, "{answers:?}");
            // What is the same for all is one failure, and asked again by the next run.
            assert_eq!(branches["unclear"].as_u64() >= Some(1), unclear, "{answers:?}: {branches}");
            assert_eq!(failed, u64::from(!unclear), "{answers:?}");
        }
        gitlab.answer(Answers::Truly);
        assert_eq!(because(world, &on).await, Value::Null);
        assert_eq!(world.sweep().await["branches"]["expired"], 1, "the round was not done");
        let log = world.log("sweep", Timestamp::now() - SignedDuration::from_hours(1)).await;
        assert!(log.contains("does not take the token") && !log.contains(gitlab.read_token()), "{log}");
    });
}

#[test]
fn what_is_kept_or_protected_is_not_asked_about() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let gitlab = &world.control_plane.gitlab;
        let branch = named("pinned");
        let on_dev = live(world, &job("deploy-dev", &branch)).await;
        let until = Timestamp::now() + SignedDuration::from_hours(48);
        let pin = json!({"until": until, "reason": "demo", "by": "eve", "at": Timestamp::now()});
        world.set_in_row(&on_dev, "pin", &pin).await;
        let tag = named("v1");
        let mut tagged = job("deploy-dev", &tag);
        tagged.job.ref_type = "tag".into();
        live(world, &tagged).await;
        let staging = on("staging", &named("main"));
        let ended = world.deploy(&job("deploy", "main"), &staging, &tiny("protected")).await;
        assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
        for branch in [&branch, &tag, &"main".to_owned()] {
            gitlab.delete_branch(101, branch);
        }
        asked(world).await;
        for branch in [&branch, &tag, &"main".to_owned()] {
            assert!(!gitlab.asked_branches().contains(branch), "{branch}");
        }
        // A pin that ended keeps nothing.
        let past =
            json!({"until": "2026-01-05T09:00:00Z", "reason": "demo", "by": "eve", "at": "2026-01-04T09:00:00Z"});
        world.set_in_row(&on_dev, "pin", &past).await;
        asked(world).await;
        assert_eq!(because(world, &on_dev).await, json!(Because::BranchGone { branch }));
    });
}
