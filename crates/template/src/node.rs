//! The tree of a template's values, each with its place in the source.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use crate::{TemplateError, json, yaml};

/// A value in the source.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) tag: Option<Tag>,
    /// The anchor's number, 0 for none.
    pub(crate) anchor: usize,
    /// Bytes of the source, as the parser gives them: a scalar's may begin with its tag and end with blanks.
    pub(crate) span: Range<usize>,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Scalar {
        value: String,
        style: Style,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
    /// The number of the anchor that is meant.
    Alias(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Single,
    Double,
    Block,
}

/// A YAML tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag {
    /// As the parser shows it: `!Sub`.
    pub(crate) text: String,
    /// One of YAML's own (`!!str`).
    pub(crate) core: bool,
}

/// Two nodes are equal when they hold the same values in the same notation, wherever they are.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.tag == other.tag && self.anchor == other.anchor
    }
}

impl Eq for Node {}

impl Node {
    /// The text of a scalar that is no intrinsic function.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { value, .. } if self.tag.as_ref().is_none_or(|tag| tag.core) => Some(value),
            Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Mapping(_) | Kind::Alias(_) => None,
        }
    }

    /// Whether it is YAML's null.
    pub(crate) fn is_null(&self) -> bool {
        match &self.kind {
            Kind::Scalar { value, style: Style::Plain } => {
                self.tag.is_none() && matches!(value.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Mapping(_) | Kind::Alias(_) => false,
        }
    }

    pub(crate) fn mapping(&self) -> Option<&[(Node, Node)]> {
        match &self.kind {
            Kind::Mapping(entries) => Some(entries),
            Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Alias(_) => None,
        }
    }

    pub(crate) fn sequence(&self) -> Option<&[Node]> {
        match &self.kind {
            Kind::Sequence(items) => Some(items),
            Kind::Scalar { .. } | Kind::Mapping(_) | Kind::Alias(_) => None,
        }
    }

    /// Calls `visit` for this node and all below it, in document order.
    pub(crate) fn walk<'n>(&'n self, visit: &mut impl FnMut(&'n Node)) {
        visit(self);
        match &self.kind {
            Kind::Scalar { .. } | Kind::Alias(_) => {}
            Kind::Sequence(items) => items.iter().for_each(|item| item.walk(visit)),
            Kind::Mapping(entries) => {
                for (key, value) in entries {
                    key.walk(visit);
                    value.walk(visit);
                }
            }
        }
    }
}

/// The text of a mapping's key.
pub(crate) fn key_text(key: &Node) -> &str {
    match &key.kind {
        Kind::Scalar { value, .. } => value,
        Kind::Sequence(_) | Kind::Mapping(_) | Kind::Alias(_) => "",
    }
}

/// Parses JSON or YAML, and checks that every mapping's keys are text and there once.
pub(crate) fn parse(source: &str) -> Result<Node, TemplateError> {
    // A byte order mark belongs to the file, not to the text.
    let skip = if source.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let text = source.get(skip..).unwrap_or_default();
    // JSON has notations that a YAML parser refuses (surrogate pairs); a YAML flow mapping may begin like JSON.
    let parsed = if text.trim_start().starts_with('{') { json::parse(text, skip)? } else { None };
    let root = match parsed {
        Some(root) => root,
        None => yaml::parse(text, skip)?,
    };
    check_keys(&root)?;
    Ok(root)
}

fn check_keys(root: &Node) -> Result<(), TemplateError> {
    let mut fault = None;
    root.walk(&mut |node| {
        let Some(entries) = node.mapping() else { return };
        let mut seen = HashMap::with_capacity(entries.len());
        for (key, _) in entries {
            let error = match &key.kind {
                Kind::Scalar { value, .. } => seen.insert(value.as_str(), key.line).map(|first_line| {
                    TemplateError::DuplicateKey { key: value.clone(), line: key.line, column: key.column, first_line }
                }),
                Kind::Sequence(_) | Kind::Mapping(_) | Kind::Alias(_) => Some(TemplateError::Syntax {
                    line: key.line,
                    column: key.column,
                    reason: "a key must be text, not a list, a mapping or an alias".to_owned(),
                }),
            };
            if fault.is_none() {
                fault = error;
            }
        }
    });
    fault.map_or(Ok(()), Err)
}

/// The anchored values of a template, and which of them are used.
#[derive(Debug)]
pub(crate) struct Anchors<'n> {
    nodes: BTreeMap<usize, &'n Node>,
    used: BTreeSet<usize>,
}

