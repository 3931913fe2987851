//! Properties of producers.

use super::connection::INT;
use crate::config::property::{Boolean, Declaration, Millis, Number, Or, Parsed, Property, Size, Text, properties};
use crate::config::values::{parse_acks, parse_compression, parse_partitioner};
use crate::engine::{Acks, Compression, Partitioner};

properties! {
    ACKS: Or<Parsed<Acks>> =
        Property::new("acks", Or(Parsed(parse_acks, "`all`, `1` or `0`"), "all"), "Required acknowledgments")
            .also(&["request.required.acks"])
            .flag("--acks");
    BATCH_SIZE: Or<Size> =
        Property::new("batch.size", Or(Size(0..=i32::MAX as usize), "1000000"), "Maximum size of a record batch before compression")
            .flag("--batch-size");
    BUFFER_MEMORY: Or<Size> =
        Property::new("buffer.memory", Or(Size(1..=usize::MAX), "64M"), "Memory for unacknowledged records").flag("--buffer-memory");
    COMPRESSION_LEVEL: Number<i32> =
        Property::new("compression.level", Number(1..=22), "Compression level of `gzip` or `zstd`")
            .also(&["compression.gzip.level", "compression.zstd.level"])
            .flag("-z CODEC:LEVEL")
            .unset("the codec's");
    COMPRESSION_TYPE: Or<Parsed<Compression>> =
        Property::new("compression.type", Or(Parsed(parse_compression, "`none`, `gzip`, `snappy`, `lz4` or `zstd`"), "none"), "Compression codec")
            .also(&["compression.codec"])
            .flag("-z");
    DELIVERY_TIMEOUT: Or<Millis> =
        Property::new("delivery.timeout.ms", Or(Millis(1..=INT), "120000"), "Fail a record that is not acknowledged within this time")
            .also(&["message.timeout.ms"])
            .flag("--timeout");
    ENABLE_IDEMPOTENCE: Boolean =
        Property::new("enable.idempotence", Boolean, "Use the idempotent producer")
            .flag("--idempotent")
            .unset("`true` with `acks=all`");
    LINGER: Or<Millis> =
        Property::new("linger.ms", Or(Millis(0..=INT), "0"), "How long to wait for more records before sending a batch when input is idle")
            .also(&["queue.buffering.max.ms"])
            .flag("--linger");
    MAX_IN_FLIGHT: Or<Number<usize>> =
        Property::new("max.in.flight.requests.per.connection", Or(Number(1..=1_000_000), "5"), "Maximum unacknowledged produce requests per broker; values above 5 count as 5")
            .also(&["max.in.flight"])
            .flag("--max-in-flight");
    MAX_REQUEST_SIZE: Or<Size> =
        Property::new("max.request.size", Or(Size(1..=i32::MAX as usize), "64M"), "Largest record")
            .also(&["message.max.bytes"])
            .flag("--max-record-size");
    PARTITIONER: Or<Parsed<Partitioner>> =
        Property::new("partitioner", Or(Parsed(parse_partitioner, "`murmur2_random`, `consistent_random`, `fnv1a_random` or `random`"), "murmur2_random"), "Partitioner for records without a partition")
            .flag("--partitioner");
    TRANSACTION_TIMEOUT: Or<Millis> =
        Property::new("transaction.timeout.ms", Or(Millis(1..=INT), "60000"), "How long a transaction may stay open before the brokers abort it")
            .flag("--transaction-timeout");
    TRANSACTIONAL_ID: Text = Property::new("transactional.id", Text, "Transactional ID").flag("--transactional-id");
}
