//! The thirteen flaws of a plain get-then-watch loop. Each test shows that the loop has it and that the store does not.

use std::sync::Arc;
use std::time::Duration;

use tidewatch_directives::{Connection, DirectiveStore, Reason, Status};
use tidewatch_etcd::EtcdDirectiveStore;
use tidewatch_etcd::machine::timing::FIRST_PAUSE;
use tidewatch_tests::etcd_cluster::EtcdCluster;
use tidewatch_tests::tcp_proxy::TcpProxy;
use tokio::task::JoinSet;

use super::naive::Naive;
use super::paced::RememberingClock;
use super::{
    CEILING, KEY, Publisher, ids, set, set_with_ttl, store, until, until_ids, until_interrupted, until_live,
    until_status,
};

/// What etcd counts its watchers as.
pub(super) const WATCHERS: &str = "etcd_debugging_mvcc_watcher_total";

#[tokio::test]
async fn f01_a_publish_between_the_read_and_the_watch_is_not_missed() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.publish(set(&["first"])).await;
    let naive = Naive::with_gate(&etcd.endpoints(), None).await.unwrap();
    naive.until_at_gate().await;
    publisher.publish(set(&["second"])).await;
    naive.pass();
    until_watchers(&etcd, 1.0).await;

    // Stores that connect while rounds rain down, so that some fall into every gap there is.
    let mut stores = JoinSet::new();
    for _ in 0..50 {
        let endpoints = etcd.endpoints();
        stores.spawn(async move { store(endpoints).await });
    }
    let mut connected = Vec::new();
    let mut rounds = 0;
    while !stores.is_empty() {
        rounds += 1;
        publisher.publish(set(&[&format!("n{rounds}")])).await;
        while let Some(store) = stores.try_join_next() {
            connected.push(store.unwrap());
        }
    }
    let last = format!("n{rounds}");
    for store in &connected {
        until_ids(store, &[&last]).await;
    }
    assert_eq!(connected.len(), 50);
    assert!(rounds > 1, "some publishes have to fall between");
    // The loop has heard of those after its watch began, but never of one that falls into its gap: nothing tells it.
    let unlucky = Naive::with_gate(&etcd.endpoints(), None).await.unwrap();
    unlucky.until_at_gate().await;
    publisher.publish(set(&["unheard"])).await;
    unlucky.pass();
    for store in &connected {
        until_ids(store, &["unheard"]).await;
    }
    until_watchers(&etcd, 52.0).await;
    assert_eq!(unlucky.ids(), [last]);
}

#[tokio::test]
async fn f02_a_key_that_was_deleted_while_away_is_found_to_be_gone() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let proxy = TcpProxy::start(etcd.address(0)).await.unwrap();
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.publish(set(&["a"])).await;
    let (naive, ours) = (naive_at(&proxy).await, store([proxy.address()]).await);
    until_ids(&ours, &["a"]).await;

    proxy.refuse(true);
    proxy.cut();
    until_interrupted(&ours).await;
    publisher.delete().await;
    let connected_before = proxy.accepted().len();
    proxy.refuse(false);
    until_ids(&ours, &[]).await;
    until_live(&ours).await;
    // The loop is connected again too, and has it still.
    assert!(until(|| proxy.accepted().len() > connected_before + 1).await);
    until_watchers(&etcd, 2.0).await;
    assert_eq!(naive.ids(), ["a"]);
}

