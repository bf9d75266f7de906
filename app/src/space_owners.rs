//! Reports and releases the owner of a destination space.
//!
//! The next source that copies there becomes the owner of a released space, and what that source does not have is then
//! deleted as gone. So no space is released while a policy of today still copies there.

use anyhow::{Context as _, Result, anyhow, bail};
use mill_model::{AccountId, SpaceId, SpacePair, StoreAddress, StoreId};
use mill_policy::{AccountPolicy, Coverage};
use mill_ports::PlacedStore;
use mill_records::destinations::DestinationKeeper;
use mill_records::owners::{DestinationSpace, OwnerError, Owners};
use mill_records::tables;

use crate::installation::Installation;
use crate::store_registry::StoreRegistry;

/// The owner of a destination space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceOwner {
    /// The source store from which it is kept in sync, if it has an owner.
    pub source: Option<StoreAddress>,
    /// Its places, each with its keeper.
    pub keepers: Vec<(String, String)>,
}

/// The owner that a released space had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleasedSpace {
    /// The source store that owned it.
    pub source: Option<StoreAddress>,
    /// The keeper of its place, if the place was released too.
    pub keeper: Option<String>,
}

/// The owners of an installation's destination spaces.
#[derive(Debug)]
pub struct SpaceOwners<'i> {
    installation: &'i Installation,
    stores: &'i StoreRegistry,
    owners: Owners,
}

impl<'i> SpaceOwners<'i> {
    /// The owners of an installation.
    ///
    /// # Errors
    /// When no policy files describe its stores.
    pub fn of(installation: &'i Installation) -> Result<Self> {
        let stores = installation.configured.as_deref().context("there are no policy files")?;
        Ok(Self { installation, stores, owners: Owners::new(installation.engine.table(tables::OWNERS)) })
    }

    /// The owner of a space.
    ///
    /// # Errors
    /// When its store is in no policy, or a table or the store fails.
    pub async fn owner(&self, space: &DestinationSpace) -> Result<SpaceOwner> {
        let placed = self.stores.placed(&space.store.account, &space.store.store).await?;
        let source = self.owners.owner(space).await?;
        let keepers = self.installation.places.keepers(&*placed, &space.space).await?;
        let keepers = keepers.into_iter().map(|(path, keeper)| (path, keeper.shown)).collect();
        Ok(SpaceOwner { source, keepers })
    }

    /// Releases a space, so that another source may own it.
    ///
    /// # Errors
    /// A policy of today still copies there for its owner; it has no owner; as [`owner`](Self::owner).
    pub async fn release(&self, space: &DestinationSpace) -> Result<ReleasedSpace> {
        let StoreAddress { account, store } = &space.store;
        let placed = self.stores.placed(account, store).await?;
        let (owned, source) = match self.owners.owner(space).await {
            Ok(source) => (source.is_some(), source),
            // It is released like any other: nothing else could remove it.
            Err(OwnerError::Unreadable { .. }) => (true, None),
            Err(error) => return Err(error.into()),
        };
        if let Some(source) = &source {
            self.ensure_not_copied(space, source).await?;
        }
        let own = self.stores.identity.keeper(account, store);
        let mut still_kept = false;
        for (place, keeper) in self.installation.places.keepers(&*placed, &space.space).await? {
            let Some(writer) = self.writer(&keeper, &*placed, &space.space).await? else { continue };
            // The account has moved to another source store: it keeps the place.
            still_kept = owned && keeper.is(&own);
            if !still_kept {
                return Err(still_copied(&format!("`{place}`"), &writer));
            }
        }
        self.owners.release(space).await?;
        let keeper = if still_kept { None } else { self.installation.places.release(&*placed, &space.space).await? };
        if !owned && keeper.is_none() {
            bail!("{} belongs to no source, so there is nothing to release", named(space));
        }
        Ok(ReleasedSpace { source, keeper })
    }

