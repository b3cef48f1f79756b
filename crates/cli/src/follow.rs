//! Follows a deployment to its end, or until a person is asked.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use slipway_domain::ErrorName;
use slipway_domain::cause::StackEvent;
use slipway_domain::deployment::{Action, DeploymentId};
use slipway_domain::protocol::{DeploymentStatus, On, Status};
use slipway_domain::review::Review;
use tokio::time::Instant;

use crate::api::Api;
use crate::console::{Console, Phase};
use crate::error::CliError;
use crate::execution::{Execution, Executions};
use crate::repair;
use crate::report::{Ended, Report, took};
use crate::settings::{Pace, Stop};

/// How long a result may be on its way after the execution ended: an event brings it when no step could.
const GRACE: Duration = Duration::from_secs(30);
/// After how long without a line a job's log is told that it goes on, and while a person decides.
const QUIET: Duration = Duration::from_secs(60);
const QUIET_ASKED: Duration = Duration::from_secs(600);
/// How many refusals in a row by Step Functions end the following: a right may be a moment late, but not longer.
const STRIKES: u32 = 5;

/// Whom to ask, and how often.
pub(crate) struct Session {
    /// The function `api`.
    pub(crate) api: Api,
    /// Step Functions.
    pub(crate) executions: Executions,
    /// Which environment.
    pub(crate) on: On,
    /// How often.
    pub(crate) pace: Pace,
}

/// What is followed.
#[derive(Debug, Clone)]
pub(crate) enum Followed {
    /// An execution.
    Execution(String),
    /// A deployment of the environment.
    Deployment(DeploymentId),
    /// The environment's last deployment.
    Last,
}

/// What was seen of a deployment.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The stack's events, the oldest first.
    pub(crate) events: Vec<StackEvent>,
    /// What its change set changes.
    pub(crate) review: Option<Review>,
}

/// Follows to the end that `stop` says.
pub(crate) async fn follow(
    session: &Session,
    console: &Console,
    what: Followed,
    stop: Stop,
) -> Result<(Report, Seen), CliError> {
    let (arn, deployment) = match what {
        Followed::Execution(arn) => (Some(arn), None),
        Followed::Deployment(id) => (None, Some(id)),
        Followed::Last => (None, None),
    };
    let now = Instant::now();
    let follower = Follower {
        session,
        console,
        arn,
        deployment,
        stop,
        shown: Shown::default(),
        began: now,
        spoke: now,
        ended: None,
        strikes: 0,
        unanswered: 0,
        refused: None,
    };
    let report = follower.run().await;
    console.done();
    report
}

struct Follower<'s> {
    session: &'s Session,
    console: &'s Console,
    arn: Option<String>,
    deployment: Option<DeploymentId>,
    stop: Stop,
    shown: Shown,
    began: Instant,
    /// When the last line was printed.
    spoke: Instant,
    /// Since when the execution, or the recorded result, says that it ended.
    ended: Option<Instant>,
    /// Refusals of Step Functions in a row.
    strikes: u32,
    /// Questions without an answer in a row.
    unanswered: u32,
    /// Why `api` does not tell how the deployment stands.
    refused: Option<CliError>,
}

