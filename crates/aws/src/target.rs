//! A stack in a target account, reached with SharedServiceRole narrowed to that one stack and one purpose.

use std::collections::{BTreeMap, BTreeSet};

use aws_credential_types::Credentials;
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types as cfn;
use aws_smithy_types::DateTime;
use jiff::Timestamp;
use slipway_domain::cause::StackEvent;
use slipway_domain::change_set::SeenStack;
use slipway_domain::deployment::{Deployment, Operation, Requester, Target};
use slipway_domain::names::{EnvironmentKey, RolledBackName, StackName};
use slipway_domain::release::ParameterValue;
use slipway_domain::repair::{self, LastRollback};
use slipway_domain::session_policy::{DEPLOYMENT_ROLE, Purpose, SERVICE_ROLE, role_arn, session_policy};
use slipway_domain::stack_status::StackStatus;
use slipway_domain::stages::OnFailure;
use slipway_domain::teardown::Then;

use crate::error::{AwsError, Kind, sort};

mod change_set;
mod cleanup;
mod entrance;
mod resources;

pub use change_set::ChangeSetDescription;
pub use cleanup::{BucketToEmpty, Page, RepositoryToEmpty};

/// How long a session lasts: a step that takes longer is dead (a Lambda function ends after 15 minutes).
const SESSION_SECONDS: i32 = 15 * 60;
/// The most pages of events, of 100 each, that one look reads.
const EVENT_PAGES: usize = 100;

/// Assumes SharedServiceRole in target accounts.
#[derive(Debug, Clone)]
pub struct Targets {
    config: aws_config::SdkConfig,
    sts: aws_sdk_sts::Client,
    external_id: String,
}

/// One stack, as one step may see it.
#[derive(Debug, Clone)]
pub struct Stack {
    client: Client,
    name: StackName,
    target: Target,
}

/// What CloudFormation says of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackDescription {
    /// Its id.
    pub id: String,
    /// Its status, as CloudFormation spells it.
    pub status: String,
    /// Its outputs.
    pub outputs: BTreeMap<String, String>,
    /// The names of its parameters.
    pub parameters: BTreeSet<String>,
    /// The names of what it exports.
    pub exports: Vec<String>,
    /// Whether CloudFormation refuses to delete it.
    pub termination_protection: bool,
}

impl StackDescription {
    /// What a rule looks at.
    #[must_use]
    pub fn seen(&self) -> SeenStack<'_> {
        SeenStack { id: &self.id, status: &self.status }
    }
}

/// What a change set is made of.
#[derive(Debug, Clone)]
pub struct NewChangeSet<'a> {
    /// Its name, which is unique.
    pub name: &'a str,
    /// Whether the stack does not exist yet.
    pub creates_stack: bool,
    /// Where the template is.
    pub template_url: &'a str,
    /// The parameters.
    pub parameters: &'a BTreeMap<String, ParameterValue>,
}

/// Who enters a target account, and what for.
#[derive(Debug, Clone)]
pub struct Visit<'a> {
    /// The session's name: at most 64 characters of `[A-Za-z0-9=,.@-]`.
    pub name: String,
    /// Where.
    pub target: &'a Target,
    /// The environment that it is about.
    pub environment: &'a EnvironmentKey,
    /// On whose behalf.
    pub behalf: Behalf<'a>,
}

/// On whose behalf a target account is entered.
#[derive(Debug, Clone, Copy)]
pub enum Behalf<'a> {
    /// Whoever asked for it, by a job.
    Requester(&'a Requester),
    /// The cleanup.
    Sweep,
    /// `slipway doctor`.
    Doctor,
}

impl Behalf<'_> {
    /// The session's SourceIdentity.
    fn identity(self) -> String {
        match self {
            Self::Requester(requester) => identity(&requester.user_login),
            Self::Sweep => "slipway-sweep".to_owned(),
            Self::Doctor => "slipway-doctor".to_owned(),
        }
    }

    /// The pipeline's number; empty where there is none.
    fn pipeline(self) -> String {
        match self {
            Self::Requester(requester) => requester.pipeline_id.to_string(),
            Self::Sweep | Self::Doctor => String::new(),
        }
    }
}

