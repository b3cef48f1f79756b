//! What a person reads of a change set: one rich review in every rendering, and what does not fit.
//!
//! `SLIPWAY_BLESS=1 cargo test -p slipway-domain --test review` writes what is expected anew: read the difference before it is
//! kept. `review.json` is what the web page's test shows.
#![allow(clippy::string_slice, clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::path::Path;

use slipway_domain::review::{
    Change, ChangeAction, Fate, KNOWN_AFTER_APPLY, MAX_REVIEW_BYTES, MAX_VALUE_CHARS, NESTED_STACK, Property,
    Recreation, Replacement, Review, Risk, Unseen, visible,
};

fn property(path: &str, before: Option<&str>, after: Option<&str>, recreation: Recreation) -> Property {
    Property::new(path, before, after, recreation)
}

fn modify(id: &str, kind: &str, properties: Vec<Property>) -> Change {
    Change { properties, ..Change::new(ChangeAction::Modify, id, kind).with_physical_id(Some(&format!("shop-{id}"))) }
}

fn remove(id: &str, kind: &str, fate: Option<Fate>) -> Change {
    Change { fate, ..Change::new(ChangeAction::Remove, id, kind).with_physical_id(Some(&format!("shop-{id}"))) }
}

fn replace(id: &str, kind: &str, fate: Fate, properties: Vec<Property>) -> Change {
    Change { replacement: Replacement::Yes, fate: Some(fate), ..modify(id, kind, properties) }
}

fn inside(stack: &[&str], change: Change) -> Change {
    Change { stack: stack.iter().map(|id| (*id).to_owned()).collect(), ..change }
}

/// A policy that differs only at its end.
fn policy(last: &str) -> String {
    let tables: Vec<_> =
        (0..30).map(|n| format!(r#""arn:aws:dynamodb:eu-central-1:333333333333:table/orders-{n}""#)).collect();
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"dynamodb:GetItem","Resource":[{}]}},{{"Effect":"Allow","Action":"{last}","Resource":"*"}}]}}"#,
        tables.join(",")
    )
}

