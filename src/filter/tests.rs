use super::*;
use crate::record::{Batch, HeaderBuf, encode};
use bytes::BytesMut;
use proptest::prelude::*;
use regex::bytes::Regex;

type Made = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn batch(records: &[Made], from: Offset, until: Offset) -> Batch {
    let mut bytes = BytesMut::new();
    for (index, (key, value, headers)) in records.iter().enumerate() {
        let mut buf = HeaderBuf::default();
        headers.iter().for_each(|(name, value)| buf.push(name, value.as_deref()));
        let record = RecordRef {
            key: key.as_deref(),
            value: value.as_deref(),
            headers: buf.as_headers(),
            ..RecordRef::default()
        };
        encode(&mut bytes, &record, 0, index as i32);
    }
    let mut batch = Batch::unplaced("t".into(), 0, Some(7), records.len() as u32, bytes.freeze());
    (batch.from, batch.until, batch.next_offset) = (from, until, batch.next_offset.min(until));
    batch
}

/// The offsets of the records that `filter` lends of `batch`.
fn lent(filter: &mut Filter, batch: &Batch) -> Vec<Offset> {
    let mut records = batch.records();
    std::iter::from_fn(|| filter.next(0, &mut records)).map(|record| record.unwrap().offset).collect()
}

fn with(field: Field, pattern: &str) -> Filter {
    Filter::new(vec![Condition::new(field, Test::matches(pattern, false).unwrap())], false, None)
}

fn values(values: &[&str]) -> Vec<Made> {
    values.iter().map(|value| (None, Some(value.as_bytes().to_vec()), vec![])).collect()
}

#[test]
fn a_match_that_spans_records_or_parts_is_none() {
    let records = [
        (Some(b"ab".to_vec()), Some(b"cd".to_vec()), vec![]),
        (Some(b"x".to_vec()), Some(b"abcd".to_vec()), vec![(b"cd".to_vec(), None)]),
        (Some(b"abcd".to_vec()), None, vec![]),
    ];
    let batch = batch(&records, 0, Offset::MAX);
    assert_eq!(lent(&mut with(Field::Value, "cd"), &batch), [0, 1]);
    assert_eq!(lent(&mut with(Field::Value, r"b[\s\S]{0,8}c"), &batch), [1]);
    assert_eq!(lent(&mut with(Field::Key, "abcd"), &batch), [2]);
    assert_eq!(lent(&mut with(Field::Value, "^cd$"), &batch), [0]);
    assert_eq!(lent(&mut with(Field::Value, ""), &batch), [0, 1], "a null value has no match");
}

#[test]
fn headers_are_matched_by_name_and_value() {
    let header = |name: &[u8], value: Option<&[u8]>| (None, None, vec![(name.to_vec(), value.map(<[u8]>::to_vec))]);
    let batch = batch(&[header(b"a", Some(b"1")), header(b"a", None), header(b"b", Some(b"1"))], 0, Offset::MAX);
    let name = || Field::Header(b"a".to_vec());
    let only = |test| Filter::new(vec![Condition::new(name(), test)], false, None);
    assert_eq!(lent(&mut only(Test::Exists), &batch), [0, 1]);
    assert_eq!(lent(&mut only(Test::matches("1", false).unwrap()), &batch), [0]);
    assert_eq!(lent(&mut only(Test::Equals(b"1".to_vec())), &batch), [0]);
}

#[test]
fn all_conditions_hold_or_with_invert_not_all() {
    let both = |is_inverted| {
        let conditions = ["a", "b"].map(|pattern| Condition::new(Field::Value, Test::matches(pattern, true).unwrap()));
        Filter::new(conditions.to_vec(), is_inverted, None)
    };
    let batch = batch(&values(&["a", "AB", "b", "ba", ""]), 0, Offset::MAX);
    assert_eq!(lent(&mut both(false), &batch), [1, 3]);
    let mut inverted = both(true);
    assert_eq!(lent(&mut inverted, &batch), [0, 2, 4]);
    assert_eq!((inverted.read(), inverted.matched()), (5, 3));
}

