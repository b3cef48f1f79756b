//! What a command ends with: the document of `--json`, and the same for a person.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use slipway_domain::ErrorName;
use slipway_domain::deployment::{Action, Ending, Outcome};
use slipway_domain::protocol::{On, Status};
use slipway_domain::repair::Found;
use slipway_domain::teardown::Leftovers;

use crate::console::Console;
use crate::error::{CliError, exit_code_of};
use crate::execution::Execution;
use crate::teardown;

/// What to do after a repair, and after one that went on without something.
const AFTER_REPAIR: &str = "Deploy again: what is live is what was live before.";
const AFTER_SKIPPING: &str = "Look at what was skipped, and make it and the template agree; then deploy again: an update that meets what it does not expect fails.";

const AFTER_FAILED_REPAIR: &str =
    "Correct the resource that the message names, then repair once more; or go on without it, with --skip.";

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ended {
    /// The stack is live as asked.
    Succeeded,
    /// It already was.
    NoChanges,
    /// The environment is gone as asked.
    TornDown,
    /// The stack is back at what it was before the update that failed.
    Repaired,
    /// The stack was only looked at, and its rollback can go on.
    NeedsRepair,
    /// The stack needs no repair.
    NothingToRepair,
    /// It is not as asked.
    Failed,
    /// A person is asked.
    AwaitingApproval,
    /// It was started, and is not followed.
    Started,
}

/// A deployment's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// How it ended.
    pub(crate) result: Ended,
    /// Which environment.
    #[serde(flatten)]
    pub(crate) on: On,
    /// The execution, if it is known.
    pub(crate) execution: Option<String>,
    /// The deployment, once it is known.
    pub(crate) deployment: Option<String>,
    /// What it does.
    pub(crate) action: Option<Action>,
    /// The account.
    pub(crate) account: Option<String>,
    /// The stack.
    pub(crate) stack: Option<String>,
    /// A label for the environment's host name.
    pub(crate) dns_label: Option<String>,
    /// The stack's status when it was last looked at.
    pub(crate) stack_status: Option<String>,
    /// What a repair found.
    pub(crate) found: Option<Found>,
    /// What a teardown left behind.
    pub(crate) leftovers: Option<Leftovers>,
    /// The release that is live.
    pub(crate) release: Option<String>,
    /// The commit that is live.
    pub(crate) commit: Option<String>,
    /// Where it answers.
    pub(crate) url: Option<String>,
    /// The stack's outputs.
    pub(crate) outputs: BTreeMap<String, String>,
    /// When the environment expires.
    pub(crate) expires_at: Option<Timestamp>,
    /// Where a person decides.
    pub(crate) approval_url: Option<String>,
    /// Until when.
    pub(crate) approval_until: Option<Timestamp>,
    /// Under which name it failed.
    pub(crate) error: Option<ErrorName>,
    /// The root cause.
    pub(crate) message: Option<String>,
    /// What a person can do next.
    pub(crate) what_to_do: Option<&'static str>,
    /// How many seconds it was followed.
    pub(crate) seconds: u64,
}

/// The document of a command that failed without a deployment.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    /// Always `failed`.
    pub(crate) result: Ended,
    /// The name, if it has one.
    pub(crate) error: Option<ErrorName>,
    /// What happened.
    pub(crate) message: String,
    /// What a person can do next.
    pub(crate) what_to_do: &'static str,
}

impl From<&CliError> for Failure {
    fn from(error: &CliError) -> Self {
        let (message, what_to_do) = (error.message(), error.what_to_do());
        Self { result: Ended::Failed, error: error.name(), message, what_to_do }
    }
}

impl Report {
    /// A report of which nothing but its end is known.
    pub(crate) fn bare(result: Ended, on: &On, execution: Option<&str>) -> Self {
        Self {
            result,
            on: on.clone(),
            execution: execution.map(str::to_owned),
            deployment: None,
            action: None,
            account: None,
            stack: None,
            dns_label: None,
            stack_status: None,
            found: None,
            leftovers: None,
            release: None,
            commit: None,
            url: None,
            outputs: BTreeMap::new(),
            expires_at: None,
            approval_url: None,
            approval_until: None,
            error: None,
            message: None,
            what_to_do: None,
            seconds: 0,
        }
    }

