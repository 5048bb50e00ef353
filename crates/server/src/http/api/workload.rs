//! `GET /api/v1/workloads`: what is declared, as `tidewatch workload ls` shows it.

use axum::extract::State;
use axum::response::Response;
use futures_util::stream::{self, StreamExt as _};
use http::Uri;
use tidewatch_fleet::walk::Workloads;
use tidewatch_fleet::{Error, FleetKey};

use super::host::Item;
use super::list::{self, Frame, Rows};
use super::query::Query;
use crate::fleet::undisturbed;
use crate::grpc::{FleetService, fleet_row};
use crate::http::problem::Problem;

/// The handler.
pub(super) async fn list(State(fleet): State<FleetService>, uri: Uri) -> Result<Response, Problem> {
    Query::of(&uri, &[])?;
    let begun = || async {
        let workloads = Workloads::start(&fleet.keyspace).await?;
        let header = workloads.header();
        list::answer(header, Frame::object(header), rows(workloads)).await
    };
    Ok(undisturbed(begun).await?)
}

fn rows(workloads: Workloads) -> Rows<Item> {
    let step = |mut rest: Workloads| async move {
        let some = rest.next().await?;
        let items = some.map(|some| {
            let some = some.into_iter();
            some.map(|(id, entry)| {
                Item(fleet_row(
                    &FleetKey::Workload(id),
                    entry.mod_revision,
                    &entry.value,
                ))
            })
            .collect()
        });
        Ok::<_, Error>(items.map(|items: Vec<_>| (items, rest)))
    };
    stream::try_unfold(workloads, step).boxed()
}
