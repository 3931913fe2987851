//! A scripted broker: `kpipe local` behind a proxy, which answers what `kpipe local` does not serve, or only with users,
//! ACLs or a hanging transaction, sets the errors that are to be set, and notes every request.

use super::cases::{Case, Level};
use crate::support::{Answer, Asked, Cluster, decode, encode, read_frame, readdress, write_frame};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use kafka_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes, VersionRange};
use kpipe::local::{Fault, Times};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What is answered here.
const SCRIPTED: [(ApiKey, VersionRange); 13] = [
    (ApiKey::AlterPartitionReassignments, AlterPartitionReassignmentsRequest::VERSIONS),
    (ApiKey::AlterUserScramCredentials, AlterUserScramCredentialsRequest::VERSIONS),
    (ApiKey::CreateAcls, CreateAclsRequest::VERSIONS),
    (ApiKey::DeleteAcls, DeleteAclsRequest::VERSIONS),
    (ApiKey::DescribeAcls, DescribeAclsRequest::VERSIONS),
    (ApiKey::DescribeProducers, DescribeProducersRequest::VERSIONS),
    (ApiKey::DescribeQuorum, DescribeQuorumRequest::VERSIONS),
    (ApiKey::DescribeUserScramCredentials, DescribeUserScramCredentialsRequest::VERSIONS),
    (ApiKey::ElectLeaders, ElectLeadersRequest::VERSIONS),
    (ApiKey::ListPartitionReassignments, ListPartitionReassignmentsRequest::VERSIONS),
    (ApiKey::SaslAuthenticate, SaslAuthenticateRequest::VERSIONS),
    (ApiKey::SaslHandshake, SaslHandshakeRequest::VERSIONS),
    (ApiKey::WriteTxnMarkers, WriteTxnMarkersRequest::VERSIONS),
];

/// How often an error is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Often {
    Once,
    Always,
}

/// The error that a run is to meet.
#[derive(Debug, Clone, Copy)]
pub struct Refusal {
    pub code: i16,
    pub often: Often,
}

pub struct Broker {
    port: u16,
    local: String,
    api: ApiKey,
    level: Level,
    refusal: Option<Refusal>,
    /// Whether `kpipe local` sets the error itself.
    is_injected: bool,
    trace: Mutex<Vec<ApiKey>>,
    is_done: AtomicBool,
    has_ended: AtomicBool,
}

