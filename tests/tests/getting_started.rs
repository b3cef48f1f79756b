//! docs/GETTING-STARTED.md, as a reader follows it: each of its commands runs, with the real `aws`, `sam` and cargo-lambda, on the
//! embedded AWS, and each of its pipelines in gitlab-ci-local. What it says of upgrading and going (docs/UPGRADE.md, docs/UNINSTALL.md) is
//! tried on what then is there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may")]
#![allow(clippy::print_stdout, reason = "a long run shows how it goes")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use slipway_local::control_plane::CLIENT_ID;
use slipway_local::emulator::{Emulator, Options};
use slipway_local::gitlab::GitLab;
use slipway_local::job::{NewsJob, command_path};
use slipway_local::{DEV, PROD, REGION, STAGING, TOOLING, inspect, target_dir, workspace_root};
use slipway_tests::guide::{Block, Shell, blocks, not_shown};
use slipway_tests::peers;
use slipway_tests::person::Person;
use slipway_tests::pipeline::Project;

/// The instance in the guide.
const INSTANCE: &str = "https://gitlab.example.com";
/// What the guide calls the profiles, and the accounts that they are of.
const PROFILES: [(&str, &str); 4] = [("control-plane", TOOLING), ("dev", DEV), ("staging", STAGING), ("prod", PROD)];

fn commands(name: &str) -> Vec<String> {
    let commands = blocks(name).into_iter().filter_map(|block| match block {
        Block::Commands(text) => Some(text),
        Block::Shown(_) => None,
    });
    commands.collect()
}

#[test]
fn the_guide_runs_what_init_prints() {
    let commands = commands("GETTING-STARTED.md");
    let folder = tempfile::tempdir().unwrap();
    let sums = folder.path().join("SHA256SUMS");
    let sum = "0".repeat(64);
    fs::write(&sums, format!("{sum}  slipway-x86_64\n{sum}  slipway-aarch64\n")).unwrap();
    let mut tried = 0;
    for block in &commands {
        let Some((_, init)) = block.split_once("slipway init ") else { continue };
        let init = init.replace("../slipway/target/command/SHA256SUMS", &sums.display().to_string());
        let script = format!("registry={INSTANCE}/packages\n'{}' init --json --force {init}", command_path().display());
        let output = Command::new("bash").args(["-euc", &script]).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let steps = document["steps"].as_array().unwrap().iter();
        let printed = steps.flat_map(|step| step["commands"].as_array().unwrap()).map(|line| line.as_str().unwrap());
        if tried == 0 {
            let all: String = commands.concat();
            let mut rest = all.as_str();
            for line in printed {
                let at = rest.find(line).unwrap_or_else(|| panic!("the guide lacks, or has elsewhere: {line}"));
                rest = rest.split_at(at + line.len()).1;
            }
        }
        tried += 1;
    }
    assert_eq!(tried, 2);
}

/// The commands of the guide, of upgrading and of going are what a shell can read.
#[test]
fn a_shell_reads_every_block() {
    for page in ["GETTING-STARTED.md", "UPGRADE.md", "UNINSTALL.md"] {
        for block in commands(page) {
            let block = block.replace("<its application id>", "id");
            let read = Command::new("bash").args(["-nc", &block]).output().unwrap();
            assert!(read.status.success(), "{page}: {block}{}", String::from_utf8_lossy(&read.stderr));
        }
    }
}

/// Copies what git knows of the workspace, and what is new, to `to`, as a repository of its own.
fn sources(to: &Path) {
    let root = workspace_root();
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(&root)
        .output()
        .unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    for path in String::from_utf8(listed.stdout).unwrap().split('\0').filter(|path| !path.is_empty()) {
        let (from, to) = (root.join(path), to.join(path));
        // What was deleted and not committed is listed, too.
        let Ok(kind) = from.symlink_metadata() else { continue };
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        if kind.is_symlink() {
            symlink(fs::read_link(from).unwrap(), to).unwrap();
        } else {
            fs::copy(from, to).unwrap();
        }
    }
    // The embedded AWS runs functions of this machine's architecture only.
    let template = fs::read_to_string(to.join("template.yaml")).unwrap();
    let (before, parameter) = template.split_once("  Architecture:\n").unwrap();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
    let parameter = parameter.replacen("Default: arm64", &format!("Default: {architecture}"), 1);
    fs::write(to.join("template.yaml"), format!("{before}  Architecture:\n{parameter}")).unwrap();
    // One target folder for all, so that dependencies are built once.
    symlink(target_dir(), to.join("target")).unwrap();
    git(to, &["init", "--quiet", "--initial-branch", "main"]);
    git(to, &["add", "--all"]);
    git(to, &["add", "--force", "target"]);
    git(to, &["commit", "--quiet", "--message", "Slipway"]);
}

