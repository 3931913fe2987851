//! Random schemas and values of them, and the JSON that the specification gives a value which apache-avro read.

use crate::record::varint;
use apache_avro::types::Value;
use serde_json::{Value as Json, json};
use std::collections::HashMap;

#[derive(Debug, Clone)]
pub enum Kind {
    Primitive(&'static str),
    Logical(&'static str, &'static str),
    Decimal {
        precision: u32,
        scale: u32,
    },
    Fixed {
        name: String,
        size: usize,
        logical: Option<&'static str>,
    },
    FixedDecimal {
        name: String,
        precision: u32,
    },
    Enum {
        name: String,
        symbols: usize,
    },
    Array(Box<Kind>),
    Map(Box<Kind>),
    Union(Vec<Kind>),
    Record {
        name: String,
        fields: Vec<Kind>,
    },
    /// A named type that was defined before.
    Ref(String),
}

const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
const LOGICALS: [(&str, &str); 10] = [
    ("int", "date"),
    ("int", "time-millis"),
    ("long", "time-micros"),
    ("long", "timestamp-millis"),
    ("long", "timestamp-micros"),
    ("long", "timestamp-nanos"),
    ("long", "local-timestamp-millis"),
    ("long", "local-timestamp-micros"),
    ("long", "local-timestamp-nanos"),
    ("string", "uuid"),
];

impl Kind {
    /// The schema's JSON.
    pub fn json(&self) -> Json {
        match self {
            Self::Primitive(name) => json!(name),
            Self::Logical(kind, logical) => json!({"type": kind, "logicalType": logical}),
            Self::Decimal { precision, scale } => {
                json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
            }
            Self::Fixed { name, size, logical: None } => json!({"type": "fixed", "name": name, "size": size}),
            Self::Fixed { name, size, logical } => {
                json!({"type": "fixed", "name": name, "size": size, "logicalType": logical})
            }
            Self::FixedDecimal { name, precision } => {
                json!({"type": "fixed", "name": name, "size": 9, "logicalType": "decimal", "precision": precision, "scale": 1})
            }
            Self::Enum { name, symbols } => {
                json!({"type": "enum", "name": name, "symbols": (0..*symbols).map(symbol).collect::<Vec<_>>()})
            }
            Self::Array(items) => json!({"type": "array", "items": items.json()}),
            Self::Map(values) => json!({"type": "map", "values": values.json()}),
            Self::Union(branches) => branches.iter().map(Self::json).collect(),
            Self::Record { name, fields } => {
                let field = |(index, kind): (usize, &Self)| json!({"name": format!("f{index}"), "type": kind.json()});
                json!({"type": "record", "name": name, "fields": fields.iter().enumerate().map(field).collect::<Vec<_>>()})
            }
            Self::Ref(name) => json!(name),
        }
    }

    /// What stands in a tag.
    fn tag(&self) -> &str {
        match self {
            Self::Primitive(name) | Self::Logical(name, _) => name,
            Self::Decimal { .. } => "bytes",
            Self::Fixed { name, .. }
            | Self::FixedDecimal { name, .. }
            | Self::Enum { name, .. }
            | Self::Record { name, .. }
            | Self::Ref(name) => name,
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Union(_) => "union",
        }
    }
}

fn symbol(index: usize) -> String {
    format!("S{index}")
}

/// A generator.
pub struct Random {
    rng: fastrand::Rng,
    named: HashMap<String, Kind>,
    /// The records around the type that is being generated.
    open: Vec<String>,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { rng: fastrand::Rng::with_seed(seed), named: HashMap::new(), open: Vec::new() }
    }

    fn name(&mut self) -> String {
        let namespace = *self.rng.choice(&["a.", "a.b."]).unwrap();
        format!("{namespace}T{}", self.named.len() + self.open.len())
    }

    fn define(&mut self, kind: Kind) -> Kind {
        self.named.insert(kind.tag().to_owned(), kind.clone());
        kind
    }

    /// A type, of some depth.
    pub fn kind(&mut self, depth: usize) -> Kind {
        self.any(depth, true)
    }

