//! A teardown deletes what is the environment's, all of it, and nothing else: over the real machines on the embedded AWS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use serde_json::{Value, json};
use slipway_aws::target::{Targets, Visit};
use slipway_aws::{AwsError, Kind};
use slipway_domain::admission::Admission;
use slipway_domain::deployment::Deployment;
use slipway_domain::environment::EnvironmentState;
use slipway_domain::names::{AccountId, EnvironmentKey, ProjectId};
use slipway_domain::protocol::{Ask, On, PlanRequest, Status, TeardownRequest};
use slipway_domain::session_policy::Purpose;
use slipway_domain::teardown::{Becomes, Hindrance, Leftovers, Plan};
use slipway_local::job::{self as jobs, NewsJob};
use slipway_local::{DEV, STAGING, TOOLING, control_plane};
use slipway_tests::{Ended, Refused, World, clinging, in_world, job, on, tiny, unique};
use tokio::sync::OnceCell;

/// The stages' teardown policies, besides dev's.
const POLICIES: [(&str, &str); 3] =
    [("retains", r#"{"blocked": "retain"}"#), ("forces", r#"{"blocked": "force"}"#), ("images", r#"{"images": true}"#)];

/// Adds a stage for each policy, once.
async fn stages(world: &World) {
    static ADDED: OnceCell<()> = OnceCell::const_new();
    ADDED
        .get_or_init(|| async {
            let mut stages: Value = serde_json::from_str(&control_plane::stages()).unwrap();
            for (name, policy) in POLICIES {
                let policy: Value = serde_json::from_str(policy).unwrap();
                stages[name] = json!({"account": DEV, "ephemeral": true, "teardown": policy});
            }
            let config = world.control_plane.emulator.sdk_config(TOOLING);
            let name = world.control_plane.output("StagesParameterName");
            let put = aws_sdk_ssm::Client::new(&config).put_parameter().name(name).value(stages.to_string());
            put.overwrite(true).send().await.unwrap();
        })
        .await;
}

fn fresh(stage: &str) -> On {
    on(stage, &format!("review/td-{}", unique()))
}

fn feature() -> NewsJob {
    job("deploy-dev", "feature")
}

fn stop() -> NewsJob {
    job("stop", "feature")
}

/// A live environment of `template`: its stack's name.
async fn live(world: &World, on: &On, template: &str) -> String {
    let ended = world.deploy(&feature(), on, template).await;
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
    world.status(&feature(), on).await.unwrap().stack_name.to_string()
}

/// What nests [`live_nested`]'s child; its end is open.
const NESTED: &str = "{Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: child.yaml}";

/// A live environment of the resources of a template in which the template `child` is nested: its stack's name.
async fn live_nested(world: &World, on: &On, resources: &str, child: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("child.yaml"), child).unwrap();
    let opened = slipway_bundle::Folder::open(folder.path(), &slipway_bundle::Limits::default()).unwrap();
    let template = format!("Resources:\n{resources}");
    let tree = opened.tree(&["child.yaml".to_owned()], Some(template.as_bytes())).unwrap();
    let mut zip = Vec::new();
    tree.write_zip(&mut zip).unwrap();
    let digest = slipway_domain::names::Digest::new(tree.listing().digest().as_str()).unwrap();
    let arn = world.begin_launch(&feature(), on, slipway_tests::launch(&digest), zip).await;
    green(&world.end(&arn).await);
    status(world, on).await.stack_name.to_string()
}

fn s3(world: &World) -> aws_sdk_s3::Client {
    aws_sdk_s3::Client::new(&world.control_plane.emulator.sdk_config(DEV))
}

/// The physical id of a resource of a stack in dev.
async fn physical(world: &World, stack: &str, logical_id: &str) -> String {
    let request = world.cloudformation(DEV).describe_stack_resource().stack_name(stack);
    let found = request.logical_resource_id(logical_id).send().await.unwrap().stack_resource_detail.unwrap();
    found.physical_resource_id.unwrap()
}

async fn put(world: &World, bucket: &str, key: &str) {
    s3(world).put_object().bucket(bucket).key(key).body(b"text".to_vec().into()).send().await.unwrap();
}

/// Makes a bucket with objects, old versions, delete markers and an unfinished upload.
async fn fill(world: &World, bucket: &str) {
    let client = s3(world);
    let versioned = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    client.put_bucket_versioning().bucket(bucket).versioning_configuration(versioned).send().await.unwrap();
    for key in ["one", "two", "a/b c&<d>", "one"] {
        put(world, bucket, key).await;
    }
    client.delete_object().bucket(bucket).key("two").send().await.unwrap();
    client.delete_object().bucket(bucket).key("never there").send().await.unwrap();
    client.create_multipart_upload().bucket(bucket).key("unfinished").send().await.unwrap();
}

/// How many versions and delete markers are in a bucket of dev; nothing when there is no such bucket.
async fn count(world: &World, bucket: &str) -> Option<usize> {
    let listed = s3(world).list_object_versions().bucket(bucket).send().await.ok()?;
    Some(listed.versions().len() + listed.delete_markers().len())
}

async fn status(world: &World, on: &On) -> Status {
    world.status(&feature(), on).await.unwrap()
}

/// What a teardown of the environment would do.
async fn plan(world: &World, on: &On) -> Result<Plan, Refused> {
    let ask = Ask::PlanTeardown(PlanRequest { on: on.clone() });
    let answer = world.ask(&world.token(&stop()), ask).await?;
    Ok(serde_json::from_value(answer).unwrap())
}

fn green(ended: &Ended) {
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
}

const BUCKETS: &str = "\
Resources:
  Uploads: {Type: AWS::S3::Bucket}
  Keeps: {Type: AWS::S3::Bucket, DeletionPolicy: Retain}
  Plain: {Type: AWS::S3::Bucket, DeletionPolicy: Delete}
";

#[test]
fn what_is_the_stacks_own_is_emptied_and_nothing_else() {
    in_world(|world| async move {
        let on = fresh("dev");
        let stack = live(world, &on, BUCKETS).await;
        let (uploads, keeps) = (physical(world, &stack, "Uploads").await, physical(world, &stack, "Keeps").await);
        let shorter: String = uploads.chars().take(uploads.len() - 2).collect();
        let decoys = [format!("{shorter}-2"), format!("{stack}-uploads")];
        for decoy in &decoys {
            let region = aws_sdk_s3::types::BucketLocationConstraint::from(slipway_local::REGION);
            let place = aws_sdk_s3::types::CreateBucketConfiguration::builder().location_constraint(region).build();
            s3(world).create_bucket().bucket(decoy).create_bucket_configuration(place).send().await.unwrap();
            put(world, decoy, "precious").await;
        }
        fill(world, &uploads).await;
        put(world, &keeps, "kept").await;
        let ended = world.teardown(&stop(), &on).await;
        green(&ended);
        assert_eq!(world.stack_status(DEV, &feature(), &on).await, None);
        assert_eq!(count(world, &uploads).await, None, "the bucket is gone");
        assert_eq!(count(world, &keeps).await, Some(1), "what CloudFormation keeps is never emptied");
        for decoy in &decoys {
            assert_eq!(count(world, decoy).await, Some(1), "{decoy}");
        }
        let status = status(world, &on).await;
        assert_eq!(status.state, EnvironmentState::TornDown);
        let deployment = status.deployment.unwrap();
        assert_eq!(deployment.said, [format!("Emptied the bucket {uploads}.")]);
        let left: Vec<_> = deployment.leftovers.retained.iter().map(|left| left.physical_id.as_str()).collect();
        assert_eq!(left, [keeps.as_str()]);
        let command = format!("aws s3 rb --force s3://{keeps} --region eu-central-1");
        assert_eq!(deployment.leftovers.retained[0].command.as_deref(), Some(command.as_str()));
    });
}

#[test]
fn a_bucket_of_many_pages_is_emptied() {
    in_world(|world| async move {
        let on = fresh("dev");
        let stack = live(world, &on, BUCKETS).await;
        let uploads = physical(world, &stack, "Uploads").await;
        let versioned = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let client = s3(world);
        client.put_bucket_versioning().bucket(&uploads).versioning_configuration(versioned).send().await.unwrap();
        for page in 0..12 {
            let puts =
                (0..100).map(|n| put(world, &uploads, if n % 3 == 0 { "same" } else { "other" }.trim_end_matches(' ')));
            futures::future::join_all(puts).await;
            put(world, &uploads, &format!("page-{page}")).await;
        }
        assert!(count(world, &uploads).await.unwrap() >= 1000, "more than a page");
        green(&world.teardown(&stop(), &on).await);
        assert_eq!(count(world, &uploads).await, None);
    });
}

/// That a bucket has to be emptied first is CloudFormation's rule, here as on AWS.
#[test]
fn cloudformation_deletes_no_bucket_that_holds_anything() {
    in_world(|world| async move {
        let on = fresh("dev");
        let stack = live(world, &on, BUCKETS).await;
        let uploads = physical(world, &stack, "Uploads").await;
        fill(world, &uploads).await;
        s3(world).delete_object().bucket(&uploads).key("one").send().await.unwrap();
        let client = world.cloudformation(DEV);
        client.delete_stack().stack_name(&stack).send().await.unwrap();
        let events = client.describe_stack_events().stack_name(&stack).send().await.unwrap();
        let reasons: Vec<_> = events.stack_events().iter().filter_map(|event| event.resource_status_reason()).collect();
        assert!(reasons.iter().any(|reason| reason.contains("is not empty")), "{reasons:?}");
        assert_eq!(world.stack_status(DEV, &feature(), &on).await.as_deref(), Some("DELETE_FAILED"));
        // What somebody else's deletion failed at is no obstacle.
        green(&world.teardown(&stop(), &on).await);
        assert_eq!(count(world, &uploads).await, None);
    });
}

#[test]
fn what_is_in_a_nested_stack_is_emptied_too() {
    in_world(|world| async move {
        let on = fresh("dev");
        let stack = live_nested(
            world,
            &on,
            &format!("  Goes: {NESTED}}}\n  Stays: {NESTED}, DeletionPolicy: Retain}}\n"),
            BUCKETS,
        )
        .await;
        let (goes, stays) = (physical(world, &stack, "Goes").await, physical(world, &stack, "Stays").await);
        let (gone, kept) = (physical(world, &goes, "Uploads").await, physical(world, &stays, "Uploads").await);
        fill(world, &gone).await;
        fill(world, &kept).await;
        let before = count(world, &kept).await;
        let seen = plan(world, &on).await.unwrap();
        let becomes = |name: &str| seen.resources.iter().find(|resource| resource.name() == name).unwrap().becomes;
        assert_eq!(
            [becomes("Goes.Uploads"), becomes("Goes.Keeps"), becomes("Stays"), becomes("Stays.Uploads")],
            [Becomes::Emptied, Becomes::Retained, Becomes::Retained, Becomes::Retained]
        );
        green(&world.teardown(&stop(), &on).await);
        assert_eq!((count(world, &gone).await, count(world, &kept).await), (None, before));
        let left = status(world, &on).await.deployment.unwrap().leftovers.retained;
        let names: Vec<_> = left.iter().map(|left| left.name.as_str()).collect();
        assert_eq!(names, ["Stays", "Goes.Keeps"], "what is in a stack that stays is not named by itself");
    });
}

#[test]
fn what_cannot_be_deleted_is_the_stages_to_decide() {
    in_world(|world| async move {
        stages(world).await;
        for stage in ["dev", "retains", "forces"] {
            let on = fresh(stage);
            let stack = live(world, &on, &clinging("clings")).await;
            let ended = world.teardown(&stop(), &on).await;
            let status = status(world, &on).await;
            let deployment = status.deployment.unwrap();
            let tried = "Something could not be deleted: trying once more.".to_owned();
            if stage == "dev" {
                assert_eq!(ended.error, "StackFailed", "{ended:?}");
                for says in [&stack, "DELETE_FAILED", "Thing", "slipway teardown"] {
                    assert!(ended.cause.contains(says), "{says}: {ended:?}");
                }
                assert_eq!(deployment.said, [tried]);
                assert!(deployment.leftovers.is_empty(), "the stack is still there");
                assert_eq!(world.stack_status(DEV, &feature(), &on).await.as_deref(), Some("DELETE_FAILED"));
                assert!(world.lease_is_free(&on).await);
                continue;
            }
            green(&ended);
            assert_eq!(status.state, EnvironmentState::TornDown, "{stage}");
            assert_eq!(world.stack_status(DEV, &feature(), &on).await, None, "{stage}");
            let then = match stage {
                "retains" => "Going on without what cannot be deleted: Thing.",
                _ => "CloudFormation is told to keep what it cannot delete, and what that depends on.",
            };
            assert_eq!(deployment.said, [tried, then.to_owned()], "{stage}");
            // By force, what it depends on stays, too.
            let stays: &[&str] =
                if stage == "retains" { &["Thing"] } else { &["Maker", "MakerRole", "Setting", "Thing"] };
            assert_eq!(left(&deployment.leftovers), stays, "{stage}");
        }
    });
}

/// The names of the resources that stay.
fn left(leftovers: &Leftovers) -> Vec<&str> {
    leftovers.retained.iter().map(|left| left.name.as_str()).collect()
}

#[test]
fn what_stays_in_a_nested_stack_is_said_and_keeps_its_logs() {
    in_world(|world| async move {
        stages(world).await;
        let named: [(&str, bool, &[&str]); 3] = [
            ("forces", false, &["Maker", "MakerRole", "Setting", "Thing"]),
            ("forces", true, &["Child.Maker", "Child.MakerRole", "Child.Setting", "Child.Thing"]),
            ("retains", true, &["Child"]),
        ];
        for (stage, nested, stays) in named {
            let on = fresh(stage);
            let holds_maker = if nested {
                let stack = live_nested(world, &on, &format!("  Child: {NESTED}}}\n"), &clinging("clings")).await;
                physical(world, &stack, "Child").await
            } else {
                live(world, &on, &clinging("clings")).await
            };
            // It was called, and so has written a log.
            let group = format!("/aws/lambda/{}", physical(world, &holds_maker, "Maker").await);
            green(&purge(world, &on).await);
            assert_eq!(world.stack_status(DEV, &feature(), &on).await, None);
            let leftovers = status(world, &on).await.deployment.unwrap().leftovers;
            assert_eq!(left(&leftovers), stays, "{stage}");
            assert_eq!(groups(world, &group).await, [group], "{stage}: its function is still there");
            assert_eq!((leftovers.purged, leftovers.log_groups), (vec![], vec![]), "{stage}");
        }
    });
}

/// Asks EC2 in dev: what it answers under `wanted`.
async fn ec2(world: &World, action: &str, parameters: &str, wanted: &str) -> String {
    let scope = format!("{DEV}/20260101/{}/ec2/aws4_request", slipway_local::REGION);
    let request = reqwest::Client::new().post(world.control_plane.emulator.endpoint());
    let request = request
        .header("authorization", format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let answer = request.body(format!("Action={action}&Version=2016-11-15&{parameters}")).send().await.unwrap();
    let text = answer.text().await.unwrap();
    let (_, rest) = text.split_once(&format!("<{wanted}>")).unwrap_or_else(|| panic!("{text}"));
    rest.split('<').next().unwrap().to_owned()
}

/// Lambda gives back the interfaces of a function in a VPC long after the function is gone.
#[test]
fn network_interfaces_are_waited_for() {
    in_world(|world| async move {
        let on = fresh("dev");
        let group =
            "Resources:\n  Group: {Type: AWS::EC2::SecurityGroup, Properties: {GroupDescription: of functions}}\n";
        let stack = live(world, &on, group).await;
        let id = physical(world, &stack, "Group").await;
        let group = format!("SecurityGroupId.1={id}");
        let interface = ec2(world, "CreateNetworkInterface", &group, "networkInterfaceId").await;
        let request = TeardownRequest { on: on.clone(), job: "stop".into(), purge_logs: false };
        let stopping = stop();
        let admitted = world.ask(&world.token(&stopping), Ask::Teardown(request)).await.unwrap();
        let arn = world.start_admitted(&serde_json::from_value(admitted).unwrap(), &stopping).await;
        let waits = ["Network interfaces are still in use: waiting until Lambda gives them back."];
        let told = async || status(world, &on).await.deployment.unwrap();
        let began = std::time::Instant::now();
        while told().await.said != waits {
            assert!(began.elapsed().as_secs() < 60, "it waits for nothing: {:?}", told().await);
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert!(world.stack_status(DEV, &feature(), &on).await.is_some());
        let interface = format!("NetworkInterfaceId={interface}");
        assert_eq!(ec2(world, "DeleteNetworkInterface", &interface, "return").await, "true");
        green(&world.end(&arn).await);
        let ended = told().await;
        // Stage dev lets a teardown fail at what blocks: nothing was forced, nothing is left.
        assert_eq!((ended.said, ended.leftovers), (waits.map(str::to_owned).to_vec(), Leftovers::default()));
        assert_eq!(world.stack_status(DEV, &feature(), &on).await, None);
    });
}

#[test]
fn what_others_import_or_a_person_protects_is_not_touched() {
    in_world(|world| async move {
        let export = format!("export-{}", unique());
        let template =
            format!("{BUCKETS}Outputs:\n  Shared:\n    Value: !Ref Uploads\n    Export: {{Name: {export}}}\n");
        let on = fresh("dev");
        let stack = live(world, &on, &template).await;
        let uploads = physical(world, &stack, "Uploads").await;
        fill(world, &uploads).await;
        let before = count(world, &uploads).await;
        let client = world.cloudformation(DEV);
        let importer = format!("importer-{}", unique());
        let body = format!(
            "Resources:\n  Setting:\n    Type: AWS::SSM::Parameter\n    Properties: {{Type: String, Value: !ImportValue {export}}}\n"
        );
        client.create_stack().stack_name(&importer).template_body(body).send().await.unwrap();
        let hindrance = Hindrance::Imported { export: export.clone(), by: vec![importer.clone()] };
        assert_eq!(plan(world, &on).await.unwrap().hindrances, [hindrance]);
        let ended = world.teardown(&stop(), &on).await;
        assert_eq!(ended.error, "StackNeedsRepair", "{ended:?}");
        assert!(ended.cause.contains(&importer) && ended.cause.contains(&export), "{ended:?}");
        assert_eq!(count(world, &uploads).await, before, "nothing was emptied");

        client.delete_stack().stack_name(&importer).send().await.unwrap();
        let protect = client.update_termination_protection().stack_name(&stack).enable_termination_protection(true);
        protect.send().await.unwrap();
        assert_eq!(plan(world, &on).await.unwrap().hindrances, [Hindrance::TerminationProtection]);
        let ended = world.teardown(&stop(), &on).await;
        assert_eq!(ended.error, "StackNeedsRepair", "{ended:?}");
        let command = format!("--no-enable-termination-protection --stack-name {stack} --region eu-central-1");
        assert!(ended.cause.contains(&command), "{ended:?}");
        assert_eq!(count(world, &uploads).await, before, "nothing was emptied");
        let found = client.describe_stacks().stack_name(&stack).send().await.unwrap();
        assert_eq!(found.stacks()[0].enable_termination_protection(), Some(true), "it is never switched off");

        let lift = client.update_termination_protection().stack_name(&stack).enable_termination_protection(false);
        lift.send().await.unwrap();
        green(&world.teardown(&stop(), &on).await);
    });
}

#[test]
fn what_is_gone_already_is_green() {
    in_world(|world| async move {
        green(&world.teardown(&stop(), &fresh("dev")).await);

        let on = fresh("dev");
        let stack = live(world, &on, BUCKETS).await;
        world.cloudformation(DEV).delete_stack().stack_name(&stack).send().await.unwrap();
        green(&world.teardown(&stop(), &on).await);
        assert_eq!(status(world, &on).await.state, EnvironmentState::TornDown);

        let on = fresh("dev");
        let stack = live(world, &on, BUCKETS).await;
        let uploads = physical(world, &stack, "Uploads").await;
        s3(world).delete_bucket().bucket(&uploads).send().await.unwrap();
        green(&world.teardown(&stop(), &on).await);
        assert_eq!(world.stack_status(DEV, &feature(), &on).await, None);
    });
}

#[test]
fn a_teardown_and_a_deployment_at_once_come_one_after_the_other() {
    in_world(|world| async move {
        let on = fresh("dev");
        live(world, &on, &tiny("before")).await;
        let request = TeardownRequest { on: on.clone(), job: "stop".into(), purge_logs: false };
        let stopping = stop();
        let admitted = world.ask(&world.token(&stopping), Ask::Teardown(request)).await.unwrap();
        let teardown = world.start_admitted(&serde_json::from_value(admitted).unwrap(), &stopping).await;
        let deploy = world.begin(&feature(), &on, &tiny("after")).await;
        let (torn, deployed) = (world.end(&teardown).await, world.end(&deploy).await);
        green(&torn);
        green(&deployed);
        // Whichever came last, the record and the stack say the same.
        let there = world.stack_status(DEV, &feature(), &on).await;
        match status(world, &on).await.state {
            EnvironmentState::Live => assert!(there.is_some()),
            EnvironmentState::TornDown => assert_eq!(there, None),
            state @ (EnvironmentState::New | EnvironmentState::Failed) => panic!("{state:?}, {there:?}"),
        }
    });
}

/// The log groups of dev whose names begin so.
async fn groups(world: &World, prefix: &str) -> Vec<String> {
    let client = aws_sdk_cloudwatchlogs::Client::new(&world.control_plane.emulator.sdk_config(DEV));
    let found = client.describe_log_groups().log_group_name_prefix(prefix).send().await.unwrap();
    found.log_groups().iter().filter_map(|group| group.log_group_name().map(str::to_owned)).collect()
}

/// Tears an environment down with its log groups, to the end.
async fn purge(world: &World, on: &On) -> Ended {
    let (request, stopping) = (TeardownRequest { on: on.clone(), job: "stop".into(), purge_logs: true }, stop());
    let admitted = world.ask(&world.token(&stopping), Ask::Teardown(request)).await.unwrap();
    let arn = world.start_admitted(&serde_json::from_value(admitted).unwrap(), &stopping).await;
    world.end(&arn).await
}

#[test]
fn log_groups_are_told_of_or_purged() {
    in_world(|world| async move {
        for purge_logs in [false, true] {
            let on = fresh("dev");
            // Its function was called, and so has written a log.
            let stack = live(world, &on, &slipway_tests::unyielding("logs", false)).await;
            let group = format!("/aws/lambda/{}", physical(world, &stack, "Maker").await);
            assert_eq!(groups(world, &group).await, std::slice::from_ref(&group));
            let neighbour = format!("{group}-2");
            let client = aws_sdk_cloudwatchlogs::Client::new(&world.control_plane.emulator.sdk_config(DEV));
            client.create_log_group().log_group_name(&neighbour).send().await.unwrap();
            green(&if purge_logs { purge(world, &on).await } else { world.teardown(&stop(), &on).await });
            let left = status(world, &on).await.deployment.unwrap().leftovers;
            if purge_logs {
                assert_eq!((left.purged, left.log_groups), (vec![group.clone()], vec![]));
                assert_eq!(groups(world, &group).await, [neighbour]);
            } else {
                assert_eq!(groups(world, &group).await, [group.clone(), neighbour]);
                assert_eq!(left.log_groups.len(), 1, "{left:?}");
                let command = format!("aws logs delete-log-group --log-group-name {group} --region eu-central-1");
                assert_eq!(left.log_groups[0].command.as_deref(), Some(command.as_str()));
            }
        }
    });
}

#[test]
fn images_are_the_stages_to_decide() {
    in_world(|world| async move {
        stages(world).await;
        let client = aws_sdk_ecr::Client::new(&world.control_plane.emulator.sdk_config(DEV));
        for stage in ["images", "dev"] {
            let on = fresh(stage);
            let stack = live(world, &on, "Resources:\n  Images: {Type: AWS::ECR::Repository}\n").await;
            let name = physical(world, &stack, "Images").await;
            for tag in ["one", "two"] {
                let manifest = json!({"schemaVersion": 2, "config": {"digest": tag}, "layers": []}).to_string();
                let image = client.put_image().repository_name(&name).image_tag(tag).image_manifest(manifest);
                image.send().await.unwrap();
            }
            let ended = world.teardown(&stop(), &on).await;
            let there = client.list_images().repository_name(&name).send().await.ok();
            if stage == "images" {
                green(&ended);
                assert!(there.is_none(), "{there:?}");
            } else {
                assert_eq!(ended.error, "StackFailed", "{ended:?}");
                assert_eq!(there.unwrap().image_ids().len(), 2, "no image is deleted without the stage's word");
            }
        }
    });
}

#[test]
fn a_plan_changes_nothing_and_waits_for_nobody() {
    in_world(|world| async move {
        let on = fresh("dev");
        let stack = live(world, &on, BUCKETS).await;
        let uploads = physical(world, &stack, "Uploads").await;
        fill(world, &uploads).await;
        let (before, row) = (count(world, &uploads).await, world.row(&on, "META").await);
        let lease =
            json!({"owner": "01a20632-4446-7cc2-a162-1ba210a234b5", "until": "2100-01-01T00:00:00Z", "fence": 7});
        world.put_row(&on, "LEASE", &lease).await;
        let folder = tempfile::tempdir().unwrap();
        let environment = on.environment.to_string();
        let args = ["teardown", "--stage", "dev", "--application", "tiny", "--environment", &environment, "--dry-run"];
        let ran = jobs::run(&world.control_plane, &stop(), folder.path(), &args, |_| {}).await.unwrap();
        assert_eq!(ran.code, 0, "{}", ran.log);
        for says in ["emptied and deleted  Uploads", "retained             Keeps", "holds data", "Nothing was changed."]
        {
            assert!(ran.log.contains(says), "{says}: {}", ran.log);
        }
        assert_eq!(count(world, &uploads).await, before);
        assert_eq!(world.row(&on, "META").await, row);
        assert_eq!(world.row(&on, "LEASE").await.unwrap(), lease, "whoever holds it holds it");
        assert_eq!(plan(world, &fresh("dev")).await.unwrap_err().name, "NotFound");
        let protected = slipway_tests::on("staging", &format!("td-{}", unique()));
        green(&world.deploy(&job("deploy", "main"), &protected, &tiny("kept")).await);
        let ask = Ask::PlanTeardown(PlanRequest { on: protected });
        let seen = world.ask(&world.token(&job("stop", "main")), ask).await.unwrap();
        let seen: Plan = serde_json::from_value(seen).unwrap();
        assert!(seen.hindrances.contains(&Hindrance::Protected), "{seen:?}");
        assert!(seen.resources.iter().all(|resource| resource.becomes == Becomes::Kept), "{seen:?}");
    });
}

#[test]
fn a_stop_job_needs_no_checkout() {
    in_world(|world| async move {
        let on = fresh("dev");
        let stack = live(world, &on, BUCKETS).await;
        let keeps = physical(world, &stack, "Keeps").await;
        let folder = tempfile::tempdir().unwrap();
        let environment = on.environment.to_string();
        let args = ["teardown", "--stage", "dev", "--application", "tiny", "--environment", &environment];
        let ran = jobs::run(&world.control_plane, &stop(), folder.path(), &args, |_| {}).await.unwrap();
        assert_eq!(ran.code, 0, "{}", ran.log);
        let command = format!("    aws s3 rb --force s3://{keeps} --region eu-central-1");
        assert!(ran.log.contains("Torn down: ") && ran.log.contains(&command), "{}", ran.log);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is written, either");
    });
}

// --- the three walls before a protected stage, each while the other two are open ------------------------------------------

const DELETES: &str =
    r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "cloudformation:*", "Resource": "*"}]}"#;

