//! Buckets, tried on the embedded AWS, with a proxy before it where S3 must misbehave.

mod errors;
mod proxy;
mod reading;
mod uploading;

use std::error::Error;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use slipway_aws::bucket::{Bucket, UploadOptions, Uploads};
use slipway_local::emulator::{Emulator, Options};
use slipway_local::stack::make_bucket;
use slipway_local::{LocalError, TOOLING, local_dir};
use tokio::sync::OnceCell;

use crate::proxy::{Answer, Proxy, Request};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

const MIB: usize = 1024 * 1024;

/// One emulator for all tests. Statics are not dropped: it ends because the pipe to it ends with this process.
static EMULATOR: OnceCell<Emulator> = OnceCell::const_new();
static BUCKETS: AtomicUsize = AtomicUsize::new(0);

async fn emulator() -> Result<&'static Emulator, LocalError> {
    let log = local_dir().join(format!("test-bucket-{}.log", std::process::id()));
    EMULATOR.get_or_try_init(|| Emulator::start(Options { log, ..Options::default() })).await
}

/// A bucket of a test's own, and what speaks to it.
struct Place {
    bucket: Bucket,
    /// S3 itself, for what [`Bucket`] does not do.
    s3: aws_sdk_s3::Client,
    proxy: Option<Proxy>,
}

impl Place {
    /// A bucket with versions.
    async fn versioned() -> Result<Self, Box<dyn Error + Send + Sync>> {
        let place = Self::plain().await?;
        let versions = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let asked = place.s3.put_bucket_versioning().bucket(place.bucket.name()).versioning_configuration(versions);
        asked.send().await?;
        Ok(place)
    }

    /// A bucket without versions.
    async fn plain() -> Result<Self, Box<dyn Error + Send + Sync>> {
        let config = config(emulator().await?);
        let name = format!("bucket-{}", BUCKETS.fetch_add(1, Ordering::Relaxed));
        make_bucket(&config, &name).await?;
        Ok(Self { bucket: Bucket::new(&config, name), s3: aws_sdk_s3::Client::new(&config), proxy: None })
    }

    /// The same bucket, with what `rule` says between it and S3.
    async fn behind(
        mut self,
        rule: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let aws = emulator().await?;
        let proxy = Proxy::start(aws.port(), rule).await?;
        let config = config(aws).into_builder().endpoint_url(proxy.endpoint()).build();
        self.bucket = Bucket::new(&config, self.bucket.name());
        self.proxy = Some(proxy);
        Ok(self)
    }

    /// What came through the proxy since the last look.
    fn seen(&self) -> Vec<Request> {
        self.proxy.as_ref().map(Proxy::seen).unwrap_or_default()
    }

    fn uploads(&self) -> Uploads {
        self.bucket.uploads(UploadOptions::default())
    }

    /// Writes an object the way that the crate is for.
    async fn write(&self, key: &str, content: &[u8]) -> Outcome {
        let uploads = self.uploads();
        let (mut upload, content) = (uploads.begin(key), content.to_vec());
        blocking(move || {
            upload.write_all(&content)?;
            upload.finish()
        })
        .await??;
        Ok(uploads.done().await?)
    }

    /// How many multipart uploads are neither completed nor aborted.
    async fn unfinished(&self) -> Result<usize, Box<dyn Error + Send + Sync>> {
        let listed = self.s3.list_multipart_uploads().bucket(self.bucket.name()).send().await?;
        Ok(listed.uploads().len())
    }
}

fn config(emulator: &Emulator) -> SdkConfig {
    let retries = RetryConfig::standard().with_initial_backoff(Duration::from_millis(5));
    emulator.sdk_config(TOOLING).into_builder().retry_config(retries).build()
}

/// Where blocking readers and writers belong.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// Bytes without a pattern that a wrong offset could hide in.
fn content(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let mut bytes: Vec<u8> = words.take(length.div_ceil(8)).flatten().collect();
    bytes.truncate(length);
    bytes
}
