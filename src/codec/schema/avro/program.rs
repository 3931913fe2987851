//! What a schema is compiled to.

use super::super::number::Decimal;
use super::super::time::{Unit, Zone};
use std::collections::HashMap;

/// A type: an index into [`Program::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeId(u32);

/// A schema as nodes that refer to each other by index, so that recursive types are like any other.
#[derive(Debug)]
pub struct Program {
    nodes: Vec<Node>,
    root: NodeId,
    growth: usize,
}

impl Program {
    pub fn new(nodes: Vec<Node>, root: NodeId) -> Self {
        let growth = 64 + nodes.iter().map(Node::names_len).max().unwrap_or(0);
        Self { nodes, root, growth }
    }

    /// How much JSON a byte of a real value may become: the names of a record that is nearly empty.
    pub fn growth(&self) -> usize {
        self.growth
    }

    /// The node of an id, which this program gave out.
    #[inline]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The type of values.
    pub fn root(&self) -> NodeId {
        self.root
    }

    pub fn full_name(&self) -> Option<&str> {
        self.node(self.root).name()
    }
}

/// The nodes while a schema is parsed.
#[derive(Debug, Default)]
pub struct Nodes(Vec<Node>);

impl Nodes {
    /// Adds a node.
    pub fn add(&mut self, node: Node) -> NodeId {
        self.0.push(node);
        NodeId(self.0.len() as u32 - 1)
    }

    /// Replaces a node that was added before what it consists of was known.
    pub fn set(&mut self, id: NodeId, node: Node) {
        self.0[id.0 as usize] = node;
    }

    pub fn get(&self, id: NodeId) -> &Node {
        &self.0[id.0 as usize]
    }

    pub fn into_inner(self) -> Vec<Node> {
        self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// A type, with its logical type.
#[derive(Debug)]
pub enum Node {
    Null,
    Boolean,
    Int(Int),
    Long(Long),
    Float,
    Double,
    Bytes(Option<Decimal>),
    String,
    Fixed(Fixed),
    Enum(Enum),
    Array(NodeId),
    Map(NodeId),
    Union(Box<[Branch]>),
    Record(Record),
}

/// What an int stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Int {
    Number,
    /// Days since 1970-01-01.
    Date,
    /// Milliseconds since midnight.
    Time,
}

/// What a long stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Long {
    Number,
    /// Microseconds since midnight.
    Time,
    /// Since 1970.
    Timestamp(Unit, Zone),
}

#[derive(Debug)]
pub struct Fixed {
    pub name: Box<str>,
    pub size: usize,
    pub logical: FixedLogical,
}

/// What the bytes of a fixed stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FixedLogical {
    Bytes,
    Decimal(Decimal),
    Uuid,
    /// Months, days and milliseconds.
    Duration,
}

#[derive(Debug)]
pub struct Enum {
    pub name: Box<str>,
    pub symbols: Box<[Symbol]>,
    pub by_name: Names,
}

#[derive(Debug)]
pub struct Symbol {
    pub name: Box<str>,
    /// As a JSON string.
    pub json: Box<[u8]>,
}

impl Enum {
    /// The first symbols, for an error.
    pub fn listed(&self) -> String {
        const MOST: usize = 8;
        let names: Vec<&str> = self.symbols.iter().take(MOST).map(|symbol| &*symbol.name).collect();
        let more = if self.symbols.len() > MOST { ", …" } else { "" };
        format!(" ({}{more})", names.join(", "))
    }
}

#[derive(Debug)]
pub struct Record {
    pub name: Box<str>,
    pub fields: Box<[Field]>,
    /// The fields by name and alias.
    pub by_name: Names,
}

/// Indexes by name.
#[derive(Debug, Default)]
pub struct Names(Box<[(Box<str>, u32)]>);

impl Names {
    pub fn new(by_name: HashMap<Box<str>, u32>) -> Self {
        let mut sorted: Vec<_> = by_name.into_iter().collect();
        sorted.sort();
        Self(sorted.into())
    }

    pub fn get(&self, name: &str) -> Option<usize> {
        let found = self.0.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(self.0[found].1 as usize)
    }
}

