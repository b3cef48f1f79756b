//! A GitLab project, and its pipeline as gitlab-ci-local runs it: the included file, as it is, with a runner's shell and nothing else.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::thread;

use serde_json::Value;
use slipway_domain::names::Digest;
use slipway_local::job::NewsJob;
use slipway_local::venv::Venv;
use tempfile::TempDir;

use crate::{World, npm};

/// A project's clone: the example application, with `gitlab/` beside it as if it were its own.
pub struct Project {
    folder: TempDir,
}

/// What came of a pipeline.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The exit code of gitlab-ci-local: 0 where each job that has to succeeded.
    pub code: i32,
    /// What all jobs printed.
    pub log: String,
}

/// Where the command is downloaded from, and its SHA-256.
static DOWNLOAD: LazyLock<(String, Digest)> = LazyLock::new(|| {
    let command = fs::read(slipway_local::job::command_path()).unwrap();
    let digest = Digest::of(&command);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/slipway-ARCH", listener.local_addr().unwrap());
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let _ = connection.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", command.len());
            let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(&command));
        }
    });
    (url, digest)
});

/// A pipeline with `inputs`, a line each. What names the control plane comes from the project's variables, which win over the jobs' own.
fn including(inputs: &[&str]) -> String {
    let (url, digest) = &*DOWNLOAD;
    let mut pipeline = format!(
        "include:\n  - local: gitlab/slipway.yml\n    inputs:\n      api: slipway\n      region: eu-central-1\n      \
         slipway_url: {url}\n      slipway_sha256_x86_64: &sha256 \"{digest}\"\n      slipway_sha256_aarch64: *sha256\n"
    );
    for input in inputs {
        pipeline.push_str(&format!("      {input}\n"));
    }
    pipeline
}

fn git(folder: &Path, arguments: &[&str]) {
    let done = Command::new("git").args(arguments).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

impl Project {
    /// The example application, on `main`, including the pipeline with `inputs`, a line each.
    #[must_use]
    pub fn news(inputs: &[&str]) -> Self {
        let project = Self::with(&including(inputs));
        copy(&slipway_local::workspace_root().join("examples/news"), project.path());
        project.commit();
        project
    }

    /// A project of which nothing is there but its pipeline's definition: what a job has that does not fetch the repository.
    #[must_use]
    pub fn empty(inputs: &[&str]) -> Self {
        Self::with(&including(inputs))
    }

    /// A project with nothing but this `.gitlab-ci.yml`.
    #[must_use]
    pub fn with(pipeline: &str) -> Self {
        let project = Self { folder: tempfile::tempdir().unwrap() };
        let path = project.path();
        copy(&slipway_local::workspace_root().join("gitlab"), &path.join("gitlab"));
        fs::write(path.join(".gitlab-ci.yml"), pipeline).unwrap();
        fs::write(path.join(".gitignore"), ".gitlab-ci-local/\n").unwrap();
        git(path, &["init", "--quiet", "--initial-branch", "main"]);
        git(path, &["config", "user.name", "dana"]);
        git(path, &["config", "user.email", "dana@example.com"]);
        git(path, &["remote", "add", "origin", "git@gitlab.example.com:group/news.git"]);
        project.commit();
        // What the default branch is, gitlab-ci-local reads here.
        git(path, &["update-ref", "refs/remotes/origin/main", "HEAD"]);
        git(path, &["symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main"]);
        project
    }

    /// A clone of the repository `origin` at `branch`, as of the project `group/news`: what a runner has of a push.
    #[must_use]
    pub fn pushed(origin: &Path, branch: &str) -> Self {
        let project = Self { folder: tempfile::tempdir().unwrap() };
        let path = project.path();
        git(path, &["clone", "--quiet", "--branch", branch, &origin.display().to_string(), "."]);
        git(path, &["remote", "set-url", "origin", "git@gitlab.example.com:group/news.git"]);
        project
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Commits all there is.
    pub fn commit(&self) {
        git(self.path(), &["add", "--all"]);
        git(self.path(), &["commit", "--quiet", "--allow-empty", "--message", "change"]);
    }

    /// Goes on with `branch`, which may be a new one.
    pub fn branch(&self, branch: &str) {
        git(self.path(), &["checkout", "--quiet", "-B", branch]);
    }

    /// Writes a file.
    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.path().join(path), text).unwrap();
    }

    /// A file as a job left it; a report is below `.gitlab-ci-reports/` and its kind.
    #[must_use]
    pub fn artifact(&self, job: &str, path: &str) -> String {
        let kept = self.path().join(".gitlab-ci-local/artifacts").join(job);
        fs::read_to_string(kept.join(path)).unwrap_or_else(|error| {
            let found = Command::new("find").arg(&kept).output().unwrap().stdout;
            panic!("{path}: {error}; there is {}", String::from_utf8_lossy(&found))
        })
    }

    /// Runs `arguments` of gitlab-ci-local: nothing for a pipeline, the name of a job for that.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[])
    }

    /// The same in the world: as jobs whose ID token says what `job` says.
    #[must_use]
    pub fn run_in(&self, world: &World, job: &NewsJob, arguments: &[&str]) -> Ran {
        let token = world.control_plane.gitlab.token(&job.job).unwrap();
        self.run_with(arguments, &world.control_plane.job_environment(&token))
    }

    /// The same with these variables, as a project's settings give them to its jobs.
    #[must_use]
    pub fn run_with(&self, arguments: &[&str], variables: &[(String, String)]) -> Ran {
        let ran = self.gitlab_ci_local(arguments, variables);
        let log = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        Ran { code: ran.status.code().unwrap_or(-1), log }
    }

    fn gitlab_ci_local(&self, arguments: &[&str], variables: &[(String, String)]) -> Output {
        let modules = npm::install("gitlab-ci-local", &[("gitlab-ci-local", "4.75.1"), ("node", "22.23.3")], true);
        let program = |name: &str| -> PathBuf { modules.join(".bin").join(name) };
        let mut command = Command::new(program("node"));
        command.arg(program("gitlab-ci-local")).args(["--force-shell-executor", "--shell-isolation"]);
        for (name, value) in variables {
            command.args(["--variable", &format!("{name}={value}")]);
        }
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null()).output().unwrap()
    }

    /// The names of the jobs that a pipeline of the current branch has.
    #[must_use]
    pub fn jobs(&self) -> Vec<String> {
        self.jobs_with(&[])
    }

    /// The same in a pipeline with these variables.
    #[must_use]
    pub fn jobs_with(&self, variables: &[(&str, &str)]) -> Vec<String> {
        let variables: Vec<_> = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let listed = self.gitlab_ci_local(&["--list-csv"], &variables);
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let jobs = listed.lines().skip_while(|line| !line.starts_with("name;")).skip(1);
        jobs.filter_map(|line| line.split(';').next()).map(str::to_owned).collect()
    }

    /// All jobs as they are once the included files, `extends` and inputs are resolved.
    pub async fn resolved(&self) -> Value {
        let shown = self.gitlab_ci_local(&["--preview"], &[]).stdout;
        let file = self.path().join(".gitlab-ci-local.preview");
        fs::write(&file, &shown).unwrap();
        let venv = Venv::ensure().await.unwrap();
        let script = "import json, sys, yaml\nwith open(sys.argv[1]) as file: print(json.dumps(yaml.safe_load(file)))";
        let json = Command::new(venv.python()).args(["-c", script]).arg(&file).output().unwrap();
        fs::remove_file(&file).unwrap();
        serde_json::from_slice(&json.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&json.stderr)))
    }
}
