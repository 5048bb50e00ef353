//! A server that can be killed and started again at the same address.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tidewatch_client::{Client, ClientBuilder};
use tidewatch_server::{Config, Error, Server};
use tidewatch_tests::port::HeldPort;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

/// Longer than anything here takes on a busy machine; a test that needs it has failed.
pub(crate) const CEILING: Duration = Duration::from_secs(60);

/// A server on a runtime of its own, which can be taken away under it.
pub(crate) struct TestServer {
    pub(crate) addr: SocketAddr,
    /// Keeps the address for the next server on it.
    pub(crate) port: Arc<HeldPort>,
    runtime: Option<Runtime>,
    drain: Option<oneshot::Sender<()>>,
}

impl TestServer {
    /// A server in memory.
    pub(crate) async fn in_memory() -> Self {
        Self::start(None).await
    }

    /// A server that is ready, on a port of its own.
    pub(crate) async fn start(data_dir: Option<PathBuf>) -> Self {
        Self::start_on(data_dir, Arc::new(HeldPort::new().unwrap())).await
    }

    /// The same on the port of another one, which was killed or has drained.
    pub(crate) async fn start_on(data_dir: Option<PathBuf>, port: Arc<HeldPort>) -> Self {
        let config = Config {
            listen: port.address(),
            no_docker: true,
            data_dir,
            ..Config::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (ready, mut is_ready) = mpsc::unbounded_channel();
        let (drain, drained) = oneshot::channel::<()>();
        let drained = drained.map(drop).shared();
        runtime.spawn(async move {
            while let Err(error) = serve(config.clone(), ready.clone(), drained.clone()).await {
                // One that was killed lets go of its port and directory in a moment.
                assert!(
                    matches!(
                        error,
                        Error::PortInUse { .. }
                            | Error::Database {
                                source: tidewatch_sqlite::Error::InUse { .. },
                                ..
                            }
                    ),
                    "{error}"
                );
                tokio::task::yield_now().await;
            }
        });
        let addr = within("the server to be ready", is_ready.recv()).await.unwrap();
        Self {
            addr,
            port,
            runtime: Some(runtime),
            drain: Some(drain),
        }
    }

    /// Takes everything away under the server, at once: no task of it runs any further.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Lets the server drain, as on SIGTERM.
    pub(crate) fn drain(&mut self) {
        drop(self.drain.take());
    }

    pub(crate) fn builder(&self) -> ClientBuilder {
        Client::builder(format!("http://{}", self.addr))
    }

    pub(crate) async fn client(&self) -> Client {
        self.builder().connect().await.unwrap()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn serve(
    config: Config,
    ready: mpsc::UnboundedSender<SocketAddr>,
    drained: impl Future<Output = ()>,
) -> Result<(), Error> {
    let server = Server::bind(config).await?;
    let addr = server.local_addr();
    let tell = move || {
        let _ = ready.send(addr);
    };
    server.run_with(tell, drained).await
}

/// Waits, but not forever.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(CEILING, future).await else {
        panic!("waited {CEILING:?} for {what}");
    };
    value
}
