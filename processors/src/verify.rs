//! Reads both copies of a space again and compares them. What earlier runs knew is asked only of an item whose bytes differ.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;

use mill_model::{Algorithm, Checksum, ContentId, ItemAddress, ItemFacts, Properties, PropertyDifference, SpaceId};
use mill_ports::{
    CompleteListing, ListEntry, ListingError, Presence, RefusalReason, Rng, SourceStore, StoreError, StoreErrorKind,
    directory_has_entries, error_chain, is_same_object,
};

use self::witness::Judgement;
pub use self::witness::{DamagedSide, Witness};
use crate::digest_item::digest_item;
use crate::each_item::{EachItem, EachItemReport, ItemResult};

mod witness;

/// Two copies of one space, and how thoroughly to compare them.
#[derive(Debug, Clone)]
pub struct Verification {
    /// The copy that counts as right.
    pub source: Arc<dyn SourceStore>,
    /// The copy that is verified.
    pub destination: Arc<dyn SourceStore>,
    /// The space, of one id in both.
    pub space: SpaceId,
    /// The percentage of items whose bytes are read; of the others only the presence is checked.
    pub sample: u8,
    /// How many items are read at once.
    pub concurrency: NonZeroUsize,
    /// What earlier runs proved of the two, if that is known here.
    pub witness: Option<Witness>,
}

/// The report of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerificationReport {
    /// Items of the source that were examined.
    pub examined: u64,
    /// Items whose bytes were read at both sides and are equal, and whose properties are equal as far as they are known.
    pub equal: u64,
    /// How many of these have unknown properties: the file system keeps none, and the record beside it is of another version of
    /// the file.
    pub properties_unknown: u64,
    /// Bytes read at the destination.
    pub bytes: u64,
    /// Items of which the copy alone is damaged. The next run compares them again.
    pub damaged_copies: u64,
    /// Items of which the source alone is damaged. No run copies their bytes.
    pub damaged_sources: u64,
    /// Items whose bytes differ, where it is not known whether a side is damaged.
    pub unknown_sides: u64,
    /// Faults that the next run sets right if it leaves the two in sync: it copies what is missing, and compares these bytes again.
    pub mended_by_a_run: u64,
    /// Each item that is not as it should be.
    pub faults: Vec<ItemFinding>,
    /// Each entry that can have no copy, and each item that could not be compared. A copy is refused it by name too, so it is no
    /// fault of the copy.
    pub not_compared: Vec<ItemFinding>,
}

/// One item that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemFinding {
    /// The item, escaped for a message.
    pub item: String,
    /// What is wrong.
    pub what: CopyFault,
}

/// What can be wrong with an item of a copy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CopyFault {
    /// The destination does not have it.
    #[error("missing at the destination")]
    Missing,
    /// The source does not have it.
    #[error("only at the destination")]
    OnlyAtDestination,
    /// The copy is a hard link to the source's own file.
    #[error("it is no copy but the source's own file: a hard link leads to it")]
    SameFile,
    /// The bytes differ.
    #[error("the bytes differ{damage} (source {from}, destination {to})")]
    BytesDiffer {
        /// Checksum at the source.
        from: String,
        /// Checksum at the destination.
        to: String,
        /// Which of the two is damaged.
        damage: DamagedSide,
        /// Whether the next run reads both again.
        is_read_again: bool,
    },
    /// A property differs.
    #[error("the property `{name}` differs")]
    PropertyDiffers {
        /// Its name.
        name: String,
        /// Whether the next run compares both again.
        is_read_again: bool,
    },
    /// The entry cannot be an item, so it has no copy.
    #[error("cannot be copied: {0}")]
    Refused(String),
    /// One of the stores cannot hold the item, or its bytes must be brought back first.
    #[error("not compared: {0}")]
    NotCompared(String),
    /// One of the copies could not be read.
    #[error("could not be read: {0}")]
    Unreadable(String),
    /// The listing of the copy that is restored broke off.
    #[error(
        "the listing of the copy broke off behind `{behind}` ({why}): what lies behind that did not come back; run it again"
    )]
    ListingBroken {
        /// The last item that the listing named.
        behind: String,
        /// Why.
        why: String,
    },
    /// The sync proofs of the copy could not be read to their end.
    #[error(
        "what was proven of this copy could not be read{} ({why}): whether items are missing that were copied is not known",
        behind.as_ref().map_or_else(String::new, |behind| format!(" behind `{behind}`"))
    )]
    ProofsBroken {
        /// The last item whose sync proof was read.
        behind: Option<String>,
        /// Why.
        why: String,
    },
    /// The item was not restored, or not as it was.
    #[error("{0}")]
    NotRestored(String),
}