impl Follower<'_> {
    async fn run(mut self) -> Result<(Report, Seen), CliError> {
        let Pace { first, longest } = self.session.pace;
        let mut delay = first;
        loop {
            let execution = self.execution().await?;
            let status = self.status().await?;
            let mut news = false;
            if let Some(status) = &status {
                news = self.show(status);
            }
            if let Some(report) = self.end(execution.as_ref(), status.as_ref()) {
                let seen = status
                    .and_then(|status| status.deployment)
                    .map(|deployment| Seen { events: deployment.events, review: deployment.review });
                return Ok((Report { seconds: self.began.elapsed().as_secs(), ..report }, seen.unwrap_or_default()));
            }
            self.say_that_it_goes_on(status.as_ref());
            delay = if news || self.ended.is_some() { first } else { (delay * 5 / 4).min(longest) };
            tokio::time::sleep(delay).await;
        }
    }

    /// How the execution stands, if that can be had now.
    async fn execution(&mut self) -> Result<Option<Execution>, CliError> {
        let Some(arn) = &self.arn else { return Ok(None) };
        match self.session.executions.describe(arn).await {
            Ok(execution) => {
                self.strikes = 0;
                self.unanswered = 0;
                if self.deployment.is_none() {
                    self.deployment = Some(DeploymentId::from_execution(execution.started_at, arn));
                }
                Ok(Some(execution))
            }
            Err(error) if error.is_transient() => {
                self.no_answer(&error);
                Ok(None)
            }
            Err(error) => {
                self.strikes += 1;
                if self.strikes >= STRIKES { Err(error) } else { Ok(None) }
            }
        }
    }

    /// How the deployment stands, if that can be had now.
    async fn status(&mut self) -> Result<Option<Status>, CliError> {
        if self.arn.is_some() && self.deployment.is_none() {
            return Ok(None);
        }
        let asked = self.session.api.status(&self.session.on, self.deployment.as_ref()).await;
        match asked {
            Ok(status) => {
                self.refused = None;
                self.unanswered = 0;
                match &status.deployment {
                    Some(deployment) => self.deployment = Some(deployment.id.clone()),
                    None => {
                        let message = format!("{} has had no deployment", status.environment);
                        return Err(CliError::named(ErrorName::NotFound, message));
                    }
                }
                Ok(Some(status))
            }
            Err(error) if error.is_transient() => {
                self.no_answer(&error);
                Ok(None)
            }
            Err(error) if self.arn.is_none() => Err(error),
            // It is not recorded yet.
            Err(error) if error.name() == Some(ErrorName::NotFound) => Ok(None),
            Err(error) => {
                if self.refused.is_none() {
                    self.line(&format!("Events cannot be shown any more ({error}); the execution is still followed."));
                }
                self.refused = Some(error);
                Ok(None)
            }
        }
    }

    /// AWS does not answer: that ends nothing, and is told once.
    fn no_answer(&mut self, error: &CliError) {
        self.unanswered += 1;
        if self.unanswered == 3 {
            self.line(&format!("No answer for the moment ({error}); trying on."));
        }
    }

    fn line(&mut self, text: &str) {
        self.console.line(text);
        self.spoke = Instant::now();
    }

    /// Prints what is new. Tells whether anything is.
    fn show(&mut self, status: &Status) -> bool {
        let Some(deployment) = &status.deployment else { return false };
        let last = match deployment.action {
            Action::Deploy => Phase::Stack,
            Action::Teardown => Phase::Teardown,
            Action::Repair => Phase::Repair,
        };
        let first = if deployment.action == Action::Deploy { Phase::ChangeSet } else { last };
        let mut news = false;
        for (phase, lines) in [
            (first, self.shown.change_set(deployment)),
            (Phase::Approval, self.shown.approval(deployment)),
            (last, self.shown.events(&deployment.events)),
        ] {
            if !lines.is_empty() {
                self.console.enter(phase);
                news = true;
            }
            lines.iter().for_each(|line| self.line(line));
        }
        news
    }

    /// The report, if this is the end.
    fn end(&mut self, execution: Option<&Execution>, status: Option<&Status>) -> Option<Report> {
        let (on, arn) = (&self.session.on, self.arn.as_deref());
        let found = status.and_then(|status| Some((status, status.deployment.as_ref()?)));
        let outcome = found.and_then(|(status, deployment)| Some((status, deployment.outcome.as_ref()?)));
        let closed = execution.filter(|execution| execution.status != "RUNNING");
        if closed.is_none() && outcome.is_none() {
            self.ended = None;
            let asked = found.filter(|(_, deployment)| deployment.approval_url.is_some());
            return match (self.stop, asked) {
                (Stop::Approval(_), Some((status, _))) => Some(Report::of(Ended::AwaitingApproval, on, arn, status)),
                (Stop::Approval(_) | Stop::End, _) => None,
            };
        }
        let since = self.ended.get_or_insert_with(Instant::now).elapsed();
        // Whoever starts the job again finds a closed execution only if we wait for it.
        if let Some((status, outcome)) = outcome
            && (arn.is_none() || closed.is_some() || since > GRACE)
        {
            return Some(Report::ended(outcome, on, arn, status));
        }
        let (closed, arn) = (closed?, arn?);
        let hopeless = self.refused.is_some() || since > GRACE;
        hopeless.then(|| Report::unrecorded(closed, arn, on, self.refused.as_ref()))
    }

    fn say_that_it_goes_on(&mut self, status: Option<&Status>) {
        let deployment = status.and_then(|status| status.deployment.as_ref());
        let asked = deployment.is_some_and(|deployment| deployment.approval_url.is_some());
        let stands = match deployment {
            _ if asked => "awaiting approval".to_owned(),
            Some(DeploymentStatus { waits_for: Some(holder), .. }) => format!("waiting for {holder}"),
            Some(deployment) => match &deployment.stack_status {
                Some(status) => format!("{status}{}", self.shown.counts(deployment)),
                None => "preparing".to_owned(),
            },
            None => "waiting for news".to_owned(),
        };
        self.console.progress(&stands);
        let quiet = if asked { QUIET_ASKED } else { QUIET };
        if !self.console.is_live() && self.spoke.elapsed() >= quiet {
            self.line(&format!("… {stands}, after {}", took(self.began.elapsed())));
        }
    }
}

