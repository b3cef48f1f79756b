//! `sweep`: the scheduled cleanup.

mod branches;
mod collect;
mod sweep;

use slipway_aws::announcements::Bus;
use slipway_aws::bucket::Bucket;
use slipway_aws::functions::Function;
use slipway_aws::machines::Machines;
use slipway_aws::parameters::Parameters;
use slipway_aws::store::Store;
use slipway_domain::sweep::{SweepAsk, Swept};
use slipway_handler::Settings;
use slipway_handler::metrics::{Metrics, Unit};

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
        collect: collect::Collect { store: store.clone(), bucket },
        ask_gitlab,
        store,
        machines: Machines::new(&aws),
        bus: Bus::new(&aws, Settings.bus()?),
        settle: Function::new(&aws, Settings.settle_function()?),
        teardown_machine: Settings.teardown_machine()?,
        limits: Settings.sweep_limits()?,
    };
    let (sweep, control_plane) = (&sweep, &Settings.bus()?);
    slipway_handler::serve_within(|payload, now, budget| async move {
        let ask: SweepAsk = slipway_handler::parse(payload)?;
        let planned = ask == SweepAsk::Plan {};
        let swept = sweep.handle(ask, now, budget).await?;
        if !planned {
            measured(control_plane, &swept, now);
        }
        Ok(swept)
    })
    .await
}

fn measured(control_plane: &str, swept: &Swept, now: jiff::Timestamp) {
    let numbers = [
        ("SweepTeardowns", swept.teardowns),
        ("SweepHeldBack", swept.held_back),
        ("SweepStopped", u64::from(swept.stopped.is_some())),
        ("SweepExpiredApprovals", swept.expired_approvals),
        ("SweepAnswers", swept.answers),
        ("SweepWarnings", swept.warnings),
        ("SweepSettled", swept.settled),
        ("SweepFailures", swept.failed),
        ("SweepBranchesExpired", swept.branches.expired),
        ("SweepGarbageDeleted", u64::try_from(swept.garbage.deleted).unwrap_or(u64::MAX)),
        ("SweepUnfinished", u64::from(swept.unfinished)),
    ];
    let numbers = numbers.map(|(name, number)| (name, Unit::Count, number));
    Metrics { control_plane, dimensions: &[], numbers: &numbers }.write(now);
    for (stage, number) in &swept.environments {
        let numbers = [("Environments", Unit::Count, *number)];
        Metrics { control_plane, dimensions: &[("Stage", stage.as_str())], numbers: &numbers }.write(now);
    }
}
