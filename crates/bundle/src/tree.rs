//! Reads the files that a template references, and writes them as a bundle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::writer::{Header, Writer};
use crate::{BundleError, Entry, Limits, TEMPLATE, TreeDigest, normalise, path, tree_digest};

/// Bytes of files that are deflated at a time, while those before are written: it bounds memory.
const BATCH_BYTES: u64 = 64 * 1024 * 1024;
/// zlib's usual level: higher ones cost far more time than they save bytes.
const LEVEL: u32 = 6;
/// Bytes read at a time.
const BUFFER: usize = 256 * 1024;

/// The files of a bundle: where they are, and what they hold.
#[derive(Debug)]
pub struct Tree {
    entries: Vec<Entry>,
    /// In the order of `entries`.
    contents: Vec<Content>,
    limits: Limits,
}

#[derive(Debug, Clone)]
enum Content {
    File(PathBuf),
    Bytes(Arc<[u8]>),
}

/// A file that was found.
struct Found {
    path: String,
    real: PathBuf,
    executable: bool,
    size: u64,
}

/// A folder to look into.
struct Folder {
    path: String,
    real: PathBuf,
    /// The real folders in which links were followed on the way.
    jumps: Arc<Vec<PathBuf>>,
}

impl Tree {
    /// Reads the template's bytes, stored as [`TEMPLATE`], and the files and folders at `paths`, relative to `root`.
    ///
    /// Nothing outside `root` is read. Links inside it are followed. `.git` and `.aws-sam/cache` are left out, and
    /// folders without files are not kept. A file is executable if its owner may execute it.
    ///
    /// # Errors
    /// [`BundleError::ReferenceMissing`] and [`BundleError::ReferenceEmpty`]; [`BundleError::OutsideRoot`],
    /// [`BundleError::DanglingLink`], [`BundleError::LinkLoop`], [`BundleError::SpecialFile`],
    /// [`BundleError::NameNotUtf8`] and [`BundleError::UnsafePath`] for what cannot be bundled;
    /// [`BundleError::TemplateCollision`]; [`BundleError::Io`]; and one for each limit.
    pub fn read(root: &Path, template: &[u8], paths: &[String], limits: &Limits) -> Result<Self, BundleError> {
        let io = BundleError::io(format!("reading the folder `{}`", root.display()));
        let walker = Walker { root: fs::canonicalize(root).map_err(io)?, limits };
        let mut found = BTreeMap::new();
        let normalised: BTreeMap<String, &String> =
            paths.iter().map(|path| Ok((normalise(path)?, path))).collect::<Result<_, BundleError>>()?;
        for (reference, written) in normalised {
            walker.reference(&reference, written, &mut found)?;
        }
        let template_in_tree = found.contains_key(TEMPLATE);
        if normalises_to_root(paths)? && !template_in_tree {
            return Err(BundleError::TemplateCollision);
        }
        let mut total = if template_in_tree { 0 } else { template.len() as u64 };
        limits.check_count(found.len() as u64 + u64::from(!template_in_tree))?;
        for file in found.values() {
            limits.check_size(&file.path, file.size)?;
            total = total.saturating_add(file.size);
            limits.check_total(total)?;
        }

        let files: Vec<Found> = found.into_values().collect();
        let mut hashed = files
            .into_par_iter()
            .map(|file| {
                let (size, sha256) = hash_file(&file.real).map_err(reading(&file.path))?;
                if size != file.size {
                    return Err(BundleError::Changed { path: file.path });
                }
                let entry = Entry { path: file.path, executable: file.executable, size, sha256 };
                Ok((entry, Content::File(file.real)))
            })
            .collect::<Result<Vec<_>, BundleError>>()?;

        let sha256: [u8; 32] = Sha256::digest(template).into();
        match hashed.iter_mut().find(|(entry, _)| entry.path == TEMPLATE) {
            Some((entry, _)) if entry.sha256 != sha256 => return Err(BundleError::TemplateCollision),
            Some(_) => {}
            None => {
                let (path, size) = (TEMPLATE.to_owned(), template.len() as u64);
                hashed.push((Entry { path, executable: false, size, sha256 }, Content::Bytes(template.into())));
            }
        }
        hashed.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        let (entries, contents) = hashed.into_iter().unzip();
        Ok(Self { entries, contents, limits: limits.clone() })
    }

    /// The bundle's address.
    #[must_use]
    pub fn digest(&self) -> TreeDigest {
        tree_digest(&self.entries)
    }

