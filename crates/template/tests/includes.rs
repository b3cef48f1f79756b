//! `AWS::Include`: which files it brings in, and what these hold themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use slipway_template::{Becomes, LocationStyle, Place, Reference, S3Object, Template, TemplateError};

/// Each include as `resource.property=path`, with its place.
fn includes(references: &[Reference]) -> Vec<(String, Place)> {
    let include = |reference: &Reference| match &reference.becomes {
        Becomes::Include(place) => {
            assert_eq!(reference.location, LocationStyle::Uri);
            Some((format!("{}.{}={}", reference.resource, reference.property, reference.path), place.clone()))
        }
        Becomes::Artifact { .. } | Becomes::Template => None,
    };
    references.iter().filter_map(include).collect()
}

fn named(references: &[Reference]) -> Vec<String> {
    references.iter().map(|r| format!("{}.{}={}", r.resource, r.property, r.path)).collect()
}

fn fragment(source: &str, place: &Place) -> Vec<Reference> {
    Template::parse_fragment(source.as_bytes(), place).expect(source).references().expect(source)
}

const EVERYWHERE: &str = "\
Transform:
  - AWS::Serverless-2016-10-31
  - {Name: AWS::Include, Parameters: {Location: sections.yaml}}
Globals:
  Function:
    Fn::Transform: {Name: AWS::Include, Parameters: {Location: globals.yaml}}
Mappings:
  Fn::Transform: {Name: AWS::Include, Parameters: {Location: mappings.json}}
