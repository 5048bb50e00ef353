use std::task::{Context, Poll};
use std::time::Duration;

use tidewatch_core::txn::{Header, Op, OpResponse, RangeRequest, RangeResponse, Txn, TxnResponse};
use tidewatch_core::watch::{BatchKind, Delivery, EventRef, WatchRequest, WatchSource};
use tidewatch_core::{
    Backend, Batch, BoxFuture, EndReason, Ended, Error, Event, LeaseGrant, LeaseId, LeaseInfo, Revision,
    Status, Watch,
};

use super::*;
use crate::wait::eventually_async;

/// Longer than anything here takes; a test that needs it has failed.
const CEILING: Duration = Duration::from_secs(60);

/// How a keyspace deceives.
#[derive(Clone, Copy, Debug)]
enum Lie {
    None,
    /// The tenth revision is not delivered.
    Loses,
    /// The tenth revision is delivered twice.
    Repeats,
    /// A revision of several events is delivered without the last one.
    Shortens,
    /// Progress is reported that is ahead of everything.
    RunsAhead,
    /// Previous entries are said to be absent.
    Forgets,
    /// What was not asked for is delivered.
    Widens,
    /// The end names a place to resume from that skips a revision.
    Skips,
    /// A transaction is acknowledged and not made.
    Promises,
    /// An answer says that nothing was deleted.
    Denies,
}

/// A keyspace that does not keep its promises.
struct Liar {
    inner: Keyspace,
    lie: Lie,
}

struct Deceived {
    inner: Watch,
    lie: Lie,
    revisions: u64,
    again: Option<Batch>,
}

impl Deceived {
    /// What becomes of a batch. None: nothing of it is delivered.
    fn deceive(&mut self, batch: Batch) -> Option<Batch> {
        if batch.kind() != BatchKind::Events {
            return Some(batch);
        }
        self.revisions += 1;
        let is_tenth = self.revisions == 10;
        let revision = batch.revision();
        let changed = |events: Vec<Event>| Some(Batch::events(revision, None, events, batch.view(), false));
        let mut events: Vec<_> = batch.iter().map(EventRef::to_owned).collect();
        match self.lie {
            Lie::Loses if is_tenth => return None,
            Lie::Repeats if is_tenth => self.again = Some(batch.clone()),
            Lie::RunsAhead if is_tenth => {
                self.again = Some(Batch::progress(Revision(revision.0 + 1_000_000)));
            }
            Lie::Shortens if events.len() > 1 => {
                events.pop();
                return changed(events);
            }
            Lie::Forgets => {
                for event in &mut events {
                    event.prev = None;
                }
                return changed(events);
            }
            _ => {}
        }
        Some(batch)
    }
}

impl WatchSource for Deceived {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery, Ended>> {
        if let Some(batch) = self.again.take() {
            return Poll::Ready(Ok(batch.into()));
        }
        loop {
            let Poll::Ready(next) = self.inner.poll_next_batch(cx) else {
                return Poll::Pending;
            };
            match next {
                Ok(batch) => {
                    if let Some(batch) = self.deceive(batch) {
                        return Poll::Ready(Ok(batch.into()));
                    }
                }
                Err(mut ended) => {
                    if let (Lie::Skips, Some(resume)) = (self.lie, &mut ended.resume) {
                        resume.revision = resume.revision.next();
                    }
                    return Poll::Ready(Err(ended));
                }
            }
        }
    }
}

impl Backend for Liar {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<(Header, RangeResponse), Error>> {
        self.inner.backend().range(request)
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse, Error>> {
        Box::pin(async move {
            if let (Lie::Promises, [Op::Put(_)]) = (self.lie, &txn.then[..])
                && txn.compares.is_empty()
                && fastrand::u8(..20) == 0
            {
                let status = self.inner.status().await?;
                let header = Header {
                    keyspace: status.keyspace,
                    revision: Revision(status.revision.0 + fastrand::u64(1 << 30..1 << 40)),
                };
                return Ok(TxnResponse {
                    header,
                    succeeded: true,
                    responses: vec![OpResponse::Put { prev: None }],
                });
            }
            let mut answer = self.inner.txn(txn).await?;
            if let Lie::Denies = self.lie {
                for response in &mut answer.responses {
                    if let OpResponse::Delete { deleted, .. } = response {
                        *deleted += 1;
                    }
                }
            }
            Ok(answer)
        })
    }

