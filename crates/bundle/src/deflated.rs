//! Deflates many files on all cores, and gives the results one after another.
//!
//! Threads take jobs, and the caller takes what they made in the order that it is written in. What depends on timing is
//! only how far the threads are ahead: the bytes do not.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::num::NonZero;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use flate2::{Compress, Compression, FlushCompress, Status};
use libdeflater::{CompressionLvl, Compressor};

use crate::tree::{Origin, Place};
use crate::walk::reading_again;
use crate::{BundleError, Entry};

/// Up to so many bytes a file is deflated as one, by libdeflate. Why so: docs/adr/0007-deflate.md.
const WHOLE_BYTES: u64 = 32 * 1024 * 1024;
/// libdeflate's level.
const WHOLE_LEVEL: i32 = 1;
/// A larger one is deflated in blocks of so many, by zlib, whose blocks can be joined.
const BLOCK_BYTES: u64 = 4 * 1024 * 1024;
/// zlib's level.
const BLOCK_LEVEL: u32 = 3;
/// A block is tried by samples of so many bytes, of which one in so many is looked at.
const SAMPLE_BYTES: usize = 16 * 1024;
const SAMPLE_STEP: usize = 32;
/// What takes long is begun early, so that no thread is left alone with it at the end.
const LARGE_BYTES: u64 = 1024 * 1024;

/// A thread takes as many small jobs as have so many bytes at once, each counted with some bytes more.
const TAKEN_BYTES: u64 = 256 * 1024;
const TASK_BYTES: u64 = 4 * 1024;

/// Bytes in memory that are being deflated, or wait to be written.
const AHEAD_BYTES: u64 = 96 * 1024 * 1024;
/// How many of them may be for what is begun early.
const EARLY_BYTES: u64 = 64 * 1024 * 1024;
/// Compressed bytes that are kept because the same content comes again.
const KEPT_BYTES: u64 = 96 * 1024 * 1024;

/// A file to deflate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'t> {
    pub(crate) entry: &'t Entry,
    pub(crate) origin: &'t Origin,
    /// It is not deflated after all.
    pub(crate) as_it_is: bool,
}

impl Part<'_> {
    /// In how many pieces it comes.
    pub(crate) fn blocks(&self) -> u64 {
        let whole = if self.as_it_is { BLOCK_BYTES } else { WHOLE_BYTES };
        if self.entry.size <= whole { 1 } else { self.entry.size.div_ceil(BLOCK_BYTES) }
    }

    /// Requires the content to be what it was when it was hashed.
    pub(crate) fn check(&self, crc: u32) -> Result<(), BundleError> {
        if crc == self.origin.crc { Ok(()) } else { Err(self.changed()) }
    }

    fn changed(&self) -> BundleError {
        BundleError::Changed { path: self.entry.path.clone() }
    }
}

/// A file's compressed content, or a block of it.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) data: Vec<u8>,
    /// Whether `data` is deflated; otherwise it is the content as it is.
    pub(crate) deflated: bool,
    /// Of the content.
    pub(crate) crc: u32,
    /// Bytes of the content.
    pub(crate) size: u64,
}

/// One piece to make.
#[derive(Debug)]
struct Job {
    /// Which part it is of.
    part: usize,
    /// Where in the file it begins.
    offset: u64,
    size: u64,
    /// The part has one piece.
    whole: bool,
    /// The first job with the same content.
    same_as: usize,
    /// How many later jobs have the same content.
    later: usize,
}

impl Job {
    /// Bytes in memory while it is done: what is read, and at most as many deflated.
    fn cost(&self) -> u64 {
        2 * self.size
    }
}

