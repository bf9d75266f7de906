//! A line for each entry that a run changed or could not change (`-v`).

use indicatif::MultiProgress;
use mill_app::run_events::EventTeller;
use mill_app::subject_names::SubjectNames;
use mill_model::{EntryFate, ItemEvent};

use crate::output::{bytes, line};

/// Writes a line for each event on standard output, around the progress bar if there is one. `planned`: the events say what
/// a run would do.
pub(crate) fn teller(bars: &MultiProgress, names: &SubjectNames, planned: bool) -> EventTeller {
    let (bars, names) = (bars.clone(), names.clone());
    let word = if planned { planned_word } else { word };
    Box::new(move |event| bars.suspend(|| line(with_word(word(event.fate), event, &names))))
}

/// The line of an event.
pub(crate) fn text(event: &ItemEvent, names: &SubjectNames) -> String {
    with_word(word(event.fate), event, names)
}

fn with_word(word: &str, event: &ItemEvent, names: &SubjectNames) -> String {
    let name = names.of_event(&event.subject);
    let size = match (event.bytes, event.part) {
        (Some(count), _) => format!("  {}", bytes(count)),
        (None, Some(part)) => format!("  {}", part.as_str()),
        (None, None) => String::new(),
    };
    let reason = event.reason.as_ref().map_or_else(String::new, |reason| {
        let reason = names.text(reason);
        // The reason of a failure begins with the name that the line has already.
        let reason = reason.strip_prefix(&format!("`{name}` is not in sync yet: ")).unwrap_or(&reason);
        format!(": {}", reason.escape_debug())
    });
    format!("{word:<9}  {name}{size}{reason}")
}

fn word(fate: EntryFate) -> &'static str {
    match fate {
        EntryFate::DeadLettered => "failed",
        EntryFate::LeftOut => "left out",
        EntryFate::Hidden => "not seen",
        other => other.as_str(),
    }
}

/// What a run would do.
fn planned_word(fate: EntryFate) -> &'static str {
    match fate {
        EntryFate::Copied => "copy",
        EntryFate::Updated => "update",
        EntryFate::Deleted => "delete",
        EntryFate::Held => "hold",
        EntryFate::Refused => "refuse",
        EntryFate::Unread => "compare",
        EntryFate::DeadLettered => "fail",
        other => word(other),
    }
}

#[cfg(test)]
mod tests {
    use mill_model::{AccountId, EventSubject, SpaceId, SpacePair, StoreId, SubjectSort, UpdatedPart};

    use super::*;

    #[test]
    fn a_line_says_what_became_of_which_item_in_the_words_of_the_person() {
        let pair = |account: &str, source: &str, destination: &str, space: &str| SpacePair {
            account: AccountId::new(account).unwrap(),
            source: StoreId::new(source).unwrap(),
            destination: StoreId::new(destination).unwrap(),
            space: SpaceId::new(space).unwrap(),
        };
        let mirror = pair("mirror", "source", "destination", "content");
        let names = SubjectNames::Mirror { source: "~/a".into(), destination: "/b".into(), words: String::new() };
        let of = |name: &str| EventSubject::of(&mirror, name, SubjectSort::Source);
        let copied = ItemEvent { bytes: Some(12_595), ..ItemEvent::new(of("deep/er/x.csv"), EntryFate::Copied) };
        let updated = ItemEvent { part: Some(UpdatedPart::Properties), ..ItemEvent::new(of("x"), EntryFate::Updated) };
        let why =
            "`mirror/content/a\nb` is not in sync yet: open of `content/a\nb` in store `mirror:source` failed: no";
        for (event, said) in [
            (copied, "copied     deep/er/x.csv  12.30 KiB"),
            (updated, "updated    x  properties"),
            (ItemEvent::new(of("l"), EntryFate::Refused).because("a symbolic link"), "refused    l: a symbolic link"),
            (ItemEvent::new(of("x y"), EntryFate::DeadLettered).because("no"), "failed     x y: no"),
        ] {
            assert_eq!(text(&event, &names), said);
        }
        assert!(!text(&ItemEvent::new(of("a\nb"), EntryFate::DeadLettered).because(why), &names).contains('\n'));
        let event = ItemEvent::new(
            EventSubject::of(&pair("lib", "1", "2", "maps"), "m", SubjectSort::Destination),
            EntryFate::Deleted,
        );
        assert_eq!(text(&event, &SubjectNames::Policies), "deleted    lib/maps/m (store 1 → 2)");
    }
}
