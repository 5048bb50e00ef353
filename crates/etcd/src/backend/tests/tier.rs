//! A server on a server on an etcd.

use tidewatch_core::watch::BatchKind;
use tidewatch_core::{Revision, Watch, prefix};

use super::*;
use crate::phase::Phase;

/// How long a few calls may take at the far tier, where nobody waits for a watch to come to what a read has shown.
const PROMPT: Duration = Duration::from_secs(1);

/// Two tiers, of which the first has a part of an old etcd.
struct Tiers {
    rig: Rig,
    near: Keyspace,
    served: Arc<Simulated>,
}

impl Tiers {
    fn new() -> Self {
        let mut rig = Rig::new(OLD);
        let (_, near) = rig.connect().unwrap();
        rig.run(near.put("/a", "1")).unwrap();
        let served = Simulated::serving(near.clone(), rig.etcd.clock.clone());
        Self { rig, near, served }
    }

    fn far(&mut self, history: u64) -> (Arc<EtcdBackend>, Keyspace) {
        let connect = EtcdBackend::builder(["simulated:1"])
            .clock(Arc::new(self.rig.etcd.clock.clone()))
            .history(history)
            .connect_over(self.served.clone());
        let backend = self.rig.run(connect).unwrap();
        self.rig.drivers.push(backend.driver());
        (backend.clone(), Keyspace::new(backend))
    }

    /// Others write, for so long.
    fn write_elsewhere(&mut self, time: Duration) {
        let etcd = self.rig.etcd.clone();
        let end = etcd.clock.now() + time;
        self.rig.run(async {
            while etcd.clock.now() < end {
                etcd.ks.put("/elsewhere", "x").await.unwrap();
                pass(&etcd.clock, Duration::from_millis(100)).await;
            }
        });
    }
}

async fn next_events(watch: &mut Watch) -> Vec<String> {
    loop {
        let batch = watch.next().await.unwrap();
        if batch.kind() == BatchKind::Events {
            let shown = |kv: &[u8]| kv.escape_ascii().to_string();
            return batch.iter().map(|event| shown(event.value())).collect();
        }
    }
}

#[test]
fn what_others_write_elsewhere_holds_up_nobody_on_the_second_tier() {
    let mut tiers = Tiers::new();
    let (backend, far) = tiers.far(10);
    assert!(!tiers.near.backend().tells_progress() && !backend.tells_progress());
    tiers.write_elsewhere(Duration::from_secs(1));
    let etcd = tiers.rig.etcd.clone();
    let rig = &mut tiers.rig;
    let begun = etcd.clock.now();
    let (header, found) = rig.run(far.range(RangeRequest::new(KeyRange::all()))).unwrap();
    assert_eq!((found.count, &*found.kvs[0].value), (1, &b"1"[..]));
    assert_eq!(header.revision, rig.run(etcd.ks.status()).unwrap().revision);
    let mut watch = rig.run(far.watch(prefix("/").unwrap()).start()).unwrap();
    let mut with_snapshot = rig
        .run(far.watch(prefix("/").unwrap()).with_snapshot().start())
        .unwrap();
    let took = etcd.clock.now() - begun;
    assert!(took < PROMPT, "{took:?}");
    // What is acknowledged is seen by whoever reads afterwards, and by those who watch.
    let written = rig.run(tiers.near.put("/a", "2")).unwrap();
    assert_eq!(rig.run(far.get("/a")).unwrap().unwrap().mod_revision, written);
    assert_eq!(rig.run(next_events(&mut watch)), ["2"]);
    assert_eq!(rig.run(next_events(&mut with_snapshot)), ["2"]);
}

#[test]
fn the_second_tier_stays_live_whatever_is_written_elsewhere() {
    let mut tiers = Tiers::new();
    tiers.write_elsewhere(Duration::from_secs(1));
    // Without a history its listing is ahead of what any watch of the first tier has come to.
    let (backend, far) = tiers.far(0);
    let since = backend.upstream().confirmed.unwrap();
    for _ in 0..50 {
        tiers.write_elsewhere(Duration::from_millis(400));
        assert_eq!(backend.upstream().phase, Phase::Live);
    }
    let upstream = backend.upstream();
    assert!(upstream.confirmed > Some(since + Duration::from_secs(15)));
    assert_eq!(upstream.relists, 0);
    let written = tiers.rig.run(far.put("/a", "2")).unwrap();
    assert_eq!(
        tiers.rig.run(far.get("/a")).unwrap().unwrap().mod_revision,
        written
    );
}

#[test]
fn a_second_tier_knows_where_history_begins_and_starts_at_once_where_all_of_it_is_there() {
    let mut tiers = Tiers::new();
    let begun = tiers.rig.etcd.clock.now();
    let (whole, _) = tiers.far(10);
    assert!(tiers.rig.etcd.clock.now() - begun < PROMPT);
    assert_eq!(tiers.rig.run(whole.status()).unwrap().oldest, Revision(1));
    let last = tiers.rig.run(tiers.near.put("/a", "2")).unwrap();
    tiers.rig.run(tiers.near.compact(last)).unwrap();
    let (cut, far) = tiers.far(10);
    assert_eq!(tiers.rig.run(cut.status()).unwrap().oldest, last);
    let old = RangeRequest {
        revision: Some(Revision(1)),
        ..RangeRequest::new(KeyRange::all())
    };
    let refused = tiers.rig.run(far.range(old)).unwrap_err();
    assert!(
        matches!(refused, KeyspaceError::Compacted { oldest, .. } if oldest == last),
        "{refused:?}"
    );
}