impl<'a> Visit<'a> {
    /// A step of a deployment.
    #[must_use]
    pub fn of(deployment: &'a Deployment) -> Self {
        Self {
            name: format!("slipway-{}", deployment.id),
            target: &deployment.target,
            environment: &deployment.environment,
            behalf: deployment.requester.as_ref().map_or(Behalf::Sweep, Behalf::Requester),
        }
    }
}

impl Targets {
    /// With the function's own rights, and the ExternalId that the target accounts ask for.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig, external_id: impl Into<String>) -> Self {
        Self { config: config.clone(), sts: aws_sdk_sts::Client::new(config), external_id: external_id.into() }
    }

    /// A fresh session for `purpose` on the deployment's stack. It names the user and the pipeline that asked.
    ///
    /// # Errors
    /// [`AwsError`], with [`Kind::Denied`] when the target account does not let us in.
    pub async fn stack(&self, deployment: &Deployment, purpose: Purpose<'_>) -> Result<Stack, AwsError> {
        self.stack_for(&Visit::of(deployment), &deployment.stack_name, purpose).await
    }

    /// The same for whoever has no deployment.
    ///
    /// # Errors
    /// [`AwsError`], with [`Kind::Denied`] when the target account does not let us in.
    pub async fn stack_for(
        &self,
        visit: &Visit<'_>,
        name: &StackName,
        purpose: Purpose<'_>,
    ) -> Result<Stack, AwsError> {
        let target = visit.target;
        let credentials = self.enter(visit, SERVICE_ROLE, session_policy(purpose, target, name)).await?;
        let config = aws_sdk_cloudformation::config::Builder::from(&self.config)
            .credentials_provider(credentials)
            .region(aws_config::Region::new(target.region.to_string()))
            .build();
        Ok(Stack { client: Client::from_conf(config), name: name.clone(), target: target.clone() })
    }

    /// A session of `role` in the target account, narrowed to `policy`. It names the user and the pipeline that asked.
    async fn enter(&self, visit: &Visit<'_>, role: &'static str, policy: String) -> Result<Credentials, AwsError> {
        self.assume(visit, role, policy, Some(&self.external_id)).await
    }

    async fn assume(
        &self,
        visit: &Visit<'_>,
        role: &'static str,
        policy: String,
        external_id: Option<&str>,
    ) -> Result<Credentials, AwsError> {
        const CALL: &str = "sts:AssumeRole";
        let who = visit.behalf.identity();
        let tag = |key: &str, value: String| {
            aws_sdk_sts::types::Tag::builder()
                .key(key)
                .value(value)
                .build()
                .map_err(|error| AwsError::unexpected(CALL, error.to_string()))
        };
        let session = self
            .sts
            .assume_role()
            .role_arn(role_arn(visit.target, role))
            .role_session_name(&visit.name)
            .set_external_id(external_id.map(str::to_owned))
            .source_identity(&who)
            .tags(tag("slipway:user", who.clone())?)
            .tags(tag("slipway:project", visit.environment.project.to_string())?)
            .tags(tag("slipway:pipeline", visit.behalf.pipeline())?)
            .policy(policy)
            .duration_seconds(SESSION_SECONDS)
            .send()
            .await
            .map_err(|error| sort(CALL, &error))?;
        let keys = session.credentials.ok_or_else(|| AwsError::unexpected(CALL, "no credentials"))?;
        Ok(Credentials::new(keys.access_key_id, keys.secret_access_key, Some(keys.session_token), None, role))
    }
}

/// A login as a SourceIdentity takes it: `[\w+=,.@-]{2,64}`
/// (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>).
fn identity(login: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || "_+=,.@-".contains(c) { c } else { '_' };
    format!("{:_<2}", login.chars().take(64).map(legal).collect::<String>())
}

