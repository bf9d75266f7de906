//! `mill`: keeps copies of stored content in sync. This crate wires the rooms together and decides nothing.

mod args;
mod commands;
mod crash;
mod crash_points;
mod event_lines;
mod examples;
mod exit;
mod logs;
mod output;
mod progress;
mod recorded_run;
mod report;
mod stop;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use clap::error::ErrorKind;
use indicatif::MultiProgress;
use mill_app::local_state;
use mill_app::result_code::ResultCode;
use mill_hooks::crash_point;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be done if the terminal cannot be written.
            let _ = error.print();
            let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return ExitCode::from(if asked_for { ResultCode::Done.code() } else { ResultCode::BadArguments.code() });
        }
    };
    let bars = MultiProgress::new();
    let names = cli.names();
    let reports = !cli.log_json && matches!(cli.command, Command::Mirror(_) | Command::Run(_));
    let filter = cli.log.clone().unwrap_or_else(|| logs::default_filter(reports));
    let ran = logs::begin(&filter, cli.log_json, names.clone(), &bars).and_then(|keeper| {
        let ran = crash::listen().and_then(|()| run(cli, &bars));
        drop(keeper);
        ran
    });
    match ran {
        Ok(exit) => ExitCode::from(output::exit(exit).code()),
        Err(error) => {
            let exit = ResultCode::of_error(&error);
            output::print_error(&names.text(&format!("{error:#}")));
            ExitCode::from(exit.code())
        }
    }
}

fn run(cli: Cli, bars: &MultiProgress) -> Result<ResultCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Each store limits its own threads. This is enough that stores on hanging mounts leave threads for others.
        .max_blocking_threads(1_024)
        .build()?;
    let exit = local_state::unless_damaged(runtime.block_on(commands::run(cli, bars.clone())));
    crash_point(crash_points::CLI_DONE);
    // Threads that still run then are blocked in a system call on a file and would delay the exit.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    exit
}
