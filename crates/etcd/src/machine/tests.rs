mod history;
mod listing;
mod pause;
mod rig;
mod right;
mod silence;
mod simulated;
mod simulation;
mod watching;

use std::time::Duration;

use tidewatch_core::{Event, KeyRange, KeyValue, Revision, key};

use super::timing::*;
use super::*;
use crate::delivery::Delivery;
use crate::header::{Header, Identity};
use rig::{Rig, checked, created, entry, events, header, page, put};

fn failure(kind: FailureKind) -> Failure {
    Failure::new(kind, "said so")
}

fn just_before(limit: Duration) -> Duration {
    limit.saturating_sub(Duration::from_millis(1))
}

fn one_key() -> Selection {
    Selection {
        range: key("/a").unwrap(),
        prev_kv: false,
        history: 0,
    }
}

fn everything() -> Selection {
    Selection {
        range: KeyRange::starting_with("/"),
        prev_kv: true,
        history: 0,
    }
}
