//! axe-core, which finds what keeps people from using a page.

use std::fmt;
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use slipway_local::target_dir;

const PACKAGE: &str = "axe-core";
const VERSION: &str = "4.14.1";

/// The rules, by axe's own tags: <https://www.deque.com/axe/core-documentation/api-documentation/#axecore-tags>.
const TAGS: [&str; 6] = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/// Calls back with what axe finds on the page.
static SCRIPT: LazyLock<String> = LazyLock::new(|| {
    let run = "
        const done = arguments[arguments.length - 1];
        const told = violation => ({
            id: violation.id, help: violation.help,
            places: violation.nodes.map(node => `${node.target.join(' ')}: ${node.failureSummary}`),
        });
        axe.run(document, {runOnly: {type: 'tag', values: TAGS}, resultTypes: ['violations']}).then(
            results => done(results.violations.map(told)),
            error => done([{id: 'axe itself', help: String(error), places: []}]));";
    format!("{}\n{}", source(), run.replace("TAGS", &serde_json::to_string(&TAGS).unwrap()))
});

/// What the page breaks.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Violation {
    id: String,
    help: String,
    places: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}\n    {}", self.id, self.help, self.places.join("\n    "))
    }
}

pub(super) fn script() -> &'static str {
    &SCRIPT
}

/// axe's source. Installs it with npm, if it is not there.
fn source() -> String {
    let folder = target_dir().join("axe");
    fs::create_dir_all(&folder).unwrap();
    // Another test run may install it as well; the lock ends with the file handle.
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let package = folder.join("node_modules").join(PACKAGE);
    let version = format!("\"version\": \"{VERSION}\"");
    if !fs::read_to_string(package.join("package.json")).is_ok_and(|found| found.contains(&version)) {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-fund", "--no-audit", "--ignore-scripts", "--no-save", "--prefix"]);
        npm.arg(&folder).arg(format!("{PACKAGE}@{VERSION}")).stdin(Stdio::null());
        let installed = npm.output().unwrap_or_else(|error| {
            panic!(
                "npm, which the tests of the approval page install {PACKAGE} with: {error} (Debian: apt install npm)"
            )
        });
        assert!(installed.status.success(), "npm: {}", String::from_utf8_lossy(&installed.stderr));
    }
    fs::read_to_string(package.join("axe.min.js")).unwrap()
}
