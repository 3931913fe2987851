//! Which branch of a union JSON stands for. It is decided from the value's first level, so that no value is tried twice.

use super::super::Unfit;
use super::super::json::Json;
use super::program::{Branch, Looks, Node, Program, Record, Tagging};

/// How JSON stands for values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Plain,
    Specification,
    /// As defaults stand in schemas: like the specification's, but without tags.
    Default,
}

/// What JSON stands for.
pub enum Choice<'a> {
    Branch {
        index: usize,
        value: Json<'a>,
    },
    /// The first branch that takes a value with these looks, which is not an object.
    FirstThatFits(Looks),
}

/// Chooses the branch.
///
/// # Errors
/// There is none for this JSON, or several.
pub fn choose<'a>(
    program: &Program,
    branches: &[Branch],
    json: Json<'a>,
    dialect: Dialect,
) -> Result<Choice<'a>, Unfit> {
    let looks = Looks::of(json.first());
    if looks == Looks::NULL {
        let null = branches.iter().position(|branch| matches!(program.node(branch.node), Node::Null));
        return null.map(|index| Choice::Branch { index, value: json }).ok_or_else(|| json.unfit(&listed(branches)));
    }
    match dialect {
        Dialect::Specification => tagged(branches, json).ok_or_else(|| json.unfit(&tags(branches))),
        Dialect::Default => untagged(program, branches, json, looks),
        Dialect::Plain if looks != Looks::OBJECT => Ok(Choice::FirstThatFits(looks)),
        Dialect::Plain => object(program, branches, json),
    }
}

/// The branch that an object of one member names.
fn tagged<'a>(branches: &[Branch], json: Json<'a>) -> Option<Choice<'a>> {
    if json.first() != b'{' {
        return None;
    }
    let mut members = json.items("an object").ok()?;
    let (name, value) = members.member()?;
    if members.member().is_some() {
        return None;
    }
    let name = name.string("a string").ok()?;
    let index = branches.iter().position(|branch| *branch.name == *name)?;
    Some(Choice::Branch { index, value })
}

fn untagged<'a>(program: &Program, branches: &[Branch], json: Json<'a>, looks: Looks) -> Result<Choice<'a>, Unfit> {
    if looks != Looks::OBJECT {
        return Ok(Choice::FirstThatFits(looks));
    }
    let first = branches.iter().position(|branch| program.node(branch.node).looks() == Looks::OBJECT);
    first.map(|index| Choice::Branch { index, value: json }).ok_or_else(|| json.unfit(&listed(branches)))
}

/// An object is a tag, a map or a record.
fn object<'a>(program: &Program, branches: &[Branch], json: Json<'a>) -> Result<Choice<'a>, Unfit> {
    let is_plain =
        |branch: &Branch| branch.tagging != Tagging::Always && program.node(branch.node).looks() == Looks::OBJECT;
    let plain = branches.iter().position(is_plain);
    match (plain, tagged(branches, json)) {
        (None, Some(tagged)) => Ok(tagged),
        (Some(index), None) => Ok(Choice::Branch { index, value: json }),
        (Some(index), Some(tagged)) => {
            let Choice::Branch { index: named, value } = &tagged else { return Ok(tagged) };
            let (named, looks) = (program.node(branches[*named].node), Looks::of(value.first()));
            let is_tag = match program.node(branches[index].node) {
                Node::Record(record) => record.by_name.get(named.type_name()).is_none(),
                Node::Map(values) => named.can_look(program, looks) && !program.node(*values).can_look(program, looks),
                _ => false,
            };
            Ok(if is_tag { tagged } else { Choice::Branch { index, value: json } })
        }
        (None, None) => untagged_record(program, branches, json),
    }
}

/// The only record that has all of the object's members and needs no more.
fn untagged_record<'a>(program: &Program, branches: &[Branch], json: Json<'a>) -> Result<Choice<'a>, Unfit> {
    let fits =
        |branch: &Branch| matches!(program.node(branch.node), Node::Record(record) if has_fields_of(record, json));
    let mut fitting = branches.iter().enumerate().filter(|(_, branch)| fits(branch));
    match (fitting.next(), fitting.next()) {
        (Some((index, _)), None) => Ok(Choice::Branch { index, value: json }),
        _ => Err(json.unfit(&tags(branches))),
    }
}

fn has_fields_of(record: &Record, json: Json<'_>) -> bool {
    let Ok(mut members) = json.items("an object") else { return false };
    let mut required = record.fields.iter().filter(|field| field.default.is_none()).count();
    while let Some((name, _)) = members.member() {
        let Some(index) = name.string("a string").ok().and_then(|name| record.by_name.get(&name)) else { return false };
        if record.fields[index].default.is_none() {
            required = required.saturating_sub(1);
        }
    }
    required == 0
}

/// The branches, for an error.
pub fn listed(branches: &[Branch]) -> String {
    joined(branches, |name| name.to_owned())
}

/// The tags of the branches, for an error.
fn tags(branches: &[Branch]) -> String {
    joined(branches, |name| if name == "null" { name.to_owned() } else { format!("{{{name:?}: …}}") })
}

fn joined(branches: &[Branch], one: impl Fn(&str) -> String) -> String {
    const MOST: usize = 10;
    let mut names: Vec<String> = branches.iter().take(MOST).map(|branch| one(&branch.name)).collect();
    if branches.len() > MOST {
        names.push("…".to_owned());
    }
    names.join(" or ")
}
