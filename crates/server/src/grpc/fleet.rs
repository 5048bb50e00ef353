//! `tidewatch.v1.Fleet`: workloads, containers, hosts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::json;
use tidewatch_core::txn::Header;
use tidewatch_core::watch::WatchRequest;
use tidewatch_core::{Error, Keyspace, Revision};
use tidewatch_docker::plan::{BoundBy, Outcome, Verdict};
use tidewatch_fleet::{Entry, FleetKey, Host, HostName, JoinedRow, View, WorkloadId, declaration};
use tidewatch_proto::error::not_found;
use tidewatch_proto::v1;
use tonic::{Request, Response, Status};

use super::filter::{ContainerFilter, named};
use super::joined::JoinedStream;
use super::log::LogQuery;
use super::{Answer, fleet_status, status, watch_slot};
use crate::metrics::WatchMetrics;
use crate::reconciler::{Reconcilers, trouble};

/// The service.
#[derive(Clone)]
pub(crate) struct FleetService {
    pub(crate) keyspace: Keyspace,
    pub(crate) reconcilers: Arc<Reconcilers>,
    pub(crate) metrics: WatchMetrics,
}

#[tonic::async_trait]
impl v1::fleet_server::Fleet for FleetService {
    type WatchContainersStream = JoinedStream;

    async fn list_workloads(
        &self,
        _: Request<v1::ListWorkloadsRequest>,
    ) -> Answer<v1::ListWorkloadsResponse> {
        let (header, view) = self.view().await?;
        let workloads = view
            .workloads
            .into_iter()
            .map(|(id, entry)| row(&FleetKey::Workload(id), entry.mod_revision, &entry.value));
        Ok(Response::new(v1::ListWorkloadsResponse {
            header: Some(header.into()),
            workloads: workloads.collect(),
        }))
    }

    async fn declare_workload(
        &self,
        request: Request<v1::DeclareWorkloadRequest>,
    ) -> Answer<v1::DeclareWorkloadResponse> {
        let request = request.into_inner();
        let workload = declaration::parse(request.json.as_bytes()).map_err(fleet_status)?;
        let declared = tidewatch_fleet::declare(&self.keyspace, workload).await;
        let (workload, revision) = declared.map_err(fleet_status)?;
        let key = FleetKey::Workload(workload.id.clone());
        Ok(Response::new(v1::DeclareWorkloadResponse {
            header: Some(self.header(revision).await?.into()),
            workload: Some(row(&key, revision, &workload)),
        }))
    }