    fn any(&mut self, depth: usize, with_unions: bool) -> Kind {
        match self.rng.u32(0..if depth > 0 { 16 } else { 8 }) {
            0..3 => Kind::Primitive(self.rng.choice(PRIMITIVES).unwrap()),
            3 | 4 => {
                let (kind, logical) = self.rng.choice(LOGICALS).unwrap();
                Kind::Logical(kind, logical)
            }
            5 => {
                let precision = self.rng.u32(1..30);
                Kind::Decimal { precision, scale: self.rng.u32(0..=precision) }
            }
            6 => {
                let name = self.name();
                let logical =
                    self.rng.choice([(7, None), (0, None), (16, Some("uuid")), (12, Some("duration"))]).unwrap();
                if self.rng.u32(0..3) == 0 {
                    return self.define(Kind::FixedDecimal { name, precision: 20 });
                }
                self.define(Kind::Fixed { name, size: logical.0, logical: logical.1 })
            }
            7 => {
                let (name, symbols) = (self.name(), self.rng.usize(1..100));
                self.define(Kind::Enum { name, symbols })
            }
            8 => Kind::Array(Box::new(self.any(depth - 1, true))),
            9 => Kind::Map(Box::new(self.any(depth - 1, true))),
            10..13 if with_unions => self.union(depth),
            13 if !self.named.is_empty() => {
                let mut names: Vec<&String> = self.named.keys().collect();
                names.sort();
                Kind::Ref((*self.rng.choice(names).unwrap()).clone())
            }
            _ => {
                let name = self.name();
                self.open.push(name.clone());
                let fields = (0..self.rng.usize(0..6)).map(|_| self.any(depth - 1, true)).collect();
                self.open.pop();
                self.define(Kind::Record { name, fields })
            }
        }
    }

    fn union(&mut self, depth: usize) -> Kind {
        let mut branches: Vec<Kind> = Vec::new();
        if self.rng.bool() {
            branches.push(Kind::Primitive("null"));
        }
        for _ in 0..self.rng.usize(1..5) {
            let before = self.named.clone();
            // A record around this one, which makes the type recursive.
            let kind = match self.rng.choice(&self.open) {
                Some(name) if self.rng.u32(0..4) == 0 && !branches.is_empty() => Kind::Ref(name.clone()),
                _ => self.any(depth - 1, false),
            };
            if !branches.iter().any(|other| other.tag() == kind.tag()) {
                branches.push(kind);
            } else {
                self.named = before;
            }
        }
        Kind::Union(branches)
    }

