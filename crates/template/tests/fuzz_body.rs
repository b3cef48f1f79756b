//! What the fuzzer does with bytes (fuzz/README.md), and the kept ones through the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use slipway_template::{Place, S3Object, Template, TemplateError};

/// Any bytes are refused, or a template or a fragment that can be rewritten, read again and written as JSON.
pub(crate) fn template(bytes: &[u8]) {
    round(bytes, None);
    let inside = |of: &str, path: &str| Place::Inside { of: of.to_owned(), path: vec![path.to_owned()] };
    for place in [
        Place::Sections,
        Place::Resources,
        Place::Resource,
        Place::TypedResource("AWS::Lambda::Function".to_owned()),
        Place::Properties("AWS::Serverless::GraphQLApi".to_owned()),
        inside("AWS::Serverless::GraphQLApi", "Functions"),
        inside("Globals", "Function"),
        Place::Value,
    ] {
        round(bytes, Some(&place));
    }
}

fn round(bytes: &[u8], place: Option<&Place>) {
    let parse = |bytes: &[u8]| match place {
        None => Template::parse(bytes),
        Some(place) => Template::parse_fragment(bytes, place),
    };
    let Ok(template) = parse(bytes) else { return };
    assert_eq!(template.source().as_bytes(), bytes);
    let _ = (template.parameters(), template.warnings());
    json(&template, parse);

    let Ok(references) = template.references() else { return };
    let object = |n| {
        let key = format!("artifacts/{n}");
        S3Object { bucket: "bucket".to_owned(), url: format!("https://bucket.s3.amazonaws.com/{key}"), key }
    };
    let objects: Vec<S3Object> = (0..references.len()).map(object).collect();
    match template.rewrite(&objects) {
        Ok(rewritten) => {
            let rewritten = parse(rewritten.as_bytes()).expect("what is written can be read");
            assert_eq!(rewritten.references(), Ok(Vec::new()));
            json(&rewritten, parse);
        }
        Err(
            TemplateError::NotSpliceable { .. } | TemplateError::NotFaithful { .. } | TemplateError::TooLarge { .. },
        ) => {}
        Err(error) => panic!("{error}"),
    }
}

/// What JSON is written can be read, and is written the same again.
fn json(template: &Template, parse: impl Fn(&[u8]) -> Result<Template, TemplateError>) {
    let Ok(json) = template.to_json() else { return };
    match parse(json.as_bytes()) {
        // A text or a list is read as YAML, to which the same characters may be another value.
        Ok(again) if json.starts_with('{') => assert_eq!(again.to_json(), Ok(json)),
        Ok(_) => {}
        // YAML has fewer characters than JSON.
        Err(TemplateError::Syntax { .. }) if !json.starts_with('{') => {}
        Err(error) => panic!("{error}: {json}"),
    }
}

#[cfg(test)]
#[test]
fn the_corpus_is_understood() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 20, "{}", files.len());
    for file in files {
        template(&std::fs::read(file).unwrap());
    }
}
