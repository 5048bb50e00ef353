//! The backend over a keyspace in memory that plays an etcd, with time by hand.

mod simulated;
mod tier;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidewatch_core::txn::RangeRequest;
use tidewatch_core::{
    Backend as _, BoxFuture, Clock as _, Error as KeyspaceError, KeyRange, Keyspace, LeaseId, ManualClock,
};

use super::marker::Marker;
use super::namespace::Namespace;
use super::read::CATCH_UP_BUDGET;
use super::upstream::WRITE_TIMEOUT;
use super::{EtcdBackend, EtcdBackendBuilder};
use crate::calls::Refusal;
use crate::error::Error;
use crate::header::Header;
use crate::start::DEFAULT_START_BUDGET;
use crate::version::Version;
use simulated::{Simulated, header};

/// How many rounds of polling a test may take: minutes of simulated time.
const ROUNDS: usize = 2_000_000;

/// So many rounds for a millisecond: what is ready is done before time goes on.
const ROUNDS_PER_MS: usize = 16;

struct Rig {
    etcd: Arc<Simulated>,
    drivers: Vec<BoxFuture<'static, ()>>,
}

impl Rig {
    fn new(version: Version) -> Self {
        let (etcd, driver) = Simulated::new(version);
        Self {
            etcd,
            drivers: vec![driver],
        }
    }

    fn builder(&self) -> EtcdBackendBuilder {
        EtcdBackend::builder(["simulated:1", "simulated:2"])
            .namespace("/fleet/")
            .clock(Arc::new(self.etcd.clock.clone()))
    }

    /// Runs everything, and time, until this is done.
    fn run<T>(&mut self, body: impl Future<Output = T>) -> T {
        let mut body = pin!(body);
        let mut cx = Context::from_waker(Waker::noop());
        for round in 1..ROUNDS {
            for driver in &mut self.drivers {
                let _endless = driver.as_mut().poll(&mut cx);
            }
            if let Poll::Ready(done) = body.as_mut().poll(&mut cx) {
                return done;
            }
            if round % ROUNDS_PER_MS == 0 {
                self.etcd.clock.advance(Duration::from_millis(1));
            }
        }
        panic!("it does not come to an end");
    }

    fn connect(&mut self) -> Result<(Arc<EtcdBackend>, Keyspace), Error> {
        let connect = self.builder().connect_over(self.etcd.clone());
        let backend = self.run(connect)?;
        self.drivers.push(backend.driver());
        Ok((backend.clone(), Keyspace::new(backend)))
    }
}

/// Goes on until this time is over.
async fn pass(clock: &ManualClock, time: Duration) {
    let end = clock.now() + time;
    while clock.now() < end {
        yield_once().await;
    }
}

const BELIEVED: Version = Version::new(3, 5, 13);
const OLD: Version = Version::new(3, 4, 23);

