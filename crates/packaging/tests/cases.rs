//! Input/expected pairs, a folder a case: `cases/<name>/app` is packaged as `slipway package` does it, from the folder, and
//! as the function does it, from a bundle. Both must give what `cases/<name>/expected` holds.
//!
//! `SLIPWAY_BLESS=1 cargo test -p slipway-packaging` writes what is expected anew: read the difference before it is kept.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[allow(dead_code, reason = "the embedded AWS needs more of it")]
mod case;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{Cursor, Read as _};
use std::path::Path;

use slipway_bundle::{Artifact, Content, TEMPLATE};
use slipway_template::Template;
use zip::ZipArchive;

use case::Packaged;

/// What is expected, by file name.
type Files = BTreeMap<String, String>;

/// The entries of a zip, as another program sees them.
fn entries(zip: &[u8]) -> Vec<(String, String)> {
    let mut archive = ZipArchive::new(Cursor::new(zip)).unwrap();
    (0..archive.len())
        .map(|index| {
            let mut entry = archive.by_index(index).unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            assert_eq!(content.len() as u64, entry.size());
            (
                entry.name().unwrap().into_owned(),
                format!("{:04o} {:>9} bytes", entry.unix_mode().unwrap() & 0o7777, entry.size()),
            )
        })
        .collect()
}

fn render(packaged: &Packaged, json: bool) -> Files {
    let Packaged { release, plan, zips, warnings, .. } = packaged;
    let mut names: BTreeMap<String, String> =
        plan.artifacts().map(|artifact| (artifact.digest.to_string(), artifact.path.clone())).collect();
    names.extend(release.documents.iter().map(|document| (document.digest.to_string(), document.path.clone())));
    // Where a digest stands, a person wants to read the path.
    let named = |text: &str| {
        names.iter().fold(text.to_owned(), |text, (digest, path)| {
            text.replace(&format!("artifacts/{digest}"), &format!("<{path}>"))
        })
    };
    let mut files = Files::new();
    if json {
        let json = Template::parse(release.template.as_bytes()).unwrap().to_json().unwrap();
        files.insert("template.json".into(), named(&json));
    } else {
        files.insert("template.yaml".into(), named(&release.template));
    }
    for document in &release.documents {
        files.insert(format!("documents/{}", document.path), named(&document.text));
    }
    let mut artifacts = String::new();
    let mut in_order: Vec<&Artifact> = plan.artifacts().collect();
    in_order.sort_by(|a, b| a.path.cmp(&b.path));
    for artifact in in_order {
        let path = if artifact.path.is_empty() { "." } else { &artifact.path };
        match artifact.content {
            Content::File => writeln!(artifacts, "{path}: a file of {} bytes, as it is", artifact.bytes).unwrap(),
            Content::Zip => {
                writeln!(artifacts, "{path}: a zip").unwrap();
                for (name, what) in entries(&zips[artifact.digest.as_str()]) {
                    writeln!(artifacts, "  {what}  {name}").unwrap();
                }
            }
        }
    }
    files.insert("artifacts.txt".into(), artifacts);
    if !warnings.is_empty() {
        files.insert("warnings.txt".into(), warnings.join("\n") + "\n");
    }
    files
}

fn read_folder(folder: &Path, prefix: &str, into: &mut Files) {
    let Ok(names) = fs::read_dir(folder) else { return };
    for entry in names {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            read_folder(&entry.path(), &format!("{name}/"), into);
        } else {
            into.insert(name, String::from_utf8(fs::read(entry.path()).unwrap()).unwrap());
        }
    }
}

fn bless(expected: &Path, files: &Files) {
    if expected.exists() {
        fs::remove_dir_all(expected).unwrap();
    }
    for (name, text) in files {
        let path = expected.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn show(text: Option<&String>) -> String {
    text.map_or("(none)".to_owned(), |text| text.escape_debug().to_string().replace("\\n", "\n"))
}

#[test]
fn every_case_gives_what_it_expects() {
    let mut faults = String::new();
    for folder in case::all() {
        let app = case::copy(&folder);
        let arguments = fs::read_to_string(folder.join("arguments.txt")).unwrap_or_default();
        let json = arguments.contains("--use-json");
        let packaged = case::from_folder(&app.path());
        let files = match &packaged {
            Ok(packaged) => render(packaged, json),
            Err(error) => {
                let root = app.path().canonicalize().unwrap().display().to_string();
                Files::from([("error.txt".into(), error.replace(&root, "…") + "\n")])
            }
        };
        let expected = folder.join("expected");
        #[allow(clippy::disallowed_methods, reason = "it is asked for from outside")]
        if std::env::var_os("SLIPWAY_BLESS").is_some() {
            bless(&expected, &files);
        }
        let mut held = Files::new();
        read_folder(&expected, "", &mut held);
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        for file in files.keys().chain(held.keys()).collect::<BTreeSet<_>>() {
            let (held, found) = (held.get(file), files.get(file));
            if held != found {
                let (held, found) = (show(held), show(found));
                write!(faults, "\n{name}/{file}\nexpected:\n{held}\nfound:\n{found}\n").unwrap();
            }
        }

        // A bundle's template has one name; with another, messages name another document.
        if case::template_name(&app.path()) != TEMPLATE {
            continue;
        }
        match (&packaged, case::from_bundle(&app.path(), "bucket")) {
            (Ok(command), Ok(function)) => {
                assert_eq!(command.release, function.release, "{name}");
                assert_eq!(render(command, json), render(&function, json), "{name}");
            }
            (Err(command), Err(function)) => assert_eq!(*command, function, "{name}"),
            (command, function) => panic!("{name}: {:?} but {:?}", command.as_ref().err(), function.err()),
        }
    }
    assert!(faults.is_empty(), "{faults}");
}
