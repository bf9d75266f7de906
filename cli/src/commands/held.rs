//! `mill held`: deletes that wait for a person.

use anyhow::Result;
use futures::TryStreamExt as _;
use mill_app::config::Config;
use mill_app::engine::Engine;
use mill_app::exit::Exit;
use mill_app::held_deletes::{found, grant, place, why};
use mill_app::mirror;
use mill_app::patience::Patience;
use mill_records::delete_lists::{DeleteLists, DeletionScope, HeldList};
use serde_json::json;

use crate::args::{Held, HeldCommand};
use crate::output::{line, table};

/// Runs it.
pub(super) async fn run(args: Held, config: impl AsyncFn() -> Result<Config>) -> Result<Exit> {
    let engine = match args.mirror.as_slice() {
        [source, destination] => mirror::engine_of(&args.ends.request(source.clone(), destination.clone())).await?,
        _ => Engine::configured(&config().await?, false, &Patience::endless()).await?,
    };
    let lists = DeleteLists::new(engine.table(DeleteLists::BOOK));
    match args.command {
        HeldCommand::List { json } => list(&lists, json).await?,
        HeldCommand::Show { token } => show(&lists, &found(&lists, &token).await?).await?,
        HeldCommand::Confirm { tokens } => {
            for token in tokens {
                let held = grant(&lists, &token, &person(), &*engine.clock).await?;
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

/// Who confirms: the name of the user that runs this.
pub(super) fn person() -> String {
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
    let what = if list.of == DeletionScope::Space { "the whole space" } else { "items" };
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
