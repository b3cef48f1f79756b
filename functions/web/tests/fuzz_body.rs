//! What the fuzzer does with bytes (fuzz/README.md), and the kept ones through the same: any request that a stranger may send to the
//! callback URL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use aws_lambda_events::event::lambda_function_urls::LambdaFunctionUrlRequest;
use serde_json::{Map, Value, json};
use slipway_domain::names::Region;
use slipway_identity::{MAX_PRESIGNED_BYTES, Presigned, StsEndpoint};
use slipway_web::request::{Asked, MAX_BODY_BYTES, Proof, read};
use slipway_web::session::SigningIn;

const HOST: &str = "x.lambda-url.eu-central-1.on.aws";
const STS: &str = "https://sts.eu-central-1.amazonaws.com";

/// Bytes as HTTP/1.1 has a request, made into the event that a function URL makes of it; nothing, if it is none.
fn event(bytes: &[u8]) -> Option<LambdaFunctionUrlRequest> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\n\n")?;
    let mut lines = head.lines();
    let (method, target) = lines.next()?.split_once(' ')?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (mut headers, mut cookies, mut encoded) = (Map::new(), Vec::new(), false);
    for line in lines {
        let (name, value) = line.split_once(':')?;
        match name {
            "cookie" => cookies.extend(value.split(';').map(|cookie| json!(cookie.trim()))),
            "base64" => encoded = true,
            _ => drop(headers.insert(name.to_ascii_lowercase(), json!(value.trim()))),
        }
    }
    let event: Value = json!({
        "version": "2.0", "rawPath": path, "rawQueryString": query, "headers": headers, "cookies": cookies, "body": body,
        "isBase64Encoded": encoded,
        "requestContext": {"timeEpoch": 0, "domainName": HOST, "http": {"method": method, "path": path}},
    });
    serde_json::from_value(event).ok()
}

/// Any request is refused, or asks one thing; only a POST from the page, or from no page at all, with one proof, decides.
pub(crate) fn callback(bytes: &[u8]) {
    let Some(event) = event(bytes) else { return };
    let method = event.request_context.http.method.clone().unwrap_or_default();
    let Ok(request) = read(&event) else { return };
    assert_eq!(request.origin, format!("https://{HOST}"));
    assert_eq!(request.head, method == "HEAD");
    // Nobody can work out the state that belongs to a secret by chance.
    for (name, cookie) in &request.cookies {
        assert!(SigningIn::open(cookie, name).is_none());
    }
    let link = match &request.asked {
        Asked::Show(link) | Asked::SignIn { link, .. } => {
            assert!(method == "GET" || method == "HEAD");
            link
        }
        Asked::Return(returned) => {
            assert!(method == "GET" && !returned.state.is_empty());
            return;
        }
        Asked::Decide(link, form) => {
            assert_eq!(method, "POST");
            assert!(event.body.as_ref().is_some_and(|body| body.len() <= MAX_BODY_BYTES));
            let header = |name: &str| event.headers.get(name).map(|value| value.to_str().unwrap_or_default());
            let from = header("origin").unwrap_or_default();
            assert!(from.is_empty() || from == "null" || from == format!("https://{HOST}"));
            assert!(header("sec-fetch-site").is_none_or(|site| site.is_empty() || site == "same-origin"));
            match &form.proof {
                Proof::Session { csrf } => assert!(!csrf.is_empty()),
                Proof::Job { id_token } => assert!(!id_token.is_empty()),
                Proof::Caller { url } => {
                    let (endpoint, region) = (StsEndpoint::parse(STS).unwrap(), Region::new("eu-central-1").unwrap());
                    let at: jiff::Timestamp = "2026-01-01T09:00:00Z".parse().unwrap();
                    let read = Presigned::parse(url, &endpoint, &region, at);
                    assert!(read.is_err() || url.len() <= MAX_PRESIGNED_BYTES);
                }
            }
            link
        }
    };
    assert!(link.as_str().len() == 64 && link.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
}

#[cfg(test)]
#[test]
fn the_corpus_is_understood() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut read = 0;
    for file in &files {
        let bytes = std::fs::read(file).unwrap();
        callback(&bytes);
        read += usize::from(event(&bytes).is_some_and(|event| self::read(&event).is_ok()));
    }
    assert!(files.len() > 12 && read > 6, "{read} of {} in {folder} are requests", files.len());
}
