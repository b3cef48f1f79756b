//! Makes steps of the state machines go wrong, without a word of it in the product: in a test's copy of a definition, the
//! tasks of chosen executions call a function of the test's, which calls the real one, or not, and then errs, is silent,
//! or calls the real function behind a proxy that throttles it, or kills its process after one of its calls.

use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{Environment, FunctionCode, Runtime};
use serde_json::{Map, Value, json};
use slipway_domain::deployment::Action;
use slipway_local::venv::Venv;
use slipway_local::{TOOLING, target_dir};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::World;
use crate::relay::Request;

const FAULT: &str = include_str!("fault.py");
/// The name of the function that steps call instead.
const FUNCTION: &str = "slipway-tests-fault";
/// How long a step whose answer comes too late may take, in seconds.
const LIMIT: u32 = 8;

/// The state machines.
pub const MACHINES: [(Action, &str); 2] = [
    (Action::Deploy, include_str!("../../statemachine/deploy.asl.json")),
    (Action::Teardown, include_str!("../../statemachine/teardown.asl.json")),
];

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Lambda does not take the call for a while: too many are at work.
    NotInvoked,
    /// The step does its work, and its answer is lost: the machine tries it again.
    LostAnswer,
    /// It fails before it did anything, with an error that is not tried again.
    Error,
    /// It does its work, and does not answer within its time limit.
    Timeout,
    /// Its process is killed after this call of AWS, which `PutItem.2` says is its second one: the machine tries it again.
    Killed(&'static str),
    /// AWS throttles this call for a while.
    Burst(&'static str),
    /// AWS throttles this call, and all of its kind that follow, without end.
    Throttled(&'static str),
    /// A person stops the execution while the step is about to make this call; the step goes on once the end is recorded.
    Stopped(&'static str),
}

impl Fault {
    /// The call of AWS at which it happens, if it does at one.
    #[must_use]
    pub fn call(self) -> Option<&'static str> {
        match self {
            Fault::NotInvoked | Fault::LostAnswer | Fault::Error | Fault::Timeout => None,
            Fault::Killed(call) | Fault::Burst(call) | Fault::Throttled(call) | Fault::Stopped(call) => Some(call),
        }
    }

    /// Whether the machine gets over it.
    #[must_use]
    pub fn is_survived(self) -> bool {
        match self {
            Fault::NotInvoked | Fault::LostAnswer | Fault::Killed(_) | Fault::Burst(_) => true,
            Fault::Error | Fault::Timeout | Fault::Throttled(_) | Fault::Stopped(_) => false,
        }
    }

    /// For how many tries of the step it happens.
    fn tries(self) -> u32 {
        match self {
            Fault::LostAnswer | Fault::Killed(_) => 1,
            Fault::Burst(_) => 2,
            Fault::NotInvoked => 6,
            Fault::Error | Fault::Timeout | Fault::Throttled(_) | Fault::Stopped(_) => 1000,
        }
    }

    /// What the proxy does, if it is in the way.
    fn proxied(self) -> Option<(&'static str, &'static str)> {
        match self {
            Fault::NotInvoked | Fault::LostAnswer | Fault::Error | Fault::Timeout => None,
            Fault::Killed(call) => Some(("kill", call)),
            Fault::Burst(call) => Some(("throttle", call)),
            Fault::Throttled(call) => Some(("exhaust", call)),
            Fault::Stopped(call) => Some(("hold", call)),
        }
    }
}

/// What goes wrong in one step of one execution.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Of which machine.
    pub machine: Action,
    /// The step.
    pub step: String,
    /// The execution's name.
    pub execution: String,
    /// What goes wrong.
    pub fault: Fault,
}

impl Plan {
    /// What tells the execution from others, and is short.
    fn tag(&self) -> String {
        self.execution.rsplit('-').next().unwrap_or_default().chars().take(10).collect()
    }

    /// Comes back when the step is about to make the call that [`Fault::Stopped`] names.
    pub async fn is_held(&self) {
        until(&self.tag(), Gate::Held).await;
    }

    /// Lets the step go on, and comes back when it has ended.
    pub async fn let_go(&self) {
        GATES.lock().unwrap().insert(self.tag(), Gate::Open);
        until(&self.tag(), Gate::Done).await;
    }
}

/// Where a held step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Held,
    Open,
    Done,
}

static GATES: Mutex<BTreeMap<String, Gate>> = Mutex::new(BTreeMap::new());

