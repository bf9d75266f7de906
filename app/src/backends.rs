//! Which crates stand behind the engines and stores that a configuration names.

use std::sync::Arc;

use anyhow::{Result, bail};
use mill_ports::Engine;

use crate::aws;
use crate::config::Config;
use crate::local_state;
use crate::wait_limit::WaitLimit;

/// The engine that a configuration describes, for a process that `works` or for one that only looks.
///
/// # Errors
/// There is no such engine, or it cannot be used.
pub async fn open_engine(config: &Config, works: bool, wait_limit: &WaitLimit) -> Result<Arc<dyn Engine>> {
    Ok(match config.text("engine.type") {
        "local" => Arc::new(local_state::open(config, wait_limit).await?),
        "aws" => Arc::new(aws::open_engine(config, works).await?),
        kind => bail!("setting `engine.type` = \"{kind}\": the engines are `local` and `aws`"),
    })
}
