//! Why a container has the row it has, or none.

use tidewatch_fleet::{ContainerVerdict, FleetKey, NameError, RowName, State, WorkloadId};

use crate::container::Container;

/// What a plan says about one container of the listing.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Docker's id of the container.
    pub container_id: String,
    /// Its name.
    pub name: String,
    /// Its image.
    pub image_ref: String,
    /// Its state.
    pub state: State,
    /// The row it has, or why it has none.
    pub outcome: Outcome,
}

/// The row a container has, or why it has none.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It has this row.
    Tracked {
        /// The row's key.
        row: FleetKey,
        /// What bound it.
        by: BoundBy,
    },
    /// It has no row.
    Untracked(Reason),
}

/// What binds a container to its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundBy {
    /// The row named the container already, and nothing else says why.
    Row,
    /// A deploy row names the container.
    DeployRow,
    /// A deploy row had no container yet, and this is it.
    Placeholder,
    /// Its labels.
    Labels,
    /// A plugin, by Compose's labels or by its name.
    Plugin,
}

impl BoundBy {
    /// A stable name, for wire forms.
    pub fn name(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::DeployRow => "deploy_row",
            Self::Placeholder => "placeholder",
            Self::Labels => "labels",
            Self::Plugin => "plugin",
        }
    }
}

impl std::fmt::Display for BoundBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Row => "the row has named this container before",
            Self::DeployRow => "a deploy row names this container",
            Self::Placeholder => "a deploy row was waiting for its container, and this is it",
            Self::Labels => "its labels name the workload and the role",
            Self::Plugin => "its kind of workload claims it, by Compose's labels or by its name",
        })
    }
}

/// Why a container has no row.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// Nothing says that it belongs to a workload.
    NotLabelled {
        /// The label that is missing.
        label: String,
    },
    /// It names a workload, but is not labelled as managed.
    NotManaged {
        /// The label that is missing.
        label: String,
    },
    /// It is labelled as not managed.
    OptedOut {
        /// The label that says so.
        label: String,
    },
    /// A label is no name.
    InvalidLabel {
        /// The label.
        label: String,
        /// What is wrong with it.
        error: NameError,
    },
    /// It names a workload that does not exist.
    UnknownWorkload {
        /// The id.
        workload: WorkloadId,
    },
    /// It names a workload whose value cannot be read.
    UnreadableWorkload {
        /// The id.
        workload: WorkloadId,
    },
    /// Its workload is a project, and no deploy row is for it: rows of projects are never invented.
    NoDeployRow {
        /// The id.
        workload: WorkloadId,
    },
    /// It claims a row that is bound to another container, which still exists.
    RowTaken {
        /// The workload.
        workload: WorkloadId,
        /// The row.
        row: RowName,
        /// The other container's id.
        holder: String,
    },
    /// It was made by Compose to replace a container that is still there, whose row it gets then.
    Waiting {
        /// The other container's id, or its name.
        replaces: String,
    },
    /// It was made by `docker compose run`.
    OneOff {
        /// The project.
        project: String,
    },
}

impl Reason {
    /// A stable name, for wire forms and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotLabelled { .. } => "not_labelled",
            Self::NotManaged { .. } => "not_managed",
            Self::OptedOut { .. } => "opted_out",
            Self::InvalidLabel { .. } => "invalid_label",
            Self::UnknownWorkload { .. } => "unknown_workload",
            Self::UnreadableWorkload { .. } => "unreadable_workload",
            Self::NoDeployRow { .. } => "no_deploy_row",
            Self::RowTaken { .. } => "row_taken",
            Self::Waiting { .. } => "waiting",
            Self::OneOff { .. } => "one_off",
        }
    }

    /// Whether the container wanted something it must not have, which somebody should look at.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::RowTaken { .. } | Self::UnknownWorkload { .. })
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotLabelled { label } => write!(
                f,
                "nothing says which workload it belongs to; start it with the label {label}=true and the \
                 workload's id, or as part of a Compose project"
            ),
            Self::NotManaged { label } => {
                write!(f, "it names a workload, but lacks the label {label}=true")
            }
            Self::OptedOut { label } => write!(f, "it is labelled {label}=false"),
            Self::InvalidLabel { label, error } => write!(f, "label {label}: {error}"),
            Self::UnknownWorkload { workload } => write!(
                f,
                "workload \"{workload}\" does not exist; `tidewatch workload declare {workload} --kind stack` \
                 declares it"
            ),
            Self::UnreadableWorkload { workload } => write!(
                f,
                "the value of /workloads/{workload} is no workload; declare it again"
            ),
            Self::NoDeployRow { workload } => write!(
                f,
                "workload \"{workload}\" is a project and no deploy row below /deploy/{workload}/ is for it"
            ),
            Self::RowTaken {
                workload,
                row,
                holder,
            } => write!(
                f,
                "it claims row {workload}/{row}, which belongs to container {holder:.12}; remove that one, or \
                 give this one another row"
            ),
            Self::Waiting { replaces } => write!(
                f,
                "Compose made it to replace container {replaces:.12}, whose row it gets when that one is removed"
            ),
            Self::OneOff { project } => {
                write!(
                    f,
                    "it is a one-off container of `docker compose run` in project {project}"
                )
            }
        }
    }
}

impl Verdict {
    pub(super) fn new(container: &Container, outcome: Outcome) -> Self {
        Self {
            container_id: container.id.clone(),
            name: container.name.clone(),
            image_ref: container.image_ref.clone(),
            state: container.state,
            outcome,
        }
    }

    /// Why it has no row, if it has none.
    pub fn untracked(&self) -> Option<&Reason> {
        match &self.outcome {
            Outcome::Untracked(reason) => Some(reason),
            Outcome::Tracked { .. } => None,
        }
    }

    /// The same in words, for those who do not plan.
    pub fn told(&self) -> ContainerVerdict {
        let (row, reason, message) = match &self.outcome {
            Outcome::Tracked { row, by } => (Some(row.to_string()), by.name(), by.to_string()),
            Outcome::Untracked(reason) => (None, reason.name(), reason.to_string()),
        };
        ContainerVerdict {
            container_id: self.container_id.clone(),
            name: self.name.clone(),
            image_ref: self.image_ref.clone(),
            state: self.state,
            row,
            reason: reason.to_owned(),
            message,
        }
    }

    /// Whether the two say the same of the same container. The state of one that has a row is told there.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        let state = self.untracked().is_none() || self.state == other.state;
        state
            && self.outcome == other.outcome
            && self.container_id == other.container_id
            && self.name == other.name
            && self.image_ref == other.image_ref
    }
}
