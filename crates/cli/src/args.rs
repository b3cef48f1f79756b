//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const AFTER: &str = "\
Exit codes:
    0  as asked: the stack is live, the environment is gone, the decision is recorded
    1  it failed; the last lines say why, and what to do next
    2  the command line, the environment or a file of settings is wrong
    3  refused: NotAllowed, StageProtected, UnknownStage, InvalidToken or TooManyEnvironments
    4  with --no-wait, and after an approval with --follow: the deployment awaits the approval of a person, or of one more
  255  `slipway package` failed: as `aws cloudformation package`
  130  interrupted: the deployment goes on, and the last line says how to follow it again
  143  the same, by SIGTERM

Settings come from flags, then from the environment, then from GitLab's predefined variables:
  SLIPWAY_STAGE                the stage
  SLIPWAY_APPLICATION          the application            (CI_PROJECT_NAME)
  SLIPWAY_ENVIRONMENT          the environment            (CI_ENVIRONMENT_NAME, else the stage)
  SLIPWAY_API                  name or ARN of the control plane's function `api`
  SLIPWAY_ROLE_ARN             the role to assume with the job's ID token
  SLIPWAY_ID_TOKEN             the job's ID token: from `id_tokens:`, never on the command line
  SLIPWAY_READER               without an ID token: name or ARN of the function `reader`, asked with AWS credentials
  SLIPWAY_PROJECT              for that: the GitLab project's number
  SLIPWAY_TEMPLATE, SLIPWAY_BUNDLE, SLIPWAY_CONFIG_FILE, SLIPWAY_CONFIG_ENV, SLIPWAY_PARAMETER_OVERRIDES, SLIPWAY_TAGS,
  SLIPWAY_CAPABILITIES, SLIPWAY_EXPIRES_IN, SLIPWAY_DOTENV, SLIPWAY_REVIEW, SLIPWAY_JUNIT   as the flags of `slipway deploy`
  AWS_REGION                   the control plane's region (else that of an ARN in SLIPWAY_API)
  NO_COLOR                     no progress line on a terminal
  SLIPWAY_POLL_MILLIS          how often to look, in milliseconds, where 2 s to 10 s is too slow
  SLIPWAY_CONNECT_TO           for tests: host:port of this machine that answers for the approval link, by plain HTTP";

/// Launches SAM applications into AWS accounts from GitLab.
#[derive(Debug, Parser)]
#[command(name = "slipway", version, about, after_help = AFTER, max_term_width = 110)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Print one JSON document at the end on stdout; everything else goes to stderr
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// A command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Put what a template references into a file, for `slipway deploy --bundle` of later jobs
    #[command(after_help = "\
Built once, deployed to every stage: the same application makes the same file, whoever makes it, wherever and whenever.

Example:
  slipway bundle --template .aws-sam/build/template.yaml
  slipway deploy --stage staging --bundle slipway-bundle.zip")]
    Bundle(BundleUp),
    /// Bundle what a template references, and make it live in an environment
    #[command(after_help = "\
Examples:
  slipway deploy --stage dev --environment review/feature-x
  slipway deploy --stage staging --template .aws-sam/build/template.yaml --parameter-overrides Size=2 Motto='to the sea'
  slipway deploy --stage prod --until approval      # ends green once a person is asked

samconfig.toml: parameter_overrides, tags and capabilities of [<config env>.deploy.parameters] are used; flags and
environment variables win over it.")]
    Deploy(Deploy),
    /// Delete an environment with its stack
    #[command(after_help = "\
Empties the stack's buckets, deletes the stack, and says what is left, with the command that removes it. It needs no checkout and no
files: docs/ENVIRONMENTS.md.

Examples:
  slipway teardown --stage dev --environment review/feature-x
  slipway teardown --stage dev --environment review/feature-x --dry-run    # changes nothing, and waits for nobody")]
    Teardown(Teardown),
    /// Make live again what was live before, through the same review
    #[command(after_help = "\
Launches the release and the parameters of the deployment before the one that is live, and says first which. Retried, the same job
changes nothing more; another job's rollback goes forth again.

Example:
  slipway rollback --stage prod")]
    Rollback(Rollback),
    /// Show why a stack's update could not be rolled back and, with --retry or --skip, go on with that
    #[command(after_help = "\
