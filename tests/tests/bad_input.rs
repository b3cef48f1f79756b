//! What goes wrong before anything is deployed, over the real machines: each case ends with its own error name and a message
//! that a person can act on, with a free lease, nothing deployed and its result recorded. One row is one case: its name, what
//! is wrong, and what comes of it. Each row spoils one thing of something that is good otherwise.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]
#![allow(clippy::disallowed_methods, reason = "a token is issued now")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

use jiff::Timestamp;
use serde_json::{Value, json};
use slipway_bundle::{Archive, Limits};
use slipway_domain::ErrorName;
use slipway_domain::ErrorName::{
    BundleInvalid, BundleMissing, ChangeSetFailed, InvalidRequest, InvalidToken, LeaseHeld, LimitExceeded, NotAllowed,
    NotFound, ParameterInvalid, StageProtected, TemplateInvalid, UnknownStage,
};
use slipway_domain::deployment::{Ending, Launch};
use slipway_domain::environment::EnvironmentState;
use slipway_domain::names::{Digest, ParameterName};
use slipway_domain::protocol::{Admitted, Ask, DeployRequest, MAX_BUNDLE_BYTES};
use slipway_domain::release::bundle_key;
use slipway_domain::stages::Capability;
use slipway_local::gitlab::GitLab;
use slipway_local::job::NewsJob;
use slipway_local::{DEV, TOOLING, control_plane};
use slipway_tests::{Refused, World, bundle, in_world, job, launch, on, tiny, unique};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

/// How many executions run at once.
const AT_ONCE: usize = 4;
/// The most bytes of a message: a person reads it, and Step Functions hands on 256 KiB at most.
const LONGEST_MESSAGE: usize = 5000;
/// A stage that allows little. Unlike the others, it is only here.
const STRICT: &str = "strict";
/// A stage that the platform team takes away.
const GONE: &str = "gone";
/// A stage whose environments come and go, and where people are asked.
const ASKING: &str = "asking";

