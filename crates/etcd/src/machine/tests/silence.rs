//! Silence, probes and catching up.

use super::*;

#[test]
fn silence_is_asked_about_and_an_answer_in_time_keeps_it_live() {
    let mut rig = Rig::live(everything(), 10, &[]);
    rig.step(Input::Message(events(11, vec![])));
    rig.advance(just_before(PROBE_INTERVAL));
    assert!(!rig.did(&Action::AskProgress));
    rig.advance(Duration::from_millis(1));
    assert!(rig.did(&Action::AskProgress));
    rig.advance(just_before(ANSWER_TIMEOUT));
    rig.step(Input::Message(events(10, vec![])));
    assert_eq!(*rig.machine.phase(), Phase::Live);
    assert_eq!(rig.machine.confirmed(), Some(rig.now()));
    rig.advance(Duration::from_millis(1));
    assert_eq!(*rig.machine.phase(), Phase::Live);
}

/// Lets a quiet cluster answer reads for a while, but nothing on the stream.
fn answer_reads_only(rig: &mut Rig, revision: u64, found: Option<&KeyValue>, time: Duration) {
    let end = rig.now() + time;
    while rig.now() < end && !rig.was_interrupted() {
        if rig.wants_check() {
            rig.take_check();
            rig.step(Input::Checked(Ok(checked(revision, found.cloned()))));
        }
        rig.advance(Duration::from_millis(10));
    }
}

#[test]
fn a_stream_that_may_not_answer_before_its_first_revision_is_not_missed() {
    // So do 3.4.38, 3.5.22, 3.6.2 and later, and our own servers.
    for (selection, found) in [
        (everything(), None),
        (one_key(), None),
        (one_key(), Some(entry("/a", 3))),
    ] {
        let listed: Vec<_> = found.clone().into_iter().collect();
        let mut rig = Rig::live(selection, 10, &listed);
        answer_reads_only(&mut rig, 10, found.as_ref(), Duration::from_secs(60));
        assert_eq!(*rig.machine.phase(), Phase::Live);
        assert!(!rig.was_interrupted());
        // From there on it has to.
        answer_reads_only(&mut rig, 11, found.as_ref(), Duration::from_secs(60));
        assert!(rig.was_interrupted());
    }
}

#[test]
fn a_question_that_a_stream_drops_is_asked_again() {
    let mut rig = Rig::live(everything(), 10, &[]);
    rig.advance(PROBE_INTERVAL);
    // Somebody writes another key before the question is read and the read is made.
    assert!(rig.did(&Action::AskProgress));
    rig.take_check();
    rig.step(Input::Checked(Ok(checked(11, None))));
    rig.advance(CATCH_UP_INTERVAL);
    assert!(rig.did(&Action::AskProgress));
    rig.step(Input::Message(events(11, vec![])));
    rig.advance(ANSWER_TIMEOUT);
    assert!(!rig.was_interrupted());
}

#[test]
fn an_event_that_overtakes_the_answer_of_a_read_is_no_other_history() {
    for selection in [everything(), one_key()] {
        let mut rig = Rig::live_on(selection, Some(Version::new(3, 4, 23)), 10, &[entry("/a", 3)]);
        let identity = rig.identity();
        rig.advance(PROBE_INTERVAL);
        rig.take_check();
        rig.step(Input::Message(events(12, vec![put("/a", 12)])));
        rig.step(Input::Checked(Ok(checked(11, Some(entry("/a", 3))))));
        assert!(!rig.wants_list());
        assert_eq!((rig.machine.phase(), rig.identity()), (&Phase::Live, identity));
        // What it has shown before it was asked, it has to show.
        rig.advance(PROBE_INTERVAL);
        rig.take_check();
        rig.step(Input::Checked(Ok(checked(11, Some(entry("/a", 3))))));
        assert!(rig.wants_list());
    }
}

#[test]
fn silence_without_an_answer_is_an_interruption_since_it_was_last_known_to_be_well() {
    let mut rig = Rig::live(everything(), 10, &[]);
    let last_known = rig.now();
    rig.advance(PROBE_INTERVAL);
    rig.advance(just_before(ANSWER_TIMEOUT));
    assert_eq!(*rig.machine.phase(), Phase::Live);
    rig.advance(Duration::from_millis(1));
    assert!(matches!(rig.machine.phase(), Phase::Interrupted { since, .. } if *since == last_known));
    assert!(rig.did(&Action::HangUp));
}

