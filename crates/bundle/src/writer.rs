//! Writes a zip front to back: sizes and checksums are known before an entry's header, so nothing is patched later.

use std::io::{self, Read, Write};

use crate::format::{
    CENTRAL, CENTRAL_BYTES, DEFLATED, END, END64, END64_BYTES, EXTRA_ZIP64, FIXED_DATE, FIXED_TIME, FLAG_UTF8, LOCAL,
    LOCATOR64, MODE_FILE, STORED, UNIX,
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
}

/// Numbers from here on stand in a zip64 field.
const MAX_U32: u64 = 0xffff_ffff;
const MAX_U16: u64 = 0xffff;

/// 32 bits of a number, or the mark that it stands elsewhere.
fn low32(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn low16(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, written: 0, directory: Vec::new(), entries: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Writes an entry's header and its compressed bytes from `data`, which has to hold exactly as many as it says.
    pub(crate) fn entry(&mut self, header: Header<'_>, data: impl Read) -> io::Result<()> {
        let offset = self.written;
        let name_bytes = u16::try_from(header.name.len()).map_err(|_| io::Error::other("a name is too long"))?;
        let sizes64 = header.compressed >= MAX_U32 || header.size >= MAX_U32;
        let offset64 = offset >= MAX_U32;
        let version: u16 = if sizes64 || offset64 { 45 } else { 20 };
        let flags = if header.name.is_ascii() { 0 } else { FLAG_UTF8 };
        let method = if header.deflated { DEFLATED } else { STORED };
        let (compressed, size) =
            if sizes64 { (u32::MAX, u32::MAX) } else { (low32(header.compressed), low32(header.size)) };

        // What the local header and the directory have in common.
        let mut common = Vec::with_capacity(26);
        for number in [version, flags, method, FIXED_TIME, FIXED_DATE] {
            common.extend(number.to_le_bytes());
        }
        for number in [header.crc, compressed, size] {
            common.extend(number.to_le_bytes());
        }
        common.extend(name_bytes.to_le_bytes());

        let mut sizes = Vec::new();
        if sizes64 {
            sizes.extend(header.size.to_le_bytes());
            sizes.extend(header.compressed.to_le_bytes());
        }
        let local_extra = extra64(&sizes);
        let mut record = Vec::with_capacity(30 + header.name.len() + local_extra.len());
        record.extend(LOCAL.to_le_bytes());
        record.extend(&common);
        record.extend(low16(local_extra.len() as u64).to_le_bytes());
        record.extend(header.name.as_bytes());
        record.extend(local_extra);
        self.put(&record)?;

        let copied = io::copy(&mut data.take(header.compressed), &mut self.out)?;
        self.written += copied;
        if copied != header.compressed {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "an entry's data ends early"));
        }

        if offset64 {
            sizes.extend(offset.to_le_bytes());
        }
        let extra = extra64(&sizes);
        let mode = MODE_FILE | if header.executable { 0o755 } else { 0o644 };
        self.directory.reserve(CENTRAL_BYTES + header.name.len() + extra.len());
        self.directory.extend(CENTRAL.to_le_bytes());
        self.directory.extend([45, UNIX]);
        self.directory.extend(&common);
        self.directory.extend(low16(extra.len() as u64).to_le_bytes());
        // No comment, the first disk, no internal attributes.
        self.directory.extend([0; 6]);
        self.directory.extend((mode << 16).to_le_bytes());
        self.directory.extend(low32(offset).to_le_bytes());
        self.directory.extend(header.name.as_bytes());
        self.directory.extend(extra);
        self.entries += 1;
        Ok(())
    }

    /// Writes the directory and the end, and tells how many bytes the zip has.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
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
        Ok(self.written)
    }
}

/// The zip64 field around its numbers, nothing if there are none.
fn extra64(numbers: &[u8]) -> Vec<u8> {
    let mut extra = Vec::new();
    if !numbers.is_empty() {
        extra.extend(EXTRA_ZIP64.to_le_bytes());
        extra.extend(low16(numbers.len() as u64).to_le_bytes());
        extra.extend(numbers);
    }
    extra
}
