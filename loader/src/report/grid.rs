//! Tables as `kubectl` and `bpftool` have them: columns, no lines, a heading in capitals.

use comfy_table::{Cell, CellAlignment, Table, presets::NOTHING};

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// Text, from the left.
    Text(&'static str),
    /// A number, to the right.
    Number(&'static str),
}

/// A table that is filled row by row.
pub(super) struct Grid {
    table: Table,
    columns: &'static [Column],
}

impl Grid {
    /// No rows yet.
    pub(super) fn new(columns: &'static [Column]) -> Self {
        let mut table = Table::new();
        table.load_style(NOTHING);
        let heading = |column: &Column| match column {
            Column::Text(name) => Cell::new(name),
            Column::Number(name) => Cell::new(name).set_alignment(CellAlignment::Right),
        };
        if columns.iter().any(|column| !matches!(column, Column::Text(""))) {
            table.set_header(columns.iter().map(heading));
        }
        Self { table, columns }
    }

    /// One more row, of as many texts as there are columns.
    pub(super) fn row<T: ToString>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells = cells.into_iter().zip(self.columns).map(|(text, column)| {
            let cell = Cell::new(text);
            match column {
                Column::Text(_) => cell,
                Column::Number(_) => cell.set_alignment(CellAlignment::Right),
            }
        });
        self.table.add_row(cells);
    }

    /// All of it, a newline behind each row.
    pub(super) fn show(mut self) -> String {
        for column in self.table.column_iter_mut() {
            column.set_padding((0, 3));
        }
        self.table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }
}

/// Facts, one per line: what, and what it is.
pub(super) fn facts(facts: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut grid = Grid::new(&[Column::Text(""), Column::Text("")]);
    for (what, value) in facts {
        grid.row([what, value.as_str()]);
    }
    grid.show()
}

/// Several things in one cell.
pub(super) fn list<T: ToString>(things: impl IntoIterator<Item = T>) -> String {
    let things: Vec<_> = things.into_iter().map(|thing| thing.to_string()).collect();
    if things.is_empty() { "-".to_owned() } else { things.join(", ") }
}

/// `1 pod`, `2 pods`.
pub(super) fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_their_heading() {
        let mut grid = Grid::new(&[Column::Text("NAME"), Column::Number("PACKETS"), Column::Text("WHY")]);
        grid.row(["a", "7", "because"]);
        grid.row(["longer", "1234567890", ""]);
        assert_eq!(
            grid.show(),
            "NAME        PACKETS   WHY\n\
             a                 7   because\n\
             longer   1234567890\n"
        );
    }

    #[test]
    fn facts_have_no_heading() {
        assert_eq!(
            facts([("node", "worker-0".to_owned()), ("mtu", "1450".to_owned())]),
            "node   worker-0\nmtu    1450\n"
        );
        assert_eq!(list(["a", "b"]), "a, b");
        assert_eq!(list([""; 0]), "-");
        assert_eq!((count(1, "pod"), count(0, "pod")), ("1 pod".to_owned(), "0 pods".to_owned()));
    }
}
