//! A keyspace in memory that plays an etcd, or one on an etcd that plays a Tidewatch.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;
use tidewatch_core::limits::MAX_KEY_BYTES;
use tidewatch_core::txn::{Op, OpResponse, RangeRequest, RangeResponse, Txn};
use tidewatch_core::watch::{BatchKind, EventRef};
use tidewatch_core::{
    BoxFuture, Clock as _, EndReason, Ended, Error, KeyRange, Keyspace, LeaseId, ManualClock, Revision,
    Watch, key::RangeEnd, txn,
};

use crate::calls::{CallFailure, Called, Callers, Calls, LeaseDetails, Refusal};
use crate::failure::{Failure, FailureKind};
use crate::header::Header;
use crate::machine::{CheckRequest, Checked, Dialed, ListRequest, Message, OpenRequest, Page};
use crate::transport::{Answer, Connection, Transport, WatchStream};
use crate::version::Version;

const CLUSTER: u64 = 0xc1;

/// How long a call takes.
const LATENCY: Duration = Duration::from_millis(1);

/// The etcd.
pub(super) struct Simulated {
    pub(super) ks: Keyspace,
    pub(super) clock: ManualClock,
    /// None: a Tidewatch's.
    version: Option<Version>,
    faults: Mutex<Faults>,
}

/// What is wrong with it, and what was asked.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Calls are carried out, but not answered.
    pub(super) loses_answers: bool,
    /// So many calls are not carried out.
    pub(super) refuses: usize,
    /// Writes are refused like this, and carried out nevertheless or not.
    pub(super) refuses_as: Option<(Refusal, bool)>,
    /// What writes are answered with.
    pub(super) answers_with: Option<Header>,
    /// Nobody answers who connects for calls.
    pub(super) hangs_dials: bool,
    /// So many pages are another cluster's.
    pub(super) foreign_pages: usize,
    /// Watches are not accepted.
    pub(super) hangs_opens: bool,
    /// Watches say nothing.
    pub(super) holds_watches: bool,
    pub(super) txns: usize,
    pub(super) asked: usize,
    pub(super) ranges: usize,
    /// Reads of more than one key.
    pub(super) wide_ranges: usize,
}

impl Simulated {
    pub(super) fn new(version: Version) -> (Arc<Self>, BoxFuture<'static, ()>) {
        let clock = ManualClock::new();
        let open = Keyspace::builder().clock(Arc::new(clock.clone())).open();
        let ks = open
            .now_or_never()
            .expect("memory is there at once")
            .expect("memory has no errors");
        let driver = ks.driver();
        let etcd = Self {
            ks,
            clock,
            version: Some(version),
            faults: Mutex::default(),
        };
        (Arc::new(etcd), driver)
    }

    /// The Tidewatch that serves this keyspace.
    pub(super) fn serving(ks: Keyspace, clock: ManualClock) -> Arc<Self> {
        Arc::new(Self {
            ks,
            clock,
            version: None,
            faults: Mutex::default(),
        })
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap()
    }

    async fn dialed(&self) -> Dialed {
        let version = match self.version {
            Some(version) => version,
            None if self.ks.backend().tells_progress() => Version::new(3, 6, 0),
            None => Version::new(3, 5, 12),
        };
        Dialed {
            version: Some(version),
            is_tidewatch: self.version.is_none(),
            header: self.header().await,
        }
    }

    async fn header(&self) -> Header {
        header(self.ks.status().await.unwrap().revision)
    }

    /// Makes a call as faulty as it is to be.
    async fn faulty<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, CallFailure> {
        {
            let mut faults = self.faults();
            if faults.refuses > 0 {
                faults.refuses -= 1;
                return Err(CallFailure::NotDone(Failure::unreachable("refused")));
            }
        }
        self.clock.sleep(LATENCY).await;
        let answer = call.await;
        if self.faults().loses_answers {
            std::future::pending::<()>().await;
        }
        answer.map_err(|error| {
            let refusal = match error {
                Error::Compacted { .. } => Refusal::Compacted,
                Error::FutureRevision { .. } => Refusal::Future,
                Error::LeaseNotFound { .. } => Refusal::LeaseNotFound,
                _ => Refusal::Other,
            };
            CallFailure::Refused(refusal, error.to_string())
        })
    }

    /// Makes a call that writes.
    async fn write<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, CallFailure> {
        let refuses_as = self.faults().refuses_as;
        let Some((refusal, is_made)) = refuses_as else {
            return self.faulty(call).await;
        };
        if is_made {
            self.faulty(call).await?;
        }
        Err(CallFailure::Refused(refusal, format!("{refusal:?}")))
    }

