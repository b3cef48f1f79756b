//! The stages, as the platform team configured them, and who may do what in each.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::approver::{Approver, Principal};
use crate::claims::{JobClaims, RefType};
use crate::names::{AccountId, ApplicationName, ProjectId, StageName};
use crate::teardown::TeardownPolicy;

/// The most bytes that the stages may have: an SSM parameter of the standard tier holds 4 KB, of the advanced tier 8 KB.
pub const MAX_STAGES_BYTES: usize = 8 * 1024;

/// The longest that a question to people may stand, in days: the state machine's own limit for that step.
pub const MAX_APPROVAL_DAYS: u32 = 30;

/// The longest `timeout`, in hours: each wait of a deployment may last so long, and an execution has 25,000 events at most
/// (docs/WAITING.md).
pub const MAX_TIMEOUT_HOURS: u32 = 12;

/// A span of time, as a configuration writes it: a number and `m`, `h` or `d`; from a minute to a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span {
    minutes: u32,
}

/// A text that is no [`Span`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no span of time: write a number and m, h or d, from 1m to 365d, for example 7d")]
pub struct InvalidSpan(String);

impl Span {
    /// So many days; at least one minute and at most a year whatever is asked.
    #[must_use]
    pub const fn days(days: u32) -> Self {
        Self { minutes: if days > 365 { 365 * 24 * 60 } else { days * 24 * 60 } }
    }

    /// Reads `30m`, `12h`, `7d`.
    ///
    /// # Errors
    /// [`InvalidSpan`].
    pub fn parse(text: &str) -> Result<Self, InvalidSpan> {
        let invalid = || InvalidSpan(text.chars().take(20).collect());
        let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(invalid)?;
        let number: u32 = number.parse().map_err(|_| invalid())?;
        let unit = match unit {
            "m" => 1,
            "h" => 60,
            "d" => 24 * 60,
            _ => return Err(invalid()),
        };
        match number.checked_mul(unit) {
            Some(minutes @ 1..=525_600) => Ok(Self { minutes }),
            _ => Err(invalid()),
        }
    }

    /// As a duration.
    #[must_use]
    pub fn duration(self) -> SignedDuration {
        SignedDuration::from_mins(i64::from(self.minutes))
    }
}

impl TryFrom<String> for Span {
    type Error = InvalidSpan;
    fn try_from(text: String) -> Result<Self, InvalidSpan> {
        Self::parse(&text)
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.minutes {
            minutes if minutes % (24 * 60) == 0 => write!(f, "{}d", minutes / (24 * 60)),
            minutes if minutes % 60 == 0 => write!(f, "{}h", minutes / 60),
            minutes => write!(f, "{minutes}m"),
        }
    }
}

/// The most people that may be asked to agree.
pub const MAX_REQUIRED: u32 = 10;

/// Who has to agree before a change set of the stage is executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalPolicy {
    /// How many people, from 1 to [`MAX_REQUIRED`].
    #[serde(default = "one")]
    pub required: u32,
    /// GitLab's users and groups who may.
    #[serde(default)]
    pub approvers: Vec<Approver>,
    /// AWS roles and users who may.
    #[serde(default)]
    pub principals: Vec<Principal>,
    /// Whether an approver may also decide by a job of the deployment's own pipeline, instead of in the browser.
    #[serde(default)]
    pub by_job: bool,
    /// Whether who started the deployment may approve it.
    #[serde(default)]
    pub self_approval: bool,
    /// Whether each decision needs a reason.
    #[serde(default)]
    pub reason_required: bool,
    /// How long the question stands.
    #[serde(default = "three_days")]
    pub expires_in: Span,
}

impl ApprovalPolicy {
    /// Everyone who may, for a person to read.
    #[must_use]
    pub fn who(&self) -> String {
        let approvers = self.approvers.iter().map(ToString::to_string);
        approvers.chain(self.principals.iter().map(ToString::to_string)).collect::<Vec<_>>().join(", ")
    }

    /// Whether there is a way to give it, where people can, or cannot, sign in in the browser.
    #[must_use]
    pub fn can_be_given(&self, sign_in: bool) -> bool {
        let people = !self.approvers.is_empty() && (sign_in || self.by_job);
        people || self.principals.len() >= self.required as usize
    }

