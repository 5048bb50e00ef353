//! The real program on a real engine: what the README promises, as people see it.

use std::time::Duration;

use serde_json::Value;
use tidewatch_tests::json;
use tidewatch_tests::private_docker::PrivateDocker;
use tidewatch_tests::program::{Running, ServerProgram};
use tidewatch_tests::socket_proxy::{Fault, SocketProxy};
use tidewatch_tests::wait::eventually;

use super::observed::{CEILING, labels};

fn run(docker: &PrivateDocker, name: &str, role: &str) -> String {
    let labels = labels("shop", "stack", role);
    let options: Vec<_> = labels.iter().map(String::as_str).collect();
    docker.run(name, &options).unwrap()
}

/// The row in the next line of a watch in which it is in this state.
fn row(watch: &Running, key: &str, state: &str) -> Value {
    let row = |line: &Value| -> Option<Value> {
        let is_it = line["type"] == "put" && line["key"] == key;
        is_it.then(|| serde_json::from_str(line["value"].as_str().unwrap()).unwrap())
    };
    let line = watch.json_line(|line| row(line).is_some_and(|row| row["state"] == state));
    row(&line.unwrap()).unwrap()
}

fn host(server: &ServerProgram) -> Value {
    server
        .run(&["hosts"])
        .unwrap()
        .into_iter()
        .next()
        .unwrap_or_default()
}

#[test]
fn a_container_is_seen_from_another_terminal_also_after_the_server_was_killed() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let mut server = ServerProgram::start(&docker.dir().join("tidewatch"), &docker.address()).unwrap();
    server
        .run(&["workload", "declare", "shop", "--kind", "stack"])
        .unwrap();
    let watch = server.spawn(&["watch", "/containers/"]).unwrap();
    watch.json_line(|line| line["type"] == "created").unwrap();

    let id = run(&docker, "web-1", "web");
    let web = "/containers/shop/h1/web";
    assert_eq!(row(&watch, web, "running")["container_id"], id.as_str());
    docker.docker(["pause", "web-1"]).unwrap();
    row(&watch, web, "paused");
    docker.docker(["unpause", "web-1"]).unwrap();
    row(&watch, web, "running");
    docker.docker(["kill", "web-1"]).unwrap();
    assert_eq!(row(&watch, web, "stopped")["exit_code"], 137);
    let ps = server.run(&["ps"]).unwrap();
    assert_eq!(
        (ps.len(), &ps[0]["state"], &ps[0]["key"]),
        (1, &"stopped".into(), &web.into())
    );

    server.crash_and_restart().unwrap();
    docker.docker(["start", "web-1"]).unwrap();
    row(&watch, web, "running");
    docker.docker(["rm", "--force", "web-1"]).unwrap();
    assert_eq!(row(&watch, web, "missing")["container_id"], id.as_str());
    assert_eq!(server.terminate().unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_without_a_row_is_explained() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let server = ServerProgram::start(&docker.dir().join("tidewatch"), &docker.address()).unwrap();
    run(&docker, "forged", "web");
    let untracked = || server.run(&["ps", "--untracked"]).unwrap();
    assert!(eventually(CEILING, || !untracked().is_empty()));
    assert!(untracked()[0].to_string().contains("forged"), "{:?}", untracked());
    let explained = server.run(&["explain", "forged"]).unwrap();
    assert!(explained[0].to_string().contains("shop"), "{explained:?}");

    let url = format!("{}/api/v1/containers?untracked=true", server.endpoint());
    for (filter, found) in [
        ("", 1),
        ("&host=h1&state=running", 1),
        ("&host=h2", 0),
        ("&state=stopped", 0),
    ] {
        let answer = json::get(&format!("{url}{filter}")).await.unwrap();
        let items = answer["items"].as_array().unwrap();
        assert_eq!(items.len(), found, "{filter}: {answer:#}");
        assert!(
            items
                .iter()
                .all(|item| item["name"] == "forged" && item["reason"].is_string()),
            "{filter}: {answer:#}"
        );
    }
}

#[test]
fn without_a_docker_it_serves_says_so_and_finds_it_when_it_comes() {
    let Some(mut docker) = PrivateDocker::for_test() else {
        return;
    };
    docker.terminate().unwrap();
    let server = ServerProgram::start(&docker.dir().join("tidewatch"), &docker.address()).unwrap();
    server.run(&["put", "/config/a", "1"]).unwrap();
    // Before it has looked for one, it says so too, but not why.
    let says_so = || {
        let told = host(&server);
        told["reachable"] == false && told["error"].to_string().contains("docker.sock")
    };
    assert!(eventually(CEILING, says_so), "{}", host(&server));
    docker.start_daemon().unwrap();
    assert!(eventually(CEILING, || host(&server)["reachable"] == true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_that_hangs_is_shown_and_holds_nobody_up() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let proxy = SocketProxy::start(docker.dir().join("proxy.sock"), &docker.socket()).unwrap();
    let server = ServerProgram::start(&docker.dir().join("tidewatch"), &proxy.address()).unwrap();
    server
        .run(&["workload", "declare", "shop", "--kind", "stack"])
        .unwrap();
    run(&docker, "web-1", "web");
    let state = || server.run(&["get", "/containers/shop/h1/web"]).ok();
    let is_running = |rows: Vec<Value>| {
        let row = rows[0]["value"].as_str().unwrap_or_default();
        row.contains(r#""state":"running""#)
    };
    assert!(eventually(CEILING, || state().is_some_and(is_running)));
    let before = state();

    proxy.set_fault(Fault::StallAfter(0));
    assert!(eventually(CEILING, || host(&server)["reachable"] == false));
    server.run(&["put", "/config/a", "1"]).unwrap();
    assert_eq!(state(), before);
    proxy.set_fault(Fault::None);
    assert!(eventually(CEILING, || host(&server)["reachable"] == true));
    assert_eq!(state(), before);
}

#[test]
fn nothing_is_written_while_nothing_changes() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let server = ServerProgram::start(&docker.dir().join("tidewatch"), &docker.address()).unwrap();
    server
        .run(&["workload", "declare", "shop", "--kind", "stack"])
        .unwrap();
    let watch = server.spawn(&["watch", "/containers/"]).unwrap();
    watch.json_line(|line| line["type"] == "created").unwrap();
    run(&docker, "web-1", "web");
    row(&watch, "/containers/shop/h1/web", "running");
    let revision = || server.run(&["status"]).unwrap()[0]["revision"].as_u64().unwrap();
    // Long enough for pings, a renewal of the lease, and for all that is told again. On a slow machine what the start
    // has brought about may take a while to be written, or a ping too long; not every time.
    let is_quiet = |_| {
        let before = revision();
        !eventually(Duration::from_secs(6), || revision() != before)
    };
    assert!((0..5).any(is_quiet));
}
