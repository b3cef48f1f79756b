//! A teardown: what becomes of each resource of a stack, what is done when CloudFormation cannot delete one, and what is left.
//!
//! What DeleteStack does, and what its `RetainResources` and `DeletionMode` take:
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DeleteStack.html>.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cause::{STACK, StackEvents};
use crate::deployment::Target;
use crate::names::{EnvironmentKey, Region, StackName};
use crate::review::holds_data;
use crate::waiting::next_wait;

/// How long Lambda may take to give back the network interfaces of functions that are gone: 20 to 45 minutes
/// (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html> says 20, those who measured it up to 45).
pub const INTERFACES: SignedDuration = SignedDuration::from_mins(45);
/// How often a stack's deletion is asked for, without the times that only interfaces were waited for.
pub const MAX_TRIES: u32 = 5;
/// The most entries of a list that a deployment's row keeps: a row holds 400 KiB.
pub const MAX_KEPT: usize = 200;
/// The most characters of a reason that are kept.
const MAX_REASON_CHARS: usize = 500;

const BUCKET: &str = "AWS::S3::Bucket";
const REPOSITORY: &str = "AWS::ECR::Repository";
const FUNCTION: &str = "AWS::Lambda::Function";
const LOG_GROUP: &str = "AWS::Logs::LogGroup";

// --- the stage's policy -------------------------------------------------------------------------------------------------

/// How an ephemeral stage's environments are torn down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeardownPolicy {
    /// Whether image repositories are emptied, as buckets are.
    #[serde(default)]
    pub images: bool,
    /// What is done about resources that cannot be deleted, once it was tried again.
    #[serde(default)]
    pub blocked: Blocked,
}

/// What is done about resources that cannot be deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Blocked {
    /// The teardown fails: a person looks.
    #[default]
    Fail,
    /// They stay without their stack: `RetainResources`.
    Retain,
    /// CloudFormation keeps them, and what they depend on: `FORCE_DELETE_STACK`.
    Force,
}

// --- what there is, and what becomes of it ----------------------------------------------------------------------------------

/// What a resource is to a teardown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// A bucket: it has to be empty.
    Bucket,
    /// A repository of images: it has to be empty.
    Repository,
    /// A function: its log group is nobody's resource.
    Function,
    /// A nested stack: what is in it is deleted with it.
    Stack,
    /// Anything else.
    Other,
}

/// What becomes of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Becomes {
    /// It is deleted.
    Deleted,
    /// It is emptied, and then deleted.
    Emptied,
    /// It is deleted after a snapshot was taken.
    Snapshot,
    /// It stays without its stack: its `DeletionPolicy`, or that of a stack that it is in, says so, or may say so.
    Retained,
    /// Nothing: its stage is protected.
    Kept,
}

impl Becomes {
    /// As a person reads it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Becomes::Deleted => "deleted",
            Becomes::Emptied => "emptied and deleted",
            Becomes::Snapshot => "deleted after a snapshot",
            Becomes::Retained => "retained",
            Becomes::Kept => "kept",
        }
    }
}

/// What a template says of a resource's deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared<'a> {
    /// It has no `DeletionPolicy`.
    Nothing,
    /// It has this one.
    Policy(&'a str),
    /// That cannot be told: the template does not name the resource, computes its policy, or cannot be read.
    Unclear,
}

/// A resource of a stack, as CloudFormation lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// The id of the stack that it is in.
    pub stack_id: String,
    /// The names of the nested stacks that it is in, in their parents' templates, the outermost first.
    #[serde(default)]
    pub path: Vec<String>,
    /// Its name in the template.
    pub logical_id: String,
    /// Its id in AWS, if it has one.
    pub physical_id: Option<String>,
    /// Its type.
    pub resource_type: String,
    /// What becomes of it.
    pub becomes: Becomes,
    /// Whether its deletion loses what no template brings back.
    pub holds_data: bool,
}

