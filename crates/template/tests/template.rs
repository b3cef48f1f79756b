//! Templates in, references and rewritten templates out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use slipway_template::{
    LocationStyle, MAX_TEMPLATE_BYTES, PackageForm, ReferenceId, S3Object, Template, TemplateError,
};

fn locations(template: &Template) -> BTreeMap<ReferenceId, S3Object> {
    let references = template.references().expect("references");
    let object = |n| S3Object { bucket: "012345678901".to_owned(), key: format!("artifacts/k{n}") };
    references.iter().enumerate().map(|(n, reference)| (reference.id(), object(n))).collect()
}

fn rewrite(source: &str) -> Result<String, TemplateError> {
    let template = Template::parse(source.as_bytes())?;
    template.references()?;
    template.rewrite(&locations(&template))
}

fn error(source: &str) -> TemplateError {
    rewrite(source).expect_err(source)
}

/// A resource `R` with one property.
fn resource(kind: &str, property: &str) -> String {
    format!("Resources:\n  R:\n    Type: {kind}\n    Properties:\n{property}")
}

#[test]
fn every_row_of_the_table_is_found_and_rewritten() {
    use LocationStyle::{BucketKey, S3BucketS3Key, Uri};
    use PackageForm::{FileOrZip, Zip};
    let rows = [
        ("AWS::Serverless::Function", "CodeUri", Zip, Uri),
        ("AWS::Serverless::LayerVersion", "ContentUri", Zip, Uri),
        ("AWS::Serverless::Api", "DefinitionUri", FileOrZip, Uri),
        ("AWS::Serverless::HttpApi", "DefinitionUri", FileOrZip, Uri),
        ("AWS::Serverless::GraphQLApi", "SchemaUri", FileOrZip, Uri),
        ("AWS::Serverless::GraphQLApi", "Resolvers.Query.get.CodeUri", FileOrZip, Uri),
        ("AWS::Serverless::GraphQLApi", "Functions.f.CodeUri", FileOrZip, Uri),
        ("AWS::Serverless::StateMachine", "DefinitionUri", FileOrZip, BucketKey),
        ("AWS::Lambda::Function", "Code", Zip, S3BucketS3Key),
        ("AWS::Lambda::LayerVersion", "Content", Zip, S3BucketS3Key),
        ("AWS::ApiGateway::RestApi", "BodyS3Location", FileOrZip, BucketKey),
        ("AWS::ApiGatewayV2::Api", "BodyS3Location", FileOrZip, BucketKey),
        ("AWS::StepFunctions::StateMachine", "DefinitionS3Location", FileOrZip, BucketKey),
        ("AWS::AppSync::GraphQLSchema", "DefinitionS3Location", FileOrZip, Uri),
        ("AWS::AppSync::Resolver", "RequestMappingTemplateS3Location", FileOrZip, Uri),
        ("AWS::AppSync::Resolver", "ResponseMappingTemplateS3Location", FileOrZip, Uri),
        ("AWS::AppSync::Resolver", "CodeS3Location", FileOrZip, Uri),
        ("AWS::AppSync::FunctionConfiguration", "RequestMappingTemplateS3Location", FileOrZip, Uri),
        ("AWS::AppSync::FunctionConfiguration", "ResponseMappingTemplateS3Location", FileOrZip, Uri),
        ("AWS::AppSync::FunctionConfiguration", "CodeS3Location", FileOrZip, Uri),
        ("AWS::ElasticBeanstalk::ApplicationVersion", "SourceBundle", FileOrZip, S3BucketS3Key),
        ("AWS::Glue::Job", "Command.ScriptLocation", FileOrZip, Uri),
        ("AWS::CloudFormation::ModuleVersion", "ModulePackage", FileOrZip, Uri),
        ("AWS::CloudFormation::ResourceVersion", "SchemaHandlerPackage", FileOrZip, Uri),
        ("AWS::CodeCommit::Repository", "Code.S3", Zip, BucketKey),
    ];
    for (kind, property, form, style) in rows {
        let mut lines = String::new();
        let parts: Vec<&str> = property.split('.').collect();
        for (depth, part) in parts.iter().enumerate() {
            let indent = " ".repeat(6 + 2 * depth);
            let value = if depth + 1 == parts.len() { " ./src/x" } else { "" };
            lines += &format!("{indent}{part}:{value}\n");
        }
        let source = resource(kind, &lines);
        let template = Template::parse(source.as_bytes()).unwrap();
        let references = template.references().unwrap();
        assert_eq!(references.len(), 1, "{kind}.{property}");
        let found = &references[0];
        assert_eq!((found.resource.as_str(), found.property.as_str(), found.path.as_str()), ("R", property, "./src/x"));
        assert_eq!((found.form, found.location), (form, style), "{kind}.{property}");
        assert_eq!(found.line, 4 + parts.len());
        let new = match style {
            Uri => "s3://012345678901/artifacts/k0",
            BucketKey => r#"{"Bucket": "012345678901", "Key": "artifacts/k0"}"#,
            S3BucketS3Key => r#"{"S3Bucket": "012345678901", "S3Key": "artifacts/k0"}"#,
        };
        assert_eq!(template.rewrite(&locations(&template)).unwrap(), source.replace("./src/x", new));
    }
}

