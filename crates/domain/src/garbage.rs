//! What nobody needs any more: bundles, releases and artifacts that no environment names. What is not known to be unused is in use.
//!
//! A release is named by environments' rows: what is live, what was live before, and what is being launched. An artifact is named by
//! the manifests of all releases that are there, so that it goes later than the last of them; a bundle, likewise, is needed for as
//! long as anything of its release is there.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::deployment::DeploymentId;
use crate::environment::{Environment, EnvironmentState};
use crate::names::{Digest, ProjectId, hex};
use crate::release::{artifact_key, bundle_key};

/// What was written later than so long ago is nobody's garbage yet.
pub const OLD: SignedDuration = SignedDuration::from_hours(7 * 24);
/// What is launched again, and was written longer ago than so, is written again before anybody relies on it. It is a day less than
/// [`OLD`]: a look takes minutes, and what it saw unnamed before a deployment began is old to it, or was written again.
pub const RENEWED_AFTER: SignedDuration = SignedDuration::from_hours(6 * 24);
/// For how long something is marked before it is deleted.
pub const MARKED_FOR: SignedDuration = SignedDuration::from_hours(24);
/// How long after one look the next one is due.
pub const EVERY: SignedDuration = SignedDuration::from_hours(24);
/// Where the marks are.
pub const MARKS_KEY: &str = "garbage/marks.json";
/// The most bytes that the marks may have.
pub const MAX_MARKS_BYTES: u64 = 16 * 1024 * 1024;
/// The most marks: what else is garbage is marked once some of these are gone.
pub const MAX_MARKS: usize = 50_000;
/// The most that one look deletes.
pub const MAX_DELETIONS: usize = 10_000;
/// How many names a plan tells.
pub const MAX_SHOWN: usize = 1000;
/// How many releases that are there, that are named, and how many artifacts, one look can hold: with their tables less than 100 bytes
/// each, so that all of it fits into 256 MB. Where there are more, it collects nothing.
pub const MAX_NAMES: usize = 250_000;

/// A SHA-256 in 32 bytes: many are held at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha([u8; 32]);

impl Sha {
    /// Reads 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |byte: &u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut bytes = [0; 32];
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(high)? * 16 + digit(low)?;
        }
        Some(Self(bytes))
    }
}

impl std::fmt::Display for Sha {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// An object of a release, in the order in which they are deleted: a job is told first that its bundle is wanted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The note that a project had its bundle.
    Possession,
    /// Its manifest.
    Manifest,
    /// Its template.
    Template,
}

/// What is collected as one. As text it is what its mark is under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// A bundle of a project.
    Bundle(ProjectId, Sha),
    /// All objects of a release.
    Release(Sha),
    /// An artifact.
    Artifact(Sha),
}

impl Unit {
    /// What the object at `key` is of, and which part of a release it is; nothing for what is not ours to collect.
    #[must_use]
    pub fn of_key(key: &str) -> Option<(Self, Option<Part>)> {
        let (unit, part) = match key.split('/').collect::<Vec<_>>().as_slice() {
            ["artifacts", digest] => (Unit::Artifact(Sha::parse(digest)?), None),
            ["bundles", project, bundle] => {
                let digest = Sha::parse(bundle.strip_suffix(".zip")?)?;
                (Unit::Bundle(ProjectId(project.parse().ok()?), digest), None)
            }
            ["releases", digest, rest @ ..] => {
                let part = match rest {
                    ["manifest.json"] => Part::Manifest,
                    ["template.yaml"] => Part::Template,
                    ["projects", project] if project.parse::<u64>().is_ok() => Part::Possession,
                    _ => return None,
                };
                (Unit::Release(Sha::parse(digest)?), Some(part))
            }
            _ => return None,
        };
        Some((unit, part))
    }

    /// What the keys of its objects begin with.
    #[must_use]
    pub fn prefix(self) -> String {
        match self {
            Unit::Bundle(..) | Unit::Artifact(_) => self.to_string(),
            Unit::Release(_) => format!("{self}/"),
        }
    }
}

impl std::fmt::Display for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // A digest is one however it is held.
            Unit::Bundle(project, sha) => match Digest::new(sha.to_string()) {
                Ok(digest) => f.write_str(&bundle_key(*project, &digest)),
                Err(_) => Err(std::fmt::Error),
            },
            Unit::Release(sha) => write!(f, "releases/{sha}"),
            Unit::Artifact(sha) => f.write_str(&artifact_key(&sha.to_string())),
        }
    }
}

