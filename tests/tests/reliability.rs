//! Each step of each state machine goes wrong in each way, over the real machines on the embedded AWS: what the machine tries
//! again ends as if nothing had happened, with its effects once; what it does not is recorded, and leaves nothing behind.
//!
//! Without more, a sample runs: another one each day. `SLIPWAY_FAULTS=all` runs everything, `SLIPWAY_FAULTS=<number>` repeats a
//! sample, and `SLIPWAY_FAULTS=<text>` runs the rows whose name contains the text. The table of docs/RELIABILITY.md must
//! hold what ran; with `SLIPWAY_BLESS=1` those cells of it of which all rows ran are written.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test may, and which rows run is a setting of whoever runs it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sfn::types::ExecutionStatus;
use serde_json::{Value, json};
use slipway_domain::deployment::{Action, execution_name};
use slipway_domain::names::{EnvironmentKey, ProjectId, RolledBackName};
use slipway_domain::protocol::{Ask, On, TeardownRequest};
use slipway_domain::repair::Asked;
use slipway_local::job::NewsJob;
use slipway_local::{DEV, STAGING, control_plane};
use slipway_tests::faults::{self, Fault, MACHINES, Plan};
use slipway_tests::{World, clinging, in_world, job, on, tiny, unique, unyielding};

/// How many rows run at once.
const AT_ONCE: usize = 5;
/// Of so many rows, the sample takes one.
const SAMPLE: u64 = 12;
/// How long an execution, or its recording, may take before the row counts as stuck.
const PATIENCE: Duration = Duration::from_secs(150);

/// What leads an execution to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scenario {
    /// The first deployment of an environment.
    Create,
    /// The same again: there is nothing to change.
    NoChanges,
    /// The first deployment in a stage that asks for an approval.
    Approved,
    /// The first one in a protected stage.
    Protected,
    /// The repair of a stack whose update could not be rolled back, without the resource that does not yield.
    Repair,
    /// A first deployment that failed with its change set made.
    Failing,
    /// The teardown of a live environment.
    Teardown,
    /// The teardown of one whose bucket is not empty.
    Emptying,
    /// The teardown of one with a resource that cannot be deleted, in a stage that goes on without it.
    Blocked,
    /// A teardown that failed.
    FailingTeardown,
}

impl Scenario {
    /// The step that fails, so that the failure tail is gone through.
    fn failing_step(self) -> Option<&'static str> {
        match self {
            Scenario::Failing => Some("Execute change set"),
            Scenario::FailingTeardown => Some("Delete stack"),
            Scenario::Create
            | Scenario::NoChanges
            | Scenario::Approved
            | Scenario::Protected
            | Scenario::Repair
            | Scenario::Emptying
            | Scenario::Blocked
            | Scenario::Teardown => None,
        }
    }

    fn machine(self) -> Action {
        match self {
            Scenario::Create
            | Scenario::NoChanges
            | Scenario::Approved
            | Scenario::Protected
            | Scenario::Repair
            | Scenario::Failing => Action::Deploy,
            Scenario::Teardown | Scenario::Emptying | Scenario::Blocked | Scenario::FailingTeardown => Action::Teardown,
        }
    }

    /// The stage, its account, and the branch that may deploy there.
    fn stage(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Scenario::Approved => ("gate", DEV, "main"),
            Scenario::Protected => ("staging", STAGING, "main"),
            Scenario::Blocked => ("retains", DEV, "feature"),
            Scenario::Create
            | Scenario::NoChanges
            | Scenario::Repair
            | Scenario::Failing
            | Scenario::Teardown
            | Scenario::Emptying
            | Scenario::FailingTeardown => ("dev", DEV, "feature"),
        }
    }
}

/// How a step is reached, and the calls of AWS at which it is killed or throttled: each one that writes, and of those that
/// read the first of each kind.
struct Step {
    machine: Action,
    name: &'static str,
    scenario: Scenario,
    killed: &'static [&'static str],
    throttled: &'static [&'static str],
}

const fn step(
    machine: Action,
    name: &'static str,
    scenario: Scenario,
    killed: &'static [&'static str],
    throttled: &'static [&'static str],
) -> Step {
    Step { machine, name, scenario, killed, throttled }
}

const SETTLE_KILLED: &[&str] = &["TransactWriteItems", "PutItem", "PutItem.2"];
const SETTLE_THROTTLED: &[&str] = &["TransactWriteItems", "AssumeRole", "DescribeStacks", "PutItem", "PutItem.2"];
const BEGIN_KILLED: &[&str] = &["PutItem", "PutItem.2", "PutItem.3", "PutItem.4"];
const BEGIN_THROTTLED: &[&str] = &["GetItem", "GetParameter", "PutItem", "PutItem.2", "PutItem.3", "PutItem.4"];

