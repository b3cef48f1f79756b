//! A template as JSON has the values that CloudFormation reads in the YAML.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use proptest::prelude::*;
use serde_json::{Value, json};
use slipway_template::{Place, Template, TemplateError};

fn to_json(source: &str) -> Result<String, TemplateError> {
    Template::parse_fragment(source.as_bytes(), &Place::Value).expect(source).to_json()
}

fn value(source: &str) -> Value {
    serde_json::from_str(&to_json(source).expect(source)).expect(source)
}

/// What PyYAML 6.0's `SafeLoader` reads, which `aws cloudformation package` and `sam package` go by; here, as JSON writes
/// it. Dates stay text, as to CloudFormation; what is not finite has no JSON.
const PLAIN: &[(&str, &str)] = &[
    // Booleans.
    ("yes", "true"),
    ("Yes", "true"),
    ("YES", "true"),
    ("on", "true"),
    ("On", "true"),
    ("ON", "true"),
    ("true", "true"),
    ("True", "true"),
    ("TRUE", "true"),
    ("no", "false"),
    ("No", "false"),
    ("NO", "false"),
    ("off", "false"),
    ("Off", "false"),
    ("OFF", "false"),
    ("false", "false"),
    ("False", "false"),
    ("FALSE", "false"),
    ("y", "\"y\""),
    ("Y", "\"Y\""),
    ("n", "\"n\""),
    ("yEs", "\"yEs\""),
    ("tRue", "\"tRue\""),
    // Null.
    ("", "null"),
    ("~", "null"),
    ("null", "null"),
    ("Null", "null"),
    ("NULL", "null"),
    ("nULL", "\"nULL\""),
    ("none", "\"none\""),
    // Integers.
    ("0", "0"),
    ("-0", "0"),
    ("7", "7"),
    ("-17", "-17"),
    ("+17", "17"),
    ("1_000", "1000"),
    ("1__0_", "10"),
    ("123456789012345678901234567890", "123456789012345678901234567890"),
    ("00", "0"),
    ("07", "7"),
    ("0777", "511"),
    ("-0777", "-511"),
    ("0_7", "7"),
    ("08", "\"08\""),
    ("0o17", "\"0o17\""),
    ("012345670123", "1402433619"),
    ("012345678901", "\"012345678901\""),
    ("0x1F", "31"),
    ("0xfF_0", "4080"),
    ("-0xff", "-255"),
    ("0x", "\"0x\""),
    ("0xG", "\"0xG\""),
    ("0X1F", "\"0X1F\""),
    ("0b101", "5"),
    ("0b1_0", "2"),
    ("0b2", "\"0b2\""),
    ("1:30", "90"),
    ("-1:30", "-90"),
    ("1:5", "65"),
    ("1:30:05", "5405"),
    ("12:30:45", "45045"),
    ("1_0:30", "630"),
    ("01:30", "\"01:30\""),
    ("0:30", "\"0:30\""),
    ("1:60", "\"1:60\""),
    ("1:300", "\"1:300\""),
    ("1-2", "\"1-2\""),
    // Floats.
    ("1.5", "1.5"),
    ("-1.50", "-1.50"),
    ("+1.5", "1.5"),
    ("1.", "1.0"),
    ("-0.", "-0.0"),
    (".5", "0.5"),
    ("-.5", "\"-.5\""),
    ("._5", "\"._5\""),
    ("1._5", "1.5"),
    ("1_0.2_5", "10.25"),
    ("007.5", "7.5"),
    ("1.5e+3", "1.5e+3"),
    ("1.5E-3", "1.5e-3"),
    ("1.e+3", "1.0e+3"),
    (".5e-1", "0.5e-1"),
    ("1.5e3", "\"1.5e3\""),
    ("1.5e+", "\"1.5e+\""),
    ("1e5", "\"1e5\""),
    ("1:30.5", "90.5"),
    ("-1:30.25", "-90.25"),
    ("01:30.5", "90.5"),
    ("1:60.5", "\"1:60.5\""),
    (".inf", "\".inf\""),
    ("-.Inf", "\"-.Inf\""),
    (".NaN", "\".NaN\""),
    // Text.
    ("1.2.3", "\"1.2.3\""),
    ("10.0.0.0/16", "\"10.0.0.0/16\""),
    ("2012-10-17", "\"2012-10-17\""),
    ("2001-12-14T21:59:43.10-05:00", "\"2001-12-14T21:59:43.10-05:00\""),
    ("2001-12-14 21:59:43", "\"2001-12-14 21:59:43\""),
    ("=", "\"=\""),
    ("<<", "\"<<\""),
    ("+", "\"+\""),
    (".", "\".\""),
    ("_1", "\"_1\""),
    ("1a", "\"1a\""),
    ("a b", "\"a b\""),
    ("arn:aws:iam::012345678901:role/x", "\"arn:aws:iam::012345678901:role/x\""),
    ("${A}", "\"${A}\""),
    ("Größe ☃ 𝄞", "\"Größe ☃ 𝄞\""),
];

