//! Items whose names the destination folds to one.
//!
//! Such a store cannot hold `readme` beside `README`. The item that is there is the copy of another item, so it is never replaced
//! under the new name. Only if it is surely a copy of the very same item is it given the new spelling:
//!
//! | the name at the destination | done |
//! |---|---|
//! | the source has it too | refused by name: the destination can hold one of the two |
//! | gone at the source, same bytes | renamed to the spelling of the source; then compared as usual |
//! | gone at the source, other bytes | remembered, so that the next survey counts it as gone; its delete may be on its way: tried again if policy removes vanished items, otherwise refused |
//!
//! A directory may be spelled otherwise. Then this item's own copy in the directory must have the same bytes, and nothing beneath
//! the old spelling may be left at the source.

use std::ops::ControlFlow;

use mill_hooks::{PlantedBug, is_planted};
use mill_model::ids::escape_for_display;
use mill_model::name_folding::fold_name;
use mill_model::{ContentId, ItemAddress, UpdatedPart, Version};
use mill_ports::{
    CompleteListing, FailureClass, ListEntry, ListingError, Presence, RefusalReason, Respelling, SourceStore,
    StoreError, StoreErrorKind, TaskOutcome,
};
use tracing::info;

use super::compare::ByteComparison;
use super::context::{AttemptContext, Side};
use crate::early_exit::EarlyExit;
use crate::failure::ErrorMeaning;
use crate::refusals::RefusedDeed;

/// Two spellings of one path, of the source and of the destination, up to the first name that differs.
struct Twins {
    /// The spelling of this item's id.
    wanted: String,
    /// The spelling at the destination.
    there: String,
    /// Whether the path is the whole id, not that of a directory on the way to it.
    whole: bool,
}

impl Twins {
    fn of(item: &ItemAddress, there: &str) -> Option<Self> {
        let path = item.id.as_str().trim_end_matches('/');
        let both = path.split('/').zip(there.trim_end_matches('/').split('/'));
        let same = both.take_while(|(wanted, there)| wanted == there).count();
        // Deeper names may be spelled otherwise too; they come next.
        let to_there = |path: &str| path.split('/').take(same + 1).collect::<Vec<_>>().join("/");
        let (wanted, there) = (to_there(path), to_there(there.trim_end_matches('/')));
        let differ = wanted != there && fold_name(&wanted) == fold_name(&there);
        differ.then(|| Self { whole: wanted == path, wanted, there })
    }

    /// The id that this item would have with the destination's spelling.
    fn id_there(&self, item: &ItemAddress) -> Option<ContentId> {
        let rest = item.id.as_str().strip_prefix(&*self.wanted)?;
        ContentId::new(format!("{}{rest}", self.there)).ok()
    }

    /// Both paths, with `/` at the end for a directory: an item of that name is another thing.
    fn paths(&self, item: &ItemAddress) -> (String, String) {
        let end = if self.whole && !item.id.is_directory() { "" } else { "/" };
        (format!("{}{end}", self.there), format!("{}{end}", self.wanted))
    }

    /// The prefix of all ids beneath the destination's spelling.
    fn beneath_there(&self) -> String {
        format!("{}/", self.there)
    }
}