const STEPS: &[Step] = &[
    step(Action::Deploy, "Begin", Scenario::Create, BEGIN_KILLED, BEGIN_THROTTLED),
    step(
        Action::Deploy,
        "Repair stack",
        Scenario::Repair,
        &["PutItem", "PutItem.2", "PutItem.3", "PutItem.4", "ContinueUpdateRollback"],
        &[
            "PutItem",
            "AssumeRole",
            "DescribeStacks",
            "DescribeStackEvents",
            "PutItem.2",
            "PutItem.3",
            "PutItem.4",
            "ContinueUpdateRollback",
        ],
    ),
    step(
        Action::Deploy,
        "Package",
        Scenario::Create,
        &["PutItem", "PutObject", "PutObject.2", "PutObject.3", "PutItem.2"],
        &["PutItem", "GetObject", "PutObject", "PutObject.2", "PutObject.3", "PutItem.2"],
    ),
    step(
        Action::Deploy,
        "Create change set",
        Scenario::Create,
        &["PutItem", "PutItem.2", "PutItem.3", "CreateChangeSet", "PutItem.4"],
        &[
            "PutItem",
            "AssumeRole",
            "DescribeStacks",
            "GetObject",
            "PutItem.2",
            "PutItem.3",
            "CreateChangeSet",
            "DescribeChangeSet",
            "PutItem.4",
        ],
    ),
    step(
        Action::Deploy,
        "Look at change set",
        Scenario::Create,
        &["PutItem", "PutObject", "TransactWriteItems"],
        &["PutItem", "AssumeRole", "DescribeChangeSet", "PutObject", "TransactWriteItems"],
    ),
    step(
        Action::Deploy,
        "Discard change set",
        Scenario::NoChanges,
        &["PutItem", "DeleteChangeSet"],
        &["PutItem", "AssumeRole", "DeleteChangeSet"],
    ),
    step(Action::Deploy, "Settle no changes", Scenario::NoChanges, SETTLE_KILLED, SETTLE_THROTTLED),
    step(
        Action::Deploy,
        "Approval",
        Scenario::Approved,
        &["PutItem", "PutItem.2", "PutItem.3", "PutItem.4", "PutEvents", "Publish", "PutItem.5"],
        // What comes after these tells people: that they cannot be told fails nothing.
        &["GetItem", "GetParameter", "PutItem", "PutItem.2", "PutItem.3", "PutItem.4"],
    ),
    step(
        Action::Deploy,
        "Take lease again",
        Scenario::Approved,
        &["PutItem", "PutItem.2"],
        &["GetItem", "PutItem", "PutItem.2"],
    ),
    step(
        Action::Deploy,
        "Execute change set",
        Scenario::Create,
        &["PutItem", "TransactWriteItems", "PutItem.2", "ExecuteChangeSet"],
        &["PutItem", "AssumeRole", "DescribeChangeSet", "TransactWriteItems", "PutItem.2", "ExecuteChangeSet"],
    ),
    step(
        Action::Deploy,
        "Look at stack",
        Scenario::Create,
        &["PutItem", "PutObject", "PutItem.2"],
        &["PutItem", "AssumeRole", "DescribeStacks", "DescribeStackEvents", "PutObject", "PutItem.2"],
    ),
    step(
        Action::Deploy,
        "Protect stack",
        Scenario::Protected,
        &["PutItem", "UpdateTerminationProtection", "SetStackPolicy"],
        &["PutItem", "AssumeRole", "UpdateTerminationProtection", "SetStackPolicy"],
    ),
    step(Action::Deploy, "Settle success", Scenario::Create, SETTLE_KILLED, SETTLE_THROTTLED),
    step(
        Action::Deploy,
        "Settle failure",
        Scenario::Failing,
        &["TransactWriteItems", "PutItem", "DeleteChangeSet", "DeleteStack", "PutItem.2", "PutItem.3"],
        &[
            "TransactWriteItems",
            "AssumeRole",
            "DeleteChangeSet",
            "DescribeStacks",
            "DeleteStack",
            "PutItem.2",
            "PutItem.3",
        ],
    ),
    step(Action::Teardown, "Begin", Scenario::Teardown, BEGIN_KILLED, BEGIN_THROTTLED),
    step(
        Action::Teardown,
        "Empty stack",
        Scenario::Emptying,
        &["PutItem", "PutItem.2", "PutItem.3", "AbortMultipartUpload", "DeleteObjects", "PutItem.6", "PutItem.7"],
        &[
            "PutItem",
            "AssumeRole",
            "DescribeStacks",
            "GetTemplate",
            "ListStackResources",
            "PutItem.2",
            "DescribeStackResource",
            "AssumeRole.2",
            "PutItem.3",
            "ListMultipartUploads",
            "AbortMultipartUpload",
            "ListObjectVersions",
            "DeleteObjects",
            "PutItem.6",
            "PutItem.7",
        ],
    ),
    step(
        Action::Teardown,
        "Delete stack",
        Scenario::Teardown,
        &["PutItem", "PutItem.2", "PutItem.3", "DeleteStack"],
        &[
            "PutItem",
            "AssumeRole",
            "DescribeStacks",
            "GetTemplate",
            "ListStackResources",
            "PutItem.2",
            "PutItem.3",
            "DeleteStack",
        ],
    ),
    step(
        Action::Teardown,
        "Look at stack",
        Scenario::Teardown,
        &["PutItem", "PutObject", "PutItem.2"],
        &["PutItem", "AssumeRole", "DescribeStacks", "DescribeStackEvents", "PutObject", "PutItem.2"],
    ),
    step(Action::Teardown, "Deletion failed", Scenario::Blocked, &["PutItem", "PutItem.2"], &["PutItem", "PutItem.2"]),
    step(
        Action::Teardown,
        "Look at leftovers",
        Scenario::Blocked,
        &["PutItem", "PutItem.2"],
        &["PutItem", "AssumeRole", "DescribeStackEvents", "AssumeRole.2", "DescribeLogStreams", "PutItem.2"],
    ),
    step(
        Action::Teardown,
        "Settle success",
        Scenario::Teardown,
        SETTLE_KILLED,
        &["TransactWriteItems", "PutItem", "PutItem.2"],
    ),
    step(
        Action::Teardown,
        "Settle failure",
        Scenario::FailingTeardown,
        SETTLE_KILLED,
        &["TransactWriteItems", "PutItem", "PutItem.2"],
    ),
];

