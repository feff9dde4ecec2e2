//! YAML in, settings out. The only module that knows the file.
//!
//! [`load`] is pure given its [`Source`]: it reads no file and no environment of its own, and a bad file changes nothing.

mod problem;
mod raw;
mod scalar;
pub(crate) mod settings;
mod shape;
mod tree;
