//! Many environments at once: how much of the table the functions `sweep` and `reader` read of it, and how large they get. What they
//! say to DynamoDB goes through a meter, and so does what they start, which is counted and not run.

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use aws_sdk_dynamodb::types::{PutRequest, WriteRequest};
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use slipway_aws::store::Store;
use slipway_domain::admission::Admission;
use slipway_domain::claims::RefType;
use slipway_domain::deployment::{Action, Deployment, DeploymentId, Target};
use slipway_domain::environment::{self, Environment, EnvironmentState};
use slipway_domain::expiry::{Lead, Pin};
use slipway_domain::names::{
    AccountId, ApplicationName, Digest, EnvironmentKey, EnvironmentName, ProjectId, Region, StageName,
};
use slipway_domain::protocol::{EnvironmentsPage, EnvironmentsRequest, Question, ReaderRequest};
use slipway_domain::stages::Span;
use slipway_domain::sweep::Swept;
use slipway_local::{DEV, REGION, STAGING, TOOLING};

use crate::World;

mod meter;

pub use meter::{Calls, Metered};
use meter::{Meter, Start};

/// One of so many environments is expired.
pub const EXPIRED: usize = 20;
/// How many items one request writes: the most that DynamoDB takes
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html>).
const BATCH: usize = 25;
/// How many such requests are under way at the same time.
const AT_ONCE: usize = 4;

