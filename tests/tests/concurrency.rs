//! Many executions at once, over the real machines on the embedded AWS: one writer at any time, the newest release live, nothing
//! stuck. Who had the lease, and who touched the stack when, is read from a stream of every write to the table.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test may")]

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use slipway_domain::deployment::Launch;
use slipway_domain::names::{EnvironmentKey, ProjectId};
use slipway_domain::protocol::On;
use slipway_local::job::NewsJob;
use slipway_local::{DEV, REGION, TOOLING};
use slipway_tests::{Ended, World, bundle, in_world, job, launch, on, tiny, unique};

/// One crowd at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Calls DynamoDB Streams, for which no client is built here. The embedded AWS takes the account from the signature's scope, and
/// of an account's root it does not check the signature.
async fn streams(world: &World, call: &str, input: &Value) -> Value {
    let scope = format!("{TOOLING}/20260101/{REGION}/dynamodb/aws4_request");
    let request = reqwest::Client::new().post(world.control_plane.emulator.endpoint());
    let request = request.header("x-amz-target", format!("DynamoDBStreams_20120810.{call}"));
    let request = request
        .header("authorization", format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"));
    let answer = request.header("content-type", "application/x-amz-json-1.0").body(input.to_string()).send();
    let text = answer.await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{call}: {error}: {text}"))
}

/// Lets every write to the table be told from now on: the stream's ARN.
async fn watch(world: &World) -> String {
    use aws_sdk_dynamodb::types::{StreamSpecification, StreamViewType};
    let table = world.control_plane.output("TableName");
    let found = world.dynamodb.describe_table().table_name(table).send().await.unwrap().table.unwrap();
    if let Some(stream) = found.latest_stream_arn {
        return stream;
    }
    let stream = StreamSpecification::builder().stream_enabled(true).stream_view_type(StreamViewType::NewImage);
    let update = world.dynamodb.update_table().table_name(table).stream_specification(stream.build().unwrap());
    update.send().await.unwrap().table_description.unwrap().latest_stream_arn.unwrap()
}

/// Every write to the environment's rows, in order: the sort key, and the row.
async fn written(world: &World, stream: &str, on: &On) -> Vec<(String, Value)> {
    let described = streams(world, "DescribeStream", &json!({"StreamArn": stream})).await;
    let shards = described["StreamDescription"]["Shards"].as_array().unwrap();
    assert_eq!(shards.len(), 1, "one shard is one order");
    let from = json!({"StreamArn": stream, "ShardId": shards[0]["ShardId"], "ShardIteratorType": "TRIM_HORIZON"});
    let mut iterator = streams(world, "GetShardIterator", &from).await["ShardIterator"].clone();
    let partition = format!("ENV#101#{}#{}#{}", on.application, on.stage, on.environment);
    let mut writes = Vec::new();
    while !iterator.is_null() {
        let page = streams(world, "GetRecords", &json!({"ShardIterator": iterator})).await;
        let records = page["Records"].as_array().unwrap();
        for image in records.iter().map(|record| &record["dynamodb"]["NewImage"]) {
            if image["pk"]["S"] == partition.as_str() {
                writes.push((image["sk"]["S"].as_str().unwrap().to_owned(), typed(&image["row"])));
            }
        }
        iterator = if records.is_empty() { Value::Null } else { page["NextShardIterator"].clone() };
    }
    writes
}

/// The JSON that DynamoDB's typed JSON stands for.
fn typed(value: &Value) -> Value {
    let (kind, value) = value.as_object().and_then(|typed| typed.iter().next()).unwrap();
    match kind.as_str() {
        "M" => value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), typed(value))).collect(),
        "L" => value.as_array().unwrap().iter().map(typed).collect(),
        "N" => serde_json::from_str(value.as_str().unwrap()).unwrap(),
        "NULL" => Value::Null,
        _ => value.clone(),
    }
}

/// Starts one execution for each job, all at once, in a shuffled order; and waits for all their ends, which are in the order of
/// the jobs.
async fn all_at_once(world: &'static World, jobs: Vec<(NewsJob, On, Launch, Vec<u8>)>) -> Vec<Ended> {
    let mut admitted = Vec::new();
    for (job, on, launch, zip) in jobs {
        let admission = world.admit(&job, &on, launch, zip.len()).await.unwrap();
        world.upload(&admission, zip).await;
        admitted.push((job, admission));
    }
    let count = admitted.len();
    let mut starting = tokio::task::JoinSet::new();
    let mut waiting: Vec<Option<_>> = admitted.into_iter().map(Some).collect();
    // A shuffled order, in which each comes up once, since 7 has no divisor in common with the counts here.
    for at in (0..count).map(|turn| turn * 7 % count) {
        let (job, admission) = waiting[at].take().unwrap();
        starting.spawn(async move {
            let arn = world.start_admitted(&admission, &job).await;
            (at, world.end(&arn).await)
        });
    }
    let mut ends: Vec<Option<Ended>> = vec![None; count];
    while let Some(done) = starting.join_next().await {
        let (at, ended) = done.unwrap();
        ends[at] = Some(ended);
    }
    ends.into_iter().map(Option::unwrap).collect()
}

fn stack_name(on: &On) -> String {
    let On { application, stage, environment } = on.clone();
    EnvironmentKey { project: ProjectId(101), application, stage, environment }.stack_name().to_string()
}

