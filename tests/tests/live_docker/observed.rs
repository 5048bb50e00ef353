//! A Docker host that is observed: engine, reconciler, keyspace and a watch on what is written.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use tidewatch_core::{EventKind, Keyspace, Revision, Watch, prefix};
use tidewatch_docker::{Engine, Reconciler, ReconcilerSettings, ReconcilerStatus};
use tidewatch_fleet::{ContainerRow, DeployRow, Host, Kind, State, Workload, value};
use tidewatch_tests::private_docker::PrivateDocker;
use tidewatch_tests::wait::eventually_async;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// For what is promised within a second, on a machine that has other things to do.
pub(crate) const CEILING: Duration = Duration::from_secs(60);

/// The host's name.
pub(crate) const HOST: &str = "h1";

/// What runs, and what a watch has told of it. What these tests see, they see through that watch.
pub(crate) struct Observed {
    pub(crate) keyspace: Keyspace,
    pub(crate) status: ReconcilerStatus,
    watch: Watch,
    rows: BTreeMap<String, ContainerRow>,
    /// The state of each row in each event, in their order.
    states: Vec<State>,
    stop: Option<oneshot::Sender<()>>,
    reconciler: JoinHandle<()>,
    driver: JoinHandle<()>,
    /// The last field, so that it is there for as long as anybody asks it.
    pub(crate) docker: PrivateDocker,
}

impl Observed {
    /// An engine without containers, and a keyspace without workloads.
    pub(crate) async fn new(docker: PrivateDocker) -> Self {
        Self::with_settings(docker, ReconcilerSettings::default()).await
    }

    pub(crate) async fn with_settings(docker: PrivateDocker, settings: ReconcilerSettings) -> Self {
        let engine = Engine::at(&docker.address()).unwrap();
        Self::through(docker, engine, settings).await
    }

    /// The same, with an engine that is reached in another way.
    pub(crate) async fn through(docker: PrivateDocker, engine: Engine, settings: ReconcilerSettings) -> Self {
        let keyspace = Keyspace::memory();
        let driver = tokio::spawn(keyspace.driver());
        let watch = keyspace
            .watch(prefix("/containers/").unwrap())
            .start()
            .await
            .unwrap();
        let reconciler = Reconciler::builder(HOST.parse().unwrap(), engine.clone())
            .events(engine.clone())
            .inspect(engine)
            .keyspace(keyspace.clone())
            .settings(settings)
            .build();
        let status = reconciler.status();
        let (stop, stopped) = oneshot::channel();
        let reconciler = tokio::spawn(reconciler.run(async { drop(stopped.await) }));
        let observed = Self {
            keyspace,
            status,
            watch,
            rows: BTreeMap::new(),
            states: Vec::new(),
            stop: Some(stop),
            reconciler,
            driver,
            docker,
        };
        observed
            .until_status("the host is reachable", |status| {
                status.snapshot().reachable == Some(true)
            })
            .await;
        observed
    }

    /// Declares a workload, as an operator does.
    pub(crate) async fn declare(&self, id: &str, kind: Kind) {
        let workload = Workload::new(id.parse().unwrap(), kind);
        let key = format!("/workloads/{id}");
        self.keyspace.put(key, value::encode(&workload)).await.unwrap();
    }

    /// Writes a deploy row, as a deployer does, and returns its revision.
    pub(crate) async fn deploy(&self, workload: &str, row: &str, deploy: &DeployRow) -> Revision {
        let key = format!("/deploy/{workload}/{row}");
        self.keyspace.put(key, value::encode(deploy)).await.unwrap()
    }

    /// Starts a container that carries our labels.
    pub(crate) fn run_labelled(&self, name: &str, workload: &str, role: &str, options: &[&str]) -> String {
        let labels = labels(workload, "stack", role);
        let labels = labels.iter().map(String::as_str);
        let options: Vec<_> = labels.chain(options.iter().copied()).collect();
        self.docker.run(name, &options).unwrap()
    }

    /// Runs Docker's client.
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        self.docker.docker(args).unwrap()
    }

    /// Waits until the watch has told of a row like this, and returns it.
    pub(crate) async fn row(
        &mut self,
        workload: &str,
        row: &str,
        matches: impl Fn(&ContainerRow) -> bool,
    ) -> ContainerRow {
        let key = format!("/containers/{workload}/{HOST}/{row}");
        self.until(&key, |rows| rows.get(&key).filter(|row| matches(row)).cloned())
            .await
    }

    /// Waits until a row is in a state.
    pub(crate) async fn state(&mut self, workload: &str, row: &str, state: State) -> ContainerRow {
        self.row(workload, row, |row| row.state == state).await
    }

    /// Waits until the rows that the watch has told of are such.
    pub(crate) async fn until<T>(
        &mut self,
        what: &str,
        holds: impl Fn(&BTreeMap<String, ContainerRow>) -> Option<T>,
    ) -> T {
        let heard = tokio::time::timeout(CEILING, async {
            loop {
                if let Some(found) = holds(&self.rows) {
                    return found;
                }
                let batch = self.watch.next().await.unwrap();
                for event in &batch {
                    let key = String::from_utf8(event.key().to_vec()).unwrap();
                    if event.kind() == EventKind::Delete {
                        self.rows.remove(&key);
                    } else {
                        let row: ContainerRow = serde_json::from_slice(event.value()).unwrap();
                        self.states.push(row.state);
                        self.rows.insert(key, row);
                    }
                }
            }
        })
        .await;
        heard.unwrap_or_else(|_| {
            panic!(
                "not seen: {what}; rows: {:#?}; status: {:?}",
                self.rows, self.status
            )
        })
    }

    /// The rows that the watch has told of.
    pub(crate) fn rows(&self) -> &BTreeMap<String, ContainerRow> {
        &self.rows
    }

    /// Every state that any row was told to have had.
    pub(crate) fn states(&self) -> &[State] {
        &self.states
    }

    /// Waits until the reconciler says so of itself.
    pub(crate) async fn until_status(&self, what: &str, holds: impl Fn(&ReconcilerStatus) -> bool) {
        let held = eventually_async(CEILING, || async { holds(&self.status) }).await;
        assert!(held, "not so: {what}; status: {:?}", self.status);
    }

    /// The key of the host, once it is such.
    pub(crate) async fn host(&self, matches: impl Fn(&Host) -> bool) -> Host {
        let found = Cell::new(None);
        let look = || async {
            let kv = self.keyspace.get(format!("/hosts/{HOST}")).await.unwrap();
            let host = kv.and_then(|kv| serde_json::from_slice::<Host>(&kv.value).ok());
            let host = host.filter(|host| matches(host));
            let is_such = host.is_some();
            found.set(host);
            is_such
        };
        let was_such = eventually_async(CEILING, look).await;
        assert!(was_such, "the host never was such; status: {:?}", self.status);
        found.take().expect("it was such")
    }

    /// Ends the reconciler as SIGTERM does.
    pub(crate) async fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        tokio::time::timeout(CEILING, &mut self.reconciler)
            .await
            .unwrap()
            .unwrap();
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.reconciler.abort();
        self.driver.abort();
    }
}

/// The options that give a container our labels.
pub(crate) fn labels(workload: &str, kind: &str, role: &str) -> [String; 4] {
    [
        "--label=tidewatch.managed=true".to_owned(),
        format!("--label=tidewatch.workload.id={workload}"),
        format!("--label=tidewatch.workload.kind={kind}"),
        format!("--label=tidewatch.role={role}"),
    ]
}
