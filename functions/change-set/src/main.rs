//! `change-set`: makes, executes and discards a deployment's change set.

mod change_set;
mod repair;

use slipway_aws::bucket::Bucket;
use slipway_aws::store::Store;
use slipway_aws::target::Targets;
use slipway_handler::Settings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let aws = slipway_handler::aws().await;
    let change_set = change_set::ChangeSet {
        store: Store::new(&aws, Settings.table()?),
        bucket: Bucket::new(&aws, Settings.bucket()?),
        targets: Targets::new(&aws, Settings.external_id()?),
    };
    let change_set = &change_set;
    slipway_handler::serve(|payload, now| async move { change_set.handle(slipway_handler::parse(payload)?, now).await })
        .await
}
