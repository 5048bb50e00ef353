//! etcd's API over the server's keyspace.

use std::any::Any;
use std::sync::Arc;

use tidewatch_core::Error;
use tidewatch_etcd_api::{EtcdApi, Limits, Member, StreamHost, WatchHost};
use tonic::Extensions;

use super::Services;
use crate::connection::Connection;
use crate::metrics::{Up, WatchMetrics};

/// What members are called; there is one.
const MEMBER_NAME: &str = "tidewatch";

/// The services, as this server offers them.
pub(super) fn api(services: &Services) -> EtcdApi {
    let (store, addr) = (&services.store, services.local_addr);
    // An address that stands for all of the machine's is none that a client could connect to.
    let client_urls = (!addr.ip().is_unspecified()).then(|| format!("http://{addr}"));
    let member = Member {
        id: u64::from_str_radix(&store.instance, 16).unwrap_or(1),
        name: MEMBER_NAME.into(),
        client_urls: client_urls.into_iter().collect(),
    };
    let limits = Limits {
        max_request_bytes: services.max_request_bytes,
        // Their connection bounds them, which may have several streams.
        max_watches_per_stream: usize::MAX,
        ..Limits::default()
    };
    let readiness = services.readiness.clone();
    EtcdApi::new(store.keyspace.clone(), member)
        .limits(limits)
        .progress_interval(services.progress_interval)
        .draining(async move { readiness.draining().await })
        .host(Host(services.metrics.clone()))
}

/// Counts what the streams do, and holds them to what their connection may have.
struct Host(WatchMetrics);

struct Stream {
    connection: Option<Connection>,
    metrics: WatchMetrics,
    _counted: Up,
}

impl WatchHost for Host {
    fn open(&self, extensions: &Extensions) -> Box<dyn StreamHost> {
        Box::new(Stream {
            connection: extensions.get().cloned(),
            metrics: self.0.clone(),
            _counted: Up::new(&self.0.streams),
        })
    }
}

impl StreamHost for Stream {
    fn room(&mut self) -> Result<Box<dyn Any + Send>, Error> {
        match &self.connection {
            Some(connection) => Ok(Box::new(connection.watch_slot()?)),
            None => Ok(Box::new(())),
        }
    }

    fn label(&self) -> Option<Arc<str>> {
        self.connection.as_ref().map(Connection::label)
    }

    fn sent(&mut self, events: usize) {
        self.metrics.messages_sent.inc();
        self.metrics.events_sent.inc_by(events as u64);
    }

    fn ended(&mut self, reason: &'static str) {
        self.metrics.ended(reason);
    }
}
