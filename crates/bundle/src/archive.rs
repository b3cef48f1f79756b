//! Reads a bundle that somebody uploaded: nothing in it is believed before it is checked.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};

use crc32fast::Hasher;
use flate2::{Decompress, FlushDecompress, Status};
use sha2::{Digest, Sha256};

use crate::format::{
    self, CENTRAL, CENTRAL_BYTES, DEFLATED, END, END_BYTES, END64, END64_BYTES, FLAG_DESCRIPTOR, FLAG_ENCRYPTED,
    Fields, LOCAL, LOCAL_BYTES, LOCATOR64, LOCATOR64_BYTES, STORED, UNIX,
};
use crate::listing::Found;
use crate::writer::{Header, Writer, zip_size};
use crate::{Artifact, BundleError, Content, Entry, Limits, Listing, TEMPLATE, normalise, path};

/// Bytes read at a time.
const BUFFER: usize = 128 * 1024;

/// A bundle's zip, opened for reading. Its directory is in memory, some 100 bytes and its path for each entry, its
/// content is not. The [`Listing`] of [`Archive::verify`] takes as much again.
#[derive(Debug)]
pub struct Archive<R> {
    source: Source<R>,
    /// Sorted by path.
    items: Vec<Item>,
    inflater: Inflater,
}

/// A file of the directory.
#[derive(Debug, Clone)]
struct Item {
    path: String,
    executable: bool,
    method: u16,
    crc: u32,
    compressed: u64,
    size: u64,
    /// Where its local header is.
    offset: u64,
    /// Where the next entry or the directory begins.
    limit: u64,
}

/// Where the directory is.
struct Directory {
    entries: u64,
    offset: u64,
    size: u64,
}

impl<R: Read + Seek> Archive<R> {
    /// Opens a zip and checks its whole directory: names, kinds, compression, sizes, and that no two entries share
    /// bytes. No content is read.
    ///
    /// Read from a source that cannot change (one version of an object): content is checked by [`Archive::verify`]
    /// and copied later.
    ///
    /// # Errors
    /// [`BundleError::NotAZip`] also for one that is cut off, has something before or behind it, or is split;
    /// [`BundleError::Encrypted`], [`BundleError::UnknownCompression`], [`BundleError::UnsafePath`],
    /// [`BundleError::NameNotUtf8`], [`BundleError::Duplicate`], [`BundleError::LinkEntry`],
    /// [`BundleError::SpecialFile`], [`BundleError::Corrupt`], and one for each limit.
    pub fn open(reader: R, limits: &Limits) -> Result<Self, BundleError> {
        let mut source = Source { inner: BufReader::with_capacity(BUFFER, reader), at: 0 };
        let length = source.inner.seek(SeekFrom::End(0)).map_err(BundleError::io("reading the bundle"))?;
        source.at = length;
        let directory = find_directory(&mut source, length)?;
        limits.check_count(directory.entries)?;
        let items = read_directory(&mut source, &directory, limits)?;
        Ok(Self { source, items, inflater: Inflater::new() })
    }

    /// Inflates every file once, in the order of the zip, and checks its size and checksum. The listing's digest is the
    /// bundle's address.
    ///
    /// # Errors
    /// [`BundleError::Corrupt`] for content that is not what the directory says, [`BundleError::Io`].
    pub fn verify(&mut self) -> Result<Listing, BundleError> {
        let mut order: Vec<&Item> = self.items.iter().collect();
        order.sort_unstable_by_key(|item| item.offset);
        let mut entries = Vec::with_capacity(order.len());
        for item in order {
            let mut hash = Sha256::new();
            self.inflater.inflate(&mut self.source, item, |bytes| {
                hash.update(bytes);
                Ok(())
            })?;
            entries.push(Entry {
                path: item.path.clone(),
                executable: item.executable,
                size: item.size,
                sha256: hash.finalize().into(),
            });
        }
        Ok(Listing::new(entries))
    }

