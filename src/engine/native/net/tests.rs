//! Connections to scripted brokers that are slow, silent or gone.

use super::frame::{Spare, read_frame};
use super::{Connection, Dialer, Opened};
use crate::engine::security::Security;
use crate::engine::{EngineChoice, Options};
use crate::error::Error;
use crate::record::Node;
use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::Encodable;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

const REQUEST_TIMEOUT: Duration = Duration::from_millis(300);
const METADATA_VERSION: i16 = 9;

fn options(address: &str) -> Options {
    Options {
        brokers: vec![address.to_owned()],
        client_id: "test".to_owned(),
        engine: EngineChoice::Native,
        connect_timeout: Duration::from_secs(5),
        request_timeout: REQUEST_TIMEOUT,
        retry_backoff: Duration::from_millis(10),
        security: Security::default(),
        observer: Arc::new(()),
        platform: Default::default(),
    }
}

fn frame(correlation: &[u8], header_end: &[u8], body: &impl Encodable, version: i16) -> BytesMut {
    let mut encoded = BytesMut::new();
    body.encode(&mut encoded, version).unwrap();
    let mut frame = BytesMut::new();
    frame.put_u32((correlation.len() + header_end.len() + encoded.len()) as u32);
    [correlation, header_end, &encoded].into_iter().for_each(|part| frame.put_slice(part));
    frame
}

/// Answers ApiVersions, reads one more request, and returns the socket and the answer that it would have.
async fn introduced(listener: TcpListener) -> (TcpStream, BytesMut) {
    let (mut socket, _) = listener.accept().await.unwrap();
    let range = |key: ApiKey| ApiVersion::default().with_api_key(key as i16).with_min_version(0).with_max_version(12);
    let keys = [ApiKey::Produce, ApiKey::Fetch, ApiKey::Metadata].map(range).to_vec();
    let asked = read_frame(&mut socket, || 1 << 20, &mut Spare::default()).await.unwrap();
    let offer = frame(&asked[4..8], &[], &ApiVersionsResponse::default().with_api_keys(keys), 3);
    socket.write_all(&offer).await.unwrap();
    let asked = read_frame(&mut socket, || 1 << 20, &mut Spare::default()).await.unwrap();
    let answer = frame(&asked[4..8], &[0], &MetadataResponse::default().with_controller_id(7.into()), METADATA_VERSION);
    (socket, answer)
}

async fn connect(address: &str) -> Arc<Connection> {
    let options = options(address);
    match Dialer::prepare(&options).unwrap().open(&Node::bootstrap(address), &options).await.unwrap() {
        Opened::Modern(connection) => connection,
        Opened::Old(old) => panic!("{old}"),
    }
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[tokio::test]
async fn an_answer_may_take_longer_than_the_limit_as_long_as_bytes_arrive() {
    let (listener, address) = listen().await;
    let broker = tokio::spawn(async move {
        let (mut socket, answer) = introduced(listener).await;
        for byte in answer.chunks(2) {
            tokio::time::sleep(REQUEST_TIMEOUT / 3).await;
            socket.write_all(byte).await.unwrap();
        }
        socket
    });
    let (connection, began) = (connect(&address).await, Instant::now());
    let answer = connection.request_capped(&MetadataRequest::default(), METADATA_VERSION).await.unwrap();
    assert_eq!(answer.controller_id, 7);
    assert!(began.elapsed() > REQUEST_TIMEOUT * 2, "the answer must be slow for this to prove something");
    assert!(!connection.is_suspect());
    drop(broker.await.unwrap());
}

#[tokio::test]
async fn a_silent_broker_is_suspect_and_then_given_up() {
    let (listener, address) = listen().await;
    let broker = tokio::spawn(introduced(listener));
    let (connection, began) = (connect(&address).await, Instant::now());
    let hold = Duration::from_millis(200);
    let failed = {
        let request = MetadataRequest::default();
        let asked = connection.request_within(&request, METADATA_VERSION, REQUEST_TIMEOUT + hold);
        let mut asked = std::pin::pin!(asked);
        // The broker may wait for so long of its own accord: that alone is not suspect.
        assert!(tokio::time::timeout(hold, &mut asked).await.is_err());
        assert!(!connection.is_suspect());
        asked.await
    };
    assert!(matches!(failed, Err(Error::TimedOut { .. })), "{failed:?}");
    assert!(began.elapsed() >= REQUEST_TIMEOUT + hold);
    assert!(connection.is_suspect() && !connection.is_open());
    drop(broker.await.unwrap());
}

#[tokio::test]
async fn what_another_broker_can_answer_leaves_a_silent_one_open() {
    let (listener, address) = listen().await;
    let broker = tokio::spawn(introduced(listener));
    let connection = connect(&address).await;
    let failed = connection.request_or_ask_elsewhere(&MetadataRequest::default(), METADATA_VERSION).await;
    assert!(matches!(failed, Err(Error::TimedOut { .. })), "{failed:?}");
    assert!(connection.is_suspect());
    let (mut socket, answer) = broker.await.unwrap();
    // The late answer is nobody's; the next one is.
    socket.write_all(&answer).await.unwrap();
    let asked = tokio::spawn({
        let connection = connection.clone();
        async move { connection.request_capped(&MetadataRequest::default(), METADATA_VERSION).await }
    });
    let request = read_frame(&mut socket, || 1 << 20, &mut Spare::default()).await.unwrap();
    socket.write_all(&frame(&request[4..8], &[0], &MetadataResponse::default(), METADATA_VERSION)).await.unwrap();
    asked.await.unwrap().unwrap();
    assert!(!connection.is_suspect());
}
