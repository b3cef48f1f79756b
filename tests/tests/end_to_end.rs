//! Deployments over the real state machines on the embedded AWS.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test may, and its time is now"
)]

use serde_json::json;
use slipway_domain::admission::Admission;
use slipway_domain::audit::Act;
use slipway_domain::deployment::{DeploymentId, Ending};
use slipway_domain::environment::EnvironmentState;
use slipway_domain::names::{Digest, EnvironmentKey, ProjectId};
use slipway_domain::protocol::{Ask, On, RollbackRequest, TeardownRequest};
use slipway_local::job::NewsJob;
use slipway_local::{DEV, PROD, STAGING, inspect, job as jobs};
use slipway_tests::{
    Ended, World, bundle, failing, in_world, job, launch, on, tiny, unique, unyielding, with_parameter,
};

/// A name that no other test of this binary uses.
fn named(prefix: &str) -> String {
    format!("{prefix}-{}", unique())
}

fn green(ended: &Ended) {
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
}

#[test]
fn an_environment_lives_and_goes() {
    in_world(|world| async move {
        let (job, on) = (job("deploy-dev", "feature"), on("dev", &named("review/life")));
        green(&world.deploy(&job, &on, &tiny("one")).await);
        let status = world.status(&job, &on).await.unwrap();
        assert_eq!(status.state, EnvironmentState::Live);
        assert!(status.url.unwrap().starts_with("https://example.com/"));
        let deployment = status.deployment.unwrap();
        assert_eq!(deployment.outcome.unwrap().ending, Ending::Succeeded);
        assert!(deployment.events.iter().any(|event| event.status == "CREATE_COMPLETE"), "{:?}", deployment.events);
        assert!(status.expires_at.is_some());
        assert_eq!(world.stack_status(DEV, &job, &on).await.as_deref(), Some("CREATE_COMPLETE"));
        assert!(world.lease_is_free(&on).await);

        green(&world.deploy(&job, &on, &tiny("two")).await);
        assert_eq!(world.stack_status(DEV, &job, &on).await.as_deref(), Some("UPDATE_COMPLETE"));

        green(&world.teardown(&job, &on).await);
        assert_eq!(world.status(&job, &on).await.unwrap().state, EnvironmentState::TornDown);
        assert_eq!(world.stack_status(DEV, &job, &on).await, None);
        assert!(world.lease_is_free(&on).await);
        green(&world.teardown(&slipway_tests::job("stop", "feature"), &on).await);
    });
}

#[test]
fn the_command_deploys_what_the_template_references() {
    in_world(|world| async move {
        let folder = slipway_local::workspace_root().join("examples/news");
        let environment = named("review/command");
        let dev = ["deploy", "--stage", "dev", "--environment", &environment];
        let first =
            jobs::run(&world.control_plane, &job("deploy-dev", "feature"), &folder, &dev, |_| {}).await.unwrap();
        assert_eq!(first.code, 0, "{}", first.log);
        let again =
            jobs::run(&world.control_plane, &job("deploy-dev", "feature"), &folder, &dev, |_| {}).await.unwrap();
        assert_eq!(again.code, 0, "{}", again.log);
        assert!(again.log.to_lowercase().contains("no changes"), "{}", again.log);
        let dotenv = std::fs::read_to_string(folder.join("slipway.env")).unwrap();
        assert!(dotenv.lines().any(|line| line.starts_with("SLIPWAY_DNS_LABEL=news-review-command-")), "{dotenv}");
        let config = world.control_plane.emulator.sdk_config(DEV);
        let url = inspect::output(&config, "slipway-news-dev-review-command", "ApiUrl").await.unwrap();
        let answer = inspect::call(&world.control_plane.emulator, DEV, &url, "services").await.unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&answer).unwrap()["services"].is_array(), "{answer}");
        let _ = std::fs::remove_file(folder.join("slipway.env"));
    });
}

#[test]
fn a_secret_in_the_open_does_not_leave_the_job() {
    in_world(|world| async move {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("template.yaml"), tiny("secret").replace("Default: small", "NoEcho: true"))
            .unwrap();
        let environment = named("review/secret");
        let on = on("dev", &environment);
        let application = on.application.to_string();
        let args = ["deploy", "--stage", "dev", "--application", &application, "--environment", &environment];
        let args = [&args[..], &["--parameter-overrides", "Size=hunter2"]].concat();
        let ran = jobs::run(&world.control_plane, &job("deploy-dev", "feature"), folder.path(), &args, |_| {}).await;
        let ran = ran.unwrap();
        assert_eq!(ran.code, 1, "{}", ran.log);
        assert!(ran.log.contains("Size is NoEcho") && !ran.log.contains("hunter2"), "{}", ran.log);
        let table = world.dynamodb.scan().table_name(world.control_plane.output("TableName")).send().await.unwrap();
        assert!(!format!("{:?}", table.items()).contains("hunter2"));
    });
}

