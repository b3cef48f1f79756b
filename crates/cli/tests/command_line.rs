//! What any command line of `slipway` comes to, before AWS or GitLab are asked.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::process::{Command, Output};

use serde_json::Value;

fn slipway(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_slipway")).args(arguments).env_clear().output().unwrap()
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The commands, as `slipway --help` lists them.
fn commands() -> Vec<String> {
    let help = String::from_utf8(slipway(&["--help"]).stdout).unwrap();
    let listed = help.split("Commands:\n").nth(1).unwrap().lines().take_while(|line| line.starts_with(' '));
    let names = listed.filter(|line| !line.starts_with("    ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn who_asks_for_a_document_gets_one_also_of_a_command_line_that_is_none() {
    let commands = commands();
    assert!(commands.len() > 15 && commands.contains(&"deploy".to_owned()), "{commands:?}");
    for command in commands.iter().map(String::as_str).chain(["nonsense"]) {
        let output = slipway(&[command, "--no-such-flag", "--json"]);
        let said = document(&output);
        assert_eq!((output.status.code(), &said["result"]), (Some(2), &Value::from("failed")), "{command}");
        assert!(!said["message"].as_str().unwrap().is_empty() && said["what_to_do"].is_string(), "{said}");
        // Without, it is as people are used to.
        let output = slipway(&[command, "--no-such-flag"]);
        assert!(output.status.code() == Some(2) && output.stdout.is_empty() && !output.stderr.is_empty(), "{command}");
    }
}

#[test]
fn completions_are_a_script_or_a_document() {
    let script = String::from_utf8(slipway(&["completions", "bash"]).stdout).unwrap();
    assert!(script.contains("_slipway()"), "{script}");
    assert_eq!(document(&slipway(&["completions", "bash", "--json"]))["script"], Value::from(script));
}

#[test]
fn help_shows_how_each_command_is_used() {
    for command in commands() {
        let output = slipway(&[&command, "--help"]);
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && help.contains("Example"), "{command}: {help}");
    }
}
