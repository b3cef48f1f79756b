//! `cargo bench-wait`: when the policy of waiting notices that a stack has ended, and what that costs, over virtual time.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a person")]

mod machine;
mod replay;
mod report;

use std::fs;
use std::process::ExitCode;

use slipway_local::workspace_root;

use crate::report::Bench;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const HELP: &str = "cargo bench-wait [--look SECONDS] [--repetitions N] [--docs]

Replays stacks of 20 s to 45 min against the policy of waiting, and against fixed waits of 5 s and 30 s.

  --look SECONDS   what one look takes; 2 when absent
  --repetitions N  how often each is replayed, with other noise; 1000 when absent
  --docs           writes the tables into docs/WAITING.md";

struct Arguments {
    look: Option<f64>,
    repetitions: Option<usize>,
    docs: bool,
}

fn arguments() -> Result<Option<Arguments>, String> {
    let mut parsed = Arguments { look: None, repetitions: None, docs: false };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--look" => {
                let look = given.next().and_then(|look| look.parse().ok()).filter(|look| (0.0..=60.0).contains(look));
                parsed.look = Some(look.ok_or("--look takes seconds, up to 60")?);
            }
            "--repetitions" => {
                let repetitions = given.next().and_then(|number| number.parse().ok()).filter(|number| *number > 0);
                parsed.repetitions = Some(repetitions.ok_or("--repetitions takes a number from 1")?);
            }
            "--docs" => parsed.docs = true,
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("{other} is not known; see cargo bench-wait --help")),
        }
    }
    Ok(Some(parsed))
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("bench-wait: {why}");
            return ExitCode::from(2);
        }
    };
    match bench(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-wait: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> Outcome<()> {
    let usual = Bench::usual()?;
    let look = arguments.look.unwrap_or(usual.look);
    let repetitions = arguments.repetitions.unwrap_or(usual.repetitions);
    let tables = Bench { look, repetitions, ..usual }.report();
    if arguments.docs {
        document(&tables)?;
    } else {
        print!("{tables}");
    }
    Ok(())
}

/// What is around the tables in the document: before, the tables themselves, after.
fn split(text: &str) -> Outcome<[&str; 3]> {
    const MARKS: [&str; 2] = ["<!-- figures: begin -->\n", "<!-- figures: end -->"];
    let [begin, end] = MARKS;
    let begins = text.find(begin).map(|at| at + begin.len()).ok_or("docs/WAITING.md has no begin mark")?;
    let (before, rest) = text.split_at(begins);
    let (tables, after) = rest.split_at(rest.find(end).ok_or("docs/WAITING.md has no end mark")?);
    Ok([before, tables, after])
}

fn document(tables: &str) -> Outcome<()> {
    let path = workspace_root().join("docs/WAITING.md");
    let text = fs::read_to_string(&path)?;
    let [before, _, after] = split(&text)?;
    Ok(fs::write(path, format!("{before}{tables}{after}"))?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    #[test]
    fn the_document_shows_what_is_measured_now() {
        let text = fs::read_to_string(workspace_root().join("docs/WAITING.md")).unwrap();
        let [_, shown, _] = split(&text).unwrap();
        assert!(shown == Bench::usual().unwrap().report(), "it does not: run cargo bench-wait --docs");
    }
}
