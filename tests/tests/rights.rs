//! Every Allow statement of every role in template.yaml and setup/ is needed: each is taken away, in the running control
//! plane, and something that has to work does not work any more. Where a statement lists several actions, resources, names
//! or accounts, each of them is taken away by itself.
//!
//! Three tables say what is expected: [`CASES`], [`NOT_ENFORCED`] and [`NOT_DEPLOYED`]. docs/SECURITY.md shows them;
//! `SLIPWAY_BLESS=1 cargo test --workspace --test rights docs` writes them there anew. `SLIPWAY_ONLY=slipway-web` tries only
//! the roles whose name contains that.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test may, and its time is now"
)]
#![allow(clippy::print_stderr, reason = "what takes minutes says how far it is")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use serde_json::{Value, json};
use slipway_bundle::{Folder, Limits};
use slipway_domain::deployment::{Ending, Launch};
use slipway_domain::names::{Digest, ProjectId, RolledBackName};
use slipway_domain::protocol::{
    Ask, AuditRequest, EnvironmentsRequest, HistoryRequest, Keep, KeepRequest, On, PlanRequest, Question,
    ReaderRequest, Status, StatusRequest, TeardownRequest, UnlockRequest,
};
use slipway_domain::repair::Asked;
use slipway_local::job::{self as jobs, NewsJob};
use slipway_local::{DEV, PROD, STAGING, TOOLING, inspect, workspace_root};
use slipway_tests::{World, bundle, failing, in_world, job, launch, on, tiny, unique, unyielding};

/// What has to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scenario {
    /// A job asks for the way to dev, uploads, and its deployment goes through; the bundle holds an artifact.
    Deploys,
    /// The same to staging.
    DeploysToStaging,
    /// The same bundle once more ends as "no changes".
    ChangesNothing,
    /// An environment without a stack is torn down.
    TearsNothingDown,
    /// An environment with a stack is torn down.
    TearsDown,
    /// A job sees what a teardown would do.
    PlansTeardown,
    /// The roles of a stage's account are tried, for `slipway doctor`.
    TriesRoles,
    /// An environment that exports something is torn down.
    TearsExporterDown,
    /// One whose bucket holds versions and an unfinished upload.
    EmptiesBucket,
    /// One whose bucket has no versions.
    EmptiesPlainBucket,
    /// One whose repository holds an image.
    EmptiesRepository,
    /// One whose function wrote a log, which goes too.
    PurgesLogs,
    /// A deployment to prod gets as far as asking people.
    Asks,
    /// The very first deployment that asks people makes the key of the links.
    AsksFirst,
    /// The step that asks people, tried again after somebody approved, hands the answer on.
    AsksAgainAfterApproval,
    /// The same after a rejection.
    AsksAgainAfterRejection,
    /// A job sees its environment, with the stack's events.
    ShowsEvents,
    /// A job sees its deployment that waits for people: the changes and the link.
    ShowsQuestion,
    /// Whoever listens is told that a decision is wanted.
    TellsPeople,
    /// What is recorded of an environment is shown.
    ShowsRecords,
    /// A job lists its environments.
    ListsEnvironments,
    /// A job sees what was done to its environment.
    ShowsHistory,
    /// A person sees an environment, with the stack's events.
    ReaderShowsEvents,
    /// A person sees a deployment that waits for people.
    ReaderShowsQuestion,
    /// A person sees what is recorded.
    ReaderShowsRecords,
    /// A person sees what was done to an environment.
    ReaderShowsHistory,
    /// A person lists the environments of all projects.
    ReaderLists,
    /// `api` believes a token by GitLab's keys as the parameter has them.
    ApiKnowsKeys,
    /// `web` does.
    WebKnowsKeys,
    /// The page of a question is shown.
    ShowsPage,
    /// The page of a question shows how the deployment went.
    ShowsProgress,
    /// Somebody approves, and the deployment goes through.
    Approves,
    /// Somebody rejects.
    Rejects,
    /// A newer pipeline takes the place of one that waits for people.
    Supersedes,
    /// The end of a stopped deployment that waits for people, as EventBridge tells it, is recorded.
    SettlesStopped,
    /// The cleanup tears an expired environment down.
    SweepsEnvironment,
    /// The cleanup ends a question that nobody answered.
    SweepsQuestion,
    /// The cleanup hands on an answer that was given in time and lost on its way.
    SweepsLostAnswer,
    /// The cleanup tells people that an environment expires soon.
    WarnsOfExpiry,
    /// The cleanup has the end of a deployment recorded that nobody recorded in full.
    SettlesDeployment,
    /// The same of a teardown.
    SettlesTeardown,
    /// The cleanup forgets a word that does not hold any more.
    Forgets,
    /// Whoever listens is told that a deployment began.
    TellsOfBeginnings,
    /// Whoever listens is told that a deployment ended.
    TellsOfEnds,
    /// Whoever listens is told that somebody wants to keep an environment.
    TellsWhoKeeps,
    /// The cleanup asks GitLab about branches, and lets the environment of one that is gone expire.
    SweepsBranch,
    /// GitLab shows how a deployment ended.
    ShowsInGitLab,
    /// The cleanup deletes what nobody needs any more.
    SweepsGarbage,
    /// The schedule starts the cleanup.
    Schedules,
    /// `slipway status`, as a job.
    CommandShows,
    /// `slipway deploy`, as a job.
    CommandDeploys,
    /// `slipway teardown`, as a job.
    CommandTearsDown,
    /// A change set that cannot be made leaves no empty stack behind.
    LeavesNoShell,
    /// An environment's lease is taken away.
    Unlocks,
    /// A rollback that failed goes on, without what cannot be rolled back.
    Repairs,
    /// The lease of a deployment that ended is taken over.
    TakesOver,
    /// The lease of a teardown that ended is taken over.
    TakesOverTeardown,
    /// A failure names the line of the resource in the application's template.
    NamesLine,
    /// The same in a nested stack's.
    NamesNestedLine,
    /// An application whose roles have the boundary answers.
    ApplicationAnswers,
}

use Scenario as S;

/// A statement, what of it is taken away, and what turns red.
struct Case {
    /// The role's name, without the control plane's; or BucketPolicy, ApplicationBoundary.
    role: &'static str,
    sid: &'static str,
    /// What names the one action, resource, name or account that is taken out; empty for the whole statement.
    part: &'static str,
    scenario: Scenario,
    /// What the failure says.
    says: &'static str,
}

const fn case(
    role: &'static str,
    sid: &'static str,
    part: &'static str,
    scenario: Scenario,
    says: &'static str,
) -> Case {
    Case { role, sid, part, scenario, says }
}

const BUCKET: &str = "Resources:\n  Uploads: {Type: AWS::S3::Bucket}\n";
const GET: &str = "dynamodb:GetItem";
const PUT: &str = "dynamodb:PutItem";
const QUERY: &str = "dynamodb:Query";

