//! `mill held`: deletes that wait for a person.

use anyhow::Result;
use futures::TryStreamExt as _;
use mill_model::{AccountId, Timestamp};
use mill_ports::Clock;
use mill_records::delete_lists::{DeleteListError, DeleteLists, HeldList, HoldReason, ListOf};
use serde_json::json;

use crate::Usage;
use crate::args::{Confirmation, Held, HeldCommand};
use crate::config::Config;
use crate::engine::Engine;
use crate::exit::Exit;
use crate::output::{line, table};
use crate::patience::Patience;

/// Runs it.
pub(super) async fn run(args: Held, config: impl AsyncFn() -> Result<Config>) -> Result<Exit> {
    let engine = match args.mirror.as_slice() {
        [source, destination] => super::mirror::engine_of(source, destination, args.ends).await?,
        _ => Engine::configured(&config().await?, false, &Patience::endless()).await?,
    };
    let lists = DeleteLists::new(engine.table(DeleteLists::BOOK));
    match args.command {
        HeldCommand::List { json } => list(&lists, json).await?,
        HeldCommand::Show { token } => show(&lists, &found(&lists, &token).await?).await?,
        HeldCommand::Confirm { tokens } => {
            for token in tokens {
                let held = grant(&lists, &token, &*engine.clock).await?;
                line(format!("{token}: {} items of {} may go; the next run deletes them", held.count(), place(&held)));
            }
        }
        HeldCommand::Withdraw { tokens } => {
            for token in tokens {
                let mut held = found(&lists, &token).await?;
                lists.withdraw(&mut held).await?;
                line(format!("{token}: the list of {} is dropped", place(&held)));
            }
        }
    }
    Ok(Exit::Done)
}

/// Lets go what a person confirmed on the command line, before the run that deletes it.
///
/// # Errors
/// A count that does not mean exactly one list, or an unknown token, is a wrong argument.
pub(super) async fn confirm(lists: &DeleteLists, confirmation: Option<&Confirmation>, clock: &dyn Clock) -> Result<()> {
    let token = match confirmation {
        None => return Ok(()),
        Some(Confirmation::Token(token)) => token.clone(),
        Some(Confirmation::Count(most)) => {
            let held = lists.held().await?;
            match held.as_slice() {
                [one] if one.count() <= *most => one.token().to_string(),
                _ => return Err(Usage(not_one_list(&held, *most)).into()),
            }
        }
    };
    grant(lists, &token, clock).await?;
    Ok(())
}

fn not_one_list(held: &[HeldList], most: u64) -> String {
    if held.is_empty() {
        return "--confirm-deletes lets go what an earlier run held, and nothing is held: run without it first".into();
    }
    let lists: Vec<String> = held
        .iter()
        .map(|held| format!("\n  {} items of {}: --confirm-deletes {}", held.count(), place(held), held.token()))
        .collect();
    format!(
        "--confirm-deletes {most} does not say which of the held deletes may go; name one by its token:{}",
        lists.concat()
    )
}

async fn grant(lists: &DeleteLists, token: &str, clock: &dyn Clock) -> Result<HeldList> {
    let mut held = found(lists, token).await?;
    lists.grant(&mut held, &person(), clock.now()).await?;
    Ok(held)
}

/// The list of a token. A wrong token is a wrong argument.
async fn found(lists: &DeleteLists, token: &str) -> Result<HeldList> {
    match lists.by_token(token).await {
        Err(error @ DeleteListError::NoSuchToken { .. }) => Err(Usage(error.to_string()).into()),
        other => Ok(other?),
    }
}

/// Who confirms: the name of the user that runs this.
fn person() -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown user".to_owned())
}

async fn list(lists: &DeleteLists, as_json: bool) -> Result<()> {
    let held = lists.held().await?;
    if as_json {
        for held in &held {
            line(as_object(held).to_string());
        }
        return Ok(());
    }
    if held.is_empty() {
        line("no deletes are held");
        return Ok(());
    }
    let rows = held.iter().map(|held| {
        let list = &held.head.record;
        [held.token().to_string(), place(held), format!("{} of {}", list.count, list.items_total), why(list.held())]
    });
    line(table(["token", "of", "items", "held because"], rows));
    Ok(())
}

async fn show(lists: &DeleteLists, held: &HeldList) -> Result<()> {
    let list = &held.head.record;
    let what = if list.of == ListOf::Space { "the whole space" } else { "items" };
    line(format!(
        "{} of {} items of {} ({what}), surveyed {}; held because {}",
        list.count,
        list.items_total,
        place(held),
        list.made_at(),
        why(list.held())
    ));
    let mut ids = lists.ids(&held.pair, held.list);
    while let Some(listed) = ids.try_next().await? {
        line(listed.id.to_string());
    }
    Ok(())
}

fn as_object(held: &HeldList) -> serde_json::Value {
    let (pair, list) = (&held.pair, &held.head.record);
    json!({
        "token": held.token().to_string(), "account": pair.account.as_str(), "space": pair.space.as_str(),
        "source": pair.source.as_str(), "destination": pair.destination.as_str(), "list": held.list.to_string(),
        "count": list.count, "items_total": list.items_total, "surveyed": list.made_at().to_string(),
        "why": why(list.held()),
    })
}

/// Where the items are: as a person knows it.
fn place(held: &HeldList) -> String {
    let pair = &held.pair;
    if AccountId::new("mirror").is_ok_and(|mirror| mirror == pair.account) && pair.space.as_str() == "content" {
        return "the destination".into();
    }
    format!("space `{}` in store {} of account `{}`", pair.space, pair.destination, pair.account)
}

/// Why deletes are held, in words.
pub(crate) fn why(reason: Option<&HoldReason>) -> String {
    match reason {
        Some(HoldReason::TooMany { unasked_today: 0 }) => "they are more than may be deleted unasked".into(),
        Some(HoldReason::TooMany { unasked_today }) => {
            format!("with the {unasked_today} of the last 24 hours they are more than may be deleted unasked")
        }
        Some(HoldReason::Unproven { count }) => {
            format!("{count} of them were neither written by mill nor ever seen at this source")
        }
        Some(HoldReason::PlaceChanged { path }) if path.is_empty() => {
            "another disk or folder than before stands at the source".into()
        }
        Some(HoldReason::PlaceChanged { path }) => {
            format!("what was mounted at `{path}` of the source is not there, or something else is")
        }
        Some(HoldReason::HeldBefore) => "they were held before, and are still missing".into(),
        Some(HoldReason::PlacesUnknown) => {
            "mill had not seen the disks of this source before, so it cannot know whether one of them is missing".into()
        }
        Some(HoldReason::ListWithdrawn) => "a person dropped the list in which some of them stood".into(),
        Some(HoldReason::TooMuchHidden) => "too many folders of the source could not be entered".into(),
        Some(HoldReason::SpaceMissing { since, for_a_day }) => {
            let since = Timestamp::from_millis(*since);
            let day = if *for_a_day { "" } else { "; it can be confirmed after a day" };
            format!("the source space itself is missing since {since}{day}")
        }
        None => "of a reason unknown to this version".into(),
    }
}
