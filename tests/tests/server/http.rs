//! The HTTP routes, health and reflection.

use hyper::{Request, StatusCode};
use serde_json::Value;
use tidewatch_proto::v1;
use tidewatch_proto::v1::keyspace_client::KeyspaceClient;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::rig::{TestServer, put, without_docker_at};

const PROBLEM: &str = "application/problem+json";

#[tokio::test]
async fn probes_and_grpc_share_one_port() {
    let server = TestServer::start().await;
    assert_eq!(server.get("/healthz").await.0, StatusCode::OK);
    assert_eq!(server.get("/readyz").await.0, StatusCode::OK);
    server.keyspace().await.put(put("/a", "1")).await.unwrap();
}

#[tokio::test]
async fn errors_are_problem_documents() {
    let server = TestServer::start().await;
    let (status, content_type, body) = server.get("/nowhere").await;
    assert_eq!((status, content_type.as_str()), (StatusCode::NOT_FOUND, PROBLEM));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["status"], 404);
    assert_eq!(body["detail"], "there is nothing at /nowhere");

    let post = Request::post(format!("http://{}/healthz", server.addr));
    let (status, content_type, _) = server.request(post).await;
    assert_eq!(
        (status, content_type.as_str()),
        (StatusCode::METHOD_NOT_ALLOWED, PROBLEM)
    );
}

#[tokio::test]
async fn an_unknown_service_is_unimplemented() {
    let server = TestServer::start().await;
    let mut client = tonic::client::Grpc::new(server.channel().await);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = "/tidewatch.v1.Nothing/Call".parse().unwrap();
    let error = client
        .unary(tonic::Request::new(()), path, codec)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_request_for_another_host_is_refused_on_a_loopback_listener() {
    let server = TestServer::start().await;
    let rebound = Request::get(format!("http://{}/metrics", server.addr)).header("host", "evil.example");
    let (status, content_type, body) = server.request(rebound).await;
    assert_eq!(
        (status, content_type.as_str()),
        (StatusCode::MISDIRECTED_REQUEST, PROBLEM)
    );
    assert!(body.contains("evil.example"), "{body}");

    let origin = "http://evil.example".parse().unwrap();
    let channel = server.endpoint().origin(origin).connect().await.unwrap();
    let error = KeyspaceClient::new(channel)
        .put(put("/a", "1"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    let (.., metrics) = server.get("/metrics").await;
    assert!(
        metrics.contains("tidewatch_server_requests_refused_total 2\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn what_a_web_page_may_send_without_asking_reaches_no_grpc_service() {
    let server = TestServer::start().await;
    // A put of `1` to `/a`, in gRPC's frame.
    let body = b"\0\0\0\0\x07\x0a\x02/a\x12\x011";
    for content_type in [None, Some("text/plain"), Some("multipart/form-data; boundary=x")] {
        let uri = format!("http://{}/tidewatch.v1.Keyspace/Put", server.addr);
        let mut post = Request::post(uri);
        if let Some(content_type) = content_type {
            post = post.header("content-type", content_type);
        }
        let (status, answered, _) = server.request_with(post, body.as_slice().into()).await;
        assert_eq!(
            (status, answered.as_str()),
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, PROBLEM),
            "{content_type:?}"
        );
    }
    let read = v1::GetRequest {
        key: "/a".into(),
        ..v1::GetRequest::default()
    };
    let read = server.keyspace().await.get(read).await.unwrap().into_inner();
    assert!(read.kv.is_none(), "{read:?}");
}

#[tokio::test]
async fn the_metrics_are_the_documented_ones() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::with(without_docker_at(dir.path())).await;
    server.keyspace().await.put(put("/a", "1")).await.unwrap();
    let expecting = r#"{"id":"shop","kind":"stack","expect":{"web":{"min":2}}}"#;
    server
        .keyspace()
        .await
        .put(put("/workloads/shop", expecting))
        .await
        .unwrap();
    let (status, _, text) = server.get("/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        text.contains(r#"tidewatch_workload_missing{workload="shop",role="web"} 2"#),
        "{text}"
    );
    let mut kinds: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    kinds.sort_unstable();
    insta::assert_snapshot!(kinds.join("\n"));

    let documented = include_str!("../../../docs/metrics.md");
    for kind in kinds {
        let (name, kind) = kind.split_once(' ').unwrap();
        let name = if kind == "counter" {
            format!("{name}_total")
        } else {
            name.to_owned()
        };
        assert!(
            documented.contains(&format!("| `{name}` |")),
            "{name} is not in docs/metrics.md"
        );
    }
}

#[tokio::test]
async fn paths_that_callers_make_up_do_not_become_labels() {
    let server = TestServer::start().await;
    for n in 0..3 {
        server.get(&format!("/made-up-{n}")).await;
        server.get(&format!("/tidewatch.v1.Keyspace/made-up-{n}")).await;
    }
    server.keyspace().await.put(put("/a", "1")).await.unwrap();
    let (.., text) = server.get("/metrics").await;
    assert!(!text.contains("made-up"), "{text}");
    assert!(
        text.contains(r#"tidewatch_server_requests_total{face="http",method="other",code="404"} 3"#),
        "{text}"
    );
    assert!(
        text.contains(
            r#"tidewatch_server_requests_total{face="grpc",method="/tidewatch.v1.Keyspace/Put",code="0"} 1"#
        ),
        "{text}"
    );
}

#[tokio::test]
async fn health_says_serving_for_the_server_and_each_service() {
    let server = TestServer::start().await;
    let mut health = HealthClient::new(server.channel().await);
    for service in [
        "",
        "tidewatch.v1.Keyspace",
        "tidewatch.v1.Watch",
        "tidewatch.v1.Fleet",
        "tidewatch.v1.Admin",
    ] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status().as_str_name(), "SERVING", "{service}");
    }
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let server = TestServer::start().await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(server.channel().await);
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for name in ["Keyspace", "Watch", "Fleet", "Admin"] {
        assert!(names.contains(&format!("tidewatch.v1.{name}")), "{names:?}");
    }
    assert!(names.contains(&"grpc.health.v1.Health".to_owned()), "{names:?}");
}