/// Rows that fail because of a defect that is known: their names, and what is wrong. One that is mended must be taken out.
const KNOWN_DEFECTS: &[(&str, &[&str])] = &[];
/// What a repair of [`unyielding`] asks for.
fn skipping() -> Asked {
    Asked::Skip(BTreeSet::from([RolledBackName::new("Thing").unwrap()]).try_into().unwrap())
}

/// One fault in one step.
#[derive(Debug, Clone)]
struct Row {
    scenario: Scenario,
    step: &'static str,
    /// Nothing in the run that the others are compared with.
    fault: Option<Fault>,
    on: On,
    job: NewsJob,
}

impl Row {
    fn new(scenario: Scenario, step: &'static str, fault: Option<Fault>) -> Self {
        let (stage, _, branch) = scenario.stage();
        let on = on(stage, &format!("review/fault-{}", unique()));
        let mut job = job("deploy", branch);
        if scenario.machine() == Action::Teardown || matches!(scenario, Scenario::NoChanges | Scenario::Repair) {
            // What is there before the fault was deployed by an older pipeline.
            job.job.pipeline_id = 100_000 + unique();
        }
        Self { scenario, step, fault, on, job }
    }

    fn name(&self) -> String {
        let machine = self.scenario.machine().as_str();
        match self.fault {
            None => format!("{machine}: {:?} without a fault", self.scenario),
            Some(fault) => match fault.call() {
                None => format!("{machine}: {}: {}", self.step, column(fault)),
                Some(call) => format!("{machine}: {}: {} at {call}", self.step, column(fault)),
            },
        }
    }

    /// What goes wrong in this row's execution.
    fn plans(&self) -> Vec<Plan> {
        let On { application, stage, environment } = self.on.clone();
        let key = EnvironmentKey { project: ProjectId(101), application, stage, environment };
        let machine = self.scenario.machine();
        let (action, name) = match self.scenario {
            Scenario::Repair => (Action::Repair, skipping().job(&self.job.name)),
            Scenario::Create
            | Scenario::NoChanges
            | Scenario::Approved
            | Scenario::Protected
            | Scenario::Failing
            | Scenario::Teardown
            | Scenario::Emptying
            | Scenario::Blocked
            | Scenario::FailingTeardown => (machine, self.job.name.clone()),
        };
        let execution = execution_name(action, &key, self.job.job.pipeline_id, &name, 1);
        let plan = |step: &str, fault| Plan { machine, step: step.to_owned(), execution: execution.clone(), fault };
        let way = self.scenario.failing_step().map(|step| plan(step, Fault::Error));
        way.into_iter().chain(self.fault.map(|fault| plan(self.step, fault))).collect()
    }

