//! What Slipway counts on from the embedded AWS, tried on a running one.

mod callers;
mod indexes;
mod machines;
mod process;
mod rights;
mod stacks;

use std::collections::BTreeMap;
use std::error::Error;

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_sts::operation::assume_role::builders::AssumeRoleFluentBuilder;
use slipway_local::emulator::{Emulator, Options};
use slipway_local::stack::{Deploy, deploy};
use slipway_local::{LocalError, local_dir};
use tokio::sync::OnceCell;

type Outcome = Result<(), Box<dyn Error>>;

/// One emulator for all tests. Statics are not dropped: it ends because the pipe to it ends with this process.
static EMULATOR: OnceCell<Emulator> = OnceCell::const_new();

async fn emulator() -> Result<&'static Emulator, LocalError> {
    EMULATOR.get_or_try_init(|| Emulator::start(Options { wait_scale: Some(0.0), ..options("embedded") })).await
}

fn options(name: &str) -> Options {
    Options { log: local_dir().join(format!("test-{name}-{}.log", std::process::id())), ..Options::default() }
}

/// A stack of one template in an account.
async fn stack(config: &SdkConfig, name: &str, template: &str) -> Result<BTreeMap<String, String>, LocalError> {
    let request = Deploy { stack_name: name.to_owned(), template: template.to_owned(), ..Deploy::default() };
    deploy(config, request).await
}

/// The configuration of who assumed a role.
async fn session(emulator: &Emulator, request: AssumeRoleFluentBuilder) -> Result<SdkConfig, Box<dyn Error>> {
    let answer = request.role_session_name("test-session").send().await?;
    let given = answer.credentials().ok_or("no credentials")?;
    let credentials = Credentials::new(
        given.access_key_id(),
        given.secret_access_key(),
        Some(given.session_token().to_owned()),
        None,
        "assumed",
    );
    Ok(emulator.sdk_config_of(credentials))
}

async fn put(config: &SdkConfig, bucket: &str, key: &str) -> Outcome {
    let body = ByteStream::from_static(b"content");
    aws_sdk_s3::Client::new(config).put_object().bucket(bucket).key(key).body(body).send().await?;
    Ok(())
}

/// The error code of reading an object, or `None` when it can be read.
async fn read_refused(config: &SdkConfig, bucket: &str, key: &str) -> Option<String> {
    use aws_sdk_s3::error::ProvideErrorMetadata as _;

    let read = aws_sdk_s3::Client::new(config).get_object().bucket(bucket).key(key).send().await;
    read.err().map(|error| error.code().unwrap_or("no code").to_owned())
}

/// Makes a role with the given statements, that its account's root may assume, and assumes it.
async fn role(emulator: &Emulator, account: &str, name: &str, statements: &str) -> Result<SdkConfig, Box<dyn Error>> {
    let root = emulator.sdk_config(account);
    let iam = aws_sdk_iam::Client::new(&root);
    let trust = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"{account}"}},"Action":"sts:AssumeRole"}}]}}"#
    );
    let made = iam.create_role().role_name(name).assume_role_policy_document(trust).send().await?;
    let policy = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
    iam.put_role_policy().role_name(name).policy_name("test").policy_document(policy).send().await?;
    let arn = made.role().ok_or("no role")?.arn();
    session(emulator, aws_sdk_sts::Client::new(&root).assume_role().role_arn(arn)).await
}
