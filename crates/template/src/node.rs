//! The tree of a template's values, each with its place in the source.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::{TemplateError, json, yaml};

/// A value in the source.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) tag: Option<Box<Tag>>,
    /// The anchor's number, 0 for none.
    pub(crate) anchor: usize,
    /// Bytes of the source, as the parser gives them: a scalar's may begin with its tag and end with blanks.
    pub(crate) span: Range<usize>,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Scalar {
        value: String,
        style: Style,
    },
    Sequence(Vec<Node>),
    Mapping(Mapping),
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
pub(crate) enum Tag {
    /// One of YAML's own: `str` for `!!str`.
    Core(String),
    /// The short form of an intrinsic function: `Sub` for `!Sub`.
    Short(String),
    /// `!` alone, which PyYAML reads as if quotes were not there.
    Bare,
    /// A tag of another vocabulary.
    Foreign(String),
}

/// A mapping's entries, in the source's order. Each key is a scalar and there once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mapping {
    pub(crate) entries: Vec<(Node, Node)>,
    /// Places in `entries`, sorted by the keys' text: look-ups must not cost more in a large mapping.
    sorted: Vec<u32>,
}

impl Mapping {
    /// # Errors
    /// [`TemplateError::DuplicateKey`], and [`TemplateError::Syntax`] for a key that is no text.
    fn index(&mut self) -> Result<(), TemplateError> {
        for (key, _) in &self.entries {
            if !matches!(key.kind, Kind::Scalar { .. }) {
                let reason = "a key must be text, not a list, a mapping or an alias".to_owned();
                return Err(TemplateError::Syntax { line: key.line, column: key.column, reason });
            }
        }
        self.sorted = (0..).take(self.entries.len()).collect();
        // The sort is stable: of two equal keys, the second one follows the first.
        let text = |at: &u32| self.entries.get(*at as usize).map_or("", |(key, _)| key_text(key));
        self.sorted.sort_by(|one, other| text(one).cmp(text(other)));
        let pairs = self.sorted.iter().zip(self.sorted.iter().skip(1));
        let twice = pairs.filter(|(one, other)| text(one) == text(other)).min_by_key(|(_, second)| **second);
        let entry = |at: &u32| self.entries.get(*at as usize);
        match twice.and_then(|(first, second)| Some((entry(first)?, entry(second)?))) {
            None => Ok(()),
            Some(((first, _), (second, _))) => Err(TemplateError::DuplicateKey {
                key: key_text(second).to_owned(),
                line: second.line,
                column: second.column,
                first_line: first.line,
            }),
        }
    }

    /// The first entry in the order of the keys' text that is not before `name`.
    fn from(&self, name: &str) -> Option<&(Node, Node)> {
        let key = |at: &u32| self.entries.get(*at as usize).map_or("", |(key, _)| key_text(key));
        let place = self.sorted.partition_point(|at| key(at) < name);
        self.entries.get(*self.sorted.get(place)? as usize)
    }

    /// The entry with this key.
    pub(crate) fn get(&self, name: &str) -> Option<&(Node, Node)> {
        self.from(name).filter(|(key, _)| key_text(key) == name)
    }

    /// Whether a key begins with `prefix`.
    pub(crate) fn has_prefix(&self, prefix: &str) -> bool {
        self.from(prefix).is_some_and(|(key, _)| key_text(key).starts_with(prefix))
    }

    /// Whether there is an entry that merges nothing.
    pub(crate) fn has_own(&self) -> bool {
        self.entries.len() > usize::from(self.merge().is_some())
    }

    /// The entry that merges other mappings into this one.
    pub(crate) fn merge(&self) -> Option<&(Node, Node)> {
        self.get("<<").filter(|(key, _)| is_merge(key))
    }
}

