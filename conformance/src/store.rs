//! The promises of every store.

pub mod conditions;
pub mod listings;
pub mod names;
pub mod reads;
pub mod server_side_copy;
pub mod spaces;
pub mod writes;

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use mill_model::{ContentId, ItemAddress, ItemFacts, Properties, SpaceId};
use mill_ports::{Body, ListEntry, Precondition, PutRequest, PutResult, StoreError, StoreErrorKind};

use crate::subject::StoreSubject;

/// Makes the tests of a store in a module of its own.
///
/// ```ignore
/// store_suite!(name, path::to::open, versions_in_listings: yes);
/// ```
#[macro_export]
macro_rules! store_suite {
    ($name:ident, $open:path, versions_in_listings: $versions:ident) => {
        mod $name {
            #[test]
            fn the_declared_capabilities_are_its_own() {
                $crate::subject::run(async {
                    let capabilities = $open().await.store.capabilities();
                    assert_eq!(capabilities.versions_in_listings, $crate::declared!($versions));
                });
            }
            $crate::cases! { $open, store::spaces;
                a_created_space_is_there
                creating_a_space_twice_keeps_its_items
                spaces_are_listed_in_order
                an_absent_space_is_absent_and_no_error
                a_space_keeps_its_identity_and_shares_it_with_none
                an_empty_space_can_be_removed
                a_space_that_held_items_can_be_removed_once_it_is_empty
                a_space_with_items_is_not_removed
                removing_an_absent_space_is_fine
                nothing_is_known_of_items_of_an_absent_space
                nothing_is_written_into_an_absent_space
                spaces_share_no_items
            }
            $crate::cases! { $open, store::writes;
                an_item_reads_as_it_was_written
                an_empty_item_is_an_item
                a_large_item_in_odd_pieces_arrives_whole
                empty_pieces_change_nothing
                replacing_leaves_nothing_of_the_old
                a_failing_body_is_given_back_and_writes_nothing
                a_body_that_fails_at_once_writes_nothing
                too_short_a_body_writes_nothing
                too_long_a_body_writes_nothing
                an_abandoned_write_leaves_what_was_there
                writes_at_once_leave_one_of_them_whole
                all_properties_are_kept
                writing_properties_replaces_all_and_keeps_the_bytes
                checksums_told_are_true
                a_deleted_item_is_gone_and_its_neighbours_are_not
                deleting_what_is_absent_tells_so
                deleting_the_last_item_beneath_a_prefix_leaves_nothing
            }
            $crate::cases! { $open, store::conditions;
                a_write_tells_the_version_that_head_tells
                each_write_makes_another_version
                absent_put_has_one_winner
                absent_put_leaves_what_is_there
                absent_put_after_a_delete_writes
                a_put_in_the_expected_state_writes
                a_put_in_another_state_is_refused
                a_put_in_a_state_of_an_absent_item_is_refused
                a_put_under_one_version_has_one_winner
                properties_in_the_expected_state_are_written
                properties_in_another_state_are_refused
                properties_of_an_absent_item_are_refused
                a_delete_in_the_expected_state_deletes
                a_delete_in_another_state_is_refused
            }
            $crate::cases! { $open, store::reads;
                an_absent_item_is_absent_and_no_error
                head_and_open_tell_the_same
                ranges_are_read_exactly
                uncached_readings_give_what_was_written
                opening_in_the_expected_state_opens
                opening_in_another_state_is_refused
                an_item_overwritten_while_read_is_one_state_or_an_error
                an_item_deleted_while_read_is_one_state_or_an_error
                a_body_can_be_left_unread
                readers_at_once_read_the_same
            }
            $crate::cases! { $open, store::listings;
                a_listing_is_in_order_of_bytes
                an_empty_space_lists_nothing_and_ends
                a_listing_of_many_names_each_once_and_ends_once
                a_listing_begins_after_the_id_given
                a_listing_tells_sizes
                a_listing_does_not_name_what_is_written_elsewhere
                an_item_there_all_the_while_is_listed_once
            }
            $crate::cases_if! { $versions, "does not apply: its listings do not tell versions",
                $open, store::listings;
                a_listing_tells_the_versions_that_head_tells
            }
            $crate::cases! { $open, store::names;
                ids_of_the_greatest_length
                composed_and_decomposed_letters_are_two_ids
                upper_and_lower_case_are_two_ids
                an_id_and_one_beneath_it
                a_directory_is_an_empty_item
                hostile_ids_are_kept_or_refused
                hostile_ids_beneath_a_prefix_are_kept_or_refused
                hostile_ids_are_absent_until_they_are_written
                hostile_spaces_are_kept_or_refused
                odd_properties_are_kept_or_refused
            }
        }
    };
}

