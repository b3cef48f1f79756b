//! `slipway doctor` against the running control plane: whole, and with one thing broken at a time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

use std::sync::LazyLock;
use std::time::Duration;

use aws_sdk_s3::types::{
    ServerSideEncryption, ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration, ServerSideEncryptionRule,
};
use serde_json::{Value, json};
use slipway_local::job as jobs;
use slipway_local::{DEV, PROD, REGION, STAGING, TOOLING, workspace_root};
use slipway_tests::{World, in_world, job};
use tokio::sync::Mutex;

/// The tests break what they share, and put it right again.
static ALONE: LazyLock<Mutex<()>> = LazyLock::new(Mutex::default);

const SERVICE_ROLE: &str = "SharedServiceRole";

/// What `slipway doctor` says, and its exit code.
async fn doctor(world: &World, arguments: &[&str], variables: &[(String, String)]) -> (Value, Option<i32>) {
    let mut command = tokio::process::Command::new(jobs::command_path());
    command.arg("doctor").arg("--json").args(arguments).env_clear().envs(variables.iter().cloned());
    command.env("AWS_ENDPOINT_URL", world.control_plane.emulator.endpoint()).env("AWS_REGION", REGION);
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    (serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}{stderr}")), output.status.code())
}

/// The same with a person's credentials in the control plane's account.
async fn as_person(world: &World) -> (Value, Option<i32>) {
    let variables = [("AWS_ACCESS_KEY_ID", TOOLING), ("AWS_SECRET_ACCESS_KEY", "test")];
    doctor(world, &[], &variables.map(|(name, value)| (name.to_owned(), value.to_owned()))).await
}

/// The lines of `document` that are not ok: what was looked at, what was found and what to do.
fn amiss(document: &Value) -> Vec<[String; 3]> {
    let findings = document["findings"].as_array().unwrap();
    let amiss = findings.iter().filter(|finding| finding["verdict"] != "ok");
    amiss.map(|it| ["check", "found", "what_to_do"].map(|field| it[field].as_str().unwrap().to_owned())).collect()
}

/// Sees the one line that is broken, and that everything else still is looked at.
async fn broken(world: &World, whole: &Value, check: &str, found: &str, what_to_do: &str) {
    let (document, code) = as_person(world).await;
    assert_eq!(code, Some(1), "{document:#}");
    let amiss = amiss(&document);
    let [line] = amiss.as_slice() else { panic!("{check}: {amiss:#?}") };
    assert!(line[0].contains(check) && line[1].contains(found) && line[2].contains(what_to_do), "{line:#?}");
    let number = |document: &Value| document["findings"].as_array().unwrap().len();
    assert_eq!(number(&document), number(whole));
}

fn iam(world: &World, account: &str) -> aws_sdk_iam::Client {
    aws_sdk_iam::Client::new(&world.control_plane.emulator.sdk_config(account))
}

/// Who may assume the role in dev, as IAM has it.
async fn trust(iam: &aws_sdk_iam::Client) -> Value {
    let role = iam.get_role().role_name(SERVICE_ROLE).send().await.unwrap().role.unwrap();
    let pair = format!("policy={}", role.assume_role_policy_document.unwrap());
    serde_json::from_str(&form_urlencoded::parse(pair.as_bytes()).next().unwrap().1).unwrap()
}

async fn set_trust(iam: &aws_sdk_iam::Client, trust: &Value) {
    let update = iam.update_assume_role_policy().role_name(SERVICE_ROLE).policy_document(trust.to_string());
    update.send().await.unwrap();
}

#[test]
fn a_whole_control_plane_is_well() {
    in_world(|world| async move {
        let _alone = ALONE.lock().await;
        let (document, code) = as_person(world).await;
        assert_eq!((code, &document["ok"], amiss(&document).as_slice()), (Some(0), &json!(true), [].as_slice()));
        let checks: Vec<_> =
            document["findings"].as_array().unwrap().iter().map(|it| it["check"].as_str().unwrap()).collect();
        assert_eq!(
            checks,
            [
                "clock",
                "control plane",
                "versions",
                "stages",
                "approval in critical",
                "approval in prod",
                "bucket: TLS only",
                "bucket: target accounts",
                "bucket: key",
                "OpenID provider",
                "role of the jobs",
                "GitLab",
                "SharedServiceRole of critical (333333333333)",
                "SharedServiceRole of dev (111111111111)",
                "SharedCleanupRole of dev (111111111111)",
                "SharedServiceRole of prod (333333333333)",
                "SharedServiceRole of staging (222222222222)",
            ]
        );
    });
}