/// What was printed.
#[derive(Debug, Default)]
struct Shown {
    events: HashSet<String>,
    /// How many sentences of the deployment's own.
    said: usize,
    /// Whom it was said to wait for.
    holder: Option<DeploymentId>,
    /// Whether what a repair found was said.
    found: bool,
    summary: bool,
    question: bool,
    /// What was said of the decision last.
    decided: Option<String>,
}

impl Shown {
    /// The lines of events that are new.
    fn events(&mut self, events: &[StackEvent]) -> Vec<String> {
        events.iter().filter(|event| self.events.insert(event.id.clone())).map(event_line).collect()
    }

    /// Whom it waits for, what it did unasked, what a repair found, and what the change set changes: each once.
    fn change_set(&mut self, deployment: &DeploymentStatus) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(holder) = &deployment.waits_for
            && self.holder.as_ref() != Some(&holder.deployment)
        {
            self.holder = Some(holder.deployment.clone());
            lines.push(format!("Waiting for {holder}."));
        }
        lines.extend(deployment.said.iter().skip(self.said).cloned());
        self.said = self.said.max(deployment.said.len());
        if let (Some(found), false) = (&deployment.found, self.found) {
            self.found = true;
            lines.extend(repair::lines(found));
        }
        if let (Some(review), false) = (&deployment.review, self.summary) {
            self.summary = true;
            lines.push(format!("Change set: {}", review.summary()));
            lines.extend(review.to_text().lines().map(|line| format!("  {line}")));
        }
        lines
    }

    /// The question to a person, with everything it takes to answer it, and what came of that: each once.
    fn approval(&mut self, deployment: &DeploymentStatus) -> Vec<String> {
        let mut lines = Vec::new();
        if let (Some(link), false) = (&deployment.approval_url, self.question) {
            self.question = true;
            lines.push("A person has to approve this change set:".into());
            lines.push(format!("  {link}"));
            if let Some(wants) = &deployment.approval_wants {
                lines.push(format!("  by {wants}"));
            }
            if let Some(until) = deployment.approval_until {
                lines.push(format!("  until {}", until.strftime("%Y-%m-%d %H:%M UTC")));
            }
        }
        let decided = deployment.approval_progress.as_ref().or(deployment.approval_answer.as_ref());
        if let Some(decided) = decided.filter(|decided| self.decided.as_ref() != Some(decided)) {
            self.decided = Some(decided.clone());
            lines.push(format!("Approval: {decided}."));
        }
        lines
    }

    /// How many of the changes are done.
    fn counts(&self, deployment: &DeploymentStatus) -> String {
        let Some(review) = &deployment.review else { return String::new() };
        let last: BTreeMap<&str, &str> =
            deployment.events.iter().map(|event| (event.logical_id.as_str(), event.status.as_str())).collect();
        let is_done = |id: &str| last.get(id).is_some_and(|status| status.ends_with("_COMPLETE"));
        // The events are the root stack's.
        let in_root = review.changes.iter().filter(|change| change.stack.is_empty());
        let (all, done) =
            in_root.fold((0, 0), |(all, done), change| (all + 1, done + usize::from(is_done(&change.logical_id))));
        format!("  {done}/{all}")
    }
}

