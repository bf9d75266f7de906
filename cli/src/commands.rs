//! One file for each command, or for a family of small commands.

mod audit;
mod dead_letters;
mod held;
mod infra;
mod init;
mod mirror;
mod places;
mod policy;
mod produce;
mod restore;
mod run;
mod runs;
mod spaces;
mod status;
mod verify;
mod work;

use anyhow::{Result, bail};
use clap::CommandFactory;
use indicatif::MultiProgress;
use mill_app::config::Config;
use mill_app::config::layers::SettingLayers;
use mill_app::result_code::ResultCode;
use mill_app::wait_limit::WaitLimit;
use mill_hooks::crash_point;

use crate::args::{Cli, Command, ConfigCommand};
use crate::crash_points;
use crate::exit;
use crate::output;

/// Runs the command.
pub(crate) async fn run(cli: Cli, bars: MultiProgress) -> Result<ResultCode> {
    let file = cli.config.clone();
    let config = async || {
        let (shown, file) = (file.clone().unwrap_or_else(|| "mill.toml".into()), file.clone());
        let config = WaitLimit::endless().look(&shown, move || Config::load(file.as_deref())).await?;
        crash_point(crash_points::CLI_CONFIGURED);
        Ok::<_, anyhow::Error>(config)
    };
    match cli.command {
        Command::Mirror(args) => Box::pin(mirror::run(args, bars)).await,
        Command::Init { folder, engine } => {
            let at = folder.clone();
            WaitLimit::endless().look(&folder, move || init::run(&at, engine)).await
        }
        Command::Run(args) => run::run(args, &config().await?, cli.config.as_deref(), bars).await,
        Command::Produce(args) => produce::run(args, &config().await?).await,
        Command::Work(args) => work::run(args, &config().await?).await,
        Command::Status { json } => status::run(json, &config().await?).await,
        Command::Policy(args) => policy::run(args, config).await,
        Command::Verify(args) => {
            let ends = args.ends(|| cli.config.is_some() || SettingLayers::are_found());
            verify::run(args, ends, config).await
        }
        Command::Restore(args) => restore::run(args, config).await,
        Command::Spaces(args) => spaces::run(args, &config().await?).await,
        Command::Held(args) => held::run(args, config).await,
        Command::Runs(args) => runs::run(args, config).await,
        Command::Places(args) => places::run(args, &config().await?).await,
        Command::DeadLetters(args) => dead_letters::run(args, config).await,
        Command::Audit(args) => Box::pin(audit::run(args, config, bars)).await,
        Command::Infra(args) => infra::run(args, &config().await?).await,
        Command::Config(ConfigCommand::Show) => {
            let file = cli.config.clone();
            let shown = file.clone().unwrap_or_else(|| "mill.toml".into());
            // A value that no command could use is shown too, with its origin.
            let layers = WaitLimit::endless().look(&shown, move || SettingLayers::load(file.as_deref())).await?;
            output::line(output::table(["setting", "value", "from", "meaning"], layers.rows()));
            Ok(ResultCode::Done)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "mill", &mut script);
            output::line(String::from_utf8_lossy(&script));
            Ok(ResultCode::Done)
        }
        Command::Help { topic } => help(topic.as_deref()),
    }
}

fn help(topic: Option<&str>) -> Result<ResultCode> {
    let mut command = Cli::command();
    command.build();
    match topic {
        Some("exit-codes") => output::line(exit::HELP.trim_end()),
        None => output::line(command.render_long_help().to_string()),
        Some(topic) => match command.find_subcommand_mut(topic) {
            Some(found) => output::line(found.render_long_help().to_string()),
            None => bail!("there is no help on `{topic}`; `mill help` lists the commands, and there is `exit-codes`"),
        },
    }
    Ok(ResultCode::Done)
}
