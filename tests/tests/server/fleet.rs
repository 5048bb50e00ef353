//! `tidewatch.v1.Fleet`: workloads, containers, hosts and their log.

use serde_json::{Value, json};
use tidewatch_proto::v1;
use tidewatch_proto::v1::fleet_client::FleetClient;
use tidewatch_proto::v1::watch_containers_response::Response as Message;
use tidewatch_proto::v1::watch_ended::Reason;
use tidewatch_server::Config;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::rig::{TestServer, config, key, prefix, put, within, without_docker_at};

/// A server, its fleet, and a way to write rows as reconcilers and deployers do.
pub(crate) struct Fleet {
    pub(crate) server: TestServer,
    client: FleetClient<Channel>,
}

impl Fleet {
    pub(crate) async fn start() -> Self {
        let server = TestServer::start().await;
        let client = FleetClient::new(server.channel().await);
        Self { server, client }
    }

    pub(crate) async fn put(&self, key: &str, value: &Value) -> u64 {
        let response = self
            .server
            .keyspace()
            .await
            .put(put(key, value.to_string()))
            .await
            .unwrap();
        response.into_inner().header.unwrap().revision
    }

    pub(crate) async fn delete(&self, range: v1::KeyRange) {
        let request = v1::DeleteRequest {
            range: Some(range),
            prev_kv: false,
        };
        self.server.keyspace().await.delete(request).await.unwrap();
    }

    pub(crate) async fn declare(&mut self, workload: &Value) -> v1::DeclareWorkloadResponse {
        let request = v1::DeclareWorkloadRequest {
            json: workload.to_string(),
        };
        self.client.declare_workload(request).await.unwrap().into_inner()
    }

    /// The workload `shop` with a running and a stopped container on the live host `h1`.
    pub(crate) async fn with_shop() -> Self {
        let mut fleet = Self::start().await;
        fleet.declare(&json!({"id": "shop", "kind": "stack"})).await;
        fleet.put("/alive/h1", &json!({"instance": "i1"})).await;
        fleet
            .put("/hosts/h1", &json!({"reachable": true, "daemon_id": "d1"}))
            .await;
        fleet
            .put("/containers/shop/h1/web", &container("web", "running"))
            .await;
        fleet
            .put("/containers/shop/h1/db", &container("db", "stopped"))
            .await;
        fleet
    }

    async fn list(&mut self, filter: v1::ContainerFilter) -> Vec<Value> {
        let request = v1::ListContainersRequest {
            filter: Some(filter),
            untracked: false,
        };
        let response = self.client.list_containers(request).await.unwrap().into_inner();
        response.containers.iter().map(json_of).collect()
    }
}

pub(crate) fn container(row: &str, state: &str) -> Value {
    json!({
        "id": format!("shop:{row}"), "workload_id": "shop", "workload_kind": "stack", "role": row, "host": "h1",
        "container_id": format!("{row}00000"), "name": format!("shop-{row}-1"), "state": state, "gpu": 1,
    })
}

fn json_of(row: &v1::FleetRow) -> Value {
    serde_json::from_str(&row.json).unwrap()
}

