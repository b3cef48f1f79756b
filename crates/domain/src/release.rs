//! What `package` makes of a bundle, and where it lies in the bucket.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::deployment::DeploymentId;
use crate::names::{Digest, EnvironmentKey, ParameterName, ProjectId};

/// The version of [`Manifest`] that is written.
pub const MANIFEST_VERSION: u32 = 2;
/// The most bytes that a manifest may have.
pub const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;

/// Where a job's bundle is uploaded.
#[must_use]
pub fn bundle_key(project: ProjectId, bundle: &Digest) -> String {
    format!("bundles/{project}/{bundle}.zip")
}

/// Where an artifact lies: by its content.
#[must_use]
pub fn artifact_key(digest: &str) -> String {
    format!("artifacts/{digest}")
}

/// Where a release's template lies.
#[must_use]
pub fn template_key(bundle: &Digest) -> String {
    format!("releases/{bundle}/template.yaml")
}

/// Where a release's manifest lies. It is written last: where it is, the release is whole.
#[must_use]
pub fn manifest_key(bundle: &Digest) -> String {
    format!("releases/{bundle}/manifest.json")
}

/// Where it is noted that `project` had the very bundle of a release. Without it a project could launch what another one built,
/// by knowing its digest.
#[must_use]
pub fn possession_key(project: ProjectId, bundle: &Digest) -> String {
    format!("releases/{bundle}/projects/{project}")
}

/// Where a deployment's review lies.
#[must_use]
pub fn review_key(environment: &EnvironmentKey, deployment: &DeploymentId) -> String {
    format!("reviews/{}/{deployment}.json", environment.project)
}

/// Where a deployment's stack events lie.
#[must_use]
pub fn events_key(environment: &EnvironmentKey, deployment: &DeploymentId) -> String {
    format!("events/{}/{deployment}.json", environment.project)
}

/// What a release consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub version: u32,
    /// The digest of the bundle that it was made of: the release's address.
    pub bundle: Digest,
    /// The SHA-256 of the release's template.
    pub template_sha256: Digest,
    /// The parameters that the template declares.
    pub parameters: Vec<TemplateParameter>,
    /// What each local path of the application became: those of its template first, in its order, then those of each
    /// nested template and included file.
    pub artifacts: Vec<Artifact>,
}

/// A parameter of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateParameter {
    /// Its name.
    pub name: String,
    /// Whether it has a default.
    pub has_default: bool,
    /// Whether CloudFormation hides its value.
    pub no_echo: bool,
}

/// What one local path became. Two that name the same content have the same key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The template, or included file, that names it: its path in the bundle.
    pub template: String,
    /// The resource that names it.
    pub resource: String,
    /// The property that does.
    pub property: String,
    /// The path in the bundle.
    pub path: String,
    /// The key in the bucket.
    pub key: String,
    /// The digest that the key is made of: of the tree for a zip, the SHA-256 of the content for a file, and that of the
    /// rewritten text for a nested template or an included file.
    pub digest: String,
    /// The size in the bucket, in bytes.
    pub bytes: u64,
}

/// What to tell CloudFormation about a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParameterValue {
    /// This value.
    Given(String),
    /// Keep the stack's.
    Previous,
}

/// What is wrong with the parameters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParametersError {
    /// The template does not declare it.
    #[error("the template has no parameter {name}; it has: {known}")]
    Unknown {
        /// What was given.
        name: String,
        /// What there is.
        known: String,
    },
    /// Neither given, nor defaulted, nor known from before.
    #[error("parameter {0} has no default and was not given")]
    Missing(String),
    /// A secret in the open.
    #[error(
        "parameter {0} is NoEcho: give a dynamic reference ({{{{resolve:secretsmanager:…}}}} or {{{{resolve:ssm-secure:…}}}}), never the value"
    )]
    Secret(String),
}

