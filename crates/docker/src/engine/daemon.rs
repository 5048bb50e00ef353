//! Who answers: `/version` and `/info`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bollard::models::SystemVersion;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::lenient::Lenient;
use crate::lister::{Daemon, ListError};

/// Who answers.
pub(super) const VERSION: &str = "/version";

/// And which daemon that is.
pub(super) const INFO: &str = "/info";

/// Podman calls itself this among the components of `/version`. Its `/info` invents another id for every answer,
/// which would read as another daemon at every tick, so its id counts for nothing.
const PODMAN: &str = "Podman Engine";

/// The part of `/info` that is wanted. Bollard's model of it is made of closed enums.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Info {
    #[serde(default, rename = "ID")]
    id: Lenient<String>,
    #[serde(default, rename = "ServerVersion")]
    server_version: Lenient<String>,
    #[serde(default, rename = "OperatingSystem")]
    operating_system: Lenient<String>,
    #[serde(default, rename = "SystemTime")]
    system_time: Lenient<String>,
}

pub(super) fn decode_version(body: &[u8]) -> Result<SystemVersion, ListError> {
    decode(body)
}

pub(super) fn decode_info(body: &[u8]) -> Result<Info, ListError> {
    decode(body)
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ListError> {
    serde_json::from_str(&String::from_utf8_lossy(body)).map_err(|error| ListError::Malformed {
        reason: format!("it does not describe a daemon ({error})"),
    })
}

/// Puts the two answers together.
///
/// Whoever is not Podman has to have an id: without one, any two daemons pass for the same.
pub(super) fn daemon(version: SystemVersion, info: Info) -> Result<Daemon, ListError> {
    let podman = version
        .components
        .iter()
        .flatten()
        .any(|component| component.name == PODMAN);
    let versions: BTreeMap<_, _> = [
        ("engine", version.version.or(info.server_version.0)),
        ("api", version.api_version),
        ("os", info.operating_system.0.or(version.os)),
        ("kernel", version.kernel_version),
        ("arch", version.arch),
    ]
    .into_iter()
    .filter_map(|(component, version)| Some((component.to_owned(), version.filter(|v| !v.is_empty())?)))
    .collect();
    let id = match info.id.0 {
        _ if podman => String::new(),
        Some(id) => id,
        None => {
            return Err(ListError::Malformed {
                reason: "the daemon does not say which it is".to_owned(),
            });
        }
    };
    Ok(Daemon {
        id,
        versions,
        time: info.system_time.0.and_then(|text| parse_time(&text)),
    })
}

/// RFC 3339 with any offset: a daemon writes its own time zone's.
fn parse_time(text: &str) -> Option<SystemTime> {
    let (date, time) = text.split_once('T')?;
    let Some(sign) = time.find(['+', '-']) else {
        return humantime::parse_rfc3339(text).ok();
    };
    let (time, offset) = time.split_at(sign);
    let (hours, minutes) = offset[1..].split_once(':')?;
    let (hours, minutes): (u64, u64) = (hours.parse().ok()?, minutes.parse().ok()?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let offset_duration = Duration::from_secs(hours * 3600 + minutes * 60);
    let local = humantime::parse_rfc3339(&format!("{date}T{time}Z")).ok()?;
    if offset.starts_with('+') {
        local.checked_sub(offset_duration)
    } else {
        local.checked_add(offset_duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(json: &str) -> SystemVersion {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_daemon_is_told_by_its_id_versions_and_clock() {
        let info = decode_info(
            br#"{"ID":"3XBO:36IN","ServerVersion":"20.10.24","OperatingSystem":"Debian GNU/Linux 12",
            "CgroupDriver":"unheard of","SystemTime":"2026-11-21T10:29:31.5Z"}"#,
        )
        .unwrap();
        let daemon = daemon(
            version(r#"{"Version":"20.10.24","ApiVersion":"1.41","KernelVersion":"6.1","Arch":"amd64"}"#),
            info,
        )
        .unwrap();
        assert_eq!(daemon.id, "3XBO:36IN");
        let versions: Vec<_> = daemon
            .versions
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            versions,
            [
                ("api", "1.41"),
                ("arch", "amd64"),
                ("engine", "20.10.24"),
                ("kernel", "6.1"),
                ("os", "Debian GNU/Linux 12")
            ]
        );
        assert_eq!(
            daemon.time,
            Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_256_971_500))
        );
    }

    #[test]
    fn an_id_that_podman_invents_for_every_answer_counts_for_nothing() {
        let version =
            version(r#"{"Components":[{"Name":"Podman Engine","Version":"4.3.1"}],"Version":"4.3.1"}"#);
        let info = decode_info(br#"{"ID":"e7a3"}"#).unwrap();
        assert_eq!(daemon(version, info).unwrap().id, "");
    }

    #[test]
    fn a_daemon_that_does_not_say_which_it_is_passes_for_none() {
        for body in ["{}", "[]", r#"{"ID":7}"#] {
            let info = decode_info(body.as_bytes()).unwrap();
            assert!(daemon(version("{}"), info).is_err(), "{body}");
        }
        assert!(decode_info(b"<html>").is_err());
    }

    #[test]
    fn a_time_is_the_same_in_every_zone() {
        let utc = parse_time("2026-11-21T10:29:31.5Z").unwrap();
        for text in [
            "2026-11-21T12:29:31.5+02:00",
            "2026-11-21T04:59:31.5-05:30",
            "2026-11-22T00:29:31.5+14:00",
        ] {
            assert_eq!(parse_time(text), Some(utc), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2026-11-21",
            "2026-11-21T10:29:31+99:00",
            "2026-11-21T10:29:31+0",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}
