//! The calls on the fleet, and the watch of its containers.

#![expect(
    clippy::unnecessary_wraps,
    reason = "it stands in lists in which others fail, or in fields"
)]

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_core::Stream;
use futures_util::StreamExt as _;
use serde_json::json;
use tidewatch_client::{
    Client, ContainerFilter, ContainerUpdate, ContainerWatch, EndReason, Ended, Error, ErrorKind, HostClaim,
    LogQuery, ReportTaken, Revision,
};
use tidewatch_core::{KeyspaceId, LeaseId};
use tidewatch_fleet::{ContainerVerdict, HostReport, Kind, State, Verdicts, Workload};
use tidewatch_proto::v1::fleet_server::FleetServer;
use tidewatch_proto::v1::watch_containers_response::{RemovedRow, Response as Said};
use tidewatch_proto::{error, v1};
use tonic::{Request, Response, Status};

use crate::fake::{KEYSPACE, serve, soon};

/// A lease under which no verdicts arrive.
const BROKEN: i64 = 9;

type Script = Vec<Result<Said, Status>>;

/// A server with one workload, whose watches say one after the other what was planned.
#[derive(Clone, Default)]
struct Fleet {
    watches: Arc<Mutex<VecDeque<Script>>>,
    declared: Arc<Mutex<Vec<String>>>,
    /// Whether a report had verdicts, and from where it came.
    reports: Arc<Mutex<Vec<(bool, SocketAddr)>>>,
}

type Answer<T> = Result<Response<T>, Status>;

fn header() -> Option<v1::ResponseHeader> {
    let (keyspace_id, revision) = (KEYSPACE, 5);
    Some(v1::ResponseHeader {
        keyspace_id,
        revision,
    })
}

fn row(key: &str, json: &str) -> v1::FleetRow {
    v1::FleetRow {
        key: key.into(),
        mod_revision: 4,
        json: json.into(),
    }
}

#[tonic::async_trait]
impl v1::fleet_server::Fleet for Fleet {
    type WatchContainersStream =
        Pin<Box<dyn Stream<Item = Result<v1::WatchContainersResponse, Status>> + Send>>;

    async fn list_workloads(
        &self,
        _: Request<v1::ListWorkloadsRequest>,
    ) -> Answer<v1::ListWorkloadsResponse> {
        Ok(Response::new(v1::ListWorkloadsResponse {
            header: header(),
            workloads: vec![row(
                "/workloads/shop",
                r#"{"id":"shop","kind":"stack","owner":{"team":"x"}}"#,
            )],
        }))
    }

    async fn declare_workload(
        &self,
        request: Request<v1::DeclareWorkloadRequest>,
    ) -> Answer<v1::DeclareWorkloadResponse> {
        let json = request.into_inner().json;
        self.declared.lock().unwrap().push(json.clone());
        Ok(Response::new(v1::DeclareWorkloadResponse {
            header: header(),
            workload: Some(row("/workloads/shop", &json)),
        }))
    }

