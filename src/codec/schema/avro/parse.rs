//! The text of a schema → its program.

use super::super::number::{Decimal, MOST_DIGITS};
use super::super::time::{Unit, Zone};
use super::super::{BadSchema, Reference};
use super::program::{
    Branch, Enum, Field, Fixed, FixedLogical, Int, Long, Looks, Names, Node, NodeId, Nodes, Program, Record, Symbol,
    Tagging,
};
use crate::codec::write_string;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

type Object = Map<String, Value>;

/// The most types that a schema may have, with those of its references. A type takes at least a byte of the schema's text.
const MOST_TYPES: usize = 1 << 20;

pub fn parse(text: &str, references: &[Reference]) -> Result<Program, BadSchema> {
    let mut parser = Parser::default();
    for (index, reference) in references.iter().enumerate() {
        if references[..index].iter().any(|earlier| earlier.text == reference.text) {
            continue; // used by several schemas
        }
        let parsed = parser.document(&reference.text);
        parsed.map_err(|e| BadSchema::new(format!("reference {:?}: {e}", reference.name)))?;
    }
    let root = parser.document(text)?;
    Ok(Program::new(parser.nodes.into_inner(), root))
}

#[derive(Default)]
struct Parser {
    nodes: Nodes,
    /// The named types, by their full names.
    named: HashMap<String, NodeId>,
}

/// The namespace that names without one are in.
#[derive(Clone, Copy)]
struct Within<'a>(&'a str);