fn states(rows: &[Value]) -> Vec<(&str, &str)> {
    rows.iter()
        .map(|row| (row["row"].as_str().unwrap(), row["state"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn a_workload_is_declared_changed_listed_and_removed() {
    let mut fleet = Fleet::start().await;
    let first = fleet
        .declare(&json!({"id": "shop", "kind": "stack", "owner": "me"}))
        .await;
    let again = fleet
        .declare(&json!({"id": "shop", "kind": "stack", "name": "The shop"}))
        .await;
    assert!(again.header.unwrap().revision > first.header.unwrap().revision);
    let row = again.workload.unwrap();
    assert_eq!(
        (row.key.as_str(), row.mod_revision),
        ("/workloads/shop", again.header.unwrap().revision)
    );
    let stored = json_of(&row);
    assert_eq!(
        (&stored["name"], &stored["owner"]),
        (&json!("The shop"), &json!("me")),
        "unknown fields are kept"
    );

    let list = fleet
        .client
        .list_workloads(v1::ListWorkloadsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(list.workloads.iter().map(json_of).collect::<Vec<_>>(), [stored]);

    fleet
        .put("/containers/shop/h1/web", &container("web", "running"))
        .await;
    let remove = v1::RemoveWorkloadRequest {
        id: "shop".into(),
        force: false,
    };
    let removed = fleet
        .client
        .remove_workload(remove.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(removed.deleted, 2, "its rows go too");
    let status = fleet.client.remove_workload(remove).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
}

#[tokio::test]
async fn a_workload_with_deploy_rows_is_removed_by_force_only() {
    let mut fleet = Fleet::with_shop().await;
    fleet.put("/deploy/shop/web", &json!({"role": "web"})).await;
    let mut remove = v1::RemoveWorkloadRequest {
        id: "shop".into(),
        force: false,
    };
    let status = fleet.client.remove_workload(remove.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains("/deploy/shop/web"), "{status}");
    remove.force = true;
    assert_eq!(
        fleet
            .client
            .remove_workload(remove)
            .await
            .unwrap()
            .into_inner()
            .deleted,
        4
    );
}

#[tokio::test]
async fn a_workload_that_is_none_is_refused_with_what_is_wrong() {
    let mut fleet = Fleet::start().await;
    for (json, code, says) in [
        ("{", Code::InvalidArgument, "EOF"),
        (r#"{"kind":"stack"}"#, Code::InvalidArgument, "missing field `id`"),
        (
            r#"{"id":"a b","kind":"stack"}"#,
            Code::InvalidArgument,
            "' ' at byte 1",
        ),
        (
            r#"{"id":"a","kind":"pod"}"#,
            Code::InvalidArgument,
            "one of stack, project, image, compose, static",
        ),
        (
            r#"{"id":"compose-a","kind":"compose"}"#,
            Code::FailedPrecondition,
            "reserved",
        ),
        (
            r#"{"id":"a","kind":"compose"}"#,
            Code::FailedPrecondition,
            "kind \"compose\" is reserved",
        ),
    ] {
        let request = v1::DeclareWorkloadRequest { json: json.into() };
        let status = fleet.client.declare_workload(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{json}: {status}");
        assert!(status.message().contains(says), "{json}: {status}");
    }
    let request = v1::RemoveWorkloadRequest {
        id: "../x".into(),
        force: false,
    };
    let status = fleet.client.remove_workload(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
}

#[tokio::test]
async fn containers_are_listed_joined_and_filtered() {
    let mut fleet = Fleet::with_shop().await;
    fleet.put("/deploy/shop/web", &json!({"image_tag": "v7"})).await;
    fleet.put("/deploy/shop/cache", &json!({"host": "h2"})).await;
    let all = fleet.list(v1::ContainerFilter::default()).await;
    assert_eq!(
        states(&all),
        [("cache", "starting"), ("db", "stopped"), ("web", "running")]
    );
    assert_eq!((&all[2]["image_tag"], &all[2]["gpu"]), (&json!("v7"), &json!(1)));

    let filter = |workload: &str, host: &str, state: &str| v1::ContainerFilter {
        workload: workload.into(),
        host: host.into(),
        state: state.into(),
    };
    assert_eq!(
        states(&fleet.list(filter("", "h2", "")).await),
        [("cache", "starting")]
    );
    assert_eq!(
        states(&fleet.list(filter("shop", "h1", "running")).await),
        [("web", "running")]
    );
    assert!(fleet.list(filter("other", "", "")).await.is_empty());
    for (bad, says) in [
        (filter("a b", "", ""), "workload"),
        (filter("", "", "up"), "must be one of starting"),
    ] {
        let request = v1::ListContainersRequest {
            filter: Some(bad),
            untracked: false,
        };
        let status = fleet.client.list_containers(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(says), "{status}");
    }
}

#[tokio::test]
async fn rows_of_a_host_that_nobody_looks_after_read_as_unknown() {
    let mut fleet = Fleet::with_shop().await;
    fleet.delete(key("/alive/h1")).await;
    let all = fleet.list(v1::ContainerFilter::default()).await;
    assert_eq!(states(&all), [("db", "unknown"), ("web", "unknown")]);
}

async fn next(stream: &mut Streaming<v1::WatchContainersResponse>) -> Message {
    let message = within("a change of the containers", stream.message())
        .await
        .unwrap();
    message.expect("the stream goes on").response.unwrap()
}

#[tokio::test]
async fn watched_containers_begin_with_a_snapshot_and_enter_and_leave_a_filter() {
    let mut fleet = Fleet::with_shop().await;
    let request = v1::WatchContainersRequest {
        filter: Some(v1::ContainerFilter {
            state: "running".into(),
            ..v1::ContainerFilter::default()
        }),
    };
    let mut stream = fleet.client.watch_containers(request).await.unwrap().into_inner();
    assert!(matches!(next(&mut stream).await, Message::Created(_)));
    assert!(matches!(next(&mut stream).await, Message::SnapshotBegin(_)));
    let Message::Row(row) = next(&mut stream).await else {
        panic!("the row is missing")
    };
    assert_eq!(row.key, "/containers/shop/h1/web");
    assert!(matches!(next(&mut stream).await, Message::SnapshotEnd(_)));

    fleet
        .put("/containers/shop/h1/db", &container("db", "paused"))
        .await;
    let revision = fleet
        .put("/containers/shop/h1/db", &container("db", "running"))
        .await;
    let Message::Row(row) = next(&mut stream).await else {
        panic!("the row is missing")
    };
    assert_eq!(
        (row.key.as_str(), row.mod_revision),
        ("/containers/shop/h1/db", revision)
    );

    let revision = fleet
        .put("/containers/shop/h1/web", &container("web", "stopped"))
        .await;
    let Message::Removed(removed) = next(&mut stream).await else {
        panic!("it is still there")
    };
    assert_eq!(
        (removed.key.as_str(), removed.revision),
        ("/containers/shop/h1/web", revision)
    );

    fleet.delete(prefix("/containers/shop/")).await;
    let Message::Removed(removed) = next(&mut stream).await else {
        panic!("it is still there")
    };
    assert_eq!(removed.key, "/containers/shop/h1/db");

    fleet.server.drain();
    let Message::Ended(ended) = next(&mut stream).await else {
        panic!("it does not end")
    };
    assert!(matches!(ended.reason, Some(Reason::Draining(_))), "{ended:?}");
    assert!(stream.message().await.unwrap().is_none());
}

#[tokio::test]
async fn watched_containers_become_unknown_when_their_host_is_given_up() {
    let mut fleet = Fleet::with_shop().await;
    let request = v1::WatchContainersRequest { filter: None };
    let mut stream = fleet.client.watch_containers(request).await.unwrap().into_inner();
    while !matches!(next(&mut stream).await, Message::SnapshotEnd(_)) {}
    fleet.delete(key("/alive/h1")).await;
    for _ in 0..2 {
        let Message::Row(row) = next(&mut stream).await else {
            panic!("no row")
        };
        assert_eq!(json_of(&row)["state"], "unknown");
    }
}

#[tokio::test]
async fn hosts_tell_whether_somebody_looks_after_them() {
    let mut fleet = Fleet::with_shop().await;
    fleet.put("/hosts/h2", &json!({"reachable": true})).await;
    let hosts = fleet
        .client
        .list_hosts(v1::ListHostsRequest {})
        .await
        .unwrap()
        .into_inner()
        .hosts;
    let keys: Vec<_> = hosts.iter().map(|host| host.key.as_str()).collect();
    assert_eq!(keys, ["/hosts/h1", "/hosts/h2"]);
    let (first, second) = (json_of(&hosts[0]), json_of(&hosts[1]));
    assert_eq!(
        (&first["alive"], &first["instance"], &first["reachable"]),
        (&json!(true), &json!("i1"), &json!(true))
    );
    assert_eq!(
        (&second["alive"], &second["reachable"]),
        (&json!(false), &json!(false))
    );
    assert!(second["error"].as_str().unwrap().contains("nobody"), "{second}");
}

#[tokio::test]
async fn the_log_tells_what_happened_oldest_first_and_only_what_was_asked_for() {
    let mut fleet = Fleet::with_shop().await;
    let last = fleet
        .put("/containers/shop/h1/web", &container("web", "stopped"))
        .await;
    fleet.put("/unrelated", &json!({})).await;
    let query = v1::LogRequest::default();
    let log = fleet.client.log(query.clone()).await.unwrap().into_inner();
    let keys: Vec<_> = log.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "/workloads/shop",
            "/alive/h1",
            "/hosts/h1",
            "/containers/shop/h1/web",
            "/containers/shop/h1/db",
            "/containers/shop/h1/web"
        ]
    );
    let newest = log.entries.last().unwrap();
    assert_eq!(
        (newest.revision, newest.workload.as_str(), newest.host.as_str()),
        (last, "shop", "h1")
    );
    assert_eq!(
        (newest.state_before.as_str(), newest.state_after.as_str()),
        ("running", "stopped")
    );
    assert!(newest.message.contains("running → stopped"), "{}", newest.message);
    assert!(newest.time.is_some() && !log.more);
    assert_eq!(log.history_begins, 0);

    let limited = v1::LogRequest {
        limit: 1,
        workload: "shop".into(),
        ..query.clone()
    };
    let limited = fleet.client.log(limited).await.unwrap().into_inner();
    assert_eq!(
        (limited.entries.len(), limited.entries[0].revision, limited.more),
        (1, last, true)
    );

    let later = prost_types::Timestamp {
        seconds: newest.time.unwrap().seconds + 3600,
        nanos: 0,
    };
    let later = v1::LogRequest {
        since: Some(later),
        ..query
    };
    assert!(
        fleet
            .client
            .log(later)
            .await
            .unwrap()
            .into_inner()
            .entries
            .is_empty()
    );
}

#[tokio::test]
async fn a_log_that_does_not_reach_back_says_where_it_begins() {
    let mut fleet = Fleet::with_shop().await;
    let revision = fleet
        .put("/containers/shop/h1/web", &container("web", "stopped"))
        .await;
    fleet
        .server
        .keyspace()
        .await
        .compact(v1::CompactRequest { revision })
        .await
        .unwrap();
    let log = fleet
        .client
        .log(v1::LogRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!((log.entries.len(), log.history_begins), (1, revision));
    assert_eq!(
        log.entries[0].state_before, "running",
        "what was before is known all the same"
    );
}

#[tokio::test]
async fn a_container_nobody_knows_is_not_found_and_one_that_is_gone_is_remembered() {
    let mut fleet = Fleet::with_shop().await;
    let explain = |container: &str| v1::ExplainRequest {
        container: container.into(),
        host: String::new(),
    };
    let status = fleet.client.explain(explain("nobody")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
    let status = fleet.client.explain(explain("")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    for name in ["shop-web-1", "web00", "/shop-web-1"] {
        let told = fleet
            .client
            .explain(explain(name))
            .await
            .unwrap()
            .into_inner()
            .explanations;
        assert_eq!(told.len(), 1);
        assert_eq!(
            (told[0].reason.as_str(), told[0].host.as_str()),
            ("not_seen", "h1")
        );
        assert_eq!(told[0].row.as_ref().unwrap().key, "/containers/shop/h1/web");
    }
}

#[tokio::test]
async fn without_a_docker_the_server_serves_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::with(without_docker_at(dir.path())).await;
    let mut client = FleetClient::new(server.channel().await);
    let told = within("the host to be told", async {
        loop {
            let hosts = client
                .list_hosts(v1::ListHostsRequest {})
                .await
                .unwrap()
                .into_inner()
                .hosts;
            let told = json_of(&hosts[0]);
            assert_eq!((hosts.len(), hosts[0].key.as_str()), (1, "/hosts/lonely"));
            if hosts[0].mod_revision > 0 {
                return told;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(
        (&told["reachable"], &told["alive"]),
        (&json!(false), &json!(true)),
        "{told}"
    );
    assert!(told["error"].as_str().unwrap().contains("docker.sock"), "{told}");
    let (.., metrics) = server.get("/metrics").await;
    assert!(
        metrics.contains("tidewatch_reconciler_reachable{host=\"lonely\"} 0\n"),
        "{metrics}"
    );
    server.keyspace().await.put(put("/a", "1")).await.unwrap();
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_goes_gives_its_hosts_up() {
    // It does not wait long for what is to be written. On a slow machine that may be too short, but not every time.
    for _ in 0..3 {
        if is_free_after_a_server().await {
            return;
        }
    }
    panic!("its host is never given up");
}

/// Whether the host of a server that has gone is free.
async fn is_free_after_a_server() -> bool {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        data_dir: Some(dir.path().join("data")),
        ..config()
    };
    let server = TestServer::with(Config {
        data_dir: config.data_dir.clone(),
        ..without_docker_at(dir.path())
    })
    .await;
    let get = v1::GetRequest {
        key: "/alive/lonely".into(),
        ..v1::GetRequest::default()
    };
    let mut client = server.keyspace().await;
    within("the host to be claimed", async {
        while client.get(get.clone()).await.unwrap().into_inner().kv.is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(client);
    server.stop().await.unwrap();

    let server = TestServer::with(config).await;
    let left = server.keyspace().await.get(get).await.unwrap().into_inner();
    left.kv.is_none()
}
