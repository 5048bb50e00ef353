//! Directives over HTTP and gRPC, and what the server itself does about them.

use hyper::{Request, StatusCode};
use serde_json::{Value, json};
use tidewatch_proto::v1;
use tidewatch_proto::v1::directives_client::DirectivesClient;
use tonic::Code;

use crate::rig::{TestServer, put, within};

const SET: &str = "/api/v1/directives";

fn url(server: &TestServer, path: &str) -> String {
    format!("http://{}{path}", server.addr)
}

async fn get(server: &TestServer, path: &str) -> Value {
    let (status, content_type, body) = server.get(path).await;
    assert_eq!(
        (status, content_type.as_str()),
        (StatusCode::OK, "application/json"),
        "{body}"
    );
    serde_json::from_str(&body).unwrap()
}

async fn publish(server: &TestServer, query: &str, set: &str) -> (StatusCode, Value) {
    let request =
        Request::put(url(server, &format!("{SET}{query}"))).header("content-type", "application/json");
    let (status, _, body) = server.request_with(request, set.to_owned().into()).await;
    (status, serde_json::from_str(&body).unwrap())
}

/// Waits until the server has in force what it was told.
async fn effective(server: &TestServer, query: &str, level: &str) -> Value {
    within("the level to be in force", async {
        loop {
            let answer = get(server, &format!("{SET}/effective?{query}")).await;
            if answer["level"] == level {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn a_set_is_published_asked_and_cleared_over_http() {
    let server = TestServer::start().await;
    assert_eq!(
        get(&server, SET).await,
        json!({"revision": 0, "directives": [], "rejected": null})
    );
    let set = r#"{"directives":[{"id":"a","level":"debug","match":{"component":"http"},"flags":["dump"],"ttl_secs":600}]}"#;
    let (status, answer) = publish(&server, "", set).await;
    assert_eq!((status, &answer["published"]), (StatusCode::OK, &json!(1)));
    let revision = answer["revision"].as_u64().unwrap();

    let answer = effective(&server, "component=http&request_id=r1", "debug").await;
    let told = json!({"level": "debug", "flags": ["dump"], "directives": ["a"], "revision": revision, "stale": false});
    assert_eq!(answer, told);
    let answer = get(&server, &format!("{SET}/effective?component=jobs")).await;
    assert_eq!(
        (&answer["level"], &answer["directives"]),
        (&json!("off"), &json!([]))
    );

    let listing = get(&server, SET).await;
    assert_eq!(listing["revision"], revision);
    let directive = &listing["directives"][0];
    assert_eq!(
        (&directive["id"], &directive["expired"]),
        (&json!("a"), &json!(false))
    );
    assert!(directive["expires_at"].is_string() && directive.get("ttl_secs").is_none());

    let delete = Request::delete(url(&server, SET));
    let (status, _, body) = server.request(delete).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["cleared"]), (StatusCode::OK, &json!(true)));
    effective(&server, "component=http", "off").await;
}

#[tokio::test]
async fn a_rejected_set_is_a_problem_with_a_reason_and_a_path_and_changes_nothing() {
    let server = TestServer::start().await;
    let good = r#"{"directives":[{"id":"a","level":"debug","ttl_secs":600}]}"#;
    publish(&server, "", good).await;
    effective(&server, "", "debug").await;
    let bad = r#"{"directives":[{"id":"a","level":"debug","match":{"workload":5},"ttl_secs":600}]}"#;
    let request = Request::post(url(&server, SET)).header("content-type", "application/json; charset=utf-8");
    let (status, content_type, body) = server.request_with(request, bad.to_owned().into()).await;
    assert_eq!(
        (status, content_type.as_str()),
        (StatusCode::BAD_REQUEST, "application/problem+json")
    );
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&problem["reason"], &problem["path"], &problem["status"]),
        (
            &json!("wrong_type"),
            &json!("directives[0].match.workload"),
            &json!(400)
        )
    );
    assert_eq!(get(&server, SET).await["directives"][0]["id"], "a");
    effective(&server, "", "debug").await;

    let large = format!("{{\"directives\":[]}}{}", " ".repeat(70_000));
    let (status, problem) = publish(&server, "", &large).await;
    assert_eq!(
        (status, &problem["reason"]),
        (StatusCode::BAD_REQUEST, &json!("too_large"))
    );
    let (status, problem) = publish(&server, "", &" ".repeat((1 << 20) + 1)).await;
    assert_eq!(
        (status, &problem["detail"]),
        (
            StatusCode::PAYLOAD_TOO_LARGE,
            &json!("a set of directives has at most 65536 bytes")
        )
    );
    let form = Request::post(url(&server, SET)).header("content-type", "text/plain");
    let (status, ..) = server.request_with(form, good.to_owned().into()).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn a_set_is_replaced_only_at_the_revision_that_was_named() {
    let server = TestServer::start().await;
    let set = r#"{"directives":[]}"#;
    let (_, first) = publish(&server, "?at=0", set).await;
    let at = first["revision"].as_u64().unwrap();
    assert_eq!(publish(&server, "?at=0", set).await.0, StatusCode::CONFLICT);
    assert_eq!(
        publish(&server, &format!("?at={at}"), set).await.0,
        StatusCode::OK
    );
    assert_eq!(publish(&server, "?at=soon", set).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(publish(&server, "?if=1", set).await.0, StatusCode::BAD_REQUEST);
    let (status, _, body) = server.get(&format!("{SET}/effective?tenant=x")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        body.contains("there are host, workload, role, component, principal, request_id"),
        "{body}"
    );
}

#[tokio::test]
async fn over_grpc_a_rejection_says_why_and_what_is_not_there_is_not_found() {
    let server = TestServer::start().await;
    let mut client = DirectivesClient::new(server.channel().await);
    let json = r#"{"id":"a","level":"debug","ttl_secs":60,"hots":"h1"}"#.into();
    let error = client
        .set_directive(v1::SetDirectiveRequest { json })
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("unknown_field at hots"), "{error}");
    let id = "a".to_owned();
    let error = client
        .remove_directive(v1::RemoveDirectiveRequest { id })
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    let request = v1::PublishDirectivesRequest {
        json: r#"{"directives":[]}"#.into(),
        at_revision: Some(77),
    };
    let error = client.publish_directives(request).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    let request = v1::GetEffectiveRequest {
        subject: [("host".to_owned(), "h1".to_owned())].into(),
        request_id: String::new(),
    };
    let answer = client.get_effective(request).await.unwrap().into_inner();
    assert_eq!(
        serde_json::from_str::<Value>(&answer.json).unwrap()["level"],
        "off"
    );
}

#[tokio::test]
async fn a_set_that_was_put_raw_is_stamped_and_a_malformed_one_is_told_by_the_node() {
    let server = TestServer::start().await;
    let raw = r#"{"directives":[{"id":"raw","level":"info","ttl_secs":600}]}"#;
    let mut keyspace = server.keyspace().await;
    keyspace.put(put("/directives", raw)).await.unwrap();
    within("the set to be stamped", async {
        loop {
            let request = v1::GetRequest {
                key: "/directives".into(),
                ..v1::GetRequest::default()
            };
            let stored = keyspace.get(request).await.unwrap().into_inner().kv.unwrap();
            if String::from_utf8_lossy(&stored.value).contains("expires_at") {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;

    keyspace
        .put(put("/directives", r#"{"directives":[null]}"#))
        .await
        .unwrap();
    let mut client = DirectivesClient::new(server.channel().await);
    let node = within("the node to tell of it", async {
        loop {
            let nodes = client
                .list_directive_nodes(v1::ListDirectiveNodesRequest {})
                .await
                .unwrap();
            let nodes = nodes.into_inner().nodes;
            let node = nodes
                .first()
                .map(|row| serde_json::from_str::<Value>(&row.json).unwrap());
            if let Some(node) = node.filter(|node| !node["rejected"].is_null()) {
                return node;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(node["rejected"]["reason"], "wrong_type");
    assert_eq!(node["rejected"]["path"], "directives[0]");
    assert_eq!(node["directives"], 1, "the set before is still in force");
    effective(&server, "", "info").await;
    let shown = client
        .show_directives(v1::ShowDirectivesRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(shown.rejected.unwrap().reason, "wrong_type");
}

#[tokio::test]
async fn a_server_without_directives_writes_nothing() {
    let server = TestServer::start().await;
    let mut keyspace = server.keyspace().await;
    let first = keyspace.put(put("/a", "1")).await.unwrap().into_inner();
    assert_eq!(first.header.unwrap().revision, 2);
    let second = keyspace.put(put("/a", "2")).await.unwrap().into_inner();
    assert_eq!(second.header.unwrap().revision, 3);
}
