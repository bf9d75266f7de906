//! `mill infra`: creates and checks the queues and tables of a fleet.

use anyhow::Result;
use mill_app::config::Config;
use mill_app::engine_choice;
use mill_app::result_code::ResultCode;

use crate::args::InfraCommand;
use crate::output::{line, table};

/// Runs it.
pub(super) async fn run(args: InfraCommand, config: &Config) -> Result<ResultCode> {
    match args {
        InfraCommand::Create => {
            line(engine_choice::create_deployment(config).await?);
            Ok(ResultCode::Done)
        }
        InfraCommand::Check => {
            let found = engine_choice::check_deployment(config).await?;
            if found.is_empty() {
                line("The deployment is as this mill assumes.");
                return Ok(ResultCode::Done);
            }
            line(table(["what", "aspect", "assumed", "found"], found));
            Ok(ResultCode::Error)
        }
    }
}
