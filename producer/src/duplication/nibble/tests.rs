use futures::{StreamExt as _, stream};
use mill_model::{AccountId, ItemFacts, ItemState, SpaceId, StoreId, Version};
use mill_ports::{CompleteListing, ListEntry, ListPage, StoreError, StoreErrorKind};
use proptest::prelude::*;

use super::*;
use crate::listing::OrderedListing;

/// An entry of a source, under its number.
#[derive(Debug, Clone, Copy)]
enum Entry {
    Item,
    Link,
    Unseen,
    Reserved,
}

fn any_entries() -> impl Strategy<Value = Vec<Entry>> {
    let entry = prop_oneof![5 => Just(Entry::Item), 2 => Just(Entry::Link), 1 => Just(Entry::Unseen), 1 => Just(Entry::Reserved)];
    proptest::collection::vec(entry, 0..60)
}

fn name(number: usize) -> String {
    format!("{number:04}")
}

fn listed(number: usize, entry: Entry) -> ListEntry {
    let facts = ItemFacts {
        size: 1,
        modified: None,
        version: Version::settled_at("v"),
        checksums: Vec::new(),
        properties: None,
        state: ItemState::Online,
    };
    let shown = name(number);
    match entry {
        Entry::Item => ListEntry::Item(ContentId::new(shown).unwrap(), facts),
        Entry::Link => ListEntry::Refused { shown, reason: RefusalReason::SymbolicLink },
        Entry::Unseen => ListEntry::Hidden { shown },
        Entry::Reserved => ListEntry::Refused { shown, reason: RefusalReason::Reserved },
    }
}

fn pair() -> SpacePair {
    SpacePair {
        account: AccountId::new("a").unwrap(),
        source: StoreId::new("1").unwrap(),
        destination: StoreId::new("2").unwrap(),
        space: SpaceId::new("s").unwrap(),
    }
}

/// The listing after a marker in pages of `page`, broken off after so many pages.
fn opened(entries: &[Entry], after: Option<&ContentId>, page: usize, pages_max: usize) -> Merge {
    let from = after.map_or(0, |id| id.as_str().parse::<usize>().unwrap() + 1);
    let all: Vec<ListEntry> =
        entries.iter().enumerate().skip(from).map(|(number, entry)| listed(number, *entry)).collect();
    let count = all.len().div_ceil(page).max(1);
    let mut pages: Vec<Result<ListPage, StoreError>> = Vec::new();
    let mut all = all.into_iter();
    for number in 1..=count {
        let entries = all.by_ref().take(page).collect();
        pages.push(Ok(ListPage { entries, places: Vec::new(), end: number == count }));
    }
    if pages.len() > pages_max {
        pages.truncate(pages_max);
        let store = mill_model::StoreAddress { account: pair().account, store: pair().source };
        let kind = StoreErrorKind::Unexpected;
        pages.push(Err(StoreError { kind, op: "list", store, subject: "s".into(), source: None }));
    }
    let listing = OrderedListing::of(CompleteListing::of(&pair().space, stream::iter(pages).boxed(), after));
    Merge::new(listing, None, None)
}

proptest! {
    /// However a listing is cut into pages and nibbles, reopened at its markers and broken off, each entry is counted
    /// once, in its class.
    #[test]
    fn the_sums_of_nibbles_come_to_each_entry_once(
        entries in any_entries(), page in 1_usize..9, most in 1_usize..9, pages_max in 1_usize..12, reopens in any::<bool>()
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (mut sum, mut names, mut marker) = (SurveySum::default(), Vec::new(), None);
        let (mut merge, mut pages_now) = (opened(&entries, None, page, pages_max), pages_max);
        for _ in 0..500 {
            let nibble = Nibble::new(&pair(), Compare::Differences);
            let mut nibble = runtime.block_on(nibble.gather(&mut merge, most));
            let (part, named) = nibble.settle(nibble.items.len() as u64);
            prop_assert_eq!(part.check(), Ok(()));
            sum += part;
            names.extend(named.into_iter().map(|named| named.shown));
            marker = nibble.last.or(marker);
            if nibble.end {
                break;
            }
            if reopens || nibble.broken.is_some() {
                pages_now += 1;
                merge = opened(&entries, marker.as_ref(), page, pages_now);
            }
        }
        let count = |wanted: fn(&Entry) -> bool| entries.iter().filter(|entry| wanted(entry)).count() as u64;
        let expected = SurveySum {
            listed: entries.len() as u64,
            unchanged: 0,
            queued: count(|entry| matches!(entry, Entry::Item)),
            refused: count(|entry| matches!(entry, Entry::Link)),
            hidden: count(|entry| matches!(entry, Entry::Unseen)),
            ignored: count(|entry| matches!(entry, Entry::Reserved)),
        };
        prop_assert_eq!(sum, expected);
        let all = entries.iter().enumerate().filter(|(_, entry)| !matches!(entry, Entry::Item));
        prop_assert_eq!(names, all.map(|(number, _)| name(number)).collect::<Vec<_>>());
    }
}
