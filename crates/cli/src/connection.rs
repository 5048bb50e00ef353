//! The server that commands ask, and the output they answer on.

use std::path::Path;

use tidewatch_client::{Client, ClientBuilder, Reconnect};

use crate::args::Global;
use crate::failure::{Result, note};
use crate::output::Output;

/// Names the variable with the token. Programs that are started do not get it.
pub(crate) const TOKEN: &str = "TIDEWATCH_TOKEN";

/// How to reach the server and in which form to answer.
pub(crate) struct Connection {
    global: Global,
}

impl Connection {
    /// Nothing is opened yet.
    pub(crate) fn new(global: Global) -> Self {
        Self { global }
    }

    /// Connects. A watch of this client says on stderr when it loses its connection and when it goes on.
    pub(crate) async fn open(&self) -> Result<Client> {
        Ok(self.builder().connect().await?)
    }

    /// A client that connects when it is used, for commands that begin while the server is away.
    pub(crate) async fn open_lazily(&self) -> Result<Client> {
        Ok(self.builder().connect_lazy().await?)
    }

    fn builder(&self) -> ClientBuilder {
        let builder = Client::builder(&self.global.endpoint).on_reconnect(tell);
        with_token(builder, self.global.token_file.as_deref())
    }

    /// Where answers go.
    pub(crate) fn output(&self) -> Output {
        Output::new(self.global.output)
    }
}

/// Has the client show the token in this file, or else the one in the environment.
pub(crate) fn with_token(builder: ClientBuilder, file: Option<&Path>) -> ClientBuilder {
    match (file, token_in_environment()) {
        (Some(file), _) => builder.token_file(file),
        (None, Some(token)) => builder.token(token),
        (None, None) => builder,
    }
}

/// Only the first failure in a row is told: a server that is away for an hour is no reason for a thousand lines.
fn tell(reconnect: &Reconnect) {
    match reconnect {
        Reconnect::Lost { attempt: 2.., .. } => {}
        told => note(&told.to_string()),
    }
}

fn token_in_environment() -> Option<String> {
    std::env::var(TOKEN).ok().filter(|token| !token.is_empty())
}
