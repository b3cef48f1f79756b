//! `api`: what a GitLab job may ask. It verifies who asks, and admits or refuses.

mod api;

use std::sync::Arc;

use slipway_aws::announcements::Bus;
use slipway_aws::bucket::Bucket;
use slipway_aws::functions::Function;
use slipway_aws::parameters::Parameters;
use slipway_aws::store::Store;
use slipway_handler::Settings;
use slipway_identity::Verifier;
use slipway_registry::{Links, Registry};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let aws = slipway_handler::aws().await;
    let parameters = Parameters::new(&aws);
    let keys = Arc::new(slipway_handler::keys(Settings, &parameters)?);
    let (store, bucket) = (Store::new(&aws, Settings.table()?), Bucket::new(&aws, Settings.bucket()?));
    let links = Links {
        parameters: parameters.clone(),
        key_parameter: Settings.link_key_parameter()?,
        web_url: Settings.web_url()?,
    };
    let api = api::Api {
        registry: Registry::new(store.clone(), bucket.clone(), Some(links)),
        store,
        bus: Bus::new(&aws, Settings.bus()?),
        bucket,
        parameters,
        verifier: Verifier::with_keys(keys, Settings.audience()?),
        sign_in: Settings.gitlab_client_id()?.is_some(),
        stages_parameter: Settings.stages_parameter()?,
        deploy_machine: Settings.deploy_machine()?,
        teardown_machine: Settings.teardown_machine()?,
        teardown_function: Function::new(&aws, Settings.teardown_function()?),
    };
    let api = &api;
    slipway_handler::serve(|payload, now| async move { api.handle(api::read(payload)?, now).await }).await
}
