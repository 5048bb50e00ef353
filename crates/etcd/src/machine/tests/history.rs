//! Another history behind the same address.

use super::*;

#[test]
fn a_history_that_is_not_the_one_before_is_read_anew_under_another_identity() {
    let gone_back: &[(&str, Header)] = &[
        (
            "another cluster",
            Header {
                cluster: 8,
                ..header(20)
            },
        ),
        ("a revision that goes back", header(9)),
        (
            "a term that goes back",
            Header {
                term: 4,
                ..header(20)
            },
        ),
    ];
    for (what, header) in gone_back {
        let mut rig = Rig::live(everything(), 10, &[entry("/a", 3)]);
        let before = rig.identity();
        rig.step(Input::Ended(failure(FailureKind::Unreachable)));
        rig.redial(20);
        rig.take_check();
        let answer = Checked {
            header: *header,
            found: Some(entry("/a", 3)),
        };
        rig.step(Input::Checked(Ok(answer)));
        rig.take_list();
        rig.step(Input::Listed(Ok(Page {
            header: *header,
            entries: Vec::new(),
            more: false,
        })));
        assert_ne!(rig.identity(), before, "{what}");
    }
}

#[test]
fn a_history_that_has_outgrown_the_one_before_is_found_by_its_witness() {
    for found in [None, Some(entry("/a", 2))] {
        let mut rig = Rig::live(everything(), 10, &[entry("/a", 3)]);
        let before = rig.identity();
        rig.step(Input::Ended(failure(FailureKind::Unreachable)));
        rig.redial(500);
        rig.take_check();
        rig.step(Input::Checked(Ok(checked(500, found))));
        rig.take_list();
        rig.step(Input::Listed(Ok(page(500, &[], false))));
        assert_ne!(rig.identity(), before);
    }
}

fn long_key() -> String {
    "/l".repeat(4096)
}

#[test]
fn a_name_that_is_too_long_for_us_is_no_witness() {
    let mut rig = Rig::live(everything(), 10, &[entry("/a", 3)]);
    rig.step(Input::Message(events(12, vec![put(&long_key(), 12)])));
    rig.step(Input::Ended(failure(FailureKind::Unreachable)));
    rig.redial(12);
    assert_eq!(rig.take_check().range, key("/a").unwrap());
    rig.step(Input::Checked(Ok(checked(12, Some(entry("/a", 3))))));
    assert_eq!(rig.take_open().from, Revision(13));

    // Where there is no other, nothing can be said against a history that has come further.
    let mut rig = Rig::live(everything(), 10, &[entry(&long_key(), 3)]);
    rig.step(Input::Ended(failure(FailureKind::Unreachable)));
    rig.redial(12);
    rig.take_check();
    rig.step(Input::Checked(Ok(checked(12, None))));
    assert_eq!(rig.take_open().from, Revision(11));
}

#[test]
fn a_history_without_entries_is_recognised_by_their_absence() {
    let mut deleted = Rig::live(everything(), 10, &[entry("/a", 3)]);
    let deletion = Event::delete(Revision(12), entry("/a", 3));
    deleted.step(Input::Message(events(12, vec![deletion])));
    let mut among_others = Rig::live(everything(), 10, &[entry("/a", 3), entry("/b", 2)]);
    let deletion = Event::delete(Revision(12), entry("/a", 3));
    among_others.step(Input::Message(events(12, vec![deletion])));
    for (mut rig, range, expected) in [
        (Rig::live(everything(), 12, &[]), everything().range, None),
        (deleted, everything().range, None),
        (among_others, key("/b").unwrap(), Some(entry("/b", 2))),
    ] {
        for (found, continues) in [(expected, true), (Some(entry("/b", 9)), false)] {
            rig.step(Input::Ended(failure(FailureKind::Unreachable)));
            rig.redial(150);
            assert_eq!(rig.take_check().range, range);
            rig.step(Input::Checked(Ok(checked(150, found))));
            assert_eq!(rig.wants_list(), !continues);
        }
    }
}

#[test]
fn another_history_that_a_list_has_found_stays_one_when_that_list_fails() {
    let mut rig = Rig::live(everything(), 10, &[entry("/a", 3)]);
    let before = rig.identity();
    rig.step(Input::Ended(failure(FailureKind::Compacted)));
    rig.take_list();
    rig.step(Input::Listed(Ok(page(4, &[entry("/a", 3)], true))));
    rig.step(Input::Listed(Err(failure(FailureKind::Unreachable))));
    rig.redial(20);
    rig.take_list();
    rig.step(Input::Listed(Ok(page(20, &[entry("/a", 3)], false))));
    assert_ne!(rig.identity(), before);
}

#[test]
fn who_has_to_read_anew_is_not_live_meanwhile() {
    for (selection, limit) in [(everything(), PAGE_TIMEOUT), (one_key(), ANSWER_TIMEOUT)] {
        let mut rig = Rig::live(selection, 10, &[entry("/a", 3)]);
        let last_known = rig.now();
        rig.advance(Duration::from_millis(500));
        rig.step(Input::Ended(failure(FailureKind::Compacted)));
        assert!(rig.wants_list());
        assert!(matches!(rig.machine.phase(), Phase::Interrupted { since, .. } if *since == last_known));
        rig.advance(just_before(limit));
        assert!(!rig.did(&Action::HangUp));
        rig.advance(Duration::from_millis(1));
        assert!(rig.did(&Action::HangUp));
    }
}

#[test]
fn a_position_in_the_future_of_a_cluster_is_another_history() {
    let mut rig = Rig::live(everything(), 10, &[entry("/a", 3)]);
    let before = rig.identity();
    rig.step(Input::Ended(failure(FailureKind::Unreachable)));
    rig.redial(2);
    rig.take_check();
    rig.step(Input::Checked(Err(failure(FailureKind::Future))));
    rig.take_list();
    // By now it has caught up in number.
    rig.step(Input::Listed(Ok(page(11, &[], false))));
    assert_ne!(rig.identity(), before);
}

#[test]
fn a_watch_that_a_member_accepts_for_its_future_is_not_waited_for() {
    let mut rig = Rig::live(everything(), 10, &[entry("/a", 3)]);
    rig.step(Input::Ended(failure(FailureKind::Unreachable)));
    rig.redial(10);
    rig.take_check();
    rig.step(Input::Checked(Ok(checked(10, Some(entry("/a", 3))))));
    rig.take_open();
    rig.step(Input::Message(created(7)));
    assert!(rig.did(&Action::HangUp));
    assert!(matches!(rig.machine.phase(), Phase::Interrupted { .. }));
}

#[test]
fn an_event_of_another_cluster_is_not_delivered() {
    let mut rig = Rig::live(everything(), 10, &[]);
    let mut message = events(11, vec![put("/a", 11)]);
    message.header.cluster = 8;
    rig.step(Input::Message(message));
    assert!(rig.delivered_revisions().is_empty());
    rig.take_list();
}