async fn until(tag: &str, wanted: Gate) {
    let began = Instant::now();
    while GATES.lock().unwrap().get(tag) != Some(&wanted) {
        assert!(began.elapsed() < Duration::from_secs(120), "{tag} is never {wanted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The Tasks of a state machine, in the order of the file.
#[must_use]
pub fn tasks(definition: &str) -> Vec<String> {
    let definition: Value = serde_json::from_str(definition).unwrap();
    let states = definition["States"].as_object().unwrap();
    states.iter().filter(|(_, state)| state["Type"] == "Task").map(|(name, _)| name.clone()).collect()
}

/// Installs `plans`, once in a world: from now on, the executions that they name go wrong as they say.
pub async fn install(world: &World, plans: &[Plan]) {
    let endpoint = proxy(world.control_plane.emulator.port()).await;
    let role = format!("arn:aws:iam::{TOOLING}:role/slipway/{}", world.physical_id("BeginRole").await);
    let python = Venv::ensure().await.unwrap().python().display().to_string();
    let variables = BTreeMap::from([("FAULT_ACCOUNT".to_owned(), TOOLING.to_owned())]);
    create_function(world, FUNCTION, &role, &format!("#!{python}\n{FAULT}"), variables).await;

    let mut copies = 0;
    for (action, text) in MACHINES {
        let output = match action {
            Action::Deploy | Action::Repair => "DeployMachine",
            Action::Teardown => "TeardownMachine",
        };
        let file: Value = serde_json::from_str(text).unwrap();
        let plans: Vec<&Plan> = plans.iter().filter(|plan| plan.machine == action).collect();
        let arn = world.control_plane.output(output);
        let machine = world.machines.describe_state_machine().state_machine_arn(arn).send().await.unwrap();
        let role = machine.role_arn().rsplit('/').next().unwrap();
        let allow = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": format!("arn:aws:lambda:*:*:function:{FUNCTION}")
        }]});
        let request = world.iam(TOOLING).put_role_policy().role_name(role).policy_name("faults");
        request.policy_document(allow.to_string()).send().await.unwrap();
        let mut definition: Value = serde_json::from_str(machine.definition()).unwrap();
        for (name, state) in definition["States"].as_object_mut().unwrap() {
            let plans: Vec<&Plan> = plans.iter().copied().filter(|plan| plan.step == *name).collect();
            if plans.is_empty() {
                continue;
            }
            let real = state["Arguments"]["FunctionName"].as_str().unwrap().to_owned();
            let program = program(file["States"][name]["Arguments"]["FunctionName"].as_str().unwrap());
            let mut others = Vec::new();
            for plan in &plans {
                // One for each, since the proxy counts the calls of a process, and processes are used again.
                others.push(match plan.fault.proxied() {
                    None => String::new(),
                    Some((mode, call)) => {
                        copies += 1;
                        let other = format!("{program}-{mode}-{copies}");
                        copy_function(world, &real, &other, &bootstrap(&program, &endpoint, mode, call, &plan.tag()))
                            .await;
                        other
                    }
                });
            }
            spoil(state, &real, &endpoint, plans.iter().copied().zip(others).collect());
        }
        let update = world.machines.update_state_machine().state_machine_arn(arn).definition(definition.to_string());
        update.send().await.unwrap();
    }
}

/// A copy of the function `name` of template.yaml, `SweepFunction` for one, whose process is killed after this call of AWS, which
/// `PutItem.2` says is its second one: what the copy is called.
pub async fn killed_after(world: &World, name: &str, call: &'static str) -> String {
    let endpoint = proxy(world.control_plane.emulator.port()).await;
    let program = program(name);
    let copy = format!("{program}-killed-{}", call.replace('.', "-"));
    copy_function(world, &world.physical_id(name).await, &copy, &bootstrap(&program, &endpoint, "kill", call, "0"))
        .await;
    copy
}

/// The program of a Task's function: that of `${ChangeSetFunction}` is `slipway-change-set`.
fn program(substitution: &str) -> String {
    let name = substitution.trim_start_matches("${").trim_end_matches("Function}");
    let dashed = |c: char| if c.is_ascii_uppercase() { format!("-{}", c.to_ascii_lowercase()) } else { c.to_string() };
    format!("slipway{}", name.chars().map(dashed).collect::<String>())
}

