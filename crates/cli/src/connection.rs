//! The server that commands ask, and the output they answer on.

use tidewatch_client::{Client, Reconnect};

use crate::args::Global;
use crate::failure::{Result, note};
use crate::output::Output;

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
        let mut builder = Client::builder(&self.global.endpoint).on_reconnect(tell);
        if let Some(file) = &self.global.token_file {
            builder = builder.token_file(file);
        } else if let Some(token) = token_in_environment() {
            builder = builder.token(token);
        }
        Ok(builder.connect().await?)
    }

    /// Where answers go.
    pub(crate) fn output(&self) -> Output {
        Output::new(self.global.output)
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
    std::env::var("TIDEWATCH_TOKEN")
        .ok()
        .filter(|token| !token.is_empty())
}
