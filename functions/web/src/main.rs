//! `web`: the callback URL, where a person decides.

mod page;
mod web;

use slipway_aws::bucket::Bucket;
use slipway_aws::machines::Machines;
use slipway_aws::store::Store;
use slipway_handler::Settings;
use slipway_identity::Verifier;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let aws = slipway_handler::aws().await;
    let web = web::Web {
        store: Store::new(&aws, Settings.table()?),
        bucket: Bucket::new(&aws, Settings.bucket()?),
        machines: Machines::new(&aws),
        verifier: Verifier::new(Settings.gitlab_url()?, Settings.audience()?),
    };
    let web = &web;
    slipway_handler::serve(|payload, now| async move {
        let request = slipway_handler::parse(payload)?;
        Ok::<_, slipway_handler::Failure>(web.handle(&request, now).await)
    })
    .await
}
