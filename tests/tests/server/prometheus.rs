//! `/api/v1/sd/prometheus`: what runs, as targets.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::fleet::{Fleet, container};

async fn groups(fleet: &Fleet, query: &str) -> Vec<Value> {
    let path = format!("/api/v1/sd/prometheus{query}");
    let (status, content_type, body) = fleet.server.get(&path).await;
    // Prometheus takes nothing else.
    assert_eq!(
        (status, content_type.as_str()),
        (StatusCode::OK, "application/json"),
        "{query}: {body}"
    );
    serde_json::from_str(&body).unwrap()
}

/// The targets, in their order.
async fn targets(fleet: &Fleet, query: &str) -> Vec<String> {
    let groups = groups(fleet, query).await.into_iter();
    let mut targets: Vec<_> = groups
        .flat_map(|group| group["targets"].as_array().unwrap().clone())
        .map(|target| target.as_str().unwrap().to_owned())
        .collect();
    targets.sort();
    targets
}

/// A running container on a host, which publishes 80 there and exposes 9100.
async fn serving(fleet: &Fleet, row: &str, host: &str, public: u16) {
    let mut value = container(row, "running");
    value["host"] = host.into();
    value["role"] = "web".into();
    value["labels"] = json!({"com.docker.compose.service": row});
    value["ports"] = json!([
        {"protocol": "tcp", "private": 80, "public": public, "ip": "0.0.0.0"},
        {"protocol": "tcp", "private": 80, "public": public, "ip": "::"},
        {"protocol": "tcp", "private": 9100},
    ]);
    value["networks"] = json!([{"name": "front", "ip": "172.18.0.7"}]);
    fleet.put(&format!("/containers/shop/{host}/{row}"), &value).await;
    fleet
        .put(&format!("/alive/{host}"), &json!({"instance": "i1"}))
        .await;
}

#[tokio::test]
async fn nothing_that_runs_is_an_empty_list() {
    let fleet = Fleet::with_shop().await;
    assert_eq!(groups(&fleet, "").await, [Value::Null; 0]);
}

#[tokio::test]
async fn published_ports_of_what_runs_are_targets_at_the_address_of_their_host() {
    let fleet = Fleet::with_shop().await;
    serving(&fleet, "a", "h1", 8001).await;
    serving(&fleet, "b", "h2", 8002).await;
    serving(&fleet, "c", "h6", 8003).await;
    for (host, address) in [("h1", "10.0.0.1"), ("h6", "fd00::6")] {
        let value = json!({"reachable": true, "address": address});
        fleet.put(&format!("/hosts/{host}"), &value).await;
    }
    assert_eq!(
        targets(&fleet, "").await,
        ["10.0.0.1:8001", "[fd00::6]:8003", "h2:8002"],
        "a host without an address goes by its name"
    );
    for (query, expected) in [
        ("?host=h2", &["h2:8002"][..]),
        (
            "?workload=shop&role=web&label=com.docker.compose.service=a",
            &["10.0.0.1:8001"],
        ),
        ("?workload=other", &[]),
        ("?role=db", &[]),
        ("?port=9100", &[]),
        ("?port=80&port=9100&host=h2", &["h2:8002"]),
        (
            "?address=container&host=h2",
            &["172.18.0.7:80", "172.18.0.7:9100"],
        ),
        (
            "?address=container&host=h2&port=9100&network=front",
            &["172.18.0.7:9100"],
        ),
        ("?address=container&network=back", &[]),
    ] {
        assert_eq!(targets(&fleet, query).await, expected, "{query}");
    }
    let group = &groups(&fleet, "?host=h2").await[0];
    let labels = &group["labels"];
    for (name, value) in [
        ("workload", "shop"),
        ("role", "web"),
        ("host", "h2"),
        ("row", "b"),
        ("state", "running"),
        ("container_name", "shop-b-1"),
        ("port", "80"),
        ("published_port", "8002"),
        ("label_com_docker_compose_service", "b"),
    ] {
        assert_eq!(labels[format!("__meta_tidewatch_{name}")], value, "{group}");
    }
}

#[tokio::test]
async fn what_stopped_and_what_nobody_looks_after_is_no_target() {
    let fleet = Fleet::with_shop().await;
    serving(&fleet, "a", "h1", 8001).await;
    serving(&fleet, "b", "h2", 8002).await;
    let dead = crate::rig::key("/alive/h2");
    fleet.delete(dead).await;
    assert_eq!(targets(&fleet, "").await, ["h1:8001"]);
    fleet
        .put("/containers/shop/h1/a", &container("a", "stopped"))
        .await;
    assert_eq!(targets(&fleet, "").await, [""; 0]);
}
