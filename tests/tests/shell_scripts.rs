//! What pipelines made of shell scripts around `aws cloudformation` get wrong, and Slipway does: a test for each, mostly as a job
//! sees it, by its exit code and its log. CloudFormation is one that the test leads. docs/GITLAB.md has the list.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};
use slipway_domain::deployment::Target;
use slipway_domain::names::{AccountId, ApplicationName, Digest, Region, StackName};
use slipway_domain::protocol::On;
use slipway_domain::release::{artifact_key, manifest_key, template_key};
use slipway_domain::session_policy::{
    Cleanup, DEPLOYMENT_ROLE, Purpose, SERVICE_ROLE, cleanup_policy, role_arn, session_policy,
};
use slipway_local::job::NewsJob;
use slipway_local::{DEV, PROD, REGION, STAGING, TOOLING, workspace_root};
use slipway_tests::case::{Case, ground, slipway, stack_of};
use slipway_tests::cloudformation::{Change, Event, Fault, Misbehaviour, Phase, SetPhase, Stack};
use slipway_tests::pipeline::Project;
use slipway_tests::{World, bundle, in_world, job, launch, on, tiny, unique};

/// How often CloudFormation is seen at work before it has an end.
const LOOKS: u32 = 4;

async fn read(world: &World, key: &str) -> Vec<u8> {
    let object = world.s3.get_object().bucket(world.bucket()).key(key).send().await.unwrap();
    object.body.collect().await.unwrap().to_vec()
}

// ---- Change sets ------------------------------------------------------------------------------------------------------

/// The scripts gave all change sets one name: a pipeline executed what another one had made.
#[test]
fn each_pipeline_executes_its_own_change_set() {
    in_world(|world| async move {
        let case = Case::new(world, "prod").await;
        let change = Change::modify("Setting", "AWS::SSM::Parameter");
        case.ground.cloudformation.play(case.found("CREATE_COMPLETE").page([change]));
        let (older, newer) = (job("create-change", "main"), job("create-change", "main"));
        let first = world.begin(&older, &case.on, &tiny("older")).await;
        let stale = world.asked(&older, &case.on).await;
        let second = world.begin(&newer, &case.on, &tiny("newer")).await;
        assert_eq!(world.end(&first).await.error, "Superseded");
        let link = world.asked(&newer, &case.on).await;
        let manager = newer.clone().played_by(8, "release-manager");
        assert_ne!(world.decide(&stale, "approve", &manager).await.0, 200);
        assert_eq!(world.decide(&link, "approve", &manager).await.0, 200);
        assert_eq!(world.end(&second).await.status, "SUCCEEDED");
        let made: Vec<_> = case.calls().into_iter().filter(|call| call.action == "CreateChangeSet").collect();
        let names: Vec<_> = made.iter().map(|call| call.field("ChangeSetName")).collect();
        assert!(names.len() == 2 && names[0] != names[1], "{names:?}");
        let executed = case.one("ExecuteChangeSet");
        assert!(executed.field("ChangeSetName").contains(&format!("/{}/", names[1])), "{names:?}: {executed:?}");
    });
}

/// The scripts executed a change set at once, whether CloudFormation was done with it or not.
#[test]
fn a_change_set_is_waited_for_before_it_is_executed() {
    in_world(|world| async move {
        let case = Case::new(world, "dev").await;
        let making = [SetPhase::MAKING.seen(LOOKS), SetPhase::READY];
        case.deploys(case.found("CREATE_COMPLETE").making(making)).green("Live: ");
        let calls = case.calls();
        let looks = calls.iter().take_while(|call| call.action != "ExecuteChangeSet");
        let looks = looks.filter(|call| call.action == "DescribeChangeSet").count();
        assert!(looks > LOOKS as usize, "{looks}");
        assert_eq!(case.one("ExecuteChangeSet").refused, None);
    });
}

/// The scripts took a change set that FAILED for one without changes, and were green. (statuses.rs has all that CloudFormation says.)
#[test]
fn only_an_empty_change_set_is_no_changes() {
    in_world(|world| async move {
        let empty = Case::new(world, "dev").await;
        let failed =
            SetPhase::failed("The submitted information didn't contain changes. Submit different information.");
        empty.deploys(empty.found("CREATE_COMPLETE").making([failed])).green("No changes: ");
        let wrong = Case::new(world, "dev").await;
        let reason = "Transform AWS::Serverless-2016-10-31 failed with: Invalid Serverless Application Specification.";
        wrong.deploys(wrong.found("CREATE_COMPLETE").making([SetPhase::failed(reason)])).red(&[reason]);
    });
}

