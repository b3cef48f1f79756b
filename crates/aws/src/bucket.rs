//! Slipway's bucket: bundles, artifacts, releases, reviews and events.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{AwsError, Kind, sort};

/// How long a presigned upload may begin, in seconds.
const UPLOAD_SECONDS: u64 = 15 * 60;

/// Slipway's bucket.
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
        match self.client.head_object().bucket(&self.name).key(key).send().await {
            Ok(head) => Ok(Some(head.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0))),
            Err(error) => absent(sort("s3:HeadObject", &error)),
        }
    }

    /// The object at `key`, if it is there.
    ///
    /// # Errors
    /// [`AwsError`]; anything but "not found" is an error, never "absent". An object over `limit` bytes is refused.
    pub async fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>, AwsError> {
        const CALL: &str = "s3:GetObject";
        let object = match self.client.get_object().bucket(&self.name).key(key).send().await {
            Ok(object) => object,
            Err(error) => return absent(sort(CALL, &error)),
        };
        let length = object.content_length().and_then(|length| u64::try_from(length).ok());
        if length.is_none_or(|length| length > limit) {
            let message = format!("{key} has {length:?} bytes; the limit is {limit}");
            return Err(AwsError { kind: Kind::Refused, call: CALL, code: "TooLarge".into(), message });
        }
        match object.body.collect().await {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
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
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        format!("https://{}.s3.{region}.{domain}/{key}", self.name)
    }
}

fn absent<T>(error: AwsError) -> Result<Option<T>, AwsError> {
    if error.kind == Kind::NotFound { Ok(None) } else { Err(error) }
}
