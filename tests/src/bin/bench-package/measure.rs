//! Runs one program and tells what it took.

use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};

use crate::Outcome;

/// The word that makes this program the stopwatch of another.
pub(crate) const STOPWATCH: &str = "stopwatch";

/// What a program took, with the programs that it ran.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// In seconds.
    pub(crate) wall: f64,
    /// User and system time, in seconds.
    pub(crate) cpu: f64,
    /// The largest resident set, in KiB.
    pub(crate) peak: u64,
}

/// Runs `command`, whose first word is a program's path, and waits for its end; what it prints goes into `log`.
///
/// A process of its own measures, for Linux counts the memory of whoever starts a program as the program's: a large bench
/// would make every peak look large.
pub(crate) fn run(command: &Command, log: &Path) -> Outcome<Taken> {
    let mut stopwatch = Command::new(std::env::current_exe()?);
    stopwatch.arg(STOPWATCH).arg(log).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => stopwatch.env(name, value),
            None => stopwatch.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        stopwatch.current_dir(folder);
    }
    let said = stopwatch.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !said.status.success() {
        let program = Path::new(command.get_program()).display();
        let printed = std::fs::read_to_string(log).unwrap_or_default();
        let last: Vec<&str> = printed.lines().rev().take(5).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        return Err(format!("{program} failed; it said last: {}", last.join("\n")).into());
    }
    Ok(serde_json::from_slice(&said.stdout)?)
}

/// What the stopwatch does: `arguments` are the log, the program and the program's own.
pub(crate) fn stopwatch(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let measured = || -> Outcome<Option<Taken>> {
        let (Some(log), Some(program)) = (arguments.next(), arguments.next()) else {
            return Err("stopwatch LOG PROGRAM [ARGUMENT…]".into());
        };
        let log = File::create(log)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let began = Instant::now();
        let status = command.status()?;
        let wall = began.elapsed().as_secs_f64();
        let peak = u64::try_from(getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss())?;
        Ok(status.success().then_some(Taken { wall, cpu: waited_for()?, peak }))
    };
    match measured().map(|taken| taken.map(|taken| serde_json::json!(taken).to_string())) {
        Ok(Some(taken)) => {
            println!("{taken}");
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("stopwatch: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The user and system time of all processes that this one waited for, in seconds.
pub(crate) fn waited_for() -> Outcome<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

fn seconds(time: TimeVal) -> f64 {
    Duration::new(time.tv_sec().unsigned_abs(), time.tv_usec().unsigned_abs() as u32 * 1000).as_secs_f64()
}

/// The middle one; of an even number, the lower.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}
