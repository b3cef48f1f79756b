//! The bundle: reading what the template references, keeping that in a file, and sending it if it is not there.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, Client, StatusCode};
use slipway_bundle::{Archive, Limits, Listing, TEMPLATE, Tree};
use slipway_domain::ErrorName;
use slipway_domain::names::Digest;
use slipway_domain::protocol::{MAX_BUNDLE_BYTES, Upload};
use slipway_domain::release::TemplateParameter;
use slipway_packaging::{Application, PackagingError};
use slipway_template::MAX_TEMPLATE_BYTES;
use tempfile::NamedTempFile;

use crate::application::Read;
use crate::error::CliError;
use crate::http;

/// Bytes written at a time: entries are written one by one, and most are small.
const BUFFER: usize = 256 * 1024;
/// How often an upload is tried.
const TRIES: u32 = 3;
/// Where `sam build` leaves the template.
const BUILT: &str = ".aws-sam/build/template.yaml";
const NAMES: [&str; 3] = ["template.yaml", "template.yml", "template.json"];

/// What is deployed.
pub(crate) struct Bundle {
    /// Its address.
    pub(crate) digest: Digest,
    /// The parameters that its template declares.
    pub(crate) parameters: Vec<TemplateParameter>,
    /// How many files it has.
    pub(crate) files: usize,
    /// How many bytes they have, not compressed.
    pub(crate) bytes: u64,
    content: Content,
}

/// Where a bundle's files are.
enum Content {
    /// In the application's folder.
    Folder(Tree),
    /// In a zip that an earlier job made.
    Zip(PathBuf),
}

/// The template, if it is not named: what `sam build` made, else the source.
pub(crate) fn template(named: Option<PathBuf>) -> Result<PathBuf, CliError> {
    let found = named.or_else(|| std::iter::once(BUILT).chain(NAMES).map(PathBuf::from).find(|path| path.is_file()));
    found.ok_or_else(|| {
        CliError::Usage(format!(
            "there is no template here: looked for {BUILT} and {}; use --template",
            NAMES.join(", ")
        ))
    })
}

impl Bundle {
    /// Reads the template and every file that it references. It takes a while, and all cores. Gives also what a person
    /// should know of the template.
    pub(crate) fn read(template: &Path) -> Result<(Self, Vec<String>), CliError> {
        let Read { folder, source, application, .. } = Read::from(template)?;
        let tree = folder.tree(&application.paths(), Some(&source)).map_err(|error| application.explain(error))?;
        let listing = tree.listing().clone();
        Ok((Self::of(&application, &listing, Content::Folder(tree))?, crate::application::warnings(&application)))
    }

    /// Reads a bundle that [`Bundle::write`] wrote: what it holds is digested anew, and nothing that its name says is believed.
    pub(crate) fn open(zip: &Path) -> Result<(Self, Vec<String>), CliError> {
        let reading = |error: std::io::Error| CliError::Usage(format!("reading the bundle {}: {error}", zip.display()));
        let mut archive = Archive::open(File::open(zip).map_err(reading)?, &Limits::default())?;
        let listing = archive.verify()?;
        let template = archive
            .read_file(TEMPLATE, MAX_TEMPLATE_BYTES as u64)
            .map_err(|error| PackagingError::of_document(TEMPLATE, error))?;
        let application = Application::read(TEMPLATE, &template, |path, limit| archive.read_file(path, limit))?;
        let content = Content::Zip(zip.to_path_buf());
        Ok((Self::of(&application, &listing, content)?, crate::application::warnings(&application)))
    }

    fn of(application: &Application, listing: &Listing, content: Content) -> Result<Self, CliError> {
        let digest = Digest::new(listing.digest().as_str())
            .map_err(|error| CliError::named(ErrorName::Internal, error.to_string()))?;
        // What cannot be packaged is said here, and not only when it was sent.
        application.plan(listing)?;
        let (files, bytes) = (listing.entries().len(), listing.total_bytes());
        Ok(Self { digest, parameters: application.parameters(), files, bytes, content })
    }

    /// Its zip, in a file. It takes a while, and all cores, where it has to be deflated: then the file goes when it is dropped.
    pub(crate) fn zip(&self) -> Result<Zip, CliError> {
        let zip = match &self.content {
            Content::Folder(tree) => {
                let file = NamedTempFile::new().map_err(|error| CliError::local("making a temporary file", error))?;
                let bytes = tree.write_zip(BufWriter::with_capacity(BUFFER, file.as_file()))?;
                Zip { file: ZipFile::Ours(file), bytes }
            }
            Content::Zip(path) => {
                let known = std::fs::metadata(path).map_err(|error| CliError::local("reading the bundle", error))?;
                Zip { file: ZipFile::Theirs(path.clone()), bytes: known.len() }
            }
        };
        if zip.bytes > MAX_BUNDLE_BYTES {
            let message = format!("the bundle has {} bytes; the limit is {MAX_BUNDLE_BYTES}", zip.bytes);
            return Err(CliError::named(ErrorName::LimitExceeded, message));
        }
        Ok(zip)
    }

