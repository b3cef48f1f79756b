//! Finds the files that references mean, and nothing outside the application's folder.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, FileType};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::Gitignore;
use rayon::prelude::*;

use crate::listing::Found;
use crate::{BundleError, Limits, normalise, path};

/// A file that was found.
#[derive(Debug)]
pub(crate) struct FoundFile {
    /// Where it is in the tree.
    pub(crate) path: String,
    /// Where it really is, with the links on the way followed.
    pub(crate) real: PathBuf,
}

/// A folder to look into.
#[derive(Debug)]
struct Level {
    path: String,
    real: PathBuf,
    /// The real folders in which links were followed on the way.
    jumps: Arc<Vec<PathBuf>>,
}

/// What stands at a path, links followed.
enum Item {
    File(FoundFile),
    Folder(Level),
}

/// Finds files below a root.
#[derive(Debug)]
pub(crate) struct Walker<'f> {
    /// Without links.
    pub(crate) root: &'f Path,
    pub(crate) limits: &'f Limits,
    /// The later decide before the earlier.
    pub(crate) ignores: &'f [Gitignore],
}

impl Walker<'_> {
    /// The files at `references` and in the folders there, each once, sorted by path.
    pub(crate) fn files(&self, references: &[String]) -> Result<Vec<FoundFile>, BundleError> {
        let normalised: BTreeMap<String, &String> =
            references.iter().map(|path| Ok((normalise(path)?, path))).collect::<Result<_, BundleError>>()?;
        let mut files = Vec::new();
        let mut level = Vec::new();
        for (reference, written) in &normalised {
            match self.resolve(reference, written)? {
                Item::File(file) => files.push(file),
                Item::Folder(folder) => level.push(folder),
            }
        }
        // Level by level: all folders of a level at once, and no recursion that a deep tree could exhaust.
        let mut seen: HashSet<String> = HashSet::new();
        while !level.is_empty() {
            seen.extend(level.iter().map(|folder| folder.path.clone()));
            self.limits.check_count(seen.len() as u64)?;
            let items = level.par_iter().map(|folder| self.list(folder)).collect::<Result<Vec<_>, _>>()?;
            level = Vec::new();
            for item in items.into_iter().flatten() {
                match item {
                    Item::File(file) => files.push(file),
                    // A folder that is referenced itself was looked into before.
                    Item::Folder(folder) if seen.contains(&folder.path) => {}
                    Item::Folder(folder) => level.push(folder),
                }
            }
            self.limits.check_count(files.len() as u64)?;
        }
        files.par_sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        for (reference, written) in normalised {
            if Found::new(&files, &reference, |file| &file.path).is_none() {
                return Err(BundleError::ReferenceEmpty { path: written.clone() });
            }
        }
        Ok(files)
    }

    /// The file at `reference`, which is normalised.
    pub(crate) fn file(&self, reference: &str, written: &str) -> Result<FoundFile, BundleError> {
        match self.resolve(reference, written)? {
            Item::File(file) => Ok(file),
            Item::Folder(_) => Err(BundleError::FolderReferenced { path: written.to_owned() }),
        }
    }

    /// Goes to a reference. Every part is looked at, so that a link on the way cannot lead out.
    fn resolve(&self, reference: &str, written: &str) -> Result<Item, BundleError> {
        let mut here = Level { path: String::new(), real: self.root.to_owned(), jumps: Arc::default() };
        let mut parts = reference.split('/').filter(|part| !part.is_empty()).peekable();
        while let Some(part) = parts.next() {
            let at = join(&here.path, part);
            let missing = || BundleError::ReferenceMissing { path: written.to_owned() };
            let metadata = fs::symlink_metadata(here.real.join(part))
                .map_err(|error| if error.kind() == ErrorKind::NotFound { missing() } else { reading(&at)(error) })?;
            match self.look(&here, part, at, metadata.file_type())? {
                Item::File(file) if parts.peek().is_none() => return Ok(Item::File(file)),
                Item::File(_) => return Err(missing()),
                Item::Folder(folder) => here = folder,
            }
        }
        Ok(Item::Folder(here))
    }

    /// What is in a folder and not left out, sorted by name.
    fn list(&self, folder: &Level) -> Result<Vec<Item>, BundleError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder.real).map_err(reading(&folder.path))? {
            let entry = entry.map_err(reading(&folder.path))?;
            let kind = entry.file_type().map_err(reading(&folder.path))?;
            names.push((entry.file_name(), kind));
        }
        names.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut items = Vec::with_capacity(names.len());
        for (name, kind) in names {
            if name == ".git" || (name == "cache" && path::base_name(&folder.path) == ".aws-sam") {
                continue;
            }
            let shown = name.to_string_lossy();
            let path = join(&folder.path, &shown);
            if self.is_ignored(&path, kind.is_dir()) {
                continue;
            }
            let Some(name) = name.to_str() else { return Err(BundleError::NameNotUtf8 { path }) };
            let item = self.look(folder, name, path, kind)?;
            // A link to a folder is a folder here, and a file to git.
            match &item {
                Item::Folder(found) if kind.is_symlink() && self.is_ignored(&found.path, true) => {}
                Item::Folder(_) | Item::File(_) => items.push(item),
            }
        }
        Ok(items)
    }

    fn is_ignored(&self, path: &str, folder: bool) -> bool {
        self.ignores
            .iter()
            .rev()
            .find_map(|patterns| match patterns.matched(path, folder) {
                Match::None => None,
                Match::Ignore(_) => Some(true),
                Match::Whitelist(_) => Some(false),
            })
            .unwrap_or(false)
    }

    /// What the entry `name` of a folder is, links followed.
    fn look(&self, folder: &Level, name: &str, path: String, kind: FileType) -> Result<Item, BundleError> {
        path::check_entry(&path, self.limits)?;
        let mut real = folder.real.join(name);
        let mut jumps = Arc::clone(&folder.jumps);
        let mut kind = kind;
        if kind.is_symlink() {
            let target = fs::canonicalize(&real).map_err(|error| unresolved(&path, error))?;
            if !target.starts_with(self.root) {
                return Err(BundleError::OutsideRoot { path });
            }
            kind = fs::metadata(&target).map_err(reading(&path))?.file_type();
            if kind.is_dir() {
                // A folder around this link, or around one that led here, would be entered again and again.
                if jumps.iter().chain([&folder.real]).any(|from| from.starts_with(&target)) {
                    return Err(BundleError::LinkLoop { path });
                }
                let mut more = jumps.to_vec();
                more.push(folder.real.clone());
                jumps = Arc::new(more);
            }
            real = target;
        }
        if kind.is_dir() {
            Ok(Item::Folder(Level { path, real, jumps }))
        } else if kind.is_file() {
            Ok(Item::File(FoundFile { path, real }))
        } else {
            Err(BundleError::SpecialFile { path })
        }
    }
}

pub(crate) fn reading(path: &str) -> impl FnOnce(io::Error) -> BundleError {
    BundleError::io(format!("reading `{path}`"))
}

/// Why a file cannot be read that was there before.
pub(crate) fn reading_again(path: &str) -> impl FnOnce(io::Error) -> BundleError {
    |error| {
        if error.kind() == ErrorKind::NotFound {
            BundleError::Changed { path: path.to_owned() }
        } else {
            reading(path)(error)
        }
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Why a link leads nowhere.
fn unresolved(path: &str, error: io::Error) -> BundleError {
    // ELOOP on Linux, and on macOS and the BSDs: its `ErrorKind` is not stable yet.
    if matches!(error.raw_os_error(), Some(40 | 62)) {
        BundleError::LinkLoop { path: path.to_owned() }
    } else if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
        BundleError::DanglingLink { path: path.to_owned() }
    } else {
        reading(path)(error)
    }
}
