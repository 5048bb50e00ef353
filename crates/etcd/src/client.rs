//! The transport over etcd-client.
//!
//! One client for each connection, with one endpoint: which member is asked is the machine's decision, not a balancer's.

mod call;
mod convert;
mod endpoint;
mod failure;
mod tls;
mod txn;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, KvClient, WatchClient, WatchRequestSender, WatchResponseStream};
use futures_core::Stream;
use futures_util::FutureExt;
pub use tls::Tls;

use crate::calls::{Callers, Calls};
use crate::error::Error;
use crate::failure::{Failure, FailureKind};
use crate::header::Header;
use crate::machine::timing::DIAL_TIMEOUT;
use crate::machine::{CheckRequest, Checked, Dialed, ListRequest, Message, OpenRequest, Page};
use crate::transport::{Answer, Connection, Transport, WatchStream};
use crate::version::Version;
use call::EtcdCalls;
use endpoint::{Endpoint, without_user};

/// How often an idle connection is pinged. etcd ends connections that ping more often.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How long a ping may take.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The largest message that is accepted, in bytes. Fragments have at most 2 MiB, but what etcd had in store for a watch that
/// lagged it sends unsplit: up to 1000 revisions of up to 1.5 MiB each. Beyond this the range is listed anew.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// The most endpoints.
pub const MAX_ENDPOINTS: usize = 16;

/// Who reads, and from where.
#[derive(Clone)]
pub struct Access {
    endpoints: Vec<String>,
    user: Option<(String, String)>,
    tls: Option<Tls>,
}

impl Access {
    /// From these endpoints, written like `127.0.0.1:2379`, `http://etcd-1:2379` or `https://etcd-1:2379`.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            user: None,
            tls: None,
        }
    }

    /// As this user.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((name.into(), password.into()));
        self
    }

    /// Over TLS. Endpoints without a scheme are `https` then.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Checks it all and makes the transport, which connects when it is asked to.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn transport(&self) -> Result<EtcdTransport, Error> {
        if self.endpoints.is_empty() || self.endpoints.len() > MAX_ENDPOINTS {
            return Err(Error::Config {
                what: "endpoints",
                reason: format!(
                    "there are {}; give between 1 and {MAX_ENDPOINTS}",
                    self.endpoints.len()
                ),
            });
        }
        let endpoints = self
            .endpoints
            .iter()
            .map(|text| Endpoint::parse(text, self.tls.is_some()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut options = ConnectOptions::new()
            .with_connect_timeout(DIAL_TIMEOUT)
            .with_keep_alive(KEEP_ALIVE, KEEP_ALIVE_TIMEOUT)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some(tls) = &self.tls {
            options = options.with_tls(tls.options()?);
        }
        Ok(EtcdTransport(Arc::new(Dialer {
            endpoints,
            options,
            user: self.user.clone(),
            shows_no_certificate: self.tls.as_ref().is_some_and(|tls| !tls.has_identity()),
            has_answered: AtomicBool::new(false),
        })))
    }

    /// What it means for somebody who set this up that `what` could not be read.
    pub(crate) fn refused(&self, what: &str, source: Failure) -> Error {
        let endpoints = self.shown_endpoints();
        match source.kind {
            FailureKind::Tls => Error::Tls { endpoints, source },
            FailureKind::Denied | FailureKind::Credentials => Error::Denied {
                key: what.to_owned(),
                endpoints,
                user: self.shown_user(),
                source,
            },
            _ => Error::Unreachable {
                key: what.to_owned(),
                endpoints,
                source,
            },
        }
    }

    /// How many endpoints there are.
    pub fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether it shows a password.
    pub fn has_password(&self) -> bool {
        self.user.is_some()
    }

    /// The endpoints, for people.
    pub fn shown_endpoints(&self) -> String {
        let shown: Vec<_> = self.endpoints.iter().map(|text| without_user(text)).collect();
        shown.join(", ")
    }

    /// Who reads, for people.
    pub fn shown_user(&self) -> String {
        match &self.user {
            Some((name, _)) => format!("user {name:?}"),
            None => "a client without a user".to_owned(),
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("endpoints", &self.shown_endpoints())
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .finish_non_exhaustive()
    }
}

/// The transport.
#[derive(Clone)]
pub struct EtcdTransport(Arc<Dialer>);

struct Dialer {
    endpoints: Vec<Endpoint>,
    options: ConnectOptions,
    user: Option<(String, String)>,
    shows_no_certificate: bool,
    /// Whether any endpoint has ever answered.
    has_answered: AtomicBool,
}

impl fmt::Debug for EtcdTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EtcdTransport").field(&self.0.endpoints).finish()
    }
}

impl Transport for EtcdTransport {
    fn dial(&self, endpoint: usize) -> Answer<(Dialed, Box<dyn Connection>)> {
        let dialer = self.0.clone();
        Box::pin(async move {
            let (client, found) = dialer.dial(endpoint).await?;
            let connection = EtcdConnection {
                kv: client.kv_client().max_decoding_message_size(MAX_MESSAGE_BYTES),
                watch: client.watch_client().max_decoding_message_size(MAX_MESSAGE_BYTES),
            };
            Ok((found, Box::new(connection) as Box<dyn Connection>))
        })
    }
}

