//! What brokers send: answers of any kind and version, record batches, message sets and what is compressed in them, and
//! what members of a group send each other.

use super::Input;
use bytes::Bytes;
use kafka_protocol::messages as m;
use kafka_protocol::protocol::{HeaderVersion, Request};
use kpipe::engine::native::wire::{Codec, Decoder, Isolation, batches, message};
use kpipe::engine::native::{read_assignment, read_subscription};
use kpipe::engine::{Assignor, Named, Rewrite, rewrite};
use kpipe::record::Node;

/// How many bytes a frame or batch may unpack to.
const UNPACKED: usize = 16 << 20;

/// An answer to any request that kpipe sends, in any version of it.
pub fn answers(data: &[u8]) {
    let mut input = Input(data);
    let (which, version) = (input.byte(), input.byte());
    if which == 255 {
        let mut bytes = Bytes::copy_from_slice(input.0);
        let version = i16::from(version) % 14 + 4;
        let flexible = m::FetchRequest::header_version(version) >= 2;
        let _ = message::decode::<m::FetchResponse>(&mut bytes, version, flexible);
        return;
    }
    macro_rules! decode {
        ($($request:ident)*) => {
            let decoders: &[fn(u8, &[u8])] = &[$(answer::<m::$request>),*];
            decoders[usize::from(which) % decoders.len()](version, input.0);
        };
    }
    decode! {
        AddPartitionsToTxnRequest AlterPartitionReassignmentsRequest AlterUserScramCredentialsRequest ApiVersionsRequest
        ConsumerGroupDescribeRequest ConsumerGroupHeartbeatRequest CreateAclsRequest CreatePartitionsRequest
        CreateTopicsRequest DeleteAclsRequest DeleteGroupsRequest DeleteRecordsRequest DeleteTopicsRequest
        DescribeAclsRequest DescribeClusterRequest DescribeConfigsRequest DescribeGroupsRequest DescribeLogDirsRequest
        DescribeProducersRequest DescribeQuorumRequest DescribeTransactionsRequest DescribeUserScramCredentialsRequest
        ElectLeadersRequest EndTxnRequest FetchRequest FindCoordinatorRequest HeartbeatRequest
        IncrementalAlterConfigsRequest InitProducerIdRequest JoinGroupRequest LeaveGroupRequest ListGroupsRequest
        ListOffsetsRequest ListPartitionReassignmentsRequest ListTransactionsRequest MetadataRequest OffsetCommitRequest
        OffsetDeleteRequest OffsetFetchRequest ProduceRequest SaslAuthenticateRequest SaslHandshakeRequest
        SyncGroupRequest WriteTxnMarkersRequest
    }
}

fn answer<R: Request>(version: u8, bytes: &[u8]) {
    let versions = R::VERSIONS;
    let version = versions.min + i16::from(version) % (versions.max - versions.min + 1);
    let flexible = R::header_version(version) >= 2;
    let _ = message::decode::<R::Response>(&mut Bytes::copy_from_slice(bytes), version, flexible);
}

/// Version 0 of the answers that the `kafka` crate reads, as the relay checks and rewrites them.
pub fn old_answers(data: &[u8]) {
    let mut input = Input(data);
    let apis = [
        m::ApiKey::Produce,
        m::ApiKey::Fetch,
        m::ApiKey::ListOffsets,
        m::ApiKey::Metadata,
        m::ApiKey::OffsetCommit,
        m::ApiKey::OffsetFetch,
        m::ApiKey::FindCoordinator,
    ];
    let api = apis[usize::from(input.byte()) % apis.len()];
    let node = Node::bootstrap("b:1");
    let how = Rewrite { node: &node, api, max_unpacked: 1 << 20, longest: 1 << 22, on_topic: &|_, _| {} };
    if let Ok(rewritten) = rewrite(input.0, &how, &|_| Ok("127.0.0.1:7".to_owned())) {
        // The crate is given nothing that does not pass itself.
        assert!(rewrite(&rewritten, &how, &|_| Ok("127.0.0.1:7".to_owned())).is_ok());
    }
}

/// Subscriptions and assignments of a classic group.
pub fn assignments(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let _ = read_assignment(bytes.clone());
    for assignor in Assignor::ALL {
        let _ = read_subscription("m".to_owned(), None, *assignor, bytes.clone());
    }
}

fn decode(data: Vec<u8>) {
    let Ok(raw) = batches(data.into()) else { return };
    let decoder = Decoder {
        topic: "t".into(),
        partition: 0,
        from: 0,
        until: i64::MAX,
        isolation: Isolation::Committed,
        aborted: vec![(1, 0)],
        max_unpacked: UNPACKED,
    };
    for batch in decoder.decode(raw).0 {
        for record in batch.records().flatten() {
            record.headers.iter().for_each(drop);
        }
    }
}

/// Batches of any format and codec, possibly corrupt.
pub fn fetched(data: &[u8]) {
    let mut data = data.to_vec();
    // Makes the checksum of the first v2 batch right, so that the fuzzer gets past it.
    if data.len() > 61 && data[16] == 2 {
        let len = i32::from_be_bytes([data[8], data[9], data[10], data[11]]);
        if let Some(batch) = usize::try_from(len).ok().and_then(|len| data.get(21..len.saturating_add(12))) {
            let crc = crc32c::crc32c(batch);
            data[17..21].copy_from_slice(&crc.to_be_bytes());
        }
    }
    decode(data);
}

/// Message sets v0 and v1, whose lengths and checksums are made right.
pub fn message_sets(data: &[u8]) {
    let mut input = Input(data);
    let mut set = Vec::new();
    while !input.0.is_empty() {
        let (offset, body) = (input.number(), input.bytes());
        set.extend(offset.to_be_bytes());
        set.extend((body.len() as u32 + 4).to_be_bytes());
        set.extend(crc32fast::hash(body).to_be_bytes());
        set.extend(body);
    }
    decode(set);
}

/// Compressed bytes of any codec.
pub fn decompress(data: &[u8]) {
    let mut input = Input(data);
    if let Some(codec) = Codec::from_attributes(i16::from(input.byte())) {
        let unpacked = codec.decompress_within(input.0, UNPACKED);
        assert!(unpacked.is_ok_and(|unpacked| unpacked.len() <= UNPACKED) || codec != Codec::None);
    }
}

/// What a zstd frame unpacks to does not depend on the decoder: what kpipe's accepts, ruzstd unpacks to the same bytes.
pub fn zstd(data: &[u8]) {
    let Ok(unpacked) = Codec::Zstd.decompress_within(data, UNPACKED) else { return };
    // All frames, as the first decoder reads them.
    let mut other = Vec::with_capacity(unpacked.len() + 1);
    let read = ruzstd::decoding::FrameDecoder::new().decode_all_to_vec(data, &mut other);
    assert!(read.is_ok() && other == unpacked);
}
