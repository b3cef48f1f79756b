//! How a deployment that waits for people, or has ended, is shown in GitLab: the status of a commit, and the one note of a merge request.
//!
//! Both are read by whoever may read the merge request or the commit, which may be more people than those who read the job's log. What
//! comes from elsewhere is text in them, never markup.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use crate::ErrorName;
use crate::deployment::{Action, Deployment, DeploymentId, DeploymentRecord, Ending, Outcome, Requester};
use crate::environment::Environment;
use crate::names::{Digest, EnvironmentKey};
use crate::review::{code, visible};

/// The most characters of a status's name, description and address each (`lib/api/commit_statuses.rb` and `CommitStatus` of GitLab;
/// the columns are of that size).
const MAX_STATUS_CHARS: usize = 255;
/// The most characters of a root cause in a note. GitLab takes a million in all.
const MAX_CAUSE_CHARS: usize = 4000;
/// The most characters of an address that is shown as a link.
const MAX_URL_CHARS: usize = 2000;

/// A deployment that waits for people or ended, with what is said of it.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    deployment: &'a Deployment,
    requester: &'a Requester,
    stands: Stands<'a>,
    /// Whether people were asked.
    asked: bool,
    /// The review in one line.
    changes: Option<&'a str>,
    /// Where what is live answers.
    url: Option<&'a str>,
    /// The GitLab instance, without a slash at its end.
    gitlab: &'a str,
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
enum Stands<'a> {
    /// People are asked, until then.
    Waits(Timestamp),
    /// It ended.
    Ended(&'a Outcome),
}

/// The state of a commit's status, as GitLab writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitState {
    /// People are asked.
    Pending,
    /// It is as asked.
    Success,
    /// It is not.
    Failed,
    /// It was stopped, or something newer came first.
    Canceled,
}

/// A commit's status (<https://docs.gitlab.com/api/commits/#set-commit-pipeline-status>). It names the pipeline and no ref: GitLab finds
/// the pipeline by commit and number, and a merge request's pipeline has a ref that its jobs are not told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommitStatus {
    /// How it stands.
    pub state: CommitState,
    /// What: `slipway/<application>/<stage>/<environment>`, the same for each deployment of the environment.
    pub name: String,
    /// The same for a person; at most 255 characters.
    pub description: String,
    /// The job that asked; nothing where that address is longer than GitLab takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_url: Option<String>,
    /// The pipeline that the status is shown in.
    pub pipeline_id: u64,
}

/// A merge request's note about one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    environment: String,
    deployment: DeploymentId,
    /// Whether it tells of the deployment's end.
    is_last: bool,
    markdown: String,
}

impl<'a> Shown<'a> {
    /// What is said of `record`, whose end left `environment` behind, in the instance at `gitlab`; nothing where no job asked for it.
    #[must_use]
    pub fn new(
        record: &'a DeploymentRecord,
        outcome: &'a Outcome,
        environment: &'a Environment,
        gitlab: &'a str,
    ) -> Option<Self> {
        Self::of(record, Stands::Ended(outcome), environment, gitlab)
    }

    /// What is said of `record` while it waits for people in `environment`; nothing where it does not, or no job asked for it.
    #[must_use]
    pub fn waiting(record: &'a DeploymentRecord, environment: &'a Environment, gitlab: &'a str) -> Option<Self> {
        let waiting = environment.waiting.as_ref().filter(|waiting| waiting.deployment == record.deployment.id)?;
        match record.outcome {
            Some(_) => None,
            None => Self::of(record, Stands::Waits(waiting.until), environment, gitlab),
        }
    }

    fn of(
        record: &'a DeploymentRecord,
        stands: Stands<'a>,
        environment: &'a Environment,
        gitlab: &'a str,
    ) -> Option<Self> {
        let deployment = &record.deployment;
        let requester = deployment.requester.as_ref()?;
        let (changes, url) = (record.changes.as_deref(), environment.url.as_deref());
        Some(Self { deployment, requester, stands, asked: record.approval.is_some(), changes, url, gitlab })
    }

