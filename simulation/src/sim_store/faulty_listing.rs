//! Listings with faults: a page fails, comes twice, or does not come for a long time.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use mill_model::{ContentId, SpaceId};
use mill_ports::{ListPage, Listing, StoreError};

use super::{CallKind, StoreCallFault, StoreClient};
use crate::fault::SimFault;

struct FaultyListing {
    client: StoreClient,
    space: SpaceId,
    inner: Listing,
    /// The last page, if it is to come once more.
    again: Option<ListPage>,
    over: bool,
}

impl StoreClient {
    pub(super) fn listing(&self, space: &SpaceId, after: Option<ContentId>) -> Listing {
        let inner = mill_ports::SourceStore::list(&self.sim_store.inner, space, after);
        if self.quiet {
            return inner;
        }
        let pages = FaultyListing { client: self.clone(), space: space.clone(), inner, again: None, over: false };
        stream::unfold(pages, |mut pages| async move { pages.next().await.map(|page| (page, pages)) }).boxed()
    }
}

impl StoreClient {
    /// May keep a producer waiting for up to an hour, but no longer than faults last.
    async fn stay_silent(&self) {
        let (process, world) = (&self.process, &self.process.world);
        if !process.name.starts_with("producer")
            || !world.inject(SimFault::ListingSilent, world.swarm.rates.silent, &process.name)
        {
            return;
        }
        let until = world.now().plus(world.rng.duration(Duration::from_mins(1), Duration::from_hours(1)));
        while world.now() < until && !world.is_calm() {
            world.sleep(Duration::from_secs(15)).await;
        }
    }
}

impl FaultyListing {
    async fn next(&mut self) -> Option<Result<ListPage, StoreError>> {
        if self.over {
            return None;
        }
        if let Some(again) = self.again.take() {
            return Some(Ok(again));
        }
        let client = &self.client;
        client.stay_silent().await;
        if let StoreCallFault::Before(kind) | StoreCallFault::After(kind) = client.draw_fault(CallKind::List).await {
            self.over = true;
            return Some(Err(client.error("list", &self.space, kind)));
        }
        let page = match self.inner.next().await {
            Some(Ok(page)) => page,
            other => {
                self.over = true;
                return other;
            }
        };
        let (world, by, rate) = (&client.process.world, &client.process.name, client.process.world.swarm.rates.listing);
        if world.inject(SimFault::ListingFailed, rate, by) {
            self.over = true;
            return Some(Err(client.error("list", &self.space, client.some_kind())));
        }
        if world.inject(SimFault::ListingShort, rate, by) {
            self.over = true;
            return (!page.end && world.rng.below(2) == 0).then_some(Ok(page));
        }
        if !page.entries.is_empty() && world.inject(SimFault::ListingRepeated, rate, by) {
            let twice = ListPage { end: false, ..page.clone() };
            self.again = Some(page);
            return Some(Ok(twice));
        }
        client.process.leave().await;
        Some(Ok(page))
    }
}
