//! Stands between a client and S3, sees what is asked, and misbehaves where a test wants it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a client asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The path with the query.
    pub(crate) target: String,
    /// Of the header `Range`: the first byte, and the one after the last.
    pub(crate) range: Option<(u64, u64)>,
    /// The size of its body.
    pub(crate) bytes: usize,
    /// The body itself, if it is one of XML.
    pub(crate) text: String,
}

/// What becomes of a request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// S3 answers.
    Pass,
    /// This, once the gate is open.
    Hold(Gate, Box<Self>),
    /// S3 answers, but the connection breaks after so many bytes of the body.
    Break(usize),
    /// It is answered with this status, these header lines and this body.
    Instead(u16, &'static str, String),
}

impl Answer {
    /// An error of S3.
    pub(crate) fn error(status: u16, code: &str) -> Self {
        Self::Instead(status, "", format!("<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>"))
    }
}

/// Lets nothing through until it is opened, and counts who waits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate {
    open: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

impl Gate {
    /// `answer`, once it is open.
    pub(crate) fn then(&self, answer: Answer) -> Answer {
        Answer::Hold(self.clone(), Box::new(answer))
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    pub(crate) fn waiting(&self) -> usize {
        *self.waiting.borrow()
    }

    /// Comes back when `count` requests wait.
    pub(crate) async fn wait_for(&self, count: usize) {
        drop(self.waiting.subscribe().wait_for(|waiting| *waiting >= count).await);
    }

    async fn pass(&self) {
        self.waiting.send_modify(|waiting| *waiting += 1);
        drop(self.open.subscribe().wait_for(|open| *open).await);
        self.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

type Rule = dyn Fn(&Request) -> Answer + Send + Sync;

/// It ends with the test that started it.
pub(crate) struct Proxy {
    port: u16,
    seen: Arc<Mutex<Vec<Request>>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(s3: u16, rule: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (rule, record): (Arc<Rule>, _) = (Arc::new(rule), Arc::clone(&seen));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A client that goes away is no fault.
                tokio::spawn(serve(client, s3, Arc::clone(&rule), Arc::clone(&record)));
            }
        });
        Ok(Self { port, seen, accepting })
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What was asked since the last look, in order.
    pub(crate) fn seen(&self) -> Vec<Request> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One request, and then the connection ends: that is what "connection: close" says to both.
async fn serve(client: TcpStream, s3: u16, rule: Arc<Rule>, seen: Arc<Mutex<Vec<Request>>>) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if client.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let mut request = read_head(&head);
    let mut body = vec![0; request.bytes];
    client.read_exact(&mut body).await?;
    if request.method == "POST" {
        request.text = String::from_utf8_lossy(&body).into_owned();
    }
    let mut answer = rule(&request);
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    while let Answer::Hold(gate, then) = answer {
        gate.pass().await;
        answer = *then;
    }
    let kept = match answer {
        Answer::Pass | Answer::Hold(..) => usize::MAX,
        Answer::Break(after) => after,
        Answer::Instead(status, lines, text) => {
            let length = text.len();
            let head = format!("HTTP/1.1 {status} -\r\nconnection: close\r\ncontent-length: {length}\r\n{lines}\r\n");
            client.write_all(head.as_bytes()).await?;
            client.write_all(text.as_bytes()).await?;
            return client.shutdown().await;
        }
    };
    let mut s3 = TcpStream::connect(("127.0.0.1", s3)).await?;
    s3.write_all(head.trim_end().as_bytes()).await?;
    s3.write_all(b"\r\nconnection: close\r\n\r\n").await?;
    s3.write_all(&body).await?;
    let mut answer = Vec::new();
    s3.read_to_end(&mut answer).await?;
    let body = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(answer.len(), |end| end + 4);
    answer.truncate(body.saturating_add(kept));
    client.write_all(&answer).await?;
    client.shutdown().await
}

fn read_head(head: &str) -> Request {
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let mut request = Request { method, target, range: None, bytes: 0, text: String::new() };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => request.bytes = value.parse().unwrap_or_default(),
            "range" => {
                let ends = value.strip_prefix("bytes=").and_then(|ends| ends.split_once('-'));
                let read = |(first, last): (&str, &str)| Some((first.parse().ok()?, last.parse::<u64>().ok()? + 1));
                request.range = ends.and_then(read);
            }
            _ => {}
        }
    }
    request
}
