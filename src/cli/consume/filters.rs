//! The flags of `consume` about which records are written.

use crate::error::{Error, Result};
use crate::filter::{Condition, Field, Filter, Sampling, Test};
use clap::Args;

#[derive(Debug, Args)]
#[command(next_help_heading = "Filter")]
pub(in crate::cli) struct FilterArgs {
    /// Select only records whose value matches this regular expression
    #[arg(long, value_name = "REGEX")]
    grep: Option<String>,
    /// Select only records whose key matches this regular expression
    #[arg(long, value_name = "REGEX")]
    grep_key: Option<String>,
    /// Select only records with a header of this name, whose value matches REGEX if it is given
    #[arg(long, value_name = "NAME[=REGEX]")]
    grep_header: Vec<String>,
    /// Select only records with exactly this key, value or header: key=X, value=X, header:NAME=X
    #[arg(long = "where", value_name = "FIELD=X", value_parser = parse_where)]
    equals: Vec<(Field, Vec<u8>)>,
    /// Ignore case in --grep, --grep-key and --grep-header
    #[arg(short, long)]
    ignore_case: bool,
    /// Select only records that do not match all of --grep, --grep-key, --grep-header and --where
    #[arg(long)]
    invert: bool,
    /// Select about this share of the matching records, between 0 and 1; the same ones in each run
    #[arg(long, value_name = "SHARE", value_parser = parse_share, conflicts_with = "every")]
    sample: Option<Sampling>,
    /// Select the first of every N matching records
    #[arg(long, value_name = "N", value_parser = parse_every)]
    every: Option<Sampling>,
}

fn parse_where(text: &str) -> Result<(Field, Vec<u8>), String> {
    let (field, expected) = text.split_once('=').ok_or("expected key=X, value=X or header:NAME=X")?;
    let field = match field {
        "key" => Field::Key,
        "value" => Field::Value,
        header => match header.strip_prefix("header:") {
            Some(name) if !name.is_empty() => Field::Header(name.into()),
            _ => return Err("expected key=X, value=X or header:NAME=X".to_owned()),
        },
    };
    Ok((field, expected.into()))
}

fn parse_share(text: &str) -> Result<Sampling, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.map(Sampling::share).ok_or_else(|| "expected a number between 0 and 1".to_owned())
}

fn parse_every(text: &str) -> Result<Sampling, String> {
    let every = text.parse().ok().filter(|every| *every >= 1);
    every.map(Sampling::Every).ok_or_else(|| "expected a number of at least 1".to_owned())
}

impl FilterArgs {
    /// The filter, if any flag asks for one.
    ///
    /// # Errors
    /// A regular expression is malformed, or a flag has no effect.
    pub(in crate::cli) fn filter(&self) -> Result<Option<Filter>> {
        let matches = |flag: &str, pattern: &str| {
            Test::matches(pattern, self.ignore_case).map_err(|why| Error::Usage(format!("{flag} {pattern}: {why}")))
        };
        let mut conditions = Vec::new();
        if let Some(pattern) = &self.grep {
            conditions.push(Condition::new(Field::Value, matches("--grep", pattern)?));
        }
        if let Some(pattern) = &self.grep_key {
            conditions.push(Condition::new(Field::Key, matches("--grep-key", pattern)?));
        }
        for header in &self.grep_header {
            let (name, test) = match header.split_once('=') {
                Some((name, pattern)) => (name, matches("--grep-header", pattern)?),
                None => (header.as_str(), Test::Exists),
            };
            conditions.push(Condition::new(Field::Header(name.into()), test));
        }
        let has_patterns = !conditions.is_empty();
        let equals = self.equals.iter().cloned();
        conditions.extend(equals.map(|(field, expected)| Condition::new(field, Test::Equals(expected))));
        if self.ignore_case && !has_patterns {
            return Err(Error::Usage("--ignore-case requires --grep, --grep-key or --grep-header".to_owned()));
        }
        if self.invert && conditions.is_empty() {
            return Err(Error::Usage("--invert requires --grep, --grep-key, --grep-header or --where".to_owned()));
        }
        let sampling = self.sample.or(self.every);
        let filters = !conditions.is_empty() || sampling.is_some();
        Ok(filters.then(|| Filter::new(conditions, self.invert, sampling)))
    }
}
