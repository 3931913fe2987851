//! Values of the engine's enums on the command line: one clap parser for all, with the help texts that belong to it.

use crate::codec::Encoding;
use crate::engine::Named;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

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

/// Takes the names of the encodings. The little-endian numbers are not listed, so that the list stays readable.
pub(super) fn encoding() -> impl TypedValueParser<Value = Encoding> {
    let possible = |encoding: Encoding| {
        let value = PossibleValue::new(encoding.name()).help(encoding.described());
        value.hide(encoding.name().ends_with("-le"))
    };
    PossibleValuesParser::new(Encoding::all().map(possible)).try_map(|name| Encoding::named(&name))
}
