//! State that is gone, emptied, older, damaged or of another installation is never treated as a first start.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::{Identity, RememberedDatabase};

struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("state/mill.db")
    }

    fn open(&self, remembered: &RememberedDatabase) -> Result<Arc<Database>, OpenError> {
        Database::open_remembered(&self.path(), remembered, Arc::new(OsClock), Arc::new(OsRng))
    }

    /// Creates a database with rows, and returns its identity.
    async fn filled(&self, table_name: &str, rows: usize) -> Identity {
        self.filled_with(table_name, rows, 100).await
    }

    /// Creates one that is too large to be checked completely at each opening.
    async fn large(&self) -> Identity {
        self.filled_with("seals", 10_000, 1_000).await
    }

    async fn filled_with(&self, table_name: &str, rows: usize, bytes: usize) -> Identity {
        let database = self.open(&RememberedDatabase::Nothing).unwrap();
        let table = SqliteTable::new(Arc::clone(&database), table_name);
        let many: Vec<_> = (0..rows).map(|n| (key(format!("{n:06}")), Bytes::from(vec![7; bytes]))).collect();
        table.put_many(&many).await.unwrap();
        database.identity().get()
    }

    fn edit(&self, sql: &str) {
        let connection = Connection::open(self.path()).unwrap();
        super::super::integrity::prepare(&connection).unwrap();
        connection.execute_batch(sql).unwrap();
    }

    /// Replaces the first bytes `from` in the file by others of the same length.
    fn patch(&self, from: &[u8], to: &[u8]) {
        let mut bytes = fs::read(self.path()).unwrap();
        let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
        fs::write(self.path(), bytes).unwrap();
    }
}

fn identity(identity: &Identity) -> RememberedDatabase {
    RememberedDatabase::Identity(identity.clone())
}

#[tokio::test]
async fn a_database_that_was_there_is_not_begun_anew_when_it_is_gone() {
    let room = Room::new();
    let was = room.filled("owners", 3).await;
    for remembered in [RememberedDatabase::Existence, identity(&was)] {
        let state = room.path().parent().unwrap().to_owned();
        fs::rename(&state, room.folder.path().join("moved")).unwrap();
        assert!(matches!(room.open(&remembered), Err(OpenError::Gone { .. })));
        assert!(!state.exists(), "nothing is made in its place");
        fs::rename(room.folder.path().join("moved"), &state).unwrap();
        assert!(room.open(&remembered).is_ok());
    }
}

#[tokio::test]
async fn a_database_that_was_there_is_not_begun_anew_when_it_is_emptied() {
    let room = Room::new();
    let was = room.filled("owners", 3).await;
    for remembered in [RememberedDatabase::Existence, identity(&was)] {
        fs::write(room.path(), "").unwrap();
        assert!(matches!(room.open(&remembered), Err(OpenError::Emptied { .. })));
        assert_eq!(fs::metadata(room.path()).unwrap().len(), 0, "it is left as it is");
    }
    fs::write(room.path(), vec![0; 40_960]).unwrap();
    assert!(matches!(room.open(&identity(&was)), Err(OpenError::Damaged { .. })));
}

#[tokio::test]
async fn an_older_copy_and_another_installations_database_are_found_out() {
    let room = Room::new();
    let was = room.filled("owners", 3).await;
    fs::copy(room.path(), room.folder.path().join("backup")).unwrap();
    let database = room.open(&identity(&was)).unwrap();
    let table = SqliteTable::new(Arc::clone(&database), "owners");
    assert_eq!(database.identity().get(), was, "who only looks is not counted");
    for n in 0..3 {
        table.put(&key(format!("{n}")), Bytes::new(), RowPrecondition::Always).await.unwrap();
        assert_eq!(database.identity().get().openings, was.openings + 1);
    }
    let now = database.identity().get();
    drop((table, database));
    fs::copy(room.folder.path().join("backup"), room.path()).unwrap();
    let older = room.open(&identity(&now)).unwrap_err();
    assert!(matches!(older, OpenError::Older { .. }), "{older}");
    // A marker that is older than the database, after a kill in between, is accepted.
    assert!(room.open(&identity(&was)).is_ok());
    let other = Room::new();
    other.filled("owners", 3).await;
    fs::copy(other.path(), room.path()).unwrap();
    assert!(matches!(room.open(&identity(&now)), Err(OpenError::Another { .. })));
}

