//! Which artifacts an application takes.

use std::collections::BTreeMap;

use slipway_bundle::{Artifact, Form, LAMBDA_CODE_BYTES, Listing};

use crate::application::{Application, Located, Parsed, Target};
use crate::error::{PackagingError, Site};

/// The artifacts of an application: each distinct content once, however often it is named.
#[derive(Debug)]
pub struct Plan {
    /// By digest.
    artifacts: BTreeMap<String, Artifact>,
    /// The digest of each path in each form that is named.
    digests: BTreeMap<(String, Form), String>,
}

impl Plan {
    /// The artifacts, in the order of their digests.
    pub fn artifacts(&self) -> impl Iterator<Item = &Artifact> {
        self.artifacts.values()
    }

    /// The artifact that a reference leads to.
    pub(crate) fn artifact(&self, located: &Located) -> Option<&Artifact> {
        let Target::Artifact { form, .. } = located.target else { return None };
        self.artifacts.get(self.digests.get(&(located.path.clone(), form))?)
    }
}

impl Application {
    /// Looks up what the application names in a listing of its files, and checks Lambda's limits.
    ///
    /// # Errors
    /// [`PackagingError::Path`] for what is not there, or is a folder where a file is needed, and
    /// [`PackagingError::CodeTooLarge`].
    pub fn plan(&self, listing: &Listing) -> Result<Plan, PackagingError> {
        let mut plan = Plan { artifacts: BTreeMap::new(), digests: BTreeMap::new() };
        // The application's own template first: whoever reads the error looks there first.
        for Parsed { path: document, references, .. } in self.documents.iter().rev() {
            for located in references {
                let Target::Artifact { form, code } = located.target else { continue };
                let key = (located.path.clone(), form);
                let digest = match plan.digests.get(&key) {
                    Some(digest) => digest.clone(),
                    None => {
                        let artifact = listing.artifact(&located.path, form).map_err(|error| PackagingError::Path {
                            site: Site::of(document, &located.reference),
                            error,
                        })?;
                        let digest = artifact.digest.as_str().to_owned();
                        plan.artifacts.entry(digest.clone()).or_insert(artifact);
                        plan.digests.insert(key, digest.clone());
                        digest
                    }
                };
                let bytes = plan.artifacts.get(&digest).map_or(0, |artifact| artifact.bytes);
                if code && bytes > LAMBDA_CODE_BYTES {
                    let (site, path) = (Site::of(document, &located.reference), located.path.clone());
                    return Err(PackagingError::CodeTooLarge { site, path, bytes });
                }
            }
        }
        Ok(plan)
    }
}
