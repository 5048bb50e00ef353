//! The judgement after a run: every revision has a cause, every answer its effect, and every watcher was told the truth.

use std::collections::BTreeMap;

use tidewatch_core::txn::TxnResponse;
use tidewatch_core::{Event, EventKind, LeaseId, Record, Revision, check};

use super::chronicle::Moment;
use super::coverage::Kind;
use super::ledger::{Answer, Ledger, Ticket, Wish, changed};
use super::model::{self, Outcome};
use super::truth::Truth;
use super::world::World;

/// Judges a run that is over.
pub(crate) fn judge(world: &World) -> Result<(), String> {
    let disk = world.journal.disk();
    let caused = answers_have_their_effect(&world.ledger(), &disk.truth)?;
    revisions_have_a_cause(world, &disk.truth, &caused)?;
    watchers_were_told_the_truth(world, &disk.truth)
}

/// What was acknowledged is durable, exactly as it was answered, at the revision that was answered. Returns which
/// transaction made which revision.
fn answers_have_their_effect(ledger: &Ledger, truth: &Truth) -> Result<BTreeMap<Revision, Ticket>, String> {
    let mut caused = BTreeMap::new();
    for (ticket, asked) in ledger.all() {
        let (Wish::Txn(txn), Answer::Done(answer)) = (&asked.wish, &asked.answer) else {
            continue;
        };
        let TxnResponse {
            header,
            succeeded,
            responses,
        } = &**answer;
        let revision = header.revision;
        let changed = changed(responses);
        let before = if changed { revision.prev() } else { revision };
        if before < Revision::INITIAL || revision > truth.revision() {
            return Err(format!(
                "{ticket} was answered at {revision}, which does not exist"
            ));
        }
        let wanted = model::evaluate(truth.state(before), before.next(), txn);
        let got = Outcome {
            succeeded: *succeeded,
            responses: responses.clone(),
            events: events_of(truth, revision).filter(|_| changed).unwrap_or_default(),
        };
        if got != wanted {
            return Err(format!(
                "{ticket} at {revision} came to {got:?} instead of {wanted:?}"
            ));
        }
        if changed && let Some(other) = caused.insert(revision, ticket) {
            return Err(format!("both {ticket} and {other} were answered at {revision}"));
        }
    }
    Ok(caused)
}

fn events_of(truth: &Truth, revision: Revision) -> Option<Vec<Event>> {
    truth.record(revision).map(|(record, _)| record.events.to_vec())
}

/// Nothing happened but what was acknowledged, what may have happened for all that was said, and the ends of leases.
fn revisions_have_a_cause(
    world: &World,
    truth: &Truth,
    caused: &BTreeMap<Revision, Ticket>,
) -> Result<(), String> {
    let ledger = world.ledger();
    let mut happened = 0;
    for record in truth.records() {
        let revision = record.revision;
        if caused.contains_key(&revision) {
            continue;
        }
        let author = record.events.iter().find_map(|event| Ticket::of(&event.kv.value));
        if let Some(ticket) = author {
            may_have_happened(&ledger, truth, ticket, record)?;
            happened += 1;
            world.chronicle.count(Kind::UnknownHappened);
        } else if let Some(kind) = end_of_a_lease(&ledger, truth, record) {
            world.chronicle.count(kind);
        } else if deletion_of_unknown_outcome(&ledger, truth, record) {
            world.chronicle.count(Kind::UnknownHappened);
        } else {
            return Err(format!("nobody asked for {record:?}"));
        }
    }
    let unknown = ledger
        .all()
        .filter(|(_, asked)| matches!(asked.answer, Answer::Unknown));
    if unknown.count() > happened {
        world.chronicle.count(Kind::UnknownDidNotHappen);
    }
    Ok(())
}

fn may_have_happened(ledger: &Ledger, truth: &Truth, ticket: Ticket, record: &Record) -> Result<(), String> {
    let revision = record.revision;
    let Some(asked) = ledger.get(ticket) else {
        return Err(format!(
            "revision {revision} is of {ticket}, which was never asked"
        ));
    };
    match (&asked.wish, &asked.answer) {
        (Wish::Txn(txn), Answer::Unknown) => {
            let wanted = model::evaluate(truth.state(revision.prev()), revision, txn).events;
            if wanted[..] != record.events[..] {
                return Err(format!("{ticket} came to {record:?} instead of {wanted:?}"));
            }
            let again = truth.after(revision).iter().find(|later| {
                let values = later.events.iter().map(|event| &event.kv.value);
                values
                    .filter_map(|value| Ticket::of(value))
                    .any(|author| author == ticket)
            });
            match again {
                Some(later) => Err(format!(
                    "{ticket} happened at {revision} and at {}",
                    later.revision
                )),
                None => Ok(()),
            }
        }
        (_, Answer::Refused(why)) => Err(format!(
            "{ticket} happened at {revision}, although it was refused because {why}"
        )),
        (_, answer) => Err(format!(
            "{ticket} happened at {revision}, it was answered {answer:?}"
        )),
    }
}

/// Whether a record is the end of a lease for which there was a reason.
fn end_of_a_lease(ledger: &Ledger, truth: &Truth, record: &Record) -> Option<Kind> {
    let id = record.events.first()?.prev.as_ref()?.lease?;
    let before = truth.state(record.revision.prev()).values();
    let attached = before.filter(|kv| kv.lease == Some(id)).map(|kv| &kv.key);
    let deleted = record.events.iter().map(|event| &event.kv.key);
    let all_deleted = record.events.iter().all(|event| event.kind == EventKind::Delete);
    if !all_deleted || !attached.eq(deleted) {
        return None;
    }
    if has_expired(ledger, id, truth.record(record.revision)?.1) {
        return Some(Kind::LeaseExpired);
    }
    let revoked = ledger.all().any(|(_, asked)| {
        let this = matches!(asked.wish, Wish::Revoke(revoked) if revoked == id);
        let then = match asked.answer {
            Answer::Unknown => true,
            Answer::Revoked(revision) => revision >= record.revision,
            Answer::Done(_) | Answer::Refused(_) => false,
        };
        this && then
    });
    revoked.then_some(Kind::LeaseRevoked)
}

/// Whether all of a lease's time had passed by then, whenever it had been renewed before.
fn has_expired(ledger: &Ledger, id: LeaseId, by: Moment) -> bool {
    let Some(lease) = ledger.leases.get(&id) else {
        return false;
    };
    let renewed = lease.renewed.iter().filter(|&&at| at <= by).max();
    renewed.is_some_and(|at| at.time + lease.ttl <= by.time)
}

fn deletion_of_unknown_outcome(ledger: &Ledger, truth: &Truth, record: &Record) -> bool {
    let before = truth.state(record.revision.prev());
    ledger.all().any(|(_, asked)| match (&asked.wish, &asked.answer) {
        (Wish::Txn(txn), Answer::Unknown) => {
            model::evaluate(before, record.revision, txn).events[..] == record.events[..]
        }
        _ => false,
    })
}

fn watchers_were_told_the_truth(world: &World, truth: &Truth) -> Result<(), String> {
    let for_checker = truth.for_checker();
    for (at, tales) in world.all_tales() {
        for tale in tales.iter() {
            for watch in &tale.watches {
                check::all(watch, &for_checker).map_err(|broken| format!("watcher {at}: {broken}"))?;
            }
            for pair in tale.watches.windows(2) {
                check::resumable(&pair[0], &pair[1]).map_err(|broken| format!("watcher {at}: {broken}"))?;
            }
            tale.verdict(truth)
                .map_err(|broken| format!("watcher {at}: {broken}"))?;
        }
    }
    Ok(())
}
