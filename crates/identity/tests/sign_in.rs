//! People sign in at a small GitLab on a loopback port; the tests play their browser. Nothing leaves the machine.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on should say where, and its time is now"
)]

#[path = "../../local/src/gitlab/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "the demo uses the rest of it")]
mod gitlab;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Redirect};
use axum::routing::{get, post};
use axum::{Json, Router};
use gitlab::{GitLab, Job, Lie, User};
use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, Url, redirect};
use serde_json::json;
use slipway_identity::{Attempt, Audience, ClientId, IdentityError, Issuer, Keys, Person, SignIn, Verifier};
use tokio::net::TcpListener;

const CLIENT_ID: &str = "5d0fb3a9c8f1";
const BACK: &str = "https://abc.lambda-url.eu-central-1.on.aws/callback";

fn keys(url: &str) -> Arc<Keys> {
    Arc::new(Keys::discovered(Issuer::parse(url).unwrap()))
}

async fn start() -> (GitLab, SignIn) {
    let gitlab = GitLab::start(None).await.unwrap();
    gitlab.register(CLIENT_ID, BACK);
    let sign_in = SignIn::new(keys(gitlab.url()), ClientId::parse(CLIENT_ID).unwrap());
    (gitlab, sign_in)
}

fn browser() -> Client {
    Client::builder().redirect(redirect::Policy::none()).no_proxy().build().unwrap()
}

/// Presses one button of GitLab's page; gives the parameters that the browser comes back with.
async fn press(location: &str, button: (&str, &str)) -> HashMap<String, String> {
    let page = browser().get(location).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("<title>Sign in · GitLab</title>"), "{page}");
    assert!(page.contains(&format!("<button name=\"{}\" value=\"{}\">", button.0, button.1)), "{page}");
    let answer = browser().post(location).form(&[button]).send().await.unwrap();
    assert_eq!(answer.status(), 302);
    let back: Url = answer.headers()[LOCATION].to_str().unwrap().parse().unwrap();
    assert_eq!(back.as_str().split('?').next(), Some(BACK));
    back.query_pairs().into_owned().collect()
}

/// The way of `login` up to the moment when the browser is back.
async fn come_back(sign_in: &SignIn, login: &str) -> (Attempt, String) {
    let attempt = Attempt::new().unwrap();
    let location = sign_in.location(BACK, &attempt, false, Timestamp::now()).await.unwrap();
    let mut back = press(&location, ("user", login)).await;
    assert_eq!(attempt.state, back["state"]);
    (attempt, back.remove("code").unwrap())
}

async fn sign_in_as(sign_in: &SignIn, login: &str) -> Result<Person, IdentityError> {
    let (attempt, code) = come_back(sign_in, login).await;
    let outcome = sign_in.finish(BACK, &code, &attempt, Timestamp::now()).await;
    if let Err(refused) = &outcome {
        // Whatever went wrong: what only this sign-in knows is in no message and in no log.
        for text in [refused.to_string(), format!("{refused:?}")] {
            for secret in [&code, &attempt.verifier, &attempt.nonce, &attempt.state] {
                assert!(!text.contains(secret.as_str()), "{text}");
            }
            assert!(!text.contains("eyJ"), "a token: {text}");
        }
    }
    outcome
}

#[tokio::test]
async fn a_person_signs_in() {
    let (gitlab, sign_in) = start().await;
    gitlab.add_user(User { id: 41, login: "ann-marie_o.neil".to_owned(), groups: vec![] });
    for (user_id, login, groups) in [
        (7, "dana", &[] as &[&str]),
        (8, "release-manager", &[]),
        (9, "eve", &["group/leads"]),
        (66, "mallory", &[]),
        (41, "ann-marie_o.neil", &[]),
    ] {
        let person = sign_in_as(&sign_in, login).await.unwrap();
        assert_eq!((person.user_id, person.user_login.as_str()), (user_id, login));
        assert_eq!(person.groups, groups);
    }
    assert_eq!(gitlab.hits(), 1, "the keys are kept");
}

#[tokio::test]
async fn a_person_signs_in_with_keys_that_are_kept_elsewhere() {
    let (gitlab, _) = start().await;
    let key_set = gitlab.key_set().to_owned();
    let keys = Keys::read_by(Issuer::parse(gitlab.url()).unwrap(), move || {
        let key_set = key_set.clone();
        async move { Ok(key_set.into_bytes()) }
    });
    let sign_in = SignIn::new(Arc::new(keys), ClientId::parse(CLIENT_ID).unwrap());
    assert_eq!(sign_in_as(&sign_in, "eve").await.unwrap().user_id, 9);
    gitlab.lie(Lie::BadSignature);
    let refused = sign_in_as(&sign_in, "eve").await;
    assert!(matches!(refused, Err(IdentityError::BadSignature { .. })), "{refused:?}");
    assert_eq!(gitlab.hits(), 0);
}

