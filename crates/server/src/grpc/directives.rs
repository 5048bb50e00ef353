//! `tidewatch.v1.Directives`: publishing directives, and asking what they say.

use std::sync::Arc;

use serde_json::json;
use tidewatch_core::txn::{Header, RangeRequest};
use tidewatch_core::{Clock, Keyspace, Revision, prefix};
use tidewatch_directives::{
    Answer as EffectiveAnswer, Attribute, Directive, DirectiveSet, Error, Handle, NODES, Publisher,
    Rejection, Stored, Subject,
};
use tidewatch_proto::error::{not_found, refused};
use tidewatch_proto::v1;
use tonic::{Request, Response, Status};

use super::{Answer, status};

/// The service.
#[derive(Clone)]
pub(crate) struct DirectivesService {
    pub(crate) keyspace: Keyspace,
    pub(crate) publisher: Publisher,
    pub(crate) store: Handle,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The stored set, as it is shown.
pub(crate) struct Listing {
    /// When it was written; 0: there is none.
    pub(crate) revision: Revision,
    /// A JSON object for each directive.
    pub(crate) directives: Vec<serde_json::Value>,
    /// Why it is not in force.
    pub(crate) rejected: Option<Rejection>,
}

impl DirectivesService {
    /// Over a keyspace and the store that follows it.
    pub(crate) fn new(keyspace: Keyspace, store: Handle, clock: Arc<dyn Clock>) -> Self {
        Self {
            publisher: Publisher::new(keyspace.clone(), clock.clone()).with_store(store.clone()),
            keyspace,
            store,
            clock,
        }
    }

    /// What is stored. Of a malformed set, nothing but why.
    pub(crate) async fn listing(&self) -> Result<Listing, Error> {
        let Some(Stored { revision, set, .. }) = self.publisher.show().await? else {
            return Ok(Listing {
                revision: Revision(0),
                directives: Vec::new(),
                rejected: None,
            });
        };
        let (set, rejected) = match set {
            Ok(set) => (set, None),
            Err(rejection) => (DirectiveSet::new(), Some(rejection)),
        };
        // The store knows when it first saw what was not stamped, and which lives a clock has cut short.
        let seen = self.store.load();
        let now = self.clock.system_time();
        let directives = if seen.origin().is_some_and(|origin| origin.revision == revision) {
            seen.shown().map(|shown| json!(shown)).collect()
        } else {
            set.shown(now, now).map(|shown| json!(shown)).collect()
        };
        Ok(Listing {
            revision,
            directives,
            rejected,
        })
    }

    /// What applies to a subject.
    pub(crate) fn effective(&self, subject: &Subject<'_>, request_id: &str) -> EffectiveAnswer {
        let snapshot = self.store.load();
        let effective = snapshot.effective(subject, request_id);
        EffectiveAnswer::new(&snapshot, effective)
    }

    async fn header(&self, revision: Revision) -> Result<Option<v1::ResponseHeader>, Status> {
        let keyspace = self.keyspace.status().await.map_err(status)?.keyspace;
        Ok(Some(Header { keyspace, revision }.into()))
    }
}

#[tonic::async_trait]
impl v1::directives_server::Directives for DirectivesService {
    async fn show_directives(
        &self,
        _: Request<v1::ShowDirectivesRequest>,
    ) -> Answer<v1::ShowDirectivesResponse> {
        let at = self.keyspace.status().await.map_err(status)?;
        let listing = self.listing().await.map_err(directives_status)?;
        let directives = listing.directives.iter().map(ToString::to_string);
        Ok(Response::new(v1::ShowDirectivesResponse {
            header: Some(
                Header {
                    keyspace: at.keyspace,
                    revision: at.revision,
                }
                .into(),
            ),
            mod_revision: listing.revision.0,
            directives: directives.collect(),
            rejected: listing.rejected.map(|rejection| v1::DirectiveRejection {
                reason: rejection.reason().slug().to_owned(),
                path: rejection.path().to_owned(),
                message: rejection.reason().explanation().to_owned(),
            }),
        }))
    }

