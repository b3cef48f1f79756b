//! YAML to nodes, from the parser's events.

use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use crate::node::{Kind, Mapping, Node, Style, Tag};
use crate::{MAX_DEPTH, TemplateError};

/// The parser counts characters; a source that is not ASCII needs a table of where they are.
struct Offsets {
    chars: Option<Vec<usize>>,
    len: usize,
    skip: usize,
}

impl Offsets {
    fn new(text: &str, skip: usize) -> Self {
        let chars = (!text.is_ascii()).then(|| text.char_indices().map(|(offset, _)| offset).collect());
        Self { chars, len: text.len(), skip }
    }

    fn byte(&self, marker: Marker) -> usize {
        let offset = match &self.chars {
            None => marker.index().min(self.len),
            Some(chars) => chars.get(marker.index()).copied().unwrap_or(self.len),
        };
        offset + self.skip
    }

    fn range(&self, span: Span) -> Range<usize> {
        let start = self.byte(span.start);
        start..self.byte(span.end).max(start)
    }
}

/// A collection that is not closed yet.
struct Open {
    node: Node,
    /// The key that waits for its value.
    key: Option<Node>,
}

/// Parses one document: nothing if there is none. `skip` bytes of the source stand before `text`.
pub(crate) fn parse(text: &str, skip: usize) -> Result<Option<Node>, TemplateError> {
    refuse_tag_lines(text)?;
    let offsets = Offsets::new(text, skip);
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let (line, column) = (error.marker().line(), error.marker().col() + 1);
            // The parser reads a line ahead: its own bound on `[[[…` may come before ours.
            if error.info() == "recursion limit exceeded" {
                TemplateError::TooDeep { line, column }
            } else {
                TemplateError::Syntax { line, column, reason: error.info().to_owned() }
            }
        })?;
        let line = span.start.line();
        let node = |kind, tag: Option<&saphyr_parser::Tag>, anchor| Node {
            kind,
            tag: tag.map(|tag| Box::new(tag_of(tag))),
            anchor,
            span: offsets.range(span),
            line,
            column: span.start.col() + 1,
        };
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(TemplateError::MultipleDocuments { line });
                }
            }
            Event::Alias(anchor) => add(&mut open, &mut root, node(Kind::Alias(anchor), None, 0)),
            Event::Scalar(value, style, anchor, tag) => {
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted => Style::Single,
                    ScalarStyle::DoubleQuoted => Style::Double,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                };
                let kind = Kind::Scalar { value: value.into_owned(), style };
                add(&mut open, &mut root, node(kind, tag.as_deref(), anchor));
            }
            Event::SequenceStart(anchor, tag) => {
                open.push(Open { node: node(Kind::Sequence(Vec::new()), tag.as_deref(), anchor), key: None });
            }
            Event::MappingStart(anchor, tag) => {
                open.push(Open { node: node(Kind::Mapping(Mapping::default()), tag.as_deref(), anchor), key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(mut closed) = open.pop() {
                    closed.node.close(offsets.byte(span.end))?;
                    add(&mut open, &mut root, closed.node);
                }
            }
        }
        if open.len() > MAX_DEPTH {
            return Err(TemplateError::TooDeep { line, column: span.start.col() + 1 });
        }
    }
    Ok(root)
}

/// `%TAG` gives a prefix of any length a short name, and the parser would write it out wherever that is used.
fn refuse_tag_lines(text: &str) -> Result<(), TemplateError> {
    let lines = text.split(['\n', '\r']);
    let head = lines.take_while(|line| line.is_empty() || line.starts_with(['#', '%', ' ', '\t']));
    match head.zip(1..).find(|(line, _)| line.starts_with("%TAG")) {
        None => Ok(()),
        Some((_, line)) => {
            let reason = "`%TAG` means nothing to CloudFormation: write the tags out".to_owned();
            Err(TemplateError::Syntax { line, column: 1, reason })
        }
    }
}

/// A tag may be written short (`!!str`), in full (`!<tag:yaml.org,2002:str>`).
fn tag_of(tag: &saphyr_parser::Tag) -> Tag {
    let full = format!("{}{}", tag.handle, tag.suffix);
    if let Some(name) = full.strip_prefix("tag:yaml.org,2002:") {
        return Tag::Core(name.to_owned());
    }
    match full.strip_prefix('!') {
        Some("") => Tag::Bare,
        Some(name) => Tag::Short(name.to_owned()),
        None => Tag::Foreign(full),
    }
}

fn add(open: &mut [Open], root: &mut Option<Node>, node: Node) {
    let Some(parent) = open.last_mut() else {
        *root = Some(node);
        return;
    };
    match &mut parent.node.kind {
        Kind::Sequence(items) => items.push(node),
        Kind::Mapping(mapping) => match parent.key.take() {
            None => parent.key = Some(node),
            Some(key) => mapping.entries.push((key, node)),
        },
        Kind::Scalar { .. } | Kind::Alias(_) => {}
    }
}
