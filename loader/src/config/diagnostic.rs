//! What is wrong in a file and where, printed as a compiler would.

use std::{
    cell::RefCell,
    fmt::{self, Display, Formatter},
    io,
    ops::Range,
    path::PathBuf,
};

use serde::Serialize;
use thiserror::Error;

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read the configuration {}: {error}; give the file with --config", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The file has errors.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Every error of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Invalid {
    /// The file, as it was named.
    pub file: String,
    /// What is wrong, from top to bottom.
    pub errors: Vec<Diagnostic>,
}

/// Every warning of one file that has no errors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Warnings {
    /// The file, as it was named.
    #[serde(skip)]
    pub file: String,
    /// What is most likely not meant, from top to bottom.
    pub warnings: Vec<Diagnostic>,
}

/// One error, or one warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key, as `peer[0].pod-cidr[1]`; empty where the file isn't TOML.
    pub key: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
    /// The line itself.
    pub source: String,
    /// How many characters of it are meant.
    pub length: usize,
}

impl std::error::Error for Invalid {}

impl Display for Invalid {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { file, errors } = self;
        for error in errors {
            error.print(f, file, "")?;
        }
        write!(f, "{} in {file}", counted(errors.len(), "error"))
    }
}

impl Warnings {
    /// One line for each, for a log.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.warnings.iter().map(|warning| warning.line(&self.file, ""))
    }

    /// How many there are, in words: `no warnings`.
    #[must_use]
    pub fn count(&self) -> String {
        counted(self.warnings.len(), "warning")
    }
}

impl Display for Warnings {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.warnings.iter().try_for_each(|warning| warning.print(f, &self.file, "warning: "))
    }
}

/// `no errors`, `1 error`, `2 errors`.
fn counted(count: usize, what: &str) -> String {
    match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

impl Diagnostic {
    fn line(&self, file: &str, severity: &str) -> String {
        let Self { line, column, key, message, .. } = self;
        let colon = if key.is_empty() { "" } else { ": " };
        format!("{file}:{line}:{column}: {severity}{key}{colon}{message}")
    }

    /// Its line, and the line of the file with marks under what is meant.
    fn print(&self, f: &mut Formatter<'_>, file: &str, severity: &str) -> fmt::Result {
        let Self { line, column, source, length, .. } = self;
        // Tabs stay tabs, so that the marks stand under what they mark.
        let before: String =
            source.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        writeln!(f, "{}", self.line(file, severity))?;
        writeln!(f, "{line:>5} | {source}\n      | {before}{}", "^".repeat(*length))
    }
}

/// A place in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The key, as `peer[0].pod-cidr[1]`.
    pub(super) key: String,
    /// Its bytes.
    pub(super) span: Range<usize>,
}

impl Place {
    /// A key of the table that stands here, which is not there.
    pub(super) fn under(&self, key: &str) -> Self {
        Self { key: format!("{}.{key}", self.key), span: self.span.clone() }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    /// The value.
    pub(super) value: T,
    /// Where it stands.
    pub(super) place: Place,
}

/// Collects what is wrong.
pub(super) struct Errors<'a> {
    text: &'a str,
    /// Where each line starts.
    lines: Vec<usize>,
    found: RefCell<Vec<(Place, Kind, String)>>,
}

/// What may follow from what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The text isn't TOML here.
    Syntax,
    /// Something isn't there, which may be because the text isn't TOML.
    Missing,
    /// Something is there and isn't right.
    Wrong,
    /// Something is right and most likely not meant.
    Odd,
}

impl<'a> Errors<'a> {
    /// None yet, in `text`.
    pub(super) fn new(text: &'a str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(newline, _)| newline + 1);
        Self { text, lines: std::iter::once(0).chain(after_newlines).collect(), found: RefCell::default() }
    }

    /// The text is not TOML at `span`.
    pub(super) fn syntax(&self, span: Range<usize>, message: impl Into<String>) {
        self.add(Place { key: String::new(), span }, Kind::Syntax, message.into());
    }

    /// Something is not there that should be.
    pub(super) fn missing(&self, place: &Place, message: impl Into<String>) {
        self.add(place.clone(), Kind::Missing, message.into());
    }

    /// What is at `place` is not right.
    pub(super) fn wrong(&self, place: &Place, message: impl Into<String>) {
        self.add(place.clone(), Kind::Wrong, message.into());
    }

    /// What is at `place` is taken as it is, and most likely not meant.
    pub(super) fn odd(&self, place: &Place, message: impl Into<String>) {
        self.add(place.clone(), Kind::Odd, message.into());
    }

    fn add(&self, place: Place, kind: Kind, message: String) {
        self.found.borrow_mut().push((place, kind, message));
    }

