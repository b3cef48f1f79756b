//! What there is, as jobs and people see it, over the real functions on the embedded AWS.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test may, and its time is now"
)]

use std::collections::BTreeSet;
use std::convert::Infallible;

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use slipway_aws::store::Store;
use slipway_domain::deployment::{Ending, Target};
use slipway_domain::environment::{Environment, EnvironmentState};
use slipway_domain::expiry::Pin;
use slipway_domain::names::{
    AccountId, ApplicationName, EnvironmentKey, EnvironmentName, ProjectId, Region, StackName, StageName,
};
use slipway_domain::protocol::{
    Ask, EnvironmentsPage, EnvironmentsRequest, HistoryPage, HistoryRequest, On, Question, ReaderRequest, Status,
    WhyRequest,
};
use slipway_domain::registry::{Past, Waits, Why};
use slipway_domain::stages::Span;
use slipway_local::job::{self as jobs, NewsJob};
use slipway_local::{DEV, REGION, TOOLING, control_plane};
use slipway_tests::{Refused, World, failing, in_world, job, launch, on, tiny, unique};

fn store(world: &World) -> Store {
    let config = world.control_plane.emulator.sdk_config(TOOLING);
    Store::new(&config, world.control_plane.output("TableName"))
}

fn key(project: u64, stage: &str, application: &str, environment: &str) -> EnvironmentKey {
    EnvironmentKey {
        project: ProjectId(project),
        application: ApplicationName::new(application).unwrap(),
        stage: StageName::new(stage).unwrap(),
        environment: EnvironmentName::new(environment).unwrap(),
    }
}

/// Writes an environment's row as Slipway's functions do; `change` makes of a live one whatever is wanted.
async fn put(world: &World, key: EnvironmentKey, change: impl Fn(&mut Environment)) {
    let target =
        Target { account: AccountId::new(DEV).unwrap(), region: Region::new(REGION).unwrap(), protected: false };
    let store = store(world);
    let written = store.update_environment(&key, |known| {
        let new = || Environment::new(key.clone(), key.stack_name(), target.clone());
        let mut environment = known.cloned().unwrap_or_else(new);
        environment.state = EnvironmentState::Live;
        change(&mut environment);
        Ok::<_, Infallible>(environment)
    });
    written.await.unwrap();
}

async fn look<T: serde::de::DeserializeOwned>(world: &World, job: &NewsJob, question: Question) -> Result<T, Refused> {
    let mut answer = world.ask(&world.token(job), Ask::Look(question)).await?;
    of_a_newer_version(&mut answer);
    Ok(serde_json::from_value(answer).unwrap())
}

