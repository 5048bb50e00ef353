//! Backups and what is made of them.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use tidewatch_core::Revision;
use tidewatch_core::journal::Journal;
use tidewatch_sqlite::{Error, Existing, SqliteJournal, backup, restore};

use crate::model::{Model, assert_recovered, reopen, shown};

const SEED: u64 = 31;

async fn filled(dir: &Path) -> SqliteJournal {
    let mut journal = SqliteJournal::open(dir).unwrap();
    journal.commit(Model::new(SEED).group(200)).await.unwrap();
    journal.compact(Revision(50)).await.unwrap();
    journal
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_backup_restores_to_the_same_history_under_a_new_identity() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("backup.db");
    let journal = filled(&root.path().join("old")).await;
    let made = journal.handle().backup(&file, Existing::Refuse).await.unwrap();
    assert_eq!(
        (made.revision, made.bytes),
        (Revision(201), fs::metadata(&file).unwrap().len())
    );
    assert_eq!(
        names(root.path()),
        ["backup.db", "old"],
        "nothing else is left beside it"
    );

    let restored = restore(&file, root.path().join("new"), Existing::Refuse).unwrap();
    assert_eq!((restored.from, restored.revision), (made.keyspace, Revision(201)));
    assert_ne!(restored.keyspace, made.keyspace);
    assert_eq!(
        names(&root.path().join("new")),
        ["tidewatch.db", "tidewatch.lock"]
    );
    let recovered = reopen(&root.path().join("new")).await;
    assert_eq!(
        (recovered.keyspace, recovered.revision),
        (restored.keyspace, Revision(201))
    );
    assert_eq!(recovered.oldest, Revision(50));
    assert_recovered(SEED, &recovered);
    let again = restore(&file, root.path().join("newer"), Existing::Refuse).unwrap();
    assert_ne!(
        again.keyspace, restored.keyspace,
        "each restore is a history of its own"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_writes_is_consistent_at_one_revision() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = filled(&root.path().join("data")).await;
    let mut model = Model::at(SEED, Revision(201));
    for number in 0..5 {
        let file = root.path().join(format!("{number}.db"));
        let handle = journal.handle();
        let before = model.revision;
        let backup = tokio::spawn(async move { handle.backup(file, Existing::Refuse).await.unwrap() });
        while !backup.is_finished() {
            journal.commit(model.group(3)).await.unwrap();
        }
        let made = backup.await.unwrap();
        assert!(made.revision >= before && made.revision <= model.revision);
        assert_eq!((made.revision.0 - 201) % 3, 0, "a group is in it as a whole");
        let dir = root.path().join(format!("restored-{number}"));
        restore(&made.path, &dir, Existing::Refuse).unwrap();
        let recovered = reopen(&dir).await;
        assert_eq!(recovered.revision, made.revision);
        assert_recovered(SEED, &recovered);
    }
}

#[tokio::test]
async fn a_backup_replaces_a_file_only_when_asked_to() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("backup.db");
    fs::write(&file, "precious").unwrap();
    let handle = filled(&root.path().join("data")).await.handle();
    assert!(matches!(
        handle.backup(&file, Existing::Refuse).await,
        Err(Error::Closed)
    ));

    let journal = SqliteJournal::open(root.path().join("data")).unwrap();
    let error = journal
        .handle()
        .backup(&file, Existing::Refuse)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error:?}");
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    journal.handle().backup(&file, Existing::Replace).await.unwrap();
    restore(&file, root.path().join("new"), Existing::Refuse).unwrap();
}

#[tokio::test]
async fn a_backup_to_a_place_that_makes_no_sense_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    let journal = filled(&data).await;
    let handle = journal.handle();
    for replace in [Existing::Refuse, Existing::Replace] {
        for name in ["tidewatch.db", "other.db"] {
            let error = handle.backup(data.join(name), replace).await.unwrap_err();
            assert!(matches!(error, Error::InsideDataDir { .. }), "{error:?}");
        }
        let error = handle.backup(root.path(), replace).await.unwrap_err();
        assert!(matches!(error, Error::Exists { .. }), "{error:?}");
        let error = handle
            .backup(root.path().join("missing/backup.db"), replace)
            .await
            .unwrap_err();
        assert!(shown(&error).contains("/missing"), "{}", shown(&error));
    }
    assert!(journal.path().exists());
}

