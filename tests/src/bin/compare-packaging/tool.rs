//! The three programs.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;
use slipway_local::emulator::Emulator;
use slipway_local::{TOOLING, target_dir};
use slipway_tests::peers;

use crate::Fallible;
use crate::case::Case;

/// How long a run may take. The slowest that ends with a template takes five seconds where nothing else runs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a run.
const POLL: Duration = Duration::from_millis(5);

/// One of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tool {
    Slipway,
    Aws,
    Sam,
}

impl Tool {
    pub(crate) const ALL: [Self; 3] = [Self::Slipway, Self::Aws, Self::Sam];

    /// Its short name: also what the keys of all that it uploads begin with.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Slipway => "slipway",
            Self::Aws => "aws",
            Self::Sam => "sam",
        }
    }

    /// The command of it that packages.
    fn command(self) -> &'static [&'static str] {
        match self {
            Self::Slipway => &["package"],
            Self::Aws => &["cloudformation", "package"],
            Self::Sam => &["package", "--no-progressbar"],
        }
    }

    /// What the keys of all that it uploads for a case begin with, without the slash.
    pub(crate) fn prefix(self, case: &Case) -> String {
        format!("{self}/{}", case.name)
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a run ended.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// It wrote a template.
    Packaged(PathBuf),
    /// It said why not, whether as one refuses or as one crashes.
    Failed(String),
    /// It waited, and did not end.
    Hung,
}

/// A program that is ready to run.
#[derive(Debug)]
pub(crate) struct Program {
    tool: Tool,
    /// All that it sees of the outside.
    environment: Vec<(String, String)>,
    how: How,
}

#[derive(Debug)]
enum How {
    /// A process for each run.
    Program(PathBuf),
    /// Forks of one process: see `serve.py`.
    Server { process: Child, jobs: ChildStdin, codes: BufReader<ChildStdout> },
}

impl Program {
    /// Gets one ready; installs a peer, if it is not there. What it writes besides its results lands in `home`.
    pub(crate) async fn ready(tool: Tool, emulator: &Emulator, home: &Path) -> Fallible<Self> {
        let home = home.display().to_string();
        let own = [
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("HOME", home.as_str()),
            ("LC_ALL", "C.UTF-8"),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("SAM_CLI_TELEMETRY", "0"),
            // It can follow Fn::ForEach, but not unless it is told to.
            ("SAM_CLI_ENABLE_LANGUAGE_EXTENSIONS", "1"),
            ("TMPDIR", home.as_str()),
        ];
        let mut environment = emulator.exports(TOOLING);
        environment.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let peer = match tool {
            Tool::Slipway => {
                let how = How::Program(target_dir().join("debug").join("slipway"));
                return Ok(Self { tool, environment, how });
            }
            Tool::Aws => peers::aws().await?,
            Tool::Sam => peers::sam().await?,
        };
        let mut command = Command::new(peer.with_file_name("python"));
        command.args(["-c", include_str!("serve.py"), tool.name(), &PATIENCE.as_secs().to_string()]);
        command.env_clear().envs(environment.iter().cloned()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let (Some(jobs), Some(codes)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(format!("{tool}: no pipes").into());
        };
        Ok(Self { tool, environment, how: How::Server { process, jobs, codes: BufReader::new(codes) } })
    }

    /// Packages the copy `app` of a case; what it writes and says goes to the folder `into`.
    pub(crate) fn package(&mut self, case: &Case, app: &Path, bucket: &str, into: &Path) -> Fallible<Outcome> {
        let (packaged, said) = (into.join("packaged"), into.join("said.txt"));
        let up = if case.working_folder.is_empty() { 0 } else { case.working_folder.split('/').count() };
        let mut arguments: Vec<String> = self.tool.command().iter().copied().map(str::to_owned).collect();
        arguments.extend(["--template-file".to_owned(), format!("{}{}", "../".repeat(up), case.template)]);
        arguments.extend(["--s3-bucket".to_owned(), bucket.to_owned()]);
        arguments.extend(["--s3-prefix".to_owned(), self.tool.prefix(case)]);
        arguments.extend(["--output-template-file".to_owned(), packaged.display().to_string()]);
        arguments.extend(case.arguments.iter().cloned());
        let Some(code) = self.run(&arguments, &app.join(&case.working_folder), &said)? else {
            return Ok(Outcome::Hung);
        };
        if code == 0 {
            return Ok(Outcome::Packaged(packaged));
        }
        Ok(Outcome::Failed(String::from_utf8_lossy(&fs::read(&said)?).into_owned()))
    }

    /// Gives the exit code, less than zero for a signal, or nothing if it waited for ever.
    fn run(&mut self, arguments: &[String], folder: &Path, said: &Path) -> Fallible<Option<i32>> {
        match &mut self.how {
            How::Server { jobs, codes, .. } => {
                let job = json!({ "folder": folder, "arguments": arguments, "said": said });
                writeln!(jobs, "{job}")?;
                let mut code = String::new();
                codes.read_line(&mut code)?;
                serde_json::from_str(&code).map_err(|_| format!("{}: its server ended", self.tool).into())
            }
            How::Program(path) => {
                let log = File::create(said)?;
                let mut command = Command::new(path);
                command.args(arguments).current_dir(folder).env_clear().envs(self.environment.iter().cloned());
                command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
                let mut process = command.spawn()?;
                let began = Instant::now();
                while began.elapsed() < PATIENCE {
                    if let Some(status) = process.try_wait()? {
                        return Ok(Some(status.code().unwrap_or(-1)));
                    }
                    sleep(POLL);
                }
                process.kill()?;
                process.wait()?;
                Ok(None)
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let How::Server { process, .. } = &mut self.how {
            // Between two runs it only waits.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
