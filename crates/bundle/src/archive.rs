//! Reads a bundle that somebody uploaded: nothing in it is believed before it is checked.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};

use flate2::Crc;
use flate2::bufread::DeflateDecoder;
use sha2::{Digest, Sha256};

use crate::format::{
    self, CENTRAL, CENTRAL_BYTES, DEFLATED, END, END_BYTES, END64, END64_BYTES, FLAG_DESCRIPTOR, FLAG_ENCRYPTED,
    Fields, LOCAL, LOCAL_BYTES, LOCATOR64, LOCATOR64_BYTES, STORED, UNIX,
};
use crate::writer::{Header, Writer};
use crate::{BundleError, Entry, Limits, TEMPLATE, is_ready_archive, normalise, path};

/// Bytes read at a time.
const BUFFER: usize = 128 * 1024;

/// A bundle's zip, opened for reading. Its directory is in memory (some 150 bytes an entry), its content is not.
#[derive(Debug)]
pub struct Archive<R> {
    source: Source<R>,
    /// Sorted by path.
    items: Vec<Item>,
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
        Ok(Self { source, items })
    }

    /// Inflates every file once, in the order of the zip, and checks its size and checksum. Gives the files sorted by
    /// path: their [`tree_digest`](crate::tree_digest) is the bundle's address.
    ///
    /// # Errors
    /// [`BundleError::Corrupt`] for content that is not what the directory says, [`BundleError::Io`].
    pub fn verify(&mut self) -> Result<Vec<Entry>, BundleError> {
        let mut order: Vec<usize> = (0..self.items.len()).collect();
        order.sort_by_key(|&index| self.items.get(index).map(|item| item.offset));
        let mut entries = Vec::with_capacity(order.len());
        for index in order {
            let Some(item) = self.items.get(index) else { continue };
            let mut hash = Sha256::new();
            inflate(&mut self.source, item, |bytes| {
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
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// The template's bytes.
    ///
    /// # Errors
    /// [`BundleError::TemplateMissing`], [`BundleError::EntryTooLarge`] above `max_bytes`, [`BundleError::Corrupt`],
    /// [`BundleError::Io`].
    pub fn read_template(&mut self, max_bytes: u64) -> Result<Vec<u8>, BundleError> {
        if self.item(TEMPLATE).is_none() {
            return Err(BundleError::TemplateMissing);
        }
        self.read_file(TEMPLATE, max_bytes)
    }

    /// The content of one file.
    ///
    /// # Errors
    /// [`BundleError::ReferenceMissing`], [`BundleError::EntryTooLarge`] above `max_bytes`, [`BundleError::Corrupt`],
    /// [`BundleError::Io`].
    pub fn read_file(&mut self, path: &str, max_bytes: u64) -> Result<Vec<u8>, BundleError> {
        let mut content = Vec::new();
        let item = self.item(&normalise(path)?).ok_or_else(|| missing(path))?.clone();
        if item.size > max_bytes {
            return Err(BundleError::EntryTooLarge { path: item.path, size: item.size, limit: max_bytes });
        }
        inflate(&mut self.source, &item, |bytes| {
            content.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(content)
    }

    /// Writes the content of one file, for a file that goes up as it is. Memory does not grow with the file. What was
    /// written counts only when this ends well: size and checksum are known last.
    ///
    /// # Errors
    /// [`BundleError::ReferenceMissing`], [`BundleError::Corrupt`], [`BundleError::Io`].
    pub fn copy_file<W: Write>(&mut self, path: &str, mut out: W) -> Result<u64, BundleError> {
        let item = self.item(&normalise(path)?).ok_or_else(|| missing(path))?.clone();
        inflate(&mut self.source, &item, |bytes| out.write_all(bytes))?;
        out.flush().map_err(BundleError::io(format!("writing `{path}`")))?;
        Ok(item.size)
    }

    /// Whether a reference is one file, and not a folder.
    ///
    /// # Errors
    /// [`BundleError::ReferenceMissing`], and those of [`normalise`].
    pub fn is_file(&self, path: &str) -> Result<bool, BundleError> {
        let reference = normalise(path)?;
        if self.item(&reference).is_some() {
            return Ok(true);
        }
        let any = self.items.iter().any(|item| path::within(&item.path, &reference).is_some());
        if any { Ok(false) } else { Err(missing(path)) }
    }

    /// Whether a reference's artifact is its file as it is ([`Archive::copy_file`], addressed by
    /// [`file_digest`](crate::file_digest)) and not a zip ([`Archive::write_artifact`], addressed by the
    /// [`tree_digest`](crate::tree_digest) of [`Archive::artifact_entries`]). A file is zipped where `always_zipped`
    /// says so, unless it [is an archive already](is_ready_archive). A folder is always zipped.
    ///
    /// # Errors
    /// Those of [`Archive::is_file`].
    pub fn goes_up_as_it_is(&self, path: &str, always_zipped: bool) -> Result<bool, BundleError> {
        Ok(self.is_file(path)? && (!always_zipped || is_ready_archive(path)))
    }

    /// The files of a reference's artifact, named as in it: those below a folder, or one file by its base name.
    /// `verified` is what [`Archive::verify`] gave.
    ///
    /// # Errors
    /// [`BundleError::ReferenceMissing`] when there is none, and those of [`normalise`].
    pub fn artifact_entries(&self, verified: &[Entry], path: &str) -> Result<Vec<Entry>, BundleError> {
        let reference = normalise(path)?;
        let mut entries: Vec<Entry> = verified
            .iter()
            .filter_map(|entry| {
                let name = path::within(&entry.path, &reference)?;
                Some(Entry { path: name.to_owned(), ..entry.clone() })
            })
            .collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        if entries.is_empty() { Err(missing(path)) } else { Ok(entries) }
    }

    /// Writes a reference's artifact: a zip of [`Archive::artifact_entries`], sorted, with fixed times and modes. The
    /// compressed bytes are copied as they are, so that this costs no processor time; only call it after
    /// [`Archive::verify`]. Gives the zip's size in bytes.
    ///
    /// # Errors
    /// [`BundleError::ReferenceMissing`], [`BundleError::Corrupt`], [`BundleError::Io`].
    pub fn write_artifact<W: Write>(&mut self, path: &str, out: W) -> Result<u64, BundleError> {
        let reference = normalise(path)?;
        let mut writer = Writer::new(out);
        let mut any = false;
        for item in &self.items {
            let Some(name) = path::within(&item.path, &reference) else { continue };
            any = true;
            self.source.enter(item)?;
            let header = Header {
                name,
                executable: item.executable,
                deflated: item.method == DEFLATED,
                crc: item.crc,
                compressed: item.compressed,
                size: item.size,
            };
            let what = || format!("writing the artifact of `{path}`");
            writer.entry(header, &mut self.source).map_err(|error| BundleError::io(what())(error))?;
        }
        if !any {
            return Err(missing(path));
        }
        writer.finish().map_err(BundleError::io(format!("writing the artifact of `{path}`")))
    }

    fn item(&self, path: &str) -> Option<&Item> {
        let index = self.items.binary_search_by(|item| item.path.as_str().cmp(path)).ok()?;
        self.items.get(index)
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

impl<R: Read + Seek> Source<R> {
    fn go(&mut self, to: u64) -> Result<(), BundleError> {
        let delta = i64::try_from(i128::from(to) - i128::from(self.at));
        let moved = match delta {
            Ok(delta) => self.inner.seek_relative(delta),
            Err(_) => self.inner.seek(SeekFrom::Start(to)).map(|_| ()),
        };
        moved.map_err(BundleError::io("reading the bundle"))?;
        self.at = to;
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

/// Gives a file's content to `sink` piece by piece, and checks that it is what the directory says.
fn inflate<R: Read + Seek>(
    source: &mut Source<R>,
    item: &Item,
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), BundleError> {
    source.enter(item)?;
    let mut crc = Crc::new();
    let mut size = 0_u64;
    let mut drain = |reader: &mut dyn Read| -> Result<(), BundleError> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(damaged(&item.path, error)),
            };
            let bytes = buffer.get(..read).unwrap_or_default();
            size += read as u64;
            if size > item.size {
                return Err(BundleError::corrupt(&item.path, "it inflates to more than it says"));
            }
            crc.update(bytes);
            sink(bytes).map_err(BundleError::io(format!("writing `{}`", item.path)))?;
        }
    };
    let mut data = source.take(item.compressed);
    let left = if item.method == DEFLATED {
        let mut decoder = DeflateDecoder::new(&mut data);
        drain(&mut decoder)?;
        data.limit()
    } else {
        drain(&mut data)?;
        data.limit()
    };
    if left != 0 {
        return Err(BundleError::corrupt(&item.path, "something stands behind its compressed data, or it ends early"));
    }
    if size != item.size || crc.sum() != item.crc {
        return Err(BundleError::corrupt(&item.path, "its size or checksum is not what the directory says"));
    }
    Ok(())
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
    let Some(end) = length.checked_sub(END_BYTES) else {
        return Err(BundleError::not_a_zip(format!("it has {length} bytes only")));
    };
    let record = source.record::<22>(end)?;
    let mut fields = Fields(&record);
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
    let wide = here == u16::MAX || entries == u16::MAX || size == u32::MAX || offset == u32::MAX;
    let (directory, begins) = match wide_directory(source, end, wide)? {
        Some(found) => found,
        None if disk != 0 || first_disk != 0 || here != entries || comment != 0 => {
            return Err(BundleError::not_a_zip("it is split, or its end record is damaged"));
        }
        None => (Directory { entries: entries.into(), offset: offset.into(), size: size.into() }, end),
    };
    if directory.offset.checked_add(directory.size) != Some(begins) {
        return Err(BundleError::not_a_zip("its directory is not where it says (cut off, or joined to something)"));
    }
    if directory.entries.saturating_mul(CENTRAL_BYTES as u64) > directory.size {
        return Err(BundleError::not_a_zip("its directory has less entries than it says"));
    }
    Ok(directory)
}

/// The zip64 record and where it begins, if there is one and the short record leaves something to it.
fn wide_directory<R: Read + Seek>(
    source: &mut Source<R>,
    end: u64,
    wide: bool,
) -> Result<Option<(Directory, u64)>, BundleError> {
    let Some(locator) = end.checked_sub(LOCATOR64_BYTES).filter(|_| wide) else { return Ok(None) };
    let record = source.record::<20>(locator)?;
    let mut fields = Fields(&record);
    if fields.u32() != LOCATOR64 {
        return Ok(None);
    }
    let (disk, at, disks) = (fields.u32(), fields.u64(), fields.u32());
    let damaged = || BundleError::not_a_zip("its zip64 end record is damaged");
    if disk != 0 || disks > 1 || at.checked_add(END64_BYTES) != Some(locator) {
        return Err(damaged());
    }
    let record = source.record::<56>(at)?;
    let mut fields = Fields(&record);
    let (signature, bytes, _versions) = (fields.u32(), fields.u64(), fields.u32());
    let (disk, first_disk, here, entries) = (fields.u32(), fields.u32(), fields.u64(), fields.u64());
    let (size, offset) = (fields.u64(), fields.u64());
    if signature != END64 || bytes != END64_BYTES - 12 || disk != 0 || first_disk != 0 || here != entries {
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
    items.sort_by(|a, b| a.path.cmp(&b.path));
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

/// Every path once, and no file where a folder is needed. `items` are sorted by path.
fn check_names(items: &[Item], folders: &[String]) -> Result<(), BundleError> {
    let duplicate = |path: &str| Err(BundleError::Duplicate { path: path.to_owned() });
    let mut files = HashSet::with_capacity(items.len());
    for item in items {
        if !files.insert(item.path.as_str()) {
            return duplicate(&item.path);
        }
    }
    let mut seen = HashSet::with_capacity(folders.len());
    for folder in folders {
        if !seen.insert(folder.as_str()) || files.contains(folder.as_str()) {
            return duplicate(folder);
        }
    }
    for path in items.iter().map(|item| item.path.as_str()).chain(folders.iter().map(String::as_str)) {
        let mut parent = path;
        while let Some((above, _)) = parent.rsplit_once('/') {
            if files.contains(above) {
                return duplicate(above);
            }
            parent = above;
        }
    }
    Ok(())
}
