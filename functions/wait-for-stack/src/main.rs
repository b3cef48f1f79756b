//! `wait-for-stack`: one look at a change set that is being made, or at a stack that is being changed or deleted.

mod place;
mod wait_for_stack;

use slipway_aws::bucket::Bucket;
use slipway_aws::store::Store;
use slipway_aws::target::Targets;
use slipway_handler::Settings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let aws = slipway_handler::aws().await;
    let wait = wait_for_stack::WaitForStack {
        store: Store::new(&aws, Settings.table()?),
        bucket: Bucket::new(&aws, Settings.bucket()?),
        targets: Targets::new(&aws, Settings.external_id()?),
    };
    let wait = &wait;
    slipway_handler::serve(|payload, now| async move { wait.handle(slipway_handler::parse(payload)?, now).await }).await
}
