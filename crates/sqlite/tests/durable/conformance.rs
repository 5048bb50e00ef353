//! The suite that every journal passes.

use tidewatch_sqlite::SqliteJournal;

fn in_temp_dir() -> impl FnMut() -> SqliteJournal {
    let dir = tempfile::tempdir().unwrap();
    move || SqliteJournal::open(dir.path()).unwrap()
}

tidewatch_core::journal_conformance!(in_temp_dir);
