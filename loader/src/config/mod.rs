//! The TOML file: read strictly, every error reported with its place.
//!
//! A file goes through four steps, each of which reports all that it finds: the parser of the `toml` crate makes a
//! document with places; `reader` takes the known keys of each table out of it and `value` their values, into a
//! `File`; `check` compares the values, and `services` settles who is called where; `build` makes the [`Desired`] state.

mod build;
mod capacity;
mod check;
mod diagnostic;
mod file;
mod overlap;
mod reader;
mod schema;
mod services;
mod suggest;
mod unique;
mod value;

#[cfg(test)]
mod tests;

use std::{fs, path::Path};

use toml::de::DeTable;

pub use self::diagnostic::{ConfigError, Diagnostic, Invalid, Warnings};
use self::{diagnostic::Errors, file::File, reader::Section};
use crate::desired::Desired;

/// A file without errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What it asks for.
    pub desired: Desired,
    /// What in it is most likely not meant.
    pub warnings: Warnings,
}

/// Reads and parses the file at `path`.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    Ok(parse(&path.display().to_string(), &read(path)?)?)
}

/// The text of the file at `path`.
pub fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|error| ConfigError::Unreadable { file: path.to_owned(), error })
}

/// Parses `text`, which errors call `file`.
pub fn parse(file: &str, text: &str) -> Result<Config, Invalid> {
    let errors = Errors::new(text);
    let (document, faults) = DeTable::parse_recoverable(text);
    for fault in faults {
        let end = text.len();
        errors.syntax(fault.span().unwrap_or(end..end), syntax_message(&fault, text));
    }
    let read = File::read(&Section::root(&errors, document.get_ref()));
    check::check(&errors, &read);
    let frontends = services::resolve(&errors, &read);
    let desired = build::desired(&read, &frontends);
    if let Some(desired) = &desired {
        capacity::check_services(&errors, &read, desired);
    }
    match (errors.into_outcome(file), desired) {
        (Ok(warnings), Some(desired)) => Ok(Config { desired, warnings }),
        (Ok(_), None) => Err(Invalid { file: file.to_owned(), errors: Vec::new() }),
        (Err(invalid), _) => Err(invalid),
    }
}

/// The parser's message, made plainer where it is about what people get wrong most.
fn syntax_message(fault: &toml::de::Error, text: &str) -> String {
    let message = fault.message();
    let at = fault.span().and_then(|span| text.get(span)).unwrap_or_default();
    match message {
        "duplicate key" => format!("duplicate key \"{at}\""),
        _ if message.starts_with("string values must be quoted") && at.trim().is_empty() => {
            "no value".to_owned()
        }
        _ => message.to_owned(),
    }
}
