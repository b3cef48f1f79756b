//! How long an environment lives, and what `sweep` does because its time has come. DynamoDB's own expiry plays no part in it.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::audit::Kept;
use crate::deployment::{Action, DeploymentId};
use crate::environment::{Environment, Open, Waiting};
use crate::names::EnvironmentKey;
use crate::stages::Span;

/// How long a deployment may be under way before `sweep` looks whether its execution still runs, and between two such looks.
pub const LOOK: SignedDuration = SignedDuration::from_hours(1);
/// The longest that an environment may be pinned at once.
pub const MAX_PIN: Span = Span::days(90);
/// How often a teardown fails before people are told.
pub const STUCK: u32 = 5;
/// How long after its first failure a teardown is tried again; after each further one twice as long.
const FIRST_RETRY: SignedDuration = SignedDuration::from_mins(15);
/// The longest between two tries.
const LAST_RETRY: SignedDuration = SignedDuration::from_hours(24);

/// An environment that somebody wants to keep for longer than it would live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Until when nothing tears it down.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// The login of who pinned it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// How long before its end people are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lead {
    /// A day.
    Day,
    /// An hour.
    Hour,
}

impl Lead {
    /// As a duration.
    #[must_use]
    pub fn duration(self) -> SignedDuration {
        match self {
            Lead::Day => SignedDuration::from_hours(24),
            Lead::Hour => SignedDuration::from_hours(1),
        }
    }

    /// The first that is still to come at `now`, for what ends at `end`.
    fn first(end: Timestamp, now: Timestamp) -> Option<Self> {
        [Lead::Day, Lead::Hour].into_iter().find(|lead| end - lead.duration() > now)
    }
}

/// Something that `sweep` does because its time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Nobody decided in time: the deployment ends.
    ExpireApproval(Waiting),
    /// The environment expires soon: people are told.
    Warn {
        /// How soon.
        lead: Lead,
        /// When.
        expires_at: Timestamp,
    },
    /// The environment expired: it is torn down.
    Teardown {
        /// When it expired.
        expired_at: Timestamp,
    },
    /// A deployment is under way for long: its execution may have died without anybody noticing.
    Look(DeploymentId),
}

/// How the time of an environment is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeping {
    /// It lives at least for so long.
    Extend(Span),
    /// It is pinned.
    Pin(Pin),
    /// It is pinned no more.
    Unpin,
}

impl Keeping {
    /// In the record's word.
    #[must_use]
    pub fn how(&self) -> Kept {
        match self {
            Keeping::Extend(_) => Kept::Extended,
            Keeping::Pin(_) => Kept::Pinned,
            Keeping::Unpin => Kept::Unpinned,
        }
    }

    /// Why, in the words of who did it.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Keeping::Pin(pin) => Some(&pin.reason),
            Keeping::Extend(_) | Keeping::Unpin => None,
        }
    }

    /// The environment's next row.
    ///
    /// # Errors
    /// [`KeepError`].
    pub fn keep(&self, environment: &Environment, now: Timestamp) -> Result<Environment, KeepError> {
        match self {
            Keeping::Extend(span) => environment.extended(*span, now),
            Keeping::Pin(pin) => environment.pinned_by(pin.clone(), now),
            Keeping::Unpin => environment.unpinned(now),
        }
    }
}

/// Why the time of an environment cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeepError {
    /// It is not there, or not yet.
    #[error("{0} is not there: deploy it first")]
    Absent(EnvironmentKey),
    /// It never expires.
    #[error("{0} never expires: its stage is protected")]
    Protected(EnvironmentKey),
    /// Something is about to delete it.
    #[error("{environment} is being torn down, by deployment {by}")]
    GoingDown {
        /// Which.
        environment: EnvironmentKey,
        /// By which.
        by: DeploymentId,
    },
    /// Somebody else pinned it for longer.
    #[error("{environment} is pinned until {:.0} already, by {} ({}): unpin it first, to pin it for a shorter time", .pin.until, .pin.by, .pin.reason)]
    Pinned {
        /// Which.
        environment: EnvironmentKey,
        /// How.
        pin: Box<Pin>,
    },
}

/// How long after its `failures`th failure a teardown is tried again.
#[must_use]
pub fn backoff(failures: u32) -> SignedDuration {
    let doubled = 2_i32.checked_pow(failures.saturating_sub(1)).and_then(|times| FIRST_RETRY.checked_mul(times));
    doubled.map_or(LAST_RETRY, |wait| wait.min(LAST_RETRY))
}

impl Environment {
    /// Whether it is pinned at `now`.
    #[must_use]
    pub fn pinned(&self, now: Timestamp) -> Option<&Pin> {
        self.pin.as_ref().filter(|pin| pin.until > now)
    }

    /// Until when nobody tears it down of his own accord; nothing for what never expires.
    #[must_use]
    pub fn lives_until(&self) -> Option<Timestamp> {
        let expires_at = self.expires_at.filter(|_| !self.target.protected)?;
        Some(self.pin.as_ref().map_or(expires_at, |pin| expires_at.max(pin.until)))
    }

