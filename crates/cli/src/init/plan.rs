//! What sets Slipway up: the files of a project, and the commands, from a handful of answers. Pure.

use reqwest::Url;
use serde::Serialize;
use serde_json::{Map, Value, json};
use slipway_domain::approver::Approver;
use slipway_domain::names::{AccountId, Digest, Region, StackName, StageName};
use slipway_domain::session_policy::partition;
use slipway_domain::stages::{Projects, Stages};
use slipway_identity::Issuer;

use crate::commands::quoted;
use crate::error::CliError;

/// The stage that branches are deployed to.
const DEV: &str = "dev";
/// The stage that the default branch is deployed to first.
const STAGING: &str = "staging";
/// The stage that it is deployed to then, with people's approval.
const PROD: &str = "prod";
/// The pipeline, as it belongs to this version of the command.
const PIPELINE: &str = include_str!("../../../../gitlab/slipway.yml");
/// Where the copy of it goes.
const PIPELINE_PATH: &str = "gitlab/slipway.yml";

/// What somebody answered, as texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    /// The account of dev.
    pub(crate) account: String,
    /// That of staging, if there is that stage.
    pub(crate) staging_account: Option<String>,
    /// That of prod, if there is that stage.
    pub(crate) prod_account: Option<String>,
    /// Who may approve in prod.
    pub(crate) approvers: Vec<String>,
    /// The control plane's account; that of dev when absent.
    pub(crate) control_plane_account: Option<String>,
    /// The region of everything.
    pub(crate) region: String,
    /// The GitLab instance.
    pub(crate) gitlab_url: String,
    /// The project that may deploy: a path, `path#number` or `group/*`.
    pub(crate) project: String,
    /// The project's default branch.
    pub(crate) branch: String,
    /// The control plane's stack.
    pub(crate) stack: String,
    /// The ExternalId; made from the control plane's account when absent.
    pub(crate) external_id: Option<String>,
    /// The control plane's output ApiFunction, where it is there already.
    pub(crate) api: Option<String>,
    /// The image of the jobs, which has `slipway`.
    pub(crate) image: Option<String>,
    /// Where the jobs download `slipway` from, where their images do not have it.
    pub(crate) download: Option<Download>,
    /// The project that the pipeline is included from; a copy of it is written when absent.
    pub(crate) include_from: Option<String>,
}

/// Where `slipway` is downloaded from, as texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Download {
    /// The address, with ARCH in the place of the architecture.
    pub(crate) url: String,
    /// What `SHA256SUMS` holds.
    pub(crate) sums: String,
}

/// A file of the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Relative to the project's folder.
    pub(crate) path: &'static str,
    /// What is in it.
    pub(crate) text: String,
}

/// Commands that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    /// What they do, and with whose credentials.
    pub(crate) what: String,
    /// A shell's lines.
    pub(crate) commands: Vec<String>,
}

/// Everything that sets Slipway up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The project's files.
    pub(crate) files: Vec<File>,
    /// What to do, in this order.
    pub(crate) steps: Vec<Step>,
}