#[test]
fn another_external_id_keeps_the_control_plane_out_and_none_lets_everybody_in() {
    in_world(|world| async move {
        let _alone = ALONE.lock().await;
        let (whole, _) = as_person(world).await;
        let iam = iam(world, DEV);
        let right = trust(&iam).await;
        let mut wrong = right.clone();
        wrong["Statement"][0]["Condition"]["StringEquals"]["sts:ExternalId"] = json!("another");
        set_trust(&iam, &wrong).await;
        let role = "SharedServiceRole of dev";
        broken(world, &whole, role, "does not let the control plane in", "ExternalId=slipway-embedded").await;
        let mut open = right.clone();
        open["Statement"][0]["Condition"].as_object_mut().unwrap().remove("StringEquals").unwrap();
        set_trust(&iam, &open).await;
        broken(world, &whole, role, "who does not know the ExternalId", "setup/roles.yaml").await;
        set_trust(&iam, &right).await;
    });
}

#[test]
fn a_target_account_is_told_that_it_was_the_doctor() {
    in_world(|world| async move {
        let _alone = ALONE.lock().await;
        let (whole, _) = as_person(world).await;
        let iam = iam(world, DEV);
        let right = trust(&iam).await;
        let mut only = right.clone();
        let mut named = only["Statement"][1].clone();
        only["Statement"][1]["Action"] = json!("sts:TagSession");
        named["Action"] = json!("sts:SetSourceIdentity");
        let mut let_in_as = async |who: &str| {
            named["Condition"]["StringEquals"] = json!({"sts:SourceIdentity": who});
            let mut policy = only.clone();
            policy["Statement"].as_array_mut().unwrap().push(named.clone());
            set_trust(&iam, &policy).await;
        };
        let_in_as("slipway-doctor").await;
        assert_eq!(as_person(world).await, (whole.clone(), Some(0)));
        let_in_as("slipway-sweep").await;
        broken(world, &whole, "SharedServiceRole of dev", "does not let the control plane in", "setup/roles.yaml")
            .await;
        set_trust(&iam, &right).await;
    });
}

#[test]
fn a_role_that_has_more_or_less_than_it_should_is_named() {
    in_world(|world| async move {
        let _alone = ALONE.lock().await;
        let (whole, _) = as_person(world).await;
        let iam = iam(world, DEV);
        for (effect, action, role, found, what_to_do) in [
            ("Deny", "cloudformation:*", SERVICE_ROLE, "kept from what it is for", "setup/roles.yaml"),
            ("Allow", "s3:*", SERVICE_ROLE, "more than it should: s3:ListAllMyBuckets", "by hand"),
            ("Allow", "s3:*", "SharedCleanupRole", "more than it should: s3:ListAllMyBuckets", "by hand"),
        ] {
            let statement = json!({"Effect": effect, "Action": action, "Resource": "*"});
            let policy = json!({"Version": "2012-10-17", "Statement": statement}).to_string();
            let put = iam.put_role_policy().role_name(role).policy_name("by-hand").policy_document(policy);
            put.send().await.unwrap();
            broken(world, &whole, &format!("{role} of dev"), found, what_to_do).await;
            iam.delete_role_policy().role_name(role).policy_name("by-hand").send().await.unwrap();
        }
    });
}

#[test]
fn a_bucket_without_its_policy_is_named() {
    in_world(|world| async move {
        let _alone = ALONE.lock().await;
        let (whole, _) = as_person(world).await;
        let bucket = world.bucket();
        let policy = world.s3.get_bucket_policy().bucket(bucket).send().await.unwrap().policy.unwrap();
        let right: Value = serde_json::from_str(&policy).unwrap();
        let put = async |policy: &Value| {
            world.s3.put_bucket_policy().bucket(bucket).policy(policy.to_string()).send().await.unwrap();
        };
        let mut open = right.clone();
        open["Statement"].as_array_mut().unwrap().retain(|statement| statement["Sid"] != "TlsOnly");
        put(&open).await;
        broken(world, &whole, "bucket: TLS only", "does not deny", "TlsOnly").await;
        let mut closed = right.clone();
        closed["Statement"][1]["Principal"]["AWS"] = json!([DEV, "222222222222"]);
        put(&closed).await;
        broken(world, &whole, "bucket: target accounts", PROD, "TargetAccounts").await;
        put(&right).await;
    });
}

