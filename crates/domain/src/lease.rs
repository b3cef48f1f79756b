//! One writer per environment.
//!
//! A lease has an owner, an end and a fence: a counter that only grows, so that a writer who lost the lease without
//! noticing is told by the smaller number. The item is never deleted. The store writes what [`take`] decides on the
//! condition that the lease still is what it read.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::deployment::{DeploymentId, DeploymentRecord};

/// How long a lease holds without being renewed. Longer than any one step may take (a Lambda function ends after 15
/// minutes), because every step renews it.
pub const LEASE: SignedDuration = SignedDuration::from_mins(20);

/// The exclusive right to touch an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Whose it is; nobody's after it was given up.
    pub owner: Option<DeploymentId>,
    /// Until when, unless it is renewed.
    pub until: Timestamp,
    /// Grows each time that the owner changes.
    pub fence: u64,
}

/// What came of asking for the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taking {
    /// Write this lease, and it is ours.
    Ours(Lease),
    /// Somebody else's.
    Held {
        /// Whose.
        owner: DeploymentId,
        /// Until when, unless it is renewed.
        until: Timestamp,
    },
}

/// Takes, or renews, the lease for `me`. An owner that is known to be `dead`, because its execution is, holds nothing.
#[must_use]
pub fn take(current: Option<&Lease>, me: &DeploymentId, dead: Option<&DeploymentId>, now: Timestamp) -> Taking {
    let until = now + LEASE;
    match current {
        Some(Lease { owner: Some(owner), fence, .. }) if owner == me => {
            Taking::Ours(Lease { owner: Some(me.clone()), until, fence: *fence })
        }
        Some(Lease { owner: Some(owner), until, .. }) if *until > now && dead != Some(owner) => {
            Taking::Held { owner: owner.clone(), until: *until }
        }
        other => {
            Taking::Ours(Lease { owner: Some(me.clone()), until, fence: other.map_or(0, |lease| lease.fence) + 1 })
        }
    }
}

/// Gives up the lease if it is `me`'s: what to write, or nothing.
#[must_use]
pub fn give_up(current: Option<&Lease>, me: &DeploymentId, now: Timestamp) -> Option<Lease> {
    current.filter(|lease| lease.owner.as_ref() == Some(me)).map(|lease| Lease {
        owner: None,
        until: now,
        fence: lease.fence,
    })
}

/// Takes the lease away from whoever holds it: what to write, or nothing. Its owner is told so at its next step, and the next
/// owner's fence is a larger one.
#[must_use]
pub fn break_open(current: Option<&Lease>, now: Timestamp) -> Option<Lease> {
    let held = current.filter(|lease| lease.owner.is_some());
    held.map(|lease| Lease { owner: None, until: now, fence: lease.fence })
}

/// The right to touch the environment was lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lost(*.mine, *.current))]
pub struct Lost {
    /// The fence that this deployment took.
    pub mine: u64,
    /// The environment's.
    pub current: u64,
}

fn lost(mine: u64, current: u64) -> String {
    if mine == current {
        // Nobody took it since: it ran out and was given up, or a person broke it open.
        "this deployment's lease was taken away, by `slipway unlock --force` or because its time had run out".to_owned()
    } else {
        format!("this deployment (fence {mine}) does not hold the environment's lease (fence {current}) any more")
    }
}

/// Checks, right before a step that mutates, that the lease is still `me`'s with the same fence, and renews it.
///
/// # Errors
/// [`Lost`]: somebody else is, or was, the writer since.
pub fn hold(current: Option<&Lease>, me: &DeploymentId, fence: u64, now: Timestamp) -> Result<Lease, Lost> {
    match current {
        Some(lease) if lease.owner.as_ref() == Some(me) && lease.fence == fence => {
            Ok(Lease { until: now + LEASE, ..lease.clone() })
        }
        other => Err(Lost { mine: fence, current: other.map_or(0, |lease| lease.fence) }),
    }
}

/// Who holds the lease, for whoever waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The login of who asked for it; nobody when `sweep` did.
    pub user_login: Option<String>,
    /// The pipeline of who asked for it.
    pub pipeline_id: Option<u64>,
    /// Since when it goes on.
    pub since: Timestamp,
    /// What it does.
    pub doing: String,
}