    /// The content of one file.
    ///
    /// # Errors
    /// [`BundleError::ReferenceMissing`], for [`TEMPLATE`] [`BundleError::TemplateMissing`];
    /// [`BundleError::EntryTooLarge`] above `max_bytes`, [`BundleError::Corrupt`], [`BundleError::Io`].
    pub fn read_file(&mut self, path: &str, max_bytes: u64) -> Result<Vec<u8>, BundleError> {
        let mut content = Vec::new();
        let reference = normalise(path)?;
        let item = match Found::new(&self.items, &reference, |item| &item.path) {
            Some(found) if found.file => self.items.get(found.range.start),
            Some(_) | None => None,
        };
        let Some(item) = item else {
            return Err(if reference == TEMPLATE { BundleError::TemplateMissing } else { missing(path) });
        };
        if item.size > max_bytes {
            return Err(BundleError::EntryTooLarge { path: reference, size: item.size, limit: max_bytes });
        }
        self.inflater.inflate(&mut self.source, item, |bytes| {
            content.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(content)
    }

    /// Writes an artifact of this archive's [`Listing`], in one pass and without memory that grows with it. A zip is
    /// made by copying compressed bytes, sorted, with fixed times and modes: this costs hardly any processor time. A
    /// file as it is is inflated. Gives the bytes written, which are [`Archive::artifact_size`].
    ///
    /// Only call it after [`Archive::verify`]. What was written counts only when this ends well.
    ///
    /// # Errors
    /// [`BundleError::ReferenceMissing`] for an artifact of another listing, [`BundleError::Corrupt`],
    /// [`BundleError::Io`].
    pub fn write_artifact<W: Write>(&mut self, artifact: &Artifact, mut out: W) -> Result<u64, BundleError> {
        let what = || BundleError::io(format!("writing the artifact of `{}`", artifact.path));
        let items = Self::items_of(&self.items, artifact);
        if items.len() as u64 != artifact.files {
            return Err(missing(&artifact.path));
        }
        if let (Content::File, [item]) = (artifact.content, items) {
            self.inflater.inflate(&mut self.source, item, |bytes| out.write_all(bytes))?;
            out.flush().map_err(what())?;
            return Ok(item.size);
        }
        let mut writer = Writer::new(out);
        for item in items {
            let Some(header) = item.header(&artifact.path) else { continue };
            self.source.enter(item)?;
            writer.entry(header, &mut self.source).map_err(|error| what()(error))?;
        }
        let (bytes, _) = writer.finish().map_err(what())?;
        Ok(bytes)
    }

    /// How many bytes [`Archive::write_artifact`] will write.
    #[must_use]
    pub fn artifact_size(&self, artifact: &Artifact) -> u64 {
        let items = Self::items_of(&self.items, artifact);
        match artifact.content {
            Content::File => items.iter().map(|item| item.size).sum(),
            Content::Zip => zip_size(items.iter().filter_map(|item| item.header(&artifact.path))),
        }
    }

    fn items_of<'i>(items: &'i [Item], artifact: &Artifact) -> &'i [Item] {
        let found = Found::new(items, &artifact.path, |item| &item.path);
        found.and_then(|found| items.get(found.range)).unwrap_or_default()
    }
}

impl Item {
    /// How it is written into the artifact of `reference`.
    fn header<'i>(&'i self, reference: &str) -> Option<Header<'i>> {
        Some(Header {
            name: path::within(&self.path, reference)?,
            executable: self.executable,
            deflated: self.method == DEFLATED,
            crc: self.crc,
            compressed: self.compressed,
            size: self.size,
        })
    }
}

fn missing(path: &str) -> BundleError {
    BundleError::ReferenceMissing { path: path.to_owned() }
}

/// A buffered reader that knows where it is, so that short jumps stay within the buffer.
#[derive(Debug)]
struct Source<R> {
    inner: BufReader<R>,
    at: u64,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl<R: Read> BufRead for Source<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.inner.consume(amount);
        self.at += amount as u64;
    }
}

impl<R: Read> Source<R> {
    /// What is buffered; where that is nothing, what can be read next. Empty only at the end.
    fn fill(&mut self) -> io::Result<&[u8]> {
        while let Err(error) = self.inner.fill_buf() {
            if error.kind() != ErrorKind::Interrupted {
                return Err(error);
            }
        }
        self.inner.fill_buf()
    }
}