/// Who opens a wall of staging's account, or relies on it.
static STAGINGS_WALL: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The first: the domain. Somebody started the teardown of a protected stack past `api`, and its account lets SharedServiceRole delete.
/// (A session policy of a protected target cannot be had otherwise: it is made by the same flag.)
#[test]
fn the_function_itself_refuses_what_is_protected() {
    in_world(|world| async move {
        let _wall = STAGINGS_WALL.lock().await;
        let (deployer, on) = (job("deploy", "main"), on("staging", &format!("td-{}", unique())));
        green(&world.deploy(&deployer, &on, BUCKETS).await);
        let iam = world.iam(STAGING);
        let open = iam.put_role_policy().role_name("SharedServiceRole").policy_name("open").policy_document(DELETES);
        open.send().await.unwrap();
        let On { application, stage, environment } = on.clone();
        let key = EnvironmentKey { project: ProjectId(101), application, stage, environment };
        let now = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        let forged = Admission {
            admitted_at: "2100-01-01T00:00:00Z".parse().unwrap(),
            ..Admission::of_sweep(&key, now, 0, now)
        };
        world.put_admission(&forged).await;
        let machine = world.control_plane.output("TeardownMachine");
        let start = world.machines.start_execution().state_machine_arn(machine).name(forged.execution_name(1));
        let started = start.input(json!({"admission": forged.id, "attempt": 1}).to_string()).send().await.unwrap();
        let ended = world.end(started.execution_arn()).await;
        iam.delete_role_policy().role_name("SharedServiceRole").policy_name("open").send().await.unwrap();
        assert_eq!(ended.error, "StageProtected", "{ended:?}");
        assert_eq!(world.stack_status(STAGING, &deployer, &on).await.as_deref(), Some("CREATE_COMPLETE"));
    });
}