impl<'n> Anchors<'n> {
    pub(crate) fn of(root: &'n Node) -> Self {
        let (mut nodes, mut used) = (BTreeMap::new(), BTreeSet::new());
        root.walk(&mut |node| {
            if node.anchor != 0 {
                nodes.insert(node.anchor, node);
            }
            if let Kind::Alias(anchor) = node.kind {
                used.insert(anchor);
            }
        });
        Self { nodes, used }
    }
}

/// A node as reached from the root: aliases are resolved, and it is known whether the way led through one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'n> {
    pub(crate) node: &'n Node,
    /// Where the alias or the used anchor is through which this value is shared.
    pub(crate) shared: Option<(usize, usize)>,
    anchors: &'n Anchors<'n>,
}

/// An entry of a mapping.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'n> {
    pub(crate) key: &'n Node,
    pub(crate) value: At<'n>,
}

/// How many merges (`<<`) are followed in a row.
const MAX_MERGES: usize = 16;

impl<'n> At<'n> {
    pub(crate) fn new(node: &'n Node, anchors: &'n Anchors<'n>) -> Self {
        Self { node, shared: None, anchors }.resolved()
    }

    /// Another node of the same template, whatever way leads there.
    pub(crate) fn at(self, node: &'n Node) -> Self {
        Self::new(node, self.anchors)
    }

    fn step(self, node: &'n Node) -> Self {
        Self { node, ..self }.resolved()
    }

    fn resolved(mut self) -> Self {
        if let Kind::Alias(anchor) = self.node.kind {
            self.shared = self.shared.or(Some((self.node.line, self.node.column)));
            // An alias names a value that stands before it, never another alias.
            if let Some(node) = self.anchors.nodes.get(&anchor) {
                self.node = node;
            }
        } else if self.node.anchor != 0 && self.anchors.used.contains(&self.node.anchor) {
            self.shared = self.shared.or(Some((self.node.line, self.node.column)));
        }
        self
    }

    pub(crate) fn text(self) -> Option<&'n str> {
        self.node.text()
    }

    /// The value of a key, also through merges.
    pub(crate) fn child(self, name: &str) -> Option<Found<'n>> {
        self.child_within(name, MAX_MERGES)
    }

    fn child_within(self, name: &str, merges: usize) -> Option<Found<'n>> {
        let entries = self.node.mapping()?;
        if let Some((key, value)) = entries.iter().find(|(key, _)| key_text(key) == name) {
            return Some(Found { key, value: self.step(value) });
        }
        let merges = merges.checked_sub(1)?;
        let (_, merged) = entries.iter().find(|(key, _)| key_text(key) == "<<")?;
        let merged = self.step(merged);
        match merged.node.sequence() {
            None => merged.child_within(name, merges),
            // One merge of many must not multiply the work.
            Some(items) => {
                items.iter().take(MAX_MERGES).find_map(|item| merged.step(item).child_within(name, merges / 4))
            }
        }
    }

    /// A mapping's entries (none for anything else), without those of merges.
    pub(crate) fn entries(self) -> Vec<(&'n str, At<'n>)> {
        let entries = self.node.mapping().unwrap_or_default();
        entries.iter().map(|(key, value)| (key_text(key), self.step(value))).collect()
    }

    /// A mapping's entries with their keys' nodes.
    pub(crate) fn found(self) -> Vec<Found<'n>> {
        let entries = self.node.mapping().unwrap_or_default();
        entries.iter().map(|(key, value)| Found { key, value: self.step(value) }).collect()
    }

    /// A sequence's items (none for anything else).
    pub(crate) fn items(self) -> Vec<At<'n>> {
        self.node.sequence().unwrap_or_default().iter().map(|item| self.step(item)).collect()
    }
}
