//! What there is, for a person: a list of environments, a history, and what an environment waits for.

use jiff::Timestamp;
use serde::Serialize;
use slipway_domain::deployment::{Action, Ending};
use slipway_domain::expiry::Pin;
use slipway_domain::protocol::HistoryPage;
use slipway_domain::registry::{Listed, Past, Waits, Why};

use crate::console::Console;
use crate::table::{self, Column};

/// How many characters of a digest or a commit are shown.
const SHORT: usize = 8;

/// All environments that were asked for.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Environments {
    pub(crate) environments: Vec<Listed>,
    pub(crate) unreadable: Vec<String>,
}

impl Environments {
    /// Prints them as a table.
    pub(crate) fn print(&self, console: &Console, now: Timestamp) {
        if self.environments.is_empty() && self.unreadable.is_empty() {
            console.line("There is no such environment.");
        } else {
            table::lines(self.columns(now), console.width()).iter().for_each(|line| console.line(line));
        }
        print_unreadable(console, "the environment", &self.unreadable);
    }

    /// What matters most comes first.
    fn columns(&self, now: Timestamp) -> Vec<Column> {
        let column =
            |title, cell: &dyn Fn(&Listed) -> Option<String>| Column::new(title, self.environments.iter().map(cell));
        let first = self.environments.first().map(|listed| listed.environment.project);
        let one = self.environments.iter().all(|listed| Some(listed.environment.project) == first);
        vec![
            column("ENVIRONMENT", &|listed| Some(listed.environment.environment.to_string())),
            column("STAGE", &|listed| Some(listed.environment.stage.to_string())),
            column("APPLICATION", &|listed| Some(listed.environment.application.to_string())),
            column("PROJECT", &|listed| (!one).then(|| listed.environment.project.to_string())),
            column("STATE", &|listed| Some(listed.state.as_str().to_owned())),
            column("EXPIRES", &|listed| listed.expires_at.map(|at| relative(at, now))),
            column("WHEN", &|listed| listed.deployed_at.map(|at| relative(at, now))),
            column("BY", &|listed| listed.deployed_by.clone()),
            column("COMMIT", &|listed| listed.commit.as_deref().map(short)),
            column("URL", &|listed| listed.url.clone()),
            column("PINNED", &|listed| listed.pin.as_ref().map(|pin| format!("by {}: {}", pin.by, pin.reason))),
            column("REF", &|listed| listed.ref_name.clone()),
        ]
    }
}

/// Prints what was done to an environment.
pub(crate) fn print_history(page: &HistoryPage, console: &Console, now: Timestamp) {
    let lines = table::lines(past_columns(&page.deployments, now), console.width());
    let mut lines = lines.iter();
    if let Some(titles) = lines.next() {
        console.line(titles);
    }
    for (line, past) in lines.zip(&page.deployments) {
        console.line(line);
        if let Some(message) = &past.message {
            console.line(&format!("  {message}"));
        }
    }
    print_unreadable(console, "the deployment", &page.unreadable);
    if page.next.is_some() {
        console.line("There are older ones: --limit shows more.");
    }
}

fn past_columns(deployments: &[Past], now: Timestamp) -> Vec<Column> {
    let column = |title, cell: &dyn Fn(&Past) -> Option<String>| Column::new(title, deployments.iter().map(cell));
    vec![
        column("BEGAN (UTC)", &|past| Some(date(past.began_at))),
        column("WHAT", &|past| Some(what(past).to_owned())),
        column("RESULT", &|past| Some(result(past))),
        column("TOOK", &|past| {
            Some(match past.seconds {
                Some(seconds) => span(seconds),
                None => format!("{} so far", since(past.began_at, now)),
            })
        }),
        column("BY", &|past| Some(past.user_login.clone().unwrap_or_else(|| "cleanup".to_owned()))),
        column("PIPELINE", &|past| past.pipeline_id.map(|id| id.to_string())),
        column("COMMIT", &|past| past.commit.as_deref().map(short)),
        column("RELEASE", &|past| past.release.as_ref().map(|release| short(release.as_str()))),
        column("REF", &|past| past.ref_name.clone()),
        column("DEPLOYMENT", &|past| Some(past.id.to_string())),
    ]
}

fn print_unreadable(console: &Console, what: &str, names: &[String]) {
    for name in names {
        console.error(&format!("{what} {name} is there, and this version of the control plane cannot read its row."));
    }
}

fn what(past: &Past) -> &'static str {
    match past.action {
        Action::Deploy if past.rollback => "rollback",
        Action::Deploy | Action::Teardown | Action::Repair => past.action.as_str(),
    }
}

fn result(past: &Past) -> String {
    let ending = match past.result {
        None => "goes on",
        Some(Ending::Succeeded) => "succeeded",
        Some(Ending::NoChanges) => "no changes",
        Some(Ending::TornDown) => "torn down",
        Some(Ending::Repaired) => "repaired",
        Some(Ending::Looked) => "looked",
        Some(Ending::Failed) => "failed",
    };
    past.error.map_or_else(|| ending.to_owned(), |error| format!("{ending}: {error}"))
}