#[test]
fn plain_scalars_are_read_as_yaml_1_1() {
    for (written, expected) in PLAIN {
        assert_eq!(
            to_json(&format!("k: {written}\n")).expect(written),
            format!("{{\n    \"k\": {expected}\n}}\n"),
            "{written}"
        );
        assert_eq!(
            to_json(&format!("- {written} # c\n")).expect(written),
            format!("[\n    {expected}\n]\n"),
            "{written}"
        );
    }
}

#[test]
fn what_is_quoted_is_text_and_keys_are_as_written() {
    for (written, _) in PLAIN {
        for source in [format!("k: '{written}'\n"), format!("k: \"{written}\"\n"), format!("k: !!str {written}\n")] {
            assert_eq!(value(&source), json!({"k": written}), "{source}");
        }
        if !written.is_empty() {
            assert_eq!(value(&format!("k: |-\n  {written}\n")), json!({"k": written}));
            assert_eq!(value(&format!("k: >\n  {written}\n")), json!({"k": format!("{written}\n")}));
            // A plain `<<` merges.
            assert!(*written == "<<" || value(&format!("{written}: 1\n")) == json!({*written: 1}), "{written}");
        }
    }
    assert_eq!(value("'<<': {a: 1}\n"), json!({"<<": {"a": 1}}));
    assert_eq!(value("k: \"\\u00fc\\n\\t\\e\\x41\"\n"), json!({"k": "ü\n\t\u{1b}A"}));
}

#[test]
fn tags_are_obeyed() {
    for (written, expected) in [
        ("!!int '0777'", json!(511)),
        ("!!int 5", json!(5)),
        ("!!float 5", json!(5.0)),
        ("!!float '1.5'", json!(1.5)),
        ("!!bool 'YES'", json!(true)),
        ("!!null 'x'", Value::Null),
        ("!!timestamp 2012-10-17", json!("2012-10-17")),
        ("!<tag:yaml.org,2002:str> 5", json!("5")),
        ("!!map {a: 1}", json!({"a": 1})),
        ("!!seq [1]", json!([1])),
        ("! 5", json!(5)),
    ] {
        assert_eq!(value(&format!("k: {written}\n")), json!({ "k": expected }), "{written}");
    }
    for wrong in [
        "!!int a",
        "!!bool y",
        "!!float a",
        "!!binary aGk=",
        "!!str {a: b}",
        "!!map [a]",
        "!!omap [a: b]",
        "!!set {a, b}",
        "!<tag:example.com:x> a",
        "!<tag:example.com:x> [a]",
    ] {
        let found = to_json(&format!("a: b\nk: {wrong}\n"));
        assert!(matches!(found, Err(TemplateError::Syntax { line: 2, .. })), "{wrong}: {found:?}");
    }
    let digits = "f".repeat(33);
    assert!(matches!(to_json(&format!("k: 0x{digits}\n")), Err(TemplateError::Syntax { line: 1, column: 4, .. })));
    assert_eq!(value(&format!("k: '0x{digits}'\n")), json!({"k": format!("0x{digits}")}));
}

