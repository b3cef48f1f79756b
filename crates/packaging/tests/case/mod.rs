//! Packaging a case, both ways. Also a part of the tests on the embedded AWS.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;

use slipway_bundle::{Archive, Artifact, Folder, Limits, TEMPLATE, Tree};
use slipway_packaging::{Application, Plan, Release};
use slipway_template::{MAX_TEMPLATE_BYTES, S3Object};
use tempfile::TempDir;

/// Where the function puts the content of a digest.
pub(crate) fn object(bucket: &str, digest: &str) -> S3Object {
    let key = format!("artifacts/{digest}");
    S3Object { bucket: bucket.to_owned(), url: format!("https://s3.eu-central-1.amazonaws.com/{bucket}/{key}"), key }
}

/// The cases' folders, sorted.
pub(crate) fn all() -> Vec<PathBuf> {
    // The workspace's folder is one above tests/, and two above crates/packaging/.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder =
        here.ancestors().map(|folder| folder.join("crates/packaging/tests/cases")).find(|cases| cases.is_dir());
    let folder = folder.unwrap();
    let mut cases: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    assert!(cases.len() > 10, "{} cases", cases.len());
    cases
}

/// A copy of a case's application, gone when it is dropped.
pub(crate) struct App(TempDir);

impl App {
    /// Its folder, in another one of its own.
    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("app")
    }
}

/// Copies a case's application, and makes it whole by the case's setup.
pub(crate) fn copy(case: &Path) -> App {
    let app = App(tempfile::tempdir().unwrap());
    let done = Command::new("cp").arg("-a").arg(case.join("app")).arg(app.path()).status().unwrap();
    assert!(done.success());
    let setup = case.join("setup.sh");
    if setup.exists() {
        let done = Command::new("sh").arg("-e").arg(&setup).current_dir(app.path()).status().unwrap();
        assert!(done.success(), "{}", setup.display());
    }
    app
}

pub(crate) fn template_name(app: &Path) -> &'static str {
    ["template.yaml", "template.json", "template.yml"].into_iter().find(|name| app.join(name).exists()).unwrap()
}

/// What one way of packaging gave.
pub(crate) struct Packaged {
    pub(crate) release: Release,
    pub(crate) plan: Plan,
    pub(crate) zips: BTreeMap<String, Vec<u8>>,
    pub(crate) warnings: Vec<String>,
    /// The bundle, if it was made of one.
    pub(crate) bundle: Vec<u8>,
}

fn warnings(application: &Application) -> Vec<String> {
    let shown = application.warnings().into_iter();
    shown
        .map(|(path, warning)| format!("{path}, line {}, column {}: {}", warning.line, warning.column, warning.message))
        .collect()
}

fn open(app: &Path) -> Result<Folder, String> {
    let mut folder = Folder::open(app, &Limits::default()).map_err(|error| error.to_string())?;
    let ignore = app.join(".slipwayignore");
    if ignore.exists() {
        folder.ignore(&ignore).map_err(|error| error.to_string())?;
    }
    Ok(folder)
}

/// As the command does it.
pub(crate) fn from_folder(app: &Path) -> Result<Packaged, String> {
    let name = template_name(app);
    let folder = open(app)?;
    let source = fs::read(app.join(name)).unwrap();
    let application =
        Application::read(name, &source, |path, max| folder.read_file(path, max)).map_err(|error| error.to_string())?;
    let tree =
        folder.tree(&application.artifact_paths(), None).map_err(|error| application.explain(error).to_string())?;
    let plan = application.plan(tree.listing()).map_err(|error| error.to_string())?;
    let release = application.release(&plan, |digest| object("bucket", digest)).map_err(|error| error.to_string())?;
    let zips = written(&tree, &plan);
    Ok(Packaged { release, zips, warnings: warnings(&application), plan, bundle: Vec::new() })
}

fn written(tree: &Tree, plan: &Plan) -> BTreeMap<String, Vec<u8>> {
    let artifacts: Vec<&Artifact> = plan.artifacts().collect();
    let mut zips = BTreeMap::new();
    tree.write_artifacts(
        &artifacts,
        |_| Ok(Vec::new()),
        |artifact, bytes| {
            zips.insert(artifact.digest.to_string(), bytes);
            Ok(())
        },
    )
    .unwrap();
    zips
}

/// As job and function do it together.
pub(crate) fn from_bundle(app: &Path, bucket: &str) -> Result<Packaged, String> {
    let folder = open(app)?;
    let source = fs::read(app.join(TEMPLATE)).unwrap();
    let application = Application::read(TEMPLATE, &source, |path, max| folder.read_file(path, max))
        .map_err(|error| error.to_string())?;
    let tree =
        folder.tree(&application.paths(), Some(&source)).map_err(|error| application.explain(error).to_string())?;
    application.plan(tree.listing()).map_err(|error| error.to_string())?;
    let mut bundle = Vec::new();
    tree.write_zip(&mut bundle).unwrap();

    let mut archive = Archive::open(Cursor::new(&bundle), &Limits::default()).unwrap();
    let listing = archive.verify().unwrap();
    assert_eq!(listing.digest(), tree.listing().digest());
    let source = archive.read_file(TEMPLATE, MAX_TEMPLATE_BYTES as u64).unwrap();
    let application = Application::read(TEMPLATE, &source, |path, max| archive.read_file(path, max))
        .map_err(|error| error.to_string())?;
    let plan = application.plan(&listing).map_err(|error| error.to_string())?;
    let release = application.release(&plan, |digest| object(bucket, digest)).map_err(|error| error.to_string())?;
    let mut zips = BTreeMap::new();
    for artifact in plan.artifacts() {
        let mut bytes = Vec::new();
        let written = archive.write_artifact(artifact, &mut bytes).unwrap();
        assert_eq!((written, archive.artifact_size(artifact)), (bytes.len() as u64, bytes.len() as u64));
        zips.insert(artifact.digest.to_string(), bytes);
    }
    Ok(Packaged { release, zips, warnings: warnings(&application), plan, bundle })
}
