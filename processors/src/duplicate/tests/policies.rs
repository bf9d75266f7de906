//! Today's policy, as its files say it at that moment.

use super::*;
use mill_ports::StoreErrorKind;
use mill_records::policies::PolicyBook;
use probe::Way;

/// A folder of policy files, and the book that reads them.
struct Files {
    store: MemoryStore,
    space: SpaceId,
}

impl Files {
    fn of(site: &Site) -> Self {
        let address =
            StoreAddress { account: AccountId::new("mill").unwrap(), store: StoreId::new("policies").unwrap() };
        let files = Self {
            store: MemoryStore::new(address, StoreHabits::default(), site.clock.clone()),
            space: SpaceId::new("policies").unwrap(),
        };
        files.write("duplication-accounts.json", r#"["a"]"#);
        files.write(
            "a-stores.json",
            r#"{"stores": [
                {"id": "s", "type": "folder", "root": "s", "primary": true},
                {"id": "d", "type": "folder", "root": "d"}
            ]}"#,
        );
        files.removes(true);
        files
    }

    fn write(&self, file: &str, text: &'static str) {
        let item = ItemAddress { space: self.space.clone(), id: ContentId::new(file).unwrap() };
        self.store.plant(&item, text, Properties::default());
    }

    fn removes(&self, removes: bool) {
        const REMOVES: &str =
            r#"{"removeVanished": true, "defaultPolicies": [{"srcStoreId": "s", "destStoreId": "d"}]}"#;
        const KEEPS: &str =
            r#"{"removeVanished": false, "defaultPolicies": [{"srcStoreId": "s", "destStoreId": "d"}]}"#;
        self.write("a-duplication-policy.json", if removes { REMOVES } else { KEEPS });
    }

    fn book(&self, site: &Site) -> PolicyBook {
        PolicyBook::of_store(
            Arc::new(self.store.clone()),
            self.space.clone(),
            site.clock.clone(),
            Duration::from_secs(1),
        )
    }
}

/// Runs the task of an item that vanished, while the policy becomes what `change` makes of it.
async fn vanish(change: impl FnOnce(&Files) + Send + 'static) -> (Site, Outcome) {
    let site = Site::new();
    let files = Files::of(&site);
    site.destination.plant(&at("x"), "same", noted("n"));
    let book = files.book(&site);
    site.source_port.meet("space", [Way::Before(Box::new(move || change(&files)))]);
    // The store's wish lets time pass in the middle of the attempt.
    let retry_after = Some(Duration::from_secs(4));
    site.source_port.meet("head", [Way::Clear, Way::Fails(StoreErrorKind::Throttled { retry_after })]);
    let outcome = site.run_under(book, &Site::task(Some(&at("x")))).await.unwrap();
    (site, outcome)
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_asked_again_right_before_anything_is_deleted() {
    let (site, outcome) = vanish(|_| {}).await;
    assert_eq!((outcome, site.totals().deleted), (Outcome::done(), 1));

    let (site, outcome) = vanish(|files| files.removes(false)).await;
    assert_eq!((outcome, site.destination.writes()), (Outcome::done(), 0));

    let (site, outcome) = vanish(|files| files.write("duplication-accounts.json", "[]")).await;
    assert_eq!((outcome, site.destination.writes()), (Outcome::done(), 0));
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_cannot_be_read_makes_the_task_wait_and_drops_nothing() {
    let site = Site::new();
    let files = Files::of(&site);
    site.source.plant(&at("x"), "same", noted("n"));
    for file in ["a-duplication-policy.json", "a-stores.json", "duplication-accounts.json"] {
        files.write(file, "{ cut short");
        let outcome = site.run_under(files.book(&site), &Site::task(Some(&at("x")))).await.unwrap();
        assert!(matches!(outcome, Outcome::Snooze { task: None, .. }), "{file} {outcome:?}");
    }
    files.store.uproot_space(&files.space);
    let outcome = site.run_under(files.book(&site), &Site::task(Some(&at("x")))).await.unwrap();
    assert!(matches!(outcome, Outcome::Snooze { task: None, .. }), "{outcome:?}");
    assert_eq!((site.totals(), site.destination.writes()), (Totals::default(), 0));
}