impl Node {
    /// The text of a scalar that is no intrinsic function.
    pub(crate) fn text(&self) -> Option<&str> {
        match (&self.kind, self.tag.as_deref()) {
            (Kind::Scalar { value, .. }, None | Some(Tag::Core(_) | Tag::Bare)) => Some(value),
            (Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Mapping(_) | Kind::Alias(_), _) => None,
        }
    }

    /// Whether it is YAML's null.
    pub(crate) fn is_null(&self) -> bool {
        let Kind::Scalar { value, style } = &self.kind else { return false };
        match self.tag.as_deref() {
            None if *style != Style::Plain => false,
            None | Some(Tag::Bare) => matches!(value.as_str(), "" | "~" | "null" | "Null" | "NULL"),
            Some(Tag::Core(name)) => name == "null",
            Some(Tag::Short(_) | Tag::Foreign(_)) => false,
        }
    }

    pub(crate) fn mapping(&self) -> Option<&Mapping> {
        match &self.kind {
            Kind::Mapping(mapping) => Some(mapping),
            Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Alias(_) => None,
        }
    }

    pub(crate) fn sequence(&self) -> Option<&[Node]> {
        match &self.kind {
            Kind::Sequence(items) => Some(items),
            Kind::Scalar { .. } | Kind::Mapping(_) | Kind::Alias(_) => None,
        }
    }

    /// The name of the intrinsic function that its tag is the short form of.
    pub(crate) fn short(&self) -> Option<&str> {
        match self.tag.as_deref() {
            Some(Tag::Short(name)) => Some(name),
            None | Some(Tag::Core(_) | Tag::Bare | Tag::Foreign(_)) => None,
        }
    }

    pub(crate) fn is_alias(&self) -> bool {
        matches!(self.kind, Kind::Alias(_))
    }

    /// Ends a collection at a byte of the source.
    pub(crate) fn close(&mut self, end: usize) -> Result<(), TemplateError> {
        self.span.end = end.max(self.span.start);
        match &mut self.kind {
            Kind::Mapping(mapping) => mapping.index(),
            Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Alias(_) => Ok(()),
        }
    }

