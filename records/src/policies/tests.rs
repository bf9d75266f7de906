mod place;

use mill_model::{SpacePair, StoreId};
use mill_ports::StoreErrorKind;

use self::place::{Place, warnings};
use super::*;

const REFRESH: Duration = Duration::from_mins(5);
const LIST: &str = "duplication-accounts.json";
const ALICE: &str = "alice-duplication-policy.json";
const ONE_TO_TWO: &str = r#"{"spaceDuplicationStorePolicies": {"photos": [{"srcStoreId": "1", "destStoreId": "2"}]}}"#;
const STORES: &str = r#"{"stores": [{"id": "1", "type": "folder", "root": "/a", "primary": true},
    {"id": "2", "type": "folder", "root": "/b"}]}"#;

fn account(id: &str) -> AccountId {
    AccountId::new(id).unwrap()
}

/// Whether the policy covers `photos`.
fn covers(policy: &AccountPolicy) -> bool {
    let (space, id) = (SpaceId::new("photos").unwrap(), |id| StoreId::new(id).unwrap());
    let pair = SpacePair { account: account("alice"), source: id("1"), destination: id("2"), space };
    policy.covering(&pair).is_some()
}

/// The policies of two accounts, both valid.
fn policies() -> (Arc<Place>, PolicyRepository) {
    let place = Place::new();
    place.write(LIST, r#"["alice", "bob"]"#);
    for (file, text) in [(ALICE, ONE_TO_TWO), ("alice-stores.json", STORES)] {
        place.write(file, text);
    }
    for (file, text) in [("bob-duplication-policy.json", "{}"), ("bob-stores.json", STORES)] {
        place.write(file, text);
    }
    let policies = again(&place);
    (place, policies)
}

/// The same files, not read yet.
fn again(place: &Arc<Place>) -> PolicyRepository {
    let space = SpaceId::new("policies").unwrap();
    PolicyRepository::of_store(Arc::<Place>::clone(place), space, Arc::<Place>::clone(place), REFRESH)
}

#[tokio::test]
async fn a_policy_is_read_once_and_then_only_looked_at() {
    let (place, policies) = policies();
    for _ in 0..100 {
        assert!(covers(&policies.account(&account("alice")).await.unwrap()));
    }
    assert_eq!(place.calls(), (3, 0), "the list and two files are opened");
    place.pass(REFRESH);
    policies.account(&account("alice")).await.unwrap();
    assert_eq!(place.calls(), (3, 3), "unchanged files are not read again");
}

#[tokio::test]
async fn a_change_is_obeyed_after_the_refreshing_time_and_not_before() {
    let (place, policies) = policies();
    assert!(covers(&policies.account(&account("alice")).await.unwrap()));
    place.write(ALICE, "{}");
    place.pass(Duration::from_millis(299_999));
    assert!(covers(&policies.account(&account("alice")).await.unwrap()));
    place.pass(Duration::from_millis(1));
    let policy = policies.account(&account("alice")).await.unwrap();
    assert!(!covers(&policy) && policy.named_spaces().is_empty());
}

#[tokio::test]
async fn a_version_too_young_to_prove_anything_is_read_again() {
    let (place, policies) = policies();
    place.unsettle(true);
    policies.account(&account("alice")).await.unwrap();
    place.write_unseen(ALICE, "{}");
    place.unsettle(false);
    place.pass(REFRESH);
    assert!(!covers(&policies.account(&account("alice")).await.unwrap()));
}

#[tokio::test]
async fn a_broken_file_stops_its_account_only_and_the_last_good_version_stays() {
    let (place, policies) = policies();
    policies.account(&account("alice")).await.unwrap();
    place.write(ALICE, r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "9"}]}"#);
    place.pass(REFRESH);
    assert!(covers(&policies.account(&account("alice")).await.unwrap()));
    let states = policies.states();
    let alice = states.iter().find(|state| state.account == Some(account("alice"))).unwrap();
    assert_eq!((alice.in_use, alice.since), (PolicyFreshness::LastGood, place.now()));
    assert_eq!((alice.faults[0].line, alice.faults[0].column), (1, 57));

    // Without a good version nothing is known of the account; the other one goes on.
    let fresh = again(&place);
    let error = fresh.account(&account("alice")).await.unwrap_err();
    assert!(matches!(&error, PolicyError::Broken { file, .. } if file == ALICE), "{error}");
    assert!(error.to_string().contains("alice-duplication-policy.json:1:57: error: "), "{error}");
    let all = fresh.accounts().await.unwrap();
    assert!(all[0].1.is_err() && all[1].1.is_ok());
    assert_eq!(fresh.faults(), alice.faults);
}

