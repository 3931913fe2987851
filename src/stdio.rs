//! Which of stdin and stdout were closed when the process was started. Knows no other module.
//!
//! The standard library opens `/dev/null` in place of a closed descriptor before `main`, and what is written there would
//! seem to be delivered. Afterward that cannot be told from a `/dev/null` that the parent passed on, which Python's
//! `subprocess.DEVNULL` opens with the same flags; so the descriptors are looked at before, as the dynamic loader does
//! with all initializers.

use std::sync::atomic::{AtomicBool, Ordering};

static STDIN_CLOSED: AtomicBool = AtomicBool::new(false);
static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

extern "C" fn look() {
    let is_closed = |stream| rustix::io::fcntl_getfd(stream) == Err(rustix::io::Errno::BADF);
    STDIN_CLOSED.store(is_closed(rustix::stdio::stdin()), Ordering::Relaxed);
    STDOUT_CLOSED.store(is_closed(rustix::stdio::stdout()), Ordering::Relaxed);
}

/// Has `look` called before the standard library starts.
#[used]
#[allow(unsafe_code)] // The section's name is the contract: it holds pointers to functions of this type.
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
static LOOK: extern "C" fn() = look;

/// Whether the process was started without a stdin.
pub fn is_stdin_closed() -> bool {
    STDIN_CLOSED.load(Ordering::Relaxed)
}

/// Whether the process was started without a stdout.
pub fn is_stdout_closed() -> bool {
    STDOUT_CLOSED.load(Ordering::Relaxed)
}
