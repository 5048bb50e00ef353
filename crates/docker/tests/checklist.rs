//! What the tests of the reconciler that ours is to replace pin down, case by case, and the holes they
//! leave. Each case: what is stored, what Docker shows, one look, what is stored then.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use futures_util::FutureExt as _;
use tidewatch_core::Keyspace;
use tidewatch_docker::fake::{Call, FakeDocker, Fault};
use tidewatch_docker::{Container, Error, LabelNames, Port, Protocol, Reconciler, Report, plugin};
use tidewatch_fleet::{ContainerRow, State, View};

/// A keyspace, a daemon and a reconciler of host `h1`.
struct Bench {
    ks: Keyspace,
    docker: FakeDocker,
    reconciler: Reconciler<FakeDocker>,
}

impl Bench {
    /// Begins with these keys.
    async fn with(stored: &[(&str, &str)]) -> Self {
        let ks = Keyspace::memory();
        for (key, value) in stored {
            ks.put((*key).to_owned(), (*value).to_owned()).await.unwrap();
        }
        let docker = FakeDocker::new("d1");
        let reconciler = Reconciler::builder("h1".parse().unwrap(), docker.clone())
            .keyspace(ks.clone())
            .build();
        Self {
            ks,
            docker,
            reconciler,
        }
    }

    async fn look(&mut self) -> Report {
        self.reconciler.reconcile_once().await.unwrap()
    }

    /// The rows of the host, as `<workload>/<row>` and the row.
    async fn rows(&self) -> Vec<(String, ContainerRow)> {
        let (_, view) = View::read(&self.ks).await.unwrap();
        assert!(view.skipped.is_empty(), "{:?}", view.skipped);
        view.containers
            .into_iter()
            .map(|((workload, row, _), entry)| (format!("{workload}/{row}"), entry.value))
            .collect()
    }

    async fn row(&self, name: &str) -> ContainerRow {
        let rows = self.rows().await;
        let found = rows.iter().find(|(at, _)| at == name);
        found.unwrap_or_else(|| panic!("{name} in {rows:?}")).1.clone()
    }

    /// `<workload>/<row> <container> <state>` of each row, in order.
    async fn table(&self) -> Vec<String> {
        self.rows()
            .await
            .into_iter()
            .map(|(at, row)| format!("{at} {} {}", row.container_id, row.state))
            .collect()
    }
}

