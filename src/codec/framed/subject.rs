//! Which subject has the schemas of a topic's keys and values.

use crate::error::{Error, Result};
use crate::registry::Part;

/// How the subject of a topic's keys or values is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectName {
    /// It is this one.
    Named(String),
    /// By a strategy.
    By(Strategy),
}

/// A strategy of Confluent's serializers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// `TOPIC-key` or `TOPIC-value`.
    #[default]
    Topic,
    /// The full name of the type.
    Record,
    /// `TOPIC-` and the full name of the type.
    TopicRecord,
}

impl Strategy {
    pub const ALL: [Self; 3] = [Self::Topic, Self::Record, Self::TopicRecord];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Record => "record",
            Self::TopicRecord => "topic-record",
        }
    }
}

impl SubjectName {
    /// The subject; `full_name` is that of the type of a schema that is known already.
    ///
    /// # Errors
    /// The strategy needs a name that is not known.
    pub fn of(&self, topic: &str, part: Part, full_name: Option<&str>) -> Result<String> {
        let full_name = |strategy: Strategy| {
            full_name.ok_or_else(|| {
                Error::Usage(format!(
                    "--subject-strategy {}: the type has no name (it is that of a record or message in a FILE)",
                    strategy.name()
                ))
            })
        };
        Ok(match self {
            Self::Named(subject) => subject.clone(),
            Self::By(Strategy::Topic) => format!("{topic}-{}", part.name()),
            Self::By(strategy @ Strategy::Record) => full_name(*strategy)?.to_owned(),
            Self::By(strategy @ Strategy::TopicRecord) => format!("{topic}-{}", full_name(*strategy)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_named_as_serializers_name_them() {
        let of = |strategy, part| SubjectName::By(strategy).of("orders", part, Some("shop.Order")).unwrap();
        assert_eq!(of(Strategy::Topic, Part::Key), "orders-key");
        assert_eq!(of(Strategy::Topic, Part::Value), "orders-value");
        assert_eq!(of(Strategy::Record, Part::Value), "shop.Order");
        assert_eq!(of(Strategy::TopicRecord, Part::Value), "orders-shop.Order");
        assert!(SubjectName::By(Strategy::Record).of("orders", Part::Value, None).is_err());
    }
}