#[tokio::test]
async fn a_database_of_the_version_before_is_taken_over_with_all_that_is_in_it() {
    let room = Room::new();
    room.filled("owners", 300).await;
    room.edit(
        "DROP TRIGGER entry_added; DROP TRIGGER entry_removed; DROP TRIGGER entry_changed;
         DROP TABLE counted; DROP TABLE installation; PRAGMA user_version = 1",
    );
    let database = room.open(&RememberedDatabase::Existence).unwrap();
    assert_eq!(rows(&SqliteTable::new(Arc::clone(&database), "owners")).await, 300);
    let identity = database.identity().get();
    drop(database);
    assert_eq!(room.open(&RememberedDatabase::Identity(identity.clone())).unwrap().identity().get(), identity);
}

#[tokio::test]
async fn a_row_that_is_missing_or_changed_where_the_page_makes_sense_is_found_at_the_next_opening() {
    let rename = |room: &Room| room.patch(b"owners", b"ownerz");
    let change = |room: &Room| room.patch(&[7; 50], &[8; 1]);
    let lose = |room: &Room| {
        room.edit(
            "DROP TRIGGER entry_removed; DELETE FROM entry WHERE sort = CAST('000005' AS BLOB);
             CREATE TRIGGER entry_removed AFTER DELETE ON entry WHEN 0 BEGIN SELECT 1; END",
        );
    };
    let damages: [&dyn Fn(&Room); 3] = [&rename, &change, &lose];
    for damage in damages {
        let room = Room::new();
        let was = room.filled("owners", 10).await;
        damage(&room);
        let error = room.open(&identity(&was)).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    }
}

#[tokio::test]
async fn of_a_long_value_the_length_is_summed_up() {
    let room = Room::new();
    let was = room.filled_with("owners", 10, 1_025).await;
    assert!(room.open(&identity(&was)).is_ok(), "writing and opening sum up alike");
    room.edit("UPDATE counted SET entries = entries + 1");
    assert!(matches!(room.open(&identity(&was)), Err(OpenError::Damaged { .. })));
}

#[tokio::test]
async fn every_write_keeps_the_sum_by_which_damage_is_found() {
    let room = Room::new();
    let database = room.open(&RememberedDatabase::Nothing).unwrap();
    for table_name in ["owners", "seals", "folder-properties", "zebra"] {
        let table = SqliteTable::new(Arc::clone(&database), table_name);
        let version = table.put(&key("a"), Bytes::from("1"), RowPrecondition::Absent).await.unwrap();
        table.put(&key("a"), Bytes::from("2"), RowPrecondition::VersionIs(version)).await.unwrap();
        table.put(&key("a"), Bytes::from("3"), RowPrecondition::Always).await.unwrap();
        table.put(&key("b"), Bytes::from("3"), RowPrecondition::Always).await.unwrap();
        table.delete(&key("b"), RowPrecondition::Always).await.unwrap();
        table.delete(&key("never there"), RowPrecondition::Always).await.unwrap();
        assert_eq!(database.check().await.unwrap(), Vec::<String>::new(), "{table_name}");
    }
}

