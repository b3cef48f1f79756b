//! Paths inside a bundle.

use crate::{BundleError, Limits};

/// A reference's path in the form that entries have: `./src/` becomes `src`, `.` becomes the empty text, and `a/../b`
/// becomes `b`.
///
/// # Errors
/// [`BundleError::OutsideRoot`] for a path that is absolute or climbs above its beginning, and
/// [`BundleError::UnsafePath`] for one with a backslash, a control character or a drive.
pub fn normalise(path: &str) -> Result<String, BundleError> {
    if path.starts_with('/') {
        return Err(BundleError::OutsideRoot { path: path.to_owned() });
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or_else(|| BundleError::OutsideRoot { path: path.to_owned() })?;
            }
            part => parts.push(part),
        }
    }
    let normalised = parts.join("/");
    if !normalised.is_empty() {
        check_characters(&normalised)?;
    }
    Ok(normalised)
}

/// Whether a referenced file is an archive already, by its name (`.zip`, `.jar`), so that it goes up as it is also
/// where a folder or file would be zipped.
#[must_use]
pub fn is_ready_archive(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.')
        .is_some_and(|(_, extension)| extension.eq_ignore_ascii_case("zip") || extension.eq_ignore_ascii_case("jar"))
}

/// Requires an entry's name to be relative, normalised and short enough. A folder's slash at the end is taken off
/// before.
pub(crate) fn check_entry(path: &str, limits: &Limits) -> Result<(), BundleError> {
    if path.len() > limits.max_path_bytes {
        let path: String = path.chars().take(80).chain(['…']).collect();
        return Err(BundleError::PathTooLong { path, limit: limits.max_path_bytes });
    }
    let unsafe_path = |reason| Err(BundleError::UnsafePath { path: path.escape_debug().to_string(), reason });
    if path.starts_with('/') {
        return unsafe_path("is absolute: paths in a bundle are relative to its root");
    }
    for part in path.split('/') {
        match part {
            ".." => return unsafe_path("has `..`: paths in a bundle do not climb"),
            "" | "." => return unsafe_path("has an empty part or `.`: paths in a bundle are normalised"),
            _ => {}
        }
    }
    check_characters(path)
}

fn check_characters(path: &str) -> Result<(), BundleError> {
    let reason = if path.contains('\\') {
        "has a backslash, which is a separator to some programs: rename it"
    } else if path.chars().any(char::is_control) {
        "has a control character: rename it"
    } else if path.as_bytes().get(1) == Some(&b':') {
        "is absolute to some programs (it begins with a drive): rename it"
    } else {
        return Ok(());
    };
    Err(BundleError::UnsafePath { path: path.escape_debug().to_string(), reason })
}

/// The last part of a path.
pub(crate) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What an entry is called in the artifact of a reference: `None` if it is not part of it.
pub(crate) fn within<'p>(entry: &'p str, reference: &str) -> Option<&'p str> {
    if reference.is_empty() {
        return Some(entry);
    }
    match entry.strip_prefix(reference)? {
        "" => Some(base_name(entry)),
        rest => rest.strip_prefix('/'),
    }
}
