//! The cleanup at its worst moments: killed after each of its calls that change something, and at work just as somebody deploys. What
//! is begun twice happens once, what is left over the next run does, and nothing goes that should not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test may, and its time is now"
)]

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use slipway_domain::deployment::{DeploymentId, Target};
use slipway_domain::environment::{Environment, EnvironmentState};
use slipway_domain::expiry::Lead;
use slipway_domain::names::{AccountId, EnvironmentKey, ProjectId, Region};
use slipway_domain::protocol::{Ask, HistoryPage, HistoryRequest, Keep, KeepRequest, On, Question};
use slipway_domain::stages::Span;
use slipway_local::job::NewsJob;
use slipway_local::{DEV, REGION};
use slipway_tests::{World, bundle, faults, in_world, job, launch, on, tiny, unique};

/// What one test lets expire, another one's sweep must not take for its own.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn fresh(stage: &str, prefix: &str) -> On {
    on(stage, &format!("review/{prefix}-{}", unique()))
}

fn key(on: &On) -> EnvironmentKey {
    let On { application, stage, environment } = on.clone();
    EnvironmentKey { project: ProjectId(101), application, stage, environment }
}

async fn live(world: &World, prefix: &str) -> (NewsJob, On) {
    let (owner, on) = (job("deploy-dev", "feature"), fresh("dev", prefix));
    let ended = world.deploy(&owner, &on, &tiny(prefix)).await;
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
    row_until(world, &on, |row| row["open"] == json!([])).await;
    (owner, on)
}

