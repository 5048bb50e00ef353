//! `tidewatch.v1.Fleet`: workloads, containers, hosts.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Value, json};
use tidewatch_core::txn::Header;
use tidewatch_core::watch::WatchRequest;
use tidewatch_core::{Clock, Error, Keyspace, Revision};
use tidewatch_fleet::{
    ContainerVerdict, Entry, FleetKey, Host, HostName, JoinedRow, View, WorkloadId, declaration,
};
use tidewatch_proto::error::not_found;
use tidewatch_proto::v1;
use tonic::{Request, Response, Status};

use super::joined::JoinedStream;
use super::{Answer, fleet_status, status, watch_label, watch_slot};
use crate::fleet::{ContainerFilter, LogQuery, LogTurns, containers, named, workloads};
use crate::metrics::WatchMetrics;
use crate::reconciler::{Reconcilers, hosts_in};

/// The service.
#[derive(Clone)]
pub(crate) struct FleetService {
    pub(crate) keyspace: Keyspace,
    pub(crate) reconcilers: Arc<Reconcilers>,
    pub(crate) metrics: WatchMetrics,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log_turns: LogTurns,
}

#[tonic::async_trait]
impl v1::fleet_server::Fleet for FleetService {
    type WatchContainersStream = JoinedStream;

    async fn list_workloads(
        &self,
        _: Request<v1::ListWorkloadsRequest>,
    ) -> Answer<v1::ListWorkloadsResponse> {
        let (header, workloads) = workloads(&self.keyspace).await.map_err(fleet_status)?;
        let workloads = workloads
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
        let mut unknown = Vec::new();
        let (header, containers) = if request.untracked {
            let (header, rows, not_known) = self.untracked(&filter).await.map_err(fleet_status)?;
            unknown = not_known;
            let row = |row: Value| v1::FleetRow {
                json: row.to_string(),
                ..v1::FleetRow::default()
            };
            (header, rows.into_iter().map(row).collect())
        } else {
            let shown = containers(&self.keyspace, &self.reconcilers.absences, &filter).await;
            let (header, rows) = shown.map_err(fleet_status)?;
            (header, rows.iter().map(joined_row).collect())
        };
        Ok(Response::new(v1::ListContainersResponse {
            header: Some(header.into()),
            containers,
            unknown,
        }))
    }

    async fn watch_containers(&self, request: Request<v1::WatchContainersRequest>) -> Answer<JoinedStream> {
        let slot = watch_slot(&request)?;
        let label = watch_label(&request);
        let filter = ContainerFilter::try_from(request.into_inner().filter).map_err(status)?;
        // Of hosts that are absent already; when others become so, their events tell.
        let hosts = View::read_hosts(&self.keyspace).await;
        let (_, mut hosts) = hosts.map_err(fleet_status)?;
        self.reconcilers.absences.tell(&self.keyspace, &mut hosts).await;
        let absent_since = hosts.absent_since;
        let watch = WatchRequest {
            snapshot: true,
            label,
            ..WatchRequest::new(View::ranges())
        };
        let watch = self.keyspace.backend().watch(watch).await.map_err(status)?;
        Ok(Response::new(JoinedStream::new(
            watch,
            slot,
            filter,
            self.metrics.clone(),
            absent_since,
        )))
    }

