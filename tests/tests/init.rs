//! `slipway init`: what it writes is a pipeline that GitLab reads, and what it prints can be pasted into a shell.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use slipway_domain::stages::Stages;
use slipway_local::job::command_path;
use slipway_local::venv::Venv;
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

/// What is wrong with the inputs of the `.gitlab-ci.yml` in the folder, a line each, by the `spec` of the file that it includes: and at
/// the end, how many were looked at by a regex or a list.
const CHECK: &str = r#"
import re, sys, yaml
spec = next(yaml.safe_load_all(open(sys.argv[1])))["spec"]["inputs"]
class Template(yaml.SafeLoader): pass
Template.add_multi_constructor("!", lambda loader, suffix, node: None)
given = yaml.safe_load(open(".gitlab-ci.yml"))["include"][0]["inputs"]
checked = 0
for name, value in given.items():
    if name not in spec: print(f"there is no input {name}"); continue
    regex, options = spec[name].get("regex"), spec[name].get("options")
    checked += bool(regex) + bool(options)
    if regex and not re.search(regex, value, re.ASCII) or "\n" in value: print(f"{name} is not {regex}: {value}")
    if options and value not in options: print(f"{name} is none of {options}: {value}")
for name in spec.keys() - given.keys():
    if "default" not in spec[name]: print(f"there has to be {name}")
for file, name, value in [argument.split("|", 2) for argument in sys.argv[2:]]:
    pattern = yaml.load(open(file), Template)["Parameters"][name].get("AllowedPattern")
    checked += bool(pattern)
    if pattern and not re.fullmatch(pattern, value, re.ASCII): print(f"{name} is not {pattern}: {value}")
print(checked)
"#;

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(command_path());
    command.args(["init", "--json", "--force"]).args(arguments).current_dir(folder).env_clear().stdin(Stdio::null());
    command.output().unwrap()
}

/// Runs it in `folder` with `arguments`: its document.
fn init(folder: &Path, arguments: &[&str]) -> Value {
    let output = run(folder, arguments);
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

/// [`ONE_STAGE`] with other values of its flags, and more of them.
fn one_stage<'a>(others: &[(&'a str, &'a str)]) -> Vec<&'a str> {
    let mut flags: Vec<&str> = ONE_STAGE.to_vec();
    for (flag, value) in others {
        match flags.iter().position(|known| known == flag) {
            Some(at) => flags[at + 1] = value,
            None => flags.extend([*flag, *value]),
        }
    }
    flags
}

#[tokio::test]
async fn what_is_written_is_what_the_included_file_and_the_templates_take() {
    let venv = Venv::ensure().await.unwrap();
    let root = slipway_local::workspace_root();
    let folder = tempfile::tempdir().unwrap();
    let sums = format!("{}  slipway-x86_64\n{}  slipway-aarch64\n", "0a".repeat(32), "1b".repeat(32));
    std::fs::write(folder.path().join("SHA256SUMS"), sums).unwrap();
    let url = "https://gitlab.example.com/api/v4/projects/7/packages/generic/slipway/0.1.0/slipway-ARCH";
    let download = |url| [("--command-url", url), ("--command-sums", "SHA256SUMS")];
    let (region, gitlab) = ("--region", "--gitlab-url");
    // What is asked, and whether it is taken.
    for (others, expected) in [
        (vec![(region, "eu-central-1")], true),
        (vec![(region, "us-gov-west-1")], true),
        (vec![(region, "us-isob-east-1")], true),
        (vec![(region, "cn-northwest-1")], true),
        (vec![(region, "eu-central")], false),
        (vec![(region, "eu-central-1a")], false),
        (vec![(region, "eu-central-10")], false),
        (vec![(region, "eu-c3ntral-1")], false),
        (vec![(region, "e-1")], false),
        (vec![(region, "eu-1")], false),
        (vec![(region, "eu--1")], false),
        (vec![(region, "eur-central-1")], false),
        (vec![(gitlab, "https://example.com/gitlab//")], true),
        (vec![(gitlab, "HTTPS://GitLab.Example.com:443")], true),
        (vec![(gitlab, "https://example.com/@me")], false),
        (vec![(gitlab, "https://example.com/#")], false),
        (vec![("--api", "arn:aws:lambda:eu-central-1:999999999999:function:slipway-ApiFunction-1A2B3C")], true),
        (vec![("--image", "registry.example.com/slipway:1")], true),
        (vec![("--external-id", "a+=,.@:/-Z")], true),
        (vec![("--external-id", "a")], false),
        (download(url).to_vec(), true),
        (download("http://10.0.0.1/slipway-ARCH?x=\"'").to_vec(), true),
        (download("https://example.com/slipway").to_vec(), false),
        (download("https://example.com/slipway-ARCH\nx").to_vec(), false),
    ] {
        let flags = [&one_stage(&others)[..], &THREE_STAGES].concat();
        let output = run(folder.path(), &flags);
        assert_eq!(output.status.code(), Some(if expected { 0 } else { 2 }), "{others:?}: {output:?}");
        if !expected {
            continue;
        }
        let said = pasted(&serde_json::from_slice(&output.stdout).unwrap());
        let mut command = Command::new(venv.python());
        command.args(["-c", CHECK]).arg(root.join("gitlab/slipway.yml")).current_dir(folder.path());
        for (line, template) in [(1, "template.yaml"), (2, "setup/roles.yaml"), (5, "setup/gitlab.yaml")] {
            for (name, value) in said[line].split([' ', '[', ']']).filter_map(|argument| argument.split_once('=')) {
                command.arg(format!("{}|{name}|{value}", root.join(template).display()));
            }
        }
        let checked = command.output().unwrap();
        let (wrong, log) = (String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
        // Of the file: region, role_arn and what is downloaded; of the templates: GitLab's URL, the control plane's account, twice the ExternalId.
        let looked_at = 6 + if others.iter().any(|(flag, _)| *flag == "--command-url") { 3 } else { 0 };
        assert_eq!(wrong.trim(), looked_at.to_string(), "{others:?}: {log}");
    }
}

#[test]
fn where_the_command_comes_from_is_said_in_one_way() {
    let folder = tempfile::tempdir().unwrap();
    let url = ["--command-url", "https://example.com/slipway-ARCH"];
    let sums = ["--command-sums", "SHA256SUMS"];
    for (more, says) in [
        (url.to_vec(), "--command-sums <FILE>"),
        (sums.to_vec(), "--command-url <URL>"),
        ([url, sums, ["--image", "alpine"]].concat(), "cannot be used with"),
        ([url, sums].concat(), "--command-sums: SHA256SUMS cannot be read"),
    ] {
        let output = run(folder.path(), &[&ONE_STAGE[..], &more].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(says), "{says}: {said}");
        assert!(!folder.path().join(".gitlab-ci.yml").exists());
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