impl Resource {
    /// A listed resource of the stack `stack_id` under `path`, of which the template says `declared`; in a stack that is `retained`,
    /// everything is.
    #[must_use]
    pub fn new(listed: Listed, stack_id: &str, path: &[String], declared: Declared<'_>, rules: Rules<'_>) -> Self {
        let Listed { logical_id, physical_id, resource_type } = listed;
        let holding = holding(&resource_type);
        let becomes = match declared {
            _ if rules.protected => Becomes::Kept,
            _ if rules.retained => Becomes::Retained,
            Declared::Nothing | Declared::Policy("Delete") => match holding {
                Holding::Bucket => Becomes::Emptied,
                Holding::Repository if rules.policy.images => Becomes::Emptied,
                Holding::Repository | Holding::Function | Holding::Stack | Holding::Other => Becomes::Deleted,
            },
            Declared::Policy("Snapshot") => Becomes::Snapshot,
            // RetainExceptOnCreate retains as well: what is torn down was created. What is not understood is left alone.
            Declared::Policy(_) | Declared::Unclear => Becomes::Retained,
        };
        let holds_data = holds_data(&resource_type);
        let (stack_id, path) = (stack_id.to_owned(), path.to_vec());
        Self { stack_id, path, logical_id, physical_id, resource_type, becomes, holds_data }
    }

    /// What it is to a teardown.
    #[must_use]
    pub fn holding(&self) -> Holding {
        holding(&self.resource_type)
    }

    /// Its name, with the nested stacks that it is in.
    #[must_use]
    pub fn name(&self) -> String {
        let path: String = self.path.iter().map(|stack| format!("{stack}.")).collect();
        format!("{path}{}", self.logical_id)
    }

    /// Whether it is a nested stack of that name.
    #[must_use]
    pub fn is_stack_called(&self, name: &str) -> bool {
        let id = self.physical_id.as_deref().filter(|_| self.holding() == Holding::Stack);
        id.and_then(|id| id.split('/').nth(1)) == Some(name)
    }

    /// The log group that Lambda makes for it, if it is a function.
    #[must_use]
    pub fn log_group(&self) -> Option<String> {
        log_group(&self.resource_type, self.physical_id.as_deref()?)
    }

    /// Its place in the order in which a stack's resources are emptied, which is the same in each round.
    fn place(&self) -> Option<String> {
        self.physical_id.as_ref().map(|id| format!("{} {id}", self.resource_type))
    }
}

/// The log group that Lambda makes for the resource `physical_id`, if it is a function.
#[must_use]
pub fn log_group(resource_type: &str, physical_id: &str) -> Option<String> {
    (holding(resource_type) == Holding::Function).then(|| format!("/aws/lambda/{physical_id}"))
}

/// What of `resources` is still to be emptied, in order, each with the place that [`Progress::emptied_until`] has once it is empty.
#[must_use]
pub fn to_empty<'r>(resources: &'r [Resource], emptied_until: Option<&str>) -> Vec<(String, &'r Resource)> {
    let all = resources.iter().filter(|resource| resource.becomes == Becomes::Emptied);
    let left = all.filter_map(|resource| Some((resource.place()?, resource)));
    let mut left: Vec<_> = left.filter(|(place, _)| emptied_until.is_none_or(|until| place.as_str() > until)).collect();
    left.sort_by(|(one, _), (other, _)| one.cmp(other));
    left
}

/// A resource as CloudFormation lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name in the template.
    pub logical_id: String,
    /// Its id in AWS, if it has one.
    pub physical_id: Option<String>,
    /// Its type.
    pub resource_type: String,
}

/// What holds for all resources of a stack.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The stage's policy.
    pub policy: &'a TeardownPolicy,
    /// Whether the stage is protected.
    pub protected: bool,
    /// Whether the stack is one that its parent retains.
    pub retained: bool,
}

/// What a resource of that type is to a teardown.
#[must_use]
pub fn holding(resource_type: &str) -> Holding {
    match resource_type {
        BUCKET => Holding::Bucket,
        REPOSITORY => Holding::Repository,
        FUNCTION => Holding::Function,
        STACK => Holding::Stack,
        _ => Holding::Other,
    }
}

/// Why a stack is not deleted as it is: said before anything is emptied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hindrance {
    /// Its stage is protected.
    Protected,
    /// It has termination protection. Slipway never switches that off.
    TerminationProtection,
    /// Other stacks import what it exports.
    Imported {
        /// The export's name.
        export: String,
        /// The stacks that import it; at least one.
        by: Vec<String>,
    },
}

