//! `gitlab/slipway.yml`, included by the example application, in gitlab-ci-local against the embedded AWS. What gitlab-ci-local does not
//! do itself is looked at in the resolved file: it links no `on_stop`, honours no `resource_group`, and interrupts nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;

use serde_json::{Value, json};
use slipway_domain::names::{ApplicationName, EnvironmentName, StageName};
use slipway_domain::protocol::On;
use slipway_local::job::NewsJob;
use slipway_local::{DEV, PROD, STAGING, inspect};
use slipway_tests::person::Person;
use slipway_tests::pipeline::{Project, Ran};
use slipway_tests::{World, in_world, unique};

fn news(stage: &str, environment: &str) -> On {
    On {
        application: ApplicationName::new("news").unwrap(),
        stage: StageName::new(stage).unwrap(),
        environment: EnvironmentName::new(environment).unwrap(),
    }
}

#[track_caller]
fn passed(ran: &Ran) {
    assert_eq!(ran.code, 0, "{}", ran.log);
}

/// What one job printed.
fn log_of<'r>(ran: &'r Ran, job: &str) -> Vec<&'r str> {
    let lines = ran.log.lines().filter(|line| line.split_whitespace().next() == Some(job));
    lines.filter_map(|line| line.split_once("> ").map(|(_, text)| text)).collect()
}

#[test]
fn a_branch_gets_an_environment_of_its_own_and_its_stop_job_takes_it_away() {
    in_world(|world| async move {
        let project = Project::news(&["tests: pytest"]);
        project.branch("Feature/X_1");
        let job = NewsJob::new("deploy-dev", "Feature/X_1", unique());
        let ran = project.run_in(world, &job, &[]);
        passed(&ran);
        assert!(log_of(&ran, "unit-tests-pytest").iter().any(|line| line.contains("10 passed")), "{}", ran.log);
        let on = news("dev", "review/feature-x-1");
        let status = world.settled(&job, &on).await;
        assert_eq!(world.stack_status(DEV, &job, &on).await.as_deref(), Some("CREATE_COMPLETE"));

        // What later jobs, and people, get of it.
        let dotenv = project.artifact("deploy-dev", ".gitlab-ci-reports/dotenv/slipway.env");
        assert!(dotenv.contains(&format!("SLIPWAY_ENVIRONMENT_URL={}\n", status.url.clone().unwrap())), "{dotenv}");
        let review = project.artifact("deploy-dev", "slipway-review.md");
        assert!(review.contains("ServicesFunctionRole"), "{review}");
        let junit = project.artifact("deploy-dev", "slipway-junit.xml");
        assert!(junit.contains("NewsTable (AWS::DynamoDB::Table)") && junit.contains("failures=\"0\""), "{junit}");
        let shown = log_of(&ran, "deploy-dev");
        let review = shown.iter().position(|line| line.contains("Change set: 13 changes")).unwrap();
        let event = shown.iter().position(|line| line.contains("CREATE_COMPLETE")).unwrap();
        assert!(review < event, "{shown:?}");

        // The next push goes to the same place.
        let table = "  NewsTable:\n    Type: AWS::DynamoDB::Table\n";
        let template = fs::read_to_string(project.path().join("template.yaml")).unwrap();
        assert!(template.contains(table));
        project
            .write("template.yaml", &template.replace(table, &format!("  More:\n    Type: AWS::SNS::Topic\n{table}")));
        project.commit();
        let again = NewsJob::new("deploy-dev", "Feature/X_1", unique());
        let ran = project.run_in(world, &again, &["build-dev", "deploy-dev"]);
        passed(&ran);
        assert_eq!(world.stack_status(DEV, &again, &on).await.as_deref(), Some("UPDATE_COMPLETE"));

        // The branch is deleted: of the repository, its stop job has nothing.
        let empty = Project::empty(&[]);
        empty.branch("Feature/X_1");
        let stop = NewsJob::new("stop-dev", "Feature/X_1", again.job.pipeline_id);
        let ran = empty.run_in(world, &stop, &["stop-dev"]);
        passed(&ran);
        let gone = log_of(&ran, "stop-dev").iter().any(|line| line.starts_with("Torn down: review/feature-x-1"));
        assert!(gone, "{}", ran.log);
        assert_eq!(world.stack_status(DEV, &stop, &on).await, None);
    });
}