impl Broker {
    /// Starts in front of `kafka`.
    pub fn start(kafka: &Cluster, case: &Case, refusal: Option<Refusal>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let is_scripted = SCRIPTED.iter().any(|(api, _)| *api == case.api);
        let is_injected = case.level == Level::All && !is_scripted;
        if let Some(Refusal { code, often }) = refusal.filter(|_| is_injected) {
            let times = if often == Often::Once { Times::Next(1) } else { Times::Always };
            kafka.local().faults().inject(case.api, times, Fault::Error(code));
        }
        let broker = Arc::new(Self {
            port: listener.local_addr().unwrap().port(),
            local: kafka.bootstrap.clone(),
            api: case.api,
            level: case.level,
            refusal,
            is_injected,
            trace: Mutex::default(),
            is_done: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
        });
        let me = broker.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if me.has_ended.load(Ordering::Relaxed) {
                    return;
                }
                let me = me.clone();
                std::thread::spawn(move || me.serve(client));
            }
        });
        broker
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The requests that came, in order.
    pub fn end(&self) -> Vec<ApiKey> {
        self.has_ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address());
        std::mem::take(&mut *self.trace.lock().unwrap())
    }

    /// One request after the other, as brokers answer a connection.
    fn serve(&self, mut client: TcpStream) {
        let Ok(mut local) = TcpStream::connect(&self.local) else { return };
        let _ = (client.set_nodelay(true), local.set_nodelay(true));
        while let Some(frame) = read_frame(&mut client) {
            let of = Asked::of(&frame);
            self.trace.lock().unwrap().push(of.api);
            let answer = match self.scripted(of, &frame) {
                Some(answer) => answer,
                None => {
                    if write_frame(&mut local, &frame).is_err() {
                        break;
                    }
                    let Some(answer) = read_frame(&mut local) else { break };
                    self.edited(of, answer)
                }
            };
            if write_frame(&mut client, &answer).is_err() {
                break;
            }
        }
        let _ = (client.shutdown(Shutdown::Both), local.shutdown(Shutdown::Both));
    }

    /// The error to set in an answer to `api`, if one is.
    fn code(&self, api: ApiKey) -> i16 {
        let due = |refusal: &Refusal| refusal.often == Often::Always || !self.is_done.swap(true, Ordering::Relaxed);
        self.refusal.filter(|_| api == self.api && !self.is_injected).filter(due).map_or(0, |refusal| refusal.code)
    }

    /// An answer of `kpipe local`, with the error set in it, and all that is served.
    fn edited(&self, of: Asked, frame: Bytes) -> Bytes {
        let Some(mut answer) = decode(of, &frame) else { return frame };
        readdress(&mut answer, self.port);
        if let Answer::ApiVersions(answer) = &mut answer {
            if self.api == ApiKey::AddPartitionsToTxn {
                // Produce requests add them where the cluster agreed on that (KIP-890).
                answer.finalized_features.clear();
            }
            answer.api_keys.retain(|offered| SCRIPTED.iter().all(|(api, _)| *api as i16 != offered.api_key));
            answer.api_keys.extend(SCRIPTED.iter().map(|(api, versions)| {
                let offered = ApiVersion::default().with_api_key(*api as i16);
                offered.with_min_version(versions.min).with_max_version(versions.max)
            }));
        }
        if let (Answer::Metadata(answer), ApiKey::ElectLeaders) = (&mut answer, self.api) {
            // The preferred leader is another broker.
            let partitions = answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            partitions.for_each(|partition| partition.replica_nodes.insert(0, BrokerId(99)));
        }
        let code = self.code(of.api);
        if code != 0 {
            self.set_error(&mut answer, code);
        }
        encode(of, &frame, &answer).unwrap_or(frame)
    }

    fn set_error(&self, answer: &mut Answer, code: i16) {
        let is_set = |index: i32| self.level != Level::OnePart || index == 0;
        match (answer, self.level) {
            (Answer::Fetch(answer), Level::Whole) => {
                *answer = FetchResponse::default().with_error_code(code);
            }
            (Answer::Fetch(answer), _) => {
                let partitions = answer.responses.iter_mut().flat_map(|topic| &mut topic.partitions);
                for partition in partitions.filter(|p| is_set(p.partition_index)) {
                    partition.error_code = code;
                    partition.high_watermark = -1;
                    partition.records = Some(Bytes::new());
                }
            }
            (Answer::ListOffsets(answer), _) => {
                let partitions = answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
                for partition in partitions.filter(|p| is_set(p.partition_index)) {
                    partition.error_code = code;
                    (partition.offset, partition.timestamp) = (-1, -1);
                }
            }
            (Answer::OffsetFetch(answer), Level::Whole) => {
                answer.error_code = code;
                answer.topics.clear();
            }
            (Answer::OffsetFetch(answer), _) => {
                for partition in answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                    partition.error_code = code;
                    partition.committed_offset = -1;
                }
            }
            (Answer::OffsetDelete(answer), Level::Whole) => {
                answer.error_code = code;
                answer.topics.clear();
            }
            (Answer::OffsetDelete(answer), _) => {
                let partitions = answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
                partitions.for_each(|partition| partition.error_code = code);
            }
            (Answer::DescribeLogDirs(answer), Level::Whole) => {
                answer.error_code = code;
                answer.results.clear();
            }
            (Answer::DescribeLogDirs(answer), _) => {
                answer.results.iter_mut().for_each(|directory| directory.error_code = code);
            }
            _ => panic!("{:?} of {:?} is not scripted", self.level, self.api),
        }
    }

    /// The answer to a request of [`SCRIPTED`].
    fn scripted(&self, of: Asked, frame: &Bytes) -> Option<Bytes> {
        if !SCRIPTED.iter().any(|(api, _)| *api == of.api) {
            return None;
        }
        let code = self.code(of.api);
        let (whole, part) = if self.level == Level::Whole { (code, 0) } else { (0, code) };
        match of.api {
            ApiKey::SaslHandshake => respond::<SaslHandshakeRequest>(of, frame, |_| {
                let mechanisms = vec![StrBytes::from_static_str("PLAIN")];
                SaslHandshakeResponse::default().with_error_code(code).with_mechanisms(mechanisms)
            }),
            ApiKey::SaslAuthenticate => respond::<SaslAuthenticateRequest>(of, frame, |_| {
                SaslAuthenticateResponse::default().with_error_code(code)
            }),
            ApiKey::ElectLeaders => respond::<ElectLeadersRequest>(of, frame, |request| {
                let result = |id: &i32| PartitionResult::default().with_partition_id(*id).with_error_code(part);
                let topic = |topic: &elect_leaders_request::TopicPartitions| {
                    let results = topic.partitions.iter().map(result).collect();
                    ReplicaElectionResult::default().with_topic(topic.topic.clone()).with_partition_result(results)
                };
                let asked = request.topic_partitions.unwrap_or_default();
                let results = asked.iter().filter(|_| whole == 0).map(topic).collect();
                ElectLeadersResponse::default().with_error_code(whole).with_replica_election_results(results)
            }),
            ApiKey::AlterPartitionReassignments => {
                respond::<AlterPartitionReassignmentsRequest>(of, frame, |request| {
                    let partition = |asked: &alter_partition_reassignments_request::ReassignablePartition| {
                        let partition = ReassignablePartitionResponse::default();
                        partition.with_partition_index(asked.partition_index).with_error_code(part)
                    };
                    let topic = |topic: &alter_partition_reassignments_request::ReassignableTopic| {
                        let partitions = topic.partitions.iter().map(partition).collect();
                        ReassignableTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
                    };
                    let topics = request.topics.iter().filter(|_| whole == 0).map(topic).collect();
                    AlterPartitionReassignmentsResponse::default().with_error_code(whole).with_responses(topics)
                })
            }
            ApiKey::ListPartitionReassignments => respond::<ListPartitionReassignmentsRequest>(of, frame, |_| {
                use list_partition_reassignments_response as answer;
                let partition = answer::OngoingPartitionReassignment::default().with_replicas(vec![BrokerId(1)]);
                let name = TopicName(StrBytes::from_static_str("t"));
                let partition = partition.with_adding_replicas(vec![BrokerId(99)]);
                let topic =
                    answer::OngoingTopicReassignment::default().with_name(name).with_partitions(vec![partition]);
                // What `progress` shows beside is that there is none.
                let moves = self.api == ApiKey::AlterPartitionReassignments;
                let topics = if moves { vec![topic] } else { Vec::new() };
                ListPartitionReassignmentsResponse::default().with_error_code(code).with_topics(topics)
            }),
            ApiKey::DescribeAcls => respond::<DescribeAclsRequest>(of, frame, |_| {
                let text = StrBytes::from_static_str;
                let acl = AclDescription::default().with_principal(text("User:a")).with_host(text("*"));
                let acl = acl.with_operation(3).with_permission_type(3);
                let resource = DescribeAclsResource::default().with_resource_type(2).with_resource_name(text("t"));
                let resource = resource.with_pattern_type(3).with_acls(vec![acl]);
                let resources = if code == 0 { vec![resource] } else { Vec::new() };
                DescribeAclsResponse::default().with_error_code(code).with_resources(resources)
            }),
            ApiKey::CreateAcls => respond::<CreateAclsRequest>(of, frame, |request| {
                let result = create_acls_response::AclCreationResult::default().with_error_code(code);
                CreateAclsResponse::default().with_results(vec![result; request.creations.len()])
            }),
            ApiKey::DeleteAcls => respond::<DeleteAclsRequest>(of, frame, |request| {
                let text = StrBytes::from_static_str;
                let acl = DeleteAclsMatchingAcl::default().with_resource_type(2).with_resource_name(text("t"));
                let acl = acl.with_pattern_type(3).with_principal(text("User:a")).with_host(text("*"));
                let acl = acl.with_operation(3).with_permission_type(3).with_error_code(part);
                let acls = if whole == 0 { vec![acl] } else { Vec::new() };
                let result = DeleteAclsFilterResult::default().with_error_code(whole).with_matching_acls(acls);
                DeleteAclsResponse::default().with_filter_results(vec![result; request.filters.len()])
            }),
            ApiKey::DescribeUserScramCredentials => {
                respond::<DescribeUserScramCredentialsRequest>(of, frame, |request| {
                    use describe_user_scram_credentials_response::DescribeUserScramCredentialsResult as Described;
                    let users = request.users.unwrap_or_default();
                    let user = |user: &describe_user_scram_credentials_request::UserName| {
                        // What is asked for beside the table is a user that does not exist.
                        let code = if self.api == ApiKey::AlterUserScramCredentials { 91 } else { part };
                        Described::default().with_user(user.name.clone()).with_error_code(code)
                    };
                    let results = users.iter().filter(|_| whole == 0).map(user).collect();
                    DescribeUserScramCredentialsResponse::default().with_error_code(whole).with_results(results)
                })
            }
            ApiKey::AlterUserScramCredentials => respond::<AlterUserScramCredentialsRequest>(of, frame, |request| {
                use alter_user_scram_credentials_response::AlterUserScramCredentialsResult as Altered;
                let deleted = request.deletions.into_iter().map(|user| user.name);
                let users = deleted.chain(request.upsertions.into_iter().map(|user| user.name));
                let results = users.map(|user| Altered::default().with_user(user).with_error_code(code));
                AlterUserScramCredentialsResponse::default().with_results(results.collect())
            }),
            ApiKey::DescribeQuorum => respond::<DescribeQuorumRequest>(of, frame, |request| {
                let voter = describe_quorum_response::ReplicaState::default().with_replica_id(BrokerId(1));
                let partition = describe_quorum_response::PartitionData::default().with_leader_id(BrokerId(1));
                let partition = partition.with_current_voters(vec![voter]);
                let topic = |topic: describe_quorum_request::TopicData| {
                    let answer = describe_quorum_response::TopicData::default().with_topic_name(topic.topic_name);
                    answer.with_partitions(vec![partition.clone()])
                };
                let topics = request.topics.into_iter().filter(|_| code == 0).map(topic).collect();
                DescribeQuorumResponse::default().with_error_code(code).with_topics(topics)
            }),
            ApiKey::DescribeProducers => respond::<DescribeProducersRequest>(of, frame, |request| {
                use describe_producers_response as answer;
                let producer = answer::ProducerState::default().with_producer_id(ProducerId(7)).with_producer_epoch(1);
                let producer = producer.with_current_txn_start_offset(0);
                let partition = |index: i32| {
                    let partition = answer::PartitionResponse::default().with_partition_index(index);
                    let producers = if code == 0 { vec![producer.clone()] } else { Vec::new() };
                    partition.with_error_code(code).with_active_producers(producers)
                };
                let topic = |topic: describe_producers_request::TopicRequest| {
                    let partitions = topic.partition_indexes.into_iter().map(partition).collect();
                    answer::TopicResponse::default().with_name(topic.name).with_partitions(partitions)
                };
                DescribeProducersResponse::default().with_topics(request.topics.into_iter().map(topic).collect())
            }),
            ApiKey::WriteTxnMarkers => respond::<WriteTxnMarkersRequest>(of, frame, |request| {
                use write_txn_markers_response as answer;
                let partition = |index: i32| {
                    let partition = answer::WritableTxnMarkerPartitionResult::default();
                    partition.with_partition_index(index).with_error_code(code)
                };
                let topic = |topic: write_txn_markers_request::WritableTxnMarkerTopic| {
                    let partitions = topic.partition_indexes.into_iter().map(partition).collect();
                    answer::WritableTxnMarkerTopicResult::default().with_name(topic.name).with_partitions(partitions)
                };
                let marker = |marker: write_txn_markers_request::WritableTxnMarker| {
                    let topics = marker.topics.into_iter().map(topic).collect();
                    answer::WritableTxnMarkerResult::default().with_producer_id(marker.producer_id).with_topics(topics)
                };
                WriteTxnMarkersResponse::default().with_markers(request.markers.into_iter().map(marker).collect())
            }),
            other => panic!("{other:?} is not scripted"),
        }
    }
}

/// The frame of the response that `build` makes of a request.
fn respond<R: Request>(of: Asked, frame: &Bytes, build: impl Fn(R) -> R::Response) -> Option<Bytes> {
    let mut rest = frame.clone();
    let header = RequestHeader::decode(&mut rest, R::header_version(of.version)).ok()?;
    let response = build(R::decode(&mut rest, of.version).ok()?);
    let mut out = BytesMut::new();
    let answered = ResponseHeader::default().with_correlation_id(header.correlation_id);
    answered.encode(&mut out, R::Response::header_version(of.version)).ok()?;
    response.encode(&mut out, of.version).ok()?;
    Some(out.freeze())
}