/// What a teardown would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The environment.
    pub environment: EnvironmentKey,
    /// Its stack.
    pub stack_name: StackName,
    /// The stack's status; nothing when there is no stack.
    pub stack_status: Option<String>,
    /// Where.
    pub target: Target,
    /// What hinders it: then nothing would be done.
    pub hindrances: Vec<Hindrance>,
    /// Every resource, those of nested stacks after the stack itself.
    pub resources: Vec<Resource>,
    /// The log groups that its functions leave behind, where they wrote anything.
    pub log_groups: Vec<String>,
}

/// What a person does about a hindrance.
#[must_use]
pub fn advice(hindrance: &Hindrance, environment: &EnvironmentKey, stack: &StackName, target: &Target) -> String {
    let Target { account, region, .. } = target;
    match hindrance {
        Hindrance::Protected => {
            format!("stage {} is protected: Slipway never deletes its stacks", environment.stage)
        }
        Hindrance::TerminationProtection => format!(
            "the stack {stack} has termination protection, which Slipway respects and never switches off; nothing was touched. If the \
             stack is to go, in account {account}: aws cloudformation update-termination-protection --no-enable-termination-protection \
             --stack-name {stack} --region {region}"
        ),
        Hindrance::Imported { export, by } => format!(
            "the stack {stack} exports {export}, which other stacks in account {account} import: {}; nothing was touched. Let them do \
             without it, or delete them, first; who imports it shows: aws cloudformation list-imports --export-name {} --region {region}",
            by.join(", "),
            quoted(export)
        ),
    }
}

// --- when something cannot be deleted ---------------------------------------------------------------------------------------

/// A resource that could not be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocker {
    /// The nested stacks that it is in, the outermost first.
    #[serde(default)]
    pub path: Vec<String>,
    /// Its name in the template.
    pub logical_id: String,
    /// Its id in AWS, if it is known.
    pub physical_id: Option<String>,
    /// Its type.
    pub resource_type: String,
    /// Why, in CloudFormation's words.
    pub reason: Option<String>,
}

impl Blocker {
    /// Whether it looks as if network interfaces that Lambda has not given back yet were still in it: EC2 calls what hinders a deletion
    /// a dependency (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>, `DependencyViolation`).
    fn is_in_use(&self) -> bool {
        let network = ["AWS::EC2::SecurityGroup", "AWS::EC2::Subnet"].contains(&self.resource_type.as_str());
        let reason = self.reason.as_deref().unwrap_or_default();
        network && ["DependencyViolation", "dependent object", "dependencies"].iter().any(|word| reason.contains(word))
    }
}

/// What could not be deleted, by the events of `stacks`, those in which something failed, the stack `root` first.
#[must_use]
pub fn blockers(root: &str, stacks: &[StackEvents]) -> Vec<Blocker> {
    let mut found: Vec<Blocker> = Vec::new();
    for stack in stacks {
        let own = own_id(root, stack, stacks);
        for event in stack.events.iter().filter(|event| own.is_none_or(|id| !event.is_of(id))) {
            // What was told last of each counts.
            found.retain(|known| (&known.path, &known.logical_id) != (&stack.path, &event.logical_id));
            if event.status != "DELETE_FAILED" || event.is_given_up() {
                continue;
            }
            found.push(Blocker {
                path: stack.path.clone(),
                logical_id: event.logical_id.clone(),
                physical_id: event.physical_id.clone(),
                resource_type: event.resource_type.clone(),
                reason: event.reason.as_deref().map(|reason| reason.chars().take(MAX_REASON_CHARS).collect()),
            });
        }
    }
    found.truncate(MAX_KEPT);
    found
}

/// The id of a stack whose events these are: a nested one is named in its parent's.
fn own_id<'a>(root: &'a str, stack: &StackEvents, all: &'a [StackEvents]) -> Option<&'a str> {
    let Some((name, parent)) = stack.path.split_last() else { return Some(root) };
    let parent = all.iter().find(|stack| stack.path == parent)?;
    parent.events.iter().find(|event| event.logical_id == *name).and_then(|event| event.physical_id.as_deref())
}

