//! All containers that pass a filter, for those who need them in one piece.

use tidewatch_core::Keyspace;
use tidewatch_core::txn::Header;
use tidewatch_fleet::{Error, JoinedRow, Walk};

use super::attempt::undisturbed;
use super::filter::ContainerFilter;
use crate::absence::Absences;

/// The containers that pass, in the order of workload, row and host.
///
/// # Errors
/// Those of [`Walk`].
pub(crate) async fn containers(
    keyspace: &Keyspace,
    absences: &Absences,
    filter: &ContainerFilter,
) -> Result<(Header, Vec<JoinedRow>), Error> {
    let (header, mut rows) = undisturbed(|| walked(keyspace, absences, filter)).await?;
    rows.sort_by(|a, b| {
        (&a.workload_id, &a.row, &a.host, &a.key).cmp(&(&b.workload_id, &b.row, &b.host, &b.key))
    });
    Ok((header, rows))
}

async fn walked(
    keyspace: &Keyspace,
    absences: &Absences,
    filter: &ContainerFilter,
) -> Result<(Header, Vec<JoinedRow>), Error> {
    let mut walk = Walk::start(keyspace, filter.workload()).await?;
    absences.tell(keyspace, walk.about_hosts()).await;
    let mut rows = Vec::new();
    while let Some(some) = walk.next().await? {
        rows.extend(some.into_iter().filter(|row| filter.passes(row)));
    }
    Ok((walk.header(), rows))
}