impl Verification {
    /// Compares the copies.
    ///
    /// # Errors
    /// When a listing fails or breaks off: the findings until then are not complete.
    pub async fn run(self, chance: &dyn Rng) -> Result<VerificationReport, ListingError> {
        let mut report = VerificationReport::default();
        let mut reading = EachItem::new(&mut report, self.concurrency);
        let mut entries = CompleteListing::open(&*self.source, &self.space, None);
        while let Some(page) = entries.next_page().await? {
            let examine = |id, _| {
                let read = chance.next_u64() % 100 < u64::from(self.sample);
                self.clone().examine(id, read)
            };
            reading.begin(page.entries, examine).await;
        }
        reading.finish().await;
        self.report_only_at_destination(&mut report).await?;
        for findings in [&mut report.faults, &mut report.not_compared] {
            findings.sort_by(|a, b| a.item.cmp(&b.item));
        }
        Ok(report)
    }

    /// Whether the source has the item, or the directory that the item stands for.
    async fn is_at_source(&self, item: &ItemAddress) -> Result<bool, StoreError> {
        match self.source.head(item).await? {
            Presence::Present(_) => Ok(true),
            Presence::Absent => is_implied_directory(&*self.source, item).await,
        }
    }

    async fn report_only_at_destination(&self, report: &mut VerificationReport) -> Result<(), ListingError> {
        let mut entries = CompleteListing::open(&*self.destination, &self.space, None);
        // A request for a page costs less than one for each item of it.
        let mut source = ListedIds::new(CompleteListing::open(&*self.source, &self.space, None));
        while let Some(page) = entries.next_page().await? {
            for entry in page.entries {
                if let ListEntry::Item(id, _) = &entry
                    && source.contains(id).await?
                {
                    continue;
                }
                let (item, what) = match entry {
                    ListEntry::Refused { shown, .. } | ListEntry::Hidden { shown } => {
                        (shown, CopyFault::OnlyAtDestination)
                    }
                    ListEntry::Item(id, _) => match self.is_at_source(&self.address(&id)).await {
                        Ok(true) => continue,
                        Ok(false) => (id.to_string(), CopyFault::OnlyAtDestination),
                        Err(error) => (id.to_string(), CopyFault::Unreadable(error_chain(&error))),
                    },
                };
                report.faults.push(ItemFinding { item, what });
            }
        }
        Ok(())
    }

    fn address(&self, id: &ContentId) -> ItemAddress {
        ItemAddress { space: self.space.clone(), id: id.clone() }
    }

    async fn examine(self, id: ContentId, read: bool) -> (ContentId, Result<ExamineResult, StoreError>) {
        let address = self.address(&id);
        let examined = self.compare(&address, read).await;
        (id, examined)
    }

    async fn compare(&self, address: &ItemAddress, read: bool) -> Result<ExamineResult, StoreError> {
        if !read {
            return Ok(match self.destination.head(address).await? {
                Presence::Present(_) => ExamineResult::Present,
                Presence::Absent if is_implied_directory(&*self.destination, address).await? => ExamineResult::Present,
                Presence::Absent => ExamineResult::Faulty(CopyFault::Missing),
            });
        }
        let both = futures::try_join!(sha256(&*self.source, address), sha256(&*self.destination, address));
        let (from, to) = match both {
            Err(StoreError { kind: StoreErrorKind::Refused(reason), .. }) if has_no_copy(&reason) => {
                return Ok(ExamineResult::Faulty(CopyFault::NotCompared(reason.to_string())));
            }
            both => both?,
        };
        let (from, to) = match (from, to) {
            (Presence::Present(from), Presence::Present(to)) => (from, to),
            (Presence::Present((_, from)), Presence::Absent)
                if is_implied_directory(&*self.destination, address).await? =>
            {
                // A store may keep further properties with the directory, where they cannot be seen.
                let none = Properties::default();
                let properties = Properties::difference(from.properties.as_ref(), Some(&none)).is_none();
                return Ok(ExamineResult::Equal { bytes: 0, properties });
            }
            (Presence::Present(_), Presence::Absent) => return Ok(ExamineResult::Faulty(CopyFault::Missing)),
            // The item went away between the listing and now; the next run reports it.
            (Presence::Absent, _) => return Ok(ExamineResult::Present),
        };
        if is_same_object((&*self.source, &from.1.version), (&*self.destination, &to.1.version)) {
            return Ok(ExamineResult::Faulty(CopyFault::SameFile));
        }
        if from.0 != to.0 {
            let (ours, theirs) = ((&from.0, &from.1.version), (&to.0, &to.1.version));
            let Judgement { damage, is_compared_again } = match &self.witness {
                Some(witness) => witness.judge(&address.id, ours, theirs).await,
                None => Judgement::default(),
            };
            // A run believes the checksum that a store tells.
            let is_read_again = is_compared_again && from.1.checksums.is_empty() && to.1.checksums.is_empty();
            let (from, to) = (from.0.to_string(), to.0.to_string());
            return Ok(ExamineResult::Faulty(CopyFault::BytesDiffer { from, to, damage, is_read_again }));
        }
        Ok(match Properties::difference(from.1.properties.as_ref(), to.1.properties.as_ref()) {
            Some(PropertyDifference::Property(name)) => {
                let (ours, theirs) = (&from.1.version, &to.1.version);
                let is_read_again = match &self.witness {
                    Some(witness) => witness.is_compared_again(&address.id, ours, theirs).await,
                    None => false,
                };
                ExamineResult::Faulty(CopyFault::PropertyDiffers { name, is_read_again })
            }
            Some(PropertyDifference::Unknown) => ExamineResult::Equal { bytes: to.1.size, properties: false },
            None => ExamineResult::Equal { bytes: to.1.size, properties: true },
        })
    }
}

