//! Tokens of a small GitLab on a loopback port, good and bad, through the whole verifier. Nothing leaves the machine.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on should say where, and its time is now"
)]

#[path = "../../local/src/gitlab/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "the demo uses the rest of it")]
mod gitlab;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gitlab::{GitLab, Job};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use slipway_identity::{Audience, IdentityError, Issuer, JobClaims, Keys, MAX_TOKEN_BYTES, RefType, Verifier};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const AUDIENCE: &str = "https://slipway.example.com";

/// When every token here is issued.
fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn verifier(url: &str) -> Verifier {
    Verifier::new(Issuer::parse(url).unwrap(), Audience::parse(AUDIENCE).unwrap())
}

async fn start() -> (GitLab, Verifier) {
    let gitlab = GitLab::start(None).await.unwrap();
    let verifier = verifier(gitlab.url());
    (gitlab, verifier)
}

fn job() -> Job {
    Job::new("group/news", "main", 7, "maria", AUDIENCE)
}

fn good(gitlab: &GitLab) -> String {
    gitlab.token_at(&job(), now()).unwrap()
}

/// The good token's claims with one changed.
fn with(gitlab: &GitLab, claim: &str, value: Value) -> Value {
    let mut claims = gitlab.claims(&job(), now()).unwrap();
    claims[claim] = value;
    claims
}

async fn verify_with(
    gitlab: &GitLab,
    verifier: &Verifier,
    claim: &str,
    value: Value,
) -> Result<JobClaims, IdentityError> {
    verifier.verify(&gitlab.sign(&with(gitlab, claim, value)).unwrap(), now()).await
}

#[tokio::test]
async fn a_good_token() {
    let (gitlab, verifier) = start().await;
    let job = Job {
        groups_direct: vec!["group".to_owned(), "group/leads".to_owned()],
        environment: Some("prod".to_owned()),
        ..job()
    };
    let claims = verifier.verify(&gitlab.token_at(&job, now()).unwrap(), now()).await.unwrap();
    assert_eq!(
        (claims.project_id, claims.project_path.as_str()),
        (slipway_domain::names::ProjectId(101), "group/news")
    );
    assert_eq!((claims.namespace_path.as_str(), claims.is_for_a_fork()), ("group", false));
    assert_eq!((claims.user_id, claims.user_login.as_str()), (7, "maria"));
    assert_eq!(claims.groups_direct, ["group", "group/leads"]);
    assert_eq!((claims.pipeline_id, claims.job_id, claims.pipeline_source.as_str()), (1001, 10_001, "push"));
    assert_eq!((claims.ref_name.as_str(), claims.ref_type, claims.ref_protected), ("main", RefType::Branch, true));
    assert_eq!((claims.environment.as_deref(), claims.environment_protected), (Some("prod"), Some(false)));
    assert_eq!(claims.expires_at, later(3600));

    // Issued by the real clock, it is valid by the real clock.
    let real = gitlab.token(&job).unwrap();
    assert!(verifier.verify(&real, Timestamp::now()).await.is_ok());
    assert_ne!(claims.jti, verifier.verify(&real, Timestamp::now()).await.unwrap().jti, "each token has its own id");
}

#[tokio::test]
async fn keys_are_fetched_once_for_many() {
    let (gitlab, verifier) = start().await;
    let token = good(&gitlab);
    let (one, two, three) =
        tokio::join!(verifier.verify(&token, now()), verifier.verify(&token, now()), verifier.verify(&token, now()));
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    assert_eq!(gitlab.hits(), 1);
    let tomorrow = later(86_400);
    assert!(verifier.verify(&gitlab.token_at(&job(), tomorrow).unwrap(), tomorrow).await.is_ok());
    assert_eq!(gitlab.hits(), 2, "keys are not believed for ever");
}

