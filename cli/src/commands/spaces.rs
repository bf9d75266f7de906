//! `mill spaces`: whose the destination spaces are.

use anyhow::{Context, Result, bail};
use mill_app::config::Config;
use mill_app::installation::Installation;
use mill_app::result_code::ResultCode;
use mill_model::{AccountId, SpaceId, StoreAddress, StoreId};
use mill_records::owners::{DestinationSpace, Owners};
use mill_records::tables;

use crate::args::SpacesCommand;
use crate::output::line;

/// Runs it.
pub(super) async fn run(args: SpacesCommand, config: &Config) -> Result<ResultCode> {
    let installation = Installation::configured(config).await?;
    let owners = Owners::new(installation.engine.table(tables::OWNERS));
    let (SpacesCommand::Owner(named) | SpacesCommand::Release(named)) = &args;
    let place = DestinationSpace {
        store: StoreAddress {
            account: AccountId::new(named.account.as_str())?,
            store: StoreId::new(named.store.as_str())?,
        },
        space: SpaceId::new(named.space.as_str())?,
    };
    let what = format!("space `{}` of store `{}`", place.space, place.store);
    let configured = installation.configured.as_ref().context("there are no policy files")?;
    let placed = configured.placed(&place.store.account, &place.store.store).await?;
    match args {
        SpacesCommand::Owner(_) => {
            line(match owners.owner(&place).await? {
                Some(source) => format!("{what} belongs to source store `{source}`"),
                None => format!("{what} belongs to no source yet"),
            });
            for (path, keeper) in installation.places.keepers(&*placed, &place.space).await? {
                line(format!("`{path}` is kept in sync by {keeper}"));
            }
        }
        SpacesCommand::Release(_) => {
            let source = owners.release(&place).await?;
            let keeper = installation.places.release(&*placed, &place.space).await?;
            match (&source, &keeper) {
                (Some(source), _) => {
                    line(format!("{what} was released by source store `{source}`; the next source may take it"));
                }
                (None, Some(keeper)) => line(format!("{what} was released by {keeper}; the next may take it")),
                (None, None) => bail!("{what} belongs to no source, so there is nothing to release"),
            }
        }
    }
    Ok(ResultCode::Done)
}
