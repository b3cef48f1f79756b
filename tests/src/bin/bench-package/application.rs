//! The applications that are packaged: made of a seed, so the same on every machine.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use crate::Outcome;
use crate::content::{Kind, Random, content};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// Grows when the same shape gets other files: what was kept is made anew.
const GENERATION: u32 = 1;

/// How an application is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    functions: u64,
    /// Of each function.
    files: usize,
    /// Of each function.
    bytes: usize,
    layer: bool,
    /// Whether the functions vendor the same dependencies, as `sam build` leaves them; else no two files are the same.
    shared: bool,
}

/// Three functions, as after `sam init`.
pub(crate) const SMALL: Shape =
    Shape { name: "small", functions: 3, files: 20, bytes: 128 * KIB, layer: false, shared: false };
/// Twenty functions: 3,000 files, 30 MiB.
pub(crate) const MEDIUM: Shape =
    Shape { name: "medium", functions: 20, files: 150, bytes: 1536 * KIB, layer: false, shared: false };
/// A hundred functions and a layer: 32,600 files, 560 MiB.
pub(crate) const LARGE: Shape =
    Shape { name: "large", functions: 100, files: 320, bytes: 5 * MIB, layer: true, shared: false };
/// The same, but with dependencies in common.
pub(crate) const SHARED: Shape = Shape { name: "shared", shared: true, ..LARGE };

const LAYER_FILES: usize = 600;
const LAYER_BYTES: usize = 60 * MIB;

/// A generated application.
#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) shape: Shape,
    pub(crate) folder: PathBuf,
    /// How many artifacts it consists of.
    pub(crate) artifacts: usize,
    pub(crate) files: usize,
    pub(crate) bytes: usize,
}

/// A file to be.
struct File {
    path: PathBuf,
    kind: Kind,
    bytes: usize,
    seed: u64,
}

impl Application {
    /// Makes the application in `parent`, unless it was kept there.
    pub(crate) fn generate(shape: Shape, parent: &Path) -> Outcome<Self> {
        let folder = parent.join(shape.name);
        let mut files = Vec::new();
        for number in 1..=shape.functions {
            files.extend(function(&shape, number));
        }
        if shape.layer {
            files.extend(layer());
        }
        let application = Self {
            shape,
            artifacts: shape.functions as usize + usize::from(shape.layer),
            files: files.len(),
            bytes: files.iter().map(|file| file.bytes).sum(),
            folder,
        };
        // Written last: what has it is whole.
        let stamp = parent.join(format!("{}.{GENERATION}", shape.name));
        if !stamp.exists() {
            if application.folder.exists() {
                fs::remove_dir_all(&application.folder)?;
            }
            write(&application.folder, &files)?;
            fs::write(application.template(), template(&shape))?;
            fs::write(stamp, "")?;
        }
        Ok(application)
    }

    pub(crate) fn template(&self) -> PathBuf {
        self.folder.join("template.yaml")
    }
}

/// A handler and a few modules of its own, and the dependencies beside them.
fn function(shape: &Shape, number: u64) -> Vec<File> {
    let folder = PathBuf::from(format!("functions/function-{number:03}"));
    let own = shape.files / 20;
    let own_bytes = shape.bytes / 40;
    let mut files = small_files(&folder, "app", own, own_bytes, &mut Random::new(number));
    // The same seed makes the same dependencies.
    let mut random = Random::new(if shape.shared { 0x5ead } else { 0xd15c_0000 + number });
    let (count, bytes) = (shape.files - own, shape.bytes - own_bytes);
    // A compiled extension, descriptions of APIs, and many modules.
    let descriptions = count / 40;
    files.push(large(folder.join("vendor/native.so"), Kind::Library, bytes / 4, &mut random));
    for at in 0..descriptions {
        let path = folder.join(format!("vendor/data/service-{at}.json"));
        files.push(large(path, Kind::Json, bytes / 4 / descriptions, &mut random));
    }
    let rest = bytes - bytes / 4 - bytes / 4 / descriptions.max(1) * descriptions;
    files.extend(small_files(&folder, "vendor", count - 1 - descriptions, rest, &mut random));
    files
}