    /// The status of the commit that the job ran for.
    #[must_use]
    pub fn status(&self) -> CommitStatus {
        let EnvironmentKey { application, stage, environment, .. } = &self.deployment.environment;
        let is_short = self.job().chars().count() <= MAX_STATUS_CHARS;
        let description = match self.stands {
            Stands::Waits(until) => format!("Awaits approval in {stage} until {until:.0}"),
            Stands::Ended(Outcome { error: Some(error), message: Some(message), .. }) => {
                let line: Vec<&str> = message.lines().collect();
                format!("{error}: {}", visible(&line.join(" ")))
            }
            Stands::Ended(Outcome { error: Some(error), message: None, .. }) => error.to_string(),
            Stands::Ended(outcome) => format!("{} in {}", self.result(), self.took(outcome)),
        };
        CommitStatus {
            state: self.state(),
            name: short(&format!("slipway/{application}/{stage}/{environment}"), MAX_STATUS_CHARS),
            description: short(&description, MAX_STATUS_CHARS),
            target_url: Some(self.job()).filter(|_| is_short && self.has_plain_path()),
            pipeline_id: self.requester.pipeline_id,
        }
    }

    /// The note; nothing where a newer deployment came first: the note is about that one. But where it said that people are asked, it
    /// says that they are no more.
    #[must_use]
    pub fn note(&self) -> Option<Note> {
        let error = match self.stands {
            Stands::Waits(_) => None,
            Stands::Ended(outcome) => outcome.error,
        };
        if error == Some(ErrorName::Superseded) && !self.asked {
            return None;
        }
        let key = &self.deployment.environment;
        let environment = marker(key);
        let mut text = format!("{environment}\n{}\n", stamp(&self.deployment.id));
        let EnvironmentKey { application, stage, environment: name, .. } = key;
        let [application, stage, name] = [application.as_str(), stage.as_str(), name.as_str()].map(code);
        let named = error.map(|error| format!(" ({error})")).unwrap_or_default();
        let _ = writeln!(text, "**{}**{named}: {application} in {stage}, environment {name}\n", self.result());
        if let Some(url) = self.url {
            let what = match self.stands {
                Stands::Waits(_) => "What is live meanwhile",
                Stands::Ended(outcome) if outcome.ending == Ending::Failed => "What was live before",
                Stands::Ended(_) => "URL",
            };
            let _ = writeln!(text, "- **{what}**: {}", link(url));
        }
        if let Some(changes) = self.changes {
            let _ = writeln!(text, "- **Changes**: {}", code(&visible(changes)));
        }
        if let Some(commit) = self.deployment.commit() {
            let _ = writeln!(text, "- **Commit**: {}", code(&visible(commit)));
        }
        let Requester { user_login, pipeline_id, project_path, .. } = self.requester;
        let pipeline = match self.has_plain_path() {
            true => format!("[{pipeline_id}](<{}/{project_path}/-/pipelines/{pipeline_id}>)", self.gitlab),
            false => pipeline_id.to_string(),
        };
        let _ = writeln!(text, "- **Pipeline**: {pipeline}, asked for by {}", code(&visible(user_login)));
        let is_last = match self.stands {
            Stands::Waits(until) => {
                let log = match self.has_plain_path() {
                    true => format!("[the job's log](<{}>)", self.job()),
                    false => "the job's log".to_owned(),
                };
                let _ = writeln!(text, "- **Until**: {until:.0}");
                let _ = writeln!(text, "\n**What to do**: Follow the link in {log}, and approve or reject.");
                false
            }
            Stands::Ended(outcome) => {
                let _ = writeln!(text, "- **Ended**: {:.0}, after {}", outcome.ended_at, self.took(outcome));
                if let Some(message) = &outcome.message {
                    let _ = write!(text, "\n**Root cause**\n\n{}", block(&short(message, MAX_CAUSE_CHARS)));
                }
                if let Some(error) = error {
                    let _ = writeln!(text, "\n**What to do**: {}", error.what_to_do());
                }
                true
            }
        };
        Some(Note { environment, deployment: self.deployment.id.clone(), is_last, markdown: text })
    }

    fn state(&self) -> CommitState {
        let Stands::Ended(outcome) = self.stands else { return CommitState::Pending };
        match (outcome.ending, outcome.error) {
            (Ending::Failed, Some(ErrorName::Stopped | ErrorName::Superseded)) => CommitState::Canceled,
            (Ending::Failed, _) => CommitState::Failed,
            (Ending::Succeeded | Ending::NoChanges | Ending::TornDown | Ending::Repaired | Ending::Looked, _) => {
                CommitState::Success
            }
        }
    }