/// What turns red without what.
#[rustfmt::skip]
const CASES: &[Case] = &[
    case("slipway-api", "RecordAdmissions", GET, S::TearsNothingDown, GET),
    case("slipway-api", "RecordAdmissions", PUT, S::TearsNothingDown, PUT),
    case("slipway-api", "RecordAdmissions", "ADMISSION#", S::TearsNothingDown, GET),
    case("slipway-api", "RecordAdmissions", "AUDIT#", S::TearsNothingDown, GET),
    case("slipway-api", "ReadEnvironments", GET, S::ShowsEvents, GET),
    case("slipway-api", "ReadEnvironments", QUERY, S::ShowsHistory, QUERY),
    case("slipway-api", "ListEnvironments", "", S::ListsEnvironments, QUERY),
    case("slipway-api", "BreakLeases", "ENV#", S::Unlocks, PUT),
    case("slipway-api", "BreakLeases", "AUDIT#", S::Unlocks, PUT),
    case("slipway-api", "ShowRecords", "", S::ShowsRecords, QUERY),
    case("slipway-api", "ReadApprovals", "", S::ShowsQuestion, GET),
    case("slipway-api", "OfferUploads", "", S::Deploys, "s3:PutObject"),
    case("slipway-api", "ReadReleases", "", S::Deploys, "s3:HeadObject: HTTP 403"),
    case("slipway-api", "ReadProgress", "reviews/", S::ShowsQuestion, "s3:GetObject"),
    case("slipway-api", "ReadProgress", "events/", S::ShowsEvents, "s3:GetObject"),
    case("slipway-api", "TellAbsentObjects", "", S::Deploys, "s3:HeadObject: HTTP 403"),
    case("slipway-api", "ReadStages", "", S::TearsNothingDown, "ssm:GetParameter"),
    case("slipway-api", "ReadGitLabKeys", "", S::ApiKnowsKeys, "ssm:GetParameter"),
    case("slipway-api", "ReadLinkKey", "", S::ShowsQuestion, "ssm:GetParameter"),

    case("slipway-api", "PlanTeardowns", "", S::PlansTeardown, "lambda:InvokeFunction"),
    case("slipway-reader", "ReadEnvironments", GET, S::ReaderShowsEvents, GET),
    case("slipway-reader", "ReadEnvironments", QUERY, S::ReaderShowsHistory, QUERY),
    case("slipway-reader", "ReadEnvironments", "ENV#", S::ReaderShowsEvents, GET),
    case("slipway-reader", "ReadEnvironments", "AUDIT#", S::ReaderShowsRecords, GET),
    case("slipway-reader", "ReadApprovals", "", S::ReaderShowsQuestion, GET),
    case("slipway-reader", "ListEnvironments", "", S::ReaderLists, QUERY),
    case("slipway-reader", "ReadProgress", "reviews/", S::ReaderShowsQuestion, "s3:GetObject"),
    case("slipway-reader", "ReadProgress", "events/", S::ReaderShowsEvents, "s3:GetObject"),
    case("slipway-look", "AccountAssumes", "", S::ReaderLists, "sts:AssumeRole"),
    case("slipway-look", "AskTheReader", "", S::ReaderLists, "lambda:InvokeFunction"),

    case("slipway-begin", "UseAdmissions", GET, S::TearsNothingDown, GET),
    case("slipway-begin", "UseAdmissions", PUT, S::TearsNothingDown, PUT),
    case("slipway-begin", "WriteEnvironments", GET, S::TearsNothingDown, GET),
    case("slipway-begin", "WriteEnvironments", PUT, S::TearsNothingDown, PUT),
    case("slipway-begin", "SupersedeApprovals", GET, S::Supersedes, GET),
    case("slipway-begin", "SupersedeApprovals", PUT, S::Supersedes, PUT),
    case("slipway-begin", "ReadStages", "", S::TearsNothingDown, "ssm:GetParameter"),
    case("slipway-begin", "EndSuperseded", "", S::Supersedes, "states:SendTaskFailure"),

    case("slipway-package", "WriteEnvironments", GET, S::Deploys, GET),
    case("slipway-package", "WriteEnvironments", PUT, S::Deploys, PUT),
    case("slipway-package", "ReadBundles", "s3:GetObject", S::Deploys, "s3:HeadObject: HTTP 403"),
    case("slipway-package", "ReadBundles", "s3:GetObjectVersion", S::Deploys, "s3:GetObject"),
    case("slipway-package", "WriteReleases", "s3:GetObject", S::Deploys, "s3:HeadObject: HTTP 403"),
    case("slipway-package", "WriteReleases", "s3:PutObject", S::Deploys, "s3:PutObject"),
    case("slipway-package", "WriteReleases", "artifacts/", S::Deploys, "s3:HeadObject: HTTP 403"),
    case("slipway-package", "WriteReleases", "releases/", S::Deploys, "s3:HeadObject: HTTP 403"),
    case("slipway-package", "TellAbsentObjects", "", S::Deploys, "s3:HeadObject: HTTP 403"),

    case("slipway-change-set", "WriteEnvironments", GET, S::Deploys, GET),
    case("slipway-change-set", "WriteEnvironments", PUT, S::Deploys, PUT),
    case("slipway-change-set", "WriteEnvironments", "ENV#", S::Deploys, GET),
    case("slipway-change-set", "WriteEnvironments", "AUDIT#", S::Deploys, GET),
    case("slipway-change-set", "ReadApprovals", "", S::Approves, GET),
    case("slipway-change-set", "ReadReleases", "", S::Deploys, "s3:GetObject"),
    case("slipway-change-set", "EnterTargetAccounts", "sts:AssumeRole", S::Deploys, "sts:AssumeRole"),
    case("slipway-change-set", "EnterTargetAccounts", "sts:TagSession", S::Deploys, "sts:TagSession"),
    case("slipway-change-set", "EnterTargetAccounts", "sts:SetSourceIdentity", S::Deploys, "sts:SetSourceIdentity"),

    case("slipway-wait-for-stack", "WriteEnvironments", GET, S::Deploys, GET),
    case("slipway-wait-for-stack", "WriteEnvironments", PUT, S::Deploys, PUT),
    case("slipway-wait-for-stack", "WriteEnvironments", "ENV#", S::Deploys, GET),
    case("slipway-wait-for-stack", "WriteEnvironments", "AUDIT#", S::Deploys, GET),
    case("slipway-wait-for-stack", "WriteProgress", "reviews/", S::Deploys, "s3:PutObject"),
    case("slipway-wait-for-stack", "WriteProgress", "events/", S::Deploys, "s3:PutObject"),
    case("slipway-wait-for-stack", "EnterTargetAccounts", "sts:AssumeRole", S::Deploys, "sts:AssumeRole"),
    case("slipway-wait-for-stack", "EnterTargetAccounts", "sts:TagSession", S::Deploys, "sts:TagSession"),
    case("slipway-wait-for-stack", "EnterTargetAccounts", "sts:SetSourceIdentity", S::Deploys, "sts:SetSourceIdentity"),

    case("slipway-approval", "WriteEnvironments", GET, S::Asks, GET),
    case("slipway-approval", "WriteEnvironments", PUT, S::Asks, PUT),
    case("slipway-approval", "WriteApprovals", GET, S::Asks, GET),
    case("slipway-approval", "WriteApprovals", PUT, S::Asks, PUT),
    case("slipway-approval", "MakeLinkKey", "ssm:GetParameter", S::Asks, "ssm:GetParameter"),
    case("slipway-approval", "MakeLinkKey", "ssm:PutParameter", S::AsksFirst, "ssm:PutParameter"),
    case("slipway-approval", "ReadReviews", "", S::TellsPeople, "s3:GetObject"),
    case("slipway-approval", "TellListeners", "", S::TellsPeople, "events:PutEvents"),
    case("slipway-approval", "TellSubscribers", "", S::TellsPeople, "sns:Publish"),
    case("slipway-approval", "AnswerAgain", "states:SendTaskSuccess", S::AsksAgainAfterApproval, "states:SendTaskSuccess"),
    case("slipway-approval", "AnswerAgain", "states:SendTaskFailure", S::AsksAgainAfterRejection, "states:SendTaskFailure"),

    case("slipway-web", "DecideApprovals", GET, S::Approves, GET),
    case("slipway-web", "DecideApprovals", PUT, S::Approves, PUT),
    case("slipway-web", "DecideApprovals", "APPROVAL#", S::Approves, GET),
    case("slipway-web", "DecideApprovals", "AUDIT#", S::Approves, GET),
    case("slipway-web", "ReadEnvironments", "", S::ShowsPage, GET),
    case("slipway-web", "ReadProgress", "reviews/", S::ShowsPage, "s3:GetObject"),
    case("slipway-web", "ReadProgress", "events/", S::ShowsProgress, "s3:GetObject"),
    case("slipway-web", "ReadGitLabKeys", "", S::WebKnowsKeys, "ssm:GetParameter"),
    case("slipway-web", "HandOnDecisions", "states:SendTaskSuccess", S::Approves, "states:SendTaskSuccess"),
    case("slipway-web", "HandOnDecisions", "states:SendTaskFailure", S::Rejects, "states:SendTaskFailure"),

    case("slipway-teardown", "WriteEnvironments", GET, S::TearsNothingDown, GET),
    case("slipway-teardown", "WriteEnvironments", PUT, S::TearsNothingDown, PUT),
    case("slipway-teardown", "ReadStages", "", S::TriesRoles, "ssm:GetParameter"),
    case("slipway-teardown", "EnterTargetAccounts", "SharedServiceRole", S::TearsNothingDown, "sts:AssumeRole"),
    case("slipway-teardown", "EnterTargetAccounts", "SharedCleanupRole", S::EmptiesBucket, "sts:AssumeRole"),
    case("slipway-teardown", "EnterTargetAccounts", "sts:AssumeRole", S::TearsNothingDown, "sts:AssumeRole"),
    case("slipway-teardown", "EnterTargetAccounts", "sts:TagSession", S::TearsNothingDown, "sts:TagSession"),
    case("slipway-teardown", "EnterTargetAccounts", "sts:SetSourceIdentity", S::TearsNothingDown, "sts:SetSourceIdentity"),

    case("slipway-settle", "ReadAdmissions", "", S::TearsNothingDown, GET),
    case("slipway-settle", "WriteEnvironments", GET, S::TearsNothingDown, GET),
    case("slipway-settle", "WriteEnvironments", PUT, S::TearsNothingDown, PUT),
    case("slipway-settle", "WriteEnvironments", "ENV#", S::TearsNothingDown, GET),
    case("slipway-settle", "WriteEnvironments", "AUDIT#", S::TearsNothingDown, GET),
    case("slipway-settle", "VoidApprovals", GET, S::SettlesStopped, GET),
    case("slipway-settle", "VoidApprovals", PUT, S::SettlesStopped, PUT),
    case("slipway-settle", "EndQuestions", "", S::SettlesStopped, "states:SendTaskFailure"),
    case("slipway-settle", "EnterTargetAccounts", "sts:AssumeRole", S::Deploys, "sts:AssumeRole"),
    case("slipway-settle", "EnterTargetAccounts", "sts:TagSession", S::Deploys, "sts:TagSession"),
    case("slipway-settle", "EnterTargetAccounts", "sts:SetSourceIdentity", S::Deploys, "sts:SetSourceIdentity"),

    case("slipway-sweep", "QueryWhatIsDue", "", S::SweepsQuestion, QUERY),
    case("slipway-sweep", "ExpireApprovals", GET, S::SweepsQuestion, GET),
    case("slipway-sweep", "ExpireApprovals", PUT, S::SweepsQuestion, PUT),
    case("slipway-sweep", "ExpireApprovals", "ENV#", S::SweepsQuestion, GET),
    case("slipway-sweep", "ExpireApprovals", "APPROVAL#", S::SweepsQuestion, GET),
    case("slipway-sweep", "EndExpiredQuestions", "states:SendTaskFailure", S::SweepsQuestion, "states:SendTaskFailure"),
    case("slipway-sweep", "EndExpiredQuestions", "states:SendTaskSuccess", S::SweepsLostAnswer, "states:SendTaskSuccess"),
    case("slipway-sweep", "WriteAdmissions", GET, S::SweepsEnvironment, GET),
    case("slipway-sweep", "WriteAdmissions", PUT, S::SweepsEnvironment, PUT),
    case("slipway-sweep", "WriteAdmissions", "ADMISSION#", S::SweepsEnvironment, GET),
    case("slipway-sweep", "WriteAdmissions", "AUDIT#", S::SweepsEnvironment, PUT),
    case("slipway-sweep", "StartTeardowns", "", S::SweepsEnvironment, "states:StartExecution"),
    case("slipway-sweep", "LookAtExecutions", "-deploy", S::SettlesDeployment, "states:DescribeExecution"),
    case("slipway-sweep", "LookAtExecutions", "-teardown", S::SettlesTeardown, "states:DescribeExecution"),
    case("slipway-sweep", "SettleTheDead", "", S::SettlesDeployment, "lambda:InvokeFunction"),
    case("slipway-sweep", "Remember", GET, S::Forgets, GET),
    case("slipway-sweep", "Remember", PUT, S::Forgets, PUT),
    case("slipway-sweep", "TellListeners", "", S::WarnsOfExpiry, "events:PutEvents"),
    case("slipway-begin", "TellListeners", "", S::TellsOfBeginnings, "events:PutEvents"),
    case("slipway-settle", "TellListeners", "", S::TellsOfEnds, "events:PutEvents"),
    case("slipway-api", "TellListeners", "", S::TellsWhoKeeps, "events:PutEvents"),

    case("slipway-settle", "ReadGitLabWriteToken", "", S::ShowsInGitLab, "secretsmanager:GetSecretValue"),
    case("slipway-sweep", "ExpireApprovals", "AUDIT#", S::SweepsBranch, PUT),
    case("slipway-sweep", "ReadGitLabToken", "", S::SweepsBranch, "ssm:GetParameter"),
    case("slipway-sweep", "QueryWhatThereIs", "", S::SweepsGarbage, "dynamodb:Query"),
    case("slipway-sweep", "ListWhatIsKept", "garbage/", S::SweepsGarbage, "s3:ListObjectsV2"),
    case("slipway-sweep", "ListWhatIsKept", "bundles/", S::SweepsGarbage, "s3:ListObjectsV2"),
    case("slipway-sweep", "ListWhatIsKept", "releases/", S::SweepsGarbage, "s3:ListObjectsV2"),
    case("slipway-sweep", "ListWhatIsKept", "artifacts/", S::SweepsGarbage, "s3:ListObjectsV2"),
    case("slipway-sweep", "ReadManifests", "", S::SweepsGarbage, "s3:GetObject"),
    case("slipway-sweep", "KeepMarks", "s3:GetObject", S::SweepsGarbage, "s3:GetObject"),
    case("slipway-sweep", "KeepMarks", "s3:PutObject", S::SweepsGarbage, "s3:PutObject"),
    case("slipway-sweep", "DeleteGarbage", "bundles/", S::SweepsGarbage, "s3:DeleteObject"),
    case("slipway-sweep", "DeleteGarbage", "releases/", S::SweepsGarbage, "s3:DeleteObject"),
    case("slipway-sweep", "DeleteGarbage", "artifacts/", S::SweepsGarbage, "s3:DeleteObject"),

    case("slipway-deploy-machine", "StepFunctionsAssumes", "", S::Deploys, "may not assume"),
    case("slipway-deploy-machine", "InvokeSteps", "-BeginFunction", S::Deploys, "lambda:InvokeFunction"),
    case("slipway-deploy-machine", "InvokeSteps", "-PackageFunction", S::Deploys, "lambda:InvokeFunction"),
    case("slipway-deploy-machine", "InvokeSteps", "-ChangeSetFunction", S::Deploys, "lambda:InvokeFunction"),
    case("slipway-deploy-machine", "InvokeSteps", "-WaitForStackFunction", S::Deploys, "lambda:InvokeFunction"),
    case("slipway-deploy-machine", "InvokeSteps", "-ApprovalFunction", S::Asks, "lambda:InvokeFunction"),
    case("slipway-deploy-machine", "InvokeSteps", "-SettleFunction", S::Deploys, "lambda:InvokeFunction"),
    case("slipway-teardown-machine", "StepFunctionsAssumes", "", S::TearsNothingDown, "may not assume"),
    case("slipway-teardown-machine", "InvokeSteps", "-BeginFunction", S::TearsNothingDown, "lambda:InvokeFunction"),
    case("slipway-teardown-machine", "InvokeSteps", "-TeardownFunction", S::TearsNothingDown, "lambda:InvokeFunction"),
    case("slipway-teardown-machine", "InvokeSteps", "-WaitForStackFunction", S::TearsDown, "lambda:InvokeFunction"),
    case("slipway-teardown-machine", "InvokeSteps", "-SettleFunction", S::TearsNothingDown, "lambda:InvokeFunction"),
    case("slipway-schedule", "SchedulerAssumes", "", S::Schedules, "may not assume"),
    case("slipway-schedule", "InvokeSweep", "", S::Schedules, "lambda:InvokeFunction"),

    case("SharedServiceRole", "ControlPlaneAssumes", "-change-set", S::Deploys, "sts:AssumeRole"),
    case("SharedServiceRole", "ControlPlaneAssumes", "-wait-for-stack", S::Deploys, "sts:AssumeRole"),
    case("SharedServiceRole", "ControlPlaneAssumes", "-teardown", S::TearsNothingDown, "sts:AssumeRole"),
    case("SharedServiceRole", "ControlPlaneAssumes", "-settle", S::Deploys, "sts:AssumeRole"),
    case("SharedServiceRole", "ControlPlaneNamesItsUsers", "sts:TagSession", S::TearsNothingDown, "sts:TagSession"),
    case("SharedServiceRole", "ControlPlaneNamesItsUsers", "sts:SetSourceIdentity", S::TearsNothingDown, "sts:SetSourceIdentity"),
    case("SharedServiceRole", "LookAtStacks", "", S::TearsNothingDown, "cloudformation:DescribeStacks"),
    case("SharedServiceRole", "LookIntoStacks", "cloudformation:GetTemplate", S::TearsDown, "cloudformation:GetTemplate"),
    case("SharedServiceRole", "LookIntoStacks", "cloudformation:ListStackResources", S::TearsDown, "cloudformation:ListStackResources"),
    case("SharedServiceRole", "LookAtImports", "", S::TearsExporterDown, "cloudformation:ListImports"),
    case("SharedCleanupRole", "TeardownAssumes", "", S::EmptiesBucket, "sts:AssumeRole"),
    case("SharedCleanupRole", "TeardownNamesItsUsers", "sts:TagSession", S::EmptiesBucket, "sts:TagSession"),
    case("SharedCleanupRole", "TeardownNamesItsUsers", "sts:SetSourceIdentity", S::EmptiesBucket, "sts:SetSourceIdentity"),
    case("SharedCleanupRole", "LookIntoBuckets", "s3:ListBucketVersions", S::EmptiesBucket, "s3:ListObjectVersions"),
    case("SharedCleanupRole", "LookIntoBuckets", "s3:ListBucketMultipartUploads", S::EmptiesBucket, "s3:ListMultipartUploads"),
    case("SharedCleanupRole", "EmptyBuckets", "s3:DeleteObject", S::EmptiesPlainBucket, "s3:DeleteObject"),
    case("SharedCleanupRole", "EmptyBuckets", "s3:DeleteObjectVersion", S::EmptiesBucket, "s3:DeleteObject"),
    case("SharedCleanupRole", "EmptyBuckets", "s3:AbortMultipartUpload", S::EmptiesBucket, "s3:AbortMultipartUpload"),
    case("SharedCleanupRole", "EmptyRepositories", "ecr:ListImages", S::EmptiesRepository, "ecr:ListImages"),
    case("SharedCleanupRole", "EmptyRepositories", "ecr:BatchDeleteImage", S::EmptiesRepository, "ecr:BatchDeleteImage"),
    case("SharedCleanupRole", "PurgeLogs", "logs:DescribeLogStreams", S::PurgesLogs, "logs:DescribeLogStreams"),
    case("SharedCleanupRole", "PurgeLogs", "logs:DeleteLogGroup", S::PurgesLogs, "logs:DeleteLogGroup"),
    case("SharedServiceRole", "MakeChangeSets", "", S::Deploys, "cloudformation:CreateChangeSet"),
    case("SharedServiceRole", "ExecuteChangeSets", "", S::Deploys, "cloudformation:ExecuteChangeSet"),
    case("SharedServiceRole", "DiscardChangeSets", "cloudformation:DeleteChangeSet", S::ChangesNothing, "cloudformation:DeleteChangeSet"),
    case("SharedServiceRole", "DiscardChangeSets", "cloudformation:ListChangeSets", S::LeavesNoShell, "a shell is left"),
    case("SharedServiceRole", "ReadReleases", "releases/", S::Deploys, "S3 error: Access Denied"),
    case("slipway-begin", "LookAtHolders", "-deploy", S::TakesOver, "states:DescribeExecution"),
    case("slipway-begin", "LookAtHolders", "-teardown", S::TakesOverTeardown, "states:DescribeExecution"),
    case("slipway-wait-for-stack", "ReadTemplates", "releases/", S::NamesLine, "no line"),
    case("slipway-wait-for-stack", "ReadTemplates", "artifacts/", S::NamesNestedLine, "no line"),
    case("SharedServiceRole", "RepairStacks", "", S::Repairs, "cloudformation:ContinueUpdateRollback"),
    case("SharedServiceRole", "DeleteStacks", "", S::TearsDown, "cloudformation:DeleteStack"),
    case("SharedServiceRole", "ProtectStacks", "cloudformation:UpdateTerminationProtection", S::DeploysToStaging, "cloudformation:UpdateTerminationProtection"),
    case("SharedServiceRole", "ProtectStacks", "cloudformation:SetStackPolicy", S::DeploysToStaging, "cloudformation:SetStackPolicy"),

    case("slipway-client", "JobsAssume", "", S::CommandShows, "sts:AssumeRoleWithWebIdentity"),
    case("slipway-client", "AskTheControlPlane", "", S::CommandShows, "lambda:InvokeFunction"),
    case("slipway-client", "StartExecutions", "stateMachine:slipway-deploy", S::CommandDeploys, "states:StartExecution"),
    case("slipway-client", "StartExecutions", "stateMachine:slipway-teardown", S::CommandTearsDown, "states:StartExecution"),
    case("slipway-client", "LookAtExecutions", "execution:slipway-deploy", S::CommandDeploys, "states:DescribeExecution"),
    case("slipway-client", "LookAtExecutions", "execution:slipway-teardown", S::CommandTearsDown, "states:DescribeExecution"),

    case("BucketPolicy", "TargetAccountsReadReleases", DEV, S::Deploys, "S3 error: Access Denied"),
    case("BucketPolicy", "TargetAccountsReadReleases", STAGING, S::DeploysToStaging, "S3 error: Access Denied"),
    case("BucketPolicy", "TargetAccountsReadReleases", PROD, S::Asks, "S3 error: Access Denied"),
    case("BucketPolicy", "TargetAccountsReadReleases", "releases/", S::Deploys, "S3 error: Access Denied"),
    case("BucketPolicy", "TargetAccountsReadReleases", "SharedServiceRole", S::Deploys, "S3 error: Access Denied"),

    case("ApplicationBoundary", "Applications", "", S::ApplicationAnswers, "AccessDeniedException"),
];