fn layer() -> Vec<File> {
    let folder = PathBuf::from("layer/python");
    let mut random = Random::new(0x1a7e5);
    let libraries = [20 * MIB, 8 * MIB, 3 * MIB, 3 * MIB, 2 * MIB];
    let mut files: Vec<File> = (0..)
        .zip(libraries)
        .map(|(at, bytes)| large(folder.join(format!("native/lib{at}.so")), Kind::Library, bytes, &mut random))
        .collect();
    for at in 0..10 {
        files.push(large(folder.join(format!("data/model-{at}.json")), Kind::Json, MIB, &mut random));
    }
    let rest = LAYER_BYTES - files.iter().map(|file| file.bytes).sum::<usize>();
    files.extend(small_files(&folder, "vendor", LAYER_FILES - files.len(), rest, &mut random));
    files
}

fn large(path: PathBuf, kind: Kind, bytes: usize, random: &mut Random) -> File {
    File { path, kind, bytes, seed: random.next() }
}

/// `count` files that have `bytes` together: the largest about twenty times the smallest, few of them data or
/// images.
fn small_files(folder: &Path, name: &str, count: usize, bytes: usize, random: &mut Random) -> Vec<File> {
    let weights: Vec<f64> = (0..count).map(|_| random.logarithmic(20.0)).collect();
    let all: f64 = weights.iter().sum();
    let mut left = bytes;
    let mut files = Vec::new();
    for (at, weight) in weights.iter().enumerate() {
        let size = if at + 1 == count { left } else { (bytes as f64 * weight / all) as usize };
        left -= size;
        let (kind, ending) = match random.below(24) {
            0 => (Kind::Noise, "png"),
            1 | 2 => (Kind::Json, "json"),
            _ => (Kind::Source, "py"),
        };
        let path = folder.join(format!("{name}/package_{:02}/module_{at:03}.{ending}", at / 15));
        files.push(File { path, kind, bytes: size, seed: random.next() });
    }
    files
}

/// Writes them all, on all cores.
fn write(folder: &Path, files: &[File]) -> Outcome<()> {
    let threads = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|first| {
                scope.spawn(move || files.iter().skip(first).step_by(threads).try_for_each(|file| put(folder, file)))
            })
            .collect();
        parts.into_iter().try_for_each(|part| part.join().map_err(|_| "a thread panicked".to_owned())?)
    })?;
    Ok(())
}

fn put(folder: &Path, file: &File) -> Result<(), String> {
    let path = folder.join(&file.path);
    let written = || -> std::io::Result<()> {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&path, content(file.kind, file.bytes, file.seed))?;
        let mode = if file.kind == Kind::Library { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
    };
    written().map_err(|error| format!("writing {}: {error}", path.display()))
}

fn template(shape: &Shape) -> String {
    let mut text = String::from("AWSTemplateFormatVersion: '2010-09-09'\nTransform: AWS::Serverless-2016-10-31\n");
    text.push_str(
        "Globals:\n  Function:\n    Runtime: python3.13\n    Handler: app.handler\n    Timeout: 30\nResources:\n",
    );
    for number in 1..=shape.functions {
        let _ = write!(
            text,
            "  Function{number:03}:\n    Type: AWS::Serverless::Function\n    Properties:\n      \
             CodeUri: functions/function-{number:03}\n      Events:\n        Call:\n          Type: Api\n          \
             Properties:\n            Path: /function-{number:03}\n            Method: get\n"
        );
    }
    if shape.layer {
        text.push_str("  Layer:\n    Type: AWS::Serverless::LayerVersion\n    Properties:\n      ContentUri: layer\n");
    }
    text
}
