//! What `slipway` and the functions `api` and `reader` say to each other. JSON, through `lambda:InvokeFunction`; an answer "no" is the
//! function's error, with a name of the closed set.
//!
//! A request is read strictly: who asks for what is not known here is told so. Of an answer, what is not known is passed over, since
//! a control plane may be newer than the commands that ask it, in all the projects there are.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::approval::Verdict;
use crate::audit::{Head, Row};
use crate::branch::Because;
use crate::cause::StackEvent;
use crate::deployment::{Action, Back, DeploymentId, Launch, Outcome};
use crate::environment::EnvironmentState;
use crate::expiry::Pin;
use crate::lease::Holder;
use crate::names::{
    ApplicationName, Digest, DnsLabel, EnvironmentKey, EnvironmentName, ProjectId, StackName, StageName,
};
use crate::registry::{Listed, PageToken, Past};
use crate::repair::{Asked, Found};
use crate::review::Review;
use crate::stages::Span;
use crate::teardown::Leftovers;

/// The most bytes that a request may have.
pub const MAX_REQUEST_BYTES: usize = 128 * 1024;
/// The most bytes of a job's name (GitLab's own limit is 255 characters).
pub const MAX_JOB_BYTES: usize = 1024;
/// The most bytes that parameters and tags may have together.
pub const MAX_VALUES_BYTES: usize = 64 * 1024;
/// The largest bundle that may be uploaded, in bytes.
pub const MAX_BUNDLE_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// The most deployments of one answer.
pub const MAX_HISTORY: u16 = 50;

/// A request of a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The job's GitLab ID token. It passes through `api` in memory and goes nowhere else.
    pub id_token: String,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// To deploy: answered by [`Admitted`].
    Deploy(DeployRequest),
    /// To tear down: answered by [`Admitted`].
    Teardown(TeardownRequest),
    /// What a teardown would do: answered by [`crate::teardown::Plan`].
    PlanTeardown(PlanRequest),
    /// To launch again what was live before: answered by [`Admitted`].
    Rollback(RollbackRequest),
    /// To look at a stack whose update could not be rolled back, or to go on with that: answered by [`Admitted`].
    Repair(RepairRequest),
    /// To take an environment's lease away from whoever holds it: answered by [`Unlocked`].
    Unlock(UnlockRequest),
    /// To change how long an environment lives: answered by [`KeptUntil`].
    Keep(KeepRequest),
    /// To look, which changes nothing.
    Look(Question),
}

/// What is looked at. A job looks at its own project's; a person, with AWS credentials, at any project's, through the function
/// `reader`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// How an environment, or one deployment on it, stands: answered by [`Status`].
    Status(StatusRequest),
    /// What is recorded of an environment: answered by [`AuditPage`].
    Audit(AuditRequest),
    /// Which environments there are: answered by [`EnvironmentsPage`].
    Environments(EnvironmentsRequest),
    /// What was done to an environment: answered by [`HistoryPage`].
    History(HistoryRequest),
    /// What an environment waits for: answered by [`Why`](crate::registry::Why).
    Why(WhyRequest),
}

/// A request to the function `reader`. Who may invoke it, IAM decides.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReaderRequest {
    /// Whose environments; only a list may be of all projects.
    pub project: Option<ProjectId>,
    /// What is looked at.
    pub look: Question,
}

/// Which environment of the job's own project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct On {
    /// The application.
    pub application: ApplicationName,
    /// The stage.
    pub stage: StageName,
    /// The environment.
    pub environment: EnvironmentName,
}

/// Asks to deploy.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// Where.
    pub on: On,
    /// The job's name.
    pub job: String,
    /// The bundle's size, in bytes: what may be uploaded is exactly that long.
    pub bundle_bytes: u64,
    /// What.
    pub launch: Launch,
}

/// Asks to tear down.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeardownRequest {
    /// Which.
    pub on: On,
    /// The job's name.
    pub job: String,
    /// Whether to delete the log groups of the stack's functions, too.
    #[serde(default)]
    pub purge_logs: bool,
}

/// Asks what a teardown would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// Which environment's.
    pub on: On,
}

/// Asks to launch again what was live before the last deployment that changed something.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// Where.
    pub on: On,
    /// The job's name.
    pub job: String,
}