    /// The bytes of a value, as Avro's writers write them.
    pub fn bytes(&mut self, kind: &Kind) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(kind, 6, &mut out);
        out
    }

    fn write(&mut self, kind: &Kind, depth: usize, out: &mut Vec<u8>) {
        match kind {
            Kind::Primitive("null") => (),
            Kind::Primitive("boolean") => out.push(self.rng.u8(0..2)),
            Kind::Primitive("int") | Kind::Logical("int", _) => {
                let value = *self.rng.choice(&[0, -1, 20_000, 60_000_000, i32::MIN, i32::MAX]).unwrap();
                varint::write(out, value.into());
            }
            Kind::Primitive("long") | Kind::Logical("long", _) => {
                let any = self.rng.i64(..);
                varint::write(out, *self.rng.choice(&[0, -1, 1_795_418_062_647, i64::MIN, i64::MAX, any]).unwrap());
            }
            Kind::Primitive("float") => {
                let value = *self.rng.choice(&[0.1, -0.0, f32::MAX, 1e-45, f32::NAN, f32::INFINITY]).unwrap();
                out.extend_from_slice(&value.to_le_bytes());
            }
            Kind::Primitive("double") => {
                let any = self.rng.f64();
                let value = *self.rng.choice(&[any, -0.0, f64::MAX, 5e-324, f64::NAN, f64::NEG_INFINITY]).unwrap();
                out.extend_from_slice(&value.to_le_bytes());
            }
            Kind::Primitive("bytes") => {
                let bytes: Vec<u8> = (0..self.rng.usize(0..5)).map(|_| self.rng.u8(..)).collect();
                varint::write_bytes(out, Some(&bytes));
            }
            Kind::Primitive(_) => varint::write_bytes(out, Some(self.text().as_bytes())),
            Kind::Logical(..) => {
                let uuid = uuid::Uuid::from_u128(self.rng.u128(..)).to_string();
                varint::write_bytes(out, Some(uuid.as_bytes()));
            }
            Kind::Decimal { precision, .. } => {
                let value = self.decimal(*precision).to_be_bytes();
                varint::write_bytes(out, Some(shortest(&value)));
            }
            Kind::FixedDecimal { precision, .. } => out.extend_from_slice(&self.decimal(*precision).to_be_bytes()[7..]),
            Kind::Fixed { size, .. } => out.extend((0..*size).map(|_| self.rng.u8(..))),
            Kind::Enum { symbols, .. } => varint::write(out, self.rng.usize(0..*symbols) as i64),
            Kind::Array(items) => self.blocks(depth, out, |random, out| random.write(items, depth - 1, out)),
            Kind::Map(values) => self.blocks(depth, out, |random, out| {
                let key = format!("{}{}", random.text(), random.rng.u64(..)); // apache-avro keeps one of several
                varint::write_bytes(out, Some(key.as_bytes()));
                random.write(values, depth - 1, out);
            }),
            Kind::Union(branches) => {
                let index = if depth == 0 { 0 } else { self.rng.usize(0..branches.len()) };
                varint::write(out, index as i64);
                self.write(&branches[index], depth.saturating_sub(1), out);
            }
            Kind::Record { fields, .. } => {
                for field in fields {
                    self.write(field, depth.saturating_sub(1), out);
                }
            }
            Kind::Ref(name) => self.write(&self.named[name].clone(), depth, out),
        }
    }

    fn blocks(&mut self, depth: usize, out: &mut Vec<u8>, mut element: impl FnMut(&mut Self, &mut Vec<u8>)) {
        let count = if depth == 0 { 0 } else { self.rng.usize(0..4) };
        if count > 0 {
            varint::write(out, count as i64);
            (0..count).for_each(|_| element(self, out));
        }
        varint::write(out, 0);
    }

    fn decimal(&mut self, precision: u32) -> i128 {
        let most = 10i128.pow(precision.min(20)) - 1;
        let any = self.rng.i128(-most..=most);
        *self.rng.choice(&[0, -1, 127, 128, -128, -129, most, -most, any]).unwrap() % (most + 1)
    }

    fn text(&mut self) -> String {
        (*self.rng.choice(&["", "a", "é\u{1f600}", "\"\\\n\u{7f}\u{85}", "NaN", "null"]).unwrap()).to_owned()
    }

    /// The JSON of a value in the specification's encoding.
    pub fn expected(&self, kind: &Kind, value: &Value) -> Json {
        match (kind, value) {
            (Kind::Union(branches), Value::Union(index, inner)) => match &branches[*index as usize] {
                Kind::Primitive("null") => Json::Null,
                branch => {
                    let inner = self.expected(branch, inner);
                    json!({ branch.tag(): inner })
                }
            },
            (Kind::Array(items), Value::Array(values)) => {
                values.iter().map(|value| self.expected(items, value)).collect()
            }
            (Kind::Map(of), Value::Map(values)) => {
                values.iter().map(|(key, value)| (key.clone(), self.expected(of, value))).collect()
            }
            (Kind::Record { fields, .. }, Value::Record(values)) => {
                let values = values.iter().zip(fields);
                values.map(|((name, value), kind)| (name.clone(), self.expected(kind, value))).collect()
            }
            (Kind::Ref(name), value) => self.expected(&self.named[name], value),
            (_, Value::Null) => Json::Null,
            (_, Value::Boolean(value)) => json!(value),
            (_, Value::Int(n) | Value::Date(n) | Value::TimeMillis(n)) => json!(n),
            (
                _,
                Value::Long(n)
                | Value::TimeMicros(n)
                | Value::TimestampMillis(n)
                | Value::TimestampMicros(n)
                | Value::TimestampNanos(n)
                | Value::LocalTimestampMillis(n)
                | Value::LocalTimestampMicros(n)
                | Value::LocalTimestampNanos(n),
            ) => json!(n),
            // serde_json reads a number not quite exactly: as the one that is compared with.
            (_, Value::Float(value)) if value.is_finite() => {
                serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
            }
            (_, Value::Double(value)) if value.is_finite() => {
                serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
            }
            (_, Value::Float(value)) => not_finite((*value).into()),
            (_, Value::Double(value)) => not_finite(*value),
            (_, Value::String(text) | Value::Enum(_, text)) => json!(text),
            (_, Value::Bytes(bytes) | Value::Fixed(_, bytes)) => latin1(bytes),
            (_, Value::Decimal(decimal)) => latin1(&Vec::try_from(decimal).unwrap()),
            (Kind::Logical(..), Value::Uuid(uuid)) => json!(uuid.to_string()),
            (_, Value::Uuid(uuid)) => latin1(uuid.as_bytes()),
            (_, Value::Duration(duration)) => latin1(&<[u8; 12]>::from(*duration)),
            other => panic!("{other:?}"),
        }
    }
}

fn latin1(bytes: &[u8]) -> Json {
    bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into()
}

fn not_finite(value: f64) -> Json {
    json!(if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    })
}

fn shortest(mut bytes: &[u8]) -> &[u8] {
    while let [top, rest @ ..] = bytes
        && rest.first().is_some_and(|below| *top == if below & 0x80 == 0 { 0 } else { 0xff })
    {
        bytes = rest;
    }
    bytes
}
