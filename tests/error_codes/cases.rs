//! The requests that kpipe sends, and for each a command that sends it.

use kafka_protocol::messages::ApiKey::{self, *};

/// Which errors of an answer are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Those that `kpipe local` sets: all that answer for what was asked.
    All,
    /// The one of the answer as a whole, where parts of it have errors, too.
    Whole,
    /// Those of partitions, directories or members, where the whole has one, too.
    Parts,
    /// That of the first partition alone, where others are answered well.
    OnePart,
}

/// What sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    Native,
    /// The `kafka` crate, to a broker of Kafka 0.8.
    KafkaCrate,
}

pub struct Case {
    pub name: &'static str,
    pub api: ApiKey,
    pub sender: Sender,
    pub level: Level,
    /// `T` is a topic of two partitions with three records, `D` one that may be changed, `N` a new one; `G` is a new
    /// group, `H` one with offsets of `T`; `X` is a transactional ID with a past.
    pub args: &'static str,
    pub stdin: &'static str,
}

const fn case(name: &'static str, api: ApiKey, args: &'static str) -> Case {
    Case { name, api, sender: Sender::Native, level: Level::All, args, stdin: "" }
}

const fn old(case: Case) -> Case {
    Case { sender: Sender::KafkaCrate, ..case }
}

const fn level(level: Level, case: Case) -> Case {
    Case { level, ..case }
}

const fn input(stdin: &'static str, case: Case) -> Case {
    Case { stdin, ..case }
}

const LINES: &str = "1\n2\n3\n";
const PRODUCE: &str = "produce N --timeout 2s";
const TRANSACTIONAL: &str = "produce N --timeout 2s --transactional-id N";
const CONSUME: &str = "consume T -o beginning -e";
const CLASSIC: &str = "consume T -g G -e --group-protocol classic";
const KIP_848: &str = "consume T -g G -e --group-protocol consumer";
const RESET: &str = "groups reset H --topic T --to beginning --execute";
const SASL: &str =
    "-X security.protocol=SASL_PLAINTEXT -X sasl.mechanism=PLAIN -X sasl.username=u -X sasl.password=p topics list";
const OLD_PRODUCE: &str = "--engine kafka produce T --timeout 2s";
const OLD_CONSUME: &str = "--engine kafka consume T -o beginning -e";
const OLD_GROUP: &str = "--engine kafka consume T -g G -e";

