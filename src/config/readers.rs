//! Who else may read secrets: in their files, and in core dumps.

use crate::files;
use std::collections::BTreeSet;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Warns, once for each file, if others may read the file at `path`, which contains `what`; it was read, and no core
/// dump is to contain it.
pub(super) fn warn_of_readers(path: &Path, what: &str, metadata: &Metadata) {
    without_core_dumps();
    static WARNED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let Some(readers) = files::other_readers(metadata).filter(|_| metadata.is_file()) else { return };
    let first = WARNED.lock().is_ok_and(|mut warned| warned.insert(path.to_owned()));
    if first {
        let path = path.display();
        tracing::warn!("{path} contains {what} and is readable by {readers} (chmod 600 {path})");
    }
}

/// Keeps this process's memory, which contains a secret from now on, off the disk when it crashes.
pub(crate) fn without_core_dumps() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = Rlimit { current: Some(0), ..getrlimit(Resource::Core) };
    if let Err(why) = setrlimit(Resource::Core, limit) {
        tracing::warn!("core dumps cannot be disabled: {why}");
    }
}
