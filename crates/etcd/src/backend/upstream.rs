//! Calls at whichever member answers.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, Shared, WeakShared, select};
use tidewatch_core::txn::{OpResponse, RangeRequest, RangeResponse, Txn};
use tidewatch_core::{Clock, Revision, key};

use super::namespace::Namespace;
use crate::calls::{CallFailure, Called, Callers, Calls};
use crate::failure::Failure;
use crate::header::Header;
use crate::machine::timing::{DIAL_TIMEOUT, ELECTION_TIMEOUT, LOGIN_TIMEOUT};
use crate::version::Version;

/// How long a read is tried, at one member after the other: two that do not answer, and an election.
pub(super) const READ_BUDGET: Duration = Duration::from_secs(8);

/// How long the answer to a write is waited for. etcd itself gives up a proposal after 7 s and says so.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(8);

/// The pause before a call is made again.
const PAUSE: Duration = Duration::from_millis(50);

/// What several wait for: whoever polls it brings it forward for all, and it ends with the last of them.
type Common<T, E> = Shared<BoxFuture<'static, Result<T, E>>>;

/// Where those who come meanwhile find it.
type Joinable<T, E> = WeakShared<BoxFuture<'static, Result<T, E>>>;

/// The members that answer calls.
///
/// No lock is held while anything is awaited: a caller that is no longer polled, or never again, holds up nobody.
pub(super) struct Upstream {
    callers: Box<dyn Callers>,
    endpoints: usize,
    dial_timeout: Duration,
    clock: Arc<dyn Clock>,
    now: Mutex<Now>,
    /// Which key is read to learn the revision.
    probe: RangeRequest,
    head: Mutex<Option<HeadRead>>,
    /// The highest revision that was shown.
    shown: Mutex<Header>,
}

/// Which member is asked now.
struct Now {
    endpoint: usize,
    calls: Option<Arc<dyn Calls>>,
    version: Option<Version>,
    /// Why the last connection could not be made.
    failure: Option<Failure>,
    /// The connection that is being made.
    dial: Option<Joinable<Arc<dyn Calls>, Failure>>,
}

/// A read of the revision that several wait for. Whoever comes before it is begun joins it: it shows all that was there when they
/// came.
struct HeadRead {
    has_begun: Arc<AtomicBool>,
    answer: Option<Joinable<Header, CallFailure>>,
}

impl Upstream {
    pub(super) fn new(
        callers: impl Callers,
        endpoints: usize,
        with_password: bool,
        clock: Arc<dyn Clock>,
        namespace: &Namespace,
    ) -> Arc<Self> {
        // Of a Tidewatch nothing is known but that it has no key like this; its revision is shown nevertheless.
        let probed = if namespace.is_everything() {
            key(Bytes::from_static(b"\0"))
        } else {
            key(namespace.marker())
        };
        let probe = RangeRequest {
            count_only: true,
            ..RangeRequest::new(probed.unwrap_or_else(|_| namespace.all()))
        };
        Arc::new(Self {
            callers: Box::new(callers),
            dial_timeout: if with_password {
                LOGIN_TIMEOUT
            } else {
                DIAL_TIMEOUT
            },
            now: Mutex::new(Now {
                endpoint: fastrand::usize(..endpoints.max(1)),
                calls: None,
                version: None,
                failure: None,
                dial: None,
            }),
            endpoints: endpoints.max(1),
            clock,
            probe,
            head: Mutex::default(),
            shown: Mutex::default(),
        })
    }

    /// What the member that is asked is, as far as it says, and whether it is a Tidewatch.
    pub(super) async fn member(self: &Arc<Self>) -> Result<(Option<Version>, bool), Failure> {
        let calls = self.calls().await?;
        Ok((self.now().version, calls.is_tidewatch()))
    }

    /// Makes a call that changes nothing, or nothing more when it is made again, until it is answered.
    pub(super) async fn read<T>(
        self: &Arc<Self>,
        call: impl Fn(&dyn Calls) -> Called<T>,
    ) -> Result<(Header, T), CallFailure> {
        let mut budget = self.clock.sleep(READ_BUDGET);
        let mut last = None;
        loop {
            let attempt = std::pin::pin!(self.attempt(&call, ELECTION_TIMEOUT));
            match select(attempt, budget).await {
                Either::Left((Err(failure @ (CallFailure::NotDone(_) | CallFailure::Lost(_))), rest)) => {
                    last = Some(failure);
                    budget = rest;
                }
                Either::Left((answer, _)) => return answer,
                Either::Right(_) => return Err(last.unwrap_or_else(|| late(READ_BUDGET))),
            }
            match select(self.clock.sleep(PAUSE), budget).await {
                Either::Left(((), rest)) => budget = rest,
                Either::Right(_) => return Err(last.unwrap_or_else(|| late(READ_BUDGET))),
            }
        }
    }

    /// Makes a call that must not happen twice: again only while it is certain that it has not.
    pub(super) async fn write<T>(
        self: &Arc<Self>,
        call: impl Fn(&dyn Calls) -> Called<T>,
    ) -> Result<(Header, T), CallFailure> {
        let mut left = WRITE_TIMEOUT;
        let begun = self.clock.now();
        loop {
            // A connection that does not come about takes no longer than the write may: it is still certain that it was not sent.
            let answer = match select(pin!(self.calls()), self.clock.sleep(left)).await {
                Either::Left((Ok(calls), _)) => {
                    left = WRITE_TIMEOUT.saturating_sub(self.clock.now() - begun);
                    self.call(&calls, &call, left).await
                }
                Either::Left((Err(failure), _)) => Err(CallFailure::NotDone(failure)),
                Either::Right(_) => Err(CallFailure::NotDone(silence(left))),
            };
            match answer {
                Err(CallFailure::NotDone(failure)) => {
                    left = WRITE_TIMEOUT.saturating_sub(self.clock.now() - begun);
                    if left <= PAUSE {
                        return Err(CallFailure::NotDone(failure));
                    }
                }
                answer => return answer,
            }
            self.clock.sleep(PAUSE).await;
        }
    }