#[tokio::test]
async fn gitlab_is_asked_for_no_more_than_it_must_tell() {
    let (gitlab, sign_in) = start().await;
    let attempt = Attempt::new().unwrap();
    let location: Url = sign_in.location(BACK, &attempt, false, Timestamp::now()).await.unwrap().parse().unwrap();
    assert_eq!(location.as_str().split('?').next().unwrap(), format!("{}/oauth/authorize", gitlab.url()));
    let asked: HashMap<_, _> = location.query_pairs().collect();
    let mut names: Vec<_> = asked.keys().map(AsRef::as_ref).collect();
    names.sort_unstable();
    let expected = "client_id code_challenge code_challenge_method nonce redirect_uri response_type scope state";
    assert_eq!(names.join(" "), expected);
    assert_eq!((asked["scope"].as_ref(), asked["code_challenge_method"].as_ref()), ("openid", "S256"));
    assert!(!location.as_str().contains(&attempt.verifier), "only its digest goes through the browser");

    let other = Attempt::new().unwrap();
    let drawn = [&attempt.state, &attempt.nonce, &attempt.verifier, &other.state, &other.nonce, &other.verifier];
    for (position, one) in drawn.iter().enumerate() {
        assert_eq!(one.len(), 43);
        assert!(drawn.iter().skip(position + 1).all(|later| later != one), "each is drawn anew");
    }
}

#[tokio::test]
async fn every_lie_is_refused_by_name() {
    for lie in [
        Lie::WrongNonce,
        Lie::NoNonce,
        Lie::WrongAudience,
        Lie::WrongIssuer,
        Lie::Expired,
        Lie::OtherSub,
        Lie::BadSignature,
        Lie::NoIdToken,
        Lie::TokenEndpointDown,
    ] {
        let (gitlab, sign_in) = start().await;
        gitlab.lie(lie);
        let refused = sign_in_as(&sign_in, "release-manager").await.unwrap_err();
        let (named, words) = match lie {
            Lie::WrongNonce | Lie::NoNonce => (matches!(refused, IdentityError::OtherSignIn), "claim nonce"),
            Lie::WrongAudience => (matches!(refused, IdentityError::WrongAudience { .. }), CLIENT_ID),
            Lie::WrongIssuer => (matches!(refused, IdentityError::WrongIssuer { .. }), gitlab.url()),
            Lie::Expired => (matches!(refused, IdentityError::Expired { .. }), "signs in again"),
            Lie::OtherSub => (matches!(refused, IdentityError::OtherPerson { expected: 8, found: 1 }), "Sign in again"),
            Lie::BadSignature => (matches!(refused, IdentityError::BadSignature { .. }), "signature"),
            Lie::NoIdToken => (matches!(refused, IdentityError::AnswerInvalid { .. }), "no id_token"),
            Lie::TokenEndpointDown => (refused.is_transient(), "503"),
            Lie::ForeignTokenEndpoint => unreachable!(),
        };
        assert!(named && refused.to_string().contains(words), "{lie:?}: {refused:?}");
    }
}

#[tokio::test]
async fn endpoints_elsewhere_are_not_asked() {
    let (gitlab, sign_in) = start().await;
    let (now, attempt) = (Timestamp::now(), Attempt::new().unwrap());
    let at = |seconds| now + SignedDuration::from_secs(seconds);
    assert!(sign_in.location(BACK, &attempt, false, now).await.is_ok());
    gitlab.lie(Lie::ForeignTokenEndpoint);
    assert!(sign_in.location(BACK, &attempt, false, at(3599)).await.is_ok(), "what was read is believed for an hour");
    assert_eq!(gitlab.discoveries(), 1);
    let refused = sign_in.location(BACK, &attempt, false, at(3600)).await.unwrap_err();
    assert!(refused.to_string().contains("token_endpoint \"http://127.0.0.1:9/oauth/token\" is not on"), "{refused}");
    for (seconds, discoveries) in [(3604, 2), (3605, 3)] {
        let refused = sign_in.finish(BACK, "code", &attempt, at(seconds)).await.unwrap_err();
        assert!(matches!(refused, IdentityError::AnswerInvalid { .. }), "{refused}");
        assert_eq!(gitlab.discoveries(), discoveries, "after a failure it is asked every five seconds");
    }
}

