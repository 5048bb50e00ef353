//! What agents tell a server, and what it makes of that.

use serde_json::{Value, json};
use tidewatch_proto::v1;
use tidewatch_proto::v1::fleet_client::FleetClient;
use tonic::transport::Channel;

use crate::rig::{TestServer, put, within, without_docker_at};

/// Longer than any test, so that nothing has to be kept alive in time.
const TTL_MS: u64 = 600_000;

/// Whoever has claimed a host, as an agent does.
struct Agent {
    client: FleetClient<Channel>,
    host: &'static str,
    lease: i64,
    claimed: u64,
}

impl Agent {
    /// Takes the host, whoever has it.
    async fn claim(server: &TestServer, host: &'static str) -> Self {
        let mut keyspace = server.keyspace().await;
        let grant = v1::LeaseGrantRequest {
            ttl_ms: TTL_MS,
            ..v1::LeaseGrantRequest::default()
        };
        let lease = keyspace.lease_grant(grant).await.unwrap().into_inner().id;
        let alive = v1::PutRequest {
            lease: Some(lease),
            ..put(
                &format!("/alive/{host}"),
                json!({"instance": "theirs", "by": "agent on web1"}).to_string(),
            )
        };
        let claimed = keyspace.put(alive).await.unwrap().into_inner();
        Self {
            client: FleetClient::new(server.channel().await),
            host,
            lease,
            claimed: claimed.header.unwrap().revision,
        }
    }

    /// Tells that its Docker answers, and of one container without a row.
    async fn tell(&mut self) -> v1::ReportHostResponse {
        let verdict = v1::ContainerVerdict {
            container_id: "c1".into(),
            name: "lone".into(),
            state: "running".into(),
            reason: "not_labelled".into(),
            message: "it carries no labels".into(),
            ..v1::ContainerVerdict::default()
        };
        let request = v1::ReportHostRequest {
            host: self.host.into(),
            lease: self.lease,
            report: Some(v1::HostReport {
                reachable: Some(true),
                containers: 5,
                drift: 3,
                lag_us: 7_000,
                ..v1::HostReport::default()
            }),
            verdicts_version: 1,
            verdicts: Some(v1::ContainerVerdicts {
                verdicts: vec![verdict],
                omitted: 0,
            }),
            claimed: self.claimed,
            ..v1::ReportHostRequest::default()
        };
        self.client.report_host(request).await.unwrap().into_inner()
    }

    /// Gives the host up.
    async fn leave(self, server: &TestServer) {
        let revoke = v1::LeaseRevokeRequest { id: self.lease };
        server.keyspace().await.lease_revoke(revoke).await.unwrap();
    }
}

async fn hosts(server: &TestServer) -> Vec<Value> {
    let mut client = FleetClient::new(server.channel().await);
    let listed = client.list_hosts(v1::ListHostsRequest {}).await.unwrap();
    let hosts = listed.into_inner().hosts;
    hosts
        .iter()
        .map(|host| serde_json::from_str(&host.json).unwrap())
        .collect()
}

