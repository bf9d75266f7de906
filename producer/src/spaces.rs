//! Which morsels a run has: what each policy names, what the stores of default policies hold, at either end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mill_model::{AccountId, SpaceId, StoreId};
use mill_policy::{AccountPolicy, Rule, StorePolicy};
use mill_ports::{CrashPoint, LeftOutEntries, PlantedBug, SpaceList, StoreError, crash_point, planted};
use mill_records::policies::PolicyError;
use mill_records::producer_state::Morsel;
use mill_records::sync_proofs::SpacePair;
use tracing::{debug, info, warn};

use crate::report::{LeftOutEntry, ProducerError};
use crate::session::{Basis, Broke, Read, Reading, Session, Unanswered};
use crate::stores::ReadStores;

/// The spaces of each store that default policies read or write, as far as it answered.
type SpacesOf = BTreeMap<StoreId, StoreSpaces>;

/// The spaces of one store.
#[derive(Debug, Default)]
struct StoreSpaces {
    spaces: BTreeSet<SpaceId>,
    /// What stands beside the spaces, where default policies read the store: then all that is in it is to be copied, but
    /// for what a rule leaves out.
    beside: Option<LeftOutEntries>,
}

/// What the stores of default policies told.
#[derive(Default)]
struct Told {
    spaces: SpacesOf,
    errors: BTreeMap<StoreId, StoreError>,
    /// Those that have not answered yet.
    asked: BTreeSet<StoreId>,
}

impl Session<'_> {
    /// Finds an account's morsels, or what was still missing of them.
    pub(crate) async fn look_through(&mut self, mut known: Unanswered) -> Result<(), ProducerError> {
        let account = known.row.row.account.clone();
        if let Some(run) = self.runs.get_mut(&account) {
            run.asks_later = false;
        }
        let policy = match self.deps.policies.account(&account).await {
            Ok(policy) => policy,
            Err(PolicyError::NotListed { .. }) => {
                // It was listed a moment ago. The next look at the list forgets its run.
                info!(%account, "the account is no longer listed; dropped from the run");
                return Ok(self.state.remove(&known.row).await?);
            }
            Err(error) => {
                self.account_failed(&account, &error);
                return Ok(());
            }
        };
        let again = known.asked_again().map(<[StoreId]>::to_vec);
        let Told { spaces, errors, asked } = match self.ask_spaces(&policy, again.as_deref()).await {
            Ok(told) => told,
            Err(error) => {
                self.account_failed(&account, &error);
                return Ok(());
            }
        };
        let mut found = morsels(&policy, &spaces, &known.row.row.unanswered);
        found.retain(|pair| known.found.insert(pair.clone()));
        let number = self.run_number(&account);
        if let Some(run) = self.runs.get_mut(&account) {
            run.pairs += found.len() as u64;
            // Those of an earlier session have their places.
            found.retain(|pair| !run.open.contains(pair));
        }
        self.leave_out(&policy, &spaces, again.is_some());
        let first = again.is_some() || known.row.row.unanswered.is_empty();
        if known.found.is_empty() && errors.is_empty() && asked.is_empty() && first {
            self.account_idle(&policy);
        }
        let fresh: Vec<Morsel> = found.into_iter().map(|pair| Morsel::fresh(pair, number)).collect();
        debug!(%account, morsels = fresh.len(), "looked the account through");
        if !fresh.is_empty() {
            let all = self.state.add_morsels(&account, &fresh).await?;
            crash_point(CrashPoint::ProducerMorselsAdded);
            self.line_up(&account, all);
        }
        self.ask_later(known, errors, asked).await
    }

    /// Asks the stores of default policies which spaces they have, each by itself: one that is silent keeps no other waiting.
    async fn ask_spaces(&mut self, policy: &Arc<AccountPolicy>, only: Option<&[StoreId]>) -> Result<Told, Broke> {
        let mut told = Told::default();
        for (store, is_source) in stores_of_defaults(policy, only) {
            let (stores, account, of) = (self.stores.clone(), policy.account().clone(), store.clone());
            let read = Read::Spaces(account.clone(), store.clone());
            let asking = async move { spaces_at(&stores, &account, &of, is_source).await };
            match self.read(read, Basis::Account(policy.clone()), asking).await? {
                Reading::Done(Ok(listed)) => drop(told.spaces.insert(store, listed)),
                Reading::Done(Err(error)) => drop(told.errors.insert(store, error)),
                Reading::GoesOn | Reading::Stopped => drop(told.asked.insert(store)),
            }
        }
        Ok(told)
    }

    /// The pairs that a policy covers now, as far as its stores answer.
    pub(crate) async fn pairs_of(&mut self, policy: &Arc<AccountPolicy>) -> Result<BTreeSet<SpacePair>, Broke> {
        let mut told = self.ask_spaces(policy, None).await?;
        while !told.asked.is_empty() && !self.stop.is_cancelled() {
            let asked: Vec<StoreId> = std::mem::take(&mut told.asked).into_iter().collect();
            let Told { spaces, errors, asked } = self.ask_spaces(policy, Some(&asked)).await?;
            told.spaces.extend(spaces);
            told.errors.extend(errors);
            told.asked = asked;
        }
        for (store, error) in &told.errors {
            self.store_failed(policy.account(), store, error);
        }
        Ok(morsels(policy, &told.spaces, &[]))
    }

    /// Names what stands beside the spaces of the stores that default policies read, and each space that a rule leaves out:
    /// of these stores, and those that a policy names, unless that was done.
    fn leave_out(&mut self, policy: &AccountPolicy, spaces: &SpacesOf, again: bool) {
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

    /// Notes an account for which there is nothing to do.
    fn account_idle(&mut self, policy: &AccountPolicy) {
        let account = policy.account().clone();
        let why = match policy.default_rule() {
            rule @ Rule::Stopped { .. } => rule.to_string(),
            _ => "no policy of it covers any space that is there".to_owned(),
        };
        warn!(%account, why, "there is nothing to do for the account");
        self.report.accounts_idle.push((account, why));
    }
}