pub const CASES: [Case; 79] = [
    case("ApiVersions", ApiVersions, "topics list"),
    case("SaslHandshake", SaslHandshake, SASL),
    case("SaslAuthenticate", SaslAuthenticate, SASL),
    input(LINES, case("Metadata (produce)", Metadata, PRODUCE)),
    case("Metadata (consume)", Metadata, CONSUME),
    case("Metadata (consume -g)", Metadata, CLASSIC),
    case("Metadata (topics list)", Metadata, "topics list"),
    case("Metadata (topics describe)", Metadata, "topics describe T"),
    input(LINES, case("Produce (idempotent)", Produce, PRODUCE)),
    input(LINES, case("Produce (acks=1)", Produce, "produce N --timeout 2s --idempotent false --acks 1")),
    input(LINES, case("Produce (transaction)", Produce, TRANSACTIONAL)),
    input(LINES, case("InitProducerId (idempotent)", InitProducerId, PRODUCE)),
    input(LINES, case("InitProducerId (transaction)", InitProducerId, TRANSACTIONAL)),
    input(LINES, case("FindCoordinator (transaction)", FindCoordinator, TRANSACTIONAL)),
    input(LINES, case("AddPartitionsToTxn", AddPartitionsToTxn, TRANSACTIONAL)),
    input(LINES, case("EndTxn (commit)", EndTxn, TRANSACTIONAL)),
    input(
        "{\"value\":\"1\"}\n{",
        case("EndTxn (abort)", EndTxn, "produce N --timeout 2s --transactional-id N --input json"),
    ),
    level(Level::Whole, case("Fetch (whole)", Fetch, CONSUME)),
    level(Level::Parts, case("Fetch (partitions)", Fetch, CONSUME)),
    level(Level::OnePart, case("Fetch (one partition of two)", Fetch, CONSUME)),
    case("ListOffsets (consume)", ListOffsets, CONSUME),
    case("ListOffsets (topics offsets)", ListOffsets, "topics offsets T"),
    level(Level::OnePart, case("ListOffsets (one partition of two)", ListOffsets, "topics offsets T")),
    case("FindCoordinator (consume)", FindCoordinator, CLASSIC),
    case("FindCoordinator (groups describe)", FindCoordinator, "groups describe H"),
    case("JoinGroup", JoinGroup, CLASSIC),
    case("SyncGroup", SyncGroup, CLASSIC),
    case("Heartbeat", Heartbeat, "consume T -g G --group-protocol classic --idle-timeout 1500ms"),
    case("LeaveGroup", LeaveGroup, CLASSIC),
    case("ConsumerGroupHeartbeat", ConsumerGroupHeartbeat, KIP_848),
    case("DescribeGroups (consume)", DescribeGroups, "consume T -g G -e"),
    level(Level::Whole, case("OffsetFetch (consume, whole)", OffsetFetch, CLASSIC)),
    level(Level::Parts, case("OffsetFetch (consume, partitions)", OffsetFetch, CLASSIC)),
    level(Level::Whole, case("OffsetFetch (groups lag)", OffsetFetch, "groups lag H")),
    case("OffsetCommit (classic)", OffsetCommit, CLASSIC),
    case("OffsetCommit (KIP-848)", OffsetCommit, KIP_848),
    case("OffsetCommit (groups reset)", OffsetCommit, RESET),
    case("ListGroups", ListGroups, "groups list"),
    case("DescribeGroups (groups describe)", DescribeGroups, "groups describe H"),
    case("ConsumerGroupDescribe", ConsumerGroupDescribe, "groups describe H"),
    case("DeleteGroups", DeleteGroups, "groups delete H --yes"),
    level(Level::Whole, case("OffsetDelete (whole)", OffsetDelete, "groups delete-offsets H --topic T --yes")),
    level(Level::Parts, case("OffsetDelete (partitions)", OffsetDelete, "groups delete-offsets H --topic T --yes")),
    case("CreateTopics", CreateTopics, "topics create N --partitions 2"),
    case("CreatePartitions", CreatePartitions, "topics add-partitions D --to 4"),
    case("DeleteTopics", DeleteTopics, "topics delete D --yes"),
    case("DeleteRecords", DeleteRecords, "topics delete-records D --before end --yes"),
    case("DescribeConfigs", DescribeConfigs, "topics describe T"),
    case("IncrementalAlterConfigs", IncrementalAlterConfigs, "topics alter D --config retention.ms=77777777"),
    level(Level::Whole, case("ElectLeaders (whole)", ElectLeaders, "topics elect-leaders T --yes")),
    level(Level::Parts, case("ElectLeaders (partitions)", ElectLeaders, "topics elect-leaders T --yes")),
    level(
        Level::Whole,
        case("AlterPartitionReassignments (whole)", AlterPartitionReassignments, "topics reassign cancel T --yes"),
    ),
    level(
        Level::Parts,
        case("AlterPartitionReassignments (partitions)", AlterPartitionReassignments, "topics reassign cancel T --yes"),
    ),
    case("ListPartitionReassignments", ListPartitionReassignments, "topics reassign progress"),
    case("DescribeAcls", DescribeAcls, "acls list"),
    case("CreateAcls", CreateAcls, "acls create --principal User:b --operation read --topic T --yes"),
    level(Level::Whole, case("DeleteAcls (filters)", DeleteAcls, "acls delete --principal User:a --yes")),
    level(Level::Parts, case("DeleteAcls (matches)", DeleteAcls, "acls delete --principal User:a --yes")),
    level(
        Level::Whole,
        case("DescribeUserScramCredentials (whole)", DescribeUserScramCredentials, "cluster users list u"),
    ),
    level(
        Level::Parts,
        case("DescribeUserScramCredentials (users)", DescribeUserScramCredentials, "cluster users list u"),
    ),
    input("secret\n", case("AlterUserScramCredentials", AlterUserScramCredentials, "cluster users create u --yes")),
    case("DescribeCluster", DescribeCluster, "cluster brokers"),
    level(Level::Whole, case("DescribeLogDirs (whole)", DescribeLogDirs, "cluster log-dirs")),
    level(Level::Parts, case("DescribeLogDirs (directories)", DescribeLogDirs, "cluster log-dirs")),
    case("DescribeQuorum", DescribeQuorum, "cluster quorum"),
    case("DescribeProducers", DescribeProducers, "cluster transactions abort-hanging T:0 --start-offset 0 --yes"),
    case("WriteTxnMarkers", WriteTxnMarkers, "cluster transactions abort-hanging T:0 --start-offset 0 --yes"),
    case("DescribeTransactions", DescribeTransactions, "cluster transactions describe X"),
    case("ListTransactions", ListTransactions, "cluster transactions list"),
    old(input(LINES, level(Level::Whole, case("Metadata v0 (produce, topic)", Metadata, OLD_PRODUCE)))),
    old(input(LINES, level(Level::Parts, case("Metadata v0 (produce, partitions)", Metadata, OLD_PRODUCE)))),
    old(level(Level::Whole, case("Metadata v0 (consume, topic)", Metadata, OLD_CONSUME))),
    old(level(Level::Parts, case("Metadata v0 (consume, partitions)", Metadata, OLD_CONSUME))),
    old(input(LINES, case("Produce v0", Produce, OLD_PRODUCE))),
    old(case("ListOffsets v0", ListOffsets, OLD_CONSUME)),
    old(case("Fetch v0", Fetch, OLD_CONSUME)),
    old(case("FindCoordinator v0", FindCoordinator, OLD_GROUP)),
    old(case("OffsetFetch v1", OffsetFetch, OLD_GROUP)),
    old(case("OffsetCommit v1", OffsetCommit, OLD_GROUP)),
];