const SHOP: (&str, &str) = ("/workloads/shop", r#"{"id":"shop","kind":"stack"}"#);
const PROJECT: (&str, &str) = ("/workloads/proj", r#"{"id":"proj","kind":"project"}"#);
const IMAGE: (&str, &str) = ("/workloads/img", r#"{"id":"img","kind":"image"}"#);

fn labelled(id: &str, workload: &str, kind: &str, role: &str) -> Container {
    let mut container = Container::new(id, format!("{workload}-{role}-{id}"));
    for (label, value) in [
        ("tidewatch.managed", "true"),
        ("tidewatch.workload.id", workload),
        ("tidewatch.workload.kind", kind),
        ("tidewatch.role", role),
    ] {
        container.labels.insert(label.into(), value.into());
    }
    container.image_ref = "nginx:1.27".into();
    container.image_id = "sha256:aa".into();
    container.ports = vec![tcp(8080)];
    container
}

fn tcp(private: u16) -> Port {
    Port {
        protocol: Protocol::Tcp,
        private,
        public: None,
        ip: String::new(),
    }
}

fn row(workload: &str, kind: &str, row: &str, rest: &str) -> (String, String) {
    (
        format!("/containers/{workload}/h1/{row}"),
        format!(
            r#"{{"id":"{workload}:{row}","workload_id":"{workload}","workload_kind":"{kind}","role":"{row}","host":"h1",{rest}}}"#
        ),
    )
}

#[tokio::test]
async fn case_1_a_labelled_container_without_a_row_gets_one() {
    let mut bench = Bench::with(&[SHOP]).await;
    bench.docker.put(labelled("c1", "shop", "stack", "web"));
    bench.look().await;
    let row = bench.row("shop/web").await;
    assert_eq!(row.id, "shop:web");
    assert_eq!((&*row.container_id, row.role.as_str()), ("c1", "web"));
    assert_eq!(row.workload_kind.as_str(), "stack");
    assert_eq!((row.state, row.port), (State::Running, Some(8080)));
    assert_eq!((&*row.daemon_id, row.host.as_str()), ("d1", "h1"));
}

#[tokio::test]
async fn case_2_a_row_that_holds_the_container_is_updated_in_place_and_keeps_its_name() {
    let (key, value) = row(
        "shop",
        "stack",
        "slot-a",
        r#""container_id":"c1","state":"created","mine":1"#,
    );
    let mut bench = Bench::with(&[SHOP, (&key, &value)]).await;
    bench.docker.put(labelled("c1", "shop", "stack", "web"));
    bench.look().await;
    assert_eq!(bench.table().await, ["shop/slot-a c1 running"]);
    assert_eq!(bench.row("shop/slot-a").await.extra["mine"], 1);
}

#[tokio::test]
async fn case_3_a_container_that_is_gone_leaves_its_row_as_missing_also_when_nothing_is_left() {
    let mut bench = Bench::with(&[SHOP]).await;
    bench.docker.put(labelled("c1", "shop", "stack", "web"));
    bench.docker.put(labelled("c2", "shop", "stack", "db"));
    bench.look().await;
    bench.docker.remove("c1");
    bench.look().await;
    assert_eq!(bench.table().await, ["shop/db c2 running", "shop/web c1 missing"]);
    bench.docker.remove("c2");
    bench.look().await;
    assert_eq!(bench.table().await, ["shop/db c2 missing", "shop/web c1 missing"]);
}

#[tokio::test]
async fn case_4_a_placeholder_is_left_alone() {
    let (key, value) = row("shop", "stack", "web", r#""container_id":"","state":"starting""#);
    let deploy = (
        "/deploy/shop/api",
        r#"{"role":"api","host":"h1","state":"starting"}"#,
    );
    let mut bench = Bench::with(&[SHOP, (&key, &value), deploy]).await;
    let before = bench.ks.get(key.clone()).await.unwrap();
    bench.look().await;
    assert_eq!(bench.ks.get(key).await.unwrap(), before);
    let stored = bench.ks.get("/deploy/shop/api").await.unwrap().unwrap();
    assert_eq!(stored.version, 1);
}

#[tokio::test]
async fn case_5_an_unlabelled_and_a_forged_container_get_no_row_and_the_look_goes_on() {
    let mut bench = Bench::with(&[SHOP]).await;
    let mut foreign = Container::new("c1", "other");
    foreign.labels.insert("app".into(), "other".into());
    bench.docker.put(foreign);
    bench.docker.put(labelled("c2", "forged", "stack", "web"));
    bench.docker.put(labelled("c3", "shop", "stack", "web"));
    let report = bench.look().await;
    assert_eq!(bench.table().await, ["shop/web c3 running"]);
    let told: Vec<_> = report
        .untracked
        .iter()
        .map(|verdict| (&*verdict.container_id, verdict.untracked().unwrap().name()))
        .collect();
    assert_eq!(told, [("c1", "not_labelled"), ("c2", "unknown_workload")]);
    assert!(bench.ks.get("/workloads/forged").await.unwrap().is_none());
}

#[tokio::test]
async fn case_6_what_a_deployer_wrote_is_never_touched_and_what_docker_shows_is_written() {
    let deploy = r#"{"role":"prod","host":"h1","container_id":"c1","state":"deploying","stage_id":"s1","image_tag":"1.27","subdomain":"prod-p","proxy_route_id":"route-42","npm_proxy_id":7}"#;
    let mut bench = Bench::with(&[PROJECT, ("/deploy/proj/blue", deploy)]).await;
    bench.docker.put(labelled("c1", "proj", "project", "prod"));
    bench.look().await;
    let stored = bench.ks.get("/deploy/proj/blue").await.unwrap().unwrap();
    assert_eq!((stored.version, &stored.value[..]), (1, deploy.as_bytes()));
    let row = bench.row("proj/blue").await;
    assert_eq!(
        (row.state, row.port, &*row.image_ref),
        (State::Running, Some(8080), "nginx:1.27")
    );
    let joined = View::read(&bench.ks).await.unwrap().1.joined().remove(0);
    assert_eq!(
        (&*joined.subdomain, &*joined.proxy_route_id),
        ("prod-p", "route-42")
    );
    assert_eq!(
        (joined.npm_proxy_id, &*joined.image_tag, &*joined.stage_id),
        (Some(7), "1.27", "s1")
    );
    assert_eq!(
        (joined.state, &*joined.deploy_state),
        (State::Running, "deploying")
    );
}

#[tokio::test]
async fn case_7_rows_of_projects_are_only_updated_and_those_of_images_need_no_plugin() {
    let (key, value) = row(
        "img",
        "image",
        "image",
        r#""container_id":"c2","state":"running""#,
    );
    let mut bench = Bench::with(&[PROJECT, IMAGE, (&key, &value)]).await;
    bench.reconciler = Reconciler::builder("h1".parse().unwrap(), bench.docker.clone())
        .keyspace(bench.ks.clone())
        .plugins(Vec::new())
        .build();
    bench.docker.put(labelled("c1", "proj", "project", "prod"));
    let mut image = labelled("c2", "img", "image", "image");
    image.state = State::Stopped;
    image.ports = vec![tcp(3000)];
    image.image_ref = "ghcr.io/owner/app:v1".into();
    bench.docker.put(image);
    let report = bench.look().await;
    assert_eq!(bench.table().await, ["img/image c2 stopped"]);
    let row = bench.row("img/image").await;
    assert_eq!((row.port, &*row.image_ref), (Some(3000), "ghcr.io/owner/app:v1"));
    assert_eq!(report.untracked[0].untracked().unwrap().name(), "no_deploy_row");
}

#[tokio::test]
async fn case_8_dockers_exited_is_stopped() {
    let mut bench = Bench::with(&[SHOP]).await;
    let mut container = labelled("c1", "shop", "stack", "web");
    container.state = State::from_docker("exited");
    container.exit_code = Some(137);
    bench.docker.put(container);
    bench.look().await;
    let row = bench.row("shop/web").await;
    assert_eq!((row.state, row.exit_code), (State::Stopped, Some(137)));
}

#[tokio::test]
async fn case_9_upserts_a_forged_skip_and_a_missing_row_take_one_list() {
    let other = ("/workloads/b", r#"{"id":"b","kind":"stack"}"#);
    let (key, value) = row("b", "stack", "old", r#""container_id":"gone","state":"running""#);
    let mut bench = Bench::with(&[SHOP, other, (&key, &value)]).await;
    bench.docker.put(labelled("a1", "shop", "stack", "web"));
    let mut api = labelled("b1", "b", "stack", "api");
    api.state = State::Stopped;
    bench.docker.put(api);
    bench.docker.put(labelled("evil", "forged", "stack", "web"));
    let report = bench.look().await;
    assert_eq!(
        bench.table().await,
        ["b/api b1 stopped", "b/old gone missing", "shop/web a1 running"]
    );
    let calls = bench.docker.calls();
    assert_eq!((calls.lists, calls.id_lists, calls.inspects), (1, 0, 0));
    let rows = bench.ks.range(tidewatch_core::txn::RangeRequest::new(
        tidewatch_core::prefix("/containers/").unwrap(),
    ));
    let rows = rows.await.unwrap().1.kvs;
    assert!(
        rows.iter().all(|kv| Some(kv.mod_revision) == report.revision),
        "all at one revision"
    );
}

#[tokio::test]
async fn case_9_a_list_that_fails_changes_no_row() {
    let mut bench = Bench::with(&[SHOP]).await;
    bench.docker.put(labelled("c1", "shop", "stack", "web"));
    bench.look().await;
    bench.docker.fail_next(Call::List, Fault::unreachable());
    let error = bench.reconciler.reconcile_once().await.unwrap_err();
    assert!(matches!(error, Error::Docker(_)), "{error}");
    assert_eq!(bench.table().await, ["shop/web c1 running"]);
    let host = bench.ks.get("/hosts/h1").await.unwrap().unwrap();
    let host: tidewatch_fleet::Host = serde_json::from_slice(&host.value).unwrap();
    assert!(
        !host.reachable && host.error.contains("connection refused"),
        "{host:?}"
    );
    bench.look().await;
    let host = bench.ks.get("/hosts/h1").await.unwrap().unwrap();
    let host: tidewatch_fleet::Host = serde_json::from_slice(&host.value).unwrap();
    assert!(host.reachable && host.error.is_empty(), "{host:?}");
}

#[tokio::test]
async fn a_look_that_is_given_up_is_made_again_as_if_it_had_not_been() {
    let mut bench = Bench::with(&[SHOP]).await;
    bench.docker.hold_lists();
    let mut given_up = Box::pin(bench.reconciler.reconcile_once());
    while bench.docker.waiting_lists() == 0 {
        assert!((&mut given_up).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    drop(given_up);
    bench.docker.release_lists();
    bench.look().await;
    let host = bench.ks.get("/hosts/h1").await.unwrap().unwrap();
    let host: tidewatch_fleet::Host = serde_json::from_slice(&host.value).unwrap();
    assert_eq!(host.daemon_id, "d1");
}

#[tokio::test]
async fn case_10_plugins_work_on_the_data_of_the_same_look() {
    let pinned = (
        "/workloads/db",
        r#"{"id":"db","kind":"static","labels":{"container":"postgres"}}"#,
    );
    let mut bench = Bench::with(&[pinned]).await;
    bench.docker.put(Container::new("c1", "postgres"));
    bench.docker.put(compose("c2", "blog", "web"));
    bench.look().await;
    assert_eq!(
        bench.table().await,
        ["compose-blog/web c2 running", "db/postgres c1 running"]
    );
    assert_eq!(bench.docker.calls().lists, 1);
    let view = View::read(&bench.ks).await.unwrap().1;
    let adopted = &view.workloads["compose-blog"].value;
    assert_eq!((adopted.kind.as_str(), &*adopted.name), ("compose", "blog"));
}

fn compose(id: &str, project: &str, service: &str) -> Container {
    let mut container = Container::new(id, format!("{project}-{service}-1"));
    for (label, value) in [
        ("com.docker.compose.project", project),
        ("com.docker.compose.service", service),
        ("secret", "x"),
    ] {
        container.labels.insert(label.into(), value.into());
    }
    container
}

#[tokio::test]
async fn hole_a_label_kind_that_disagrees_loses_against_the_stored_kind() {
    let mut bench = Bench::with(&[SHOP, PROJECT]).await;
    bench.docker.put(labelled("c1", "shop", "project", "web"));
    bench.docker.put(labelled("c2", "proj", "stack", "web"));
    bench.look().await;
    assert_eq!(bench.table().await, ["shop/web c1 running"]);
    assert_eq!(bench.row("shop/web").await.workload_kind.as_str(), "stack");
}

#[tokio::test]
async fn hole_two_containers_of_one_role_never_fight_over_a_row() {
    let mut bench = Bench::with(&[SHOP]).await;
    bench.docker.put(labelled("old", "shop", "stack", "web"));
    bench.look().await;
    let mut new = labelled("new", "shop", "stack", "web");
    new.created = 5;
    new.state = State::Created;
    bench.docker.put(new.clone());
    bench.look().await;
    let both = ["shop/web old running", "shop/web.2 new created"];
    assert_eq!(bench.table().await, both);
    assert_eq!(bench.look().await.changes, [], "and it stays like that");
    new.state = State::Running;
    bench.docker.put(new);
    bench.docker.remove("old");
    bench.look().await;
    assert_eq!(
        bench.table().await,
        ["shop/web old missing", "shop/web.2 new running"]
    );
    let mut next = labelled("next", "shop", "stack", "web");
    next.created = 9;
    bench.docker.put(next);
    bench.look().await;
    assert_eq!(
        bench.table().await,
        ["shop/web next running", "shop/web.2 new running"],
        "a row whose container is gone is free"
    );
}

#[tokio::test]
async fn hole_the_empty_ports_of_a_stopped_container_do_not_erase_the_known_port() {
    let mut bench = Bench::with(&[SHOP]).await;
    let mut container = labelled("c1", "shop", "stack", "web");
    bench.docker.put(container.clone());
    bench.look().await;
    container.state = State::Stopped;
    container.ports.clear();
    bench.docker.put(container.clone());
    bench.look().await;
    let row = bench.row("shop/web").await;
    assert_eq!(
        (row.state, row.port, &*row.ports),
        (State::Stopped, Some(8080), &[tcp(8080)][..])
    );
    container.state = State::Running;
    bench.docker.put(container);
    bench.look().await;
    assert_eq!(
        bench.row("shop/web").await.port,
        None,
        "a running one without ports has none"
    );
}

#[tokio::test]
async fn hole_the_same_labels_do_not_take_over_a_row_that_is_bound_to_a_live_container() {
    let deploy = (
        "/deploy/proj/blue",
        r#"{"role":"web","host":"h1","container_id":"c1"}"#,
    );
    let mut bench = Bench::with(&[PROJECT, deploy]).await;
    bench.docker.put(labelled("c1", "proj", "project", "web"));
    bench.look().await;
    let mut thief = labelled("a0", "proj", "project", "web");
    thief.created = -5;
    bench.docker.put(thief.clone());
    let report = bench.look().await;
    assert_eq!(bench.table().await, ["proj/blue c1 running"]);
    assert_eq!(report.untracked[0].untracked().unwrap().name(), "no_deploy_row");
    thief.labels.insert("tidewatch.row".into(), "blue".into());
    bench.docker.put(thief);
    let report = bench.look().await;
    assert_eq!(bench.table().await, ["proj/blue c1 running"]);
    let reason = report.untracked[0].untracked().unwrap();
    assert_eq!(reason.name(), "row_taken");
    assert!(reason.to_string().contains("proj/blue"), "{reason}");
}

#[tokio::test]
async fn hole_a_row_comes_back_from_missing() {
    let mut bench = Bench::with(&[SHOP]).await;
    let container = labelled("c1", "shop", "stack", "web");
    bench.docker.put(container.clone());
    bench.look().await;
    bench.docker.remove("c1");
    bench.look().await;
    let missing = bench.row("shop/web").await;
    assert!(missing.state == State::Missing && missing.gone_since.is_some());
    bench.docker.put(container);
    bench.look().await;
    let back = bench.row("shop/web").await;
    assert_eq!(
        (back.state, &*back.reason, back.gone_since),
        (State::Running, "", None)
    );
}

#[tokio::test]
async fn hole_an_image_that_lost_its_tag_keeps_its_name() {
    let mut bench = Bench::with(&[SHOP]).await;
    let mut container = labelled("c1", "shop", "stack", "web");
    bench.docker.put(container.clone());
    bench.look().await;
    container.image_ref = "sha256:aa".into();
    bench.docker.put(container);
    assert_eq!(bench.look().await.changes, []);
    assert_eq!(bench.row("shop/web").await.image_ref, "nginx:1.27");
}

#[tokio::test]
async fn hole_ports_and_networks_in_another_order_are_no_change() {
    let mut bench = Bench::with(&[SHOP]).await;
    let mut container = labelled("c1", "shop", "stack", "web");
    container.ports = vec![tcp(9000), tcp(8080), tcp(9000)];
    let network = |name: &str| tidewatch_docker::Network {
        name: name.into(),
        ip: String::new(),
    };
    container.networks = vec![network("b"), network("a")];
    bench.docker.put(container.clone());
    bench.look().await;
    container.ports = vec![tcp(8080), tcp(9000)];
    container.networks.reverse();
    bench.docker.put(container);
    let before = bench.ks.status().await.unwrap().revision;
    assert_eq!(bench.look().await.changes, []);
    assert_eq!(
        bench.ks.status().await.unwrap().revision,
        before,
        "nothing unchanged is written"
    );
    assert_eq!(
        bench.row("shop/web").await.port,
        Some(8080),
        "the first in a stable order"
    );
}

#[tokio::test]
async fn hole_labels_of_another_system_are_read_under_their_own_prefix() {
    let mut bench = Bench::with(&[SHOP]).await;
    bench.reconciler = Reconciler::builder("h1".parse().unwrap(), bench.docker.clone())
        .keyspace(bench.ks.clone())
        .labels(LabelNames::new("tinyforge"))
        .plugins(plugin::without_adoption())
        .build();
    bench.docker.put(labelled("c1", "shop", "stack", "web"));
    let mut theirs = Container::new("c2", "theirs");
    for (label, value) in [
        ("tinyforge.managed", "true"),
        ("tinyforge.workload.id", "shop"),
        ("tinyforge.role", "api"),
    ] {
        theirs.labels.insert(label.into(), value.into());
    }
    bench.docker.put(theirs);
    bench.docker.put(compose("c3", "blog", "web"));
    bench.look().await;
    assert_eq!(bench.table().await, ["shop/api c2 running"]);
}

#[tokio::test]
async fn rows_keep_composes_labels_and_ours_and_no_others() {
    let mut bench = Bench::with(&[]).await;
    bench.docker.put(compose("c1", "blog", "web"));
    bench.look().await;
    let labels: Vec<_> = bench.row("compose-blog/web").await.labels.into_keys().collect();
    assert_eq!(
        labels,
        ["com.docker.compose.project", "com.docker.compose.service"]
    );
}