A stack that is UPDATE_ROLLBACK_FAILED takes no deployment until its rollback is finished. Without --retry and --skip nothing is
changed. A resource that is skipped stays as it is now, and CloudFormation counts it as rolled back.

Examples:
  slipway repair --stage prod
  slipway repair --stage prod --retry
  slipway repair --stage prod --skip Queue,slipway-news-prod-Child-1X2Y3Z.Topic")]
    Repair(Repair),
    /// Show who holds an environment and, with --force, take it away from them
    #[command(after_help = "\
A deployment gives the environment back by itself, also when it fails or is stopped. Taken away by force, it is told so at its next
step and ends there; CloudFormation goes on with what it was asked to do.

Example:
  slipway unlock --stage prod --force --reason 'its account is closed'")]
    Unlock(Unlock),
    /// Let an environment live for longer than it would
    #[command(after_help = "\
From now on, and for at most as long as the stage lets one live after a deployment. It never lives shorter than before.

Example:
  slipway extend --stage dev --environment review/feature-x --for 3d")]
    Extend(Extend),
    /// Keep an environment until a time, whatever it expires by: nobody tears it down meanwhile
    #[command(
        after_help = "Example:\n  slipway pin --stage dev --environment review/demo --for 14d --reason 'shown at the fair'"
    )]
    Pin(Pin),
    /// Keep an environment no longer than it lives without its pin
    #[command(after_help = "Example:\n  slipway unpin --stage dev --environment review/demo")]
    Unpin(Unpin),
    /// Run the cleanup now, show what it would do, or let go what it held back
    #[command(after_help = "\
The cleanup runs by itself. It is for a person with AWS credentials who may invoke it. It deletes nothing where more environments have
expired at once than it may delete unseen: look at them with --dry-run, keep those that should not go with `slipway pin`, and confirm.

Examples:
  slipway sweep --dry-run
  slipway sweep --confirm")]
    Sweep(Sweep),
    /// Show an environment and its last deployment
    #[command(after_help = "Example:\n  slipway status --stage prod --json")]
    Status(Status),
    /// List the environments that there are
    #[command(after_help = "\
A job sees its own project's. With AWS credentials and --reader, a person sees every project's, or those of --project.

Examples:
  slipway environments --stage dev --expiring 24h
  slipway environments --reader slipway-ReaderFunction --json")]
    Environments(Environments),
    /// Show what was done to an environment, the newest first
    #[command(after_help = "Example:\n  slipway history --stage dev --environment review/feature-x")]
    History(History),
    /// Say what an environment waits for, on whom, since when and until when
    #[command(after_help = "Example:\n  slipway why --stage prod")]
    Why(Why),
    /// Print the DNS label of an environment, without asking anybody
    #[command(after_help = "\
The same for the same environment, another one for each other, and known before the first deployment: for a template that makes a host
name of it.

Example:
  slipway deploy --stage dev --parameter-overrides HostLabel=$(slipway dns-label --stage dev)")]
    DnsLabel(DnsLabel),
    /// Follow a deployment to its end: the environment's last one, or an execution
    #[command(after_help = "\
Examples:
  slipway follow --stage prod
  slipway follow --stage dev --environment review/x --execution arn:aws:states:eu-central-1:999999999999:execution:…")]
    Follow(Follow),
    /// Approve the change set that a deployment waits with
    #[command(after_help = "\
Examples:
  slipway approve --stage prod --reason 'reviewed in !42' --follow
  slipway approve --url https://…/a/… --aws      # as an AWS principal that the stage lists")]
    Approve(Decide),
    /// Reject the change set that a deployment waits with
    #[command(after_help = "Example:\n  slipway reject --stage prod --reason 'wait for the release notes'")]
    Reject(Decide),
    /// Show who did what to an environment, or prove that nothing of it was changed since
    #[command(after_help = "\
Each act carries the hash of the one before. Who can write the whole table could write all of it anew: note the head elsewhere now and
then, and give it with --noted.

Examples:
  slipway audit --stage prod
  slipway audit verify --stage prod --noted 12:4f0c…")]
    Audit(Audit),
    /// Write a project's pipeline and stages, and print the commands that set the control plane up
    #[command(after_help = "\
