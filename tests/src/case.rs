//! An environment as its jobs see it, by `slipway`'s exit code and log, in front of a CloudFormation that the test leads.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use slipway_domain::names::{EnvironmentKey, ProjectId};
use slipway_domain::protocol::On;
use slipway_local::job::{NewsJob, command_path};
use slipway_local::{DEV, PROD, STAGING};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::cloudformation::{Call, CloudFormation, Stack};
use crate::sessions::Sessions;
use crate::{World, job, on, tiny, unique};

/// What the functions find in the target accounts.
#[derive(Debug)]
pub struct Ground {
    /// Their stacks.
    pub cloudformation: CloudFormation,
    /// What they ask STS for.
    pub sessions: Sessions,
}

/// The one of this test binary: from now on, no function reaches the embedded AWS' CloudFormation.
pub async fn ground(world: &World) -> &'static Ground {
    static GROUND: OnceCell<Ground> = OnceCell::const_new();
    GROUND
        .get_or_init(|| async {
            let cloudformation = CloudFormation::start().await.unwrap();
            world.reach(&cloudformation).await;
            Ground { cloudformation, sessions: Sessions::watch(world).await }
        })
        .await
}

/// How a job ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// What it printed.
    pub log: String,
}

impl Ran {
    /// It succeeded, and says this.
    ///
    /// # Panics
    /// Otherwise.
    #[track_caller]
    pub fn green(&self, says: &str) {
        assert!(self.code == 0 && self.log.contains(says), "{}: {}", self.code, self.log);
    }

    /// It failed, says all of this, and at last what to do.
    ///
    /// # Panics
    /// Otherwise.
    #[track_caller]
    pub fn red(&self, says: &[&str]) {
        let said = says.iter().all(|words| self.log.contains(words));
        let last = self.log.lines().rfind(|line| !line.is_empty()).unwrap_or_default();
        assert!(self.code == 1 && said && last.starts_with("What to do: "), "{} of {says:?}: {}", self.code, self.log);
    }
}

/// An environment, its stack, and the folder that its jobs run in, with a template.
pub struct Case {
    world: &'static World,
    /// What the functions find in the target accounts.
    pub ground: &'static Ground,
    /// The environment.
    pub on: On,
    /// Its job.
    pub job: NewsJob,
    /// The stack's name.
    pub stack: String,
    /// Where the job runs.
    pub folder: TempDir,
}

impl Case {
    /// An environment of `stage` that no other test has.
    pub async fn new(world: &'static World, stage: &str) -> Self {
        Self::named(world, stage, &format!("review/case-{}", unique())).await
    }

    /// The same with a name.
    pub async fn named(world: &'static World, stage: &str, environment: &str) -> Self {
        let on = on(stage, environment);
        let job = if stage == "dev" { job("deploy-dev", "feature") } else { job("deploy", "main") };
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("template.yaml"), tiny(&format!("text-{}", unique()))).unwrap();
        let stack = stack_of(&on);
        Self { world, ground: ground(world).await, on, job, stack, folder }
    }

    fn account(&self) -> &'static str {
        match self.on.stage.as_str() {
            "dev" => DEV,
            "staging" => STAGING,
            _ => PROD,
        }
    }

    /// Its stack, as there is none.
    #[must_use]
    pub fn absent(&self) -> Stack {
        Stack::absent(&self.stack, self.account())
    }

    /// Its stack, as it is found with `status`.
    #[must_use]
    pub fn found(&self, status: &str) -> Stack {
        Stack::found(&self.stack, self.account(), status)
    }

    /// Runs the job that deploys, on this stack.
    #[must_use]
    pub fn deploys(&self, stack: Stack) -> Ran {
        self.ground.cloudformation.play(stack);
        self.runs("deploy", &[], &[])
    }

    /// Runs `slipway COMMAND` for the environment, with `variables` besides those of a job: an empty one is unset.
    #[must_use]
    pub fn runs(&self, command: &str, args: &[&str], variables: &[(&str, &str)]) -> Ran {
        let at = ["--application", self.on.application.as_str(), "--stage", self.on.stage.as_str()];
        let at = [&at[..], &["--environment", self.on.environment.as_str()]].concat();
        slipway(self.world, &self.job, self.folder.path(), &[&[command], &at[..], args].concat(), variables)
    }

    /// The calls about its stack.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.ground.cloudformation.calls(&self.stack)
    }

    /// The only one of this action.
    ///
    /// # Panics
    /// When there is none, or more.
    #[track_caller]
    #[must_use]
    pub fn one(&self, action: &str) -> Call {
        let mut calls: Vec<_> = self.calls().into_iter().filter(|call| call.action == action).collect();
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls.remove(0)
    }
}

/// The name of an environment's stack.
#[must_use]
pub fn stack_of(on: &On) -> String {
    let On { application, stage, environment } = on.clone();
    EnvironmentKey { project: ProjectId(101), application, stage, environment }.stack_name().to_string()
}

/// Runs the command as a job does: in `folder`, and knowing nothing but what GitLab, and `variables`, tell it; an empty one is unset.
#[must_use]
pub fn slipway(world: &World, job: &NewsJob, folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(command_path());
    command.args(args).current_dir(folder).stdin(Stdio::null()).env_clear();
    command.env("CI_JOB_NAME", &job.name).env("CI_PIPELINE_ID", job.job.pipeline_id.to_string());
    command.envs(world.control_plane.job_environment(&world.token(job)));
    for (name, value) in variables {
        if value.is_empty() {
            command.env_remove(name)
        } else {
            command.env(name, value)
        };
    }
    let ran = command.output().unwrap();
    let log = [ran.stdout, ran.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    Ran { code: ran.status.code().unwrap_or(-1), log }
}
