//! `tidewatch.v1.Admin`: how the server is, copies of its keyspace, and who watches it.

use std::sync::Arc;
use std::time::SystemTime;

use tidewatch_core::{Clock, Error};
use tidewatch_fleet::View;
use tidewatch_proto::error::refused;
use tidewatch_proto::v1;
use tonic::{Request, Response};

use super::backup::{self, BackupStream};
use super::{Answer, fleet_status, status, watcher};
use crate::reconciler::Reconcilers;
use crate::store::Store;
use crate::upstream::Followed;

/// The most warnings in one answer. Who has more than this has one problem, not hundreds.
const MAX_WARNINGS: usize = 100;

/// The service.
#[derive(Clone)]
pub(crate) struct AdminService {
    pub(crate) store: Store,
    pub(crate) reconcilers: Arc<Reconcilers>,
    pub(crate) started: SystemTime,
    pub(crate) clock: Arc<dyn Clock>,
}

#[tonic::async_trait]
impl v1::admin_server::Admin for AdminService {
    type BackupStream = BackupStream;

    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let keyspace = self.store.keyspace.status().await.map_err(status)?;
        // How the server is has to be told also while its etcd is away.
        let here = self.store.keyspace.with_stale_reads();
        let (_, view) = View::read(&here).await.map_err(fleet_status)?;
        Ok(Response::new(v1::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: Some(self.started.into()),
            reconcilers: self.reconcilers.report(),
            warnings: warnings(&view),
            upstream: self.store.followed().map(Followed::status),
            ..(&keyspace).into()
        }))
    }

    async fn backup(&self, _: Request<v1::BackupRequest>) -> Answer<BackupStream> {
        use tidewatch_sqlite::Error as Database;

        match self.store.backup().await {
            Ok(Some(outgoing)) => Ok(Response::new(backup::send(outgoing).await?)),
            Ok(None) => {
                let what = match self.store.followed() {
                    Some(_) => "a backup of a keyspace in etcd, which `etcdctl snapshot save` makes,",
                    None => "a backup of a keyspace that is in memory only",
                };
                Err(status(Error::Unsupported {
                    what: what.to_owned(),
                }))
            }
            Err(error @ (Database::BackupRunning | Database::DiskFull { .. })) => {
                Err(refused("backup", error))
            }
            Err(Database::Closed) => Err(status(Error::Closed)),
            Err(error) => Err(status(Error::Journal(Arc::new(error)))),
        }
    }

    async fn list_watchers(
        &self,
        request: Request<v1::ListWatchersRequest>,
    ) -> Answer<v1::ListWatchersResponse> {
        let now = self.clock.system_time();
        let page = watcher::page(&self.store.keyspace, &request.into_inner(), now).await?;
        Ok(Response::new(page))
    }

    async fn cancel_watcher(
        &self,
        request: Request<v1::CancelWatcherRequest>,
    ) -> Answer<v1::CancelWatcherResponse> {
        let canceled = watcher::cancel(&self.store.keyspace, &request.into_inner()).await?;
        Ok(Response::new(canceled))
    }
}

/// What is wrong in the fleet's keys and does not stop anybody.
fn warnings(view: &View) -> Vec<String> {
    let skipped = view.skipped.iter().map(|(key, skipped)| {
        let key = key.escape_ascii();
        format!("{key} is ignored: {}", skipped.reason)
    });
    skipped.take(MAX_WARNINGS).collect()
}