/// The scripts asked whether DescribeStacks answers: of a stack that never was, for which it does, they made an UPDATE change set.
#[test]
fn a_stack_in_review_is_created() {
    in_world(|world| async move {
        let case = Case::new(world, "dev").await;
        case.deploys(case.found("REVIEW_IN_PROGRESS")).green("Live: ");
        assert_eq!(case.one("CreateChangeSet").field("ChangeSetType"), "CREATE");
    });
}

// ---- Where, and what --------------------------------------------------------------------------------------------------

/// One of the scripts' commands had no `--region`, and spoke to wherever the runner happened to be at home.
#[test]
fn a_region_that_is_not_given_is_no_other_one() {
    in_world(|world| async move {
        let case = Case::new(world, "dev").await;
        case.ground.cloudformation.play(case.absent());
        let nowhere = case.runs("deploy", &[], &[("AWS_REGION", ""), ("SLIPWAY_API", "slipway-api")]);
        assert!(nowhere.code == 2 && nowhere.log.contains("the region is not known"), "{nowhere:?}");
        assert_eq!(case.calls(), []);
        // The control plane's ARN names it.
        case.runs("deploy", &[], &[("AWS_REGION", "")]).green("Live: ");
        let regions: BTreeSet<_> = case.calls().into_iter().map(|call| call.region).collect();
        assert_eq!(regions, BTreeSet::from([REGION.to_owned()]));
        assert!(case.one("CreateChangeSet").field("TemplateURL").contains(&format!(".{REGION}.")));
        let resolved = Project::empty(&[]).resolved().await;
        for name in ["deploy-dev", "stop-dev", "deploy-staging", "create-change-prod", "execute-change-prod"] {
            assert_eq!(resolved[name]["variables"]["AWS_REGION"], json!(REGION), "{name}");
        }
    });
}

/// The scripts put the branch's name, as it was, into the stack's: some were refused, and some were another branch's.
#[test]
fn every_branch_has_a_stack_name_that_is_legal_and_its_own() {
    in_world(|world| async move {
        let long = "a".repeat(240);
        let mut names = BTreeSet::new();
        let branches = ["Feature/X_1", "feature-x-1", "feature/x.1", "1st", &long, &format!("{long}b")];
        for branch in branches {
            let case = Case::named(world, "dev", &format!("review/{branch}")).await;
            case.deploys(case.absent()).green("Live: ");
            let name = case.one("CreateChangeSet").field("StackName").to_owned();
            let legal = name.starts_with(|c: char| c.is_ascii_alphabetic())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            assert!(legal && name.len() <= 128, "{branch}: {name}");
            names.insert(name);
        }
        assert_eq!(names.len(), branches.len(), "{names:?}");
    });
}

/// The scripts handed the packaged template on in the runners' cache, where another pipeline's could lie by then.
#[test]
fn a_pipeline_deploys_what_it_built_or_nothing() {
    in_world(|world| async move {
        let case = Case::new(world, "dev").await;
        case.ground.cloudformation.play(case.absent());
        let (own, others) = (tiny(&format!("own-{}", unique())), tiny(&format!("others-{}", unique())));
        let ((digest, zip), (_, other)) = (bundle(&own), bundle(&others));
        let admitted = world.admit(&case.job, &case.on, launch(&digest), zip.len()).await.unwrap();
        world.upload(&admitted, zip).await;
        // Somebody else's bundle comes to lie where this pipeline's was.
        let put = world.s3.put_object().bucket(world.bucket()).key(format!("bundles/101/{digest}.zip"));
        put.body(other.into()).send().await.unwrap();
        let ended = world.end(&world.start_admitted(&admitted, &case.job).await).await;
        assert_eq!(ended.error, "BundleInvalid", "{ended:?}");
        assert_eq!(case.ground.cloudformation.mutations(&case.stack), []);

        let (again, neighbour) = (job("deploy-dev", "feature"), Case::new(world, "dev").await);
        neighbour.ground.cloudformation.play(neighbour.absent());
        let mine = world.begin(&again, &case.on, &own).await;
        let theirs = world.begin(&neighbour.job, &neighbour.on, &others).await;
        for (case, execution, text) in [(&case, mine, own), (&neighbour, theirs, others)] {
            assert_eq!(world.end(&execution).await.status, "SUCCEEDED");
            let url = case.one("CreateChangeSet").field("TemplateURL").to_owned();
            let key = template_key(&bundle(&text).0);
            assert!(url.ends_with(&key), "{url}");
            assert_eq!(String::from_utf8(read(world, &key).await).unwrap(), text);
        }
    });
}

