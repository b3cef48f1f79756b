//! The one table of properties that hold local paths: what `aws cloudformation package` and `sam package` know.

/// What becomes of a local path before it is uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PackageForm {
    /// A folder or a file is always zipped, unless the file is a zip already.
    Zip,
    /// A file goes up as it is, a folder is zipped.
    FileOrZip,
}

/// How an S3 object is written in place of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LocationStyle {
    /// `s3://bucket/key`
    Uri,
    /// `{Bucket: …, Key: …}`
    BucketKey,
    /// `{S3Bucket: …, S3Key: …}`
    S3BucketS3Key,
}

/// What is done with a local path in a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is uploaded and replaced.
    Replace(PackageForm, LocationStyle),
    /// It is refused: the text says what it is, and what to do.
    Refuse(&'static str),
}

/// One row: a property that may hold a local path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// The resource type, or the section for [`SECTIONS`].
    pub(crate) of: &'static str,
    /// The property's path; `*` is any key.
    pub(crate) property: &'static str,
    pub(crate) action: Action,
    /// The resource cannot be without it.
    pub(crate) required: bool,
}

const fn row(of: &'static str, property: &'static str, form: PackageForm, style: LocationStyle) -> Row {
    Row { of, property, action: Action::Replace(form, style), required: false }
}

const fn required(of: &'static str, property: &'static str, style: LocationStyle) -> Row {
    Row { of, property, action: Action::Replace(PackageForm::Zip, style), required: true }
}

const fn refused(of: &'static str, property: &'static str, what: &'static str) -> Row {
    Row { of, property, action: Action::Refuse(what), required: false }
}

use LocationStyle::{BucketKey, S3BucketS3Key, Uri};
use PackageForm::{FileOrZip, Zip};

pub(crate) const SERVERLESS_FUNCTION: &str = "AWS::Serverless::Function";
pub(crate) const LAMBDA_FUNCTION: &str = "AWS::Lambda::Function";

const NESTED: &str = "a local child template, which cannot be packaged yet: upload it and give its https:// S3 URL";

/// Properties of resources.
pub(crate) const RESOURCES: &[Row] = &[
    required(SERVERLESS_FUNCTION, "CodeUri", Uri),
    required("AWS::Serverless::LayerVersion", "ContentUri", Uri),
    row("AWS::Serverless::Api", "DefinitionUri", FileOrZip, Uri),
    row("AWS::Serverless::HttpApi", "DefinitionUri", FileOrZip, Uri),
    row("AWS::Serverless::GraphQLApi", "SchemaUri", FileOrZip, Uri),
    row("AWS::Serverless::GraphQLApi", "Resolvers.*.*.CodeUri", FileOrZip, Uri),
    row("AWS::Serverless::GraphQLApi", "Functions.*.CodeUri", FileOrZip, Uri),
    row("AWS::Serverless::StateMachine", "DefinitionUri", FileOrZip, BucketKey),
    refused("AWS::Serverless::Application", "Location", NESTED),
    refused("AWS::CloudFormation::Stack", "TemplateURL", NESTED),
    refused("AWS::CloudFormation::StackSet", "TemplateURL", NESTED),
    required(LAMBDA_FUNCTION, "Code", S3BucketS3Key),
    required("AWS::Lambda::LayerVersion", "Content", S3BucketS3Key),
    row("AWS::ApiGateway::RestApi", "BodyS3Location", FileOrZip, BucketKey),
    row("AWS::ApiGatewayV2::Api", "BodyS3Location", FileOrZip, BucketKey),
    row("AWS::StepFunctions::StateMachine", "DefinitionS3Location", FileOrZip, BucketKey),
    row("AWS::AppSync::GraphQLSchema", "DefinitionS3Location", FileOrZip, Uri),
    row("AWS::AppSync::Resolver", "RequestMappingTemplateS3Location", FileOrZip, Uri),
    row("AWS::AppSync::Resolver", "ResponseMappingTemplateS3Location", FileOrZip, Uri),
    row("AWS::AppSync::Resolver", "CodeS3Location", FileOrZip, Uri),
    row("AWS::AppSync::FunctionConfiguration", "RequestMappingTemplateS3Location", FileOrZip, Uri),
    row("AWS::AppSync::FunctionConfiguration", "ResponseMappingTemplateS3Location", FileOrZip, Uri),
    row("AWS::AppSync::FunctionConfiguration", "CodeS3Location", FileOrZip, Uri),
    row("AWS::ElasticBeanstalk::ApplicationVersion", "SourceBundle", FileOrZip, S3BucketS3Key),
    row("AWS::Glue::Job", "Command.ScriptLocation", FileOrZip, Uri),
    row("AWS::CloudFormation::ModuleVersion", "ModulePackage", FileOrZip, Uri),
    row("AWS::CloudFormation::ResourceVersion", "SchemaHandlerPackage", FileOrZip, Uri),
    row("AWS::CodeCommit::Repository", "Code.S3", Zip, BucketKey),
];

/// Properties of other sections.
pub(crate) const SECTIONS: &[Row] = &[
    row("Globals", "Function.CodeUri", Zip, Uri),
    row("Globals", "Api.DefinitionUri", FileOrZip, Uri),
    row("Metadata", "AWS::ServerlessRepo::Application.ReadmeUrl", FileOrZip, Uri),
    row("Metadata", "AWS::ServerlessRepo::Application.LicenseUrl", FileOrZip, Uri),
];
