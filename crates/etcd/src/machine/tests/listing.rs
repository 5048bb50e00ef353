//! Lists.

use super::*;

#[test]
fn a_list_is_read_in_pages_at_one_revision_and_the_watch_begins_after_it() {
    let mut rig = Rig::dialed(everything());
    let first = rig.take_list();
    assert_eq!(
        (first.revision, first.after, first.limit),
        (None, None, PAGE_ENTRIES)
    );
    rig.step(Input::Listed(Ok(page(10, &[entry("/a", 3)], true))));
    let second = rig.take_list();
    assert_eq!(second.revision, Some(Revision(10)));
    assert_eq!(second.after.as_deref(), Some(&b"/a"[..]));
    // Somebody wrote meanwhile; the list stays at its revision.
    rig.step(Input::Listed(Ok(page(14, &[entry("/b", 9)], false))));
    assert_eq!(rig.take_open().from, Revision(11));
    assert!(matches!(
        rig.deliveries()[..],
        [
            Delivery::SnapshotBegin {
                revision: Revision(10),
                reason: SnapshotReason::First,
                ..
            },
            Delivery::Snapshot(_),
            Delivery::Snapshot(_),
            Delivery::SnapshotEnd {
                revision: Revision(10)
            },
        ]
    ));
}

#[test]
fn a_list_that_compaction_overtakes_begins_anew_at_a_later_revision() {
    let mut rig = Rig::dialed(everything());
    rig.take_list();
    rig.step(Input::Listed(Ok(page(10, &[entry("/a", 3)], true))));
    rig.take_list();
    rig.step(Input::Listed(Err(failure(FailureKind::Compacted))));
    let again = rig.take_list();
    assert_eq!((again.revision, again.after), (None, None));
    rig.step(Input::Listed(Ok(page(20, &[], false))));
    let begun = rig
        .deliveries()
        .iter()
        .filter(|delivery| matches!(delivery, Delivery::SnapshotBegin { .. }))
        .count();
    assert_eq!(begun, 2);
    assert_eq!(rig.take_open().from, Revision(21));
}

#[test]
fn a_list_that_is_overtaken_again_and_again_pauses() {
    let mut rig = Rig::dialed(everything());
    for _ in 0..RESTARTS_AT_ONCE {
        rig.take_list();
        rig.step(Input::Listed(Err(failure(FailureKind::Compacted))));
    }
    rig.take_list();
    rig.step(Input::Listed(Err(failure(FailureKind::Compacted))));
    assert!(rig.did(&Action::HangUp));
    rig.advance(FIRST_PAUSE);
    assert!(rig.did(&Action::Dial { endpoint: 0 }));
}

#[test]
fn a_page_that_is_too_large_is_asked_for_in_smaller_ones() {
    let mut rig = Rig::dialed(everything());
    let mut sizes = Vec::new();
    loop {
        let limit = rig.take_list().limit;
        sizes.push(limit);
        rig.step(Input::Listed(Err(failure(FailureKind::TooLarge))));
        if limit == 1 {
            break;
        }
    }
    assert_eq!(sizes, [500, 125, 31, 7, 1]);
    assert!(rig.did(&Action::HangUp));
}

#[test]
fn pages_grow_while_what_they_hold_is_small() {
    let mut rig = Rig::dialed(everything());
    let mut sizes = Vec::new();
    let large = KeyValue {
        value: vec![0; PAGE_BYTES].into(),
        ..entry("/h", 3)
    };
    let small = ["/a", "/b", "/c", "/d", "/e", "/f", "/g"].map(|key| entry(key, 3));
    for (at, entry) in small.into_iter().chain([large]).enumerate() {
        sizes.push(rig.take_list().limit);
        rig.step(Input::Listed(Ok(page(10 + at as u64, &[entry], true))));
    }
    sizes.push(rig.take_list().limit);
    assert_eq!(sizes, [500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000, 5000]);
    // What begins anew begins small: nobody knows why the last one failed.
    rig.step(Input::Listed(Err(failure(FailureKind::Compacted))));
    assert_eq!(rig.take_list().limit, PAGE_ENTRIES);
}

#[test]
fn the_window_behind_the_newest_revision_comes_as_records() {
    let mut rig = Rig::dialed_at(
        Selection {
            history: 100,
            ..everything()
        },
        1_000,
    );
    assert_eq!(rig.take_list().revision, Some(Revision(900)));
    rig.step(Input::Listed(Ok(page(1_000, &[entry("/a", 5)], false))));
    assert_eq!(rig.take_open().from, Revision(901));
    rig.step(Input::Message(created(1_000)));
    assert_ne!(*rig.machine.phase(), Phase::Live, "the window is still to come");
    rig.step(Input::Message(events(
        1_000,
        vec![put("/a", 950), put("/b", 1_000)],
    )));
    rig.step(Input::Checked(Ok(checked(1_000, None))));
    assert_eq!(rig.delivered_revisions(), [950, 1_000]);
    assert_eq!(*rig.machine.phase(), Phase::Live);
}

#[test]
fn where_history_is_shorter_than_wished_for_less_of_it_is_read() {
    let mut rig = Rig::dialed_at(
        Selection {
            history: 100,
            ..everything()
        },
        1_000,
    );
    let mut asked = Vec::new();
    while let Some(revision) = rig.take_list().revision {
        asked.push(revision.0);
        rig.step(Input::Listed(Err(failure(FailureKind::Compacted))));
    }
    assert_eq!(asked, [900, 975, 994, 999]);
}