    /// A report of how things stand, which ended with `result`.
    pub(crate) fn of(result: Ended, on: &On, execution: Option<&str>, status: &Status) -> Self {
        let mut report = Self::bare(result, on, execution);
        report.stack = Some(status.stack_name.to_string());
        report.dns_label = Some(status.dns_label.to_string());
        if let Some(deployment) = &status.deployment {
            report.deployment = Some(deployment.id.to_string());
            report.action = Some(deployment.action);
            report.account = Some(deployment.account.clone());
            report.stack_status.clone_from(&deployment.stack_status);
            report.found.clone_from(&deployment.found);
            report.leftovers = (result == Ended::TornDown).then(|| deployment.leftovers.clone());
            report.approval_url.clone_from(&deployment.approval_url);
            report.approval_until = deployment.approval_until;
        }
        // What is live after a failure, or before a decision, is not this deployment's.
        if matches!(result, Ended::Succeeded | Ended::NoChanges) {
            report.release = status.release.as_ref().map(ToString::to_string);
            report.commit.clone_from(&status.commit);
            report.url.clone_from(&status.url);
            report.outputs.clone_from(&status.outputs);
            report.expires_at = status.expires_at;
        }
        report
    }

    /// A report of a recorded result.
    pub(crate) fn ended(outcome: &Outcome, on: &On, execution: Option<&str>, status: &Status) -> Self {
        let found = status.deployment.as_ref().and_then(|deployment| deployment.found.as_ref());
        let result = match outcome.ending {
            Ending::Succeeded => Ended::Succeeded,
            Ending::NoChanges => Ended::NoChanges,
            Ending::TornDown => Ended::TornDown,
            Ending::Repaired => Ended::Repaired,
            Ending::Looked if found.is_some_and(Found::is_stuck) => Ended::NeedsRepair,
            Ending::Looked => Ended::NothingToRepair,
            Ending::Failed => Ended::Failed,
        };
        let mut report = Self::of(result, on, execution, status);
        report.error = outcome.error;
        report.message.clone_from(&outcome.message);
        report.what_to_do = match (result, found) {
            (Ended::Repaired, Some(found)) if found.skips() => Some(AFTER_SKIPPING),
            (Ended::Repaired, _) => Some(AFTER_REPAIR),
            (Ended::Failed, Some(_)) if outcome.error == Some(ErrorName::StackFailed) => Some(AFTER_FAILED_REPAIR),
            _ => outcome.error.map(ErrorName::what_to_do),
        };
        report
    }

    /// A report of an execution that ended without a result that could be read.
    pub(crate) fn unrecorded(execution: &Execution, arn: &str, on: &On, why: Option<&CliError>) -> Self {
        let mut report = Self::bare(Ended::Failed, on, Some(arn));
        let unread = why.map(|why| format!(" ({why})")).unwrap_or_default();
        if execution.status == "SUCCEEDED" {
            report.message =
                Some(format!("the execution succeeded, but its recorded result could not be read{unread}"));
            report.what_to_do = Some("Look with `slipway status`, or retry the job: it takes over the result.");
            return report;
        }
        report.error = execution.error.as_deref().and_then(ErrorName::parse);
        let cause = execution.cause.as_deref().map(cause).filter(|cause| !cause.is_empty());
        let error = execution.error.as_deref().unwrap_or_default();
        report.message = Some(match cause {
            Some(cause) if report.error.is_some() || error.is_empty() => cause,
            Some(cause) => format!("{error}: {cause}"),
            None => format!("the execution ended as {} {error}", execution.status).trim_end().to_owned(),
        });
        report.what_to_do = Some(report.error.map_or(
            "Look at the execution in the control plane's account, then retry the job.",
            ErrorName::what_to_do,
        ));
        report
    }

