//! A human decision on one exact change set.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::ErrorName;
use crate::approver::Principal;
use crate::claims::{Caller, JobClaims, Person};
use crate::deployment::{DeploymentId, DeploymentRef, Requester};
use crate::names::{Digest, StageName, hex};
use crate::stages::ApprovalPolicy;

/// The most characters of a reason.
pub const MAX_REASON_CHARS: usize = 500;
/// How far GitLab's clock and ours may be apart.
const CLOCKS_APART_SECONDS: i64 = 60;

/// What an approval is bound to. Whatever of it is different right before execution makes the approval void.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound<'a> {
    /// The change set.
    pub change_set_arn: &'a str,
    /// The stack.
    pub stack_id: &'a str,
    /// The SHA-256 of the release's template.
    pub template: &'a Digest,
    /// The SHA-256 of the release's manifest.
    pub manifest: &'a Digest,
    /// The parameters as the change set has them.
    pub parameters: &'a BTreeMap<String, String>,
}

impl Bound<'_> {
    /// The digest that stands for all of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut parts =
            vec!["approval", self.change_set_arn, self.stack_id, self.template.as_str(), self.manifest.as_str()];
        for (name, value) in self.parameters {
            parts.push(name);
            parts.push(value);
        }
        Digest::of_parts(&parts)
    }
}

/// The secret part of an approval's link: 256 bits that only who knows `key` can work out. The table keeps only its
/// SHA-256, so that whoever reads the table cannot open the page.
#[must_use]
pub fn link_id(key: &[u8; 32], deployment: &DeploymentId) -> String {
    // HMAC itself pads a short key with zeros to the hash's block of 64 bytes.
    let mut block = [0; 64];
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let mut mac = <Hmac<Sha256>>::new(&block.into());
    mac.update(b"slipway approval link\0");
    mac.update(deployment.to_string().as_bytes());
    hex(&mac.finalize().into_bytes())
}

/// What an AWS principal signs along, so that its signature is good for one verdict on one approval, and so on one change set, for this
/// reason, at the host that it was sent to, and for nothing else: another host that shows something else could otherwise hand it on.
#[must_use]
pub fn caller_binding(approval: &Digest, host: &str, verdict: Verdict, reason: Option<&str>) -> Digest {
    let reason = reason.unwrap_or_default().trim();
    Digest::of_parts(&["aws decision", approval.as_str(), &host.to_ascii_lowercase(), verdict.done(), reason])
}

/// Somebody who signed in, for one approval, in one browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// The user's number.
    pub user_id: u64,
    /// The user's login.
    pub user_login: String,
    /// Of the user's groups, those that the approval's policy names.
    pub groups: Vec<String>,
    /// Until when.
    pub until: Timestamp,
}

impl Session {
    /// Who it is.
    #[must_use]
    pub fn person(&self) -> Person {
        Person { user_id: self.user_id, user_login: self.user_login.clone(), groups: self.groups.clone() }
    }
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Execute it.
    Approve,
    /// Discard it.
    Reject,
}

impl Verdict {
    /// What was done.
    #[must_use]
    pub fn done(self) -> &'static str {
        match self {
            Verdict::Approve => "approved",
            Verdict::Reject => "rejected",
        }
    }
}

/// Who decided, and how that was proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case", deny_unknown_fields)]
pub enum Decider {
    /// Somebody who signed in to GitLab in a browser.
    Person {
        /// The user's number.
        user_id: u64,
        /// The user's login then.
        user_login: String,
    },
    /// Somebody who played a job of the deployment's pipeline.
    Job {
        /// The user's number.
        user_id: u64,
        /// The user's login then.
        user_login: String,
        /// The job.
        job_id: u64,
    },
    /// An AWS principal.
    Principal {
        /// The role or user: one that decides, whatever its sessions are called.
        principal: Principal,
        /// What `sts:GetCallerIdentity` called it: for a role, with the session's name.
        arn: String,
    },
}