    async fn read(&self, request: RangeRequest) -> Result<(Header, RangeResponse), Failure> {
        let (found, response) = self.ks.range(request).await.map_err(|error| {
            let kind = match error {
                Error::Compacted { .. } => FailureKind::Compacted,
                _ => FailureKind::Unreachable,
            };
            Failure::new(kind, error.to_string())
        })?;
        Ok((header(found.revision), response))
    }
}

pub(super) fn header(revision: Revision) -> Header {
    Header {
        cluster: CLUSTER,
        member: 1,
        revision,
        term: 2,
    }
}

impl Transport for Arc<Simulated> {
    fn dial(&self, _: usize) -> Answer<(Dialed, Box<dyn Connection>)> {
        let etcd = self.clone();
        Box::pin(async move {
            let dialed = etcd.dialed().await;
            Ok((dialed, Box::new(etcd) as Box<dyn Connection>))
        })
    }
}

impl Callers for Arc<Simulated> {
    fn connect(&self, _: usize) -> Answer<(Dialed, Arc<dyn Calls>)> {
        let etcd = self.clone();
        Box::pin(async move {
            if etcd.faults().hangs_dials {
                std::future::pending::<()>().await;
            }
            let dialed = etcd.dialed().await;
            Ok((dialed, Arc::new(Line(etcd)) as Arc<dyn Calls>))
        })
    }
}

impl Connection for Arc<Simulated> {
    fn list(&self, request: ListRequest) -> Answer<Page> {
        let etcd = self.clone();
        Box::pin(async move {
            let range = match &request.after {
                Some(after) => {
                    let start = [after, &b"\0"[..]].concat();
                    KeyRange::unchecked(start, request.range.end().clone())
                }
                None => request.range.clone(),
            };
            let read = RangeRequest {
                revision: request.revision,
                limit: Some(request.limit as usize),
                ..RangeRequest::new(range)
            };
            let (mut header, response) = etcd.read(read).await?;
            let mut faults = etcd.faults();
            if faults.foreign_pages > 0 {
                faults.foreign_pages -= 1;
                header.cluster += 1;
            }
            drop(faults);
            Ok(Page {
                header,
                entries: response.kvs,
                more: response.more,
            })
        })
    }

    fn check(&self, request: CheckRequest) -> Answer<Checked> {
        let etcd = self.clone();
        Box::pin(async move {
            let read = RangeRequest {
                revision: request.revision,
                limit: Some(1),
                ..RangeRequest::new(request.range)
            };
            let (header, mut response) = etcd.read(read).await?;
            Ok(Checked {
                header,
                found: response.kvs.pop(),
            })
        })
    }

    fn open(&self, request: OpenRequest) -> Answer<Box<dyn WatchStream>> {
        let etcd = self.clone();
        Box::pin(async move {
            if etcd.version.is_none() && request.range.start().len() > MAX_KEY_BYTES {
                return Err(Failure::unreachable("no key has so long a name"));
            }
            if etcd.faults().hangs_opens {
                std::future::pending::<()>().await;
            }
            let watch = etcd
                .ks
                .watch(request.range)
                .from_revision(request.from)
                .with_prev_kv();
            let watch = watch
                .start()
                .await
                .map_err(|error| Failure::unreachable(error.to_string()))?;
            let created = Message {
                header: etcd.header().await,
                created: true,
                ..Message::default()
            };
            let said = VecDeque::from([created]);
            let from = request.from;
            Ok(Box::new(Stream {
                etcd,
                watch,
                from,
                said,
            }) as Box<dyn WatchStream>)
        })
    }
}

struct Stream {
    etcd: Arc<Simulated>,
    watch: Watch,
    from: Revision,
    said: VecDeque<Message>,
}

impl WatchStream for Stream {
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Failure>> {
        if let Some(message) = self.said.pop_front() {
            return Poll::Ready(Ok(message));
        }
        if self.etcd.faults().holds_watches {
            return Poll::Pending;
        }
        loop {
            return Poll::Ready(match ready!(self.watch.poll_next_batch(cx)) {
                // A watch that begins in the future does not answer.
                Ok(batch) if batch.kind() == BatchKind::Progress && batch.revision() < self.from => continue,
                Ok(batch) => Ok(Message {
                    header: header(batch.revision()),
                    events: match batch.kind() {
                        BatchKind::Events => batch.iter().map(EventRef::to_owned).collect(),
                        _ => Vec::new(),
                    },
                    ..Message::default()
                }),
                Err(Ended {
                    reason: EndReason::Compacted { oldest, .. },
                    ..
                }) => Ok(Message {
                    canceled: true,
                    compact_revision: oldest,
                    ..Message::default()
                }),
                Err(ended) => Err(Failure::unreachable(ended.to_string())),
            });
        }
    }

