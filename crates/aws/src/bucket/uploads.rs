//! Many uploads at once, with bounded memory, behind blocking `Write`.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{ConfigBag, Intercept, RequestChecksumCalculation, RuntimeComponents, SharedInterceptor};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, ServerSideEncryption};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{JoinError, JoinSet};

use super::address;
use super::pages::{Page, Pages, Room};
use crate::error::{AwsError, Kind, sort};

const PUT: &str = "s3:PutObject";
const CREATE: &str = "s3:CreateMultipartUpload";
const PART: &str = "s3:UploadPart";
const COMPLETE: &str = "s3:CompleteMultipartUpload";
const ABORT: &str = "s3:AbortMultipartUpload";

/// The size of a part, in bytes, unless it is said otherwise. S3 takes 10,000 parts, so an object may have 78 GiB:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// The smallest part that S3 takes, but for the last one, in bytes (the same page).
const LEAST_PART_BYTES: usize = 5 * 1024 * 1024;
/// How much memory they take, in bytes, unless it is said otherwise.
const MEMORY_BYTES: usize = 5 * PART_BYTES;
/// How many requests are made at once.
const REQUESTS: usize = 16;

/// How objects are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadOptions {
    /// The objects' own metadata (`x-amz-meta-…`).
    pub metadata: BTreeMap<String, String>,
    /// The KMS key, by id or ARN, that S3 encrypts them with; `None` leaves it to the bucket's default.
    pub kms_key_id: Option<String>,
    /// What larger objects are cut into, in bytes: at least 5 MiB; 8 MiB by default.
    pub part_bytes: usize,
    /// How much memory what is written and on its way takes, in bytes: at least two parts; 40 MiB by default.
    pub memory_bytes: usize,
}

impl Default for UploadOptions {
    fn default() -> Self {
        let (part_bytes, memory_bytes) = (PART_BYTES, MEMORY_BYTES);
        Self { metadata: BTreeMap::new(), kms_key_id: None, part_bytes, memory_bytes }
    }
}

impl UploadOptions {
    /// As little memory as there can be: one part is on its way while the next is filled.
    #[must_use]
    pub fn lean() -> Self {
        Self { part_bytes: LEAST_PART_BYTES, memory_bytes: 2 * LEAST_PART_BYTES, ..Self::default() }
    }
}

/// Many uploads at once.
///
/// An object of up to a part is one request, and a larger one is sent in parts while it is written. At most 16 requests are made
/// at once. It takes as much memory as the options say, or a part for each open [`Upload`] if that is more.
///
/// The first error ends all of it: what is open or on its way is aborted, and whoever writes on gets that error.
/// [`Uploads::done`] waits for all that, so it is called also after an error of one's own. Dropped without it, what is not
/// in S3 yet is given up in the background.
#[derive(Debug)]
pub struct Uploads {
    shared: Arc<Shared>,
}

/// One object that is being written. It is there once it is finished, and whole: dropped before, nothing appears at its key.
///
/// Writing blocks, and so belongs into [`tokio::task::spawn_blocking`] or a thread of one's own. Errors of S3 come as
/// [`io::Error`]s with the [`AwsError`] in them: see [`AwsError::from_io`].
///
/// # Panics
/// Writing and finishing panic where a runtime's own threads run async code: they must not block.
#[derive(Debug)]
pub struct Upload {
    shared: Arc<Shared>,
    key: String,
    /// What is not handed over yet: at most a part. Nothing was written yet without one.
    page: Option<Page>,
    /// Where a multipart upload takes its parts from.
    parts: Option<mpsc::UnboundedSender<Part>>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    bucket: String,
    options: UploadOptions,
    runtime: Handle,
    pages: Arc<Pages>,
    requests: Arc<Semaphore>,
    state: watch::Sender<State>,
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Debug, Clone)]
enum State {
    Open,
    /// What is finished will be in S3; nothing more is taken.
    Closing,
    /// The first error.
    Failed(AwsError),
}