/// A control plane with many environments.
pub struct Scale {
    /// The control plane.
    pub world: World,
    /// The environments that are expired.
    pub expired: BTreeSet<EnvironmentKey>,
    meter: Meter,
    store: Store,
    /// The names of the functions, by their logical ids.
    functions: [(&'static str, String); 2],
}

/// What came of asking a function something.
#[derive(Debug, Serialize)]
pub struct Asked<T> {
    /// What it answered.
    pub answer: T,
    /// How many bytes of JSON that were.
    pub answer_bytes: usize,
    /// What it said to AWS meanwhile.
    pub metered: Metered,
    /// From the request to the answer, in seconds.
    pub seconds: f64,
    /// The largest resident set that its process ever had, in KiB.
    pub peak_kib: u64,
}

impl Scale {
    /// Starts one with so many environments, of which each [`EXPIRED`]th is expired.
    pub async fn start(environments: usize) -> Self {
        let world = World::start(Some(0.0)).await;
        let emulator = &world.control_plane.emulator;
        let store = Store::new(&emulator.sdk_config(TOOLING), world.control_plane.output("TableName"));
        let meter = Meter::start(emulator.port()).await;
        let [sweep, reader] = ["SweepFunction", "ReaderFunction"];
        let functions = [(sweep, world.physical_id(sweep).await), (reader, world.physical_id(reader).await)];
        for (function, _) in &functions {
            world.set_variable(function, "AWS_ENDPOINT_URL_DYNAMODB", &meter.url).await;
        }
        world.set_variable("SweepFunction", "AWS_ENDPOINT_URL_SFN", &meter.url).await;
        // Each branch is asked about at another's leisure: docs/ENVIRONMENTS.md says how many at a time.
        world.set_variable("SweepFunction", "SLIPWAY_GITLAB_TOKEN", "").await;
        let mut scale = Self { world, expired: BTreeSet::new(), meter, store, functions };
        scale.fill(environments).await;
        scale
    }

    #[expect(clippy::disallowed_methods, reason = "time enters here: the functions compare with their own clock")]
    async fn fill(&mut self, environments: usize) {
        let now = Timestamp::now();
        let table = self.world.control_plane.output("TableName");
        let all: Vec<Environment> = (0..environments).map(|number| some_environment(number, now)).collect();
        self.expired = all.iter().filter(|one| one.is_expired(now)).map(|one| one.key.clone()).collect();
        let batches = futures::stream::iter(all.chunks(BATCH)).map(|batch| {
            let write = |environment| {
                let item = self.store.environment_item(environment).unwrap();
                let put = PutRequest::builder().set_item(Some(item)).build().unwrap();
                WriteRequest::builder().put_request(put).build()
            };
            let writes = batch.iter().map(write).collect();
            self.world.dynamodb.batch_write_item().request_items(table, writes).send()
        });
        let mut written = batches.buffer_unordered(AT_ONCE);
        while let Some(answer) = written.next().await {
            assert!(answer.unwrap().unprocessed_items.unwrap_or_default().is_empty());
        }
    }

    /// Sets how many expired environments, and which share of all, `sweep` tears down without a person's word.
    pub async fn limit(&self, most: usize, percent: u32) {
        self.world.set_variable("SweepFunction", "SLIPWAY_SWEEP_MOST", &most.to_string()).await;
        self.world.set_variable("SweepFunction", "SLIPWAY_SWEEP_PERCENT", &percent.to_string()).await;
    }

    /// Lets Step Functions start no more than so many executions from now on, and any number with nothing.
    pub fn start_at_most(&self, starts: Option<usize>) {
        self.meter.start_at_most(starts);
    }

    /// Lets `sweep` forget what it remembers, its count of the environments included.
    pub async fn forget(&self) {
        self.world.put_sweep_state(&json!({})).await;
    }

    /// Asks `sweep`, in a process of its own.
    pub async fn sweep(&self, ask: Value) -> Asked<Swept> {
        self.world.renew("SweepFunction").await;
        self.ask("SweepFunction", &ask).await
    }

    /// Asks `reader` for a page of all environments.
    pub async fn list(&self, page: Option<&EnvironmentsPage>) -> Asked<EnvironmentsPage> {
        let page = page.and_then(|page| page.next.clone());
        let look = Question::Environments(EnvironmentsRequest { page, ..EnvironmentsRequest::default() });
        self.ask("ReaderFunction", &serde_json::to_value(ReaderRequest { project: None, look }).unwrap()).await
    }

    async fn ask<T: serde::de::DeserializeOwned>(&self, function: &str, ask: &Value) -> Asked<T> {
        self.meter.take();
        let began = Instant::now();
        let answer = self.world.invoke(self.world.control_plane.output(function), ask).await.unwrap();
        let seconds = began.elapsed().as_secs_f64();
        Asked {
            answer_bytes: answer.to_string().len(),
            answer: serde_json::from_value(answer).unwrap(),
            metered: self.meter.take(),
            seconds,
            peak_kib: self.peak(function),
        }
    }

    /// The largest resident set that the process of a function ever had, in KiB: of all processes, it is the one that knows the meter.
    fn peak(&self, function: &str) -> u64 {
        let function = self.functions.iter().find_map(|(id, name)| (*id == function).then_some(name)).unwrap();
        let wanted =
            [format!("AWS_ENDPOINT_URL_DYNAMODB={}", self.meter.url), format!("AWS_LAMBDA_FUNCTION_NAME={function}")];
        let is_ours = |process: &fs::DirEntry| {
            let known = fs::read(process.path().join("environ")).unwrap_or_default();
            let known: Vec<&[u8]> = known.split(|byte| *byte == 0).collect();
            wanted.iter().all(|variable| known.contains(&variable.as_bytes()))
        };
        let processes: Vec<fs::DirEntry> = fs::read_dir("/proc").unwrap().flatten().filter(is_ours).collect();
        let [process] = processes.as_slice() else { panic!("{} processes of {function}", processes.len()) };
        let status = fs::read_to_string(process.path().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// What was started, by environment. No execution runs: with `begin`, what each of them does first is written, that it has begun.
    #[expect(clippy::disallowed_methods, reason = "an execution begins now")]
    pub async fn started(&self, metered: &Metered, begin: bool) -> Vec<EnvironmentKey> {
        let mut started = Vec::new();
        for Start { arn, admission } in &metered.started {
            let admission = self.store.admission(admission).await.unwrap().unwrap();
            assert!(arn.ends_with(&admission.execution_name(1)), "{arn} is not admitted");
            started.push(admission.environment.clone());
            if begin {
                let key = admission.environment.clone();
                let deployment = deployment(admission, arn, Timestamp::now());
                let begun = |current: Option<&Environment>| environment::begin(current, &deployment);
                self.store.update_environment(&key, begun).await.unwrap();
            }
        }
        started
    }
}

/// The teardown that `begin` makes of the admission that an execution began with.
fn deployment(admission: Admission, arn: &str, now: Timestamp) -> Deployment {
    Deployment {
        id: DeploymentId::from_execution(now, arn),
        action: Action::Teardown,
        stack_name: admission.environment.stack_name(),
        environment: admission.environment,
        target: target(false),
        launch: None,
        repair: None,
        back: None,
        approval: None,
        timeout: Span::days(1),
        stack_rules: Default::default(),
        teardown: Default::default(),
        purge_logs: false,
        requester: None,
        execution_arn: arn.to_owned(),
        admission: admission.id,
        started_at: now,
    }
}

fn target(protected: bool) -> Target {
    let account = if protected { STAGING } else { DEV };
    Target { account: AccountId::new(account).unwrap(), region: Region::new(REGION).unwrap(), protected }
}

/// Environment number `number`, as a deployment left it: of 40 projects with three applications each, in three stages of which one is
/// protected, each with releases of its own. One in [`EXPIRED`] is expired; of the others some are pinned beyond their end, some
/// never expire, and most live for some more days.
fn some_environment(number: usize, now: Timestamp) -> Environment {
    let n = i64::try_from(number).unwrap();
    let expired = number.is_multiple_of(EXPIRED);
    let protected = !expired && number.is_multiple_of(9);
    let pinned = !expired && !protected && number.is_multiple_of(7);
    let stage = if protected { "staging" } else { ["dev", "preview"][number / 2 % 2] };
    let branch = format!("feature/{number}-a-branch-of-somebody");
    let key = EnvironmentKey {
        project: ProjectId(u64::try_from(1000 + n / EXPIRED as i64 % 40).unwrap()),
        application: ApplicationName::new(["news", "shop", "mail"][number / 3 % 3]).unwrap(),
        stage: StageName::new(stage).unwrap(),
        environment: EnvironmentName::new(format!("review/{number}-a-branch-of-somebody")).unwrap(),
    };
    let deployed = now - SignedDuration::from_hours(24 * 8) + SignedDuration::from_secs(n % 86_400);
    let [live, previous] =
        ["live", "previous"].map(|what| DeploymentId::from_execution(deployed, &format!("{what} {key}")));
    let [release, before] = ["release", "before"].map(|what| Digest::of_parts(&[what, &key.to_string()]));
    let past = now - SignedDuration::from_secs(60 + n % 86_400);
    let future = now + SignedDuration::from_hours(48 + n % 480);
    let pin = Pin { until: future, reason: "shown at the fair".into(), by: "dana".into(), at: deployed };
    Environment {
        state: EnvironmentState::Live,
        pipeline_id: 5_000_000 + u64::try_from(n).unwrap(),
        deployment: Some(live.clone()),
        ended: Some(deployed),
        live: Some(live),
        previous: Some(previous),
        release: Some(release.clone()),
        live_release: Some(release),
        previous_release: Some(before),
        commit: Some(Digest::of(branch.as_bytes()).to_string().chars().take(40).collect()),
        ref_name: Some(branch),
        ref_type: Some(RefType::Branch),
        deployed_by: Some("dana".into()),
        deployed_at: Some(deployed),
        url: Some(format!("https://{}.example.com", key.dns_label())),
        outputs: [("Url", "https://example.com"), ("Table", "arn:aws:dynamodb:eu-central-1:111111111111:table/news")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        expires_at: if protected {
            None
        } else if expired || pinned {
            Some(past)
        } else {
            Some(future)
        },
        pin: pinned.then_some(pin),
        next_warning: (!expired && !protected).then_some(Lead::Day),
        last_seconds: Some(97),
        ..Environment::new(key.clone(), key.stack_name(), target(protected))
    }
}