    /// The bundle's files, sorted by path.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes of all files, not compressed.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.size).sum()
    }

    /// Writes the bundle as a zip: sorted, with fixed times and modes, the same bytes on every run. Files are deflated
    /// on all cores. Gives the zip's size in bytes.
    ///
    /// # Errors
    /// [`BundleError::Changed`] when a file is not what [`Tree::read`] saw, [`BundleError::RatioTooHigh`],
    /// [`BundleError::Io`].
    pub fn write_zip<W: Write + Seek + Send>(&self, out: W) -> Result<u64, BundleError> {
        let mut writer = Writer::new(out);
        let mut compressed = 0;
        let mut ready: Vec<Packed<'_>> = Vec::new();
        let mut rest: Vec<(&Entry, &Content)> = self.entries.iter().zip(&self.contents).collect();
        while !(rest.is_empty() && ready.is_empty()) {
            let mut bytes = 0_u64;
            let length = rest.iter().take_while(|(entry, _)| {
                let fits = bytes == 0 || bytes + entry.size <= BATCH_BYTES;
                bytes += entry.size.max(1);
                fits
            });
            let length = length.count();
            let later = rest.split_off(length);
            let (written, packed) = rayon::join(
                || ready.iter().try_for_each(|packed| packed.write(&mut writer)),
                || rest.par_iter().map(|(entry, content)| pack(entry, content)).collect::<Result<Vec<_>, _>>(),
            );
            written.map_err(BundleError::io("writing the bundle"))?;
            ready = packed?;
            compressed += ready.iter().map(|packed| packed.data.len() as u64).sum::<u64>();
            rest = later;
        }
        self.limits.check_ratio(self.total_bytes(), compressed)?;
        writer.finish().map_err(BundleError::io("writing the bundle"))
    }
}

fn normalises_to_root(paths: &[String]) -> Result<bool, BundleError> {
    for path in paths {
        if normalise(path)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn reading(path: &str) -> impl FnOnce(io::Error) -> BundleError {
    BundleError::io(format!("reading `{path}`"))
}

/// Size and SHA-256 of a file.
fn hash_file(path: &Path) -> io::Result<(u64, [u8; 32])> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => return Ok((size, hash.finalize().into())),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        size += read as u64;
        hash.update(buffer.get(..read).unwrap_or_default());
    }
}

/// A deflated file.
struct Packed<'e> {
    entry: &'e Entry,
    data: Vec<u8>,
    deflated: bool,
    crc: u32,
}

impl Packed<'_> {
    fn write<W: Write>(&self, writer: &mut Writer<W>) -> io::Result<()> {
        let header = Header {
            name: &self.entry.path,
            executable: self.entry.executable,
            deflated: self.deflated,
            crc: self.crc,
            compressed: self.data.len() as u64,
            size: self.entry.size,
        };
        writer.entry(header, self.data.as_slice())
    }
}

/// Deflates a file, or keeps it as it is where that is shorter.
fn pack<'e>(entry: &'e Entry, content: &Content) -> Result<Packed<'e>, BundleError> {
    let bytes = match content {
        Content::File(real) => {
            let mut bytes = Vec::with_capacity(usize::try_from(entry.size).unwrap_or(0));
            let file = File::open(real).map_err(reading(&entry.path))?;
            file.take(entry.size + 1).read_to_end(&mut bytes).map_err(reading(&entry.path))?;
            bytes
        }
        Content::Bytes(bytes) => bytes.to_vec(),
    };
    let sha256: [u8; 32] = Sha256::digest(&bytes).into();
    if sha256 != entry.sha256 {
        return Err(BundleError::Changed { path: entry.path.clone() });
    }
    let mut crc = Crc::new();
    crc.update(&bytes);
    let deflated = deflate(&bytes).map_err(BundleError::io(format!("deflating `{}`", entry.path)))?;
    Ok(match deflated {
        Some(data) => Packed { entry, data, deflated: true, crc: crc.sum() },
        None => Packed { entry, data: bytes, deflated: false, crc: crc.sum() },
    })
}

/// `None` when the deflated bytes would not be fewer.
fn deflate(bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut deflated = Vec::with_capacity(bytes.len() - 1);
    let mut compress = Compress::new(Compression::new(LEVEL), false);
    match compress.compress_vec(bytes, &mut deflated, FlushCompress::Finish)? {
        Status::StreamEnd => Ok(Some(deflated)),
        Status::Ok | Status::BufError => Ok(None),
    }
}

/// Finds files below a root.
struct Walker<'l> {
    root: PathBuf,
    limits: &'l Limits,
}

