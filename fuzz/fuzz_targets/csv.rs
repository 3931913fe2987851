//! CSV and length-prefixed input that arrives in any chunks gives the same records as in one chunk, or the same error.
#![no_main]

use kpipe::input::{
    BadLine, CsvOptions, CsvReader, CsvSplitter, Cut, Cutter, Derived, Frame, Framing, LengthReader, Reader, Shape,
};
use libfuzzer_sys::fuzz_target;
use std::ops::ControlFlow;

fn read<'a>(
    mut framing: Framing,
    mut reader: Reader,
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

fuzz_target!(|input: (u8, bool, &[u8])| {
    let (step, is_csv, data) = input;
    let step = usize::from(step).max(1);
    let all = |chunks: &mut dyn Iterator<Item = &'_ [u8]>| {
        let collected: Vec<&[u8]> = chunks.collect();
        let chunks = collected.into_iter();
        if is_csv {
            let framing = Framing::Csv(Box::new(CsvSplitter::new(b',', 1 << 20)));
            let reader = Shape::Csv(Box::new(CsvReader::new(CsvOptions::default())));
            return read(framing, Reader::new(reader, Derived::default()), chunks);
        }
        let length = LengthReader { has_keys: true, ..LengthReader::default() };
        let framing = Framing::Cut(Box::new(Cutter::new(Cut::Lengths { parts: length.parts() }, 1 << 20)));
        read(framing, Reader::new(Shape::Length(Box::new(length)), Derived::default()), chunks)
    };
    let (by_step, at_once) = (all(&mut data.chunks(step)), all(&mut std::iter::once(data)));
    assert_eq!(by_step.0, at_once.0);
    assert_eq!(by_step.1.is_some(), at_once.1.is_some());
});
