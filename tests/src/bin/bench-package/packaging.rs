//! The same application packaged by `slipway package` and by the two tools that people use today, in turn.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use crate::Outcome;
use crate::application::Application;
use crate::local_s3::{LocalS3, Stored};
use crate::measure::{self, Taken, median};

const BUCKET: &str = "bench";

/// A program that packages.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) arguments: &'static [&'static str],
}

/// One way to package, once.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Run {
    #[serde(flatten)]
    pub(crate) taken: Taken,
    pub(crate) objects: u64,
    pub(crate) uploaded: u64,
}

/// All runs of a tool on an application.
#[derive(Debug, Serialize)]
pub(crate) struct Runs {
    pub(crate) application: &'static str,
    pub(crate) tool: &'static str,
    /// Into a bucket that is empty.
    pub(crate) first: Vec<Run>,
    /// Once more, with nothing changed.
    pub(crate) unchanged: Vec<Run>,
}

/// The middle of each figure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Middle {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
    pub(crate) peak_mib: f64,
    pub(crate) uploaded_mib: f64,
}

impl Middle {
    pub(crate) fn of(runs: &[Run]) -> Self {
        let middle = |figure: fn(&Run) -> f64| median(runs.iter().map(figure).collect());
        Self {
            wall: middle(|run| run.taken.wall),
            cpu: middle(|run| run.taken.cpu),
            peak_mib: middle(|run| run.taken.peak as f64 / 1024.0),
            uploaded_mib: middle(|run| run.uploaded as f64 / 1024.0 / 1024.0),
        }
    }
}

/// Packages `application` with each of `tools` in turn, `times` times: each time into an empty place, and once more.
pub(crate) fn compare(
    application: &Application,
    tools: &[Tool],
    times: usize,
    s3: &LocalS3,
    scratch: &Path,
    access_key: &str,
) -> Outcome<Vec<Runs>> {
    let mut all: Vec<Runs> = tools
        .iter()
        .map(|tool| Runs {
            application: application.shape.name,
            tool: tool.name,
            first: Vec::new(),
            unchanged: Vec::new(),
        })
        .collect();
    for _ in 0..times {
        s3.make_bucket(BUCKET)?;
        for (tool, runs) in tools.iter().zip(&mut all) {
            let run = package(application, tool, s3, scratch, access_key)?;
            if run.objects < application.artifacts as u64 {
                return Err(format!("{}: {} of {} artifacts", tool.name, run.objects, application.artifacts).into());
            }
            runs.first.push(run);
        }
        for (tool, runs) in tools.iter().zip(&mut all) {
            runs.unchanged.push(package(application, tool, s3, scratch, access_key)?);
        }
    }
    s3.remove(BUCKET)?;
    Ok(all)
}

fn package(application: &Application, tool: &Tool, s3: &LocalS3, scratch: &Path, access_key: &str) -> Outcome<Run> {
    let output = scratch.join(format!("{}.yaml", tool.name));
    if output.exists() {
        fs::remove_file(&output)?;
    }
    let mut command = Command::new(&tool.program);
    command.args(tool.arguments).arg("--template-file").arg(application.template());
    command.args(["--s3-bucket", BUCKET, "--s3-prefix", tool.name, "--output-template-file"]).arg(&output);
    command.current_dir(&application.folder);
    command.env("AWS_ENDPOINT_URL", s3.endpoint()).env("AWS_REGION", slipway_local::REGION);
    command.env("AWS_DEFAULT_REGION", slipway_local::REGION).env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("AWS_ACCESS_KEY_ID", access_key).env("AWS_SECRET_ACCESS_KEY", "test").env_remove("AWS_SESSION_TOKEN");
    command
        .env_remove("AWS_PROFILE")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    command.env("SAM_CLI_TELEMETRY", "0").env("NO_PROXY", "127.0.0.1");
    // What earlier runs wrote is on the disk before this one starts.
    Command::new("sync").status()?;
    let since = s3.clock()?;
    let taken = measure::run(&command, &scratch.join(format!("{}.log", tool.name)))?;
    if !output.exists() {
        return Err(format!("{} wrote no template", tool.name).into());
    }
    let Stored { objects, bytes } = s3.written_since(&format!("{BUCKET}/{}", tool.name), since)?;
    Ok(Run { taken, objects, uploaded: bytes })
}
