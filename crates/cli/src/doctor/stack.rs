//! The control plane's stack, and what it was told.

use std::collections::BTreeMap;

use slipway_domain::approver::Approver;
use slipway_domain::stages::Stages;

use super::Finding;
use crate::aws::remote;

/// The control plane, as its stack describes it.
pub(super) struct Plane {
    name: String,
    status: String,
    outputs: BTreeMap<String, String>,
    parameters: BTreeMap<String, String>,
    /// Its partition and account.
    pub(super) partition: String,
    pub(super) account: String,
}

const STACK: &str = "control plane";
const STAGES: &str = "stages";

impl Plane {
    /// Looks at the stack `name`; without it, says so.
    pub(super) async fn look(config: &aws_config::SdkConfig, name: &str) -> Result<Self, Finding> {
        let missing = || {
            Finding::broken(
                STACK,
                format!("there is no stack {name} in this account and region"),
                "Sign in to the control plane's account, and give its region and stack with --region and --stack; or deploy it: slipway init",
            )
        };
        let sent = aws_sdk_cloudformation::Client::new(config).describe_stacks().stack_name(name).send().await;
        let answer = sent.map_err(|error| match remote("cloudformation:DescribeStacks", &error) {
            error if error.to_string().contains("does not exist") => missing(),
            error => Finding::unseen(STACK, &error),
        })?;
        let stack = answer.stacks.unwrap_or_default().into_iter().next().ok_or_else(missing)?;
        let id = stack.stack_id.unwrap_or_default();
        // arn:aws:cloudformation:region:account:stack/name/id
        let part = |number: usize| id.split(':').nth(number).unwrap_or_default().to_owned();
        let outputs = stack.outputs.unwrap_or_default().into_iter();
        let parameters = stack.parameters.unwrap_or_default().into_iter();
        Ok(Self {
            name: name.to_owned(),
            status: stack.stack_status.map(|status| status.as_str().to_owned()).unwrap_or_default(),
            outputs: outputs.filter_map(|output| output.output_key.zip(output.output_value)).collect(),
            parameters: parameters.filter_map(|given| given.parameter_key.zip(given.parameter_value)).collect(),
            partition: part(1),
            account: part(4),
        })
    }

    /// One without anything in it.
    #[cfg(test)]
    pub(super) fn of(partition: &str, account: &str) -> Self {
        Self {
            name: "slipway".into(),
            status: "CREATE_COMPLETE".into(),
            outputs: BTreeMap::new(),
            parameters: BTreeMap::new(),
            partition: partition.into(),
            account: account.into(),
        }
    }

    /// What it puts out; empty where there is no such output.
    pub(super) fn output(&self, name: &str) -> &str {
        self.outputs.get(name).map_or("", String::as_str)
    }

    /// What it was given; empty where there is no such parameter.
    pub(super) fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    /// Whether its last deployment went through.
    pub(super) fn status(&self) -> Finding {
        let found = format!("stack {} is {}", self.name, self.status);
        match self.status.as_str() {
            "CREATE_COMPLETE" | "UPDATE_COMPLETE" => Finding::ok(STACK, found),
            status if status.ends_with("_IN_PROGRESS") => {
                Finding::broken(STACK, found, "Wait until it is done, and look again.")
            }
            _ => Finding::broken(STACK, found, "See its events for the cause, and deploy template.yaml anew."),
        }
    }

    /// Whether it and this command belong together.
    pub(super) fn version(&self) -> Finding {
        version(Some(self.output("Version")).filter(|its| !its.is_empty()))
    }

    /// The stages.
    pub(super) async fn stages(&self, config: &aws_config::SdkConfig) -> Result<Stages, Finding> {
        let name = self.output("StagesParameterName");
        let sent = aws_sdk_ssm::Client::new(config).get_parameter().name(name).send().await;
        let answer = sent.map_err(|error| Finding::unseen(STAGES, &remote("ssm:GetParameter", &error)))?;
        let text = answer.parameter.and_then(|parameter| parameter.value).unwrap_or_default();
        Stages::parse(&text).map_err(|error| {
            Finding::broken(STAGES, error.to_string(), format!("Correct the SSM parameter {name}: docs/STAGES.md"))
        })
    }

