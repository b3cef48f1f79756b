//! What Lambda is to a function's process: the two requests of its runtime API
//! (<https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>) that an invocation needs.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Outcome;

/// How long an invocation may take: Lambda's own limit.
const TIMEOUT: Duration = Duration::from_secs(900);

/// The runtime API of one function's process.
#[derive(Debug)]
pub(crate) struct RuntimeApi {
    address: String,
    events: Sender<Value>,
    happened: Receiver<Happened>,
}

#[derive(Debug)]
enum Happened {
    /// The function got the event.
    Taken(Instant),
    /// The function's last word: the path that it posted to, and the body.
    Said(Instant, String, String),
}

impl RuntimeApi {
    /// Starts one on a free port.
    pub(crate) fn start() -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?.to_string();
        let (events, to_take) = mpsc::channel();
        let (happens, happened) = mpsc::channel();
        let to_take = Arc::new(Mutex::new(to_take));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (to_take, happens) = (Arc::clone(&to_take), happens.clone());
                thread::spawn(move || serve(stream, &to_take, &happens));
            }
        });
        Ok(Self { address, events, happened })
    }

    /// For the function's `AWS_LAMBDA_RUNTIME_API`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Hands `event` to the function, and tells how long it took to answer. What fails is an error with the function's words.
    pub(crate) fn invoke(&self, event: Value) -> Outcome<Duration> {
        self.events.send(event)?;
        let mut began = Instant::now();
        loop {
            match self.happened.recv_timeout(TIMEOUT)? {
                Happened::Taken(at) => began = at,
                Happened::Said(at, path, _) if path.ends_with("/response") => return Ok(at - began),
                Happened::Said(_, _, body) => return Err(format!("the function failed: {body}").into()),
            }
        }
    }
}

/// Answers one connection's requests until it is closed.
fn serve(stream: TcpStream, events: &Mutex<Receiver<Value>>, happens: &Sender<Happened>) {
    let Ok(reading) = stream.try_clone() else { return };
    let mut reading = BufReader::new(reading);
    while let Some((head, body)) = request(&mut reading) {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let answer = if path.ends_with("/invocation/next") {
            let Ok(event) = events.lock().unwrap_or_else(PoisonError::into_inner).recv() else { return };
            let event = event.to_string();
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: 1\r\n\
                 Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-central-1:999999999999:function:package\r\n\
                 Lambda-Runtime-Deadline-Ms: 9999999999999\r\nContent-Length: {}\r\n\r\n{event}",
                event.len()
            )
        } else {
            let _ = happens.send(Happened::Said(Instant::now(), path.clone(), body));
            "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_owned()
        };
        if (&stream).write_all(answer.as_bytes()).is_err() {
            return;
        }
        if path.ends_with("/invocation/next") {
            let _ = happens.send(Happened::Taken(Instant::now()));
        }
    }
}

/// The next request's first line and body.
fn request(reading: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let mut head = String::new();
    reading.read_line(&mut head).ok().filter(|read| *read > 0)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reading.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reading.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8_lossy(&body).into_owned()))
}