Resources:
  Fn::Transform:
    Name: AWS::Include
    Parameters: {Location: resources.yaml}
  R:
    Type: AWS::Glue::Job
    Fn::Transform: {Name: AWS::Include, Parameters: {Location: resource.yaml}}
    Properties:
      Fn::Transform: {Name: AWS::Include, Parameters: {Location: ./properties.yaml}}
      Command:
        Fn::Transform: {Name: AWS::Include, Parameters: {Location: command.yaml}}
      Tags:
        - Fn::Transform: {Name: AWS::Include, Parameters: {Location: 'a tag.yaml'}}
        - !Transform {Name: AWS::Include, Parameters: {Location: \"tag.yaml\"}}
  Untyped:
    Fn::Transform:
      - {Name: Ours, Parameters: {Location: left.yaml}}
      - {Name: AWS::Include, Parameters: {Location: untyped.yaml}}
  Api:
    Type: AWS::Serverless::GraphQLApi
    Properties:
      Functions: !Transform {Name: AWS::Include, Parameters: {Location: functions.yaml}}
  Fn::ForEach::Loop:
    - Name
    - [a, b]
    - \"${Name}\":
        Properties: !Transform {Name: AWS::Include, Parameters: {Location: looped.yaml}}
Outputs:
  O:
    Value: {Fn::Transform: {Name: AWS::Include, Parameters: {Location: value.txt}}}
  Left:
    - Fn::Transform: {Name: AWS::Include, Parameters: {Location: s3://b/k}}
    - Fn::Transform: {Name: AWS::Include, Parameters: {Location: !Ref Where}}
    - Fn::Transform: {Name: AWS::Include, Parameters: {}}
    - Fn::Transform: AWS::Include
    - {Name: AWS::Include, Parameters: {Location: no-transform.yaml}}
";

#[test]
fn an_include_is_found_wherever_it_stands() {
    let template = Template::parse(EVERYWHERE.as_bytes()).unwrap();
    let inside = |of: &str, path: &[&str]| Place::Inside {
        of: of.to_owned(),
        path: path.iter().map(|&name| name.to_owned()).collect(),
    };
    let references = template.references().unwrap();
    let expected = [
        ("Transform.1.Parameters.Location=sections.yaml", Place::Sections),
        ("Globals.Function.Fn::Transform.Parameters.Location=globals.yaml", inside("Globals", &["Function"])),
        ("Mappings.Fn::Transform.Parameters.Location=mappings.json", Place::Value),
        ("Resources.Fn::Transform.Parameters.Location=resources.yaml", Place::Resources),
        ("R.Fn::Transform.Parameters.Location=resource.yaml", Place::TypedResource("AWS::Glue::Job".to_owned())),
        (
            "R.Properties.Fn::Transform.Parameters.Location=./properties.yaml",
            Place::Properties("AWS::Glue::Job".to_owned()),
        ),
        ("R.Properties.Command.Fn::Transform.Parameters.Location=command.yaml", inside("AWS::Glue::Job", &["Command"])),
        ("R.Properties.Tags.0.Fn::Transform.Parameters.Location=a tag.yaml", Place::Value),
        ("R.Properties.Tags.1.Fn::Transform.Parameters.Location=tag.yaml", Place::Value),
        ("Untyped.Fn::Transform.1.Parameters.Location=untyped.yaml", Place::Resource),
        (
            "Api.Properties.Functions.Fn::Transform.Parameters.Location=functions.yaml",
            inside("AWS::Serverless::GraphQLApi", &["Functions"]),
        ),
        ("Fn::ForEach::Loop/${Name}.Properties.Fn::Transform.Parameters.Location=looped.yaml", Place::Value),
        ("Outputs.O.Value.Fn::Transform.Parameters.Location=value.txt", Place::Value),
    ];
    assert_eq!(includes(&references), expected.map(|(name, place)| (name.to_owned(), place)));
    assert_eq!((references[0].line, references[0].column), (3, 49));

    let object = |n| S3Object { bucket: "b".to_owned(), key: format!("k{n}"), url: String::new() };
    let objects: Vec<S3Object> = (0..references.len()).map(object).collect();
    let mut expected = EVERYWHERE.to_owned();
    for (n, path) in references.iter().map(|reference| &reference.path).enumerate() {
        expected = expected.replacen(&format!("Location: {path}"), &format!("Location: s3://b/k{n}"), 1);
        expected = expected.replacen(&format!("Location: '{path}'"), &format!("Location: 's3://b/k{n}'"), 1);
        expected = expected.replacen(&format!("Location: \"{path}\""), &format!("Location: \"s3://b/k{n}\""), 1);
    }
    assert_eq!(template.rewrite(&objects).unwrap(), expected);
}

#[test]
fn the_transform_section_may_be_one_include() {
    let source = "Transform: {Name: AWS::Include, Parameters: {Location: a.yaml}}\nResources: {A: {Type: B}}\n";
    let found = Template::parse(source.as_bytes()).unwrap().references().unwrap();
    assert_eq!(includes(&found), [("Transform.Parameters.Location=a.yaml".to_owned(), Place::Sections)]);
    // All resources may come from there, and what functions inherit as well.
    let bare = source.lines().next().unwrap();
    assert!(Template::parse(bare.as_bytes()).is_ok());
    let function = source.replace("Type: B", "Type: AWS::Serverless::Function");
    assert_eq!(Template::parse(function.as_bytes()).unwrap().references().unwrap().len(), 1);
    let alone = function.replace("AWS::Include", "Ours");
    let found = Template::parse(alone.as_bytes()).unwrap().references();
    assert!(matches!(found, Err(TemplateError::MissingPath { .. })));
}

#[test]
fn a_resource_with_an_include_may_have_its_code_there() {
    let include = "Fn::Transform: {Name: AWS::Include, Parameters: {Location: a.yaml}}";
    for resource in [
        format!("{{Type: AWS::Serverless::Function, {include}}}"),
        format!("{{Type: AWS::Serverless::Function, Properties: {{{include}}}}}"),
        format!("{{Type: AWS::Serverless::Function, Properties: !{}}}", include.replace("Fn::Transform:", "Transform")),
    ] {
        let source = format!("Resources:\n  R: {resource}\n");
        let found = Template::parse(source.as_bytes()).unwrap().references().expect(&source);
        assert_eq!(includes(&found).len(), 1, "{source}");
    }
}

#[test]
fn an_include_is_refused_where_it_varies_or_is_shared() {
    let looped = "Resources:\n  Fn::ForEach::L: [N, [a], {'R${N}': {Fn::Transform: {Name: AWS::Include, Parameters: {Location: '${N}.yaml'}}}}]\n";
    let found = Template::parse(looped.as_bytes()).unwrap().references();
    assert!(matches!(&found, Err(TemplateError::Unsupported { line: 2, .. })), "{found:?}");
    let file = looped.replace("'${N}.yaml'", "file://a.yaml");
    let found = Template::parse(file.as_bytes()).unwrap().references();
    assert!(matches!(&found, Err(TemplateError::Unsupported { line: 2, .. })), "{found:?}");

    let include = "{Name: AWS::Include, Parameters: {Location: a.yaml}}";
    for (source, line) in [
        (format!("X: &x a.yaml\nResources: {{A: {{Fn::Transform: {}}}}}\n", include.replace("a.yaml", "*x")), 2),
        (format!("X: &x {include}\nResources: {{A: {{Fn::Transform: *x}}}}\n"), 2),
        (format!("X: &x {{Fn::Transform: {include}}}\nResources: {{A: *x}}\n"), 1),
        (format!("Resources: {{A: &x {{Fn::Transform: {include}}},\n B: *x}}\n"), 1),
        (format!("Resources:\n  A:\n    <<: {{Fn::Transform: {include}}}\n"), 3),
    ] {
        let found = Template::parse(source.as_bytes()).unwrap().references();
        assert!(matches!(&found, Err(TemplateError::Shared { line: l, .. }) if *l == line), "{source}: {found:?}");
    }
}

#[test]
fn a_fragment_is_searched_as_what_it_lands_in() {
    let function = "Type: AWS::Serverless::Function\nProperties: {CodeUri: ./src}\n";
    assert_eq!(named(&fragment(function, &Place::Resource)), ["AWS::Include.CodeUri=./src"]);
    let untyped = "Properties: {CodeUri: ./src}\n";
    assert_eq!(fragment(untyped, &Place::Resource), []);
    let typed = Place::TypedResource("AWS::Serverless::Function".to_owned());
    assert_eq!(named(&fragment(untyped, &typed)), ["AWS::Serverless::Function.CodeUri=./src"]);

    let resources = "F:\n  Type: AWS::Serverless::Function\n  Properties: {CodeUri: ./src}\n";
    assert_eq!(named(&fragment(resources, &Place::Resources)), ["F.CodeUri=./src"]);
    let sections =
        format!("Globals: {{Function: {{CodeUri: app}}}}\nResources:\n  {}", resources.replace('\n', "\n  "));
    assert_eq!(named(&fragment(&sections, &Place::Sections)), ["Globals.Function.CodeUri=app", "F.CodeUri=./src"]);

    let properties = Place::Properties("AWS::Glue::Job".to_owned());
    assert_eq!(
        named(&fragment("Command: {ScriptLocation: job.py}\n", &properties)),
        ["AWS::Glue::Job.Command.ScriptLocation=job.py"]
    );
    let command = Place::Inside { of: "AWS::Glue::Job".to_owned(), path: vec!["Command".to_owned()] };
    assert_eq!(
        named(&fragment("ScriptLocation: job.py\n", &command)),
        ["AWS::Glue::Job.Command.ScriptLocation=job.py"]
    );
    let functions = Place::Inside { of: "AWS::Serverless::GraphQLApi".to_owned(), path: vec!["Functions".to_owned()] };
    assert_eq!(
        named(&fragment("f: {CodeUri: f.js}\n", &functions)),
        ["AWS::Serverless::GraphQLApi.Functions.f.CodeUri=f.js"]
    );
    assert_eq!(fragment("CodeUri: ./src\n", &Place::Value), []);

    // A fragment need not say everything, and may include others.
    assert_eq!(fragment("F: {Type: 'AWS::Serverless::Function'}\n", &Place::Resources), []);
    let nested = "a: {Fn::Transform: {Name: AWS::Include, Parameters: {Location: b.yaml}}}\n";
    let found = fragment(nested, &Place::Value);
    assert_eq!(
        includes(&found),
        [("AWS::Include.a.Fn::Transform.Parameters.Location=b.yaml".to_owned(), Place::Value)]
    );
    let found = fragment(&nested.replace("a: {", "{"), &Place::Resources);
    assert_eq!(includes(&found), [("Resources.Fn::Transform.Parameters.Location=b.yaml".to_owned(), Place::Resources)]);
}

#[test]
fn the_place_of_an_include_is_where_its_fragment_is_searched() {
    // Cutting a template in two at an include loses no path.
    for (kind, inner) in [
        ("AWS::Serverless::GraphQLApi", "Resolvers: {Query: {get: {CodeUri: a.js}}}"),
        ("AWS::Glue::Job", "Command: {ScriptLocation: a.js}"),
    ] {
        let whole = format!("{{Resources: {{R: {{Type: '{kind}', Properties: {{{inner}}}}}}}}}");
        assert_eq!(Template::parse(whole.as_bytes()).unwrap().references().unwrap().len(), 1);
        for (from, _) in whole.match_indices('{').filter(|(from, _)| *from > 0) {
            let (before, rest) = whole.split_at(from);
            let mut depth = 0;
            let length = rest.find(|c| {
                depth += i32::from(c == '{') - i32::from(c == '}');
                depth == 0
            });
            let (part, after) = rest.split_at(length.unwrap() + 1);
            let include = "{Fn::Transform: {Name: AWS::Include, Parameters: {Location: part.yaml}}}";
            let outer = format!("{before}{include}{after}");
            let found = includes(&Template::parse(outer.as_bytes()).unwrap().references().unwrap());
            assert_eq!(found.len(), 1, "{outer}");
            let place = &found[0].1;
            let inner = fragment(part, place);
            assert_eq!(inner.len(), 1, "{outer} {place:?}");
            assert_eq!(inner[0].path, "a.js");
        }
    }
}

#[test]
fn a_fragment_is_read_like_a_template() {
    for scalar in ["text\n", "- a\n- b\n", "5", "", "# nothing\n"] {
        let found = Template::parse_fragment(scalar.as_bytes(), &Place::Value).expect(scalar);
        assert_eq!((found.source(), found.references().unwrap()), (scalar, Vec::new()));
        assert_eq!(found.rewrite(&[]).unwrap(), scalar);
        for place in [Place::Sections, Place::Resources, Place::Resource, Place::Properties("T".to_owned())] {
            let found = Template::parse_fragment(scalar.as_bytes(), &place);
            assert!(matches!(found, Err(TemplateError::NotAMapping { line: 1 })), "{scalar} {place:?}");
        }
    }
    let twice = Template::parse_fragment(b"a: 1\na: 2\n", &Place::Value);
    assert!(matches!(twice, Err(TemplateError::DuplicateKey { line: 2, .. })));
}
