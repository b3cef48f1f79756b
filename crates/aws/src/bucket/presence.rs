//! Which of many objects are there.

use tokio::task::JoinSet;

use super::Bucket;
use crate::error::AwsError;

/// How many objects are asked about at once.
const AT_ONCE: usize = 32;

impl Bucket {
    /// The size in bytes of each object that is there, in the order of `keys`.
    ///
    /// # Errors
    /// [`AwsError`]; anything but "not found" is an error, never "absent".
    pub async fn sizes(&self, keys: &[String]) -> Result<Vec<Option<u64>>, AwsError> {
        let mut sizes = vec![None; keys.len()];
        let mut asked: JoinSet<(usize, Result<Option<u64>, AwsError>)> = JoinSet::new();
        let mut keys = keys.iter().cloned().enumerate();
        loop {
            while asked.len() < AT_ONCE {
                let Some((index, key)) = keys.next() else { break };
                let bucket = self.clone();
                asked.spawn(async move { (index, bucket.size(&key).await) });
            }
            match asked.join_next().await {
                None => return Ok(sizes),
                Some(Ok((index, size))) => {
                    if let Some(known) = sizes.get_mut(index) {
                        *known = size?;
                    }
                }
                Some(Err(ended)) => return Err(AwsError::unexpected("s3:HeadObject", ended.to_string())),
            }
        }
    }
}
