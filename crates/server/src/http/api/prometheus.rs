//! `GET /api/v1/sd/prometheus`: what runs, as targets for Prometheus' HTTP service discovery.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use axum::extract::State;
use axum::response::Response;
use futures_util::stream::{self, StreamExt as _};
use http::Uri;
use serde::Serialize;
use tidewatch_fleet::state::State as RowState;
use tidewatch_fleet::{Error, JoinedRow, Port, Protocol, Walk};

use super::container::filter;
use super::list::{self, Frame, Rows};
use super::query::Query;
use crate::fleet::{ContainerFilter, undisturbed};
use crate::grpc::FleetService;
use crate::http::problem::Problem;

const PARAMETERS: [&str; 7] = ["workload", "role", "host", "label", "port", "address", "network"];

/// The handler.
pub(super) async fn targets(State(fleet): State<FleetService>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::of(&uri, &PARAMETERS)?;
    let filter = filter(&query)?;
    let wanted = Wanted::read(&query)?;
    let begun = || async {
        let walk = Walk::start(&fleet.keyspace, filter.workload()).await?;
        let header = walk.header();
        list::answer(
            header,
            Frame::array(),
            groups(walk, filter.clone(), wanted.clone()),
        )
        .await
    };
    Ok(undisturbed(begun).await?)
}

fn groups(walk: Walk, filter: ContainerFilter, wanted: Wanted) -> Rows<Group> {
    let step = |(mut walk, filter, wanted): (Walk, ContainerFilter, Wanted)| async move {
        let rows: Option<Vec<JoinedRow>> = walk.next().await?;
        let groups = rows.map(|rows| {
            let rows = rows.iter().filter(|row| filter.passes(row));
            let of_row = |row: &JoinedRow| wanted.groups(row, address_of(&walk, row));
            rows.flat_map(of_row).collect()
        });
        Ok::<_, Error>(groups.map(|groups: Vec<_>| (groups, (walk, filter, wanted))))
    };
    stream::try_unfold((walk, filter, wanted), step).boxed()
}

/// Where the host of a row is reached: at the address it was given, else under its name.
fn address_of<'a>(walk: &'a Walk, row: &'a JoinedRow) -> &'a str {
    let host = walk.hosts().get(row.host.as_str());
    let address = host.map(|host| host.value.address.trim()).unwrap_or_default();
    if address.is_empty() { &row.host } else { address }
}

/// Which address of a container is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Address {
    /// The host's, with the ports that are published there.
    #[default]
    Published,
    /// The container's own, with the ports that it exposes.
    Container,
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "published" => Ok(Self::Published),
            "container" => Ok(Self::Container),
            _ => Err("it is published or container"),
        }
    }
}

/// Which targets a container has.
#[derive(Clone, Debug, Default)]
struct Wanted {
    address: Address,
    /// The network in which a container's own address is taken; none: the first in which it has one.
    network: Option<String>,
    /// The ports inside the container; empty: all.
    ports: Vec<u16>,
}

impl Wanted {
    fn read(query: &Query) -> Result<Self, Problem> {
        let wanted = Self {
            address: query.one("address")?.unwrap_or_default(),
            network: query.one("network")?,
            ports: query.all("port")?,
        };
        if wanted.network.is_some() && wanted.address == Address::Published {
            let detail = "network says where a container's own address is taken; add address=container";
            return Err(Problem::with_parameter("network", detail));
        }
        Ok(wanted)
    }

    /// The targets of a row; none if it does not run.
    fn groups(&self, row: &JoinedRow, host: &str) -> Vec<Group> {
        if row.state != RowState::Running {
            return Vec::new();
        }
        let mut targets = BTreeMap::new();
        let ports = row.ports.iter().filter(|port| {
            port.protocol == Protocol::Tcp && (self.ports.is_empty() || self.ports.contains(&port.private))
        });
        for port in ports {
            // Docker publishes for IPv4 and for IPv6: that is one target.
            if let Some((target, particular)) = self.target(row, port, host) {
                targets.entry(target).or_insert((port, particular));
            }
        }
        let targets = targets.into_iter();
        targets
            .map(|(target, (port, particular))| {
                let mut labels = labels(row);
                labels.insert(meta("port"), port.private.to_string());
                labels.insert(meta(particular.0), particular.1);
                Group {
                    targets: [target],
                    labels,
                }
            })
            .collect()
    }

