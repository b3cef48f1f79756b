//! Every status of a stack, and every end of a change set, served to the running state machines by a CloudFormation that the
//! test leads: which calls are made, and how it ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test may, and its time is now"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use slipway_domain::admission::Admission;
use slipway_domain::deployment::{Action, Ending};
use slipway_domain::names::{EnvironmentKey, ProjectId, RolledBackName};
use slipway_domain::protocol::On;
use slipway_domain::repair::Asked;
use slipway_domain::stack_status::StackStatus;
use slipway_domain::waiting::next_wait;
use slipway_local::job::NewsJob;
use slipway_local::{DEV, PROD, STAGING, control_plane};
use slipway_tests::cloudformation::{
    Call, Change, CloudFormation, Event, Fault, Misbehaviour, Phase, SetPhase, Stack, Whose,
};
use slipway_tests::{Ended, World, job, on, tiny, unique};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

// ---- The tables -------------------------------------------------------------------------------------------------------

/// What a deployment does with a stack that it finds.
#[derive(Debug, Clone, Copy)]
enum Begins {
    /// Makes it.
    Creates,
    /// Updates it.
    Updates,
    /// Deletes what its first create left behind, and makes it.
    Recreates,
    /// Changes nothing, and ends with this command of `aws cloudformation`, or with `slipway repair`, for a person.
    Asks(&'static str),
    /// Looks again until the stack is in this status, and does what that asks for.
    Waits(&'static str),
}

/// The status that a stack is found in, what an ephemeral stage does, and what a protected one does. What admits an update, and
/// what only a deletion leads out of:
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html>.
#[rustfmt::skip]
const FOUND: [(&str, Begins, Begins); 23] = {
    use Begins::{Asks, Creates, Recreates, Updates, Waits};
    [
        ("CREATE_IN_PROGRESS",                           Waits("CREATE_COMPLETE"),          Waits("CREATE_COMPLETE")),
        ("CREATE_FAILED",                                Recreates,                         Asks("delete-stack")),
        ("CREATE_COMPLETE",                              Updates,                           Updates),
        ("ROLLBACK_IN_PROGRESS",                         Waits("ROLLBACK_COMPLETE"),        Waits("ROLLBACK_COMPLETE")),
        ("ROLLBACK_FAILED",                              Recreates,                         Asks("delete-stack")),
        ("ROLLBACK_COMPLETE",                            Recreates,                         Asks("delete-stack")),
        ("DELETE_IN_PROGRESS",                           Waits("DELETE_COMPLETE"),          Waits("DELETE_COMPLETE")),
        ("DELETE_FAILED",                                Asks("delete-stack"),              Asks("delete-stack")),
        ("DELETE_COMPLETE",                              Creates,                           Creates),
        ("UPDATE_IN_PROGRESS",                           Waits("UPDATE_COMPLETE"),          Waits("UPDATE_COMPLETE")),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",          Waits("UPDATE_COMPLETE"),          Waits("UPDATE_COMPLETE")),
        ("UPDATE_COMPLETE",                              Updates,                           Updates),
        ("UPDATE_FAILED",                                Updates,                           Updates),
        ("UPDATE_ROLLBACK_IN_PROGRESS",                  Waits("UPDATE_ROLLBACK_FAILED"),   Waits("UPDATE_ROLLBACK_FAILED")),
        ("UPDATE_ROLLBACK_FAILED",                       Asks(REPAIR),                      Asks(REPAIR)),
        ("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", Waits("UPDATE_ROLLBACK_COMPLETE"), Waits("UPDATE_ROLLBACK_COMPLETE")),
        ("UPDATE_ROLLBACK_COMPLETE",                     Updates,                           Updates),
        ("REVIEW_IN_PROGRESS",                           Creates,                           Creates),
        ("IMPORT_IN_PROGRESS",                           Waits("IMPORT_COMPLETE"),          Waits("IMPORT_COMPLETE")),
        ("IMPORT_COMPLETE",                              Updates,                           Updates),
        ("IMPORT_ROLLBACK_IN_PROGRESS",                  Waits("IMPORT_ROLLBACK_COMPLETE"), Waits("IMPORT_ROLLBACK_COMPLETE")),
        ("IMPORT_ROLLBACK_FAILED",                       Asks("describe-stack-events"),     Asks("describe-stack-events")),
        ("IMPORT_ROLLBACK_COMPLETE",                     Updates,                           Updates),
    ]
};

/// How an operation ends whose stack is seen in a status, with events of that operation.
#[derive(Debug, Clone, Copy)]
enum Ends {
    /// As asked.
    Green,
    /// `StackFailed`.
    Red,
    /// It goes on; this status comes next.
    Goes(&'static str),
}

/// The status after the change set was executed, and after the stack's deletion began.
#[rustfmt::skip]
const AFTERWARDS: [(&str, Ends, Ends); 23] = {
    use Ends::{Goes, Green, Red};
    [
        ("CREATE_IN_PROGRESS",                           Goes("CREATE_COMPLETE"),          Red),
        ("CREATE_FAILED",                                Red,                              Red),
        ("CREATE_COMPLETE",                              Green,                            Red),
        ("ROLLBACK_IN_PROGRESS",                         Goes("ROLLBACK_COMPLETE"),        Red),
        ("ROLLBACK_FAILED",                              Red,                              Red),
        ("ROLLBACK_COMPLETE",                            Red,                              Red),
        ("DELETE_IN_PROGRESS",                           Goes("DELETE_COMPLETE"),          Goes("DELETE_COMPLETE")),
        ("DELETE_FAILED",                                Red,                              Red),
        ("DELETE_COMPLETE",                              Red,                              Green),
        ("UPDATE_IN_PROGRESS",                           Goes("UPDATE_COMPLETE"),          Red),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",          Goes("UPDATE_COMPLETE"),          Red),
        ("UPDATE_COMPLETE",                              Green,                            Red),
        ("UPDATE_FAILED",                                Red,                              Red),
        ("UPDATE_ROLLBACK_IN_PROGRESS",                  Goes("UPDATE_ROLLBACK_COMPLETE"), Red),
        ("UPDATE_ROLLBACK_FAILED",                       Red,                              Red),
        ("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", Goes("UPDATE_ROLLBACK_COMPLETE"), Red),
        ("UPDATE_ROLLBACK_COMPLETE",                     Red,                              Red),
        ("REVIEW_IN_PROGRESS",                           Goes("CREATE_COMPLETE"),          Red),
        ("IMPORT_IN_PROGRESS",                           Goes("IMPORT_COMPLETE"),          Red),
        ("IMPORT_COMPLETE",                              Red,                              Red),
        ("IMPORT_ROLLBACK_IN_PROGRESS",                  Goes("IMPORT_ROLLBACK_COMPLETE"), Red),
        ("IMPORT_ROLLBACK_FAILED",                       Red,                              Red),
        ("IMPORT_ROLLBACK_COMPLETE",                     Red,                              Red),
    ]
};

/// What a teardown does with a stack that it finds in an ephemeral stage. In a protected one it does nothing, ever.
#[derive(Debug, Clone, Copy)]
enum Tears {
    /// Deletes it.
    Deletes,
    /// Nothing: there is none.
    Nothing,
    /// CloudFormation deletes nothing while it is busy: looks until the stack is in this status, and deletes it.
    Waits(&'static str),
}

#[rustfmt::skip]
const TORN_DOWN: [(&str, Tears); 23] = {
    use Tears::{Deletes, Nothing, Waits};
    [
        ("CREATE_IN_PROGRESS",                           Waits("CREATE_COMPLETE")),
        ("CREATE_FAILED",                                Deletes),
        ("CREATE_COMPLETE",                              Deletes),
        ("ROLLBACK_IN_PROGRESS",                         Waits("ROLLBACK_COMPLETE")),
        ("ROLLBACK_FAILED",                              Deletes),
        ("ROLLBACK_COMPLETE",                            Deletes),
        ("DELETE_IN_PROGRESS",                           Deletes),
        ("DELETE_FAILED",                                Deletes),
        ("DELETE_COMPLETE",                              Nothing),
        ("UPDATE_IN_PROGRESS",                           Waits("UPDATE_COMPLETE")),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",          Waits("UPDATE_COMPLETE")),
        ("UPDATE_COMPLETE",                              Deletes),
        ("UPDATE_FAILED",                                Deletes),
        ("UPDATE_ROLLBACK_IN_PROGRESS",                  Waits("UPDATE_ROLLBACK_FAILED")),
        ("UPDATE_ROLLBACK_FAILED",                       Deletes),
        ("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", Waits("UPDATE_ROLLBACK_COMPLETE")),
        ("UPDATE_ROLLBACK_COMPLETE",                     Deletes),
        ("REVIEW_IN_PROGRESS",                           Deletes),
        ("IMPORT_IN_PROGRESS",                           Waits("IMPORT_COMPLETE")),
        ("IMPORT_COMPLETE",                              Deletes),
        ("IMPORT_ROLLBACK_IN_PROGRESS",                  Waits("IMPORT_ROLLBACK_COMPLETE")),
        ("IMPORT_ROLLBACK_FAILED",                       Deletes),
        ("IMPORT_ROLLBACK_COMPLETE",                     Deletes),
    ]
};

/// The command that leads out of a rollback that failed.
const REPAIR: &str = "slipway repair";

// The calls, as `written` writes them.
const CREATE: &str = "CreateChangeSet CREATE";
const CREATE_PROTECTED: &str = "CreateChangeSet CREATE, OnStackFailure DELETE";
const UPDATE: &str = "CreateChangeSet UPDATE, Size kept";
const EXECUTE: &str = "ExecuteChangeSet";
/// What a stack of a protected stage gets once it is live.
const PROTECTION: [&str; 2] = ["UpdateTerminationProtection", "SetStackPolicy"];

fn with_protection(stage: &str, calls: &[&'static str]) -> Vec<&'static str> {
    let protected = stage != "dev";
    calls.iter().copied().chain(PROTECTION.into_iter().filter(|_| protected)).collect()
}
const DISCARD: &str = "DeleteChangeSet";
const DELETE: &str = "DeleteStack";
const GO_ON: &str = "ContinueUpdateRollback";

/// How often a status in progress is seen before the next one.
const LOOKS: u32 = 2;

// ---- What drives them -------------------------------------------------------------------------------------------------

struct Ground {
    world: World,
    cloudformation: CloudFormation,
}

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap());
static GROUND: LazyLock<Ground> = LazyLock::new(|| RUNTIME.block_on(ground()));
/// How many cases run at once, over all tests.
static ROOM: Semaphore = Semaphore::const_new(6);

async fn ground() -> Ground {
    let world = World::start(Some(0.01)).await;
    let cloudformation = CloudFormation::start().await.unwrap();
    world.reach(&cloudformation).await;
    // The longest time limit for each deployment, and no limit that the number of cases could meet.
    let mut stages: Value = serde_json::from_str(&control_plane::stages()).unwrap();
    stages["dev"]["max_environments"] = json!(10_000);
    for stage in ["dev", "staging", "prod"] {
        stages[stage]["timeout"] = json!("12h");
    }
    let ssm = aws_sdk_ssm::Client::new(&world.control_plane.emulator.sdk_config(slipway_local::TOOLING));
    let put = ssm.put_parameter().name(world.control_plane.output("StagesParameterName")).overwrite(true);
    put.value(stages.to_string()).send().await.unwrap();
    Ground { world, cloudformation }
}

/// Runs the cases side by side, all of them, and says what is wrong with each.
fn run<F: Future<Output = ()> + Send + 'static>(cases: impl IntoIterator<Item = F>) {
    LazyLock::force(&GROUND);
    let wrong: Vec<String> = RUNTIME.block_on(async {
        let mut running = JoinSet::new();
        for case in cases {
            running.spawn(async {
                let _room = ROOM.acquire().await.unwrap();
                case.await;
            });
        }
        let mut wrong = Vec::new();
        while let Some(ended) = running.join_next().await {
            // What a task prints goes to whichever test started the runtime.
            wrong.extend(ended.err().map(|error| match error.try_into_panic() {
                Ok(said) => said.downcast::<String>().map_or_else(|_| "a case panicked".into(), |said| *said),
                Err(error) => error.to_string(),
            }));
        }
        wrong
    });
    assert!(wrong.is_empty(), "{} cases are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// One environment, its stack, and what is said of it when something is wrong.
struct Case {
    what: String,
    on: On,
    job: NewsJob,
    stack: String,
    account: &'static str,
}

impl Case {
    /// In `stage`.
    fn new(stage: &str, what: impl Into<String>) -> Self {
        let on = on(stage, &format!("review/case-{}", unique()));
        let (account, job) = match stage {
            "dev" => (DEV, job("deploy-dev", "feature")),
            "staging" => (STAGING, job("deploy", "main")),
            _ => (PROD, job("create-change", "main")),
        };
        let stack = key(&on).stack_name().to_string();
        Self { what: format!("{} in {stage}", what.into()), on, job, stack, account }
    }

    fn absent(&self) -> Stack {
        Stack::absent(&self.stack, self.account).output("Url", "https://example.com/here")
    }

    fn found(&self, status: &str) -> Stack {
        let stack = Stack::found(&self.stack, self.account, status).output("Url", "https://example.com/here");
        // A stack that was never made has no parameters.
        if ["REVIEW_IN_PROGRESS", "DELETE_COMPLETE"].contains(&status) {
            stack
        } else {
            stack.parameter("Size", "small")
        }
    }

    async fn deploy(&self, stack: Stack) -> Ended {
        GROUND.cloudformation.play(stack);
        GROUND.world.deploy(&self.job, &self.on, &tiny("text")).await
    }

    async fn teardown(&self, stack: Stack) -> Ended {
        GROUND.cloudformation.play(stack);
        GROUND.world.teardown(&job("stop", "feature"), &self.on).await
    }

    /// Green, with the stack in `status`, and nothing is held any more.
    async fn green(&self, ended: &Ended, ending: Ending, status: Option<&str>) {
        assert_eq!(ended.status, "SUCCEEDED", "{}: {ended:?}", self.what);
        let outcome = self.outcome().await;
        assert_eq!(outcome["ending"], serde_json::to_value(ending).unwrap(), "{}: {outcome}", self.what);
        assert_eq!(self.status().as_deref(), status, "{}: it was not looked at to the end", self.what);
        assert!(GROUND.world.lease_is_free(&self.on).await, "{}", self.what);
    }

    /// Red, under `name`, with all of `says`, and nothing is held any more.
    async fn red(&self, ended: &Ended, name: &str, says: &[&str]) {
        assert_eq!((ended.status.as_str(), ended.error.as_str()), ("FAILED", name), "{}: {ended:?}", self.what);
        for words in says {
            assert!(ended.cause.contains(words), "{}: {words:?} is missing in {ended:?}", self.what);
        }
        let outcome = self.outcome().await;
        assert_eq!(
            (&outcome["ending"], &outcome["error"]),
            (&json!("failed"), &json!(name)),
            "{}: {outcome}",
            self.what
        );
        assert!(GROUND.world.lease_is_free(&self.on).await, "{}", self.what);
    }

    /// How the last deployment was recorded.
    async fn outcome(&self) -> Value {
        let status = GROUND.world.settled(&self.job, &self.on).await;
        serde_json::to_value(status.deployment.unwrap().outcome.unwrap()).unwrap()
    }

    fn status(&self) -> Option<String> {
        GROUND.cloudformation.with(&self.stack, |stack| stack.status.clone())
    }

    /// How many looks came before the first call that changes something; all, when none came.
    fn looks_before(&self) -> usize {
        let calls = GROUND.cloudformation.calls(&self.stack);
        calls.iter().take_while(|call| !call.mutates()).filter(|call| call.action == "DescribeStacks").count()
    }

    fn looks(&self) -> usize {
        GROUND.cloudformation.calls(&self.stack).iter().filter(|call| call.action == "DescribeStacks").count()
    }

    /// The calls that change something, none of which was refused, are these, each in a session of its own step.
    fn changed(&self, expected: &[&str]) {
        let calls = GROUND.cloudformation.mutations(&self.stack);
        let written: Vec<String> = calls.iter().map(|call| self.written(call)).collect();
        assert_eq!(written, expected, "{}", self.what);
        self.sessions(&calls);
    }

    /// The same, where a step may be repeated: a call is repeated word for word, with its token, and so does nothing more.
    fn changed_once(&self, expected: &[&str]) {
        let mut calls = GROUND.cloudformation.mutations(&self.stack);
        calls.dedup_by(|later, earlier| later.form == earlier.form);
        let written: Vec<String> = calls.iter().map(|call| self.written(call)).collect();
        assert_eq!(written, expected, "{}", self.what);
        self.sessions(&calls);
    }

    /// A session is temporary, and ends with its step. A change set and its empty stack are discarded in one.
    fn sessions(&self, calls: &[Call]) {
        let mut sessions: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for call in calls {
            assert!(call.access_key.starts_with("ASIA") && call.session.is_some(), "{}: {call:?}", self.what);
            sessions.entry(&call.session).or_default().insert(call.action.as_str());
        }
        let of_one_step = |did: &BTreeSet<&str>| {
            did.len() == 1 || *did == BTreeSet::from([DISCARD, DELETE]) || *did == BTreeSet::from(PROTECTION)
        };
        assert!(sessions.values().all(of_one_step), "{}: {sessions:?}", self.what);
    }

    /// A call in a few words, after a look at what each of its kind has to send.
    fn written(&self, call: &Call) -> String {
        // What may be there is discarded: that it is not is no fault.
        let absent = call.action == DISCARD && call.refused.is_some();
        assert!(call.refused.is_none() || absent, "{}: {call:?}", self.what);
        let role = format!("arn:aws:iam::{}:role/slipway/SharedDeploymentRole", self.account);
        let sent = |field: &str| assert!(!call.field(field).is_empty(), "{}: no {field} in {call:?}", self.what);
        match call.action.as_str() {
            "CreateChangeSet" => {
                assert_eq!(call.field("RoleARN"), role, "{}: {call:?}", self.what);
                sent("ClientToken");
                assert!(call.field("TemplateURL").contains("/releases/"), "{}: {call:?}", self.what);
                let mut text = format!("CreateChangeSet {}", call.field("ChangeSetType"));
                if !call.field("OnStackFailure").is_empty() {
                    text += &format!(", OnStackFailure {}", call.field("OnStackFailure"));
                }
                for (name, value) in call.parameters() {
                    text += &value.map_or_else(|| format!(", {name} kept"), |value| format!(", {name} {value}"));
                }
                text
            }
            "DeleteStack" => {
                assert_eq!(call.field("RoleARN"), role, "{}: {call:?}", self.what);
                sent("ClientRequestToken");
                assert!(call.field("StackName").starts_with("arn:"), "{}: by id only: {call:?}", self.what);
                DELETE.to_owned()
            }
            "ContinueUpdateRollback" => {
                assert_eq!(call.field("RoleARN"), role, "{}: {call:?}", self.what);
                sent("ClientRequestToken");
                assert!(call.field("StackName").starts_with("arn:"), "{}: by id only: {call:?}", self.what);
                let skipped = (1..).map_while(|at| call.form.get(&format!("ResourcesToSkip.member.{at}")));
                let skipped: Vec<_> = skipped.map(String::as_str).collect();
                if skipped.is_empty() { GO_ON.to_owned() } else { format!("{GO_ON} without {}", skipped.join(", ")) }
            }
            "ExecuteChangeSet" => {
                sent("ClientRequestToken");
                EXECUTE.to_owned()
            }
            other => other.to_owned(),
        }
    }

    /// Lets `hours` go by for the running deployment, behind Slipway's back. A step that writes the row at the same time reads it
    /// again: that is what the version is for.
    async fn age(&self, hours: i64) {
        let status = GROUND.world.status(&self.job, &self.on).await.unwrap();
        let id = status.deployment.unwrap().id;
        let past = (Timestamp::now() - SignedDuration::from_hours(hours)).to_string();
        let On { application, stage, environment } = &self.on;
        for path in ["#row.deployment.started_at", "#row.busy_since", "#row.#operation.began_at"] {
            let request =
                GROUND.world.dynamodb.update_item().table_name(GROUND.world.control_plane.output("TableName"));
            let request = request.key("pk", AttributeValue::S(format!("ENV#101#{application}#{stage}#{environment}")));
            let request = request.key("sk", AttributeValue::S(format!("DEPLOY#{id}")));
            let request = request.update_expression(format!("SET {path} = :past ADD version :one"));
            let request = request.expression_attribute_names("#row", "row");
            let request = if path.contains("#operation") {
                request.expression_attribute_names("#operation", "operation")
            } else {
                request
            };
            let request = request.expression_attribute_values(":past", AttributeValue::S(past.clone()));
            let aged = request.expression_attribute_values(":one", AttributeValue::N("1".into())).send().await;
            // Before the stack is touched there is no operation to age.
            assert!(aged.is_ok() || path.contains("#operation"), "{}: {aged:?}", self.what);
        }
    }

    /// Waits until the stack was looked at so often.
    async fn looked_at(&self, looks: usize) {
        let began = std::time::Instant::now();
        while self.looks() < looks {
            assert!(began.elapsed().as_secs() < 90, "{}: {} looks only", self.what, self.looks());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn key(on: &On) -> EnvironmentKey {
    let On { application, stage, environment } = on.clone();
    EnvironmentKey { project: ProjectId(101), application, stage, environment }
}

fn row<T: Copy>(table: &[(&str, T)], status: &str) -> T {
    table.iter().find(|(known, _)| *known == status).unwrap_or_else(|| panic!("{status} is not in the table")).1
}

/// A status that an operation of somebody else leads to.
fn theirs(status: &str) -> Phase {
    Phase::of(status).told([Event::of_stack(status).of(Whose::Other("somebody-else".into()))])
}

/// A resource that fails in the operation that goes on.
fn queue_failed() -> Event {
    Event::of_resource("Queue", "AWS::SQS::Queue", "CREATE_FAILED").because("MessageRetentionPeriod is out of range")
}

// ---- Every status -----------------------------------------------------------------------------------------------------

#[test]
fn the_tables_have_every_status_once() {
    let known: BTreeSet<_> = StackStatus::ALL.iter().map(|status| status.as_str()).collect();
    for table in [FOUND.map(|row| row.0), AFTERWARDS.map(|row| row.0), TORN_DOWN.map(|row| row.0)] {
        assert_eq!(BTreeSet::from(table), known);
    }
}

async fn found(stage: &'static str, status: &'static str, begins: Begins, table: &'static [(&'static str, Begins)]) {
    let case = Case::new(stage, format!("found {status}: {begins:?}"));
    let found = case.found(status);
    let (found, settled, begins) = match begins {
        Begins::Waits(next) => (found.then(LOOKS, [theirs(next)]), next, row(table, next)),
        Begins::Creates | Begins::Updates | Begins::Recreates | Begins::Asks(_) => (found, status, begins),
    };
    let ended = case.deploy(found).await;
    let create = if stage == "dev" { CREATE } else { CREATE_PROTECTED };
    match begins {
        Begins::Creates => {
            case.changed(&with_protection(stage, &[create, EXECUTE]));
            case.green(&ended, Ending::Succeeded, Some("CREATE_COMPLETE")).await;
        }
        Begins::Updates => {
            case.changed(&with_protection(stage, &[UPDATE, EXECUTE]));
            case.green(&ended, Ending::Succeeded, Some("UPDATE_COMPLETE")).await;
        }
        Begins::Recreates => {
            case.changed(&[DELETE, create, EXECUTE]);
            case.green(&ended, Ending::Succeeded, Some("CREATE_COMPLETE")).await;
        }
        Begins::Asks(command) => {
            case.changed(&[]);
            let command = match command {
                REPAIR => case.repairs_with(),
                command => format!("aws cloudformation {command} --stack-name {} --region eu-central-1", case.stack),
            };
            case.red(&ended, "StackNeedsRepair", &[&command, settled, case.account]).await;
        }
        Begins::Waits(next) => panic!("{}: {next} waits again", case.what),
    }
    if settled != status {
        assert!(case.looks_before() > LOOKS as usize, "{}: {} looks", case.what, case.looks_before());
    }
}

#[test]
fn a_deployment_begins_as_the_status_admits_where_stacks_come_and_go() {
    static TABLE: LazyLock<Vec<(&str, Begins)>> = LazyLock::new(|| FOUND.map(|(status, is, _)| (status, is)).to_vec());
    run(TABLE.iter().map(|(status, begins)| found("dev", status, *begins, &TABLE)));
}

#[test]
fn a_deployment_begins_as_the_status_admits_where_stacks_stay() {
    static TABLE: LazyLock<Vec<(&str, Begins)>> = LazyLock::new(|| FOUND.map(|(status, _, is)| (status, is)).to_vec());
    run(TABLE.iter().map(|(status, begins)| found("staging", status, *begins, &TABLE)));
}

/// The phases through `status` to its end, and how that is.
fn through(status: &'static str, ends: Ends, table: &[(&'static str, Ends)]) -> (Vec<Phase>, &'static str, Ends) {
    match ends {
        Ends::Goes(next) => {
            let end = row(table, next);
            (vec![Phase::of(status).seen(LOOKS), Phase::of(next).after(queue_failed())], next, end)
        }
        Ends::Green => (vec![Phase::of(status)], status, ends),
        Ends::Red => (vec![Phase::of(status).after(queue_failed())], status, ends),
    }
}

#[test]
fn only_the_two_ends_that_were_asked_for_are_green() {
    let table: Vec<_> = AFTERWARDS.map(|(status, ends, _)| (status, ends)).to_vec();
    run(table.clone().into_iter().map(move |(status, ends)| {
        let (phases, last, ends) = through(status, ends, &table);
        async move {
            let case = Case::new("dev", format!("executed, then {status}"));
            let ended = case.deploy(case.found("CREATE_COMPLETE").executing(phases)).await;
            case.changed(&[UPDATE, EXECUTE]);
            match ends {
                Ends::Green => case.green(&ended, Ending::Succeeded, Some(last)).await,
                Ends::Red => {
                    let cause = "Queue CREATE_FAILED (AWS::SQS::Queue): MessageRetentionPeriod is out of range";
                    case.red(&ended, "StackFailed", &[&format!("is {last}"), cause]).await;
                }
                Ends::Goes(next) => panic!("{next} goes on again"),
            }
            assert_eq!(case.status().as_deref(), Some(last), "{}: it was not looked at to the end", case.what);
        }
    }));
}

#[test]
fn the_status_of_an_earlier_operation_is_no_end() {
    run(AFTERWARDS.map(|(status, _, _)| async move {
        let case = Case::new("dev", format!("executed, and still {status} of before"));
        let old = Phase::of(status).told([]).seen(LOOKS);
        let ours = [old, Phase::of("UPDATE_IN_PROGRESS"), Phase::of("UPDATE_COMPLETE")];
        let ended = case.deploy(case.found("UPDATE_COMPLETE").executing(ours)).await;
        case.changed(&[UPDATE, EXECUTE]);
        case.green(&ended, Ending::Succeeded, Some("UPDATE_COMPLETE")).await;
    }));
}

#[test]
fn a_person_who_cancels_the_update_ends_the_deployment() {
    run(["UPDATE_ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_FAILED"].map(|status| async move {
        let case = Case::new("dev", format!("cancelled in the console, then {status}"));
        let phases = [Phase::of("UPDATE_IN_PROGRESS"), theirs("UPDATE_ROLLBACK_IN_PROGRESS"), theirs(status)];
        let ended = case.deploy(case.found("CREATE_COMPLETE").executing(phases)).await;
        case.changed(&[UPDATE, EXECUTE]);
        case.red(&ended, "StackFailed", &[&format!("is {status}")]).await;
    }));
}

#[test]
fn a_deletion_that_was_going_on_already_is_waited_for_and_asked_for_again() {
    run([async {
        let case = Case::new("dev", "being deleted by somebody else, who fails");
        let found = case.found("DELETE_IN_PROGRESS").then(LOOKS, [theirs("DELETE_FAILED").after(queue_failed())]);
        let ended = case.teardown(found).await;
        case.changed(&[DELETE, DELETE]);
        case.green(&ended, Ending::TornDown, Some("DELETE_COMPLETE")).await;
    }]);
}

#[test]
fn what_cannot_be_deleted_to_be_made_anew_is_a_persons() {
    run([async {
        let case = Case::new("dev", "a deletion that fails on the way");
        let phases = [Phase::of("DELETE_IN_PROGRESS").seen(LOOKS), Phase::of("DELETE_FAILED")];
        let ended = case.deploy(case.found("ROLLBACK_COMPLETE").deleting(phases)).await;
        case.changed(&[DELETE]);
        let command = format!("aws cloudformation delete-stack --stack-name {}", case.stack);
        case.red(&ended, "StackNeedsRepair", &[&command, "DELETE_FAILED"]).await;
    }]);
}

#[test]
fn the_first_failure_is_found_however_much_followed() {
    run([async {
        let case = Case::new("dev", "a failure, and 1,200 events of what was rolled back after it");
        let followed =
            (0..1_200).map(|at| Event::of_resource(&format!("Topic{at}"), "AWS::SNS::Topic", "DELETE_COMPLETE"));
        let cancelled =
            Event::of_resource("Topic", "AWS::SNS::Topic", "CREATE_FAILED").because("Resource creation cancelled");
        let last = Event::of_stack("UPDATE_ROLLBACK_COMPLETE");
        let told = [queue_failed(), cancelled].into_iter().chain(followed).chain([last]);
        let phases = [Phase::of("UPDATE_IN_PROGRESS"), Phase::of("UPDATE_ROLLBACK_COMPLETE").told(told)];
        let ended = case.deploy(case.found("CREATE_COMPLETE").executing(phases)).await;
        case.changed(&[UPDATE, EXECUTE]);
        case.red(&ended, "StackFailed", &["Queue CREATE_FAILED (AWS::SQS::Queue): MessageRetentionPeriod"]).await;
    }]);
}

#[test]
fn a_status_of_the_future_is_an_error_by_name_and_no_loop() {
    let says = ["UPDATE_PAUSED"];
    run([0, 1, 2, 3].map(|which| async move {
        match which {
            0 | 1 => {
                let case = Case::new(if which == 0 { "dev" } else { "staging" }, "found UPDATE_PAUSED");
                let ended = case.deploy(case.found("UPDATE_PAUSED")).await;
                case.changed(&[]);
                case.red(&ended, "StackNeedsRepair", &says).await;
                assert_eq!(case.looks(), 1, "{}", case.what);
            }
            2 => {
                let case = Case::new("dev", "executed, then UPDATE_PAUSED");
                let ended = case.deploy(case.found("CREATE_COMPLETE").executing([Phase::of("UPDATE_PAUSED")])).await;
                case.changed(&[UPDATE, EXECUTE]);
                case.red(&ended, "StackNeedsRepair", &says).await;
            }
            _ => {
                let case = Case::new("dev", "torn down as UPDATE_PAUSED");
                let ended = case.teardown(case.found("UPDATE_PAUSED")).await;
                case.changed(&[]);
                case.red(&ended, "StackNeedsRepair", &says).await;
            }
        }
    }));
}

#[test]
fn a_teardown_begins_as_the_status_admits() {
    run(TORN_DOWN.map(|(status, tears)| async move {
        let case = Case::new("dev", format!("torn down as {status}: {tears:?}"));
        let found = case.found(status);
        let found = if let Tears::Waits(next) = tears { found.then(LOOKS, [theirs(next)]) } else { found };
        let ended = case.teardown(found).await;
        case.changed(if matches!(tears, Tears::Nothing) { &[] } else { &[DELETE] });
        case.green(&ended, Ending::TornDown, Some("DELETE_COMPLETE")).await;
        if matches!(tears, Tears::Waits(_)) {
            assert!(case.looks_before() > LOOKS as usize, "{}: {} looks", case.what, case.looks_before());
        }
    }));
}

#[test]
fn only_a_stack_that_is_gone_is_torn_down() {
    let table: Vec<_> = AFTERWARDS.map(|(status, _, ends)| (status, ends)).to_vec();
    run(table.clone().into_iter().map(move |(status, ends)| {
        let (phases, last, ends) = through(status, ends, &table);
        async move {
            let case = Case::new("dev", format!("deleted, then {status}"));
            let ended = case.teardown(case.found("UPDATE_COMPLETE").deleting(phases)).await;
            // What could not be deleted is tried once more.
            case.changed(if last == "DELETE_FAILED" { &[DELETE, DELETE] } else { &[DELETE] });
            match ends {
                Ends::Green => case.green(&ended, Ending::TornDown, Some(last)).await,
                Ends::Red => case.red(&ended, "StackFailed", &[&format!("is {last}"), "Queue CREATE_FAILED"]).await,
                Ends::Goes(next) => panic!("{next} goes on again"),
            }
        }
    }));
}

#[test]
fn a_protected_stack_is_never_deleted_in_no_status() {
    run(TORN_DOWN.map(|(status, _)| async move {
        let case = Case::new("staging", format!("torn down as {status}"));
        GROUND.cloudformation.play(case.found(status));
        // `api` admits no such thing: this is what somebody could have written into the table.
        let now = Timestamp::now();
        let admission = Admission::of_sweep(&key(&case.on), now, 0, now);
        GROUND.world.put_admission(&admission).await;
        let input = json!({"admission": admission.id, "attempt": 1}).to_string();
        let machine = GROUND.world.control_plane.output("TeardownMachine");
        let start = GROUND.world.machines.start_execution().state_machine_arn(machine);
        let started = start.name(admission.execution_name(1)).input(input).send().await.unwrap();
        let ended = GROUND.world.end(started.execution_arn()).await;
        assert_eq!(ended.error, "StageProtected", "{}: {ended:?}", case.what);
        case.changed(&[]);
        assert_eq!(case.status().as_deref(), Some(status));
    }));
}

// ---- Repairs ----------------------------------------------------------------------------------------------------------

impl Case {
    /// The command that a message names.
    fn repairs_with(&self) -> String {
        let On { application, stage, environment } = &self.on;
        format!("slipway repair --application {application} --stage {stage} --environment {environment}")
    }

    /// The stack, whose update could not be rolled back: because of two queues, and of a topic in a nested stack. What it told of
    /// before does not matter.
    fn stuck(&self) -> Stack {
        let child = Stack::found(&format!("{}-Child-1X2Y", self.stack), self.account, "UPDATE_ROLLBACK_FAILED").told([
            Event::of_stack("UPDATE_ROLLBACK_IN_PROGRESS"),
            Event::of_resource("Topic", "AWS::SNS::Topic", "UPDATE_FAILED").because("no such key"),
            Event::of_stack("UPDATE_ROLLBACK_FAILED"),
        ]);
        let nested = Event::of_resource("Child", "AWS::CloudFormation::Stack", "UPDATE_FAILED").id(&child.id());
        GROUND.cloudformation.play(child);
        let queue = |name: &str, status: &str| Event::of_resource(name, "AWS::SQS::Queue", status);
        self.found("UPDATE_ROLLBACK_FAILED").told([
            queue("Old", "UPDATE_FAILED").because("that is why it was rolled back"),
            Event::of_stack("UPDATE_ROLLBACK_IN_PROGRESS"),
            queue("Old", "UPDATE_COMPLETE"),
            queue("Queue", "UPDATE_FAILED").because("it was deleted"),
            queue("Alarmed", "UPDATE_FAILED").because("denied"),
            queue("Later", "UPDATE_FAILED").because("Resource update cancelled"),
            nested.because("the embedded stack was not rolled back"),
            Event::of_stack("UPDATE_ROLLBACK_FAILED"),
        ])
    }

    /// The topic in the nested stack, as it has to be named.
    fn topic(&self) -> String {
        format!("{}-Child-1X2Y.Topic", self.stack)
    }

    /// The environment's row, as a deployment that failed left it.
    async fn failed_before(&self) {
        let row = json!({
            "key": key(&self.on), "stack_name": self.stack, "state": "failed", "pipeline_id": u32::MAX, "deployment": null,
            "target": {"account": self.account, "region": slipway_local::REGION, "protected": self.account != DEV},
            "waiting": null, "release": null, "commit": "c0ffee", "url": null, "outputs": {}, "expires_at": null,
            "last_seconds": null,
        });
        GROUND.world.put_row(&self.on, "META", &row).await;
    }

    async fn repair(&self, stack: Stack, asked: &Asked) -> Repair<'_> {
        self.failed_before().await;
        GROUND.cloudformation.play(stack);
        let ended = GROUND.world.repair(&self.job, &self.on, asked).await;
        Repair { case: self, record: GROUND.world.recorded(&self.on, &ended.arn).await, ended }
    }
}

/// A repair that ended.
struct Repair<'c> {
    case: &'c Case,
    ended: Ended,
    record: Value,
}

impl Repair<'_> {
    /// Green, with the stack in `status`; nothing is held any more, and what is live is not said to be another.
    async fn green(&self, ending: &str, status: Option<&str>) {
        let what = &self.case.what;
        assert_eq!(self.ended.status, "SUCCEEDED", "{what}: {:?}", self.ended);
        assert_eq!(self.record["outcome"]["ending"], ending, "{what}: {}", self.record);
        assert_eq!(self.case.status().as_deref(), status, "{what}: it was not looked at to the end");
        self.left_as_it_was().await;
    }

    async fn red(&self, name: &str, says: &[&str]) {
        let what = &self.case.what;
        assert_eq!(
            (self.ended.status.as_str(), self.ended.error.as_str()),
            ("FAILED", name),
            "{what}: {:?}",
            self.ended
        );
        for words in says {
            assert!(self.ended.cause.contains(words), "{what}: {words:?} is missing in {:?}", self.ended);
        }
        assert_eq!(self.record["outcome"]["error"], name, "{what}: {}", self.record);
        self.left_as_it_was().await;
    }

    async fn left_as_it_was(&self) {
        let case = self.case;
        assert!(GROUND.world.lease_is_free(&case.on).await, "{}", case.what);
        let row = GROUND.world.row(&case.on, "META").await.unwrap();
        let kept = [&row["state"], &row["commit"], &row["pipeline_id"], &row["deployment"], &row["live"]];
        let expected = [&json!("failed"), &json!("c0ffee"), &json!(u32::MAX), &Value::Null, &Value::Null];
        assert_eq!(kept, expected, "{}: {row}", case.what);
    }

    /// What it found, and what it did with each.
    fn found(&self) -> Vec<(String, Value)> {
        let failed = self.record["found"]["failed"].as_array().cloned().unwrap_or_default();
        failed.into_iter().map(|found| (found["name"].as_str().unwrap().to_owned(), found["then"].clone())).collect()
    }
}

fn skip(names: &[&str]) -> Asked {
    let names: BTreeSet<_> = names.iter().map(|&name| RolledBackName::new(name).unwrap()).collect();
    Asked::Skip(names.try_into().unwrap())
}

async fn repaired(stage: &'static str, status: &'static str, begins: Begins) {
    let case = Case::new(stage, format!("repaired as {status}: {begins:?}"));
    let table = |next| {
        let (_, ephemeral, protected) = FOUND.into_iter().find(|row| row.0 == next).unwrap();
        if stage == "dev" { ephemeral } else { protected }
    };
    let found = if status == "UPDATE_ROLLBACK_FAILED" { case.stuck() } else { case.found(status) };
    let (found, settled, begins) = match begins {
        Begins::Waits(next) => (found.then(LOOKS, [theirs(next)]), next, table(next)),
        Begins::Creates | Begins::Updates | Begins::Recreates | Begins::Asks(_) => (found, status, begins),
    };
    let repair = case.repair(found, &Asked::Retry).await;
    match begins {
        Begins::Creates | Begins::Updates | Begins::Recreates => {
            case.changed(&[]);
            repair.green("looked", Some(settled)).await;
            let said = &repair.record["found"]["stack_status"];
            assert!(*said == settled || settled == "DELETE_COMPLETE" && said.is_null(), "{}: {said}", case.what);
        }
        Begins::Asks(REPAIR) => {
            case.changed(&[GO_ON]);
            repair.green("repaired", Some("UPDATE_ROLLBACK_COMPLETE")).await;
        }
        Begins::Asks(command) => {
            case.changed(&[]);
            let command = format!("aws cloudformation {command} --stack-name {} --region eu-central-1", case.stack);
            repair.red("StackNeedsRepair", &[&command, settled, case.account]).await;
        }
        Begins::Waits(next) => panic!("{}: {next} waits again", case.what),
    }
    if settled != status {
        assert!(case.looks_before() > LOOKS as usize, "{}: {} looks", case.what, case.looks_before());
    }
}

#[test]
fn a_repair_goes_on_only_with_a_rollback_that_failed() {
    run(FOUND.map(|(status, begins, _)| repaired("dev", status, begins)));
    run(FOUND.map(|(status, _, begins)| repaired("staging", status, begins)));
}

#[test]
fn a_repair_that_only_looks_shows_what_failed_and_changes_nothing() {
    run(["dev", "prod"].map(|stage| async move {
        let case = Case::new(stage, "looked at");
        let repair = case.repair(case.stuck(), &Asked::Look).await;
        case.changed(&[]);
        repair.green("looked", Some("UPDATE_ROLLBACK_FAILED")).await;
        let names =
            [("Alarmed".to_owned(), Value::Null), ("Queue".to_owned(), Value::Null), (case.topic(), Value::Null)];
        assert_eq!(repair.found(), names, "{}", case.what);
        let queue = &repair.record["found"]["failed"][1];
        assert_eq!((&queue["resource_type"], &queue["reason"]), (&json!("AWS::SQS::Queue"), &json!("it was deleted")));
    }));
}

#[test]
fn a_repair_goes_on_without_what_it_is_told_to_skip() {
    run(["dev", "prod"].map(|stage| async move {
        let case = Case::new(stage, "goes on without two");
        let repair = case.repair(case.stuck(), &skip(&["Queue", &case.topic()])).await;
        case.changed(&[&format!("{GO_ON} without Queue, {}", case.topic())]);
        repair.green("repaired", Some("UPDATE_ROLLBACK_COMPLETE")).await;
        let skipped = |name: &str| (name.to_owned(), json!("skipped"));
        let expected = [skipped("Queue"), skipped(&case.topic()), ("Alarmed".to_owned(), json!("tried_again"))];
        assert_eq!(repair.found(), expected, "{}", case.what);
        // It is told as the environment's last, with its events.
        let status = GROUND.world.status(&case.job, &case.on).await.unwrap().deployment.unwrap();
        assert_eq!((status.action, status.found.unwrap().failed.len()), (Action::Repair, 3), "{}", case.what);
        assert!(!status.events.is_empty() && status.approval_url.is_none(), "{}", case.what);
    }));
}

#[test]
fn what_did_not_fail_is_not_skipped() {
    run(["Old", "Later", "Child", "Nowhere"].map(|name| async move {
        let case = Case::new("dev", format!("{name} is to be skipped"));
        let repair = case.repair(case.stuck(), &skip(&["Queue", name])).await;
        case.changed(&[]);
        let list = format!("what could not be rolled back is Alarmed, Queue, {}", case.topic());
        repair.red("InvalidRequest", &[&format!("{name} cannot be skipped"), &list]).await;
        assert!(repair.found().iter().all(|(_, then)| then.is_null()), "{}: nothing was done", case.what);
    }));
}

#[test]
fn a_rollback_that_fails_again_says_why_and_what_leads_on() {
    run([async {
        let case = Case::new("dev", "fails again");
        let failed = |name: &str, why: &str| Event::of_resource(name, "AWS::SQS::Queue", "UPDATE_FAILED").because(why);
        let again =
            Phase::of("UPDATE_ROLLBACK_FAILED").after(failed("Alarmed", "denied")).after(failed("Queue", "gone"));
        let phases = [Phase::of("UPDATE_ROLLBACK_IN_PROGRESS").seen(LOOKS), again];
        let repair = case.repair(case.stuck().going_on(phases), &Asked::Retry).await;
        case.changed(&[GO_ON]);
        let cause = "Queue UPDATE_FAILED (AWS::SQS::Queue): gone [after it, 1 more failed];";
        repair.red("StackFailed", &["is UPDATE_ROLLBACK_FAILED", cause, &case.repairs_with()]).await;
        // The next one looks at the last rollback only.
        let next = GROUND.world.repair(&job("later", "feature"), &case.on, &Asked::Look).await;
        let found = GROUND.world.recorded(&case.on, &next.arn).await["found"]["failed"].clone();
        assert_eq!(found.as_array().map(Vec::len), Some(2), "{found}");
    }]);
}

#[test]
fn a_rollback_goes_on_once_whatever_becomes_of_the_answer() {
    let faults: [(&str, Vec<Fault>); 4] = [
        ("lost, and refused when it is sent again", vec![Fault::on(GO_ON, Misbehaviour::Lost)]),
        // More than the SDK tries by itself: the state machine tries the step again.
        (
            "lost, and then there is silence",
            vec![Fault::on(GO_ON, Misbehaviour::Lost), Fault::on(GO_ON, Misbehaviour::Silence).after(1).times(2)],
        ),
        ("throttled", vec![Fault::on(GO_ON, Misbehaviour::Throttled).times(7)]),
        // The mark is there, and nothing was heard: the step, tried again, asks for it again.
        ("none, three times", vec![Fault::on(GO_ON, Misbehaviour::Silence).times(3)]),
    ];
    run(faults.map(|(how, faults)| async move {
        let case = Case::new("dev", format!("the answer is {how}"));
        let stuck = faults.into_iter().fold(case.stuck(), Stack::fault);
        let phases = [Phase::of("UPDATE_ROLLBACK_IN_PROGRESS").seen(LOOKS * 2), Phase::of("UPDATE_ROLLBACK_COMPLETE")];
        let repair = case.repair(stuck.going_on(phases), &Asked::Retry).await;
        repair.green("repaired", Some("UPDATE_ROLLBACK_COMPLETE")).await;
        let calls = GROUND.cloudformation.mutations(&case.stack);
        assert!(calls.len() > 1 && calls.iter().all(|call| call.form == calls[0].form), "{}: {calls:?}", case.what);
        assert_eq!(GROUND.cloudformation.with(&case.stack, |stack| stack.operations()), 1, "{}", case.what);
    }));
}

#[test]
fn what_cloudformation_does_not_continue_is_told_in_its_own_words() {
    run([async {
        let case = Case::new("dev", "refused");
        let refused = Fault::on(GO_ON, Misbehaviour::Error(400, "ValidationError"));
        let repair = case.repair(case.stuck().fault(refused), &Asked::Retry).await;
        repair.red("StackNeedsRepair", &["ContinueUpdateRollback", "as the test wants it"]).await;
        assert_eq!(GROUND.cloudformation.with(&case.stack, |stack| stack.operations()), 0);
    }]);
}

#[test]
fn a_repair_ends_by_name_whatever_the_stack_does() {
    run([0, 1, 2, 3].map(|which| async move {
        let case = Case::new("dev", format!("a repair that does not end well, {which}"));
        match which {
            0 => {
                let repair = case.repair(case.found("UPDATE_PAUSED"), &Asked::Retry).await;
                case.changed(&[]);
                repair.red("StackNeedsRepair", &["UPDATE_PAUSED"]).await;
            }
            1 => {
                let repair = case.repair(case.stuck().going_on([Phase::of("UPDATE_PAUSED")]), &Asked::Retry).await;
                case.changed(&[GO_ON]);
                repair.red("StackNeedsRepair", &["UPDATE_PAUSED"]).await;
            }
            2 => {
                let phases = [Phase::of("UPDATE_ROLLBACK_IN_PROGRESS"), Phase::vanished()];
                let repair = case.repair(case.stuck().going_on(phases), &Asked::Retry).await;
                repair.red("StackFailed", &["gone"]).await;
            }
            _ => {
                let repair = case.repair(case.absent(), &Asked::Retry).await;
                case.changed(&[]);
                repair.green("looked", None).await;
            }
        }
    }));
}

#[test]
fn a_repair_takes_no_question_to_people_away() {
    run([async {
        let case = Case::new("prod", "repaired while people are asked");
        let world = &GROUND.world;
        GROUND.cloudformation.play(case.found("UPDATE_COMPLETE").page([Change::add("Topic", "AWS::SNS::Topic")]));
        let arn = world.begin(&case.job, &case.on, &tiny("text")).await;
        let link = world.asked(&case.job, &case.on).await;
        let repair = world.repair(&job("repair", "main"), &case.on, &Asked::Retry).await;
        assert_eq!(repair.status, "SUCCEEDED", "{repair:?}");
        assert_eq!(world.asked(&case.job, &case.on).await, link, "it is still asked, and shown");
        let manager = case.job.clone().played_by(8, "release-manager");
        assert_eq!(world.decide(&link, "approve", &manager).await.0, 200);
        assert_eq!(world.end(&arn).await.status, "SUCCEEDED");
    }]);
}

#[test]
fn an_environment_that_is_not_known_has_nothing_to_repair() {
    run([async {
        let case = Case::new("dev", "no environment");
        let refused = GROUND.world.begin_repair(&case.job, &case.on, &Asked::Look).await.unwrap_err();
        assert_eq!(refused.name, "NotFound", "{refused:?}");
        assert!(GROUND.world.row(&case.on, "META").await.is_none());
    }]);
}

// ---- Change sets ------------------------------------------------------------------------------------------------------

#[test]
fn an_empty_change_set_is_no_change_and_goes() {
    let sentences = [
        "The submitted information didn't contain changes. Submit different information to create a change set.",
        "No updates are to be performed.",
    ];
    run(sentences.map(|sentence| async move {
        let case = Case::new("dev", sentence);
        let making = [SetPhase::MAKING.seen(LOOKS), SetPhase::failed(sentence)];
        let ended = case.deploy(case.found("UPDATE_ROLLBACK_COMPLETE").making(making)).await;
        case.changed(&[UPDATE, DISCARD]);
        case.green(&ended, Ending::NoChanges, Some("UPDATE_ROLLBACK_COMPLETE")).await;
        assert!(GROUND.cloudformation.with(&case.stack, |stack| stack.change_sets.is_empty()));
    }));
}

#[test]
fn a_change_set_that_cannot_be_made_fails_with_cloudformations_own_reason() {
    const REASON: &str =
        "Transform AWS::Serverless-2016-10-31 failed with: Invalid Serverless Application Specification document.";
    /// The stage, the status that the stack is found in, the calls, and the status that is left.
    type Row = (&'static str, Option<&'static str>, &'static [&'static str], Option<&'static str>);
    let cases: [Row; 4] = [
        ("dev", None, &[CREATE, DISCARD, DELETE], Some("DELETE_IN_PROGRESS")),
        ("dev", Some("UPDATE_COMPLETE"), &[UPDATE, DISCARD], Some("UPDATE_COMPLETE")),
        ("staging", None, &[CREATE_PROTECTED, DISCARD], Some("REVIEW_IN_PROGRESS")),
        ("staging", Some("CREATE_COMPLETE"), &[UPDATE, DISCARD], Some("CREATE_COMPLETE")),
    ];
    run(cases.map(|(stage, status, calls, left)| async move {
        let case = Case::new(stage, format!("a change set that fails on {status:?}"));
        let stack = status.map_or_else(|| case.absent(), |status| case.found(status));
        let ended = case.deploy(stack.making([SetPhase::MAKING, SetPhase::failed(REASON)])).await;
        case.changed(calls);
        case.red(&ended, "ChangeSetFailed", &[REASON]).await;
        assert_eq!(case.status().as_deref(), left, "{}", case.what);
        assert!(GROUND.cloudformation.with(&case.stack, |stack| stack.change_sets.is_empty()), "{}", case.what);
    }));
}

#[test]
fn a_change_set_that_was_made_unseen_does_not_stay_behind() {
    run([async {
        let case = Case::new("dev", "made, and then no right to look at it");
        let denied = Fault::on("DescribeChangeSet", Misbehaviour::Error(403, "AccessDenied"));
        let ended = case.deploy(case.absent().fault(denied)).await;
        case.red(&ended, "TargetDenied", &[]).await;
        case.changed(&[CREATE, DISCARD, DELETE]);
    }]);
}

#[test]
fn a_change_set_that_is_gone_or_going_is_stale() {
    run([
        SetPhase::DELETED,
        SetPhase::of("DELETE_PENDING", "UNAVAILABLE"),
        SetPhase::of("DELETE_FAILED", "UNAVAILABLE"),
    ]
    .map(|last| async move {
        let case = Case::new("dev", format!("made, then {last:?}"));
        let making = [SetPhase::MAKING.seen(LOOKS), last.seen(1000)];
        let ended = case.deploy(case.found("CREATE_COMPLETE").making(making)).await;
        case.red(&ended, "ChangeSetStale", &[]).await;
        assert_eq!(case.status().as_deref(), Some("CREATE_COMPLETE"), "{}", case.what);
    }));
}

#[test]
fn what_is_not_what_was_reviewed_is_not_executed() {
    type Behind = (&'static str, fn(&mut Stack));
    let changes: [Behind; 5] = [
        ("obsolete", |stack| stack.change_sets[0].now = SetPhase::OBSOLETE.seen(1000)),
        ("unavailable", |stack| stack.change_sets[0].now = SetPhase::of("CREATE_COMPLETE", "UNAVAILABLE").seen(1000)),
        ("deleted", |stack| stack.change_sets.clear()),
        ("another parameter", |stack| {
            stack.change_sets[0].parameters.insert("Size".into(), "large".into());
        }),
        ("a parameter more", |stack| {
            stack.change_sets[0].parameters.insert("More".into(), "x".into());
        }),
    ];
    run(changes.map(|(what, change)| async move {
        let case = Case::new("prod", what);
        GROUND
            .cloudformation
            .play(case.found("CREATE_COMPLETE").page([Change::modify("Setting", "AWS::SSM::Parameter")]));
        let world = &GROUND.world;
        let arn = world.begin(&case.job, &case.on, &tiny("text")).await;
        let link = world.asked(&case.job, &case.on).await;
        GROUND.cloudformation.with(&case.stack, change);
        let manager = case.job.clone().played_by(8, "release-manager");
        assert_eq!(world.decide(&link, "approve", &manager).await.0, 200);
        let ended = world.end(&arn).await;
        case.red(&ended, "ChangeSetStale", &[]).await;
        let calls = GROUND.cloudformation.mutations(&case.stack);
        assert!(calls.iter().all(|call| call.action != "ExecuteChangeSet"), "{}: {calls:?}", case.what);
        assert!(
            GROUND.cloudformation.with(&case.stack, |stack| stack.change_sets.is_empty()),
            "{}: left behind",
            case.what
        );
        assert_eq!(case.status().as_deref(), Some("CREATE_COMPLETE"), "{}", case.what);
    }));
}

#[test]
fn an_empty_shell_has_no_values_to_keep() {
    run(["dev", "staging"].map(|stage| async move {
        let case = Case::new(stage, "a shell that tells parameters");
        // CloudFormation refuses UsePreviousValue for a stack that is only made.
        let ended = case.deploy(case.found("REVIEW_IN_PROGRESS").parameter("Size", "small")).await;
        let create = if stage == "dev" { CREATE } else { CREATE_PROTECTED };
        case.changed(&with_protection(stage, &[create, EXECUTE]));
        case.green(&ended, Ending::Succeeded, Some("CREATE_COMPLETE")).await;
    }));
}

#[test]
fn a_review_has_all_pages() {
    run([async {
        let case = Case::new("prod", "three pages");
        let page = |number: u32| (0..3).map(move |at| Change::add(&format!("Topic{number}{at}"), "AWS::SNS::Topic"));
        GROUND.cloudformation.play(case.absent().page(page(0)).page(page(1)).page(page(2)));
        let arn = GROUND.world.begin(&case.job, &case.on, &tiny("text")).await;
        GROUND.world.asked(&case.job, &case.on).await;
        let status = GROUND.world.status(&case.job, &case.on).await.unwrap();
        let review = serde_json::to_value(status.deployment.unwrap().review.unwrap()).unwrap().to_string();
        for name in (0..3).flat_map(|page| (0..3).map(move |at| format!("Topic{page}{at}"))) {
            assert!(review.contains(&name), "{name} in {review}");
        }
        GROUND.world.machines.stop_execution().execution_arn(&arn).send().await.unwrap();
    }]);
}

// ---- CloudFormation in trouble ----------------------------------------------------------------------------------------

/// Seven calls of each kind that only looks are answered so: more than the SDK tries by itself.
fn trouble(faults: &[Misbehaviour]) {
    let calls = ["DescribeStacks", "DescribeChangeSet", "DescribeStackEvents"];
    let cases: Vec<_> = faults.iter().flat_map(|how| calls.map(|call| (*how, call))).collect();
    run(cases.into_iter().map(|(how, call)| async move {
        let case = Case::new("dev", format!("{call} answered with {how:?}"));
        // The SDK itself tries three times what fails in a way that it knows, and only the state machine what nobody can read.
        let times = if matches!(how, Misbehaviour::Garbage) { 5 } else { 7 };
        let ended = case.deploy(case.found("CREATE_COMPLETE").fault(Fault::on(call, how).times(times))).await;
        case.changed_once(&[UPDATE, EXECUTE]);
        case.green(&ended, Ending::Succeeded, Some("UPDATE_COMPLETE")).await;
    }));
}

#[test]
fn throttling_and_faults_of_the_service_fail_no_deployment() {
    trouble(&[
        Misbehaviour::Throttled,
        Misbehaviour::Error(400, "ThrottlingException"),
        Misbehaviour::Error(503, "ServiceUnavailable"),
        Misbehaviour::Error(500, "InternalFailure"),
        Misbehaviour::Silence,
    ]);
}

#[test]
fn an_answer_that_is_none_fails_no_deployment() {
    trouble(&[Misbehaviour::Garbage]);
}

#[test]
fn an_answer_that_is_none_hides_no_effect() {
    run(["CreateChangeSet", "ExecuteChangeSet", "DeleteStack"].map(|action| async move {
        let case = Case::new("dev", format!("{action} takes effect, and is answered with what is no XML"));
        let (stack, calls, status): (_, &[&str], _) = if action == "DeleteStack" {
            (case.found("ROLLBACK_COMPLETE"), &[DELETE, CREATE, EXECUTE], "CREATE_COMPLETE")
        } else {
            (case.found("CREATE_COMPLETE"), &[UPDATE, EXECUTE], "UPDATE_COMPLETE")
        };
        let ended = case.deploy(stack.fault(Fault::on(action, Misbehaviour::Garbage))).await;
        case.green(&ended, Ending::Succeeded, Some(status)).await;
        case.changed_once(calls);
    }));
}

#[test]
fn a_call_whose_answer_is_lost_takes_effect_once() {
    let lost = |action: &'static str, stack: Stack| {
        // The SDK, which tries three times, gives up: then the state machine tries the step again.
        let silence = Fault::on(action, Misbehaviour::Silence).after(1).times(2);
        stack.fault(Fault::on(action, Misbehaviour::Lost)).fault(silence)
    };
    run(["CreateChangeSet", "ExecuteChangeSet", "DeleteChangeSet", "DeleteStack"].map(|action| async move {
        let case = Case::new("dev", format!("{action}'s answer is lost"));
        let empty = SetPhase::failed("No updates are to be performed.");
        let (stack, ending, status) = match action {
            "DeleteStack" => (case.found("ROLLBACK_COMPLETE"), Ending::Succeeded, "CREATE_COMPLETE"),
            "DeleteChangeSet" => (case.found("CREATE_COMPLETE").making([empty]), Ending::NoChanges, "CREATE_COMPLETE"),
            _ => (case.found("CREATE_COMPLETE"), Ending::Succeeded, "UPDATE_COMPLETE"),
        };
        let ended = case.deploy(lost(action, stack)).await;
        case.green(&ended, ending, Some(status)).await;
        let calls = GROUND.cloudformation.mutations(&case.stack);
        let same: Vec<_> = calls.iter().filter(|call| call.action == action).collect();
        assert!(same.len() >= 3 && same.iter().all(|call| call.form == same[0].form), "{}: {same:?}", case.what);
        let began = GROUND.cloudformation.with(&case.stack, |stack| stack.operations());
        let expected = match action {
            "DeleteStack" => 2,
            "DeleteChangeSet" => 0,
            _ => 1,
        };
        assert_eq!(began, expected, "{}: operations", case.what);
    }));
}

#[test]
fn an_execution_whose_answer_is_lost_goes_on_though_it_is_refused_when_it_is_sent_again() {
    run([async {
        let case = Case::new("dev", "ExecuteChangeSet's answer is lost, and the next one is a refusal");
        let refused = Fault::on("ExecuteChangeSet", Misbehaviour::Error(400, "InvalidChangeSetStatus")).after(1);
        let stack =
            case.found("CREATE_COMPLETE").fault(Fault::on("ExecuteChangeSet", Misbehaviour::Lost)).fault(refused);
        let ended = case.deploy(stack).await;
        case.green(&ended, Ending::Succeeded, Some("UPDATE_COMPLETE")).await;
        assert_eq!(GROUND.cloudformation.with(&case.stack, |stack| stack.operations()), 1, "{}", case.what);
    }]);
}

#[test]
fn a_stack_that_disappears_is_not_green() {
    run([0, 1, 2].map(|which| async move {
        match which {
            0 => {
                let case = Case::new("dev", "gone while it is updated");
                let phases = [Phase::of("UPDATE_IN_PROGRESS"), Phase::vanished()];
                let ended = case.deploy(case.found("CREATE_COMPLETE").executing(phases)).await;
                case.changed(&[UPDATE, EXECUTE]);
                case.red(&ended, "StackFailed", &[&case.stack, "gone"]).await;
            }
            1 => {
                let case = Case::new("dev", "gone while it is waited for");
                let found = case.found("UPDATE_IN_PROGRESS").then(LOOKS, [Phase::vanished()]);
                let ended = case.deploy(found).await;
                case.changed(&[CREATE, EXECUTE]);
                case.green(&ended, Ending::Succeeded, Some("CREATE_COMPLETE")).await;
            }
            _ => {
                let case = Case::new("dev", "gone while it is deleted");
                let phases = [Phase::of("DELETE_IN_PROGRESS"), Phase::vanished()];
                let ended = case.teardown(case.found("CREATE_COMPLETE").deleting(phases)).await;
                case.changed(&[DELETE]);
                case.green(&ended, Ending::TornDown, None).await;
            }
        }
    }));
}

// ---- Time -------------------------------------------------------------------------------------------------------------

/// A stack that stays as it is for ever.
const FOR_EVER: u32 = u32::MAX;

#[test]
fn nothing_is_waited_for_without_end() {
    run([0, 1, 2, 3].map(|which| async move {
        let case = Case::new("dev", format!("for ever, {which}"));
        let busy = Phase::of("UPDATE_IN_PROGRESS").seen(FOR_EVER);
        let of_before = Phase::of("CREATE_COMPLETE").told([]).seen(FOR_EVER);
        let (stack, name, calls): (_, _, &[&str]) = match which {
            0 => (case.found("UPDATE_IN_PROGRESS").then(FOR_EVER, []), "StackBusy", &[]),
            1 => (case.found("CREATE_COMPLETE").executing([busy]), "StackTimedOut", &[UPDATE, EXECUTE]),
            // A status of before, and no event of ours: whatever it is, it is not green. Nor is it known that the change set was
            // executed.
            2 => (case.found("CREATE_COMPLETE").executing([of_before]), "StackTimedOut", &[UPDATE, EXECUTE, DISCARD]),
            _ => (
                case.found("CREATE_COMPLETE").executing([Phase::of("ROLLBACK_COMPLETE").told([]).seen(FOR_EVER)]),
                "StackTimedOut",
                &[UPDATE, EXECUTE, DISCARD],
            ),
        };
        GROUND.cloudformation.play(stack);
        let arn = GROUND.world.begin(&case.job, &case.on, &tiny("text")).await;
        case.looked_at(5).await;
        case.age(14).await;
        let ended = GROUND.world.end(&arn).await;
        case.changed(calls);
        case.red(&ended, name, &[&case.stack]).await;
    }));
}

/// The most events that Step Functions keeps of one execution
/// (<https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>).
const MOST_EVENTS: usize = 25_000;
/// What one look adds to a history: two events each of a Wait and a Choice, five of a Task
/// (<https://docs.aws.amazon.com/step-functions/latest/apireference/API_HistoryEvent.html>).
const EVENTS_A_LOOK: usize = 9;

async fn history(arn: &str) -> Vec<aws_sdk_sfn::types::HistoryEvent> {
    let request = GROUND.world.machines.get_execution_history().execution_arn(arn).max_results(1000);
    let mut events = Vec::new();
    let mut page = None;
    loop {
        let answer = request.clone().set_next_token(page).send().await.unwrap();
        events.extend(answer.events);
        page = answer.next_token;
        if page.is_none() {
            return events;
        }
    }
}

/// How many looks there are in `seconds`, whatever the last deployment took.
fn most_looks(seconds: u32) -> usize {
    let looks = |expected: Option<u32>| {
        let (mut elapsed, mut looks) = (0, 0);
        while elapsed < seconds {
            elapsed += next_wait(elapsed, expected);
            looks += 1;
        }
        looks
    };
    let expected = (1..seconds).step_by(61).map(Some).chain([None]);
    expected.map(looks).max().unwrap_or_default()
}

#[test]
fn twelve_hours_fit_into_a_history() {
    run([async {
        const OFTEN: u32 = 100;
        let case = Case::new("dev", "twelve hours");
        let phases = [Phase::of("UPDATE_IN_PROGRESS").seen(FOR_EVER), Phase::of("UPDATE_COMPLETE")];
        GROUND.cloudformation.play(case.found("CREATE_COMPLETE").executing(phases));
        let arn = GROUND.world.begin(&case.job, &case.on, &tiny("text")).await;
        case.looked_at(OFTEN as usize).await;
        // From here on it has taken eleven hours: once a minute is often enough, and a session is taken for each look.
        case.age(11).await;
        case.looked_at(OFTEN as usize + 10).await;
        GROUND.cloudformation.with(&case.stack, Stack::skip);
        let ended = GROUND.world.end(&arn).await;
        case.changed(&[UPDATE, EXECUTE]);
        case.green(&ended, Ending::Succeeded, Some("UPDATE_COMPLETE")).await;

        let events = history(&arn).await;
        let waits = events.iter().filter(|event| event.r#type.as_str() == "WaitStateEntered").count();
        assert!(waits > OFTEN as usize / 2, "{waits} waits");
        let first = events.iter().position(|event| event.r#type.as_str() == "WaitStateEntered").unwrap();
        let a_look = (events.len() - first).div_ceil(waits).max(EVENTS_A_LOOK);
        let before = first + 500;
        let looks = most_looks(12 * 3600);
        let sum = before + looks * a_look;
        assert!(sum < MOST_EVENTS / 2, "{looks} looks of {a_look} events after {before} are {sum}");

        let said: Vec<u64> = events.iter().filter_map(wait_said).collect();
        let late = &said[said.len() - 6..];
        assert!(late.iter().filter(|wait| **wait >= 60).count() >= 4, "after eleven hours: {late:?} in {said:?}");
        let sessions: BTreeMap<_, usize> =
            GROUND.cloudformation.calls(&case.stack).into_iter().fold(BTreeMap::new(), |mut sessions, call| {
                *sessions.entry(call.session).or_default() += 1;
                sessions
            });
        let most = sessions.values().max().unwrap();
        assert!(*most <= 4, "one session made {most} calls: it outlived its step");
    }]);
}

/// How long a step told its machine to wait.
fn wait_said(event: &aws_sdk_sfn::types::HistoryEvent) -> Option<u64> {
    let output = event.task_succeeded_event_details()?.output()?;
    let output: Value = serde_json::from_str(output).ok()?;
    output["Payload"]["wait"].as_u64()
}
