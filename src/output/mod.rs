//! Records → bytes, and what of them stdout really took. Calls `record`, `error`, `codec`, `files`,
//! `template` and `text`.

mod csv;
mod dead_letters;
mod files;
mod format;
mod json;
mod length;
mod pretty;
mod receipts;
mod template;
mod value;
mod writer;

pub use csv::{Column, CsvFormat};
pub use dead_letters::DeadLetters;
pub use files::FilesFormat;
pub use format::{Discard, Format};
pub use json::JsonFormat;
pub use length::LengthFormat;
pub use pretty::PrettyFormat;
pub use receipts::{ReceiptRun, Undelivered, write_receipts};
pub use template::TemplateFormat;
pub use value::ValueFormat;
pub use writer::{PartitionIndex, Writer};