/// One of everything.
fn rich() -> Review {
    use Recreation::{Always, Conditionally, Never};
    let orders = vec![
        property("/Properties/KeySchema/0/AttributeName", Some("id"), Some("order_id"), Always),
        property("/Properties/TableName", Some("orders"), Some(KNOWN_AFTER_APPLY), Always).because_of("TableName"),
        property("/Tags", None, None, Never),
    ];
    let words = vec![
        property("/Properties/Description", Some("before"), Some("a → b"), Never),
        property(
            "/Properties/Environment/Variables/BANNER",
            Some(""),
            Some("<script>alert('hi')</script> & more"),
            Never,
        ),
        property(
            "/Properties/Environment/Variables/FENCE",
            Some("`"),
            Some("``` [x](https://example.org) @all !1 #1"),
            Never,
        ),
        property("/Properties/Environment/Variables/HIDDEN", Some("****"), Some("****"), Never).because_of("Password"),
        property("/Properties/Environment/Variables/LINES", Some("one"), Some("one\ntwo\u{1b}[2J\u{202e}three"), Never),
        property("/Properties/Environment/Variables/OLD", Some("gone"), None, Never),
        property("/Properties/Code/S3Key", Some("artifacts/0b5e"), Some("artifacts/9f31"), Never),
    ];
    let (reader, admin) = (policy("s3:GetObject"), policy("*"));
    let changes = vec![
        Change {
            properties: vec![property("/Properties/QueueName", None, Some("refunds"), Never)],
            ..Change::new(ChangeAction::Add, "Refunds", "AWS::SQS::Queue")
        },
        Change::new(ChangeAction::Add, "RefundsRole", "AWS::IAM::Role"),
        modify("CheckoutFunction", "AWS::Lambda::Function", words),
        modify(
            "CheckoutRole",
            "AWS::IAM::Role",
            vec![property("/Properties/Policies/0/PolicyDocument", Some(&reader), Some(&admin), Never)],
        ),
        modify(
            "ReportsFunction",
            "AWS::Lambda::Function",
            vec![
                property(
                    "/Properties/Role",
                    Some("arn:aws:iam::333333333333:role/reports"),
                    Some(KNOWN_AFTER_APPLY),
                    Never,
                )
                .because_of("ReportsRole.Arn"),
            ],
        ),
        replace("Orders", "AWS::DynamoDB::Table", Fate::Deleted, orders),
        replace(
            "Ledger",
            "AWS::RDS::DBInstance",
            Fate::Snapshot,
            vec![property("/Properties/Engine", Some("mysql"), Some("postgres"), Always)],
        ),
        Change {
            replacement: Replacement::Conditional,
            ..modify(
                "Site",
                "AWS::S3::Bucket",
                vec![property("/Properties/BucketName", Some("site"), Some(KNOWN_AFTER_APPLY), Conditionally)],
            )
        },
        remove("Archive", "AWS::S3::Bucket", Some(Fate::Kept)),
        remove("Alarms", "AWS::SNS::Topic", None),
        Change::new(ChangeAction::Dynamic, "Feed", "Custom::Feed"),
        remove("Legacy", NESTED_STACK, Some(Fate::Deleted)),
        inside(&["Legacy"], remove("Jobs", "AWS::SQS::Queue", Some(Fate::Deleted))),
        modify("Billing", NESTED_STACK, vec![]),
        inside(&["Billing"], modify("Tax", NESTED_STACK, vec![])),
        inside(
            &["Billing", "Tax"],
            replace(
                "Rates",
                "AWS::EFS::FileSystem",
                Fate::Kept,
                vec![property("/Properties/Encrypted", Some("false"), Some("true"), Always)],
            ),
        ),
        Change { unseen: Some(Unseen::TooDeep), ..inside(&["Billing", "Tax"], modify("Deep", NESTED_STACK, vec![])) },
        inside(&["Billing"], Change::new(ChangeAction::Sync, "Invoices", "AWS::DynamoDB::Table")),
    ];
    Review::new(changes, None)
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/review")
}

#[test]
fn every_rendering_is_as_expected() {
    let review = rich();
    let json = serde_json::to_string_pretty(&review).unwrap() + "\n";
    for (name, found) in [("review.txt", review.to_text()), ("review.md", review.to_markdown()), ("review.json", json)]
    {
        let path = folder().join(name);
        #[allow(clippy::disallowed_methods, reason = "it is asked for from outside")]
        if std::env::var_os("SLIPWAY_BLESS").is_some() {
            fs::write(&path, &found).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == expected, "{name} is different:\n{found}");
    }
    let read: Review = serde_json::from_str(&fs::read_to_string(folder().join("review.json")).unwrap()).unwrap();
    assert_eq!(read, review);
}

#[test]
fn nothing_that_is_shown_can_move_a_cursor_hide_or_turn_text() {
    let review = rich();
    for text in [review.to_text(), review.to_markdown()] {
        let bad: Vec<char> =
            text.chars().filter(|c| *c != '\n' && *c != visible(&c.to_string()).chars().next().unwrap()).collect();
        assert!(bad.is_empty(), "{bad:?}");
    }
    assert_eq!(visible("a\u{200b}\u{e0041}ü数\u{9b}"), "a\\u{200b}\\u{e0041}ü数\\u{9b}");
}

#[test]
fn markdown_of_others_stays_in_its_code_span() {
    for words in
        ["`", "``a`", " ", "", "a`</details>", "[x](http://y) ![z](w) @all ~label <b>", "\n# heading", "- | a |"]
    {
        let change = Change::new(ChangeAction::Add, words, words);
        let properties = vec![property(words, Some(words), Some(words), Recreation::Never).because_of(words)];
        let text = Review::new(vec![Change { properties, ..change }], None).to_markdown();
        // What is left when code spans are taken out as CommonMark finds them is ours alone.
        assert_eq!(outside_of_code(&text).replace([' ', '\n'], ""), ours(words), "{words:?}: {text}");
    }
}

