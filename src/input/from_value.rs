//! What of a record comes from its value or headers instead of its own fields.

use super::{BadLine, Read};
use crate::codec::{Path, path};
use crate::record::{PartitionId, Timestamp};

/// What becomes of a record whose value lacks its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingKey {
    /// It is refused.
    #[default]
    Error,
    /// Its key is null.
    Null,
}

/// Takes the key, time, partition and topic of a record from elsewhere in it.
#[derive(Debug, Default)]
pub struct Derived {
    /// The field of the JSON value that is the key.
    pub key: Option<Path>,
    pub missing_key: MissingKey,
    /// The field that is the time.
    pub timestamp: Option<Path>,
    /// The field that is the partition.
    pub partition: Option<Path>,
    /// The header that names the topic.
    pub topic_header: Option<String>,
    /// Whether the partition that the record names is ignored.
    pub repartition: bool,
}

impl Derived {
    /// Whether records stay as they are.
    pub fn is_none(&self) -> bool {
        let paths = [&self.key, &self.timestamp, &self.partition];
        paths.iter().all(|path| path.is_none()) && self.topic_header.is_none() && !self.repartition
    }

    /// The record with what is taken from elsewhere in it; its key is written into `key_bytes`.
    ///
    /// # Errors
    /// A field is missing, or not what it should be.
    pub fn apply<'a>(&self, mut read: Read<'a>, key_bytes: &'a mut Vec<u8>) -> Result<Read<'a>, BadLine> {
        let value = read.record.value;
        let find = |path: &Path| value.and_then(|value| path.find(value)).filter(|json| *json != b"null");
        let missing = |flag: &str, path: &Path| BadLine::new(format!("{flag}: the value has no field {path}"));
        let wrong =
            |flag: &str, path: &Path, expected: &str| BadLine::new(format!("{flag} {path}: expected {expected}"));
        if self.repartition {
            read.partition = None;
        }
        if let Some(path) = &self.timestamp {
            let json = find(path).ok_or_else(|| missing("--timestamp-from", path))?;
            let time = time(json);
            let time =
                time.ok_or_else(|| wrong("--timestamp-from", path, "a time (RFC 3339, or a number since 1970)"))?;
            read.record.timestamp = Some(time);
        }
        if let Some(path) = &self.partition {
            let json = find(path).ok_or_else(|| missing("--partition-from", path))?;
            let partition = std::str::from_utf8(json).ok().and_then(|json| json.parse::<PartitionId>().ok());
            let partition = partition.filter(|partition| *partition >= 0);
            read.partition = Some(partition.ok_or_else(|| wrong("--partition-from", path, "a partition"))?);
        }
        if let Some(name) = &self.topic_header {
            let named = read.record.headers.last(name.as_bytes());
            let topic = named.and_then(|header| header.value).and_then(|topic| std::str::from_utf8(topic).ok());
            let missing = || BadLine::new(format!("--topic-from-header: the record has no header {name} with a topic"));
            read.topic = Some(topic.ok_or_else(missing)?);
        }
        if let Some(path) = &self.key {
            let Some(json) = find(path) else {
                return match self.missing_key {
                    MissingKey::Null => {
                        read.record.key = None;
                        Ok(read)
                    }
                    MissingKey::Error => Err(missing("--key-from", path)),
                };
            };
            key_bytes.clear();
            path::write_text(key_bytes, json).map_err(|_| wrong("--key-from", path, "valid JSON"))?;
            read.record.key = Some(key_bytes);
        }
        Ok(read)
    }
}

/// Numbers below are seconds since 1970, others milliseconds; the limit is the year 5138, or March 1973.
const SECONDS_BELOW: f64 = 1e11;

