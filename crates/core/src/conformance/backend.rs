//! What every [`Backend`](crate::Backend) must do.
//!
//! Each test takes a fresh, empty keyspace and runs its driver beside it.

mod compaction;
mod lease;
mod read;
mod transaction;
mod watch;

pub use compaction::*;
pub use lease::*;
pub use read::*;
pub use transaction::*;
pub use watch::*;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::drive;
use crate::backend::BoxFuture;
use crate::clock::ManualClock;
use crate::error::Error;
use crate::event::KeyValue;
use crate::key::key;
use crate::keyspace::Keyspace;
use crate::store::KeyspaceBuilder;
use crate::txn::{Compare, CompareOp, CompareTarget, RangeRequest, RangeResponse, Txn};
use crate::watch::{Batch, BatchKind, Watch};

/// A keyspace to be tested, and what belongs to it.
pub struct Subject {
    /// The keyspace: empty, and nobody else writes to it. Its driver is not running yet.
    pub keyspace: Keyspace,
    /// What can be asked of it.
    pub capabilities: Capabilities,
    advance: Box<dyn FnMut(Duration) -> BoxFuture<'static, ()> + Send>,
    kept: Vec<Box<dyn Any + Send>>,
}

/// What not every backend promises.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// A new keyspace is at revision 1, and each write makes the next one.
    pub dense_revisions: bool,
    /// Commit times are known.
    pub commit_times: bool,
}

impl Default for Capabilities {
    /// Those of the embedded backends.
    fn default() -> Self {
        Self {
            dense_revisions: true,
            commit_times: true,
        }
    }
}

impl Subject {
    /// A keyspace with the capabilities of the embedded backends. `advance` makes its time move on, by
    /// waiting or otherwise.
    pub fn new(
        keyspace: Keyspace,
        advance: impl FnMut(Duration) -> BoxFuture<'static, ()> + Send + 'static,
    ) -> Self {
        Self {
            keyspace,
            capabilities: Capabilities::default(),
            advance: Box::new(advance),
            kept: Vec::new(),
        }
    }

    /// An embedded keyspace, on a clock that is moved by hand.
    ///
    /// # Errors
    /// Those of [`KeyspaceBuilder::open`].
    pub async fn embedded(builder: KeyspaceBuilder) -> Result<Self, Error> {
        let clock = ManualClock::new();
        let keyspace = builder.clock(Arc::new(clock.clone())).open().await?;
        Ok(Self::new(keyspace, move |by| {
            clock.advance(by);
            Box::pin(std::future::ready(()))
        }))
    }

    /// Says what can be asked of it.
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Keeps something alive as long as the keyspace is tested: a directory, a server.
    pub fn keep(mut self, what: impl Any + Send) -> Self {
        self.kept.push(Box::new(what));
        self
    }

    /// Runs a test with the driver beside it.
    pub async fn check<F>(self, test: impl FnOnce(Self) -> F)
    where
        F: Future<Output = Result<(), Error>>,
    {
        let driver = self.keyspace.driver();
        let outcome = drive(driver, test(self)).await;
        assert!(outcome.is_ok(), "a call failed: {outcome:?}");
    }

