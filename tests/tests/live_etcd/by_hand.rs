//! What people type: `etcdctl` prints the same whichever server it asks, and says so where something is not there.

use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use tidewatch_tests::etcd::{Etcdctl, RealEtcd, etcdctl_for_test};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::compare::{Pair, begin};
use crate::stubs::Stubs;

/// How long a line may take to come.
const CEILING: Duration = Duration::from_secs(60);

/// Commands, and what is typed into them. `LEASE` stands for the lease that the server granted last, `BASE`
/// for the revision at which the session begins.
const SESSION: &[(&str, &str)] = &[
    ("put a 1", ""),
    ("put a 2 --prev-kv", ""),
    ("put b 1", ""),
    ("put b/1 x", ""),
    ("get a", ""),
    ("get absent", ""),
    ("get a --rev=BASE+1", ""),
    ("get a --rev=1000", ""),
    ("get b --prefix --keys-only", ""),
    ("get b --prefix --count-only --write-out=fields", ""),
    ("get a b/ --order=DESCEND --sort-by=MODIFY --limit=1", ""),
    ("get b --from-key --print-value-only", ""),
    ("get a --hex", ""),
    ("put a --ignore-value", ""),
    ("put absent --ignore-value", ""),
    ("put from-stdin", "typed"),
    ("get from-stdin", ""),
    ("del b/ --prefix --prev-kv", ""),
    ("del absent", ""),
    (
        "txn",
        "mod(\"a\") > \"0\"\nval(\"b\") = \"1\"\n\nput c then\nget c\ndel b\n\nput c else\n\n",
    ),
    ("txn", "ver(\"a\") = \"1\"\n\nput c then\n\nput d else\nget d\n\n"),
    ("txn", "\nput c 1\nput c 2\n\n\n"),
    ("lease grant 100", ""),
    ("put leased x --lease=LEASE", ""),
    ("lease timetolive LEASE --keys", ""),
    ("lease keep-alive --once LEASE", ""),
    ("lease list", ""),
    ("lease revoke LEASE", ""),
    ("lease revoke LEASE", ""),
    ("lease timetolive LEASE", ""),
    ("get leased", ""),
    ("compaction BASE+4", ""),
    ("compaction BASE+4", ""),
    ("compaction 1000", ""),
    ("get a --rev=BASE+2", ""),
    ("watch a --rev=BASE+1", ""),
    ("endpoint health", ""),
    ("alarm list", ""),
    ("lock l echo held", ""),
];

#[tokio::test]
async fn a_session_looks_the_same() -> anyhow::Result<()> {
    session(0).await
}

#[tokio::test]
async fn a_session_on_a_server_whose_keyspace_is_in_an_etcd() -> anyhow::Result<()> {
    session(1).await
}

#[tokio::test]
async fn a_session_through_a_server_on_a_server_on_an_etcd() -> anyhow::Result<()> {
    session(2).await
}

async fn session(tiers: usize) -> anyhow::Result<()> {
    let (Some(pair), Some(ctl)) = (Pair::for_test(tiers)?, etcdctl_for_test()) else {
        return Ok(());
    };
    let (mut theirs, mut ours) = (Typist::new(&ctl, pair.theirs), Typist::new(&ctl, pair.ours));
    let base = begin(
        &Stubs::connect(pair.theirs).await?,
        &Stubs::connect(pair.ours).await?,
    )
    .await?;
    (theirs.base, ours.base) = (base, base);
    for (command, input) in SESSION {
        let (expected, found) = tokio::try_join!(theirs.run(command, input), ours.run(command, input))?;
        assert_eq!(expected, found, "{command}");
    }
    Ok(())
}

/// Watches of the changes that the test makes, what is typed into them, and how many lines they print.
const WATCHES: &[(&str, &str, usize)] = &[
    ("watch a --rev=2", "", 9),
    ("watch a --rev=2 --prev-kv", "", 13),
    ("watch a --prefix --rev=2", "", 12),
    ("watch a b --rev=3", "", 9),
    ("watch -i", "watch a --rev=2\n", 9),
    ("watch -i", "watch --prefix --rev=2 a\nwatch b --rev=2\n", 15),
];

