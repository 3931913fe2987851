//! JSON → bytes.

use super::super::json::{DEPTH, Items, Json, not_finite};
use super::super::number::Decimal;
use super::super::time::{self, Unit};
use super::super::{AvroForm, Unfit};
use super::program::{Branch, Fixed, FixedLogical, Int, Long, Looks, Node, NodeId, Program, Record};
use super::union::{Choice, Dialect, choose, listed};
use crate::codec::{Base64, Uuid};
use crate::record::varint;

type Result<T = ()> = std::result::Result<T, Unfit>;

/// How many fields that are left out one field may stand for: defaults of records leave out fields in turn, and a hostile
/// schema makes that grow without end.
const MOST_DEFAULTS: u32 = 1 << 16;

pub fn read_json(program: &Program, json: &str, form: AvroForm, out: &mut Vec<u8>) -> Result {
    let dialect = match form {
        AvroForm::Plain => Dialect::Plain,
        AvroForm::Specification => Dialect::Specification,
    };
    let mut encoder = Encoder { program, dialect, fields: Vec::new(), defaults: 0 };
    encoder.value(program.root(), Json::parse(json)?, 0, out)
}

struct Encoder<'a> {
    program: &'a Program,
    dialect: Dialect,
    /// The values of the fields of the records that are being written, as a stack.
    fields: Vec<Option<Json<'a>>>,
    /// How many fields were left out within one that was left out.
    defaults: u32,
}

impl<'a> Encoder<'a> {
    fn value(&mut self, id: NodeId, json: Json<'a>, depth: usize, out: &mut Vec<u8>) -> Result {
        match self.program.node(id) {
            Node::Null if json.text() == "null" => (),
            Node::Null => return Err(json.unfit("null")),
            Node::Boolean => match json.text() {
                "false" => out.push(0),
                "true" => out.push(1),
                _ => return Err(json.unfit("true or false")),
            },
            Node::Int(int) => varint::write(out, self.int(*int, json)?.into()),
            Node::Long(long) => varint::write(out, self.long(*long, json)?),
            Node::Float => out.extend_from_slice(&float(json)?.to_le_bytes()),
            Node::Double => out.extend_from_slice(&double(json)?.to_le_bytes()),
            Node::Bytes(Some(decimal)) if self.dialect == Dialect::Plain => {
                let bytes = decimal_of(*decimal, json)?;
                varint::write_bytes(out, Some(&bytes));
            }
            Node::Bytes(_) => {
                let bytes = self.bytes(json)?;
                varint::write_bytes(out, Some(&bytes));
            }
            Node::String => varint::write_bytes(out, Some(json.string("a string")?.as_bytes())),
            Node::Fixed(fixed) => {
                let bytes = self.fixed(fixed, json)?;
                if bytes.len() != fixed.size {
                    return Err(json.unfit(&format!("{} bytes (fixed {})", fixed.size, fixed.name)));
                }
                out.extend_from_slice(&bytes);
            }
            Node::Enum(of) => {
                let what = || format!("a symbol of enum {}{}", of.name, of.listed());
                let symbol = json.string("").map_err(|_| json.unfit(&what()))?;
                let index = of.by_name.get(&symbol).ok_or_else(|| json.unfit(&what()))?;
                varint::write(out, index as i64);
            }
            Node::Array(items) => {
                if json.first() != b'[' {
                    return Err(json.unfit("an array"));
                }
                self.items(json, depth, out, |encoder, items_left, index, out| {
                    let Some(element) = items_left.element() else { return Ok(false) };
                    let written = encoder.value(*items, element, depth + 1, out);
                    written.map(|()| true).map_err(|e| e.in_element(index))
                })?;
            }
            Node::Map(values) => {
                if json.first() != b'{' {
                    return Err(json.unfit("an object (map)"));
                }
                self.items(json, depth, out, |encoder, items_left, _, out| {
                    let Some((name, value)) = items_left.member() else { return Ok(false) };
                    let name = name.string("a valid string")?;
                    varint::write_bytes(out, Some(name.as_bytes()));
                    let written = encoder.value(*values, value, depth + 1, out);
                    written.map(|()| true).map_err(|e| e.in_field(&name))
                })?;
            }
            Node::Union(branches) => match choose(self.program, branches, json, self.dialect)? {
                Choice::Branch { index, value } => {
                    check(depth)?;
                    varint::write(out, index as i64);
                    self.value(branches[index].node, value, depth + 1, out)?;
                }
                Choice::FirstThatFits(looks) => self.first_that_fits(branches, looks, json, depth, out)?,
            },
            Node::Record(record) => self.record(record, json, depth, out)?,
        }
        Ok(())
    }

