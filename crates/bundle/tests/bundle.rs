//! Folders in, bundles and artifacts out; and what is refused on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read as _, Write as _};
use std::path::Path;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use slipway_bundle::{
    Archive, BundleError, Entry, Limits, Tree, TreeDigest, file_digest, is_ready_archive, normalise, tree_digest,
};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

const TEMPLATE: &[u8] = b"Resources: {}\n";

/// Path, content, executable.
type File<'f> = (&'f str, &'f [u8], bool);

fn folder(files: &[File<'_>]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (path, content, executable) in files {
        write(folder.path(), path, content, *executable);
    }
    folder
}

fn write(root: &Path, path: &str, content: &[u8], executable: bool) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 })).unwrap();
}

fn read(root: &Path, paths: &[&str]) -> Result<Tree, BundleError> {
    let paths: Vec<String> = paths.iter().map(|&path| path.to_owned()).collect();
    Tree::read(root, TEMPLATE, &paths, &Limits::default())
}

fn zip(tree: &Tree) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let size = tree.write_zip(&mut out).unwrap();
    assert_eq!(size, out.get_ref().len() as u64);
    out.into_inner()
}

fn open(bytes: &[u8]) -> Result<Archive<Cursor<&[u8]>>, BundleError> {
    Archive::open(Cursor::new(bytes), &Limits::default())
}

/// Opens and verifies.
fn verified(bytes: &[u8]) -> Result<Vec<Entry>, BundleError> {
    open(bytes)?.verify()
}

fn paths(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.path.as_str()).collect()
}

/// A zip made by another implementation.
fn foreign(build: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    build(&mut writer);
    writer.finish().unwrap().into_inner()
}

fn add(writer: &mut ZipWriter<Cursor<Vec<u8>>>, path: &str, content: &[u8]) {
    writer.start_file(path, SimpleFileOptions::default().unix_permissions(0o644)).unwrap();
    writer.write_all(content).unwrap();
}

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

