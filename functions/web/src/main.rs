//! `web`: the callback URL, where a person decides.

mod answer;
mod page;
mod web;

use std::sync::Arc;

use slipway_aws::bucket::Bucket;
use slipway_aws::machines::Machines;
use slipway_aws::parameters::Parameters;
use slipway_aws::store::Store;
use slipway_handler::Settings;
use slipway_identity::{Callers, SignIn, Verifier};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let aws = slipway_handler::aws().await;
    let parameters = Parameters::new(&aws);
    let keys = Arc::new(slipway_handler::keys(Settings, &parameters)?);
    let web = web::Web {
        store: Store::new(&aws, Settings.table()?),
        bucket: Bucket::new(&aws, Settings.bucket()?),
        machines: Machines::new(&aws),
        verifier: Verifier::with_keys(Arc::clone(&keys), Settings.audience()?),
        sign_in: Settings.gitlab_client_id()?.map(|client_id| SignIn::new(keys, client_id)),
        callers: Callers::new(Settings.sts_endpoint(&aws)?, Settings.region()?),
    };
    let web = &web;
    slipway_handler::serve(|payload, now| async move {
        let request = slipway_handler::parse(payload)?;
        Ok::<_, slipway_handler::Failure>(web.handle(&request, now).await)
    })
    .await
}
