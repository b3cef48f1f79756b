//! Who may decide, and that what is decided is decided once: the three ways, the attacks on each, and what is left behind of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "a test may, and its time is now"
)]

use std::process::Stdio;
use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};
use slipway_aws::store::{Store, StoreError};
use slipway_domain::approval::{DecisionError, Verdict, Who, caller_binding};
use slipway_domain::audit::{Head, Row, verify};
use slipway_domain::claims::Person as Claims;
use slipway_domain::names::{Digest, EnvironmentKey, ProjectId, Region};
use slipway_domain::protocol::On;
use slipway_identity::{StsEndpoint, presign};
use slipway_local::job::{self, NewsJob};
use slipway_local::{PROD, REGION, TOOLING};
use slipway_tests::person::{Person, csrf};
use slipway_tests::{World, bundle, in_world, job, launch, on, plain, tiny, unique};

/// A deployment to prod that waits for people: its job, its environment, its execution and its link.
struct Waiting {
    job: NewsJob,
    on: On,
    arn: String,
    link: String,
}

async fn waiting(world: &World, name: &str) -> Waiting {
    let (job, on) = (job("create-change-prod", "main"), on("prod", &format!("{name}-{}", unique())));
    let arn = world.begin(&job, &on, &tiny(name)).await;
    let link = world.asked(&job, &on).await;
    Waiting { job, on, arn, link }
}

impl Waiting {
    /// A job of the same pipeline that somebody else plays.
    fn played_by(&self, user_id: u64, login: &str) -> NewsJob {
        NewsJob { name: "execute-change-prod".into(), ..self.job.clone() }.played_by(user_id, login)
    }

    fn key(&self) -> EnvironmentKey {
        EnvironmentKey {
            project: ProjectId(101),
            application: self.on.application.clone(),
            stage: self.on.stage.clone(),
            environment: self.on.environment.clone(),
        }
    }

    async fn decisions(&self, world: &World) -> Vec<Value> {
        world.question(&self.link).await["decisions"].as_array().unwrap().clone()
    }

    async fn stop(&self, world: &World) {
        world.machines.stop_execution().execution_arn(&self.arn).send().await.unwrap();
    }

    async fn audit(&self, world: &World) -> (Vec<Row>, Head) {
        world.audit(&self.job, &self.on).await
    }
}

/// The credentials of a session of the role `name` of the control plane's account, which is made if it is not there.
async fn role(world: &World, name: &str, session: &str) -> aws_credential_types::Credentials {
    let trust = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": TOOLING}, "Action": "sts:AssumeRole"}]});
    let iam = world.iam(TOOLING);
    let _ = iam.create_role().role_name(name).assume_role_policy_document(trust.to_string()).send().await;
    let sts = aws_sdk_sts::Client::new(&world.control_plane.emulator.sdk_config(TOOLING));
    let arn = format!("arn:aws:iam::{TOOLING}:role/{name}");
    let given = sts.assume_role().role_arn(arn).role_session_name(session).send().await.unwrap().credentials.unwrap();
    let (key, secret, token) = (given.access_key_id, given.secret_access_key, given.session_token);
    aws_credential_types::Credentials::new(key, secret, Some(token), None, "test")
}

fn signed(world: &World, credentials: &aws_credential_types::Credentials, link: &str, verdict: Verdict) -> String {
    let id = Digest::of(link.rsplit('/').next().unwrap().as_bytes());
    let url = reqwest::Url::parse(link).unwrap();
    let endpoint = StsEndpoint::parse(world.control_plane.emulator.endpoint()).unwrap();
    let binding = caller_binding(&id, url.host_str().unwrap(), verdict, None);
    let region = Region::new(REGION).unwrap();
    presign(credentials, &endpoint, &region, binding.as_str(), jiff::Timestamp::now()).unwrap()
}

async fn sends(world: &World, link: &str, decision: &str, proof: (&str, &str)) -> (u16, Value) {
    let form = [("decision", decision), proof];
    let (status, body) = world.web("POST", link, &form, "application/json").await;
    (status, serde_json::from_str(&body).unwrap_or(json!({"body": body})))
}

#[test]
fn somebody_who_signed_in_approves() {
    in_world(|world| async move {
        let waiting = waiting(world, "browser").await;
        let mut eve = Person::new(world);
        let page = eve.signs_in(&waiting.link, "eve").await;
        let decided = eve.presses(&waiting.link, &page, "approve", "reviewed").await;
        assert_eq!((decided.status, decided.headers["location"].as_str()), (303, url_path(&waiting.link).as_str()));
        assert_eq!(world.end(&waiting.arn).await.status, "SUCCEEDED");
        let [decision] = <[Value; 1]>::try_from(waiting.decisions(world).await).unwrap();
        assert_eq!(decision["decider"], json!({"by": "person", "user_id": 9, "user_login": "eve"}));
        assert_eq!((&decision["verdict"], &decision["reason"]), (&json!("approve"), &json!("reviewed")));
        let page = eve.open(&waiting.link).await.body;
        assert!(
            page.contains("approved</strong> by eve (signed in)") && page.contains("<strong>live</strong>"),
            "{page}"
        );
        assert_eq!(world.stack_status(PROD, &waiting.job, &waiting.on).await.as_deref(), Some("CREATE_COMPLETE"));
    });
}

fn url_path(link: &str) -> String {
    reqwest::Url::parse(link).unwrap().path().to_owned()
}

