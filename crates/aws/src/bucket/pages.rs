//! Memory that is filled again and again: few pages of one size.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

/// Pages of one size, each made once.
///
/// An allocator that gets so much memory back keeps some of it and takes more, so that what a process needs would grow with
/// what it moves.
#[derive(Debug)]
pub(super) struct Pages {
    /// Of a page, in bytes.
    size: usize,
    most: usize,
    kept: Mutex<Kept>,
    /// Told when a page came back, or what was cut off it is not needed any more.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    made: usize,
    /// What nobody fills: the rest of each page. Before it may lie what was cut off.
    idle: Vec<BytesMut>,
}

/// Which memory is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// What is left of a page will do.
    Any,
    Whole,
}

/// Memory to fill, which goes back once it is dropped.
#[derive(Debug)]
pub(super) struct Page {
    bytes: BytesMut,
    pages: Arc<Pages>,
}

impl Pages {
    /// At most `most` pages of `size` bytes, and one more for each that is filled while all are being filled: who fills never
    /// waits for who fills.
    pub(super) fn new(size: usize, most: usize) -> Arc<Self> {
        Arc::new(Self { size, most, kept: Mutex::default(), changed: Notify::new() })
    }

    /// Memory to fill, empty, once there is some.
    pub(super) async fn take(self: &Arc<Self>, room: Room) -> Page {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // What changes from here on is not missed.
            changed.as_mut().enable();
            if let Some(bytes) = self.try_take(room) {
                return Page { bytes, pages: Arc::clone(self) };
            }
            changed.await;
        }
    }

    fn try_take(&self, room: Room) -> Option<BytesMut> {
        let mut kept = self.kept();
        if kept.made < self.most || kept.idle.is_empty() {
            kept.made += 1;
            return Some(BytesMut::with_capacity(self.size));
        }
        let rests = kept.idle.iter().enumerate().filter(|(_, page)| room == Room::Any && page.capacity() > 0);
        let rest = rests.max_by_key(|(_, page)| page.capacity()).map(|(index, _)| index);
        let found = rest.or_else(|| kept.idle.iter_mut().position(|page| page.try_reclaim(self.size)));
        found.map(|index| kept.idle.swap_remove(index))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Page {
    /// Cuts off what was filled. The rest goes back, and all of it once nobody has what was cut off.
    pub(super) fn cut(mut self) -> Bytes {
        let wakes = Wakes(Arc::clone(&self.pages));
        Bytes::from_owner(Cut { bytes: self.bytes.split().freeze(), _last: wakes })
    }
}

impl Deref for Page {
    type Target = BytesMut;

    fn deref(&self) -> &BytesMut {
        &self.bytes
    }
}

impl DerefMut for Page {
    fn deref_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.bytes.clear();
        self.pages.kept().idle.push(std::mem::take(&mut self.bytes));
        self.pages.changed.notify_waiters();
    }
}

/// What was cut off a page. Its fields are dropped in their order: the memory is free before anyone is told.
struct Cut {
    bytes: Bytes,
    _last: Wakes,
}

impl AsRef<[u8]> for Cut {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

struct Wakes(Arc<Pages>);

impl Drop for Wakes {
    fn drop(&mut self) {
        self.0.changed.notify_waiters();
    }
}