Asks for what the flags do not say, on a terminal. Nothing that is there is overwritten without --force, and nothing in AWS is touched:
the commands that do are printed, to be run in a checkout of Slipway.

Examples:
  slipway init --account 111111111111 --region eu-central-1 --gitlab-url https://gitlab.example.com --project group/news
  slipway init --command-url https://downloads.example.com/slipway-ARCH --command-sums target/command/SHA256SUMS
  slipway init --account 111111111111 --staging-account 222222222222 --prod-account 333333333333 \\
    --control-plane-account 999999999999 --approver release-manager#8 --approver group/leads \\
    --region eu-central-1 --gitlab-url https://gitlab.example.com --project 'group/*'")]
    Init(Init),
    /// See whether everything fits together: each line is ok, or says what to do
    #[command(after_help = "\
It changes nothing. A person with AWS credentials in the control plane's account sees all of it, if they may look at the stack, its
parameter, roles, and bucket (with the policy of its KMS key, where it has one), and invoke the function that is its output
TeardownFunction: the target accounts let in the control plane alone, and so that tries their roles. A job, with its ID token, sees
whether AWS and the control plane believe it, and whether the control plane's version is that of the command.

The exit code is 1 where a line is broken; a warning changes nothing of it.

Examples:
  slipway doctor --region eu-central-1
  slipway doctor --stack slipway --profile tooling --json")]
    Doctor(Doctor),
    /// Print what makes a shell complete commands and flags
    #[command(after_help = "\
Examples:
  slipway completions bash > /etc/bash_completion.d/slipway
  source <(slipway completions zsh)")]
    Completions(Completions),
    /// Put an application's artifacts into a bucket, and write its template with their S3 locations
    #[command(after_help = "\
Takes the place of `aws cloudformation package`, without Slipway's control plane: docs/PACKAGING.md. Credentials are looked for in the
usual places.

Examples:
  slipway package --template-file template.yaml --s3-bucket my-bucket --output-template-file packaged.yaml
  slipway package --s3-bucket my-bucket --s3-prefix news --use-json > packaged.json")]
    Package(Package),
}

/// `slipway completions`
#[derive(Debug, Clone, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

/// `slipway doctor`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Doctor {
    /// The name of the control plane's stack
    #[arg(long, default_value = "slipway", value_name = "NAME")]
    pub(crate) stack: String,
    /// Its region (default: AWS_REGION, or the profile's)
    #[arg(long, value_name = "NAME")]
    pub(crate) region: Option<String>,
    /// The profile of the AWS configuration files
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// The name of the role that jobs assume
    #[arg(long, default_value = "slipway-client", value_name = "NAME")]
    pub(crate) client_role: String,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// `slipway init`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Init {
    /// The account of dev, whose environments come and go
    #[arg(long, value_name = "ACCOUNT", help_heading = "Accounts")]
    pub(crate) account: Option<String>,
    /// The account of staging, which is protected (default: there is no such stage)
    #[arg(long, value_name = "ACCOUNT", help_heading = "Accounts")]
    pub(crate) staging_account: Option<String>,
    /// The account of prod, which is protected, and where people approve (default: there is no such stage)
    #[arg(long, value_name = "ACCOUNT", help_heading = "Accounts")]
    pub(crate) prod_account: Option<String>,
    /// The control plane's account (default: that of dev)
    #[arg(long, value_name = "ACCOUNT", help_heading = "Accounts")]
    pub(crate) control_plane_account: Option<String>,
    /// The region of everything
    #[arg(long, value_name = "NAME", help_heading = "Accounts")]
    pub(crate) region: Option<String>,
    /// The GitLab instance
    #[arg(long, value_name = "URL", help_heading = "GitLab")]
    pub(crate) gitlab_url: Option<String>,
    /// The project that deploys: its path, or path#number, or group/* for all below a group
    #[arg(long, value_name = "PATH", help_heading = "GitLab")]
    pub(crate) project: Option<String>,
    /// Who may approve in prod: login#number, or a group's path; once for each
    #[arg(long, value_name = "WHO", help_heading = "GitLab")]
    pub(crate) approver: Vec<String>,
    /// The project's default branch, which the pipeline deploys to staging and prod
    #[arg(long, default_value = "main", value_name = "NAME", help_heading = "GitLab")]
    pub(crate) branch: String,
    /// The project that the pipeline is included from (default: a copy of it is written)
    #[arg(long, value_name = "PATH", help_heading = "GitLab")]
    pub(crate) include_from: Option<String>,
    /// The image of the jobs, which has `slipway` and what builds the application
    #[arg(long, value_name = "IMAGE", help_heading = "GitLab")]
    pub(crate) image: Option<String>,
    /// Where the jobs download `slipway` from instead: https://…/slipway-ARCH, where ARCH stands for x86_64 or aarch64
    #[arg(long, value_name = "URL", requires = "command_sums", conflicts_with = "image", help_heading = "GitLab")]
    pub(crate) command_url: Option<String>,
    /// The SHA256SUMS of what is there, as gitlab/command/build.sh writes it
    #[arg(long, value_name = "FILE", requires = "command_url", conflicts_with = "image", help_heading = "GitLab")]
    pub(crate) command_sums: Option<PathBuf>,
    /// The control plane's output ApiFunction, where it is deployed already
    #[arg(long, value_name = "FUNCTION")]
    pub(crate) api: Option<String>,
    /// The name of the control plane's stack
    #[arg(long, default_value = "slipway", value_name = "NAME")]
    pub(crate) stack: String,
    /// What the roles in the target accounts ask for (default: slipway- and the control plane's account)
    #[arg(long, value_name = "TEXT")]
    pub(crate) external_id: Option<String>,
    /// The project's folder
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
    /// Overwrite files that are there
    #[arg(long)]
    pub(crate) force: bool,
}

