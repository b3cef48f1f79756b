//! What the deploy machine itself says: how many states a deployment goes through, and how many one wait adds.

use serde_json::{Map, Value};

use crate::Outcome;

/// The machine as it is deployed.
const DEPLOY: &str = include_str!("../../../../statemachine/deploy.asl.json");

/// What going through some states costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Steps {
    /// Each state that is entered is a transition.
    pub(crate) transitions: u32,
    /// What they leave in the execution's history.
    pub(crate) events: u32,
}

impl Steps {
    pub(crate) fn times(self, times: u32) -> Self {
        Self { transitions: self.transitions * times, events: self.events * times }
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self { transitions: self.transitions + other.transitions, events: self.events + other.events }
    }
}

/// The way of a deployment without an approval.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    /// From the start to the end, if each look sees at once what it is made for.
    pub(crate) way: Steps,
    /// One more wait for the change set, and the look after it.
    pub(crate) change_set_wait: Steps,
    /// One more wait for the stack, and the look after it.
    pub(crate) stack_wait: Steps,
}

impl Machine {
    /// Reads the machine; fails when it no longer is what the replay takes it for.
    pub(crate) fn read() -> Outcome<Self> {
        let machine: Value = serde_json::from_str(DEPLOY)?;
        let states = machine.get("States").and_then(Value::as_object).ok_or("no states")?;
        let change_set = look(states, "change_set")?;
        let stack = look(states, "stack")?;
        let way = way(states, text(&machine, "StartAt").ok_or("no start")?)?;
        for look in [change_set, stack] {
            let before = way.iter().zip(way.iter().skip(1)).find(|(_, next)| **next == look);
            let (before, _) = before.ok_or_else(|| format!("{look} is not on the way through"))?;
            if kind(states, before)? == "Wait" {
                return Err(format!("{before} is before the first look; the replay looks at once").into());
            }
        }
        Ok(Self {
            // ExecutionStarted and ExecutionSucceeded.
            way: steps(states, &way)?.and(Steps { transitions: 0, events: 2 }),
            change_set_wait: steps(states, &round(states, change_set)?)?,
            stack_wait: steps(states, &round(states, stack)?)?,
        })
    }
}

type States = Map<String, Value>;

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str)
}

fn state<'a>(states: &'a States, name: &str) -> Outcome<&'a Value> {
    states.get(name).ok_or_else(|| format!("no state {name}").into())
}

fn kind<'a>(states: &'a States, name: &str) -> Outcome<&'a str> {
    text(state(states, name)?, "Type").ok_or_else(|| format!("{name} has no type").into())
}

/// The task that looks at `what`.
fn look<'a>(states: &'a States, what: &str) -> Outcome<&'a str> {
    let looks = |state: &Value| state.pointer("/Arguments/Payload/for").and_then(Value::as_str) == Some(what);
    let found = states.iter().find(|(_, state)| looks(state));
    found.map(|(name, _)| name.as_str()).ok_or_else(|| format!("nothing looks at the {what}").into())
}

/// From `start` to the end, where each Choice goes the default way.
fn way<'a>(states: &'a States, start: &'a str) -> Outcome<Vec<&'a str>> {
    let mut way = vec![start];
    let mut at = state(states, start)?;
    while let Some(next) = text(at, "Next").or_else(|| text(at, "Default")) {
        if way.contains(&next) {
            return Err(format!("the way through comes to {next} twice").into());
        }
        way.push(next);
        at = state(states, next)?;
    }
    match way.last() {
        Some(last) if kind(states, last)? == "Succeed" => Ok(way),
        _ => Err("the way through does not end well".into()),
    }
}

/// From `look`, over the Wait that one of its Choice's rules leads to, back to it.
fn round<'a>(states: &'a States, look: &'a str) -> Outcome<Vec<&'a str>> {
    let choice = text(state(states, look)?, "Next").ok_or("a look leads nowhere")?;
    let rules = state(states, choice)?.get("Choices").and_then(Value::as_array).ok_or("a look without a Choice")?;
    for rule in rules {
        let Some(wait) = text(rule, "Next") else { continue };
        if kind(states, wait)? == "Wait" && text(state(states, wait)?, "Next") == Some(look) {
            return Ok(vec![wait, look, choice]);
        }
    }
    Err(format!("no Wait leads back to {look}").into())
}

fn steps(states: &States, names: &[&str]) -> Outcome<Steps> {
    let mut steps = Steps::default();
    for name in names {
        // docs.aws.amazon.com/step-functions/latest/apireference/API_HistoryEvent.html
        let events = match kind(states, name)? {
            // TaskStateEntered, TaskScheduled, TaskStarted, TaskSucceeded, TaskStateExited.
            "Task" => 5,
            // …StateEntered and …StateExited.
            "Choice" | "Wait" | "Pass" | "Succeed" => 2,
            other => return Err(format!("{name} is a {other}, whose events are not known here").into()),
        };
        steps = steps.and(Steps { transitions: 1, events });
    }
    Ok(steps)
}
