//! The messages that members of a classic group exchange through the coordinator: subscriptions and assignments
//! (`ConsumerProtocolSubscription`, `ConsumerProtocolAssignment`).

use super::super::cluster::topic_name;
use super::super::wire::message;
use super::assignors::Subscriber;
use crate::engine::Assignor;
use crate::record::{TopicPartition, partitions_by_topic};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as AssignedPartitions;
use kafka_protocol::messages::consumer_protocol_subscription::TopicPartition as OwnedPartitions;
use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use kafka_protocol::protocol::{Encodable, StrBytes};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Version 3 brings the rack (KIP-881); all clients read the fields they know of a later one.
const NEWEST: i16 = 3;

fn partitions<'a>(topics: impl Iterator<Item = (&'a str, &'a [i32])>) -> BTreeSet<TopicPartition> {
    let each = topics.flat_map(|(topic, partitions)| {
        let topic: Arc<str> = topic.into();
        partitions.iter().map(move |partition| TopicPartition::new(topic.clone(), *partition))
    });
    each.collect()
}

/// This member's topics and partitions, as `assignor` reads them.
pub(super) fn subscription(
    assignor: Assignor,
    topics: &BTreeSet<Arc<str>>,
    owned: &BTreeSet<TopicPartition>,
    generation: i32,
    rack: Option<&str>,
) -> Result<Bytes, String> {
    let names = topics.iter().map(|topic| StrBytes::from_string(topic.to_string()));
    let owned_partitions = partitions_by_topic(owned.iter().cloned()).into_iter().map(|(topic, partitions)| {
        OwnedPartitions::default().with_topic(topic_name(&topic)).with_partitions(partitions)
    });
    let user_data = match assignor {
        Assignor::Sticky => Some(sticky_data(owned, generation)),
        Assignor::CooperativeSticky | Assignor::Range | Assignor::RoundRobin => None,
    };
    let message = ConsumerProtocolSubscription::default()
        .with_topics(names.collect())
        .with_user_data(user_data)
        .with_owned_partitions(owned_partitions.collect())
        .with_generation_id(generation)
        .with_rack_id(rack.map(|rack| StrBytes::from_string(rack.to_owned())));
    versioned(&message)
}

/// The Java StickyAssignor's user data: the member's partitions, and the generation that they are of.
fn sticky_data(owned: &BTreeSet<TopicPartition>, generation: i32) -> Bytes {
    let mut data = BytesMut::new();
    let topics = partitions_by_topic(owned.iter().cloned());
    data.put_i32(topics.len() as i32);
    for (topic, partitions) in topics {
        data.put_i16(topic.len() as i16);
        data.put_slice(topic.as_bytes());
        data.put_i32(partitions.len() as i32);
        partitions.into_iter().for_each(|partition| data.put_i32(partition));
    }
    data.put_i32(generation);
    data.freeze()
}

/// Reads [`sticky_data`]; `None` when it is malformed.
fn read_sticky_data(mut data: Bytes) -> Option<(BTreeSet<TopicPartition>, i32)> {
    let mut owned = BTreeSet::new();
    for _ in 0..data.try_get_i32().ok()? {
        let len = usize::try_from(data.try_get_i16().ok()?).ok().filter(|len| *len <= data.len())?;
        let topic: Arc<str> = std::str::from_utf8(&data.split_to(len)).ok()?.into();
        for _ in 0..data.try_get_i32().ok()? {
            owned.insert(TopicPartition::new(topic.clone(), data.try_get_i32().ok()?));
        }
    }
    // The first version of it had no generation.
    Some((owned, data.try_get_i32().unwrap_or(-1)))
}

fn versioned<M: Encodable>(message: &M) -> Result<Bytes, String> {
    let mut bytes = BytesMut::new();
    bytes.put_i16(NEWEST);
    message.encode(&mut bytes, NEWEST).map_err(|e| e.to_string())?;
    Ok(bytes.freeze())
}

/// Reads another member's subscription.
pub fn read_subscription(
    id: String,
    instance_id: Option<String>,
    assignor: Assignor,
    mut bytes: Bytes,
) -> Result<Subscriber, String> {
    let version = bytes.try_get_i16().map_err(|e| e.to_string())?.clamp(0, NEWEST);
    let read: ConsumerProtocolSubscription = message::decode(&mut bytes, version, false)?;
    let owned = partitions(read.owned_partitions.iter().map(|topic| (topic.topic.as_str(), &topic.partitions[..])));
    let (mut owned, mut generation) = (owned, read.generation_id);
    if let Some(data) = read.user_data.filter(|data| !data.is_empty()) {
        match assignor {
            Assignor::Sticky => (owned, generation) = read_sticky_data(data).unwrap_or_default(),
            // Before version 2 the generation stood here.
            Assignor::CooperativeSticky if version < 2 => generation = (&data[..]).try_get_i32().unwrap_or(-1),
            _ => {}
        }
    }
    let topics = read.topics.iter().map(|topic| Arc::from(topic.as_str())).collect();
    Ok(Subscriber { id, instance_id, topics, owned, generation })
}

/// A member's assignment.
pub(super) fn assignment(assigned: &BTreeSet<TopicPartition>) -> Result<Bytes, String> {
    let partitions = partitions_by_topic(assigned.iter().cloned()).into_iter().map(|(topic, partitions)| {
        AssignedPartitions::default().with_topic(topic_name(&topic)).with_partitions(partitions)
    });
    versioned(&ConsumerProtocolAssignment::default().with_assigned_partitions(partitions.collect()))
}

/// Reads a member's assignment; no bytes are no partitions.
pub fn read_assignment(mut bytes: Bytes) -> Result<BTreeSet<TopicPartition>, String> {
    if bytes.is_empty() {
        return Ok(BTreeSet::new());
    }
    let version = bytes.try_get_i16().map_err(|e| e.to_string())?.clamp(0, NEWEST);
    let read: ConsumerProtocolAssignment = message::decode(&mut bytes, version, false)?;
    Ok(partitions(read.assigned_partitions.iter().map(|topic| (topic.topic.as_str(), &topic.partitions[..]))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(topics: &[&str]) -> BTreeSet<Arc<str>> {
        topics.iter().map(|topic| Arc::from(*topic)).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(owned: Vec<(u8, u8)>, generation in -1i32..99) {
            let owned: BTreeSet<TopicPartition> =
                owned.into_iter().map(|(topic, partition)| TopicPartition::new(format!("t{topic}"), i32::from(partition))).collect();
            prop_assert_eq!(&read_assignment(assignment(&owned).unwrap()).unwrap(), &owned);
            for assignor in [Assignor::CooperativeSticky, Assignor::Range, Assignor::Sticky] {
                let bytes = subscription(assignor, &set(&["a", "b"]), &owned, generation, Some("r")).unwrap();
                let read = read_subscription("m".into(), None, assignor, bytes).unwrap();
                prop_assert_eq!(read.topics, set(&["a", "b"]));
                prop_assert_eq!((&read.owned, read.generation), (&owned, generation));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = read_assignment(bytes.clone().into());
            for assignor in [Assignor::Sticky, Assignor::CooperativeSticky] {
                let _ = read_subscription("m".into(), None, assignor, bytes.clone().into());
            }
            let _ = read_sticky_data(bytes.into());
        }
    }
}
