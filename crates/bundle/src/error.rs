//! What can be wrong with a bundle.

use std::io;

/// Why a bundle cannot be made or read. Paths are relative to the application's folder or the bundle's root.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// A file, or the source or destination of a zip, cannot be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, and to which path.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes are no zip, or a part of one.
    #[error("the bundle is no complete zip: {reason}; make and upload it again")]
    NotAZip {
        /// What is wrong.
        reason: String,
    },
    /// An entry's bytes or headers contradict each other.
    #[error("the bundle's entry `{path}` is damaged: {reason}; make and upload the bundle again")]
    Corrupt {
        /// The entry.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// An entry is encrypted.
    #[error("the bundle's entry `{path}` is encrypted: a bundle is not")]
    Encrypted {
        /// The entry.
        path: String,
    },
    /// An entry is compressed in a way that Lambda does not read.
    #[error("the bundle's entry `{path}` uses compression method {method}: only 0 (stored) and 8 (deflate) are read")]
    UnknownCompression {
        /// The entry.
        path: String,
        /// The method's number in the zip format.
        method: u16,
    },
    /// A name or path that could mean something outside the application's folder, or two things.
    #[error("the path `{path}` {reason}")]
    UnsafePath {
        /// The path, with what cannot be shown replaced.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two entries have one name, or one is a file where the other needs a folder.
    #[error("the bundle has `{path}` twice, or as a file and a folder")]
    Duplicate {
        /// The path.
        path: String,
    },
    /// An entry is a link.
    #[error("the bundle's entry `{path}` is a symbolic link: a bundle holds plain files")]
    LinkEntry {
        /// The entry.
        path: String,
    },
    /// There are more entries than allowed.
    #[error("there are more than {limit} files and folders, the limit of a bundle: leave out what is not deployed")]
    TooManyEntries {
        /// The limit.
        limit: u64,
    },
    /// One file is too large.
    #[error("`{path}` has {size} bytes, the limit for one file is {limit}")]
    EntryTooLarge {
        /// The file.
        path: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// All files together are too large.
    #[error("all files together have more than {limit} bytes, the limit of a bundle")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The content is suspiciously larger than the zip.
    #[error("{size} bytes come from {compressed} compressed ones: more than {limit} times as many are refused")]
    RatioTooHigh {
        /// Bytes of all files.
        size: u64,
        /// Their compressed bytes.
        compressed: u64,
        /// The limit.
        limit: u64,
    },
    /// A path is too long.
    #[error("the path `{path}` is longer than {limit} bytes")]
    PathTooLong {
        /// The path.
        path: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The bundle holds no template.
    #[error("the bundle has no `template.yaml` at its root: make it with `slipway`")]
    TemplateMissing,
    /// The template would stand where another file of the application stands.
    #[error(
        "the template references the whole folder, or its file `template.yaml`, which is not the template that is \
         deployed: name the template `template.yaml`, or move the code to a folder of its own"
    )]
    TemplateCollision,
    /// A path that the template references is not there.
    #[error("`{path}`, which the template references, is not there: build the application first, or correct the path")]
    ReferenceMissing {
        /// The path as referenced.
        path: String,
    },
    /// A folder that the template references holds no file.
    #[error(
        "`{path}`, which the template references, holds no file, or only what is left out: build the application \
         first, or correct the path"
    )]
    ReferenceEmpty {
        /// The path as referenced.
        path: String,
    },
    /// A folder stands where a property takes a file only.
    #[error("`{path}`, which the template references, is a folder: a file is needed here")]
    FolderReferenced {
        /// The path as referenced.
        path: String,
    },
    /// A file of patterns to leave out cannot be understood.
    #[error("{file}, line {line}: {reason}")]
    BadPattern {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// A path leads out of the application's folder.
    #[error("`{path}` leads out of the application's folder: only what is inside is packaged")]
    OutsideRoot {
        /// The path.
        path: String,
    },
    /// A link leads to nothing.
    #[error("`{path}` is a link to something that is not there: remove it, or make what it names")]
    DanglingLink {
        /// The link.
        path: String,
    },
    /// A link leads back to a folder that it is in.
    #[error("`{path}` is a link that leads back to itself or to a folder around it: remove it")]
    LinkLoop {
        /// The link.
        path: String,
    },
    /// A device, socket or pipe.
    #[error("`{path}` is neither a file nor a folder: remove it")]
    SpecialFile {
        /// The path.
        path: String,
    },
    /// A file's name is not UTF-8.
    #[error("the name of `{path}` is not UTF-8: rename it")]
    NameNotUtf8 {
        /// The path, with what cannot be shown replaced.
        path: String,
    },
    /// A file changed while it was read.
    #[error("`{path}` changed while the bundle was made: finish the build, then run this again")]
    Changed {
        /// The file.
        path: String,
    },
}

impl BundleError {
    /// Whether it says that a limit is exceeded: one of [`Limits`](crate::Limits), or a bound given for one call.
    #[must_use]
    pub fn is_limit(&self) -> bool {
        matches!(
            self,
            Self::TooManyEntries { .. }
                | Self::EntryTooLarge { .. }
                | Self::TooLarge { .. }
                | Self::RatioTooHigh { .. }
                | Self::PathTooLong { .. }
        )
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Io { what, source }
    }

    pub(crate) fn corrupt(path: &str, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn not_a_zip(reason: impl Into<String>) -> Self {
        Self::NotAZip { reason: reason.into() }
    }
}