impl Decider {
    /// Whether both are the same one, who decides once: the same GitLab user by whichever way, or the same principal.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self.user_id(), other.user_id()) {
            (Some(one), Some(other)) => one == other,
            _ => match (self, other) {
                (Self::Principal { principal: one, .. }, Self::Principal { principal: other, .. }) => one == other,
                (Self::Person { .. } | Self::Job { .. } | Self::Principal { .. }, _) => false,
            },
        }
    }

    fn user_id(&self) -> Option<u64> {
        match self {
            Self::Person { user_id, .. } | Self::Job { user_id, .. } => Some(*user_id),
            Self::Principal { .. } => None,
        }
    }

    /// For people: the login, or the principal.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Person { user_login, .. } | Self::Job { user_login, .. } => user_login,
            Self::Principal { arn, .. } => arn,
        }
    }
}

/// What one decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Yes or no.
    pub verdict: Verdict,
    /// Who.
    pub decider: Decider,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// Whose decision is asked to count, as far as it is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who<'a> {
    /// Somebody who signed in.
    Person(&'a Person),
    /// A job.
    Job(&'a JobClaims),
    /// An AWS principal.
    Caller(&'a Caller),
}

/// Why nobody can decide any more, though nobody did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Void {
    /// Under which name the waiting step fails.
    pub error: ErrorName,
    /// Why, for a person.
    pub why: String,
    /// Since when.
    pub at: Timestamp,
}

/// A question put to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The SHA-256 of the link's secret part.
    pub id: Digest,
    /// The deployment that waits.
    pub deployment: DeploymentRef,
    /// Step Functions' token: whoever has it can let the deployment go on. It never leaves the table but to Step Functions; empty
    /// once that has the answer.
    pub task_token: String,
    /// How often the step was tried before the try that the token is of.
    pub tried: u32,
    /// What exactly is decided on: [`Bound::digest`].
    pub binding: Digest,
    /// Who may decide.
    pub policy: ApprovalPolicy,
    /// Who asked for the deployment.
    pub requester: Requester,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// When it is too late.
    pub expires_at: Timestamp,
    /// What was decided, each once by a person, oldest first.
    pub decisions: Vec<Decision>,
    /// Why nobody can decide any more, if the deployment ended without an answer.
    pub void: Option<Void>,
    /// Whether people were told of it.
    pub announced: bool,
    /// Whether Step Functions has the answer, or said that nobody waits for it any more.
    pub delivered: bool,
}

/// How a question stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing<'a> {
    /// It can be decided: so many people more have to approve.
    Open {
        /// At least one.
        missing: usize,
    },
    /// As many as had to have approved it.
    Approved,
    /// Somebody rejected it.
    Rejected(&'a Decision),
    /// The deployment ended without an answer.
    Void(&'a Void),
    /// Nobody answered in time.
    Expired,
}

/// Why a decision does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecisionError {
    /// It was decided before.
    #[error("already {} by {by} at {at:.0}", .verdict.done())]
    Decided {
        /// How.
        verdict: Verdict,
        /// By whom.
        by: String,
        /// When.
        at: Timestamp,
    },
    /// The same person did before.
    #[error("{by} already {} it at {at:.0}: each person decides once", .verdict.done())]
    Again {
        /// How.
        verdict: Verdict,
        /// Who.
        by: String,
        /// When.
        at: Timestamp,
    },
    /// Too late.
    #[error("not decided in time: the question stood until {0:.0}")]
    Expired(Timestamp),
    /// The deployment ended otherwise: under which name, and why.
    #[error("nothing to decide any more: {1}")]
    Void(ErrorName, String),
    /// The stage wants people, not jobs.
    #[error(
        "stage {0} takes no decision of a job: sign in at the approval's link, or let the stage's approval have \"by_job\": true"
    )]
    NotByJob(StageName),
    /// A job of another project.
    #[error("claim project_path is \"{0}\": only a job of the deployment's own project may decide")]
    OtherProject(String),
    /// A job of another pipeline.
    #[error("claim pipeline_id is \"{found}\": only a job of the deployment's own pipeline, {expected}, may decide")]
    OtherPipeline {
        /// The claim.
        found: u64,
        /// The rule.
        expected: u64,
    },
    /// A ref that anybody may push to.
    #[error("claim ref_protected is \"false\": only a job on a protected ref may decide")]
    Unprotected,
    /// Who asked.
    #[error("{0} started this deployment and may not approve it: somebody else must")]
    Own(String),
    /// Who asked, by a job: that may run by itself.
    #[error("{0} started this deployment, and a job of {0}'s may run by itself: sign in at the approval's link")]
    OwnJob(String),
    /// A job that began before there was anything to decide.
    #[error("claim iat is before the change set was ready: only a job that is played after that decides")]
    TooEarly,
    /// Not on the list.
    #[error("{name} is not among the approvers: {approvers}")]
    NotApprover {
        /// Who.
        name: String,
        /// The rule.
        approvers: String,
    },
    /// The stage wants to know why.
    #[error("stage {0} asks for a reason with each decision")]
    NoReason(StageName),
    /// Over [`MAX_REASON_CHARS`].
    #[error("the reason has more than {MAX_REASON_CHARS} characters")]
    ReasonTooLong,
}

