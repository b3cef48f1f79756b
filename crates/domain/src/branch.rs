//! Whether the branch that an environment was deployed from is still worked on. Stop jobs are known not to run sometimes; GitLab knows.
//! What GitLab does not clearly say is not known, and nothing comes of it.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::claims::RefType;
use crate::environment::Environment;
use crate::names::EnvironmentKey;
use crate::registry::PageToken;
use crate::sweep::MAX_PLANNED;

/// How long after the beginning of one round through all environments the next one begins.
pub const EVERY: SignedDuration = SignedDuration::from_hours(24);

/// What GitLab says of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It is there.
    There {
        /// The commit that it is at.
        tip: String,
        /// Whether it stays when it is merged: it is protected, or the project's default.
        stays: bool,
        /// The last merge requests of it that were merged.
        merged: Vec<Merged>,
        /// Whether a merge request of it is open, so that it is to be merged again, or elsewhere, too.
        open: bool,
    },
    /// It is not there, in a project that can be read.
    Gone,
}

/// A merge request that was merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Its number in the project.
    pub number: u64,
    /// The commit of the branch that was merged.
    pub head: String,
}

/// Why an environment expired before its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// Its branch was deleted.
    BranchGone {
        /// Which.
        branch: String,
    },
    /// Its branch was merged, and nothing came after it.
    Merged {
        /// Which.
        branch: String,
        /// By which merge request of its project.
        merge_request: u64,
    },
}

impl std::fmt::Display for Because {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Because::BranchGone { branch } => write!(f, "its branch {branch} was deleted"),
            Because::Merged { branch, merge_request } => {
                write!(f, "its branch {branch} was merged by merge request !{merge_request}")
            }
        }
    }
}

impl Environment {
    /// The branch to ask GitLab about: of what is live in a stage where it would expire, and which nobody keeps, deploys or tears down.
    /// Nobody is asked twice: who extends what expired so wants to keep it.
    #[must_use]
    pub fn branch_to_ask(&self, now: Timestamp) -> Option<&str> {
        let wanted = self.live.is_some()
            && self.open.is_empty()
            && self.pinned(now).is_none()
            && self.expired_because.is_none()
            && self.lives_until().is_some_and(|end| end > now);
        self.ref_name.as_deref().filter(|_| wanted && self.ref_type == Some(RefType::Branch))
    }

    /// Why it expires now, if GitLab says `seen` of its branch.
    #[must_use]
    pub fn outlived(&self, seen: &Seen, now: Timestamp) -> Option<Because> {
        let branch = self.branch_to_ask(now)?.to_owned();
        match seen {
            Seen::Gone => Some(Because::BranchGone { branch }),
            Seen::There { stays: true, .. } | Seen::There { open: true, .. } => None,
            // What was pushed after the merge is work that goes on.
            Seen::There { tip, merged, stays: false, open: false } => {
                let last = merged.iter().find(|merged| merged.head == *tip && self.commit.as_ref() == Some(tip))?;
                Some(Because::Merged { branch, merge_request: last.number })
            }
        }
    }

    /// It expires now.
    #[must_use]
    pub fn expired(&self, because: Because, now: Timestamp) -> Self {
        let expires_at = self.expires_at.map(|at| at.min(now));
        Self { expires_at, expired_because: Some(because), ..self.clone() }.told_again(now)
    }
}

/// What one run asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Of how many environments GitLab said whether their branch is still worked on.
    pub asked: u64,
    /// Of how many it did not say so clearly; the log has what it said.
    pub unclear: u64,
    /// How many expired for it.
    pub expired: u64,
    /// Which would expire for it, if that is all that was asked; at most [`MAX_PLANNED`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<Outlived>,
}

impl Asked {
    /// Adds what was asked of others.
    pub fn add(&mut self, other: Self) {
        self.asked += other.asked;
        self.unclear += other.unclear;
        self.expired += other.expired;
        self.plan.extend(other.plan);
        self.plan.truncate(MAX_PLANNED);
    }
}

/// An environment that would expire because of its branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlived {
    /// Which.
    pub environment: EnvironmentKey,
    /// Why.
    pub because: Because,
}

/// How far a round through all environments is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Round {
    /// When it began.
    pub began_at: Timestamp,
    /// Where it goes on; nothing when it is done.
    pub next: Option<PageToken>,
    /// Whether it is done.
    pub done: bool,
}

impl Round {
    /// The round to go on with at `now`, after the `last` one; nothing while the next one is not due.
    #[must_use]
    pub fn due(last: Option<Self>, now: Timestamp) -> Option<Self> {
        match last {
            Some(last) if !last.done => Some(last),
            Some(last) if now.duration_since(last.began_at) < EVERY => None,
            Some(_) | None => Some(Self { began_at: now, next: None, done: false }),
        }
    }

