//! A tree's files, and what of them a reference becomes.

use std::ops::Range;

use crate::{BundleError, Entry, TreeDigest, file_digest, is_ready_archive, normalise, path, tree_digest};

/// A tree's files, sorted by path: what a `Tree` and an [`Archive`](crate::Archive) of the same content
/// have in common.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    entries: Vec<Entry>,
}

/// What a property takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// A zip: a file is zipped, too, unless it [is an archive already](is_ready_archive).
    Zip,
    /// A file as it is; a folder is zipped.
    FileOrZip,
    /// A file as it is; a folder is an error.
    File,
}

/// How an artifact is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Content {
    /// The file as it is.
    File,
    /// A zip of the files below the path, named as seen from there, or of the one file at the path.
    Zip,
}

/// What goes up for a reference. Equal artifacts of one tree have equal bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Artifact {
    /// The reference's path, [normalised](normalise): empty for the whole tree.
    pub path: String,
    /// How it is stored.
    pub content: Content,
    /// Its address: the [`file_digest`] of a file, the [`tree_digest`] of what is in a zip.
    pub digest: TreeDigest,
    /// How many files are in it.
    pub files: u64,
    /// Their bytes, not compressed.
    pub bytes: u64,
}

impl Listing {
    /// Takes a tree's files in any order. Their paths are normalised and differ.
    #[must_use]
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Self { entries }
    }

    /// The files, sorted by the bytes of their paths.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The tree's address.
    #[must_use]
    pub fn digest(&self) -> TreeDigest {
        tree_digest(&self.entries)
    }

    /// Bytes of all files, not compressed.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.size).sum()
    }

    /// What a reference at `path` becomes. The path is relative to the root, in any spelling that [`normalise`] takes.
    ///
    /// # Errors
    /// [`BundleError::ReferenceMissing`]; [`BundleError::FolderReferenced`] for a folder as [`Form::File`]; those of
    /// [`normalise`].
    pub fn artifact(&self, path: &str, form: Form) -> Result<Artifact, BundleError> {
        let reference = normalise(path)?;
        let missing = || BundleError::ReferenceMissing { path: path.to_owned() };
        let found = Found::new(&self.entries, &reference, |entry| &entry.path).ok_or_else(missing)?;
        let entries = self.entries.get(found.range).unwrap_or_default();
        let as_it_is = match form {
            Form::Zip => found.file && is_ready_archive(&reference),
            Form::FileOrZip => found.file,
            Form::File if found.file => true,
            Form::File => return Err(BundleError::FolderReferenced { path: path.to_owned() }),
        };
        let (content, digest) = match entries {
            [file] if as_it_is => (Content::File, file_digest(file)),
            entries => {
                let named = entries.iter().filter_map(|entry| Some((path::within(&entry.path, &reference)?, entry)));
                (Content::Zip, crate::digest::sorted_digest(entries.len(), named))
            }
        };
        let bytes = entries.iter().map(|entry| entry.size).sum();
        Ok(Artifact { path: reference, content, digest, files: entries.len() as u64, bytes })
    }
}

/// Which of a tree's files a reference means.
pub(crate) struct Found {
    pub(crate) range: Range<usize>,
    /// It is one file, and not a folder.
    pub(crate) file: bool,
}

impl Found {
    /// Looks among `items`, sorted by path. `reference` is normalised. `None` when nothing is there.
    pub(crate) fn new<T>(items: &[T], reference: &str, path: impl Fn(&T) -> &str) -> Option<Self> {
        if let Ok(index) = items.binary_search_by(|item| path(item).cmp(reference)) {
            return Some(Self { range: index..index + 1, file: true });
        }
        // All that begin with one text stand together.
        let prefix = if reference.is_empty() { String::new() } else { format!("{reference}/") };
        let start = items.partition_point(|item| path(item) < prefix.as_str());
        let inside = items.iter().skip(start).take_while(|item| path(item).starts_with(&prefix)).count();
        (inside > 0).then_some(Self { range: start..start + inside, file: false })
    }
}
