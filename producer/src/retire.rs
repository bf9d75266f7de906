//! A source space that is not there: nothing is known to be gone until time and a person say so.

use std::time::Duration;

use mill_model::{ContentId, Timestamp};
use mill_ports::{Listed, Planted, planted};
use mill_records::producer_state::{Deletes, Kept, Missing, Morsel};
use mill_records::seals::Pair;
use tracing::{info, warn};

use crate::ends::{Ends, SpaceError};
use crate::report::WhyHeld;
use crate::sending::About;
use crate::session::{Session, StepError, missing_key};
use crate::settings::AbsentSource;
use crate::turn::Turn;

/// A space must be missing in two passes so far apart before it may be taken as gone.
const MISSING_MIN: Duration = Duration::from_hours(24);

/// Items of a destination behind a marker.
struct Stretch {
    items: Vec<ContentId>,
    end: bool,
}

impl Session<'_> {
    /// The turn of a morsel whose source space is not there, though its store answers.
    pub(crate) async fn absent(&mut self, morsel: &mut Kept<Morsel>, ends: &Ends) -> Result<Turn, StepError> {
        let pair = &ends.pair;
        if self.settings.absent_source == AbsentSource::Unknown {
            return Err(SpaceError::SourceAbsent.into());
        }
        if !ends.destination_here || !ends.policy.remove_vanished || !ends.owned {
            // Nothing of it was ever copied, or nothing is to be removed: there is nothing to decide.
            return Ok(Turn::Done);
        }
        let since = self.missing_since(pair).await?;
        let proven = self.deps.clock.now().since(since) >= MISSING_MIN;
        let proven = proven || planted(Planted::MissingSpaceRetiredAtOnce);
        if let (Deletes::Confirmed { left, marker }, true) = (morsel.row.deletes.clone(), proven) {
            return self.retire(morsel, ends, left, marker).await;
        }
        let Some(count) = self.unless_stopped(count(ends)).await else { return Ok(Turn::Stopped) };
        let count = count?;
        let at_once = planted(Planted::MissingSpaceRetiredAtOnce).then_some(count);
        match at_once.or(self.settings.confirm_deletes) {
            Some(confirmed) if proven && confirmed >= count => {
                warn!(account = %pair.account, space = %pair.space, source = %pair.source, %since, count,
                    "the source space is gone, and a person confirmed that its copy goes too");
                morsel.row.deletes = Deletes::Confirmed { left: confirmed, marker: None };
                self.state.save(morsel).await?;
                Ok(Turn::Again)
            }
            _ => {
                self.hold(pair, count, count, WhyHeld::SpaceMissing { since, proven });
                Ok(Turn::Done)
            }
        }
    }

    /// Queues a nibble of a gone space's items, at the end the space itself.
    async fn retire(
        &mut self,
        morsel: &mut Kept<Morsel>,
        ends: &Ends,
        left: u64,
        marker: Option<ContentId>,
    ) -> Result<Turn, StepError> {
        let gather = gather(ends, marker.as_ref(), self.settings.nibble.get());
        let Some(stretch) = self.unless_stopped(gather).await else { return Ok(Turn::Stopped) };
        let Stretch { items, end } = stretch?;
        if ends.source_is_here().await? {
            morsel.row.deletes = Deletes::Pending;
            self.state.save(morsel).await?;
            return Ok(Turn::Again);
        }
        let count = items.len() as u64;
        if count > left {
            let since = self.missing_since(&ends.pair).await?;
            self.hold(&ends.pair, count, count, WhyHeld::SpaceMissing { since, proven: true });
            return Ok(Turn::Done);
        }
        self.queue(&ends.pair, About::Retirement, items.iter().map(Some)).await?;
        if end {
            // Its processor removes the space once it is empty; until then it is found again in the next run.
            self.sent(self.sending.send(&ends.pair, About::Retirement, std::iter::once(None)).await?);
            return Ok(Turn::Done);
        }
        morsel.row.deletes = Deletes::Confirmed { left: left - count, marker: items.into_iter().next_back() };
        morsel.row.nibbles += 1;
        self.state.save(morsel).await?;
        Ok(Turn::Again)
    }

    /// Since when the source space is missing, this run included.
    async fn missing_since(&mut self, pair: &Pair) -> Result<Timestamp, StepError> {
        let Pair { account, source, space, .. } = pair.clone();
        let (first, run) = (self.deps.clock.now(), self.run.row.number);
        let row = Missing { account, store: source, space, first, run };
        let kept = self.missing.entry(missing_key(&row)).or_insert_with(|| {
            info!(account = %row.account, source = %row.store, space = %row.space, "the source space is missing");
            Kept::fresh(Missing { run: 0, ..row })
        });
        if kept.row.run != run {
            kept.row.run = run;
            self.state.save(kept).await?;
        }
        Ok(kept.row.first)
    }

    /// Forgets that a source space was missing: it is there.
    pub(crate) async fn found_again(&mut self, pair: &Pair) -> Result<(), StepError> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let key = (pair.account.clone(), pair.source.clone(), pair.space.clone());
        if let Some(kept) = self.missing.remove(&key) {
            self.state.remove(&kept).await?;
        }
        Ok(())
    }
}

async fn count(ends: &Ends) -> Result<u64, SpaceError> {
    let mut listing = ends.list_destination(None);
    let mut count = 0;
    loop {
        listing.fill().await?;
        match listing.take() {
            Some(Listed::Item(..)) => count += 1,
            Some(Listed::Refused { .. } | Listed::Hidden { .. }) => {}
            None => return Ok(count),
        }
    }
}

async fn gather(ends: &Ends, after: Option<&ContentId>, most: usize) -> Result<Stretch, SpaceError> {
    let mut listing = ends.list_destination(after);
    let mut items = Vec::new();
    while items.len() < most {
        listing.fill().await?;
        match listing.take() {
            Some(Listed::Item(id, _)) => items.push(id),
            Some(Listed::Refused { .. } | Listed::Hidden { .. }) => {}
            None => return Ok(Stretch { items, end: true }),
        }
    }
    Ok(Stretch { items, end: false })
}