    async fn publish_directives(
        &self,
        request: Request<v1::PublishDirectivesRequest>,
    ) -> Answer<v1::PublishDirectivesResponse> {
        let request = request.into_inner();
        let at = request.at_revision.map(Revision);
        let published = self.publisher.publish(&request.json, at).await;
        let published = published.map_err(directives_status)?;
        Ok(Response::new(v1::PublishDirectivesResponse {
            header: self.header(published.revision).await?,
            published: u32::try_from(published.set.len()).unwrap_or(u32::MAX),
        }))
    }

    async fn set_directive(
        &self,
        request: Request<v1::SetDirectiveRequest>,
    ) -> Answer<v1::SetDirectiveResponse> {
        let directive = Directive::decode(&request.into_inner().json);
        let directive = directive.map_err(|rejection| directives_status(Error::Rejected(rejection)))?;
        let published = self.publisher.set(directive).await.map_err(directives_status)?;
        Ok(Response::new(v1::SetDirectiveResponse {
            header: self.header(published.revision).await?,
        }))
    }

    async fn remove_directive(
        &self,
        request: Request<v1::RemoveDirectiveRequest>,
    ) -> Answer<v1::RemoveDirectiveResponse> {
        let published = self.publisher.remove(&request.into_inner().id).await;
        let published = published.map_err(directives_status)?;
        Ok(Response::new(v1::RemoveDirectiveResponse {
            header: self.header(published.revision).await?,
        }))
    }

    async fn clear_directives(
        &self,
        _: Request<v1::ClearDirectivesRequest>,
    ) -> Answer<v1::ClearDirectivesResponse> {
        let (revision, cleared) = self.publisher.clear().await.map_err(directives_status)?;
        Ok(Response::new(v1::ClearDirectivesResponse {
            header: self.header(revision).await?,
            cleared,
        }))
    }

    async fn get_effective(
        &self,
        request: Request<v1::GetEffectiveRequest>,
    ) -> Answer<v1::GetEffectiveResponse> {
        let request = request.into_inner();
        let attributes = request.subject.iter();
        let subject = subject(attributes.map(|(name, value)| (name.as_str(), value.as_str())));
        let subject = subject.map_err(status)?;
        let answer = self.effective(&subject, &request.request_id);
        Ok(Response::new(v1::GetEffectiveResponse {
            json: json!(answer).to_string(),
        }))
    }

    async fn list_directive_nodes(
        &self,
        _: Request<v1::ListDirectiveNodesRequest>,
    ) -> Answer<v1::ListDirectiveNodesResponse> {
        let all = RangeRequest::new(prefix(NODES).map_err(status)?);
        let (header, answer) = self.keyspace.range(all).await.map_err(status)?;
        let reports = answer.kvs.iter().filter(|kv| kv.key.ends_with(b"/directives"));
        Ok(Response::new(v1::ListDirectiveNodesResponse {
            header: Some(header.into()),
            nodes: reports
                .map(|kv| v1::FleetRow {
                    key: String::from_utf8_lossy(&kv.key).into_owned(),
                    mod_revision: kv.mod_revision.0,
                    json: String::from_utf8_lossy(&kv.value).into_owned(),
                })
                .collect(),
        }))
    }
}

/// A subject of attributes that somebody else named.
fn subject<'a>(
    attributes: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Subject<'a>, tidewatch_core::Error> {
    let mut subject = Subject::new();
    for (name, value) in attributes {
        let attribute: Attribute = name
            .parse()
            .map_err(|error| tidewatch_core::Error::InvalidArgument {
                what: "attribute",
                reason: format!("{name:?}: {error}"),
            })?;
        subject = subject.with(attribute, value);
    }
    Ok(subject)
}

/// The one way from an error of publishing to a status.
fn directives_status(error: Error) -> Status {
    match error {
        Error::Keyspace(error) => status(error),
        Error::Rejected(rejection) => status(tidewatch_core::Error::InvalidArgument {
            what: "directives",
            reason: rejection.to_string(),
        }),
        error @ Error::NotFound { .. } => not_found("directive", error),
        error => refused("directives", error),
    }
}
