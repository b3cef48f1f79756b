//! What is in a stack.

use aws_sdk_cloudformation::types as cfn;
use slipway_domain::teardown::Listed;

use super::Stack;
use crate::error::{AwsError, Kind, sort};

/// The most pages of resources, of 100 each: a stack has 500 at the most
/// (<https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>), and those that are gone are listed too.
const RESOURCE_PAGES: usize = 20;
/// The most pages of stacks that import one export.
const IMPORT_PAGES: usize = 10;

impl Stack {
    /// The resources of the stack `id`, which may be a nested one, that are still there. Unlike DescribeStackResources, which ends after
    /// a hundred, this lists all.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn resources(&self, id: &str) -> Result<Vec<Listed>, AwsError> {
        const CALL: &str = "cloudformation:ListStackResources";
        let mut listed = Vec::new();
        let mut page = None;
        for _ in 0..RESOURCE_PAGES {
            let answer = self.client.list_stack_resources().stack_name(id).set_next_token(page).send().await;
            let answer = match answer.map_err(|error| sort(CALL, &error)) {
                Ok(answer) => answer,
                Err(error) if error.kind == Kind::NotFound => return Ok(listed),
                Err(error) => return Err(error),
            };
            let there = answer.stack_resource_summaries().iter().filter(|found| is_there(found.resource_status()));
            listed.extend(there.map(|found| Listed {
                logical_id: found.logical_resource_id().unwrap_or_default().to_owned(),
                physical_id: found.physical_resource_id().filter(|id| !id.is_empty()).map(str::to_owned),
                resource_type: found.resource_type().unwrap_or_default().to_owned(),
            }));
            page = answer.next_token().map(str::to_owned);
            if page.is_none() {
                return Ok(listed);
            }
        }
        Err(AwsError::unexpected(CALL, format!("more than {RESOURCE_PAGES} pages of resources")))
    }

    /// The resource `logical_id` of the stack `id` as it is now, if it is still there.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn resource(&self, id: &str, logical_id: &str) -> Result<Option<Listed>, AwsError> {
        const CALL: &str = "cloudformation:DescribeStackResource";
        let request = self.client.describe_stack_resource().stack_name(id).logical_resource_id(logical_id);
        let answer = match request.send().await.map_err(|error| sort(CALL, &error)) {
            Ok(answer) => answer,
            Err(error) if error.kind == Kind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = answer.stack_resource_detail.filter(|found| {
            found.stack_id() == Some(id)
                && is_there(found.resource_status())
                && found.logical_resource_id() == Some(logical_id)
        });
        Ok(found.map(|found| Listed {
            logical_id: logical_id.to_owned(),
            physical_id: found.physical_resource_id().filter(|id| !id.is_empty()).map(str::to_owned),
            resource_type: found.resource_type().unwrap_or_default().to_owned(),
        }))
    }

    /// The template of the stack `id` after its transforms: what CloudFormation goes by. Nothing when the stack is gone.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn template(&self, id: &str) -> Result<Option<String>, AwsError> {
        let request = self.client.get_template().stack_name(id).template_stage(cfn::TemplateStage::Processed);
        match request.send().await.map_err(|error| sort("cloudformation:GetTemplate", &error)) {
            Ok(answer) => Ok(answer.template_body),
            Err(error) if error.kind == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The stacks that import `export`.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn importers(&self, export: &str) -> Result<Vec<String>, AwsError> {
        let mut importers = Vec::new();
        let mut page = None;
        for _ in 0..IMPORT_PAGES {
            let sent = self.client.list_imports().export_name(export).set_next_token(page).send().await;
            let answer = match sent.map_err(|error| sort("cloudformation:ListImports", &error)) {
                Ok(answer) => answer,
                // That nobody does is an error to CloudFormation.
                Err(error) if error.message.contains("is not imported by any stack") => break,
                Err(error) => return Err(error),
            };
            importers.extend(answer.imports().iter().cloned());
            page = answer.next_token().map(str::to_owned);
            if page.is_none() {
                break;
            }
        }
        Ok(importers)
    }
}

/// Whether a resource in that status is there, and the stack's. What is deleted, or was left without its stack, is not the stack's any
/// more; and what could not be made, or replaced, may bear the name of somebody else's, which is why it could not.
fn is_there(status: Option<&cfn::ResourceStatus>) -> bool {
    use cfn::ResourceStatus as S;
    !matches!(
        status,
        None | Some(
            S::DeleteComplete
                | S::DeleteSkipped
                | S::CreateFailed
                | S::CreateInProgress
                | S::UpdateFailed
                | S::ImportFailed
                | S::ImportInProgress
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_made_is_not_the_stacks() {
        for status in [
            "CREATE_FAILED",
            "CREATE_IN_PROGRESS",
            "UPDATE_FAILED",
            "IMPORT_FAILED",
            "DELETE_SKIPPED",
            "DELETE_COMPLETE",
        ] {
            assert!(!is_there(Some(&status.into())), "{status}");
        }
        for status in
            ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "DELETE_FAILED", "IMPORT_COMPLETE"]
        {
            assert!(is_there(Some(&status.into())), "{status}");
        }
        assert!(!is_there(None));
    }
}
