//! Verifies a bundle, copies its artifacts to where their content says, and rewrites its template to name them.

use std::collections::BTreeMap;
use std::io::Cursor;

use jiff::Timestamp;
use serde::Deserialize;
use slipway_aws::bucket::Bucket;
use slipway_aws::store::Store;
use slipway_bundle::{Archive, BundleError, Entry, Limits};
use slipway_domain::ErrorName;
use slipway_domain::deployment::{DeploymentRecord, DeploymentRef, ReleaseDigests};
use slipway_domain::names::Digest;
use slipway_domain::protocol::MAX_BUNDLE_BYTES;
use slipway_domain::release::{
    Artifact, MANIFEST_VERSION, Manifest, TemplateParameter, artifact_key, bundle_key, manifest_key, possession_key,
    template_key,
};
use slipway_handler::{Done, Failure};
use slipway_template::{MAX_TEMPLATE_BYTES, PackageForm, Reference, ReferenceId, S3Object, Template, TemplateError};

/// The most bytes that a manifest may have.
const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;

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

impl Package {
    pub(crate) async fn handle(&self, input: Input, now: Timestamp) -> Result<Done, Failure> {
        let record = slipway_handler::hold(&self.store, &input.deployment, now).await?;
        let Some(launch) = &record.deployment.launch else {
            return Err(Failure::new(ErrorName::Internal, "a teardown has nothing to package"));
        };
        // Once verified, this project's bundle is not read again, nor its release made again.
        let possession = possession_key(record.deployment.environment.project, &launch.bundle);
        let known = match self.bucket.size(&possession).await? {
            Some(_) => self.bucket.get(&manifest_key(&launch.bundle), MAX_MANIFEST_BYTES).await?,
            None => None,
        };
        let manifest = match known {
            Some(manifest) => manifest,
            None => {
                let manifest = self.package(&record, &launch.bundle).await?;
                self.bucket.put(&possession, Vec::new()).await?;
                manifest
            }
        };
        let template = read_manifest(&manifest)?.template_sha256;
        let digests = ReleaseDigests { template, manifest: Digest::of(&manifest) };
        slipway_handler::note(&self.store, &record, |record| record.release = Some(digests.clone())).await?;
        Ok(Done {})
    }

    async fn package(&self, record: &DeploymentRecord, announced: &Digest) -> Result<Vec<u8>, Failure> {
        let key = bundle_key(record.deployment.environment.project, announced);
        let bundle = self.bucket.get(&key, MAX_BUNDLE_BYTES).await?.ok_or_else(|| {
            Failure::new(ErrorName::BundleMissing, format!("the bundle {announced} is not in the bucket"))
        })?;
        let mut archive = Archive::open(Cursor::new(bundle), &Limits::default())?;
        let entries = archive.verify()?;
        let found = slipway_bundle::tree_digest(&entries);
        if found.as_str() != announced.as_str() {
            let message = format!("the bundle's digest is {found}, but {announced} was announced");
            return Err(Failure::new(ErrorName::BundleInvalid, message));
        }
        let template = Template::parse(&read_template(&mut archive)?)?;
        let mut locations = BTreeMap::new();
        let mut artifacts = Vec::new();
        let mut made: BTreeMap<String, (String, u64)> = BTreeMap::new();
        for reference in template.references()? {
            let artifact = self.artifact(&mut archive, &entries, &reference, &mut made).await?;
            let id: ReferenceId = reference.id();
            locations.insert(id, S3Object { bucket: self.bucket.name().to_owned(), key: artifact.key.clone() });
            artifacts.push(artifact);
        }
        let rewritten = template.rewrite(&locations)?;
        let parameters = template.parameters().into_iter();
        let manifest = Manifest {
            version: MANIFEST_VERSION,
            bundle: announced.clone(),
            template_sha256: Digest::of(rewritten.as_bytes()),
            parameters: parameters
                .map(|p| TemplateParameter { name: p.name, has_default: p.has_default, no_echo: p.no_echo })
                .collect(),
            artifacts,
        };
        let manifest = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| Failure::new(ErrorName::Internal, format!("the manifest cannot be written: {error}")))?;
        self.bucket.put(&template_key(announced), rewritten.into_bytes()).await?;
        self.bucket.put(&manifest_key(announced), manifest.clone()).await?;
        Ok(manifest)
    }

    /// Puts what `reference` names where its content says, unless it is there.
    async fn artifact(
        &self,
        archive: &mut Archive<Cursor<Vec<u8>>>,
        entries: &[Entry],
        reference: &Reference,
        made: &mut BTreeMap<String, (String, u64)>,
    ) -> Result<Artifact, Failure> {
        // What is wrong with these is in the template, at a place that can be told.
        let wrong = |error: BundleError| {
            let Reference { line, resource, property, .. } = reference;
            Failure::new(ErrorName::TemplateInvalid, format!("line {line}: {resource}: `{property}`: {error}"))
        };
        let path = slipway_bundle::normalise(&reference.path).map_err(wrong)?;
        let as_it_is = archive.goes_up_as_it_is(&path, reference.form == PackageForm::Zip).map_err(wrong)?;
        let inside = archive.artifact_entries(entries, &path).map_err(wrong)?;
        let digest = match inside.as_slice() {
            [file] if as_it_is => slipway_bundle::file_digest(file),
            _ => slipway_bundle::tree_digest(&inside),
        };
        let digest = digest.as_str().to_owned();
        let key = artifact_key(&digest);
        let (key, bytes) = match made.get(&digest) {
            Some(known) => known.clone(),
            None => {
                let bytes = match self.bucket.size(&key).await? {
                    Some(bytes) => bytes,
                    None => {
                        let mut artifact = Vec::new();
                        if as_it_is {
                            archive.copy_file(&path, &mut artifact)?;
                        } else {
                            archive.write_artifact(&path, &mut artifact)?;
                        }
                        let bytes = artifact.len() as u64;
                        self.bucket.put(&key, artifact).await?;
                        bytes
                    }
                };
                made.insert(digest.clone(), (key.clone(), bytes));
                (key, bytes)
            }
        };
        let Reference { resource, property, .. } = reference;
        Ok(Artifact { resource: resource.clone(), property: property.clone(), path, key, digest, bytes })
    }
}

fn read_template(archive: &mut Archive<Cursor<Vec<u8>>>) -> Result<Vec<u8>, Failure> {
    archive.read_template(MAX_TEMPLATE_BYTES as u64).map_err(|error| {
        if let BundleError::EntryTooLarge { size, .. } = error {
            return TemplateError::TooLarge { size: usize::try_from(size).unwrap_or(usize::MAX) }.into();
        }
        error.into()
    })
}

fn read_manifest(bytes: &[u8]) -> Result<Manifest, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|error| Failure::new(ErrorName::Internal, format!("the release's manifest cannot be read: {error}")))
}
