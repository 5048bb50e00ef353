//! A feed of a whole prefix of a real etcd, with what was there before each change.

mod fault;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use etcd_client::Client;
use tidewatch_core::{KeyRange, SystemClock};
use tidewatch_etcd::{Access, Delivery, Feed, Identity, Mirror, Phase, Selection, SnapshotReason, Update};

/// The prefix of the tests.
const PREFIX: &str = "/watched/";

/// How long to wait for something that must come.
const CEILING: Duration = Duration::from_secs(60);

/// A feed, and what has come of it.
struct Reader {
    feed: Feed,
    mirror: Mirror,
    /// Revisions that came as records, in the order in which they came.
    records: Vec<u64>,
    /// The same, since a snapshot.
    since_snapshot: Vec<u64>,
    /// Why there were snapshots.
    snapshots: Vec<(SnapshotReason, Identity)>,
    /// How often it was interrupted.
    interruptions: usize,
    is_live: bool,
}

impl Reader {
    fn new(endpoints: impl IntoIterator<Item = impl ToString>, history: u64) -> Self {
        let access = Access::new(endpoints.into_iter().map(|endpoint| endpoint.to_string()));
        let selection = Selection {
            range: KeyRange::starting_with(PREFIX),
            prev_kv: true,
            history,
        };
        let transport = access.transport().expect("the endpoints are addresses");
        let count = access.endpoints();
        Self {
            feed: Feed::new(selection, transport, count, false, SystemClock::shared()),
            mirror: Mirror::default(),
            records: Vec::new(),
            since_snapshot: Vec::new(),
            snapshots: Vec::new(),
            interruptions: 0,
            is_live: false,
        }
    }

    /// Goes on until this holds.
    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let reached = tokio::time::timeout(CEILING, async {
            while !holds(self) {
                let update = self.feed.next().await.expect("nobody stops it");
                self.take(update);
            }
        });
        let reached = reached.await.is_ok();
        assert!(
            reached,
            "{what} does not come; it is {:?}",
            self.feed.health().get()
        );
    }

    async fn until_live(&mut self) {
        self.until("life", |reader| reader.is_live).await;
    }

    /// Goes on until the mirror holds what etcd does.
    async fn until_equal(&mut self, client: &Client) {
        let expected = contents(client).await;
        self.until("what etcd holds", |reader| reader.contents() == expected)
            .await;
    }

    fn take(&mut self, update: Update) {
        match update {
            Update::Delivery(delivery) => {
                match &delivery {
                    Delivery::SnapshotBegin { reason, identity, .. } => {
                        self.snapshots.push((*reason, *identity));
                        self.since_snapshot.clear();
                    }
                    Delivery::Record(record) => {
                        self.records.push(record.revision.0);
                        self.since_snapshot.push(record.revision.0);
                    }
                    _ => {}
                }
                self.mirror.apply(delivery);
            }
            Update::Phase(phase) => {
                self.is_live = phase == Phase::Live;
                self.interruptions += usize::from(matches!(phase, Phase::Interrupted { .. }));
            }
        }
    }

    fn contents(&self) -> BTreeMap<Bytes, Bytes> {
        self.mirror
            .entries()
            .map(|entry| (entry.key.clone(), entry.value.clone()))
            .collect()
    }
}

async fn contents(client: &Client) -> BTreeMap<Bytes, Bytes> {
    let options = etcd_client::GetOptions::new().with_prefix();
    let mut kv = client.kv_client().max_decoding_message_size(256 << 20);
    let answer = kv.get(PREFIX, Some(options)).await.expect("etcd answers");
    let entries = answer.kvs().iter().map(|kv| {
        let (key, value) = kv.clone().into_key_value();
        (Bytes::from(key), Bytes::from(value))
    });
    entries.collect()
}

async fn client(endpoints: Vec<String>) -> Client {
    Client::connect(endpoints, None).await.expect("etcd is there")
}

/// Writes a key of the prefix, and tells at which revision.
async fn put(client: &Client, name: &str, value: impl Into<Vec<u8>>) -> u64 {
    let answer = client
        .kv_client()
        .put(format!("{PREFIX}{name}"), value, None)
        .await;
    let answer = answer.expect("etcd takes a put");
    let revision = answer.header().expect("answers have headers").revision();
    u64::try_from(revision).expect("revisions are positive")
}
