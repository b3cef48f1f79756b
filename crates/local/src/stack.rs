//! Deploys a template the way `sam deploy` does, in this process: a change set, executed, waited for.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::error::SdkError;
use aws_sdk_cloudformation::operation::describe_stacks::DescribeStacksError;
use aws_sdk_cloudformation::types::{Capability, ChangeSetType, Parameter, Stack, StackEvent};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};

use crate::error::LocalError;
use crate::functions::{BuiltFunction, zip_bootstrap};

/// How long a stack may take here.
const READY_WITHIN: Duration = Duration::from_secs(300);
static CHANGE_SETS: AtomicU64 = AtomicU64::new(0);
const POLL: Duration = Duration::from_millis(100);
/// What CloudFormation takes in a request itself.
const BODY_LIMIT: usize = 51_200;

/// What to deploy.
#[derive(Debug, Clone, Default)]
pub struct Deploy {
    /// The stack's name.
    pub stack_name: String,
    /// The template itself, YAML or JSON.
    pub template: String,
    /// Its parameters; what is not named keeps its default, or its value in an existing stack.
    pub parameters: BTreeMap<String, String>,
    /// A bucket of the same account, for a template of more than 51,200 bytes.
    pub template_bucket: Option<String>,
}

/// Creates or updates a stack and waits for it. No change is fine. All capabilities are acknowledged.
///
/// # Errors
/// [`LocalError::Stack`] with the first resource that failed and why, [`LocalError::StackSlow`], and
/// [`LocalError::Aws`] for a refused call.
pub async fn deploy(config: &SdkConfig, request: Deploy) -> Result<BTreeMap<String, String>, LocalError> {
    let client = Client::new(config);
    let name = &request.stack_name;
    let existing = describe(&client, name).await?.filter(|stack| status(stack) != "REVIEW_IN_PROGRESS");
    let known: Vec<String> = existing.iter().flat_map(Stack::parameters).filter_map(parameter_key).collect();
    let mut parameters: Vec<Parameter> = request
        .parameters
        .iter()
        .map(|(key, value)| Parameter::builder().parameter_key(key).parameter_value(value).build())
        .collect();
    let declared = declared_parameters(&request.template);
    let kept = known.into_iter().filter(|key| !request.parameters.contains_key(key) && declared.contains(key));
    parameters.extend(kept.map(|key| Parameter::builder().parameter_key(key).use_previous_value(true).build()));

    let (body, url) = place_template(config, &request).await?;
    let kind = if existing.is_some() { ChangeSetType::Update } else { ChangeSetType::Create };
    // An executed change set keeps its name taken.
    let number = CHANGE_SETS.fetch_add(1, Ordering::Relaxed);
    let change_set = format!("slipway-local-{}-{number}", std::process::id());
    client
        .create_change_set()
        .stack_name(name)
        .change_set_name(&change_set)
        .change_set_type(kind)
        .set_template_body(body)
        .set_template_url(url)
        .set_parameters(Some(parameters))
        .set_capabilities(Some(vec![
            Capability::CapabilityIam,
            Capability::CapabilityNamedIam,
            Capability::CapabilityAutoExpand,
        ]))
        .send()
        .await
        .map_err(LocalError::aws(format!("cloudformation:CreateChangeSet of {name}")))?;

    if !change_set_is_ready(&client, name, &change_set).await? {
        let _discarded = client.delete_change_set().stack_name(name).change_set_name(&change_set).send().await;
        return Ok(existing.as_ref().map(outputs).unwrap_or_default());
    }
    client
        .execute_change_set()
        .stack_name(name)
        .change_set_name(&change_set)
        .send()
        .await
        .map_err(LocalError::aws(format!("cloudformation:ExecuteChangeSet of {name}")))?;
    settled(&client, name).await
}

