//! Tasks that were given up.

use std::collections::BTreeSet;

use anyhow::Result;
use mill_records::dead_letters::{DeadLetter, DeadLetterFilter, DeadLetterState, DeadLetters};

use crate::installation::Works;
use crate::names::Names;

/// Letters read at once.
const PAGE: usize = 100;

/// The letters that wait for a person; with `all`, also the others.
pub async fn letters(book: &DeadLetters, all: bool) -> Result<Vec<DeadLetter>> {
    let filter =
        DeadLetterFilter { state: (!all).then_some(DeadLetterState::Open.as_str()), ..DeadLetterFilter::default() };
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = book.list(&filter, after.as_ref(), PAGE).await?;
        found.extend(page.letters);
        after = page.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

/// The open letters, each a sentence, for a run's summary.
pub async fn open_remarks(works: &Works, names: &Names) -> Result<Vec<String>> {
    Ok(remarks(&letters(&works.dead_letters(), false).await?, names))
}

/// Of letters on one thing, given up again for the same reason, only the last is named.
fn remarks(letters: &[DeadLetter], names: &Names) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut last: Vec<&DeadLetter> = letters.iter().rev().collect();
    last.retain(|it| it.subject.is_none() || seen.insert((it.subject.as_deref(), it.reason.as_str())));
    last.iter().rev().map(|it| names.given_up(it.id.as_str(), it.subject.as_deref(), &it.reason)).collect()
}

/// How many letters wait for a person.
pub async fn open(works: &Works) -> Result<usize> {
    Ok(letters(&works.dead_letters(), false).await?.len())
}

#[cfg(test)]
mod tests {
    use mill_model::Timestamp;
    use mill_records::dead_letters::DeadLetterId;

    use super::*;

    #[test]
    fn what_was_given_up_twice_for_one_reason_is_named_once() {
        let letter = |id: &str, subject: Option<&str>, reason: &str| DeadLetter {
            id: DeadLetterId::new(id),
            at: Timestamp::default(),
            reason: reason.into(),
            account: None,
            kind: None,
            subject: subject.map(str::to_owned),
            origin: None,
            failures: 5,
            history: Vec::new(),
            body: Vec::new().into(),
            state: DeadLetterState::Open,
        };
        let letters = [
            letter("1", Some("a/s/x"), "damaged"),
            letter("2", Some("a/s/y"), "damaged"),
            letter("3", Some("a/s/x"), "damaged"),
            letter("4", Some("a/s/x"), "too large"),
            letter("5", None, "unreadable"),
            letter("6", None, "unreadable"),
        ];
        let said = remarks(&letters, &Names::Policies);
        let ids: Vec<&str> = said.iter().filter_map(|it| it.rsplit_once(' ')?.1.strip_suffix(')')).collect();
        assert_eq!(ids, ["2", "3", "4", "5", "6"], "{said:?}");
    }
}
