//! `mill infra`: what a fleet stands on.

use anyhow::Result;

use crate::args::Infra;
use crate::config::Config;
use crate::exit::Exit;
use crate::fleet;
use crate::output::{line, table};

/// Runs it.
pub(super) async fn run(args: Infra, config: &Config) -> Result<Exit> {
    match args {
        Infra::Create => {
            line(fleet::create(config).await?);
            Ok(Exit::Done)
        }
        Infra::Check => {
            let found = fleet::check(config).await?;
            if found.is_empty() {
                line("The deployment is as this mill assumes.");
                return Ok(Exit::Done);
            }
            line(table(["what", "aspect", "assumed", "found"], found));
            Ok(Exit::Error)
        }
    }
}
