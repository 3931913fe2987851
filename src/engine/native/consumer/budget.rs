//! The memory that fetched records may take, counted as what they unpack to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// So many deliveries are unpacked at a time ahead of the command: until one is unpacked, nobody knows how large it is.
const AT_A_TIME: usize = 2;

/// How many bytes of records are fetched and not handled.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    /// Batches as they were fetched, that wait to be unpacked.
    packed: AtomicUsize,
    /// Records that the command can handle, or does.
    unpacked: AtomicUsize,
    /// How many deliveries are being unpacked.
    unpacking: AtomicUsize,
    /// The delivery that the command waits for; 0 is none.
    awaited: AtomicU64,
    changed: Notify,
}

/// What bytes of the budget are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bytes {
    Packed,
    Unpacked,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            packed: AtomicUsize::new(0),
            unpacked: AtomicUsize::new(0),
            unpacking: AtomicUsize::new(0),
            awaited: AtomicU64::new(0),
            changed: Notify::new(),
        }
    }

    fn counter(&self, kind: Bytes) -> &AtomicUsize {
        match kind {
            Bytes::Packed => &self.packed,
            Bytes::Unpacked => &self.unpacked,
        }
    }

    pub(super) fn hold(self: &Arc<Self>, kind: Bytes, bytes: usize) -> Held {
        self.counter(kind).fetch_add(bytes, Ordering::AcqRel);
        Held { budget: self.clone(), kind, bytes, is_unpacking: false }
    }

    /// How many bytes may still be fetched.
    pub(super) fn room(&self) -> usize {
        let used = self.packed.load(Ordering::Acquire).saturating_add(self.unpacked.load(Ordering::Acquire));
        self.limit.saturating_sub(used)
    }

    /// Completes when something has changed since this was called.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// The command waits for this delivery: it is unpacked whatever else takes memory.
    pub(super) fn set_awaited(&self, delivery: Option<u64>) {
        self.awaited.store(delivery.unwrap_or(0), Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Waits until `delivery` may unpack `bytes` more, and holds them until [`Held::set`] says what they have become.
    pub(super) async fn unpack(self: &Arc<Self>, delivery: u64, bytes: usize) -> Held {
        loop {
            let changed = self.changed();
            let is_awaited = self.awaited.load(Ordering::Acquire) == delivery;
            let has_room = self.unpacked.load(Ordering::Acquire) < self.limit
                && self.unpacking.load(Ordering::Acquire) < AT_A_TIME;
            if is_awaited || has_room {
                self.unpacking.fetch_add(1, Ordering::AcqRel);
                let mut held = self.hold(Bytes::Unpacked, bytes);
                held.is_unpacking = true;
                return held;
            }
            changed.await;
        }
    }
}

/// Bytes of the budget; given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<Budget>,
    kind: Bytes,
    bytes: usize,
    is_unpacking: bool,
}

impl Held {
    /// Counts `bytes` instead; they are unpacked.
    pub(super) fn set(&mut self, bytes: usize) {
        self.end_unpacking();
        let counter = self.budget.counter(self.kind);
        counter.fetch_add(bytes, Ordering::AcqRel);
        counter.fetch_sub(self.bytes, Ordering::AcqRel);
        self.bytes = bytes;
        self.budget.changed.notify_waiters();
    }

    fn end_unpacking(&mut self) {
        if std::mem::take(&mut self.is_unpacking) {
            self.budget.unpacking.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.end_unpacking();
        self.budget.counter(self.kind).fetch_sub(self.bytes, Ordering::AcqRel);
        self.budget.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_full_budget_unpacks_what_the_command_waits_for_and_nothing_else() {
        let budget = Arc::new(Budget::new(100));
        let handled = budget.hold(Bytes::Unpacked, 100);
        assert_eq!(budget.room(), 0);
        let (mut second, mut third) = (pin!(budget.unpack(2, 50)), pin!(budget.unpack(3, 50)));
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        budget.set_awaited(Some(2));
        assert!(poll(third.as_mut()).is_pending());
        let Poll::Ready(held) = poll(second.as_mut()) else { panic!("what the command waits for is not unpacked") };
        drop(handled);
        assert_eq!(budget.room(), 50);
        assert!(poll(third.as_mut()).is_ready());
        drop(held);
    }

    #[test]
    fn few_deliveries_are_unpacked_at_a_time_besides_the_one_that_the_command_waits_for() {
        let budget = Arc::new(Budget::new(1000));
        let Poll::Ready(mut first) = poll(pin!(budget.unpack(1, 10)).as_mut()) else { panic!("the first waits") };
        let Poll::Ready(second) = poll(pin!(budget.unpack(2, 10)).as_mut()) else { panic!("the second waits") };
        let (mut third, mut fourth) = (pin!(budget.unpack(3, 10)), pin!(budget.unpack(4, 10)));
        assert!(poll(third.as_mut()).is_pending() && poll(fourth.as_mut()).is_pending());
        budget.set_awaited(Some(4));
        assert!(poll(fourth.as_mut()).is_ready() && poll(third.as_mut()).is_pending());
        first.set(100);
        assert!(poll(third.as_mut()).is_ready());
        drop(second);
    }

    #[test]
    fn what_waits_to_be_unpacked_keeps_more_from_being_fetched_but_not_from_being_unpacked() {
        let budget = Arc::new(Budget::new(100));
        let _packed = budget.hold(Bytes::Packed, 200);
        assert_eq!(budget.room(), 0);
        assert!(poll(pin!(budget.unpack(7, 10)).as_mut()).is_ready());
    }
}
