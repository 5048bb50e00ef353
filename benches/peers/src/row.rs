//! What a measurement says, for programs and for people.

use std::io::{self, Write};

use serde::Serialize;

/// Ours beside one peer's.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The bench, by its name in the table of targets.
    pub bench: &'static str,
    /// Our figure.
    pub ours: f64,
    /// Whom it is beside.
    pub peer: &'static str,
    /// Their figure.
    pub theirs: f64,
    /// What both are counted in.
    pub unit: &'static str,
    /// Above 1 in our favour.
    pub ratio: f64,
    /// The ratio to reach; none where the row is for information.
    #[serde(skip)]
    pub at_least: Option<f64>,
}

/// Which figure is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// The larger.
    More,
    /// The smaller.
    Less,
}

impl Row {
    /// A row for information, without a target.
    pub fn new(
        bench: &'static str,
        unit: &'static str,
        better: Better,
        ours: f64,
        peer: &'static str,
        theirs: f64,
    ) -> Self {
        let ratio = match better {
            Better::More => ours / theirs,
            Better::Less => theirs / ours,
        };
        Self {
            bench,
            ours,
            peer,
            theirs,
            unit,
            ratio,
            at_least: None,
        }
    }

    /// Sets the ratio to reach.
    #[must_use]
    pub fn at_least(mut self, ratio: f64) -> Self {
        self.at_least = Some(ratio);
        self
    }

    fn verdict(&self) -> String {
        match self.at_least {
            None => "for information".to_owned(),
            Some(target) if self.ratio >= target => format!("≥ {target}: holds"),
            Some(target) => format!("≥ {target}: MISSED"),
        }
    }

    fn cells(&self) -> [String; 7] {
        [
            self.bench.to_owned(),
            figure(self.ours),
            self.peer.to_owned(),
            figure(self.theirs),
            self.unit.to_owned(),
            format!("{:.2}", self.ratio),
            self.verdict(),
        ]
    }
}

/// One object a line.
pub fn write_json(rows: &[Row], mut to: impl Write) -> io::Result<()> {
    for row in rows {
        serde_json::to_writer(&mut to, row)?;
        to.write_all(b"\n")?;
    }
    Ok(())
}

/// A table, as Markdown has them.
pub fn write_table(rows: &[Row], mut to: impl Write) -> io::Result<()> {
    let head = ["bench", "ours", "peer", "theirs", "unit", "ratio", "target"].map(str::to_owned);
    let mut lines = vec![head];
    lines.extend(rows.iter().map(Row::cells));
    let widths: [_; 7] = std::array::from_fn(|column| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or_default()
    });
    lines.insert(1, widths.map(|width| "-".repeat(width)));
    for line in lines {
        for (cell, width) in line.iter().zip(widths) {
            write!(to, "| {cell:width$} ")?;
        }
        writeln!(to, "|")?;
    }
    Ok(())
}

/// Three digits or more, with a letter for thousands and millions.
fn figure(value: f64) -> String {
    let (value, unit) = match value.abs() {
        1e6.. => (value / 1e6, " M"),
        1e4.. => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_above_one_speaks_for_us() {
        let more = Row::new("b", "1/s", Better::More, 30.0, "p", 10.0);
        let less = Row::new("b", "µs", Better::Less, 10.0, "p", 30.0);
        assert_eq!((more.ratio, less.ratio), (3.0, 3.0));
    }

    #[test]
    fn json_lines_have_the_fields_that_scripts_rely_on() {
        let row = Row::new("b", "1/s", Better::More, 30.0, "p", 10.0).at_least(2.0);
        let mut line = Vec::new();
        write_json(&[row], &mut line).expect("writing to memory");
        let expected = r#"{"bench":"b","ours":30.0,"peer":"p","theirs":10.0,"unit":"1/s","ratio":3.0}"#;
        assert_eq!(String::from_utf8_lossy(&line), format!("{expected}\n"));
    }

    #[test]
    fn the_table_says_whether_a_target_holds() {
        let row = Row::new("b", "1/s", Better::More, 30.0, "p", 10.0);
        let rows = [row.clone().at_least(2.0), row.clone().at_least(4.0), row];
        let mut table = Vec::new();
        write_table(&rows, &mut table).expect("writing to memory");
        let table = String::from_utf8_lossy(&table);
        let ends = ["≥ 2: holds", "≥ 4: MISSED", "for information"];
        for (line, end) in table.lines().skip(2).zip(ends) {
            assert!(line.contains(end), "{line}");
        }
    }

    #[test]
    fn figures_are_short() {
        let figures = [12_345_678.0, 123_456.0, 4_096.0, 12.34, 0.567].map(figure);
        assert_eq!(figures, ["12.3 M", "123 k", "4096", "12.3", "0.57"]);
    }
}
