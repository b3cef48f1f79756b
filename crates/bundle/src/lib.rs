//! Bundles: what a template references and the template itself, in one zip, addressed by a digest of its content.
//!
//! A job reads a `Tree` from a `Folder` and writes it as a zip, or the artifacts at once (both with the feature
//! `pack`). A function opens the zip as an [`Archive`], verifies every entry, and writes artifacts from it by copying
//! compressed bytes: it never deflates. Both sides see a [`Listing`], which says what a reference becomes, and name
//! what they see by the same [`TreeDigest`], which knows nothing of compression, times or order.
//!
//! The zip format (PKWARE's APPNOTE 6.3) is read and written here, in `format.rs`, `archive.rs` and `writer.rs`, and
//! not by a general library: the reader refuses whatever two programs could understand in two ways, and the writer
//! needs no seeking, so that an artifact can be streamed while it is made.

mod archive;
#[cfg(feature = "pack")]
mod deflated;
mod digest;
mod error;
#[cfg(feature = "pack")]
mod folder;
mod format;
mod limits;
mod listing;
mod path;
#[cfg(feature = "pack")]
mod tree;
#[cfg(feature = "pack")]
mod walk;
mod writer;

pub use archive::Archive;
pub use digest::{Entry, InvalidDigest, TreeDigest, file_digest, tree_digest};
pub use error::BundleError;
#[cfg(feature = "pack")]
pub use folder::Folder;
pub use limits::{LAMBDA_CODE_BYTES, Limits};
pub use listing::{Artifact, Content, Form, Listing};
pub use path::{is_ready_archive, normalise};
#[cfg(feature = "pack")]
pub use tree::Tree;

/// Where a bundle keeps its template.
pub const TEMPLATE: &str = "template.yaml";
