//! Programs and scripts from npm, which the tests install for themselves below the target folder.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use slipway_local::target_dir;

/// Installs `packages`, each with its version, into a folder of their own called `name`, if they are not there: where they are then.
/// Their install scripts run where `scripts` are wanted.
///
/// # Panics
/// Without npm, or where it fails.
#[must_use]
pub fn install(name: &str, packages: &[(&str, &str)], scripts: bool) -> PathBuf {
    let folder = target_dir().join(name);
    fs::create_dir_all(&folder).unwrap();
    // Another test run may install them as well; the lock ends with the file handle.
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let modules = folder.join("node_modules");
    let is_there = |(package, version): &(&str, &str)| {
        let found = fs::read_to_string(modules.join(package).join("package.json"));
        found.is_ok_and(|found| found.contains(&format!("\"version\": \"{version}\"")))
    };
    if !packages.iter().all(is_there) {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-fund", "--no-audit", "--no-save", "--prefix"]).arg(&folder);
        if !scripts {
            npm.arg("--ignore-scripts");
        }
        npm.args(packages.iter().map(|(package, version)| format!("{package}@{version}"))).stdin(Stdio::null());
        let installed = npm
            .output()
            .unwrap_or_else(|error| panic!("npm, which tests install {name} with: {error} (Debian: apt install npm)"));
        assert!(installed.status.success(), "npm: {}", String::from_utf8_lossy(&installed.stderr));
    }
    modules
}
