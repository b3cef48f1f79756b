//! Asks GitLab, where there is a token for it, whether the branches are still worked on that environments were deployed from: once a day
//! each, a page of the list after the other, over as many runs as it takes.

use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use slipway_aws::parameters::Parameters;
use slipway_aws::store::Store;
use slipway_domain::ErrorName;
use slipway_domain::audit::{Act, Actor, Entry};
use slipway_domain::branch::{Asked, Outlived, Round};
use slipway_domain::environment::Environment;
use slipway_domain::registry::Selection;
use slipway_handler::Failure;
use slipway_identity::{Branches, BranchesError, Issuer};
use tokio::time::{Instant, timeout_at};

/// How many environments are looked at in one page: few enough that a slow GitLab answers for all of them in one run.
const PAGE: i32 = 25;
/// How many are asked about at the same time.
const AT_ONCE: usize = 8;

/// What it works with.
pub(crate) struct AskGitLab {
    pub(crate) store: Store,
    pub(crate) parameters: Parameters,
    pub(crate) issuer: Issuer,
    /// The name of the SSM parameter with the token.
    pub(crate) token: String,
}

impl AskGitLab {
    /// Goes on with the round, if one is due, `within` that time. What is not known ends nothing.
    pub(crate) async fn run(&self, now: Timestamp, within: Duration) -> Result<Asked, Failure> {
        let mut asked = Asked::default();
        let Some(mut round) = Round::due(self.store.round().await?, now) else { return Ok(asked) };
        let branches = self.branches().await?;
        let until = Instant::now() + within;
        while !round.done {
            let page = timeout_at(until, self.page(&branches, &round, now, false, &mut asked)).await;
            // What was asked of an unfinished page is asked again.
            let Ok(next) = page else { return Ok(asked) };
            round = next?;
            self.store.note_round(&round).await?;
        }
        Ok(asked)
    }

    /// What a whole round would do now, however far the current one is, `within` that time; and whether that was enough. Nothing is written.
    pub(crate) async fn plan(&self, now: Timestamp, within: Duration) -> Result<(Asked, bool), Failure> {
        let (mut asked, mut round) = (Asked::default(), Round { began_at: now, next: None, done: false });
        let branches = self.branches().await?;
        let until = Instant::now() + within;
        while !round.done {
            let page = timeout_at(until, self.page(&branches, &round, now, true, &mut asked)).await;
            let Ok(next) = page else { return Ok((asked, false)) };
            round = next?;
        }
        Ok((asked, true))
    }

    async fn branches(&self) -> Result<Branches, Failure> {
        let token = self.parameters.secret(&self.token).await?;
        Branches::new(self.issuer.clone(), &token).map_err(unavailable)
    }

    async fn page(
        &self,
        branches: &Branches,
        round: &Round,
        now: Timestamp,
        dry_run: bool,
        asked: &mut Asked,
    ) -> Result<Round, Failure> {
        let list = self.store.list(&Selection::default(), round.next.as_ref(), PAGE).await?;
        let environments = futures::stream::iter(&list.environments);
        let mut answers =
            environments.map(|environment| self.ask(branches, environment, now, dry_run)).buffer_unordered(AT_ONCE);
        while let Some(answer) = answers.next().await {
            asked.add(answer?);
        }
        drop(answers);
        Ok(round.after(list.next))
    }

    async fn ask(
        &self,
        branches: &Branches,
        environment: &Environment,
        now: Timestamp,
        dry_run: bool,
    ) -> Result<Asked, Failure> {
        let Some(branch) = environment.branch_to_ask(now) else { return Ok(Asked::default()) };
        let seen = match branches.seen(environment.key.project, branch).await {
            Ok(seen) => seen,
            // It would say the same of all the others: the next run asks again from here.
            Err(error @ BranchesError::Unavailable(_)) => return Err(unavailable(error)),
            Err(error @ BranchesError::Unclear { .. }) => {
                tracing::warn!(environment = %environment.key, %error);
                return Ok(Asked { unclear: 1, ..Asked::default() });
            }
        };
        let asked = Asked { asked: 1, ..Asked::default() };
        let Some(because) = environment.outlived(&seen, now) else { return Ok(asked) };
        if dry_run {
            let plan = vec![Outlived { environment: environment.key.clone(), because }];
            return Ok(Asked { expired: 1, plan, ..asked });
        }
        let expired = self.store.update_environment_recording(&environment.key, |current| {
            let Some(current) = current else { return Ok(None) };
            // What is live may be another one by now.
            let same = current.live == environment.live && current.ref_name == environment.ref_name;
            let Some(because) = current.outlived(&seen, now).filter(|_| same) else { return Ok(None) };
            let act = Act::Expired { because: because.clone() };
            let entry = Entry { act, by: Actor::Sweep, reason: None, deployment: current.live.clone(), at: now };
            Ok::<_, Infallible>(Some((current.expired(because, now), entry)))
        });
        Ok(Asked { expired: u64::from(expired.await?.is_some()), ..asked })
    }
}

fn unavailable(error: BranchesError) -> Failure {
    Failure::new(ErrorName::Unavailable, error.to_string())
}
