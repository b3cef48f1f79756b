//! What `sweep` remembers from one run to the next, and when it deletes nothing until a person has looked.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::branch::Asked;
use crate::garbage::Collected;
use crate::names::{EnvironmentKey, StageName};

/// For how long a person's word that all those may go holds.
const CONFIRMED: SignedDuration = SignedDuration::from_hours(24);
/// So many environments may go at once however few there are: a share of very few says nothing.
const FEW: u64 = 5;

/// How many environments one sweep may begin to delete before it wants a person's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// So many.
    pub most: u64,
    /// So many of a hundred that there are; 100 for no such limit.
    pub percent: u64,
}

impl Limits {
    /// Whether `expired` of `total` environments, if that is known, are too many.
    #[must_use]
    pub fn exceeded(self, expired: u64, total: Option<u64>) -> bool {
        let share = total.is_some_and(|total| expired > FEW && expired * 100 > self.percent * total);
        expired > self.most || share
    }
}

/// That a sweep wanted to delete too much at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// When it was first seen.
    pub at: Timestamp,
    /// How many environments had expired then.
    pub expired: u64,
    /// How many there were in all, where that was known.
    pub total: Option<u64>,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} environments", self.expired)?;
        if let Some(total) = self.total {
            write!(f, " of {total}")?;
        }
        write!(f, " had expired at once at {:.0}", self.at)
    }
}

/// What `sweep` remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepState {
    /// Why it deletes nothing, until a person says that it may.
    #[serde(default)]
    pub stopped: Option<Stopped>,
    /// Of which stop people were told: when that was.
    #[serde(default)]
    pub told: Option<Timestamp>,
    /// What a person said: what had expired by then may go.
    #[serde(default)]
    pub confirmed: Option<Confirmed>,
    /// How many environments there were when they were last counted.
    #[serde(default)]
    pub census: Option<Census>,
}

/// A person's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// What expired until then may go.
    pub expired_until: Timestamp,
    /// Until when the word holds.
    pub until: Timestamp,
}

/// How many environments there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// When they were counted.
    pub at: Timestamp,
    /// How many there were.
    pub total: u64,
    /// How many of them in which stage.
    #[serde(default)]
    pub stages: BTreeMap<StageName, u64>,
}

/// How old a census gets before they are counted anew.
const CENSUS: SignedDuration = SignedDuration::from_hours(1);

impl Census {
    /// Of what was counted by stage.
    #[must_use]
    pub fn new(stages: BTreeMap<StageName, u64>, at: Timestamp) -> Self {
        Self { at, total: stages.values().sum(), stages }
    }
}

/// There is nothing of that kind to confirm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmError {
    /// Nothing is held back.
    #[error("nothing is held back: the last sweep did all that was due")]
    Nothing,
    /// Something else is than was looked at.
    #[error(
        "what is held back is not what was confirmed: {0}; look at it with `slipway sweep --dry-run`, and confirm that"
    )]
    Other(Stopped),
}

impl SweepState {
    /// Whether the environments are to be counted anew.
    #[must_use]
    pub fn wants_census(&self, now: Timestamp) -> bool {
        self.census.as_ref().is_none_or(|census| census.at + CENSUS <= now)
    }

    /// Whether a person said that what expired at `expired_at` may go.
    #[must_use]
    pub fn is_confirmed(&self, expired_at: Timestamp, now: Timestamp) -> bool {
        self.confirmed.as_ref().is_some_and(|word| word.until > now && expired_at <= word.expired_until)
    }

    /// A person says that all that had expired when the sweep was `stopped_at` may go.
    ///
    /// # Errors
    /// [`ConfirmError`].
    pub fn confirm(&self, stopped_at: Timestamp, now: Timestamp) -> Result<Self, ConfirmError> {
        let stopped = self.stopped.as_ref().ok_or(ConfirmError::Nothing)?;
        if stopped.at != stopped_at {
            return Err(ConfirmError::Other(stopped.clone()));
        }
        let confirmed = Some(Confirmed { expired_until: stopped_at, until: now + CONFIRMED });
        Ok(Self { stopped: None, confirmed, ..self.clone() })
    }

    /// Why nothing is deleted, if people are still to be told.
    #[must_use]
    pub fn to_tell(&self) -> Option<&Stopped> {
        self.stopped.as_ref().filter(|stopped| self.told != Some(stopped.at))
    }

