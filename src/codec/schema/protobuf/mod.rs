//! Protocol Buffers (proto2 and proto3): a schema is compiled into a program of messages and fields, which reads bytes and
//! writes JSON by Protobuf's JSON mapping, or the other way round.

mod compile;
mod decode;
mod encode;
mod mask;
mod program;
mod source;
mod wire;

#[cfg(test)]
mod tests;

use super::{BadSchema, FieldNames, MessageChoice, MessageId, Reference, Undecodable, Unfit};
use program::Program;
use protox::prost_reflect::{FileDescriptor, MessageDescriptor};
use std::collections::HashMap;

/// A parsed schema.
#[derive(Debug)]
pub struct Schema {
    program: Program,
    file: FileDescriptor,
    /// The first message of the file.
    first: Option<u32>,
    /// The messages of the file by the indexes of Confluent's framing, and the reverse.
    by_path: HashMap<Vec<i32>, u32>,
    paths: HashMap<u32, Vec<i32>>,
    /// The messages of the file in the order of their full names.
    sorted: Vec<Option<u32>>,
}

impl Schema {
    /// Parses a schema. `references` are all files that it imports, also through others, but those of `google.protobuf`.
    ///
    /// # Errors
    /// The schema or an import is invalid, or one is missing.
    pub fn parse(text: &str, references: &[Reference]) -> Result<Self, BadSchema> {
        source::parse(text, references).map(Self::of)
    }

    /// Parses a schema in a file of that name, whose imports `import` gives by name, or `None` where there is none.
    ///
    /// # Errors
    /// The schema or an import is invalid, or one is missing.
    pub fn load(
        name: &str,
        text: &str,
        import: impl Fn(&str) -> Result<Option<String>, BadSchema> + Send + Sync + 'static,
    ) -> Result<Self, BadSchema> {
        source::load(name, text, import).map(Self::of)
    }

    /// Takes a schema from a set of descriptors, as `protoc --descriptor_set_out` writes it.
    ///
    /// # Errors
    /// The bytes are not a file descriptor set, or an import is missing.
    pub fn of_descriptor_set(bytes: &[u8]) -> Result<Self, BadSchema> {
        source::of_descriptor_set(bytes).map(Self::of)
    }

    fn of(file: FileDescriptor) -> Self {
        let program = compile::compile(file.parent_pool());
        let by_path = by_path(&file, &program);
        let paths = by_path.iter().map(|(path, index)| (*index, path.clone())).collect();
        let first = by_path.get(&[0][..]).copied();
        let sorted = sorted(&file, &program);
        Self { program, file, first, by_path, paths, sorted }
    }

    /// Chooses a message.
    ///
    /// # Errors
    /// There is none.
    pub fn message(&self, choice: MessageChoice<'_>) -> Result<MessageId, BadSchema> {
        let index = match choice {
            MessageChoice::Path(path) => self.by_path.get(path),
            MessageChoice::Sorted(index) => self.sorted.get(index as usize).and_then(Option::as_ref),
            MessageChoice::Name(name) => {
                let in_package = || self.program.by_name.get(&*format!("{}.{name}", self.file.package_name()));
                self.program.by_name.get(name).or_else(in_package)
            }
        };
        index.map(|index| MessageId(index + 1)).ok_or_else(|| match choice {
            MessageChoice::Path(path) => BadSchema::new(format!("the schema has no message with the indexes {path:?}")),
            MessageChoice::Sorted(index) => BadSchema::new(format!("the schema has no message with the index {index}")),
            MessageChoice::Name(name) => BadSchema::new(format!("the schema has no message {name:?}")),
        })
    }

    /// The path of a message, as [`MessageChoice::Path`] has it; `None` for one of an import.
    pub fn path(&self, message: MessageId) -> Option<&[i32]> {
        self.paths.get(&self.index(message)?).map(Vec::as_slice)
    }

    /// The index of a message, as [`MessageChoice::Sorted`] has it; `None` for one of an import.
    pub fn sorted_index(&self, message: MessageId) -> Option<u32> {
        let index = self.index(message)?;
        self.sorted.iter().position(|sorted| *sorted == Some(index)).map(|position| position as u32)
    }

    /// The full name of a message.
    pub fn full_name(&self, message: MessageId) -> Option<&str> {
        self.index(message).map(|index| &*self.program.message(index).full_name)
    }

    fn index(&self, message: MessageId) -> Option<u32> {
        match message.0.checked_sub(1) {
            Some(index) => Some(index).filter(|index| (*index as usize) < self.program.messages.len()),
            None => self.first,
        }
    }

    /// Appends the JSON of `bytes`, on one line.
    ///
    /// # Errors
    /// They are not of this message; `out` may end with a part of the JSON.
    pub fn write_json(
        &self,
        message: MessageId,
        bytes: &[u8],
        names: FieldNames,
        out: &mut Vec<u8>,
    ) -> Result<(), Undecodable> {
        let index = self.index(message).ok_or_else(|| Undecodable::new("the schema has no message"))?;
        decode::write_json(&self.program, index, bytes, names, out)
    }

    /// Appends the bytes of a JSON text, whose fields have either of their names.
    ///
    /// # Errors
    /// It does not fit the message; `out` may end with a part of the bytes.
    pub fn read_json(&self, message: MessageId, json: &str, out: &mut Vec<u8>) -> Result<(), Unfit> {
        let index = self.index(message).ok_or_else(|| Unfit::new("the schema has no message"))?;
        encode::read_json(&self.program, index, json, out)
    }
}

/// The messages of a file by path. Entries of maps, which are messages to a descriptor but not in the schema's text, are
/// not counted.
fn by_path(file: &FileDescriptor, program: &Program) -> HashMap<Vec<i32>, u32> {
    let mut found = HashMap::new();
    let mut open: Vec<(Vec<i32>, MessageDescriptor)> =
        (0..).zip(file.messages()).map(|(index, message)| (vec![index], message)).collect();
    while let Some((path, message)) = open.pop() {
        let children = message.child_messages().filter(|child| !child.is_map_entry());
        open.extend((0..).zip(children).map(|(index, child)| ([&path[..], &[index]].concat(), child)));
        if let Some(index) = program.by_name.get(message.full_name()) {
            found.insert(path, *index);
        }
    }
    found
}

/// The messages of a file by full name; entries of maps are counted, and cannot be chosen.
fn sorted(file: &FileDescriptor, program: &Program) -> Vec<Option<u32>> {
    let mut all: Vec<MessageDescriptor> =
        file.parent_pool().all_messages().filter(|message| message.parent_file() == *file).collect();
    all.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    let index = |of: &MessageDescriptor| program.by_name.get(of.full_name()).copied();
    all.iter().map(|of| index(of).filter(|_| !of.is_map_entry())).collect()
}
