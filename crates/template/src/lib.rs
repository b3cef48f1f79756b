//! Reads a SAM or CloudFormation template, finds the local paths that it references, and puts S3 locations in their
//! place. Pure: no file, clock or network is touched.
//!
//! The template is never re-emitted. Its values are found with byte spans, and [`Template::rewrite`] splices the
//! source: comments, tags, quotes, order, line ends and a byte order mark stay as they were. What was written is parsed
//! again and must differ at the rewritten values only. [`Template::to_json`] is for those who ask for JSON.
//!
//! Which properties are paths is one table, in `packageable.rs`.

mod error;
mod json;
mod node;
mod packageable;
mod references;
mod rewrite;
mod scalar;
mod to_json;
mod warnings;
mod yaml;

pub use error::TemplateError;
pub use packageable::{LocationStyle, PackageForm};
pub use references::{Becomes, Place, Reference};
pub use rewrite::S3Object;
pub use warnings::Warning;

use node::{Anchors, At, Kind, Mapping, Node, Style};

/// CloudFormation's limit for a template that it reads from S3, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 1_000_000;

/// How deep mappings and sequences may be nested. CloudFormation has no documented limit; real templates stay below 30.
pub const MAX_DEPTH: usize = 100;

/// A parsed template, or a part of one that is in a file of its own: its source and the tree of its values, each with
/// its place in the source.
#[derive(Debug, Clone)]
pub struct Template {
    source: String,
    root: Node,
    is_json: bool,
    /// Where a fragment lands: nothing for a whole template.
    place: Option<Place>,
}

