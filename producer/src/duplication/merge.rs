//! Merges both listings of a morsel and its sync proofs, in byte order of the ids.

use std::cmp::Ordering;
use std::pin::Pin;

use futures::StreamExt as _;
use futures::stream::{BoxStream, Peekable};
use mill_hooks::{PlantedBug, is_planted};
use mill_model::{ContentId, ItemFacts, Version};
use mill_ports::{ListEntry, ListingError, Place, RefusalReason, TableError, error_chain};
use mill_records::sync_proofs::SyncProofRow;
use tracing::warn;

use super::paths::PathRules;
use crate::listing::OrderedListing;

/// Why a merge failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MergeError {
    #[error("of the source")]
    Source(#[source] ListingError),
    #[error("of the destination")]
    Destination(#[source] ListingError),
    #[error("the sync proofs cannot be read")]
    SyncProofs(#[from] TableError),
}

/// One entry of the merge.
pub(crate) enum MergedEntry {
    /// An item of the source, and what proves its copy. `alone`: the destination was listed and has no item of that id.
    AtSource { id: ContentId, size: u64, alone: bool, proof: Proof },
    /// An item that only the destination has. `ours`: this pair wrote it in that version or proved it equal to its source.
    /// `no_twin`: it is known not to be a copy of an item that the source has under another spelling.
    OnlyAtDestination { id: ContentId, size: u64, version: Version, ours: bool, no_twin: bool },
    /// An item of the source whose path at the destination conflicts with that of another source item, `by`.
    PathConflict { id: ContentId, by: ContentId },
    /// An entry of the source that cannot be an item.
    Refused { shown: String, reason: RefusalReason },
    /// A directory of the source that could not be entered. The items beneath it are unknown.
    Hidden { shown: String },
}

/// What the table proves about an item's copy, without reading either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// A sync proof holds: both sides are equal.
    Complete,
    /// Both sides have the versions that this pair left there, but these are too young to prove that nothing changed since.
    Written,
    /// Nothing is proven.
    Nothing,
}

impl Proof {
    pub(crate) fn is_complete(self) -> bool {
        self == Self::Complete
    }
}

/// The proof rows of a morsel, in order of ids.
pub(crate) type SyncProofStream = BoxStream<'static, Result<(ContentId, SyncProofRow), TableError>>;

/// Merges two or three streams, with a page of each in memory.
pub(crate) struct Merge {
    source: OrderedListing,
    destination: Option<OrderedListing>,
    sync_proofs: Option<Pin<Box<Peekable<SyncProofStream>>>>,
    paths: PathRules,
    /// Whether the merge goes on without proofs when the destination's listing or the proofs fail.
    proofs_optional: bool,
    /// The last entry of the source that is no item; `non_item_at_destination` likewise.
    non_item_at_source: Option<ListEntry>,
    non_item_at_destination: Option<ListEntry>,
    items_at_destination: u64,
    /// How many source entries were taken at the last call of [`Self::listed_since`].
    listed_before: u64,
}

impl Merge {
    /// Merges the source with the destination and the proofs, where they are given.
    pub(crate) fn new(
        source: OrderedListing,
        destination: Option<OrderedListing>,
        sync_proofs: Option<SyncProofStream>,
    ) -> Self {
        let sync_proofs = sync_proofs.map(|sync_proofs| Box::pin(sync_proofs.peekable()));
        Self {
            source,
            destination,
            sync_proofs,
            paths: PathRules::default(),
            proofs_optional: false,
            non_item_at_source: None,
            non_item_at_destination: None,
            items_at_destination: 0,
            listed_before: 0,
        }
    }

    /// Sets the rules for ids that are paths at one side only.
    pub(crate) fn with(self, paths: PathRules) -> Self {
        Self { paths, ..self }
    }

    /// Goes on without proofs when they cannot be read, for callers that treat proven items like any other. Then only the
    /// source's entries are complete.
    pub(crate) fn without_need_of_proofs(self) -> Self {
        Self { proofs_optional: true, ..self }
    }

    /// How many items of the destination were merged so far.
    pub(crate) fn items_at_destination(&self) -> u64 {
        self.items_at_destination
    }

    /// How many entries of the source were merged since the last call.
    pub(crate) fn listed_since(&mut self) -> u64 {
        let taken = self.source.taken_count();
        taken - std::mem::replace(&mut self.listed_before, taken)
    }

    /// The places of the source that the listing has entered so far.
    pub(crate) fn source_places(&self) -> &[Place] {
        self.source.places()
    }

    /// Whether the destination has no further entry.
    pub(crate) async fn destination_is_over(&mut self) -> Result<bool, MergeError> {
        let Some(destination) = &mut self.destination else { return Ok(true) };
        destination.fill().await.map_err(MergeError::Destination)?;
        Ok(destination.first().is_none())
    }

    /// The next entry; `None` once both listings are complete.
    pub(crate) async fn next(&mut self) -> Result<Option<MergedEntry>, MergeError> {
        loop {
            self.source.fill().await.map_err(MergeError::Source)?;
            self.fill_destination().await?;
            let order = match (self.source.first(), self.destination.as_ref().and_then(OrderedListing::first)) {
                (None, None) => return Ok(None),
                (Some(ListEntry::Refused { .. }), _) => {
                    self.non_item_at_source = self.source.first().cloned();
                    if let Some(ListEntry::Refused { shown, reason }) = self.source.take() {
                        return Ok(Some(MergedEntry::Refused { shown, reason }));
                    }
                    continue;
                }
                (Some(ListEntry::Hidden { .. }), _) => {
                    self.non_item_at_source = self.source.first().cloned();
                    if let Some(ListEntry::Hidden { shown }) = self.source.take() {
                        return Ok(Some(MergedEntry::Hidden { shown }));
                    }
                    continue;
                }
                (_, Some(ListEntry::Refused { .. } | ListEntry::Hidden { .. })) => {
                    // Mill never deletes such an entry. A source item of the same id is queued, and its task meets the entry.
                    self.non_item_at_destination = self.destination.as_mut().and_then(OrderedListing::take);
                    continue;
                }
                (Some(ListEntry::Item(..)), None) => Ordering::Less,
                (None, Some(ListEntry::Item(..))) => Ordering::Greater,
                (Some(ListEntry::Item(source, _)), Some(ListEntry::Item(destination, _))) => source.cmp(destination),
            };
            let other = if order == Ordering::Less { None } else { self.take_destination() };
            if order == Ordering::Greater {
                let Some((id, ItemFacts { size, version, .. })) = other else { continue };
                let sign = self.paths.is_directory_marker_at_source(&id, size);
                if sign && self.source.first().into_iter().chain(&self.non_item_at_source).any(|it| it.lies_in(&id)) {
                    continue;
                }
                let known = self.known(&id).await?;
                // A directory marker may have held something meanwhile, which changed its version.
                let was_sign = self.paths.is_directory_marker_at_destination(&id, size);
                let ours = known.as_ref().is_some_and(|row| was_sign || row.is_ours(&version));
                let no_twin = known.is_some_and(|row| row.is_no_twin(&version));
                return Ok(Some(MergedEntry::OnlyAtDestination { id, size, version, ours, no_twin }));
            }
            if let Some(ListEntry::Item(id, facts)) = self.source.take() {
                let by = self.paths.conflict_of(&id).await.map_err(|error| MergeError::Source(error.into()))?;
                let sign = other.is_none() && self.paths.is_directory_marker_at_destination(&id, facts.size);
                let kept = sign && self.destination_has_beneath(&id);
                if let Some(by) = by.filter(|_| other.is_none()) {
                    return Ok(Some(MergedEntry::PathConflict { id, by }));
                }
                let alone = other.is_none() && !kept && self.destination.is_some();
                let known = if other.is_some() || kept { self.known(&id).await? } else { None };
                let proof = match (known, other) {
                    (Some(row), Some((_, other))) => proof(&row, &facts.version, &other.version),
                    // Only its task sets anything of a directory marker at the destination.
                    (Some(row), None) if row.is_of(&facts.version) => Proof::Complete,
                    _ => Proof::Nothing,
                };
                if is_planted(PlantedBug::EntryPassedOver) && facts.size % 5 == 1 {
                    continue;
                }
                return Ok(Some(MergedEntry::AtSource { id, size: facts.size, alone, proof }));
            }
        }
    }

    /// Whether the destination has an entry beneath the directory `id`, at which the merge stands.
    fn destination_has_beneath(&self, id: &ContentId) -> bool {
        let next = self.destination.as_ref().and_then(OrderedListing::first);
        next.into_iter().chain(&self.non_item_at_destination).any(|entry| entry.lies_in(id))
    }

    async fn fill_destination(&mut self) -> Result<(), MergeError> {
        let Some(destination) = &mut self.destination else { return Ok(()) };
        match destination.fill().await {
            Err(error) if self.proofs_optional => {
                warn!(
                    error = error_chain(&error),
                    "the destination cannot be listed; none of the rest counts as proven"
                );
                self.destination = None;
                Ok(())
            }
            filled => filled.map_err(MergeError::Destination),
        }
    }

    /// Takes the destination's next entry. Returns it if it is an item.
    fn take_destination(&mut self) -> Option<(ContentId, ItemFacts)> {
        match self.destination.as_mut()?.take()? {
            ListEntry::Item(id, facts) => {
                self.items_at_destination += 1;
                Some((id, facts))
            }
            ListEntry::Refused { .. } | ListEntry::Hidden { .. } => None,
        }
    }

    /// The proof row of an item. Must be called in order of ids.
    async fn known(&mut self, id: &ContentId) -> Result<Option<SyncProofRow>, MergeError> {
        let Some(sync_proofs) = &mut self.sync_proofs else { return Ok(None) };
        loop {
            match sync_proofs.as_mut().peek().await {
                Some(Ok((known, row))) => match known.cmp(id) {
                    Ordering::Less => {}
                    Ordering::Equal => return Ok(Some(row.clone())),
                    Ordering::Greater => return Ok(None),
                },
                Some(Err(_)) => {}
                None => return Ok(None),
            }
            match sync_proofs.next().await {
                Some(Err(error)) if self.proofs_optional => {
                    warn!(
                        error = error_chain(&error),
                        "the sync proofs cannot be read; none of the rest counts as proven"
                    );
                    self.sync_proofs = None;
                    return Ok(None);
                }
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(_)) | None => {}
            }
        }
    }
}

fn proof(row: &SyncProofRow, source: &Version, destination: &Version) -> Proof {
    if row.proof.as_ref().is_some_and(|proof| proof.holds(source, destination)) {
        Proof::Complete
    } else if row.is_copy(source, destination) {
        Proof::Written
    } else {
        Proof::Nothing
    }
}
