//! The function `package`, as a process of its own under a stand-in for Lambda: how long it takes, and whether its memory
//! grows with the bundle.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
use aws_sdk_s3::primitives::ByteStream;
use jiff::Timestamp;
use serde::Serialize;
use slipway_aws::store::Store;
use slipway_bundle::{Folder, Limits};
use slipway_domain::deployment::{Action, Deployment, DeploymentId, DeploymentRecord, DeploymentRef, Launch, Target};
use slipway_domain::lease::Taking;
use slipway_domain::names::{
    AccountId, ApplicationName, Digest, EnvironmentKey, EnvironmentName, ProjectId, Region, StageName,
};
use slipway_domain::release::bundle_key;
use slipway_domain::stages::Span;
use slipway_local::emulator::{Emulator, Options};
use slipway_local::{REGION, TOOLING};

use crate::Outcome;
use crate::content::{Kind, content};
use crate::local_s3::LocalS3;
use crate::measure;
use crate::runtime_api::RuntimeApi;

/// The sizes of the bundles, in MiB.
const SIZES: [usize; 3] = [10, 100, 1024];
const FUNCTIONS: usize = 10;
const FILES: usize = 100;
const BUCKET: &str = "slipway";
const TABLE: &str = "slipway";

/// All invocations with bundles of one size.
#[derive(Debug, Serialize)]
pub(crate) struct Invocations {
    /// Of the bundle, in bytes.
    pub(crate) bundle: u64,
    pub(crate) runs: Vec<Invocation>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Invocation {
    /// From the event to the answer, in seconds.
    pub(crate) wall: f64,
    /// Of the whole process, in seconds.
    pub(crate) cpu: f64,
    /// The largest resident set of the process, in KiB.
    pub(crate) peak: u64,
}

/// What every invocation needs around it.
struct Bench<'a> {
    program: &'a Path,
    s3: &'a LocalS3,
    emulator: Emulator,
    store: Store,
    scratch: &'a Path,
}

/// Packages bundles of each size, `times` times.
pub(crate) async fn measure(program: &Path, times: usize, s3: &LocalS3, scratch: &Path) -> Outcome<Vec<Invocations>> {
    let emulator = Emulator::start(Options::default()).await?;
    let config = emulator.sdk_config(TOOLING);
    make_table(&aws_sdk_dynamodb::Client::new(&config)).await?;
    let bench = Bench { program, s3, store: Store::new(&config, TABLE), emulator, scratch };
    let mut all = Vec::new();
    for mib in SIZES {
        s3.make_bucket(BUCKET)?;
        let (digest, bundle) = bench.put_bundle(mib).await?;
        let mut runs = Vec::new();
        for time in 0..times {
            for made in ["artifacts", "releases"] {
                s3.remove(&format!("{BUCKET}/{made}"))?;
            }
            let deployment = bench.begin(&format!("bench-{mib}-{time}"), &digest).await?;
            runs.push(bench.invoke(&deployment)?);
        }
        all.push(Invocations { bundle, runs });
    }
    s3.remove(BUCKET)?;
    Ok(all)
}

async fn make_table(dynamodb: &aws_sdk_dynamodb::Client) -> Outcome<()> {
    let mut request = dynamodb.create_table().table_name(TABLE).billing_mode(BillingMode::PayPerRequest);
    for (name, kind) in [("pk", KeyType::Hash), ("sk", KeyType::Range)] {
        let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S);
        let key = KeySchemaElement::builder().attribute_name(name).key_type(kind);
        request = request.attribute_definitions(attribute.build()?).key_schema(key.build()?);
    }
    request.send().await?;
    Ok(())
}

fn project() -> ProjectId {
    ProjectId(101)
}

