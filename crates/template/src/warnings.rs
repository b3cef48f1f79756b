//! What a person should know about a template.

use crate::Template;
use crate::node::{Kind, Mapping, Node, Style};

/// Something in a template that is probably not meant. Line and column count from one, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Line of the value.
    pub line: usize,
    /// Column of the value.
    pub column: usize,
    /// What it is, and what to do.
    pub message: String,
}

pub(crate) fn of(template: &Template) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut shared = Vec::new();
    template.root.walk(&mut |node| {
        if let Some(text) = account_id(node) {
            let message = format!(
                "`{text}` is not quoted: YAML may read it as a number and lose the zero in front; if it is an account \
                 id, write '{text}'"
            );
            warnings.push(Warning { line: node.line, column: node.column, message });
        }
        let merge = node.mapping().and_then(Mapping::merge);
        // Of `<<: *x`, the alias counts.
        let direct = merge.filter(|(_, value)| value.mapping().is_some()).map(|(key, _)| key);
        shared.extend(direct.or(node.is_alias().then_some(node)).map(|node| (node.line, node.column)));
    });
    if let Some(&(line, column)) = shared.first() {
        let message = format!(
            "CloudFormation refuses YAML aliases and merges, and the template has {}: write the values out, or let \
             `slipway package --use-json` do it",
            shared.len()
        );
        let place = warnings.partition_point(|warning| (warning.line, warning.column) < (line, column));
        warnings.insert(place, Warning { line, column, message });
    }
    warnings
}

/// A plain scalar of twelve digits with a zero in front.
fn account_id(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Scalar { value, style: Style::Plain } if node.tag.is_none() => {
            let digits = value.len() == 12 && value.starts_with('0') && value.bytes().all(|byte| byte.is_ascii_digit());
            digits.then_some(value)
        }
        Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Mapping(_) | Kind::Alias(_) => None,
    }
}
