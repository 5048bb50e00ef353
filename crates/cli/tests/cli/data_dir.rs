//! Data directories that cannot be used: a clear error, and nothing touched.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::program::{Done, Running};
use crate::server::{Server, serve};

#[track_caller]
fn assert_refused(data_dir: &Path, message: &str) -> Done {
    let done = Running::start(&mut serve("127.0.0.1:0", data_dir)).finish();
    assert_eq!(done.code, Some(1), "{done:?}");
    assert_eq!(done.text(), "");
    let error = done.stderr.lines().find(|line| line.starts_with("error: "));
    let error = error.unwrap_or_else(|| panic!("no error in {done:?}"));
    assert!(error.contains(message), "no {message:?} in {error:?}");
    assert!(error.contains(data_dir.to_str().unwrap()), "no path in {error:?}");
    assert!(!done.stderr.contains("panicked"), "{done:?}");
    done
}

fn database(dir: &Path) -> PathBuf {
    dir.join("tidewatch.db")
}

#[test]
fn a_file_in_the_place_of_the_directory() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("data");
    fs::write(&file, "mine").unwrap();
    assert_refused(&file, "director");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn a_place_where_nobody_can_write() {
    // Nobody, not even root, makes files there.
    assert_refused(Path::new("/proc/tidewatch"), "");
}

#[test]
fn a_file_that_is_no_database() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("data");
    drop(Server::start_in(&path));
    let database = database(&path);
    for extra in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{extra}", database.display()));
    }
    let nonsense = b"this is a diary, not a database. ".repeat(200);
    fs::write(&database, &nonsense).unwrap();
    assert_refused(&path, "not a database");
    assert_eq!(fs::read(&database).unwrap(), nonsense);
}

/// Changes four bytes of a database's header.
fn patch_header(database: &Path, offset: usize, bytes: [u8; 4]) {
    let mut content = fs::read(database).unwrap();
    content[offset..offset + 4].copy_from_slice(&bytes);
    fs::write(database, content).unwrap();
}

/// Where a database's header has the version of its format, and whose it is (<https://sqlite.org/fileformat.html>).
const USER_VERSION: usize = 60;
const APPLICATION_ID: usize = 68;

#[test]
fn a_database_of_a_newer_version() {
    let mut server = Server::start();
    server.put("/k", "v");
    server.terminate();
    patch_header(&database(server.data_dir()), USER_VERSION, [0, 0, 3, 231]);
    assert_refused(server.data_dir(), "format 999");
}

#[test]
fn a_database_of_another_program() {
    let mut server = Server::start();
    server.terminate();
    patch_header(&database(server.data_dir()), APPLICATION_ID, [0, 0, 0, 42]);
    assert_refused(server.data_dir(), "another program");
}

#[test]
fn a_damaged_database_keeps_its_bytes() {
    let mut server = Server::start();
    for number in 0..50 {
        server.put(&format!("/k/{number}"), &"v".repeat(1000));
    }
    server.terminate();
    let path = database(server.data_dir());
    let mut content = fs::read(&path).unwrap();
    let half = content.len() / 2;
    content[half..].fill(0xff);
    fs::write(&path, &content).unwrap();
    assert_refused(server.data_dir(), "damaged");
    assert_eq!(fs::read(&path).unwrap(), content);
}

#[test]
fn a_second_server_on_the_same_directory() {
    let server = Server::start();
    server.put("/k", "v");
    assert_refused(server.data_dir(), "in use");
    assert_eq!(server.run(&["get", "/k"]).text(), "v");
}

#[test]
fn a_port_that_is_used() {
    let server = Server::start();
    let dir = TempDir::new().unwrap();
    let done = Running::start(&mut serve(&server.address().to_string(), dir.path())).finish();
    assert_eq!(done.code, Some(1), "{done:?}");
    let expected = format!("{} is in use", server.address());
    assert!(done.stderr.contains(&expected), "{done:?}");
}

/// A file system of this size; none if the test may not make one. It goes when this is dropped.
struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { dir }),
            other => {
                let required = std::env::var("TIDEWATCH_LIVE_REQUIRED").is_ok_and(|value| value == "1");
                assert!(!required, "a small tmpfs cannot be mounted: {other:?}");
                let why =
                    format!("NOT RUN: a full disk, because a small tmpfs cannot be mounted: {other:?}\n");
                std::io::stderr().write_all(why.as_bytes()).unwrap();
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.dir.path()).output();
    }
}

#[test]
fn a_full_disk_refuses_writes_and_keeps_what_was_acknowledged_readable() {
    let Some(disk) = SmallDisk::mount("4m") else {
        return;
    };
    let data_dir = disk.dir.path().join("data");
    let mut server = Server::start_in(&data_dir);
    let value = "x".repeat(100_000);
    let mut acknowledged = 0;
    let refused = loop {
        assert!(acknowledged < 100, "ten megabytes do not fit on a disk of four");
        let put = server.run(&["put", &format!("/k/{acknowledged:03}"), &value]);
        if put.code != Some(0) {
            break put;
        }
        acknowledged += 1;
    };
    assert!(acknowledged > 0);
    assert!(matches!(refused.code, Some(1 | 4)), "{refused:?}");
    assert!(refused.stderr.contains("full"), "{refused:?}");
    for _ in 0..2 {
        let listed = server.json(&["ls", "/k/"]).lines();
        assert_eq!(listed.len(), acknowledged);
        assert!(listed.iter().all(|line| line["value"] == *value));
        // After a restart it is the same.
        server.crash_and_restart();
    }
    drop(server);
}
