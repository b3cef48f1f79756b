//! The approval page as people use it: in a browser, over TLS, with GitLab on another site. Pictures of it are in `screenshots` in the
//! target folder afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

use serde_json::json;
use slipway_domain::names::ApplicationName;
use slipway_domain::protocol::On;
use slipway_domain::review::{Change, ChangeAction, Fate, Property, Recreation, Replacement, Review};
use slipway_local::PROD;
use slipway_local::job::NewsJob;
use slipway_tests::browser::{Browser, ENTER, Looks};
use slipway_tests::{Ended, World, in_world, job, on, tiny, unique};

const DESK: Looks = Looks { width: 1280, dark: false, javascript: true };
const PHONE: Looks = Looks { width: 360, ..DESK };
const DARK: Looks = Looks { dark: true, ..DESK };
const NO_SCRIPTS: Looks = Looks { javascript: false, ..DESK };

const SIGN_IN: &str = "a[href*='/sign-in']";
const APPROVE: &str = "button[name=decision][value=approve]";
const REJECT: &str = "button[name=decision][value=reject]";

/// A stack that is under way until [`Asked::let_it_finish`].
const SLOW: &str = "Resources:
  Articles:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
  Signal:
    Type: AWS::CloudFormation::WaitConditionHandle
  Warm:
    Type: AWS::CloudFormation::WaitCondition
    DependsOn: Articles
    Properties: {Handle: !Ref Signal, Timeout: 90}
";

/// A deployment to prod that waits for a person. dana asks, unless it says otherwise.
struct Asked {
    job: NewsJob,
    on: On,
    execution: String,
    link: String,
}

impl Asked {
    async fn new(world: &World, name: &str) -> Self {
        Self::by(world, job("create-change", "main"), name, &tiny(name)).await
    }

    async fn by(world: &World, job: NewsJob, name: &str, template: &str) -> Self {
        let environment = format!("{name}-{}", unique());
        Self::on(world, job, &environment, template).await
    }

    async fn on(world: &World, job: NewsJob, environment: &str, template: &str) -> Self {
        let on = On { application: ApplicationName::new("news").unwrap(), ..on("prod", environment) };
        let execution = world.begin(&job, &on, template).await;
        let link = world.asked(&job, &on).await;
        Self { job, on, execution, link }
    }

    async fn end(&self, world: &World) -> Ended {
        world.end(&self.execution).await
    }

    /// How often it was decided.
    async fn decisions(&self, world: &World) -> usize {
        world.question(&self.link).await["decisions"].as_array().unwrap().len()
    }

    /// Puts a review in place of the true one, which the embedded AWS writes without values.
    async fn review(&self, world: &World, review: &Review) {
        let deployment = world.question(&self.link).await["deployment"]["id"].clone();
        let key = format!("reviews/101/{}.json", deployment.as_str().unwrap());
        let body = serde_json::to_vec(review).unwrap();
        world.s3.put_object().bucket(world.bucket()).key(key).body(body.into()).send().await.unwrap();
    }

    /// Lets a stack of [`SLOW`] become live.
    async fn let_it_finish(&self, world: &World) {
        let stack = world.status(&self.job, &self.on).await.unwrap().stack_name;
        let signal =
            world.cloudformation(PROD).describe_stack_resource().stack_name(stack).logical_resource_id("Signal");
        let signal = signal.send().await.unwrap().stack_resource_detail.unwrap().physical_resource_id.unwrap();
        let warm = json!({"Status": "SUCCESS", "UniqueId": "1", "Data": "", "Reason": ""});
        let answer = reqwest::Client::new().put(signal).body(warm.to_string()).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }
}

/// Signs in on the approval's page, by way of GitLab.
async fn sign_in(browser: &Browser, login: &str) {
    let approval = browser.address().await;
    browser.click(SIGN_IN).await;
    browser.see("Sign in · GitLab").await;
    browser.click(&format!("button[name=user][value={login}]")).await;
    browser.see(&format!("Signed in as {login}")).await;
    assert_eq!(browser.address().await, approval, "nothing secret stays in the address");
}

