//! The target accounts: whether they let the control plane in, and only as they should. The roles there trust the functions alone, so
//! that the function `teardown` tries it, with sessions narrowed to a stack that does not exist, and says what came of it.

use serde_json::json;
use slipway_domain::entrance::{EntranceAsk, RoleFault, RoleSeen};
use slipway_domain::names::StageName;
use slipway_domain::stages::Stage;

use super::Finding;
use super::stack::Plane;
use crate::api;
use crate::error::CliError;

/// A line for each role of the stage's account.
pub(super) async fn entrance(
    config: &aws_config::SdkConfig,
    plane: &Plane,
    name: &StageName,
    stage: &Stage,
) -> Vec<Finding> {
    let check = |role: &str| format!("{role} of {name} ({})", stage.account);
    match seen(config, plane, name).await {
        Ok(roles) => roles.into_iter().map(|seen| finding(check(&seen.role), &seen, plane)).collect(),
        Err(error) => vec![Finding::unseen(check("roles"), &error)],
    }
}

async fn seen(config: &aws_config::SdkConfig, plane: &Plane, name: &StageName) -> Result<Vec<RoleSeen>, CliError> {
    let function = plane.output("TeardownFunction");
    if function.is_empty() {
        return Err(CliError::Usage("this control plane is too old to be asked: deploy template.yaml anew".into()));
    }
    let ask = json!({"entrance": EntranceAsk { stage: name.clone() }});
    api::invoke(&aws_sdk_lambda::Client::new(config), function, &ask).await
}

fn finding(check: String, seen: &RoleSeen, plane: &Plane) -> Finding {
    let Some(first) = seen.faults.first() else {
        return Finding::ok(
            check,
            "lets the control plane in by its ExternalId alone, and kept it from what it tried and should not reach",
        );
    };
    let found = seen.faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let what_to_do = match first {
        RoleFault::NotLetIn { .. } => format!(
            "Deploy setup/roles.yaml in that account, with ControlPlaneAccount={} and ExternalId={}, and Protected as the stage is.",
            plane.account,
            plane.parameter("ExternalId")
        ),
        RoleFault::WithoutExternalId => {
            "Deploy setup/roles.yaml in that account anew: the role's trust was changed by hand.".to_owned()
        }
        RoleFault::Reaches { .. } => {
            "Take away the policies that were added to the role by hand, and deploy setup/roles.yaml in that account anew.".to_owned()
        }
        RoleFault::KeptFrom { .. } => {
            "Deploy setup/roles.yaml in that account anew; if it stays, an organisation's policy denies it.".to_owned()
        }
    };
    Finding::broken(check, found, what_to_do)
}