/// Adds to an answer what this version knows nothing of; not to what names an environment or one of several cases, or is a map of somebody's own names.
fn of_a_newer_version(answer: &mut Value) {
    match answer {
        Value::Object(fields) => {
            let own = |(name, _): &(&String, &mut Value)| !["environment", "outputs", "waits"].contains(&name.as_str());
            fields.iter_mut().filter(own).for_each(|(_, value)| of_a_newer_version(value));
            fields.insert("of_a_newer_version".into(), json!({"what": "it knows"}));
        }
        Value::Array(values) => values.iter_mut().for_each(of_a_newer_version),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Asks for all pages: what they hold, and how many there were.
async fn list(world: &World, job: &NewsJob, mut request: EnvironmentsRequest) -> (EnvironmentsPage, usize) {
    let mut pages = 0;
    let mut all = EnvironmentsPage { environments: vec![], unreadable: vec![], next: None, version: None };
    loop {
        let page: EnvironmentsPage = look(world, job, Question::Environments(request.clone())).await.unwrap();
        pages += 1;
        all.environments.extend(page.environments);
        all.unreadable.extend(page.unreadable);
        request.page = page.next;
        if request.page.is_none() {
            return (all, pages);
        }
    }
}

fn of(application: &str) -> EnvironmentsRequest {
    EnvironmentsRequest {
        application: Some(ApplicationName::new(application).unwrap()),
        ..EnvironmentsRequest::default()
    }
}

fn names(page: &EnvironmentsPage) -> Vec<String> {
    page.environments.iter().map(|listed| listed.environment.environment.to_string()).collect()
}

/// A credential of `role`, a role of the control plane's account.
async fn assume(world: &World, role: &str) -> Credentials {
    let sts = aws_sdk_sts::Client::new(&world.control_plane.emulator.sdk_config(TOOLING));
    let given = sts.assume_role().role_arn(role).role_session_name("test").send().await.unwrap().credentials.unwrap();
    Credentials::new(given.access_key_id(), given.secret_access_key(), Some(given.session_token().into()), None, "test")
}

/// Asks `reader` as whoever may assume the ReaderRole.
async fn read(world: &World, project: Option<u64>, look: Question) -> Value {
    let credentials = assume(world, world.control_plane.output("ReaderRole")).await;
    let lambda = aws_sdk_lambda::Client::new(&world.control_plane.emulator.sdk_config_of(credentials));
    let request = serde_json::to_vec(&ReaderRequest { project: project.map(ProjectId), look }).unwrap();
    let invoke = lambda.invoke().function_name(world.control_plane.output("ReaderFunction"));
    let answer = invoke.payload(aws_sdk_lambda::primitives::Blob::new(request)).send().await.unwrap();
    serde_json::from_slice(answer.payload().unwrap().as_ref()).unwrap()
}

#[test]
fn a_job_lists_its_own_project_page_by_page() {
    in_world(|world| async move {
        let application = format!("paged-{}", unique());
        for n in 0..230 {
            put(world, key(101, "dev", &application, &format!("review/{n:03}")), |_| {}).await;
        }
        put(world, key(102, "dev", &application, "others"), |_| {}).await;
        // 101 and 105 share a partition of the index.
        put(world, key(105, "dev", &application, "neighbours"), |_| {}).await;
        let (all, pages) = list(world, &job("look", "feature"), of(&application)).await;
        let expected: Vec<_> = (0..230).map(|n| format!("review/{n:03}")).collect();
        assert_eq!(names(&all), expected);
        assert!(pages > 2, "{pages}");
        let others =
            EnvironmentsRequest { page: Some("LISTED#1:105#dev#news#x".to_owned().try_into().unwrap()), ..of("news") };
        let refused = look::<Value>(world, &job("look", "feature"), Question::Environments(others)).await.unwrap_err();
        assert_eq!(refused.name, "InvalidRequest", "{}", refused.message);
    });
}

#[test]
fn a_list_has_what_was_asked_for() {
    in_world(|world| async move {
        let application = format!("filtered-{}", unique());
        let now = Timestamp::now();
        let hours = |hours| now + SignedDuration::from_hours(hours);
        put(world, key(101, "dev", &application, "soon"), |it| it.expires_at = Some(hours(5))).await;
        put(world, key(101, "dev", &application, "later"), |it| it.expires_at = Some(hours(50))).await;
        put(world, key(101, "dev", &application, "kept"), |it| {
            it.expires_at = Some(hours(5));
            it.pin = Some(Pin { until: hours(60), reason: "a demo".into(), by: "eve".into(), at: now });
        })
        .await;
        put(world, key(101, "staging", &application, "staging"), |it| it.state = EnvironmentState::Failed).await;
        put(world, key(101, "dev", &application, "gone"), |it| it.state = EnvironmentState::TornDown).await;
        let job = job("look", "feature");
        let ask = async |request: EnvironmentsRequest| names(&list(world, &job, request).await.0);
        assert_eq!(ask(of(&application)).await, ["kept", "later", "soon", "staging"]);
        let kept = list(world, &job, of(&application)).await.0.environments.remove(0);
        assert_eq!((kept.pin.unwrap().by.as_str(), kept.expires_at), ("eve", Some(hours(60))), "a pin counts");
        let staging = EnvironmentsRequest { stage: Some(StageName::new("staging").unwrap()), ..of(&application) };
        assert_eq!(ask(staging).await, ["staging"]);
        let failed = EnvironmentsRequest { state: Some(EnvironmentState::Failed), ..of(&application) };
        assert_eq!(ask(failed).await, ["staging"]);
        let expiring = EnvironmentsRequest { expiring: Some(Span::parse("24h").unwrap()), ..of(&application) };
        assert_eq!(ask(expiring).await, ["soon"], "what is pinned does not expire");
        let all = EnvironmentsRequest { gone: true, ..of(&application) };
        assert_eq!(ask(all).await, ["kept", "later", "soon", "staging", "gone"]);
        let gone = EnvironmentsRequest { state: Some(EnvironmentState::TornDown), ..of(&application) };
        assert_eq!(ask(gone).await, ["gone"]);
    });
}

#[test]
fn a_row_that_cannot_be_read_is_named_and_hides_nothing() {
    in_world(|world| async move {
        let application = format!("broken-{}", unique());
        put(world, key(101, "dev", &application, "a"), |_| {}).await;
        put(world, key(101, "dev", &application, "c"), |_| {}).await;
        let text = |text: String| AttributeValue::S(text);
        let request = world.dynamodb.put_item().table_name(world.control_plane.output("TableName"));
        let request = request.item("pk", text(format!("ENV#101#{application}#dev#b"))).item("sk", text("META".into()));
        let request = request.item("listed_in", text("LISTED#1".into()));
        let request = request.item("listed_as", text(format!("101#dev#{application}#b")));
        request.item("row", text("of another version".into())).send().await.unwrap();
        let (all, _) = list(world, &job("look", "feature"), of(&application)).await;
        assert_eq!(names(&all), ["a", "c"]);
        assert_eq!(all.unreadable, [format!("b in dev ({application}, project 101)")]);
    });
}

fn history(on: &On, before: Option<&Past>, limit: u16) -> Question {
    let before = before.map(|past| past.id.clone());
    Question::History(HistoryRequest { on: on.clone(), before, limit: Some(limit) })
}

#[test]
fn a_history_is_told_from_the_newest_on() {
    in_world(|world| async move {
        let on = on("dev", &format!("review/history-{}", unique()));
        let (first, broken, stop) = (job("deploy", "feature"), job("deploy", "feature"), job("stop", "feature"));
        let secret = format!("secret-{}", unique());
        let (digest, zip) = slipway_tests::bundle(&tiny("one"));
        let launch = slipway_tests::with_parameter(launch(&digest), "Size", &secret);
        let arn = world.begin_launch(&first, &on, launch, zip).await;
        assert_eq!(world.end(&arn).await.status, "SUCCEEDED");
        world.deploy(&broken, &on, &failing(&format!("/history/{}", unique()))).await;
        assert_eq!(world.teardown(&stop, &on).await.status, "SUCCEEDED");

        let page: HistoryPage = look(world, &stop, history(&on, None, 50)).await.unwrap();
        let endings: Vec<_> = page.deployments.iter().map(|past| past.result.unwrap()).collect();
        assert_eq!(endings, [Ending::TornDown, Ending::Failed, Ending::Succeeded]);
        assert!(page.next.is_none());
        let [down, failed, live] = page.deployments.as_slice() else { panic!("{page:?}") };
        assert_eq!((&live.release, &down.release), (&Some(digest), &None));
        assert!(failed.message.as_ref().unwrap().contains("AWS::SSM::Parameter"), "{failed:?}");
        for (past, of) in [(down, &stop), (failed, &broken), (live, &first)] {
            let took = past.ended_at.unwrap().duration_since(past.began_at).as_secs();
            assert_eq!(past.seconds, Some(u64::try_from(took).unwrap()));
            assert_eq!((past.user_login.as_deref(), past.pipeline_id), (Some("dana"), Some(of.job.pipeline_id)));
        }
        assert!(!serde_json::to_string(&page).unwrap().contains(&secret), "no parameter is told");

        let mut one_by_one = Vec::new();
        loop {
            let page: HistoryPage = look(world, &stop, history(&on, one_by_one.last(), 1)).await.unwrap();
            one_by_one.extend(page.deployments);
            if page.next.is_none() {
                break;
            }
        }
        assert_eq!(one_by_one, page.deployments);
        let nowhere = slipway_tests::on("dev", "review/never-was");
        assert_eq!(look::<Value>(world, &stop, history(&nowhere, None, 1)).await.unwrap_err().name, "NotFound");
    });
}

async fn why(world: &World, job: &NewsJob, on: &On) -> Why {
    look(world, job, Question::Why(WhyRequest { on: on.clone() })).await.unwrap()
}

#[test]
fn why_names_the_people_who_are_asked() {
    in_world(|world| async move {
        let (job, on) = (job("create-change", "main"), on("prod", &format!("why-{}", unique())));
        world.begin(&job, &on, &tiny("asked")).await;
        let link = world.asked(&job, &on).await;
        let Some(Waits::People { required, who, since, until, url, .. }) = why(world, &job, &on).await.waits else {
            panic!("people are asked")
        };
        assert_eq!((required, url), (1, Some(link.clone())));
        assert!(who.contains("release-manager#8") && who.contains("group/leads"), "{who}");
        assert_eq!(until.duration_since(since), SignedDuration::from_hours(72));

        // Who only reads learns the same, and not where to decide; and nobody learns the token.
        let asked = read(world, Some(101), Question::Why(WhyRequest { on: on.clone() })).await;
        assert_eq!((&asked["waits"]["for"], &asked["waits"]["url"]), (&json!("people"), &Value::Null));
        let token = world.question(&link).await["task_token"].as_str().unwrap().to_owned();
        let request = slipway_domain::protocol::StatusRequest { on: on.clone(), deployment: None };
        let status = read(world, Some(101), Question::Status(request)).await;
        let status: Status = serde_json::from_value(status).unwrap();
        let deployment = status.deployment.as_ref().unwrap();
        assert!(
            deployment.approval_url.is_none() && deployment.approval_wants.is_some() && deployment.review.is_some()
        );
        assert!(token.len() > 10);
        for answer in [asked.to_string(), serde_json::to_string(&status).unwrap()] {
            assert!(!answer.contains(&token) && !answer.contains(link.rsplit('/').next().unwrap()), "{answer}");
        }
        world.decide(&link, "reject", &job.clone().played_by(8, "release-manager")).await;
        let ended = why_settled(world, &job, &on).await;
        assert_eq!(ended.deployment.unwrap().error.unwrap().as_str(), "ApprovalRejected");
        assert!(ended.next.unwrap().contains("a new pipeline asks again"));
    });
}

async fn why_settled(world: &World, job: &NewsJob, on: &On) -> Why {
    world.settled(job, on).await;
    let found = why(world, job, on).await;
    assert_eq!(found.waits, None);
    found
}

#[test]
fn why_names_who_holds_the_environment_and_what_cloudformation_does() {
    in_world(|world| async move {
        let (job, on) = (job("deploy", "feature"), on("dev", &format!("review/why-{}", unique())));
        let ended = world.deploy(&job, &on, &tiny("held")).await;
        let done = why_settled(world, &job, &on).await;
        assert_eq!((done.state, done.next), (EnvironmentState::Live, None));
        assert!(done.expires_at.unwrap() > Timestamp::now());

        // A deployment as it is while CloudFormation executes its change set.
        let mut record = world.recorded(&on, &ended.arn).await;
        let id = record["deployment"]["id"].as_str().unwrap().to_owned();
        record["outcome"] = Value::Null;
        // Its execution goes on: another one's, which waits for people, stands for it.
        let alive = world
            .begin(
                &slipway_tests::job("create-change", "main"),
                &slipway_tests::on("prod", &format!("alive-{}", unique())),
                &tiny("alive"),
            )
            .await;
        record["deployment"]["execution_arn"] = json!(alive);
        record["stack_status"] = json!("UPDATE_IN_PROGRESS");
        world.put_row(&on, &format!("DEPLOY#{id}"), &record).await;
        let Some(Waits::CloudFormation { doing, since, expected, .. }) = why(world, &job, &on).await.waits else {
            panic!("CloudFormation is at work")
        };
        assert_eq!(doing, "executing its change set (UPDATE_IN_PROGRESS)");
        assert!(expected.unwrap() >= since);

        // As it is while something else changes the stack; and while Slipway itself is at work.
        let mut before = record.clone();
        before["operation"] = Value::Null;
        before["change_set_asked"] = json!(false);
        before["busy_since"] = json!("2026-01-01T09:00:00Z");
        world.put_row(&on, &format!("DEPLOY#{id}"), &before).await;
        let Some(Waits::Stack { status, since, until }) = why(world, &job, &on).await.waits else {
            panic!("the stack is busy")
        };
        assert_eq!(
            (status.as_deref(), since.to_string().as_str()),
            (Some("UPDATE_IN_PROGRESS"), "2026-01-01T09:00:00Z")
        );
        assert_eq!(until.duration_since(since), SignedDuration::from_hours(2));
        before["change_set_asked"] = json!(true);
        world.put_row(&on, &format!("DEPLOY#{id}"), &before).await;
        let Some(Waits::Slipway { doing, .. }) = why(world, &job, &on).await.waits else {
            panic!("Slipway is at work")
        };
        assert_eq!(doing, "making its change set");

        // Another one that waits for it.
        world.put_row(&on, &format!("DEPLOY#{id}"), &record).await;
        world.put_row(&on, "LEASE", &json!({"owner": id, "until": "2100-01-01T00:00:00Z", "fence": 7})).await;
        let execution = world.begin(&slipway_tests::job("deploy", "feature"), &on, &tiny("waits")).await;
        let holder = world.told_to_wait(&job, &on).await;
        assert_eq!(holder.deployment.to_string(), id);
        let Some(Waits::Lease { holder, since, until }) = why(world, &job, &on).await.waits else {
            panic!("it waits for the environment")
        };
        assert_eq!((holder.deployment.to_string(), holder.user_login.as_deref()), (id, Some("dana")));
        assert_eq!(until.duration_since(since), SignedDuration::from_hours(2));
        for execution in [execution, alive] {
            world.machines.stop_execution().execution_arn(execution).send().await.unwrap();
        }
    });
}

#[test]
fn whoever_reads_sees_every_project_and_writes_nothing() {
    in_world(|world| async move {
        let application = format!("everybody-{}", unique());
        for project in [101, 102, 103, 104] {
            put(world, key(project, "dev", &application, "x"), |_| {}).await;
        }
        let mut seen = BTreeSet::new();
        let mut request = of(&application);
        loop {
            let page = read(world, None, Question::Environments(request.clone())).await;
            let page: EnvironmentsPage = serde_json::from_value(page).unwrap();
            seen.extend(page.environments.iter().map(|listed| listed.environment.project.0));
            request.page = page.next;
            if request.page.is_none() {
                break;
            }
        }
        assert_eq!(seen, BTreeSet::from([101, 102, 103, 104]));
        let one = read(world, Some(103), Question::Environments(of(&application))).await;
        assert_eq!(one["environments"].as_array().unwrap().len(), 1);
        let unnamed = read(world, None, Question::Why(WhyRequest { on: on("dev", "x") })).await;
        assert_eq!(unnamed["errorType"], "InvalidRequest", "{unnamed}");

        // The role that people assume may do that alone.
        let credentials = assume(world, world.control_plane.output("ReaderRole")).await;
        let config = world.control_plane.emulator.sdk_config_of(credentials);
        let api =
            aws_sdk_lambda::Client::new(&config).invoke().function_name(world.control_plane.output("ApiFunction"));
        assert!(denied(&format!("{:?}", api.send().await.unwrap_err())));
        let (table, bucket) = (world.control_plane.output("TableName"), world.bucket());
        let get = aws_sdk_dynamodb::Client::new(&config).get_item().table_name(table);
        let get = get.key("pk", AttributeValue::S("ENV#101#a#b#c".into())).key("sk", AttributeValue::S("META".into()));
        assert!(denied(&format!("{:?}", get.send().await.unwrap_err())));
        let put = aws_sdk_s3::Client::new(&config).put_object().bucket(bucket).key("reviews/x");
        assert!(denied(&format!("{:?}", put.send().await.unwrap_err())));
    });
}

fn denied(said: &str) -> bool {
    assert!(said.contains("AccessDenied") || said.contains("not authorized"), "{said}");
    true
}

/// A client of DynamoDB as `role`, whose trust is put aside for that.
async fn as_role(world: &World, name: &str, arn: &str) -> aws_sdk_dynamodb::Client {
    let iam = world.iam(TOOLING);
    let before = iam.get_role().role_name(name).send().await.unwrap().role.unwrap();
    let open = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{TOOLING}:root")}, "Action": "sts:AssumeRole"}]});
    iam.update_assume_role_policy().role_name(name).policy_document(open.to_string()).send().await.unwrap();
    let credentials = assume(world, arn).await;
    let trust = before.assume_role_policy_document.unwrap();
    let trust = if trust.starts_with('{') { trust } else { percent_decoded(&trust) };
    iam.update_assume_role_policy().role_name(name).policy_document(trust).send().await.unwrap();
    aws_sdk_dynamodb::Client::new(&world.control_plane.emulator.sdk_config_of(credentials))
}

fn percent_decoded(text: &str) -> String {
    let decoded = form_urlencoded::parse(text.as_bytes()).map(|(key, _)| key.into_owned()).collect::<String>();
    assert!(decoded.starts_with('{'), "{decoded}");
    decoded
}

#[test]
fn nobody_may_scan_and_the_reader_may_not_write() {
    in_world(|world| async move {
        let table = world.control_plane.output("TableName");
        let roles = world.iam(TOOLING).list_roles().path_prefix("/slipway/").send().await.unwrap().roles;
        assert!(roles.len() > 12, "{}", roles.len());
        for role in &roles {
            let client = as_role(world, &role.role_name, &role.arn).await;
            for index in [None, Some("listed".to_owned()), Some("due".to_owned())] {
                let scan = client.scan().table_name(table).set_index_name(index).send().await;
                denied(&format!("{}: {:?}", role.role_name, scan.unwrap_err()));
            }
        }
        let reader = roles.iter().find(|role| role.role_name == "slipway-reader").unwrap();
        let client = as_role(world, &reader.role_name, &reader.arn).await;
        let text = |text: &str| AttributeValue::S(text.to_owned());
        for pk in ["ENV#101#a#dev#x", "AUDIT#101#a#dev#x", "APPROVAL#x", "ADMISSION#x"] {
            let put = client.put_item().table_name(table).item("pk", text(pk)).item("sk", text("META")).send().await;
            denied(&format!("{:?}", put.unwrap_err()));
            let update = client.update_item().table_name(table).key("pk", text(pk)).key("sk", text("META"));
            let update =
                update.update_expression("SET a = :a").expression_attribute_values(":a", text("a")).send().await;
            denied(&format!("{:?}", update.unwrap_err()));
            let delete =
                client.delete_item().table_name(table).key("pk", text(pk)).key("sk", text("META")).send().await;
            denied(&format!("{:?}", delete.unwrap_err()));
        }
        let admissions =
            client.get_item().table_name(table).key("pk", text("ADMISSION#x")).key("sk", text("ADMISSION"));
        denied(&format!("{:?}", admissions.send().await.unwrap_err()));
    });
}

#[test]
fn a_full_stage_says_what_to_tear_down() {
    in_world(|world| async move {
        let mut stages: Value = serde_json::from_str(&control_plane::stages()).unwrap();
        stages["small"] = json!({"account": DEV, "ephemeral": true, "max_environments": 2});
        let ssm = aws_sdk_ssm::Client::new(&world.control_plane.emulator.sdk_config(TOOLING));
        let put_stages = ssm.put_parameter().name(world.control_plane.output("StagesParameterName")).overwrite(true);
        put_stages.value(stages.to_string()).send().await.unwrap();

        let (one, two, three) = (on("small", "review/one"), on("small", "review/two"), on("small", "review/three"));
        for there in [&one, &two] {
            assert_eq!(world.deploy(&job("deploy", "feature"), there, &tiny("small")).await.status, "SUCCEEDED");
        }
        let soon = Timestamp::now() + SignedDuration::from_hours(1);
        put(world, key(101, "small", "tiny", "review/two"), |it| it.expires_at = Some(soon)).await;
        // Another project's, and another application's, take no place.
        put(world, key(102, "small", "tiny", "review/one"), |_| {}).await;
        put(world, key(101, "small", "other", "review/one"), |_| {}).await;
        let (digest, zip) = slipway_tests::bundle(&tiny("small"));
        let third = job("deploy", "feature");
        let refused = world.admit(&third, &three, launch(&digest), zip.len()).await.unwrap_err();
        assert_eq!(refused.name, "TooManyEnvironments");
        let expires = soon.strftime("%Y-%m-%d %H:%M UTC");
        let first = format!(
            "tiny has 2 environments in stage small, which allows 2; nearest to expiry, each with the command that frees its place: \
             review/two (expires {expires}): slipway teardown --stage small --application tiny --environment review/two; review/one ("
        );
        assert!(refused.message.starts_with(&first), "{}", refused.message);
        let (records, _) = world.audit(&third, &three).await;
        assert!(records.last().unwrap().text.contains("which allows 2"), "it is on record");
        // What is there already is deployed as before; and what is torn down frees its place.
        assert_eq!(world.deploy(&job("deploy", "feature"), &one, &tiny("again")).await.status, "SUCCEEDED");
        assert_eq!(world.teardown(&job("stop", "feature"), &two).await.status, "SUCCEEDED");
        assert_eq!(world.deploy(&job("deploy", "feature"), &three, &tiny("small")).await.status, "SUCCEEDED");
        let refused = world.admit(&job("deploy", "feature"), &two, launch(&digest), zip.len()).await.unwrap_err();
        assert_eq!(refused.name, "TooManyEnvironments", "what was torn down comes back only where there is room");
    });
}

#[test]
fn a_stack_keeps_the_name_that_it_was_made_with() {
    in_world(|world| async move {
        let (job, called) = (job("deploy", "feature"), format!("review/0123456789abcdef-{}", unique()));
        let (on, key) = (on("dev", &called), key(101, "dev", "tiny", &called));
        // As names were made before words like these were cut.
        let old = format!(
            "slipway-tiny-dev-review-0123456789abcdef-{}",
            key.stack_name().as_str().rsplit('-').next().unwrap()
        );
        assert_ne!(old, key.stack_name().as_str());
        let name = StackName::new(&old).unwrap();
        put(world, key, |it| it.stack_name = name.clone()).await;
        assert_eq!(world.deploy(&job, &on, &tiny("kept")).await.status, "SUCCEEDED");
        assert_eq!(world.status(&job, &on).await.unwrap().stack_name, name);
        assert_eq!(world.stack_status(DEV, &job, &on).await.as_deref(), Some("CREATE_COMPLETE"));
    });
}

/// What the command says: on stdout, and its exit code.
async fn command(world: &World, arguments: &[&str], variables: &[(String, String)]) -> (String, Option<i32>) {
    let mut command = tokio::process::Command::new(jobs::command_path());
    command.args(arguments).env_clear().envs(variables.iter().cloned());
    command.env("AWS_ENDPOINT_URL", world.control_plane.emulator.endpoint()).env("AWS_REGION", REGION);
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (said + &String::from_utf8_lossy(&output.stderr), output.status.code())
}

#[test]
fn the_command_shows_it_to_jobs_and_to_people() {
    in_world(|world| async move {
        let (job, called) = (job("deploy", "feature"), format!("review/shown-{}", unique()));
        let on = on("dev", &called);
        assert_eq!(world.deploy(&job, &on, &tiny("shown")).await.status, "SUCCEEDED");
        world.settled(&job, &on).await;
        let merged = json!({"merged": {"branch": "feature", "merge_request": 7}});
        world.set_in_row(&on, "expired_because", &merged).await;
        let as_job = world.control_plane.job_environment(&world.token(&job));
        let credentials = assume(world, world.control_plane.output("ReaderRole")).await;
        let as_person = [
            ("AWS_ACCESS_KEY_ID", credentials.access_key_id()),
            ("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key()),
            ("AWS_SESSION_TOKEN", credentials.session_token().unwrap()),
            ("SLIPWAY_READER", world.control_plane.output("ReaderFunction")),
            ("SLIPWAY_PROJECT", "101"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment = ["--stage", "dev", "--application", "tiny", "--environment", &called];
        for variables in [as_job.as_slice(), &as_person] {
            let (list, code) = command(world, &["environments", "--application", "tiny"], variables).await;
            assert_eq!(code, Some(0), "{list}");
            let line = list.lines().find(|line| line.starts_with(&called)).unwrap_or_else(|| panic!("{list}"));
            assert!(line.contains("live") && line.contains("dana") && line.contains("https://example.com/"), "{line}");
            let json =
                command(world, &[&["environments", "--json"][..], &environment[..4]].concat(), variables).await.0;
            assert!(json.contains("\"dns_label\": \"tiny-review-shown-"), "{json}");
            assert!(json.contains("\"merge_request\": 7"), "{json}");
            for (verb, says) in [
                ("history", "succeeded"),
                ("why", "Nothing goes on. The last deploy, of dana in pipeline"),
                ("status", "  by        dana"),
                ("status", "  because   its branch feature was merged by merge request !7"),
                ("audit", "settled"),
            ] {
                let (said, code) = command(world, &[&[verb][..], &environment].concat(), variables).await;
                assert!(code == Some(0) && said.contains(says), "{verb}: {said}");
            }
        }
        // A person says which project; and only looks.
        let nameless: Vec<_> = as_person[..4].to_vec();
        let (said, code) = command(world, &[&["why"][..], &environment].concat(), &nameless).await;
        assert!(code == Some(2) && said.contains("--project"), "{said}");
        let mut nowhere = as_person.to_vec();
        nowhere[3].1 = "slipway-nowhere".to_owned();
        let (said, code) = command(world, &["environments"], &nowhere).await;
        assert!(code == Some(1) && said.contains("Check --reader"), "{said}");
        let (said, code) = command(world, &[&["teardown"][..], &environment].concat(), &as_person).await;
        assert!(code == Some(2) && said.contains("the control plane is not given"), "{said}");
    });
}
