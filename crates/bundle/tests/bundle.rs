//! Folders in, bundles and artifacts out, and the same again from a bundle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod fixture;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use slipway_bundle::{
    Archive, Artifact, BundleError, Content, Entry, Folder, Form, LAMBDA_CODE_BYTES, Limits, Listing, TreeDigest,
    file_digest, is_ready_archive, normalise, tree_digest,
};
use zip::ZipArchive;

use crate::fixture::{File, TEMPLATE, artifacts, folder, noise, open, owned, paths, read, verified, zip};

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
    assert_eq!(Listing::new(entries.to_vec()).digest().as_str(), expected);
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
        ("src-2/x", b"2", false),
        ("one.py", b"x", false),
        ("ü/ñ.txt", b"text", false),
        ("lib.jar", b"PK", false),
        ("unused", b"no", false),
    ]);
    fs::create_dir(root.path().join("src/no-files")).unwrap();
    let tree = read(root.path(), &["./src/", "src", "src/bin", "src-2", "one.py", "ü", "lib.jar"]).unwrap();
    let listing = tree.listing();
    let expected =
        ["lib.jar", "one.py", "src-2/x", "src/app.py", "src/bin/run", "src/empty", "template.yaml", "ü/ñ.txt"];
    assert_eq!(paths(listing.entries()), expected);
    let bytes = zip(&tree);
    let mut archive = open(&bytes).unwrap();
    assert_eq!(archive.verify().unwrap(), *listing);
    assert_eq!(archive.read_file("template.yaml", 1000).unwrap(), TEMPLATE);
    assert!(matches!(archive.read_file("template.yaml", 3), Err(BundleError::EntryTooLarge { limit: 3, .. })));
    assert_eq!(archive.read_file("./src/../lib.jar", 10).unwrap(), b"PK");
    assert!(matches!(archive.read_file("src", 10), Err(BundleError::ReferenceMissing { .. })));

    for (path, form, inside) in [
        ("./src/", Form::Zip, vec!["app.py", "bin/run", "empty"]),
        ("src", Form::FileOrZip, vec!["app.py", "bin/run", "empty"]),
        ("one.py", Form::Zip, vec!["one.py"]),
        ("src/bin/run", Form::Zip, vec!["run"]),
        ("ü", Form::Zip, vec!["ñ.txt"]),
        ("lib.jar", Form::Zip, vec![]),
        ("lib.jar", Form::FileOrZip, vec![]),
        ("src/app.py", Form::FileOrZip, vec![]),
        ("src/empty", Form::File, vec![]),
        (".", Form::Zip, expected.to_vec()),
    ] {
        let artifact = listing.artifact(path, form).unwrap();
        assert_eq!(artifact.path, normalise(path).unwrap());
        let mut copied = Vec::new();
        assert_eq!(archive.write_artifact(&artifact, &mut copied).unwrap(), copied.len() as u64);
        assert_eq!(archive.artifact_size(&artifact), copied.len() as u64);
        let [made]: [Vec<u8>; 1] = artifacts(&tree, &[&artifact]).unwrap().try_into().unwrap();
        assert_eq!(made, copied, "{path}: from the folder and from the bundle");
        if artifact.content == Content::File {
            assert!(inside.is_empty(), "{path}");
            assert_eq!(made, fs::read(root.path().join(&artifact.path)).unwrap());
            assert_eq!((artifact.files, artifact.bytes), (1, made.len() as u64));
            let entry = listing.entries().iter().find(|entry| entry.path == artifact.path).unwrap();
            assert_eq!(artifact.digest, file_digest(entry));
            continue;
        }
        let held = verified(&made).unwrap();
        assert_eq!(paths(held.entries()), inside, "{path}");
        assert_eq!(artifact.digest, held.digest());
        assert_eq!((artifact.files, artifact.bytes), (inside.len() as u64, held.total_bytes()));
        // Another implementation reads the same, with fixed times and modes.
        let mut other = ZipArchive::new(Cursor::new(&made)).unwrap();
        for entry in held.entries() {
            let mut file = other.by_name(&entry.path).unwrap();
            assert_eq!(file.unix_mode(), Some(if entry.executable { 0o100_755 } else { 0o100_644 }));
            let time = file.last_modified().unwrap();
            assert_eq!((time.year(), time.month(), time.day(), time.hour(), time.second()), (1980, 1, 1, 0, 0));
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            assert_eq!(<[u8; 32]>::from(Sha256::digest(&content)), entry.sha256);
        }
        assert_eq!(other.len(), held.entries().len());
    }
    for path in ["nothing", "src/app", "src/app.py/x", "sr", "src/no-files", "src.."] {
        let found = listing.artifact(path, Form::Zip);
        assert!(matches!(found, Err(BundleError::ReferenceMissing { .. })), "{path}");
    }
    assert!(
        matches!(listing.artifact("src", Form::File), Err(BundleError::FolderReferenced { path }) if path == "src")
    );
    assert!(matches!(listing.artifact("../src", Form::Zip), Err(BundleError::OutsideRoot { .. })));
}