/// `slipway package`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Package {
    /// The template (default: .aws-sam/build/template.yaml if it exists, else template.yaml, .yml or .json)
    #[arg(long, visible_alias = "template", value_name = "FILE")]
    pub(crate) template_file: Option<PathBuf>,
    /// The bucket that artifacts go to
    #[arg(long, value_name = "NAME")]
    pub(crate) s3_bucket: String,
    /// What their keys begin with, before a slash
    #[arg(long, default_value = "", hide_default_value = true, value_name = "PREFIX")]
    pub(crate) s3_prefix: String,
    /// Encrypt them with this KMS key, instead of the bucket's default
    #[arg(long, value_name = "KEY")]
    pub(crate) kms_key_id: Option<String>,
    /// Where to write the packaged template (default: stdout)
    #[arg(long, value_name = "FILE")]
    pub(crate) output_template_file: Option<PathBuf>,
    /// Write the packaged template as JSON
    #[arg(long)]
    pub(crate) use_json: bool,
    /// Send also what is in the bucket already
    #[arg(long)]
    pub(crate) force_upload: bool,
    /// Metadata of the objects that are sent: name=value,name=value or a JSON object
    #[arg(long, value_name = "MAP")]
    pub(crate) metadata: Option<String>,
    /// The bucket's region (default: AWS_REGION, or the profile's)
    #[arg(long, value_name = "NAME")]
    pub(crate) region: Option<String>,
    /// The profile of the AWS configuration files
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
}

/// Who asks, and whom.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Connection {
    /// Name or ARN of the control plane's function `api` (SLIPWAY_API)
    #[arg(long, value_name = "FUNCTION", help_heading = "Connection")]
    pub(crate) api: Option<String>,
    /// The role to assume with the ID token; without it, AWS credentials are looked for in the usual places (SLIPWAY_ROLE_ARN)
    #[arg(long, value_name = "ARN", help_heading = "Connection")]
    pub(crate) role_arn: Option<String>,
    /// A file with the GitLab ID token, instead of the variable SLIPWAY_ID_TOKEN
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    pub(crate) id_token_file: Option<PathBuf>,
}