#[test]
fn the_digest_is_what_its_documentation_says() {
    let entry = |path: &str, executable, content: &[u8]| Entry {
        path: path.to_owned(),
        executable,
        size: content.len() as u64,
        sha256: Sha256::digest(content).into(),
    };
    let entries = [entry("b", true, b"two"), entry("a/é", false, b"one")];
    let mut bytes = b"slipway tree 1\n".to_vec();
    bytes.extend(2_u64.to_be_bytes());
    for (path, mode, content) in [("a/é", 0o644_u32, "one"), ("b", 0o755, "two")] {
        bytes.extend((path.len() as u64).to_be_bytes());
        bytes.extend(path.as_bytes());
        bytes.extend(mode.to_be_bytes());
        bytes.extend(Sha256::digest(content));
    }
    let expected: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(tree_digest(&entries).as_str(), expected);
    assert_eq!(
        file_digest(&entry("x", true, b"")).to_string(),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    // Any change counts: a byte, a mode, a name, one file less.
    let base = tree_digest(&entries);
    for other in [
        vec![entry("b", true, b"twO"), entries[1].clone()],
        vec![entry("b", false, b"two"), entries[1].clone()],
        vec![entry("c", true, b"two"), entries[1].clone()],
        vec![entries[0].clone()],
    ] {
        assert_ne!(tree_digest(&other), base);
    }
}

#[test]
fn a_digest_is_parsed_strictly() {
    let text = "0123456789abcdef".repeat(4);
    let digest = TreeDigest::parse(&text).unwrap();
    assert_eq!(digest.to_string(), text);
    assert_eq!(serde_json::to_string(&digest).unwrap(), format!("\"{text}\""));
    assert_eq!(serde_json::from_str::<TreeDigest>(&format!("\"{text}\"")).unwrap(), digest);
    for bad in ["", "abc", &text.to_uppercase(), &format!("{text}0"), &text.replace('0', "g"), &text.replace('0', "é")]
    {
        assert!(TreeDigest::parse(bad).is_err(), "{bad}");
        assert!(serde_json::from_str::<TreeDigest>(&format!("\"{bad}\"")).is_err());
    }
}

#[test]
fn paths_are_normalised() {
    for (path, expected) in
        [("./src/", "src"), (".", ""), ("", ""), ("a//b/./c", "a/b/c"), ("a/../b", "b"), ("a/..", "")]
    {
        assert_eq!(normalise(path).unwrap(), expected, "{path}");
    }
    for path in ["..", "/a", "a/../..", "./../a", "/"] {
        assert!(matches!(normalise(path), Err(BundleError::OutsideRoot { .. })), "{path}");
    }
    for path in ["a\\b", "a\nb", "C:/a"] {
        assert!(matches!(normalise(path), Err(BundleError::UnsafePath { .. })), "{path}");
    }
    assert!(is_ready_archive("target/app.jar") && is_ready_archive("a.ZIP"));
    assert!(!is_ready_archive("jar") && !is_ready_archive("a.zip/b") && !is_ready_archive("a.zip.txt"));
}

#[test]
fn a_folder_becomes_a_bundle_and_its_artifacts() {
    let root = folder(&[
        ("src/app.py", b"print(1)\n", false),
        ("src/bin/run", b"#!/bin/sh\n", true),
        ("src/empty", b"", false),
        ("src/.git/HEAD", b"no", false),
        ("src/.aws-sam/cache/x", b"no", false),
        ("src/.aws-sam/build/x", b"yes", false),
        ("one.py", b"x", false),
        ("ü/ñ.txt", b"text", false),
        ("lib.jar", b"PK", false),
        ("unused", b"no", false),
    ]);
    fs::create_dir(root.path().join("src/no-files")).unwrap();
    let tree = read(root.path(), &["./src/", "src", "src/bin", "one.py", "ü", "lib.jar"]).unwrap();
    let expected = [
        "lib.jar",
        "one.py",
        "src/.aws-sam/build/x",
        "src/app.py",
        "src/bin/run",
        "src/empty",
        "template.yaml",
        "ü/ñ.txt",
    ];
    assert_eq!(paths(tree.entries()), expected);
    let bytes = zip(&tree);
    assert_eq!(bytes, zip(&tree), "the same bytes on every run");

    let mut archive = open(&bytes).unwrap();
    let entries = archive.verify().unwrap();
    assert_eq!(entries, tree.entries());
    assert_eq!(tree_digest(&entries), tree.digest());
    assert_eq!(archive.read_template(1000).unwrap(), TEMPLATE);
    assert!(matches!(archive.read_template(3), Err(BundleError::EntryTooLarge { limit: 3, .. })));
    assert_eq!(archive.read_file("./lib.jar", 10).unwrap(), b"PK");
    assert!(matches!(archive.read_file("src", 10), Err(BundleError::ReferenceMissing { .. })));
    let mut copy = Vec::new();
    assert_eq!(archive.copy_file("src/app.py", &mut copy).unwrap(), 9);
    assert_eq!(copy, b"print(1)\n");
    assert!(archive.is_file("one.py").unwrap() && !archive.is_file("src").unwrap());
    for (path, zipped, expected) in [
        ("lib.jar", true, true),
        ("one.py", true, false),
        ("one.py", false, true),
        ("src", true, false),
        ("src", false, false),
    ] {
        assert_eq!(archive.goes_up_as_it_is(path, zipped).unwrap(), expected, "{path}");
    }
    assert!(matches!(archive.is_file("sr"), Err(BundleError::ReferenceMissing { .. })));

    for (path, expected) in [
        ("./src/", vec![".aws-sam/build/x", "app.py", "bin/run", "empty"]),
        ("one.py", vec!["one.py"]),
        ("src/bin/run", vec!["run"]),
        ("ü", vec!["ñ.txt"]),
    ] {
        let artifact = archive.artifact_entries(&entries, path).unwrap();
        assert_eq!(paths(&artifact), expected);
        let mut out = Vec::new();
        assert_eq!(archive.write_artifact(path, &mut out).unwrap(), out.len() as u64);
        assert_eq!(verified(&out).unwrap(), artifact);
        // Another implementation reads the same, with fixed times and modes.
        let mut other = ZipArchive::new(Cursor::new(&out)).unwrap();
        for entry in &artifact {
            let mut file = other.by_name(&entry.path).unwrap();
            assert_eq!(file.unix_mode(), Some(if entry.executable { 0o100_755 } else { 0o100_644 }));
            let time = file.last_modified().unwrap();
            assert_eq!((time.year(), time.month(), time.day(), time.hour(), time.second()), (1980, 1, 1, 0, 0));
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            assert_eq!(<[u8; 32]>::from(Sha256::digest(&content)), entry.sha256);
        }
        assert_eq!(other.len(), artifact.len());
    }
    for path in ["nothing", "src/app", "src/app.py/x", "sr"] {
        assert!(matches!(archive.artifact_entries(&entries, path), Err(BundleError::ReferenceMissing { .. })));
        let written = archive.write_artifact(path, Vec::new());
        assert!(matches!(written, Err(BundleError::ReferenceMissing { .. })), "{path}");
    }
}

#[test]
fn the_whole_root_is_the_template_with_the_rest() {
    let root = folder(&[("template.yaml", TEMPLATE, true), ("a", b"1", false)]);
    let tree = read(root.path(), &["."]).unwrap();
    assert_eq!(paths(tree.entries()), ["a", "template.yaml"]);
    assert!(tree.entries()[1].executable, "as it is in the folder");
    fs::write(root.path().join("template.yaml"), "other").unwrap();
    assert!(matches!(read(root.path(), &["."]), Err(BundleError::TemplateCollision)));
    assert!(matches!(read(root.path(), &["template.yaml"]), Err(BundleError::TemplateCollision)));
    fs::remove_file(root.path().join("template.yaml")).unwrap();
    assert!(matches!(read(root.path(), &["./"]), Err(BundleError::TemplateCollision)));
    assert_eq!(paths(read(root.path(), &["a"]).unwrap().entries()), ["a", "template.yaml"]);
}

#[test]
fn links_inside_are_followed_and_others_refused() {
    use std::os::unix::fs::symlink;
    let outside = folder(&[("secret", b"s", false)]);
    let root = folder(&[("real/a", b"1", true), ("real/sub/b", b"2", false), ("src/c", b"3", false)]);
    let at = |path: &str| root.path().join(path);
    let src = || read(root.path(), &["src"]);
    symlink("../real", at("src/link")).unwrap();
    symlink("link/a", at("src/file")).unwrap();
    symlink("src", at("entry")).unwrap();
    assert_eq!(paths(src().unwrap().entries()), ["src/c", "src/file", "src/link/a", "src/link/sub/b", "template.yaml"]);
    assert_eq!(paths(read(root.path(), &["entry/link/sub"]).unwrap().entries()), ["entry/link/sub/b", "template.yaml"]);

    for (target, name) in [
        (outside.path().join("secret"), "out-file"),
        (outside.path().to_path_buf(), "out-folder"),
        (Path::new("../../").to_path_buf(), "up"),
        (Path::new("/dev/null").to_path_buf(), "device"),
    ] {
        symlink(target, at("src").join(name)).unwrap();
        let found = src().unwrap_err();
        assert!(matches!(&found, BundleError::OutsideRoot { path } if *path == format!("src/{name}")), "{found}");
        fs::remove_file(at("src").join(name)).unwrap();
    }
    symlink(outside.path(), at("gone")).unwrap();
    assert!(matches!(read(root.path(), &["gone/secret"]), Err(BundleError::OutsideRoot { .. })));

    for target in ["nothing", "c/x"] {
        symlink(target, at("src/dangling")).unwrap();
        assert!(matches!(src(), Err(BundleError::DanglingLink { .. })), "{target}");
        fs::remove_file(at("src/dangling")).unwrap();
    }
    for target in [".", "..", "loop"] {
        symlink(target, at("src/loop")).unwrap();
        assert!(matches!(src(), Err(BundleError::LinkLoop { path }) if path == "src/loop"), "{target}");
        fs::remove_file(at("src/loop")).unwrap();
    }
    // Two folders that lead to each other.
    symlink("../src", at("real/back")).unwrap();
    assert!(matches!(src(), Err(BundleError::LinkLoop { path }) if path == "src/link/back"));
}

#[test]
fn what_cannot_be_bundled_is_refused_by_name() {
    use std::os::unix::ffi::OsStrExt as _;
    let root = folder(&[("src/a", b"1", false)]);
    assert!(matches!(read(root.path(), &["src/b"]), Err(BundleError::ReferenceMissing { path }) if path == "src/b"));
    assert!(matches!(read(root.path(), &["src/a/b"]), Err(BundleError::ReferenceMissing { .. })));
    assert!(matches!(read(root.path(), &["../x"]), Err(BundleError::OutsideRoot { .. })));
    assert!(matches!(read(root.path(), &["/etc"]), Err(BundleError::OutsideRoot { .. })));
    assert!(matches!(read(&root.path().join("no"), &[]), Err(BundleError::Io { .. })));
    fs::create_dir(root.path().join("empty")).unwrap();
    assert!(matches!(read(root.path(), &["empty"]), Err(BundleError::ReferenceEmpty { .. })));

    let socket = std::os::unix::net::UnixListener::bind(root.path().join("src/socket")).unwrap();
    assert!(matches!(read(root.path(), &["src"]), Err(BundleError::SpecialFile { path }) if path == "src/socket"));
    drop(socket);
    fs::remove_file(root.path().join("src/socket")).unwrap();
    let name = std::ffi::OsStr::from_bytes(b"b\xff");
    fs::write(root.path().join("src").join(name), "x").unwrap();
    assert!(matches!(read(root.path(), &["src"]), Err(BundleError::NameNotUtf8 { .. })));
    fs::remove_file(root.path().join("src").join(name)).unwrap();
    for name in ["a\\b", "a\nb"] {
        fs::write(root.path().join("src").join(name), "x").unwrap();
        assert!(matches!(read(root.path(), &["src"]), Err(BundleError::UnsafePath { .. })), "{name}");
        fs::remove_file(root.path().join("src").join(name)).unwrap();
    }

    let tree = read(root.path(), &["src"]).unwrap();
    fs::write(root.path().join("src/a"), "2").unwrap();
    let changed = tree.write_zip(Cursor::new(Vec::new()));
    assert!(matches!(changed, Err(BundleError::Changed { path }) if path == "src/a"));
}

#[test]
fn limits_hold_when_a_bundle_is_made_and_when_it_is_read() {
    let root = folder(&[("src/a", &[b'x'; 1000], false), ("src/deep/b", &[b'y'; 1000], false)]);
    let bytes = zip(&read(root.path(), &["src"]).unwrap());
    type Check = fn(&BundleError) -> bool;
    let cases: [(Limits, Check, &str); 4] = [
        (Limits { max_entries: 2, ..Limits::default() }, |e| matches!(e, BundleError::TooManyEntries { .. }), "2"),
        (
            Limits { max_entry_bytes: 999, ..Limits::default() },
            |e| matches!(e, BundleError::EntryTooLarge { .. }),
            "999",
        ),
        (Limits { max_total_bytes: 1999, ..Limits::default() }, |e| matches!(e, BundleError::TooLarge { .. }), "1999"),
        (Limits { max_path_bytes: 9, ..Limits::default() }, |e| matches!(e, BundleError::PathTooLong { .. }), "9"),
    ];
    for (limits, check, text) in cases {
        let made = Tree::read(root.path(), TEMPLATE, &["src".to_owned()], &limits).unwrap_err();
        let opened = Archive::open(Cursor::new(&bytes), &limits).unwrap_err();
        for error in [made, opened] {
            assert!(check(&error) && error.to_string().contains(text), "{error}");
        }
    }
}

#[test]
fn a_bomb_is_refused_on_both_sides() {
    let zeros = vec![0; 20 * 1024 * 1024];
    let bytes = foreign(|writer| add(writer, "zeros", &zeros));
    assert!(matches!(open(&bytes), Err(BundleError::RatioTooHigh { limit: 200, .. })));
    let root = folder(&[("zeros", &zeros, false)]);
    let tree = read(root.path(), &["zeros"]).unwrap();
    assert!(matches!(tree.write_zip(Cursor::new(Vec::new())), Err(BundleError::RatioTooHigh { .. })));

    // One that lies about its size.
    let mut bytes = foreign(|writer| add(writer, "zeros", &zeros));
    let (size, small) = ((zeros.len() as u32).to_le_bytes(), 1000_u32.to_le_bytes());
    for at in 0..bytes.len() - 4 {
        if bytes[at..at + 4] == size {
            bytes[at..at + 4].copy_from_slice(&small);
        }
    }
    assert!(matches!(verified(&bytes), Err(BundleError::Corrupt { .. })));
}

#[test]
fn zips_of_other_programs_have_the_same_digest() {
    let root = folder(&[("src/a", &b"hello ".repeat(100), false), ("src/run", b"x", true)]);
    let tree = read(root.path(), &["src"]).unwrap();
    for (method, large) in
        [(CompressionMethod::Stored, false), (CompressionMethod::Deflated, false), (CompressionMethod::Deflated, true)]
    {
        let bytes = foreign(|writer| {
            let options = SimpleFileOptions::default().compression_method(method).large_file(large);
            writer.add_directory("src", options).unwrap();
            for (path, content, mode) in
                [("template.yaml", TEMPLATE, 0o600), ("src/run", b"x", 0o700), ("src/a", &b"hello ".repeat(100), 0o664)]
            {
                writer.start_file(path, options.unix_permissions(mode)).unwrap();
                writer.write_all(content).unwrap();
            }
        });
        assert_eq!(tree_digest(&verified(&bytes).unwrap()), tree.digest(), "{method:?}");
    }
    // A stream: sizes stand behind the data.
    let mut writer = ZipWriter::new_stream(Vec::new());
    writer.start_file("a", SimpleFileOptions::default()).unwrap();
    writer.write_all(b"streamed").unwrap();
    let bytes = writer.finish().unwrap().into_inner();
    let mut archive = open(&bytes).unwrap();
    assert_eq!(archive.verify().unwrap()[0].size, 8);
    let mut out = Vec::new();
    archive.write_artifact(".", &mut out).unwrap();
    assert_eq!(verified(&out).unwrap(), archive.verify().unwrap());
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
    let mut out = Vec::new();
    archive.write_artifact("d", &mut out).unwrap();
    assert_eq!(Archive::open(Cursor::new(&out), &limits).unwrap().verify().unwrap().len(), 70_000);
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
    assert!(matches!(open(&none).unwrap().read_template(10), Err(BundleError::TemplateMissing)));
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
            if let Ok(entries) = verified(&bad) {
                assert!(entries == tree.entries() || tree_digest(&entries) != tree.digest());
            }
        }
        let _ = verified(&bytes[..at]);
    }
}

