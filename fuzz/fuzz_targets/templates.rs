//! Any template is compiled or refused; what a template that can be read back wrote with lengths is the same record.
#![no_main]

use kpipe::codec::{Encoding, View};
use kpipe::input::{Cut, Cutter, Frame, Framing, Program, TemplateOptions, TemplateReader};
use kpipe::output::{Format, TemplateFormat};
use kpipe::record::{Headers, RecordRef};
use kpipe::template::Template;
use libfuzzer_sys::fuzz_target;
use std::ops::ControlFlow;

fuzz_target!(|input: (&str, Option<&[u8]>, Option<&[u8]>, i64, u8)| {
    let (text, key, value, timestamp, step) = input;
    let record = RecordRef { offset: 1, timestamp: Some(timestamp), key, value, headers: Headers::default() };
    let step = usize::from(step).max(1);
    if let Ok(template) = text.parse::<Template>() {
        let mut out = Vec::new();
        let _ = TemplateFormat::new(template.clone(), Encoding::Text, Encoding::Text).write(&mut out, &record, &View::PLAIN);
        if let Ok(program) = Program::new(&template, Encoding::Text, Encoding::Text) {
            read(&template, program, &out, step, |_| {});
        }
    }
    let Ok(exact) = "%K %R%k%s".parse::<Template>() else { return };
    let Ok(program) = Program::new(&exact, Encoding::Text, Encoding::Text) else { return };
    let mut out = Vec::new();
    let _ = TemplateFormat::new(exact.clone(), Encoding::Text, Encoding::Text).write(&mut out, &record, &View::PLAIN);
    let mut count = 0;
    read(&exact, program, &out, step, |read| {
        assert_eq!((read.key, read.value), (key, value));
        count += 1;
    });
    assert_eq!(count, 1);
});

fn read(template: &Template, program: Program, bytes: &[u8], step: usize, mut each: impl FnMut(&RecordRef<'_>)) {
    let Ok(same) = Program::new(template, Encoding::Text, Encoding::Text) else { return };
    let mut framing = Framing::Cut(Box::new(Cutter::new(Cut::Template(program), 1 << 20)));
    let mut reader = TemplateReader::new(same, TemplateOptions::default());
    for chunk in bytes.chunks(step) {
        let fed = framing.feed(chunk, |frame: Frame<'_>| {
            if let Ok(read) = reader.read(&frame) {
                each(&read.record);
            }
            ControlFlow::<()>::Continue(())
        });
        if fed.is_err() {
            return;
        }
    }
}
