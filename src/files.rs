//! Files as kpipe reads and creates them: with a limit, and private. A leaf: it calls nothing of kpipe.

use rustix::fs::{Mode, OFlags};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// The largest file of settings, certificates, keys or schemas.
pub const SETTINGS_LIMIT: u64 = 16 << 20;

/// Reads all of `source`.
///
/// # Errors
/// The system's error, or `source` has more than `limit` bytes.
pub fn read_all(source: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Reads the file at `path`.
///
/// # Errors
/// The system's error, or the file has more than `limit` bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_all(File::open(path)?, limit)
}

/// Reads the file at `path`. The metadata is that of what was read, whatever `path` names later.
///
/// # Errors
/// The system's error, or the file has more than `limit` bytes.
pub fn read_with_metadata(path: &Path, limit: u64) -> io::Result<(Vec<u8>, Metadata)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    Ok((read_all(file, limit)?, metadata))
}

/// Reads the regular file at `path`; a symbolic link is not followed, and nothing else is waited for.
///
/// # Errors
/// The system's error, `path` is not a regular file, or it has more than `limit` bytes.
pub fn read_own(path: &Path, limit: u64) -> io::Result<(Vec<u8>, Metadata)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"));
    }
    Ok((read_all(file, limit)?, metadata))
}

/// `bytes` without a UTF-8 byte order mark, which editors on Windows write.
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Who may read a file besides its owner.
pub fn other_readers(metadata: &Metadata) -> Option<&'static str> {
    match metadata.permissions().mode() {
        mode if mode & 0o004 != 0 => Some("every user"),
        mode if mode & 0o040 != 0 => Some("its group"),
        _ => None,
    }
}

/// Whether anyone but this process's user, or root, may write to the file.
pub fn is_writable_by_others(metadata: &Metadata) -> bool {
    let owner = metadata.uid();
    metadata.permissions().mode() & 0o022 != 0 || (owner != 0 && owner != rustix::process::geteuid().as_raw())
}

/// Opens `path` for appending. A new file is readable by its owner only; a symbolic link is not followed.
///
/// # Errors
/// The system's, or `path` is a symbolic link.
pub fn append_private(path: &Path) -> io::Result<File> {
    let flags = OFlags::APPEND | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // A file that another created in between is opened at the next attempt.
    for _ in 0..3 {
        let existing = rustix::fs::open(path, flags, Mode::empty());
        match existing {
            Ok(file) => return Ok(File::from(file)),
            Err(rustix::io::Errno::NOENT) => {}
            Err(rustix::io::Errno::LOOP) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "is a symbolic link, which is not followed"));
            }
            Err(e) => return Err(e.into()),
        }
        match rustix::fs::open(path, flags | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR) {
            Ok(file) => return Ok(File::from(file)),
            Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "is created and removed by another process"))
}

/// Replaces the file at `path` by one with `bytes`, at once. A new file is readable by its owner only, an existing one
/// keeps its mode. Only a regular file is replaced: not a device, a named pipe or a symbolic link.
///
/// # Errors
/// The system's, or `path` is not a regular file.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let mode = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => Mode::from_raw_mode(found.permissions().mode() & 0o777),
        Ok(found) => {
            let kind = found.file_type();
            let what = if kind.is_symlink() {
                "a symbolic link"
            } else if kind.is_dir() {
                "a directory"
            } else if kind.is_fifo() {
                "a named pipe"
            } else {
                "not a regular file"
            };
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("is {what}; only a file is replaced")));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Mode::RUSR | Mode::WUSR,
        Err(e) => return Err(e),
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}", getrandom::u64().map_err(|e| io::Error::other(e.to_string()))?));
    let temporary = path.with_file_name(name);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(&temporary, flags, Mode::RUSR | Mode::WUSR)?);
    let written = file
        .write_all(bytes)
        .and_then(|()| Ok(rustix::fs::fchmod(&file, mode)?))
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // Err: there is nothing left to remove.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_file_is_refused() {
        let error = read(Path::new("/dev/zero"), 1000).unwrap_err();
        assert!(error.to_string().contains("larger than 1000 bytes"), "{error}");
    }

    #[test]
    fn a_new_file_is_private_and_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("new"), dir.path().join("link"));
        drop(append_private(&path).unwrap());
        drop(append_private(&path).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(append_private(&link).unwrap_err().to_string().contains("symbolic link"));
    }

    #[test]
    fn only_a_regular_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("file"), dir.path().join("link"));
        replace(&path, b"a").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        replace(&path, b"b").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read(&path).unwrap(), b"b");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for other in [link.as_path(), Path::new("/dev/null"), dir.path()] {
            assert!(replace(other, b"c").is_err(), "{}", other.display());
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"b");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file is left");
    }
}
