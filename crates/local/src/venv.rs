//! Venvs with pinned Python programs, made once under the target folder: above all the one of the emulator.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sha2::{Digest as _, Sha256};

use crate::error::LocalError;
use crate::lines::tail;
use crate::local_dir;

/// What the emulator's venv holds, exactly. One pip call takes all three: installed later, the translator would move
/// botocore past the emulator's pin.
pub const REQUIREMENTS: [&str; 3] = ["ministack==1.5.33", "aws-sam-translator==1.115.0", "boto3==1.43.106"];

/// What is asked of a Python before it is used: its version, and the modules that make a venv.
const PROBE: &str = "import sys\nif sys.version_info < (3, 10): sys.exit('it is Python %d.%d' % sys.version_info[:2])";
const MODULES: &str = "import venv, ensurepip";

/// A ready venv.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Venv {
    python: PathBuf,
    requirements: Vec<String>,
}

impl Venv {
    /// The emulator's venv, made now if it is missing or holds other versions. Two processes may ask at once: one makes
    /// it, the other waits.
    ///
    /// # Errors
    /// [`LocalError::NoPython`], [`LocalError::NoVenv`] and [`LocalError::Pip`] say what to install;
    /// [`LocalError::Io`] when the target folder cannot be written.
    pub async fn ensure() -> Result<Self, LocalError> {
        Self::ensure_in(local_dir(), &REQUIREMENTS).await
    }

    /// The same for a venv `venv` in `folder` that holds `requirements`, as pip takes them.
    ///
    /// # Errors
    /// As [`Venv::ensure`].
    pub async fn ensure_in(folder: PathBuf, requirements: &[&str]) -> Result<Self, LocalError> {
        let venv = Self::at(&folder, requirements);
        match tokio::task::spawn_blocking(move || venv.made_in(&folder)).await {
            Ok(made) => made,
            Err(stopped) => {
                Err(LocalError::Io { what: "making the venv".to_owned(), source: io::Error::other(stopped) })
            }
        }
    }

    /// Whether [`Venv::ensure`] would have nothing to do.
    #[must_use]
    pub fn is_ready() -> bool {
        Self::at(&local_dir(), &REQUIREMENTS).is_current()
    }

    /// The interpreter.
    #[must_use]
    pub fn python(&self) -> &Path {
        &self.python
    }

    /// A program that its packages install. It may not be there.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.python.with_file_name(name)
    }

    fn at(folder: &Path, requirements: &[&str]) -> Self {
        let python = folder.join("venv").join("bin").join("python");
        Self { python, requirements: requirements.iter().copied().map(str::to_owned).collect() }
    }

    /// The folder of the venv itself.
    fn root(&self) -> &Path {
        self.python.ancestors().nth(2).unwrap_or(&self.python)
    }

    fn stamp(&self) -> PathBuf {
        self.root().join(".slipway-requirements")
    }

    /// The stamp is written last, so a venv that has it is whole. The interpreter is a link: the Python that it was
    /// made from may be gone.
    fn is_current(&self) -> bool {
        fs::read_to_string(self.stamp()).is_ok_and(|stamp| stamp == self.digest()) && self.python.exists()
    }

    fn made_in(self, folder: &Path) -> Result<Self, LocalError> {
        if self.is_current() {
            return Ok(self);
        }
        fs::create_dir_all(folder).map_err(LocalError::io(format!("creating {}", folder.display())))?;
        let lock_path = folder.join("venv.lock");
        let lock = File::create(&lock_path).map_err(LocalError::io(format!("creating {}", lock_path.display())))?;
        // The lock ends with the file handle, so also with a killed process.
        lock.lock().map_err(LocalError::io(format!("locking {}", lock_path.display())))?;
        if !self.is_current() {
            self.make()?;
        }
        Ok(self)
    }

    fn make(&self) -> Result<(), LocalError> {
        let python = find_python(&["python3", "python"])?;
        let root = self.root();
        match fs::remove_dir_all(root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(LocalError::io(format!("removing {}", root.display()))(error));
            }
            Ok(()) | Err(_) => {}
        }
        let no_venv = |reason: String| LocalError::NoVenv { python: python.clone(), reason };
        let made = run(Command::new(&python).args(["-m", "venv"]).arg(root))?;
        if !made.status.success() {
            return Err(no_venv(said(&made, 1)));
        }
        let pip = ["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"];
        let installed = run(Command::new(&self.python).args(pip).args(&self.requirements))?;
        if !installed.status.success() {
            return Err(LocalError::Pip { packages: self.requirements.join(" "), reason: said(&installed, 3) });
        }
        let stamp = self.stamp();
        fs::write(&stamp, self.digest()).map_err(LocalError::io(format!("writing {}", stamp.display())))
    }

    fn digest(&self) -> String {
        let digest = Sha256::digest(self.requirements.join("\n"));
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The first of `candidates` that is new enough and can make a venv; else the most telling refusal.
fn find_python(candidates: &[&str]) -> Result<String, LocalError> {
    let mut refusal = LocalError::NoPython { found: "there is none on the PATH".to_owned() };
    for (at, candidate) in candidates.iter().enumerate() {
        let Ok(probe) = run(Command::new(candidate).args(["-c", PROBE])) else { continue };
        if !probe.status.success() {
            if at == 0 {
                refusal = LocalError::NoPython { found: said(&probe, 1) };
            }
            continue;
        }
        let modules = run(Command::new(candidate).args(["-c", MODULES]))?;
        if modules.status.success() {
            return Ok((*candidate).to_owned());
        }
        refusal = LocalError::NoVenv { python: (*candidate).to_owned(), reason: said(&modules, 1) };
    }
    Err(refusal)
}

fn run(command: &mut Command) -> Result<Output, LocalError> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).output().map_err(LocalError::io(format!("running {program}")))
}

