//! What a GitLab job's verified token says about it.

use jiff::Timestamp;
use serde_json::{Map, Value};
use slipway_domain::claims::{JobClaims, RefType};
use slipway_domain::names::ProjectId;

use crate::error::{IdentityError, shown};

/// Reads verified claims; further ones are GitLab's to add.
pub(crate) fn read(claims: &Claims) -> Result<JobClaims, IdentityError> {
    Ok(JobClaims {
        project_id: ProjectId(claims.id("project_id")?),
        project_path: claims.text("project_path")?.to_owned(),
        namespace_path: claims.text("namespace_path")?.to_owned(),
        job_project_id: claims.optional_id("job_project_id")?.map(ProjectId),
        user_id: claims.id("user_id")?,
        user_login: claims.text("user_login")?.to_owned(),
        user_email: claims.optional_text("user_email")?.map(str::to_owned),
        user_access_level: claims.optional_text("user_access_level")?.map(str::to_owned),
        groups_direct: claims.texts("groups_direct")?,
        pipeline_id: claims.id("pipeline_id")?,
        pipeline_source: claims.text("pipeline_source")?.to_owned(),
        job_id: claims.id("job_id")?,
        ref_name: claims.text("ref")?.to_owned(),
        ref_type: claims.required("ref_type", "\"branch\" or \"tag\"", |value| match value.as_str()? {
            "branch" => Some(RefType::Branch),
            "tag" => Some(RefType::Tag),
            _ => None,
        })?,
        ref_protected: claims.required("ref_protected", FLAG, flag)?,
        environment: claims.optional_text("environment")?.map(str::to_owned),
        environment_protected: claims.optional("environment_protected", FLAG, flag)?,
        environment_action: claims.optional_text("environment_action")?.map(str::to_owned),
        deployment_tier: claims.optional_text("deployment_tier")?.map(str::to_owned),
        sha: claims.required("sha", "a commit: 40 or 64 lower-case hex digits", |value| {
            let hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            let text = value.as_str()?;
            (matches!(text.len(), 40 | 64) && text.bytes().all(hex)).then(|| text.to_owned())
        })?,
        jti: claims.text("jti")?.to_owned(),
        issued_at: claims.time("iat")?,
        expires_at: claims.time("exp")?,
    })
}

const FLAG: &str = "the string \"true\" or \"false\"";

fn flag(value: &Value) -> Option<bool> {
    match value.as_str()? {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn id(value: &Value) -> Option<u64> {
    let text = value.as_str()?;
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if canonical { text.parse().ok() } else { None }
}

fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty() && !text.chars().any(char::is_control))
}

/// A token's claims, read one by one so that what is wrong is named.
#[derive(Debug)]
pub(crate) struct Claims(pub(crate) Map<String, Value>);

impl Claims {
    /// The claim, unless it is missing; null is how GitLab writes "none".
    pub(crate) fn get(&self, claim: &'static str) -> Option<&Value> {
        self.0.get(claim).filter(|value| !value.is_null())
    }