    /// Another place, to be named in a message.
    pub(super) fn refer(&self, place: &Place) -> String {
        format!("{} (line {})", place.key, self.position(place.span.start).0)
    }

    /// Line and column, from 1, and the offset at which the line starts.
    fn position(&self, offset: usize) -> (usize, usize, usize) {
        let line = self.lines.partition_point(|start| *start <= offset);
        let start =
            line.checked_sub(1).and_then(|before| self.lines.get(before)).copied().unwrap_or_default();
        let before = self.text.get(start..offset).or_else(|| self.text.get(start..)).unwrap_or_default();
        (line, before.chars().count() + 1, start)
    }

    /// All errors, from top to bottom, or all warnings if there are none.
    pub(super) fn into_outcome(self, file: &str) -> Result<Warnings, Invalid> {
        let found = self.found.take();
        let syntax: Vec<_> = found
            .iter()
            .filter(|(_, kind, _)| *kind == Kind::Syntax)
            .map(|(place, ..)| self.position(place.span.start).0)
            .collect();
        // Where the text isn't TOML, what the parser makes of it is a guess: nothing is to be concluded from it.
        let counts = |place: &Place, kind| match kind {
            Kind::Syntax => true,
            Kind::Missing => syntax.is_empty(),
            Kind::Wrong => !syntax.contains(&self.position(place.span.start).0),
            Kind::Odd => false,
        };
        let errors = self.sorted(found.iter().filter(|(place, kind, _)| counts(place, *kind)));
        let file = file.to_owned();
        if errors.is_empty() {
            let warnings = self.sorted(found.iter().filter(|(_, kind, _)| *kind == Kind::Odd));
            Ok(Warnings { file, warnings })
        } else {
            Err(Invalid { file, errors })
        }
    }

    fn sorted<'f>(&self, found: impl Iterator<Item = &'f (Place, Kind, String)>) -> Vec<Diagnostic> {
        let mut found: Vec<_> = found.map(|(place, _, message)| self.locate(place, message)).collect();
        found.sort_by(|a, b| (a.line, a.column, &a.key).cmp(&(b.line, b.column, &b.key)));
        found.dedup();
        found
    }

    fn locate(&self, place: &Place, message: &str) -> Diagnostic {
        let Place { key, span } = place;
        let (line, column, start) = self.position(span.start);
        let source = self.text[start..].lines().next().unwrap_or_default();
        let room = source.chars().count().saturating_sub(column - 1);
        let length = self.text.get(span.clone()).map_or(1, |text| text.chars().count()).min(room).max(1);
        Diagnostic {
            line,
            column,
            key: key.clone(),
            message: message.to_owned(),
            source: source.to_owned(),
            length,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_a_compiler_would() {
        let text = "[node]\n\tnäme = \"x\"\n";
        let errors = Errors::new(text);
        errors.wrong(&Place { key: "node.näme".into(), span: 8..13 }, "unknown key; did you mean \"name\"?");
        errors.missing(&Place { key: "node.address".into(), span: 0..6 }, "missing");
        let invalid = errors.into_outcome("x.toml").unwrap_err();
        assert_eq!(
            invalid.to_string(),
            "x.toml:1:1: node.address: missing\n    1 | [node]\n      | ^^^^^^\n\
             x.toml:2:2: node.näme: unknown key; did you mean \"name\"?\n    2 | \tnäme = \"x\"\n      | \t^^^^\n\
             2 errors in x.toml"
        );
    }

    #[test]
    fn concludes_nothing_from_what_is_no_toml() {
        let errors = Errors::new("a = 1x\nb = 2\n");
        errors.syntax(4..6, "invalid number");
        errors.wrong(&Place { key: "a".into(), span: 4..6 }, "too small");
        errors.wrong(&Place { key: "b".into(), span: 11..12 }, "too small");
        errors.missing(&Place { key: "c".into(), span: 0..0 }, "missing");
        let messages: Vec<_> =
            errors.into_outcome("x").unwrap_err().errors.into_iter().map(|e| e.message).collect();
        assert_eq!(messages, ["invalid number", "too small"]);
    }

    #[test]
    fn places_at_the_end_and_beyond() {
        let errors = Errors::new("a = 1\n");
        errors.wrong(&Place { key: "z".into(), span: 6..6 }, "here");
        errors.wrong(&Place { key: "z".into(), span: 90..99 }, "there");
        let invalid = errors.into_outcome("x").unwrap_err();
        assert!(invalid.errors.iter().all(|error| (error.line, error.column, error.length) == (2, 1, 1)));
        assert!(Errors::new("").into_outcome("x").is_ok());
    }
}
