//! What a declaration of a property consists of, and the types that a value may have.

use super::values;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// How the text of a property is read.
pub trait Kind {
    /// What it is read as.
    type Value;

    /// Parses `text`, and checks the value.
    ///
    /// # Errors
    /// What was expected instead.
    fn parse(&self, text: &str) -> Result<Self::Value, String>;

    /// Checks a value that came from a flag.
    ///
    /// # Errors
    /// What was expected instead.
    fn check(&self, _: &Self::Value) -> Result<(), String> {
        Ok(())
    }

    /// The type and range, as the documentation shows it.
    fn expected(&self) -> String;
}

/// Any text.
#[derive(Debug, Clone, Copy)]
pub struct Text;

impl Kind for Text {
    type Value = String;

    fn parse(&self, text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }

    fn expected(&self) -> String {
        "text".to_owned()
    }
}

/// `true` or `false`.
#[derive(Debug, Clone, Copy)]
pub struct Boolean;

impl Kind for Boolean {
    type Value = bool;

    fn parse(&self, text: &str) -> Result<bool, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("expected true or false".to_owned()),
        }
    }

    fn expected(&self) -> String {
        "`true` or `false`".to_owned()
    }
}

/// A number of bytes, from the first to the last.
#[derive(Debug, Clone)]
pub struct Size(pub RangeInclusive<usize>);

impl Kind for Size {
    type Value = usize;

    fn parse(&self, text: &str) -> Result<usize, String> {
        let size = values::parse_size(text.trim())?;
        self.check(&size).map(|()| size)
    }

    fn check(&self, size: &usize) -> Result<(), String> {
        within(&self.0, size, "bytes")
    }

    fn expected(&self) -> String {
        "size".to_owned()
    }
}

/// A number of milliseconds, from the first to the last.
#[derive(Debug, Clone)]
pub struct Millis(pub RangeInclusive<u64>);

impl Kind for Millis {
    type Value = Duration;

    fn parse(&self, text: &str) -> Result<Duration, String> {
        let millis =
            Duration::from_millis(text.trim().parse().map_err(|_| "expected a number of milliseconds".to_owned())?);
        self.check(&millis).map(|()| millis)
    }

    fn check(&self, duration: &Duration) -> Result<(), String> {
        within(&self.0, &u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), "ms")
    }

    fn expected(&self) -> String {
        "ms".to_owned()
    }
}

/// A number from the first to the last.
#[derive(Debug, Clone)]
pub struct Number<T>(pub RangeInclusive<T>);

impl<T: FromStr + PartialOrd + Display> Kind for Number<T> {
    type Value = T;

    fn parse(&self, text: &str) -> Result<T, String> {
        let number = text.trim().parse().map_err(|_| format!("expected {}", self.expected()))?;
        self.check(&number).map(|()| number)
    }

    fn check(&self, number: &T) -> Result<(), String> {
        if self.0.contains(number) { Ok(()) } else { Err(format!("expected {}", self.expected())) }
    }

    fn expected(&self) -> String {
        format!("{} to {}", self.0.start(), self.0.end())
    }
}

/// What a function makes of the text.
#[derive(Debug, Clone, Copy)]
pub struct Parsed<T>(pub fn(&str) -> Result<T, String>, pub &'static str);

impl<T> Kind for Parsed<T> {
    type Value = T;

    fn parse(&self, text: &str) -> Result<T, String> {
        (self.0)(text.trim())
    }

    fn expected(&self) -> String {
        self.1.to_owned()
    }
}

fn within<T: PartialOrd + Display>(range: &RangeInclusive<T>, value: &T, unit: &str) -> Result<(), String> {
    if range.contains(value) { Ok(()) } else { Err(format!("expected {} to {} {unit}", range.start(), range.end())) }
}

/// A kind with the text that counts where a property is not set.
#[derive(Debug, Clone)]
pub struct Or<K>(pub K, pub &'static str);

/// What a declaration says of the value: a bare [`Kind`] may be absent, an [`Or`] has a default.
pub trait Declared {
    /// What one value is read as.
    type Value;
    /// What [`Properties::get`](super::Properties::get) returns.
    type Output;

    /// Parses `text`; `None` where the property is not set.
    ///
    /// # Errors
    /// What was expected instead.
    fn read(&self, text: Option<&str>) -> Result<Self::Output, String>;

    /// Takes a flag's value.
    ///
    /// # Errors
    /// What was expected instead.
    fn accept(&self, flag: Self::Value) -> Result<Self::Output, String>;

    /// The type and range, as the documentation shows it.
    fn describe(&self) -> String;

    /// The text that counts where the property is not set.
    fn default(&self) -> Option<&'static str>;
}

impl<K: Kind> Declared for K {
    type Value = K::Value;
    type Output = Option<K::Value>;

    fn read(&self, text: Option<&str>) -> Result<Self::Output, String> {
        text.map(|text| self.parse(text)).transpose()
    }

    fn accept(&self, flag: K::Value) -> Result<Self::Output, String> {
        self.check(&flag).map(|()| Some(flag))
    }

    fn describe(&self) -> String {
        self.expected()
    }

    fn default(&self) -> Option<&'static str> {
        None
    }
}

impl<K: Kind> Declared for Or<K> {
    type Value = K::Value;
    type Output = K::Value;

    fn read(&self, text: Option<&str>) -> Result<K::Value, String> {
        self.0.parse(text.unwrap_or(self.1))
    }

    fn accept(&self, flag: K::Value) -> Result<K::Value, String> {
        self.0.check(&flag).map(|()| flag)
    }

    fn describe(&self) -> String {
        self.0.expected()
    }

    fn default(&self) -> Option<&'static str> {
        Some(self.1)
    }
}