fn git(folder: &Path, arguments: &[&str]) {
    let identity = ["-c", "user.name=dana", "-c", "user.email=dana@example.com"];
    let done = Command::new("git").args(identity).args(arguments).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Where the reader, GitLab and AWS are.
struct Place {
    folder: PathBuf,
    emulator: Emulator,
    gitlab: GitLab,
}

impl Place {
    async fn new() -> Self {
        let folder = target_dir().join("getting-started");
        let _ = fs::remove_dir_all(&folder);
        for part in ["home/.aws", "work", "platform", "origin"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        sources(&folder.join("platform"));
        git(&folder.join("origin"), &["init", "--quiet", "--bare", "--initial-branch", "main"]);
        let emulator = Emulator::start(Options { wait_scale: Some(0.05), ..Options::default() }).await.unwrap();
        Self { folder, emulator, gitlab: GitLab::start(None).await.unwrap() }
    }

    /// The reader's shell: profiles for the accounts, and a git that finds the repositories of the instance here.
    async fn shell(&self) -> Shell {
        let home = self.folder.join("home");
        let profiles = PROFILES.map(|(name, account)| {
            format!(
                "[profile {name}]\nregion = {REGION}\naws_access_key_id = {account}\naws_secret_access_key = test\nendpoint_url = {}\n",
                self.emulator.endpoint()
            )
        });
        fs::write(home.join(".aws/config"), profiles.concat()).unwrap();
        let repository =
            |url: &str, path: &str| format!("[url \"{}\"]\n\tinsteadOf = {url}\n", self.folder.join(path).display());
        let config = format!(
            "[user]\n\tname = dana\n\temail = dana@example.com\n{}{}",
            repository(&format!("{}/platform/slipway.git", self.gitlab.url()), "platform"),
            repository("git@gitlab.example.com:group/news.git", "origin"),
        );
        fs::write(home.join(".gitconfig"), config).unwrap();
        // The first one has the Python that cargo-lambda finds zig with.
        let mut programs = Vec::new();
        for program in [peers::cargo_lambda().await, peers::aws().await, peers::sam().await] {
            programs.push(program.unwrap().parent().unwrap().display().to_string());
        }
        let mut shell = Shell::start(&self.folder.join("work"));
        shell.run(&format!(
            "export CARGO_HOME=${{CARGO_HOME:-$HOME/.cargo}} RUSTUP_HOME=${{RUSTUP_HOME:-$HOME/.rustup}}\n\
             export HOME='{home}' GIT_CONFIG_GLOBAL='{home}/.gitconfig' PATH='{}':\"$PATH\" GITLAB_TOKEN='{}' SAM_CLI_TELEMETRY=0\n",
            programs.join(":"),
            self.gitlab.write_token(),
            home = home.display(),
        ));
        shell
    }

    /// What the reader types here for what the guide says: the instance is elsewhere. `slipway init` takes https only, and writes it
    /// nowhere.
    fn typed(&self, commands: &str) -> String {
        let host = self.gitlab.url().trim_start_matches("http://");
        commands
            .replace(&format!("--gitlab-url {INSTANCE}"), "--gitlab-url INSTANCE")
            .replace(INSTANCE, self.gitlab.url())
            .replace("--gitlab-url INSTANCE", &format!("--gitlab-url {INSTANCE}"))
            .replace("GitLabHost=gitlab.example.com", &format!("GitLabHost={host}"))
            .replace("<its application id>", CLIENT_ID)
    }

    /// How the stacks stand whose name begins with `prefix`.
    async fn stacks(&self, account: &str, prefix: &str) -> Vec<String> {
        let stacks = inspect::stacks(&self.emulator.sdk_config(account), prefix).await.unwrap();
        stacks.into_iter().map(|stack| stack.status).collect()
    }

    /// The pipeline, or one job of it, of what was pushed to `branch`: its log.
    fn pipeline(&self, job: &NewsJob, project: &Project, arguments: &[&str]) -> String {
        let variables = [
            ("AWS_ENDPOINT_URL", self.emulator.endpoint().to_owned()),
            ("SLIPWAY_ID_TOKEN", self.gitlab.token(&job.job).unwrap()),
            ("SLIPWAY_CONNECT_TO", format!("127.0.0.1:{}", self.emulator.port())),
            ("SLIPWAY_POLL_MILLIS", "300".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        let ran = project.run_with(arguments, &variables);
        print!("{}", ran.log);
        assert_eq!(ran.code, 0, "{}", ran.log);
        // gitlab-ci-local names the job before each line.
        let lines = ran.log.lines().map(|line| line.split_once("> ").map_or(line, |(_, text)| text));
        lines.fold(String::new(), |log, line| log + line + "\n")
    }
}

#[test]
#[ignore = "it builds releases for two architectures: cargo getting-started"]
fn the_guide_leads_to_the_first_release_in_prod() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(follow());
}

async fn follow() {
    let place = Place::new().await;
    let mut shell = place.shell().await;
    let mut said = String::new();
    let mut pushed: Option<(NewsJob, Project)> = None;
    let mut pipeline_id = 9000;
    for block in blocks("GETTING-STARTED.md") {
        match block {
            Block::Commands(commands) => {
                println!("$ {}", commands.trim_end().replace('\n', "\n$ "));
                said = shell.run(&place.typed(&commands));
                if commands.contains("build.sh") {
                    // A program that needs nothing of its machine names no interpreter that loads libraries.
                    shell.run("for program in target/command/slipway-*; do ! readelf --program-headers --wide $program | grep INTERP; done");
                }
                if commands.contains("sam build") {
                    sizes(&place);
                }
                if commands.contains("callback") {
                    place.gitlab.register(CLIENT_ID, said.trim());
                }
                if commands.contains("git push") {
                    pipeline_id += 1;
                    let branch = shell.run("git branch --show-current").trim().to_owned();
                    let project = Project::pushed(&place.folder.join("origin"), &branch);
                    let job = NewsJob::new("pipeline", &branch, pipeline_id);
                    said.push_str(&place.pipeline(&job, &project, &[]));
                    pushed = Some((job, project));
                }
            }
            Block::Shown(expected) => {
                assert_eq!(not_shown(&said, &expected), None, "{said}");
                if expected.contains("has to approve") {
                    let link =
                        said.lines().map(str::trim).find(|line| line.starts_with("https://") && line.contains("/a/"));
                    let (job, project) = pushed.as_ref().unwrap();
                    approve(&place, link.unwrap()).await;
                    said.push_str(&place.pipeline(job, project, &["execute-change-prod"]));
                }
            }
        }
    }
    for account in [DEV, STAGING, PROD] {
        assert_eq!(place.stacks(account, "slipway-news-").await, ["CREATE_COMPLETE"]);
    }
    upgrade(&place, &mut shell).await;
    // The branch's environment goes by its stop job; what is protected stays.
    let (job, project) = pushed.unwrap();
    let log = place.pipeline(&job, &project, &["stop-dev"]);
    assert_eq!(not_shown(&log, "Torn down: review/first-change …"), None, "{log}");
    uninstall(&place, &mut shell).await;
}

/// docs/UPGRADE.md with a newer version: the same, but for a description in each template.
async fn upgrade(place: &Place, shell: &mut Shell) {
    for (template, text) in [
        ("setup/roles.yaml", "What Slipway's functions are in this account"),
        ("template.yaml", "What a GitLab job may ask"),
        ("setup/gitlab.yaml", "What a GitLab job is"),
    ] {
        let path = place.folder.join("platform").join(template);
        let before = fs::read_to_string(&path).unwrap();
        assert!(before.contains(text));
        fs::write(&path, before.replace(text, &format!("Newer. {text}"))).unwrap();
    }
    git(&place.folder.join("platform"), &["commit", "--quiet", "--all", "--message", "A newer version"]);
    shell.run("cd ../slipway");
    let [sources, roles, control_plane, gitlab] = &commands("UPGRADE.md")[..] else { panic!("another order") };
    shell.run(sources);
    for profile in ["dev", "staging", "prod"] {
        as_profile(shell, profile, roles);
    }
    as_profile(shell, "control-plane", control_plane);
    as_profile(shell, "control-plane", gitlab);
    for (account, name) in [(TOOLING, "slipway-gitlab"), (DEV, "slipway-roles"), (PROD, "slipway-roles")] {
        assert_eq!(place.stacks(account, name).await, ["UPDATE_COMPLETE"], "{name}");
    }
    let well = as_profile(shell, "control-plane", "slipway doctor --stack slipway --region eu-central-1");
    assert_eq!(not_shown(&well, "ok…SharedCleanupRole of dev…"), None, "{well}");
}

/// docs/UNINSTALL.md: what it leaves is what it says that it leaves.
async fn uninstall(place: &Place, shell: &mut Shell) {
    let [environments, gitlab, roles, control_plane, rest] = &commands("UNINSTALL.md")[..] else {
        panic!("another order")
    };
    let listed = as_profile(shell, "control-plane", environments);
    assert_eq!(not_shown(&listed, "…\"environment\": \"prod\"…"), None, "{listed}");
    as_profile(shell, "control-plane", gitlab);
    for profile in ["dev", "staging", "prod"] {
        as_profile(shell, profile, roles);
    }
    as_profile(shell, "control-plane", control_plane);
    as_profile(shell, "control-plane", rest);
    for (account, left) in [(DEV, 0), (STAGING, 1), (PROD, 1)] {
        assert_eq!(place.stacks(account, "slipway-news-").await.len(), left);
        assert!(place.stacks(account, "slipway-roles").await.is_empty());
    }
    let left = as_profile(shell, "control-plane", LEFT);
    let left: Vec<_> = left.split_whitespace().filter(|name| !name.contains("aws-sam-cli-managed-default")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Names all that a control plane is made of, in the account that it was in.
const LEFT: &str = "\
aws cloudformation list-stacks --query \"StackSummaries[?StackStatus!='DELETE_COMPLETE'].StackName\" --output text
aws lambda list-functions --query 'Functions[].FunctionName' --output text
aws stepfunctions list-state-machines --query 'stateMachines[].name' --output text
aws iam list-roles --query 'Roles[].RoleName' --output text
aws iam list-policies --scope Local --query 'Policies[].PolicyName' --output text
aws iam list-open-id-connect-providers --query 'OpenIDConnectProviderList[].Arn' --output text
aws ssm describe-parameters --query 'Parameters[].Name' --output text
aws secretsmanager list-secrets --query 'SecretList[].Name' --output text
aws dynamodb list-tables --query 'TableNames[]' --output text
aws s3api list-buckets --query 'Buckets[].Name' --output text
aws sns list-topics --query 'Topics[].TopicArn' --output text
aws events list-event-buses --query \"EventBuses[?Name!='default'].Name\" --output text
aws events list-rules --query 'Rules[].Name' --output text
aws scheduler list-schedules --query 'Schedules[].Name' --output text
aws cloudwatch describe-alarms --query 'MetricAlarms[].AlarmName' --output text
aws logs describe-log-groups --query 'logGroups[].logGroupName' --output text
";

fn as_profile(shell: &mut Shell, profile: &str, commands: &str) -> String {
    println!("$ export AWS_PROFILE={profile}\n$ {}", commands.trim_end().replace('\n', "\n$ "));
    shell.run(&format!("export AWS_PROFILE={profile}\n{commands}\n"))
}

/// Tells how large the functions are that are deployed: the budget is 4,096 KiB for each, as the release is built.
fn sizes(place: &Place) {
    let mut built: Vec<_> =
        fs::read_dir(place.folder.join("work/slipway/.aws-sam/build")).unwrap().map(Result::unwrap).collect();
    built.retain(|entry| entry.path().join("bootstrap").exists());
    built.sort_by_key(fs::DirEntry::file_name);
    assert_eq!(built.len(), 11);
    for function in built {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file("bootstrap", zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(&fs::read(function.path().join("bootstrap")).unwrap()).unwrap();
        let bytes = zip.finish().unwrap().into_inner().len();
        println!("{:24} {} KiB zipped", function.file_name().display(), bytes / 1024);
    }
}

async fn approve(place: &Place, link: &str) {
    let mut person = Person::at(place.emulator.endpoint());
    let page = person.signs_in(link, "release-manager").await;
    assert_eq!(person.presses(link, &page, "approve", "").await.status, 303);
}
