//! Simulated threads: each has a stack of its own and runs until it waits. All of them take turns on one thread of the
//! system, as futures of one runtime, so that their order depends on nothing but the runtime's queue.

// Code that waits finds the stack that it runs on through a pointer, because it is called from within the engine.
#![allow(unsafe_code)]

use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::ptr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// How a thread gives up its turn.
type Turn = Yielder<(), ()>;

/// The thread whose turn it is.
#[derive(Clone)]
struct Running {
    turn: Rc<Cell<*const Turn>>,
    waker: Waker,
}

thread_local! {
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
}

/// A simulated thread; ends with its function, or when dropped, which unwinds its stack.
pub struct Thread {
    coroutine: Coroutine<(), (), ()>,
    turn: Rc<Cell<*const Turn>>,
}

impl Thread {
    /// A thread that will run `body`.
    pub fn new(body: impl FnOnce() + 'static) -> Self {
        let turn = Rc::new(Cell::new(ptr::null()));
        let own = turn.clone();
        let coroutine = Coroutine::new(move |given: &Turn, ()| {
            own.set(given);
            body();
        });
        Self { coroutine, turn }
    }
}

impl Future for Thread {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let running = Running { turn: self.turn.clone(), waker: context.waker().clone() };
        let before = RUNNING.replace(Some(running));
        let result = self.coroutine.resume(());
        RUNNING.set(before);
        match result {
            CoroutineResult::Yield(()) => Poll::Pending,
            CoroutineResult::Return(()) => Poll::Ready(()),
        }
    }
}

/// Has the simulated thread that calls this wait for `work`.
pub fn block_on(mut work: Pin<&mut dyn Future<Output = ()>>) {
    loop {
        let running = RUNNING.with_borrow(Clone::clone).expect("called on a simulated thread");
        if work.as_mut().poll(&mut Context::from_waker(&running.waker)).is_ready() {
            return;
        }
        // SAFETY: this runs on the stack of the thread whose turn it is, and its `Yielder` lives at the bottom of that
        // stack until the thread has ended.
        unsafe { &*running.turn.get() }.suspend(());
    }
}

/// [`block_on`] for what has a result.
pub fn wait<T>(work: impl Future<Output = T>) -> T {
    let mut done = None;
    block_on(std::pin::pin!(async { done = Some(work.await) }));
    done.expect("it is done")
}