impl State {
    fn has_failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

/// Bytes that were handed over.
#[derive(Debug)]
struct Part {
    bytes: ByteStream,
    last: bool,
}

impl Uploads {
    pub(super) fn new(client: Client, bucket: String, options: UploadOptions) -> Self {
        let part_bytes = options.part_bytes.max(LEAST_PART_BYTES);
        let memory_bytes = options.memory_bytes.max(2 * part_bytes);
        let options = UploadOptions { part_bytes, memory_bytes, ..options };
        let shared = Shared {
            client,
            bucket,
            runtime: Handle::current(),
            pages: Pages::new(part_bytes, memory_bytes / part_bytes),
            options,
            requests: Arc::new(Semaphore::new(REQUESTS)),
            state: watch::Sender::new(State::Open),
            tasks: Mutex::new(JoinSet::new()),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Begins to write the object at `key`. Nothing is sent before there is more than a part of it, or it is finished.
    #[must_use = "an upload that is dropped is aborted"]
    pub fn begin(&self, key: &str) -> Upload {
        Upload { shared: Arc::clone(&self.shared), key: key.to_owned(), page: None, parts: None }
    }

    /// Hands over a whole object from memory, in one request. It waits until that can be made, but not until the object is in
    /// S3: [`Uploads::done`] does.
    ///
    /// # Errors
    /// [`AwsError`]: that of whichever upload failed first.
    pub async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), AwsError> {
        let request = self.shared.first_request().await?;
        self.shared.spawn_put(key.to_owned(), bytes.into(), request);
        Ok(())
    }

    /// Waits until every object that was finished is in S3, and every other one aborted.
    ///
    /// # Errors
    /// [`AwsError`]: that of whichever upload failed first. The others were aborted then.
    pub async fn done(self) -> Result<(), AwsError> {
        self.shared.state.send_if_modified(|state| match state {
            State::Open => {
                *state = State::Closing;
                true
            }
            State::Closing | State::Failed(_) => false,
        });
        let mut tasks = std::mem::take(&mut *self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                self.shared.fail(stopped(&error));
            }
        }
        match &*self.shared.state.borrow() {
            State::Open | State::Closing => Ok(()),
            State::Failed(error) => Err(error.clone()),
        }
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        self.shared.fail(given_up());
    }
}

impl Upload {
    /// Hands over what is left. It does not wait until the object is in S3: [`Uploads::done`] does.
    ///
    /// # Errors
    /// The [`AwsError`] of whichever upload failed first, in an [`io::Error`].
    pub fn finish(mut self) -> io::Result<()> {
        self.shared.check()?;
        self.hand_over(true)
    }

    fn hand_over(&mut self, last: bool) -> io::Result<()> {
        let bytes: ByteStream = self.page.take().map(Page::cut).unwrap_or_default().into();
        if last && self.parts.is_none() {
            let request = self.shared.runtime.block_on(self.shared.first_request())?;
            self.shared.spawn_put(std::mem::take(&mut self.key), bytes, request);
            return Ok(());
        }
        let parts = self.parts.get_or_insert_with(|| {
            let (parts, taken) = mpsc::unbounded_channel();
            self.shared.spawn_multipart(std::mem::take(&mut self.key), taken);
            parts
        });
        parts.send(Part { bytes, last }).map_err(|_| self.shared.error().into())
    }

    /// The page to write into. It has room for at least a byte.
    fn page(&mut self) -> io::Result<&mut Page> {
        let room = if self.parts.is_some() || self.page.is_some() { Room::Whole } else { Room::Any };
        let full = self.page.take_if(|page| page.len() == page.capacity());
        let mut page = match self.page.take() {
            Some(page) => page,
            None => self.shared.runtime.block_on(self.shared.page(room))?,
        };
        if let Some(full) = full {
            // It began in what was left of one.
            page.extend_from_slice(&full);
        }
        Ok(self.page.insert(page))
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.shared.check()?;
        if bytes.is_empty() {
            return Ok(0);
        }
        let part = self.shared.options.part_bytes;
        if self.page.as_ref().is_some_and(|page| page.len() == part) {
            self.hand_over(false)?;
        }
        let page = self.page()?;
        let taken = bytes.len().min(part.min(page.capacity()) - page.len());
        page.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Does nothing but tell of an error: only a whole part can be sent.
    fn flush(&mut self) -> io::Result<()> {
        self.shared.check().map_err(Into::into)
    }
}

impl Shared {
    /// Fails once something failed.
    fn check(&self) -> Result<(), AwsError> {
        match &*self.state.borrow() {
            State::Open => Ok(()),
            State::Closing => Err(given_up()),
            State::Failed(error) => Err(error.clone()),
        }
    }

