use super::super::failure::Limit;
use super::*;
use std::cell::Cell;
use std::rc::Rc;

fn jq(source: &str) -> Jq {
    Jq::compile(source, false, || false).unwrap()
}

fn results(jq: &Jq, json: &str) -> (Vec<String>, Result<(), Failure>) {
    let mut results = Vec::new();
    let ended = jq.run(json.as_bytes(), |output| {
        let mut out = Vec::new();
        output.append(&mut out);
        results.push(String::from_utf8(out).unwrap());
        true
    });
    (results, ended)
}

fn run(source: &str, json: &str) -> Vec<String> {
    let (results, ended) = results(&jq(source), json);
    assert_eq!(ended, Ok(()), "{source}");
    results
}

#[test]
fn programs_do_what_jq_does() {
    for (source, json, expected) in [
        (".", r#"{"b":1,"a":[1.50,"é\n"]}"#, &[r#"{"b":1,"a":[1.50,"é\n"]}"#][..]),
        (".value.id", r#"{"value":{"id":7}}"#, &["7"]),
        (".[] | select(. > 1)", "[1,2,3]", &["2", "3"]),
        ("empty", "1", &[]),
        ("[range(3)]", "null", &["[0,1,2]"]),
        ("[range(0;10;4)]", "null", &["[0,4,8]"]),
        ("[limit(3; repeat(1))]", "null", &["[1,1,1]"]),
        ("[recurse(if . < 2 then .+1 else empty end)]", "0", &["[0,1,2]"]),
        ("def f(n): if n > 2 then . else . + n | f(n + 1) end; f(0)", "1", &["4"]),
        ("[.. | numbers]", "[1,[2]]", &["[1,2]"]),
        ("del(.. | select(. == 2))", "[1,[2]]", &["[1,[]]"]),
        ("[paths]", r#"{"a":[1]}"#, &[r#"[["a"],["a",0]]"#]),
        ("(recurse | numbers) |= . + 1", "[1,[2]]", &["[2,[3]]"]),
        (".v | fromjson | .a", r#"{"v":"{\"a\":1}"}"#, &["1"]),
        ("[.v | fromjson?]", r#"{"v":"{"}"#, &["[]"]),
        (r#""\(.a)-\(.b)""#, r#"{"a":1,"b":"x"}"#, &[r#""1-x""#]),
        ("try error(\"no\") catch .", "1", &["\"no\""]),
        ("reduce .[] as [$a, $b] (0; . + $a * $b)", "[[1,2],[3,4]]", &["14"]),
    ] {
        assert_eq!(run(source, json), expected, "{source}");
    }
}

/// What is found without reading the rest is what the program would result in.
#[test]
fn plain_paths_result_in_what_the_program_results_in() {
    for json in [
        r#"{"value":{"id":7}}"#,
        r#"{"value":{"id":1,"id":{"a" : "\u00e9",  "b":1.50},"x":0}}"#,
        r#"{"value":{"i\u0064":[1, 2],"x":{"id":3}},"id":4}"#,
        r#"{"value":{}}"#,
        r#"{"value":null}"#,
        r#"{"value":3}"#,
        r#"{"value":"}"}"#,
        "[]",
    ] {
        let (found, program) = (results(&jq(".value.id"), json), results(&jq(".value | .id"), json));
        assert_eq!(found, program, "{json}");
    }
    assert!([".value-1", ".", ".a[0]", ".a?", ".a,.b", "..", ".1a"].iter().all(|source| plain_path(source).is_none()));
}

#[test]
fn strings_are_raw_where_that_is_asked_for() {
    let raw = Jq::compile(".[]", true, || false).unwrap();
    assert_eq!(results(&raw, r#"["a\"b",{"c":"d"}]"#).0, ["a\"b", r#"{"c":"d"}"#]);
}

#[test]
fn what_is_wrong_with_a_program_is_told() {
    for (source, why) in [
        (".a |", "expected term at the end (column 5)"),
        ("(.a", "expected closing parenthesis at the end (column 4)"),
        (".a ] b", "expected"),
        ("nonsense", "nonsense/0 is not defined"),
        ("$x", "variable $x is not defined"),
        ("import \"a\" as a; .", "a: "),
    ] {
        let error = Jq::compile(source, false, || false).unwrap_err();
        assert!(error.contains(why), "{source}: {error}");
    }
}

#[test]
fn an_error_comes_after_the_results_before_it() {
    let (results, ended) = results(&jq(".[] | .a"), r#"[{"a":1},2]"#);
    assert_eq!(results, ["1"]);
    assert!(matches!(&ended, Err(Failure::Raised(why)) if why.contains("cannot index 2 with \"a\"")), "{ended:?}");
    assert_eq!(jq("halt").run(b"1", |_| true), Err(Failure::Raised("halt is not supported".to_owned())));
}

/// The threads of tests have a smaller stack than a program's main thread.
fn on_a_large_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(8 << 20).spawn(test).unwrap().join().unwrap();
}

#[test]
fn every_program_without_an_end_can_be_interrupted() {
    on_a_large_stack(|| ENDLESS.iter().for_each(|source| interrupt(source)));
}

const ENDLESS: [&str; 15] = [
    "last(range(1e12))",
    "range(1e12) | empty",
    "[range(1e12)] | length",
    "last(repeat(1))",
    "def f: f; f",
    "def f: (. | f)?; f",
    "def f: try f catch f; f",
    "[.] | until(false; .)",
    "reduce range(1e12) as $i (0; . + $i)",
    "last(recurse(.))",
    "last(while(true; .))",
    "try last(repeat(1)) catch 1",
    "last(range(0; 1; 0))",
    "isempty(range(1e12) | empty)",
    "label $out | foreach repeat(1) as $x (0; . + $x; if . < 0 then ., break $out else empty end)",
];

fn interrupt(source: &str) {
    let calls = Rc::new(Cell::new(0));
    let counted = calls.clone();
    let is_interrupted = move || {
        counted.set(counted.get() + 1);
        counted.get() > 3
    };
    let ended = Jq::compile(source, false, is_interrupted).unwrap().run(b"1", |_| true);
    // A recursion that is no tail call is too deep before.
    assert!(matches!(ended, Err(Failure::Limited(Limit::Interrupted | Limit::Depth))), "{source}: {ended:?}");
}

#[test]
fn a_receiver_ends_a_program_that_results_in_ever_more() {
    let mut received = 0;
    let ended = jq("repeat(.)").run(b"1", |_| {
        received += 1;
        received < 1_000
    });
    assert_eq!((ended, received), (Err(Failure::Receiver), 1_000));
}

#[test]
fn recursion_and_nesting_have_limits() {
    on_a_large_stack(recurse_and_nest);
}

fn recurse_and_nest() {
    let deep = |source: &str, json: &str| results(&jq(source), json).1;
    assert_eq!(deep("def f: 1 + f; f", "1"), Err(Failure::Limited(Limit::Depth)));
    let nested = format!("{{\"v\":\"{}\"}}", "[".repeat(1_000_000));
    assert!(matches!(deep(".v | fromjson", &nested), Err(Failure::Raised(why)) if why.contains("nested too deeply")));
    assert_eq!(run(".", "1"), ["1"]);
}