/// Nothing is stuck, and nothing lies about.
async fn is_tidy(world: &World, on: &On) {
    assert!(world.lease_is_free(on).await, "{on:?}: the lease is held");
    assert!(world.row(on, "META").await.unwrap()["waiting"].is_null(), "{on:?}");
    let client = world.cloudformation(DEV);
    let sets = client.list_change_sets().stack_name(stack_name(on)).send().await.unwrap();
    let left = sets.summaries().iter().filter(|set| set.execution_status().is_some_and(|s| s.as_str() == "AVAILABLE"));
    assert_eq!(left.count(), 0, "{on:?}: {:?}", sets.summaries());
    let stacks = client.describe_stacks().stack_name(stack_name(on)).send().await.unwrap();
    let status = stacks.stacks()[0].stack_status().unwrap().as_str().to_owned();
    assert!(["CREATE_COMPLETE", "UPDATE_COMPLETE"].contains(&status.as_str()), "{on:?}: {status}");
}

#[test]
fn twenty_on_one_environment_have_one_writer_at_a_time() {
    const PIPELINES: usize = 15;
    /// The newest pipeline has some more jobs, of which none gives way to the others.
    const COUNT: usize = 20;
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    in_world(|world| async move {
        world.control_plane.emulator.set_wait_scale(0.2).await.unwrap();
        let stream = watch(world).await;
        let on = on("dev", &format!("review/crowd-{}", unique()));
        let mut pipelines: Vec<u64> = (0..PIPELINES).map(|_| unique()).collect();
        let newest = *pipelines.last().unwrap();
        pipelines.resize(COUNT, newest);
        let mut jobs = Vec::new();
        for (at, pipeline) in pipelines.iter().enumerate() {
            let job = NewsJob::new(&format!("deploy-{at}"), "feature", *pipeline);
            let (digest, zip) = bundle(&tiny(&format!("crowd-{pipeline}-{at}")));
            jobs.push((job, on.clone(), launch(&digest), zip));
        }
        let ends = all_at_once(world, jobs).await;

        // Those of the newest are green; each other was green before them, or gave way.
        for (ended, pipeline) in ends.iter().zip(&pipelines) {
            let gave_way = *pipeline != newest && ended.error == "Superseded";
            assert!(ended.status == "SUCCEEDED" || gave_way, "pipeline {pipeline} of {newest}: {ended:?}");
        }
        let environment = world.row(&on, "META").await.unwrap();
        assert_eq!((&environment["pipeline_id"], &environment["state"]), (&json!(newest), &json!("live")));
        is_tidy(world, &on).await;

        let writes = written(world, &stream, &on).await;
        let (mut owner, mut fence) = (Value::Null, 0);
        let mut owners = Vec::new();
        let mut executed = Vec::new();
        let mut marked = BTreeSet::new();
        for (sort, row) in &writes {
            if sort == "LEASE" {
                let now = row["fence"].as_u64().unwrap();
                if row["owner"] != owner && !row["owner"].is_null() {
                    assert!(owner.is_null(), "{} took the lease from {owner}", row["owner"]);
                    assert_eq!(now, fence + 1, "each owner has a fence of its own");
                    owners.push(row["owner"].clone());
                } else {
                    assert_eq!(now, fence, "the fence grows with the owner only");
                }
                (owner, fence) = (row["owner"].clone(), now);
            } else if sort.starts_with("DEPLOY#") && !row["operation"].is_null() {
                let id = row["deployment"]["id"].clone();
                if marked.insert(id.to_string()) {
                    assert_eq!(owner, id, "only the owner touches the stack");
                    let deployment = &row["deployment"];
                    let pipeline = deployment["requester"]["pipeline_id"].as_u64().unwrap();
                    executed.push((pipeline, fence, deployment["launch"]["bundle"].clone()));
                }
            }
        }
        assert!(owner.is_null(), "{owner}");
        assert!(owners.len() > COUNT - PIPELINES, "the stream is read at all: {} writes", writes.len());
        let order = |(a, f, _): &(u64, u64, _), (b, g, _): &(u64, u64, _)| a <= b && f < g;
        assert!(executed.is_sorted_by(order), "newer ones only follow: {executed:?}");
        let (_, _, last) = executed.last().unwrap();
        assert_eq!(environment["release"], *last, "what was executed last is live");
        let template = world.cloudformation(DEV).get_template().stack_name(stack_name(&on)).send().await.unwrap();
        let body = template.template_body.unwrap();
        assert!(body.contains(&format!("crowd-{newest}-")), "{body}");
        let green = ends.iter().filter(|ended| ended.status == "SUCCEEDED").count();
        assert_eq!(executed.len(), green, "who touched the stack is green");
        println!("{green} of {COUNT} went live, one after another; {} had the lease", owners.len());
    });
}

#[test]
fn thirty_environments_at_once_are_all_green() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    in_world(|world| async move {
        world.control_plane.emulator.set_wait_scale(0.2).await.unwrap();
        let crowd = unique();
        let mut jobs = Vec::new();
        for at in 0..30 {
            let (digest, zip) = bundle(&tiny(&format!("wide-{crowd}-{at}")));
            jobs.push((
                job("deploy-dev", "feature"),
                on("dev", &format!("review/wide-{crowd}-{at}")),
                launch(&digest),
                zip,
            ));
        }
        let places: Vec<On> = jobs.iter().map(|(_, on, ..)| on.clone()).collect();
        for (ended, on) in all_at_once(world, jobs).await.into_iter().zip(&places) {
            assert_eq!(ended.status, "SUCCEEDED", "{on:?}: {ended:?}");
            is_tidy(world, on).await;
        }
    });
}
