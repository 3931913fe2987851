//! Values of the engine's enums on the command line: one clap parser for all, with the help texts that belong to it.

use crate::codec::Encoding;
use crate::codec::framed::Form;
use crate::engine::Named;
use crate::registry::Framing;
use clap::builder::{PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser};
use std::ffi::OsStr;

/// Takes the names of `T`'s values.
pub(super) fn named<T: Named>() -> impl TypedValueParser<Value = T> {
    parser(|value: T| PossibleValue::new(value.name()))
}

/// Takes the names of `T`'s values, with what `help` says of each.
pub(super) fn named_with<T: Named>(help: fn(T) -> &'static str) -> impl TypedValueParser<Value = T> {
    parser(move |value: T| PossibleValue::new(value.name()).help(help(value)))
}

fn parser<T: Named>(possible: impl Fn(T) -> PossibleValue) -> impl TypedValueParser<Value = T> {
    let possible: Vec<PossibleValue> = T::ALL.iter().map(|value| possible(*value)).collect();
    PossibleValuesParser::new(possible).try_map(|name| T::named(&name).ok_or("not one of the possible values"))
}

/// Takes the names of `all`, whatever their case.
pub(super) fn named_api<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.iter().map(|value| PossibleValue::new(name(*value)))).try_map(move |typed| {
        let found = all.iter().find(|value| name(**value).eq_ignore_ascii_case(&typed));
        found.copied().ok_or("not one of the possible values")
    })
}

/// Takes the names of framings.
pub(super) fn framing() -> impl TypedValueParser<Value = Framing> {
    let help = |framing| match framing {
        Framing::Auto => "Recognize the framing of each record",
        Framing::None => "No framing: the schema is the FILE's",
        Framing::Confluent => "Confluent's, before the body or in a header",
        Framing::Apicurio => "Apicurio Registry's 8-byte IDs, before the body or in a header",
        Framing::Glue => "AWS Glue's",
    };
    PossibleValuesParser::new(Framing::ALL.map(|(name, framing)| PossibleValue::new(name).help(help(framing)))).try_map(
        |typed| {
            let found = Framing::ALL.into_iter().find(|(name, _)| *name == typed);
            found.map(|(_, framing)| framing).ok_or("not one of the possible values")
        },
    )
}

/// Takes what keys and values may be: the name of an encoding, or a schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct FormParser;

impl TypedValueParser for FormParser {
    type Value = Form;

    fn parse_ref(&self, command: &clap::Command, arg: Option<&clap::Arg>, value: &OsStr) -> Result<Form, clap::Error> {
        StringValueParser::new().try_map(|text| text.parse::<Form>()).parse_ref(command, arg, value)
    }

    /// What help and completions list. The little-endian numbers are left out, so that the list stays readable.
    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let encoding = |encoding: Encoding| {
            let value = PossibleValue::new(encoding.name()).help(encoding.described());
            value.hide(encoding.name().ends_with("-le"))
        };
        let with_schema = Form::WITH_SCHEMA.into_iter().map(|(name, help)| PossibleValue::new(name).help(help));
        Some(Box::new(Encoding::all().map(encoding).chain(with_schema)))
    }
}
