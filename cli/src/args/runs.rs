//! The arguments of what copies, and of what finds and does queued work.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use mill_app::held_deletes::Confirmation;
use mill_app::mirror::{EndpointOptions, MirrorRequest};
use mill_app::subject_names::SubjectNames;
use mill_model::QueueName;
use mill_policy::ServerOption;

use super::names_of;

/// Where the ends of a mirror in S3 are, if not at Amazon's own service with the environment's settings.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct EndpointArgs {
    /// The address of the source's S3 service
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) source_endpoint: Option<String>,
    /// The region of the source
    #[arg(long, global = true, value_name = "REGION")]
    pub(crate) source_region: Option<String>,
    /// The profile of the AWS configuration by which the source is read
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) source_profile: Option<String>,
    /// How the source's server differs from Amazon's, as in a stores file: pathStyle=false, md5Tags=false
    #[arg(long, global = true, value_name = "NAME=VALUE")]
    pub(crate) source_option: Vec<ServerOption>,
    /// The address of the destination's S3 service
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) destination_endpoint: Option<String>,
    /// The region of the destination
    #[arg(long, global = true, value_name = "REGION")]
    pub(crate) destination_region: Option<String>,
    /// The profile of the AWS configuration by which the destination is written
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) destination_profile: Option<String>,
    /// How the destination's server differs: also wholeChecksums=false, conditionalWrites=false, sha256=true,
    /// serverSideCopies=true
    #[arg(long, global = true, value_name = "NAME=VALUE")]
    pub(crate) destination_option: Vec<ServerOption>,
}

impl EndpointArgs {
    /// Whether any of them is given.
    pub(crate) fn any(&self) -> bool {
        let source = [&self.source_endpoint, &self.source_region, &self.source_profile];
        let destination = [&self.destination_endpoint, &self.destination_region, &self.destination_profile];
        let options = [&self.source_option, &self.destination_option];
        source.into_iter().chain(destination).any(Option::is_some) || options.iter().any(|all| !all.is_empty())
    }

    /// The mirror that `--mirror` names, if it does.
    pub(crate) fn mirror(&self, named: &[PathBuf]) -> Option<MirrorRequest> {
        let [source, destination] = named else { return None };
        Some(self.clone().request(source.clone(), destination.clone()))
    }

    /// A mirror between two paths whose ends are reached so.
    pub(crate) fn request(self, source: PathBuf, destination: PathBuf) -> MirrorRequest {
        MirrorRequest {
            source,
            destination,
            source_options: EndpointOptions {
                endpoint: self.source_endpoint,
                region: self.source_region,
                profile: self.source_profile,
                options: self.source_option,
            },
            destination_options: EndpointOptions {
                endpoint: self.destination_endpoint,
                region: self.destination_region,
                profile: self.destination_profile,
                options: self.destination_option,
            },
            ..MirrorRequest::default()
        }
    }
}

impl MirrorArgs {
    /// What its messages call its ends.
    pub(crate) fn names(&self) -> SubjectNames {
        names_of(Some(&self.request()))
    }

    /// What is asked for.
    pub(crate) fn request(&self) -> MirrorRequest {
        MirrorRequest {
            remove_vanished: self.remove_vanished,
            create: self.create,
            take_over: self.take_over,
            accept_source: self.accept_source,
            dry_run: self.dry_run,
            ..self.ends.clone().request(self.source.clone(), self.destination.clone())
        }
    }
}

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // each is a flag of the command line
pub(crate) struct MirrorArgs {
    /// The folder to copy, or s3://BUCKET/PREFIX; it is only read
    pub(crate) source: PathBuf,
    /// The folder to bring in sync, or s3://BUCKET/PREFIX; a folder is made if its parent is there, a bucket with --create
    pub(crate) destination: PathBuf,
    #[command(flatten)]
    pub(crate) ends: EndpointArgs,
    /// Delete at the destination what is surely gone from the source: at once up to 20 items, or 1 % of all up to 1,000, in 24
    /// hours, and less than half of them; more is held until you confirm it
    #[arg(long, alias = "delete")]
    pub(crate) remove_vanished: bool,
    /// Let go what an earlier run held back: exactly the list of this token, or the one list there is if it has at most N
    /// items
    #[arg(long, value_name = "TOKEN|N", requires = "remove_vanished")]
    pub(crate) confirm_deletes: Option<Confirmation>,
    /// Items in hand at once
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) workers: u32,
    /// Make the destination's bucket, or begin anew with a destination that was there at the last run and is missing, not
    /// mounted, or another now
    #[arg(long)]
    pub(crate) create: bool,
    /// Take over a destination that was kept in sync with another source, or whose copy the source was until now
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Take another disk at SOURCE than at the last run for the source from now on: its items replace those of the same names
    #[arg(long)]
    pub(crate) accept_source: bool,
    /// Say what a run would do, and change nothing: no file, folder, bucket or state
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) options: RunOptions,
}

