//! Where two results differ.

use serde_json::{Map, Value};

use crate::tool::{Outcome, Tool};

/// What stands for the way a run ends, among the places in a template.
pub(crate) const OUTCOME: &str = "(outcome)";
/// What stands for the keys of a second run.
pub(crate) const AGAIN: &str = "(second run)";

/// One difference between slipway and a peer.
#[derive(Debug, Clone)]
pub(crate) struct Difference {
    pub(crate) case: String,
    pub(crate) peer: Tool,
    /// Where: keys joined by `/`, through artifacts and nested documents.
    pub(crate) place: String,
    pub(crate) ours: String,
    pub(crate) theirs: String,
}

/// What one tool made of one case.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) outcome: Outcome,
    /// The template, with what its locations hold.
    pub(crate) value: Value,
    /// Whether a second run named the same keys, if there was one.
    pub(crate) same_keys: Option<bool>,
    /// Objects that no template names, or that were sent more than once.
    pub(crate) needless: Vec<String>,
}

impl Seen {
    /// A run of which only the end is of interest.
    pub(crate) fn ended(outcome: Outcome) -> Self {
        Self { outcome, value: Value::Null, same_keys: None, needless: Vec::new() }
    }
}

/// Adds the differences between slipway and one peer in one case.
pub(crate) fn results(case: &str, peer: Tool, ours: &Seen, theirs: &Seen, differences: &mut Vec<Difference>) {
    let mut add = |place: &str, ours: String, theirs: String| {
        let (case, place) = (case.to_owned(), place.to_owned());
        differences.push(Difference { case, peer, place, ours, theirs });
    };
    match (&ours.outcome, &theirs.outcome) {
        (Outcome::Packaged(_), Outcome::Packaged(_)) => {
            values("", Some(&ours.value), Some(&theirs.value), &mut add);
        }
        // Whatever the words.
        (Outcome::Failed(_), Outcome::Failed(_)) | (Outcome::Hung, Outcome::Hung) => {}
        (ours, theirs) => add(OUTCOME, ended(ours), ended(theirs)),
    }
    if let (Some(ours), Some(theirs)) = (ours.same_keys, theirs.same_keys)
        && ours != theirs
    {
        add(AGAIN, keys(ours), keys(theirs));
    }
}

/// What a second run has.
pub(crate) fn keys(same: bool) -> String {
    if same { "the same keys" } else { "other keys" }.to_owned()
}

/// Adds every place where two values are not the same. What is a mapping on one side only is taken apart, too.
fn values(place: &str, ours: Option<&Value>, theirs: Option<&Value>, found: &mut impl FnMut(&str, String, String)) {
    if ours == theirs {
        return;
    }
    let below = |key: &str| if place.is_empty() { key.to_owned() } else { format!("{place}/{key}") };
    match (ours, theirs) {
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for index in 0..a.len().max(b.len()) {
                values(&below(&index.to_string()), a.get(index), b.get(index), found);
            }
        }
        (Some(Value::Object(_)) | None, Some(Value::Object(_)) | None) => {
            let nothing = Map::new();
            let a = ours.and_then(Value::as_object).unwrap_or(&nothing);
            let b = theirs.and_then(Value::as_object).unwrap_or(&nothing);
            if a.is_empty() && b.is_empty() {
                found(place, shown(ours), shown(theirs));
            }
            let only_theirs = b.keys().filter(|key| !a.contains_key(*key));
            for key in a.keys().chain(only_theirs) {
                values(&below(key), a.get(key), b.get(key), found);
            }
        }
        _ => found(place, shown(ours), shown(theirs)),
    }
}

/// How much of a value, or of what was said, is shown.
const SHOWN: usize = 300;

fn shown(value: Option<&Value>) -> String {
    short(&value.map_or_else(|| "(nothing)".to_owned(), Value::to_string))
}

/// How a run ended.
fn ended(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Packaged(_) => "packages it".to_owned(),
        Outcome::Failed(said) => {
            let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            short(&format!("fails: {}", lines.join(" | ")))
        }
        Outcome::Hung => "waits for ever".to_owned(),
    }
}

fn short(text: &str) -> String {
    if text.chars().count() <= SHOWN { text.to_owned() } else { text.chars().take(SHOWN).chain(['…']).collect() }
}
