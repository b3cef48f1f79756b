//! Which of many objects are there, and that they stay for a while.

use aws_sdk_s3::types::MetadataDirective;
use jiff::Timestamp;
use tokio::task::JoinSet;

use super::Bucket;
use crate::error::{AwsError, Kind, sort};

/// How many objects are asked about at once.
const AT_ONCE: usize = 32;

/// An object that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present {
    /// Its size in bytes.
    pub size: u64,
    /// When it was written; nothing where S3 does not tell.
    pub written: Option<Timestamp>,
}

impl Bucket {
    /// What S3 tells of each object that is there, in the order of `keys`.
    ///
    /// # Errors
    /// [`AwsError`]; anything but "not found" is an error, never "absent".
    pub async fn present(&self, keys: &[String]) -> Result<Vec<Option<Present>>, AwsError> {
        each(keys, "s3:HeadObject", |key| {
            let bucket = self.clone();
            async move {
                Ok(bucket.head(&key).await?.map(|head| Present {
                    size: head.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0),
                    written: head.last_modified().and_then(|at| Timestamp::from_second(at.secs()).ok()),
                }))
            }
        })
        .await
    }

    /// The size in bytes of each object that is there, in the order of `keys`.
    ///
    /// # Errors
    /// [`AwsError`]; anything but "not found" is an error, never "absent".
    pub async fn sizes(&self, keys: &[String]) -> Result<Vec<Option<u64>>, AwsError> {
        let present = self.present(keys).await?;
        Ok(present.into_iter().map(|present| present.map(|present| present.size)).collect())
    }

    /// Writes objects again as they are, so that they are young; those that are gone stay gone. In a bucket with versions that makes
    /// another one. An object may have 5 GiB: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn renew(&self, keys: &[String]) -> Result<(), AwsError> {
        const CALL: &str = "s3:CopyObject";
        let renewed = each(keys, CALL, |key| {
            let bucket = self.clone();
            async move {
                let source = format!("{}/{key}", bucket.name);
                let copy = bucket.client.copy_object().bucket(&bucket.name).key(&key).copy_source(source);
                // S3 copies nothing onto itself unless it is told what else becomes different.
                let sent = copy.metadata_directive(MetadataDirective::Replace).send().await;
                match sent.map_err(|error| sort(CALL, &error)) {
                    Ok(_) => Ok(Some(())),
                    Err(error) if error.kind == Kind::NotFound => Ok(None),
                    Err(error) => Err(error),
                }
            }
        });
        renewed.await.map(drop)
    }
}

/// Does `one` with each of `keys`, several at once: what came of it, in their order.
async fn each<T: Send + 'static, F: Future<Output = Result<Option<T>, AwsError>> + Send + 'static>(
    keys: &[String],
    call: &'static str,
    one: impl Fn(String) -> F,
) -> Result<Vec<Option<T>>, AwsError> {
    let mut all: Vec<Option<T>> = keys.iter().map(|_| None).collect();
    let mut asked: JoinSet<(usize, Result<Option<T>, AwsError>)> = JoinSet::new();
    let mut keys = keys.iter().cloned().enumerate();
    loop {
        while asked.len() < AT_ONCE {
            let Some((index, key)) = keys.next() else { break };
            let told = one(key);
            asked.spawn(async move { (index, told.await) });
        }
        match asked.join_next().await {
            None => return Ok(all),
            Some(Ok((index, told))) => {
                if let Some(known) = all.get_mut(index) {
                    *known = told?;
                }
            }
            Some(Err(ended)) => return Err(AwsError::unexpected(call, ended.to_string())),
        }
    }
}
