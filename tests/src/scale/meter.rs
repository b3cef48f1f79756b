//! What stands between a function and DynamoDB, and counts; and what takes Step Functions' place.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use slipway_domain::names::Digest;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::relay::Request;

/// What a function said to AWS.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Metered {
    /// To DynamoDB: by the name of the call, with the index's, and `names` where it wants nothing else.
    pub calls: BTreeMap<String, Calls>,
    /// What it started.
    pub started: Vec<Start>,
    /// How many starts were refused.
    pub refused: usize,
}

impl Metered {
    /// All its queries, as one.
    #[must_use]
    pub fn queries(&self) -> Calls {
        let queries = self.calls.iter().filter(|(name, _)| name.starts_with("Query"));
        queries.fold(Calls::default(), |all, (_, one)| Calls {
            calls: all.calls + one.calls,
            evaluated: all.evaluated + one.evaluated,
            returned: all.returned + one.returned,
            most_items: all.most_items.max(one.most_items),
            most_bytes: all.most_bytes.max(one.most_bytes),
            bytes: all.bytes + one.bytes,
            seconds: all.seconds + one.seconds,
        })
    }
}

/// Calls of one kind.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Calls {
    /// How many.
    pub calls: u64,
    /// How many items they evaluated, and paid for.
    pub evaluated: u64,
    /// How many items they returned.
    pub returned: u64,
    /// The most items that one of them evaluated.
    pub most_items: u64,
    /// The most bytes that the answer to one of them had.
    pub most_bytes: usize,
    /// How many bytes all answers had.
    pub bytes: usize,
    /// How long they took, in seconds.
    pub seconds: f64,
}

/// An execution that was to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Start {
    /// The execution's ARN.
    pub arn: String,
    /// The admission that it was to begin with.
    pub admission: Digest,
}

#[derive(Default)]
struct State {
    metered: Metered,
    starts_left: Option<usize>,
}

/// The meter.
pub(super) struct Meter {
    /// Where it listens.
    pub(super) url: String,
    state: Arc<Mutex<State>>,
}

impl Meter {
    /// Starts one in front of the embedded AWS on port `aws`.
    pub(super) async fn start(aws: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let meter = Self { url, state: Arc::clone(&state) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                // A client that goes away is no fault.
                tokio::spawn(async move { drop(serve(client, aws, &state).await) });
            }
        });
        meter
    }

    /// What was metered since the last time.
    pub(super) fn take(&self) -> Metered {
        std::mem::take(&mut self.state.lock().unwrap().metered)
    }

    /// How many more executions may be started.
    pub(super) fn start_at_most(&self, starts: Option<usize>) {
        self.state.lock().unwrap().starts_left = starts;
    }
}

/// One request, and then the connection ends.
async fn serve(client: TcpStream, aws: u16, state: &Mutex<State>) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let Some(request) = Request::read(&mut client).await? else { return Ok(()) };
    let target = request.header("x-amz-target").unwrap_or_default();
    let call = target.rsplit('.').next().unwrap_or_default();
    let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let answer = if call == "StartExecution" {
        start(&asked, &mut state.lock().unwrap()).into_bytes()
    } else {
        let began = Instant::now();
        let answer = request.forward(aws).await?;
        count(call, &asked, &answer, began.elapsed(), &mut state.lock().unwrap().metered);
        answer
    };
    client.write_all(&answer).await?;
    client.shutdown().await
}

fn count(call: &str, asked: &Value, answer: &[u8], took: Duration, metered: &mut Metered) {
    let body = answer.windows(4).position(|end| end == b"\r\n\r\n").and_then(|end| answer.get(end + 4..));
    let body = body.unwrap_or_default();
    let told: Value = serde_json::from_slice(body).unwrap_or_default();
    let names = if asked["ProjectionExpression"].is_null() { "" } else { " names" };
    let name = match asked["IndexName"].as_str() {
        Some(index) => format!("{call} {index}{names}"),
        None => call.to_owned(),
    };
    let evaluated = told["ScannedCount"].as_u64().unwrap_or_default();
    let calls = metered.calls.entry(name).or_default();
    calls.calls += 1;
    calls.evaluated += evaluated;
    // What it says of itself is not believed.
    calls.returned += told["Items"].as_array().map_or(0, |items| items.len() as u64);
    calls.most_items = calls.most_items.max(evaluated);
    calls.most_bytes = calls.most_bytes.max(body.len());
    calls.bytes += body.len();
    calls.seconds += took.as_secs_f64();
}

/// What Step Functions answers: <https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html>.
fn start(asked: &Value, state: &mut State) -> String {
    let refused = state.starts_left == Some(0);
    state.starts_left = state.starts_left.map(|left| left.saturating_sub(1));
    let (status, body) = if refused {
        state.metered.refused += 1;
        let error = json!({"__type": "ExecutionLimitExceeded", "message": "too many executions"});
        (400, error)
    } else {
        let text = |name: &str| asked[name].as_str().unwrap().to_owned();
        let arn = format!("{}:{}", text("stateMachineArn").replace(":stateMachine:", ":execution:"), text("name"));
        let input: Value = serde_json::from_str(&text("input")).unwrap();
        let admission = Digest::new(input["admission"].as_str().unwrap()).unwrap();
        state.metered.started.push(Start { arn: arn.clone(), admission });
        (200, json!({"executionArn": arn, "startDate": 1_700_000_000}))
    };
    let body = body.to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {status} -\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}