/// How a run that ends by itself does so.
#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_excessive_bools)] // each is a flag of the command line
pub(crate) struct RunOptions {
    /// Stop at the first item that fails for good, instead of finishing the others
    #[arg(long)]
    pub(crate) fail_fast: bool,
    /// Exit with 1 when nothing had to be changed
    #[arg(long)]
    pub(crate) detailed_exit_code: bool,
    /// Print the summary as one JSON object, on the last line of standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Say nothing of success, for cron: no progress, and a summary only where something is to be named
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Print a line for each item that was changed or could not be
    #[arg(long, short, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Write a line for each entry and what became of it to this file, as JSON, once the run ends
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Wait so long for what does not answer or is failing: then a space is passed over, and for a store the run ends
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    pub(crate) give_up_after: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Workmen as so many child processes; 0 works in this process
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=256))]
    pub(crate) processes: u32,
    /// Items in hand at once, in each process
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<u32>,
    /// Let go what an earlier run held back: exactly the list of this token, or the one list there is if it has at most N
    /// items
    #[arg(long, value_name = "TOKEN|N")]
    pub(crate) confirm_deletes: Option<Confirmation>,
    #[command(flatten)]
    pub(crate) options: RunOptions,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProduceCommand {
    /// Walk the duplication policies and queue what they ask for
    #[command(after_help = "Examples:\n  \
        mill produce duplication --stay               as a service; any number may stay, one of them works\n  \
        */10 * * * *  mill --config /etc/mill/mill.toml produce duplication --quiet      in a crontab")]
    Duplication {
        /// Begin a loop now, even if the next one is not due yet
        #[arg(long)]
        now: bool,
        /// Stay, and begin each loop when it is due, until told to stop
        #[arg(long, conflicts_with_all = ["now", "reset"])]
        stay: bool,
        /// Forget where the present loop stands, so that the next one begins at the beginning
        #[arg(long, conflicts_with = "now")]
        reset: bool,
        /// Let go what an earlier run held back: exactly the list of this token, or the one list there is if it has at most
        /// N items
        #[arg(long, value_name = "TOKEN|N")]
        confirm_deletes: Option<Confirmation>,
        /// Say nothing of what went as it should, for cron
        #[arg(long, short, conflicts_with = "stay")]
        quiet: bool,
    },
}

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // each is a flag of the command line
pub(crate) struct WorkArgs {
    /// The queues to serve, highest priority first
    #[arg(long, value_name = "QUEUES", value_delimiter = ',')]
    pub(crate) queues: Vec<QueueName>,
    /// Items in hand at once
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<u32>,
    /// Also watch the folders that are sources of store policies, so that a change is copied within seconds. It takes one of the
    /// host's processes, no more. What a watch cannot see is found by `mill run` or `mill produce`, as before
    #[arg(long, conflicts_with = "child")]
    pub(crate) watch: bool,
    /// Report totals as JSON lines on standard output and end when standard input does (used by `mill run`)
    #[arg(long, hide = true)]
    pub(crate) child: bool,
    /// Name so many items that were changed or could not be in these lines (used by `mill run`)
    #[arg(long, hide = true, value_name = "N", default_value_t = 0)]
    pub(crate) tell: usize,
    /// Keep what becomes of items for the report of the run that started this (used by `mill run`)
    #[arg(long, hide = true)]
    pub(crate) for_report: bool,
    /// Stop at the first item that fails for good
    #[arg(long)]
    pub(crate) fail_fast: bool,
}
