//! Templates in, references and rewritten templates out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use proptest::prelude::*;
use slipway_template::{
    Becomes, DeletionPolicy, LocationStyle, MAX_TEMPLATE_BYTES, PackageForm, Reference, S3Object, Template,
    TemplateError,
};

/// One object for each reference: `artifacts/k0`, `artifacts/k1`, …
fn objects(template: &Template) -> Vec<S3Object> {
    let references = template.references().expect("references");
    let object = |n| {
        let key = format!("artifacts/k{n}");
        let url = format!("https://s3.eu-west-1.amazonaws.com/012345678901/{key}");
        S3Object { bucket: "012345678901".to_owned(), key, url }
    };
    (0..references.len()).map(object).collect()
}

fn rewrite(source: &str) -> Result<String, TemplateError> {
    let template = Template::parse(source.as_bytes())?;
    template.references()?;
    template.rewrite(&objects(&template))
}

fn error(source: &str) -> TemplateError {
    rewrite(source).expect_err(source)
}

fn references(source: &str) -> Vec<Reference> {
    Template::parse(source.as_bytes()).expect(source).references().expect(source)
}

/// Each reference as `resource.property=path`.
fn named(references: &[Reference]) -> Vec<String> {
    references.iter().map(|r| format!("{}.{}={}", r.resource, r.property, r.path)).collect()
}

/// A resource `R` with one property.
fn resource(kind: &str, property: &str) -> String {
    format!("Resources:\n  R:\n    Type: {kind}\n    Properties:\n{property}")
}

#[test]
fn every_row_of_the_table_is_found_and_rewritten() {
    use LocationStyle::{BucketKey, Https, S3BucketS3Key, Uri};
    const CODE: Becomes = Becomes::Artifact { form: PackageForm::Zip, code: true };
    const ZIP: Becomes = Becomes::Artifact { form: PackageForm::Zip, code: false };
    const FILE_OR_ZIP: Becomes = Becomes::Artifact { form: PackageForm::FileOrZip, code: false };
    const FILE: Becomes = Becomes::Artifact { form: PackageForm::File, code: false };
    let rows = [
        ("AWS::Serverless::Function", "CodeUri", CODE, Uri),
        ("AWS::Serverless::LayerVersion", "ContentUri", CODE, Uri),
        ("AWS::Serverless::Api", "DefinitionUri", FILE_OR_ZIP, Uri),
        ("AWS::Serverless::HttpApi", "DefinitionUri", FILE_OR_ZIP, Uri),
        ("AWS::Serverless::GraphQLApi", "SchemaUri", FILE_OR_ZIP, Uri),
        ("AWS::Serverless::GraphQLApi", "Resolvers.Query.get.CodeUri", FILE_OR_ZIP, Uri),
        ("AWS::Serverless::GraphQLApi", "Functions.f.CodeUri", FILE_OR_ZIP, Uri),
        ("AWS::Serverless::StateMachine", "DefinitionUri", FILE_OR_ZIP, BucketKey),
        ("AWS::Serverless::Application", "Location", Becomes::Template, Https),
        ("AWS::CloudFormation::Stack", "TemplateURL", Becomes::Template, Https),
        ("AWS::CloudFormation::StackSet", "TemplateURL", FILE, Https),
        ("AWS::Lambda::Function", "Code", CODE, S3BucketS3Key),
        ("AWS::Lambda::LayerVersion", "Content", CODE, S3BucketS3Key),
        ("AWS::ApiGateway::RestApi", "BodyS3Location", FILE_OR_ZIP, BucketKey),
        ("AWS::ApiGatewayV2::Api", "BodyS3Location", FILE_OR_ZIP, BucketKey),
        ("AWS::StepFunctions::StateMachine", "DefinitionS3Location", FILE_OR_ZIP, BucketKey),
        ("AWS::AppSync::GraphQLSchema", "DefinitionS3Location", FILE_OR_ZIP, Uri),
        ("AWS::AppSync::Resolver", "RequestMappingTemplateS3Location", FILE_OR_ZIP, Uri),
        ("AWS::AppSync::Resolver", "ResponseMappingTemplateS3Location", FILE_OR_ZIP, Uri),
        ("AWS::AppSync::Resolver", "CodeS3Location", FILE_OR_ZIP, Uri),
        ("AWS::AppSync::FunctionConfiguration", "RequestMappingTemplateS3Location", FILE_OR_ZIP, Uri),
        ("AWS::AppSync::FunctionConfiguration", "ResponseMappingTemplateS3Location", FILE_OR_ZIP, Uri),
        ("AWS::AppSync::FunctionConfiguration", "CodeS3Location", FILE_OR_ZIP, Uri),
        ("AWS::ElasticBeanstalk::ApplicationVersion", "SourceBundle", FILE_OR_ZIP, S3BucketS3Key),
        ("AWS::Glue::Job", "Command.ScriptLocation", FILE_OR_ZIP, Uri),
        ("AWS::CloudFormation::ModuleVersion", "ModulePackage", FILE_OR_ZIP, Uri),
        ("AWS::CloudFormation::ResourceVersion", "SchemaHandlerPackage", FILE_OR_ZIP, Uri),
        ("AWS::CodeCommit::Repository", "Code.S3", ZIP, BucketKey),
    ];
    for (kind, property, becomes, style) in rows {
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
        assert_eq!(named(&references), [format!("R.{property}=./src/x")]);
        let found = &references[0];
        assert_eq!((&found.becomes, found.location), (&becomes, style), "{kind}.{property}");
        assert_eq!((found.line, found.column), (4 + parts.len(), lines.lines().last().unwrap().len() - 6));
        let new = match style {
            Uri => "s3://012345678901/artifacts/k0",
            Https => "https://s3.eu-west-1.amazonaws.com/012345678901/artifacts/k0",
            BucketKey => r#"{"Bucket": "012345678901", "Key": "artifacts/k0"}"#,
            S3BucketS3Key => r#"{"S3Bucket": "012345678901", "S3Key": "artifacts/k0"}"#,
        };
        assert_eq!(template.rewrite(&objects(&template)).unwrap(), source.replace("./src/x", new));
    }
}

