//! The contract of the state machines with the functions, proved over their JSON.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use slipway_domain::ErrorName;

const MACHINES: [(&str, &str); 2] = [
    ("deploy", include_str!("../../statemachine/deploy.asl.json")),
    ("teardown", include_str!("../../statemachine/teardown.asl.json")),
];

/// Lambda did not take the call: docs.aws.amazon.com/step-functions/latest/dg/bp-lambda-serviceexception.html. As long as AWS is
/// busy, whichever service of it, a step waits.
const NOT_INVOKED: [&str; 3] =
    ["Lambda.TooManyRequestsException", "Lambda.ServiceException", "Lambda.SdkClientException"];
/// Lambda refused the call, which may be for good; or the function died: its answer is unknown, it ran into its time limit, or
/// its process ended.
const DIED: [&str; 4] = ["Lambda.AWSLambdaException", "Lambda.Unknown", "Sandbox.Timedout", "Runtime.ExitError"];
/// The one failure tail.
const TAIL: &str = "Settle failure";

fn machine(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap()
}

fn states(machine: &Map<String, Value>) -> &Map<String, Value> {
    machine["States"].as_object().unwrap()
}

/// Every state that `state` may go on to.
fn targets(state: &Value) -> Vec<String> {
    let mut targets = Vec::new();
    for field in ["Next", "Default"] {
        targets.extend(state.get(field).and_then(Value::as_str).map(str::to_owned));
    }
    for list in ["Choices", "Catch"] {
        for entry in state.get(list).and_then(Value::as_array).into_iter().flatten() {
            targets.push(entry["Next"].as_str().unwrap().to_owned());
        }
    }
    targets
}

fn tasks(machine: &Map<String, Value>) -> Vec<(&String, &Value)> {
    states(machine).iter().filter(|(_, state)| state["Type"] == "Task").collect()
}

fn names(list: &Value) -> BTreeSet<&str> {
    list["ErrorEquals"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

#[test]
fn every_target_exists_and_every_state_is_reached() {
    for (name, text) in MACHINES {
        let machine = machine(text);
        assert_eq!(machine["QueryLanguage"], "JSONata", "{name}");
        let states = states(&machine);
        let mut reached = BTreeSet::new();
        let mut next = vec![machine["StartAt"].as_str().unwrap().to_owned()];
        while let Some(state) = next.pop() {
            let found = states.get(&state).unwrap_or_else(|| panic!("{name}: no state {state}"));
            if reached.insert(state) {
                next.extend(targets(found));
            }
        }
        let all: BTreeSet<String> = states.keys().cloned().collect();
        assert_eq!(all, reached, "{name}: states that nothing leads to");
        for (state, found) in states {
            let ends = matches!(found["Type"].as_str().unwrap(), "Succeed" | "Fail");
            assert!(
                ends != found.get("Next").is_some() || found["Type"] == "Choice",
                "{name}/{state} neither ends nor goes on"
            );
        }
    }
}

#[test]
fn every_task_has_a_timeout_a_retry_and_a_catch_to_the_one_tail() {
    let retried: BTreeSet<&str> =
        ErrorName::ALL.iter().filter(|name| name.is_retried()).map(|name| name.as_str()).collect();
    for (name, text) in MACHINES {
        let machine = machine(text);
        for (state, task) in tasks(&machine) {
            let at = format!("{name}/{state}");
            assert!(task["TimeoutSeconds"].as_u64().is_some_and(|seconds| seconds > 0), "{at}: no timeout");
            let retries = task["Retry"].as_array().unwrap_or_else(|| panic!("{at}: no Retry"));
            assert_eq!(retries.len(), 2, "{at}");
            let busy: BTreeSet<&str> = retried.iter().copied().chain(NOT_INVOKED).collect();
            assert_eq!(names(&retries[0]), busy, "{at}: what the domain says is retried is, and nothing else");
            assert_eq!(names(&retries[1]), BTreeSet::from(DIED), "{at}");
            for retry in retries {
                assert!(retry["MaxAttempts"].as_u64().unwrap() >= 3 && retry["JitterStrategy"] == "FULL", "{at}");
            }
            let catches = task["Catch"].as_array().unwrap_or_else(|| panic!("{at}: no Catch"));
            assert_eq!(catches.len(), 1, "{at}");
            assert_eq!(names(&catches[0]), BTreeSet::from(["States.ALL"]), "{at}");
            let tail = if state == TAIL { "Failed" } else { TAIL };
            assert_eq!(catches[0]["Next"], tail, "{at}");
        }
        let fail = &states(&machine)["Failed"];
        assert_eq!((fail["Type"].as_str(), fail["Error"].as_str()), (Some("Fail"), Some("{% $error.Error %}")));
    }
}

#[test]
fn every_error_name_is_of_the_closed_set() {
    let known: BTreeSet<&str> =
        ErrorName::ALL.iter().map(|name| name.as_str()).chain(NOT_INVOKED).chain(DIED).chain(["States.ALL"]).collect();
    for (name, text) in MACHINES {
        let machine = machine(text);
        for (state, task) in tasks(&machine) {
            for list in ["Retry", "Catch"] {
                for entry in task[list].as_array().unwrap() {
                    let unknown: Vec<_> = names(entry).difference(&known).copied().collect();
                    assert!(unknown.is_empty(), "{name}/{state}: {unknown:?}");
                }
            }
        }
    }
    // And the other way round: a name that no Retry holds reaches the tail, which hands it on as it is to the end.
    for name in ErrorName::ALL {
        assert_eq!(ErrorName::parse(name.as_str()), Some(*name));
        assert!(name.what_to_do().ends_with('.'), "{name}");
    }
}

/// A function must end, by its own time limit, before the step gives it up: else two of them could be at work.
#[test]
fn a_step_outlives_its_function() {
    let template = include_str!("../../template.yaml");
    let default = limit(template.split("Resources:").next().unwrap()).expect("Globals have a Timeout");
    for (name, text) in MACHINES {
        let machine = machine(text);
        for (state, task) in tasks(&machine) {
            let function = task["Arguments"]["FunctionName"].as_str().unwrap();
            let function = function.trim_start_matches("${").trim_end_matches('}');
            let resource =
                template.split(&format!("\n  {function}:\n")).nth(1).unwrap_or_else(|| panic!("no {function}"));
            let properties = resource.split("\n\n").next().unwrap();
            let own = limit(properties).unwrap_or(default);
            let step = task["TimeoutSeconds"].as_u64().unwrap();
            assert!(own < step, "{name}/{state}: {function} may take {own} s, the step {step} s");
        }
    }
}

fn limit(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.trim().strip_prefix("Timeout: ")).map(|seconds| seconds.parse().unwrap())
}