/// A case: its name, what is done, the error's name, and what its message says among other things.
type Row<T> = (&'static str, T, ErrorName, &'static [&'static str]);
/// Takes something good, and spoils one thing of it.
type Spoil<T> = fn(&mut T);

/// What is wrong with an answer, if it is not the one that is due: the name, every one of the words, and in few of them.
fn judged(case: &str, found: &Refused, error: ErrorName, says: &[&str]) -> Option<String> {
    let missing: Vec<&&str> = says.iter().filter(|word| !found.message.contains(**word)).collect();
    let bytes = found.message.len();
    let wrong = found.name != error.as_str() || !missing.is_empty() || bytes > LONGEST_MESSAGE;
    let shown: String = found.message.chars().take(500).collect();
    wrong.then(|| format!("{case}: {error} with {missing:?} expected, found {} in {bytes} bytes: {shown}", found.name))
}

fn none_of(problems: &[String]) {
    assert!(problems.is_empty(), "{} cases:\n{}", problems.len(), problems.join("\n"));
}

/// Configures the stages, with [`STRICT`], [`ASKING`] and, while it is `there`, [`GONE`].
async fn configure(world: &World, there: bool) {
    let mut stages: Value = serde_json::from_str(&control_plane::stages()).unwrap();
    stages[STRICT] = json!({"account": DEV, "ephemeral": true, "expires_in": "2d", "capabilities": ["CAPABILITY_IAM"]});
    stages[ASKING] = json!({"account": DEV, "ephemeral": true, "approval": {"required": 1, "approvers": ["release-manager"], "by_job": true}});
    if there {
        stages[GONE] = json!({"account": DEV, "ephemeral": true});
    }
    let ssm = aws_sdk_ssm::Client::new(&world.control_plane.emulator.sdk_config(TOOLING));
    let put = ssm.put_parameter().name(world.control_plane.output("StagesParameterName")).overwrite(true);
    put.value(stages.to_string()).send().await.unwrap();
}

/// Configures the stages, once for all tests.
async fn configured(world: &World) {
    static DONE: OnceCell<()> = OnceCell::const_new();
    DONE.get_or_init(|| configure(world, true)).await;
}

/// The partitions of the table's rows that name `text`.
async fn naming(world: &World, text: &str) -> BTreeSet<String> {
    let mut pages = world
        .dynamodb
        .scan()
        .table_name(world.control_plane.output("TableName"))
        .consistent_read(true)
        .into_paginator()
        .send();
    let mut found = BTreeSet::new();
    while let Some(page) = pages.next().await {
        let naming =
            page.unwrap().items.unwrap_or_default().into_iter().filter(|item| format!("{item:?}").contains(text));
        found.extend(naming.map(|item| item["pk"].as_s().unwrap().clone()));
    }
    found
}

// What `api` refuses.

/// A token that stands where none belongs.
const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2dpdGxhYi5jb20ifQ.c2lnbmF0dXJl";

/// A request, and the token that comes with it.
struct Asked {
    header: Value,
    claims: Value,
    /// Whether another issuer signs.
    forged: bool,
    /// What replaces the token that the above make.
    token: Option<fn(&str) -> String>,
    /// What is sent; the token is put into its `id_token`, if it has one.
    payload: Value,
}

impl Asked {
    /// A request to deploy in dev that is admitted as it is.
    fn good(world: &World, name: &str) -> Self {
        let gitlab = &world.control_plane.gitlab;
        let job = job(name, "feature");
        let request = DeployRequest {
            on: on("dev", &format!("review/{name}")),
            job: job.name.clone(),
            bundle_bytes: 10,
            launch: launch(&Digest::of(name.as_bytes())),
        };
        Self {
            header: json!({"alg": "RS256", "typ": "JWT", "kid": gitlab.kid()}),
            claims: gitlab.claims(&job.job, Timestamp::now()).unwrap(),
            forged: false,
            token: None,
            payload: json!({"id_token": "", "ask": Ask::Deploy(request)}),
        }
    }

    /// Asks for a repair instead.
    fn repair(&mut self, asked: Value) {
        self.payload["ask"] = json!({"repair": {"on": self.deploy()["on"], "job": "repair", "asked": asked}});
    }

    /// Asks to keep it instead.
    fn keep(&mut self, keep: Value) {
        self.payload["ask"] = json!({"keep": {"on": self.deploy()["on"], "keep": keep}});
    }

    /// Looks instead.
    fn look(&mut self, question: Value) {
        self.payload["ask"] = json!({"look": question});
    }

    fn deploy(&mut self) -> &mut Value {
        &mut self.payload["ask"]["deploy"]
    }

    fn protected(&mut self, stage: &str) {
        self.deploy()["on"]["stage"] = json!(stage);
        self.claims["ref"] = json!("main");
        self.claims["ref_protected"] = json!("true");
    }

    async fn ask(mut self, world: &World, forger: &GitLab) -> Result<Value, Refused> {
        let signer = if self.forged { forger } else { &world.control_plane.gitlab };
        let token = signer.sign_with(&self.header, &self.claims).unwrap();
        let token = self.token.map_or(token.clone(), |spoil| spoil(&token));
        if let Some(place) = self.payload.get_mut("id_token") {
            *place = json!(token);
        }
        world.invoke(world.control_plane.output("ApiFunction"), &self.payload).await
    }
}

const REQUESTS: &[Row<Spoil<Asked>>] = &[
    // Fields.
    ("no object", |a| a.payload = json!("deploy"), InvalidRequest, &["malformed", "a JSON object is expected"]),
    ("a list of the fields", |a| a.payload = json!(["", a.payload["ask"]]), InvalidRequest, &["a JSON object"]),
    ("no token", |a| a.payload = json!({"ask": a.payload["ask"]}), InvalidRequest, &["missing field `id_token`"]),
    ("no question", |a| a.payload = json!({"id_token": ""}), InvalidRequest, &["missing field `ask`"]),
    ("an unknown field", |a| a.payload["colour"] = json!(1), InvalidRequest, &["unknown field `colour`"]),
    ("one further in", |a| a.deploy()["project_id"] = json!(1), InvalidRequest, &["unknown field `project_id`"]),
    ("one in the names", |a| a.deploy()["on"]["account"] = json!(1), InvalidRequest, &["unknown field `account`"]),
    ("one in the launch", |a| a.deploy()["launch"]["role"] = json!(1), InvalidRequest, &["unknown field `role`"]),
    ("another question", |a| a.payload["ask"] = json!({"destroy": {}}), InvalidRequest, &["`destroy`", "`teardown`"]),
    ("two questions", |a| a.payload["ask"]["status"] = json!({}), InvalidRequest, &["malformed"]),
    (
        "a token in another place",
        |a| a.payload["ask"] = json!({TOKEN: {}}),
        InvalidRequest,
        &["malformed", "`teardown`"],
    ),
    ("a size below 0", |a| a.deploy()["bundle_bytes"] = json!(-1), InvalidRequest, &["malformed", "-1"]),
    ("a bundle of nothing", |a| a.deploy()["bundle_bytes"] = json!(0), BundleInvalid, &["0 bytes"]),
    (
        "a bundle over the limit",
        |a| a.deploy()["bundle_bytes"] = json!(MAX_BUNDLE_BYTES + 1),
        LimitExceeded,
        &["2147483649 bytes", "the limit is 2147483648"],
    ),
    ("no digest", |a| a.deploy()["launch"]["bundle"] = json!("../x"), InvalidRequest, &["\"../x\"", "64 lower-case"]),
    ("no job's name", |a| a.deploy()["job"] = json!(""), InvalidRequest, &["the job has no name"]),
    ("a long job's name", |a| a.deploy()["job"] = json!("j".repeat(1025)), InvalidRequest, &["job has 1025 bytes"]),
    (
        "large tags",
        |a| a.deploy()["launch"]["tags"] = json!({"k": "v".repeat(65536)}),
        InvalidRequest,
        &["parameters and tags", "the limit is 65536"],
    ),
    (
        "a large request",
        |a| a.deploy()["job"] = json!("j".repeat(131_072)),
        InvalidRequest,
        &["the request has", "the limit is 131072"],
    ),
    (
        "an illegal parameter",
        |a| a.deploy()["launch"]["parameters"] = json!({"Two Words": "x"}),
        InvalidRequest,
        &["parameter \"Two Words\"", "letters and digits"],
    ),
    (
        "an unknown capability",
        |a| a.deploy()["launch"]["capabilities"] = json!(["CAPABILITY_ALL"]),
        InvalidRequest,
        &["`CAPABILITY_ALL`", "`CAPABILITY_NAMED_IAM`"],
    ),
    (
        "no span of time",
        |a| a.deploy()["launch"]["expires_in"] = json!("a week"),
        InvalidRequest,
        &["\"a week\"", "for example 7d"],
    ),
    (
        "no deployment's id",
        |a| a.payload["ask"] = json!({"look": {"status": {"on": a.deploy()["on"], "deployment": "1"}}}),
        InvalidRequest,
        &["malformed"],
    ),
    ("another look", |a| a.look(json!({"delete": {}})), InvalidRequest, &["`delete`", "`history`"]),
    ("no page", |a| a.look(json!({"environments": {"page": "x"}})), InvalidRequest, &["no place where this listing"]),
    (
        "another project's page",
        |a| a.look(json!({"environments": {"page": "LISTED#2:42#dev#news#x"}})),
        InvalidRequest,
        &["no place where this listing"],
    ),
    ("no state", |a| a.look(json!({"environments": {"state": "dead"}})), InvalidRequest, &["`dead`", "`torn_down`"]),
    ("an endless wait", |a| a.look(json!({"environments": {"expiring": "soon"}})), InvalidRequest, &["\"soon\""]),
    ("a project of one's choice", |a| a.look(json!({"environments": {"project": 42}})), InvalidRequest, &["`project`"]),
    (
        "a history before nothing",
        |a| a.payload["ask"] = json!({"look": {"history": {"on": a.deploy()["on"], "before": "1"}}}),
        InvalidRequest,
        &["malformed"],
    ),
    (
        "a history of nothing",
        |a| a.payload["ask"] = json!({"look": {"history": {"on": a.deploy()["on"]}}}),
        NotFound,
        &["there is no deployment of review/"],
    ),
    (
        "a reason for nothing",
        |a| a.payload["ask"] = json!({"look": {"why": {"on": a.deploy()["on"]}}}),
        NotFound,
        &["there is no environment review/"],
    ),
    ("nothing to skip", |a| a.repair(json!({"skip": []})), InvalidRequest, &["0 resources to skip", "from 1 to 100"]),
    (
        "too much to skip",
        |a| a.repair(json!({"skip": (0..101).map(|at| format!("R{at}")).collect::<Vec<_>>()})),
        InvalidRequest,
        &["101 resources to skip"],
    ),
    (
        "no resource's name",
        |a| a.repair(json!({"skip": ["a/b"]})),
        InvalidRequest,
        &["resource \"a/b\"", "letters and digits"],
    ),
    ("no repair", |a| a.repair(json!("force")), InvalidRequest, &["`force`", "`retry`"]),
    (
        "a repair without a job's name",
        |a| a.payload["ask"] = json!({"repair": {"on": a.deploy()["on"], "job": "", "asked": "look"}}),
        InvalidRequest,
        &["the job has no name"],
    ),
    ("a repair of what is not there", |a| a.repair(json!("look")), NotFound, &["there is no environment review/"]),
    (
        "nothing to keep by",
        |a| a.payload["ask"] = json!({"keep": {"on": a.deploy()["on"]}}),
        InvalidRequest,
        &["missing field `keep`"],
    ),
    ("kept for ever", |a| a.keep(json!({"forever": {}})), InvalidRequest, &["`forever`", "`unpin`"]),
    ("kept twice", |a| a.keep(json!({"unpin": {}, "extend": {"span": null}})), InvalidRequest, &["malformed"]),
    ("kept until some time", |a| a.keep(json!({"extend": {"span": "soon"}})), InvalidRequest, &["\"soon\""]),
    (
        "kept by a date",
        |a| a.keep(json!({"extend": {"until": "2027-01-01"}})),
        InvalidRequest,
        &["unknown field `until`"],
    ),
    (
        "kept for longer than the stage allows",
        |a| a.keep(json!({"extend": {"span": "8d"}})),
        NotAllowed,
        &["8d", "stage dev allows at most 7d"],
    ),
    ("a pin for no reason", |a| a.keep(json!({"pin": {"span": "1d"}})), InvalidRequest, &["missing field `reason`"]),
    (
        "a pin for a blank one",
        |a| a.keep(json!({"pin": {"span": "1d", "reason": " \n"}})),
        InvalidRequest,
        &["a pin needs a reason"],
    ),
    (
        "a pin for a long one",
        |a| a.keep(json!({"pin": {"span": "1d", "reason": "x".repeat(501)}})),
        InvalidRequest,
        &["reason has 501", "the limit is 500"],
    ),
    ("a pin for too long", |a| a.keep(json!({"pin": {"span": "91d", "reason": "x"}})), NotAllowed, &["91d", "90d"]),
    (
        "a pin in another's name",
        |a| a.keep(json!({"pin": {"span": "1d", "reason": "x", "by": "kim"}})),
        InvalidRequest,
        &["unknown field `by`"],
    ),
    (
        "a pin that is not let go",
        |a| a.keep(json!({"unpin": {"force": true}})),
        InvalidRequest,
        &["unknown field `force`"],
    ),
    ("what is not there, kept", |a| a.keep(json!({"unpin": {}})), NotFound, &["is not there", "deploy it first"]),
    (
        "kept in a stage that is not there",
        |a| {
            a.deploy()["on"]["stage"] = json!("qa");
            a.keep(json!({"unpin": {}}));
        },
        UnknownStage,
        &["\"qa\""],
    ),
    (
        "kept by another ref",
        |a| {
            a.deploy()["on"]["stage"] = json!("staging");
            a.keep(json!({"unpin": {}}));
        },
        NotAllowed,
        &["ref is \"feature\"", "stage staging allows main"],
    ),
    // Names.
    (
        "an unknown stage",
        |a| a.deploy()["on"]["stage"] = json!("qa"),
        UnknownStage,
        &["\"qa\"", "there are: asking, critical, dev, "],
    ),
    (
        "an illegal stage",
        |a| a.deploy()["on"]["stage"] = json!("Dev"),
        InvalidRequest,
        &["stage \"Dev\"", "lower-case"],
    ),
    (
        "an illegal application",
        |a| a.deploy()["on"]["application"] = json!("my app"),
        InvalidRequest,
        &["application \"my app\"", "1 to 40 lower-case"],
    ),
    (
        "a long application",
        |a| a.deploy()["on"]["application"] = json!("a".repeat(41)),
        InvalidRequest,
        &["application", "1 to 40"],
    ),
    (
        "no environment",
        |a| a.deploy()["on"]["environment"] = json!(""),
        InvalidRequest,
        &["environment \"\"", "1 to 255"],
    ),
    (
        "an environment that is a key",
        |a| a.deploy()["on"]["environment"] = json!("a#META"),
        InvalidRequest,
        &["environment \"a#META\"", "letters, digits and any of"],
    ),
    (
        "an environment of two lines",
        |a| a.deploy()["on"]["environment"] = json!("a\nb"),
        InvalidRequest,
        &["environment \"a?b\""],
    ),
    (
        "an environment that is not there",
        |a| a.payload["ask"] = json!({"look": {"status": {"on": a.deploy()["on"]}}}),
        NotFound,
        &["there is no environment review/"],
    ),
    // Who asks.
    ("no JWT", |a| a.token = Some(|_| "secret".into()), InvalidToken, &["three parts", "`id_tokens:`"]),
    ("an empty token", |a| a.token = Some(|_| String::new()), InvalidToken, &["three parts"]),
    ("a huge token", |a| a.token = Some(|t| t.repeat(40)), InvalidToken, &["at most 16384 are read"]),
    ("another one's signature", |a| a.forged = true, InvalidToken, &["signature is not by the issuer's key"]),
    (
        "a cut signature",
        |a| a.token = Some(|t| t.chars().take(t.len() - 10).collect()),
        InvalidToken,
        &["signature is not by the issuer's key"],
    ),
    (
        "no signature",
        |a| a.token = Some(|t| format!("{}.", t.rsplit_once('.').unwrap().0)),
        InvalidToken,
        &["signature is not by the issuer's key"],
    ),
    ("an unsigned token", |a| a.header["alg"] = json!("none"), InvalidToken, &["alg \"none\"", "RS256"]),
    ("a shared secret", |a| a.header["alg"] = json!("HS256"), InvalidToken, &["alg \"HS256\"", "RS256"]),
    ("an unknown key", |a| a.header["kid"] = json!("k"), InvalidToken, &["key \"k\"", "run the job again"]),
    ("another issuer", |a| a.claims["iss"] = json!("https://evil.com"), InvalidToken, &["iss is \"https://evil.com\""]),
    (
        "another audience",
        |a| a.claims["aud"] = json!("vault"),
        InvalidToken,
        &["aud is \"vault\"", "it must be slipway"],
    ),
    (
        "more than one audience",
        |a| a.claims["aud"] = json!(["slipway", "vault"]),
        InvalidToken,
        &["aud is [", "and nothing else"],
    ),
    (
        "an expired token",
        |a| a.claims["exp"] = json!(Timestamp::now().as_second() - 120),
        InvalidToken,
        &["the ID token has expired", "Run the job again"],
    ),
    (
        "a token of the future",
        |a| a.claims["nbf"] = json!(Timestamp::now().as_second() + 120),
        InvalidToken,
        &["nbf", "not valid yet"],
    ),
    ("a claim less", |a| a.claims["user_id"] = Value::Null, InvalidToken, &["claim user_id is missing"]),
    ("a claim of a kind", |a| a.claims["project_id"] = json!(101), InvalidToken, &["claim project_id is 101"]),
    // What the stage allows.
    (
        "another project",
        |a| a.claims["project_path"] = json!("other/news"),
        NotAllowed,
        &["project_path is \"other/news\"", "stage dev allows group/*"],
    ),
    ("a fork", |a| a.claims["job_project_id"] = json!("999"), NotAllowed, &["job_project_id", "fork"]),
    (
        "another ref",
        |a| a.deploy()["on"]["stage"] = json!("staging"),
        NotAllowed,
        &["ref is \"feature\"", "stage staging allows main"],
    ),
    (
        "an unprotected ref",
        |a| {
            a.protected("prod");
            a.claims["ref_protected"] = json!("false");
        },
        NotAllowed,
        &["ref_protected is \"false\" for \"main\"", "protect the branch in GitLab"],
    ),
    (
        "a merge request's pipeline",
        |a| {
            a.protected("prod");
            a.claims["pipeline_source"] = json!("merge_request_event");
        },
        NotAllowed,
        &["pipeline_source is \"merge_request_event\"", "branch and tag pipelines only"],
    ),
    (
        "a capability",
        |a| a.deploy()["on"]["stage"] = json!(STRICT),
        NotAllowed,
        &["CAPABILITY_NAMED_IAM is asked for", "stage strict does not allow it"],
    ),
    (
        "a long life",
        |a| a.deploy()["launch"]["expires_in"] = json!("8d"),
        NotAllowed,
        &["expires_in is 8d", "stage dev allows at most 7d"],
    ),
    (
        "a teardown of what is protected",
        |a| {
            a.protected("prod");
            a.payload["ask"] = json!({"teardown": {"on": a.deploy()["on"], "job": a.deploy()["job"]}});
        },
        StageProtected,
        &["stage prod is protected", "never deletes"],
    ),
    (
        "a plan in a stage that is not there",
        |a| {
            a.payload["ask"] =
                json!({"plan_teardown": {"on": with(a.deploy()["on"].clone(), "stage", json!("nowhere"))}})
        },
        UnknownStage,
        &["there is no stage \"nowhere\""],
    ),
    (
        "a plan with a job",
        |a| a.payload["ask"] = json!({"plan_teardown": {"on": a.deploy()["on"], "job": "x"}}),
        InvalidRequest,
        &["unknown field `job`"],
    ),
    (
        "a purge that is no yes or no",
        |a| a.payload["ask"] = json!({"teardown": {"on": a.deploy()["on"], "job": "x", "purge_logs": "all"}}),
        InvalidRequest,
        &["malformed", "a boolean"],
    ),
];

#[test]
fn what_api_refuses_leaves_its_record_alone() {
    in_world(|world| async move {
        configured(world).await;
        let forger = GitLab::start(None).await.unwrap();
        let accepted = Asked::good(world, &format!("accepted-{}", unique())).ask(world, &forger).await.unwrap();
        assert!(accepted["upload"]["url"].is_string(), "as it is, the request is good: {accepted}");
        let accepted = naming(world, "accepted-").await;
        assert!(accepted.iter().any(|partition| partition.starts_with("ADMISSION#")), "{accepted:?}");
        let mut problems = Vec::new();
        for (case, spoil, error, says) in REQUESTS {
            let mut asked = Asked::good(world, &format!("refused-{}", unique()));
            spoil(&mut asked);
            match asked.ask(world, &forger).await {
                Ok(answer) => problems.push(format!("{case}: admitted: {answer}")),
                Err(refused) => {
                    problems.extend(judged(case, &refused, *error, says));
                    assert!(!refused.message.contains(TOKEN), "{case}: a token is told, and logged: {refused:?}");
                }
            }
        }
        none_of(&problems);
        // What a stage's policy refuses goes on record, and that is all.
        let refused = naming(world, "refused-").await;
        assert!(!refused.is_empty() && refused.iter().all(|partition| partition.starts_with("AUDIT#")), "{refused:?}");
    });
}

#[test]
fn a_token_stands_for_one_request() {
    in_world(|world| async move {
        let mut job = job("deploy-dev", "feature");
        job.job.jti = Some(format!("jti-{}", unique()));
        let on = on("dev", &format!("review/reused-{}", unique()));
        let (one, other) = (launch(&Digest::of(b"one")), launch(&Digest::of(b"other")));
        let first = world.admit(&job, &on, one.clone(), 10).await.unwrap();
        let refused = world.admit(&job, &on, other, 10).await.unwrap_err();
        let says = ["already used for another request", "retry the job"];
        assert_eq!(judged("a reused token", &refused, InvalidRequest, &says), None);
        let again = world.admit(&job, &on, one, 10).await.unwrap();
        assert_eq!(again.admission, first.admission, "the same request gets the same answer");
    });
}

// What a state machine refuses to begin.

/// An execution.
struct Start {
    machine: String,
    name: String,
    input: Value,
    /// What the admission's row is made to say.
    admitted_at: Option<&'static str>,
    other_machine: String,
}

const EXECUTIONS: &[Row<Spoil<Start>>] = &[
    ("nothing", |s| s.input = json!({}), InvalidRequest, &["missing field `admission`"]),
    ("null", |s| s.input = Value::Null, InvalidRequest, &["a JSON object is expected"]),
    ("a text", |s| s.input = s.input["admission"].clone(), InvalidRequest, &["a JSON object is expected"]),
    ("a list", |s| s.input = json!([s.input["admission"], 1]), InvalidRequest, &["a JSON object is expected"]),
    ("an unknown field", |s| s.input["stage"] = json!("prod"), InvalidRequest, &["unknown field `stage`"]),
    (
        "a field without end",
        |s| s.input["x".repeat(100_000)] = json!(1),
        InvalidRequest,
        &["malformed", "unknown field", "expected `admission` or `attempt`"],
    ),
    ("an attempt of a kind", |s| s.input["attempt"] = json!("1"), InvalidRequest, &["string \"1\""]),
    ("no digest", |s| s.input["admission"] = json!("x"), InvalidRequest, &["digest \"x\"", "64 lower-case"]),
    (
        "an unknown admission",
        |s| s.input["admission"] = json!("0".repeat(64)),
        NotFound,
        &["admission does not exist", "only `slipway` starts executions"],
    ),
    ("another name", |s| s.name = format!("mine-{}", unique()), NotAllowed, &["the execution mine-", "belongs to it"]),
    ("another attempt", |s| s.input["attempt"] = json!(2), NotAllowed, &["is not one that its admission admits"]),
    ("no attempt", |s| s.input["attempt"] = json!(0), NotAllowed, &["is not one that its admission admits"]),
    ("one attempt more", |s| s.input["attempt"] = json!(101), NotAllowed, &["is not one that its admission admits"]),
    (
        "the other machine",
        |s| s.machine.clone_from(&s.other_machine),
        NotAllowed,
        &["admits a deploy", "not a teardown"],
    ),
    (
        "an old admission",
        |s| s.admitted_at = Some("2020-01-01T00:00:00Z"),
        NotAllowed,
        &["may be used for two hours", "retry the job"],
    ),
];

#[test]
fn an_execution_that_was_not_admitted_begins_nothing() {
    in_world(|world| async move {
        let problems = all(EXECUTIONS.iter().map(|row| begin_nothing(world, row))).await;
        none_of(&problems);
    });
}

/// Runs all, a few at a time.
async fn all<F>(cases: impl Iterator<Item = F>) -> Vec<String>
where
    F: Future<Output = Vec<String>> + Send + 'static,
{
    let (mut running, mut problems) = (JoinSet::new(), Vec::new());
    for case in cases {
        if running.len() == AT_ONCE {
            problems.extend(running.join_next().await.unwrap().unwrap());
        }
        running.spawn(case);
    }
    while let Some(ended) = running.join_next().await {
        problems.extend(ended.unwrap());
    }
    problems
}

async fn begin_nothing(world: &'static World, (case, spoil, error, says): &'static Row<Spoil<Start>>) -> Vec<String> {
    let (job, on) = (job("deploy-dev", "feature"), on("dev", &format!("review/unadmitted-{}", unique())));
    let (digest, zip) = bundle(&tiny(&format!("v{}", unique())));
    let admitted = world.admit(&job, &on, launch(&digest), zip.len()).await.unwrap();
    world.upload(&admitted, zip).await;
    let mut start = Start {
        machine: admitted.state_machine_arn.clone(),
        name: name_of(&admitted, &job),
        input: json!({"admission": admitted.admission, "attempt": 1}),
        admitted_at: None,
        other_machine: world.control_plane.output("TeardownMachine").to_owned(),
    };
    spoil(&mut start);
    if let Some(at) = start.admitted_at {
        admitted_at(world, &admitted, at).await;
    }
    let request = world.machines.start_execution().state_machine_arn(&start.machine).name(&start.name);
    let started = request.input(start.input.to_string()).send().await.unwrap();
    let ended = world.end(started.execution_arn()).await;
    let found = Refused { name: ended.error.clone(), message: ended.cause.clone() };
    let mut problems: Vec<String> = judged(case, &found, *error, says).into_iter().collect();
    // The admission's own row is all there is: no environment, no deployment, no lease.
    for row in ["META", "LEASE"] {
        problems.extend(world.row(&on, row).await.map(|row| format!("{case}: began: {row}")));
    }
    problems
}

fn name_of(admitted: &Admitted, job: &NewsJob) -> String {
    let Admitted { action, environment, pipeline_id, .. } = admitted;
    slipway_domain::deployment::execution_name(*action, environment, *pipeline_id, &job.name, 1)
}

async fn admitted_at(world: &World, admitted: &Admitted, at: &str) {
    use aws_sdk_dynamodb::types::AttributeValue;
    let request = world.dynamodb.update_item().table_name(world.control_plane.output("TableName"));
    let request = request.key("pk", AttributeValue::S(format!("ADMISSION#{}", admitted.admission)));
    let request =
        request.key("sk", AttributeValue::S("ADMISSION".into())).update_expression("SET #row.admitted_at = :at");
    let request = request.expression_attribute_names("#row", "row");
    request.expression_attribute_values(":at", AttributeValue::S(at.into())).send().await.unwrap();
}

#[test]
fn a_stage_that_went_meanwhile_deploys_nothing() {
    in_world(|world| async move {
        configured(world).await;
        let (job, on) = (job("deploy-dev", "feature"), on(GONE, &format!("review/{}", unique())));
        let (digest, zip) = bundle(&tiny("gone"));
        let admitted = world.admit(&job, &on, launch(&digest), zip.len()).await.unwrap();
        world.upload(&admitted, zip).await;
        configure(world, false).await;
        let ended = world.end(&world.start_admitted(&admitted, &job).await).await;
        let found = Refused { name: ended.error, message: ended.cause };
        assert_eq!(judged("gone", &found, UnknownStage, &["\"gone\"", "there are: asking, critical, dev"]), None);
        assert!(world.lease_is_free(&on).await);
    });
}

// What is admitted, and then cannot be deployed.

/// What a job sends.
struct Sent {
    launch: Launch,
    /// The bundle; nothing when it is not sent.
    zip: Option<Vec<u8>>,
}

impl Sent {
    /// A template that is packaged as `slipway` does.
    fn template(text: &str) -> Self {
        let (digest, zip) = bundle(&format!("{text}\n# {}\n", unique()));
        Self { launch: launch(&digest), zip: Some(zip) }
    }

    /// These bytes, under the digest that their content has if it can be read at all.
    fn bytes(zip: Vec<u8>) -> Self {
        let listing = Archive::open(Cursor::new(&zip), &Limits::default()).and_then(|mut archive| archive.verify());
        let digest = match listing {
            Ok(listing) => Digest::new(listing.digest().as_str()).unwrap(),
            Err(_) => Digest::of(format!("{}", unique()).as_bytes()),
        };
        Self { launch: launch(&digest), zip: Some(zip) }
    }

    /// A good template, and these files.
    fn files(files: &[File<'_>]) -> Self {
        let template = tiny(&format!("v{}", unique()));
        let template = File { name: "template.yaml", content: template.as_bytes(), ..File::default() };
        Self::bytes(zip([&[template], files].concat().as_slice()))
    }

    fn parameter(mut self, name: &str, value: &str) -> Self {
        self.launch.parameters.insert(ParameterName::new(name).unwrap(), value.to_owned());
        self
    }
}

/// An entry of a zip that nobody's tool would write.
#[derive(Clone, Copy)]
struct File<'f> {
    name: &'f str,
    content: &'f [u8],
    mode: u32,
    /// 0 is stored, 8 is deflated.
    method: u16,
    /// How large it claims to be, if that is not its size.
    claims: Option<u32>,
    crc: Option<u32>,
}

impl Default for File<'_> {
    fn default() -> Self {
        Self { name: "file", content: b"content", mode: 0o100_644, method: 0, claims: None, crc: None }
    }
}

/// A file that claims to inflate to so many MiB.
fn claiming(name: &str, mebibytes: u32) -> File<'_> {
    File { name, method: 8, claims: Some(mebibytes << 20), ..File::default() }
}

