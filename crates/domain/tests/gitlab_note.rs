//! What GitLab shows of a deployment that waits for people, and of its end: the note of a merge request, and the status of a commit.

#![allow(clippy::unwrap_used, clippy::string_slice, reason = "a test may")]

use std::fs;
use std::path::Path;

use jiff::SignedDuration;
use serde_json::{Value, json};
use slipway_domain::ErrorName;
use slipway_domain::deployment::{DeploymentRecord, Ending, Outcome};
use slipway_domain::environment::{self, Environment};
use slipway_domain::gitlab_note::{CommitState, CommitStatus, Note, Shown};
use slipway_domain::names::Digest;

const GITLAB: &str = "https://gitlab.example.com";

fn record(change: impl FnOnce(&mut Value)) -> DeploymentRecord {
    let mut deployment = json!({
        "id": "01a20632-4446-7cc2-a162-1ba210a234b5",
        "action": "deploy",
        "environment": {"project": 101, "application": "news", "stage": "dev", "environment": "review/feature-x"},
        "target": {"account": "111111111111", "region": "eu-central-1", "protected": false},
        "stack_name": "slipway-news-dev-review-feature-x-0123456789abcde",
        "launch": {"bundle": "ab".repeat(32), "parameters": {"Password": "a-secret-value"}},
        "approval": null,
        "timeout": "1h",
        "requester": {
            "user_id": 7, "user_login": "dana", "pipeline_id": 1001, "job_id": 10001, "project_path": "group/news",
            "ref_name": "feature/x", "ref_type": "branch", "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
        },
        "execution_arn": "arn:aws:states:eu-central-1:000000000000:execution:slipway-deploy:x",
        "admission": "cd".repeat(32),
        "started_at": "2026-11-23T10:00:00Z",
    });
    change(&mut deployment);
    let mut record = DeploymentRecord::new(serde_json::from_value(deployment).unwrap());
    record.changes = Some("2 changes, 1 changes rights".to_owned());
    record
}

fn live(record: &DeploymentRecord, url: Option<&str>) -> Environment {
    Environment { url: url.map(str::to_owned), ..environment::begin(None, &record.deployment).unwrap() }
}

fn ended(record: &DeploymentRecord, ending: Ending, error: Option<ErrorName>, message: Option<&str>) -> Outcome {
    let ended_at = record.deployment.started_at + SignedDuration::from_secs(192);
    Outcome { ending, error, message: message.map(str::to_owned), ended_at }
}

fn failed(error: ErrorName, message: &str) -> Outcome {
    ended(&record(|_| {}), Ending::Failed, Some(error), Some(message))
}

fn shown(record: &DeploymentRecord, outcome: &Outcome, url: Option<&str>) -> (CommitStatus, Option<Note>) {
    let environment = live(record, url);
    let shown = Shown::new(record, outcome, &environment, GITLAB).unwrap();
    (shown.status(), shown.note())
}

fn markdown(record: &DeploymentRecord, outcome: &Outcome, url: Option<&str>) -> String {
    shown(record, outcome, url).1.unwrap().markdown().to_owned()
}

#[track_caller]
fn is_as_expected(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gitlab_note").join(name);
    #[allow(clippy::disallowed_methods, reason = "it is asked for from outside")]
    if std::env::var_os("SLIPWAY_BLESS").is_some() {
        fs::write(&path, found).unwrap();
    }
    assert!(found == fs::read_to_string(&path).unwrap_or_default(), "{name} is different:\n{found}");
}

#[test]
fn every_note_is_as_expected() {
    let record = record(|_| {});
    let url = Some("https://news-review-feature-x.example.com/?a=b_c");
    let failed = failed(
        ErrorName::StackFailed,
        "Queue (AWS::SQS::Queue), template.yaml line 12:\nVisibilityTimeout: out of range",
    );
    for (name, outcome) in [("succeeded.md", ended(&record, Ending::Succeeded, None, None)), ("failed.md", failed)] {
        let found = markdown(&record, &outcome, url);
        is_as_expected(name, &found);
        assert!(!found.contains("a-secret-value") && !found.contains("111111111111"), "{found}");
    }
}

