//! `samconfig.toml`, as the SAM CLI writes and reads it: the parts that say how a stack is made.
//! <https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/serverless-sam-cli-config.html>

use std::collections::BTreeMap;

use toml::{Table, Value};

/// What one config environment says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SamConfig {
    /// Parameters of the template.
    pub(crate) parameters: BTreeMap<String, String>,
    /// Tags of the stack.
    pub(crate) tags: BTreeMap<String, String>,
    /// Capabilities.
    pub(crate) capabilities: Vec<String>,
}

/// Reads `[<environment>.deploy.parameters]`, over `[<environment>.global.parameters]`. `None` when the file has no such
/// environment.
pub(crate) fn read(text: &str, environment: &str) -> Result<Option<SamConfig>, String> {
    let file: Table = toml::from_str(text).map_err(|error| error.to_string())?;
    let Some(section) = file.get(environment).and_then(Value::as_table) else { return Ok(None) };
    let table = |command: &str| section.get(command)?.get("parameters")?.as_table();
    let get = |key: &str| [table("deploy"), table("global")].into_iter().flatten().find_map(|table| table.get(key));
    let at = |key: &str| format!("[{environment}.deploy.parameters] {key}");
    let map = |key: &str| match get(key) {
        None => Ok(BTreeMap::new()),
        Some(value) => map(value).map_err(|why| format!("{}: {why}", at(key))),
    };
    let capabilities = match get("capabilities") {
        None => Vec::new(),
        Some(value) => list(value).map_err(|why| format!("{}: {why}", at("capabilities")))?,
    };
    Ok(Some(SamConfig { parameters: map("parameter_overrides")?, tags: map("tags")?, capabilities }))
}

/// Pairs: one string with all, an array with one each, or a table.
fn map(value: &Value) -> Result<BTreeMap<String, String>, String> {
    if let Some(text) = value.as_str() {
        return words(text)?.iter().map(|word| pair(word)).collect();
    }
    if let Some(array) = value.as_array() {
        return array
            .iter()
            .map(|item| pair(item.as_str().ok_or("each item of the array must be a string, NAME=VALUE")?))
            .map(|found| found.map(|(key, value)| (key, unquoted(&value))))
            .collect();
    }
    if let Some(table) = value.as_table() {
        return table
            .iter()
            .map(|(key, value)| Ok((key.clone(), scalar(value).ok_or(format!("{key} must be a single value"))?)))
            .collect();
    }
    Err("it must be a string, an array or a table".into())
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(yes) => Some(yes.to_string()),
        Value::Datetime(time) => Some(time.to_string()),
        Value::Array(_) | Value::Table(_) => None,
    }
}

/// Words: one string with all, or an array.
fn list(value: &Value) -> Result<Vec<String>, String> {
    if let Some(text) = value.as_str() {
        return Ok(split_list(text));
    }
    value
        .as_array()
        .and_then(|array| array.iter().map(|item| item.as_str().map(str::to_owned)).collect())
        .ok_or_else(|| "it must be a string or an array of strings".into())
}

/// The words of a list that is separated by blanks or commas.
pub(crate) fn split_list(text: &str) -> Vec<String> {
    text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// `NAME=VALUE`, or SAM's older `ParameterKey=NAME,ParameterValue=VALUE`.
pub(crate) fn pair(word: &str) -> Result<(String, String), String> {
    let older = word.strip_prefix("ParameterKey=").and_then(|rest| rest.split_once(",ParameterValue="));
    match older.or_else(|| word.split_once('=')) {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err(format!("\"{word}\" is not NAME=VALUE")),
    }
}

/// All pairs of one text.
pub(crate) fn pairs(text: &str) -> Result<BTreeMap<String, String>, String> {
    words(text)?.iter().map(|word| pair(word)).collect()
}

/// A value without the quotes around it.
fn unquoted(value: &str) -> String {
    let inner = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    inner.unwrap_or(value).to_owned()
}

/// Splits at blanks, except between quotes. A backslash takes the special meaning from a quote, a blank or a backslash.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let escapes = |next: &char| match quote {
            Some(quote) => *next == quote || *next == '\\',
            None => matches!(next, '"' | '\'' | '\\') || next.is_whitespace(),
        };
        if c == '\\' && quote != Some('\'') && chars.peek().is_some_and(escapes) {
            word.get_or_insert_default().extend(chars.next());
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_some() {
            word.get_or_insert_default().push(c);
        } else if matches!(c, '"' | '\'') {
            quote = Some(c);
            word.get_or_insert_default();
        } else if c.is_whitespace() {
            words.extend(word.take());
        } else {
            word.get_or_insert_default().push(c);
        }
    }
    if let Some(quote) = quote {
        return Err(format!("a quote ({quote}) is opened and not closed"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn parameters(value: &str) -> Result<Vec<(String, String)>, String> {
        let text =
            format!("version = 0.1\n[dev.deploy.parameters]\nstack_name = \"x\"\nparameter_overrides = {value}\n");
        Ok(read(&text, "dev")?.unwrap().parameters.into_iter().collect())
    }

    fn expect(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_form_of_parameters_is_read() {
        for (toml, pairs) in [
            (r#""A=1 B=\"x y\"""#, &[("A", "1"), ("B", "x y")] as &[_]),
            (r#""A=\"1\" B=\"\" C=a=b""#, &[("A", "1"), ("B", ""), ("C", "a=b")]),
            (r#"'A="say \"hi\"" B=c:\dir'"#, &[("A", "say \"hi\""), ("B", "c:\\dir")]),
            (r#"["A=1", "B=x y", 'C="q r"']"#, &[("A", "1"), ("B", "x y"), ("C", "q r")]),
            (
                r#""ParameterKey=A,ParameterValue=1 ParameterKey=B,ParameterValue=\"x, y\"""#,
                &[("A", "1"), ("B", "x, y")],
            ),
            ("{ A = 1, B = true, C = \"x\" }", &[("A", "1"), ("B", "true"), ("C", "x")]),
            ("\"\"\"\nA=1\nB=2\n\"\"\"", &[("A", "1"), ("B", "2")]),
            ("\"\"", &[]),
        ] {
            assert_eq!(parameters(toml), Ok(expect(pairs)), "{toml}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        for (toml, says) in [
            ("\"A\"", "\"A\" is not NAME=VALUE"),
            (r#"'A="1'"#, "not closed"),
            ("[1]", "must be a string"),
            ("3", "must be a string, an array or a table"),
            ("{ A = [] }", "A must be a single value"),
        ] {
            let error = parameters(toml).unwrap_err();
            assert!(error.contains(says) && error.contains("parameter_overrides"), "{toml}: {error}");
        }
        assert!(read("[", "dev").is_err());
    }

    #[test]
    fn tags_capabilities_and_global_parameters() {
        let text = r#"
            [dev.global.parameters]
            tags = "team=\"the team\" cost=1"
            capabilities = "CAPABILITY_IAM"
            [dev.deploy.parameters]
            capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
            [prod.deploy.parameters]
            capabilities = "CAPABILITY_IAM CAPABILITY_NAMED_IAM"
        "#;
        let dev = read(text, "dev").unwrap().unwrap();
        assert_eq!(dev.tags.into_iter().collect::<Vec<_>>(), expect(&[("cost", "1"), ("team", "the team")]));
        assert_eq!(dev.capabilities, ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]);
        assert_eq!(read(text, "prod").unwrap().unwrap().capabilities, ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"]);
        assert_eq!(read(text, "qa").unwrap(), None);
    }
}