/// What the function `teardown` reaches target accounts with.
async fn as_teardown(world: &World) -> Targets {
    let role = format!("arn:aws:iam::{TOOLING}:role/slipway/slipway-teardown");
    let trust = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
        {"Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{TOOLING}:root")}, "Action": "sts:AssumeRole"},
    ]});
    let update = world.iam(TOOLING).update_assume_role_policy().role_name("slipway-teardown");
    update.policy_document(trust.to_string()).send().await.unwrap();
    let tooling = world.control_plane.emulator.sdk_config(TOOLING);
    let session = aws_sdk_sts::Client::new(&tooling).assume_role().role_arn(role).role_session_name("test");
    let keys = session.send().await.unwrap().credentials.unwrap();
    let token = Some(keys.session_token);
    let keys = aws_credential_types::Credentials::new(keys.access_key_id, keys.secret_access_key, token, None, "test");
    let provider = aws_credential_types::provider::SharedCredentialsProvider::new(keys);
    Targets::new(&tooling.into_builder().credentials_provider(provider).build(), control_plane::EXTERNAL_ID)
}

/// The deployment that made an environment live, as a teardown of it would be in `account`.
async fn teardown_of(world: &World, on: &On, branch: &str, account: &str, protected: bool) -> Deployment {
    let id = world.status(&job("look", branch), on).await.unwrap().deployment.unwrap().id;
    let row = world.row(on, &format!("DEPLOY#{id}")).await.unwrap();
    let mut deployment: Deployment = serde_json::from_value(row["deployment"].clone()).unwrap();
    deployment.target.account = AccountId::new(account).unwrap();
    deployment.target.protected = protected;
    deployment
}