#[tokio::test]
async fn what_was_corrected_is_obeyed_soon() {
    let (place, policies) = policies();
    place.write(ALICE, "{");
    policies.account(&account("alice")).await.unwrap_err();
    place.write(ALICE, ONE_TO_TWO);
    place.pass(Duration::from_secs(10));
    assert!(covers(&policies.account(&account("alice")).await.unwrap()));
    assert!(policies.states().iter().all(|state| state.in_use == PolicyFreshness::Current && state.trouble.is_none()));
}

#[tokio::test]
async fn only_a_list_that_was_read_says_that_an_account_is_not_listed() {
    let (place, policies) = policies();
    let not_listed = |asked: Result<_, PolicyError>| matches!(asked, Err(PolicyError::NotListed { .. }));
    assert!(not_listed(policies.account(&account("carol")).await));
    place.write(LIST, "[\"alice\", ");
    place.pass(REFRESH);
    assert!(matches!(policies.account(&account("carol")).await, Err(PolicyError::Broken { .. })));
    assert!(policies.account(&account("alice")).await.is_ok(), "the last good list stays in use");
    place.write(LIST, "[\"bob\"]");
    place.pass(REFRESH);
    assert!(not_listed(policies.account(&account("alice")).await));
    assert_eq!(policies.accounts().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_missing_list_is_not_an_empty_one() {
    let (place, policies) = policies();
    place.remove(LIST);
    assert!(matches!(policies.accounts().await, Err(PolicyError::MissingFile { file }) if file == LIST));
    assert!(matches!(policies.account(&account("alice")).await, Err(PolicyError::MissingFile { .. })));
    place.write(LIST, "[]");
    place.pass(REFRESH);
    assert!(policies.accounts().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_store_that_does_not_answer_takes_no_policy_away() {
    let (place, policies) = policies();
    policies.accounts().await.unwrap();
    for kind in [StoreErrorKind::Unavailable, StoreErrorKind::SpaceAbsent, StoreErrorKind::Unexpected] {
        place.fail(Some(kind));
        place.pass(REFRESH);
        assert!(covers(&policies.account(&account("alice")).await.unwrap()));
        assert_eq!(policies.accounts().await.unwrap().len(), 2);
        assert!(matches!(policies.account(&account("carol")).await, Err(PolicyError::Unreadable { .. })));
    }
    let error = again(&place).accounts().await.unwrap_err();
    assert!(matches!(error, PolicyError::Unreadable { .. }), "{error}");
}

#[tokio::test]
async fn a_policy_file_that_is_gone_does_not_end_the_policy_of_a_listed_account() {
    let (place, policies) = policies();
    policies.account(&account("alice")).await.unwrap();
    place.remove(ALICE);
    place.pass(REFRESH);
    assert!(covers(&policies.account(&account("alice")).await.unwrap()));
    let asked = again(&place).account(&account("alice")).await;
    assert!(matches!(asked, Err(PolicyError::MissingFile { file }) if file == ALICE));
}

#[tokio::test]
async fn a_file_too_large_is_refused_unread() {
    let (place, policies) = policies();
    place.write(ALICE, &" ".repeat(mill_policy::FILE_BYTES_MAX + 1));
    let error = policies.account(&account("alice")).await.unwrap_err();
    assert!(error.to_string().contains("1048577 bytes"), "{error}");
    assert_eq!(policies.faults().len(), 1);
    assert!(place.bytes_read() < 1024, "{} bytes were read", place.bytes_read());
}

#[tokio::test]
async fn a_file_saved_while_it_is_read_is_read_again() {
    let (place, policies) = policies();
    place.change_while_read(2);
    assert!(policies.account(&account("alice")).await.is_ok());
    place.change_while_read(100);
    place.pass(REFRESH);
    place.write(ALICE, "{}");
    assert!(covers(&policies.account(&account("alice")).await.unwrap()), "half a file is never obeyed");
}

#[tokio::test]
async fn a_slow_account_holds_up_no_other_and_is_read_once_for_all_who_ask() {
    let (place, policies) = policies();
    policies.account(&account("bob")).await.unwrap();
    let (opened, looked_at) = place.calls();
    place.hold(ALICE);
    let alice = account("alice");
    let asking = futures::future::join_all((0..50).map(|_| policies.account(&alice)));
    let mut asking = std::pin::pin!(asking);
    assert!(futures::poll!(asking.as_mut()).is_pending());
    assert!(policies.account(&account("bob")).await.is_ok());
    place.hold("");
    assert!(asking.await.iter().all(Result::is_ok));
    assert_eq!(place.calls(), (opened + 2, looked_at));
}

#[tokio::test]
async fn while_one_looks_again_the_others_have_the_answer_so_far() {
    let (place, policies) = policies();
    let alice = account("alice");
    policies.account(&alice).await.unwrap();
    place.write(ALICE, "{}");
    place.hold(ALICE);
    place.pass(REFRESH);
    let mut first = std::pin::pin!(policies.account(&alice));
    assert!(futures::poll!(first.as_mut()).is_pending());
    assert!(covers(&policies.account(&alice).await.unwrap()));
    place.hold("");
    assert!(!covers(&first.await.unwrap()));
}

#[tokio::test]
async fn a_look_that_is_given_up_is_taken_up_by_the_next() {
    let (place, policies) = policies();
    let alice = account("alice");
    place.hold(ALICE);
    {
        let mut given_up = std::pin::pin!(policies.account(&alice));
        assert!(futures::poll!(given_up.as_mut()).is_pending());
    }
    place.hold("");
    assert!(covers(&policies.account(&alice).await.unwrap()));
}

#[test]
fn a_fault_is_said_once_and_again_only_when_it_is_another() {
    let said = warnings(async {
        let (place, policies) = policies();
        policies.account(&account("alice")).await.unwrap();
        for text in ["{", "{", "{\"x\": 1}", ONE_TO_TWO] {
            place.write(ALICE, text);
            for _ in 0..30 {
                place.pass(REFRESH);
                policies.account(&account("alice")).await.unwrap();
            }
        }
    });
    assert_eq!(said.len(), 2, "{said:#?}");
    for (said, fault) in said.iter().zip(["never closed", "unknown member"]) {
        assert!(said.contains(ALICE) && said.contains(fault) && said.contains("last good version"), "{said}");
    }
}

#[test]
fn faults_that_come_and_go_are_not_said_each_time() {
    let said = warnings(async {
        let (place, policies) = policies();
        for n in 0..600 {
            place.write(ALICE, if n % 2 == 0 { "{" } else { "{}}" });
            place.pass(Duration::from_secs(10));
            _ = policies.account(&account("alice")).await;
        }
    });
    assert!((50..=100).contains(&said.len()), "at most once a minute in 100 minutes, not {}", said.len());
}

#[test]
fn a_space_that_is_stopped_is_said_though_the_account_goes_on() {
    let said = warnings(async {
        let (place, policies) = policies();
        let round = r#"{"srcStoreId": "1", "destStoreId": "2"}, {"srcStoreId": "2", "destStoreId": "1"}"#;
        place.write(ALICE, &format!("{{\"spaceDuplicationStorePolicies\": {{\"round\": [{round}]}}}}"));
        policies.account(&account("alice")).await.unwrap();
        assert_eq!(policies.faults().len(), 1);
    });
    assert!(said.len() == 1 && said[0].contains("cycle"), "{said:#?}");
}

#[tokio::test]
async fn a_fixed_repository_knows_its_accounts_and_no_others() {
    let id = |id| StoreId::new(id).unwrap();
    let space = SpaceId::new("photos").unwrap();
    let compare = mill_policy::Compare::Differences;
    let policy = AccountPolicy::mirror(account("mirror"), space, id("1"), id("2"), compare, true);
    let policies = PolicyRepository::fixed(vec![policy]);
    assert!(covers(&policies.account(&account("mirror")).await.unwrap()));
    assert!(matches!(policies.account(&account("alice")).await, Err(PolicyError::NotListed { .. })));
    assert_eq!(policies.accounts().await.unwrap().len(), 1);
    assert!(policies.states().is_empty());
}