/// Makes the tests of a store whose service copies items on the server side, in a module of its own.
///
/// ```ignore
/// server_side_copy_suite!(name, path::to::open);
/// ```
#[macro_export]
macro_rules! server_side_copy_suite {
    ($name:ident, $open:path) => {
        mod $name {
            $crate::cases! { $open, store::server_side_copy;
                what_is_taken_has_the_bytes_of_its_origin_and_the_properties_given
                taking_is_done_only_in_the_expected_state
                what_the_caller_gives_up_is_not_taken
                of_an_origin_in_another_state_nothing_is_taken
            }
        }
    };
}

/// The content of an item: its bytes and properties.
pub(crate) type StoredContent = (Bytes, Properties);

/// The space that most cases use.
pub fn space() -> SpaceId {
    SpaceId::new("space").unwrap()
}

/// An item in it.
pub(crate) fn item(id: &str) -> ItemAddress {
    ItemAddress { space: space(), id: ContentId::new(id).unwrap() }
}

/// Properties from pairs.
pub(crate) fn properties(pairs: &[(&str, &str)]) -> Properties {
    Properties(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

/// Bytes that identify their item.
pub(crate) fn pattern(size: usize, seed: usize) -> Bytes {
    (0..size).map(|at| ((at * 31 + at / 251 + seed * 7) % 256) as u8).collect()
}

/// A body of one piece.
pub(crate) fn body(bytes: &Bytes) -> Body {
    stream::iter([Ok(bytes.clone())]).boxed()
}

/// A body that yields before, between and after its pieces, so that concurrent writes really overlap.
pub(crate) fn slow_body(bytes: &Bytes) -> Body {
    let (first, second) = (bytes.slice(..bytes.len() / 2), bytes.slice(bytes.len() / 2..));
    let piece = |piece: Bytes| async move {
        tokio::task::yield_now().await;
        Ok(piece)
    };
    stream::iter([first, second, Bytes::new()]).then(piece).boxed()
}

/// Asserts the kind of a failure.
pub(crate) fn assert_kind<T: std::fmt::Debug>(answer: Result<T, StoreError>, kind: &StoreErrorKind) {
    let error = answer.unwrap_err();
    assert_eq!(error.kind, *kind, "{error:?}");
}

/// Whether a write was refused as unsupported. Any other failure fails the case.
pub(crate) fn kept<T: std::fmt::Debug>(answer: Result<T, StoreError>, what: &str) -> bool {
    match answer {
        Ok(_) => true,
        Err(error) if matches!(error.kind, StoreErrorKind::Refused(_)) => false,
        Err(error) => panic!("{what:?}: neither kept nor refused: {error:?}"),
    }
}

impl StoreSubject {
    /// The subject with its space.
    pub async fn with_space(self) -> Self {
        self.store.create_space(&space()).await.unwrap();
        self
    }

    /// Writes an item slowly.
    pub(crate) async fn put_slowly(
        &self,
        item: &ItemAddress,
        read: &StoredContent,
        when: &Precondition,
    ) -> Result<PutResult, StoreError> {
        let content = PutRequest::new(read.0.len() as u64, read.1.clone());
        self.store.put(item, &content, when, slow_body(&read.0)).await
    }

    /// Writes an item with an announced size, which may be wrong.
    pub(crate) async fn put_announced(
        &self,
        item: &ItemAddress,
        read: &StoredContent,
        size: u64,
        when: &Precondition,
    ) -> Result<PutResult, StoreError> {
        let content = PutRequest::new(size, read.1.clone());
        self.store.put(item, &content, when, body(&read.0)).await
    }

    pub(crate) async fn put_when(
        &self,
        item: &ItemAddress,
        read: &StoredContent,
        when: &Precondition,
    ) -> Result<PutResult, StoreError> {
        self.put_announced(item, read, read.0.len() as u64, when).await
    }

    /// Writes an item and returns its expected content.
    pub(crate) async fn put(&self, id: &str, bytes: impl Into<Bytes>, pairs: &[(&str, &str)]) -> StoredContent {
        let read = (bytes.into(), properties(pairs));
        self.put_when(&item(id), &read, &Precondition::Always).await.unwrap();
        read
    }

    /// Reads an item, without the properties that a folder adds.
    pub(crate) async fn read(&self, item: &ItemAddress) -> Option<StoredContent> {
        let reading = self.store.open(item, None, None).await.unwrap().present()?;
        let head = self.facts(item).await.unwrap();
        assert_eq!(reading.facts.properties, head.properties);
        let bytes: Vec<Bytes> = reading.body.try_collect().await.unwrap();
        let bytes = Bytes::from(bytes.concat());
        assert_eq!(bytes.len() as u64, head.size);
        Some((bytes, head.properties.expect("head tells the properties")))
    }

    /// Asserts the content of an item. A folder adds a file's time and mode to the properties.
    pub(crate) async fn assert_reads(&self, item: &ItemAddress, expected: &StoredContent) {
        let (bytes, mut told) = self.read(item).await.unwrap_or_else(|| panic!("{item} is not there"));
        for name in [Properties::FILE_MTIME, Properties::FILE_MODE] {
            if !expected.1.0.contains_key(name) {
                told.0.remove(name);
            }
        }
        assert!(bytes == expected.0, "{item} has other bytes: {} instead of {}", bytes.len(), expected.0.len());
        assert_eq!(told, expected.1, "{item}");
    }

    pub(crate) async fn facts(&self, item: &ItemAddress) -> Option<ItemFacts> {
        self.store.head(item).await.unwrap().present()
    }

    /// Asserts that an item is absent.
    pub(crate) async fn assert_absent(&self, item: &ItemAddress) {
        assert!(self.facts(item).await.is_none(), "{item} is there");
        assert!(self.store.open(item, None, None).await.unwrap().present().is_none(), "{item} can be opened");
    }

    /// Returns a whole listing. Asserts its order, that only the last page is the end, and that nothing is refused.
    pub(crate) async fn list(&self, space: &SpaceId, after: Option<&str>) -> BTreeMap<String, ItemFacts> {
        let after = after.map(|id| ContentId::new(id).unwrap());
        let mut listing = self.store.list(space, after.clone());
        let (mut listed, mut last, mut end) = (BTreeMap::new(), after, false);
        // Page by page, so that a listing in an endless loop fails and does not hang.
        while let Some(page) = listing.try_next().await.unwrap() {
            assert!(!end, "the end is the last page");
            end = page.end;
            for entry in page.entries {
                let ListEntry::Item(id, facts) = entry else {
                    panic!("{entry:?} among what was written as items");
                };
                assert!(last.as_ref() < Some(&id), "{last:?} stands before {id:?}");
                listed.insert(id.as_str().to_owned(), facts);
                last = Some(id);
            }
        }
        assert!(end, "the listing is over before its end");
        listed
    }

    /// The ids in the space.
    pub async fn ids(&self) -> Vec<String> {
        self.list(&space(), None).await.into_keys().collect()
    }
}
