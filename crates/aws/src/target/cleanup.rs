//! What is in the way of a stack's deletion, and what is left after it, reached with SharedCleanupRole narrowed to exactly that.

use std::time::Duration;

use aws_sdk_s3::types as s3;
use slipway_domain::session_policy::{CLEANUP_ROLE, Cleanup, LOG_GROUPS_AT_ONCE, cleanup_policy};
use tokio::time::Instant;

use super::{Targets, Visit};
use crate::error::{AwsError, Kind, sort};

/// How many images one BatchDeleteImage takes
/// (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchDeleteImage.html>).
const IMAGES_AT_ONCE: i32 = 100;

/// How long an invocation may go on with emptying: a step's work ends well before its function's time does.
#[derive(Debug, Clone, Copy)]
pub struct Room(Instant);

impl Room {
    /// From now on.
    #[must_use]
    pub fn of(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// Whether there is no time for another page.
    #[must_use]
    pub fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

/// How far the emptying of something came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emptied {
    /// It is gone: somebody deleted it.
    Gone,
    /// Nothing is in it now; so many things were.
    All(u64),
    /// The time is over; so many things are out of it.
    Some(u64),
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

    /// Takes everything out of the bucket `name`: versions, delete markers, unfinished uploads.
    ///
    /// # Errors
    /// [`AwsError`]; the first object that S3 does not delete ends it.
    pub async fn empty_bucket(&self, visit: &Visit<'_>, name: &str, room: Room) -> Result<Emptied, AwsError> {
        let config = self.cleaner(visit, Cleanup::Bucket(name)).await?;
        // A region's virtual hosts need DNS that the embedded AWS has not; a path works on both.
        let config = aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build();
        let bucket = Bucket { client: aws_sdk_s3::Client::from_conf(config), name };
        let mut out = 0;
        for part in [Part::Uploads, Part::Versions] {
            loop {
                // What is deleted is not listed any more: the first page always is the next one.
                let page = match part {
                    Part::Uploads => bucket.abort_uploads().await,
                    Part::Versions => bucket.delete_versions().await,
                };
                match page {
                    Ok(0) => break,
                    Ok(deleted) => out += deleted,
                    Err(error) if error.code == "NoSuchBucket" => return Ok(Emptied::Gone),
                    Err(error) => return Err(error.about(name)),
                }
                if room.is_over() {
                    return Ok(Emptied::Some(out));
                }
            }
        }
        Ok(Emptied::All(out))
    }

    /// Takes every image out of the repository `name`.
    ///
    /// # Errors
    /// [`AwsError`]; the first image that ECR does not delete ends it.
    pub async fn empty_repository(&self, visit: &Visit<'_>, name: &str, room: Room) -> Result<Emptied, AwsError> {
        const LIST: &str = "ecr:ListImages";
        const DELETE: &str = "ecr:BatchDeleteImage";
        let client = aws_sdk_ecr::Client::new(&self.cleaner(visit, Cleanup::Repository(name)).await?);
        let gone = |error: AwsError| match error.code.as_str() {
            "RepositoryNotFoundException" => Ok(Emptied::Gone),
            _ => Err(error.about(name)),
        };
        let mut out = 0;
        loop {
            let listed = client.list_images().repository_name(name).max_results(IMAGES_AT_ONCE).send().await;
            let images = match listed.map_err(|error| sort(LIST, &error)) {
                Ok(listed) => listed.image_ids.unwrap_or_default(),
                Err(error) => return gone(error),
            };
            if images.is_empty() {
                return Ok(Emptied::All(out));
            }
            let sent = client.batch_delete_image().repository_name(name).set_image_ids(Some(images)).send().await;
            let answer = match sent.map_err(|error| sort(DELETE, &error)) {
                Ok(answer) => answer,
                Err(error) => return gone(error),
            };
            // An image that a list of images names goes after the list; one that is gone is as good.
            let deleted = answer.image_ids().len();
            if let (0, Some(failure)) = (deleted, answer.failures().first()) {
                let code = failure.failure_code().map(|code| code.as_str().to_owned()).unwrap_or_default();
                let message = failure.failure_reason().unwrap_or("no reason was given").to_owned();
                return Err(AwsError { kind: Kind::Refused, call: DELETE, code, message }.about(name));
            }
            out += deleted as u64;
            if room.is_over() {
                return Ok(Emptied::Some(out));
            }
        }
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

/// What is in a bucket.
#[derive(Debug, Clone, Copy)]
enum Part {
    Uploads,
    Versions,
}

struct Bucket<'a> {
    client: aws_sdk_s3::Client,
    name: &'a str,
}

impl Bucket<'_> {
    /// Aborts a page of uploads that nobody finished. How many.
    async fn abort_uploads(&self) -> Result<u64, AwsError> {
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
        Ok(listed.uploads().len() as u64)
    }

    /// Deletes a page of versions and delete markers, at most a thousand. How many.
    async fn delete_versions(&self) -> Result<u64, AwsError> {
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
        let count = objects.len() as u64;
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
