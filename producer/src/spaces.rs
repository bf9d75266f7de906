//! Which morsels a run has: what each policy names, what the stores of default policies hold, at either end.

use std::collections::{BTreeMap, BTreeSet};

use mill_model::{AccountId, SpaceId, StoreId};
use mill_policy::{AccountPolicy, Rule, StorePolicy};
use mill_ports::{CrashPoint, SpaceList, StoreError, crash_point};
use mill_records::policies::PolicyError;
use mill_records::producer_state::{AccountRow, Kept, Morsel};
use mill_records::seals::Pair;
use tracing::{debug, info, warn};

use crate::report::ProducerError;
use crate::session::Session;

/// The spaces of each store that default policies read or write; `None` where the store did not answer.
type SpacesOf = BTreeMap<StoreId, Option<BTreeSet<SpaceId>>>;

impl Session<'_> {
    /// Gives each account a row, so that none is forgotten when this session ends early.
    pub(crate) async fn list_accounts(&mut self) -> Result<Vec<Kept<AccountRow>>, ProducerError> {
        let listed = self.deps.policies.accounts().await.map_err(ProducerError::Accounts)?;
        let run = self.run.row.number;
        let row = |(account, _)| AccountRow { account, run, unanswered: Vec::new() };
        let rows: Vec<AccountRow> = listed.into_iter().map(row).collect();
        let rows = self.state.add_accounts(&rows).await?;
        crash_point(CrashPoint::ProducerAccountsAdded);
        self.run.row.listed = true;
        self.state.save(&mut self.run).await?;
        crash_point(CrashPoint::ProducerAccountsListed);
        Ok(rows)
    }

    /// Finds an account's morsels, or what was still missing of them.
    pub(crate) async fn look_through(&mut self, mut row: Kept<AccountRow>) -> Result<(), ProducerError> {
        let account = row.row.account.clone();
        let policy = match self.deps.policies.account(&account).await {
            Ok(policy) => policy,
            Err(PolicyError::NotListed { .. }) => {
                info!(%account, "the account is no longer listed; dropped from the run");
                return Ok(self.state.remove(&row).await?);
            }
            Err(error) => {
                self.account_failed(&account, &error);
                return Ok(());
            }
        };
        let spaces = self.spaces_of_defaults(&policy).await;
        let known: BTreeSet<&Pair> = self.waiting.keys().map(|(_, _, pair)| pair).collect();
        let mut found = morsels(&policy, &spaces, &row.row.unanswered);
        found.retain(|pair| !known.contains(pair));
        let fresh: Vec<Morsel> = found.into_iter().map(|pair| Morsel::fresh(pair, self.run.row.number)).collect();
        debug!(%account, morsels = fresh.len(), "looked the account through");
        if !fresh.is_empty() {
            let all = self.state.add_morsels(&account, &fresh).await?;
            crash_point(CrashPoint::ProducerMorselsAdded);
            self.waiting.retain(|(_, _, pair), _| pair.account != account);
            self.line_up(all);
        }
        row.row.unanswered =
            spaces.into_iter().filter(|(_, spaces)| spaces.is_none()).map(|(store, _)| store).collect();
        if row.row.unanswered.is_empty() {
            return Ok(self.state.remove(&row).await?);
        }
        Ok(self.state.save(&mut row).await?)
    }

    async fn spaces_of_defaults(&mut self, policy: &AccountPolicy) -> SpacesOf {
        let account = policy.account();
        let sources: BTreeSet<&StoreId> = policy.default_sources().into_iter().collect();
        let destinations = policy.default_destinations().into_iter().collect();
        let mut spaces = SpacesOf::new();
        for store in sources.union(&destinations) {
            let listed = self.spaces_at(account, store, sources.contains(store)).await;
            if let Err(error) = &listed {
                self.store_failed(account, store, error);
            }
            spaces.insert((*store).clone(), listed.ok());
        }
        spaces
    }

    async fn spaces_at(
        &self,
        account: &AccountId,
        store: &StoreId,
        read: bool,
    ) -> Result<BTreeSet<SpaceId>, StoreError> {
        let stores = &self.deps.stores;
        if !read {
            return Ok(stores.destination(account, store).await?.spaces().await?.into_iter().collect());
        }
        let SpaceList { spaces, left_out } = stores.source(account, store).await?.list_spaces().await?;
        for (name, reason) in &left_out.first {
            warn!(%account, %store, name, %reason, "this entry of a store lies in no space and is not copied");
        }
        if left_out.count > left_out.first.len() as u64 {
            warn!(%account, %store, count = left_out.count, "so many entries of the store lie in no space");
        }
        Ok(spaces.into_iter().collect())
    }
}

/// All morsels of an account; with `unanswered`, only those for which these stores had to be asked.
fn morsels(policy: &AccountPolicy, spaces: &SpacesOf, unanswered: &[StoreId]) -> BTreeSet<Pair> {
    let named: BTreeSet<&SpaceId> = policy.named_spaces().into_iter().collect();
    let listed = spaces.values().flatten().flatten();
    let all: BTreeSet<&SpaceId> = named.iter().copied().chain(listed).collect();
    let is_at =
        |store: &StoreId, space| spaces.get(store).and_then(Option::as_ref).is_some_and(|at| at.contains(space));
    let mut morsels = BTreeSet::new();
    for space in all {
        let decision = policy.for_space(space);
        for StorePolicy { source, destination, .. } in decision.policies {
            let asked = unanswered.is_empty() || [&source, &destination].iter().any(|store| unanswered.contains(store));
            // A default policy applies to what is at one of its ends; a space's own list also to what is nowhere yet.
            let own = decision.rule == Rule::Own;
            if asked && (own || is_at(&source, space) || is_at(&destination, space)) {
                let (account, space) = (policy.account().clone(), space.clone());
                morsels.insert(Pair { account, source, destination, space });
            }
        }
    }
    morsels
}