/// A branch in a clone of its own, as a runner has it.
struct Branch {
    clone: Project,
    name: String,
    on: On,
}

impl Branch {
    fn new() -> Self {
        let slug = format!("feature-{}", unique());
        let clone = Project::news(&["tests: none"]);
        let name = slug.replace('-', "/");
        clone.branch(&name);
        let branch = Self { clone, name, on: news("dev", &format!("review/{slug}")) };
        branch.write("Outputs:", &format!("Outputs:\n  Branch: {{Value: {}}}", branch.name));
        branch
    }

    /// Commits another template: with `text` in the place of the line `line`.
    fn write(&self, line: &str, text: &str) {
        let template = fs::read_to_string(self.clone.path().join("template.yaml")).unwrap();
        let changed = template.replace(&format!("\n{line}\n"), &format!("\n{text}\n"));
        assert_ne!(changed, template);
        self.clone.write("template.yaml", &changed);
        self.clone.commit();
    }

    fn job(&self, name: &str) -> NewsJob {
        NewsJob::new(name, &self.name, unique())
    }

    /// Pushes it: its pipeline, to the end.
    fn push(&self, world: &World) {
        passed(&self.clone.run_in(world, &self.job("deploy-dev"), &[]));
    }

    /// A line of what its last deployment handed on.
    fn told(&self, name: &str) -> String {
        let dotenv = self.clone.artifact("deploy-dev", ".gitlab-ci-reports/dotenv/slipway.env");
        let line = dotenv.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("{name}: {dotenv}")).to_owned()
    }

    /// All that is known of its environment: the stack, and the row.
    async fn live(&self, world: &World) -> (String, Value) {
        let found = world.cloudformation(DEV).describe_stacks().stack_name(self.told("SLIPWAY_STACK")).send().await;
        let stack = format!("{:?}", found.unwrap().stacks());
        (stack, world.row(&self.on, "META").await.unwrap())
    }
}

#[test]
fn branches_that_are_pushed_at_once_each_have_an_environment_that_no_other_changes() {
    in_world(|world| async move {
        let branches: [Branch; 4] = std::array::from_fn(|_| Branch::new());
        thread::scope(|threads| branches.iter().for_each(|branch| drop(threads.spawn(|| branch.push(world)))));
        let mut before = Vec::new();
        for branch in &branches {
            let (stack, row) = branch.live(world).await;
            assert!(stack.contains("CreateComplete") && stack.contains(&format!("{:?}", branch.name)), "{stack}");
            assert_eq!(row["url"], branch.told("SLIPWAY_ENVIRONMENT_URL"), "{}", branch.name);
            assert_eq!(row["stack_name"], branch.told("SLIPWAY_STACK"), "{}", branch.name);
            before.push((stack, row));
        }
        for name in ["SLIPWAY_STACK", "SLIPWAY_ENVIRONMENT_URL"] {
            let all: BTreeSet<String> = branches.iter().map(|branch| branch.told(name)).collect();
            assert_eq!(all.len(), branches.len(), "{name}: {all:?}");
        }

        // At once, one is pushed again, one is stopped, and a new one comes.
        let [again, stopped, kept, other] = &branches;
        let new = Branch::new();
        let url = again.told("SLIPWAY_ENVIRONMENT_URL");
        again.write("  NewsTable:", "  More:\n    Type: AWS::SNS::Topic\n  NewsTable:");
        thread::scope(|threads| {
            threads.spawn(|| again.push(world));
            threads.spawn(|| new.push(world));
            threads.spawn(|| {
                let ran = stopped.clone.run_in(world, &stopped.job("stop-dev"), &["stop-dev"]);
                passed(&ran);
                assert!(ran.log.contains("Torn down: review/"), "{}", ran.log);
            });
        });
        assert!(again.live(world).await.0.contains("UpdateComplete"));
        assert_eq!(again.told("SLIPWAY_ENVIRONMENT_URL"), url);
        assert!(new.live(world).await.0.contains("CreateComplete"));
        assert_eq!(world.stack_status(DEV, &stopped.job("deploy-dev"), &stopped.on).await, None);
        for (branch, before) in [(kept, &before[2]), (other, &before[3])] {
            assert_eq!(&branch.live(world).await, before, "{}", branch.name);
        }
    });
}