#[tokio::test]
async fn a_code_counts_once_and_for_its_own_sign_in() {
    let (gitlab, sign_in) = start().await;
    let now = Timestamp::now();
    let refused = Err(IdentityError::CodeRefused);

    let (attempt, code) = come_back(&sign_in, "eve").await;
    assert!(sign_in.finish(BACK, &code, &attempt, now).await.is_ok());
    assert_eq!(sign_in.finish(BACK, &code, &attempt, now).await, refused, "used already");

    let (attempt, code) = come_back(&sign_in, "eve").await;
    let other = Attempt::new().unwrap();
    assert_eq!(sign_in.finish(BACK, &code, &other, now).await, refused, "another verifier");
    let elsewhere = format!("{BACK}/");
    assert_eq!(sign_in.finish(&elsewhere, &code, &attempt, now).await, refused, "another redirect URI");
    // Another's nonce with this one's verifier: somebody made one sign-in out of two.
    let mixed = Attempt { state: attempt.state.clone(), nonce: other.nonce, verifier: attempt.verifier };
    assert_eq!(sign_in.finish(BACK, &code, &mixed, now).await, Err(IdentityError::OtherSignIn));

    let (attempt, code) = come_back(&sign_in, "eve").await;
    gitlab.wait(60);
    assert_eq!(sign_in.finish(BACK, &code, &attempt, now).await, refused, "expired");

    gitlab.register("another-application", BACK);
    let another = SignIn::new(keys(gitlab.url()), ClientId::parse("another-application").unwrap());
    let (attempt, code) = come_back(&sign_in, "eve").await;
    assert_eq!(another.finish(BACK, &code, &attempt, now).await, refused, "another application's");

    for code in ["", "a b", "a\n", "é", "no-code", &"a".repeat(513)] {
        assert_eq!(sign_in.finish(BACK, code, &attempt, now).await, refused, "{code}");
    }
    assert!(IdentityError::CodeRefused.to_string().contains("Sign in again"));
}

#[tokio::test]
async fn a_person_denies_it() {
    let (_gitlab, sign_in) = start().await;
    let attempt = Attempt::new().unwrap();
    let location = sign_in.location(BACK, &attempt, false, Timestamp::now()).await.unwrap();
    let back = press(&location, ("deny", "1")).await;
    assert_eq!(back["error"], "access_denied");
    assert!(attempt.state == back["state"] && !back.contains_key("code"));
}

#[tokio::test]
async fn an_application_that_gitlab_does_not_know() {
    let (gitlab, known) = start().await;
    let stranger = SignIn::new(keys(gitlab.url()), ClientId::parse("stranger").unwrap());
    let attempt = Attempt::new().unwrap();
    let refused = stranger.finish(BACK, "code", &attempt, Timestamp::now()).await;
    assert_eq!(refused, Err(IdentityError::ClientRefused { error: "invalid_client" }));

    // GitLab says so on a page of its own, and sends nobody anywhere.
    let good: Url = known.location(BACK, &attempt, false, Timestamp::now()).await.unwrap().parse().unwrap();
    for (name, value, error) in [
        ("client_id", None, "invalid_request"),
        ("client_id", Some("stranger"), "invalid_client"),
        ("redirect_uri", None, "invalid_redirect_uri"),
        ("redirect_uri", Some("https://abc.lambda-url.eu-central-1.on.aws/callback/"), "invalid_redirect_uri"),
        ("response_type", None, "invalid_request"),
        ("response_type", Some("token"), "unsupported_response_type"),
        ("scope", None, "invalid_scope"),
        ("scope", Some("openid api"), "invalid_scope"),
        ("code_challenge", None, "invalid_request"),
        ("code_challenge_method", None, "invalid_code_challenge_method"),
        ("code_challenge_method", Some("plain"), "invalid_code_challenge_method"),
    ] {
        let mut asked = good.clone();
        let others = good.query_pairs().filter(|(other, _)| other != name);
        let changed = value.map(|value| (name.into(), value.into()));
        asked.query_pairs_mut().clear().extend_pairs(others.chain(changed));
        for request in [browser().get(asked.clone()), browser().post(asked).form(&[("user", "eve")])] {
            let answer = request.send().await.unwrap();
            assert_eq!((answer.status(), answer.headers().get(LOCATION)), (StatusCode::OK, None), "{name}");
            let page = answer.text().await.unwrap();
            assert!(page.contains(&format!("<code>{error}</code>")), "{name}: {page}");
        }
    }
}