#[test]
fn globals_and_metadata_hold_paths_too() {
    let source = "Globals:\n  Function:\n    CodeUri: app/\n  Api:\n    DefinitionUri: api.yaml\n\
                  Metadata:\n  AWS::ServerlessRepo::Application:\n    ReadmeUrl: ./README.md\n    LicenseUrl: 'LICENSE'\n\
                  Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties: {Handler: a.b}\n";
    assert_eq!(
        named(&references(source)),
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
        assert_eq!(template.rewrite(&objects(&template)).expect(written), expected, "{written}");
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
        "      CodeUri: HTTPS://s3.amazonaws.com/b/k\n",
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
    for merged in ["<<: a", "<<: [a]", "<<: [{a: b}, 1]", "<<: !Ref a", "<<:"] {
        assert!(matches!(error(&format!("{topic}{merged}\n")), TemplateError::Syntax { line: 2, .. }), "{merged}");
    }
    let chain: String = (1..20).map(|n| format!("A{n}: &a{n} {{<<: *a{}}}\n", n - 1)).collect();
    assert!(matches!(error(&format!("A: &a0 {{b: c}}\n{chain}{topic}")), TemplateError::Syntax { line: 18, .. }));
    assert!(matches!(error(&format!("{topic}---\na: b\n")), TemplateError::MultipleDocuments { line: 2 }));
    for empty in [
        "",
        "# nothing\n",
        "a: b\n",
        "Resources:\n",
        "Resources: {}\n",
        "Resources: [a]\n",
        "{}",
        "- a\n",
        "x",
        "!Sub\nResources: {A: {Type: B}}\n",
        "Resources: &r {<<: *r}\n",
    ] {
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
    let remote = "AWS::Serverless::Function";
    for (kind, properties, property) in [
        (remote, "      CodeUri: http://example.com/x.zip\n", "CodeUri"),
        (remote, "      CodeUri: file://x\n", "CodeUri"),
        ("AWS::CloudFormation::Stack", "      TemplateURL: http://s3.amazonaws.com/b/k\n", "TemplateURL"),
    ] {
        let found = error(&resource(kind, properties));
        assert!(
            matches!(&found, TemplateError::Unsupported { property: p, line: 5, .. } if p == property),
            "{found:?}"
        );
    }
    // What keys a merge brings in where any key counts is not known to a reader, either.
    let merged = "X: &x {f: {CodeUri: s3://b/k}}\nResources:\n  R:\n    Type: AWS::Serverless::GraphQLApi\n    Properties:\n      Functions:\n        <<: *x\n";
    let found = error(merged);
    assert!(
        matches!(&found, TemplateError::Unsupported { property, line: 7, .. } if property == "Functions"),
        "{found:?}"
    );
}

#[test]
fn loops_hold_paths() {
    let source = "\
Resources:
  Fn::ForEach::Stages:
    - Stage
    - [dev, prod]
    - Fn::ForEach::Functions:
        - Name
        - [A, B]
        - Function${Name}${Stage}:
            Type: AWS::Serverless::Function
            Properties: {CodeUri: ./src, Handler: \"${Name}\"}
      Layer${Stage}:
        Type: AWS::Serverless::LayerVersion
        Properties:
          Fn::ForEach::Tags: [Tag, [a], {\"${Tag}\": b}]
          ContentUri: \"$${Stage}/${Other}\"
  Api:
    Type: AWS::Serverless::GraphQLApi
    Properties:
      Resolvers:
        Query:
          Fn::ForEach::Fields:
            - Field
            - [x, y]
            - \"${Field}\": {CodeUri: resolver.js}
";
    let found = references(&source.replace("$${Stage}", "${Stages}"));
    assert_eq!(
        named(&found),
        [
            "Fn::ForEach::Stages/Fn::ForEach::Functions/Function${Name}${Stage}.CodeUri=./src",
            "Fn::ForEach::Stages/Layer${Stage}.ContentUri=${Stages}/${Other}",
            "Api.Resolvers.Query.Fn::ForEach::Fields/${Field}.CodeUri=resolver.js",
        ]
    );
    let found = error(source).to_string();
    for part in [
        "line 15",
        "Fn::ForEach::Stages/Layer${Stage}",
        "`ContentUri`",
        "the loop's `Stage`",
        "write the resources out",
    ] {
        assert!(found.contains(part), "{found}");
    }
    for (path, varies) in [
        ("./${Name}", true),
        ("./&{Stage}x", true),
        ("$${Name}", true),
        ("./${ Name}", false),
        ("${Names}/${", false),
        ("Name", false),
        ("s3://b/${Name}", false),
    ] {
        let source = source.replace("$${Stage}", "").replace("./src", &format!("'{path}'"));
        let found = rewrite(&source);
        assert_eq!(matches!(&found, Err(TemplateError::Unsupported { line: 10, .. })), varies, "{path}: {found:?}");
        assert_eq!(found.is_ok(), !varies, "{path}: {found:?}");
    }
}

#[test]
fn functions_may_have_their_code_elsewhere() {
    let ecr = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/x:1";
    for (kind, properties) in [
        ("AWS::Serverless::Function", format!("      ImageUri: {ecr}\n")),
        (
            "AWS::Serverless::Function",
            format!("      PackageType: Image\n      ImageUri: {ecr}\n      CodeUri: ./src\n"),
        ),
        ("AWS::Serverless::Function", "      PackageType: Image\n      ImageUri: !Ref Image\n".to_owned()),
        ("AWS::Serverless::Function", "      PackageType: Image\n      ImageUri: !Sub 'app:${Tag}'\n".to_owned()),
        ("AWS::Serverless::Function", "      PackageType: Image\n      ImageUri: ''\n".to_owned()),
        ("AWS::Serverless::Function", "      PackageType: !Ref Kind\n".to_owned()),
        ("AWS::Serverless::Function", "      Fn::ForEach::P: [N, [CodeUri], {'${N}': s3://b/k}]\n".to_owned()),
        ("AWS::Lambda::Function", format!("      PackageType: Image\n      Code: {{ImageUri: {ecr}}}\n")),
    ] {
        let source = resource(kind, &properties);
        assert_eq!(rewrite(&source).expect(&properties), source);
    }
    let looped = "Resources:\n  Fn::ForEach::L:\n    - N\n    - [a]\n    - F${N}:\n        Type: AWS::Serverless::Function\n        Properties: {PackageType: Image, ImageUri: '${N}'}\n";
    assert_eq!(rewrite(looped).unwrap(), looped);
}

#[test]
fn a_local_image_is_refused_with_the_way_out() {
    let globals = "Globals: {Function: {PackageType: Image}}\n";
    for (head, kind, properties, property) in [
        ("", "AWS::Serverless::Function", "      PackageType: Image\n      ImageUri: app\n", "ImageUri"),
        ("", "AWS::Serverless::Function", "      ImageUri: app:latest\n      PackageType: Image\n", "ImageUri"),
        ("", "AWS::Serverless::Function", "      ImageUri: localhost:5000/a.b/app\n", "ImageUri"),
        (globals, "AWS::Serverless::Function", "      ImageUri: app\n", "ImageUri"),
        (
            "",
            "AWS::Lambda::Function",
            "      PackageType: Image\n      Code: {ImageUri: team/app:1.0}\n",
            "Code.ImageUri",
        ),
    ] {
        let found = error(&format!("{head}{}", resource(kind, properties)));
        assert!(matches!(&found, TemplateError::Unsupported { property: p, .. } if p == property), "{found:?}");
        assert!(found.to_string().contains("push it to ECR"), "{found}");
    }
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
    assert!(matches!(error(bare), TemplateError::MissingPath { line: 2, .. }));
    let inherited = format!("Globals: {{Function: {{CodeUri: ./src}}}}\n{bare}");
    assert_eq!(named(&references(&inherited)), ["Globals.Function.CodeUri=./src"]);
    let refused = inherited.replace("Function'", "Function', IgnoreGlobals: '*'");
    assert!(matches!(error(&refused), TemplateError::MissingPath { line: 3, .. }));
    for properties in ["      InlineCode: ''\n", "      InlineCode:\n"] {
        let source = resource("AWS::Serverless::Function", properties);
        assert!(matches!(error(&source), TemplateError::MissingPath { .. }), "{properties}");
    }
}

#[test]
fn an_empty_path_is_none() {
    for value in ["", "~", "''", "\"  \"", "null"] {
        let source = resource("AWS::Serverless::Api", &format!("      DefinitionUri: {value}\n"));
        assert_eq!(rewrite(&source).expect(value), source);
        let include =
            format!("Resources:\n  Fn::Transform: {{Name: AWS::Include, Parameters: {{Location: {value}}}}}\n");
        assert_eq!(rewrite(&include).expect(value), include);
    }
}

#[test]
fn paths_are_given_as_written() {
    for path in ["../x", "/etc", "a/../../x", "./..", "\\x", "a b", "."] {
        let source = resource("AWS::Serverless::Function", &format!("      CodeUri: ' {path} '\n"));
        assert_eq!(references(&source)[0].path, path);
    }
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
    // What is overridden is not shared.
    let overridden = "X: &x {CodeUri: ./old, Handler: a}\nResources:\n  R:\n    Type: AWS::Serverless::Function\n    Properties:\n      <<: *x\n      CodeUri: ./src\n";
    assert_eq!(named(&references(overridden)), ["R.CodeUri=./src"]);
    let inline = "Resources:\n  R:\n    Type: AWS::Serverless::Function\n    <<: {Properties: {CodeUri: ./src}}\n";
    assert!(matches!(error(inline), TemplateError::Shared { line: 4, .. }));
    let resources = "X: &x {R: {Type: 'AWS::Serverless::Function', Properties: {CodeUri: a}}}\nResources:\n  <<: *x\n";
    assert!(matches!(error(resources), TemplateError::Shared { line: 3, .. }));
    let remote = resources.replace("CodeUri: a", "CodeUri: s3://b/k");
    assert_eq!(rewrite(&remote).unwrap(), remote);
    // A merge that contains itself ends.
    let endless = "X: &x\n  <<: *x\nResources:\n  R:\n    Type: AWS::Serverless::Function\n    Properties: *x\n";
    assert!(rewrite(endless).is_err());
}

#[test]
fn objects_must_fit() {
    let source = resource("AWS::Serverless::Function", "      CodeUri: a\n");
    let template = Template::parse(source.as_bytes()).unwrap();
    assert_eq!(template.rewrite(&[]), Err(TemplateError::WrongCount { expected: 1, given: 0 }));
    let object = |bucket: &str, key: &str, url: &str| S3Object {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        url: url.to_owned(),
    };
    let two = [object("b", "k", ""), object("b", "k", "")];
    assert_eq!(template.rewrite(&two), Err(TemplateError::WrongCount { expected: 1, given: 2 }));
    for (bucket, key) in [("b\"", "k"), ("b", "k k"), ("b", "k\n"), ("", "k"), ("b", ""), ("b", "/k"), ("b", "ü")] {
        let found = template.rewrite(&[object(bucket, key, "")]);
        assert!(matches!(found, Err(TemplateError::InvalidLocation { .. })), "{bucket} {key}");
    }
    let source = resource("AWS::CloudFormation::Stack", "      TemplateURL: a\n");
    let template = Template::parse(source.as_bytes()).unwrap();
    for url in ["http://127.0.0.1:4566/b/k", "https://b.s3.eu-west-1.amazonaws.com/k'()*!%20~"] {
        assert_eq!(
            template.rewrite(&[object("b", "k", url)]).unwrap(),
            source.replace("URL: a", &format!("URL: {url}"))
        );
    }
    for url in ["", "k", "s3://b/k", "https://", "https://b/k #", "https://b/k?x=1&y", "https://b/k:", "https://b/\n"] {
        let found = template.rewrite(&[object("b", "k", url)]);
        assert!(matches!(found, Err(TemplateError::InvalidLocation { .. })), "{url}");
    }
}

#[test]
fn warnings_name_what_is_probably_not_meant() {
    let source = "\
Parameters:
  Account: {Type: String, Default: 012345678901}
  Octal: {Type: String, Default: 012345670123} # a number to YAML 1.1
  Good: {Type: String, Default: '012345678901', A: \"012345678901\", B: !Ref 012345678901, C: !!str 012345678901}
  Longer: {A: 0123456789012, B: 01234567890, C: 112345678901, D: 0_1234567890}
X: &x {A: 1}
Mappings:
  M: {012345678901: {<<: *x}}
Resources:
  T: {Type: AWS::SNS::Topic, Properties: {<<: {B: 2}, C: *x}}
";
    let warnings = Template::parse(source.as_bytes()).unwrap().warnings();
    let places: Vec<(usize, usize)> = warnings.iter().map(|warning| (warning.line, warning.column)).collect();
    assert_eq!(places, [(2, 36), (3, 34), (8, 7), (8, 26)]);
    assert!(warnings[0].message.contains("write '012345678901'"), "{warnings:?}");
    assert!(warnings[3].message.contains("has 3: ") && warnings[3].message.contains("--use-json"), "{warnings:?}");
    let quiet = "{\"Resources\": {\"R\": {\"<<\": {\"A\": \"012345678901\"}}}}";
    assert_eq!(Template::parse(quiet.as_bytes()).unwrap().warnings(), []);
}

/// A resource with one path, among much else.
#[derive(Debug, Clone)]
struct Chunk {
    layout: usize,
    path: String,
    quote: &'static str,
    comment: String,
    text: String,
}

/// Layouts of a resource; `@` is the value, `%` a comment, `¤` a text between single quotes, `§` a number.
const LAYOUTS: [(&str, LocationStyle); 7] = [
    (
        "  R§:\n    Type: AWS::Serverless::Function\n    Properties:\n      Role: !Sub '¤'\n      CodeUri: @  # %\n      Mode: 0777\n",
        LocationStyle::Uri,
    ),
    ("  R§: {Type: AWS::Serverless::Function, Properties: {A: '¤', CodeUri: @ , On: yes}} # %\n", LocationStyle::Uri),
    (
        "  R§:\n    # CodeUri: ./src\n    Type: 'AWS::Lambda::Function'\n    Properties: &p§\n      Code:   &c§ @\n      Description: |\n        Code: ./src # %\n\n        ¤\n    Metadata: [&m§ '¤', *m§]\n",
        LocationStyle::S3BucketS3Key,
    ),
    (
        "  \"R§\": {\"Type\": \"AWS::Serverless::StateMachine\", # %\n    \"Properties\": {\"A\": '¤', \"DefinitionUri\": @}}\n",
        LocationStyle::BucketKey,
    ),
    (
        "  ? R§\n  : Type: AWS::CloudFormation::Stack\n    Properties: {TemplateURL: !!str @, B: [é, !Ref É, '012345678901']}\n",
        LocationStyle::Https,
    ),
    (
        "  Fn::ForEach::R§:\n    - I\n    - ['¤']\n    - R${I}:\n        Type: AWS::Glue::Job\n        Properties:\n          Command: {Name: x, ScriptLocation: @}\n          Tags: >-\n            %\n",
        LocationStyle::Uri,
    ),
    (
        "  R§:\n    Type: T\n    Properties:\n    - Fn::Transform: {Name: AWS::Include,\n        Parameters: {Location:\n          @}}\n    - &a§ '¤'\n    - *a§\n",
        LocationStyle::Uri,
    ),
];

impl Chunk {
    /// The resource with its path, or with an object that has this key.
    fn written(&self, n: usize, key: Option<&str>) -> String {
        let (layout, style) = LAYOUTS[self.layout];
        let quote = self.quote;
        let value = match (key, style) {
            (None, _) => format!("{quote}{}{quote}", self.path),
            (Some(key), LocationStyle::Uri) => format!("{quote}s3://012345678901/{key}{quote}"),
            (Some(key), LocationStyle::Https) => {
                format!("{quote}https://s3.eu-west-1.amazonaws.com/012345678901/{key}{quote}")
            }
            (Some(key), LocationStyle::BucketKey) => format!("{{\"Bucket\": \"012345678901\", \"Key\": \"{key}\"}}"),
            (Some(key), LocationStyle::S3BucketS3Key) => {
                format!("{{\"S3Bucket\": \"012345678901\", \"S3Key\": \"{key}\"}}")
            }
        };
        let mut written = String::new();
        for c in layout.chars() {
            match c {
                '@' => written += &value,
                '%' => written += &self.comment,
                '¤' => written += &self.text,
                '§' => written += &n.to_string(),
                c => written.push(c),
            }
        }
        written
    }
}

fn chunk() -> impl Strategy<Value = Chunk> {
    let text = "[^\\p{Cc}\u{2028}\u{2029}\u{feff}\u{fffe}\u{ffff}'{}]{0,20}";
    let path = "[a-zé☃𝄞][a-z0-9é☃𝄞_./]{0,12}[a-z]";
    let quotes = prop::sample::select(vec!["", "'", "\""]);
    (0..LAYOUTS.len(), path, quotes, text, text).prop_map(|(layout, path, quote, comment, text)| Chunk {
        layout,
        path,
        quote,
        comment,
        text,
    })
}

#[test]
fn what_becomes_of_a_resource_is_read_as_it_is_written() {
    let yaml = "Defaults: &d {DeletionPolicy: Retain}\nResources:\n  A: {Type: T}\n  B: {Type: T, DeletionPolicy: Delete}\n  \
                C: {<<: *d, Type: T}\n  D: {Type: T, DeletionPolicy: !Ref Policy}\n  E: {Type: T, DeletionPolicy: 'Retain'}\n  \
                Fn::ForEach::Loop: [N, [x], {F: {Type: T}}]\n";
    let json = Template::parse(yaml.as_bytes()).unwrap().to_json().unwrap();
    for template in [yaml.to_owned(), json] {
        let template = Template::parse(template.as_bytes()).unwrap();
        let retain = || Some(DeletionPolicy::Text("Retain".into()));
        assert_eq!(template.deletion_policy("A"), Some(DeletionPolicy::Absent));
        assert_eq!(template.deletion_policy("B"), Some(DeletionPolicy::Text("Delete".into())));
        assert_eq!(template.deletion_policy("C"), retain(), "through a merge");
        assert_eq!(template.deletion_policy("D"), Some(DeletionPolicy::Computed));
        assert_eq!(template.deletion_policy("E"), retain());
        assert_eq!(template.deletion_policy("F"), None, "what a loop makes is not known by name");
        assert_eq!(template.deletion_policy("G"), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A splice changes nothing but its value, whatever stands around it.
    #[test]
    fn splice_changes_nothing_else(
        chunks in prop::collection::vec(chunk(), 1..8),
        newline in prop::sample::select(vec!["\n", "\r\n"]),
        bom in any::<bool>(),
    ) {
        let head = if bom { "\u{feff}" } else { "" };
        let (mut source, mut expected) = (format!("{head}# ☃\nResources:\n"), format!("{head}# ☃\nResources:\n"));
        for (n, chunk) in chunks.iter().enumerate() {
            source += &chunk.written(n, None);
            expected += &chunk.written(n, Some(&format!("artifacts/k{n}")));
        }
        let (source, expected) = (source.replace('\n', newline), expected.replace('\n', newline));
        let paths: Vec<String> = references(&source).into_iter().map(|reference| reference.path).collect();
        prop_assert_eq!(paths, chunks.iter().map(|chunk| chunk.path.clone()).collect::<Vec<_>>(), "{}", source);
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