impl<R: Read + Seek> Source<R> {
    /// Goes to a place: forward by reading where it is near, since jumps can be dear.
    fn go(&mut self, to: u64) -> Result<(), BundleError> {
        let reading = || BundleError::io("reading the bundle");
        let ahead = to.checked_sub(self.at).filter(|&bytes| bytes <= BUFFER as u64);
        if let Some(mut left) = ahead {
            while left > 0 {
                let count = clamp(left, self.fill().map_err(reading())?.len());
                if count == 0 {
                    return Err(BundleError::not_a_zip("it ends early"));
                }
                self.consume(count);
                left -= count as u64;
            }
        } else {
            self.inner.seek(SeekFrom::Start(to)).map_err(reading())?;
            self.at = to;
        }
        Ok(())
    }

    fn record<const N: usize>(&mut self, at: u64) -> Result<[u8; N], BundleError> {
        self.go(at)?;
        let mut bytes = [0; N];
        self.read_exact(&mut bytes).map_err(short)?;
        Ok(bytes)
    }

    /// Goes to where an item's data begins, past a local header that agrees with the directory.
    fn enter(&mut self, item: &Item) -> Result<(), BundleError> {
        let record = self.record::<30>(item.offset)?;
        let mut fields = Fields(&record);
        if fields.u32() != LOCAL {
            return Err(BundleError::corrupt(&item.path, "its header is not where the directory says"));
        }
        let (_version, flags, method) = (fields.u16(), fields.u16(), fields.u16());
        let (_time, _date) = (fields.u16(), fields.u16());
        let (crc, compressed, size) = (fields.u32(), fields.u32(), fields.u32());
        let (name_bytes, extra_bytes) = (fields.u16(), fields.u16());
        if flags & FLAG_ENCRYPTED != 0 {
            return Err(BundleError::Encrypted { path: item.path.clone() });
        }
        let agrees = |local: u32, directory: u64| local == u32::MAX || u64::from(local) == directory;
        let sizes = flags & FLAG_DESCRIPTOR != 0
            || (crc == item.crc && agrees(compressed, item.compressed) && agrees(size, item.size));
        let mut name = vec![0; usize::from(name_bytes)];
        self.read_exact(&mut name).map_err(short)?;
        if name != item.path.as_bytes() || method != item.method || !sizes {
            return Err(BundleError::corrupt(&item.path, "its header and the directory do not agree"));
        }
        let data = item.offset + LOCAL_BYTES + u64::from(name_bytes) + u64::from(extra_bytes);
        if data.saturating_add(item.compressed) > item.limit {
            return Err(BundleError::corrupt(&item.path, "its data runs into the next entry"));
        }
        self.go(data)
    }
}

/// Inflates one file after another, with one state and one buffer for all.
struct Inflater {
    state: Decompress,
    buffer: Vec<u8>,
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

impl Inflater {
    fn new() -> Self {
        Self { state: Decompress::new(false), buffer: vec![0; BUFFER] }
    }