    /// Whether those who have to approve are known for sure, and have a way to.
    pub(super) fn approvals(&self, stages: &Stages) -> Vec<Finding> {
        let sign_in = !self.parameter("GitLabClientId").is_empty();
        let mut findings = Vec::new();
        for (name, stage) in stages.iter() {
            let Some(policy) = &stage.approval else { continue };
            let check = format!("approval in {name}");
            let bare = |approver: &Approver| match approver {
                Approver::Login(login) => Some(login.clone()),
                Approver::User { .. } | Approver::Group(_) => None,
            };
            let logins: Vec<_> = policy.approvers.iter().filter_map(bare).collect();
            findings.push(if !policy.can_be_given(sign_in) {
                Finding::broken(
                    check,
                    "nobody has a way to approve",
                    "Deploy template.yaml with GitLabClientId, or give the stage \"by_job\": true or enough \"principals\": docs/APPROVALS.md",
                )
            } else if !logins.is_empty() {
                Finding::warning(
                    check,
                    format!("known by login alone: {}", logins.join(", ")),
                    "Write login#number, of which the number counts: a login can be given up, and taken by somebody else.",
                )
            } else {
                Finding::ok(check, format!("{} of {}", policy.required, policy.who()))
            });
        }
        findings
    }
}

/// Whether a control plane of the version `its` and this command belong together.
pub(super) fn version(its: Option<&str>) -> Finding {
    let (check, own) = ("versions", env!("CARGO_PKG_VERSION"));
    match its {
        Some(its) if its == own => Finding::ok(check, format!("command and control plane are {own}")),
        its => Finding::warning(
            check,
            format!("the command is {own}, the control plane {}", its.unwrap_or("older than that can be told")),
            "Use the control plane's version of the command, or deploy template.yaml anew.",
        ),
    }
}

/// Which stages there are.
pub(super) fn names(stages: &Stages) -> Finding {
    let names: Vec<_> = stages.iter().map(|(name, stage)| format!("{name} ({})", stage.account)).collect();
    match names.is_empty() {
        true => Finding::warning(STAGES, "there is none", "Deploy template.yaml with Stages: docs/STAGES.md"),
        false => Finding::ok(STAGES, names.join(", ")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn plane(status: &str, client_id: &str) -> Plane {
        let version = ("Version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        Plane {
            status: status.into(),
            outputs: BTreeMap::from([version]),
            parameters: BTreeMap::from([("GitLabClientId".to_owned(), client_id.to_owned())]),
            ..Plane::of("aws", "999999999999")
        }
    }

    #[test]
    fn only_a_deployment_that_went_through_is_well() {
        for (status, verdict) in [
            ("CREATE_COMPLETE", Verdict::Ok),
            ("UPDATE_COMPLETE", Verdict::Ok),
            ("UPDATE_ROLLBACK_COMPLETE", Verdict::Broken),
            ("ROLLBACK_COMPLETE", Verdict::Broken),
            ("UPDATE_IN_PROGRESS", Verdict::Broken),
        ] {
            assert_eq!(plane(status, "").status().verdict, verdict, "{status}");
        }
    }

    #[test]
    fn the_template_says_the_version_that_the_command_has() {
        let template = include_str!("../../../../template.yaml");
        assert!(template.contains(&format!("    Value: {}\n", env!("CARGO_PKG_VERSION"))), "the output Version");
        assert_eq!(plane("CREATE_COMPLETE", "").version().verdict, Verdict::Ok);
    }

    #[test]
    fn another_version_is_told() {
        for (its, says) in [(Some("9.9.9"), "the control plane 9.9.9"), (None, "the control plane older than")] {
            let finding = version(its);
            assert!(finding.verdict == Verdict::Warning && finding.found.contains(says), "{finding:?}");
        }
    }

    #[test]
    fn approvers_need_a_way_and_a_number() {
        let verdict = |client_id: &str, approver: &str| {
            let stages = format!(
                r#"{{"prod":{{"account":"333333333333","protected":true,"approval":{{"approvers":["{approver}"]}}}}}}"#
            );
            plane("CREATE_COMPLETE", client_id).approvals(&Stages::parse(&stages).unwrap())[0].verdict
        };
        assert_eq!(verdict("app", "ada#4"), Verdict::Ok);
        assert_eq!(verdict("app", "group/leads"), Verdict::Ok);
        assert_eq!(verdict("app", "ada"), Verdict::Warning);
        assert_eq!(verdict("", "ada#4"), Verdict::Broken);
    }
}