/// Waits for a change set: `false` says that there is nothing to change.
async fn change_set_is_ready(client: &Client, stack: &str, change_set: &str) -> Result<bool, LocalError> {
    let started = Instant::now();
    loop {
        let seen = client
            .describe_change_set()
            .stack_name(stack)
            .change_set_name(change_set)
            .send()
            .await
            .map_err(LocalError::aws(format!("cloudformation:DescribeChangeSet of {stack}")))?;
        let status = seen.status().map(|status| status.as_str().to_owned()).unwrap_or_default();
        let reason = seen.status_reason().unwrap_or_default();
        if status == "CREATE_COMPLETE" {
            return Ok(true);
        }
        if status == "FAILED" {
            if reason.contains("didn't contain changes") || reason.contains("No updates are to be performed") {
                return Ok(false);
            }
            return Err(LocalError::Stack {
                stack: stack.to_owned(),
                status: format!("change set {status}"),
                cause: reason.to_owned(),
            });
        }
        in_time(stack, &status, started)?;
        sleep(POLL).await;
    }
}

/// Waits for a stack's end, and reads its outputs or why it failed.
async fn settled(client: &Client, name: &str) -> Result<BTreeMap<String, String>, LocalError> {
    let started = Instant::now();
    loop {
        let stack = describe(client, name).await?.ok_or_else(|| LocalError::Stack {
            stack: name.to_owned(),
            status: "DELETE_COMPLETE".to_owned(),
            cause: "it is gone".to_owned(),
        })?;
        let status = status(&stack);
        if status == "CREATE_COMPLETE" || status == "UPDATE_COMPLETE" {
            return Ok(outputs(&stack));
        }
        if !status.ends_with("_IN_PROGRESS") {
            let cause = match first_failure(client, name).await {
                Ok(Some(cause)) => cause,
                Ok(None) => stack.stack_status_reason().unwrap_or("it gave no reason").to_owned(),
                Err(error) => error.to_string(),
            };
            return Err(LocalError::Stack { stack: name.to_owned(), status, cause });
        }
        in_time(name, &status, started)?;
        sleep(POLL).await;
    }
}

fn in_time(stack: &str, status: &str, started: Instant) -> Result<(), LocalError> {
    if started.elapsed() <= READY_WITHIN {
        return Ok(());
    }
    let seconds = READY_WITHIN.as_secs();
    Err(LocalError::StackSlow { stack: stack.to_owned(), status: status.to_owned(), seconds })
}

/// The resource that failed first in the last operation: the others were cancelled because of it.
async fn first_failure(client: &Client, name: &str) -> Result<Option<String>, LocalError> {
    let seen = client
        .describe_stack_events()
        .stack_name(name)
        .send()
        .await
        .map_err(LocalError::aws(format!("cloudformation:DescribeStackEvents of {name}")))?;
    Ok(first_failed(seen.stack_events()))
}

/// Events come newest first: the search ends where the last operation began.
fn first_failed(events: &[StackEvent]) -> Option<String> {
    let mut first = None;
    for event in events {
        let status = event.resource_status().map(|status| status.as_str()).unwrap_or_default();
        let reason = event.resource_status_reason().unwrap_or_default();
        let is_stack = event.physical_resource_id() == event.stack_id();
        if is_stack && (status == "CREATE_IN_PROGRESS" || status == "UPDATE_IN_PROGRESS") {
            break;
        }
        if !is_stack && status.ends_with("_FAILED") && !reason.contains("cancelled") {
            let resource = event.logical_resource_id().unwrap_or("a resource");
            let kind = event.resource_type().unwrap_or("of unknown type");
            first = Some(format!("{resource} ({kind}) is {status}: {reason}"));
        }
    }
    first
}

async fn describe(client: &Client, name: &str) -> Result<Option<Stack>, LocalError> {
    match client.describe_stacks().stack_name(name).send().await {
        Ok(seen) => Ok(seen.stacks().first().cloned()),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(LocalError::aws(format!("cloudformation:DescribeStacks of {name}"))(error)),
    }
}

