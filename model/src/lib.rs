//! The nouns of Mill: types that mean the same in every room.
//!
//! Reading order: [`ids`] (accounts, stores, spaces, content items), [`space_pair`] (a space in two stores), [`time`],
//! [`content`] (facts, checksums, properties), [`property_comparison`] (when the properties of two copies are equal),
//! [`name_folding`] (names that a store may treat as one), [`digest`] (hashing in one pass), [`queue`] (the seven
//! queues), [`service_address`] (the address of a service), [`task`] (work and its kinds), [`envelope`] (a task on its
//! way through queues), [`dead_letter`] (a task that was dead-lettered), [`wire`] (the written form), [`totals`] (what
//! a run did), [`item_event`] (what became of one entry), [`audit_event`] (what happened to content).
//!
//! **Invariant:** nothing here does IO, awaits, or reads a clock or random numbers. Only [`wire`], the arguments of each
//! kind of [`task`], and [`audit_event`] know a written form.

pub mod audit_event;
pub mod content;
pub mod dead_letter;
pub mod digest;
pub mod encoded_words;
pub mod envelope;
pub mod ids;
pub mod item_event;
pub mod name_folding;
mod original_place;
pub mod property_comparison;
pub mod queue;
pub mod service_address;
pub mod space_pair;
pub mod task;
pub mod time;
pub mod totals;
mod uncarried;
pub mod wire;

pub use audit_event::{AuditAction, AuditEvent, CopiedFrom, EventCertainty, EventId, EventSource};
pub use content::{Algorithm, Checksum, ItemFacts, ItemState, Properties, Version};
pub use dead_letter::DeadLetterMessage;
pub use envelope::{Envelope, Failure};
pub use ids::{AccountId, ContentId, DeleteListId, IdError, ItemAddress, SpaceId, StoreAddress, StoreId, TaskId};
pub use item_event::{EntryFate, EventSubject, ItemEvent, SubjectSort, UpdatedPart};
pub use original_place::OriginalPlace;
pub use property_comparison::PropertyDifference;
pub use queue::QueueName;
pub use service_address::{AddressError, ServiceAddress};
pub use space_pair::SpacePair;
pub use task::{
    AuditTask, DuplicateScope, DuplicateTask, NotificationTask, PublishLogTask, RemoveTask, Task, TaskArgs, TaskError,
    TaskKind,
};
pub use time::{Monotonic, Timestamp};
pub use totals::{Counter, Evidence, ItemOutcome, ItemOutcomes, RunSum, RunTotals, SumMismatch, SurveySum, WorkCounts};
pub use uncarried::Uncarried;