/// What the answers mean, once they are known to be right.
struct Setting {
    /// Stage, account, whether it is protected.
    targets: Vec<(&'static str, AccountId, bool)>,
    control_plane: AccountId,
    region: Region,
    gitlab: String,
    project: Projects,
    stack: StackName,
    external_id: String,
    stages: Value,
    /// The inputs that say where the command is downloaded from.
    download: Option<Vec<(&'static str, String)>>,
}

/// What is to be written and run.
///
/// # Errors
/// [`CliError::Usage`], which says what to correct.
pub(crate) fn plan(answers: &Answers) -> Result<Plan, CliError> {
    let setting = Setting::of(answers)?;
    let mut files = vec![
        File { path: ".gitlab-ci.yml", text: include(answers, &setting) },
        File { path: "slipway-stages.json", text: format!("{:#}\n", setting.stages) },
    ];
    if answers.include_from.is_none() {
        files.push(File { path: PIPELINE_PATH, text: PIPELINE.to_owned() });
    }
    Ok(Plan { files, steps: steps(answers, &setting) })
}

fn usage(flag: &str) -> impl Fn(&dyn std::fmt::Display) -> CliError {
    move |error| CliError::Usage(format!("--{flag}: {error}"))
}

/// An account, as the flag `flag` gives it.
pub(crate) fn account(flag: &str, text: &str) -> Result<AccountId, CliError> {
    AccountId::new(text).map_err(|error| usage(flag)(&error))
}

/// A region, as gitlab/slipway.yml takes it: two letters, words, one digit.
pub(crate) fn region(text: &str) -> Result<Region, CliError> {
    let is_word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    let is_region = match text.split('-').collect::<Vec<_>>()[..] {
        [country, ref words @ .., number] => {
            country.len() == 2
                && is_word(&country)
                && !words.is_empty()
                && words.iter().all(is_word)
                && number.len() == 1
                && number.bytes().all(|b| b.is_ascii_digit())
        }
        _ => false,
    };
    match Region::new(text) {
        Ok(region) if is_region => Ok(region),
        Ok(_) => Err(usage("region")(&format!("\"{text}\" is none: write one such as eu-central-1"))),
        Err(error) => Err(usage("region")(&error)),
    }
}

/// A project that may deploy.
pub(crate) fn project(text: &str) -> Result<Projects, CliError> {
    Projects::try_from(text.to_owned()).map_err(|error| usage("project")(&error))
}

/// The URL of a GitLab instance, as the control plane takes it: without a slash at its end. AWS knows OpenID providers by https only
/// (<https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateOpenIDConnectProvider.html>).
pub(crate) fn gitlab_url(text: &str) -> Result<String, CliError> {
    let wrong = || CliError::Usage(format!("--gitlab-url: \"{text}\" is none: write https://gitlab.example.com"));
    let url = Url::parse(text).map_err(|_| wrong())?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.host_str().is_some_and(|host| !host.is_empty());
    if url.scheme() != "https" || !plain {
        return Err(wrong());
    }
    let text = url.as_str().trim_end_matches('/');
    Issuer::parse(text).map_err(|error| usage("gitlab-url")(&error))?;
    Ok(text.to_owned())
}

/// The files of gitlab/command/build.sh, and the input for each one's SHA-256.
const FILES: [(&str, &str); 2] =
    [("slipway-x86_64", "slipway_sha256_x86_64"), ("slipway-aarch64", "slipway_sha256_aarch64")];
/// What stands for the architecture in the address.
const ARCH: &str = "ARCH";

impl Download {
    /// The inputs of gitlab/slipway.yml that say it.
    fn inputs(&self) -> Result<Vec<(&'static str, String)>, CliError> {
        let mut inputs = vec![("slipway_url", self.checked_url()?.to_owned())];
        for (file, input) in FILES {
            if let Some(digest) = self.digest(file)? {
                inputs.push((input, digest.to_string()));
            }
        }
        if inputs.len() == 1 {
            let files = FILES.map(|(file, _)| file).join(" nor ");
            return Err(usage("command-sums")(&format!("it has neither {files}: give the SHA256SUMS of build.sh")));
        }
        Ok(inputs)
    }

    /// The address. Jobs put the architecture in the place of the first ARCH in it.
    fn checked_url(&self) -> Result<&str, CliError> {
        let text = self.url.as_str();
        let wrong = |why: &str| Err(usage("command-url")(&format!("\"{text}\" {why}")));
        let url = Url::parse(text).ok().filter(|url| ["https", "http"].contains(&url.scheme()));
        // As it is written, and not as the parser mends it.
        let is_plain = text.starts_with("http") && text.bytes().all(|b| b.is_ascii_graphic());
        let Some(url) = url.filter(|_| is_plain) else { return wrong("is none: write https://…/slipway-ARCH") };
        if text.matches(ARCH).count() != 1 {
            return wrong("has to have ARCH in it once, where x86_64 or aarch64 belongs");
        }
        if !url.username().is_empty() || url.password().is_some() {
            let why =
                "it has a user in it, and whoever reads the project reads it: the jobs download without signing in";
            return Err(usage("command-url")(&why));
        }
        Ok(text)
    }

    /// The digest of a file; lines of other files are somebody else's.
    fn digest(&self, file: &str) -> Result<Option<Digest>, CliError> {
        let mut found = None;
        for line in self.sums.lines() {
            let (digest, name) = line.split_once([' ', '\t']).unwrap_or(("", line));
            // sha256sum writes a blank or, for what was read as bytes, a star before the name.
            if name.trim().trim_start_matches('*') != file {
                continue;
            }
            let digest = Digest::new(digest).map_err(|error| usage("command-sums")(&format!("{file}: {error}")))?;
            if found.replace(digest.clone()).is_some_and(|known| known != digest) {
                return Err(usage("command-sums")(&format!("{file} has two digests")));
            }
        }
        Ok(found)
    }
}

impl Setting {
    fn of(answers: &Answers) -> Result<Self, CliError> {
        let mut targets = vec![(DEV, account("account", &answers.account)?, false)];
        if let Some(text) = &answers.staging_account {
            targets.push((STAGING, account("staging-account", text)?, true));
        }
        if let Some(text) = &answers.prod_account {
            targets.push((PROD, account("prod-account", text)?, true));
        }
        match (&answers.prod_account, answers.approvers.is_empty()) {
            (Some(_), true) => {
                return Err(CliError::Usage(
                    "nobody may approve in prod: give --approver login#number or --approver group/path, once for each"
                        .into(),
                ));
            }
            (None, false) => {
                return Err(CliError::Usage("--approver is for prod: give --prod-account, too".into()));
            }
            (Some(_), false) | (None, true) => {}
        }
        for approver in &answers.approvers {
            Approver::parse(approver).map_err(|error| usage("approver")(&error))?;
        }
        let control_plane = match &answers.control_plane_account {
            Some(text) => account("control-plane-account", text)?,
            None => account("account", &answers.account)?,
        };
        let external_id = answers.external_id.clone().unwrap_or_else(|| format!("slipway-{control_plane}"));
        // As template.yaml and setup/roles.yaml have it.
        let legal = |c: char| c.is_ascii_alphanumeric() || "+=,.@:/-".contains(c);
        if !(2..=64).contains(&external_id.len()) || !external_id.chars().all(legal) {
            return Err(CliError::Usage("--external-id has 2 to 64 of A-Z a-z 0-9 + = , . @ : / -".into()));
        }
        let project = project(&answers.project)?;
        let stages = stages(answers, &targets, &project)?;
        Ok(Self {
            targets,
            control_plane,
            region: region(&answers.region)?,
            gitlab: gitlab_url(&answers.gitlab_url)?,
            project,
            stack: StackName::new(&answers.stack).map_err(|error| usage("stack")(&error))?,
            external_id,
            stages,
            download: answers.download.as_ref().map(Download::inputs).transpose()?,
        })
    }

    /// The accounts, each once.
    fn accounts(&self) -> Vec<(&AccountId, bool, Vec<&'static str>)> {
        let mut accounts: Vec<(&AccountId, bool, Vec<&'static str>)> = Vec::new();
        for (stage, account, protected) in &self.targets {
            match accounts.iter_mut().find(|(known, _, _)| *known == account) {
                Some((_, _, stages)) => stages.push(stage),
                None => accounts.push((account, *protected, vec![stage])),
            }
        }
        accounts
    }

    /// What a job's `sub` begins with (<https://docs.gitlab.com/ci/secrets/id_token_authentication/>).
    fn subject(&self) -> String {
        match &self.project {
            Projects::Path(path) | Projects::Project { path, .. } => format!("project_path:{path}:*"),
            Projects::Below(group) => format!("project_path:{group}/*"),
        }
    }

    fn client_role(&self) -> String {
        let partition = partition(&self.region);
        format!("arn:{partition}:iam::{}:role/slipway/slipway-client", self.control_plane)
    }
}

/// The stages, as the control plane will read them.
fn stages(
    answers: &Answers,
    targets: &[(&'static str, AccountId, bool)],
    project: &Projects,
) -> Result<Value, CliError> {
    let stage = |name: &str, account: &AccountId, protected: bool| {
        let mut stage = match protected {
            false => json!({"account": account, "ephemeral": true, "expires_in": "7d", "projects": [project]}),
            true => json!({"account": account, "protected": true, "refs": [answers.branch], "projects": [project]}),
        };
        if name == PROD
            && let Some(fields) = stage.as_object_mut()
        {
            let approval = json!({"required": 1, "approvers": answers.approvers, "expires_in": "3d"});
            fields.insert("approval".to_owned(), approval);
        }
        stage
    };
    let mut stages = Map::new();
    for (name, account, protected) in targets {
        let name = StageName::new(*name).map_err(|error| CliError::Usage(error.to_string()))?;
        stages.insert(name.to_string(), stage(name.as_str(), account, *protected));
    }
    let stages = Value::Object(stages);
    Stages::parse(&stages.to_string()).map_err(|error| CliError::Usage(error.to_string()))?;
    Ok(stages)
}

/// The project's `.gitlab-ci.yml`.
fn include(answers: &Answers, setting: &Setting) -> String {
    // What JSON writes as a text, YAML reads as the same text.
    let text = |value: &str| Value::from(value).to_string();
    let stage = |name: &'static str| if setting.targets.iter().any(|(stage, ..)| *stage == name) { name } else { "" };
    let mut yaml = String::from("include:\n");
    match &answers.include_from {
        Some(project) => {
            let version = concat!("v", env!("CARGO_PKG_VERSION"));
            yaml.push_str(&format!(
                "  - project: {}\n    ref: {version}\n    file: /{PIPELINE_PATH}\n    inputs:\n",
                text(project)
            ));
        }
        None => yaml.push_str(&format!("  - local: {PIPELINE_PATH}\n    inputs:\n")),
    }
    if answers.api.is_none() {
        yaml.push_str("      # What the control plane's stack puts out as ApiFunction.\n");
    }
    let mut inputs = vec![
        ("api", answers.api.clone().unwrap_or_else(|| "<output ApiFunction>".to_owned())),
        ("region", setting.region.to_string()),
        ("role_arn", setting.client_role()),
        ("staging_stage", stage(STAGING).to_owned()),
        ("prod_stage", stage(PROD).to_owned()),
    ];
    inputs.extend(setting.download.clone().into_iter().flatten());
    if let Some(image) = &answers.image {
        inputs.extend([("slipway_image", image.clone()), ("build_image", image.clone())]);
    }
    for (name, value) in inputs {
        yaml.push_str(&format!("      {name}: {}\n", text(&value)));
    }
    if answers.image.is_none() && setting.download.is_none() {
        yaml.push_str(
            "      # The jobs need the command `slipway`: name images that have it (slipway_image, build_image), or where it is\n      \
             # downloaded from (slipway_url, slipway_sha256_x86_64, slipway_sha256_aarch64).\n",
        );
    }
    yaml
}

/// The commands, in their order.
fn steps(answers: &Answers, setting: &Setting) -> Vec<Step> {
    let Setting { control_plane, region, stack, external_id, .. } = setting;
    let here = format!("signed in to account {control_plane}");
    // Between double quotes, a shell acts on these.
    let stages = setting.stages.to_string();
    let stages = ['\\', '"', '$', '`'].iter().fold(stages, |text, c| text.replace(*c, &format!("\\{c}")));
    let accounts = setting.accounts();
    let targets = accounts.iter().map(|(account, ..)| account.as_str()).collect::<Vec<_>>().join(",");
    let describe = format!("aws cloudformation describe-stacks --region {region} --stack-name {stack}");
    let sam = format!(
        "sam deploy --stack-name {stack} --region {region} --capabilities CAPABILITY_NAMED_IAM --resolve-s3 --parameter-overrides \\"
    );
    let cloudformation = |name: &str, template: &str| {
        vec![
            format!("aws cloudformation deploy --region {region} --stack-name {name} \\"),
            format!("  --template-file {template} --capabilities CAPABILITY_NAMED_IAM --parameter-overrides \\"),
        ]
    };
    let mut steps = vec![Step {
        what: format!("The control plane: in a checkout of Slipway, {here}"),
        commands: vec![
            "sam build".to_owned(),
            sam.clone(),
            format!("  GitLabUrl={} ExternalId={external_id} TargetAccounts={targets} \\", quoted(&setting.gitlab)),
            format!("  \"Stages='{stages}'\""),
            format!(
                "output() {{ {describe} --query \"Stacks[0].Outputs[?OutputKey=='$1'].OutputValue\" --output text; }}"
            ),
            "api=$(output ApiFunction) bucket=$(output BucketName)".to_owned(),
            "deploy=$(output DeployMachine) teardown=$(output TeardownMachine)".to_owned(),
        ],
    }];
    for (account, protected, names) in &accounts {
        let mut commands = cloudformation("slipway-roles", "setup/roles.yaml");
        commands.push(format!(
            "  ControlPlaneAccount={control_plane} ControlPlaneName={stack} ExternalId={external_id} \\"
        ));
        commands.push(format!("  ReleaseBucket=\"$bucket\" Protected={protected}"));
        let what = format!("The roles of {}: in the same shell, signed in to account {account}", names.join(" and "));
        steps.push(Step { what, commands });
    }
    let host = setting.gitlab.trim_start_matches("https://");
    let mut commands = cloudformation("slipway-gitlab", "setup/gitlab.yaml");
    commands.push(format!("  GitLabHost={host} SubjectPattern={} ApiFunction=\"$api\" \\", quoted(&setting.subject())));
    commands.push("  DeployMachine=\"$deploy\" TeardownMachine=\"$teardown\"".to_owned());
    steps.push(Step { what: format!("GitLab's way in: in the same shell, {here}"), commands });
    if answers.prod_account.is_some() {
        let what = format!(
            "The approvers' way in: an application in GitLab, not confidential, of scope openid, with the redirect URI that echo prints; {here}"
        );
        let commands = vec![
            "echo \"$(output WebUrl)callback\"".to_owned(),
            sam,
            "  GitLabClientId='<its application id>'".to_owned(),
        ];
        steps.push(Step { what, commands });
    }
    if answers.api.is_none() {
        let what = "The project's .gitlab-ci.yml: put this in the place of <output ApiFunction>, and commit".to_owned();
        steps.push(Step { what, commands: vec!["echo \"$api\"".to_owned()] });
    }
    let doctor = format!("slipway doctor --stack {stack} --region {region}");
    steps.push(Step { what: format!("See whether it all fits: {here}"), commands: vec![doctor] });
    steps
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]
mod tests {
    use super::*;

    fn one_stage() -> Answers {
        Answers {
            account: "111111111111".into(),
            region: "eu-central-1".into(),
            gitlab_url: "https://gitlab.example.com/".into(),
            project: "group/news".into(),
            branch: "main".into(),
            stack: "slipway".into(),
            ..Answers::default()
        }
    }

    fn three_stages() -> Answers {
        Answers {
            staging_account: Some("222222222222".into()),
            prod_account: Some("333333333333".into()),
            approvers: vec!["release-manager#8".into(), "group/leads".into()],
            control_plane_account: Some("999999999999".into()),
            ..one_stage()
        }
    }

    fn commands(plan: &Plan) -> String {
        plan.steps.iter().flat_map(|step| &step.commands).fold(String::new(), |all, line| all + line + "\n")
    }

    #[test]
    fn one_account_is_one_stage_without_approval() {
        let plan = plan(&one_stage()).unwrap();
        assert_eq!(
            plan.files[0].text,
            r#"include:
  - local: gitlab/slipway.yml
    inputs:
      # What the control plane's stack puts out as ApiFunction.
      api: "<output ApiFunction>"
      region: "eu-central-1"
      role_arn: "arn:aws:iam::111111111111:role/slipway/slipway-client"
      staging_stage: ""
      prod_stage: ""
      # The jobs need the command `slipway`: name images that have it (slipway_image, build_image), or where it is
      # downloaded from (slipway_url, slipway_sha256_x86_64, slipway_sha256_aarch64).
"#
        );
        let stages: Value = serde_json::from_str(&plan.files[1].text).unwrap();
        let dev = json!({"account": "111111111111", "ephemeral": true, "expires_in": "7d", "projects": ["group/news"]});
        assert_eq!(stages, json!({"dev": dev}));
        assert_eq!((plan.files[2].path, plan.files[2].text.as_str()), ("gitlab/slipway.yml", PIPELINE));
        assert_eq!(
            commands(&plan),
            r#"sam build
sam deploy --stack-name slipway --region eu-central-1 --capabilities CAPABILITY_NAMED_IAM --resolve-s3 --parameter-overrides \
  GitLabUrl=https://gitlab.example.com ExternalId=slipway-111111111111 TargetAccounts=111111111111 \
  "Stages='{\"dev\":{\"account\":\"111111111111\",\"ephemeral\":true,\"expires_in\":\"7d\",\"projects\":[\"group/news\"]}}'"
output() { aws cloudformation describe-stacks --region eu-central-1 --stack-name slipway --query "Stacks[0].Outputs[?OutputKey=='$1'].OutputValue" --output text; }
api=$(output ApiFunction) bucket=$(output BucketName)
deploy=$(output DeployMachine) teardown=$(output TeardownMachine)
aws cloudformation deploy --region eu-central-1 --stack-name slipway-roles \
  --template-file setup/roles.yaml --capabilities CAPABILITY_NAMED_IAM --parameter-overrides \
  ControlPlaneAccount=111111111111 ControlPlaneName=slipway ExternalId=slipway-111111111111 \
  ReleaseBucket="$bucket" Protected=false
aws cloudformation deploy --region eu-central-1 --stack-name slipway-gitlab \
  --template-file setup/gitlab.yaml --capabilities CAPABILITY_NAMED_IAM --parameter-overrides \
  GitLabHost=gitlab.example.com SubjectPattern='project_path:group/news:*' ApiFunction="$api" \
  DeployMachine="$deploy" TeardownMachine="$teardown"
echo "$api"
slipway doctor --stack slipway --region eu-central-1
"#
        );
    }

    #[test]
    fn three_accounts_are_three_stages_and_people_approve_in_prod() {
        let plan = plan(&three_stages()).unwrap();
        let stages: Value = serde_json::from_str(&plan.files[1].text).unwrap();
        assert_eq!(stages["dev"]["ephemeral"], true);
        assert_eq!(
            stages["staging"],
            json!({"account": "222222222222", "protected": true, "refs": ["main"], "projects": ["group/news"]})
        );
        assert_eq!(stages["prod"]["approval"]["approvers"], json!(["release-manager#8", "group/leads"]));
        let include = &plan.files[0].text;
        for line in [
            r#"staging_stage: "staging""#,
            r#"prod_stage: "prod""#,
            r#"role_arn: "arn:aws:iam::999999999999:role/slipway/slipway-client""#,
        ] {
            assert!(include.contains(line), "{line}: {include}");
        }
        let commands = commands(&plan);
        let roles = commands.matches("ControlPlaneAccount=999999999999").count();
        let protected = commands.matches("Protected=true").count();
        assert_eq!((roles, protected, commands.matches("Protected=false").count()), (3, 2, 1), "{commands}");
        assert!(commands.contains("TargetAccounts=111111111111,222222222222,333333333333"), "{commands}");
        assert!(commands.contains("GitLabClientId="), "{commands}");
    }

    #[test]
    fn stages_that_share_an_account_have_its_roles_once() {
        let shared = Answers { prod_account: Some("222222222222".into()), ..three_stages() };
        let plan = plan(&shared).unwrap();
        let whats: Vec<_> =
            plan.steps.iter().map(|step| step.what.as_str()).filter(|what| what.contains("roles")).collect();
        assert_eq!(
            whats,
            [
                "The roles of dev: in the same shell, signed in to account 111111111111",
                "The roles of staging and prod: in the same shell, signed in to account 222222222222",
            ]
        );
    }

    #[test]
    fn where_the_pipeline_is_another_projects_no_copy_is_written() {
        let answers = Answers {
            include_from: Some("platform/slipway".into()),
            api: Some("arn:aws:lambda:eu-central-1:111111111111:function:api".into()),
            image: Some("registry.example.com/slipway:1".into()),
            project: "group/*".into(),
            region: "cn-north-1".into(),
            ..one_stage()
        };
        let plan = plan(&answers).unwrap();
        assert_eq!(
            plan.files.iter().map(|file| file.path).collect::<Vec<_>>(),
            [".gitlab-ci.yml", "slipway-stages.json"]
        );
        assert_eq!(
            plan.files[0].text,
            concat!(
                "include:\n  - project: \"platform/slipway\"\n    ref: v",
                env!("CARGO_PKG_VERSION"),
                r#"
    file: /gitlab/slipway.yml
    inputs:
      api: "arn:aws:lambda:eu-central-1:111111111111:function:api"
      region: "cn-north-1"
      role_arn: "arn:aws-cn:iam::111111111111:role/slipway/slipway-client"
      staging_stage: ""
      prod_stage: ""
      slipway_image: "registry.example.com/slipway:1"
      build_image: "registry.example.com/slipway:1"
"#
            )
        );
        let commands = commands(&plan);
        assert!(commands.contains("SubjectPattern='project_path:group/*'"), "{commands}");
        assert!(!commands.contains("echo"), "{commands}");
    }

    fn download(url: &str, sums: &str) -> Answers {
        Answers { download: Some(Download { url: url.into(), sums: sums.into() }), ..one_stage() }
    }

    #[test]
    fn a_download_is_named_with_the_digests_of_its_files() {
        let (one, other) = ("0a".repeat(32), "1b".repeat(32));
        let url = "https://gitlab.example.com/api/v4/projects/7/packages/generic/slipway/0.1.0/slipway-ARCH";
        let both = format!("{one}  slipway-aarch64\r\n{other} *slipway-x86_64\r\nno digest  slipway-x86_64.sig\n\n");
        let text = plan(&download(url, &both)).unwrap().files.remove(0).text;
        let inputs = format!(
            "      prod_stage: \"\"\n      slipway_url: \"{url}\"\n      slipway_sha256_x86_64: \"{other}\"\n      \
             slipway_sha256_aarch64: \"{one}\"\n"
        );
        assert!(text.ends_with(&inputs), "{text}");
        let text = plan(&download(url, &format!("{one}  slipway-aarch64\n"))).unwrap().files.remove(0).text;
        assert!(!text.contains("x86_64") && text.ends_with(&format!("slipway_sha256_aarch64: \"{one}\"\n")), "{text}");
    }

    #[test]
    fn a_download_that_no_job_could_use_is_refused() {
        let (url, sum) = ("https://example.com/slipway-ARCH", "0a".repeat(32));
        let sums = format!("{sum}  slipway-x86_64\n");
        for (url, sums, expected) in [
            ("slipway-ARCH", sums.as_str(), "--command-url: \"slipway-ARCH\" is none"),
            ("ftp://example.com/slipway-ARCH", &sums, "is none: write https://"),
            ("https://example.com/a b/slipway-ARCH", &sums, "is none"),
            ("https://example.com/slipway-x86_64", &sums, "has to have ARCH in it once"),
            ("https://example.com/ARCHIVE/slipway-ARCH", &sums, "has to have ARCH in it once"),
            ("https://me:secret@example.com/slipway-ARCH", &sums, "--command-url: it has a user in it"),
            (url, "", "--command-sums: it has neither slipway-x86_64 nor slipway-aarch64"),
            (url, &format!("{sum}  another-x86_64\n"), "it has neither"),
            (url, &format!("{}  slipway-x86_64\n", sum.to_uppercase()), "slipway-x86_64: digest"),
            (url, "0a0a  slipway-x86_64\n", "slipway-x86_64: digest \"0a0a\""),
            (url, "slipway-x86_64\n", "slipway-x86_64: digest \"\""),
            (url, &format!("{sums}{}  slipway-x86_64\n", "1b".repeat(32)), "has two digests"),
        ] {
            let error = plan(&download(url, sums)).unwrap_err();
            assert!(error.to_string().contains(expected) && error.exit_code() == 2, "{expected}: {error}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_before_anything_is_written() {
        let cases: [(Answers, &str); 14] = [
            (Answers { account: "1".into(), ..one_stage() }, "--account"),
            (Answers { region: "Frankfurt".into(), ..one_stage() }, "--region"),
            (Answers { region: "eu-central".into(), ..one_stage() }, "--region"),
            (Answers { region: "eu-central-10".into(), ..one_stage() }, "--region"),
            (Answers { region: "eu--1".into(), ..one_stage() }, "--region"),
            (Answers { gitlab_url: "http://gitlab.example.com".into(), ..one_stage() }, "--gitlab-url"),
            (Answers { gitlab_url: "https://gitlab.example.com/?x=y".into(), ..one_stage() }, "--gitlab-url"),
            (Answers { gitlab_url: "https://gitlab.example.com/@me".into(), ..one_stage() }, "--gitlab-url"),
            (Answers { project: "a\"b".into(), ..one_stage() }, "--project"),
            (Answers { stack: "1".into(), ..one_stage() }, "--stack"),
            (Answers { external_id: Some("a b".into()), ..one_stage() }, "--external-id"),
            (Answers { approvers: vec!["a b".into()], ..three_stages() }, "--approver"),
            (Answers { approvers: Vec::new(), ..three_stages() }, "nobody may approve"),
            (Answers { prod_account: Some("111111111111".into()), ..three_stages() }, "one protection class"),
        ];
        for (answers, expected) in cases {
            let error = plan(&answers).unwrap_err();
            assert!(error.to_string().contains(expected) && error.exit_code() == 2, "{expected}: {error}");
        }
    }
}