/// Which environment.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Where {
    /// The stage: an account and a policy, as the platform team configured them (SLIPWAY_STAGE)
    #[arg(long, value_name = "NAME", help_heading = "Where")]
    pub(crate) stage: Option<String>,
    /// The application: one template of the project (SLIPWAY_APPLICATION; CI_PROJECT_NAME)
    #[arg(long, value_name = "NAME", help_heading = "Where")]
    pub(crate) application: Option<String>,
    /// The environment: one live copy of the application (SLIPWAY_ENVIRONMENT; CI_ENVIRONMENT_NAME, else the stage)
    #[arg(long, value_name = "NAME", help_heading = "Where")]
    pub(crate) environment: Option<String>,
}

/// Until when a deployment is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Until {
    /// To its end.
    #[default]
    End,
    /// Until it awaits a person's approval, or ends.
    Approval,
}

/// How a deployment is followed.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Following {
    /// Stop following, with exit code 0, once the deployment awaits a person's approval
    #[arg(long, value_enum, default_value = "end", value_name = "WHEN")]
    pub(crate) until: Until,
    /// Like --until approval, with exit code 4, to tell it from a stack that is live
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Where to write the environment's URL and outputs for later jobs (SLIPWAY_DOTENV, default: slipway.env)
    #[arg(long, value_name = "FILE")]
    pub(crate) dotenv: Option<PathBuf>,
    /// Where to write what the change set changes, as Markdown (SLIPWAY_REVIEW)
    #[arg(long, value_name = "FILE")]
    pub(crate) review: Option<PathBuf>,
    /// Where to write the steps and the resources as a JUnit report (SLIPWAY_JUNIT)
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
}

/// `slipway bundle`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct BundleUp {
    /// The template (default: .aws-sam/build/template.yaml if it exists, else template.yaml, .yml or .json)
    #[arg(long, value_name = "FILE")]
    pub(crate) template: Option<PathBuf>,
    /// Where to write it (SLIPWAY_BUNDLE, default: slipway-bundle.zip)
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// `slipway deploy`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Deploy {
    #[command(flatten)]
    pub(crate) at: Where,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) following: Following,
    /// The template (default: .aws-sam/build/template.yaml if it exists, else template.yaml, .yml or .json)
    #[arg(long, value_name = "FILE", help_heading = "What")]
    pub(crate) template: Option<PathBuf>,
    /// The file that `slipway bundle` wrote, instead of a template and what that references (SLIPWAY_BUNDLE)
    #[arg(long, value_name = "FILE", help_heading = "What", conflicts_with = "template")]
    pub(crate) bundle: Option<PathBuf>,
    /// The file with the parameters of each stage (default: samconfig.toml, if it exists)
    #[arg(long, value_name = "FILE", help_heading = "What")]
    pub(crate) config_file: Option<PathBuf>,
    /// The section of that file (default: the stage's name)
    #[arg(long, value_name = "NAME", help_heading = "What")]
    pub(crate) config_env: Option<String>,
    /// Parameters of the template
    #[arg(long, num_args = 1.., value_name = "NAME=VALUE", help_heading = "What")]
    pub(crate) parameter_overrides: Vec<String>,
    /// Tags of the stack
    #[arg(long, num_args = 1.., value_name = "KEY=VALUE", help_heading = "What")]
    pub(crate) tags: Vec<String>,
    /// What the template may do only when asked for by name
    #[arg(long, num_args = 1.., value_name = "CAPABILITY", help_heading = "What")]
    pub(crate) capabilities: Vec<String>,
    /// When the environment expires after this deployment: 12h, 7d (default: the stage's)
    #[arg(long, value_name = "SPAN", help_heading = "What")]
    pub(crate) expires_in: Option<String>,
    /// The job's name: the same job of the same pipeline joins its own deployment (CI_JOB_NAME, default: manual)
    #[arg(long, value_name = "NAME")]
    pub(crate) job: Option<String>,
    /// Return once the deployment is started
    #[arg(long, conflicts_with_all = ["until", "no_wait"])]
    pub(crate) no_follow: bool,
}

/// `slipway teardown`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Teardown {
    #[command(flatten)]
    pub(crate) at: Where,
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Show every resource and what would become of it, and change nothing
    #[arg(long, conflicts_with_all = ["purge_logs", "no_follow"])]
    pub(crate) dry_run: bool,
    /// Delete the log groups of the stack's functions, too
    #[arg(long)]
    pub(crate) purge_logs: bool,
    /// The job's name: the same job of the same pipeline joins its own teardown (CI_JOB_NAME, default: manual)
    #[arg(long, value_name = "NAME")]
    pub(crate) job: Option<String>,
    /// Return once the teardown is started
    #[arg(long)]
    pub(crate) no_follow: bool,
}

