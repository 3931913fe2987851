//! Where schemas come from: files that were given, and a registry that is asked once for each ID.

use crate::codec::schema::{MessageId, Reference, Schema, SchemaType};
use crate::error::{Error, Result};
use crate::registry::{Language, LookedUp, Lookup, Registry, SchemaId};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// For so long, what the registry did not know is not asked again.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// So many of these are remembered.
const MOST_UNKNOWN: usize = 100_000;
/// So many IDs are asked for together.
const MOST_TOGETHER: usize = 4096;

/// A schema that was parsed, and the message that was chosen in it beforehand.
#[derive(Debug)]
pub struct Loaded {
    pub schema: Schema,
    pub message: Option<MessageId>,
}

/// What is known of an ID.
#[derive(Debug, Clone)]
pub enum Known {
    Schema(Rc<Loaded>),
    /// There is none that can be used.
    Unknown(Rc<str>),
}

/// Schemas by ID.
#[derive(Debug)]
pub struct Source {
    registry: Option<Registry>,
    schemas: HashMap<SchemaId, Rc<Loaded>>,
    unknown: HashMap<SchemaId, (Rc<str>, Instant)>,
}

impl Source {
    /// Asks `registry`, if there is one.
    pub fn new(registry: Option<Registry>) -> Self {
        Self { registry, schemas: HashMap::new(), unknown: HashMap::new() }
    }

    /// Uses `schema` for `id`. A UUID is a GUID, and a version of AWS Glue.
    pub fn give(&mut self, id: SchemaId, schema: Loaded) {
        let schema = Rc::new(schema);
        if let SchemaId::Guid(uuid) = id {
            self.schemas.insert(SchemaId::GlueVersion(uuid), schema.clone());
        }
        self.schemas.insert(id, schema);
    }

    /// The registry.
    pub fn registry(&self) -> Option<&Registry> {
        self.registry.as_ref()
    }

    /// What is known of `id` without asking.
    #[inline]
    pub fn known(&self, id: SchemaId) -> Option<Known> {
        if let Some(schema) = self.schemas.get(&id) {
            return Some(Known::Schema(schema.clone()));
        }
        let (why, until) = self.unknown.get(&id)?;
        (Instant::now() < *until).then(|| Known::Unknown(why.clone()))
    }

    /// Looks up `id`, and with it the next of `others` that are not known.
    ///
    /// # Errors
    /// The registry cannot be asked.
    pub fn look_up(&mut self, id: SchemaId, others: impl IntoIterator<Item = SchemaId>) -> Result<Known> {
        if self.unknown.len() >= MOST_UNKNOWN {
            self.unknown.clear();
        }
        let Some(registry) = &self.registry else {
            let why = match id {
                SchemaId::GlueVersion(_) => format!("{id} is not given (use --schema ID=FILE)"),
                _ => format!("{id}: no schema registry is set (use --registry URL)"),
            };
            return Ok(self.note(id, Err(why)));
        };
        let (mut ids, mut listed) = (vec![id], HashSet::from([id]));
        for other in others {
            if ids.len() == MOST_TOGETHER {
                break;
            }
            if self.known(other).is_none() && listed.insert(other) {
                ids.push(other);
            }
        }
        let mut asked = None;
        for LookedUp { id: found, lookup } in registry.look_up(&ids)? {
            match lookup {
                Ok(lookup) if found == id => asked = Some(self.note(found, lookup)),
                Ok(lookup) => _ = self.note(found, lookup),
                Err(error) if found == id => return Err(error),
                // It is asked for again when its turn comes.
                Err(_) => {}
            }
        }
        asked.ok_or(Error::TaskEnded("looking up a schema"))
    }

    fn note(&mut self, id: SchemaId, lookup: Lookup) -> Known {
        let parsed = lookup.and_then(|resolved| {
            let references: Vec<Reference> =
                resolved.references.into_iter().map(|found| Reference { name: found.name, text: found.text }).collect();
            let schema = Schema::parse(resolved.language.into(), &resolved.text, &references);
            schema.map_err(|why| format!("{id}: {why}"))
        });
        match parsed {
            Ok(schema) => {
                let schema = Rc::new(Loaded { schema, message: None });
                self.schemas.insert(id, schema.clone());
                Known::Schema(schema)
            }
            Err(why) => {
                let why: Rc<str> = why.into();
                self.unknown.insert(id, (why.clone(), Instant::now() + UNKNOWN_FOR));
                Known::Unknown(why)
            }
        }
    }
}

impl From<Language> for SchemaType {
    fn from(language: Language) -> Self {
        match language {
            Language::Avro => Self::Avro,
            Language::Protobuf => Self::Protobuf,
            Language::JsonSchema => Self::JsonSchema,
        }
    }
}
