//! Splices S3 locations into a template's source, and proves that nothing else changed.

use std::ops::Range;

use crate::node::{self, At, Kind, Mapping, Node, Style};
use crate::references::{self, Site};
use crate::{LocationStyle, MAX_TEMPLATE_BYTES, Template, TemplateError};

/// An object in S3 that takes a local path's place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct S3Object {
    /// The bucket's name.
    pub bucket: String,
    /// The object's key, without a leading slash.
    pub key: String,
    /// Its https address, which CloudFormation reads a template from.
    pub url: String,
}

/// A piece of the source, and what takes its place.
struct Splice<'n> {
    range: Range<usize>,
    text: String,
    old: &'n Node,
    expected: Expected<'n>,
}

/// What the new value must be.
struct Expected<'n> {
    object: &'n S3Object,
    location: LocationStyle,
}

pub(crate) fn rewrite(template: &Template, objects: &[S3Object]) -> Result<String, TemplateError> {
    let anchors = template.anchors();
    let sites = references::sites(template, At::new(&template.root, &anchors))?;
    if sites.len() != objects.len() {
        return Err(TemplateError::WrongCount { expected: sites.len(), given: objects.len() });
    }
    if sites.is_empty() {
        return Ok(template.source.clone());
    }
    let mut splices = Vec::with_capacity(sites.len());
    for (site, object) in sites.iter().zip(objects) {
        let location = site.reference.location;
        check(object, location)?;
        let (range, style) = value_range(&template.source, site).ok_or_else(|| TemplateError::NotSpliceable {
            resource: site.reference.resource.clone(),
            property: site.reference.property.clone(),
            line: site.reference.line,
            column: site.reference.column,
        })?;
        let text = render(object, location, style);
        splices.push(Splice { range, text, old: site.value, expected: Expected { object, location } });
    }

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
    let unfaithful = TemplateError::NotFaithful { line: template.root.line };
    let written = node::parse(&result).ok().and_then(|document| document.root).ok_or(unfaithful)?;
    let mut rest = splices.as_slice();
    compare(&template.root, &written, &mut rest)?;
    match rest.first() {
        None => Ok(result),
        Some(splice) => Err(TemplateError::NotFaithful { line: splice.old.line }),
    }
}

/// What is written is ours, but a template is no place for surprises.
fn check(object: &S3Object, location: LocationStyle) -> Result<(), TemplateError> {
    let S3Object { bucket, key, url } = object;
    let plain = |text: &str, also: &[u8]| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || also.contains(&byte))
    };
    let (good, location) = match location {
        LocationStyle::Https => {
            let rest = url.strip_prefix("https://").or(url.strip_prefix("http://")).unwrap_or_default();
            (plain(rest, b"/!-_.*'():%~") && !rest.ends_with(':'), url.clone())
        }
        LocationStyle::Uri | LocationStyle::BucketKey | LocationStyle::S3BucketS3Key => {
            let good = plain(bucket, b".-") && plain(key, b"/!-_.*'()") && !key.starts_with('/');
            (good, format!("s3://{bucket}/{key}"))
        }
    };
    if good { Ok(()) } else { Err(TemplateError::InvalidLocation { location }) }
}

/// The new value. A mapping is written in JSON, which YAML reads as well; a text keeps its quotes.
fn render(object: &S3Object, location: LocationStyle, style: Style) -> String {
    let S3Object { bucket, key, url } = object;
    let text = match location {
        LocationStyle::Uri => format!("s3://{bucket}/{key}"),
        LocationStyle::Https => url.clone(),
        LocationStyle::BucketKey => return format!("{{\"Bucket\": \"{bucket}\", \"Key\": \"{key}\"}}"),
        LocationStyle::S3BucketS3Key => return format!("{{\"S3Bucket\": \"{bucket}\", \"S3Key\": \"{key}\"}}"),
    };
    match style {
        Style::Plain | Style::Block => text,
        Style::Single => format!("'{}'", text.replace('\'', "''")),
        Style::Double => format!("\"{text}\""),
    }
}

/// The exact bytes of a scalar's text: the parser's span may begin with a tag or an anchor and end with blanks, and a
/// block scalar's leaves its header out.
fn value_range(source: &str, site: &Site<'_>) -> Option<(Range<usize>, Style)> {
    let node = site.value;
    let Kind::Scalar { style, .. } = node.kind else { return None };
    let mut start = node.span.start;
    if style == Style::Block {
        return block_range(source, node).map(|range| (range, style));
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
    let is_text = matches!(site.reference.location, LocationStyle::Uri | LocationStyle::Https);
    if node.tag.is_some() && !is_text {
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
fn block_range(source: &str, node: &Node) -> Option<Range<usize>> {
    if node.tag.is_some() || node.anchor != 0 {
        return None;
    }
    // `|` or `>`, perhaps with an indentation and what happens to line ends behind it. A comment would be lost.
    let header = source.get(..node.span.start)?.trim_end();
    let header = header.trim_end_matches(|c: char| matches!(c, '+' | '-' | '1'..='9')).strip_suffix(['|', '>'])?;
    let content = source.get(node.span.clone())?.trim_end();
    Some(header.len()..node.span.start + content.len())
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
        (Kind::Scalar { value, style }, Kind::Scalar { value: new, style: now }) if (value, style) == (new, now) => {
            Ok(())
        }
        (Kind::Alias(old), Kind::Alias(new)) if old == new => Ok(()),
        (Kind::Sequence(old), Kind::Sequence(new)) if old.len() == new.len() => {
            old.iter().zip(new).try_for_each(|(old, new)| compare(old, new, splices))
        }
        (Kind::Mapping(Mapping { entries: old, .. }), Kind::Mapping(Mapping { entries: new, .. }))
            if old.len() == new.len() =>
        {
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
        let S3Object { bucket, key, url } = self.object;
        let fields = |bucket_name: &str, key_name: &str| {
            let Some([(first, first_value), (second, second_value)]) = node.mapping().map(|m| m.entries.as_slice())
            else {
                return false;
            };
            first.text() == Some(bucket_name)
                && first_value.text() == Some(bucket)
                && second.text() == Some(key_name)
                && second_value.text() == Some(key)
        };
        match self.location {
            LocationStyle::Uri => node.text() == Some(&format!("s3://{bucket}/{key}")),
            LocationStyle::Https => node.text() == Some(url),
            LocationStyle::BucketKey => fields("Bucket", "Key"),
            LocationStyle::S3BucketS3Key => fields("S3Bucket", "S3Key"),
        }
    }
}