    /// What is wrong with it, for a person.
    fn fault(&self) -> Option<&'static str> {
        let all_known = !self.approvers.iter().any(|approver| matches!(approver, Approver::Group(_)));
        let login = |approver: &Approver| match approver {
            Approver::Login(login) | Approver::User { login, .. } => login.to_ascii_lowercase(),
            Approver::Group(path) => path.clone(),
        };
        let people = self.approvers.iter().map(login).collect::<BTreeSet<_>>().len();
        if !(1..=MAX_REQUIRED).contains(&self.required) {
            Some("\"required\" is from 1 to 10")
        } else if self.approvers.is_empty() && self.principals.is_empty() {
            Some("it needs at least one of \"approvers\" or \"principals\"")
        } else if all_known && people + self.principals.len() < self.required as usize {
            Some("\"required\" is more than there are approvers")
        } else if self.expires_in > Span::days(MAX_APPROVAL_DAYS) {
            Some("\"expires_in\" is at most 30d")
        } else {
            None
        }
    }
}

fn one() -> u32 {
    1
}

fn three_days() -> Span {
    Span::days(3)
}

fn seven_days() -> Span {
    Span::days(7)
}

/// How long a deployment may take where its stage does not say.
pub const DEFAULT_TIMEOUT: Span = Span { minutes: 120 };

fn default_timeout() -> Span {
    DEFAULT_TIMEOUT
}

/// What CloudFormation does with a stack whose change fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Rolls it back.
    #[default]
    Rollback,
    /// Deletes it, if it was its first create; otherwise rolls it back.
    Delete,
    /// Keeps what succeeded, for a person to look at. The next deployment goes on from there, or makes the stack anew.
    Keep,
}

/// The most alarms of a stack: AWS's limit
/// (<https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_RollbackConfiguration.html>).
const MAX_ALARMS: usize = 5;
/// The longest that CloudFormation watches alarms after a change, in minutes (the same page).
const MAX_MONITOR_MINUTES: u32 = 180;
/// The most bytes of a stack policy: AWS's limit
/// (<https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_SetStackPolicy.html>).
const MAX_STACK_POLICY_BYTES: usize = 16 * 1024;

/// What CloudFormation is told about a stage's stacks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StackRules {
    /// What it does with one whose change fails. In a protected stage it rolls back, and deletes what was never live.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// ARNs of CloudWatch alarms in the target account: one that goes off while a stack is changed, or is watched
    /// afterwards, rolls it back. At most five.
    #[serde(default)]
    pub rollback_alarms: Vec<String>,
    /// How long the alarms are watched after a change, in minutes, at most 180. The deployment lasts until then.
    #[serde(default)]
    pub monitor_minutes: u32,
    /// The stack policy that protected stacks get
    /// (<https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/protect-stack-resources.html>); none when absent.
    #[serde(default)]
    pub policy: Option<serde_json::Map<String, serde_json::Value>>,
}

impl StackRules {
    /// What is wrong with them, for a person.
    fn fault(&self, protected: bool) -> Option<&'static str> {
        let is_alarm =
            |arn: &String| arn.starts_with("arn:") && arn.contains(":cloudwatch:") && arn.contains(":alarm:");
        if protected && self.on_failure != OnFailure::Rollback {
            Some("\"on_failure\" is for ephemeral stages: a protected stack is rolled back")
        } else if self.rollback_alarms.len() > MAX_ALARMS || !self.rollback_alarms.iter().all(is_alarm) {
            Some("\"rollback_alarms\" takes at most five ARNs of CloudWatch alarms")
        } else if self.monitor_minutes > MAX_MONITOR_MINUTES {
            Some("\"monitor_minutes\" is at most 180")
        } else if self.monitor_minutes > 0 && self.rollback_alarms.is_empty() {
            Some("\"monitor_minutes\" needs \"rollback_alarms\"")
        } else if self.policy.is_some() && !protected {
            Some("\"policy\" is for protected stages")
        } else if self.policy.as_ref().is_some_and(|policy| json_bytes(policy) > MAX_STACK_POLICY_BYTES) {
            Some("\"policy\" has at most 16384 bytes")
        } else {
            None
        }
    }
}

