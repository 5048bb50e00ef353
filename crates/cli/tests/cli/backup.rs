//! `backup` and `restore`.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::program::{eventually, run, tidewatch};
use crate::server::Server;

#[test]
fn what_was_backed_up_comes_back_under_a_new_identity() {
    let server = Server::start();
    server.put("/k", "before");
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("copy.db");
    let backup = server.run(&["backup", file.to_str().unwrap()]);
    assert_eq!(backup.code, Some(0), "{backup:?}");
    server.put("/k", "after");
    let identity = |server: &Server| server.json(&["status"]).line()["keyspace_id"].clone();
    let original = identity(&server);

    let data_dir = dir.path().join("restored");
    let restored = run(tidewatch()
        .arg("restore")
        .arg(&file)
        .arg("--data-dir")
        .arg(&data_dir));
    assert_eq!(restored.code, Some(0), "{restored:?}");
    let copy = Server::start_in(&data_dir);
    assert_eq!(copy.run(&["get", "/k"]).text(), "before");
    assert_ne!(identity(&copy), original);
    // The history came along.
    let watch = copy.spawn(&["watch", "/k", "--rev", "2", "--output", "json"]);
    assert_eq!(watch.next_of_type("put")["value"], "before");
}

#[test]
fn a_backup_does_not_overwrite_and_leaves_nothing_half_done() {
    let server = Server::start();
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("copy.db");
    fs::write(&file, "precious").unwrap();
    let backup = server.run(&["backup", file.to_str().unwrap()]);
    assert_eq!(backup.code, Some(4), "{backup:?}");
    assert!(backup.stderr.contains("exists"), "{backup:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    let absent = dir.path().join("absent").join("copy.db");
    let backup = server.run(&["backup", absent.to_str().unwrap()]);
    assert_eq!(backup.code, Some(1), "{backup:?}");
    assert!(
        backup.stderr.contains(absent.parent().unwrap().to_str().unwrap()),
        "{backup:?}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn an_interrupted_backup_leaves_nothing_behind() {
    let server = Server::start();
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("copy.db");
    server.freeze();
    let mut backup = server.spawn(&["backup", file.to_str().unwrap()]);
    let left = || fs::read_dir(dir.path()).unwrap().count();
    eventually("it has begun", || left() > 0);
    backup.signal(Signal::INT);
    backup.expect_on_stderr("copy.db was not written");
    assert_eq!((backup.wait().code(), left()), (Some(1), 0));
}

#[test]
fn a_restore_replaces_nothing_unless_it_is_forced() {
    let mut server = Server::start();
    server.put("/k", "old");
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("copy.db");
    assert_eq!(server.run(&["backup", file.to_str().unwrap()]).code, Some(0));
    server.put("/k", "new");
    let data_dir = server.data_dir().to_owned();
    let restore = |force: bool| {
        let mut command = tidewatch();
        command.arg("restore").arg(&file).arg("--data-dir").arg(&data_dir);
        if force {
            command.arg("--force");
        }
        run(&mut command)
    };
    // Not below a server that runs, not even by force.
    let below = restore(true);
    assert_eq!(below.code, Some(4), "{below:?}");
    server.terminate();
    let refused = restore(false);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.stderr.contains("--force"), "{refused:?}");
    let forced = restore(true);
    assert_eq!(forced.code, Some(0), "{forced:?}");
    let restarted = Server::start_in(&data_dir);
    assert_eq!(restarted.run(&["get", "/k"]).text(), "old");
}

#[test]
fn what_is_no_backup_is_refused() {
    let dir = TempDir::new().unwrap();
    let nonsense = dir.path().join("nonsense");
    fs::write(&nonsense, "a diary ".repeat(1000)).unwrap();
    let data_dir = dir.path().join("data");
    for (file, code) in [(nonsense, 1), (dir.path().join("absent"), 5)] {
        let done = run(tidewatch()
            .arg("restore")
            .arg(&file)
            .arg("--data-dir")
            .arg(&data_dir));
        assert_eq!(done.code, Some(code), "{done:?}");
        assert!(done.stderr.contains(file.to_str().unwrap()), "{done:?}");
        assert!(!data_dir.exists());
    }
}

#[test]
fn what_is_no_backup_is_not_restored_and_called_so() {
    let dir = TempDir::new().unwrap();
    let data_dir = dir.path().join("restored");
    let restore = |file: &Path| {
        run(tidewatch()
            .arg("restore")
            .arg(file)
            .arg("--data-dir")
            .arg(&data_dir))
    };
    let absent = restore(&dir.path().join("absent.db"));
    assert_eq!(absent.code, Some(5), "{absent:?}");
    assert!(absent.stderr.contains("there is no backup"), "{absent:?}");
    let other = dir.path().join("other");
    fs::write(&other, "precious".repeat(1000)).unwrap();
    let refused = restore(&other);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("is no backup"), "{refused:?}");
}
