//! Verifies a bundle, copies its artifacts to where their content says, and rewrites its templates to name them.
//!
//! Neither the bundle nor an artifact is ever whole in memory or on disk: the bundle is read by ranges, twice. First every
//! entry is inflated for its digest; then compressed bytes are copied into those artifacts that are not in the bucket yet.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Deserialize;
use slipway_aws::bucket::{Bucket, ObjectReader, UploadOptions, Uploads};
use slipway_aws::store::Store;
use slipway_bundle::{Archive, Artifact, BundleError, Limits, TEMPLATE};
use slipway_domain::ErrorName;
use slipway_domain::deployment::{DeploymentRecord, DeploymentRef, ReleaseDigests};
use slipway_domain::garbage::RENEWED_AFTER;
use slipway_domain::names::Digest;
use slipway_domain::protocol::MAX_BUNDLE_BYTES;
use slipway_domain::release::{
    MANIFEST_VERSION, MAX_MANIFEST_BYTES, Manifest, artifact_key, bundle_key, manifest_key, possession_key,
    template_key,
};
use slipway_handler::{Done, Failure};
use slipway_packaging::{Application, PackagingError, Plan, Release};
use slipway_template::{MAX_TEMPLATE_BYTES, S3Object};

/// What the function works with.
pub(crate) struct Package {
    pub(crate) store: Store,
    pub(crate) bucket: Bucket,
}

/// What a state machine asks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    deployment: DeploymentRef,
}

/// A bundle whose content is what was announced.
struct Verified {
    archive: Archive<ObjectReader>,
    application: Application,
    plan: Plan,
}

impl Package {
    pub(crate) async fn handle(&self, input: Input, now: Timestamp) -> Result<Done, Failure> {
        let record = slipway_handler::hold(&self.store, &input.deployment, now).await?;
        let Some(launch) = &record.deployment.launch else {
            return Err(Failure::new(ErrorName::Internal, "a teardown has nothing to package"));
        };
        let bytes = match self.released(&record, &launch.bundle, now).await? {
            Some(bytes) => bytes,
            None => {
                let bytes = self.release(&record, &launch.bundle, now).await?;
                self.bucket
                    .put(&possession_key(record.deployment.environment.project, &launch.bundle), Vec::new())
                    .await?;
                bytes
            }
        };
        let digests = ReleaseDigests { template: read_manifest(&bytes)?.template_sha256, manifest: Digest::of(&bytes) };
        slipway_handler::note(&self.store, &record, |record| record.release = Some(digests.clone())).await?;
        Ok(Done {})
    }

    /// The manifest of the release, if it was made from this project's bundle before, and all that it names is there: then that is
    /// not read again.
    async fn released(
        &self,
        record: &DeploymentRecord,
        bundle: &Digest,
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, Failure> {
        if self.bucket.size(&possession_key(record.deployment.environment.project, bundle)).await?.is_none() {
            return Ok(None);
        }
        let Some(bytes) = self.bucket.get(&manifest_key(bundle), MAX_MANIFEST_BYTES).await? else { return Ok(None) };
        // One of an older Slipway is made anew.
        let known = read_manifest(&bytes).ok().filter(|manifest| manifest.version == MANIFEST_VERSION);
        let Some(manifest) = known else { return Ok(None) };
        Ok(if self.is_whole(&manifest, now).await? { Some(bytes) } else { None })
    }

    /// Whether the template and the artifacts of a release are there, and stay: `sweep`, which may have read who needs them before this
    /// deployment began, looks at each when it was written before it deletes it, and so spares what is written again here.
    async fn is_whole(&self, manifest: &Manifest, now: Timestamp) -> Result<bool, Failure> {
        let artifacts = manifest.artifacts.iter().map(|artifact| artifact.key.clone());
        let keys: BTreeSet<String> = artifacts.chain([template_key(&manifest.bundle)]).collect();
        let keys: Vec<String> = keys.into_iter().collect();
        let present = self.bucket.present(&keys).await?;
        if present.iter().any(Option::is_none) {
            return Ok(false);
        }
        let old = |written: Option<Timestamp>| written.is_none_or(|at| now.duration_since(at) > RENEWED_AFTER);
        let old = keys.into_iter().zip(present).filter(|(_, present)| present.is_some_and(|it| old(it.written)));
        let old: Vec<String> = old.map(|(key, _)| key).collect();
        self.bucket.renew(&old).await?;
        Ok(self.bucket.present(&old).await?.iter().all(Option::is_some))
    }

    /// Makes the release, and gives its manifest, which is written last.
    async fn release(&self, record: &DeploymentRecord, announced: &Digest, now: Timestamp) -> Result<Vec<u8>, Failure> {
        let key = bundle_key(record.deployment.environment.project, announced);
        let reader = self.bucket.open(&key).await?.ok_or_else(|| {
            Failure::new(ErrorName::BundleMissing, format!("the bundle {announced} is not in the bucket"))
        })?;
        if reader.size() > MAX_BUNDLE_BYTES {
            let message = format!("the bundle has {} bytes; the limit is {MAX_BUNDLE_BYTES}", reader.size());
            return Err(Failure::new(ErrorName::LimitExceeded, message));
        }
        let digest = announced.clone();
        let Verified { archive, application, plan } = blocking(move || verify(reader, &digest)).await?;
        let object = |digest: &str| {
            let key = artifact_key(digest);
            let url = self.bucket.path_url(&key, record.deployment.target.region.as_str());
            S3Object { bucket: self.bucket.name().to_owned(), key, url }
        };
        let release = application.release(&plan, object)?;

        let known = self.known(&plan, &release).await?;
        let absent: Vec<Artifact> =
            plan.artifacts().filter(|artifact| !known.contains_key(artifact.digest.as_str())).cloned().collect();
        let sizes: BTreeMap<String, u64> = plan
            .artifacts()
            .map(|artifact| {
                let digest = artifact.digest.as_str();
                (digest.to_owned(), known.get(digest).copied().unwrap_or_else(|| archive.artifact_size(artifact)))
            })
            .collect();
        let uploads = self.bucket.uploads(UploadOptions::lean());
        let (uploads, copied) = blocking(move || {
            let copied = copy(archive, &absent, &uploads);
            Ok((uploads, copied))
        })
        .await?;
        if let Err(error) = copied {
            // No part of an upload that was begun stays in the bucket.
            let _ = uploads.done().await;
            return Err(error);
        }
        for document in release.documents.iter().filter(|document| !known.contains_key(document.digest.as_str())) {
            uploads.put(&artifact_key(document.digest.as_str()), document.text.clone().into_bytes()).await?;
        }
        uploads.done().await?;

        let manifest = Manifest {
            version: MANIFEST_VERSION,
            bundle: announced.clone(),
            template_sha256: Digest::of(release.template.as_bytes()),
            artifacts: release.artifacts(|digest| sizes.get(digest).copied().unwrap_or_default()),
            parameters: release.parameters,
        };
        let bytes = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| Failure::new(ErrorName::Internal, format!("the manifest cannot be written: {error}")))?;
        self.bucket.put(&template_key(announced), release.template.into_bytes()).await?;
        self.bucket.put(&manifest_key(announced), bytes.clone()).await?;
        // Until the manifest named it, what was there already was nobody's, and sweep may have deleted it.
        if !self.is_whole(&manifest, now).await? {
            let message = format!("an artifact of the release {announced} was deleted while it was made: make it anew");
            return Err(Failure::new(ErrorName::Unavailable, message));
        }
        Ok(bytes)
    }