    async fn advance(&mut self, by: Duration) {
        (self.advance)(by).await;
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("keyspace", &self.keyspace)
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}

/// The tests of a backend.
///
/// `$run` runs a future to its end: [`block_on`](crate::conformance::block_on), or that of a
/// runtime which the backend needs. `$fixture` is a function without arguments whose future makes a
/// [`Subject`](crate::conformance::Subject) with an empty keyspace of its own; or none, where what it needs
/// is not there and it has said so.
///
/// ```
/// use tidewatch_core::Keyspace;
/// use tidewatch_core::conformance::{Subject, block_on};
///
/// async fn in_memory() -> Subject {
///     Subject::embedded(Keyspace::builder()).await.unwrap()
/// }
///
/// tidewatch_core::backend_conformance!(block_on, in_memory);
/// ```
#[macro_export]
macro_rules! backend_conformance {
    ($run:expr, $fixture:expr) => {
        $crate::backend_conformance! { @each $run, $fixture;
            a_new_keyspace_is_empty
            what_was_put_is_read_back
            each_change_has_a_greater_revision
            versions_count_writes_since_the_creation
            deleting_what_is_not_there_changes_nothing
            deletions_say_what_they_removed
            old_revisions_read_as_they_were
            ranges_hold_what_they_should
            limits_counts_and_partial_entries
            entries_come_in_the_order_asked_for
            revision_filters_leave_out_entries
            a_revision_in_the_future_is_refused
            keys_and_values_may_be_any_bytes
            compares_hold_or_not
            compares_of_ranges_hold_for_every_key
            a_transaction_is_one_revision
            the_branch_not_taken_does_not_happen
            a_transaction_sees_its_own_writes
            nested_transactions_are_decided_before_anything_happens
            a_transaction_that_only_reads_makes_no_revision
            a_transaction_that_fails_changes_nothing
            writes_can_keep_the_value_or_the_lease
            what_is_too_large_or_wrong_is_refused_by_name
            concurrent_compare_and_swaps_lose_nothing
            compaction_keeps_its_own_revision_and_forgets_what_was_before
            compaction_refuses_what_was_compacted_or_is_to_come
            a_lease_takes_its_keys_along_at_one_revision
            a_lease_that_nobody_keeps_alive_expires
            a_key_belongs_to_its_last_lease
            leases_are_refused_by_name
            a_watch_delivers_what_comes_after_its_boundary
            a_watch_delivers_a_transaction_whole_and_in_order
            a_watch_begins_with_a_snapshot
            a_watch_goes_on_from_an_old_revision
            a_watch_resumes_after_a_position
            a_watch_sees_a_deletion_at_the_compaction_revision
            a_watch_from_a_compacted_revision_says_so
            a_watch_of_another_keyspace_says_so
            a_watch_shows_what_was_there_before
            a_watch_leaves_out_what_was_not_asked_for
            a_watch_of_several_ranges_delivers_once
            closing_ends_everything
        }
    };
    (@each $run:expr, $fixture:expr; $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                $run(async {
                    let subject: Option<$crate::conformance::Subject> = $fixture().await.into();
                    if let Some(subject) = subject {
                        subject.check($crate::conformance::backend::$name).await;
                    }
                });
            }
        )*
    };
}

async fn read(ks: &Keyspace, request: RangeRequest) -> Result<RangeResponse, Error> {
    Ok(ks.range(request).await?.1)
}

pub(super) async fn entry(ks: &Keyspace, name: &'static str) -> Result<KeyValue, Error> {
    let kv = ks.get(name).await?;
    Ok(kv.expect("the key was written"))
}

fn names(kvs: &[KeyValue]) -> Vec<&str> {
    kvs.iter()
        .map(|kv| std::str::from_utf8(&kv.key).expect("a name"))
        .collect()
}

fn pairs(kvs: &[KeyValue]) -> Vec<(Bytes, Bytes)> {
    kvs.iter().map(|kv| (kv.key.clone(), kv.value.clone())).collect()
}

fn refused<T: fmt::Debug>(result: Result<T, Error>) -> Error {
    result.expect_err("this cannot be done")
}

pub(super) async fn holds(ks: &Keyspace, compare: Compare) -> Result<bool, Error> {
    Ok(ks.txn(Txn::new().when(compare)).await?.succeeded)
}

/// Checks that exactly these relations hold between the key's property and the target.
pub(super) async fn assert_holds(
    ks: &Keyspace,
    name: &'static str,
    target: &CompareTarget,
    holding: &[CompareOp],
) -> Result<(), Error> {
    for op in [
        CompareOp::Equal,
        CompareOp::Greater,
        CompareOp::Less,
        CompareOp::NotEqual,
    ] {
        let compare = Compare {
            range: key(name)?,
            op,
            target: target.clone(),
        };
        let held = holds(ks, compare).await?;
        assert_eq!(held, holding.contains(&op), "{name} {op:?} {target:?}");
    }
    Ok(())
}

pub(super) async fn next(watch: &mut Watch) -> Batch {
    watch.next().await.expect("the watch goes on")
}

pub(super) async fn next_events(watch: &mut Watch) -> Batch {
    loop {
        let batch = next(watch).await;
        if batch.kind() == BatchKind::Events {
            return batch;
        }
    }
}
