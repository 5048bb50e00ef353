//! `GET /api/v1/hosts`: the Docker hosts, as `tidewatch hosts` shows them.

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use serde::{Serialize, Serializer};
use tidewatch_core::Revision;
use tidewatch_fleet::Line;
use tidewatch_fleet::value::Extra;
use tidewatch_proto::v1;

use super::list::{self, Frame};
use super::query::Query;
use crate::grpc::FleetService;
use crate::http::problem::Problem;

/// The handler.
pub(super) async fn list(State(fleet): State<FleetService>, uri: Uri) -> Result<Response, Problem> {
    Query::of(&uri, &[])?;
    let (header, hosts) = fleet.hosts().await?;
    let items = hosts.into_iter().map(Item).collect();
    Ok(list::answer(header, Frame::object(header), list::ready(items)).await?)
}

/// A row as it travels over gRPC, as an item of a list.
pub(super) struct Item(pub(super) v1::FleetRow);

impl Serialize for Item {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(row) = self;
        let fields: Extra = serde_json::from_str(&row.json).map_err(serde::ser::Error::custom)?;
        let line = Line {
            key: &row.key,
            mod_revision: Revision(row.mod_revision),
            fields: &fields,
        };
        line.serialize(serializer)
    }
}
