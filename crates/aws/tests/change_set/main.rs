//! What is made of CloudFormation's answers to DescribeChangeSet. The answers are of the shape that it gives them; the embedded AWS
//! knows neither values of properties nor nested change sets.
//!
//! `SLIPWAY_BLESS=1 cargo test --workspace --test change_set` writes `review.txt` anew: read the difference before it is kept.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use serde_json::json;
use slipway_aws::Kind;
use slipway_aws::target::{Stack, Targets};
use slipway_domain::review::{Review, Unseen};
use slipway_domain::session_policy::Purpose;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

const ROOT: &str = "arn:aws:cloudformation:eu-central-1:333333333333:changeSet/slipway-1/a1";

type Call = BTreeMap<String, String>;
type Rule = dyn Fn(&Call) -> (u16, String) + Send + Sync;

/// Answers every DescribeChangeSet by a rule, and keeps what was asked.
struct CloudFormation {
    stack: Stack,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl CloudFormation {
    async fn start(rule: impl Fn(&Call) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (rule, seen): (Arc<Rule>, _) = (Arc::new(rule), Arc::clone(&calls));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, Arc::clone(&rule), Arc::clone(&seen)));
            }
        });
        let keys = Credentials::new("333333333333", "secret", None, None, "test");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .endpoint_url(endpoint)
            .credentials_provider(SharedCredentialsProvider::new(keys))
            .build();
        let deployment = json!({
            "id": "01a20632-4446-7cc2-a162-1ba210a234b5", "action": "deploy",
            "environment": {"project": 42, "application": "news", "stage": "prod", "environment": "prod"},
            "target": {"account": "333333333333", "region": "eu-central-1", "protected": true},
            "stack_name": "slipway-news-prod", "launch": null, "approval": null, "timeout": "2h", "requester": null,
            "execution_arn": "arn", "admission": "2".repeat(64), "started_at": "2026-01-01T09:00:00Z"
        });
        let deployment = serde_json::from_value(deployment).unwrap();
        let stack = Targets::new(&config, "external").stack(&deployment, Purpose::Look).await.unwrap();
        Self { stack, calls }
    }

    async fn review(&self) -> Option<Review> {
        self.stack.review(ROOT).await.unwrap()
    }

    /// `parameter` of each call.
    fn asked(&self, parameter: &str) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        calls.iter().map(|call| call.get(parameter).cloned().unwrap_or_default()).collect()
    }
}

async fn serve(client: TcpStream, rule: Arc<Rule>, seen: Arc<Mutex<Vec<Call>>>) {
    let mut client = BufReader::new(client);
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        if client.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body).await.unwrap();
    let call: Call = form_urlencoded::parse(&body).into_owned().collect();
    let (status, text) = match call.get("Action").map(String::as_str) {
        Some("AssumeRole") => (200, SESSION.to_owned()),
        _ => {
            let answer = rule(&call);
            seen.lock().unwrap().push(call);
            answer
        }
    };
    let head = format!("HTTP/1.1 {status} -\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", text.len());
    client.write_all((head + &text).as_bytes()).await.unwrap();
}

const SESSION: &str = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA</AccessKeyId>\
    <SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>\
    <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";

fn error(status: u16, code: &str) -> (u16, String) {
    (status, format!("<ErrorResponse><Error><Code>{code}</Code><Message>so it is</Message></Error></ErrorResponse>"))
}

/// The recorded answers: two pages, one nested change set of two pages, and another that is gone.
fn recorded(call: &Call) -> (u16, String) {
    let name = call.get("ChangeSetName").and_then(|arn| arn.split('/').nth(1)).unwrap_or_default();
    let page = match (name, call.get("NextToken").map(String::as_str)) {
        ("slipway-1", None) => include_str!("root-1.xml"),
        ("slipway-1", Some("root-2")) => include_str!("root-2.xml"),
        ("slipway-1-Billing", None) => include_str!("billing-1.xml"),
        ("slipway-1-Billing", Some("billing-2")) => include_str!("billing-2.xml"),
        _ => return error(404, "ChangeSetNotFound"),
    };
    (200, page.to_owned())
}

