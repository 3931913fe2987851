//! Topics and partitions as people name them.

use crate::engine::no_such_partition;
use crate::error::Result;
use crate::record::{PartitionId, TopicPartition};
use std::sync::Arc;

/// A topic, and perhaps only some of its partitions.
#[derive(Debug, Clone)]
pub(super) struct TopicSelection {
    pub(super) topic: String,
    pub(super) partitions: Option<Vec<PartitionId>>,
}

pub(super) fn parse_selection(text: &str) -> Result<TopicSelection, String> {
    let Some((topic, partitions)) = text.split_once(':') else {
        return Ok(TopicSelection { topic: text.to_owned(), partitions: None });
    };
    let parsed: Result<Vec<PartitionId>, _> = partitions.split(',').map(|p| p.trim().parse()).collect();
    let partitions = parsed.ok().filter(|all| all.iter().all(|p| *p >= 0));
    let partitions = partitions.ok_or_else(|| "expected TOPIC or TOPIC:0,1,2".to_owned())?;
    Ok(TopicSelection { topic: topic.to_owned(), partitions: Some(partitions) })
}

/// The partitions that were named, in order; `count` tells how many a topic has.
pub(super) fn named(topics: &[TopicSelection], count: impl Fn(&str) -> Result<usize>) -> Result<Vec<TopicPartition>> {
    let mut all = Vec::new();
    for TopicSelection { topic, partitions } in topics {
        let count = count(topic)?;
        let topic: Arc<str> = topic.as_str().into();
        match partitions {
            None => {
                all.extend((0..count).map(|partition| TopicPartition::new(topic.clone(), partition as PartitionId)));
            }
            Some(partitions) => {
                if let Some(missing) = partitions.iter().find(|p| **p as usize >= count) {
                    return Err(no_such_partition(&TopicPartition::new(topic, *missing), count));
                }
                all.extend(partitions.iter().map(|partition| TopicPartition::new(topic.clone(), *partition)));
            }
        }
    }
    all.sort();
    all.dedup();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_as_people_write_them() {
        assert_eq!(parse_selection("t:0,2").unwrap().partitions, Some(vec![0, 2]));
        assert!(parse_selection("t:a").is_err() && parse_selection("t:-1").is_err());
        let topics = [parse_selection("t").unwrap(), parse_selection("t:1").unwrap()];
        assert_eq!(named(&topics, |_| Ok(2)).unwrap(), [TopicPartition::new("t", 0), TopicPartition::new("t", 1)]);
        assert!(named(&topics, |_| Ok(1)).unwrap_err().to_string().contains("1 partition"));
    }
}