fn json_bytes(policy: &serde_json::Map<String, serde_json::Value>) -> usize {
    serde_json::to_string(policy).map_or(usize::MAX, |json| json.len())
}

/// Projects that may deploy: one, or all below a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Projects {
    /// `group/news`: whatever project has that path.
    Path(String),
    /// `group/news#42`: the project with that number, whatever its path.
    Project {
        /// For people to read.
        path: String,
        /// What counts: paths are renamed and reused.
        id: ProjectId,
    },
    /// `group/*`: every project below the group.
    Below(String),
}

/// A text that names no [`Projects`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no project: write its full path, path#number, or group/*")]
pub struct InvalidProjects(String);

impl Projects {
    /// Whether the project of the job behind `claims` is one of them.
    #[must_use]
    pub fn contain(&self, claims: &JobClaims) -> bool {
        match self {
            Self::Path(path) => *path == claims.project_path,
            Self::Project { id, .. } => *id == claims.project_id,
            Self::Below(group) => {
                let below = claims.project_path.strip_prefix(group.as_str());
                below.is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
            }
        }
    }
}

impl TryFrom<String> for Projects {
    type Error = InvalidProjects;
    fn try_from(text: String) -> Result<Self, InvalidProjects> {
        let path = |path: &str| {
            let legal = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ' ' | '+');
            (!path.is_empty() && path.chars().all(legal)).then(|| path.to_owned())
        };
        let read = match (text.strip_suffix("/*"), text.split_once('#')) {
            (Some(group), _) => path(group).map(Self::Below),
            (None, Some((named, id))) => {
                let id = id.parse().ok().filter(|number| *number > 0 && id == format!("{number}"));
                path(named).zip(id).map(|(path, id)| Self::Project { path, id: ProjectId(id) })
            }
            (None, None) => path(&text).map(Self::Path),
        };
        read.ok_or_else(|| InvalidProjects(text.chars().take(80).collect()))
    }
}

impl From<Projects> for String {
    fn from(projects: Projects) -> String {
        projects.to_string()
    }
}

impl std::fmt::Display for Projects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            Self::Project { path, id } => write!(f, "{path}#{}", id.0),
            Self::Below(group) => write!(f, "{group}/*"),
        }
    }
}

/// An account and a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// The AWS account that its environments live in.
    pub account: AccountId,
    /// Its environments come and go: they expire, and may be torn down. Exactly one of this and `protected`.
    #[serde(default)]
    pub ephemeral: bool,
    /// Nothing in it is ever deleted by Slipway.
    #[serde(default)]
    pub protected: bool,
    /// How long an environment of an ephemeral stage lives after its last deployment.
    #[serde(default = "seven_days")]
    pub expires_in: Span,
    /// How many environments one application may have here; unlimited when absent.
    #[serde(default)]
    pub max_environments: Option<u32>,
    /// The projects that may deploy here. Everyone when absent.
    #[serde(default)]
    pub projects: Option<Vec<Projects>>,
    /// The branches, and as `tags/NAME` the tags, that may deploy here, each protected in GitLab. Any when absent.
    #[serde(default)]
    pub refs: Option<Vec<String>>,
    /// What may have started a pipeline that deploys here, as GitLab's `CI_PIPELINE_SOURCE` has it: `push`, `web`, `schedule`. Any
    /// when absent.
    #[serde(default)]
    pub sources: Option<Vec<String>>,
    /// The capabilities that a template may ask for.
    #[serde(default = "all_capabilities")]
    pub capabilities: Vec<Capability>,
    /// Who has to approve; nobody when absent.
    #[serde(default)]
    pub approval: Option<ApprovalPolicy>,
    /// How long a deployment may take, without the time that people decide in.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// What CloudFormation is told about its stacks.
    #[serde(default)]
    pub stack: StackRules,
    /// How its environments are torn down; only in an ephemeral stage.
    #[serde(default)]
    pub teardown: Option<TeardownPolicy>,
}