/// What an environment's row names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    /// Releases that are live, or were before.
    pub launched: BTreeSet<Digest>,
    /// Releases that are being launched: they need not be made yet.
    pub launching: BTreeSet<Digest>,
    /// Deployments whose release the row does not say: their own rows do. What they launched is named as well.
    pub deployments: BTreeSet<DeploymentId>,
}

impl Roots {
    /// Those of `environment`.
    #[must_use]
    pub fn of(environment: &Environment) -> Self {
        let known = [&environment.release, &environment.live_release, &environment.previous_release];
        let open = |id: &DeploymentId| environment.open.iter().any(|open| open.deployment == *id);
        // Rows of before the releases were in them.
        let live = environment.live.as_ref().filter(|_| environment.live_release.is_none());
        let previous = environment.previous.as_ref().filter(|_| environment.previous_release.is_none());
        let waiting = environment.waiting.as_ref().map(|waiting| &waiting.deployment).filter(|id| !open(id));
        // What a failed one left of its stack may still name its artifacts.
        let last = match environment.state {
            EnvironmentState::New | EnvironmentState::Failed => environment.deployment.as_ref().filter(|id| !open(id)),
            EnvironmentState::Live | EnvironmentState::TornDown => None,
        };
        Self {
            launched: known.into_iter().flatten().cloned().collect(),
            launching: environment.open.iter().filter_map(|open| open.release.clone()).collect(),
            deployments: [live, previous, waiting, last].into_iter().flatten().cloned().collect(),
        }
    }
}

/// What is done about a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Keep,
    /// It is marked.
    Mark,
    /// It is deleted.
    Delete,
    /// Its mark goes.
    Unmark,
}

/// What is done at `now` about a unit that was last `written` then, and `marked` then, if it is.
#[must_use]
pub fn verdict(named: bool, written: Timestamp, marked: Option<Timestamp>, now: Timestamp) -> Verdict {
    let garbage = !named && now.duration_since(written) > OLD;
    match (garbage, marked) {
        (false, None) => Verdict::Keep,
        (false, Some(_)) => Verdict::Unmark,
        (true, None) => Verdict::Mark,
        // Somebody sent it again since: that is another one.
        (true, Some(marked)) if written >= marked => Verdict::Mark,
        (true, Some(marked)) if now.duration_since(marked) >= MARKED_FOR => Verdict::Delete,
        (true, Some(_)) => Verdict::Keep,
    }
}

/// What is marked, and when: the object at [`MARKS_KEY`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marks {
    /// When somebody looked first. A release that was written earlier may be one of an environment that no list has: environments
    /// are listed from the first time on that a version which lists them writes their row.
    pub since: Timestamp,
    /// When somebody looked last.
    pub looked_at: Timestamp,
    /// Since when each unit is marked.
    pub marked: BTreeMap<String, Timestamp>,
}

impl Marks {
    /// Whether it is time to look again.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        now.duration_since(self.looked_at) >= EVERY
    }
}

/// What one look did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Whether it looked: it does once a day.
    pub looked: bool,
    /// How many units it marked: bundles, releases and artifacts.
    pub marked: usize,
    /// How many are not garbage any more.
    pub unmarked: usize,
    /// How many it deleted.
    pub deleted: usize,
    /// How many it would have, if nobody had named or sent them again while it looked.
    pub spared: usize,
    /// How many it could not delete; the log says why.
    pub failed: usize,
    /// Whether it left the artifacts alone, because a manifest could not be read; the log says which.
    pub artifacts_unknown: bool,
    /// What would be marked and deleted, if that is all that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

/// What a look would do: at most [`MAX_SHOWN`] names of each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What would be marked.
    pub mark: Vec<String>,
    /// What would be deleted.
    pub delete: Vec<String>,
}

/// What one look makes of all units, one after the other.
#[derive(Debug)]
pub struct Look {
    now: Timestamp,
    since: Timestamp,
    before: BTreeMap<String, Timestamp>,
    after: BTreeMap<String, Timestamp>,
    /// What is marked now.
    pub marked: Vec<Unit>,
    /// What is not garbage any more.
    pub unmarked: Vec<Unit>,
    /// What is to be deleted.
    pub deleted: Vec<Unit>,
}

impl Look {
    /// One at `now`, with the marks of earlier ones.
    #[must_use]
    pub fn new(marks: Option<Marks>, now: Timestamp) -> Self {
        let (since, before) = marks.map_or_else(|| (now, BTreeMap::new()), |marks| (marks.since, marks.marked));
        let (marked, unmarked, deleted) = Default::default();
        Self { now, since, before, after: BTreeMap::new(), marked, unmarked, deleted }
    }

