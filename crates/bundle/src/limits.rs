//! How much a bundle may hold.

use crate::BundleError;

/// Bytes that the code of a Lambda function and its layers may have when unzipped: 250 MB, which is 250 MiB. Whoever
/// makes an artifact for a function compares [`Artifact::bytes`](crate::Artifact::bytes) with it.
///
/// Source: <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>, "Deployment package (.zip file
/// archive) size".
pub const LAMBDA_CODE_BYTES: u64 = 250 * 1024 * 1024;

/// Bounds on a bundle. They hold when one is made and, first of all, when one is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Files and folders in the zip: 50,000 by default.
    pub max_entries: u64,
    /// Bytes of one file, not compressed: 512 MiB by default.
    pub max_entry_bytes: u64,
    /// Bytes of all files, not compressed: 2 GiB by default.
    pub max_total_bytes: u64,
    /// How many times larger all files may be than their compressed bytes: 200 by default. Only looked at above
    /// [`Limits::RATIO_FLOOR_BYTES`], since a small file of zeros is harmless.
    pub max_ratio: u64,
    /// Bytes of one path: 1,024 by default.
    pub max_path_bytes: usize,
}

impl Limits {
    /// Below so many bytes in all (16 MiB) the ratio does not matter.
    pub const RATIO_FLOOR_BYTES: u64 = 16 * 1024 * 1024;

    pub(crate) fn check_count(&self, entries: u64) -> Result<(), BundleError> {
        if entries > self.max_entries {
            return Err(BundleError::TooManyEntries { limit: self.max_entries });
        }
        Ok(())
    }

    pub(crate) fn check_size(&self, path: &str, size: u64) -> Result<(), BundleError> {
        if size > self.max_entry_bytes {
            return Err(BundleError::EntryTooLarge { path: path.to_owned(), size, limit: self.max_entry_bytes });
        }
        Ok(())
    }

    pub(crate) fn check_total(&self, total: u64) -> Result<(), BundleError> {
        if total > self.max_total_bytes {
            return Err(BundleError::TooLarge { limit: self.max_total_bytes });
        }
        Ok(())
    }

    pub(crate) fn check_ratio(&self, size: u64, compressed: u64) -> Result<(), BundleError> {
        if size > Self::RATIO_FLOOR_BYTES && size > compressed.saturating_mul(self.max_ratio) {
            return Err(BundleError::RatioTooHigh { size, compressed, limit: self.max_ratio });
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_entries: 50_000,
            max_entry_bytes: 512 * 1024 * 1024,
            max_total_bytes: 2 * 1024 * 1024 * 1024,
            max_ratio: 200,
            max_path_bytes: 1024,
        }
    }
}
