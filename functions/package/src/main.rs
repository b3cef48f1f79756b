//! `package`: makes a release of a bundle.

mod package;

use slipway_aws::bucket::Bucket;
use slipway_aws::store::Store;
use slipway_handler::Settings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let aws = slipway_handler::aws().await;
    let package =
        package::Package { store: Store::new(&aws, Settings.table()?), bucket: Bucket::new(&aws, Settings.bucket()?) };
    let package = &package;
    slipway_handler::serve(|payload, now| async move { package.handle(slipway_handler::parse(payload)?, now).await })
        .await
}
