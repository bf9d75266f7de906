//! Listings on their way: pages fail, come twice, or stop coming.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use mill_model::{ContentId, SpaceId};
use mill_ports::{ListPage, Listing, StoreError};

use super::{Meet, Sort, Way};
use crate::sim::fault::Fault;

struct Pages {
    way: Way,
    space: SpaceId,
    inner: Listing,
    /// The page that came last, where it is to come once more.
    again: Option<ListPage>,
    over: bool,
}

impl Way {
    pub(super) fn listing(&self, space: &SpaceId, after: Option<ContentId>) -> Listing {
        let inner = mill_ports::SourceStore::list(&self.shelf.inner, space, after);
        if self.quiet {
            return inner;
        }
        let pages = Pages { way: self.clone(), space: space.clone(), inner, again: None, over: false };
        stream::unfold(pages, |mut pages| async move { pages.next().await.map(|page| (page, pages)) }).boxed()
    }
}

impl Way {
    /// Where a producer lists the store, it may answer nothing for up to an hour, but not once all faults have stopped.
    async fn silence(&self) {
        let (line, world) = (&self.line, &self.line.world);
        if !line.name.starts_with("producer")
            || !world.strikes(Fault::ListingSilent, world.swarm.rates.silent, &line.name)
        {
            return;
        }
        let until = world.now().plus(world.dice.duration(Duration::from_mins(1), Duration::from_hours(1)));
        while world.now() < until && !world.is_calm() {
            world.sleep(Duration::from_secs(15)).await;
        }
    }
}

impl Pages {
    async fn next(&mut self) -> Option<Result<ListPage, StoreError>> {
        if self.over {
            return None;
        }
        if let Some(again) = self.again.take() {
            return Some(Ok(again));
        }
        let way = &self.way;
        way.silence().await;
        if let Meet::Before(kind) | Meet::After(kind) = way.meet(Sort::List).await {
            self.over = true;
            return Some(Err(way.error("list", &self.space, kind)));
        }
        let page = match self.inner.next().await {
            Some(Ok(page)) => page,
            other => {
                self.over = true;
                return other;
            }
        };
        let (world, by, rate) = (&way.line.world, &way.line.name, way.line.world.swarm.rates.listing);
        if world.strikes(Fault::ListingFailed, rate, by) {
            self.over = true;
            return Some(Err(way.error("list", &self.space, way.some_kind())));
        }
        if world.strikes(Fault::ListingShort, rate, by) {
            self.over = true;
            return (!page.end && world.dice.below(2) == 0).then_some(Ok(page));
        }
        if !page.entries.is_empty() && world.strikes(Fault::ListingRepeated, rate, by) {
            let twice = ListPage { end: false, ..page.clone() };
            self.again = Some(page);
            return Some(Ok(twice));
        }
        way.line.leave().await;
        Some(Ok(page))
    }
}
