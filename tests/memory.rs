//! What a broker or a topic holds that takes much more memory than bytes on the wire: it is bounded, refused, or both,
//! and a signal ends kpipe meanwhile.

use crate::support::{Cluster, Ended, Wire, peer, run_bounded, run_until};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, BrokerId, MetadataResponse, ProduceRequest, TopicName};
use kafka_protocol::protocol::{Encodable, StrBytes};
use kpipe::engine::native::wire::{BatchBuilder, Codec, Compression, ProducerStamp, Sealed};
use kpipe::record::RecordRef;

fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|word| (*word).to_owned()).collect()
}

/// Puts batches into a topic of which each unpacks to 100 MiB.
fn put_bombs(kafka: &Cluster, topic: &str, count: usize) {
    let value = vec![0; 100 << 20];
    let mut builder = BatchBuilder::default();
    builder.append(&RecordRef { value: Some(&value), ..RecordRef::default() }, 0);
    let sealed = builder.seal(BytesMut::new());
    let packed = Compression { codec: Codec::Zstd, level: None }.compress(&sealed.records).unwrap();
    let sealed = Sealed { records: packed.into(), codec: Codec::Zstd, ..sealed };
    let records: Bytes = [&sealed.header(ProducerStamp::NONE)[..], &sealed.records].concat().into();
    let mut wire = Wire::connect(&kafka.bootstrap);
    for _ in 0..count {
        let data = PartitionProduceData::default().with_index(0).with_records(Some(records.clone()));
        let name = TopicName(StrBytes::from_string(topic.to_owned()));
        let data = TopicProduceData::default().with_name(name).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(5000).with_topic_data(vec![data]);
        assert_eq!(wire.ask(&request, 9).responses[0].partition_responses[0].error_code, 0);
    }
}

#[test]
fn batches_that_unpack_to_much_more_are_unpacked_few_at_a_time() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("bombs", 1);
    put_bombs(&kafka, &topic, 40);
    let args = ["-b", &kafka.bootstrap, "consume", &topic, "-o", "beginning", "-e", "--output", "none"];
    let run = run_bounded(&words(&args), b"");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.memory < 800_000, "{} kB", run.memory);
}

#[test]
fn a_signal_ends_a_consumer_that_unpacks_batches() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("bombs", 1);
    put_bombs(&kafka, &topic, 40);
    let args = ["-b", &kafka.bootstrap, "consume", &topic, "-o", "beginning", "--output", "none"];
    // The first batch is unpacked.
    let run = run_until(&words(&args), b"", |memory| memory > 120_000);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.obeyed.is_some_and(|after| after.as_secs() < 2), "{:?} of {:?}", run.obeyed, run.took);
}

/// A broker that answers Metadata with `answer`, and offers all requests.
fn answering(answer: impl Fn(u16) -> Vec<u8> + Send + Sync + 'static) -> String {
    peer(move |request| match ApiKey::try_from(request.api).unwrap() {
        ApiKey::ApiVersions => Some(request.offer(&[
            (ApiKey::Produce, 9),
            (ApiKey::Fetch, 12),
            (ApiKey::Metadata, 12),
            (ApiKey::ApiVersions, 3),
        ])),
        // Behind the header's tagged fields.
        _ => Some([&[0][..], &answer(request.port)].concat()),
    })
}

fn lists_topics(answer: impl Fn(u16) -> Vec<u8> + Send + Sync + 'static) -> Ended {
    run_bounded(&words(&["-b", &answering(answer), "-X", "request.timeout.ms=5000", "topics", "list"]), b"")
}

/// The answer in version 12, with the port where [`PORT`] stands.
fn metadata(topics: usize) -> Vec<u8> {
    let broker = MetadataResponseBroker::default().with_host(StrBytes::from_static_str("127.0.0.1"));
    let topic = |n: usize| {
        let name = TopicName(StrBytes::from_string(format!("topic-{n}")));
        let partition = MetadataResponsePartition::default().with_replica_nodes(vec![BrokerId(0)]);
        MetadataResponseTopic::default().with_name(Some(name)).with_partitions(vec![partition])
    };
    let answer = MetadataResponse::default()
        .with_brokers(vec![broker.with_port(PORT)])
        .with_topics((0..topics).map(topic).collect());
    let mut out = BytesMut::new();
    answer.encode(&mut out, 12).unwrap();
    out.to_vec()
}

/// A port that no broker has.
const PORT: i32 = 0x7abc_def0;

fn placed(answer: &[u8], port: u16) -> Vec<u8> {
    let mut answer = answer.to_vec();
    let at = answer.windows(4).position(|bytes| bytes == PORT.to_be_bytes()).unwrap();
    answer[at..at + 4].copy_from_slice(&i32::from(port).to_be_bytes());
    answer
}

#[test]
fn a_metadata_answer_of_250_megabytes_is_refused() {
    let run = lists_topics(|_| vec![0; 250 << 20]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("announced a response of 262144005 bytes"), "{}", run.stderr);
    assert!(run.memory < 100_000, "{} kB", run.memory);
}

/// The largest answers that are believed take a small multiple of their bytes, whether they are what they announce or
/// only announce it.
#[test]
fn a_large_metadata_answer_takes_a_small_multiple_of_its_bytes() {
    let honest = metadata(100_000);
    let mut forged = honest.clone();
    // The topics' count stands behind the broker, the cluster's ID and the controller.
    let at = forged.windows(3).position(|bytes| bytes == [0xa1, 0x8d, 0x06]).unwrap();
    forged[at..at + 3].copy_from_slice(&[0xff, 0xff, 0x7f]);
    let run = lists_topics(move |port| placed(&honest, port));
    assert_eq!((run.code, run.stdout.lines().count()), (0, 100_001), "{}", run.stderr);
    assert!(run.memory < 300_000, "{} kB", run.memory);
    let forged = lists_topics(move |port| placed(&forged, port));
    assert_ne!(forged.code, 0);
    assert!(forged.stderr.contains("malformed response to Metadata"), "{}", forged.stderr);
    assert!(forged.memory < 150_000, "{} kB", forged.memory);
}
