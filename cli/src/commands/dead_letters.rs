//! `mill deadletters`: review tasks that were given up.

use std::collections::BTreeSet;

use anyhow::Result;
use mill_model::ids::shown;
use mill_records::dead_letters::{DeadLetter, DeadLetters, Deciding, LetterFilter, LetterId, LetterState};
use serde_json::{Value, json};

use crate::args::DeadLetters as Args;
use crate::config::Config;
use crate::exit::Exit;
use crate::names::Names;
use crate::output::{line, table};
use crate::works::Works;

/// Letters read at once.
const PAGE: usize = 100;

/// Runs it.
pub(super) async fn run(args: Args, config: &Config) -> Result<Exit> {
    let works = Works::configured(config).await?;
    works.drain_dead_letters().await?;
    let book = works.dead_letters();
    match args {
        Args::List { all, json } => list(&book, all, json).await,
        Args::Show { id } => {
            let letter = book.show(&LetterId::new(id)).await?;
            line(serde_json::to_string_pretty(&whole(&letter))?);
            Ok(Exit::Done)
        }
        Args::Retry { ids, .. } => {
            for id in chosen(&book, ids).await? {
                let queue = book.retry(&id, None, &works.engine.queues, deciding(&works)).await?;
                line(format!("{} was sent to {queue} again", id.as_str()));
            }
            Ok(Exit::Done)
        }
        Args::Discard { ids, reason, .. } => {
            for id in chosen(&book, ids).await? {
                book.discard(&id, &reason, deciding(&works)).await?;
                line(format!("{} is discarded", id.as_str()));
            }
            Ok(Exit::Done)
        }
    }
}

fn deciding(works: &Works) -> Deciding {
    let by = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "someone".into());
    Deciding { by, at: works.engine.clock.now() }
}

/// The letters named, or all open ones where none is.
async fn chosen(book: &DeadLetters, ids: Vec<String>) -> Result<Vec<LetterId>> {
    if !ids.is_empty() {
        return Ok(ids.into_iter().map(LetterId::new).collect());
    }
    Ok(letters(book, false).await?.into_iter().map(|letter| letter.id).collect())
}

async fn letters(book: &DeadLetters, all: bool) -> Result<Vec<DeadLetter>> {
    let filter = LetterFilter { state: (!all).then_some(LetterState::Open.as_str()), ..LetterFilter::default() };
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

async fn list(book: &DeadLetters, all: bool, as_json: bool) -> Result<Exit> {
    let letters = letters(book, all).await?;
    if as_json {
        for letter in &letters {
            line(whole(letter).to_string());
        }
    } else if letters.is_empty() {
        line("none");
    } else {
        let rows = letters.iter().map(|letter| {
            [
                letter.id.as_str().to_owned(),
                letter.at.to_string(),
                letter.state.as_str().to_owned(),
                letter.subject.clone().unwrap_or_else(|| "?".into()),
                shown(&letter.reason),
            ]
        });
        line(table(["id", "given up", "state", "about", "reason"], rows));
        line(
            "\n`mill deadletters show ID` gives the whole history; `retry ID` sends it again; `discard ID --reason …`.",
        );
    }
    Ok(Exit::Done)
}

fn whole(letter: &DeadLetter) -> Value {
    let state = match &letter.state {
        LetterState::Open => json!({ "is": "open" }),
        LetterState::Retried { by, at } => json!({ "is": "retried", "by": by, "at": at.to_string() }),
        LetterState::Discarded { reason, by, at } => {
            json!({ "is": "discarded", "reason": reason, "by": by, "at": at.to_string() })
        }
    };
    json!({
        "id": letter.id.as_str(),
        "at": letter.at.to_string(),
        "reason": letter.reason,
        "account": letter.account.as_ref().map(mill_model::AccountId::as_str),
        "kind": letter.kind.as_ref().map(mill_model::TaskKind::as_str),
        "subject": letter.subject,
        "origin": letter.origin.map(mill_model::QueueName::as_str),
        "failures": letter.failures,
        "history": letter.history.iter().map(|failure| json!({
            "at": failure.at.to_string(), "workman": failure.workman, "reason": failure.reason })).collect::<Vec<_>>(),
        "state": state,
        "body": String::from_utf8_lossy(&letter.body),
    })
}

/// The open letters, each a sentence, for a run's summary.
pub(crate) async fn open_remarks(works: &Works, names: &Names) -> Result<Vec<String>> {
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
pub(super) async fn open(works: &Works) -> Result<usize> {
    Ok(letters(&works.dead_letters(), false).await?.len())
}

#[cfg(test)]
mod tests {
    use mill_model::Timestamp;

    use super::*;

    #[test]
    fn what_was_given_up_twice_for_one_reason_is_named_once() {
        let letter = |id: &str, subject: Option<&str>, reason: &str| DeadLetter {
            id: LetterId::new(id),
            at: Timestamp::default(),
            reason: reason.into(),
            account: None,
            kind: None,
            subject: subject.map(str::to_owned),
            origin: None,
            failures: 5,
            history: Vec::new(),
            body: Vec::new().into(),
            state: LetterState::Open,
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