#[test]
fn staging_and_prod_name_the_same_artifacts() {
    in_world(|world| async move {
        let folder = slipway_local::workspace_root().join("examples/news");
        let name = named("main");
        for stage in ["staging", "prod"] {
            let args = ["deploy", "--stage", stage, "--environment", &name, "--until", "approval"];
            let ran = jobs::run(&world.control_plane, &job("deploy", "main"), &folder, &args, |_| {}).await.unwrap();
            assert_eq!(ran.code, 0, "{}", ran.log);
        }
        let mut found = Vec::new();
        for account in [STAGING, PROD] {
            let config = world.control_plane.emulator.sdk_config(account);
            let client = aws_sdk_cloudformation::Client::new(&config);
            let stage = if account == STAGING { "staging" } else { "prod" };
            let prefix = format!("slipway-news-{stage}-{name}-");
            let stack = inspect::stacks(&config, &prefix).await.unwrap().remove(0).name;
            let change_sets = client.list_change_sets().stack_name(&stack).send().await.unwrap();
            let template = match change_sets.summaries().first().and_then(|set| set.change_set_name()) {
                Some(set) => {
                    client.get_template().stack_name(&stack).change_set_name(set).template_stage("Original".into())
                }
                None => client.get_template().stack_name(&stack).template_stage("Original".into()),
            };
            let body = template.send().await.unwrap().template_body.unwrap();
            let keys: Vec<String> =
                body.split("artifacts/").skip(1).map(|rest| rest.chars().take(64).collect()).collect();
            found.push(keys);
        }
        assert!(!found[0].is_empty() && found[0].iter().all(|key| Digest::new(key.as_str()).is_ok()), "{found:?}");
        assert_eq!(found[0], found[1]);
        let _ = std::fs::remove_file(folder.join("slipway.env"));
    });
}

#[test]
fn nothing_changed_ends_green() {
    in_world(|world| async move {
        let on = on("staging", &named("same"));
        green(&world.deploy(&job("deploy", "main"), &on, &tiny("same")).await);
        let again = job("deploy", "main");
        green(&world.deploy(&again, &on, &tiny("same")).await);
        let status = world.status(&again, &on).await.unwrap();
        assert_eq!(status.deployment.unwrap().outcome.unwrap().ending, Ending::NoChanges);
        assert!(status.url.is_some(), "what is live is still told");
    });
}

#[test]
fn a_retried_job_joins() {
    in_world(|world| async move {
        let on = on("prod", &named("join"));
        let first = job("create-change", "main");
        let (digest, zip) = bundle(&tiny("join"));
        let admitted = world.admit(&first, &on, launch(&digest), zip.len()).await.unwrap();
        world.upload(&admitted, zip.clone()).await;
        let arn = world.start_attempt(&admitted, &first, 1).await.unwrap();
        world.asked(&first, &on).await;
        let mut retried = first.clone();
        retried.job.job_id += 1;
        let again = world.admit(&retried, &on, launch(&digest), zip.len()).await.unwrap();
        assert!(again.upload.is_none(), "what is there is not sent again");
        assert_eq!(world.start_attempt(&again, &retried, 1).await, None, "its execution runs already");
        world.machines.stop_execution().execution_arn(&arn).send().await.unwrap();
        world.settled(&first, &on).await;
    });
}

#[test]
fn after_a_failure_the_job_deploys_anew() {
    in_world(|world| async move {
        let on = on("dev", &named("review/fails"));
        let job = job("deploy-dev", "feature");
        let name = named("/twice/of");
        let failed = world.deploy(&job, &on, &failing(&name)).await;
        assert_eq!((failed.status.as_str(), failed.error.as_str()), ("FAILED", "StackFailed"), "{failed:?}");
        assert!(failed.cause.contains("Second") && failed.cause.contains("already exists"), "{failed:?}");
        assert!(failed.cause.contains("template.yaml:5"), "the line of the resource: {failed:?}");
        let status = world.status(&job, &on).await.unwrap();
        assert_eq!(status.state, EnvironmentState::Failed);
        assert!(status.deployment.unwrap().outcome.unwrap().message.unwrap().contains("Second"));
        assert!(world.lease_is_free(&on).await);
        // The same job, corrected: another attempt, and the stack whose first create failed is deleted first.
        let fixed = world.deploy(&job, &on, &tiny("fixed")).await;
        green(&fixed);
        assert_ne!(fixed.arn, failed.arn);
        assert_eq!(world.stack_status(DEV, &job, &on).await.as_deref(), Some("CREATE_COMPLETE"));
    });
}

#[test]
fn a_stopped_execution_is_settled() {
    in_world(|world| async move {
        let (job, on) = (job("create-change", "main"), on("prod", &named("stopped")));
        let arn = world.begin(&job, &on, &tiny("stopped")).await;
        let link = world.asked(&job, &on).await;
        world.machines.stop_execution().execution_arn(&arn).send().await.unwrap();
        let status = world.settled(&job, &on).await;
        let outcome = status.deployment.unwrap().outcome.unwrap();
        assert_eq!((outcome.ending, outcome.error.unwrap().as_str()), (Ending::Failed, "Stopped"));
        assert!(world.lease_is_free(&on).await);
        // Its question is void, and its change set gone; a protected stack's shell stays for the next one.
        let manager = job.played_by(8, "release-manager");
        let (code, body) = world.decide(&link, "approve", &manager).await;
        assert_eq!(code, 403, "{body}");
        let stack = status.stack_name.to_string();
        let sets = world.cloudformation(PROD).list_change_sets().stack_name(stack).send().await.unwrap();
        assert!(sets.summaries().is_empty(), "{:?}", sets.summaries());
    });
}

