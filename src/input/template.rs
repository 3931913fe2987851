//! What a template wrote → records. Only templates in which each part's end is known are read: by a length before it, or
//! by a literal behind it.

use super::frame::{Frame, too_long};
use super::length::length;
use super::{BadLine, Decoded, Read};
use crate::codec::Encoding;
use crate::record::{HeaderBuf, PartitionId, RecordRef, Timestamp};
use crate::template::{Form, Malformed, Part, Template, TimeForm, What};
use memchr::memmem::Finder;

/// How each part of a record is found, in order.
#[derive(Debug)]
pub struct Program {
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Literal(Vec<u8>),
    /// Four bytes: the length of the value.
    BinaryLen,
    /// Ends where the literal begins that follows.
    Until(Target, Box<Finder<'static>>),
    /// As many bytes as a length before it said.
    Sized(Target),
}

/// What a part is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Topic,
    Partition,
    /// Read over: the broker gives another.
    Offset,
    Timestamp(TimeForm),
    Key(Encoding),
    Value(Encoding),
    KeyLen,
    ValueLen,
    Header(Vec<u8>),
}

impl Target {
    /// Whether its text may hold `byte`; any text may hold any byte that a key holds.
    fn may_hold(&self, byte: u8) -> bool {
        match self {
            Self::Partition | Self::Offset | Self::KeyLen | Self::ValueLen => byte.is_ascii_digit() || byte == b'-',
            Self::Timestamp(_) => byte.is_ascii_alphanumeric() || b"-:.".contains(&byte),
            Self::Key(encoding) | Self::Value(encoding) if *encoding != Encoding::Text => {
                byte.is_ascii_alphanumeric() || b"+/=-.".contains(&byte)
            }
            _ => false,
        }
    }
}

impl Program {
    /// How the records that `template` wrote are read, where `key` and `value` say what `%k` and `%s` are.
    ///
    /// # Errors
    /// A part cannot be read back, or its end cannot be found.
    pub fn new(template: &Template, key: Encoding, value: Encoding) -> Result<Self, Malformed> {
        let template = template.clone().with_defaults(key, value);
        let mut steps: Vec<Step> = Vec::new();
        let mut seen: Vec<Target> = Vec::new();
        let (mut is_key_sized, mut is_value_sized) = (false, false);
        for (index, part) in template.parts().iter().enumerate() {
            let wrong = |why: &str| template.malformed(part, why);
            let target = match &part.what {
                What::Literal(bytes) => {
                    steps.push(Step::Literal(bytes.clone()));
                    continue;
                }
                What::ValueLenBinary => {
                    is_value_sized = true;
                    steps.push(Step::BinaryLen);
                    continue;
                }
                other => target(other).map_err(wrong)?,
            };
            if seen.contains(&target) {
                return Err(wrong("given twice"));
            }
            seen.push(target.clone());
            match target {
                Target::Key(Encoding::Text) if is_key_sized => steps.push(Step::Sized(target)),
                Target::Value(Encoding::Text) if is_value_sized => steps.push(Step::Sized(target)),
                _ => {
                    let literal = match template.parts().get(index + 1) {
                        Some(Part { what: What::Literal(literal), .. }) => literal,
                        _ => {
                            return Err(wrong(
                                "the end of this is not known: it needs text after it, or its length before it (%K, %S, %R)",
                            ));
                        }
                    };
                    if target.may_hold(literal[0]) {
                        return Err(wrong("the text after this could be part of it"));
                    }
                    is_key_sized |= target == Target::KeyLen;
                    is_value_sized |= target == Target::ValueLen;
                    steps.push(Step::Until(target, Box::new(Finder::new(literal).into_owned())));
                }
            }
        }
        let has_bytes = seen.iter().any(|target| matches!(target, Target::Key(_) | Target::Value(_)));
        match template.parts().first() {
            Some(part) if !has_bytes => Err(template.malformed(part, "the template has neither %k nor %s")),
            _ => Ok(Self { steps }),
        }
    }