    /// Writes a value that is not an object as the first branch that takes it. Branches that only rarely look like it come
    /// last, and a float behind a double, which is more exact.
    fn first_that_fits(
        &mut self,
        branches: &'a [Branch],
        looks: Looks,
        json: Json<'a>,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result {
        check(depth)?;
        let start = out.len();
        let mut failure = None;
        for rank in 0..3 {
            for (index, branch) in branches.iter().enumerate() {
                let node = self.program.node(branch.node);
                let of_branch = match node {
                    _ if !node.looks().or(node.rare_looks()).overlaps(looks) => continue,
                    _ if !node.looks().overlaps(looks) => 2,
                    Node::Float => 1,
                    _ => 0,
                };
                if of_branch != rank {
                    continue;
                }
                varint::write(out, index as i64);
                match self.value(branch.node, json, depth + 1, out) {
                    Ok(()) => return Ok(()),
                    Err(unfit) => failure = Some((failure.is_some(), unfit)),
                }
                out.truncate(start);
            }
        }
        match failure {
            Some((false, unfit)) => Err(unfit),
            _ => Err(json.unfit(&listed(branches))),
        }
    }

    fn record(&mut self, record: &'a Record, json: Json<'a>, depth: usize, out: &mut Vec<u8>) -> Result {
        check(depth)?;
        if json.first() != b'{' {
            return Err(json.unfit(&format!("an object (record {})", record.name)));
        }
        let start = self.fields.len();
        self.fields.resize(start + record.fields.len(), None);
        let mut members = json.items("an object")?;
        let mut next = 0;
        while let Some((name, value)) = members.member() {
            let name = name.string("a valid string")?;
            // Members mostly stand in the order of the fields.
            let index = match record.fields.get(next) {
                Some(field) if *field.name == *name => next,
                _ => record.by_name.get(&name).ok_or_else(|| unknown(record, &name))?,
            };
            if self.fields[start + index].replace(value).is_some() {
                return Err(Unfit::new("the field is there twice").in_field(&name));
            }
            next = index + 1;
        }
        for (index, field) in record.fields.iter().enumerate() {
            let written = match (self.fields[start + index], &field.default) {
                (Some(value), _) => self.value(field.node, value, depth + 1, out),
                (None, Some(default)) => self.default(field.node, default, depth + 1, out),
                (None, None) => Err(Unfit::new(format!("missing (record {} has no default for it)", record.name))),
            };
            written.map_err(|e| e.in_field(&field.name))?;
        }
        self.fields.truncate(start);
        Ok(())
    }

    fn default(&mut self, id: NodeId, default: &'a str, depth: usize, out: &mut Vec<u8>) -> Result {
        let (dialect, defaults) = (self.dialect, self.defaults);
        if defaults >= MOST_DEFAULTS {
            return Err(Unfit::new("the defaults of the schema stand for far too many fields"));
        }
        (self.dialect, self.defaults) = (Dialect::Default, defaults + 1);
        let json = Json::parse(default)?;
        let written = self.value(id, json, depth, out);
        written.map_err(|e| Unfit::new(format!("the schema's default does not fit: {}", e.why())))?;
        self.dialect = dialect;
        if dialect != Dialect::Default {
            self.defaults = 0;
        }
        Ok(())
    }

