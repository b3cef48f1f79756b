//! The embedded AWS: starts it, deploys Slipway's own template onto it, and hides what it lacks.
//!
//! `ministack` (a Python package, pinned) plays AWS in one process, with IAM enforced. Its gaps are worked round here
//! and in `tests/` only: the product does not know that it runs on it.
//!
//! ```no_run
//! # async fn run() -> Result<(), slipway_local::LocalError> {
//! use slipway_local::emulator::{Emulator, Options};
//!
//! let emulator = Emulator::start(Options::default()).await?;
//! let config = emulator.sdk_config(slipway_local::TOOLING);
//! # drop(config);
//! # Ok(())
//! # }
//! ```

pub mod control_plane;
pub mod emulator;
pub mod functions;
pub mod gitlab;
pub mod inspect;
pub mod job;
pub mod stack;
pub mod venv;

mod error;
mod lines;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use crate::error::LocalError;

/// The account that holds the control plane.
pub const TOOLING: &str = "999999999999";
/// The account of the stage `dev`.
pub const DEV: &str = "111111111111";
/// The account of the stage `staging`.
pub const STAGING: &str = "222222222222";
/// The account of the stage `prod`.
pub const PROD: &str = "333333333333";
/// The one region that everything is in.
pub const REGION: &str = "eu-central-1";

/// The workspace's root folder.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// The folder that cargo builds into: `CARGO_TARGET_DIR`, or `target` in the workspace's root.
#[must_use]
pub fn target_dir() -> PathBuf {
    let root = workspace_root();
    match variable("CARGO_TARGET_DIR") {
        Some(folder) if !folder.is_empty() => root.join(folder),
        Some(_) | None => root.join("target"),
    }
}

/// The folder of what this crate makes: the venv, logs.
#[must_use]
pub fn local_dir() -> PathBuf {
    target_dir().join("slipway-local")
}

/// An environment variable: cargo's, or the PATH.
#[expect(clippy::disallowed_methods, reason = "clippy.toml names this crate as one of the places")]
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}