/// Lets a Task call the test's function in the executions of `plans`, each with the function behind the proxy, if it has one.
fn spoil(state: &mut Value, real: &str, proxy: &str, plans: Vec<(&Plan, String)>) {
    const NAME: &str = "$states.context.Execution.Name";
    let mut faults = Map::new();
    let mut late = Map::new();
    for (plan, other) in plans {
        let what = match plan.fault {
            Fault::LostAnswer => "lose",
            Fault::NotInvoked => "busy",
            Fault::Error => "fail",
            Fault::Timeout => "hold",
            Fault::Killed(_) | Fault::Burst(_) | Fault::Throttled(_) | Fault::Stopped(_) => "instead",
        };
        if plan.fault == Fault::Timeout {
            late.insert(plan.execution.clone(), json!(true));
        }
        let done = match plan.fault {
            Fault::Stopped(_) => format!("{proxy}/done/{}", plan.tag()),
            Fault::NotInvoked | Fault::LostAnswer | Fault::Error | Fault::Timeout => String::new(),
            Fault::Killed(_) | Fault::Burst(_) | Fault::Throttled(_) => String::new(),
        };
        let fault = json!({"do": what, "other": other, "tries": plan.fault.tries(), "done": done});
        faults.insert(plan.execution.clone(), fault);
    }
    let found = format!("$lookup({}, {NAME})", Value::from(faults));
    let payload = expression(&state["Arguments"]["Payload"]);
    let wrapped = format!(
        "$merge([{found}, {{\"try\": $states.context.State.RetryCount, \"seconds\": {}, \"function\": {}, \"payload\": {payload}}}])",
        LIMIT + 4,
        json!(real)
    );
    state["Arguments"] = json!({
        "FunctionName": format!("{{% $exists({found}) ? {} : {} %}}", json!(FUNCTION), json!(real)),
        "Payload": format!("{{% $exists({found}) ? {wrapped} : {payload} %}}"),
    });
    if !late.is_empty() {
        let seconds = &state["TimeoutSeconds"];
        state["TimeoutSeconds"] =
            json!(format!("{{% $exists($lookup({}, {NAME})) ? {LIMIT} : {seconds} %}}", Value::from(late)));
    }
}

/// A template of JSONata in JSON as one JSONata expression.
fn expression(value: &Value) -> String {
    match value {
        Value::String(text) => match text.strip_prefix("{%").and_then(|text| text.strip_suffix("%}")) {
            Some(inner) => format!("({})", inner.trim()),
            None => value.to_string(),
        },
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{}: {}", json!(name), expression(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => value.to_string(),
    }
}

/// A function whose program is the script `bootstrap`.
async fn create_function(
    world: &World,
    name: &str,
    role: &str,
    bootstrap: &str,
    variables: impl IntoIterator<Item = (String, String)>,
) {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("bootstrap", zip::write::SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
    zip.write_all(bootstrap.as_bytes()).unwrap();
    let zip = zip.finish().unwrap().into_inner();
    let environment = Environment::builder().set_variables(Some(variables.into_iter().collect())).build();
    let create = world.lambda.create_function().function_name(name).role(role).runtime(Runtime::Providedal2023);
    let create = create.handler("bootstrap").timeout(110).environment(environment);
    create.code(FunctionCode::builder().zip_file(Blob::new(zip)).build()).send().await.unwrap();
}

/// What starts `program` so that its calls of AWS go through the proxy, which is told by the user agent whose they are, and what
/// to do at which. (The path is no place for that: it is signed.) The process keeps its number, so that it can be killed.
fn bootstrap(program: &str, proxy: &str, mode: &str, call: &str, tag: &str) -> String {
    let program = target_dir().join("debug").join(program);
    let tries = if mode == "exhaust" { "export AWS_MAX_ATTEMPTS=1\n" } else { "" };
    let program = program.display();
    format!(
        "#!/bin/sh\n{tries}export AWS_ENDPOINT_URL={proxy} AWS_SDK_UA_APP_ID={mode}-{call}-$$-{tag}\nexec '{program}'\n"
    )
}

/// The function `copy`: `real`, started otherwise.
async fn copy_function(world: &World, real: &str, copy: &str, bootstrap: &str) {
    let known = world.lambda.get_function_configuration().function_name(real).send().await.unwrap();
    let variables = known.environment().and_then(|environment| environment.variables()).cloned().unwrap_or_default();
    create_function(world, copy, known.role().unwrap(), bootstrap, variables).await;
}

/// How often each process made each call.
type Counts = Arc<Mutex<BTreeMap<(String, String), u32>>>;

/// Starts the proxy: its address.
async fn proxy(aws: u16) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let counts = Counts::default();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let counts = Arc::clone(&counts);
            // A client that goes away is no fault.
            tokio::spawn(async move { drop(serve(client, aws, &counts).await) });
        }
    });
    format!("http://{address}")
}

