//! A bucket: Slipway's own, with bundles, artifacts, releases, reviews and events, or the one that the command packages to.

mod listing;
mod pages;
mod presence;
mod reader;
mod uploads;

pub use listing::{Listed, Page, Tagged};
pub use presence::Present;
pub use reader::ObjectReader;
pub use uploads::{Upload, UploadOptions, Uploads};

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::reader::{Object, Version};
use crate::error::{AwsError, Kind, sort};

/// How long a presigned upload may begin, in seconds.
const UPLOAD_SECONDS: u64 = 15 * 60;
const HEAD: &str = "s3:HeadObject";
/// The code of the error of an object that is larger than it may be.
pub const TOO_LARGE: &str = "TooLarge";

/// A bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: Client,
    name: String,
}

impl Bucket {
    /// The bucket called `name`.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig, name: impl Into<String>) -> Self {
        // A region's virtual hosts need DNS that the embedded AWS has not; a path works on both.
        let config = aws_sdk_s3::config::Builder::from(config).force_path_style(true).build();
        Self { client: Client::from_conf(config), name: name.into() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The size of the object at `key` in bytes, if it is there.
    ///
    /// # Errors
    /// [`AwsError`]; anything but "not found" is an error, never "absent".
    pub async fn size(&self, key: &str) -> Result<Option<u64>, AwsError> {
        let head = self.head(key).await?;
        Ok(head.map(|head| head.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0)))
    }

    async fn head(&self, key: &str) -> Result<Option<HeadObjectOutput>, AwsError> {
        let error = match self.client.head_object().bucket(&self.name).key(key).send().await {
            Ok(head) => return Ok(Some(head)),
            Err(error) => sort(HEAD, &error),
        };
        // An answer to HEAD has no body, and so no reason.
        let message = match error.kind {
            Kind::Denied => "it takes s3:GetObject to see it, and s3:ListBucket to see that it is not there".to_owned(),
            Kind::NotFound | Kind::Throttled | Kind::Unavailable | Kind::Conflict | Kind::Refused => error.message,
        };
        absent(AwsError { message, ..error }.about(&address(&self.name, key)))
    }

    /// The object at `key` as it is now, to be read by ranges, if it is there.
    ///
    /// In a bucket with versions this reads by version, which needs the right `s3:GetObjectVersion`:
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>.
    ///
    /// # Errors
    /// [`AwsError`]; anything but "not found" is an error, never "absent".
    pub async fn open(&self, key: &str) -> Result<Option<ObjectReader>, AwsError> {
        let Some(head) = self.head(key).await? else { return Ok(None) };
        let unexpected = |what: &str| AwsError::unexpected(HEAD, what).about(&address(&self.name, key));
        let size = head.content_length.and_then(|length| u64::try_from(length).ok());
        let size = size.ok_or_else(|| unexpected("S3 answered without a size"))?;
        // "null" is what is there while versions are suspended, and is overwritten.
        let version = match (head.version_id, head.e_tag) {
            (Some(id), _) if id != "null" => Version::Id(id),
            (_, Some(tag)) => Version::ETag(tag),
            (_, None) => return Err(unexpected("S3 answered with neither a version nor an ETag")),
        };
        let (client, bucket) = (self.client.clone(), self.name.clone());
        Ok(Some(ObjectReader::new(Object { client, bucket, key: key.to_owned(), version, size })))
    }

    /// Many uploads at once, with bounded memory.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn uploads(&self, options: UploadOptions) -> Uploads {
        Uploads::new(self.client.clone(), self.name.clone(), options)
    }

    /// The object at `key`, if it is there.
    ///
    /// # Errors
    /// [`AwsError`]; anything but "not found" is an error, never "absent". An object over `limit` bytes is refused.
    pub async fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>, AwsError> {
        Ok(self.read(key, limit).await?.map(|(bytes, _)| bytes))
    }

    /// The same with its ETag.
    async fn read(&self, key: &str, limit: u64) -> Result<Option<(Vec<u8>, Option<String>)>, AwsError> {
        const CALL: &str = "s3:GetObject";
        let object = match self.client.get_object().bucket(&self.name).key(key).send().await {
            Ok(object) => object,
            Err(error) => return absent(sort(CALL, &error)),
        };
        let length = object.content_length().and_then(|length| u64::try_from(length).ok());
        if length.is_none_or(|length| length > limit) {
            let message = format!("{key} has {length:?} bytes; the limit is {limit}");
            return Err(AwsError { kind: Kind::Refused, call: CALL, code: TOO_LARGE.into(), message });
        }
        let tag = object.e_tag;
        match object.body.collect().await {
            Ok(bytes) => Ok(Some((bytes.to_vec(), tag))),
            Err(error) => Err(AwsError::unexpected(CALL, error.to_string())),
        }
    }

    /// The JSON document at `key`, if it is there.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn get_json<T: DeserializeOwned>(&self, key: &str, limit: u64) -> Result<Option<T>, AwsError> {
        let Some(bytes) = self.get(key, limit).await? else { return Ok(None) };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| AwsError::unexpected("s3:GetObject", format!("{key}: {error}")))
    }

    /// Writes the object at `key`.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), AwsError> {
        let body = ByteStream::from(bytes);
        let sent = self.client.put_object().bucket(&self.name).key(key).body(body).send().await;
        sent.map(drop).map_err(|error| sort("s3:PutObject", &error))
    }

    /// Writes a JSON document at `key`.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn put_json<T: Serialize>(&self, key: &str, document: &T) -> Result<(), AwsError> {
        let bytes = serde_json::to_vec(document)
            .map_err(|error| AwsError::unexpected("s3:PutObject", format!("{key}: {error}")))?;
        self.put(key, bytes).await
    }

    /// A URL to which exactly `bytes` bytes can be uploaded for a quarter of an hour, and the headers to send with them.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn presigned_upload(
        &self,
        key: &str,
        bytes: u64,
    ) -> Result<(String, BTreeMap<String, String>), AwsError> {
        const CALL: &str = "s3:PutObject";
        let config = PresigningConfig::expires_in(Duration::from_secs(UPLOAD_SECONDS))
            .map_err(|error| AwsError::unexpected(CALL, error.to_string()))?;
        let length = i64::try_from(bytes).unwrap_or(i64::MAX);
        let request = self.client.put_object().bucket(&self.name).key(key).content_length(length);
        let request = request.presigned(config).await.map_err(|error| sort(CALL, &error))?;
        let headers = request.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok((request.uri().to_owned(), headers))
    }

    /// The address of the object at `key` as CloudFormation takes a template's.
    #[must_use]
    pub fn https_url(&self, key: &str, region: &str) -> String {
        format!("https://{}.s3.{region}.{}/{key}", self.name, domain(region))
    }

    /// The same, with the bucket in the path, as `aws cloudformation package` writes it.
    #[must_use]
    pub fn path_url(&self, key: &str, region: &str) -> String {
        format!("https://s3.{region}.{}/{}/{key}", domain(region), self.name)
    }
}

/// AWS's domain in the partition of `region`.
fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// What an error calls an object.
fn address(bucket: &str, key: &str) -> String {
    format!("s3://{bucket}/{key}")
}

fn absent<T>(error: AwsError) -> Result<Option<T>, AwsError> {
    if error.kind == Kind::NotFound { Ok(None) } else { Err(error) }
}
