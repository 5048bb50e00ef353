//! The kind `image`.

use tidewatch_fleet::Kind;

use super::WorkloadReconciler;

/// Has nothing to do: the generic pass keeps state, port and image of every row. It is here so that
/// nobody adds an inspect per container for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageReconciler;

impl WorkloadReconciler for ImageReconciler {
    fn kind(&self) -> Kind {
        Kind::Image
    }
}