/// A resource's `DeletionPolicy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// It has none.
    Absent,
    /// This one.
    Text(String),
    /// An intrinsic function, or something else that is no text.
    Computed,
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
    /// Parses a whole template in YAML or JSON.
    ///
    /// # Errors
    /// [`TemplateError::TooLarge`] above [`MAX_TEMPLATE_BYTES`], [`TemplateError::NotUtf8`],
    /// [`TemplateError::Syntax`], [`TemplateError::DuplicateKey`], [`TemplateError::MultipleDocuments`],
    /// [`TemplateError::TooDeep`] below [`MAX_DEPTH`] levels, and [`TemplateError::NoResources`] unless resources may
    /// come from a file that the `Transform` section includes.
    pub fn parse(source: &[u8]) -> Result<Self, TemplateError> {
        let template = Self::read(source, None)?.ok_or(TemplateError::NoResources)?;
        let anchors = template.anchors();
        let root = At::new(&template.root, &anchors);
        let resources = root.child("Resources");
        let mut mappings = resources.into_iter().chain(resources.map(At::merged).unwrap_or_default());
        let any = mappings.any(|at| at.node.mapping().is_some_and(Mapping::has_own));
        // A tag makes the whole of it an intrinsic function's.
        if root.node.short().is_some() || !(any || references::includes_sections(root)) {
            return Err(TemplateError::NoResources);
        }
        Ok(template)
    }

    /// Parses a file that `AWS::Include` brings in at `place`.
    ///
    /// # Errors
    /// Those of [`Template::parse`], but a fragment needs no resources; [`TemplateError::NotAMapping`] for any other
    /// value, unless it lands at [`Place::Value`].
    pub fn parse_fragment(source: &[u8], place: &Place) -> Result<Self, TemplateError> {
        let fragment = match Self::read(source, Some(place))? {
            Some(fragment) => fragment,
            None if *place == Place::Value => {
                let kind = Kind::Scalar { value: String::new(), style: Style::Plain };
                let root = Node { kind, tag: None, anchor: 0, span: 0..0, line: 1, column: 1 };
                let source = String::from_utf8_lossy(source).into_owned();
                Self { source, root, is_json: false, place: Some(place.clone()) }
            }
            None => return Err(TemplateError::NotAMapping { line: 1 }),
        };
        if *place != Place::Value && fragment.root.mapping().is_none() {
            return Err(TemplateError::NotAMapping { line: fragment.root.line });
        }
        Ok(fragment)
    }

    /// Nothing if there is no value in the file.
    fn read(source: &[u8], place: Option<&Place>) -> Result<Option<Self>, TemplateError> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(TemplateError::TooLarge { size: source.len() });
        }
        let source = std::str::from_utf8(source)
            .map_err(|error| TemplateError::NotUtf8 { offset: error.valid_up_to() })?
            .to_owned();
        let document = node::parse(&source)?;
        let (is_json, place) = (document.is_json, place.cloned());
        Ok(document.root.map(|root| Self { source, root, is_json, place }))
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
        let entries = parameters.node.mapping().map(|mapping| mapping.entries.as_slice()).unwrap_or_default();
        entries
            .iter()
            .map(|(key, value)| (node::key_text(key), parameters.step(value)))
            .filter(|(name, _)| !name.starts_with("Fn::"))
            .map(|(name, parameter)| Parameter {
                name: name.to_owned(),
                has_default: parameter.child("Default").is_some(),
                no_echo: parameter.child("NoEcho").and_then(At::text).is_some_and(is_true),
            })
            .collect()
    }

    /// The line, from 1, of the resource called `logical_id`; of one that a transform made, that of the resource that it was
    /// made of, whose name its own begins with (the SAM transform makes `ApiFunctionRole` of `ApiFunction`:
    /// <https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-specification-generated-resources.html>).
    #[must_use]
    pub fn resource_line(&self, logical_id: &str) -> Option<usize> {
        let anchors = self.anchors();
        let resources = At::new(&self.root, &anchors).child("Resources")?;
        let keys = resources.node.mapping()?.entries.iter().map(|(key, _)| key);
        let made_of = keys.filter(|key| logical_id.starts_with(node::key_text(key)));
        made_of.max_by_key(|key| node::key_text(key).len()).map(|key| key.line)
    }

    /// What the resource called `logical_id` says of its deletion; nothing when the template has no such resource, or makes it in a loop.
    #[must_use]
    pub fn deletion_policy(&self, logical_id: &str) -> Option<DeletionPolicy> {
        let anchors = self.anchors();
        let resource = At::new(&self.root, &anchors).child("Resources")?.child(logical_id)?;
        resource.node.mapping()?;
        Some(match resource.child("DeletionPolicy") {
            None => DeletionPolicy::Absent,
            Some(policy) => {
                policy.text().map_or(DeletionPolicy::Computed, |text| DeletionPolicy::Text(text.to_owned()))
            }
        })
    }

    /// Every local path that the template references, in document order: in resources, also those of `Fn::ForEach`, in
    /// `Globals` and `Metadata` where these hold paths, and the files that `AWS::Include` brings in anywhere. A fragment
    /// is searched as what stands at its [`Place`].
    ///
    /// S3 and https locations, mappings and intrinsic functions are no local paths and are left as they are, as is the
    /// code of functions that have `InlineCode` or `PackageType: Image`. An empty value is none at all.
    ///
    /// # Errors
    /// [`TemplateError::Unsupported`] for a local path that cannot be packaged (one that a loop varies, the name of a
    /// local container image), [`TemplateError::MissingPath`] for code that a whole template does not name, and
    /// [`TemplateError::Shared`] for a path that YAML aliases share.
    pub fn references(&self) -> Result<Vec<Reference>, TemplateError> {
        references::find(self)
    }

    /// The template with each reference's value replaced by its S3 object: `objects` holds one for each of
    /// [`Template::references`], in that order. Everything else is kept byte for byte.
    ///
    /// # Errors
    /// Those of [`Template::references`]; [`TemplateError::WrongCount`]; [`TemplateError::InvalidLocation`];
    /// [`TemplateError::NotSpliceable`]; [`TemplateError::TooLarge`] when the result is; [`TemplateError::NotFaithful`]
    /// when the result, parsed again, differs elsewhere.
    pub fn rewrite(&self, objects: &[S3Object]) -> Result<String, TemplateError> {
        rewrite::rewrite(self, objects)
    }

    /// What a person should know about the template although it can be packaged, in document order.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        warnings::of(self)
    }

    /// The template as JSON that CloudFormation reads as the same values: indented by four spaces unless it would then
    /// be too large, non-ASCII text as it is, a newline at the end.
    ///
    /// - Short forms become long ones: `!Ref x` is `{"Ref": "x"}`, `!GetAtt a.b` is `{"Fn::GetAtt": ["a", "b"]}`, and
    ///   every other `!X` is `{"Fn::X": …}`. Their scalars are text.
    /// - Quoted and block scalars are text, plain ones are what YAML 1.1 says in the reading that CloudFormation and
    ///   PyYAML share: yes, no, on, off, true and false in lower, upper or title case are booleans (y and n are text);
    ///   integers may be written `1_000`, `0777`, `0x1F`, `0b11` or `1:30`; a float needs a point and signs its exponent.
    ///   A number keeps its digits where JSON can write them. What is not finite and dates, with a time of day or
    ///   without, stay text as written, and so does `012345678901`, which is no octal number.
    /// - Keys are text as written. Aliases and merges are written out: a merged key stands where the `<<` stood.
    /// - YAML's own tags (`!!str`, `!!int`, …) are obeyed.
    ///
    /// # Errors
    /// [`TemplateError::TooLargeAsJson`] above [`MAX_TEMPLATE_BYTES`] and [`TemplateError::TooDeep`] below [`MAX_DEPTH`]
    /// levels, which written-out aliases may well need; [`TemplateError::Syntax`] for a tag that JSON has nothing
    /// for or that does not fit its value, and for an integer of more than 128 bits that is not written in decimal.
    pub fn to_json(&self) -> Result<String, TemplateError> {
        to_json::write(self)
    }

    fn anchors(&self) -> Anchors<'_> {
        Anchors::of(&self.root)
    }
}

/// YAML 1.1's spellings of true, and `y`: a value that might be secret is not shown.
fn is_true(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "true" | "yes" | "on" | "y")
}
