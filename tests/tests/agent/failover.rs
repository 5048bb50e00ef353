//! An agent that is told of several servers of one keyspace.

use tidewatch_tests::program::{ServerProgram, agent};
use tidewatch_tests::tcp_proxy::TcpProxy;
use tidewatch_tests::wait::eventually;

use super::engine::FakeEngine;
use super::rig::CEILING;

/// Whether there are rows of these roles, and no others.
fn has_rows(server: &ServerProgram, roles: &[&str]) -> bool {
    let rows = server.run(&["ps"]).unwrap();
    rows.iter()
        .map(|row| row["role"].as_str().unwrap())
        .eq(roles.iter().copied())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_server_falls_silent_goes_on_with_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProgram::start_alone(&dir.path().join("data")).unwrap();
    server
        .run(&["workload", "declare", "shop", "--kind", "stack"])
        .unwrap();
    // Two ways to one server are two servers of one keyspace to whoever takes them.
    let first = TcpProxy::start(server.address()).await.unwrap();
    let second = TcpProxy::start(server.address()).await.unwrap();
    let engine = FakeEngine::start(dir.path());
    engine.run("c1", "web");
    let endpoints = format!("http://{},http://{}", first.address(), second.address());
    let agent = agent(&endpoints, "h1", &engine.address()).unwrap();
    assert!(
        eventually(CEILING, || has_rows(&server, &["web"])),
        "{:?}",
        server.run(&["hosts"])
    );

    // Its connections stay open, and nothing passes any more, on new ones neither.
    first.refuse(true);
    first.freeze();
    engine.run("c2", "zoo");
    assert!(
        eventually(CEILING, || has_rows(&server, &["web", "zoo"])),
        "{:?}",
        server.run(&["hosts"])
    );
    // And back again.
    first.refuse(false);
    second.refuse(true);
    second.cut();
    engine.run("c3", "zoo.2");
    assert!(
        eventually(CEILING, || has_rows(&server, &["web", "zoo", "zoo.2"])),
        "{:?}",
        server.run(&["hosts"])
    );
    drop(agent);
}