    /// Checks that today's policy does not copy the space from that source there.
    async fn ensure_not_copied(&self, space: &DestinationSpace, source: &StoreAddress) -> Result<()> {
        let policy = self.installation.policies.account(&space.store.account).await?;
        let (from, to) = (&source.store, &space.store.store);
        if source.account != space.store.account || !may_copy(&policy, (from, to), &space.space) {
            return Ok(());
        }
        let writer = CurrentWriter { account: source.account.clone(), copies: Some((from.clone(), to.clone())) };
        Err(still_copied(&named(space), &writer))
    }

    /// Today's policy by which a keeper writes a space of a place, if there is one or it cannot be read.
    async fn writer(
        &self,
        keeper: &DestinationKeeper,
        placed: &dyn PlacedStore,
        space: &SpaceId,
    ) -> Result<Option<CurrentWriter>> {
        for (account, policy) in self.installation.policies.accounts().await? {
            let Ok(policy) = policy else {
                if self.stores.identity.is_of_account(keeper, &account) {
                    return Ok(Some(CurrentWriter { account, copies: None }));
                }
                continue;
            };
            for destination in policy.destinations() {
                if !self.stores.identity.keeper(&account, destination).is(keeper) {
                    continue;
                }
                let theirs = self.stores.placed(&account, destination).await?;
                // Under another root the space may have another name: any copy counts.
                let named_alike = theirs.location_name() == placed.location_name();
                if !named_alike && !lies_inside((placed, space), &*theirs).await? {
                    continue;
                }
                if let Some(source) = source_of(&policy, destination, named_alike.then_some(space)) {
                    let copies = Some((source.clone(), destination.clone()));
                    return Ok(Some(CurrentWriter { account, copies }));
                }
            }
        }
        Ok(None)
    }
}

/// The source from which a destination is written: for one space, or for any.
fn source_of<'p>(policy: &'p AccountPolicy, destination: &StoreId, space: Option<&SpaceId>) -> Option<&'p StoreId> {
    let copies = |source: &StoreId| space.is_none_or(|space| may_copy(policy, (source, destination), space));
    policy.pairs().into_iter().find(|(source, to)| *to == destination && copies(source)).map(|(source, _)| source)
}

/// Whether a policy copies a space between two stores, or may once its contradictions are corrected.
fn may_copy(policy: &AccountPolicy, (source, destination): (&StoreId, &StoreId), space: &SpaceId) -> bool {
    let (account, space) = (policy.account().clone(), space.clone());
    let pair = SpacePair { account, source: source.clone(), destination: destination.clone(), space };
    !matches!(policy.coverage(&pair), Coverage::NotCovered)
}

/// The account whose policy of today writes a place.
#[derive(Debug)]
struct CurrentWriter {
    account: AccountId,
    /// Source and destination; `None` if the policy cannot be read.
    copies: Option<(StoreId, StoreId)>,
}

fn still_copied(what: &str, CurrentWriter { account, copies }: &CurrentWriter) -> anyhow::Error {
    match copies {
        Some((source, destination)) => anyhow!(
            "{what} is not released: today's policy of account `{account}` copies there, from store `{source}` to store \
             `{destination}`. Another source that took it over would delete what was copied. If that is wanted: take \
             this copy out of `{}` first, then release it",
            AccountPolicy::policy_file_name(account)
        ),
        None => anyhow!(
            "{what} is not released: it belongs to account `{account}`, whose policy cannot be read now, so it may still \
             copy there. Mend that first: `mill policy check` says what is wrong"
        ),
    }
}

/// Whether a space lies in the root of another store, so that the store may write there under whatever name.
async fn lies_inside((placed, space): (&dyn PlacedStore, &SpaceId), other: &dyn PlacedStore) -> Result<bool> {
    let both = placed.space_location(space).await?.zip(other.space_location(space).await?);
    Ok(both.is_none_or(|(here, there)| {
        let root = there.within.parent().unwrap_or(&there.within);
        let is_same = here.identity.is_some() && here.identity == there.identity;
        is_same || (here.holder == there.holder && here.within.starts_with(root))
    }))
}

/// A space, for messages.
pub fn named(space: &DestinationSpace) -> String {
    format!("space `{}` of store `{}`", space.space, space.store)
}