#[test]
fn a_key_of_ones_own_has_to_be_usable_by_the_right_accounts() {
    in_world(|world| async move {
        let _alone = ALONE.lock().await;
        let (whole, _) = as_person(world).await;
        let kms = aws_sdk_kms::Client::new(&world.control_plane.emulator.sdk_config(TOOLING));
        let key = kms.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap();
        let own_key = kms.get_key_policy().key_id(&key).send().await.unwrap().policy.unwrap();
        let own_key: Value = serde_json::from_str(&own_key).unwrap();
        let lets_in = async |who: Value| {
            let decrypts =
                json!({"Effect": "Allow", "Principal": {"AWS": who}, "Action": "kms:Decrypt", "Resource": "*"});
            let mut policy = own_key.clone();
            policy["Statement"].as_array_mut().unwrap().push(decrypts);
            kms.put_key_policy().key_id(&key).policy(policy.to_string()).send().await.unwrap();
        };
        let encrypt_with = async |algorithm: ServerSideEncryption, id: Option<&str>| {
            let default = ServerSideEncryptionByDefault::builder().sse_algorithm(algorithm);
            let default = default.set_kms_master_key_id(id.map(str::to_owned)).build().unwrap();
            let rule = ServerSideEncryptionRule::builder().apply_server_side_encryption_by_default(default).build();
            let configuration = ServerSideEncryptionConfiguration::builder().rules(rule).build().unwrap();
            let put = world.s3.put_bucket_encryption().bucket(world.bucket());
            put.server_side_encryption_configuration(configuration).send().await.unwrap();
        };
        let line = "bucket: key";
        encrypt_with(ServerSideEncryption::AwsKms, None).await;
        broken(world, &whole, line, "other accounts can never use that: 333333333333 (critical)", "SSE-S3").await;
        encrypt_with(ServerSideEncryption::AwsKms, Some(&key)).await;
        broken(world, &whole, line, "does not let these decrypt: 333333333333 (critical), 111111111111", "docs/").await;
        lets_in(json!("*")).await;
        broken(world, &whole, line, "lets in everybody", "kms:CallerAccount").await;
        let targets = json!([DEV, STAGING, PROD]);
        lets_in(targets.clone()).await;
        let (document, code) = as_person(world).await;
        assert_eq!((code, amiss(&document).as_slice()), (Some(0), [].as_slice()));
        assert!(document.to_string().contains(&format!("{key} encrypts what is in it")), "{document:#}");
        let mut others = targets;
        others.as_array_mut().unwrap().push(json!("444444444444"));
        lets_in(others).await;
        let (document, code) = as_person(world).await;
        let amiss = amiss(&document);
        let [[check, found, _]] = amiss.as_slice() else { panic!("{amiss:#?}") };
        assert!(code == Some(0) && check == line && found.contains("lets in others: 444444444444"), "{amiss:#?}");
        kms.disable_key().key_id(&key).send().await.unwrap();
        broken(world, &whole, line, "is disabled", &format!("aws kms enable-key --key-id {key}")).await;
        kms.schedule_key_deletion().key_id(&key).pending_window_in_days(7).send().await.unwrap();
        broken(world, &whole, line, "is to be deleted on 20", "cancel-key-deletion").await;
        encrypt_with(ServerSideEncryption::AwsKms, Some("no-such-key")).await;
        broken(world, &whole, line, "there is no key no-such-key", "another default encryption").await;
        encrypt_with(ServerSideEncryption::Aes256, None).await;
        assert_eq!(as_person(world).await, (whole, Some(0)));
    });
}

#[test]
fn a_provider_without_the_audience_is_named() {
    in_world(|world| async move {
        let _alone = ALONE.lock().await;
        let (whole, _) = as_person(world).await;
        let iam = iam(world, TOOLING);
        let host = world.control_plane.gitlab.url().trim_start_matches("http://").to_owned();
        let arn = format!("arn:aws:iam::{TOOLING}:oidc-provider/{host}");
        let take = iam.remove_client_id_from_open_id_connect_provider().open_id_connect_provider_arn(&arn);
        take.client_id("slipway").send().await.unwrap();
        let add = format!("--open-id-connect-provider-arn {arn} --client-id slipway");
        broken(world, &whole, "OpenID provider", "not slipway", &add).await;
        let add = iam.add_client_id_to_open_id_connect_provider().open_id_connect_provider_arn(&arn);
        add.client_id("slipway").send().await.unwrap();
        assert_eq!(as_person(world).await, (whole, Some(0)));
    });
}