    /// Gives a file's content to `sink` piece by piece, and checks that it is what the directory says.
    fn inflate<R: Read + Seek>(
        &mut self,
        source: &mut Source<R>,
        item: &Item,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), BundleError> {
        source.enter(item)?;
        self.state.reset(false);
        let mut crc = Hasher::new();
        let (mut left, mut size) = (item.compressed, 0_u64);
        let mut ended = item.method == STORED && left == 0;
        while !ended {
            let input = source.fill().map_err(|error| damaged(&item.path, error))?;
            let input = input.get(..clamp(left, input.len())).unwrap_or(input);
            let (used, bytes);
            if item.method == STORED {
                (used, bytes) = (input.len(), input);
                ended = left == used as u64;
            } else {
                let (before_in, before_out) = (self.state.total_in(), self.state.total_out());
                let status = self.state.decompress(input, &mut self.buffer, FlushDecompress::None);
                let status = status
                    .map_err(|error| BundleError::corrupt(&item.path, format!("it does not inflate ({error})")))?;
                ended = matches!(status, Status::StreamEnd);
                used = clamp(self.state.total_in() - before_in, input.len());
                let made = clamp(self.state.total_out() - before_out, self.buffer.len());
                bytes = self.buffer.get(..made).unwrap_or_default();
            }
            if used == 0 && bytes.is_empty() && !ended {
                return Err(BundleError::corrupt(&item.path, "its compressed data ends early"));
            }
            size += bytes.len() as u64;
            if size > item.size {
                return Err(BundleError::corrupt(&item.path, "it inflates to more than it says"));
            }
            crc.update(bytes);
            sink(bytes).map_err(BundleError::io(format!("writing `{}`", item.path)))?;
            source.consume(used);
            left -= used as u64;
        }
        if left != 0 {
            return Err(BundleError::corrupt(&item.path, "something stands behind its compressed data"));
        }
        if size != item.size || crc.finalize() != item.crc {
            return Err(BundleError::corrupt(&item.path, "its size or checksum is not what the directory says"));
        }
        Ok(())
    }
}

/// A number of bytes that is at most `most`.
fn clamp(bytes: u64, most: usize) -> usize {
    usize::try_from(bytes).unwrap_or(most).min(most)
}

/// What a failed read of a record means.
fn short(error: io::Error) -> BundleError {
    if error.kind() == ErrorKind::UnexpectedEof {
        BundleError::not_a_zip("it ends early")
    } else {
        BundleError::io("reading the bundle")(error)
    }
}

/// What a failed read of content means: bad data, or a source that cannot be read.
fn damaged(path: &str, error: io::Error) -> BundleError {
    if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof) {
        BundleError::corrupt(path, format!("it does not inflate ({error})"))
    } else {
        BundleError::io(format!("reading the bundle's entry `{path}`"))(error)
    }
}

/// Finds the directory through the record at the very end. There is no search: an archive comment, or anything else
/// behind the record, would leave open which record counts.
fn find_directory<R: Read + Seek>(source: &mut Source<R>, length: u64) -> Result<Directory, BundleError> {
    // The records that may stand at the end, read at once: zip64's, its locator, and the last.
    let tail_bytes = length.min(END64_BYTES + LOCATOR64_BYTES + END_BYTES);
    source.go(length - tail_bytes)?;
    let mut tail = Vec::new();
    source.take(tail_bytes).read_to_end(&mut tail).map_err(short)?;
    let Some((before, end)) = tail.split_last_chunk::<22>() else {
        return Err(BundleError::not_a_zip(format!("it has {length} bytes only")));
    };
    let mut fields = Fields(end);
    if fields.u32() != END {
        let begins = Fields(&source.record::<4>(0)?).u32() == LOCAL;
        return Err(BundleError::not_a_zip(if begins {
            "it begins like one but does not end like one (cut off, or with a comment)"
        } else {
            "it does not look like one"
        }));
    }
    let (disk, first_disk, here, entries) = (fields.u16(), fields.u16(), fields.u16(), fields.u16());
    let (size, offset, comment) = (fields.u32(), fields.u32(), fields.u16());
    if disk != 0 || first_disk != 0 || here != entries || comment != 0 {
        return Err(BundleError::not_a_zip("it is split, or its end record is damaged"));
    }
    let short = Directory { entries: entries.into(), offset: offset.into(), size: size.into() };
    let (directory, begins) =
        wide_directory(before, length - END_BYTES, &short)?.unwrap_or((short, length - END_BYTES));
    if directory.offset.checked_add(directory.size) != Some(begins) {
        return Err(BundleError::not_a_zip("its directory is not where it says (cut off, or joined to something)"));
    }
    if directory.entries.saturating_mul(CENTRAL_BYTES as u64) > directory.size {
        return Err(BundleError::not_a_zip("its directory has less entries than it says"));
    }
    Ok(directory)
}