impl Parser {
    fn document(&mut self, text: &str) -> Result<NodeId, BadSchema> {
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            // Confluent's registry returns a primitive schema as the bare name of its type, which is not JSON.
            Err(_) if text.trim().chars().all(|c| c.is_ascii_alphabetic()) && !text.trim().is_empty() => {
                Value::from(text.trim())
            }
            Err(e) => return Err(BadSchema::new(format!("not a schema in JSON: {e}"))),
        };
        self.schema(&value, Within(""))
    }

    fn schema(&mut self, value: &Value, within: Within<'_>) -> Result<NodeId, BadSchema> {
        if self.nodes.len() >= MOST_TYPES {
            return Err(BadSchema::new(format!("more than {MOST_TYPES} types")));
        }
        match value {
            Value::String(name) => self.by_name(name, within),
            Value::Array(branches) => self.union(branches, within),
            Value::Object(object) => self.object(object, within),
            other => Err(BadSchema::new(format!("expected a type, found {other}"))),
        }
    }

    fn by_name(&mut self, name: &str, within: Within<'_>) -> Result<NodeId, BadSchema> {
        if let Some(node) = primitive(name) {
            return Ok(self.nodes.add(node));
        }
        // A name without a namespace is in that of its surroundings, or else, as Java has it, in none.
        let found = self.named.get(&full_name(name, None, within)).or_else(|| self.named.get(name));
        found.copied().ok_or_else(|| BadSchema::new(format!("unknown type {name:?}")))
    }

    fn object(&mut self, object: &Object, within: Within<'_>) -> Result<NodeId, BadSchema> {
        let kind = match object.get("type") {
            Some(Value::String(kind)) => kind,
            Some(nested @ (Value::Object(_) | Value::Array(_))) => return self.schema(nested, within),
            Some(other) => return Err(BadSchema::new(format!("expected a type, found {other}"))),
            None => return Err(BadSchema::new("a type has no \"type\"")),
        };
        match kind.as_str() {
            "record" | "error" => self.record(object, within),
            "enum" => self.enumeration(object, within),
            "fixed" => self.fixed(object, within),
            "array" => {
                let items = object.get("items").ok_or_else(|| BadSchema::new("an array has no \"items\""))?;
                let items = self.schema(items, within)?;
                Ok(self.nodes.add(Node::Array(items)))
            }
            "map" => {
                let values = object.get("values").ok_or_else(|| BadSchema::new("a map has no \"values\""))?;
                let values = self.schema(values, within)?;
                Ok(self.nodes.add(Node::Map(values)))
            }
            name => match primitive(name) {
                Some(node) => Ok(self.nodes.add(with_logical_type(node, object))),
                None => self.by_name(name, within),
            },
        }
    }

    fn union(&mut self, branches: &[Value], within: Within<'_>) -> Result<NodeId, BadSchema> {
        let ids: Vec<NodeId> = branches.iter().map(|branch| self.schema(branch, within)).collect::<Result<_, _>>()?;
        let mut names = HashSet::new();
        for id in &ids {
            match self.nodes.get(*id) {
                Node::Union(_) => return Err(BadSchema::new("a union stands directly in a union")),
                node if !names.insert(node.type_name()) => {
                    return Err(BadSchema::new(format!("a union has {} twice", node.type_name())));
                }
                _ => (),
            }
        }
        let branches = self.branches(&ids);
        Ok(self.nodes.add(Node::Union(branches)))
    }

    fn branches(&self, ids: &[NodeId]) -> Box<[Branch]> {
        let all: Vec<(Looks, Looks)> =
            ids.iter().map(|id| (self.nodes.get(*id).looks(), self.nodes.get(*id).rare_looks())).collect();
        let (mut once, mut twice, mut rare_once, mut rare_twice) = (Looks::NONE, Looks::NONE, Looks::NONE, Looks::NONE);
        for (looks, rare) in &all {
            (once, twice) = (once.or(*looks), twice.or(once.and(*looks)));
            (rare_once, rare_twice) = (rare_once.or(*rare), rare_twice.or(rare_once.and(*rare)));
        }
        let tagging = |(looks, rare): &(Looks, Looks)| match () {
            () if looks.overlaps(twice) => Tagging::Always,
            () if rare.overlaps(once.or(rare_twice)) => Tagging::IfRare,
            () => Tagging::Never,
        };
        let mut taggings: Vec<Tagging> = all.iter().map(tagging).collect();
        // A tag is an object: it must not look like a branch that stands without one.
        if taggings.iter().any(|tagging| *tagging != Tagging::Never) {
            for (tagging, (looks, _)) in taggings.iter_mut().zip(&all) {
                if looks.overlaps(Looks::OBJECT) {
                    *tagging = Tagging::Always;
                }
            }
        }
        let branch = |(id, tagging): (&NodeId, Tagging)| {
            let name = self.nodes.get(*id).type_name();
            Branch { node: *id, name: name.into(), tag: prefix(b'{', name), tagging }
        };
        ids.iter().zip(taggings).map(branch).collect()
    }

    /// Enters a name, which is known from here on: also within its own type. Returns its full name and its node.
    fn define(&mut self, object: &Object, within: Within<'_>) -> Result<(String, NodeId), BadSchema> {
        let name = match object.get("name") {
            Some(Value::String(name)) if !name.is_empty() => name,
            _ => return Err(BadSchema::new("a record, enum or fixed has no name")),
        };
        let name = full_name(name, object.get("namespace").and_then(Value::as_str), within);
        if primitive(&name).is_some() {
            return Err(BadSchema::new(format!("a type is called {name:?}, which is a primitive type")));
        }
        let id = self.nodes.add(Node::Null);
        match self.named.insert(name.clone(), id) {
            Some(_) => Err(BadSchema::new(format!("type {name:?} is defined twice"))),
            None => Ok((name, id)),
        }
    }

    fn record(&mut self, object: &Object, within: Within<'_>) -> Result<NodeId, BadSchema> {
        let (name, id) = self.define(object, within)?;
        let of_record = |e: BadSchema| BadSchema::new(format!("record {name}: {e}"));
        // A union with itself as a branch asks for its name and look while its fields are still unknown.
        self.nodes
            .set(id, Node::Record(Record { name: name.as_str().into(), fields: [].into(), by_name: Names::default() }));
        let Some(Value::Array(list)) = object.get("fields") else {
            return Err(of_record(BadSchema::new("it has no list \"fields\"")));
        };
        let inner = Within(name.rsplit_once('.').map_or("", |(namespace, _)| namespace));
        let mut fields = Vec::with_capacity(list.len());
        for field in list {
            let start = if fields.is_empty() { b'{' } else { b',' };
            fields.push(self.field(field, inner, start).map_err(of_record)?);
        }
        let by_name = by_name(&fields, list).map_err(of_record)?;
        self.nodes.set(id, Node::Record(Record { name: name.into(), fields: fields.into(), by_name }));
        Ok(id)
    }

    fn field(&mut self, value: &Value, within: Within<'_>, start: u8) -> Result<Field, BadSchema> {
        let Some(Value::String(name)) = value.get("name") else {
            return Err(BadSchema::new("a field has no name"));
        };
        let of_field = |e: BadSchema| BadSchema::new(format!("field {name}: {e}"));
        let kind = value.get("type").ok_or_else(|| of_field(BadSchema::new("it has no type")))?;
        let node = self.schema(kind, within).map_err(of_field)?;
        // Some generators put the logical type beside the type of the field, where it has no meaning.
        let default = value.get("default").map(|default| default.to_string().into());
        Ok(Field { name: name.as_str().into(), prefix: prefix(start, name), node, default })
    }

    fn enumeration(&mut self, object: &Object, within: Within<'_>) -> Result<NodeId, BadSchema> {
        let (name, id) = self.define(object, within)?;
        let bad = |why: &str| BadSchema::new(format!("enum {name}: {why}"));
        let Some(Value::Array(list)) = object.get("symbols") else { return Err(bad("it has no list \"symbols\"")) };
        let (mut symbols, mut by_name) = (Vec::with_capacity(list.len()), HashMap::new());
        for symbol in list {
            let Value::String(symbol) = symbol else { return Err(bad("a symbol is not a string")) };
            let mut json = Vec::new();
            write_string(&mut json, symbol);
            by_name.insert(symbol.as_str().into(), symbols.len() as u32);
            symbols.push(Symbol { name: symbol.as_str().into(), json: json.into() });
        }
        if by_name.len() < symbols.len() {
            return Err(bad("a symbol stands there twice"));
        }
        let by_name = Names::new(by_name);
        self.nodes.set(id, Node::Enum(Enum { name: name.into(), symbols: symbols.into(), by_name }));
        Ok(id)
    }

    fn fixed(&mut self, object: &Object, within: Within<'_>) -> Result<NodeId, BadSchema> {
        let (name, id) = self.define(object, within)?;
        let size = object.get("size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
        let size = size.ok_or_else(|| BadSchema::new(format!("fixed {name}: its size is not a number of bytes")))?;
        let logical = match logical_type(object) {
            Some("decimal") => decimal(object, Some(size)).map_or(FixedLogical::Bytes, FixedLogical::Decimal),
            Some("uuid") if size == 16 => FixedLogical::Uuid,
            Some("duration") if size == 12 => FixedLogical::Duration,
            _ => FixedLogical::Bytes,
        };
        self.nodes.set(id, Node::Fixed(Fixed { name: name.into(), size, logical }));
        Ok(id)
    }
}

