//! What the work itself takes, done as plainly as can be: reading the files, hashing them, deflating them, on all cores.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use libdeflater::{CompressionLvl, Compressor};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::Outcome;
use crate::measure::median;

/// One kind of work on every file of an application.
#[derive(Debug, Serialize)]
pub(crate) struct Limit {
    pub(crate) work: String,
    /// In seconds; the middle of all runs.
    pub(crate) wall: f64,
    /// What it leaves of the content, in bytes.
    pub(crate) bytes: u64,
}

/// Does each kind of work on the files in `folder`, `times` times.
pub(crate) fn measure(folder: &Path, times: usize) -> Outcome<Vec<Limit>> {
    let files = files(folder)?;
    let read = || |content: &[u8]| Ok(content.len() as u64);
    let hash = || |content: &[u8]| Ok(Sha256::digest(content).len() as u64);
    let mut limits = vec![
        limit("read".to_owned(), times, &files, read)?,
        limit("read and hash, SHA-256".to_owned(), times, &files, hash)?,
    ];
    for level in [1, 2, 4, 6] {
        let level = CompressionLvl::new(level).map_err(|_| "libdeflate has no such level")?;
        let deflate = || {
            let (mut compressor, mut out) = (Compressor::new(level), Vec::new());
            move |content: &[u8]| {
                let most = compressor.deflate_compress_bound(content.len());
                if out.len() < most {
                    out.resize(most, 0);
                }
                compressor.deflate_compress(content, &mut out).map(|bytes| bytes as u64).map_err(io::Error::other)
            }
        };
        limits.push(limit(format!("read and deflate, libdeflate {}", i32::from(level)), times, &files, deflate)?);
    }
    for level in [1, 6] {
        let deflate = || {
            move |content: &[u8]| {
                let mut encoder = DeflateEncoder::new(io::sink(), Compression::new(level));
                encoder.write_all(content)?;
                encoder.try_finish()?;
                Ok(encoder.total_out())
            }
        };
        limits.push(limit(format!("read and deflate, zlib-rs {level}"), times, &files, deflate)?);
    }
    Ok(limits)
}

/// The largest first, so that none is left for the end.
fn files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                files.push((entry.metadata()?.len(), entry.path()));
            }
        }
    }
    files.sort_by(|one, other| other.cmp(one));
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

/// `worker` makes what each thread does to a file's content: it tells how many bytes are left of it.
fn limit<W>(work: String, times: usize, files: &[PathBuf], worker: impl Fn() -> W + Sync) -> Outcome<Limit>
where
    W: FnMut(&[u8]) -> io::Result<u64>,
{
    let mut walls = Vec::new();
    let left = AtomicU64::new(0);
    for _ in 0..times {
        left.store(0, Ordering::Relaxed);
        let began = Instant::now();
        let next = AtomicUsize::new(0);
        let thread = || -> io::Result<()> {
            let (mut work, mut content) = (worker(), Vec::new());
            while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                content.clear();
                File::open(path)?.read_to_end(&mut content)?;
                left.fetch_add(work(&content)?, Ordering::Relaxed);
            }
            Ok(())
        };
        thread::scope(|scope| {
            let threads = thread::available_parallelism()?.get();
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(thread)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))))
        })?;
        walls.push(began.elapsed().as_secs_f64());
    }
    Ok(Limit { work, wall: median(walls), bytes: left.into_inner() })
}