impl Callers for EtcdTransport {
    fn connect(&self, endpoint: usize) -> Answer<(Dialed, Arc<dyn Calls>)> {
        let dialer = self.0.clone();
        Box::pin(async move {
            let (client, found) = dialer.dial(endpoint).await?;
            let calls = EtcdCalls::new(&client, found.is_tidewatch);
            Ok((found, Arc::new(calls) as Arc<dyn Calls>))
        })
    }
}

impl Dialer {
    async fn dial(&self, endpoint: usize) -> Result<(Client, Dialed), Failure> {
        let endpoint = &self.endpoints[endpoint % self.endpoints.len()];
        let reached = self
            .reach(endpoint)
            .await
            .map_err(|failure| named(endpoint, &failure))?;
        self.has_answered.store(true, Ordering::Relaxed);
        Ok(reached)
    }

    async fn reach(&self, endpoint: &Endpoint) -> Result<(Client, Dialed), Failure> {
        let reached = async {
            let client = self.connect(endpoint).await?;
            let found = member(&client).await?;
            Ok((client, found))
        };
        reached.await.map_err(|failure| self.explained(failure))
    }

    /// With TLS 1.3 a client learns that its certificate is missed only after the handshake, and whether the alert or the end
    /// of the connection reaches the call is a matter of chance. Once an etcd has answered, an end is just an end.
    fn explained(&self, failure: Failure) -> Failure {
        let asks_for_more = self.shows_no_certificate
            && !self.has_answered.load(Ordering::Relaxed)
            && failure::is_closed(&failure);
        if !asks_for_more {
            return failure;
        }
        let hint = "it was closed after the handshake, as etcd does with CertificateRequired where clients have to show one";
        Failure::new(FailureKind::Tls, format!("{}; {hint}", failure.text))
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Client, Failure> {
        let uri = [endpoint.uri()];
        if let Some((name, password)) = &self.user {
            let options = self.options.clone().with_user(name, password);
            match Client::connect(uri, Some(options)).await {
                Ok(client) => return Ok(client),
                // As etcd's own client does: where nobody is asked for a password, none is needed.
                Err(error) if failure::is_auth_off(&error) => {}
                Err(error) => return Err(failure::of(&error)),
            }
        }
        Client::connect(uri, Some(self.options.clone()))
            .await
            .map_err(|error| failure::of(&error))
    }
}

/// What a Tidewatch names as its storage's version, where etcd has a number.
const TIDEWATCH_STORAGE: &str = "tidewatch";

/// Asks a member who it is.
async fn member(client: &Client) -> Result<Dialed, Failure> {
    let answer = client.maintenance_client().status().await;
    match answer {
        Ok(status) => Ok(Dialed {
            version: Version::parse(status.version()),
            is_tidewatch: status.0.storage_version == TIDEWATCH_STORAGE,
            header: convert::header(status.header()),
        }),
        Err(error) => {
            let failure = failure::of(&error);
            if matches!(failure.kind, FailureKind::Denied | FailureKind::Refused) {
                // Who may not ask may still be allowed to read.
                return Ok(Dialed {
                    version: None,
                    is_tidewatch: false,
                    header: Header::default(),
                });
            }
            Err(failure)
        }
    }
}

fn named(endpoint: &Endpoint, failure: &Failure) -> Failure {
    Failure::new(failure.kind, format!("{endpoint}: {}", failure.text))
}

struct EtcdConnection {
    kv: KvClient,
    watch: WatchClient,
}

impl Connection for EtcdConnection {
    fn list(&self, request: ListRequest) -> Answer<Page> {
        let mut kv = self.kv.clone();
        Box::pin(async move {
            let (key, options) = convert::list(&request);
            let mut answer = kv.get(key, Some(options)).await.map_err(|e| failure::of(&e))?;
            Ok(Page {
                header: convert::header(answer.header()),
                more: answer.more(),
                entries: answer.take_kvs().into_iter().map(convert::entry).collect(),
            })
        })
    }

    fn check(&self, request: CheckRequest) -> Answer<Checked> {
        let mut kv = self.kv.clone();
        Box::pin(async move {
            let (key, options) = convert::check(&request);
            let mut answer = kv.get(key, Some(options)).await.map_err(|e| failure::of(&e))?;
            Ok(Checked {
                header: convert::header(answer.header()),
                found: answer.take_kvs().into_iter().next().map(convert::entry),
            })
        })
    }

    fn open(&self, request: OpenRequest) -> Answer<Box<dyn WatchStream>> {
        let mut watch = self.watch.clone();
        Box::pin(async move {
            let (key, options) = convert::open(&request);
            let stream = watch
                .watch(key, Some(options))
                .await
                .map_err(|e| failure::of(&e))?;
            let (requests, responses) = stream.split();
            Ok(Box::new(EtcdStream { requests, responses }) as Box<dyn WatchStream>)
        })
    }
}

struct EtcdStream {
    requests: WatchRequestSender,
    responses: WatchResponseStream,
}

impl WatchStream for EtcdStream {
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Failure>> {
        Pin::new(&mut self.responses)
            .poll_next(cx)
            .map(|answer| match answer {
                Some(Ok(response)) => Ok(convert::message(response)),
                Some(Err(error)) => Err(failure::of(&error)),
                None => Err(Failure::unreachable("etcd ended the stream of the watch")),
            })
    }

    fn ask_progress(&mut self) {
        // Full only when etcd has not read a hundred of them.
        let _ = self.requests.request_progress().now_or_never();
    }
}
