//! `cargo run --bin embedded-aws -- COMMAND…`: runs a command with an embedded AWS of its own, and ends it with the command.

#![allow(clippy::print_stderr, reason = "it talks to a person")]

use std::process::ExitCode;

use slipway_local::emulator::{Emulator, Options};
use slipway_local::gitlab::GitLab;
use slipway_local::{LocalError, TOOLING};

#[tokio::main]
async fn main() -> ExitCode {
    let mut command = std::env::args_os().skip(1);
    let Some(program) = command.next() else {
        eprintln!("usage: embedded-aws COMMAND [ARGUMENT…]");
        return ExitCode::from(2);
    };
    match run(&program, command.collect()).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("embedded-aws: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(program: &std::ffi::OsStr, arguments: Vec<std::ffi::OsString>) -> Result<u8, LocalError> {
    let emulator = Emulator::start(Options::default()).await?;
    let gitlab = GitLab::start(None).await.map_err(|error| LocalError::GitLab(error.to_string()))?;
    let mut child = tokio::process::Command::new(program);
    child.args(arguments).envs(emulator.exports(TOOLING)).env("GITLAB_URL", gitlab.url()).kill_on_drop(true);
    let status =
        child.status().await.map_err(|source| LocalError::Io { what: "running the command".into(), source })?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
