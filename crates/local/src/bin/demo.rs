//! `cargo demo`: the whole way through, on the embedded AWS.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a person")]

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use slipway_local::control_plane::{self, ControlPlane, Progress};
use slipway_local::emulator::Options;
use slipway_local::job::{self, NewsJob};
use slipway_local::{DEV, LocalError, PROD, STAGING, functions, inspect, venv};

/// What the names of the example's stacks begin with.
const NEWS: &str = "slipway-news-";

const HELP: &str = "cargo demo [--keep] [--port PORT]

Installs the embedded AWS under target/, deploys Slipway onto it, and takes the example application through dev,
staging and prod as GitLab jobs would.

  --keep       leave all running at the end, and print how to use it by hand
  --port PORT  where the embedded AWS listens; a free port when absent";

struct Arguments {
    keep: bool,
    port: Option<u16>,
}

fn arguments() -> Result<Option<Arguments>, String> {
    let mut parsed = Arguments { keep: false, port: None };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--keep" => parsed.keep = true,
            "--port" => {
                let port = given.next().and_then(|port| port.parse().ok());
                parsed.port = Some(port.ok_or("--port takes a number from 1 to 65535")?);
            }
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("{other} is not known; see cargo demo --help")),
        }
    }
    Ok(Some(parsed))
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("demo: {why}");
            return ExitCode::from(2);
        }
    };
    match demo(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One row of the table at the end.
struct Row {
    what: String,
    account: String,
    status: String,
    took: Duration,
}

struct Demo {
    control_plane: ControlPlane,
    rows: Vec<Row>,
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

fn step(what: &str, account: &str, status: &str, took: Duration) -> Row {
    println!("  ✓ {what:<46} {account:<12} {status:<18} {:>8}", seconds(took));
    Row { what: what.to_owned(), account: account.to_owned(), status: status.to_owned(), took }
}

async fn demo(arguments: &Arguments) -> Result<(), LocalError> {
    let begun = Instant::now();
    println!("Slipway on an embedded AWS: four accounts, IAM enforced.\n\nSetting up");
    let mut rows = Vec::new();
    let began = Instant::now();
    venv::Venv::ensure().await?;
    rows.push(step("embedded AWS installed under target/", "", "", began.elapsed()));
    let began = Instant::now();
    let built = functions::build_functions()?;
    rows.push(step(&format!("{} functions and the command built", built.len()), "", "", began.elapsed()));
    let options = Options { port: arguments.port, ..Options::default() };
    let control_plane =
        ControlPlane::start(options, &built, &control_plane::stages(), |Progress { what, account, status, took }| {
            rows.push(step(&what, account.unwrap_or_default(), status.as_deref().unwrap_or_default(), took));
        })
        .await?;
    let mut demo = Demo { control_plane, rows };
    let told = demo.tell().await;
    if told.is_err() {
        demo.control_plane.emulator.healthy().await?;
    }
    told?;
    demo.summary(begun.elapsed());
    if arguments.keep { demo.keep().await } else { Ok(()) }
}

impl Demo {
    async fn tell(&mut self) -> Result<(), LocalError> {
        let (feature, main) = (2001, 2002);
        self.job(
            "A push to feature-x: its own environment in dev",
            NewsJob::new("deploy-dev", "feature-x", feature),
            DEV,
            &["deploy", "--stage", "dev", "--environment", "review/feature-x"],
        )
        .await?;
        self.call("dev", DEV, "review/feature-x").await?;
        self.job(
            "main's build to staging",
            NewsJob::new("deploy-staging", "main", main),
            STAGING,
            &["deploy", "--stage", "staging", "--environment", "staging"],
        )
        .await?;
        self.job(
            "The same release to prod: the change set, and a question",
            NewsJob::new("create-change-prod", "main", main),
            PROD,
            &["deploy", "--stage", "prod", "--environment", "prod", "--until", "approval"],
        )
        .await?;
        self.job(
            "release-manager plays the manual job: approved through the callback URL, executed",
            NewsJob::new("execute-change-prod", "main", main).played_by(8, "release-manager"),
            PROD,
            &["approve", "--stage", "prod", "--environment", "prod", "--reason", "looks good", "--follow"],
        )
        .await?;
        self.call("prod", PROD, "prod").await?;
        self.job(
            "Who did what to prod is on record, each act with the hash of the one before",
            NewsJob::new("audit", "main", main),
            PROD,
            &["audit", "--stage", "prod", "--environment", "prod"],
        )
        .await?;
        self.same_artifacts().await?;
        self.job(
            "feature-x is merged: its stop job tears the environment down",
            NewsJob::new("stop-dev", "feature-x", feature),
            DEV,
            &["teardown", "--stage", "dev", "--environment", "review/feature-x"],
        )
        .await
    }

    /// Runs a job and prints what it prints.
    async fn job(&mut self, what: &str, news: NewsJob, account: &str, args: &[&str]) -> Result<(), LocalError> {
        println!(
            "\n{what}\n  job {} on {}, by {}: slipway {}",
            news.name,
            news.job.ref_name,
            news.job.user_login,
            args.join(" ")
        );
        let folder = slipway_local::workspace_root().join("examples/news");
        let ran = job::run(&self.control_plane, &news, &folder, args, |line| println!("  │ {line}")).await?;
        if ran.code != 0 {
            self.control_plane.emulator.healthy().await?;
            return Err(LocalError::Job { job: news.name, code: ran.code });
        }
        let status = self.stack_status(account).await?;
        let row = step(&news.name, account, &status, ran.took);
        self.rows.push(row);
        Ok(())
    }

    /// The status of the news stack in `account`, as CloudFormation reports it.
    async fn stack_status(&self, account: &str) -> Result<String, LocalError> {
        let config = self.control_plane.emulator.sdk_config(account);
        let stacks = inspect::stacks(&config, NEWS).await?;
        Ok(stacks.into_iter().next().map_or_else(|| "(gone)".to_owned(), |stack| stack.status))
    }

    /// Calls the environment's API and shows what it answers.
    async fn call(&mut self, stage: &str, account: &str, environment: &str) -> Result<(), LocalError> {
        let began = Instant::now();
        let config = self.control_plane.emulator.sdk_config(account);
        let url = inspect::output(&config, NEWS, "ApiUrl").await?;
        let answer = inspect::call(&self.control_plane.emulator, account, &url, "services").await?;
        println!("  GET {url}/services");
        let pretty =
            serde_json::from_str(&answer).and_then(|json: serde_json::Value| serde_json::to_string_pretty(&json));
        for line in pretty.unwrap_or(answer).lines().take(16) {
            println!("  │ {line}");
        }
        println!("  │ …");
        let row = step(&format!("GET /services of {environment} in {stage}"), account, "200", began.elapsed());
        self.rows.push(row);
        Ok(())
    }

    /// Build once: what lives in staging and in prod is the same bytes.
    async fn same_artifacts(&mut self) -> Result<(), LocalError> {
        let began = Instant::now();
        let mut keys = Vec::new();
        for account in [STAGING, PROD] {
            keys.push(inspect::artifacts(&self.control_plane.emulator.sdk_config(account), NEWS).await?);
        }
        let [staging, prod] = keys.as_slice() else { return Ok(()) };
        if staging != prod || staging.is_empty() {
            return Err(LocalError::Output(format!("staging names {staging:?}, prod {prod:?}")));
        }
        println!("\nStaging and prod name the same artifact");
        for key in staging {
            println!("  │ {key}");
        }
        let row = step("the same artifact in both", "", "", began.elapsed());
        self.rows.push(row);
        Ok(())
    }

    fn summary(&self, took: Duration) {
        println!("\n{:<48} {:<12} {:<18} {:>8}", "Step", "Account", "Stack", "Took");
        for Row { what, account, status, took } in &self.rows {
            println!("{what:<48} {account:<12} {status:<18} {:>8}", seconds(*took));
        }
        println!("{:<48} {:<12} {:<18} {:>8}", "all", "", "", seconds(took));
    }

    async fn keep(self) -> Result<(), LocalError> {
        let Demo { control_plane, .. } = self;
        let token = control_plane
            .gitlab
            .token(&NewsJob::new("by-hand", "main", 3001).job)
            .map_err(|error| LocalError::GitLab(error.to_string()))?;
        println!("\nIt keeps running until you press Ctrl-C. In another terminal:\n");
        for (name, value) in control_plane.job_environment(&token) {
            println!("export {name}='{value}'");
        }
        println!(
            "\n{} status --stage prod --environment prod --application news",
            Path::new(&job::command_path()).display()
        );
        println!("\nGitLab (keys and discovery): {}", control_plane.gitlab.url());
        println!("Callback URL:                {}", control_plane.output("WebUrl"));
        println!("\nTo look into an account with the AWS CLI, for example dev:\n");
        for (name, value) in control_plane.emulator.exports(DEV) {
            println!("export {name}='{value}'");
        }
        let _ = tokio::signal::ctrl_c().await;
        Ok(())
    }
}