impl Holder {
    /// The deployment of `record`.
    #[must_use]
    pub fn of(record: &DeploymentRecord) -> Self {
        let requester = record.deployment.requester.as_ref();
        Self {
            deployment: record.deployment.id.clone(),
            user_login: requester.map(|requester| requester.user_login.clone()),
            pipeline_id: requester.map(|requester| requester.pipeline_id),
            since: record.deployment.started_at,
            doing: record.doing(),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { deployment, user_login, pipeline_id, since, doing } = self;
        match (user_login, pipeline_id) {
            (Some(login), Some(pipeline)) => write!(f, "{login}'s deployment {deployment} of pipeline {pipeline}")?,
            (Some(_) | None, Some(_) | None) => write!(f, "the cleanup's deployment {deployment}")?,
        }
        write!(f, ", which began at {} and is {doing}", since.strftime("%Y-%m-%d %H:%M UTC"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn who_lost_a_lease_by_force_is_told() {
        let now = Timestamp::UNIX_EPOCH;
        let lease = Lease { owner: Some(id(1)), until: now + LEASE, fence: 3 };
        let broken = break_open(Some(&lease), now);
        assert_eq!(hold(broken.as_ref(), &id(1), 3, now), Err(Lost { mine: 3, current: 3 }));
        let taken = Lease { owner: Some(id(2)), until: now + LEASE, fence: 4 };
        assert_eq!(take(broken.as_ref(), &id(2), None, now), Taking::Ours(taken));
        assert_eq!(break_open(broken.as_ref(), now), None);
    }

    #[test]
    fn a_dead_owner_holds_nothing() {
        let now = Timestamp::UNIX_EPOCH;
        let lease = Lease { owner: Some(id(1)), until: now + LEASE, fence: 3 };
        let held = Taking::Held { owner: id(1), until: lease.until };
        assert_eq!(take(Some(&lease), &id(2), None, now), held);
        assert_eq!(take(Some(&lease), &id(2), Some(&id(3)), now), held);
        let taken = Lease { owner: Some(id(2)), until: now + LEASE, fence: 4 };
        assert_eq!(take(Some(&lease), &id(2), Some(&id(1)), now), Taking::Ours(taken));
    }
    use proptest::prelude::*;

    fn id(n: u8) -> DeploymentId {
        DeploymentId::from_execution(Timestamp::UNIX_EPOCH, &n.to_string())
    }

    proptest! {
        /// Whatever happens in whatever order: one owner at a time, the fence never shrinks and grows with each new owner,
        /// and whoever lost the lease is told so.
        #[test]
        fn there_is_one_writer(steps in prop::collection::vec((0u8..4, 0u8..3, 0i64..40), 1..60)) {
            let mut lease: Option<Lease> = None;
            let mut now = Timestamp::UNIX_EPOCH;
            let mut fences = [None::<u64>; 4];
            for (who, what, minutes) in steps {
                now += SignedDuration::from_mins(minutes);
                let me = id(who);
                let before = lease.clone();
                match what {
                    0 => match take(lease.as_ref(), &me, None, now) {
                        Taking::Ours(new) => { fences[usize::from(who)] = Some(new.fence); lease = Some(new); }
                        Taking::Held { owner, until } => { prop_assert_ne!(owner, me.clone()); prop_assert!(until > now); }
                    },
                    1 => if let Some(new) = give_up(lease.as_ref(), &me, now) { lease = Some(new); },
                    _ => if let Some(fence) = fences[usize::from(who)] {
                        match hold(lease.as_ref(), &me, fence, now) {
                            Ok(new) => lease = Some(new),
                            Err(_) => prop_assert!(lease.as_ref().unwrap().owner.as_ref() != Some(&me) || lease.as_ref().unwrap().fence > fence),
                        }
                    },
                }
                let (old, new) = (before.as_ref().map_or(0, |l| l.fence), lease.as_ref().map_or(0, |l| l.fence));
                prop_assert!(new >= old);
                if let (Some(b), Some(l)) = (&before, &lease) && l.owner.is_some() && b.owner != l.owner { prop_assert!(new > old); }
            }
        }
    }
}
