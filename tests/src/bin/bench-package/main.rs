//! `cargo bench-package`: `slipway package` against the packagers that people use today, and the function `package` by itself.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a person")]

mod application;
mod content;
mod function;
mod limits;
mod local_s3;
mod measure;
mod packaging;
mod report;
mod runtime_api;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use serde_json::{Value, json};
use slipway_local::{TOOLING, target_dir, workspace_root};
use slipway_tests::peers;

use crate::application::{Application, LARGE, MEDIUM, SHARED, SMALL, Shape};
use crate::local_s3::LocalS3;
use crate::packaging::Tool;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const HELP: &str = "cargo bench-package [--only WHAT[,WHAT…]] [--runs N] [--json FILE] [--docs] [--keep] [--no-build]

Generates applications, starts a local S3, and packages them in turn with slipway package, aws cloudformation package
and sam package: for the first time, and with nothing changed. Then measures the function package by itself.

  --only WHAT  small, medium, large, shared (large, with dependencies in common), function, limits; all when absent
  --runs N     how often each is measured; the middle is shown; 3 when absent
  --json FILE  writes every run's figures there
  --docs       writes the tables into docs/PERFORMANCE.md
  --keep       leaves the applications for the next time
  --no-build   measures what was built before";

const SHAPES: [Shape; 4] = [SMALL, MEDIUM, LARGE, SHARED];
const FUNCTION: &str = "function";
const LIMITS: &str = "limits";

struct Arguments {
    only: BTreeSet<String>,
    runs: usize,
    json: Option<PathBuf>,
    docs: bool,
    keep: bool,
    build: bool,
}

impl Arguments {
    fn wants(&self, what: &str) -> bool {
        self.only.is_empty() || self.only.contains(what)
    }
}

fn arguments() -> Result<Option<Arguments>, String> {
    let mut parsed = Arguments { only: BTreeSet::new(), runs: 3, json: None, docs: false, keep: false, build: true };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--only" => parsed.only.extend(given.next().ok_or("--only takes a name")?.split(',').map(str::to_owned)),
            "--runs" => {
                let runs = given.next().and_then(|runs| runs.parse().ok()).filter(|runs| *runs > 0);
                parsed.runs = runs.ok_or("--runs takes a number from 1")?;
            }
            "--json" => parsed.json = Some(given.next().ok_or("--json takes a file")?.into()),
            "--docs" => parsed.docs = true,
            "--keep" => parsed.keep = true,
            "--no-build" => parsed.build = false,
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("{other} is not known; see cargo bench-package --help")),
        }
    }
    let known = |what: &String| what == FUNCTION || what == LIMITS || SHAPES.iter().any(|shape| shape.name == what);
    match parsed.only.iter().find(|what| !known(what)) {
        Some(what) => Err(format!("--only does not know {what}; see cargo bench-package --help")),
        None => Ok(Some(parsed)),
    }
}

fn main() -> ExitCode {
    let mut given = std::env::args_os().skip(1);
    if given.next().is_some_and(|first| first == measure::STOPWATCH) {
        return measure::stopwatch(given);
    }
    let arguments = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("bench-package: {why}");
            return ExitCode::from(2);
        }
    };
    let ran =
        tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| runtime.block_on(bench(&arguments)));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-package: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn bench(arguments: &Arguments) -> Outcome<()> {
    let folder = target_dir().join("bench");
    let applications = folder.join("applications");
    fs::create_dir_all(&applications)?;
    let s3 = LocalS3::start(&folder, TOOLING)?;
    if arguments.build {
        build()?;
    }
    let cores = thread::available_parallelism()?.get();
    let mut tables = String::new();
    let mut say = |table: String| {
        print!("{table}");
        tables.push_str(&table);
    };
    say(format!("On {cores} cores; the middle of {} runs.\n", arguments.runs));
    let mut figures = json!({ "cores": cores, "packaging": [], "function": [], "limits": [] });

    for shape in SHAPES.into_iter().filter(|shape| arguments.wants(shape.name)) {
        let tools = tools().await?;
        let application = Application::generate(shape, &applications)?;
        let all = packaging::compare(&application, &tools, arguments.runs, &s3, &folder, TOOLING)?;
        say(report::packaging(&application, &all));
        add(&mut figures, "packaging", json!(all));
    }
    if arguments.wants(LIMITS) {
        let application = Application::generate(LARGE, &applications)?;
        let all = limits::measure(&application.folder, arguments.runs)?;
        say(report::limits(&application, &all));
        add(&mut figures, "limits", json!(all));
    }
    if !arguments.keep {
        fs::remove_dir_all(&applications)?;
    }
    if arguments.wants(FUNCTION) {
        let all = function::measure(&released("slipway-package"), arguments.runs, &s3, &folder).await?;
        say(report::function(&all));
        add(&mut figures, FUNCTION, json!(all));
    }
    if arguments.docs {
        document(&tables)?;
    }
    if let Some(file) = &arguments.json {
        fs::write(file, serde_json::to_vec_pretty(&figures)?)?;
    }
    Ok(())
}

/// Puts the tables between the two marks in the document.
fn document(tables: &str) -> Outcome<()> {
    const MARKS: [&str; 2] = ["<!-- figures: begin -->\n", "<!-- figures: end -->"];
    let path = workspace_root().join("docs/PERFORMANCE.md");
    let text = fs::read_to_string(&path)?;
    let [begin, end] = MARKS;
    let marked = text.split_once(begin).and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    let (before, after) = marked.ok_or_else(|| format!("{} has not the two marks", path.display()))?;
    Ok(fs::write(path, format!("{before}{begin}{tables}{end}{after}"))?)
}

fn add(figures: &mut Value, name: &str, more: Value) {
    if let (Some(Value::Array(all)), Value::Array(more)) = (figures.get_mut(name), more) {
        all.extend(more);
    }
}

async fn tools() -> Outcome<[Tool; 3]> {
    Ok([
        Tool { name: "slipway", program: released("slipway"), arguments: &["package"] },
        Tool { name: "aws", program: peers::aws().await?, arguments: &["cloudformation", "package"] },
        Tool { name: "sam", program: peers::sam().await?, arguments: &["package"] },
    ])
}

/// The programs as they are shipped.
fn build() -> Outcome<()> {
    println!("Building the command and the function as they are released (minutes, the first time)");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--release", "--bin", "slipway", "--bin", "slipway-package"]);
    let built =
        cargo.current_dir(workspace_root()).env("CARGO_TARGET_DIR", target_dir()).stdin(Stdio::null()).status()?;
    if built.success() { Ok(()) } else { Err("cargo could not build them".into()) }
}

fn released(program: &str) -> PathBuf {
    target_dir().join("release").join(program)
}
