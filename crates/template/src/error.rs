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
    /// A path leaves the application's folder.
    #[error(
        "line {line}, column {column}: {resource}: `{property}: {path}` leaves the application's folder: only what is \
         inside is packaged; move it there, or build it into that folder"
    )]
    OutsideRoot {
        /// Logical id of the resource, or the section.
        resource: String,
        /// The property.
        property: String,
        /// The path as written.
        path: String,
        /// Line of the value.
        line: usize,
        /// Column of the value.
        column: usize,
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
        /// Line of the alias or anchor.
        line: usize,
        /// Column of the alias or anchor.
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
    /// No S3 object was given for a reference.
    #[error("no S3 location was given for {resource}'s `{property}`")]
    MissingLocation {
        /// Logical id of the resource, or the section.
        resource: String,
        /// The property.
        property: String,
    },
    /// An S3 object was given for something that the template does not reference.
    #[error("an S3 location was given for {resource}'s `{property}`, which the template does not reference")]
    UnknownReference {
        /// Logical id of the resource, or the section.
        resource: String,
        /// The property.
        property: String,
    },
    /// An S3 object's bucket or key cannot be written into a template.
    #[error(
        "`s3://{bucket}/{key}` cannot be written into a template: a bucket has letters, digits, `.` and `-`, and a key \
         has letters, digits and `/!-_.*'()` here"
    )]
    InvalidLocation {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
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
