//! Directives, as a server tells and takes them.

use serde_json::{Map, Value};
use tidewatch_core::Revision;
use tidewatch_proto::v1::directives_client::DirectivesClient;
use tidewatch_proto::{header, v1};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::client::Client;
use crate::connection::MAX_ANSWER_BYTES;
use crate::error::Error;
use crate::failure::{Failure, Intent};
use crate::fleet::Row;

/// Which directives there are.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectiveListing {
    /// When the set was last written; none if there is none.
    pub revision: Option<Revision>,
    /// Each directive, with `expires_at` and `expired`, in the order of the set.
    pub directives: Vec<Map<String, Value>>,
    /// Why the stored set is not in force, if it is not.
    pub rejected: Option<DirectiveRejection>,
}

/// What is wrong with a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectiveRejection {
    /// A stable name, for instance `wrong_type`.
    pub reason: String,
    /// The path of the field, for instance `directives[0].match.host`.
    pub path: String,
    /// The same for people.
    pub message: String,
}

impl Client {
    /// The directives there are, those that have ended included.
    ///
    /// # Errors
    /// As for all calls on directives: [`Error::Unreachable`], [`Error::Refused`], [`Error::Keyspace`],
    /// [`Error::Protocol`].
    pub async fn directives(&self) -> Result<DirectiveListing, Error> {
        let send = |mut client: Directives, request| async move { client.show_directives(request).await };
        let message = v1::ShowDirectivesRequest {};
        let answer = self.ask_directives(Intent::Read, message, send).await?;
        let read = |json: String| {
            serde_json::from_str(&json)
                .map_err(|error| Failure::Malformed(format!("a directive is not a JSON object: {error}")))
        };
        let directives = answer.directives.into_iter().map(read);
        Ok(DirectiveListing {
            revision: (answer.mod_revision != 0).then_some(Revision(answer.mod_revision)),
            directives: self.read(directives.collect::<Result<_, _>>())?,
            rejected: answer.rejected.map(|rejected| DirectiveRejection {
                reason: rejected.reason,
                path: rejected.path,
                message: rejected.message,
            }),
        })
    }

    /// Replaces the set, given as JSON; with a revision only if it was last written then, 0 standing for
    /// no set. Returns the revision, and how many directives it has.
    ///
    /// # Errors
    /// Those of [`directives`](Self::directives), and [`Error::Keyspace`] with `InvalidArgument` for a
    /// set that is rejected; [`Error::Refused`] if it was last written at another revision.
    pub async fn publish_directives(
        &self,
        json: &[u8],
        at: Option<Revision>,
    ) -> Result<(Revision, u32), Error> {
        let message = v1::PublishDirectivesRequest {
            json: json.to_vec().into(),
            at_revision: at.map(|revision| revision.0),
        };
        let send = |mut client: Directives, request| async move { client.publish_directives(request).await };
        let answer = self.ask_directives(Intent::Write, message, send).await?;
        Ok((self.read(header(answer.header))?.revision, answer.published))
    }

    /// Adds a directive, given as JSON, or replaces the one of its id.
    ///
    /// # Errors
    /// Those of [`publish_directives`](Self::publish_directives).
    pub async fn set_directive(&self, json: &[u8]) -> Result<Revision, Error> {
        let json = json.to_vec().into();
        let send = |mut client: Directives, request| async move { client.set_directive(request).await };
        let message = v1::SetDirectiveRequest { json };
        let answer = self.ask_directives(Intent::Write, message, send).await?;
        Ok(self.read(header(answer.header))?.revision)
    }

    /// Takes a directive out.
    ///
    /// # Errors
    /// Those of [`directives`](Self::directives), and [`Error::NotFound`].
    pub async fn remove_directive(&self, id: &str) -> Result<Revision, Error> {
        let id = id.to_owned();
        let send = |mut client: Directives, request| async move { client.remove_directive(request).await };
        let message = v1::RemoveDirectiveRequest { id };
        let answer = self.ask_directives(Intent::Write, message, send).await?;
        Ok(self.read(header(answer.header))?.revision)
    }

    /// Takes all directives out, and tells whether there was a set.
    ///
    /// # Errors
    /// Those of [`directives`](Self::directives).
    pub async fn clear_directives(&self) -> Result<(Revision, bool), Error> {
        let send = |mut client: Directives, request| async move { client.clear_directives(request).await };
        let message = v1::ClearDirectivesRequest {};
        let answer = self.ask_directives(Intent::Write, message, send).await?;
        Ok((self.read(header(answer.header))?.revision, answer.cleared))
    }

    /// Which set each node has in force, by node.
    ///
    /// # Errors
    /// Those of [`directives`](Self::directives).
    pub async fn directive_nodes(&self) -> Result<Vec<Row>, Error> {
        let send =
            |mut client: Directives, request| async move { client.list_directive_nodes(request).await };
        let message = v1::ListDirectiveNodesRequest {};
        let answer = self.ask_directives(Intent::Read, message, send).await?;
        self.read(answer.nodes.into_iter().map(Row::read).collect::<Result<_, _>>())
    }

    async fn ask_directives<T, R, F>(
        &self,
        intent: Intent,
        message: T,
        send: impl Fn(Directives, Request<T>) -> F,
    ) -> Result<R, Error>
    where
        T: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let send = |channel, request| {
            let client = DirectivesClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
            send(client, request)
        };
        let answer = self.connection().call(intent, message, send).await;
        answer.map_err(|failure| failure.into_error(intent, self.connection().endpoints()))
    }
}

type Directives = DirectivesClient<Channel>;
