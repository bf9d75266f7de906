//! Discovers the morsels of a run: the spaces that a policy names, and those that the stores of default policies hold, on either side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mill_model::{AccountId, SpaceId, SpacePair, StoreId};
use mill_policy::{AccountPolicy, Rule, StorePolicy};
use mill_ports::{CrashPoint, LeftOutEntries, PlantedBug, SpaceList, StoreError, crash_point, planted};
use mill_records::policies::PolicyError;
use mill_records::producer_state::Morsel;
use tracing::{debug, info, warn};

use crate::looping::{AccountDiscovery, ReadBasis, ReadKey, ReadOutcome, ReaderPanicked, Session};
use crate::report::{LeftOutEntry, ProducerError};
use crate::timed_stores::TimedStores;

/// The spaces of each store of the default policies that has answered.
type SpacesByStore = BTreeMap<StoreId, StoreSpaces>;

/// The spaces of one store.
#[derive(Debug, Default)]
struct StoreSpaces {
    spaces: BTreeSet<SpaceId>,
    /// The entries that lie in no space, if default policies read the store: they are reported as not copied.
    beside: Option<LeftOutEntries>,
}

/// The answers of the stores of the default policies.
#[derive(Default)]
struct StoreAnswers {
    spaces: SpacesByStore,
    errors: BTreeMap<StoreId, StoreError>,
    /// The stores that have not answered yet.
    asked: BTreeSet<StoreId>,
}

impl Session<'_> {
    /// Discovers an account's morsels, or those that an earlier attempt could not discover.
    pub(crate) async fn discover_account(&mut self, mut known: AccountDiscovery) -> Result<(), ProducerError> {
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
        let StoreAnswers { spaces, errors, asked } = match self.list_default_stores(&policy, again.as_deref()).await {
            Ok(told) => told,
            Err(error) => {
                self.account_failed(&account, &error);
                return Ok(());
            }
        };
        let mut found = covered_pairs(&policy, &spaces, &known.row.record.unanswered);
        found.retain(|pair| known.found.insert(pair.clone()));
        let number = self.run_number(&account);
        if let Some(run) = self.runs.get_mut(&account) {
            run.pairs += found.len() as u64;
            // Morsels of an earlier session are in the rounds already.
            found.retain(|pair| !run.open.contains(pair));
        }
        self.report_left_out(&policy, &spaces, again.is_some());
        let first = again.is_some() || known.row.record.unanswered.is_empty();
        if known.found.is_empty() && errors.is_empty() && asked.is_empty() && first {
            self.report_idle_account(&policy);
        }
        let fresh: Vec<Morsel> = found.into_iter().map(|pair| Morsel::fresh(pair, number)).collect();
        debug!(%account, morsels = fresh.len(), "looked the account through");
        if !fresh.is_empty() {
            let all = self.state.add_morsels(&account, &fresh).await?;
            crash_point(CrashPoint::ProducerMorselsAdded);
            self.enqueue(&account, all);
        }
        self.schedule_rediscovery(known, errors, asked).await
    }

    /// Asks each store of the default policies for its spaces, separately, so that a silent store does not block the others.
    async fn list_default_stores(
        &mut self,
        policy: &Arc<AccountPolicy>,
        only: Option<&[StoreId]>,
    ) -> Result<StoreAnswers, ReaderPanicked> {
        let mut told = StoreAnswers::default();
        for (store, is_source) in default_stores(policy, only) {
            let (stores, account, of) = (self.stores.clone(), policy.account().clone(), store.clone());
            let read = ReadKey::Spaces(account.clone(), store.clone());
            let asking = async move { list_spaces_of(&stores, &account, &of, is_source).await };
            match self.read(read, ReadBasis::Account(policy.clone()), asking).await? {
                ReadOutcome::Done(Ok(listed)) => drop(told.spaces.insert(store, listed)),
                ReadOutcome::Done(Err(error)) => drop(told.errors.insert(store, error)),
                ReadOutcome::GoesOn | ReadOutcome::Stopped => drop(told.asked.insert(store)),
            }
        }
        Ok(told)
    }

    /// The pairs that a policy covers now, as far as its stores answer.
    pub(crate) async fn pairs_of(
        &mut self,
        policy: &Arc<AccountPolicy>,
    ) -> Result<BTreeSet<SpacePair>, ReaderPanicked> {
        let mut told = self.list_default_stores(policy, None).await?;
        while !told.asked.is_empty() && !self.stop.is_cancelled() {
            let asked: Vec<StoreId> = std::mem::take(&mut told.asked).into_iter().collect();
            let StoreAnswers { spaces, errors, asked } = self.list_default_stores(policy, Some(&asked)).await?;
            told.spaces.extend(spaces);
            told.errors.extend(errors);
            told.asked = asked;
        }
        for (store, error) in &told.errors {
            self.store_failed(policy.account(), store, error);
        }
        Ok(covered_pairs(policy, &told.spaces, &[]))
    }

    /// Reports the entries that lie in no space, in stores that default policies read, and each space that a rule leaves out: in
    /// these stores, and, unless `again`, among the spaces that the policy names.
    fn report_left_out(&mut self, policy: &AccountPolicy, spaces: &SpacesByStore, again: bool) {
        let before = self.report.left_out.count;
        let named = policy.named_spaces().into_iter().filter(|_| !again);
        let mut named: BTreeSet<&SpaceId> = named.collect();
        let mut found: Vec<(Option<&StoreId>, &SpaceId)> = Vec::new();
        for (store, listed) in spaces {
            let StoreSpaces { spaces, beside: Some(LeftOutEntries { first, count }) } = listed else { continue };
            for (shown, reason) in first {
                let (account, store, shown) = (policy.account().clone(), Some(store.clone()), shown.clone());
                self.left_out(LeftOutEntry { account, store, shown, is_space: false, rule: reason.to_string() });
            }
            let more = count - first.len() as u64;
            if more > 0 {
                warn!(account = %policy.account(), %store, more, "more entries of the store lie in no space than are named");
                self.report.left_out.count += more;
            }
            found.extend(spaces.iter().map(|space| (Some(store), space)));
            named.retain(|space| !spaces.contains(*space));
        }
        found.extend(named.into_iter().map(|space| (None, space)));
        for (store, space) in found {
            let rule = policy.for_space(space).rule;
            if rule.leaves_out() && !planted(PlantedBug::LeftOutUnnamed) {
                let (account, store) = (policy.account().clone(), store.cloned());
                let (shown, rule) = (space.to_string(), rule.to_string());
                self.left_out(LeftOutEntry { account, store, shown, is_space: true, rule });
            }
        }
        let more = self.report.left_out.count - before;
        if let Some(run) = self.runs.get_mut(policy.account()) {
            run.left_out += more;
        }
        self.deps.statistics.count(|work| work.left_out += more);
    }

    fn left_out(&mut self, entry: LeftOutEntry) {
        let LeftOutEntry { account, store, shown, rule, .. } = &entry;
        if self.report.left_out.first.contains(&entry) {
            return;
        }
        let store = store.as_ref().map(tracing::field::display);
        warn!(%account, store, name = shown, rule, "left out, and not copied");
        self.report.left_out.add(entry);
    }

    /// Reports an account for which there is nothing to do.
    fn report_idle_account(&mut self, policy: &AccountPolicy) {
        let account = policy.account().clone();
        let why = match policy.default_rule() {
            rule @ Rule::Stopped { .. } => rule.to_string(),
            _ => "no policy of it covers any space that is there".to_owned(),
        };
        warn!(%account, why, "there is nothing to do for the account");
        self.report.accounts_idle.push((account, why));
    }
}

