//! `/api/v1`: the fleet over HTTP.

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tidewatch_proto::v1;

use crate::fleet::{Fleet, container};
use crate::rig::{SMALL_WINDOW, TestServer, prefix, put, within, without_docker_at};

const PROBLEM: &str = "application/problem+json";

async fn get(server: &TestServer, path: &str) -> Value {
    let (status, content_type, body) = server.get(path).await;
    assert_eq!(
        (status, content_type.as_str()),
        (StatusCode::OK, "application/json"),
        "{path}: {body}"
    );
    serde_json::from_str(&body).unwrap()
}

/// The names of the rows in an answer.
async fn rows(server: &TestServer, path: &str) -> Vec<String> {
    let answer = get(server, path).await;
    let items = answer["items"].as_array().unwrap().iter();
    items.map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn containers_are_the_joined_rows_with_the_fields_of_ps() {
    let fleet = Fleet::with_shop().await;
    fleet
        .put("/deploy/shop/web", &json!({"image_tag": "7", "color": "blue"}))
        .await;
    let last = fleet
        .put("/deploy/shop/new", &json!({"role": "web", "host": "h2"}))
        .await;
    let answer = get(&fleet.server, "/api/v1/containers").await;
    assert_eq!(answer["revision"], last);
    let items = answer["items"].as_array().unwrap();
    let shown: Vec<_> = items
        .iter()
        .map(|row| (row["row"].as_str().unwrap(), row["state"].as_str().unwrap()))
        .collect();
    assert_eq!(
        shown,
        [("db", "stopped"), ("new", "starting"), ("web", "running")]
    );
    let web = &items[2];
    assert_eq!(web["key"], "/containers/shop/h1/web");
    assert_eq!(web["mod_revision"], last - 1);
    assert_eq!(
        (&web["image_tag"], &web["color"], &web["gpu"]),
        (&"7".into(), &"blue".into(), &1.into()),
        "both halves, and fields that nobody here knows"
    );
}

#[tokio::test]
async fn containers_are_filtered() {
    let fleet = Fleet::with_shop().await;
    let mut labelled = container("api", "running");
    labelled["labels"] = json!({"com.docker.compose.project": "blog", "tidewatch.role": "api"});
    fleet.put("/containers/shop/h1/api", &labelled).await;
    let server = &fleet.server;
    for (query, found) in [
        ("", &["shop:api", "shop:db", "shop:web"][..]),
        ("?workload=shop&state=running", &["shop:api", "shop:web"]),
        ("?workload=other", &[]),
        ("?host=h1&role=db", &["shop:db"]),
        ("?host=h2", &[]),
        ("?state=stopped", &["shop:db"]),
        ("?label=com.docker.compose.project%3Dblog", &["shop:api"]),
        (
            "?label=com.docker.compose.project&label=tidewatch.role=api",
            &["shop:api"],
        ),
        ("?label=com.docker.compose.project=shop", &[]),
        ("?untracked=false&role=db", &["shop:db"]),
    ] {
        let path = format!("/api/v1/containers{query}");
        assert_eq!(rows(server, &path).await, found, "{query}");
    }
}

/// What is read at a time, roughly: a workload of so many rows is read before the first of them is sent, and the
/// workloads behind it are not.
const READ_AT_ONCE: usize = 4000;

/// A fleet that is read in several steps: a large workload, and another one behind it.
async fn large_fleet() -> Fleet {
    const AT_A_TIME: usize = 100;
    let fleet = Fleet::start().await;
    let mut keyspace = fleet.server.keyspace().await;
    for (workload, rows) in [("large", READ_AT_ONCE), ("later", 2 * AT_A_TIME)] {
        for some in 0..rows / AT_A_TIME {
            let row = |n| {
                let mut row = container("web", "running");
                row["id"] = format!("{workload}:web.{n}").into();
                row["workload_id"] = workload.into();
                let put = put(&format!("/containers/{workload}/h1/web.{n}"), row.to_string());
                v1::Op {
                    op: Some(v1::op::Op::Put(put)),
                }
            };
            let txn = v1::TxnRequest {
                then: (some * AT_A_TIME..(some + 1) * AT_A_TIME).map(row).collect(),
                ..v1::TxnRequest::default()
            };
            keyspace.txn(txn).await.unwrap();
        }
    }
    fleet
}

/// An answer to a client that lets only a little be sent ahead of its reading.
async fn begun(server: &TestServer) -> hyper::Response<hyper::body::Incoming> {
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .http2_initial_stream_window_size(SMALL_WINDOW)
        .build_http::<Empty<Bytes>>();
    let url = format!("http://{}/api/v1/containers?role=web", server.addr);
    client.get(url.parse().unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_large_fleet_comes_whole_in_one_answer_of_one_revision() {
    let fleet = large_fleet().await;
    let response = begun(&fleet.server).await;
    fleet.delete(prefix("/containers/later/")).await;
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["items"].as_array().unwrap().len(), READ_AT_ONCE + 200);
    let left = get(&fleet.server, "/api/v1/containers?workload=later").await;
    assert_eq!(left["items"], json!([]));
}

#[tokio::test]
async fn an_answer_that_compaction_overtakes_breaks_off() {
    let fleet = large_fleet().await;
    let response = begun(&fleet.server).await;
    let revision = fleet.put("/config/a", &json!(1)).await;
    let mut keyspace = fleet.server.keyspace().await;
    keyspace.compact(v1::CompactRequest { revision }).await.unwrap();
    let mut body = response.into_body();
    let failed = within("the end of the answer", async {
        loop {
            match body.frame().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error,
                None => panic!("it came to its end"),
            }
        }
    });
    failed.await;
}

#[tokio::test]
async fn workloads_are_listed_as_they_were_declared() {
    let mut fleet = Fleet::start().await;
    let answer = get(&fleet.server, "/api/v1/workloads").await;
    assert_eq!((&answer["items"], &answer["revision"]), (&json!([]), &json!(1)));
    for id in ["shop", "blog"] {
        let workload = json!({"id": id, "kind": "stack", "expect": {"web": {"min": 2}}, "owner": "me"});
        fleet.declare(&workload).await;
    }
    fleet.put("/workloads/wrong", &json!({})).await;
    let answer = get(&fleet.server, "/api/v1/workloads").await;
    let items = answer["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    let blog = &items[0];
    assert_eq!(
        (&blog["key"], &blog["id"], &blog["mod_revision"]),
        (&"/workloads/blog".into(), &"blog".into(), &3.into())
    );
    assert_eq!(
        (&blog["expect"], &blog["owner"]),
        (&json!({"web": {"min": 2}}), &json!("me"))
    );
}

#[tokio::test]
async fn hosts_are_listed_with_what_is_known_beyond_their_keys() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::with(without_docker_at(dir.path())).await;
    let host = json!({"daemon_id": "d1", "reachable": true, "address": "10.0.0.9"}).to_string();
    server
        .keyspace()
        .await
        .put(put("/hosts/other", host))
        .await
        .unwrap();
    within("the error of the lonely host", async {
        loop {
            let answer = get(&server, "/api/v1/hosts").await;
            let items = answer["items"].as_array().unwrap();
            let names: Vec<_> = items.iter().map(|host| host["host"].as_str().unwrap()).collect();
            assert_eq!(names, ["lonely", "other"]);
            let other = &items[1];
            assert_eq!(
                (&other["key"], &other["address"], &other["alive"]),
                (&"/hosts/other".into(), &"10.0.0.9".into(), &false.into())
            );
            if items[0]["error"].as_str().unwrap().contains("docker.sock") {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_log_tells_what_changed_between_two_times() {
    let fleet = Fleet::with_shop().await;
    fleet
        .put("/containers/shop/h1/web", &container("web", "stopped"))
        .await;
    fleet.put("/deploy/other/web", &json!({})).await;
    let all = get(&fleet.server, "/api/v1/log?since=1h").await;
    let items = all["items"].as_array().unwrap();
    assert_eq!(items.len(), 7);
    assert_eq!(all["more"], false);
    let stopped = &items[5];
    assert_eq!(stopped["message"], "shop/web on h1: running → stopped");
    assert_eq!(
        (
            &stopped["type"],
            &stopped["workload"],
            &stopped["host"],
            &stopped["row"]
        ),
        (&"put".into(), &"shop".into(), &"h1".into(), &"web".into())
    );
    assert_eq!(
        (&stopped["state_before"], &stopped["state_after"]),
        (&"running".into(), &"stopped".into())
    );
    assert_eq!(
        (&stopped["value"]["state"], &stopped["prev_value"]["state"]),
        (&"stopped".into(), &"running".into())
    );

    let time = stopped["time"].as_str().unwrap();
    for (query, expected) in [
        ("?workload=shop", 4),
        ("?workload=shop&limit=1", 1),
        ("?until=2020-01-01T00:00:00Z", 0),
        ("?since=2020-01-01T00:00:00Z&until=2100-01-01T00:00:00Z", 7),
        ("?since=2100-01-01T00:00:00Z", 0),
    ] {
        let answer = get(&fleet.server, &format!("/api/v1/log{query}")).await;
        assert_eq!(answer["items"].as_array().unwrap().len(), expected, "{query}");
        assert_eq!(answer["more"], query.contains("limit"), "{query}");
    }
    // Times are shown to the millisecond, and what was shown finds its entry again; so does the whole second that
    // `tidewatch log` shows.
    let (second, _) = time.split_once('.').unwrap();
    for (since, until) in [(time, time), (second, second)] {
        let path = format!("/api/v1/log?since={since}&until={until}");
        let answer = get(&fleet.server, &path).await;
        let items = answer["items"].as_array().unwrap();
        assert!(items.contains(stopped), "{path}: {answer:#}");
        assert!(
            items.iter().all(|item| item["time"]
                .as_str()
                .unwrap()
                .starts_with(until.trim_end_matches('Z'))),
            "{path}: {answer:#}"
        );
    }
}

#[tokio::test]
async fn what_is_not_known_about_containers_without_a_row_is_told_beside_those_that_are() {
    let fleet = Fleet::with_shop().await;
    fleet.put("/hosts/h9", &json!({"reachable": true})).await;
    let unknown = async |query: &str| {
        let answer = get(
            &fleet.server,
            &format!("/api/v1/containers?untracked=true{query}"),
        )
        .await;
        assert_eq!(answer["items"], json!([]));
        let unknown = answer["unknown"].as_array().unwrap().iter();
        unknown
            .map(|text| text.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let of_h9 = unknown("&host=h9").await;
    assert_eq!(of_h9.len(), 1, "{of_h9:?}");
    assert!(of_h9[0].starts_with("nobody reconciles host h9"), "{of_h9:?}");
    assert!(unknown("").await.contains(&of_h9[0]));
    assert_eq!(unknown("&host=h8").await, [""; 0]);
}

#[tokio::test]
async fn every_answer_says_of_which_revision_and_keyspace_it_is() {
    let fleet = Fleet::with_shop().await;
    let server = &fleet.server;
    let mut keyspace = Vec::new();
    for path in [
        "/api/v1/containers",
        "/api/v1/containers?untracked=true",
        "/api/v1/workloads",
        "/api/v1/hosts",
        "/api/v1/log",
        "/api/v1/sd/prometheus",
    ] {
        let request = Request::get(format!("http://{}{path}", server.addr));
        let (head, body) = server.answer(request, Bytes::new()).await;
        let header = |name: &str| head.headers[name].to_str().unwrap().to_owned();
        assert_eq!(header("tidewatch-revision"), "6", "{path}");
        keyspace.push(header("tidewatch-keyspace-id"));
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("cache-control"), "no-store");
        let body: Value = serde_json::from_str(&body).unwrap();
        if body.is_object() {
            assert_eq!(
                (&body["revision"], &body["keyspace_id"]),
                (&6.into(), &keyspace[0].as_str().into()),
                "{path}"
            );
        }
    }
    assert!(
        keyspace.iter().all(|id| *id == keyspace[0] && id.len() == 16),
        "{keyspace:?}"
    );
}

#[tokio::test]
async fn a_query_that_makes_no_sense_is_a_problem_that_says_what_where_and_how_to_mend_it() {
    let server = TestServer::start().await;
    for (query, parameter, told) in [
        (
            "containers?wrokload=shop",
            "wrokload",
            "there are workload, role, host, state, label, untracked",
        ),
        (
            "containers?state=gone",
            "state",
            "must be one of starting, created, running",
        ),
        ("containers?state=Running", "state", "\"Running\" is none"),
        (
            "containers?workload=",
            "workload",
            "give it a value, or leave it out",
        ),
        (
            "containers?workload=a%20b",
            "workload",
            "' ' at byte 1 is not allowed",
        ),
        ("containers?workload=%ff", "workload", "begins with"),
        ("containers?host=h1&host=h2", "host", "more than once"),
        ("containers?role=-", "role", "begins with '-'"),
        ("containers?label==x", "label", "looks like NAME=VALUE"),
        ("containers?untracked=yes", "untracked", "`true` or `false`"),
        (
            "containers?untracked=true&role=web",
            "role",
            "leave it or untracked out",
        ),
        ("workloads?id=shop", "id", "takes no parameters"),
        ("hosts?host=h1", "host", "takes no parameters"),
        ("log?since=yesterday", "since", "it looks like `90s`, `1h`"),
        ("log?until=2026-13-01", "until", "it looks like `90s`, `1h`"),
        ("log?limit=0", "limit", "from 1 to 10000"),
        ("log?limit=10001", "limit", "from 1 to 10000"),
        ("log?limit=many", "limit", "invalid digit"),
        ("sd/prometheus?state=running", "state", "there are workload, role"),
        (
            "sd/prometheus?address=public",
            "address",
            "it is published or container",
        ),
        ("sd/prometheus?network=front", "network", "add address=container"),
        ("sd/prometheus?port=0x50", "port", "invalid digit"),
    ] {
        let (status, content_type, body) = server.get(&format!("/api/v1/{query}")).await;
        assert_eq!(
            (status, content_type.as_str()),
            (StatusCode::BAD_REQUEST, PROBLEM),
            "{query}: {body}"
        );
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["parameter"], parameter, "{query}: {body}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains(told) && detail.contains(parameter),
            "{query}: {detail}"
        );
    }
    let many = "label=a&".repeat(101);
    let (status, ..) = server.get(&format!("/api/v1/containers?{many}")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_is_sent_there_must_be_json_and_nothing_is_written_yet() {
    let server = TestServer::start().await;
    for (content_type, expected) in [
        (None, StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (Some("text/plain"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (
            Some("application/x-www-form-urlencoded"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (Some("application/json"), StatusCode::METHOD_NOT_ALLOWED),
        (
            Some("Application/JSON; charset=utf-8"),
            StatusCode::METHOD_NOT_ALLOWED,
        ),
    ] {
        let mut post = Request::post(format!("http://{}/api/v1/workloads", server.addr));
        if let Some(content_type) = content_type {
            post = post.header("content-type", content_type);
        }
        let (status, problem, _) = server.request_with(post, "{}".into()).await;
        assert_eq!(
            (status, problem.as_str()),
            (expected, PROBLEM),
            "{content_type:?}"
        );
    }
}