    /// How many bytes the first record of `bytes` has, and in `ends` where each step ends; `None` where it is not there
    /// as a whole.
    pub(super) fn frame_len(
        &self,
        bytes: &[u8],
        limit: usize,
        ends: &mut Vec<usize>,
    ) -> Result<Option<usize>, BadLine> {
        let (mut at, mut key_len, mut value_len) = (0, None, None);
        for step in &self.steps {
            let rest = bytes.get(at..).unwrap_or_default();
            let len = match step {
                Step::Literal(literal) if rest.starts_with(literal) => literal.len(),
                Step::Literal(literal) if literal.starts_with(rest) => return Ok(None),
                Step::Literal(literal) => {
                    let what = format!("expected {:?}", String::from_utf8_lossy(literal));
                    return Err(BadLine::unusable_at(at + 1, what));
                }
                Step::BinaryLen => match length(bytes, at)? {
                    Some((len, _)) => {
                        value_len = len;
                        4
                    }
                    None => return Ok(None),
                },
                Step::Sized(target) => match if matches!(target, Target::Key(_)) { key_len } else { value_len } {
                    Some(len) if len > rest.len() => return too_long(at.saturating_add(len), limit).map(|()| None),
                    len => len.unwrap_or(0),
                },
                Step::Until(target, literal) => {
                    let Some(len) = literal.find(rest) else { return Ok(None) };
                    let of_target = match target {
                        Target::KeyLen => Some(&mut key_len),
                        Target::ValueLen => Some(&mut value_len),
                        _ => None,
                    };
                    if let Some(into) = of_target {
                        *into = decimal_len(&rest[..len]).ok_or_else(|| {
                            BadLine::unusable_at(at + 1, "expected a length in decimal digits, or -1".to_owned())
                        })?;
                    }
                    len
                }
            };
            at += len;
            ends.push(at);
        }
        Ok(Some(at))
    }
}

/// A length; the inner `None` is null.
fn decimal_len(text: &[u8]) -> Option<Option<usize>> {
    match std::str::from_utf8(text).ok()? {
        "-1" => Some(None),
        digits => digits.parse().ok().map(Some),
    }
}

/// What a part of a template is read as.
fn target(what: &What) -> Result<Target, &'static str> {
    const LOST: &str = "this form cannot be read back";
    let encoding = |form: &Form| match form {
        Form::Encoded(encoding) if !matches!(encoding, Encoding::Json | Encoding::MessagePack) => Ok(*encoding),
        _ => Err(LOST),
    };
    Ok(match what {
        What::Topic => Target::Topic,
        What::Partition => Target::Partition,
        What::Offset => Target::Offset,
        What::Timestamp(TimeForm::Pattern(_)) | What::Headers => return Err(LOST),
        What::Timestamp(form) => Target::Timestamp(form.clone()),
        What::Key(form) => Target::Key(encoding(form)?),
        What::Value(form) => Target::Value(encoding(form)?),
        What::KeyLen => Target::KeyLen,
        What::ValueLen => Target::ValueLen,
        What::Header(name) => Target::Header(name.clone()),
        What::Literal(_) | What::ValueLenBinary => return Err(LOST),
    })
}

/// What holds for every record.
#[derive(Debug, Default)]
pub struct TemplateOptions {
    /// The key where the template has none.
    pub default_key: Option<Vec<u8>>,
    /// The timestamp where the template has none.
    pub default_timestamp: Option<Timestamp>,
    /// Headers of every record, after its own.
    pub extra_headers: HeaderBuf,
    /// Whether an empty key or value is null.
    pub empty_is_null: bool,
}

/// Reads what [`Program::frame_len`] found as a record.
#[derive(Debug)]
pub struct TemplateReader {
    program: Program,
    options: TemplateOptions,
    topic: String,
    decoded: Decoded,
    headers: HeaderBuf,
}

impl TemplateReader {
    /// Reads by a program that is made of the same template as the one that cuts.
    pub fn new(program: Program, options: TemplateOptions) -> Self {
        Self { program, options, topic: String::new(), decoded: Decoded::default(), headers: HeaderBuf::default() }
    }

