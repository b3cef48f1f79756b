//! `slipway init`: what it writes is a pipeline that GitLab reads, and what it prints can be pasted into a shell.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use slipway_domain::stages::Stages;
use slipway_local::job::command_path;
use slipway_tests::pipeline::Project;

const ONE_STAGE: [&str; 8] = [
    "--account",
    "111111111111",
    "--region",
    "eu-central-1",
    "--gitlab-url",
    "https://gitlab.example.com",
    "--project",
    "group/news",
];
const THREE_STAGES: [&str; 10] = [
    "--staging-account",
    "222222222222",
    "--prod-account",
    "333333333333",
    "--control-plane-account",
    "999999999999",
    "--approver",
    "release-manager#8",
    "--approver",
    "group/leads",
];
/// In the place of what the printed commands run: each says what it was given, an argument in brackets; an output of a stack is its
/// name.
const STUBS: &str = r#"
set -euo pipefail
said() { printf '%s' "$1"; shift; printf ' [%s]' "$@"; echo; }
sam() { said sam "$@"; }
slipway() { said slipway "$@"; }
aws() { if [ "$2" = describe-stacks ]; then sed -E "s/.*OutputKey=='(\w+)'.*/the-\1/" <<<"$*"; else said aws "$@"; fi; }
"#;

/// Runs it in `folder` with `arguments`: its document.
fn init(folder: &Path, arguments: &[&str]) -> Value {
    let mut command = Command::new(command_path());
    command.args(["init", "--json", "--force"]).args(arguments).current_dir(folder).env_clear().stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What the printed commands do, a line each.
fn pasted(document: &Value) -> Vec<String> {
    let steps = document["steps"].as_array().unwrap().iter();
    let lines = steps.flat_map(|step| step["commands"].as_array().unwrap());
    let script = lines.fold(STUBS.to_owned(), |script, line| script + line.as_str().unwrap() + "\n");
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn what_is_printed_can_be_pasted_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let said = pasted(&init(folder.path(), &[&ONE_STAGE[..], &THREE_STAGES].concat()));
    let whats: Vec<_> = said.iter().map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        whats,
        [
            "sam [build]",
            "sam [deploy] [--stack-name]",
            "aws [cloudformation] [deploy]",
            "aws [cloudformation] [deploy]",
            "aws [cloudformation] [deploy]",
            "aws [cloudformation] [deploy]",
            "the-WebUrlcallback",
            "sam [deploy] [--stack-name]",
            "the-ApiFunction",
            "slipway [doctor] [--stack]",
        ]
    );
    // The SAM CLI takes one pair of quotes off: the rest is what the control plane reads.
    let stages = said[1].split("[Stages='").nth(1).unwrap().split("']").next().unwrap();
    let file = std::fs::read_to_string(folder.path().join("slipway-stages.json")).unwrap();
    assert_eq!(Stages::parse(stages).unwrap(), Stages::parse(&file).unwrap());
    for (line, argument) in [
        (1, "[TargetAccounts=111111111111,222222222222,333333333333]"),
        (1, "[ExternalId=slipway-999999999999]"),
        (2, "[ReleaseBucket=the-BucketName] [Protected=false]"),
        (4, "[ReleaseBucket=the-BucketName] [Protected=true]"),
        (4, "[ExternalId=slipway-999999999999]"),
        (5, "[SubjectPattern=project_path:group/news:*] [ApiFunction=the-ApiFunction]"),
        (5, "[DeployMachine=the-DeployMachine] [TeardownMachine=the-TeardownMachine]"),
    ] {
        assert!(said[line].contains(argument), "{argument}: {}", said[line]);
    }
}

#[test]
fn what_is_written_is_a_pipeline_of_these_stages() {
    let project = Project::with("");
    init(project.path(), &ONE_STAGE);
    project.commit();
    project.branch("feature");
    assert_eq!(project.jobs(), ["build-dev", "deploy-dev", "stop-dev"]);
    project.branch("main");
    assert_eq!(project.jobs(), ["dependency-scan"]);
    init(project.path(), &[&ONE_STAGE[..], &THREE_STAGES].concat());
    project.commit();
    assert_eq!(
        project.jobs(),
        ["dependency-scan", "build-staging", "deploy-staging", "create-change-prod", "execute-change-prod"]
    );
}
