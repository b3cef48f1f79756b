//! What the end-to-end tests stand on: Slipway on the embedded AWS, started once for each test binary, and the few things
//! that a job, a person and an operator do to it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's own ground: it fails loudly")]

pub mod browser;
pub mod case;
pub mod cloudformation;
pub mod faults;
pub mod guide;
pub mod npm;
pub mod peers;
pub mod person;
pub mod pipeline;
mod relay;
pub mod scale;
pub mod sessions;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_sfn::types::ExecutionStatus;
use serde_json::{Value, json};
use slipway_bundle::{Folder, Limits};
use slipway_domain::admission::MAX_ATTEMPT;
use slipway_domain::audit::{Head, Row};
use slipway_domain::deployment::{Launch, execution_name};
use slipway_domain::lease::Holder;
use slipway_domain::names::{ApplicationName, Digest, EnvironmentName, ParameterName, StageName};
use slipway_domain::protocol::{
    Admitted, Ask, AuditPage, AuditRequest, DeployRequest, ExecutionInput, On, Question, RepairRequest, Request,
    RollbackRequest, Status, StatusRequest, TeardownRequest, UnlockRequest, Unlocked,
};
use slipway_domain::repair::Asked;
use slipway_domain::stages::Capability;
use slipway_local::control_plane::{self, ControlPlane};
use slipway_local::emulator::Options;
use slipway_local::job::NewsJob;
use slipway_local::{TOOLING, functions};

/// How long anything may take here before a test gives up: the machines are slow when all cores are busy.
const PATIENCE: Duration = Duration::from_secs(90);

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap());
static WORLD: LazyLock<World> = LazyLock::new(|| RUNTIME.block_on(World::start(Some(0.05))));

/// Runs `test` in the binary's one world.
pub fn in_world<F: Future<Output = ()>>(test: impl FnOnce(&'static World) -> F) {
    let world = &*WORLD;
    RUNTIME.block_on(test(world));
}

/// Slipway on the embedded AWS.
pub struct World {
    /// The control plane.
    pub control_plane: ControlPlane,
    lambda: aws_sdk_lambda::Client,
    /// Step Functions of the control plane's account, with all rights.
    pub machines: aws_sdk_sfn::Client,
    /// S3 likewise.
    pub s3: aws_sdk_s3::Client,
    /// DynamoDB likewise.
    pub dynamodb: aws_sdk_dynamodb::Client,
}

/// An error as a function, or a state machine, gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its name.
    pub name: String,
    /// Its message.
    pub message: String,
}

/// How an execution ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its ARN.
    pub arn: String,
    /// `SUCCEEDED`, `FAILED`, …
    pub status: String,
    /// The error's name, if it failed.
    pub error: String,
    /// The cause, if it failed.
    pub cause: String,
}

