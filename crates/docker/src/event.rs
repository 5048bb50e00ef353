//! Hearing from Docker that something changed.

use std::future::Future;
use std::time::SystemTime;

use futures_core::Stream;

use crate::lister::ListError;

/// Subscribes to what happens on a Docker host.
///
/// Events carry no state: they only say which containers are worth listing again. They may come
/// twice, and late; that one is lost is to be expected, and said if it is noticed.
pub trait DockerEvents: Send + Sync + 'static {
    /// A running subscription. It ends with an error or with `None`; then it is made anew and
    /// everything is listed. Dropping it ends it.
    ///
    /// It must be read without pause: Docker drops events for whoever stalls, and stalls with them.
    type Subscription: Stream<Item = Result<DockerEvent, ListError>> + Send + Unpin + 'static;

    /// Subscribes, with a replay of what happened from `since` on (in the daemon's own time; as much
    /// of it as the daemon remembers). The overlap closes the gap between "subscribed" and "really
    /// subscribed"; what comes twice is harmless.
    ///
    /// # Errors
    /// [`ListError`].
    fn subscribe(
        &self,
        since: Option<SystemTime>,
    ) -> impl Future<Output = Result<Self::Subscription, ListError>> + Send;
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerEvent {
    /// To this container, or to a network it is connected to.
    ///
    /// Health probes (`exec_*`) and other things that no list shows need not be reported.
    Container {
        /// Its full id.
        id: String,
        /// What happened, in Docker's word (`start`, `die`, `rename`…): for logs only.
        action: String,
        /// When, by the daemon's clock.
        time: Option<SystemTime>,
    },
    /// To something that cannot be told: an event that could not be read, or a sign that some were
    /// lost. Everything is listed; the subscription goes on.
    Doubt {
        /// What is wrong.
        reason: String,
    },
}

/// For reconcilers without events: a subscription that cannot be had.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEvents;

impl DockerEvents for NoEvents {
    type Subscription = Silence;

    async fn subscribe(&self, _since: Option<SystemTime>) -> Result<Silence, ListError> {
        Ok(Silence)
    }
}

/// A subscription in which nothing ever happens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silence;

impl Stream for Silence {
    type Item = Result<DockerEvent, ListError>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Pending
    }
}