async fn metric(server: &TestServer, name: &str, host: &str) -> Option<String> {
    let (.., metrics) = server.get("/metrics").await;
    let begin = format!("tidewatch_reconciler_{name}{{host=\"{host}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&begin));
    line.map(ToOwned::to_owned)
}

async fn untracked(server: &TestServer) -> v1::ListContainersResponse {
    let mut client = FleetClient::new(server.channel().await);
    let request = v1::ListContainersRequest {
        untracked: true,
        ..v1::ListContainersRequest::default()
    };
    client.list_containers(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_host_is_listed_as_soon_as_it_is_claimed() {
    let server = TestServer::start().await;
    let agent = Agent::claim(&server, "h1").await;
    let told = hosts(&server).await;
    assert_eq!(told.len(), 1);
    assert_eq!(
        (
            &told[0]["host"],
            &told[0]["alive"],
            &told[0]["instance"],
            &told[0]["reachable"]
        ),
        (&json!("h1"), &json!(true), &json!("theirs"), &json!(false))
    );
    let error = told[0]["error"].as_str().unwrap();
    assert!(error.contains("not told yet"), "{error}");
    assert_eq!(metric(&server, "reachable", "h1").await.as_deref(), Some("0"));
    let unknown = untracked(&server).await.unknown;
    assert!(
        unknown.len() == 1 && unknown[0].contains("host h1"),
        "{unknown:?}"
    );
    agent.leave(&server).await;
    assert!(hosts(&server).await.is_empty(), "nothing is left of it");
}

#[tokio::test]
async fn what_an_agent_tells_is_shown_like_what_is_known_here() {
    let server = TestServer::start().await;
    let mut agent = Agent::claim(&server, "h1").await;
    let taken = agent.tell().await;
    assert!(
        taken.held && !taken.wants_verdicts && taken.refused.is_empty(),
        "{taken:?}"
    );
    let told = hosts(&server).await.remove(0);
    assert_eq!(
        (
            &told["reachable"],
            &told["drift"],
            &told["containers"],
            &told["lag_ms"]
        ),
        (&json!(true), &json!(3), &json!(5), &json!(7))
    );
    for (name, value) in [
        ("reachable", "1"),
        ("ours", "0"),
        ("containers", "5"),
        ("drift_total", "3"),
    ] {
        assert_eq!(
            metric(&server, name, "h1").await.as_deref(),
            Some(value),
            "{name}"
        );
    }
    let found = untracked(&server).await;
    assert_eq!((found.containers.len(), found.unknown.len()), (1, 0));
    let explain = v1::ExplainRequest {
        container: "lone".into(),
        host: String::new(),
    };
    let explained = agent.client.explain(explain).await.unwrap().into_inner();
    assert_eq!(explained.explanations[0].reason, "not_labelled");
    // Its reports go with its claim.
    agent.leave(&server).await;
    assert_eq!(metric(&server, "drift_total", "h1").await, None);
    assert!(untracked(&server).await.containers.is_empty());
}

#[tokio::test]
async fn a_server_that_stands_by_tells_what_the_agent_tells_and_takes_its_host_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::with(without_docker_at(dir.path())).await;
    until(&server, "it has claimed its host", |host| {
        host["instance"].is_string() && host["error"].as_str().unwrap().contains("docker.sock")
    })
    .await;
    assert_eq!(metric(&server, "ours", "lonely").await.as_deref(), Some("1"));
    let mut agent = Agent::claim(&server, "lonely").await;
    // Told of a claim that is not its own, it stands by.
    within("the server to stand by", async {
        while metric(&server, "ours", "lonely").await.as_deref() != Some("0") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    until(&server, "it says who has the host", |host| {
        let error = host["error"].as_str().unwrap();
        error.contains("instance theirs (agent on web1) reconciles this host")
    })
    .await;
    assert!(agent.tell().await.held);
    let told = hosts(&server).await.remove(0);
    assert_eq!(
        (
            &told["instance"],
            &told["reachable"],
            &told["drift"],
            &told["error"]
        ),
        (&json!("theirs"), &json!(true), &json!(3), &Value::Null)
    );
    assert_eq!(
        metric(&server, "drift_total", "lonely").await.as_deref(),
        Some("3")
    );
    assert_eq!(untracked(&server).await.containers.len(), 1);

    agent.leave(&server).await;
    until(&server, "it has its host back", |host| {
        host["instance"].is_string() && host["instance"] != "theirs" && host["reachable"] == false
    })
    .await;
    assert_eq!(metric(&server, "ours", "lonely").await.as_deref(), Some("1"));
    assert!(untracked(&server).await.containers.is_empty());
}

/// Waits until this holds of the only host.
async fn until(server: &TestServer, what: &str, holds: impl Fn(&Value) -> bool) {
    within(what, async {
        loop {
            if hosts(server).await.first().is_some_and(&holds) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}