fn zip(files: &[File<'_>]) -> Vec<u8> {
    let (mut zip, mut directory) = (Vec::new(), Vec::new());
    for file in files {
        let offset = u32::try_from(zip.len()).unwrap();
        let size = u32::try_from(file.content.len()).unwrap();
        let mut fields = vec![20, 0, 0, 0]; // Version needed, no flags,
        fields.extend(file.method.to_le_bytes());
        fields.extend([0, 0, 0x21, 0]); // 1980-01-01,
        for number in [file.crc.unwrap_or_else(|| crc(file.content)), size, file.claims.unwrap_or(size)] {
            fields.extend(number.to_le_bytes());
        }
        fields.extend(u16::try_from(file.name.len()).unwrap().to_le_bytes());
        fields.extend([0, 0]); // and no extra field.
        zip.extend(b"PK\x03\x04");
        zip.extend(&fields);
        zip.extend(file.name.as_bytes());
        zip.extend(file.content);
        directory.extend(b"PK\x01\x02\x14\x03"); // Made on Unix.
        directory.extend(&fields);
        directory.extend([0; 6]);
        directory.extend((file.mode << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(file.name.as_bytes());
    }
    let count = u16::try_from(files.len()).unwrap().to_le_bytes();
    let (size, offset) = (u32::try_from(directory.len()).unwrap(), u32::try_from(zip.len()).unwrap());
    zip.extend(directory);
    zip.extend(b"PK\x05\x06\0\0\0\0");
    zip.extend([count, count].concat());
    zip.extend([size.to_le_bytes(), offset.to_le_bytes()].concat());
    zip.extend([0, 0]);
    zip
}

/// The checksum of zip (CRC-32).
fn crc(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1))))
}

