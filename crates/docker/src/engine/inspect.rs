//! Reading `/containers/<id>/json`.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::lenient::Lenient;
use crate::inspect::Facts;
use crate::lister::ListError;

/// Docker's way to say "never".
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What to ask for. Never with `size`.
pub(super) fn target(id: &str) -> String {
    format!("/containers/{}/json", utf8_percent_encode(id, NON_ALPHANUMERIC))
}

/// Reads the answer. Of some two hundred fields these few are all that is wanted; a model of all of them would fail
/// on a new kind of mount.
pub(super) fn decode(body: &[u8]) -> Result<Facts, ListError> {
    let malformed = |reason: String| ListError::Malformed { reason };
    let text = String::from_utf8_lossy(body);
    let inspected: Inspected = serde_json::from_str(&text)
        .map_err(|error| malformed(format!("it does not describe a container ({error})")))?;
    let state = inspected
        .state
        .0
        .ok_or_else(|| malformed("it describes no container's state".to_owned()))?;
    let running = state.running.or_default();
    let started_at = state
        .started_at
        .0
        .filter(|time| !time.is_empty() && time != NEVER);
    let exit_code = state.exit_code.0.filter(|&code| {
        // A start that failed has a code (127) although the container never ran.
        !running && (started_at.is_some() || code != 0)
    });
    Ok(Facts {
        oom_killed: state.oom_killed.or_default(),
        restart_count: inspected.restart_count.or_default(),
        started_at,
        exit_code,
        error: state.error.or_default(),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(default)]
    state: Lenient<RunState>,
    #[serde(default)]
    restart_count: Lenient<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RunState {
    #[serde(default)]
    running: Lenient<bool>,
    #[serde(default, rename = "OOMKilled")]
    oom_killed: Lenient<bool>,
    #[serde(default)]
    exit_code: Lenient<i64>,
    #[serde(default)]
    error: Lenient<String>,
    #[serde(default)]
    started_at: Lenient<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(state: &str) -> Facts {
        decode(
            format!(r#"{{"State":{state},"RestartCount":3,"HostConfig":{{"Isolation":"new"}}}}"#).as_bytes(),
        )
        .unwrap()
    }

    #[test]
    fn the_end_of_a_container_is_told_in_full() {
        let facts = facts(
            r#"{"Status":"exited","Running":false,"OOMKilled":true,"ExitCode":137,"Error":"",
            "StartedAt":"2026-11-21T10:29:53.125850198Z"}"#,
        );
        let expected = Facts {
            oom_killed: true,
            restart_count: 3,
            started_at: Some("2026-11-21T10:29:53.125850198Z".to_owned()),
            exit_code: Some(137),
            error: String::new(),
        };
        assert_eq!(facts, expected);
    }

    #[test]
    fn a_container_that_runs_or_never_ran_has_no_exit_code() {
        let running = facts(r#"{"Running":true,"ExitCode":0,"StartedAt":"2026-11-21T10:29:53Z"}"#);
        assert_eq!(running.exit_code, None);
        let created = facts(&format!(
            r#"{{"Running":false,"ExitCode":0,"StartedAt":"{NEVER}"}}"#
        ));
        assert_eq!((created.exit_code, created.started_at), (None, None));
    }

    #[test]
    fn a_failed_start_keeps_its_code_and_its_reason() {
        let failed = facts(&format!(
            r#"{{"Running":false,"ExitCode":127,"Error":"no such file","StartedAt":"{NEVER}"}}"#
        ));
        assert_eq!(failed.exit_code, Some(127));
        assert_eq!(failed.error, "no such file");
    }

    #[test]
    fn an_answer_without_a_state_is_no_answer() {
        for body in ["", "{}", "[]", r#"{"State":"running"}"#] {
            assert!(decode(body.as_bytes()).is_err(), "{body}");
        }
        let odd = facts(r#"{"Running":"maybe","ExitCode":"x","StartedAt":7}"#);
        assert_eq!(odd.exit_code, None);
    }
}