    fn watch(&self, mut request: WatchRequest) -> BoxFuture<'_, Result<Watch, Error>> {
        Box::pin(async move {
            if let Lie::Widens = self.lie {
                request.ranges = vec![KeyRange::all()];
            }
            let inner = self.inner.backend().watch(request).await?;
            let (id, created, resumable) = (inner.id(), inner.created(), inner.position().is_some());
            let source = Deceived {
                inner,
                lie: self.lie,
                revisions: 0,
                again: None,
            };
            Ok(Watch::new(id, created, resumable, Box::new(source)))
        })
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<Header, Error>> {
        self.inner.backend().compact(revision)
    }

    fn lease_grant(
        &self,
        id: Option<LeaseId>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<(Header, LeaseGrant), Error>> {
        self.inner.backend().lease_grant(id, ttl)
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<Header, Error>> {
        self.inner.backend().lease_revoke(id)
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<(Header, Duration), Error>> {
        self.inner.backend().lease_keep_alive(id)
    }

    fn lease_info(&self, id: LeaseId) -> BoxFuture<'_, Result<(Header, LeaseInfo), Error>> {
        self.inner.backend().lease_info(id)
    }

    fn lease_list(&self) -> BoxFuture<'_, Result<(Header, Vec<LeaseId>), Error>> {
        self.inner.backend().lease_list()
    }

    fn status(&self) -> BoxFuture<'_, Result<Status, Error>> {
        self.inner.backend().status()
    }

    fn driver(&self) -> BoxFuture<'static, ()> {
        self.inner.driver()
    }

    fn close(&self, reason: EndReason) {
        self.inner.backend().close(reason);
    }
}

/// One round on a keyspace that deceives those who write, those who watch, or nobody.
async fn check(lie: Lie) -> anyhow::Result<Report> {
    let honest = Keyspace::memory();
    let driver = tokio::spawn(honest.driver());
    let liar = Keyspace::new(Arc::new(Liar {
        inner: honest.clone(),
        lie,
    }));
    let mut check = WatchCheck::new(7);
    if !matches!(lie, Lie::None) {
        // What is kept from a watcher may be what it waits for.
        check.patience = Duration::from_secs(5);
    }
    let (writes, watches) = match lie {
        Lie::Promises | Lie::Denies => (&liar, &honest),
        _ => (&honest, &liar),
    };
    // Until there has been of everything.
    let counts = check.counts.clone();
    let enough = eventually_async(CEILING, || async {
        counts.ends().contains_key("overflow") && counts.resumed() > 0
    });
    let stop = async {
        enough.await;
    };
    let report = check.run(writes, watches, stop).await;
    let left = honest.range(RangeRequest::new(KeyRange::all())).await?.1.count;
    assert_eq!(left, 0, "the check cleans up");
    driver.abort();
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyspace_that_keeps_its_promises_passes() {
    let report = check(Lie::None).await.unwrap();
    assert!(report.found.is_empty(), "{report}");
    let counts = &report.counts;
    assert!(counts.acknowledged() > 100 && counts.events() > 1000, "{report}");
    assert!(
        counts.resumed() > 0 && counts.ends().contains_key("overflow"),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_promise_is_missed_when_it_is_broken() {
    for (lie, promises) in [
        (Lie::Loses, &["Reliable"][..]),
        (Lie::Repeats, &["Ordered"]),
        (Lie::Shortens, &["Reliable"]),
        (Lie::RunsAhead, &["Bookmarkable"]),
        (Lie::Forgets, &["PrevKv"]),
        (Lie::Widens, &["Filtered"]),
        // It may skip what has not happened yet.
        (Lie::Skips, &["Reliable", "Resumable"]),
        (Lie::Promises, &["Durable"]),
        (Lie::Denies, &["Serial"]),
    ] {
        let report = check(lie).await.unwrap();
        let mut found = report.found.iter().map(|found| found.violation.promise);
        assert!(found.any(|found| promises.contains(&found)), "{lie:?}: {report}");
    }
}

#[tokio::test]
async fn a_prefix_that_is_in_use_is_left_alone() {
    let keyspace = Keyspace::memory();
    let mut check = WatchCheck::new(7);
    check.prefix = "/config/".to_owned();
    keyspace.put("/config/db", "postgres").await.unwrap();
    let error = check
        .run(&keyspace, &keyspace, std::future::pending())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("there are 1 keys below /config/* already"),
        "{error}"
    );
    assert!(keyspace.get("/config/db").await.unwrap().is_some());
}
