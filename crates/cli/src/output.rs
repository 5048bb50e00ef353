//! What commands print: rows for people, JSON lines for scripts.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write as _};

use serde::Serialize;

use crate::failure::{Failure, Result, colors_wanted};
use crate::table::Table;

/// For whom output is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For scripts: one JSON object per line.
    Json,
}

/// The way to stdout, which belongs to the command alone.
///
/// A reader that goes away is reported as [`Failure::ClosedPipe`], which ends the command without an
/// error. Output is buffered until [`flush`](Self::flush).
pub(crate) struct Output {
    format: Format,
    is_terminal: bool,
    colors: bool,
    out: BufWriter<StdoutLock<'static>>,
}

impl Output {
    /// Takes stdout.
    pub(crate) fn new(format: Format) -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        Self {
            format,
            is_terminal,
            colors: is_terminal && colors_wanted(),
            out: BufWriter::with_capacity(64 * 1024, stdout.lock()),
        }
    }

    /// For whom output is made.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Whether a person looks at it as it comes.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Writes one JSON line.
    pub(crate) fn json(&mut self, row: &impl Serialize) -> Result {
        serde_json::to_writer(&mut self.out, row).map_err(|error| written(error.into()))?;
        self.bytes(b"\n")
    }

    /// Writes one line of text.
    pub(crate) fn line(&mut self, line: impl fmt::Display) -> Result {
        writeln!(self.out, "{line}").map_err(written)
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result {
        self.out.write_all(bytes).map_err(written)
    }

    /// Writes the rows of a table that have not been written.
    pub(crate) fn table(&mut self, table: &mut Table) -> Result {
        table.write(&mut self.out, self.colors).map_err(written)
    }

    /// Hands what was written to the reader.
    pub(crate) fn flush(&mut self) -> Result {
        self.out.flush().map_err(written)
    }
}

/// What a failed write to stdout means.
fn written(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::ClosedPipe;
    }
    anyhow::Error::new(error)
        .context("failed to write to stdout")
        .into()
}
