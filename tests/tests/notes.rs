//! GitLab shows that a job's deployment waits for people, and how it ended, where there is a token for it; and whatever GitLab answers,
//! the deployment ends as it did.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test may, and its time is now"
)]

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use slipway_domain::protocol::On;
use slipway_local::DEV;
use slipway_local::control_plane::WRITE_TOKEN_SECRET;
use slipway_local::gitlab::{Answers, Note, Status, TIP};
use slipway_local::job::NewsJob;
use slipway_tests::person::Person;
use slipway_tests::{Ended, World, failing, in_world, job, on, tiny, unique};

/// How GitLab's API may answer, and what the function's log says of it.
const MISBEHAVES: [(Answers, &str); 8] = [
    (Answers::Slowly, "there was no answer in 10s"),
    (Answers::RateLimited, "429 Too Many Requests"),
    (Answers::Unauthorized, "make a new one, with the scope api"),
    (Answers::Forbidden, "403 Forbidden"),
    (Answers::NoProject, "404 Not Found"),
    (Answers::Html, "404 Not Found"),
    (Answers::Redirect, "302 Found, and redirects are not followed"),
    (Answers::Down, "502 Bad Gateway"),
];

/// How long GitLab may be told nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// The tests share one GitLab, and each lets it say something.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A branch with an open merge request, an environment of it, and a job that deploys there.
struct Work {
    request: u64,
    branch: String,
    on: On,
}

impl Work {
    fn new(world: &World) -> Self {
        Self::in_stage(world, "dev")
    }

    fn in_stage(world: &World, stage: &str) -> Self {
        let request = unique();
        let branch = format!("feature/{request}");
        world.control_plane.gitlab.open_merge_request(101, &branch, request);
        let on = on(stage, &format!("review/{request}"));
        Self { request, branch, on }
    }

    /// In a stage where people decide.
    async fn gated(world: &World) -> Self {
        world
            .set_stages(|stages| {
                let approval = json!({"required": 1, "approvers": ["release-manager#8"], "expires_in": "3d"});
                stages["gate"] = json!({"account": DEV, "ephemeral": true, "approval": approval});
            })
            .await;
        Self::in_stage(world, "gate")
    }

    /// Begins a deployment that asks people: its execution and its link.
    async fn ask(&self, world: &World) -> (String, String) {
        let job = self.job();
        let arn = world.begin(&job, &self.on, &tiny("asks")).await;
        (arn, world.asked(&job, &self.on).await)
    }

    /// Somebody decides: how the deployment ends.
    async fn decided(&self, world: &World, (arn, link): &(String, String), verdict: &str) -> Ended {
        let mut person = Person::new(world);
        let page = person.signs_in(link, "release-manager").await;
        assert_eq!(person.presses(link, &page, verdict, "").await.status, 303);
        let ended = world.end(arn).await;
        assert!(world.lease_is_free(&self.on).await, "settle is not done");
        ended
    }

    /// Tells `settle` that people are asked, as EventBridge may do more than once.
    async fn tell_again(&self, world: &World, arn: &str) {
        let id = world.recorded(&self.on, arn).await["deployment"]["id"].clone();
        let On { application, stage, environment } = &self.on;
        let environment =
            json!({"project": 101, "application": application, "stage": stage, "environment": environment});
        let again = json!({"asked": {"environment": environment, "id": id}});
        world.invoke(&world.physical_id("SettleFunction").await, &again).await.unwrap();
    }

