//! What stands for jq programs in a build without them.

use super::failure::Failure;

/// No program.
#[derive(Debug)]
pub enum Jq {}

/// No result.
#[derive(Debug)]
pub enum Output {}

impl Output {
    /// There is nothing to append.
    pub fn append(&self, _: &mut Vec<u8>) {
        match *self {}
    }
}

impl Jq {
    /// Refuses every program.
    ///
    /// # Errors
    /// Always.
    pub fn compile(_: &str, _: bool, _: impl Fn() -> bool + 'static) -> Result<Self, String> {
        Err("this kpipe was built without jq (cargo feature jq)".to_owned())
    }

    /// There is no program to run.
    ///
    /// # Errors
    /// None.
    pub fn run(&self, _: &[u8], _: impl FnMut(Output) -> bool) -> Result<(), Failure> {
        match *self {}
    }
}