    fn ask_progress(&mut self) {
        self.etcd.faults().asked += 1;
        self.watch.request_progress();
    }
}

/// A connection for calls.
struct Line(Arc<Simulated>);

impl Calls for Line {
    fn is_tidewatch(&self) -> bool {
        self.0.version.is_none()
    }

    fn range(&self, request: RangeRequest) -> Called<RangeResponse> {
        let etcd = self.0.clone();
        Box::pin(async move {
            {
                let mut faults = etcd.faults();
                faults.ranges += 1;
                faults.wide_ranges += usize::from(*request.range.end() != RangeEnd::Single);
            }
            let (found, response) = etcd.faulty(etcd.ks.range(request)).await?;
            Ok((header(found.revision), response))
        })
    }

    fn txn(&self, txn: Txn) -> Called<(bool, Vec<OpResponse>)> {
        let etcd = self.0.clone();
        Box::pin(async move {
            let is_write = !txn.is_read_only();
            let answer: txn::TxnResponse = if is_write {
                let write = async {
                    etcd.faults().txns += 1;
                    etcd.ks.txn(without_long_names(txn)).await
                };
                etcd.write(write).await?
            } else {
                etcd.faulty(etcd.ks.txn(without_long_names(txn))).await?
            };
            let shown = etcd.faults().answers_with.filter(|_| is_write);
            Ok((
                shown.unwrap_or_else(|| header(answer.header.revision)),
                (answer.succeeded, answer.responses),
            ))
        })
    }

    fn compact(&self, revision: Revision) -> Called<()> {
        let etcd = self.0.clone();
        Box::pin(async move {
            let found = etcd.faulty(etcd.ks.compact(revision)).await?;
            Ok((header(found.revision), ()))
        })
    }

    fn lease_grant(&self, id: Option<LeaseId>, secs: i64) -> Called<(LeaseId, i64)> {
        let etcd = self.0.clone();
        Box::pin(async move {
            let ttl = Duration::from_secs(secs.unsigned_abs());
            let (found, grant) = etcd.write(etcd.ks.lease_grant(id, ttl)).await?;
            Ok((header(found.revision), (grant.id, secs)))
        })
    }

    fn lease_revoke(&self, id: LeaseId) -> Called<()> {
        let etcd = self.0.clone();
        Box::pin(async move {
            let found = etcd.faulty(etcd.ks.lease_revoke(id)).await?;
            Ok((header(found.revision), ()))
        })
    }

    fn lease_keep_alive(&self, id: LeaseId) -> Called<i64> {
        let etcd = self.0.clone();
        Box::pin(async move {
            let (found, ttl) = etcd.faulty(etcd.ks.lease_keep_alive(id)).await?;
            Ok((header(found.revision), i64::try_from(ttl.as_secs()).unwrap()))
        })
    }

    fn lease_info(&self, id: LeaseId) -> Called<LeaseDetails> {
        let etcd = self.0.clone();
        Box::pin(async move {
            let (found, info) = etcd.faulty(etcd.ks.lease_info(id)).await?;
            let secs = |ttl: Duration| i64::try_from(ttl.as_secs()).unwrap();
            let details = LeaseDetails {
                granted: secs(info.granted),
                remaining: secs(info.remaining),
                keys: info.keys,
            };
            Ok((header(found.revision), details))
        })
    }

    fn leases(&self) -> Called<Vec<LeaseId>> {
        let etcd = self.0.clone();
        Box::pin(async move {
            let (found, ids) = etcd.faulty(etcd.ks.lease_list()).await?;
            Ok((header(found.revision), ids))
        })
    }
}

/// A keyspace has no keys as long as the marker of all of etcd, and does not let them be asked for: some other absent key is.
fn without_long_names(mut txn: Txn) -> Txn {
    for op in &mut txn.then {
        if let Op::Range(request) = op
            && request.range.start().len() > MAX_KEY_BYTES
        {
            request.range = KeyRange::empty();
        }
    }
    txn
}