impl Bench<'_> {
    /// Uploads a bundle of about `mib` MiB, as a job would: its digest and size.
    async fn put_bundle(&self, mib: usize) -> Outcome<(Digest, u64)> {
        let (digest, path) = make_bundle(&self.scratch.join("bundle"), mib)?;
        let config = self.emulator.sdk_config(TOOLING);
        let config = aws_sdk_s3::config::Builder::from(&config).endpoint_url(self.s3.endpoint()).force_path_style(true);
        let bundle = ByteStream::from_path(&path).await?;
        let client = aws_sdk_s3::Client::from_conf(config.build());
        client.put_object().bucket(BUCKET).key(bundle_key(project(), &digest)).body(bundle).send().await?;
        let bytes = fs::metadata(&path)?.len();
        fs::remove_file(path)?;
        Ok((digest, bytes))
    }

    /// What the function finds in the table: a deployment that launches `bundle`, and its lease.
    #[expect(
        clippy::disallowed_methods,
        reason = "time enters here: the function compares the lease with its own clock"
    )]
    async fn begin(&self, environment: &str, bundle: &Digest) -> Outcome<DeploymentRef> {
        let now = Timestamp::now();
        let key = EnvironmentKey {
            project: project(),
            application: ApplicationName::new("bench")?,
            stage: StageName::new("dev")?,
            environment: EnvironmentName::new(environment)?,
        };
        let id = DeploymentId::from_execution(now, environment);
        let deployment = Deployment {
            id: id.clone(),
            action: Action::Deploy,
            environment: key.clone(),
            target: Target { account: AccountId::new(TOOLING)?, region: Region::new(REGION)?, protected: false },
            stack_name: key.stack_name(),
            launch: Some(Launch {
                bundle: bundle.clone(),
                parameters: Default::default(),
                tags: Default::default(),
                capabilities: Vec::new(),
                expires_in: None,
            }),
            approval: None,
            timeout: Span::days(1),
            stack_rules: Default::default(),
            teardown: Default::default(),
            purge_logs: false,
            repair: None,
            back: None,
            requester: None,
            execution_arn: environment.to_owned(),
            admission: bundle.clone(),
            started_at: now,
        };
        let row = |_: Option<&DeploymentRecord>| Ok::<_, Infallible>(DeploymentRecord::new(deployment.clone()));
        self.store.update_deployment(&key, &id, row).await?;
        match self.store.take_lease(&key, &id, None, now).await? {
            Taking::Ours(lease) => Ok(DeploymentRef { environment: key, id, fence: lease.fence }),
            Taking::Held { owner, .. } => Err(format!("{owner} has the lease").into()),
        }
    }

    /// One cold invocation.
    fn invoke(&self, deployment: &DeploymentRef) -> Outcome<Invocation> {
        let runtime = RuntimeApi::start()?;
        let before = measure::waited_for()?;
        let mut process = Process(self.start(runtime.address())?);
        let answered = runtime.invoke(serde_json::json!({ "deployment": deployment }));
        let log = self.log();
        let wall = answered.map_err(|error| format!("{error} (its log: {})", log.display()))?.as_secs_f64();
        let peak = peak(process.0.id())?;
        process.end();
        Ok(Invocation { wall, cpu: measure::waited_for()? - before, peak })
    }

    fn start(&self, runtime_api: &str) -> Outcome<Child> {
        let log = File::create(self.log())?;
        let mut command = Command::new(self.program);
        command.env_clear().env("AWS_LAMBDA_RUNTIME_API", runtime_api).env("AWS_LAMBDA_FUNCTION_NAME", "package");
        command.env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769").env("AWS_LAMBDA_FUNCTION_VERSION", "1");
        command.env("AWS_LAMBDA_LOG_STREAM_NAME", "bench").env("AWS_LAMBDA_LOG_GROUP_NAME", "bench");
        command.env("AWS_ENDPOINT_URL_S3", self.s3.endpoint());
        command.env("AWS_ENDPOINT_URL_DYNAMODB", self.emulator.endpoint());
        command.env("AWS_REGION", REGION).env("AWS_ACCESS_KEY_ID", TOOLING).env("AWS_SECRET_ACCESS_KEY", "test");
        command.env("SLIPWAY_TABLE", TABLE).env("SLIPWAY_BUCKET", BUCKET);
        Ok(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?)
    }

    fn log(&self) -> PathBuf {
        self.scratch.join("function.log")
    }
}

/// A process that does not outlive its handle.
struct Process(Child);

impl Process {
    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// The largest resident set that a running process ever had, in KiB.
fn peak(process: u32) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM: this needs Linux")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// An application of ten functions with 1,000 files that hardly compress, as a bundle: its digest and the zip.
fn make_bundle(folder: &Path, mib: usize) -> Outcome<(Digest, PathBuf)> {
    let mut template = String::from("Transform: AWS::Serverless-2016-10-31\nResources:\n");
    let bytes = mib * 1024 * 1024 / FUNCTIONS / FILES;
    let mut paths = Vec::new();
    for function in 0..FUNCTIONS {
        let path = format!("function-{function}");
        fs::create_dir_all(folder.join(&path))?;
        for file in 0..FILES {
            let seed = (function * FILES + file) as u64;
            fs::write(folder.join(&path).join(format!("file-{file}")), content(Kind::Noise, bytes, seed))?;
        }
        template.push_str(&format!(
            "  Function{function}:\n    Type: AWS::Serverless::Function\n    Properties:\n      \
             {{CodeUri: {path}, Runtime: provided.al2023, Handler: bootstrap}}\n"
        ));
        paths.push(path);
    }
    let tree = Folder::open(folder, &Limits::default())?.tree(&paths, Some(template.as_bytes()))?;
    let zip = folder.with_extension("zip");
    let mut out = BufWriter::new(File::create(&zip)?);
    tree.write_zip(&mut out)?;
    out.flush()?;
    fs::remove_dir_all(folder)?;
    Ok((Digest::new(tree.listing().digest().as_str())?, zip))
}