/// Asks to repair.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepairRequest {
    /// Which environment's stack.
    pub on: On,
    /// The job's name.
    pub job: String,
    /// What is to be done.
    pub asked: Asked,
}

/// Asks to take a lease away.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnlockRequest {
    /// Which environment's.
    pub on: On,
    /// Whether to do it; otherwise it is only told who holds it.
    pub force: bool,
    /// Why, for the record: at most [`crate::approval::MAX_REASON_CHARS`] characters.
    pub reason: Option<String>,
}

/// Asks to change how long an environment lives.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepRequest {
    /// Which environment.
    pub on: On,
    /// How.
    pub keep: Keep,
}

/// How long an environment lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Keep {
    /// At least for a span from now on.
    Extend {
        /// How long, at most what the stage allows; that, when absent.
        span: Option<Span>,
    },
    /// For a span from now on, whatever it expires by.
    Pin {
        /// How long, at most [`crate::expiry::MAX_PIN`].
        span: Span,
        /// Why, for whoever wants it gone: from 1 to [`crate::approval::MAX_REASON_CHARS`] characters.
        reason: String,
    },
    /// No longer than it lives without a pin.
    Unpin {},
}

/// How long an environment lives now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeptUntil {
    /// Which.
    pub environment: EnvironmentKey,
    /// Until when.
    pub until: Option<Timestamp>,
    /// When it expires by itself.
    pub expires_at: Option<Timestamp>,
    /// Who keeps it for longer.
    pub pin: Option<Pin>,
}

/// Who held a lease.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unlocked {
    /// The environment.
    pub environment: EnvironmentKey,
    /// Who holds, or held, it; nobody when it is free.
    pub holder: Option<Holder>,
    /// Whether it was taken away.
    pub unlocked: bool,
}

/// Asks how things stand.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusRequest {
    /// Which environment.
    pub on: On,
    /// Which of its deployments; the last one when absent.
    #[serde(default)]
    pub deployment: Option<DeploymentId>,
}

/// Asks what is recorded.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRequest {
    /// Of which environment.
    pub on: On,
    /// The rows after this number; 0 for those from the first on.
    pub after: u64,
}

/// What is recorded of an environment: as many rows as fit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditPage {
    /// The environment.
    pub environment: EnvironmentKey,
    /// Rows, oldest first, without a gap unless the chain has one.
    pub rows: Vec<Row>,
    /// The head of the whole chain.
    pub head: Head,
}

/// Asks which environments there are.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentsRequest {
    /// Of which application; of all when absent.
    #[serde(default)]
    pub application: Option<ApplicationName>,
    /// In which stage.
    #[serde(default)]
    pub stage: Option<StageName>,
    /// That stand how.
    #[serde(default)]
    pub state: Option<EnvironmentState>,
    /// That expire within this span.
    #[serde(default)]
    pub expiring: Option<Span>,
    /// Whether also what was torn down.
    #[serde(default)]
    pub gone: bool,
    /// Where to go on: [`EnvironmentsPage::next`].
    #[serde(default)]
    pub page: Option<PageToken>,
}

/// Environments: those of a page that were asked for, which may be none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnvironmentsPage {
    /// The environments.
    pub environments: Vec<Listed>,
    /// Those whose rows this version of Slipway cannot read, by name.
    pub unreadable: Vec<String>,
    /// Where the list goes on; absent at its end.
    pub next: Option<PageToken>,
    /// The control plane's version; absent from one that is older than this.
    #[serde(default)]
    pub version: Option<String>,
}

/// Asks what was done to an environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryRequest {
    /// Which.
    pub on: On,
    /// The deployments before this one: [`HistoryPage::next`]. From the newest on when absent.
    #[serde(default)]
    pub before: Option<DeploymentId>,
    /// How many, at most [`MAX_HISTORY`].
    #[serde(default)]
    pub limit: Option<u16>,
}

/// What was done to an environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HistoryPage {
    /// Which.
    pub environment: EnvironmentKey,
    /// Its deployments, newest first.
    pub deployments: Vec<Past>,
    /// Those whose rows this version of Slipway cannot read, by id.
    pub unreadable: Vec<String>,
    /// Where the history goes on; absent at its end.
    pub next: Option<DeploymentId>,
}

