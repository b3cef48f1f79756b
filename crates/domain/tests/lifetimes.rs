//! Random histories of one environment: whatever is deployed, extended, pinned, torn down and swept, in whatever order, and however
//! the clock jumps, the cleanup deletes nothing that is protected, pinned, leased or not expired; and what is expired goes in the end.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use slipway_domain::ErrorName;
use slipway_domain::deployment::{Action, Deployment, DeploymentId, Ending, Launch, Outcome, Requester, Target};
use slipway_domain::environment::{self, Environment, EnvironmentState, Shown, Superseded};
use slipway_domain::expiry::{Due, Pin};
use slipway_domain::names::{
    AccountId, ApplicationName, Digest, EnvironmentKey, EnvironmentName, ProjectId, Region, StageName,
};
use slipway_domain::stages::{Span, StackRules};

/// Something that happens.
#[derive(Debug, Clone)]
enum Act {
    /// So many minutes pass.
    Clock(i64),
    /// Another machine's clock counts from here on, so many minutes before or after the first one's.
    Skew(i64),
    Deploys,
    /// Who holds the lease ends.
    Ends(bool),
    Extends(i64),
    Pins(i64),
    Unpins,
    /// A job wants it gone.
    TearsDown,
    Sweeps,
    /// A teardown gets its turn, and CloudFormation deletes or does not.
    Goes(bool),
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (-5..5_i64).prop_map(Act::Skew),
        3 => (0..3000_i64).prop_map(Act::Clock),
        2 => Just(Act::Deploys),
        3 => any::<bool>().prop_map(Act::Ends),
        1 => (1..200_i64).prop_map(Act::Extends),
        1 => (1..200_i64).prop_map(Act::Pins),
        1 => Just(Act::Unpins),
        1 => Just(Act::TearsDown),
        5 => Just(Act::Sweeps),
        5 => any::<bool>().prop_map(Act::Goes),
    ]
}

struct World {
    now: Timestamp,
    /// How far its clock is from the first machine's, in minutes.
    skew: i64,
    protected: bool,
    row: Option<Environment>,
    /// Whether there is a stack.
    stack: bool,
    /// Who holds the lease.
    holds: Option<Deployment>,
    /// Teardowns that were started and wait for the lease.
    wait: Vec<Deployment>,
    begun: u64,
}