    /// Whether its time has come, whatever is under way.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.lives_until().is_some_and(|end| end <= now)
    }

    /// A teardown that is under way, or waits for its turn.
    #[must_use]
    pub fn going_down(&self) -> Option<&DeploymentId> {
        self.open.iter().find(|open| open.action == Action::Teardown).map(|open| &open.deployment)
    }

    /// It lives at least until `span` after `now`.
    ///
    /// # Errors
    /// [`KeepError`].
    pub fn extended(&self, span: Span, now: Timestamp) -> Result<Self, KeepError> {
        let expires_at = self.may_be_kept()?.max(now + span.duration());
        Ok(Self { expires_at: Some(expires_at), ..self.clone() }.told_again(now))
    }

    /// It is pinned.
    ///
    /// # Errors
    /// [`KeepError`].
    pub fn pinned_by(&self, pin: Pin, now: Timestamp) -> Result<Self, KeepError> {
        self.may_be_kept()?;
        if let Some(longer) = self.pinned(now).filter(|known| known.until > pin.until) {
            let pin = Box::new(longer.clone());
            return Err(KeepError::Pinned { environment: self.key.clone(), pin });
        }
        Ok(Self { pin: Some(pin), ..self.clone() }.told_again(now))
    }

    /// It is pinned no more.
    ///
    /// # Errors
    /// [`KeepError`].
    pub fn unpinned(&self, now: Timestamp) -> Result<Self, KeepError> {
        self.may_be_kept()?;
        Ok(Self { pin: None, ..self.clone() }.told_again(now))
    }

    /// When it expires, if that can be put off.
    fn may_be_kept(&self) -> Result<Timestamp, KeepError> {
        if self.target.protected {
            return Err(KeepError::Protected(self.key.clone()));
        }
        if let Some(by) = self.going_down() {
            return Err(KeepError::GoingDown { environment: self.key.clone(), by: by.clone() });
        }
        self.expires_at.ok_or_else(|| KeepError::Absent(self.key.clone()))
    }

    /// The end of its life is another one: what was told of the old one, and tried at it, does not count.
    pub(crate) fn told_again(self, now: Timestamp) -> Self {
        let next_warning = self.lives_until().and_then(|end| Lead::first(end, now));
        Self { next_warning, failed_teardowns: 0, retry_at: None, ..self }
    }

    /// That people were told so long before its end.
    #[must_use]
    pub fn warned(&self, told: Lead) -> Self {
        let next_warning = match (self.next_warning, told) {
            (Some(Lead::Day), Lead::Day) => Some(Lead::Hour),
            (Some(Lead::Hour), Lead::Hour) => None,
            (other, Lead::Day | Lead::Hour) => other,
        };
        Self { next_warning, ..self.clone() }
    }

    /// When its end is announced: not while it goes already.
    fn warning_at(&self) -> Option<(Lead, Timestamp)> {
        let lead = self.next_warning.filter(|_| self.going_down().is_none())?;
        Some((lead, self.lives_until()? - lead.duration()))
    }

    /// When `sweep` tears it down: at its end, or some time after the last try that failed; not while a teardown is under way.
    fn teardown_at(&self) -> Option<Timestamp> {
        let end = self.lives_until().filter(|_| self.going_down().is_none())?;
        Some(self.retry_at.map_or(end, |retry_at| end.max(retry_at)))
    }

    /// When `sweep` has to look at this environment next, if ever: the key of the index that it queries.
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        let waiting = self.waiting.as_ref().map(|waiting| waiting.until);
        let warning = self.warning_at().map(|(_, at)| at);
        let looks = self.open.iter().map(|open| open.look_at);
        waiting.into_iter().chain(warning).chain(self.teardown_at()).chain(looks).min()
    }

    /// What is due at `now`. A protected environment never expires, whatever its row says.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> Vec<Due> {
        let mut due = Vec::new();
        if let Some(waiting) = self.waiting.as_ref().filter(|waiting| waiting.until <= now) {
            due.push(Due::ExpireApproval(waiting.clone()));
        }
        due.extend(self.open.iter().filter(|open| open.look_at <= now).map(|open| Due::Look(open.deployment.clone())));
        if self.teardown_at().is_some_and(|at| at <= now) {
            due.extend(self.lives_until().map(|expired_at| Due::Teardown { expired_at }));
        } else if let Some((lead, _)) = self.warning_at().filter(|(_, at)| *at <= now) {
            due.extend(self.lives_until().map(|expires_at| Due::Warn { lead, expires_at }));
        }
        due
    }

    /// `sweep` looked at the deployments that were due, and does so again a while after `now`.
    #[must_use]
    pub fn looked(&self, now: Timestamp) -> Self {
        let look =
            |open: &Open| Open { look_at: if open.look_at <= now { now + LOOK } else { open.look_at }, ..open.clone() };
        Self { open: self.open.iter().map(look).collect(), ..self.clone() }
    }

    /// All that belongs to the end of `deployment` is done.
    #[must_use]
    pub fn closed(&self, deployment: &DeploymentId) -> Self {
        let mut closed = self.clone();
        closed.open.retain(|open| open.deployment != *deployment);
        closed
    }
}