#[tokio::test]
async fn without_a_server_the_directory_itself_is_backed_up() {
    let root = tempfile::tempdir().unwrap();
    let (data, file) = (root.path().join("data"), root.path().join("backup.db"));
    let error = backup(&data, &file, Existing::Refuse).unwrap_err();
    assert!(matches!(error, Error::NoDatabase { .. }), "{error:?}");
    assert!(!data.exists(), "looking makes nothing");

    let journal = filled(&data).await;
    let error = backup(&data, &file, Existing::Refuse).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error:?}");
    drop(journal);
    assert_eq!(
        backup(&data, &file, Existing::Refuse).unwrap().revision,
        Revision(201)
    );
    assert_recovered(SEED, &reopen(&data).await);
}

/// After `kill -9` most of the history may still be in the log.
#[tokio::test]
async fn what_a_crash_left_in_the_log_is_in_the_backup() {
    let root = tempfile::tempdir().unwrap();
    let (data, crashed) = (root.path().join("data"), root.path().join("crashed"));
    let journal = filled(&data).await;
    fs::create_dir(&crashed).unwrap();
    for name in ["tidewatch.db", "tidewatch.db-wal"] {
        fs::copy(data.join(name), crashed.join(name)).unwrap();
    }
    drop(journal);
    let file = root.path().join("backup.db");
    assert_eq!(
        backup(&crashed, &file, Existing::Refuse).unwrap().revision,
        Revision(201)
    );
    let recovered = reopen(&crashed).await;
    assert_eq!(
        (recovered.revision, recovered.oldest),
        (Revision(201), Revision(50))
    );
    assert_recovered(SEED, &recovered);
}

#[tokio::test]
async fn a_restore_overwrites_nothing_unless_forced_and_then_keeps_the_old_database() {
    let root = tempfile::tempdir().unwrap();
    let (data, file) = (root.path().join("data"), root.path().join("backup.db"));
    let mut journal = filled(&data).await;
    journal.handle().backup(&file, Existing::Refuse).await.unwrap();
    let mut model = Model::at(SEED, Revision(201));
    journal.commit(model.group(7)).await.unwrap();
    for existing in [Existing::Refuse, Existing::Replace] {
        let error = restore(&file, &data, existing).unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error:?}");
    }
    drop(journal);
    let before = reopen(&data).await;
    let error = restore(&file, &data, Existing::Refuse).unwrap_err();
    assert!(
        matches!(&error, Error::NotEmpty { found, .. } if found == "tidewatch.db"),
        "{error:?}"
    );
    assert!(reopen(&data).await == before);

    fs::write(data.join("instance"), "stays").unwrap();
    let restored = restore(&file, &data, Existing::Replace).unwrap();
    assert_eq!(
        names(&data),
        [
            "instance",
            "tidewatch.db",
            "tidewatch.db.replaced",
            "tidewatch.lock"
        ]
    );
    let after = reopen(&data).await;
    assert_eq!(
        (after.keyspace, after.revision),
        (restored.keyspace, Revision(201))
    );

    // The replaced one can be taken back the same way.
    restore(
        data.join("tidewatch.db.replaced"),
        root.path().join("back"),
        Existing::Refuse,
    )
    .unwrap();
    let back = reopen(&root.path().join("back")).await;
    assert!((back.base, back.records) == (before.base, before.records));
}

#[tokio::test]
async fn a_damaged_database_can_be_replaced_by_its_backup() {
    let root = tempfile::tempdir().unwrap();
    let (data, file) = (root.path().join("data"), root.path().join("backup.db"));
    let journal = filled(&data).await;
    journal.handle().backup(&file, Existing::Refuse).await.unwrap();
    drop(journal);
    fs::write(data.join("tidewatch.db"), b"garbage".repeat(2000)).unwrap();
    fs::write(data.join("tidewatch.db-wal"), "a log of that").unwrap();
    restore(&file, &data, Existing::Replace).unwrap();
    assert_recovered(SEED, &reopen(&data).await);
    assert_eq!(
        fs::read(data.join("tidewatch.db.replaced-wal")).unwrap(),
        b"a log of that"
    );
}

#[tokio::test]
async fn a_replaced_database_is_not_kept_beside_the_log_of_an_earlier_one() {
    let root = tempfile::tempdir().unwrap();
    let (data, file) = (root.path().join("data"), root.path().join("backup.db"));
    let journal = filled(&data).await;
    journal.handle().backup(&file, Existing::Refuse).await.unwrap();
    drop(journal);
    fs::write(data.join("tidewatch.db-wal"), "a log that a crash left").unwrap();
    restore(&file, &data, Existing::Replace).unwrap();
    assert!(data.join("tidewatch.db.replaced-wal").exists());
    // The next ones to be replaced were closed, and have no log.
    for _ in 0..2 {
        restore(&file, &data, Existing::Replace).unwrap();
        assert_eq!(
            names(&data),
            ["tidewatch.db", "tidewatch.db.replaced", "tidewatch.lock"]
        );
        // Somebody takes the database out, and leaves its log.
        fs::remove_file(data.join("tidewatch.db.replaced")).unwrap();
        fs::write(data.join("tidewatch.db.replaced-wal"), "an old log").unwrap();
    }
}

