//! The figures as Markdown, for a terminal and for docs/WAITING.md.

use std::fmt::Write as _;

use crate::Outcome;
use crate::machine::{Machine, Steps};
use crate::replay::{self, Past, Policy, Run};

/// In seconds.
const DURATIONS: [u32; 9] = [20, 45, 90, 180, 300, 600, 1200, 1800, 2700];
/// How late the end may be noticed, as a part of the duration, or in seconds, whichever is more.
const LAG: f64 = 0.05;
const LAG_SECONDS: f64 = 2.0;
/// The most transitions of a deployment whose stack takes three minutes.
const TRANSITIONS: u32 = 40;
/// The most events of an execution: docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html.
const HISTORY: u32 = 25_000;

/// Dollars in us-east-1: aws.amazon.com/step-functions/pricing, and aws.amazon.com/lambda/pricing for arm64.
const PER_TRANSITION: f64 = 0.025 / 1000.0;
const PER_REQUEST: f64 = 0.20 / 1e6;
const PER_GB_SECOND: f64 = 0.000_013_333_4;
/// As template.yaml sets it for `wait-for-stack`.
const GB: f64 = 0.25;

/// What is replayed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bench {
    pub(crate) machine: Machine,
    /// What a look takes, in seconds.
    pub(crate) look: f64,
    pub(crate) repetitions: usize,
}

impl Bench {
    /// As docs/WAITING.md shows it.
    pub(crate) fn usual() -> Outcome<Self> {
        Ok(Self { machine: Machine::read()?, look: 2.0, repetitions: 1000 })
    }

    /// All tables.
    pub(crate) fn report(&self) -> String {
        let Machine { way, change_set_wait, stack_wait } = self.machine;
        let mut text = format!(
            "{} repetitions of each; a look takes {} s. The way through is {} transitions and {} events, a wait for the change set {} \
             and {}, a wait for the stack {} and {}.\n",
            self.repetitions,
            self.look,
            way.transitions,
            way.events,
            change_set_wait.transitions,
            change_set_wait.events,
            stack_wait.transitions,
            stack_wait.events
        );
        text.push_str(&self.replays("`next_wait`", Policy::Ours, &Past::ALL));
        // A fixed wait knows no past.
        text.push_str(&self.replays("Every 5 s", Policy::Fixed(5), &[Past::None]));
        text.push_str(&self.replays("Every 30 s", Policy::Fixed(30), &[Past::None]));
        text.push_str(&self.three_minutes());
        text.push_str(&self.possible());
        text.push_str(&self.trade());
        text.push_str(&self.twelve_hours());
        text
    }

    fn transitions(&self, run: &Run) -> u32 {
        let Machine { way, change_set_wait, stack_wait } = self.machine;
        way.and(change_set_wait.times(run.change_set.waits)).and(stack_wait.times(run.stack.waits)).transitions
    }

    /// What so many transitions cost, and the function that looked after each of so many waits, and before the first of both kinds.
    fn dollars(&self, transitions: u32, waits: u32) -> f64 {
        let looks = f64::from(waits + 2);
        f64::from(transitions) * PER_TRANSITION + looks * (PER_REQUEST + self.look * GB * PER_GB_SECOND)
    }

    fn replays(&self, name: &str, policy: Policy, pasts: &[Past]) -> String {
        let mut text = format!("\n**{name}**\n\n");
        text.push_str(
            "| stack takes | the last one | lag, median | worst | of its duration, median | worst | within budget | transitions, \
             median | most | Describe calls | $ for 1,000 |\n|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for nominal in DURATIONS {
            for past in pasts {
                let runs = replay::deployments(policy, nominal, *past, self.look, self.repetitions);
                let lag = Spread::of(runs.iter().map(|run| run.stack.lag));
                let part = Spread::of(runs.iter().map(|run| 100.0 * run.stack.lag / run.end));
                let transitions = Spread::of(runs.iter().map(|run| f64::from(self.transitions(run))));
                let describes =
                    Spread::of(runs.iter().map(|run| f64::from(run.change_set.describes + run.stack.describes)));
                let dollars =
                    Spread::of(runs.iter().map(|run| {
                        1000.0 * self.dollars(self.transitions(run), run.change_set.waits + run.stack.waits)
                    }));
                let _ = writeln!(
                    text,
                    "| {} | {} | {:.1} s | {:.1} s | {:.1} % | {:.1} % | {} | {:.0} | {:.0} | {:.0} | {:.2} |",
                    span(nominal),
                    past.name(),
                    lag.median,
                    lag.most,
                    part.median,
                    part.most,
                    share(&runs, in_budget),
                    transitions.median,
                    transitions.most,
                    describes.median,
                    dollars.median
                );
            }
        }
        text
    }

