//! A server's keyspace, through the client, does what every backend must do.

use tidewatch_core::conformance::Subject;

use crate::rig::TestServer;

fn run<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}

async fn remote() -> Subject {
    let server = TestServer::in_memory().await;
    let keyspace = server.client().await.keyspace();
    // The server has the machine's clock.
    Subject::new(keyspace, |by| Box::pin(tokio::time::sleep(by))).keep(server)
}

tidewatch_core::backend_conformance!(run, remote);
