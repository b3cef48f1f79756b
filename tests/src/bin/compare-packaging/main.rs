//! `cargo compare-packaging [--no-build] [--keep] [NAME…]`: packages every case of crates/packaging/tests/cases with
//! `slipway package`, `aws cloudformation package` and `sam package`, on the embedded AWS, and compares the three results:
//! the templates value by value, with each S3 location replaced by what lies there, and the artifacts file by file.
//!
//! A difference that `deliberate.rs` does not name is a failure, and so is a name there that nothing needs. The table in
//! docs/PACKAGING.md comes from there: `SLIPWAY_BLESS=1 cargo compare-packaging` writes it anew. With `NAME…` only the cases
//! run whose names contain one of them. `--no-build` takes the `slipway` that is there, and `--keep` leaves what the
//! programs wrote and said.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a person")]

mod case;
mod compare;
mod deliberate;
mod page;
mod tool;
mod view;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{BucketVersioningStatus, CreateBucketConfiguration, VersioningConfiguration};
use serde_json::Value;
use slipway_local::emulator::{Emulator, Options};
use slipway_local::{REGION, TOOLING, functions};
use slipway_tests::peers;

use crate::case::Case;
use crate::compare::Seen;
use crate::tool::{Outcome, Program, Tool};
use crate::view::{Reader, View};

/// What anything here may answer.
pub(crate) type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

const BUCKET: &str = "packaging";

#[tokio::main]
async fn main() -> ExitCode {
    match compare().await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            eprintln!("compare-packaging: {wrong} things are not as they should be");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("compare-packaging: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Gives how many things are wrong.
async fn compare() -> Fallible<usize> {
    let began = Instant::now();
    let (options, names): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|word| word.starts_with("--"));
    if let Some(unknown) = options.iter().find(|option| !["--no-build", "--keep"].contains(&option.as_str())) {
        return Err(format!("unknown option {unknown}: usage: compare-packaging [--no-build] [--keep] [NAME…]").into());
    }
    let asked = |option: &str| options.iter().any(|given| given == option);
    if !asked("--no-build") {
        tokio::task::spawn_blocking(functions::build_functions).await??;
    }
    let mut cases = Case::all()?;
    cases.retain(|case| names.is_empty() || names.iter().any(|name| case.name.contains(name)));
    if cases.is_empty() {
        return Err(format!("no case's name contains {}", names.join(" or ")).into());
    }

    let emulator = Emulator::start(Options::default()).await?;
    let s3 = Client::new(&emulator.sdk_config(TOOLING));
    let here = CreateBucketConfiguration::builder().location_constraint(REGION.into()).build();
    s3.create_bucket().bucket(BUCKET).create_bucket_configuration(here).send().await?;
    let versioned = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    s3.put_bucket_versioning().bucket(BUCKET).versioning_configuration(versioned).send().await?;
    let scratch = tempfile::Builder::new().prefix("slipway-packaging-").disable_cleanup(asked("--keep")).tempdir()?;
    let mut programs = Vec::new();
    for tool in Tool::ALL {
        let home = scratch.path().join(tool.name());
        std::fs::create_dir(&home)?;
        programs.push((tool, Program::ready(tool, &emulator, &home).await?));
    }
    let results = run(&cases, programs, scratch.path())?;
    println!("{} cases, {} s for all runs", cases.len(), began.elapsed().as_secs());
    if asked("--keep") {
        println!("What the programs wrote and said is in {}", scratch.path().display());
    }

    let mut looking = Looking { s3, endpoint: emulator.endpoint(), reader: Reader::start(&peers::python().await?)? };
    let mut wrong = 0;
    let mut differences = Vec::new();
    for case in &cases {
        let [Some(ours), Some(aws), Some(sam)] = Tool::ALL.map(|tool| results.get(&(case.name.as_str(), tool))) else {
            return Err(format!("{} did not run", case.name).into());
        };
        let ours = looking.look(Tool::Slipway, case, ours).await?;
        for key in &ours.needless {
            println!("{}: slipway: nothing names {key}, or it was sent twice", case.name);
            wrong += 1;
        }
        if let (Some(same), Some(again)) = (ours.same_keys, &case.again)
            && same != again.same_keys
        {
            println!("{}: slipway: the second run has {}", case.name, compare::keys(same));
            wrong += 1;
        }
        for (peer, runs) in [(Tool::Aws, aws), (Tool::Sam, sam)] {
            // What we refuse, we refuse: there is nothing to compare with, and it may be large.
            let theirs = match ours.outcome {
                Outcome::Packaged(_) => looking.look(peer, case, runs).await?,
                Outcome::Failed(_) | Outcome::Hung => Seen::ended(runs.first.clone()),
            };
            compare::results(&case.name, peer, &ours, &theirs, &mut differences);
        }
    }
    wrong += deliberate::check(&differences, names.is_empty());
    if names.is_empty() {
        wrong += page::check()?;
    }
    println!("{} differences, {} s", differences.len(), began.elapsed().as_secs());
    Ok(wrong)
}

/// How the runs of one tool on one case ended.
struct Runs {
    first: Outcome,
    again: Option<Outcome>,
}

/// What it takes to look at results.
struct Looking<'e> {
    s3: Client,
    endpoint: &'e str,
    reader: Reader,
}