fn plan(parts: &[Part<'_>]) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::with_capacity(parts.len());
    let mut first = HashMap::with_capacity(parts.len());
    for (part, of) in parts.iter().enumerate() {
        let blocks = of.blocks();
        let same_as = *first.entry((&of.entry.sha256, of.as_it_is)).or_insert(jobs.len());
        for block in 0..blocks {
            let offset = block * BLOCK_BYTES;
            let size = if blocks == 1 { of.entry.size } else { BLOCK_BYTES.min(of.entry.size - offset) };
            let same_as = same_as + usize::try_from(block).unwrap_or_default();
            jobs.push(Job { part, offset, size, whole: blocks == 1, same_as, later: 0 });
        }
    }
    let mut later = vec![0; jobs.len()];
    for job in jobs.iter_mut().rev() {
        if let Some(count) = later.get_mut(job.same_as) {
            job.later = *count;
            *count += 1;
        }
    }
    jobs
}

/// What comes out, in order.
pub(crate) struct Deflated<'q> {
    queue: &'q Queue<'q>,
    made: Receiver<Result<Vec<Made>, BundleError>>,
    /// Made before their turn.
    early: HashMap<usize, Made>,
    /// By the first job with that content: the piece, and how often it comes again.
    kept: HashMap<usize, (Arc<Piece>, usize)>,
    next: usize,
}

/// A job that is done.
struct Made {
    number: usize,
    /// The piece comes again.
    keep: bool,
    piece: Piece,
}

/// A job that is begun.
struct Task<'j> {
    number: usize,
    job: &'j Job,
    /// What it makes comes again, and is kept.
    keep: bool,
}

impl Deflated<'_> {
    /// Deflates `parts` while `take` takes the pieces of each.
    pub(crate) fn of<T>(
        parts: &[Part<'_>],
        take: impl FnOnce(&mut Deflated<'_>) -> Result<T, BundleError>,
    ) -> Result<T, BundleError> {
        let jobs = plan(parts);
        let queue = Queue::new(&jobs);
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(jobs.len());
        let (sender, made) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..threads {
                let (queue, sender) = (&queue, sender.clone());
                scope.spawn(move || work(parts, queue, &sender));
            }
            drop(sender);
            // Whatever becomes of this, the threads end.
            let _stop = Stop(&queue);
            take(&mut Deflated { queue: &queue, made, early: HashMap::new(), kept: HashMap::new(), next: 0 })
        })
    }

    /// The next piece of the part whose turn it is.
    pub(crate) fn next(&mut self) -> Result<Arc<Piece>, BundleError> {
        let Some(job) = self.queue.jobs.get(self.next) else { return Err(ended()) };
        let number = self.next;
        self.next += 1;
        if let Some((piece, uses)) = self.kept.get_mut(&job.same_as) {
            let piece = Arc::clone(piece);
            *uses -= 1;
            let dropped = if *uses == 0 { piece.data.len() as u64 } else { 0 };
            if *uses == 0 {
                self.kept.remove(&job.same_as);
            }
            self.queue.taken(0, dropped);
            return Ok(piece);
        }
        let made = loop {
            if let Some(made) = self.early.remove(&number) {
                break made;
            }
            let made = self.made.recv().map_err(|_| ended())??;
            self.early.extend(made.into_iter().map(|made| (made.number, made)));
        };
        let piece = Arc::new(made.piece);
        if made.keep {
            self.kept.insert(job.same_as, (Arc::clone(&piece), job.later));
        }
        self.queue.taken(piece.data.len() as u64, 0);
        Ok(piece)
    }
}

fn ended() -> BundleError {
    BundleError::io("deflating")(io::Error::other("a thread ended before its work did"))
}

/// What is to be done, and how much memory it may take.
struct Queue<'j> {
    jobs: &'j [Job],
    /// Numbers of jobs. Same content is in the same of these two.
    small: Vec<usize>,
    large: Vec<usize>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How many of each are begun.
    small: usize,
    large: usize,
    /// The job whose turn it is to be written.
    turn: usize,
    /// Bytes of jobs that are begun and not yet written.
    ahead: u64,
    /// Bytes that are kept for later jobs of the same content.
    kept: u64,
    /// Their first jobs.
    keeping: HashSet<usize>,
    /// How many threads wait for memory.
    waiting: usize,
    stopped: bool,
}