#[test]
fn a_stored_template_is_a_file_like_others() {
    let root = folder(&[]);
    let template = noise(5, 9 * 1024 * 1024);
    let tree = Folder::open(root.path(), &Limits::default()).unwrap().tree(&[], Some(&template)).unwrap();
    let artifact = tree.listing().artifact("template.yaml", Form::File).unwrap();
    assert!(artifacts(&tree, &[&artifact]).unwrap() == [template.clone()]);
    assert!(open(&zip(&tree)).unwrap().read_file("template.yaml", u64::MAX).unwrap() == template);
}

#[test]
fn an_artifact_of_another_tree_is_not_written() {
    let one = folder(&[("src/a", b"1", false), ("src/b", b"2", false)]);
    let other = folder(&[("src/a", b"1", false), ("x", b"", false)]);
    let (one, other) = (read(one.path(), &["src"]).unwrap(), read(other.path(), &["src", "x"]).unwrap());
    let bytes = zip(&one);
    for (path, form) in [("src", Form::Zip), ("x", Form::File)] {
        let artifact = other.listing().artifact(path, form).unwrap();
        assert!(matches!(artifacts(&one, &[&artifact]), Err(BundleError::ReferenceMissing { .. })));
        let copied = open(&bytes).unwrap().write_artifact(&artifact, Vec::new());
        assert!(matches!(copied, Err(BundleError::ReferenceMissing { .. })));
    }
}

#[test]
fn the_whole_root_is_the_template_with_the_rest() {
    let root = folder(&[("template.yaml", TEMPLATE, true), ("a", b"1", false)]);
    let tree = read(root.path(), &["."]).unwrap();
    assert_eq!(paths(tree.listing().entries()), ["a", "template.yaml"]);
    assert!(tree.listing().entries()[1].executable, "as it is in the folder");
    fs::write(root.path().join("template.yaml"), "other").unwrap();
    for path in [".", "template.yaml"] {
        assert!(matches!(read(root.path(), &[path]), Err(BundleError::TemplateCollision)), "{path}");
    }
    fs::remove_file(root.path().join("template.yaml")).unwrap();
    assert!(matches!(read(root.path(), &["./"]), Err(BundleError::TemplateCollision)));
    assert_eq!(paths(read(root.path(), &["a"]).unwrap().listing().entries()), ["a", "template.yaml"]);
    fixture::write(root.path(), "template.yaml/x", b"", false);
    assert!(matches!(read(root.path(), &["template.yaml"]), Err(BundleError::TemplateCollision)));
    // Where no template is stored, nothing collides.
    let folder = Folder::open(root.path(), &Limits::default()).unwrap();
    assert_eq!(paths(folder.tree(&owned(&["."]), None).unwrap().listing().entries()), ["a", "template.yaml/x"]);
    assert!(folder.tree(&[], None).unwrap().listing().entries().is_empty());
    assert_eq!(paths(folder.tree(&[], Some(TEMPLATE)).unwrap().listing().entries()), ["template.yaml"]);
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
        let folder = Folder::open(root.path(), &limits).unwrap();
        let made = folder.tree(&owned(&["src"]), Some(TEMPLATE)).unwrap_err();
        let opened = Archive::open(Cursor::new(&bytes), &limits).unwrap_err();
        for error in [made, opened] {
            assert!(check(&error) && error.is_limit() && error.to_string().contains(text), "{error}");
        }
    }
    assert!(!BundleError::TemplateMissing.is_limit());
    assert_eq!(LAMBDA_CODE_BYTES, 262_144_000);
}