/// What a program that failed said last.
fn said(output: &Output, lines: usize) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    let answer = String::from_utf8_lossy(&output.stdout);
    tail(if errors.trim().is_empty() { &answer } else { &errors }, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn no_python_is_one_clear_line() -> Outcome {
        let Err(error) = find_python(&["slipway-no-such-python"]) else { return Err("found".into()) };
        let line = error.to_string();
        assert!(line.contains("Python 3.10 or newer") && line.contains("install it"), "{line}");
        assert!(!line.contains('\n'), "{line}");
        Ok(())
    }

    #[test]
    fn an_old_python_and_one_without_ensurepip_are_named() -> Outcome {
        let folder = tempfile::tempdir()?;
        // Another process writes it: a test that forks meanwhile would hold what we write open, and what is open for writing cannot run.
        let script = |name: &str, text: &str| -> Result<String, io::Error> {
            let path = folder.path().join(name).to_string_lossy().into_owned();
            let mut command = Command::new("sh");
            command.args(["-c", "printf %s \"$2\" > \"$1\" && chmod +x \"$1\"", "sh", &path, text]);
            assert!(command.status()?.success());
            Ok(path)
        };
        let old = script("old", "#!/bin/sh\necho 'it is Python 3.8' >&2; exit 1\n")?;
        let Err(error) = find_python(&[&old]) else { return Err("found".into()) };
        assert!(error.to_string().contains("it is Python 3.8"), "{error}");

        let bare = script(
            "bare",
            "#!/bin/sh\ncase \"$2\" in *ensurepip*) echo \"No module named 'ensurepip'\" >&2; exit 1;; esac\n",
        )?;
        let Err(error) = find_python(&[&bare]) else { return Err("found".into()) };
        assert!(matches!(error, LocalError::NoVenv { .. }), "{error}");
        assert!(error.to_string().contains("ensurepip") && error.to_string().contains("python3-venv"), "{error}");
        Ok(())
    }

    #[test]
    fn a_venv_with_other_pins_is_not_current() -> Outcome {
        let folder = tempfile::tempdir()?;
        let venv = Venv::at(folder.path(), &["a==1", "b==2"]);
        assert!(!venv.is_current());
        fs::create_dir_all(folder.path().join("venv/bin"))?;
        fs::write(&venv.python, "")?;
        fs::write(venv.stamp(), "another digest")?;
        assert!(!venv.is_current());
        fs::write(venv.stamp(), venv.digest())?;
        assert!(venv.is_current());
        assert!(!Venv::at(folder.path(), &["a==1", "b==3"]).is_current());
        Ok(())
    }
}