#[test]
fn prod_waits_for_the_right_person() {
    in_world(|world| async move {
        let (dana, on) = (job("create-change", "main"), on("prod", &named("asked")));
        let arn = world.begin(&dana, &on, &tiny("asked")).await;
        let link = world.asked(&dana, &on).await;
        assert!(world.lease_is_free(&on).await, "given up while a person decides");
        let record = world.status(&dana, &on).await.unwrap().deployment.unwrap();
        assert_eq!(record.review.unwrap().changes.len(), 1);

        // GET shows and never decides, with every header that keeps it to itself.
        let (code, page) = world.web("GET", &link, &[], "text/html").await;
        assert_eq!(code, 200, "{page}");
        for shown in ["Deploy tiny to prod?", "AWS::SSM::Parameter", "dana", "release-manager", "Sign in with GitLab"] {
            assert!(page.contains(shown), "{shown} in {page}");
        }
        assert!(!page.contains("<script") && !page.contains("http://"), "{page}");
        assert_eq!(world.web("HEAD", &link, &[], "text/html").await, (200, String::new()));
        // Nobody in particular, and the wrong people, decide nothing.
        assert_eq!(world.web("POST", &link, &[("decision", "approve")], "application/json").await.0, 400);
        let forged = [("decision", "approve"), ("id_token", "a.b.c")];
        assert_eq!(world.web("POST", &link, &forged, "application/json").await.0, 401);
        let manager = dana.clone().played_by(8, "release-manager");
        let (mut own, stranger) = (dana.clone().played_by(7, "dana"), dana.clone().played_by(9, "eve"));
        own.job.groups_direct = vec!["group/leads".into()];
        let mut elsewhere = manager.clone();
        elsewhere.job.pipeline_id += 1;
        let mut unprotected = manager.clone();
        unprotected.job.ref_protected = false;
        let mut other_project = manager.clone();
        other_project.job.project_id = 102;
        other_project.job.job_project_id = 102;
        for (who, says) in [
            (&own, "may run by itself"),
            (&stranger, "not among the approvers"),
            (&elsewhere, "pipeline_id"),
            (&unprotected, "ref_protected"),
            (&other_project, "own project"),
        ] {
            let (code, body) = world.decide(&link, "approve", who).await;
            assert_eq!(code, 403, "{body}");
            assert!(body["message"].as_str().unwrap().contains(says), "{body}");
        }
        let wrong_link = link.replace("/a/", "/a/0").chars().take(link.len()).collect::<String>();
        assert_eq!(world.decide(&wrong_link, "approve", &manager).await.0, 404);

        let (code, body) = world.decide(&link, "approve", &manager).await;
        assert_eq!((code, body["state"].as_str()), (200, Some("approved")), "{body}");
        let (code, body) = world.decide(&link, "reject", &manager).await;
        assert_eq!(code, 409, "{body}");
        green(&world.end(&arn).await);
        assert_eq!(world.stack_status(PROD, &dana, &on).await.as_deref(), Some("CREATE_COMPLETE"));
        let (_, page) = world.web("GET", &link, &[], "text/html").await;
        assert!(page.contains("approved") && !page.contains("<form"), "{page}");
        assert!(world.lease_is_free(&on).await);
    });
}

#[test]
fn a_rejection_ends_it() {
    in_world(|world| async move {
        let (dana, on) = (job("create-change", "main"), on("prod", &named("rejected")));
        let arn = world.begin(&dana, &on, &tiny("rejected")).await;
        let link = world.asked(&dana, &on).await;
        assert_eq!(world.decide(&link, "reject", &dana.clone().played_by(8, "release-manager")).await.0, 200);
        let ended = world.end(&arn).await;
        assert_eq!(ended.error, "ApprovalRejected", "{ended:?}");
        assert!(ended.cause.contains("release-manager"), "{ended:?}");
        assert!(world.lease_is_free(&on).await);
    });
}

#[test]
fn the_newer_pipeline_supersedes_one_that_waits_for_a_person() {
    in_world(|world| async move {
        let on = on("prod", &named("superseded"));
        let (older, newer) = (job("create-change", "main"), job("create-change", "main"));
        let first = world.begin(&older, &on, &tiny("older")).await;
        let link = world.asked(&older, &on).await;
        let second = world.begin(&newer, &on, &tiny("newer")).await;
        let ended = world.end(&first).await;
        assert_eq!(ended.error, "Superseded", "{ended:?}");
        assert_eq!(world.decide(&link, "approve", &older.clone().played_by(8, "release-manager")).await.0, 403);
        let link = world.asked(&newer, &on).await;
        assert_eq!(world.decide(&link, "approve", &newer.clone().played_by(8, "release-manager")).await.0, 200);
        green(&world.end(&second).await);
        let mut late = older.clone();
        late.name = "late".into();
        let ended = world.deploy(&late, &on, &tiny("late")).await;
        assert_eq!(ended.error, "Superseded", "{ended:?}");
    });
}