/// `slipway rollback`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Rollback {
    #[command(flatten)]
    pub(crate) at: Where,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) following: Following,
    /// The job's name: the same job of the same pipeline joins its own rollback (CI_JOB_NAME, default: manual)
    #[arg(long, value_name = "NAME")]
    pub(crate) job: Option<String>,
    /// Return once the rollback is started
    #[arg(long, conflicts_with_all = ["until", "no_wait"])]
    pub(crate) no_follow: bool,
}

/// `slipway repair`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Repair {
    #[command(flatten)]
    pub(crate) at: Where,
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Go on with the rollback, and try each resource again
    #[arg(long)]
    pub(crate) retry: bool,
    /// Go on without these resources, named as `slipway repair` shows them, and try the others again
    #[arg(long, value_delimiter = ',', num_args = 1.., value_name = "RESOURCE")]
    pub(crate) skip: Vec<String>,
    /// The job's name: the same job of the same pipeline joins its own repair (CI_JOB_NAME, default: manual)
    #[arg(long, value_name = "NAME")]
    pub(crate) job: Option<String>,
    /// Return once the repair is started
    #[arg(long)]
    pub(crate) no_follow: bool,
}

/// `slipway unlock`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Unlock {
    #[command(flatten)]
    pub(crate) at: Where,
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Take it away; without it, only show who holds it
    #[arg(long)]
    pub(crate) force: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", requires = "force")]
    pub(crate) reason: Option<String>,
}

/// How somebody looks who has no job.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Reading {
    /// Name or ARN of the control plane's function `reader`, to ask with AWS credentials instead of an ID token (SLIPWAY_READER)
    #[arg(long, value_name = "FUNCTION", help_heading = "Connection")]
    pub(crate) reader: Option<String>,
    /// The GitLab project's number, with --reader: a job sees its own project only (SLIPWAY_PROJECT)
    #[arg(long, value_name = "NUMBER", help_heading = "Where")]
    pub(crate) project: Option<u64>,
}

/// `slipway extend`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Extend {
    #[command(flatten)]
    pub(crate) at: Where,
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// For how long from now on: 12h, 7d (default: the stage's)
    #[arg(long = "for", value_name = "SPAN")]
    pub(crate) span: Option<String>,
}

/// `slipway pin`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Pin {
    #[command(flatten)]
    pub(crate) at: Where,
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// For how long from now on: 12h, 7d, at most 90d
    #[arg(long = "for", value_name = "SPAN")]
    pub(crate) span: String,
    /// Why, for whoever wants it gone
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

/// `slipway unpin`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Unpin {
    #[command(flatten)]
    pub(crate) at: Where,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// `slipway sweep`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Sweep {
    /// Name or ARN of the control plane's function `sweep` (SLIPWAY_SWEEP)
    #[arg(long, value_name = "FUNCTION", help_heading = "Connection")]
    pub(crate) function: Option<String>,
    /// Show what it would do, and do nothing
    #[arg(long, conflicts_with = "confirm")]
    pub(crate) dry_run: bool,
    /// Let go what it held back
    #[arg(long)]
    pub(crate) confirm: bool,
}

/// `slipway status`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) at: Where,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

/// How an environment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    /// Its first deployment has not ended
    New,
    /// Its last deployment succeeded
    Live,
    /// Its last deployment failed; what was live before may still be
    Failed,
    /// It is gone
    TornDown,
}

/// `slipway environments`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Environments {
    /// Only those in this stage
    #[arg(long, value_name = "NAME")]
    pub(crate) stage: Option<String>,
    /// Only those of this application
    #[arg(long, value_name = "NAME")]
    pub(crate) application: Option<String>,
    /// Only those that stand so
    #[arg(long, value_enum, value_name = "STATE")]
    pub(crate) state: Option<State>,
    /// Only those that expire within this span: 12h, 7d
    #[arg(long, value_name = "SPAN")]
    pub(crate) expiring: Option<String>,
    /// Also those that were torn down
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

