use mill_testkit::{MemoryTable, SeededRng};

use super::*;

/// Tables by name, `owners` first; some may be replaced by empty ones.
struct Room {
    tables: Vec<Arc<dyn Table>>,
}

const NAMES: [&str; 3] = ["owners", "seals", "producer-state"];

impl Room {
    fn new() -> Self {
        Self { tables: NAMES.iter().map(|name| fresh(name)).collect() }
    }

    /// With a seed of 0 it only reads.
    async fn recognise(&self, remembered: Option<&str>, seed: u64) -> Result<Option<String>, InstallationError> {
        let [first, others @ ..] = &self.tables[..] else { panic!() };
        let installation = InstallationTables { first: first.clone(), others: others.to_vec() };
        let chance = SeededRng::new(seed);
        installation.recognise(remembered, (seed > 0).then_some(&chance as &dyn Rng)).await
    }
}

fn fresh(name: &str) -> Arc<dyn Table> {
    Arc::new(MemoryTable::new(name))
}

#[tokio::test]
async fn tables_that_stay_are_recognised_by_all_their_processes() {
    let room = Room::new();
    let id = room.recognise(None, 1).await.unwrap().unwrap();
    assert_eq!(room.recognise(None, 2).await.unwrap(), Some(id.clone()));
    assert_eq!(room.recognise(Some(&id), 3).await.unwrap(), Some(id));
}

#[tokio::test]
async fn each_table_that_is_emptied_is_found_out_by_a_process_that_remembers_nothing() {
    for (place, name) in NAMES.iter().enumerate() {
        let mut room = Room::new();
        room.recognise(None, 1).await.unwrap();
        room.tables[place] = fresh(name);
        let error = room.recognise(None, 2).await.unwrap_err();
        assert!(matches!(&error, InstallationError::Emptied { table } if table == name), "{name}: {error}");
    }
}

#[tokio::test]
async fn tables_that_are_all_emptied_are_found_out_by_a_process_that_remembers_them() {
    let id = Room::new().recognise(None, 1).await.unwrap().unwrap();
    let error = Room::new().recognise(Some(&id), 2).await.unwrap_err();
    assert!(matches!(error, InstallationError::Emptied { .. }), "{error}");
    let other = Room::new();
    other.recognise(None, 3).await.unwrap();
    let error = other.recognise(Some(&id), 4).await.unwrap_err();
    assert!(matches!(error, InstallationError::Another { .. }), "{error}");
}

#[tokio::test]
async fn a_table_of_another_installation_is_found_out() {
    let (room, other) = (Room::new(), Room::new());
    room.recognise(None, 1).await.unwrap();
    other.recognise(None, 2).await.unwrap();
    let mixed = Room { tables: vec![room.tables[0].clone(), other.tables[1].clone(), room.tables[2].clone()] };
    let error = mixed.recognise(None, 3).await.unwrap_err();
    assert!(matches!(&error, InstallationError::Another { table } if table == "seals"), "{error}");
}

#[tokio::test]
async fn processes_that_begin_at_once_agree() {
    for seed in 0..50 {
        let room = Arc::new(Room::new());
        let mut beginning = tokio::task::JoinSet::new();
        for n in 0..4 {
            let room = room.clone();
            beginning.spawn(async move { room.recognise(None, seed * 10 + n + 1).await.unwrap() });
        }
        let ids: BTreeSet<_> = beginning.join_all().await.into_iter().flatten().collect();
        assert_eq!(ids.len(), 1);
    }
}

#[tokio::test]
async fn who_only_looks_finds_out_as_much_and_writes_nothing() {
    let mut room = Room::new();
    assert_eq!(room.recognise(None, 0).await.unwrap(), None, "nothing is drawn");
    let id = room.recognise(None, 1).await.unwrap();
    assert_eq!(room.recognise(None, 0).await.unwrap(), id);
    room.tables[1] = fresh("seals");
    assert!(room.recognise(None, 0).await.is_err());
    assert!(room.tables[1].get(&key()).await.unwrap().is_none());
}
