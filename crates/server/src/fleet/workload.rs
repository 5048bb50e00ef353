//! All declared workloads, for those who need them in one piece.

use tidewatch_core::Keyspace;
use tidewatch_core::txn::Header;
use tidewatch_fleet::walk::Workloads;
use tidewatch_fleet::{Entry, Error, Workload, WorkloadId};

use super::attempt::undisturbed;

/// The workloads, by id.
///
/// # Errors
/// Those of [`Workloads`].
pub(crate) async fn workloads(
    keyspace: &Keyspace,
) -> Result<(Header, Vec<(WorkloadId, Entry<Workload>)>), Error> {
    undisturbed(|| read(keyspace)).await
}

async fn read(keyspace: &Keyspace) -> Result<(Header, Vec<(WorkloadId, Entry<Workload>)>), Error> {
    let mut rest = Workloads::start(keyspace).await?;
    let mut workloads = Vec::new();
    while let Some(some) = rest.next().await? {
        workloads.extend(some);
    }
    Ok((rest.header(), workloads))
}
