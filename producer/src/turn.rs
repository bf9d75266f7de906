//! One turn of a morsel: its deletes first, all of them, if it is fresh; then one nibble of copies.

use std::sync::atomic::Ordering::Relaxed;

use mill_model::ContentId;
use mill_policy::{Compare, StorePolicy};
use mill_ports::{CrashPoint, Planted, crash_point, planted};
use mill_records::producer_state::{Deletes, Kept, Morsel};
use mill_records::seals::Pair;
use tracing::warn;

use crate::copies::Nibble;
use crate::deletes::{Confirmed, Survey, are_too_many};
use crate::ends::Ends;
use crate::merge::Merge;
use crate::report::{HeldDeletes, ProducerError, Refused, SessionReport, WhyHeld};
use crate::sending::About;
use crate::session::{Room, Session, StepError};

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is more of it: its next turn comes.
    Again,
    /// Nothing of it is left in this run.
    Done,
    /// It failed and stays as it is until the next session.
    PassedOver,
    /// The queue is full.
    Full,
    /// Told to stop.
    Stopped,
}

/// A morsel whose listings are kept open between its turns.
pub(crate) struct Opened {
    ends: Ends,
    merge: Merge,
}

/// How a deletes step ended.
enum DeletesStep {
    /// Settled; with what the survey found to copy, if that is all there is.
    Settled(Option<Box<Nibble>>),
    More,
    Stopped,
}

