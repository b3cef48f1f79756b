//! The emulator's process: starts it, and takes it and all its functions along when it goes.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use tokio::time::{Instant, sleep};

use crate::error::{LocalError, chain};
use crate::lines::tail;
use crate::venv::Venv;
use crate::{DEV, REGION, local_dir, variable};

/// How long a start may take. It takes a second where nothing else runs.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at a starting emulator.
const READY_POLL: Duration = Duration::from_millis(50);
/// Somebody may take a free port before the emulator does: so often another one is tried.
const FREE_PORT_ATTEMPTS: usize = 3;
/// How long a drop waits for the supervisor, which only has to send a signal.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// How much of the log an error shows.
const LOG_LINES: usize = 3;

const SUPERVISOR: &str = include_str!("supervisor.py");
/// What is run: ministack, with what it lacks.
const GAPS: &str = include_str!("gaps.py");

/// How to start the emulator.
#[derive(Debug, Clone)]
pub struct Options {
    /// The port on 127.0.0.1; `None` takes a free one.
    pub port: Option<u16>,
    /// What Step Functions' waits and retry intervals are multiplied with: `Some(0.0)` makes them instant, `None`
    /// leaves them as they are.
    pub wait_scale: Option<f64>,
    /// Where the emulator's log, and what the functions print, is written; replaced at each start.
    pub log: PathBuf,
}

impl Default for Options {
    /// A free port, real waits, and a log of this process's own under the target folder.
    fn default() -> Self {
        let log = local_dir().join(format!("ministack-{}.log", std::process::id()));
        Self { port: None, wait_scale: None, log }
    }
}

/// A running emulator. Dropping it ends it with its functions, and so does the death of this process by any signal.
#[derive(Debug)]
pub struct Emulator {
    endpoint: String,
    port: u16,
    log: PathBuf,
    supervisor: Supervisor,
    http: reqwest::Client,
}

/// The process between us and the emulator: see `supervisor.py`.
#[derive(Debug)]
struct Supervisor {
    process: Child,
    tie: Option<ChildStdin>,
}

impl Emulator {
    /// Makes the venv if needed, starts the emulator and waits until it answers.
    ///
    /// # Errors
    /// A [`LocalError`] that says what to do: about Python, the port, or the end of the log of one that died.
    pub async fn start(options: Options) -> Result<Self, LocalError> {
        let venv = Venv::ensure().await?;
        if let Some(port) = options.port {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|_| LocalError::PortTaken(port))?;
            return Self::start_on(port, &venv, &options).await;
        }
        let mut attempt = 1;
        loop {
            let port = free_port()?;
            match Self::start_on(port, &venv, &options).await {
                Err(LocalError::PortTaken(_)) if attempt < FREE_PORT_ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    async fn start_on(port: u16, venv: &Venv, options: &Options) -> Result<Self, LocalError> {
        let endpoint = format!("http://127.0.0.1:{port}");
        let supervisor = Supervisor::start(venv, port, &endpoint, options)?;
        let http = reqwest::Client::builder()
            .no_proxy()
            // Each test has a runtime of its own, and a kept connection belongs to the one that made it.
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(10))
            .build()
            .map_err(LocalError::aws("HTTP client"))?;
        let mut emulator = Self { endpoint, port, log: options.log.clone(), supervisor, http };
        emulator.wait_until_ready().await?;
        Ok(emulator)
    }

    async fn wait_until_ready(&mut self) -> Result<(), LocalError> {
        let started = Instant::now();
        loop {
            if let Ok(Some(_)) = self.supervisor.process.try_wait() {
                let said = fs::read_to_string(&self.log).unwrap_or_default();
                // Its own words for a port that somebody took since we looked.
                if said.contains("is already in use") || said.contains("Address already in use") {
                    return Err(LocalError::PortTaken(self.port));
                }
                return Err(LocalError::DiedEarly { reason: tail(&said, LOG_LINES), log: self.log.clone() });
            }
            if self.ready().await.is_ok() {
                return Ok(());
            }
            if started.elapsed() > READY_WITHIN {
                let said = fs::read_to_string(&self.log).unwrap_or_default();
                let seconds = READY_WITHIN.as_secs();
                return Err(LocalError::NotReady { seconds, reason: tail(&said, LOG_LINES), log: self.log.clone() });
            }
            sleep(READY_POLL).await;
        }
    }

    async fn ready(&self) -> Result<(), reqwest::Error> {
        let url = format!("{}/_ministack/ready", self.endpoint);
        self.http.get(url).send().await?.error_for_status()?;
        Ok(())
    }

    /// Whether it still answers.
    ///
    /// # Errors
    /// [`LocalError::Gone`], one line with the log's place.
    pub async fn healthy(&self) -> Result<(), LocalError> {
        self.ready().await.map_err(|error| self.gone(&error))
    }

    fn gone(&self, error: &reqwest::Error) -> LocalError {
        LocalError::Gone { endpoint: self.endpoint.clone(), reason: chain(error), log: self.log.clone() }
    }

    /// Where it listens: `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The port of [`Emulator::endpoint`].
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process to `kill` to end it, with its functions.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.supervisor.process.id()
    }