    /// Writes what an array or object holds as one block, with its count before it.
    fn items(
        &mut self,
        json: Json<'a>,
        depth: usize,
        out: &mut Vec<u8>,
        mut write: impl FnMut(&mut Self, &mut Items<'a>, u64, &mut Vec<u8>) -> Result<bool>,
    ) -> Result {
        check(depth)?;
        let start = out.len();
        out.push(0); // the count, where it takes one byte
        let mut items = json.items("an array or object")?;
        let mut count = 0u64;
        while write(self, &mut items, count, out)? {
            count += 1;
        }
        if count == 0 {
            return Ok(());
        }
        let mut number = [0; varint::MAX_LEN];
        let len = varint::put(&mut number, 0, count as i64);
        out.splice(start..=start, number[..len].iter().copied());
        out.push(0);
        Ok(())
    }

    fn int(&self, int: Int, json: Json<'_>) -> Result<i32> {
        let is_text = json.first() == b'"' && self.dialect == Dialect::Plain;
        match int {
            Int::Date if is_text => text(json, "a date such as 2026-11-25", time::parse_date),
            Int::Time if is_text => text(json, "a time such as 13:45:30.123", |text| {
                i32::try_from(time::parse_time(text, Unit::Millis)?).ok()
            }),
            _ => json.text().parse().map_err(|_| json.unfit("an integer of 32 bits (int)")),
        }
    }

    fn long(&self, long: Long, json: Json<'_>) -> Result<i64> {
        let is_text = json.first() == b'"' && self.dialect == Dialect::Plain;
        match long {
            Long::Time if is_text => {
                text(json, "a time such as 13:45:30.123456", |text| time::parse_time(text, Unit::Micros))
            }
            Long::Timestamp(unit, zone) if is_text => {
                let z = if zone == time::Zone::Utc { "Z" } else { "" };
                let what = format!("a timestamp such as 2026-11-25T13:45:30{z}, in {} at most", unit.name());
                text(json, &what, |text| time::parse_timestamp(text, unit, zone))
            }
            _ => json.text().parse().map_err(|_| json.unfit("an integer of 64 bits (long)")),
        }
    }

    fn fixed(&self, fixed: &Fixed, json: Json<'_>) -> Result<Vec<u8>> {
        match fixed.logical {
            _ if self.dialect != Dialect::Plain => self.bytes(json),
            FixedLogical::Bytes => self.bytes(json),
            FixedLogical::Decimal(decimal) => {
                let bytes = decimal_of(decimal, json)?;
                let sign = if bytes.first().is_some_and(|first| first & 0x80 != 0) { 0xff } else { 0 };
                let mut padded = vec![sign; fixed.size.saturating_sub(bytes.len())];
                padded.extend_from_slice(&bytes);
                Ok(padded)
            }
            FixedLogical::Uuid => text(json, "a UUID", |text| {
                let mut bytes = Vec::with_capacity(16);
                Uuid.parse_text(text, &mut bytes).ok().map(|()| bytes)
            }),
            FixedLogical::Duration => text(json, "a duration such as P1M2DT3.000S", time::parse_duration),
        }
    }

    fn bytes(&self, json: Json<'_>) -> Result<Vec<u8>> {
        match self.dialect {
            Dialect::Plain => text(json, "bytes in base64", |text| {
                let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
                Base64.parse_text(text, &mut bytes).ok().map(|()| bytes)
            }),
            Dialect::Specification | Dialect::Default => {
                let what = "bytes as characters up to U+00FF";
                text(json, what, |text| text.chars().map(|c| u8::try_from(c).ok()).collect())
            }
        }
    }
}

fn check(depth: usize) -> Result {
    if depth < DEPTH { Ok(()) } else { Err(Unfit::new(format!("nested deeper than {DEPTH} levels"))) }
}

#[cold]
fn unknown(record: &Record, name: &str) -> Unfit {
    let hint = crate::error::did_you_mean(name, record.fields.iter().map(|field| &*field.name));
    Unfit::new(format!("record {} has no such field{hint}", record.name)).in_field(name)
}

/// What the text of a string stands for.
fn text<T>(json: Json<'_>, what: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T> {
    parse(&json.string(what)?).ok_or_else(|| json.unfit(what))
}

fn decimal_of(decimal: Decimal, json: Json<'_>) -> Result<Vec<u8>> {
    let parsed = match json.first() {
        b'"' => decimal.parse(&json.string("a decimal")?),
        b'-' | b'0'..=b'9' => decimal.parse(json.text()),
        _ => None,
    };
    parsed.ok_or_else(|| json.unfit(&decimal.described()))
}

fn double(json: Json<'_>) -> Result<f64> {
    let what = "a number (double)";
    match json.first() {
        b'"' => not_finite(&json.string(what)?).ok_or_else(|| json.unfit(what)),
        _ => json.text().parse().ok().filter(|value: &f64| value.is_finite()).ok_or_else(|| json.unfit(what)),
    }
}

fn float(json: Json<'_>) -> Result<f32> {
    let what = "a number of 32 bits (float)";
    match json.first() {
        b'"' => not_finite(&json.string(what)?).map(|value| value as f32).ok_or_else(|| json.unfit(what)),
        _ => json.text().parse().ok().filter(|value: &f32| value.is_finite()).ok_or_else(|| json.unfit(what)),
    }
}
