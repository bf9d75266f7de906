//! `mill deadletters`: review tasks that were given up.

use anyhow::Result;
use mill_app::config::Config;
use mill_app::dead_letters::letters;
use mill_app::exit::Exit;
use mill_app::installation::Works;
use mill_model::ids::escape_for_display;
use mill_records::dead_letters::{DeadLetter, DeadLetterId, DeadLetterState, DeadLetters, OperatorDecision};
use serde_json::{Value, json};

use crate::args::DeadLetters as Args;
use crate::output::{line, table};

/// Runs it.
pub(super) async fn run(args: Args, config: &Config) -> Result<Exit> {
    let works = Works::configured(config).await?;
    works.drain_dead_letters().await?;
    let book = works.dead_letters();
    match args {
        Args::List { all, json } => list(&book, all, json).await,
        Args::Show { id } => {
            let letter = book.show(&DeadLetterId::new(id)).await?;
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

fn deciding(works: &Works) -> OperatorDecision {
    let by = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "someone".into());
    OperatorDecision { by, at: works.engine.clock.now() }
}

/// The letters named, or all open ones where none is.
async fn chosen(book: &DeadLetters, ids: Vec<String>) -> Result<Vec<DeadLetterId>> {
    if !ids.is_empty() {
        return Ok(ids.into_iter().map(DeadLetterId::new).collect());
    }
    Ok(letters(book, false).await?.into_iter().map(|letter| letter.id).collect())
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
                escape_for_display(&letter.reason),
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
        DeadLetterState::Open => json!({ "is": "open" }),
        DeadLetterState::Retried { by, at } => json!({ "is": "retried", "by": by, "at": at.to_string() }),
        DeadLetterState::Discarded { reason, by, at } => {
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