    /// Its log, with what the functions print.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// A configuration for any SDK client, as the root of an account: the access key is the account's number.
    #[must_use]
    pub fn sdk_config(&self, account: &str) -> SdkConfig {
        self.sdk_config_of(Credentials::new(account, "test", None, None, "slipway-local"))
    }

    /// A configuration with credentials that the emulator gave out, as for an assumed role.
    #[must_use]
    pub fn sdk_config_of(&self, credentials: Credentials) -> SdkConfig {
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .endpoint_url(&self.endpoint)
            .region(Region::from_static(REGION))
            .build()
    }

    /// Changes what Step Functions' waits are multiplied with, from now on: 0 makes them instant, 1 real.
    ///
    /// # Errors
    /// [`LocalError::Gone`] when the emulator does not answer.
    pub async fn set_wait_scale(&self, scale: f64) -> Result<(), LocalError> {
        let url = format!("{}/_ministack/config", self.endpoint);
        let body = serde_json::json!({ "stepfunctions._SFN_WAIT_SCALE": scale });
        let answer = self.http.post(url).json(&body).send().await.and_then(reqwest::Response::error_for_status);
        answer.map(drop).map_err(|error| self.gone(&error))
    }

    /// The environment variables that let the AWS CLI, SAM or `slipway` use it by hand.
    #[must_use]
    pub fn exports(&self, account: &str) -> Vec<(String, String)> {
        let pairs = [
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", account),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", REGION),
            ("AWS_DEFAULT_REGION", REGION),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Leaves it running after this process: `kill` on the returned process id ends it, with its functions.
    ///
    /// # Errors
    /// [`LocalError::Gone`] when there is nothing left to keep.
    pub fn keep(mut self) -> Result<u32, LocalError> {
        let kept = match &mut self.supervisor.tie {
            Some(tie) => tie.write_all(b"keep\n").and_then(|()| tie.flush()),
            None => Err(io::Error::other("not tied")),
        };
        let (endpoint, log) = (self.endpoint.clone(), self.log.clone());
        kept.map_err(|error| LocalError::Gone { endpoint, reason: error.to_string(), log })?;
        self.supervisor.tie = None;
        let id = self.process_id();
        std::mem::forget(self.supervisor);
        Ok(id)
    }
}

impl Supervisor {
    fn start(venv: &Venv, port: u16, endpoint: &str, options: &Options) -> Result<Self, LocalError> {
        if let Some(folder) = options.log.parent() {
            fs::create_dir_all(folder).map_err(LocalError::io(format!("creating {}", folder.display())))?;
        }
        let log_failed = || LocalError::io(format!("opening the log {}", options.log.display()));
        let log = File::create(&options.log).map_err(log_failed())?;
        let errors = log.try_clone().map_err(log_failed())?;
        // The supervisor removes it, also when we are gone.
        let scratch = tempfile::Builder::new()
            .prefix("slipway-ministack-")
            .tempdir()
            .map_err(LocalError::io("creating a temporary folder"))?
            .keep();
        let program = scratch.join("gaps.py");
        fs::write(&program, GAPS).map_err(LocalError::io(format!("writing {}", program.display())))?;

        let mut command = Command::new(venv.python());
        command
            .args(["-c", SUPERVISOR])
            .arg(&scratch)
            .arg(&program)
            // Nothing of ours leaks in: the functions inherit the emulator's environment.
            .env_clear()
            .envs(environment(port, endpoint, options.wait_scale))
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C in a terminal is for us, who then end it in order.
            .process_group(0);
        let mut process = command.spawn().map_err(LocalError::io(format!("starting {}", venv.python().display())))?;
        let tie = process.stdin.take();
        Ok(Self { process, tie })
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.tie = None;
        let since = std::time::Instant::now();
        while since.elapsed() < ENDS_WITHIN {
            match self.process.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
    }
}

/// All that the emulator, and with it every function, sees of the outside.
fn environment(port: u16, endpoint: &str, wait_scale: Option<f64>) -> Vec<(&'static str, OsString)> {
    let mut pairs: Vec<(&'static str, OsString)> = vec![
        // IAM is enforced.
        ("AUTH", "true".into()),
        ("GATEWAY_PORT", port.to_string().into()),
        ("BIND_HOST", "127.0.0.1".into()),
        ("MINISTACK_HOST", "127.0.0.1".into()),
        ("MINISTACK_REGION", REGION.into()),
        ("MINISTACK_ACCOUNT_ID", DEV.into()),
        // The functions reach it by this.
        ("AWS_ENDPOINT_URL", endpoint.into()),
        ("AWS_EC2_METADATA_DISABLED", "true".into()),
        ("PYTHONDONTWRITEBYTECODE", "1".into()),
        ("PYTHONUNBUFFERED", "1".into()),
        ("PATH", variable("PATH").unwrap_or_default()),
    ];
    if let Some(scale) = wait_scale {
        pairs.push(("SFN_WAIT_SCALE", scale.to_string().into()));
    }
    pairs
}

fn free_port() -> Result<u16, LocalError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(LocalError::io("looking for a free port"))
}
