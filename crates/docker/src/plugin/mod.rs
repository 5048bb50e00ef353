//! What is particular to a kind of workload.

mod compose;
mod image;
mod r#static;

use std::fmt;
use std::sync::Arc;

use tidewatch_fleet::{Kind, View, Workload, WorkloadId};

use crate::container::Container;
use crate::plan::Reason;

pub use compose::ComposeReconciler;
pub use image::ImageReconciler;
pub use r#static::StaticReconciler;

/// Looks after the workloads of one kind, on the data the generic pass has read already: it asks
/// neither Docker nor the keyspace for anything.
///
/// Without any of them the generic pass still keeps every row's state.
pub trait WorkloadReconciler: fmt::Debug + Send + Sync + 'static {
    /// The kind it looks after.
    fn kind(&self) -> Kind;

    /// Says whether a container that carries none of our labels belongs to a workload of this kind.
    fn claim(&self, container: &Container, view: &View) -> Claim {
        let _ = (container, view);
        Claim::None
    }

    /// The workloads of this kind that are to be retired, given the fleet and the ids of those that
    /// have containers on this host right now.
    fn retired(&self, view: &View, present: &dyn Fn(&WorkloadId) -> bool) -> Vec<WorkloadId> {
        let _ = (view, present);
        Vec::new()
    }
}

/// Whether a plugin wants a container.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// It is none of its business.
    None,
    /// It belongs to this workload, which is declared if it does not exist.
    Adopted(Box<Workload>),
    /// It belongs to this workload, if that exists.
    Bound(WorkloadId),
    /// It is of this kind, and yet gets no row.
    Refused(Reason),
}

/// The plugins of all kinds that need one: image, compose, static.
pub fn all() -> Vec<Arc<dyn WorkloadReconciler>> {
    vec![
        Arc::new(ImageReconciler),
        Arc::new(ComposeReconciler),
        Arc::new(StaticReconciler),
    ]
}

/// The same without compose: containers of Compose projects get rows by our labels only.
pub fn without_adoption() -> Vec<Arc<dyn WorkloadReconciler>> {
    vec![Arc::new(ImageReconciler), Arc::new(StaticReconciler)]
}