fn any_files() -> impl Strategy<Value = BTreeMap<String, (Vec<u8>, bool)>> {
    let content = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        ("[ab]", 0..3000_usize).prop_map(|(text, count)| text.repeat(count).into_bytes()),
    ];
    prop::collection::btree_map("f/[a-c]{1,2}(/[d-f☃ é]{1,3}){0,2}\\.[xy]", (content, any::<bool>()), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Packing and reading is identity: of the digest, the modes, and every byte, also through an artifact.
    #[test]
    fn pack_then_read_is_identity(files in any_files()) {
        let list: Vec<File<'_>> = files.iter().map(|(path, (content, x))| (path.as_str(), content.as_slice(), *x)).collect();
        let root = folder(&list);
        let tree = read(root.path(), &["f"]).unwrap();
        prop_assert_eq!(tree.entries().len(), files.len() + 1);
        prop_assert_eq!(tree.total_bytes(), list.iter().map(|file| file.1.len()).sum::<usize>() as u64 + TEMPLATE.len() as u64);
        let bytes = zip(&tree);
        let mut archive = open(&bytes).unwrap();
        let entries = archive.verify().unwrap();
        prop_assert_eq!(tree_digest(&entries), tree.digest());
        let mut out = Vec::new();
        archive.write_artifact("f", &mut out).unwrap();
        let mut artifact = open(&out).unwrap();
        prop_assert_eq!(artifact.verify().unwrap(), archive.artifact_entries(&entries, "f").unwrap());
        for (path, content, executable) in list {
            prop_assert_eq!(archive.read_file(path, 10_000).unwrap(), content);
            let name = path.strip_prefix("f/").unwrap();
            prop_assert_eq!(artifact.read_file(name, 10_000).unwrap(), content);
            let entry = entries.iter().find(|entry| entry.path == path).unwrap();
            prop_assert_eq!(entry.executable, executable);
        }
    }

    /// The order of entries does not matter to the digest, and neither does the zip's.
    #[test]
    fn the_digest_knows_no_order(files in any_files(), seed in any::<prop::sample::Index>()) {
        let mut list: Vec<(&String, &(Vec<u8>, bool))> = files.iter().collect();
        let straight = foreign(|writer| list.iter().for_each(|(path, (content, _))| add(writer, path, content)));
        let middle = seed.index(list.len());
        list.rotate_left(middle);
        list.reverse();
        let shuffled = foreign(|writer| list.iter().for_each(|(path, (content, _))| add(writer, path, content)));
        let (mut one, two) = (verified(&straight).unwrap(), verified(&shuffled).unwrap());
        prop_assert_eq!(&one, &two);
        one.reverse();
        prop_assert_eq!(tree_digest(&one), tree_digest(&two));
    }

    /// Nothing makes the reader panic.
    #[test]
    fn any_bytes_are_an_answer(start in prop::collection::vec(any::<u8>(), 0..200), end in prop::collection::vec(any::<u8>(), 18)) {
        let _ = verified(&start);
        let mut bytes = start;
        bytes.extend(b"PK\x05\x06");
        bytes.extend(end);
        let _ = verified(&bytes);
    }
}
