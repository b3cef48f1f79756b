//! Every difference that is meant, with its reason: what docs/PACKAGING.md shows.

use crate::compare::{AGAIN, Difference, OUTCOME};
use crate::tool::Tool;
use crate::tool::Tool::{Aws, Sam};

/// One of them. Its texts are cells of a table in Markdown.
pub(crate) struct Deliberate {
    /// What it is about.
    pub(crate) what: &'static str,
    /// Who does it differently. Each of them does so in each of `places`.
    pub(crate) peers: &'static [Tool],
    /// Case and place, each with `*` for any text.
    pub(crate) places: &'static [(&'static str, &'static str)],
    pub(crate) theirs: &'static str,
    /// What slipway does, and why.
    pub(crate) ours: &'static str,
}

const BOTH: &[Tool] = &[Aws, Sam];

/// All of them, in the order of the page.
pub(crate) const DELIBERATE: &[Deliberate] = &[
    // What is replaced.
    Deliberate {
        what: "types and properties that are not known",
        peers: &[Aws],
        places: &[
            ("row-serverless-http-api", "*/DefinitionUri"),
            ("row-serverless-graphql-api", "*/SchemaUri"),
            ("row-serverless-graphql-api", "*/Functions/read/CodeUri"),
            ("row-serverless-graphql-api", "*/Resolvers/Query/*/CodeUri"),
            ("for-each-graphql-resolvers", "*/SchemaUri"),
            ("for-each-graphql-resolvers", "*/CodeUri"),
            ("row-api-gateway-v2-api", "*/BodyS3Location"),
            ("row-appsync-resolver", "*/CodeS3Location"),
            ("row-appsync-function-configuration", "*/CodeS3Location"),
            ("row-cloudformation-module-version", "*/ModulePackage"),
            ("row-cloudformation-resource-version", "*/SchemaHandlerPackage"),
            ("row-cloudformation-stack-set", "*/TemplateURL"),
            ("path-folder-for-a-file", OUTCOME),
        ],
        theirs: "leaves the local path: the deployment fails",
        ours: "replaces it: the table above is what either of them knows",
    },
    Deliberate {
        what: "`AWS::CodeCommit::Repository`",
        peers: &[Sam],
        places: &[("row-codecommit-repository", "*/Code/S3")],
        theirs: "leaves the local path: the deployment fails",
        ours: "replaces it",
    },
    Deliberate {
        what: "`Fn::ForEach` in a GraphQL API's resolvers",
        peers: &[Sam],
        places: &[("for-each-graphql-resolvers", "*/CodeUri")],
        theirs: "leaves the local path: the deployment fails",
        ours: "replaces it",
    },
    Deliberate {
        what: "a path that varies with the value of `Fn::ForEach`",
        peers: &[Sam],
        places: &[("for-each-varying-path", OUTCOME)],
        theirs: "with `--language-extensions`: packages each, and adds a mapping for them to the template",
        ours: "refuses it: nothing but values is changed in a template",
    },
    Deliberate {
        what: "`Globals.Function.CodeUri`",
        peers: BOTH,
        places: &[
            ("globals-code-uri", "Globals/Function/CodeUri"),
            ("globals-code-uri", "*/Inherits/Properties/CodeUri/*"),
        ],
        theirs: "`aws` leaves the path, and gives each function that inherits it a zip of the whole folder of the template; \
                 `sam` leaves the path, and writes the location into each function",
        ours: "replaces it where it stands",
    },
    Deliberate {
        what: "`Globals.Api.DefinitionUri`",
        peers: BOTH,
        places: &[("globals-api-definition-uri", "Globals/Api/DefinitionUri")],
        theirs: "leaves the local path: the deployment fails",
        ours: "replaces it",
    },
    Deliberate {
        what: "`AWS::Include` in the section `Transform`",
        peers: BOTH,
        places: &[
            ("include-in-transform-section", "Transform/Parameters/Location"),
            ("include-in-transform-list", "Transform/1/Parameters/Location"),
        ],
        theirs: "leaves the local path: the deployment fails",
        ours: "replaces it",
    },
    Deliberate {
        what: "local paths in a file that `AWS::Include` brings in",
        peers: BOTH,
        places: &[
            ("include-in-resources", "*/Location/document/Layer/Properties/Content"),
            ("include-in-include", "*/Location/document/Fn::Transform/Parameters/Location"),
            ("include-cycle", OUTCOME),
        ],
        theirs: "uploads the file as it is, with the local paths: the deployment fails",
        ours: "packages it like the template, and refuses one that includes itself",
    },
    Deliberate {
        what: "`AWS::Include` in a function's properties",
        peers: &[Aws],
        places: &[
            ("include-in-properties", "*/Location/document/CodeUri"),
            ("include-in-properties", "Resources/It/Properties/CodeUri/*"),
        ],
        theirs: "uploads the file as it is, and gives the function a zip of the whole folder of the template",
        ours: "packages the file like the template; the path may be in it",
    },
    Deliberate {
        what: "`AWS::Include` in a function's properties",
        peers: &[Sam],
        places: &[("include-in-properties", OUTCOME)],
        theirs: "fails: it takes `Fn::Transform` for an unknown property",
        ours: "packages it",
    },
    Deliberate {
        what: "`AWS::Serverless::WebFunction`",
        peers: &[Sam],
        places: &[("row-serverless-web-function", "*/CodeUri")],
        theirs: "replaces the path, if the bucket is versioned",
        ours: "does not know the type: give an S3 location",
    },
    // What is left, and what is not there.
    Deliberate {
        what: "a function that does not say where its code is, or says null or nothing",
        peers: BOTH,
        places: &[
            ("path-missing-code-uri", OUTCOME),
            ("path-null-code-uri", OUTCOME),
            ("path-empty-code-uri", OUTCOME),
        ],
        theirs: "zips the whole folder of the template, with whatever else lies there",
        ours: "refuses it: who means the whole folder says `CodeUri: .`",
    },
    Deliberate {
        what: "functions with inline code, functions that are images",
        peers: &[Aws],
        places: &[("left-inline-code", "*/CodeUri/*"), ("left-image-uri", "*/CodeUri/*")],
        theirs: "adds a `CodeUri` with a zip of the whole folder of the template",
        ours: "leaves them",
    },
    Deliberate {
        what: "functions that are images in ECR",
        peers: &[Sam],
        places: &[("left-image-uri", OUTCOME)],
        theirs: "fails unless an `--image-repository` is named, although there is nothing to push",
        ours: "leaves them",
    },
    Deliberate {
        what: "a local image name",
        peers: &[Aws],
        places: &[("image-local-name", OUTCOME), ("image-local-name-lambda", OUTCOME)],
        theirs: "leaves it: the deployment fails",
        ours: "refuses it: the job that builds an image pushes it, and gives its URI as a parameter",
    },
    Deliberate {
        what: "applications of the Serverless Application Repository",
        peers: &[Sam],
        places: &[("left-application-id", OUTCOME)],
        theirs: "asks the repository for the template, and fails without the right to",
        ours: "leaves them: CloudFormation asks with the deployment's rights",
    },
    Deliberate {
        what: "an `https://` location that is none of S3",
        peers: BOTH,
        places: &[("left-https-code", OUTCOME)],
        theirs: "looks for a file of that name, and fails",
        ours: "leaves it: CloudFormation knows what it takes",
    },
    Deliberate {
        what: "an `http://` location of a nested template",
        peers: &[Aws],
        places: &[("path-http", OUTCOME)],
        theirs: "leaves it: the deployment fails",
        ours: "refuses it",
    },
    Deliberate {
        what: "properties that are null, resources without properties",
        peers: BOTH,
        places: &[("path-null-properties", OUTCOME)],
        theirs: "crashes",
        ours: "leaves them",
    },
    Deliberate {
        what: "blanks and line ends around a path",
        peers: BOTH,
        places: &[("path-blanks-around", OUTCOME), ("path-block-scalar", OUTCOME)],
        theirs: "looks for a file with blanks in its name, and fails",
        ours: "takes them for none of the path",
    },
    // Which file is meant.
    Deliberate {
        what: "a single file of code, when the working folder is not the template's",
        peers: BOTH,
        places: &[("folder-file-elsewhere", "*/CodeUri/zip/*"), ("folder-file-elsewhere", "*/CodeUri/file")],
        theirs: "uploads it without zipping it: the deployment fails",
        ours: "zips it: the working folder does not matter",
    },
    Deliberate {
        what: "a file of the same name in the working folder",
        peers: BOTH,
        places: &[("folder-wrong-file", "*/CodeUri/zip/app.py/content")],
        theirs: "takes that one, not the template's",
        ours: "takes the one beside the template",
    },
    Deliberate {
        what: "paths and links that leave the application's folder",
        peers: BOTH,
        places: &[
            ("confined-absolute-path", OUTCOME),
            ("confined-dots", OUTCOME),
            ("confined-link-out", OUTCOME),
            ("confined-root-link-out", OUTCOME),
            ("nested-child-leaves-the-root", OUTCOME),
        ],
        theirs: "follows them: what is on the machine goes up",
        ours: "refuses them by name: a template decides what of its own folder goes up, and no more",
    },
    Deliberate {
        what: "a named pipe in a folder",
        peers: BOTH,
        places: &[("confined-pipe", OUTCOME)],
        theirs: "waits for ever",
        ours: "refuses it by name",
    },
    // The text of the template.
    Deliberate {
        what: "a key that is there twice",
        peers: BOTH,
        places: &[
            ("text-duplicate-keys", OUTCOME),
            ("text-duplicate-keys-json", OUTCOME),
            ("nested-faulty-child", OUTCOME),
        ],
        theirs: "takes the last one, without a word",
        ours: "refuses it with both lines: it would be a guess",
    },
    Deliberate {
        what: "a path that is a YAML alias, or comes through a merge key",
        peers: BOTH,
        places: &[("text-alias-on-a-path", OUTCOME), ("text-merged-path", OUTCOME)],
        theirs: "writes the template anew without aliases",
        ours: "refuses it, with the line: to change it there would change it elsewhere, too",
    },
    Deliberate {
        what: "YAML aliases and merge keys elsewhere, which CloudFormation refuses",
        peers: BOTH,
        places: &[("text-anchors", "*/Metadata/Tags/*"), ("text-anchors", "*/Metadata/Both/*")],
        theirs: "writes them out",
        ours: "does not touch them, and warns; `--use-json` writes them out",
    },
    Deliberate {
        what: "a template without resources",
        peers: &[Aws],
        places: &[("text-no-resources", OUTCOME)],
        theirs: "packages nothing",
        ours: "refuses it, as CloudFormation does",
    },
    Deliberate {
        what: "metadata `SamResourceId`",
        peers: &[Sam],
        places: &[("*", "*/Metadata/SamResourceId")],
        theirs: "adds it to every resource, also of nested templates",
        ours: "adds nothing to a template",
    },
    Deliberate {
        what: "`'012345678901'`, text in quotes",
        peers: &[Aws],
        places: &[
            ("text-account-id", "Parameters/Account/Default"),
            ("nested-child-keeps-its-text", "*/Account/Default"),
        ],
        theirs: "takes the quotes off: CloudFormation reads a number, and the account id has lost its zero",
        ours: "does not touch it",
    },
    Deliberate {
        what: "`012345678901`, a number without quotes",
        peers: &[Sam],
        places: &[("text-unquoted-account-id", "Parameters/Account/Default")],
        theirs: "puts quotes around it",
        ours: "does not touch it, and warns",
    },
    Deliberate {
        what: "keys that YAML 1.1 does not take for text: `yes`, `1`",
        peers: BOTH,
        places: &[
            ("text-yaml-1-1", "Metadata/yes"),
            ("text-yaml-1-1", "Metadata/1"),
            ("text-yaml-1-1", "Metadata/true"),
        ],
        theirs: "writes `true` for either, and so loses one of them",
        ours: "does not touch them",
    },
    Deliberate {
        what: "the same with `--use-json`",
        peers: &[Sam],
        places: &[("json-values", "Metadata/yes"), ("json-values", "Metadata/1"), ("json-values", "Metadata/true")],
        theirs: "writes `true` for either, and so loses one of them",
        ours: "takes the key as it is written",
    },
    Deliberate {
        what: "a time, `2001-12-14t21:59:43.10-05:00`",
        peers: &[Aws],
        places: &[("text-yaml-1-1", "Metadata/Dates/1")],
        theirs: "writes it in another way",
        ours: "does not touch it",
    },
    Deliberate {
        what: "`--use-json` and a date without quotes, such as a policy's `Version: 2012-10-17`",
        peers: &[Aws],
        places: &[("json-policy-version", OUTCOME), ("json-values", OUTCOME)],
        theirs: "fails",
        ours: "writes the text that CloudFormation reads",
    },
    // Limits.
    Deliberate {
        what: "limits",
        peers: BOTH,
        places: &[
            ("limit-template", OUTCOME),
            ("limit-file", OUTCOME),
            ("limit-files", OUTCOME),
            ("limit-path", OUTCOME),
            ("limit-lambda-code", OUTCOME),
            ("nested-too-deep", OUTCOME),
        ],
        theirs: "uploads what CloudFormation or Lambda will refuse, and whatever else there is",
        ours: "refuses it before the upload, with the limit",
    },
    // What becomes of files.
    Deliberate {
        what: "`.git` and `.aws-sam/cache`",
        peers: BOTH,
        places: &[
            ("artifact-default-leave-outs", "*/zip/.git/HEAD/*"),
            ("artifact-default-leave-outs", "*/zip/.aws-sam/cache/cached.txt/*"),
        ],
        theirs: "packages them",
        ours: "leaves them out: they are no code, and never twice the same",
    },
    Deliberate {
        what: "`.slipwayignore`",
        peers: BOTH,
        places: &[
            ("artifact-slipwayignore", "*/zip/debug.log/*"),
            ("artifact-slipwayignore", "*/zip/docs/guide.md/*"),
            ("artifact-slipwayignore", "*/zip/tests/test_app.py/*"),
            ("artifact-slipwayignore-faulty", OUTCOME),
        ],
        theirs: "has nothing like it",
        ours: "leaves out what it says, and refuses one with a fault",
    },
    Deliberate {
        what: "a folder without a file",
        peers: BOTH,
        places: &[("artifact-empty-folder", OUTCOME)],
        theirs: "uploads an empty zip: the deployment fails",
        ours: "refuses it: mostly nobody has built yet",
    },
    Deliberate {
        what: "files that only their owner may read",
        peers: &[Aws],
        places: &[
            ("artifact-private-files", "*/readable by all"),
            ("artifact-private-document", "*/readable by all"),
            ("artifact-executable-bits", "*/owner-only/readable by all"),
        ],
        theirs: "keeps their rights: Lambda cannot read them",
        ours: "makes all readable: 0755 or 0644, whatever the machine's umask is",
    },
    Deliberate {
        what: "the same where the code is not Lambda's",
        peers: &[Sam],
        places: &[("artifact-private-document", "*/readable by all")],
        theirs: "keeps their rights",
        ours: "makes all readable",
    },
    Deliberate {
        what: "a file whose time is before 1980",
        peers: &[Aws],
        places: &[("artifact-old-times", OUTCOME)],
        theirs: "fails",
        ours: "gives all files one time",
    },
    Deliberate {
        what: "a zip that is not called `.zip` or `.jar`",
        peers: BOTH,
        places: &[
            ("artifact-zip-by-another-name", "*/zip/app.pyz/*"),
            ("artifact-zip-by-another-name", "*/zip/app.py/*"),
        ],
        theirs: "looks into the file, and uploads it as it is",
        ours: "zips it like any file: the name decides, which the template's reader sees",
    },
    Deliberate {
        what: "a file called `.zip` that is none",
        peers: BOTH,
        places: &[("artifact-zip-by-name-only", "*/CodeUri/file"), ("artifact-zip-by-name-only", "*/CodeUri/zip/*")],
        theirs: "looks into the file, and zips it",
        ours: "uploads it as it is: the name decides",
    },
    // Keys.
    Deliberate {
        what: "the same files in a fresh clone, or with another umask",
        peers: &[Aws],
        places: &[("again-fresh-clone", AGAIN), ("again-permissions", AGAIN)],
        theirs: "makes other keys of other times and rights: every function is deployed again",
        ours: "has the same keys: they say what is in the files, and what is executable",
    },
    Deliberate {
        what: "`chmod +x`",
        peers: &[Sam],
        places: &[("again-executable", AGAIN)],
        theirs: "has the same key, and so deploys nothing",
        ours: "has another key",
    },
];