/// How far a teardown is, in its deployment's row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Since when its buckets are being emptied, before the deletion that comes next.
    #[serde(default)]
    pub emptying_since: Option<Timestamp>,
    /// Up to which of them, in the order of [`to_empty`], they are empty; nothing before the first is, and once all are.
    #[serde(default)]
    pub emptied_until: Option<String>,
    /// Which deletion was asked for last, from 1.
    #[serde(default)]
    pub attempt: u32,
    /// How the last one failed.
    #[serde(default)]
    pub failed: Option<Failed>,
    /// What is done about that.
    #[serde(default)]
    pub then: Option<Then>,
    /// How many deletions were only waited for, because of network interfaces.
    #[serde(default)]
    pub waited: u32,
    /// What is left of the environment, as far as it is known.
    #[serde(default)]
    pub leftovers: Leftovers,
    /// The log groups that may be there.
    #[serde(default)]
    pub log_groups: Vec<String>,
}

/// A deletion that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Which.
    pub attempt: u32,
    /// When the first one failed.
    pub since: Timestamp,
    /// What could not be deleted; at most [`MAX_KEPT`].
    pub blockers: Vec<Blocker>,
    /// Why, for a person.
    pub message: String,
}

/// How the next deletion is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Then {
    /// Which it is.
    pub attempt: u32,
    /// The resources of the stack that it goes without.
    pub retain: Vec<String>,
    /// Whether CloudFormation keeps what it cannot delete.
    pub force: bool,
    /// Whether it comes only after interfaces were waited for.
    pub waits: bool,
}

/// What is done about a deletion that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It is asked for again, after so many seconds.
    Again {
        /// How.
        then: Then,
        /// In how many seconds.
        wait: u32,
    },
    /// A person looks.
    GiveUp,
}

/// What is done at `now` about the deletion that failed last, by the stage's `blocked`, of a deployment that may take `limit`.
///
/// Network interfaces are waited for. Anything else is tried once more, since what was put into a bucket meanwhile is out of it then,
/// and only then the policy counts.
#[must_use]
pub fn next(progress: &Progress, blocked: Blocked, limit: SignedDuration, now: Timestamp) -> Next {
    let Some(failed) = &progress.failed else { return Next::GiveUp };
    if let Some(then) = progress.then.as_ref().filter(|then| then.attempt > failed.attempt) {
        // Decided already: the step is repeated.
        return Next::Again { then: then.clone(), wait: 0 };
    }
    let then = Then { attempt: failed.attempt + 1, ..Then::default() };
    let since = now.duration_since(failed.since);
    // A nested stack that failed is explained by what failed in it.
    let mut deepest = failed.blockers.iter().filter(|blocker| blocker.resource_type != STACK).peekable();
    if deepest.peek().is_some() && deepest.all(Blocker::is_in_use) && since < INTERFACES.min(limit) {
        let wait = next_wait(u32::try_from(since.as_secs()).unwrap_or(0), None).max(30);
        return Next::Again { then: Then { waits: true, ..then }, wait };
    }
    match failed.attempt.saturating_sub(progress.waited) {
        0 | 1 => Next::Again { then, wait: 5 },
        2..MAX_TRIES => match blocked {
            Blocked::Fail => Next::GiveUp,
            Blocked::Retain => {
                let own = failed.blockers.iter().filter(|blocker| blocker.path.is_empty());
                let retain: Vec<String> = own.map(|blocker| blocker.logical_id.clone()).collect();
                // Without a name there is nothing to go on without: the same would fail again.
                if retain.is_empty() { Next::GiveUp } else { Next::Again { then: Then { retain, ..then }, wait: 0 } }
            }
            Blocked::Force if progress.then.as_ref().is_some_and(|then| then.force) => Next::GiveUp,
            Blocked::Force => Next::Again { then: Then { force: true, ..then }, wait: 0 },
        },
        _ => Next::GiveUp,
    }
}

// --- what is left -----------------------------------------------------------------------------------------------------------

