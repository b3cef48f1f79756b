//! What the fuzzer does with bytes (fuzz/README.md), and the kept ones through the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::io::Cursor;

use slipway_bundle::{Archive, Content, Form, Limits};

/// Small, so that a bomb costs a fuzzer no time.
const LIMITS: Limits = Limits {
    max_entries: 100,
    max_entry_bytes: 1024 * 1024,
    max_total_bytes: 4 * 1024 * 1024,
    max_ratio: 200,
    max_path_bytes: 256,
};

/// Any bytes are refused, or a bundle within its limits, whose artifacts hold what it holds.
pub(crate) fn bundle(bytes: &[u8]) {
    let Ok(mut archive) = Archive::open(Cursor::new(bytes), &LIMITS) else { return };
    let Ok(listing) = archive.verify() else { return };
    let entries = listing.entries();
    assert!(entries.len() as u64 <= LIMITS.max_entries && listing.total_bytes() <= LIMITS.max_total_bytes);
    assert!(entries.iter().all(|entry| entry.size <= LIMITS.max_entry_bytes));
    assert!(entries.is_sorted_by(|a, b| a.path < b.path));

    let mut references = BTreeSet::from([""]);
    for entry in entries.iter().take(10) {
        references.insert(&entry.path);
        references.extend(entry.path.rsplit_once('/').map(|(folder, _)| folder));
        assert_eq!(archive.read_file(&entry.path, LIMITS.max_entry_bytes).unwrap().len() as u64, entry.size);
    }
    for reference in references {
        for form in [Form::Zip, Form::FileOrZip, Form::File] {
            let Ok(artifact) = listing.artifact(reference, form) else {
                assert!(form == Form::File || entries.is_empty(), "{reference}");
                continue;
            };
            let mut written = Vec::new();
            assert_eq!(archive.write_artifact(&artifact, &mut written).unwrap(), written.len() as u64);
            assert_eq!(archive.artifact_size(&artifact), written.len() as u64);
            if artifact.content == Content::File {
                assert_eq!(written, archive.read_file(reference, LIMITS.max_entry_bytes).unwrap());
                continue;
            }
            let mut again = Archive::open(Cursor::new(&written), &LIMITS).unwrap();
            let held = again.verify().unwrap();
            assert_eq!(held.digest(), artifact.digest);
            assert_eq!((held.entries().len() as u64, held.total_bytes()), (artifact.files, artifact.bytes));
            // A copy of a copy is the same.
            let mut copy = Vec::new();
            again.write_artifact(&held.artifact(".", Form::Zip).unwrap(), &mut copy).unwrap();
            assert_eq!(copy, written);
        }
    }
}

#[cfg(test)]
#[test]
fn the_corpus_is_understood() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 20, "{} in {folder}", files.len());
    for file in files {
        bundle(&std::fs::read(&file).unwrap());
    }
}
