//! `slipway`: what a GitLab job, or a person, runs.

mod api;
mod application;
mod approve;
mod args;
mod audit;
mod aws;
mod bundle;
mod commands;
mod completions;
mod console;
mod doctor;
mod dotenv;
mod error;
mod execution;
mod follow;
mod http;
mod init;
mod junit;
mod package;
mod registry;
mod repair;
mod report;
mod samconfig;
mod settings;
mod sweep;
mod table;
mod teardown;

use std::process::ExitCode;
use std::sync::OnceLock;

use clap::Parser as _;

use crate::console::Console;
use crate::error::CliError;
use crate::settings::Env;

/// The command that follows what was started, for whoever interrupts us.
pub(crate) type Again = OnceLock<String>;

#[allow(clippy::disallowed_methods, reason = "settings enter here, and are passed on")]
fn environment() -> Env {
    let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    Env(std::env::vars_os().filter_map(unicode).collect())
}

fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error),
    };
    let env = environment();
    let console = Console::new(cli.json, env.get("NO_COLOR").is_none(), env.get("GITLAB_CI").is_some());
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&console, &CliError::local("starting", error)),
    };
    let again = Again::new();
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = commands::run(&cli.command, &env, &console, &again) => ended,
            code = interrupted() => {
                console.done();
                say_how_to_go_on(&console, &again);
                Ok(code)
            }
        }
    });
    // What still reads or deflates files is not waited for.
    runtime.shutdown_background();
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let code = fail(&console, &error);
            // A script that was written for the AWS command line finds the exit code that it knows.
            if matches!(cli.command, args::Command::Package(_)) { ExitCode::from(package::EXIT_FAILED) } else { code }
        }
    }
}

/// A command line that is none. Who asked for a document gets one, although nobody can say what else was asked for.
fn not_understood(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let console = Console::new(true, false, false);
        return fail(&console, &CliError::Usage(error.to_string().trim_end().to_owned()));
    }
    error.exit()
}

fn fail(console: &Console, error: &CliError) -> ExitCode {
    console.done();
    console.document(&report::Failure::from(error));
    console.error(&format!("Failed: {error}"));
    console.error(&format!("What to do: {}", error.what_to_do()));
    ExitCode::from(error.exit_code())
}

fn say_how_to_go_on(console: &Console, again: &Again) {
    match again.get() {
        Some(command) => {
            console.error("Interrupted: the deployment goes on. To follow it again:");
            console.error(&format!("  {command}"));
        }
        None => console.error("Interrupted before there was anything to follow; `slipway status` shows what there is."),
    }
}

/// Waits for Ctrl-C, or for the end that a runner announces. Gives the exit code.
#[cfg(unix)]
async fn interrupted() -> u8 {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => tokio::select! {
            _ = interrupt.recv() => 130,
            _ = terminate.recv() => 143,
        },
        // Without handlers, the signals end us as they do any program.
        (Err(_), _) | (_, Err(_)) => std::future::pending().await,
    }
}

/// Waits for Ctrl-C. Gives the exit code.
#[cfg(not(unix))]
async fn interrupted() -> u8 {
    match tokio::signal::ctrl_c().await {
        Ok(()) => 130,
        Err(_) => std::future::pending().await,
    }
}