impl Looking<'_> {
    /// What one tool made of one case.
    async fn look(&mut self, tool: Tool, case: &Case, runs: &Runs) -> Fallible<Seen> {
        let objects = view::objects(&self.s3, BUCKET, &tool.prefix(case)).await?;
        let mut document = |outcome: &Outcome| -> Fallible<(Value, Vec<String>)> {
            let Outcome::Packaged(path) = outcome else { return Ok((Value::Null, Vec::new())) };
            let mut view = View::new(&mut self.reader, self.endpoint, BUCKET, &objects);
            let value = view.document(&std::fs::read(path)?);
            Ok((value.map_err(|error| format!("{}: {tool}: {error}", case.name))?, view.keys))
        };
        let (value, mut named) = document(&runs.first)?;
        let mut same_keys = None;
        if let Some(again) = &runs.again {
            let (_, keys) = document(again)?;
            same_keys = Some(keys == named);
            named.extend(keys);
        }
        let needless = objects.iter().filter(|(key, object)| object.times_sent > 1 || !named.contains(key));
        let needless = needless.map(|(key, _)| key.clone()).collect();
        Ok(Seen { outcome: runs.first.clone(), value, same_keys, needless })
    }
}

/// Each program's runs, the three beside each other.
fn run<'c>(
    cases: &'c [Case],
    programs: Vec<(Tool, Program)>,
    scratch: &Path,
) -> Fallible<BTreeMap<(&'c str, Tool), Runs>> {
    std::thread::scope(|scope| {
        let runs_of = |(tool, mut program): (Tool, Program)| {
            let all = cases.iter().map(move |case| {
                let runs = run_one(&mut program, case, &scratch.join(&case.name).join(tool.name()));
                let runs = runs.map_err(|error| format!("{}: {tool}: {error}", case.name))?;
                Ok(((case.name.as_str(), tool), runs))
            });
            all.collect::<Fallible<Vec<_>>>()
        };
        let threads: Vec<_> = programs.into_iter().map(|program| scope.spawn(move || runs_of(program))).collect();
        let mut results = BTreeMap::new();
        for thread in threads {
            results.extend(thread.join().map_err(|_| "a run panicked")??);
        }
        Ok(results)
    })
}

fn run_one(program: &mut Program, case: &Case, scratch: &Path) -> Fallible<Runs> {
    let once = scratch.join("1");
    let app = case.copy(&once)?;
    let first = program.package(case, &app, BUCKET, &once)?;
    // Some are large.
    std::fs::remove_dir_all(&app)?;
    let Some(again) = &case.again else { return Ok(Runs { first, again: None }) };
    let twice = scratch.join("2");
    let app = case.changed_copy(again, &twice)?;
    let again = program.package(case, &app, BUCKET, &twice)?;
    Ok(Runs { first, again: Some(again) })
}