    /// Calls `visit` for this node and all below it, in document order.
    pub(crate) fn walk<'n>(&'n self, visit: &mut impl FnMut(&'n Node)) {
        visit(self);
        match &self.kind {
            Kind::Scalar { .. } | Kind::Alias(_) => {}
            Kind::Sequence(items) => items.iter().for_each(|item| item.walk(visit)),
            Kind::Mapping(mapping) => {
                for (key, value) in &mapping.entries {
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

/// Whether a key merges mappings into the one that it stands in.
pub(crate) fn is_merge(key: &Node) -> bool {
    match &key.kind {
        Kind::Scalar { value, style: Style::Plain } => key.tag.is_none() && value == "<<",
        Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Mapping(_) | Kind::Alias(_) => false,
    }
}

/// A parsed file.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    /// Nothing in an empty file.
    pub(crate) root: Option<Node>,
    pub(crate) is_json: bool,
}

/// Parses JSON or YAML, and checks that every mapping's keys are text and there once, and what is merged.
pub(crate) fn parse(source: &str) -> Result<Document, TemplateError> {
    // A byte order mark belongs to the file, not to the text.
    let skip = if source.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let text = source.get(skip..).unwrap_or_default();
    // JSON has notations that a YAML parser refuses (surrogate pairs); a YAML flow mapping may begin like JSON.
    let json = if text.trim_start().starts_with('{') { json::parse(text, skip)? } else { None };
    if let Some(root) = json {
        return Ok(Document { root: Some(root), is_json: true });
    }
    let root = yaml::parse(text, skip)?;
    if let Some(root) = &root {
        check_merges(root)?;
    }
    Ok(Document { root, is_json: false })
}

/// A text that has more bytes says something.
const MAX_BLANKS: usize = 4_096;

/// How many mappings one may merge (`<<`), directly or through others.
const MAX_MERGES: usize = 16;

fn check_merges(root: &Node) -> Result<(), TemplateError> {
    let anchors = Anchors::of(root);
    let mut fault = None;
    root.walk(&mut |node| {
        let Some((key, value)) = node.mapping().and_then(Mapping::merge) else { return };
        let mappings = |at: At<'_>| at.node.mapping().is_some() && at.node.short().is_none();
        let value = At::new(value, &anchors);
        let reason = if value.node.sequence().map_or(1, <[Node]>::len) > MAX_MERGES {
            format!("`<<` merges more than {MAX_MERGES} mappings: write the values out")
        } else if !mappings(value) && (value.node.sequence().is_none() || !value.items().into_iter().all(mappings)) {
            "`<<` merges a mapping or a list of mappings, and this is neither".to_owned()
        } else if At::new(node, &anchors).merged().len() > MAX_MERGES {
            format!("`<<` merges more than {MAX_MERGES} mappings, one through another: write the values out")
        } else {
            return;
        };
        fault.get_or_insert(TemplateError::Syntax { line: key.line, column: key.column, reason });
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
    /// Where the alias, the merge or the used anchor is through which this value is shared.
    pub(crate) shared: Option<(usize, usize)>,
    anchors: &'n Anchors<'n>,
}

impl<'n> At<'n> {
    pub(crate) fn new(node: &'n Node, anchors: &'n Anchors<'n>) -> Self {
        Self { node, shared: None, anchors }.resolved()
    }

    /// The same node, shared by the merge with this key.
    pub(crate) fn sharing(self, key: &Node) -> Self {
        Self { shared: self.shared.or(Some((key.line, key.column))), ..self }
    }

    /// A node that stands in this one.
    pub(crate) fn step(self, node: &'n Node) -> Self {
        Self { node, ..self }.resolved()
    }

    fn resolved(mut self) -> Self {
        if let Kind::Alias(anchor) = self.node.kind {
            self.shared = self.shared.or(Some((self.node.line, self.node.column)));
            // An alias names a value that begins before it, never another alias.
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

    /// Neither null nor blank. Blanks without end are not counted: thousands of aliases may name them.
    pub(crate) fn is_present(self) -> bool {
        !self.node.is_null() && self.text().is_none_or(|text| text.len() > MAX_BLANKS || !text.trim().is_empty())
    }

    /// The value of a key, also through merges.
    pub(crate) fn child(self, name: &str) -> Option<At<'n>> {
        let mapping = self.node.mapping()?;
        if let Some((_, value)) = mapping.get(name) {
            return Some(self.step(value));
        }
        mapping.merge()?;
        let found = |merged: At<'n>| Some(merged.step(&merged.node.mapping()?.get(name)?.1));
        self.merged().into_iter().find_map(found)
    }

    /// The value of a key that says something.
    pub(crate) fn present(self, name: &str) -> Option<At<'n>> {
        self.child(name).filter(|value| value.is_present())
    }

    /// The mappings that are merged into this one, also through each other: each once, and what counts more first.
    pub(crate) fn merged(self) -> Vec<At<'n>> {
        let mut merged = Vec::new();
        self.add_merged(&mut merged);
        merged
    }

    fn add_merged(self, merged: &mut Vec<At<'n>>) {
        let Some((key, value)) = self.node.mapping().and_then(Mapping::merge) else { return };
        let value = self.sharing(key).step(value);
        let sources = if value.node.sequence().is_some() { value.items() } else { vec![value] };
        for source in sources {
            let known = merged.iter().any(|other| std::ptr::eq(other.node, source.node));
            if !known && merged.len() <= MAX_MERGES {
                merged.push(source);
                source.add_merged(merged);
            }
        }
    }

    /// A sequence's items (none for anything else).
    pub(crate) fn items(self) -> Vec<At<'n>> {
        self.node.sequence().unwrap_or_default().iter().map(|item| self.step(item)).collect()
    }
}
