//! `mill spaces`: whose the destination spaces are.

use anyhow::{Context, Result, bail};
use mill_model::{AccountId, SpaceId, StoreAddress, StoreId};
use mill_records::owners::{DestinationSpace, Owners};

use crate::args::Spaces;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::line;
use crate::works::Works;

/// Runs it.
pub(super) async fn run(args: Spaces, config: &Config) -> Result<Exit> {
    let works = Works::configured(config).await?;
    let owners = Owners::new(works.engine.table("owners"));
    let (Spaces::Owner(named) | Spaces::Release(named)) = &args;
    let place = DestinationSpace {
        store: StoreAddress {
            account: AccountId::new(named.account.as_str())?,
            store: StoreId::new(named.store.as_str())?,
        },
        space: SpaceId::new(named.space.as_str())?,
    };
    let what = format!("space `{}` of store `{}`", place.space, place.store);
    let configured = works.configured.as_ref().context("there are no policy files")?;
    let folder = configured.folder(&place.store.account, &place.store.store).await?;
    match args {
        Spaces::Owner(_) => {
            line(match owners.owner(&place).await? {
                Some(source) => format!("{what} belongs to source store `{source}`"),
                None => format!("{what} belongs to no source yet"),
            });
            if let Some(folder) = &folder {
                for (path, mark) in folder.ground(&place.space).await?.marks {
                    line(format!("`{}` is kept in sync by {}", path.display(), mark.shown));
                }
            }
        }
        Spaces::Release(_) => {
            let source = owners.release(&place).await?;
            let keeper = match &folder {
                Some(folder) => works.places.release(folder, &place.space).await?,
                None => None,
            };
            match (&source, &keeper) {
                (Some(source), _) => {
                    line(format!("{what} was released by source store `{source}`; the next source may take it"));
                }
                (None, Some(keeper)) => line(format!("{what} was released by {keeper}; the next may take it")),
                (None, None) => bail!("{what} belongs to no source, so there is nothing to release"),
            }
        }
    }
    Ok(Exit::Done)
}
