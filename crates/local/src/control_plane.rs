//! Slipway itself on the embedded AWS: the control plane in its account, the roles in three others, and a GitLab.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::emulator::{Emulator, Options};
use crate::error::LocalError;
use crate::functions::BuiltFunction;
use crate::gitlab::GitLab;
use crate::inspect;
use crate::stack::{self, Deploy};
use crate::{DEV, PROD, STAGING, TOOLING};

/// The audience that the control plane accepts.
pub const AUDIENCE: &str = "slipway";
/// The ExternalId of the target accounts' roles.
pub const EXTERNAL_ID: &str = "slipway-embedded";
/// The application id with which people sign in to the small GitLab.
pub const CLIENT_ID: &str = "slipway-approvals";
/// The SSM parameter with the token that the control plane asks GitLab about branches with.
pub const READ_TOKEN_PARAMETER: &str = "/platform/gitlab-read-token";
/// The secret with the token that the control plane tells GitLab results with.
pub const WRITE_TOKEN_SECRET: &str = "platform/gitlab-write-token";
/// The AWS role that may decide in prod.
pub const RELEASE_ROLE: &str = "arn:aws:iam::999999999999:role/release";
/// The name of the control plane's stack.
pub const STACK: &str = "slipway";

/// The stages of the demo and the tests: dev is ephemeral, staging and prod are protected, prod asks for an approval, and critical for two.
#[must_use]
pub fn stages() -> String {
    serde_json::json!({
        "dev": {"account": DEV, "ephemeral": true, "expires_in": "7d", "max_environments": 1000, "projects": ["group/*"]},
        "staging": {"account": STAGING, "protected": true, "refs": ["main"],
            "stack": {"policy": {"Statement": [{"Effect": "Allow", "Action": "Update:*", "Principal": "*", "Resource": "*"}]}}},
        "prod": {"account": PROD, "protected": true, "refs": ["main"],
            "approval": {"required": 1, "approvers": ["release-manager#8", "group/leads"], "principals": [RELEASE_ROLE], "by_job": true,
                "expires_in": "3d"}},
        "critical": {"account": PROD, "protected": true, "refs": ["main"],
            "approval": {"required": 2, "approvers": ["release-manager#8", "group/leads"], "reason_required": true}}
    })
    .to_string()
}

/// The target accounts: the name of the stage, the account, and whether it is protected.
pub const TARGETS: [(&str, &str, bool); 3] = [("dev", DEV, false), ("staging", STAGING, true), ("prod", PROD, true)];

