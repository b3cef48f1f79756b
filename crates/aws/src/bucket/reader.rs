//! Reads an object by ranges, behind blocking `Read` and `Seek`.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::pages::{Page, Pages, Room};
use crate::error::{AwsError, Kind, sort};

const CALL: &str = "s3:GetObject";
/// The first range after a seek, in bytes. Each one that follows it without a gap is twice as long.
const FIRST_BYTES: u64 = 64 * 1024;
/// The longest range, in bytes.
const LARGEST_BYTES: usize = 2 * 1024 * 1024;
/// How many ranges are fetched ahead of the one that is read.
const AHEAD: usize = 2;
/// How often the body of one range may break off before that is an error.
const BREAKS: u32 = 4;
/// How long to wait after the first break; each time twice as long.
const PAUSE: Duration = Duration::from_millis(100);

/// One exact version of an object, read by ranges.
///
/// The version is the one that was there when it was opened: what is written to the key later does not show. In a bucket
/// without versions an object that is overwritten meanwhile is an error, and so is one that is deleted.
///
/// Ranges are small after a seek, and grow and are fetched ahead while reading goes on from there. A short way forward is
/// no seek, and neither is a move within what was fetched. It holds 6 MiB at most: the range that is read and two that
/// come, of 2 MiB each.
///
/// It blocks, and so belongs into [`tokio::task::spawn_blocking`] or a thread of one's own. The runtime that opened it does
/// the work: it must still run.
///
/// # Panics
/// Reading panics where a runtime's own threads run async code: they must not block.
#[derive(Debug)]
pub struct ObjectReader {
    object: Arc<Object>,
    runtime: Handle,
    at: u64,
    /// What was fetched or is being fetched, without gaps.
    ranges: VecDeque<Range>,
    /// Where the last of them ends.
    end: u64,
    /// How long the next one will be.
    next_bytes: u64,
    /// How many may be fetched ahead as yet.
    ahead: usize,
    pages: Arc<Pages>,
}

/// What is read.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) client: Client,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) version: Version,
    pub(super) size: u64,
}

/// What names one exact content of a key.
#[derive(Debug)]
pub(super) enum Version {
    /// A version's id.
    Id(String),
    /// In a bucket without versions, the ETag that the object must still have.
    ETag(String),
}

#[derive(Debug)]
struct Range {
    start: u64,
    end: u64,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Here(Page),
    Coming(Fetch),
}

/// A fetch that ends with whoever waits for it.
#[derive(Debug)]
struct Fetch(JoinHandle<Result<Page, AwsError>>);

impl Drop for Fetch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ObjectReader {
    pub(super) fn new(object: Object) -> Self {
        Self {
            object: Arc::new(object),
            runtime: Handle::current(),
            at: 0,
            ranges: VecDeque::new(),
            end: 0,
            next_bytes: FIRST_BYTES,
            ahead: 0,
            pages: Pages::new(LARGEST_BYTES, AHEAD + 1),
        }
    }

    /// The object's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.object.size
    }

    /// Lets go of what lies behind, and begins anew after a seek to where nothing was fetched.
    fn move_on(&mut self) {
        while self.ranges.pop_front_if(|range| range.end <= self.at).is_some() {
            self.ahead = AHEAD.min(self.ahead + 1);
        }
        let goes_on = match self.ranges.front() {
            Some(range) => range.start <= self.at,
            None => (self.end..self.end + self.next_bytes).contains(&self.at),
        };
        if !goes_on {
            self.begin_anew();
        }
        if self.ranges.is_empty() {
            self.end = self.at;
        }
    }

    fn begin_anew(&mut self) {
        self.ranges.clear();
        self.next_bytes = FIRST_BYTES;
        self.ahead = 0;
    }

    fn fetch_ahead(&mut self) {
        while self.ranges.len() <= self.ahead && self.end < self.object.size {
            let start = self.end;
            self.end = self.object.size.min(start + self.next_bytes);
            self.next_bytes = (LARGEST_BYTES as u64).min(self.next_bytes * 2);
            let object = Arc::clone(&self.object);
            let (end, pages) = (self.end, Arc::clone(&self.pages));
            let fetch = async move { object.fetch(start, end, pages.take(Room::Whole).await).await };
            let fetch = Fetch(self.runtime.spawn(fetch));
            self.ranges.push_back(Range { start, end, bytes: Bytes::Coming(fetch) });
        }
    }

    /// The bytes from where it is to the end of the range that this is in.
    fn here(&mut self) -> Result<&[u8], AwsError> {
        let Some(range) = self.ranges.front_mut() else { return Ok(&[]) };
        if let Bytes::Coming(fetch) = &mut range.bytes {
            let fetched = self.runtime.block_on(&mut fetch.0);
            let stopped = |error| Err(AwsError::unexpected(CALL, format!("the fetch was stopped: {error}")));
            range.bytes = Bytes::Here(fetched.unwrap_or_else(stopped)?);
        }
        let skipped = usize::try_from(self.at - range.start).unwrap_or(usize::MAX);
        match &range.bytes {
            Bytes::Here(bytes) => Ok(bytes.get(skipped..).unwrap_or_default()),
            Bytes::Coming(_) => Ok(&[]),
        }
    }
}

