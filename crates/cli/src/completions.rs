//! `slipway completions`.

use clap::CommandFactory as _;

use crate::args::{Cli, Completions};
use crate::console::Console;
use crate::error::CliError;

/// Prints the script of a shell.
pub(crate) fn completions(flags: &Completions, console: &Console) -> Result<u8, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut Cli::command(), "slipway", &mut script);
    console.raw(&String::from_utf8_lossy(&script));
    Ok(0)
}
