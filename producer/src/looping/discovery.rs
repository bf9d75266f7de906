//! Discovers the morsels of a run: asks each store for its spaces, and the plan what its morsels are then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mill_hooks::crash_point;
use mill_model::{AccountId, SpaceId, StoreId};
use mill_policy::AccountPolicy;
use mill_ports::{LeftOutEntries, SpaceList, StoreError};
use mill_records::policies::PolicyError;
use mill_records::producer_state::MorselRow as _;
use tracing::{debug, info, warn};

use super::account_discovery::AccountDiscovery;
use super::background_read::{ReadBasis, ReadKey, ReadOutcome, ReaderPanicked};
use super::plan::{MorselOf, MorselSubjectOf, OpenAs, Plan};
use super::report::ProducerError;
use super::session::Session;
use crate::crash_points;
use crate::timed_stores::TimedStores;

/// The spaces of each store that has answered.
pub(crate) type SpacesByStore = BTreeMap<StoreId, StoreSpaces>;

/// The spaces of one store.
#[derive(Debug, Default)]
pub(crate) struct StoreSpaces {
    pub(crate) spaces: BTreeSet<SpaceId>,
    /// The entries that lie in no space, if the store was opened as a source.
    pub(crate) beside: Option<LeftOutEntries>,
}

/// The answers of the stores.
#[derive(Default)]
struct StoreAnswers {
    spaces: SpacesByStore,
    errors: BTreeMap<StoreId, StoreError>,
    /// The stores that have not answered yet.
    asked: BTreeSet<StoreId>,
}

impl<P: Plan> Session<'_, P> {
    /// Discovers an account's morsels, or those that an earlier attempt could not discover.
    pub(super) async fn discover_account(
        &mut self,
        mut known: AccountDiscovery<MorselSubjectOf<P>>,
    ) -> Result<(), ProducerError> {
        let account = known.row.record.account.clone();
        if let Some(run) = self.runs.get_mut(&account) {
            run.rediscovers_later = false;
        }
        let policy = match self.deps.policies.account(&account).await {
            Ok(policy) => policy,
            Err(PolicyError::NotListed { .. }) => {
                // The account was listed a moment ago. The next check of the list forgets its run.
                info!(%account, "the account is no longer listed; dropped from the run");
                return Ok(self.state.remove(&known.row).await?);
            }
            Err(error) => {
                self.account_failed(&account, &error);
                return Ok(());
            }
        };
        let again = known.stores_to_ask_again().map(<[StoreId]>::to_vec);
        let StoreAnswers { spaces, errors, asked } = match self.list_stores(&policy, again.as_deref()).await {
            Ok(told) => told,
            Err(error) => {
                self.account_failed(&account, &error);
                return Ok(());
            }
        };
        let mut found = P::subjects(&policy, &spaces, &known.row.record.unanswered);
        found.retain(|subject| known.found.insert(subject.clone()));
        let number = self.run_number(&account);
        if let Some(run) = self.runs.get_mut(&account) {
            run.morsels += found.len() as u64;
            // Morsels of an earlier session are in the rounds already.
            found.retain(|subject| !run.open.contains(subject));
        }
        P::report_uncovered(self, &policy, &spaces, again.is_some());
        let first = again.is_some() || known.row.record.unanswered.is_empty();
        if known.found.is_empty() && errors.is_empty() && asked.is_empty() && first {
            self.report_idle_account(&policy);
        }
        let fresh: Vec<MorselOf<P>> = found.into_iter().map(|subject| MorselOf::<P>::fresh(subject, number)).collect();
        debug!(%account, morsels = fresh.len(), "looked the account through");
        if !fresh.is_empty() {
            let all = self.state.add_morsels(&account, &fresh).await?;
            crash_point(crash_points::PRODUCER_MORSELS_ADDED);
            self.enqueue(&account, all);
        }
        self.schedule_rediscovery(known, errors, asked).await
    }

    /// Asks each store for its spaces, separately, so that a silent store does not block the others.
    async fn list_stores(
        &mut self,
        policy: &Arc<AccountPolicy>,
        only: Option<&[StoreId]>,
    ) -> Result<StoreAnswers, ReaderPanicked> {
        let mut told = StoreAnswers::default();
        let mut to_list = P::stores_to_list(policy);
        to_list.retain(|(store, _)| only.is_none_or(|only| only.contains(store)));
        for (store, open_as) in to_list {
            let (stores, account, of) = (self.stores.clone(), policy.account().clone(), store.clone());
            let read = ReadKey::Spaces(account.clone(), store.clone());
            let asking = async move { list_spaces_of(&stores, &account, &of, open_as).await };
            match self.read(read, ReadBasis::Account(policy.clone()), asking).await? {
                ReadOutcome::Done(Ok(listed)) => drop(told.spaces.insert(store, listed)),
                ReadOutcome::Done(Err(error)) => drop(told.errors.insert(store, error)),
                ReadOutcome::GoesOn | ReadOutcome::Stopped => drop(told.asked.insert(store)),
            }
        }
        Ok(told)
    }

    /// What the morsels of a policy are about now, as far as its stores answer.
    pub(crate) async fn subjects_of(
        &mut self,
        policy: &Arc<AccountPolicy>,
    ) -> Result<BTreeSet<MorselSubjectOf<P>>, ReaderPanicked> {
        let mut told = self.list_stores(policy, None).await?;
        while !told.asked.is_empty() && !self.stop.is_cancelled() {
            let asked: Vec<StoreId> = std::mem::take(&mut told.asked).into_iter().collect();
            let StoreAnswers { spaces, errors, asked } = self.list_stores(policy, Some(&asked)).await?;
            told.spaces.extend(spaces);
            told.errors.extend(errors);
            told.asked = asked;
        }
        for (store, error) in &told.errors {
            self.store_failed(policy.account(), store, error);
        }
        Ok(P::subjects(policy, &told.spaces, &[]))
    }

    /// Reports an account for which there is nothing to do.
    fn report_idle_account(&mut self, policy: &AccountPolicy) {
        let (account, why) = (policy.account().clone(), P::idle_reason(policy));
        warn!(target: mill_ports::REPORTED, %account, why, "there is nothing to do for the account");
        self.report.accounts_idle.push((account, why));
    }
}

async fn list_spaces_of(
    stores: &TimedStores,
    account: &AccountId,
    store: &StoreId,
    open_as: OpenAs,
) -> Result<StoreSpaces, StoreError> {
    match open_as {
        OpenAs::Destination => {
            let spaces = stores.destination(account, store).await?.spaces().await?.into_iter().collect();
            Ok(StoreSpaces { spaces, beside: None })
        }
        OpenAs::Source => {
            let SpaceList { spaces, left_out } = stores.source(account, store).await?.list_spaces().await?;
            Ok(StoreSpaces { spaces: spaces.into_iter().collect(), beside: Some(left_out) })
        }
    }
}
