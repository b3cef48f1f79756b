//! Marks what nobody needs any more, and deletes what was marked: `docs/ENVIRONMENTS.md` says what becomes of whom when.
//!
//! The order is what makes it safe. Marks are kept, on the condition that nobody else kept any meanwhile, before anything is deleted;
//! what is named is looked at again in between; of a release, what tells a job that its bundle is there goes first.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use slipway_aws::bucket::Bucket;
use slipway_aws::store::Store;
use slipway_aws::{AwsError, Kind};
use slipway_domain::ErrorName;
use slipway_domain::environment::Environment;
use slipway_domain::garbage::{
    Collected, Look, MARKS_KEY, MAX_MARKS_BYTES, MAX_NAMES, MAX_SHOWN, Marks, OLD, Part, Plan, Roots, Sha, Unit,
};
use slipway_domain::names::Digest;
use slipway_domain::registry::Selection;
use slipway_domain::release::MAX_MANIFEST_BYTES;
use slipway_handler::Failure;
use tokio::task::JoinSet;

/// How many environments are read at once.
const PAGE: i32 = 100;
/// How many objects are read, or deleted, at once. A manifest may have 4 MiB.
const AT_ONCE: usize = 16;

/// What the collection works with.
pub(crate) struct Collect {
    pub(crate) store: Store,
    pub(crate) bucket: Bucket,
}

/// The releases that environments name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Named {
    launched: Names,
    /// These need not be made yet.
    launching: Names,
}

/// Names, each in its 32 bytes and nothing more: there may be hundreds of thousands, many of them more than once.
#[derive(Debug, Default, PartialEq, Eq)]
struct Names(Vec<Sha>);

impl Names {
    /// Adds one. It is found after the next [`Names::sort`].
    fn add(&mut self, name: Sha) {
        if self.0.len() == self.0.capacity() {
            self.sort();
            // Where little was there twice, sorting again soon would find little again.
            if self.0.len() > self.0.capacity() / 2 {
                self.0.reserve(self.0.len());
            }
        }
        self.0.push(name);
    }

    /// Puts them in order, each once.
    fn sort(&mut self) {
        self.0.sort_unstable();
        self.0.dedup();
    }

    fn has(&self, name: &Sha) -> bool {
        self.0.binary_search(name).is_ok()
    }
}

impl Named {
    fn sort(&mut self) {
        self.launched.sort();
        self.launching.sort();
    }

    fn len(&self) -> usize {
        self.launched.0.len() + self.launching.0.len()
    }

    fn is_full(&self) -> bool {
        limit(self.len()).is_err()
    }

    fn has(&self, release: &Sha) -> bool {
        self.launched.has(release) || self.launching.has(release)
    }
}

/// A release that is in the bucket.
#[derive(Debug, Clone, Copy)]
struct Release {
    /// When the last of its objects was written.
    written: Timestamp,
    /// Whether it has a manifest.
    made: bool,
}

/// What a manifest says, of which everything else is as it may be.
#[derive(Deserialize)]
struct Manifest {
    artifacts: Vec<Artifact>,
}

#[derive(Deserialize)]
struct Artifact {
    key: String,
}

impl Collect {
    /// Looks, if that is due, `within` that time: what it did not delete by then is the next one's. With `dry_run`, looks in any case,
    /// and says what it would do.
    pub(crate) async fn run(&self, now: Timestamp, within: Duration, dry_run: bool) -> Result<Collected, Failure> {
        match tokio::time::timeout(within, self.look(now, dry_run)).await {
            Ok(collected) => collected,
            Err(_) => {
                let message = format!("the look for garbage took more than {within:?}; what it deleted is in the log");
                Err(Failure::new(ErrorName::LimitExceeded, message))
            }
        }
    }