#[test]
fn short_forms_become_long_ones() {
    for (written, expected) in [
        ("!Ref A", json!({"Ref": "A"})),
        ("!Condition A", json!({"Condition": "A"})),
        ("!GetAtt A.B", json!({"Fn::GetAtt": ["A", "B"]})),
        ("!GetAtt A.Outputs.C", json!({"Fn::GetAtt": ["A", "Outputs.C"]})),
        ("!GetAtt A", json!({"Fn::GetAtt": ["A"]})),
        ("!GetAtt [A, !Ref B]", json!({"Fn::GetAtt": ["A", {"Ref": "B"}]})),
        ("!Sub '${A}'", json!({"Fn::Sub": "${A}"})),
        ("!Sub 012", json!({"Fn::Sub": "012"})),
        ("!Base64 yes", json!({"Fn::Base64": "yes"})),
        ("!Sub", json!({"Fn::Sub": ""})),
        ("!Sub |-\n  a\n  b\n", json!({"Fn::Sub": "a\nb"})),
        ("!Select [0, !Split [',', x]]", json!({"Fn::Select": [0, {"Fn::Split": [",", "x"]}]})),
        ("!If [C, yes, !Ref AWS::NoValue]", json!({"Fn::If": ["C", true, {"Ref": "AWS::NoValue"}]})),
        ("!Transform {Name: X, Parameters: {A: 1}}", json!({"Fn::Transform": {"Name": "X", "Parameters": {"A": 1}}})),
        ("!Sub &a x", json!({"Fn::Sub": "x"})),
    ] {
        assert_eq!(value(&format!("k: {written}\n")), json!({ "k": expected }), "{written}");
    }
}