/// A time in JSON, in milliseconds since 1970.
fn time(json: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(json).ok()?;
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let milliseconds = match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(number), _) if number as f64 >= SECONDS_BELOW => number,
        (_, Ok(number)) if number >= SECONDS_BELOW => number as Timestamp,
        (_, Ok(number)) => (number * 1000.0).round() as Timestamp,
        (_, Err(_)) => text.parse::<jiff::Timestamp>().ok()?.as_millisecond(),
    };
    (milliseconds >= 0).then_some(milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{HeaderBuf, RecordRef};

    fn read<'a>(value: &'a [u8], headers: &'a HeaderBuf) -> Read<'a> {
        let record = RecordRef {
            offset: 0,
            timestamp: None,
            key: Some(b"old"),
            value: Some(value),
            headers: headers.as_headers(),
        };
        Read { topic: Some("own"), partition: Some(1), ..record.into() }
    }

    #[test]
    fn a_key_comes_from_the_value() {
        let headers = HeaderBuf::default();
        let derived = Derived { key: Some(".user.id".parse().unwrap()), ..Derived::default() };
        let key = |value: &str| match derived.apply(read(value.as_bytes(), &headers), &mut Vec::new()) {
            Ok(read) => String::from_utf8(read.record.key.unwrap_or(b"null").to_vec()).unwrap(),
            Err(bad) => bad.what,
        };
        assert_eq!(key(r#"{"user":{"id":"a\u0041"}}"#), "aA");
        assert_eq!(key(r#"{"user":{"id":5}}"#), "5");
        assert_eq!(key(r#"{"user":{"id":{"x":1}}}"#), r#"{"x":1}"#);
        for missing in [r#"{"user":{"id":null}}"#, r#"{"user":1}"#, "no JSON", ""] {
            assert_eq!(key(missing), "--key-from: the value has no field .user.id");
        }
        let derived = Derived { missing_key: MissingKey::Null, ..derived };
        assert_eq!(derived.apply(read(b"{}", &headers), &mut Vec::new()).unwrap().record.key, None);
    }

    #[test]
    fn times_partitions_and_topics_come_from_the_record() {
        let mut headers = HeaderBuf::default();
        headers.push(b"origin", Some(b"orders"));
        let derived = Derived {
            timestamp: Some(".t".parse().unwrap()),
            partition: Some(".p".parse().unwrap()),
            topic_header: Some("origin".to_owned()),
            ..Derived::default()
        };
        let all = |value: &str| {
            let mut key = Vec::new();
            let read = derived.apply(read(value.as_bytes(), &headers), &mut key).map_err(|bad| bad.what)?;
            Ok::<_, String>((read.topic.unwrap().to_owned(), read.partition, read.record.timestamp.unwrap()))
        };
        for (time, milliseconds) in [
            ("1700000000", 1_700_000_000_000),
            ("1700000000.25", 1_700_000_000_250),
            ("1700000000001", 1_700_000_000_001),
            ("\"1700000000001\"", 1_700_000_000_001),
            ("\"2023-11-14T22:13:20.5Z\"", 1_700_000_000_500),
        ] {
            let expected = Ok(("orders".to_owned(), Some(7), milliseconds));
            assert_eq!(all(&format!(r#"{{"t":{time},"p":7}}"#)), expected, "{time}");
        }
        assert!(all(r#"{"t":"yesterday","p":7}"#).unwrap_err().contains("--timestamp-from .t: expected a time"));
        assert!(all(r#"{"t":-1,"p":7}"#).unwrap_err().contains("expected a time"));
        assert!(all(r#"{"t":1,"p":-7}"#).unwrap_err().contains("--partition-from .p: expected a partition"));
        assert!(all(r#"{"p":7}"#).unwrap_err().contains("no field .t"));
        let derived = Derived { topic_header: Some("other".to_owned()), ..derived };
        assert!(
            derived
                .apply(read(br#"{"t":1,"p":1}"#, &headers), &mut Vec::new())
                .unwrap_err()
                .what
                .contains("no header other")
        );
        let derived = Derived { repartition: true, ..Derived::default() };
        assert_eq!(derived.apply(read(b"v", &headers), &mut Vec::new()).unwrap().partition, None);
    }
}
