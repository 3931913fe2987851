//! Authentication and ACLs: SaslHandshake, SaslAuthenticate, DescribeAcls, CreateAcls and DeleteAcls.

use super::both::{Both, One};
use super::text;
use crate::support::{Cluster, Kafka, Wire, require, secured, shared};
use bytes::Bytes;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::*;
use kpipe::local::Access;

/// What a broker answers to a mechanism and messages: error, message, and whether the connection is still open.
fn story(address: &str, mechanism: Option<&str>, messages: &[&[u8]], asks_metadata: bool) -> Vec<String> {
    let (mut wire, mut story) = (Wire::connect(address), Vec::new());
    if let Some(mechanism) = mechanism {
        let answer = wire.ask(&SaslHandshakeRequest::default().with_mechanism(text(mechanism)), 1);
        story.push(format!("{mechanism}: error {}", answer.error_code));
    }
    for message in messages {
        wire.send(&Wire::encode(
            &SaslAuthenticateRequest::default().with_auth_bytes(Bytes::copy_from_slice(message)),
            2,
        ));
        let Some(frame) = wire.frame() else {
            story.push("closed".to_owned());
            return story;
        };
        // Correlation ID, tags, error code; the rest of a success is the server's own.
        let error = i16::from_be_bytes([frame[5], frame[6]]);
        let rest = if error == 0 { String::new() } else { String::from_utf8_lossy(&frame[7..]).into_owned() };
        story.push(format!("error {error} {rest}"));
    }
    if asks_metadata {
        wire.send(&Wire::encode(&MetadataRequest::default().with_topics(Some(Vec::new())), 10));
        story.push(if wire.frame().is_some() { "answered".to_owned() } else { "closed".to_owned() });
    }
    story
}

#[test]
fn clients_authenticate_alike() {
    require!(Kafka);
    let ours = Cluster::start_local(1);
    let users = [("alice", "alice-secret"), ("bob", "bob-secret")].map(|(name, word)| (name.into(), word.into()));
    ours.local().set_access(Access { users: users.into(), ..Access::default() });
    let theirs = secured()[0].address("sasl_plaintext");
    let cases: [(Option<&str>, &[&[u8]]); 10] = [
        (Some("PLAIN"), &[b"\0alice\0alice-secret"]),
        (Some("PLAIN"), &[b"alice\0alice\0alice-secret"]),
        (Some("PLAIN"), &[b"\0alice\0nonsense"]),
        (Some("PLAIN"), &[b"\0nobody\0nonsense"]),
        (Some("PLAIN"), &[b"bob\0alice\0alice-secret"]),
        (Some("PLAIN"), &[]),
        (Some("NONSENSE"), &[]),
        (Some("SCRAM-SHA-512"), &[b"n,,n=bob,r=abcdef", b"c=biws,r=abcdef,p=AAAA"]),
        (Some("SCRAM-SHA-512"), &[b"n,,n=nobody,r=abcdef"]),
        (None, &[]),
    ];
    for (mechanism, messages) in cases {
        let [real, local] = [theirs, &ours.bootstrap].map(|address| story(address, mechanism, messages, true));
        assert_eq!(real, local, "{mechanism:?} {messages:?}: Kafka on the left, kpipe local on the right");
    }
    // Where nobody need authenticate.
    let [real, local] =
        [Kafka::LATEST, Kafka::Local].map(|kafka| story(&shared(kafka).bootstrap, Some("PLAIN"), &[], true));
    assert_eq!(real, local);
}

#[test]
fn acls_are_refused_alike_without_an_authorizer() {
    require!(Kafka);
    let mut both = Both::new();
    for version in 1..=3 {
        let list = |_: &One| {
            let request = DescribeAclsRequest::default().with_resource_type_filter(1).with_pattern_type_filter(1);
            request.with_operation(1).with_permission_type(1)
        };
        both.ask("listed", version, list, |_| {});
        let create = |_: &One| {
            let acl = AclCreation::default().with_resource_type(2).with_resource_name(text("t")).with_operation(3);
            let acl = acl.with_resource_pattern_type(3).with_principal(text("User:a")).with_host(text("*"));
            CreateAclsRequest::default().with_creations(vec![acl.with_permission_type(3)])
        };
        both.ask("created", version, create, |_| {});
        let delete = |_: &One| {
            let filter = DeleteAclsFilter::default().with_resource_type_filter(2).with_pattern_type_filter(3);
            DeleteAclsRequest::default().with_filters(vec![filter.with_operation(1).with_permission_type(1)])
        };
        both.ask("deleted", version, delete, |_| {});
    }
    Both::agree([both]);
}