    async fn look(&self, now: Timestamp, dry_run: bool) -> Result<Collected, Failure> {
        let (marks, tag) = self.marks().await?.unzip();
        if !dry_run && marks.as_ref().is_some_and(|marks: &Marks| !marks.is_due(now)) {
            return Ok(Collected::default());
        }
        let named = self.named().await?;
        let releases = self.releases().await?;
        let artifacts = self.artifacts(&named, &releases).await?;
        let mut look = Look::new(marks, now);
        for (sha, release) in &releases {
            look.see(Unit::Release(*sha), named.has(sha), release.written);
        }
        self.each("bundles/", |unit, _, written| {
            if let Unit::Bundle(_, sha) = unit {
                look.see(unit, named.has(&sha) || releases.contains_key(&sha), written);
            }
            Ok(())
        })
        .await?;
        self.each("artifacts/", |unit, _, written| {
            match (unit, &artifacts) {
                (Unit::Artifact(sha), Some(artifacts)) => look.see(unit, artifacts.contains(&sha), written),
                (_, _) => look.pass_over(unit),
            }
            Ok(())
        })
        .await?;
        let (marked, unmarked) = (look.marked.len(), look.unmarked.len());
        let artifacts_unknown = artifacts.is_none();
        let mut collected = Collected { looked: true, marked, unmarked, artifacts_unknown, ..Collected::default() };
        if dry_run {
            let names = |units: &[Unit]| units.iter().take(MAX_SHOWN).map(Unit::to_string).collect();
            collected.plan = Some(Plan { mark: names(&look.marked), delete: names(&look.deleted) });
            return Ok(collected);
        }
        let bytes = serde_json::to_vec(&look.marks())
            .map_err(|error| Failure::new(ErrorName::Internal, format!("the marks cannot be written: {error}")))?;
        match self.bucket.put_over(MARKS_KEY, bytes, tag.as_deref()).await {
            Err(error) if error.kind == Kind::Conflict => {
                tracing::info!("another sweep looks for garbage");
                return Ok(Collected::default());
            }
            kept => kept?,
        }
        if !look.deleted.is_empty() {
            self.delete(&look.deleted, &named, &releases, now, &mut collected).await?;
        }
        Ok(collected)
    }

    /// The marks, and the tag to write them again with. Who may list only some of the bucket is told of what is there by a listing.
    async fn marks(&self) -> Result<Option<(Marks, String)>, Failure> {
        if self.bucket.list(MARKS_KEY, None).await?.objects.is_empty() {
            return Ok(None);
        }
        let Some(read) = self.bucket.get_tagged(MARKS_KEY, MAX_MARKS_BYTES).await? else { return Ok(None) };
        let marks = serde_json::from_slice(&read.bytes).map_err(|error| {
            Failure::new(ErrorName::Internal, format!("{MARKS_KEY} cannot be read: {error}; delete it to mark anew"))
        })?;
        Ok(Some((marks, read.tag)))
    }

    /// What the rows of all environments name. Where one cannot be read, nobody knows.
    async fn named(&self) -> Result<Named, Failure> {
        let all = Selection { gone: true, ..Selection::default() };
        let (mut named, mut page) = (Named::default(), None);
        loop {
            let list = self.store.list(&all, page.as_ref(), PAGE).await?;
            if let Some(unreadable) = list.unreadable.first() {
                let message = format!("the row of {unreadable} cannot be read: what it names is not known");
                return Err(Failure::new(ErrorName::Internal, message));
            }
            for environment in &list.environments {
                self.names(environment, &mut named).await?;
            }
            page = list.next;
            if page.is_none() || named.is_full() {
                named.sort();
                limit(named.len())?;
            }
            if page.is_none() {
                return Ok(named);
            }
        }
    }

    async fn names(&self, environment: &Environment, named: &mut Named) -> Result<(), Failure> {
        let Roots { launched, launching, deployments } = Roots::of(environment);
        for release in &launched {
            named.launched.add(sha(release)?);
        }
        for release in &launching {
            named.launching.add(sha(release)?);
        }
        for id in deployments {
            let record = self.store.deployment(&environment.key, &id).await?.ok_or_else(|| {
                let message = format!("deployment {id} of {} has no row: what it names is not known", environment.key);
                Failure::new(ErrorName::Internal, message)
            })?;
            if let Some(launch) = &record.deployment.launch {
                // It may have ended before its release was made.
                named.launching.add(sha(&launch.bundle)?);
            }
        }
        Ok(())
    }

