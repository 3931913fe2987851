//! From the text of a program to what jaq runs.

use super::limits::Guard;
use jaq_core::box_iter::box_once;
use jaq_core::data::HasLut;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::load::{self, Arena, File, Loader, lex::StrPart, span};
use jaq_core::native::{Fun, v};
use jaq_core::path::Part;
use jaq_core::{Compiler, DataT, Error, Exn, Filter, Lut, Native};
use jaq_json::{Val, read};

/// The native function that looks whether the program may go on. No program can name it.
const CHECK: &str = "!check";
/// What a program's own text is called, and jaq's own `range/3`.
const PROGRAM: &str = "kpipe__program";
const NATIVE_RANGE: &str = "kpipe__range";
/// JSON nested more deeply than this is refused: reading it recurses.
const MAX_DEPTH: usize = 1_000;

/// The values of programs, and what their native functions can see.
pub(super) enum Kind {}

#[derive(Clone, Copy)]
pub(super) struct Globals<'a> {
    pub(super) lut: &'a Lut<Kind>,
    pub(super) guard: &'a Guard,
}

impl DataT for Kind {
    type V<'a> = Val;
    type Data<'a> = Globals<'a>;
}

impl<'a> HasLut<'a, Kind> for Globals<'a> {
    fn lut(&self) -> &'a Lut<Kind> {
        self.lut
    }
}

/// Compiles a program, every recursion of which checks whether it may go on.
pub(super) fn compile(source: &str) -> Result<Filter<Kind>, String> {
    let arena = Arena::default();
    // For what is wrong with the program, if anything is: parsing alone does not tell.
    Loader::new([]).load(&arena, File { code: source, path: () }).map_err(|errors| describe_load(source, errors))?;
    let mut body = load::parse(source, |parser| parser.term()).ok_or("include and import are not supported")?;
    let mut defs: Vec<Def<&str>> = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs()).collect();
    // Of what the library defines, only inner definitions recurse without end.
    defs.iter_mut().for_each(|def| guard_defs(&mut def.body));
    let range = format!("def range($from; $to; $by): {NATIVE_RANGE}($from; $to; $by);");
    let range = load::parse(&range, |parser| parser.defs()).unwrap_or_default();
    defs.splice(0..0, range.into_iter().map(|def| Def { body: pipe(def.body, check()), ..def }));
    guard_defs(&mut body);
    defs.push(Def { name: PROGRAM, args: Vec::new(), body });
    let program = Loader::new(defs).load(&arena, File { code: PROGRAM, path: () });
    let modules = program.map_err(|errors| describe_load(source, errors))?;
    Compiler::default().with_funs(functions()).compile(modules).map_err(|errors| {
        let first = errors.into_iter().flat_map(|(_, errors)| errors).next();
        first.map_or_else(String::new, |(name, undefined)| match undefined {
            jaq_core::compile::Undefined::Filter(arity) => format!("{name}/{arity} is not defined"),
            other => format!("{} {name} is not defined", other.as_str()),
        })
    })
}

/// All native functions: jaq's own but for two, and what ends programs.
fn functions() -> impl Iterator<Item = Fun<Kind>> {
    let own = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    let renamed = own.filter(|(name, ..)| *name != "fromjson").map(|(name, args, function)| {
        if name == "range" && args.len() == 3 { (NATIVE_RANGE, args, function) } else { (name, args, function) }
    });
    let check = Native::new(|(context, value)| box_once(may_go_on(&context).map(|()| value)))
        .with_paths(|(context, at)| box_once(may_go_on(&context).map(|()| at)))
        .with_update(|(context, value), update| match may_go_on(&context) {
            Ok(()) => update(value),
            Err(end) => box_once(Err(end)),
        });
    renamed.chain([(CHECK, v(0), check), ("fromjson", v(0), Native::new(|(_, value)| from_json(&value)))])
}

type Context<'a> = jaq_core::Ctx<'a, Kind>;

/// Ends the program if it may not. Unlike an error, this cannot be caught.
fn may_go_on<'a>(context: &Context<'a>) -> Result<(), Exn<'a, Val>> {
    if context.data().guard.check() { Ok(()) } else { Err(Exn::halt(0)) }
}

