//! Lists that wait for a person: which one a token identifies, and how it is granted or withdrawn.

use super::*;

const NOW: Timestamp = Timestamp::from_millis(7);

async fn state(lists: &DeleteLists, id: DeleteListId) -> DeleteListState {
    lists.head(&pair(), id).await.unwrap().unwrap().record.state
}

fn is_index_empty(table: &MemoryTable) -> bool {
    table.rows().iter().all(|(key, _)| key.partition != "held")
}

#[tokio::test]
async fn a_token_names_one_pair_list_count_and_digest() {
    let named = |pair: SpacePair, number: u8, count: u64, digest: &str| {
        let record = DeleteListHead { digest: digest.into(), ..head(count, held_state()) };
        HeldList { pair, list: list(number), head: Versioned { record, version: None } }.token().to_string()
    };
    let token = named(pair(), 1, 21, "d");
    assert_eq!(token, named(pair(), 1, 21, "d"), "it is the same at every look");
    assert!(token.starts_with("21-") && token.len() == 19, "a person reads how many it lets go: {token}");
    let with = |change: fn(&mut SpacePair)| {
        let mut pair = pair();
        change(&mut pair);
        pair
    };
    let others = [
        named(with(|pair| pair.account = AccountId::new("b").unwrap()), 1, 21, "d"),
        named(with(|pair| pair.source = StoreId::new("t").unwrap()), 1, 21, "d"),
        named(with(|pair| pair.destination = StoreId::new("e").unwrap()), 1, 21, "d"),
        named(with(|pair| pair.space = SpaceId::new("q").unwrap()), 1, 21, "d"),
        named(pair(), 2, 21, "d"),
        named(pair(), 1, 22, "d"),
        named(pair(), 1, 21, "e"),
    ];
    for (at, other) in others.iter().enumerate() {
        // The part after the count.
        let hash = |token: &str| token.split_once('-').unwrap().1.to_owned();
        assert!(hash(other) != hash(&token) && !others[..at].contains(other), "{at}");
    }
}

#[tokio::test]
async fn the_reason_of_a_hold_is_no_part_of_its_token() {
    let (lists, _) = repository();
    let mut held = hold(&lists, &pair(), list(1), head(21, held_state())).await;
    let token = held.token();
    held.head.record.state = DeleteListState::Held { reason: HoldReason::TooMuchHidden };
    lists.save_head(&pair(), list(1), &mut held.head).await.unwrap();
    let found = lists.by_token(&token.to_string()).await.unwrap();
    assert_eq!(found.head.record.held(), Some(&HoldReason::TooMuchHidden));
}

#[tokio::test]
async fn a_token_finds_its_list_among_all_that_are_held_and_no_other() {
    let (lists, _) = repository();
    let mut tokens = Vec::new();
    for number in 0..10 {
        let pair = pair_of_space(&format!("Fotos {number}"));
        let held = hold(&lists, &pair, list(number), head(21, held_state())).await;
        tokens.push((pair, held.token().to_string()));
    }
    assert_eq!(lists.held().await.unwrap().len(), 10, "over many pages");
    for (pair, token) in &tokens {
        assert_eq!(lists.by_token(token).await.unwrap().pair, *pair);
    }
    for wrong in ["", "21", "21-", "21-0000000000000000", &tokens[0].1.to_uppercase(), &format!("{} ", tokens[0].1)] {
        let error = lists.by_token(wrong).await.unwrap_err();
        assert!(matches!(error, DeleteListError::NoSuchToken { .. }), "{wrong:?} {error}");
    }
}

#[tokio::test]
async fn a_grant_says_who_and_when_and_ends_the_hold() {
    let (lists, table) = repository();
    let mut held = hold(&lists, &pair(), list(1), head(21, held_state())).await;
    assert!(!held.head.record.is_granted());
    lists.grant(&mut held, "ann", NOW).await.unwrap();
    assert_eq!(state(&lists, list(1)).await, DeleteListState::Granted { by: GrantedBy::Person("ann".into()), at: 7 });
    assert!(lists.head(&pair(), list(1)).await.unwrap().unwrap().record.is_granted());
    assert!(lists.held().await.unwrap().is_empty());
    assert!(lists.by_token(&held.token().to_string()).await.is_err(), "a token is good for once");
    assert!(is_index_empty(&table));
}

#[tokio::test]
async fn a_withdrawn_list_is_neither_held_nor_granted() {
    let (lists, table) = repository();
    let mut held = hold(&lists, &pair(), list(1), head(21, held_state())).await;
    lists.withdraw(&mut held).await.unwrap();
    assert_eq!(state(&lists, list(1)).await, DeleteListState::Withdrawn);
    assert!(!lists.head(&pair(), list(1)).await.unwrap().unwrap().record.is_granted());
    assert!(lists.held().await.unwrap().is_empty() && is_index_empty(&table));
}

#[tokio::test]
async fn a_space_that_was_not_missing_for_a_day_is_not_granted() {
    let (lists, _) = repository();
    let missing = |for_a_day| DeleteListState::Held { reason: HoldReason::SpaceMissing { since: 1, for_a_day } };
    let of_space = |for_a_day| DeleteListHead { of: DeletionScope::Space, ..head(3, missing(for_a_day)) };
    let mut held = hold(&lists, &pair(), list(1), of_space(false)).await;
    let refused = lists.grant(&mut held, "ann", NOW).await.unwrap_err();
    assert!(matches!(refused, DeleteListError::NotMissingForADay));
    assert_eq!(state(&lists, list(1)).await, missing(false));
    assert_eq!(lists.held().await.unwrap().len(), 1, "it is held as before");
    let mut held = hold(&lists, &pair(), list(2), of_space(true)).await;
    lists.grant(&mut held, "ann", NOW).await.unwrap();
    assert!(matches!(state(&lists, list(2)).await, DeleteListState::Granted { .. }));
}

