//! Docker hosts, each looked after by a server of its own.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tidewatch_tests::etcd_cluster::EtcdCluster;
use tidewatch_tests::program::ServerProgram;
use tidewatch_tests::wait::eventually;

use super::CEILING;
use super::engine::FakeEngine;

/// A host with an engine, which has no containers at first.
struct DockerHost {
    name: &'static str,
    engine: FakeEngine,
}

impl DockerHost {
    fn start(dir: &Path, name: &'static str) -> anyhow::Result<Self> {
        let dir = dir.join(name);
        std::fs::create_dir(&dir)?;
        Ok(Self {
            name,
            engine: FakeEngine::start(&dir),
        })
    }

    /// A server that looks after it.
    fn serve(&self, etcd: &EtcdCluster) -> anyhow::Result<ServerProgram> {
        ServerProgram::start_on_etcd_for(&etcd.endpoints(), self.name, &self.engine.address())
    }

    /// Starts a container.
    fn run(&self, role: &str) {
        self.engine.run(&container(self.name, role), role);
    }
}

/// The id of a container.
fn container(host: &str, role: &str) -> String {
    format!("{role}-on-{host}")
}

/// The rows that a server shows, as their host, role and state, in this order. Each is of the right container.
fn rows(server: &ServerProgram) -> Vec<[String; 3]> {
    let rows = server.run(&["ps"]).expect("it shows them");
    let row = |row: Value| {
        let [host, role, state] =
            ["host", "role", "state"].map(|field| row[field].as_str().unwrap_or_default().to_owned());
        assert_eq!(row["container_id"], *container(&host, &role), "{row}");
        [host, role, state]
    };
    let mut rows: Vec<_> = rows.into_iter().map(row).collect();
    rows.sort();
    rows
}

fn until_rows(server: &ServerProgram, expected: &[[&str; 3]]) -> anyhow::Result<()> {
    ensure!(
        eventually(CEILING, || rows(server) == expected),
        "expected {expected:?}, found {:?}; {:?}",
        rows(server),
        server.run(&["hosts"])
    );
    Ok(())
}

/// Which instance has a host, as a server tells it; none if nobody has.
fn instance(server: &ServerProgram, host: &str) -> Option<String> {
    let hosts = server.run(&["hosts"]).expect("it shows them");
    let host = hosts.into_iter().find(|told| told["host"] == host)?;
    let told = host["instance"].as_str()?;
    (host["alive"] == true).then(|| told.to_owned())
}

/// Waits until a server tells this of the only host it looks after.
fn until_reconciler(server: &ServerProgram, holds: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
    let told = || -> anyhow::Result<Value> {
        let status = server.run(&["status"])?;
        Ok(status.first().context("it says nothing")?["reconcilers"].clone())
    };
    let is_so =
        || told().is_ok_and(|told| told.as_array().is_some_and(|all| all.len() == 1) && holds(&told[0]));
    ensure!(eventually(CEILING, is_so), "{:?}", told());
    Ok(())
}

/// Waits until the host is a server's own, and it knows this many containers.
fn until_it_has(server: &ServerProgram, host: &DockerHost, containers: usize) -> anyhow::Result<()> {
    until_reconciler(server, |told| {
        told["host"] == host.name && told["error"] == "" && told["containers"] == containers
    })
}

fn declare(server: &ServerProgram) -> anyhow::Result<()> {
    server.run(&["workload", "declare", "shop", "--kind", "stack"])?;
    Ok(())
}

#[test]
fn each_server_writes_the_rows_of_its_own_host_and_all_show_those_of_all() -> anyhow::Result<()> {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let hosts = [
        DockerHost::start(dir.path(), "h1")?,
        DockerHost::start(dir.path(), "h2")?,
    ];
    let servers = [hosts[0].serve(&etcd)?, hosts[1].serve(&etcd)?];
    declare(&servers[0])?;
    hosts[0].run("web");
    hosts[1].run("web");
    hosts[1].run("db");
    for server in &servers {
        until_rows(
            server,
            &[
                ["h1", "web", "running"],
                ["h2", "db", "running"],
                ["h2", "web", "running"],
            ],
        )?;
    }
    until_it_has(&servers[0], &hosts[0], 1)?;
    until_it_has(&servers[1], &hosts[1], 2)?;
    let told = |server| hosts.each_ref().map(|host| instance(server, host.name));
    let [first, second] = told(&servers[0]);
    ensure!(
        first.is_some() && second.is_some() && first != second,
        "{first:?} {second:?}"
    );
    assert_eq!(told(&servers[1]), [first, second]);
    Ok(())
}

#[test]
fn the_rows_of_a_server_that_was_killed_are_unknown_until_it_is_back_and_those_of_the_other_go_on()
-> anyhow::Result<()> {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let (stays, dies) = (
        DockerHost::start(dir.path(), "h1")?,
        DockerHost::start(dir.path(), "h2")?,
    );
    let (server, mut killed) = (stays.serve(&etcd)?, dies.serve(&etcd)?);
    declare(&server)?;
    stays.run("web");
    dies.run("web");
    for server in [&server, &killed] {
        until_rows(server, &[["h1", "web", "running"], ["h2", "web", "running"]])?;
    }
    let mut shown = Ok(());
    killed.stop_for(|| {
        shown = (|| {
            let mut seen = Vec::new();
            let is_unknown = || {
                seen = rows(&server);
                assert_eq!(seen[0], ["h1", "web", "running"]);
                seen[1][2] == "unknown"
            };
            ensure!(eventually(CEILING, is_unknown), "{seen:?}");
            assert_eq!(instance(&server, "h2"), None);
            // What begins meanwhile is seen of the one and not of the other.
            stays.run("db");
            dies.run("db");
            until_rows(
                &server,
                &[
                    ["h1", "db", "running"],
                    ["h1", "web", "running"],
                    ["h2", "web", "unknown"],
                ],
            )
        })();
    })?;
    shown?;
    for server in [&server, &killed] {
        until_rows(
            server,
            &[
                ["h1", "db", "running"],
                ["h1", "web", "running"],
                ["h2", "db", "running"],
                ["h2", "web", "running"],
            ],
        )?;
    }
    Ok(())
}

#[test]
fn a_second_server_of_a_host_is_told_who_has_it_and_takes_over_when_that_one_was_killed() -> anyhow::Result<()>
{
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let host = DockerHost::start(dir.path(), "h1")?;
    let first = host.serve(&etcd)?;
    declare(&first)?;
    host.run("web");
    until_rows(&first, &[["h1", "web", "running"]])?;
    let holder = instance(&first, "h1").context("nobody has the host")?;
    let second = host.serve(&etcd)?;
    until_reconciler(&second, |told| {
        let error = told["error"].as_str().unwrap_or_default();
        [&*holder, "reconciles this host", "--host-name"]
            .iter()
            .all(|words| error.contains(words))
    })?;
    // It has not pushed in.
    assert_eq!(instance(&second, "h1").as_ref(), Some(&holder));
    // Killed, and gone for good.
    drop(first);
    let taken_over = || instance(&second, "h1").is_some_and(|now| now != holder);
    ensure!(eventually(CEILING, taken_over), "{:?}", second.run(&["hosts"]));
    host.run("db");
    until_rows(&second, &[["h1", "db", "running"], ["h1", "web", "running"]])?;
    until_it_has(&second, &host, 2)?;
    Ok(())
}