/// A browser with the approval open, signed in.
async fn signed_in(world: &World, looks: Looks, asked: &Asked, login: &str) -> Browser {
    let browser = Browser::start(world, looks).await;
    browser.open(&asked.link).await;
    sign_in(&browser, login).await;
    browser
}

/// What a release can cost.
fn serious() -> Review {
    let table = Change {
        replacement: Replacement::Yes,
        fate: Some(Fate::Deleted),
        properties: vec![
            Property::new("/Properties/KeySchema/0/AttributeName", Some("id"), Some("slug"), Recreation::Always),
            Property::new("/Properties/BillingMode", Some("PROVISIONED"), Some("PAY_PER_REQUEST"), Recreation::Never),
        ],
        ..Change::new(ChangeAction::Modify, "Articles", "AWS::DynamoDB::Table")
    };
    let role = Change {
        properties: vec![Property::new(
            "/Properties/Policies/0/PolicyDocument/Statement/0/Action",
            Some("[\"dynamodb:GetItem\",\"dynamodb:Query\"]"),
            Some("[\"dynamodb:*\"]"),
            Recreation::Never,
        )],
        ..Change::new(ChangeAction::Modify, "ReaderRole", "AWS::IAM::Role")
    };
    let function = Change {
        properties: vec![
            Property::new(
                "/Properties/Code/S3Key",
                Some("artifacts/3f5a1d0c9e8b7a6f5e4d3c2b1a0f9e8d7c6b5a4f3e2d1c0b9a8f7e6d5c4b3a2f"),
                Some("artifacts/9b1c7e2d4f6a8b0c1d3e5f7a9b2c4d6e8f0a1b3c5d7e9f1a2b4c6d8e0f2a4b6c"),
                Recreation::Never,
            ),
            Property::new("/Properties/MemorySize", Some("128"), Some("256"), Recreation::Never),
        ],
        ..Change::new(ChangeAction::Modify, "Reader", "AWS::Lambda::Function")
    };
    let changes = vec![
        table.with_physical_id(Some("slipway-news-prod-prod-Articles-1PQ8XN2K")),
        role.with_physical_id(Some("slipway-news-prod-prod-ReaderRole-7H3")),
        function.with_physical_id(Some("slipway-news-prod-prod-Reader-2C9")),
        Change::new(ChangeAction::Add, "Feed", "AWS::SQS::Queue"),
    ];
    Review::new(changes, None)
}

#[test]
fn who_signs_in_approves_and_sees_it_become_live() {
    in_world(|world| async move {
        let asked = Asked::by(world, job("create-change", "main"), "approved", SLOW).await;
        let browser = Browser::start(world, DESK).await;
        browser.open(&asked.link).await;
        browser.see("Deploy news to prod?").await;
        assert_eq!(browser.count("form").await, 0, "nobody in particular decides");
        browser.accessible().await;

        sign_in(&browser, "release-manager").await;
        browser.accessible().await;
        browser.write("#reason", "the table is new").await;
        browser.click(APPROVE).await;
        browser.see("approved by release-manager").await;
        browser.see("the table is new").await;
        assert_eq!(browser.count("form").await, 0, "it is decided");
        browser.see_in_time("CREATE_IN_PROGRESS").await;
        browser.accessible().await;
        browser.screenshot("approved-progress").await;

        asked.let_it_finish(world).await;
        assert_eq!(asked.end(world).await.status, "SUCCEEDED");
        browser.see_in_time("live").await;
        browser.accessible().await;
        browser.screenshot("approved-live").await;
    });
}

#[test]
fn a_member_of_an_approving_group_rejects_with_a_reason() {
    in_world(|world| async move {
        let asked = Asked::new(world, "rejected").await;
        let browser = signed_in(world, DESK, &asked, "eve").await;
        browser.write("#reason", "not before the sale").await;
        browser.click(REJECT).await;
        browser.see("rejected by eve").await;
        let ended = asked.end(world).await;
        assert_eq!(ended.error, "ApprovalRejected", "{ended:?}");
        browser.see_in_time("nothing was changed").await;
        browser.see("not before the sale").await;
        browser.accessible().await;
        browser.screenshot("rejected").await;
    });
}