    /// The name of the error that the step fails with.
    fn error(&self) -> Option<&'static str> {
        match self.fault? {
            Fault::NotInvoked => Some("Lambda.TooManyRequestsException"),
            Fault::LostAnswer => Some("Lambda.Unknown"),
            Fault::Error => Some("Internal"),
            Fault::Timeout => Some("States.Timeout"),
            Fault::Killed(_) => Some("Runtime.ExitError"),
            Fault::Burst(_) | Fault::Throttled(_) => Some("Throttled"),
            Fault::Stopped(_) => None,
        }
    }
}

/// The table's columns.
const COLUMNS: [&str; 8] = [
    "not invoked for a while",
    "lost answer",
    "error",
    "no answer in time",
    "killed",
    "throttled for a while",
    "throttled for good",
    "stopped",
];

fn column(fault: Fault) -> &'static str {
    let [busy, lost, error, timeout, killed, burst, throttled, stopped] = COLUMNS;
    match fault {
        Fault::NotInvoked => busy,
        Fault::LostAnswer => lost,
        Fault::Error => error,
        Fault::Timeout => timeout,
        Fault::Killed(_) => killed,
        Fault::Burst(_) => burst,
        Fault::Throttled(_) => throttled,
        Fault::Stopped(_) => stopped,
    }
}

/// Every row, in the order of the table.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for Step { name, scenario, killed, throttled, .. } in STEPS {
        let mut add = |fault| rows.push(Row::new(*scenario, name, Some(fault)));
        add(Fault::NotInvoked);
        add(Fault::LostAnswer);
        add(Fault::Error);
        add(Fault::Timeout);
        killed.iter().for_each(|call| add(Fault::Killed(call)));
        // One burst shows that what is tried again goes on; where it can strike, the endless ones show.
        add(Fault::Burst(throttled.last().unwrap()));
        throttled.iter().for_each(|call| add(Fault::Throttled(call)));
        // Before `Begin` has written its row with its second call, no record tells that the end was told.
        let unseen = if *name == "Begin" { 2 } else { 0 };
        killed.iter().skip(unseen).for_each(|call| add(Fault::Stopped(call)));
    }
    rows
}

/// How it all stands after an execution: what must be the same with and without a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stands {
    execution: String,
    outcome: String,
    environment: String,
    url: bool,
    stack: String,
    /// What CloudFormation did to the stack, so often as it did it.
    operations: Vec<String>,
    deployments: usize,
    questions: usize,
}

/// How a row ended.
#[derive(Debug, Clone)]
struct End {
    stands: Stands,
    problems: Vec<String>,
    took: Duration,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stands { execution, outcome, .. } = &self.stands;
        match (outcome.as_str(), execution.as_str()) {
            ("", _) => f.write_str("refused before it began"),
            ("succeeded" | "no_changes" | "torn_down" | "repaired", "SUCCEEDED") => f.write_str("green"),
            ("succeeded" | "no_changes" | "torn_down" | "repaired", _) => f.write_str("green, its execution red"),
            (red, _) => write!(f, "red: {red}"),
        }?;
        if !self.problems.is_empty() {
            f.write_str(" (!)")?;
        }
        Ok(())
    }
}

#[test]
fn every_task_is_in_the_table() {
    let listed: Vec<(Action, String)> = STEPS.iter().map(|step| (step.machine, step.name.to_owned())).collect();
    let there: BTreeSet<(Action, String)> = MACHINES
        .iter()
        .flat_map(|(machine, text)| faults::tasks(text).into_iter().map(|task| (*machine, task)))
        .collect();
    assert_eq!(BTreeSet::from_iter(listed.clone()), there, "STEPS and the state machines");
    assert_eq!(listed.len(), there.len(), "each is listed once");
    for step in STEPS {
        assert_eq!(step.machine, step.scenario.machine(), "{}", step.name);
    }
}

#[test]
fn a_step_that_goes_wrong_is_got_over_or_recorded() {
    in_world(|world| async move {
        let chosen = std::env::var("SLIPWAY_FAULTS").unwrap_or_default();
        let rows = rows();
        let sample = |seed: u64| {
            println!("a sample of the faults: SLIPWAY_FAULTS={seed}");
            let at = |(at, _): &(usize, &Row)| (*at as u64 + seed).is_multiple_of(SAMPLE);
            rows.iter().enumerate().filter(at).map(|(_, row)| row.clone()).collect::<Vec<_>>()
        };
        let mut running = match chosen.as_str() {
            "all" => rows.clone(),
            "" => sample(jiff::Timestamp::now().as_second().unsigned_abs() / 86_400 % SAMPLE),
            text => match text.parse() {
                Ok(seed) => sample(seed),
                Err(_) => rows.iter().filter(|row| row.name().contains(text)).cloned().collect(),
            },
        };
        let scenarios: BTreeSet<Scenario> = running.iter().map(|row| row.scenario).collect();
        let baselines: Vec<Row> = scenarios.into_iter().map(|scenario| Row::new(scenario, "", None)).collect();
        running.splice(0..0, baselines);

        world.control_plane.emulator.set_wait_scale(0.02).await.unwrap();
        stages(world).await;
        faults::install(world, &running.iter().flat_map(Row::plans).collect::<Vec<_>>()).await;
        let ends = run(world, &running).await;
        judge(&running, &ends);
    });
}

