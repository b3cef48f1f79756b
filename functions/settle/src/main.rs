//! `settle`: records how a deployment ended and gives its lease up, however it ended.

mod settle;
mod show;

use slipway_aws::announcements::Bus;
use slipway_aws::machines::Machines;
use slipway_aws::secrets::Secrets;
use slipway_aws::store::Store;
use slipway_aws::target::Targets;
use slipway_handler::Settings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let aws = slipway_handler::aws().await;
    let show = match Settings.gitlab_write_token_secret()? {
        None => None,
        Some(token) => Some(show::ShowInGitLab { secrets: Secrets::new(&aws), issuer: Settings.gitlab_url()?, token }),
    };
    let settle = settle::Settle {
        show,
        store: Store::new(&aws, Settings.table()?),
        targets: Targets::new(&aws, Settings.external_id()?),
        machines: Machines::new(&aws),
        bus: Bus::new(&aws, Settings.bus()?),
        control_plane: Settings.bus()?,
    };
    let settle = &settle;
    slipway_handler::serve(|payload, now| async move { settle.handle(settle::read(payload)?, now).await }).await
}