fn ours(words: &str) -> &'static str {
    if words.is_empty() {
        "**Changeset**:1change####Otherchanges(1)-**add**()-:*empty*→*empty*"
    } else {
        "**Changeset**:1change####Otherchanges(1)-**add**()-:→(becauseof)"
    }
}

/// A span begins with a run of backticks and ends with the next run of the same length.
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

#[test]
fn each_change_has_the_risk_that_it_can_cost() {
    use ChangeAction::{Add, Dynamic, Import, Modify, Remove, Sync};
    use Fate::{Deleted, Kept, Snapshot};
    use Replacement::{Conditional, No, Yes};
    for (action, kind, replacement, fate, risk) in [
        (Remove, "AWS::DynamoDB::Table", No, Some(Deleted), Risk::DataLoss),
        (Remove, "AWS::DynamoDB::Table", No, None, Risk::DataLoss),
        (Remove, "AWS::DynamoDB::Table", No, Some(Kept), Risk::Replacement),
        (Remove, "AWS::RDS::DBInstance", No, Some(Snapshot), Risk::Replacement),
        (Modify, "AWS::S3::Bucket", Yes, Some(Deleted), Risk::DataLoss),
        (Modify, "AWS::S3::Bucket", Conditional, None, Risk::DataLoss),
        (Modify, "AWS::S3::Bucket", Yes, Some(Kept), Risk::Replacement),
        (Modify, "AWS::S3::Bucket", No, None, Risk::Other),
        (Dynamic, "AWS::SQS::Queue", No, None, Risk::DataLoss),
        (Sync, "AWS::SQS::Queue", No, None, Risk::Other),
        (Remove, "AWS::Logs::LogGroup", No, Some(Deleted), Risk::DataLoss),
        (Remove, "AWS::EFS::FileSystem", No, Some(Deleted), Risk::DataLoss),
        (Remove, "AWS::RDS::DBSubnetGroup", No, Some(Deleted), Risk::Replacement),
        (Remove, "AWS::SNS::Topic", No, Some(Deleted), Risk::Replacement),
        (Remove, "AWS::IAM::Role", No, Some(Deleted), Risk::Replacement),
        (Remove, NESTED_STACK, No, None, Risk::Replacement),
        (Modify, NESTED_STACK, No, None, Risk::Other),
        (Add, "AWS::IAM::Role", No, None, Risk::Iam),
        (Import, "AWS::S3::BucketPolicy", No, None, Risk::Iam),
        (Modify, "AWS::Lambda::Permission", No, None, Risk::Iam),
        (Add, "AWS::DynamoDB::Table", No, None, Risk::Other),
    ] {
        let change = Change { replacement, fate, ..Change::new(action, "It", kind) };
        let rated = Review::new(vec![change], None).changes.remove(0).risk;
        assert_eq!(rated, risk, "{action:?} {kind} {replacement:?} {fate:?}");
    }
}

#[test]
fn a_property_that_grants_makes_any_change_one_of_rights() {
    for (path, risk) in [
        ("/Properties/Role", Risk::Iam),
        ("/Properties/KeyPolicy/Statement/0/Principal", Risk::Iam),
        ("/Properties/ManagedPolicyArns/1", Risk::Iam),
        ("/Properties/Environment/Variables/Role", Risk::Other),
        ("/Metadata/Policy", Risk::Other),
    ] {
        let change = modify("It", "AWS::X::Y", vec![property(path, None, None, Recreation::Never)]);
        assert_eq!(Review::new(vec![change], None).changes.remove(0).risk, risk, "{path}");
    }
}

