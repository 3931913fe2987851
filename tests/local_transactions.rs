//! Transactions on `kpipe local`: kpipe's and librdkafka's, what each reads of the other's, and their timeout.

use crate::support::{Cluster, Running, python, require, shell, wait_until};

#[test]
fn transactions_of_kpipe_are_visible_as_a_whole() {
    let kafka = Cluster::start_local(2);
    let topic = kafka.topic("txn", 2);
    let mut producer = Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic, "--transactional-id", "t"]);
    producer.write(b"a\nb\n");
    let all = ["consume", &topic, "-o", "beginning", "-e", "--isolation", "read_uncommitted", "--output", "value"];
    wait_until("the records", || kafka.kpipe(&all, b"").stdout.lines().count() == 2);
    assert_eq!(kafka.values(&topic), [""; 0], "nothing is visible before the commit");
    let done = producer.finish();
    assert_eq!(done.code, 0, "{}", done.stderr);
    let mut values = kafka.values(&topic);
    values.sort();
    assert_eq!(values, ["a", "b"]);
}

#[test]
fn a_transaction_of_librdkafka_commits_its_offsets_and_aborts() {
    require!(Python, Kcat);
    let kafka = Cluster::start_local(3);
    let (input, output) = (kafka.topic("in", 1), kafka.topic("out", 3));
    kafka.kpipe(&["produce", &input], b"1\n2\n3\n");
    let script = format!(
        r#"
from confluent_kafka import Consumer, Producer, TopicPartition
c = Consumer({{'bootstrap.servers': '{b}', 'group.id': 'g', 'auto.offset.reset': 'earliest', 'enable.auto.commit': False}})
c.subscribe(['{input}'])
p = Producer({{'bootstrap.servers': '{b}', 'transactional.id': 'librdkafka'}})
p.init_transactions(20)
read = []
while len(read) < 3:
    m = c.poll(1)
    if m is not None and not m.error(): read.append(m.value())
for ending in ['abort', 'commit']:
    p.begin_transaction()
    for value in read:
        p.produce('{output}', value + ending.encode())
    p.flush(20)
    p.send_offsets_to_transaction([TopicPartition('{input}', 0, 3)], c.consumer_group_metadata(), 20)
    p.abort_transaction(20) if ending == 'abort' else p.commit_transaction(20)
    print(ending, [o.offset for o in c.committed([TopicPartition('{input}', 0)], 20)])
c.close()
"#,
        b = kafka.bootstrap
    );
    let done = python(&script);
    assert_eq!((done.code, done.stdout.as_str()), (0, "abort [-1001]\ncommit [3]\n"), "{}", done.stderr);
    let read =
        format!("kcat -b {} -C -t {output} -o beginning -e -q -X isolation.level=read_committed", kafka.bootstrap);
    let mut by_kcat: Vec<_> = shell(&read).stdout.lines().map(str::to_owned).collect();
    by_kcat.sort();
    let mut by_kpipe = kafka.values(&output);
    by_kpipe.sort();
    assert_eq!((by_kcat, by_kpipe.join(" ").as_str()), (by_kpipe.clone(), "1commit 2commit 3commit"));
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("late", 1);
    let flags = ["produce", &topic, "--transactional-id", "late", "-X", "transaction.timeout.ms=1000"];
    let mut producer = Running::kpipe(&[&["-b", &kafka.bootstrap][..], &flags].concat());
    producer.write(b"a\n");
    let list = ["cluster", "transactions", "list", "-J"];
    wait_until("its abort", || kafka.try_kpipe(&list, b"").stdout.contains("CompleteAbort"));
    let done = producer.finish();
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert_eq!(kafka.values(&topic), [""; 0]);
}
