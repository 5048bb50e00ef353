//! Reading `/containers/json`.

use std::collections::BTreeMap;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tidewatch_fleet::{Health, State};

use super::lenient::{LENIENT, Lenient, LenientVec, STRICT};
use crate::container::{Container, Network, Port, Protocol, parse_status};
use crate::lister::{ListError, Listing, MAX_SCOPE_IDS, Scope};

/// What to ask for. Never with `size`: that makes Docker walk every file system.
pub(super) fn target(scope: Scope<'_>) -> String {
    match scope {
        // More ids do not fit a URL, and a full list is cheaper than a list of many.
        Scope::Ids(ids) if ids.len() <= MAX_SCOPE_IDS => {
            let filters = serde_json::json!({ "id": ids }).to_string();
            format!(
                "/containers/json?all=1&filters={}",
                utf8_percent_encode(&filters, NON_ALPHANUMERIC)
            )
        }
        _ => "/containers/json?all=1".to_owned(),
    }
}

/// Reads a list, each element for itself: an element with an id is a container, whatever else is wrong with it.
pub(super) fn decode(body: &[u8], scope: Scope<'_>) -> Result<Listing, ListError> {
    let text = String::from_utf8_lossy(body);
    let mut listing = Listing::default();
    let mut take = |container: Option<Container>| match container {
        // Docker matches ids by prefix, and an imitation may not filter at all.
        Some(container) if scope.contains(&container.id) => listing.containers.push(container),
        Some(_) => {}
        None => listing.undecodable += 1,
    };
    // A list as it should be is read in one pass.
    if let Ok(elements) = serde_json::from_str::<Vec<Element<STRICT>>>(&text) {
        elements.into_iter().map(Element::into_container).for_each(take);
        return Ok(listing);
    }
    // Not `null` either: an empty list would turn every row to `missing`, so it has to be said in so many words.
    let elements: Vec<&RawValue> = serde_json::from_str(&text).map_err(|error| ListError::Malformed {
        reason: format!("it is no list of containers ({error})"),
    })?;
    for element in elements.into_iter().map(RawValue::get) {
        take(match serde_json::from_str::<Element<STRICT>>(element) {
            Ok(element) => element.into_container(),
            Err(_) => serde_json::from_str::<Element<LENIENT>>(element)
                .ok()
                .and_then(Element::into_container),
        });
    }
    Ok(listing)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Element<const HOW: bool> {
    #[serde(default)]
    id: Lenient<String, HOW>,
    #[serde(default)]
    names: LenientVec<String, HOW>,
    #[serde(default)]
    image: Lenient<String, HOW>,
    #[serde(default, rename = "ImageID")]
    image_id: Lenient<String, HOW>,
    #[serde(default)]
    created: Lenient<i64, HOW>,
    #[serde(default)]
    ports: LenientVec<RawPort<HOW>, HOW>,
    #[serde(default)]
    labels: Lenient<BTreeMap<String, Lenient<String, HOW>>, HOW>,
    #[serde(default)]
    state: Lenient<String, HOW>,
    #[serde(default)]
    status: Lenient<String, HOW>,
    #[serde(default)]
    health: Lenient<RawHealth, HOW>,
    #[serde(default)]
    network_settings: Lenient<NetworkSettings<HOW>, HOW>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawPort<const HOW: bool> {
    private_port: u16,
    #[serde(default)]
    public_port: Lenient<u16, HOW>,
    #[serde(default, rename = "IP")]
    ip: Lenient<String, HOW>,
    #[serde(default)]
    r#type: Lenient<String, HOW>,
}

#[derive(Deserialize)]
struct RawHealth {
    #[serde(rename = "Status")]
    status: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings<const HOW: bool> {
    #[serde(default)]
    networks: Lenient<BTreeMap<String, Lenient<RawNetwork<HOW>, HOW>>, HOW>,
}

#[derive(Default, Deserialize)]
struct RawNetwork<const HOW: bool> {
    #[serde(default, rename = "IPAddress")]
    ip: Lenient<String, HOW>,
    #[serde(default, rename = "GlobalIPv6Address")]
    ip_v6: Lenient<String, HOW>,
}

impl<const HOW: bool> Element<HOW> {
    fn into_container(self) -> Option<Container> {
        let id = self.id.0.filter(|id| !id.is_empty())?;
        let state = self
            .state
            .0
            .map_or(State::Unknown, |word| State::from_docker(&word));
        let (exit_code, status_health) = parse_status(&self.status.or_default());
        Some(Container {
            name: name(&self.names.0).unwrap_or_else(|| short(&id)),
            id,
            image_ref: self.image.or_default(),
            image_id: self.image_id.or_default(),
            state,
            health: match self.health.0 {
                Some(RawHealth { status }) => health(&status),
                None => status_health,
            },
            exit_code: exit_code.filter(|_| state != State::Running),
            ports: ports(self.ports.0),
            networks: self
                .network_settings
                .or_default()
                .networks
                .or_default()
                .into_iter()
                .map(|(name, raw)| network(name, raw))
                .collect(),
            labels: self
                .labels
                .or_default()
                .into_iter()
                .filter_map(|(name, value)| Some((name, value.0?)))
                .collect(),
            created: self.created.or_default(),
        })
    }
}

/// Of several names (links) the one without a further slash.
fn name(names: &[String]) -> Option<String> {
    let mut names = names.iter().map(|name| name.trim_start_matches('/'));
    let first = names.clone().next()?;
    let own = names.find(|name| !name.contains('/')).unwrap_or(first);
    (!own.is_empty()).then(|| own.to_owned())
}

/// What Docker's tools show where there is no name.
fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

fn health(word: &str) -> Option<Health> {
    match word {
        "none" | "" => None,
        "starting" => Some(Health::Starting),
        "healthy" => Some(Health::Healthy),
        "unhealthy" => Some(Health::Unhealthy),
        _ => Some(Health::Unknown),
    }
}

/// In an order of ours: Docker's is that of a Go map. A port that is published on several addresses is one entry
/// for each.
fn ports<const HOW: bool>(raw: Vec<RawPort<HOW>>) -> Vec<Port> {
    let mut ports: Vec<_> = raw
        .into_iter()
        .map(|port| Port {
            protocol: port
                .r#type
                .0
                .map_or(Protocol::Unknown, |word| Protocol::from_docker(&word)),
            private: port.private_port,
            public: port.public_port.0.filter(|&public| public != 0),
            ip: port.ip.or_default(),
        })
        .collect();
    ports.sort();
    ports.dedup();
    ports
}

fn network<const HOW: bool>(name: String, raw: Lenient<RawNetwork<HOW>, HOW>) -> Network {
    let RawNetwork { ip, ip_v6 } = raw.or_default();
    let ip = ip.or_default();
    let ip = if ip.is_empty() { ip_v6.or_default() } else { ip };
    Network { name, ip }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "fd77c6d3deaac66885635245aa9a06ac7f6a396116a251e9c3e6daa0d5e32702";

    fn one(element: &str) -> Container {
        let listing = decode(format!("[{element}]").as_bytes(), Scope::All).unwrap();
        assert_eq!(listing.undecodable, 0, "{element}");
        listing.containers.into_iter().next().unwrap()
    }

    #[test]
    fn an_element_of_an_engine_is_read_in_full() {
        let container = one(include_str!("list_element.json"));
        let expected = Container {
            id: ID.to_owned(),
            name: "shop-web-1".to_owned(),
            image_ref: "bb:1".to_owned(),
            image_id: "sha256:787ff09b8c19e984013d49eee127d5e1b91c252f2ae6ab72e901887183861d08".to_owned(),
            state: State::Running,
            health: Some(Health::Starting),
            exit_code: None,
            ports: vec![
                Port {
                    protocol: Protocol::Tcp,
                    private: 80,
                    public: Some(32768),
                    ip: "127.0.0.1".to_owned(),
                },
                Port {
                    protocol: Protocol::Tcp,
                    private: 443,
                    public: None,
                    ip: String::new(),
                },
                Port {
                    protocol: Protocol::Udp,
                    private: 53,
                    public: None,
                    ip: String::new(),
                },
            ],
            networks: vec![
                Network {
                    name: "back".to_owned(),
                    ip: String::new(),
                },
                Network {
                    name: "front".to_owned(),
                    ip: "172.17.0.2".to_owned(),
                },
            ],
            labels: BTreeMap::from([("tidewatch.role".to_owned(), "web".to_owned())]),
            created: 1_795_256_993,
        };
        assert_eq!(container, expected);
    }

    #[test]
    fn what_cannot_be_understood_of_a_container_costs_that_field_alone() {
        let container = one(&format!(
            r#"{{"Id":"{ID}","Names":[7,"/a"],"Image":5,"ImageID":null,"Created":"yesterday","State":"teleporting",
            "Status":{{}},"Labels":{{"good":"1","bad":2}},"Health":"fine",
            "Ports":[{{"PrivatePort":80,"Type":"quic"}},{{"PrivatePort":99999}},"x",{{"PrivatePort":81,"PublicPort":-1,"IP":3}}],
            "NetworkSettings":{{"Networks":{{"n":"none of this","m":{{"IPAddress":4}}}}}},"Mounts":"no","New":[{{}}]}}"#
        ));
        assert_eq!(container.state, State::Unknown);
        assert_eq!(container.name, "a");
        assert_eq!((container.image_ref.as_str(), container.created), ("", 0));
        assert_eq!(
            container.labels,
            BTreeMap::from([("good".to_owned(), "1".to_owned())])
        );
        assert_eq!(container.health, None);
        let ports: Vec<_> = container
            .ports
            .iter()
            .map(|port| (port.protocol, port.private))
            .collect();
        assert_eq!(ports, [(Protocol::Unknown, 80), (Protocol::Unknown, 81)]);
        let networks: Vec<_> = container
            .networks
            .iter()
            .map(|network| network.name.as_str())
            .collect();
        assert_eq!(networks, ["m", "n"]);
    }

    #[test]
    fn an_element_that_cannot_be_told_apart_is_counted_and_harms_no_other() {
        let body =
            format!(r#"[{{"State":"running"}}, 7, null, {{"Id":""}}, {{"Id":8}}, {{"Id":"{ID}"}}, []]"#);
        let listing = decode(body.as_bytes(), Scope::All).unwrap();
        assert_eq!(listing.containers.len(), 1);
        assert_eq!(listing.undecodable, 6);
    }

    #[test]
    fn only_a_list_is_a_list() {
        for body in [
            "",
            "null",
            "{}",
            r#"{"message":"no"}"#,
            "[{]",
            "<html>",
            "[{\"Id\":\"a\"}",
            "[] []",
        ] {
            let error = decode(body.as_bytes(), Scope::All).unwrap_err();
            assert!(matches!(error, ListError::Malformed { .. }), "{body}");
        }
        assert_eq!(decode(b"[]", Scope::All).unwrap(), Listing::default());
    }

    #[test]
    fn a_label_that_is_no_utf8_costs_no_container() {
        let body = [br#"[{"Id":"a","Labels":{"x":""#.as_slice(), b"\xff", br#""}}]"#].concat();
        assert_eq!(decode(&body, Scope::All).unwrap().containers.len(), 1);
    }

    #[test]
    fn a_list_by_id_holds_nothing_else() {
        let ids = ["abc".to_owned()];
        let body = br#"[{"Id":"abc"},{"Id":"abcd"},{"Id":"x"}]"#;
        let listing = decode(body, Scope::Ids(&ids)).unwrap();
        assert_eq!(listing.containers.len(), 1);
        assert_eq!(listing.containers[0].name, "abc");
    }

    #[test]
    fn ids_travel_in_the_url_up_to_the_limit_and_then_all_are_listed() {
        let ids = vec!["a\"b".to_owned(); MAX_SCOPE_IDS];
        let by_id = target(Scope::Ids(&ids[..1]));
        assert_eq!(
            by_id,
            "/containers/json?all=1&filters=%7B%22id%22%3A%5B%22a%5C%22b%22%5D%7D"
        );
        assert!(target(Scope::Ids(&ids)).contains("filters"));
        let more = vec!["a".to_owned(); MAX_SCOPE_IDS + 1];
        assert_eq!(target(Scope::Ids(&more)), target(Scope::All));
    }

    #[test]
    fn an_exit_code_and_a_health_come_from_the_text_where_no_field_has_them() {
        let element = |state, status, more| {
            one(&format!(
                r#"{{"Id":"a","State":"{state}","Status":"{status}"{more}}}"#
            ))
        };
        assert_eq!(
            element("exited", "Exited (137) 2 hours ago", "").exit_code,
            Some(137)
        );
        assert_eq!(
            element("running", "Up 2 hours (healthy)", "").health,
            Some(Health::Healthy)
        );
        let typed = element(
            "running",
            "Up 2 hours (healthy)",
            r#","Health":{"Status":"unhealthy"}"#,
        );
        assert_eq!(typed.health, Some(Health::Unhealthy));
        let none = element("running", "Up 2 hours", r#","Health":{"Status":"none"}"#);
        assert_eq!(none.health, None);
    }

    #[test]
    fn a_container_has_the_name_that_is_its_own() {
        let named = |names| one(&format!(r#"{{"Id":"{ID}","Names":{names}}}"#)).name;
        assert_eq!(named(r#"["/web/db","/db"]"#), "db");
        assert_eq!(named(r#"["/web/db"]"#), "web/db");
        assert_eq!(named("[]"), "fd77c6d3deaa");
        assert_eq!(named("null"), "fd77c6d3deaa");
    }
}
