//! What of a folder is read, what is left out, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod fixture;

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use slipway_bundle::{BundleError, Folder, Form, Limits};

use crate::fixture::{folder, owned, paths, read, write};

/// The paths in the tree of `references`, with what `patterns` say left out.
fn kept(root: &Path, patterns: &str, references: &[&str]) -> Result<Vec<String>, BundleError> {
    let file = root.join(".slipwayignore");
    fs::write(&file, patterns).unwrap();
    let mut folder = Folder::open(root, &Limits::default())?;
    folder.ignore(&file)?;
    let tree = folder.tree(&owned(references), None)?;
    Ok(tree.listing().entries().iter().map(|entry| entry.path.clone()).collect())
}

#[test]
fn the_digest_is_of_what_counts_and_of_nothing_else() {
    let files = [("src/a", &b"1"[..], false), ("src/b/c", b"2", false)];
    let root = folder(&files);
    let digest = || read(root.path(), &["src"]).unwrap().listing().digest();
    let before = digest();

    // A copy that was made in another order has the same.
    let copy = folder(&[files[1], files[0]]);
    assert_eq!(read(copy.path(), &["src"]).unwrap().listing().digest(), before);
    // Times do not count, not even those before the zip format's first.
    let a = root.path().join("src/a");
    for time in [SystemTime::UNIX_EPOCH - Duration::from_secs(86_400), SystemTime::UNIX_EPOCH + Duration::from_secs(1)]
    {
        File::options().write(true).open(&a).unwrap().set_modified(time).unwrap();
        assert_eq!(digest(), before);
        assert!(fixture::verified(&fixture::zip(&read(root.path(), &["src"]).unwrap())).is_ok());
    }
    // Of the mode, only whether the owner may execute it.
    fs::set_permissions(&a, fs::Permissions::from_mode(0o604)).unwrap();
    assert_eq!(digest(), before);
    fs::set_permissions(&a, fs::Permissions::from_mode(0o744)).unwrap();
    let executable = digest();
    assert_ne!(executable, before);
    fs::set_permissions(&a, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(digest(), before);
    // One byte, one name, one file more.
    fs::write(&a, "3").unwrap();
    assert_ne!(digest(), before);
    fs::rename(&a, root.path().join("src/d")).unwrap();
    fs::write(root.path().join("src/d"), "1").unwrap();
    assert_ne!(digest(), before);
    fs::write(&a, "1").unwrap();
    assert_ne!(digest(), before);
}

#[test]
fn git_and_sams_cache_are_left_out_and_nothing_else() {
    let root = folder(&[
        ("src/a", b"", false),
        ("src/.git/HEAD", b"", false),
        ("src/sub/.git", b"gitdir: elsewhere", false),
        ("src/.gitignore", b"", false),
        ("src/.aws-sam/cache/x", b"", false),
        ("src/.aws-sam/build/x", b"", false),
        ("src/cache/x", b"", false),
        ("src/node_modules/x", b"", false),
        ("src/.env", b"", false),
    ]);
    let expected = ["src/.aws-sam/build/x", "src/.env", "src/.gitignore", "src/a", "src/cache/x", "src/node_modules/x"];
    assert_eq!(kept(root.path(), "", &["src"]).unwrap(), expected);
    // But what is referenced itself is not.
    assert_eq!(
        kept(root.path(), "", &["src/.aws-sam/cache", "src/.git"]).unwrap(),
        ["src/.aws-sam/cache/x", "src/.git/HEAD"]
    );
}

#[test]
fn patterns_leave_out_what_git_would_ignore() {
    let root = folder(&[
        ("a.pyc", b"", false),
        ("keep.pyc", b"", false),
        ("src/a.py", b"", false),
        ("src/a.pyc", b"", false),
        ("src/build/x", b"", false),
        ("src/deep/build/x", b"", false),
        ("src/docs", b"", false),
        ("lib/docs/x", b"", false),
        ("lib/é x", b"", false),
        ("#a", b"", false),
    ]);
    let rest = ["#a", ".slipwayignore", "a.pyc", "keep.pyc", "lib/docs/x", "lib/é x", "src/a.py", "src/a.pyc"];
    let rest: Vec<&str> = [&rest[..], &["src/build/x", "src/deep/build/x", "src/docs"]].concat();
    for (patterns, gone) in [
        ("", &[][..]),
        ("# a comment\r\n\r\n*.pyc\r\n!keep.pyc\r\n", &["a.pyc", "src/a.pyc"]),
        ("\u{feff}*.pyc", &["a.pyc", "keep.pyc", "src/a.pyc"]),
        ("/*.pyc", &["a.pyc", "keep.pyc"]),
        ("docs/", &["lib/docs/x"]),
        ("build", &["src/build/x", "src/deep/build/x"]),
        ("/src/build", &["src/build/x"]),
        ("src/**/x\n!src/build/x", &["src/deep/build/x"]),
        ("\\#a\nlib/é\\ *", &["#a", "lib/é x"]),
        ("[a-k]*.pyc", &["a.pyc", "keep.pyc", "src/a.pyc"]),
        // What is in a folder that is left out cannot be brought back.
        ("build/\n!src/build/x", &["src/build/x", "src/deep/build/x"]),
    ] {
        let expected: Vec<&str> = rest.iter().filter(|path| !gone.contains(path)).copied().collect();
        assert_eq!(kept(root.path(), patterns, &["."]).unwrap(), expected, "{patterns:?}");
    }
}

#[test]
fn what_is_referenced_itself_is_never_left_out() {
    let root = folder(&[("build/f/a.py", b"", false), ("build/f/a.pyc", b"", false), ("x.pyc", b"", false)]);
    assert_eq!(kept(root.path(), "build\n*.pyc", &["build/f", "x.pyc"]).unwrap(), ["build/f/a.py", "x.pyc"]);
    let empty = kept(root.path(), "a.*", &["build/f"]).unwrap_err();
    assert!(matches!(&empty, BundleError::ReferenceEmpty { path } if path == "build/f"), "{empty}");
}

#[test]
fn what_is_left_out_is_not_looked_at() {
    let root = folder(&[("src/a", b"", false)]);
    symlink("nothing", root.path().join("src/dangling")).unwrap();
    symlink("/etc", root.path().join("src/outside")).unwrap();
    symlink("../real", root.path().join("src/link")).unwrap();
    write(root.path(), "real/x", b"", false);
    fs::write(root.path().join("src").join(std::ffi::OsStr::from_bytes(b"b\xff")), "").unwrap();
    assert_eq!(kept(root.path(), "dangling\noutside\nb*\n", &["src"]).unwrap(), ["src/a", "src/link/x"]);
    assert_eq!(kept(root.path(), "dangling\noutside\nb*\nlink/\n", &["src"]).unwrap(), ["src/a"]);
}

#[test]
fn a_bad_pattern_is_told_with_its_line() {
    let root = folder(&[("src/a", b"", false)]);
    for (patterns, at) in [("*.pyc\n\n[z-a]\n", 3), ("{a", 1), ("a[\n", 1), ("x\na\\", 2)] {
        let error = kept(root.path(), patterns, &["src"]).unwrap_err();
        assert!(matches!(&error, BundleError::BadPattern { line, .. } if *line == at), "{patterns:?}: {error}");
        assert!(error.to_string().contains(".slipwayignore, line "), "{error}");
    }
    let mut folder = Folder::open(root.path(), &Limits::default()).unwrap();
    assert!(matches!(folder.ignore(&root.path().join("no")), Err(BundleError::Io { .. })));
}

#[test]
fn links_inside_are_followed_and_others_refused() {
    let outside = folder(&[("secret", b"s", false)]);
    let root = folder(&[("real/a", b"1", true), ("real/sub/b", b"2", false), ("src/c", b"3", false)]);
    let at = |path: &str| root.path().join(path);
    let src = || read(root.path(), &["src"]);
    symlink("../real", at("src/link")).unwrap();
    symlink("link/a", at("src/file")).unwrap();
    symlink("src", at("entry")).unwrap();
    let tree = src().unwrap();
    let entries = tree.listing().entries();
    assert_eq!(paths(entries), ["src/c", "src/file", "src/link/a", "src/link/sub/b", "template.yaml"]);
    assert!(entries[1].executable && entries[2].executable, "as what the link leads to");
    let through = read(root.path(), &["entry/link/sub"]).unwrap();
    assert_eq!(paths(through.listing().entries()), ["entry/link/sub/b", "template.yaml"]);
    let direct = read(root.path(), &["real/sub"]).unwrap();
    assert_eq!(
        direct.listing().artifact("real/sub", Form::Zip).unwrap().digest,
        through.listing().artifact("entry/link/sub", Form::Zip).unwrap().digest
    );

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
fn links_that_multiply_folders_meet_the_limit() {
    // Each folder has two ways into the next: twice as many paths on each level, without a loop.
    let root = folder(&[("l40/x", b"", false)]);
    for level in (0..40).rev() {
        let here = root.path().join(format!("l{level}"));
        fs::create_dir(&here).unwrap();
        for name in ["a", "b"] {
            symlink(format!("../l{}", level + 1), here.join(name)).unwrap();
        }
    }
    let limits = Limits { max_entries: 1000, ..Limits::default() };
    let found = Folder::open(root.path(), &limits).unwrap().tree(&owned(&["l0"]), None);
    assert!(matches!(found, Err(BundleError::TooManyEntries { limit: 1000 })));
}

#[test]
fn what_cannot_be_packaged_is_refused_by_name() {
    let root = folder(&[("src/a", b"1", false)]);
    for missing in ["src/b", "src/a/b", "b/c", "src/a/b/c"] {
        let found = read(root.path(), &[missing]);
        assert!(matches!(found, Err(BundleError::ReferenceMissing { path }) if path == missing), "{missing}");
    }
    for outside in ["../x", "/etc", "src/../../x"] {
        assert!(matches!(read(root.path(), &[outside]), Err(BundleError::OutsideRoot { .. })), "{outside}");
    }
    assert!(matches!(read(&root.path().join("no"), &[]), Err(BundleError::Io { .. })));
    fs::create_dir(root.path().join("empty")).unwrap();
    assert!(
        matches!(read(root.path(), &["src", "empty"]), Err(BundleError::ReferenceEmpty { path }) if path == "empty")
    );

    let special = |name: &str| {
        let found = read(root.path(), &["src"]);
        assert!(matches!(found, Err(BundleError::SpecialFile { path }) if path == format!("src/{name}")));
        let found = read(root.path(), &[&format!("src/{name}")]);
        assert!(matches!(found, Err(BundleError::SpecialFile { .. })));
        fs::remove_file(root.path().join("src").join(name)).unwrap();
    };
    let socket = std::os::unix::net::UnixListener::bind(root.path().join("src/socket")).unwrap();
    special("socket");
    drop(socket);
    assert!(Command::new("mkfifo").arg(root.path().join("src/pipe")).status().unwrap().success());
    special("pipe");

    let name = std::ffi::OsStr::from_bytes(b"b\xff");
    fs::write(root.path().join("src").join(name), "x").unwrap();
    assert!(matches!(read(root.path(), &["src"]), Err(BundleError::NameNotUtf8 { path }) if path == "src/b\u{fffd}"));
    fs::remove_file(root.path().join("src").join(name)).unwrap();
    for name in ["a\\b", "a\nb"] {
        fs::write(root.path().join("src").join(name), "x").unwrap();
        assert!(matches!(read(root.path(), &["src"]), Err(BundleError::UnsafePath { .. })), "{name}");
        fs::remove_file(root.path().join("src").join(name)).unwrap();
    }
    assert!(read(root.path(), &["src"]).is_ok());
}

#[test]
fn one_file_is_read_within_the_same_bounds() {
    let root = folder(&[("src/child.yaml", b"Resources", false), ("src/.git/x", b"x", false)]);
    symlink("/etc/hostname", root.path().join("out")).unwrap();
    symlink("src", root.path().join("link")).unwrap();
    let folder = Folder::open(root.path(), &Limits::default()).unwrap();
    let read = |path: &str| folder.read_file(path, 9);
    assert_eq!(read("./src/../link//child.yaml").unwrap(), b"Resources");
    assert_eq!(read("src/.git/x").unwrap(), b"x");
    let large = folder.read_file("src/child.yaml", 8).unwrap_err();
    assert!(matches!(&large, BundleError::EntryTooLarge { path, size: 9, limit: 8 } if path == "src/child.yaml"));
    assert!(large.is_limit());
    assert!(matches!(read("src"), Err(BundleError::FolderReferenced { path }) if path == "src"));
    assert!(matches!(read("src/none"), Err(BundleError::ReferenceMissing { path }) if path == "src/none"));
    for outside in ["out", "../x", "/etc/hostname"] {
        assert!(matches!(read(outside), Err(BundleError::OutsideRoot { .. })), "{outside}");
    }
}
