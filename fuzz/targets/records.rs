//! The input of `produce`, and what `consume` selects and writes.

use super::Input;
use super::input::utf8;
use kpipe::codec::{Encoding, View};
use kpipe::engine::native::wire::{Decoder, Isolation, batches};
use kpipe::filter::{Condition, Field, Filter, Test};
use kpipe::input::{
    BadLine, CsvOptions, CsvReader, CsvSplitter, Cut, Cutter, Derived, Frame, Framing, JsonReader, LengthReader,
    Program, Reader, Shape, Splitter, TemplateOptions, TemplateReader,
};
use kpipe::output::{Format, TemplateFormat};
use kpipe::record::{Headers, RecordRef};
use kpipe::template::Template;
use std::ops::ControlFlow;

/// A line of JSON input.
pub fn json_line(data: &[u8]) {
    let _ = JsonReader::default().read(data);
}

/// Input that arrives in any chunks gives the same lines as in one chunk.
pub fn lines(data: &[u8]) {
    let mut input = Input(data);
    let (width, step) = (input.byte(), usize::from(input.byte()).max(1));
    let delimiter = &b"aab"[..1 + usize::from(width % 3)];
    assert_eq!(split(input.0.chunks(step), delimiter), split(std::iter::once(input.0), delimiter));
}

fn split<'a>(chunks: impl Iterator<Item = &'a [u8]>, delimiter: &[u8]) -> Vec<Vec<u8>> {
    let mut splitter = Splitter::new(delimiter, usize::MAX);
    let mut lines = Vec::new();
    for chunk in chunks {
        let _ = splitter.feed(chunk, |line| {
            lines.push(line.to_vec());
            ControlFlow::<()>::Continue(())
        });
    }
    lines.extend(splitter.finish());
    lines
}

/// CSV that arrives in any chunks gives the same records as in one chunk, or an error there, too.
pub fn csv(data: &[u8]) {
    let reader = || {
        let framing = Framing::Csv(Box::new(CsvSplitter::new(b',', 1 << 20)));
        let shape = Shape::Csv(Box::new(CsvReader::new(CsvOptions::default())));
        (framing, Reader::new(shape, Derived::default()))
    };
    same_in_chunks(data, reader);
}

/// The same of length-prefixed input.
pub fn length32(data: &[u8]) {
    let reader = || {
        let length = LengthReader { has_keys: true, ..LengthReader::default() };
        let framing = Framing::Cut(Box::new(Cutter::new(Cut::Lengths { parts: length.parts() }, 1 << 20)));
        (framing, Reader::new(Shape::Length(Box::new(length)), Derived::default()))
    };
    same_in_chunks(data, reader);
}

fn same_in_chunks(data: &[u8], reader: impl Fn() -> (Framing, Reader)) {
    let mut input = Input(data);
    let step = usize::from(input.byte()).max(1);
    let by_step = read(reader(), input.0.chunks(step));
    let at_once = read(reader(), std::iter::once(input.0));
    assert_eq!(by_step.0, at_once.0);
    assert_eq!(by_step.1.is_some(), at_once.1.is_some());
}

fn read<'a>(
    (mut framing, mut reader): (Framing, Reader),
    chunks: impl Iterator<Item = &'a [u8]>,
) -> (Vec<String>, Option<BadLine>) {
    let mut records = Vec::new();
    let mut each = |frame: Frame<'_>| {
        match reader.read(&frame) {
            Ok(read) => records.push(format!("{:?}", read.map(|read| (read.record.key, read.record.value)).unzip())),
            Err(bad) => records.push(format!("{}: {}", frame.place, bad.what)),
        }
        ControlFlow::<()>::Continue(())
    };
    for chunk in chunks {
        if let Err(bad) = framing.feed(chunk, &mut each) {
            return (records, Some(bad));
        }
    }
    let end = framing.finish(&mut each).err();
    (records, end)
}

/// Any template is compiled or refused; what one with lengths wrote, it reads back as the same record.
pub fn templates(data: &[u8]) {
    let mut input = Input(data);
    let (step, timestamp) = (usize::from(input.byte()).max(1), input.number());
    let key = input.flag().then(|| input.bytes());
    let value = input.flag().then(|| input.bytes());
    let record = RecordRef { offset: 1, timestamp: Some(timestamp), key, value, headers: Headers::default() };
    if let Ok(template) = utf8(input.0).parse::<Template>() {
        let mut out = Vec::new();
        let _ = TemplateFormat::new(template.clone(), Encoding::Text, Encoding::Text).write(
            &mut out,
            &record,
            &View::PLAIN,
        );
        read_by(&template, &out, step, |_| {});
    }
    let Ok(exact) = "%K %R%k%s".parse::<Template>() else { return };
    let mut out = Vec::new();
    let _ = TemplateFormat::new(exact.clone(), Encoding::Text, Encoding::Text).write(&mut out, &record, &View::PLAIN);
    let mut count = 0;
    read_by(&exact, &out, step, |read| {
        assert_eq!((read.key, read.value), (key, value));
        count += 1;
    });
    assert_eq!(count, 1);
}

fn read_by(template: &Template, bytes: &[u8], step: usize, mut each: impl FnMut(&RecordRef<'_>)) {
    let program = || Program::new(template, Encoding::Text, Encoding::Text);
    let (Ok(cut), Ok(read)) = (program(), program()) else { return };
    let mut framing = Framing::Cut(Box::new(Cutter::new(Cut::Template(cut), 1 << 20)));
    let mut reader = TemplateReader::new(read, TemplateOptions::default());
    let mut take = |frame: Frame<'_>| {
        if let Ok(read) = reader.read(&frame) {
            each(&read.record);
        }
        ControlFlow::<()>::Continue(())
    };
    for chunk in bytes.chunks(step) {
        if framing.feed(chunk, &mut take).is_err() {
            return;
        }
    }
    let _ = framing.finish(&mut take);
}

/// Filters lend of any batch what a search record by record finds; expressions and programs are refused or compiled.
pub fn filters(data: &[u8]) {
    let mut input = Input(data);
    let (pattern, program, is_inverted) = (input.text(), input.text(), input.flag());
    #[cfg(feature = "jq")]
    let _ = kpipe::filter::Jq::compile(program, false, || true);
    let _ = program;
    let Ok(test) = Test::matches(pattern, false) else { return };
    let Ok(raw) = batches(input.0.to_vec().into()) else { return };
    let decoder = Decoder {
        topic: "t".into(),
        partition: 0,
        from: 0,
        until: i64::MAX,
        isolation: Isolation::Uncommitted,
        aborted: Vec::new(),
        max_unpacked: 1 << 20,
    };
    let condition = Condition::new(Field::Value, test.clone());
    let mut filter = Filter::new(vec![condition], is_inverted, None);
    for batch in decoder.decode(raw).0 {
        // A malformed record may stand after the last match.
        let Ok(all) = batch.records().collect::<Result<Vec<_>, _>>() else { continue };
        let expected = all.iter().filter(|record| test.holds(record.value) != is_inverted).count();
        let mut records = batch.records();
        let lent = std::iter::from_fn(|| filter.next(0, &mut records)).filter(Result::is_ok).count();
        assert_eq!(lent, expected);
    }
}
