//! `slipway sweep`: the cleanup, as a person with AWS credentials sees it.

use slipway_domain::branch::Outlived;
use slipway_domain::sweep::{Doomed, SweepAsk, Swept};

use crate::api;
use crate::args::Sweep;
use crate::console::Console;
use crate::error::CliError;
use crate::settings::{self, Env};

/// Runs it, shows what it would do, or lets go what it held back. Gives the exit code.
pub(crate) async fn sweep(flags: &Sweep, env: &Env, console: &Console) -> Result<u8, CliError> {
    let (function, region) = settings::sweep(flags, env)?;
    let config = crate::aws::own_config(region.as_deref(), None).await?;
    let client = aws_sdk_lambda::Client::new(&config);
    let ask = async |ask: SweepAsk| api::invoke::<Swept>(&client, &function, &ask).await;
    if !flags.confirm {
        let swept = ask(if flags.dry_run { SweepAsk::Plan {} } else { SweepAsk::Sweep {} }).await?;
        for line in lines(&swept, flags.dry_run) {
            console.line(&line);
        }
        console.document(&swept);
        return Ok(0);
    }
    let plan = ask(SweepAsk::Plan {}).await?;
    let Some(stopped) = &plan.stopped else {
        console.line("Nothing is held back.");
        console.document(&plan);
        return Ok(0);
    };
    console.line(&format!("{stopped}. They may go:"));
    for line in plan.plan.iter().filter(|doomed| doomed.expired_at <= stopped.at).map(planned) {
        console.line(&line);
    }
    let swept = ask(SweepAsk::Confirm { stopped_at: stopped.at }).await?;
    for line in lines(&swept, false) {
        console.line(&line);
    }
    console.document(&swept);
    Ok(0)
}

fn planned(doomed: &Doomed) -> String {
    let failures = match doomed.failures {
        0 => String::new(),
        failures => format!(", failed {failures} times"),
    };
    let Doomed { environment, expired_at, .. } = doomed;
    format!("  {environment}  expired {}{failures}", expired_at.strftime("%Y-%m-%d %H:%M UTC"))
}

fn lines(swept: &Swept, dry_run: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let verb = if dry_run { "would be" } else { "are" };
    lines.extend(swept.plan.iter().map(planned));
    lines.push(format!("{} environments {verb} torn down", swept.teardowns));
    let expires = |outlived: &Outlived| format!("  {}  {}", outlived.environment, outlived.because);
    lines.extend(swept.branches.plan.iter().map(expires));
    if swept.branches.expired > 0 {
        let what = match dry_run {
            true => "would expire because of their branch, and be torn down by the next run",
            false => "expired because of their branch: the next run tears them down",
        };
        lines.push(format!("{} environments {what}", swept.branches.expired));
    }
    for (number, what) in [
        (swept.expired_approvals, "questions that nobody answered end"),
        (swept.answers, "answers that were lost on their way are handed on"),
        (swept.warnings, "environments are announced to expire soon"),
        (swept.settled, "deployments had died, and their end is recorded"),
        (swept.failed, "things could not be done: the log of sweep says why"),
    ] {
        if number > 0 {
            lines.push(format!("{number} {what}"));
        }
    }
    if let Some(stopped) = &swept.stopped {
        lines.push(format!("{} environments are held back: {stopped}.", swept.held_back));
        lines.push("What to do: look at them (slipway sweep --dry-run), pin those that should stay, then slipway sweep --confirm".to_owned());
    }
    if swept.unfinished {
        lines.push("It did not get to all of it in its time: the next run goes on.".to_owned());
    }
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_names_what_would_expire_because_of_its_branch() {
        let environment =
            |name: &str| json!({"project": 101, "application": "news", "stage": "dev", "environment": name});
        let swept: Swept = serde_json::from_value(json!({
            "teardowns": 1, "held_back": 0, "stopped": null, "expired_approvals": 0, "answers": 0, "warnings": 0, "settled": 0,
            "failed": 0, "unfinished": false,
            "plan": [{"environment": environment("review/old"), "expired_at": "2026-11-20T09:00:00Z"}],
            "branches": {"asked": 3, "unclear": 0, "expired": 2, "plan": [
                {"environment": environment("review/a"), "because": {"branch_gone": {"branch": "a"}}},
                {"environment": environment("review/b"), "because": {"merged": {"branch": "b", "merge_request": 7}}},
            ]},
        }))
        .unwrap();
        assert_eq!(
            lines(&swept, true),
            [
                "  review/old in dev (news, project 101)  expired 2026-11-20 09:00 UTC",
                "1 environments would be torn down",
                "  review/a in dev (news, project 101)  its branch a was deleted",
                "  review/b in dev (news, project 101)  its branch b was merged by merge request !7",
                "2 environments would expire because of their branch, and be torn down by the next run",
            ]
        );
    }
}
