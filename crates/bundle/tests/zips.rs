//! Zips of other programs, and zips that are wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod fixture;

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use slipway_bundle::{Archive, BundleError, Form, Limits, Listing};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::fixture::{TEMPLATE, add, folder, foreign, open, read, verified, zip};

/// A zip whose every occurrence of a name is replaced by one of the same length.
fn renamed(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from.as_bytes()) {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
    }
    bytes
}

/// The artifact of the whole of a zip, opened again.
fn copied(bytes: &[u8]) -> Listing {
    let mut archive = open(bytes).unwrap();
    let artifact = archive.verify().unwrap().artifact(".", Form::Zip).unwrap();
    let mut out = Vec::new();
    assert_eq!(archive.write_artifact(&artifact, &mut out).unwrap(), archive.artifact_size(&artifact));
    verified(&out).unwrap()
}

#[test]
fn zips_of_other_programs_have_the_same_digest() {
    let text = b"hello ".repeat(100);
    let root = folder(&[("src/a", &text, false), ("src/run", b"x", true), ("src/ü", b"", false)]);
    let tree = read(root.path(), &["src"]).unwrap();
    let same = |bytes: &[u8], what: &str| {
        assert_eq!(verified(bytes).unwrap(), *tree.listing(), "{what}");
        assert_eq!(copied(bytes), *tree.listing(), "{what}");
    };
    let files: [(&str, &[u8], u32); 4] =
        [("template.yaml", TEMPLATE, 0o600), ("src/run", b"x", 0o700), ("src/ü", b"", 0o666), ("src/a", &text, 0o664)];
    for (method, large) in
        [(CompressionMethod::Stored, false), (CompressionMethod::Deflated, false), (CompressionMethod::Deflated, true)]
    {
        let options = SimpleFileOptions::default().compression_method(method).large_file(large);
        let bytes = foreign(|writer| {
            writer.add_directory("src", options).unwrap();
            for (path, content, mode) in files {
                writer.start_file(path, options.unix_permissions(mode)).unwrap();
                writer.write_all(content).unwrap();
            }
        });
        same(&bytes, &format!("{method:?}"));
        // A stream: checksums and sizes stand behind the data.
        let mut writer = ZipWriter::new_stream(Vec::new());
        for (path, content, mode) in files {
            writer.start_file(path, options.unix_permissions(mode)).unwrap();
            writer.write_all(content).unwrap();
        }
        same(&writer.finish().unwrap().into_inner(), &format!("{method:?}, streamed"));
    }

    fs::write(root.path().join("template.yaml"), TEMPLATE).unwrap();
    let script = "import sys, zipfile
with zipfile.ZipFile('python.zip', 'w', getattr(zipfile, sys.argv[1]), compresslevel=int(sys.argv[2])) as out:
    for name in ['template.yaml', 'src/run', 'src/ü', 'src/a']:
        out.write(name)";
    for (method, level) in [("ZIP_STORED", "0"), ("ZIP_DEFLATED", "1"), ("ZIP_DEFLATED", "9")] {
        run(Command::new("python3").args(["-c", script, method, level]), root.path());
        same(&fs::read(root.path().join("python.zip")).unwrap(), "python");
    }
    // Info-ZIP is not everywhere. It writes times and owners in extra fields.
    if Command::new("zip").arg("-v").output().is_ok() {
        run(Command::new("zip").args(["-q", "-r", "-9", "info.zip", "src", "template.yaml"]), root.path());
        same(&fs::read(root.path().join("info.zip")).unwrap(), "zip");
        run(Command::new("sh").args(["-c", "zip -q -r -1 - src template.yaml | cat > piped.zip"]), root.path());
        same(&fs::read(root.path().join("piped.zip")).unwrap(), "zip to a pipe");
    }
}