/// Works out the parameters of a change set: overridden ones are given, others keep the stack's value if it has one, the
/// rest are left to their default.
///
/// Where it goes `back` to an earlier launch, what that did not override is left to its default, if it has one: the stack's value may be
/// what the later launch gave. What CloudFormation hides is kept: nobody could tell what it was.
///
/// # Errors
/// [`ParametersError`], before anything is changed.
pub fn parameters(
    declared: &[TemplateParameter],
    given: &BTreeMap<ParameterName, String>,
    previous: &BTreeSet<String>,
    back: bool,
) -> Result<BTreeMap<String, ParameterValue>, ParametersError> {
    may_be_given(declared, given)?;
    let given: BTreeMap<&str, &String> = given.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let mut values = BTreeMap::new();
    for parameter in declared {
        let name = &parameter.name;
        if let Some(value) = given.get(name.as_str()) {
            values.insert(name.clone(), ParameterValue::Given((*value).clone()));
        } else if previous.contains(name) && !(back && parameter.has_default && !parameter.no_echo) {
            values.insert(name.clone(), ParameterValue::Previous);
        } else if !parameter.has_default {
            return Err(ParametersError::Missing(name.clone()));
        }
    }
    Ok(values)
}

/// Whether the template takes these values: a job asks before it sends them, so that no secret leaves it in the open.
///
/// # Errors
/// [`ParametersError::Unknown`] and [`ParametersError::Secret`].
pub fn may_be_given(
    declared: &[TemplateParameter],
    given: &BTreeMap<ParameterName, String>,
) -> Result<(), ParametersError> {
    for (name, value) in given {
        match declared.iter().find(|parameter| parameter.name == name.as_str()) {
            None => {
                let known = declared.iter().map(|parameter| parameter.name.as_str()).collect::<Vec<_>>().join(", ");
                return Err(ParametersError::Unknown { name: name.to_string(), known });
            }
            Some(parameter) if parameter.no_echo && !is_secret_reference(value) => {
                return Err(ParametersError::Secret(parameter.name.clone()));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn is_secret_reference(value: &str) -> bool {
    ["{{resolve:secretsmanager:", "{{resolve:ssm-secure:"].iter().any(|prefix| value.starts_with(prefix))
        && value.ends_with("}}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn declared(name: &str, has_default: bool, no_echo: bool) -> TemplateParameter {
        TemplateParameter { name: name.into(), has_default, no_echo }
    }

    #[test]
    fn each_parameter_is_given_kept_or_left_to_its_default() {
        let declared = [declared("A", false, false), declared("B", true, false), declared("C", true, false)];
        let given = BTreeMap::from([(ParameterName::new("A").unwrap(), "1".to_owned())]);
        let previous = BTreeSet::from(["A".to_owned(), "B".to_owned(), "Gone".to_owned()]);
        let values = parameters(&declared, &given, &previous, false).unwrap();
        assert_eq!(
            values,
            BTreeMap::from([("A".into(), ParameterValue::Given("1".into())), ("B".into(), ParameterValue::Previous)])
        );
    }

    #[test]
    fn a_rollback_keeps_only_what_it_cannot_know() {
        let declared = [
            declared("Given", true, false),
            declared("Default", true, false),
            declared("Bare", false, false),
            declared("Secret", true, true),
            declared("New", true, false),
        ];
        let given = BTreeMap::from([(ParameterName::new("Given").unwrap(), "1".to_owned())]);
        let previous = ["Given", "Default", "Bare", "Secret"].map(str::to_owned).into();
        let values = parameters(&declared, &given, &previous, true).unwrap();
        let expected = [
            ("Bare", ParameterValue::Previous),
            ("Given", ParameterValue::Given("1".into())),
            ("Secret", ParameterValue::Previous),
        ];
        assert_eq!(values, expected.map(|(name, value)| (name.to_owned(), value)).into());
    }

    #[test]
    fn what_cannot_be_right_is_refused() {
        let one = |name: &str, value: &str| BTreeMap::from([(ParameterName::new(name).unwrap(), value.to_owned())]);
        let none = BTreeSet::new();
        let error = parameters(&[declared("A", false, false)], &one("B", "1"), &none, false).unwrap_err();
        assert_eq!(error.to_string(), "the template has no parameter B; it has: A");
        assert_eq!(
            parameters(&[declared("A", false, false)], &BTreeMap::new(), &none, true),
            Err(ParametersError::Missing("A".into()))
        );
        let secret = [declared("A", false, true)];
        assert_eq!(parameters(&secret, &one("A", "hunter2"), &none, false), Err(ParametersError::Secret("A".into())));
        assert!(
            parameters(&secret, &one("A", "{{resolve:secretsmanager:db:SecretString:password}}"), &none, false).is_ok()
        );
    }
}
