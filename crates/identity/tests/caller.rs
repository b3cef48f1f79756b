//! AWS principals: presigned requests as other tools write them, each thing that can be wrong with one, and a stub that plays
//! STS on a loopback port. Nothing leaves the machine, and nothing here is proven on AWS.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Json, Router};
use jiff::{SignedDuration, Timestamp};
use reqwest::Url;
use serde_json::{Value, json};
use slipway_domain::names::Region;
use slipway_identity::{BINDING_HEADER, Caller, Callers, IdentityError, Presigned, StsEndpoint, presign};
use tokio::net::TcpListener;

/// The secret of AWS's documentation.
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "AQoEXAMPLEH4aoAH0gNCAPy+/=";
const BINDING: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// What botocore 1.43 (of the AWS CLI) writes for [`BINDING`] at [`now`], with a user's keys.
const OF_A_USER: &str = "https://sts.eu-central-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15\
    &X-Amz-Algorithm=AWS4-HMAC-SHA256\
    &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20261122%2Feu-central-1%2Fsts%2Faws4_request\
    &X-Amz-Date=20261122T120000Z&X-Amz-Expires=300&X-Amz-SignedHeaders=host%3Bx-slipway-approval\
    &X-Amz-Signature=19f7710586816aa9436f90ac62802442d27f3361f05e64fb9b41408fa28071a3";

/// The same with a role's keys.
const OF_A_ROLE: &str = "https://sts.eu-central-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15\
    &X-Amz-Algorithm=AWS4-HMAC-SHA256\
    &X-Amz-Credential=ASIAIOSFODNN7EXAMPLE%2F20261122%2Feu-central-1%2Fsts%2Faws4_request\
    &X-Amz-Date=20261122T120000Z&X-Amz-Expires=300&X-Amz-SignedHeaders=host%3Bx-slipway-approval\
    &X-Amz-Security-Token=AQoEXAMPLEH4aoAH0gNCAPy%2B%2F%3D\
    &X-Amz-Signature=7a5ee70a5b9b4cea0f87f8e3248327ebf8585ce4a1db26aa5e50ffd0e6a7ad44";

/// The same at an emulator, whose access keys are account ids.
const AT_AN_EMULATOR: &str = "http://127.0.0.1:4566/?Action=GetCallerIdentity&Version=2011-06-15\
    &X-Amz-Algorithm=AWS4-HMAC-SHA256\
    &X-Amz-Credential=111111111111%2F20261122%2Feu-central-1%2Fsts%2Faws4_request\
    &X-Amz-Date=20261122T120000Z&X-Amz-Expires=300&X-Amz-SignedHeaders=host%3Bx-slipway-approval\
    &X-Amz-Signature=bd287b2754a76da57efd2f730296205fb065202779e6659a2157f451f01c4715";

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn region() -> Region {
    Region::new("eu-central-1").unwrap()
}

fn aws() -> StsEndpoint {
    StsEndpoint::regional(&region()).unwrap()
}

fn emulator() -> StsEndpoint {
    StsEndpoint::parse("http://127.0.0.1:4566").unwrap()
}

fn user() -> Credentials {
    Credentials::new("AKIAIOSFODNN7EXAMPLE", SECRET, None, None, "test")
}

fn role() -> Credentials {
    Credentials::new("ASIAIOSFODNN7EXAMPLE", SECRET, Some(TOKEN.to_owned()), None, "test")
}

fn parse(text: &str, now: Timestamp) -> Result<(), IdentityError> {
    Presigned::parse(text, &aws(), &region(), now).map(|_| ())
}

/// Where a URL goes, and its query in no order.
fn taken_apart(url: &str) -> (String, BTreeMap<String, String>) {
    let url: Url = url.parse().unwrap();
    (format!("{}{}", url.origin().ascii_serialization(), url.path()), url.query_pairs().into_owned().collect())
}

#[test]
fn signing_is_what_the_aws_cli_would_do() {
    let emulated = Credentials::new("111111111111", SECRET, None, None, "test");
    for (credentials, endpoint, written) in
        [(user(), aws(), OF_A_USER), (role(), aws(), OF_A_ROLE), (emulated, emulator(), AT_AN_EMULATOR)]
    {
        let signed = presign(&credentials, &endpoint, &region(), BINDING, now()).unwrap();
        assert_eq!(taken_apart(&signed), taken_apart(written));
        for url in [signed.as_str(), written] {
            assert_eq!(Presigned::parse(url, &endpoint, &region(), later(1)).map(|_| ()), Ok(()));
        }
    }
    for binding in ["", "a b", "a\r\nx: y", "é", &"a".repeat(257)] {
        let refused = presign(&user(), &aws(), &region(), binding, now());
        assert!(matches!(refused, Err(IdentityError::SignedRequest { part: BINDING_HEADER, .. })), "{refused:?}");
    }
}