/// Staging is live, and prod waits for a person.
async fn waits_in_prod(project: &Project, world: &World) -> NewsJob {
    let job = NewsJob::new("create-change-prod", "main", unique());
    let ran = project.run_in(world, &job, &[]);
    passed(&ran);
    // What the scan finds fails no pipeline.
    let scanned = log_of(&ran, "dependency-scan").contains(&"one fault is known");
    assert!(scanned && ran.log.contains("WARN  dependency-scan"), "{}", ran.log);
    assert!(log_of(&ran, "deploy-staging").iter().any(|line| line.starts_with("Live: staging")), "{}", ran.log);
    let asked = log_of(&ran, "create-change-prod");
    assert!(asked.contains(&"It was sent before: nothing to upload."), "{asked:?}");
    assert!(asked.iter().any(|line| line.contains("A person has to approve this change set:")), "{asked:?}");
    assert!(asked.iter().any(|line| line.starts_with("Awaiting approval: prod")), "{asked:?}");
    assert!(log_of(&ran, "execute-change-prod").is_empty(), "it is a manual job: {}", ran.log);
    job
}

#[test]
fn the_default_branch_is_built_once_for_staging_and_by_another_users_manual_job_for_prod() {
    in_world(|world| async move {
        let scan = "dependency_scan_script: [\"echo one fault is known\", \"false\"]";
        let project = Project::news(&["approval: job", "tests: none", scan]);
        let job = waits_in_prod(&project, world).await;
        let manual = NewsJob::new("execute-change-prod", "main", job.job.pipeline_id).played_by(8, "release-manager");
        let ran = project.run_in(world, &manual, &["execute-change-prod"]);
        passed(&ran);
        let shown = log_of(&ran, "execute-change-prod");
        assert!(shown.iter().any(|line| line.starts_with("Live: prod")), "{}", ran.log);
        let mut artifacts = Vec::new();
        for account in [STAGING, PROD] {
            let config = world.control_plane.emulator.sdk_config(account);
            artifacts.push(inspect::artifacts(&config, "slipway-news-").await.unwrap());
        }
        assert!(!artifacts[0].is_empty());
        assert_eq!(artifacts[0], artifacts[1], "the same bytes");

        // Played again, it tells how that deployment ended.
        let ran = project.run_in(world, &manual, &["execute-change-prod"]);
        passed(&ran);

        // The next pipeline changes nothing in prod: nobody is asked, and the manual job says so.
        let next = NewsJob::new("create-change-prod", "main", unique());
        let ran = project.run_in(world, &next, &["build-staging", "create-change-prod"]);
        passed(&ran);
        let unchanged = log_of(&ran, "create-change-prod").iter().any(|line| line.starts_with("No changes: prod"));
        assert!(unchanged, "{}", ran.log);
        let manual = NewsJob::new("execute-change-prod", "main", next.job.pipeline_id).played_by(8, "release-manager");
        let ran = project.run_in(world, &manual, &["execute-change-prod"]);
        passed(&ran);

        // Where people decide in the browser, the manual job follows: a rejection is its end, too.
        let browser = Project::news(&["approval: browser", "tests: none", scan]);
        let template = fs::read_to_string(browser.path().join("template.yaml")).unwrap();
        let changed = template.replace("\n  NewsTable:\n", "\n  More:\n    Type: AWS::SNS::Topic\n\n  NewsTable:\n");
        assert_ne!(changed, template);
        browser.write("template.yaml", &changed);
        browser.commit();
        let job = waits_in_prod(&browser, world).await;
        let link = world.asked(&job, &news("prod", "prod")).await;
        // Played too early, it keeps no runner waiting.
        let follows = NewsJob::new("execute-change-prod", "main", job.job.pipeline_id);
        let ran = browser.run_in(world, &follows, &["execute-change-prod"]);
        assert_ne!(ran.code, 0);
        let early = log_of(&ran, "execute-change-prod");
        assert!(
            early.contains(&format!("  {link}").as_str()) && early.last().unwrap().contains("retry this job"),
            "{early:?}"
        );
        let mut person = Person::new(world);
        let page = person.signs_in(&link, "release-manager").await;
        assert_eq!(person.presses(&link, &page, "reject", "not today").await.status, 303);
        let ran = browser.run_in(world, &follows, &["execute-change-prod"]);
        assert_eq!(ran.code, 1, "{}", ran.log);
        let shown = log_of(&ran, "execute-change-prod");
        let cause = shown.iter().any(|line| line.starts_with("Root cause: ") && line.contains("not today"));
        assert!(cause, "{}", ran.log);
        assert!(shown.last().unwrap().starts_with("What to do: "), "{}", ran.log);
    });
}

