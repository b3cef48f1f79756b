//! What a person would look at afterwards: stacks as CloudFormation reports them, and the application itself.

use std::collections::BTreeSet;

use aws_config::SdkConfig;
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types::{Stack, TemplateStage};

use crate::emulator::Emulator;
use crate::error::LocalError;

/// A stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Its status, as CloudFormation reports it.
    pub status: String,
}

async fn described(config: &SdkConfig, prefix: &str) -> Result<Vec<Stack>, LocalError> {
    let answer = Client::new(config).describe_stacks().send().await;
    let answer = answer.map_err(LocalError::aws("cloudformation:DescribeStacks"))?;
    let mut stacks = answer.stacks.unwrap_or_default();
    stacks.retain(|stack| stack.stack_name().is_some_and(|name| name.starts_with(prefix)));
    Ok(stacks)
}

/// The stacks whose name begins with `prefix`; what is deleted is not among them.
///
/// # Errors
/// [`LocalError::Aws`].
pub async fn stacks(config: &SdkConfig, prefix: &str) -> Result<Vec<Seen>, LocalError> {
    let seen = |stack: &Stack| Seen {
        name: stack.stack_name().unwrap_or_default().to_owned(),
        status: stack.stack_status().map(|status| status.as_str().to_owned()).unwrap_or_default(),
    };
    Ok(described(config, prefix).await?.iter().map(seen).collect())
}

/// The output `name` of the only stack whose name begins with `prefix`.
///
/// # Errors
/// [`LocalError::Aws`], and [`LocalError::Output`] when there is none.
pub async fn output(config: &SdkConfig, prefix: &str, name: &str) -> Result<String, LocalError> {
    let stacks = described(config, prefix).await?;
    let outputs = stacks.iter().flat_map(Stack::outputs);
    let found = outputs.filter(|output| output.output_key() == Some(name)).find_map(|output| output.output_value());
    found.map(str::to_owned).ok_or_else(|| LocalError::Output(format!("{name} of {prefix}…")))
}

/// Calls `GET url/path` of a REST API in `account`. The embedded AWS finds an API of another account than its own only by
/// the account that a signature names; it does not check the signature.
///
/// # Errors
/// [`LocalError::Call`] when it does not answer with 200.
pub async fn call(emulator: &Emulator, account: &str, url: &str, path: &str) -> Result<String, LocalError> {
    let failed = |reason: String| LocalError::Call { url: url.to_owned(), reason };
    let parsed = reqwest::Url::parse(url).map_err(|error| failed(error.to_string()))?;
    let api = parsed.host_str().and_then(|host| host.split('.').next()).unwrap_or_default();
    let base = parsed.path().trim_end_matches('/');
    let address = format!("{}/_aws/execute-api/{api}{base}/{path}", emulator.endpoint());
    let scope = format!("{account}/20260101/{}/execute-api/aws4_request", crate::REGION);
    let authorization = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0");
    let request = reqwest::Client::new().get(address).header("authorization", authorization);
    let answer = request.send().await.map_err(|error| failed(error.to_string()))?;
    let status = answer.status();
    let body = answer.text().await.map_err(|error| failed(error.to_string()))?;
    if status.as_u16() == 200 { Ok(body) } else { Err(failed(format!("{status}: {body}"))) }
}

/// The artifacts that the templates of the stacks whose name begins with `prefix` name.
///
/// # Errors
/// [`LocalError::Aws`].
pub async fn artifacts(config: &SdkConfig, prefix: &str) -> Result<BTreeSet<String>, LocalError> {
    let client = Client::new(config);
    let mut keys = BTreeSet::new();
    for stack in stacks(config, prefix).await? {
        let template =
            client.get_template().stack_name(&stack.name).template_stage(TemplateStage::Original).send().await;
        let template = template.map_err(LocalError::aws("cloudformation:GetTemplate"))?;
        let body = template.template_body.unwrap_or_default();
        let named = body.split("artifacts/").skip(1);
        keys.extend(named.map(|rest| rest.chars().take_while(char::is_ascii_hexdigit).collect::<String>()));
    }
    Ok(keys)
}
