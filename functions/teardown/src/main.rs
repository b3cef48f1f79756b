//! `teardown`: empties and deletes an environment's stack, and says what is left of it.

mod kept;
mod survey;
mod teardown;

use slipway_aws::parameters::Parameters;
use slipway_aws::store::Store;
use slipway_aws::target::Targets;
use slipway_handler::Settings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let aws = slipway_handler::aws().await;
    let teardown = teardown::Teardown {
        store: Store::new(&aws, Settings.table()?),
        targets: Targets::new(&aws, Settings.external_id()?),
        parameters: Parameters::new(&aws),
        stages_parameter: Settings.stages_parameter()?,
        region: Settings.region()?,
    };
    let teardown = &teardown;
    slipway_handler::serve_within(|payload, now, budget| async move {
        teardown.handle(slipway_handler::parse(payload)?, now, budget).await
    })
    .await
}
