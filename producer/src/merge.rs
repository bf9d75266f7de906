//! Both sides of a morsel and its seals, merged in the order of ids' bytes.

use std::cmp::Ordering;
use std::pin::Pin;

use futures::StreamExt as _;
use futures::stream::{BoxStream, Peekable};
use mill_model::{ContentId, ItemFacts, Version};
use mill_ports::{ListEntry, Place, PlantedBug, RefusalReason, TableError, error_chain, planted};
use mill_records::sync_proofs::SyncProofRow;
use tracing::warn;

use crate::listing::{ListingError, OrderedListing};
use crate::paths::Paths;

/// Why a merge broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MergeError {
    #[error("of the source")]
    Source(#[source] ListingError),
    #[error("of the destination")]
    Destination(#[source] ListingError),
    #[error("the seals cannot be read")]
    SyncProofs(#[from] TableError),
}

/// What stands next in the merge.
pub(crate) enum Found {
    /// An item of the source, and what is known of its copy; `alone` when the destination was listed and has none of that id.
    AtSource { id: ContentId, size: u64, alone: bool, proof: Proof },
    /// An item that only the destination has, in which state; `ours` when this pair wrote it there in that state, or proved
    /// it to be equal to its source; `no_twin` when it is known to be no copy of what the source has under another spelling.
    OnlyAtDestination { id: ContentId, size: u64, version: Version, ours: bool, no_twin: bool },
    /// An item of the source whose place at the destination is that of another of its items.
    Crowded { id: ContentId, by: ContentId },
    /// An entry of the source that cannot be an item.
    Refused { shown: String, reason: RefusalReason },
    /// A directory of the source that could not be entered: what lies beneath it is unknown.
    Hidden { shown: String },
}

/// What is known of an item's copy without a look at either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// A sync proof: both sides are equal.
    Complete,
    /// Both sides are in the states in which this pair left them; these are too young to prove that nothing changed since.
    Written,
    /// None.
    Nothing,
}

impl Proof {
    pub(crate) fn is_complete(self) -> bool {
        self == Self::Complete
    }
}

/// What is known of a morsel's items, in order.
pub(crate) type SealStream = BoxStream<'static, Result<(ContentId, SyncProofRow), TableError>>;

/// Two or three streams, with a page of each in memory.
pub(crate) struct Merge {
    source: OrderedListing,
    destination: Option<OrderedListing>,
    seals: Option<Pin<Box<Peekable<SealStream>>>>,
    paths: Paths,
    /// Whether it goes on without proofs, where the destination's listing or the seals fail.
    proofs_optional: bool,
    /// The last entry of each side that is no item.
    odd_at_source: Option<ListEntry>,
    odd_at_destination: Option<ListEntry>,
    items_at_destination: u64,
    /// How many entries of the source were taken when that was last asked.
    listed_before: u64,
}

impl Merge {
    /// Of the source alone, with the destination, or with both it and the seals.
    pub(crate) fn new(source: OrderedListing, destination: Option<OrderedListing>, seals: Option<SealStream>) -> Self {
        let seals = seals.map(|seals| Box::pin(seals.peekable()));
        Self {
            source,
            destination,
            seals,
            paths: Paths::default(),
            proofs_optional: false,
            odd_at_source: None,
            odd_at_destination: None,
            items_at_destination: 0,
            listed_before: 0,
        }
    }

    /// The same where ids may be paths at one side only.
    pub(crate) fn with(self, paths: Paths) -> Self {
        Self { paths, ..self }
    }

    /// The same where what is not proven is no different from what is: it goes on where proofs cannot be had. Only of the
    /// source it then tells all.
    pub(crate) fn without_need_of_proofs(self) -> Self {
        Self { proofs_optional: true, ..self }
    }

    /// How many items of the destination have gone by.
    pub(crate) fn items_at_destination(&self) -> u64 {
        self.items_at_destination
    }

    /// How many entries of the source have gone by since this was last asked.
    pub(crate) fn listed_since(&mut self) -> u64 {
        let taken = self.source.taken();
        taken - std::mem::replace(&mut self.listed_before, taken)
    }

    /// The places of the source that were entered so far.
    pub(crate) fn source_places(&self) -> &[Place] {
        self.source.places()
    }

    /// Whether the destination has no further entry.
    pub(crate) async fn destination_is_over(&mut self) -> Result<bool, MergeError> {
        let Some(destination) = &mut self.destination else { return Ok(true) };
        destination.fill().await.map_err(MergeError::Destination)?;
        Ok(destination.first().is_none())
    }

    /// The next, or `None` once both listings are complete.
    pub(crate) async fn next(&mut self) -> Result<Option<Found>, MergeError> {
        loop {
            self.source.fill().await.map_err(MergeError::Source)?;
            self.fill_destination().await?;
            let order = match (self.source.first(), self.destination.as_ref().and_then(OrderedListing::first)) {
                (None, None) => return Ok(None),
                (Some(ListEntry::Refused { .. }), _) => {
                    self.odd_at_source = self.source.first().cloned();
                    if let Some(ListEntry::Refused { shown, reason }) = self.source.take() {
                        return Ok(Some(Found::Refused { shown, reason }));
                    }
                    continue;
                }
                (Some(ListEntry::Hidden { .. }), _) => {
                    self.odd_at_source = self.source.first().cloned();
                    if let Some(ListEntry::Hidden { shown }) = self.source.take() {
                        return Ok(Some(Found::Hidden { shown }));
                    }
                    continue;
                }
                (_, Some(ListEntry::Refused { .. } | ListEntry::Hidden { .. })) => {
                    // Whatever it is, it is not Mill's to delete; a source item of its id is queued and finds it.
                    self.odd_at_destination = self.destination.as_mut().and_then(OrderedListing::take);
                    continue;
                }
                (Some(ListEntry::Item(..)), None) => Ordering::Less,
                (None, Some(ListEntry::Item(..))) => Ordering::Greater,
                (Some(ListEntry::Item(source, _)), Some(ListEntry::Item(destination, _))) => source.cmp(destination),
            };
            let other = if order == Ordering::Less { None } else { self.take_destination() };
            if order == Ordering::Greater {
                let Some((id, ItemFacts { size, version, .. })) = other else { continue };
                let sign = self.paths.is_sign_at_source(&id, size);
                if sign && self.source.first().into_iter().chain(&self.odd_at_source).any(|it| it.lies_in(&id)) {
                    continue;
                }
                let known = self.known(&id).await?;
                // What was the sign for a directory may have held something meanwhile, by which its state is another.
                let was_sign = self.paths.is_sign_at_destination(&id, size);
                let ours = known.as_ref().is_some_and(|row| was_sign || row.is_ours(&version));
                let no_twin = known.is_some_and(|row| row.is_no_twin(&version));
                return Ok(Some(Found::OnlyAtDestination { id, size, version, ours, no_twin }));
            }
            if let Some(ListEntry::Item(id, facts)) = self.source.take() {
                let by = self.paths.pass(&id).await.map_err(|error| MergeError::Source(error.into()))?;
                let sign = other.is_none() && self.paths.is_sign_at_destination(&id, facts.size);
                let kept = sign && self.destination_has_beneath(&id);
                if let Some(by) = by.filter(|_| other.is_none()) {
                    return Ok(Some(Found::Crowded { id, by }));
                }
                let alone = other.is_none() && !kept && self.destination.is_some();
                let known = if other.is_some() || kept { self.known(&id).await? } else { None };
                let proof = match (known, other) {
                    (Some(row), Some((_, other))) => proof(&row, &facts.version, &other.version),
                    // Nothing of it can change there but what its task has set.
                    (Some(row), None) if row.is_of(&facts.version) => Proof::Complete,
                    _ => Proof::Nothing,
                };
                if planted(PlantedBug::EntryPassedOver) && facts.size % 5 == 1 {
                    continue;
                }
                return Ok(Some(Found::AtSource { id, size: facts.size, alone, proof }));
            }
        }
    }

    /// Whether anything at the destination lies in a directory, at which the merge has come.
    fn destination_has_beneath(&self, id: &ContentId) -> bool {
        let next = self.destination.as_ref().and_then(OrderedListing::first);
        next.into_iter().chain(&self.odd_at_destination).any(|entry| entry.lies_in(id))
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

    /// Takes the destination's next entry, if it is an item.
    fn take_destination(&mut self) -> Option<(ContentId, ItemFacts)> {
        match self.destination.as_mut()?.take()? {
            ListEntry::Item(id, facts) => {
                self.items_at_destination += 1;
                Some((id, facts))
            }
            ListEntry::Refused { .. } | ListEntry::Hidden { .. } => None,
        }
    }

    /// What is known of an item. Ids must be asked for in order.
    async fn known(&mut self, id: &ContentId) -> Result<Option<SyncProofRow>, MergeError> {
        let Some(seals) = &mut self.seals else { return Ok(None) };
        loop {
            match seals.as_mut().peek().await {
                Some(Ok((known, row))) => match known.cmp(id) {
                    Ordering::Less => {}
                    Ordering::Equal => return Ok(Some(row.clone())),
                    Ordering::Greater => return Ok(None),
                },
                Some(Err(_)) => {}
                None => return Ok(None),
            }
            match seals.next().await {
                Some(Err(error)) if self.proofs_optional => {
                    warn!(error = error_chain(&error), "the seals cannot be read; none of the rest counts as proven");
                    self.seals = None;
                    return Ok(None);
                }
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(_)) | None => {}
            }
        }
    }
}

fn proof(row: &SyncProofRow, source: &Version, destination: &Version) -> Proof {
    if row.seal.as_ref().is_some_and(|seal| seal.holds(source, destination)) {
        Proof::Complete
    } else if row.is_copy(source, destination) {
        Proof::Written
    } else {
        Proof::Nothing
    }
}
