//! The plan of the duplication producer: its morsels are pairs of spaces, one for each store policy of a space.

use std::collections::{BTreeMap, BTreeSet};

use mill_model::{AccountId, ContentId, DeleteListId, SpaceId, SpacePair, StoreId};
use mill_policy::{AccountPolicy, Rule, StorePolicy};
use mill_records::Versioned;
use mill_records::delete_lists::{DeleteListError, DeleteLists, DeleteThresholds};
use mill_records::owners::Owners;
use mill_records::producer_state::{DeleteProgress, DuplicationRows, MissingSpace, PairMorsel, ProducerStateError};
use mill_records::sync_proofs::SyncProofs;

use super::discovery;
use super::endpoints::SpaceError;
use super::merge::MergeError;
use super::morsel_step::OpenMorsel;
use super::report::DuplicationFindings;
use super::settings::AbsentSource;
use crate::looping::report::ProducerError;
use crate::looping::{MorselCoverage, OpenAs, Plan, SpacesByStore, TurnOutcome};

/// A session of the duplication producer.
pub(crate) type DuplicationSession<'a> = crate::looping::Session<'a, Duplication>;

/// Why a step of a pair went no further.
pub(crate) type DuplicationStepError = crate::looping::StepError<SpaceError>;

impl From<SpaceError> for DuplicationStepError {
    fn from(error: SpaceError) -> Self {
        Self::Space(error)
    }
}

impl From<MergeError> for DuplicationStepError {
    fn from(error: MergeError) -> Self {
        Self::Space(error.into())
    }
}

impl From<DeleteListError> for DuplicationStepError {
    fn from(error: DeleteListError) -> Self {
        Self::Space(error.into())
    }
}

/// The key of a missing source space.
pub(super) type MissingKey = (AccountId, StoreId, SpaceId);

/// What the duplication producer has in a session.
pub(crate) struct Duplication {
    pub(super) sync_proofs: SyncProofs,
    pub(super) delete_lists: DeleteLists,
    pub(super) owners: Owners,
    pub(super) thresholds: DeleteThresholds,
    pub(super) absent_source: AbsentSource,
    pub(super) open_morsels: BTreeMap<SpacePair, OpenMorsel>,
    pub(super) missing: BTreeMap<MissingKey, Versioned<MissingSpace>>,
    /// The rows of delete lists that had a result when this session first read the list.
    pub(super) settled_rows: BTreeMap<DeleteListId, BTreeSet<u32>>,
    /// How many entries of each account's run are left out by a rule or lie in no space.
    pub(super) left_out: BTreeMap<AccountId, u64>,
}

/// Which of the reads of a pair it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PairRead {
    /// Whether its spaces are present.
    Endpoints,
    /// The vanished items.
    DeleteScan,
    /// The copies of a missing source space.
    RetiringSurvey,
    /// The next items to copy.
    Nibble,
}

/// The state that a read of a pair depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PairBasis {
    pub(crate) policy: StorePolicy,
    /// Whether the source space and the destination space are present, and whether this source owns the destination.
    pub(crate) found: Option<[bool; 3]>,
    pub(crate) marker: Option<ContentId>,
}

impl Plan for Duplication {
    const NAME: &'static str = "duplication-producer";

    type Rows = DuplicationRows;
    type Findings = DuplicationFindings;
    type Order = StorePolicy;
    type Read = PairRead;
    type Basis = PairBasis;
    type Error = SpaceError;

    fn load(&mut self, rows: DuplicationRows) {
        let DuplicationRows { missing } = rows;
        self.missing.extend(missing.into_iter().map(|kept| (missing_key(&kept.record), kept)));
    }

    fn accounts(&self) -> BTreeSet<AccountId> {
        self.missing.keys().map(|(account, ..)| account.clone()).collect()
    }

    /// A space that the run `but` did not find missing may have been there again.
    async fn forget_rows(
        session: &mut DuplicationSession<'_>,
        account: &AccountId,
        but: Option<u64>,
    ) -> Result<(), ProducerStateError> {
        let of_account = session.plan.missing.iter().filter(|((owner, ..), _)| owner == account);
        let stale = of_account.filter(|(_, kept)| Some(kept.record.run) != but).map(|(key, _)| key.clone());
        for key in stale.collect::<Vec<_>>() {
            if let Some(kept) = session.plan.missing.remove(&key) {
                session.state.remove(&kept).await?;
            }
        }
        Ok(())
    }

    fn remove_from_rounds(&mut self, account: &AccountId) {
        self.open_morsels.retain(|pair, _| pair.account != *account);
    }

    fn forget_findings(session: &mut DuplicationSession<'_>, account: &AccountId) {
        let left_out = session.plan.left_out.remove(account).unwrap_or(0);
        let findings = &mut session.report.findings;
        findings.held.retain(|held| held.account != *account);
        findings.named_first.retain(|named| named.account != *account);
        findings.left_out.first.retain(|entry| entry.account != *account);
        findings.left_out.count -= left_out.min(findings.left_out.count);
        findings.sources_absent.retain(|absent| absent.account != *account);
    }

    fn stores_to_list(policy: &AccountPolicy) -> Vec<(StoreId, OpenAs)> {
        discovery::default_stores(policy)
    }

    fn subjects(policy: &AccountPolicy, spaces: &SpacesByStore, unanswered: &[StoreId]) -> BTreeSet<SpacePair> {
        discovery::covered_pairs(policy, spaces, unanswered)
    }

    fn report_uncovered(
        session: &mut DuplicationSession<'_>,
        policy: &AccountPolicy,
        spaces: &SpacesByStore,
        again: bool,
    ) {
        session.report_left_out(policy, spaces, again);
    }

    fn idle_reason(policy: &AccountPolicy) -> String {
        match policy.default_rule() {
            rule @ Rule::Stopped { .. } => rule.to_string(),
            _ => "no policy of it covers any space that is there".to_owned(),
        }
    }

    fn coverage(policy: &AccountPolicy, pair: &SpacePair) -> MorselCoverage<Self> {
        match policy.coverage(pair) {
            mill_policy::Coverage::Covered(policy) => MorselCoverage::Covered(policy),
            mill_policy::Coverage::NotCovered => MorselCoverage::NotCovered,
            mill_policy::Coverage::Stopped => {
                let reason = policy.for_space(&pair.space).rule.to_string();
                MorselCoverage::Failed(SpaceError::Stopped { reason })
            }
        }
    }

    /// Reports the deletes that an earlier session of this run held.
    async fn resume(
        session: &mut DuplicationSession<'_>,
        morsels: &[Versioned<PairMorsel>],
    ) -> Result<(), ProducerError> {
        if !morsels.iter().any(|morsel| matches!(morsel.record.deletes, DeleteProgress::Held { .. })) {
            return Ok(());
        }
        for held in session.plan.delete_lists.held().await? {
            if morsels.iter().any(|morsel| morsel.record.pair == held.pair) {
                session.report_held(&held);
            }
        }
        Ok(())
    }

    async fn take_turn(
        session: &mut DuplicationSession<'_>,
        morsel: &mut Versioned<PairMorsel>,
        policy: StorePolicy,
    ) -> Result<TurnOutcome, DuplicationStepError> {
        session.step_morsel(morsel, policy).await
    }
}

pub(super) fn missing_key(row: &MissingSpace) -> MissingKey {
    (row.account.clone(), row.store.clone(), row.space.clone())
}