/// Whether a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    Public,
    /// It is or may contain a password or private key: never shown.
    Secret,
}

/// A property: everything that is known of it, once.
#[derive(Debug, Clone)]
pub struct Property<K> {
    pub(super) name: &'static str,
    pub(super) aliases: &'static [&'static str],
    pub(super) kind: K,
    pub(super) flag: Option<&'static str>,
    /// What counts where it is not set, in words, for a kind without a default.
    pub(super) unset: &'static str,
    pub(super) visibility: Visibility,
    pub(super) help: &'static str,
}

impl<K> Property<K> {
    /// A property by the Java client's name, or librdkafka's where Java has none.
    pub(super) const fn new(name: &'static str, kind: K, help: &'static str) -> Self {
        Self { name, aliases: &[], kind, flag: None, unset: "", visibility: Visibility::Public, help }
    }

    /// Other names of it: librdkafka's, and older ones.
    pub(super) const fn also(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// The flag that sets the same.
    pub(super) const fn flag(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }

    pub(super) const fn unset(mut self, words: &'static str) -> Self {
        self.unset = words;
        self
    }

    pub(super) const fn secret(mut self) -> Self {
        self.visibility = Visibility::Secret;
        self
    }
}

/// A property's help.
#[derive(Debug, Clone)]
pub struct Description {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub flag: Option<&'static str>,
    /// Its type and range.
    pub kind: String,
    /// The value that counts where it is not set; in words where that depends on others.
    pub default: String,
    pub help: &'static str,
}

/// A property of any type, for lists of them.
pub(super) trait Declaration: Sync {
    fn name(&self) -> &'static str;
    fn aliases(&self) -> &'static [&'static str];
    fn is_secret(&self) -> bool;

    /// Checks that `text` is a value of it.
    fn check(&self, text: &str) -> Result<(), String>;

    fn describe(&self) -> Description;

    /// The text that counts where it is not set.
    #[cfg(test)]
    fn default(&self) -> Option<&'static str>;
}

impl<K: Declared + Sync> Declaration for Property<K> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    fn is_secret(&self) -> bool {
        self.visibility == Visibility::Secret
    }

    fn check(&self, text: &str) -> Result<(), String> {
        self.kind.read(Some(text)).map(drop)
    }

    fn describe(&self) -> Description {
        Description {
            name: self.name,
            aliases: self.aliases,
            flag: self.flag,
            kind: if self.is_secret() { "secret".to_owned() } else { self.kind.describe() },
            default: self.kind.default().map_or_else(|| self.unset.to_owned(), |default| format!("`{default}`")),
            help: self.help,
        }
    }

    #[cfg(test)]
    fn default(&self) -> Option<&'static str> {
        self.kind.default()
    }
}

/// Declares properties, each as a constant of its own, and lists them. The list does not use the constants: one that
/// no code reads is dead code, which the compiler warns of.
macro_rules! properties {
    ($($(#[$meta:meta])* $name:ident: $kind:ty = $property:expr;)*) => {
        $($(#[$meta])* pub(crate) const $name: Property<$kind> = $property;)*

        pub(super) static DECLARATIONS: &[&dyn Declaration] = &[$({
            const DECLARED: &Property<$kind> = &$property;
            DECLARED
        }),*];
    };
}
pub(super) use properties;
