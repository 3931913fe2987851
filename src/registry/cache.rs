//! Schemas between runs: a file for each ID, in a directory for each registry. An ID never changes what it means.
//!
//! A file is believed only if it is this user's alone, names the registry and the ID that are asked for, and has the
//! checksum that it was written with; any other counts as missing and is replaced.

use super::lookup::{Found, Resolved};
use super::{Language, SchemaId};
use crate::files;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The largest file.
const LIMIT: u64 = 64 << 20;

/// The schemas of one registry on disk.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    registry: String,
}

/// A file: the schema behind its checksum.
#[derive(Serialize, Deserialize)]
struct Entry {
    /// The addresses of the registry.
    registry: String,
    id: String,
    #[serde(rename = "type")]
    language: String,
    schema: String,
    references: Vec<Found>,
}

impl Cache {
    /// The schemas of the registry with these addresses, below `dir`.
    pub fn new(dir: &Path, urls: &[String]) -> Self {
        let mut urls = urls.to_vec();
        urls.sort();
        let registry = urls.join(",");
        let digest = Sha256::digest(registry.as_bytes());
        Self { dir: dir.join(hex(&digest[..16])), registry }
    }

    fn path(&self, id: SchemaId) -> PathBuf {
        let name = match id {
            SchemaId::Id(id) => format!("id-{id}"),
            SchemaId::Guid(guid) | SchemaId::GlueVersion(guid) => format!("guid-{}", guid.hyphenated()),
            SchemaId::GlobalId(id) => format!("global-{id}"),
            SchemaId::ContentId(id) => format!("content-{id}"),
        };
        self.dir.join(name)
    }

    /// The schema, if it was kept and can be believed.
    pub fn get(&self, id: SchemaId) -> Option<Resolved> {
        let path = self.path(id);
        match self.read(&path, id) {
            Ok(resolved) => Some(resolved),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => {
                tracing::info!("cached schema {} is not used: {e}", path.display());
                None
            }
        }
    }

    fn read(&self, path: &Path, id: SchemaId) -> io::Result<Resolved> {
        let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
        let (bytes, metadata) = files::read_own(path, LIMIT)?;
        if files::is_writable_by_others(&metadata) {
            return Err(wrong("another user may have written it"));
        }
        let (checksum, body) = bytes.split_at_checked(64).ok_or_else(|| wrong("it ends early"))?;
        let body = body.strip_prefix(b"\n").ok_or_else(|| wrong("it is damaged"))?;
        if checksum != hex(&Sha256::digest(body)).as_bytes() {
            return Err(wrong("it is damaged"));
        }
        let entry: Entry = serde_json::from_slice(body).map_err(io::Error::other)?;
        if entry.registry != self.registry || entry.id != id.to_string() {
            return Err(wrong("it is of another registry or schema"));
        }
        let language = Language::of_api_name(&entry.language).ok_or_else(|| wrong("its type is unknown"))?;
        Ok(Resolved { language, text: entry.schema, references: entry.references })
    }

    /// Keeps the schema. A cache that cannot be written costs time, and nothing else.
    pub fn put(&self, id: SchemaId, resolved: &Resolved) {
        let path = self.path(id);
        if let Err(e) = self.write(&path, id, resolved) {
            tracing::info!("schema cannot be cached in {}: {e}", path.display());
        }
    }

    fn write(&self, path: &Path, id: SchemaId, resolved: &Resolved) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let entry = Entry {
            registry: self.registry.clone(),
            id: id.to_string(),
            language: resolved.language.api_name().to_owned(),
            schema: resolved.text.clone(),
            references: resolved.references.clone(),
        };
        let body = serde_json::to_string(&entry).map_err(io::Error::other)?;
        files::replace(path, format!("{}\n{body}", hex(&Sha256::digest(body.as_bytes()))).as_bytes())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // a String takes all
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_schema_is_kept_privately_and_believed_only_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(&dir.path().join("schemas"), &["http://b".to_owned(), "http://a".to_owned()]);
        let reference = Found { name: "other".to_owned(), text: "\"int\"".to_owned() };
        let resolved = Resolved { language: Language::Avro, text: "\"long\"".to_owned(), references: vec![reference] };
        let id = SchemaId::Id(7);
        assert_eq!(cache.get(id), None);
        cache.put(id, &resolved);
        let path = cache.path(id);
        assert_eq!(cache.get(id), Some(resolved.clone()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let same = Cache::new(&dir.path().join("schemas"), &["http://a".to_owned(), "http://b".to_owned()]);
        assert_eq!(same.get(id), Some(resolved.clone()), "the order of addresses does not matter");
        // As another ID, damaged, cut off, writable by others, through a link: each counts as missing.
        std::fs::copy(&path, cache.path(SchemaId::Id(8))).unwrap();
        assert_eq!(cache.get(SchemaId::Id(8)), None);
        let whole = std::fs::read(&path).unwrap();
        for cut in [0, 10, 64, 70, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(cache.get(id), None, "{cut} bytes");
        }
        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        assert_eq!(cache.get(id), None);
        std::fs::write(&path, &whole).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o622)).unwrap();
        assert_eq!(cache.get(id), None);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(cache.get(id), Some(resolved));
        let link = cache.path(SchemaId::Id(9));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(cache.get(SchemaId::Id(9)), None);
    }
}