    /// The target that a port is, and the label that belongs to this sort of target.
    fn target(&self, row: &JoinedRow, port: &Port, host: &str) -> Option<(String, (&'static str, String))> {
        match self.address {
            Address::Published => {
                let public = port.public?;
                let target = format!("{}:{public}", published_at(port, host)?);
                Some((target, ("published_port", public.to_string())))
            }
            Address::Container => {
                let mut networks = row.networks.iter().filter(|network| !network.ip.is_empty());
                let network = networks
                    .find(|network| self.network.as_ref().is_none_or(|name| *name == network.name))?;
                let target = format!("{}:{}", bracketed(&network.ip), port.private);
                Some((target, ("network", network.name.clone())))
            }
        }
    }
}

/// Where a published port is reached; none if that is nowhere but on its own host.
fn published_at(port: &Port, host: &str) -> Option<String> {
    match ip(&port.ip) {
        Some(bound) if bound.is_loopback() => is_loopback(host).then(|| bracketed(&port.ip)),
        Some(bound) if !bound.is_unspecified() => Some(bracketed(&port.ip)),
        _ => Some(bracketed(host)),
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || ip(host).is_some_and(|ip| ip.is_loopback())
}

fn ip(text: &str) -> Option<IpAddr> {
    text.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// An address as it stands before a port.
fn bracketed(address: &str) -> String {
    match ip(address) {
        Some(IpAddr::V6(ip)) => format!("[{ip}]"),
        _ => address.to_owned(),
    }
}

/// What Prometheus takes: targets, and what is known of them.
#[derive(Debug, PartialEq, Serialize)]
struct Group {
    targets: [String; 1],
    labels: BTreeMap<String, String>,
}

fn labels(row: &JoinedRow) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<_, _> = [
        ("workload", row.workload_id.as_str()),
        ("workload_kind", row.workload_kind.as_str()),
        ("role", row.role.as_str()),
        ("host", &row.host),
        ("row", row.row.as_str()),
        ("state", row.state.as_str()),
        ("container_id", &row.container_id),
        ("container_name", &row.name),
        ("image", &row.image_ref),
    ]
    .into_iter()
    .map(|(name, value)| (meta(name), value.to_owned()))
    .collect();
    if let Some(health) = row.health {
        labels.insert(meta("health"), health.to_string());
    }
    for (name, value) in &row.labels {
        labels.insert(label_of(name), value.clone());
    }
    labels
}

fn meta(name: &str) -> String {
    format!("__meta_tidewatch_{name}")
}

/// A container's label as a label of Prometheus, which has letters, digits and `_` in its names.
fn label_of(name: &str) -> String {
    let fit = |character: char| {
        if character.is_ascii_alphanumeric() {
            character
        } else {
            '_'
        }
    };
    meta("label_") + &name.chars().map(fit).collect::<String>()
}

#[cfg(test)]
mod tests {
    use tidewatch_core::{KeyValue, Revision};
    use tidewatch_fleet::View;

    use super::*;

    fn row(rest: &str) -> JoinedRow {
        let value = format!(
            r#"{{"id":"shop:web","workload_id":"shop","workload_kind":"stack","role":"web","host":"h1",{rest}}}"#
        );
        let mut view = View::default();
        for (key, value) in [
            ("/alive/h1", r#"{"instance":"i"}"#),
            ("/containers/shop/h1/web", &value),
        ] {
            view.put(&KeyValue {
                key: key.to_owned().into(),
                value: value.to_owned().into(),
                create_revision: Revision(2),
                mod_revision: Revision(2),
                version: 1,
                lease: None,
            });
        }
        assert!(view.skipped.is_empty(), "{:?}", view.skipped);
        view.joined().remove(0)
    }

    fn running(ports: &str) -> JoinedRow {
        row(&format!(
            r#""state":"running","ports":[{ports}],"networks":[{{"name":"back"}},{{"name":"front","ip":"172.18.0.2"}},{{"name":"six","ip":"fd00::2"}}]"#
        ))
    }

    fn found(wanted: &Wanted, row: &JoinedRow, host: &str) -> Vec<String> {
        let groups = wanted.groups(row, host).into_iter();
        groups.map(|group| group.targets.concat()).collect()
    }

    #[test]
    fn a_published_port_is_a_target_at_the_address_where_it_is_reached() {
        for (bound, host, target) in [
            ("0.0.0.0", "10.0.0.5", Some("10.0.0.5:8080")),
            ("::", "10.0.0.5", Some("10.0.0.5:8080")),
            ("", "web1.example", Some("web1.example:8080")),
            ("0.0.0.0", "fd00::5", Some("[fd00::5]:8080")),
            ("0.0.0.0", "[fd00::5]", Some("[fd00::5]:8080")),
            ("192.168.1.9", "10.0.0.5", Some("192.168.1.9:8080")),
            ("fd00::9", "10.0.0.5", Some("[fd00::9]:8080")),
            ("127.0.0.1", "10.0.0.5", None),
            ("::1", "web1", None),
            ("127.0.0.1", "127.0.0.1", Some("127.0.0.1:8080")),
            ("127.0.0.1", "localhost", Some("127.0.0.1:8080")),
            ("::1", "::1", Some("[::1]:8080")),
        ] {
            let row = running(&format!(
                r#"{{"protocol":"tcp","private":80,"public":8080,"ip":"{bound}"}}"#
            ));
            let targets = found(&Wanted::default(), &row, host);
            assert_eq!(
                targets,
                target.into_iter().collect::<Vec<_>>(),
                "{bound} on {host}"
            );
        }
    }

    /// Published for both families, published in part, exposed only, and not TCP.
    const PORTS: &str = r#"{"protocol":"tcp","private":80,"public":8080,"ip":"0.0.0.0"},
        {"protocol":"tcp","private":80,"public":8080,"ip":"::"},
        {"protocol":"tcp","private":9100,"public":9100,"ip":"0.0.0.0"},
        {"protocol":"tcp","private":5432},
        {"protocol":"udp","private":53,"public":53,"ip":"0.0.0.0"}"#;

    #[test]
    fn each_published_tcp_port_is_one_target_and_a_port_can_be_chosen() {
        let row = running(PORTS);
        let all = Wanted::default();
        assert_eq!(found(&all, &row, "h"), ["h:8080", "h:9100"]);
        let one = Wanted {
            ports: vec![80, 5432],
            ..Wanted::default()
        };
        assert_eq!(
            found(&one, &row, "h"),
            ["h:8080"],
            "the port inside the container"
        );
    }

    #[test]
    fn a_container_is_reached_at_its_own_address_in_the_network_that_is_named() {
        let row = running(PORTS);
        let mut wanted = Wanted {
            address: Address::Container,
            ..Wanted::default()
        };
        assert_eq!(
            found(&wanted, &row, "h"),
            ["172.18.0.2:5432", "172.18.0.2:80", "172.18.0.2:9100"]
        );
        wanted.ports = vec![9100];
        wanted.network = Some("six".to_owned());
        assert_eq!(found(&wanted, &row, "h"), ["[fd00::2]:9100"]);
        for network in ["back", "other"] {
            wanted.network = Some(network.to_owned());
            assert_eq!(found(&wanted, &row, "h"), [""; 0], "{network}");
        }
    }

    #[test]
    fn what_does_not_run_is_no_target() {
        let port = r#""ports":[{"protocol":"tcp","private":80,"public":8080,"ip":"0.0.0.0"}]"#;
        for state in ["stopped", "paused", "missing", "unknown", "restarting"] {
            let row = row(&format!(r#""state":"{state}",{port}"#));
            assert_eq!(found(&Wanted::default(), &row, "h"), [""; 0], "{state}");
        }
    }

    #[test]
    fn a_target_says_what_it_is() {
        let row = row(
            r#""state":"running","health":"healthy","container_id":"c0ffee","name":"shop-web-1","image_ref":"nginx:1",
            "labels":{"com.docker.compose.service":"web"},"ports":[{"protocol":"tcp","private":80,"public":8080,"ip":"::"}]"#,
        );
        let groups = Wanted::default().groups(&row, "10.0.0.5");
        let expected = serde_json::json!([{"targets": ["10.0.0.5:8080"], "labels": {
            "__meta_tidewatch_workload": "shop", "__meta_tidewatch_workload_kind": "stack",
            "__meta_tidewatch_role": "web", "__meta_tidewatch_host": "h1", "__meta_tidewatch_row": "web",
            "__meta_tidewatch_state": "running", "__meta_tidewatch_health": "healthy",
            "__meta_tidewatch_container_id": "c0ffee", "__meta_tidewatch_container_name": "shop-web-1",
            "__meta_tidewatch_image": "nginx:1", "__meta_tidewatch_port": "80",
            "__meta_tidewatch_published_port": "8080",
            "__meta_tidewatch_label_com_docker_compose_service": "web",
        }}]);
        assert_eq!(serde_json::to_value(groups).unwrap(), expected);
    }
}