/// A statement that the embedded AWS does not enforce, or what of it, and why: nothing there turns red without it.
struct Unproven {
    role: &'static str,
    sid: &'static str,
    /// As in [`Case`]; empty for the whole statement.
    part: &'static str,
    reason: &'static str,
}

const fn unproven(role: &'static str, sid: &'static str, part: &'static str, reason: &'static str) -> Unproven {
    Unproven { role, sid, part, reason }
}

const RUNS_AS_ANYBODY: &str = "a function gets its role's credentials without a look at the role's trust policy";
const LOGS_BY_ITSELF: &str = "a function's log is written by the emulator itself, not under the function's role";
const ACTS_AS_ITSELF: &str = "CloudFormation there makes resources with all rights, whatever RoleARN says";

/// What the embedded AWS cannot enforce.
#[rustfmt::skip]
const NOT_ENFORCED: &[Unproven] = &[
    unproven("slipway-api", "LambdaAssumes", "", RUNS_AS_ANYBODY),
    unproven("slipway-reader", "LambdaAssumes", "", RUNS_AS_ANYBODY),
    unproven("slipway-begin", "LambdaAssumes", "", RUNS_AS_ANYBODY),
    unproven("slipway-package", "LambdaAssumes", "", RUNS_AS_ANYBODY),
    unproven("slipway-change-set", "LambdaAssumes", "", RUNS_AS_ANYBODY),
    unproven("slipway-wait-for-stack", "LambdaAssumes", "", RUNS_AS_ANYBODY),
    unproven("slipway-approval", "LambdaAssumes", "", RUNS_AS_ANYBODY),
    unproven("slipway-web", "LambdaAssumes", "", RUNS_AS_ANYBODY),
    unproven("slipway-teardown", "LambdaAssumes", "", RUNS_AS_ANYBODY),
    unproven("slipway-settle", "LambdaAssumes", "", RUNS_AS_ANYBODY),
    unproven("slipway-sweep", "LambdaAssumes", "", RUNS_AS_ANYBODY),
    unproven("slipway-api", "WriteLogs", "", LOGS_BY_ITSELF),
    unproven("slipway-reader", "WriteLogs", "", LOGS_BY_ITSELF),
    unproven("slipway-begin", "WriteLogs", "", LOGS_BY_ITSELF),
    unproven("slipway-package", "WriteLogs", "", LOGS_BY_ITSELF),
    unproven("slipway-package", "WriteReleases", "s3:AbortMultipartUpload", "only an upload that fails midway is aborted"),
    unproven("slipway-change-set", "WriteLogs", "", LOGS_BY_ITSELF),
    unproven("slipway-wait-for-stack", "WriteLogs", "", LOGS_BY_ITSELF),
    unproven("slipway-approval", "WriteLogs", "", LOGS_BY_ITSELF),
    unproven("slipway-web", "WriteLogs", "", LOGS_BY_ITSELF),
    unproven("slipway-teardown", "WriteLogs", "", LOGS_BY_ITSELF),
    unproven("slipway-settle", "WriteLogs", "", LOGS_BY_ITSELF),
    unproven("slipway-settle", "DecryptGitLabWriteToken", "", "Secrets Manager there decrypts by itself; and what AWS's own key encrypts needs no right"),
    unproven("slipway-sweep", "DecryptGitLabToken", "", "SSM there decrypts by itself; and what AWS's own key encrypts needs no right"),
    unproven("slipway-sweep", "WriteLogs", "", LOGS_BY_ITSELF),
    unproven("SharedServiceRole", "ExpandTransforms", "", "CreateChangeSet is checked for the stack, not for the transforms of its template"),
    unproven("SharedServiceRole", "PassDeploymentRole", "", "iam:PassRole is not checked"),
    unproven("SharedServiceRole", "ReadReleases", "artifacts/", "whoever deploys needs no right to a function's code or a layer's content there"),
    unproven("BucketPolicy", "TargetAccountsReadReleases", "artifacts/", "whoever deploys needs no right to a function's code or a layer's content there"),
    unproven("BucketPolicy", "TargetAccountsReadReleases", "SharedDeploymentRole", ACTS_AS_ITSELF),
    unproven("SharedDeploymentRole", "CloudFormationAssumes", "", ACTS_AS_ITSELF),
    unproven("SharedDeploymentRole", "ServerlessResources", "", ACTS_AS_ITSELF),
    unproven("SharedDeploymentRole", "Buckets", "", ACTS_AS_ITSELF),
    unproven("SharedDeploymentRole", "ImageRepositories", "", ACTS_AS_ITSELF),
    unproven("SharedDeploymentRole", "ReadReleases", "", ACTS_AS_ITSELF),
    unproven("SharedDeploymentRole", "NestedStacksAndTransforms", "", ACTS_AS_ITSELF),
    unproven("SharedDeploymentRole", "RolesInsideTheBoundary", "", ACTS_AS_ITSELF),
    unproven("SharedDeploymentRole", "TendRoles", "", ACTS_AS_ITSELF),
    unproven("SharedDeploymentRole", "PassRolesToServices", "", ACTS_AS_ITSELF),
];

/// Statements that a parameter adds, and which one: the tests deploy without it.
const NOT_DEPLOYED: &[Unproven] = &[
    unproven("SharedDeploymentRole", "FrontEndDistributions", "", "`FrontEnd=true` adds it; and as all of this role"),
    unproven("SharedDeploymentRole", "FrontEndFiles", "", "`FrontEnd=true` adds it; and as all of this role"),
    unproven(
        "slipway-client",
        "RunnersAssume",
        "",
        "`RunnerPrincipal` puts it in the place of JobsAssume; the test `runners_with_a_role_need_the_other_trust` deploys it so",
    ),
];

// --- the statements -----------------------------------------------------------------------------------------------------

/// Where a policy is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Inline { account: &'static str, role: String, policy: String },
    Trust { account: &'static str, role: String },
    Bucket,
    Boundary { account: &'static str, arn: String },
}

/// A policy as it was deployed.
#[derive(Debug, Clone)]
struct Policy {
    /// Its role's name, as the tables have it.
    role: String,
    place: Place,
    document: Value,
}

/// What is taken away, of all policies of that role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Removal {
    role: &'static str,
    sid: &'static str,
    part: &'static str,
}

/// All policies with an Allow in the four accounts.
struct Rights {
    world: &'static World,
    policies: Vec<Policy>,
}

fn decoded(text: &str) -> Value {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' && !text.starts_with('{') {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    serde_json::from_slice(&bytes).unwrap()
}

fn statements(document: &Value) -> Vec<&Value> {
    let statements = &document["Statement"];
    statements.as_array().map_or_else(|| vec![statements], |statements| statements.iter().collect())
}

fn sid(statement: &Value) -> &str {
    statement["Sid"].as_str().unwrap_or_default()
}

/// The lists in a statement that have more than one member: each member can be taken out by itself.
fn lists(statement: &mut Value) -> Vec<&mut Vec<Value>> {
    fn collect<'v>(value: &'v mut Value, found: &mut Vec<&'v mut Vec<Value>>) {
        if value.is_object() {
            // Fewer of a NotAction's are more rights.
            let fields = value.as_object_mut().into_iter().flatten().filter(|(name, _)| *name != "NotAction");
            fields.for_each(|(_, value)| collect(value, found));
        } else if let Some(list) = value.as_array_mut().filter(|list| list.len() > 1) {
            found.push(list);
        }
    }
    let mut found = Vec::new();
    collect(statement, &mut found);
    found
}