async fn delete(targets: &Targets, deployment: &Deployment) -> Result<(), AwsError> {
    let stack = targets.stack(deployment, Purpose::Delete).await?;
    let id = stack.describe(None).await?.unwrap().id;
    stack.delete(&id, "test").await
}

/// The second: the session policy. The stack lives in an account whose roles may delete, and nobody asks the domain.
#[test]
fn a_session_for_what_is_protected_deletes_nothing() {
    in_world(|world| async move {
        let on = fresh("dev");
        let stack = live(world, &on, BUCKETS).await;
        let uploads = physical(world, &stack, "Uploads").await;
        put(world, &uploads, "precious").await;
        let targets = as_teardown(world).await;
        let protected = teardown_of(world, &on, "feature", DEV, true).await;
        let refused = delete(&targets, &protected).await.unwrap_err();
        assert_eq!((refused.kind, refused.call), (Kind::Denied, "cloudformation:DeleteStack"), "{refused}");
        let refused = targets.bucket(&Visit::of(&protected), &uploads).await.unwrap_err();
        assert_eq!(refused.kind, Kind::Denied, "{refused}");
        assert_eq!(count(world, &uploads).await, Some(1));
        // Without the flag, the same deletes: nothing else stood in the way.
        let open = teardown_of(world, &on, "feature", DEV, false).await;
        targets.bucket(&Visit::of(&open), &uploads).await.unwrap().page().await.unwrap();
        assert_eq!(count(world, &uploads).await, Some(0));
        delete(&targets, &open).await.unwrap();
        assert_eq!(world.stack_status(DEV, &feature(), &on).await, None);
    });
}

/// The third: the roles of a protected account. Domain and session policy are told that it is none.
#[test]
fn the_roles_of_a_protected_account_delete_nothing() {
    in_world(|world| async move {
        let _wall = STAGINGS_WALL.lock().await;
        let on = on("staging", &format!("td-{}", unique()));
        green(&world.deploy(&job("deploy", "main"), &on, BUCKETS).await);
        let targets = as_teardown(world).await;
        let open = teardown_of(world, &on, "main", STAGING, false).await;
        let client = world.cloudformation(STAGING);
        let lift = client.update_termination_protection().stack_name(open.stack_name.as_str());
        lift.enable_termination_protection(false).send().await.unwrap();
        let refused = delete(&targets, &open).await.unwrap_err();
        assert_eq!((refused.kind, refused.call), (Kind::Denied, "cloudformation:DeleteStack"), "{refused}");
        let refused = targets.bucket(&Visit::of(&open), "slipway-any").await.unwrap_err();
        assert_eq!(refused.call, "sts:AssumeRole", "there is no cleanup role: {refused}");
        assert_eq!(world.stack_status(STAGING, &job("look", "main"), &on).await.as_deref(), Some("CREATE_COMPLETE"));
    });
}