#[test]
fn two_people_approve_where_two_have_to() {
    in_world(|world| async move {
        let (job, on) = (job("create-change", "main"), on("critical", &format!("two-{}", unique())));
        let arn = world.begin(&job, &on, &tiny("two")).await;
        let link = world.asked(&job, &on).await;
        let (status, told) = world.decide(&link, "approve", &job.clone().played_by(8, "release-manager")).await;
        assert!(status == 403 && told["message"].as_str().unwrap().contains("takes no decision of a job"), "{told}");
        let mut manager = Person::new(world);
        let page = manager.signs_in(&link, "release-manager").await;
        assert!(page.body.contains("2 people must approve") && page.body.contains("(required)"), "{}", page.body);
        let silent = manager.presses(&link, &page, "approve", " ").await;
        assert!(silent.status == 400 && silent.body.contains("asks for a reason"), "{silent:?}");
        for _ in 0..2 {
            assert_eq!(manager.presses(&link, &page, "approve", "tested").await.status, 303);
        }
        let page = manager.open(&link).await.body;
        assert!(page.contains("1 person more must approve") && page.contains("each person decides once"), "{page}");
        assert!(!page.contains("<form"), "{page}");
        let waiting = world.status(&job, &on).await.unwrap().deployment.unwrap();
        assert_eq!(waiting.approval_progress.as_deref(), Some("approved by release-manager: 1 of 2"));
        let mut eve = Person::new(world);
        let page = eve.signs_in(&link, "eve").await;
        assert_eq!(eve.presses(&link, &page, "approve", "so be it").await.status, 303);
        assert_eq!(world.end(&arn).await.status, "SUCCEEDED");
        let question = world.question(&link).await;
        assert_eq!((question["decisions"].as_array().unwrap().len(), &question["delivered"]), (2, &json!(true)));
        assert_eq!(question["task_token"], "", "it is of no more use");
    });
}

#[test]
fn one_of_two_is_too_few_when_the_time_is_over() {
    in_world(|world| async move {
        let (job, on) = (job("create-change", "main"), on("critical", &format!("few-{}", unique())));
        let arn = world.begin(&job, &on, &tiny("few")).await;
        let link = world.asked(&job, &on).await;
        let mut manager = Person::new(world);
        let page = manager.signs_in(&link, "release-manager").await;
        assert_eq!(manager.presses(&link, &page, "approve", "tested").await.status, 303);
        world.expire_question(&link).await;
        let page = manager.open(&link).await.body;
        assert!(
            page.contains("Not decided in time") && page.contains("approved</strong> by release-manager"),
            "{page}"
        );
        assert!(!page.contains("<form"), "{page}");
        world.machines.stop_execution().execution_arn(&arn).send().await.unwrap();
    });
}

#[test]
fn rules_that_change_while_people_decide_ask_for_a_new_decision() {
    in_world(|world| async move {
        let ssm = aws_sdk_ssm::Client::new(&world.control_plane.emulator.sdk_config(TOOLING));
        let name = world.control_plane.output("StagesParameterName");
        let set = async |approval: Value| {
            let found = ssm.get_parameter().name(name).send().await.unwrap().parameter.unwrap().value.unwrap();
            let mut stages: Value = serde_json::from_str(&found).unwrap();
            stages["shifting"] = json!({"account": PROD, "protected": true, "approval": approval});
            ssm.put_parameter().name(name).value(stages.to_string()).overwrite(true).send().await.unwrap();
        };
        set(json!({"approvers": ["release-manager#8", "group/leads"]})).await;
        let (job, on) = (job("create-change", "main"), on("shifting", &format!("rules-{}", unique())));
        let arn = world.begin(&job, &on, &tiny("rules")).await;
        let link = world.asked(&job, &on).await;
        set(json!({"approvers": ["release-manager#8"]})).await;
        let mut eve = Person::new(world);
        let page = eve.signs_in(&link, "eve").await;
        assert_eq!(eve.presses(&link, &page, "approve", "").await.status, 303);
        let ended = world.end(&arn).await;
        assert_eq!(ended.error, "ChangeSetStale", "{ended:?}");
        assert!(ended.cause.contains("who has to approve in stage shifting was changed"), "{ended:?}");
    });
}

#[test]
fn somebody_who_plays_the_job_approves() {
    in_world(|world| async move {
        let waiting = waiting(world, "job").await;
        let job = waiting.played_by(8, "release-manager");
        let folder = slipway_local::workspace_root().join("examples/news");
        let (application, environment) = (waiting.on.application.to_string(), waiting.on.environment.to_string());
        let place = ["--stage", "prod", "--application", &application, "--environment", &environment];
        let args = [&["approve", "--reason", "fine"][..], &place].concat();
        let ran = job::run(&world.control_plane, &job, &folder, &args, |_| {});
        let ran = ran.await.unwrap();
        assert_eq!(ran.code, 0, "{}", ran.log);
        assert!(ran.log.contains("already approved by release-manager"), "{}", ran.log);
        assert_eq!(world.end(&waiting.arn).await.status, "SUCCEEDED");
    });
}

#[test]
fn an_aws_principal_approves() {
    in_world(|world| async move {
        let waiting = waiting(world, "principal").await;
        let credentials = role(world, "release", "erin").await;
        let mut command = tokio::process::Command::new(job::command_path());
        command.args(["approve", "--aws", "--url", &waiting.link, "--reason", "from a laptop"]).env_clear();
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", credentials.access_key_id()),
            ("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key()),
            ("AWS_SESSION_TOKEN", credentials.session_token().unwrap()),
            ("AWS_ENDPOINT_URL", world.control_plane.emulator.endpoint()),
            ("SLIPWAY_CONNECT_TO", &format!("127.0.0.1:{}", world.control_plane.emulator.port())),
        ] {
            command.env(name, value);
        }
        let ran = command.stdin(Stdio::null()).output().await.unwrap();
        let log = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{log}");
        assert_eq!(world.end(&waiting.arn).await.status, "SUCCEEDED");
        let [decision] = <[Value; 1]>::try_from(waiting.decisions(world).await).unwrap();
        assert_eq!(decision["decider"]["principal"], json!(format!("arn:aws:iam::{TOOLING}:role/release")));
        assert_eq!(decision["decider"]["arn"], json!(format!("arn:aws:sts::{TOOLING}:assumed-role/release/erin")));
    });
}