#[test]
fn a_bomb_is_refused_on_both_sides() {
    let zeros = vec![0; 20 * 1024 * 1024];
    let bytes = fixture::foreign(|writer| fixture::add(writer, "zeros", &zeros));
    let refused = open(&bytes).unwrap_err();
    assert!(matches!(refused, BundleError::RatioTooHigh { limit: 200, .. }) && refused.is_limit());
    let root = folder(&[("zeros", &zeros, false)]);
    let tree = read(root.path(), &["zeros"]).unwrap();
    assert!(matches!(tree.write_zip(Vec::new()), Err(BundleError::RatioTooHigh { .. })));

    // One that lies about its size.
    let mut bytes = bytes;
    let (size, small) = ((zeros.len() as u32).to_le_bytes(), 1000_u32.to_le_bytes());
    for at in 0..bytes.len() - 4 {
        if bytes[at..at + 4] == size {
            bytes[at..at + 4].copy_from_slice(&small);
        }
    }
    assert!(matches!(verified(&bytes), Err(BundleError::Corrupt { .. })));
}

/// Files of every kind that is deflated in its own way.
fn many_files() -> Vec<(String, Vec<u8>)> {
    // Above 32 MiB: deflated in blocks, half of them not worth it, at the end or at the beginning.
    let text = b"some text that repeats, line by line\n".repeat(500_000);
    let noise_of_blocks = noise(1, 16 * 1024 * 1024 + 1);
    let huge = [&text[..], &noise_of_blocks].concat();
    let mut files = vec![
        ("a/huge".to_owned(), huge.clone()),
        ("a/huge-otherwise".to_owned(), [&noise_of_blocks[..], &text].concat()),
        ("b/huge-again".to_owned(), huge),
        ("b/large".to_owned(), noise(2, 3 * 1024 * 1024)),
        ("b/large-again".to_owned(), noise(2, 3 * 1024 * 1024)),
        ("c/empty".to_owned(), Vec::new()),
        ("c/one-byte".to_owned(), vec![7]),
        ("c/ready.zip".to_owned(), noise(3, 9 * 1024 * 1024)),
    ];
    for number in 0..400 {
        let content = format!("def handler_{}(event):\n", number % 300).repeat(number * 3);
        files.push((format!("d/{number:03}.py"), content.into_bytes()));
    }
    files
}