/// Adds a stage whose environments come and go, and ask for an approval.
async fn stages(world: &World) {
    let mut stages: Value = serde_json::from_str(&control_plane::stages()).unwrap();
    stages["dev"]["max_environments"] = Value::Null;
    stages["retains"] = json!({"account": DEV, "ephemeral": true, "teardown": {"blocked": "retain"}});
    stages["gate"] = json!({
        "account": DEV, "ephemeral": true, "approval": {"required": 1, "approvers": ["release-manager"], "by_job": true, "expires_in": "3d"}
    });
    let config = world.control_plane.emulator.sdk_config(slipway_local::TOOLING);
    let put = aws_sdk_ssm::Client::new(&config).put_parameter().name(world.control_plane.output("StagesParameterName"));
    put.value(stages.to_string()).overwrite(true).send().await.unwrap();
}

async fn run(world: &'static World, rows: &[Row]) -> Vec<End> {
    let places = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let mut tasks = tokio::task::JoinSet::new();
    for (at, row) in rows.iter().cloned().enumerate() {
        let places = Arc::clone(&places);
        tasks.spawn(async move {
            let _place = places.acquire().await.unwrap();
            let began = Instant::now();
            let (stands, problems) = play(world, &row).await;
            let end = End { stands, problems, took: began.elapsed() };
            println!("{:5.1} s  {}  ->  {end}", end.took.as_secs_f64(), row.name());
            (at, end)
        });
    }
    let mut ends: Vec<Option<End>> = vec![None; rows.len()];
    while let Some(done) = tasks.join_next().await {
        let (at, end) = done.unwrap();
        ends[at] = Some(end);
    }
    ends.into_iter().map(Option::unwrap).collect()
}

