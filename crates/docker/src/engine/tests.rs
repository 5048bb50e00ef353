//! What is read of answers that are spoilt.

use proptest::prelude::*;

use super::{daemon, event, inspect, list};
use crate::event::DockerEvent;
use crate::lister::Scope;

const START: &str = "{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{\"ID\":\"c1\"},\"time\":7}\n";

/// An answer of a real engine in which some bytes are others.
fn spoilt(answer: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let at = 0..answer.len();
    proptest::collection::vec((at, any::<u8>()), 0..8).prop_map(move |changes| {
        let mut bytes = answer.as_bytes().to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn a_spoilt_answer_is_an_error_or_a_list_of_containers_that_have_ids(
        element in spoilt(include_str!("list_element.json")),
    ) {
        let body = [b"[".as_slice(), &element, b"]"].concat();
        if let Ok(listing) = list::decode(&body, Scope::All) {
            prop_assert!(listing.containers.len() + listing.undecodable >= 1);
            for container in listing.containers {
                prop_assert!(!container.id.is_empty() && !container.name.is_empty());
            }
        }
        let _ = inspect::decode(&element);
        let _ = daemon::decode_info(&element);
    }

    #[test]
    fn a_spoilt_event_is_about_a_container_or_a_doubt_or_nothing(line in spoilt(START)) {
        if let Some(DockerEvent::Container { id, .. }) = event::decode(&line) {
            prop_assert!(!id.is_empty());
        }
    }
}