#[test]
fn a_rollback_brings_back_what_was_live() {
    in_world(|world| async move {
        let on = on("dev", &named("review/back"));
        let (older, newer) = (job("deploy-dev", "feature"), job("deploy-dev", "feature"));
        green(&world.deploy(&older, &on, &tiny("first")).await);
        let refused = world.ask(&world.token(&older), rollback(&older, &on)).await.unwrap_err();
        assert_eq!(refused.name, "NotFound", "{refused:?}");
        let first = world.status(&older, &on).await.unwrap().release;
        green(&world.deploy(&newer, &on, &tiny("second")).await);
        let second = world.status(&newer, &on).await.unwrap().release;
        assert_ne!(first, second);
        // A person who plays a job of the older pipeline means it.
        green(&world.rollback(&NewsJob { name: "back".into(), ..older.clone() }, &on).await);
        assert_eq!(world.status(&older, &on).await.unwrap().release, first);
        // An older pipeline's own deployment still does not, and a second rollback goes forth again.
        let late = world.deploy(&NewsJob { name: "late".into(), ..older.clone() }, &on, &tiny("late")).await;
        assert_eq!(late.error, "Superseded", "{late:?}");
        green(&world.rollback(&NewsJob { name: "forth".into(), ..newer.clone() }, &on).await);
        assert_eq!(world.status(&newer, &on).await.unwrap().release, second);
    });
}

/// `slipway COMMAND` on an environment of the test application's, as a job.
struct Commands {
    folder: tempfile::TempDir,
    environment: String,
}

impl Commands {
    fn on(environment: &str) -> (Self, On) {
        let folder = tempfile::tempdir().unwrap();
        (Self { folder, environment: environment.to_owned() }, on("dev", environment))
    }

    async fn run(&self, world: &World, job: &NewsJob, command: &str, flags: &[&str]) -> String {
        let place = ["--stage", "dev", "--application", "tiny", "--environment", &self.environment];
        let args = [&[command][..], &place, flags].concat();
        let ran = jobs::run(&world.control_plane, job, self.folder.path(), &args, |_| {}).await.unwrap();
        assert_eq!(ran.code, 0, "{}", ran.log);
        ran.log
    }

    async fn deploy(&self, world: &World, job: &NewsJob, template: &str, flags: &[&str]) -> String {
        std::fs::write(self.folder.path().join("template.yaml"), template).unwrap();
        self.run(world, job, "deploy", flags).await
    }
}

/// What a stack's parameter `Size` is.
async fn size(world: &World, job: &NewsJob, on: &On) -> String {
    let stack = world.status(job, on).await.unwrap().stack_name.to_string();
    let found = world.cloudformation(DEV).describe_stacks().stack_name(stack).send().await.unwrap();
    let parameter = found.stacks()[0].parameters().iter().find(|known| known.parameter_key() == Some("Size"));
    parameter.unwrap().parameter_value().unwrap().to_owned()
}

#[test]
fn a_retried_rollback_does_not_bring_back_what_it_took_away() {
    in_world(|world| async move {
        let (commands, on) = Commands::on(&named("review/retried-back"));
        let (mut good, bad) = (job("deploy-dev", "feature"), job("deploy-dev", "feature"));
        good.job.sha = "900d".repeat(10);
        commands.deploy(world, &good, &tiny("good"), &[]).await;
        let release = world.status(&good, &on).await.unwrap().release;
        commands.deploy(world, &bad, &tiny("bad"), &[]).await;

        let back = NewsJob { name: "rollback".into(), ..bad.clone() };
        let told = commands.run(world, &back, "rollback", &[]).await;
        let status = world.status(&bad, &on).await.unwrap();
        assert_eq!(status.release, release);
        let log = commands.run(world, &back, "rollback", &[]).await;
        assert_eq!(world.status(&bad, &on).await.unwrap().release, release, "{log}");
        assert!(log.contains("An earlier try of this job did it") && !log.contains("Going back"), "{log}");
        // It said where it goes, and the commit beside the release is the release's.
        let short: String = release.as_ref().unwrap().as_str().chars().take(12).collect();
        let (sha, pipeline) = (&good.job.sha, good.job.pipeline_id);
        let line = format!("Going back to release {short}, commit {sha}, deployed by pipeline {pipeline}.");
        assert!(told.contains(&line), "{line} is missing in {told}");
        assert_eq!(status.commit.as_ref(), Some(sha));
        // Whoever asks in another job means it.
        let forth = NewsJob { name: "forth".into(), ..bad.clone() };
        commands.run(world, &forth, "rollback", &[]).await;
        let status = world.status(&bad, &on).await.unwrap();
        assert_ne!(status.release, release);
        assert_eq!(status.commit, Some(bad.job.sha.clone()));
    });
}

