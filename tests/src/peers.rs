//! The two packagers that people use today, to compare with and to measure against: their programs in venvs of their own,
//! made once under `target/peers`.

use std::path::PathBuf;

use slipway_local::venv::Venv;
use slipway_local::{LocalError, target_dir};

/// What holds `aws cloudformation package`.
pub const AWS_REQUIREMENT: &str = "awscli==1.46.3";
/// What holds `sam package`.
pub const SAM_REQUIREMENT: &str = "aws-sam-cli==1.170.0";

/// What holds `cargo-lambda`, and zig, with which it links.
pub const CARGO_LAMBDA_REQUIREMENTS: [&str; 2] = ["cargo-lambda==1.9.2", "ziglang==0.17.1"];

/// The program `aws`. Installs it, if it is not there.
///
/// # Errors
/// As [`Venv::ensure`].
pub async fn aws() -> Result<PathBuf, LocalError> {
    Ok(venv("aws", AWS_REQUIREMENT).await?.program("aws"))
}

/// The program `sam`. Installs it, if it is not there.
///
/// # Errors
/// As [`Venv::ensure`].
pub async fn sam() -> Result<PathBuf, LocalError> {
    Ok(venv("sam", SAM_REQUIREMENT).await?.program("sam"))
}

/// The program `cargo-lambda`. Installs it, if it is not there.
///
/// # Errors
/// As [`Venv::ensure`].
pub async fn cargo_lambda() -> Result<PathBuf, LocalError> {
    let folder = target_dir().join("peers").join("cargo-lambda");
    Ok(Venv::ensure_in(folder, &CARGO_LAMBDA_REQUIREMENTS).await?.program("cargo-lambda"))
}

/// A Python that reads YAML as `aws` does.
///
/// # Errors
/// As [`Venv::ensure`].
pub async fn python() -> Result<PathBuf, LocalError> {
    Ok(venv("aws", AWS_REQUIREMENT).await?.python().to_path_buf())
}

async fn venv(name: &str, requirement: &str) -> Result<Venv, LocalError> {
    Venv::ensure_in(target_dir().join("peers").join(name), &[requirement]).await
}