    /// The same after a page, which said where the list goes on.
    #[must_use]
    pub fn after(&self, next: Option<PageToken>) -> Self {
        Self { began_at: self.began_at, done: next.is_none(), next }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use crate::deployment::{Action, Ending, Outcome};
    use crate::environment::tests::deployment;
    use crate::environment::{Shown, begin, settle};
    use crate::expiry::Pin;

    fn hour(hour: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hour)
    }

    fn live() -> Environment {
        let mut deployment = deployment(Action::Deploy, 10, false);
        deployment.launch.as_mut().unwrap().expires_in = Some(crate::stages::Span::days(7));
        let requester = deployment.requester.as_mut().unwrap();
        requester.ref_type = Some(RefType::Branch);
        requester.ref_name = "feature".into();
        requester.sha = "c0ffee".into();
        let outcome = Outcome { ending: Ending::Succeeded, error: None, message: None, ended_at: hour(1) };
        let begun = begin(None, &deployment).unwrap();
        settle(begun, &deployment, &outcome, &Shown::default()).closed(&deployment.id)
    }

    fn there(tip: &str, stays: bool, merged: &[(u64, &str)]) -> Seen {
        let merged = merged.iter().map(|(number, head)| Merged { number: *number, head: (*head).to_owned() }).collect();
        Seen::There { tip: tip.to_owned(), stays, merged, open: false }
    }

    /// A branch of which another merge request is open.
    fn to_be_merged(tip: &str, merged: (u64, &str)) -> Seen {
        let merged = vec![Merged { number: merged.0, head: merged.1.to_owned() }];
        Seen::There { tip: tip.to_owned(), stays: false, merged, open: true }
    }

    #[test]
    fn what_was_merged_or_deleted_has_had_its_time() {
        let live = live();
        let branch = "feature".to_owned();
        let merged = Some(Because::Merged { branch: branch.clone(), merge_request: 7 });
        for (seen, expected) in [
            (Seen::Gone, Some(Because::BranchGone { branch })),
            (there("c0ffee", false, &[]), None),
            (there("c0ffee", false, &[(3, "0ff1ce"), (7, "c0ffee")]), merged),
            // A branch that lives on when it is merged, and one that went on after it was.
            (there("c0ffee", true, &[(7, "c0ffee")]), None),
            (there("decade", false, &[(7, "c0ffee")]), None),
            (there("decade", false, &[(7, "decade")]), None),
            (to_be_merged("c0ffee", (7, "c0ffee")), None),
        ] {
            assert_eq!(live.outlived(&seen, hour(2)), expected, "{seen:?}");
        }
        let because = live.outlived(&Seen::Gone, hour(2)).unwrap();
        assert_eq!(because.to_string(), "its branch feature was deleted");
        let expired = live.expired(because, hour(2));
        assert!(expired.is_expired(hour(2)) && !live.is_expired(hour(2)));
        assert_eq!(expired.due_at(), Some(hour(2)));
    }

    #[test]
    fn nobody_asks_about_what_would_not_expire() {
        let live = live();
        assert_eq!(live.branch_to_ask(hour(2)), Some("feature"));
        let pin = Some(Pin { until: hour(9), reason: "demo".into(), by: "eve".into(), at: hour(1) });
        let mut protected = live.clone();
        protected.target.protected = true;
        let busy = begin(Some(&live), &deployment(Action::Deploy, 11, false)).unwrap();
        let again = live.expired(Because::BranchGone { branch: "feature".into() }, hour(2));
        let extended = again.extended(crate::stages::Span::days(1), hour(3)).unwrap();
        for other in [
            Environment { pin: pin.clone(), ..live.clone() },
            Environment { expires_at: None, ..live.clone() },
            Environment { ref_type: Some(RefType::Tag), ..live.clone() },
            Environment { ref_type: None, ..live.clone() },
            Environment { live: None, ..live.clone() },
            protected,
            busy,
            again.clone(),
            extended,
        ] {
            assert_eq!(other.branch_to_ask(hour(4)), None, "{other:?}");
            assert_eq!(other.outlived(&Seen::Gone, hour(4)), None);
        }
        // A pin that came meanwhile holds what expired.
        let kept = Environment { pin, ..again };
        assert!(!kept.is_expired(hour(8)) && kept.is_expired(hour(9)));
    }

    #[test]
    fn a_round_is_finished_before_the_next_one_begins() {
        let first = Round::due(None, hour(0)).unwrap();
        assert_eq!((first.began_at, &first.next, first.done), (hour(0), &None, false));
        let page = PageToken::try_from("LISTED#1:".to_owned()).unwrap();
        let half = first.after(Some(page));
        assert_eq!(Round::due(Some(half.clone()), hour(99)), Some(half.clone()));
        let done = half.after(None);
        assert_eq!(Round::due(Some(done.clone()), hour(23)), None);
        assert_eq!(Round::due(Some(done), hour(24)).unwrap().began_at, hour(24));
    }
}
