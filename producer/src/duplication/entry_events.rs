//! Events of the entries that a survey lists, for whoever wants to know of each.

use mill_model::ids::unescape_displayed;
use mill_model::{ContentId, EntryFate, EventSubject, ItemEvent, SpacePair, SubjectSort};

use super::plan::DuplicationSession;
use super::report::{EntryClass, UncopiedEntry};

/// The most events that are made at once, so that the memory does not depend on the length of a listing.
const AT_ONCE: usize = 1_000;

impl DuplicationSession<'_> {
    /// Whether somebody wants to know of each entry, of those that are unchanged too.
    pub(super) fn names_all(&self) -> bool {
        self.deps.statistics.events().is_some_and(|events| events.wants_all())
    }

    /// Has it kept that items are about to be queued.
    pub(super) async fn keep_queued(&self, pair: &SpacePair, items: &[(ContentId, u64)]) {
        if self.names_all() {
            self.keep(pair, items.iter().map(|(id, _)| id), EntryFate::Queued).await;
        }
    }

    /// Has kept what a survey found of entries that are not queued.
    pub(super) async fn keep_surveyed(&self, pair: &SpacePair, unchanged: Vec<ContentId>, named: &[UncopiedEntry]) {
        let Some(events) = self.deps.statistics.events().filter(|events| events.wants_all()) else { return };
        self.keep(pair, unchanged.iter(), EntryFate::Unchanged).await;
        for named in named.chunks(AT_ONCE) {
            events.keep(&named.iter().map(|entry| uncopied(pair, entry)).collect::<Vec<_>>()).await;
        }
    }

    async fn keep(&self, pair: &SpacePair, ids: impl ExactSizeIterator<Item = &ContentId> + Send, fate: EntryFate) {
        let Some(events) = self.deps.statistics.events() else { return };
        let mut ids = ids.peekable();
        while ids.peek().is_some() {
            let some = ids.by_ref().take(AT_ONCE);
            let made = some.map(|id| ItemEvent::new(EventSubject::of(pair, id.as_str(), SubjectSort::Source), fate));
            events.keep(&made.collect::<Vec<_>>()).await;
        }
    }

    /// Tells of entries that are not copied, once they are counted.
    pub(super) fn tell_uncopied(&self, pair: &SpacePair, named: &[UncopiedEntry]) {
        let Some(events) = self.deps.statistics.events() else { return };
        for named in named.chunks(AT_ONCE) {
            events.tell(&named.iter().map(|entry| uncopied(pair, entry)).collect::<Vec<_>>());
        }
    }
}

fn uncopied(pair: &SpacePair, entry: &UncopiedEntry) -> ItemEvent {
    let fate = match entry.class {
        EntryClass::Refused(_) => EntryFate::Refused,
        EntryClass::Hidden => EntryFate::Hidden,
        EntryClass::Ignored(_) => EntryFate::Ignored,
    };
    let subject = EventSubject::of(pair, unescape_displayed(&entry.shown), SubjectSort::Source);
    ItemEvent::new(subject, fate).because(entry.class.to_string())
}
