//! `GET /api/v1/containers`: the joined rows, as `tidewatch ps` shows them, or the containers without one.

use axum::extract::State;
use axum::response::Response;
use futures_util::stream::{self, StreamExt as _};
use http::Uri;
use serde_json::json;
use tidewatch_fleet::{Error, JoinedRow, Walk};
use tidewatch_proto::v1;

use super::list::{self, Frame, Rows};
use super::query::Query;
use crate::fleet::{ContainerFilter, undisturbed};
use crate::grpc::FleetService;
use crate::http::problem::Problem;

const PARAMETERS: [&str; 6] = ["workload", "role", "host", "state", "label", "untracked"];

/// What says something about a row, and so means nothing for a container without one.
const OF_ROWS: [&str; 3] = ["workload", "role", "label"];

/// The handler.
pub(super) async fn list(State(fleet): State<FleetService>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::of(&uri, &PARAMETERS)?;
    let filter = filter(&query)?;
    if query.one("untracked")?.unwrap_or(false) {
        if let Some(name) = OF_ROWS.into_iter().find(|name| query.has(name)) {
            let detail = format!("a container that is not tracked has no {name}: leave it or untracked out");
            return Err(Problem::with_parameter(name, detail));
        }
        let (header, rows, unknown) = fleet.untracked(&filter).await?;
        let unknown = format!(r#""unknown":{},"#, json!(unknown));
        let frame = Frame::object_with(header, &unknown);
        return Ok(list::answer(header, frame, list::ready(rows)).await?);
    }
    let begun = || async {
        let mut walk = Walk::start(&fleet.keyspace, filter.workload()).await?;
        let absences = &fleet.reconcilers.absences;
        absences.tell(&fleet.keyspace, walk.about_hosts()).await;
        let header = walk.header();
        list::answer(header, Frame::object(header), rows(walk, filter.clone())).await
    };
    Ok(undisturbed(begun).await?)
}

/// The filter that a query describes.
///
/// # Errors
/// A problem with one of its parameters.
pub(super) fn filter(query: &Query) -> Result<ContainerFilter, Problem> {
    let text = |name| query.text(name).map(str::to_owned);
    let wire = v1::ContainerFilter {
        workload: text("workload")?,
        host: text("host")?,
        state: text("state")?,
    };
    let filter = ContainerFilter::try_from(Some(wire))?;
    Ok(filter.of_role(query.one("role")?).labelled(query.all("label")?))
}

fn rows(walk: Walk, filter: ContainerFilter) -> Rows<JoinedRow> {
    let step = |(mut walk, filter): (Walk, ContainerFilter)| async move {
        let rows: Option<Vec<JoinedRow>> = walk.next().await?;
        let passing = |rows: Vec<JoinedRow>| rows.into_iter().filter(|row| filter.passes(row)).collect();
        let rows = rows.map(passing);
        Ok::<_, Error>(rows.map(|rows| (rows, (walk, filter))))
    };
    stream::try_unfold((walk, filter), step).boxed()
}