#[test]
fn a_retried_job_deploys_what_it_asks_for_now() {
    in_world(|world| async move {
        let (commands, on) = Commands::on(&named("review/retried-size"));
        let (job, template) = (job("deploy-dev", "feature"), tiny("!Ref Size"));
        for (flags, size_then, is_done) in [
            (["--parameter-overrides", "Size=medium"], "medium", false),
            (["--parameter-overrides", "Size=large"], "large", false),
            (["--parameter-overrides", "Size=large"], "large", true),
            (["--tags", "team=news"], "large", false),
        ] {
            let log = commands.deploy(world, &job, &template, &flags).await;
            assert_eq!(log.contains("An earlier try of this job did it"), is_done, "{flags:?}: {log}");
            assert_eq!(size(world, &job, &on).await, size_then, "{flags:?}: {log}");
        }
    });
}

#[test]
fn a_rollback_restores_the_default_of_what_only_the_later_deployment_gave() {
    in_world(|world| async move {
        let on = on("dev", &named("review/back-size"));
        let (older, newer) = (job("deploy-dev", "feature"), job("deploy-dev", "feature"));
        let (digest, zip) = bundle(&tiny("!Ref Size"));
        let arn = world.begin_launch(&older, &on, launch(&digest), zip.clone()).await;
        green(&world.end(&arn).await);
        let arn = world.begin_launch(&newer, &on, with_parameter(launch(&digest), "Size", "large"), zip).await;
        green(&world.end(&arn).await);
        assert_eq!(size(world, &newer, &on).await, "large");
        green(&world.rollback(&NewsJob { name: "back".into(), ..newer.clone() }, &on).await);
        assert_eq!(size(world, &newer, &on).await, "small");
    });
}

#[test]
fn a_rollback_does_only_what_it_was_asked_for() {
    in_world(|world| async move {
        let on = on("dev", &named("review/moved"));
        let jobs = ["one", "two", "three"].map(|text| (job("deploy-dev", "feature"), tiny(text)));
        for (job, template) in &jobs[..2] {
            green(&world.deploy(job, &on, template).await);
        }
        let asking = NewsJob { name: "back".into(), ..jobs[1].0.clone() };
        let admitted = world.ask(&world.token(&asking), rollback(&asking, &on)).await.unwrap();
        green(&world.deploy(&jobs[2].0, &on, &jobs[2].1).await);
        let live = world.status(&asking, &on).await.unwrap().release;
        let arn = world.start_admitted(&serde_json::from_value(admitted).unwrap(), &asking).await;
        let ended = world.end(&arn).await;
        assert_eq!(ended.error, "Superseded", "{ended:?}");
        assert!(ended.cause.contains("meanwhile") && ended.cause.contains("look, and ask again"), "{ended:?}");
        assert_eq!(world.status(&asking, &on).await.unwrap().release, live);
        assert!(world.lease_is_free(&on).await);
    });
}

#[test]
fn who_waited_does_not_deploy_over_a_rollback() {
    in_world(|world| async move {
        let on = on("dev", &named("review/waited"));
        let (good, bad) = (job("deploy-dev", "feature"), job("deploy-dev", "feature"));
        green(&world.deploy(&good, &on, &tiny("good")).await);
        let release = world.status(&good, &on).await.unwrap().release;
        green(&world.deploy(&bad, &on, &tiny("bad")).await);
        assert!(world.lease_is_free(&on).await);
        // Somebody holds the environment while a newer pipeline's deployment begins, and then the rollback.
        let somebody = DeploymentId::from_execution(jiff::Timestamp::now(), "somebody");
        let lease = json!({"owner": somebody, "until": "2100-01-01T00:00:00Z", "fence": 70});
        world.put_row(&on, "LEASE", &lease).await;
        let newer = job("deploy-dev", "feature");
        let waiting = world.begin(&newer, &on, &tiny("newer")).await;
        let begun = row_until(world, &on, |row| row["pipeline_id"] == newer.job.pipeline_id).await;
        let asking = NewsJob { name: "back".into(), ..bad.clone() };
        let admitted = world.ask(&world.token(&asking), rollback(&asking, &on)).await.unwrap();
        let back = world.start_admitted(&serde_json::from_value(admitted).unwrap(), &asking).await;
        row_until(world, &on, |row| row["deployment"] != begun["deployment"]).await;
        assert!(world.unlock(&bad, &on, true).await.unlocked);
        let ended = world.end(&waiting).await;
        assert_eq!(ended.error, "Superseded", "{ended:?}");
        assert!(ended.cause.contains("rollback"), "{ended:?}");
        green(&world.end(&back).await);
        assert_eq!(world.status(&bad, &on).await.unwrap().release, release);
    });
}