    /// The exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.result {
            Ended::Succeeded | Ended::NoChanges | Ended::TornDown => 0,
            Ended::Repaired | Ended::NeedsRepair | Ended::NothingToRepair => 0,
            Ended::AwaitingApproval | Ended::Started => 0,
            Ended::Failed => exit_code_of(self.error),
        }
    }

    /// For a person.
    pub(crate) fn print(&self, console: &Console) {
        let where_to = format!("{} in {} ({})", self.on.environment, self.on.stage, self.on.application);
        let took = took(Duration::from_secs(self.seconds));
        let says = match self.result {
            Ended::Succeeded => format!("Live: {where_to}, after {took}"),
            Ended::NoChanges => format!("No changes: {where_to} is live as asked already"),
            Ended::TornDown => format!("Torn down: {where_to}, after {took}"),
            Ended::Repaired => format!("Repaired: {where_to}, after {took}: its stack is back at what was live"),
            Ended::NeedsRepair => format!("Needs repair: {where_to}"),
            Ended::NothingToRepair => match self.stack_status.as_deref() {
                Some(status) => format!("Nothing to repair: the stack of {where_to} is {status}"),
                None => format!("Nothing to repair: {where_to} has no stack"),
            },
            Ended::AwaitingApproval => format!("Awaiting approval: {where_to}"),
            Ended::Started => format!("Started: {where_to}"),
            Ended::Failed => return self.print_failure(console, &where_to, &took),
        };
        console.line(&says);
        let release: Option<String> = self.release.as_ref().map(|release| release.chars().take(12).collect());
        for (what, value) in [
            ("account", self.account.as_ref()),
            ("stack", self.stack.as_ref()),
            ("release", release.as_ref()),
            ("commit", self.commit.as_ref()),
            ("expires", self.expires_at.map(|at| format!("{at:.0}")).as_ref()),
            ("url", self.url.as_ref()),
        ] {
            if let Some(value) = value {
                console.line(&format!("  {what:<8}  {value}"));
            }
        }
        print_outputs(console, &self.outputs);
        self.leftovers.iter().flat_map(teardown::leftovers).for_each(|line| console.line(&line));
        if let Some(next) = self.what_to_do {
            console.line(&format!("What to do: {next}"));
        }
    }

    fn print_failure(&self, console: &Console, where_to: &str, took: &str) {
        let what = match self.action {
            Some(Action::Teardown) => "the teardown",
            Some(Action::Repair) => "the repair",
            Some(Action::Deploy) | None => "the deployment",
        };
        let name = self.error.map(|name| format!(" ({name})")).unwrap_or_default();
        console.error(&format!("Failed{name}: {what} of {where_to}, after {took}"));
        for (what, value) in [
            ("account", self.account.as_ref()),
            ("stack", self.stack.as_ref()),
            ("status", self.stack_status.as_ref()),
            ("deployment", self.deployment.as_ref()),
            ("execution", self.execution.as_ref().filter(|_| self.deployment.is_none())),
        ] {
            if let Some(value) = value {
                console.error(&format!("  {what:<10}  {value}"));
            }
        }
        console.error(&format!("Root cause: {}", self.message.as_deref().unwrap_or("none was recorded")));
        if let Some(next) = self.what_to_do {
            console.error(&format!("What to do: {next}"));
        }
    }
}

/// Prints a stack's outputs, if it has any.
pub(crate) fn print_outputs(console: &Console, outputs: &BTreeMap<String, String>) {
    if outputs.is_empty() {
        return;
    }
    console.line("Outputs:");
    let width = outputs.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in outputs {
        console.line(&format!("  {name:<width$}  {value}"));
    }
}

/// What an execution's cause says: a function's error message, or the text itself.
fn cause(cause: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(cause).unwrap_or_default();
    let message = value.get("errorMessage").or_else(|| value.get("message")).and_then(serde_json::Value::as_str);
    message.unwrap_or(cause).chars().take(2000).collect()
}

