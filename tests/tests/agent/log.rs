//! Directives that an agent obeys: what it logs, and what it says it has in force.

use serde_json::{Value, json};
use tidewatch_tests::program::{ServerProgram, agent};
use tidewatch_tests::wait::eventually;

use super::engine::FakeEngine;
use super::rig::CEILING;

/// What the node says it has in force.
fn node(server: &ServerProgram, name: &str) -> Value {
    let lines = server.run(&["directives", "show", "--nodes"]).unwrap();
    let said = lines.into_iter().find(|line| line["node"] == name);
    said.unwrap_or_default()
}

fn has_row(server: &ServerProgram, role: &str) -> bool {
    let rows = server.run(&["ps"]).unwrap();
    rows.iter().any(|row| row["role"] == role)
}

#[test]
fn an_agent_logs_what_a_directive_wants_and_says_which_set_it_has_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProgram::start_alone(&dir.path().join("data")).unwrap();
    server
        .run(&["workload", "declare", "shop", "--kind", "stack"])
        .unwrap();
    let engine = FakeEngine::start(dir.path());
    let agent = agent(server.endpoint(), "h1", &engine.address()).unwrap();
    let publish = |id: &str, host: &str| {
        let host = format!("host={host}");
        let set = [
            "directives",
            "set",
            id,
            "--level",
            "debug",
            "--ttl",
            "1h",
            "--match",
            &host,
        ];
        server.run(&set).unwrap();
        let in_force = || {
            let said = node(&server, "h1");
            let directives = server.run(&["directives", "show"]).unwrap().len();
            said["directives"] == json!(directives)
        };
        assert!(eventually(CEILING, in_force), "{}", node(&server, "h1"));
    };
    // One for another host is in force here too, and concerns nothing here.
    publish("elsewhere", "h2");
    engine.run("c1", "web");
    assert!(eventually(CEILING, || has_row(&server, "web")));
    publish("here", "h1");
    engine.run("c2", "db");
    let line = agent.told("/containers/shop/h1/").unwrap();
    assert!(
        [" DEBUG ", "tidewatch_docker", "/containers/shop/h1/db"]
            .iter()
            .all(|part| line.contains(part)),
        "of what was written before nothing was logged: {line}"
    );
}
