//! The one table of properties that hold local paths: what `aws cloudformation package` and `sam package` know.
//! A new type is one line.

use crate::Becomes;

/// What becomes of a local path before it is uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PackageForm {
    /// A folder or a file is always zipped, unless the file is a zip already.
    Zip,
    /// A file goes up as it is, a folder is zipped.
    FileOrZip,
    /// A file, which goes up as it is.
    File,
}

/// How an S3 object is written in place of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LocationStyle {
    /// `s3://bucket/key`
    Uri,
    /// [`S3Object::url`](crate::S3Object::url)
    Https,
    /// `{Bucket: …, Key: …}`
    BucketKey,
    /// `{S3Bucket: …, S3Key: …}`
    S3BucketS3Key,
}

/// One row: a property that may hold a local path.
#[derive(Debug)]
pub(crate) struct Row {
    /// The resource type, or the section (`Globals`, `Metadata`).
    pub(crate) of: &'static str,
    /// The property's path; `*` is any key.
    pub(crate) property: &'static str,
    pub(crate) becomes: Becomes,
    pub(crate) location: LocationStyle,
    /// The resource cannot be without it.
    pub(crate) required: bool,
}

const fn row(of: &'static str, property: &'static str, becomes: Becomes, location: LocationStyle) -> Row {
    Row { of, property, becomes, location, required: false }
}

const fn required(of: &'static str, property: &'static str, becomes: Becomes, location: LocationStyle) -> Row {
    Row { of, property, becomes, location, required: true }
}

const CODE: Becomes = Becomes::Artifact { form: PackageForm::Zip, code: true };
const ZIP: Becomes = Becomes::Artifact { form: PackageForm::Zip, code: false };
const FILE_OR_ZIP: Becomes = Becomes::Artifact { form: PackageForm::FileOrZip, code: false };
const FILE: Becomes = Becomes::Artifact { form: PackageForm::File, code: false };
const TEMPLATE: Becomes = Becomes::Template;

use LocationStyle::{BucketKey, Https, S3BucketS3Key, Uri};

pub(crate) const SERVERLESS_FUNCTION: &str = "AWS::Serverless::Function";
pub(crate) const LAMBDA_FUNCTION: &str = "AWS::Lambda::Function";

static TABLE: &[Row] = &[
    required(SERVERLESS_FUNCTION, "CodeUri", CODE, Uri),
    required("AWS::Serverless::LayerVersion", "ContentUri", CODE, Uri),
    row("AWS::Serverless::Api", "DefinitionUri", FILE_OR_ZIP, Uri),
    row("AWS::Serverless::HttpApi", "DefinitionUri", FILE_OR_ZIP, Uri),
    row("AWS::Serverless::GraphQLApi", "SchemaUri", FILE_OR_ZIP, Uri),
    row("AWS::Serverless::GraphQLApi", "Resolvers.*.*.CodeUri", FILE_OR_ZIP, Uri),
    row("AWS::Serverless::GraphQLApi", "Functions.*.CodeUri", FILE_OR_ZIP, Uri),
    row("AWS::Serverless::StateMachine", "DefinitionUri", FILE_OR_ZIP, BucketKey),
    row("AWS::Serverless::Application", "Location", TEMPLATE, Https),
    row("AWS::CloudFormation::Stack", "TemplateURL", TEMPLATE, Https),
    row("AWS::CloudFormation::StackSet", "TemplateURL", FILE, Https),
    required(LAMBDA_FUNCTION, "Code", CODE, S3BucketS3Key),
    required("AWS::Lambda::LayerVersion", "Content", CODE, S3BucketS3Key),
    row("AWS::ApiGateway::RestApi", "BodyS3Location", FILE_OR_ZIP, BucketKey),
    row("AWS::ApiGatewayV2::Api", "BodyS3Location", FILE_OR_ZIP, BucketKey),
    row("AWS::StepFunctions::StateMachine", "DefinitionS3Location", FILE_OR_ZIP, BucketKey),
    row("AWS::AppSync::GraphQLSchema", "DefinitionS3Location", FILE_OR_ZIP, Uri),
    row("AWS::AppSync::Resolver", "RequestMappingTemplateS3Location", FILE_OR_ZIP, Uri),
    row("AWS::AppSync::Resolver", "ResponseMappingTemplateS3Location", FILE_OR_ZIP, Uri),
    row("AWS::AppSync::Resolver", "CodeS3Location", FILE_OR_ZIP, Uri),
    row("AWS::AppSync::FunctionConfiguration", "RequestMappingTemplateS3Location", FILE_OR_ZIP, Uri),
    row("AWS::AppSync::FunctionConfiguration", "ResponseMappingTemplateS3Location", FILE_OR_ZIP, Uri),
    row("AWS::AppSync::FunctionConfiguration", "CodeS3Location", FILE_OR_ZIP, Uri),
    row("AWS::ElasticBeanstalk::ApplicationVersion", "SourceBundle", FILE_OR_ZIP, S3BucketS3Key),
    row("AWS::Glue::Job", "Command.ScriptLocation", FILE_OR_ZIP, Uri),
    row("AWS::CloudFormation::ModuleVersion", "ModulePackage", FILE_OR_ZIP, Uri),
    row("AWS::CloudFormation::ResourceVersion", "SchemaHandlerPackage", FILE_OR_ZIP, Uri),
    row("AWS::CodeCommit::Repository", "Code.S3", ZIP, BucketKey),
    row("Globals", "Function.CodeUri", CODE, Uri),
    row("Globals", "Api.DefinitionUri", FILE_OR_ZIP, Uri),
    row("Metadata", "AWS::ServerlessRepo::Application.ReadmeUrl", FILE_OR_ZIP, Uri),
    row("Metadata", "AWS::ServerlessRepo::Application.LicenseUrl", FILE_OR_ZIP, Uri),
];

/// The rows of a resource type or section whose property is `path` or below it, each with the next step that is left.
pub(crate) fn rows(of: &str, path: &[&str]) -> impl Iterator<Item = (&'static Row, Option<&'static str>)> {
    TABLE.iter().filter(move |row| row.of == of).filter_map(move |row| {
        let mut steps = row.property.split('.');
        let leads = path.iter().all(|name| steps.next().is_some_and(|step| step == "*" || step == *name));
        leads.then(|| (row, steps.next()))
    })
}

/// Whether a section of a template, not a resource type, has rows.
pub(crate) fn is_section(name: &str) -> bool {
    !name.contains("::") && TABLE.iter().any(|row| row.of == name)
}
