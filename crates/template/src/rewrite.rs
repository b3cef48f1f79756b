//! Splices S3 locations into a template's source, and proves that nothing else changed.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::node::{self, At, Kind, Node, Style};
use crate::references::{self, Site};
use crate::{LocationStyle, MAX_TEMPLATE_BYTES, ReferenceId, Template, TemplateError};

/// An object in S3 that takes a local path's place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct S3Object {
    /// The bucket's name.
    pub bucket: String,
    /// The object's key, without a leading slash.
    pub key: String,
}

/// A piece of the source, and what takes its place.
struct Splice<'n> {
    range: Range<usize>,
    text: String,
    old: &'n Node,
    expected: Expected<'n>,
}

/// What the new value must be.
struct Expected<'s> {
    object: &'s S3Object,
    location: LocationStyle,
}

pub(crate) fn rewrite(
    template: &Template,
    locations: &BTreeMap<ReferenceId, S3Object>,
) -> Result<String, TemplateError> {
    let anchors = template.anchors();
    let sites = references::sites(At::new(&template.root, &anchors))?;
    for id in locations.keys() {
        if !sites.iter().any(|site| site.reference.id() == *id) {
            let (resource, property) = (id.resource.clone(), id.property.clone());
            return Err(TemplateError::UnknownReference { resource, property });
        }
    }
    let mut splices = Vec::with_capacity(sites.len());
    for site in &sites {
        let object = locations.get(&site.reference.id()).ok_or_else(|| TemplateError::MissingLocation {
            resource: site.reference.resource.clone(),
            property: site.reference.property.clone(),
        })?;
        check(object)?;
        let (range, style) = value_range(&template.source, site).ok_or_else(|| TemplateError::NotSpliceable {
            resource: site.reference.resource.clone(),
            property: site.reference.property.clone(),
            line: site.reference.line,
            column: site.reference.column,
        })?;
        let location = site.reference.location;
        let text = render(object, location, style);
        splices.push(Splice { range, text, old: site.value, expected: Expected { object, location } });
    }
    splices.sort_by_key(|splice| splice.range.start);

    let mut result = String::with_capacity(template.source.len() + splices.len() * 128);
    let mut copied = 0;
    for splice in &splices {
        let line = splice.old.line;
        let before = template.source.get(copied..splice.range.start).ok_or(TemplateError::NotFaithful { line })?;
        result.push_str(before);
        result.push_str(&splice.text);
        copied = splice.range.end;
    }
    result.push_str(template.source.get(copied..).ok_or(TemplateError::NotFaithful { line: template.root.line })?);

    if result.len() > MAX_TEMPLATE_BYTES {
        return Err(TemplateError::TooLarge { size: result.len() });
    }
    let written = node::parse(&result).map_err(|_| TemplateError::NotFaithful { line: template.root.line })?;
    let mut rest = splices.as_slice();
    compare(&template.root, &written, &mut rest)?;
    match rest.first() {
        None => Ok(result),
        Some(splice) => Err(TemplateError::NotFaithful { line: splice.old.line }),
    }
}

/// Bucket and key are ours, but a template is no place for surprises.
fn check(object: &S3Object) -> Result<(), TemplateError> {
    let bucket = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    let key = |byte: u8| byte.is_ascii_alphanumeric() || b"/!-_.*'()".contains(&byte);
    let good = !object.bucket.is_empty()
        && object.bucket.bytes().all(bucket)
        && !object.key.is_empty()
        && !object.key.starts_with('/')
        && object.key.bytes().all(key);
    if good {
        return Ok(());
    }
    Err(TemplateError::InvalidLocation { bucket: object.bucket.clone(), key: object.key.clone() })
}

/// The new value. A mapping is written in JSON, which YAML reads as well; a text keeps its quotes.
fn render(object: &S3Object, location: LocationStyle, style: Style) -> String {
    let S3Object { bucket, key } = object;
    match (location, style) {
        (LocationStyle::Uri, Style::Plain | Style::Block) => format!("s3://{bucket}/{key}"),
        (LocationStyle::Uri, Style::Single) => format!("'s3://{bucket}/{}'", key.replace('\'', "''")),
        (LocationStyle::Uri, Style::Double) => format!("\"s3://{bucket}/{key}\""),
        (LocationStyle::BucketKey, _) => format!("{{\"Bucket\": \"{bucket}\", \"Key\": \"{key}\"}}"),
        (LocationStyle::S3BucketS3Key, _) => format!("{{\"S3Bucket\": \"{bucket}\", \"S3Key\": \"{key}\"}}"),
    }
}

