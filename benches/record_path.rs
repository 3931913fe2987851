//! The record path without the network: lines to batches, and batches to JSON.

#![allow(missing_docs)] // criterion's macros generate functions without documentation

use bytes::BytesMut;
use criterion::{Bencher, Criterion, Throughput, criterion_group, criterion_main};
use kpipe::codec::{Encoding, View};
use kpipe::engine::native::wire::{BatchBuilder, Codec, Compression, Decoder, Isolation, ProducerStamp, batches};
use kpipe::input::{CsvOptions, CsvReader, CsvSplitter, Derived, Framing, LineReader, Reader, Shape, Splitter};
use kpipe::output::{Column, CsvFormat, Format, JsonFormat, TemplateFormat};
use kpipe::record::Batch;
use kpipe::template::Template;
use std::hint::black_box;
use std::ops::ControlFlow;

const LINES: usize = 9_000;

fn input() -> Vec<u8> {
    let line =
        |n: usize| format!("{n:08} the quick brown fox jumps over the lazy dog, {} times a day", n * 7919 % 1013);
    (0..LINES).flat_map(|n| format!("{:.<99}\n", line(n)).into_bytes()).collect()
}

fn each_line(input: &[u8], mut each: impl FnMut(&[u8])) {
    let flow = Splitter::new(b"\n", 1 << 20).feed(input, |line| {
        each(line);
        ControlFlow::<()>::Continue(())
    });
    assert!(flow.is_ok());
}

fn encoded(input: &[u8], compression: Compression) -> bytes::Bytes {
    let mut reader = LineReader::default();
    let mut builder = BatchBuilder::default();
    each_line(input, |line| builder.append(&reader.read(line).unwrap_or_default(), 0));
    let mut sealed = builder.seal(BytesMut::new());
    if compression.codec != Codec::None {
        sealed.records = compression.compress(&sealed.records).unwrap_or_default().into();
        sealed.codec = compression.codec;
    }
    [&sealed.header(ProducerStamp::NONE)[..], &sealed.records].concat().into()
}

fn decoded(set: bytes::Bytes) -> Vec<Batch> {
    let decoder = Decoder {
        topic: "bench".into(),
        partition: 0,
        from: 0,
        until: i64::MAX,
        isolation: Isolation::Committed,
        aborted: Vec::new(),
        max_unpacked: usize::MAX,
    };
    decoder.decode(batches(set).unwrap_or_default()).0
}

fn record_path(c: &mut Criterion) {
    let input = input();
    let mut group = c.benchmark_group("record path");
    group.throughput(Throughput::Bytes(input.len() as u64));
    group.bench_function("split lines", |b| {
        b.iter(|| {
            let mut bytes = 0;
            each_line(black_box(&input), |line| bytes += line.len());
            bytes
        })
    });
    group.bench_function("encode a batch", |b| {
        let mut reader = LineReader::default();
        let mut spare = BytesMut::new();
        b.iter(|| {
            let mut builder = BatchBuilder::default();
            builder.seal(std::mem::take(&mut spare));
            each_line(black_box(&input), |line| builder.append(&reader.read(line).unwrap_or_default(), 0));
            let sealed = builder.seal(BytesMut::new());
            black_box(sealed.header(ProducerStamp::NONE));
            spare = sealed.records.try_into_mut().unwrap_or_default();
        })
    });
    for name in Codec::NAMES {
        let index = Codec::NAMES.iter().position(|known| *known == name).unwrap_or(0);
        let codec = Codec::from_attributes(index as i16).unwrap_or_default();
        let set = encoded(&input, Compression { codec, level: None });
        group.bench_function(format!("decode a batch ({name})"), |b| {
            b.iter(|| decoded(black_box(set.clone())).iter().flat_map(Batch::records).filter(|r| r.is_ok()).count())
        });
        if codec != Codec::None {
            group.bench_function(format!("compress a batch ({name})"), |b| {
                b.iter(|| Compression { codec, level: None }.compress(black_box(&input)))
            });
        }
    }
    let batches = decoded(encoded(&input, Compression::default()));
    let text = Encoding::Text;
    group.bench_function("write JSON", |b| write(b, &batches, JsonFormat::new(text, text, b"\n")));
    let template = Template::key_value(b"\t", b"\n");
    group.bench_function("write a template", |b| write(b, &batches, TemplateFormat::new(template.clone(), text, text)));
    group.bench_function("write CSV", |b| {
        let columns = Column::defaults().unwrap_or_default();
        write(b, &batches, CsvFormat::new(columns, b',', b"\n", true, text, text));
    });
    group.finish();
}

fn write(b: &mut Bencher<'_>, batches: &[Batch], mut format: impl Format) {
    let mut out = Vec::new();
    b.iter(|| {
        out.clear();
        for batch in batches {
            let _ = format.begin(batch); // these take every record
            for record in batch.records().flatten() {
                let _ = format.write(&mut out, &record, &View::PLAIN);
            }
        }
        out.len()
    });
}

/// Rows of 100 bytes with three columns, and the same as JSON: what `produce` reads.
fn input_formats(c: &mut Criterion) {
    let note = |n: usize| format!("{:.<74}", format!("the quick brown fox, {} times a day", n * 7919 % 1013));
    let rows = (0..LINES).map(|n| format!("{n:08},name-{:03},\"{}\"\n", n % 977, note(n)));
    let csv: Vec<u8> = std::iter::once("id,name,note\n".to_owned()).chain(rows).flat_map(String::into_bytes).collect();
    let objects = (0..LINES).map(|n| format!("{{\"key\":\"{n:08}\",\"value\":\"{}\"}}\n", note(n)));
    let json: Vec<u8> = objects.flat_map(String::into_bytes).collect();
    let mut group = c.benchmark_group("input");
    group.throughput(Throughput::Bytes(csv.len() as u64));
    group.bench_function("read CSV", |b| {
        b.iter(|| {
            let options = CsvOptions { key: Some("id".to_owned()), ..CsvOptions::default() };
            let shape = Shape::Csv(Box::new(CsvReader::new(options)));
            read(Framing::Csv(Box::new(CsvSplitter::new(b',', 1 << 20))), shape, black_box(&csv))
        })
    });
    group.throughput(Throughput::Bytes(json.len() as u64));
    group.bench_function("read JSON", |b| {
        b.iter(|| read(Framing::lines(b"\n", 1 << 20), Shape::Json(Box::default()), black_box(&json)))
    });
    group.finish();
}

/// The bytes of all values.
fn read(mut framing: Framing, shape: Shape, input: &[u8]) -> usize {
    let mut reader = Reader::new(shape, Derived::default());
    let mut bytes = 0;
    let fed = framing.feed(input, |frame| {
        if let Ok(Some(read)) = reader.read(&frame) {
            bytes += read.record.value.map_or(0, <[u8]>::len);
        }
        ControlFlow::<()>::Continue(())
    });
    assert!(fed.is_ok());
    bytes
}

criterion_group!(benches, record_path, input_formats);
criterion_main!(benches);
