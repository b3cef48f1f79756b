//! Runs `slipway` as a GitLab job would: with GitLab's variables, an ID token of its own, and no other right.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::control_plane::{AUDIENCE, ControlPlane};
use crate::error::LocalError;
use crate::gitlab::Job;

/// A job of the project `group/news`.
#[derive(Debug, Clone)]
pub struct NewsJob {
    /// The job's name.
    pub name: String,
    /// What its token says.
    pub job: Job,
}

impl NewsJob {
    /// The job `name` on `branch` in pipeline `pipeline_id`, started by `dana`.
    #[must_use]
    pub fn new(name: &str, branch: &str, pipeline_id: u64) -> Self {
        let mut job = Job::new("group/news", branch, 7, "dana", AUDIENCE);
        job.pipeline_id = pipeline_id;
        job.job_id = pipeline_id * 100 + name.len() as u64;
        Self { name: name.to_owned(), job }
    }

    /// The same job, started by somebody else.
    #[must_use]
    pub fn played_by(mut self, user_id: u64, login: &str) -> Self {
        self.job.user_id = user_id;
        login.clone_into(&mut self.job.user_login);
        self.job.job_id += 1;
        self
    }
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// What it printed: both streams, line by line as they came.
    pub log: String,
    /// How long it took.
    pub took: Duration,
}

/// The `slipway` command that the workspace builds.
#[must_use]
pub fn command_path() -> PathBuf {
    crate::target_dir().join("debug").join("slipway")
}

/// Runs `slipway ARGS` in `folder` as `job`, handing each line that it prints to `line`.
///
/// # Errors
/// [`LocalError`] when it cannot be started.
pub async fn run(
    control_plane: &ControlPlane,
    job: &NewsJob,
    folder: &Path,
    args: &[&str],
    mut line: impl FnMut(&str),
) -> Result<Ran, LocalError> {
    let token = control_plane.gitlab.token(&job.job).map_err(|error| LocalError::GitLab(error.to_string()))?;
    let started = Instant::now();
    let mut child = Command::new(command_path())
        .args(args)
        .current_dir(folder)
        .env_clear()
        .env("CI", "true")
        .env("GITLAB_CI", "true")
        .env("CI_JOB_NAME", &job.name)
        .env("CI_PROJECT_NAME", "news")
        .env("CI_PROJECT_PATH", &job.job.project_path)
        .env("CI_PIPELINE_ID", job.job.pipeline_id.to_string())
        .env("CI_COMMIT_REF_NAME", &job.job.ref_name)
        .env("CI_COMMIT_SHA", &job.job.sha)
        .env("HOME", folder)
        .env("TMPDIR", std::env::temp_dir())
        .envs(control_plane.job_environment(&token))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(LocalError::io(format!("starting {}", command_path().display())))?;
    let mut log = String::new();
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(LocalError::Build("the command has no output".into()));
    };
    let (mut stdout, mut stderr) = (BufReader::new(stdout).lines(), BufReader::new(stderr).lines());
    let (mut more_out, mut more_err) = (true, true);
    while more_out || more_err {
        let read = tokio::select! {
            read = stdout.next_line(), if more_out => { more_out = matches!(read, Ok(Some(_))); read }
            read = stderr.next_line(), if more_err => { more_err = matches!(read, Ok(Some(_))); read }
        };
        if let Ok(Some(text)) = read {
            line(&text);
            log.push_str(&text);
            log.push('\n');
        }
    }
    let status = child.wait().await.map_err(LocalError::io("waiting for slipway"))?;
    Ok(Ran { code: status.code().unwrap_or(-1), log, took: started.elapsed() })
}