    async fn list_hosts(&self, _: Request<v1::ListHostsRequest>) -> Answer<v1::ListHostsResponse> {
        let (header, hosts) = self.hosts().await.map_err(fleet_status)?;
        Ok(Response::new(v1::ListHostsResponse {
            header: Some(header.into()),
            hosts,
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
        let told = self.reconcilers.verdicts(&view, host.as_ref());
        let explanations = explanations(&view, &told.verdicts, &request.container, host.as_ref());
        if explanations.is_empty() {
            let container = &request.container;
            let mut message = format!(
                "no host shows a container {container:?}; `tidewatch hosts` tells which hosts are looked at"
            );
            for unknown in &told.unknown {
                message.push_str("; ");
                message.push_str(unknown);
            }
            return Err(not_found("container", message));
        }
        Ok(Response::new(v1::ExplainResponse {
            header: Some(header.into()),
            explanations,
        }))
    }

    async fn log(&self, request: Request<v1::LogRequest>) -> Answer<v1::LogResponse> {
        let request = request.into_inner();
        let query = LogQuery {
            since: time("since", request.since)?,
            until: time("until", request.until)?,
            workload: named("workload", &request.workload).map_err(status)?,
            limit: request.limit,
        };
        let log = query.run(&self.keyspace, &self.log_turns).await;
        Ok(Response::new(log.map_err(status)?))
    }

    async fn report_host(&self, request: Request<v1::ReportHostRequest>) -> Answer<v1::ReportHostResponse> {
        let taken = self
            .reconcilers
            .reports
            .take(&self.keyspace, request.into_inner())
            .await;
        Ok(Response::new(taken.map_err(status)?))
    }
}

impl FleetService {
    async fn view(&self) -> Result<(Header, View), Status> {
        let (header, mut view) = View::read(&self.keyspace).await.map_err(fleet_status)?;
        self.reconcilers.absences.tell(&self.keyspace, &mut view).await;
        Ok((header, view))
    }

    async fn header(&self, revision: Revision) -> Result<Header, Status> {
        let keyspace = self.keyspace.status().await.map_err(status)?.keyspace;
        Ok(Header { keyspace, revision })
    }

    /// The containers that have no row, and why; and what is not known of that, for people.
    ///
    /// # Errors
    /// Those of [`View::read_hosts`].
    pub(crate) async fn untracked(
        &self,
        filter: &ContainerFilter,
    ) -> Result<(Header, Vec<Value>, Vec<String>), tidewatch_fleet::Error> {
        let (header, mut view) = View::read_hosts(&self.keyspace).await?;
        self.reconcilers.absences.tell(&self.keyspace, &mut view).await;
        let told = self.reconcilers.verdicts(&view, filter.host());
        let shown = told
            .verdicts
            .iter()
            .filter(|(_, verdict)| verdict.row.is_none() && filter.passes_state(verdict.state));
        let rows = shown.map(|(host, verdict)| {
            json!({
                "host": host,
                "container_id": verdict.container_id,
                "name": verdict.name,
                "image_ref": verdict.image_ref,
                "state": verdict.state,
                "reason": verdict.reason,
                "message": verdict.message,
            })
        });
        Ok((header, rows.collect(), told.unknown))
    }

    /// The hosts, with what is known beyond their keys.
    ///
    /// # Errors
    /// Those of [`View::read_hosts`].
    pub(crate) async fn hosts(&self) -> Result<(Header, Vec<v1::FleetRow>), tidewatch_fleet::Error> {
        let (header, mut view) = View::read_hosts(&self.keyspace).await?;
        self.reconcilers.absences.tell(&self.keyspace, &mut view).await;
        // A host that its reconciler has not been able to write about yet is one all the same.
        let names: Vec<_> = self.reconcilers.names().chain(hosts_in(&view)).cloned().collect();
        for host in names {
            view.hosts.entry(host).or_insert_with(|| Entry {
                value: Host::default(),
                mod_revision: Revision(0),
            });
        }
        let hosts = view
            .hosts
            .iter()
            .map(|(host, entry)| self.host(&view, host, entry));
        Ok((header, hosts.collect()))
    }

    /// A host's key with what is known beyond it.
    fn host(&self, view: &View, host: &HostName, entry: &Entry<Host>) -> v1::FleetRow {
        let mut told = entry.value.clone();
        let alive = view.alive.get(host);
        told.extra.insert("host".into(), json!(host));
        told.extra.insert("alive".into(), json!(alive.is_some()));
        if let Some(alive) = alive {
            told.extra.insert("instance".into(), json!(alive.value.instance));
            if !alive.value.by.is_empty() {
                told.extra.insert("by".into(), json!(alive.value.by));
            }
        }
        let time =
            |time: Option<SystemTime>| time.map(|time| humantime::format_rfc3339_millis(time).to_string());
        if let Some(report) = self.reconcilers.of(view, host) {
            // What is told is at least as new as what was written.
            if let Some(reachable) = report.reachable {
                told.reachable = reachable;
                told.since = time(report.since).unwrap_or(told.since);
            }
            told.error = report.error;
            let lag_ms = u64::try_from(report.lag.as_millis()).unwrap_or(u64::MAX);
            for (field, value) in [
                ("lag_ms", json!(lag_ms)),
                ("last_sync", json!(time(report.last_sync))),
                ("resyncs", json!(report.resyncs)),
                ("drift", json!(report.drift)),
                ("containers", json!(report.containers)),
            ] {
                told.extra.insert(field.into(), value);
            }
        } else if alive.is_none() {
            told.reachable = false;
            told.since = time(self.reconcilers.absences.since(host)).unwrap_or_default();
            "nobody reconciles this host; is its agent running, and can it reach this server?"
                .clone_into(&mut told.error);
        } else if entry.mod_revision == Revision(0) {
            "its reconciler has claimed it, and not told yet how its Docker is".clone_into(&mut told.error);
        }
        row(&FleetKey::Host(host.clone()), entry.mod_revision, &told)
    }
}

fn time<T>(what: &'static str, time: Option<T>) -> Result<Option<SystemTime>, Status>
where
    T: TryInto<SystemTime, Error: Display>,
{
    let time = time.map(TryInto::try_into).transpose();
    time.map_err(|error| {
        let reason = error.to_string();
        status(Error::InvalidArgument { what, reason })
    })
}

fn explanations(
    view: &View,
    verdicts: &[(HostName, ContainerVerdict)],
    container: &str,
    host: Option<&HostName>,
) -> Vec<v1::Explanation> {
    let joined = view.joined();
    let rows: BTreeMap<_, _> = joined.iter().map(|row| (row.key.as_str(), row)).collect();
    let meant = verdicts.iter().filter(|(_, verdict)| verdict.is_about(container));
    let mut told: Vec<_> = meant
        .map(|(host, verdict)| explanation(&rows, host, verdict))
        .collect();
    // Rows of containers that no reconciler is known to see: gone, or on a host of which nothing is told.
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

fn explanation(
    rows: &BTreeMap<&str, &JoinedRow>,
    host: &HostName,
    verdict: &ContainerVerdict,
) -> v1::Explanation {
    let row = verdict.row.as_deref().and_then(|key| rows.get(key).copied());
    v1::Explanation {
        host: host.to_string(),
        container_id: verdict.container_id.clone(),
        name: verdict.name.clone(),
        row: row.map(joined_row),
        reason: verdict.reason.clone(),
        message: verdict.message.clone(),
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

/// A value of the fleet as it travels.
pub(crate) fn row(key: &FleetKey, revision: Revision, value: &impl Serialize) -> v1::FleetRow {
    v1::FleetRow {
        key: key.to_string(),
        mod_revision: revision.0,
        json: text(value),
    }
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("the fleet's types have text keys and no failing parts")
}
