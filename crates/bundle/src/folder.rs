//! An application's folder, and what is left out of it.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::walk::{Walker, reading};
use crate::{BundleError, Limits, Tree, normalise};

/// An application's folder: nothing outside it is read. Links inside it are followed.
#[derive(Debug)]
pub struct Folder {
    /// Without links.
    root: PathBuf,
    limits: Limits,
    ignores: Vec<Gitignore>,
}

impl Folder {
    /// Takes the folder at `root`.
    ///
    /// # Errors
    /// [`BundleError::Io`] where it is not there.
    pub fn open(root: &Path, limits: &Limits) -> Result<Self, BundleError> {
        let io = BundleError::io(format!("reading the folder `{}`", root.display()));
        let root = fs::canonicalize(root).map_err(io)?;
        Ok(Self { root, limits: limits.clone(), ignores: Vec::new() })
    }

    /// Leaves out what the patterns in `file` say. They are written as in a `.gitignore`, and are relative to the
    /// folder's root, wherever the file is. The last pattern that matches decides, and a later file before an earlier.
    ///
    /// # Errors
    /// [`BundleError::BadPattern`] with the line, [`BundleError::Io`].
    pub fn ignore(&mut self, file: &Path) -> Result<(), BundleError> {
        let name = file.display().to_string();
        let text = fs::read_to_string(file).map_err(BundleError::io(format!("reading `{name}`")))?;
        // Paths are matched as they are in the tree.
        let mut patterns = GitignoreBuilder::new("");
        patterns.allow_unclosed_class(false);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        for (line, pattern) in (1..).zip(text.lines()) {
            patterns.add_line(None, pattern).map_err(|error| BundleError::BadPattern {
                file: name.clone(),
                line,
                reason: error.to_string(),
            })?;
        }
        let patterns = patterns.build().map_err(|error| BundleError::BadPattern {
            file: name,
            line: 1,
            reason: error.to_string(),
        })?;
        self.ignores.push(patterns);
        Ok(())
    }

    /// The content of the file at `path`, relative to the root in any spelling that [`normalise`] takes.
    ///
    /// # Errors
    /// [`BundleError::ReferenceMissing`], [`BundleError::FolderReferenced`], [`BundleError::EntryTooLarge`] above
    /// `max_bytes`; for what is on the way there those of [`Folder::tree`]; [`BundleError::Io`].
    pub fn read_file(&self, path: &str, max_bytes: u64) -> Result<Vec<u8>, BundleError> {
        let found = self.walker().file(&normalise(path)?, path)?;
        let file = File::open(&found.real).map_err(reading(&found.path))?;
        let size = file.metadata().map_err(reading(&found.path))?.len();
        let mut content = Vec::new();
        file.take(max_bytes.saturating_add(1)).read_to_end(&mut content).map_err(reading(&found.path))?;
        if content.len() as u64 > max_bytes {
            let size = size.max(content.len() as u64);
            return Err(BundleError::EntryTooLarge { path: found.path, size, limit: max_bytes });
        }
        Ok(content)
    }

    /// Reads the files and folders at `paths`, relative to the root, on all cores. `template`, if there is one, is
    /// stored as [`TEMPLATE`](crate::TEMPLATE).
    ///
    /// `.git` and `.aws-sam/cache` are left out, and what [`Folder::ignore`] said; but never what is in `paths` itself.
    /// Folders without files are not kept. A file is executable if its owner may execute it.
    ///
    /// # Errors
    /// [`BundleError::ReferenceMissing`] and [`BundleError::ReferenceEmpty`]; [`BundleError::OutsideRoot`],
    /// [`BundleError::DanglingLink`], [`BundleError::LinkLoop`], [`BundleError::SpecialFile`],
    /// [`BundleError::NameNotUtf8`] and [`BundleError::UnsafePath`] for what cannot be packaged;
    /// [`BundleError::TemplateCollision`]; [`BundleError::Changed`] when a file is written meanwhile;
    /// [`BundleError::Io`]; and one for each limit.
    pub fn tree(&self, paths: &[String], template: Option<&[u8]>) -> Result<Tree, BundleError> {
        let files = self.walker().files(paths)?;
        let whole = paths.iter().any(|path| normalise(path).is_ok_and(|path| path.is_empty()));
        Tree::read(files, template, whole, &self.limits)
    }

    fn walker(&self) -> Walker<'_> {
        Walker { root: &self.root, limits: &self.limits, ignores: &self.ignores }
    }
}