    async fn remove_workload(
        &self,
        request: Request<v1::RemoveWorkloadRequest>,
    ) -> Answer<v1::RemoveWorkloadResponse> {
        let request = request.into_inner();
        match (request.id.as_str(), request.force) {
            ("shop", true) => Ok(Response::new(v1::RemoveWorkloadResponse {
                header: header(),
                deleted: 3,
            })),
            ("shop", false) => Err(error::refused(
                "workload",
                "workload shop has deploy rows; remove it with force",
            )),
            (id, _) => Err(error::not_found("workload", format!("workload {id} not found"))),
        }
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Answer<v1::ListContainersResponse> {
        let request = request.into_inner();
        let host = request.filter.unwrap_or_default().host;
        let containers = if request.untracked {
            vec![row("", r#"{"name":"stray","reason":"not_labelled"}"#)]
        } else {
            vec![row(
                "/containers/shop/h1/web",
                &json!({ "host": host, "state": "running" }).to_string(),
            )]
        };
        Ok(Response::new(v1::ListContainersResponse {
            header: header(),
            containers,
            unknown: vec!["host h3 is not known".to_owned()],
        }))
    }

    async fn watch_containers(
        &self,
        _: Request<v1::WatchContainersRequest>,
    ) -> Answer<Self::WatchContainersStream> {
        let said = self.watches.lock().unwrap().pop_front().unwrap_or_default();
        let said = tokio_stream::iter(said).map(|said| {
            said.map(|response| v1::WatchContainersResponse {
                response: Some(response),
            })
        });
        Ok(Response::new(Box::pin(said)))
    }

    async fn list_hosts(&self, _: Request<v1::ListHostsRequest>) -> Answer<v1::ListHostsResponse> {
        Ok(Response::new(v1::ListHostsResponse {
            header: header(),
            hosts: vec![row("/hosts/h1", "[1,2]")],
        }))
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Answer<v1::ExplainResponse> {
        let explanations = match request.into_inner().container.as_str() {
            "web" => vec![v1::Explanation {
                name: "web".into(),
                row: Some(v1::FleetRow::default()),
                reason: "unknown_workload".into(),
                ..v1::Explanation::default()
            }],
            _ => Vec::new(),
        };
        Ok(Response::new(v1::ExplainResponse {
            header: header(),
            explanations,
        }))
    }

    async fn log(&self, request: Request<v1::LogRequest>) -> Answer<v1::LogResponse> {
        let entry = v1::LogEntry {
            revision: 4,
            key: "/containers/shop/h1/web".into(),
            workload: request.into_inner().workload,
            state_after: "running".into(),
            message: "web is running".into(),
            json: r#"{"state":"running"}"#.into(),
            ..v1::LogEntry::default()
        };
        Ok(Response::new(v1::LogResponse {
            header: header(),
            entries: vec![entry],
            more: true,
            history_begins: 3,
        }))
    }

    async fn report_host(
        &self,
        request: Request<v1::ReportHostRequest>,
    ) -> Result<Response<v1::ReportHostResponse>, Status> {
        let from = request.remote_addr().unwrap();
        let request = request.into_inner();
        self.reports
            .lock()
            .unwrap()
            .push((request.verdicts.is_some(), from));
        if request.lease == BROKEN && request.verdicts.is_some() {
            return Err(Status::unavailable("the line"));
        }
        let report = request.report.unwrap();
        assert_eq!(
            (
                request.host.as_str(),
                request.claimed,
                request.sequence,
                report.lag_us,
                report.drift
            ),
            ("h1", 4, 9, 1_500, 3)
        );
        Ok(Response::new(v1::ReportHostResponse {
            held: request.lease == 7,
            wants_verdicts: request
                .verdicts
                .is_none_or(|told| told.verdicts[0].row != "/containers/a/h1/web"),
            ..v1::ReportHostResponse::default()
        }))
    }
}

async fn client(fleet: &Fleet) -> Client {
    let endpoint = serve(FleetServer::new(fleet.clone())).await;
    Client::builder(endpoint).connect().await.unwrap()
}

#[tokio::test]
async fn rows_arrive_with_fields_that_nobody_here_knows() {
    let fleet = Fleet::default();
    let client = client(&fleet).await;
    let [shop] = &client.workloads().await.unwrap()[..] else {
        panic!("not one workload")
    };
    assert_eq!(
        (shop.key.as_str(), shop.mod_revision),
        ("/workloads/shop", Revision(4))
    );
    assert_eq!((shop.text("id"), shop.text("nothing")), ("shop", ""));
    let workload: Workload = shop.parse().unwrap();
    assert_eq!(workload.kind, Kind::Stack);

    let declared = client.declare_workload(&workload).await.unwrap();
    assert_eq!(declared.fields["owner"], json!({ "team": "x" }));
    assert_eq!(fleet.declared.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_the_server_does_not_do_has_a_kind_of_its_own() {
    let client = client(&Fleet::default()).await;
    let shop = "shop".parse().unwrap();
    assert_eq!(
        client.remove_workload(&shop, true).await.unwrap(),
        (3, Revision(5))
    );
    let refused = client.remove_workload(&shop, false).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert_eq!(
        refused.to_string(),
        "workload shop has deploy rows; remove it with force"
    );
    let missing = client
        .remove_workload(&"none".parse().unwrap(), true)
        .await
        .unwrap_err();
    assert_eq!(
        (missing.kind(), missing.to_string()),
        (ErrorKind::NotFound, "workload none not found".into())
    );
    let malformed = client.hosts().await.unwrap_err();
    assert!(matches!(malformed, Error::Protocol { .. }), "{malformed}");
}

#[tokio::test]
async fn containers_explanations_and_the_log_arrive() {
    let client = client(&Fleet::default()).await;
    let filter = ContainerFilter {
        host: "h1".into(),
        ..ContainerFilter::default()
    };
    assert_eq!(
        client.containers(filter.clone()).await.unwrap()[0].text("host"),
        "h1"
    );
    let (untracked, unknown) = client.untracked(filter).await.unwrap();
    assert_eq!(untracked[0].text("reason"), "not_labelled");
    assert_eq!(unknown, ["host h3 is not known"]);

    let explained = client.explain("web", None).await.unwrap();
    assert_eq!(
        (explained[0].reason.as_str(), &explained[0].row),
        ("unknown_workload", &None)
    );
    let unknown = client.explain("nobody", Some("h1")).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);

    let query = LogQuery {
        workload: "shop".into(),
        ..LogQuery::default()
    };
    let log = client.log(query).await.unwrap();
    assert!(log.more);
    assert_eq!(log.history_begins, Some(Revision(3)));
    assert_eq!(
        (log.entries[0].workload.as_str(), &log.entries[0].prev_value),
        ("shop", &None)
    );
    assert_eq!(
        log.entries[0].to_string(),
        "4 /containers/shop/h1/web: web is running"
    );
}

fn created(keyspace_id: u64) -> Result<Said, Status> {
    Ok(Said::Created(v1::WatchCreated {
        keyspace_id,
        revision: 5,
        ..v1::WatchCreated::default()
    }))
}

fn begin(revision: u64) -> Result<Said, Status> {
    Ok(Said::SnapshotBegin(v1::WatchSnapshotBegin { revision }))
}

fn ended(reason: EndReason) -> Result<Said, Status> {
    let ended = Ended {
        reason,
        last_delivered: None,
        resume: None,
    };
    Ok(Said::Ended((&ended).into()))
}

async fn next(watch: &mut ContainerWatch) -> Result<ContainerUpdate, Ended> {
    soon("an update", watch.next()).await
}

#[tokio::test]
async fn a_watch_of_containers_that_breaks_off_begins_anew() {
    let fleet = Fleet::default();
    fleet.watches.lock().unwrap().extend([
        vec![
            created(KEYSPACE),
            begin(5),
            Ok(Said::Row(row("/containers/shop/h1/web", "{}"))),
        ],
        vec![Err(Status::unavailable("not yet"))],
        vec![
            created(KEYSPACE),
            ended(EndReason::Compacted {
                requested: Revision(1),
                oldest: Revision(2),
            }),
        ],
        vec![
            created(KEYSPACE),
            begin(8),
            Ok(Said::SnapshotEnd(v1::WatchSnapshotEnd { revision: 8 })),
            Ok(Said::Removed(RemovedRow {
                key: "/containers/shop/h1/web".into(),
                revision: 9,
            })),
            ended(EndReason::Canceled),
        ],
    ]);
    let client = client(&fleet).await;
    let mut watch = client.watch_containers(ContainerFilter::default()).await.unwrap();
    assert_eq!(
        next(&mut watch).await.unwrap(),
        ContainerUpdate::SnapshotBegin(Revision(5))
    );
    assert!(
        matches!(next(&mut watch).await.unwrap(), ContainerUpdate::Row(row) if row.key == "/containers/shop/h1/web")
    );
    assert_eq!(
        next(&mut watch).await.unwrap(),
        ContainerUpdate::SnapshotBegin(Revision(8))
    );
    assert_eq!(
        next(&mut watch).await.unwrap(),
        ContainerUpdate::SnapshotEnd(Revision(8))
    );
    let removed = ContainerUpdate::Removed {
        key: "/containers/shop/h1/web".into(),
        revision: Revision(9),
    };
    assert_eq!(next(&mut watch).await.unwrap(), removed);
    assert!(matches!(
        next(&mut watch).await.unwrap_err().reason,
        EndReason::Canceled
    ));
    assert!(matches!(
        next(&mut watch).await.unwrap_err().reason,
        EndReason::Canceled
    ));
}

#[tokio::test]
async fn a_watch_of_containers_ends_when_its_keyspace_is_another() {
    let fleet = Fleet::default();
    fleet
        .watches
        .lock()
        .unwrap()
        .extend([vec![created(KEYSPACE)], vec![created(8), begin(5)]]);
    let client = client(&fleet).await;
    let mut watch = client.watch_containers(ContainerFilter::default()).await.unwrap();
    let ended = next(&mut watch).await.unwrap_err();
    assert!(
        matches!(
            ended.reason,
            EndReason::KeyspaceChanged {
                actual: KeyspaceId(8),
                ..
            }
        ),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_report_arrives_as_it_was_told_and_its_answer_too() {
    let client = client(&Fleet::default()).await;
    for (lease, verdicts, held, wants_verdicts) in [(7, true, true, false), (8, false, false, true)] {
        let taken = report_host(&client, lease, verdicts).await.unwrap();
        assert_eq!((taken.held, taken.wants_verdicts), (held, wants_verdicts));
    }
}

#[tokio::test]
async fn verdicts_travel_on_a_connection_of_their_own_and_when_that_fails_renewals_stay() {
    let (first, second) = (Fleet::default(), Fleet::default());
    let client = Client::builder(serve(FleetServer::new(first.clone())).await)
        .endpoint(serve(FleetServer::new(second.clone())).await)
        .connect()
        .await
        .unwrap();
    for lease in [7, BROKEN] {
        report_host(&client, lease, false).await.unwrap();
        assert_eq!(report_host(&client, lease, true).await.is_ok(), lease != BROKEN);
        report_host(&client, lease, false).await.unwrap();
    }
    let reports = std::mem::take(&mut *first.reports.lock().unwrap());
    let from = |verdicts| {
        let of_that_kind = reports.iter().filter(move |report| report.0 == verdicts);
        of_that_kind.map(|report| report.1).collect::<HashSet<_>>()
    };
    let (renewals, uploads) = (from(false), from(true));
    assert_eq!(renewals.len(), 1, "{reports:?}");
    assert!(
        uploads.len() >= 2 && uploads.is_disjoint(&renewals),
        "{reports:?}"
    );
    assert!(second.reports.lock().unwrap().is_empty());
}

/// Tells of a host under a lease, if wanted with verdicts.
async fn report_host(
    client: &Client,
    lease: i64,
    verdicts: bool,
) -> Result<ReportTaken, tidewatch_core::Error> {
    let report = HostReport {
        lag: std::time::Duration::from_micros(1_500),
        drift: 3,
        ..HostReport::default()
    };
    let verdict = ContainerVerdict {
        container_id: "c1".into(),
        name: "web".into(),
        image_ref: String::new(),
        state: State::Running,
        row: Some("/containers/a/h1/web".into()),
        reason: "labels".into(),
        message: String::new(),
    };
    let told = verdicts.then(|| Verdicts::bounded([verdict]));
    let claim = HostClaim {
        host: "h1".parse().unwrap(),
        lease: LeaseId(lease),
        claimed: Revision(4),
    };
    let now = std::time::SystemTime::UNIX_EPOCH;
    client
        .report_host(&claim, &report, now, 9, (1, told.as_ref()))
        .await
}
