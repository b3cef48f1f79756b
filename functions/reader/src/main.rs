//! `reader`: what a person with AWS credentials may look at: every project, and nothing is changed. Who may invoke it, IAM decides.

use slipway_aws::bucket::Bucket;
use slipway_aws::store::Store;
use slipway_domain::protocol::ReaderRequest;
use slipway_handler::Settings;
use slipway_registry::Registry;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let aws = slipway_handler::aws().await;
    // Without the key of the links: whoever reads sees that people are asked, and not where they decide.
    let registry = Registry::new(Store::new(&aws, Settings.table()?), Bucket::new(&aws, Settings.bucket()?), None);
    let registry = &registry;
    slipway_handler::serve(|payload, now| async move {
        let request: ReaderRequest = slipway_handler::parse(payload)?;
        Box::pin(registry.answer(request.project, request.look, now)).await
    })
    .await
}
