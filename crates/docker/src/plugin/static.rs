//! The kind `static`.

use tidewatch_fleet::{Kind, View};

use super::{Claim, WorkloadReconciler};
use crate::container::Container;

/// The label of a static workload that names its container.
pub(super) const CONTAINER: &str = "container";

/// Binds containers by name: those that must run though nobody deploys them.
#[derive(Clone, Copy, Debug, Default)]
pub struct StaticReconciler;

impl WorkloadReconciler for StaticReconciler {
    fn kind(&self) -> Kind {
        Kind::Static
    }

    fn claim(&self, container: &Container, view: &View) -> Claim {
        let named = view.workloads.iter().find(|(_, workload)| {
            workload.value.kind == Kind::Static
                && workload
                    .value
                    .labels
                    .get(CONTAINER)
                    .is_some_and(|name| name.trim_start_matches('/') == container.name)
        });
        named.map_or(Claim::None, |(id, _)| Claim::Bound(id.clone()))
    }
}
