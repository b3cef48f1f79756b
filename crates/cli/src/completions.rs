//! `slipway completions`.

use clap::CommandFactory as _;
use serde::Serialize;

use crate::args::{Cli, Completions};
use crate::console::Console;
use crate::error::CliError;

/// The document.
#[derive(Serialize)]
struct Document<'a> {
    script: &'a str,
}

/// Prints the script of a shell.
pub(crate) fn completions(flags: &Completions, console: &Console) -> Result<u8, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut Cli::command(), "slipway", &mut script);
    let script = String::from_utf8_lossy(&script);
    if console.is_json() {
        console.document(&Document { script: &script });
    } else {
        console.raw(&script);
    }
    Ok(0)
}
