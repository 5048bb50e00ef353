//! Pages of others, in the browser of somebody who can reach the server.

use hyper::{Request, StatusCode};
use tidewatch_proto::v1::keyspace_client::KeyspaceClient;
use tidewatch_server::Config;
use tonic::Code;
use tonic::metadata::MetadataValue;

use crate::rig::{TestServer, config, put};

const PROBLEM: &str = "application/problem+json";

#[tokio::test]
async fn a_page_of_another_origin_is_refused_everywhere_and_one_of_ours_is_not() {
    let server = TestServer::start().await;
    let addr = server.addr;
    for path in ["/healthz", "/metrics", "/api/v1/containers", "/nowhere"] {
        for (name, value) in [
            ("origin", "http://evil.example".to_owned()),
            ("origin", "null".to_owned()),
            ("origin", format!("http://localhost:{}", addr.port() ^ 1)),
            ("sec-fetch-site", "cross-site".to_owned()),
        ] {
            let request = Request::get(format!("http://{addr}{path}")).header(name, &value);
            let (status, content_type, body) = server.request(request).await;
            assert_eq!(
                (status, content_type.as_str()),
                (StatusCode::FORBIDDEN, PROBLEM),
                "{path} {name}: {value}"
            );
            assert!(body.contains("may not ask this server"), "{body}");
        }
    }
    for (name, value) in [
        ("origin", format!("http://{addr}")),
        ("sec-fetch-site", "same-origin".to_owned()),
    ] {
        let request = Request::get(format!("http://{addr}/api/v1/hosts")).header(name, value);
        assert_eq!(server.request(request).await.0, StatusCode::OK, "{name}");
    }
    let (.., metrics) = server.get("/metrics").await;
    assert!(
        metrics.contains("tidewatch_server_requests_refused_total 16\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_name_that_the_server_was_given_is_its_own_and_so_are_its_pages() {
    let server = TestServer::with(Config {
        allowed_hosts: vec!["tw.example".into()],
        ..config()
    })
    .await;
    let url = format!("http://{}/api/v1/hosts", server.addr);
    for (host, origin, expected) in [
        ("tw.example", None, StatusCode::OK),
        ("tw.example", Some("https://tw.example"), StatusCode::OK),
        ("localhost", Some("https://tw.example"), StatusCode::OK),
        ("tw.example", Some("https://evil.example"), StatusCode::FORBIDDEN),
        ("evil.example", None, StatusCode::MISDIRECTED_REQUEST),
    ] {
        let mut request = Request::get(&url).header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let (status, ..) = server.request(request).await;
        assert_eq!(status, expected, "{host} {origin:?}");
    }
}

#[tokio::test]
async fn a_grpc_call_from_a_page_of_another_origin_is_refused_and_writes_nothing() {
    let server = TestServer::start().await;
    let from = |origin: String| {
        let origin: MetadataValue<_> = origin.parse().unwrap();
        move |mut request: tonic::Request<()>| {
            request.metadata_mut().insert("origin", origin.clone());
            Ok(request)
        }
    };
    let channel = server.channel().await;
    let mut theirs = KeyspaceClient::with_interceptor(channel.clone(), from("http://evil.example".into()));
    let error = theirs.put(put("/a", "1")).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied, "{error}");
    let mut ours = KeyspaceClient::with_interceptor(channel, from(format!("http://{}", server.addr)));
    let revision = ours.put(put("/a", "1")).await.unwrap().into_inner();
    assert_eq!(revision.header.unwrap().revision, 2, "nothing was written before");
}