#[test]
fn a_member_that_stops_costs_at_most_five_seconds_when_the_next_one_answers() {
    for seed in 0..200 {
        let mut rig = Rig::live_with(one_key(), 3, seed, 10, &[entry("/a", 3)]);
        let stopped_at = rig.now();
        rig.take_dials();
        // Nothing is answered any more; the next member is stopped too, the one after it answers.
        while rig.dials() < 2 {
            rig.advance(Duration::from_millis(10));
        }
        rig.step(Input::Dialed(Ok(rig::dialed(12, None))));
        rig.take_check();
        rig.step(Input::Checked(Ok(checked(12, Some(entry("/a", 3))))));
        rig.take_open();
        rig.step(Input::Message(created(12)));
        rig.step(Input::Message(events(12, vec![put("/a", 12)])));
        rig.step(Input::Checked(Ok(checked(12, Some(entry("/a", 12))))));
        assert_eq!(*rig.machine.phase(), Phase::Live);
        let took = rig.now() - stopped_at;
        assert!(took <= STALE_AT_MOST, "seed {seed}: {took:?}");
        assert!(rig.was_interrupted());
    }
}

#[test]
fn progress_is_delivered_where_it_is_told_truly_and_nowhere_else() {
    for (version, believed) in [
        (None, false),
        (Some(Version::new(3, 4, 23)), false),
        (Some(Version::new(3, 5, 13)), true),
    ] {
        let mut rig = Rig::live_on(everything(), version, 10, &[]);
        rig.step(Input::Message(events(15, vec![])));
        let told = rig
            .deliveries()
            .iter()
            .any(|delivery| *delivery == Delivery::Progress(Revision(15)));
        assert_eq!(told, believed, "{version:?}");
    }
}

#[test]
fn old_versions_have_to_answer_a_read_too() {
    let mut rig = Rig::live_on(everything(), Some(Version::new(3, 4, 23)), 10, &[]);
    rig.advance(PROBE_INTERVAL);
    rig.take_check();
    rig.step(Input::Message(events(10, vec![])));
    rig.advance(just_before(ELECTION_TIMEOUT));
    assert_eq!(*rig.machine.phase(), Phase::Live);
    rig.advance(Duration::from_millis(1));
    assert!(matches!(rig.machine.phase(), Phase::Interrupted { .. }));
}

#[test]
fn the_watch_of_a_follower_lives_through_an_election() {
    let mut rig = Rig::live_on(everything(), Some(Version::new(3, 4, 23)), 10, &[]);
    rig.advance(PROBE_INTERVAL);
    rig.step(Input::Message(events(10, vec![])));
    for _ in 0..20 {
        rig.take_check();
        rig.step(Input::Checked(Err(failure(FailureKind::Unreachable))));
        rig.advance(CATCH_UP_INTERVAL);
    }
    rig.take_check();
    rig.step(Input::Checked(Ok(checked(10, None))));
    assert_eq!(*rig.machine.phase(), Phase::Live);
    assert!(!rig.did(&Action::HangUp));
    assert!(!rig.was_interrupted());
}

#[test]
fn an_election_that_takes_too_long_is_an_interruption() {
    let mut rig = Rig::live_on(everything(), Some(Version::new(3, 4, 23)), 10, &[]);
    rig.advance(PROBE_INTERVAL);
    rig.step(Input::Message(events(10, vec![])));
    let begun = rig.now();
    while !rig.was_interrupted() {
        if rig.wants_check() {
            rig.take_check();
            rig.step(Input::Checked(Err(failure(FailureKind::Unreachable))));
        }
        rig.advance(Duration::from_millis(10));
    }
    assert!(rig.now() - begun <= ELECTION_TIMEOUT + Duration::from_millis(10));
}

#[test]
fn a_read_that_shows_what_the_watch_does_not_ends_in_a_list() {
    let mut rig = Rig::live_on(one_key(), Some(Version::new(3, 4, 23)), 10, &[entry("/a", 3)]);
    rig.advance(PROBE_INTERVAL);
    rig.step(Input::Message(events(10, vec![])));
    rig.take_check();
    rig.step(Input::Checked(Ok(checked(12, Some(entry("/a", 12))))));
    // It may be on its way, so the read is made again.
    let mut again = 0;
    while !rig.wants_list() {
        rig.advance(CATCH_UP_INTERVAL);
        if rig.wants_check() {
            rig.take_check();
            rig.step(Input::Checked(Ok(checked(12, Some(entry("/a", 12))))));
            again += 1;
        }
    }
    assert!(again > 1);
    rig.take_list();
    rig.step(Input::Listed(Ok(page(12, &[entry("/a", 12)], false))));
    assert!(rig.deliveries().iter().any(|delivery| matches!(
        delivery,
        Delivery::SnapshotBegin {
            reason: SnapshotReason::Behind,
            ..
        }
    )));
}

