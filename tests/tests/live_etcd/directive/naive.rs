//! A plain get-then-watch loop, as it is often written: what the flaws are shown with.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use etcd_client::{Client, ConnectOptions, EventType};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::KEY;

/// How long it waits before it connects again; always the same.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// A store that reads the key when it connects, then watches it, and begins anew a second after every end.
pub(super) struct Naive {
    current: Arc<Mutex<Vec<NaiveDirective>>>,
    /// How long it has waited before it connected again, each time.
    pauses: Arc<Mutex<Vec<Duration>>>,
    gate: Option<Arc<Gate>>,
}

/// Where one stands between its read and its watch.
struct Gate {
    arrived: Semaphore,
    passes: Semaphore,
}

/// A directive as it was read: what has another type than expected is as if it were not there.
#[derive(Clone, Debug)]
pub(super) struct NaiveDirective {
    pub(super) id: String,
    pub(super) workload: Option<String>,
    expires: Instant,
}

impl Naive {
    pub(super) async fn connect(endpoints: &[String]) -> Result<Self, etcd_client::Error> {
        Self::start(endpoints, None, None).await
    }

    /// One that can be made to stand between its read and its watch: it waits there for [`pass`](Self::pass).
    pub(super) async fn with_gate(
        endpoints: &[String],
        options: Option<ConnectOptions>,
    ) -> Result<Self, etcd_client::Error> {
        Self::start(
            endpoints,
            options,
            Some(Arc::new(Gate {
                arrived: Semaphore::new(0),
                passes: Semaphore::new(0),
            })),
        )
        .await
    }

    async fn start(
        endpoints: &[String],
        options: Option<ConnectOptions>,
        gate: Option<Arc<Gate>>,
    ) -> Result<Self, etcd_client::Error> {
        let mut client = Client::connect(endpoints, options.clone()).await?;
        let answer = client.get(KEY, None).await?;
        let read = answer.kvs().first().map(|kv| decode(kv.value()));
        let current = Arc::new(Mutex::new(read.unwrap_or_default()));
        let (endpoints, task_current, task_gate) = (endpoints.to_vec(), current.clone(), gate.clone());
        let pauses = Arc::<Mutex<Vec<Duration>>>::default();
        let task_pauses = pauses.clone();
        tokio::spawn(async move {
            loop {
                let gate = task_gate.as_deref();
                let _ = watch_once(&endpoints, options.clone(), &task_current, gate).await;
                task_pauses.lock().unwrap().push(RECONNECT_DELAY);
                tokio::time::sleep(RECONNECT_DELAY).await;
            }
        });
        Ok(Self {
            current,
            pauses,
            gate,
        })
    }

    /// Waits until it stands at its gate, having read.
    pub(super) async fn until_at_gate(&self) {
        let gate = self.gate.as_ref().expect("it has a gate");
        gate.arrived.acquire().await.expect("gates stay").forget();
    }

    /// Lets it go on to its watch, once.
    pub(super) fn pass(&self) {
        self.gate.as_ref().expect("it has a gate").passes.add_permits(1);
    }

    /// How long it waited, each time that it lost its connection.
    pub(super) fn pauses(&self) -> Vec<Duration> {
        self.pauses.lock().unwrap().clone()
    }

    /// The ids of those that live, in order.
    pub(super) fn ids(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.live().into_iter().map(|directive| directive.id).collect();
        ids.sort();
        ids
    }

    pub(super) fn live(&self) -> Vec<NaiveDirective> {
        let current = self.current.lock().unwrap();
        let live = current.iter().filter(|directive| now() < directive.expires);
        live.cloned().collect()
    }
}

async fn watch_once(
    endpoints: &[String],
    options: Option<ConnectOptions>,
    current: &Mutex<Vec<NaiveDirective>>,
    gate: Option<&Gate>,
) -> Result<(), etcd_client::Error> {
    let mut client = Client::connect(endpoints, options).await?;
    let answer = client.get(KEY, None).await?;
    if let Some(kv) = answer.kvs().first() {
        *current.lock().unwrap() = decode(kv.value());
    }
    if let Some(gate) = gate {
        gate.arrived.add_permits(1);
        gate.passes.acquire().await.expect("gates stay").forget();
    }
    let mut stream = client.watch(KEY, None).await?;
    while let Some(message) = stream.message().await? {
        for event in message.events() {
            match event.event_type() {
                EventType::Put => {
                    let kv = event.kv().expect("a put has an entry");
                    *current.lock().unwrap() = decode(kv.value());
                }
                EventType::Delete => current.lock().unwrap().clear(),
            }
        }
    }
    Ok(())
}

fn decode(json: &[u8]) -> Vec<NaiveDirective> {
    let read: Value = serde_json::from_slice(json).unwrap_or_default();
    let directives = read["directives"].as_array().cloned().unwrap_or_default();
    directives
        .iter()
        .map(|directive| NaiveDirective {
            id: directive["id"].as_str().unwrap_or_default().to_owned(),
            workload: directive["match"]["workload"].as_str().map(str::to_owned),
            expires: now()
                + Duration::from_secs(directive["ttl_secs"].as_u64().unwrap_or(u64::from(u32::MAX))),
        })
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "it lives on the machine's time")]
fn now() -> Instant {
    Instant::now()
}
