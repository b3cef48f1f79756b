//! `slipway doctor`: looks at everything that has to fit together, and says of each whether it does, or what to do. It changes nothing.

mod bucket;
mod clock;
mod entrance;
mod gitlab;
mod job;
mod key;
mod policy;
mod stack;

use serde::Serialize;

use crate::args::Doctor;
use crate::console::Console;
use crate::error::CliError;
use crate::settings::Env;

use self::stack::Plane;

/// How something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Warning,
    /// It does not work, or is not safe; or it could not be looked at.
    Broken,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at.
    check: String,
    verdict: Verdict,
    /// What was found.
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    what_to_do: Option<String>,
}

impl Finding {
    fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check: check.into(), verdict: Verdict::Ok, found: found.into(), what_to_do: None }
    }

    fn broken(check: impl Into<String>, found: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        let what_to_do = Some(what_to_do.into());
        Self { check: check.into(), verdict: Verdict::Broken, found: found.into(), what_to_do }
    }

    fn warning(check: impl Into<String>, found: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, ..Self::broken(check, found, what_to_do) }
    }

    /// It could not be looked at.
    fn unseen(check: impl Into<String>, error: &CliError) -> Self {
        let what_to_do = match error {
            CliError::Remote { code, .. } if code.starts_with("AccessDenied") => {
                "Sign in with more rights: to look at this is refused."
            }
            CliError::Remote { .. } | CliError::Named { .. } | CliError::Usage(_) | CliError::Local { .. } => {
                error.what_to_do()
            }
        };
        Self::broken(check, format!("it cannot be looked at: {error}"), what_to_do)
    }
}

/// The document.
#[derive(Serialize)]
struct Document<'a> {
    ok: bool,
    findings: &'a [Finding],
}

/// Looks at everything. Gives the exit code: 1 where something is broken.
pub(crate) async fn doctor(flags: &Doctor, env: &Env, console: &Console) -> Result<u8, CliError> {
    let is_job = flags.connection.id_token_file.is_some() || env.get("SLIPWAY_ID_TOKEN").is_some();
    let findings = if is_job { job::look(flags, env, console).await? } else { look(flags, console).await? };
    console.done();
    for Finding { check, verdict, found, what_to_do } in &findings {
        let word = match verdict {
            Verdict::Ok => "ok     ",
            Verdict::Warning => "warning",
            Verdict::Broken => "broken ",
        };
        console.line(&format!("{word}  {check}: {found}"));
        if let Some(what_to_do) = what_to_do {
            console.line(&format!("         What to do: {what_to_do}"));
        }
    }
    let broken = findings.iter().filter(|finding| finding.verdict == Verdict::Broken).count();
    if broken > 0 {
        console.line(&format!("{broken} of {} are broken.", findings.len()));
    }
    console.document(&Document { ok: broken == 0, findings: &findings });
    Ok(u8::from(broken > 0))
}

/// With a person's credentials in the control plane's account.
async fn look(flags: &Doctor, console: &Console) -> Result<Vec<Finding>, CliError> {
    let config = crate::aws::own_config(flags.region.as_deref(), flags.profile.as_deref()).await?;
    console.progress("looking at the control plane");
    let mut findings = vec![clock::clock(&config).await];
    let plane = match Plane::look(&config, &flags.stack).await {
        Ok(plane) => plane,
        // Without it there is nothing else to look at.
        Err(finding) => {
            findings.push(finding);
            return Ok(findings);
        }
    };
    findings.push(plane.status());
    findings.push(plane.version());
    let stages = match plane.stages(&config).await {
        Ok(stages) => stages,
        Err(finding) => {
            findings.push(finding);
            return Ok(findings);
        }
    };
    findings.push(stack::names(&stages));
    findings.extend(plane.approvals(&stages));
    findings.extend(bucket::bucket(&config, &plane, &stages).await);
    console.progress("looking at GitLab");
    let host = gitlab::host(&plane);
    let trust = gitlab::client_role(&config, &plane, &host, &flags.client_role).await;
    findings.extend(gitlab::provider(&config, &plane, &host, &trust).await);
    findings.push(trust.finding);
    findings.push(gitlab::issuer(plane.parameter("GitLabUrl"), !plane.parameter("GitLabKeys").is_empty()).await);
    for (name, stage) in stages.iter() {
        console.progress(&format!("entering the account of {name}"));
        findings.extend(entrance::entrance(&config, &plane, name, stage).await);
    }
    Ok(findings)
}
