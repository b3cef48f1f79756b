//! What is recorded of an environment: shown, and proven.

use serde::Serialize;
use slipway_domain::approval::Decider;
use slipway_domain::audit::{Act, Actor, Head, Row, Written, verify};
use slipway_domain::lease::Holder;
use slipway_domain::names::{Digest, EnvironmentKey};
use slipway_domain::review::visible;

use crate::api::Api;
use crate::console::Console;
use crate::error::CliError;
use slipway_domain::protocol::On;

/// An environment's whole chain.
#[derive(Debug)]
pub(crate) struct Chain {
    environment: EnvironmentKey,
    rows: Vec<Row>,
    head: Head,
}

#[derive(Serialize)]
struct Document<'a> {
    environment: &'a EnvironmentKey,
    rows: Vec<Written>,
    head: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    intact: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
}

/// Reads a head as somebody noted it: `12:<64 hex digits>`.
pub(crate) fn noted(text: &str) -> Result<Head, CliError> {
    let read = || {
        let (number, hash) = text.split_once(':')?;
        Some(Head { number: number.parse().ok()?, hash: Digest::new(hash).ok()? })
    };
    read().ok_or_else(|| {
        CliError::Usage(format!("{text} is no head of a chain: it is NUMBER:HASH, as `slipway audit` shows it"))
    })
}

impl Chain {
    /// Asks for all of it.
    pub(crate) async fn read(api: &Api, on: &On) -> Result<Self, CliError> {
        let mut page = api.audit(on, 0).await?;
        let mut rows = std::mem::take(&mut page.rows);
        loop {
            let after = rows.last().map_or(0, |row| row.number);
            let next = api.audit(on, after).await?;
            // What was recorded since the first answer is in the last one, and so is its head.
            page.head = next.head;
            if next.rows.is_empty() {
                return Ok(Self { environment: page.environment, rows, head: page.head });
            }
            rows.extend(next.rows);
        }
    }

    /// Shows it.
    pub(crate) fn show(&self, console: &Console) -> u8 {
        self.rows.iter().for_each(|row| console.line(&line(row)));
        console.line(&format!("{}: {} acts; the last is {}", self.environment, self.rows.len(), self.head));
        console.document(&self.document(None, None));
        0
    }

    /// Proves it. Gives the exit code.
    pub(crate) fn verify(&self, noted: &[Head], console: &Console) -> u8 {
        if self.rows.is_empty() && self.head.number == 0 {
            console.error(&format!("{}: nothing is recorded.", self.environment));
            console
                .error("Either there never was such an environment (check the names), or its record was taken away.");
            console.document(&self.document(Some(false), Some("nothing is recorded".to_owned())));
            return 1;
        }
        match verify(&self.environment, &self.rows, &self.head, noted) {
            Ok(()) => {
                console.line(&format!("{}: {} acts, each as it was recorded.", self.environment, self.rows.len()));
                console.line("Note the head elsewhere; whether it still is in the chain, this tells later:");
                console.line(&format!("  slipway audit verify --noted {}", self.head));
                console.document(&self.document(Some(true), None));
                0
            }
            Err(broken) => {
                console.error(&format!("{}: {broken}.", self.environment));
                console.error("Somebody wrote to the table: CloudTrail and the table's point-in-time recovery tell who, and what was there.");
                console.document(&self.document(Some(false), Some(broken.to_string())));
                1
            }
        }
    }

    fn document(&self, intact: Option<bool>, broken: Option<String>) -> Document<'_> {
        let rows = self.rows.iter().filter_map(Row::read).collect();
        Document { environment: &self.environment, rows, head: self.head.to_string(), intact, broken }
    }
}

/// A row in one line.
fn line(row: &Row) -> String {
    let Some(Written { number, entry, .. }) = row.read() else {
        return format!("{:>5}  (a row that this version of slipway cannot read)", row.number);
    };
    let short = |digest: &Digest| digest.as_str().chars().take(12).collect::<String>();
    let what = match &entry.act {
        Act::Admitted { action, release } => {
            let release = release.as_ref().map(|release| format!(" {}", short(release))).unwrap_or_default();
            format!("{}{release}", action.as_str())
        }
        Act::Refused { asked, why } => format!("{asked}: {why}"),
        Act::Reviewed { binding, .. } | Act::Approved { binding, .. } | Act::Rejected { binding, .. } => short(binding),
        Act::Executed { binding, approval, .. } => {
            let approved = if approval.is_some() { ", as approved" } else { "" };
            format!("{}{approved}", short(binding))
        }
        Act::Settled { action, ending, error } => {
            let ending = serde_json::to_value(ending).unwrap_or_default();
            let error = error.map(|error| format!(" ({error})")).unwrap_or_default();
            format!("{} {}{error}", action.as_str(), ending.as_str().unwrap_or_default().replace('_', " "))
        }
        Act::TornDown => String::new(),
        Act::Expired { because } => because.to_string(),
        Act::Unlocked { holder, fence } => {
            let holder = holder.as_ref().map(Holder::to_string).unwrap_or_else(|| format!("fence {fence}"));
            format!("from {holder}")
        }
        Act::Kept { until: Some(until), .. } => format!("until {}", until.strftime("%Y-%m-%d %H:%M UTC")),
        Act::Kept { until: None, .. } => String::new(),
    };
    let way = match &entry.by {
        Actor::Job(requester) => format!(" (job {} of pipeline {})", requester.job_id, requester.pipeline_id),
        Actor::Decider(Decider::Person { .. }) => " (signed in)".to_owned(),
        Actor::Decider(Decider::Job { job_id, .. }) => format!(" (job {job_id})"),
        Actor::Decider(Decider::Principal { .. }) | Actor::Sweep => String::new(),
    };
    let reason = entry.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let (done, by) = (entry.act.done(), entry.by.name());
    visible(&format!("{number:>5}  {:.0}  {done:<9}  {by}{way}  {what}{reason}", entry.at)).trim_end().to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use slipway_domain::audit::Entry;
    use slipway_domain::deployment::Requester;

    #[test]
    fn a_row_is_a_line() {
        let requester = Requester {
            user_id: 7,
            user_login: "dana".into(),
            pipeline_id: 100,
            job_id: 1000,
            project_path: "group/news".into(),
            ref_name: "main".into(),
            ref_type: None,
            sha: "c0ffee".into(),
        };
        let why = "claim ref is \"x\"; stage prod allows main\u{1b}".to_owned();
        let entry = Entry {
            act: Act::Refused { asked: "deploy".into(), why },
            by: Actor::Job(requester),
            reason: None,
            deployment: None,
            at: "2026-01-01T09:00:00.5Z".parse().unwrap(),
        };
        let head = Head { number: 6, hash: Digest::of(b"x") };
        let (row, _) = head.follow(&entry).unwrap();
        let shown = line(&row);
        assert!(
            shown.starts_with(
                "    7  2026-01-01T09:00:00Z  refused    dana (job 1000 of pipeline 100)  deploy: claim ref is \"x\""
            ),
            "{shown}"
        );
        assert!(!shown.contains('\u{1b}'), "{shown}");
        assert!(line(&Row { number: 8, text: "else".into() }).contains("cannot read"));
    }

    #[test]
    fn a_noted_head_is_read_back() {
        let head = Head { number: 6, hash: Digest::of(b"x") };
        assert_eq!(noted(&head.to_string()), Ok(head));
        for text in ["", "6", "6:", ":x", "x:00"] {
            assert!(noted(text).is_err(), "{text}");
        }
    }
}
