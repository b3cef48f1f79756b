//! Reads the files of a tree, and writes them as a bundle or as artifacts.

use std::fs::{File, Metadata};
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crc32fast::Hasher;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::deflated::{Deflated, Part, read_some};
use crate::listing::Found;
use crate::walk::{FoundFile, reading_again};
use crate::writer::{Header, Writer};
use crate::{Artifact, BundleError, Content, Entry, Limits, Listing, TEMPLATE, path};

/// Bytes read at a time: they stay in a core's own cache.
const BUFFER: usize = 128 * 1024;

/// The files of an application, as they were when they were read: what they are called, and what they hold. Their
/// content is not in memory; it is read again when it is written.
#[derive(Debug)]
pub struct Tree {
    listing: Listing,
    /// In the order of the listing.
    origins: Vec<Origin>,
    limits: Limits,
}

/// Where a file's content is.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) place: Place,
    /// CRC-32 of the content: the zip format's checksum, which also tells whether a file changed meanwhile.
    pub(crate) crc: u32,
}

#[derive(Debug)]
pub(crate) enum Place {
    File(PathBuf),
    Memory(Arc<[u8]>),
}

impl Tree {
    /// Hashes `files`, which are sorted by path. `whole` says that they include the root's own.
    pub(crate) fn read(
        files: Vec<FoundFile>,
        template: Option<&[u8]>,
        whole: bool,
        limits: &Limits,
    ) -> Result<Self, BundleError> {
        let in_place = Found::new(&files, TEMPLATE, |file| &file.path);
        let added = template.filter(|_| in_place.is_none());
        if (whole && added.is_some()) || in_place.is_some_and(|found| template.is_some() && !found.file) {
            return Err(BundleError::TemplateCollision);
        }
        limits.check_count(files.len() as u64 + u64::from(added.is_some()))?;
        let total = AtomicU64::new(added.map_or(0, |template| template.len() as u64));
        let mut read = files
            .into_par_iter()
            .map_init(|| vec![0; BUFFER], |buffer, file| hash_file(file, buffer, limits, &total))
            .collect::<Result<Vec<_>, _>>()?;

        if let Some(template) = template {
            let sha256 = Sha256::digest(template).into();
            match read.binary_search_by(|(entry, _)| entry.path.as_str().cmp(TEMPLATE)) {
                Ok(at) if read.get(at).is_some_and(|(entry, _)| entry.sha256 != sha256) => {
                    return Err(BundleError::TemplateCollision);
                }
                Ok(_) => {}
                Err(at) => {
                    let (path, size) = (TEMPLATE.to_owned(), template.len() as u64);
                    let entry = Entry { path, executable: false, size, sha256 };
                    let origin = Origin { place: Place::Memory(template.into()), crc: crc32fast::hash(template) };
                    read.insert(at, (entry, origin));
                }
            }
        }
        let (entries, origins) = read.into_iter().unzip();
        Ok(Self { listing: Listing::new(entries), origins, limits: limits.clone() })
    }

    /// The tree's files.
    #[must_use]
    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    /// Writes the bundle: a zip of all files, sorted, with fixed times and modes, the same bytes on every run. Files
    /// are deflated on all cores; memory stays below some 256 MiB whatever is in the tree. `out` gets many small
    /// writes. Gives the zip's size in bytes.
    ///
    /// # Errors
    /// [`BundleError::Changed`] when a file is not what it was, [`BundleError::RatioTooHigh`], [`BundleError::Io`].
    pub fn write_zip<W: Write + Send>(&self, out: W) -> Result<u64, BundleError> {
        let parts: Vec<Part<'_>> = self.parts(0..self.origins.len()).collect();
        let mut writer = Writer::new(out);
        let compressed = Deflated::of(&parts, |deflated| {
            let mut compressed = 0;
            for part in &parts {
                compressed += write_entry(&mut writer, part, &part.entry.path, deflated)?;
            }
            Ok(compressed)
        })?;
        self.limits.check_ratio(self.listing.total_bytes(), compressed)?;
        let (bytes, _) = writer.finish().map_err(BundleError::io("writing the bundle"))?;
        Ok(bytes)
    }

