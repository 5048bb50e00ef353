//! From a container to a watcher: what happens in Docker, as a watch on the rows tells it.

use std::time::Duration;

use tidewatch_docker::{Engine, ReconcilerSettings, ReconcilerStatus};
use tidewatch_fleet::{DeployRow, Health, Kind, State};
use tidewatch_tests::private_docker::{GREEDY_TRIES, IMAGE, PrivateDocker};
use tidewatch_tests::socket_proxy::SocketProxy;

use super::observed::{CEILING, HOST, Observed, labels};

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_container_is_seen_from_its_start_to_its_removal() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let mut seen = Observed::new(docker).await;
    seen.declare("shop", Kind::Stack).await;
    let id = seen.run_labelled("shop-web", "shop", "web", &["--expose", "8080"]);

    let row = seen.state("shop", "web", State::Running).await;
    assert_eq!(
        (row.id.as_str(), &row.container_id, row.name.as_str()),
        ("shop:web", &id, "shop-web")
    );
    assert_eq!(
        (row.role.as_str(), row.host.as_str(), row.workload_kind),
        ("web", HOST, Kind::Stack)
    );
    assert_eq!(row.image_ref, IMAGE);
    assert!(row.started_at.is_some());
    assert!(!row.daemon_id.is_empty());
    assert_eq!(row.labels["tidewatch.role"], "web");

    seen.docker(&["rename", "shop-web", "shop-front"]);
    seen.row("shop", "web", |row| row.name == "shop-front").await;
    seen.docker(&["pause", "shop-front"]);
    seen.state("shop", "web", State::Paused).await;
    seen.docker(&["unpause", "shop-front"]);
    seen.state("shop", "web", State::Running).await;

    seen.docker(&["stop", "shop-front"]);
    let stopped = seen.state("shop", "web", State::Stopped).await;
    assert_eq!((stopped.exit_code, stopped.oom_killed), (Some(0), false));
    seen.docker(&["start", "shop-front"]);
    let again = seen.state("shop", "web", State::Running).await;
    assert_eq!(again.exit_code, None);
    assert_ne!(again.started_at, row.started_at);

    seen.docker(&["kill", "shop-front"]);
    assert_eq!(
        seen.state("shop", "web", State::Stopped).await.exit_code,
        Some(137)
    );
    seen.docker(&["rm", "shop-front"]);
    let missing = seen.state("shop", "web", State::Missing).await;
    assert_eq!(missing.container_id, id);

    // Another container of the same role takes its place.
    let other = seen.run_labelled("shop-web-2", "shop", "web", &[]);
    seen.row("shop", "web", |row| {
        row.container_id == other && row.state == State::Running
    })
    .await;
    assert_eq!(seen.rows().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_container_ended_is_in_its_row() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let mut seen = Observed::new(docker).await;
    seen.declare("jobs", Kind::Stack).await;
    let run = |seen: &Observed, role: &str, options: &[&str], command: &[&str]| {
        let labels = labels("jobs", "stack", role);
        let options: Vec<_> = labels
            .iter()
            .map(String::as_str)
            .chain(options.iter().copied())
            .collect();
        seen.docker.run_command(role, &options, command)
    };
    run(&seen, "failing", &[], &["sh", "-c", "exit 3"]).unwrap();
    run(&seen, "looping", &["--restart=on-failure:2"], &["false"]).unwrap();
    run(&seen, "broken", &[], &["/no/such/program"]).unwrap_err();

    assert_eq!(
        seen.state("jobs", "failing", State::Stopped).await.exit_code,
        Some(3)
    );
    // Where Docker itself has missed why, the row cannot tell it.
    let mut noticed = false;
    for n in 0..GREEDY_TRIES {
        let role = format!("greedy-{n}");
        let labels = labels("jobs", "stack", &role);
        let options: Vec<_> = labels.iter().map(String::as_str).collect();
        let id = seen.docker.run_greedy(&role, &options).unwrap();
        let ended = seen.state("jobs", &role, State::Stopped).await;
        assert_eq!(ended.exit_code, Some(137));
        noticed = seen.docker.was_oom_killed(&id).unwrap();
        if noticed {
            seen.row("jobs", &role, |row| row.oom_killed).await;
            break;
        }
    }
    assert!(noticed, "docker noticed none of {GREEDY_TRIES}");
    let given_up = seen
        .row("jobs", "looping", |row| {
            row.state == State::Stopped && row.restart_count == 2
        })
        .await;
    assert_eq!(given_up.exit_code, Some(1));
    let broken = seen.row("jobs", "broken", |row| !row.reason.is_empty()).await;
    assert_eq!((broken.state, broken.exit_code), (State::Created, Some(127)));
    assert!(broken.reason.contains("/no/such/program"), "{}", broken.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_policy_and_a_health_check_are_followed() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let mut seen = Observed::new(docker).await;
    seen.declare("shop", Kind::Stack).await;
    seen.run_labelled(
        "probed",
        "shop",
        "probed",
        &[
            "--health-cmd=test -e /ok",
            "--health-interval=200ms",
            "--health-retries=1",
        ],
    );
    seen.row("shop", "probed", |row| row.health == Some(Health::Unhealthy))
        .await;
    seen.docker(&["exec", "probed", "touch", "/ok"]);
    seen.row("shop", "probed", |row| row.health == Some(Health::Healthy))
        .await;

    seen.run_labelled("steady", "shop", "steady", &["--restart=always"]);
    let before = seen.state("shop", "steady", State::Running).await;
    // Killed from within, so that Docker does not take it for somebody's wish.
    // The probe may die with it.
    let kill = "until test -e /ready; do sleep 0.1; done; kill -TERM 1";
    seen.docker.docker(["exec", "steady", "sh", "-c", kill]).ok();
    let again = seen
        .row("shop", "steady", |row| {
            row.state == State::Running && row.started_at != before.started_at
        })
        .await;
    assert_eq!(
        (again.restart_count, again.container_id),
        (1, before.container_id)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_a_row_without_a_workload_and_everybody_can_see_why() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let mut seen = Observed::new(docker).await;
    seen.declare("shop", Kind::Stack).await;
    seen.run_labelled("forged", "no-such-workload", "web", &[]);
    seen.docker.run("stranger", &[]).unwrap();
    seen.docker
        .run("half", &["--label=tidewatch.workload.id=shop"])
        .unwrap();
    seen.run_labelled("honest", "shop", "web", &[]);
    seen.state("shop", "web", State::Running).await;
    assert_eq!(seen.rows().len(), 1, "{:#?}", seen.rows());
    for name in ["forged", "stranger", "half"] {
        // That may be told a moment after the row of another is written.
        let is_told = |status: &ReconcilerStatus| {
            let verdicts = status.explain(name);
            verdicts.len() == 1 && verdicts[0].untracked().is_some()
        };
        seen.until_status(name, is_told).await;
    }
    // As soon as the workload is there, so is the row.
    seen.declare("no-such-workload", Kind::Stack).await;
    seen.state("no-such-workload", "web", State::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_placeholder_gets_its_container_and_a_deployers_key_is_never_written() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let mut seen = Observed::new(docker).await;
    seen.declare("shop", Kind::Stack).await;
    let placeholder = DeployRow {
        role: Some("web".parse().unwrap()),
        host: Some(HOST.parse().unwrap()),
        state: "pulling".to_owned(),
        ..DeployRow::default()
    };
    let deployed = seen.deploy("shop", "blue", &placeholder).await;
    let id = seen.run_labelled("web", "shop", "web", &[]);
    let row = seen.state("shop", "blue", State::Running).await;
    assert_eq!((&row.container_id, row.role.as_str()), (&id, "web"));
    assert_eq!(seen.rows().len(), 1, "{:#?}", seen.rows());
    let deploy = seen.keyspace.get("/deploy/shop/blue").await.unwrap().unwrap();
    assert_eq!(deploy.mod_revision, deployed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_has_the_rows_that_were_deployed_and_no_other() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let mut seen = Observed::new(docker).await;
    seen.declare("site", Kind::Project).await;
    seen.declare("shop", Kind::Stack).await;
    let id = seen.run_labelled("site-app", "site", "app", &[]);
    seen.run_labelled("web", "shop", "web", &[]);
    seen.state("shop", "web", State::Running).await;
    assert_eq!(seen.rows().len(), 1, "{:#?}", seen.rows());

    let deploy = DeployRow {
        container_id: id.clone(),
        host: Some(HOST.parse().unwrap()),
        ..DeployRow::default()
    };
    seen.deploy("site", "green", &deploy).await;
    let row = seen.state("site", "green", State::Running).await;
    // The stored kind counts, not the label's.
    assert_eq!((row.container_id, row.workload_kind), (id, Kind::Project));
    seen.docker(&["kill", "site-app"]);
    seen.state("site", "green", State::Stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compose_project_appears_without_any_label_of_ours_and_goes_with_its_last_container() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let mut seen = Observed::new(docker).await;
    let service = |name: &str, service: &str, number: &str| {
        let labels = [
            "--label=com.docker.compose.project=blog".to_owned(),
            format!("--label=com.docker.compose.service={service}"),
            format!("--label=com.docker.compose.container-number={number}"),
        ];
        let options: Vec<_> = labels.iter().map(String::as_str).collect();
        seen.docker.run(name, &options).unwrap()
    };
    let web = service("blog-web-1", "web", "1");
    let second = service("blog-web-2", "web", "2");
    service("blog-db-1", "db", "1");
    seen.state("compose-blog", "db", State::Running).await;
    let ids = seen
        .until("two rows of the service web", |rows| {
            let mut ids: Vec<_> = rows
                .values()
                .filter(|row| row.role.as_str() == "web" && row.state == State::Running)
                .map(|row| row.container_id.clone())
                .collect();
            ids.sort();
            (ids.len() == 2).then_some(ids)
        })
        .await;
    let mut expected = vec![web, second];
    expected.sort();
    assert_eq!(ids, expected);
    assert!(
        seen.keyspace
            .get("/workloads/compose-blog")
            .await
            .unwrap()
            .is_some()
    );

    seen.docker(&["rm", "--force", "blog-web-1", "blog-web-2", "blog-db-1"]);
    seen.until("all rows missing or gone", |rows| {
        rows.values().all(|row| row.state == State::Missing).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_daemon_behind_the_address_never_sweeps_the_rows_of_the_first() {
    let (Some(first), Some(other)) = (PrivateDocker::for_test(), PrivateDocker::for_test()) else {
        return;
    };
    let proxy = SocketProxy::start(first.dir().join("proxy.sock"), &first.socket()).unwrap();
    let engine = Engine::at(&proxy.address()).unwrap();
    let mut seen = Observed::through(first, engine, ReconcilerSettings::default()).await;
    seen.declare("shop", Kind::Stack).await;
    let id = seen.run_labelled("web", "shop", "web", &[]);
    let before = seen.state("shop", "web", State::Running).await;

    proxy.set_upstream(&other.socket());
    proxy.sever();
    let row = seen.state("shop", "web", State::Unknown).await;
    assert_eq!((&row.container_id, &row.daemon_id), (&id, &before.daemon_id));
    seen.host(|host| host.reachable && host.daemon_id != before.daemon_id)
        .await;

    proxy.set_upstream(&seen.docker.socket());
    proxy.sever();
    seen.state("shop", "web", State::Running).await;
    assert!(!seen.states().contains(&State::Missing), "{:?}", seen.states());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_fleet_makes_no_revisions() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let settings = ReconcilerSettings {
        resync_interval: Duration::from_millis(100),
        // A slow machine is not to be told of.
        ping_deadline: CEILING,
        list_deadline: CEILING,
        ask_deadline: CEILING,
        ..ReconcilerSettings::default()
    };
    let mut seen = Observed::with_settings(docker, settings).await;
    seen.declare("shop", Kind::Stack).await;
    seen.docker(&["network", "create", "--subnet", "10.213.78.0/24", "front"]);
    seen.run_labelled(
        "web",
        "shop",
        "web",
        &["--expose=80", "--expose=81", "--expose=82/udp"],
    );
    let probe = ["--health-cmd=true", "--health-interval=100ms"];
    seen.run_labelled("probed", "shop", "probed", &probe);
    seen.run_labelled("ended", "shop", "ended", &[]);
    seen.docker(&["kill", "ended"]);
    seen.state("shop", "web", State::Running).await;
    seen.state("shop", "ended", State::Stopped).await;
    seen.row("shop", "probed", |row| row.health == Some(Health::Healthy))
        .await;

    // What was written last may still be looked at once more.
    let resyncs = seen.status.snapshot().resyncs;
    seen.until_status("it has looked again", |status| {
        status.snapshot().resyncs > resyncs + 1
    })
    .await;
    let before = seen.keyspace.status().await.unwrap().revision;
    let resyncs = seen.status.snapshot().resyncs;
    seen.until_status("it has looked twenty times", |status| {
        status.snapshot().resyncs > resyncs + 20
    })
    .await;
    assert_eq!(seen.keyspace.status().await.unwrap().revision, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconciler_that_is_told_to_stop_gives_its_host_up() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let mut seen = Observed::new(docker).await;
    let alive = format!("/alive/{HOST}");
    assert!(seen.keyspace.get(alive.clone()).await.unwrap().is_some());
    seen.stop().await;
    assert!(seen.keyspace.get(alive).await.unwrap().is_none());
}
