//! An application in a folder.

use std::path::{Path, PathBuf};

use slipway_aws::{AwsError, Kind};
use slipway_bundle::{BundleError, Folder, Limits};
use slipway_packaging::{Application, PackagingError};

use crate::error::CliError;

/// The file whose patterns say what is left out.
const IGNORE: &str = ".slipwayignore";

/// An application as it was read.
pub(crate) struct Read {
    /// The template's folder: nothing outside it is read.
    pub(crate) folder: Folder,
    /// The template's bytes.
    pub(crate) source: Vec<u8>,
    pub(crate) application: Application,
}

impl Read {
    /// Reads `template`, and what it contains.
    pub(crate) fn from(template: &Path) -> Result<Self, CliError> {
        let reading =
            |error: std::io::Error| CliError::Usage(format!("reading the template {}: {error}", template.display()));
        let source = std::fs::read(template).map_err(reading)?;
        let root = match template.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            Some(_) | None => Path::new("."),
        };
        let mut folder = Folder::open(root, &Limits::default())?;
        if let Some(file) = ignore_file(root) {
            folder.ignore(&file)?;
        }
        let name = template.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let application = Application::read(&name, &source, |path, limit| folder.read_file(path, limit))?;
        Ok(Self { folder, source, application })
    }
}

/// The ignore file of the template's folder, or of the project whose build that folder is.
fn ignore_file(root: &Path) -> Option<PathBuf> {
    let built = root.ends_with(".aws-sam/build").then(|| root.join("../.."));
    [Some(root.to_path_buf()), built]
        .into_iter()
        .flatten()
        .map(|folder| folder.join(IGNORE))
        .find(|file| file.is_file())
}

/// What a person should know of the application's templates.
pub(crate) fn warnings(application: &Application) -> Vec<String> {
    let shown = application.warnings().into_iter().map(|(document, warning)| {
        format!("Warning: {document}, line {}, column {}: {}", warning.line, warning.column, warning.message)
    });
    shown.collect()
}

impl From<BundleError> for CliError {
    fn from(error: BundleError) -> Self {
        PackagingError::from(error).into()
    }
}

impl From<PackagingError> for CliError {
    fn from(error: PackagingError) -> Self {
        match error.reading().map(AwsError::from_io) {
            Some(Some(aws)) => aws.into(),
            Some(None) => Self::local("packaging", error),
            None => Self::named(error.name(), error.to_string()),
        }
    }
}

impl From<AwsError> for CliError {
    fn from(error: AwsError) -> Self {
        let transient = matches!(error.kind, Kind::Throttled | Kind::Unavailable);
        let message =
            if error.message.is_empty() { error.code.clone() } else { format!("{}: {}", error.code, error.message) };
        Self::Remote { call: error.call, code: error.code, message, transient }
    }
}