/// The exact bytes of a scalar's text: the parser's span may begin with a tag or an anchor and end with blanks, and a
/// block scalar's leaves its header out.
fn value_range(source: &str, site: &Site<'_>) -> Option<(Range<usize>, Style)> {
    let node = site.value;
    let Kind::Scalar { style, .. } = node.kind else { return None };
    let mut start = node.span.start;
    if style == Style::Block {
        return block_range(source, site).map(|range| (range, style));
    }
    let mut text = source.get(node.span.clone())?;
    while text.starts_with(['!', '&']) {
        let property = text.find(char::is_whitespace)?;
        let after = text.get(property..)?;
        let next = after.trim_start();
        start += property + (after.len() - next.len());
        text = next;
    }
    // A core tag fits a text only.
    if node.tag.is_some() && site.reference.location != LocationStyle::Uri {
        return None;
    }
    let length = match style {
        Style::Plain => text.trim_end().len(),
        Style::Single => quoted(text, '\'')?,
        Style::Double => quoted(text, '"')?,
        Style::Block => return None,
    };
    Some((start..start + length, style))
}

/// The length of a quoted scalar, its quotes included.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut chars = text.char_indices().peekable();
    if chars.next()?.1 != quote {
        return None;
    }
    while let Some((offset, c)) = chars.next() {
        if c == '\\' && quote == '"' {
            chars.next();
        } else if c == quote {
            // Two single quotes are one in the text.
            if quote == '\'' && chars.next_if(|(_, next)| *next == quote).is_some() {
                continue;
            }
            return Some(offset + quote.len_utf8());
        }
    }
    None
}

/// From the header of a block scalar to its last line's end, when nothing but the text would be lost.
fn block_range(source: &str, site: &Site<'_>) -> Option<Range<usize>> {
    let node = site.value;
    if node.tag.is_some() || node.anchor != 0 {
        return None;
    }
    let between = source.get(site.key.span.end..node.span.start)?;
    let header = between.find(['|', '>'])?;
    if between.contains('#') {
        return None;
    }
    let content = source.get(node.span.clone())?.trim_end();
    Some(site.key.span.end + header..node.span.start + content.len())
}

/// Requires that two trees are the same but for the splices, which are met in document order.
fn compare(old: &Node, new: &Node, splices: &mut &[Splice<'_>]) -> Result<(), TemplateError> {
    let fault = || TemplateError::NotFaithful { line: old.line };
    if let Some((splice, rest)) = splices.split_first()
        && std::ptr::eq(splice.old, old)
    {
        *splices = rest;
        let same = splice.expected.is(new) && old.tag == new.tag && old.anchor == new.anchor;
        return if same { Ok(()) } else { Err(fault()) };
    }
    if old.tag != new.tag || old.anchor != new.anchor {
        return Err(fault());
    }
    match (&old.kind, &new.kind) {
        (Kind::Scalar { .. }, Kind::Scalar { .. }) | (Kind::Alias(_), Kind::Alias(_)) if old.kind == new.kind => Ok(()),
        (Kind::Sequence(old), Kind::Sequence(new)) if old.len() == new.len() => {
            old.iter().zip(new).try_for_each(|(old, new)| compare(old, new, splices))
        }
        (Kind::Mapping(old), Kind::Mapping(new)) if old.len() == new.len() => {
            old.iter().zip(new).try_for_each(|((old_key, old), (new_key, new))| {
                compare(old_key, new_key, splices)?;
                compare(old, new, splices)
            })
        }
        (Kind::Scalar { .. } | Kind::Alias(_) | Kind::Sequence(_) | Kind::Mapping(_), _) => Err(fault()),
    }
}

impl Expected<'_> {
    fn is(&self, node: &Node) -> bool {
        let S3Object { bucket, key } = self.object;
        let fields = |bucket_name: &str, key_name: &str| {
            let Some([(first, first_value), (second, second_value)]) = node.mapping() else { return false };
            first.text() == Some(bucket_name)
                && first_value.text() == Some(bucket)
                && second.text() == Some(key_name)
                && second_value.text() == Some(key)
        };
        match self.location {
            LocationStyle::Uri => node.text() == Some(&format!("s3://{bucket}/{key}")),
            LocationStyle::BucketKey => fields("Bucket", "Key"),
            LocationStyle::S3BucketS3Key => fields("S3Bucket", "S3Key"),
        }
    }
}