#[tokio::test]
async fn a_wrong_signature() {
    let (gitlab, verifier) = start().await;
    let other = GitLab::start(None).await.unwrap();
    let bad = IdentityError::BadSignature { kid: format!("{:?}", gitlab.kid()) };

    // Another key under this one's kid.
    let header = json!({"alg": "RS256", "kid": gitlab.kid()});
    let forged = other.sign_with(&header, &gitlab.claims(&job(), now()).unwrap()).unwrap();
    assert_eq!(verifier.verify(&forged, now()).await, Err(bad.clone()));

    // Claims changed after signing, and signatures that are none.
    let token = good(&gitlab);
    let parts: Vec<&str> = token.split('.').collect();
    let claims = URL_SAFE_NO_PAD.encode(with(&gitlab, "user_id", json!("1")).to_string());
    for tampered in [
        format!("{}.{claims}.{}", parts[0], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}.AAAA", parts[0], parts[1]),
        format!("{}.{}.!", parts[0], parts[1]),
        format!("{token}="),
    ] {
        assert_eq!(verifier.verify(&tampered, now()).await, Err(bad.clone()));
    }
}

#[tokio::test]
async fn another_algorithm() {
    let (gitlab, verifier) = start().await;
    let claims = gitlab.claims(&job(), now()).unwrap();
    for alg in ["none", "None", "HS256", "RS384", "RS512", "PS256", "ES256", "EdDSA", "rs256", ""] {
        let token = gitlab.sign_with(&json!({"alg": alg, "kid": gitlab.kid()}), &claims).unwrap();
        let refused = Err(IdentityError::WrongAlgorithm { found: format!("{alg:?}") });
        assert_eq!(verifier.verify(&token, now()).await, refused);
    }

    // The classic ones: no signature at all, and a MAC keyed with the public key.
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = format!("{}.{}.", part(&json!({"alg": "none", "kid": gitlab.kid()})), part(&claims));
    let refused = verifier.verify(&unsigned, now()).await;
    assert_eq!(refused, Err(IdentityError::WrongAlgorithm { found: "\"none\"".to_owned() }));
    let header = jsonwebtoken::Header {
        kid: Some(gitlab.kid().to_owned()),
        ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256)
    };
    let secret = jsonwebtoken::EncodingKey::from_secret(gitlab.public_key());
    let mac = jsonwebtoken::encode(&header, &claims, &secret).unwrap();
    let refused = verifier.verify(&mac, now()).await;
    assert_eq!(refused, Err(IdentityError::WrongAlgorithm { found: "\"HS256\"".to_owned() }));
    assert_eq!(gitlab.hits(), 0, "none of these costs a request");
}

#[tokio::test]
async fn another_issuer() {
    let (gitlab, verifier) = start().await;
    for iss in ["https://gitlab.com", &format!("{}/", gitlab.url()), &gitlab.url().to_uppercase()] {
        let refused = verify_with(&gitlab, &verifier, "iss", json!(iss)).await;
        let expected = IdentityError::WrongIssuer { found: format!("{iss:?}"), expected: gitlab.url().to_owned() };
        assert_eq!(refused, Err(expected));
    }
    let refused = verify_with(&gitlab, &verifier, "iss", json!([gitlab.url()])).await;
    assert!(matches!(refused, Err(IdentityError::BadClaim { claim: "iss", .. })), "{refused:?}");
    let refused = verify_with(&gitlab, &verifier, "iss", Value::Null).await;
    assert_eq!(refused, Err(IdentityError::MissingClaim { claim: "iss" }));
    assert_eq!(gitlab.hits(), 0, "none of these costs a request");
}