/// A span of time, for a person.
pub(crate) fn took(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (hours, minutes, _) => format!("{hours}h {minutes}m"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use slipway_domain::deployment::DeploymentId;
    use slipway_domain::environment::EnvironmentState;
    use slipway_domain::names::{
        ApplicationName, EnvironmentKey, EnvironmentName, ProjectId, RolledBackName, StageName,
    };
    use slipway_domain::protocol::DeploymentStatus;
    use slipway_domain::repair::{Asked, FailedResource, Treatment};

    use super::*;

    fn on() -> On {
        On {
            application: ApplicationName::new("news").unwrap(),
            stage: StageName::new("dev").unwrap(),
            environment: EnvironmentName::new("review/x").unwrap(),
        }
    }

    fn repaired(found: Found) -> Status {
        let environment = EnvironmentKey {
            project: ProjectId(101),
            application: on().application,
            stage: on().stage,
            environment: on().environment,
        };
        Status {
            stack_name: environment.stack_name(),
            dns_label: environment.dns_label(),
            environment,
            state: EnvironmentState::Failed,
            release: None,
            commit: None,
            ref_name: None,
            deployed_by: None,
            deployed_at: None,
            url: None,
            outputs: BTreeMap::new(),
            expires_at: None,
            expired_because: None,
            pin: None,
            deployment: Some(DeploymentStatus {
                id: DeploymentId::from_execution(Timestamp::UNIX_EPOCH, "arn"),
                action: Action::Repair,
                account: "111111111111".into(),
                started_at: Timestamp::UNIX_EPOCH,
                waits_for: None,
                said: vec![],
                outcome: None,
                stack_status: found.stack_status.clone(),
                found: Some(found),
                leftovers: Default::default(),
                events: vec![],
                review: None,
                approval_url: None,
                approval_until: None,
                approval_wants: None,
                approval_progress: None,
                approval_verdict: None,
                approval_answer: None,
            }),
        }
    }

    fn ended(status: &str, error: Option<&str>, cause: Option<&str>) -> Report {
        let (error, cause) = (error.map(str::to_owned), cause.map(str::to_owned));
        let execution = Execution { status: status.into(), started_at: Timestamp::UNIX_EPOCH, error, cause };
        Report::unrecorded(&execution, "arn", &on(), None)
    }

    #[test]
    fn an_execution_without_a_record_still_says_why() {
        let report =
            ended("FAILED", Some("NotAllowed"), Some(r#"{"errorType":"NotAllowed","errorMessage":"not you"}"#));
        assert_eq!((report.error, report.message.as_deref()), (Some(ErrorName::NotAllowed), Some("not you")));
        assert_eq!(report.exit_code(), 3);
        let report = ended("FAILED", Some("States.Runtime"), Some("no such path"));
        assert_eq!((report.exit_code(), report.message.as_deref()), (1, Some("States.Runtime: no such path")));
        assert_eq!(ended("ABORTED", None, None).message.as_deref(), Some("the execution ended as ABORTED"));
        assert_eq!(ended("SUCCEEDED", None, None).exit_code(), 1);
    }

    #[test]
    fn a_repair_says_what_to_do_next() {
        let resource = |then| FailedResource {
            name: RolledBackName::new("Queue").unwrap(),
            resource_type: "AWS::SQS::Queue".into(),
            reason: None,
            then,
        };
        let report = |ending, error, then| {
            let found = Found::stuck(&Asked::Look, vec![]);
            let found = Found { failed: vec![resource(then)], ..found };
            let outcome = Outcome { ending, error, message: None, ended_at: Timestamp::UNIX_EPOCH };
            let report = Report::ended(&outcome, &on(), None, &repaired(found));
            (report.result, report.exit_code(), report.what_to_do)
        };
        let again = Some(Treatment::TriedAgain);
        assert_eq!(report(Ending::Repaired, None, again), (Ended::Repaired, 0, Some(AFTER_REPAIR)));
        let skipped = report(Ending::Repaired, None, Some(Treatment::Skipped));
        assert_eq!(skipped, (Ended::Repaired, 0, Some(AFTER_SKIPPING)));
        let failed = report(Ending::Failed, Some(ErrorName::StackFailed), again);
        assert_eq!(failed, (Ended::Failed, 1, Some(AFTER_FAILED_REPAIR)));
        assert_eq!(report(Ending::Looked, None, None), (Ended::NeedsRepair, 0, None));
        let outcome = Outcome { ending: Ending::Looked, error: None, message: None, ended_at: Timestamp::UNIX_EPOCH };
        let found = repaired(Found::nothing(Some("UPDATE_COMPLETE")));
        assert_eq!(Report::ended(&outcome, &on(), None, &found).result, Ended::NothingToRepair);
    }

    #[test]
    fn the_document_names_the_environment_and_the_result() {
        let json = serde_json::to_value(Report::bare(Ended::NoChanges, &on(), Some("arn"))).unwrap();
        assert_eq!(json.get("result").unwrap(), "no_changes");
        assert_eq!(json.get("environment").unwrap(), "review/x");
        assert_eq!(json.get("execution").unwrap(), "arn");
    }

    #[test]
    fn times_are_short() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (92, "1m 32s"), (3700, "1h 1m")] {
            assert_eq!(took(Duration::from_secs(seconds)), text);
        }
    }
}
