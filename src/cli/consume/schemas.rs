//! How `consume` decodes keys and values that have a schema.

use crate::cli::Context;
use crate::cli::named::framing;
use crate::cli::report::tell;
use crate::cli::schema_args::SchemaArgs;
use crate::codec::View;
use crate::codec::framed::{DecodeOptions, Decoder, Form, Validation, Verdict};
use crate::codec::schema::{AvroForm, FieldNames, Options};
use crate::error::{Error, Result};
use crate::record::{Batch, RecordRef, Records, TopicPartition};
use crate::registry::{Framing, Part};
use crate::text::counted;
use clap::Args;

/// So many failures are described; of more there is a count.
const MOST_DESCRIBED: u64 = 10;

#[derive(Debug, Args)]
#[command(next_help_heading = "Schemas")]
pub(super) struct DecodeArgs {
    #[command(flatten)]
    schemas: SchemaArgs,
    /// How keys and values name their schema [default: auto; none with a FILE]
    #[arg(long, value_name = "FRAMING", value_parser = framing())]
    framing: Option<Framing>,
    /// Print Avro values in the JSON encoding of Avro's specification
    #[arg(long)]
    avro_json: bool,
    /// Print Protobuf fields by their names in the schema instead of lowerCamelCase
    #[arg(long)]
    proto_names: bool,
    /// Validate values with a JSON Schema
    #[arg(long)]
    validate: bool,
    /// Stop at the first key or value that does not decode, and commit nothing of its record
    ///
    /// Otherwise it is printed as it is, in base64 with the reason in the field "error", and kpipe exits with 1 at the end.
    #[arg(long)]
    strict: bool,
}

/// Decodes records, and counts those that do not decode.
pub(super) struct DecodeStage {
    decoder: Decoder,
    failures: Failures,
}

struct Failures {
    is_strict: bool,
    count: u64,
}

impl DecodeArgs {
    /// What decodes keys and values of these forms, if one has a schema.
    ///
    /// # Errors
    /// A schema file or the registry's settings are not usable, or a flag has no effect.
    pub(super) fn stage(&self, context: &Context, key: &Form, value: &Form) -> Result<Option<DecodeStage>> {
        let has_schemas = key.schema().or(value.schema()).is_some();
        let given = [
            (self.framing.is_some(), "--framing"),
            (self.avro_json, "--avro-json"),
            (self.proto_names, "--proto-names"),
            (self.validate, "--validate"),
            (self.strict, "--strict"),
        ];
        self.schemas.check(has_schemas, &given)?;
        if !has_schemas {
            return Ok(None);
        }
        let source = self.schemas.source(context, [key, value])?;
        let options = DecodeOptions {
            framing: self.framing.unwrap_or_default(),
            validation: if self.validate { Validation::On } else { Validation::Off },
            json: Options {
                avro: if self.avro_json { AvroForm::Specification } else { AvroForm::Plain },
                field_names: if self.proto_names { FieldNames::Proto } else { FieldNames::Json },
                ..Options::default()
            },
        };
        let decoder = Decoder::new(source, self.schemas.part(key)?, self.schemas.part(value)?, options);
        Ok(Some(DecodeStage { decoder, failures: Failures { is_strict: self.strict, count: 0 } }))
    }
}

impl DecodeStage {
    /// Whether a record is shown as its bytes, as can be told at once.
    #[inline]
    pub(super) fn leaves(&self, record: &RecordRef<'_>) -> bool {
        self.decoder.leaves(record)
    }

    /// How a record of `batch` is shown, which `rest` follow. A failure is reported, and reading continues.
    ///
    /// # Errors
    /// The registry cannot be asked; or with `--strict`, the record does not decode.
    pub(super) fn view(&mut self, batch: &Batch, record: RecordRef<'_>, rest: Records<'_>) -> Result<View<'_>> {
        let view = self.decoder.view(&record, &rest)?;
        if let Verdict::Undecodable(part, why) = view.verdict() {
            self.failures.note(batch, &record, part, why)?;
        }
        Ok(view)
    }

    /// Reports failures that were not described; returns whether there were any.
    pub(super) fn report_failures(&self) -> bool {
        let Failures { count, .. } = self.failures;
        if count > MOST_DESCRIBED {
            tell(format_args!("{} in all did not decode", counted(count, "record")));
        }
        count > 0
    }
}

impl Failures {
    #[cold]
    fn note(&mut self, batch: &Batch, record: &RecordRef<'_>, part: Part, why: &str) -> Result<()> {
        let partition = TopicPartition::new(batch.topic.clone(), batch.partition);
        let error = Error::Undecodable { partition, offset: record.offset, part: part.name(), why: why.to_owned() };
        if self.is_strict {
            return Err(error);
        }
        self.count += 1;
        if self.count <= MOST_DESCRIBED {
            tell(error);
        }
        Ok(())
    }
}
