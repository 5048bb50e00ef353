//! Setting up a client.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use tidewatch_core::{Clock, SystemClock};
use tonic::metadata::{Ascii, MetadataValue};

use crate::client::Client;
use crate::connection::{Connection, DEAD_AFTER, Settings};
use crate::error::Error;
use crate::reconnect::{OnReconnect, Reconnect};

/// How long a connection may take by default: a server on another continent answers in a fraction.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a call may take by default, all its attempts together.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The shortest time after which a connection may count as dead: below it, a busy machine looks like a dead one.
const MIN_DEAD_AFTER: Duration = Duration::from_millis(500);

/// The most endpoints of a client.
const MAX_ENDPOINTS: usize = 16;

/// A client that is being set up; see [`Client::builder`].
#[must_use = "a client is made by `connect`"]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    token: Token,
    connect_timeout: Duration,
    request_timeout: Duration,
    dead_after: Duration,
    give_up_after: Option<Duration>,
    on_reconnect: Option<OnReconnect>,
    clock: Arc<dyn Clock>,
}

enum Token {
    None,
    Text(String),
    File(PathBuf),
}

impl ClientBuilder {
    pub(crate) fn new(endpoint: String) -> Self {
        Self {
            endpoints: vec![endpoint],
            token: Token::None,
            connect_timeout: CONNECT_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            dead_after: DEAD_AFTER,
            give_up_after: None,
            on_reconnect: None,
            clock: SystemClock::shared(),
        }
    }

    /// Another server of the same keyspace, to go to when those before it cannot be reached.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoints.push(endpoint.into());
        self
    }

    /// Shows this token with every call.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Token::Text(token.into());
        self
    }

    /// Shows the token in this file, which is read when the client connects. Blanks and line ends
    /// around it do not count.
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token = Token::File(path.into());
        self
    }

    /// How long a connection may take to be made; 5 s unless set.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a call may take, with all its attempts; 30 s unless set. Streams only have to begin
    /// in this time.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// After how long without a sign of life a server counts as dead, at least half a second; [10 s](DEAD_AFTER)
    /// unless set. One half of it lies between two HTTP/2 pings, the other is what the answer may take. Keeping a
    /// lease alive may take no longer than that answer: then the next server is asked. For those who have to
    /// be quicker than a lease's end.
    pub fn dead_after(mut self, time: Duration) -> Self {
        self.dead_after = time;
        self
    }

    /// Ends a watch that could not resume for this long, with
    /// [`Unavailable`](tidewatch_core::Error::Unavailable). Unless set it tries until it is dropped.
    pub fn give_up_after(mut self, time: Duration) -> Self {
        self.give_up_after = Some(time);
        self
    }

    /// Calls this when a watch loses its connection, and when it goes on. It must not block.
    pub fn on_reconnect(mut self, tell: impl Fn(&Reconnect) + Send + Sync + 'static) -> Self {
        self.on_reconnect = Some(Arc::new(tell));
        self
    }

    /// Takes the time from this clock. Connections and pings keep to the machine's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Connects to the first of the endpoints that can be reached.
    ///
    /// # Errors
    /// [`Error::Config`], and [`Error::Unreachable`] if none of them can.
    pub async fn connect(self) -> Result<Client, Error> {
        let mut connection = self.build().await?;
        connection.probe().await?;
        Ok(Client::new(connection))
    }

    /// Makes the client without connecting; the first call does that. For those who start before
    /// their server does.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub async fn connect_lazy(self) -> Result<Client, Error> {
        Ok(Client::new(self.build().await?))
    }

    async fn build(self) -> Result<Connection, Error> {
        if self.endpoints.len() > MAX_ENDPOINTS {
            return Err(Error::Config {
                what: "endpoints",
                reason: format!(
                    "there are {}, at most {MAX_ENDPOINTS} are allowed",
                    self.endpoints.len()
                ),
            });
        }
        if self.dead_after < MIN_DEAD_AFTER {
            return Err(Error::Config {
                what: "time after which a server counts as dead",
                reason: format!(
                    "it is {} ms, and must be at least {}",
                    self.dead_after.as_millis(),
                    MIN_DEAD_AFTER.as_millis()
                ),
            });
        }
        let uris: Vec<Uri> = self
            .endpoints
            .iter()
            .map(|endpoint| parse(endpoint))
            .collect::<Result<_, _>>()?;
        let settings = Settings {
            token: self.token.header().await?,
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout,
            dead_after: self.dead_after,
            give_up_after: self.give_up_after,
            on_reconnect: self.on_reconnect,
            clock: self.clock,
        };
        Ok(Connection::new(&uris, settings))
    }
}

fn parse(endpoint: &str) -> Result<Uri, Error> {
    let invalid = |reason: String| Error::Config {
        what: "endpoint",
        reason,
    };
    let form = "write it like http://127.0.0.1:7480";
    let with_scheme = if endpoint.contains("://") {
        endpoint.to_owned()
    } else {
        format!("http://{endpoint}")
    };
    let uri: Uri = with_scheme
        .parse()
        .map_err(|error| invalid(format!("{endpoint:?} is no URL ({error}); {form}")))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(invalid(format!(
                "{endpoint:?} needs TLS, which this version does not have yet; use http:// to a server on this machine, or through a tunnel"
            )));
        }
        _ => return Err(invalid(format!("{endpoint:?} has an unknown scheme; {form}"))),
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(invalid(format!("{endpoint:?} has no host; {form}")));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(invalid(format!("{endpoint:?} has a path; {form}")));
    }
    Ok(uri)
}

impl Token {
    async fn header(self) -> Result<Option<MetadataValue<Ascii>>, Error> {
        let (text, whence) = match self {
            Self::None => return Ok(None),
            Self::Text(text) => (text, "it".to_owned()),
            Self::File(path) => match tokio::fs::read_to_string(&path).await {
                Ok(text) => (text, path.display().to_string()),
                Err(error) => {
                    return Err(Error::Config {
                        what: "token file",
                        reason: format!("cannot read {}: {error}", path.display()),
                    });
                }
            },
        };
        let invalid = |reason: &str| Error::Config {
            what: "token",
            reason: format!("{whence} {reason}"),
        };
        let token = text.trim();
        if token.is_empty() {
            return Err(invalid("is empty"));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid("holds more than one word of plain characters"));
        }
        let mut header = MetadataValue::try_from(format!("Bearer {token}"))
            .map_err(|_| invalid("does not fit into a header"))?;
        // Keeps it out of debug output and of HTTP/2's header compression.
        header.set_sensitive(true);
        Ok(Some(header))
    }
}
