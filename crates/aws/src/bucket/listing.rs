//! What is in a bucket, object by object, and what goes.

use aws_sdk_s3::primitives::ByteStream;
use jiff::Timestamp;

use super::Bucket;
use crate::error::{AwsError, sort};

/// An object, as a listing tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// When it was written, at the latest: S3 tells it in whole seconds.
    pub written: Timestamp,
}

/// A part of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// At most a thousand, in the order of their keys.
    pub objects: Vec<Listed>,
    /// Where the listing goes on.
    pub next: Option<String>,
}

/// A document, and the mark of the very content that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its ETag.
    pub tag: String,
}

impl Bucket {
    /// The objects whose keys begin with `prefix`, from `page` on.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn list(&self, prefix: &str, page: Option<String>) -> Result<Page, AwsError> {
        const CALL: &str = "s3:ListObjectsV2";
        let request = self.client.list_objects_v2().bucket(&self.name).prefix(prefix).set_continuation_token(page);
        let answer = request.send().await.map_err(|error| sort(CALL, &error))?;
        let listed = |object: aws_sdk_s3::types::Object| {
            let written = object.last_modified.and_then(|at| Timestamp::from_second(at.secs() + 1).ok())?;
            Some(Listed { key: object.key?, written })
        };
        let objects = answer.contents.unwrap_or_default().into_iter().map(|object| {
            listed(object).ok_or_else(|| AwsError::unexpected(CALL, "an object without a key or a time is listed"))
        });
        let next = answer.next_continuation_token.filter(|_| answer.is_truncated == Some(true));
        Ok(Page { objects: objects.collect::<Result<_, _>>()?, next })
    }

    /// Deletes the object at `key`. In a bucket with versions its last one is kept, and can be brought back:
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeletingObjectVersions.html>.
    ///
    /// # Errors
    /// [`AwsError`]; that it is not there is none.
    pub async fn remove(&self, key: &str) -> Result<(), AwsError> {
        let sent = self.client.delete_object().bucket(&self.name).key(key).send().await;
        sent.map(drop).map_err(|error| sort("s3:DeleteObject", &error))
    }

    /// The object at `key`, if it is there, to be written again with [`Bucket::put_over`].
    ///
    /// # Errors
    /// [`AwsError`]; anything but "not found" is an error, never "absent". An object over `limit` bytes is refused.
    pub async fn get_tagged(&self, key: &str, limit: u64) -> Result<Option<Tagged>, AwsError> {
        let Some((bytes, tag)) = self.read(key, limit).await? else { return Ok(None) };
        let tag = tag.ok_or_else(|| AwsError::unexpected("s3:GetObject", format!("{key} has no ETag")))?;
        Ok(Some(Tagged { bytes, tag }))
    }

    /// Writes the object at `key` over what was `read` there; over nothing, if there was nothing.
    ///
    /// # Errors
    /// [`AwsError`], with [`crate::Kind::Conflict`] when something else is there:
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>.
    pub async fn put_over(&self, key: &str, bytes: Vec<u8>, read: Option<&str>) -> Result<(), AwsError> {
        let put = self.client.put_object().bucket(&self.name).key(key).body(ByteStream::from(bytes));
        let put = match read {
            Some(tag) => put.if_match(tag),
            None => put.if_none_match("*"),
        };
        put.send().await.map(drop).map_err(|error| sort("s3:PutObject", &error))
    }
}
