//! What ends a program that does not end of itself. jaq has no hooks for that, so [`super::program`] has every recursive
//! definition and every range call [`Guard::check`].

use super::super::failure::Limit;
use std::cell::Cell;

/// Bytes of stack that a program may take: half of what a main thread usually has.
const MAX_STACK: usize = 4 << 20;
/// Bytes of memory that the process may grow by while a program runs on one record.
const MAX_MEMORY: u64 = 1 << 30;
/// Calls between two looks at the signals.
const SIGNAL_EVERY: u32 = 64;
/// Calls between two looks at the memory.
const MEMORY_EVERY: u32 = 1 << 14;

/// Watches over a run of a program.
pub(super) struct Guard {
    is_interrupted: Box<dyn Fn() -> bool>,
    calls: Cell<u32>,
    /// An address on the stack where the run began.
    stack: Cell<usize>,
    /// What the process took when memory was first looked at.
    memory: Cell<Option<u64>>,
    reached: Cell<Option<Limit>>,
}

impl Guard {
    pub(super) fn new(is_interrupted: impl Fn() -> bool + 'static) -> Self {
        Self {
            is_interrupted: Box::new(is_interrupted),
            calls: Cell::new(0),
            stack: Cell::new(0),
            memory: Cell::new(None),
            reached: Cell::new(None),
        }
    }

    /// A run begins.
    pub(super) fn begin(&self) {
        self.calls.set(0);
        self.stack.set(stack_address());
        self.memory.set(None);
        self.reached.set(None);
    }

    pub(super) fn reached(&self) -> Option<Limit> {
        self.reached.get()
    }

    /// Whether the run may go on.
    pub(super) fn check(&self) -> bool {
        let calls = self.calls.get().wrapping_add(1);
        self.calls.set(calls);
        if self.reached.get().is_some() {
            return false;
        }
        let limit = if self.stack.get().abs_diff(stack_address()) > MAX_STACK {
            Some(Limit::Depth)
        } else if calls.is_multiple_of(SIGNAL_EVERY) && (self.is_interrupted)() {
            Some(Limit::Interrupted)
        } else if calls.is_multiple_of(MEMORY_EVERY) && self.has_grown() {
            Some(Limit::Memory)
        } else {
            None
        };
        self.reached.set(limit);
        limit.is_none()
    }

    fn has_grown(&self) -> bool {
        let Some(now) = memory() else { return false };
        let before = self.memory.get().unwrap_or(now);
        self.memory.set(Some(before));
        now.saturating_sub(before) > MAX_MEMORY
    }
}

/// Where the stack stands, roughly.
fn stack_address() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}

/// Resident bytes of the process, where Linux's /proc has them.
fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1 << 10)
}