fn is_missing<R>(error: &SdkError<DescribeStacksError, R>) -> bool {
    error.as_service_error().is_some_and(|error| {
        error.meta().code() == Some("ValidationError")
            && error.meta().message().is_some_and(|message| message.contains("does not exist"))
    })
}

fn status(stack: &Stack) -> String {
    stack.stack_status().map(|status| status.as_str().to_owned()).unwrap_or_default()
}

fn parameter_key(parameter: &Parameter) -> Option<String> {
    parameter.parameter_key().map(str::to_owned)
}

fn outputs(stack: &Stack) -> BTreeMap<String, String> {
    let pair = |output: &aws_sdk_cloudformation::types::Output| {
        Some((output.output_key()?.to_owned(), output.output_value()?.to_owned()))
    };
    stack.outputs().iter().filter_map(pair).collect()
}

/// The keys directly under the template's top-level `Parameters:`, which our own templates write in block style.
fn declared_parameters(template: &str) -> Vec<String> {
    let mut declared = Vec::new();
    let mut inside = false;
    for line in template.lines() {
        if let Some(key) = line.strip_prefix("  ").filter(|rest| inside && !rest.starts_with([' ', '#', '-'])) {
            declared.extend(key.split_once(':').map(|(name, _)| name.trim().to_owned()));
        } else if !line.trim().is_empty() && !line.starts_with([' ', '#']) {
            inside = line.trim_end() == "Parameters:";
        }
    }
    declared
}

/// A template that is too large for a request goes through the bucket.
async fn place_template(config: &SdkConfig, request: &Deploy) -> Result<(Option<String>, Option<String>), LocalError> {
    if request.template.len() <= BODY_LIMIT {
        return Ok((Some(request.template.clone()), None));
    }
    let Some(bucket) = &request.template_bucket else {
        return Err(LocalError::Artifacts(format!(
            "{} bytes are more than the {BODY_LIMIT} that a request takes: give a template_bucket",
            request.template.len()
        )));
    };
    let key = format!("template-{}.yaml", short_digest(request.template.as_bytes()));
    put(config, bucket, &key, request.template.clone().into_bytes()).await?;
    // Only path-style addresses are understood here.
    let endpoint = config.endpoint_url().unwrap_or("https://s3.amazonaws.com").trim_end_matches('/');
    Ok((None, Some(format!("{endpoint}/{bucket}/{key}"))))
}

/// Puts the control plane's functions and state machines into a bucket, which is made if it is missing.
///
/// The answer says where each is: from what template.yaml writes (`functions/api/`, `statemachine/deploy.asl.json`) to
/// the key, which is content-addressed, so that a changed function changes the stack.
///
/// # Errors
/// [`LocalError::Aws`] for a refused call, [`LocalError::Io`] and [`LocalError::Zip`] for files.
pub async fn upload_control_plane(
    config: &SdkConfig,
    bucket: &str,
    functions: &[BuiltFunction],
    workspace_root: &Path,
) -> Result<BTreeMap<String, String>, LocalError> {
    make_bucket(config, bucket).await?;
    let mut keys = BTreeMap::new();
    let mut zipping = tokio::task::JoinSet::new();
    for function in functions {
        let function = function.clone();
        zipping.spawn_blocking(move || {
            let zip = zip_bootstrap(&function.bootstrap)?;
            Ok::<_, LocalError>((function.name, zip))
        });
    }
    while let Some(zipped) = zipping.join_next().await {
        let (name, zip) = zipped.map_err(|error| LocalError::Build(format!("zipping stopped: {error}")))??;
        let key = format!("functions/{name}/{}.zip", short_digest(&zip));
        put(config, bucket, &key, zip).await?;
        keys.insert(format!("functions/{name}/"), key);
    }
    for (name, text) in state_machines(workspace_root)? {
        let key = format!("statemachine/{}/{name}", short_digest(&text));
        put(config, bucket, &key, text).await?;
        keys.insert(format!("statemachine/{name}"), key);
    }
    Ok(keys)
}

