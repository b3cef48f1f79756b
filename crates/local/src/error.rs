//! What goes wrong around the embedded AWS: one line each, with what to do.

use std::io;
use std::path::PathBuf;

/// Why the embedded AWS does not start, or does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// There is no Python, or only one that is too old.
    #[error("Python 3.10 or newer is needed for the embedded AWS, and {found}: install it so that `python3` finds it")]
    NoPython {
        /// What was found instead.
        found: String,
    },
    /// Python without what makes venvs, as Debian packages it.
    #[error(
        "{python} cannot make a venv ({reason}): install its venv and pip modules (Debian, Ubuntu: apt install python3-venv)"
    )]
    NoVenv {
        /// The interpreter.
        python: String,
        /// What it said.
        reason: String,
    },
    /// pip failed: mostly the network.
    #[error("pip could not install {packages}: {reason}; check the network or pip's index, then run this again")]
    Pip {
        /// What was asked of it.
        packages: String,
        /// Its last lines.
        reason: String,
    },
    /// The port that was asked for is somebody else's.
    #[error("port {0} on 127.0.0.1 is taken: stop what listens there, or ask for another port")]
    PortTaken(u16),
    /// The emulator ended while it started.
    #[error("the embedded AWS ended as it started: {reason} (log: {})", log.display())]
    DiedEarly {
        /// The last lines of its log.
        reason: String,
        /// The whole log.
        log: PathBuf,
    },
    /// The emulator runs but does not answer.
    #[error("the embedded AWS was not ready within {seconds} s: {reason} (log: {})", log.display())]
    NotReady {
        /// How long was waited.
        seconds: u64,
        /// The last lines of its log.
        reason: String,
        /// The whole log.
        log: PathBuf,
    },
    /// The test GitLab.
    #[error("the demo's GitLab does not work: {0}")]
    GitLab(String),
    /// A stack does not show what it should.
    #[error("not found: {0}")]
    Output(String),
    /// A job ended red.
    #[error("job {job} ended with exit code {code}; its log above says why")]
    Job {
        /// The job.
        job: String,
        /// Its exit code.
        code: i32,
    },
    /// The application does not answer.
    #[error("GET {url}: {reason}")]
    Call {
        /// Where.
        url: String,
        /// What it said instead.
        reason: String,
    },
    /// The emulator is gone.
    #[error("the embedded AWS at {endpoint} is gone ({reason}): start again; what it last said is in {}", log.display())]
    Gone {
        /// Where it listened.
        endpoint: String,
        /// How one sees it.
        reason: String,
        /// The whole log.
        log: PathBuf,
    },
    /// cargo did not build the functions.
    #[error("the functions do not build: {0}; `cargo build` in the workspace shows all of it")]
    Build(String),
    /// A zip could not be made.
    #[error("{} cannot be zipped: {reason}", path.display())]
    Zip {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file or a program is not as it must be.
    #[error("{what}: {source}")]
    Io {
        /// What was done, with the path.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// An AWS call failed.
    #[error("{operation}: {reason}")]
    Aws {
        /// Service and operation.
        operation: String,
        /// The code and the message.
        reason: String,
    },
    /// A stack did not become what its template says.
    #[error("stack {stack} ended as {status}: {cause}")]
    Stack {
        /// Its name.
        stack: String,
        /// The status it, or its change set, has.
        status: String,
        /// The first resource that failed, and its reason.
        cause: String,
    },
    /// A stack took too long.
    #[error("stack {stack} is still {status} after {seconds} s: look at its events, or start again")]
    StackSlow {
        /// Its name.
        stack: String,
        /// The status it has.
        status: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The template and the artifacts do not fit together.
    #[error("template.yaml: {0}")]
    Artifacts(String),
}

impl LocalError {
    /// For `map_err`: what was done when the system refused.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// For `map_err`: an SDK error with the code and message that it hides in its sources.
    pub(crate) fn aws<E: std::error::Error>(operation: impl Into<String>) -> impl FnOnce(E) -> Self {
        let operation = operation.into();
        move |error| Self::Aws { operation, reason: chain(&error) }
    }
}

/// An error and its sources on one line, repeated words left out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        if !said.contains(&text) {
            said.push_str(": ");
            said.push_str(&text);
        }
        next = source.source();
    }
    said
}
