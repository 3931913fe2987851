//! Properties of every connection.

use crate::config::property::{Declaration, Millis, Or, Property, Text, properties};

/// The largest number of milliseconds of a Java client's int.
pub(super) const INT: u64 = i32::MAX as u64;

properties! {
    BOOTSTRAP_SERVERS: Or<Text> =
        Property::new("bootstrap.servers", Or(Text, "localhost:9092"), "Bootstrap brokers, `HOST:PORT,...`")
            .also(&["metadata.broker.list"])
            .flag("-b");
    CLIENT_ID: Or<Text> = Property::new("client.id", Or(Text, "kpipe"), "Client ID in the brokers' logs and quotas");
    METADATA_MAX_AGE: Or<Millis> =
        Property::new("metadata.max.age.ms", Or(Millis(1..=INT), "10000"), "How often to refresh metadata")
            .also(&["topic.metadata.refresh.interval.ms"]);
    REQUEST_TIMEOUT: Or<Millis> =
        Property::new("request.timeout.ms", Or(Millis(1..=INT), "30000"), "How long to wait for a response before retrying")
            .also(&["socket.timeout.ms"])
            .flag("--request-timeout");
    RETRY_BACKOFF: Or<Millis> =
        Property::new("retry.backoff.ms", Or(Millis(0..=INT), "100"), "Wait before the first retry; doubles up to 1 s");
    CONNECTION_SETUP_TIMEOUT: Or<Millis> =
        Property::new("socket.connection.setup.timeout.ms", Or(Millis(1..=INT), "5000"), "How long to wait for a connection");
}
