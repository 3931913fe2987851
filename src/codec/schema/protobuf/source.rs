//! Text or descriptors of a schema and its imports → one pool of descriptors.

use super::super::{BadSchema, Reference};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use protox::prost_reflect::prost::Message as _;
use protox::prost_reflect::prost_types::FileDescriptorProto;
use protox::prost_reflect::{DescriptorPool, FileDescriptor};
use protox::{Compiler, Error};
use std::path::Path;

/// What a schema that has no name of its own is called among its imports.
const ROOT: &str = "kpipe-schema.proto";

/// Files that Confluent's registry knows without a reference: Kafka Connect and data contracts import them.
const BUILT_IN: [BuiltIn; 4] = [
    BuiltIn {
        name: "confluent/meta.proto",
        text: r#"syntax = "proto3"; package confluent; import "google/protobuf/descriptor.proto";
            message Meta { string doc = 1; map<string, string> params = 2; repeated string tags = 3; }
            extend google.protobuf.FileOptions { Meta file_meta = 1088; }
            extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
            extend google.protobuf.FieldOptions { Meta field_meta = 1088; }
            extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }
            extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }"#,
    },
    BuiltIn {
        name: "confluent/type/decimal.proto",
        text: r#"syntax = "proto3"; package confluent.type;
            message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }"#,
    },
    BuiltIn {
        name: "google/type/date.proto",
        text: r#"syntax = "proto3"; package google.type;
            message Date { int32 year = 1; int32 month = 2; int32 day = 3; }"#,
    },
    BuiltIn {
        name: "google/type/timeofday.proto",
        text: r#"syntax = "proto3"; package google.type;
            message TimeOfDay { int32 hours = 1; int32 minutes = 2; int32 seconds = 3; int32 nanos = 4; }"#,
    },
];

struct BuiltIn {
    name: &'static str,
    text: &'static str,
}

/// The file of a schema.
///
/// # Errors
/// The schema or an import is invalid, or one is missing.
pub fn parse(text: &str, references: &[Reference]) -> Result<FileDescriptor, BadSchema> {
    let references = references.to_vec();
    load(ROOT, text, move |name| {
        Ok(references.iter().find(|reference| reference.name == name).map(|reference| reference.text.clone()))
    })
}

/// The file of a schema whose imports `import` gives by name, or `None` where there is none.
pub fn load(
    name: &str,
    text: &str,
    import: impl Fn(&str) -> Result<Option<String>, BadSchema> + Send + Sync + 'static,
) -> Result<FileDescriptor, BadSchema> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Sources { root: Reference { name: name.to_owned(), text: text.to_owned() }, import });
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.open_file(Path::new(name)).map_err(|e| described(&e))?;
    compiler.descriptor_pool().get_file_by_name(name).ok_or_else(|| BadSchema::new("the schema has no file"))
}

/// The last file of a set, as `protoc --descriptor_set_out` writes it: imports come before what imports them.
///
/// # Errors
/// The bytes are no such set, or an import is missing.
pub fn of_descriptor_set(bytes: &[u8]) -> Result<FileDescriptor, BadSchema> {
    let bad = |why: &dyn std::fmt::Display| BadSchema::new(format!("not a set of file descriptors: {why}"));
    let pool = DescriptorPool::decode(bytes).map_err(|e| bad(&e))?;
    pool.files().last().ok_or_else(|| bad(&"it is empty"))
}

struct Sources<I> {
    root: Reference,
    import: I,
}

impl<I: Fn(&str) -> Result<Option<String>, BadSchema> + Send + Sync> FileResolver for Sources<I> {
    fn open_file(&self, name: &str) -> Result<File, Error> {
        if name == self.root.name {
            return file(name, &self.root.text);
        }
        match (self.import)(name) {
            Ok(Some(text)) => file(name, &text),
            Ok(None) => match BUILT_IN.iter().find(|built_in| built_in.name == name) {
                Some(built_in) => file(name, built_in.text),
                None => Err(Error::file_not_found(name)),
            },
            Err(bad) => Err(Error::new(bad)),
        }
    }
}

/// A file in Protobuf's language, or, as some clients register it, its descriptor in base64.
fn file(name: &str, text: &str) -> Result<File, Error> {
    let descriptor = STANDARD.decode(text.trim()).ok().and_then(|bytes| FileDescriptorProto::decode(&*bytes).ok());
    match descriptor {
        Some(mut descriptor) => {
            descriptor.name = Some(name.to_owned());
            Ok(File::from_file_descriptor_proto(descriptor))
        }
        None => File::from_source(name, text),
    }
}

fn described(error: &Error) -> BadSchema {
    let place = match error.file() {
        Some(file) if file != ROOT => format!("{file}: "),
        _ => String::new(),
    };
    BadSchema::new(format!("{place}{error}"))
}
