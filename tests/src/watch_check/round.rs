//! One round: everybody writes and watches, then everything is judged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use fastrand::Rng;
use tidewatch_core::check::{self, Observed, Truth, Violation};
use tidewatch_core::txn::Txn;
use tidewatch_core::watch::{EventRef, OnOverflow, Start, WatchRequest};
use tidewatch_core::{
    BatchKind, Clock as _, Error, KeyRange, Keyspace, KeyspaceId, Record, Revision, Status, SystemClock,
};
use tokio::task::JoinSet;

use super::goal::{Goal, Goals};
use super::plan::{MAX_AHEAD, Plan, Space, plans};
use super::reader::{Reader, Told};
use super::report::Found;
use super::writer::{Attempt, Writer, Written, attempt, everything};
use super::{WatchCheck, ledger};

/// Acknowledged transactions of a round. What all its watchers remember of them together is then some tens of mebibytes.
pub(super) const ROUND_TXNS: u64 = 1000;

/// The least of a round, also when the check is to end.
const LEAST_TXNS: u64 = 100;

/// How long a server may be away, and unless set otherwise how long a watch may say nothing that has something to say.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What a round goes by.
pub(super) struct Round<'a> {
    pub(super) check: &'a WatchCheck,
    pub(super) keyspace: KeyspaceId,
    pub(super) writes: &'a Keyspace,
    pub(super) watches: &'a Keyspace,
    pub(super) stopping: &'a AtomicBool,
    pub(super) prefix: String,
}