/// Compares the ends with what they must be, and with the table.
fn judge(rows: &[Row], ends: &[End]) {
    let baseline = |scenario: Scenario| {
        rows.iter().zip(ends).find(|(row, _)| row.scenario == scenario && row.fault.is_none()).unwrap().1
    };
    let mut wrong = String::new();
    let mut cells = Cells::new();
    for (row, end) in rows.iter().zip(ends) {
        let mut problems = end.problems.clone();
        if row.fault.is_some_and(Fault::is_survived) && end.stands != baseline(row.scenario).stands {
            problems.push(format!(
                "not as without the fault: {:?} instead of {:?}",
                end.stands,
                baseline(row.scenario).stands
            ));
        }
        let name = row.name();
        let known = KNOWN_DEFECTS.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, problems)| *problems);
        if problems != known {
            let _ = writeln!(wrong, "{name}: {end}: {problems:?}; known: {known:?}");
        }
        if let Some(fault) = row.fault {
            let cell = cells.entry((row.scenario.machine().as_str(), row.step, column(fault))).or_default();
            cell.push(end.to_string());
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    let page = slipway_local::workspace_root().join("docs/RELIABILITY.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once("<!-- table -->\n").unwrap();
    let (written, after) = rest.split_once("<!-- end of the table -->").unwrap();
    let table = table(&cells, written);
    if std::env::var("SLIPWAY_BLESS").is_ok() {
        let blessed = format!("{before}<!-- table -->\n{table}<!-- end of the table -->{after}");
        std::fs::write(&page, blessed).unwrap();
    } else {
        assert_eq!(written, table, "docs/RELIABILITY.md; SLIPWAY_BLESS=1 writes it anew");
    }
}

/// The ends of the rows of a cell.
type Cells = BTreeMap<(&'static str, &'static str, &'static str), Vec<String>>;

/// The table with those cells of which all rows ran, and those others that are `written` already. What ran of them must be in there.
fn table(cells: &Cells, written: &str) -> String {
    let mut text = format!("| machine | step | {} |\n|---|---|{}\n", COLUMNS.join(" | "), "---|".repeat(COLUMNS.len()));
    let rows = rows();
    for step in STEPS {
        let machine = step.machine.as_str();
        let begins = format!("| {machine} | {} |", step.name);
        let line = written.lines().find(|line| line.starts_with(&begins)).unwrap_or_default();
        let ends = COLUMNS.iter().enumerate().map(|(at, title)| {
            let known = line.split('|').nth(at + 3).unwrap_or_default().trim();
            let ran = cells.get(&(machine, step.name, *title)).cloned().unwrap_or_default();
            let is_cell = |row: &&Row| {
                row.step == step.name
                    && row.scenario.machine() == step.machine
                    && row.fault.is_some_and(|fault| column(fault) == *title)
            };
            let whole = ran.len() == rows.iter().filter(is_cell).count();
            let ends: BTreeSet<String> = ran.into_iter().collect();
            if whole {
                return ends.into_iter().collect::<Vec<_>>().join("; ");
            }
            for end in ends {
                assert!(known.split("; ").any(|one| one == end), "{begins} {title}: {known} is written, and not {end}");
            }
            known.to_owned()
        });
        let _ = writeln!(text, "{begins} {} |", ends.collect::<Vec<_>>().join(" | "));
    }
    text
}

/// Plays a row: what leads to its step, the execution with the fault, and a deployment after it.
async fn play(world: &World, row: &Row) -> (Stands, Vec<String>) {
    let mut problems = Vec::new();
    let text = format!("v{}", unique());
    if row.scenario == Scenario::NoChanges || row.scenario.machine() == Action::Teardown {
        let template = match row.scenario {
            Scenario::Emptying => "Resources:\n  Uploads: {Type: AWS::S3::Bucket}\n".to_owned(),
            Scenario::Blocked => clinging(&text),
            Scenario::Create
            | Scenario::NoChanges
            | Scenario::Approved
            | Scenario::Protected
            | Scenario::Repair
            | Scenario::Failing
            | Scenario::Teardown
            | Scenario::FailingTeardown => tiny(&text),
        };
        let before = world.deploy(&job("deploy", "feature"), &row.on, &template).await;
        assert_eq!(before.status, "SUCCEEDED", "{}: {before:?}", row.name());
    }
    if row.scenario == Scenario::Emptying {
        let stack = world.status(&row.job, &row.on).await.unwrap().stack_name;
        let found = world.cloudformation(DEV).describe_stack_resource().stack_name(stack.as_str());
        let found = found.logical_resource_id("Uploads").send().await.unwrap().stack_resource_detail.unwrap();
        let bucket = found.physical_resource_id.unwrap();
        let s3 = aws_sdk_s3::Client::new(&world.control_plane.emulator.sdk_config(DEV));
        s3.put_object().bucket(&bucket).key("one").body(b"text".to_vec().into()).send().await.unwrap();
        s3.create_multipart_upload().bucket(&bucket).key("unfinished").send().await.unwrap();
    }
    if row.scenario == Scenario::Repair {
        let before = world.deploy(&job("deploy", "feature"), &row.on, &unyielding(&text, false)).await;
        assert_eq!(before.status, "SUCCEEDED", "{}: {before:?}", row.name());
        let stuck = world.deploy(&job("deploy", "feature"), &row.on, &unyielding(&format!("{text}-after"), true)).await;
        assert!(stuck.cause.contains("UPDATE_ROLLBACK_FAILED"), "{}: {stuck:?}", row.name());
    }
    let arn = match row.scenario.machine() {
        Action::Deploy if row.scenario == Scenario::Repair => {
            world.begin_repair(&row.job, &row.on, &skipping()).await.unwrap()
        }
        Action::Repair => unreachable!("it is done by the deploy machine"),
        Action::Deploy => world.begin(&row.job, &row.on, &tiny(&text)).await,
        Action::Teardown => {
            let request = TeardownRequest { on: row.on.clone(), job: row.job.name.clone(), purge_logs: false };
            let admitted = world.ask(&world.token(&row.job), Ask::Teardown(request)).await.unwrap();
            world.start_admitted(&serde_json::from_value(admitted).unwrap(), &row.job).await
        }
    };
    if let Some(Fault::Stopped(_)) = row.fault {
        let plan = row.plans().pop().unwrap();
        approved_until_held(world, row, &plan).await;
        world.machines.stop_execution().execution_arn(&arn).send().await.unwrap();
        recorded(world, row, &arn).await;
        // The record is not the last thing that settle does.
        tokio::time::sleep(Duration::from_secs(2)).await;
        plan.let_go().await;
    }
    // Where the question itself goes wrong for good, nobody answers it.
    let answers = row.step != "Approval" || row.fault.is_some_and(Fault::is_survived);
    let execution = match ended(world, &arn, row, &row.job, answers).await {
        Ok(execution) => execution,
        Err(problem) => {
            problems.push(problem);
            String::new()
        }
    };
    if let Some(error) = row.error()
        && !failed_in(world, &arn, row.step).await.contains(error)
    {
        problems.push(format!("the step did not fail with {error}"));
    }
    let record = recorded(world, row, &arn).await;
    let stands = stands(world, row, &execution, record.as_ref()).await;
    if stands.outcome.is_empty() && (record.is_some() || row.step != "Begin") {
        problems.push("no result is recorded".into());
    }
    if row.fault.is_some_and(|fault| !fault.is_survived()) && execution == "SUCCEEDED" {
        problems.push("the execution succeeded".into());
    }
    // The event that tells of the end may bring settle once more, which holds the lease for a moment.
    if !world.lease_is_free(&row.on).await {
        problems.push("the lease is held".into());
        return (stands, problems);
    }
    let mut left = left_behind(world, row).await;
    // Where the failure tail fails itself, EventBridge's call cleans up, a moment after the lease was given up.
    for _ in 0..40 {
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
        left = left_behind(world, row).await;
    }
    problems.extend(left);
    if row.scenario == Scenario::Repair {
        let again = world.repair(&job("repair-again", "feature"), &row.on, &skipping()).await;
        if again.status != "SUCCEEDED" {
            problems.push(format!("the next repair is red: {again:?}"));
        }
    }
    if row.scenario == Scenario::Blocked {
        // What is DELETE_FAILED takes no deployment before it is torn down.
        let again = world.teardown(&job("stop-again", "feature"), &row.on).await;
        if again.status != "SUCCEEDED" {
            problems.push(format!("the next teardown is red: {again:?}"));
        }
    }
    let mut next = job("deploy", &row.job.job.ref_name);
    next.job.pipeline_id = 200_000 + unique();
    let arn = world.begin(&next, &row.on, &tiny(&format!("{text}-next"))).await;
    match ended(world, &arn, row, &next, true).await {
        Ok(status) if status == "SUCCEEDED" => {}
        Ok(other) | Err(other) => problems.push(format!("the next deployment is red: {other}")),
    }
    (stands, problems)
}

/// Waits until the step is about to make its call, and lets the right person approve what is asked on the way there.
async fn approved_until_held(world: &World, row: &Row, plan: &Plan) {
    let asks = row.scenario == Scenario::Approved && row.step != "Approval";
    let approving = async {
        loop {
            if asks {
                approve(world, row, &row.job).await;
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    };
    tokio::select! {
        () = plan.is_held() => {}
        () = approving => {}
    }
}

/// Approves what is asked, if something is.
async fn approve(world: &World, row: &Row, by: &NewsJob) {
    let status = world.status(by, &row.on).await.ok();
    let link = status.and_then(|status| status.deployment).and_then(|deployment| deployment.approval_url);
    if let Some(link) = link {
        world.decide(&link, "approve", &by.clone().played_by(8, "release-manager")).await;
    }
}

/// Waits for the execution's end, and lets the right person approve what is asked.
async fn ended(world: &World, arn: &str, row: &Row, by: &NewsJob, answers: bool) -> Result<String, String> {
    let began = Instant::now();
    loop {
        let found = world.machines.describe_execution().execution_arn(arn).send().await.unwrap();
        if *found.status() != ExecutionStatus::Running {
            let error = found.error().map(|error| format!(" {error}")).unwrap_or_default();
            return Ok(format!("{}{error}", found.status().as_str()));
        }
        if began.elapsed() > PATIENCE {
            world.machines.stop_execution().execution_arn(arn).send().await.unwrap();
            return Err("it runs on and on".into());
        }
        if row.scenario == Scenario::Approved && answers {
            approve(world, row, by).await;
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

/// The errors with which the step failed, by the execution's history.
async fn failed_in(world: &World, arn: &str, step: &str) -> BTreeSet<String> {
    let request = world.machines.get_execution_history().execution_arn(arn).max_results(1000);
    let history = request.send().await.unwrap();
    let mut current = String::new();
    let mut errors = BTreeSet::new();
    for event in history.events() {
        if let Some(entered) = event.state_entered_event_details() {
            entered.name().clone_into(&mut current);
        }
        let failed = event.task_failed_event_details().and_then(|failed| failed.error());
        if let Some(error) = failed.filter(|_| current == step) {
            errors.insert(error.to_owned());
        }
    }
    errors
}

fn partition(on: &On) -> String {
    format!("ENV#101#{}#{}#{}", on.application, on.stage, on.environment)
}

/// The rows of the environment's deployments.
async fn deployments(world: &World, on: &On) -> Vec<Value> {
    let query = world.dynamodb.query().table_name(world.control_plane.output("TableName")).consistent_read(true);
    let query = query.key_condition_expression("pk = :pk AND begins_with(sk, :sk)");
    let query = query.expression_attribute_values(":pk", AttributeValue::S(partition(on)));
    let answer = query.expression_attribute_values(":sk", AttributeValue::S("DEPLOY#".into())).send().await.unwrap();
    answer.items().iter().map(|item| slipway_tests::plain(&item["row"])).collect()
}

/// The execution's row once its result is in it and its lease is given up, if that happens within half a minute.
async fn recorded(world: &World, row: &Row, arn: &str) -> Option<Value> {
    let began = Instant::now();
    loop {
        let rows = deployments(world, &row.on).await;
        let found = rows.into_iter().find(|found| found["deployment"]["execution_arn"] == arn);
        let lease = world.row(&row.on, "LEASE").await;
        let free = lease.is_none_or(|lease| lease["owner"].is_null());
        if free && found.as_ref().is_none_or(|found| !found["outcome"].is_null()) || began.elapsed().as_secs() > 30 {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

async fn stands(world: &World, row: &Row, execution: &str, record: Option<&Value>) -> Stands {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let outcome = record.map(|record| &record["outcome"]).filter(|outcome| !outcome.is_null());
    let outcome = outcome.map(|outcome| match outcome["error"].as_str() {
        Some(error) => error.to_owned(),
        None => text(&outcome["ending"]),
    });
    let environment = world.row(&row.on, "META").await.unwrap_or_default();
    let cloudformation = world.cloudformation(row.scenario.stage().1);
    let name = text(&environment["stack_name"]);
    let described = cloudformation.describe_stacks().stack_name(&name).send().await.ok();
    let stack = described.and_then(|found| found.stacks.unwrap_or_default().into_iter().next());
    let status = stack.as_ref().and_then(|stack| stack.stack_status()).map(|status| status.as_str().to_owned());
    // A stack that is gone answers by its id only.
    let id = record.and_then(|record| record["operation"]["stack_id"].as_str()).unwrap_or(&name);
    let events = cloudformation.describe_stack_events().stack_name(id).send().await.ok();
    let events = events.and_then(|events| events.stack_events).unwrap_or_default();
    let own = events.iter().filter(|event| event.resource_type() == Some("AWS::CloudFormation::Stack"));
    let mut operations: Vec<String> =
        own.filter_map(|event| event.resource_status()).map(|status| status.as_str().to_owned()).collect();
    operations.reverse();
    let questions = match record {
        Some(record) => questions(world, &text(&record["deployment"]["id"])).await,
        None => 0,
    };
    Stands {
        execution: execution.to_owned(),
        outcome: outcome.unwrap_or_default(),
        environment: text(&environment["state"]),
        url: !environment["url"].is_null(),
        stack: status.unwrap_or_default(),
        operations,
        deployments: deployments(world, &row.on).await.len(),
        questions,
    }
}

/// How many questions a deployment asked.
async fn questions(world: &World, deployment: &str) -> usize {
    let mut count = 0;
    let mut from = None;
    loop {
        let scan = world.dynamodb.scan().table_name(world.control_plane.output("TableName")).consistent_read(true);
        let scan = scan.filter_expression("sk = :sk").set_exclusive_start_key(from);
        let page = scan.expression_attribute_values(":sk", AttributeValue::S("APPROVAL".into())).send().await.unwrap();
        let rows = page.items().iter().map(|item| slipway_tests::plain(&item["row"]));
        count += rows.filter(|row| row["deployment"]["id"] == deployment).count();
        from = page.last_evaluated_key;
        if from.is_none() {
            return count;
        }
    }
}

/// What a deployment must not leave behind.
async fn left_behind(world: &World, row: &Row) -> Vec<String> {
    let On { application, stage, environment } = row.on.clone();
    let key = EnvironmentKey { project: ProjectId(101), application, stage, environment };
    let (name, cloudformation) = (key.stack_name().to_string(), world.cloudformation(row.scenario.stage().1));
    let sets = cloudformation.list_change_sets().stack_name(&name).send().await.ok();
    let sets = sets.and_then(|sets| sets.summaries).unwrap_or_default();
    let waiting = sets.iter().filter(|set| {
        set.execution_status().is_some_and(|status| status.as_str() == "AVAILABLE" || status.as_str() == "UNAVAILABLE")
    });
    let mut left = Vec::new();
    if waiting.count() > 0 {
        left.push("a change set is left behind".to_owned());
    }
    let described = cloudformation.describe_stacks().stack_name(&name).send().await.ok();
    let stacks = described.and_then(|found| found.stacks).unwrap_or_default();
    if stacks.iter().any(|stack| stack.stack_status().is_some_and(|status| status.as_str() == "REVIEW_IN_PROGRESS")) {
        left.push("an empty stack is left behind".to_owned());
    }
    left
}
