//! `etcdctl`: what people talk to etcd with.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::compare::TargetUnion;
use tidewatch_proto::etcdserverpb::request_op::Request;
use tidewatch_tests::etcd::Etcdctl;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::compare::Face;
use crate::normal;
use crate::scenario::{Call, Scenario, Step, Watch};
use crate::watching::{IN_VAIN, SENTINEL};

/// Scenarios with more steps than this are for clients that need no process for each.
const MAX_STEPS: usize = 60;

/// How long an event may take to come.
const CEILING: Duration = Duration::from_secs(60);

/// The client of one server.
pub(crate) struct Ctl {
    ctl: Etcdctl,
    address: SocketAddr,
}

impl Ctl {
    pub(crate) fn new(ctl: Etcdctl, address: SocketAddr) -> Self {
        Self { ctl, address }
    }

    /// Whether the scenario has more steps than there is time for.
    pub(crate) fn is_too_much(scenario: &Scenario) -> bool {
        (scenario.steps)(1).len() > MAX_STEPS
    }

    fn command(&self, args: &[String]) -> Command {
        let mut command = Command::from(self.ctl.command(self.address, args));
        command.arg("--write-out=json").kill_on_drop(true);
        command
    }

    async fn run(&self, args: &[String], input: &str) -> String {
        match self.output(args, input).await {
            Ok(text) => text,
            Err(error) => format!("{error:#}"),
        }
    }

    async fn output(&self, args: &[String], input: &str) -> anyhow::Result<String> {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ends early does not read it.
            stdin.write_all(input.as_bytes()).await.ok();
        }
        let done = child.wait_with_output().await?;
        let mut text = format!("{}\n", done.status);
        for line in String::from_utf8_lossy(&done.stdout).lines() {
            text.extend([format!("{}\n", normal::line(line))]);
        }
        // What it logs on its way has times in it.
        for line in String::from_utf8_lossy(&done.stderr).lines() {
            if line.starts_with("Error:") {
                text.extend([format!("{line}\n")]);
            }
        }
        Ok(text)
    }

    /// Reads as many events as there are to be.
    async fn watch(&self, args: &[String], items: usize) -> anyhow::Result<String> {
        let mut child = self.command(args).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let mut events = Vec::new();
        while events.len() < items {
            let line = tokio::time::timeout(CEILING, lines.next_line())
                .await
                .with_context(|| format!("{IN_VAIN} more than {events:#?}"))??;
            let Some(line) = line else { break };
            let response: serde_json::Value = serde_json::from_str(&line)?;
            if let Some(list) = response["Events"].as_array() {
                events.extend(list.iter().map(|event| format!("{event:#}")));
            }
            if response["Canceled"] == true {
                events.push(format!("canceled, {}", response["CompactRevision"]));
            }
        }
        child.kill().await.ok();
        Ok(events.join("\n"))
    }
}

impl Face for Ctl {
    async fn answer(&mut self, step: &Step) -> Option<String> {
        match step {
            Step::Call(call) => {
                let (args, input) = arguments(call)?;
                Some(self.run(&args, &input).await)
            }
            Step::Watch(watch) => {
                let args = watch_arguments(watch)?;
                let seen = self.watch(&args, watch.items).await;
                // As with the other clients, so that revisions are the same.
                self.run(&["put", SENTINEL, ""].map(String::from), "").await;
                Some(seen.unwrap_or_else(|error| format!("{error:#}")))
            }
        }
    }
}