    /// The releases that are in the bucket.
    async fn releases(&self) -> Result<HashMap<Sha, Release>, Failure> {
        let mut releases = HashMap::new();
        self.each("releases/", |unit, part, written| {
            let Unit::Release(sha) = unit else { return Ok(()) };
            let release = releases.entry(sha).or_insert(Release { written, made: false });
            release.written = release.written.max(written);
            release.made |= part == Some(Part::Manifest);
            limit(releases.len())
        })
        .await?;
        Ok(releases)
    }

    /// Hands on what is in the bucket under `prefix`, a page at a time.
    async fn each(
        &self,
        prefix: &str,
        mut see: impl FnMut(Unit, Option<Part>, Timestamp) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut page = None;
        loop {
            let listed = self.bucket.list(prefix, page).await?;
            for object in listed.objects {
                if let Some((unit, part)) = Unit::of_key(&object.key) {
                    see(unit, part, object.written)?;
                }
            }
            page = listed.next;
            if page.is_none() {
                return Ok(());
            }
        }
    }

    /// What the manifests of all releases name; nothing when one of them cannot be read, or is not there and should be.
    async fn artifacts(
        &self,
        named: &Named,
        releases: &HashMap<Sha, Release>,
    ) -> Result<Option<HashSet<Sha>>, Failure> {
        let made = |sha: &Sha| releases.get(sha).is_some_and(|release| release.made);
        if let Some(sha) = named.launched.0.iter().find(|sha| !made(sha)) {
            tracing::error!("release {sha} is live, or was before, and has no manifest: no artifact is collected");
            return Ok(None);
        }
        self.read(releases.iter().filter(|(_, release)| release.made).map(|(sha, _)| *sha)).await
    }

    /// What these manifests name.
    async fn read(&self, releases: impl Iterator<Item = Sha>) -> Result<Option<HashSet<Sha>>, Failure> {
        let (mut artifacts, mut releases) = (HashSet::new(), releases);
        let mut reading = JoinSet::new();
        loop {
            while reading.len() < AT_ONCE {
                let Some(sha) = releases.next() else { break };
                let bucket = self.bucket.clone();
                reading.spawn(async move { (sha, manifest(&bucket, sha).await) });
            }
            let Some(read) = reading.join_next().await else { return Ok(Some(artifacts)) };
            let (sha, read) = read.map_err(|ended| Failure::new(ErrorName::Internal, ended.to_string()))?;
            // Another sweep may have deleted it meanwhile: it keeps its marks, and so this one deletes nothing.
            let Some(bytes) = read? else { continue };
            match named_by(&bytes) {
                Ok(named) => artifacts.extend(named),
                Err(why) => {
                    tracing::error!(
                        "the manifest of release {sha} cannot be read, and no artifact is collected: {why}"
                    );
                    return Ok(None);
                }
            }
            limit(artifacts.len())?;
        }
    }