/// What an environment waits for, in sentences.
pub(crate) fn sentences(why: &Why, now: Timestamp) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", why.environment, why.state.as_str())];
    if let Some(past) = &why.deployment {
        let by = past.user_login.as_deref().unwrap_or("the cleanup");
        let pipeline = past.pipeline_id.map(|id| format!(" in pipeline {id}")).unwrap_or_default();
        let (what, began) = (what(past), at(past.began_at, now));
        lines.push(match (&why.waits, past.ended_at) {
            (Some(_), _) | (None, None) => format!("A {what} of {by}{pipeline} goes on, since {began}."),
            (None, Some(ended)) => {
                format!("Nothing goes on. The last {what}, of {by}{pipeline}: {}, {}.", result(past), at(ended, now))
            }
        });
        if let Some(message) = &past.message {
            lines.push(format!("Root cause: {message}"));
        }
    } else {
        lines.push("Nothing goes on, and nothing is on record.".to_owned());
    }
    match &why.waits {
        None => {}
        Some(Waits::Lease { holder, since, until }) => {
            lines.push(format!("It waits for the environment, which is held by {holder}."));
            lines.push(format!("It has waited since {}, and gives up at {}.", at(*since, now), at(*until, now)));
        }
        Some(Waits::Stack { status, since, until }) => {
            let status = status.as_ref().map(|status| format!(" ({status})")).unwrap_or_default();
            lines.push(format!("It waits for the stack{status}, which something outside Slipway changes."));
            lines.push(format!("It has waited since {}, and gives up at {}.", at(*since, now), at(*until, now)));
        }
        Some(Waits::People { required, who, progress, since, until, url }) => {
            let people = if *required == 1 { "1 person".to_owned() } else { format!("{required} people") };
            lines.push(format!("It waits for approval by {people} of: {who}."));
            lines.extend(progress.as_ref().map(|progress| format!("So far {progress}.")));
            lines.push(format!("They were asked at {}, and have until {}.", at(*since, now), at(*until, now)));
            lines.extend(url.as_ref().map(|url| format!("They decide at {url}")));
        }
        Some(Waits::CloudFormation { doing, since, expected, until }) => {
            lines.push(format!("CloudFormation is at work: {doing}, since {}.", at(*since, now)));
            let expected = match expected {
                Some(expected) if *expected > now => format!("It is expected to be done at {}", at(*expected, now)),
                Some(expected) => format!("It was expected to be done at {}, as the last time", at(*expected, now)),
                None => "How long it takes is not known yet".to_owned(),
            };
            lines.push(format!("{expected}; it is given up at {}.", at(*until, now)));
        }
        Some(Waits::Slipway { doing, .. }) => lines.push(format!("It waits for nobody: Slipway is {doing}.")),
    }
    if let Some(retry) = why.retry_at {
        let times =
            if why.failed_teardowns == 1 { "once".to_owned() } else { format!("{} times", why.failed_teardowns) };
        lines.push(format!("Its teardown failed {times}, and is tried again at {}.", at(retry, now)));
    }
    lines.extend(why.pin.as_ref().map(|pin| format!("It is pinned {}.", pinned(pin, now))));
    let expires = why.expires_at.filter(|expires| why.pin.as_ref().is_none_or(|pin| pin.until != *expires));
    lines.extend(expires.map(|expires| format!("It expires at {}.", at(expires, now))));
    lines.extend(why.next.as_ref().map(|next| format!("What to do: {next}")));
    lines
}

/// Until when somebody keeps an environment, who and why.
pub(crate) fn pinned(pin: &Pin, now: Timestamp) -> String {
    format!("until {}, by {}: {}", at(pin.until, now), pin.by, pin.reason)
}

/// A moment, and how far away it is: `2026-01-01 09:00 UTC (in 2d 3h)`.
pub(crate) fn at(at: Timestamp, now: Timestamp) -> String {
    format!("{} UTC ({})", date(at), relative(at, now))
}

fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M").to_string()
}

fn relative(at: Timestamp, now: Timestamp) -> String {
    if at > now { format!("in {}", since(now, at)) } else { format!("{} ago", since(at, now)) }
}

fn since(from: Timestamp, to: Timestamp) -> String {
    span(u64::try_from(to.duration_since(from).as_secs()).unwrap_or(0))
}

/// A span of time in its two largest units.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, 0) => format!("{minutes}m"),
        (0, 0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (0, hours, 0, _) => format!("{hours}h"),
        (0, hours, minutes, _) => format!("{hours}h {minutes}m"),
        (days, 0, ..) => format!("{days}d"),
        (days, hours, ..) => format!("{days}d {hours}h"),
    }
}

fn short(text: &str) -> String {
    text.chars().take(SHORT).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_far_as_they_matter() {
        let now: Timestamp = "2026-01-02T09:00:00Z".parse().unwrap();
        for (time, text) in [
            ("2026-01-02T08:59:15Z", "45s ago"),
            ("2026-01-02T06:57:00Z", "2h 3m ago"),
            ("2025-12-30T09:00:00Z", "3d ago"),
            ("2026-01-04T12:30:00Z", "in 2d 3h"),
            ("2026-01-02T09:02:00Z", "in 2m"),
        ] {
            assert_eq!(relative(time.parse().unwrap(), now), text);
        }
        assert_eq!(at(now, now), "2026-01-02 09:00 UTC (0s ago)");
    }
}