#[tokio::test]
async fn the_first_page_that_makes_no_sense_ends_all_work_with_the_database() {
    let room = Room::new();
    let was = room.large().await;
    let mut bytes = fs::read(room.path()).unwrap();
    assert!(bytes.len() > 9 << 20, "small files are read through at each opening");
    // Neither the first pages nor the last, which are next to the small tables.
    for page in (1_000..2_000).step_by(2) {
        bytes[page * 4096..(page + 1) * 4096].fill(0xA5);
    }
    fs::write(room.path(), bytes).unwrap();
    let database = room.open(&identity(&was)).unwrap();
    let damage = database.damage();
    assert!(damage.found().is_none());
    let (seals, owners) =
        (SqliteTable::new(Arc::clone(&database), "seals"), SqliteTable::new(Arc::clone(&database), "owners"));
    owners.put(&key("x"), Bytes::new(), RowPrecondition::Absent).await.unwrap();
    let mut range = KeyRange::default();
    while let Ok(page) = seals.query("p", &range, 1_000).await {
        assert!(!page.end, "it is not taken for the end");
        range.after = page.rows.last().map(|row| row.sort.clone());
    }
    damage.until_found().await;
    let found = damage.found().unwrap();
    assert!(found.contains("malformed"), "{found}");
    // Intact rows are not read or written any more either: nothing shows which rows are intact.
    assert!(owners.get(&key("x")).await.is_err());
    assert!(owners.put(&key("y"), Bytes::new(), RowPrecondition::Always).await.is_err());
    drop(database);
}

#[tokio::test]
async fn rows_out_of_their_order_are_damage_and_not_an_answer() {
    let room = Room::new();
    room.filled("seals", 10).await;
    // The key of the fourth row, in a page that is otherwise whole.
    room.patch(b"000003", b"900003");
    let connection = Connection::open(room.path()).unwrap();
    assert_eq!(
        connection.query_row("PRAGMA quick_check", [], |row| row.get::<_, String>(0)).unwrap(),
        "ok",
        "this is why the order is looked at"
    );
    drop(connection);
    assert!(
        matches!(room.open(&RememberedDatabase::Existence), Err(OpenError::Damaged { .. })),
        "a small file is read through"
    );
}

#[tokio::test]
async fn a_file_that_is_removed_or_cut_while_it_is_in_use_ends_all_work_with_it() {
    let remove = |room: &Room| fs::remove_dir_all(room.path().parent().unwrap()).unwrap();
    let replace = |room: &Room| {
        fs::rename(room.path(), room.folder.path().join("aside")).unwrap();
        fs::copy(room.folder.path().join("aside"), room.path()).unwrap();
    };
    let cut = |room: &Room| fs::File::options().write(true).open(room.path()).unwrap().set_len(0).unwrap();
    let harms: [&dyn Fn(&Room); 3] = [&remove, &replace, &cut];
    for (words, harm) in ["removed", "another file", "cut"].into_iter().zip(harms) {
        let room = Room::new();
        let was = room.filled("owners", 100).await;
        let database = room.open(&identity(&was)).unwrap();
        harm(&room);
        let table = SqliteTable::new(Arc::clone(&database), "owners");
        table.put(&key("x"), Bytes::new(), RowPrecondition::Always).await.unwrap_err();
        let found = database.damage().found().unwrap();
        assert!(found.contains(words), "{found}");
        assert!(table.get(&key("x")).await.is_err());
        drop(database);
        let again = room.open(&identity(&was));
        assert_eq!(again.is_ok(), words == "another file", "what is in its place now is judged by itself");
    }
}

#[tokio::test]
async fn a_large_file_is_read_through_now_and_then_beside_the_work() {
    let room = Room::new();
    room.large().await;
    let mut bytes = fs::read(room.path()).unwrap();
    bytes[2_000 * 4096..2_001 * 4096].fill(0xA5);
    fs::write(room.path(), bytes).unwrap();
    for _ in 0..16 {
        let database = room.open(&RememberedDatabase::Existence).unwrap();
        let found = database.damage();
        if tokio::time::timeout(Duration::from_millis(300), found.until_found()).await.is_ok() {
            return;
        }
        SqliteTable::new(Arc::clone(&database), "owners")
            .put(&key("x"), Bytes::new(), RowPrecondition::Always)
            .await
            .unwrap();
    }
    panic!("it was never read through");
}
