//! Whether a target account lets us in, and only as it should.

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use slipway_domain::entrance::{RoleFault, RoleSeen};
use slipway_domain::names::StackName;
use slipway_domain::session_policy::{CLEANUP_ROLE, Cleanup, Purpose, SERVICE_ROLE, cleanup_policy, session_policy};

use super::{Stack, Targets, Visit};
use crate::error::{AwsError, Kind, sort};

/// The stack of setup/roles.yaml: SharedServiceRole may look at it, a session that is narrowed to another stack may not.
const ROLES_STACK: &str = "slipway-roles";
/// Something that does no harm, and that none of the roles is for.
const BEYOND_CALL: &str = "s3:ListAllMyBuckets";
/// The session policy for that alone.
const BEYOND: &str =
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:ListAllMyBuckets","Resource":"*"}}"#;

impl Targets {
    /// The roles that functions assume in the target account, tried with sessions that are narrowed to `stack`, which does not exist, and
    /// with one that asks for more than the role should have.
    ///
    /// # Errors
    /// [`AwsError`], where it could not be found out.
    pub async fn entrance(&self, visit: &Visit<'_>, stack: &StackName) -> Result<Vec<RoleSeen>, AwsError> {
        let policy = session_policy(Purpose::Look, visit.target, stack);
        let mut roles = vec![self.role(visit, SERVICE_ROLE, policy, Some(stack)).await?];
        if let Some(policy) = cleanup_policy(Cleanup::Bucket(stack.as_str()), visit.target) {
            roles.push(self.role(visit, CLEANUP_ROLE, policy, None).await?);
        }
        Ok(roles)
    }

    async fn role(
        &self,
        visit: &Visit<'_>,
        role: &'static str,
        policy: String,
        stack: Option<&StackName>,
    ) -> Result<RoleSeen, AwsError> {
        let mut faults = Vec::new();
        match refused(self.assume(visit, role, policy.clone(), Some(&self.external_id)).await)? {
            Err(denied) => faults.push(RoleFault::NotLetIn { why: denied.to_string() }),
            Ok(credentials) => {
                if let Some(name) = stack {
                    let client = aws_sdk_cloudformation::Client::new(&self.as_session(visit, credentials));
                    let stack = Stack { client, name: name.clone(), target: visit.target.clone() };
                    if let Err(denied) = refused(stack.describe(None).await)? {
                        faults.push(RoleFault::KeptFrom { why: denied.to_string() });
                    }
                    if refused(stack.describe(Some(ROLES_STACK)).await)?.is_ok() {
                        let call = format!("cloudformation:DescribeStacks of {ROLES_STACK}");
                        faults.push(RoleFault::Reaches { call });
                    }
                }
                // A session that is narrowed to what the role should not have shows whether it has that.
                let wider = self.assume(visit, role, BEYOND.to_owned(), Some(&self.external_id)).await?;
                let buckets = aws_sdk_s3::Client::new(&self.as_session(visit, wider)).list_buckets().send().await;
                if refused(buckets.map_err(|error| sort(BEYOND_CALL, &error)))?.is_ok() {
                    faults.push(RoleFault::Reaches { call: BEYOND_CALL.to_owned() });
                }
            }
        }
        if refused(self.assume(visit, role, policy, None).await)?.is_ok() {
            faults.push(RoleFault::WithoutExternalId);
        }
        Ok(RoleSeen { role: role.to_owned(), faults })
    }

    fn as_session(&self, visit: &Visit<'_>, credentials: Credentials) -> aws_config::SdkConfig {
        let region = aws_config::Region::new(visit.target.region.to_string());
        let provider = SharedCredentialsProvider::new(credentials);
        self.config.clone().into_builder().credentials_provider(provider).region(region).build()
    }
}

/// What was allowed, or what was denied; any other error is no answer.
fn refused<T>(tried: Result<T, AwsError>) -> Result<Result<T, AwsError>, AwsError> {
    match tried {
        Ok(allowed) => Ok(Ok(allowed)),
        Err(error) if error.kind == Kind::Denied => Ok(Err(error)),
        Err(error) => Err(error),
    }
}