async fn row_until(world: &World, on: &On, wanted: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let row = world.row(on, "META").await.unwrap_or_default();
        if wanted(&row) {
            return row;
        }
        assert!(began.elapsed().as_secs() < 60, "{on:?}: still {row}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn status_of(world: &World, on: &On) -> Option<String> {
    let found =
        world.cloudformation(DEV).describe_stacks().stack_name(key(on).stack_name().as_str()).send().await.ok()?;
    found.stacks().first().and_then(|stack| stack.stack_status()).map(|status| status.as_str().to_owned())
}

/// How often `act` is on record.
async fn recorded(world: &World, owner: &NewsJob, on: &On, act: &str) -> usize {
    let (rows, _) = world.audit(owner, on).await;
    let (plain, told) = (format!(r#""act":"{act}""#), format!(r#""act":{{"{act}":"#));
    rows.iter().filter(|row| row.text.contains(&plain) || row.text.contains(&told)).count()
}

/// One environment for each thing that a sweep does.
struct Due {
    /// Nobody decides.
    asked: On,
    asker: NewsJob,
    /// Its execution.
    waits: String,
    /// Expires in less than an hour.
    expiring: On,
    /// Its deployment's execution died, and nobody noticed.
    died: On,
    deployment: String,
    /// Expired.
    expired: On,
    owner: NewsJob,
}

impl Due {
    async fn new(world: &World) -> Self {
        let (asker, asked) = (job("deploy", "feature"), fresh("gate", "asked"));
        let waits = world.begin(&asker, &asked, &tiny("asked")).await;
        world.asked(&asker, &asked).await;
        let (owner, expired) = live(world, "expired").await;
        let (died, deployment) = died(world, &expired).await;
        Self { asked, asker, waits, expiring: fresh("dev", "expiring"), died, deployment, expired, owner }
    }

    /// From now on all of it is due.
    async fn falls_due(&self, world: &World) {
        world.overdue(&self.asked).await;
        let target =
            Target { account: AccountId::new(DEV).unwrap(), region: Region::new(REGION).unwrap(), protected: false };
        let key = key(&self.expiring);
        let row = Environment {
            state: EnvironmentState::Live,
            expires_at: Some(Timestamp::now() + SignedDuration::from_mins(50)),
            next_warning: Some(Lead::Hour),
            ..Environment::new(key.clone(), key.stack_name(), target)
        };
        world.put_row(&self.expiring, "META", &serde_json::to_value(row).unwrap()).await;
        world.due(&self.expiring).await;
        world.due(&self.died).await;
        world.overdue(&self.expired).await;
    }

    /// All that was due was done, once.
    async fn is_done(&self, world: &World) {
        let ended = world.end(&self.waits).await;
        assert_eq!(ended.error, "ApprovalExpired", "{ended:?}");
        row_until(world, &self.asked, |row| row["waiting"].is_null() && row["open"] == json!([])).await;
        assert_eq!(recorded(world, &self.asker, &self.asked, "settled").await, 1);
        assert!(world.lease_is_free(&self.asked).await);
        assert_eq!(status_of(world, &self.asked).await, None, "its change set made a shell of a stack");
        let expiring = row_until(world, &self.expiring, |row| row["next_warning"].is_null()).await;
        assert_eq!(expiring["state"], json!("live"));
        row_until(world, &self.died, |row| row["open"] == json!([])).await;
        let outcome = world.row(&self.died, &format!("DEPLOY#{}", self.deployment)).await.unwrap()["outcome"].clone();
        assert_eq!((&outcome["ending"], &outcome["error"]), (&json!("failed"), &json!("Internal")), "{outcome}");
        assert_eq!(recorded(world, &self.owner, &self.died, "settled").await, 1);
        row_until(world, &self.expired, |row| row["state"] == "torn_down" && row["open"] == json!([])).await;
        assert_eq!(status_of(world, &self.expired).await, None);
        assert_eq!(recorded(world, &self.owner, &self.expired, "torn_down").await, 1);
        assert!(world.lease_is_free(&self.expired).await);
    }
}

/// An environment whose first deployment was one like the last of `like`, and of whose execution nothing is known.
async fn died(world: &World, like: &On) -> (On, String) {
    let on = fresh("dev", "died");
    let (key, id) = (key(&on), DeploymentId::from_execution(Timestamp::now(), &unique().to_string()).to_string());
    let other = world.row(like, "META").await.unwrap()["deployment"].as_str().unwrap().to_owned();
    let mut record = world.row(like, &format!("DEPLOY#{other}")).await.unwrap();
    let deployment = &mut record["deployment"];
    deployment["id"] = json!(id);
    deployment["stack_name"] = json!(key.stack_name());
    deployment["execution_arn"] = json!(format!("{}-died", deployment["execution_arn"].as_str().unwrap()));
    deployment["environment"] = serde_json::to_value(&key).unwrap();
    for (member, before) in [("outcome", Value::Null), ("operation", Value::Null), ("events", json!(0))] {
        record[member] = before;
    }
    for member in ["change_set_asked", "cleaned_up", "told"] {
        record[member] = json!(false);
    }
    world.put_row(&on, &format!("DEPLOY#{id}"), &record).await;
    let mut row = world.row(like, "META").await.unwrap();
    for (member, value) in [
        ("key", serde_json::to_value(&key).unwrap()),
        ("stack_name", json!(key.stack_name())),
        ("state", json!("new")),
        ("deployment", json!(id)),
        ("live", Value::Null),
        ("ended", Value::Null),
        ("expires_at", Value::Null),
        ("next_warning", Value::Null),
        ("open", json!([{"deployment": id, "action": "deploy", "release": null, "look_at": "2020-01-01T00:00:00Z"}])),
    ] {
        row[member] = value;
    }
    world.put_row(&on, "META", &row).await;
    (on, id)
}

/// Every call of a sweep that changes something, but for the collection of garbage, which looks twice before it deletes: those that
/// only it makes, and each row that it writes, of which each is another's.
const CALLS: [&str; 13] = [
    "PutItem",
    "PutItem.2",
    "PutItem.3",
    "PutItem.4",
    "PutItem.5",
    "PutItem.6",
    "PutItem.7",
    "PutItem.8",
    "PutEvents",
    "SendTaskFailure",
    "Invoke",
    "TransactWriteItems",
    "StartExecution",
];

#[test]
fn a_sweep_that_is_killed_leaves_the_rest_to_the_next() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        world
            .set_stages(|stages| {
                let approval = json!({"required": 1, "approvers": ["release-manager"], "expires_in": "3d"});
                stages["gate"] = json!({"account": DEV, "ephemeral": true, "approval": approval});
            })
            .await;
        let (owner, pinned) = live(world, "pinned").await;
        let pin = Keep::Pin { span: Span::days(1), reason: "shown at the fair".to_owned() };
        world.ask(&world.token(&owner), Ask::Keep(KeepRequest { on: pinned.clone(), keep: pin })).await.unwrap();
        for call in CALLS {
            let due = Due::new(world).await;
            due.falls_due(world).await;
            world.overdue(&pinned).await;
            // It counts, forgets a person's old word, and asks GitLab: each is a row of its own.
            let word = json!({"expired_until": "2020-01-01T00:00:00Z", "until": "2020-01-02T00:00:00Z"});
            world.put_sweep_state(&json!({"confirmed": word})).await;
            world.next_round().await;
            let killed = faults::killed_after(world, "SweepFunction", call).await;
            let died = world.invoke(&killed, &json!({"sweep": {}})).await;
            assert!(died.is_err(), "{call}: it was not killed: {died:?}");
            let swept = world.sweep().await;
            assert_eq!((&swept["failed"], &swept["unfinished"]), (&json!(0), &json!(false)), "{call}: {swept}");
            due.is_done(world).await;
            let state = world.sweep_state().await;
            assert!(state["confirmed"].is_null() && state["census"]["total"].as_u64() > Some(0), "{call}: {state}");
            assert_eq!(world.row(&pinned, "META").await.unwrap()["state"], json!("live"), "{call}");
            assert_eq!(status_of(world, &pinned).await.as_deref(), Some("CREATE_COMPLETE"), "{call}");
            let swept = world.sweep().await;
            for nothing in ["teardowns", "expired_approvals", "answers", "warnings", "settled", "failed"] {
                assert_eq!(swept[nothing], json!(0), "{call}: nothing is left to do: {swept}");
            }
        }
        world.set_stages(|_| {}).await;
    });
}