#[tokio::test]
async fn f03_a_life_is_not_begun_anew_by_reconnecting_or_restarting() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let proxy = TcpProxy::start(etcd.address(0)).await.unwrap();
    let publisher = Publisher::new(etcd.endpoints()).await;
    let dir = tempfile::tempdir().unwrap();
    let connect = || {
        EtcdDirectiveStore::builder([proxy.address().to_string()], KEY)
            .last_good(dir.path().join("last-good"))
            .start_budget(CEILING)
            .connect()
    };
    let mut ours = connect().await.unwrap();
    publisher.publish(set_with_ttl(&["a"], 30)).await;
    let naive = naive_at(&proxy).await;
    until_ids(&ours, &["a"]).await;
    let begun = now();
    let mut restarted = false;
    while !ids(&ours).is_empty() {
        assert!(begun.elapsed() < CEILING, "it outlives its life");
        proxy.cut();
        if begun.elapsed() > Duration::from_secs(2) && !restarted {
            restarted = true;
            drop(ours);
            ours = connect().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(restarted);
    // The loop read it again a moment ago, and gives it half a minute from then.
    assert_eq!(naive.ids(), ["a"]);
}

#[tokio::test]
async fn f04_what_is_not_entirely_right_is_not_taken_for_something_wider() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.publish(set(&["good"])).await;
    let naive = Naive::connect(&etcd.endpoints()).await.unwrap();
    let ours = store(etcd.endpoints()).await;
    for (field, expected) in [
        (r#""match":{"workload":5},"ttl_secs":60"#, Reason::WrongType),
        (r#""match":{"workload":null},"ttl_secs":60"#, Reason::WrongType),
        (
            r#""match":{"workload":["shop"]},"ttl_secs":60"#,
            Reason::WrongType,
        ),
        (
            r#""match":{"workload":"shop","workload":5},"ttl_secs":60"#,
            Reason::DuplicateKey,
        ),
        (r#""flags":"yes","ttl_secs":60"#, Reason::WrongType),
        (
            r#""ttl_secs":60,"expires_at":"2030-01-01T00:00:00Z""#,
            Reason::TwoLives,
        ),
        (r#""match":{}"#, Reason::NoLife),
    ] {
        let wide = format!(r#"{{"directives":[{{"id":"wide","level":"debug",{field}}}]}}"#);
        let revision = publisher.publish(wide).await;
        let status = until_status(&ours, |status| {
            status
                .rejected
                .as_ref()
                .is_some_and(|rejected| rejected.origin.revision.0 == u64::try_from(revision).unwrap())
        })
        .await;
        let rejection = status.rejected.unwrap().rejection;
        assert_eq!(rejection.reason(), expected, "{field}");
        assert_eq!(ids(&ours), ["good"], "{field}");
        assert!(until(|| naive.ids() == ["wide"]).await, "{field}");
        assert_eq!(naive.live()[0].workload, None, "for the whole fleet: {field}");
    }
}

#[tokio::test]
async fn f05_a_set_beyond_every_limit_is_refused() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.publish(set(&["good"])).await;
    let naive = Naive::connect(&etcd.endpoints()).await.unwrap();
    let ours = store(etcd.endpoints()).await;
    let names: Vec<_> = (0..20_000).map(|number| format!("d{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    publisher.publish(set(&names)).await;
    let status = until_status(&ours, |status| status.rejected.is_some()).await;
    assert_eq!(status.rejected.unwrap().rejection.reason(), Reason::TooLarge);
    assert_eq!(ids(&ours), ["good"]);
    assert!(until(|| naive.ids().len() == 20_000).await);
}

#[tokio::test]
async fn f06_a_connection_that_is_dead_without_a_word_is_found_and_left() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let proxy = TcpProxy::start(etcd.address(0)).await.unwrap();
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.publish(set(&["before"])).await;
    let (naive, ours) = (naive_at(&proxy).await, store([proxy.address()]).await);
    until_watchers(&etcd, 2.0).await;
    proxy.freeze();
    publisher.publish(set(&["after"])).await;
    until_ids(&ours, &["after"]).await;
    assert_eq!(naive.ids(), ["before"], "its connection is still open");
}

#[tokio::test]
async fn f07_a_start_against_a_stopped_etcd_ends() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    etcd.pause(0);
    let naive = tokio::time::timeout(Duration::from_secs(5), Naive::connect(&etcd.endpoints())).await;
    assert!(naive.is_err(), "the loop waits for ever");
    let ours = EtcdDirectiveStore::builder(etcd.endpoints(), KEY)
        .start_budget(Duration::from_secs(2))
        .connect();
    let ours = tokio::time::timeout(CEILING, ours)
        .await
        .expect("it has a budget");
    let error = ours.unwrap_err();
    assert!(
        matches!(error, tidewatch_etcd::Error::Unreachable { .. }),
        "{error:?}"
    );
    etcd.resume(0);
}

#[tokio::test]
async fn f08_one_endpoint_that_answers_is_enough_for_a_start() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let proxy = TcpProxy::start(etcd.address(0)).await.unwrap();
    proxy.refuse(true);
    let endpoints = vec![proxy.address().to_string(), etcd.address(0).to_string()];
    let mut failed = 0;
    for _ in 0..20 {
        let naive = tokio::time::timeout(Duration::from_secs(1), Naive::connect(&endpoints)).await;
        failed += usize::from(!matches!(naive, Ok(Ok(_))));
    }
    assert!(failed > 0, "the loop takes whichever it happens to take");
    for _ in 0..20 {
        store(&endpoints).await;
    }
}

#[tokio::test]
async fn f10_nothing_outlives_the_store() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let watchers = |expected: f64| until_watchers(&etcd, expected);
    let naive = Naive::connect(&etcd.endpoints()).await.unwrap();
    watchers(1.0).await;
    drop(naive);
    let mut stores = Vec::new();
    for _ in 0..20 {
        stores.push(store(etcd.endpoints()).await);
    }
    watchers(21.0).await;
    let handle = stores[0].handle().clone();
    drop(stores);
    // Only the loop's is left, whose store has been gone since before.
    watchers(1.0).await;
    until_status(&handle, |status| status.connection.name() == "stopped").await;
}

#[tokio::test]
async fn f11_two_hundred_who_lost_etcd_come_back_spread_out() {
    const STORES: usize = 200;
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.publish(set(&["a"])).await;
    let proxy = TcpProxy::start(etcd.address(0)).await.unwrap();
    let mut connecting = JoinSet::new();
    for _ in 0..STORES {
        let address = proxy.address();
        connecting.spawn(async move {
            let clock = Arc::new(RememberingClock::default());
            let store = EtcdDirectiveStore::builder([address.to_string()], KEY)
                .clock(clock.clone())
                .start_budget(CEILING)
                .connect();
            (store.await.expect("etcd is there"), clock)
        });
    }
    let ours = connecting.join_all().await;
    let mut naive = Vec::new();
    for _ in 0..STORES {
        naive.push(naive_at(&proxy).await);
    }
    until_watchers(&etcd, 400.0).await;

    let before = proxy.accepted().len();
    for (_, clock) in &ours {
        clock.take_planned();
    }
    proxy.cut();
    assert!(until(|| proxy.accepted().len() >= before + 2 * STORES).await);
    // What each has planned to wait says how they come back, whatever the machine makes of it.
    assert!(until(|| naive.iter().all(|naive| !naive.pauses().is_empty())).await);
    let theirs: Vec<_> = naive.iter().map(|naive| naive.pauses()[0]).collect();
    assert_eq!(
        most_in_a_tenth(&theirs),
        STORES,
        "the loops come back in one burst"
    );
    // All other waits are longer; who still waited for something else at that moment is one of few.
    let first_pause = |planned: Vec<Duration>| planned.into_iter().find(|planned| *planned < FIRST_PAUSE);
    let pauses: Vec<_> = ours
        .iter()
        .filter_map(|(_, clock)| first_pause(clock.take_planned()))
        .collect();
    assert!(pauses.len() >= STORES * 9 / 10, "{} have paused", pauses.len());
    // Of five tenths of a second each is expected to see a fifth.
    let most = most_in_a_tenth(&pauses);
    assert!(
        most < STORES * 2 / 5,
        "{most} of ours come back in one tenth of a second"
    );
    for (store, _) in &ours {
        until_live(store).await;
    }
    publisher.publish(set(&["b"])).await;
    for (store, _) in &ours {
        until_ids(store, &["b"]).await;
    }
}

/// How many of these come within the tenth of a second that sees most of them.
fn most_in_a_tenth(pauses: &[Duration]) -> usize {
    let tenth = Duration::from_millis(100);
    let from = |begin: &Duration| {
        let within = |pause: &&Duration| (*begin..=*begin + tenth).contains(*pause);
        pauses.iter().filter(within).count()
    };
    pauses.iter().map(from).max().unwrap_or_default()
}

#[tokio::test]
async fn f12_a_malformed_set_at_the_start_is_not_passed_over_in_silence() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.publish("{\"directives\":").await;
    let naive = Naive::connect(&etcd.endpoints()).await.unwrap();
    assert!(naive.ids().is_empty(), "and nothing to tell it from an empty set");
    let ours = store(etcd.endpoints()).await;
    let rejected = ours.status().rejected.expect("the status says so");
    assert_eq!(rejected.rejection.reason(), Reason::InvalidJson);
    publisher.publish(set(&["good"])).await;
    until_ids(&ours, &["good"]).await;
    assert_eq!(ours.status().rejected, None);
}

#[tokio::test]
async fn f13_an_outage_shows_in_the_status_and_the_loop_has_none() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let proxy = TcpProxy::start(etcd.address(0)).await.unwrap();
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.publish(set(&["a"])).await;
    let (naive, ours) = (naive_at(&proxy).await, store([proxy.address()]).await);
    until_watchers(&etcd, 2.0).await;
    proxy.refuse(true);
    proxy.cut();
    until_watchers(&etcd, 0.0).await;
    publisher.publish(set(&["b"])).await;
    let says_why = |status: &Status| matches!(&status.connection, Connection::Interrupted { error, .. } if !error.is_empty());
    let status = until_status(&ours, says_why).await;
    assert!(status.age.is_some(), "and how old what it serves may be");
    assert_eq!(ids(&ours), ["a"]);
    // The loop has lost its watch too, and all there is to ask it for is what it had before.
    assert!(until(|| !naive.pauses().is_empty()).await);
    assert_eq!(naive.ids(), ["a"]);
}

pub(super) async fn until_watchers(etcd: &EtcdCluster, expected: f64) {
    let counted = || etcd.metric(0, WATCHERS);
    assert!(
        until(|| counted().is_ok_and(|watchers| (watchers - expected).abs() < 0.5)).await,
        "{:?} watchers",
        counted()
    );
}

async fn naive_at(proxy: &TcpProxy) -> Naive {
    Naive::connect(&[proxy.address().to_string()])
        .await
        .expect("etcd is there")
}

#[expect(clippy::disallowed_methods, reason = "etcd runs on the machine's time")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
