//! Directories and databases that must not be touched, and what people are told.

use std::fs;
#[cfg(unix)]
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;
use tidewatch_core::journal::Journal;
use tidewatch_sqlite::{Error, SqliteJournal};

use crate::full_disk::Disk;
use crate::model::{Model, reopen, shown};

/// What opening says, with the directory's name taken out.
fn refusal(dir: &Path) -> (Error, String) {
    let error = SqliteJournal::open(dir).expect_err("must be refused");
    let text = shown(&error).replace(dir.to_str().unwrap(), "DIR");
    (error, text)
}

fn database(dir: &Path) -> Connection {
    Connection::open(dir.join("tidewatch.db")).unwrap()
}

/// A directory with a journal of some hundred events.
async fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    journal.commit(Model::new(21).group(300)).await.unwrap();
    dir
}

#[tokio::test]
async fn a_second_opener_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(dir.path()).unwrap();
    let (error, text) = refusal(dir.path());
    let own = std::process::id();
    assert!(matches!(error, Error::InUse { holder: Some(pid), .. } if pid == own));
    assert_eq!(
        text,
        format!(
            "the data directory DIR is in use by process {own}; stop that server first, or name another directory"
        )
    );
    drop(journal);
    reopen(dir.path()).await;
}

#[test]
fn a_file_in_the_directorys_place_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "precious").unwrap();
    for path in [file.clone(), file.join("below")] {
        let (error, text) = refusal(&path);
        assert!(matches!(error, Error::NotADirectory { .. }), "{error:?}");
        assert_eq!(
            text,
            "DIR is not a directory; name a directory for the data, or move the file away"
        );
    }
    assert_eq!(fs::read(&file).unwrap(), b"precious");
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_user_can_read_the_data() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a/b");
    let mut journal = SqliteJournal::open(&dir).unwrap();
    journal.commit(Model::new(1).group(1)).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(
        names,
        [
            "tidewatch.db",
            "tidewatch.db-shm",
            "tidewatch.db-wal",
            "tidewatch.lock"
        ]
    );
}

/// Permissions are no hindrance for root, so that CI sees the read-only file system, and people the
/// directory without write permission.
#[cfg(unix)]
#[tokio::test]
async fn a_directory_that_cannot_be_written_is_refused() {
    let assert_unwritable = |dir: &Path| {
        let (error, text) = refusal(dir);
        assert!(matches!(error, Error::Unwritable { .. }), "{error:?}");
        let start = "cannot write to DIR/tidewatch.lock; give this user read and write access to it, or name another place: ";
        assert!(text.starts_with(start), "{text}");
    };
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(dir.path().join("probe"), "").is_err() {
        assert_unwritable(dir.path());
    }
    let Some(disk) = Disk::mount("opening on a read-only disk", 4) else {
        return;
    };
    let data = disk.path("data");
    drop(SqliteJournal::open(&data).unwrap());
    disk.make_read_only();
    assert_unwritable(&data);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidewatch.db");
    let content = b"# not a database\n".repeat(500);
    fs::write(&file, &content).unwrap();
    let (error, text) = refusal(dir.path());
    assert!(matches!(error, Error::NotADatabase { .. }), "{error:?}");
    assert_eq!(
        text,
        "DIR/tidewatch.db is not a database; move it away, or restore a backup with `--force`"
    );
    assert_eq!(fs::read(&file).unwrap(), content);
}

#[test]
fn a_database_of_another_program_is_refused_and_left_alone() {
    for application_id in [0_u32, 0x0f05_5112] {
        let dir = tempfile::tempdir().unwrap();
        let foreign = database(dir.path());
        foreign
            .pragma_update(None, "application_id", application_id)
            .unwrap();
        foreign
            .execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)")
            .unwrap();
        drop(foreign);
        let before = fs::read(dir.path().join("tidewatch.db")).unwrap();
        let (error, text) = refusal(dir.path());
        assert!(matches!(error, Error::ForeignDatabase { application_id: id, .. } if id == application_id));
        assert!(
            text.contains(&format!("application id {application_id:#010x}")),
            "{text}"
        );
        assert_eq!(fs::read(dir.path().join("tidewatch.db")).unwrap(), before);
    }
}

#[tokio::test]
async fn a_newer_database_is_refused_and_left_alone() {
    let dir = filled().await;
    database(dir.path())
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let before = fs::read(dir.path().join("tidewatch.db")).unwrap();
    let (error, text) = refusal(dir.path());
    assert!(
        matches!(
            error,
            Error::NewerDatabase {
                found: 99,
                supported: 1,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(
        text,
        "DIR/tidewatch.db has format 99, this version reads up to 1; \
         use the newer version, or restore a backup that this one made"
    );
    assert_eq!(fs::read(dir.path().join("tidewatch.db")).unwrap(), before);
}

/// What happens to the bytes of a file.
type Damage = fn(&mut Vec<u8>);

#[tokio::test]
async fn a_damaged_database_is_refused_and_left_alone() {
    let cases: [(&str, Damage); 3] = [
        ("a page overwritten", |file| {
            let middle = file.len() / 2 / 4096 * 4096;
            file[middle..middle + 4096].fill(0xa5);
        }),
        ("the end missing", |file| {
            file.truncate(file.len() * 2 / 3 / 4096 * 4096);
        }),
        ("zeros", |file| {
            let len = file.len();
            file[4096 * 3..len - 4096].fill(0);
        }),
    ];
    for (name, damage) in cases {
        let dir = filled().await;
        let file = dir.path().join("tidewatch.db");
        let mut content = fs::read(&file).unwrap();
        damage(&mut content);
        fs::write(&file, &content).unwrap();
        let (error, text) = refusal(dir.path());
        assert!(matches!(error, Error::Corrupt { .. }), "{name}: {error:?}");
        assert!(
            text.starts_with("DIR/tidewatch.db is damaged ("),
            "{name}: {text}"
        );
        assert!(
            text.ends_with("; restore a backup with `--force`, which keeps the damaged file"),
            "{name}: {text}"
        );
        assert_eq!(fs::read(&file).unwrap(), content, "{name}");
    }
}

#[tokio::test]
async fn a_history_out_of_order_is_damage_too() {
    let dir = filled().await;
    database(dir.path())
        .execute("UPDATE events SET revision = 1 WHERE id = 100", [])
        .unwrap();
    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    let cause = journal.recover().await.unwrap_err();
    assert!(cause.to_string().contains("revision 1 comes after"), "{cause}");
}

#[test]
fn an_empty_file_becomes_a_new_database() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tidewatch.db"), "").unwrap();
    SqliteJournal::open(dir.path()).unwrap();
}