#[test]
fn a_read_that_agrees_moves_the_position_on() {
    let mut rig = Rig::live_on(one_key(), None, 10, &[entry("/a", 3)]);
    rig.advance(PROBE_INTERVAL);
    rig.take_check();
    rig.step(Input::Checked(Ok(checked(80, Some(entry("/a", 3))))));
    assert!(rig.deliveries().contains(&Delivery::Progress(Revision(80))));
    rig.step(Input::Ended(failure(FailureKind::Unreachable)));
    rig.redial(80);
    assert_eq!(rig.take_check().revision, Some(Revision(80)));
}

#[test]
fn a_watch_that_is_behind_is_not_live_until_it_has_caught_up() {
    let mut rig = Rig::live_on(everything(), Some(Version::new(3, 5, 21)), 10, &[entry("/a", 3)]);
    rig.step(Input::Ended(failure(FailureKind::Unreachable)));
    rig.redial_on(Some(Version::new(3, 5, 21)), 90);
    rig.take_check();
    rig.step(Input::Checked(Ok(checked(90, Some(entry("/a", 3))))));
    rig.take_open();
    rig.step(Input::Message(created(90)));
    rig.take_check();
    rig.step(Input::Checked(Ok(checked(90, None))));
    assert!(matches!(rig.machine.phase(), Phase::Interrupted { .. }));
    // Newer versions leave the question unanswered until then, so it is asked again.
    rig.advance(CATCH_UP_INTERVAL);
    assert!(rig.did(&Action::AskProgress));
    rig.step(Input::Message(events(90, vec![])));
    assert_eq!(*rig.machine.phase(), Phase::Live);
}

#[test]
fn a_watch_of_one_key_that_is_behind_is_asked_until_its_stream_answers() {
    for found in [None, Some(entry("/a", 3))] {
        let listed: Vec<_> = found.clone().into_iter().collect();
        let version = Some(Version::new(3, 5, 30));
        let mut rig = Rig::live_on(one_key(), version, 10, &listed);
        rig.step(Input::Ended(failure(FailureKind::Unreachable)));
        rig.redial_on(version, 90);
        rig.take_check();
        rig.step(Input::Checked(Ok(checked(90, found.clone()))));
        rig.take_open();
        // Another key was written in between, and etcd drops the questions of a watch that is behind.
        rig.step(Input::Message(created(90)));
        rig.take_check();
        rig.step(Input::Checked(Ok(checked(90, found.clone()))));
        for _ in 0..50 {
            assert!(matches!(rig.machine.phase(), Phase::Interrupted { .. }));
            if rig.wants_check() {
                rig.take_check();
                rig.step(Input::Checked(Ok(checked(90, found.clone()))));
            }
            rig.advance(CATCH_UP_INTERVAL);
            assert!(rig.did(&Action::AskProgress));
            assert!(!rig.did(&Action::HangUp));
        }
        rig.step(Input::Message(events(90, vec![])));
        if rig.wants_check() {
            rig.take_check();
            rig.step(Input::Checked(Ok(checked(90, found.clone()))));
        }
        assert_eq!(*rig.machine.phase(), Phase::Live);
    }
}

#[test]
fn a_watch_that_never_catches_up_ends_in_a_list() {
    let mut rig = Rig::live_on(everything(), Some(Version::new(3, 5, 21)), 10, &[entry("/a", 3)]);
    rig.step(Input::Ended(failure(FailureKind::Unreachable)));
    rig.redial_on(Some(Version::new(3, 5, 21)), 90);
    rig.take_check();
    rig.step(Input::Checked(Ok(checked(90, Some(entry("/a", 3))))));
    rig.take_open();
    rig.step(Input::Message(created(90)));
    let begun = rig.now();
    while !rig.wants_list() {
        assert!(rig.now() < begun + CATCH_UP_TIMEOUT + Duration::from_secs(5));
        if rig.wants_check() {
            rig.take_check();
            rig.step(Input::Checked(Ok(checked(90, None))));
        }
        rig.advance(Duration::from_millis(50));
    }
}

#[test]
fn an_older_etcd_has_to_be_quiet_before_a_range_counts_as_caught_up() {
    let mut rig = Rig::dialed_at(everything(), 10);
    rig.machine.version = Some(Version::new(3, 4, 23));
    rig.take_list();
    rig.step(Input::Listed(Ok(page(10, &[entry("/a", 5)], false))));
    rig.take_open();
    rig.step(Input::Message(created(90)));
    let mut quiet_since = rig.now();
    let mut next = 20;
    while *rig.machine.phase() != Phase::Live {
        rig.answer_probe(90);
        if next < 23 && rig.now() - quiet_since >= Duration::from_millis(300) {
            rig.step(Input::Message(events(90, vec![put("/a", next)])));
            quiet_since = rig.now();
            next += 1;
        }
        rig.advance(Duration::from_millis(10));
    }
    assert!(rig.now() - quiet_since >= QUIET);
    assert_eq!(next, 23);
}