#[derive(Debug)]
pub struct Field {
    pub name: Box<str>,
    /// What stands before the value in JSON: a brace or comma, the name and a colon.
    pub prefix: Box<[u8]>,
    pub node: NodeId,
    /// The JSON of the default.
    pub default: Option<Box<str>>,
}

#[derive(Debug)]
pub struct Branch {
    pub node: NodeId,
    /// The name of its type.
    pub name: Box<str>,
    /// What stands before the value in JSON if it is tagged: a brace, the name and a colon.
    pub tag: Box<[u8]>,
    /// Whether values stand without the tag in the plain form.
    pub tagging: Tagging,
}

/// When a value of a union has a tag in the plain form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tagging {
    /// No other branch looks the same.
    Never,
    /// Other branches look like the rare form of this one: NaN and infinities of a floating-point number are strings, a
    /// date beyond year 9999 is a number.
    IfRare,
    /// Another branch looks the same.
    Always,
}

/// How values look in the plain form: a set of JSON's types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Looks(u8);

impl Looks {
    pub const NONE: Self = Self(0);
    pub const NULL: Self = Self(1);
    pub const BOOLEAN: Self = Self(2);
    pub const NUMBER: Self = Self(4);
    pub const STRING: Self = Self(8);
    pub const ARRAY: Self = Self(16);
    pub const OBJECT: Self = Self(32);

    pub fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Of the JSON value that begins with this byte.
    pub fn of(first: u8) -> Self {
        match first {
            b'n' => Self::NULL,
            b't' | b'f' => Self::BOOLEAN,
            b'"' => Self::STRING,
            b'[' => Self::ARRAY,
            b'{' => Self::OBJECT,
            _ => Self::NUMBER,
        }
    }
}

impl Node {
    /// The full name of a record, enum or fixed.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Record(record) => Some(&record.name),
            Self::Enum(of) => Some(&of.name),
            Self::Fixed(fixed) => Some(&fixed.name),
            _ => None,
        }
    }

    /// The name of its type: what stands in a tag.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int(_) => "int",
            Self::Long(_) => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes(_) => "bytes",
            Self::String => "string",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Union(_) => "union",
            Self::Fixed(Fixed { name, .. }) | Self::Enum(Enum { name, .. }) | Self::Record(Record { name, .. }) => name,
        }
    }

    /// Whether a value can have these looks: also rare ones, and those of a union's branches.
    pub fn can_look(&self, program: &Program, looks: Looks) -> bool {
        let own = self.looks().or(self.rare_looks()).overlaps(looks);
        match self {
            // A tag is an object.
            Self::Union(branches) => branches.iter().any(|branch| {
                let node = program.node(branch.node);
                (branch.tagging != Tagging::Never && looks == Looks::OBJECT)
                    || node.looks().or(node.rare_looks()).overlaps(looks)
            }),
            _ => own,
        }
    }

    /// How much JSON may be names: those of all fields, or of a symbol or branch.
    fn names_len(&self) -> usize {
        match self {
            Self::Record(record) => record.fields.iter().map(|field| field.prefix.len() + b"null".len()).sum(),
            Self::Enum(of) => of.symbols.iter().map(|symbol| symbol.json.len()).max().unwrap_or(0),
            Self::Union(branches) => branches.iter().map(|branch| branch.tag.len()).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// How values look, but for rare ones; a union has no look of its own.
    pub fn looks(&self) -> Looks {
        match self {
            Self::Null => Looks::NULL,
            Self::Boolean => Looks::BOOLEAN,
            Self::Int(Int::Number) | Self::Long(Long::Number) | Self::Float | Self::Double => Looks::NUMBER,
            Self::Int(_) | Self::Long(_) | Self::Bytes(_) | Self::String | Self::Fixed(_) | Self::Enum(_) => {
                Looks::STRING
            }
            Self::Array(_) => Looks::ARRAY,
            Self::Map(_) | Self::Record(_) => Looks::OBJECT,
            Self::Union(_) => Looks::NONE,
        }
    }

    /// How rare values look, if otherwise: NaN, and dates and times beyond what RFC 3339 has.
    pub fn rare_looks(&self) -> Looks {
        match self {
            Self::Float | Self::Double => Looks::STRING,
            Self::Int(Int::Date | Int::Time) | Self::Long(Long::Time | Long::Timestamp(..)) => Looks::NUMBER,
            _ => Looks::NONE,
        }
    }
}
