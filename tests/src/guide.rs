//! A page of docs/ that a reader follows: its commands, and what it says that they show.

#![allow(clippy::print_stdout, reason = "a long run shows how it goes")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// One fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// Commands, as a shell takes them: ```` ```console ````.
    Commands(String),
    /// What is shown then, `…` in the place of what differs: ```` ```text ````.
    Shown(String),
}

/// The blocks of the page `name` of docs/, in their order.
#[must_use]
pub fn blocks(name: &str) -> Vec<Block> {
    let path = slipway_local::workspace_root().join("docs").join(name);
    let page = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut blocks = Vec::new();
    let mut open: Option<(&str, usize, String)> = None;
    for line in page.lines() {
        let text = line.trim_start();
        match (&mut open, text.strip_prefix("```")) {
            (None, Some(kind)) => open = Some((kind, line.len() - text.len(), String::new())),
            (None, None) => {}
            (Some(_), Some(_)) => {
                blocks.extend(open.take().map(|(kind, _, text)| match kind {
                    "console" => Block::Commands(text),
                    "text" => Block::Shown(text),
                    other => panic!("{name}: nobody runs or looks for a block of {other:?}"),
                }));
            }
            // A list indents its blocks.
            (Some((_, indent, block)), None) => {
                block.push_str(line.get(*indent..).unwrap_or_default());
                block.push('\n');
            }
        }
    }
    assert!(open.is_none(), "{name}: a block has no end");
    blocks
}

/// The first line of `expected` that no line of `said` shows: its texts between the `…` in their order.
#[must_use]
pub fn not_shown<'e>(said: &str, expected: &'e str) -> Option<&'e str> {
    let shows = |line: &str, wanted: &str| {
        let mut rest = line;
        wanted.trim().split('…').map(str::trim).all(|part| {
            rest.find(part).is_some_and(|at| {
                rest = rest.get(at + part.len()..).unwrap_or_default();
                true
            })
        })
    };
    expected.lines().find(|wanted| !said.lines().any(|line| shows(line, wanted)))
}

/// A shell in which a reader types one block after the other: where it is and what it knows stays.
pub struct Shell {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    /// One in `folder` that knows nothing of AWS yet.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc"]).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (mut input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        // The first command that fails ends it.
        writeln!(input, "exec 2>&1; set -euo pipefail; unset ${{!AWS_@}} ${{!SLIPWAY_@}}").unwrap();
        Self { process, input, output: BufReader::new(output) }
    }

    /// Runs `commands`: what they print.
    ///
    /// # Panics
    /// When one of them fails.
    pub fn run(&mut self, commands: &str) -> String {
        const END: &str = "--- the end of these commands";
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, commands).unwrap();
        writeln!(self.input, "source '{}' </dev/null\nprintf '\\n%s\\n' '{END}'", file.path().display()).unwrap();
        let mut said = String::new();
        let mut lines = self.output.by_ref().lines();
        loop {
            match lines.next() {
                Some(line) => {
                    let line = line.unwrap();
                    if line == END {
                        return said;
                    }
                    println!("  {line}");
                    said.push_str(&line);
                    said.push('\n');
                }
                None => panic!("{commands}failed ({:?}):\n{said}", self.process.wait()),
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