#[test]
fn globals_and_metadata_hold_paths_too() {
    let source = "Globals:\n  Function:\n    CodeUri: app/\n  Api:\n    DefinitionUri: api.yaml\n\
                  Metadata:\n  AWS::ServerlessRepo::Application:\n    ReadmeUrl: ./README.md\n    LicenseUrl: 'LICENSE'\n\
                  Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties: {Handler: a.b}\n";
    let template = Template::parse(source.as_bytes()).unwrap();
    let names: Vec<String> =
        template.references().unwrap().iter().map(|r| format!("{}.{}={}", r.resource, r.property, r.path)).collect();
    assert_eq!(
        names,
        [
            "Globals.Function.CodeUri=app/",
            "Globals.Api.DefinitionUri=api.yaml",
            "Metadata.AWS::ServerlessRepo::Application.ReadmeUrl=./README.md",
            "Metadata.AWS::ServerlessRepo::Application.LicenseUrl=LICENSE",
        ]
    );
    let result = rewrite(source).unwrap();
    assert!(result.contains("LicenseUrl: 's3://012345678901/artifacts/k3'\n"), "{result}");
}

#[test]
fn the_source_is_spliced_and_nothing_else_changes() {
    let source = "\u{feff}# Größe — ☃ 𝄞\r\nAWSTemplateFormatVersion: 2010-09-09\r\nParameters:\r\n  Account: {Type: String, Default: '012345678901'}\r\nResources:\r\n  É:\r\n    Type: AWS::Serverless::Function # ß\r\n    Properties:\r\n      Role: !GetAtt Größe.Arn\r\n      Environment: &env {Variables: {A: !Sub \"${X}ö\", Mode: 0777, On: yes}}\r\n      CodeUri: \"./ü/\"   # keep ☃\r\n  Two:\r\n    Type: AWS::Serverless::Function\r\n    Properties: { CodeUri: b c/ü , Environment: *env, Timeout: 1_0 }\r\n  Three:\r\n    Type: AWS::Lambda::Function\r\n    Properties:\r\n      Code: 'it''s'\r\n";
    let expected = source
        .replace("\"./ü/\"", "\"s3://012345678901/artifacts/k0\"")
        .replace("b c/ü", "s3://012345678901/artifacts/k1")
        .replace("'it''s'", r#"{"S3Bucket": "012345678901", "S3Key": "artifacts/k2"}"#);
    let template = Template::parse(source.as_bytes()).unwrap();
    let paths: Vec<String> = template.references().unwrap().into_iter().map(|reference| reference.path).collect();
    assert_eq!(paths, ["./ü/", "b c/ü", "it's"]);
    assert_eq!(rewrite(source).unwrap(), expected);
}

#[test]
fn notations_of_a_value() {
    for (written, path, new) in [
        ("./src", "./src", "s3://012345678901/artifacts/k0"),
        ("./src   ", "./src", "s3://012345678901/artifacts/k0   "),
        ("'./src'  # c", "./src", "'s3://012345678901/artifacts/k0'  # c"),
        ("\"a\\\"b\" # c", "a\"b", "\"s3://012345678901/artifacts/k0\" # c"),
        ("&unused ./src", "./src", "&unused s3://012345678901/artifacts/k0"),
        ("!!str ./src", "./src", "!!str s3://012345678901/artifacts/k0"),
        ("some\n        path", "some path", "s3://012345678901/artifacts/k0"),
        ("\n        ./src", "./src", "\n        s3://012345678901/artifacts/k0"),
        (">-\n        ./src", "./src", "s3://012345678901/artifacts/k0"),
        ("|\n        ./src\n", "./src", "s3://012345678901/artifacts/k0\n"),
    ] {
        let source = resource("AWS::Serverless::Function", &format!("      CodeUri: {written}\n      Handler: x\n"));
        let template = Template::parse(source.as_bytes()).unwrap();
        assert_eq!(template.references().unwrap()[0].path, path, "{written}");
        let expected = source.replacen(&format!("CodeUri: {written}"), &format!("CodeUri: {new}"), 1);
        assert_eq!(template.rewrite(&locations(&template)).expect(written), expected, "{written}");
    }
    let commented =
        resource("AWS::Serverless::Function", "      CodeUri: >- # a comment would be lost\n        ./src\n");
    assert!(matches!(error(&commented), TemplateError::NotSpliceable { line: 6, .. }));
    let tagged = resource("AWS::Lambda::Function", "      Code: !!str ./src\n");
    assert!(matches!(error(&tagged), TemplateError::NotSpliceable { .. }));
}

#[test]
fn what_is_no_local_path_stays() {
    for properties in [
        "      CodeUri: s3://b/k\n",
        "      CodeUri: S3://b/k\n",
        "      CodeUri: https://s3.amazonaws.com/b/k\n",
        "      CodeUri: {Bucket: b, Key: k}\n",
        "      CodeUri: !Sub s3://${B}/k\n",
        "      CodeUri: !Ref Code\n",
        "      CodeUri: {'Fn::Sub': 's3://${B}/k'}\n",
        "      InlineCode: 'x = 1'\n      CodeUri: ./src\n",
        "      InlineCode: |\n        def f(): pass\n",
        "      PackageType: Image\n      ImageUri: 1.dkr.ecr.eu-west-1.amazonaws.com/x\n",
        "      PackageType: Image\n      CodeUri: ./src\n",
        "      Fn::Transform: {Name: Ours, Parameters: {Location: x}}\n",
    ] {
        let source = resource("AWS::Serverless::Function", properties);
        assert_eq!(rewrite(&source).expect(properties), source);
    }
    let source = resource("AWS::Lambda::Function", "      Code: {ZipFile: 'exports.x = 1'}\n");
    assert_eq!(rewrite(&source).unwrap(), source);
    let image = "Globals: {Function: {PackageType: Image}}\nResources:\n  F: {Type: 'AWS::Serverless::Function'}\n";
    assert_eq!(rewrite(image).unwrap(), image);
    let application =
        resource("AWS::Serverless::Application", "      Location: {ApplicationId: a, SemanticVersion: 1}\n");
    assert_eq!(rewrite(&application).unwrap(), application);
}

#[test]
fn json_keeps_its_bytes() {
    let source = "{\n\t\"Parameters\": {\"P\": {\"Type\": \"String\", \"NoEcho\": true, \"Default\": \"\\ud83d\\ude00 \\/\"}},\n\t\"Resources\": {\n\t\t\"R\": {\"Type\": \"AWS::Serverless::Function\",\n\t\t\t\"Properties\": {\"CodeUri\": \".\\/src\", \"Timeout\": -1.5e+3, \"A\": [], \"B\": {}, \"C\": [1, null, {\"x\": [true]}]}},\n\t\t\"L\": {\"Type\": \"AWS::Lambda::LayerVersion\", \"Properties\": {\"Content\": \"layer\"}}\n\t}\n}\n";
    let expected = source
        .replace("\".\\/src\"", "\"s3://012345678901/artifacts/k0\"")
        .replace("\"layer\"", r#"{"S3Bucket": "012345678901", "S3Key": "artifacts/k1"}"#);
    let template = Template::parse(source.as_bytes()).unwrap();
    assert_eq!(rewrite(source).unwrap(), expected);
    let parameters = template.parameters();
    assert_eq!(parameters.len(), 1);
    assert!(parameters[0].no_echo && parameters[0].has_default && parameters[0].name == "P");
    assert_eq!(template.references().unwrap()[1].line, 6);
}

#[test]
fn a_flow_mapping_that_is_no_json_is_yaml() {
    let source = "{Resources: {R: {Type: AWS::Serverless::Function, Properties: {CodeUri: ./a, Handler: b}}}}";
    assert_eq!(rewrite(source).unwrap(), source.replace("./a", "s3://012345678901/artifacts/k0"));
}

#[test]
fn parameters_are_listed() {
    let source = "Parameters:\n  A: {Type: String}\n  B:\n    Type: String\n    Default: ''\n  C: {Type: String, NoEcho: yes}\n  D: {Type: String, NoEcho: 'False'}\nResources: {X: {Type: AWS::SNS::Topic}}\n";
    let parameters = Template::parse(source.as_bytes()).unwrap().parameters();
    let found: Vec<(&str, bool, bool)> =
        parameters.iter().map(|p| (p.name.as_str(), p.has_default, p.no_echo)).collect();
    assert_eq!(found, [("A", false, false), ("B", true, false), ("C", false, true), ("D", false, false)]);
}

#[test]
fn what_cannot_be_read_has_a_name_and_a_place() {
    let topic = "Resources: {X: {Type: AWS::SNS::Topic}}\n";
    let large = format!("{topic}#{}", "x".repeat(MAX_TEMPLATE_BYTES));
    assert!(matches!(error(&large), TemplateError::TooLarge { .. }));
    assert!(error(&large).to_string().contains("1000000"));
    assert!(matches!(Template::parse(b"a: \xff").unwrap_err(), TemplateError::NotUtf8 { offset: 3 }));
    assert!(matches!(error("a: b\n c: d\n"), TemplateError::Syntax { line: 2, .. }));
    assert!(matches!(error("a: [b"), TemplateError::Syntax { .. }));
    assert!(matches!(error("a: *nothing\n"), TemplateError::Syntax { line: 1, .. }));
    assert!(matches!(error("? [a, b]\n: c\nResources: {}\n"), TemplateError::Syntax { line: 1, .. }));
    assert_eq!(
        error("Resources:\n  A: {Type: x}\n  B: {Type: x}\n  A: {Type: y}\n"),
        TemplateError::DuplicateKey { key: "A".to_owned(), line: 4, column: 3, first_line: 2 }
    );
    assert!(matches!(error("{\"Resources\": {\"A\": 1,\n \"A\": 2}}"), TemplateError::DuplicateKey { line: 2, .. }));
    assert!(matches!(error(&format!("{topic}---\na: b\n")), TemplateError::MultipleDocuments { line: 2 }));
    for empty in
        ["", "# nothing\n", "a: b\n", "Resources:\n", "Resources: {}\n", "Resources: [a]\n", "{}", "- a\n", "x"]
    {
        assert_eq!(error(empty), TemplateError::NoResources, "{empty}");
    }
    for deep in [
        format!("Resources: {}", "[".repeat(5000)),
        format!("{{\"a\": {}", "[".repeat(5000)),
        format!("a: {}", "{a: ".repeat(5000)),
    ] {
        assert!(matches!(error(&deep), TemplateError::TooDeep { line: 1, .. }));
    }
}

#[test]
fn what_cannot_be_packaged_is_refused_by_name() {
    for (kind, properties, property) in [
        ("AWS::CloudFormation::Stack", "      TemplateURL: ./child.yaml\n", "TemplateURL"),
        ("AWS::CloudFormation::StackSet", "      TemplateURL: child.yaml\n", "TemplateURL"),
        ("AWS::Serverless::Application", "      Location: child.yaml\n", "Location"),
        ("AWS::Serverless::Function", "      CodeUri: http://example.com/x.zip\n", "CodeUri"),
        ("AWS::SNS::Topic", "      Fn::Transform: {Name: AWS::Include, Parameters: {Location: a.yaml}}\n", "Location"),
        ("AWS::SNS::Topic", "      X: !Transform {Name: AWS::Include, Parameters: {Location: a.yaml}}\n", "Location"),
    ] {
        let found = error(&resource(kind, properties));
        assert!(
            matches!(&found, TemplateError::Unsupported { property: p, line: 5, .. } if p == property),
            "{found:?}"
        );
    }
    let include = "Transform: [{Name: AWS::Include, Parameters: {Location: ./a.yaml}}]\nResources: {A: {Type: B}}\n";
    assert!(matches!(error(include), TemplateError::Unsupported { line: 1, .. }));
    let aliased = "X: &x a.yaml\nResources: {A: {Fn::Transform: {Name: AWS::Include, Parameters: {Location: *x}}}}\n";
    assert!(matches!(error(aliased), TemplateError::Unsupported { line: 2, .. }));
    let remote = include.replace("./a", "s3://b/a");
    assert_eq!(rewrite(&remote).unwrap(), remote);
    let looped = "Resources:\n  Fn::ForEach::Fs:\n    - N\n    - [A, B]\n    - F${N}:\n        Type: AWS::Serverless::Function\n        Properties: {CodeUri: ./src}\n";
    assert!(matches!(error(looped), TemplateError::Unsupported { line: 7, .. }));
    let looped = looped.replace("./src", "s3://b/k");
    assert_eq!(rewrite(&looped).unwrap(), looped);
}

#[test]
fn code_that_is_not_named_is_an_error() {
    for (kind, properties) in [
        ("AWS::Serverless::Function", "      Handler: a.b\n"),
        ("AWS::Serverless::Function", "      CodeUri:\n"),
        ("AWS::Serverless::Function", "      CodeUri: ''\n"),
        ("AWS::Serverless::Function", "      CodeUri: ~\n      PackageType: Zip\n"),
        ("AWS::Serverless::LayerVersion", "      LayerName: a\n"),
        ("AWS::Lambda::Function", "      Handler: a\n"),
        ("AWS::Lambda::LayerVersion", "      LayerName: a\n"),
    ] {
        let found = error(&resource(kind, properties));
        assert!(matches!(found, TemplateError::MissingPath { line: 2, .. }), "{kind} {properties}: {found:?}");
    }
    let bare = "Resources:\n  F: {Type: 'AWS::Serverless::Function'}\n";
    assert!(matches!(error(bare), TemplateError::MissingPath { .. }));
}

#[test]
fn paths_that_leave_the_folder_are_refused() {
    for path in ["../x", "/etc", "a/../../x", "./..", "\\x"] {
        let source = resource("AWS::Serverless::Function", &format!("      CodeUri: '{path}'\n"));
        assert!(matches!(error(&source), TemplateError::OutsideRoot { line: 5, .. }), "{path}");
    }
    let inside = resource("AWS::Serverless::Function", "      CodeUri: a/../b/.\n");
    assert!(rewrite(&inside).is_ok());
}

#[test]
fn shared_values_are_refused() {
    let aliased =
        "X: &x ./src\nResources:\n  R:\n    Type: AWS::Serverless::Function\n    Properties:\n      CodeUri: *x\n";
    assert!(matches!(error(aliased), TemplateError::Shared { line: 6, column: 16, .. }));
    let anchored = "Resources:\n  R:\n    Type: AWS::Serverless::Function\n    Properties:\n      CodeUri: &x ./src\nOutputs: {O: {Value: *x}}\n";
    assert!(matches!(error(anchored), TemplateError::Shared { line: 5, .. }));
    let merged = "X: &x {CodeUri: ./src}\nResources:\n  R:\n    Type: AWS::Serverless::Function\n    Properties:\n      <<: *x\n      Handler: a\n";
    assert!(matches!(error(merged), TemplateError::Shared { line: 6, .. }));
    let properties = "Resources:\n  A:\n    Type: AWS::Serverless::Function\n    Properties: &p {CodeUri: ./src}\n  B:\n    Type: AWS::Serverless::Function\n    Properties: *p\n";
    assert!(matches!(error(properties), TemplateError::Shared { .. }));
    let remote = aliased.replace("./src", "s3://b/k");
    assert_eq!(rewrite(&remote).unwrap(), remote);
    // A merge that contains itself ends.
    let endless = "X: &x\n  <<: *x\nResources:\n  R:\n    Type: AWS::Serverless::Function\n    Properties: *x\n";
    assert!(rewrite(endless).is_err());
}

#[test]
fn locations_must_fit() {
    let source = resource("AWS::Serverless::Function", "      CodeUri: a\n");
    let template = Template::parse(source.as_bytes()).unwrap();
    assert!(matches!(template.rewrite(&BTreeMap::new()), Err(TemplateError::MissingLocation { .. })));
    let mut all = locations(&template);
    for (bucket, key) in [("b\"", "k"), ("b", "k k"), ("b", "k\n"), ("", "k"), ("b", ""), ("b", "/k"), ("b", "ü")] {
        all.values_mut().for_each(|object| *object = S3Object { bucket: bucket.to_owned(), key: key.to_owned() });
        assert!(matches!(template.rewrite(&all), Err(TemplateError::InvalidLocation { .. })), "{bucket} {key}");
    }
    let mut all = locations(&template);
    let id = ReferenceId { resource: "Other".to_owned(), property: "CodeUri".to_owned() };
    all.insert(id, S3Object { bucket: "b".to_owned(), key: "k".to_owned() });
    assert!(matches!(template.rewrite(&all), Err(TemplateError::UnknownReference { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A splice changes nothing but its value, whatever stands around it.
    #[test]
    fn splice_changes_nothing_else(
        comment in "[^\\p{Cc}\u{feff}\u{fffe}\u{ffff}]{0,20}",
        text in "[^\\p{Cc}\u{feff}\u{fffe}\u{ffff}'\"]{0,20}",
        path in "[a-zé☃𝄞][a-z0-9é☃𝄞_./]{0,12}[a-z]",
        quote in prop::sample::select(vec!["", "'", "\""]),
        newline in prop::sample::select(vec!["\n", "\r\n"]),
        bom in any::<bool>(),
        blanks in " {0,3}",
    ) {
        prop_assume!(!path.contains(".."));
        let head = format!("{}# {comment}\nDescription: '{text}'\nResources:\n  R:\n    Type: AWS::Serverless::Function\n    Properties:\n      Role: !Sub '{text}'\n      CodeUri: ", if bom { "\u{feff}" } else { "" });
        let tail = format!("{blanks}# {comment}\n      Handler: \"{}\"\n", text.replace('\\', "/"));
        let tail = if blanks.is_empty() { tail.replacen('#', " #", 1) } else { tail };
        let source = format!("{head}{quote}{path}{quote}{tail}").replace('\n', newline);
        let expected = format!("{head}{quote}s3://012345678901/artifacts/k0{quote}{tail}").replace('\n', newline);
        prop_assert_eq!(rewrite(&source).unwrap(), expected);
    }

    /// Nothing makes the reader panic or hang.
    #[test]
    fn any_text_is_an_answer(text in "(?s)[ -~\n\t\u{80}-\u{ff}]{0,200}") {
        let _ = rewrite(&text);
    }

    /// YAML-like noise, too.
    #[test]
    fn any_structure_is_an_answer(parts in prop::collection::vec(prop::sample::select(vec![
        "Resources:", "R:", "Type: AWS::Serverless::Function", "Properties:", "CodeUri:", "./a", "\n", "\n  ", "\n    ", "\n      ",
        "{", "}", "[", "]", ",", ": ", "- ", "&a ", "*a", "<<: ", "!Ref ", "!!str ", "'", "\"", "|", ">-", "# c", "? ", "---", "é", "\t", "Fn::ForEach::X:",
    ]), 0..40)) {
        let _ = rewrite(&parts.concat());
        let _ = rewrite(&format!("Resources:\n  R:\n    Type: AWS::Serverless::Function\n    Properties:\n      CodeUri: {}", parts.concat()));
    }
}