#[test]
fn every_part_has_its_rule() {
    let change = |from: &str, to: &str| {
        assert!(OF_A_ROLE.contains(from), "{from}");
        OF_A_ROLE.replace(from, to)
    };
    for (url, part) in [
        (String::new(), "the URL"),
        ("sts.eu-central-1.amazonaws.com".to_owned(), "the URL"),
        (change("&Version", " &Version"), "the URL"),
        (change("&Version", "\\&Version"), "the URL"),
        (change("&Version", "\n&Version"), "the URL"),
        (change("&Version", "é&Version"), "the URL"),
        (change("https:", "http:"), "its host"),
        (change("https:", "ftp:"), "its host"),
        (change("sts.eu-central-1", "sts.eu-west-1"), "its host"),
        (change("sts.eu-central-1.amazonaws.com", "sts.amazonaws.com"), "its host"),
        (change("amazonaws.com", "amazonaws.com.example.com"), "its host"),
        (change("amazonaws.com", "amazonaws.com."), "its host"),
        (change("https://sts", "https://example.com/sts"), "its host"),
        (change("amazonaws.com/", "amazonaws.com:8443/"), "its host"),
        (change("https://", "https://me@"), "the URL"),
        (change("https://", "https://:secret@"), "the URL"),
        (change("https://sts.eu-central-1.amazonaws.com", "https://169.254.169.254"), "its host"),
        (change(".com/?", ".com/admin?"), "its path"),
        (change(".com/?", ".com//?"), "its path"),
        (format!("{OF_A_ROLE}#"), "its fragment"),
        (format!("{OF_A_ROLE}#a"), "its fragment"),
        (change("Action=GetCallerIdentity", "Action=AssumeRole"), "Action"),
        (change("Action=GetCallerIdentity", "Action="), "Action"),
        (change("Action=GetCallerIdentity&", ""), "Action"),
        (change("Action=", "action="), "the query"),
        (change("2011-06-15", "2011-06-16"), "Version"),
        (change("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), "X-Amz-Algorithm"),
        (change("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), "X-Amz-Algorithm"),
        (change("ASIAIOSFODNN7EXAMPLE%2F", "%2F"), "X-Amz-Credential"),
        (change("ASIAIOSFODNN7EXAMPLE%2F", "ASIAIOSFODNN7EXAMPLE%2Fa%2F"), "X-Amz-Credential"),
        (change("%2F20261122%2F", "%2F20261121%2F"), "X-Amz-Credential"),
        (change("%2Feu-central-1%2F", "%2Feu-west-1%2F"), "X-Amz-Credential"),
        (change("%2Fsts%2F", "%2Fiam%2F"), "X-Amz-Credential"),
        (change("aws4_request", "aws5_request"), "X-Amz-Credential"),
        (change("20261122T120000Z", "20261122T120000"), "X-Amz-Date"),
        (change("20261122T120000Z", "2026-11-22T12:00:00Z"), "X-Amz-Date"),
        (change("20261122T120000Z", "20261322T120000Z"), "X-Amz-Date"),
        (change("20261122T120000Z", "20261122T12000Z"), "X-Amz-Date"),
        (change("20261122T120000Z", "+2026112T120000Z"), "X-Amz-Date"),
        (change("Expires=300", "Expires=301"), "X-Amz-Expires"),
        (change("Expires=300", "Expires=0"), "X-Amz-Expires"),
        (change("Expires=300", "Expires=-1"), "X-Amz-Expires"),
        (change("Expires=300", "Expires=030"), "X-Amz-Expires"),
        (change("Expires=300", "Expires=3e2"), "X-Amz-Expires"),
        (change("host%3Bx-slipway-approval", "host"), "X-Amz-SignedHeaders"),
        (change("host%3Bx-slipway-approval", "host%3Bx-k8s-aws-id"), "X-Amz-SignedHeaders"),
        (change("host%3Bx-slipway-approval", "host%3Bx-slipway-approval%3Bx-amz-date"), "X-Amz-SignedHeaders"),
        (change("host%3Bx-slipway-approval", "x-slipway-approval"), "X-Amz-SignedHeaders"),
        (change("Security-Token=AQoEXAMPLEH4aoAH0gNCAPy%2B%2F%3D", "Security-Token="), "X-Amz-Security-Token"),
        (change("PLEH4aoAH0gNCAPy%2B", "PLEH4aoAH0gNCAPy+"), "X-Amz-Security-Token"),
        (change("PLEH4aoAH0gNCAPy%2B", "PLEH4aoAH0gNCAPy%0A"), "X-Amz-Security-Token"),
        (change("PLEH4aoAH0gNCAPy%2B", "PLEH4aoAH0gNCAPy%FF"), "X-Amz-Security-Token"),
        (change("X-Amz-Signature=7a", "X-Amz-Signature=7"), "X-Amz-Signature"),
        (change("X-Amz-Signature=7a", "X-Amz-Signature=7A"), "X-Amz-Signature"),
        (change("X-Amz-Signature=7a", "X-Amz-Signature=7g"), "X-Amz-Signature"),
        (format!("{OF_A_ROLE}0"), "X-Amz-Signature"),
        (format!("{OF_A_ROLE}&RoleArn=a"), "the query"),
        (format!("{OF_A_ROLE}&x-amz-date=a"), "the query"),
        (format!("{OF_A_ROLE}&"), ""),
    ] {
        match parse(&url, now()) {
            Err(IdentityError::SignedRequest { part: named, found, .. }) => {
                assert_eq!(named, part, "{url}");
                let secrets = ["AQoEXAMPLE", "EXAMPLEH4ao", "a5b9b4cea0f87f8e", "ASIAIOSFODNN7", "secret"];
                assert!(secrets.iter().all(|secret| !found.contains(secret)), "{found}");
            }
            // An empty parameter is none, to us and to AWS.
            other => assert!(part.is_empty() && other.is_ok(), "{url}: {other:?}"),
        }
    }
    let long = format!("{OF_A_ROLE}&a={}", "a".repeat(8192));
    assert!(parse(&long, now()).unwrap_err().to_string().contains("at most 8192"));
}

#[test]
fn every_part_is_there_once() {
    let (start, query) = OF_A_ROLE.split_once('?').unwrap();
    let parameters: Vec<&str> = query.split('&').collect();
    assert_eq!(parameters.len(), 9);
    for parameter in &parameters {
        let name = parameter.split('=').next().unwrap();
        let others: Vec<&str> = parameters.iter().filter(|other| *other != parameter).copied().collect();
        let without = parse(&format!("{start}?{}", others.join("&")), now());
        if name == "X-Amz-Security-Token" {
            assert_eq!(without, Ok(()), "only temporary credentials have one");
        } else {
            assert!(
                matches!(&without, Err(IdentityError::SignedRequest { part, found, .. })
                    if *part == name && found == "missing"),
                "{name}: {without:?}"
            );
        }
        let twice = parse(&format!("{OF_A_ROLE}&{parameter}"), now());
        assert!(
            matches!(&twice, Err(IdentityError::SignedRequest { part, found, .. })
                if *part == name && found == "given twice"),
            "{name}: {twice:?}"
        );
    }
}

#[test]
fn a_signature_is_not_for_ever() {
    let brief = OF_A_USER.replace("Expires=300", "Expires=60");
    for (url, seconds, accepted) in [
        (OF_A_USER, 0, true),
        (OF_A_USER, 300, true),
        (OF_A_USER, 301, false),
        (OF_A_USER, 86_400, false),
        (OF_A_USER, -60, true),
        (OF_A_USER, -61, false),
        (&brief, 60, true),
        (&brief, 61, false),
    ] {
        let outcome = parse(url, later(seconds));
        assert_eq!(outcome.is_ok(), accepted, "{seconds}");
        assert!(accepted || matches!(outcome, Err(IdentityError::SignedRequestTime { .. })), "{outcome:?}");
    }
}

#[test]
fn endpoints() {
    let regional = |region| StsEndpoint::regional(&Region::new(region).unwrap()).unwrap();
    for (region, url) in [
        ("us-gov-west-1", "https://sts.us-gov-west-1.amazonaws.com/"),
        ("cn-north-1", "https://sts.cn-north-1.amazonaws.com.cn"),
        ("eusc-de-east-1", "https://sts.eusc-de-east-1.amazonaws.eu"),
    ] {
        assert_eq!(Ok(regional(region)), StsEndpoint::parse(url));
    }
    for bad in [
        "",
        "sts.amazonaws.com",
        "http://sts.amazonaws.com",
        "http://127.0.0.2",
        "ftp://127.0.0.1",
        "https://sts.amazonaws.com/a",
        "https://sts.amazonaws.com?",
        "https://sts.amazonaws.com#",
        "https://me@sts.amazonaws.com",
        "https://sts.amazonaws.com\n",
        "https:\\\\sts.amazonaws.com",
    ] {
        assert!(StsEndpoint::parse(bad).is_err(), "{bad}");
    }
}

/// What the stub was asked: path with query, and headers.
type Asked = Arc<Mutex<Vec<(Uri, HeaderMap)>>>;

/// A server that answers every request as `answer` says, for ever.
async fn sts<R: IntoResponse>(
    answer: impl Fn(&Uri, &HeaderMap) -> R + Send + Sync + 'static,
) -> (Callers, StsEndpoint, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = StsEndpoint::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let (asked, answer) = (Asked::default(), Arc::new(answer));
    let log = Arc::clone(&asked);
    let routes = Router::new().fallback(move |uri: Uri, headers: HeaderMap| async move {
        let response: Response = answer(&uri, &headers).into_response();
        log.lock().unwrap().push((uri, headers));
        response
    });
    tokio::spawn(axum::serve(listener, routes).into_future());
    (Callers::new(endpoint.clone(), region()), endpoint, asked)
}

/// STS's answer in JSON.
fn identity(arn: &str, account: &str, user_id: &str) -> Value {
    json!({
        "GetCallerIdentityResponse": {
            "GetCallerIdentityResult": {"Account": account, "Arn": arn, "UserId": user_id},
            "ResponseMetadata": {"RequestId": "01234567-89ab-cdef-0123-456789abcdef"},
        }
    })
}

/// STS's refusal in JSON.
fn error(code: &str) -> Value {
    json!({
        "Error": {"Code": code, "Message": format!("The request {OF_A_ROLE} is not"), "Type": "Sender"},
        "RequestId": "01234567-89ab-cdef-0123-456789abcdef",
    })
}

const DEV_ADMIN: (&str, &str, &str) = ("arn:aws:iam::123456789012:user/DevAdmin", "123456789012", "AIDASAMPLEUSERID");

#[tokio::test]
async fn principals() {
    for (arn, account, user_id) in [
        DEV_ADMIN,
        ("arn:aws:iam::123456789012:user/division/team/Alice", "123456789012", "AIDACKCEVSQ6C2EXAMPLE"),
        ("arn:aws:sts::123456789012:assumed-role/demo/TestAR", "123456789012", "ARO123EXAMPLE123:TestAR"),
        (
            "arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Release_0123456789abcdef/eve@example.com",
            "123456789012",
            "AROA123EXAMPLE123:eve@example.com",
        ),
        ("arn:aws-us-gov:iam::123456789012:root", "123456789012", "123456789012"),
    ] {
        let (callers, endpoint, _) = sts(move |_, _| Json(identity(arn, account, user_id))).await;
        let signed = presign(&role(), &endpoint, &region(), BINDING, now()).unwrap();
        let caller = callers.verify(&signed, BINDING, now()).await.unwrap();
        let Caller { arn: found, account: of, user_id: id } = &caller;
        assert_eq!((found.as_str(), of.as_str(), id.as_str()), (arn, account, user_id));
    }
}

#[tokio::test]
async fn only_our_own_request_is_sent() {
    let (callers, endpoint, asked) = sts(|_, _| Json(identity(DEV_ADMIN.0, DEV_ADMIN.1, DEV_ADMIN.2))).await;
    let signed = presign(&role(), &endpoint, &region(), BINDING, now()).unwrap();
    // The same parts, written in another way.
    let (start, query) = signed.split_once("/?").unwrap();
    let reversed: Vec<&str> = query.split('&').rev().collect();
    let rewritten = format!("{}/?&{}&", start.replace("http", "HTTP"), reversed.join("&").replace("sts", "%73t%73"));
    for url in [&signed, &rewritten] {
        assert!(callers.verify(url, BINDING, now()).await.is_ok());
    }
    let asked = asked.lock().unwrap();
    assert_eq!((asked.len(), &asked[0].0), (2, &asked[1].0), "the URL is built anew");
    let (uri, headers) = &asked[0];
    let origin = signed.split("/?").next().unwrap();
    assert_eq!(taken_apart(&format!("{origin}{uri}")), taken_apart(&signed));
    assert_eq!(headers[BINDING_HEADER], BINDING);
    assert_eq!(headers["accept"], "application/json");
    assert_eq!(headers["host"], origin.trim_start_matches("http://"));
}

#[tokio::test]
async fn a_signature_is_for_one_decision() {
    // This STS knows the secret, as the real one does, and signs what came again.
    let endpoint = Arc::new(Mutex::new(None::<StsEndpoint>));
    let its_own = Arc::clone(&endpoint);
    let (callers, at, _) = sts(move |uri, headers| {
        let signature = |url: &str| taken_apart(url).1.remove("X-Amz-Signature");
        let binding = headers[BINDING_HEADER].to_str().unwrap();
        let endpoint = its_own.lock().unwrap().clone().unwrap();
        let again = presign(&role(), &endpoint, &region(), binding, now()).unwrap();
        if signature(&format!("http://sts{uri}")) == signature(&again) {
            Json(identity(DEV_ADMIN.0, DEV_ADMIN.1, DEV_ADMIN.2)).into_response()
        } else {
            (StatusCode::FORBIDDEN, Json(error("SignatureDoesNotMatch"))).into_response()
        }
    })
    .await;
    *endpoint.lock().unwrap() = Some(at.clone());

    let signed = presign(&role(), &at, &region(), BINDING, now()).unwrap();
    assert!(callers.verify(&signed, BINDING, later(1)).await.is_ok());
    let another = BINDING.replace('9', "8");
    let refused = callers.verify(&signed, &another, later(1)).await;
    assert_eq!(refused, Err(IdentityError::CallerRefused { code: "SignatureDoesNotMatch".to_owned() }));
    let unbound = callers.verify(&signed, "a\nb", later(1)).await;
    assert!(matches!(unbound, Err(IdentityError::SignedRequest { part: BINDING_HEADER, .. })), "{unbound:?}");
}

#[tokio::test]
async fn what_sts_refuses_and_what_may_be_tried_again() {
    let coded = |status: u16, code: &str| (StatusCode::from_u16(status).unwrap(), Json(error(code))).into_response();
    let bare = |status: u16| StatusCode::from_u16(status).unwrap().into_response();
    for (answer, words, transient) in [
        (
            coded(403, "SignatureDoesNotMatch"),
            "refuses the signed sts:GetCallerIdentity (SignatureDoesNotMatch)",
            false,
        ),
        (coded(403, "InvalidClientTokenId"), "(InvalidClientTokenId)", false),
        (coded(403, "ExpiredToken"), "(ExpiredToken)", false),
        (coded(400, "IncompleteSignature"), "(IncompleteSignature)", false),
        (coded(403, "<script>alert(1)</script>"), "(403 Forbidden)", false),
        (bare(403), "(403 Forbidden)", false),
        (coded(400, "Throttling"), "could not be asked: Throttling", true),
        (coded(429, "Throttling"), "429", true),
        (coded(500, "InternalFailure"), "500", true),
        (bare(503), "503", true),
        (Redirect::to("https://example.com/").into_response(), "redirects are not followed", false),
        (bare(204), "204", false),
        (" ".repeat(70_000).into_response(), "more than 65536 bytes", false),
        ("<GetCallerIdentityResponse/>".into_response(), "no JSON object", false),
        (Json(json!({})).into_response(), "no JSON object", false),
        (Json(identity("arn:aws:iam::1:user/a", "1", "AIDA")).into_response(), "account", false),
        (Json(identity("arn:aws:iam::210987654321:user/a", "123456789012", "AIDA")).into_response(), "Arn", false),
        (Json(identity("arn:aws:s3::123456789012:user/a", "123456789012", "AIDA")).into_response(), "Arn", false),
        (Json(identity("arn:aws:iam::123456789012:user/a\nb", "123456789012", "AIDA")).into_response(), "Arn", false),
        (Json(identity("arn:aws:iam::123456789012:", "123456789012", "AIDA")).into_response(), "Arn", false),
        (Json(identity(DEV_ADMIN.0, DEV_ADMIN.1, "")).into_response(), "UserId", false),
    ] {
        let answer = Mutex::new(Some(answer));
        let (callers, endpoint, _) = sts(move |_, _| answer.lock().unwrap().take().unwrap()).await;
        let signed = presign(&role(), &endpoint, &region(), BINDING, now()).unwrap();
        let refused = callers.verify(&signed, BINDING, now()).await.unwrap_err();
        assert!(refused.to_string().contains(words), "{words}: {refused}");
        assert_eq!(refused.is_transient(), transient, "{words}");
        let signature = taken_apart(&signed).1.remove("X-Amz-Signature").unwrap();
        for text in [refused.to_string(), format!("{refused:?}")] {
            assert!(!text.contains(&signature) && !text.contains("AQoEXAMPLE"), "{text}");
        }
    }
}

#[tokio::test]
async fn sts_is_down() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = StsEndpoint::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let signed = presign(&role(), &endpoint, &region(), BINDING, now()).unwrap();
    let refused = Callers::new(endpoint, region()).verify(&signed, BINDING, now()).await.unwrap_err();
    assert!(refused.is_transient(), "{refused}");
    assert!(!refused.to_string().contains("X-Amz"), "{refused}");
}