#[test]
fn an_aws_signature_is_good_for_one_verdict_on_one_approval() {
    in_world(|world| async move {
        let (one, other) = (waiting(world, "signed").await, waiting(world, "other").await);
        let release = role(world, "release", "erin").await;
        let yes = signed(world, &release, &one.link, Verdict::Approve);
        // One that was made for another verdict, or another approval, is not the signature of what is asked.
        let elsewhere = signed(world, &release, &one.link.replace("https://", "https://evil."), Verdict::Approve);
        for (link, decision, signed) in
            [(&one.link, "reject", &yes), (&other.link, "approve", &yes), (&one.link, "approve", &elsewhere)]
        {
            let (status, told) = sends(world, link, decision, ("aws_identity", signed)).await;
            assert_eq!((status, told["error"].as_str()), (401, Some("InvalidToken")), "{told}");
        }
        // Nor for another reason than was signed.
        let form = [("decision", "approve"), ("aws_identity", yes.as_str()), ("reason", "put into her mouth")];
        assert_eq!(world.web("POST", &one.link, &form, "application/json").await.0, 401);
        let somebody = role(world, "somebody", "erin").await;
        let not_listed = signed(world, &somebody, &one.link, Verdict::Approve);
        let (status, told) = sends(world, &one.link, "approve", ("aws_identity", &not_listed)).await;
        assert_eq!((status, told["error"].as_str()), (403, Some("NotAllowed")), "{told}");
        for broken in [
            yes.replace("Action=GetCallerIdentity", "Action=GetSessionToken"),
            yes.replace("127.0.0.1", "localhost"),
            yes.replace("x-slipway-approval", "x-other"),
            format!("{yes}&X-Amz-Date=20200101T000000Z"),
            "https://sts.amazonaws.com/".to_owned(),
        ] {
            let (status, told) = sends(world, &one.link, "approve", ("aws_identity", &broken)).await;
            assert_eq!(status, 401, "{broken}: {told}");
        }
        assert!(one.decisions(world).await.is_empty() && other.decisions(world).await.is_empty());
        one.stop(world).await;
        other.stop(world).await;
    });
}

#[test]
fn nothing_but_a_proven_post_decides() {
    in_world(|world| async move {
        let waiting = waiting(world, "looks").await;
        let link = waiting.link.as_str();
        let mut eve = Person::new(world);
        let page = eve.open(link).await;
        assert!(page.body.contains("Sign in with GitLab") && !page.body.contains("<form"), "{}", page.body);
        for (name, value) in [
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(page.headers[name], value);
        }
        let policy = &page.headers["content-security-policy"];
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-") && policy.contains("frame-ancestors 'none'")
        );
        let page = eve.signs_in(link, "eve").await;
        let csrf = csrf(&page).unwrap();
        for decision in ["approve", "reject"] {
            // As one who follows links, looks ahead, or runs ahead.
            let query = format!("{link}?decision={decision}&csrf={csrf}");
            for (method, headers) in [
                ("GET", &[][..]),
                ("HEAD", &[]),
                ("GET", &[("sec-purpose", "prefetch"), ("purpose", "prefetch")]),
                ("PUT", &[]),
                ("DELETE", &[]),
                ("OPTIONS", &[]),
            ] {
                let shown = eve.send(method, &query, &[], headers).await;
                assert!(matches!(shown.status, 200 | 405), "{method}: {shown:?}");
                assert!(method != "HEAD" || shown.body.is_empty());
            }
            let mut nobody = Person::new(world);
            for form in [
                &[("decision", decision)][..],
                &[("decision", decision), ("csrf", "")],
                &[("decision", decision), ("csrf", csrf.as_str())],
                &[("decision", decision), ("id_token", "a.b.c")],
                &[("decision", decision), ("aws_identity", "https://sts.amazonaws.com/")],
            ] {
                let refused = nobody.send("POST", link, form, &[]).await;
                assert!(matches!(refused.status, 400 | 401), "{form:?}: {refused:?}");
            }
            // With the session, but not from the page.
            let from = |name, value| [(name, value)];
            for more in [from("origin", "https://evil.example"), from("sec-fetch-site", "cross-site")] {
                let refused = eve.send("POST", link, &[("decision", decision), ("csrf", &csrf)], &more).await;
                assert_eq!(refused.status, 403, "{refused:?}");
            }
            let refused = eve.send("POST", link, &[("decision", decision), ("csrf", "AAAA")], &[]).await;
            assert_eq!(refused.status, 401, "{refused:?}");
        }
        assert!(waiting.decisions(world).await.is_empty());
        waiting.stop(world).await;
    });
}