    pub(crate) fn optional<'a, T>(
        &'a self,
        claim: &'static str,
        rule: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, IdentityError> {
        let Some(value) = self.get(claim) else { return Ok(None) };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(IdentityError::BadClaim { claim, found: value_shown(value), rule }),
        }
    }

    pub(crate) fn required<'a, T>(
        &'a self,
        claim: &'static str,
        rule: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, IdentityError> {
        self.optional(claim, rule, read)?.ok_or(IdentityError::MissingClaim { claim })
    }

    pub(crate) fn text(&self, claim: &'static str) -> Result<&str, IdentityError> {
        self.required(claim, "a string that is not empty and has no control characters", text)
    }

    /// A string that may be missing, null or empty: all three mean "none".
    fn optional_text(&self, claim: &'static str) -> Result<Option<&str>, IdentityError> {
        if self.get(claim).is_some_and(|value| value.as_str() == Some("")) {
            return Ok(None);
        }
        self.optional(claim, "a string without control characters", text)
    }

    pub(crate) fn texts(&self, claim: &'static str) -> Result<Vec<String>, IdentityError> {
        let read = |value: &Value| {
            value.as_array()?.iter().map(|item| text(item).map(str::to_owned)).collect::<Option<Vec<_>>>()
        };
        Ok(self.optional(claim, "a list of strings", read)?.unwrap_or_default())
    }

    pub(crate) fn id(&self, claim: &'static str) -> Result<u64, IdentityError> {
        self.required(claim, ID, id)
    }

    fn optional_id(&self, claim: &'static str) -> Result<Option<u64>, IdentityError> {
        self.optional(claim, ID, id)
    }

    pub(crate) fn time(&self, claim: &'static str) -> Result<Timestamp, IdentityError> {
        self.required(claim, TIME, time)
    }

    pub(crate) fn optional_time(&self, claim: &'static str) -> Result<Option<Timestamp>, IdentityError> {
        self.optional(claim, TIME, time)
    }
}

const ID: &str = "a positive whole number in a string, like \"42\"";
const TIME: &str = "a time in whole seconds since 1970";

fn time(value: &Value) -> Option<Timestamp> {
    Timestamp::from_second(value.as_i64()?).ok()
}

