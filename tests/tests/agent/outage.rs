//! A server that goes away and comes back, as itself or as another keyspace.

use std::sync::{Arc, OnceLock};

use tidewatch_client::{Client, Reconnect};
use tidewatch_core::Keyspace;
use tidewatch_docker::fake::FakeDocker;
use tidewatch_docker::{Container, Reconciler, ReconcilerStatus, Trigger};
use tidewatch_fleet::State;
use tidewatch_tests::wait::eventually_async;

use super::rig::{CEILING, TestServer};

/// A reconciler of `h1` over a client, as an agent runs it.
struct Agent {
    docker: FakeDocker,
    status: ReconcilerStatus,
    /// A client that nobody but the test uses.
    ks: Keyspace,
}

impl Agent {
    async fn start(server: &TestServer) -> Self {
        let trigger: Arc<OnceLock<Trigger>> = Arc::default();
        let asked = trigger.clone();
        let on_reconnect = move |told: &Reconnect| {
            if let (Reconnect::Resumed { .. }, Some(trigger)) = (told, asked.get()) {
                trigger.resync();
            }
        };
        let builder = || Client::builder(format!("http://{}", server.addr));
        let client = builder().on_reconnect(on_reconnect).connect_lazy().await.unwrap();
        let docker = FakeDocker::new("d1");
        docker.put_silently(project("c1", "web"));
        let reconciler = Reconciler::builder("h1".parse().unwrap(), docker.clone())
            .keyspace(client.keyspace())
            .events(docker.clone())
            .build();
        let status = reconciler.status();
        let _ = trigger.set(reconciler.trigger());
        tokio::spawn(reconciler.run(std::future::pending()));
        Self {
            docker,
            status,
            ks: builder().connect_lazy().await.unwrap().keyspace(),
        }
    }

    async fn until_row(&self, role: &str) {
        let key = format!("/containers/compose-blog/h1/{role}");
        let there = || async { matches!(self.ks.get(key.clone()).await, Ok(Some(_))) };
        assert!(
            eventually_async(CEILING, there).await,
            "no {key}: {:?}",
            self.status
        );
    }
}

/// A container of a Compose project, so that its workload comes with it.
fn project(id: &str, service: &str) -> Container {
    let mut container = Container::new(id, format!("blog-{service}-1"));
    container.labels = [
        ("com.docker.compose.project".to_owned(), "blog".to_owned()),
        ("com.docker.compose.service".to_owned(), service.to_owned()),
    ]
    .into();
    container.state = State::Running;
    container
}

#[tokio::test]
async fn after_a_server_was_restarted_everything_is_listed_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = Some(dir.path().join("data"));
    let mut server = TestServer::start(data.clone()).await;
    let agent = Agent::start(&server).await;
    agent.until_row("web").await;
    server.kill();
    let failing = || async { !agent.status.snapshot().store_error.is_empty() };
    assert!(eventually_async(CEILING, failing).await, "{:?}", agent.status);
    // Nobody tells of it, and the next regular resync is a minute away.
    agent.docker.put_silently(project("c2", "db"));
    let _server = TestServer::start_on(data, server.port.clone()).await;
    agent.until_row("db").await;
    let snapshot = agent.status.snapshot();
    assert_eq!(snapshot.drift, 0, "it is no drift: {snapshot:?}");
    assert_eq!(snapshot.reachable, Some(true), "nor the daemon's fault");
}

#[tokio::test]
async fn a_server_that_has_lost_its_memory_is_told_everything_again() {
    let mut server = TestServer::in_memory().await;
    let agent = Agent::start(&server).await;
    agent.until_row("web").await;
    server.kill();
    let _server = TestServer::start_on(None, server.port.clone()).await;
    agent.until_row("web").await;
    let told = || async { matches!(agent.ks.get("/hosts/h1").await, Ok(Some(_))) };
    assert!(eventually_async(CEILING, told).await);
}
