//! All printing. What is printed may come from AWS or from a file: nothing of it can move a cursor, start a new line or
//! hide text, on a terminal or in a job's log.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Where a command's output goes.
pub(crate) struct Console {
    json: bool,
    bar: Option<ProgressBar>,
}

/// `text` on one line, without anything that a terminal would act on.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            c if c.is_control() => '?',
            // They would show text in another order than it is in.
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '?',
            c => c,
        })
        .collect()
}

impl Console {
    /// With `json`, only the document goes to stdout. With `color`, a terminal gets a progress line.
    pub(crate) fn new(json: bool, color: bool) -> Self {
        let bar = (color && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed}  {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { json, bar }
    }

    /// One line of progress or of the result.
    pub(crate) fn line(&self, text: &str) {
        let text = clean(text);
        let text = text.trim_end();
        // A reader that went away is no reason to fail.
        self.beside(|| {
            let _ = if self.json { writeln!(io::stderr(), "{text}") } else { writeln!(io::stdout(), "{text}") };
        });
    }

    /// One line about what went wrong.
    pub(crate) fn error(&self, text: &str) {
        let text = clean(text);
        self.beside(|| {
            let _ = writeln!(io::stderr(), "{}", text.trim_end());
        });
    }

    /// One line beside what a command writes to stdout for a program to read.
    pub(crate) fn note(&self, text: &str) {
        self.error(text);
    }

    /// A file's text on stdout, as it is.
    pub(crate) fn raw(&self, text: &str) {
        self.beside(|| {
            let _ = write!(io::stdout(), "{text}");
        });
    }

    /// How many columns a terminal has for what goes to stdout; nothing where it is no terminal, or nobody knows.
    pub(crate) fn width(&self) -> Option<usize> {
        if self.json || !io::stdout().is_terminal() {
            return None;
        }
        ::console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns))
    }

    /// Whether a document is asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// The one document on stdout, if it was asked for.
    pub(crate) fn document(&self, document: &impl Serialize) {
        if self.json
            && let Ok(text) = serde_json::to_string_pretty(document)
        {
            let _ = writeln!(io::stdout(), "{text}");
        }
    }

    /// What goes on, on a terminal.
    pub(crate) fn progress(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.enable_steady_tick(Duration::from_millis(120));
            bar.set_message(clean(text));
        }
    }

    /// Nothing goes on any more.
    pub(crate) fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Whether a terminal shows what goes on.
    pub(crate) fn is_live(&self) -> bool {
        self.bar.is_some()
    }

    fn beside(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_or_a_log_acts_on_gets_through() {
        assert_eq!(clean("a\u{1b}[2Jb\nc\r\u{7}\u{9b}d\u{202e}"), "a?[2Jb c ??d?");
        assert_eq!(clean("section_start:1:x\r\u{1b}[0K"), "section_start:1:x ?[0K");
        assert_eq!(clean("Größe — 数"), "Größe — 数");
    }
}