/// A number that no other test of this binary gets: for pipelines and names.
#[must_use]
pub fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(5000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Where a deployment of the test application goes.
#[must_use]
pub fn on(stage: &str, environment: &str) -> On {
    On {
        application: ApplicationName::new("tiny").unwrap(),
        stage: StageName::new(stage).unwrap(),
        environment: EnvironmentName::new(environment).unwrap(),
    }
}

/// A template that CloudFormation makes a stack of at once; `text` makes it another one.
#[must_use]
pub fn tiny(text: &str) -> String {
    format!(
        "Parameters:\n  Size: {{Type: String, Default: small}}\nResources:\n  Setting:\n    Type: AWS::SSM::Parameter\n    \
         Properties: {{Type: String, Value: {text}}}\nOutputs:\n  Url: {{Value: !Sub 'https://example.com/${{Setting}}'}}\n"
    )
}

/// A template whose stack fails: its second parameter has the name of the first.
#[must_use]
pub fn failing(name: &str) -> String {
    format!(
        "Resources:\n  First:\n    Type: AWS::SSM::Parameter\n    Properties: {{Name: {name}, Type: String, Value: a}}\n  Second:\n    \
         Type: AWS::SSM::Parameter\n    DependsOn: First\n    Properties: {{Name: {name}, Type: String, Value: b}}\n"
    )
}

/// A template with a custom resource that takes no update which it is told to break at, nor one that leads back from there: the
/// update can neither be made nor rolled back.
#[must_use]
pub fn unyielding(text: &str, breaks: bool) -> String {
    format!(
        r#"Resources:
  Setting:
    Type: AWS::SSM::Parameter
    Properties: {{Type: String, Value: {text}}}
  Thing:
    Type: Custom::Thing
    DependsOn: Setting
    Properties: {{ServiceToken: !GetAtt Maker.Arn, Breaks: "{breaks}"}}
  Maker:
    Type: AWS::Lambda::Function
    Properties:
      Runtime: python3.12
      Handler: index.handler
      Timeout: 20
      Role: !GetAtt MakerRole.Arn
      Code:
        ZipFile: |
          import json, urllib.request
          def handler(event, context):
              sides = (event.get("ResourceProperties", {{}}), event.get("OldResourceProperties", {{}}))
              breaks = event["RequestType"] == "Update" and any(side.get("Breaks") == "true" for side in sides)
              answer = {{name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")}}
              answer.update(Status="FAILED" if breaks else "SUCCESS", Reason="it does not yield", PhysicalResourceId="thing")
              request = urllib.request.Request(event["ResponseURL"], json.dumps(answer).encode(), method="PUT")
              urllib.request.urlopen(request).read()
  MakerRole:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Statement: [{{Effect: Allow, Principal: {{Service: lambda.amazonaws.com}}, Action: sts:AssumeRole}}]
"#
    )
}

/// The same with a custom resource that cannot be deleted.
#[must_use]
pub fn clinging(text: &str) -> String {
    let breaks = r#"event["RequestType"] == "Update" and any(side.get("Breaks") == "true" for side in sides)"#;
    let template = unyielding(text, false);
    assert!(template.contains(breaks));
    template.replace(breaks, r#"event["RequestType"] == "Delete""#)
}

/// A bundle of a template alone: its digest and its zip.
#[must_use]
pub fn bundle(template: &str) -> (Digest, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let tree = Folder::open(folder.path(), &Limits::default()).unwrap().tree(&[], Some(template.as_bytes())).unwrap();
    let mut zip = Vec::new();
    tree.write_zip(&mut zip).unwrap();
    (Digest::new(tree.listing().digest().as_str()).unwrap(), zip)
}

/// What launches the bundle `digest`.
#[must_use]
pub fn launch(digest: &Digest) -> Launch {
    Launch {
        bundle: digest.clone(),
        parameters: BTreeMap::new(),
        tags: BTreeMap::new(),
        capabilities: vec![Capability::Iam, Capability::NamedIam],
        expires_in: None,
    }
}

/// The same with a parameter.
#[must_use]
pub fn with_parameter(mut launch: Launch, name: &str, value: &str) -> Launch {
    launch.parameters.insert(ParameterName::new(name).unwrap(), value.to_owned());
    launch
}

/// A job of `group/news` on `branch`, in a pipeline of its own.
#[must_use]
pub fn job(name: &str, branch: &str) -> NewsJob {
    NewsJob::new(name, branch, unique())
}

impl World {
    /// Starts one. `wait_scale` shortens the machines' waits.
    pub async fn start(wait_scale: Option<f64>) -> Self {
        let built = functions::build_functions().unwrap();
        let options = Options { wait_scale, ..Options::default() };
        let control_plane = ControlPlane::start(options, &built, &control_plane::stages(), |_| {}).await.unwrap();
        let tooling = control_plane.emulator.sdk_config(TOOLING);
        Self {
            lambda: aws_sdk_lambda::Client::new(&tooling),
            machines: aws_sdk_sfn::Client::new(&tooling),
            s3: aws_sdk_s3::Client::new(&tooling),
            dynamodb: aws_sdk_dynamodb::Client::new(&tooling),
            control_plane,
        }
    }

    /// A CloudFormation client in `account`, with all rights.
    #[must_use]
    pub fn cloudformation(&self, account: &str) -> aws_sdk_cloudformation::Client {
        aws_sdk_cloudformation::Client::new(&self.control_plane.emulator.sdk_config(account))
    }

    /// The bucket's name.
    #[must_use]
    pub fn bucket(&self) -> &str {
        self.control_plane.output("BucketName")
    }

    /// A token for `job`.
    #[must_use]
    pub fn token(&self, job: &NewsJob) -> String {
        self.control_plane.gitlab.token(&job.job).unwrap()
    }

    /// Invokes a function with any payload.
    ///
    /// # Errors
    /// [`Refused`], when the function fails.
    pub async fn invoke(&self, function: &str, payload: &Value) -> Result<Value, Refused> {
        let blob = aws_sdk_lambda::primitives::Blob::new(payload.to_string());
        let answer = self.lambda.invoke().function_name(function).payload(blob).send().await.unwrap();
        let body: Value = serde_json::from_slice(answer.payload().unwrap().as_ref()).unwrap();
        match answer.function_error() {
            None => Ok(body),
            Some(_) => {
                let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
                Err(Refused { name: text("errorType"), message: text("errorMessage") })
            }
        }
    }

    /// Asks `api`.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn ask(&self, token: &str, ask: Ask) -> Result<Value, Refused> {
        let request = Request { id_token: token.to_owned(), ask };
        self.invoke(self.control_plane.output("ApiFunction"), &serde_json::to_value(request).unwrap()).await
    }

    /// Asks to deploy.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn admit(&self, job: &NewsJob, on: &On, launch: Launch, bytes: usize) -> Result<Admitted, Refused> {
        let request = DeployRequest { on: on.clone(), job: job.name.clone(), bundle_bytes: bytes as u64, launch };
        let answer = self.ask(&self.token(job), Ask::Deploy(request)).await?;
        Ok(serde_json::from_value(answer).unwrap())
    }

    /// Uploads a bundle where an admission says, if it says so.
    pub async fn upload(&self, admitted: &Admitted, zip: Vec<u8>) {
        let Some(upload) = &admitted.upload else { return };
        let request = upload.headers.iter().fold(reqwest::Client::new().put(&upload.url), |request, (name, value)| {
            if name == "content-length" || name == "host" { request } else { request.header(name, value) }
        });
        let answer = request.body(zip).send().await.unwrap();
        assert!(answer.status().is_success(), "{}: {}", answer.status(), answer.text().await.unwrap());
    }

    /// Starts what was admitted, as a job's try number `attempt`: its ARN, or nothing when one of that name ran before.
    pub async fn start_attempt(&self, admitted: &Admitted, job: &NewsJob, attempt: u32) -> Option<String> {
        let name = execution_name(admitted.action, &admitted.environment, admitted.pipeline_id, &job.name, attempt);
        let input = ExecutionInput { admission: admitted.admission.clone(), attempt };
        let input = serde_json::to_string(&input).unwrap();
        let request = self.machines.start_execution().state_machine_arn(&admitted.state_machine_arn);
        request.name(name).input(input).send().await.ok().map(|started| started.execution_arn)
    }

    /// Starts what was admitted, as the first try of it that never ran: its ARN.
    pub async fn start_admitted(&self, admitted: &Admitted, job: &NewsJob) -> String {
        for attempt in 1..=MAX_ATTEMPT {
            if let Some(arn) = self.start_attempt(admitted, job, attempt).await {
                return arn;
            }
        }
        panic!("no attempt is left");
    }

    /// Admits, uploads and starts a deployment of `template`: the execution's ARN.
    pub async fn begin(&self, job: &NewsJob, on: &On, template: &str) -> String {
        let (digest, zip) = bundle(template);
        self.begin_launch(job, on, launch(&digest), zip).await
    }

    /// The same for anything that can be launched.
    pub async fn begin_launch(&self, job: &NewsJob, on: &On, launch: Launch, zip: Vec<u8>) -> String {
        let admitted = self.admit(job, on, launch, zip.len()).await.unwrap();
        self.upload(&admitted, zip).await;
        self.start_admitted(&admitted, job).await
    }

    /// Deploys `template`, to the end.
    pub async fn deploy(&self, job: &NewsJob, on: &On, template: &str) -> Ended {
        let arn = self.begin(job, on, template).await;
        self.end(&arn).await
    }

    /// Tears an environment down, to the end.
    pub async fn teardown(&self, job: &NewsJob, on: &On) -> Ended {
        let request = TeardownRequest { on: on.clone(), job: job.name.clone(), purge_logs: false };
        let admitted = self.ask(&self.token(job), Ask::Teardown(request)).await.unwrap();
        let arn = self.start_admitted(&serde_json::from_value(admitted).unwrap(), job).await;
        self.end(&arn).await
    }

    /// Launches again what was live before, to the end.
    pub async fn rollback(&self, job: &NewsJob, on: &On) -> Ended {
        let request = RollbackRequest { on: on.clone(), job: job.name.clone() };
        let admitted = self.ask(&self.token(job), Ask::Rollback(request)).await.unwrap();
        let arn = self.start_admitted(&serde_json::from_value(admitted).unwrap(), job).await;
        self.end(&arn).await
    }

    /// Repairs an environment's stack, to the end.
    pub async fn repair(&self, job: &NewsJob, on: &On, asked: &Asked) -> Ended {
        let arn = self.begin_repair(job, on, asked).await.unwrap();
        self.end(&arn).await
    }

    /// Admits and starts a repair: the execution's ARN.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn begin_repair(&self, job: &NewsJob, on: &On, asked: &Asked) -> Result<String, Refused> {
        let request = RepairRequest { on: on.clone(), job: job.name.clone(), asked: asked.clone() };
        let admitted = self.ask(&self.token(job), Ask::Repair(request)).await?;
        let named = NewsJob { name: asked.job(&job.name), ..job.clone() };
        Ok(self.start_admitted(&serde_json::from_value(admitted).unwrap(), &named).await)
    }

    /// The row of the deployment that an execution was.
    pub async fn recorded(&self, on: &On, arn: &str) -> Value {
        let execution = self.machines.describe_execution().execution_arn(arn).send().await.unwrap();
        // Its seconds are a float, which cut off would be a millisecond less now and then.
        let millis = (execution.start_date().as_secs_f64() * 1000.0).round();
        let started = jiff::Timestamp::from_millisecond(millis as i64).unwrap();
        let id = slipway_domain::deployment::DeploymentId::from_execution(started, arn);
        self.row(on, &format!("DEPLOY#{id}")).await.unwrap()
    }

    /// Asks who holds an environment, or takes it away from them.
    pub async fn unlock(&self, job: &NewsJob, on: &On, force: bool) -> Unlocked {
        let reason = force.then(|| "it is needed".to_owned());
        let request = UnlockRequest { on: on.clone(), force, reason };
        let unlocked = self.ask(&self.token(job), Ask::Unlock(request)).await.unwrap();
        serde_json::from_value(unlocked).unwrap()
    }

    /// An execution's whole history and description, as text. Step Functions' client hides in its `Debug` what they hold, so they are
    /// asked for without it; of an account's root the embedded AWS checks no signature.
    pub async fn history(&self, arn: &str) -> String {
        let scope = format!("{TOOLING}/20260101/{}/states/aws4_request", slipway_local::REGION);
        let mut all = String::new();
        for (call, more) in [("DescribeExecution", json!({})), ("GetExecutionHistory", json!({"maxResults": 1000}))] {
            let mut input = json!({"executionArn": arn});
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let request = reqwest::Client::new().post(self.control_plane.emulator.endpoint());
            let request = request.header("x-amz-target", format!("AWSStepFunctions.{call}"));
            let request = request.header(
                "authorization",
                format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"),
            );
            let answer = request.header("content-type", "application/x-amz-json-1.0").body(input.to_string()).send();
            let text = answer.await.unwrap().text().await.unwrap();
            assert!(
                text.contains(if call == "DescribeExecution" { "stateMachineArn" } else { "events" }),
                "{call}: {text}"
            );
            all += &text;
        }
        all
    }

    /// What the function `name` has logged since `since`, whoever called it: the embedded AWS keeps that in the function's log group, and
    /// repeats in its own log only what callers of `Invoke` caused.
    pub async fn log(&self, name: &str, since: jiff::Timestamp) -> String {
        const MOST: usize = 10_000;
        let scope = format!("{TOOLING}/20260101/{}/logs/aws4_request", slipway_local::REGION);
        let authorization = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0");
        let asked = json!({"logGroupName": format!("/slipway/slipway/{name}"), "startTime": since.as_millisecond(), "limit": MOST});
        let request = reqwest::Client::new().post(self.control_plane.emulator.endpoint());
        let request = request.header("x-amz-target", "Logs_20140328.FilterLogEvents");
        let request = request.header("authorization", authorization);
        let request = request.header("content-type", "application/x-amz-json-1.1").body(asked.to_string());
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        let events = answer["events"].as_array().unwrap();
        assert!(events.len() < MOST, "{name} logged more than can be read");
        events.iter().map(|event| format!("{}\n", event["message"].as_str().unwrap())).collect()
    }

    /// What is recorded of an environment.
    pub async fn audit(&self, job: &NewsJob, on: &On) -> (Vec<Row>, Head) {
        let ask = Ask::Look(Question::Audit(AuditRequest { on: on.clone(), after: 0 }));
        let page: AuditPage = serde_json::from_value(self.ask(&self.token(job), ask).await.unwrap()).unwrap();
        (page.rows, page.head)
    }

    /// Waits for an execution's end.
    pub async fn end(&self, arn: &str) -> Ended {
        let began = Instant::now();
        loop {
            let found = self.machines.describe_execution().execution_arn(arn).send().await.unwrap();
            if *found.status() != ExecutionStatus::Running {
                return Ended {
                    arn: arn.to_owned(),
                    status: found.status().as_str().to_owned(),
                    error: found.error().unwrap_or_default().to_owned(),
                    cause: found.cause().unwrap_or_default().to_owned(),
                };
            }
            assert!(began.elapsed() < PATIENCE, "{arn} runs on and on");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// How an environment, and its last deployment, stand.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn status(&self, job: &NewsJob, on: &On) -> Result<Status, Refused> {
        let answer = self
            .ask(&self.token(job), Ask::Look(Question::Status(StatusRequest { on: on.clone(), deployment: None })))
            .await?;
        Ok(serde_json::from_value(answer).unwrap())
    }

    /// Waits until the last deployment of an environment has a result.
    pub async fn settled(&self, job: &NewsJob, on: &On) -> Status {
        self.until(job, on, |status| status.deployment.as_ref().is_some_and(|deployment| deployment.outcome.is_some()))
            .await
    }

    /// Waits until people are asked: the link.
    pub async fn asked(&self, job: &NewsJob, on: &On) -> String {
        let link = |status: &Status| status.deployment.as_ref().and_then(|deployment| deployment.approval_url.clone());
        let status = self.until(job, on, |status| link(status).is_some()).await;
        link(&status).unwrap()
    }

    /// Waits until the last deployment of an environment is told that it waits for another one: for which.
    pub async fn told_to_wait(&self, job: &NewsJob, on: &On) -> Holder {
        let holder = |status: &Status| status.deployment.as_ref().and_then(|deployment| deployment.waits_for.clone());
        let status = self.until(job, on, |status| holder(status).is_some()).await;
        holder(&status).unwrap()
    }

    async fn until(&self, job: &NewsJob, on: &On, wanted: impl Fn(&Status) -> bool) -> Status {
        let began = Instant::now();
        loop {
            match self.status(job, on).await {
                Ok(status) if wanted(&status) => return status,
                other => assert!(began.elapsed() < PATIENCE, "still {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The row with the sort key `sort` of an environment of project 101.
    pub async fn row(&self, on: &On, sort: &str) -> Option<Value> {
        use aws_sdk_dynamodb::types::AttributeValue;
        let On { application, stage, environment } = on;
        let partition = format!("ENV#101#{application}#{stage}#{environment}");
        let request = self.dynamodb.get_item().table_name(self.control_plane.output("TableName"));
        let request = request.key("pk", AttributeValue::S(partition)).key("sk", AttributeValue::S(sort.to_owned()));
        let item = request.consistent_read(true).send().await.unwrap().item?;
        Some(plain(&item["row"]))
    }

    /// Writes a row of an environment of project 101 behind Slipway's back.
    pub async fn put_row(&self, on: &On, sort: &str, row: &Value) {
        use aws_sdk_dynamodb::types::AttributeValue as A;
        let On { application, stage, environment } = on;
        let partition = format!("ENV#101#{application}#{stage}#{environment}");
        let request = self.dynamodb.put_item().table_name(self.control_plane.output("TableName"));
        let request = request.item("pk", A::S(partition)).item("sk", A::S(sort.to_owned()));
        request.item("version", A::N("1".into())).item("row", attribute(row)).send().await.unwrap();
    }

    /// Lets the next sweep look at an environment, whenever it was to.
    pub async fn due(&self, on: &On) {
        use aws_sdk_dynamodb::types::AttributeValue as A;
        let On { application, stage, environment } = on;
        let partition = format!("ENV#101#{application}#{stage}#{environment}");
        let request = self.dynamodb.update_item().table_name(self.control_plane.output("TableName"));
        let request = request.key("pk", A::S(partition)).key("sk", A::S("META".into()));
        let request = request.update_expression("SET due_shard = :shard, due_at = :second");
        let request = request.expression_attribute_values(":shard", A::S("DUE#0".into()));
        request.expression_attribute_values(":second", A::N("1".into())).send().await.unwrap();
    }

    /// What the cleanup remembers.
    pub async fn sweep_state(&self) -> Value {
        use aws_sdk_dynamodb::types::AttributeValue as A;
        let request = self.dynamodb.get_item().table_name(self.control_plane.output("TableName"));
        let request = request.key("pk", A::S("SWEEP".into())).key("sk", A::S("STATE".into())).consistent_read(true);
        plain(&request.send().await.unwrap().item.unwrap()["row"])
    }

    /// Writes what the cleanup remembers behind its back.
    pub async fn put_sweep_state(&self, state: &Value) {
        use aws_sdk_dynamodb::types::AttributeValue as A;
        let request = self.dynamodb.put_item().table_name(self.control_plane.output("TableName"));
        let request = request.item("pk", A::S("SWEEP".into())).item("sk", A::S("STATE".into()));
        request.item("version", A::N("1".into())).item("row", attribute(state)).send().await.unwrap();
    }

    /// Sets a member of an environment's row behind Slipway's back; all else, and its place in the indexes, stays.
    pub async fn set_in_row(&self, on: &On, member: &str, value: &Value) {
        use aws_sdk_dynamodb::types::AttributeValue as A;
        let partition = format!("ENV#101#{}#{}#{}", on.application, on.stage, on.environment);
        let request = self.dynamodb.update_item().table_name(self.control_plane.output("TableName"));
        let request = request.key("pk", A::S(partition)).key("sk", A::S("META".into()));
        let request = request.update_expression("SET #row.#member = :value").expression_attribute_names("#row", "row");
        let request = request.expression_attribute_names("#member", member);
        request.expression_attribute_values(":value", attribute(value)).send().await.unwrap();
    }

    /// The question behind an approval's link, as it is stored.
    pub async fn question(&self, link: &str) -> Value {
        use aws_sdk_dynamodb::types::AttributeValue;
        let link = link.rsplit('/').next().unwrap_or_default();
        let partition = format!("APPROVAL#{}", Digest::of(link.as_bytes()));
        let request = self.dynamodb.get_item().table_name(self.control_plane.output("TableName"));
        let request = request.key("pk", AttributeValue::S(partition)).key("sk", AttributeValue::S("APPROVAL".into()));
        plain(&request.consistent_read(true).send().await.unwrap().item.unwrap()["row"])
    }

    /// Lets the time for the decision behind an approval's link pass.
    pub async fn expire_question(&self, link: &str) {
        use aws_sdk_dynamodb::types::AttributeValue as A;
        let id = Digest::of(link.rsplit('/').next().unwrap_or_default().as_bytes());
        let request = self.dynamodb.update_item().table_name(self.control_plane.output("TableName"));
        let request = request.key("pk", A::S(format!("APPROVAL#{id}"))).key("sk", A::S("APPROVAL".into()));
        let request = request.update_expression("SET #row.expires_at = :past");
        let request = request.expression_attribute_names("#row", "row");
        let past = A::S("2026-01-05T09:00:00Z".into());
        request.expression_attribute_values(":past", past).send().await.unwrap();
    }

    /// The physical id of one of template.yaml's resources.
    pub async fn physical_id(&self, logical_id: &str) -> String {
        let client = self.cloudformation(TOOLING);
        let request = client.describe_stack_resource().stack_name(control_plane::STACK).logical_resource_id(logical_id);
        let detail = request.send().await.unwrap().stack_resource_detail.unwrap();
        detail.physical_resource_id.unwrap()
    }

    /// Sets a variable of the function behind one of template.yaml's resources. Its processes end: the next call begins a new one.
    pub async fn set_variable(&self, logical_id: &str, name: &str, value: &str) {
        let function = self.physical_id(logical_id).await;
        let known = self.lambda.get_function_configuration().function_name(&function).send().await.unwrap();
        let mut variables = known.environment.and_then(|environment| environment.variables).unwrap_or_default();
        variables.insert(name.to_owned(), value.to_owned());
        let environment = aws_sdk_lambda::types::Environment::builder().set_variables(Some(variables)).build();
        let update = self.lambda.update_function_configuration().function_name(function).environment(environment);
        update.send().await.unwrap();
    }

    /// Gives the function behind one of template.yaml's resources so many seconds for each call. Its processes end.
    pub async fn set_timeout(&self, logical_id: &str, seconds: i32) {
        let update = self.lambda.update_function_configuration().function_name(self.physical_id(logical_id).await);
        update.timeout(seconds).send().await.unwrap();
    }

    /// Configures the stages: those of all tests, as `change` makes them.
    pub async fn set_stages(&self, change: impl FnOnce(&mut Value)) {
        let mut stages: Value = serde_json::from_str(&control_plane::stages()).unwrap();
        change(&mut stages);
        let ssm = aws_sdk_ssm::Client::new(&self.control_plane.emulator.sdk_config(TOOLING));
        let put = ssm.put_parameter().name(self.control_plane.output("StagesParameterName")).overwrite(true);
        put.value(stages.to_string()).send().await.unwrap();
    }

    /// Ends a function's processes, and with them what they remember.
    pub async fn renew(&self, logical_id: &str) {
        self.set_variable(logical_id, "SLIPWAY_RENEWED", &unique().to_string()).await;
    }

    /// Lets a function read GitLab's keys, as they are now, from the parameter that template.yaml makes of `GitLabKeys`.
    pub async fn keep_keys(&self, logical_id: &str) {
        const NAME: &str = "/slipway/slipway/gitlab-keys";
        let ssm = aws_sdk_ssm::Client::new(&self.control_plane.emulator.sdk_config(TOOLING));
        let put = ssm.put_parameter().name(NAME).r#type(aws_sdk_ssm::types::ParameterType::String).overwrite(true);
        put.value(self.control_plane.gitlab.key_set()).send().await.unwrap();
        self.set_variable(logical_id, "SLIPWAY_GITLAB_KEYS", NAME).await;
    }

    /// Lets it ask GitLab again, as where there is no such parameter.
    pub async fn forget_keys(&self, logical_id: &str) {
        self.set_variable(logical_id, "SLIPWAY_GITLAB_KEYS", "").await;
    }

    /// An IAM client in `account`, with all rights.
    #[must_use]
    pub fn iam(&self, account: &str) -> aws_sdk_iam::Client {
        aws_sdk_iam::Client::new(&self.control_plane.emulator.sdk_config(account))
    }

    /// Whether nobody has the environment's lease, soon: it is the last thing that an end gives up.
    pub async fn lease_is_free(&self, on: &On) -> bool {
        for _ in 0..100 {
            if self.row(on, "LEASE").await.is_none_or(|lease| lease["owner"].is_null()) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    }

    /// A request to a link of the function `web`: the status and the body.
    pub async fn web(&self, method: &str, link: &str, form: &[(&str, &str)], accept: &str) -> (u16, String) {
        let url = reqwest::Url::parse(link).unwrap();
        let address = format!("{}{}", self.control_plane.emulator.endpoint(), url.path());
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = reqwest::Client::new().request(method.clone(), address).header("host", url.host_str().unwrap());
        let request = request.header("accept", accept);
        let request = if method == reqwest::Method::POST {
            let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
            let body =
                form.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&");
            request.header("content-type", "application/x-www-form-urlencoded").body(body)
        } else {
            request
        };
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// A decision at `link` by the person of `job`: the status and the JSON that comes back.
    pub async fn decide(&self, link: &str, decision: &str, job: &NewsJob) -> (u16, Value) {
        let token = self.token(job);
        let form = [("decision", decision), ("id_token", token.as_str())];
        let (status, body) = self.web("POST", link, &form, "application/json").await;
        (status, serde_json::from_str(&body).unwrap_or(json!({"body": body})))
    }

    /// Writes to an environment's row behind Slipway's back: to let time pass.
    pub async fn overdue(&self, on: &On) {
        use aws_sdk_dynamodb::types::AttributeValue;
        let On { application, stage, environment } = on;
        let partition = format!("ENV#101#{application}#{stage}#{environment}");
        let past = "2020-01-01T00:00:00Z";
        let path = if self.row(on, "META").await.unwrap()["waiting"].is_null() {
            "#row.expires_at"
        } else {
            "#row.waiting.until"
        };
        let path = path.replace("until", "#until");
        let request = self.dynamodb.update_item().table_name(self.control_plane.output("TableName"));
        let request = request.key("pk", AttributeValue::S(partition)).key("sk", AttributeValue::S("META".into()));
        let request = request.update_expression(format!("SET {path} = :past, due_at = :second"));
        let request = request.expression_attribute_names("#row", "row");
        let request =
            if path.contains("#until") { request.expression_attribute_names("#until", "until") } else { request };
        let request = request.expression_attribute_values(":past", AttributeValue::S(past.into()));
        request.expression_attribute_values(":second", AttributeValue::N("1".into())).send().await.unwrap();
    }

    /// Lets the time pass that whoever gave the answer to the approval behind a link has to hand it on; somebody must have given one.
    pub async fn answer_overdue(&self, link: &str) {
        use aws_sdk_dynamodb::types::AttributeValue;
        let id = Digest::of(link.rsplit('/').next().unwrap_or_default().as_bytes());
        let request = self.dynamodb.update_item().table_name(self.control_plane.output("TableName"));
        let request = request.key("pk", AttributeValue::S(format!("APPROVAL#{id}")));
        let request = request.key("sk", AttributeValue::S("APPROVAL".into())).update_expression("SET due_at = :second");
        let request = request.condition_expression("attribute_exists(due_at)");
        request.expression_attribute_values(":second", AttributeValue::N("1".into())).send().await.unwrap();
    }

    /// Writes an admission behind Slipway's back: what `sweep` records before it starts a teardown.
    pub async fn put_admission(&self, admission: &slipway_domain::admission::Admission) {
        use aws_sdk_dynamodb::types::AttributeValue as A;
        let table = self.control_plane.output("TableName");
        let request =
            self.dynamodb.put_item().table_name(table).item("pk", A::S(format!("ADMISSION#{}", admission.id)));
        let request = request.item("sk", A::S("ADMISSION".into())).item("version", A::N("1".into()));
        request.item("row", attribute(&serde_json::to_value(admission).unwrap())).send().await.unwrap();
    }

    /// Lets the objects of the bucket whose keys begin with `prefix` have been written at `written`.
    pub async fn age(&self, prefix: &str, written: jiff::Timestamp) {
        let scope = format!("{TOOLING}/20260101/{}/s3/aws4_request", slipway_local::REGION);
        let authorization = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0");
        let (bucket, written) = (self.bucket(), written.strftime("%Y-%m-%dT%H:%M:%S.000Z"));
        let mut pages = self.s3.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
        while let Some(page) = pages.next().await {
            for key in page.unwrap().contents().iter().filter_map(|object| object.key()) {
                let endpoint = self.control_plane.emulator.endpoint();
                let url = format!("{endpoint}/{bucket}/{key}?slipway-written={written}");
                let answer =
                    reqwest::Client::new().put(url).header("authorization", &authorization).send().await.unwrap();
                assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
            }
        }
    }

    /// Lets the cleanup ask GitLab about all branches again, as on the next day.
    pub async fn next_round(&self) {
        use aws_sdk_dynamodb::types::AttributeValue as A;
        let request = self.dynamodb.delete_item().table_name(self.control_plane.output("TableName"));
        let request = request.key("pk", A::S("SWEEP".into())).key("sk", A::S("BRANCHES".into()));
        request.send().await.unwrap();
    }

    /// Lets the cleanup run once.
    pub async fn sweep(&self) -> Value {
        self.invoke(self.control_plane.output("SweepFunction"), &json!({"sweep": {}})).await.unwrap()
    }

    /// The status of an environment's stack in `account`, if there is one.
    pub async fn stack_status(&self, account: &str, job: &NewsJob, on: &On) -> Option<String> {
        let name = self.status(job, on).await.unwrap().stack_name.to_string();
        let found = self.cloudformation(account).describe_stacks().stack_name(name).send().await.ok()?;
        found.stacks().first().and_then(|stack| stack.stack_status()).map(|status| status.as_str().to_owned())
    }
}

/// A DynamoDB value as JSON.
#[must_use]
pub fn plain(value: &aws_sdk_dynamodb::types::AttributeValue) -> Value {
    if let Ok(text) = value.as_s() {
        json!(text)
    } else if let Ok(number) = value.as_n() {
        serde_json::from_str(number).unwrap()
    } else if let Ok(flag) = value.as_bool() {
        json!(flag)
    } else if let Ok(list) = value.as_l() {
        list.iter().map(plain).collect()
    } else if let Ok(map) = value.as_m() {
        map.iter().map(|(name, value)| (name.clone(), plain(value))).collect::<serde_json::Map<_, _>>().into()
    } else {
        Value::Null
    }
}

/// JSON as a DynamoDB value.
fn attribute(value: &Value) -> aws_sdk_dynamodb::types::AttributeValue {
    use aws_sdk_dynamodb::types::AttributeValue as A;
    match value {
        Value::Null => A::Null(true),
        Value::Bool(flag) => A::Bool(*flag),
        Value::Number(number) => A::N(number.to_string()),
        Value::String(text) => A::S(text.clone()),
        Value::Array(list) => A::L(list.iter().map(attribute).collect()),
        Value::Object(map) => A::M(map.iter().map(|(name, value)| (name.clone(), attribute(value))).collect()),
    }
}
