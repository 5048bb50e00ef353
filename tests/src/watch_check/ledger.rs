//! What really happened in a round, worked out from its transactions.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tidewatch_core::check::Violation;
use tidewatch_core::txn::{
    Compare, CompareTarget, DeleteRequest, Op, OpResponse, PutRequest, Txn, TxnResponse,
};
use tidewatch_core::{Event, KeyValue, Record, Revision};

use super::writer::Attempt;

/// The records of a round in whose keys nobody else writes. `history` is what the server tells of it.
pub(super) fn records(
    history: &[Arc<Record>],
    attempts: Vec<Attempt>,
) -> Result<Vec<Arc<Record>>, Violation> {
    let mut ledger = Ledger::new(attempts)?;
    let mut told: BTreeMap<Revision, &Record> = history.iter().map(|r| (r.revision, &**r)).collect();
    let revisions: Vec<_> = told
        .keys()
        .chain(ledger.acknowledged.keys())
        .copied()
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    let mut records = Vec::new();
    for revision in revisions {
        ledger.answer_those_without_effect(revision)?;
        let told = told.remove(&revision);
        let applied = match (ledger.acknowledged.remove(&revision), told) {
            (Some(_), None) => {
                return broken(
                    "Durable",
                    format!("revision {revision} was acknowledged and is lost"),
                );
            }
            (Some((txn, answer)), Some(_)) => {
                let applied = ledger.state.apply(&txn, revision);
                applied.check(revision, &answer)?;
                applied
            }
            (None, told) => ledger.explain(revision, told.map_or(&[][..], |told| &told.events))?,
        };
        ledger.state = applied.state;
        records.push(Arc::new(Record {
            revision,
            time: None,
            events: applied.events.into(),
        }));
    }
    ledger.answer_those_without_effect(Revision(u64::MAX))?;
    Ok(records)
}

fn broken<T>(promise: &'static str, detail: String) -> Result<T, Violation> {
    Err(Violation { promise, detail })
}

struct Ledger {
    state: State,
    /// Those that made a revision.
    acknowledged: BTreeMap<Revision, (Txn, TxnResponse)>,
    /// Those that made none, by the revision at which that was so.
    without_effect: VecDeque<(Txn, TxnResponse)>,
    unknown: Vec<Txn>,
}

impl Ledger {
    fn new(attempts: Vec<Attempt>) -> Result<Self, Violation> {
        let mut acknowledged = BTreeMap::new();
        let (mut without_effect, mut unknown) = (Vec::new(), Vec::new());
        for Attempt { txn, answer } in attempts {
            let Some(answer) = answer else {
                unknown.push(txn);
                continue;
            };
            let revision = answer.header.revision;
            if !has_effect(&answer) {
                without_effect.push((txn, answer));
            } else if acknowledged.insert(revision, (txn, answer)).is_some() {
                return broken("Serial", format!("two transactions made revision {revision}"));
            }
        }
        without_effect.sort_by_key(|(_, answer)| answer.header.revision);
        Ok(Self {
            state: State::default(),
            acknowledged,
            without_effect: without_effect.into(),
            unknown,
        })
    }

    /// Checks the answers that were given before this revision was made.
    fn answer_those_without_effect(&mut self, revision: Revision) -> Result<(), Violation> {
        while let Some((_, answer)) = self.without_effect.front() {
            let at = answer.header.revision;
            if at >= revision {
                return Ok(());
            }
            let Some((txn, answer)) = self.without_effect.pop_front() else {
                return Ok(());
            };
            self.state.apply(&txn, at).check(at, &answer)?;
        }
        Ok(())
    }

    /// Finds what made a revision that nobody acknowledged.
    fn explain(&mut self, revision: Revision, told: &[Event]) -> Result<Applied, Violation> {
        for at in 0..self.unknown.len() {
            let applied = self.state.apply(&self.unknown[at], revision);
            if applied.events == told {
                self.unknown.swap_remove(at);
                return Ok(applied);
            }
        }
        broken(
            "Serial",
            format!("revision {revision} is none that somebody made: {told:?}"),
        )
    }
}

fn has_effect(answer: &TxnResponse) -> bool {
    answer.responses.iter().any(|response| match response {
        OpResponse::Put { .. } => true,
        OpResponse::Delete { deleted, .. } => *deleted > 0,
        OpResponse::Range(_) | OpResponse::Txn { .. } => false,
    })
}

/// The entries there are.
#[derive(Clone, Debug, Default)]
struct State(BTreeMap<Bytes, KeyValue>);

/// What comes of a transaction.
struct Applied {
    state: State,
    events: Vec<Event>,
    succeeded: bool,
    /// How many keys each deletion removes.
    deleted: Vec<u64>,
}

impl Applied {
    fn check(&self, revision: Revision, answer: &TxnResponse) -> Result<(), Violation> {
        let deleted = answer.responses.iter().filter_map(|response| match response {
            OpResponse::Delete { deleted, .. } => Some(*deleted),
            _ => None,
        });
        let said = (answer.succeeded, deleted.collect());
        let right = (self.succeeded, self.deleted.clone());
        if said == right {
            return Ok(());
        }
        broken(
            "Serial",
            format!("the answer at revision {revision} is {said:?} instead of {right:?}"),
        )
    }
}

impl State {
    /// Carries out the transactions that writers make: without reads, leases and nested ones.
    fn apply(&self, txn: &Txn, revision: Revision) -> Applied {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let mut applied = Applied {
            state: self.clone(),
            events: Vec::new(),
            succeeded,
            deleted: Vec::new(),
        };
        for op in if succeeded { &txn.then } else { &txn.otherwise } {
            match op {
                Op::Put(put) => applied.put(put, revision),
                Op::Delete(delete) => applied.delete(delete, revision),
                Op::Range(_) | Op::Txn(_) => unreachable!("no writer does this"),
            }
        }
        applied
    }