/// The members of those lists; nothing when there are none: then only the whole statement can be taken away.
fn parts(statement: &Value) -> Vec<String> {
    let mut statement = statement.clone();
    let members = lists(&mut statement).into_iter().flat_map(|list| list.clone());
    members.map(|member| member.as_str().unwrap().to_owned()).collect()
}

impl Removal {
    /// The document without it.
    fn apply(self, document: &Value) -> Value {
        let mut document = document.clone();
        let mut left: Vec<Value> = statements(&document).into_iter().cloned().collect();
        if self.part.is_empty() {
            left.retain(|statement| sid(statement) != self.sid);
        } else {
            for statement in left.iter_mut().filter(|statement| sid(statement) == self.sid) {
                lists(statement).into_iter().for_each(|list| list.retain(|member| !self.names(member)));
            }
        }
        if left.is_empty() {
            // A policy must have a statement: this one is about nothing.
            left.push(json!({"Sid": "Nothing", "Effect": "Deny", "Action": "slipway:Nothing", "Resource": "*"}));
        }
        document["Statement"] = left.into();
        document
    }

    fn names(self, member: &Value) -> bool {
        member.as_str().is_some_and(|member| names(self.part, member))
    }
}

/// Whether `part` names that member of a list. An account and an action are told whole: `sts:AssumeRole` is not
/// `sts:AssumeRoleWithWebIdentity`.
fn names(part: &str, member: &str) -> bool {
    let action = part.contains(':') && !part.contains("slipway");
    if action { member == part } else { member.contains(part) }
}

impl Rights {
    async fn read(world: &'static World) -> Self {
        let mut policies = Vec::new();
        for account in [TOOLING, DEV, STAGING, PROD] {
            let iam = world.iam(account);
            for role in iam.list_roles().path_prefix("/slipway/").send().await.unwrap().roles {
                let name = role.role_name;
                let trust = iam.get_role().role_name(&name).send().await.unwrap().role.unwrap();
                let document = decoded(trust.assume_role_policy_document().unwrap());
                policies.push(Policy {
                    role: name.clone(),
                    place: Place::Trust { account, role: name.clone() },
                    document,
                });
                assert!(
                    iam.list_attached_role_policies()
                        .role_name(&name)
                        .send()
                        .await
                        .unwrap()
                        .attached_policies()
                        .is_empty()
                );
                for policy in iam.list_role_policies().role_name(&name).send().await.unwrap().policy_names {
                    let inline = iam.get_role_policy().role_name(&name).policy_name(&policy).send().await.unwrap();
                    policies.push(Policy {
                        role: name.clone(),
                        place: Place::Inline { account, role: name.clone(), policy },
                        document: decoded(&inline.policy_document),
                    });
                }
            }
            let found = iam.list_policies().path_prefix("/slipway/").send().await.unwrap().policies.unwrap_or_default();
            for policy in found {
                let (name, arn) = (policy.policy_name.unwrap(), policy.arn.unwrap());
                if !arn.contains(account) {
                    continue;
                }
                let version = policy.default_version_id.unwrap();
                let version = iam.get_policy_version().policy_arn(&arn).version_id(version).send().await.unwrap();
                let document = decoded(version.policy_version().unwrap().document().unwrap());
                policies.push(Policy { role: name, place: Place::Boundary { account, arn }, document });
            }
        }
        let bucket = world.s3.get_bucket_policy().bucket(world.bucket()).send().await.unwrap();
        let document = serde_json::from_str(&bucket.policy.unwrap()).unwrap();
        policies.push(Policy { role: "BucketPolicy".into(), place: Place::Bucket, document });
        Self { world, policies }
    }

    /// The role's and the statement's name of every Allow.
    fn allowed(&self) -> BTreeSet<(String, String)> {
        let allows = self.policies.iter().flat_map(|policy| {
            let allows = statements(&policy.document).into_iter().filter(|statement| statement["Effect"] == "Allow");
            allows.map(|statement| (policy.role.clone(), sid(statement).to_owned()))
        });
        allows.collect()
    }

    /// The parts of a statement, over all accounts.
    fn parts(&self, role: &str, name: &str) -> BTreeSet<String> {
        let policies = self.policies.iter().filter(|policy| policy.role == role);
        let found = policies.flat_map(|policy| statements(&policy.document)).filter(|found| sid(found) == name);
        found.flat_map(parts).collect()
    }

    async fn put(&self, place: &Place, document: &Value) {
        let text = document.to_string();
        match place {
            Place::Inline { account, role, policy } => {
                let request = self.world.iam(account).put_role_policy().role_name(role).policy_name(policy);
                request.policy_document(text).send().await.unwrap();
            }
            Place::Trust { account, role } => {
                let request = self.world.iam(account).update_assume_role_policy().role_name(role);
                request.policy_document(text).send().await.unwrap();
            }
            Place::Bucket => {
                let request = self.world.s3.put_bucket_policy().bucket(self.world.bucket());
                request.policy(text).send().await.unwrap();
            }
            Place::Boundary { account, arn } => {
                let iam = self.world.iam(account);
                let versions = iam.list_policy_versions().policy_arn(arn).send().await.unwrap();
                for version in versions.versions().iter().filter(|version| !version.is_default_version()) {
                    let id = version.version_id().unwrap();
                    iam.delete_policy_version().policy_arn(arn).version_id(id).send().await.unwrap();
                }
                let request = iam.create_policy_version().policy_arn(arn).set_as_default(true);
                request.policy_document(text).send().await.unwrap();
            }
        }
    }

    /// Takes it all away.
    async fn take(&self, removals: &[Removal]) {
        for policy in &self.policies {
            let of_this = removals.iter().filter(|removal| removal.role == policy.role);
            let changed = of_this.fold(policy.document.clone(), |document, removal| removal.apply(&document));
            if changed != policy.document {
                self.put(&policy.place, &changed).await;
            }
        }
    }

    /// Gives it all back.
    async fn give_back(&self, removals: &[Removal]) {
        for policy in &self.policies {
            if removals.iter().any(|removal| removal.role == policy.role) {
                self.put(&policy.place, &policy.document).await;
            }
        }
    }
}

// --- the scenarios ------------------------------------------------------------------------------------------------------

/// Runs scenarios. A scenario first prepares, with all rights; then takes the rights away; then does what has to work.
struct Runner {
    world: &'static World,
    rights: Rights,
    live: tokio::sync::OnceCell<(NewsJob, On)>,
    waiting: tokio::sync::OnceCell<Waiting>,
    news: tokio::sync::OnceCell<String>,
}

/// A deployment that waits for people.
#[derive(Debug, Clone)]
struct Waiting {
    job: NewsJob,
    on: On,
    arn: String,
    link: String,
}

/// What did not work, in the words of whoever said so.
type Worked = Result<(), String>;

fn feature() -> NewsJob {
    job("deploy-dev", "feature")
}

fn main_job() -> NewsJob {
    job("create-change", "main")
}

fn fresh(stage: &str) -> On {
    on(stage, &if stage == "dev" { format!("review/rights-{}", unique()) } else { format!("rights-{}", unique()) })
}

/// A template with a layer, and its bundle: nobody has seen it before.
fn with_artifact() -> (Digest, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("layer")).unwrap();
    std::fs::write(folder.path().join("layer/text"), unique().to_string()).unwrap();
    let template = tiny(&format!("artifact-{}", unique())).replace(
        "Resources:\n",
        "Resources:\n  Layer: {Type: AWS::Lambda::LayerVersion, Properties: {Content: layer}}\n",
    );
    let folder = Folder::open(folder.path(), &Limits::default()).unwrap();
    let tree = folder.tree(&["layer".to_owned()], Some(template.as_bytes())).unwrap();
    let mut zip = Vec::new();
    tree.write_zip(&mut zip).unwrap();
    (Digest::new(tree.listing().digest().as_str()).unwrap(), zip)
}

/// A template with a nested stack of `child`, as a bundle.
fn nesting(child: &str) -> (Digest, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("child.yaml"), child).unwrap();
    let template =
        "Resources:\n  Child: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: child.yaml}}\n".as_bytes();
    let folder = Folder::open(folder.path(), &Limits::default()).unwrap();
    let tree = folder.tree(&["child.yaml".to_owned()], Some(template)).unwrap();
    let mut zip = Vec::new();
    tree.write_zip(&mut zip).unwrap();
    (Digest::new(tree.listing().digest().as_str()).unwrap(), zip)
}

/// A lease that `owner` has for long.
fn lease_of(owner: &Value) -> Value {
    json!({"owner": owner, "until": "2100-01-01T00:00:00Z", "fence": 7})
}

fn refused(refused: slipway_tests::Refused) -> String {
    format!("{}: {}", refused.name, refused.message)
}

fn check(right: bool, otherwise: impl FnOnce() -> String) -> Worked {
    if right { Ok(()) } else { Err(otherwise()) }
}

impl Runner {
    async fn new(world: &'static World) -> Self {
        let rights = Rights::read(world).await;
        Self {
            world,
            rights,
            live: tokio::sync::OnceCell::new(),
            waiting: tokio::sync::OnceCell::new(),
            news: tokio::sync::OnceCell::new(),
        }
    }

    /// Whether the scenario works without `removals`, which are given back afterwards.
    async fn run(&self, scenario: Scenario, removals: &[Removal]) -> Worked {
        let limit = Duration::from_secs(80);
        let ran = tokio::time::timeout(limit, Box::pin(self.scenario(scenario, removals))).await;
        self.rights.give_back(removals).await;
        ran.unwrap_or_else(|_| Err("it took too long".into()))
    }