    /// The sizes of those artifacts and documents that are in the bucket, by digest.
    async fn known(&self, plan: &Plan, release: &Release) -> Result<BTreeMap<String, u64>, Failure> {
        let documents = release.documents.iter().map(|document| document.digest.as_str());
        let digests: Vec<&str> = plan.artifacts().map(|artifact| artifact.digest.as_str()).chain(documents).collect();
        let keys: Vec<String> = digests.iter().map(|digest| artifact_key(digest)).collect();
        let sizes = self.bucket.sizes(&keys).await?;
        Ok(digests.into_iter().zip(sizes).filter_map(|(digest, size)| Some((digest.to_owned(), size?))).collect())
    }
}

/// Reads the bundle once: every entry is inflated, and what they hold must be what was announced.
fn verify(reader: ObjectReader, announced: &Digest) -> Result<Verified, Failure> {
    let mut archive = Archive::open(reader, &Limits::default())?;
    let listing = archive.verify()?;
    let found = listing.digest();
    if found.as_str() != announced.as_str() {
        let message = format!("the bundle's digest is {found}, but {announced} was announced");
        return Err(Failure::new(ErrorName::BundleInvalid, message));
    }
    let template = archive
        .read_file(TEMPLATE, MAX_TEMPLATE_BYTES as u64)
        .map_err(|error| PackagingError::of_document(TEMPLATE, error))?;
    let application = Application::read(TEMPLATE, &template, |path, limit| archive.read_file(path, limit))?;
    let plan = application.plan(&listing)?;
    Ok(Verified { archive, application, plan })
}

/// Copies artifacts out of the bundle, in the order in which they lie there.
fn copy(mut archive: Archive<ObjectReader>, artifacts: &[Artifact], uploads: &Uploads) -> Result<(), Failure> {
    let mut artifacts: Vec<&Artifact> = artifacts.iter().collect();
    artifacts.sort_by(|a, b| a.path.cmp(&b.path));
    for artifact in artifacts {
        let mut upload = uploads.begin(&artifact_key(artifact.digest.as_str()));
        archive.write_artifact(artifact, &mut upload)?;
        upload.finish().map_err(|error| BundleError::Io { what: "uploading".into(), source: error })?;
    }
    Ok(())
}

/// Runs what waits for S3, or inflates, on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(ended) => match ended.try_into_panic() {
            // The runtime reports it as any other panic of the function.
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(ended) => Err(Failure::new(ErrorName::Internal, ended.to_string())),
        },
    }
}

fn read_manifest(bytes: &[u8]) -> Result<Manifest, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|error| Failure::new(ErrorName::Internal, format!("the release's manifest cannot be read: {error}")))
}
