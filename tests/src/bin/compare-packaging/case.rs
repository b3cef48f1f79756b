//! The cases of the packaging: crates/packaging/tests/cases, a folder each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use slipway_local::workspace_root;

use crate::Fallible;

/// One case.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    folder: PathBuf,
    /// The template's name in the application's folder.
    pub(crate) template: &'static str,
    /// What is said to the command besides what every case says.
    pub(crate) arguments: Vec<String>,
    /// The folder below the application's that the command is run in; empty for the application's own.
    pub(crate) working_folder: String,
    pub(crate) again: Option<Again>,
}

/// A second run, after a change.
#[derive(Debug)]
pub(crate) struct Again {
    script: PathBuf,
    /// Whether the artifacts have to keep their keys.
    pub(crate) same_keys: bool,
}

impl Case {
    /// All cases, by name.
    pub(crate) fn all() -> Fallible<Vec<Self>> {
        let folder = workspace_root().join("crates/packaging/tests/cases");
        let mut cases = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                cases.push(Self::read(entry.path(), entry.file_name().to_string_lossy().into_owned()));
            }
        }
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(cases)
    }

    fn read(folder: PathBuf, name: String) -> Self {
        let text = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
        let again = ["again-same.sh", "again-other.sh"].into_iter().find_map(|file| {
            let script = folder.join(file);
            script.exists().then_some(Again { script, same_keys: file == "again-same.sh" })
        });
        let json = folder.join("app/template.json").exists();
        Self {
            name,
            template: if json { "template.json" } else { "template.yaml" },
            arguments: text("arguments.txt").lines().map(str::to_owned).collect(),
            working_folder: text("working-folder.txt").trim().to_owned(),
            again,
            folder,
        }
    }

    /// A fresh copy of the application as `app` in the folder `into`, with what git cannot hold.
    pub(crate) fn copy(&self, into: &Path) -> Fallible<PathBuf> {
        fs::create_dir_all(into)?;
        let app = into.join("app");
        succeed(Command::new("cp").arg("-a").arg(self.folder.join("app")).arg(&app))?;
        // Whatever the umask was when it was checked out.
        succeed(Command::new("chmod").arg("-R").arg("u=rwX,go=rX").arg(&app))?;
        let setup = self.folder.join("setup.sh");
        if setup.exists() {
            script(&setup, &app)?;
        }
        Ok(app)
    }

    /// The same with the change for the second run.
    pub(crate) fn changed_copy(&self, again: &Again, into: &Path) -> Fallible<PathBuf> {
        let app = self.copy(into)?;
        script(&again.script, &app)?;
        Ok(app)
    }
}

fn script(path: &Path, app: &Path) -> Fallible<()> {
    succeed(Command::new("sh").arg("-e").arg(path).current_dir(app).env("LC_ALL", "C.UTF-8"))
}

fn succeed(command: &mut Command) -> Fallible<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
