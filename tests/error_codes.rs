//! Every error code in answer to every request that kpipe sends, once and always: what kpipe does is what
//! `error_codes/table.txt` has, and it ends in time, in few requests and few lines.
//!
//! A few codes of each request are tried by default, `KPIPE_CODES=all` tries all of them. With `KPIPE_UPDATE_CODES=1`
//! the table is rewritten; review the difference before committing it.

mod broker;
mod cases;
mod old_broker;
mod table;

use crate::support::{Cluster, Wire, all_codes, files, fresh, impatient, in_parallel, report, run_bounded};
use broker::{Broker, Often, Refusal};
use cases::{CASES, Case, Sender};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{
    ApiKey, GroupId, InitProducerIdRequest, OffsetCommitRequest, ProducerId, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use kpipe::error::ErrorCode;
use old_broker::OldBroker;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Instant;
use table::{Row, Table};

/// Runs at a time: most of them wait.
const WORKERS: usize = 24;
/// What is looked up or begun again because of an error.
const RENEWED: [ApiKey; 6] = [
    ApiKey::Metadata,
    ApiKey::FindCoordinator,
    ApiKey::InitProducerId,
    ApiKey::JoinGroup,
    ApiKey::ListOffsets,
    ApiKey::OffsetFetch,
];
/// Codes that each request is tried with by default; it is tried with some others, besides.
const TELLING: [i16; 6] = [-1, 3, 6, 7, 16, 29];
/// Every so many of the other codes are tried by default.
const EVERY: usize = 32;

/// The errors that the schemas know, and one that does not exist.
fn codes() -> Vec<i16> {
    let known = |code: &i16| !matches!(ResponseError::try_from_code(*code), None | Some(ResponseError::Unknown(_)));
    (-1..1000).filter(known).chain([999]).collect()
}

fn name(code: i16) -> String {
    ResponseError::try_from_code(code).map_or_else(String::new, ErrorCode::name)
}

/// What a run of kpipe did.
struct Seen {
    code: i32,
    trace: Vec<ApiKey>,
    /// Whether SIGTERM ended it.
    is_endless: bool,
    stderr: String,
    misbehavior: Option<String>,
}

impl Seen {
    /// The requests behind the first one of `api`.
    fn after(&self, api: ApiKey) -> impl Iterator<Item = ApiKey> {
        self.trace.iter().skip_while(move |asked| **asked != api).skip(1).copied()
    }

    /// Whether the first answer to `api` made the command fail.
    fn ends_at_once(&self, api: ApiKey, usual: &Self) -> bool {
        self.code != usual.code && !self.is_endless && !self.after(api).any(|asked| asked == api)
    }
}

/// Brokers for one run after the other.
struct Worker {
    kafka: Cluster,
    old: OldBroker,
}

impl Worker {
    fn new() -> Self {
        let kafka = Cluster::start_local(1);
        kafka.local().offer_consumer_groups();
        for topic in ["t", "changed"] {
            kafka.kpipe(&["topics", "create", topic, "--partitions", "2"], b"");
            for partition in ["0", "1"] {
                kafka.kpipe(&["produce", topic, "-p", partition], b"a\nb\nc\n");
            }
        }
        let mut wire = Wire::connect(&kafka.bootstrap);
        let id = TransactionalId(StrBytes::from_static_str("x"));
        let request =
            InitProducerIdRequest::default().with_transactional_id(Some(id)).with_transaction_timeout_ms(9000);
        assert_eq!(wire.ask(&request.with_producer_id(ProducerId(-1)).with_producer_epoch(-1), 4).error_code, 0);
        Self { kafka, old: OldBroker::start() }
    }

    /// Commits offsets of a new group.
    fn commit(&self, group: &str) {
        let partition =
            |index| OffsetCommitRequestPartition::default().with_partition_index(index).with_committed_offset(1);
        let name = TopicName(StrBytes::from_static_str("t"));
        let topic =
            OffsetCommitRequestTopic::default().with_name(name).with_partitions(vec![partition(0), partition(1)]);
        let group = GroupId(StrBytes::from_string(group.to_owned()));
        let request = OffsetCommitRequest::default().with_group_id(group).with_generation_id_or_member_epoch(-1);
        let answer = Wire::connect(&self.kafka.bootstrap).ask(&request.with_topics(vec![topic]), 8);
        assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    }

    fn run(&self, case: &Case, refusal: Option<Refusal>) -> Seen {
        let (new, committed) = (fresh("new"), fresh("committed"));
        if case.args.contains(" H") {
            self.commit(&committed);
        }
        let is_new = ["delete D", "delete-records D", "add-partitions D"].iter().any(|verb| case.args.contains(verb));
        let changed = if is_new { fresh("doomed") } else { "changed".to_owned() };
        if is_new {
            self.kafka.kpipe(&["produce", &changed], b"a\n");
        }
        let new_broker = match case.sender {
            Sender::Native => Some(Broker::start(&self.kafka, case, refusal)),
            Sender::KafkaCrate => None,
        };
        let address = new_broker.as_ref().map_or_else(|| self.old.play(case, refusal), |broker| broker.address());
        let word = |word: &str| match word {
            "T" => "t".to_owned(),
            "T:0" => "t:0".to_owned(),
            "D" => changed.clone(),
            "N" | "G" => new.clone(),
            "H" => committed.clone(),
            "X" => "x".to_owned(),
            word => word.to_owned(),
        };
        let run = run_bounded(&impatient(&address, case.args.split(' ').map(word)), case.stdin.as_bytes());
        let trace = new_broker.map_or_else(|| self.old.end(), |broker| broker.end());
        self.kafka.local().faults().clear(case.api);
        let misbehavior = run.misbehaves(trace.len() as u64);
        let names = [(&new, "N"), (&committed, "H"), (&changed, "D"), (&address, "BROKER")];
        let stderr = names.iter().fold(run.stderr, |text, (name, sign)| text.replace(*name, sign));
        Seen { code: run.code, trace, is_endless: run.obeyed.is_some(), stderr, misbehavior }
    }
}

/// The lines on stderr that name the error or say what became of a transaction, else the last one. Lines that depend on
/// how long something took are left out.
fn message(seen: &Seen, code: i16) -> String {
    let text = seen.stderr.replace(&name(code), "ERROR");
    let depends = ["retrying", "recovered from", " records delivered in ", " record delivered in "];
    let lines = text.lines().map(|line| line.trim().trim_start_matches("kpipe: "));
    let lines: Vec<&str> = lines.filter(|line| !depends.iter().any(|words| line.contains(words))).collect();
    let telling = |line: &&&str| line.contains("ERROR") || line.starts_with("the transaction ");
    // What to do about it stands in parentheses at the end.
    let without_hint =
        |line: &str| line.split_once("ERROR (").map_or(line.to_owned(), |(before, _)| before.to_owned() + "ERROR");
    let told: Vec<String> = lines.iter().filter(telling).map(|line| without_hint(line)).collect();
    if told.is_empty() { lines.last().copied().unwrap_or_default().to_owned() } else { told.join(" | ") }
}

/// What a run did that met an error, beside one that met none.
fn described(seen: &Seen, usual: &Seen, api: ApiKey, code: i16) -> String {
    let is_repeated = seen.after(api).any(|asked| asked == api);
    let (after, usually): (BTreeSet<_>, BTreeSet<_>) =
        (seen.after(api).map(|api| api as i16).collect(), usual.after(api).map(|api| api as i16).collect());
    // Metadata alone may be asked for at any time.
    let tells = |renewed: &ApiKey| *renewed != api && (is_repeated || *renewed != ApiKey::Metadata);
    let renewed = RENEWED.iter().filter(|renewed| tells(renewed));
    let renewed = renewed.filter(|api| after.contains(&(**api as i16)) && !usually.contains(&(**api as i16)));
    let renewed: String = renewed.map(|api| format!(", {api:?}")).collect();
    if seen.is_endless {
        return format!("retried{renewed} until a signal: exit {}", seen.code);
    }
    match message(seen, code) {
        text if seen.code != usual.code => {
            let when = if is_repeated { format!("retried{renewed}, then ") } else { String::new() };
            format!("{when}exit {}: {text}", seen.code)
        }
        _ if is_repeated || !renewed.is_empty() => format!("retried{renewed}"),
        text if text == message(usual, code) || !text.contains("ERROR") => "ignored".to_owned(),
        text => format!("ignored: {text}"),
    }
}

fn is_tried(all: bool, case: usize, at: usize, code: i16) -> bool {
    all || TELLING.contains(&code) || (case + at).is_multiple_of(EVERY)
}

#[test]
fn every_error_code_of_every_request_does_what_the_table_has() {
    let began = Instant::now();
    let all = all_codes();
    let codes = codes();
    let items: Vec<(usize, i16)> = (0..CASES.len())
        .flat_map(|case| codes.iter().enumerate().map(move |(at, code)| (case, at, *code)))
        .filter(|(case, at, code)| is_tried(all, *case, *at, *code))
        .map(|(case, _, code)| (case, code))
        .collect();
    let usual: [Mutex<Option<std::sync::Arc<Seen>>>; CASES.len()] = std::array::from_fn(|_| Mutex::new(None));
    let (rows, wrong) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
    let one = |worker: &Worker, (index, code): (usize, i16)| {
        let case = &CASES[index];
        let usual = usual[index].lock().unwrap().get_or_insert_with(|| worker.run(case, None).into()).clone();
        if !usual.trace.contains(&case.api) {
            wrong.lock().unwrap().push(format!("{} is not sent: {:?} {}", case.name, usual.trace, usual.stderr));
            return;
        }
        let run = |often| worker.run(case, Some(Refusal { code, often }));
        let once = run(Often::Once);
        // What ends a command at once is answered no second time.
        let always = (!once.ends_at_once(case.api, &usual)).then(|| run(Often::Always));
        let always = always.as_ref().unwrap_or(&once);
        for (seen, often) in [(&once, "once"), (always, "always")] {
            let report = |what: &String| format!("{} {often} {}: {what}: {}", case.name, name(code), seen.stderr);
            wrong.lock().unwrap().extend(seen.misbehavior.iter().map(report));
        }
        let described = |seen: &Seen| described(seen, &usual, case.api, code);
        let row = Row { once: described(&once), always: described(always) };
        rows.lock().unwrap().insert((index, code), row);
    };
    let run_all = |items: &[(usize, i16)]| in_parallel(WORKERS, items, Worker::new, |worker, item| one(worker, *item));
    run_all(&items);
    // A busy machine may end a run before its retry, or have a usual run repeat a request: what differs from the table
    // must differ again, also from another usual run.
    let table = Table::read();
    for _ in 0..2 {
        let differs =
            |((case, code), row): &(&(usize, i16), &Row)| table.row(CASES[*case].name, &name(*code)) != Some(row);
        let again: Vec<_> = rows.lock().unwrap().iter().filter(differs).map(|(item, _)| *item).collect();
        for (case, _) in &again {
            *usual[*case].lock().unwrap() = None;
        }
        run_all(&again);
    }
    let (rows, mut wrong) = (rows.into_inner().unwrap(), wrong.into_inner().unwrap());
    report(&format!("{} errors of {} requests, once and always, in {:?}", rows.len(), CASES.len(), began.elapsed()));
    if std::env::var("KPIPE_UPDATE_CODES").is_ok() {
        let all_items = (0..CASES.len()).flat_map(|case| codes.iter().map(move |code| (case, *code)));
        let kept = all_items
            .filter_map(|(case, code)| Some(((case, code), table.row(CASES[case].name, &name(code))?.clone())));
        let mut whole: BTreeMap<_, _> = kept.collect();
        whole.extend(rows.clone());
        table::write(&whole, name);
        return;
    }
    for ((case, code), row) in &rows {
        let (case, name) = (CASES[*case].name, name(*code));
        match table.row(case, &name) {
            Some(expected) if expected == row => {}
            expected => wrong.push(format!("{case}: {name}: {row:?}, the table has {expected:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn no_request_and_no_error_code_is_missing_from_the_table() {
    let table = Table::read();
    for case in &CASES {
        for code in codes() {
            assert!(table.row(case.name, &name(code)).is_some(), "{} lacks {}", case.name, name(code));
        }
    }
    let mut sent = BTreeSet::new();
    for path in files(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine/native")) {
        let source = std::fs::read_to_string(path).unwrap();
        for (at, _) in source.match_indices("Request::default()") {
            let before = &source[..at];
            let start = before.rfind(|c: char| !c.is_alphanumeric()).map_or(0, |at| at + 1);
            sent.insert(before[start..].to_owned());
        }
    }
    // A part of DescribeProducers.
    sent.remove("Topic");
    let has_case = |sender, api: &str| CASES.iter().any(|c| c.sender == sender && format!("{:?}", c.api) == api);
    for api in sent {
        assert!(has_case(Sender::Native, &api), "{api} has no case");
    }
    // The crate's requests are those whose answers are checked.
    let checked = include_str!("../src/engine/kafka_crate/answers.rs");
    let (_, checked) = checked.split_once("match how.api {").unwrap();
    let (checked, _) = checked.split_once("_ =>").unwrap();
    for arm in checked.split("ApiKey::").skip(1) {
        let (api, _) = arm.split_once(" =>").unwrap();
        assert!(has_case(Sender::KafkaCrate, api), "{api} of the crate has no case");
    }
}
