//! What a change can cost.

use serde::{Deserialize, Serialize};

use super::{Change, ChangeAction, Fate, NESTED_STACK, Replacement};

/// What a change can cost, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// A resource that holds data is deleted or replaced, and neither it nor a snapshot of it is kept.
    DataLoss,
    /// A resource is deleted, replaced or left alone.
    Replacement,
    /// Rights change.
    Iam,
    /// The rest.
    Other,
}

impl Risk {
    /// All of them, the worst first.
    pub const ALL: [Self; 4] = [Self::DataLoss, Self::Replacement, Self::Iam, Self::Other];

    /// As a person reads it, above the changes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DataLoss => "LOSS OF DATA",
            Self::Replacement => "Deleted or replaced",
            Self::Iam => "Rights",
            Self::Other => "Other changes",
        }
    }
}

/// Types whose deletion loses what they hold and no template brings back: data, messages, logs, backups, people's accounts,
/// and the keys that other data is encrypted with. Not those that only configure or serve such a type (a subnet group, an
/// instance of an Aurora-like cluster), whose loss can be mended by another deployment.
const HOLDS_DATA: [&str; 82] = [
    "AWS::ACMPCA::CertificateAuthority",
    "AWS::APS::Workspace",
    "AWS::AmazonMQ::Broker",
    "AWS::Backup::BackupVault",
    "AWS::Backup::LogicallyAirGappedBackupVault",
    "AWS::Cassandra::Keyspace",
    "AWS::Cassandra::Table",
    "AWS::CloudTrail::EventDataStore",
    "AWS::CodeArtifact::Domain",
    "AWS::CodeArtifact::Repository",
    "AWS::CodeCommit::Repository",
    "AWS::Cognito::IdentityPool",
    "AWS::Cognito::UserPool",
    "AWS::Cognito::UserPoolUser",
    "AWS::Connect::Instance",
    "AWS::CustomerProfiles::Domain",
    "AWS::DSQL::Cluster",
    "AWS::DocDB::DBCluster",
    "AWS::DocDBElastic::Cluster",
    "AWS::DynamoDB::GlobalTable",
    "AWS::DynamoDB::Table",
    "AWS::EC2::Instance",
    "AWS::EC2::Volume",
    "AWS::ECR::PublicRepository",
    "AWS::ECR::Repository",
    "AWS::EFS::FileSystem",
    "AWS::EMR::Cluster",
    "AWS::ElastiCache::CacheCluster",
    "AWS::ElastiCache::ReplicationGroup",
    "AWS::ElastiCache::ServerlessCache",
    "AWS::Elasticsearch::Domain",
    "AWS::Events::Archive",
    "AWS::FSx::FileSystem",
    "AWS::FSx::Snapshot",
    "AWS::FSx::Volume",
    "AWS::Glue::Database",
    "AWS::Glue::Table",
    "AWS::Grafana::Workspace",
    "AWS::HealthImaging::Datastore",
    "AWS::HealthLake::FHIRDatastore",
    "AWS::KMS::Key",
    "AWS::KMS::ReplicaKey",
    "AWS::Kendra::Index",
    "AWS::Kinesis::Stream",
    "AWS::KinesisVideo::Stream",
    "AWS::Lightsail::Bucket",
    "AWS::Lightsail::Database",
    "AWS::Lightsail::Disk",
    "AWS::Lightsail::Instance",
    "AWS::Logs::LogGroup",
    "AWS::Logs::LogStream",
    "AWS::MSK::Cluster",
    "AWS::MSK::ServerlessCluster",
    "AWS::MemoryDB::Cluster",
    "AWS::Neptune::DBCluster",
    "AWS::NeptuneGraph::Graph",
    "AWS::Omics::AnnotationStore",
    "AWS::Omics::ReferenceStore",
    "AWS::Omics::SequenceStore",
    "AWS::Omics::VariantStore",
    "AWS::OpenSearchServerless::Collection",
    "AWS::OpenSearchService::Domain",
    "AWS::QLDB::Ledger",
    "AWS::RDS::DBCluster",
    "AWS::RDS::DBInstance",
    "AWS::Redshift::Cluster",
    "AWS::RedshiftServerless::Namespace",
    "AWS::S3::Bucket",
    "AWS::S3Express::DirectoryBucket",
    "AWS::S3Outposts::Bucket",
    "AWS::S3Tables::Table",
    "AWS::S3Tables::TableBucket",
    "AWS::S3Vectors::Index",
    "AWS::S3Vectors::VectorBucket",
    "AWS::SDB::Domain",
    "AWS::SQS::Queue",
    "AWS::SageMaker::Domain",
    "AWS::SageMaker::FeatureGroup",
    "AWS::SecretsManager::Secret",
    "AWS::Timestream::Database",
    "AWS::Timestream::InfluxDBInstance",
    "AWS::Timestream::Table",
];

