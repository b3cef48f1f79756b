//! `sweep`: the scheduled cleanup.

mod branches;
mod collect;
mod sweep;

use slipway_aws::bucket::Bucket;
use slipway_aws::machines::Machines;
use slipway_aws::parameters::Parameters;
use slipway_aws::store::Store;
use slipway_handler::Settings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let aws = slipway_handler::aws().await;
    let store = Store::new(&aws, Settings.table()?);
    let bucket = Bucket::new(&aws, Settings.bucket()?);
    let ask_gitlab = match Settings.gitlab_token_parameter()? {
        None => None,
        Some(token) => {
            let (store, parameters) = (store.clone(), Parameters::new(&aws));
            Some(branches::AskGitLab { store, parameters, issuer: Settings.gitlab_url()?, token })
        }
    };
    let sweep = sweep::Sweep {
        ask_gitlab,
        collect: collect::Collect { store: store.clone(), bucket },
        store,
        machines: Machines::new(&aws),
        teardown_machine: Settings.teardown_machine()?,
    };
    let sweep = &sweep;
    slipway_handler::serve(|payload, now| async move { sweep.handle(slipway_handler::parse(payload)?, now).await })
        .await
}