/// The environment's row, once it is as `wanted`.
async fn row_until(world: &World, on: &On, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let began = std::time::Instant::now();
    loop {
        let row = world.row(on, "META").await.unwrap();
        if wanted(&row) {
            return row;
        }
        assert!(began.elapsed().as_secs() < 60, "still {row}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[test]
fn the_command_shows_why_a_stack_is_stuck_and_goes_on() {
    in_world(|world| async move {
        let folder = tempfile::tempdir().unwrap();
        let environment = named("review/stuck");
        let on = on("dev", &environment);
        let application = on.application.to_string();
        // Each is a job of its own, of the same pipeline: what is asked for tells them apart.
        let owner = job("deploy-dev", "feature");
        let run = async |command: &str, flags: &[&str]| {
            let place = ["--stage", "dev", "--application", &application, "--environment", &environment];
            let args = [&[command][..], &place, flags].concat();
            let ran = jobs::run(&world.control_plane, &owner, folder.path(), &args, |_| {}).await.unwrap();
            (ran.code, ran.log)
        };
        let deploy = async |text: &str, breaks: bool, code: i32| {
            std::fs::write(folder.path().join("template.yaml"), unyielding(text, breaks)).unwrap();
            let (ended, log) = run("deploy", &["--capabilities", "CAPABILITY_IAM"]).await;
            assert_eq!(ended, code, "{log}");
            log
        };
        let says = |(code, log): (i32, String), expected: i32, words: &[&str]| {
            assert_eq!(code, expected, "{log}");
            for words in words {
                assert!(log.contains(words), "{words:?} is missing in {log}");
            }
        };
        let command = format!("slipway repair --application {application} --stage dev --environment {environment}");
        deploy("before", false, 0).await;
        says(run("repair", &[]).await, 0, &["Nothing to repair", "is CREATE_COMPLETE"]);
        let log = deploy("after", true, 1).await;
        assert!(log.contains("UPDATE_ROLLBACK_FAILED") && log.contains(&command), "{log}");
        let log = deploy("more", false, 1).await;
        assert!(log.contains("StackNeedsRepair") && log.contains(&command), "{log}");

        let thing = "Thing  Custom::Thing  it does not yield";
        let (retry, skip) = (format!("{command} --retry"), format!("{command} --skip Thing"));
        says(run("repair", &[]).await, 0, &["is UPDATE_ROLLBACK_FAILED. What could not", thing, &retry, &skip]);
        says(run("repair", &["--skip", "Setting"]).await, 1, &["Setting cannot be skipped", "is Thing"]);
        says(run("repair", &["--skip", "no name"]).await, 2, &["letters and digits"]);
        says(run("repair", &["--retry"]).await, 1, &["tried again  Thing", "the repair of", &command]);
        assert_eq!(world.stack_status(DEV, &owner, &on).await.as_deref(), Some("UPDATE_ROLLBACK_FAILED"));

        let (code, log) = run("repair", &["--retry", "--skip", "Thing", "--json"]).await;
        assert_eq!(code, 0, "{log}");
        assert!(log.contains("skipped      Thing"), "{log}");
        // Both streams are in the log: a line of the document begins as JSON does.
        let document: String =
            log.lines().filter(|line| line.trim_start().starts_with(['{', '}', '[', ']', '"'])).collect();
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        assert_eq!((&document["result"], &document["action"]), (&json!("repaired"), &json!("repair")), "{document}");
        assert_eq!(document["found"]["failed"][0]["then"], "skipped", "{document}");
        assert_eq!(world.stack_status(DEV, &owner, &on).await.as_deref(), Some("UPDATE_ROLLBACK_COMPLETE"));
        says(run("status", &[]).await, 0, &["(repair)", "repaired", "failed"]);
        // And everything goes on.
        deploy("more", false, 0).await;
        assert!(world.lease_is_free(&on).await);
    });
}

fn rollback(job: &NewsJob, on: &On) -> Ask {
    Ask::Rollback(RollbackRequest { on: on.clone(), job: job.name.clone() })
}

#[test]
fn who_waits_for_an_environment_is_told_who_holds_it_and_may_take_it() {
    in_world(|world| async move {
        // A deployment that runs: it waits for a person.
        let (holder, held) = (job("create-change", "main"), on("prod", &named("holder")));
        let running = world.begin(&holder, &held, &tiny("holder")).await;
        world.asked(&holder, &held).await;
        let id = world.status(&holder, &held).await.unwrap().deployment.unwrap().id;
        let row = world.row(&held, &format!("DEPLOY#{id}")).await.unwrap();
        // The same one, as the holder of another environment.
        let (waiter, on) = (job("deploy-dev", "feature"), on("dev", &named("review/held")));
        let lease = |until: &str| json!({"owner": id, "until": until, "fence": 7});
        world.put_row(&on, &format!("DEPLOY#{id}"), &row).await;
        world.put_row(&on, "LEASE", &lease("2100-01-01T00:00:00Z")).await;
        let waiting = world.begin(&waiter, &on, &tiny("held")).await;
        let told = world.told_to_wait(&waiter, &on).await;
        assert_eq!((&told.deployment, told.user_login.as_deref()), (&id, Some("dana")), "{told}");
        assert!(told.doing.contains("decision"), "{told}");
        let seen = world.unlock(&waiter, &on, false).await;
        assert_eq!((seen.holder.map(|holder| holder.deployment), seen.unlocked), (Some(id.clone()), false));
        assert!(world.unlock(&waiter, &on, true).await.unlocked);
        green(&world.end(&waiting).await);
        let (recorded, _) = world.audit(&waiter, &on).await;
        let mut unlocked = recorded.iter().map(|row| row.read().unwrap().entry);
        let unlocked = unlocked.find(|entry| matches!(entry.act, Act::Unlocked { fence: 7, .. })).unwrap();
        assert_eq!((unlocked.by.name(), unlocked.reason.as_deref()), ("dana", Some("it is needed")));
        assert!(!world.unlock(&waiter, &on, true).await.unlocked, "it is free");

        // The lease of an execution that ended is nobody's, however long it would last.
        world.machines.stop_execution().execution_arn(&running).send().await.unwrap();
        world.settled(&holder, &held).await;
        world.put_row(&on, "LEASE", &lease("2100-01-01T00:00:00Z")).await;
        green(&world.deploy(&job("deploy-dev", "feature"), &on, &tiny("taken over")).await);
        assert!(world.lease_is_free(&on).await);
    });
}

#[test]
fn a_live_protected_stack_is_protected() {
    in_world(|world| async move {
        let (job, on) = (job("deploy", "main"), on("staging", &named("protected")));
        green(&world.deploy(&job, &on, &tiny("protected")).await);
        let name = world.status(&job, &on).await.unwrap().stack_name.to_string();
        let client = world.cloudformation(STAGING);
        let found = client.describe_stacks().stack_name(&name).send().await.unwrap();
        assert_eq!(found.stacks()[0].enable_termination_protection(), Some(true));
        let policy = client.get_stack_policy().stack_name(&name).send().await.unwrap();
        assert!(policy.stack_policy_body().is_some_and(|body| body.contains("Update:*")), "{policy:?}");
    });
}

#[test]
fn what_changed_since_the_review_is_not_executed() {
    in_world(|world| async move {
        let (dana, on) = (job("create-change", "main"), on("prod", &named("stale")));
        let arn = world.begin(&dana, &on, &tiny("stale")).await;
        let link = world.asked(&dana, &on).await;
        let stack = world.status(&dana, &on).await.unwrap().stack_name.to_string();
        let prod = world.cloudformation(PROD);
        let sets = prod.list_change_sets().stack_name(&stack).send().await.unwrap();
        let set = sets.summaries()[0].change_set_id().unwrap();
        prod.delete_change_set().change_set_name(set).send().await.unwrap();
        assert_eq!(world.decide(&link, "approve", &dana.clone().played_by(8, "release-manager")).await.0, 200);
        let ended = world.end(&arn).await;
        assert_eq!(ended.error, "ChangeSetStale", "{ended:?}");
    });
}

#[test]
fn sweep_ends_what_is_due() {
    in_world(|world| async move {
        let (owner, expiring) = (job("deploy-dev", "feature"), on("dev", &named("review/old")));
        green(&world.deploy(&owner, &expiring, &tiny("old")).await);
        let (dana, asking) = (job("create-change", "main"), on("prod", &named("forgotten")));
        let arn = world.begin(&dana, &asking, &tiny("forgotten")).await;
        world.asked(&dana, &asking).await;
        world.sweep().await;
        assert_eq!(world.status(&owner, &expiring).await.unwrap().state, EnvironmentState::Live, "nothing was due yet");
        world.overdue(&expiring).await;
        world.overdue(&asking).await;
        let (first, second) = (world.sweep().await, world.sweep().await);
        assert!(first["teardowns"].as_u64() >= Some(1) && second["teardowns"].is_number(), "{first} {second}");
        let ended = world.end(&arn).await;
        assert_eq!(ended.error, "ApprovalExpired", "{ended:?}");
        let began = std::time::Instant::now();
        while world.status(&owner, &expiring).await.unwrap().state != EnvironmentState::TornDown {
            assert!(began.elapsed().as_secs() < 60, "the expired environment is still there");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        assert_eq!(world.stack_status(DEV, &owner, &expiring).await, None);
    });
}

#[test]
fn a_digest_alone_launches_nothing() {
    in_world(|world| async move {
        let (digest, zip) = bundle(&tiny(&named("owned")));
        let owner = job("deploy-dev", "feature");
        let arn = world.begin_launch(&owner, &on("dev", &named("review/owner")), launch(&digest), zip.clone()).await;
        green(&world.end(&arn).await);
        // Another project knows the digest of that release, but not the bundle.
        let mut thief = job("deploy-dev", "feature");
        thief.job.project_path = "group/other".into();
        (thief.job.project_id, thief.job.job_project_id) = (102, 102);
        let on = on("dev", &named("review/thief"));
        let admitted = world.admit(&thief, &on, launch(&digest), zip.len()).await.unwrap();
        assert!(admitted.upload.is_some(), "it has to send the bundle itself");
        let arn = world.start_admitted(&admitted, &thief).await;
        assert_eq!(world.end(&arn).await.error, "BundleMissing");
    });
}

#[test]
fn an_admission_is_used_once() {
    in_world(|world| async move {
        let (job, on) = (job("deploy-dev", "feature"), on("dev", &named("review/replay")));
        let (digest, zip) = bundle(&tiny("replay"));
        let admitted = world.admit(&job, &on, launch(&digest), zip.len()).await.unwrap();
        world.upload(&admitted, zip).await;
        let arn = world.start_attempt(&admitted, &job, 1).await.unwrap();
        green(&world.end(&arn).await);
        // Whoever may describe that execution knows the admission, and can work out the next name.
        let again = world.start_attempt(&admitted, &job, 2).await.unwrap();
        let ended = world.end(&again).await;
        assert_eq!(ended.error, "NotAllowed", "{ended:?}");
        assert!(ended.cause.contains("used already"), "{ended:?}");
    });
}

#[test]
fn what_lies_unverified_under_a_digest_does_no_harm() {
    in_world(|world| async move {
        let (job, on) = (job("deploy-dev", "feature"), on("dev", &named("review/poison")));
        let (digest, zip) = bundle(&tiny(&named("poison")));
        let put = world.s3.put_object().bucket(world.bucket()).key(format!("bundles/101/{digest}.zip"));
        put.body(b"garbage".to_vec().into()).send().await.unwrap();
        let arn = world.begin_launch(&job, &on, launch(&digest), zip).await;
        green(&world.end(&arn).await);
    });
}

#[test]
fn sweep_spares_what_was_deployed_again() {
    in_world(|world| async move {
        let (owner, on) = (job("deploy-dev", "feature"), on("dev", &named("review/spared")));
        green(&world.deploy(&owner, &on, &tiny("spared")).await);
        // A teardown of sweep's that waited for the lease while the environment was deployed again.
        let key = EnvironmentKey {
            project: ProjectId(101),
            application: on.application.clone(),
            stage: on.stage.clone(),
            environment: on.environment.clone(),
        };
        let now = jiff::Timestamp::now();
        let admission = Admission::of_sweep(&key, now, 0, now);
        world.put_admission(&admission).await;
        let input = json!({"admission": admission.id, "attempt": 1}).to_string();
        let machine = world.control_plane.output("TeardownMachine");
        let start = world.machines.start_execution().state_machine_arn(machine).name(admission.execution_name(1));
        let started = start.input(input).send().await.unwrap();
        let ended = world.end(started.execution_arn()).await;
        assert_eq!(ended.error, "Superseded", "{ended:?}");
        assert_eq!(world.status(&owner, &on).await.unwrap().state, EnvironmentState::Live);
        assert_eq!(world.stack_status(DEV, &owner, &on).await.as_deref(), Some("CREATE_COMPLETE"));
        assert!(world.lease_is_free(&on).await);
    });
}

#[test]
fn a_protected_stage_is_not_torn_down() {
    in_world(|world| async move {
        let (job, on) = (job("stop", "main"), on("staging", &named("kept")));
        green(&world.deploy(&job, &on, &tiny("kept")).await);
        let asked = Ask::Teardown(TeardownRequest { on: on.clone(), job: job.name.clone(), purge_logs: false });
        let refused = world.ask(&world.token(&job), asked).await.unwrap_err();
        assert_eq!(refused.name, "StageProtected");
        assert_eq!(world.stack_status(STAGING, &job, &on).await.as_deref(), Some("CREATE_COMPLETE"));
    });
}

#[test]
fn parameters_are_given_kept_and_checked() {
    in_world(|world| async move {
        let on = on("dev", &named("review/parameters"));
        let first = job("deploy-dev", "feature");
        let (digest, zip) = bundle(&tiny("p"));
        let arn = world.begin_launch(&first, &on, with_parameter(launch(&digest), "Size", "large"), zip.clone()).await;
        green(&world.end(&arn).await);
        let second = job("deploy-dev", "feature");
        let arn = world.begin_launch(&second, &on, launch(&digest), zip.clone()).await;
        green(&world.end(&arn).await);
        let status = world.status(&second, &on).await.unwrap();
        assert_eq!(
            status.deployment.unwrap().outcome.unwrap().ending,
            Ending::NoChanges,
            "the value of before was kept"
        );
        let third = job("deploy-dev", "feature");
        let arn = world.begin_launch(&third, &on, with_parameter(launch(&digest), "Sise", "x"), zip).await;
        let ended = world.end(&arn).await;
        assert_eq!(ended.error, "ParameterInvalid", "{ended:?}");
        assert!(ended.cause.contains("no parameter Sise; it has: Size"), "{ended:?}");
    });
}

#[test]
fn histories_hold_no_secret_and_no_parameter() {
    in_world(|world| async move {
        let (dana, on) = (job("create-change", "main"), on("prod", &named("secret")));
        let canary = named("canaryvalue");
        let (digest, zip) = bundle(&tiny("secret"));
        let token = world.token(&dana);
        let arn = world.begin_launch(&dana, &on, with_parameter(launch(&digest), "Size", &canary), zip).await;
        let link = world.asked(&dana, &on).await;
        let history = world.history(&arn).await;
        assert!(history.contains("Look at change set"), "the history is read at all: {history}");
        let secret_part = link.rsplit('/').next().unwrap();
        for secret in [canary.as_str(), token.as_str(), secret_part] {
            assert!(!history.contains(secret), "the history holds {secret}");
        }
        let log = std::fs::read_to_string(world.control_plane.emulator.log_path()).unwrap();
        for secret in [token.as_str(), secret_part] {
            assert!(!log.contains(secret), "a log holds {secret}");
        }
        world.machines.stop_execution().execution_arn(&arn).send().await.unwrap();
    });
}
