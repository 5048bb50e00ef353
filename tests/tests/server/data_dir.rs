//! Data directories that cannot be used, and what is said then.

use std::error::Error as _;
use std::os::unix::fs::PermissionsExt;

use tidewatch_proto::v1;
use tidewatch_server::{Config, Error, ErrorClass, serve};
use tidewatch_sqlite::Error as Database;

use crate::rig::{TestServer, config, key, put, watch};

#[tokio::test]
async fn a_second_server_on_a_data_directory_is_refused_and_the_first_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        data_dir: Some(dir.path().into()),
        ..config()
    };
    let first = TestServer::with(config.clone()).await;
    let error = serve(config.clone(), std::future::pending()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Failed);
    let Error::Database {
        source: Database::InUse { holder, .. },
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(*holder, Some(std::process::id()));
    first.keyspace().await.put(put("/a", "1")).await.unwrap();
    first.stop().await.unwrap();
    TestServer::with(config).await.stop().await.unwrap();
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_used_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(
        foreign.join("tidewatch.db"),
        "this is no database, whatever its name says",
    )
    .unwrap();
    for (path, hint) in [
        (file.clone(), "is not a directory"),
        (file.join("below"), "not a directory"),
        (foreign, "not a database"),
    ] {
        let config = Config {
            data_dir: Some(path),
            ..config()
        };
        let error = serve(config, std::future::pending()).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Failed);
        let text = format!("{error}: {}", error.source().unwrap());
        assert!(text.contains(hint), "{text}");
    }
}

#[tokio::test]
async fn an_unwritable_data_directory_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let locked = dir.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, PermissionsExt::from_mode(0o500)).unwrap();
    if std::fs::write(locked.join("probe"), "").is_ok() {
        eprintln!("SKIPPED: this user may write everywhere");
        return;
    }
    let config = Config {
        data_dir: Some(locked.join("data")),
        ..config()
    };
    let error = serve(config, std::future::pending()).await.unwrap_err();
    let Error::Database { source, .. } = error else {
        panic!("{error}")
    };
    assert!(matches!(source, Database::Unwritable { .. }), "{source}");
}

#[tokio::test]
async fn what_was_written_before_a_drain_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        data_dir: Some(dir.path().into()),
        ..config()
    };
    let mut server = TestServer::with(config.clone()).await;
    let clients = futures_util::future::join_all((0..8).map(|_| server.keyspace())).await;
    let writers = clients.into_iter().enumerate().map(|(n, mut client)| {
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for i in 0.. {
                let name = format!("/w/{n}/{i}");
                match client.put(put(&name, "x")).await {
                    Ok(response) => acknowledged.push((name, response.into_inner().header.unwrap().revision)),
                    Err(_) => break,
                }
            }
            acknowledged
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut watching = server.watch(watch(key("/w/0/20"))).await;
    watching.created().await;
    watching.events().await;
    server.drain();
    server.ended().await.unwrap();

    let server = TestServer::with(config).await;
    let mut client = server.keyspace().await;
    for writer in writers {
        let acknowledged = writer.await.unwrap();
        assert!(!acknowledged.is_empty());
        for (name, revision) in acknowledged {
            let request = v1::GetRequest {
                key: name.clone().into(),
                ..v1::GetRequest::default()
            };
            let kv = client.get(request).await.unwrap().into_inner().kv;
            assert_eq!(
                kv.map(|kv| kv.mod_revision),
                Some(revision),
                "{name} was acknowledged"
            );
        }
    }
}
