//! A deployment as a JUnit report, which GitLab shows beside a merge request and in the pipeline's list of tests: its steps, and the
//! resources of its stack. <https://docs.gitlab.com/ci/testing/unit_test_reports/>

use std::collections::BTreeMap;
use std::time::Duration;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use slipway_domain::cause::StackEvent;

use crate::console::{Phase, clean};
use crate::error::CliError;
use crate::report::{Ended, Report};

/// The report. Of the steps, the last one is the one that failed, if it failed.
pub(crate) fn report(report: &Report, events: &[StackEvent], passed: &[(Phase, Duration)]) -> Result<String, CliError> {
    let on = &report.on;
    let name = format!("{} in {} ({})", on.environment, on.stage, on.application);
    let mut all = quick_junit::Report::new(&name);
    let mut steps = TestSuite::new("steps");
    for (number, (phase, took)) in passed.iter().enumerate() {
        let failed = report.result == Ended::Failed && number + 1 == passed.len();
        let message = failed.then(|| report.message.as_deref().unwrap_or("it failed"));
        let mut step = case(phase.title(), message);
        step.set_classname(format!("slipway.{name}")).set_time(*took);
        steps.add_test_case(step);
    }
    all.add_test_suite(steps);
    let mut suite = TestSuite::new("resources");
    for (id, resource) in resources(events) {
        let failed = resource.failed.then(|| resource.reason.unwrap_or("it failed"));
        let mut case = case(&format!("{id} ({})", resource.kind), failed);
        case.set_classname(format!("slipway.{name}")).set_time(resource.took);
        suite.add_test_case(case);
    }
    all.add_test_suite(suite);
    all.to_string().map_err(|error| CliError::local("writing the JUnit report", error))
}

fn case(name: &str, failure: Option<&str>) -> TestCase {
    let status = match failure {
        None => TestCaseStatus::success(),
        Some(message) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(clean(message));
            status
        }
    };
    TestCase::new(clean(name), status)
}

/// What became of a resource.
struct Resource<'e> {
    kind: &'e str,
    failed: bool,
    reason: Option<&'e str>,
    took: Duration,
}

/// Each resource once, with the first failure, if it had one: what came after that is the rollback's.
fn resources(events: &[StackEvent]) -> BTreeMap<&str, Resource<'_>> {
    let mut resources = BTreeMap::new();
    let mut first = BTreeMap::new();
    for event in events {
        let id = event.logical_id.as_str();
        let began = *first.entry(id).or_insert(event.at);
        let resource = resources.entry(id).or_insert(Resource {
            kind: &event.resource_type,
            failed: false,
            reason: None,
            took: Duration::ZERO,
        });
        resource.took = Duration::try_from(event.at.duration_since(began)).unwrap_or_default();
        if event.status.ends_with("_FAILED") && !resource.failed {
            (resource.failed, resource.reason) = (true, event.reason.as_deref());
        }
    }
    resources
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use jiff::Timestamp;
    use slipway_domain::names::{ApplicationName, EnvironmentName, StageName};
    use slipway_domain::protocol::On;

    use super::*;

    fn event(second: i64, id: &str, status: &str, reason: Option<&str>) -> StackEvent {
        StackEvent {
            id: format!("{id}-{status}"),
            at: Timestamp::from_second(second).unwrap(),
            logical_id: id.into(),
            physical_id: None,
            resource_type: "AWS::SQS::Queue".into(),
            status: status.into(),
            reason: reason.map(str::to_owned),
            token: None,
        }
    }

    #[test]
    fn the_step_and_the_resource_that_failed_say_why() {
        let on = On {
            application: ApplicationName::new("news").unwrap(),
            stage: StageName::new("dev").unwrap(),
            environment: EnvironmentName::new("review/x").unwrap(),
        };
        let failed =
            Report { message: Some("Queue: no <such> \u{1b}key".into()), ..Report::bare(Ended::Failed, &on, None) };
        let events = [
            event(10, "Queue", "CREATE_IN_PROGRESS", None),
            event(11, "Topic", "CREATE_COMPLETE", None),
            event(12, "Queue", "CREATE_FAILED", Some("no <such> key")),
            event(13, "Queue", "DELETE_COMPLETE", None),
        ];
        let passed = [(Phase::Bundle, Duration::from_millis(1500)), (Phase::Stack, Duration::from_secs(3))];
        assert_eq!(
            report(&failed, &events, &passed).unwrap(),
            r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="review/x in dev (news)" tests="4" skipped="0" failures="2" errors="0">
    <testsuite name="steps" tests="2" skipped="0" errors="0" failures="1">
        <testcase name="Bundle" classname="slipway.review/x in dev (news)" time="1.500"/>
        <testcase name="Stack" classname="slipway.review/x in dev (news)" time="3.000">
            <failure message="Queue: no &lt;such&gt; ?key"/>
        </testcase>
    </testsuite>
    <testsuite name="resources" tests="2" skipped="0" errors="0" failures="1">
        <testcase name="Queue (AWS::SQS::Queue)" classname="slipway.review/x in dev (news)" time="3.000">
            <failure message="no &lt;such&gt; key"/>
        </testcase>
        <testcase name="Topic (AWS::SQS::Queue)" classname="slipway.review/x in dev (news)" time="0.000"/>
    </testsuite>
</testsuites>
"#
        );
    }
}