impl Approval {
    /// How it stands. What was decided in time stays decided.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing<'_> {
        let approvals = self.decisions.iter().filter(|decision| decision.verdict == Verdict::Approve).count();
        let required = self.policy.required as usize;
        if let Some(no) = self.decisions.iter().find(|decision| decision.verdict == Verdict::Reject) {
            Standing::Rejected(no)
        } else if approvals >= required {
            Standing::Approved
        } else if let Some(void) = &self.void {
            Standing::Void(void)
        } else if now >= self.expires_at {
            Standing::Expired
        } else {
            Standing::Open { missing: required - approvals }
        }
    }

    /// Whether a decision can still be taken.
    ///
    /// # Errors
    /// [`DecisionError`]: who decided, or why it is too late.
    pub fn is_open(&self, now: Timestamp) -> Result<(), DecisionError> {
        let decided = |verdict| {
            let by = self.decisions.iter().filter(|decision| decision.verdict == verdict);
            let at = by.clone().map(|decision| decision.at).max().unwrap_or(self.asked_at);
            let by = by.map(|decision| decision.decider.name()).collect::<Vec<_>>().join(" and ");
            Err(DecisionError::Decided { verdict, by, at })
        };
        match self.standing(now) {
            Standing::Open { .. } => Ok(()),
            Standing::Approved => decided(Verdict::Approve),
            Standing::Rejected(_) => decided(Verdict::Reject),
            Standing::Void(void) => Err(DecisionError::Void(void.error, void.why.clone())),
            Standing::Expired => Err(DecisionError::Expired(self.expires_at)),
        }
    }

    /// Who `who` is, if the stage's policy lets them decide at all.
    ///
    /// A job's token proves that a job ran, not that a person decided: no claim says "manual". Played by another user in
    /// the same pipeline, a job carries that user's id, so that is what is asked for, on a ref that not everybody can write
    /// jobs to, and begun after the question was asked: whoever started the pipeline is the user of all its automatic jobs.
    ///
    /// # Errors
    /// [`DecisionError`], which names the claim, its value and the rule.
    pub fn decider(&self, who: Who<'_>) -> Result<Decider, DecisionError> {
        let decider = match who {
            Who::Person(person) => Decider::Person { user_id: person.user_id, user_login: person.user_login.clone() },
            Who::Job(claims) => self.own_job(claims)?,
            Who::Caller(caller) => {
                let principal = Principal::of(caller).ok();
                let listed = principal.filter(|principal| self.policy.principals.contains(principal));
                let principal = listed.ok_or_else(|| self.not_among(&caller.arn))?;
                return Ok(Decider::Principal { principal, arn: caller.arn.clone() });
            }
        };
        let groups = match who {
            Who::Person(person) => person.groups.as_slice(),
            Who::Job(claims) => claims.groups_direct.as_slice(),
            Who::Caller(_) => &[],
        };
        let is = |id| self.policy.approvers.iter().any(|approver| approver.is(id, decider.name(), groups));
        if decider.user_id().is_some_and(is) { Ok(decider) } else { Err(self.not_among(decider.name())) }
    }

    fn own_job(&self, claims: &JobClaims) -> Result<Decider, DecisionError> {
        if !self.policy.by_job {
            return Err(DecisionError::NotByJob(self.deployment.environment.stage.clone()));
        }
        if claims.project_id != self.deployment.environment.project || claims.is_for_a_fork() {
            return Err(DecisionError::OtherProject(claims.project_path.clone()));
        }
        if claims.pipeline_id != self.requester.pipeline_id {
            return Err(DecisionError::OtherPipeline {
                found: claims.pipeline_id,
                expected: self.requester.pipeline_id,
            });
        }
        if !claims.ref_protected {
            return Err(DecisionError::Unprotected);
        }
        if claims.issued_at.as_second() < self.asked_at.as_second() - CLOCKS_APART_SECONDS {
            return Err(DecisionError::TooEarly);
        }
        let JobClaims { user_id, job_id, .. } = *claims;
        Ok(Decider::Job { user_id, user_login: claims.user_login.clone(), job_id })
    }

    fn not_among(&self, name: &str) -> DecisionError {
        DecisionError::NotApprover { name: name.to_owned(), approvers: self.policy.who() }
    }

    /// The decision of `who`, if it counts.
    ///
    /// # Errors
    /// [`DecisionError`].
    pub fn decide(
        &self,
        verdict: Verdict,
        reason: Option<&str>,
        who: Who<'_>,
        now: Timestamp,
    ) -> Result<Decision, DecisionError> {
        let decider = self.decider(who)?;
        if let Some(Decision { verdict, decider, at, .. }) =
            self.decisions.iter().find(|decision| decision.decider.is_same(&decider))
        {
            return Err(DecisionError::Again { verdict: *verdict, by: decider.name().to_owned(), at: *at });
        }
        self.is_open(now)?;
        let own = decider.user_id() == Some(self.requester.user_id);
        if verdict == Verdict::Approve && own {
            let by = decider.name().to_owned();
            match decider {
                // Whatever the stage allows: nothing would show that a person decided.
                Decider::Job { .. } => return Err(DecisionError::OwnJob(by)),
                Decider::Person { .. } | Decider::Principal { .. } if self.policy.self_approval => {}
                Decider::Person { .. } | Decider::Principal { .. } => return Err(DecisionError::Own(by)),
            }
        }
        let reason = reason.map(str::trim).filter(|reason| !reason.is_empty());
        if reason.is_none() && self.policy.reason_required {
            return Err(DecisionError::NoReason(self.deployment.environment.stage.clone()));
        }
        if reason.is_some_and(|reason| reason.chars().count() > MAX_REASON_CHARS) {
            return Err(DecisionError::ReasonTooLong);
        }
        Ok(Decision { verdict, decider, reason: reason.map(str::to_owned), at: now })
    }

    /// The row with one decision more.
    #[must_use]
    pub fn with(&self, decision: Decision) -> Self {
        let mut next = self.clone();
        next.decisions.push(decision);
        next
    }

    /// The row for the step's try number `tried`, which waits with another token. A try that is over already changes nothing.
    #[must_use]
    pub fn tried_again(&self, task_token: &str, tried: u32) -> Option<Self> {
        let later = tried > self.tried;
        later.then(|| Self { task_token: task_token.to_owned(), tried, delivered: false, ..self.clone() })
    }

    /// Makes the question void: the row to write. What was decided, or is void already, stays.
    #[must_use]
    pub fn voided(&self, void: &Void) -> Option<Self> {
        match self.standing(self.asked_at) {
            Standing::Open { .. } | Standing::Expired => Some(Self { void: Some(void.clone()), ..self.clone() }),
            Standing::Approved | Standing::Rejected(_) | Standing::Void(_) => None,
        }
    }

    /// What Step Functions is to be told, once there is an answer.
    #[must_use]
    pub fn answer(&self) -> Option<Answer> {
        match self.standing(self.asked_at) {
            Standing::Open { .. } | Standing::Expired => None,
            Standing::Approved => Some(Answer::GoOn),
            Standing::Rejected(Decision { decider, reason, .. }) => {
                let why = reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
                let cause = format!("{} rejected the change set{why}", decider.name());
                Some(Answer::Fail(ErrorName::ApprovalRejected, cause))
            }
            Standing::Void(Void { error, why, .. }) => Some(Answer::Fail(*error, why.clone())),
        }
    }

    /// Since when there is an answer that Step Functions may not have.
    #[must_use]
    pub fn undelivered_since(&self) -> Option<Timestamp> {
        self.answer().filter(|_| !self.delivered)?;
        let decided = self.decisions.last().map(|decision| decision.at);
        decided.into_iter().chain(self.void.as_ref().map(|void| void.at)).max()
    }

    /// The row once Step Functions has the answer: its token is of no more use, and so not kept.
    #[must_use]
    pub fn delivered(&self) -> Self {
        Self { delivered: true, task_token: String::new(), ..self.clone() }
    }

    /// How far people are, while more of them have to approve: "approved by eve: 1 of 2".
    #[must_use]
    pub fn progress(&self) -> Option<String> {
        let by: Vec<&str> = self.decisions.iter().map(|decision| decision.decider.name()).collect();
        let some = !by.is_empty() && self.answer().is_none();
        some.then(|| format!("approved by {}: {} of {}", by.join(" and "), by.len(), self.policy.required))
    }

    /// Whether this approval allows to execute what `binding` stands for: the last check before it happens.
    #[must_use]
    pub fn allows(&self, binding: &Digest) -> bool {
        self.binding == *binding && self.standing(self.asked_at) == Standing::Approved
    }
}

