//! What the machine's wishes are carried out with.

use std::task::{Context, Poll};

use tidewatch_core::BoxFuture;

use crate::failure::Failure;
use crate::machine::{CheckRequest, Checked, Dialed, ListRequest, Message, OpenRequest, Page};

/// An answer that is awaited.
pub type Answer<T> = BoxFuture<'static, Result<T, Failure>>;

/// Makes connections. Dropping any future or object here gives up what it stands for.
pub trait Transport: Send + Sync + 'static {
    /// Connects to the endpoint with this number.
    fn dial(&self, endpoint: usize) -> Answer<(Dialed, Box<dyn Connection>)>;
}

impl Transport for std::sync::Arc<dyn Transport> {
    fn dial(&self, endpoint: usize) -> Answer<(Dialed, Box<dyn Connection>)> {
        (**self).dial(endpoint)
    }
}

/// A connection to one member.
pub trait Connection: Send {
    /// Reads a page.
    fn list(&self, request: ListRequest) -> Answer<Page>;

    /// Makes a small read.
    fn check(&self, request: CheckRequest) -> Answer<Checked>;

    /// Opens a watch on a stream of its own.
    fn open(&self, request: OpenRequest) -> Answer<Box<dyn WatchStream>>;
}

/// The stream of one watch.
pub trait WatchStream: Send {
    /// The next message; a failure is the end.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Failure>>;

    /// Asks how far it is. Where there is no room for the question it is left out; it will be asked again.
    fn ask_progress(&mut self);
}