/// The scripts packaged once for staging and once more for prod: what was tried out is not what went live. (Their artifacts' names are
/// compared in end_to_end.rs.)
#[test]
fn prod_gets_what_was_packaged_for_staging() {
    in_world(|world| async move {
        let name = format!("main-{}", unique());
        let (staging, prod) = (Case::named(world, "staging", &name).await, Case::named(world, "prod", &name).await);
        let template = tiny(&name).replace(
            "Resources:\n",
            "Resources:\n  Layer: {Type: AWS::Lambda::LayerVersion, Properties: {Content: layer}}\n",
        );
        let build = tempfile::tempdir().unwrap();
        fs::create_dir(build.path().join("layer")).unwrap();
        fs::write(build.path().join("layer/text"), &name).unwrap();
        fs::write(build.path().join("template.yaml"), template).unwrap();
        slipway(world, &staging.job, build.path(), &["bundle"], &[]).green("slipway-bundle.zip");
        let bundle = build.path().join("slipway-bundle.zip");
        let bundle = ["--bundle", bundle.to_str().unwrap()];
        staging.ground.cloudformation.play(staging.absent());
        staging.runs("deploy", &bundle, &[]).green("Live: ");
        let url = staging.one("CreateChangeSet").field("TemplateURL").to_owned();
        let digest = url.split('/').rev().nth(1).unwrap().to_owned();
        let before = versions(world, &digest).await;
        assert_eq!(before.len(), 3, "a template, its manifest and a layer: {before:?}");

        let change = Change::add("Layer", "AWS::Lambda::LayerVersion");
        prod.ground.cloudformation.play(prod.absent().page([change]));
        let ran = prod.runs("deploy", &[&bundle[..], &["--until", "approval"]].concat(), &[]);
        ran.green("It was sent before: nothing to upload.");
        assert_eq!(prod.one("CreateChangeSet").field("TemplateURL"), url);
        assert_eq!(versions(world, &digest).await, before, "nothing was written again");
    });
}

/// All versions of a release's objects: none is written twice.
async fn versions(world: &World, release: &str) -> Vec<(String, String)> {
    let release = Digest::new(release).unwrap();
    let template = String::from_utf8(read(world, &template_key(&release)).await).unwrap();
    let artifacts = template.split("artifacts/").skip(1).map(|rest| rest.chars().take(64).collect::<String>());
    let mut found = Vec::new();
    for key in artifacts.map(|digest| artifact_key(&digest)).chain([template_key(&release), manifest_key(&release)]) {
        let listed = world.s3.list_object_versions().bucket(world.bucket()).prefix(key).send().await.unwrap();
        let version =
            |one: &aws_sdk_s3::types::ObjectVersion| Some((one.key()?.to_owned(), one.version_id()?.to_owned()));
        found.extend(listed.versions().iter().filter_map(version));
    }
    found
}

// ---- How it goes, and ends --------------------------------------------------------------------------------------------

/// The scripts' `|| true` and empty variables made an error of the API a success. (statuses.rs has those that pass: no deployment fails
/// because of them.)
#[test]
fn an_error_or_an_empty_answer_is_no_success() {
    in_world(|world| async move {
        let denied = Misbehaviour::Error(403, "AccessDenied");
        for (command, call, how) in [
            ("deploy", "DescribeStacks", denied),
            ("deploy", "DescribeStacks", Misbehaviour::Garbage),
            ("deploy", "CreateChangeSet", denied),
            ("deploy", "DescribeChangeSet", denied),
            ("deploy", "DescribeChangeSet", Misbehaviour::Empty),
            ("deploy", "ExecuteChangeSet", denied),
            ("teardown", "DescribeStacks", denied),
            ("teardown", "DescribeStacks", Misbehaviour::Empty),
        ] {
            let case = Case::new(world, "dev").await;
            let stack = case.found("CREATE_COMPLETE").fault(Fault::on(call, how).times(u32::MAX));
            case.ground.cloudformation.play(stack);
            case.runs(command, &[], &[]).red(&["Root cause: ", call]);
            let status = case.ground.cloudformation.with(&case.stack, |stack| stack.status.clone());
            assert_eq!(status.as_deref(), Some("CREATE_COMPLETE"));
        }
    });
}