/// Who comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Deployment,
    Sweep,
    /// Both wait for somebody else.
    Nobody,
}

#[test]
fn a_deployment_that_comes_as_its_environment_expires_stays_as_a_whole() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        for first in [First::Deployment, First::Sweep, First::Nobody, First::Nobody] {
            let (owner, on) = live(world, "raced").await;
            let text = format!("later-{}", unique());
            let (digest, zip) = bundle(&tiny(&text));
            let deploying = job("deploy-dev", "feature");
            let admitted = world.admit(&deploying, &on, launch(&digest), zip.len()).await.unwrap();
            world.upload(&admitted, zip).await;
            if first == First::Nobody {
                let somebody = DeploymentId::from_execution(Timestamp::now(), "somebody");
                let lease = json!({"owner": somebody, "until": "2100-01-01T00:00:00Z", "fence": 70});
                world.put_row(&on, "LEASE", &lease).await;
            }
            world.overdue(&on).await;
            let arn = match first {
                First::Deployment => {
                    let arn = world.start_admitted(&admitted, &deploying).await;
                    assert_eq!(world.sweep().await["failed"], json!(0));
                    arn
                }
                First::Sweep => {
                    assert_eq!(world.sweep().await["teardowns"], json!(1));
                    world.start_admitted(&admitted, &deploying).await
                }
                First::Nobody => {
                    let (arn, swept) = tokio::join!(world.start_admitted(&admitted, &deploying), world.sweep());
                    assert_eq!(swept["teardowns"], json!(1), "{swept}");
                    row_until(world, &on, |row| row["open"].as_array().is_some_and(|open| open.len() == 2)).await;
                    assert!(world.unlock(&owner, &on, true).await.unlocked);
                    arn
                }
            };
            let ended = world.end(&arn).await;
            assert_eq!(ended.status, "SUCCEEDED", "{first:?}: {ended:?}");
            let row = row_until(world, &on, |row| row["open"] == json!([])).await;

            // What was deployed is there as a whole, whatever went before it.
            assert_eq!((&row["state"], &row["release"]), (&json!("live"), &json!(digest)), "{first:?}: {row}");
            let expires: Timestamp = row["expires_at"].as_str().unwrap().parse().unwrap();
            assert!(expires > Timestamp::now(), "{first:?}: {row}");
            let found =
                world.cloudformation(DEV).get_template().stack_name(key(&on).stack_name().as_str()).send().await;
            assert!(found.unwrap().template_body().unwrap().contains(&text), "{first:?}");
            let stands = status_of(world, &on).await.unwrap();
            assert!(["CREATE_COMPLETE", "UPDATE_COMPLETE"].contains(&stands.as_str()), "{first:?}: {stands}");
            assert!(world.lease_is_free(&on).await);

            // And nobody was at work on the stack while somebody else was.
            let history = Question::History(HistoryRequest { on: on.clone(), before: None, limit: None });
            let history = world.ask(&world.token(&owner), Ask::Look(history)).await.unwrap();
            let history: HistoryPage = serde_json::from_value(history).unwrap();
            let mut works: Vec<(Timestamp, Timestamp)> = Vec::new();
            for past in &history.deployments {
                let record = world.row(&on, &format!("DEPLOY#{}", past.id)).await.unwrap();
                let at = |value: &Value| value.as_str().map(|at| at.parse::<Timestamp>().unwrap());
                let ended = at(&record["outcome"]["ended_at"]).expect("every end is recorded");
                if let Some(began) = at(&record["operation"]["began_at"]) {
                    works.push((began, ended));
                }
            }
            works.sort();
            assert!(works.len() >= 2, "{first:?}: {works:?}");
            assert!(works.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{first:?}: {works:?}");
        }
    });
}