impl Round<'_> {
    /// Every broken promise.
    pub(super) async fn run(&self, mut rng: Rng) -> anyhow::Result<Vec<Found>> {
        let space = Space::new(self.prefix.clone());
        let begin = self.status().await?.revision;
        let written = Arc::new(Written::new(ROUND_TXNS));
        let (tell, goals) = Goals::new();

        let mut readers = JoinSet::new();
        for plan in plans(self.check.watchers, &space, begin, &mut rng) {
            let reader = Reader {
                plan,
                keyspace: self.watches.clone(),
                rng: rng.fork(),
                counts: self.check.counts.clone(),
                goals: goals.clone(),
                patience: self.check.patience,
                written: written.clone(),
            };
            readers.spawn(reader.run());
        }
        let mut writers = JoinSet::new();
        for name in 0..self.check.writers {
            let writer = Writer {
                name,
                keyspace: self.writes.clone(),
                space: space.clone(),
                rng: rng.fork(),
                counts: self.check.counts.clone(),
                written: written.clone(),
            };
            writers.spawn(writer.run());
        }
        let (mut attempts, mut told) = (Vec::new(), Vec::new());
        loop {
            if self.stopping.load(Ordering::Relaxed) {
                written.want_only(LEAST_TXNS);
            }
            tokio::select! {
                done = writers.join_next() => match done {
                    Some(done) => attempts.extend(done??),
                    None => break,
                },
                // One that has failed: there is no point in going on.
                Some(done) = readers.join_next() => told.push(done??),
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
        let goal = self.finish(&space, begin, &mut attempts).await?;
        tell.send_replace(Some(goal));
        while let Some(done) = readers.join_next().await {
            told.push(done??);
        }
        self.judge(&space, begin, goal, attempts, told).await
    }

    /// Writes every key once more and deletes it, so that everybody has something to wait for.
    async fn finish(
        &self,
        space: &Space,
        begin: Revision,
        attempts: &mut Vec<Attempt>,
    ) -> anyhow::Result<Goal> {
        for number in 0.. {
            let last = everything(space, format!("last {number}").as_bytes());
            let written = self.acknowledged(last, attempts).await?;
            let far_enough = |written: &Revision| written.0 >= begin.0 + MAX_AHEAD;
            let Some(written) = written.filter(far_enough) else {
                continue;
            };
            let all_gone = Txn::new().delete(space.all());
            if let Some(deleted) = self.acknowledged(all_gone, attempts).await? {
                return Ok(Goal { written, deleted });
            }
        }
        unreachable!("there is always another number")
    }

    async fn acknowledged(&self, txn: Txn, attempts: &mut Vec<Attempt>) -> anyhow::Result<Option<Revision>> {
        let attempt = attempt(self.writes, txn, &self.check.counts).await?;
        let revision = attempt.answer.as_ref().map(|answer| answer.header.revision);
        attempts.push(attempt);
        Ok(revision)
    }

    async fn judge(
        &self,
        space: &Space,
        begin: Revision,
        goal: Goal,
        attempts: Vec<Attempt>,
        told: Vec<Told>,
    ) -> anyhow::Result<Vec<Found>> {
        let (history, reference) = self.history(space, begin, goal).await?;
        let found = |whom: String, violation| Found { whom, violation };
        let mut records = match ledger::records(&history, attempts) {
            Ok(records) => records,
            Err(violation) => {
                // Streams can only be judged by themselves then.
                let mut all = vec![found("the keyspace".into(), violation)];
                all.extend(told.iter().filter_map(|told| {
                    let streams = told.streams.iter();
                    let broken = streams.map(|s| check::stream(&s.observed)).find_map(Result::err);
                    Some(found(whom(told), broken?))
                }));
                return Ok(all);
            }
        };
        // Others may write elsewhere; progress may tell of that too.
        let now = self.status().await?.revision;
        if now > goal.deleted {
            records.push(Arc::new(Record {
                revision: now,
                time: None,
                events: Box::default(),
            }));
        }
        let truth = Truth::new(records);
        let mut all = Vec::new();
        if let Err(violation) = check::all(&reference, &truth) {
            all.push(found("the history".into(), violation));
        }
        for told in &told {
            let violation = judge(told, &truth).err();
            all.extend(violation.map(|violation| found(whom(told), violation)));
        }
        Ok(all)
    }

    /// The history of the round, as somebody reads it who comes when everything has happened.
    async fn history(
        &self,
        space: &Space,
        begin: Revision,
        goal: Goal,
    ) -> anyhow::Result<(Vec<Arc<Record>>, Observed)> {
        let mut request = WatchRequest::new([space.all()]);
        request.start = Start::At(begin.next());
        request.view.prev_kv = true;
        let backend = self.writes.backend();
        let mut watch = patiently(|| backend.watch(request.clone())).await?;
        let mut observed = Observed::new(request.clone(), watch.created());
        let (mut records, mut pieces) = (Vec::new(), Vec::new());
        while watch.last_delivered() < Some(goal.deleted) {
            let next = tokio::time::timeout(PATIENCE, watch.next()).await;
            let batch = next.context("the history does not come")?;
            let batch = batch.context("the history of the round cannot be read")?;
            if batch.kind() == BatchKind::Events {
                pieces.extend(batch.iter().map(EventRef::to_owned));
                if !batch.is_partial() {
                    records.push(Arc::new(Record {
                        revision: batch.revision(),
                        time: None,
                        events: std::mem::take(&mut pieces).into(),
                    }));
                }
            }
            observed.see(batch);
        }
        Ok((records, observed))
    }

    async fn status(&self) -> anyhow::Result<Status> {
        let status = patiently(|| self.writes.status()).await?;
        ensure!(
            status.keyspace == self.keyspace,
            "the server has keyspace {} now, it had {} before: what it held is gone",
            status.keyspace,
            self.keyspace
        );
        Ok(status)
    }
}

/// How often it is looked whether the check is to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

fn judge(told: &Told, truth: &Truth) -> Result<(), Violation> {
    for stream in &told.streams {
        check::all(&stream.observed, truth)?;
    }
    for pair in told.streams.windows(2) {
        if pair[1].resumes {
            check::resumable(&pair[0].observed, &pair[1].observed)?;
        }
    }
    match &told.stuck {
        None => Ok(()),
        Some(violation) => Err(violation.clone()),
    }
}

fn whom(told: &Told) -> String {
    let Plan { kind, request, .. } = &told.plan;
    let view = request.view;
    let asked = [
        (request.snapshot, "snapshot"),
        (view.prev_kv, "prev_kv"),
        (view.keys_only, "keys_only"),
        (view.no_put, "no_put"),
        (view.no_delete, "no_delete"),
        (request.on_overflow == OnOverflow::Cancel, "cancel"),
    ];
    let asked = asked.iter().filter(|(is_asked, _)| *is_asked);
    let asked = asked.map(|(_, name)| *name).collect::<Vec<_>>().join(" ");
    let (ranges, start) = (&request.ranges, request.start);
    format!("watcher \"{kind}\" of {ranges:?} from {start:?} {asked}")
}

/// Deletes what there is. That may be done twice.
pub(super) async fn clean_up(keyspace: &Keyspace, place: &KeyRange) -> anyhow::Result<()> {
    let delete = || async {
        match keyspace.delete(place.clone()).await {
            Err(Error::OutcomeUnknown(cause)) => Err(Error::Unavailable(cause)),
            done => done,
        }
    };
    patiently(delete).await?;
    Ok(())
}

/// Waits for a server that is not there, or full, but not for ever.
pub(super) struct Patience {
    since: Option<Instant>,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { since: None }
    }

    /// After a call that had no effect: returns the error if it is final, or has lasted for too long.
    pub(super) async fn after(&mut self, error: Error) -> anyhow::Result<()> {
        if !matches!(
            error,
            Error::Unavailable(_) | Error::Closed | Error::NoSpace { .. }
        ) {
            return Err(error.into());
        }
        let now = SystemClock.now();
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) > PATIENCE {
            return Err(error).with_context(|| format!("the server was away or full for {PATIENCE:?}"));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
        Ok(())
    }
}

/// Makes a call that may be made again until the server answers.
pub(super) async fn patiently<T, F>(call: impl Fn() -> F) -> anyhow::Result<T>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut patience = Patience::new();
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => patience.after(error).await?,
        }
    }
}
