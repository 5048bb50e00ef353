//! What a row says about its container.

use tidewatch_fleet::{ContainerRow, DeployRow, Kind, Role, State};

use super::PlanHost;
use super::bind::Place;
use super::report::Reason;
use crate::container::{Container, Protocol};
use crate::inspect::Facts;
use crate::label::{self, LabelNames};

/// The most ports in a row, the first ones in order. A media server that publishes ten thousand would
/// need a value larger than a key may have.
pub(super) const MAX_PORTS: usize = 512;

/// The most networks in a row, the first ones in order.
const MAX_NETWORKS: usize = 128;

/// The most characters of what Docker says about a failed start.
const MAX_REASON_CHARS: usize = 1024;

/// All there is to know about a container and its row.
pub(super) struct Seen<'a> {
    pub(super) container: &'a Container,
    pub(super) place: &'a Place,
    pub(super) kind: Kind,
    /// The row that already names this container, here or at another place.
    pub(super) known: Option<&'a ContainerRow>,
    /// The row that is stored at this place, whatever container it names.
    pub(super) stored: Option<&'a ContainerRow>,
    pub(super) deploy: Option<&'a DeployRow>,
    pub(super) facts: Option<&'a Facts>,
    pub(super) host: &'a PlanHost,
}

/// Whether a container is new or in another state than its row says, so that what a list does not
/// tell may be different too.
pub(super) fn is_transition(known: Option<&ContainerRow>, container: &Container) -> bool {
    let other_code =
        |row: &ContainerRow| container.exit_code.is_some() && row.exit_code != container.exit_code;
    known.is_none_or(|row| row.state != container.state || (has_exited(container) && other_code(row)))
}

/// The row as it should be. Equal to the stored one if nothing is different.
pub(super) fn desired(seen: &Seen<'_>) -> ContainerRow {
    let container = seen.container;
    let (workload, name) = seen.place;
    let role = role(
        container,
        seen.deploy.and_then(|deploy| deploy.role.as_ref()),
        seen.known.map(|row| &row.role),
        &seen.host.labels,
    );
    // Only a label that is no name leads here, on a container that a row or a deployer names.
    let role = role
        .ok()
        .or_else(|| seen.known.map(|row| row.role.clone()))
        .unwrap_or_else(|| Role::from(name.clone()));
    let mut row = ContainerRow::new(workload.clone(), seen.kind, seen.host.name.clone(), name, role);
    if let Some(stored) = seen.stored {
        row.extra.clone_from(&stored.extra);
    }
    if let Some(known) = seen.known {
        // What this host does not tell any more stays as it was.
        row.extra
            .extend(known.extra.iter().map(|(k, v)| (k.clone(), v.clone())));
        row.daemon_id.clone_from(&known.daemon_id);
        row.image_ref.clone_from(&known.image_ref);
        row.port = known.port;
        row.ports.clone_from(&known.ports);
    }
    if !seen.host.daemon_id.is_empty() {
        row.daemon_id.clone_from(&seen.host.daemon_id);
    }
    row.container_id.clone_from(&container.id);
    row.name.clone_from(&container.name);
    if row.image_ref.is_empty() || !is_moved_tag(container) {
        row.image_ref.clone_from(&container.image_ref);
    }
    row.image_id.clone_from(&container.image_id);
    row.state = container.state;
    row.health = container.health;
    row.networks.clone_from(&container.networks);
    row.networks.sort();
    row.networks.truncate(MAX_NETWORKS);
    row.labels = seen.host.labels.kept(&container.labels);
    row.exit_code = exit_code(container, seen.facts);
    take_ports(&mut row, container);
    take_facts(&mut row, seen);
    row
}

/// Docker shows the bare id of an image once its tag has moved to another one; the container was
/// still created from the tag.
fn is_moved_tag(container: &Container) -> bool {
    container.image_ref.is_empty() || container.image_ref.starts_with("sha256:")
}

/// Docker shows no ports of a container that does not run; the row keeps the known ones.
fn take_ports(row: &mut ContainerRow, container: &Container) {
    let runs = matches!(container.state, State::Running | State::Paused);
    if container.ports.is_empty() && !runs {
        return;
    }
    row.ports.clone_from(&container.ports);
    row.ports.sort();
    row.ports.dedup();
    row.ports.truncate(MAX_PORTS);
    let first_tcp = row.ports.iter().find(|port| port.protocol == Protocol::Tcp);
    row.port = first_tcp.or(row.ports.first()).map(|port| port.private);
}

/// Whether there is an exit code to tell.
fn has_exited(container: &Container) -> bool {
    matches!(
        container.state,
        State::Stopped | State::Restarting | State::Dead | State::Removing
    )
}

/// What it exited with: a container that runs has not exited, and one that is only created has if it
/// could not be started.
fn exit_code(container: &Container, facts: Option<&Facts>) -> Option<i64> {
    let told = facts.and_then(|facts| facts.exit_code);
    match container.state {
        _ if has_exited(container) => container.exit_code.or(told),
        State::Created => told.filter(|_| facts.is_some_and(|facts| !facts.error.is_empty())),
        _ => None,
    }
}

fn take_facts(row: &mut ContainerRow, seen: &Seen<'_>) {
    if let Some(facts) = seen.facts {
        row.oom_killed = facts.oom_killed;
        row.restart_count = facts.restart_count;
        row.started_at.clone_from(&facts.started_at);
        if row.state != State::Running {
            row.reason = facts.error.chars().take(MAX_REASON_CHARS).collect();
        }
        return;
    }
    let Some(known) = seen.known else { return };
    let same = !is_transition(Some(known), seen.container);
    row.restart_count = known.restart_count;
    if same {
        row.oom_killed = known.oom_killed;
        row.started_at.clone_from(&known.started_at);
        row.reason.clone_from(&known.reason);
        if has_exited(seen.container) || row.state == State::Created {
            row.exit_code = row.exit_code.or(known.exit_code);
        }
    } else if row.state != State::Running || known.state == State::Paused {
        // It ran until now, so it was started when the row says.
        row.started_at.clone_from(&known.started_at);
    }
}

/// The role of a container: its label, else what its deployer says, else its Compose service, else
/// what its row says, else its name.
pub(super) fn role(
    container: &Container,
    deploy: Option<&Role>,
    known: Option<&Role>,
    names: &LabelNames,
) -> Result<Role, Reason> {
    let invalid = |label: &str| {
        let label = label.to_owned();
        move |error| Reason::InvalidLabel { label, error }
    };
    if let Some(role) = label::value(&container.labels, names.role()) {
        return role.parse().map_err(invalid(names.role()));
    }
    if let Some(role) = deploy {
        return Ok(role.clone());
    }
    if let Some(service) = label::value(&container.labels, label::COMPOSE_SERVICE) {
        return service.parse().map_err(invalid(label::COMPOSE_SERVICE));
    }
    if let Some(role) = known {
        return Ok(role.clone());
    }
    container.name.parse().map_err(invalid("(the container's name)"))
}
