//! The address of a tree of files: what its files are, not how they are stored.

use std::fmt::{self, Display, Write as _};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A SHA-256 as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TreeDigest(String);

/// A text that is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits in lower case")]
pub struct InvalidDigest;

impl TreeDigest {
    /// Takes a digest as text: exactly 64 digits of `0-9a-f`.
    ///
    /// # Errors
    /// [`InvalidDigest`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidDigest> {
        let good = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if good { Ok(Self(text.to_owned())) } else { Err(InvalidDigest) }
    }

    /// The digest as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let mut text = String::with_capacity(64);
        for byte in bytes {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }
}

impl Display for TreeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for TreeDigest {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for TreeDigest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        Self::parse(text)
    }
}

impl TryFrom<String> for TreeDigest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        Self::parse(&text)
    }
}

impl From<TreeDigest> for String {
    fn from(digest: TreeDigest) -> Self {
        digest.0
    }
}

/// One file of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The path: relative, normalised, parts separated by `/`.
    pub path: String,
    /// Whether its owner may execute it: mode 0755, otherwise 0644.
    pub executable: bool,
    /// Bytes of its content.
    pub size: u64,
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
}

/// The digest of a tree: SHA-256 over
///
/// ```text
/// "slipway tree 1\n"  count:u64  { length(path):u64  path  mode:u32  sha256:32 bytes }…
/// ```
///
/// with numbers in big-endian order, `mode` 0o755 or 0o644, and entries sorted by the bytes of their paths, whatever
/// order they are given in. Lengths stand before what they measure, so that no two trees have the same encoding.
#[must_use]
pub fn tree_digest(entries: &[Entry]) -> TreeDigest {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    sorted_digest(sorted.len(), sorted.into_iter().map(|entry| (entry.path.as_str(), entry)))
}

/// The digest of a tree whose `count` files come sorted by name, each by a name that may differ from its path.
pub(crate) fn sorted_digest<'e>(count: usize, entries: impl Iterator<Item = (&'e str, &'e Entry)>) -> TreeDigest {
    let mut hash = Sha256::new();
    hash.update(b"slipway tree 1\n");
    hash.update((count as u64).to_be_bytes());
    for (name, entry) in entries {
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name.as_bytes());
        hash.update(if entry.executable { 0o755_u32 } else { 0o644_u32 }.to_be_bytes());
        hash.update(entry.sha256);
    }
    TreeDigest::of_bytes(&hash.finalize())
}

/// The digest of a file that goes up as it is: the SHA-256 of its content, as `sha256sum` prints it.
#[must_use]
pub fn file_digest(entry: &Entry) -> TreeDigest {
    TreeDigest::of_bytes(&entry.sha256)
}
