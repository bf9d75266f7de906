//! `mill spaces`: shows or releases the owners of destination spaces.

use anyhow::Result;
use mill_app::config::Config;
use mill_app::installation::Installation;
use mill_app::result_code::ResultCode;
use mill_app::space_owners::{self, ReleasedSpace, SpaceOwner, SpaceOwners};
use mill_model::{AccountId, SpaceId, StoreAddress, StoreId};
use mill_records::owners::DestinationSpace;

use crate::args::SpacesCommand;
use crate::output::line;

/// Runs it.
pub(super) async fn run(args: SpacesCommand, config: &Config) -> Result<ResultCode> {
    let installation = Installation::configured(config).await?;
    let owners = SpaceOwners::of(&installation)?;
    let (SpacesCommand::Owner(named) | SpacesCommand::Release(named)) = &args;
    let space = DestinationSpace {
        store: StoreAddress {
            account: AccountId::new(named.account.as_str())?,
            store: StoreId::new(named.store.as_str())?,
        },
        space: SpaceId::new(named.space.as_str())?,
    };
    let what = space_owners::named(&space);
    match args {
        SpacesCommand::Owner(_) => {
            let SpaceOwner { source, keepers } = owners.owner(&space).await?;
            line(match source {
                Some(source) => format!("{what} belongs to source store `{source}`"),
                None => format!("{what} belongs to no source yet"),
            });
            for (path, keeper) in keepers {
                line(format!("`{path}` is kept in sync by {keeper}"));
            }
        }
        SpacesCommand::Release(_) => {
            let ReleasedSpace { source, keeper } = owners.release(&space).await?;
            let by = match (source, keeper) {
                (Some(source), _) => format!(" by source store `{source}`"),
                (None, Some(keeper)) => format!(" by {keeper}"),
                (None, None) => String::new(),
            };
            line(format!(
                "{what} was released{by}; the next source that copies there takes it. What is there and that source does not \
                 have is then held or deleted, as its policy says"
            ));
        }
    }
    Ok(ResultCode::Done)
}
