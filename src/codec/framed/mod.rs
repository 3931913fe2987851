//! Keys and values with a schema: the frame is recognized, the schema looked up, and the body decoded, or the other way
//! round. Calls `registry` and `codec::schema`.

mod decoder;
mod encoder;
mod form;
mod source;
mod subject;

pub use decoder::{DecodeOptions, Decoder, PartForm, Validation, Verdict};
pub use encoder::{EncodeError, Encoder, FileTarget, Origin, PartTarget, Registration, SubjectTarget, Target, Written};
pub use form::{Form, SchemaFile, SchemaForm};
pub use source::{Loaded, Source};
pub use subject::{Strategy, SubjectName};
