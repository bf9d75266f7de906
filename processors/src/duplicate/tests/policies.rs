//! Today's policy, as its files are at that moment.

use super::*;
use crate::fixture::PolicyFilesFixture;

#[tokio::test(start_paused = true)]
async fn a_policy_that_cannot_be_read_makes_the_task_wait_and_drops_nothing() {
    let site = Fixture::new();
    let files = PolicyFilesFixture::of(&site);
    site.source.insert(&at("x"), "same", noted("n"));
    for file in ["a-duplication-policy.json", "a-stores.json", "duplication-accounts.json"] {
        files.write(file, "{ cut short");
        let outcome = site.run_under(files.repository(&site), &Fixture::task(Some(&at("x")))).await.unwrap();
        assert!(matches!(outcome, TaskOutcome::Snooze { task: None, .. }), "{file} {outcome:?}");
    }
    files.remove();
    let outcome = site.run_under(files.repository(&site), &Fixture::task(Some(&at("x")))).await.unwrap();
    assert!(matches!(outcome, TaskOutcome::Snooze { task: None, .. }), "{outcome:?}");
    assert_eq!((site.totals(), site.destination.writes()), (Totals::default(), 0));
}