#[tokio::test]
async fn another_audience() {
    let (gitlab, verifier) = start().await;
    assert!(verify_with(&gitlab, &verifier, "aud", json!([AUDIENCE])).await.is_ok());
    for (aud, found) in [
        (json!("https://vault.example.com"), r#""https://vault.example.com""#),
        (json!([AUDIENCE, "sts.amazonaws.com"]), r#"["https://slipway.example.com", "sts.amazonaws.com"]"#),
        (json!([]), "[]"),
    ] {
        let refused = verify_with(&gitlab, &verifier, "aud", aud).await;
        let expected = IdentityError::WrongAudience { found: found.to_owned(), expected: AUDIENCE.to_owned() };
        assert_eq!(refused, Err(expected));
    }
}

#[tokio::test]
async fn at_another_time() {
    let (gitlab, verifier) = start().await;
    let token = gitlab.token_at(&Job { lifetime: 300, ..job() }, now()).unwrap();
    assert!(verifier.verify(&token, later(359)).await.is_ok(), "clocks differ a little");
    let expired = IdentityError::Expired { expired_at: later(300), now: later(360) };
    assert_eq!(verifier.verify(&token, later(360)).await, Err(expired));

    assert!(verifier.verify(&token, later(-60)).await.is_ok(), "clocks differ a little");
    let early = IdentityError::NotYetValid { claim: "nbf", valid_from: later(-5), now: later(-66) };
    assert_eq!(verifier.verify(&token, later(-66)).await, Err(early));
    let early = IdentityError::NotYetValid { claim: "iat", valid_from: now(), now: later(-61) };
    assert_eq!(verifier.verify(&token, later(-61)).await, Err(early));

    let refused = verify_with(&gitlab, &verifier, "exp", Value::Null).await;
    assert_eq!(refused, Err(IdentityError::MissingClaim { claim: "exp" }));
}

#[tokio::test]
async fn a_flood_of_unknown_keys_asks_once_a_minute() {
    let (gitlab, verifier) = start().await;
    let claims = gitlab.claims(&job(), now()).unwrap();
    for second in 0..180 {
        let header = json!({"alg": "RS256", "kid": format!("flood-{second}")});
        let refused = verifier.verify(&gitlab.sign_with(&header, &claims).unwrap(), later(second)).await;
        assert!(matches!(refused, Err(IdentityError::UnknownKey { .. })), "{refused:?}");
        assert!(verifier.verify(&good(&gitlab), later(second)).await.is_ok(), "others are not held up");
    }
    assert_eq!(gitlab.hits(), 3);
}

#[tokio::test]
async fn keys_are_rotated() {
    let (mut gitlab, verifier) = start().await;
    let old = good(&gitlab);
    assert!(verifier.verify(&old, now()).await.is_ok());
    gitlab.rotate().unwrap();
    let new = good(&gitlab);

    let refused = verifier.verify(&new, later(20)).await.unwrap_err();
    assert!(matches!(refused, IdentityError::UnknownKey { retry_in_seconds: 40, .. }), "{refused:?}");
    assert!(verifier.verify(&new, later(60)).await.is_ok());
    let refused = verifier.verify(&old, later(60)).await;
    assert!(matches!(refused, Err(IdentityError::UnknownKey { .. })), "a withdrawn key counts no more: {refused:?}");
}

#[tokio::test]
async fn the_issuer_is_down() {
    let (gitlab, verifier) = start().await;
    let (url, token) = (gitlab.url().to_owned(), good(&gitlab));
    let port = url.rsplit_once(':').unwrap().1.parse().unwrap();
    drop(gitlab);
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let refused = verifier.verify(&token, now()).await.unwrap_err();
    assert!(refused.is_transient(), "{refused}");
    assert!(refused.to_string().contains(&url), "{refused}");

    // It comes back, with another key: seconds later all is well.
    let gitlab = GitLab::start(Some(port)).await.unwrap();
    let token = good(&gitlab);
    assert!(verifier.verify(&token, later(1)).await.unwrap_err().is_transient());
    assert!(verifier.verify(&token, later(5)).await.is_ok());

    // Gone again: the keys that are known go on working, for an hour.
    drop(gitlab);
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert!(verifier.verify(&token, later(3600)).await.is_ok());
    let refused = verifier.verify(&token, later(3605)).await.unwrap_err();
    assert!(refused.is_transient(), "{refused}");
}

/// A key set in a parameter, and how often it was read.
#[derive(Clone, Default)]
struct Parameter {
    document: Arc<Mutex<Option<String>>>,
    reads: Arc<AtomicUsize>,
}

impl Parameter {
    fn put(&self, document: &str) {
        *self.document.lock().unwrap() = Some(document.to_owned());
    }

    fn verifier(&self, gitlab: &GitLab) -> Verifier {
        let parameter = self.clone();
        let keys = Keys::read_by(Issuer::parse(gitlab.url()).unwrap(), move || {
            parameter.reads.fetch_add(1, Ordering::Relaxed);
            let document = parameter.document.lock().unwrap().clone();
            async move { document.map(String::into_bytes).ok_or_else(|| "ssm:GetParameter: throttled".to_owned()) }
        });
        Verifier::with_keys(Arc::new(keys), Audience::parse(AUDIENCE).unwrap())
    }
}

#[tokio::test]
async fn keys_of_an_issuer_that_cannot_be_reached() {
    let mut gitlab = GitLab::start(None).await.unwrap();
    let parameter = Parameter::default();
    let verifier = parameter.verifier(&gitlab);
    let old = good(&gitlab);

    let refused = verifier.verify(&old, now()).await.unwrap_err();
    assert!(refused.is_transient() && refused.to_string().contains("throttled"), "{refused}");
    parameter.put("{}");
    let refused = verifier.verify(&old, later(5)).await.unwrap_err();
    assert!(matches!(refused, IdentityError::KeysInvalid { .. }), "{refused}");
    parameter.put(gitlab.key_set());
    assert!(verifier.verify(&old, later(10)).await.is_ok());
    assert_eq!(parameter.reads.load(Ordering::Relaxed), 3);

    // A flood of unknown keys reads it once a minute.
    let claims = gitlab.claims(&job(), now()).unwrap();
    for second in 11..=190 {
        let header = json!({"alg": "RS256", "kid": format!("flood-{second}")});
        let refused = verifier.verify(&gitlab.sign_with(&header, &claims).unwrap(), later(second)).await;
        assert!(matches!(refused, Err(IdentityError::UnknownKey { .. })), "{refused:?}");
        assert!(verifier.verify(&old, later(second)).await.is_ok(), "others are not held up");
    }
    assert_eq!(parameter.reads.load(Ordering::Relaxed), 6);

    // Rotated: the new key counts once the parameter has it, and the old one no more.
    gitlab.rotate().unwrap();
    let new = good(&gitlab);
    parameter.put(gitlab.key_set());
    assert!(matches!(verifier.verify(&new, later(191)).await, Err(IdentityError::UnknownKey { .. })));
    assert!(verifier.verify(&new, later(250)).await.is_ok());
    assert!(matches!(verifier.verify(&old, later(250)).await, Err(IdentityError::UnknownKey { .. })));
    assert_eq!(gitlab.hits(), 0, "the issuer itself is never asked");
}

#[tokio::test]
async fn what_given_keys_do_not_prove() {
    let gitlab = GitLab::start(None).await.unwrap();
    let other = GitLab::start(None).await.unwrap();
    let parameter = Parameter::default();
    parameter.put(gitlab.key_set());
    let verifier = parameter.verifier(&gitlab);
    let claims = gitlab.claims(&job(), now()).unwrap();
    let header = |alg: &str| json!({"alg": alg, "kid": gitlab.kid()});
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let mac = jsonwebtoken::encode(
        &jsonwebtoken::Header {
            kid: Some(gitlab.kid().to_owned()),
            ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256)
        },
        &claims,
        &jsonwebtoken::EncodingKey::from_secret(gitlab.public_key()),
    );
    let signed = |claim: &str, value: Value| gitlab.sign(&with(&gitlab, claim, value)).unwrap();
    let seconds = |seconds: i64| json!(later(seconds).as_second());
    for (why, token) in [
        ("signature is not by", other.sign_with(&header("RS256"), &claims).unwrap()),
        ("alg \"none\"", format!("{}.{}.", part(&header("none")), part(&claims))),
        ("alg \"HS256\"", mac.unwrap()),
        ("claim iss", signed("iss", json!(other.url()))),
        ("claim aud", signed("aud", json!("https://vault.example.com"))),
        ("claim exp", signed("exp", seconds(-60))),
        ("claim nbf", signed("nbf", seconds(61))),
    ] {
        let refused = verifier.verify(&token, now()).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{why}: {refused}");
    }
    assert!(verifier.verify(&good(&gitlab), now()).await.is_ok());
}

/// A server that gives every request the same answer; `{url}` and `{host}` in it become its own.
async fn answers(response: String) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let response = response.replace("{url}", &url).replace("{host}", url.trim_start_matches("http://"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(response.as_bytes()).await;
        }
    });
    url
}