    /// The record of a frame.
    ///
    /// # Errors
    /// A part is not what it should be.
    pub fn read<'a>(&'a mut self, frame: &Frame<'a>) -> Result<Read<'a>, BadLine> {
        let Self { program, options, topic, decoded, headers } = self;
        let mut found = Found { key: options.default_key.as_deref(), ..Found::default() };
        headers.clear();
        let (mut key_is_null, mut value_is_null, mut has_topic) = (false, false, false);
        let mut start = 0;
        for (step, end) in program.steps.iter().zip(frame.ends) {
            let bytes = &frame.bytes[start..*end];
            let wrong = |what: String| BadLine { byte: Some(start + 1), ..BadLine::new(what) };
            match step {
                Step::Literal(_) => {}
                Step::BinaryLen => value_is_null = bytes == [0xff; 4],
                Step::Until(Target::KeyLen, _) => key_is_null = bytes == b"-1",
                Step::Until(Target::ValueLen, _) => value_is_null = bytes == b"-1",
                Step::Until(Target::Topic, _) => {
                    topic.clear();
                    topic.push_str(std::str::from_utf8(bytes).map_err(|_| wrong("the topic is not UTF-8".to_owned()))?);
                    has_topic = true;
                }
                Step::Until(Target::Partition, _) => {
                    found.partition = Some(number(bytes, "a partition").map_err(wrong)?)
                }
                Step::Until(Target::Timestamp(form), _) => found.timestamp = time(form, bytes).map_err(wrong)?,
                Step::Until(Target::Header(name), _) => headers.push(name, Some(bytes)),
                Step::Until(Target::Offset, _) => {}
                Step::Until(Target::Key(encoding), _) | Step::Sized(Target::Key(encoding)) => {
                    (found.key, found.key_as) = (Some(bytes), *encoding);
                }
                Step::Until(Target::Value(encoding), _) | Step::Sized(Target::Value(encoding)) => {
                    (found.value, found.value_as) = (Some(bytes), *encoding);
                }
                Step::Sized(_) => {}
            }
            start = *end;
        }
        headers.extend(options.extra_headers.as_headers());
        let keep = |bytes: &&[u8]| !(options.empty_is_null && bytes.is_empty());
        let key = found.key.filter(|key| !key_is_null && keep(key));
        let value = found.value.filter(|value| !value_is_null && keep(value));
        let (key, value) = decoded.decode(key, found.key_as, value, found.value_as)?;
        let timestamp = found.timestamp.or(options.default_timestamp);
        let record = RecordRef { offset: 0, timestamp, key, value, headers: headers.as_headers() };
        Ok(Read { topic: has_topic.then_some(&**topic), partition: found.partition, ..record.into() })
    }
}

/// The parts of one record.
#[derive(Default)]
struct Found<'a> {
    partition: Option<PartitionId>,
    timestamp: Option<Timestamp>,
    key: Option<&'a [u8]>,
    key_as: Encoding,
    value: Option<&'a [u8]>,
    value_as: Encoding,
}

fn number<T: std::str::FromStr>(text: &[u8], what: &str) -> Result<T, String> {
    let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| format!("expected {what}"))
}

