//! `mill places`: where destinations were, and where they are.

use anyhow::{Context, Result};
use mill_app::config::Config;
use mill_app::exit::Exit;
use mill_app::installation::Works;
use mill_model::{AccountId, StoreAddress, StoreId};

use crate::args::Places;
use crate::output::{line, table};

/// Runs it.
pub(super) async fn run(args: Places, config: &Config) -> Result<Exit> {
    let works = Works::configured(config).await?;
    match args {
        Places::List => list(&works).await,
        Places::Accept { account, store } => {
            let store = StoreAddress { account: AccountId::new(account)?, store: StoreId::new(store)? };
            accept(&works, &store).await
        }
    }
}

async fn accept(works: &Works, store: &StoreAddress) -> Result<Exit> {
    let configured = works.configured.as_ref().context("there are no policy files")?;
    let folder = configured.folder(&store.account, &store.store).await?;
    let folder = folder.with_context(|| format!("store `{store}` is no folder, so it is where its name says"))?;
    let now = works.places.accept(store, &folder).await?;
    let mounted = if now.mounted { ", which is mounted there" } else { "" };
    line(format!("store `{store}` is at `{}` from now on: what stands there now{mounted}", now.path));
    Ok(Exit::Done)
}

async fn list(works: &Works) -> Result<Exit> {
    let configured = works.configured.as_ref().context("there are no policy files")?;
    let (mut rows, mut away) = (Vec::new(), false);
    for (account, policy) in works.policies.accounts().await? {
        let Ok(policy) = policy else { continue };
        for id in policy.destinations() {
            let store = StoreAddress { account: account.clone(), store: id.clone() };
            let Some(folder) = configured.folder(&account, id).await? else { continue };
            let root = folder.root_path().display().to_string();
            let (remembered, now) = works.places.look(&store, &folder).await?;
            let kind = remembered.map_or("not written yet", |place| if place.mounted { "mounted" } else { "a folder" });
            away |= now.is_err();
            let now = now.map_or_else(|why| why, |()| "there".to_owned());
            rows.push([store.to_string(), root, kind.to_owned(), now]);
        }
    }
    line(table(["destination", "path", "it was", "now"], rows));
    Ok(if away { Exit::Warnings } else { Exit::Done })
}
