//! What one kind of looping producer does: the part that the looping does not know.

use std::collections::BTreeSet;
use std::fmt;

use mill_model::{AccountId, StoreId};
use mill_policy::AccountPolicy;
use mill_ports::StoreError;
use mill_records::Versioned;
use mill_records::producer_state::{MorselRow, PlanRows, ProducerStateError};

use super::discovery::SpacesByStore;
use super::report::{ProducerError, SpaceFailureKind};
use super::rounds::TurnOutcome;
use super::session::{Session, StepError};

/// The row of a morsel.
pub(crate) type MorselOf<P> = <<P as Plan>::Rows as PlanRows>::Morsel;
/// What a morsel is about.
pub(crate) type MorselSubjectOf<P> = <MorselOf<P> as MorselRow>::Subject;

/// A kind of looping producer. Its value is what the plan keeps in memory during a session.
///
/// The looping decides when a morsel has a turn; the plan decides which morsels there are and what is done in a turn. The
/// looping calls these functions. They use the session for reads in the background, the gate, the queue and the saved state.
pub(crate) trait Plan: Sized + 'static {
    /// The partition of its rows in the producer's table.
    const NAME: &'static str;

    /// Its rows.
    type Rows: PlanRows;
    /// What it reports beside what every producer reports.
    type Findings: Default;
    /// What today's policy asks for in a morsel.
    type Order;
    /// Which of the reads of a morsel it is.
    type Read: Copy + Ord + Send + fmt::Debug + 'static;
    /// The state that the result of such a read depends on.
    type Basis: PartialEq;
    /// Why a morsel is skipped.
    type Error: MorselError;

    /// The stores whose spaces are to be listed, and how.
    fn stores_to_list(policy: &AccountPolicy) -> Vec<(StoreId, OpenAs)>;

    /// What the morsels of an account are about, as far as `spaces` tells. If `unanswered` is not empty, only those that involve
    /// one of these stores.
    fn subjects(
        policy: &AccountPolicy,
        spaces: &SpacesByStore,
        unanswered: &[StoreId],
    ) -> BTreeSet<MorselSubjectOf<Self>>;

    /// Why an account without any morsel has none.
    fn idle_reason(policy: &AccountPolicy) -> String;

    /// What a policy says about a morsel now.
    fn coverage(policy: &AccountPolicy, subject: &MorselSubjectOf<Self>) -> MorselCoverage<Self>;

    /// Gives a morsel its turn. The gate is open.
    async fn take_turn(
        session: &mut Session<'_, Self>,
        morsel: &mut Versioned<MorselOf<Self>>,
        order: Self::Order,
    ) -> Result<TurnOutcome, StepError<Self::Error>>;

    // What follows is for plans that keep more than morsels and surveys, or report more than every producer does.

    /// Takes the rows that only this plan keeps into the session.
    fn load(&mut self, rows: Self::Rows) {
        drop(rows);
    }

    /// The accounts of these rows.
    fn accounts(&self) -> BTreeSet<AccountId> {
        BTreeSet::new()
    }

    /// Forgets these rows of an account, except for those of its run `but`.
    async fn forget_rows(
        _session: &mut Session<'_, Self>,
        _account: &AccountId,
        _but: Option<u64>,
    ) -> Result<(), ProducerStateError> {
        Ok(())
    }

    /// Forgets what turns of an account's morsels left open, since its run ends or begins anew.
    fn remove_from_rounds(&mut self, _account: &AccountId) {}

    /// Reports what no morsel covers, once the spaces are listed. `again`: only some stores were asked, after others.
    fn report_uncovered(
        _session: &mut Session<'_, Self>,
        _policy: &AccountPolicy,
        _spaces: &SpacesByStore,
        _again: bool,
    ) {
    }

    /// Reports what earlier sessions of a run found, as the run is resumed.
    async fn resume(
        _session: &mut Session<'_, Self>,
        _morsels: &[Versioned<MorselOf<Self>>],
    ) -> Result<(), ProducerError> {
        Ok(())
    }

    /// Forgets the findings of an account's previous run, since its next one begins.
    fn forget_findings(_session: &mut Session<'_, Self>, _account: &AccountId) {}
}

/// What a policy says about a morsel.
pub(crate) enum MorselCoverage<P: Plan> {
    Covered(P::Order),
    /// The morsel is dropped from the run.
    NotCovered,
    /// The morsel is skipped.
    Failed(P::Error),
}

/// How a store is opened to list its spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenAs {
    /// With the entries that lie in no space.
    Source,
    Destination,
}

/// Why a morsel is skipped in this session.
pub(crate) trait MorselError: std::error::Error + From<super::ReaderPanicked> + 'static {
    /// The store error behind it, if there is one.
    fn of_store(&self) -> Option<&StoreError>;
    /// The kind of failure that the report states.
    fn failure_kind(&self) -> SpaceFailureKind;
    /// Whether the morsel is tried again in this session.
    fn is_tried_again(&self) -> bool;
}
