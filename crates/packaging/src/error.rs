//! What can be wrong with an application.

use std::{fmt, io};

use slipway_bundle::{BundleError, LAMBDA_CODE_BYTES};
use slipway_domain::ErrorName;
use slipway_template::{Reference, TemplateError};

use crate::{MAX_DOCUMENTS, MAX_NESTING};

/// Where a template names something: in which document, on which line, as which property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The template, or the file that `AWS::Include` brings in: its path below the application's folder.
    pub document: String,
    /// Line, counted from one.
    pub line: usize,
    /// Column in characters, counted from one.
    pub column: usize,
    /// Logical id of the resource, or the section.
    pub resource: String,
    /// The property, dotted.
    pub property: String,
}

impl Site {
    pub(crate) fn of(document: &str, reference: &Reference) -> Box<Self> {
        let Reference { line, column, .. } = *reference;
        let (resource, property) = (reference.resource.clone(), reference.property.clone());
        Box::new(Self { document: document.to_owned(), line, column, resource, property })
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { document, line, column, resource, property } = self;
        write!(f, "{document}, line {line}, column {column}: {resource}: `{property}`")
    }
}

/// Why an application cannot be packaged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackagingError {
    /// A document cannot be read, or asks for what cannot be packaged.
    #[error("{document}: {error}")]
    Template {
        /// The document's path below the application's folder.
        document: String,
        /// What is wrong, with line and column.
        error: TemplateError,
    },
    /// What a template names cannot be packaged.
    #[error("{site}: {error}")]
    Path {
        /// Where it is named.
        site: Box<Site>,
        /// What is wrong with it.
        error: BundleError,
    },
    /// The application's files cannot be packaged, whatever names them.
    #[error(transparent)]
    Files(BundleError),
    /// A template contains itself.
    #[error("{site}: `{path}` contains itself: take one of the references out")]
    Cycle {
        /// Where it is named.
        site: Box<Site>,
        /// The document that is there already.
        path: String,
    },
    /// Templates are nested too deep.
    #[error("{site}: templates and included files are nested deeper than {MAX_NESTING} levels: flatten them")]
    TooDeep {
        /// Where the next one is named.
        site: Box<Site>,
    },
    /// There are too many templates.
    #[error("{site}: there are more than {MAX_DOCUMENTS} nested templates and included files: split the application")]
    TooManyDocuments {
        /// Where the next one is named.
        site: Box<Site>,
    },
    /// Code that Lambda refuses.
    #[error(
        "{site}: `{path}` has {bytes} bytes unzipped, Lambda takes at most {LAMBDA_CODE_BYTES} (250 MB): leave out what \
         is not needed at run time, or use a container image"
    )]
    CodeTooLarge {
        /// Where it is named.
        site: Box<Site>,
        /// The folder or file.
        path: String,
        /// Its size in bytes.
        bytes: u64,
    },
}

impl PackagingError {
    /// The name of the closed set under which it is told.
    #[must_use]
    pub fn name(&self) -> ErrorName {
        match self {
            Self::Template { error, .. } if error.is_limit() => ErrorName::LimitExceeded,
            Self::Path { error, .. } | Self::Files(error) if error.is_limit() => ErrorName::LimitExceeded,
            Self::TooDeep { .. } | Self::TooManyDocuments { .. } | Self::CodeTooLarge { .. } => {
                ErrorName::LimitExceeded
            }
            Self::Files(BundleError::TemplateMissing) => ErrorName::TemplateInvalid,
            Self::Files(_) => ErrorName::BundleInvalid,
            Self::Template { .. } | Self::Path { .. } | Self::Cycle { .. } => ErrorName::TemplateInvalid,
        }
    }

    /// What reading said, if that is what failed: nothing is wrong with the application then.
    #[must_use]
    pub fn reading(&self) -> Option<&io::Error> {
        match self {
            Self::Path { error: BundleError::Io { source, .. }, .. } | Self::Files(BundleError::Io { source, .. }) => {
                Some(source)
            }
            Self::Template { .. }
            | Self::Path { .. }
            | Self::Files(_)
            | Self::Cycle { .. }
            | Self::TooDeep { .. }
            | Self::TooManyDocuments { .. }
            | Self::CodeTooLarge { .. } => None,
        }
    }

    /// Why the document at `path` cannot be read. One that is too large is a template that is too large.
    #[must_use]
    pub fn of_document(path: &str, error: BundleError) -> Self {
        if let BundleError::EntryTooLarge { size, .. } = error {
            let error = TemplateError::TooLarge { size: usize::try_from(size).unwrap_or(usize::MAX) };
            return Self::Template { document: path.to_owned(), error };
        }
        Self::Files(error)
    }
}

impl From<BundleError> for PackagingError {
    fn from(error: BundleError) -> Self {
        Self::Files(error)
    }
}
