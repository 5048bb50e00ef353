//! A disk that is full: a small tmpfs, which only root can mount.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use tidewatch_core::journal::{Entry, Journal};
use tidewatch_core::{Event, KeyValue, Record, Revision};
use tidewatch_sqlite::{Error, Existing, SqliteJournal};

use crate::child;
use crate::model::{named, reopen};

/// A small file system that is unmounted when the test ends, however it ends.
pub(crate) struct Disk {
    mount_point: tempfile::TempDir,
}

impl Disk {
    /// None, after saying so, where nothing can be mounted.
    pub(crate) fn mount(test: &str, mebibytes: u32) -> Option<Self> {
        let mount_point = tempfile::tempdir().unwrap();
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
            .arg(mount_point.path())
            .output();
        match output {
            Ok(output) if output.status.success() => Some(Self { mount_point }),
            Ok(output) => {
                child::not_run(
                    test,
                    &format!("mount failed: {}", String::from_utf8_lossy(&output.stderr).trim()),
                );
                None
            }
            Err(error) => {
                child::not_run(test, &format!("mount is missing ({error})"));
                None
            }
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.mount_point.path().join(name)
    }

    pub(crate) fn make_read_only(&self) {
        let mut command = Command::new("mount");
        command.args(["-o", "remount,ro"]).arg(self.mount_point.path());
        assert!(command.status().unwrap().success());
    }

    /// Takes up all the room there is, less so many KiB.
    fn fill(&self, but_kib: u64) -> Ballast {
        let path = self.path("ballast");
        let mut file = fs::File::create(&path).unwrap();
        let mut size = 0;
        while file.write_all(&[1; 4096]).is_ok() {
            size += 4096;
        }
        file.set_len(size - but_kib * 1024).unwrap();
        Ballast(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.mount_point.path()).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "the tmpfs is still mounted"
        );
    }
}

struct Ballast(PathBuf);

impl Ballast {
    fn throw_off(self) {
        fs::remove_file(self.0).unwrap();
    }
}

/// One new key of 16 KiB.
fn group(revision: u64) -> Vec<Entry> {
    let kv = KeyValue {
        key: Bytes::from(format!("/k/{revision}")),
        value: vec![b'v'; 16 << 10].into(),
        create_revision: Revision(revision),
        mod_revision: Revision(revision),
        version: 1,
        lease: None,
    };
    vec![Entry::Record(Arc::new(Record {
        revision: Revision(revision),
        time: None,
        events: [Event::put(kv, None)].into(),
    }))]
}

/// Commits until the disk is full, and returns the last revision that was acknowledged.
async fn commit_until_full(journal: &mut SqliteJournal, mut revision: u64) -> u64 {
    loop {
        match journal.commit(group(revision + 1)).await {
            Ok(()) => revision += 1,
            Err(cause) => {
                assert!(matches!(named(&cause), Error::DiskFull { .. }), "{cause:?}");
                return revision;
            }
        }
    }
}

#[track_caller]
fn assert_holds(recovered: &tidewatch_core::Recovered, revision: u64) {
    assert_eq!(recovered.revision, Revision(revision));
    let revisions: Vec<_> = recovered.records.iter().map(|record| record.revision.0).collect();
    assert_eq!(revisions, (2..=revision).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_full_disk_fails_commits_by_name_and_they_work_again_when_there_is_room() {
    let Some(disk) = Disk::mount("commits on a full disk", 4) else {
        return;
    };
    let data = disk.path("data");
    let mut journal = SqliteJournal::open(&data).unwrap();
    let ballast = disk.fill(1024);
    let acknowledged = commit_until_full(&mut journal, 1).await;
    assert!(acknowledged > 4, "there was room for {acknowledged}");
    for _ in 0..3 {
        let cause = journal.commit(group(acknowledged + 1)).await.unwrap_err();
        assert!(matches!(named(&cause), Error::DiskFull { .. }), "{cause:?}");
    }
    // What was acknowledged can still be read, and copied elsewhere.
    assert_holds(&journal.recover().await.unwrap(), acknowledged);
    let elsewhere = tempfile::tempdir().unwrap();
    let made = journal
        .handle()
        .backup(elsewhere.path().join("backup.db"), Existing::Refuse)
        .await
        .unwrap();
    assert_eq!(made.revision, Revision(acknowledged));
    // But not to the full disk, and nothing of the attempt is left there.
    let error = journal
        .handle()
        .backup(disk.path("backup.db"), Existing::Refuse)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
    assert_eq!(
        fs::read_dir(disk.path("")).unwrap().count(),
        2,
        "the data and the ballast"
    );

    ballast.throw_off();
    for revision in acknowledged + 1..acknowledged + 5 {
        journal.commit(group(revision)).await.unwrap();
    }
    drop(journal);
    assert_holds(&reopen(&data).await, acknowledged + 4);
}

#[tokio::test]
async fn a_process_that_dies_on_a_full_disk_loses_nothing_and_brings_nothing_back() {
    let Some(disk) = Disk::mount("a crash on a full disk", 4) else {
        return;
    };
    let data = disk.path("data");
    drop(SqliteJournal::open(&data).unwrap());
    let ballast = disk.fill(1024);
    let mut command = Command::new(child::this_binary());
    child::prepare(&mut command, "full_disk::writer", &data, "write", 0);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let acknowledged = said.lines().find_map(|line| line.strip_prefix("acknowledged "));
    let acknowledged: u64 = acknowledged
        .expect("the child says so before it dies")
        .parse()
        .unwrap();
    ballast.throw_off();
    assert_holds(&reopen(&data).await, acknowledged);
}

#[tokio::test]
#[ignore = "the main function of a process that dies on a full disk"]
async fn writer() {
    let Some(orders) = child::orders() else { return };
    let mut journal = SqliteJournal::open(&orders.dir).unwrap();
    let acknowledged = commit_until_full(&mut journal, 1).await;
    child::say(&format!("acknowledged {acknowledged}"));
    std::process::abort();
}

#[test]
fn a_new_journal_on_a_full_disk_is_refused_by_name() {
    let Some(disk) = Disk::mount("opening on a full disk", 1) else {
        return;
    };
    let _ballast = disk.fill(0);
    assert_full(
        SqliteJournal::open(disk.path("data")).map(drop),
        &disk.path("data"),
    );
}

#[track_caller]
fn assert_full(result: Result<(), Error>, dir: &Path) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains(dir.to_str().unwrap()) && text.ends_with("is full; free some space"),
        "{text}"
    );
}
