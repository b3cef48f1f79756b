//! JSON to nodes (RFC 8259).

use crate::node::{Kind, Mapping, Node, Style};
use crate::{MAX_DEPTH, TemplateError};

/// Parses a JSON text: `None` if it is none (YAML may still read it). `skip` bytes of the source stand before `text`.
pub(crate) fn parse(text: &str, skip: usize) -> Result<Option<Node>, TemplateError> {
    let mut reader = Reader { text, at: 0, skip, line: 1, counted: 0, column: 1 };
    match reader.document() {
        Ok(root) => Ok(Some(root)),
        Err(Stop::NotJson) => Ok(None),
        Err(Stop::Fault(error)) => Err(error),
    }
}

enum Stop {
    NotJson,
    Fault(TemplateError),
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    skip: usize,
    line: usize,
    /// A byte of the current line, and its column: counting goes on from there.
    counted: usize,
    column: usize,
}

/// A collection that is not closed yet.
struct Open {
    node: Node,
    key: Option<Node>,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'\n' => {
                    self.at += 1;
                    self.line += 1;
                    self.counted = self.at;
                    self.column = 1;
                }
                _ => break,
            }
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    /// Line and column of a byte that no node before it begins behind.
    fn position(&mut self, start: usize) -> (usize, usize) {
        self.column += self.text.get(self.counted..start).map_or(0, |between| between.chars().count());
        self.counted = start;
        (self.line, self.column)
    }

    fn node(&mut self, kind: Kind, start: usize) -> Node {
        let (line, column) = self.position(start);
        Node { kind, tag: None, anchor: 0, span: start + self.skip..self.at + self.skip, line, column }
    }

    fn document(&mut self) -> Result<Node, Stop> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            self.blanks();
            let start = self.at;
            // One value, or the beginning or end of a collection.
            let mut done = if self.take(b'{') {
                open.push(Open { node: self.node(Kind::Mapping(Mapping::default()), start), key: None });
                self.blanks();
                if self.take(b'}') { self.close(&mut open)? } else { None }
            } else if self.take(b'[') {
                open.push(Open { node: self.node(Kind::Sequence(Vec::new()), start), key: None });
                self.blanks();
                if self.take(b']') { self.close(&mut open)? } else { None }
            } else {
                Some(self.scalar()?)
            };
            if open.len() > MAX_DEPTH {
                let (line, column) = self.position(start);
                return Err(Stop::Fault(TemplateError::TooDeep { line, column }));
            }
            while let Some(node) = done {
                let Some(parent) = open.last_mut() else {
                    self.blanks();
                    return if self.rest().is_empty() { Ok(node) } else { Err(Stop::NotJson) };
                };
                let end = match (&mut parent.node.kind, parent.key.take()) {
                    (Kind::Sequence(items), _) => {
                        items.push(node);
                        b']'
                    }
                    (Kind::Mapping(mapping), Some(key)) => {
                        mapping.entries.push((key, node));
                        b'}'
                    }
                    (Kind::Mapping(_) | Kind::Scalar { .. } | Kind::Alias(_), _) => return Err(Stop::NotJson),
                };
                self.blanks();
                done = if self.take(end) {
                    self.close(&mut open)?
                } else if self.take(b',') {
                    None
                } else {
                    return Err(Stop::NotJson);
                };
            }
            // A mapping wants a key before its next value.
            if open.last().is_some_and(|parent| matches!(parent.node.kind, Kind::Mapping(_))) {
                self.blanks();
                let start = self.at;
                let value = self.string()?;
                let key = self.node(Kind::Scalar { value, style: Style::Double }, start);
                self.blanks();
                if !self.take(b':') {
                    return Err(Stop::NotJson);
                }
                if let Some(parent) = open.last_mut() {
                    parent.key = Some(key);
                }
            }
        }
    }

    fn close(&self, open: &mut Vec<Open>) -> Result<Option<Node>, Stop> {
        let Some(Open { mut node, .. }) = open.pop() else { return Ok(None) };
        node.close(self.at + self.skip).map_err(Stop::Fault)?;
        Ok(Some(node))
    }

    fn scalar(&mut self) -> Result<Node, Stop> {
        let start = self.at;
        if self.peek() == Some(b'"') {
            let value = self.string()?;
            return Ok(self.node(Kind::Scalar { value, style: Style::Double }, start));
        }
        let length = self.rest().find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')));
        self.at += length.unwrap_or(self.rest().len());
        let value = self.text.get(start..self.at).unwrap_or_default();
        if !matches!(value, "true" | "false" | "null") && !is_number(value) {
            return Err(Stop::NotJson);
        }
        Ok(self.node(Kind::Scalar { value: value.to_owned(), style: Style::Plain }, start))
    }

    fn string(&mut self) -> Result<String, Stop> {
        if !self.take(b'"') {
            return Err(Stop::NotJson);
        }
        let mut value = String::new();
        loop {
            let c = self.rest().chars().next().ok_or(Stop::NotJson)?;
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(value),
                '\\' => value.push(self.escape()?),
                c if u32::from(c) < 0x20 => return Err(Stop::NotJson),
                c => value.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Stop> {
        let byte = self.peek().ok_or(Stop::NotJson)?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex()?;
                let code = if (0xd800..0xdc00).contains(&high) {
                    if !(self.take(b'\\') && self.take(b'u')) {
                        return Err(Stop::NotJson);
                    }
                    let low = self.hex()?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(Stop::NotJson);
                    }
                    0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
                } else {
                    high
                };
                char::from_u32(code).ok_or(Stop::NotJson)?
            }
            _ => return Err(Stop::NotJson),
        })
    }

    fn hex(&mut self) -> Result<u32, Stop> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(Stop::NotJson)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Stop::NotJson);
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| Stop::NotJson)
    }
}

/// `-? int frac? exp?`
fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (int, fraction) = match mantissa.split_once('.') {
        Some((int, fraction)) => (int, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(int)
        && (int == "0" || !int.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}
