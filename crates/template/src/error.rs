//! What can be wrong with a template.

use crate::{MAX_DEPTH, MAX_TEMPLATE_BYTES};

/// Why a template cannot be read, packaged or rewritten. Lines and columns count from one, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The template is larger than CloudFormation reads.
    #[error(
        "the template has {size} bytes, CloudFormation reads at most {MAX_TEMPLATE_BYTES}: split it into nested stacks"
    )]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// The template is larger than CloudFormation reads once its aliases are written out.
    #[error(
        "written as JSON, with its YAML aliases and merges written out, the template has more than the \
         {MAX_TEMPLATE_BYTES} bytes that CloudFormation reads: use fewer aliases, or split it into nested stacks"
    )]
    TooLargeAsJson,
    /// The template is not UTF-8.
    #[error("the template is not UTF-8 text (first bad byte at offset {offset}): save it as UTF-8")]
    NotUtf8 {
        /// Where the first bad byte is, counted from zero.
        offset: usize,
    },
    /// The template is neither YAML nor JSON.
    #[error("line {line}, column {column}: the template cannot be read: {reason}")]
    Syntax {
        /// Line of the fault.
        line: usize,
        /// Column of the fault.
        column: usize,
        /// What the parser found.
        reason: String,
    },
    /// A mapping has the same key twice; which one counts would be a guess.
    #[error("line {line}, column {column}: the key `{key}` is there already, on line {first_line}: remove one of them")]
    DuplicateKey {
        /// The key.
        key: String,
        /// Line of the second one.
        line: usize,
        /// Column of the second one.
        column: usize,
        /// Line of the first one.
        first_line: usize,
    },
    /// The file has more than one YAML document.
    #[error("line {line}: a second YAML document begins here: a template is one document")]
    MultipleDocuments {
        /// Line where the second document begins.
        line: usize,
    },
    /// Mappings and sequences are nested too deep.
    #[error("line {line}, column {column}: values are nested deeper than {MAX_DEPTH} levels: flatten the template")]
    TooDeep {
        /// Line of the value.
        line: usize,
        /// Column of the value.
        column: usize,
    },
    /// The template has no resources.
    #[error("the template has no `Resources`: a template is a mapping with at least one resource in that section")]
    NoResources,
    /// A file that `AWS::Include` brings in is no mapping, but its text lands in one.
    #[error(
        "line {line}: the file is no mapping: `AWS::Include` puts its keys and values where it stands, write them at the \
         top of the file"
    )]
    NotAMapping {
        /// Line of its value.
        line: usize,
    },
    /// The template asks for something that cannot be packaged.
    #[error("line {line}: {resource}: `{property}` is {what}")]
    Unsupported {
        /// Logical id of the resource, or the section.
        resource: String,
        /// The property.
        property: String,
        /// What it is, and what to do.
        what: String,
        /// Line of the value.
        line: usize,
    },
    /// A resource does not say where its code is.
    #[error(
        "line {line}: {resource} has no `{property}`: name the folder or file with its code (the whole folder of the \
         template is `{property}: .`)"
    )]
    MissingPath {
        /// Logical id of the resource.
        resource: String,
        /// The property that is missing.
        property: String,
        /// Line of the resource.
        line: usize,
    },
    /// A path is shared through a YAML anchor, so that rewriting it would change other values as well.
    #[error(
        "line {line}, column {column}: {resource}: `{property}` is shared through a YAML anchor and alias: write the \
         path out where it is used"
    )]
    Shared {
        /// Logical id of the resource, or the section.
        resource: String,
        /// The property.
        property: String,
        /// Line of the alias, the merge or the anchor.
        line: usize,
        /// Column of the alias, the merge or the anchor.
        column: usize,
    },
    /// A value is written in a way that cannot be spliced.
    #[error(
        "line {line}, column {column}: {resource}: `{property}` cannot be rewritten here: write the path on one line"
    )]
    NotSpliceable {
        /// Logical id of the resource, or the section.
        resource: String,
        /// The property.
        property: String,
        /// Line of the value.
        line: usize,
        /// Column of the value.
        column: usize,
    },
    /// There must be one S3 object for each reference.
    #[error("{given} S3 locations were given for the {expected} local paths of the template")]
    WrongCount {
        /// How many references the template has.
        expected: usize,
        /// How many objects were given.
        given: usize,
    },
    /// An S3 object's bucket, key or address cannot be written into a template.
    #[error(
        "`{location}` cannot be written into a template: a bucket has letters, digits, `.` and `-`, a key has letters, \
         digits and `/!-_.*'()` here, and an address begins with https:// and has `:%~` besides"
    )]
    InvalidLocation {
        /// The object's address.
        location: String,
    },
    /// The rewritten template is not what was meant.
    #[error(
        "line {line}: rewriting the template would have changed more than the paths, so that it was not done: write \
         the value on this line in a simpler way"
    )]
    NotFaithful {
        /// Line in the original where the difference is.
        line: usize,
    },
}

impl TemplateError {
    /// Whether a limit was exceeded, of this crate or of CloudFormation.
    #[must_use]
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::TooDeep { .. } | Self::TooLargeAsJson)
    }
}
