//! Who else may read a file that contains a secret.

use crate::files;
use std::collections::BTreeSet;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Warns, once for each file, if others may read the file at `path`, which contains `what`.
pub(super) fn warn_of_readers(path: &Path, what: &str, metadata: &Metadata) {
    static WARNED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let Some(readers) = files::other_readers(metadata).filter(|_| metadata.is_file()) else { return };
    let first = WARNED.lock().is_ok_and(|mut warned| warned.insert(path.to_owned()));
    if first {
        let path = path.display();
        tracing::warn!("{path} contains {what} and is readable by {readers} (chmod 600 {path})");
    }
}
