//! Telling a server how a host is, whenever the host's lease is kept alive.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidewatch_client::{Client, HostClaim, ReportTaken};
use tidewatch_core::{BoxFuture, Clock, Error, LeaseId, Revision, SystemClock};
use tidewatch_docker::{Herald, ReconcilerStatus};
use tidewatch_fleet::{HostReport, Verdicts};
use tokio::task::JoinSet;

/// Keeps the lease of one host alive through a client's reports.
///
/// A report is small. What became of the containers may be a megabyte, so it travels on its own, when the server asks for
/// it, and over [another connection](Client::report_host): on a slow line a renewal behind it would come too late, and
/// cost the lease.
pub(crate) struct Reporter<S = Client> {
    server: Arc<S>,
    /// How many reports were made. It never begins again, so that it tells the order within any claim.
    made: Mutex<u64>,
    /// What became of the containers, on its way: one at most. It ends with the reporter.
    telling: Mutex<JoinSet<()>>,
    /// Why the server does not take that; empty if it does.
    refused: Mutex<String>,
}

/// What is told, and under which number.
type Numbered<T> = (u64, T);

/// Who is told.
pub(crate) trait TakesReports: Send + Sync + 'static {
    /// See [`Client::report_host`].
    fn take<'a>(
        &'a self,
        claim: &'a HostClaim,
        report: Numbered<&'a HostReport>,
        verdicts: Numbered<Option<&'a Verdicts>>,
    ) -> BoxFuture<'a, Result<ReportTaken, Error>>;
}

impl TakesReports for Client {
    fn take<'a>(
        &'a self,
        claim: &'a HostClaim,
        (sequence, report): Numbered<&'a HostReport>,
        verdicts: Numbered<Option<&'a Verdicts>>,
    ) -> BoxFuture<'a, Result<ReportTaken, Error>> {
        let now = SystemClock.system_time();
        Box::pin(self.report_host(claim, report, now, sequence, verdicts))
    }
}

