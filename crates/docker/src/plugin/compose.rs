//! The kind `compose`.

use tidewatch_fleet::workload::COMPOSE_PREFIX;
use tidewatch_fleet::{Kind, View, Workload, WorkloadId};

use super::{Claim, WorkloadReconciler};
use crate::container::Container;
use crate::label;
use crate::plan::Reason;

/// Adopts Compose projects: declares `compose-<project>` for each, from Compose's own labels, and
/// retires it once no host has a row of it.
///
/// Rows of containers that are gone count until their retention time is over, so that what a
/// `docker compose down` took away can still be seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct ComposeReconciler;

impl WorkloadReconciler for ComposeReconciler {
    fn kind(&self) -> Kind {
        Kind::Compose
    }

    fn claim(&self, container: &Container, view: &View) -> Claim {
        let Some(project) = label::value(&container.labels, label::COMPOSE_PROJECT) else {
            return Claim::None;
        };
        let one_off = label::value(&container.labels, label::COMPOSE_ONE_OFF);
        if one_off.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Claim::Refused(Reason::OneOff {
                project: project.to_owned(),
            });
        }
        let id: WorkloadId = match format!("{COMPOSE_PREFIX}{project}").parse() {
            Ok(id) => id,
            Err(error) => {
                return Claim::Refused(Reason::InvalidLabel {
                    label: label::COMPOSE_PROJECT.to_owned(),
                    error,
                });
            }
        };
        if view.workloads.contains_key(&id) {
            return Claim::Bound(id);
        }
        let mut workload = Workload::new(id, Kind::Compose);
        project.clone_into(&mut workload.name);
        project.clone_into(&mut workload.ref_id);
        Claim::Adopted(Box::new(workload))
    }

    fn retired(&self, view: &View, present: &dyn Fn(&WorkloadId) -> bool) -> Vec<WorkloadId> {
        let adopted = view
            .workloads
            .iter()
            .filter(|(id, workload)| Workload::is_adopted(id) && workload.value.kind == Kind::Compose);
        adopted
            .map(|(id, _)| id)
            .filter(|id| !present(id) && view.rows_of(id).next().is_none())
            .cloned()
            .collect()
    }
}