#[test]
fn a_nested_stack_goes_as_what_it_holds() {
    let risk_of = |changes: Vec<Change>| {
        let review = Review::new(changes, None);
        review.changes.iter().find(|change| change.stack.is_empty()).unwrap().risk
    };
    let gone = || remove("A", NESTED_STACK, None);
    let queue = |fate| inside(&["A", "B"], remove("Q", "AWS::SQS::Queue", fate));
    let between = || inside(&["A"], remove("B", NESTED_STACK, None));
    assert_eq!(risk_of(vec![gone(), between(), queue(None)]), Risk::DataLoss);
    assert_eq!(risk_of(vec![gone(), between(), queue(Some(Fate::Kept))]), Risk::Replacement);
    // What happens in a stack that stays is its own change.
    let stays = modify("A", NESTED_STACK, vec![]);
    assert_eq!(risk_of(vec![stays.clone(), between(), queue(None)]), Risk::Other);
    assert_eq!(risk_of(vec![Change { unseen: Some(Unseen::NotMade), ..stays }]), Risk::Replacement);
    // Nothing goes in one that is only made.
    let made = Change::new(ChangeAction::Add, "A", NESTED_STACK);
    assert_eq!(risk_of(vec![Change { unseen: Some(Unseen::NotMade), ..made }]), Risk::Other);
}

#[test]
fn long_values_are_cut_around_the_place_where_they_differ() {
    let (before, after) = ("x".repeat(5000) + "old", "x".repeat(5000) + "new" + &"y".repeat(5000));
    let cut = property("/P", Some(&before), Some(&after), Recreation::Never);
    let (before, after) = (cut.before.unwrap(), cut.after.unwrap());
    assert_eq!(before.text, format!("…{}old", "x".repeat(100)));
    assert!(after.text.starts_with(&format!("…{}newyyy", "x".repeat(100))) && after.text.ends_with("y…"));
    assert_eq!(after.text.chars().count(), MAX_VALUE_CHARS + 2);
    assert!(before.cut && after.cut);
    let whole = "z".repeat(MAX_VALUE_CHARS);
    let value = property("/P", None, Some(&whole), Recreation::Never).after.unwrap();
    assert!(value.text == whole && !value.cut);
}

#[test]
fn of_what_is_too_much_the_worst_is_kept_and_the_rest_counted() {
    let long = "\u{1}".repeat(MAX_VALUE_CHARS);
    let properties: Vec<_> =
        (0..80).map(|n| property(&format!("/Properties/P{n}"), Some(&long), None, Recreation::Never)).collect();
    let mut changes: Vec<_> =
        (0..40).map(|n| modify(&format!("Function{n}"), "AWS::Lambda::Function", properties.clone())).collect();
    changes.extend((0..3961).map(|n| modify(&format!("Topic{n}"), "AWS::SNS::Topic", vec![])));
    changes.push(Change { properties: properties.clone(), ..remove("Table", "AWS::DynamoDB::Table", None) });
    let review = Review::new(changes, None);
    let bytes = serde_json::to_vec(&review).unwrap().len();
    assert!(bytes <= MAX_REVIEW_BYTES && bytes > MAX_REVIEW_BYTES - 16 * 1024, "{bytes}");
    let shown = review.changes.len();
    assert_eq!(review.changes.first().unwrap().logical_id, "Table");
    assert_eq!(review.summary(), "4002 changes, 1 with LOSS OF DATA, NOT ALL SHOWN");
    let more =
        format!("{} changes are not shown: the review has more than 512 KiB. The worst are shown.", 4002 - shown);
    assert_eq!(review.notes(), [more]);
    assert!(review.to_text().ends_with(&format!("(and {} more)\n", 4002 - shown)));
    assert!(shown > 500);
    let of_properties: Vec<_> =
        review.changes.iter().take(41).map(|c| c.properties.len() + c.more_properties).collect();
    assert_eq!(of_properties, [80; 41]);
    assert!(!review.changes.first().unwrap().properties.is_empty());

    // With room for all of it, a change still does not drown the others.
    let short: Vec<_> = (0..80)
        .map(|n| {
            property(
                &format!("/Properties/P{n}"),
                None,
                Some("v"),
                if n == 79 { Recreation::Always } else { Recreation::Never },
            )
        })
        .collect();
    let review = Review::new(vec![modify("F", "AWS::Lambda::Function", short)], None);
    let change = review.changes.first().unwrap();
    assert_eq!((change.properties.len(), change.more_properties), (50, 30));
    assert_eq!(change.properties.first().unwrap().path, "/Properties/P79");
    assert_eq!(change.notes(), ["30 more properties are not shown"]);
}
