//! How tables look.

use std::fmt::{self, Display, Write as _};

use comfy_table::{CellAlignment, Table, presets};

use crate::bench::spread::Spread;

/// What tables look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// On a terminal.
    Terminal,
    /// In a page of documentation.
    Markdown,
}

/// A table with its title.
pub fn section(text: &mut String, title: &str, table: &Table, look: Look) -> fmt::Result {
    let mut table = table.clone();
    match look {
        Look::Terminal => writeln!(text, "\n{title}")?,
        Look::Markdown => writeln!(text, "\n#### {title}\n")?,
    }
    table.load_style(match look {
        Look::Terminal => presets::UTF8_FULL_CONDENSED,
        Look::Markdown => presets::ASCII_MARKDOWN,
    });
    writeln!(text, "{table}")
}

/// A table whose first columns are words and whose others are numbers.
pub fn numbers(words: &[&str], numbers: &[&str]) -> Table {
    let mut table = Table::new();
    table.set_header(words.iter().chain(numbers));
    for column in table.column_iter_mut().skip(words.len()) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A spread in a cell.
pub fn show<T: Display>(spread: Spread, number: impl Fn(f64) -> T) -> String {
    let Spread { median, min, max } = spread;
    format!("{} ({} to {})", number(median), number(min), number(max))
}