    /// Waits until the statuses are `wanted`.
    async fn until(&self, world: &World, wanted: impl Fn(&[String]) -> bool) {
        let began = Instant::now();
        while !wanted(&self.states(world)) {
            assert!(began.elapsed() < PATIENCE, "{:?}", self.states(world));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn job(&self) -> NewsJob {
        job("deploy-dev", &self.branch)
    }

    async fn deploy(&self, world: &World, template: &str) -> Ended {
        self.run(world, &self.job(), template).await
    }

    async fn run(&self, world: &World, job: &NewsJob, template: &str) -> Ended {
        let ended = world.deploy(job, &self.on, template).await;
        assert!(world.lease_is_free(&self.on).await, "settle is not done");
        ended
    }

    fn notes(&self, world: &World) -> Vec<Note> {
        world.control_plane.gitlab.notes(101, self.request)
    }

    fn statuses(&self, world: &World) -> Vec<Status> {
        let On { application, stage, environment } = &self.on;
        let name = format!("slipway/{application}/{stage}/{environment}");
        let all = world.control_plane.gitlab.statuses(101);
        all.into_iter().filter(|status| status.sent["name"] == name.as_str()).collect()
    }

    fn states(&self, world: &World) -> Vec<String> {
        self.statuses(world).iter().map(|status| status.sent["state"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn one_note_and_a_status_say_how_the_last_deployment_ended() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let gitlab = &world.control_plane.gitlab;
        let work = Work::new(world);
        let first = work.job();
        let ended = work.run(world, &first, &tiny("first")).await;
        assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
        let [note] = &work.notes(world)[..] else { panic!("{:?}", work.notes(world)) };
        for part in [
            "**Deployed**: `tiny` in `dev`",
            "**Changes**: `1 change`",
            "- **URL**: <https://example.com/",
            &format!("`{TIP}`"),
            &format!("[{0}](<{1}/group/news/-/pipelines/{0}>)", first.job.pipeline_id, gitlab.url()),
            "asked for by `dana`",
        ] {
            assert!(note.body.contains(part), "{part}: {}", note.body);
        }
        let [status] = &work.statuses(world)[..] else { panic!("{:?}", work.statuses(world)) };
        assert_eq!(status.sha, TIP);
        assert_eq!(status.sent["state"], "success");
        assert_eq!(status.sent["pipeline_id"], first.job.pipeline_id);
        assert_eq!(status.sent["target_url"], format!("{}/group/news/-/jobs/{}", gitlab.url(), first.job.job_id));

        // Others talk, more than one page of it, and somebody copies the note.
        for _ in 0..120 {
            gitlab.write_note(101, work.request, 7, "I have an opinion.");
        }
        gitlab.write_note(101, work.request, 7, &note.body);

        // The second one fails: the same note says why.
        let ended = work.deploy(world, &failing(&format!("/notes/{}", unique()))).await;
        assert_eq!(ended.status, "FAILED", "{ended:?}");
        let ours = |note: &&Note| note.body.starts_with("<!-- slipway:") && note.author != 7;
        let notes = work.notes(world);
        let notes: Vec<&Note> = notes.iter().filter(ours).collect();
        let [changed] = &notes[..] else { panic!("{notes:?}") };
        let cause = world.status(&first, &work.on).await.unwrap().deployment.unwrap().outcome.unwrap().message.unwrap();
        assert_eq!((changed.id, changed.changes), (note.id, 1));
        for part in ["**Deployment failed** (StackFailed)", cause.lines().next().unwrap(), "**What to do**: Correct"] {
            assert!(changed.body.contains(part), "{part}: {}", changed.body);
        }
        assert_eq!(work.states(world), ["success", "failed"]);
        let last = &work.statuses(world)[1].sent["description"];
        assert!(last.as_str().unwrap().starts_with("StackFailed: "), "{last}");
    });
}

#[test]
fn while_people_are_asked_gitlab_says_so_until_the_end() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let work = Work::gated(world).await;
        for (verdict, last, said) in
            [("reject", "failed", "**Deployment failed** (ApprovalRejected)"), ("approve", "success", "**Deployed**")]
        {
            let before = work.states(world).len();
            let asked = work.ask(world).await;
            work.until(world, |states| states.len() > before && work.notes(world).len() == 1).await;
            let began = Instant::now();
            while !work.notes(world)[0].body.contains("**Awaits approval**: `tiny` in `gate`") {
                assert!(began.elapsed() < PATIENCE, "{:?}", work.notes(world));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let (status, note) = (&work.statuses(world)[before], &work.notes(world)[0]);
            assert_eq!(status.sent["state"], "pending");
            let description = status.sent["description"].as_str().unwrap();
            assert!(description.starts_with("Awaits approval in gate until 20"), "{description}");
            // The link shows the review to whoever has it: neither has it, nor the page's host.
            let (host, secret) = asked.1.split_once("/a/").unwrap();
            for text in [&status.sent.to_string(), &note.body] {
                assert!(!text.contains(secret) && !text.contains(host), "{text}");
            }

            // GitLab takes no second one that waits, and the note stays.
            work.tell_again(world, &asked.0).await;
            assert_eq!(work.states(world).len(), before + 1);
            assert_eq!(&work.notes(world)[0], note);

            // The end takes the place of both.
            work.decided(world, &asked, verdict).await;
            work.until(world, |states| states.len() == before + 2).await;
            assert_eq!(work.states(world)[before..], ["pending", last]);
            let [note] = &work.notes(world)[..] else { panic!("{:?}", work.notes(world)) };
            assert!(note.body.contains(said) && !note.body.contains("Awaits"), "{}", note.body);
        }
    });
}

#[test]
fn that_people_are_asked_is_never_the_last_word() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let gitlab = &world.control_plane.gitlab;
        let work = Work::gated(world).await;
        // GitLab takes seconds for it, and meanwhile the deployment ends, which it takes at once.
        let calls = gitlab.calls();
        gitlab.answer(Answers::Slowly);
        let asked = work.ask(world).await;
        let began = Instant::now();
        while gitlab.calls() < calls + 2 {
            assert!(began.elapsed() < PATIENCE, "GitLab is not told");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        gitlab.answer(Answers::Truly);
        assert_eq!(work.decided(world, &asked, "approve").await.status, "SUCCEEDED");
        let said = |states: &[String]| states.iter().any(|state| state == "pending");
        work.until(world, |states| said(states) && states.last().is_some_and(|state| state == "success")).await;
        let [note] = &work.notes(world)[..] else { panic!("{:?}", work.notes(world)) };
        assert!(note.body.contains("**Deployed**"), "{}", note.body);

        // Told once more after the end, it says nothing.
        let calls = gitlab.calls();
        work.tell_again(world, &asked.0).await;
        assert_eq!(gitlab.calls(), calls);
    });
}