    /// Why nothing more is taken.
    fn error(&self) -> AwsError {
        self.check().err().unwrap_or_else(given_up)
    }

    /// Ends all uploads, if `error` is the first one.
    fn fail(&self, error: AwsError) {
        self.state.send_if_modified(|state| {
            let first = !state.has_failed();
            if first {
                *state = State::Failed(error);
            }
            first
        });
    }

    /// What S3 answered about `key`. All uploads end by it before anything else happens, so that who writes sees this error.
    fn failed(&self, key: &str, error: AwsError) -> AwsError {
        let error = error.about(&address(&self.bucket, key));
        self.fail(error.clone());
        error
    }

    /// The first error, once there is one.
    async fn failure(&self) -> AwsError {
        // The lock in what it gives must be free again before error() takes it.
        drop(self.state.subscribe().wait_for(State::has_failed).await);
        self.error()
    }

    /// Waits until nothing more is taken.
    async fn closed(&self) {
        drop(self.state.subscribe().wait_for(|state| !matches!(state, State::Open)).await);
    }

    /// Waits for memory.
    async fn page(&self, room: Room) -> Result<Page, AwsError> {
        tokio::select! {
            biased;
            error = self.failure() => Err(error),
            page = self.pages.take(room) => Ok(page),
        }
    }

    /// Waits until one more request may be made.
    async fn request(&self) -> Result<OwnedSemaphorePermit, AwsError> {
        Arc::clone(&self.requests).acquire_owned().await.map_err(|_| self.error())
    }

    /// The same for a whole object, which none is made for once something failed: what is on its way ends then.
    async fn first_request(&self) -> Result<OwnedSemaphorePermit, AwsError> {
        let request = self.request().await?;
        self.check()?;
        Ok(request)
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn_on(work, &self.runtime);
    }

    fn spawn_put(self: &Arc<Self>, key: String, bytes: ByteStream, request: OwnedSemaphorePermit) {
        let shared = Arc::clone(self);
        self.spawn(async move {
            tokio::select! {
                biased;
                _ = shared.failure() => {}
                // A failure is kept where all see it.
                _ = shared.put(&key, bytes) => {}
            }
            drop(request);
        });
    }

    fn spawn_multipart(self: &Arc<Self>, key: String, parts: mpsc::UnboundedReceiver<Part>) {
        let shared = Arc::clone(self);
        self.spawn(async move { shared.multipart(&Arc::from(key), parts).await });
    }

    async fn put(&self, key: &str, bytes: ByteStream) -> Result<(), AwsError> {
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .set_metadata(self.metadata())
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(self.options.kms_key_id.clone())
            .body(bytes);
        let sent = request.customize().config_override(self.sending()).send().await;
        sent.map(drop).map_err(|error| self.failed(key, sort(PUT, &error)))
    }

    /// A multipart upload from its beginning to its end, whichever that is.
    async fn multipart(self: &Arc<Self>, key: &Arc<str>, mut parts: mpsc::UnboundedReceiver<Part>) {
        // Never left halfway: an upload whose id is not known cannot be aborted.
        let Ok(id) = self.create(key).await else { return };
        let mut sending = JoinSet::new();
        let sent = tokio::select! {
            biased;
            error = self.failure() => Err(error),
            sent = self.send_parts(key, &id, &mut parts, &mut sending) => sent,
        };
        // No part may follow the abort.
        sending.shutdown().await;
        let complete = match sent {
            Ok(Some(parts)) => self.complete(key, &id, parts).await.is_ok(),
            Ok(None) | Err(_) => false,
        };
        if !complete {
            self.abort(key, &id).await;
        }
    }