impl<'j> Queue<'j> {
    fn new(jobs: &'j [Job]) -> Self {
        let (large, small) =
            jobs.iter().enumerate().map(|(number, _)| number).partition(|&number| is_large(jobs, number));
        Self { jobs, small, large, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next jobs to do: some small ones, or a large one. Waits until there is memory for one. Nothing when all are
    /// begun.
    fn take(&self) -> Vec<Task<'j>> {
        let mut tasks = Vec::new();
        let mut bytes = 0;
        let mut state = self.lock();
        while bytes < TAKEN_BYTES && !state.stopped {
            if let Some(task) = self.next(&mut state) {
                if let Some(task) = task {
                    bytes += task.job.size + TASK_BYTES;
                    tasks.push(task);
                }
            } else if !tasks.is_empty() || (state.large == self.large.len() && state.small == self.small.len()) {
                break;
            } else {
                state.waiting += 1;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.waiting -= 1;
            }
        }
        tasks
    }

    /// Begins one more job, as far as there is memory. `Some(None)` for one whose content another job makes.
    fn next(&self, state: &mut State) -> Option<Option<Task<'j>>> {
        let large = self.large.get(state.large).map(|&number| (number, EARLY_BYTES, true));
        let small = self.small.get(state.small).map(|&number| (number, AHEAD_BYTES, false));
        for (number, most, large) in [large, small].into_iter().flatten() {
            let job = self.jobs.get(number)?;
            let known = state.keeping.contains(&job.same_as);
            // The one whose turn it is must not wait for others to be written.
            if !known && number != state.turn && state.ahead + job.cost() > most {
                continue;
            }
            *(if large { &mut state.large } else { &mut state.small }) += 1;
            if known {
                return Some(None);
            }
            state.ahead += job.cost();
            let keep = job.later > 0 && state.kept + job.size <= KEPT_BYTES;
            if keep {
                state.kept += job.size;
                state.keeping.insert(job.same_as);
            }
            return Some(Some(Task { number, job, keep }));
        }
        None
    }

    /// Jobs are done: they hold less memory from now on.
    fn made(&self, tasks: &[Task<'_>], pieces: &[Piece]) {
        let mut state = self.lock();
        for (task, piece) in tasks.iter().zip(pieces) {
            let bytes = piece.data.len() as u64;
            state.ahead = state.ahead + bytes - task.job.cost();
            if task.keep {
                state.kept = state.kept + bytes - task.job.size;
            }
        }
        self.wake(state);
    }

    /// A piece's turn is over: `ahead` bytes that waited are written, and `kept` ones will not come again.
    fn taken(&self, ahead: u64, kept: u64) {
        let mut state = self.lock();
        state.turn += 1;
        state.ahead -= ahead;
        state.kept -= kept;
        self.wake(state);
    }

    /// Lets those look again that wait for memory.
    fn wake(&self, state: MutexGuard<'_, State>) {
        let waiting = state.waiting;
        drop(state);
        if waiting > 0 {
            self.changed.notify_all();
        }
    }
}

fn is_large(jobs: &[Job], number: usize) -> bool {
    jobs.get(number).is_some_and(|job| job.size >= LARGE_BYTES)
}

/// When it goes, nothing more is begun.
struct Stop<'q>(&'q Queue<'q>);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.stopped = true;
        self.0.wake(state);
    }
}