#[test]
fn where_two_have_to_approve_the_manual_job_is_green_after_the_second() {
    in_world(|world| async move {
        let approval = json!({"required": 2, "approvers": ["release-manager#8", "eve#9"], "by_job": true, "reason_required": true});
        let pair = json!({"account": PROD, "protected": true, "refs": ["main"], "approval": approval});
        world.set_stages(|stages| stages["pair"] = pair).await;
        let inputs =
            ["approval: job", "tests: none", "staging_stage: \"\"", "prod_stage: pair", "dependency_scan: false"];
        let project = Project::news(&inputs);
        let samconfig = fs::read_to_string(project.path().join("samconfig.toml")).unwrap();
        project.write("samconfig.toml", &samconfig.replace("[prod.", "[pair."));
        project.commit();
        let job = NewsJob::new("create-change-prod", "main", unique());
        passed(&project.run_in(world, &job, &[]));
        let plays = |user: u64, login: &str, reason: &str| {
            let manual = NewsJob::new("execute-change-prod", "main", job.job.pipeline_id).played_by(user, login);
            let mut variables = world.control_plane.job_environment(&world.token(&manual));
            variables.push(("SLIPWAY_REASON".to_owned(), reason.to_owned()));
            project.run_with(&["execute-change-prod"], &variables)
        };
        let silent = plays(8, "release-manager", "");
        assert!(silent.code != 0 && silent.log.contains("asks for a reason"), "{}", silent.log);
        let first = plays(8, "release-manager", "looked at it");
        let shown = log_of(&first, "execute-change-prod");
        assert!(first.code != 0 && shown.last().unwrap().contains("retry this job"), "{}", first.log);
        let second = plays(9, "eve", "so did I");
        passed(&second);
        assert!(
            log_of(&second, "execute-change-prod").iter().any(|line| line.starts_with("Live: pair")),
            "{}",
            second.log
        );
    });
}

#[test]
fn a_download_that_is_not_what_its_digest_says_runs_nothing() {
    for (digest, says) in
        [("0".repeat(64), "is not what its SHA-256 says."), (String::new(), "Give the SHA-256 of http")]
    {
        let project = Project::empty(&[]);
        let definition = fs::read_to_string(project.path().join(".gitlab-ci.yml")).unwrap();
        let (before, after) = definition.split_once("&sha256 \"").unwrap();
        let (_, after) = after.split_once('"').unwrap();
        project.write(".gitlab-ci.yml", &format!("{before}&sha256 \"{digest}\"{after}"));
        project.commit();
        project.branch("feature");
        let ran = project.run(&["build-dev"]);
        assert_ne!(ran.code, 0);
        assert!(ran.log.contains(says) && !ran.log.contains("slipway 0."), "{}", ran.log);
    }
}

/// The jobs of the resolved file, without its other keys.
fn jobs(resolved: &Value) -> impl Iterator<Item = (&String, &Value)> {
    resolved.as_object().unwrap().iter().filter(|(_, job)| job.get("script").is_some())
}