/// `slipway history`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct History {
    #[command(flatten)]
    pub(crate) at: Where,
    /// How many deployments; 0 for all
    #[arg(long, default_value_t = 20, value_name = "NUMBER")]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

/// `slipway dns-label`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DnsLabel {
    #[command(flatten)]
    pub(crate) at: Where,
    /// The GitLab project's number (SLIPWAY_PROJECT; CI_PROJECT_ID)
    #[arg(long, value_name = "NUMBER", help_heading = "Where")]
    pub(crate) project: Option<u64>,
}

/// `slipway why`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Why {
    #[command(flatten)]
    pub(crate) at: Where,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

/// What is done with the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum AuditAction {
    /// Show it.
    #[default]
    Show,
    /// Prove that it is whole.
    Verify,
}

/// `slipway audit`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Audit {
    /// What to do with the record
    #[arg(value_enum, default_value = "show", hide_default_value = true)]
    pub(crate) action: AuditAction,
    #[command(flatten)]
    pub(crate) at: Where,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) reading: Reading,
    /// With verify: a head that was shown earlier, and has to be in the chain
    #[arg(long, value_name = "NUMBER:HASH")]
    pub(crate) noted: Vec<String>,
}

/// `slipway follow`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Follow {
    #[command(flatten)]
    pub(crate) at: Where,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) following: Following,
    /// The execution to follow (default: the environment's last deployment)
    #[arg(long, value_name = "ARN", conflicts_with = "deployment")]
    pub(crate) execution: Option<String>,
    /// The deployment to follow: SLIPWAY_DEPLOYMENT of the dotenv report of the job that began it
    #[arg(long, value_name = "ID")]
    pub(crate) deployment: Option<String>,
}

/// `slipway approve` and `slipway reject`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Decide {
    #[command(flatten)]
    pub(crate) at: Where,
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// The approval's link, with --aws; a job's is that of the environment's waiting deployment
    #[arg(long, value_name = "LINK", requires = "aws")]
    pub(crate) url: Option<String>,
    /// Decide as the AWS role or user whose credentials are found in the usual places, instead of with a job's ID token
    #[arg(long, requires = "url", conflicts_with = "follow")]
    pub(crate) aws: bool,
    /// The deployment that is decided on, instead of the environment's last one: SLIPWAY_DEPLOYMENT of the dotenv report of the job that
    /// began it
    #[arg(long, value_name = "ID", conflicts_with = "url")]
    pub(crate) deployment: Option<String>,
    /// Why, for the record (SLIPWAY_REASON)
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Follow the deployment to its end afterwards; with exit code 4, at once, where one more has to approve
    #[arg(long)]
    pub(crate) follow: bool,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_explained() {
        Cli::command().debug_assert();
        let help = Cli::command().render_long_help().to_string();
        for text in ["Exit codes", "SLIPWAY_STAGE", "SLIPWAY_API", "deploy", "teardown", "approve"] {
            assert!(help.contains(text), "{text}: {help}");
        }
    }

    #[test]
    fn lists_take_several_values() {
        let cli =
            Cli::try_parse_from(["slipway", "deploy", "--parameter-overrides", "A=1", "B=x y", "--json"]).unwrap();
        assert!(cli.json);
        let Command::Deploy(deploy) = cli.command else { unreachable!() };
        assert_eq!(deploy.parameter_overrides, ["A=1", "B=x y"]);
    }

    #[test]
    fn what_to_skip_is_separated_by_commas_or_spaces() {
        for skip in [&["A,b-C.D"][..], &["A", "b-C.D"]] {
            let cli = Cli::try_parse_from([&["slipway", "repair", "--skip"], skip].concat()).unwrap();
            let Command::Repair(repair) = cli.command else { unreachable!() };
            assert_eq!((repair.skip, repair.retry), (vec!["A".to_owned(), "b-C.D".to_owned()], false));
        }
        assert!(Cli::try_parse_from(["slipway", "repair", "--skip"]).is_err());
    }

    #[test]
    fn a_token_is_never_taken_from_the_command_line() {
        assert!(Cli::try_parse_from(["slipway", "status", "--id-token", "x"]).is_err());
    }
}