/// What stands at a path.
enum Item {
    File(Found),
    Folder(Folder),
}

impl Walker<'_> {
    /// Adds the file at `reference`, or those in the folder there.
    fn reference(&self, reference: &str, written: &str, into: &mut BTreeMap<String, Found>) -> Result<(), BundleError> {
        // Every part is looked at, so that a link on the way cannot lead out.
        let mut here = Folder { path: String::new(), real: self.root.clone(), jumps: Arc::default() };
        let mut parts = reference.split('/').filter(|part| !part.is_empty()).peekable();
        while let Some(part) = parts.next() {
            let at = join(&here.path, part);
            let missing = || BundleError::ReferenceMissing { path: written.to_owned() };
            if fs::symlink_metadata(here.real.join(part)).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                return Err(missing());
            }
            match self.look(&here, part, at)? {
                Item::File(file) if parts.peek().is_none() => {
                    into.insert(file.path.clone(), file);
                    return Ok(());
                }
                Item::File(_) => return Err(missing()),
                Item::Folder(folder) => here = folder,
            }
        }
        let before = into.len();
        let mut any = false;
        // Level by level: all folders of a level at once, and no recursion that a deep tree could exhaust.
        let mut level = vec![here];
        let mut seen = before as u64;
        while !level.is_empty() {
            seen = seen.saturating_add(level.len() as u64);
            self.limits.check_count(seen)?;
            let items = level.par_iter().map(|folder| self.list(folder)).collect::<Result<Vec<_>, _>>()?;
            level = Vec::new();
            for item in items.into_iter().flatten() {
                match item {
                    Item::Folder(folder) => level.push(folder),
                    Item::File(file) => {
                        any = true;
                        into.insert(file.path.clone(), file);
                    }
                }
            }
            self.limits.check_count(into.len() as u64)?;
        }
        if any { Ok(()) } else { Err(BundleError::ReferenceEmpty { path: written.to_owned() }) }
    }

    fn list(&self, folder: &Folder) -> Result<Vec<Item>, BundleError> {
        let mut names = BTreeSet::new();
        for name in fs::read_dir(&folder.real).map_err(reading(&folder.path))? {
            let name = name.map_err(reading(&folder.path))?.file_name();
            let name = name
                .into_string()
                .map_err(|name| BundleError::NameNotUtf8 { path: join(&folder.path, &name.to_string_lossy()) })?;
            let left_out = name == ".git" || (name == "cache" && path::base_name(&folder.path) == ".aws-sam");
            if !left_out {
                names.insert(name);
            }
        }
        names.into_iter().map(|name| self.look(folder, &name, join(&folder.path, &name))).collect()
    }

    /// What the entry `name` of a folder is, links followed.
    fn look(&self, folder: &Folder, name: &str, path: String) -> Result<Item, BundleError> {
        path::check_entry(&path, self.limits)?;
        let mut real = folder.real.join(name);
        let mut jumps = Arc::clone(&folder.jumps);
        let mut metadata = fs::symlink_metadata(&real).map_err(reading(&path))?;
        if metadata.is_symlink() {
            let target = fs::canonicalize(&real).map_err(|error| unresolved(&path, error))?;
            if !target.starts_with(&self.root) {
                return Err(BundleError::OutsideRoot { path });
            }
            metadata = fs::metadata(&target).map_err(reading(&path))?;
            if metadata.is_dir() {
                // A folder around this link, or around one that led here, would be entered again and again.
                if jumps.iter().chain([&folder.real]).any(|from| from.starts_with(&target)) {
                    return Err(BundleError::LinkLoop { path });
                }
                let mut more = jumps.to_vec();
                more.push(folder.real.clone());
                jumps = Arc::new(more);
            }
            real = target;
        }
        if metadata.is_dir() {
            Ok(Item::Folder(Folder { path, real, jumps }))
        } else if metadata.is_file() {
            Ok(Item::File(Found { path, real, executable: is_executable(&metadata), size: metadata.len() }))
        } else {
            Err(BundleError::SpecialFile { path })
        }
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Why a link leads nowhere.
fn unresolved(path: &str, error: io::Error) -> BundleError {
    // ELOOP on Linux, and on macOS and the BSDs: its `ErrorKind` is not stable yet.
    if matches!(error.raw_os_error(), Some(40 | 62)) {
        BundleError::LinkLoop { path: path.to_owned() }
    } else if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
        BundleError::DanglingLink { path: path.to_owned() }
    } else {
        reading(path)(error)
    }
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