/// In which pipelines a job is, whether it waits there for somebody or not.
fn conditions(job: &Value) -> Vec<String> {
    let rules = job["rules"].as_array().unwrap().iter().map(|rule| {
        let mut rule = rule.as_object().unwrap().clone();
        if rule.get("when") == Some(&json!("manual")) {
            rule.retain(|name, _| name != "when" && name != "allow_failure");
        }
        Value::Object(rule).to_string()
    });
    let mut rules: Vec<String> = rules.collect();
    rules.sort();
    rules
}

#[test]
fn what_gitlab_makes_of_the_file_holds_together() {
    in_world(|_| async move {
        for prefix in ["", "billing-"] {
            let resolved = Project::empty(&[&format!("prefix: \"{prefix}\"")]).resolved().await;
            let job = |name: &str| resolved[format!("{prefix}{name}")].clone();
            let (deploy, stop) = (job("deploy-dev"), job("stop-dev"));
            assert_eq!(deploy["environment"]["on_stop"], json!(format!("{prefix}stop-dev")));
            assert_eq!(deploy["environment"]["name"], stop["environment"]["name"]);
            assert_eq!(deploy["environment"]["url"], json!("$SLIPWAY_ENVIRONMENT_URL"));
            assert_eq!(stop["environment"]["action"], json!("stop"));
            assert_eq!(stop["environment"].get("url"), None);
            assert_eq!(deploy["resource_group"], stop["resource_group"]);
            assert_eq!(conditions(&deploy), conditions(&stop));
            assert_eq!((&stop["needs"], &stop["variables"]["GIT_STRATEGY"]), (&json!([]), &json!("none")));
            let mut changing = 0;
            for (name, job) in jobs(&resolved) {
                assert!(job.get("only").is_none() && job.get("except").is_none(), "{name}");
                assert!(job["rules"].is_array(), "{name}");
                let faults = json!(["runner_system_failure", "scheduler_failure", "api_failure"]);
                assert_eq!(job["retry"]["when"], faults, "{name}");
                if job.get("id_tokens").is_none() {
                    assert!(job.get("environment").is_none() && job["interruptible"] == json!(true), "{name}");
                    continue;
                }
                changing += 1;
                assert_eq!(job["interruptible"], json!(false), "{name}");
                assert_eq!(job["id_tokens"], json!({"SLIPWAY_ID_TOKEN": {"aud": "slipway"}}), "{name}");
                assert_eq!(job["resource_group"], job["environment"]["name"], "{name}: one at a time");
            }
            assert_eq!(changing, 5);
        }
        // GitLab looks at names before it looks at rules (`lib/gitlab/ci/config/entry/environment.rb`), gitlab-ci-local does not.
        let resolved = Project::empty(&["staging_stage: \"\"", "prod_stage: \"\""]).resolved().await;
        for (name, job) in jobs(&resolved).filter(|(_, job)| job.get("environment").is_some()) {
            for named in [&job["environment"]["name"], &job["resource_group"]] {
                assert!(named.as_str().is_some_and(|text| !text.is_empty() && !text.ends_with('/')), "{name}");
            }
        }
    });
}

/// What a project keeps hidden under a name of its own is merged into what it includes under the same name.
#[test]
fn what_is_hidden_has_names_that_no_project_has() {
    let file = fs::read_to_string(slipway_local::workspace_root().join("gitlab/slipway.yml")).unwrap();
    let hidden: Vec<_> = file.lines().filter(|line| line.starts_with("\".")).collect();
    assert_eq!(hidden.len(), 7);
    for name in hidden {
        assert!(name.starts_with("\".$[[ inputs.prefix ]]slipway-"), "{name}");
    }
}

/// An example, as a project that has it.
fn example(path: &Path) -> Project {
    let text = fs::read_to_string(path).unwrap();
    // Where it comes from is another project, of which gitlab-ci-local has nothing.
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines() {
        match line.trim_start_matches([' ', '-']) {
            rest if rest.starts_with("project: ") => lines.push("  - local: gitlab/slipway.yml"),
            rest if rest.starts_with("ref: ") || rest.starts_with("file: ") => {}
            _ => lines.push(line),
        }
    }
    Project::with(&lines.join("\n"))
}

