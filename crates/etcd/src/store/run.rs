//! From the deliveries of a feed to the set in force.

use std::future::{Future, poll_fn};
use std::pin::pin;

use tidewatch_core::{EventKind, KeyValue, Revision};
use tidewatch_directives::{Applier, Handle, Origin};

use crate::failure::Failure;
use crate::feed::{Feed, Update};
use crate::header::Identity;
use crate::mirror::{Change, Mirror};
use crate::phase::Phase;
use crate::start::Hopeless;

/// Follows one key.
pub(super) struct Follower {
    feed: Feed,
    applier: Applier,
    mirror: Mirror,
    /// Whether the key has been read by this process.
    has_read: bool,
    last_failure: Option<Failure>,
}

impl Follower {
    pub(super) fn new(feed: Feed, applier: Applier) -> Self {
        Self {
            feed,
            applier,
            mirror: Mirror::default(),
            has_read: false,
            last_failure: None,
        }
    }

    /// Goes on until the key was read and is watched.
    ///
    /// # Errors
    /// What only a person can mend, after as many attempts as there are endpoints have ended with that.
    pub(super) async fn start(&mut self, endpoints: usize) -> Result<(), Failure> {
        let mut hopeless = Hopeless::new(endpoints);
        while let Some(update) = self.next().await {
            let phase = match &update {
                Update::Phase(phase) => Some(phase.clone()),
                Update::Delivery(_) => None,
            };
            self.take(update);
            match phase {
                Some(Phase::Live) => return Ok(()),
                Some(Phase::Connecting {
                    error: Some(failure), ..
                }) if hopeless.failed(&failure) => return Err(failure),
                _ => {}
            }
        }
        Ok(())
    }

    /// Goes on until it is dropped.
    pub(super) async fn run(mut self) {
        while let Some(update) = self.next().await {
            self.take(update);
        }
    }

    /// Waits until what is to be kept is written.
    pub(super) async fn save(&mut self) {
        self.applier.save().await;
    }

    pub(super) fn handle(&self) -> &Handle {
        self.applier.handle()
    }

    /// Whether something better than nothing is in force.
    pub(super) fn has_set(&self) -> bool {
        self.applier.has_set()
    }

    pub(super) fn last_failure(&self) -> Failure {
        self.last_failure
            .clone()
            .unwrap_or_else(|| Failure::unreachable("no answer yet"))
    }

    /// The next of the feed. What is to be kept is written beside it: a disk that hangs keeps nothing from being heard.
    async fn next(&mut self) -> Option<Update> {
        let mut next = pin!(self.feed.next());
        poll_fn(|cx| {
            let _ = self.applier.poll_save(cx);
            next.as_mut().poll(cx)
        })
        .await
    }

    fn take(&mut self, update: Update) {
        match update {
            Update::Delivery(delivery) => {
                if let Some(change) = self.mirror.apply(delivery) {
                    self.change(&change);
                }
            }
            Update::Phase(phase) => self.phase(phase),
        }
    }

    fn phase(&mut self, phase: Phase) {
        match phase {
            Phase::Live => self.applier.live(),
            Phase::Connecting {
                error: Some(failure), ..
            } => {
                self.applier.interrupted(failure.text.as_str());
                self.last_failure = Some(failure);
            }
            Phase::Interrupted { since, error, .. } => {
                self.applier.interrupted_since(since, error.text.as_str());
                self.last_failure = Some(error);
            }
            // The applier says so itself when it is dropped.
            Phase::Connecting { error: None, .. } | Phase::Stopped => {}
        }
    }

    fn change(&mut self, change: &Change) {
        let is_as_before = change.events.is_empty();
        if is_as_before && self.has_read {
            return;
        }
        self.has_read = true;
        // Of several changes of one revision, as of one transaction, there is only one of this key.
        let entry = match change.events.last() {
            Some(event) if event.kind == EventKind::Put => Some(event.kv.clone()),
            _ => None,
        };
        self.apply(change.identity, change.revision, entry);
    }

    fn apply(&mut self, identity: Identity, revision: Revision, entry: Option<KeyValue>) {
        let (revision, value) = match entry {
            Some(entry) => (entry.mod_revision, Some(entry.value)),
            None => (revision, None),
        };
        let origin = Origin {
            keyspace: identity.keyspace(),
            revision,
        };
        self.applier.apply(origin, value);
    }
}