    /// Both budgets at once, also if a look takes another time than the policy reckons with.
    fn three_minutes(&self) -> String {
        let mut text = String::from("\n**Three minutes: both budgets**\n\n");
        let _ = writeln!(
            text,
            "| a look takes | the last one | lag within budget | at most {TRANSITIONS} transitions | both |\n|--:|---|--:|--:|--:|"
        );
        for look in [1.0, 2.0, 3.0, 4.0] {
            for past in [Past::None, Past::Same, Past::Shorter, Past::Longer] {
                let runs = replay::deployments(Policy::Ours, 180, past, look, self.repetitions);
                let few = |run: &Run| self.transitions(run) <= TRANSITIONS;
                let _ = writeln!(
                    text,
                    "| {look} s | {} | {} | {} | {} |",
                    past.name(),
                    share(&runs, in_budget),
                    share(&runs, few),
                    share(&runs, |run| few(run) && in_budget(run))
                );
            }
        }
        text
    }

    /// A deployment that waits so often for its stack, and for its change set as `next_wait` does; and all its waits.
    fn with_waits(&self, waits: u32) -> (Steps, u32) {
        let Machine { way, change_set_wait, stack_wait } = self.machine;
        let change_set = replay::change_set(Policy::Ours, replay::CHANGE_SET, self.look).waits;
        (way.and(change_set_wait.times(change_set)).and(stack_wait.times(waits)), change_set + waits)
    }

    /// What no policy can do better.
    fn possible(&self) -> String {
        let mut text = String::from("\n**What is possible: a stack of three minutes, always within 5 %**\n\n");
        text.push_str(
            "| the earliest end that it must be ready for | fewest waits | fewest transitions |\n|--:|--:|--:|\n",
        );
        for (from, what) in [
            (0.0, "any moment"),
            (90.0, "half of its duration"),
            (135.0, "three quarters"),
            (144.0, "80 %"),
            (153.0, "85 %"),
            (162.0, "90 %"),
            (171.0, "95 %"),
        ] {
            let waits = replay::fewest_waits(from, 180.0, LAG, self.look);
            let _ = writeln!(text, "| {what} | {waits} | {} |", self.with_waits(waits).0.transitions);
        }
        text
    }

    /// What a stack without a past costs, if its end may be noticed later.
    fn trade(&self) -> String {
        let mut text = String::from("\n**What a later notice saves: a stack of three minutes without a past**\n\n");
        text.push_str(
            "| noticed within | fewest waits | fewest transitions | $ for 1,000 deployments |\n|--:|--:|--:|--:|\n",
        );
        for part in [0.05, 0.075, 0.10, 0.15, 0.20, 0.30, 0.50, 0.75, 1.00] {
            let waits = replay::fewest_waits(0.0, 180.0, part, self.look);
            let (Steps { transitions, .. }, all) = self.with_waits(waits);
            let dollars = 1000.0 * self.dollars(transitions, all);
            let _ = writeln!(text, "| {:.1} % | {waits} | {transitions} | {dollars:.2} |", part * 100.0);
        }
        text
    }

    fn twelve_hours(&self) -> String {
        const END: u32 = 12 * 60 * 60;
        let mut text = String::from("\n**A stack of twelve hours**\n\n");
        text.push_str("| policy | waits | history events | of 25,000 |\n|---|--:|--:|--:|\n");
        for (name, policy, expected) in [
            ("`next_wait`, no past", Policy::Ours, None),
            ("`next_wait`, the same past", Policy::Ours, Some(END)),
            ("every 5 s", Policy::Fixed(5), None),
            ("every 30 s", Policy::Fixed(30), None),
        ] {
            let waits = replay::stack(policy, f64::from(END), expected, self.look).waits;
            let (Steps { events, .. }, _) = self.with_waits(waits);
            let part = 100.0 * f64::from(events) / f64::from(HISTORY);
            let dies = if events > HISTORY { ": the execution fails" } else { "" };
            let _ = writeln!(text, "| {name} | {waits} | {events} | {part:.0} %{dies} |");
        }
        text
    }
}

fn in_budget(run: &Run) -> bool {
    run.stack.lag <= LAG_SECONDS.max(LAG * run.end)
}

/// The part of the runs of which it is true.
fn share(runs: &[Run], is: impl Fn(&Run) -> bool) -> String {
    let part = runs.iter().filter(|run| is(run)).count() as f64 / runs.len().max(1) as f64;
    // Rounded down: 100 % is said only of what is true of all.
    format!("{:.0} %", (part * 100.0).floor())
}

fn span(seconds: u32) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        _ => format!("{} min", seconds / 60),
    }
}

struct Spread {
    median: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.collect();
        values.sort_by(f64::total_cmp);
        let median = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
        Self { median, most: values.last().copied().unwrap_or(f64::NAN) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    /// The machine's own count, which `waiting`'s tests do not see.
    #[test]
    fn three_minutes_as_the_last_time_are_within_both_budgets() {
        let bench = Bench::usual().unwrap();
        let runs = replay::deployments(Policy::Ours, 180, Past::Same, bench.look, bench.repetitions);
        assert!(runs.iter().all(in_budget));
        let most = runs.iter().map(|run| bench.transitions(run)).max().unwrap();
        assert!(most <= TRANSITIONS, "{most} transitions");
    }
}
