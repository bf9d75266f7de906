//! `mill places`: where destinations were, and where they are.

use anyhow::{Context, Result, bail};
use mill_app::config::Config;
use mill_app::installation::Installation;
use mill_app::result_code::ResultCode;
use mill_model::{AccountId, StoreAddress, StoreId};

use crate::args::PlacesCommand;
use crate::output::{line, table};

/// Runs it.
pub(super) async fn run(args: PlacesCommand, config: &Config) -> Result<ResultCode> {
    let installation = Installation::configured(config).await?;
    match args {
        PlacesCommand::List => list(&installation).await,
        PlacesCommand::Accept { account, store } => {
            let store = StoreAddress { account: AccountId::new(account)?, store: StoreId::new(store)? };
            accept(&installation, &store).await
        }
    }
}

async fn accept(installation: &Installation, store: &StoreAddress) -> Result<ResultCode> {
    let configured = installation.configured.as_ref().context("there are no policy files")?;
    let placed = configured.placed(&store.account, &store.store).await?;
    if placed.is_known_by_name() {
        bail!("store `{store}` is no folder, so it is where its name says");
    }
    let now = installation.places.accept(store, &*placed).await?;
    let mounted = if now.mounted { ", which is mounted there" } else { "" };
    line(format!("store `{store}` is at `{}` from now on: what stands there now{mounted}", now.path));
    Ok(ResultCode::Done)
}

async fn list(installation: &Installation) -> Result<ResultCode> {
    let configured = installation.configured.as_ref().context("there are no policy files")?;
    let (mut rows, mut away) = (Vec::new(), false);
    for (account, policy) in installation.policies.accounts().await? {
        let Ok(policy) = policy else { continue };
        for id in policy.destinations() {
            let store = StoreAddress::of(&account, id);
            let placed = configured.placed(&account, id).await?;
            if placed.is_known_by_name() {
                continue;
            }
            let (remembered, now) = installation.places.look(&store, &*placed).await?;
            let kind = remembered.map_or("not written yet", |place| if place.mounted { "mounted" } else { "a folder" });
            away |= now.is_err();
            let now = now.map_or_else(|why| why, |()| "there".to_owned());
            rows.push([store.to_string(), placed.location_name(), kind.to_owned(), now]);
        }
    }
    line(table(["destination", "path", "it was", "now"], rows));
    Ok(if away { ResultCode::Warnings } else { ResultCode::Done })
}
