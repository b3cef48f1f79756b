//! The zip format's records (APPNOTE 6.3, section 4.3): signatures, sizes, flags.

pub(crate) const LOCAL: u32 = 0x0403_4b50;
pub(crate) const CENTRAL: u32 = 0x0201_4b50;
#[cfg(feature = "pack")]
pub(crate) const DESCRIPTOR: u32 = 0x0807_4b50;
pub(crate) const END: u32 = 0x0605_4b50;
pub(crate) const END64: u32 = 0x0606_4b50;
pub(crate) const LOCATOR64: u32 = 0x0706_4b50;

pub(crate) const LOCAL_BYTES: u64 = 30;
pub(crate) const CENTRAL_BYTES: usize = 46;
pub(crate) const END_BYTES: u64 = 22;
pub(crate) const END64_BYTES: u64 = 56;
pub(crate) const LOCATOR64_BYTES: u64 = 20;

/// Extra field with the sizes and the offset that do not fit 32 bits.
pub(crate) const EXTRA_ZIP64: u16 = 0x0001;

pub(crate) const STORED: u16 = 0;
pub(crate) const DEFLATED: u16 = 8;

/// Bit 0: encrypted. Bit 6: strongly encrypted. Bit 13: the directory is.
pub(crate) const FLAG_ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
/// Bit 3: sizes and checksum follow the data.
pub(crate) const FLAG_DESCRIPTOR: u16 = 1 << 3;
/// Bit 11: the name is UTF-8.
pub(crate) const FLAG_UTF8: u16 = 1 << 11;

/// 1980-01-01, the format's first day, at midnight.
pub(crate) const FIXED_DATE: u16 = 1 << 5 | 1;
pub(crate) const FIXED_TIME: u16 = 0;

/// "Made by" Unix, so that modes count.
pub(crate) const UNIX: u8 = 3;

pub(crate) const MODE_KIND: u32 = 0o170_000;
pub(crate) const MODE_FILE: u32 = 0o100_000;
pub(crate) const MODE_FOLDER: u32 = 0o040_000;
pub(crate) const MODE_LINK: u32 = 0o120_000;

/// Reads little-endian numbers from a record. Past its end, everything is zero: callers know a record's size.
pub(crate) struct Fields<'b>(pub(crate) &'b [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((bytes, rest)) => {
                self.0 = rest;
                *bytes
            }
            None => [0; N],
        }
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}
