//! How a server goes away.

use std::time::Duration;

use hyper::StatusCode;
use tidewatch_proto::v1::watch_ended::Reason;
use tidewatch_server::Config;
use tidewatch_tests::port::HeldPort;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::rig::{TestServer, config, key, put, watch, within};

#[tokio::test]
async fn watches_end_with_where_to_resume_and_pauses_that_differ() {
    let mut server = TestServer::start().await;
    let mut calls = Vec::new();
    for _ in 0..20 {
        let mut call = server.watch(watch(key("/a"))).await;
        call.created().await;
        calls.push(call);
    }
    let mut client = server.keyspace().await;
    let revision = client
        .put(put("/a", "1"))
        .await
        .unwrap()
        .into_inner()
        .header
        .unwrap()
        .revision;
    drop(client);
    server.drain();
    let mut pauses = std::collections::BTreeSet::new();
    for call in &mut calls {
        assert_eq!(call.events().await.revision, revision);
        let ended = call.ended().await;
        assert_eq!(
            (ended.last_delivered, ended.resume.unwrap().revision),
            (revision, revision)
        );
        let Some(Reason::Draining(draining)) = ended.reason else {
            panic!("{ended:?}")
        };
        assert!(draining.retry_after_ms <= 5000, "{draining:?}");
        pauses.insert(draining.retry_after_ms);
    }
    assert!(pauses.len() > 5, "they would all come back at once: {pauses:?}");
    server.ended().await.unwrap();
}

#[tokio::test]
async fn readiness_and_health_turn_before_the_port_closes() {
    let mut server = TestServer::start().await;
    let mut health = HealthClient::new(server.channel().await);
    let request = HealthCheckRequest::default();
    let mut changes = health.watch(request).await.unwrap().into_inner();
    assert_eq!(
        changes.message().await.unwrap().unwrap().status().as_str_name(),
        "SERVING"
    );
    server.drain();
    let next = within("the change of health", changes.message())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(next.status().as_str_name(), "NOT_SERVING");
    server.ended().await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_let_go_holds_a_drain_up_no_longer_than_was_said() {
    let mut server = TestServer::with(Config {
        drain_timeout: Duration::from_millis(200),
        ..config()
    })
    .await;
    // It has a stream full of events and reads none of them.
    let _stuck = server.watch(watch(key("/a"))).await;
    let mut client = server.keyspace().await;
    for _ in 0..500 {
        client.put(put("/a", vec![0; 16 << 10])).await.unwrap();
    }
    server.drain();
    server.ended().await.unwrap();
}

#[tokio::test]
async fn a_server_that_has_gone_accepts_nobody() {
    let port = HeldPort::new().unwrap();
    let server = TestServer::with(Config {
        listen: port.address(),
        ..config()
    })
    .await;
    let endpoint = server.endpoint();
    assert_eq!(server.get("/readyz").await.0, StatusCode::OK);
    server.stop().await.unwrap();
    assert!(endpoint.connect().await.is_err());
}
