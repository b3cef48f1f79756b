//! axe-core, which finds what keeps people from using a page.

use std::fmt;
use std::fs;
use std::sync::LazyLock;

use crate::npm;

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
    let folder = npm::install("axe", &[("axe-core", "4.14.1")], false);
    fs::read_to_string(folder.join("axe-core/axe.min.js")).unwrap()
}