/// The scripts waited for `*_COMPLETE` or `*ROLLBACK*`, and so for ever where a stack ends otherwise. (statuses.rs has all statuses.)
#[test]
fn every_status_that_is_an_end_ends_the_wait() {
    in_world(|world| async move {
        for status in ["UPDATE_FAILED", "IMPORT_COMPLETE", "IMPORT_ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_FAILED"] {
            let case = Case::new(world, "dev").await;
            let phases = [Phase::of("UPDATE_IN_PROGRESS"), Phase::of(status)];
            case.deploys(case.found("CREATE_COMPLETE").executing(phases)).red(&[status]);
        }
        for status in ["UPDATE_FAILED", "IMPORT_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"] {
            let case = Case::new(world, "dev").await;
            case.deploys(case.found(status)).green("Live: ");
        }
    });
}

/// The scripts began to wait before CloudFormation did, read the last update's `*_COMPLETE`, and were green.
#[test]
fn a_complete_of_before_is_no_end() {
    in_world(|world| async move {
        let case = Case::new(world, "dev").await;
        let before = Phase::of("UPDATE_COMPLETE").told([]).seen(LOOKS);
        let phases = [before, Phase::of("UPDATE_IN_PROGRESS"), Phase::of("UPDATE_ROLLBACK_COMPLETE")];
        let ran = case.deploys(case.found("UPDATE_COMPLETE").executing(phases));
        ran.red(&["UPDATE_ROLLBACK_COMPLETE"]);
    });
}

/// The scripts said "failed", and sent people to the console.
#[test]
fn a_failure_is_told_with_its_first_cause_and_what_to_do() {
    in_world(|world| async move {
        let case = Case::new(world, "dev").await;
        let failed = |name: &str, why: &str| Event::of_resource(name, "AWS::SQS::Queue", "UPDATE_FAILED").because(why);
        let told = [
            failed("Queue", "MessageRetentionPeriod is out of range"),
            failed("Other", "Resource update cancelled"),
            failed("Later", "there is no room for one more"),
            Event::of_stack("UPDATE_ROLLBACK_IN_PROGRESS")
                .because("The following resource(s) failed: [Later, Other, Queue]."),
            Event::of_stack("UPDATE_ROLLBACK_COMPLETE"),
        ];
        let phases = [Phase::of("UPDATE_IN_PROGRESS"), Phase::of("UPDATE_ROLLBACK_COMPLETE").told(told)];
        let ran = case.deploys(case.found("CREATE_COMPLETE").executing(phases));
        ran.red(&[&case.stack]);
        let cause: Vec<_> = ran.log.lines().filter(|line| line.starts_with("Root cause: ")).collect();
        assert!(cause.len() == 1 && cause[0].contains("Queue UPDATE_FAILED"), "{}", ran.log);
        assert!(cause[0].contains("MessageRetentionPeriod is out of range"), "{}", ran.log);
    });
}

// ---- GitLab -----------------------------------------------------------------------------------------------------------

/// The scripts' stop job read a file of the branch, which is gone when GitLab runs it. (With a stack of the embedded AWS: pipeline.rs.)
#[test]
fn a_stop_job_needs_no_file() {
    in_world(|world| async move {
        let branch = format!("Stop/{}", unique());
        let slug = branch.to_lowercase().replace('/', "-");
        let application = ApplicationName::new("news").unwrap();
        let on = On { application, ..on("dev", &format!("review/{slug}")) };
        let stub = &ground(world).await.cloudformation;
        stub.play(Stack::found(&stack_of(&on), DEV, "CREATE_COMPLETE"));
        let project = Project::empty(&[]);
        project.branch(&branch);
        let ran = project.run_in(world, &NewsJob::new("stop-dev", &branch, unique()), &["stop-dev"]);
        assert!(ran.code == 0 && ran.log.contains(&format!("Torn down: review/{slug}")), "{}", ran.log);
        let status = stub.with(&stack_of(&on), |stack| stack.status.clone());
        assert_eq!(status.as_deref(), Some("DELETE_COMPLETE"));
    });
}

