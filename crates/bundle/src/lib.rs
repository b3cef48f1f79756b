//! Bundles: what a template references and the template itself, in one zip, addressed by a digest of its content.
//!
//! A job reads a [`Tree`] from a folder and writes it as a zip. A function opens the zip as an [`Archive`], verifies
//! every entry, and writes artifacts from it by copying compressed bytes: it never deflates. Both sides name what they
//! see by the same [`TreeDigest`], which knows nothing of compression, times or order.
//!
//! The zip format (PKWARE's APPNOTE 6.3) is read and written here, in `format.rs`, `archive.rs` and `writer.rs`, and
//! not by a general library: the reader refuses whatever two programs could understand in two ways, and the writer
//! needs no seeking, so that an artifact can be streamed while it is made.

mod archive;
mod digest;
mod error;
mod format;
mod limits;
mod path;
mod tree;
mod writer;

pub use archive::Archive;
pub use digest::{Entry, InvalidDigest, TreeDigest, file_digest, tree_digest};
pub use error::BundleError;
pub use limits::Limits;
pub use path::{is_ready_archive, normalise};
pub use tree::Tree;

/// Where a bundle keeps its template.
pub const TEMPLATE: &str = "template.yaml";