/// Something that was done while the control plane was set up, for a person to read.
#[derive(Debug, Clone)]
pub struct Progress {
    /// What.
    pub what: String,
    /// In which account, if in one.
    pub account: Option<&'static str>,
    /// The stack's status, if it is one.
    pub status: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// Slipway on the embedded AWS.
pub struct ControlPlane {
    /// The embedded AWS.
    pub emulator: Emulator,
    /// The GitLab instance.
    pub gitlab: GitLab,
    /// What template.yaml puts out.
    pub outputs: BTreeMap<String, String>,
    /// The role that jobs assume.
    pub client_role: String,
}

impl ControlPlane {
    /// Starts the embedded AWS and deploys Slipway's own templates onto it, telling `progress` of each step.
    ///
    /// # Errors
    /// [`LocalError`]: one line, with what to do.
    pub async fn start(
        options: Options,
        functions: &[BuiltFunction],
        stages: &str,
        mut progress: impl FnMut(Progress),
    ) -> Result<Self, LocalError> {
        let started = std::time::Instant::now();
        let emulator = Emulator::start(options).await?;
        let what = format!("embedded AWS at {}", emulator.endpoint());
        progress(Progress { what, account: None, status: None, took: started.elapsed() });
        let gitlab = GitLab::start(None).await.map_err(|error| LocalError::GitLab(error.to_string()))?;

        let root = crate::workspace_root();
        let tooling = emulator.sdk_config(TOOLING);
        let began = std::time::Instant::now();
        let bucket = "slipway-artifacts";
        let artifacts = stack::upload_control_plane(&tooling, bucket, functions, &root).await?;
        let template = stack::with_artifacts(&read(&root.join("template.yaml"))?, bucket, &artifacts)?;
        let ssm = aws_sdk_ssm::Client::new(&tooling);
        let token = ssm.put_parameter().name(READ_TOKEN_PARAMETER).value(gitlab.read_token()).overwrite(true);
        let token = token.r#type(aws_sdk_ssm::types::ParameterType::SecureString).send().await;
        token.map_err(LocalError::aws("ssm:PutParameter"))?;
        let secrets = aws_sdk_secretsmanager::Client::new(&tooling);
        let token = secrets.create_secret().name(WRITE_TOKEN_SECRET).secret_string(gitlab.write_token()).send().await;
        token.map_err(LocalError::aws("secretsmanager:CreateSecret"))?;
        let targets = TARGETS.map(|(_, account, _)| account).join(",");
        let parameters = [
            ("GitLabUrl", gitlab.url()),
            ("GitLabClientId", CLIENT_ID),
            ("GitLabReadToken", READ_TOKEN_PARAMETER),
            ("GitLabWriteToken", WRITE_TOKEN_SECRET),
            ("Audience", AUDIENCE),
            ("Stages", stages),
            ("TargetAccounts", &targets),
            ("ExternalId", EXTERNAL_ID),
            ("Architecture", architecture()),
        ];
        let outputs = deploy(&tooling, STACK, template, &parameters, Some(bucket)).await?;
        let status = Some(status_of(&tooling, STACK).await?);
        progress(Progress {
            what: "control plane (template.yaml)".into(),
            account: Some(TOOLING),
            status,
            took: began.elapsed(),
        });
        if let Some(web) = outputs.get("WebUrl") {
            gitlab.register(CLIENT_ID, &format!("{web}callback"));
        }
        let output = |name: &str| outputs.get(name).cloned().ok_or_else(|| LocalError::Output(name.to_owned()));

        let roles = read(&root.join("setup/roles.yaml"))?;
        let release_bucket = output("BucketName")?;
        for (stage, account, protected) in TARGETS {
            let began = std::time::Instant::now();
            let config = emulator.sdk_config(account);
            let parameters = [
                ("ControlPlaneAccount", TOOLING),
                ("ControlPlaneName", STACK),
                ("ExternalId", EXTERNAL_ID),
                ("ReleaseBucket", &release_bucket),
                ("Protected", if protected { "true" } else { "false" }),
            ];
            deploy(&config, "slipway-roles", roles.clone(), &parameters, None).await?;
            let status = Some(status_of(&config, "slipway-roles").await?);
            let what = format!("roles of {stage} (setup/roles.yaml)");
            progress(Progress { what, account: Some(account), status, took: began.elapsed() });
        }

        let began = std::time::Instant::now();
        let host = gitlab.url().trim_start_matches("http://").to_owned();
        let (api, deploy_machine, teardown_machine) =
            (output("ApiFunction")?, output("DeployMachine")?, output("TeardownMachine")?);
        let parameters = [
            ("GitLabHost", host.as_str()),
            ("Audience", AUDIENCE),
            ("SubjectPattern", "project_path:group/*"),
            ("ApiFunction", &api),
            ("DeployMachine", &deploy_machine),
            ("TeardownMachine", &teardown_machine),
        ];
        let gitlab_template = read(&root.join("setup/gitlab.yaml"))?;
        let client = deploy(&tooling, "slipway-gitlab", gitlab_template, &parameters, None).await?;
        let status = Some(status_of(&tooling, "slipway-gitlab").await?);
        let what = "jobs' way in (setup/gitlab.yaml)".into();
        progress(Progress { what, account: Some(TOOLING), status, took: began.elapsed() });
        let client_role =
            client.get("ClientRole").cloned().ok_or_else(|| LocalError::Output("ClientRole".to_owned()))?;
        Ok(Self { emulator, gitlab, outputs, client_role })
    }

    /// One of template.yaml's outputs; empty when there is none of that name.
    #[must_use]
    pub fn output(&self, name: &str) -> &str {
        self.outputs.get(name).map_or("", String::as_str)
    }

    /// The environment of a job whose ID token is `token`: what its `variables:` and the platform team's settings say.
    #[must_use]
    pub fn job_environment(&self, token: &str) -> Vec<(String, String)> {
        let port = self.emulator.port();
        [
            ("AWS_ENDPOINT_URL", self.emulator.endpoint().to_owned()),
            ("AWS_REGION", crate::REGION.to_owned()),
            ("SLIPWAY_API", self.output("ApiFunction").to_owned()),
            ("SLIPWAY_ROLE_ARN", self.client_role.clone()),
            ("SLIPWAY_ID_TOKEN", token.to_owned()),
            ("SLIPWAY_CONNECT_TO", format!("127.0.0.1:{port}")),
            ("SLIPWAY_POLL_MILLIS", "300".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

/// What the functions are built for here.
fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" }
}

fn read(path: &PathBuf) -> Result<String, LocalError> {
    fs::read_to_string(path).map_err(LocalError::io(format!("reading {}", Path::new(path).display())))
}

async fn deploy(
    config: &aws_config::SdkConfig,
    stack_name: &str,
    template: String,
    parameters: &[(&str, &str)],
    template_bucket: Option<&str>,
) -> Result<BTreeMap<String, String>, LocalError> {
    let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let template_bucket = template_bucket.map(str::to_owned);
    stack::deploy(config, Deploy { stack_name: stack_name.to_owned(), template, parameters, template_bucket }).await
}

async fn status_of(config: &aws_config::SdkConfig, stack_name: &str) -> Result<String, LocalError> {
    let stacks = inspect::stacks(config, stack_name).await?.into_iter();
    Ok(stacks.filter(|stack| stack.name == stack_name).map(|stack| stack.status).next().unwrap_or_default())
}