    async fn remove_workload(
        &self,
        request: Request<v1::RemoveWorkloadRequest>,
    ) -> Answer<v1::RemoveWorkloadResponse> {
        let request = request.into_inner();
        let id = WorkloadId::new(&request.id).map_err(|error| fleet_status(error.into()))?;
        let removed = tidewatch_fleet::remove(&self.keyspace, &id, request.force).await;
        let (revision, deleted) = removed.map_err(fleet_status)?;
        Ok(Response::new(v1::RemoveWorkloadResponse {
            header: Some(self.header(revision).await?.into()),
            deleted,
        }))
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Answer<v1::ListContainersResponse> {
        let request = request.into_inner();
        let filter = ContainerFilter::try_from(request.filter).map_err(status)?;
        let (header, view) = self.view().await?;
        let containers = if request.untracked {
            self.untracked(&filter)
        } else {
            let shown = view.joined();
            shown
                .iter()
                .filter(|row| filter.passes(row))
                .map(joined_row)
                .collect()
        };
        Ok(Response::new(v1::ListContainersResponse {
            header: Some(header.into()),
            containers,
        }))
    }

    async fn watch_containers(&self, request: Request<v1::WatchContainersRequest>) -> Answer<JoinedStream> {
        let slot = watch_slot(&request)?;
        let filter = ContainerFilter::try_from(request.into_inner().filter).map_err(status)?;
        let watch = WatchRequest {
            snapshot: true,
            ..WatchRequest::new(View::ranges())
        };
        let watch = self.keyspace.backend().watch(watch).await.map_err(status)?;
        Ok(Response::new(JoinedStream::new(
            watch,
            slot,
            filter,
            self.metrics.clone(),
        )))
    }

    async fn list_hosts(&self, _: Request<v1::ListHostsRequest>) -> Answer<v1::ListHostsResponse> {
        let (header, mut view) = self.view().await?;
        // A host that its reconciler has not been able to write about yet is one all the same.
        for (host, _) in self.reconcilers.snapshots() {
            view.hosts.entry(host.clone()).or_insert_with(|| Entry {
                value: Host::default(),
                mod_revision: Revision(0),
            });
        }
        let hosts = view
            .hosts
            .iter()
            .map(|(host, entry)| self.host(&view, host, entry));
        Ok(Response::new(v1::ListHostsResponse {
            header: Some(header.into()),
            hosts: hosts.collect(),
        }))
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Answer<v1::ExplainResponse> {
        let request = request.into_inner();
        let host: Option<HostName> = named("host", &request.host).map_err(status)?;
        if request.container.trim_start_matches('/').is_empty() {
            return Err(status(Error::InvalidArgument {
                what: "container",
                reason: "it is empty; give a name, an id or the beginning of one".to_owned(),
            }));
        }
        let (header, view) = self.view().await?;
        let explanations = self.explanations(&view, &request.container, host.as_ref());
        if explanations.is_empty() {
            let container = &request.container;
            return Err(not_found(
                "container",
                format!(
                    "no host shows a container {container:?}; `tidewatch hosts` tells which hosts are looked at"
                ),
            ));
        }
        Ok(Response::new(v1::ExplainResponse {
            header: Some(header.into()),
            explanations,
        }))
    }

    async fn log(&self, request: Request<v1::LogRequest>) -> Answer<v1::LogResponse> {
        let request = request.into_inner();
        let since = request.since.map(SystemTime::try_from).transpose();
        let since = since.map_err(|error| {
            status(Error::InvalidArgument {
                what: "since",
                reason: error.to_string(),
            })
        })?;
        let workload = named("workload", &request.workload).map_err(status)?;
        let query = LogQuery::new(since, workload, request.limit);
        Ok(Response::new(query.run(&self.keyspace).await.map_err(status)?))
    }
}

impl FleetService {
    async fn view(&self) -> Result<(Header, View), Status> {
        View::read(&self.keyspace).await.map_err(fleet_status)
    }

    async fn header(&self, revision: Revision) -> Result<Header, Status> {
        let keyspace = self.keyspace.status().await.map_err(status)?.keyspace;
        Ok(Header { keyspace, revision })
    }

    fn untracked(&self, filter: &ContainerFilter) -> Vec<v1::FleetRow> {
        let untracked = self.reconcilers.untracked(filter.host());
        let shown = untracked
            .iter()
            .filter(|(_, verdict)| filter.passes_state(verdict.state));
        shown
            .filter_map(|(host, verdict)| {
                let reason = verdict.untracked()?;
                let json = json!({
                    "host": host,
                    "container_id": verdict.container_id,
                    "name": verdict.name,
                    "image_ref": verdict.image_ref,
                    "state": verdict.state,
                    "reason": reason.name(),
                    "message": reason.to_string(),
                });
                Some(v1::FleetRow {
                    json: json.to_string(),
                    ..v1::FleetRow::default()
                })
            })
            .collect()
    }

    /// A host's key with what is known beyond it.
    fn host(&self, view: &View, host: &HostName, entry: &Entry<Host>) -> v1::FleetRow {
        let mut told = entry.value.clone();
        let alive = view.alive.get(host);
        told.extra.insert("host".into(), json!(host));
        told.extra.insert("alive".into(), json!(alive.is_some()));
        if let Some(alive) = alive {
            told.extra.insert("instance".into(), json!(alive.value.instance));
        }
        if let Some(snapshot) = self.reconcilers.snapshot(host.as_str()) {
            let time = |time: Option<SystemTime>| {
                time.map(|time| humantime::format_rfc3339_millis(time).to_string())
            };
            // What is known here is at least as new as what was written.
            if let Some(reachable) = snapshot.reachable {
                told.reachable = reachable;
                told.since = time(snapshot.since).unwrap_or(told.since);
            }
            told.error = trouble(&snapshot);
            told.extra.insert(
                "lag_ms".into(),
                json!(u64::try_from(snapshot.lag.as_millis()).unwrap_or(u64::MAX)),
            );
            told.extra
                .insert("last_sync".into(), json!(time(snapshot.last_sync)));
            told.extra.insert("resyncs".into(), json!(snapshot.resyncs));
            told.extra.insert("drift".into(), json!(snapshot.drift));
            told.extra.insert("containers".into(), json!(snapshot.containers));
        } else if alive.is_none() {
            told.reachable = false;
            "nobody reconciles this host".clone_into(&mut told.error);
        }
        row(&FleetKey::Host(host.clone()), entry.mod_revision, &told)
    }

    fn explanations(&self, view: &View, container: &str, host: Option<&HostName>) -> Vec<v1::Explanation> {
        let verdicts = self.reconcilers.explain(container, host);
        let joined = view.joined();
        let rows: BTreeMap<_, _> = joined.iter().map(|row| (row.key.as_str(), row)).collect();
        let mut told: Vec<_> = verdicts
            .iter()
            .map(|(host, verdict)| explanation(&rows, host, verdict))
            .collect();
        // Rows of containers that no reconciler here sees: gone, or on a host of somebody else.
        let wanted = container.trim_start_matches('/');
        for row in &joined {
            let meant =
                row.name == wanted || (!row.container_id.is_empty() && row.container_id.starts_with(wanted));
            let known = told.iter().any(|it| it.container_id == row.container_id);
            if meant && !known && host.is_none_or(|host| *host == *row.host) {
                told.push(remembered(row));
            }
        }
        told
    }
}

fn explanation(rows: &BTreeMap<&str, &JoinedRow>, host: &HostName, verdict: &Verdict) -> v1::Explanation {
    let (found, reason, message) = match &verdict.outcome {
        Outcome::Tracked { row: key, by } => {
            let (reason, message) = bound_by(*by);
            let row = rows.get(key.to_string().as_str()).copied().map(joined_row);
            (row, reason, message.to_owned())
        }
        Outcome::Untracked(reason) => (None, reason.name(), reason.to_string()),
    };
    v1::Explanation {
        host: host.to_string(),
        container_id: verdict.container_id.clone(),
        name: verdict.name.clone(),
        row: found,
        reason: reason.to_owned(),
        message,
    }
}

fn bound_by(by: BoundBy) -> (&'static str, &'static str) {
    match by {
        BoundBy::Row => ("row", "the row has named this container before"),
        BoundBy::DeployRow => ("deploy_row", "a deploy row names this container"),
        BoundBy::Placeholder => (
            "placeholder",
            "a deploy row was waiting for its container, and this is it",
        ),
        BoundBy::Labels => ("labels", "its labels name the workload and the role"),
        BoundBy::Plugin => (
            "plugin",
            "its kind of workload claims it, by Compose's labels or by its name",
        ),
    }
}

/// What is left of a container that nobody here sees.
fn remembered(row: &JoinedRow) -> v1::Explanation {
    let message = if row.reason.is_empty() {
        format!("no reconciler of this server sees it; its row says {}", row.state)
    } else {
        format!(
            "no reconciler of this server sees it; its row says {}: {}",
            row.state, row.reason
        )
    };
    v1::Explanation {
        host: row.host.clone(),
        container_id: row.container_id.clone(),
        name: row.name.clone(),
        row: Some(joined_row(row)),
        reason: "not_seen".to_owned(),
        message,
    }
}

/// A joined row as it travels.
pub(super) fn joined_row(joined: &JoinedRow) -> v1::FleetRow {
    v1::FleetRow {
        key: joined.key.clone(),
        mod_revision: joined.mod_revision,
        json: text(joined),
    }
}

fn row(key: &FleetKey, revision: Revision, value: &impl Serialize) -> v1::FleetRow {
    v1::FleetRow {
        key: key.to_string(),
        mod_revision: revision.0,
        json: text(value),
    }
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("the fleet's types have text keys and no failing parts")
}
