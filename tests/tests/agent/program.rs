//! `tidewatch agent` as people run it, on a machine without a Docker.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use tidewatch_tests::port::HeldPort;
use tidewatch_tests::program::{Running, ServerProgram, agent, endpoint};
use tidewatch_tests::tcp_proxy::TcpProxy;
use tidewatch_tests::wait::eventually;

use super::rig::CEILING;

const ROW: &str = "/containers/shop/h1/web";

fn start(server: &ServerProgram, dir: &Path) -> Running {
    let docker = format!("unix://{}/docker.sock", dir.display());
    agent(server.endpoint(), "h1", &docker).unwrap()
}

fn host(server: &ServerProgram) -> Value {
    let hosts = server.run(&["hosts"]).unwrap();
    hosts.into_iter().next().unwrap_or_default()
}

fn row(server: &ServerProgram) -> Value {
    server.run(&["ps"]).unwrap().remove(0)
}

fn until(what: &str, condition: impl FnMut() -> bool) {
    assert!(eventually(CEILING, condition), "{what}");
}

fn with_a_row(server: &ServerProgram) {
    server
        .run(&["workload", "declare", "shop", "--kind", "stack"])
        .unwrap();
    let value = json!({"id": "shop:web", "workload_id": "shop", "workload_kind": "stack", "role": "web", "host": "h1",
        "container_id": "c1", "state": "running"});
    server.run(&["put", ROW, &value.to_string()]).unwrap();
}

#[test]
fn an_agent_starts_before_its_server_and_gives_its_host_up_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let port = HeldPort::new().unwrap();
    let docker = format!("unix://{}/docker.sock", dir.path().display());
    let agent = agent(&endpoint(port.address()), "h1", &docker).unwrap();
    agent.told("looking after host h1").unwrap();
    agent.told("the keyspace cannot be used").unwrap();
    let server = ServerProgram::start_alone_on(&dir.path().join("data"), port).unwrap();
    until("the host is claimed", || host(&server)["alive"] == true);
    let says_why = |told: &Value| {
        told["error"]
            .as_str()
            .is_some_and(|error| error.contains("docker.sock"))
    };
    until("the report arrives", || {
        let told = host(&server);
        told["lag_ms"].is_u64() && says_why(&told)
    });
    let told = host(&server);
    assert_eq!(told["reachable"], false);
    assert!(told["by"].as_str().unwrap().starts_with("agent on "), "{told}");
    agent.told("the keyspace can be used again").unwrap();
    // It is told before it is written.
    until("it is written", || server.run(&["get", "/hosts/h1"]).is_ok());
    assert_eq!(agent.end(Signal::TERM).unwrap(), Some(0));
    // At once, or when the lease expires: an agent that ends waits no longer for a server than somebody waits for the agent.
    until("the host is given up", || host(&server)["alive"] == false);
    let told = host(&server);
    assert_eq!(told["reachable"], false);
    assert!(
        told["error"].as_str().unwrap().contains("nobody reconciles"),
        "{told}"
    );
}

#[test]
fn the_rows_of_an_agent_that_was_killed_read_as_unknown_until_another_one_has_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProgram::start_alone(&dir.path().join("data")).unwrap();
    with_a_row(&server);
    let first = start(&server, dir.path());
    until("the row is observed", || row(&server)["state"] == "running");
    let second = start(&server, dir.path());
    let told = second.told("another instance reconciles this host").unwrap();
    until("the host is told", || host(&server)["instance"].is_string());
    // Written when its Docker has been asked, which takes a moment longer than the claim; without it nobody looks for
    // since when the host is absent.
    until("the host is written", || {
        server.run(&["get", "/hosts/h1"]).is_ok()
    });
    let instance = host(&server)["instance"].as_str().unwrap().to_owned();
    assert!(told.contains(&instance) && told.contains("--host-name"), "{told}");
    drop(first);
    until("it has taken over", || {
        host(&server)["instance"]
            .as_str()
            .is_some_and(|now| now != instance)
    });
    assert_eq!(row(&server)["state"], "running");
    second.signal(Signal::STOP).unwrap();
    until("the row is unknown", || row(&server)["state"] == "unknown");
    // Since when is read from the history, which takes a moment longer than that nobody is there.
    until("it is told since when", || {
        let told = row(&server);
        let reason = told["reason"].as_str().unwrap_or_default();
        reason.starts_with("nobody has reconciled host h1 since 20")
    });
    until("the host tells it too", || host(&server)["since"].is_string());
    let host_told = host(&server);
    assert!(
        host_told["since"].as_str().unwrap().starts_with("20"),
        "{host_told}"
    );
    assert!(
        host_told.get("lag_ms").is_none(),
        "its reports are gone: {host_told}"
    );
    second.signal(Signal::CONT).unwrap();
    until("the row is observed again", || row(&server)["state"] == "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_says_once_that_its_server_is_away_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProgram::start_alone(&dir.path().join("data")).unwrap();
    let proxy = TcpProxy::start(server.address()).await.unwrap();
    let docker = format!("unix://{}/docker.sock", dir.path().display());
    let agent = agent(&format!("http://{}", proxy.address()), "h1", &docker).unwrap();
    until("the host is claimed", || host(&server)["alive"] == true);
    // What it says of the keyspace, in order. On a slow machine it may have been away before, and back again.
    let mut is_away = Vec::new();
    let mut comes_to_say = |away: bool| {
        until(&format!("it says that it is away: {away}"), || {
            is_away.extend(agent.told_so_far().iter().filter_map(|line| {
                let cannot = line.contains("the keyspace cannot be used");
                (cannot || line.contains("the keyspace can be used again")).then_some(cannot)
            }));
            is_away.last() == Some(&away)
        });
    };
    proxy.refuse(true);
    proxy.cut();
    comes_to_say(true);
    // A call makes five attempts at most, so that several have failed since.
    let attempts = proxy.accepted().len() + 40;
    until("it tries again and again", || proxy.accepted().len() >= attempts);
    comes_to_say(true);
    proxy.refuse(false);
    comes_to_say(false);
    until("the report arrives", || host(&server)["lag_ms"].is_u64());
    assert!(
        is_away.windows(2).all(|said| said[0] != said[1]),
        "it says again what it has said: {is_away:?}"
    );
}
