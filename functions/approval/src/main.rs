//! `approval`: puts a deployment's change set to people.

mod approval;

use slipway_aws::announcements::Announcements;
use slipway_aws::bucket::Bucket;
use slipway_aws::machines::Machines;
use slipway_aws::parameters::Parameters;
use slipway_aws::store::Store;
use slipway_handler::Settings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let aws = slipway_handler::aws().await;
    let ask = approval::Ask {
        store: Store::new(&aws, Settings.table()?),
        parameters: Parameters::new(&aws),
        machines: Machines::new(&aws),
        bucket: Bucket::new(&aws, Settings.bucket()?),
        announcements: Announcements::new(&aws, Settings.bus()?, Settings.topic()?),
        web_url: Settings.web_url()?,
        link_key_parameter: Settings.link_key_parameter()?,
    };
    let ask = &ask;
    slipway_handler::serve(|payload, now| async move { ask.handle(slipway_handler::parse(payload)?, now).await }).await
}