/// Whether a store refuses the item for what it is, so that a run refuses to copy it too.
fn has_no_copy(reason: &RefusalReason) -> bool {
    matches!(
        reason,
        RefusalReason::Archived(_)
            | RefusalReason::UnrepresentableId(_)
            | RefusalReason::PathConflict(_)
            | RefusalReason::Twin(_)
            | RefusalReason::TooLong
            | RefusalReason::Reserved
    )
}

/// The ids of a listing, looked up in their order.
struct ListedIds {
    listing: CompleteListing,
    page: VecDeque<ContentId>,
}

impl ListedIds {
    fn new(listing: CompleteListing) -> Self {
        Self { listing, page: VecDeque::new() }
    }

    /// Whether the listing has the id. Each id must come after the one before.
    async fn contains(&mut self, id: &ContentId) -> Result<bool, ListingError> {
        loop {
            while self.page.front().is_some_and(|listed| listed < id) {
                self.page.pop_front();
            }
            if let Some(listed) = self.page.front() {
                return Ok(listed == id);
            }
            let Some(page) = self.listing.next_page().await? else { return Ok(false) };
            self.page.extend(page.entries.into_iter().filter_map(|entry| match entry {
                ListEntry::Item(id, _) => Some(id),
                _ => None,
            }));
        }
    }
}

/// Whether an item that only stands for a directory is there as a directory that holds something.
pub(crate) async fn is_implied_directory(store: &dyn SourceStore, item: &ItemAddress) -> Result<bool, StoreError> {
    let may_be = item.id.is_directory() && store.capabilities().ids_are_paths;
    Ok(may_be && directory_has_entries(store, &item.space, &item.id).await?)
}

pub(crate) enum ExamineResult {
    Present,
    /// The bytes are equal, and the properties if they are known.
    Equal {
        bytes: u64,
        properties: bool,
    },
    Faulty(CopyFault),
}

impl EachItemReport for VerificationReport {
    type Outcome = ExamineResult;

    fn note(&mut self, result: ItemResult<ExamineResult>) {
        self.examined += 1;
        let (item, what) = match result {
            Ok((_, Ok(ExamineResult::Present))) => return,
            Ok((_, Ok(ExamineResult::Equal { bytes, properties }))) => {
                self.equal += 1;
                self.properties_unknown += u64::from(!properties);
                self.bytes += bytes;
                return;
            }
            Ok((id, Ok(ExamineResult::Faulty(fault)))) => (id.to_string(), fault),
            Ok((id, Err(error))) => (id.to_string(), CopyFault::Unreadable(error_chain(&error))),
            Err(error) => ("?".to_owned(), CopyFault::Unreadable(error.to_string())),
        };
        self.add_fault(ItemFinding { item, what });
    }

    fn add_fault(&mut self, fault: ItemFinding) {
        if let CopyFault::BytesDiffer { damage, .. } = fault.what {
            self.damaged_copies += u64::from(damage == DamagedSide::Copy);
            self.damaged_sources += u64::from(damage == DamagedSide::Source);
            self.unknown_sides += u64::from(damage == DamagedSide::Unknown);
        }
        let is_mended = matches!(
            fault.what,
            CopyFault::Missing
                | CopyFault::BytesDiffer { is_read_again: true, .. }
                | CopyFault::PropertyDiffers { is_read_again: true, .. }
        );
        self.mended_by_a_run += u64::from(is_mended);
        match fault.what {
            CopyFault::Refused(_) | CopyFault::NotCompared(_) => self.not_compared.push(fault),
            _ => self.faults.push(fault),
        }
    }
}

async fn sha256(store: &dyn SourceStore, item: &ItemAddress) -> Result<Presence<(Checksum, ItemFacts)>, StoreError> {
    Ok(match digest_item(store, item, &[Algorithm::Sha256]).await? {
        Presence::Present((mut checksums, facts)) => Presence::Present((checksums.swap_remove(0), facts)),
        Presence::Absent => Presence::Absent,
    })
}

#[cfg(test)]
mod tests;
