//! Which versions of which requests a broker offers (KIP-35).

use super::super::wire::message;
use crate::error::error_code;
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest};
use kafka_protocol::protocol::{Request, StrBytes, VersionRange};
use std::collections::HashMap;

/// The request for it, with kpipe's name and version (KIP-511).
pub fn api_versions_request() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("kpipe"))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")))
}

/// A broker's offer, as it answered ApiVersions.
#[derive(Debug, Clone, Default)]
pub struct Versions {
    ranges: HashMap<i16, VersionRange>,
}

impl Versions {
    /// Parses an ApiVersions response; `Err` is the broker's error, `None` when the answer is malformed.
    pub fn parse(mut answer: Bytes, version: i16) -> Result<Self, Option<ResponseError>> {
        // A broker that does not know `version` says so in version 0.
        match answer.first_chunk().map(|code| i16::from_be_bytes(*code)) {
            None => return Err(None),
            Some(0) => {}
            Some(code) => return Err(error_code(code)),
        }
        let response: ApiVersionsResponse = message::decode(&mut answer, version, version >= 3).map_err(|_| None)?;
        let range = |api: &ApiVersion| (api.api_key, VersionRange { min: api.min_version, max: api.max_version });
        Ok(Self { ranges: response.api_keys.iter().map(range).collect() })
    }

    /// The newest version of `R` that both sides know, no newer than `cap`.
    pub fn pick<R: Request>(&self, cap: i16) -> Option<i16> {
        let both = self.ranges.get(&R::KEY)?.intersect(&R::VERSIONS);
        let version = both.max.min(cap);
        (version >= both.min).then_some(version)
    }

    /// Whether the broker still takes Fetch v0, as the `kafka` crate sends it; Kafka 4.0 does not (KIP-896).
    /// Not asked of Produce: 4.x lists its v0 without taking it, for the sake of old librdkafkas.
    pub fn is_legacy(&self) -> bool {
        self.ranges.get(&(ApiKey::Fetch as i16)).is_some_and(|range| range.min == 0)
    }

    /// Whether the broker takes record batches v2: Produce v3 and Fetch v4, Kafka 0.11.
    pub fn is_modern(&self) -> bool {
        let max = |key: ApiKey| self.ranges.get(&(key as i16)).map_or(-1, |range| range.max);
        max(ApiKey::Produce) >= 3 && max(ApiKey::Fetch) >= 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::{FetchRequest, ProduceRequest};
    use kafka_protocol::protocol::Encodable;
    use proptest::prelude::*;

    #[test]
    fn what_the_schemas_write_is_read() {
        let range = |key: ApiKey, min, max| {
            ApiVersion::default().with_api_key(key as i16).with_min_version(min).with_max_version(max)
        };
        let response = ApiVersionsResponse::default()
            .with_api_keys(vec![range(ApiKey::Produce, 0, 9), range(ApiKey::Fetch, 4, 99)]);
        for version in [0, 3] {
            let mut bytes = bytes::BytesMut::new();
            response.encode(&mut bytes, version).unwrap();
            let versions = Versions::parse(bytes.freeze(), version).unwrap();
            assert_eq!(versions.pick::<ProduceRequest>(i16::MAX), Some(9));
            assert_eq!(versions.pick::<FetchRequest>(12), Some(12));
            assert!(versions.is_modern());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, version in 0..4i16) {
            let _ = Versions::parse(bytes.into(), version);
        }
    }
}