/// The stores that default policies name, or these alone of them, and whether each is a source.
fn stores_of_defaults(policy: &AccountPolicy, only: Option<&[StoreId]>) -> Vec<(StoreId, bool)> {
    let sources: BTreeSet<&StoreId> = policy.default_sources().into_iter().collect();
    let destinations = policy.default_destinations().into_iter().collect();
    let all = sources.union(&destinations).filter(|store| only.is_none_or(|only| only.contains(store)));
    all.map(|store| ((*store).clone(), sources.contains(store))).collect()
}

async fn spaces_at(
    stores: &ReadStores,
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

/// All morsels of an account; with `unanswered`, only those for which these stores had to be asked.
fn morsels(policy: &AccountPolicy, spaces: &SpacesOf, unanswered: &[StoreId]) -> BTreeSet<SpacePair> {
    let named: BTreeSet<&SpaceId> = policy.named_spaces().into_iter().collect();
    let listed = spaces.values().flat_map(|store| &store.spaces);
    let all: BTreeSet<&SpaceId> = named.iter().copied().chain(listed).collect();
    let is_at = |store: &StoreId, space| spaces.get(store).is_some_and(|at| at.spaces.contains(space));
    let mut morsels = BTreeSet::new();
    for space in all {
        let decision = policy.for_space(space);
        for StorePolicy { source, destination, .. } in decision.policies {
            let asked = unanswered.is_empty() || [&source, &destination].iter().any(|store| unanswered.contains(store));
            // A default policy applies to what is at one of its ends; a space's own list also to what is nowhere yet.
            let own = decision.rule == Rule::Own;
            if asked && (own || is_at(&source, space) || is_at(&destination, space)) {
                let (account, space) = (policy.account().clone(), space.clone());
                morsels.insert(SpacePair { account, source, destination, space });
            }
        }
    }
    morsels
}
