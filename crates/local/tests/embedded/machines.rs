//! State machines, their rights, and the events they send.

use std::time::Duration;

use aws_sdk_sfn::error::ProvideErrorMetadata as _;
use aws_sdk_sfn::operation::describe_execution::DescribeExecutionOutput;
use serde_json::{Value, json};
use slipway_local::{REGION, TOOLING};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use crate::{Outcome, emulator, role, stack};

/// `keep` stores what it is given; `fail` fails. One machine may call `keep`, another must not.
const TEMPLATE: &str = "
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {Runtime: python3.11, Handler: index.handler, Timeout: 20}
Resources:
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: embedded-kept
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: pk, AttributeType: S}]
      KeySchema: [{AttributeName: pk, KeyType: HASH}]
  Keep:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: embedded-keep
      InlineCode: |
        import boto3, json
        def handler(event, context):
            name = event.get('name') or event['detail']['name'] + ' ' + event['detail']['status']
            item = {'pk': {'S': name}, 'event': {'S': json.dumps(event)}}
            boto3.client('dynamodb').put_item(TableName='embedded-kept', Item=item)
      Policies: [{Statement: [{Effect: Allow, Action: dynamodb:PutItem, Resource: !GetAtt Table.Arn}]}]
      Events:
        Ended:
          Type: EventBridgeRule
          Properties:
            Pattern: {source: [aws.states], detail: {status: [ABORTED]}}
  Fail:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: embedded-fail
      InlineCode: |
        def handler(event, context):
            raise ValueError('as asked')
  Allowed:
    Type: AWS::Serverless::StateMachine
    Properties:
      Name: embedded-allowed
      Policies: [{LambdaInvokePolicy: {FunctionName: embedded-*}}]
      Definition: &definition
        QueryLanguage: JSONata
        StartAt: Pause
        States:
          Pause: {Type: Wait, Seconds: 600, Next: Ask}
          Ask:
            Type: Task
            Resource: arn:aws:states:::lambda:invoke.waitForTaskToken
            TimeoutSeconds: '{% $states.input.seconds %}'
            Arguments:
              FunctionName: '{% $states.input.function %}'
              Payload: {name: '{% $states.context.Execution.Name %}', token: '{% $states.context.Task.Token %}'}
            End: true
  Refused:
    Type: AWS::Serverless::StateMachine
    Properties:
      Name: embedded-refused
      Policies: [{LambdaInvokePolicy: {FunctionName: embedded-fail}}]
      Definition: *definition
";

static STACK: OnceCell<()> = OnceCell::const_new();

fn arn(machine: &str) -> String {
    format!("arn:aws:states:{REGION}:{TOOLING}:stateMachine:embedded-{machine}")
}

/// A client of the account whose machines stand.
async fn client() -> Result<aws_sdk_sfn::Client, Box<dyn std::error::Error>> {
    let config = emulator().await?.sdk_config(TOOLING);
    let made = || async { stack(&config, "embedded-machines", TEMPLATE).await.map(drop) };
    STACK.get_or_try_init(made).await?;
    Ok(aws_sdk_sfn::Client::new(&config))
}

async fn start(machine: &str, name: &str, function: &str, seconds: u32) -> Result<String, Box<dyn std::error::Error>> {
    let input = json!({"function": function, "seconds": seconds}).to_string();
    let started =
        client().await?.start_execution().state_machine_arn(arn(machine)).name(name).input(input).send().await;
    match started {
        Ok(started) => Ok(started.execution_arn().to_owned()),
        Err(error) => Err(error.code().unwrap_or("no code").into()),
    }
}

