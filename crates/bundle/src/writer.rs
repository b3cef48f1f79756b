//! Writes a zip front to back. Where sizes and checksums are known before an entry's data they stand in its header,
//! otherwise behind the data; nothing is patched later.

use std::io::{self, BufRead, ErrorKind, Write};

use crate::format::{
    CENTRAL, CENTRAL_BYTES, DEFLATED, END, END64, END64_BYTES, EXTRA_ZIP64, FIXED_DATE, FIXED_TIME, FLAG_DESCRIPTOR,
    FLAG_UTF8, LOCAL, LOCATOR64, MODE_FILE, STORED, UNIX,
};

/// An entry's header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header<'n> {
    pub(crate) name: &'n str,
    pub(crate) executable: bool,
    pub(crate) deflated: bool,
    pub(crate) crc: u32,
    pub(crate) compressed: u64,
    pub(crate) size: u64,
}

/// A zip that is being written.
pub(crate) struct Writer<W> {
    out: W,
    written: u64,
    directory: Vec<u8>,
    entries: u64,
    /// Where the current entry begins.
    began: u64,
}

/// Numbers from here on stand in a zip64 field.
const MAX_U32: u64 = 0xffff_ffff;
const MAX_U16: u64 = 0xffff;
/// Sizes from here on, too: what is deflated block by block may grow a little.
const WIDE_BYTES: u64 = MAX_U32 - (16 << 20);

/// The version of the format that a reader needs, and the one for zip64.
const VERSION: u16 = 20;
const WIDE_VERSION: u16 = 45;

/// 32 bits of a number, or the mark that it stands elsewhere.
fn low32(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn low16(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

impl Header<'_> {
    fn has_wide_sizes(&self) -> bool {
        self.compressed >= WIDE_BYTES || self.size >= WIDE_BYTES
    }

    /// What an entry's own header and the directory have in common, up to the length of the name. `wide` says that the
    /// sizes stand in the zip64 field.
    fn common(&self, version: u16, streamed: bool, wide: bool) -> io::Result<Vec<u8>> {
        let name_bytes = u16::try_from(self.name.len()).map_err(|_| io::Error::other("a name is too long"))?;
        let utf8 = if self.name.is_ascii() { 0 } else { FLAG_UTF8 };
        let flags = utf8 | if streamed { FLAG_DESCRIPTOR } else { 0 };
        let method = if self.deflated { DEFLATED } else { STORED };
        let sizes = if wide { [u32::MAX; 2] } else { [low32(self.compressed), low32(self.size)] };
        let mut bytes = Vec::with_capacity(26);
        for number in [version, flags, method, FIXED_TIME, FIXED_DATE] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.crc.to_le_bytes());
        bytes.extend(sizes.into_iter().flat_map(u32::to_le_bytes));
        bytes.extend(name_bytes.to_le_bytes());
        Ok(bytes)
    }

    /// The zip64 field with the sizes and the offset that do not fit 32 bits. Nothing if all do.
    fn extra(&self, wide: bool, offset: Option<u64>) -> Vec<u8> {
        let sizes = [self.size, self.compressed].into_iter().filter(|_| wide);
        let numbers: Vec<u8> = sizes.chain(offset).flat_map(u64::to_le_bytes).collect();
        let mut extra = Vec::new();
        if !numbers.is_empty() {
            extra.extend(EXTRA_ZIP64.to_le_bytes());
            extra.extend(low16(numbers.len() as u64).to_le_bytes());
            extra.extend(numbers);
        }
        extra
    }
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, written: 0, directory: Vec::new(), entries: 0, began: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Writes an entry's header and its compressed bytes from `data`, which has to hold as many as it says.
    pub(crate) fn entry(&mut self, header: Header<'_>, mut data: impl BufRead) -> io::Result<()> {
        self.head(&header, false)?;
        let mut left = header.compressed;
        while left > 0 {
            let bytes = match data.fill_buf() {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let count = usize::try_from(left).unwrap_or(bytes.len()).min(bytes.len());
            if count == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "an entry's data ends early"));
            }
            self.put(bytes.get(..count).unwrap_or_default())?;
            data.consume(count);
            left -= count as u64;
        }
        self.record(&header, false)
    }

    /// Writes an entry's own header. Of a streamed one, checksum and sizes stand behind the data.
    fn head(&mut self, header: &Header<'_>, streamed: bool) -> io::Result<()> {
        self.began = self.written;
        let wide = header.has_wide_sizes();
        let shown = if streamed { Header { crc: 0, compressed: 0, size: 0, ..*header } } else { *header };
        let extra = shown.extra(wide, None);
        let mut record = Vec::with_capacity(30 + header.name.len() + extra.len());
        record.extend(LOCAL.to_le_bytes());
        record.extend(shown.common(if wide { WIDE_VERSION } else { VERSION }, streamed, wide)?);
        record.extend(low16(extra.len() as u64).to_le_bytes());
        record.extend(header.name.as_bytes());
        record.extend(extra);
        self.put(&record)
    }

    /// Adds the entry that was written to the directory.
    fn record(&mut self, header: &Header<'_>, streamed: bool) -> io::Result<()> {
        let wide = header.has_wide_sizes();
        let offset = Some(self.began).filter(|&offset| offset >= MAX_U32);
        let extra = header.extra(wide, offset);
        let version = if wide || offset.is_some() { WIDE_VERSION } else { VERSION };
        let mode = MODE_FILE | if header.executable { 0o755 } else { 0o644 };
        self.directory.reserve(CENTRAL_BYTES + header.name.len() + extra.len());
        self.directory.extend(CENTRAL.to_le_bytes());
        self.directory.extend([45, UNIX]);
        self.directory.extend(header.common(version, streamed, wide)?);
        self.directory.extend(low16(extra.len() as u64).to_le_bytes());
        // No comment, the first disk, no internal attributes.
        self.directory.extend([0; 6]);
        self.directory.extend((mode << 16).to_le_bytes());
        self.directory.extend(low32(self.began).to_le_bytes());
        self.directory.extend(header.name.as_bytes());
        self.directory.extend(extra);
        self.entries += 1;
        Ok(())
    }

    /// Writes the directory and the end. Tells how many bytes the zip has, and gives back where it was written.
    pub(crate) fn finish(mut self) -> io::Result<(u64, W)> {
        let (start, entries) = (self.written, self.entries);
        let directory = std::mem::take(&mut self.directory);
        self.put(&directory)?;
        let size = directory.len() as u64;
        let mut end = Vec::with_capacity(98);
        if entries >= MAX_U16 || start >= MAX_U32 || size >= MAX_U32 {
            let at = self.written;
            end.extend(END64.to_le_bytes());
            end.extend((END64_BYTES - 12).to_le_bytes());
            end.extend([45, UNIX, 45, 0]);
            end.extend([0; 8]);
            for number in [entries, entries, size, start] {
                end.extend(number.to_le_bytes());
            }
            end.extend(LOCATOR64.to_le_bytes());
            end.extend(0_u32.to_le_bytes());
            end.extend(at.to_le_bytes());
            end.extend(1_u32.to_le_bytes());
        }
        end.extend(END.to_le_bytes());
        end.extend([0; 4]);
        end.extend(low16(entries).to_le_bytes());
        end.extend(low16(entries).to_le_bytes());
        end.extend(low32(size).to_le_bytes());
        end.extend(low32(start).to_le_bytes());
        end.extend([0; 2]);
        self.put(&end)?;
        self.out.flush()?;
        Ok((self.written, self.out))
    }
}