#[test]
fn a_provider_that_was_there_before_lets_jobs_in_and_stays() {
    const ACCOUNT: &str = "444444444444";
    const STACK: &str = "slipway-gitlab";
    in_world(|world| async move {
        let emulator = &world.control_plane.emulator;
        let (iam, cloudformation) = (iam(world, ACCOUNT), world.cloudformation(ACCOUNT));
        let host = world.control_plane.gitlab.url().trim_start_matches("http://");
        let create =
            iam.create_open_id_connect_provider().url(format!("https://{host}")).client_id_list("another-tool");
        let arn = create.send().await.unwrap().open_id_connect_provider_arn.unwrap();
        let deploy = async |exists: &str| {
            let machine = |name: &str| format!("arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{name}");
            let parameters = [
                ("GitLabHost", host.to_owned()),
                ("ProviderExists", exists.to_owned()),
                ("SubjectPattern", "project_path:group/*".to_owned()),
                ("ApiFunction", world.control_plane.output("ApiFunction").to_owned()),
                ("DeployMachine", machine("slipway-deploy")),
                ("TeardownMachine", machine("slipway-teardown")),
            ];
            let request = slipway_local::stack::Deploy {
                stack_name: STACK.to_owned(),
                template: std::fs::read_to_string(workspace_root().join("setup/gitlab.yaml")).unwrap(),
                parameters: parameters.map(|(name, value)| (name.to_owned(), value)).into(),
                template_bucket: None,
            };
            slipway_local::stack::deploy(&emulator.sdk_config(ACCOUNT), request).await
        };
        let delete = async || {
            cloudformation.delete_stack().stack_name(STACK).send().await.unwrap();
            for _ in 0..100 {
                if cloudformation.describe_stacks().stack_name(STACK).send().await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            panic!("{STACK} does not go");
        };
        let audiences = async || {
            let provider = iam.get_open_id_connect_provider().open_id_connect_provider_arn(&arn).send().await;
            provider.unwrap().client_id_list.unwrap_or_default()
        };
        let refused = deploy("false").await.unwrap_err().to_string();
        assert!(refused.contains("already exists"), "{refused}");
        delete().await;
        let role = deploy("true").await.unwrap()["ClientRole"].clone();
        let sts = aws_sdk_sts::Client::new(&emulator.sdk_config(ACCOUNT));
        let enter = async || {
            let token = world.token(&job("look", "feature"));
            let assume = sts.assume_role_with_web_identity().role_arn(&role).role_session_name("job");
            assume.web_identity_token(token).send().await
        };
        let refused = format!("{:?}", enter().await.unwrap_err());
        assert!(refused.contains("Incorrect token audience"), "{refused}");
        let add = iam.add_client_id_to_open_id_connect_provider().open_id_connect_provider_arn(&arn);
        add.client_id("slipway").send().await.unwrap();
        let entered = enter().await.unwrap().assumed_role_user.unwrap();
        assert_eq!(entered.arn, format!("arn:aws:sts::{ACCOUNT}:assumed-role/slipway-client/job"));
        delete().await;
        assert_eq!(audiences().await, ["another-tool", "slipway"]);
        assert!(iam.get_role().role_name("slipway-client").send().await.is_err());
    });
}

#[test]
fn without_the_control_plane_there_is_nothing_else_to_look_at() {
    in_world(|world| async move {
        let variables = [("AWS_ACCESS_KEY_ID", DEV), ("AWS_SECRET_ACCESS_KEY", "test")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (document, code) = doctor(world, &["--stack", "elsewhere"], &variables).await;
        assert_eq!(code, Some(1));
        let amiss = amiss(&document);
        let [line] = amiss.as_slice() else { panic!("{amiss:#?}") };
        assert!(line[1].contains("there is no stack elsewhere") && line[2].contains("slipway init"), "{line:#?}");
    });
}

#[test]
fn a_job_sees_whether_its_token_is_believed() {
    in_world(|world| async move {
        let _alone = ALONE.lock().await;
        let mut variables = world.control_plane.job_environment(&world.token(&job("look", "feature")));
        variables.push(("CI_SERVER_URL".to_owned(), world.control_plane.gitlab.url().to_owned()));
        let (document, code) = doctor(world, &[], &variables).await;
        assert_eq!((code, amiss(&document).as_slice()), (Some(0), [].as_slice()));
        let checks: Vec<_> = document["findings"].as_array().unwrap().iter().map(|it| it["check"].clone()).collect();
        assert_eq!(checks, ["clock", "role of the jobs", "api", "versions", "GitLab"]);
        for (name, value) in &mut variables {
            if name == "SLIPWAY_ID_TOKEN" {
                *value = "a.b.c".to_owned();
            }
        }
        let (document, code) = doctor(world, &[], &variables).await;
        assert_eq!((code, &document["ok"]), (Some(1), &json!(false)), "{document:#}");
        let amiss = amiss(&document);
        let [line] = amiss.as_slice() else { panic!("{amiss:#?}") };
        assert_eq!(line[0], "role of the jobs");
        assert!(line[1].contains("does not let the job in") && line[2].contains("aud and sub"), "{line:#?}");
    });
}
