//! An agent that is told of several servers of one keyspace.

use std::path::Path;
use std::time::Duration;

use tidewatch_client::Client;
use tidewatch_core::{Keyspace, LeaseId, Revision};
use tidewatch_docker::{LEASE_TTL, RENEW_DEADLINE};
use tidewatch_tests::program::{Running, ServerProgram, agent};
use tidewatch_tests::tcp_proxy::TcpProxy;
use tidewatch_tests::wait::{eventually, eventually_async};

use super::engine::FakeEngine;
use super::rig::CEILING;

/// How often its server falls silent at most. A machine that stands still for some seconds while an agent looks for another server
/// costs it the time that is wanted, but not every time.
const ROUNDS: usize = 5;

/// What is left of a lease most of the time after it was renewed.
const NEARLY_DUE: Duration = LEASE_TTL.saturating_sub(Duration::from_millis(2_500));

/// Two ways to one server, which are two servers of one keyspace to whoever takes them, and an agent of both.
struct Ways {
    server: ServerProgram,
    ks: Keyspace,
    first: TcpProxy,
    second: TcpProxy,
    engine: FakeEngine,
    roles: Vec<String>,
    _agent: Running,
}

impl Ways {
    async fn start(dir: &Path) -> Self {
        let server = ServerProgram::start_alone(&dir.join("data")).unwrap();
        server
            .run(&["workload", "declare", "shop", "--kind", "stack"])
            .unwrap();
        let first = TcpProxy::start(server.address()).await.unwrap();
        let second = TcpProxy::start(server.address()).await.unwrap();
        let engine = FakeEngine::start(dir);
        let endpoints = format!("http://{},http://{}", first.address(), second.address());
        let client = Client::builder(server.endpoint()).connect().await.unwrap();
        Self {
            ks: client.keyspace(),
            _agent: agent(&endpoints, "h1", &engine.address()).unwrap(),
            roles: Vec::new(),
            server,
            first,
            second,
            engine,
        }
    }

    /// Leads whatever is at the second one to the first.
    fn lead_to_the_first(&self) {
        self.first.refuse(false);
        self.second.refuse(true);
        self.second.cut();
    }

    /// Starts a container. Roles come in their order.
    fn run(&mut self, role: String) {
        self.engine.run(&format!("container-{role}"), &role);
        self.roles.push(role);
    }

    /// Waits until there are rows of all that run, and no others.
    fn until_rows(&self) {
        let has_rows = || {
            let rows = self.server.run(&["ps"]).unwrap();
            rows.iter()
                .map(|row| row["role"].as_str().unwrap())
                .eq(self.roles.iter())
        };
        assert!(eventually(CEILING, has_rows), "{:?}", self.server.run(&["hosts"]));
    }

    /// When the host was claimed, and under which lease.
    async fn claim(&self) -> Option<(Revision, LeaseId)> {
        let claim = self.ks.get("/alive/h1").await.unwrap()?;
        Some((claim.mod_revision, claim.lease?))
    }

    /// What is left of a lease; nothing of one that is over.
    async fn left(&self, lease: LeaseId) -> Duration {
        let info = self.ks.lease_info(lease).await;
        info.map_or(Duration::ZERO, |(_, info)| info.remaining)
    }

    /// Whether the lease of the claim is to be renewed soon.
    async fn is_nearly_due(&self) -> bool {
        match self.claim().await {
            Some((_, lease)) => self.left(lease).await <= NEARLY_DUE,
            None => false,
        }
    }

    /// The least that was left of a lease before it was renewed; nothing if it was not.
    async fn left_at_renewal(&self, lease: LeaseId) -> Duration {
        let mut before = LEASE_TTL;
        loop {
            let left = self.left(lease).await;
            if left.is_zero() || left > before {
                return before.min(left);
            }
            before = left;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Publishes directives, and waits until the agent has said that it has them in force.
    async fn publish(&self, id: usize) {
        let set = format!(r#"{{"directives":[{{"id":"d{id}","level":"info","ttl_secs":3600}}]}}"#);
        let published = self.ks.put("/directives", set).await.unwrap();
        let is_told = async || {
            let said = self.ks.get("/nodes/h1/directives").await.unwrap();
            said.is_some_and(|said| said.mod_revision > published)
        };
        assert!(eventually_async(CEILING, is_told).await);
    }

    /// Whether the agent goes elsewhere in good time when its server falls silent at the worst moment: all of its connections have
    /// just been heard on, so that none of them counts as dead for long, and the lease was not renewed for long.
    async fn goes_on_in_time(&mut self, round: usize) -> bool {
        self.lead_to_the_first();
        self.run(format!("{round}-before"));
        self.until_rows();
        self.second.refuse(false);
        assert!(eventually_async(CEILING, || self.is_nearly_due()).await);
        self.publish(round).await;
        let was_due = self.is_nearly_due().await;
        let Some(claim) = self.claim().await else {
            return false;
        };
        let connections = self.second.accepted().len();

        // The connections stay open, and nothing passes any more, on new ones neither.
        self.first.refuse(true);
        self.first.freeze();
        self.run(format!("{round}-silent"));
        // A renewal that hangs leaves time for another one that would.
        let is_in_time = self.left_at_renewal(claim.1).await > RENEW_DEADLINE;
        self.until_rows();
        let has_moved = self.second.accepted().len() > connections;
        let keeps_its_host = self.claim().await == Some(claim);
        // What hangs there need not be waited for.
        self.first.cut();
        was_due && has_moved && is_in_time && keeps_its_host
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_server_falls_silent_goes_on_with_the_next_one_and_keeps_its_host() {
    let dir = tempfile::tempdir().unwrap();
    let mut ways = Ways::start(dir.path()).await;
    let mut in_time = false;
    for round in 0..ROUNDS {
        in_time = in_time || ways.goes_on_in_time(round).await;
    }
    assert!(in_time, "it came too late for its lease every time");
    // And back again.
    ways.lead_to_the_first();
    ways.run("back".to_owned());
    ways.until_rows();
}
