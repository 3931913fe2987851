//! A scripted broker of Kafka 0.8, which the `kafka` crate's engine asks: topic `t` has two partitions with a record each.

use super::broker::{Often, Refusal};
use super::cases::{Case, Level};
use crate::support::{Request, old_message, peer, put_text};
use bytes::BufMut;
use kafka_protocol::messages::ApiKey;
use std::sync::{Arc, Mutex, MutexGuard};

const PARTITIONS: i32 = 2;
/// The time of ListOffsets that stands for the first offset.
const EARLIEST: i64 = -2;

/// What is to go wrong, and what was asked.
#[derive(Default)]
struct Script {
    api: Option<ApiKey>,
    level: Option<Level>,
    refusal: Option<Refusal>,
    trace: Vec<ApiKey>,
}

pub struct OldBroker {
    address: String,
    script: Arc<Mutex<Script>>,
}

impl OldBroker {
    pub fn start() -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        let of = script.clone();
        Self { address: peer(move |request| of.lock().unwrap().answer(request)), script }
    }

    /// The address that a run of `case` is given.
    pub fn play(&self, case: &Case, refusal: Option<Refusal>) -> String {
        *self.script() = Script { api: Some(case.api), level: Some(case.level), refusal, trace: Vec::new() };
        self.address.clone()
    }

    /// The requests that came since, in order.
    pub fn end(&self) -> Vec<ApiKey> {
        std::mem::take(&mut self.script().trace)
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }
}

impl Script {
    fn answer(&mut self, request: &Request) -> Option<Vec<u8>> {
        let api = ApiKey::try_from(request.api).ok()?;
        self.trace.push(api);
        let code = self.code(api);
        let (whole, part) = if self.level == Some(Level::Whole) { (code, 0) } else { (0, code) };
        let mut out = Vec::new();
        match api {
            ApiKey::Metadata => {
                [1, 0].into_iter().for_each(|number| out.put_i32(number));
                put_text(&mut out, "127.0.0.1");
                out.put_i32(i32::from(request.port));
                out.put_i32(1);
                out.put_i16(whole);
                put_text(&mut out, "t");
                // A topic that is not there has no partitions.
                put_partitions(&mut out, if whole == 0 { PARTITIONS } else { 0 }, |out, index| {
                    out.put_i16(part);
                    let leader = if part == 0 { 0 } else { -1 };
                    [index, leader, 1, 0, 1, 0].into_iter().for_each(|number| out.put_i32(number));
                });
            }
            ApiKey::FindCoordinator => {
                out.put_i16(code);
                out.put_i32(0);
                put_text(&mut out, "127.0.0.1");
                out.put_i32(i32::from(request.port));
            }
            ApiKey::Produce => of_topic(&mut out, |out, index| {
                out.put_i32(index);
                out.put_i16(code);
                out.put_i64(if code == 0 { 0 } else { -1 });
            }),
            ApiKey::ListOffsets => {
                let is_first = request.frame.windows(8).any(|bytes| bytes == EARLIEST.to_be_bytes());
                of_topic(&mut out, |out, index| {
                    out.put_i32(index);
                    out.put_i16(code);
                    out.put_i32(i32::from(code == 0));
                    if code == 0 {
                        out.put_i64(i64::from(!is_first));
                    }
                });
            }
            ApiKey::Fetch => of_topic(&mut out, |out, index| {
                let set = if code == 0 { old_message(0, 0, b"a") } else { Vec::new() };
                out.put_i32(index);
                out.put_i16(code);
                out.put_i64(if code == 0 { 1 } else { -1 });
                out.put_i32(set.len() as i32);
                out.put_slice(&set);
            }),
            ApiKey::OffsetCommit => of_topic(&mut out, |out, index| {
                out.put_i32(index);
                out.put_i16(code);
            }),
            ApiKey::OffsetFetch => of_topic(&mut out, |out, index| {
                out.put_i32(index);
                out.put_i64(-1);
                put_text(out, "");
                out.put_i16(code);
            }),
            _ => return None,
        }
        Some(out)
    }

    fn code(&mut self, api: ApiKey) -> i16 {
        match self.refusal {
            Some(Refusal { code, often }) if self.api == Some(api) => {
                if often == Often::Once {
                    self.refusal = None;
                }
                code
            }
            _ => 0,
        }
    }
}

fn put_partitions(out: &mut Vec<u8>, count: i32, each: impl Fn(&mut Vec<u8>, i32)) {
    out.put_i32(count);
    (0..count).for_each(|index| each(out, index));
}

/// An answer for the partitions of topic t.
fn of_topic(out: &mut Vec<u8>, each: impl Fn(&mut Vec<u8>, i32)) {
    out.put_i32(1);
    put_text(out, "t");
    put_partitions(out, PARTITIONS, each);
}