#[test]
fn who_is_no_approver_is_told_so() {
    in_world(|world| async move {
        let asked = Asked::new(world, "stranger").await;
        let browser = signed_in(world, DESK, &asked, "mallory").await;
        browser.see("mallory is not among the approvers").await;
        assert_eq!(browser.count("form").await, 0);
        browser.accessible().await;
        browser.screenshot("not-allowed").await;
        // In the same browser somebody else may.
        sign_in(&browser, "eve").await;
        assert_eq!(browser.count(APPROVE).await, 1);
        assert_eq!(asked.decisions(world).await, 0);
    });
}

#[test]
fn who_asked_may_only_reject() {
    in_world(|world| async move {
        let job = job("create-change", "main").played_by(8, "release-manager");
        let asked = Asked::by(world, job, "own", &tiny("own")).await;
        let browser = signed_in(world, DESK, &asked, "release-manager").await;
        browser.see("may not approve it").await;
        assert_eq!((browser.count(APPROVE).await, browser.count(REJECT).await), (0, 1));
        browser.accessible().await;
        browser.screenshot("own").await;
        browser.click(REJECT).await;
        browser.see("rejected by release-manager").await;
    });
}

#[test]
fn after_the_time_nobody_decides() {
    in_world(|world| async move {
        let asked = Asked::new(world, "expired").await;
        let browser = signed_in(world, DESK, &asked, "eve").await;
        world.expire_question(&asked.link).await;
        browser.click(APPROVE).await;
        browser.see("Not decided in time").await;
        browser.accessible().await;
        browser.screenshot("too-late").await;
        browser.open(&asked.link).await;
        browser.see("Not decided in time").await;
        assert_eq!(browser.count("form").await + browser.count(SIGN_IN).await, 0);
        assert_eq!(asked.decisions(world).await, 0);
        browser.accessible().await;
        browser.screenshot("expired").await;
    });
}

#[test]
fn who_opens_a_question_that_nobody_asks_any_more_is_told_why() {
    in_world(|world| async move {
        let asked = Asked::new(world, "superseded").await;
        let browser = signed_in(world, DESK, &asked, "eve").await;
        let newer = job("create-change", "main");
        let execution = world.begin(&newer, &asked.on, &tiny("newer")).await;
        assert_eq!(asked.end(world).await.error, "Superseded");
        browser.click(APPROVE).await;
        browser.see("Nothing to decide any more").await;
        browser.see("superseded by the deploy of pipeline").await;
        browser.open(&asked.link).await;
        browser.see("superseded by the deploy of pipeline").await;
        browser.see_in_time("Ended").await;
        assert_eq!(browser.count("form").await + browser.count(SIGN_IN).await, 0);
        browser.accessible().await;
        browser.screenshot("superseded").await;
        // One that was stopped says by what.
        let link = world.asked(&newer, &asked.on).await;
        assert_ne!(link, asked.link);
        world.machines.stop_execution().execution_arn(execution).send().await.unwrap();
        browser.open(&link).await;
        browser.see_in_time("the execution was stopped by a person").await;
        browser.screenshot("stopped").await;
    });
}

#[test]
fn who_comes_second_is_told_what_was_decided() {
    in_world(|world| async move {
        let asked = Asked::new(world, "second").await;
        let (first, second) =
            tokio::join!(signed_in(world, DESK, &asked, "release-manager"), signed_in(world, DESK, &asked, "eve"));
        first.click(APPROVE).await;
        first.see("approved by release-manager").await;
        second.click(REJECT).await;
        second.see("Already approved by release-manager").await;
        second.accessible().await;
        second.screenshot("already-decided").await;
        second.click("a[href^='/a/']").await;
        second.see("approved by release-manager").await;
        assert_eq!(second.count("form").await, 0);
        assert_eq!(asked.end(world).await.status, "SUCCEEDED");
        assert_eq!(asked.decisions(world).await, 1);
    });
}

#[test]
fn two_who_press_at_once_have_one_outcome() {
    in_world(|world| async move {
        let asked = Asked::new(world, "at-once").await;
        let (one, other) =
            tokio::join!(signed_in(world, DESK, &asked, "release-manager"), signed_in(world, DESK, &asked, "eve"));
        tokio::join!(one.click(APPROVE), other.click(REJECT));
        let ended = asked.end(world).await;
        assert_eq!(asked.decisions(world).await, 1);
        let (approved, rejected) = ("approved by release-manager", "rejected by eve");
        if ended.status == "SUCCEEDED" {
            one.see(approved).await;
            other.see("Already approved by release-manager").await;
        } else {
            assert_eq!(ended.error, "ApprovalRejected", "{ended:?}");
            one.see("Already rejected by eve").await;
            other.see(rejected).await;
        }
    });
}

