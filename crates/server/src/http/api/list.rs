//! A list as JSON, sent while it is read.
//!
//! A fleet of a hundred thousand rows is neither gathered before it is sent nor held up meanwhile: the next
//! rows are read when the client has taken those before them. All are of one revision. If that is compacted
//! in between, the connection breaks off, so that nobody takes a part for the whole.

use std::fmt;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, BoxStream, StreamExt};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use tidewatch_core::txn::Header;
use tidewatch_fleet::Error;

/// How many bytes are sent in one piece, roughly: large enough that a row costs no system call, small enough
/// that a client that stops reading leaves little behind.
const PIECE_BYTES: usize = 32 << 10;

/// Rows as they are read: some at a time.
pub(super) type Rows<T> = BoxStream<'static, Result<Vec<T>, Error>>;

/// A list that is there already.
pub(super) fn ready<T: Send + 'static>(rows: Vec<T>) -> Rows<T> {
    stream::once(async { Ok(rows) }).boxed()
}

/// What is before and after the rows.
pub(super) struct Frame {
    begin: String,
    end: &'static str,
}

impl Frame {
    /// An object with the position and the rows as `items`.
    pub(super) fn object(header: Header) -> Self {
        Self::object_with(header, "")
    }

    /// The same with further fields, each with a comma behind it.
    pub(super) fn object_with(header: Header, fields: &str) -> Self {
        Self {
            begin: format!(
                r#"{{"revision":{},"keyspace_id":"{}",{fields}"items":["#,
                header.revision, header.keyspace
            ),
            end: "\n]}\n",
        }
    }

    /// The rows alone.
    pub(super) fn array() -> Self {
        Self {
            begin: "[".to_owned(),
            end: "\n]\n",
        }
    }
}

/// The answer: a line for each row.
///
/// # Errors
/// Those of the first rows; what fails later breaks the answer off.
pub(super) async fn answer<T>(header: Header, frame: Frame, mut rows: Rows<T>) -> Result<Response, Error>
where
    T: Serialize + Send + 'static,
{
    let first = rows.next().await.transpose()?.unwrap_or_default();
    let sending = Sending {
        piece: frame.begin.into_bytes(),
        end: frame.end,
        separator: "\n",
        waiting: first.into_iter(),
        rows: Some(rows),
    };
    let body = Body::from_stream(stream::unfold(sending, Sending::next));
    Ok(json(header, body))
}

/// A response of JSON, with what it is true of.
fn json(of: Header, body: impl Into<Body>) -> Response {
    let mut response = (StatusCode::OK, body.into()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in [
        ("tidewatch-revision", of.revision.to_string()),
        ("tidewatch-keyspace-id", of.keyspace.to_string()),
    ] {
        // Numbers are fit for headers.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

struct Sending<T> {
    piece: Vec<u8>,
    end: &'static str,
    /// Before the next row.
    separator: &'static str,
    waiting: std::vec::IntoIter<T>,
    /// None: everything is sent.
    rows: Option<Rows<T>>,
}

/// Why a list broke off.
#[derive(Debug)]
struct BrokenOff(String);

impl<T: Serialize> Sending<T> {
    async fn next(mut self) -> Option<(Result<Bytes, BrokenOff>, Self)> {
        loop {
            let rows = self.rows.as_mut()?;
            for row in self.waiting.by_ref() {
                self.piece.extend(self.separator.as_bytes());
                self.separator = ",\n";
                if let Err(error) = serde_json::to_writer(&mut self.piece, &row) {
                    return Some(self.broken_off(&error));
                }
                if self.piece.len() >= PIECE_BYTES {
                    let piece = std::mem::take(&mut self.piece);
                    return Some((Ok(piece.into()), self));
                }
            }
            match rows.next().await {
                Some(Ok(more)) => self.waiting = more.into_iter(),
                Some(Err(error)) => return Some(self.broken_off(&error)),
                None => {
                    self.rows = None;
                    let mut last = std::mem::take(&mut self.piece);
                    last.extend(self.end.as_bytes());
                    return Some((Ok(last.into()), self));
                }
            }
        }
    }

    fn broken_off(mut self, why: &dyn fmt::Display) -> (Result<Bytes, BrokenOff>, Self) {
        self.rows = None;
        tracing::warn!(%why, "a list breaks off");
        (Err(BrokenOff(why.to_string())), self)
    }
}

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the list breaks off: {}", self.0)
    }
}

impl std::error::Error for BrokenOff {}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tidewatch_core::{KeyspaceId, Revision};

    use super::*;

    const HEADER: Header = Header {
        keyspace: KeyspaceId(9),
        revision: Revision(7),
    };

    async fn text(rows: Rows<u32>) -> String {
        let response = answer(HEADER, Frame::object(HEADER), rows).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_list_has_a_line_for_each_row_and_is_json_however_it_came() {
        for (chunks, items) in [
            (vec![], "\n]}\n"),
            (vec![vec![]], "\n]}\n"),
            (vec![vec![1], vec![], vec![2, 3]], "\n1,\n2,\n3\n]}\n"),
        ] {
            let rows = stream::iter(chunks.into_iter().map(Ok)).boxed();
            let expected = format!(r#"{{"revision":7,"keyspace_id":"0000000000000009","items":[{items}"#);
            let text = text(rows).await;
            assert_eq!(text, expected);
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
    }

    #[tokio::test]
    async fn a_long_list_is_sent_in_pieces() {
        let rows = stream::iter((0..10).map(|_| Ok(vec![u32::MAX; 1000]))).boxed();
        let response = answer(HEADER, Frame::array(), rows).await.unwrap();
        let mut pieces = response.into_body().into_data_stream();
        let mut sizes = Vec::new();
        while let Some(piece) = pieces.next().await {
            sizes.push(piece.unwrap().len());
        }
        assert!(
            sizes.len() > 2 && sizes.iter().all(|size| *size < PIECE_BYTES + 100),
            "{sizes:?}"
        );
    }

    #[tokio::test]
    async fn a_list_that_fails_on_the_way_breaks_off_and_one_that_fails_at_once_is_an_error() {
        let fails = || Err(Error::Keyspace(tidewatch_core::Error::Closed));
        let rows = stream::iter([Ok(vec![1]), fails()]).boxed();
        let response = answer(HEADER, Frame::array(), rows).await.unwrap();
        assert!(response.into_body().collect().await.is_err());
        let rows: Rows<u32> = stream::iter([fails()]).boxed();
        let error = answer(HEADER, Frame::array(), rows).await.unwrap_err();
        assert!(
            matches!(error, Error::Keyspace(tidewatch_core::Error::Closed)),
            "{error}"
        );
    }
}
