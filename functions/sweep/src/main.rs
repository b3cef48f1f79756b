//! `sweep`: the scheduled cleanup.

mod sweep;

use slipway_aws::machines::Machines;
use slipway_aws::store::Store;
use slipway_handler::Settings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let aws = slipway_handler::aws().await;
    let sweep = sweep::Sweep {
        store: Store::new(&aws, Settings.table()?),
        machines: Machines::new(&aws),
        teardown_machine: Settings.teardown_machine()?,
    };
    let sweep = &sweep;
    slipway_handler::serve(|_, now| async move { sweep.handle(now).await }).await
}