    /// Writes artifacts of this tree's [`Listing`] one after another, each sorted, with fixed times and modes, the same
    /// bytes on every run. Files are deflated on all cores, across artifacts; content that occurs more than once is
    /// deflated once as far as its compressed bytes fit in memory, which stays below some 256 MiB in all. `open` gives
    /// the writer of each artifact, which gets many small writes, and `close` takes it back when it is whole.
    ///
    /// # Errors
    /// What `open` and `close` say; [`BundleError::ReferenceMissing`] for an artifact of another listing;
    /// [`BundleError::Changed`] when a file is not what it was; [`BundleError::Io`]. What was not closed is not whole.
    pub fn write_artifacts<W: Write + Send>(
        &self,
        artifacts: &[&Artifact],
        mut open: impl FnMut(&Artifact) -> Result<W, BundleError> + Send,
        mut close: impl FnMut(&Artifact, W) -> Result<(), BundleError> + Send,
    ) -> Result<(), BundleError> {
        let mut parts = Vec::new();
        let mut ends = Vec::with_capacity(artifacts.len());
        for artifact in artifacts {
            let found = Found::new(self.listing.entries(), &artifact.path, |entry| &entry.path);
            let range = found.map(|found| found.range).unwrap_or_default();
            if range.len() as u64 != artifact.files {
                return Err(BundleError::ReferenceMissing { path: artifact.path.clone() });
            }
            match artifact.content {
                Content::Zip => parts.extend(self.parts(range)),
                Content::File => parts.extend(self.parts(range).map(|part| Part { as_it_is: true, ..part })),
            }
            ends.push(parts.len());
        }
        Deflated::of(&parts, |deflated| {
            let mut start = 0;
            for (artifact, end) in artifacts.iter().zip(ends) {
                let parts = parts.get(start..end).unwrap_or_default();
                start = end;
                let failed = || BundleError::io(format!("writing the artifact of `{}`", artifact.path));
                let mut out = open(artifact)?;
                if let (Content::File, [part]) = (artifact.content, parts) {
                    write_content(part, deflated, |piece| out.write_all(piece).map_err(failed()))?;
                    out.flush().map_err(failed())?;
                } else {
                    let mut writer = Writer::new(out);
                    for part in parts {
                        let name = path::within(&part.entry.path, &artifact.path).unwrap_or(&part.entry.path);
                        write_entry(&mut writer, part, name, deflated)?;
                    }
                    (_, out) = writer.finish().map_err(failed())?;
                }
                close(artifact, out)?;
            }
            Ok(())
        })
    }

    fn parts(&self, range: Range<usize>) -> impl Iterator<Item = Part<'_>> {
        let all = self.listing.entries().iter().zip(&self.origins);
        all.skip(range.start).take(range.len()).map(|(entry, origin)| Part { entry, origin, as_it_is: false })
    }
}

/// Writes one file of a zip. Gives its compressed bytes.
fn write_entry<W: Write>(
    writer: &mut Writer<W>,
    part: &Part<'_>,
    name: &str,
    deflated: &mut Deflated<'_>,
) -> Result<u64, BundleError> {
    let failed = || BundleError::io(format!("writing `{}`", part.entry.path));
    let mut header = Header {
        name,
        executable: part.entry.executable,
        deflated: true,
        crc: part.origin.crc,
        compressed: 0,
        size: part.entry.size,
    };
    if part.blocks() == 1 {
        let piece = deflated.next()?;
        part.check(piece.crc)?;
        header.deflated = piece.deflated;
        header.compressed = piece.data.len() as u64;
        writer.entry(header, piece.data.as_slice()).map_err(failed())?;
    } else {
        writer.begin(header).map_err(failed())?;
        header.compressed = write_content(part, deflated, |piece| writer.data(piece).map_err(failed()))?;
        writer.end(header).map_err(failed())?;
    }
    Ok(header.compressed)
}

/// Gives a file's pieces to `sink`, one after another. Gives how many bytes they have.
fn write_content(
    part: &Part<'_>,
    deflated: &mut Deflated<'_>,
    mut sink: impl FnMut(&[u8]) -> Result<(), BundleError>,
) -> Result<u64, BundleError> {
    let mut crc = Hasher::new();
    let mut bytes = 0;
    for _ in 0..part.blocks() {
        let piece = deflated.next()?;
        crc.combine(&Hasher::new_with_initial_len(piece.crc, piece.size));
        bytes += piece.data.len() as u64;
        sink(&piece.data)?;
    }
    part.check(crc.finalize())?;
    Ok(bytes)
}

/// Reads a file once.
fn hash_file(
    file: FoundFile,
    buffer: &mut [u8],
    limits: &Limits,
    total: &AtomicU64,
) -> Result<(Entry, Origin), BundleError> {
    let FoundFile { path, real } = file;
    let mut open = File::open(&real).map_err(reading_again(&path))?;
    let metadata = open.metadata().map_err(reading_again(&path))?;
    let size = metadata.len();
    limits.check_size(&path, size)?;
    limits.check_total(total.fetch_add(size, Ordering::Relaxed).saturating_add(size))?;
    let (mut hash, mut crc, mut read) = (Sha256::new(), Hasher::new(), 0);
    loop {
        let count = read_some(&mut open, buffer).map_err(reading_again(&path))?;
        let bytes = buffer.get(..count).unwrap_or_default();
        hash.update(bytes);
        crc.update(bytes);
        read += count as u64;
        // A buffer that is not full is the end of a regular file. And one that grows may never end.
        if count < buffer.len() || read > size {
            break;
        }
    }
    if read != size {
        return Err(BundleError::Changed { path });
    }
    let entry = Entry { path, executable: is_executable(&metadata), size, sha256: hash.finalize().into() };
    Ok((entry, Origin { place: Place::File(real), crc: crc.finalize() }))
}

#[cfg(unix)]
fn is_executable(metadata: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o100 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &Metadata) -> bool {
    false
}
