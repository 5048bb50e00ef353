//! What the machine wants done.

use super::input::{CheckRequest, ListRequest, OpenRequest};
use crate::delivery::Delivery;
use crate::phase::Phase;

/// Something to do. Actions are carried out in order; none of them waits for the answer of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a connection to the endpoint with this number, and ask for its version.
    Dial {
        /// Counted from zero, in the order in which they were given.
        endpoint: usize,
    },
    /// Read a page.
    List(ListRequest),
    /// Make a small read.
    Check(CheckRequest),
    /// Open a watch on a stream of its own.
    Open(OpenRequest),
    /// Ask the stream of the watch how far it is.
    AskProgress,
    /// Give up the watch, and what was asked beside it; keep the connection.
    CloseWatch,
    /// Give up the connection and all that was asked on it.
    HangUp,
    /// Hand this to whoever the range is watched for.
    Deliver(Delivery),
    /// Say how the watch is doing.
    Report(Phase),
}