#[test]
fn what_is_deflated_in_parallel_comes_out_whole_and_the_same() {
    let files = many_files();
    let list: Vec<File<'_>> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice(), false)).collect();
    let root = folder(&list);
    let folder = Folder::open(root.path(), &Limits::default()).unwrap();
    let tree = folder.tree(&owned(&["."]), None).unwrap();
    let listing = tree.listing();
    let bytes = zip(&tree);
    assert_eq!(verified(&bytes).unwrap(), *listing);
    assert_eq!(bytes, zip(&tree), "the same bytes on every run");

    let named: Vec<Artifact> = ["b", "d", "c/ready.zip", "a", "c", "d/399.py", "a/huge"]
        .iter()
        .map(|path| listing.artifact(path, Form::Zip).unwrap())
        .collect();
    let named: Vec<&Artifact> = named.iter().collect();
    let made = artifacts(&tree, &named).unwrap();
    assert_eq!(made, artifacts(&tree, &named).unwrap(), "the same bytes on every run");
    let mut archive = open(&bytes).unwrap();
    for (artifact, made) in named.iter().zip(&made) {
        let mut copied = Vec::new();
        archive.write_artifact(artifact, &mut copied).unwrap();
        match artifact.content {
            Content::File => assert!(*made == files[7].1 && copied == *made),
            Content::Zip => {
                let held = verified(made).unwrap();
                assert_eq!(held.digest(), artifact.digest);
                assert_eq!(verified(&copied).unwrap(), held);
            }
        }
    }
    // Another implementation, too, can read what comes in blocks.
    let mut other = ZipArchive::new(Cursor::new(&made[3])).unwrap();
    let mut content = Vec::new();
    other.by_name("huge").unwrap().read_to_end(&mut content).unwrap();
    assert!(content == files[0].1);
}

#[test]
fn a_file_that_changed_meanwhile_is_not_written() {
    let large = noise(4, 40 * 1024 * 1024);
    for (before, after) in [
        (&b"11"[..], Some(&b"12"[..])),
        (b"11", Some(b"1")),
        (b"11", Some(b"111")),
        (b"11", None),
        (&large, Some(&large[1..])),
        (&large, Some(&[&large[..large.len() - 1], b"\0"].concat())),
    ] {
        let root = folder(&[("src/a", before, false), ("src/b", b"1", false)]);
        let tree = read(root.path(), &["src"]).unwrap();
        let zipped = tree.listing().artifact("src", Form::Zip).unwrap();
        let file = tree.listing().artifact("src/a", Form::File).unwrap();
        match after {
            Some(content) => fs::write(root.path().join("src/a"), content).unwrap(),
            None => fs::remove_file(root.path().join("src/a")).unwrap(),
        }
        let errors = [
            tree.write_zip(Vec::new()).unwrap_err(),
            artifacts(&tree, &[&zipped]).unwrap_err(),
            artifacts(&tree, &[&file]).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(&error, BundleError::Changed { path } if path == "src/a"), "{error}");
        }
    }
}

/// Takes some bytes, then fails.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_error_of_the_destination_ends_it_and_is_told() {
    let files: Vec<(String, Vec<u8>)> = (0..200).map(|n| (format!("src/{n}"), noise(n, 100_000))).collect();
    let list: Vec<File<'_>> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice(), false)).collect();
    let root = folder(&list);
    let tree = read(root.path(), &["src"]).unwrap();
    for room in [0, 10_000, 1_000_000, 19_000_000] {
        let error = tree.write_zip(Full(room)).unwrap_err();
        assert!(matches!(&error, BundleError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull));
    }
    let artifact = tree.listing().artifact("src", Form::Zip).unwrap();
    let refused = || BundleError::TemplateMissing;
    let opened = tree.write_artifacts(&[&artifact], |_| Err::<Vec<u8>, _>(refused()), |_, _| Ok(()));
    let closed = tree.write_artifacts(&[&artifact], |_| Ok(Vec::new()), |_, _| Err(refused()));
    for error in [opened, closed] {
        assert!(matches!(error, Err(BundleError::TemplateMissing)));
    }
}

/// A source that counts what is asked of it.
struct Counted<'b> {
    bytes: Cursor<&'b [u8]>,
    jumps: u64,
    read: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}

impl Seek for Counted<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.jumps += 1;
        self.bytes.seek(to)
    }
}