fn all_capabilities() -> Vec<Capability> {
    vec![Capability::Iam, Capability::NamedIam, Capability::AutoExpand]
}

/// What a template may do only when asked for by name
/// (<https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateChangeSet.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Capability {
    /// Create IAM resources.
    #[serde(rename = "CAPABILITY_IAM")]
    Iam,
    /// Create IAM resources with names of their own.
    #[serde(rename = "CAPABILITY_NAMED_IAM")]
    NamedIam,
    /// Expand macros, the SAM transform among them.
    #[serde(rename = "CAPABILITY_AUTO_EXPAND")]
    AutoExpand,
}

impl Capability {
    /// As CloudFormation spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Capability::Iam => "CAPABILITY_IAM",
            Capability::NamedIam => "CAPABILITY_NAMED_IAM",
            Capability::AutoExpand => "CAPABILITY_AUTO_EXPAND",
        }
    }
}

/// What is wrong with the configured stages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StagesError {
    /// Not the JSON that is asked for.
    #[error("the stages parameter is not what it should be: {0}")]
    Malformed(String),
    /// Over [`MAX_STAGES_BYTES`].
    #[error("the stages parameter has {0} bytes; the limit is {MAX_STAGES_BYTES}")]
    TooLarge(usize),
    /// Neither or both of `ephemeral` and `protected`.
    #[error("stage {0} must be one of \"ephemeral\": true and \"protected\": true")]
    OneClass(StageName),
    /// One account, two protection classes.
    #[error(
        "stages {0} and {1} share account {2}, but only one of them is protected: one account holds one protection class"
    )]
    MixedAccount(StageName, StageName, AccountId),
    /// An approval that nobody can give.
    #[error("stage {0}'s approval: {1}")]
    Approval(StageName, &'static str),
    /// A time limit that an execution cannot keep.
    #[error("stage {0}'s timeout is at most {MAX_TIMEOUT_HOURS}h")]
    Timeout(StageName),
    /// Rules for what is never done.
    #[error("stage {0} has \"teardown\", which is for ephemeral stages: a protected one's stacks are never deleted")]
    Teardown(StageName),
    /// Stack rules that cannot hold.
    #[error("stage {0}'s stack: {1}")]
    Stack(StageName, &'static str),
    /// Not configured.
    #[error("there is no stage \"{asked}\"; there are: {known}")]
    Unknown {
        /// What was asked for.
        asked: StageName,
        /// What there is.
        known: String,
    },
}

/// All stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stages(BTreeMap<StageName, Stage>);

impl Stages {
    /// Reads the stages parameter.
    ///
    /// # Errors
    /// [`StagesError`], which says what to correct.
    pub fn parse(json: &str) -> Result<Self, StagesError> {
        if json.len() > MAX_STAGES_BYTES {
            return Err(StagesError::TooLarge(json.len()));
        }
        let stages: BTreeMap<StageName, Stage> =
            serde_json::from_str(json).map_err(|error| StagesError::Malformed(error.to_string()))?;
        for (name, stage) in &stages {
            if stage.ephemeral == stage.protected {
                return Err(StagesError::OneClass(name.clone()));
            }
            if let Some(fault) = stage.approval.as_ref().and_then(ApprovalPolicy::fault) {
                return Err(StagesError::Approval(name.clone(), fault));
            }
            if stage.timeout > (Span { minutes: MAX_TIMEOUT_HOURS * 60 }) {
                return Err(StagesError::Timeout(name.clone()));
            }
            if stage.protected && stage.teardown.is_some() {
                return Err(StagesError::Teardown(name.clone()));
            }
            if let Some(fault) = stage.stack.fault(stage.protected) {
                return Err(StagesError::Stack(name.clone(), fault));
            }
            if let Some((other, _)) =
                stages.iter().find(|(_, other)| other.account == stage.account && other.protected != stage.protected)
            {
                return Err(StagesError::MixedAccount(name.clone(), other.clone(), stage.account.clone()));
            }
        }
        Ok(Self(stages))
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&StageName, &Stage)> {
        self.0.iter()
    }

    /// The stage called `name`.
    ///
    /// # Errors
    /// [`StagesError::Unknown`], which lists what there is.
    pub fn get(&self, name: &StageName) -> Result<&Stage, StagesError> {
        self.0.get(name).ok_or_else(|| StagesError::Unknown {
            asked: name.clone(),
            known: self.0.keys().map(StageName::as_str).collect::<Vec<_>>().join(", "),
        })
    }
}

/// Why a stage's policy refuses a job. Each names the claim, its value and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The project is not on the list.
    #[error("claim project_path is \"{project}\"; stage {stage} allows {allowed}")]
    Project {
        /// The stage.
        stage: StageName,
        /// The claim.
        project: String,
        /// The rule.
        allowed: String,
    },
    /// What started the pipeline is not on the list.
    #[error("claim pipeline_source is \"{found}\"; stage {stage} allows {allowed}")]
    Source {
        /// The stage.
        stage: StageName,
        /// The claim.
        found: String,
        /// The rule.
        allowed: String,
    },
    /// The ref is not on the list.
    #[error("claim ref is \"{ref_name}\"; stage {stage} allows {allowed}")]
    Ref {
        /// The stage.
        stage: StageName,
        /// The claim.
        ref_name: String,
        /// The rule.
        allowed: String,
    },
    /// The ref is on the list, but anyone may push to it.
    #[error(
        "claim ref_protected is \"false\" for \"{ref_name}\"; stage {stage} allows protected refs only: protect the branch in GitLab"
    )]
    Unprotected {
        /// The stage.
        stage: StageName,
        /// The claim.
        ref_name: String,
    },
    /// A job that runs for another project's code.
    #[error("claim job_project_id differs from project_id: a merge request's pipeline for a fork deploys nowhere")]
    Fork,
    /// A merge request's pipeline: its ref is the source branch, which says nothing of the target.
    #[error(
        "claim pipeline_source is \"merge_request_event\"; stage {0} allows refs by name, and deploys from branch and tag pipelines only"
    )]
    MergeRequest(StageName),
    /// The stage does not let a template ask for this.
    #[error("{capability} is asked for; stage {stage} does not allow it")]
    Capability {
        /// The stage.
        stage: StageName,
        /// What was asked for.
        capability: &'static str,
    },
    /// A protected stage's environment is not torn down.
    #[error("stage {0} is protected: Slipway never deletes its stacks")]
    Protected(StageName),
    /// Longer than anything is pinned.
    #[error("the pin is for {asked}; at most {allowed} is allowed, and it can be pinned again")]
    Pin {
        /// What was asked for.
        asked: Span,
        /// The rule.
        allowed: Span,
    },
    /// Longer than the stage allows.
    #[error("expires_in is {asked}; stage {stage} allows at most {allowed}")]
    Expiry {
        /// The stage.
        stage: StageName,
        /// What was asked for.
        asked: Span,
        /// The rule.
        allowed: Span,
    },
    /// The application has as many environments there as it may.
    #[error("{application} has {count} environments in stage {stage}, which allows {most}; {way}")]
    Full {
        /// The stage.
        stage: StageName,
        /// The application.
        application: ApplicationName,
        /// How many there are.
        count: usize,
        /// The rule.
        most: u32,
        /// How there could be room.
        way: String,
    },
}

