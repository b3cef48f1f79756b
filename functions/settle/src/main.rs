//! `settle`: records how a deployment ended and gives its lease up, however it ended.

mod settle;

use slipway_aws::announcements::Bus;
use slipway_aws::machines::Machines;
use slipway_aws::store::Store;
use slipway_aws::target::Targets;
use slipway_handler::Settings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let aws = slipway_handler::aws().await;
    let settle = settle::Settle {
        store: Store::new(&aws, Settings.table()?),
        targets: Targets::new(&aws, Settings.external_id()?),
        machines: Machines::new(&aws),
        bus: Bus::new(&aws, Settings.bus()?),
        control_plane: Settings.bus()?,
    };
    let settle = &settle;
    slipway_handler::serve(|payload, now| async move { settle.handle(settle::read(payload)?, now).await }).await
}