    async fn scenario(&self, scenario: Scenario, removals: &[Removal]) -> Worked {
        let world = self.world;
        match scenario {
            S::Deploys | S::DeploysToStaging => {
                self.rights.take(removals).await;
                let (job, on) =
                    if scenario == S::Deploys { (feature(), fresh("dev")) } else { (main_job(), fresh("staging")) };
                let (digest, zip) = with_artifact();
                self.deploy(&job, &on, launch(&digest), zip).await
            }
            S::ChangesNothing => {
                let (job, on) = (feature(), fresh("dev"));
                let (digest, zip) = bundle(&tiny("same"));
                self.deploy(&job, &on, launch(&digest), zip.clone()).await?;
                self.rights.take(removals).await;
                let again = feature();
                self.deploy(&again, &on, launch(&digest), zip).await?;
                let outcome = world.settled(&again, &on).await.deployment.unwrap().outcome.unwrap();
                check(outcome.ending == Ending::NoChanges, || format!("{outcome:?}"))
            }
            S::TearsNothingDown => {
                self.rights.take(removals).await;
                self.teardown(&job("stop", "feature"), &fresh("dev")).await
            }
            S::TearsDown => {
                let (owner, on) = (feature(), fresh("dev"));
                self.tiny(&owner, &on).await?;
                self.rights.take(removals).await;
                self.teardown(&job("stop", "feature"), &on).await
            }
            S::TriesRoles => {
                self.rights.take(removals).await;
                let ask = json!({"entrance": {"stage": "dev"}});
                let seen = world.invoke(world.control_plane.output("TeardownFunction"), &ask).await.map_err(refused)?;
                let well = json!([
                    {"role": "SharedServiceRole", "faults": []},
                    {"role": "SharedCleanupRole", "faults": []},
                ]);
                check(seen == well, || seen.to_string())
            }
            S::PlansTeardown
            | S::TearsExporterDown
            | S::EmptiesBucket
            | S::EmptiesPlainBucket
            | S::EmptiesRepository
            | S::PurgesLogs => self.of_teardown(scenario, removals).await,
            S::Asks => {
                self.rights.take(removals).await;
                self.ask().await.map(drop)
            }
            S::AsksFirst => {
                let ssm = self.ssm();
                let name = "/slipway/slipway/link-key";
                self.ask().await?;
                let known = ssm.get_parameter().name(name).with_decryption(true).send().await.unwrap();
                let known = known.parameter.unwrap().value.unwrap();
                ssm.delete_parameter().name(name).send().await.unwrap();
                self.rights.take(removals).await;
                let asked = self.ask().await.map(drop);
                let put = ssm.put_parameter().name(name).value(known).overwrite(true);
                put.r#type(aws_sdk_ssm::types::ParameterType::SecureString).send().await.unwrap();
                asked
            }
            S::AsksAgainAfterApproval => self.ask_again("approve", removals).await,
            S::AsksAgainAfterRejection => self.ask_again("reject", removals).await,
            S::ShowsEvents => {
                let (job, on) = self.live().await?;
                self.rights.take(removals).await;
                let status = world.status(job, on).await.map_err(refused)?;
                check(status.deployment.as_ref().is_some_and(|deployment| !deployment.events.is_empty()), || {
                    format!("{status:?}")
                })
            }
            S::ShowsQuestion => {
                let waiting = self.waiting().await?;
                self.rights.take(removals).await;
                let status = world.status(&waiting.job, &waiting.on).await.map_err(refused)?;
                let shown = |status: &Status| {
                    let deployment = status.deployment.as_ref();
                    deployment.is_some_and(|deployment| {
                        deployment.review.is_some() && deployment.approval_url.as_ref() == Some(&waiting.link)
                    })
                };
                check(shown(&status), || format!("{status:?}"))
            }
            S::TellsPeople => Box::pin(self.tells_people(removals)).await,
            S::ShowsRecords => Box::pin(self.shows_records(removals)).await,
            S::ListsEnvironments => {
                self.live().await?;
                self.rights.take(removals).await;
                let ask = Ask::Look(Question::Environments(EnvironmentsRequest::default()));
                let page = world.ask(&world.token(&feature()), ask).await.map_err(refused)?;
                check(page["environments"].as_array().is_some_and(|all| !all.is_empty()), || page.to_string())
            }
            S::ShowsHistory => {
                let (job, on) = self.live().await?;
                self.rights.take(removals).await;
                let request = HistoryRequest { on: on.clone(), before: None, limit: None };
                let ask = Ask::Look(Question::History(request));
                let page = world.ask(&world.token(job), ask).await.map_err(refused)?;
                check(page["deployments"].as_array().is_some_and(|all| !all.is_empty()), || page.to_string())
            }
            S::ReaderShowsEvents => {
                let (_, on) = self.live().await?;
                let look = Question::Status(StatusRequest { on: on.clone(), deployment: None });
                self.read(removals, look, |status| !status["deployment"]["events"][0].is_null()).await
            }
            S::ReaderShowsQuestion => {
                let on = self.waiting().await?.on.clone();
                let look = Question::Status(StatusRequest { on, deployment: None });
                let shown = |status: &Value| {
                    let deployment = &status["deployment"];
                    deployment["approval_wants"].is_string() && deployment["review"].is_object()
                };
                self.read(removals, look, shown).await
            }
            S::ReaderShowsRecords => {
                let (_, on) = self.live().await?;
                let look = Question::Audit(AuditRequest { on: on.clone(), after: 0 });
                self.read(removals, look, |page| !page["rows"][0].is_null()).await
            }
            S::ReaderShowsHistory => {
                let (_, on) = self.live().await?;
                let look = Question::History(HistoryRequest { on: on.clone(), before: None, limit: None });
                self.read(removals, look, |page| !page["deployments"][0].is_null()).await
            }
            S::ReaderLists => {
                self.live().await?;
                let look = Question::Environments(EnvironmentsRequest::default());
                self.read(removals, look, |page| page["environments"].is_array()).await
            }
            S::ApiKnowsKeys => Box::pin(self.api_knows_keys(removals)).await,
            S::WebKnowsKeys => Box::pin(self.web_knows_keys(removals)).await,
            S::ShowsPage => {
                let waiting = self.waiting().await?;
                self.rights.take(removals).await;
                self.shows(waiting, "AWS::SSM::Parameter").await
            }
            S::ShowsProgress => Box::pin(self.shows_progress(removals)).await,
            S::Approves => {
                let waiting = self.ask().await?;
                self.rights.take(removals).await;
                self.decide(&waiting, "approve").await?;
                self.end(&waiting.arn).await
            }
            S::Rejects => {
                let waiting = self.ask().await?;
                self.rights.take(removals).await;
                self.decide(&waiting, "reject").await?;
                let ended = world.end(&waiting.arn).await;
                check(ended.error == "ApprovalRejected", || format!("{ended:?}"))
            }
            S::Supersedes => {
                let older = self.ask().await?;
                self.rights.take(removals).await;
                self.ask_on(&main_job(), &older.on, Some(&older.link)).await?;
                let ended = world.end(&older.arn).await;
                check(ended.error == "Superseded", || format!("{ended:?}"))
            }
            S::SettlesStopped => {
                let waiting = self.ask().await?;
                let settle = world.physical_id("SettleFunction").await;
                let execution = world.machines.describe_execution().execution_arn(&waiting.arn).send().await.unwrap();
                // Its seconds are a float, which cut off would be a millisecond less now and then.
                let started = (execution.start_date().as_secs_f64() * 1000.0).round();
                let event = json!({
                    "version": "0", "id": "1", "source": "aws.states", "account": TOOLING, "region": slipway_local::REGION,
                    "detail-type": "Step Functions Execution Status Change", "time": "2026-01-01T00:00:00Z",
                    "resources": [waiting.arn],
                    "detail": {
                        "executionArn": waiting.arn, "startDate": started as i64,
                        "status": "ABORTED", "input": execution.input(),
                    },
                });
                self.rights.take(removals).await;
                let output = world.invoke(&settle, &event).await.map_err(refused)?;
                check(output["error"] == "Stopped" && output["deployment"].is_string(), || output.to_string())
            }
            S::SweepsEnvironment => {
                let (owner, on) = (feature(), fresh("dev"));
                self.tiny(&owner, &on).await?;
                world.overdue(&on).await;
                self.rights.take(removals).await;
                self.sweep("teardowns").await
            }
            S::SweepsQuestion => {
                let waiting = self.ask().await?;
                world.overdue(&waiting.on).await;
                self.rights.take(removals).await;
                self.sweep("expired_approvals").await?;
                let ended = world.end(&waiting.arn).await;
                check(ended.error == "ApprovalExpired", || format!("{ended:?}"))
            }
            S::SweepsLostAnswer => {
                const LOSES: Removal =
                    Removal { role: "slipway-web", sid: "HandOnDecisions", part: "states:SendTaskSuccess" };
                let waiting = self.ask().await?;
                self.rights.take(&[LOSES]).await;
                let lost = self.decide(&waiting, "approve").await;
                self.rights.give_back(&[LOSES]).await;
                assert!(lost.is_err());
                world.answer_overdue(&waiting.link).await;
                self.rights.take(removals).await;
                self.sweep("answers").await?;
                self.end(&waiting.arn).await
            }
            S::WarnsOfExpiry | S::SettlesDeployment | S::SettlesTeardown | S::Forgets => {
                Box::pin(self.of_cleanup(scenario, removals)).await
            }
            S::TellsOfBeginnings | S::TellsOfEnds | S::TellsWhoKeeps => {
                Box::pin(self.tells_listeners(scenario, removals)).await
            }
            S::SweepsBranch => Box::pin(self.sweep_branches(removals)).await,
            S::ShowsInGitLab => Box::pin(self.shows_in_gitlab(removals)).await,
            S::SweepsGarbage => Box::pin(self.collect_garbage(removals)).await,
            S::Schedules => {
                self.rights.take(removals).await;
                self.schedule().await
            }
            S::CommandShows => {
                let (job, on) = self.live().await?;
                self.rights.take(removals).await;
                self.command(job, on, "status").await
            }
            S::CommandDeploys => {
                self.rights.take(removals).await;
                self.command(&feature(), &fresh("dev"), "deploy").await
            }
            S::CommandTearsDown => {
                self.rights.take(removals).await;
                self.command(&job("stop", "feature"), &fresh("dev"), "teardown").await
            }
            S::LeavesNoShell => {
                // A deployment that fails with its change set made.
                let execute = Removal { role: "SharedServiceRole", sid: "ExecuteChangeSets", part: "" };
                let taken: Vec<Removal> = removals.iter().copied().chain([execute]).collect();
                self.rights.take(&taken).await;
                let (job, on) = (feature(), fresh("dev"));
                let (digest, zip) = bundle(&tiny("shell"));
                let arn = self.start(&job, &on, launch(&digest), zip).await?;
                let ended = world.end(&arn).await;
                self.rights.give_back(&taken).await;
                check(ended.cause.contains("cloudformation:ExecuteChangeSet"), || format!("{ended:?}"))?;
                let shell = world.stack_status(DEV, &job, &on).await;
                check(shell.is_none(), || format!("a shell is left: {shell:?}"))
            }
            S::Unlocks => {
                let on = fresh("dev");
                self.world.put_row(&on, "LEASE", &lease_of(&json!("01a20632-4446-7cc2-a162-1ba210a234b5"))).await;
                self.rights.take(removals).await;
                let request = UnlockRequest { on, force: true, reason: None };
                let unlocked = world.ask(&world.token(&feature()), Ask::Unlock(request)).await.map_err(refused)?;
                check(unlocked["unlocked"] == true, || unlocked.to_string())
            }
            S::Repairs => {
                let on = fresh("dev");
                let (digest, zip) = bundle(&unyielding("before", false));
                self.deploy(&feature(), &on, launch(&digest), zip).await?;
                let (digest, zip) = bundle(&unyielding("after", true));
                let arn = self.start(&feature(), &on, launch(&digest), zip).await?;
                let stuck = world.end(&arn).await;
                check(stuck.cause.contains("UPDATE_ROLLBACK_FAILED"), || format!("{stuck:?}"))?;
                self.rights.take(removals).await;
                let skip = BTreeSet::from([RolledBackName::new("Thing").unwrap()]);
                let asked = Asked::Skip(skip.try_into().unwrap());
                let repair = world.begin_repair(&feature(), &on, &asked).await.map_err(refused)?;
                self.end(&repair).await
            }
            S::TakesOver | S::TakesOverTeardown => {
                let (owner, on) = (feature(), fresh("dev"));
                if scenario == S::TakesOver {
                    self.tiny(&owner, &on).await?;
                } else {
                    self.teardown(&job("stop", "feature"), &on).await?;
                }
                let ended = &world.row(&on, "META").await.unwrap()["deployment"];
                world.put_row(&on, "LEASE", &lease_of(ended)).await;
                self.rights.take(removals).await;
                self.tiny(&feature(), &on).await
            }
            S::NamesLine => {
                self.rights.take(removals).await;
                let (digest, zip) = bundle(&failing(&format!("/line/{}", unique())));
                self.names_line(digest, zip, "(AWS::SSM::Parameter, template.yaml:5)").await
            }
            S::NamesNestedLine => {
                self.rights.take(removals).await;
                let (digest, zip) = nesting(&failing(&format!("/line/{}", unique())));
                self.names_line(digest, zip, "(AWS::SSM::Parameter, child.yaml:5)").await
            }
            S::ApplicationAnswers => {
                let url = self.news().await?;
                self.rights.take(removals).await;
                let answer = inspect::call(&world.control_plane.emulator, DEV, url, "services").await;
                answer.map(drop).map_err(|error| error.to_string())
            }
        }
    }

    async fn start(&self, job: &NewsJob, on: &On, launch: Launch, zip: Vec<u8>) -> Result<String, String> {
        let admitted = self.world.admit(job, on, launch, zip.len()).await.map_err(refused)?;
        if let Some(upload) = &admitted.upload {
            let request =
                upload.headers.iter().fold(reqwest::Client::new().put(&upload.url), |request, (name, value)| {
                    if name == "content-length" || name == "host" { request } else { request.header(name, value) }
                });
            let answer = request.body(zip).send().await.unwrap();
            if !answer.status().is_success() {
                return Err(answer.text().await.unwrap());
            }
        }
        Ok(self.world.start_admitted(&admitted, job).await)
    }

    async fn deploy(&self, job: &NewsJob, on: &On, launch: Launch, zip: Vec<u8>) -> Worked {
        let arn = self.start(job, on, launch, zip).await?;
        self.end(&arn).await
    }

    async fn names_line(&self, digest: Digest, zip: Vec<u8>, line: &str) -> Worked {
        let arn = self.start(&feature(), &fresh("dev"), launch(&digest), zip).await?;
        let ended = self.world.end(&arn).await;
        check(ended.error == "StackFailed" && ended.cause.contains(line), || format!("no line: {ended:?}"))
    }