/// Something that a teardown left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// Its type; a log group's is that of CloudFormation, too.
    pub resource_type: String,
    /// Its name in the template, with the nested stacks that it is in; that of a log group is its own.
    pub name: String,
    /// Its id in AWS.
    pub physical_id: String,
    /// The command that removes it; nothing for what AWS has none for, such as a custom resource.
    pub command: Option<String>,
}

/// What is left of an environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftovers {
    /// Resources that stay without their stack; at most [`MAX_KEPT`].
    #[serde(default)]
    pub retained: Vec<Leftover>,
    /// Log groups of its functions; at most [`MAX_KEPT`].
    #[serde(default)]
    pub log_groups: Vec<Leftover>,
    /// Log groups that were deleted.
    #[serde(default)]
    pub purged: Vec<String>,
    /// How many more there are, in both lists.
    #[serde(default)]
    pub more: usize,
}

impl Leftovers {
    /// Whether anything is left, or was purged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.retained.is_empty() && self.log_groups.is_empty() && self.purged.is_empty() && self.more == 0
    }

    /// Notes that something stays, once.
    pub fn retain(&mut self, leftover: Leftover) {
        let same = |known: &Leftover| {
            (&known.resource_type, &known.physical_id) == (&leftover.resource_type, &leftover.physical_id)
        };
        if self.retained.iter().any(same) {
            return;
        }
        if self.retained.len() == MAX_KEPT { self.more += 1 } else { self.retained.push(leftover) }
    }
}

impl Leftover {
    /// A resource that stays.
    #[must_use]
    pub fn resource(name: String, resource_type: &str, physical_id: &str, region: &Region) -> Self {
        let command = removal(resource_type, physical_id, region);
        Self { resource_type: resource_type.to_owned(), name, physical_id: physical_id.to_owned(), command }
    }

    /// A log group that stays.
    #[must_use]
    pub fn log_group(name: &str, region: &Region) -> Self {
        Self::resource(name.to_owned(), LOG_GROUP, name, region)
    }
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.name, self.resource_type, self.physical_id)
    }
}

/// The command that removes a resource without a stack. Where AWS has one of its own that does more, or is better known, that; else the
/// one of Cloud Control, which takes CloudFormation's types and ids
/// (<https://docs.aws.amazon.com/cloudcontrolapi/latest/userguide/resource-operations-delete.html>).
fn removal(resource_type: &str, physical_id: &str, region: &Region) -> Option<String> {
    let id = quoted(physical_id);
    let command = match resource_type {
        BUCKET => format!("aws s3 rb --force {}", quoted(&format!("s3://{physical_id}"))),
        REPOSITORY => format!("aws ecr delete-repository --force --repository-name {id}"),
        LOG_GROUP => format!("aws logs delete-log-group --log-group-name {id}"),
        STACK => format!("aws cloudformation delete-stack --stack-name {id}"),
        aws if aws.starts_with("AWS::") && aws != "AWS::CloudFormation::CustomResource" => {
            format!("aws cloudcontrol delete-resource --type-name {aws} --identifier {id}")
        }
        _ => return None,
    };
    Some(format!("{command} --region {region}"))
}

