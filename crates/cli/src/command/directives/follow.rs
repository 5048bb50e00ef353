//! `tidewatch directives follow`: what applies to one subject, in a file for programs that read one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tidewatch_core::{Error, Keyspace};
use tidewatch_directives::{Attribute, Connection as Link, DirectiveStore as _, KEY, KeyspaceDirectiveStore};
use tokio::time::timeout;

use super::attribute;
use super::follower::Follower;
use super::target::{Command, Target, parse_signal};
use crate::connection::Connection;
use crate::failure::{Failure, Result, note};
use crate::signal::ParentSignals;

/// Keep what applies to a subject in a file, and tell a program when it changes
///
/// The file holds `{"level","flags","directives","expires_at"}`, is replaced as a whole, and is written again when a
/// directive is published or ends. While the server is away the last known set stays in force, until it ends; also at the
/// start, from FILE.last-good. The program gets no signal that would end it because it does not handle it yet.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What is asked about: host, workload, role, component or principal; can be repeated
    #[arg(long = "match", value_name = "NAME=VALUE", value_parser = attribute)]
    subject: Vec<(Attribute, String)>,
    /// The request that is asked about, for directives that apply to some requests only
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    request_id: String,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The signal that tells the program: HUP, USR1, USR2, INT, QUIT or TERM [default: HUP]
    #[arg(long, value_name = "SIGNAL", value_parser = parse_signal, requires = "command")]
    signal: Option<rustix::process::Signal>,
    /// A program to start once the file is there; when it ends, so does this command
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  tidewatch directives follow --match component=billing --out /run/billing/directives.json
  tidewatch directives follow --match workload=shop --out d.json --signal HUP -- ./shop --port 8080

SIGINT (Ctrl-C), SIGQUIT, SIGTERM and SIGHUP end the program too, with SIGTERM; a second one but SIGHUP kills it. It does not \
inherit TIDEWATCH_TOKEN.";

/// How long after a file could not be written that is tried again.
const RETRY_WRITE: Duration = Duration::from_secs(1);

/// How long is waited for the server at the start. Who begins without it follows it as soon as it is there.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// How long a signal may take from the system to where it is waited for. The runtime has looked for those that were there
/// before it lets even the shortest time pass.
const SIGNAL_DELAY: Duration = Duration::from_millis(50);

pub(crate) async fn run(args: &Args, connection: Connection) -> Result {
    let mut signals = ParentSignals::new()?;
    let client = connection.open_lazily().await?;
    let keyspace = client.keyspace();
    let store = KeyspaceDirectiveStore::builder(keyspace.clone())
        .last_good(last_good(&args.out))
        .start();
    let mut follower = Follower::new(&args.subject, &args.request_id);
    let command = args.command.split_first().map(|(program, rest)| Command {
        program,
        args: rest,
        signal: args.signal.unwrap_or(rustix::process::Signal::HUP),
    });
    let mut changes = store.changes();
    let mut target = Target::new(command);
    let mut unwritten = false;
    let begin = async {
        let () = store.connected().await;
        judge(&store, &keyspace).await
    };
    tokio::select! {
        judged = begin => judged?,
        () = tokio::time::sleep(START_PATIENCE) => {}
        _ = signals.next() => return Ok(()),
    }
    note_absence(&store);
    loop {
        if let Some(content) = follower.changed(&store.load()) {
            match write(&args.out, &content) {
                Ok(()) => {
                    unwritten = false;
                    follower.tell(content);
                    target.tell()?;
                }
                // A full disk is no reason to end a program that runs.
                Err(error) if target.is_started() => {
                    if !unwritten {
                        note(&format!("{error:#}; it is tried again every {RETRY_WRITE:?}"));
                    }
                    unwritten = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY_WRITE), if unwritten => {}
            told = changes.changed() => if told.is_err() {
                // The client was closed, which nobody does.
                return Ok(());
            },
            ended = target.ended() => {
                // Ctrl-C is for both, and the end of the program may be known here first.
                let is_asked = ended.is_err() && timeout(SIGNAL_DELAY, signals.next()).await.is_ok();
                return if is_asked { Ok(()) } else { ended };
            }
            signal = signals.next() => return target.stop(signal, &mut signals).await,
        }
    }
}

/// Fails if a server is there and refuses, and nothing is known that could be in force meanwhile: to wait does not help
/// against a wrong token.
async fn judge(store: &KeyspaceDirectiveStore, keyspace: &Keyspace) -> Result {
    let is_away = matches!(store.status().connection, Link::Interrupted { .. });
    if !is_away || store.load().origin().is_some() {
        return Ok(());
    }
    // The status says why only to people.
    match keyspace.get(KEY).await {
        Err(error @ Error::PermissionDenied { .. }) => Err(Failure::from(error)),
        _ => Ok(()),
    }
}

/// Says so if what is published is not known, and what is written instead.
fn note_absence(store: &KeyspaceDirectiveStore) {
    let why = match store.status().connection {
        Link::Live => return,
        Link::Interrupted { error, .. } => error.to_string(),
        Link::Connecting | Link::Stopped => format!("no answer within {START_PATIENCE:?}"),
    };
    let known = if store.load().origin().is_some() {
        "what was known last stays in force until it ends"
    } else {
        "nothing is known to be in force"
    };
    note(&format!("the server is away ({why}): {known}"));
}

/// Where the last good set is kept, for a start while the server is away: beside the file that it is kept for.
fn last_good(out: &Path) -> PathBuf {
    let mut path = out.as_os_str().to_owned();
    path.push(".last-good");
    path.into()
}

/// Replaces the file: whoever reads it finds the old content or the new one, whole.
fn write(path: &Path, content: &str) -> anyhow::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let write = || {
        let mut builder = tempfile::Builder::new();
        // As any program would make it: others are to read it.
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
        let mut file = builder.tempfile_in(dir.unwrap_or(Path::new(".")))?;
        std::io::Write::write_all(&mut file, content.as_bytes())?;
        file.persist(path).map_err(|error| error.error)
    };
    write().with_context(|| format!("failed to write {}", path.display()))?;
    Ok(())
}
