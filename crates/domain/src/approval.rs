//! A human decision on one exact change set.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::claims::JobClaims;
use crate::deployment::{DeploymentId, DeploymentRef, Requester};
use crate::names::{Digest, hex};
use crate::stages::ApprovalPolicy;

/// The most characters of a reason.
pub const MAX_REASON_CHARS: usize = 500;

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

/// What somebody decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Yes or no.
    pub verdict: Verdict,
    /// The numeric id of who decided.
    pub user_id: u64,
    /// The login of who decided.
    pub user_login: String,
    /// The job in which.
    pub job_id: u64,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// A question put to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The SHA-256 of the link's secret part.
    pub id: Digest,
    /// The deployment that waits.
    pub deployment: DeploymentRef,
    /// Step Functions' token: whoever has it can let the deployment go on. It never leaves the table but to Step Functions.
    pub task_token: String,
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
    /// What was decided, once.
    pub decision: Option<Decision>,
    /// Why nobody can decide any more, if the deployment ended without a decision.
    pub void: Option<String>,
}

/// Why a decision does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecisionError {
    /// It was decided before.
    #[error("already {} by {} at {}", .0.verdict.done(), .0.user_login, .0.at)]
    Decided(Decision),
    /// Too late.
    #[error("not decided in time: the question stood until {0}")]
    Expired(Timestamp),
    /// The deployment ended otherwise.
    #[error("nothing to decide any more: {0}")]
    Void(String),
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
    #[error("{0} started this deployment and may not approve it: somebody else must play the approving job")]
    Own(String),
    /// Not on the list.
    #[error("{login} is not among the approvers: {approvers}")]
    NotApprover {
        /// Who.
        login: String,
        /// The rule.
        approvers: String,
    },
    /// Over [`MAX_REASON_CHARS`].
    #[error("the reason has more than {MAX_REASON_CHARS} characters")]
    ReasonTooLong,
}

impl Approval {
    /// Whether a decision can still be taken.
    ///
    /// # Errors
    /// [`DecisionError`]: who decided, or why it is too late.
    pub fn is_open(&self, now: Timestamp) -> Result<(), DecisionError> {
        if let Some(decision) = &self.decision {
            Err(DecisionError::Decided(decision.clone()))
        } else if let Some(why) = &self.void {
            Err(DecisionError::Void(why.clone()))
        } else if now >= self.expires_at {
            Err(DecisionError::Expired(self.expires_at))
        } else {
            Ok(())
        }
    }

    /// The decision of the person behind `claims`, if it counts.
    ///
    /// A job's token proves that a job ran, not that a person decided: no claim says "manual". Played by another user in
    /// the same pipeline, a job carries that user's id, so that is what is asked for, on a ref that not everybody can write
    /// jobs to.
    ///
    /// # Errors
    /// [`DecisionError`], which names the claim, its value and the rule.
    pub fn decide(
        &self,
        verdict: Verdict,
        reason: Option<&str>,
        claims: &JobClaims,
        now: Timestamp,
    ) -> Result<Decision, DecisionError> {
        self.is_open(now)?;
        if claims.project_id != self.deployment.environment.project {
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
        let approvers = &self.policy.approvers;
        let listed = approvers.iter().any(|approver| {
            let group = approver.strip_prefix('@').unwrap_or(approver);
            *approver == claims.user_login
                || ((approver.contains('/') || approver.starts_with('@'))
                    && claims.groups_direct.iter().any(|direct| direct == group))
        });
        if !listed {
            return Err(DecisionError::NotApprover {
                login: claims.user_login.clone(),
                approvers: approvers.join(", "),
            });
        }
        if verdict == Verdict::Approve && !self.policy.self_approval && claims.user_id == self.requester.user_id {
            return Err(DecisionError::Own(claims.user_login.clone()));
        }
        let reason = reason.map(str::trim).filter(|reason| !reason.is_empty());
        if reason.is_some_and(|reason| reason.chars().count() > MAX_REASON_CHARS) {
            return Err(DecisionError::ReasonTooLong);
        }
        Ok(Decision {
            verdict,
            user_id: claims.user_id,
            user_login: claims.user_login.clone(),
            job_id: claims.job_id,
            reason: reason.map(str::to_owned),
            at: now,
        })
    }

    /// Makes the question void, because of `why`: the row to write. What was decided, or is void already, stays.
    #[must_use]
    pub fn voided(&self, why: &str) -> Option<Self> {
        let open = self.decision.is_none() && self.void.is_none();
        open.then(|| Self { void: Some(why.to_owned()), ..self.clone() })
    }

    /// Whether this approval allows to execute what `binding` stands for: the last check before it happens.
    #[must_use]
    pub fn allows(&self, binding: &Digest) -> bool {
        self.binding == *binding && self.decision.as_ref().is_some_and(|decision| decision.verdict == Verdict::Approve)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use crate::names::{ApplicationName, EnvironmentKey, EnvironmentName, ProjectId, StageName};
    use crate::stages::Span;
    use crate::stages::tests::claims;
    use jiff::SignedDuration;

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
            binding: Digest::of(b"bound"),
            policy: ApprovalPolicy {
                required: 1,
                approvers: vec!["release-manager".into(), "group/leads".into(), "@top".into()],
                self_approval: false,
                expires_in: Span::days(3),
            },
            requester: Requester {
                user_id: 7,
                user_login: "dana".into(),
                pipeline_id: 100,
                job_id: 1000,
                project_path: "group/news".into(),
                ref_name: "main".into(),
                sha: "c0ffee".into(),
            },
            asked_at: now,
            expires_at: now + SignedDuration::from_hours(72),
            decision: None,
            void: None,
        }
    }