/// A value as a shell takes it.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':');
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use crate::cause::tests::told_event as event;

    const ROOT: &str = "arn:aws:cloudformation:eu-central-1:1:stack/app/1";
    const CHILD: &str = "arn:aws:cloudformation:eu-central-1:1:stack/app-Child/2";
    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    fn listed(resource_type: &str) -> Listed {
        Listed { logical_id: "A".into(), physical_id: Some("a".into()), resource_type: resource_type.into() }
    }

    fn becomes(resource_type: &str, declared: Declared<'_>, images: bool) -> Becomes {
        let policy = TeardownPolicy { images, ..TeardownPolicy::default() };
        let rules = Rules { policy: &policy, protected: false, retained: false };
        Resource::new(listed(resource_type), ROOT, &[], declared, rules).becomes
    }

    #[test]
    fn only_what_is_deleted_for_certain_is_emptied() {
        assert_eq!(becomes(BUCKET, Declared::Nothing, false), Becomes::Emptied);
        assert_eq!(becomes(BUCKET, Declared::Policy("Delete"), false), Becomes::Emptied);
        for kept in [
            Declared::Policy("Retain"),
            Declared::Policy("RetainExceptOnCreate"),
            Declared::Policy("delete"),
            Declared::Policy("SomethingNew"),
            Declared::Unclear,
        ] {
            assert_eq!(becomes(BUCKET, kept, true), Becomes::Retained, "{kept:?}");
            assert_eq!(becomes(REPOSITORY, kept, true), Becomes::Retained, "{kept:?}");
        }
        assert_eq!(becomes(REPOSITORY, Declared::Nothing, false), Becomes::Deleted, "images are the stage's to decide");
        assert_eq!(becomes(REPOSITORY, Declared::Nothing, true), Becomes::Emptied);
        assert_eq!(becomes("AWS::RDS::DBCluster", Declared::Policy("Snapshot"), false), Becomes::Snapshot);
        let policy = TeardownPolicy::default();
        for (protected, retained, what) in [(true, false, Becomes::Kept), (false, true, Becomes::Retained)] {
            let rules = Rules { policy: &policy, protected, retained };
            let resource = Resource::new(listed(BUCKET), ROOT, &["Child".into()], Declared::Nothing, rules);
            assert_eq!((resource.becomes, resource.holds_data), (what, true));
            assert_eq!(resource.name(), "Child.A");
        }
    }

    #[test]
    fn each_round_of_emptying_goes_on_where_the_last_one_ended() {
        let policy = TeardownPolicy { images: true, ..TeardownPolicy::default() };
        let rules = Rules { policy: &policy, protected: false, retained: false };
        let resource = |kind: &str, id: Option<&str>| {
            let listed = Listed { physical_id: id.map(str::to_owned), ..listed(kind) };
            Resource::new(listed, ROOT, &[], Declared::Nothing, rules)
        };
        // However CloudFormation lists them.
        let listed =
            [(BUCKET, Some("z")), (REPOSITORY, Some("a")), (BUCKET, None), (FUNCTION, Some("a")), (BUCKET, Some("a"))];
        let resources = listed.map(|(kind, id)| resource(kind, id));
        let (mut until, mut seen) = (None, Vec::new());
        while let Some((place, next)) = to_empty(&resources, until.as_deref()).into_iter().next() {
            seen.push((next.resource_type.as_str(), next.physical_id.as_deref().unwrap()));
            until = Some(place);
        }
        assert_eq!(seen, [(REPOSITORY, "a"), (BUCKET, "a"), (BUCKET, "z")]);
    }

    #[test]
    fn what_blocks_is_what_failed_last_and_was_not_given_up() {
        let root = StackEvents {
            path: vec![],
            events: vec![
                event("app", STACK, ROOT, "DELETE_IN_PROGRESS", ""),
                event("Again", BUCKET, "b", "DELETE_FAILED", "not empty"),
                event("Again", BUCKET, "b", "DELETE_COMPLETE", ""),
                event("Given", BUCKET, "c", "DELETE_FAILED", "Resource deletion cancelled"),
                event("Child", STACK, CHILD, "DELETE_FAILED", "it failed"),
                event("app", STACK, ROOT, "DELETE_FAILED", "failed: [Child]"),
            ],
        };
        let child = StackEvents {
            path: vec!["Child".into()],
            events: vec![
                event(
                    "Group",
                    "AWS::EC2::SecurityGroup",
                    "sg-1",
                    "DELETE_FAILED",
                    "resource sg-1 has a dependent object",
                ),
                event("app-Child", STACK, CHILD, "DELETE_FAILED", "failed: [Group]"),
            ],
        };
        let found = blockers(ROOT, &[root, child]);
        let names: Vec<_> = found.iter().map(|blocker| (blocker.path.len(), blocker.logical_id.as_str())).collect();
        assert_eq!(names, [(0, "Child"), (1, "Group")]);
    }

    fn blocker(resource_type: &str, reason: &str) -> Blocker {
        let (logical_id, reason) = ("Thing".into(), Some(reason.into()));
        Blocker { path: vec![], logical_id, physical_id: None, resource_type: resource_type.into(), reason }
    }

    fn failed(attempt: u32, blockers: Vec<Blocker>) -> Progress {
        let failed = Failed { attempt, since: Timestamp::UNIX_EPOCH, blockers, message: "no".into() };
        Progress { attempt, failed: Some(failed), ..Progress::default() }
    }

    #[test]
    fn the_policy_counts_after_another_try() {
        let thing = || vec![blocker("Custom::Thing", "it does not yield")];
        let at = Timestamp::UNIX_EPOCH;
        for policy in [Blocked::Fail, Blocked::Retain, Blocked::Force] {
            let then = Then { attempt: 2, ..Then::default() };
            assert_eq!(next(&failed(1, thing()), policy, HOUR, at), Next::Again { then, wait: 5 });
        }
        assert_eq!(next(&failed(2, thing()), Blocked::Fail, HOUR, at), Next::GiveUp);
        let then = Then { attempt: 3, retain: vec!["Thing".into()], ..Then::default() };
        assert_eq!(next(&failed(2, thing()), Blocked::Retain, HOUR, at), Next::Again { then, wait: 0 });
        let then = Then { attempt: 3, force: true, ..Then::default() };
        let again = Next::Again { then: then.clone(), wait: 0 };
        assert_eq!(next(&failed(2, thing()), Blocked::Force, HOUR, at), again);
        let decided = Progress { then: Some(then), ..failed(2, thing()) };
        assert_eq!(next(&decided, Blocked::Force, HOUR, at), again, "the step, repeated, says the same");
        let forced = Progress { failed: failed(3, thing()).failed, ..decided };
        assert_eq!(next(&forced, Blocked::Force, HOUR, at), Next::GiveUp);
        assert_eq!(next(&failed(MAX_TRIES, thing()), Blocked::Retain, HOUR, at), Next::GiveUp);
        assert_eq!(next(&failed(2, vec![]), Blocked::Retain, HOUR, at), Next::GiveUp);
    }

    #[test]
    fn interfaces_are_waited_for_and_not_for_ever() {
        let in_use = || vec![blocker("AWS::EC2::SecurityGroup", "resource sg-1 has a dependent object")];
        let at = |minutes| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes);
        let mut progress = failed(4, in_use());
        progress.waited = 3;
        for minutes in [0, 20, 44] {
            let Next::Again { then, wait } = next(&progress, Blocked::Fail, HOUR, at(minutes)) else { unreachable!() };
            assert!(then.waits && (30..=60).contains(&wait) && !then.force, "{minutes}: {then:?}, {wait}");
        }
        let late = Next::Again { then: Then { attempt: 5, ..Then::default() }, wait: 5 };
        assert_eq!(next(&progress, Blocked::Fail, HOUR, at(46)), late);
        assert_eq!(
            next(&progress, Blocked::Fail, SignedDuration::from_mins(10), at(11)),
            late,
            "within the time limit"
        );
        let others = [in_use(), vec![blocker("Custom::Thing", "no")]].concat();
        let Next::Again { then, .. } = next(&failed(1, others), Blocked::Fail, HOUR, at(0)) else { unreachable!() };
        assert!(!then.waits, "what else is in the way does not go away by waiting");
    }

    #[test]
    fn what_is_left_can_be_removed_by_a_command() {
        let region = Region::new("eu-central-1").unwrap();
        let command = |kind: &str, id: &str| Leftover::resource("A".into(), kind, id, &region).command;
        assert_eq!(command(BUCKET, "b").unwrap(), "aws s3 rb --force s3://b --region eu-central-1");
        assert_eq!(
            command("AWS::DynamoDB::Table", "it's; rm").unwrap(),
            r"aws cloudcontrol delete-resource --type-name AWS::DynamoDB::Table --identifier 'it'\''s; rm' --region eu-central-1"
        );
        assert_eq!(command("Custom::Thing", "x"), None);
        let mut left = Leftovers::default();
        (0..=MAX_KEPT).for_each(|n| left.retain(Leftover::log_group(&format!("g{n}"), &region)));
        left.retain(Leftover::log_group("g0", &region));
        assert_eq!((left.retained.len(), left.more), (MAX_KEPT, 1));
    }
}