/// The command and its input; none where there is no command for it.
fn arguments(call: &Call) -> Option<(Vec<String>, String)> {
    let mut input = String::new();
    let args = match call {
        Call::Range(request) => get(request)?,
        Call::Put(request) => put(request)?,
        Call::Delete(request) => delete(request)?,
        Call::Txn(request) => {
            input = txn(request)?;
            words(&["txn"])
        }
        Call::Compact(revision) if *revision >= 0 => {
            vec!["compaction".into(), revision.to_string(), "--physical".into()]
        }
        // It chooses the ids of leases itself.
        Call::Compact(_) | Call::Grant { .. } => return None,
        Call::Revoke(id) => vec!["lease".into(), "revoke".into(), format!("{id:x}")],
        Call::KeepAlive(id) => vec![
            "lease".into(),
            "keep-alive".into(),
            "--once".into(),
            format!("{id:x}"),
        ],
        Call::TimeToLive(id) => vec![
            "lease".into(),
            "timetolive".into(),
            "--keys".into(),
            format!("{id:x}"),
        ],
        Call::Leases => words(&["lease", "list"]),
    };
    Some((args, input))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// A key or value that can be an argument and a word of a transaction.
fn plain(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let fits = text.chars().all(|c| c.is_ascii_alphanumeric() || c == ' ') && text.len() < 100_000;
    fits.then(|| text.to_owned())
}

/// The key and the end of a range.
fn keys(key: &[u8], end: &[u8]) -> Option<Vec<String>> {
    match (key, end) {
        ([0], [0]) => Some(words(&["", "--prefix"])),
        (_, [0]) => Some(vec![plain(key)?, "--from-key".into()]),
        (_, []) => Some(vec![plain(key)?]),
        _ => Some(vec![plain(key)?, plain(end)?]),
    }
}

fn get(request: &pb::RangeRequest) -> Option<Vec<String>> {
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if bounds.iter().any(|&bound| bound != 0) || request.count_only || request.serializable {
        return None;
    }
    let order = ["", "ASCEND", "DESCEND"].get(usize::try_from(request.sort_order).ok()?)?;
    let targets = ["KEY", "VERSION", "CREATE", "MODIFY", "VALUE"];
    let target = targets.get(usize::try_from(request.sort_target).ok()?)?;
    let mut args = words(&["get"]);
    args.extend(keys(&request.key, &request.range_end)?);
    args.extend([
        format!("--limit={}", request.limit),
        format!("--rev={}", request.revision),
        format!("--order={order}"),
        format!("--sort-by={target}"),
    ]);
    if request.keys_only {
        args.push("--keys-only".into());
    }
    Some(args)
}

fn put(request: &pb::PutRequest) -> Option<Vec<String>> {
    let mut args = vec!["put".into(), plain(&request.key)?];
    if request.ignore_value {
        args.push("--ignore-value".into());
    }
    if !request.ignore_value || !request.value.is_empty() {
        args.push(plain(&request.value)?);
    }
    if request.ignore_lease {
        args.push("--ignore-lease".into());
    }
    if request.prev_kv {
        args.push("--prev-kv".into());
    }
    if request.lease != 0 {
        args.push(format!("--lease={:x}", request.lease));
    }
    Some(args)
}

fn delete(request: &pb::DeleteRangeRequest) -> Option<Vec<String>> {
    let mut args = words(&["del"]);
    args.extend(keys(&request.key, &request.range_end)?);
    if request.prev_kv {
        args.push("--prev-kv".into());
    }
    Some(args)
}

/// What is typed into `etcdctl txn`: compares, then two lists of operations, each ended by an empty line.
fn txn(request: &pb::TxnRequest) -> Option<String> {
    let mut text = String::new();
    for compare in &request.compare {
        text.extend([format!("{}\n", condition(compare)?)]);
    }
    for ops in [&request.success, &request.failure] {
        text += "\n";
        for op in ops {
            let args = match op.request.as_ref()? {
                Request::RequestRange(request) => get(request)?,
                Request::RequestPut(request) => put(request)?,
                Request::RequestDeleteRange(request) => delete(request)?,
                Request::RequestTxn(_) => return None,
            };
            let quoted = args.iter().map(|arg| {
                if arg.is_empty() || arg.contains(' ') {
                    format!("\"{arg}\"")
                } else {
                    arg.clone()
                }
            });
            text.extend([format!("{}\n", quoted.collect::<Vec<_>>().join(" "))]);
        }
    }
    Some(text + "\n")
}

fn condition(compare: &pb::Compare) -> Option<String> {
    let key = plain(&compare.key)?;
    let op = ["=", ">", "<", "!="].get(usize::try_from(compare.result).ok()?)?;
    let (name, constant) = match (compare.target, compare.target_union.as_ref()?) {
        (0, TargetUnion::Version(number)) => ("ver", number.to_string()),
        (1, TargetUnion::CreateRevision(number)) => ("create", number.to_string()),
        (2, TargetUnion::ModRevision(number)) => ("mod", number.to_string()),
        (3, TargetUnion::Value(value)) => ("val", plain(value)?),
        (4, TargetUnion::Lease(id)) if *id >= 0 => ("lease", format!("{id:x}")),
        _ => return None,
    };
    compare
        .range_end
        .is_empty()
        .then(|| format!("{name}(\"{key}\") {op} \"{constant}\""))
}

/// Only a watch from the past: nothing tells when another has begun.
fn watch_arguments(watch: &Watch) -> Option<Vec<String>> {
    let [create] = &watch.creates[..] else {
        return None;
    };
    if create.start_revision <= 0
        || !create.filters.is_empty()
        || create.watch_id != 0
        || !watch.then.is_empty()
        || watch.items == 0
    {
        return None;
    }
    let mut args = words(&["watch"]);
    args.extend(keys(&create.key, &create.range_end)?);
    args.push(format!("--rev={}", create.start_revision));
    if create.prev_kv {
        args.push("--prev-kv".into());
    }
    Some(args)
}
