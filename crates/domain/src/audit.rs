//! What is recorded of an environment for good: who did what, when and why. Each row carries the hash of the row before, so that
//! none can be changed, taken out or put in between without breaking what follows.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ErrorName;
use crate::admission;
use crate::approval::{Approval, Decider, Decision, DecisionError, Verdict, Who};
use crate::approver::Principal;
use crate::branch::Because;
use crate::claims::Person;
use crate::deployment::{Action, Deployment, DeploymentId, DeploymentRecord, Ending, Outcome, Requester};
use crate::lease::Holder;
use crate::names::{Digest, EnvironmentKey};

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// A job was admitted.
    Admitted {
        /// To what.
        action: Action,
        /// The digest of the bundle that it launches.
        release: Option<Digest>,
    },
    /// A job was refused.
    Refused {
        /// What it asked for.
        asked: String,
        /// The rule that refused it.
        why: String,
    },
    /// A change set is ready, and what it would do is known.
    Reviewed {
        /// The change set.
        change_set: String,
        /// The SHA-256 of the release's template.
        template: Digest,
        /// The SHA-256 of the release's manifest.
        manifest: Digest,
        /// What an approval of it is bound to.
        binding: Digest,
    },
    /// Somebody approved it.
    Approved {
        /// The approval.
        approval: Digest,
        /// What exactly was approved.
        binding: Digest,
    },
    /// Somebody rejected it.
    Rejected {
        /// The approval.
        approval: Digest,
        /// What exactly was rejected.
        binding: Digest,
    },
    /// A change set is executed.
    Executed {
        /// The change set.
        change_set: String,
        /// What was described right before.
        binding: Digest,
        /// The approval that allows it, where the stage asks for one.
        approval: Option<Digest>,
    },
    /// A deployment ended.
    Settled {
        /// What it did.
        action: Action,
        /// How it ended.
        ending: Ending,
        /// Under which name it failed.
        error: Option<ErrorName>,
    },
    /// The environment is gone.
    TornDown,
    /// The environment expired before its time.
    Expired {
        /// Why.
        because: Because,
    },
    /// The lease was taken away by force.
    Unlocked {
        /// From whom, if it is known.
        holder: Option<Holder>,
        /// Its fence.
        fence: u64,
    },
    /// How long the environment lives was changed.
    Kept {
        /// How.
        how: Kept,
        /// Until when it lives now.
        until: Option<Timestamp>,
    },
}

/// How the time of an environment was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// It lives for longer.
    Extended,
    /// It is kept until a time, whatever else is.
    Pinned,
    /// It is not any more.
    Unpinned,
}

impl Act {
    /// In one word, or two.
    #[must_use]
    pub fn done(&self) -> &'static str {
        match self {
            Act::Admitted { .. } => "admitted",
            Act::Refused { .. } => "refused",
            Act::Reviewed { .. } => "reviewed",
            Act::Approved { .. } => "approved",
            Act::Rejected { .. } => "rejected",
            Act::Executed { .. } => "executed",
            Act::Settled { .. } => "settled",
            Act::TornDown => "torn down",
            Act::Expired { .. } => "expired",
            Act::Unlocked { .. } => "unlocked",
            Act::Kept { how: Kept::Extended, .. } => "extended",
            Act::Kept { how: Kept::Pinned, .. } => "pinned",
            Act::Kept { how: Kept::Unpinned, .. } => "unpinned",
        }
    }
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// A job of GitLab's, or Slipway on its behalf.
    Job(Requester),
    /// Somebody who decided.
    Decider(Decider),
    /// The scheduled cleanup.
    Sweep,
}

impl Actor {
    /// Who a deployment is done for.
    #[must_use]
    pub fn of(deployment: &Deployment) -> Self {
        deployment.requester.clone().map_or(Self::Sweep, Self::Job)
    }

    /// For people.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Actor::Job(requester) => &requester.user_login,
            Actor::Decider(decider) => decider.name(),
            Actor::Sweep => "sweep",
        }
    }
}

/// One act, as it is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What.
    pub act: Act,
    /// By whom.
    pub by: Actor,
    /// Why, in that one's words.
    pub reason: Option<String>,
    /// The deployment that it is about.
    pub deployment: Option<DeploymentId>,
    /// When.
    pub at: Timestamp,
}

