//! The traits of the rows of all kinds of looping producers.

use std::fmt;
use std::future::Future;

use mill_model::{AccountId, SpaceId, StoreId, SurveySum};

use super::rows::Record;
use super::{ProducerState, ProducerStateError};

/// The rows of one kind of looping producer, besides those that all kinds have.
pub trait PlanRows: Default + fmt::Debug + Send + Sync + 'static {
    /// The row of a morsel.
    type Morsel: MorselRow;
    /// The row of a morsel's last complete survey.
    type Survey: SurveyRow<Subject = SubjectOf<Self>>;

    /// Reads the rows that only this kind of producer keeps. Fails if one was written in a later epoch than
    /// `epoch_max`.
    fn read(
        state: &ProducerState<Self>,
        epoch_max: u64,
    ) -> impl Future<Output = Result<Self, ProducerStateError>> + Send;

    /// Writes these rows again as they were read, so that no earlier holder of the lease can save them any more.
    fn claim(self, state: &ProducerState<Self>) -> impl Future<Output = Result<(), ProducerStateError>> + Send;
}

/// What the morsels of a kind of producer are about.
pub type SubjectOf<R> = <<R as PlanRows>::Morsel as MorselRow>::Subject;

/// What a morsel is about: one space of an account in one store, or in a store and the destination of its copy.
pub trait MorselSubject: Clone + fmt::Debug + Ord + Send + Sync + 'static {
    /// Its ids with slashes between them, at least three, the account first. No two subjects share a key.
    fn key(&self) -> String;
    /// The subject of a key; `None` for a text that is no such key.
    fn parse(key: &str) -> Option<Self>;
    /// The account.
    fn account(&self) -> &AccountId;
    /// The space.
    fn space(&self) -> &SpaceId;
    /// The store whose items are walked.
    fn store(&self) -> &StoreId;
    /// The store of the copies, if the items are compared with copies.
    fn destination(&self) -> Option<&StoreId>;

    /// All its stores.
    fn stores(&self) -> impl Iterator<Item = &StoreId> + Send {
        std::iter::once(self.store()).chain(self.destination())
    }
}

/// The row of a morsel: how far a run has come with its subject.
pub trait MorselRow: Record + Clone + fmt::Debug + 'static {
    /// What it is about.
    type Subject: MorselSubject;

    /// A fresh morsel.
    fn fresh(subject: Self::Subject, run: u64) -> Self;
    /// What it is about.
    fn subject(&self) -> &Self::Subject;
    /// The run that it belongs to.
    fn run(&self) -> u64;
    /// The number of nibbles taken from it.
    fn nibbles(&self) -> u64;
}

/// The row of the last complete survey of a morsel.
pub trait SurveyRow: Record + 'static {
    /// What was surveyed.
    type Subject: MorselSubject;

    /// What was surveyed.
    fn subject(&self) -> &Self::Subject;
    /// The run that made it.
    fn run(&self) -> u64;
    /// How its entries were classified.
    fn sum(&self) -> SurveySum;
}
