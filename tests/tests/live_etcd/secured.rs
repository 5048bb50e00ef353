//! An etcd that is spoken to over TLS.

use tidewatch_tests::certificate::{Signed, TestCa};
use tidewatch_tests::etcd_cluster::{EtcdCluster, ServerTls, Setup};

/// The etcd, who signs, and a certificate for its clients.
pub(crate) struct Secured {
    pub(crate) etcd: EtcdCluster,
    pub(crate) ca: TestCa,
    pub(crate) client: Signed,
}

impl Secured {
    /// One whose clients must show a certificate if it is mutual; none on a machine without etcd.
    pub(crate) fn for_test(mutual: bool) -> Option<Self> {
        let ca = TestCa::new();
        let server = ca.sign();
        let etcd = EtcdCluster::set_up(&Setup {
            tls: Some(ServerTls {
                client_ca: mutual.then(|| ca.pem()),
                certificate: server.certificate,
                key: server.key,
            }),
            ..Setup::default()
        })?;
        let client = ca.sign();
        Some(Self { etcd, ca, client })
    }
}
