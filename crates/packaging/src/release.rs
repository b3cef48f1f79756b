//! Writing the templates anew.

use std::collections::{BTreeMap, BTreeSet};

use slipway_domain::names::Digest;
use slipway_domain::release::{Artifact as ManifestArtifact, TemplateParameter};
use slipway_template::S3Object;

use crate::application::{Application, Parsed, Target};
use crate::error::PackagingError;
use crate::plan::Plan;

/// A nested template, or an included file, as it goes up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its path below the application's folder.
    pub path: String,
    /// The SHA-256 of its text: its address.
    pub digest: Digest,
    /// Its text, with S3 locations.
    pub text: String,
}

/// An application with S3 locations in place of paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The application's template.
    pub template: String,
    /// What it contains, innermost first, each content once.
    pub documents: Vec<Document>,
    /// The parameters that the template declares, in its order.
    pub parameters: Vec<TemplateParameter>,
    /// Those of the application's template first, then by document. Their sizes are not known yet.
    named: Vec<ManifestArtifact>,
}

impl Release {
    /// What each local path became, for the manifest. `bytes` is the size in S3 of the artifact with a digest.
    #[must_use]
    pub fn artifacts(&self, bytes: impl Fn(&str) -> u64) -> Vec<ManifestArtifact> {
        let texts: BTreeMap<&str, usize> =
            self.documents.iter().map(|document| (document.digest.as_str(), document.text.len())).collect();
        let sized = |named: &ManifestArtifact| {
            let bytes = match texts.get(named.digest.as_str()) {
                Some(text) => *text as u64,
                None => bytes(&named.digest),
            };
            ManifestArtifact { bytes, ..named.clone() }
        };
        self.named.iter().map(sized).collect()
    }
}

impl Application {
    /// Rewrites every document, the innermost first, since the digest of a rewritten document is its address. `object`
    /// tells where the content of a digest lies.
    ///
    /// # Errors
    /// [`PackagingError::Template`] where a document cannot be rewritten.
    pub fn release(&self, plan: &Plan, object: impl Fn(&str) -> S3Object) -> Result<Release, PackagingError> {
        let mut written: Vec<Document> = Vec::with_capacity(self.documents.len());
        let mut named = Vec::with_capacity(self.documents.len());
        for Parsed { path: document, template, references } in &self.documents {
            let mut objects = Vec::with_capacity(references.len());
            let mut of_this = Vec::with_capacity(references.len());
            for located in references {
                let digest = match located.target {
                    // It stands before this one.
                    Target::Document(index) => written.get(index).map(|inner| inner.digest.as_str()),
                    Target::Artifact { .. } => plan.artifact(located).map(|artifact| artifact.digest.as_str()),
                };
                let digest = digest.unwrap_or_default().to_owned();
                let s3 = object(&digest);
                of_this.push(ManifestArtifact {
                    template: document.clone(),
                    resource: located.reference.resource.clone(),
                    property: located.reference.property.clone(),
                    path: located.path.clone(),
                    key: s3.key.clone(),
                    digest,
                    bytes: 0,
                });
                objects.push(s3);
            }
            let rewritten = template.rewrite(&objects);
            let text = rewritten.map_err(|error| PackagingError::Template { document: document.clone(), error })?;
            written.push(Document { path: document.clone(), digest: Digest::of(text.as_bytes()), text });
            named.push(of_this);
        }
        let template = written.pop().map(|root| root.text).unwrap_or_default();
        // Two files with the same text are one object.
        let mut seen = BTreeSet::new();
        written.retain(|document| seen.insert(document.digest.clone()));
        Ok(Release {
            template,
            documents: written,
            parameters: self.parameters(),
            named: named.into_iter().rev().flatten().collect(),
        })
    }
}