    /// Deletes these, after another look at what is named, and at each when it was written.
    async fn delete(
        &self,
        units: &[Unit],
        before: &Named,
        releases: &HashMap<Sha, Release>,
        now: Timestamp,
        collected: &mut Collected,
    ) -> Result<(), Failure> {
        let named = self.named().await?;
        // What was not there to be read before.
        let new = |sha: &&Sha| !before.has(sha) || releases.get(sha).is_none_or(|release| !release.made);
        let mut made = Vec::new();
        for sha in named.launched.0.iter().chain(&named.launching.0).filter(new) {
            let key = format!("{}manifest.json", Unit::Release(*sha).prefix());
            if !self.bucket.list(&key, None).await?.objects.is_empty() {
                made.push(*sha);
            }
        }
        let artifacts = self.read(made.into_iter()).await?;
        collected.artifacts_unknown |= artifacts.is_none();
        let spared = |unit: &Unit| match unit {
            Unit::Bundle(_, sha) | Unit::Release(sha) => named.has(sha),
            Unit::Artifact(sha) => artifacts.as_ref().is_none_or(|artifacts| artifacts.contains(sha)),
        };
        let mut left = units.iter().filter(|unit| !spared(unit));
        let mut deleting = JoinSet::new();
        collected.spared = units.iter().filter(|unit| spared(unit)).count();
        loop {
            while deleting.len() < AT_ONCE {
                let Some(unit) = left.next().copied() else { break };
                let bucket = self.bucket.clone();
                deleting.spawn(async move { (unit, remove(&bucket, unit, now).await) });
            }
            let Some(deleted) = deleting.join_next().await else { return Ok(()) };
            let (unit, deleted) = deleted.map_err(|ended| Failure::new(ErrorName::Internal, ended.to_string()))?;
            match deleted {
                Ok(true) => {
                    tracing::info!(%unit, "deleted: nobody needs it any more");
                    collected.deleted += 1;
                }
                Ok(false) => collected.spared += 1,
                Err(error) => {
                    tracing::error!(%unit, %error, "could not be deleted");
                    collected.failed += 1;
                }
            }
        }
    }
}

/// The manifest of a release, if it is there.
async fn manifest(bucket: &Bucket, sha: Sha) -> Result<Option<Vec<u8>>, AwsError> {
    let key = format!("{}manifest.json", Unit::Release(sha).prefix());
    match bucket.get(&key, MAX_MANIFEST_BYTES).await {
        // Who may list only some of the bucket is told so of what is not there, too.
        Err(error) if error.kind == Kind::Denied && bucket.list(&key, None).await?.objects.is_empty() => Ok(None),
        read => read,
    }
}

/// Deletes what is there of a unit, unless some of it was sent again.
async fn remove(bucket: &Bucket, unit: Unit, now: Timestamp) -> Result<bool, AwsError> {
    let (mut found, mut page) = (Vec::new(), None);
    loop {
        let listed = bucket.list(&unit.prefix(), page).await?;
        for object in listed.objects {
            match Unit::of_key(&object.key) {
                Some((of, part)) if of == unit => found.push((part, object)),
                Some(_) | None => {}
            }
        }
        page = listed.next;
        if page.is_none() {
            break;
        }
    }
    if found.iter().any(|(_, object)| now.duration_since(object.written) <= OLD) {
        return Ok(false);
    }
    found.sort_by_key(|(part, _)| *part);
    for (_, object) in found {
        bucket.remove(&object.key).await?;
    }
    Ok(true)
}

fn named_by(manifest: &[u8]) -> Result<Vec<Sha>, String> {
    let manifest: Manifest = serde_json::from_slice(manifest).map_err(|error| error.to_string())?;
    let artifacts = manifest.artifacts.iter().map(|artifact| match Unit::of_key(&artifact.key) {
        Some((Unit::Artifact(sha), _)) => Ok(sha),
        Some(_) | None => Err(format!("it names {}", artifact.key)),
    });
    artifacts.collect()
}

fn sha(digest: &Digest) -> Result<Sha, Failure> {
    Sha::parse(digest.as_str()).ok_or_else(|| Failure::new(ErrorName::Internal, format!("{digest} is no digest")))
}

fn limit(names: usize) -> Result<(), Failure> {
    if names <= MAX_NAMES {
        return Ok(());
    }
    let message = format!("there are more than {MAX_NAMES} names to look at: nothing is collected");
    Err(Failure::new(ErrorName::LimitExceeded, message))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn names_are_each_there_once_however_often_they_were_added() {
        let name = |number: usize| Sha::parse(&format!("{number:064x}")).unwrap();
        let mut names = Names::default();
        // 3,000 of them, in no order, each seven times.
        for number in 0..21_000 {
            names.add(name(number * 7919 % 3000));
        }
        names.sort();
        assert_eq!(names.0.len(), 3000);
        assert!((0..3000).all(|number| names.has(&name(number))) && !names.has(&name(3000)));
        assert!(names.0.capacity() < 4 * 3000, "{}", names.0.capacity());
    }
}
