//! Those who watch the keyspace meanwhile, at their own pace, judged by the checker.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use proptest::sample::Index;
use tidewatch_core::check::{self, Observed, Truth};
use tidewatch_core::watch::{EndReason, OnOverflow, Start, View, WatchRequest};
use tidewatch_core::{KeyRange, Keyspace, Position, Revision, Watch, key, prefix};

use super::map::Map;

/// Batches a watcher may fall behind; few, so that they lag often.
pub(crate) const ROOM: usize = 3;

/// What a watch is asked for; `start` is a share of the revisions, or now.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    range: KeyRange,
    start: Option<Index>,
    snapshot: bool,
    view: View,
    cancel: bool,
}

pub(crate) fn asked() -> impl Strategy<Value = Asked> {
    let range = prop::sample::select(vec![key("/a"), key("/b/x"), prefix("/b/"), prefix("/")]);
    let flag = || prop::bool::weighted(0.3);
    let view = (flag(), flag(), flag(), flag()).prop_map(|(prev_kv, keys_only, no_put, no_delete)| View {
        prev_kv,
        keys_only,
        no_put,
        no_delete,
    });
    let start = prop::option::weighted(0.4, any::<Index>());
    (range, start, flag(), view, flag()).prop_map(|(range, start, snapshot, view, cancel)| Asked {
        range: range.unwrap(),
        start,
        snapshot: snapshot && start.is_none(),
        view,
        cancel,
    })
}

#[derive(Default)]
pub(crate) struct Readers {
    open: Vec<(Watch, Observed, WatchRequest)>,
    over: Vec<Observed>,
}

/// Where the readers of an earlier life of the keyspace were.
pub(crate) type Kept = Vec<(Position, Observed, WatchRequest)>;

impl Readers {
    pub(crate) async fn watch(&mut self, ks: &Keyspace, map: &Map, asked: Asked) {
        let latest = usize::try_from(map.current().0 + 3).unwrap();
        let request = WatchRequest {
            start: asked
                .start
                .map_or(Start::Now, |at| Start::At(Revision(at.index(latest) as u64 + 1))),
            snapshot: asked.snapshot,
            view: asked.view,
            on_overflow: if asked.cancel {
                OnOverflow::Cancel
            } else {
                OnOverflow::CatchUp
            },
            ..WatchRequest::new([asked.range])
        };
        self.open(ks, request).await;
    }

    async fn open(&mut self, ks: &Keyspace, request: WatchRequest) {
        let watch = ks.backend().watch(request.clone()).await.unwrap();
        let observed = Observed::new(request.clone(), watch.created());
        self.open.push((watch, observed, request));
    }

    pub(crate) fn read(&mut self, at: Index, count: usize) {
        if !self.open.is_empty() {
            self.read_from(at.index(self.open.len()), count);
        }
    }

    fn read_from(&mut self, at: usize, count: usize) {
        for _ in 0..count {
            let (watch, observed, _) = &mut self.open[at];
            match watch.poll_next_batch(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => return,
                Poll::Ready(Ok(batch)) => observed.see(batch),
                Poll::Ready(Err(ended)) => {
                    let (_, mut observed, _) = self.open.swap_remove(at);
                    observed.end(ended);
                    self.over.push(observed);
                    return;
                }
            }
        }
    }

    /// The keyspace is gone: everybody gets what was committed and the end. Every other reader is
    /// gone before it could read that, and keeps its place for the next life.
    pub(crate) fn part(mut self, map: &Map) -> Kept {
        let mut kept = Vec::new();
        let mut stays = false;
        while let Some((watch, _, _)) = self.open.first() {
            stays = !stays;
            if let (true, Some(position)) = (stays, watch.position()) {
                let (_, observed, request) = self.open.swap_remove(0);
                self.over.push(observed.clone());
                kept.push((position, observed, request));
                continue;
            }
            let before = self.open.len();
            self.read_from(0, 10_000);
            assert!(
                self.open.len() < before,
                "a watch of a keyspace that is gone ends"
            );
        }
        let truth = Truth::new(map.truth().into_iter().map(Arc::new).collect());
        for observed in &self.over {
            if let Err(violation) = check::all(observed, &truth) {
                panic!("{violation}\n{observed:#?}");
            }
        }
        kept
    }

    /// Goes on in the next life of the same keyspace.
    pub(crate) async fn resume(&mut self, ks: &Keyspace, kept: Kept) {
        for (position, earlier, request) in kept {
            let request = WatchRequest {
                start: Start::After(position),
                snapshot: false,
                ..request
            };
            self.open(ks, request).await;
            let (_, later, _) = self.open.last().unwrap();
            assert_eq!(check::resumable(&earlier, later), Ok(()));
        }
    }

    /// In another keyspace nobody can go on.
    pub(crate) async fn refuse(ks: &Keyspace, kept: Kept) {
        for (position, _, request) in kept {
            let request = WatchRequest {
                start: Start::After(position),
                snapshot: false,
                ..request
            };
            let ended = ks
                .backend()
                .watch(request)
                .await
                .unwrap()
                .next()
                .await
                .unwrap_err();
            assert!(
                matches!(ended.reason, EndReason::KeyspaceChanged { .. }),
                "{ended}"
            );
        }
    }
}