impl Deliberate {
    /// Whether a difference is this one at one of its places.
    fn is(&self, (case, place): (&str, &str), difference: &Difference) -> bool {
        self.peers.contains(&difference.peer) && fits(case, &difference.case) && fits(place, &difference.place)
    }
}

/// Says which differences nobody named, and, if everything ran, which names nothing needs. Gives how many those are.
pub(crate) fn check(differences: &[Difference], everything_ran: bool) -> usize {
    let mut wrong = 0;
    for difference in differences {
        let named = |deliberate: &Deliberate| deliberate.places.iter().any(|place| deliberate.is(*place, difference));
        if !DELIBERATE.iter().any(named) {
            let Difference { case, peer, place, ours, theirs } = difference;
            println!("{case}: {peer}: {place}\n    slipway: {ours}\n    {peer}: {theirs}");
            wrong += 1;
        }
    }
    for deliberate in DELIBERATE.iter().filter(|_| everything_ran) {
        for place in deliberate.places {
            for peer in deliberate.peers {
                if !differences.iter().any(|found| found.peer == *peer && deliberate.is(*place, found)) {
                    println!("{}: {peer} does not differ at {} in {}", deliberate.what, place.1, place.0);
                    wrong += 1;
                }
            }
        }
    }
    wrong
}

/// Whether `text` is `pattern`, in which each `*` stands for any text.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in
            [("a/b", "a/b"), ("*", "a/b"), ("*/b", "a/b"), ("a/*/c", "a/b/b/c"), ("a*", "a"), ("*b*", "abc")]
        {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("a/b", "a/bc"), ("*/b", "a/c"), ("a/*/c", "a/c"), ("a*", "ba"), ("*b*", "ac"), ("a", "")]
        {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }
}
