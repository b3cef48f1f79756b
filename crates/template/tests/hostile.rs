//! Large templates made to be slow are not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::{Duration, Instant};

use slipway_template::{S3Object, Template};

/// `head`, and as many numbered lines as a third of the limit holds.
fn filled(head: String, line: impl Fn(usize) -> String) -> String {
    let mut source = head;
    for n in 0.. {
        let line = line(n);
        if source.len() + line.len() > 300_000 {
            break;
        }
        source += &line;
    }
    source
}

/// What takes a time that grows with the square of the size takes minutes here.
fn is_fast(name: &str, source: &str) {
    let start = Instant::now();
    let template = Template::parse(source.as_bytes()).expect(name);
    let references = template.references().expect(name);
    let object = S3Object { bucket: "b".to_owned(), key: "k".to_owned(), url: "https://b/k".to_owned() };
    // The result of either may be too large.
    let _ = template.rewrite(&vec![object; references.len()]);
    let _ = (template.to_json(), template.warnings());
    assert!(start.elapsed() < Duration::from_secs(10), "{name}: {:?}", start.elapsed());
}

fn keys(count: usize, value: &str) -> String {
    (0..count).map(|n| format!("  k{n}: {value}\n")).collect()
}

#[test]
fn thousands_of_aliases_of_a_large_value() {
    let remote = "{CodeUri: s3://b/k}";
    let long = "x".repeat(150_000);
    let blank = " ".repeat(150_000);
    for (name, anchored, resource) in [
        ("resources", format!("\n{}", keys(12_000, "1")), "*x"),
        ("merged resources", format!("\n{}", keys(12_000, "1")), "{<<: *x}"),
        (
            "wildcards",
            format!("\n{}", keys(5_000, remote)),
            "{Type: AWS::Serverless::GraphQLApi, Properties: {Functions: *x}}",
        ),
        (
            "merged wildcards",
            format!("\n Functions:\n{}", keys(5_000, remote)),
            "{Type: AWS::Serverless::GraphQLApi, Properties: {<<: *x}}",
        ),
        ("types", format!(" {long}"), "{Type: *x}"),
        (
            "blanks",
            format!(" '{blank}'"),
            "{Type: AWS::Serverless::Function, Properties: {CodeUri: s3://b/k, InlineCode: *x}}",
        ),
        (
            "transforms",
            format!("\n{}", "  - {Name: AWS::Include, Parameters: {Location: s3://b}}\n".repeat(2_500)),
            "{Fn::Transform: *x}",
        ),
    ] {
        let head = format!("X: &x{anchored}\nResources:\n");
        is_fast(name, &filled(head, |n| format!("  r{n}: {resource}\n")));
    }
    let head = format!("X: &x\n - N\n -\n{} - R: {{Type: T}}\nResources:\n", "  - v\n".repeat(25_000));
    is_fast("loops", &filled(head, |n| format!("  Fn::ForEach::L{n}: *x\n")));
}

#[test]
fn names_that_are_long_and_used_often() {
    let name = "x".repeat(200_000);
    let transform = "{\"Name\": \"AWS::Include\", \"Parameters\": {\"Location\": \"a\"}}";
    let transforms = vec![transform; 3_000].join(",");
    let includes = vec![format!("{{\"Fn::Transform\": {transform}}}"); 3_000].join(",");
    let resources: Vec<String> = (0..3_000)
        .map(|n| {
            format!("\"r{n}\": {{\"Type\": \"AWS::Serverless::Function\", \"Properties\": {{\"CodeUri\": \"a\"}}}}")
        })
        .collect();
    let resources = resources.join(",");
    for source in [
        format!("{{\"Resources\": {{\"{name}\": {{\"A\": [{includes}]}}}}}}"),
        format!(
            "{{\"Resources\": {{\"R\": {{\"Type\": \"{name}\", \"Properties\": {{\"Fn::Transform\": [{transforms}]}}}}}}}}"
        ),
        format!("{{\"Resources\": {{\"Fn::ForEach::{name}\": [\"N\", [], {{{resources}}}]}}}}"),
    ] {
        is_fast("names", &source);
        let references = Template::parse(source.as_bytes()).unwrap().references().unwrap();
        assert_eq!(references.len(), 3_000);
        assert!(references.iter().all(|reference| format!("{reference:?}").len() < 3_000));
    }
}