    fn result(&self) -> &'static str {
        let Stands::Ended(outcome) = self.stands else { return "Awaits approval" };
        match (outcome.ending, self.deployment.action, self.state()) {
            (Ending::Succeeded, _, _) if self.deployment.back.is_some() => "Rolled back",
            (Ending::Succeeded, _, _) => "Deployed",
            (Ending::NoChanges, _, _) => "Nothing to change",
            (Ending::TornDown, _, _) => "Torn down",
            (Ending::Repaired, _, _) => "Repaired",
            (Ending::Looked, _, _) => "Looked at",
            (Ending::Failed, _, CommitState::Canceled) => "Stopped",
            (Ending::Failed, Action::Deploy, _) => "Deployment failed",
            (Ending::Failed, Action::Teardown, _) => "Teardown failed",
            (Ending::Failed, Action::Repair, _) => "Repair failed",
        }
    }

    /// The job that asked: its log has the link for the approvers, which shows the review to whoever has it, and so is nowhere here.
    fn job(&self) -> String {
        format!("{}/{}/-/jobs/{}", self.gitlab, self.requester.project_path, self.requester.job_id)
    }

    fn took(&self, outcome: &Outcome) -> String {
        let seconds = outcome.ended_at.duration_since(self.deployment.started_at).as_secs().max(0);
        match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
            (0, 0, seconds) => format!("{seconds} s"),
            (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
            (hours, minutes, _) => format!("{hours} h {minutes} min"),
        }
    }

    /// Whether the project's path is of what GitLab makes paths of: then it means nothing else in an address.
    fn has_plain_path(&self) -> bool {
        self.requester.project_path.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'))
    }
}

impl Note {
    /// The note in Markdown.
    #[must_use]
    pub fn markdown(&self) -> &str {
        &self.markdown
    }

    /// Whether `body` is a note about the same environment, which this one takes the place of.
    #[must_use]
    pub fn is_of_same(&self, body: &str) -> bool {
        body.lines().next().is_some_and(|line| line.trim_end() == self.environment)
    }

    /// Whether `body`, which is about the same environment, tells of a deployment that began later: that one has the last word. That
    /// people are asked is not said over anything of the same deployment: it may be its end.
    #[must_use]
    pub fn is_older_than(&self, body: &str) -> bool {
        let stamped = body.lines().nth(1).and_then(|line| line.trim_end().strip_prefix(STAMP)?.strip_suffix(END));
        let stamped = stamped.and_then(|id| DeploymentId::parse(id).ok());
        stamped.is_some_and(|id| self.deployment < id || (self.deployment == id && !self.is_last))
    }
}

const MARK: &str = "<!-- slipway:";
const STAMP: &str = "<!-- slipway-deployment:";
const END: &str = " -->";

/// What nobody sees of a note, and it is found again by.
fn marker(key: &EnvironmentKey) -> String {
    let EnvironmentKey { project, application, stage, environment } = key;
    let parts = ["note", &project.to_string(), application.as_str(), stage.as_str(), environment.as_str()];
    format!("{MARK}{}{END}", Digest::of_parts(&parts))
}

fn stamp(deployment: &DeploymentId) -> String {
    format!("{STAMP}{deployment}{END}")
}

/// An address as a link where it is a plain one of the web, else as text.
fn link(url: &str) -> String {
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    let is_plain = url.len() <= MAX_URL_CHARS && url.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'<' | b'>'));
    if is_web && is_plain { format!("<{url}>") } else { code(&short(&visible(url), MAX_URL_CHARS)) }
}

/// Lines of text as a block of code, in which Markdown knows nothing but the fence: that is longer than any in the text. Each line begins
/// with a blank: GitLab's quick actions (`/merge`) begin a line, and where it looks for them without reading Markdown, so does what ends a
/// block. <https://docs.gitlab.com/user/project/quick_actions/>
fn block(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let lines: String = text.lines().map(|line| format!(" {}\n", visible(line))).collect();
    format!("{fence}text\n{lines}{fence}\n")
}

/// The first characters of `text`, `most` with the mark that there are more.
fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
