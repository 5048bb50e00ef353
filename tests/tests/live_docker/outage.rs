//! Daemons that go, come back, stand still, or cannot be reached, and what is told of their containers meanwhile.

use std::time::Duration;

use tidewatch_docker::{Engine, Reconciler, ReconcilerSettings};
use tidewatch_fleet::{Host, Kind, State};
use tidewatch_tests::private_docker::PrivateDocker;
use tidewatch_tests::socket_proxy::{Fault, SocketProxy};
use tidewatch_tests::wait::eventually_async;

use super::observed::{CEILING, Observed};

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_goes_and_comes_back_loses_no_row_and_is_seen_to_do_so() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let mut seen = Observed::new(docker).await;
    seen.declare("shop", Kind::Stack).await;
    let id = seen.run_labelled("web", "shop", "web", &[]);
    seen.state("shop", "web", State::Running).await;
    let daemon = seen.host(|host| host.reachable).await;
    assert!(!daemon.daemon_id.is_empty());

    for restart in [PrivateDocker::terminate, PrivateDocker::kill] {
        restart(&mut seen.docker).unwrap();
        let gone = seen.host(|host| !host.reachable).await;
        assert!(!gone.error.is_empty());
        assert_eq!(gone.daemon_id, daemon.daemon_id);
        // Whatever was heard of its end, the container was not declared gone.
        seen.row("shop", "web", |row| row.state != State::Missing).await;
        seen.docker.start_daemon().unwrap();
        seen.host(|host| host.reachable).await;
        // It died while nobody could say so.
        let row = seen.state("shop", "web", State::Stopped).await;
        assert_eq!(row.container_id, id);
        seen.docker(&["start", "web"]);
        seen.state("shop", "web", State::Running).await;
    }
    assert!(!seen.states().contains(&State::Missing), "{:?}", seen.states());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_while_the_connection_fails_is_made_up_for() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let proxy = SocketProxy::start(docker.dir().join("proxy.sock"), &docker.socket()).unwrap();
    let engine = Engine::at(&proxy.address()).unwrap();
    let settings = ReconcilerSettings {
        ping_interval: Duration::from_millis(100),
        ping_deadline: Duration::from_secs(2),
        list_deadline: Duration::from_secs(2),
        ask_deadline: Duration::from_secs(2),
        ..ReconcilerSettings::default()
    };
    let mut seen = Observed::through(docker, engine, settings).await;
    seen.declare("shop", Kind::Stack).await;
    let id = seen.run_labelled("web", "shop", "web", &[]);
    seen.state("shop", "web", State::Running).await;

    for (fault, round) in [
        (Fault::Refuse, 1),
        (Fault::CutAfter(300), 2),
        (Fault::StallAfter(300), 3),
    ] {
        proxy.set_fault(fault);
        proxy.sever();
        seen.host(|host| !host.reachable).await;
        seen.docker(&["kill", "web"]);
        let other = format!("other-{round}");
        seen.run_labelled(&other, "shop", &other, &[]);
        // Nobody knows of any of it, and nobody claims to.
        assert_eq!(seen.row("shop", "web", |_| true).await.state, State::Running);
        proxy.set_fault(Fault::None);
        proxy.sever();
        seen.host(|host| host.reachable).await;
        assert_eq!(seen.state("shop", "web", State::Stopped).await.container_id, id);
        seen.state("shop", &other, State::Running).await;
        seen.docker(&["start", "web"]);
        seen.state("shop", "web", State::Running).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_dies_while_its_daemon_is_away_is_seen_when_that_is_back() {
    let Some(docker) = PrivateDocker::for_test_with(&["--live-restore"]) else {
        return;
    };
    let mut seen = Observed::new(docker).await;
    seen.declare("shop", Kind::Stack).await;
    let id = seen.run_labelled("web", "shop", "web", &[]);
    seen.run_labelled("db", "shop", "db", &[]);
    seen.state("shop", "web", State::Running).await;
    seen.state("shop", "db", State::Running).await;
    let pid = seen.docker(&["inspect", "--format", "{{.State.Pid}}", "web"]);

    seen.docker.leave().unwrap();
    seen.host(|host| !host.reachable).await;
    let killed = std::process::Command::new("kill").args(["-KILL", &pid]).status();
    assert!(killed.unwrap().success(), "it went on without its daemon");
    seen.docker.start_daemon().unwrap();
    // No event ever tells of it.
    let row = seen.state("shop", "web", State::Stopped).await;
    assert_eq!(row.container_id, id);
    let other = seen.row("shop", "db", |_| true).await;
    assert_eq!(other.state, State::Running, "it went on all the time");
    assert!(!seen.states().contains(&State::Missing), "{:?}", seen.states());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_stands_still_is_told_of_with_since_and_why_and_flips_no_row() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let mut seen = Observed::new(docker).await;
    seen.declare("shop", Kind::Stack).await;
    seen.run_labelled("web", "shop", "web", &[]);
    seen.state("shop", "web", State::Running).await;
    let before = seen.host(|host| host.reachable).await;

    seen.docker.freeze().unwrap();
    let frozen = seen.host(|host| !host.reachable).await;
    assert!(frozen.error.contains("did not answer within"), "{frozen:?}");
    assert!(frozen.since > before.since, "{frozen:?} {before:?}");
    assert_eq!(frozen.daemon_id, before.daemon_id);
    seen.docker.thaw().unwrap();
    let again = seen.host(|host| host.reachable).await;
    assert_eq!(again.error, "");
    // What is written next tells that nothing was written in between.
    seen.docker(&["kill", "web"]);
    seen.state("shop", "web", State::Stopped).await;
    let told = seen.states();
    assert!(
        !told.contains(&State::Missing) && !told.contains(&State::Unknown),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_daemons_one_that_hangs_delays_nothing_of_the_other() {
    let (Some(first), Some(second)) = (PrivateDocker::for_test(), PrivateDocker::for_test()) else {
        return;
    };
    let proxy = SocketProxy::start(second.dir().join("proxy.sock"), &second.socket()).unwrap();
    let mut seen = Observed::new(first).await;
    let engine = Engine::at(&proxy.address()).unwrap();
    let other = Reconciler::builder("h2".parse().unwrap(), engine.clone())
        .events(engine.clone())
        .inspect(engine)
        .keyspace(seen.keyspace.clone())
        .build();
    let status = other.status();
    let other = tokio::spawn(other.run(std::future::pending()));
    let reachable = |expected: bool| {
        eventually_async(CEILING, move || {
            let status = status.clone();
            async move { status.snapshot().reachable == Some(expected) }
        })
    };
    assert!(reachable.clone()(true).await);
    let first_id = seen.host(|host| host.reachable).await.daemon_id;
    let is_another = || async {
        let kv = seen.keyspace.get("/hosts/h2").await.unwrap();
        let host = kv.and_then(|kv| serde_json::from_slice::<Host>(&kv.value).ok());
        host.is_some_and(|host| host.reachable && host.daemon_id != first_id)
    };
    assert!(eventually_async(CEILING, is_another).await);

    proxy.set_fault(Fault::StallAfter(0));
    proxy.sever();
    assert!(reachable.clone()(false).await);
    seen.declare("shop", Kind::Stack).await;
    seen.run_labelled("web", "shop", "web", &[]);
    seen.state("shop", "web", State::Running).await;
    seen.docker(&["kill", "web"]);
    seen.state("shop", "web", State::Stopped).await;
    assert!(seen.host(|_| true).await.reachable);
    proxy.set_fault(Fault::None);
    assert!(reachable(true).await);
    other.abort();
}