#[test]
fn whatever_gitlab_answers_people_are_asked_and_decide() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let gitlab = &world.control_plane.gitlab;
        for (answers, logged) in MISBEHAVES {
            let work = Work::gated(world).await;
            let (since, calls) = (Timestamp::now(), gitlab.calls());
            gitlab.answer(answers);
            let asked = work.ask(world).await;
            let began = Instant::now();
            loop {
                let log = world.log("settle", since).await;
                assert!(!log.contains(gitlab.write_token()), "{answers:?}: {log}");
                if log.contains(logged) {
                    break;
                }
                assert!(began.elapsed() < PATIENCE, "{answers:?}: {log}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            if answers != Answers::Slowly {
                assert_eq!(gitlab.calls() - calls, 2, "{answers:?}: it was tried again");
            }
            gitlab.answer(Answers::Truly);
            let ended = work.decided(world, &asked, "approve").await;
            assert_eq!(ended.status, "SUCCEEDED", "{answers:?}: {ended:?}");
        }
    });
}

#[test]
fn the_end_that_is_told_twice_is_shown_once() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let work = Work::new(world);
        let asked = work.job();
        let arn = world.begin(&asked, &work.on, &tiny("once")).await;
        assert_eq!(world.end(&arn).await.status, "SUCCEEDED");
        let calls = world.control_plane.gitlab.calls();
        assert_eq!((work.notes(world).len(), work.states(world).len()), (1, 1));
        let id = world.recorded(&work.on, &arn).await["deployment"]["id"].clone();
        let environment = json!({"project": 101, "application": work.on.application, "stage": "dev", "environment": work.on.environment});
        let again = json!({"deployment": {"environment": environment, "id": id}, "end": {"done": "succeeded"}});
        world.invoke(&world.physical_id("SettleFunction").await, &again).await.unwrap();
        assert_eq!(world.control_plane.gitlab.calls(), calls);
    });
}

#[test]
fn whatever_gitlab_answers_the_deployment_ends_as_it_did() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let gitlab = &world.control_plane.gitlab;
        for (answers, logged) in MISBEHAVES {
            let work = Work::new(world);
            let began = Timestamp::now();
            let before = gitlab.calls();
            gitlab.answer(answers);
            let ended = work.deploy(world, &tiny("any")).await;
            gitlab.answer(Answers::Truly);
            assert_eq!(ended.status, "SUCCEEDED", "{answers:?}: {ended:?}");
            assert_eq!(work.notes(world), [], "{answers:?}");
            let log = world.log("settle", began).await;
            assert!(log.contains(logged) && !log.contains(gitlab.write_token()), "{answers:?}: {log}");
            if answers != Answers::Slowly {
                // A status and a merge request: each was asked for once, and nothing else.
                assert_eq!(gitlab.calls() - before, 2, "{answers:?}");
            }
        }
    });
}

#[test]
fn a_secret_that_cannot_be_read_fails_nothing() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let work = Work::new(world);
        let began = Timestamp::now();
        let calls = world.control_plane.gitlab.calls();
        world.set_variable("SettleFunction", "SLIPWAY_GITLAB_WRITE_TOKEN", "platform/another").await;
        let ended = work.deploy(world, &tiny("any")).await;
        world.set_variable("SettleFunction", "SLIPWAY_GITLAB_WRITE_TOKEN", WRITE_TOKEN_SECRET).await;
        assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
        assert_eq!(world.control_plane.gitlab.calls(), calls);
        let log = world.log("settle", began).await;
        assert!(log.contains("there is no token to tell GitLab with"), "{log}");
    });
}

#[test]
fn without_the_parameter_gitlab_is_not_called() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let work = Work::new(world);
        let calls = world.control_plane.gitlab.calls();
        world.set_variable("SettleFunction", "SLIPWAY_GITLAB_WRITE_TOKEN", "").await;
        let ended = work.deploy(world, &tiny("any")).await;
        world.set_variable("SettleFunction", "SLIPWAY_GITLAB_WRITE_TOKEN", WRITE_TOKEN_SECRET).await;
        assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
        assert_eq!(world.control_plane.gitlab.calls(), calls);
    });
}
