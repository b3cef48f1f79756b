//! Reads a SAM or CloudFormation template, finds the local paths that it references, and puts S3 locations in their
//! place. Pure: no file, clock or network is touched.
//!
//! The template is never re-emitted. Its values are found with byte spans, and [`Template::rewrite`] splices the
//! source: comments, tags, quotes, order, line ends and a byte order mark stay as they were. What was written is parsed
//! again and must differ at the rewritten values only.
//!
//! Which properties are paths is one table, in `packageable.rs`.

mod error;
mod json;
mod node;
mod packageable;
mod references;
mod rewrite;
mod yaml;

use std::collections::BTreeMap;

pub use error::TemplateError;
pub use packageable::{LocationStyle, PackageForm};
pub use references::{Reference, ReferenceId};
pub use rewrite::S3Object;

use node::{At, Node};

/// CloudFormation's limit for a template that it reads from S3, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 1_000_000;

/// How deep mappings and sequences may be nested. CloudFormation has no documented limit; real templates stay below 30.
pub const MAX_DEPTH: usize = 100;

/// A parsed template: its source and the tree of its values, each with its place in the source.
#[derive(Debug, Clone)]
pub struct Template {
    source: String,
    root: Node,
}

/// One entry of a template's `Parameters`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The parameter's logical name.
    pub name: String,
    /// Whether it has a `Default`, so that a first deployment need not give it.
    pub has_default: bool,
    /// Whether its value must not be shown (`NoEcho`).
    pub no_echo: bool,
}

impl Template {
    /// Parses a template in YAML or JSON.
    ///
    /// # Errors
    /// [`TemplateError::TooLarge`] above [`MAX_TEMPLATE_BYTES`], [`TemplateError::NotUtf8`],
    /// [`TemplateError::Syntax`], [`TemplateError::DuplicateKey`], [`TemplateError::MultipleDocuments`],
    /// [`TemplateError::TooDeep`] below [`MAX_DEPTH`] levels, and [`TemplateError::NoResources`].
    pub fn parse(source: &[u8]) -> Result<Self, TemplateError> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(TemplateError::TooLarge { size: source.len() });
        }
        let source = std::str::from_utf8(source)
            .map_err(|error| TemplateError::NotUtf8 { offset: error.valid_up_to() })?
            .to_owned();
        let root = node::parse(&source)?;
        let template = Self { source, root };
        let anchors = template.anchors();
        let resources = At::new(&template.root, &anchors).child("Resources");
        if resources.is_none_or(|resources| resources.value.entries().is_empty()) {
            return Err(TemplateError::NoResources);
        }
        Ok(template)
    }

    /// The template's text as it was given.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The template's parameters, in document order.
    #[must_use]
    pub fn parameters(&self) -> Vec<Parameter> {
        let anchors = self.anchors();
        let Some(parameters) = At::new(&self.root, &anchors).child("Parameters") else {
            return Vec::new();
        };
        parameters
            .value
            .entries()
            .into_iter()
            .filter(|(name, _)| !name.starts_with("Fn::"))
            .map(|(name, parameter)| Parameter {
                name: name.to_owned(),
                has_default: parameter.child("Default").is_some(),
                no_echo: parameter
                    .child("NoEcho")
                    .and_then(|no_echo| no_echo.value.text().map(is_true))
                    .unwrap_or(false),
            })
            .collect()
    }

    /// Every local path that the template references, in document order: of resources, and of `Globals` and
    /// `Metadata` where these hold paths.
    ///
    /// S3 and https locations, mappings and intrinsic functions are no local paths and are left as they are, as is the
    /// code of functions that have `InlineCode` or `PackageType: Image`.
    ///
    /// # Errors
    /// [`TemplateError::Unsupported`] for a local path that this version cannot package,
    /// [`TemplateError::MissingPath`] for code that is not named, [`TemplateError::OutsideRoot`] for a path that
    /// leaves the application's folder, and [`TemplateError::Shared`] for a path that YAML aliases share.
    pub fn references(&self) -> Result<Vec<Reference>, TemplateError> {
        references::find(self)
    }

    /// The template with each reference's value replaced by its S3 object. Everything else is kept byte for byte.
    ///
    /// # Errors
    /// Those of [`Template::references`]; [`TemplateError::MissingLocation`] and [`TemplateError::UnknownReference`]
    /// when `locations` does not hold exactly the template's references; [`TemplateError::InvalidLocation`];
    /// [`TemplateError::TooLarge`] when the result is; [`TemplateError::NotFaithful`] when the result, parsed again,
    /// differs elsewhere.
    pub fn rewrite(&self, locations: &BTreeMap<ReferenceId, S3Object>) -> Result<String, TemplateError> {
        rewrite::rewrite(self, locations)
    }

    fn anchors(&self) -> node::Anchors<'_> {
        node::Anchors::of(&self.root)
    }
}

/// YAML 1.1's spellings of true, as CloudFormation reads them.
fn is_true(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "true" | "yes" | "on" | "y")
}