#[cfg(feature = "pack")]
impl<W: Write> Writer<W> {
    /// Begins an entry whose compressed size is not known yet. [`Writer::data`] and [`Writer::end`] follow.
    pub(crate) fn begin(&mut self, header: Header<'_>) -> io::Result<()> {
        self.head(&header, true)
    }

    /// Writes some of the data of the entry that began.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.put(bytes)
    }

    /// Ends the entry that began. `header` is whole now.
    pub(crate) fn end(&mut self, header: Header<'_>) -> io::Result<()> {
        let mut descriptor = Vec::with_capacity(24);
        descriptor.extend(crate::format::DESCRIPTOR.to_le_bytes());
        descriptor.extend(header.crc.to_le_bytes());
        for size in [header.compressed, header.size] {
            // As wide as the header said, which knew one of the two.
            if header.size >= WIDE_BYTES {
                descriptor.extend(size.to_le_bytes());
            } else {
                descriptor.extend(low32(size).to_le_bytes());
            }
        }
        self.put(&descriptor)?;
        self.record(&header, true)
    }
}

/// How many bytes a zip of such entries has.
pub(crate) fn zip_size<'n>(headers: impl Iterator<Item = Header<'n>>) -> u64 {
    let mut writer = Writer::new(io::sink());
    for header in headers {
        // Only a name can be wrong, and those of an archive are not.
        let _ = writer.head(&header, false);
        writer.written += header.compressed;
        let _ = writer.record(&header, false);
    }
    writer.finish().map_or(0, |(bytes, _)| bytes)
}
