//! A small CloudFormation that a test leads: it answers the Query protocol as CloudFormation does, plays what a [`Stack`] says,
//! keeps CloudFormation's own rules on which call a status admits, and remembers every call.
//!
//! What a stack does goes on by *looks*: each `DescribeStacks` is one, and so is the first page of each `DescribeChangeSet`. No
//! clock is in it, so that a test waits for nothing. The shapes are those of the service's API reference
//! (<https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/>); errors are spelled as the service spells them.

mod answer;
mod stack;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub use stack::{Change, ChangeSet, Event, Fault, Misbehaviour, Phase, Property, Resource, SetPhase, Stack, Whose};

use crate::World;

/// A call, as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What was asked: `CreateChangeSet`.
    pub action: String,
    /// The name of the stack.
    pub stack: String,
    /// Everything that was sent with it: `Parameters.member.1.ParameterKey` → `Size`.
    pub form: BTreeMap<String, String>,
    /// The caller's access key.
    pub access_key: String,
    /// The region that it was signed for.
    pub region: String,
    /// The caller's session, when the keys are temporary.
    pub session: Option<String>,
    /// The code of the error that answered it; `NoAnswer` when it got none.
    pub refused: Option<String>,
}

impl Call {
    /// A field of the form; empty when it was not sent.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.form.get(name).map_or("", String::as_str)
    }

    /// Whether it may change something.
    #[must_use]
    pub fn mutates(&self) -> bool {
        !["Describe", "List", "Get", "Validate"].iter().any(|verb| self.action.starts_with(verb))
    }

    /// The parameters that were sent, by name: their values, or nothing for `UsePreviousValue`.
    #[must_use]
    pub fn parameters(&self) -> BTreeMap<String, Option<String>> {
        let numbered = (1..).map_while(|number| {
            let field = |name: &str| self.form.get(&format!("Parameters.member.{number}.{name}")).cloned();
            Some((field("ParameterKey")?, field("ParameterValue").filter(|_| field("UsePreviousValue").is_none())))
        });
        numbered.collect()
    }
}

/// All stacks, by name.
#[derive(Debug, Default)]
struct Stacks {
    by_name: BTreeMap<String, Stack>,
    calls: Vec<Call>,
}

/// A running CloudFormation. It ends when it is dropped.
#[derive(Debug)]
pub struct CloudFormation {
    port: u16,
    stacks: Arc<Mutex<Stacks>>,
    accepting: JoinHandle<()>,
}