/// An event, as a line.
fn event_line(event: &StackEvent) -> String {
    let StackEvent { at, status, resource_type, logical_id, reason, .. } = event;
    let reason = reason.as_deref().map(|reason| format!("  {reason}")).unwrap_or_default();
    format!("{}  {status}  {resource_type}  {logical_id}{reason}", at.strftime("%H:%M:%S"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use jiff::Timestamp;
    use slipway_domain::review::{Change, ChangeAction};

    use super::*;

    fn event(id: &str, status: &str) -> StackEvent {
        StackEvent {
            id: format!("{id}-{status}"),
            at: Timestamp::from_second(43_201).unwrap(),
            logical_id: id.into(),
            physical_id: None,
            resource_type: "AWS::Lambda::Function".into(),
            status: status.into(),
            reason: (status == "CREATE_FAILED").then(|| "no such role".into()),
            token: None,
        }
    }

    fn deployment(events: Vec<StackEvent>, link: Option<&str>) -> DeploymentStatus {
        let change = Change::new(ChangeAction::Add, "Api", "AWS::Lambda::Function");
        let nested = Change { stack: vec!["Billing".into()], ..change.clone() };
        DeploymentStatus {
            id: DeploymentId::from_execution(Timestamp::UNIX_EPOCH, "arn"),
            action: Action::Deploy,
            account: "111111111111".into(),
            started_at: Timestamp::UNIX_EPOCH,
            waits_for: None,
            said: vec![],
            outcome: None,
            stack_status: None,
            found: None,
            leftovers: Default::default(),
            events,
            review: Some(Review::new(vec![change, nested], None)),
            approval_url: link.map(str::to_owned),
            approval_until: link.map(|_| Timestamp::UNIX_EPOCH),
            approval_wants: None,
            approval_progress: None,
            approval_verdict: None,
            approval_answer: None,
        }
    }

    #[test]
    fn events_are_told_once_and_in_order() {
        let mut shown = Shown::default();
        let mut events = vec![event("Api", "CREATE_IN_PROGRESS")];
        assert_eq!(shown.events(&events), ["12:00:01  CREATE_IN_PROGRESS  AWS::Lambda::Function  Api"]);
        events.push(event("Api", "CREATE_FAILED"));
        assert_eq!(shown.events(&events), ["12:00:01  CREATE_FAILED  AWS::Lambda::Function  Api  no such role"]);
        assert!(shown.events(&events).is_empty());
    }

    #[test]
    fn a_person_is_asked_once_with_the_whole_change_set() {
        let mut shown = Shown::default();
        let waiting = deployment(vec![], Some("https://x/a/1"));
        assert_eq!(
            shown.change_set(&waiting),
            [
                "Change set: 2 changes",
                "  Other changes (2)",
                "    add  Api          AWS::Lambda::Function",
                "    add  Billing/Api  AWS::Lambda::Function"
            ]
        );
        assert!(shown.approval(&deployment(vec![], None)).is_empty());
        assert_eq!(
            shown.approval(&waiting),
            ["A person has to approve this change set:", "  https://x/a/1", "  until 1970-01-01 00:00 UTC"]
        );
        assert!(shown.change_set(&waiting).is_empty() && shown.approval(&waiting).is_empty());
    }

    #[test]
    fn what_is_done_is_counted() {
        let counts = |events| Shown::default().counts(&deployment(events, None));
        assert_eq!(counts(vec![event("Api", "CREATE_IN_PROGRESS")]), "  0/1");
        assert_eq!(counts(vec![event("Api", "CREATE_IN_PROGRESS"), event("Api", "CREATE_COMPLETE")]), "  1/1");
    }
}