impl Entry {
    /// That a deployment's change set is ready.
    #[must_use]
    pub fn reviewed(record: &DeploymentRecord, binding: &Digest, at: Timestamp) -> Option<Self> {
        let (release, change_set) = record.release.as_ref().zip(record.change_set.as_ref())?;
        let act = Act::Reviewed {
            change_set: change_set.arn.clone(),
            template: release.template.clone(),
            manifest: release.manifest.clone(),
            binding: binding.clone(),
        };
        Some(Self::of_deployment(act, &record.deployment, at))
    }

    /// That `decision` was taken on `approval`.
    #[must_use]
    pub fn decided(approval: &Approval, decision: &Decision) -> Self {
        let (approval_id, binding) = (approval.id.clone(), approval.binding.clone());
        let act = match decision.verdict {
            Verdict::Approve => Act::Approved { approval: approval_id, binding },
            Verdict::Reject => Act::Rejected { approval: approval_id, binding },
        };
        Self {
            act,
            by: Actor::Decider(decision.decider.clone()),
            reason: decision.reason.clone(),
            deployment: Some(approval.deployment.id.clone()),
            at: decision.at,
        }
    }

    /// That a decision of `who` on `approval` was refused, and what stands for both; nothing where it is nobody that can be named.
    #[must_use]
    pub fn refused(
        approval: &Approval,
        who: Who<'_>,
        verdict: Verdict,
        why: &DecisionError,
        at: Timestamp,
    ) -> Option<(Digest, Self)> {
        let (one, by) = match who {
            Who::Person(Person { user_id, user_login, .. }) => {
                let decider = Decider::Person { user_id: *user_id, user_login: user_login.clone() };
                (user_id.to_string(), Actor::Decider(decider))
            }
            Who::Job(claims) => (claims.user_id.to_string(), Actor::Job(admission::requester(claims))),
            Who::Caller(caller) => {
                let principal = Principal::of(caller).ok()?;
                let one = principal.to_string();
                (one, Actor::Decider(Decider::Principal { principal, arn: caller.arn.clone() }))
            }
        };
        let asked = match verdict {
            Verdict::Approve => "approve",
            Verdict::Reject => "reject",
        };
        let id = Digest::of_parts(&["refused", asked, &one, &why.to_string()]);
        let act = Act::Refused { asked: asked.to_owned(), why: why.to_string() };
        Some((id, Self { act, by, reason: None, deployment: Some(approval.deployment.id.clone()), at }))
    }

    /// That a deployment ended.
    #[must_use]
    pub fn settled(deployment: &Deployment, outcome: &Outcome) -> Self {
        let act = match outcome.ending {
            Ending::TornDown => Act::TornDown,
            ending @ (Ending::Succeeded | Ending::NoChanges | Ending::Repaired | Ending::Looked | Ending::Failed) => {
                Act::Settled { action: deployment.action, ending, error: outcome.error }
            }
        };
        Self::of_deployment(act, deployment, outcome.ended_at)
    }

    /// Something that is done for a deployment.
    #[must_use]
    pub fn of_deployment(act: Act, deployment: &Deployment, at: Timestamp) -> Self {
        Self { act, by: Actor::of(deployment), reason: None, deployment: Some(deployment.id.clone()), at }
    }
}

/// The end of an environment's chain of rows: what the next one follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The number of the last row; 0 when there is none yet.
    pub number: u64,
    /// The SHA-256 of the last row's text; of the environment's name when there is none yet.
    pub hash: Digest,
}

/// What a row's text holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Which, from 1, without a gap.
    pub number: u64,
    /// The hash of the row before: [`Head::hash`].
    pub previous: Digest,
    /// What is recorded.
    #[serde(flatten)]
    pub entry: Entry,
}

/// A row, as it is kept: the text is what is hashed, so that no later version of Slipway reads it into another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Which, from 1: its place in the table.
    pub number: u64,
    /// [`Written`], as JSON.
    pub text: String,
}

impl Row {
    /// What it holds, if this version of Slipway can read it.
    #[must_use]
    pub fn read(&self) -> Option<Written> {
        serde_json::from_str(&self.text).ok()
    }

    fn hash(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }
}

impl Head {
    /// Of the chain of an environment of which nothing is recorded.
    #[must_use]
    pub fn empty(environment: &EnvironmentKey) -> Self {
        Self { number: 0, hash: Digest::of_parts(&["audit", &environment.to_string()]) }
    }