impl CloudFormation {
    /// Starts one on a free port, with no stack.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let stacks = Arc::new(Mutex::new(Stacks::default()));
        let shared = Arc::clone(&stacks);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A client that goes away is no fault.
                tokio::spawn(serve(client, Arc::clone(&shared)));
            }
        });
        Ok(Self { port, stacks, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn lock(&self) -> MutexGuard<'_, Stacks> {
        self.stacks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plays `stack` from now on, in the place of another one of that name.
    pub fn play(&self, stack: Stack) {
        self.lock().by_name.insert(stack.name.clone(), stack);
    }

    /// Looks at the stack `name`, or changes it, between two calls.
    ///
    /// # Panics
    /// When no stack of that name is played.
    pub fn with<T>(&self, name: &str, what: impl FnOnce(&mut Stack) -> T) -> T {
        what(self.lock().by_name.get_mut(name).expect("the stack is played"))
    }

    /// The calls about the stack `name` until now, in order.
    #[must_use]
    pub fn calls(&self, name: &str) -> Vec<Call> {
        self.lock().calls.iter().filter(|call| call.stack == name).cloned().collect()
    }

    /// Those of them that may change something.
    #[must_use]
    pub fn mutations(&self, name: &str) -> Vec<Call> {
        self.calls(name).into_iter().filter(Call::mutates).collect()
    }
}

impl Drop for CloudFormation {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl World {
    /// Lets every deployed function find CloudFormation at `stub`: the SDK reads the address from the environment
    /// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>). What installed Slipway itself stays
    /// with the embedded AWS.
    pub async fn reach(&self, stub: &CloudFormation) {
        let listed = self.lambda.list_functions().send().await.unwrap();
        for function in listed.functions() {
            let name = function.function_name().unwrap();
            let known = function.environment().and_then(|environment| environment.variables()).cloned();
            let mut variables = known.unwrap_or_default();
            variables.insert("AWS_ENDPOINT_URL_CLOUDFORMATION".into(), stub.endpoint());
            let environment = aws_sdk_lambda::types::Environment::builder().set_variables(Some(variables)).build();
            let update = self.lambda.update_function_configuration().function_name(name).environment(environment);
            update.send().await.unwrap();
        }
    }
}

/// One request, and then the connection ends.
async fn serve(client: TcpStream, stacks: Arc<Mutex<Stacks>>) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if client.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let header = |wanted: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim().to_owned())
    };
    let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    client.read_exact(&mut body).await?;
    // `AWS4-HMAC-SHA256 Credential=<access key>/<date>/<region>/…`.
    let credential = header("authorization").unwrap_or_default();
    let credential = credential.split_once("Credential=").map(|(_, rest)| rest).unwrap_or_default();
    let part = |at: usize| credential.split('/').nth(at).unwrap_or_default().to_owned();
    let form: BTreeMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
    let answered = {
        let mut stacks = stacks.lock().unwrap_or_else(PoisonError::into_inner);
        let signed = answer::Signed { access_key: part(0), region: part(2), session: header("x-amz-security-token") };
        answer::answer(&mut stacks, form, signed)
    };
    let Some((status, text)) = answered else { return client.shutdown().await };
    let length = text.len();
    let head =
        format!("HTTP/1.1 {status} -\r\ncontent-type: text/xml\r\nconnection: close\r\ncontent-length: {length}");
    client.write_all(format!("{head}\r\n\r\n{text}").as_bytes()).await?;
    client.shutdown().await
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudformation::types::{ChangeSetType, OnStackFailure, Parameter};

    use super::*;

    fn client(stub: &CloudFormation) -> aws_sdk_cloudformation::Client {
        let config = aws_sdk_cloudformation::Config::builder()
            .behavior_version_latest()
            .region(aws_sdk_cloudformation::config::Region::new("eu-central-1"))
            .credentials_provider(aws_sdk_cloudformation::config::Credentials::new(
                "ASIA1",
                "s",
                Some("t".into()),
                None,
                "x",
            ))
            .retry_config(aws_sdk_cloudformation::config::retry::RetryConfig::disabled())
            .endpoint_url(stub.endpoint());
        aws_sdk_cloudformation::Client::from_conf(config.build())
    }

    #[tokio::test]
    async fn a_stack_is_created_updated_and_deleted_by_looks() {
        let stub = CloudFormation::start().await.unwrap();
        stub.play(Stack::absent("app", "111111111111").output("Url", "https://x/?a&b"));
        let client = client(&stub);
        let missing = client.describe_stacks().stack_name("app").send().await.unwrap_err().into_service_error();
        assert_eq!(missing.meta().message(), Some("Stack with id app does not exist"));

        let make = |kind: ChangeSetType, name: &str| {
            let size = Parameter::builder().parameter_key("Size").parameter_value("large").build();
            let make = client.create_change_set().stack_name("app").change_set_name(name).client_token(name);
            make.change_set_type(kind)
                .parameters(size)
                .on_stack_failure(OnStackFailure::Delete)
                .template_url("https://t")
        };
        let refused = make(ChangeSetType::Update, "early").send().await.unwrap_err().into_service_error();
        assert_eq!(refused.meta().code(), Some("ValidationError"));
        let made = make(ChangeSetType::Create, "one").send().await.unwrap();
        let stack_id = made.stack_id().unwrap().to_owned();
        let set = client.describe_change_set().change_set_name(made.id().unwrap()).send().await.unwrap();
        assert_eq!(set.execution_status().unwrap().as_str(), "AVAILABLE");
        assert_eq!(set.parameters()[0].parameter_value(), Some("large"));
        let execute = client.execute_change_set().stack_name("app").change_set_name("one");
        execute.client_request_token("token").send().await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let answer = client.describe_stacks().stack_name(&stack_id).send().await.unwrap();
            let stack = &answer.stacks()[0];
            seen.push(stack.stack_status().unwrap().as_str().to_owned());
            assert_eq!(stack.outputs()[0].output_value(), Some("https://x/?a&b"));
        }
        assert_eq!(seen, ["CREATE_IN_PROGRESS", "CREATE_COMPLETE", "CREATE_COMPLETE"]);
        let events = client.describe_stack_events().stack_name("app").send().await.unwrap();
        assert_eq!(events.stack_events()[0].resource_status().unwrap().as_str(), "CREATE_COMPLETE", "newest first");
        assert!(events.stack_events().iter().all(|event| event.client_request_token() == Some("token")));

        client.delete_stack().stack_name("app").client_request_token("gone").send().await.unwrap();
        for _ in 0..2 {
            client.describe_stacks().stack_name(&stack_id).send().await.unwrap();
        }
        assert!(client.describe_stacks().stack_name("app").send().await.is_err(), "by name it is gone");
        let by_id = client.describe_stacks().stack_name(&stack_id).send().await.unwrap();
        assert_eq!(by_id.stacks()[0].stack_status().unwrap().as_str(), "DELETE_COMPLETE");
        let mutations: Vec<_> = stub.mutations("app").into_iter().map(|call| (call.action, call.refused)).collect();
        let refused = Some("ValidationError".to_owned());
        let expected = [
            ("CreateChangeSet", refused),
            ("CreateChangeSet", None),
            ("ExecuteChangeSet", None),
            ("DeleteStack", None),
        ];
        assert_eq!(mutations, expected.map(|(action, refused)| (action.to_owned(), refused)));
        let call = &stub.calls("app")[1];
        assert_eq!((call.access_key.as_str(), call.session.as_deref()), ("ASIA1", Some("t")));
        assert_eq!(call.parameters(), BTreeMap::from([("Size".to_owned(), Some("large".to_owned()))]));
    }

    #[tokio::test]
    async fn a_review_has_pages_values_and_nested_change_sets() {
        let stub = CloudFormation::start().await.unwrap();
        let child = ChangeSet::ready("arn:aws:cloudformation:eu-central-1:1:changeSet/child/1", "app-Child-1")
            .page([Change::add("Inner", "AWS::SNS::Topic")]);
        let first = Change::modify("Table", "AWS::DynamoDB::Table").replaced("True").property(Property {
            name: "TableName".into(),
            path: "/Properties/TableName".into(),
            before: Some("a<b".into()),
            after: Some("c".into()),
            recreation: "Always".into(),
        });
        let second = Change::modify("Child", "AWS::CloudFormation::Stack").nested(&child.id);
        stub.play(Stack::found("app", "1", "CREATE_COMPLETE").page([first]).page([second]).with_set(child));
        let client = client(&stub);
        let make =
            client.create_change_set().stack_name("app").change_set_name("one").change_set_type(ChangeSetType::Update);
        make.include_nested_stacks(true).send().await.unwrap();
        let page = client.describe_change_set().stack_name("app").change_set_name("one").include_property_values(true);
        let first = page.clone().send().await.unwrap();
        let change = first.changes()[0].resource_change().unwrap();
        let target = change.details()[0].target().unwrap();
        assert_eq!((target.before_value(), target.after_value()), (Some("a<b"), Some("c")));
        assert_eq!(change.replacement().unwrap().as_str(), "True");
        assert!(change.before_context().unwrap().contains("a<b") && change.after_context().unwrap().contains('c'));
        let second = page.next_token(first.next_token().unwrap()).send().await.unwrap();
        assert_eq!(second.next_token(), None);
        let nested = second.changes()[0].resource_change().unwrap().change_set_id().unwrap();
        let child = client.describe_change_set().change_set_name(nested).send().await.unwrap();
        assert_eq!(child.changes()[0].resource_change().unwrap().logical_resource_id(), Some("Inner"));
        let without = client.describe_change_set().stack_name("app").change_set_name("one").send().await.unwrap();
        let target = without.changes()[0].resource_change().unwrap().details()[0].target().unwrap();
        assert_eq!(target.after_value(), None, "values are told only to whom asks for them");
    }

    #[tokio::test]
    async fn it_misbehaves_when_told_to() {
        let stub = CloudFormation::start().await.unwrap();
        let faults = [
            Fault::on("DescribeStacks", Misbehaviour::Throttled),
            Fault::on("DescribeStacks", Misbehaviour::Error(503, "ServiceUnavailable")).after(1),
            Fault::on("Describe*", Misbehaviour::Garbage).after(2),
            Fault::on("DescribeStacks", Misbehaviour::Silence).after(3),
            Fault::on("DeleteStack", Misbehaviour::Lost),
        ];
        let stack = Stack::found("app", "1", "CREATE_COMPLETE");
        stub.play(faults.into_iter().fold(stack, Stack::fault));
        let client = client(&stub);
        let mut codes = Vec::new();
        for _ in 0..5 {
            let answer = client.describe_stacks().stack_name("app").send().await;
            codes.push(answer.map_err(|error| error.raw_response().map(|raw| raw.status().as_u16())).err());
        }
        assert_eq!(codes, [Some(Some(400)), Some(Some(503)), Some(Some(200)), Some(None), None]);
        assert!(client.delete_stack().stack_name("app").send().await.is_err());
        assert_eq!(
            stub.with("app", |stack| stack.status.clone()).as_deref(),
            Some("DELETE_IN_PROGRESS"),
            "it took effect"
        );
    }
}