#[test]
fn a_session_is_for_one_approval_and_one_person() {
    in_world(|world| async move {
        let (one, other) = (waiting(world, "session").await, waiting(world, "session").await);
        let mut eve = Person::new(world);
        let page = eve.signs_in(&one.link, "eve").await;
        // Of another approval she is nobody.
        assert!(!eve.open(&other.link).await.body.contains("Signed in as"));
        let refused = eve.presses(&other.link, &page, "approve", "").await;
        assert_eq!(refused.status, 401, "{refused:?}");
        // Neither is whoever has her cookie under the other approval's name.
        let (name, value) = eve.cookies.first_key_value().map(|(name, value)| (name.clone(), value.clone())).unwrap();
        let id = Digest::of(other.link.rsplit('/').next().unwrap().as_bytes());
        let moved = format!("__Host-slipway-{}", &id.as_str()[..16]);
        assert_ne!(name, moved);
        let mut thief = Person::new(world);
        thief.cookies.insert(moved, value);
        assert!(!thief.open(&other.link).await.body.contains("Signed in as"));
        // Who is no approver is told so, and has no button.
        let mut mallory = Person::new(world);
        let page = mallory.signs_in(&one.link, "mallory").await;
        assert!(
            page.body.contains("mallory is not among the approvers") && !page.body.contains("<form"),
            "{}",
            page.body
        );
        let mut dana = Person::new(world);
        let page = dana.signs_in(&one.link, "dana").await;
        assert!(page.body.contains("dana is not among the approvers"), "{}", page.body);
        assert!(one.decisions(world).await.is_empty() && other.decisions(world).await.is_empty());
        one.stop(world).await;
        other.stop(world).await;
    });
}

#[test]
fn a_sign_in_ends_where_it_began() {
    in_world(|world| async move {
        let waiting = waiting(world, "sign-in").await;
        // The way back that somebody else began: the victim's browser would be signed in as another.
        let back = Person::new(world).comes_back(&waiting.link, "mallory").await;
        let mut victim = Person::new(world);
        let refused = victim.open(&back).await;
        assert_eq!(refused.status, 401, "{refused:?}");
        assert!(refused.body.contains("did not begin in this browser") && victim.cookies.is_empty(), "{refused:?}");
        // Twice, or with another code.
        let mut eve = Person::new(world);
        let back = eve.comes_back(&waiting.link, "eve").await;
        let cookies = eve.cookies.clone();
        assert_eq!(eve.open(&back).await.status, 303);
        assert_eq!(eve.open(&back).await.status, 401, "it is over");
        eve.cookies = cookies;
        let again = eve.open(&back).await;
        assert_eq!(again.status, 401, "the code is used: {again:?}");
        assert!(!again.headers.contains_key("location"));
        // Two tabs.
        let mut tabs = Person::new(world);
        let first = tabs.comes_back(&waiting.link, "eve").await;
        let second = tabs.comes_back(&waiting.link, "eve").await;
        assert_eq!(tabs.open(&second).await.status, 303);
        assert_eq!(tabs.open(&first).await.status, 303);
        // And there is no sign-in for what is not there.
        let nowhere =
            format!("{}{}", waiting.link.split("/a/").next().unwrap(), format_args!("/a/{}/sign-in", "0".repeat(64)));
        assert_eq!(eve.open(&nowhere).await.status, 404);
        waiting.stop(world).await;
    });
}

