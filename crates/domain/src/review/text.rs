//! A review as plain text, for a terminal or a job's log.

use std::fmt::Write as _;

use super::{ChangeAction, Property, Review, Shown};

/// A line with a property is broken when it has more characters.
const WIDTH: usize = 110;
/// A longer name or type does not widen the column for all others.
const WIDEST: usize = 44;

impl Review {
    /// As plain text: under each risk its changes in columns, under each change its properties.
    #[must_use]
    pub fn to_text(&self) -> String {
        let width = |cell: fn(&super::Change) -> String| {
            let widths = self.changes.iter().map(|change| cell(change).chars().count());
            widths.filter(|width| *width <= WIDEST).max().unwrap_or(0)
        };
        let verbs = width(|change| change.verb().to_owned());
        let (names, types) = (width(super::Change::name), width(|change| super::visible(&change.resource_type)));
        let mut text = String::new();
        for note in self.notes() {
            let _ = writeln!(text, "NOTE: {note}");
        }
        for group in self.groups() {
            let _ = writeln!(text, "{} ({})", group.risk.as_str(), group.total);
            for change in group.changes {
                let (verb, name, kind) = (change.verb(), change.name(), super::visible(&change.resource_type));
                let id = change.going().unwrap_or_default();
                let line = format!("  {verb:verbs$}  {name:names$}  {kind:types$}  {id}");
                let _ = writeln!(text, "{}", line.trim_end());
                let is_new = matches!(change.action, ChangeAction::Add | ChangeAction::Import);
                change.properties.iter().for_each(|property| property_lines(property, is_new, &mut text));
                for note in change.notes() {
                    let _ = writeln!(text, "      ({note})");
                }
            }
            if group.more() > 0 {
                let _ = writeln!(text, "  (and {} more)", group.more());
            }
        }
        text
    }
}

/// `before → after` on one line if that is short and cannot be misread, else one under the other.
fn property_lines(property: &Property, is_new: bool, text: &mut String) {
    let (name, effect) = (property.name(), property.effect());
    let effect = if effect.is_empty() { effect } else { format!("  ({effect})") };
    let (before, after) = (told(property.was()), told(property.becomes()));
    let change = match (&property.before, &property.after) {
        (None, None) => String::new(),
        (None, Some(_)) if is_new => format!(": {after}"),
        (Some(_), _) | (None, Some(_)) => format!(": {before} → {after}"),
    };
    let line = format!("      {name}{change}{effect}");
    if line.chars().count() <= WIDTH && ![&name, &before, &after].iter().any(|part| part.contains('→')) {
        let _ = writeln!(text, "{line}");
        return;
    }
    let _ = writeln!(text, "      {name}{effect}");
    for (mark, value, told) in [('-', &property.before, before), ('+', &property.after, after)] {
        if value.is_some() {
            let _ = writeln!(text, "        {mark} {told}");
        }
    }
}

fn told(value: Shown) -> String {
    match value {
        Shown::Text(text) => text,
        Shown::Cut(text) => text + " (cut)",
        Shown::Word(word) => format!("({word})"),
    }
}