/// A template with a function whose code is at `path`.
fn function(path: &str) -> String {
    format!(
        "Transform: AWS::Serverless-2016-10-31\nResources:\n  Api:\n    Type: AWS::Serverless::Function\n    Properties:\n      \
         Runtime: python3.12\n      Handler: app.handler\n      CodeUri: {path}\n"
    )
}

const DEPLOYMENTS: &[Row<fn() -> Sent>] = &[
    // Bundles.
    ("a missing bundle", || Sent { zip: None, ..Sent::template(&tiny("x")) }, BundleMissing, &["is not in the bucket"]),
    ("an empty bundle", || Sent::bytes(vec![]), BundleInvalid, &["no complete zip", "0 bytes"]),
    ("no zip", || Sent::bytes(vec![b'x'; 4096]), BundleInvalid, &["no complete zip", "does not look like one"]),
    (
        "a truncated bundle",
        || {
            let mut zip = zip(&[File::default(); 1]);
            zip.truncate(zip.len() - 10);
            Sent::bytes(zip)
        },
        BundleInvalid,
        &["no complete zip", "cut off", "upload it again"],
    ),
    (
        "a bundle with a hole",
        || {
            let mut zip = zip(&[File::default(), File { name: "other", ..File::default() }]);
            zip.drain(20..60);
            Sent::bytes(zip)
        },
        BundleInvalid,
        &["no complete zip", "cut off"],
    ),
    (
        "a damaged file",
        || Sent::files(&[File { name: "src/a.py", crc: Some(1), ..File::default() }]),
        BundleInvalid,
        &["`src/a.py` is damaged", "checksum"],
    ),
    (
        "no template",
        || Sent::bytes(zip(&[File { content: unique().to_string().as_bytes(), ..File::default() }])),
        TemplateInvalid,
        &["no `template.yaml` at its root", "make it with `slipway`"],
    ),
    (
        "a name that climbs",
        || Sent::files(&[File { name: "src/../../x", ..File::default() }]),
        BundleInvalid,
        &["`src/../../x`", "do not climb"],
    ),
    (
        "an absolute name",
        || Sent::files(&[File { name: "/etc/passwd", ..File::default() }]),
        BundleInvalid,
        &["`/etc/passwd` is absolute"],
    ),
    (
        "a name with a backslash",
        || Sent::files(&[File { name: "..\\x", ..File::default() }]),
        BundleInvalid,
        &["has a backslash"],
    ),
    (
        "a link",
        || Sent::files(&[File { name: "src", content: b"/etc", mode: 0o120_777, ..File::default() }]),
        BundleInvalid,
        &["`src` is a symbolic link", "plain files"],
    ),
    (
        "a device",
        || Sent::files(&[File { mode: 0o060_644, ..File::default() }]),
        BundleInvalid,
        &["neither a file nor"],
    ),
    ("a name twice", || Sent::files(&[File::default(); 2]), BundleInvalid, &["has `file` twice"]),
    (
        "too many files",
        || Sent::bytes(zip(&vec![File { content: b"", ..File::default() }; 50_001])),
        LimitExceeded,
        &["more than 50000 files"],
    ),
    (
        "too large a file",
        || Sent::files(&[claiming("big", 600)]),
        LimitExceeded,
        &["`big` has 629145600 bytes", "the limit for one file is 536870912"],
    ),
    (
        "too large files",
        || Sent::files(&["a", "b", "c", "d", "e", "f"].map(|name| claiming(name, 400))),
        LimitExceeded,
        &["all files together have more than 2147483648 bytes"],
    ),
    (
        "too good a compression",
        || Sent::files(&[claiming("bomb", 17)]),
        LimitExceeded,
        &["more than 200 times as many are refused"],
    ),
    (
        "another bundle than announced",
        || Sent { launch: launch(&Digest::of(unique().to_string().as_bytes())), ..Sent::template(&tiny("x")) },
        BundleInvalid,
        &["the bundle's digest is", "was announced"],
    ),
    // Templates.
    ("an empty template", || Sent::template(""), TemplateInvalid, &["no `Resources`"]),
    ("no YAML", || Sent::template("Resources: [}"), TemplateInvalid, &["line 1", "cannot be read"]),
    ("a text", || Sent::template("just words"), TemplateInvalid, &["no `Resources`"]),
    (
        "a key twice",
        || Sent::template("Resources:\n  A: {Type: AWS::SNS::Topic}\n  A: {Type: AWS::SQS::Queue}"),
        TemplateInvalid,
        &["line 3", "`A` is there already, on line 2"],
    ),
    ("no resources", || Sent::template("Parameters: {A: {Type: String}}"), TemplateInvalid, &["no `Resources`"]),
    ("empty resources", || Sent::template("Resources: {}"), TemplateInvalid, &["at least one resource"]),
    (
        "two documents",
        || Sent::template(&format!("{}---\n{}", tiny("a"), tiny("b"))),
        TemplateInvalid,
        &["second YAML document"],
    ),
    (
        "a path that is not in the bundle",
        || Sent::template(&function("src/api")),
        TemplateInvalid,
        &["line 8", "Api: `CodeUri`", "`src/api`", "is not there", "build the application first"],
    ),
    (
        "a path without end",
        || Sent::template(&function(&"x".repeat(300_000))),
        TemplateInvalid,
        &["line 8, column 16: Api: `CodeUri`: `xxx", "x`, which the template references, is not there"],
    ),
    (
        "a path that leaves the bundle",
        || Sent::template(&function("../src")),
        TemplateInvalid,
        &["template.yaml, line 8", "Api: `CodeUri`: `../src` leads out of the application's folder"],
    ),
    (
        "a path with a backslash",
        || Sent::template(&function("src\\api")),
        TemplateInvalid,
        &["Api: `CodeUri`", "backslash"],
    ),
    (
        "a template over 1 MB",
        || Sent::template(&format!("{}# {}", tiny("x"), "x".repeat(1_000_000))),
        LimitExceeded,
        &["CloudFormation reads at most 1000000", "nested stacks"],
    ),
    // What CloudFormation is asked.
    (
        "an unknown parameter",
        || Sent::template(&tiny("x")).parameter("Sise", "large"),
        ParameterInvalid,
        &["no parameter Sise", "it has: Size"],
    ),
    (
        "a parameter too few",
        || Sent::template(&format!("{}\n", tiny("x").replace(", Default: small", ""))),
        ParameterInvalid,
        &["Size has no default and was not given"],
    ),
    (
        "a secret in the open",
        || Sent::template(&tiny("x").replace("Default: small", "NoEcho: true")).parameter("Size", "hunter2"),
        ParameterInvalid,
        &["Size is NoEcho", "dynamic reference"],
    ),
    (
        "an unknown resource type",
        || Sent::template("Resources: {Thing: {Type: AWS::Nothing::Thing}}"),
        ChangeSetFailed,
        &["AWS::Nothing::Thing"],
    ),
    (
        "a function without a handler",
        || {
            let text = "Transform: AWS::Serverless-2016-10-31\nResources:\n  Api:\n    Type: AWS::Serverless::Function\n    \
                        Properties: {Runtime: python3.12, InlineCode: pass}";
            let mut sent = Sent::template(text);
            sent.launch.capabilities.push(Capability::AutoExpand);
            sent
        },
        ChangeSetFailed,
        &["Api", "Handler"],
    ),
];

