//! `mill deadletters`: review tasks that were dead-lettered.

use anyhow::Result;
use mill_app::config::Config;
use mill_app::counted::counted;
use mill_app::dead_letters::{DeadLetterEntry, DeadLetterReview, DecisionEntry};
use mill_app::installation::Installation;
use mill_app::mirror;
use mill_app::result_code::ResultCode;
use mill_model::ids::shorten_for_display;

use crate::args::{DeadLettersArgs, DeadLettersCommand as Args, names_of};
use crate::output::{line, table};

/// Runs it.
pub(super) async fn run(args: DeadLettersArgs, config: impl AsyncFn() -> Result<Config>) -> Result<ResultCode> {
    let mirror = args.ends.mirror(&args.mirror);
    let installation = match &mirror {
        Some(mirror) => mirror::queues_of(mirror).await?,
        None => Installation::configured(&config().await?).await?,
    };
    let review = DeadLetterReview::begin(&installation, names_of(mirror.as_ref())).await?;
    match args.command {
        Args::List { all, json } => list(&review, all, json).await?,
        // Through a `Value`, which has its members in alphabetical order.
        Args::Show { id } => line(serde_json::to_string_pretty(&serde_json::to_value(review.show(&id).await?)?)?),
        Args::Retry { ids, .. } => {
            for id in chosen(&review, ids).await? {
                let queue = review.retry(&id, &person()).await?;
                match &mirror {
                    // It asks for all that is not in sync, this item too.
                    Some(_) => line(format!("{id} is tried again by the next `mill mirror` of these two")),
                    None => line(format!("{id} was sent to {queue} again")),
                }
            }
        }
        Args::Discard { ids, reason, .. } => {
            for id in chosen(&review, ids).await? {
                review.discard(&id, &reason, &person()).await?;
                line(format!("{id} is discarded"));
            }
        }
    }
    Ok(ResultCode::Done)
}

/// The person who decides: the user that runs this.
fn person() -> String {
    std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "someone".into())
}

/// The given dead letters, or all open ones if none is given.
async fn chosen(review: &DeadLetterReview<'_>, ids: Vec<String>) -> Result<Vec<String>> {
    if !ids.is_empty() {
        return Ok(ids);
    }
    Ok(letters(review, false).await?.into_iter().map(|letter| letter.id).collect())
}

async fn letters(review: &DeadLetterReview<'_>, all: bool) -> Result<Vec<DeadLetterEntry>> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = review.page(all, after).await?;
        found.extend(page.letters);
        after = page.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

async fn list(review: &DeadLetterReview<'_>, all: bool, as_json: bool) -> Result<()> {
    let letters = letters(review, all).await?;
    if as_json {
        for letter in &letters {
            line(serde_json::to_value(letter)?.to_string());
        }
    } else if letters.is_empty() {
        line("none");
        let refused = review.refused_by_last_run().await?;
        if refused > 0 {
            line(format!(
                "The last run refused {}, which is no dead letter: `mill runs show{}` names what it refused.",
                counted(refused, "item"),
                review.mirror_option()
            ));
        }
    } else {
        let in_sync_since = review.mirror_in_sync_since().await?;
        let is_outdated = |letter: &DeadLetterEntry| {
            in_sync_since.as_ref().is_some_and(|since| letter.state == DecisionEntry::Open && letter.at < *since)
        };
        let outdated = letters.iter().filter(|letter| is_outdated(letter)).count();
        let rows = letters.into_iter().map(|letter| {
            let DeadLetterEntry { id, at, reason, subject, state, .. } = letter;
            [id, at, state.as_str().to_owned(), subject.unwrap_or_else(|| "?".into()), shorten_for_display(&reason)]
        });
        line(table(["id", "dead-lettered", "state", "about", "reason"], rows));
        line(format!(
            "\n`mill deadletters show ID{0}` gives the whole history; `retry ID{0}` sends it again; `discard ID --reason …{0}`.",
            review.mirror_option()
        ));
        if outdated > 0 {
            line(format!(
                "{outdated} of them are older than the last run, which left the two in sync: \
                 `mill deadletters discard --all --reason 'in sync since'{}` closes all that are open.",
                review.mirror_option()
            ));
        }
    }
    Ok(())
}
