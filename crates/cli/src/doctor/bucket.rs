//! The bucket: who may read it, how, and by which key.

use serde_json::Value;
use slipway_domain::stages::Stages;

use super::policy::{condition, is, principals, statements, texts};
use super::stack::Plane;
use super::{Finding, key};
use crate::aws::remote;

const TLS: &str = "bucket: TLS only";
const READERS: &str = "bucket: target accounts";

/// Looks at the bucket's policy and key.
pub(super) async fn bucket(config: &aws_config::SdkConfig, plane: &Plane, stages: &Stages) -> Vec<Finding> {
    let bucket = plane.output("BucketName");
    // A region's virtual hosts need DNS that the tests' AWS has not; a path works everywhere.
    let s3 = aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(config).force_path_style(true).build());
    let mut findings = match s3.get_bucket_policy().bucket(bucket).send().await {
        Ok(answer) => {
            let policy: Value = serde_json::from_str(answer.policy().unwrap_or_default()).unwrap_or_default();
            vec![tls(&policy, plane, bucket), readers(&policy, plane, bucket, stages)]
        }
        Err(error) => match remote("s3:GetBucketPolicy", &error) {
            error if error.to_string().contains("NoSuchBucketPolicy") => vec![Finding::broken(
                TLS,
                format!("bucket {bucket} has no policy"),
                "Deploy template.yaml anew; if it says that nothing changed, give the bucket the policy that BucketPolicy has there.",
            )],
            error => vec![Finding::unseen(TLS, &error)],
        },
    };
    findings.push(key::key(config, &s3, plane, stages).await);
    findings
}

/// Everything without TLS is denied, to everybody.
fn tls(policy: &Value, plane: &Plane, bucket: &str) -> Finding {
    let arn = format!("arn:{}:s3:::{bucket}", plane.partition);
    let whole = [arn.clone(), format!("{arn}/*")];
    let denies = statements(policy).into_iter().any(|statement| {
        is(statement, "Deny", "s3:*")
            && principals(statement, "AWS").iter().any(|who| who == "*")
            && whole.iter().all(|resource| texts(statement.get("Resource")).contains(resource))
            && condition(statement, "Bool", "aws:SecureTransport") == ["false"]
    });
    match denies {
        true => Finding::ok(TLS, "requests without it are denied"),
        false => Finding::broken(
            TLS,
            format!("the policy of bucket {bucket} does not deny requests without it"),
            "Put back the statement TlsOnly of BucketPolicy in template.yaml: a policy that was written by hand took its place.",
        ),
    }
}

/// Each stage's account may read releases.
fn readers(policy: &Value, plane: &Plane, bucket: &str, stages: &Stages) -> Finding {
    let wanted = ["artifacts", "releases"].map(|folder| format!("arn:{}:s3:::{bucket}/{folder}/*", plane.partition));
    let mut listed = Vec::new();
    for statement in statements(policy).into_iter().filter(|statement| is(statement, "Allow", "s3:GetObject")) {
        let resources = texts(statement.get("Resource"));
        if wanted.iter().all(|resource| resources.contains(resource)) {
            listed.extend(principals(statement, "AWS"));
        }
    }
    if listed.iter().any(|who| who == "*") {
        return Finding::broken(
            READERS,
            "everybody may read releases",
            "Put back the statement TargetAccountsReadReleases of BucketPolicy in template.yaml.",
        );
    }
    let is_listed = |account: &str| {
        let root = format!("arn:{}:iam::{account}:root", plane.partition);
        listed.iter().any(|who| who == account || *who == root)
    };
    let missing: Vec<_> = stages
        .iter()
        .filter(|(_, stage)| !is_listed(stage.account.as_str()))
        .map(|(name, stage)| format!("{} ({name})", stage.account))
        .collect();
    match missing.is_empty() {
        true => Finding::ok(READERS, "each stage's account may read releases"),
        false => Finding::broken(
            READERS,
            format!("may not read releases: {}", missing.join(", ")),
            "Deploy template.yaml with these accounts in TargetAccounts, too.",
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::*;

    fn plane() -> Plane {
        Plane::of("aws", "999999999999")
    }

    fn stages() -> Stages {
        let stages = json!({
            "dev": {"account": "111111111111", "ephemeral": true},
            "prod": {"account": "333333333333", "protected": true},
        });
        Stages::parse(&stages.to_string()).unwrap()
    }

    #[test]
    fn a_policy_that_denies_less_than_everything_without_tls_is_not_enough() {
        let deny = |action: &str, resources: Value, secure: &str| {
            json!({"Statement": {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": resources,
                "Condition": {"Bool": {"aws:SecureTransport": secure}}}})
        };
        let both = json!(["arn:aws:s3:::b", "arn:aws:s3:::b/*"]);
        let verdict = |policy: Value| tls(&policy, &plane(), "b").verdict;
        assert_eq!(verdict(deny("s3:*", both.clone(), "false")), Verdict::Ok);
        assert_eq!(verdict(deny("s3:GetObject", both.clone(), "false")), Verdict::Broken);
        assert_eq!(verdict(deny("s3:*", json!("arn:aws:s3:::b"), "false")), Verdict::Broken);
        assert_eq!(verdict(deny("s3:*", both, "true")), Verdict::Broken);
        assert_eq!(verdict(json!({})), Verdict::Broken);
    }

    #[test]
    fn each_account_has_to_be_listed_and_nobody_else_is_everybody() {
        let allow = |who: Value| {
            json!({"Statement": [{"Effect": "Allow", "Principal": {"AWS": who}, "Action": "s3:GetObject",
                "Resource": ["arn:aws:s3:::b/artifacts/*", "arn:aws:s3:::b/releases/*"]}]})
        };
        let found = |who: Value| readers(&allow(who), &plane(), "b", &stages());
        assert_eq!(found(json!(["arn:aws:iam::111111111111:root", "333333333333"])).verdict, Verdict::Ok);
        let one = found(json!("arn:aws:iam::111111111111:root"));
        assert_eq!((one.verdict, one.found.as_str()), (Verdict::Broken, "may not read releases: 333333333333 (prod)"));
        assert_eq!(found(json!("*")).verdict, Verdict::Broken);
    }
}