/// Whether the deletion of a resource of this type loses what no template brings back.
#[must_use]
pub(crate) fn holds_data(resource_type: &str) -> bool {
    HOLDS_DATA.contains(&resource_type)
}

/// Types that are rights. One that ends in `::` stands for the whole service.
const IS_RIGHTS: [&str; 35] = [
    "AWS::ACMPCA::Permission",
    "AWS::Cognito::IdentityPoolRoleAttachment",
    "AWS::DSQL::ResourcePolicy",
    "AWS::ECR::RegistryPolicy",
    "AWS::EventSchemas::RegistryPolicy",
    "AWS::Events::EventBusPolicy",
    "AWS::IAM::",
    "AWS::Kinesis::ResourcePolicy",
    "AWS::LakeFormation::DataLakeSettings",
    "AWS::LakeFormation::Permissions",
    "AWS::LakeFormation::PrincipalPermissions",
    "AWS::Lambda::LayerVersionPermission",
    "AWS::Lambda::Permission",
    "AWS::Lambda::Url",
    "AWS::Logs::ResourcePolicy",
    "AWS::MSK::ClusterPolicy",
    "AWS::OpenSearchServerless::AccessPolicy",
    "AWS::Organizations::Policy",
    "AWS::Organizations::ResourcePolicy",
    "AWS::RAM::",
    "AWS::RolesAnywhere::",
    "AWS::S3::AccessGrant",
    "AWS::S3::AccessPoint",
    "AWS::S3::BucketPolicy",
    "AWS::S3Express::BucketPolicy",
    "AWS::S3Outposts::BucketPolicy",
    "AWS::S3Tables::TableBucketPolicy",
    "AWS::SNS::TopicInlinePolicy",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueueInlinePolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::SSM::ResourcePolicy",
    "AWS::SSO::",
    "AWS::SecretsManager::ResourcePolicy",
    "AWS::VpcLattice::AuthPolicy",
];

/// Properties, of whatever type, whose change changes who may do what: policies, and the role that something works with.
const GRANTS: [&str; 21] = [
    "AccessPolicies",
    "AccessPolicy",
    "AssumeRolePolicyDocument",
    "AuthorizationType",
    "BucketPolicy",
    "ExecutionRoleArn",
    "FileSystemPolicy",
    "IamInstanceProfile",
    "KeyPolicy",
    "ManagedPolicyArns",
    "PermissionsBoundary",
    "PermissionsPolicyDocument",
    "Policies",
    "Policy",
    "PolicyDocument",
    "PublicAccessBlockConfiguration",
    "RepositoryPolicyText",
    "ResourcePolicy",
    "Role",
    "RoleArn",
    "TaskRoleArn",
];

/// What `change` can cost; `inside` is the worst that happens in it, if it is a nested stack and that is known.
pub(super) fn of(change: &Change, inside: Option<Risk>) -> Risk {
    let kind = change.resource_type.as_str();
    let goes = match change.action {
        ChangeAction::Remove | ChangeAction::Dynamic => true,
        ChangeAction::Modify => change.replacement != Replacement::No,
        ChangeAction::Add | ChangeAction::Import | ChangeAction::Sync => false,
    };
    let kept = matches!(change.fate, Some(Fate::Kept | Fate::Snapshot));
    let nested = kind == NESTED_STACK;
    if goes && !kept && (holds_data(kind) || (nested && inside == Some(Risk::DataLoss))) {
        return Risk::DataLoss;
    }
    // Inside a nested stack that cannot be seen, anything may be deleted; not in one that is only made.
    if goes || (nested && change.unseen.is_some() && change.action != ChangeAction::Add) {
        return Risk::Replacement;
    }
    let is_rights = IS_RIGHTS.iter().any(|known| kind == *known || (known.ends_with("::") && kind.starts_with(known)));
    let grants = change.action == ChangeAction::Modify
        && change.properties.iter().any(|property| {
            let name = property.path.strip_prefix("/Properties/").and_then(|path| path.split('/').next());
            name.is_some_and(|name| GRANTS.contains(&name))
        });
    if is_rights || grants { Risk::Iam } else { Risk::Other }
}