#[test]
fn an_etcd_that_is_too_old_is_named_with_what_is_needed() {
    let error = Rig::new(Version::new(3, 3, 27)).connect().unwrap_err();
    assert!(matches!(error, Error::Outdated { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("3.3.27") && text.contains("3.4.0"), "{text}");
}

#[test]
fn a_write_that_is_not_answered_is_unknown_when_its_time_is_over_and_made_once() {
    let mut rig = Rig::new(BELIEVED);
    let (_backend, ks) = rig.connect().unwrap();
    let etcd = rig.etcd.clone();
    etcd.faults().loses_answers = true;
    let (before, made) = (etcd.clock.now(), etcd.faults().txns);
    let error = rig.run(ks.put("/a", "1")).unwrap_err();
    assert!(matches!(error, KeyspaceError::OutcomeUnknown(_)), "{error:?}");
    let took = etcd.clock.now() - before;
    assert!(
        took >= WRITE_TIMEOUT && took < WRITE_TIMEOUT + Duration::from_millis(50),
        "{took:?}"
    );
    assert_eq!(etcd.faults().txns, made + 1);
    etcd.faults().loses_answers = false;
    let kv = rig.run(ks.get("/a")).unwrap().unwrap();
    assert_eq!((kv.value, kv.version), ("1".into(), 1), "it had happened");
}

#[test]
fn a_write_that_was_certainly_not_made_is_made_again() {
    let mut rig = Rig::new(BELIEVED);
    let (_backend, ks) = rig.connect().unwrap();
    rig.etcd.faults().refuses = 3;
    rig.run(ks.put("/a", "1")).unwrap();
    assert_eq!(rig.run(ks.get("/a")).unwrap().unwrap().version, 1);
    rig.etcd.faults().refuses = usize::MAX;
    let error = rig.run(ks.put("/a", "2")).unwrap_err();
    assert!(matches!(error, KeyspaceError::Unavailable(_)), "{error:?}");
}

#[test]
fn a_write_is_acknowledged_when_the_watch_has_shown_it() {
    let mut rig = Rig::new(BELIEVED);
    let (backend, ks) = rig.connect().unwrap();
    rig.etcd.faults().holds_watches = true;
    let etcd = rig.etcd.clone();
    let put = ks.put("/a", "1");
    let written = rig.run(async {
        let mut put = pin!(put);
        let begun = etcd.clock.now();
        // Long enough for everything but the watch.
        while etcd.clock.now() < begun + Duration::from_millis(500) {
            let pending = futures_util::FutureExt::now_or_never(put.as_mut());
            assert!(pending.is_none(), "{pending:?}");
            yield_once().await;
        }
        etcd.faults().holds_watches = false;
        put.await
    });
    let written = written.unwrap();
    assert!(rig.run(backend.status()).unwrap().revision >= written);
}

#[test]
fn what_others_write_elsewhere_does_not_make_reads_etcds_work_where_progress_is_believed() {
    for (version, reads_there) in [(BELIEVED, false), (OLD, true)] {
        let mut rig = Rig::new(version);
        let (_backend, ks) = rig.connect().unwrap();
        rig.run(ks.put("/a", "1")).unwrap();
        let etcd = rig.etcd.clone();
        rig.run(etcd.ks.put("/elsewhere", "x")).unwrap();
        let before = etcd.faults().wide_ranges;
        let (header, response) = rig.run(ks.range(RangeRequest::new(KeyRange::all()))).unwrap();
        assert_eq!(response.count, 1);
        assert_eq!(header.revision, rig.run(etcd.ks.status()).unwrap().revision);
        assert_eq!(etcd.faults().wide_ranges > before, reads_there, "{version}");
    }
}

#[test]
fn reads_at_the_same_time_ask_for_the_revision_together() {
    let mut rig = Rig::new(BELIEVED);
    let (_backend, ks) = rig.connect().unwrap();
    let etcd = rig.etcd.clone();
    let before = etcd.faults().ranges;
    let reads = (0..100).map(|_| ks.get("/a"));
    let all = futures_util::future::join_all(reads);
    assert!(rig.run(all).into_iter().all(|read| read.is_ok()));
    let asked = etcd.faults().ranges - before;
    assert!(asked <= 2, "{asked} questions");
}

#[test]
fn a_serializable_read_needs_nobody() {
    let mut rig = Rig::new(BELIEVED);
    let (_backend, ks) = rig.connect().unwrap();
    rig.run(ks.put("/a", "1")).unwrap();
    rig.etcd.faults().refuses = usize::MAX;
    let request = RangeRequest {
        serializable: true,
        ..RangeRequest::new(KeyRange::all())
    };
    assert_eq!(rig.run(ks.range(request)).unwrap().1.count, 1);
    let error = rig.run(ks.get("/a")).unwrap_err();
    assert!(matches!(error, KeyspaceError::Unavailable(_)), "{error:?}");
}

#[test]
fn a_marker_that_is_deleted_is_written_again_and_the_keyspace_stays_the_same() {
    let mut rig = Rig::new(BELIEVED);
    let (_backend, ks) = rig.connect().unwrap();
    let before = rig.run(ks.status()).unwrap().keyspace;
    let etcd = rig.etcd.clone();
    let marker = || tidewatch_core::key("/fleet/").unwrap();
    rig.run(etcd.ks.delete(marker())).unwrap();
    rig.run(async {
        while etcd.ks.get("/fleet/").await.unwrap().is_none() {
            yield_once().await;
        }
    });
    let (_again, other) = rig.connect().unwrap();
    assert_eq!(rig.run(other.status()).unwrap().keyspace, before);
}

#[test]
fn finding_out_the_revision_and_coming_to_it_take_no_longer_together_than_one_may() {
    let mut rig = Rig::new(BELIEVED);
    let (_backend, ks) = rig.connect().unwrap();
    let etcd = rig.etcd.clone();
    rig.run(etcd.ks.put("/elsewhere", "x")).unwrap();
    {
        let mut faults = etcd.faults();
        (faults.loses_answers, faults.holds_watches) = (true, true);
    }
    let begun = etcd.clock.now();
    let read = futures_util::future::join(ks.get("/a"), async {
        pass(&etcd.clock, Duration::from_secs(6)).await;
        etcd.faults().loses_answers = false;
    });
    let error = rig.run(read).0.unwrap_err();
    assert!(matches!(error, KeyspaceError::Unavailable(_)), "{error:?}");
    let took = etcd.clock.now() - begun;
    assert!(took < CATCH_UP_BUDGET + Duration::from_millis(50), "{took:?}");
}

#[test]
fn a_namespace_within_another_is_in_its_way_only_while_it_is_there() {
    let mut rig = Rig::new(BELIEVED);
    let (_backend, _ks) = rig.connect().unwrap();
    let etcd = rig.etcd.clone();
    let marker = |prefix: &'static str| Marker::fresh(&Namespace::new(prefix).unwrap()).encode();
    let (deleted, overwritten, there) = ("/fleet/a/", "/fleet/b/", "/fleet/c/");
    for prefix in [deleted, overwritten] {
        rig.run(etcd.ks.put(prefix, marker(prefix))).unwrap();
    }
    rig.run(etcd.ks.delete(tidewatch_core::key(deleted).unwrap()))
        .unwrap();
    rig.run(etcd.ks.put(overwritten, "mine")).unwrap();
    // The history that a start reads tells of them, or the listing that it begins with.
    for history in [10_000, 2] {
        let connect = rig.builder().history(history).connect_over(etcd.clone());
        rig.run(connect).unwrap();
    }
    rig.run(etcd.ks.put(there, marker(there))).unwrap();
    for history in [0, 10_000] {
        let connect = rig.builder().history(history).connect_over(etcd.clone());
        let error = rig.run(connect).unwrap_err();
        assert!(
            matches!(&error, Error::Overlap { other, .. } if other == there),
            "{error:?}"
        );
    }
}

#[test]
fn however_many_wait_for_the_watch_it_is_asked_as_by_one() {
    let mut rig = Rig::new(BELIEVED);
    let (_backend, ks) = rig.connect().unwrap();
    let etcd = rig.etcd.clone();
    rig.run(etcd.ks.put("/elsewhere", "x")).unwrap();
    etcd.faults().holds_watches = true;
    let before = etcd.faults().asked;
    let reads = (0..100).map(|at| {
        let (etcd, ks) = (&etcd, &ks);
        async move {
            // They come at different times, and all wait in vain.
            etcd.clock.sleep(Duration::from_millis(at)).await;
            ks.get("/a").await.unwrap_err();
        }
    });
    rig.run(futures_util::future::join_all(reads));
    let (asked, limit) = (etcd.faults().asked - before, 2 * 8_000 / 20);
    assert!(asked < limit, "{asked} questions");
}

#[test]
fn a_start_that_takes_too_long_leaves_no_marker() {
    let mut rig = Rig::new(BELIEVED);
    rig.etcd.faults().hangs_opens = true;
    let (etcd, begun) = (rig.etcd.clone(), rig.etcd.clock.now());
    let error = rig.connect().unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(etcd.clock.now() - begun < DEFAULT_START_BUDGET + Duration::from_secs(1));
    assert_eq!(etcd.faults().txns, 2, "it was written, and deleted");
    assert_eq!(rig.run(etcd.ks.get("/fleet/")).unwrap(), None);
}

#[test]
fn what_etcd_has_no_room_for_is_refused_only_if_it_was_not_made() {
    let mut rig = Rig::new(BELIEVED);
    let (_backend, ks) = rig.connect().unwrap();
    for (is_made, expected) in [(false, "NoSpace"), (true, "OutcomeUnknown")] {
        rig.etcd.faults().refuses_as = Some((Refusal::NoSpace, is_made));
        let error = format!("{:?}", rig.run(ks.put("/a", "1")).unwrap_err());
        assert!(error.starts_with(expected), "{error}");
        let lease = Some(LeaseId(7));
        let granted = rig.run(ks.lease_grant(lease, Duration::from_secs(60)));
        let error = format!("{:?}", granted.unwrap_err());
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_write_whose_answer_is_too_large_may_have_been_made() {
    let mut rig = Rig::new(BELIEVED);
    let (_backend, ks) = rig.connect().unwrap();
    rig.etcd.faults().refuses_as = Some((Refusal::AnswerTooLarge, true));
    let error = rig.run(ks.put("/a", "1")).unwrap_err();
    assert!(matches!(error, KeyspaceError::OutcomeUnknown(_)), "{error:?}");
}

#[test]
fn a_write_in_another_history_than_is_followed_is_not_acknowledged() {
    let mut rig = Rig::new(BELIEVED);
    let (_backend, ks) = rig.connect().unwrap();
    let now = rig.run(ks.put("/a", "1")).unwrap();
    let restored = header(now.prev());
    let other = Header {
        cluster: restored.cluster + 1,
        ..header(now.next())
    };
    for answer in [restored, header(now), other] {
        rig.etcd.faults().answers_with = Some(answer);
        let error = rig.run(ks.put("/a", "2")).unwrap_err();
        assert!(
            matches!(error, KeyspaceError::OutcomeUnknown(_)),
            "{answer:?}: {error:?}"
        );
    }
    rig.etcd.faults().answers_with = None;
    rig.run(ks.put("/a", "3")).unwrap();
}

#[test]
fn writes_do_not_wait_behind_each_others_connections() {
    let mut rig = Rig::new(BELIEVED);
    let (_backend, ks) = rig.connect().unwrap();
    {
        let mut faults = rig.etcd.faults();
        (faults.refuses, faults.hangs_dials) = (usize::MAX, true);
    }
    let begun = rig.etcd.clock.now();
    let writes = futures_util::future::join_all((0..40).map(|_| ks.put("/a", "1")));
    for error in rig.run(writes).into_iter().map(Result::unwrap_err) {
        assert!(matches!(error, KeyspaceError::Unavailable(_)), "{error:?}");
    }
    let took = rig.etcd.clock.now() - begun;
    assert!(took <= WRITE_TIMEOUT + Duration::from_millis(50), "{took:?}");
}

#[test]
fn who_is_not_polled_while_a_connection_is_made_holds_up_nobody() {
    let mut rig = Rig::new(BELIEVED);
    let (_backend, ks) = rig.connect().unwrap();
    {
        let mut faults = rig.etcd.faults();
        (faults.refuses, faults.hangs_dials) = (1, true);
    }
    let mut stalled = Box::pin(ks.get("/a"));
    rig.run(async {
        for _ in 0..200 * ROUNDS_PER_MS {
            let polled = stalled.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            yield_once().await;
        }
    });
    rig.etcd.faults().hangs_dials = false;
    rig.run(ks.put("/a", "1")).unwrap();
    rig.run(stalled).unwrap();
}

#[test]
fn a_listing_of_another_cluster_than_answers_is_made_again() {
    let mut rig = Rig::new(BELIEVED);
    rig.etcd.faults().foreign_pages = 1;
    let (_backend, ks) = rig.connect().unwrap();
    rig.run(ks.put("/a", "1")).unwrap();
}

async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|_| {
        if std::mem::replace(&mut yielded, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