#[test]
fn a_bundle_is_read_forwards() {
    let files: Vec<(String, Vec<u8>)> = (0..300).map(|n| (format!("src-{}/{n}", n % 7), noise(n, 20_000))).collect();
    let list: Vec<File<'_>> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice(), false)).collect();
    let root = folder(&list);
    let tree = Folder::open(root.path(), &Limits::default()).unwrap().tree(&owned(&["."]), None).unwrap();
    let bytes = zip(&tree);
    let mut counted = Counted { bytes: Cursor::new(&bytes), jumps: 0, read: 0 };
    let mut archive = Archive::open(&mut counted, &Limits::default()).unwrap();
    let listing = archive.verify().unwrap();
    for n in 0..7 {
        let artifact = listing.artifact(&format!("src-{n}"), Form::Zip).unwrap();
        archive.write_artifact(&artifact, io::sink()).unwrap();
    }
    drop(archive);
    // To the end, to the last records, to the directory, to the first entry; and back to it for the first artifact.
    assert!(counted.jumps <= 5, "{}", counted.jumps);
    assert!(counted.read < 2 * bytes.len() as u64 + 512 * 1024, "{} of {}", counted.read, bytes.len());
}

fn any_files() -> impl Strategy<Value = BTreeMap<String, (Vec<u8>, bool)>> {
    let content = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        ("[ab]", 0..3000_usize).prop_map(|(text, count)| text.repeat(count).into_bytes()),
    ];
    prop::collection::btree_map("f/[a-c]{1,2}(/[d-f☃ é]{1,3}){0,2}\\.[xy]", (content, any::<bool>()), 1..12)
}

fn listed(files: &BTreeMap<String, (Vec<u8>, bool)>) -> Vec<File<'_>> {
    files.iter().map(|(path, (content, executable))| (path.as_str(), content.as_slice(), *executable)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Packing and reading is identity: of the digest, the modes, and every byte, also through an artifact.
    #[test]
    fn pack_then_read_is_identity(files in any_files()) {
        let list = listed(&files);
        let root = folder(&list);
        let tree = read(root.path(), &["f"]).unwrap();
        let listing = tree.listing();
        prop_assert_eq!(listing.entries().len(), files.len() + 1);
        let bytes: usize = list.iter().map(|file| file.1.len()).sum();
        prop_assert_eq!(listing.total_bytes(), (bytes + TEMPLATE.len()) as u64);
        let bytes = zip(&tree);
        let mut archive = open(&bytes).unwrap();
        prop_assert_eq!(&archive.verify().unwrap(), listing);
        let artifact = listing.artifact("f", Form::Zip).unwrap();
        let mut out = Vec::new();
        archive.write_artifact(&artifact, &mut out).unwrap();
        prop_assert_eq!(&artifacts(&tree, &[&artifact]).unwrap(), &[out.clone()]);
        let mut inside = open(&out).unwrap();
        prop_assert_eq!(inside.verify().unwrap().digest(), artifact.digest);
        for (path, content, executable) in list {
            prop_assert_eq!(archive.read_file(path, 10_000).unwrap(), content);
            let name = path.strip_prefix("f/").unwrap();
            prop_assert_eq!(inside.read_file(name, 10_000).unwrap(), content);
            let entry = listing.entries().iter().find(|entry| entry.path == path).unwrap();
            prop_assert_eq!(entry.executable, executable);
        }
    }

    /// The digest knows no order: not of entries, and not of the references that led to them.
    #[test]
    fn the_digest_knows_no_order(files in any_files(), seed in any::<prop::sample::Index>()) {
        let root = folder(&listed(&files));
        let mut references: Vec<&str> = files.keys().map(String::as_str).collect();
        let straight = read(root.path(), &references).unwrap();
        let middle = seed.index(references.len());
        references.rotate_left(middle);
        references.reverse();
        let shuffled = read(root.path(), &references).unwrap();
        prop_assert_eq!(zip(&straight), zip(&shuffled));
        let mut entries = straight.listing().entries().to_vec();
        entries.rotate_left(middle);
        prop_assert_eq!(&Listing::new(entries.clone()), straight.listing());
        prop_assert_eq!(tree_digest(&entries), shuffled.listing().digest());
    }
}