#[test]
fn each_example_is_a_pipeline() {
    let examples = slipway_local::workspace_root().join("gitlab/examples");
    let mut seen = 0;
    for found in fs::read_dir(examples).unwrap() {
        let path = found.unwrap().path();
        let project = example(&path);
        let jobs = project.jobs();
        let name = path.file_name().unwrap().to_str().unwrap();
        let expected: &[&str] = match name {
            "one-app.yml" | "self-managed.yml" | "merge-requests.yml" | "instance-role.yml" => &["execute-change-prod"],
            // On the default branch as it is, nothing changed.
            "monorepo.yml" => &[],
            other => panic!("{other} is a new one"),
        };
        assert_eq!(
            jobs.iter().map(String::as_str).filter(|job| job.contains("execute")).collect::<Vec<_>>(),
            expected,
            "{name}: {jobs:?}"
        );
        seen += 1;
    }
    assert_eq!(seen, 5);
}

#[test]
fn of_several_applications_the_one_that_changed_has_jobs() {
    let project = example(&slipway_local::workspace_root().join("gitlab/examples/monorepo.yml"));
    project.branch("feature");
    let with = |path: &str, prefixes: &[&str]| {
        fs::create_dir_all(project.path().join(path).parent().unwrap()).unwrap();
        project.write(path, "changed\n");
        project.commit();
        let jobs = project.jobs();
        for prefix in ["shop-", "billing-"] {
            let deploys = jobs.contains(&format!("{prefix}deploy-dev")) && jobs.contains(&format!("{prefix}stop-dev"));
            assert_eq!(deploys, prefixes.contains(&prefix), "{path}: {jobs:?}");
        }
    };
    with("docs/x.md", &[]);
    with("services/billing/src/x.py", &["billing-"]);
    with("shared/x.py", &["billing-", "shop-"]);
}

#[test]
fn a_merge_request_has_the_environment_where_that_is_wanted() {
    let merge_request = [
        ("CI_PIPELINE_SOURCE", "merge_request_event"),
        ("CI_COMMIT_BRANCH", ""),
        ("CI_MERGE_REQUEST_IID", "7"),
        ("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "feature"),
    ];
    let project = example(&slipway_local::workspace_root().join("gitlab/examples/merge-requests.yml"));
    project.branch("feature");
    let all = ["unit-tests-cargo", "build-dev", "deploy-dev", "stop-dev"];
    assert_eq!(project.jobs_with(&merge_request), all);
    assert!(project.jobs().is_empty());
    // Where branches have them, a merge request has none besides.
    let project = Project::empty(&["tests: cargo"]);
    project.branch("feature");
    assert_eq!((project.jobs().as_slice(), project.jobs_with(&merge_request).len()), (&all.map(str::to_owned)[..], 0));
}

#[test]
fn who_wants_less_has_fewer_jobs() {
    let branch_and_main = |inputs: &[&str]| {
        let project = Project::empty(inputs);
        let main = project.jobs();
        project.branch("feature");
        (project.jobs(), main)
    };
    let names = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let prod = "create-change-prod execute-change-prod";
    let all = names(&format!("dependency-scan build-staging deploy-staging {prod}"));
    assert_eq!(branch_and_main(&[]), (names("build-dev deploy-dev stop-dev"), all));
    let (branch, main) = branch_and_main(&["tests: npm", "dependency_scan: false", "prod_stage: \"\""]);
    assert_eq!(branch, names("unit-tests-npm build-dev deploy-dev stop-dev"));
    assert_eq!(main, names("unit-tests-npm build-staging deploy-staging"));
    let inputs = ["tests: cargo", "dev_stage: \"\"", "staging_stage: \"\"", "dependency_scan: false"];
    let (branch, main) = branch_and_main(&inputs);
    assert_eq!(branch, names("unit-tests-cargo"));
    assert_eq!(main, names(&format!("unit-tests-cargo build-staging {prod}")));
    // Where merge requests have pipelines, branches have none.
    let (branch, main) = branch_and_main(&["tests: npm", "merge_requests: true"]);
    assert_eq!(branch, names(""));
    assert_eq!(main.len(), 6);
}