/// The scripts' review URL was written into the pipeline, and led to where the application once was.
#[test]
fn the_review_url_is_the_one_that_the_stack_puts_out() {
    in_world(|world| async move {
        let resolved = Project::empty(&[]).resolved().await;
        let deploy = &resolved["deploy-dev"];
        assert_eq!(deploy["environment"]["url"], json!("$SLIPWAY_ENVIRONMENT_URL"));
        let report = deploy["artifacts"]["reports"]["dotenv"].as_str().unwrap().to_owned();
        let case = Case::new(world, "dev").await;
        for url in ["https://one.example.com/", "https://two.example.com/v2"] {
            case.deploys(case.found("CREATE_COMPLETE").output("Url", url)).green(url);
            let dotenv = fs::read_to_string(case.folder.path().join(&report)).unwrap();
            let told = format!("SLIPWAY_ENVIRONMENT_URL={url}");
            assert!(dotenv.lines().any(|line| line == told), "{dotenv}");
            fs::write(case.folder.path().join("template.yaml"), tiny("another")).unwrap();
        }
    });
}

// ---- Rights -----------------------------------------------------------------------------------------------------------

/// The scripts and their policies had `arn:aws:` in them, and worked in no other partition.
#[test]
fn every_arn_is_of_the_partition_that_it_is_used_in() {
    let root = workspace_root();
    let files = ["template.yaml", "setup/roles.yaml", "setup/gitlab.yaml"];
    let machines = ["statemachine/deploy.asl.json", "statemachine/teardown.asl.json"];
    for file in files.into_iter().chain(machines) {
        let text = fs::read_to_string(root.join(file)).unwrap();
        let computed = |arn: &str| arn.starts_with("${AWS::Partition}:") || arn.starts_with("${Partition}:");
        assert!(text.contains("arn:") && text.split("arn:").skip(1).all(computed), "{file}");
    }
    for (region, partition) in [("eu-central-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")] {
        let account = AccountId::new("123456789012").unwrap();
        let target = Target { account, region: Region::new(region).unwrap(), protected: false };
        let (stack, release) = (StackName::new("slipway-x").unwrap(), Digest::of(b""));
        let purposes = [
            Purpose::Look,
            Purpose::Create { bucket: "b", release: &release },
            Purpose::Execute { bucket: "b" },
            Purpose::Protect,
            Purpose::Discard,
            Purpose::Plan,
            Purpose::Delete,
            Purpose::Repair,
        ];
        let logs = ["/aws/lambda/x".to_owned()];
        let cleanups =
            [Cleanup::Bucket("b"), Cleanup::Repository("r"), Cleanup::LogGroups { names: &logs, delete: true }];
        let policies = purposes.into_iter().map(|purpose| session_policy(purpose, &target, &stack));
        let policies = policies.chain(cleanups.into_iter().map(|one| cleanup_policy(one, &target).unwrap()));
        for text in policies.chain([role_arn(&target, SERVICE_ROLE), role_arn(&target, DEPLOYMENT_ROLE)]) {
            let arns: Vec<_> = text.split("arn:").skip(1).collect();
            let ours = |arn: &&str| arn.starts_with(&format!("{partition}:"));
            assert!(!arns.is_empty() && arns.iter().all(ours), "{region}: {text}");
        }
    }
}

