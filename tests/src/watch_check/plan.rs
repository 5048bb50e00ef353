//! The keys of a round, and what its watchers ask for.

use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use tidewatch_core::watch::{OnOverflow, Start, View, WatchRequest};
use tidewatch_core::{KeyRange, Revision, key, prefix, range};

/// Below the round's prefix there are these folders, with so many keys in each.
const FOLDERS: [&str; 3] = ["a", "b", "c"];
const KEYS_PER_FOLDER: usize = 6;

/// How far ahead of the begin of a round a start in the future lies at most. Every round makes more revisions than that.
pub(super) const MAX_AHEAD: u64 = 32;

/// Where the keys of a round are. They are few, so that they are written often.
#[derive(Clone, Debug)]
pub(super) struct Space {
    prefix: String,
}

impl Space {
    pub(super) fn new(prefix: String) -> Self {
        Self { prefix }
    }

    /// All there may be.
    pub(super) fn all(&self) -> KeyRange {
        prefix(self.prefix.clone()).expect(VALID)
    }

    pub(super) fn keys(&self) -> Vec<Bytes> {
        let folders = FOLDERS.iter();
        let keys = folders.flat_map(|folder| (0..KEYS_PER_FOLDER).map(move |n| (folder, n)));
        keys.map(|(folder, n)| format!("{}{folder}/{n}", self.prefix).into())
            .collect()
    }

    pub(super) fn key(&self, rng: &mut Rng) -> KeyRange {
        key(rng.choice(self.keys()).expect("there are keys")).expect(VALID)
    }

    pub(super) fn folder(&self, rng: &mut Rng) -> KeyRange {
        let folder = rng.choice(FOLDERS).expect("there are folders");
        prefix(format!("{}{folder}/", self.prefix)).expect(VALID)
    }

    /// Some keys in the middle, which no prefix names.
    fn stretch(&self, rng: &mut Rng) -> KeyRange {
        let keys = self.keys();
        let from = rng.usize(..keys.len() - 1);
        let to = rng.usize(from + 1..keys.len());
        range(keys[from].clone(), keys[to].clone()).expect(VALID)
    }
}

const VALID: &str = "the prefix of the check is valid and short";

/// A watcher of a round.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) kind: &'static str,
    pub(super) request: WatchRequest,
    /// It begins when so many transactions of the round have been acknowledged.
    pub(super) joins_after: u64,
    /// It waits up to so long before it reads on.
    pub(super) pause: Option<Duration>,
    /// It leaves after at most so many batches, and comes back.
    pub(super) leaves_after: Option<usize>,
}

type Make = fn(&mut Plan, &Space, Revision, &mut Rng);

/// The kinds of watchers. All others watch the whole round from its begin on.
pub(super) const KINDS: [(&str, Make); 17] = [
    ("everything", |_, _, _, _| {}),
    ("a key", |plan, space, _, rng| {
        plan.request.ranges = vec![space.key(rng)];
    }),
    ("a prefix", |plan, space, _, rng| {
        plan.request.ranges = vec![space.folder(rng)];
    }),
    ("a range", |plan, space, _, rng| {
        plan.request.ranges = vec![space.stretch(rng)];
    }),
    ("several ranges", |plan, space, _, rng| {
        // They may overlap.
        plan.request.ranges = vec![
            space.key(rng),
            space.folder(rng),
            space.stretch(rng),
            space.key(rng),
        ];
    }),
    ("a snapshot", |plan, _, _, rng| {
        plan.request.snapshot = true;
        plan.joins_after = rng.u64(..200);
    }),
    ("with previous entries", |plan, _, _, _| {
        plan.request.view.prev_kv = true;
    }),
    ("keys only", |plan, _, _, rng| {
        plan.request.view.keys_only = true;
        plan.request.view.prev_kv = rng.bool();
    }),
    ("no writes", |plan, _, _, _| plan.request.view.no_put = true),
    ("no deletions", |plan, _, _, _| plan.request.view.no_delete = true),
    ("with progress", |plan, space, _, rng| {
        plan.request.ranges = vec![space.key(rng)];
        plan.request.progress_interval = Some(Duration::from_millis(100));
    }),
    ("from the begin", |plan, _, begin, rng| {
        plan.request.start = Start::At(begin.next());
        plan.joins_after = rng.u64(..200);
    }),
    ("from the future", |plan, _, begin, rng| {
        plan.request.start = Start::At(Revision(begin.0 + rng.u64(1..=MAX_AHEAD)));
    }),
    ("cancel on overflow", |plan, _, _, rng| {
        plan.request.on_overflow = OnOverflow::Cancel;
        plan.request.room = Some(rng.usize(1..=4));
        plan.pause = Some(Duration::from_millis(10));
    }),
    ("slow", |plan, _, _, rng| {
        plan.request.room = Some(rng.usize(1..=4));
        plan.pause = Some(Duration::from_millis(30));
    }),
    ("leaves and resumes", |plan, _, _, _| plan.leaves_after = Some(60)),
    ("leaves its snapshot", |plan, _, _, _| {
        plan.request.snapshot = true;
        plan.joins_after = 20;
        plan.leaves_after = Some(4);
    }),
];

/// The watchers of a round that begins after this revision: one of each kind, and then more of them that mix.
pub(super) fn plans(count: usize, space: &Space, begin: Revision, rng: &mut Rng) -> Vec<Plan> {
    let kinds = KINDS.iter().cycle().enumerate();
    kinds
        .take(count)
        .map(|(at, (kind, make))| {
            let mut plan = Plan {
                kind,
                request: WatchRequest::new([space.all()]),
                joins_after: 0,
                pause: None,
                leaves_after: None,
            };
            if at >= KINDS.len() {
                mix(&mut plan, rng);
            }
            make(&mut plan, space, begin, rng);
            plan
        })
        .collect()
}

fn mix(plan: &mut Plan, rng: &mut Rng) {
    plan.request.view = View {
        prev_kv: rng.bool(),
        keys_only: rng.u8(..4) == 0,
        ..View::default()
    };
    plan.joins_after = rng.u64(..100);
    plan.leaves_after = (rng.u8(..3) == 0).then(|| rng.usize(1..300));
    plan.request.progress_interval = rng.bool().then_some(Duration::from_millis(100));
}