#[test]
fn aliases_and_merges_are_written_out() {
    for (written, expected) in [
        ("a: &x [1, !Ref R]\nb: *x\n", r#"{"a":[1,{"Ref":"R"}],"b":[1,{"Ref":"R"}]}"#),
        ("a: &x {p: 1, q: 2}\nb: {r: 0, <<: *x, q: 3}\n", r#"{"a":{"p":1,"q":2},"b":{"r":0,"p":1,"q":3}}"#),
        ("- &x {p: 1}\n- &y {p: 2, q: 2}\n- <<: [*x, *y]\n", r#"[{"p":1},{"p":2,"q":2},{"p":1,"q":2}]"#),
        (
            "- &x {p: 1}\n- &y {<<: *x, q: 2}\n- &z {p: 3, q: 3, r: 3}\n- <<: [*y, *z]\n",
            r#"[{"p":1},{"p":1,"q":2},{"p":3,"q":3,"r":3},{"q":2,"p":1,"r":3}]"#,
        ),
        ("<<: {a: 1}\n", r#"{"a":1}"#),
        ("a: &x 1\nb: &x 2\nc: *x\n", r#"{"a":1,"b":2,"c":2}"#),
    ] {
        let compact: Value = serde_json::from_str(expected).unwrap();
        assert_eq!(value(written), compact, "{written}");
        let keys = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(keys(&to_json(written).unwrap()), expected, "{written}");
    }
}

#[test]
fn what_is_written_out_is_bounded() {
    let levels = (1..40).map(|n| format!("A{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(",")));
    let bomb = format!("A0: &a0 []\n{}", levels.collect::<String>());
    assert_eq!(to_json(&bomb), Err(TemplateError::TooLargeAsJson));
    assert!(matches!(to_json("a: &x {b: *x}\n"), Err(TemplateError::TooDeep { line: 1, .. })));
    assert_eq!(to_json("a: &x {<<: *x, b: 1}\n").unwrap(), "{\n    \"a\": {\n        \"b\": 1\n    }\n}\n");
    let deep = format!("k: {}1{}\n", "!Sub [".repeat(60), "]".repeat(60));
    assert!(matches!(to_json(&deep), Err(TemplateError::TooDeep { .. })));
    // Blanks go before anything is refused.
    let wide = format!("k: {}{}1{}\n", "[".repeat(90), "1, ".repeat(9_000), "]".repeat(90));
    let written = to_json(&wide).unwrap();
    assert!(written.starts_with("{\"k\":[[") && written.ends_with("]]}\n"), "{}", written.len());
}

#[test]
fn the_layout_is_fixed() {
    let source = "# c\r\nResources:\r\n  R: {A: [], B: {}, C: [1, 'ü']}\r\n  Ö: !Ref R\r\n";
    let expected = "{\n    \"Resources\": {\n        \"R\": {\n            \"A\": [],\n            \"B\": {},\n            \"C\": [\n                1,\n                \"ü\"\n            ]\n        },\n        \"Ö\": {\n            \"Ref\": \"R\"\n        }\n    }\n}\n";
    assert_eq!(Template::parse(source.as_bytes()).unwrap().to_json().unwrap(), expected);
    assert_eq!(to_json("").unwrap(), "null\n");
    assert_eq!(to_json("text").unwrap(), "\"text\"\n");
}

#[test]
fn json_keeps_its_values() {
    let source = r#"{"a": 1e5, "b": 1.50, "c": -0, "d": 123456789012345678901234567890, "e": "012345678901", "f": [true, false, null], "<<": {"yes": "\ud83d\ude00\u0000\/\u001f\u007f"}, "g": "2012-10-17", "Ref": "x"}"#;
    let expected = r#"{"a":1e5,"b":1.50,"c":-0,"d":123456789012345678901234567890,"e":"012345678901","f":[true,false,null],"<<":{"yes":"😀\u0000/\u001f"},"g":"2012-10-17","Ref":"x"}"#;
    let written: String = to_json(source).unwrap().split_whitespace().collect();
    assert_eq!(written, expected.replace("\\u001f\"", "\\u001f\u{7f}\""));
}

/// Any value that JSON has.
fn any_value() -> impl Strategy<Value = Value> {
    let words: Vec<&str> = PLAIN.iter().map(|(written, _)| *written).collect();
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i16>().prop_map(|n| json!(f64::from(n) / 8.0)),
        "\\PC{0,12}".prop_map(Value::from),
        "[\\x00-\\x7f\u{85}\u{2028}é☃𝄞]{0,8}".prop_map(Value::from),
        prop::sample::select(words).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let key = prop_oneof!["[A-Za-z:]{1,8}", "\\PC{0,5}", Just("<<".to_owned()), Just("yes".to_owned())];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..5).prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// Writes a value as YAML: every text in double quotes, collections in lines or between brackets.
fn as_yaml(value: &Value, indent: usize, bits: &mut impl Iterator<Item = bool>) -> String {
    let pad = " ".repeat(indent);
    let in_lines = bits.next().unwrap_or_default();
    match value {
        Value::Array(items) if in_lines && !items.is_empty() => {
            items.iter().map(|item| format!("\n{pad}- {}", as_yaml(item, indent + 2, bits))).collect()
        }
        Value::Object(entries) if in_lines && !entries.is_empty() => {
            let line = |(key, value): (&String, &Value)| {
                format!("\n{pad}{}: {}", quoted(key), as_yaml(value, indent + 2, bits))
            };
            entries.iter().map(line).collect()
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => flow(value),
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{}: {}", quoted(key), flow(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::String(text) => quoted(text),
        // YAML 1.1 wants a sign before an exponent.
        Value::Number(number) => number.to_string().replace('e', "e+").replace("e+-", "e-"),
        Value::Null | Value::Bool(_) => value.to_string(),
    }
}

/// JSON's escapes are YAML's, but for what YAML does not print as it is.
fn quoted(text: &str) -> String {
    let mut written = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => written.extend(['\\', c]),
            ' '..='~' | '\u{a0}'..='\u{d7ff}' if !matches!(c, '\u{2028}' | '\u{2029}') => written.push(c),
            c => written += &format!("\\U{:08x}", u32::from(c)),
        }
    }
    written + "\""
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever the notation, the values stay.
    #[test]
    fn values_stay(expected in any_value(), bits in prop::collection::vec(any::<bool>(), 0..30)) {
        let source = as_yaml(&expected, 0, &mut bits.into_iter());
        let written = to_json(&source).unwrap();
        prop_assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), expected.clone(), "{}", source);
        // JSON again, it is the same text.
        if written.starts_with('{') {
            prop_assert_eq!(to_json(&written).unwrap(), written.clone());
            prop_assert_eq!(to_json(&expected.to_string()).unwrap(), written);
        }
    }
}