#[test]
fn what_cannot_be_deployed_is_recorded_and_deploys_nothing() {
    in_world(|world| async move {
        let problems = all(DEPLOYMENTS.iter().map(|row| deploy_nothing(world, row))).await;
        none_of(&problems);
        // And no empty shell of one is left.
        let dev = world.control_plane.emulator.sdk_config(DEV);
        let stacks = slipway_local::inspect::stacks(&dev, "slipway-tiny-dev-review-bad").await.unwrap();
        assert_eq!(stacks, []);
    });
}

#[test]
fn what_people_refuse_leaves_no_shell() {
    in_world(|world| async move {
        configured(world).await;
        let (dana, on) = (job("deploy-dev", "feature"), on(ASKING, &format!("review/{}", unique())));
        let arn = world.begin(&dana, &on, &tiny("asks")).await;
        let link = world.asked(&dana, &on).await;
        assert_eq!(world.stack_status(DEV, &dana, &on).await.as_deref(), Some("REVIEW_IN_PROGRESS"));
        let mut manager = dana.clone().played_by(8, "release-manager");
        manager.job.ref_protected = true;
        let (code, body) = world.decide(&link, "reject", &manager).await;
        assert_eq!(code, 200, "{body}");
        assert_eq!(world.end(&arn).await.error, "ApprovalRejected");
        // CloudFormation deletes it in its own time.
        for _ in 0..100 {
            if world.stack_status(DEV, &dana, &on).await.is_none() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert_eq!(world.stack_status(DEV, &dana, &on).await, None);
        assert!(world.lease_is_free(&on).await);
    });
}

async fn deploy_nothing(world: &'static World, (case, make, error, says): &'static Row<fn() -> Sent>) -> Vec<String> {
    let (job, on) = (job("deploy-dev", "feature"), on("dev", &format!("review/bad-{}", unique())));
    let Sent { launch, zip } = make();
    let secrets: Vec<String> = launch.parameters.values().filter(|value| *value == "hunter2").cloned().collect();
    let bytes = zip.as_ref().map_or(1000, Vec::len).max(1);
    let key = bundle_key(slipway_domain::names::ProjectId(101), &launch.bundle);
    if let Some(zip) = zip {
        world.s3.put_object().bucket(world.bucket()).key(key).body(zip.into()).send().await.unwrap();
    }
    let admitted = world.admit(&job, &on, launch, bytes).await.unwrap();
    let ended = world.end(&world.start_admitted(&admitted, &job).await).await;
    let found = Refused { name: ended.error, message: ended.cause };
    let mut problems: Vec<String> = judged(case, &found, *error, says).into_iter().collect();
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            problems.push(format!("{case}: not so: {what}"));
        }
    };
    expect(secrets.iter().all(|secret| !found.message.contains(secret)), "no secret is told");
    expect(
        world.row(&on, "LEASE").await.is_some_and(|lease| lease["owner"].is_null()),
        "the lease was taken and is free",
    );
    let status = world.status(&job, &on).await.unwrap();
    expect(status.state == EnvironmentState::Failed, "the environment failed");
    expect(status.release.is_none() && status.url.is_none(), "nothing is live");
    let outcome = status.deployment.unwrap().outcome;
    expect(
        outcome.is_some_and(|outcome| {
            outcome.ending == Ending::Failed && outcome.error == Some(*error) && outcome.message == Some(found.message)
        }),
        "the result is recorded, with the same words",
    );
    let stack = world.cloudformation(DEV).describe_stacks().stack_name(status.stack_name.to_string()).send().await;
    expect(stack.is_err(), "there is no stack, and no shell of one");
    problems
}

