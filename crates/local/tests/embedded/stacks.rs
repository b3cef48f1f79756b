//! Stacks and functions, deployed as the control plane is.

use std::collections::BTreeMap;

use aws_sdk_s3::primitives::ByteStream;
use slipway_local::stack::{Deploy, deploy, make_bucket};
use slipway_local::{DEV, STAGING};

use crate::{Outcome, emulator, stack};

#[tokio::test]
async fn a_failing_stack_names_its_first_cause() -> Outcome {
    let aws = emulator().await?;
    let staging = aws.sdk_config(STAGING);
    let template = "
Resources:
  First:
    Type: AWS::SSM::Parameter
    Properties: {Type: String, Name: /embedded/twice, Value: one}
  Second:
    Type: AWS::SSM::Parameter
    DependsOn: First
    Properties: {Type: String, Name: /embedded/twice, Value: two}
";
    let Err(error) = stack(&staging, "embedded-failing", template).await else { return Err("it was made".into()) };
    let line = error.to_string();
    let start = "stack embedded-failing ended as ROLLBACK_COMPLETE: Second (AWS::SSM::Parameter) is CREATE_FAILED";
    assert!(line.starts_with(start), "{line}");
    Ok(())
}

#[tokio::test]
async fn a_stack_is_updated_and_no_change_is_fine() -> Outcome {
    let aws = emulator().await?;
    let staging = aws.sdk_config(STAGING);
    let template = |value: &str| {
        format!(
            "
Parameters:
  Name: {{Type: String, Default: first}}
Resources:
  Parameter:
    Type: AWS::SSM::Parameter
    Properties: {{Type: String, Name: /embedded/updated, Value: {value}}}
Outputs:
  Said: {{Value: !Sub '${{Name}} {value}'}}
"
        )
    };
    let parameters = BTreeMap::from([("Name".to_owned(), "given".to_owned())]);
    let request = Deploy {
        stack_name: "embedded-updated".to_owned(),
        template: template("one"),
        parameters,
        ..Deploy::default()
    };
    assert_eq!(deploy(&staging, request).await?.get("Said").map(String::as_str), Some("given one"));
    // A parameter that is not given keeps its value.
    for _ in 0..2 {
        let outputs = stack(&staging, "embedded-updated", &template("two")).await?;
        assert_eq!(outputs.get("Said").map(String::as_str), Some("given two"));
    }
    Ok(())
}

const FUNCTION: &str = "
Transform: AWS::Serverless-2016-10-31
Resources:
  Function:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: embedded-function
      Runtime: provided.al2023
      Handler: bootstrap
      CodeUri: functions/echo/
";

/// A bootstrap without a compiler: Python is here in any case.
const BOOTSTRAP: &str = "#!/usr/bin/env python3
import os, urllib.request as http
api = 'http://' + os.environ['AWS_LAMBDA_RUNTIME_API'] + '/2018-06-01/runtime/invocation/'
while True:
    asked = http.urlopen(api + 'next')
    answer = api + asked.headers['Lambda-Runtime-Aws-Request-Id'] + '/response'
    said = b'{\"endpoint\": \"%s\", \"event\": %s}' % (os.environ['AWS_ENDPOINT_URL'].encode(), asked.read())
    http.urlopen(http.Request(answer, data=said, method='POST')).read()
";

#[tokio::test]
async fn a_provided_function_runs_and_knows_the_endpoint() -> Outcome {
    let aws = emulator().await?;
    let dev = aws.sdk_config(DEV);
    make_bucket(&dev, "embedded-code").await?;
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("bootstrap");
    std::fs::write(&program, BOOTSTRAP)?;
    let zip = slipway_local::functions::zip_bootstrap(&program)?;
    let s3 = aws_sdk_s3::Client::new(&dev);
    s3.put_object().bucket("embedded-code").key("echo.zip").body(ByteStream::from(zip)).send().await?;

    let artifacts = BTreeMap::from([("functions/echo/".to_owned(), "echo.zip".to_owned())]);
    let template = slipway_local::stack::with_artifacts(FUNCTION, "embedded-code", &artifacts)?;
    stack(&dev, "embedded-function", &template).await?;
    let payload = aws_sdk_lambda::primitives::Blob::new(r#"{"a":1}"#);
    let invoked =
        aws_sdk_lambda::Client::new(&dev).invoke().function_name("embedded-function").payload(payload).send().await?;
    assert_eq!(invoked.function_error(), None);
    let answer: serde_json::Value = serde_json::from_slice(invoked.payload().ok_or("no answer")?.as_ref())?;
    assert_eq!(answer, serde_json::json!({"endpoint": aws.endpoint(), "event": {"a": 1}}));
    Ok(())
}
