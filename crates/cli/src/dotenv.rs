//! The dotenv report that hands a deployment's results to later jobs, and the environment's URL to GitLab.
//! <https://docs.gitlab.com/ci/yaml/artifacts_reports/#artifactsreportsdotenv>

use std::collections::BTreeMap;

/// GitLab's default limits of a dotenv report. A report over one of them fails the job.
const MAX_VARIABLES: usize = 20;
const MAX_BYTES: usize = 5 * 1024;

/// What is reported.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// The environment's URL.
    pub(crate) url: Option<&'a str>,
    /// The deployment.
    pub(crate) deployment: Option<&'a str>,
    /// The stack.
    pub(crate) stack: Option<&'a str>,
    /// A label for the environment's host name.
    pub(crate) dns_label: Option<&'a str>,
    /// The stack's outputs.
    pub(crate) outputs: &'a BTreeMap<String, String>,
}

/// A report, and what it cannot hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dotenv {
    /// The file's text.
    pub(crate) text: String,
    /// Why which variable is left out.
    pub(crate) notes: Vec<String>,
}

/// Writes the report's text. GitLab takes each value as it stands, up to the end of the line: there is no quoting, so a
/// value of several lines cannot be told.
pub(crate) fn render(facts: Facts<'_>) -> Dotenv {
    let fixed = [
        ("ENVIRONMENT_URL", facts.url),
        ("DEPLOYMENT", facts.deployment),
        ("STACK", facts.stack),
        ("DNS_LABEL", facts.dns_label),
    ];
    let fixed = fixed.into_iter().filter_map(|(name, value)| Some((format!("SLIPWAY_{name}"), value?)));
    let outputs = facts.outputs.iter().map(|(name, value)| (format!("SLIPWAY_OUTPUT_{name}"), value.as_str()));
    let mut dotenv = Dotenv { text: String::new(), notes: Vec::new() };
    let mut count = 0;
    for (name, value) in fixed.chain(outputs) {
        let line = format!("{name}={value}\n");
        let why = if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            "its name has other characters than letters, digits and underscores"
        } else if value.chars().any(char::is_control) {
            "its value has several lines or control characters"
        } else if value.trim() != value {
            "its value begins or ends with blanks, which GitLab would drop"
        } else if count == MAX_VARIABLES {
            "GitLab takes 20 variables"
        } else if dotenv.text.len() + line.len() > MAX_BYTES {
            "GitLab takes 5 KB"
        } else {
            count += 1;
            dotenv.text.push_str(&line);
            continue;
        };
        dotenv.notes.push(format!("{name} is left out of the dotenv file: {why}"));
    }
    dotenv
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn single_lines_are_written_as_they_stand_and_others_are_not() {
        let outputs = outputs(&[("Api", "https://x/?a=b&c=\"d\" #e"), ("Key", "a\nb"), ("Pad", " x"), ("Tab", "a\tb")]);
        let facts = Facts {
            url: Some("https://x/"),
            deployment: Some("id"),
            stack: None,
            dns_label: Some("news-x-0"),
            outputs: &outputs,
        };
        let dotenv = render(facts);
        assert_eq!(
            dotenv.text,
            "SLIPWAY_ENVIRONMENT_URL=https://x/\nSLIPWAY_DEPLOYMENT=id\nSLIPWAY_DNS_LABEL=news-x-0\nSLIPWAY_OUTPUT_Api=https://x/?a=b&c=\"d\" #e\n"
        );
        assert_eq!(dotenv.notes.len(), 3);
        assert!(dotenv.notes.iter().any(|note| note.contains("SLIPWAY_OUTPUT_Key")));
    }

    #[test]
    fn the_report_stays_within_gitlabs_limits() {
        let many: BTreeMap<_, _> = (0..30).map(|n| (format!("O{n:02}"), "v".to_owned())).collect();
        let facts =
            Facts { url: Some("https://x"), deployment: None, stack: Some("s"), dns_label: None, outputs: &many };
        let dotenv = render(facts);
        assert_eq!(dotenv.text.lines().count(), 20);
        assert!(dotenv.text.starts_with("SLIPWAY_ENVIRONMENT_URL="));
        assert_eq!(dotenv.notes.len(), 12);
        let long = outputs(&[("A", &"x".repeat(5000)), ("B", &"x".repeat(500)), ("C", "y")]);
        let dotenv = render(Facts { outputs: &long, ..facts });
        assert!(dotenv.text.len() <= MAX_BYTES && dotenv.text.contains("OUTPUT_C=y"));
        assert!(dotenv.notes.iter().any(|note| note.contains("OUTPUT_B")));
    }
}