    /// The row that records `entry` after this one, and the head that it makes.
    ///
    /// # Errors
    /// When the entry cannot be written as JSON.
    pub fn follow(&self, entry: &Entry) -> Result<(Row, Head), serde_json::Error> {
        let number = self.number + 1;
        let written = Written { number, previous: self.hash.clone(), entry: entry.clone() };
        let row = Row { number, text: serde_json::to_string(&written)? };
        let head = Self { number, hash: row.hash() };
        Ok((row, head))
    }
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

#[derive(Deserialize)]
struct Link {
    number: u64,
    previous: Digest,
}

/// Where a chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A row is not there, or one is in its place.
    #[error("row {0} is missing, and nothing before it is proven")]
    Missing(u64),
    /// The head of the chain is not there.
    #[error("the head of the chain is missing, and nothing of it is proven")]
    NoHead,
    /// There is a row after the last one.
    #[error("row {0} was not written by Slipway: the chain ends before it")]
    Surplus(u64),
    /// A row is not what it was when the next one was written, or the next one does not say any more what it was.
    #[error("row {0}, or what the next one says of it, is not what was written, and nothing up to it is proven")]
    Changed(u64),
    /// What somebody noted earlier is not in this chain.
    #[error("row {0} is not what was noted: the chain was written anew")]
    NotAsNoted(u64),
}

