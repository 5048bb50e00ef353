//! How `tidewatch` ends. Scripts rely on these numbers; they never change.

/// What was asked for was done. Also when the reader of the output went away: it has what it wanted.
pub(crate) const DONE: u8 = 0;

/// It failed, and none of the other codes says why.
pub(crate) const FAILED: u8 = 1;

/// The command line, a name, a key or a value is not valid; asking again cannot help.
pub(crate) const USAGE: u8 = 2;

/// The server was not reached, or went away while it was asked.
pub(crate) const NOT_REACHABLE: u8 = 3;

/// The server understood and refused: not allowed, a limit is reached, something stands against it.
pub(crate) const REFUSED: u8 = 4;

/// What was asked for does not exist.
pub(crate) const NOT_FOUND: u8 = 5;