/// The names and aliases of fields, sorted. A name comes before an alias.
fn by_name(fields: &[Field], list: &[Value]) -> Result<Names, BadSchema> {
    let mut known: HashMap<Box<str>, u32> = HashMap::new();
    for (index, field) in fields.iter().enumerate() {
        if known.insert(field.name.clone(), index as u32).is_some() {
            return Err(BadSchema::new(format!("field {} stands there twice", field.name)));
        }
    }
    for (index, field) in list.iter().enumerate() {
        for alias in field.get("aliases").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            known.entry(alias.into()).or_insert(index as u32);
        }
    }
    Ok(Names::new(known))
}

/// What stands in JSON before the value of a member.
fn prefix(start: u8, name: &str) -> Box<[u8]> {
    let mut prefix = vec![start];
    write_string(&mut prefix, name);
    prefix.push(b':');
    prefix.into()
}

fn full_name(name: &str, namespace: Option<&str>, within: Within<'_>) -> String {
    match namespace.unwrap_or(within.0) {
        _ if name.contains('.') => name.trim_start_matches('.').to_owned(),
        "" => name.to_owned(),
        namespace => format!("{namespace}.{name}"),
    }
}

fn primitive(name: &str) -> Option<Node> {
    Some(match name {
        "null" => Node::Null,
        "boolean" => Node::Boolean,
        "int" => Node::Int(Int::Number),
        "long" => Node::Long(Long::Number),
        "float" => Node::Float,
        "double" => Node::Double,
        "bytes" => Node::Bytes(None),
        "string" => Node::String,
        _ => return None,
    })
}

fn logical_type(object: &Object) -> Option<&str> {
    object.get("logicalType").and_then(Value::as_str)
}

/// The node with its logical type; one that is unknown or does not fit the type is ignored, as the specification asks.
fn with_logical_type(node: Node, object: &Object) -> Node {
    match (node, logical_type(object)) {
        (Node::Int(_), Some("date")) => Node::Int(Int::Date),
        (Node::Int(_), Some("time-millis")) => Node::Int(Int::Time),
        (Node::Long(_), Some(logical)) => Node::Long(match logical {
            "time-micros" => Long::Time,
            "timestamp-millis" => Long::Timestamp(Unit::Millis, Zone::Utc),
            "timestamp-micros" => Long::Timestamp(Unit::Micros, Zone::Utc),
            "timestamp-nanos" => Long::Timestamp(Unit::Nanos, Zone::Utc),
            "local-timestamp-millis" => Long::Timestamp(Unit::Millis, Zone::Local),
            "local-timestamp-micros" => Long::Timestamp(Unit::Micros, Zone::Local),
            "local-timestamp-nanos" => Long::Timestamp(Unit::Nanos, Zone::Local),
            _ => Long::Number,
        }),
        (Node::Bytes(_), Some("decimal")) => Node::Bytes(decimal(object, None)),
        (node, _) => node,
    }
}

/// A decimal's precision and scale, if they are valid; `size` is that of a fixed.
fn decimal(object: &Object, size: Option<usize>) -> Option<Decimal> {
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let precision = number(object.get("precision")?)?;
    let scale = object.get("scale").map_or(Some(0), number)?;
    // A fixed of n bytes holds this many whole digits: log10(2) of its bits but the sign.
    let most = size
        .map_or(u64::from(MOST_DIGITS), |size| (size as u64 * 8).saturating_sub(1).saturating_mul(30_103) / 100_000);
    let is_valid = precision > 0 && scale <= precision && precision <= MOST_DIGITS && u64::from(precision) <= most;
    is_valid.then_some(Decimal { precision, scale })
}