impl Session<'_> {
    /// Gives a morsel its turn, for whose first step there is room.
    pub(crate) async fn turn(&mut self, morsel: &mut Kept<Morsel>, policy: StorePolicy) -> Result<Turn, StepError> {
        let pair = morsel.row.pair.clone();
        let (ends, merge) = match self.opened.remove(&pair) {
            Some(Opened { ends, merge }) if ends.policy == policy => (ends, Some(merge)),
            _ => {
                let look = Ends::look(&pair, policy, &*self.deps.stores, &self.deps.owners);
                let Some(ends) = self.unless_stopped(look).await else { return Ok(Turn::Stopped) };
                (ends?, None)
            }
        };
        if !ends.source_here {
            return self.absent(morsel, &ends).await;
        }
        self.found_again(&pair).await?;
        let mut surveyed = None;
        while self.has_deletes(&morsel.row, &ends) {
            match self.deletes(morsel, &ends).await? {
                DeletesStep::Settled(nibble) => surveyed = nibble,
                DeletesStep::More => {}
                DeletesStep::Stopped => return Ok(Turn::Stopped),
            }
            match self.room().await? {
                Room::Yes => {}
                Room::Full => return Ok(Turn::Full),
                Room::Stopped => return Ok(Turn::Stopped),
            }
        }
        let (nibble, merge) = if let Some(nibble) = surveyed {
            (*nibble, None)
        } else {
            let seals = &self.deps.seals;
            let mut merge = merge.unwrap_or_else(|| ends.to_copy(seals, morsel.row.marker.as_ref()));
            let gather = Nibble::gather(&mut merge, self.settings.nibble.get());
            let Some(nibble) = self.unless_stopped(gather).await else { return Ok(Turn::Stopped) };
            (nibble, Some(merge))
        };
        self.copies(morsel, &ends, nibble, merge).await
    }

    /// Whether a deletes step is due. Held deletes are looked at again when a person has confirmed so many.
    fn has_deletes(&self, morsel: &Morsel, ends: &Ends) -> bool {
        if !ends.policy.remove_vanished || !ends.destination_here {
            return false;
        }
        match morsel.deletes {
            Deletes::Pending | Deletes::Confirmed { .. } => true,
            Deletes::Held { count, .. } => self.settings.confirm_deletes.is_some_and(|confirmed| confirmed >= count),
            Deletes::Done => false,
        }
    }

    async fn deletes(&mut self, morsel: &mut Kept<Morsel>, ends: &Ends) -> Result<DeletesStep, StepError> {
        if let Deletes::Confirmed { left, marker } = morsel.row.deletes.clone() {
            return self.confirmed_deletes(morsel, ends, left, marker).await;
        }
        // What a marker has passed was compared in an earlier turn.
        let seals =
            (ends.policy.compare == Compare::Differences && morsel.row.marker.is_none()).then_some(&self.deps.seals);
        let copies_max = seals.map(|_| self.settings.nibble.get());
        let mut merge = ends.both(seals, None);
        let survey = Survey::of(&mut merge, copies_max);
        let Some(survey) = self.unless_stopped(survey).await else { return Ok(DeletesStep::Stopped) };
        let survey = survey?;
        let (count, items_total) = (survey.count, survey.items_total);
        let mut step = DeletesStep::Settled(survey.copies.map(Box::new));
        if !are_too_many(count, items_total) {
            crash_point(CrashPoint::ProducerBeforeDeletes);
            self.queue(&ends.pair, About::Step, survey.vanished.iter().map(Some)).await?;
            crash_point(CrashPoint::ProducerDeletesSent);
            morsel.row.deletes = Deletes::Done;
        } else if let Some(confirmed) = self.settings.confirm_deletes.filter(|confirmed| *confirmed >= count) {
            morsel.row.deletes = Deletes::Confirmed { left: confirmed, marker: None };
            step = DeletesStep::More;
        } else {
            self.hold(&ends.pair, count, items_total, WhyHeld::TooMany);
            morsel.row.deletes = Deletes::Held { count, items_total };
        }
        self.state.save(morsel).await?;
        crash_point(CrashPoint::ProducerDeletesSaved);
        Ok(step)
    }

    /// Queues a nibble of the deletes that a person confirmed, and never more than so many.
    async fn confirmed_deletes(
        &mut self,
        morsel: &mut Kept<Morsel>,
        ends: &Ends,
        left: u64,
        marker: Option<ContentId>,
    ) -> Result<DeletesStep, StepError> {
        let mut merge = ends.both(None, marker.as_ref());
        let gather = Confirmed::gather(&mut merge, self.settings.nibble.get());
        let Some(gathered) = self.unless_stopped(gather).await else { return Ok(DeletesStep::Stopped) };
        let Confirmed { items, end } = gathered?;
        let count = items.len() as u64;
        if count > left {
            // More vanished meanwhile than was confirmed. The next run counts and asks again.
            let mut merge = ends.both(None, marker.as_ref());
            let survey = Survey::of(&mut merge, None);
            let Some(survey) = self.unless_stopped(survey).await else { return Ok(DeletesStep::Stopped) };
            let Survey { count, items_total, .. } = survey?;
            self.hold(&ends.pair, count, items_total, WhyHeld::TooMany);
            morsel.row.deletes = Deletes::Done;
            self.state.save(morsel).await?;
            return Ok(DeletesStep::Settled(None));
        }
        self.queue(&ends.pair, About::Step, items.iter().map(Some)).await?;
        crash_point(CrashPoint::ProducerConfirmedSent);
        let left = left - count;
        morsel.row.deletes = match items.into_iter().next_back() {
            Some(last) if !end => Deletes::Confirmed { left, marker: Some(last) },
            _ => Deletes::Done,
        };
        self.state.save(morsel).await?;
        Ok(if end { DeletesStep::Settled(None) } else { DeletesStep::More })
    }

    /// Queues a nibble of copies, then moves the marker behind it.
    async fn copies(
        &mut self,
        morsel: &mut Kept<Morsel>,
        ends: &Ends,
        nibble: Nibble,
        merge: Option<Merge>,
    ) -> Result<Turn, StepError> {
        let pair = &ends.pair;
        if morsel.row.marker.is_none() && !ends.destination_here {
            self.sent(self.sending.send(pair, About::Step, std::iter::once(None)).await?);
            crash_point(CrashPoint::ProducerSpaceSent);
        }
        if planted(Planted::MarkerBeforeSend) && !nibble.end {
            morsel.row.marker.clone_from(&nibble.last);
            self.state.save(morsel).await?;
        }
        crash_point(CrashPoint::ProducerBeforeNibble);
        self.queue(pair, About::Step, nibble.items.iter().map(|(id, _)| Some(id))).await?;
        crash_point(CrashPoint::ProducerNibbleSent);
        let statistics = &self.deps.statistics;
        statistics.bytes_queued.fetch_add(nibble.bytes(), Relaxed);
        statistics.examined.fetch_add(nibble.unchanged, Relaxed);
        statistics.unchanged.fetch_add(nibble.unchanged, Relaxed);
        for (shown, reason) in nibble.refused {
            self.refuse(pair, shown, reason);
        }
        if let Some(last) = nibble.last {
            morsel.row.marker = Some(last);
        }
        morsel.row.nibbles += 1;
        if nibble.end {
            return Ok(Turn::Done);
        }
        self.state.save(morsel).await?;
        crash_point(CrashPoint::ProducerMarkerSaved);
        if let Some(error) = nibble.broken {
            return Err(error.into());
        }
        if let Some(merge) = merge.filter(|_| self.opened.len() < self.settings.listings_open_max) {
            self.opened.insert(pair.clone(), Opened { ends: ends.clone(), merge });
        }
        Ok(Turn::Again)
    }

    /// Queues a task for each item and counts them.
    pub(crate) async fn queue<'i>(
        &mut self,
        pair: &Pair,
        about: About,
        items: impl ExactSizeIterator<Item = Option<&'i ContentId>>,
    ) -> Result<(), ProducerError> {
        let sent = self.sending.send(pair, about, items).await?;
        self.sent(sent);
        self.deps.statistics.queued.fetch_add(sent, Relaxed);
        Ok(())
    }

    pub(crate) fn sent(&mut self, tasks: u64) {
        self.report.queued += tasks;
        self.deps.statistics.sent.fetch_add(tasks, Relaxed);
    }

    /// Notes deletes that wait for a person.
    pub(crate) fn hold(&mut self, pair: &Pair, count: u64, items_total: u64, why: WhyHeld) {
        let Pair { account, source, destination, space } = pair;
        warn!(%account, %space, %source, %destination, count, items_total, ?why,
            "deletes are held until `--confirm-deletes` lets so many through");
        self.deps.statistics.held.fetch_add(count, Relaxed);
        self.report.held.push(HeldDeletes::of(pair, count, items_total, why));
    }

    fn refuse(&mut self, pair: &Pair, shown: String, reason: mill_ports::Refusal) {
        let Pair { account, source, space, .. } = pair.clone();
        warn!(%account, %space, %source, item = shown, %reason, "an entry of the source cannot be copied");
        self.deps.statistics.refused.fetch_add(1, Relaxed);
        self.report.refused += 1;
        if self.report.refused_first.len() < SessionReport::REFUSED_KEPT_MAX {
            self.report.refused_first.push(Refused { account, source, space, shown, reason });
        }
    }
}
