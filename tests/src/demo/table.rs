//! A table for a terminal: aligned, ruled, and coloured where somebody looks on.

use std::{fmt::Write as _, io::IsTerminal as _};

/// What a cell's text is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Bad,
    Notable,
}

impl Tone {
    /// ANSI's number for it, if it has a colour.
    const fn colour(self) -> Option<u8> {
        match self {
            Self::Plain => None,
            Self::Good => Some(32),
            Self::Bad => Some(31),
            Self::Notable => Some(33),
        }
    }
}

/// One cell.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
    right: bool,
}

impl Cell {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: Tone::Plain, right: false }
    }

    pub(super) const fn tone(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }

    /// Aligned to the right, as numbers are.
    pub(super) const fn right(mut self) -> Self {
        self.right = true;
        self
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// Prints rows under a head.
pub(super) fn print(head: &[&str], rows: &[Vec<Cell>]) {
    let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    print!("{}", render(head, rows, coloured));
}

fn render(head: &[&str], rows: &[Vec<Cell>], coloured: bool) -> String {
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(Cell::width);
            cells.chain([head[column].chars().count()]).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    let head: Vec<Cell> = head.iter().map(|name| Cell::new(*name)).collect();
    line(&mut text, &head, &widths, coloured);
    let rule = widths.iter().map(|width| "─".repeat(*width)).collect::<Vec<_>>().join("──");
    let _infallible = writeln!(text, "  {rule}");
    for row in rows {
        line(&mut text, row, &widths, coloured);
    }
    text
}

fn line(text: &mut String, cells: &[Cell], widths: &[usize], coloured: bool) {
    let mut shown = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        let gap = " ".repeat(width - cell.width());
        let (before, after) = if cell.right { (gap.as_str(), "") } else { ("", gap.as_str()) };
        let _infallible = match cell.tone.colour().filter(|_| coloured) {
            Some(colour) => write!(shown, "  {before}\x1b[{colour}m{}\x1b[0m{after}", cell.text),
            None => write!(shown, "  {before}{}{after}", cell.text),
        };
    }
    let _infallible = writeln!(text, "{}", shown.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest() {
        let rows = [
            vec![Cell::new("a"), Cell::new("1").right()],
            vec![Cell::new("longer"), Cell::new("12").right()],
        ];
        let expected = "  name    n\n  ──────────\n  a        1\n  longer  12\n";
        assert_eq!(render(&["name", "n"], &rows, false), expected);
    }

    #[test]
    fn colours_don_t_move_columns() {
        let rows = [vec![Cell::new("x").tone(Tone::Bad), Cell::new("y")]];
        assert!(render(&["ab", "c"], &rows, true).contains("  \x1b[31mx\x1b[0m   y"));
    }
}