/// The scripts' sessions were all called the same, or by a number: CloudTrail did not tell whose they were.
#[test]
fn each_session_says_who_asked_and_by_which_pipeline() {
    in_world(|world| async move {
        let case = Case::new(world, "dev").await;
        let sessions = &case.ground.sessions;
        case.ground.cloudformation.play(case.absent());
        let ci = [("CI_PROJECT_ID", "101"), ("CI_JOB_ID", "4711"), ("AWS_ENDPOINT_URL_STS", &sessions.endpoint)];
        case.runs("deploy", &[], &ci).green("Live: ");
        let deployment = world.status(&case.job, &case.on).await.unwrap().deployment.unwrap().id;
        let entered = sessions.with("Policy", &case.stack);
        let calls: BTreeSet<_> = case.calls().into_iter().map(|call| call.session.unwrap()).collect();
        assert!(!calls.is_empty() && entered.len() >= calls.len(), "a session for each that CloudFormation saw");
        for session in entered {
            let said = |name: &str| session.get(name).map(String::as_str).unwrap_or_default();
            assert_eq!(said("RoleSessionName"), format!("slipway-{deployment}"));
            assert_eq!(said("SourceIdentity"), "dana");
            let tags = (1..).map_while(|at| {
                let part = |part: &str| session.get(&format!("Tags.member.{at}.{part}")).cloned();
                part("Key").zip(part("Value"))
            });
            let pipeline = case.job.job.pipeline_id.to_string();
            let expected = [("user", "dana"), ("project", "101"), ("pipeline", pipeline.as_str())];
            let expected = expected.map(|(name, value)| (format!("slipway:{name}"), value.to_owned()));
            assert_eq!(tags.collect::<BTreeMap<_, _>>(), BTreeMap::from(expected));
        }
        assert!(!sessions.with("RoleSessionName", "slipway-101-4711").is_empty(), "nor is the job's own anonymous");
    });
}

/// The scripts' role could pass any role to any service: with that, whoever can make a stack is an administrator.
#[test]
fn a_role_is_passed_by_its_name_and_to_a_named_service() {
    in_world(|world| async move {
        let mut found = BTreeMap::new();
        for account in [TOOLING, DEV, STAGING, PROD] {
            let roles = world.iam(account).list_roles().path_prefix("/slipway/").send().await.unwrap().roles;
            for role in &roles {
                for statement in allows(world, account, &role.role_name).await {
                    assert!(statement.get("NotAction").is_none(), "{}: {statement}", role.arn);
                    if !texts(&statement["Action"]).iter().any(|pattern| covers(pattern, "iam:PassRole")) {
                        continue;
                    }
                    let services = texts(&statement["Condition"]["StringEquals"]["iam:PassedToService"]);
                    let named = |service: &String| service.ends_with(".amazonaws.com") && !service.contains('*');
                    assert!(!services.is_empty() && services.iter().all(named), "{}: {statement}", role.arn);
                    let patterns = texts(&statement["Resource"]);
                    let passed = roles.iter().filter(|one| patterns.iter().any(|pattern| covers(pattern, &one.arn)));
                    let passed: Vec<_> = passed.map(|one| one.role_name.clone()).collect();
                    let to = services.iter().any(|service| service == "cloudformation.amazonaws.com");
                    found.insert((account, role.role_name.clone()), (passed, to));
                }
            }
        }
        let mut expected = BTreeMap::new();
        for account in [DEV, STAGING, PROD] {
            expected.insert((account, SERVICE_ROLE.to_owned()), (vec![DEPLOYMENT_ROLE.to_owned()], true));
            // Roles of applications, none of Slipway's own.
            expected.insert((account, DEPLOYMENT_ROLE.to_owned()), (vec![], false));
        }
        assert_eq!(found, expected, "which of Slipway's roles are passed, and whether to CloudFormation");
    });
}

/// What a role's policies, as they are deployed, allow.
async fn allows(world: &World, account: &str, role: &str) -> Vec<Value> {
    let iam = world.iam(account);
    let mut found = Vec::new();
    for policy in iam.list_role_policies().role_name(role).send().await.unwrap().policy_names {
        let policy = iam.get_role_policy().role_name(role).policy_name(policy).send().await.unwrap();
        let encoded = format!("policy={}", policy.policy_document.replace('+', "%2B"));
        let (_, text) = form_urlencoded::parse(encoded.as_bytes()).next().unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        let statements = document["Statement"].as_array().unwrap().iter();
        found.extend(statements.filter(|statement| statement["Effect"] == "Allow").cloned());
    }
    found
}

/// A text, or a list of texts, of a policy.
fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Whether a pattern of a policy, with stars, means `text`.
fn covers(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern.eq_ignore_ascii_case(text) };
    let rest = text.get(before.len()..).filter(|_| text.to_lowercase().starts_with(&before.to_lowercase()));
    rest.is_some_and(|rest| (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| covers(after, rest))))
}
