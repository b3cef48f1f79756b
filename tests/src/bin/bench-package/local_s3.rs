//! A local S3: `s3s-fs` from crates.io, installed under the target folder, its data in plain files.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::Outcome;

/// The newest that this workspace's Rust builds.
const VERSION: &str = "0.14.1";
/// How long a start may take.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A running S3. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct LocalS3 {
    process: Child,
    endpoint: String,
    data: PathBuf,
}

/// What is in a bucket below a prefix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
}

impl LocalS3 {
    /// Installs it below `folder` if needed, and starts it on a free port with empty data. `access_key`'s secret is `test`.
    pub(crate) fn start(folder: &Path, access_key: &str) -> Outcome<Self> {
        let program = install(folder)?;
        let data = folder.join("s3");
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        fs::create_dir_all(&data)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = Command::new(program);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--access-key", access_key, "--secret-key", "test"]).arg(&data);
        let log = fs::File::create(folder.join("s3.log"))?;
        let process = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut server = Self { process, endpoint: format!("http://127.0.0.1:{port}"), data };
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if server.process.try_wait()?.is_some() || began.elapsed() > READY_WITHIN {
                return Err(format!("s3s-fs does not start; its log is {}", folder.join("s3.log").display()).into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// An empty bucket. A bucket is a folder, an object a file.
    pub(crate) fn make_bucket(&self, name: &str) -> Outcome<()> {
        self.remove(name)?;
        Ok(fs::create_dir(self.data.join(name))?)
    }

    /// Removes what is stored below `path`: a bucket's name, and maybe a prefix that ends at a `/`.
    pub(crate) fn remove(&self, path: &str) -> Outcome<()> {
        let folder = self.data.join(path);
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        Ok(())
    }

    /// The time that a file would get which were written now.
    pub(crate) fn clock(&self) -> Outcome<SystemTime> {
        let path = self.data.join(".clock");
        fs::write(&path, "")?;
        Ok(fs::metadata(path)?.modified()?)
    }

    /// What was written below `path` since then, also over what was there.
    pub(crate) fn written_since(&self, path: &str, since: SystemTime) -> Outcome<Stored> {
        let mut stored = Stored::default();
        let mut folders = vec![self.data.join(path)];
        while let Some(folder) = folders.pop() {
            if !folder.exists() {
                continue;
            }
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let about = entry.metadata()?;
                if about.is_dir() {
                    folders.push(entry.path());
                } else if about.modified()? >= since {
                    stored.objects += 1;
                    stored.bytes += about.len();
                }
            }
        }
        Ok(stored)
    }
}

impl Drop for LocalS3 {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn install(folder: &Path) -> Outcome<PathBuf> {
    let program = folder.join("bin/s3s-fs");
    let installed = Command::new(&program).arg("--version").output();
    if installed.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).trim().ends_with(VERSION)) {
        return Ok(program);
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["install", "--quiet", "--locked", "--force", "s3s-fs", "--features", "binary", "--version", VERSION]);
    let build = folder.join("build");
    cargo.arg("--root").arg(folder).arg("--target-dir").arg(&build);
    let installed = cargo.current_dir(slipway_local::workspace_root()).stdin(Stdio::null()).output()?;
    if !installed.status.success() {
        return Err(
            format!("cargo could not install s3s-fs: {}", String::from_utf8_lossy(&installed.stderr).trim()).into()
        );
    }
    fs::remove_dir_all(build)?;
    Ok(program)
}