fn from_json<'a>(value: &Val) -> jaq_core::ValXs<'a, Val> {
    let parsed = value.try_as_utf8_bytes_owned().and_then(|text| {
        let cannot = |why: &dyn std::fmt::Display| Error::str(format_args!("cannot parse {value} as JSON: {why}"));
        if depth(&text) > MAX_DEPTH {
            return Err(cannot(&"nested too deeply"));
        }
        read::parse_many(&text).map(|parsed| parsed.map_err(|e| cannot(&e))).collect::<Result<Vec<Val>, _>>()
    });
    match parsed {
        Ok(values) => Box::new(values.into_iter().map(Ok)),
        Err(error) => box_once(Err(Exn::from(error))),
    }
}

/// How deeply JSON is nested at most; brackets in strings count too.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in json {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn check<'s>() -> Term<&'s str> {
    Term::Call(CHECK, Vec::new())
}

fn pipe<'s>(left: Term<&'s str>, right: Term<&'s str>) -> Term<&'s str> {
    Term::BinOp(Box::new(left), BinaryOp::Pipe(None), Box::new(right))
}

/// Has every definition within `term` check first whether the program may go on.
fn guard_defs(term: &mut Term<&str>) {
    let guard_all = |terms: &mut [Term<&str>]| terms.iter_mut().for_each(guard_defs);
    match term {
        Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_) | Term::Arr(None) => {}
        Term::Str(_, parts) => parts.iter_mut().for_each(|part| {
            if let StrPart::Term(term) = part {
                guard_defs(term);
            }
        }),
        Term::Arr(Some(inner)) | Term::Neg(inner) | Term::Label(_, inner) => guard_defs(inner),
        Term::Obj(members) => members.iter_mut().for_each(|(key, value)| {
            guard_defs(key);
            value.iter_mut().for_each(guard_defs);
        }),
        Term::BinOp(left, operator, right) => {
            guard_defs(left);
            if let BinaryOp::Pipe(Some(pattern)) = operator {
                guard_pattern(pattern);
            }
            guard_defs(right);
        }
        Term::Fold(_, over, pattern, parts) => {
            guard_defs(over);
            guard_pattern(pattern);
            guard_all(parts);
        }
        Term::TryCatch(tried, caught) => {
            guard_defs(tried);
            caught.iter_mut().for_each(|caught| guard_defs(caught));
        }
        Term::IfThenElse(branches, otherwise) => {
            branches.iter_mut().for_each(|(condition, then)| {
                guard_defs(condition);
                guard_defs(then);
            });
            otherwise.iter_mut().for_each(|otherwise| guard_defs(otherwise));
        }
        Term::Def(defs, rest) => {
            for def in defs {
                guard_defs(&mut def.body);
                def.body = pipe(check(), std::mem::take(&mut def.body));
            }
            guard_defs(rest);
        }
        Term::Call(_, arguments) => guard_all(arguments),
        Term::Path(of, path) => {
            guard_defs(of);
            for (part, _) in &mut path.0 {
                match part {
                    Part::Index(index) => guard_defs(index),
                    Part::Range(from, to) => from.iter_mut().chain(to).for_each(guard_defs),
                }
            }
        }
    }
}

fn guard_pattern(pattern: &mut Pattern<&str>) {
    match pattern {
        Pattern::Var(_) => {}
        Pattern::Arr(inner) => inner.iter_mut().for_each(guard_pattern),
        Pattern::Obj(members) => members.iter_mut().for_each(|(key, inner)| {
            guard_defs(key);
            guard_pattern(inner);
        }),
    }
}

/// The first of the errors, and where it is.
fn describe_load(source: &str, errors: load::Errors<&str, ()>) -> String {
    let at = |part: &str| match source[..span(source, part).start].chars().count() {
        column if part.is_empty() => format!("at the end (column {})", column + 1),
        column => format!("at column {}", column + 1),
    };
    match errors.into_iter().next().map(|(_, error)| error) {
        Some(load::Error::Io(errors)) => {
            errors.into_iter().next().map_or_else(String::new, |(name, why)| format!("{name}: {why}"))
        }
        Some(load::Error::Lex(errors)) => errors
            .first()
            .map_or_else(String::new, |(expected, found)| format!("expected {} {}", expected.as_str(), at(found))),
        Some(load::Error::Parse(errors)) => errors
            .first()
            .map_or_else(String::new, |(expected, found)| format!("expected {} {}", expected.as_str(), at(found))),
        None => String::new(),
    }
}