/// The same while people are asked, in an environment where `waits` of them does.
fn waiting(record: &DeploymentRecord, waits: &DeploymentRecord) -> Option<(CommitStatus, Note)> {
    let until = record.deployment.started_at + SignedDuration::from_hours(72);
    let waits = environment::Waiting {
        deployment: waits.deployment.id.clone(),
        pipeline_id: 1001,
        approval: Digest::of(b"the link"),
        until,
    };
    let url = "https://news-review-feature-x.example.com/?a=b_c";
    let environment = Environment { waiting: Some(waits), ..live(record, Some(url)) };
    let shown = Shown::waiting(record, &environment, GITLAB)?;
    Some((shown.status(), shown.note().unwrap()))
}

#[test]
fn while_people_are_asked_it_says_so_and_never_over_an_end() {
    let asked = record(|_| {});
    let (status, note) = waiting(&asked, &asked).unwrap();
    let sent = json!({
        "state": "pending", "name": "slipway/news/dev/review/feature-x",
        "description": "Awaits approval in dev until 2026-11-26T10:00:00Z",
        "target_url": "https://gitlab.example.com/group/news/-/jobs/10001", "pipeline_id": 1001,
    });
    assert_eq!(serde_json::to_value(&status).unwrap(), sent);
    is_as_expected("waiting.md", note.markdown());

    let later = record(|deployment| deployment["id"] = json!("01a20632-9999-7cc2-a162-1ba210a234b5"));
    let end = |record| shown(record, &ended(record, Ending::Succeeded, None, None), None).1.unwrap();
    let (last, newer) = (end(&asked), end(&later));
    assert!(last.is_of_same(note.markdown()) && !last.is_older_than(note.markdown()));
    assert!(note.is_older_than(last.markdown()) && note.is_older_than(newer.markdown()));
    assert!(!waiting(&later, &later).unwrap().1.is_older_than(last.markdown()));

    // Another one waits, or this one has ended, or nobody's job asked.
    assert_eq!(waiting(&asked, &later), None);
    let over = DeploymentRecord { outcome: Some(ended(&asked, Ending::Succeeded, None, None)), ..asked.clone() };
    assert_eq!(waiting(&over, &over), None);
    let swept = record(|deployment| deployment["requester"] = Value::Null);
    assert_eq!(waiting(&swept, &swept), None);

    // That people are asked no more is said although something newer came.
    let asked = DeploymentRecord { approval: Some(Digest::of(b"the link")), ..asked };
    let superseded = shown(&asked, &failed(ErrorName::Superseded, "pipeline 1002"), None).1.unwrap();
    assert!(superseded.markdown().contains("**Stopped** (Superseded)"), "{}", superseded.markdown());
}

#[test]
fn a_status_says_what_ended_how_and_where_to_look() {
    let asked = record(|_| {});
    let (status, _) = shown(&asked, &ended(&asked, Ending::Succeeded, None, None), None);
    let sent = json!({
        "state": "success", "name": "slipway/news/dev/review/feature-x", "description": "Deployed in 3 min 12 s",
        "target_url": "https://gitlab.example.com/group/news/-/jobs/10001", "pipeline_id": 1001,
    });
    assert_eq!(serde_json::to_value(&status).unwrap(), sent);
    for (error, state) in [
        (ErrorName::StackFailed, CommitState::Failed),
        (ErrorName::ApprovalRejected, CommitState::Failed),
        (ErrorName::Stopped, CommitState::Canceled),
        (ErrorName::Superseded, CommitState::Canceled),
    ] {
        let (status, _) = shown(&asked, &failed(error, "why\nso"), None);
        assert_eq!((status.state, status.description), (state, format!("{error}: why so")));
    }
    for ending in [Ending::NoChanges, Ending::TornDown, Ending::Repaired, Ending::Looked] {
        assert_eq!(shown(&asked, &ended(&asked, ending, None, None), None).0.state, CommitState::Success);
    }
}

#[test]
fn a_status_is_no_longer_than_gitlab_takes() {
    let long = record(|deployment| {
        deployment["environment"]["environment"] = json!("x".repeat(255));
        deployment["requester"]["project_path"] = json!("group/".repeat(60));
    });
    let (status, _) = shown(&long, &failed(ErrorName::StackFailed, &"ü".repeat(300)), None);
    assert_eq!((status.name.chars().count(), status.description.chars().count()), (255, 255));
    assert_eq!((status.description.chars().last(), status.target_url), (Some('…'), None));
}