/// Proves an environment's whole chain: that each of `rows`, in the order of their numbers, is what it was when the next was
/// written, and the last what `head` says. `noted` are heads that somebody kept elsewhere: who can write the whole table can
/// write a whole chain anew, but not what others noted of the old one.
///
/// # Errors
/// [`Broken`], with the number of the first broken row.
pub fn verify(environment: &EnvironmentKey, rows: &[Row], head: &Head, noted: &[Head]) -> Result<(), Broken> {
    let empty = Head::empty(environment);
    let number = |at: usize| u64::try_from(at).unwrap_or(u64::MAX).saturating_add(1);
    // All that counts of a row is its place and what it says of the one before, whatever else a later version writes into it.
    let written: Vec<Option<Link>> = rows.iter().map(|row| serde_json::from_str(&row.text).ok()).collect();
    if head.number == 0 && !rows.is_empty() {
        return Err(Broken::NoHead);
    }
    // What follows a row says what it was.
    let told = |at: usize| match written.get(at + 1) {
        Some(next) => next.as_ref().map(|next| next.previous.clone()),
        None => (head.number == number(at)).then(|| head.hash.clone()),
    };
    let as_told = |at: usize| rows.get(at).is_some_and(|row| told(at) == Some(row.hash()));
    for (at, row) in rows.iter().enumerate() {
        if row.number != number(at) {
            return Err(Broken::Missing(number(at)));
        }
        if row.number > head.number {
            return Err(Broken::Surplus(row.number));
        }
        let begins =
            at > 0 || written.first().is_some_and(|one| one.as_ref().is_some_and(|one| one.previous == empty.hash));
        let itself = written.get(at).is_some_and(|one| one.as_ref().is_some_and(|one| one.number == row.number));
        if !begins || !itself {
            return Err(Broken::Changed(row.number));
        }
        let next_is_there = rows.get(at + 1).is_some_and(|next| next.number == number(at + 1));
        let last = at + 1 == rows.len();
        if !as_told(at) && (next_is_there || (last && head.number == row.number)) {
            return Err(Broken::Changed(row.number));
        }
    }
    let last = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    if last < head.number {
        return Err(Broken::Missing(last + 1));
    }
    if head.number == 0 && head.hash != empty.hash {
        return Err(Broken::Changed(0));
    }
    for noted in noted {
        let found = match noted.number.checked_sub(1) {
            None => Some(empty.hash.clone()),
            Some(at) => usize::try_from(at).ok().and_then(|at| rows.get(at)).map(Row::hash),
        };
        if found.as_ref() != Some(&noted.hash) {
            return Err(Broken::NotAsNoted(noted.number));
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]
mod tests {
    use super::*;
    use crate::names::{ApplicationName, EnvironmentName, ProjectId, StageName};
    use proptest::prelude::*;

    fn key() -> EnvironmentKey {
        EnvironmentKey {
            project: ProjectId(42),
            application: ApplicationName::new("news").unwrap(),
            stage: StageName::new("prod").unwrap(),
            environment: EnvironmentName::new("prod").unwrap(),
        }
    }

    fn chain(length: u64) -> (Vec<Row>, Head) {
        let mut head = Head::empty(&key());
        let mut rows = Vec::new();
        for n in 0..length {
            let entry = Entry {
                act: Act::Refused { asked: "deploy".into(), why: format!("reason {n}") },
                by: Actor::Sweep,
                reason: None,
                deployment: None,
                at: Timestamp::UNIX_EPOCH,
            };
            let (row, next) = head.follow(&entry).unwrap();
            rows.push(row);
            head = next;
        }
        (rows, head)
    }

    #[test]
    fn a_row_can_be_read_by_people() {
        let (rows, _) = chain(1);
        let previous = Head::empty(&key()).hash;
        assert_eq!(
            rows[0].text,
            format!(
                r#"{{"number":1,"previous":"{previous}","act":{{"refused":{{"asked":"deploy","why":"reason 0"}}}},"by":"sweep","reason":null,"deployment":null,"at":"1970-01-01T00:00:00Z"}}"#
            )
        );
    }

    #[test]
    fn a_chain_of_another_environment_is_none_of_this() {
        let (rows, head) = chain(3);
        let other = EnvironmentKey { project: ProjectId(43), ..key() };
        assert_eq!(verify(&other, &rows, &head, &[]), Err(Broken::Changed(1)));
    }

    #[test]
    fn a_row_of_a_later_version_is_proven_all_the_same() {
        let (mut rows, mut head) = chain(2);
        let later = format!(
            r#"{{"number":3,"previous":"{}","act":{{"praised":{{"how":"loudly"}}}},"by":"somebody","at":"soon","more":1}}"#,
            head.hash
        );
        rows.push(Row { number: 3, text: later.clone() });
        head = Head { number: 3, hash: Digest::of(later.as_bytes()) };
        assert!(rows[2].read().is_none());
        assert_eq!(verify(&key(), &rows, &head, &[]), Ok(()));
        rows[1].text = rows[1].text.replace("reason 1", "reason 2");
        assert_eq!(verify(&key(), &rows, &head, &[]), Err(Broken::Changed(2)));
    }

    #[test]
    fn a_chain_without_a_head_proves_nothing() {
        let (rows, _) = chain(3);
        assert_eq!(verify(&key(), &rows, &Head::empty(&key()), &[]), Err(Broken::NoHead));
    }

    #[test]
    fn a_chain_written_anew_is_not_what_was_noted() {
        let (rows, head) = chain(5);
        let noted = chain(3).1;
        assert_eq!(verify(&key(), &rows, &head, &[noted.clone(), Head::empty(&key())]), Ok(()));
        let forged = Head { hash: Digest::of(b"x"), ..noted };
        assert_eq!(verify(&key(), &rows, &head, &[forged]), Err(Broken::NotAsNoted(3)));
        let later = chain(6).1;
        assert_eq!(verify(&key(), &rows, &head, &[later]), Err(Broken::NotAsNoted(6)));
    }

    proptest! {
        #[test]
        fn the_first_broken_row_is_named(length in 1_u64..12, at in 0_usize..12, how in 0..7) {
            let (mut rows, mut head) = chain(length);
            prop_assert_eq!(verify(&key(), &rows, &head, &[]), Ok(()));
            let at = at % rows.len();
            let number = at as u64 + 1;
            let expected = match how {
                0 => {
                    rows[at].text = rows[at].text.replace("reason", "season");
                    Broken::Changed(number)
                }
                1 => {
                    rows[at].text = "no JSON".into();
                    // What cannot be read says nothing of the row before.
                    Broken::Changed(number.saturating_sub(1).max(1))
                }
                2 => {
                    rows.remove(at);
                    Broken::Missing(number)
                }
                3 => {
                    // Only what it says of the row before is changed.
                    let mut written = rows[at].read().unwrap();
                    written.previous = Digest::of(b"else");
                    rows[at].text = serde_json::to_string(&written).unwrap();
                    Broken::Changed(number.saturating_sub(1).max(1))
                }
                4 => {
                    let (row, _) = head.follow(&rows[at].read().unwrap().entry).unwrap();
                    rows.push(row);
                    Broken::Surplus(length + 1)
                }
                5 => {
                    head = Head { hash: Digest::of(b"else"), ..head };
                    Broken::Changed(length)
                }
                _ => {
                    head.number += 1;
                    Broken::Missing(length + 1)
                }
            };
            prop_assert_eq!(verify(&key(), &rows, &head, &[]), Err(expected));
        }
    }
}