/// The files `statemachine/*.asl.json`: name and content.
fn state_machines(root: &Path) -> Result<Vec<(String, Vec<u8>)>, LocalError> {
    let folder = root.join("statemachine");
    let failed = || LocalError::io(format!("reading {}", folder.display()));
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".asl.json") {
            found.push((name, fs::read(entry.path()).map_err(failed())?));
        }
    }
    found.sort();
    Ok(found)
}

/// Makes a bucket; one of our own that is there already is fine.
///
/// # Errors
/// [`LocalError::Aws`] when the call is refused.
pub async fn make_bucket(config: &SdkConfig, bucket: &str) -> Result<(), LocalError> {
    let region = config.region().map(|region| BucketLocationConstraint::from(region.as_ref()));
    let made = aws_sdk_s3::Client::new(config)
        .create_bucket()
        .bucket(bucket)
        .create_bucket_configuration(CreateBucketConfiguration::builder().set_location_constraint(region).build())
        .send()
        .await;
    match made {
        Err(error) if error.as_service_error().is_some_and(|error| error.is_bucket_already_owned_by_you()) => Ok(()),
        Err(error) => Err(LocalError::aws(format!("s3:CreateBucket {bucket}"))(error)),
        Ok(_) => Ok(()),
    }
}

async fn put(config: &SdkConfig, bucket: &str, key: &str, content: Vec<u8>) -> Result<(), LocalError> {
    aws_sdk_s3::Client::new(config)
        .put_object()
        .bucket(bucket)
        .key(key)
        .body(ByteStream::from(content))
        .send()
        .await
        .map(drop)
        .map_err(LocalError::aws(format!("s3:PutObject s3://{bucket}/{key}")))
}

fn short_digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Our own template with its local paths replaced by what was uploaded.
///
/// `artifacts` goes from a path as template.yaml writes it to its key in `bucket`. It works line by line, on
/// `CodeUri: path` and `DefinitionUri: path`: enough for a template of our own, and it refuses what it does not see
/// through.
///
/// # Errors
/// [`LocalError::Artifacts`] when a local path has no artifact, or an artifact no path.
pub fn with_artifacts(
    template: &str,
    bucket: &str,
    artifacts: &BTreeMap<String, String>,
) -> Result<String, LocalError> {
    let keys: BTreeMap<&str, &str> = artifacts.iter().map(|(path, key)| (plain(path), key.as_str())).collect();
    let mut unused: Vec<&str> = keys.keys().copied().collect();
    let mut rewritten = String::with_capacity(template.len());
    for (number, line) in (1_usize..).zip(template.lines()) {
        match uri(line) {
            Some((_, "")) => {
                return Err(LocalError::Artifacts(format!("line {number} has a nested {}", line.trim())));
            }
            Some((before, path)) if !path.starts_with("s3://") => {
                let path = plain(path);
                let Some(key) = keys.get(path) else {
                    return Err(LocalError::Artifacts(format!("line {number}: nothing was uploaded for {path}")));
                };
                unused.retain(|other| *other != path);
                rewritten.push_str(before);
                rewritten.push_str(&format!(" s3://{bucket}/{key}"));
            }
            Some(_) | None => rewritten.push_str(line),
        }
        rewritten.push('\n');
    }
    match unused.first() {
        Some(path) => Err(LocalError::Artifacts(format!("nothing in it names {path}"))),
        None => Ok(rewritten),
    }
}

/// A line `CodeUri: value # why`, as what comes before the value and the value.
fn uri(line: &str) -> Option<(&str, &str)> {
    let (before, after) = line.split_once("Uri:")?;
    let key = before.trim_start().trim_start_matches("- ");
    if key != "Code" && key != "Definition" && key != "Content" {
        return None;
    }
    let value = after.split_once(" #").map_or(after, |(value, _)| value);
    let end = before.len() + "Uri:".len();
    Some((line.get(..end)?, value.trim().trim_matches(['"', '\''])))
}