/// What Step Functions is told of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To go on.
    GoOn,
    /// That the step fails, and why.
    Fail(ErrorName, String),
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use crate::approver::Approver;
    use crate::names::{AccountId, ApplicationName, EnvironmentKey, EnvironmentName, ProjectId};
    use crate::stages::Span;
    use crate::stages::tests::claims;
    use jiff::SignedDuration;

    const ROLE: &str = "arn:aws:iam::123456789012:role/Release";

    fn asked() -> Approval {
        let now = Timestamp::UNIX_EPOCH;
        Approval {
            id: Digest::of(b"link"),
            deployment: DeploymentRef {
                environment: EnvironmentKey {
                    project: ProjectId(42),
                    application: ApplicationName::new("news").unwrap(),
                    stage: StageName::new("prod").unwrap(),
                    environment: EnvironmentName::new("prod").unwrap(),
                },
                id: DeploymentId::from_execution(now, "arn"),
                fence: 1,
            },
            task_token: "secret".into(),
            tried: 0,
            binding: Digest::of(b"bound"),
            policy: ApprovalPolicy {
                required: 1,
                approvers: ["release-manager", "group/leads", "@top"].map(|who| Approver::parse(who).unwrap()).to_vec(),
                principals: vec![Principal::parse(ROLE).unwrap()],
                by_job: true,
                self_approval: false,
                reason_required: false,
                expires_in: Span::days(3),
            },
            requester: Requester {
                user_id: 7,
                user_login: "dana".into(),
                pipeline_id: 100,
                job_id: 1000,
                project_path: "group/news".into(),
                ref_name: "main".into(),
                ref_type: None,
                sha: "c0ffee".into(),
            },
            asked_at: now,
            expires_at: now + SignedDuration::from_hours(72),
            decisions: Vec::new(),
            void: None,
            announced: false,
            delivered: false,
        }
    }

    fn manager() -> JobClaims {
        let issued_at = asked().asked_at;
        JobClaims { user_id: 8, user_login: "release-manager".into(), job_id: 1001, issued_at, ..claims() }
    }

    fn person(user_id: u64, login: &str, groups: &[&str]) -> Person {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Person { user_id, user_login: login.into(), groups }
    }

    fn caller(session: &str) -> Caller {
        Caller {
            arn: format!("arn:aws:sts::123456789012:assumed-role/Release/{session}"),
            account: AccountId::new("123456789012").unwrap(),
            user_id: format!("AROA:{session}"),
        }
    }

    fn yes(approval: &Approval, who: Who<'_>) -> Result<Approval, DecisionError> {
        let decision = approval.decide(Verdict::Approve, None, who, Timestamp::UNIX_EPOCH)?;
        Ok(approval.with(decision))
    }

    #[test]
    fn the_right_person_decides() {
        let now = Timestamp::UNIX_EPOCH;
        let decision = asked().decide(Verdict::Approve, Some(" fine "), Who::Job(&manager()), now).unwrap();
        assert_eq!((decision.decider.name(), decision.reason.as_deref()), ("release-manager", Some("fine")));
        for group in ["group/leads", "top"] {
            let lead = JobClaims { user_login: "eve".into(), groups_direct: vec![group.into()], ..manager() };
            assert!(asked().decide(Verdict::Reject, None, Who::Job(&lead), now).is_ok(), "{group}");
            assert!(yes(&asked(), Who::Person(&person(9, "eve", &["else", group]))).is_ok(), "{group}");
        }
        assert!(yes(&asked(), Who::Person(&person(8, "release-manager", &[]))).is_ok());
        assert!(yes(&asked(), Who::Caller(&caller("dana"))).is_ok());
    }

    #[test]
    fn nobody_else_does() {
        let refused = |claims: JobClaims| yes(&asked(), Who::Job(&claims)).unwrap_err().to_string();
        assert!(refused(JobClaims { user_id: 7, ..manager() }).contains("started this deployment"));
        assert!(refused(JobClaims { user_login: "top".into(), ..manager() }).contains("not among the approvers"));
        assert!(refused(JobClaims { pipeline_id: 101, ..manager() }).contains("pipeline_id is \"101\""));
        assert!(refused(JobClaims { project_id: ProjectId(43), ..manager() }).contains("own project"));
        assert!(refused(JobClaims { ref_protected: false, ..manager() }).contains("protected ref"));
        assert!(yes(&asked(), Who::Person(&person(66, "mallory", &["group"]))).is_err());
        assert!(matches!(yes(&asked(), Who::Person(&person(7, "release-manager", &[]))), Err(DecisionError::Own(_))));
        let other = Caller { arn: "arn:aws:sts::123456789012:assumed-role/Admin/dana".into(), ..caller("dana") };
        assert!(yes(&asked(), Who::Caller(&other)).unwrap_err().to_string().contains("role/Release"));
        let mut lax = asked();
        lax.policy.self_approval = true;
        let own = JobClaims { user_id: 7, ..manager() };
        assert!(matches!(yes(&lax, Who::Job(&own)), Err(DecisionError::OwnJob(_))), "it may have run by itself");
        assert!(yes(&lax, Who::Person(&person(7, "dana", &["group/leads"]))).is_ok());
        let early = JobClaims { issued_at: asked().asked_at - SignedDuration::from_secs(61), ..manager() };
        assert_eq!(yes(&asked(), Who::Job(&early)), Err(DecisionError::TooEarly));
        let withdrawn = asked().decide(Verdict::Reject, None, Who::Job(&own), Timestamp::UNIX_EPOCH);
        assert!(withdrawn.is_ok(), "who asked may withdraw");
    }

    #[test]
    fn the_stage_says_how() {
        let mut strict = asked();
        strict.policy.by_job = false;
        strict.policy.reason_required = true;
        assert!(matches!(yes(&strict, Who::Job(&manager())), Err(DecisionError::NotByJob(_))));
        let eve = person(9, "eve", &["group/leads"]);
        assert!(matches!(yes(&strict, Who::Person(&eve)), Err(DecisionError::NoReason(_))));
        let now = Timestamp::UNIX_EPOCH;
        assert!(strict.decide(Verdict::Approve, Some("because"), Who::Person(&eve), now).is_ok());
        let long = "x".repeat(MAX_REASON_CHARS + 1);
        let error = strict.decide(Verdict::Approve, Some(&long), Who::Person(&eve), now).unwrap_err();
        assert_eq!(error, DecisionError::ReasonTooLong);
    }

    #[test]
    fn two_people_are_two_people() {
        let now = Timestamp::UNIX_EPOCH;
        let mut two = asked();
        two.policy.required = 2;
        let one = yes(&two, Who::Person(&person(8, "release-manager", &[]))).unwrap();
        assert_eq!(one.standing(now), Standing::Open { missing: 1 });
        assert_eq!(one.progress().as_deref(), Some("approved by release-manager: 1 of 2"));
        assert!(!one.allows(&one.binding) && one.answer().is_none());
        // The same user by another way, or under another name, is the same person.
        assert!(matches!(yes(&one, Who::Job(&manager())), Err(DecisionError::Again { .. })));
        let renamed = person(8, "renamed", &["group/leads"]);
        assert!(matches!(yes(&one, Who::Person(&renamed)), Err(DecisionError::Again { .. })));
        let both = yes(&one, Who::Person(&person(9, "eve", &["group/leads"]))).unwrap();
        assert!(both.allows(&both.binding));
        assert_eq!(both.answer(), Some(Answer::GoOn));
        let told = both.is_open(now).unwrap_err().to_string();
        assert!(told.contains("already approved by release-manager and eve"), "{told}");
        // A role is one, however many sessions it has.
        let one = yes(&two, Who::Caller(&caller("dana"))).unwrap();
        assert!(matches!(yes(&one, Who::Caller(&caller("erin"))), Err(DecisionError::Again { .. })));
        // One "no" ends it.
        let no = one.decide(Verdict::Reject, Some("no"), Who::Job(&manager()), now).unwrap();
        let ended = one.with(no);
        assert_eq!(
            ended.answer(),
            Some(Answer::Fail(ErrorName::ApprovalRejected, "release-manager rejected the change set: no".into()))
        );
        let eve = person(9, "eve", &["group/leads"]);
        assert!(
            yes(&ended, Who::Person(&eve)).unwrap_err().to_string().contains("already rejected by release-manager")
        );
    }

    #[test]
    fn a_question_is_decided_once_and_in_time() {
        let now = Timestamp::UNIX_EPOCH;
        let late = now + SignedDuration::from_hours(72);
        let manager = manager();
        let who = Who::Job(&manager);
        assert!(matches!(asked().decide(Verdict::Approve, None, who, late), Err(DecisionError::Expired(_))));
        let decided = asked().with(asked().decide(Verdict::Reject, None, who, now).unwrap());
        let eve = person(9, "eve", &["group/leads"]);
        assert!(matches!(yes(&decided, Who::Person(&eve)), Err(DecisionError::Decided { .. })));
        assert!(!decided.allows(&decided.binding));
        assert_eq!(decided.undelivered_since(), Some(now));
        assert_eq!(decided.delivered().undelivered_since(), None);
        let why = Void { error: ErrorName::Superseded, why: "superseded".into(), at: late };
        assert_eq!(decided.voided(&why), None, "what was decided stays");
        let void = asked().voided(&why).unwrap();
        assert!(matches!(yes(&void, Who::Person(&eve)), Err(DecisionError::Void(ErrorName::Superseded, _))));
        assert_eq!(void.answer(), Some(Answer::Fail(ErrorName::Superseded, "superseded".into())));
        assert_eq!(void.undelivered_since(), Some(late));
    }

    #[test]
    fn the_last_try_of_the_step_is_the_one_that_waits() {
        let second = asked().tried_again("second", 1).unwrap();
        assert_eq!((second.task_token.as_str(), second.tried), ("second", 1));
        assert_eq!(second.tried_again("first, and late", 0), None);
        assert_eq!(second.tried_again("second", 1), None);
    }

    #[test]
    fn an_approval_allows_exactly_what_it_is_bound_to() {
        let parameters = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let (template, manifest) = (Digest::of(b"t"), Digest::of(b"m"));
        let bound = Bound {
            change_set_arn: "cs",
            stack_id: "st",
            template: &template,
            manifest: &manifest,
            parameters: &parameters,
        };
        let mut approval = asked();
        approval.binding = bound.digest();
        let approval = yes(&approval, Who::Job(&manager())).unwrap();
        assert!(approval.allows(&bound.digest()));
        let changed = BTreeMap::from([("A".to_owned(), "2".to_owned())]);
        for other in [
            Bound { change_set_arn: "cs2", ..bound.clone() },
            Bound { stack_id: "st2", ..bound.clone() },
            Bound { template: &manifest, ..bound.clone() },
            Bound { manifest: &template, ..bound.clone() },
            Bound { parameters: &changed, ..bound.clone() },
        ] {
            assert!(!approval.allows(&other.digest()), "{other:?}");
        }
    }

    #[test]
    fn a_link_is_one_deployment_and_one_key() {
        let id = |n: &str| DeploymentId::from_execution(Timestamp::UNIX_EPOCH, n);
        let link = link_id(&[1; 32], &id("a"));
        assert_eq!(link.len(), 64);
        assert_eq!(link, link_id(&[1; 32], &id("a")));
        assert_ne!(link, link_id(&[1; 32], &id("b")));
        assert_ne!(link, link_id(&[2; 32], &id("a")));
    }
}
