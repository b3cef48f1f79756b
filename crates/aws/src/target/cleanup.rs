//! What is in the way of a stack's deletion, and what is left after it, reached with SharedCleanupRole narrowed to exactly that.

use aws_sdk_s3::types as s3;
use slipway_domain::session_policy::{CLEANUP_ROLE, Cleanup, LOG_GROUPS_AT_ONCE, cleanup_policy};

use super::{Targets, Visit};
use crate::error::{AwsError, Kind, sort};

/// How many images one BatchDeleteImage takes
/// (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchDeleteImage.html>).
const IMAGES_AT_ONCE: i32 = 100;

/// What came of taking a page of things out of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// It is gone: somebody deleted it.
    Gone,
    /// Nothing is in it.
    Empty,
    /// There may be more in it.
    Emptied,
}

impl Targets {
    /// A configuration with the rights of `cleanup` and nothing else.
    async fn cleaner(&self, visit: &Visit<'_>, cleanup: Cleanup<'_>) -> Result<aws_config::SdkConfig, AwsError> {
        let policy = cleanup_policy(cleanup, visit.target).ok_or_else(|| AwsError {
            kind: Kind::Denied,
            call: "sts:AssumeRole",
            code: "NotCleanedUp".to_owned(),
            message: format!("there is no cleaning up of {cleanup:?} in account {}", visit.target.account),
        })?;
        let credentials = self.enter(visit, CLEANUP_ROLE, policy).await?;
        let provider = aws_credential_types::provider::SharedCredentialsProvider::new(credentials);
        let region = aws_config::Region::new(visit.target.region.to_string());
        Ok(self.config.clone().into_builder().credentials_provider(provider).region(region).build())
    }

    /// The bucket `name`, to be emptied.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn bucket<'n>(&self, visit: &Visit<'_>, name: &'n str) -> Result<BucketToEmpty<'n>, AwsError> {
        let config = self.cleaner(visit, Cleanup::Bucket(name)).await?;
        // A region's virtual hosts need DNS that the embedded AWS has not; a path works on both.
        let config = aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build();
        Ok(BucketToEmpty { client: aws_sdk_s3::Client::from_conf(config), name, no_uploads: false })
    }

    /// The repository of images `name`, to be emptied.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn repository<'n>(&self, visit: &Visit<'_>, name: &'n str) -> Result<RepositoryToEmpty<'n>, AwsError> {
        let config = self.cleaner(visit, Cleanup::Repository(name)).await?;
        Ok(RepositoryToEmpty { client: aws_sdk_ecr::Client::new(&config), name })
    }

    /// Which of the log groups `names` there are.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn log_groups(&self, visit: &Visit<'_>, names: &[String]) -> Result<Vec<String>, AwsError> {
        let mut there = Vec::new();
        for names in names.chunks(LOG_GROUPS_AT_ONCE) {
            let config = self.cleaner(visit, Cleanup::LogGroups { names, delete: false }).await?;
            let client = aws_sdk_cloudwatchlogs::Client::new(&config);
            for name in names {
                // Unlike DescribeLogGroups, this is a right on the one group.
                let sent = client.describe_log_streams().log_group_name(name).limit(1).send().await;
                match sent.map_err(|error| sort("logs:DescribeLogStreams", &error)) {
                    Ok(_) => there.push(name.clone()),
                    Err(error) if error.code == NO_GROUP => {}
                    Err(error) => return Err(error.about(name)),
                }
            }
        }
        Ok(there)
    }

    /// Deletes the log groups `names`; those that are gone already are as good.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn delete_log_groups(&self, visit: &Visit<'_>, names: &[String]) -> Result<(), AwsError> {
        for names in names.chunks(LOG_GROUPS_AT_ONCE) {
            let config = self.cleaner(visit, Cleanup::LogGroups { names, delete: true }).await?;
            let client = aws_sdk_cloudwatchlogs::Client::new(&config);
            for name in names {
                let sent = client.delete_log_group().log_group_name(name).send().await;
                match sent.map_err(|error| sort("logs:DeleteLogGroup", &error)) {
                    Ok(_) => {}
                    Err(error) if error.code == NO_GROUP => {}
                    Err(error) => return Err(error.about(name)),
                }
            }
        }
        Ok(())
    }
}

/// What CloudWatch Logs says of a group that is not there.
const NO_GROUP: &str = "ResourceNotFoundException";

/// A bucket that is emptied: of versions, delete markers and unfinished uploads.
#[derive(Debug)]
pub struct BucketToEmpty<'n> {
    client: aws_sdk_s3::Client,
    name: &'n str,
    /// Whether no upload is left.
    no_uploads: bool,
}

