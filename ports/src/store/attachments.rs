//! What belongs to an item beside its bytes and properties.

use mill_model::Uncarried;

/// What belongs to an item beside its bytes and properties: the store that opens an item tells it, and the store that writes
/// the item uses what it can. It is never compared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attachments {
    /// The permission bits of the directories above the item in its space, outermost first; empty where a store has no
    /// directories. A store that makes directories on the way to the item grants others no more than these.
    pub directory_modes: Vec<u32>,
    /// How many tags it has, as far as the store tells when the item is opened.
    pub tag_count: u32,
    /// What else it has there, and no copy gets.
    pub uncarried: Vec<Uncarried>,
}
