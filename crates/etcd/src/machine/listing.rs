//! Listing: pages at one revision, and when a list has to begin anew.

use std::time::{Duration, Instant};

use tidewatch_core::Revision;

use super::Machine;
use super::action::Action;
use super::input::{ListRequest, Page};
use super::known::{Known, Witnesses};
use super::state::{Listing, State};
use super::timing::{
    ANSWER_TIMEOUT, MAX_PAGE_ENTRIES, PAGE_BYTES, PAGE_ENTRIES, PAGE_TIMEOUT, RESTARTS_AT_ONCE,
};
use crate::delivery::{Delivery, SnapshotReason};
use crate::failure::{Failure, FailureKind};
use crate::header::Identity;
use crate::phase::Phase;

impl Machine {
    /// Begins a list because the watch cannot go on, and the next one after a pause if that happens again and again.
    pub(super) fn relist(&mut self, now: Instant, reason: SnapshotReason) {
        self.restarts += 1;
        // A loss of history that has been found stays one, whatever happens to the list.
        let reason = match self.overdue {
            Some(SnapshotReason::Replaced) => SnapshotReason::Replaced,
            _ => reason,
        };
        self.overdue = Some(reason);
        // Until the next watch nobody tells what changes.
        if let (Phase::Live, Some(since)) = (&self.phase, self.confirmed) {
            self.report(Phase::Interrupted {
                since,
                error: interruption(reason),
                attempts: self.attempts,
            });
        }
        if self.restarts > RESTARTS_AT_ONCE {
            self.restarts = 0;
            self.fail(
                now,
                Failure::unreachable("the history is gone before it can be read, again and again"),
            );
            return;
        }
        self.out.push(Action::CloseWatch);
        self.list(now, reason);
    }

    pub(super) fn list(&mut self, now: Instant, reason: SnapshotReason) {
        // Later ones are to say what there is, as soon as can be: who knew what was before is told of a loss anyway.
        self.page_entries = self.page_entries.min(PAGE_ENTRIES);
        let looks_back = self.history > 0 && reason == SnapshotReason::First;
        let at = looks_back.then(|| Revision(self.head.0.saturating_sub(self.history).max(1)));
        self.state = State::Listing(Listing {
            reason,
            at,
            identity: None,
            after: None,
            witnesses: Witnesses::default(),
            deadline: now + self.page_timeout(),
        });
        self.next_page(now);
    }

    /// One key is read as fast as it is checked.
    pub(super) fn page_timeout(&self) -> Duration {
        if self.selection.range.as_single().is_some() {
            ANSWER_TIMEOUT
        } else {
            PAGE_TIMEOUT
        }
    }

    fn next_page(&mut self, now: Instant) {
        let deadline = now + self.page_timeout();
        if let State::Listing(listing) = &mut self.state {
            listing.deadline = deadline;
            self.out.push(Action::List(ListRequest {
                range: self.selection.range.clone(),
                after: listing.after.clone(),
                revision: listing.at,
                limit: self.page_entries,
            }));
        }
    }

    pub(super) fn listed(&mut self, now: Instant, answer: Result<Page, Failure>) {
        let State::Listing(listing) = &self.state else {
            return;
        };
        let reason = listing.reason;
        match answer {
            Ok(page) => self.page(now, page),
            Err(failure) => match failure.kind {
                FailureKind::Compacted if listing.at.is_some() && listing.identity.is_none() => {
                    // Less history is to be had than was wished for.
                    self.history /= 4;
                    self.list(now, reason);
                }
                FailureKind::Compacted => self.relist(now, reason),
                // The head is a member's own, and a list may be older; or the cluster was replaced between two pages.
                FailureKind::Future => {
                    self.head = Revision::default();
                    self.relist(now, reason);
                }
                FailureKind::TooLarge if self.page_entries > 1 => {
                    self.page_entries = (self.page_entries / 4).clamp(1, PAGE_ENTRIES);
                    self.next_page(now);
                }
                _ => self.fail(now, failure),
            },
        }
    }

    fn page(&mut self, now: Instant, page: Page) {
        let State::Listing(listing) = &mut self.state else {
            return;
        };
        self.head = page.header.revision;
        let identity = match listing.identity {
            Some(identity) if identity.cluster != page.header.cluster => {
                // What was read so far is of another cluster.
                self.relist(now, SnapshotReason::Replaced);
                return;
            }
            Some(identity) => identity,
            None => {
                let identity = match &mut self.known {
                    None => Identity::of(page.header.cluster),
                    Some(known) => {
                        let continues = listing.reason != SnapshotReason::Replaced
                            && known.accepts(&page.header, known.shown());
                        if continues {
                            known.identity
                        } else {
                            // Even if this list fails and the next one finds a history that has grown.
                            self.overdue = Some(SnapshotReason::Replaced);
                            listing.reason = SnapshotReason::Replaced;
                            known.identity.replaced_by(&page.header)
                        }
                    }
                };
                let revision = *listing.at.get_or_insert(page.header.revision);
                listing.identity = Some(identity);
                self.out.push(Action::Deliver(Delivery::SnapshotBegin {
                    identity,
                    revision,
                    reason: listing.reason,
                }));
                identity
            }
        };
        if let Some(last) = page.entries.last() {
            listing.after = Some(last.key.clone());
        }
        listing.witnesses.add(&page.entries);
        let bytes: usize = page.entries.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
        if bytes <= PAGE_BYTES / 2 {
            self.page_entries = (self.page_entries * 2).min(MAX_PAGE_ENTRIES);
        } else if bytes > PAGE_BYTES {
            self.page_entries = (self.page_entries / 2).max(1);
        }
        if !page.entries.is_empty() {
            self.out.push(Action::Deliver(Delivery::Snapshot(page.entries)));
        }
        if page.more && listing.after.is_some() {
            self.next_page(now);
            return;
        }
        let revision = listing.at.unwrap_or(page.header.revision);
        let witnesses = std::mem::take(&mut listing.witnesses);
        let range = &self.selection.range;
        self.known = Some(Known::new(identity, revision, &page.header, witnesses, range));
        self.overdue = None;
        self.history = self.selection.history;
        self.page_entries = PAGE_ENTRIES;
        self.out.push(Action::Deliver(Delivery::SnapshotEnd { revision }));
        self.open(now);
    }
}

/// Why a watch that was live is followed by a list.
fn interruption(reason: SnapshotReason) -> Failure {
    let (kind, text) = match reason {
        SnapshotReason::First => (FailureKind::Unreachable, "nothing has been read yet"),
        SnapshotReason::Compacted => (
            FailureKind::Compacted,
            "the history that was watched is compacted",
        ),
        SnapshotReason::Replaced => (FailureKind::Future, "the history is another one than was read"),
        SnapshotReason::TooLarge => (FailureKind::TooLarge, "a change is too large to be sent"),
        SnapshotReason::Behind => (FailureKind::Unreachable, "a read shows what the watch does not"),
    };
    Failure::new(kind, text)
}
