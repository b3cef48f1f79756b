//! The key that the bucket's objects are encrypted with: whether it can be used, and by whom.

use std::collections::BTreeSet;

use aws_sdk_kms::types::{KeyManagerType, KeyMetadata};
use aws_sdk_s3::types::ServerSideEncryption;
use jiff::Timestamp;
use serde_json::Value;
use slipway_domain::stages::Stages;

use super::Finding;
use super::policy::{allows, condition, principals, statements};
use super::stack::Plane;
use crate::aws::remote;
use crate::error::CliError;

const KEY: &str = "bucket: key";
/// The key that AWS manages for S3, of which nobody can change the policy.
const AWS_OWN: &str = "alias/aws/s3";

/// What encrypts the objects; template.yaml has S3's own keys, another one is somebody's addition.
pub(super) async fn key(
    config: &aws_config::SdkConfig,
    s3: &aws_sdk_s3::Client,
    plane: &Plane,
    stages: &Stages,
) -> Finding {
    look(config, s3, plane, stages).await.unwrap_or_else(|finding| finding)
}

async fn look(
    config: &aws_config::SdkConfig,
    s3: &aws_sdk_s3::Client,
    plane: &Plane,
    stages: &Stages,
) -> Result<Finding, Finding> {
    let bucket = plane.output("BucketName");
    let encryption = match s3.get_bucket_encryption().bucket(bucket).send().await {
        Ok(answer) => answer.server_side_encryption_configuration,
        Err(error) => match remote("s3:GetBucketEncryption", &error) {
            // S3 encrypts by itself what nothing is said about.
            error if has_code(&error, "ServerSideEncryptionConfigurationNotFoundError") => None,
            error => return Err(Finding::unseen(KEY, &error)),
        },
    };
    let rules = encryption.map(|configuration| configuration.rules).unwrap_or_default();
    let default = rules.into_iter().find_map(|rule| rule.apply_server_side_encryption_by_default);
    let Some(default) = default.filter(|default| *default.sse_algorithm() != ServerSideEncryption::Aes256) else {
        return Ok(Finding::ok(KEY, "S3's own keys encrypt what is in it (SSE-S3)"));
    };
    let Some(id) = default.kms_master_key_id().filter(|id| !id.ends_with(AWS_OWN)) else {
        return Ok(aws_own(plane, stages));
    };
    let kms = aws_sdk_kms::Client::new(config);
    let key = match kms.describe_key().key_id(id).send().await {
        Ok(answer) => answer.key_metadata,
        Err(error) => match remote("kms:DescribeKey", &error) {
            error if has_code(&error, "NotFoundException") => None,
            error => return Err(Finding::unseen(KEY, &error)),
        },
    };
    let key = key.ok_or_else(|| {
        Finding::broken(
            KEY,
            format!("there is no key {id}, with which objects are encrypted: nobody can write one, nor read what it encrypted"),
            format!("Give the bucket {bucket} another default encryption. What the key encrypted is lost: delete it, and deploy anew."),
        )
    })?;
    if key.key_manager() == Some(&KeyManagerType::Aws) {
        return Ok(aws_own(plane, stages));
    }
    if let Some(finding) = unusable(&key) {
        return Err(finding);
    }
    let arn = key.arn().unwrap_or(id);
    // Nobody sees the policy of a key of another account: https://docs.aws.amazon.com/kms/latest/APIReference/API_GetKeyPolicy.html
    if account_of(arn) != Some(&plane.account) {
        return Err(Finding::warning(
            KEY,
            format!("objects are encrypted with {arn}, which is another account's"),
            "See there that its policy lets in this account and those of the stages, and nobody else.",
        ));
    }
    let sent = kms.get_key_policy().key_id(arn).policy_name("default").send().await;
    let answer = sent.map_err(|error| Finding::unseen(KEY, &remote("kms:GetKeyPolicy", &error)))?;
    let policy = serde_json::from_str(answer.policy().unwrap_or_default()).unwrap_or_default();
    Ok(judge(&policy, arn, plane, stages))
}

fn has_code(error: &CliError, wanted: &str) -> bool {
    matches!(error, CliError::Remote { code, .. } if code == wanted)
}

