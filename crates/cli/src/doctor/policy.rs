//! Reading a policy document, as IAM and S3 hand it out.

use serde_json::Value;

/// Its statements; one need not be in a list.
pub(super) fn statements(policy: &Value) -> Vec<&Value> {
    many(policy.get("Statement"))
}

/// A member that is one value or a list of them.
pub(super) fn many(member: Option<&Value>) -> Vec<&Value> {
    match member {
        None => Vec::new(),
        Some(Value::Array(values)) => values.iter().collect(),
        Some(one) => vec![one],
    }
}

/// The same of texts; what is no text is written as JSON writes it.
pub(super) fn texts(member: Option<&Value>) -> Vec<String> {
    many(member).into_iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect()
}

/// A condition's values: `operator` and `key` in any case, as IAM reads them.
pub(super) fn condition(statement: &Value, operator: &str, key: &str) -> Vec<String> {
    let find = |object: &Value, name: &str| -> Option<Value> {
        let members = object.as_object()?;
        members.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
    };
    let values = statement.get("Condition").and_then(|all| find(all, operator)).and_then(|keys| find(&keys, key));
    texts(values.as_ref())
}

/// Whether it is an `effect` of `action`.
pub(super) fn is(statement: &Value, effect: &str, action: &str) -> bool {
    statement.get("Effect").and_then(Value::as_str) == Some(effect)
        && texts(statement.get("Action")).iter().any(|found| found.eq_ignore_ascii_case(action))
}

/// Whether it is about `action`: named, or by a pattern that begins like it; what follows a pattern's first `*` is passed over.
pub(super) fn allows(statement: &Value, action: &str) -> bool {
    let action = action.to_ascii_lowercase();
    let mut patterns = texts(statement.get("Action")).into_iter().map(|pattern| pattern.to_ascii_lowercase());
    patterns.any(|pattern| match pattern.split_once('*') {
        Some((begin, _)) => action.starts_with(begin),
        None => pattern == action,
    })
}

/// Its principals of a kind; `"*"` stands for everyone of each kind.
pub(super) fn principals(statement: &Value, kind: &str) -> Vec<String> {
    match statement.get("Principal") {
        Some(Value::String(all)) => vec![all.clone()],
        other => texts(other.and_then(|kinds| kinds.get(kind))),
    }
}