#[test]
fn every_nth_match_is_lent_across_batches() {
    let mut filter = Filter::new(vec![], false, Some(Sampling::Every(3)));
    let batch = batch(&values(&["a"; 5]), 0, Offset::MAX);
    assert_eq!([lent(&mut filter, &batch), lent(&mut filter, &batch)], [vec![0, 3], vec![1, 4]]);
    assert_eq!((filter.read(), filter.matched()), (10, 10));
}

#[test]
fn a_share_is_about_so_large_and_the_same_each_time() {
    let batch = batch(&values(&["a"; 10_000]), 0, Offset::MAX);
    let sample = |share| lent(&mut Filter::new(vec![], false, Some(Sampling::share(share))), &batch);
    assert!((80..=120).contains(&sample(0.01).len()), "{}", sample(0.01).len());
    assert_eq!(sample(0.01), sample(0.01));
    assert_eq!((sample(0.0).len(), sample(1.0).len()), (0, 10_000));
}

#[test]
fn a_batch_without_a_match_is_read_as_a_whole() {
    let mut filter = with(Field::Value, "needle");
    let mut many = vec!["hay"; 1_000];
    many[500] = "a needle";
    let batch = batch(&values(&many), 0, Offset::MAX);
    assert_eq!(lent(&mut filter, &batch), [500]);
    assert_eq!((filter.read(), filter.matched()), (1_000, 1));
}

proptest! {
    /// Whether batches are searched as a whole or not: the same records as when each is looked at.
    #[test]
    fn a_filter_lends_what_matches(
        records in prop::collection::vec((
            prop::option::of("[abc]{0,4}".prop_map(String::into_bytes)),
            prop::option::of(prop_oneof!["[abc]{0,6}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..6)]),
            prop::collection::vec(("[ab]".prop_map(String::into_bytes), prop::option::of("[abc]{0,3}".prop_map(String::into_bytes))), 0..3),
        ), 0..60),
        pattern in prop_oneof![Just("a"), Just("abc"), Just("(?s)a.c"), Just("^a"), Just("b$"), Just(r"\bab"), Just("[ab]+c"), Just("c|^b"), Just("")],
        field in prop_oneof![Just(Field::Key), Just(Field::Value), Just(Field::Header(b"a".to_vec()))],
        is_inverted: bool, from in 0..20_i64, until in 0..80_i64,
    ) {
        let mut filter = Filter::new(
            vec![Condition::new(field.clone(), Test::matches(pattern, false).unwrap())], is_inverted, None,
        );
        let regex = Regex::new(pattern).unwrap();
        let matches = |(key, value, headers): &Made| {
            let is_match = |bytes: &Option<Vec<u8>>| bytes.as_ref().is_some_and(|bytes| regex.is_match(bytes));
            match &field {
                Field::Key => is_match(key),
                Field::Value => is_match(value),
                Field::Header(name) => headers.iter().any(|(header, value)| header == name && is_match(value)),
            }
        };
        let batch = batch(&records, from, until);
        let visible: Vec<_> = (0..records.len() as Offset).filter(|offset| (from..until).contains(offset)).collect();
        let expected: Vec<Offset> =
            visible.iter().copied().filter(|offset| matches(&records[*offset as usize]) != is_inverted).collect();
        prop_assert_eq!(lent(&mut filter, &batch), expected.clone());
        prop_assert_eq!((filter.read(), filter.matched()), (visible.len() as u64, expected.len() as u64));
    }

    /// Equal texts are found by their bytes, whatever these are.
    #[test]
    fn equal_keys_are_found(key in prop::collection::vec(any::<u8>(), 0..8), others in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 0..40)) {
        let mut records: Vec<Made> = others.into_iter().map(|key| (Some(key), None, vec![])).collect();
        records.push((Some(key.clone()), None, vec![]));
        let mut filter = Filter::new(vec![Condition::new(Field::Key, Test::Equals(key.clone()))], false, None);
        let expected: Vec<Offset> =
            (0..).zip(&records).filter(|(_, (found, ..))| found.as_ref() == Some(&key)).map(|(offset, _)| offset).collect();
        prop_assert_eq!(lent(&mut filter, &batch(&records, 0, Offset::MAX)), expected);
    }
}