fn run(command: &mut Command, folder: &Path) {
    let output = command.current_dir(folder).env("PYTHONUTF8", "1").env("LC_ALL", "C.UTF-8").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn more_entries_than_16_bits_count() {
    let limits = Limits { max_entries: 100_000, ..Limits::default() };
    let bytes = foreign(|writer| {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        for number in 0..70_000 {
            writer.start_file(format!("d/{number}"), options).unwrap();
        }
    });
    assert!(matches!(open(&bytes), Err(BundleError::TooManyEntries { limit: 50_000 })));
    let mut archive = Archive::open(Cursor::new(&bytes), &limits).unwrap();
    let artifact = archive.verify().unwrap().artifact("d", Form::Zip).unwrap();
    let mut out = Vec::new();
    assert_eq!(archive.write_artifact(&artifact, &mut out).unwrap(), archive.artifact_size(&artifact));
    let again = Archive::open(Cursor::new(&out), &limits).unwrap().verify().unwrap();
    assert_eq!((again.entries().len(), again.digest()), (70_000, artifact.digest));
    assert_eq!(ZipArchive::new(Cursor::new(&out)).unwrap().len(), 70_000);
}

#[test]
fn bad_zips_are_refused_by_name() {
    let good = foreign(|writer| {
        add(writer, "template.yaml", TEMPLATE);
        add(writer, "src/aaaa", &b"hello ".repeat(100));
        add(writer, "src/bbbb", b"x");
    });
    assert!(verified(&good).is_ok());
    for bad in [&b""[..], b"PK", b"no zip at all, but long enough to hold a record", &[0; 100]] {
        assert!(matches!(open(bad), Err(BundleError::NotAZip { .. })));
    }
    let cut = open(&good[..good.len() - 1]).unwrap_err();
    assert!(matches!(&cut, BundleError::NotAZip { reason } if reason.contains("cut off")), "{cut}");
    assert!(matches!(open(&[&b"#!/bin/sh\n"[..], &good].concat()), Err(BundleError::NotAZip { .. })));
    assert!(matches!(open(&[&good[..], b"x"].concat()), Err(BundleError::NotAZip { .. })));
    let mut holed = good.clone();
    holed.drain(40..50);
    assert!(verified(&holed).is_err());

    for (name, reason) in [
        ("../x/aaa", "`..`"),
        ("src/../a", "`..`"),
        ("/src/aaa", "absolute"),
        ("src\\aaaa", "backslash"),
        ("C:/aaaaa", "drive"),
        ("src//aaa", "empty"),
        ("./src/aa", "empty"),
        ("src/a\0aa", "control"),
    ] {
        let found = open(&renamed(&good, "src/aaaa", name)).unwrap_err();
        assert!(matches!(&found, BundleError::UnsafePath { .. }) && found.to_string().contains(reason), "{found}");
    }
    assert!(matches!(open(&renamed(&good, "src/aaaa", "src/bbbb")), Err(BundleError::Duplicate { .. })));
    let inside = foreign(|writer| {
        add(writer, "a", b"");
        add(writer, "c/b", b"");
    });
    assert!(matches!(open(&renamed(&inside, "c/b", "a/b")), Err(BundleError::Duplicate { path }) if path == "a"));
    let mut latin = good.clone();
    let at = latin.windows(8).rposition(|window| window == b"src/aaaa").unwrap();
    latin[at] = 0xe9;
    assert!(matches!(open(&latin), Err(BundleError::NameNotUtf8 { .. })));

    let link = foreign(|writer| writer.add_symlink("link", "/etc/passwd", SimpleFileOptions::default()).unwrap());
    assert!(matches!(open(&link), Err(BundleError::LinkEntry { path }) if path == "link"));

    // A zip64 record besides the short one: some programs believe the one, some the other.
    let (rest, end) = good.split_at(good.len() - 22);
    let number = |at: usize| u64::from(u32::from_le_bytes(end[at..at + 4].try_into().unwrap()));
    for (entries, accepted) in [(3_u64, true), (2, false)] {
        let mut bytes = rest.to_vec();
        bytes.extend(b"PK\x06\x06");
        bytes.extend(44_u64.to_le_bytes());
        bytes.extend([45, 3, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for value in [entries, entries, number(12), number(16)] {
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend(b"PK\x06\x07\0\0\0\0");
        bytes.extend((rest.len() as u64).to_le_bytes());
        bytes.extend([1, 0, 0, 0]);
        bytes.extend(end);
        assert_eq!(verified(&bytes).is_ok(), accepted);
    }

    // Numbers in the directory's last entry: flags at 8, method at 10, offset at 42.
    let central = good.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    let local = good.windows(4).rposition(|window| window == b"PK\x03\x04").unwrap();
    let patched = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    assert!(matches!(open(&patched(central + 8, 1)), Err(BundleError::Encrypted { .. })));
    assert!(matches!(open(&patched(central + 10, 93)), Err(BundleError::UnknownCompression { method: 93, .. })));
    assert!(matches!(open(&patched(central + 42, 0)), Err(BundleError::Corrupt { .. })));
    assert!(matches!(verified(&patched(central + 16, 0x77)), Err(BundleError::Corrupt { .. })));
    assert!(matches!(verified(&patched(local + 30, b'z')), Err(BundleError::Corrupt { .. })));
    assert!(matches!(verified(&patched(local + 8, 0)), Err(BundleError::Corrupt { .. })));
    assert!(matches!(verified(&patched(local + 6, 1)), Err(BundleError::Encrypted { .. })));
    // One entry's data inside another's.
    let first = good.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    let overlap = patched(first + 42, 1);
    assert!(verified(&overlap).is_err());

    let none = foreign(|writer| add(writer, "a", b"x"));
    assert!(matches!(open(&none).unwrap().read_file("./template.yaml", 10), Err(BundleError::TemplateMissing)));
}

#[test]
fn a_flipped_byte_is_never_believed() {
    let root = folder(&[("src/a", &b"hello ".repeat(50), false), ("src/run", b"\x00\x01\x02", true)]);
    let tree = read(root.path(), &["src"]).unwrap();
    let bytes = zip(&tree);
    for at in 0..bytes.len() {
        for mask in [1, 0x80, 0xff] {
            let mut bad = bytes.clone();
            bad[at] ^= mask;
            // Either refused, or what was meant, or something whose digest tells.
            if let Ok(listing) = verified(&bad) {
                assert!(listing == *tree.listing() || listing.digest() != tree.listing().digest());
            }
        }
        let _ = verified(&bytes[..at]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The order of a zip's entries does not matter to what is read, and neither does it to what is copied.
    #[test]
    fn the_listing_knows_no_order(
        files in prop::collection::btree_map("[a-c]{1,2}/[d-f☃]{1,3}\\.[xy]", "[ab]{0,2000}", 1..12),
        seed in any::<prop::sample::Index>(),
    ) {
        let mut list: Vec<(&String, &String)> = files.iter().collect();
        let straight = foreign(|writer| list.iter().for_each(|(path, text)| add(writer, path, text.as_bytes())));
        let middle = seed.index(list.len());
        list.rotate_left(middle);
        list.reverse();
        let shuffled = foreign(|writer| list.iter().for_each(|(path, text)| add(writer, path, text.as_bytes())));
        let listing = verified(&straight).unwrap();
        prop_assert_eq!(&verified(&shuffled).unwrap(), &listing);
        prop_assert_eq!(copied(&straight), copied(&shuffled));
        prop_assert_eq!(copied(&shuffled), listing);
    }

    /// Nothing makes the reader panic.
    #[test]
    fn any_bytes_are_an_answer(
        start in prop::collection::vec(any::<u8>(), 0..200),
        end in prop::collection::vec(any::<u8>(), 18),
    ) {
        let _ = verified(&start);
        let mut bytes = start;
        bytes.extend(b"PK\x05\x06");
        bytes.extend(end);
        let _ = verified(&bytes);
    }
}