async fn ended(execution: &str) -> Result<DescribeExecutionOutput, Box<dyn std::error::Error>> {
    let since = Instant::now();
    loop {
        let seen = client().await?.describe_execution().execution_arn(execution).send().await?;
        if seen.status().as_str() != "RUNNING" || since.elapsed() > Duration::from_secs(20) {
            return Ok(seen);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// What `keep` was given under a name.
async fn kept(name: &str) -> Result<Value, Box<dyn std::error::Error>> {
    use aws_sdk_dynamodb::types::AttributeValue;

    let client = aws_sdk_dynamodb::Client::new(&emulator().await?.sdk_config(TOOLING));
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(20) {
        let key = AttributeValue::S(name.to_owned());
        let found = client.get_item().table_name("embedded-kept").key("pk", key).send().await?;
        if let Some(AttributeValue::S(event)) = found.item().and_then(|item| item.get("event")) {
            return Ok(serde_json::from_str(event)?);
        }
        sleep(Duration::from_millis(50)).await;
    }
    Err(format!("nothing was kept for {name}").into())
}

#[tokio::test]
async fn the_same_start_joins_and_a_stopped_execution_is_told() -> Outcome {
    let client = client().await?;
    let first = start("allowed", "joined", "embedded-keep", 60).await?;
    assert_eq!(start("allowed", "joined", "embedded-keep", 60).await?, first);
    let Err(other) = start("allowed", "joined", "embedded-keep", 61).await else { return Err("joined".into()) };
    assert_eq!(other.to_string(), "ExecutionAlreadyExists");

    client.stop_execution().execution_arn(&first).error("Stopped").cause("a test").send().await?;
    let event = kept("joined ABORTED").await?;
    let detail = event.get("detail").ok_or("no detail")?;
    assert_eq!(detail.get("executionArn"), Some(&json!(first)));
    // Error and cause are not in an ABORTED event here: who wants them describes the execution.
    assert_eq!(ended(&first).await?.error(), Some("Stopped"));
    assert!(detail.get("startDate").is_some_and(Value::is_i64), "{detail}");
    assert!(detail.get("input").is_some_and(Value::is_string), "{detail}");
    let Err(closed) = start("allowed", "joined", "embedded-keep", 60).await else { return Err("started".into()) };
    assert_eq!(closed.to_string(), "ExecutionAlreadyExists");
    Ok(())
}

#[tokio::test]
async fn a_token_is_answered_by_who_has_the_right_on_its_machine() -> Outcome {
    let aws = emulator().await?;
    let execution = start("allowed", "answered", "embedded-keep", 60).await?;
    let given = kept("answered").await?;
    let token = given.get("token").and_then(Value::as_str).ok_or("no token")?;
    let answer = |config| {
        let client = aws_sdk_sfn::Client::new(&config);
        client.send_task_success().task_token(token).output(r#"{"approved":true}"#).send()
    };
    let statement =
        |on: &str| format!(r#"{{"Effect":"Allow","Action":"states:SendTaskSuccess","Resource":"{}"}}"#, arn(on));
    let other = role(aws, TOOLING, "embedded-token-other", &statement("refused")).await?;
    assert!(answer(other).await.is_err());
    let right = role(aws, TOOLING, "embedded-token", &statement("allowed")).await?;
    answer(right.clone()).await?;
    assert_eq!(ended(&execution).await?.output(), Some(r#"{"approved": true}"#));
    let again = answer(right).await;
    assert_eq!(again.err().and_then(|error| error.code().map(str::to_owned)).as_deref(), Some("TaskDoesNotExist"));
    Ok(())
}

#[tokio::test]
async fn a_call_that_is_refused_or_fails_ends_the_task_and_a_computed_timeout_counts() -> Outcome {
    for (machine, name, function, seconds, error) in [
        ("refused", "no-right", "embedded-keep", 60, "Lambda.AWSLambdaException"),
        ("refused", "fails", "embedded-fail", 60, "Runtime.HandlerError"),
        ("allowed", "times-out", "embedded-keep", 1, "States.Timeout"),
    ] {
        let execution = start(machine, name, function, seconds).await?;
        let seen = ended(&execution).await?;
        assert_eq!((seen.status().as_str(), seen.error()), ("FAILED", Some(error)), "{name}");
    }
    Ok(())
}