/// Asks what an environment waits for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhyRequest {
    /// Which.
    pub on: On,
}

/// "Yes": how to go on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Admitted {
    /// The admission's id, for the execution's input.
    pub admission: Digest,
    /// The environment.
    pub environment: EnvironmentKey,
    /// The action, which leads the execution's name.
    pub action: Action,
    /// The verified pipeline, which is part of the execution's name.
    pub pipeline_id: u64,
    /// The state machine to start.
    pub state_machine_arn: String,
    /// Where to send the bundle first; absent when it is there.
    pub upload: Option<Upload>,
    /// Where a rollback goes back to.
    #[serde(default)]
    pub back: Option<Back>,
    /// The deployment that made what is live, where it did what is asked for: launched the same, or was a rollback. An earlier try
    /// of the same job that was this deployment is not to be done again.
    #[serde(default)]
    pub done_by: Option<DeploymentId>,
}

/// Where and how to send a bundle: one HTTP PUT.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Upload {
    /// The presigned URL. Whoever has it can upload this one bundle for a quarter of an hour: it is not logged.
    pub url: String,
    /// The headers that the signature covers.
    pub headers: BTreeMap<String, String>,
}

/// The input of both state machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecutionInput {
    /// The admission.
    pub admission: Digest,
    /// Which try of the job, from 1: part of the execution's name.
    pub attempt: u32,
}

/// How an environment, and one deployment on it, stand.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The environment.
    pub environment: EnvironmentKey,
    /// Its stack.
    pub stack_name: StackName,
    /// A label for its host name.
    pub dns_label: DnsLabel,
    /// Its state.
    pub state: EnvironmentState,
    /// What is live.
    pub release: Option<Digest>,
    /// The commit that is live.
    pub commit: Option<String>,
    /// The branch or tag that it came from.
    pub ref_name: Option<String>,
    /// The login of who deployed it.
    pub deployed_by: Option<String>,
    /// When it became live.
    pub deployed_at: Option<Timestamp>,
    /// Where it answers.
    pub url: Option<String>,
    /// The stack's outputs.
    pub outputs: BTreeMap<String, String>,
    /// When it is torn down, unless it is deployed or kept anew; never when absent.
    pub expires_at: Option<Timestamp>,
    /// Why its end came before its time, if it did.
    #[serde(default)]
    pub expired_because: Option<Because>,
    /// Who keeps it for longer than it would live, if anybody.
    pub pin: Option<Pin>,
    /// The deployment that was asked for, or the last.
    pub deployment: Option<DeploymentStatus>,
}

/// How one deployment stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeploymentStatus {
    /// Which.
    pub id: DeploymentId,
    /// What it does.
    pub action: Action,
    /// The account that it does it in.
    pub account: String,
    /// When it began.
    pub started_at: Timestamp,
    /// Who holds the environment, while it waits for that.
    #[serde(default)]
    pub waits_for: Option<Holder>,
    /// What it did that nobody asked for, one sentence each.
    #[serde(default)]
    pub said: Vec<String>,
    /// How it ended, if it did.
    pub outcome: Option<Outcome>,
    /// The stack's status when it was last looked at.
    pub stack_status: Option<String>,
    /// What a repair found.
    #[serde(default)]
    pub found: Option<Found>,
    /// What a teardown left behind, as far as it is known.
    #[serde(default)]
    pub leftovers: Leftovers,
    /// Stack events of this deployment, oldest first.
    pub events: Vec<StackEvent>,
    /// What its change set would do.
    pub review: Option<Review>,
    /// Where a person decides, while it waits for that.
    pub approval_url: Option<String>,
    /// Until when.
    pub approval_until: Option<Timestamp>,
    /// How many people have to approve, and who may, while it waits for that.
    #[serde(default)]
    pub approval_wants: Option<String>,
    /// Who approved already, while more people have to.
    #[serde(default)]
    pub approval_progress: Option<String>,
    /// How people answered.
    #[serde(default)]
    pub approval_verdict: Option<Verdict>,
    /// Who did, and when; or why nobody can any more.
    #[serde(default)]
    pub approval_answer: Option<String>,
}