impl BucketToEmpty<'_> {
    /// Takes a page of things out of it, at most a thousand.
    ///
    /// # Errors
    /// [`AwsError`]; the first object that S3 does not delete ends it.
    pub async fn page(&mut self) -> Result<Page, AwsError> {
        // What is deleted is not listed any more: the first page always is the next one.
        let emptied = match self.no_uploads {
            false => self.abort_uploads().await,
            true => Ok(0),
        };
        let emptied = match emptied {
            Ok(0) => {
                self.no_uploads = true;
                self.delete_versions().await
            }
            aborted => aborted,
        };
        match emptied {
            Ok(0) => Ok(Page::Empty),
            Ok(_) => Ok(Page::Emptied),
            Err(error) if error.code == "NoSuchBucket" => Ok(Page::Gone),
            Err(error) => Err(error.about(self.name)),
        }
    }

    /// Aborts a page of uploads that nobody finished. How many.
    async fn abort_uploads(&self) -> Result<usize, AwsError> {
        let listed = self.client.list_multipart_uploads().bucket(self.name).send().await;
        let listed = listed.map_err(|error| sort("s3:ListMultipartUploads", &error))?;
        for upload in listed.uploads() {
            let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
            let sent = self.client.abort_multipart_upload().bucket(self.name).key(key).upload_id(id).send().await;
            match sent.map_err(|error| sort("s3:AbortMultipartUpload", &error)) {
                Ok(_) => {}
                Err(error) if error.code == "NoSuchUpload" => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listed.uploads().len())
    }

    /// Deletes a page of versions and delete markers. How many.
    async fn delete_versions(&self) -> Result<usize, AwsError> {
        const DELETE: &str = "s3:DeleteObjects";
        let listed = self.client.list_object_versions().bucket(self.name).send().await;
        let listed = listed.map_err(|error| sort("s3:ListObjectVersions", &error))?;
        let versions = listed.versions().iter().map(|version| (version.key(), version.version_id()));
        let markers = listed.delete_markers().iter().map(|marker| (marker.key(), marker.version_id()));
        let objects = versions.chain(markers).filter_map(|(key, version)| {
            s3::ObjectIdentifier::builder().key(key?).set_version_id(version.map(str::to_owned)).build().ok()
        });
        let objects: Vec<_> = objects.collect();
        if objects.is_empty() {
            return Ok(0);
        }
        let count = objects.len();
        let delete = s3::Delete::builder().set_objects(Some(objects)).quiet(true).build();
        let delete = delete.map_err(|error| AwsError::unexpected(DELETE, error.to_string()))?;
        let sent = self.client.delete_objects().bucket(self.name).delete(delete).send().await;
        let answer = sent.map_err(|error| sort(DELETE, &error))?;
        match answer.errors().first() {
            None => Ok(count),
            // An object that is locked, or that a bucket policy keeps, is a person's.
            Some(refused) => {
                let code = refused.code().unwrap_or("Refused").to_owned();
                let kind = match code.as_str() {
                    "AccessDenied" => Kind::Denied,
                    "SlowDown" => Kind::Throttled,
                    "InternalError" | "ServiceUnavailable" => Kind::Unavailable,
                    _ => Kind::Refused,
                };
                let (key, message) = (refused.key().unwrap_or_default(), refused.message().unwrap_or_default());
                Err(AwsError { kind, call: DELETE, code, message: format!("{key}: {message}") })
            }
        }
    }
}

/// A repository of images that is emptied.
#[derive(Debug)]
pub struct RepositoryToEmpty<'n> {
    client: aws_sdk_ecr::Client,
    name: &'n str,
}

impl RepositoryToEmpty<'_> {
    /// Takes a page of images out of it, at most a hundred.
    ///
    /// # Errors
    /// [`AwsError`]; a page of which ECR deletes nothing ends it.
    pub async fn page(&self) -> Result<Page, AwsError> {
        match self.delete_images().await {
            Ok(page) => Ok(page),
            Err(error) if error.code == "RepositoryNotFoundException" => Ok(Page::Gone),
            Err(error) => Err(error.about(self.name)),
        }
    }

    async fn delete_images(&self) -> Result<Page, AwsError> {
        const DELETE: &str = "ecr:BatchDeleteImage";
        let listed = self.client.list_images().repository_name(self.name).max_results(IMAGES_AT_ONCE).send().await;
        let listed = listed.map_err(|error| sort("ecr:ListImages", &error))?;
        let images = listed.image_ids.unwrap_or_default();
        if images.is_empty() {
            return Ok(Page::Empty);
        }
        let request = self.client.batch_delete_image().repository_name(self.name).set_image_ids(Some(images));
        let answer = request.send().await.map_err(|error| sort(DELETE, &error))?;
        // An image that a list of images names goes after that list: as long as some go, the others follow.
        match answer.failures().first() {
            Some(failure) if answer.image_ids().is_empty() => {
                let code = failure.failure_code().map(|code| code.as_str().to_owned()).unwrap_or_default();
                let message = failure.failure_reason().unwrap_or("no reason was given").to_owned();
                Err(AwsError { kind: Kind::Refused, call: DELETE, code, message })
            }
            Some(_) | None => Ok(Page::Emptied),
        }
    }
}
