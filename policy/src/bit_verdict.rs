//! What the four witnesses of an item's bytes say together: the table of bit integrity, as one pure function.
//!
//! | row | content | storage | index | audit | verdict |
//! |---|---|---|---|---|---|
//! | 1 | same | same | same | same | [`Verdict::Intact`] |
//! | 2 | differs | same | same | same | [`Verdict::ContentDamaged`] |
//! | 3 | same | differs | same | same | [`Verdict::StorageChecksumWrong`] |
//! | 4 | not read | differs | same | same | [`Verdict::StorageDiffers`] |
//! | 5 | same | same | differs, or nothing | same | [`Verdict::IndexWrong`] |
//! | 6 | same | same | same | differs | [`Verdict::AuditDiffers`] |
//! | 7 | same | same | same | nothing | [`Verdict::AuditMissing`] |
//! | 8 | absent | absent | has it | has it | [`Verdict::ItemMissing`] |
//! | 9 | same | same | nothing | nothing | [`Verdict::NotRecorded`] |
//! | 10 | same | same | differs | differs | [`Verdict::ChangeNotRecorded`] |
//! | 11 | absent | absent | nothing | nothing | [`Verdict::Gone`] |
//!
//! Storage that keeps no checksum takes no part; content that is not read neither. Checksums of different algorithms say nothing
//! about each other. What is in no row is [`Verdict::Undecided`]: it is never guessed.
//!
//! Source: DuraCloud's table of bit integrity, of which later versions kept three witnesses.

use mill_model::Checksum;

/// What a store says of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AtStore {
    /// It answered that there is no such item.
    Absent,
    /// The item is there.
    Present {
        /// The checksums of its bytes, if they were read.
        content: Option<Vec<Checksum>>,
        /// The checksums that the store keeps; none if it keeps none.
        storage: Vec<Checksum>,
    },
}

/// What the content index or the audit log says of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// It never heard of it.
    Nothing,
    /// It was deleted.
    Deleted,
    /// It is there, with these checksums.
    Item(Vec<Checksum>),
}

/// What all witnesses say of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Testimony {
    /// Its content, and the storage's own checksum.
    pub at_store: AtStore,
    /// The content index.
    pub index: Recorded,
    /// The audit log.
    pub audit: Recorded,
}

/// What they say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// The bytes are what was recorded.
    Intact,
    /// The bytes are others than what was stored and recorded.
    ContentDamaged,
    /// The bytes are right, and the storage states another checksum.
    StorageChecksumWrong,
    /// The storage states another checksum than what was recorded, and the bytes were not read.
    StorageDiffers,
    /// The content index has another state of the item, or none.
    IndexWrong,
    /// The audit log has another state of the item.
    AuditDiffers,
    /// The audit log has nothing about the bytes.
    AuditMissing,
    /// A recorded item is not there.
    ItemMissing,
    /// An item is there of which nothing is recorded.
    NotRecorded,
    /// An item is there that was changed, and nothing recorded it.
    ChangeNotRecorded,
    /// It is gone, and that is recorded.
    Gone,
    /// No witness is to be trusted more than another, or none saw the bytes.
    Undecided,
}

impl Verdict {
    /// The row of the table.
    pub fn row(self) -> Option<u8> {
        Some(match self {
            Self::Intact => 1,
            Self::ContentDamaged => 2,
            Self::StorageChecksumWrong => 3,
            Self::StorageDiffers => 4,
            Self::IndexWrong => 5,
            Self::AuditDiffers => 6,
            Self::AuditMissing => 7,
            Self::ItemMissing => 8,
            Self::NotRecorded => 9,
            Self::ChangeNotRecorded => 10,
            Self::Gone => 11,
            Self::Undecided => return None,
        })
    }

    /// Whether a change that is still on its way to the index and the audit log explains it, so that waiting may help.
    pub fn may_pass(self) -> bool {
        matches!(self, Self::StorageDiffers | Self::ItemMissing | Self::NotRecorded | Self::ChangeNotRecorded)
    }
}

/// Judges an item.
pub fn verdict(testimony: &Testimony) -> Verdict {
    let Testimony { at_store, index, audit } = testimony;
    match at_store {
        AtStore::Absent => of_absent(index, audit),
        AtStore::Present { content, storage } => {
            let of_content = content.as_deref().filter(|sums| !sums.is_empty());
            of_present(of_content, storage, (index.checksums(), audit.checksums()))
        }
    }
}

fn of_absent(index: &Recorded, audit: &Recorded) -> Verdict {
    match (index, audit) {
        (Recorded::Item(_), Recorded::Deleted) => Verdict::IndexWrong,
        (Recorded::Item(_), _) | (_, Recorded::Item(_)) => Verdict::ItemMissing,
        _ => Verdict::Gone,
    }
}

fn of_present(
    content: Option<&[Checksum]>,
    storage: &[Checksum],
    (index, audit): (&[Checksum], &[Checksum]),
) -> Verdict {
    let Some(content) = content else { return of_unread(storage, (index, audit)) };
    let (in_index, in_audit) = (agreement(content, index), agreement(content, audit));
    match (agreement(content, storage), in_index, in_audit) {
        (Some(false), Some(true), Some(true)) => Verdict::StorageChecksumWrong,
        (Some(false), Some(false), Some(false)) if agree(storage, index) && agree(storage, audit) => {
            Verdict::ContentDamaged
        }
        // Without a checksum of the storage, what both records have against the bytes is what was stored.
        (None, Some(false), Some(false)) if agree(index, audit) => Verdict::ContentDamaged,
        (Some(false), ..) | (None, Some(false), Some(false) | None) | (None, None, Some(false)) => Verdict::Undecided,
        (_, in_index, in_audit) => of_records(in_index, in_audit),
    }
}

/// Of content that was not read, the storage speaks.
fn of_unread(storage: &[Checksum], (index, audit): (&[Checksum], &[Checksum])) -> Verdict {
    if storage.is_empty() {
        return Verdict::Undecided;
    }
    match (agreement(storage, index), agreement(storage, audit)) {
        (Some(false), Some(false)) if agree(index, audit) => Verdict::StorageDiffers,
        (Some(false), Some(false) | None) | (None, Some(false)) => Verdict::Undecided,
        (in_index, in_audit) => of_records(in_index, in_audit),
    }
}

/// Content and storage agree as far as both speak: whether the records have the same.
fn of_records(in_index: Option<bool>, in_audit: Option<bool>) -> Verdict {
    match (in_index, in_audit) {
        (Some(true), Some(true)) => Verdict::Intact,
        (Some(false) | None, Some(true)) => Verdict::IndexWrong,
        (Some(true), Some(false)) => Verdict::AuditDiffers,
        (Some(true), None) => Verdict::AuditMissing,
        (None, None) => Verdict::NotRecorded,
        (Some(false), _) | (None, Some(false)) => Verdict::ChangeNotRecorded,
    }
}

/// Whether two witnesses state the same; `None` if they share no algorithm.
fn agreement(one: &[Checksum], other: &[Checksum]) -> Option<bool> {
    let shared = one.iter().flat_map(|sum| {
        let of_kind = other.iter().filter(|other| other.algorithm == sum.algorithm);
        of_kind.map(move |other| other == sum)
    });
    shared.reduce(|all, same| all && same)
}

fn agree(one: &[Checksum], other: &[Checksum]) -> bool {
    agreement(one, other) == Some(true)
}

impl Recorded {
    fn checksums(&self) -> &[Checksum] {
        match self {
            Self::Nothing | Self::Deleted => &[],
            Self::Item(sums) => sums,
        }
    }
}

#[cfg(test)]
mod tests;
