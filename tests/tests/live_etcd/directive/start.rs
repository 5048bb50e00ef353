//! What a start says that cannot succeed.

use std::error::Error as _;
use std::time::Duration;

use tidewatch_directives::DirectiveStore;
use tidewatch_etcd::{Error, EtcdDirectiveStore};
use tidewatch_tests::etcd_cluster::EtcdCluster;

use super::{CEILING, KEY, Publisher, ids, set};

/// An error with all its causes.
pub(super) fn text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_at_once() {
    for (endpoints, key, word) in [
        (vec![], KEY, "endpoints"),
        (vec!["https://127.0.0.1:2379".to_owned()], KEY, "CA"),
        (vec!["etcd://127.0.0.1".to_owned()], KEY, "scheme"),
        (vec!["127.0.0.1:2379/v3".to_owned()], KEY, "host and a port"),
        (vec!["127.0.0.1:2379".to_owned()], "", "key"),
    ] {
        let started = EtcdDirectiveStore::builder(endpoints, key).connect();
        // Longer than anything that is looked up, shorter than the budget.
        let started = tokio::time::timeout(Duration::from_secs(5), started).await;
        let error = started.expect("at once").unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error:?}");
        assert!(text(&error).contains(word), "{}", text(&error));
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn nobody_at_home_is_said_within_the_budget() {
    let started = EtcdDirectiveStore::builder(["127.0.0.1:1"], KEY)
        .start_budget(Duration::from_secs(3))
        .connect();
    let started = tokio::time::timeout(CEILING, started).await;
    let error = started.expect("it has a budget").unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let text = text(&error);
    assert!(text.contains("127.0.0.1:1") && text.contains("refused"), "{text}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn something_else_at_that_port_is_no_etcd() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = b"HTTP/1.1 404 Not Found\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer)
                .await
                .ok();
        }
    });
    let started = EtcdDirectiveStore::builder([address.to_string()], KEY)
        .start_budget(Duration::from_secs(1))
        .connect();
    let error = started.await.unwrap_err();
    assert!(text(&error).contains(&address.to_string()), "{}", text(&error));
}

#[tokio::test]
async fn the_short_form_reads_a_missing_key_as_the_empty_set() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let clock = tidewatch_core::SystemClock::shared();
    let ours = EtcdDirectiveStore::connect(etcd.endpoints(), KEY, clock)
        .await
        .unwrap();
    assert!(ids(&ours).is_empty());
    assert_eq!(ours.status().connection.name(), "live");
    assert!(ours.status().rejected.is_none());
    Publisher::new(etcd.endpoints()).await.publish(set(&["a"])).await;
    let mut changes = ours.changes();
    if ids(&ours).is_empty() {
        tokio::time::timeout(CEILING, changes.changed())
            .await
            .unwrap()
            .unwrap();
    }
    assert_eq!(ids(&ours), ["a"]);
}