async fn verify_against(response: String) -> IdentityError {
    let gitlab = GitLab::start(None).await.unwrap();
    let url = answers(response).await;
    let token = gitlab.sign(&with(&gitlab, "iss", json!(url))).unwrap();
    verifier(&url).verify(&token, now()).await.unwrap_err()
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}")
}

#[tokio::test]
async fn a_discovery_document_that_cannot_be_trusted() {
    let (gitlab, _) = start().await;
    for (response, why) in [
        (ok(r#"{"issuer":"https://gitlab.com","jwks_uri":"{url}/k"}"#), "its issuer is"),
        (ok(r#"{"issuer":"{url}/","jwks_uri":"{url}/k"}"#), "its issuer is"),
        (ok(&format!(r#"{{"issuer":"{{url}}","jwks_uri":"{}/oauth/discovery/keys"}}"#, gitlab.url())), "jwks_uri"),
        (ok(r#"{"issuer":"{url}","jwks_uri":"http://me@{host}/k"}"#), "jwks_uri"),
        (ok(r#"{"issuer":"{url}","jwks_uri":"/k"}"#), "jwks_uri"),
        (ok(r#"{"issuer":"{url}"}"#), "no JSON object"),
        (ok("<html>"), "no JSON object"),
        // The same answer is no key set either.
        (ok(r#"{"issuer":"{url}","jwks_uri":"{url}/k"}"#), "list of keys"),
        (ok(r#"{"issuer":"{url}","jwks_uri":"{url}/k","keys":[]}"#), "none of its 0 keys"),
        (ok(&" ".repeat(300_000)), "more than 262144 bytes"),
        (format!("HTTP/1.1 302 Found\r\nlocation: {}\r\nconnection: close\r\n\r\n", gitlab.url()), "redirects"),
        ("HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n".to_owned(), "404"),
    ] {
        let refused = verify_against(response).await;
        assert!(matches!(refused, IdentityError::AnswerInvalid { .. }), "{why}: {refused:?}");
        assert!(refused.to_string().contains(why), "{why}: {refused}");
    }
    for response in
        ["HTTP/1.1 503 Away\r\nconnection: close\r\n\r\n", "HTTP/1.1 429 Slow\r\nconnection: close\r\n\r\n", "x"]
    {
        let refused = verify_against(response.to_owned()).await;
        assert!(refused.is_transient(), "{response}: {refused:?}");
    }
    assert_eq!(gitlab.hits(), 0, "nothing leads to another host");
}

#[tokio::test]
async fn an_oversized_token() {
    let (gitlab, verifier) = start().await;
    let token = gitlab.sign(&with(&gitlab, "more", json!("a".repeat(MAX_TOKEN_BYTES)))).unwrap();
    let refused = IdentityError::TokenTooLarge { bytes: token.len(), limit: MAX_TOKEN_BYTES };
    assert_eq!(verifier.verify(&token, now()).await, Err(refused));
    assert_eq!(gitlab.hits(), 0);
}

#[tokio::test]
async fn no_message_holds_the_token() {
    let (gitlab, verifier) = start().await;
    for (claim, value) in [
        ("project_id", json!(101)),
        ("ref_protected", json!(true)),
        ("sha", json!("main")),
        ("aud", json!("x")),
        ("exp", json!(1)),
        ("user_login", json!("eve\nadmitted: true")),
    ] {
        let token = gitlab.sign(&with(&gitlab, claim, value)).unwrap();
        let refused = verifier.verify(&token, now()).await.unwrap_err();
        let message = refused.to_string();
        assert!(message.contains(claim), "{message}");
        assert!(!message.contains('\n'), "{message}");
        for text in [message, format!("{refused:?}")] {
            assert!(token.split('.').all(|part| !text.contains(part)), "{text}");
        }
    }
}

#[tokio::test]
async fn a_taken_port_says_so() {
    let gitlab = GitLab::start(None).await.unwrap();
    let port: u16 = gitlab.url().rsplit_once(':').unwrap().1.parse().unwrap();
    let message = GitLab::start(Some(port)).await.map(|_| ()).unwrap_err().to_string();
    assert!(message.contains(&port.to_string()) && message.contains("another port"), "{message}");
}