/// The zip64 record and where it begins, if there is one. `before` is what stands before the short record, which begins
/// at `end`. The two have to agree: some programs believe the one, some the other.
fn wide_directory(before: &[u8], end: u64, short: &Directory) -> Result<Option<(Directory, u64)>, BundleError> {
    let Some((before, locator)) = before.split_last_chunk::<20>() else { return Ok(None) };
    let mut fields = Fields(locator);
    if fields.u32() != LOCATOR64 {
        return Ok(None);
    }
    let (disk, at, disks) = (fields.u32(), fields.u64(), fields.u32());
    let damaged = || BundleError::not_a_zip("its zip64 end record is damaged");
    let Some(record) = before.last_chunk::<56>() else { return Err(damaged()) };
    if disk != 0 || disks > 1 || at.checked_add(END64_BYTES + LOCATOR64_BYTES) != Some(end) {
        return Err(damaged());
    }
    let mut fields = Fields(record);
    let (signature, bytes, _versions) = (fields.u32(), fields.u64(), fields.u32());
    let (disk, first_disk, here, entries) = (fields.u32(), fields.u32(), fields.u64(), fields.u64());
    let (size, offset) = (fields.u64(), fields.u64());
    let agree = (short.entries == entries || short.entries == u64::from(u16::MAX))
        && (short.size == size || short.size == u64::from(u32::MAX))
        && (short.offset == offset || short.offset == u64::from(u32::MAX));
    if signature != END64 || bytes != END64_BYTES - 12 || disk != 0 || first_disk != 0 || here != entries || !agree {
        return Err(damaged());
    }
    Ok(Some((Directory { entries, offset, size }, at)))
}

/// Reads and checks the directory. The files come back sorted by path.
fn read_directory<R: Read + Seek>(
    source: &mut Source<R>,
    directory: &Directory,
    limits: &Limits,
) -> Result<Vec<Item>, BundleError> {
    source.go(directory.offset)?;
    let mut bytes = source.take(directory.size);
    let mut items = Vec::new();
    let mut folders = Vec::new();
    let (mut total, mut compressed) = (0_u64, 0_u64);
    for _ in 0..directory.entries {
        let item = match read_item(&mut bytes, limits)? {
            (item, true) => {
                folders.push(item.path);
                continue;
            }
            (item, false) => item,
        };
        limits.check_size(&item.path, item.size)?;
        total = total.saturating_add(item.size);
        compressed = compressed.saturating_add(item.compressed);
        limits.check_total(total)?;
        items.push(item);
    }
    if bytes.limit() != 0 {
        return Err(BundleError::not_a_zip("its directory has more entries than it says"));
    }
    limits.check_ratio(total, compressed)?;
    check_overlap(&mut items, directory.offset)?;
    items.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    check_names(&items, &folders)?;
    Ok(items)
}

/// One entry of the directory, and whether it is a folder.
fn read_item(source: &mut impl Read, limits: &Limits) -> Result<(Item, bool), BundleError> {
    let mut record = [0; CENTRAL_BYTES];
    source.read_exact(&mut record).map_err(short)?;
    let mut fields = Fields(&record);
    if fields.u32() != CENTRAL {
        return Err(BundleError::not_a_zip("its directory is damaged"));
    }
    let (made_by, _needed, flags, method) = (fields.u16(), fields.u16(), fields.u16(), fields.u16());
    let (_time, _date) = (fields.u16(), fields.u16());
    let (crc, compressed, size) = (fields.u32(), fields.u32(), fields.u32());
    let (name_bytes, extra_bytes, comment_bytes) = (fields.u16(), fields.u16(), fields.u16());
    let (disk, _internal) = (fields.u16(), fields.u16());
    let (external, offset) = (fields.u32(), fields.u32());

    let mut name = vec![0; usize::from(name_bytes)];
    let mut extra = vec![0; usize::from(extra_bytes)];
    source.read_exact(&mut name).map_err(short)?;
    source.read_exact(&mut extra).map_err(short)?;
    let comment = io::copy(&mut source.take(comment_bytes.into()), &mut io::sink()).map_err(short)?;
    if comment != u64::from(comment_bytes) {
        return Err(BundleError::not_a_zip("its directory ends early"));
    }

    let name = String::from_utf8(name)
        .map_err(|error| BundleError::NameNotUtf8 { path: String::from_utf8_lossy(error.as_bytes()).into_owned() })?;
    let (path, folder) = match name.strip_suffix('/') {
        Some(folder) => (folder.to_owned(), true),
        None => (name, false),
    };
    path::check_entry(&path, limits)?;
    if flags & FLAG_ENCRYPTED != 0 {
        return Err(BundleError::Encrypted { path });
    }
    if method != STORED && method != DEFLATED {
        return Err(BundleError::UnknownCompression { path, method });
    }
    let [_version, system] = made_by.to_le_bytes();
    let mode = if system == UNIX { external >> 16 } else { 0 };
    match (mode & format::MODE_KIND, folder) {
        (0, _) | (format::MODE_FILE, false) | (format::MODE_FOLDER, true) => {}
        (format::MODE_LINK, _) => return Err(BundleError::LinkEntry { path }),
        _ => return Err(BundleError::SpecialFile { path }),
    }
    let mut item = Item {
        path,
        executable: mode & 0o100 != 0,
        method,
        crc,
        compressed: compressed.into(),
        size: size.into(),
        offset: offset.into(),
        limit: 0,
    };
    widen(&mut item, &extra)?;
    if disk != 0 || (method == STORED && item.size != item.compressed) || (folder && item.size != 0) {
        return Err(BundleError::corrupt(&item.path, "its sizes contradict each other"));
    }
    Ok((item, folder))
}

