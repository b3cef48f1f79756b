//! A review as Markdown, as GitLab renders it in a note.

use std::fmt::Write as _;

use super::{ChangeAction, Review, Shown, visible};

impl Review {
    /// As Markdown: a heading for each risk, a list of its changes, and under each change a list of its properties.
    ///
    /// Whatever is not ours is in a code span, in which Markdown knows no links, mentions, references or HTML.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text = format!("**Change set**: {}\n", self.summary());
        for note in self.notes() {
            let _ = write!(text, "\n> **Note**: {note}\n");
        }
        for group in self.groups() {
            let _ = write!(text, "\n#### {} ({})\n\n", group.risk.as_str(), group.total);
            for change in group.changes {
                let (name, kind) = (code(&change.name()), code(&visible(&change.resource_type)));
                let id = change.going().map(|id| format!(", {}", code(&id))).unwrap_or_default();
                let _ = writeln!(text, "- **{}** {name} ({kind}{id})", change.verb());
                let is_new = matches!(change.action, ChangeAction::Add | ChangeAction::Import);
                for property in &change.properties {
                    let (was, becomes) = (told(property.was()), told(property.becomes()));
                    let change = match (&property.before, &property.after) {
                        (None, None) => String::new(),
                        (None, Some(_)) if is_new => format!(": {becomes}"),
                        (Some(_), _) | (None, Some(_)) => format!(": {was} → {becomes}"),
                    };
                    let cause = property.cause.as_deref().map(|cause| format!("because of {}", code(&visible(cause))));
                    let replaces = Some(property.recreation.as_str()).filter(|word| !word.is_empty());
                    let effect: Vec<_> = replaces.map(|word| format!("**{word}**")).into_iter().chain(cause).collect();
                    let effect = if effect.is_empty() { String::new() } else { format!(" ({})", effect.join(", ")) };
                    let _ = writeln!(text, "  - {}{change}{effect}", code(&property.name()));
                }
                for note in change.notes() {
                    let _ = writeln!(text, "  - *{note}*");
                }
            }
            if group.more() > 0 {
                let _ = writeln!(text, "- *and {} more*", group.more());
            }
        }
        text
    }
}

fn told(value: Shown) -> String {
    match value {
        Shown::Text(text) => code(&text),
        Shown::Cut(text) => code(&text) + " *(cut)*",
        Shown::Word(word) => format!("*{word}*"),
    }
}

/// A code span of one line: fenced by more backticks than there are in a row in it, and with the spaces that CommonMark takes off
/// again (<https://spec.commonmark.org/0.31.2/#code-spans>).
pub(crate) fn code(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let padded = text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']) || text.is_empty();
    let pad = if padded { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}