/// A time; -1 is that of a record without one.
fn time(form: &TimeForm, text: &[u8]) -> Result<Option<Timestamp>, String> {
    if *form == TimeForm::Rfc3339
        && let Some(time) = std::str::from_utf8(text).ok().and_then(|text| text.parse::<jiff::Timestamp>().ok())
    {
        return Ok(Some(time.as_millisecond()));
    }
    let milliseconds: Timestamp = number(text, "a time")?;
    Ok((milliseconds >= 0).then_some(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::super::{Cut, Cutter, Framing};
    use super::*;
    use crate::codec::View;
    use crate::output::{Format, LengthFormat, TemplateFormat};
    use crate::record::Headers;
    use proptest::prelude::*;
    use std::ops::ControlFlow;

    type Parts = (Option<Vec<u8>>, Option<Vec<u8>>, Option<Timestamp>);

    fn program(template: &str) -> Result<Program, Malformed> {
        Program::new(&template.parse().unwrap(), Encoding::Text, Encoding::Text)
    }

    /// The records that are read of `bytes`, which come in chunks of `step`.
    fn read_back(template: &str, bytes: &[u8], step: usize) -> Result<Vec<Parts>, BadLine> {
        let mut reader = TemplateReader::new(program(template).unwrap(), TemplateOptions::default());
        let mut framing = Framing::Cut(Box::new(Cutter::new(Cut::Template(program(template).unwrap()), 1 << 20)));
        let mut records = Vec::new();
        let mut each = |frame: Frame<'_>| match reader.read(&frame) {
            Ok(Read { record, .. }) => {
                records.push((record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec), record.timestamp));
                ControlFlow::Continue(())
            }
            Err(bad) => ControlFlow::Break(bad),
        };
        for chunk in bytes.chunks(step) {
            if let ControlFlow::Break(bad) = framing.feed(chunk, &mut each)? {
                return Err(bad);
            }
        }
        assert!(framing.finish(|_| ControlFlow::<()>::Continue(()))?.is_continue());
        Ok(records)
    }

    #[test]
    fn what_cannot_be_read_back_is_pointed_at() {
        for (template, why, below) in [
            ("%k%s\n", "the end of this is not known", "  ^"),
            ("%k\t%s", "the end of this is not known", "      ^"),
            ("%h %s\n", "cannot be read back", "  ^"),
            ("%s{json}\n", "cannot be read back", "  ^"),
            ("%k %s{.id}\n", "cannot be read back", "     ^"),
            ("%o0%s\n", "could be part of it", "  ^"),
            ("%s{hex}a", "could be part of it", "  ^"),
            ("%s\n%s\n", "given twice", "      ^"),
            ("%t\n", "the template has neither", "  ^"),
        ] {
            let shown = program(template).unwrap_err().to_string();
            assert!(shown.contains(why), "{shown}");
            assert_eq!(shown.lines().last(), Some(below), "{shown}");
        }
    }

    #[test]
    fn what_does_not_follow_the_template_is_named() {
        let why = |template: &str, bytes: &[u8]| read_back(template, bytes, 100).unwrap_err();
        assert_eq!(why("%K %k\\n", b"1 ab\n"), BadLine::unusable_at(4, r#"expected "\n""#.to_owned()));
        assert_eq!(why("%K %k\\n", b"x ab\n").byte, Some(1));
        assert!(why("%s{hex}\\n", b"0g\n").what.contains("the value: expected hexadecimal digits"));
        assert!(why("%T %s\\n", b"now x\n").what.contains("expected a time"));
        assert!(why("%R%s", b"\0\0\0\x05abc").what.contains("after 7 bytes of it"));
        assert!(why("%R%s", b"\xff\xff\xff\xfe").what.contains("-2 is not a length"));
        assert!(why("%R%s", b"\x7f\xff\xff\xff").what.contains("longer than --max-record-size"));
    }

    proptest! {
        #[test]
        fn what_an_exact_template_wrote_is_read_back(
            records in prop::collection::vec((any::<Option<Vec<u8>>>(), any::<Option<Vec<u8>>>(), 0..1i64 << 40), 0..6),
            which in 0..4usize, step in 1..20usize,
        ) {
            let template =
                ["%T %K %k%R%s", "%K,%S,%T,%k%s", "%S\\{%s}%K\\{%k}%T\\n", "<%K|%k{hex}|%T{rfc3339}|%S|%s{base64}>\\n"][which];
            let mut format = TemplateFormat::new(template.parse().unwrap(), Encoding::Text, Encoding::Text);
            let mut bytes = Vec::new();
            for (key, value, timestamp) in &records {
                let record = RecordRef { offset: 7, timestamp: Some(*timestamp), key: key.as_deref(), value: value.as_deref(), headers: Headers::default() };
                format.write(&mut bytes, &record, &View::PLAIN).unwrap();
            }
            let read = read_back(template, &bytes, step).unwrap();
            let expected: Vec<Parts> = records.into_iter().map(|(key, value, timestamp)| (key, value, Some(timestamp))).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn what_length32_wrote_is_read_back(
            records in prop::collection::vec((any::<Option<Vec<u8>>>(), any::<Option<Vec<u8>>>()), 0..6), step in 1..20usize, has_keys: bool,
        ) {
            let (mut format, mut bytes) = (LengthFormat::new(has_keys), Vec::new());
            for (key, value) in &records {
                let record = RecordRef { offset: 0, timestamp: None, key: key.as_deref(), value: value.as_deref(), headers: Headers::default() };
                format.write(&mut bytes, &record, &View::PLAIN).unwrap();
            }
            let reader = super::super::LengthReader { has_keys, ..Default::default() };
            let mut framing = Framing::Cut(Box::new(Cutter::new(Cut::Lengths { parts: reader.parts() }, 1 << 20)));
            let mut read = Vec::new();
            let mut each = |frame: Frame<'_>| {
                let record = reader.read(frame.bytes).unwrap();
                read.push((record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec)));
                ControlFlow::<()>::Continue(())
            };
            for chunk in bytes.chunks(step) {
                prop_assert!(framing.feed(chunk, &mut each).unwrap().is_continue());
            }
            prop_assert!(framing.finish(&mut each).unwrap().is_continue());
            let expected: Vec<_> = records.into_iter().map(|(key, value)| (key.filter(|_| has_keys), value)).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, step in 1..9usize) {
            for template in ["%K %k%R%s", "%k\t%s\n", "%T{rfc3339} %p %s{i32}\n"] {
                let _ = read_back(template, &bytes, step);
            }
        }
    }
}
