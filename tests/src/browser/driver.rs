//! chromedriver, with the Chromium that it starts; and the few calls of WebDriver (<https://www.w3.org/TR/webdriver2/>) that a
//! person's browser takes.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

const INSTALL: &str =
    "the tests of the approval page need Chromium and its driver (Debian: apt install chromium chromium-driver)";
/// The name of an element's id in JSON, as the standard has it.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// One browser, led. Dropping it ends it, and so does the death of this process by any signal.
pub(super) struct Driver {
    http: reqwest::Client,
    /// Where the session's calls go.
    session: String,
    _processes: Processes,
}

impl Driver {
    /// Starts a Chromium with `arguments` besides what keeps it to itself, and an empty profile.
    pub(super) async fn start(arguments: &[String]) -> Self {
        let processes = Processes::start();
        let mut all = vec![format!("--user-data-dir={}", processes.folder.join("profile").display())];
        let own = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--hide-scrollbars",
        ];
        all.extend(own.map(str::to_owned));
        all.extend_from_slice(arguments);
        let capabilities = json!({"browserName": "chrome", "goog:chromeOptions": {"args": all}});
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        let url = format!("http://127.0.0.1:{}/session", processes.port);
        let driver = Self { http, session: url, _processes: processes };
        let started = driver.post("", json!({"capabilities": {"alwaysMatch": capabilities}})).await;
        let started = started.unwrap_or_else(|error| panic!("Chromium does not start: {error}; {INSTALL}"));
        let session = format!("{}/{}", driver.session, started["sessionId"].as_str().unwrap());
        Self { session, ..driver }
    }

    /// Makes a call of the session; the error is WebDriver's own words.
    pub(super) async fn post(&self, path: &str, arguments: Value) -> Result<Value, String> {
        self.send(self.http.post(format!("{}{path}", self.session)).json(&arguments)).await
    }

    /// Asks the session for something.
    pub(super) async fn get(&self, path: &str) -> Result<Value, String> {
        self.send(self.http.get(format!("{}{path}", self.session))).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Value, String> {
        let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
        let refused = !answer.status().is_success();
        let body: Value = answer.json().await.map_err(|error| format!("{error:?}"))?;
        let value = body["value"].clone();
        if refused { Err(value["message"].as_str().unwrap_or_default().to_owned()) } else { Ok(value) }
    }

    /// The path of the element that a CSS selector finds first.
    pub(super) async fn find(&self, css: &str) -> Result<String, String> {
        let found = self.post("/element", json!({"using": "css selector", "value": css})).await?;
        Ok(format!("/element/{}", found[ELEMENT].as_str().unwrap_or_default()))
    }

    /// Calls the browser's DevTools.
    pub(super) async fn devtools(&self, command: &str, arguments: Value) -> Value {
        let call = json!({"cmd": command, "params": arguments});
        self.post("/goog/cdp/execute", call).await.unwrap_or_else(|error| panic!("{command}: {error}"))
    }
}

/// chromedriver and all that it starts: one process group.
struct Processes {
    chromedriver: Child,
    port: u16,
    folder: PathBuf,
    watcher: Option<Child>,
    // It may want to say more.
    _stdout: BufReader<ChildStdout>,
}

impl Processes {
    /// chromedriver takes a free port of IPv6 and then wants the same of IPv4, which somebody else may have: then it ends.
    fn start() -> Self {
        (0..20).find_map(|_| Self::try_start()).expect("chromedriver finds no port that is free")
    }

    fn try_start() -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("slipway-browser-").tempdir().unwrap().keep();
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").env("TMPDIR", &folder).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut chromedriver =
            command.spawn().unwrap_or_else(|error| panic!("chromedriver cannot be started: {error}; {INSTALL}"));
        let watcher = watch(&chromedriver, &folder);
        let mut stdout = BufReader::new(chromedriver.stdout.take().unwrap());
        let mut said = String::new();
        let port = loop {
            let mut line = String::new();
            if stdout.read_line(&mut line).unwrap() == 0 {
                assert!(said.contains("port not available"), "chromedriver ends at once; {INSTALL}: {said}");
                stop(&mut chromedriver, watcher);
                return None;
            }
            let port = line.trim_end().trim_end_matches('.').rsplit_once("started successfully on port ");
            if let Some((_, port)) = port {
                break port.parse().unwrap();
            }
            said.push_str(&line);
        };
        Some(Self { chromedriver, port, folder, watcher: Some(watcher), _stdout: stdout })
    }
}

/// Lets the watcher end all that chromedriver started.
fn stop(chromedriver: &mut Child, mut watcher: Child) {
    drop(watcher.stdin.take());
    let _ = watcher.wait();
    let _ = chromedriver.wait();
}

/// A killed test run runs no destructors, but the system closes its end of the pipe: then all processes end, and `folder` goes.
fn watch(chromedriver: &Child, folder: &Path) -> Child {
    // A process that is killed may still write for a moment.
    let script = r#"cat >/dev/null; kill -s KILL -- "-$1"; for _ in 1 2 3 4 5 6 7 8 9; do rm -rf "$2" && break; sleep 0.1; done"#;
    let mut watcher = Command::new("sh");
    watcher.args(["-c", script, "sh"]);
    watcher.arg(chromedriver.id().to_string()).arg(folder).process_group(0);
    watcher.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

impl Drop for Processes {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            stop(&mut self.chromedriver, watcher);
        }
    }
}