    fn holds(&self, compare: &Compare) -> bool {
        let CompareTarget::Create(constant) = compare.target else {
            unreachable!("writers ask only whether a key exists")
        };
        let found = self.0.get(compare.range.start());
        let created = found.map_or(Revision(0), |kv| kv.create_revision);
        compare.op.accepts(created.cmp(&constant))
    }
}

impl Applied {
    fn put(&mut self, put: &PutRequest, revision: Revision) {
        let before = self.state.0.get(&put.key).cloned();
        let kv = KeyValue {
            key: put.key.clone(),
            value: put.value.clone(),
            create_revision: before.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: before.as_ref().map_or(0, |kv| kv.version) + 1,
            lease: None,
        };
        self.state.0.insert(put.key.clone(), kv.clone());
        self.events.push(Event::put(kv, before));
    }

    fn delete(&mut self, delete: &DeleteRequest, revision: Revision) {
        let keys = self.state.0.keys().filter(|key| delete.range.contains(key));
        let keys: Vec<_> = keys.cloned().collect();
        self.deleted.push(keys.len() as u64);
        let gone = keys.iter().filter_map(|key| self.state.0.remove(key));
        self.events.extend(gone.map(|kv| Event::delete(revision, kv)));
    }
}

#[cfg(test)]
mod tests {
    use tidewatch_core::txn::Header;
    use tidewatch_core::{EventKind, KeyspaceId, key, prefix};

    use super::*;

    fn acknowledged(revision: u64, txn: Txn, responses: Vec<OpResponse>) -> Attempt {
        let header = Header {
            keyspace: KeyspaceId(1),
            revision: Revision(revision),
        };
        let answer = Some(TxnResponse {
            header,
            succeeded: true,
            responses,
        });
        Attempt { txn, answer }
    }

    fn put(revision: u64, value: &'static str) -> Attempt {
        let txn = PutRequest::new("/a/x", value).into();
        acknowledged(revision, txn, vec![OpResponse::Put { prev: None }])
    }

    fn delete(revision: u64, deleted: u64) -> Attempt {
        let prev = Vec::new();
        let txn = Txn::new().delete(key("/a/x").unwrap());
        acknowledged(revision, txn, vec![OpResponse::Delete { deleted, prev }])
    }

    fn unknown(attempt: Attempt) -> Attempt {
        Attempt {
            answer: None,
            ..attempt
        }
    }

    /// The history that these acknowledged transactions make.
    fn history(attempts: &[Attempt]) -> Vec<Arc<Record>> {
        let mut state = State::default();
        let mut records = Vec::new();
        for attempt in attempts {
            let revision = attempt.answer.as_ref().unwrap().header.revision;
            let applied = state.apply(&attempt.txn, revision);
            state = applied.state;
            records.push(Arc::new(Record {
                revision,
                time: None,
                events: applied.events.into(),
            }));
        }
        records
    }

    #[test]
    fn what_was_acknowledged_and_told_is_the_truth() {
        let attempts = vec![put(2, "1"), put(4, "2"), delete(7, 1), delete(7, 0)];
        let told = history(&attempts[..3]);
        assert_eq!(records(&told, attempts).unwrap(), told);
    }

    #[test]
    fn a_transaction_of_unknown_outcome_is_put_where_it_fits() {
        let attempts = [put(2, "1"), put(4, "2"), delete(7, 1), put(9, "3")];
        let told = history(&attempts);
        for hidden in 0..attempts.len() {
            let mut sent = attempts.to_vec();
            sent[hidden] = unknown(sent[hidden].clone());
            sent.push(unknown(put(1, "this one did not happen")));
            assert_eq!(records(&told, sent).unwrap(), told, "without {hidden}");
        }
    }

    #[test]
    fn a_history_that_contradicts_the_answers_is_found() {
        let told = history(&[put(2, "1"), put(4, "2"), delete(7, 1)]);
        let cases = [
            (
                "Durable",
                vec![put(2, "1"), put(4, "2"), put(5, "lost"), delete(7, 1)],
            ),
            ("Serial", vec![put(2, "1"), delete(7, 1)]),
            (
                "Serial",
                vec![put(2, "1"), unknown(put(4, "another")), delete(7, 1)],
            ),
            (
                "Serial",
                vec![put(2, "1"), put(2, "1"), put(4, "2"), delete(7, 1)],
            ),
            ("Serial", vec![put(2, "1"), put(4, "2"), delete(7, 2)]),
            (
                "Serial",
                vec![put(2, "1"), put(4, "2"), delete(5, 0), delete(7, 1)],
            ),
        ];
        for (promise, attempts) in cases {
            let violation = records(&told, attempts).unwrap_err();
            assert_eq!(violation.promise, promise, "{violation}");
        }
    }

    #[test]
    fn the_branch_that_happens_is_the_one_whose_compares_hold() {
        let absent = Compare::absent(key("/a/x").unwrap());
        let txn = Txn::new()
            .when(absent)
            .put(PutRequest::new("/a/x", "new"))
            .or_else(Op::Delete(DeleteRequest::new(prefix("/a/").unwrap())));
        let empty = State::default();
        let first = empty.apply(&txn, Revision(2));
        assert!(first.succeeded && first.deleted.is_empty());
        let second = first.state.apply(&txn, Revision(3));
        assert_eq!((second.succeeded, &second.deleted[..]), (false, &[1][..]));
        assert_eq!(second.events[0].kind, EventKind::Delete);
        assert!(second.state.0.is_empty());
    }
}
