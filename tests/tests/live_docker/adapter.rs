//! The adapter alone: what it makes of a real engine's answers, and of a connection that fails.

use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use tidewatch_docker::engine::{Deadlines, Engine, Subscription};
use tidewatch_docker::{
    Container, DockerEvent, DockerEvents, DockerInspect, DockerLister, Facts, ListError, Listing, Protocol,
    Scope,
};
use tidewatch_fleet::{Health, State};
use tidewatch_tests::private_docker::{GREEDY_TRIES, IMAGE, PrivateDocker};
use tidewatch_tests::socket_proxy::{Fault, SocketProxy};
use tidewatch_tests::wait::eventually_async;

/// For what takes milliseconds on a machine that has nothing else to do.
const CEILING: Duration = Duration::from_secs(60);

fn engine_of(docker: &PrivateDocker) -> Engine {
    Engine::at(&docker.address()).unwrap()
}

async fn listed(engine: &Engine, name: &str) -> Container {
    let listing = engine.list(Scope::All).await.unwrap();
    assert_eq!(listing.undecodable, 0);
    let mut containers = listing.containers.into_iter();
    containers.find(|container| container.name == name).unwrap()
}

async fn facts(engine: &Engine, id: &str) -> Facts {
    engine.inspect(id).await.unwrap().unwrap()
}

/// Reads events until one of this container has this action.
async fn hear(events: &mut Subscription, id: &str, wanted: &str) {
    let heard = tokio::time::timeout(CEILING, async {
        let mut others = Vec::new();
        loop {
            match events.next().await.unwrap().unwrap() {
                DockerEvent::Container { id: from, action, .. } if from == id && action == wanted => return,
                other => others.push(other),
            }
            assert!(others.len() < 1000, "{others:?}");
        }
    });
    heard
        .await
        .unwrap_or_else(|_| panic!("no {wanted} of {id} was heard of"));
}

/// Reads events until one of them puts everything in doubt.
async fn hear_doubt(events: &mut Subscription) -> String {
    let heard = tokio::time::timeout(CEILING, async {
        loop {
            if let DockerEvent::Doubt { reason } = events.next().await.unwrap().unwrap() {
                return reason;
            }
        }
    });
    heard.await.expect("a doubt")
}