// What a function refuses, whoever sends it.

/// A reference to a deployment that nobody began.
fn nobody() -> Value {
    json!({
        "environment": {"project": 101, "application": "tiny", "stage": "dev", "environment": "review/nobody"},
        "id": "0190a000-0000-7000-8000-000000000000",
        "fence": 1,
    })
}

fn with(mut value: Value, field: &str, changed: Value) -> Value {
    value[field] = changed;
    value
}

const INPUTS: &[Row<fn() -> Value>] = &[
    ("BeginFunction", || json!({}), InvalidRequest, &["malformed"]),
    ("BeginFunction", || json!([]), InvalidRequest, &["a JSON object is expected"]),
    ("BeginFunction", || json!({"end": {}}), InvalidRequest, &["`end`", "`begin`"]),
    ("BeginFunction", || json!({"begin": {"arn": "a"}}), InvalidRequest, &["missing field"]),
    ("BeginFunction", || json!({"resume": nobody()}), NotFound, &["there is no deployment 0190a000", "review/nobody"]),
    ("ReaderFunction", || json!({}), InvalidRequest, &["missing field `look`"]),
    ("ReaderFunction", || json!([101, {"environments": {}}]), InvalidRequest, &["a JSON object is expected"]),
    ("ReaderFunction", || json!({"project": -1, "look": {"environments": {}}}), InvalidRequest, &["malformed", "-1"]),
    ("ReaderFunction", || json!({"project": null, "look": {"unlock": {}}}), InvalidRequest, &["`unlock`", "`status`"]),
    (
        "ReaderFunction",
        || json!({"project": null, "look": {"why": {"on": on("dev", "review/nobody")}}}),
        InvalidRequest,
        &["the project's number"],
    ),
    (
        "ReaderFunction",
        || json!({"project": 101, "look": {"why": {"on": on("dev", "review/nobody")}}}),
        NotFound,
        &["there is no environment review/nobody"],
    ),
    ("PackageFunction", || json!({}), InvalidRequest, &["missing field `deployment`"]),
    ("PackageFunction", || json!({"deployment": nobody(), "bucket": "x"}), InvalidRequest, &["unknown field `bucket`"]),
    (
        "PackageFunction",
        || json!({"deployment": with(nobody(), "fence", json!(-1))}),
        InvalidRequest,
        &["malformed", "-1"],
    ),
    ("PackageFunction", || json!({"deployment": nobody()}), LeaseHeld, &["fence 1"]),
    ("ChangeSetFunction", || json!({"deployment": nobody()}), InvalidRequest, &["missing field `do`"]),
    (
        "ChangeSetFunction",
        || json!({"do": "delete", "deployment": nobody()}),
        InvalidRequest,
        &["`delete`", "`create`"],
    ),
    ("ChangeSetFunction", || json!({"do": "create", "deployment": nobody()}), LeaseHeld, &["fence 1"]),
    ("WaitForStackFunction", || json!({"for": "ever", "deployment": nobody()}), InvalidRequest, &["`ever`", "`stack`"]),
    ("WaitForStackFunction", || json!({"for": "stack", "deployment": nobody()}), LeaseHeld, &["fence 1"]),
    ("ApprovalFunction", || json!({"deployment": nobody()}), InvalidRequest, &["missing field `task_token`"]),
    (
        "ApprovalFunction",
        || json!({"deployment": nobody(), "task_token": "t", "tried": 0}),
        NotFound,
        &["there is no deployment 0190a000"],
    ),
    ("TeardownFunction", || json!({"deployment": nobody()}), InvalidRequest, &["`deployment`", "`empty`"]),
    (
        "TeardownFunction",
        || json!({"empty": with(nobody(), "id", json!("latest"))}),
        InvalidRequest,
        &["malformed", "UUID"],
    ),
    ("TeardownFunction", || json!({"empty": nobody()}), LeaseHeld, &["fence 1"]),
    ("TeardownFunction", || json!({"delete": nobody()}), LeaseHeld, &["fence 1"]),
    ("TeardownFunction", || json!({"failed": nobody()}), LeaseHeld, &["fence 1"]),
    ("TeardownFunction", || json!({"leftovers": nobody()}), LeaseHeld, &["fence 1"]),
    ("TeardownFunction", || json!({"plan": nobody()}), InvalidRequest, &["malformed", "unknown field"]),
    ("TeardownFunction", || json!({"entrance": {}}), InvalidRequest, &["missing field `stage`"]),
    (
        "TeardownFunction",
        || json!({"entrance": {"stage": "dev", "target": {"account": "444444444444"}}}),
        InvalidRequest,
        &["unknown field `target`"],
    ),
    ("TeardownFunction", || json!({"entrance": {"stage": "nowhere"}}), UnknownStage, &["no stage \"nowhere\"", "dev"]),
    ("SettleFunction", || json!({"end": {"done": "succeeded"}}), InvalidRequest, &["missing field `execution`"]),
    (
        "SettleFunction",
        || json!({"execution": {"arn": "a", "started_at": "today", "input": {}}, "end": {"done": "succeeded"}}),
        InvalidRequest,
        &["malformed"],
    ),
    (
        "SettleFunction",
        || json!({"execution": {"arn": "a", "started_at": "2026-01-01T00:00:00Z", "input": {}}, "end": {"done": "maybe"}}),
        InvalidRequest,
        &["`maybe`", "`no_changes`"],
    ),
    ("SettleFunction", || json!({"deployment": nobody()}), InvalidRequest, &["unknown field `fence`"]),
    (
        "SettleFunction",
        || json!({"deployment": {"environment": nobody()["environment"], "id": nobody()["id"]}}),
        InvalidRequest,
        &["missing field `end`"],
    ),
    (
        "SettleFunction",
        || json!({"deployment": nobody(), "execution": {}, "end": {"done": "succeeded"}}),
        InvalidRequest,
        &["malformed", "unknown field"],
    ),
    ("SweepFunction", || json!({}), InvalidRequest, &["malformed"]),
    ("SweepFunction", || json!("sweep"), InvalidRequest, &["a JSON object is expected"]),
    ("SweepFunction", || json!(["sweep", {}]), InvalidRequest, &["a JSON object is expected"]),
    ("SweepFunction", || json!({"delete": {}}), InvalidRequest, &["`delete`", "`sweep`, `plan`"]),
    ("SweepFunction", || json!({"sweep": {}, "plan": {}}), InvalidRequest, &["malformed"]),
    ("SweepFunction", || json!({"sweep": {"force": true}}), InvalidRequest, &["unknown field `force`"]),
    ("SweepFunction", || json!({"plan": {"stage": "dev"}}), InvalidRequest, &["unknown field `stage`"]),
    ("SweepFunction", || json!({"confirm": {}}), InvalidRequest, &["missing field `stopped_at`"]),
    ("SweepFunction", || json!({"confirm": {"stopped_at": "now"}}), InvalidRequest, &["malformed"]),
    (
        "SweepFunction",
        || json!({"confirm": {"stopped_at": "2026-01-01T00:00:00Z", "most": 1000}}),
        InvalidRequest,
        &["unknown field `most`"],
    ),
    (
        "SweepFunction",
        || json!({"confirm": {"stopped_at": "2026-01-01T00:00:00Z"}}),
        NotAllowed,
        &["nothing is held back"],
    ),
    (
        "SettleFunction",
        || json!({"detail-type": "Step Functions Execution Status Change", "detail": {"status": "ABORTED"}}),
        InvalidRequest,
        &["malformed"],
    ),
];

#[test]
fn a_function_reads_its_input_strictly() {
    in_world(|world| async move {
        let cloudformation = world.cloudformation(TOOLING);
        let mut names = BTreeMap::new();
        let mut problems = Vec::new();
        for (function, input, error, says) in INPUTS {
            if !names.contains_key(function) {
                let found = cloudformation.describe_stack_resource().stack_name(control_plane::STACK);
                let found = found.logical_resource_id(*function).send().await.unwrap();
                let name = found.stack_resource_detail().unwrap().physical_resource_id().unwrap().to_owned();
                names.insert(*function, name);
            }
            let case = format!("{function} {}", input());
            match world.invoke(&names[function], &input()).await {
                Ok(answer) => problems.push(format!("{case}: done: {answer}")),
                Err(refused) => problems.extend(judged(&case, &refused, *error, says)),
            }
        }
        none_of(&problems);
        let nobody = on("dev", "review/nobody");
        assert_eq!((world.row(&nobody, "META").await, world.row(&nobody, "LEASE").await), (None, None));
    });
}