/// AWS's own key for S3: no other account can use it
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html>).
fn aws_own(plane: &Plane, stages: &Stages) -> Finding {
    let others = labels(stages, |account| account != plane.account);
    let bucket = plane.output("BucketName");
    match others.is_empty() {
        true => Finding::ok(KEY, "AWS's own KMS key for S3 encrypts what is in it (aws/s3)"),
        false => Finding::broken(
            KEY,
            format!(
                "AWS's own KMS key for S3 (aws/s3) encrypts what is in it, and other accounts can never use that: {}",
                others.join(", ")
            ),
            format!(
                "Give the bucket {bucket} SSE-S3 (AES256) as its default encryption, as template.yaml has it, and encrypt anew what was written since: \
                 aws s3 cp s3://{bucket}/ s3://{bucket}/ --recursive --sse AES256"
            ),
        ),
    }
}

/// What is wrong with a key that cannot be used
/// (<https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html>).
fn unusable(key: &KeyMetadata) -> Option<Finding> {
    let arn = key.arn().unwrap_or(key.key_id());
    let state = key.key_state().map(|state| state.as_str()).unwrap_or_default();
    let broken = |is: String, what_to_do: String| {
        let found = format!("the key {arn} {is}: nothing in the bucket can be read or written with it");
        Some(Finding::broken(KEY, found, what_to_do))
    };
    match state {
        "Enabled" => None,
        "Disabled" => broken("is disabled".into(), format!("aws kms enable-key --key-id {arn}")),
        "PendingDeletion" | "PendingReplicaDeletion" => {
            let gone = key.deletion_date().and_then(|date| Timestamp::from_second(date.secs()).ok());
            let gone = gone.map_or_else(String::new, |gone| gone.strftime(" on %Y-%m-%d").to_string());
            broken(
                format!("is to be deleted{gone}"),
                format!("aws kms cancel-key-deletion --key-id {arn} && aws kms enable-key --key-id {arn}"),
            )
        }
        other => broken(format!("is {other}"), "See in KMS what it waits for.".into()),
    }
}

/// Whom the key's policy lets in: it should be this account and those of the stages, each of which has to decrypt, and nobody else.
fn judge(policy: &Value, key: &str, plane: &Plane, stages: &Stages) -> Finding {
    let is_known =
        |account: &str| account == plane.account || stages.iter().any(|(_, stage)| stage.account.as_str() == account);
    let (mut readers, mut strangers) = (BTreeSet::new(), BTreeSet::new());
    for statement in statements(policy) {
        if statement.get("Effect").and_then(Value::as_str) != Some("Allow") {
            continue;
        }
        let Some(callers) = callers(statement) else {
            return Finding::broken(
                KEY,
                format!("the policy of {key} lets in everybody"),
                "Name this account and those of the stages in it in the place of \"*\", or in a condition on kms:CallerAccount.",
            );
        };
        for caller in callers {
            match account_of(&caller).filter(|account| is_known(account)) {
                Some(account) if allows(statement, "kms:Decrypt") => {
                    readers.insert(account.to_owned());
                }
                Some(_) => {}
                None => {
                    strangers.insert(caller);
                }
            }
        }
    }
    let mut missing = labels(stages, |account| account != plane.account && !readers.contains(account));
    if !readers.contains(&plane.account) {
        missing.insert(0, format!("{} (the control plane)", plane.account));
    }
    if !missing.is_empty() {
        return Finding::broken(
            KEY,
            format!("the policy of {key} does not let these decrypt: {}", missing.join(", ")),
            "Allow it to the roles of the control plane's functions and to the stages' accounts, whose /slipway/SharedServiceRole and SharedDeploymentRole need kms:Decrypt there, too: docs/SECURITY.md",
        );
    }
    if !strangers.is_empty() {
        return Finding::warning(
            KEY,
            format!("the policy of {key} lets in others: {}", strangers.into_iter().collect::<Vec<_>>().join(", ")),
            "Take out of it who is neither of this account nor of a stage's.",
        );
    }
    Finding::ok(
        KEY,
        format!("{key} encrypts what is in it, is enabled, and lets in this account and those of the stages"),
    )
}

/// Whom a statement is about; nothing where that is everybody. `*` with a condition on who calls is whoever that names.
fn callers(statement: &Value) -> Option<Vec<String>> {
    const OPERATORS: [&str; 5] = ["StringEquals", "StringLike", "ArnEquals", "ArnLike", "StringEqualsIgnoreCase"];
    const KEYS: [&str; 4] = ["kms:CallerAccount", "aws:PrincipalAccount", "aws:PrincipalArn", "aws:PrincipalOrgID"];
    if statement.get("NotPrincipal").is_some() {
        return None;
    }
    let named = principals(statement, "AWS");
    if !named.iter().any(|who| who == "*") {
        return Some(named);
    }
    let values = KEYS.iter().flat_map(|key| OPERATORS.iter().map(|operator| condition(statement, operator, key)));
    // Conditions on several keys have to hold together: the first says enough.
    values.into_iter().find(|values| !values.is_empty()).filter(|values| values.iter().all(|value| value != "*"))
}