#[test]
fn a_note_is_found_again_and_the_newest_deployment_has_the_last_word() {
    let note = |change: fn(&mut Value)| {
        let record = record(change);
        let outcome = ended(&record, Ending::Succeeded, None, None);
        shown(&record, &outcome, None).1.unwrap()
    };
    let first = note(|_| {});
    let later = note(|deployment| deployment["id"] = json!("01a20632-9999-7cc2-a162-1ba210a234b5"));
    let other = note(|deployment| deployment["environment"]["environment"] = json!("review/feature-y"));
    let windows = first.markdown().replace('\n', "\r\n");
    assert!(later.is_of_same(first.markdown()) && later.is_of_same(&windows));
    assert!(first.is_older_than(later.markdown()) && first.is_older_than(&later.markdown().replace('\n', "\r\n")));
    assert!(!later.is_older_than(first.markdown()) && !first.is_older_than(first.markdown()));
    assert!(!other.is_of_same(first.markdown()));
    // Who quotes it, or writes about it, has another note.
    let quoted = format!("Look:\n{}", first.markdown());
    assert!(!first.is_of_same(&quoted) && !first.is_of_same("") && !first.is_older_than("<!-- slipway"));
    // What came too late says nothing over what came first.
    let asked = record(|_| {});
    assert_eq!(shown(&asked, &failed(ErrorName::Superseded, "pipeline 1002"), None).1, None);
}

#[test]
fn what_is_not_ours_is_no_markup() {
    for words in
        ["`", "``a`", "```\n# h", "a`</details>", "[x](http://y) ![z](w) @all #1 !2 <b>", "\u{202e}\u{7}|", "-->"]
    {
        let asked = record(|deployment| {
            deployment["requester"]["user_login"] = json!(words);
            deployment["requester"]["sha"] = json!(words);
            deployment["requester"]["project_path"] = json!(words);
        });
        let text = markdown(&asked, &failed(ErrorName::StackFailed, words), Some(words));
        let outside = outside_of_code(&text);
        let rest: Vec<&str> = outside.lines().skip(2).filter(|line| !line.starts_with("**What to do**")).collect();
        let ours = "**Deployment failed** (StackFailed):  in , environment|- **What was live before**:|- **Changes**:|- **Commit**:|\
                    - **Pipeline**: 1001, asked for by|- **Ended**: 2026-11-23T10:03:12Z, after 3 min 12 s|**Root cause**";
        let rest: Vec<&str> = rest.into_iter().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        assert_eq!(rest.join("|"), ours, "{words:?}: {text}");
        assert!(!text.contains('\u{202e}') && !text.contains('\u{7}'), "{text}");
    }
}

#[test]
fn no_line_of_it_tells_gitlab_to_do_anything() {
    // What a custom resource gives as its reason, whoever wrote it: some GitLabs look for the end of a block without reading Markdown.
    let asked = record(|_| {});
    for words in ["/merge", "a\n/merge", "a\n```\n/merge", "````\n/approve\n````", "a\r/merge", "a\u{2028}/merge"] {
        let text = markdown(&asked, &failed(ErrorName::StackFailed, words), None);
        assert!(text.contains("merge") || text.contains("approve"), "{text}");
        let lines = text.split(['\n', '\r', '\u{2028}']);
        let (fences, others): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with('`'));
        assert!(others.iter().all(|line| !line.starts_with('/')), "{text}");
        assert_eq!(fences.len(), 2, "{text}");
    }
}

#[test]
fn only_an_address_of_the_web_becomes_a_link() {
    let asked = record(|_| {});
    let outcome = ended(&asked, Ending::Succeeded, None, None);
    for (url, line) in [
        ("https://example.com/a", "- **URL**: <https://example.com/a>"),
        ("javascript:alert(1)", "- **URL**: `javascript:alert(1)`"),
        ("https://example.com> @all", "- **URL**: `https://example.com> @all`"),
        ("https://example.com/\n# h", "- **URL**: `https://example.com/\\n# h`"),
    ] {
        let text = markdown(&asked, &outcome, Some(url));
        assert!(text.lines().any(|shown| shown == line), "{url}: {text}");
    }
}

/// A span or block begins with a run of backticks and ends with the next run of the same length.
fn outside_of_code(text: &str) -> String {
    let (mut outside, mut rest) = (String::new(), text);
    while let Some(begin) = rest.find('`') {
        outside += &rest[..begin];
        let fence = rest[begin..].chars().take_while(|c| *c == '`').count();
        let mut at = begin + fence;
        loop {
            let next = at + rest[at..].find('`').unwrap();
            let run = rest[next..].chars().take_while(|c| *c == '`').count();
            at = next + run;
            if run == fence {
                break;
            }
        }
        rest = &rest[at..];
    }
    outside + rest
}