#[tokio::test]
async fn watches_look_the_same() -> anyhow::Result<()> {
    let (Some(etcd), Some(ctl)) = (RealEtcd::for_test(), etcdctl_for_test()) else {
        return Ok(());
    };
    let pair = Pair::of(etcd)?;
    let (mut theirs, mut ours) = (Typist::new(&ctl, pair.theirs), Typist::new(&ctl, pair.ours));
    for command in ["put a 1", "put a/1 x", "put a 2", "del a", "put b 1"] {
        theirs.run(command, "").await?;
        ours.run(command, "").await?;
    }
    for &(command, input, lines) in WATCHES {
        let (mut expected, mut found) = tokio::try_join!(
            theirs.watch(command, input, lines),
            ours.watch(command, input, lines)
        )?;
        if input.matches("watch").count() > 1 {
            // Which of two watches prints first is nobody's promise.
            expected.sort();
            found.sort();
        }
        assert_eq!(expected, found, "{command} {input}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_tells_about_itself() -> anyhow::Result<()> {
    let (Some(etcd), Some(ctl)) = (RealEtcd::for_test(), etcdctl_for_test()) else {
        return Ok(());
    };
    let pair = Pair::of(etcd)?;
    for command in ["endpoint status", "member list", "endpoint hashkv"] {
        let theirs = Typist::new(&ctl, pair.theirs).run(command, "").await?;
        let ours = Typist::new(&ctl, pair.ours).run(command, "").await?;
        assert!(ours.starts_with("exit status: 0"), "{command}: {ours}");
        let fields = |text: &str| text.matches(", ").count();
        assert_eq!(fields(&ours), fields(&theirs), "{command}:\n{ours}\n{theirs}");
    }
    Ok(())
}

/// Commands for what is not there, and words of the sentence that says so.
const ABSENT: &[(&str, &str)] = &[
    ("snapshot save nowhere.db", "tidewatch backup"),
    ("auth enable", "no users and roles"),
    ("user add root:secret", "no users and roles"),
    ("role list", "no users and roles"),
    (
        "member add other --peer-urls=http://127.0.0.1:1",
        "no members to change",
    ),
    ("move-leader 1", "no leader to move"),
    ("defrag", "nothing to defragment"),
];

#[tokio::test]
async fn what_is_not_there_says_so() -> anyhow::Result<()> {
    let (Some(etcd), Some(ctl)) = (RealEtcd::for_test(), etcdctl_for_test()) else {
        return Ok(());
    };
    let pair = Pair::of(etcd)?;
    let dir = tempfile::tempdir()?;
    for (command, words) in ABSENT {
        let mut typist = Command::from(ctl.command(pair.ours, &arguments(command, "", 0)));
        let done = typist.current_dir(dir.path()).output().await?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success(), "{command} succeeded");
        assert!(
            said.contains("Unimplemented") && said.contains(words),
            "{command}: {said}"
        );
    }
    // An election is made of what is there, and held until it is interrupted.
    let mut candidate = Typist::new(&ctl, pair.ours);
    let elected = candidate.watch("elect e me", "", 2).await?;
    assert!(elected[0].starts_with("e/") && elected[1] == "me", "{elected:?}");
    Ok(())
}

/// Somebody at a terminal.
struct Typist<'a> {
    ctl: &'a Etcdctl,
    address: SocketAddr,
    lease: String,
    base: i64,
}

impl<'a> Typist<'a> {
    fn new(ctl: &'a Etcdctl, address: SocketAddr) -> Self {
        Self {
            ctl,
            address,
            lease: String::new(),
            base: 0,
        }
    }

    fn command(&self, command: &str) -> Command {
        let mut command = Command::from(
            self.ctl
                .command(self.address, &arguments(command, &self.lease, self.base)),
        );
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// What the command prints, and how it ends; without ids, times, and what it logs.
    async fn run(&mut self, command: &str, input: &str) -> anyhow::Result<String> {
        let mut child = self.command(command).spawn()?;
        let mut stdin = child.stdin.take().context("no stdin")?;
        // One that reads nothing may be gone already.
        stdin.write_all(input.as_bytes()).await.ok();
        drop(stdin);
        let ended = tokio::time::timeout(CEILING, child.wait_with_output()).await;
        let Output {
            status,
            stdout,
            stderr,
        } = ended.with_context(|| format!("{command} does not end"))??;
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        if let Some(granted) = stdout
            .strip_prefix("lease ")
            .filter(|_| command.starts_with("lease grant"))
        {
            granted
                .split(' ')
                .next()
                .unwrap_or_default()
                .clone_into(&mut self.lease);
            ensure!(!self.lease.is_empty(), "no lease in {stdout}");
        }
        let mut text = format!("{status}\n");
        // The client logs as JSON.
        for line in stdout
            .lines()
            .chain(stderr.lines().filter(|line| !line.starts_with('{')))
        {
            text.extend([format!("{}\n", self.without_what_differs(line))]);
        }
        Ok(text)
    }

    fn without_what_differs(&self, line: &str) -> String {
        let mut line = line.replace(&self.address.to_string(), "ADDRESS");
        if !self.lease.is_empty() {
            line = line.replace(&self.lease, "LEASE");
        }
        for identity in ["\"ClusterID\"", "\"MemberID\"", "\"RaftTerm\""] {
            if line.starts_with(identity) {
                return identity.to_owned();
            }
        }
        // How long it took, and how much is left.
        let end = line.find("took = ").or_else(|| line.find("remaining("));
        line[..end.unwrap_or(line.len())].to_owned()
    }

    /// So many lines of a command that goes on.
    async fn watch(&mut self, command: &str, input: &str, count: usize) -> anyhow::Result<Vec<String>> {
        let mut child = self.command(command).spawn()?;
        let mut stdin = child.stdin.take().context("no stdin")?;
        stdin.write_all(input.as_bytes()).await?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let mut seen = Vec::new();
        while seen.len() < count {
            let line = tokio::time::timeout(CEILING, lines.next_line()).await;
            let line = line.with_context(|| format!("{command}: waited for more than {seen:#?}"))??;
            seen.push(line.with_context(|| format!("{command} ended after {seen:#?}"))?);
        }
        child.kill().await?;
        Ok(seen)
    }
}

fn arguments(command: &str, lease: &str, base: i64) -> Vec<String> {
    let argument = |word: &str| match word.split_once("BASE+") {
        Some((before, count)) => format!("{before}{}", base + count.parse::<i64>().expect("a number")),
        None => word.replace("LEASE", lease),
    };
    command.split(' ').map(argument).collect()
}
