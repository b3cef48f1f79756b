//! Builds the deployed functions for this machine, and zips them as Lambda wants them.

use std::fs;
use std::io::{self, Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::error::LocalError;
use crate::lines::tail;
use crate::{target_dir, variable, workspace_root};

/// One function, built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltFunction {
    /// Its folder's name under `functions/`.
    pub name: String,
    /// The program.
    pub bootstrap: PathBuf,
}

/// Builds the functions and the command, in the dev profile, into the shared target folder.
///
/// # Errors
/// [`LocalError::Build`] with the compiler's first error.
pub fn build_functions() -> Result<Vec<BuiltFunction>, LocalError> {
    let names = function_names(&workspace_root())?;
    build()?;
    let built = |name: String| {
        let bootstrap = target_dir().join("debug").join(package(&name));
        if bootstrap.is_file() {
            Ok(BuiltFunction { name, bootstrap })
        } else {
            Err(LocalError::Build(format!("package {} makes no program of that name", package(&name))))
        }
    };
    names.into_iter().map(built).collect()
}

/// The whole workspace, because cargo builds a dependency anew for each set of packages that wants other features of it.
fn build() -> Result<(), LocalError> {
    // `cargo run` and `cargo test` say which cargo they are.
    let cargo = variable("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--workspace", "--bins"]).current_dir(workspace_root());
    command.env("CARGO_TARGET_DIR", target_dir()).stdin(Stdio::null());
    let output = command.output().map_err(LocalError::io("running cargo"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // The first error says more than the last lines, which only count them.
    let first = said.lines().find(|line| line.starts_with("error")).map(str::to_owned);
    Err(LocalError::Build(first.unwrap_or_else(|| tail(&said, 3))))
}

fn package(name: &str) -> String {
    format!("slipway-{name}")
}

/// The folders under `functions/` that are packages, sorted.
fn function_names(root: &Path) -> Result<Vec<String>, LocalError> {
    let folder = root.join("functions");
    let failed = || LocalError::io(format!("reading {}", folder.display()));
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        if entry.path().join("Cargo.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// A program as the zip of a `provided.al2023` function: one executable entry `bootstrap`. The same program gives the
/// same bytes.
///
/// # Errors
/// [`LocalError::Zip`] when the file cannot be read.
pub fn zip_bootstrap(path: &Path) -> Result<Vec<u8>, LocalError> {
    let failed = |reason: String| LocalError::Zip { path: path.to_path_buf(), reason };
    let program = fs::read(path).map_err(|error| failed(error.to_string()))?;
    zip_program(&program).map_err(|error| failed(error.to_string()))
}

fn zip_program(program: &[u8]) -> io::Result<Vec<u8>> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        // It goes over loopback once.
        .compression_level(Some(1))
        .last_modified_time(zip::DateTime::default())
        .unix_permissions(0o755);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("bootstrap", options)?;
    zip.write_all(program)?;
    Ok(zip.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn a_bootstrap_is_one_executable_entry() -> Outcome {
        let zipped = zip_program(b"#!/bin/sh\n")?;
        assert_eq!(zipped, zip_program(b"#!/bin/sh\n")?);
        let mut archive = zip::ZipArchive::new(Cursor::new(zipped))?;
        assert_eq!(archive.len(), 1);
        let mut entry = archive.by_name("bootstrap")?;
        assert_eq!(entry.unix_mode().map(|mode| mode & 0o777), Some(0o755));
        let mut text = String::new();
        entry.read_to_string(&mut text)?;
        assert_eq!(text, "#!/bin/sh\n");
        Ok(())
    }

    #[test]
    fn the_functions_are_found() -> Outcome {
        let names = function_names(&workspace_root())?;
        assert!(names.iter().any(|name| name == "change-set"), "{names:?}");
        assert!(names.is_sorted());
        Ok(())
    }

    #[test]
    fn a_missing_program_is_named() -> Outcome {
        let Err(error) = zip_bootstrap(Path::new("/no/such/program")) else { return Err("zipped".into()) };
        assert!(error.to_string().starts_with("/no/such/program cannot be zipped"), "{error}");
        Ok(())
    }
}