    async fn create(&self, key: &str) -> Result<Arc<str>, AwsError> {
        let _request = self.request().await?;
        let created = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .set_metadata(self.metadata())
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(self.options.kms_key_id.clone())
            .set_checksum_algorithm(self.checksum())
            .send()
            .await;
        let created = created.map_err(|error| sort(CREATE, &error));
        let id = created.and_then(|created| {
            created.upload_id.ok_or_else(|| AwsError::unexpected(CREATE, "S3 answered without an upload id"))
        });
        id.map(Arc::from).map_err(|error| self.failed(key, error))
    }

    /// Sends the parts as they come. `None`: the upload was dropped, or was open when it was too late to finish it.
    async fn send_parts(
        self: &Arc<Self>,
        key: &Arc<str>,
        id: &Arc<str>,
        parts: &mut mpsc::UnboundedReceiver<Part>,
        sending: &mut JoinSet<Result<CompletedPart, AwsError>>,
    ) -> Result<Option<Vec<CompletedPart>>, AwsError> {
        let mut sent = Vec::new();
        let mut number = 0;
        let mut last = false;
        loop {
            tokio::select! {
                // What was handed over before the end counts.
                biased;
                part = parts.recv(), if !last => {
                    let Some(part) = part else { return Ok(None) };
                    last = part.last;
                    number += 1;
                    let (shared, key, id) = (Arc::clone(self), Arc::clone(key), Arc::clone(id));
                    sending.spawn(async move { shared.send_part(&key, &id, number, part).await });
                }
                Some(ended) = sending.join_next() => {
                    sent.push(ended.map_err(|error| self.failed(key, stopped(&error)))??);
                }
                () = self.closed(), if !last => return Ok(None),
                else => break,
            }
        }
        sent.sort_by_key(CompletedPart::part_number);
        Ok(Some(sent))
    }

    async fn send_part(&self, key: &str, id: &str, number: i32, part: Part) -> Result<CompletedPart, AwsError> {
        let _request = self.request().await?;
        let request =
            self.client.upload_part().bucket(&self.bucket).key(key).upload_id(id).part_number(number).body(part.bytes);
        let sent = request.customize().config_override(self.sending()).send().await;
        let sent = sent.map_err(|error| self.failed(key, sort(PART, &error)))?;
        let completed = CompletedPart::builder().part_number(number);
        Ok(completed.set_e_tag(sent.e_tag).set_checksum_crc32(sent.checksum_crc32).build())
    }

    async fn complete(&self, key: &str, id: &str, parts: Vec<CompletedPart>) -> Result<(), AwsError> {
        let _request = self.request().await?;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.client.complete_multipart_upload().bucket(&self.bucket).key(key).upload_id(id);
        let sent = request.multipart_upload(parts).send().await;
        sent.map(drop).map_err(|error| self.failed(key, sort(COMPLETE, &error)))
    }

    /// Parts that stay behind cost money, so this is not allowed to fail quietly.
    async fn abort(&self, key: &str, id: &str) {
        let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(key).upload_id(id);
        if let Err(error) = request.send().await.map_err(|error| sort(ABORT, &error))
            && error.kind != Kind::NotFound
        {
            self.failed(key, error);
        }
    }

    fn metadata(&self) -> Option<HashMap<String, String>> {
        let metadata = &self.options.metadata;
        (!metadata.is_empty()).then(|| metadata.clone().into_iter().collect())
    }

    fn encryption(&self) -> Option<ServerSideEncryption> {
        self.options.kms_key_id.as_ref().map(|_| ServerSideEncryption::AwsKms)
    }