#[test]
fn a_keyboard_is_enough() {
    in_world(|world| async move {
        let asked = Asked::new(world, "keyboard").await;
        let browser = Browser::start(world, DESK).await;
        browser.open(&asked.link).await;
        browser.tab_to("Sign in with GitLab").await;
        browser.screenshot("keyboard-link").await;
        browser.press(ENTER).await;
        browser.see("Sign in · GitLab").await;
        browser.tab_to("release-manager").await;
        browser.press(ENTER).await;
        browser.see("Signed in as release-manager").await;
        browser.tab_to("reason").await;
        browser.press("typed").await;
        // Who ends a sentence decides nothing.
        browser.press(ENTER).await;
        browser.press("and more").await;
        assert_eq!(asked.decisions(world).await, 0);
        browser.tab_to("approve").await;
        browser.screenshot("keyboard-button").await;
        browser.press(ENTER).await;
        browser.see("approved by release-manager").await;
        browser.see("typed").await;
    });
}

#[test]
fn no_script_is_needed() {
    in_world(|world| async move {
        let asked = Asked::new(world, "no-scripts").await;
        let browser = signed_in(world, NO_SCRIPTS, &asked, "eve").await;
        browser.click(APPROVE).await;
        browser.see("approved by eve").await;
        assert_eq!(asked.end(world).await.status, "SUCCEEDED");
        browser.see_in_time("live").await;
    });
}

#[test]
fn a_serious_change_is_seen_at_a_desk_on_a_phone_and_in_the_dark() {
    in_world(|world| async move {
        let asked = Asked::on(world, job("create-change", "main"), "prod", &tiny("serious")).await;
        asked.review(world, &serious()).await;
        for (name, looks) in [("desk", DESK), ("360", PHONE), ("dark", DARK)] {
            let browser = Browser::start(world, looks).await;
            browser.open(&asked.link).await;
            browser.see("LOSS OF DATA").await;
            browser.fits().await;
            browser.accessible().await;
            browser.screenshot(&format!("{name}-open")).await;
            sign_in(&browser, "release-manager").await;
            browser.fits().await;
            browser.accessible().await;
            browser.screenshot(&format!("{name}-signed-in")).await;
        }
    });
}

#[test]
fn a_cancelled_sign_in_decides_nothing_and_can_be_tried_again() {
    in_world(|world| async move {
        let asked = Asked::new(world, "cancelled").await;
        let browser = Browser::start(world, DESK).await;
        browser.open(&asked.link).await;
        browser.click(SIGN_IN).await;
        browser.click("button[name=deny]").await;
        browser.see("The sign-in was cancelled").await;
        browser.accessible().await;
        browser.screenshot("cancelled").await;
        browser.click("a[href^='/a/']").await;
        browser.see("Deploy news to prod?").await;
        sign_in(&browser, "eve").await;
        assert_eq!(asked.decisions(world).await, 0);
    });
}

#[test]
fn one_person_signs_in_in_two_tabs() {
    in_world(|world| async move {
        let asked = Asked::new(world, "tabs").await;
        let browser = Browser::start(world, DESK).await;
        let first = browser.tab().await;
        browser.open(&asked.link).await;
        browser.click(SIGN_IN).await;
        browser.see("Sign in · GitLab").await;
        let second = browser.new_tab().await;
        browser.open(&asked.link).await;
        browser.click(SIGN_IN).await;
        browser.see("Sign in · GitLab").await;
        for tab in [&first, &second] {
            browser.go_to(tab).await;
            browser.click("button[name=user][value=eve]").await;
            browser.see("Signed in as eve").await;
        }
        // Signed in once more since, the first tab still is as good as the other.
        browser.go_to(&first).await;
        browser.click(APPROVE).await;
        browser.see("approved by eve").await;
    });
}
