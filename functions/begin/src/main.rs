//! `begin`: admits an execution, and takes the environment's lease.

mod begin;

use slipway_aws::announcements::Bus;
use slipway_aws::machines::Machines;
use slipway_aws::parameters::Parameters;
use slipway_aws::store::Store;
use slipway_handler::Settings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let aws = slipway_handler::aws().await;
    let begin = begin::Begin {
        store: Store::new(&aws, Settings.table()?),
        parameters: Parameters::new(&aws),
        machines: Machines::new(&aws),
        bus: Bus::new(&aws, Settings.bus()?),
        stages_parameter: Settings.stages_parameter()?,
        region: Settings.region()?,
    };
    let begin = &begin;
    slipway_handler::serve(|payload, now| async move { begin.handle(slipway_handler::parse(payload)?, now).await })
        .await
}