    /// Writes its zip to `path`. Gives its size.
    pub(crate) fn write(&self, path: &Path) -> Result<u64, CliError> {
        let zip = self.zip()?;
        let writing = |error: std::io::Error| CliError::local(format!("writing {}", path.display()), error);
        let mut to = File::create(path).map_err(writing)?;
        std::io::copy(&mut zip.open()?, &mut to).map_err(writing)
    }
}

/// A written bundle.
pub(crate) struct Zip {
    file: ZipFile,
    /// Its size.
    pub(crate) bytes: u64,
}

/// Whose file it is in.
enum ZipFile {
    /// One that goes when it is dropped.
    Ours(NamedTempFile),
    /// One that was given.
    Theirs(PathBuf),
}

impl Zip {
    fn open(&self) -> Result<File, CliError> {
        let opened = match &self.file {
            ZipFile::Ours(file) => file.reopen(),
            ZipFile::Theirs(path) => File::open(path),
        };
        opened.map_err(|error| CliError::local("reading the bundle", error))
    }

    /// Sends it. The URL is a right to upload, and is in no message.
    pub(crate) async fn send(&self, client: &Client, upload: &Upload) -> Result<(), CliError> {
        let mut delay = Duration::from_millis(500);
        let mut tried = 1;
        loop {
            match self.try_send(client, upload).await {
                Err(error) if error.is_transient() && tried < TRIES => {
                    tokio::time::sleep(delay).await;
                    delay *= 4;
                    tried += 1;
                }
                sent => return sent,
            }
        }
    }

    async fn try_send(&self, client: &Client, upload: &Upload) -> Result<(), CliError> {
        let mut request = client.put(&upload.url).body(Body::from(tokio::fs::File::from_std(self.open()?)));
        for (name, value) in &upload.headers {
            request = request.header(name, value);
        }
        // S3 takes no body of unknown length.
        if !upload.headers.keys().any(|name| name.eq_ignore_ascii_case("content-length")) {
            request = request.header(CONTENT_LENGTH, self.bytes);
        }
        let failed = |message: String, transient| CliError::Remote {
            call: "uploading the bundle",
            code: String::new(),
            message,
            transient,
        };
        let answer = request.send().await.map_err(|error| failed(http::why(error), true))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let transient = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        let body = answer.text().await.unwrap_or_default();
        Err(failed(format!("S3 answered {status} {}", s3_code(&body)), transient))
    }
}

/// The error's code in S3's XML. The rest of it repeats what was signed.
fn s3_code(body: &str) -> &str {
    let code = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    code.unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    const TEMPLATE: &str =
        "Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties:\n      CodeUri: src/\n";

    #[test]
    fn only_what_the_template_references_is_bundled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("template.yaml");
        std::fs::create_dir(folder.path().join("src")).unwrap();
        std::fs::write(folder.path().join("src/app.py"), "x").unwrap();
        std::fs::write(folder.path().join("secret.txt"), "y").unwrap();
        std::fs::write(&path, TEMPLATE).unwrap();
        let (bundle, _) = Bundle::read(&path).unwrap();
        assert_eq!(bundle.files, 2);
        let zip = bundle.zip().unwrap();
        assert_eq!(zip.bytes, zip.open().unwrap().metadata().unwrap().len());
        assert_eq!(Bundle::read(&path).unwrap().0.digest, bundle.digest);
    }

    #[test]
    fn what_was_kept_in_a_file_is_the_same_bundle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("template.yaml");
        std::fs::create_dir(folder.path().join("src")).unwrap();
        std::fs::write(folder.path().join("src/app.py"), "x").unwrap();
        std::fs::write(&path, format!("Parameters:\n  P:\n    Type: String\n{TEMPLATE}")).unwrap();
        let (read, _) = Bundle::read(&path).unwrap();
        let kept = folder.path().join("kept.zip");
        let bytes = read.write(&kept).unwrap();
        let (opened, _) = Bundle::open(&kept).unwrap();
        assert_eq!((&opened.digest, opened.files, opened.bytes), (&read.digest, 2, read.bytes));
        assert_eq!(opened.parameters.len(), 1);
        assert_eq!(opened.zip().unwrap().bytes, bytes);
        let mut changed = std::fs::read(&kept).unwrap();
        changed.truncate(changed.len() - 1);
        std::fs::write(&kept, changed).unwrap();
        assert_eq!(Bundle::open(&kept).err().unwrap().name(), Some(ErrorName::BundleInvalid));
        assert_eq!(Bundle::open(&folder.path().join("none.zip")).err().unwrap().exit_code(), 2);
    }

    #[test]
    fn what_cannot_be_bundled_has_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("template.yaml");
        let fails = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Bundle::read(&path).err().unwrap().name()
        };
        assert_eq!(fails("a: ["), Some(ErrorName::TemplateInvalid));
        assert_eq!(fails(TEMPLATE), Some(ErrorName::TemplateInvalid));
        assert_eq!(Bundle::read(&folder.path().join("none.yaml")).err().unwrap().exit_code(), 2);
    }

    #[test]
    fn only_the_code_of_s3s_answer_is_shown() {
        assert_eq!(s3_code("<Error><Code>AccessDenied</Code><Signature>abc</Signature></Error>"), "AccessDenied");
        assert_eq!(s3_code("<html>"), "");
    }
}
