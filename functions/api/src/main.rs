//! `api`: what a GitLab job may ask. It verifies who asks, and admits or refuses.

mod api;

use std::sync::Arc;

use slipway_aws::bucket::Bucket;
use slipway_aws::functions::Function;
use slipway_aws::parameters::Parameters;
use slipway_aws::store::Store;
use slipway_handler::Settings;
use slipway_identity::Verifier;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let aws = slipway_handler::aws().await;
    let parameters = Parameters::new(&aws);
    let keys = Arc::new(slipway_handler::keys(Settings, &parameters)?);
    let api = api::Api {
        store: Store::new(&aws, Settings.table()?),
        bucket: Bucket::new(&aws, Settings.bucket()?),
        parameters,
        verifier: Verifier::with_keys(keys, Settings.audience()?),
        sign_in: Settings.gitlab_client_id()?.is_some(),
        stages_parameter: Settings.stages_parameter()?,
        link_key_parameter: Settings.link_key_parameter()?,
        deploy_machine: Settings.deploy_machine()?,
        teardown_machine: Settings.teardown_machine()?,
        teardown_function: Function::new(&aws, Settings.teardown_function()?),
        web_url: Settings.web_url()?,
    };
    let api = &api;
    slipway_handler::serve(|payload, now| async move { api.handle(api::read(payload)?, now).await }).await
}
