//! Filters lend of any batch what a search record by record finds; expressions and programs are refused or compiled.
#![no_main]

use kpipe::engine::native::wire::{Decoder, Isolation, batches};
use kpipe::filter::{Condition, Field, Filter, Jq, Test};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, bool, Vec<u8>)| {
    let (pattern, program, is_inverted, data) = input;
    let _ = Jq::compile(program, false, || true);
    let Ok(test) = Test::matches(pattern, false) else { return };
    let Ok(raw) = batches(data.into()) else { return };
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
});
