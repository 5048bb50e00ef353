//! What a watch delivers, and how it goes on after a cut.

use super::*;

#[test]
fn events_are_delivered_as_whole_revisions_and_repeated_ones_are_not() {
    let mut rig = Rig::live(everything(), 10, &[]);
    rig.step(Input::Message(events(
        12,
        vec![put("/a", 10), put("/a", 11), put("/b", 12)],
    )));
    let mut fragment = events(14, vec![put("/a", 13), put("/a", 14)]);
    fragment.fragment = true;
    rig.step(Input::Message(fragment));
    assert_eq!(rig.delivered_revisions(), [11, 12, 13]);
    rig.step(Input::Message(events(14, vec![put("/b", 14)])));
    assert_eq!(rig.delivered_revisions(), [11, 12, 13, 14]);
}

#[test]
fn a_watch_that_was_cut_goes_on_after_the_last_event_without_a_list() {
    let mut rig = Rig::live(everything(), 10, &[entry("/a", 3)]);
    rig.step(Input::Message(events(12, vec![put("/b", 12)])));
    rig.step(Input::Ended(failure(FailureKind::Unreachable)));
    assert!(rig.did(&Action::HangUp));
    rig.redial(15);
    let compare = rig.take_check();
    assert_eq!(compare.revision, Some(Revision(12)));
    assert_eq!(compare.range.as_single().map(|key| &key[..]), Some(&b"/b"[..]));
    rig.step(Input::Checked(Ok(checked(15, Some(entry("/b", 12))))));
    assert_eq!(rig.take_open().from, Revision(13));
}

#[test]
fn half_a_revision_that_a_cut_left_is_delivered_once_and_whole() {
    let mut rig = Rig::live(everything(), 10, &[entry("/a", 3)]);
    let mut fragment = events(11, vec![put("/a", 11)]);
    fragment.fragment = true;
    rig.step(Input::Message(fragment));
    rig.step(Input::Ended(failure(FailureKind::Unreachable)));
    rig.redial(11);
    rig.take_check();
    rig.step(Input::Checked(Ok(checked(11, Some(entry("/a", 3))))));
    assert_eq!(rig.take_open().from, Revision(11));
    rig.step(Input::Message(created(11)));
    rig.step(Input::Message(events(11, vec![put("/a", 11), put("/b", 11)])));
    assert_eq!(rig.delivered_revisions(), [11]);
}

#[test]
fn a_cancel_for_compaction_leads_to_a_list_though_its_stream_stays_open() {
    let mut rig = Rig::live(everything(), 10, &[entry("/a", 3)]);
    rig.step(Input::Ended(failure(FailureKind::Unreachable)));
    rig.redial(50);
    rig.take_check();
    rig.step(Input::Checked(Ok(checked(50, Some(entry("/a", 3))))));
    rig.take_open();
    rig.step(Input::Message(created(50)));
    // As etcd sends it: no revision in the header, no reason.
    rig.step(Input::Message(Message {
        header: Header {
            revision: Revision(0),
            ..header(0)
        },
        canceled: true,
        compact_revision: Revision(40),
        ..Message::default()
    }));
    assert!(rig.did(&Action::CloseWatch));
    rig.take_list();
    rig.step(Input::Listed(Ok(page(52, &[], false))));
    assert!(rig.deliveries().iter().any(|delivery| matches!(
        delivery,
        Delivery::SnapshotBegin { reason: SnapshotReason::Compacted, identity, .. } if identity.epoch == 0
    )));
    assert_eq!(rig.take_open().from, Revision(53));
}

#[test]
fn a_position_that_is_compacted_when_it_is_compared_leads_to_a_list() {
    let mut rig = Rig::live(everything(), 10, &[entry("/a", 3)]);
    rig.step(Input::Ended(failure(FailureKind::Unreachable)));
    rig.redial(50);
    rig.take_check();
    rig.step(Input::Checked(Err(failure(FailureKind::Compacted))));
    rig.take_list();
}

#[test]
fn a_message_that_is_too_large_leads_past_it_by_a_list() {
    let mut rig = Rig::live(everything(), 10, &[entry("/a", 3)]);
    rig.step(Input::Ended(failure(FailureKind::TooLarge)));
    assert!(rig.did(&Action::CloseWatch));
    rig.take_list();
    rig.step(Input::Listed(Ok(page(30, &[entry("/a", 30)], false))));
    assert_eq!(rig.take_open().from, Revision(31));
}
