//! The labels that say what a container belongs to.

use std::collections::BTreeMap;

/// Compose's labels begin like this.
pub const COMPOSE: &str = "com.docker.compose.";
/// The name of the Compose project.
pub const COMPOSE_PROJECT: &str = "com.docker.compose.project";
/// The name of the service within the project.
pub const COMPOSE_SERVICE: &str = "com.docker.compose.service";
/// `True` on a container that `docker compose run` made.
pub const COMPOSE_ONE_OFF: &str = "com.docker.compose.oneoff";
/// The id of the container (in some versions its name) that this one is to replace. Compose makes the
/// new one first, removes the old one, and only then renames and starts the new one.
pub const COMPOSE_REPLACE: &str = "com.docker.compose.replace";

/// The most bytes of labels in a row (64 KiB). Docker sets no bound, and one container with labels
/// beyond a value's limit must not keep a whole host from being written. Compose's own are about 2 kB.
pub const MAX_KEPT_BYTES: usize = 64 * 1024;

/// The names of our labels. Their prefix is a setting, so that containers labelled for another system
/// can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelNames {
    prefix: String,
    managed: String,
    workload_id: String,
    role: String,
    row: String,
}

impl LabelNames {
    /// Names below a prefix, without its dot: `tidewatch` makes `tidewatch.managed`,
    /// `tidewatch.workload.id`, `tidewatch.role` and `tidewatch.row`.
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: format!("{prefix}."),
            managed: format!("{prefix}.managed"),
            workload_id: format!("{prefix}.workload.id"),
            role: format!("{prefix}.role"),
            row: format!("{prefix}.row"),
        }
    }

    /// The label that says that a container is ours: `true`, or `false` to be left alone.
    pub fn managed(&self) -> &str {
        &self.managed
    }

    /// The label with the workload's id.
    pub fn workload_id(&self) -> &str {
        &self.workload_id
    }

    /// The label with the role.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// The label with the row's name.
    pub fn row(&self) -> &str {
        &self.row
    }

    /// Those labels that rows keep: Compose's and ours, as far as they fit [`MAX_KEPT_BYTES`]. Others
    /// may hold anything, secrets included.
    pub fn kept(&self, labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let ours = |name: &str| name.starts_with(COMPOSE) || name.starts_with(&self.prefix);
        let mut room = MAX_KEPT_BYTES;
        let mut fits = |name: &str, value: &str| {
            let left = room.checked_sub(name.len() + value.len());
            room = left.unwrap_or(room);
            left.is_some()
        };
        labels
            .iter()
            .filter(|(name, value)| ours(name) && fits(name, value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

impl Default for LabelNames {
    fn default() -> Self {
        Self::new("tidewatch")
    }
}

/// A label's value; an empty one counts as none.
pub(crate) fn value<'a>(labels: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    labels
        .get(name)
        .map(String::as_str)
        .filter(|value| !value.is_empty())
}