#[test]
fn a_jobs_token_is_the_right_jobs() {
    in_world(|world| async move {
        let waiting = waiting(world, "tokens").await;
        let gitlab = &world.control_plane.gitlab;
        let right = waiting.played_by(8, "release-manager");
        let changed = |change: &dyn Fn(&mut NewsJob)| {
            let mut job = right.clone();
            change(&mut job);
            job
        };
        for (job, claim) in [
            (changed(&|job| job.job.project_id = 102), "project_path"),
            (changed(&|job| job.job.pipeline_id += 1), "pipeline_id"),
            (changed(&|job| job.job.ref_protected = false), "ref_protected"),
            (changed(&|job| job.job.job_project_id = 102), "project_path"),
            (changed(&|job| job.job.user_id = 7), "not among the approvers"),
            (waiting.played_by(66, "mallory"), "not among the approvers"),
            // The login of an approver whose number is known, on another's account.
            (waiting.played_by(67, "release-manager"), "not among the approvers"),
        ] {
            let (status, told) = world.decide(&waiting.link, "approve", &job).await;
            assert!(status == 403 && told["message"].as_str().unwrap().contains(claim), "{claim}: {status} {told}");
        }
        // Who asked, even as a member of the leads.
        let mut own = waiting.played_by(7, "dana");
        own.job.groups_direct = vec!["group/leads".into()];
        let (status, told) = world.decide(&waiting.link, "approve", &own).await;
        assert!(status == 403 && told["message"].as_str().unwrap().contains("may run by itself"), "{told}");
        // A job of the approver's that began before there was a question: she started the pipeline, and played nothing.
        let before = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(10);
        let early = gitlab.token_at(&right.job, before).unwrap();
        let (status, told) = sends(world, &waiting.link, "approve", ("id_token", &early)).await;
        assert!(status == 403 && told["message"].as_str().unwrap().contains("iat"), "{told}");
        // They tried, and that is on record: each once.
        let (rows, _) = waiting.audit(world).await;
        let refused = rows.iter().filter(|row| row.text.contains(r#"{"refused":{"asked":"approve""#)).count();
        assert_eq!(refused, 8, "{rows:?}");
        // What is no token of this GitLab's for us.
        let now = jiff::Timestamp::now();
        let claims = gitlab.claims(&right.job, now).unwrap();
        let with = |claim: &str, value: Value| {
            let mut claims = claims.clone();
            claims[claim] = value;
            gitlab.sign(&claims).unwrap()
        };
        let good = gitlab.sign(&claims).unwrap();
        let (head, rest) = good.split_once('.').unwrap();
        let (body, signature) = rest.split_once('.').unwrap();
        let none = gitlab.sign_with(&json!({"alg": "none", "kid": gitlab.kid()}), &claims).unwrap();
        let hmac = gitlab.sign_with(&json!({"alg": "HS256", "kid": gitlab.kid()}), &claims).unwrap();
        let flipped = if signature.starts_with('A') { "B" } else { "A" };
        for (what, token) in [
            ("another signature", format!("{head}.{body}.{flipped}{}", &signature[1..])),
            ("no signature", format!("{head}.{body}.")),
            ("alg none", none),
            ("alg HS256", hmac),
            ("another issuer", with("iss", json!("https://gitlab.example.com"))),
            ("another audience", with("aud", json!("vault"))),
            ("two audiences", with("aud", json!(["slipway", "vault"]))),
            ("expired", gitlab.token_at(&right.job, now - jiff::SignedDuration::from_hours(2)).unwrap()),
            ("not yet valid", gitlab.token_at(&right.job, now + jiff::SignedDuration::from_hours(2)).unwrap()),
        ] {
            let (status, told) = sends(world, &waiting.link, "approve", ("id_token", &token)).await;
            assert_eq!((status, told["error"].as_str()), (401, Some("InvalidToken")), "{what}: {told}");
        }
        // A flood of unknown keys asks the instance no more than once a minute for each process.
        let before = gitlab.hits();
        for n in 0..30 {
            let token = gitlab.sign_with(&json!({"alg": "RS256", "kid": format!("unknown-{n}")}), &claims).unwrap();
            let (status, _) = sends(world, &waiting.link, "approve", ("id_token", &token)).await;
            assert_eq!(status, 401);
        }
        let asked = gitlab.hits() - before;
        assert!(asked <= 2, "the instance was asked {asked} times");
        assert!(waiting.decisions(world).await.is_empty());
        // The right one; and again, which changes nothing.
        let (status, told) = sends(world, &waiting.link, "approve", ("id_token", &good)).await;
        assert_eq!((status, told["state"].as_str()), (200, Some("approved")), "{told}");
        let (status, told) = sends(world, &waiting.link, "approve", ("id_token", &good)).await;
        assert_eq!((status, told["state"].as_str()), (200, Some("approved")), "{told}");
        let (status, told) = sends(world, &waiting.link, "reject", ("id_token", &good)).await;
        assert_eq!(status, 409, "{told}");
        assert_eq!(waiting.decisions(world).await.len(), 1);
        assert_eq!(world.end(&waiting.arn).await.status, "SUCCEEDED");
        // A decision on one approval says nothing to another.
        let next = self::waiting(world, "tokens").await;
        let (status, _) = sends(world, &next.link, "approve", ("id_token", &good)).await;
        assert_eq!(status, 403, "its pipeline is another");
        next.stop(world).await;
    });
}

fn store(world: &World) -> Store {
    Store::new(&world.control_plane.emulator.sdk_config(TOOLING), world.control_plane.output("TableName"))
}

#[test]
fn a_thousand_decisions_at_once_are_one() {
    in_world(|world| async move {
        let waiting = waiting(world, "thousand").await;
        let id = Digest::of(waiting.link.rsplit('/').next().unwrap().as_bytes());
        let store = Arc::new(store(world));
        let mut all = tokio::task::JoinSet::new();
        for n in 0..1000_u64 {
            let (store, id) = (Arc::clone(&store), id.clone());
            all.spawn(async move {
                let person =
                    Claims { user_id: 1000 + n, user_login: format!("lead{n}"), groups: vec!["group/leads".into()] };
                let verdict = if n % 2 == 0 { Verdict::Approve } else { Verdict::Reject };
                let now = jiff::Timestamp::now();
                store.decide(&id, |approval| approval.decide(verdict, None, Who::Person(&person), now)).await
            });
        }
        let (mut won, mut told) = (Vec::new(), 0);
        for decided in all.join_all().await {
            match decided {
                Ok(approval) => won.push(approval.unwrap()),
                Err(StoreError::Rule(DecisionError::Decided { .. })) => told += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!((won.len(), told), (1, 999));
        let decisions = waiting.decisions(world).await;
        assert_eq!(decisions.len(), 1);
        let (rows, head) = waiting.audit(world).await;
        assert_eq!(verify(&waiting.key(), &rows, &head, &[]), Ok(()));
        let of_people = rows.iter().filter(|row| row.text.contains(r#""by":{"decider""#)).count();
        assert_eq!(of_people, 1, "{rows:?}");
        // Nobody handed it on: sweep does, a little later.
        world.answer_overdue(&waiting.link).await;
        let swept = world.sweep().await;
        assert_eq!(swept["answers"], 1, "{swept}");
        let ended = world.end(&waiting.arn).await;
        let approved = decisions[0]["verdict"] == "approve";
        assert_eq!(ended.status == "SUCCEEDED", approved, "{ended:?}");
        assert!(approved || ended.error == "ApprovalRejected", "{ended:?}");
    });
}

#[test]
fn fifty_at_the_link_are_one() {
    in_world(|world| async move {
        let waiting = waiting(world, "fifty").await;
        let mut tokens = Vec::new();
        for n in 0..50 {
            let mut lead = waiting.played_by(2000 + n, &format!("lead{n}"));
            lead.job.groups_direct = vec!["group/leads".into()];
            tokens.push((world.token(&lead), if n % 2 == 0 { "approve" } else { "reject" }));
        }
        let sent = tokens.iter().map(|(token, decision)| sends(world, &waiting.link, decision, ("id_token", token)));
        let all = futures::future::join_all(sent).await;
        let won: Vec<&Value> = all.iter().filter(|(status, _)| *status == 200).map(|(_, told)| told).collect();
        assert_eq!(won.len(), 1, "{all:?}");
        let outcome = format!("already {}", won[0]["state"].as_str().unwrap());
        for (status, told) in all.iter().filter(|(status, _)| *status != 200) {
            assert!(*status == 409 && told["message"].as_str().unwrap().starts_with(&outcome), "{status} {told}");
        }
        assert_eq!(waiting.decisions(world).await.len(), 1);
        let ended = world.end(&waiting.arn).await;
        assert_eq!(ended.status == "SUCCEEDED", won[0]["state"] == "approved", "{ended:?}");
    });
}

#[test]
fn what_was_done_is_on_record_and_stays_as_it_was() {
    in_world(|world| async move {
        let waiting = waiting(world, "record").await;
        // A job that may not.
        let stray = NewsJob::new("deploy", "feature", unique());
        let (digest, zip) = bundle(&tiny("record"));
        for _ in 0..2 {
            let refused = world.admit(&stray, &waiting.on, launch(&digest), zip.len()).await.unwrap_err();
            assert_eq!(refused.name, "NotAllowed");
        }
        let manager = waiting.played_by(8, "release-manager");
        assert_eq!(world.decide(&waiting.link, "approve", &manager).await.0, 200);
        assert_eq!(world.end(&waiting.arn).await.status, "SUCCEEDED");
        assert!(world.lease_is_free(&waiting.on).await);
        let (rows, head) = waiting.audit(world).await;
        let told: Vec<String> = rows
            .iter()
            .map(|row| {
                let written = row.read().unwrap();
                format!("{} {}", written.entry.act.done(), written.entry.by.name())
            })
            .collect();
        let expected = [
            "admitted dana",
            "reviewed dana",
            "refused dana",
            "refused dana",
            "approved release-manager",
            "executed dana",
            "settled dana",
        ];
        assert_eq!(told, expected, "each token's refusal once");
        assert_eq!(verify(&waiting.key(), &rows, &head, &[]), Ok(()));
        let folder = slipway_local::workspace_root().join("examples/news");
        let (application, environment) = (waiting.on.application.to_string(), waiting.on.environment.to_string());
        let place = ["--stage", "prod", "--application", &application, "--environment", &environment];
        let run = async |args: &[&str]| {
            let args = [&["audit"][..], args, &place].concat();
            job::run(&world.control_plane, &waiting.job, &folder, &args, |_| {}).await.unwrap()
        };
        let shown = run(&[]).await;
        assert!(shown.code == 0 && shown.log.contains("approved   release-manager"), "{}", shown.log);
        assert!(shown.log.contains("stage prod allows main"), "{}", shown.log);
        let proven = run(&["verify", "--noted", &head.to_string()]).await;
        assert!(proven.code == 0 && proven.log.contains("7 acts, each as it was recorded"), "{}", proven.log);
        // Somebody who can write to the table lets another one have approved it.
        let environment = waiting.key();
        let partition = format!("AUDIT#101#{}#prod#{}", environment.application, environment.environment);
        let request = world.dynamodb.update_item().table_name(world.control_plane.output("TableName"));
        let request =
            request.key("pk", AttributeValue::S(partition)).key("sk", AttributeValue::S("ROW#000000000005".into()));
        let forged = rows[4].text.replace("release-manager", "somebody-else");
        let request = request.update_expression("SET #row = :row").expression_attribute_names("#row", "row");
        request.expression_attribute_values(":row", AttributeValue::S(forged)).send().await.unwrap();
        let broken = run(&["verify"]).await;
        assert!(broken.code == 1 && broken.log.contains("row 5, or what the next one says of it"), "{}", broken.log);
    });
}

#[test]
fn a_rejection_and_a_teardown_are_on_record_too() {
    in_world(|world| async move {
        let told = |rows: &[Row]| -> Vec<String> {
            let done = |row: &Row| row.read().map(|written| written.entry.act.done().to_owned()).unwrap();
            rows.iter().map(done).collect()
        };
        let waiting = waiting(world, "rejected").await;
        let manager = waiting.played_by(8, "release-manager");
        assert_eq!(world.decide(&waiting.link, "reject", &manager).await.0, 200);
        assert_eq!(world.end(&waiting.arn).await.error, "ApprovalRejected");
        let (rows, head) = waiting.audit(world).await;
        assert_eq!(told(&rows), ["admitted", "reviewed", "rejected", "settled"]);
        assert_eq!(verify(&waiting.key(), &rows, &head, &[]), Ok(()));
        let (dana, on) = (job("deploy-dev", "feature"), on("dev", &format!("review/gone-{}", unique())));
        assert_eq!(world.deploy(&dana, &on, &tiny("gone")).await.status, "SUCCEEDED");
        assert_eq!(world.teardown(&dana, &on).await.status, "SUCCEEDED");
        let (rows, _) = world.audit(&dana, &on).await;
        assert_eq!(told(&rows), ["admitted", "reviewed", "executed", "settled", "admitted", "torn down"]);
    });
}

#[test]
fn people_are_told_that_a_decision_is_wanted() {
    in_world(|world| async move {
        let config = world.control_plane.emulator.sdk_config(TOOLING);
        let (sqs, sns) = (aws_sdk_sqs::Client::new(&config), aws_sdk_sns::Client::new(&config));
        let events = aws_sdk_eventbridge::Client::new(&config);
        let mut queues = Vec::new();
        for name in ["told-by-topic", "told-by-bus"] {
            let services = json!({"Service": ["sns.amazonaws.com", "events.amazonaws.com"]});
            let policy = json!({"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Principal": services, "Action": "sqs:SendMessage", "Resource": "*"}]});
            let make = sqs.create_queue().queue_name(name);
            let make = make.attributes(aws_sdk_sqs::types::QueueAttributeName::Policy, policy.to_string());
            let made = make.send().await.unwrap();
            queues.push((made.queue_url.unwrap(), format!("arn:aws:sqs:{REGION}:{TOOLING}:{name}")));
        }
        let topic = world.control_plane.output("ApprovalTopic");
        let subscribe = sns.subscribe().topic_arn(topic).protocol("sqs").endpoint(&queues[0].1);
        subscribe.attributes("RawMessageDelivery", "true").send().await.unwrap();
        let bus = world.control_plane.output("BusName");
        let rule = events.put_rule().name("told").event_bus_name(bus).event_pattern(r#"{"source":["slipway"]}"#);
        rule.send().await.unwrap();
        let target = aws_sdk_eventbridge::types::Target::builder().id("queue").arn(&queues[1].1).build().unwrap();
        events.put_targets().rule("told").event_bus_name(bus).targets(target).send().await.unwrap();

        let waiting = waiting(world, "told").await;
        let receive = async |queue: &str| {
            let began = std::time::Instant::now();
            loop {
                let got = sqs.receive_message().queue_url(queue).max_number_of_messages(10).send().await.unwrap();
                let mut found = got.messages.unwrap_or_default().into_iter().filter_map(|message| message.body);
                if let Some(body) = found.find(|body| body.contains(&waiting.link)) {
                    return body;
                }
                assert!(began.elapsed().as_secs() < 60, "nobody was told");
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        };
        let mail = receive(&queues[0].0).await;
        for line in [
            "tiny is to be deployed in prod",
            "asked for by dana",
            "release-manager#8, group/leads",
            "Look at it, and decide:",
        ] {
            assert!(mail.contains(line), "{line} in {mail}");
        }
        let event: Value = serde_json::from_str(&receive(&queues[1].0).await).unwrap();
        assert_eq!((&event["source"], &event["detail-type"]), (&json!("slipway"), &json!("Approval Requested")));
        let detail = &event["detail"];
        assert_eq!((&detail["version"], &detail["requested_by"]), (&json!(1), &json!("dana")));
        assert_eq!(detail["url"], json!(waiting.link));
        assert_eq!(world.question(&waiting.link).await["announced"], json!(true));
        waiting.stop(world).await;
    });
}

#[test]
fn a_question_without_an_answer_has_an_end() {
    in_world(|world| async move {
        let waiting = waiting(world, "late").await;
        world.overdue(&waiting.on).await;
        world.sweep().await;
        let ended = world.end(&waiting.arn).await;
        assert_eq!(ended.error, "ApprovalExpired", "{ended:?}");
        let (status, told) = world.decide(&waiting.link, "approve", &waiting.played_by(8, "release-manager")).await;
        assert!(status == 403 && told["message"].as_str().unwrap().contains("nobody decided until"), "{status} {told}");
        assert_eq!(told["error"], "ApprovalExpired");
        // One that is stopped voids its link.
        let stopped = self::waiting(world, "stopped").await;
        stopped.stop(world).await;
        world.settled(&stopped.job, &stopped.on).await;
        for _ in 0..100 {
            if !world.question(&stopped.link).await["void"].is_null() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let (status, told) = world.decide(&stopped.link, "approve", &stopped.played_by(8, "release-manager")).await;
        assert!(status == 403 && told["message"].as_str().unwrap().contains("stopped by a person"), "{told}");
        assert_eq!(told["error"], "Stopped");
    });
}

/// The functions, as their log groups are named.
const FUNCTIONS: [&str; 10] =
    ["api", "begin", "package", "change-set", "wait-for-stack", "approval", "web", "teardown", "settle", "sweep"];

/// Every row of the table, as text, by its partition key.
async fn table(world: &World) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut from = None;
    loop {
        let scan = world.dynamodb.scan().table_name(world.control_plane.output("TableName"));
        let page = scan.set_exclusive_start_key(from).send().await.unwrap();
        for item in page.items.unwrap_or_default() {
            let text: String = item.values().map(|value| plain(value).to_string()).collect();
            rows.push((item["pk"].as_s().unwrap().clone(), text));
        }
        from = page.last_evaluated_key;
        if from.is_none() {
            return rows;
        }
    }
}

/// Every version of every object in the bucket, as text.
async fn objects(world: &World) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let versions = world.s3.list_object_versions().bucket(world.bucket()).send().await.unwrap();
    assert_ne!(versions.is_truncated, Some(true), "all are read");
    for version in versions.versions.unwrap_or_default() {
        let (key, id) = (version.key.unwrap(), version.version_id.unwrap());
        let object = world.s3.get_object().bucket(world.bucket()).key(&key).version_id(id).send().await.unwrap();
        let bytes = object.body.collect().await.unwrap().to_vec();
        found.push((key, String::from_utf8_lossy(&bytes).into_owned()));
    }
    found
}

/// The histories of every execution of both machines, as Step Functions tells them: its client's own `Debug` hides what they hold.
async fn histories(world: &World) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for machine in ["DeployMachine", "TeardownMachine"] {
        let machine = world.control_plane.output(machine);
        let listed =
            world.machines.list_executions().state_machine_arn(machine).max_results(1000).send().await.unwrap();
        for execution in listed.executions() {
            let arn = execution.execution_arn();
            found.push((arn.to_owned(), world.history(arn).await));
        }
    }
    found
}

#[test]
fn no_secret_stays_anywhere() {
    in_world(|world| async move {
        let began = jiff::Timestamp::now();
        // A stack of before, with a value that CloudFormation shows to nobody.
        let (dana, on) = (job("create-change-prod", "main"), on("prod", &format!("canary-{}", unique())));
        let value = format!("noecho-{}", unique());
        let template =
            |text: &str| tiny(text).replace("Resources:", "  Password: {Type: String, NoEcho: true}\nResources:");
        let key = EnvironmentKey {
            project: ProjectId(101),
            application: on.application.clone(),
            stage: on.stage.clone(),
            environment: on.environment.clone(),
        };
        let cloudformation = world.cloudformation(PROD);
        let parameter =
            aws_sdk_cloudformation::types::Parameter::builder().parameter_key("Password").parameter_value(&value);
        let create =
            cloudformation.create_stack().stack_name(key.stack_name().as_str()).template_body(template("before"));
        create.parameters(parameter.build()).send().await.unwrap();

        let (digest, zip) = bundle(&template("after"));
        let id_token = world.token(&dana);
        let admitted = world.admit(&dana, &on, launch(&digest), zip.len()).await.unwrap();
        world.upload(&admitted, zip).await;
        let arn = world.start_admitted(&admitted, &dana).await;
        let link = world.asked(&dana, &on).await;
        let task_token = world.question(&link).await["task_token"].as_str().unwrap().to_owned();
        let mut eve = Person::new(world);
        let back = eve.comes_back(&link, "eve").await;
        let sign_in = eve.cookies.clone();
        let code = reqwest::Url::parse(&back).unwrap();
        let code = code.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
        assert_eq!(eve.open(&back).await.status, 303);
        let page = eve.open(&link).await;
        let session = eve.cookies.clone();
        let csrf = csrf(&page).unwrap();
        assert!(!page.body.contains(&value) && !page.body.contains(&task_token));
        assert_eq!(eve.presses(&link, &page, "approve", "").await.status, 303);
        assert_eq!(world.end(&arn).await.status, "SUCCEEDED");
        let manager = NewsJob { name: "execute-change-prod".into(), ..dana.clone() }.played_by(8, "release-manager");
        let job_token = world.token(&manager);
        sends(world, &link, "approve", ("id_token", &job_token)).await;
        let credentials = role(world, "release", "canary").await;
        let signed = signed(world, &credentials, &link, Verdict::Approve);
        sends(world, &link, "approve", ("aws_identity", &signed)).await;

        let link_id = link.rsplit('/').next().unwrap().to_owned();
        let mut secrets = vec![
            ("the link", link_id),
            ("a NoEcho value", value),
            ("an ID token", id_token),
            ("a job's ID token", job_token),
            ("GitLab's code", code),
            ("the csrf token", csrf),
            ("an AWS signature", signed.split("X-Amz-Signature=").nth(1).unwrap().to_owned()),
            ("the task token", task_token.clone()),
        ];
        secrets.extend(sign_in.into_values().map(|cookie| ("a sign-in", cookie)));
        secrets.extend(session.into_values().map(|cookie| ("a session", cookie)));
        let mut logs =
            vec![("log".to_owned(), std::fs::read_to_string(world.control_plane.emulator.log_path()).unwrap())];
        for function in FUNCTIONS {
            logs.push((format!("the log of {function}"), world.log(function, began).await));
        }
        let (rows, objects, histories) = (table(world).await, objects(world).await, histories(world).await);
        // Each place is really read.
        let environment = on.environment.to_string();
        assert!(rows.iter().any(|(_, text)| text.contains(&environment)));
        assert!(objects.iter().any(|(key, text)| key.starts_with("releases/") && text.contains("NoEcho")));
        assert!(histories.iter().any(|(_, text)| text.contains(&environment)));
        // Of all functions, two had nothing to do.
        let silent = logs.iter().filter(|(_, text)| !text.contains("RequestId")).map(|(place, _)| place.as_str());
        let silent: Vec<&str> =
            silent.filter(|place| !["the log of teardown", "the log of sweep"].contains(place)).collect();
        assert_eq!(silent, ["log"], "the log of a function that says nothing");
        for (what, secret) in &secrets {
            assert!(secret.len() > 8, "{what}");
            for (place, text) in rows.iter().chain(&objects).chain(&histories).chain(&logs) {
                // The table is where the task token lives, in its approval's row alone; and Step Functions' own history tells which
                // one it gave to which step.
                let at_home = *what == "the task token" && (place.starts_with("APPROVAL#") || *place == arn);
                assert!(at_home || !text.contains(secret.as_str()), "{what} is in {place}");
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn where_aws_cannot_reach_gitlab_its_keys_are_in_a_parameter() {
    // One of its own: nobody else asks its GitLab for keys.
    let mut world = World::start(Some(0.05)).await;
    for function in ["ApiFunction", "WebFunction"] {
        world.keep_keys(function).await;
    }
    let kept = waiting(&world, "kept").await;
    let (status, told) = world.decide(&kept.link, "approve", &kept.played_by(8, "release-manager")).await;
    assert_eq!((status, told["state"].as_str()), (200, Some("approved")), "{told}");
    assert_eq!(world.end(&kept.arn).await.status, "SUCCEEDED");
    assert_eq!(world.control_plane.gitlab.hits(), 0, "api and web verified what they were sent, and asked nobody");

    // A key that only GitLab has is believed by neither.
    let other = waiting(&world, "other").await;
    world.control_plane.gitlab.rotate().unwrap();
    let manager = other.played_by(8, "release-manager");
    assert_eq!(world.status(&other.job, &other.on).await.unwrap_err().name, "InvalidToken");
    let (status, told) = world.decide(&other.link, "approve", &manager).await;
    assert_eq!((status, told["error"].as_str()), (401, Some("InvalidToken")), "{told}");
    assert!(other.decisions(&world).await.is_empty());

    // Once the parameter has it, too, both believe it.
    for function in ["ApiFunction", "WebFunction"] {
        world.keep_keys(function).await;
    }
    world.status(&other.job, &other.on).await.unwrap();
    assert_eq!(world.decide(&other.link, "reject", &manager).await.0, 200);
    assert_eq!(world.end(&other.arn).await.error, "ApprovalRejected");
    assert_eq!(world.control_plane.gitlab.hits(), 0);
    // Where there is no parameter, they ask.
    world.forget_keys("ApiFunction").await;
    world.status(&other.job, &other.on).await.unwrap();
    assert_eq!(world.control_plane.gitlab.hits(), 1);
}