    async fn tiny(&self, job: &NewsJob, on: &On) -> Worked {
        let (digest, zip) = bundle(&tiny("rights"));
        self.deploy(job, on, launch(&digest), zip).await
    }

    async fn end(&self, arn: &str) -> Worked {
        let ended = self.world.end(arn).await;
        check(ended.status == "SUCCEEDED", || format!("{}: {}", ended.error, ended.cause))
    }

    async fn teardown(&self, job: &NewsJob, on: &On) -> Worked {
        let request = TeardownRequest { on: on.clone(), job: job.name.clone(), purge_logs: false };
        let admitted = self.world.ask(&self.world.token(job), Ask::Teardown(request)).await.map_err(refused)?;
        let arn = self.world.start_admitted(&serde_json::from_value(admitted).unwrap(), job).await;
        self.end(&arn).await
    }

    async fn ask(&self) -> Result<Waiting, String> {
        self.ask_on(&main_job(), &fresh("prod"), None).await
    }

    /// Deploys until people are asked, by another link than `older`.
    async fn ask_on(&self, job: &NewsJob, on: &On, older: Option<&String>) -> Result<Waiting, String> {
        let (digest, zip) = bundle(&tiny("asked"));
        let arn = self.start(job, on, launch(&digest), zip).await?;
        loop {
            let found = self.world.machines.describe_execution().execution_arn(&arn).send().await.unwrap();
            if found.status().as_str() != "RUNNING" {
                return Err(format!("{}: {}", found.error().unwrap_or_default(), found.cause().unwrap_or_default()));
            }
            let status = self.world.status(job, on).await;
            if let Some(link) = status.ok().and_then(|status| status.deployment).and_then(|mine| mine.approval_url)
                && Some(&link) != older
            {
                return Ok(Waiting { job: job.clone(), on: on.clone(), arn, link });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Decides, and sees that Step Functions has the answer: one that it does not get is left to the cleanup.
    async fn decide(&self, waiting: &Waiting, decision: &str) -> Worked {
        let began = jiff::Timestamp::now();
        let manager = waiting.job.clone().played_by(8, "release-manager");
        let (code, body) = self.world.decide(&waiting.link, decision, &manager).await;
        if code == 200 && self.world.question(&waiting.link).await["delivered"] == true {
            return Ok(());
        }
        Err(format!("{code}: {body}: {}", self.world.log("web", began).await))
    }

    async fn shows(&self, waiting: &Waiting, text: &str) -> Worked {
        let began = jiff::Timestamp::now();
        let (code, page) = self.world.web("GET", &waiting.link, &[], "text/html").await;
        if code == 200 && page.contains(text) {
            return Ok(());
        }
        Err(format!("{code}: {}", self.world.log("web", began).await))
    }

    async fn shows_progress(&self, removals: &[Removal]) -> Worked {
        let waiting = self.ask().await?;
        self.decide(&waiting, "approve").await?;
        self.end(&waiting.arn).await?;
        self.rights.take(removals).await;
        self.shows(&waiting, "CREATE_COMPLETE").await
    }

    async fn api_knows_keys(&self, removals: &[Removal]) -> Worked {
        let (job, on) = self.live().await?;
        self.world.keep_keys("ApiFunction").await;
        self.rights.take(removals).await;
        let status = self.world.status(job, on).await.map(drop).map_err(refused);
        self.world.forget_keys("ApiFunction").await;
        status
    }

    async fn web_knows_keys(&self, removals: &[Removal]) -> Worked {
        let waiting = self.ask().await?;
        self.world.keep_keys("WebFunction").await;
        self.rights.take(removals).await;
        let decided = self.decide(&waiting, "reject").await;
        self.world.forget_keys("WebFunction").await;
        decided
    }

    async fn shows_records(&self, removals: &[Removal]) -> Worked {
        let (job, on) = self.live().await?;
        self.rights.take(removals).await;
        let ask = Ask::Look(Question::Audit(AuditRequest { on: on.clone(), after: 0 }));
        let page = self.world.ask(&self.world.token(job), ask).await.map_err(refused)?;
        check(page["rows"].as_array().is_some_and(|rows| !rows.is_empty()), || page.to_string())
    }

    /// Asks `reader` as somebody who assumes the role for that.
    async fn read(&self, removals: &[Removal], look: Question, shown: impl Fn(&Value) -> bool) -> Worked {
        self.rights.take(removals).await;
        let (plane, emulator) = (&self.world.control_plane, &self.world.control_plane.emulator);
        let sts = aws_sdk_sts::Client::new(&emulator.sdk_config(TOOLING));
        let assume = sts.assume_role().role_arn(plane.output("ReaderRole")).role_session_name("somebody").send().await;
        let given = assume.map_err(|error| format!("sts:AssumeRole: {error:?}"))?.credentials.unwrap();
        let token = Some(given.session_token().to_owned());
        let given = Credentials::new(given.access_key_id(), given.secret_access_key(), token, None, "test");
        let request = ReaderRequest { project: Some(ProjectId(101)), look };
        let lambda = aws_sdk_lambda::Client::new(&emulator.sdk_config_of(given));
        let invoke = lambda.invoke().function_name(plane.output("ReaderFunction"));
        let invoke = invoke.payload(aws_sdk_lambda::primitives::Blob::new(serde_json::to_vec(&request).unwrap()));
        let answer = invoke.send().await.map_err(|error| format!("{error:?}"))?;
        let answer: Value = serde_json::from_slice(answer.payload().unwrap().as_ref()).unwrap();
        check(shown(&answer), || answer.to_string())
    }

    async fn tells_people(&self, removals: &[Removal]) -> Worked {
        let began = jiff::Timestamp::now();
        // The embedded AWS lets everybody of the account publish to a topic with the policy that a topic has by default: another one,
        // which allows nobody that, leaves it to the role's own rights.
        let topic = self.world.control_plane.output("ApprovalTopic");
        let others = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": {"AWS": TOOLING}, "Action": "sns:GetTopicAttributes", "Resource": topic}]});
        let sns = aws_sdk_sns::Client::new(&self.world.control_plane.emulator.sdk_config(TOOLING));
        let set = sns.set_topic_attributes().topic_arn(topic).attribute_name("Policy");
        set.attribute_value(others.to_string()).send().await.unwrap();
        self.rights.take(removals).await;
        let waiting = self.ask().await?;
        self.told(&waiting, began).await
    }

    /// Waits until it is noted that people were told, or the log says that they could not be.
    async fn told(&self, waiting: &Waiting, since: jiff::Timestamp) -> Worked {
        loop {
            if self.world.question(&waiting.link).await["announced"] == true {
                return Ok(());
            }
            let log = self.world.log("approval", since).await;
            if let Some(line) = log.lines().find(|line| line.contains("nobody could be told")) {
                return Err(line.to_owned());
            }
            let found = self.world.machines.describe_execution().execution_arn(&waiting.arn).send().await.unwrap();
            if found.status().as_str() != "RUNNING" {
                return Err(format!("{}: {}", found.error().unwrap_or_default(), found.cause().unwrap_or_default()));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Invokes the step that asks people again, for a question with an answer, as Step Functions does after a lost reply:
    /// with a token of its own. It is another waiting step's, so that it is a real one.
    async fn ask_again(&self, decision: &str, removals: &[Removal]) -> Worked {
        let (answered, other) = (self.ask().await?, self.ask().await?);
        self.decide(&answered, decision).await?;
        self.world.end(&answered.arn).await;
        let input = json!({
            "deployment": self.world.question(&answered.link).await["deployment"],
            "task_token": self.world.question(&other.link).await["task_token"],
            "tried": 1,
        });
        let function = self.world.physical_id("ApprovalFunction").await;
        self.rights.take(removals).await;
        self.world.invoke(&function, &input).await.map(drop).map_err(refused)?;
        // The other one is not approved itself, and says so.
        let ended = self.world.end(&other.arn).await;
        let expected = if decision == "approve" { "NotAllowed" } else { "ApprovalRejected" };
        check(ended.error == expected, || format!("{ended:?}"))
    }

    async fn sweep_branches(&self, removals: &[Removal]) -> Worked {
        let world = self.world;
        let on = fresh("dev");
        let branch = format!("feature-{}", unique());
        self.tiny(&job("deploy-dev", &branch), &on).await?;
        world.control_plane.gitlab.delete_branch(101, &branch);
        world.next_round().await;
        self.rights.take(removals).await;
        let began = jiff::Timestamp::now();
        let swept = world.sweep().await;
        if swept["branches"]["expired"].as_u64() >= Some(1) && swept["failed"] == 0 {
            return Ok(());
        }
        Err(format!("{swept}: {}", world.log("sweep", began).await))
    }

    async fn shows_in_gitlab(&self, removals: &[Removal]) -> Worked {
        let world = self.world;
        let (on, request) = (fresh("dev"), unique());
        let branch = format!("feature-{request}");
        let gitlab = &world.control_plane.gitlab;
        gitlab.open_merge_request(101, &branch, request);
        self.rights.take(removals).await;
        let began = jiff::Timestamp::now();
        self.tiny(&job("deploy-dev", &branch), &on).await?;
        match gitlab.notes(101, request).len() {
            1 => Ok(()),
            notes => Err(format!("{notes} notes: {}", world.log("settle", began).await)),
        }
    }

    async fn collect_garbage(&self, removals: &[Removal]) -> Worked {
        let world = self.world;
        self.live().await?;
        let digest = || Digest::of(unique().to_string().as_bytes());
        let bundle = format!("bundles/101/{}", digest());
        let units = [format!("artifacts/{}", digest()), format!("releases/{}", digest()), format!("{bundle}.zip")];
        let past = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(30 * 24);
        let put = |key: &str, body: &str| {
            world.s3.put_object().bucket(world.bucket()).key(key).body(body.as_bytes().to_vec().into()).send()
        };
        for unit in &units {
            let key = if unit.starts_with("releases/") { format!("{unit}/template.yaml") } else { unit.clone() };
            put(&key, "garbage").await.unwrap();
            world.age(&key, past).await;
        }
        let marked: BTreeMap<_, _> =
            units.iter().map(|unit| (unit, past + jiff::SignedDuration::from_hours(24))).collect();
        let marks = json!({"since": past - jiff::SignedDuration::from_hours(24), "looked_at": past, "marked": marked})
            .to_string();
        put("garbage/marks.json", &marks).await.unwrap();
        self.rights.take(removals).await;
        let began = jiff::Timestamp::now();
        let swept = world.sweep().await;
        let garbage = &swept["garbage"];
        if garbage["deleted"] == 3 && garbage["failed"] == 0 && garbage["artifacts_unknown"] == false {
            return Ok(());
        }
        Err(format!("{swept}: {}", world.log("sweep", began).await))
    }

    /// Lets the cleanup run. What it could not do it counts, and its log says why.
    async fn sweep(&self, counted: &str) -> Worked {
        let began = jiff::Timestamp::now();
        let function = self.world.control_plane.output("SweepFunction");
        let swept = self.world.invoke(function, &json!({"sweep": {}})).await.map_err(refused)?;
        if swept["failed"] == 0 && swept[counted].as_u64() >= Some(1) {
            return Ok(());
        }
        Err(format!("{swept}: {}", self.world.log("sweep", began).await))
    }

    fn ssm(&self) -> aws_sdk_ssm::Client {
        aws_sdk_ssm::Client::new(&self.world.control_plane.emulator.sdk_config(TOOLING))
    }

    /// What the emulator has logged.
    fn log(&self) -> String {
        std::fs::read_to_string(self.world.control_plane.emulator.log_path()).unwrap()
    }

    /// Makes a schedule like the one of template.yaml that is due at once, and looks whether it calls the function. The
    /// embedded AWS looks every ten seconds at what is due.
    async fn schedule(&self) -> Worked {
        let emulator = &self.world.control_plane.emulator;
        let name = format!("rights-{}", unique());
        let scope = format!("{TOOLING}/20260101/{}/scheduler/aws4_request", slipway_local::REGION);
        let authorization = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0");
        let body = json!({
            "ScheduleExpression": "at(2020-01-01T00:00:00)", "FlexibleTimeWindow": {"Mode": "OFF"},
            "Target": {
                "Arn": format!("arn:aws:lambda:{}:{TOOLING}:function:{}", slipway_local::REGION,
                    self.world.control_plane.output("SweepFunction")),
                "RoleArn": format!("arn:aws:iam::{TOOLING}:role/slipway/slipway-schedule"),
            },
        });
        let url = format!("{}/schedules/{name}", emulator.endpoint());
        let since = jiff::Timestamp::now();
        let request = reqwest::Client::new().post(url).header("authorization", authorization).json(&body);
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        let began = Instant::now();
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(&name) && line.contains("not called")) {
                return Err(line.to_owned());
            }
            if !self.world.log("sweep", since).await.is_empty() {
                return Ok(());
            }
            if began.elapsed() > Duration::from_secs(30) {
                return Err("the schedule did nothing".into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn of_cleanup(&self, scenario: Scenario, removals: &[Removal]) -> Worked {
        let world = self.world;
        if scenario == S::Forgets {
            let long_ago = json!({"expired_until": "2020-01-01T00:00:00Z", "until": "2020-01-02T00:00:00Z"});
            world.put_sweep_state(&json!({"confirmed": long_ago})).await;
            self.rights.take(removals).await;
            return world
                .invoke(world.control_plane.output("SweepFunction"), &json!({"sweep": {}}))
                .await
                .map(drop)
                .map_err(refused);
        }
        let (owner, on) = (feature(), fresh("dev"));
        self.tiny(&owner, &on).await?;
        if scenario == S::WarnsOfExpiry {
            let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(50);
            world.set_in_row(&on, "expires_at", &json!(soon)).await;
            world.set_in_row(&on, "next_warning", &json!("hour")).await;
            world.due(&on).await;
            self.rights.take(removals).await;
            return self.sweep("warnings").await;
        }
        if scenario == S::SettlesTeardown {
            self.teardown(&job("stop", "feature"), &on).await?;
        }
        let deployment = world.row(&on, "META").await.unwrap()["deployment"].clone();
        let action = if scenario == S::SettlesTeardown { "teardown" } else { "deploy" };
        let open =
            json!([{"deployment": deployment, "action": action, "release": null, "look_at": "2020-01-01T00:00:00Z"}]);
        world.set_in_row(&on, "open", &open).await;
        world.due(&on).await;
        self.rights.take(removals).await;
        self.sweep("settled").await?;
        let began = Instant::now();
        while world.row(&on, "META").await.unwrap()["open"] != json!([]) {
            if began.elapsed() > Duration::from_secs(20) {
                return Err("its end is still not recorded".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Nothing fails where nobody can be told: the log says so.
    async fn tells_listeners(&self, scenario: Scenario, removals: &[Removal]) -> Worked {
        let (owner, on) = self.live().await?;
        let since = jiff::Timestamp::now();
        self.rights.take(removals).await;
        let function = if scenario == S::TellsWhoKeeps {
            let ask = Ask::Keep(KeepRequest { on: on.clone(), keep: Keep::Extend { span: None } });
            self.world.ask(&self.world.token(owner), ask).await.map_err(refused)?;
            "api"
        } else {
            self.tiny(&feature(), &fresh("dev")).await?;
            if scenario == S::TellsOfEnds { "settle" } else { "begin" }
        };
        let log = self.world.log(function, since).await;
        log.lines().find(|line| line.contains("nobody was told")).map_or(Ok(()), |line| Err(line.to_owned()))
    }

    /// The scenarios of a teardown. They have a stack of their own: what all of them need at once is more than a thread's.
    fn of_teardown<'r>(
        &'r self,
        scenario: Scenario,
        removals: &'r [Removal],
    ) -> std::pin::Pin<Box<dyn Future<Output = Worked> + 'r>> {
        if scenario == S::PlansTeardown {
            Box::pin(self.plans_teardown(removals))
        } else if scenario == S::TearsExporterDown {
            let url = "  Url: {Value: !Sub 'https://example.com/${Setting}'}\n";
            let exported = "  Shared: {Value: x, Export: {Name: !Ref 'AWS::StackName'}}\n";
            Box::pin(self.tears_down(tiny("exports").replace(url, exported), removals, None))
        } else if scenario == S::EmptiesRepository {
            Box::pin(self.empties_repository(removals))
        } else if scenario == S::PurgesLogs {
            Box::pin(self.purges_logs(removals))
        } else {
            Box::pin(self.tears_down(BUCKET.to_owned(), removals, Some(scenario == S::EmptiesBucket)))
        }
    }

    async fn plans_teardown(&self, removals: &[Removal]) -> Worked {
        let (_, on) = self.live().await?;
        self.rights.take(removals).await;
        let ask = Ask::PlanTeardown(PlanRequest { on: on.clone() });
        let plan = self.world.ask(&self.world.token(&job("stop", "feature")), ask).await.map_err(refused)?;
        check(plan["resources"].as_array().is_some_and(|found| found.len() == 1), || plan.to_string())
    }

    /// An environment of `template` is torn down, with something in its bucket where it has one: in versions, or plainly.
    async fn tears_down(&self, template: String, removals: &[Removal], versions: Option<bool>) -> Worked {
        let (owner, on) = (feature(), fresh("dev"));
        let (digest, zip) = bundle(&template);
        self.deploy(&owner, &on, launch(&digest), zip).await?;
        if let Some(versions) = versions {
            let stack = self.world.status(&owner, &on).await.map_err(refused)?.stack_name.to_string();
            self.fill(&stack, versions).await;
        }
        self.rights.take(removals).await;
        self.teardown(&job("stop", "feature"), &on).await
    }

    /// Puts something into the stack's bucket.
    async fn fill(&self, stack: &str, versions: bool) {
        let found = self.world.cloudformation(DEV).describe_stack_resource().stack_name(stack);
        let found = found.logical_resource_id("Uploads").send().await.unwrap().stack_resource_detail.unwrap();
        let bucket = found.physical_resource_id.unwrap();
        let s3 = aws_sdk_s3::Client::new(&self.world.control_plane.emulator.sdk_config(DEV));
        if versions {
            let enabled = aws_sdk_s3::types::BucketVersioningStatus::Enabled;
            let versioned = aws_sdk_s3::types::VersioningConfiguration::builder().status(enabled).build();
            s3.put_bucket_versioning().bucket(&bucket).versioning_configuration(versioned).send().await.unwrap();
        }
        // Of a list of objects, the embedded AWS asks for the right on the first one as for an object without versions.
        for key in ["one", "two"] {
            s3.put_object().bucket(&bucket).key(key).body(b"text".to_vec().into()).send().await.unwrap();
        }
        s3.create_multipart_upload().bucket(&bucket).key("unfinished").send().await.unwrap();
    }

    async fn empties_repository(&self, removals: &[Removal]) -> Worked {
        // Whether images go is the stage's to say.
        let config = self.world.control_plane.emulator.sdk_config(TOOLING);
        let (ssm, name) = (aws_sdk_ssm::Client::new(&config), self.world.control_plane.output("StagesParameterName"));
        let known = slipway_local::control_plane::stages();
        let mut stages: Value = serde_json::from_str(&known).unwrap();
        stages["dev"]["teardown"] = json!({"images": true});
        ssm.put_parameter().name(name).value(stages.to_string()).overwrite(true).send().await.unwrap();
        let worked = Box::pin(self.tears_down_images(removals)).await;
        ssm.put_parameter().name(name).value(known).overwrite(true).send().await.unwrap();
        worked
    }

    async fn tears_down_images(&self, removals: &[Removal]) -> Worked {
        let (owner, on) = (feature(), fresh("dev"));
        let (digest, zip) = bundle("Resources:\n  Images: {Type: AWS::ECR::Repository}\n");
        self.deploy(&owner, &on, launch(&digest), zip).await?;
        let stack = self.world.status(&owner, &on).await.map_err(refused)?.stack_name.to_string();
        let found = self.world.cloudformation(DEV).describe_stack_resource().stack_name(stack);
        let found = found.logical_resource_id("Images").send().await.unwrap().stack_resource_detail.unwrap();
        let ecr = aws_sdk_ecr::Client::new(&self.world.control_plane.emulator.sdk_config(DEV));
        let image = ecr.put_image().repository_name(found.physical_resource_id.unwrap()).image_tag("one");
        image.image_manifest(json!({"schemaVersion": 2}).to_string()).send().await.unwrap();
        self.rights.take(removals).await;
        self.teardown(&job("stop", "feature"), &on).await
    }

    async fn purges_logs(&self, removals: &[Removal]) -> Worked {
        let (owner, on) = (feature(), fresh("dev"));
        let (digest, zip) = bundle(&unyielding("logs", false));
        self.deploy(&owner, &on, launch(&digest), zip).await?;
        self.rights.take(removals).await;
        let stop = job("stop", "feature");
        let request = TeardownRequest { on: on.clone(), job: stop.name.clone(), purge_logs: true };
        let admitted = self.world.ask(&self.world.token(&stop), Ask::Teardown(request)).await.map_err(refused)?;
        let arn = self.world.start_admitted(&serde_json::from_value(admitted).unwrap(), &stop).await;
        self.end(&arn).await?;
        let deployment = self.world.settled(&stop, &on).await.deployment.unwrap();
        check(deployment.leftovers.purged.len() == 1, || deployment.said.join(" "))
    }

    async fn command(&self, job: &NewsJob, on: &On, command: &str) -> Worked {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("template.yaml"), tiny("command")).unwrap();
        let (stage, application, environment) =
            (on.stage.to_string(), on.application.to_string(), on.environment.to_string());
        let args = [command, "--stage", &stage, "--application", &application, "--environment", &environment];
        let ran = jobs::run(&self.world.control_plane, job, folder.path(), &args, |_| {}).await.unwrap();
        check(ran.code == 0, || ran.log)
    }

    /// An environment in dev.
    async fn live(&self) -> Result<&(NewsJob, On), String> {
        let make = async || {
            let (job, on) = (feature(), fresh("dev"));
            self.tiny(&job, &on).await?;
            Ok((job, on))
        };
        self.live.get_or_try_init(make).await
    }

    /// A deployment that nobody decides.
    async fn waiting(&self) -> Result<&Waiting, String> {
        self.waiting.get_or_try_init(|| self.ask()).await
    }

    /// The example application, its roles with the boundary: its URL. The embedded AWS does not give a role the boundary that
    /// its template names, but heeds one that it has.
    async fn news(&self) -> Result<&String, String> {
        let make = async || {
            let folder = workspace_root().join("examples/news");
            let environment = format!("review/rights-{}", unique());
            let dotenv = tempfile::NamedTempFile::new().unwrap();
            let dotenv = dotenv.path().to_str().unwrap();
            let args = ["deploy", "--stage", "dev", "--environment", &environment, "--dotenv", dotenv];
            let ran = jobs::run(&self.world.control_plane, &feature(), &folder, &args, |_| {}).await.unwrap();
            check(ran.code == 0, || ran.log)?;
            let prefix = format!("slipway-news-dev-{}", environment.replace('/', "-"));
            let config = self.world.control_plane.emulator.sdk_config(DEV);
            let stack = inspect::stacks(&config, &prefix).await.unwrap().remove(0).name;
            let resources = self.world.cloudformation(DEV).describe_stack_resources().stack_name(stack).send().await;
            let boundary = format!("arn:aws:iam::{DEV}:policy/slipway/ApplicationBoundary");
            for resource in resources.unwrap().stack_resources() {
                if resource.resource_type() == Some("AWS::IAM::Role") {
                    let role = resource.physical_resource_id().unwrap();
                    let request = self.world.iam(DEV).put_role_permissions_boundary().role_name(role);
                    request.permissions_boundary(&boundary).send().await.unwrap();
                }
            }
            inspect::output(&config, &prefix, "ApiUrl").await.map_err(|error| error.to_string())
        };
        self.news.get_or_try_init(make).await
    }
}

// --- the templates ------------------------------------------------------------------------------------------------------

/// The role's and the statement's name of every Allow in a template, by its lines: each statement has its Sid and Effect on
/// lines, or one line, of their own.
fn written(file: &str) -> BTreeSet<(String, String)> {
    let text = std::fs::read_to_string(workspace_root().join(file)).unwrap();
    let after = |line: &str, key: &str| {
        let quoted = format!("\"{key}\"");
        let at = line
            .find(&format!("{key}: "))
            .map(|at| at + key.len())
            .or_else(|| Some(line.find(&quoted)? + quoted.len()))?;
        let word = line.get(at + 1..)?.trim_start().trim_start_matches('"');
        Some(word.chars().take_while(char::is_ascii_alphanumeric).collect::<String>())
    };
    let mut found = BTreeSet::new();
    let (mut resource, mut last, mut allows) = (String::new(), String::new(), 0);
    for line in text.lines() {
        if let Some(id) = line.strip_prefix("  ").filter(|rest| !rest.starts_with([' ', '#', '-'])) {
            id.trim_end_matches(':').clone_into(&mut resource);
        }
        if let Some(name) = line.split_once("RoleName: ").or_else(|| line.split_once("ManagedPolicyName: ")) {
            name.1
                .replace("!Sub ", "")
                .replace("${AWS::StackName}", "slipway")
                .replace('"', "")
                .clone_into(&mut resource);
        }
        if let Some(sid) = after(line, "Sid") {
            last = sid;
        }
        if after(line, "Effect").as_deref() == Some("Allow") {
            allows += 1;
            assert!(found.insert((resource.clone(), last.clone())), "{file}: {resource} has two statements {last}");
        }
    }
    let counted = text.matches("Effect: Allow").count() + text.matches("\"Effect\": \"Allow\"").count();
    assert_eq!(allows, counted, "{file}: every Allow is found");
    assert_eq!(found.len(), counted, "{file}: every Allow has a Sid of its own");
    found
}

fn in_tables() -> BTreeSet<(String, String)> {
    let unproven = NOT_ENFORCED.iter().chain(NOT_DEPLOYED).map(|listed| (listed.role, listed.sid));
    let both = CASES.iter().map(|case| (case.role, case.sid)).chain(unproven);
    both.map(|(role, sid)| (role.to_owned(), sid.to_owned())).collect()
}

#[allow(clippy::disallowed_methods, reason = "a test's own settings")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

static SERIAL: Mutex<()> = Mutex::new(());

/// The rights are everybody's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    SERIAL.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn every_statement_of_the_templates_is_in_the_tables() {
    let written: BTreeSet<_> =
        ["template.yaml", "setup/roles.yaml", "setup/gitlab.yaml"].iter().flat_map(|file| written(file)).collect();
    let tables = in_tables();
    let unlisted: Vec<_> = written.difference(&tables).collect();
    let gone: Vec<_> = tables.difference(&written).collect();
    assert!(unlisted.is_empty() && gone.is_empty(), "not in the tables: {unlisted:?}; not in a template: {gone:?}");
}

#[test]
fn every_part_of_what_is_deployed_is_in_the_tables() {
    let _alone = alone();
    in_world(|world| async move {
        let rights = Rights::read(world).await;
        let not_deployed =
            |(role, sid): &(String, String)| NOT_DEPLOYED.iter().any(|listed| listed.role == role && listed.sid == sid);
        let tables: BTreeSet<_> = in_tables().into_iter().filter(|listed| !not_deployed(listed)).collect();
        assert_eq!(rights.allowed(), tables);
        let mut problems = Vec::new();
        for (role, sid) in rights.allowed() {
            let of_this = |listed: &(&str, &str, &'static str)| listed.0 == role && listed.1 == sid;
            let cases = CASES.iter().map(|case| (case.role, case.sid, case.part));
            let unproven = NOT_ENFORCED.iter().map(|listed| (listed.role, listed.sid, listed.part));
            let listed: Vec<_> = cases.chain(unproven).filter(of_this).map(|listed| listed.2).collect();
            let parts = rights.parts(&role, &sid);
            if NOT_ENFORCED.iter().any(|entry| entry.role == role && entry.sid == sid && entry.part.is_empty()) {
                if listed.len() != 1 {
                    problems.push(format!("{role} {sid}: the whole is not enforced, and parts are"));
                }
                continue;
            }
            for part in &parts {
                let naming = listed.iter().filter(|listed| !listed.is_empty() && names(listed, part)).count();
                if naming != 1 {
                    problems.push(format!("{role} {sid}: {naming} cases for {part}"));
                }
            }
            if listed.len() != parts.len().max(1) {
                problems.push(format!("{role} {sid}: the cases {listed:?} for the parts {parts:?}"));
            }
        }
        assert!(problems.is_empty(), "{problems:#?}");
    });
}

#[test]
fn without_a_right_something_turns_red() {
    let _alone = alone();
    in_world(|world| async move {
        let runner = Runner::new(world).await;
        let mut problems = Vec::new();
        let mut used: BTreeMap<Scenario, Duration> = BTreeMap::new();
        let only = setting("SLIPWAY_ONLY").unwrap_or_default();
        for case in CASES.iter().filter(|case| case.role.contains(&only)) {
            let began = Instant::now();
            let removal = Removal { role: case.role, sid: case.sid, part: case.part };
            let what = format!("{} without {} {}", case.role, case.sid, case.part);
            match runner.run(case.scenario, &[removal]).await {
                Ok(()) => problems.push(format!("{what}: {:?} still works", case.scenario)),
                Err(said) => {
                    let by_role = case.role == "ApplicationBoundary"
                        || !said.contains("assumed-role/")
                        || said.contains(case.role);
                    if !said.contains(case.says) || !by_role {
                        problems.push(format!("{what}: {:?} does not say {:?}, but {said}", case.scenario, case.says));
                    }
                }
            }
            let took = began.elapsed();
            *used.entry(case.scenario).or_default() += took;
            eprintln!("{:6.2} s {what}: {:?}", took.as_secs_f64(), case.scenario);
        }
        // With all rights back, all works.
        for scenario in used.keys() {
            let began = Instant::now();
            if let Err(said) = runner.run(*scenario, &[]).await {
                problems.push(format!("with all rights back, {scenario:?} does not work: {said}"));
            }
            eprintln!("{:6.2} s with all rights: {scenario:?}", began.elapsed().as_secs_f64());
        }
        assert!(problems.is_empty(), "{problems:#?}");
    });
}

#[test]
fn what_is_not_enforced_is_really_not_enforced() {
    let _alone = alone();
    in_world(|world| async move {
        let runner = Runner::new(world).await;
        let removals: Vec<_> = NOT_ENFORCED
            .iter()
            .map(|listed| Removal { role: listed.role, sid: listed.sid, part: listed.part })
            .collect();
        let scenarios: BTreeSet<_> = CASES.iter().map(|case| case.scenario).collect();
        let mut problems = Vec::new();
        // What a scenario prepares, it prepares with all rights: the example application, with its transform, roles and
        // functions, is deployed without these.
        runner.rights.take(&removals).await;
        if let Err(said) = runner.news().await {
            problems.push(format!("the example application's deployment needs one of them: {said}"));
        }
        runner.rights.give_back(&removals).await;
        for scenario in scenarios {
            if let Err(said) = runner.run(scenario, &removals).await {
                problems.push(format!("{scenario:?} needs one of them: {said}"));
            }
        }
        assert!(problems.is_empty(), "move what is enforced now to CASES: {problems:#?}");
    });
}

#[test]
fn a_protected_account_gives_no_right_to_delete_a_stack() {
    let _alone = alone();
    in_world(|world| async move {
        let rights = Rights::read(world).await;
        for account in [DEV, STAGING, PROD] {
            let is_here = |place: &Place| matches!(place, Place::Inline { account: at, .. } if *at == account);
            let policies = rights.policies.iter().filter(|policy| policy.role == "SharedServiceRole");
            let own: Vec<_> = policies.filter(|policy| is_here(&policy.place)).collect();
            assert_eq!(own.len(), 1);
            let document = own[0].document.to_string();
            for word in ["\"DeleteStacks\"", "\"cloudformation:DeleteStack\""] {
                assert_eq!(document.contains(word), account == DEV, "{word} in {account}: {document}");
            }
            let actions = statements(&own[0].document).into_iter().map(|statement| statement["Action"].to_string());
            for actions in actions {
                for word in ["\"cloudformation:*\"", "\"cloudformation:Delete*\"", "\"*\""] {
                    assert!(!actions.contains(word), "{word} in {account}: {document}");
                }
            }
        }
    });
}

#[test]
fn runners_with_a_role_need_the_other_trust() {
    let _alone = alone();
    in_world(|world| async move {
        let runner = Runner::new(world).await;
        let (job, on) = runner.live().await.unwrap().clone();
        let iam = world.iam(TOOLING);
        let user = iam.create_user().user_name("runner").send().await.unwrap().user.unwrap();
        let may = json!({"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}]}).to_string();
        iam.put_user_policy().user_name("runner").policy_name("runner").policy_document(may).send().await.unwrap();
        let key = iam.create_access_key().user_name("runner").send().await.unwrap().access_key.unwrap();
        let (id, secret) = (key.access_key_id, key.secret_access_key);
        let folder = tempfile::tempdir().unwrap();
        let role = &world.control_plane.client_role;
        let config = format!(
            "[default]\nrole_arn = {role}\nsource_profile = runner\n\n[profile runner]\naws_access_key_id = {id}\n\
             aws_secret_access_key = {secret}\n"
        );
        std::fs::write(folder.path().join("config"), config).unwrap();
        let shows = async || {
            let token = world.token(&job);
            let mut command = tokio::process::Command::new(jobs::command_path());
            command
                .args(["status", "--stage", "dev", "--application", "tiny"])
                .args(["--environment", on.environment.as_str()]);
            command.env_clear().envs(world.control_plane.job_environment(&token)).env_remove("SLIPWAY_ROLE_ARN");
            let output = command.env("AWS_CONFIG_FILE", folder.path().join("config")).output().await.unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            check(output.status.success(), || said)
        };
        let deploy = async |host: &str, principal: &str| {
            let parameters = [("GitLabHost", host), ("RunnerPrincipal", principal)];
            let request = slipway_local::stack::Deploy {
                stack_name: "slipway-gitlab".into(),
                template: std::fs::read_to_string(workspace_root().join("setup/gitlab.yaml")).unwrap(),
                parameters: parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
                template_bucket: None,
            };
            slipway_local::stack::deploy(&world.control_plane.emulator.sdk_config(TOOLING), request).await.unwrap();
        };
        let refused = shows().await.unwrap_err();
        assert!(refused.contains("AccessDenied") || refused.contains("not authorized"), "{refused}");
        deploy("", user.arn()).await;
        let worked = shows().await;
        let trust = Rights::read(world).await;
        let without = Removal { role: "slipway-client", sid: "RunnersAssume", part: "" };
        trust.take(&[without]).await;
        let refused = shows().await.unwrap_err();
        deploy(world.control_plane.gitlab.url().trim_start_matches("http://"), "").await;
        runner.rights.give_back(&[without]).await;
        worked.unwrap();
        assert!(refused.contains("AccessDenied") || refused.contains("not authorized"), "{refused}");
        runner.run(S::CommandShows, &[]).await.unwrap();
    });
}

// --- the page -----------------------------------------------------------------------------------------------------------

/// The scenario in words, as its documentation has them.
fn in_words(scenario: Scenario) -> String {
    let words = format!("{scenario:?}");
    let lower = words.chars().flat_map(|c| if c.is_uppercase() { vec![' ', c.to_ascii_lowercase()] } else { vec![c] });
    lower.collect::<String>().trim().to_owned()
}

fn tables() -> String {
    let mut page = String::from("| role | statement | without | turns red | and says |\n|---|---|---|---|---|\n");
    for Case { role, sid, part, scenario, says } in CASES {
        let part = if part.is_empty() { "all of it".to_owned() } else { format!("`{part}`") };
        page.push_str(&format!("| {role} | {sid} | {part} | {} | `{says}` |\n", in_words(*scenario)));
    }
    for (title, listed) in [
        ("Nothing turns red on the embedded AWS without these:", NOT_ENFORCED),
        ("The tests deploy without these:", NOT_DEPLOYED),
    ] {
        page.push_str(&format!("\n{title}\n\n| role | statement | of it | because |\n|---|---|---|---|\n"));
        for Unproven { role, sid, part, reason } in listed {
            let part = if part.is_empty() { "all".to_owned() } else { format!("`{part}`") };
            page.push_str(&format!("| {role} | {sid} | {part} | {reason} |\n"));
        }
    }
    page
}

#[test]
fn the_docs_have_these_tables() {
    const BEGIN: &str = "<!-- tables: written by tests/tests/rights.rs -->\n\n";
    let path = workspace_root().join("docs/SECURITY.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, after) = page.split_once(BEGIN).unwrap();
    if setting("SLIPWAY_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{}", tables())).unwrap();
    } else {
        assert!(after == tables(), "docs/SECURITY.md has other tables: run this test with SLIPWAY_BLESS=1");
    }
}
