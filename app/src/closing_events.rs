//! Events of what is not an entry of a listing: held deletes, entries beside the spaces, spaces that were skipped.

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _};
use mill_model::ids::unescape_displayed;
use mill_model::{EntryFate, EventSubject, ItemEvent, SubjectSort};
use mill_ports::ItemEvents;
use mill_producer::{AbsentSpace, LeftOutEntry, SessionReport, SpaceFailure};

use crate::installation::Installation;

/// How many events are made at once.
const AT_ONCE: usize = 1_000;

/// Has kept what a run found beside the entries of its spaces. Names each held item; the rest stands in the summary.
///
/// # Errors
/// The table of delete lists cannot be read.
pub(crate) async fn note_findings(installation: &Installation, produced: &SessionReport) -> Result<()> {
    let Some(events) = installation.statistics.events() else { return Ok(()) };
    note_held(installation, produced, &**events).await?;
    let left_out = &produced.findings.left_out;
    let mut found: Vec<ItemEvent> = left_out.first.iter().map(of_left_out).collect();
    let more = left_out.count.saturating_sub(left_out.first.len() as u64);
    if more > 0 {
        let reason = format!("{more} more entries lie in no space, or a rule leaves them out");
        found.push(ItemEvent::new(EventSubject::other(""), EntryFate::LeftOut).because(reason));
    }
    found.extend(produced.findings.sources_absent.iter().map(of_absent));
    found.extend(produced.spaces_failed.iter().map(of_skipped));
    for (account, why) in &produced.accounts_failed {
        let subject = EventSubject { account: Some(account.clone()), ..EventSubject::other("") };
        found.push(ItemEvent::new(subject, EntryFate::Skipped).because(why));
    }
    if !found.is_empty() {
        events.keep(&found).await;
    }
    Ok(())
}

async fn note_held(installation: &Installation, produced: &SessionReport, events: &dyn ItemEvents) -> Result<()> {
    if produced.findings.held.is_empty() {
        return Ok(());
    }
    let lists = installation.delete_lists();
    for held in lists.held().await? {
        let token = held.token().to_string();
        if !produced.findings.held.iter().any(|reported| reported.token == token) {
            continue;
        }
        let why = held.head.record.held().map_or_else(String::new, ToString::to_string);
        let mut ids = lists.ids(&held.pair, held.list).try_chunks(AT_ONCE);
        while let Some(some) = ids.next().await {
            let some = some.map_err(|broken| broken.1)?;
            let of = |id: &str| EventSubject::of(&held.pair, id, SubjectSort::Destination);
            let made = some.iter().map(|listed| ItemEvent::new(of(listed.id.as_str()), EntryFate::Held).because(&*why));
            let made: Vec<ItemEvent> = made.collect();
            events.keep(&made).await;
            events.tell(&made);
        }
    }
    Ok(())
}

fn of_left_out(entry: &LeftOutEntry) -> ItemEvent {
    let LeftOutEntry { account, store, shown, rule, .. } = entry;
    let other = EventSubject::other(unescape_displayed(shown));
    let subject = EventSubject { account: Some(account.clone()), source: store.clone(), ..other };
    ItemEvent::new(subject, EntryFate::LeftOut).because(rule)
}

fn of_absent(absent: &AbsentSpace) -> ItemEvent {
    let AbsentSpace { account, space, source, destination, .. } = absent.clone();
    let subject = EventSubject {
        account: Some(account),
        source: Some(source),
        destination: Some(destination),
        space: Some(space),
        ..EventSubject::other("")
    };
    ItemEvent::new(subject, EntryFate::Skipped).because("the space is not at its source")
}

fn of_skipped(failed: &SpaceFailure) -> ItemEvent {
    let SpaceFailure { account, space, source, destination, reason, .. } = failed.clone();
    let subject =
        EventSubject { account: Some(account), source: Some(source), destination, space, ..EventSubject::other("") };
    ItemEvent::new(subject, EntryFate::Skipped).because(reason)
}