    /// A unit that is there.
    pub fn see(&mut self, unit: Unit, named: bool, written: Timestamp) {
        let name = unit.to_string();
        let marked = self.before.get(&name).copied();
        let named = named || matches!(unit, Unit::Release(_)) && written < self.since;
        match verdict(named, written, marked, self.now) {
            Verdict::Keep => self.after.extend(marked.map(|at| (name, at))),
            Verdict::Unmark => self.unmarked.push(unit),
            Verdict::Mark if self.after.len() < MAX_MARKS => {
                self.after.insert(name, self.now);
                self.marked.push(unit);
            }
            Verdict::Mark => {}
            Verdict::Delete => {
                // Whoever dies before it is deleted leaves it to the next look.
                self.after.extend(marked.map(|at| (name, at)));
                if self.deleted.len() < MAX_DELETIONS {
                    self.deleted.push(unit);
                }
            }
        }
    }

    /// A unit of which nobody knows whether it is named: it stays, and so does its mark.
    pub fn pass_over(&mut self, unit: Unit) {
        let name = unit.to_string();
        let marked = self.before.get(&name).copied();
        self.after.extend(marked.map(|at| (name, at)));
    }

    /// The marks to keep: of what was seen, and of nothing that is gone.
    #[must_use]
    pub fn marks(&self) -> Marks {
        Marks { since: self.since, looked_at: self.now, marked: self.after.clone() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use crate::deployment::Action;
    use crate::environment::tests::deployment;
    use crate::environment::{Open, begin};
    use proptest::prelude::*;

    fn day(days: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * days)
    }

    fn artifact(text: &str) -> Unit {
        Unit::Artifact(Sha::parse(Digest::of(text.as_bytes()).as_str()).unwrap())
    }

    #[test]
    fn a_key_says_what_it_is_of() {
        let digest = Digest::of(b"bundle");
        let sha = Sha::parse(digest.as_str()).unwrap();
        let release = Unit::Release(sha);
        for (key, expected) in [
            (crate::release::bundle_key(ProjectId(7), &digest), Some((Unit::Bundle(ProjectId(7), sha), None))),
            (crate::release::artifact_key(digest.as_str()), Some((Unit::Artifact(sha), None))),
            (crate::release::manifest_key(&digest), Some((release, Some(Part::Manifest)))),
            (crate::release::template_key(&digest), Some((release, Some(Part::Template)))),
            (crate::release::possession_key(ProjectId(7), &digest), Some((release, Some(Part::Possession)))),
            (MARKS_KEY.to_owned(), None),
            ("reviews/7/x.json".to_owned(), None),
            ("artifacts/readme".to_owned(), None),
            (format!("artifacts/{}", digest.as_str().to_uppercase()), None),
            (format!("artifacts/{digest}/more"), None),
            (format!("bundles/x/{digest}.zip"), None),
            (format!("releases/{digest}/other"), None),
        ] {
            assert_eq!(Unit::of_key(&key), expected, "{key}");
            if let Some((unit, _)) = expected {
                assert!(key.starts_with(&unit.prefix()), "{key} is found under {}", unit.prefix());
            }
        }
    }

    #[test]
    fn garbage_is_old_and_was_marked_a_day_ago() {
        let now = day(100);
        let (old, young) = (day(92), day(94));
        for (named, written, marked, expected) in [
            (false, old, None, Verdict::Mark),
            (false, old, Some(day(99)), Verdict::Delete),
            (false, old, Some(day(100)), Verdict::Keep),
            (false, day(99), Some(day(95)), Verdict::Unmark),
            (false, young, None, Verdict::Keep),
            (true, old, None, Verdict::Keep),
            (true, old, Some(day(95)), Verdict::Unmark),
            // Marked, forgotten by all sweeps, and sent again in between.
            (false, old, Some(day(90)), Verdict::Mark),
            // A clock that went back.
            (false, day(101), Some(day(102)), Verdict::Unmark),
        ] {
            assert_eq!(verdict(named, written, marked, now), expected, "{named} {written} {marked:?}");
        }
    }

    #[test]
    fn a_look_keeps_the_marks_of_what_is_there() {
        let gone = artifact("gone").to_string();
        let (due, fresh, new, named, unknown) =
            (artifact("due"), artifact("fresh"), artifact("new"), artifact("named"), artifact("unknown"));
        let marked = [(due, 90), (fresh, 99), (named, 90), (unknown, 90)];
        let marked = marked.map(|(unit, at)| (unit.to_string(), day(at))).into_iter().chain([(gone, day(90))]);
        let marks = Marks { since: day(0), looked_at: day(99), marked: marked.collect() };
        assert!(marks.is_due(day(100)) && !marks.is_due(day(100) - SignedDuration::from_secs(1)));
        let now = day(99) + SignedDuration::from_hours(23);
        let mut look = Look::new(Some(marks), now);
        for (unit, named) in [(due, false), (fresh, false), (new, false), (named, true)] {
            look.see(unit, named, day(80));
        }
        look.pass_over(unknown);
        assert_eq!(
            (look.marked.clone(), look.unmarked.clone(), look.deleted.clone()),
            (vec![new], vec![named], vec![due])
        );
        let after = look.marks();
        let kept = [(due, day(90)), (fresh, day(99)), (new, now), (unknown, day(90))];
        assert_eq!(after.marked, kept.map(|(unit, at)| (unit.to_string(), at)).into());
        assert_eq!(after.looked_at, now);
    }

    #[test]
    fn what_an_unlisted_environment_may_name_stays() {
        let sha = Sha::parse(Digest::of(b"release").as_str()).unwrap();
        let marks = Marks { since: day(50), looked_at: day(99), marked: BTreeMap::new() };
        let mut look = Look::new(Some(marks), day(100));
        look.see(Unit::Release(sha), false, day(49));
        assert_eq!(look.marked, []);
        // A release that is there names its artifacts: those that none names are nobody's.
        look.see(Unit::Artifact(sha), false, day(49));
        look.see(Unit::Release(sha), false, day(51));
        assert_eq!(look.marked, [Unit::Artifact(sha), Unit::Release(sha)]);
        assert_eq!(look.marks().since, day(50));
        assert_eq!(Look::new(None, day(100)).marks().since, day(100));
    }

    #[test]
    fn a_look_marks_no_more_than_it_can_keep() {
        let mut look = Look::new(None, day(100));
        for number in 0..=MAX_MARKS {
            look.see(artifact(&number.to_string()), false, day(80));
        }
        assert_eq!((look.marked.len(), look.marks().marked.len()), (MAX_MARKS, MAX_MARKS));
        let bytes = serde_json::to_vec(&look.marks()).unwrap().len() as u64;
        assert!(bytes < MAX_MARKS_BYTES, "{bytes}");
    }

    #[test]
    fn an_environment_names_what_it_may_need() {
        let asked = deployment(Action::Deploy, 10, false);
        let bundle = asked.launch.as_ref().unwrap().bundle.clone();
        let begun = begin(None, &asked).unwrap();
        let roots = Roots::of(&begun);
        assert_eq!((roots.launching, roots.deployments), ([bundle].into(), BTreeSet::new()));

        let ids: Vec<DeploymentId> = (0..4).map(|n| DeploymentId::from_execution(day(n), &n.to_string())).collect();
        let digest = |text: &str| Some(Digest::of(text.as_bytes()));
        let mut row = begun;
        row.open.clear();
        row.state = EnvironmentState::Live;
        row.release = digest("same again");
        row.live = Some(ids[0].clone());
        row.previous = Some(ids[1].clone());
        assert_eq!(Roots::of(&row).deployments, [ids[0].clone(), ids[1].clone()].into(), "of an older version");
        row.live_release = digest("live");
        row.previous_release = digest("previous");
        let roots = Roots::of(&row);
        let named = ["same again", "live", "previous"].map(|text| digest(text).unwrap());
        assert_eq!(
            (roots.launched, roots.launching, roots.deployments),
            (named.into(), BTreeSet::new(), BTreeSet::new())
        );
        // The stack of what failed may name what it launched.
        row.state = EnvironmentState::Failed;
        row.deployment = Some(ids[2].clone());
        assert_eq!(Roots::of(&row).deployments, [ids[2].clone()].into());
        // What waits for people began before deployments were noted as open.
        row.state = EnvironmentState::Live;
        let (pipeline_id, approval, until) = (10, Digest::of(b"approval"), day(5));
        row.waiting = Some(crate::environment::Waiting { deployment: ids[3].clone(), pipeline_id, approval, until });
        assert_eq!(Roots::of(&row).deployments, [ids[3].clone()].into());
        let release = digest("waits");
        row.open.push(Open {
            deployment: ids[3].clone(),
            action: Action::Deploy,
            release: release.clone(),
            look_at: day(1),
            settled: true,
        });
        let roots = Roots::of(&row);
        assert_eq!((roots.launching, roots.deployments), ([release.unwrap()].into(), BTreeSet::new()));
    }

    proptest! {
        #[test]
        fn nothing_named_or_young_is_ever_deleted(named: bool, written in 0i64..200, marked in proptest::option::of(0i64..200), now in 0i64..200) {
            let verdict = verdict(named, day(written), marked.map(day), day(now));
            if verdict == Verdict::Delete {
                prop_assert!(!named && now - written > 7 && marked.is_some_and(|at| now > at && at > written));
            }
        }
    }
}
