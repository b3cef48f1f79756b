//! What a step may do in a target account: SharedServiceRole, narrowed by a session policy to one stack and one purpose.
//!
//! The limits of a session policy: 2,048 characters, and a packed size that AWS reports only when it is exceeded
//! (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>).

use serde_json::json;

use crate::deployment::Target;
use crate::names::Digest;
use crate::names::{Region, StackName};
use crate::release::{artifact_key, template_key};

/// The most characters of a session policy.
pub const MAX_SESSION_POLICY_CHARS: usize = 2048;
/// The role that Slipway's functions assume in a target account.
pub const SERVICE_ROLE: &str = "SharedServiceRole";
/// The role that CloudFormation assumes there to create the application's resources.
pub const DEPLOYMENT_ROLE: &str = "SharedDeploymentRole";

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// Look at the stack and its change sets.
    Look,
    /// Make a change set of a release in the bucket; in an ephemeral stage also delete a stack whose first create failed.
    Create {
        /// Slipway's bucket.
        bucket: &'a str,
        /// The release.
        release: &'a Digest,
    },
    /// Execute a change set.
    Execute {
        /// Slipway's bucket.
        bucket: &'a str,
    },
    /// Protect the stack against deletion and, by the stage's stack policy, against changes.
    Protect,
    /// Delete a change set that nobody will use and, in an ephemeral stage, the empty stack that it made.
    Discard,
    /// Delete the stack.
    Delete,
    /// Look why an update could not be rolled back, and go on with that.
    Repair,
}

/// The partition of a region (<https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html>).
#[must_use]
pub fn partition(region: &Region) -> &'static str {
    match region.as_str() {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// The ARN of a role of setup/ in the target.
#[must_use]
pub fn role_arn(target: &Target, name: &str) -> String {
    format!("arn:{}:iam::{}:role/slipway/{name}", partition(&target.region), target.account)
}

/// The session policy for `purpose` on `stack` in `target`. Deletion is never in a protected target's.
#[must_use]
pub fn session_policy(purpose: Purpose<'_>, target: &Target, stack: &StackName) -> String {
    let region = &target.region;
    let arn = format!("arn:{}:cloudformation:{region}", partition(region));
    let stack = format!("{arn}:{}:stack/{stack}", target.account);
    let stacks = json!([format!("{stack}/*"), format!("{stack}-*/*")]);
    let pass = json!({"Effect": "Allow", "Action": "iam:PassRole", "Resource": role_arn(target, DEPLOYMENT_ROLE)});
    let read = |bucket: &str, keys: &[String]| {
        let objects: Vec<_> = keys.iter().map(|key| format!("arn:{}:s3:::{bucket}/{key}", partition(region))).collect();
        json!({"Effect": "Allow", "Action": "s3:GetObject", "Resource": objects})
    };
    let mut actions = vec!["cloudformation:Describe*"];
    let mut statements = Vec::new();
    match purpose {
        Purpose::Look => {}
        Purpose::Create { bucket, release } => {
            actions.push("cloudformation:CreateChangeSet");
            if !target.protected {
                actions.push("cloudformation:DeleteStack");
            }
            let transform = format!("{arn}:aws:transform/*");
            statements
                .push(json!({"Effect": "Allow", "Action": "cloudformation:CreateChangeSet", "Resource": transform}));
            statements.push(pass);
            statements.push(read(bucket, &[template_key(release), artifact_key("*")]));
        }
        Purpose::Execute { bucket } => {
            actions.push("cloudformation:ExecuteChangeSet");
            statements.push(pass);
            statements.push(read(bucket, &[artifact_key("*")]));
        }
        Purpose::Protect => {
            actions.extend(["cloudformation:UpdateTerminationProtection", "cloudformation:SetStackPolicy"]);
        }
        Purpose::Discard => {
            actions.extend(["cloudformation:DeleteChangeSet", "cloudformation:ListChangeSets"]);
            if !target.protected {
                actions.push("cloudformation:DeleteStack");
                statements.push(pass);
            }
        }
        Purpose::Delete => {
            if !target.protected {
                actions.push("cloudformation:DeleteStack");
                statements.push(pass);
            }
        }
        Purpose::Repair => {
            actions.push("cloudformation:ContinueUpdateRollback");
            statements.push(pass);
        }
    }
    statements.insert(0, json!({"Effect": "Allow", "Action": actions, "Resource": stacks}));
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use crate::names::{AccountId, ApplicationName, EnvironmentKey, EnvironmentName, ProjectId, StageName};

    fn target(protected: bool) -> Target {
        Target {
            account: AccountId::new("123456789012").unwrap(),
            region: Region::new("us-gov-west-1").unwrap(),
            protected,
        }
    }

    #[test]
    fn the_longest_names_fit() {
        let key = EnvironmentKey {
            project: ProjectId(u64::MAX),
            application: ApplicationName::new("a".repeat(40)).unwrap(),
            stage: StageName::new("s".repeat(20)).unwrap(),
            environment: EnvironmentName::new("e".repeat(255)).unwrap(),
        };
        let bucket = "b".repeat(63);
        let release = Digest::of(b"");
        for purpose in [
            Purpose::Look,
            Purpose::Create { bucket: &bucket, release: &release },
            Purpose::Execute { bucket: &bucket },
            Purpose::Protect,
            Purpose::Discard,
            Purpose::Delete,
            Purpose::Repair,
        ] {
            let policy = session_policy(purpose, &target(false), &key.stack_name());
            assert!(policy.len() <= MAX_SESSION_POLICY_CHARS, "{} characters", policy.len());
        }
    }

    #[test]
    fn a_repair_may_go_on_with_a_rollback_and_nothing_else() {
        let policy = session_policy(Purpose::Repair, &target(true), &StackName::new("slipway-x").unwrap());
        let policy: serde_json::Value = serde_json::from_str(&policy).unwrap();
        let arn = "arn:aws-us-gov:cloudformation:us-gov-west-1:123456789012:stack/slipway-x";
        let expected = json!([
            {
                "Effect": "Allow",
                "Action": ["cloudformation:Describe*", "cloudformation:ContinueUpdateRollback"],
                "Resource": [format!("{arn}/*"), format!("{arn}-*/*")],
            },
            {
                "Effect": "Allow",
                "Action": "iam:PassRole",
                "Resource": "arn:aws-us-gov:iam::123456789012:role/slipway/SharedDeploymentRole",
            },
        ]);
        assert_eq!(policy.get("Statement"), Some(&expected));
    }

    #[test]
    fn a_protected_target_is_never_deleted_from() {
        let stack = StackName::new("slipway-x").unwrap();
        let release = Digest::of(b"");
        for purpose in [
            Purpose::Look,
            Purpose::Create { bucket: "b", release: &release },
            Purpose::Execute { bucket: "b" },
            Purpose::Protect,
            Purpose::Discard,
            Purpose::Delete,
            Purpose::Repair,
        ] {
            assert!(!session_policy(purpose, &target(true), &stack).contains("DeleteStack"), "{purpose:?}");
        }
        assert!(session_policy(Purpose::Delete, &target(false), &stack).contains("DeleteStack"));
    }
}