#[tokio::test]
async fn a_jobs_token_signs_nobody_in_and_a_persons_runs_no_job() {
    let (gitlab, sign_in) = start().await;
    let now = Timestamp::now();
    // A job may ask for any audience, the application's too; but it has no say in the nonce.
    let url = instance(&gitlab, |url| {
        let job = Job::new("group/news", "main", 8, "release-manager", CLIENT_ID);
        let mut claims = gitlab.claims(&job, now).unwrap();
        claims["iss"] = json!(url);
        let token = gitlab.sign(&claims).unwrap();
        Json(json!({"access_token": "a", "token_type": "Bearer", "id_token": token}))
    })
    .await;
    let lying = SignIn::new(keys(&url), ClientId::parse(CLIENT_ID).unwrap());
    let refused = lying.finish(BACK, "code", &Attempt::new().unwrap(), now).await;
    assert_eq!(refused, Err(IdentityError::OtherSignIn));

    // What GitLab says of a person, for an audience that happens to be the application's id, names no project.
    let of_a_person = json!({"iss": gitlab.url(), "sub": "8", "aud": CLIENT_ID, "exp": now.as_second() + 60});
    let verifier = Verifier::with_keys(keys(gitlab.url()), Audience::parse(CLIENT_ID).unwrap());
    let refused = verifier.verify(&gitlab.sign(&of_a_person).unwrap(), now).await;
    assert_eq!(refused, Err(IdentityError::MissingClaim { claim: "project_id" }));
    assert!(sign_in_as(&sign_in, "dana").await.is_ok());
}

/// An instance whose token endpoint gives one answer, once, with the keys of `gitlab`.
async fn instance<R: IntoResponse>(gitlab: &GitLab, answer: impl FnOnce(&str) -> R) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(Mutex::new(Some(answer(&url).into_response())));
    let discovery = json!({
        "issuer": url,
        "jwks_uri": format!("{url}/keys"),
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "userinfo_endpoint": format!("{url}/userinfo"),
    });
    let keys = gitlab.key_set().to_owned();
    let routes = Router::new()
        .route("/.well-known/openid-configuration", get(|| async move { Json(discovery) }))
        .route("/keys", get(|| async move { keys }))
        .route("/token", post(|| async move { answer.lock().unwrap().take().unwrap() }));
    tokio::spawn(axum::serve(listener, routes).into_future());
    url
}

#[tokio::test]
async fn answers_that_are_no_tokens() {
    let gitlab = GitLab::start(None).await.unwrap();
    let attempt = Attempt::new().unwrap();
    let leak = format!("{} {} s3cret-t0ken", attempt.verifier, attempt.nonce);
    for (answer, why) in [
        (Redirect::to("/users/sign_in").into_response(), "redirects are not followed"),
        ("<html>".into_response(), "no JSON object"),
        (Json(json!({"access_token": "s3cret-t0ken"})).into_response(), "no JSON object"),
        (
            Json(json!({"access_token": "s3cret-t0ken", "token_type": "mac", "id_token": "a.b.c"})).into_response(),
            "no bearer token",
        ),
        (
            Json(json!({"access_token": "s3cret-t0ken\n", "token_type": "bearer", "id_token": "a.b.c"}))
                .into_response(),
            "no bearer token",
        ),
        (" ".repeat(300_000).into_response(), "more than 262144 bytes"),
        ((StatusCode::BAD_REQUEST, Json(json!({"error": leak}))).into_response(), "400"),
        ((StatusCode::FORBIDDEN, leak.clone()).into_response(), "403"),
        ((StatusCode::TOO_MANY_REQUESTS, leak.clone()).into_response(), "429"),
    ] {
        let url = instance(&gitlab, |_| answer).await;
        let sign_in = SignIn::new(keys(&url), ClientId::parse(CLIENT_ID).unwrap());
        let refused = sign_in.finish(BACK, "c0de-of-this", &attempt, Timestamp::now()).await.unwrap_err();
        let text = format!("{refused} {refused:?}");
        assert!(text.contains(why) && text.contains(&url), "{why}: {text}");
        for secret in [&attempt.verifier, &attempt.nonce, "s3cret", "c0de"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
