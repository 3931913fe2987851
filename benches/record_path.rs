//! The record path without the network: lines to batches, and batches to JSON.

#![allow(missing_docs)] // criterion's macros generate functions without documentation

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kpipe::codec::Encoding;
use kpipe::engine::native::wire::{BatchBuilder, Codec, Compression, Decoder, Isolation, ProducerStamp, batches};
use kpipe::input::{LineReader, Splitter};
use kpipe::output::{Format, JsonFormat};
use kpipe::record::Batch;
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
    group.bench_function("write JSON", |b| {
        let mut format = JsonFormat::new(Encoding::Text, Encoding::Text, b"\n");
        let mut out = Vec::new();
        b.iter(|| {
            out.clear();
            for batch in &batches {
                let _ = format.begin(batch); // JSON takes every record
                for record in batch.records().flatten() {
                    let _ = format.write(&mut out, &record);
                }
            }
            out.len()
        })
    });
    group.finish();
}

criterion_group!(benches, record_path);
criterion_main!(benches);