#[tokio::test]
async fn a_restore_that_was_interrupted_after_it_was_decided_is_finished_by_the_next_opener() {
    let root = tempfile::tempdir().unwrap();
    let (data, file) = (root.path().join("data"), root.path().join("backup.db"));
    let mut journal = filled(&data).await;
    journal.handle().backup(&file, Existing::Refuse).await.unwrap();
    journal
        .commit(Model::at(SEED, Revision(201)).group(7))
        .await
        .unwrap();
    drop(journal);
    let restored = restore(&file, root.path().join("other"), Existing::Refuse).unwrap();
    // What a crash leaves: the decision, and any number of the old files moved already. A log that does
    // not belong to the restored database would damage it.
    for moved in 0..=2 {
        let dir = root.path().join(format!("crashed-{moved}"));
        fs::create_dir(&dir).unwrap();
        fs::copy(data.join("tidewatch.db"), dir.join("tidewatch.db")).unwrap();
        fs::write(dir.join("tidewatch.db-wal"), "an old log").unwrap();
        fs::copy(
            root.path().join("other/tidewatch.db"),
            dir.join("tidewatch.db.restored"),
        )
        .unwrap();
        for name in ["tidewatch.db-wal", "tidewatch.db"].iter().take(moved) {
            fs::rename(dir.join(name), dir.join(name.replace(".db", ".db.replaced"))).unwrap();
        }
        let recovered = reopen(&dir).await;
        assert_eq!(
            (recovered.keyspace, recovered.revision),
            (restored.keyspace, Revision(201))
        );
        assert_recovered(SEED, &recovered);
    }
}

#[tokio::test]
async fn what_is_no_backup_is_refused_before_anything_is_made() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("backup.db");
    let data = root.path().join("data");
    drop(filled(&root.path().join("old")).await);
    backup(root.path().join("old"), &file, Existing::Refuse).unwrap();
    let good = fs::read(&file).unwrap();

    let refused = |what: &str| {
        let error = restore(&file, &data, Existing::Replace).unwrap_err();
        assert!(!data.exists(), "{what}");
        assert!(
            shown(&error).contains(file.to_str().unwrap()),
            "{what}: {}",
            shown(&error)
        );
        error
    };
    fs::remove_file(&file).unwrap();
    assert!(matches!(refused("missing"), Error::NoDatabase { .. }));
    fs::create_dir(&file).unwrap();
    assert!(matches!(refused("a directory"), Error::NoDatabase { .. }));
    fs::remove_dir(&file).unwrap();
    fs::write(&file, "").unwrap();
    assert!(matches!(refused("empty"), Error::NotADatabase { .. }));
    fs::write(&file, "text".repeat(999)).unwrap();
    assert!(matches!(refused("text"), Error::NotADatabase { .. }));
    fs::write(&file, &good[..good.len() / 2]).unwrap();
    assert!(matches!(refused("half"), Error::Corrupt { .. }));
    fs::write(&file, &good).unwrap();
    let change = |pragma, value: u32| {
        Connection::open(&file)
            .unwrap()
            .pragma_update(None, pragma, value)
            .unwrap();
    };
    change("user_version", 99);
    assert!(matches!(refused("newer"), Error::NewerDatabase { .. }));
    change("user_version", 1);
    change("application_id", 5);
    assert!(matches!(refused("foreign"), Error::ForeignDatabase { .. }));
    change("application_id", 0x5469_6465);
    restore(&file, &data, Existing::Refuse).unwrap();
}

#[tokio::test]
async fn unfinished_files_of_a_killed_process_are_swept_away() {
    let root = tempfile::tempdir().unwrap();
    drop(filled(root.path()).await);
    fs::write(root.path().join(".tidewatch-abc123.partial"), "half").unwrap();
    fs::write(root.path().join(".tidewatch-abc123.partial-journal"), "half").unwrap();
    drop(SqliteJournal::open(root.path()).unwrap());
    assert_eq!(names(root.path()), ["tidewatch.db", "tidewatch.lock"]);
}