impl Stage {
    /// Whether the job behind `claims` may act in this stage, which is called `name`.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn allows(&self, name: &StageName, claims: &JobClaims) -> Result<(), Refusal> {
        if claims.is_for_a_fork() {
            return Err(Refusal::Fork);
        }
        if let Some(projects) = &self.projects
            && !projects.iter().any(|projects| projects.contain(claims))
        {
            return Err(Refusal::Project {
                stage: name.clone(),
                project: claims.project_path.clone(),
                allowed: projects.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            });
        }
        if let Some(sources) = &self.sources
            && !sources.contains(&claims.pipeline_source)
        {
            let (found, allowed) = (claims.pipeline_source.clone(), sources.join(", "));
            return Err(Refusal::Source { stage: name.clone(), found, allowed });
        }
        if let Some(refs) = &self.refs {
            if claims.pipeline_source == "merge_request_event" {
                return Err(Refusal::MergeRequest(name.clone()));
            }
            // Who may push a tag may not be who may push the branch of that name.
            let ref_name = match claims.ref_type {
                RefType::Branch => claims.ref_name.clone(),
                RefType::Tag => format!("tags/{}", claims.ref_name),
            };
            if !refs.contains(&ref_name) {
                return Err(Refusal::Ref { stage: name.clone(), ref_name, allowed: refs.join(", ") });
            }
            if !claims.ref_protected {
                return Err(Refusal::Unprotected { stage: name.clone(), ref_name: claims.ref_name.clone() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
pub(crate) mod tests {
    use super::*;

    /// The three stages of the guide.
    pub(crate) const THREE: &str = r#"{
      "dev":{"account":"111111111111","ephemeral":true,"expires_in":"7d","max_environments":50,"projects":["group/*"]},
      "staging":{"account":"222222222222","protected":true,"refs":["main"]},
      "prod":{"account":"333333333333","protected":true,"refs":["main"],
        "approval":{"required":1,"approvers":["release-manager","group/leads"],"expires_in":"3d"}}}"#;

    pub(crate) fn claims() -> JobClaims {
        JobClaims {
            jti: "a".into(),
            issued_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::from_second(1_800_000_000).unwrap(),
            project_id: crate::names::ProjectId(42),
            project_path: "group/news".into(),
            namespace_path: "group".into(),
            job_project_id: Some(crate::names::ProjectId(42)),
            user_id: 7,
            user_login: "dana".into(),
            user_email: None,
            user_access_level: None,
            groups_direct: vec![],
            pipeline_id: 100,
            pipeline_source: "push".into(),
            job_id: 1000,
            ref_name: "main".into(),
            ref_type: crate::claims::RefType::Branch,
            ref_protected: true,
            environment: None,
            environment_protected: None,
            environment_action: None,
            deployment_tier: None,
            sha: "c0ffee".into(),
        }
    }

    use jiff::Timestamp;

    fn stage(name: &str) -> (StageName, Stage) {
        let name = StageName::new(name).unwrap();
        let stage = Stages::parse(THREE).unwrap().get(&name).unwrap().clone();
        (name, stage)
    }

    #[test]
    fn what_cannot_hold_is_refused_by_name() {
        for (field, says) in [
            (r#""ephemeral":true,"timeout":"13h""#, "timeout is at most 12h"),
            (r#""protected":true,"stack":{"on_failure":"keep"}"#, "a protected stack is rolled back"),
            (r#""ephemeral":true,"stack":{"rollback_alarms":["high-errors"]}"#, "five ARNs"),
            (r#""ephemeral":true,"stack":{"monitor_minutes":5}"#, "needs \"rollback_alarms\""),
            (r#""ephemeral":true,"stack":{"policy":{}}"#, "for protected stages"),
            (r#""protected":true,"teardown":{}"#, "stage dev has \"teardown\", which is for ephemeral stages"),
            (r#""ephemeral":true,"teardown":{"blocked":"ignore"}"#, "unknown variant `ignore`"),
        ] {
            let error = Stages::parse(&format!(r#"{{"dev":{{"account":"111111111111",{field}}}}}"#)).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
        let alarm = "arn:aws:cloudwatch:eu-central-1:111111111111:alarm:errors";
        let stack = format!(r#"{{"on_failure":"delete","rollback_alarms":["{alarm}"],"monitor_minutes":10}}"#);
        let stages = format!(r#"{{"dev":{{"account":"111111111111","ephemeral":true,"stack":{stack}}}}}"#);
        assert!(Stages::parse(&stages).is_ok());
    }

    #[test]
    fn the_claims_decide() {
        let (prod, policy) = stage("prod");
        assert_eq!(policy.allows(&prod, &claims()), Ok(()));
        let feature = JobClaims { ref_name: "feature".into(), ..claims() };
        assert_eq!(
            policy.allows(&prod, &feature).unwrap_err().to_string(),
            "claim ref is \"feature\"; stage prod allows main"
        );
        let tag = JobClaims { ref_type: RefType::Tag, ..claims() };
        assert!(policy.allows(&prod, &tag).unwrap_err().to_string().contains("\"tags/main\""));
        let open = JobClaims { ref_protected: false, ..claims() };
        assert!(matches!(policy.allows(&prod, &open), Err(Refusal::Unprotected { .. })));
        let request = JobClaims { pipeline_source: "merge_request_event".into(), ..claims() };
        assert!(matches!(policy.allows(&prod, &request), Err(Refusal::MergeRequest(_))));
        let (dev, policy) = stage("dev");
        assert_eq!(policy.allows(&dev, &request), Ok(()));
        let fork = JobClaims { job_project_id: Some(crate::names::ProjectId(43)), ..claims() };
        assert_eq!(policy.allows(&dev, &fork), Err(Refusal::Fork));
        assert_eq!(policy.allows(&dev, &feature), Ok(()));
        let scheduled = JobClaims { pipeline_source: "schedule".into(), ..claims() };
        let pushed = Stage { sources: Some(vec!["push".into()]), ..policy.clone() };
        assert_eq!(pushed.allows(&dev, &claims()), Ok(()));
        assert_eq!(
            pushed.allows(&dev, &scheduled).unwrap_err().to_string(),
            "claim pipeline_source is \"schedule\"; stage dev allows push"
        );
        let numbered =
            |text: &str| Stage { projects: Some(vec![Projects::try_from(text.to_owned()).unwrap()]), ..policy.clone() };
        assert_eq!(numbered("old/path#42").allows(&dev, &claims()), Ok(()), "the number counts");
        assert!(numbered("group/news#43").allows(&dev, &claims()).is_err());
        for path in ["groups/news", "group", "group/", "other/group/news"] {
            let other = JobClaims { project_path: path.into(), ..claims() };
            assert!(matches!(policy.allows(&dev, &other), Err(Refusal::Project { .. })), "{path}");
        }
    }

    #[test]
    fn a_wrong_configuration_says_what_to_correct() {
        for (json, says) in [
            ("{", "EOF"),
            (r#"{"dev":{"account":"1"}}"#, "12 digits"),
            (r#"{"dev":{"account":"111111111111"}}"#, "one of \"ephemeral\""),
            (r#"{"dev":{"account":"111111111111","ephemeral":true,"protected":true}}"#, "one of"),
            (r#"{"dev":{"account":"111111111111","ephemeral":true,"refz":[]}}"#, "refz"),
            (r#"{"dev":{"account":"111111111111","ephemeral":true,"expires_in":"0d"}}"#, "for example 7d"),
            (
                r#"{"dev":{"account":"111111111111","ephemeral":true},"prod":{"account":"111111111111","protected":true}}"#,
                "one protection class",
            ),
            (
                r#"{"prod":{"account":"111111111111","protected":true,"approval":{"required":1,"approvers":[]}}}"#,
                "at least one of",
            ),
            (
                r#"{"prod":{"account":"111111111111","protected":true,"approval":{"required":2,"approvers":["a","A#9"]}}}"#,
                "more than there are",
            ),
            (r#"{"prod":{"account":"111111111111","protected":true,"approval":{"approvers":["a b"]}}}"#, "no approver"),
            (
                r#"{"prod":{"account":"111111111111","protected":true,"approval":{"principals":["arn:aws:iam::1:root"]}}}"#,
                "no principal",
            ),
            (r#"{"dev":{"account":"111111111111","ephemeral":true,"projects":["group/news#x"]}}"#, "no project"),
        ] {
            let error = Stages::parse(json).unwrap_err().to_string();
            assert!(error.contains(says), "{json}: {error}");
        }
    }

    #[test]
    fn an_unknown_stage_lists_those_there_are() {
        let error = Stages::parse(THREE).unwrap().get(&StageName::new("qa").unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "there is no stage \"qa\"; there are: dev, prod, staging");
    }

    #[test]
    fn spans_are_read_and_written_alike() {
        for text in ["1m", "90m", "12h", "7d", "365d"] {
            assert_eq!(Span::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "d", "-1d", "1w", "366d", "1.5h", "7 d", "é"] {
            assert!(Span::parse(text).is_err(), "{text}");
        }
    }
}
