//! What a job can see: whether AWS and the control plane believe its ID token.

use slipway_domain::protocol::EnvironmentsRequest;

use super::{Finding, clock, gitlab, stack};
use crate::api::{Api, Asker};
use crate::args::Doctor;
use crate::aws::remote;
use crate::commands::token;
use crate::console::Console;
use crate::error::CliError;
use crate::settings::{self, Env};

const ROLE: &str = "role of the jobs";
const API: &str = "api";

/// Looks at it with the job's ID token.
pub(super) async fn look(flags: &Doctor, env: &Env, console: &Console) -> Result<Vec<Finding>, CliError> {
    let plane = settings::control_plane(&flags.connection, env)?;
    let token = token(&flags.connection, env)?;
    let config = crate::aws::config(&plane, &token).await?;
    console.progress("looking at the control plane");
    let mut findings = vec![clock::clock(&config).await];
    match aws_sdk_sts::Client::new(&config).get_caller_identity().send().await {
        Ok(who) => {
            findings.push(Finding::ok(ROLE, format!("AWS believes the token: {}", who.arn().unwrap_or_default())))
        }
        Err(error) => {
            let error = remote("sts:GetCallerIdentity", &error);
            findings.push(Finding::broken(ROLE, format!("AWS does not let the job in: {error}"), error.what_to_do()));
            return Ok(findings);
        }
    }
    let api = Api::new(&config, &plane.api, Asker::Job(token));
    match api.environments(EnvironmentsRequest::default()).await {
        Ok(page) => {
            findings.push(Finding::ok(API, "believes the token"));
            findings.push(stack::version(page.version.as_deref()));
        }
        Err(error) => findings.push(Finding::broken(API, error.to_string(), error.what_to_do())),
    }
    if let Some(url) = env.get("CI_SERVER_URL") {
        findings.push(gitlab::issuer(url.trim_end_matches('/'), false).await);
    }
    Ok(findings)
}