/// What a thread does.
fn work(parts: &[Part<'_>], queue: &Queue<'_>, made: &Sender<Result<Vec<Made>, BundleError>>) {
    // When this thread has nothing more to begin, no other has. And if it fails, they must not wait for it.
    let _stop = Stop(queue);
    let mut deflater = Deflater::new();
    loop {
        let tasks = queue.take();
        let pieces = tasks.iter().map(|task| {
            let part = parts.get(task.job.part).ok_or_else(ended)?;
            deflater.piece(part, task.job)
        });
        let result = pieces.collect::<Result<Vec<_>, _>>().map(|pieces| {
            queue.made(&tasks, &pieces);
            tasks.iter().zip(pieces).map(|(task, piece)| Made { number: task.number, keep: task.keep, piece }).collect()
        });
        if tasks.is_empty() || made.send(result).is_err() {
            return;
        }
    }
}

/// Deflates one piece after another, with one state and one pair of buffers for all.
struct Deflater {
    whole: Compressor,
    blocks: Compress,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Deflater {
    fn new() -> Self {
        Self {
            whole: Compressor::new(CompressionLvl::new(WHOLE_LEVEL).unwrap_or_default()),
            blocks: Compress::new(Compression::new(BLOCK_LEVEL), false),
            input: Vec::new(),
            output: Vec::new(),
        }
    }

    fn piece(&mut self, part: &Part<'_>, job: &Job) -> Result<Piece, BundleError> {
        let path = &part.entry.path;
        let size = usize::try_from(job.size).map_err(|_| part.changed())?;
        let last = job.offset + job.size == part.entry.size;
        let content = match &part.origin.place {
            Place::File(real) => {
                // One byte more tells whether the file has grown.
                let wanted = size + usize::from(last);
                if self.input.len() < wanted {
                    self.input.resize(wanted, 0);
                }
                let buffer = self.input.get_mut(..wanted).unwrap_or_default();
                let read = File::open(real).and_then(|mut file| {
                    if job.offset > 0 {
                        file.seek(SeekFrom::Start(job.offset))?;
                    }
                    read_some(&mut file, buffer)
                });
                if read.map_err(reading_again(path))? != size {
                    return Err(part.changed());
                }
                buffer.get(..size).unwrap_or_default()
            }
            Place::Memory(bytes) => {
                let start = usize::try_from(job.offset).map_err(|_| part.changed())?;
                bytes.get(start..start + size).ok_or_else(|| part.changed())?
            }
        };
        let crc = crc32fast::hash(content);
        let deflated = if part.as_it_is {
            None
        } else if job.whole {
            deflate(&mut self.whole, content, &mut self.output)
        } else if is_worth_it(&mut self.whole, content, &mut self.output) {
            Some(
                deflate_block(&mut self.blocks, content, last)
                    .map_err(BundleError::io(format!("deflating `{path}`")))?,
            )
        } else {
            Some(store_block(content, last))
        };
        let piece = match deflated {
            Some(data) => Piece { data, deflated: true, crc, size: job.size },
            None => Piece { data: content.to_vec(), deflated: false, crc, size: job.size },
        };
        // What a large file needed is not held while there are small ones.
        for buffer in [&mut self.input, &mut self.output] {
            if buffer.len() as u64 > LARGE_BYTES {
                *buffer = Vec::new();
            }
        }
        Ok(piece)
    }
}

/// `None` when the deflated bytes would not be fewer.
fn deflate(compressor: &mut Compressor, content: &[u8], output: &mut Vec<u8>) -> Option<Vec<u8>> {
    let most = content.len().checked_sub(1)?;
    if output.len() < most {
        output.resize(most, 0);
    }
    let size = compressor.deflate_compress(content, output.get_mut(..most)?).ok()?;
    Some(output.get(..size)?.to_vec())
}

/// Whether a block gets smaller, by samples: zlib takes longest with what does not.
fn is_worth_it(compressor: &mut Compressor, content: &[u8], output: &mut Vec<u8>) -> bool {
    content.chunks(SAMPLE_BYTES).step_by(SAMPLE_STEP).any(|sample| {
        let deflated = deflate(compressor, sample, output).map_or(sample.len(), |data| data.len());
        // At least by one in 32.
        deflated + sample.len() / 32 < sample.len()
    })
}

/// A part of a stream with the content as it is: blocks without compression (RFC 1951, section 3.2.4).
fn store_block(content: &[u8], last: bool) -> Vec<u8> {
    let mut data = Vec::with_capacity(content.len() + content.len() / 8192 + 8);
    let chunks = content.chunks(usize::from(u16::MAX));
    let count = chunks.len();
    for (number, chunk) in (1..).zip(chunks) {
        let length = u16::try_from(chunk.len()).unwrap_or(u16::MAX);
        data.push(u8::from(last && number == count));
        data.extend(length.to_le_bytes());
        data.extend((!length).to_le_bytes());
        data.extend_from_slice(chunk);
    }
    data
}

/// Deflates a part of a stream: each ends at a whole byte, so that they can be joined.
fn deflate_block(compress: &mut Compress, content: &[u8], last: bool) -> io::Result<Vec<u8>> {
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    let mut data = Vec::with_capacity(content.len() / 2);
    compress.reset();
    loop {
        let used = usize::try_from(compress.total_in()).unwrap_or(content.len());
        let status = compress.compress_vec(content.get(used..).unwrap_or_default(), &mut data, flush)?;
        // A flush is over when it leaves room.
        let flushed = compress.total_in() == content.len() as u64 && data.len() < data.capacity();
        if matches!(status, Status::StreamEnd) || (!last && flushed) {
            data.shrink_to_fit();
            return Ok(data);
        }
        data.reserve(64 * 1024);
    }
}

/// Fills the buffer, as far as the file goes.
pub(crate) fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
