//! A keyspace in etcd does what every backend must do: in all of etcd, and in a part of it beside others' keys,
//! and in another Tidewatch.

use etcd_client::Client;
use tidewatch_core::Keyspace;
use tidewatch_core::conformance::{Capabilities, Subject};
use tidewatch_etcd::EtcdBackend;
use tidewatch_tests::etcd::RealEtcd;

fn run<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}

async fn subject(etcd: RealEtcd, namespace: &'static str) -> Subject {
    let backend = EtcdBackend::builder([etcd.address().to_string()])
        .namespace(namespace)
        .connect()
        .await
        .unwrap();
    let capabilities = Capabilities {
        dense_revisions: false,
        ..Capabilities::default()
    };
    // etcd has the machine's clock.
    Subject::new(Keyspace::new(backend), |by| Box::pin(tokio::time::sleep(by)))
        .capabilities(capabilities)
        .keep(etcd)
}

mod whole {
    use super::*;

    async fn fixture() -> Option<Subject> {
        let etcd = RealEtcd::for_test()?;
        Some(subject(etcd, "").await)
    }

    tidewatch_core::backend_conformance!(run, fixture);
}

mod part {
    use super::*;

    async fn fixture() -> Option<Subject> {
        let etcd = RealEtcd::for_test()?;
        let mut client = Client::connect([etcd.address().to_string()], None).await.unwrap();
        for theirs in ["/a", "/fleet", "/fleet.", "/fleet0", "\0", "z"] {
            client.put(theirs, "theirs", None).await.unwrap();
        }
        Some(subject(etcd, "/fleet/").await)
    }

    tidewatch_core::backend_conformance!(run, fixture);
}

/// A Tidewatch whose etcd API is the upstream: it is believed about its progress, and says which keyspace it is.
mod tier {
    use tidewatch_tests::program::ServerProgram;

    use super::*;

    async fn fixture() -> Option<Subject> {
        let dir = tempfile::tempdir().unwrap();
        let upstream = ServerProgram::start_alone(dir.path()).unwrap();
        let address = upstream.endpoint().trim_start_matches("http://").to_owned();
        let backend = EtcdBackend::builder([address]).connect().await.unwrap();
        let subject = Subject::new(Keyspace::new(backend), |by| Box::pin(tokio::time::sleep(by)));
        let capabilities = Capabilities {
            dense_revisions: false,
            ..Capabilities::default()
        };
        Some(subject.capabilities(capabilities).keep(upstream).keep(dir))
    }

    tidewatch_core::backend_conformance!(run, fixture);
}