#[tokio::test]
async fn of_two_people_who_decide_at_once_one_does() {
    for other_grants in [false, true] {
        let lists = DeleteLists::new(Arc::new(TestTable::yielding()));
        let mut ann = hold(&lists, &pair(), list(1), head(21, held_state())).await;
        let mut bob = ann.clone();
        let decides = async {
            if other_grants { lists.grant(&mut bob, "bob", NOW).await } else { lists.withdraw(&mut bob).await }
        };
        let (first, second) = futures::join!(lists.grant(&mut ann, "ann", NOW), decides);
        let done = [&first, &second].map(Result::is_ok);
        assert!(done[0] != done[1], "{first:?} {second:?}");
        let lost = first.and(second).unwrap_err();
        assert!(matches!(lost, DeleteListError::Changed { .. }), "{lost}");
        let expected = match (done[0], other_grants) {
            (true, _) => DeleteListState::Granted { by: GrantedBy::Person("ann".into()), at: 7 },
            (false, true) => DeleteListState::Granted { by: GrantedBy::Person("bob".into()), at: 7 },
            (false, false) => DeleteListState::Withdrawn,
        };
        assert_eq!(state(&lists, list(1)).await, expected);
    }
}

#[tokio::test]
async fn a_list_that_changed_since_it_was_shown_is_not_granted_by_that_look() {
    let (lists, _) = repository();
    let stale = hold(&lists, &pair(), list(1), head(21, held_state())).await;
    for now in [held_state(), DeleteListState::Withdrawn] {
        let mut head = lists.head(&pair(), list(1)).await.unwrap().unwrap();
        head.record.state = now.clone();
        lists.save_head(&pair(), list(1), &mut head).await.unwrap();
        let error = lists.grant(&mut stale.clone(), "ann", NOW).await.unwrap_err();
        assert!(matches!(error, DeleteListError::Changed { .. }), "{error}");
        assert_eq!(state(&lists, list(1)).await, now);
    }
}

#[tokio::test]
async fn a_decision_that_was_written_but_not_answered_stands_when_it_is_made_again() {
    let (lists, _) = repository();
    let mut held = hold(&lists, &pair(), list(1), head(21, held_state())).await;
    let mut again = held.clone();
    lists.grant(&mut held, "ann", NOW).await.unwrap();
    lists.grant(&mut again, "ann", NOW).await.unwrap();
    lists.save_head(&pair(), list(1), &mut again.head).await.unwrap();
}

#[tokio::test]
async fn a_decision_about_one_list_leaves_the_next_one_of_its_pair_findable() {
    for grants in [false, true] {
        let (lists, _) = repository();
        let mut old = hold(&lists, &pair(), list(1), head(21, held_state())).await;
        // While the person decides, the producer surveys and holds another list.
        let next = hold(&lists, &pair(), list(2), head(22, held_state())).await;
        if grants {
            lists.grant(&mut old, "ann", NOW).await.unwrap();
        } else {
            lists.withdraw(&mut old).await.unwrap();
        }
        assert_eq!(lists.by_token(&next.token().to_string()).await.unwrap().list, list(2));
        lists.note_not_held(&pair(), list(2)).await.unwrap();
        assert!(lists.held().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_head_that_cannot_be_read_grants_nothing_and_is_named() {
    let (lists, table) = repository();
    let mut held = hold(&lists, &pair(), list(1), head(21, held_state())).await;
    let key = head_key(&pair(), list(1));
    let written = table.get(&key).await.unwrap().unwrap().value;
    let text = std::str::from_utf8(&written).unwrap();
    for damaged in [
        String::new(),
        "{".into(),
        "null".into(),
        r#"{"state":{"granted":{"by":"rule","at":1}}}"#.into(),
        text.replace("held", "allowed"),
        text.replace(r#""of":"items""#, r#""of":"everything""#),
        text.replacen(r#""count":21"#, r#""count":-21"#, 1),
        text[..text.len() - 1].into(),
    ] {
        assert_ne!(damaged, text);
        table.put(&key, damaged.clone().into(), RowPrecondition::Always).await.unwrap();
        for error in [lists.head(&pair(), list(1)).await.err(), lists.held().await.err()] {
            assert!(matches!(&error, Some(DeleteListError::Unreadable { sort }) if sort.contains("head")), "{damaged}");
        }
        assert!(lists.grant(&mut held, "ann", NOW).await.is_err());
    }
}

#[tokio::test]
async fn an_index_that_points_at_nothing_or_at_nonsense_holds_nothing() {
    let (lists, table) = repository();
    lists.note_held(&pair(), list(1)).await.unwrap();
    assert!(lists.held().await.unwrap().is_empty(), "the head was never written");
    for state in [DeleteListState::Withdrawn, DeleteListState::Granted { by: GrantedBy::Rule, at: 1 }] {
        lists.note_held(&pair(), list(2)).await.unwrap();
        let _ = lists.add_head(&pair(), list(2), head(1, state)).await;
        assert!(lists.held().await.unwrap().is_empty(), "the head decides");
    }
    table.put(&RowKey::new("held", "a/s/d/p"), "no list".into(), RowPrecondition::Always).await.unwrap();
    assert!(matches!(lists.held().await, Err(DeleteListError::Unreadable { .. })));
}