impl AttemptContext<'_> {
    /// Brings an item in sync. Where the destination has another spelling of its name, that is renamed first, if it may be.
    pub(super) async fn sync_item(&self, item: &ItemAddress) -> Result<(), EarlyExit> {
        // Each directory on the way may be spelled otherwise.
        let levels = item.id.as_str().split('/').count();
        for _ in 0..levels {
            let error = match self.sync_named_item(item).await {
                Err(EarlyExit::Store(error)) if error.store.store == self.pair.destination => error,
                other => return other,
            };
            let StoreErrorKind::Refused(RefusalReason::Twin(there)) = &error.kind else { return Err(error.into()) };
            let Some(twins) = Twins::of(item, there) else { return Err(error.into()) };
            self.respell(item, &twins, error).await?;
        }
        self.sync_named_item(item).await
    }

    /// Renames the other spelling to this item's, or returns why not.
    async fn respell(&self, item: &ItemAddress, twins: &Twins, error: StoreError) -> Result<(), EarlyExit> {
        if self.source_has_spelling(twins, item).await? && !is_planted(PlantedBug::TwinRespelled) {
            let ErrorMeaning::Refused { reason } = ErrorMeaning::of(error, &item.to_string()) else { return Ok(()) };
            let reason = format!("{reason}; the source has both");
            return Err(EarlyExit::Refused { deed: RefusedDeed::Copy, reason });
        }
        let Some((compared, version)) = self.find_same_copy(twins, item).await? else {
            // Another task may have the proof that this one lacks, or the delete of the other item may be on its way.
            let waits = !self.attempt.is_last() && (self.policy.remove_vanished || !twins.whole);
            return Err(if waits {
                EarlyExit::Failed { class: FailureClass::Retryable, source: error.into() }
            } else {
                error.into()
            });
        };
        if self.shared.deps.dry_run {
            self.note_updated(UpdatedPart::Spelling);
            return Err(EarlyExit::TaskOutcome(TaskOutcome::done()));
        }
        self.claim().await?;
        let (from, to) = twins.paths(item);
        let respelling = Respelling { from, to, compared, version };
        if self.shared.retry.run_effect(self.attempt, || self.destination.respell(&item.space, &respelling)).await? {
            self.note_updated(UpdatedPart::Spelling);
            let (from, to) = (escape_for_display(&respelling.from), escape_for_display(&respelling.to));
            info!(account = %self.pair.account, space = %item.space, from, to,
                "spelled as at the source");
        }
        Ok(())
    }

    /// Whether anything at the source still has the destination's spelling. A directory that cannot be read may have it.
    async fn source_has_spelling(&self, twins: &Twins, item: &ItemAddress) -> Result<bool, EarlyExit> {
        let ids = [twins.there.clone(), twins.beneath_there()].map(ContentId::new);
        for id in ids.into_iter().flatten() {
            let other = ItemAddress { space: item.space.clone(), id };
            match self.source_head(&other).await {
                Ok(Presence::Absent) => {}
                Ok(Presence::Present(_)) => return Ok(true),
                Err(EarlyExit::Store(error)) if matches!(error.kind, StoreErrorKind::Refused(_)) => return Ok(true),
                Err(stop) => return Err(stop),
            }
        }
        let prefix = twins.beneath_there();
        let found = self.scan(Side::Source, item, &prefix, |listed| match listed {
            ListEntry::Item(id, _) if id.as_str().starts_with(&*prefix) => ControlFlow::Break(true),
            ListEntry::Item(id, _) if id.as_str() > prefix.as_str() => ControlFlow::Break(false),
            ListEntry::Item(..) => ControlFlow::Continue(()),
            ListEntry::Refused { shown: name, .. } | ListEntry::Hidden { shown: name } => {
                let (name, prefix) = (name.trim_end_matches('/'), escape_for_display(&prefix));
                if name.starts_with(&*prefix) || prefix.starts_with(name) {
                    ControlFlow::Break(true)
                } else {
                    ControlFlow::Continue(())
                }
            }
        });
        Ok(found.await?.unwrap_or(false))
    }

    /// The copy of this item under the other spelling, and the version whose bytes are the same.
    async fn find_same_copy(
        &self,
        twins: &Twins,
        item: &ItemAddress,
    ) -> Result<Option<(ContentId, Version)>, EarlyExit> {
        let Presence::Present(source) = self.source_head(item).await? else { return Ok(None) };
        let Some(id) = twins.id_there(item) else { return Ok(None) };
        let mut there = ItemAddress { space: item.space.clone(), id };
        let mut found = self.destination_head(&there).await?;
        if matches!(found, Presence::Absent) && !twins.whole {
            // A directory further on may be spelled otherwise too.
            let Some(id) = self.find_spelled_otherwise(twins, item).await? else { return Ok(None) };
            there.id = id;
            found = self.destination_head(&there).await?;
        }
        let Presence::Present(destination) = found else { return Ok(None) };
        if source.size != destination.size {
            return Ok(None);
        }
        let sync_proof = self.sync_proof(&there.id).await;
        match self.compare_bytes_of((item, &source), (&there, &destination), sync_proof.as_ref()).await? {
            ByteComparison::Same(_) => return Ok(Some((there.id, destination.version))),
            ByteComparison::Unread => {
                self.note_undecided();
                return Err(EarlyExit::TaskOutcome(TaskOutcome::done()));
            }
            ByteComparison::Differ => {}
        }
        // Only for equal sizes: the producer sees by itself that the sizes differ.
        self.remember_no_twin(&there.id, &destination.version).await;
        Ok(None)
    }

    /// The id beneath the destination's spelling that differs from this item's only in spelling.
    async fn find_spelled_otherwise(&self, twins: &Twins, item: &ItemAddress) -> Result<Option<ContentId>, EarlyExit> {
        let (prefix, key) = (twins.beneath_there(), fold_name(item.id.as_str()));
        let found = self.scan(Side::Destination, item, &prefix, |listed| match listed {
            ListEntry::Item(id, _) if !id.as_str().starts_with(&*prefix) && id.as_str() > prefix.as_str() => {
                ControlFlow::Break(None)
            }
            ListEntry::Item(id, _) if fold_name(id.as_str()) == key => ControlFlow::Break(Some(id.clone())),
            _ => ControlFlow::Continue(()),
        });
        Ok(found.await?.flatten())
    }

    /// Lists a side's space from `prefix` on until `decide` breaks.
    async fn scan<T: Send>(
        &self,
        side: Side,
        item: &ItemAddress,
        prefix: &str,
        mut decide: impl FnMut(&ListEntry) -> ControlFlow<T> + Send,
    ) -> Result<Option<T>, EarlyExit> {
        let store: &dyn SourceStore = match side {
            Side::Source => &*self.source,
            Side::Destination => &*self.destination,
        };
        let mut pages = CompleteListing::open(store, &item.space, ContentId::new(prefix).ok().as_ref());
        loop {
            let page = match pages.next_page().await {
                Ok(Some(page)) => page,
                Ok(None) => return Ok(None),
                Err(ListingError::Store(error)) => return Err(error.into()),
                Err(error) => return Err(self.store_error(side, item, StoreErrorKind::Unexpected, error).into()),
            };
            for listed in &page.entries {
                if let ControlFlow::Break(found) = decide(listed) {
                    return Ok(Some(found));
                }
            }
        }
    }
}