impl Stack {
    fn deployment_role(&self) -> String {
        role_arn(&self.target, DEPLOYMENT_ROLE)
    }

    /// What there is under the stack's name, or under the id of one that may be deleted already.
    ///
    /// # Errors
    /// [`AwsError`]; anything but "does not exist" is an error, never "absent".
    pub async fn describe(&self, id: Option<&str>) -> Result<Option<StackDescription>, AwsError> {
        const CALL: &str = "cloudformation:DescribeStacks";
        let name = id.unwrap_or(self.name.as_str());
        let answer = match self.client.describe_stacks().stack_name(name).send().await {
            Ok(answer) => answer,
            Err(error) => match sort(CALL, &error) {
                error if error.kind == Kind::NotFound => return Ok(None),
                error => return Err(error),
            },
        };
        let stack = answer.stacks.unwrap_or_default().into_iter().next();
        let stack = stack.ok_or_else(|| AwsError::unexpected(CALL, "no stack, and no word that there is none"))?;
        let id = stack.stack_id.ok_or_else(|| AwsError::unexpected(CALL, "a stack without an id"))?;
        let status = stack.stack_status.ok_or_else(|| AwsError::unexpected(CALL, "a stack without a status"))?;
        let outputs = stack.outputs.unwrap_or_default();
        let exports = outputs.iter().filter_map(|output| output.export_name.clone()).collect();
        let outputs = outputs.into_iter();
        let parameters = stack.parameters.unwrap_or_default().into_iter();
        Ok(Some(StackDescription {
            id,
            status: status.as_str().to_owned(),
            outputs: outputs.filter_map(|output| output.output_key.zip(output.output_value)).collect(),
            parameters: parameters.filter_map(|parameter| parameter.parameter_key).collect(),
            exports,
            termination_protection: stack.enable_termination_protection.unwrap_or(false),
        }))
    }

    /// Makes a change set; one of that name that is there already, by an earlier try, is as good.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn create_change_set(&self, deployment: &Deployment, new: &NewChangeSet<'_>) -> Result<(), AwsError> {
        let launch = deployment.launch.as_ref();
        let parameters = new.parameters.iter().map(|(name, value)| {
            let parameter = cfn::Parameter::builder().parameter_key(name);
            match value {
                ParameterValue::Given(value) => parameter.parameter_value(value),
                ParameterValue::Previous => parameter.use_previous_value(true),
            }
            .build()
        });
        let tags = launch.map(|launch| &launch.tags).into_iter().flatten();
        let tags = tags.map(|(key, value)| cfn::Tag::builder().key(key).value(value).build());
        let capabilities = launch.map(|launch| launch.capabilities.as_slice()).unwrap_or_default();
        let mut request = self
            .client
            .create_change_set()
            .stack_name(self.name.as_str())
            .change_set_name(new.name)
            .client_token(new.name)
            .template_url(new.template_url)
            .role_arn(self.deployment_role())
            .set_parameters(Some(parameters.collect()))
            .set_tags(Some(tags.collect()))
            .set_capabilities(Some(capabilities.iter().map(|capability| capability.as_str().into()).collect()))
            .change_set_type(if new.creates_stack { cfn::ChangeSetType::Create } else { cfn::ChangeSetType::Update })
            .include_nested_stacks(true);
        let rules = &deployment.stack_rules;
        let on_failure = match rules.on_failure {
            // A protected stack whose first create fails must not stay behind in a state that only a deletion leads out of.
            OnFailure::Rollback if new.creates_stack && self.target.protected => Some(cfn::OnStackFailure::Delete),
            OnFailure::Delete if new.creates_stack => Some(cfn::OnStackFailure::Delete),
            OnFailure::Keep => Some(cfn::OnStackFailure::DoNothing),
            OnFailure::Rollback | OnFailure::Delete => None,
        };
        request = request.set_on_stack_failure(on_failure);
        let alarm = |arn| cfn::RollbackTrigger::builder().arn(arn).r#type("AWS::CloudWatch::Alarm").build();
        // Without one, CloudFormation goes on with those of the update before: an empty list takes them away.
        let rollback = cfn::RollbackConfiguration::builder()
            .set_rollback_triggers(Some(rules.rollback_alarms.iter().map(alarm).collect()))
            .monitoring_time_in_minutes(i32::try_from(rules.monitor_minutes).unwrap_or(0));
        request = request.rollback_configuration(rollback.build());
        match request.send().await.map_err(|error| sort("cloudformation:CreateChangeSet", &error)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind == Kind::Conflict => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Protects a stack as its stage says: nobody deletes it by mistake, and the stage's stack policy, if there is one, holds for
    /// its next updates.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn protect(&self, policy: Option<&str>) -> Result<(), AwsError> {
        let request = self.client.update_termination_protection().stack_name(self.name.as_str());
        let sent = request.enable_termination_protection(true).send().await;
        sent.map_err(|error| sort("cloudformation:UpdateTerminationProtection", &error))?;
        let Some(policy) = policy else { return Ok(()) };
        let sent = self.client.set_stack_policy().stack_name(self.name.as_str()).stack_policy_body(policy).send().await;
        sent.map(drop).map_err(|error| sort("cloudformation:SetStackPolicy", &error))
    }

