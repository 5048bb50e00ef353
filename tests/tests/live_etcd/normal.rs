//! Answers as texts that are equal where the answers are, with what has to differ left out: who answered, and how much
//! of a lease is left.

use std::fmt::Debug;

use serde_json::Value;
use tidewatch_proto::etcdserverpb as pb;
use tonic::Status;

/// Says who answered. Two servers are not the same one.
const IDENTITY: [&str; 3] = ["cluster_id", "member_id", "raft_term"];

/// Every field of a message, a line each.
pub(crate) fn message(message: &impl Debug) -> String {
    let text = format!("{message:#?}");
    let lines = text.lines().filter(|line| {
        let line = line.trim_start();
        !IDENTITY
            .iter()
            .any(|name| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The code, by which clients branch, and the text, by which they branch too.
pub(crate) fn status(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// What is left of a lease: nothing, or something.
pub(crate) fn time_to_live(mut answer: pb::LeaseTimeToLiveResponse) -> pb::LeaseTimeToLiveResponse {
    answer.ttl = answer.ttl.signum();
    // In any order, with etcd.
    answer.keys.sort();
    answer
}

/// A line of etcdctl's: an object without what has to differ; anything else as it is.
pub(crate) fn line(line: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(line) else {
        return line.to_owned();
    };
    strip(&mut value);
    format!("{value:#}")
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !IDENTITY.contains(&name.as_str()));
            // Only what tells of a lease's time has both.
            if fields.contains_key("granted-ttl") {
                let left = fields.get("ttl").and_then(Value::as_i64);
                fields.insert("ttl".into(), left.map(i64::signum).into());
                if let Some(Value::Array(keys)) = fields.get_mut("keys") {
                    keys.sort_by_key(ToString::to_string);
                }
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        _ => {}
    }
}
