//! All printing. What is printed may come from AWS or from a file: nothing of it can move a cursor, start a new line or
//! hide text, on a terminal or in a job's log.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;

/// Where a command's output goes.
pub(crate) struct Console {
    json: bool,
    bar: Option<ProgressBar>,
    /// Whether a phase is a section that folds in GitLab's view of the job's log.
    sections: bool,
    phases: RefCell<Vec<Passed>>,
}

/// What a command is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Reading what the template references, and sending it.
    Bundle,
    /// Finding out what changes.
    ChangeSet,
    /// Asking people.
    Approval,
    /// Changing the stack.
    Stack,
    /// Deleting it.
    Teardown,
    /// Going on with its rollback.
    Repair,
}

impl Phase {
    /// For a person.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Phase::Bundle => "Bundle",
            Phase::ChangeSet => "Change set",
            Phase::Approval => "Approval",
            Phase::Stack => "Stack",
            Phase::Teardown => "Teardown",
            Phase::Repair => "Repair",
        }
    }
}

/// A phase, and when it was entered and left.
#[derive(Debug)]
struct Passed {
    phase: Phase,
    entered: Instant,
    left: Option<Instant>,
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
    /// With `json`, only the document goes to stdout. With `color`, a terminal gets a progress line. With `sections`, whoever shows
    /// the output understands [GitLab's markers](https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections).
    pub(crate) fn new(json: bool, color: bool, sections: bool) -> Self {
        let bar = (color && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed}  {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { json, bar, sections, phases: RefCell::default() }
    }

    /// What is printed from now on belongs to `phase`.
    pub(crate) fn enter(&self, phase: Phase) {
        let current = self.phases.borrow().last().filter(|last| last.left.is_none()).map(|last| last.phase);
        if current == Some(phase) {
            return;
        }
        self.leave();
        let number = {
            let mut phases = self.phases.borrow_mut();
            phases.push(Passed { phase, entered: Instant::now(), left: None });
            phases.len()
        };
        self.mark("start", number, phase.title());
    }

    /// What is printed from now on belongs to no phase.
    pub(crate) fn leave(&self) {
        let number = {
            let mut phases = self.phases.borrow_mut();
            let number = phases.len();
            let Some(last) = phases.last_mut().filter(|last| last.left.is_none()) else { return };
            last.left = Some(Instant::now());
            number
        };
        self.mark("end", number, "");
    }

    /// Which phases there were, each once, in their order, and how long each took.
    pub(crate) fn passed(&self) -> Vec<(Phase, Duration)> {
        let mut passed: Vec<(Phase, Duration)> = Vec::new();
        for Passed { phase, entered, left } in self.phases.borrow().iter() {
            let took = left.map_or_else(|| entered.elapsed(), |left| left - *entered);
            match passed.iter_mut().find(|(known, _)| known == phase) {
                Some((_, all)) => *all += took,
                None => passed.push((*phase, took)),
            }
        }
        passed
    }

    #[allow(clippy::disallowed_methods, reason = "GitLab shows how long a section took")]
    fn mark(&self, edge: &str, number: usize, title: &str) {
        if !self.sections {
            return;
        }
        let at = Timestamp::now().as_second();
        let mark = format!("\u{1b}[0Ksection_{edge}:{at}:slipway_{number}\r\u{1b}[0K{title}");
        let _ = if self.json { writeln!(io::stderr(), "{mark}") } else { writeln!(io::stdout(), "{mark}") };
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

    /// Nothing goes on any more, and no phase is left open.
    pub(crate) fn done(&self) {
        self.leave();
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
    fn each_phase_is_told_once_in_its_order() {
        let console = Console::new(true, false, false);
        for phase in [Phase::Bundle, Phase::ChangeSet, Phase::ChangeSet, Phase::Stack, Phase::ChangeSet] {
            console.enter(phase);
        }
        console.done();
        console.done();
        let passed: Vec<Phase> = console.passed().into_iter().map(|(phase, _)| phase).collect();
        assert_eq!(passed, [Phase::Bundle, Phase::ChangeSet, Phase::Stack]);
    }

    #[test]
    fn nothing_that_a_terminal_or_a_log_acts_on_gets_through() {
        assert_eq!(clean("a\u{1b}[2Jb\nc\r\u{7}\u{9b}d\u{202e}"), "a?[2Jb c ??d?");
        assert_eq!(clean("section_start:1:x\r\u{1b}[0K"), "section_start:1:x ?[0K");
        assert_eq!(clean("Größe — 数"), "Größe — 数");
    }
}