/// The account of an ARN, or of its number alone.
fn account_of(text: &str) -> Option<&str> {
    let account = if text.starts_with("arn:") { text.split(':').nth(4)? } else { text };
    (account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit())).then_some(account)
}

/// The stages' accounts that `wanted` holds for, with the stages' names.
fn labels(stages: &Stages, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let chosen = stages.iter().filter(|(_, stage)| wanted(stage.account.as_str()));
    chosen.map(|(name, stage)| format!("{} ({name})", stage.account)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::*;

    const OWN: &str = "999999999999";

    fn plane() -> Plane {
        Plane::of("aws", OWN)
    }

    fn stages(account: &str) -> Stages {
        let stages = json!({"dev": {"account": account, "ephemeral": true}});
        Stages::parse(&stages.to_string()).unwrap()
    }

    fn found(statements: Value) -> Finding {
        judge(&json!({"Statement": statements}), "k", &plane(), &stages("111111111111"))
    }

    fn allow(who: &str, action: &str) -> Value {
        json!({"Effect": "Allow", "Principal": {"AWS": who}, "Action": action, "Resource": "*"})
    }

    #[test]
    fn this_account_and_the_stages_accounts_decrypt_and_nobody_else() {
        let (root, dev) = (allow("arn:aws:iam::999999999999:root", "kms:*"), allow("111111111111", "kms:Decrypt"));
        let cases = [
            (json!([root, dev]), Verdict::Ok, "lets in this account"),
            (json!([root]), Verdict::Broken, "decrypt: 111111111111 (dev)"),
            (json!([root, allow("111111111111", "kms:Encrypt")]), Verdict::Broken, "decrypt: 111111111111 (dev)"),
            (json!([dev]), Verdict::Broken, "999999999999 (the control plane)"),
            (
                json!([root, dev, allow("arn:aws:iam::444444444444:role/x", "kms:Decrypt")]),
                Verdict::Warning,
                "others: arn:aws:iam::444444444444:role/x",
            ),
            (json!([root, dev, allow("*", "kms:Decrypt")]), Verdict::Broken, "everybody"),
            (
                json!([root, dev, {"Effect": "Allow", "NotPrincipal": {"AWS": OWN}, "Action": "kms:*"}]),
                Verdict::Broken,
                "everybody",
            ),
            (
                json!([root, dev, {"Effect": "Deny", "Principal": "*", "Action": "kms:*"}]),
                Verdict::Ok,
                "lets in this account",
            ),
        ];
        for (statements, verdict, says) in cases {
            let finding = found(statements.clone());
            assert!(finding.verdict == verdict && finding.found.contains(says), "{statements}: {finding:?}");
        }
    }

    #[test]
    fn everybody_with_a_condition_is_whom_that_names() {
        let everybody = |operator: &str, key: &str, values: Value| {
            let statement = json!({"Effect": "Allow", "Principal": "*", "Action": "kms:D*", "Condition": {operator: {key: values}}});
            found(json!([statement])).verdict
        };
        let both = json!([OWN, "111111111111"]);
        assert_eq!(everybody("StringEquals", "kms:CallerAccount", both.clone()), Verdict::Ok);
        assert_eq!(everybody("StringEquals", "kms:CallerAccount", json!("*")), Verdict::Broken);
        assert_eq!(
            everybody("StringEquals", "kms:ViaService", json!("s3.eu-central-1.amazonaws.com")),
            Verdict::Broken
        );
        assert_eq!(everybody("StringNotEquals", "kms:CallerAccount", both), Verdict::Broken);
    }

    #[test]
    fn awss_own_key_is_for_one_account_alone() {
        assert_eq!(aws_own(&plane(), &stages(OWN)).verdict, Verdict::Ok);
        let other = aws_own(&plane(), &stages("111111111111"));
        assert!(other.verdict == Verdict::Broken && other.found.ends_with("111111111111 (dev)"), "{other:?}");
    }
}