impl<S: TakesReports> Reporter<S> {
    pub(crate) fn new(server: S) -> Self {
        Self {
            server: Arc::new(server),
            made: Mutex::default(),
            telling: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    async fn report(&self, status: &ReconcilerStatus, claim: HostClaim) -> Result<bool, Error> {
        let (sequence, report) = self.make(status);
        let told = (status.verdicts_version(), None);
        let taken = self.server.take(&claim, (sequence, &report), told).await?;
        if taken.held {
            self.note_refused(status, taken.refused);
            if taken.wants_verdicts {
                self.tell_verdicts(status, claim);
            }
        }
        Ok(taken.held)
    }

    /// Makes a report, and numbers it: under the lock, so that the higher number is never the older report.
    fn make(&self, status: &ReconcilerStatus) -> Numbered<HostReport> {
        let mut made = lock(&self.made);
        *made += 1;
        (*made, status.report())
    }

    /// Begins to tell what became of the containers, unless that is under way. If it fails, or is another thing by
    /// then, the server asks again.
    fn tell_verdicts(&self, status: &ReconcilerStatus, claim: HostClaim) {
        let mut telling = lock(&self.telling);
        while telling.try_join_next().is_some() {}
        if !telling.is_empty() {
            return;
        }
        let (server, status) = (self.server.clone(), status.clone());
        let (sequence, report) = self.make(&status);
        telling.spawn(async move {
            let (version, verdicts) = status.told();
            let told = (version, Some(&verdicts));
            if let Err(error) = server.take(&claim, (sequence, &report), told).await {
                tracing::debug!(host = %status.host(), %error, "what became of the containers was not told");
            }
        });
    }

    /// Says so once, and not at each renewal.
    fn note_refused(&self, status: &ReconcilerStatus, refused: String) {
        let mut before = lock(&self.refused);
        if !refused.is_empty() && *before != refused {
            tracing::warn!(host = %status.host(), refused, "the server does not take what became of the containers");
        }
        *before = refused;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: TakesReports> Herald for Reporter<S> {
    fn keep_alive<'a>(
        &'a self,
        status: &'a ReconcilerStatus,
        lease: LeaseId,
        claimed: Revision,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        let claim = HostClaim {
            host: status.host().clone(),
            lease,
            claimed,
        };
        Box::pin(self.report(status, claim))
    }
}

#[cfg(test)]
mod tests {
    use tidewatch_core::Keyspace;
    use tidewatch_docker::fake::FakeDocker;
    use tidewatch_docker::{Container, Reconciler};
    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    /// A server that answers renewals at once, and takes what became of containers when it is told to.
    struct Server {
        /// Which lease was kept alive, and the names of the containers that were told of, if any.
        calls: mpsc::UnboundedSender<(LeaseId, Option<Vec<String>>)>,
        /// The number of the last report.
        sequence: Mutex<u64>,
        takes: Semaphore,
        wants_verdicts: bool,
    }

    impl TakesReports for Server {
        fn take<'a>(
            &'a self,
            claim: &'a HostClaim,
            (sequence, _): Numbered<&'a HostReport>,
            (_, verdicts): Numbered<Option<&'a Verdicts>>,
        ) -> BoxFuture<'a, Result<ReportTaken, Error>> {
            let name = |told: &tidewatch_fleet::ContainerVerdict| told.name.clone();
            let names = verdicts.map(|told| told.verdicts.iter().map(name).collect());
            let _ = self.calls.send((claim.lease, names));
            let before = std::mem::replace(&mut *lock(&self.sequence), sequence);
            assert!(before < sequence, "{before}, then {sequence}");
            Box::pin(async move {
                if verdicts.is_some() {
                    self.takes.acquire().await.unwrap().forget();
                }
                Ok(ReportTaken {
                    held: true,
                    wants_verdicts: self.wants_verdicts && verdicts.is_none(),
                    refused: String::new(),
                })
            })
        }
    }

    type Calls = mpsc::UnboundedReceiver<(LeaseId, Option<Vec<String>>)>;

    fn server(wants_verdicts: bool) -> (Server, Calls) {
        let (calls, told) = mpsc::unbounded_channel();
        let server = Server {
            calls,
            sequence: Mutex::default(),
            takes: Semaphore::new(0),
            wants_verdicts,
        };
        (server, told)
    }

    async fn status() -> ReconcilerStatus {
        let docker = FakeDocker::new("d1");
        docker.put_silently(Container::new("c1", "web"));
        let mut reconciler = Reconciler::builder("h1".parse().unwrap(), docker)
            .keyspace(Keyspace::memory())
            .build();
        reconciler.reconcile_once().await.unwrap();
        reconciler.status()
    }

    async fn renew<S: TakesReports>(reporter: &Reporter<S>, status: &ReconcilerStatus, lease: i64) {
        // It must not wait for anything that only the test can let happen.
        let renewal = reporter.keep_alive(status, LeaseId(lease), Revision(7));
        assert!(renewal.await.unwrap());
    }

    #[tokio::test]
    async fn no_renewal_waits_for_what_became_of_the_containers() {
        let (server, mut calls) = server(true);
        let reporter = Reporter::new(server);
        let status = status().await;
        // The first call of a claim is as small as any other.
        renew(&reporter, &status, 1).await;
        assert_eq!(calls.recv().await.unwrap(), (LeaseId(1), None));
        let told = Some(vec!["web".to_owned()]);
        assert_eq!(calls.recv().await.unwrap(), (LeaseId(1), told.clone()));
        // While that is under way renewals go on, and it is not begun again.
        for _ in 0..3 {
            renew(&reporter, &status, 1).await;
            assert_eq!(calls.recv().await.unwrap(), (LeaseId(1), None));
        }
        assert!(calls.is_empty());
        // It has arrived; whoever asks again is told again.
        reporter.server.takes.add_permits(1);
        while lock(&reporter.telling).try_join_next().is_none() {
            tokio::task::yield_now().await;
        }
        renew(&reporter, &status, 2).await;
        assert_eq!(calls.recv().await.unwrap(), (LeaseId(2), None));
        assert_eq!(calls.recv().await.unwrap(), (LeaseId(2), told));
    }

    #[tokio::test]
    async fn a_server_that_knows_what_became_of_the_containers_is_not_told() {
        let (server, mut calls) = server(false);
        let reporter = Reporter::new(server);
        let status = status().await;
        for _ in 0..3 {
            renew(&reporter, &status, 1).await;
            assert_eq!(calls.recv().await.unwrap(), (LeaseId(1), None));
        }
        assert!(lock(&reporter.telling).is_empty());
    }
}
