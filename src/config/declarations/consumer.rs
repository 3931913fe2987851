//! Properties of consumers and their groups.

use super::connection::INT;
use crate::config::property::{Declaration, Millis, Or, Parsed, Property, Size, Text, properties};
use crate::config::values::{
    TerminalOutput, parse_assignor, parse_assignors, parse_group_protocol, parse_isolation, parse_start,
    parse_terminal_output,
};
use crate::engine::{GroupProtocol, Isolation, Start};

/// The largest size of a Java client's int.
const INT_SIZE: usize = i32::MAX as usize;

properties! {
    AUTO_COMMIT_INTERVAL: Or<Millis> =
        Property::new("auto.commit.interval.ms", Or(Millis(0..=INT), "1000"), "How often `--commit batch` commits")
            .flag("--commit-interval");
    AUTO_OFFSET_RESET: Parsed<Start> =
        Property::new("auto.offset.reset", Parsed(parse_start, "as `-o`"), "Where to start without a valid committed offset")
            .flag("-o")
            .unset("`earliest` with a group, else `latest`");
    CLIENT_RACK: Text =
        Property::new("client.rack", Text, "Rack of the client, to read from the nearest replica").flag("--rack");
    FETCH_MAX_BYTES: Or<Size> =
        Property::new("fetch.max.bytes", Or(Size(0..=INT_SIZE), "16M"), "Memory for prefetched records, decompressed; a response may use a quarter of it");
    FETCH_MAX_UNPACKED: Or<Size> =
        Property::new("fetch.max.unpacked.bytes", Or(Size(1..=INT_SIZE), "256M"), "Maximum size of a record batch after decompression");
    FETCH_MAX_WAIT: Or<Millis> =
        Property::new("fetch.max.wait.ms", Or(Millis(0..=INT), "500"), "How long a broker may wait for `fetch.min.bytes` before it responds")
            .also(&["fetch.wait.max.ms"]);
    FETCH_MIN_BYTES: Or<Size> =
        Property::new("fetch.min.bytes", Or(Size(0..=INT_SIZE), "1"), "Bytes of new records that a broker waits for before it responds");
    GROUP_ID: Text = Property::new("group.id", Text, "Consumer group").flag("-g");
    GROUP_INSTANCE_ID: Text = Property::new("group.instance.id", Text, "Group instance ID of a static member").flag("--instance-id");
    GROUP_PROTOCOL: Or<Parsed<GroupProtocol>> =
        Property::new("group.protocol", Or(Parsed(parse_group_protocol, "`auto`, `classic` or `consumer`"), "auto"), "Group protocol")
            .flag("--group-protocol");
    GROUP_REMOTE_ASSIGNOR: Parsed<String> =
        Property::new("group.remote.assignor", Parsed(parse_assignor, "`uniform` or `range`"), "Assignor of the coordinator (KIP-848)")
            .flag("--assignor")
            .unset("the group's");
    HEARTBEAT_INTERVAL: Or<Millis> =
        Property::new("heartbeat.interval.ms", Or(Millis(1..=INT), "500"), "Time between heartbeats (classic protocol)");
    ISOLATION_LEVEL: Or<Parsed<Isolation>> =
        Property::new("isolation.level", Or(Parsed(parse_isolation, "`read_committed` or `read_uncommitted`"), "read_committed"), "Isolation level")
            .flag("--isolation");
    OUTPUT: Or<Parsed<TerminalOutput>> =
        Property::new("kpipe.output", Or(Parsed(parse_terminal_output, "`json` or `pretty`"), "json"), "Output format of `consume` on a terminal; a pipe or file gets JSON")
            .flag("--output");
    MAX_PARTITION_FETCH_BYTES: Or<Size> =
        Property::new("max.partition.fetch.bytes", Or(Size(0..=INT_SIZE), "4M"), "Maximum size of one partition's records in a response")
            .also(&["fetch.message.max.bytes"]);
    MAX_POLL_INTERVAL: Or<Millis> =
        Property::new("max.poll.interval.ms", Or(Millis(1..=INT), "300000"), "How long the output may stall before the member leaves")
            .flag("--max-poll-interval");
    PARTITION_ASSIGNMENT_STRATEGY: Parsed<Vec<String>> =
        Property::new("partition.assignment.strategy", Parsed(parse_assignors, "names"), "Assignors; the Java client's class names are accepted")
            .flag("--assignor")
            .unset("`cooperative-sticky,range,roundrobin`");
    SESSION_TIMEOUT: Millis =
        Property::new("session.timeout.ms", Millis(1..=INT), "Session timeout (classic protocol)")
            .flag("--session-timeout")
            .unset("`45000`");
}