/// A page with one nested stack and perhaps a next page.
fn page(nested: &str, next: &str) -> (u16, String) {
    let next = if next.is_empty() { String::new() } else { format!("<NextToken>{next}</NextToken>") };
    let change = format!(
        "<member><Type>Resource</Type><ResourceChange><Action>Modify</Action><LogicalResourceId>Nested</LogicalResourceId>\
         <ResourceType>AWS::CloudFormation::Stack</ResourceType><ChangeSetId>{nested}</ChangeSetId></ResourceChange></member>"
    );
    let result = format!("<DescribeChangeSetResult><Changes>{change}</Changes>{next}</DescribeChangeSetResult>");
    (200, format!("<DescribeChangeSetResponse>{result}</DescribeChangeSetResponse>"))
}

#[tokio::test]
async fn every_page_and_every_nested_change_set_is_in_the_review() {
    let aws = CloudFormation::start(recorded).await;
    let review = aws.review().await.unwrap();
    let (path, text) = (concat!(env!("CARGO_MANIFEST_DIR"), "/tests/change_set/review.txt"), review.to_text());
    #[allow(clippy::disallowed_methods, reason = "it is asked for from outside")]
    if std::env::var_os("SLIPWAY_BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert!(text == std::fs::read_to_string(path).unwrap(), "{path} is different:\n{text}");

    let billing = "arn:aws:cloudformation:eu-central-1:333333333333:changeSet/slipway-1-Billing/b1";
    let legacy = "arn:aws:cloudformation:eu-central-1:333333333333:changeSet/slipway-1-Legacy/gone";
    assert_eq!(aws.asked("ChangeSetName"), [ROOT, ROOT, billing, billing, legacy]);
    assert_eq!(aws.asked("NextToken"), ["", "root-2", "", "billing-2", ""]);
    assert_eq!(aws.asked("StackName"), ["slipway-news-prod", "slipway-news-prod", "", "", ""]);
    assert_eq!(aws.asked("IncludePropertyValues"), ["true"; 5]);
}

#[tokio::test]
async fn what_a_change_set_is_takes_one_call_without_values() {
    let aws = CloudFormation::start(recorded).await;
    let described = aws.stack.describe_change_set(ROOT).await.unwrap().unwrap();
    assert_eq!((described.arn.as_str(), described.status.as_str()), (ROOT, "CREATE_COMPLETE"));
    assert_eq!(described.execution_status, "AVAILABLE");
    assert_eq!(described.parameters.get("Password").unwrap(), "****");
    assert_eq!(aws.asked("IncludePropertyValues"), [""]);
}

#[tokio::test]
async fn a_change_set_that_is_gone_has_no_review() {
    let aws = CloudFormation::start(|_| error(404, "ChangeSetNotFound")).await;
    assert_eq!(aws.review().await, None);
    assert_eq!(aws.stack.describe_change_set(ROOT).await.unwrap(), None);
}

#[tokio::test]
async fn no_right_to_look_is_an_error_and_no_empty_review() {
    let aws =
        CloudFormation::start(
            |call| if call.contains_key("NextToken") { error(403, "AccessDenied") } else { recorded(call) },
        );
    assert_eq!(aws.await.stack.review(ROOT).await.unwrap_err().kind, Kind::Denied);
}

#[tokio::test]
async fn pages_without_an_end_are_cut_and_said_to_be() {
    let aws = CloudFormation::start(|_| page("", "again")).await;
    let review = aws.review().await.unwrap();
    assert_eq!((aws.asked("NextToken").len(), review.changes.len()), (100, 100));
    assert_eq!(review.unseen, Some(Unseen::TooMuch));
    assert!(review.summary().ends_with("NOT ALL SHOWN"), "{}", review.summary());
}

#[tokio::test]
async fn stacks_nested_in_each_other_without_an_end_are_cut_and_said_to_be() {
    let aws = CloudFormation::start(|_| page(ROOT, "")).await;
    let review = aws.review().await.unwrap();
    assert_eq!((aws.asked("Action").len(), review.changes.len()), (9, 9));
    let deepest = review.changes.iter().max_by_key(|change| change.stack.len()).unwrap();
    assert_eq!((deepest.stack.len(), deepest.unseen), (8, Some(Unseen::TooDeep)));
    assert_eq!(review.notes(), ["What changes inside 1 nested stack is not all shown."]);
}
