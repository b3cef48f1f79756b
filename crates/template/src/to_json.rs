//! Writes a template as JSON.

use crate::node::{At, Kind, Mapping, Node, Style, is_merge, key_text};
use crate::scalar::{self, Scalar};
use crate::{MAX_DEPTH, MAX_TEMPLATE_BYTES, Template, TemplateError};

pub(crate) fn write(template: &Template) -> Result<String, TemplateError> {
    let anchors = template.anchors();
    let root = At::new(&template.root, &anchors);
    let with = |indent| {
        let mut writer = Writer { out: String::new(), indent, depth: 0, is_json: template.is_json };
        writer.value(root)?;
        writer.push("\n")?;
        Ok(writer.out)
    };
    match with(4) {
        // Blanks are the least that a template can do without.
        Err(TemplateError::TooLargeAsJson) => with(0),
        result => result,
    }
}

struct Writer {
    out: String,
    /// Spaces for each level; none means no line breaks, either.
    indent: usize,
    depth: usize,
    is_json: bool,
}

impl Writer {
    /// Aliases can make a small template a huge one: the bound holds while writing.
    fn push(&mut self, text: &str) -> Result<(), TemplateError> {
        if self.out.len() + text.len() > MAX_TEMPLATE_BYTES {
            return Err(TemplateError::TooLargeAsJson);
        }
        self.out.push_str(text);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), TemplateError> {
        self.push(&serde_json::Value::from(text).to_string())
    }

    fn open(&mut self, bracket: &str, node: &Node) -> Result<(), TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(TemplateError::TooDeep { line: node.line, column: node.column });
        }
        self.push(bracket)
    }

    /// Before an entry or item: `first` of its collection, or behind another one.
    fn next(&mut self, first: bool) -> Result<(), TemplateError> {
        if !first {
            self.push(",")?;
        }
        self.line()
    }

    fn line(&mut self) -> Result<(), TemplateError> {
        if self.indent == 0 {
            return Ok(());
        }
        self.push("\n")?;
        self.push(&" ".repeat(self.indent * self.depth))
    }

    fn key(&mut self, key: &str, first: bool) -> Result<(), TemplateError> {
        self.next(first)?;
        self.text(key)?;
        self.push(if self.indent == 0 { ":" } else { ": " })
    }

    fn close(&mut self, bracket: &str, empty: bool) -> Result<(), TemplateError> {
        self.depth -= 1;
        if !empty {
            self.line()?;
        }
        self.push(bracket)
    }

    fn value(&mut self, at: At<'_>) -> Result<(), TemplateError> {
        let node = at.node;
        let Some(name) = node.short() else { return self.untagged(at) };
        self.open("{", node)?;
        match name {
            "Ref" | "Condition" => self.key(name, true)?,
            name => self.key(&format!("Fn::{name}"), true)?,
        }
        match &node.kind {
            Kind::Scalar { value, .. } if name == "GetAtt" => {
                self.open("[", node)?;
                for (n, part) in value.splitn(2, '.').enumerate() {
                    self.next(n == 0)?;
                    self.text(part)?;
                }
                self.close("]", false)?;
            }
            Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Mapping(_) | Kind::Alias(_) => self.untagged(at)?,
        }
        self.close("}", false)
    }

    /// A value whose short form, if it has one, is written already.
    fn untagged(&mut self, at: At<'_>) -> Result<(), TemplateError> {
        let node = at.node;
        let fault = |reason| TemplateError::Syntax { line: node.line, column: node.column, reason };
        match &node.kind {
            Kind::Scalar { value, style } => {
                let scalar =
                    if self.is_json { json(value, *style) } else { scalar::read(value, *style, node.tag.as_deref()) };
                match scalar.map_err(fault)? {
                    Scalar::Null => self.push("null"),
                    Scalar::Bool(true) => self.push("true"),
                    Scalar::Bool(false) => self.push("false"),
                    Scalar::Number(number) => self.push(&number),
                    Scalar::Text(text) => self.text(text),
                }
            }
            Kind::Sequence(items) => {
                scalar::check_collection(node.tag.as_deref(), "seq").map_err(fault)?;
                self.open("[", node)?;
                for (n, item) in items.iter().enumerate() {
                    self.next(n == 0)?;
                    self.value(at.step(item))?;
                }
                self.close("]", items.is_empty())
            }
            Kind::Mapping(mapping) => {
                scalar::check_collection(node.tag.as_deref(), "map").map_err(fault)?;
                self.mapping(at, mapping)
            }
            // Every alias is resolved on the way.
            Kind::Alias(_) => Err(fault("an alias of nothing".to_owned())),
        }
    }

    fn mapping(&mut self, at: At<'_>, mapping: &Mapping) -> Result<(), TemplateError> {
        self.open("{", at.node)?;
        let mut first = true;
        for (key, value) in &mapping.entries {
            if is_merge(key) {
                self.merged(at, mapping, &mut first)?;
                continue;
            }
            self.key(key_text(key), first)?;
            self.value(at.step(value))?;
            first = false;
        }
        self.close("}", first)
    }
    /// What a mapping has from others: each key that is not its own, from the first one that has it.
    fn merged(&mut self, at: At<'_>, own: &Mapping, first: &mut bool) -> Result<(), TemplateError> {
        let merged = at.merged();
        let mappings: Vec<&Mapping> = merged.iter().filter_map(|at| at.node.mapping()).collect();
        for (n, (source, mapping)) in merged.iter().zip(&mappings).enumerate() {
            for (key, value) in mapping.entries.iter().filter(|(key, _)| !is_merge(key)) {
                let name = key_text(key);
                let before = mappings.iter().take(n).any(|mapping| mapping.get(name).is_some());
                if !before && own.get(name).is_none() {
                    self.key(name, *first)?;
                    self.value(source.step(value))?;
                    *first = false;
                }
            }
        }
        Ok(())
    }
}

/// A scalar of a JSON document: a literal keeps its notation.
fn json(value: &str, style: Style) -> Result<Scalar<'_>, String> {
    Ok(match (style, value) {
        (Style::Plain, "null") => Scalar::Null,
        (Style::Plain, "true") => Scalar::Bool(true),
        (Style::Plain, "false") => Scalar::Bool(false),
        (Style::Plain, number) => Scalar::Number(number.to_owned()),
        (Style::Single | Style::Double | Style::Block, text) => Scalar::Text(text),
    })
}