    /// A sweep saw `expired` environments that nobody confirmed, of which none was begun to be deleted before: what is remembered of
    /// that. Whether they may go is whether nothing is [`SweepState::stopped`] then.
    #[must_use]
    pub fn judged(&self, expired: u64, limits: Limits, now: Timestamp) -> Self {
        let total = self.census.as_ref().map(|census| census.total);
        let stopped = match &self.stopped {
            // Whatever was wrong with them was put right.
            Some(_) if expired == 0 => None,
            Some(stopped) => Some(stopped.clone()),
            None => limits.exceeded(expired, total).then_some(Stopped { at: now, expired, total }),
        };
        let confirmed = self.confirmed.clone().filter(|word| word.until > now);
        Self { stopped, confirmed, ..self.clone() }
    }
}

/// An environment that a sweep would delete, for a person to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doomed {
    /// Which.
    pub environment: EnvironmentKey,
    /// When it expired.
    pub expired_at: Timestamp,
    /// How often its teardown failed before.
    #[serde(default)]
    pub failures: u32,
}

/// What is asked of `sweep`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SweepAsk {
    /// Do what is due: what the schedule asks.
    Sweep {},
    /// Say what would be done.
    Plan {},
    /// What was held back may go.
    Confirm {
        /// When it was first held back, as the plan says.
        stopped_at: Timestamp,
    },
}

/// What one sweep did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// Teardowns that it started, or found started.
    pub teardowns: u64,
    /// Expired environments that wait for a person's word.
    pub held_back: u64,
    /// Why they do.
    pub stopped: Option<Stopped>,
    /// Questions that it ended.
    pub expired_approvals: u64,
    /// Answers that were lost on their way, and that it handed on.
    pub answers: u64,
    /// Environments whose end it announced.
    pub warnings: u64,
    /// Deployments whose execution had died, and whose end it had recorded; or of which there was nothing to record it on.
    pub settled: u64,
    /// How many environments there are in which stage, where they were counted.
    #[serde(default)]
    pub environments: BTreeMap<StageName, u64>,
    /// What of all these it could not do; the log says why.
    pub failed: u64,
    /// What GitLab said of branches, where it was asked.
    #[serde(default)]
    pub branches: Asked,
    /// What became of what nobody needs any more.
    #[serde(default)]
    pub garbage: Collected,
    /// Whether its time ran out: the next run goes on.
    pub unfinished: bool,
    /// What a plan would delete, the longest overdue first; at most [`MAX_PLANNED`].
    #[serde(default)]
    pub plan: Vec<Doomed>,
}

/// The most environments that a plan names.
pub const MAX_PLANNED: usize = 1000;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { most: 25, percent: 20 };

    fn at(hour: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hour)
    }

    fn of(total: u64) -> SweepState {
        SweepState { census: Some(Census { at: at(0), total, stages: BTreeMap::new() }), ..SweepState::default() }
    }

    #[test]
    fn too_many_at_once_wait_for_a_person() {
        assert_eq!(of(1000).judged(25, LIMITS, at(1)).stopped, None);
        let stopped = of(1000).judged(26, LIMITS, at(1));
        assert_eq!(
            stopped.stopped.as_ref().unwrap().to_string(),
            "26 environments of 1000 had expired at once at 1970-01-01T01:00:00Z"
        );
        assert!(of(29).judged(6, LIMITS, at(1)).stopped.is_some(), "a fifth of them");
        assert_eq!(of(30).judged(6, LIMITS, at(1)).stopped, None);
        assert_eq!(of(5).judged(5, LIMITS, at(1)).stopped, None, "few are few");
        assert!(SweepState::default().judged(26, LIMITS, at(1)).stopped.is_some(), "not counted yet");
    }

    #[test]
    fn once_stopped_nothing_goes_until_somebody_says_so_or_it_is_put_right() {
        let stopped = of(1000).judged(40, LIMITS, at(1));
        assert_eq!(stopped.judged(3, LIMITS, at(2)), stopped);
        assert_eq!(stopped.judged(0, LIMITS, at(2)).stopped, None);
        let told = SweepState { told: Some(at(1)), ..stopped.clone() };
        assert!(stopped.to_tell().is_some() && told.to_tell().is_none(), "once");
        let again = told.judged(0, LIMITS, at(2)).judged(40, LIMITS, at(3));
        assert!(again.to_tell().is_some(), "the next time is another one");
        assert_eq!(of(1000).confirm(at(1), at(2)), Err(ConfirmError::Nothing));
        assert!(matches!(stopped.confirm(at(2), at(3)), Err(ConfirmError::Other(_))));
        let confirmed = stopped.confirm(at(1), at(3)).unwrap();
        assert!(
            confirmed.is_confirmed(at(1), at(3)) && !confirmed.is_confirmed(at(2), at(3)),
            "what expired since is another matter"
        );
        assert!(!confirmed.is_confirmed(at(1), at(3) + CONFIRMED), "a word does not hold for ever");
        assert!(confirmed.judged(26, LIMITS, at(4)).stopped.is_some());
    }
}