/// One request, and then the connection ends.
async fn serve(client: TcpStream, aws: u16, counts: &Counts) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    let Some(request) = Request::read(&mut client).await? else { return Ok(()) };
    let (first, header) = (&request.first, |wanted: &str| request.header(wanted));

    let (method, _) = first.split_once(' ').unwrap_or_default();
    if let Some(tag) = first.strip_prefix("GET /done/").and_then(|rest| rest.split(' ').next()) {
        GATES.lock().unwrap().insert(tag.to_owned(), Gate::Done);
        client.write_all(b"HTTP/1.1 204 -\r\nconnection: close\r\n\r\n").await?;
        return client.shutdown().await;
    }
    let agent = header("user-agent").unwrap_or_default().split(' ').find_map(|part| part.strip_prefix("app/"));
    let mut parts = agent.unwrap_or_default().split('-');
    let mut part = || parts.next().unwrap_or_default();
    let (mode, wanted, process, tag) = (part(), part(), part(), part());
    let (wanted, from) = wanted.split_once('.').unwrap_or((wanted, "1"));
    let text = String::from_utf8_lossy(&request.body);
    let (dialect, call) = match (header("x-amz-target"), text.split("Action=").nth(1), method) {
        (Some(target), ..) => (Dialect::Json, target.rsplit('.').next().unwrap_or_default()),
        (None, Some(action), "POST") => (Dialect::Query, action.split('&').next().unwrap_or_default()),
        (None, ..) if first.contains("/invocations") => (Dialect::Rest, "Invoke"),
        (None, _, "PUT") => (Dialect::Rest, "PutObject"),
        (None, _, "HEAD") => (Dialect::Rest, "HeadObject"),
        (None, _, "POST") => (Dialect::Rest, "DeleteObjects"),
        (None, _, "DELETE") => (Dialect::Rest, "AbortMultipartUpload"),
        (None, ..) if first.contains("?uploads") => (Dialect::Rest, "ListMultipartUploads"),
        (None, ..) if first.contains("?versions") => (Dialect::Rest, "ListObjectVersions"),
        (None, ..) => (Dialect::Rest, "GetObject"),
    };
    let count = {
        let mut counts = counts.lock().unwrap();
        let count = counts.entry((process.to_owned(), format!("{mode} {call}"))).or_default();
        *count += 1;
        *count
    };
    let hit = call == wanted && count >= from.parse().unwrap_or(1);
    if hit && mode == "hold" && count.to_string() == from {
        GATES.lock().unwrap().insert(tag.to_owned(), Gate::Held);
        until(tag, Gate::Open).await;
    }
    if hit && ["throttle", "exhaust"].contains(&mode) {
        client.write_all(dialect.throttled().as_bytes()).await?;
        return client.shutdown().await;
    }
    let answer = request.forward(aws).await?;
    if hit && mode == "kill" {
        assert!(!process.is_empty() && process.bytes().all(|digit| digit.is_ascii_digit()), "the process is {process}");
        // AWS did it, and the process never hears of that.
        let mut kill = std::process::Command::new("sh");
        kill.args(["-c", &format!("kill -KILL {process}")]).stdin(Stdio::null());
        assert!(kill.status()?.success(), "process {process} cannot be killed");
        return Ok(());
    }
    client.write_all(&answer).await?;
    client.shutdown().await
}

/// How a service speaks (<https://smithy.io/2.0/aws/protocols/index.html>).
#[derive(Debug, Clone, Copy)]
enum Dialect {
    /// DynamoDB, SSM, Step Functions.
    Json,
    /// CloudFormation, STS.
    Query,
    /// S3, Lambda.
    Rest,
}

impl Dialect {
    /// "Slow down", as such a service says it.
    fn throttled(self) -> String {
        let (status, kind, body) = match self {
            Dialect::Json => (
                400,
                "application/x-amz-json-1.0",
                r#"{"__type":"com.amazonaws#ThrottlingException","message":"Rate exceeded"}"#,
            ),
            Dialect::Query => (
                400,
                "text/xml",
                "<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error>\
                 <RequestId>1</RequestId></ErrorResponse>",
            ),
            Dialect::Rest => (
                503,
                "application/xml",
                "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
            ),
        };
        let length = body.len();
        format!(
            "HTTP/1.1 {status} -\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
    }
}