    /// Executes a change set.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn execute(&self, change_set_arn: &str, token: &str) -> Result<(), AwsError> {
        let request = self.client.execute_change_set().stack_name(self.name.as_str()).change_set_name(change_set_arn);
        let request = request.client_request_token(token);
        request.send().await.map(drop).map_err(|error| sort("cloudformation:ExecuteChangeSet", &error))
    }

    /// Deletes a change set, by its name or ARN; one that is gone already is as good.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn delete_change_set(&self, name: &str) -> Result<(), AwsError> {
        let sent = self.client.delete_change_set().stack_name(self.name.as_str()).change_set_name(name).send().await;
        match sent.map_err(|error| sort("cloudformation:DeleteChangeSet", &error)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind == Kind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes a deployment's change set, which nobody will use, and in an ephemeral stage the empty stack that is left then. In a
    /// protected one that shell stays, and the next deployment uses it. Only who holds the lease may call it: somebody else could
    /// be about to use the shell.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn discard(&self, deployment: &Deployment) -> Result<(), AwsError> {
        self.delete_change_set(&deployment.id.change_set_name()).await?;
        if self.target.protected {
            return Ok(());
        }
        let shell = self.describe(None).await?;
        let shell = shell.filter(|shell| shell.status == StackStatus::ReviewInProgress.as_str());
        let Some(shell) = shell else { return Ok(()) };
        // Another deployment's, which waits for a person, may be in it.
        let others = self.client.list_change_sets().stack_name(&shell.id).send().await;
        let others = others.map_err(|error| sort("cloudformation:ListChangeSets", &error))?;
        // The one that was just deleted may still be listed.
        let mine = deployment.id.change_set_name();
        if others.summaries().iter().all(|other| other.change_set_name() == Some(mine.as_str())) {
            self.delete(&shell.id, &deployment.id.request_token(Operation::Delete)).await?;
        }
        Ok(())
    }

    /// Begins to delete the stack `id`.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn delete(&self, id: &str, token: &str) -> Result<(), AwsError> {
        self.delete_as(id, token, &Then::default()).await
    }

    /// The same as `then` says: without resources that it failed at before, or by force.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn delete_as(&self, id: &str, token: &str, then: &Then) -> Result<(), AwsError> {
        let request =
            self.client.delete_stack().stack_name(id).role_arn(self.deployment_role()).client_request_token(token);
        let retain = (!then.retain.is_empty()).then(|| then.retain.clone());
        let mode = then.force.then_some(cfn::DeletionMode::ForceDeleteStack);
        let request = request.set_retain_resources(retain).set_deletion_mode(mode);
        request.send().await.map(drop).map_err(|error| sort("cloudformation:DeleteStack", &error))
    }

    /// Lets the failed rollback of the stack `id` go on, without the resources `skip`.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn continue_rollback(&self, id: &str, skip: &[RolledBackName], token: &str) -> Result<(), AwsError> {
        let skip = (!skip.is_empty()).then(|| skip.iter().map(ToString::to_string).collect());
        let request = self.client.continue_update_rollback().stack_name(id).role_arn(self.deployment_role());
        let sent = request.set_resources_to_skip(skip).client_request_token(token).send().await;
        sent.map(drop).map_err(|error| sort("cloudformation:ContinueUpdateRollback", &error))
    }

    /// What the last rollback of the stack `id`, which may be a nested one, told; at most ten thousand events.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn last_rollback(&self, id: &str, nested: bool) -> Result<LastRollback, AwsError> {
        let mut events = self.events_until(id, |event| repair::begins_rollback(event, id)).await?;
        if let Some(begun) = events.iter().position(|event| repair::begins_rollback(event, id)) {
            events.truncate(begun);
        }
        Ok(LastRollback { stack_id: id.to_owned(), nested, events })
    }

    /// The stack's newest events, newest first, back to those older than `since`; at most ten thousand.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn events(&self, id: &str, since: Timestamp) -> Result<Vec<StackEvent>, AwsError> {
        let mut events = self.events_until(id, |event| event.at < since).await?;
        events.retain(|event| event.at >= since);
        Ok(events)
    }

    /// The pages of the stack's events, newest first, up to the one with the first of which `last` is true; at most ten thousand.
    async fn events_until(&self, id: &str, last: impl Fn(&StackEvent) -> bool) -> Result<Vec<StackEvent>, AwsError> {
        const CALL: &str = "cloudformation:DescribeStackEvents";
        let mut events = Vec::new();
        let mut page = None;
        for _ in 0..EVENT_PAGES {
            let answer = self.client.describe_stack_events().stack_name(id).set_next_token(page).send().await;
            let answer = match answer.map_err(|error| sort(CALL, &error)) {
                Ok(answer) => answer,
                Err(error) if error.kind == Kind::NotFound => return Ok(events),
                Err(error) => return Err(error),
            };
            let told: Vec<StackEvent> = answer.stack_events().iter().filter_map(event).collect();
            let reached = told.iter().any(&last);
            events.extend(told);
            page = answer.next_token().map(str::to_owned);
            if page.is_none() || reached {
                break;
            }
        }
        Ok(events)
    }
}

fn timestamp(at: Option<&DateTime>) -> Option<Timestamp> {
    at.and_then(|at| Timestamp::new(at.secs(), i32::try_from(at.subsec_nanos()).ok()?).ok())
}

fn event(event: &cfn::StackEvent) -> Option<StackEvent> {
    Some(StackEvent {
        id: event.event_id()?.to_owned(),
        at: timestamp(event.timestamp())?,
        logical_id: event.logical_resource_id().unwrap_or_default().to_owned(),
        physical_id: event.physical_resource_id().filter(|id| !id.is_empty()).map(str::to_owned),
        resource_type: event.resource_type().unwrap_or_default().to_owned(),
        status: event.resource_status().map(cfn::ResourceStatus::as_str).unwrap_or_default().to_owned(),
        reason: event.resource_status_reason().filter(|reason| !reason.is_empty()).map(str::to_owned),
        token: event.client_request_token().map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::identity;

    #[test]
    fn a_login_becomes_a_legal_source_identity() {
        assert_eq!(identity("dana"), "dana");
        assert_eq!(identity("d"), "d_");
        assert_eq!(identity("ä b"), "__b");
        assert_eq!(identity(&"x".repeat(300)).len(), 64);
    }
}