/// Takes the numbers that do not fit 32 bits from the zip64 field.
fn widen(item: &mut Item, extra: &[u8]) -> Result<(), BundleError> {
    let wide = u64::from(u32::MAX);
    if item.size != wide && item.compressed != wide && item.offset != wide {
        return Ok(());
    }
    let mut rest = extra;
    while let Some((head, after)) = rest.split_first_chunk::<4>() {
        let mut fields = Fields(head);
        let (id, length) = (fields.u16(), usize::from(fields.u16()));
        let Some((body, next)) = after.split_at_checked(length) else { break };
        rest = next;
        if id != format::EXTRA_ZIP64 {
            continue;
        }
        let numbers = [&mut item.size, &mut item.compressed, &mut item.offset];
        let needed: Vec<&mut u64> = numbers.into_iter().filter(|number| **number == wide).collect();
        if body.len() < needed.len() * 8 {
            break;
        }
        let mut fields = Fields(body);
        for number in needed {
            *number = fields.u64();
        }
        return Ok(());
    }
    Err(BundleError::corrupt(&item.path, "its zip64 sizes are missing"))
}

/// No two entries may share bytes: that is how a small zip becomes a huge tree. Sets each item's limit.
fn check_overlap(items: &mut [Item], directory: u64) -> Result<(), BundleError> {
    items.sort_by_key(|item| item.offset);
    let mut limit = directory;
    for item in items.iter_mut().rev() {
        let least = LOCAL_BYTES + item.path.len() as u64;
        let end = item.offset.checked_add(least).and_then(|start| start.checked_add(item.compressed));
        if end.is_none_or(|end| end > limit) {
            return Err(BundleError::corrupt(&item.path, "it shares bytes with another entry"));
        }
        item.limit = limit;
        limit = item.offset;
    }
    Ok(())
}

/// Every path once, and no file where a folder is needed.
fn check_names(items: &[Item], folders: &[String]) -> Result<(), BundleError> {
    let duplicate = |path: &str| Err(BundleError::Duplicate { path: path.to_owned() });
    let files = items.iter().map(|item| item.path.as_str());
    let mut paths: Vec<&str> = files.clone().chain(folders.iter().map(String::as_str)).collect();
    paths.sort_unstable();
    if let Some(path) = paths.iter().zip(paths.iter().skip(1)).find_map(|(a, b)| (a == b).then_some(a)) {
        return duplicate(path);
    }
    for file in files {
        let inside = format!("{file}/");
        let next = paths.partition_point(|path| *path < inside.as_str());
        if paths.get(next).is_some_and(|path| path.starts_with(&inside)) {
            return duplicate(file);
        }
    }
    Ok(())
}
