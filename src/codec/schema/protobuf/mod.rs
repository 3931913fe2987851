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

/// A parsed schema.
#[derive(Debug)]
pub struct Schema {
    program: Program,
    file: FileDescriptor,
    /// The first message of the file.
    first: Option<u32>,
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
    /// The bytes are no such set, or an import is missing.
    pub fn of_descriptor_set(bytes: &[u8]) -> Result<Self, BadSchema> {
        source::of_descriptor_set(bytes).map(Self::of)
    }

    fn of(file: FileDescriptor) -> Self {
        let program = compile::compile(file.parent_pool());
        let first = file.messages().next();
        let first = first.and_then(|message| program.by_name.get(message.full_name()).copied());
        Self { program, file, first }
    }

    /// Chooses a message.
    ///
    /// # Errors
    /// There is none.
    pub fn message(&self, choice: MessageChoice<'_>) -> Result<MessageId, BadSchema> {
        let found = match choice {
            MessageChoice::Path(path) => self.at(path).map(|message| message.full_name().to_owned()),
            MessageChoice::Name(name) => Some(name.to_owned()),
        };
        let index = found.and_then(|name| {
            let in_package = format!("{}.{name}", self.file.package_name());
            self.program.by_name.get(&*name).or_else(|| self.program.by_name.get(&*in_package)).copied()
        });
        index.map(|index| MessageId(index + 1)).ok_or_else(|| match choice {
            MessageChoice::Path(path) => BadSchema::new(format!("the schema has no message with the indexes {path:?}")),
            MessageChoice::Name(name) => BadSchema::new(format!("the schema has no message {name:?}")),
        })
    }

    /// The message of a path. Entries of maps, which are messages to a descriptor but not in the schema's text, are not
    /// counted.
    fn at(&self, path: &[i32]) -> Option<MessageDescriptor> {
        let (first, rest) = path.split_first()?;
        let mut message = self.file.messages().nth(usize::try_from(*first).ok()?)?;
        for index in rest {
            let index = usize::try_from(*index).ok()?;
            let child = message.child_messages().filter(|child| !child.is_map_entry()).nth(index)?;
            message = child;
        }
        Some(message)
    }

    /// The path of a message, as [`MessageChoice::Path`] has it; `None` for one of an import.
    pub fn path(&self, message: MessageId) -> Option<Vec<i32>> {
        let name = self.full_name(message)?;
        let mut message = self.file.parent_pool().get_message_by_name(name)?;
        if message.parent_file() != self.file {
            return None;
        }
        let mut path = Vec::new();
        while let Some(parent) = message.parent_message() {
            let siblings: Vec<_> = parent.child_messages().filter(|child| !child.is_map_entry()).collect();
            path.push(i32::try_from(siblings.iter().position(|sibling| *sibling == message)?).ok()?);
            message = parent;
        }
        path.push(i32::try_from(self.file.messages().position(|sibling| sibling == message)?).ok()?);
        path.reverse();
        Some(path)
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
