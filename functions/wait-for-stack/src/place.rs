//! Where a resource stands in the application's templates.

use slipway_aws::bucket::Bucket;
use slipway_domain::cause::{Cause, TemplateLine};
use slipway_domain::names::Digest;
use slipway_domain::release::{MAX_MANIFEST_BYTES, Manifest, manifest_key, template_key};
use slipway_handler::Failure;
use slipway_template::{MAX_TEMPLATE_BYTES, Template};

/// The application's own template, as a path in the bundle.
const TEMPLATE: &str = "template.yaml";

/// The line of the resource of `cause` in the template of the release, or of the nested stack, that it is in. Packaging
/// replaces values, not lines, as long as a path stands on one.
pub(crate) async fn find(bucket: &Bucket, release: &Digest, cause: &Cause) -> Result<Option<TemplateLine>, Failure> {
    let manifest: Option<Manifest> = bucket.get_json(&manifest_key(release), MAX_MANIFEST_BYTES).await?;
    let Some(manifest) = manifest else { return Ok(None) };
    let (mut template, mut key) = (TEMPLATE.to_owned(), template_key(release));
    for stack in &cause.path {
        let child = manifest.artifacts.iter().find(|child| child.template == template && child.resource == *stack);
        let Some(child) = child else { return Ok(None) };
        (template, key) = (child.path.clone(), child.key.clone());
    }
    let Some(text) = bucket.get(&key, MAX_TEMPLATE_BYTES as u64).await? else { return Ok(None) };
    let Ok(parsed) = Template::parse(&text) else { return Ok(None) };
    Ok(parsed.resource_line(&cause.event.logical_id).map(|line| TemplateLine { template, line }))
}