impl Read for ObjectReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() || self.at >= self.object.size {
            return Ok(0);
        }
        self.move_on();
        self.fetch_ahead();
        let read = match self.here() {
            Ok(mut bytes) => bytes.read(out)?,
            Err(error) => {
                // Who tries again gets a fresh try.
                self.begin_anew();
                return Err(error.into());
            }
        };
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for ObjectReader {
    /// Costs nothing by itself. A place beyond the end is allowed, and nothing is read there.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(offset) => self.object.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = place.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a seek to before the beginning, or beyond 2^64")
        })?;
        Ok(self.at)
    }
}

impl Object {
    /// The bytes from `start` to before `end`, all of them, in `bytes`. A body that breaks off is fetched on from where it
    /// broke.
    async fn fetch(&self, start: u64, end: u64, mut bytes: Page) -> Result<Page, AwsError> {
        let length = usize::try_from(end - start).unwrap_or(usize::MAX);
        let mut breaks = 0;
        loop {
            let mut body = self.get(start + bytes.len() as u64, end).await?;
            let why = loop {
                match body.try_next().await {
                    Ok(Some(more)) if more.len() <= length - bytes.len() => bytes.extend_from_slice(&more),
                    Ok(Some(_)) => return Err(self.wrong(format!("more than the bytes {start} to {end}"))),
                    Ok(None) if bytes.len() == length => return Ok(bytes),
                    Ok(None) => break "it ended too early".to_owned(),
                    Err(error) => break crate::error::deepest(&error),
                }
            };
            if bytes.len() == length {
                // All of it, and then an error: a wrong checksum.
                bytes.clear();
            }
            if breaks == BREAKS {
                let what = format!("{}: the body broke off {} times: {why}", self.address(), breaks + 1);
                return Err(AwsError::unexpected(CALL, what));
            }
            tokio::time::sleep(PAUSE * 2_u32.pow(breaks)).await;
            breaks += 1;
        }
    }

    async fn get(&self, start: u64, end: u64) -> Result<ByteStream, AwsError> {
        let last = end - 1;
        let request = self.client.get_object().bucket(&self.bucket).key(&self.key);
        let request = request.range(format!("bytes={start}-{last}"));
        let request = match &self.version {
            Version::Id(id) => request.version_id(id),
            Version::ETag(tag) => request.if_match(tag),
        };
        let answer = request.send().await.map_err(|error| self.explain(sort(CALL, &error)))?;
        let range = answer.content_range().unwrap_or("the whole");
        if range == format!("bytes {start}-{last}/{}", self.size) {
            Ok(answer.body)
        } else {
            Err(self.wrong(format!("{range} for bytes {start}-{last} of {}", self.size)))
        }
    }

    fn address(&self) -> String {
        super::address(&self.bucket, &self.key)
    }

    fn wrong(&self, what: String) -> AwsError {
        AwsError::unexpected(CALL, format!("{}: S3 answered with {what}", self.address()))
    }

    fn explain(&self, error: AwsError) -> AwsError {
        match error.kind {
            Kind::NotFound => AwsError { message: "it was deleted while it was read".to_owned(), ..error },
            Kind::Conflict => AwsError { message: "it was overwritten while it was read".to_owned(), ..error },
            Kind::Throttled | Kind::Unavailable | Kind::Denied | Kind::Refused => error,
        }
        .about(&self.address())
    }
}