/// A claim's value as it may appear in a message.
pub(crate) fn value_shown(value: &Value) -> String {
    match value {
        Value::String(text) => shown(text),
        Value::Bool(_) | Value::Number(_) | Value::Null => value.to_string(),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Claims, JobClaims, ProjectId};
    use crate::IdentityError;

    /// The example of GitLab's documentation (18.9), whose policy job has every claim there is.
    fn documented() -> Value {
        json!({
            "namespace_id": "72",
            "namespace_path": "my-group",
            "project_id": "20",
            "project_path": "my-group/my-project",
            "user_id": "1",
            "user_login": "sample-user",
            "user_email": "sample-user@example.com",
            "user_access_level": "maintainer",
            "user_identities": [{"provider": "github", "extern_uid": "2435223452345"}],
            "pipeline_id": "574",
            "pipeline_source": "push",
            "job_id": "302",
            "job_project_id": "20",
            "job_project_path": "my-group/my-project",
            "job_namespace_id": "72",
            "job_namespace_path": "my-group",
            "ref": "feature-branch-1",
            "ref_type": "branch",
            "ref_path": "refs/heads/feature-branch-1",
            "ref_protected": "false",
            "groups_direct": ["mygroup/mysubgroup", "myothergroup/myothersubgroup"],
            "environment": "test-environment2",
            "environment_protected": "false",
            "deployment_tier": "testing",
            "environment_action": "start",
            "job_source": "push",
            "job_config": {"url": "https://gitlab.example.com/p.yml", "sha": "ab035e64eca9a7a85bd62e485d3593f52a2804ac"},
            "runner_id": 1,
            "runner_environment": "self-hosted",
            "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
            "project_visibility": "public",
            "ci_config_ref_uri": "gitlab.example.com/my-group/my-project//.gitlab-ci.yml@refs/heads/main",
            "ci_config_sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
            "jti": "235b3a54-b797-45c7-ae9a-f72d7bc6ef5b",
            "iss": "https://gitlab.example.com",
            "iat": 1_681_395_193,
            "nbf": 1_681_395_188,
            "exp": 1_681_398_793,
            "sub": "project_path:my-group/my-project:ref_type:branch:ref:feature-branch-1",
            "aud": "https://vault.example.com",
        })
    }

    fn read(claims: Value) -> Result<JobClaims, IdentityError> {
        match claims {
            Value::Object(map) => super::read(&Claims(map)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(IdentityError::Malformed { reason: "no object" })
            }
        }
    }

    fn with(claim: &str, value: Value) -> Result<JobClaims, IdentityError> {
        let mut claims = documented();
        claims[claim] = value;
        read(claims)
    }

    fn without(claims: &[&str]) -> Result<JobClaims, IdentityError> {
        let mut all = documented();
        if let Some(map) = all.as_object_mut() {
            for claim in claims {
                map.remove(*claim);
            }
        }
        read(all)
    }

    #[test]
    fn gitlabs_own_example() -> Result<(), IdentityError> {
        let job = read(documented())?;
        assert_eq!((job.project_id, job.user_id, job.pipeline_id, job.job_id), (ProjectId(20), 1, 574, 302));
        assert_eq!(job.ref_name, "feature-branch-1");
        assert_eq!((job.ref_protected, job.environment_protected), (false, Some(false)));
        assert_eq!(job.groups_direct, ["mygroup/mysubgroup", "myothergroup/myothersubgroup"]);
        assert_eq!(job.expires_at.as_second(), 1_681_398_793);
        assert!(!job.is_for_a_fork());
        Ok(())
    }

    #[test]
    fn older_instances_and_jobs_without_an_environment() -> Result<(), IdentityError> {
        let optional = [
            "user_email",
            "user_access_level",
            "groups_direct",
            "job_project_id",
            "environment",
            "environment_protected",
            "environment_action",
            "deployment_tier",
            "namespace_id",
        ];
        let job = without(&optional)?;
        assert_eq!((job.environment, job.job_project_id, job.user_access_level), (None, None, None));
        assert!(job.groups_direct.is_empty());
        assert_eq!(with("deployment_tier", Value::Null)?.deployment_tier, None);
        assert_eq!(with("user_email", json!(""))?.user_email, None);
        Ok(())
    }

    #[test]
    fn a_forks_merge_request_is_told_apart() -> Result<(), IdentityError> {
        assert!(with("job_project_id", json!("21"))?.is_for_a_fork());
        Ok(())
    }

    #[test]
    fn what_is_missing_is_named() {
        for claim in [
            "project_id",
            "project_path",
            "namespace_path",
            "user_id",
            "user_login",
            "pipeline_id",
            "pipeline_source",
            "job_id",
            "ref",
            "ref_type",
            "ref_protected",
            "sha",
            "jti",
            "iat",
            "exp",
        ] {
            assert_eq!(without(&[claim]), Err(IdentityError::MissingClaim { claim }));
            assert_eq!(with(claim, Value::Null), Err(IdentityError::MissingClaim { claim }));
        }
    }

    #[test]
    fn what_has_another_form_is_named() {
        for (claim, value, found) in [
            ("project_id", json!(20), "20"),
            ("project_id", json!("020"), "\"020\""),
            ("project_id", json!("0"), "\"0\""),
            ("project_id", json!("+20"), "\"+20\""),
            ("project_id", json!("20 "), "\"20 \""),
            ("project_id", json!("18446744073709551616"), "\"18446744073709551616\""),
            ("user_id", json!(""), "\"\""),
            ("job_project_id", json!(["20"]), "a list of 1"),
            ("pipeline_id", json!("٣"), "\"٣\""),
            ("project_path", json!(""), "\"\""),
            ("user_login", json!("a\nb"), r#""a\nb""#),
            ("ref", json!({"a": 1}), "an object"),
            ("ref_type", json!("refs"), "\"refs\""),
            ("ref_protected", json!(true), "true"),
            ("ref_protected", json!("True"), "\"True\""),
            ("environment_protected", json!(false), "false"),
            ("environment", json!(1.5), "1.5"),
            ("groups_direct", json!("a"), "\"a\""),
            ("groups_direct", json!(["a", 1]), "a list of 2"),
            ("sha", json!("HEAD"), "\"HEAD\""),
            ("exp", json!("1681398793"), "\"1681398793\""),
            ("exp", json!(1681398793.5), "1681398793.5"),
            ("exp", json!(i64::MAX), "9223372036854775807"),
        ] {
            let error = with(claim, value);
            assert!(
                matches!(&error, Err(IdentityError::BadClaim { claim: named, found: shown, .. })
                    if *named == claim && shown == found),
                "{claim}: {error:?}"
            );
        }
    }
}
