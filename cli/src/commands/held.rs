//! `mill held`: deletes that wait for a person.

use anyhow::Result;
use futures::TryStreamExt as _;
use mill_app::config::Config;
use mill_app::counted::counted;
use mill_app::held_deletes::{HeldDeleteList, HeldDeleteReview};
use mill_app::result_code::ResultCode;

use crate::args::{HeldArgs, HeldCommand};
use crate::output::{line, table};

/// Runs it.
pub(super) async fn run(args: HeldArgs, config: impl AsyncFn() -> Result<Config>) -> Result<ResultCode> {
    let deletes = match args.mirror.as_slice() {
        [source, destination] => {
            HeldDeleteReview::of_mirror(&args.ends.request(source.clone(), destination.clone())).await?
        }
        _ => HeldDeleteReview::configured(&config().await?).await?,
    };
    match args.command {
        HeldCommand::List { json } => list(&deletes.list().await?, json)?,
        HeldCommand::Show { token } => show(&deletes, &deletes.show(&token).await?).await?,
        HeldCommand::Confirm { tokens } => {
            for token in tokens {
                let HeldDeleteList { count, place, .. } = deletes.confirm(&token, &person()).await?;
                let run = if args.mirror.is_empty() { "run" } else { "mirror with --remove-vanished" };
                let items = counted(count, "item");
                line(format!("{token}: {items} of {place} may go; the next {run} deletes what it still finds gone"));
            }
        }
        HeldCommand::Withdraw { tokens } => {
            for token in tokens {
                let HeldDeleteList { place, .. } = deletes.withdraw(&token).await?;
                line(format!("{token}: the list of {place} is dropped"));
            }
        }
    }
    Ok(ResultCode::Done)
}

/// The person who confirms: the user that runs this.
pub(super) fn person() -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown user".to_owned())
}

fn list(lists: &[HeldDeleteList], as_json: bool) -> Result<()> {
    if as_json {
        for list in lists {
            // Through a `Value`, which has its members in alphabetical order.
            line(serde_json::to_value(list)?.to_string());
        }
        return Ok(());
    }
    if lists.is_empty() {
        line("no deletes are held");
        return Ok(());
    }
    let rows = lists.iter().map(|list| {
        let HeldDeleteList { token, place, count, items_total, why, .. } = list;
        [token.clone(), place.clone(), format!("{count} of {items_total}"), why.clone()]
    });
    line(table(["token", "of", "items", "held because"], rows));
    Ok(())
}

async fn show(deletes: &HeldDeleteReview, list: &HeldDeleteList) -> Result<()> {
    let HeldDeleteList { count, items_total, place, surveyed, why, .. } = list;
    let what = if list.whole_space { "the whole space" } else { "items" };
    line(format!("{count} of {items_total} items of {place} ({what}), surveyed {surveyed}; held because {why}"));
    let mut ids = deletes.items(list);
    while let Some(id) = ids.try_next().await? {
        line(id);
    }
    Ok(())
}
