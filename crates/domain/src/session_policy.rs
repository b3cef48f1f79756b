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
/// The role that empties what a stack holds before it is deleted; in ephemeral accounts only.
pub const CLEANUP_ROLE: &str = "SharedCleanupRole";
/// How many log groups one session may be about: their names are long.
pub const LOG_GROUPS_AT_ONCE: usize = 6;

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
    /// See what a teardown would do: look, read the templates, and who imports what.
    Plan,
    /// The same, and delete the stack.
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
        Purpose::Plan => {
            actions.extend(READ_STACK);
            statements.push(imports());
        }
        Purpose::Delete => {
            actions.extend(READ_STACK);
            statements.push(imports());
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

/// What tells what is in a stack, and what becomes of it.
const READ_STACK: [&str; 2] = ["cloudformation:GetTemplate", "cloudformation:ListStackResources"];

/// Who imports an export is no right on a stack
/// (<https://docs.aws.amazon.com/service-authorization/latest/reference/list_awscloudformation.html>).
fn imports() -> serde_json::Value {
    json!({"Effect": "Allow", "Action": "cloudformation:ListImports", "Resource": "*"})
}

/// What is taken out of the way of, or after, a stack's deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup<'a> {
    /// Everything in this bucket.
    Bucket(&'a str),
    /// Every image of this repository.
    Repository(&'a str),
    /// These log groups, at most [`LOG_GROUPS_AT_ONCE`].
    LogGroups {
        /// Their names.
        names: &'a [String],
        /// Whether they are deleted; else it is only seen which there are.
        delete: bool,
    },
}

/// The session policy of SharedCleanupRole for `cleanup` in `target`: it names exactly what is cleaned up. Nothing in a protected target,
/// nor for a name that could mean more than itself.
#[must_use]
pub fn cleanup_policy(cleanup: Cleanup<'_>, target: &Target) -> Option<String> {
    let (region, account) = (&target.region, &target.account);
    let arn = |rest: String| format!("arn:{}:{rest}", partition(region));
    let exact = |name: &str| {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        !name.is_empty() && name.chars().all(legal)
    };
    let statements = match cleanup {
        _ if target.protected => return None,
        Cleanup::Bucket(name) if exact(name) && !name.contains('/') => json!([
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucketVersions", "s3:ListBucketMultipartUploads"],
                "Resource": arn(format!("s3:::{name}")),
            },
            {
                "Effect": "Allow",
                "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:AbortMultipartUpload"],
                "Resource": arn(format!("s3:::{name}/*")),
            },
        ]),
        Cleanup::Repository(name) if exact(name) => json!([{
            "Effect": "Allow",
            "Action": ["ecr:ListImages", "ecr:BatchDeleteImage"],
            "Resource": arn(format!("ecr:{region}:{account}:repository/{name}")),
        }]),
        Cleanup::LogGroups { names, delete } if names.iter().all(|name| exact(name)) => {
            // CloudWatch Logs names a group to IAM with and without what stands for its streams, by the call.
            let arns =
                |name: &String| ["", ":*"].map(|end| arn(format!("logs:{region}:{account}:log-group:{name}{end}")));
            let groups: Vec<_> = names.iter().flat_map(arns).collect();
            let mut actions = vec!["logs:DescribeLogStreams"];
            if delete {
                actions.push("logs:DeleteLogGroup");
            }
            json!([{"Effect": "Allow", "Action": actions, "Resource": groups}])
        }
        Cleanup::Bucket(_) | Cleanup::Repository(_) | Cleanup::LogGroups { .. } => return None,
    };
    Some(json!({"Version": "2012-10-17", "Statement": statements}).to_string())
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
            Purpose::Plan,
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
            Purpose::Plan,
            Purpose::Delete,
            Purpose::Repair,
        ] {
            assert!(!session_policy(purpose, &target(true), &stack).contains("DeleteStack"), "{purpose:?}");
        }
        assert!(session_policy(Purpose::Delete, &target(false), &stack).contains("DeleteStack"));
    }

    #[test]
    fn a_cleanup_is_about_exactly_what_it_names() {
        let bucket = "b".repeat(63);
        let repository = format!("slipway-{}", "r".repeat(248));
        let groups: Vec<String> =
            (0..LOG_GROUPS_AT_ONCE).map(|n| format!("/aws/lambda/{n}{}", "f".repeat(63))).collect();
        let logs = Cleanup::LogGroups { names: &groups, delete: true };
        for cleanup in [Cleanup::Bucket(&bucket), Cleanup::Repository(&repository), logs] {
            let policy = cleanup_policy(cleanup, &target(false)).unwrap();
            assert!(policy.len() <= MAX_SESSION_POLICY_CHARS, "{} characters", policy.len());
            assert_eq!(cleanup_policy(cleanup, &target(true)), None, "never in a protected target");
        }
        let policy = cleanup_policy(Cleanup::Bucket("slipway-a"), &target(false)).unwrap();
        let policy: serde_json::Value = serde_json::from_str(&policy).unwrap();
        let resources: Vec<_> = policy["Statement"].as_array().unwrap().iter().map(|one| &one["Resource"]).collect();
        assert_eq!(resources, ["arn:aws-us-gov:s3:::slipway-a", "arn:aws-us-gov:s3:::slipway-a/*"]);
        for wide in ["slipway-*", "", "slipway-a/b", "slipway-?", "${aws:x}"] {
            assert_eq!(cleanup_policy(Cleanup::Bucket(wide), &target(false)), None, "{wide}");
        }
        let wide = ["/aws/lambda/*".to_owned()];
        assert_eq!(cleanup_policy(Cleanup::LogGroups { names: &wide, delete: false }, &target(false)), None);
    }
}