impl World {
    fn new(protected: bool) -> Self {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 365);
        Self { now, skew: 0, protected, row: None, stack: false, holds: None, wait: Vec::new(), begun: 0 }
    }

    fn deployment(&mut self, action: Action, by_a_job: bool) -> Deployment {
        self.begun += 1;
        let environment = EnvironmentKey {
            project: ProjectId(42),
            application: ApplicationName::new("news").unwrap(),
            stage: StageName::new("dev").unwrap(),
            environment: EnvironmentName::new("review/x").unwrap(),
        };
        let (account, region) = (AccountId::new("111111111111").unwrap(), Region::new("eu-central-1").unwrap());
        let launch = Launch {
            bundle: Digest::of(b"b"),
            parameters: Default::default(),
            tags: Default::default(),
            capabilities: vec![],
            expires_in: (!self.protected).then(|| Span::days(2)),
        };
        let requester = Requester {
            user_id: 7,
            user_login: "dana".into(),
            pipeline_id: self.begun,
            job_id: 1,
            project_path: "group/news".into(),
            ref_name: "x".into(),
            ref_type: None,
            sha: "c0ffee".into(),
        };
        Deployment {
            id: DeploymentId::from_execution(self.now, &self.begun.to_string()),
            action,
            stack_name: environment.stack_name(),
            environment,
            target: Target { account, region, protected: self.protected },
            launch: (action == Action::Deploy).then_some(launch),
            repair: None,
            back: None,
            approval: None,
            timeout: Span::days(1),
            stack_rules: StackRules::default(),
            teardown: Default::default(),
            purge_logs: false,
            requester: by_a_job.then_some(requester),
            execution_arn: self.begun.to_string(),
            admission: Digest::of(b"a"),
            started_at: self.now,
        }
    }

    /// `settle`, told three times: it may be tried again, and EventBridge tells each failure once more when all is done.
    fn settle(&mut self, deployment: &Deployment, ending: Ending, error: Option<ErrorName>) {
        let outcome = Outcome { ending, error, message: None, ended_at: self.now };
        let Some(row) = self.row.take() else { return };
        let once = environment::settle(row, deployment, &outcome, &Shown::default());
        let twice = environment::settle(once.clone(), deployment, &outcome, &Shown::default());
        assert_eq!(once, twice, "an end counts once");
        let closed = twice.closed(&deployment.id);
        if ending == Ending::Failed {
            let thrice = environment::settle(closed.clone(), deployment, &outcome, &Shown::default());
            assert_eq!(closed, thrice, "and when all is done");
        }
        self.row = Some(closed);
    }

    fn refused(&mut self, deployment: &Deployment, why: &Superseded) {
        let pinned = matches!(why, Superseded::Pinned { .. });
        let error = if pinned { ErrorName::NotAllowed } else { ErrorName::Superseded };
        self.settle(deployment, Ending::Failed, Some(error));
    }

    fn act(&mut self, act: &Act) {
        let hours = |hours: i64| Span::parse(&format!("{hours}h")).unwrap();
        match act {
            Act::Clock(minutes) => self.now += SignedDuration::from_mins(*minutes),
            Act::Skew(minutes) => {
                self.now += SignedDuration::from_mins(minutes - self.skew);
                self.skew = *minutes;
            }
            Act::Deploys if self.holds.is_none() => {
                let deployment = self.deployment(Action::Deploy, true);
                if let Ok(row) = environment::begin(self.row.as_ref(), &deployment) {
                    self.row = Some(row);
                    self.holds = Some(deployment);
                }
            }
            Act::Ends(well) => {
                let Some(deployment) = self.holds.take() else { return };
                // It takes longer than clocks differ.
                self.now += SignedDuration::from_mins(10);
                self.stack = true;
                let (ending, error) =
                    if *well { (Ending::Succeeded, None) } else { (Ending::Failed, Some(ErrorName::StackFailed)) };
                self.settle(&deployment, ending, error);
            }
            Act::Extends(span) => {
                let kept = self.row.as_ref().and_then(|row| row.extended(hours(*span), self.now).ok());
                if let (Some(before), Some(kept)) = (&self.row, &kept) {
                    assert!(kept.lives_until() >= before.lives_until(), "never shorter");
                }
                self.row = kept.or(self.row.take());
            }
            Act::Pins(span) => {
                let until = self.now + hours(*span).duration();
                let pin = Pin { until, reason: "a demo".into(), by: "dana".into(), at: self.now };
                let kept = self.row.as_ref().and_then(|row| row.pinned_by(pin, self.now).ok());
                self.row = kept.or(self.row.take());
            }
            Act::Unpins => {
                let kept = self.row.as_ref().and_then(|row| row.unpinned(self.now).ok());
                self.row = kept.or(self.row.take());
            }
            // A protected stage's is refused before it is started.
            Act::TearsDown if !self.protected => {
                let teardown = self.deployment(Action::Teardown, true);
                self.start(teardown);
            }
            Act::Sweeps => self.sweep(),
            Act::Goes(well) => self.goes(*well),
            Act::Deploys | Act::TearsDown => {}
        }
    }

    /// A job's own teardown, like the cleanup's, begins unless somebody keeps the environment: expired or not, live or not.
    fn start(&mut self, teardown: Deployment) {
        let pin = self.row.as_ref().and_then(|row| row.pin.clone()).filter(|pin| pin.until > teardown.started_at);
        match environment::begin(self.row.as_ref(), &teardown) {
            Ok(row) => {
                assert_eq!(pin, None, "a teardown of what is pinned begins");
                self.row = Some(row);
                self.wait.push(teardown);
            }
            Err(why) => {
                let pinned =
                    pin.map(|pin| Superseded::Pinned { environment: teardown.environment.clone(), pin: Box::new(pin) });
                assert_eq!(Some(&why), pinned.as_ref(), "a teardown is refused");
                let before = self.row.clone();
                self.refused(&teardown, &why);
                assert_eq!(self.row, before, "what is refused changes nothing");
            }
        }
    }

    fn sweep(&mut self) {
        let Some(row) = self.row.clone() else { return };
        let due = row.due(self.now);
        assert_eq!(due.is_empty(), row.due_at().is_none_or(|at| at > self.now), "the index tells what is due: {row:?}");
        for due in due {
            match due {
                Due::ExpireApproval(_) => panic!("nobody was asked"),
                Due::Warn { lead, expires_at } => {
                    assert!(expires_at > self.now && expires_at - lead.duration() <= self.now, "warned in time");
                    self.row = self.row.as_ref().map(|row| row.warned(lead));
                }
                Due::Look(_) => self.row = self.row.as_ref().map(|row| row.looked(self.now)),
                Due::Teardown { .. } => {
                    let teardown = self.deployment(Action::Teardown, false);
                    self.start(teardown);
                }
            }
        }
    }

    /// The first teardown that waits asks for the lease again, and goes on where it gets it.
    fn goes(&mut self, well: bool) {
        if self.wait.is_empty() || self.holds.is_some() {
            return;
        }
        let teardown = self.wait.remove(0);
        match environment::begin(self.row.as_ref(), &teardown) {
            Ok(row) => self.row = Some(row),
            // It is on its way down, so that nobody could pin it since.
            Err(why) => panic!("it was let begin, and does not get its turn: {why}"),
        }
        let row = self.row.clone().unwrap();
        assert!(row.pin.as_ref().is_none_or(|pin| pin.until <= teardown.started_at), "pinned: {row:?}");
        if teardown.requester.is_none() && !row.is_expired(self.now) {
            return self.settle(&teardown, Ending::Failed, Some(ErrorName::Superseded));
        }
        if !well {
            return self.settle(&teardown, Ending::Failed, Some(ErrorName::StackFailed));
        }
        assert!(!self.protected, "protected");
        assert!(self.holds.is_none(), "leased");
        if teardown.requester.is_none() {
            assert!(row.pinned(self.now).is_none(), "pinned: {row:?}");
            assert!(row.expires_at.is_some_and(|at| at <= self.now), "not expired: {row:?}");
        }
        self.stack = false;
        self.settle(&teardown, Ending::TornDown, None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_cleanup_deletes_what_is_expired_and_nothing_else(
        protected in prop::bool::weighted(0.2), acts in prop::collection::vec(acts(), 1..120),
    ) {
        let mut world = World::new(protected);
        for act in &acts {
            world.act(act);
        }
        // Then nobody does anything any more, and nothing fails.
        world.act(&Act::Ends(true));
        for _ in 0..24 * 30 {
            world.act(&Act::Clock(60));
            world.act(&Act::Sweeps);
            world.act(&Act::Goes(true));
        }
        let Some(row) = world.row else { return Ok(()) };
        if protected {
            prop_assert!(world.stack || row.state == EnvironmentState::New, "{row:?}");
        } else {
            prop_assert!(!world.stack, "still there: {row:?}");
        }
        prop_assert!(row.open.is_empty(), "{:?}", row.open);
    }
}