/// The stores that default policies name, or only those in `only`, and whether each is a source.
fn default_stores(policy: &AccountPolicy, only: Option<&[StoreId]>) -> Vec<(StoreId, bool)> {
    let sources: BTreeSet<&StoreId> = policy.default_sources().into_iter().collect();
    let destinations = policy.default_destinations().into_iter().collect();
    let all = sources.union(&destinations).filter(|store| only.is_none_or(|only| only.contains(store)));
    all.map(|store| ((*store).clone(), sources.contains(store))).collect()
}

async fn list_spaces_of(
    stores: &TimedStores,
    account: &AccountId,
    store: &StoreId,
    is_source: bool,
) -> Result<StoreSpaces, StoreError> {
    if !is_source {
        let spaces = stores.destination(account, store).await?.spaces().await?.into_iter().collect();
        return Ok(StoreSpaces { spaces, beside: None });
    }
    let SpaceList { spaces, left_out } = stores.source(account, store).await?.list_spaces().await?;
    Ok(StoreSpaces { spaces: spaces.into_iter().collect(), beside: Some(left_out) })
}

/// All morsels of an account; if `unanswered` is not empty, only those that involve one of these stores.
fn covered_pairs(policy: &AccountPolicy, spaces: &SpacesByStore, unanswered: &[StoreId]) -> BTreeSet<SpacePair> {
    let named: BTreeSet<&SpaceId> = policy.named_spaces().into_iter().collect();
    let listed = spaces.values().flat_map(|store| &store.spaces);
    let all: BTreeSet<&SpaceId> = named.iter().copied().chain(listed).collect();
    let is_at = |store: &StoreId, space| spaces.get(store).is_some_and(|at| at.spaces.contains(space));
    let mut morsels = BTreeSet::new();
    for space in all {
        let decision = policy.for_space(space);
        for StorePolicy { source, destination, .. } in decision.policies {
            let asked = unanswered.is_empty() || [&source, &destination].iter().any(|store| unanswered.contains(store));
            // A default policy applies to spaces that exist on one side; a space's own list also to a space that does not exist.
            let own = decision.rule == Rule::Own;
            if asked && (own || is_at(&source, space) || is_at(&destination, space)) {
                let (account, space) = (policy.account().clone(), space.clone());
                morsels.insert(SpacePair { account, source, destination, space });
            }
        }
    }
    morsels
}
