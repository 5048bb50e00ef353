//! Tables for people: a header, aligned columns, no lines drawn.

use std::io::{self, Write};

use clap::builder::styling::Style;

/// What stands between two columns.
const GAP: &str = "   ";

/// Rows under a header.
///
/// Rows can be written as they come: the header stands above the first ones, and later ones keep to the columns, which grow
/// where they must.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    header_due: bool,
    widths: Vec<usize>,
    rows: Vec<Vec<Cell>>,
}

/// One field of a row.
#[derive(Debug)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A field in a colour.
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: text.into(),
            style,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::new())
    }
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(header: impl Into<Vec<&'static str>>) -> Self {
        let header = header.into();
        Self {
            header_due: true,
            widths: header.iter().map(|text| width(text)).collect(),
            header,
            rows: Vec::new(),
        }
    }

    /// A table of names and values, which needs no header.
    pub(crate) fn of_pairs(pairs: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let mut table = Self::new(["", ""]);
        table.header_due = false;
        for (name, value) in pairs {
            table.row([name.into(), value.into()]);
        }
        table
    }

    /// Adds a row, with a field for each column.
    pub(crate) fn row(&mut self, row: impl Into<Vec<Cell>>) {
        let row = row.into();
        debug_assert_eq!(row.len(), self.header.len());
        for (widest, cell) in self.widths.iter_mut().zip(&row) {
            *widest = width(&cell.text).max(*widest);
        }
        self.rows.push(row);
    }

    /// Writes the rows that were added since the last time. Without rows there is nothing, not even a header.
    pub(crate) fn write(&mut self, out: &mut impl Write, colors: bool) -> io::Result<()> {
        if !self.rows.is_empty() && std::mem::take(&mut self.header_due) {
            let dim = if colors {
                Style::new().dimmed()
            } else {
                Style::new()
            };
            write_row(out, &self.widths, self.header.iter().map(|text| (*text, dim)))?;
        }
        for row in self.rows.drain(..) {
            let cells = row.iter().map(|cell| {
                let style = if colors { cell.style } else { Style::new() };
                (cell.text.as_str(), style)
            });
            write_row(out, &self.widths, cells)?;
        }
        Ok(())
    }
}

fn write_row<'a>(
    out: &mut impl Write,
    widths: &[usize],
    cells: impl Iterator<Item = (&'a str, Style)>,
) -> io::Result<()> {
    // Padding is written only before a further text, so that no line ends in blanks.
    let mut padding = 0;
    for ((text, style), widest) in cells.zip(widths) {
        if !text.is_empty() {
            write!(out, "{:padding$}{style}{text}{style:#}", "")?;
            padding = 0;
        }
        padding += widest - width(text) + GAP.len();
    }
    writeln!(out)
}

/// A number of things, as it is said.
pub(crate) fn count(number: u64, thing: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{ending}")
}

/// A size in the largest unit in which it is at least one.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use clap::builder::styling::AnsiColor;

    use super::*;

    fn written(table: &mut Table, colors: bool) -> String {
        let mut out = Vec::new();
        table.write(&mut out, colors).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_aligned_and_lines_do_not_end_in_blanks() {
        let mut table = Table::new(["NAME", "STATE", "NOTE"]);
        table.row(["web".into(), "running".into(), "".into()]);
        table.row(["a-long-name".into(), "".into(), "gone".into()]);
        assert_eq!(
            written(&mut table, false),
            "NAME          STATE     NOTE\n\
             web           running\n\
             a-long-name             gone\n"
        );
    }

    #[test]
    fn a_table_without_rows_prints_nothing() {
        assert_eq!(written(&mut Table::new(["NAME"]), false), "");
    }

    #[test]
    fn colours_do_not_change_the_alignment() {
        let mut table = Table::new(["S", "N"]);
        table.row([Cell::styled("up", AnsiColor::Green.on_default()), "1".into()]);
        assert_eq!(
            written(&mut table, true),
            "\u{1b}[2mS\u{1b}[0m    \u{1b}[2mN\u{1b}[0m\n\u{1b}[32mup\u{1b}[0m   1\n"
        );
    }

    #[test]
    fn later_rows_keep_to_the_columns_and_get_no_second_header() {
        let mut table = Table::new(["NAME", "STATE"]);
        table.row(["database".into(), "running".into()]);
        assert_eq!(
            written(&mut table, false),
            "NAME       STATE\ndatabase   running\n"
        );
        table.row(["web".into(), "stopped".into()]);
        assert_eq!(written(&mut table, false), "web        stopped\n");
    }

    #[test]
    fn sizes_are_shown_in_the_largest_unit_that_fits() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (2 << 30, "2.0 GiB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }
}