    /// How bodies are sent. A part may take long on a slow line: there is no deadline, but the SDK still ends a
    /// request whose bytes do not move.
    fn sending(&self) -> aws_sdk_s3::config::Builder {
        let timeouts = TimeoutConfig::builder().disable_operation_timeout().disable_operation_attempt_timeout().build();
        let mut sending = aws_sdk_s3::config::Builder::new().timeout_config(timeouts);
        if self.checksum().is_some() {
            sending.push_interceptor(SharedInterceptor::new(UnsignedOverTls));
        }
        sending
    }

    /// The checksum that the SDK gives each part, unless it was told not to: S3 wants to know it beforehand.
    fn checksum(&self) -> Option<ChecksumAlgorithm> {
        let wanted = self.client.config().request_checksum_calculation();
        (wanted != Some(&RequestChecksumCalculation::WhenRequired)).then_some(ChecksumAlgorithm::Crc32)
    }
}

/// Over TLS, a body is not hashed once more for the signature: that is most of what an upload costs, and Lambda's smallest
/// sizes have little CPU. TLS keeps others out, and S3 checks the CRC-32, whose header is signed.
/// Over plain HTTP the signature covers the body.
#[derive(Debug)]
struct UnsignedOverTls;

impl Intercept for UnsignedOverTls {
    fn name(&self) -> &'static str {
        "UnsignedOverTls"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if context.request().uri().starts_with("https:") {
            config.interceptor_state().store_put(PayloadSigningOverride::unsigned_payload());
        }
        Ok(())
    }
}

fn given_up() -> AwsError {
    let message = "the upload was not finished before the others were done".to_owned();
    AwsError { kind: Kind::Refused, call: PUT, code: "GivenUp".to_owned(), message }
}

fn stopped(error: &JoinError) -> AwsError {
    AwsError::unexpected(PUT, format!("an upload was stopped: {error}"))
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
    use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};

    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    /// Notes the headers of what would be sent, and ends it there.
    #[derive(Debug, Clone, Default)]
    struct Note(Arc<Mutex<HashMap<String, String>>>);

    impl Intercept for Note {
        fn name(&self) -> &'static str {
            "Note"
        }

        fn read_after_signing(
            &self,
            context: &BeforeTransmitInterceptorContextRef<'_>,
            _components: &RuntimeComponents,
            _config: &mut ConfigBag,
        ) -> Result<(), BoxError> {
            let headers = context.request().headers().iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(headers);
            Err("noted".into())
        }
    }

    /// The SHA-256 and the CRC-32 of an upload's body, as its headers say them.
    async fn sums(endpoint: &str, checksums: RequestChecksumCalculation) -> (Option<String>, Option<String>) {
        let note = Note::default();
        let config = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("eu-central-1"))
            .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
            .endpoint_url(endpoint)
            .request_checksum_calculation(checksums)
            .interceptor(note.clone());
        let uploads = Uploads::new(Client::from_conf(config.build()), "bucket".to_owned(), UploadOptions::default());
        // Both fail: what was noted is looked at.
        let _ = uploads.put("key", b"body".to_vec()).await;
        let _ = uploads.done().await;
        let noted = note.0.lock().unwrap_or_else(PoisonError::into_inner);
        (noted.get("x-amz-content-sha256").cloned(), noted.get("x-amz-checksum-crc32").cloned())
    }

    #[tokio::test]
    async fn a_body_is_signed_or_sent_by_tls_with_a_checksum() -> Outcome {
        use RequestChecksumCalculation::{WhenRequired, WhenSupported};
        let sha = "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5";
        let crc = "26gLsg==";
        let found = |sha: &str, crc: Option<&str>| (Some(sha.to_owned()), crc.map(str::to_owned));
        assert_eq!(sums("https://localhost:1", WhenSupported).await, found("UNSIGNED-PAYLOAD", Some(crc)));
        assert_eq!(sums("http://localhost:1", WhenSupported).await, found(sha, Some(crc)));
        assert_eq!(sums("https://localhost:1", WhenRequired).await, found(sha, None));
        Ok(())
    }
}