    fn manager() -> JobClaims {
        JobClaims { user_id: 8, user_login: "release-manager".into(), job_id: 1001, ..claims() }
    }

    #[test]
    fn the_right_person_decides() {
        let now = Timestamp::UNIX_EPOCH;
        let decision = asked().decide(Verdict::Approve, Some(" fine "), &manager(), now).unwrap();
        assert_eq!((decision.user_login.as_str(), decision.reason.as_deref()), ("release-manager", Some("fine")));
        for group in ["group/leads", "top"] {
            let lead = JobClaims { user_login: "eve".into(), groups_direct: vec![group.into()], ..manager() };
            assert!(asked().decide(Verdict::Reject, None, &lead, now).is_ok(), "{group}");
        }
    }

    #[test]
    fn nobody_else_does() {
        let now = Timestamp::UNIX_EPOCH;
        let refused = |claims: JobClaims| asked().decide(Verdict::Approve, None, &claims, now).unwrap_err().to_string();
        assert!(refused(JobClaims { user_id: 7, ..manager() }).contains("may not approve it"));
        assert!(refused(JobClaims { user_login: "top".into(), ..manager() }).contains("not among the approvers"));
        assert!(refused(JobClaims { pipeline_id: 101, ..manager() }).contains("pipeline_id is \"101\""));
        assert!(refused(JobClaims { project_id: ProjectId(43), ..manager() }).contains("own project"));
        assert!(refused(JobClaims { ref_protected: false, ..manager() }).contains("protected ref"));
        let own = JobClaims { user_id: 7, ..manager() };
        let mut lax = asked();
        lax.policy.self_approval = true;
        assert!(lax.decide(Verdict::Approve, None, &own, now).is_ok());
        assert!(asked().decide(Verdict::Reject, None, &own, now).is_ok(), "who asked may always withdraw");
    }

    #[test]
    fn a_question_is_decided_once_and_in_time() {
        let now = Timestamp::UNIX_EPOCH;
        let late = now + SignedDuration::from_hours(72);
        assert!(matches!(asked().decide(Verdict::Approve, None, &manager(), late), Err(DecisionError::Expired(_))));
        let mut decided = asked();
        decided.decision = Some(asked().decide(Verdict::Reject, None, &manager(), now).unwrap());
        assert!(matches!(decided.decide(Verdict::Approve, None, &manager(), now), Err(DecisionError::Decided(_))));
        assert!(!decided.allows(&Digest::of(b"bound")));
        let mut void = asked();
        void.void = Some("superseded".into());
        assert!(matches!(void.decide(Verdict::Approve, None, &manager(), now), Err(DecisionError::Void(_))));
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
        approval.decision = Some(asked().decide(Verdict::Approve, None, &manager(), Timestamp::UNIX_EPOCH).unwrap());
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
