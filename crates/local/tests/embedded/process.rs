//! The emulator's process: it starts, and it always ends.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use slipway_local::emulator::{Emulator, Options};
use tokio::time::{Instant, sleep};

use crate::{Outcome, options};

fn exists(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

/// Whether a port is free again, after a moment.
async fn is_free(port: u16) -> bool {
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(5) {
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return true;
        }
        sleep(Duration::from_millis(50)).await;
    }
    false
}

#[tokio::test]
async fn it_starts_within_seconds_and_ends_on_drop() -> Outcome {
    let started = Instant::now();
    let own = Emulator::start(options("drop")).await?;
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    own.healthy().await?;
    let (port, log) = (own.port(), own.log_path().to_path_buf());
    drop(own);
    assert!(is_free(port).await);
    std::fs::remove_file(log)?;
    Ok(())
}

#[tokio::test]
async fn a_taken_port_is_one_clear_line() -> Outcome {
    let holder = TcpListener::bind(("127.0.0.1", 0))?;
    let port = holder.local_addr()?.port();
    let Err(error) = Emulator::start(Options { port: Some(port), ..options("taken") }).await else {
        return Err("it started".into());
    };
    assert_eq!(
        error.to_string(),
        format!("port {port} on 127.0.0.1 is taken: stop what listens there, or ask for another port")
    );
    Ok(())
}

/// Not a test of its own: the next one runs this in a process that it then kills.
#[tokio::test]
#[ignore = "helper of `it_ends_with_a_killed_parent`"]
#[expect(clippy::disallowed_methods, reason = "clippy.toml names this crate as one of the places")]
async fn helper_that_hangs() -> Outcome {
    let note = PathBuf::from(std::env::var("SLIPWAY_TEST_NOTE")?);
    let held = Emulator::start(options("killed")).await?;
    // A rename, so that nobody reads half of it.
    let draft = note.with_extension("draft");
    std::fs::write(&draft, format!("{}\n{}", held.port(), held.log_path().display()))?;
    std::fs::rename(&draft, &note)?;
    sleep(Duration::from_secs(120)).await;
    Ok(())
}

#[tokio::test]
async fn it_ends_with_a_killed_parent() -> Outcome {
    let folder = tempfile::tempdir()?;
    let note = folder.path().join("note");
    let mut parent = std::process::Command::new(std::env::current_exe()?)
        .args(["--exact", "process::helper_that_hangs", "--ignored"])
        .env("SLIPWAY_TEST_NOTE", &note)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    let since = Instant::now();
    while !note.exists() && since.elapsed() < Duration::from_secs(60) {
        sleep(Duration::from_millis(50)).await;
    }
    let text = std::fs::read_to_string(&note)?;
    let (port, log) = text.split_once('\n').ok_or("no note")?;
    let port: u16 = port.parse()?;
    assert!(TcpListener::bind(("127.0.0.1", port)).is_err(), "nothing listens");
    // SIGKILL: no destructor runs.
    parent.kill()?;
    parent.wait()?;
    assert!(is_free(port).await);
    std::fs::remove_file(log)?;
    Ok(())
}

#[tokio::test]
async fn a_dead_one_is_one_clear_line_and_a_kept_one_lives_on() -> Outcome {
    let own = Emulator::start(options("keep")).await?;
    let (port, url, log) = (own.port(), format!("{}/_ministack/ready", own.endpoint()), own.log_path().to_path_buf());
    let supervisor = own.keep()?;
    assert!(reqwest::get(&url).await?.status().is_success());
    assert!(exists(supervisor));
    let killed = std::process::Command::new("kill").arg(supervisor.to_string()).status()?;
    assert!(killed.success());
    assert!(is_free(port).await);
    std::fs::remove_file(log)?;

    let own = Emulator::start(options("dead")).await?;
    let log = own.log_path().to_path_buf();
    let killed = std::process::Command::new("kill").arg(own.process_id().to_string()).status()?;
    assert!(killed.success());
    assert!(is_free(own.port()).await);
    let Err(error) = own.healthy().await else { return Err("it is healthy".into()) };
    let line = error.to_string();
    assert!(line.contains("is gone") && line.contains("start again") && !line.contains('\n'), "{line}");
    std::fs::remove_file(log)?;
    Ok(())
}