/// A path without the marks that do not change it.
fn plain(path: &str) -> &str {
    path.trim_start_matches("./").trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudformation::types::ResourceStatus;

    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    const TEMPLATE: &str = "Parameters:\n  Stages:\n    Type: String\n  # not one\n  Host:\n    Type: String\n\nResources:\n  Api:\n    Properties:\n      CodeUri: functions/api/ # the door\n  Machine:\n    Properties:\n      DefinitionUri: \"./statemachine/deploy.asl.json\"\n      Note: a CodeUri of no interest\n";

    fn artifacts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(path, key)| ((*path).to_owned(), (*key).to_owned())).collect()
    }

    #[test]
    fn local_paths_become_s3_locations() -> Outcome {
        let uploaded = artifacts(&[("functions/api/", "f/1.zip"), ("statemachine/deploy.asl.json", "s/1.json")]);
        let rewritten = with_artifacts(TEMPLATE, "code", &uploaded)?;
        assert!(rewritten.contains("      CodeUri: s3://code/f/1.zip\n"), "{rewritten}");
        assert!(rewritten.contains("      DefinitionUri: s3://code/s/1.json\n"), "{rewritten}");
        assert!(rewritten.contains("a CodeUri of no interest"), "{rewritten}");
        assert_eq!(rewritten.lines().count(), TEMPLATE.lines().count());
        Ok(())
    }

    #[test]
    fn a_path_without_artifact_and_an_artifact_without_path_are_refused() -> Outcome {
        let Err(error) = with_artifacts(TEMPLATE, "code", &artifacts(&[("functions/api/", "k")])) else {
            return Err("a local path remained".into());
        };
        assert!(error.to_string().contains("statemachine/deploy.asl.json"), "{error}");

        let more = [("functions/api/", "k"), ("statemachine/deploy.asl.json", "k"), ("functions/web/", "k")];
        let Err(error) = with_artifacts(TEMPLATE, "code", &artifacts(&more)) else {
            return Err("an artifact was left over".into());
        };
        assert!(error.to_string().contains("functions/web"), "{error}");

        let Err(error) = with_artifacts("      CodeUri:\n        Bucket: b\n", "code", &artifacts(&[])) else {
            return Err("a nested location passed".into());
        };
        assert!(error.to_string().contains("line 1"), "{error}");
        Ok(())
    }

    #[test]
    fn declared_parameters_are_the_blocks_keys() {
        assert_eq!(declared_parameters(TEMPLATE), ["Stages", "Host"]);
        assert!(declared_parameters("Resources:\n  A:\n").is_empty());
    }

    #[test]
    fn the_first_failure_of_the_last_operation_is_the_cause() {
        let event = |resource: &str, status: ResourceStatus, reason: &str| {
            StackEvent::builder()
                .stack_id("stack-id")
                .physical_resource_id(if resource == "stack" { "stack-id" } else { resource })
                .logical_resource_id(resource)
                .resource_type("AWS::X::Y")
                .resource_status(status)
                .resource_status_reason(reason)
                .build()
        };
        let newest_first = [
            event("stack", ResourceStatus::UpdateFailed, "rolled back"),
            event("Later", ResourceStatus::CreateFailed, "Resource creation cancelled"),
            event("Second", ResourceStatus::CreateFailed, "also bad"),
            event("First", ResourceStatus::UpdateFailed, "name taken"),
            event("stack", ResourceStatus::UpdateInProgress, "User Initiated"),
            event("Old", ResourceStatus::CreateFailed, "long ago"),
        ];
        let cause = first_failed(&newest_first);
        assert_eq!(cause.as_deref(), Some("First (AWS::X::Y) is UPDATE_FAILED: name taken"));
    }
}