/// Reads events to the end, and returns the error it ended with, if it did.
async fn hear_end(events: &mut Subscription) -> Option<ListError> {
    let heard = tokio::time::timeout(CEILING, async {
        while let Some(event) = events.next().await {
            if let Err(error) = event {
                return Some(error);
            }
        }
        None
    });
    heard.await.expect("the subscription ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_shows_what_runs_what_has_run_and_what_never_did() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let engine = engine_of(&docker);
    assert_eq!(engine.list(Scope::All).await.unwrap(), Listing::default());

    docker
        .docker(["network", "create", "--subnet", "10.213.77.0/24", "front"])
        .unwrap();
    let web = docker
        .docker([
            "run",
            "-d",
            "--name",
            "web",
            "--network",
            "front",
            "-p",
            "127.0.0.1::80",
            "--expose",
            "9/udp",
            "--label",
            "tidewatch.role=web",
            "--label",
            "empty=",
            IMAGE,
        ])
        .unwrap();
    docker.run("frozen", &[]).unwrap();
    docker.docker(["pause", "frozen"]).unwrap();
    docker
        .run_command("failed", &[], &["sh", "-c", "exit 3"])
        .unwrap();
    docker.docker(["wait", "failed"]).unwrap();
    docker.docker(["create", "--name", "made", IMAGE]).unwrap();

    let running = listed(&engine, "web").await;
    assert_eq!(running.id, web);
    assert_eq!(
        (running.state, running.exit_code, running.health),
        (State::Running, None, None)
    );
    assert_eq!(running.image_ref, IMAGE);
    assert!(running.image_id.starts_with("sha256:"), "{}", running.image_id);
    assert_eq!(running.labels["tidewatch.role"], "web");
    assert_eq!(running.labels["empty"], "");
    let ports: Vec<_> = running
        .ports
        .iter()
        .map(|port| (port.protocol, port.private))
        .collect();
    assert_eq!(ports, [(Protocol::Tcp, 80), (Protocol::Udp, 9)]);
    assert!(running.ports[0].public.is_some_and(|port| port > 1024));
    assert_eq!(running.ports[0].ip, "127.0.0.1");
    assert_eq!(running.networks.len(), 1);
    assert_eq!(running.networks[0].name, "front");
    assert!(running.networks[0].ip.starts_with("10.213.77."));
    assert!(running.created > 1_700_000_000);

    assert_eq!(listed(&engine, "frozen").await.state, State::Paused);
    let failed = listed(&engine, "failed").await;
    assert_eq!((failed.state, failed.exit_code), (State::Stopped, Some(3)));
    let made = listed(&engine, "made").await;
    assert_eq!((made.state, made.exit_code), (State::Created, None));

    let ids = [web.clone(), "0".repeat(64)];
    let some = engine.list(Scope::Ids(&ids)).await.unwrap();
    assert_eq!(some.containers, [running]);
    // From a limit on all are listed, and the others left out.
    let many: Vec<_> = (0..200).map(|n| format!("{n:064}")).chain([web]).collect();
    assert_eq!(engine.list(Scope::Ids(&many)).await.unwrap(), some);
}

#[tokio::test(flavor = "multi_thread")]
async fn inspection_tells_why_a_container_ended_and_how_often() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let engine = engine_of(&docker);
    assert_eq!(engine.inspect(&"0".repeat(64)).await.unwrap(), None);

    let well = docker.run("well", &[]).unwrap();
    let running = facts(&engine, &well).await;
    assert!(running.started_at.is_some_and(|time| time.starts_with("20")));
    assert_eq!(
        (running.exit_code, running.oom_killed, running.restart_count),
        (None, false, 0)
    );

    // The answer is Docker's own, also where it missed why; it goes from no to yes at most.
    let mut noticed = false;
    for n in 0..GREEDY_TRIES {
        let greedy = docker.run_greedy(&format!("greedy-{n}"), &[]).unwrap();
        docker.docker(["wait", &greedy]).unwrap();
        let before = docker.was_oom_killed(&greedy).unwrap();
        let ended = facts(&engine, &greedy).await;
        let after = docker.was_oom_killed(&greedy).unwrap();
        assert_eq!(ended.exit_code, Some(137));
        assert!(
            (before..=after).contains(&ended.oom_killed),
            "docker says {before}, then {after}: {ended:?}"
        );
        noticed = ended.oom_killed;
        if noticed {
            break;
        }
    }
    assert!(noticed, "docker noticed none of {GREEDY_TRIES}");

    let looping = docker
        .run_command("looping", &["--restart", "always"], &["false"])
        .unwrap();
    assert!(
        eventually_async(CEILING, || async {
            facts(&engine, &looping).await.restart_count >= 2
        })
        .await
    );

    let broken = docker
        .docker(["create", "--name", "broken", IMAGE, "/no/such/program"])
        .unwrap();
    docker.docker(["start", "broken"]).unwrap_err();
    let failed = facts(&engine, &broken).await;
    assert!(failed.error.contains("/no/such/program"), "{failed:?}");
    assert_eq!((failed.exit_code, failed.started_at), (Some(127), None));
    assert_eq!(listed(&engine, "broken").await.state, State::Created);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_which_container_to_look_at() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let engine = engine_of(&docker);
    let began = engine.daemon().await.unwrap().time.unwrap();
    let mut events = engine.subscribe(None).await.unwrap();

    let id = docker.run("first", &[]).unwrap();
    hear(&mut events, &id, "start").await;
    docker.docker(["rename", "first", "second"]).unwrap();
    hear(&mut events, &id, "rename").await;
    assert_eq!(listed(&engine, "second").await.id, id);
    docker.docker(["pause", "second"]).unwrap();
    hear(&mut events, &id, "pause").await;
    docker.docker(["unpause", "second"]).unwrap();
    hear(&mut events, &id, "unpause").await;
    docker.docker(["kill", "second"]).unwrap();
    hear(&mut events, &id, "die").await;
    // What a list shows is never older than the event.
    assert_eq!(listed(&engine, "second").await.exit_code, Some(137));
    docker.docker(["rm", "second"]).unwrap();
    hear(&mut events, &id, "destroy").await;
    assert!(engine.list(Scope::All).await.unwrap().containers.is_empty());
    assert_eq!(events.doubts(), 0);

    docker.docker(["tag", IMAGE, "other:1"]).unwrap();
    assert!(hear_doubt(&mut events).await.contains("(tag)"));

    // Whoever comes late hears it all again.
    let mut replay = engine.subscribe(Some(began)).await.unwrap();
    for action in ["start", "rename", "pause", "unpause", "die", "destroy"] {
        hear(&mut replay, &id, action).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_is_no_event_and_its_verdict_is() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let engine = engine_of(&docker);
    let mut events = engine.subscribe(None).await.unwrap();
    let probe = [
        "--health-cmd",
        "test -e /ok",
        "--health-interval",
        "200ms",
        "--health-retries",
        "1",
    ];
    let id = docker.run("probed", &probe).unwrap();
    assert!(listed(&engine, "probed").await.health.is_some());
    hear(&mut events, &id, "health_status: unhealthy").await;
    assert_eq!(listed(&engine, "probed").await.health, Some(Health::Unhealthy));
    docker.docker(["exec", "probed", "touch", "/ok"]).unwrap();
    let probes = async {
        loop {
            match events.next().await.unwrap().unwrap() {
                DockerEvent::Container { action, .. } if action == "health_status: healthy" => return,
                DockerEvent::Container { action, .. } => assert!(!action.starts_with("exec"), "{action}"),
                DockerEvent::Doubt { reason } => panic!("{reason}"),
            }
        }
    };
    tokio::time::timeout(CEILING, probes)
        .await
        .expect("it becomes healthy");
    assert_eq!(listed(&engine, "probed").await.health, Some(Health::Healthy));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_says_who_it_is_and_is_the_same_after_a_restart() {
    let Some(mut docker) = PrivateDocker::for_test() else {
        return;
    };
    let engine = engine_of(&docker);
    let before = engine.daemon().await.unwrap();
    assert!(!before.id.is_empty());
    for component in ["engine", "api", "os", "kernel"] {
        assert!(!before.versions[component].is_empty(), "{component}");
    }
    let off = before
        .time
        .unwrap()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    assert!(off.as_secs() > 1_700_000_000);

    let kept = docker.run("kept", &[]).unwrap();
    for restart in [PrivateDocker::terminate, PrivateDocker::kill] {
        engine.ping().await.unwrap();
        let mut events = engine.subscribe(None).await.unwrap();
        restart(&mut docker).unwrap();
        if let Some(error) = hear_end(&mut events).await {
            assert!(matches!(error, ListError::Unreachable { .. }), "{error}");
        }
        for error in [
            engine.ping().await.unwrap_err(),
            engine.daemon().await.unwrap_err(),
            engine.list(Scope::All).await.unwrap_err(),
            engine.subscribe(None).await.unwrap_err(),
        ] {
            assert!(matches!(error, ListError::Unreachable { .. }), "{error}");
        }
        docker.start_daemon().unwrap();
        assert_eq!(engine.daemon().await.unwrap().id, before.id);
        let container = listed(&engine, "kept").await;
        assert_eq!((container.id, container.state), (kept.clone(), State::Stopped));
        docker.docker(["start", "kept"]).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_arrive_whole_is_an_error_and_the_next_is_asked_for_anew() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    docker.run("first", &[]).unwrap();
    let proxy = SocketProxy::start(docker.dir().join("proxy.sock"), &docker.socket()).unwrap();
    let engine = Engine::at(&proxy.address()).unwrap();
    // For answers that never come whole.
    let impatience = Duration::from_millis(300);
    let impatient = engine.clone().with_deadlines(Deadlines {
        ping: impatience,
        call: impatience,
        list: impatience,
        ..Deadlines::default()
    });
    let whole = engine.list(Scope::All).await.unwrap();
    assert_eq!(whole.containers.len(), 1);

    proxy.set_fault(Fault::Refuse);
    assert!(matches!(engine.ping().await, Err(ListError::Unreachable { .. })));
    for after in [1, 40, 250, 400, 700] {
        proxy.set_fault(Fault::CutAfter(after));
        let error = engine.list(Scope::All).await.unwrap_err();
        assert!(
            matches!(error, ListError::Unreachable { .. }),
            "cut after {after}: {error}"
        );
        proxy.set_fault(Fault::StallAfter(after));
        let error = impatient.list(Scope::All).await.unwrap_err();
        assert!(
            matches!(error, ListError::Timeout { .. }),
            "stalled after {after}: {error}"
        );
    }
    proxy.set_fault(Fault::None);
    assert_eq!(engine.list(Scope::All).await.unwrap(), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_nobody_has_heard_of_is_unknown_and_harms_no_other() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    docker.run("odd", &["--label", "odd=1"]).unwrap();
    docker.run("even", &[]).unwrap();
    docker.docker(["pause", "odd"]).unwrap();
    let proxy = SocketProxy::start(docker.dir().join("proxy.sock"), &docker.socket()).unwrap();
    proxy.set_fault(Fault::Replace("\"paused\"", "\"warped\""));
    let engine = Engine::at(&proxy.address()).unwrap();
    let odd = listed(&engine, "odd").await;
    assert_eq!(odd.state, State::Unknown);
    assert_eq!(odd.labels["odd"], "1");
    assert_eq!(listed(&engine, "even").await.state, State::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_severed_subscription_ends_and_a_spoilt_event_does_not_end_it() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let proxy = SocketProxy::start(docker.dir().join("proxy.sock"), &docker.socket()).unwrap();
    let engine = Engine::at(&proxy.address()).unwrap();
    proxy.set_fault(Fault::Replace("\"Action\":\"pause\"", "\"Action\":\"paus\0\""));
    let mut events = engine.subscribe(None).await.unwrap();
    let id = docker.run("first", &[]).unwrap();
    hear(&mut events, &id, "start").await;
    docker.docker(["pause", "first"]).unwrap();
    docker.docker(["unpause", "first"]).unwrap();
    assert!(hear_doubt(&mut events).await.contains("cannot be read"));
    hear(&mut events, &id, "unpause").await;
    assert_eq!(events.doubts(), 1);

    // A connection that has lasted for a while would be made anew.
    proxy.set_fault(Fault::Refuse);
    proxy.sever();
    if let Some(error) = hear_end(&mut events).await {
        assert!(matches!(error, ListError::Unreachable { .. }), "{error}");
    }
    assert!(events.next().await.is_none());
    proxy.set_fault(Fault::None);
    let mut events = engine.subscribe(None).await.unwrap();
    docker.docker(["kill", "first"]).unwrap();
    hear(&mut events, &id, "die").await;
}