    /// The revision that etcd has come to, and which cluster it is: everything that was acknowledged to anybody before this was
    /// asked is in it.
    pub(super) async fn head(self: &Arc<Self>) -> Result<Header, CallFailure> {
        let answer = {
            let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
            let last = head.as_ref().and_then(|read| {
                let answer = read.answer.as_ref()?.upgrade()?;
                Some((read.has_begun.load(Ordering::Acquire), answer))
            });
            match last {
                Some((false, answer)) => answer,
                before => {
                    let has_begun = Arc::new(AtomicBool::new(false));
                    let answer = self.read_head(before.map(|(_, answer)| answer), has_begun.clone());
                    *head = Some(HeadRead {
                        has_begun,
                        answer: answer.downgrade(),
                    });
                    answer
                }
            }
        };
        answer.await
    }

    /// One at a time, so that those who come meanwhile share the next.
    fn read_head(
        self: &Arc<Self>,
        before: Option<Common<Header, CallFailure>>,
        has_begun: Arc<AtomicBool>,
    ) -> Common<Header, CallFailure> {
        let upstream = self.clone();
        let answer = async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            has_begun.store(true, Ordering::Release);
            let probe = &upstream.probe;
            let (header, _) = upstream.read(|calls| calls.range(probe.clone())).await?;
            Ok(header)
        };
        answer.boxed().shared()
    }

    /// Why there is no connection, if none could be made.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.now().failure.clone()
    }

    /// The highest revision that any answer has shown.
    pub(super) fn shown(&self) -> Revision {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).revision
    }

    /// Reads a range, linearizably unless the request says otherwise.
    pub(super) async fn range(
        self: &Arc<Self>,
        request: &RangeRequest,
    ) -> Result<(Header, RangeResponse), CallFailure> {
        self.read(|calls| calls.range(request.clone())).await
    }

    /// Carries out a transaction that only reads.
    pub(super) async fn reads(
        self: &Arc<Self>,
        txn: &Txn,
    ) -> Result<(Header, (bool, Vec<OpResponse>)), CallFailure> {
        self.read(|calls| calls.txn(txn.clone())).await
    }

    async fn attempt<T>(
        self: &Arc<Self>,
        call: impl Fn(&dyn Calls) -> Called<T>,
        limit: Duration,
    ) -> Result<(Header, T), CallFailure> {
        let calls = self.calls().await.map_err(CallFailure::NotDone)?;
        self.call(&calls, call, limit).await
    }

    async fn call<T>(
        &self,
        calls: &Arc<dyn Calls>,
        call: impl Fn(&dyn Calls) -> Called<T>,
        limit: Duration,
    ) -> Result<(Header, T), CallFailure> {
        let answer = match select(call(&**calls), self.clock.sleep(limit)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(late(limit)),
        };
        match &answer {
            Ok((header, _)) => self.note(header),
            Err(CallFailure::NotDone(_) | CallFailure::Lost(_)) => self.leave(calls),
            Err(CallFailure::Refused(..)) => {}
        }
        answer
    }

    fn note(&self, header: &Header) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if header.cluster != shown.cluster || header.revision > shown.revision {
            *shown = *header;
        }
    }

    /// The connection there is, or another one.
    async fn calls(self: &Arc<Self>) -> Result<Arc<dyn Calls>, Failure> {
        let dial = {
            let mut now = self.now();
            if let Some(calls) = &now.calls {
                return Ok(calls.clone());
            }
            let dial = now.dial.as_ref().and_then(WeakShared::upgrade);
            let dial = dial.unwrap_or_else(|| self.dial(now.endpoint));
            now.dial = dial.downgrade();
            dial
        };
        dial.await
    }

    /// Makes a connection to this member; if that fails, the next one is to be asked.
    fn dial(self: &Arc<Self>, endpoint: usize) -> Common<Arc<dyn Calls>, Failure> {
        let upstream = self.clone();
        let dial = async move {
            let connected = upstream.callers.connect(endpoint);
            let dialed = match select(connected, upstream.clock.sleep(upstream.dial_timeout)).await {
                Either::Left((dialed, _)) => dialed,
                Either::Right(_) => Err(Failure::unreachable(format!(
                    "no connection within {:?}",
                    upstream.dial_timeout
                ))),
            };
            let mut now = upstream.now();
            now.dial = None;
            match dialed {
                Ok((dialed, calls)) => {
                    now.version = dialed.version;
                    now.failure = None;
                    now.calls = Some(calls.clone());
                    Ok(calls)
                }
                Err(failure) => {
                    now.endpoint = (endpoint + 1) % upstream.endpoints;
                    now.failure = Some(failure.clone());
                    Err(failure)
                }
            }
        };
        dial.boxed().shared()
    }

    /// Goes on to the next member, unless somebody has.
    fn leave(&self, calls: &Arc<dyn Calls>) {
        let mut now = self.now();
        if now
            .calls
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, calls))
        {
            now.calls = None;
            now.endpoint = (now.endpoint + 1) % self.endpoints;
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn late(limit: Duration) -> CallFailure {
    CallFailure::Lost(silence(limit))
}

fn silence(limit: Duration) -> Failure {
    Failure::unreachable(format!("no answer within {limit:?}"))
}
