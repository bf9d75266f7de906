//! The command line.

mod audit;
mod review;
mod runs;
mod setup;

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use mill_app::config::EngineType;
use mill_app::config::layers::SettingLayers;
use mill_app::mirror::MirrorRequest;
use mill_app::subject_names::SubjectNames;
use mill_hooks::crash::TEST_BUILD;

pub(crate) use self::audit::{
    AuditCommand, AuditExportArgs, AuditIndexArgs, AuditIndexCommand, AuditLogArgs, AuditSpaceArgs, AuditVerifyArgs,
};
pub(crate) use self::review::{
    DeadLettersArgs, DeadLettersCommand, HeldArgs, HeldCommand, PlacesCommand, RestoreArgs, RunsArgs, RunsCommand,
    SpacesCommand, VerifyArgs,
};
pub(crate) use self::runs::{EndpointArgs, MirrorArgs, ProduceCommand, RunArgs, RunOptions, WorkArgs};
pub(crate) use self::setup::{ConfigCommand, InfraCommand, PolicyCommand};
use crate::examples;

/// What `--version` says: a build for tests must not be taken for one that is shipped.
const VERSION: &str =
    if TEST_BUILD { concat!(env!("CARGO_PKG_VERSION"), " (test build)") } else { env!("CARGO_PKG_VERSION") };

/// Keeps copies of stored content in sync, proves them intact, and writes down what happened.
#[derive(Debug, Parser)]
#[command(
    name = "mill",
    version,
    long_version = VERSION,
    about,
    disable_help_subcommand = true,
    after_help = "Begin with `mill mirror SOURCE DESTINATION`: two folders, no configuration.\n\
                  For policies over many stores, `mill init`, then `mill run`."
)]
pub(crate) struct Cli {
    /// The configuration file [default: ./mill.toml, else ~/.config/mill/mill.toml]
    #[arg(long, global = true, value_name = "FILE", env = "MILL_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Which log lines to show: error, warn, info, debug, trace, or a filter such as `mill_workman=debug`
    #[arg(long, global = true, value_name = "LEVEL", env = "MILL_LOG")]
    pub(crate) log: Option<String>,

    /// Write logs as JSON lines
    #[arg(long, global = true)]
    pub(crate) log_json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make one folder or bucket a faithful copy of another, once
    #[command(after_help = "Examples:\n  \
        mill mirror ~/Pictures /mnt/backup/Pictures\n  \
        mill mirror ~/Pictures /mnt/backup/Pictures --remove-vanished\n  \
        mill mirror ~/Pictures s3://my-backup/pictures\n  \
        mill mirror ~/Pictures s3://nas/pictures --destination-option wholeChecksums=false\n  \
        mill mirror ~/Pictures /mnt/backup/Pictures -v            a line for each item that changes\n  \
        mill mirror ~/Pictures /mnt/backup/Pictures -n -v         what it would do; changes nothing\n  \
        mill mirror ~/Pictures /mnt/backup/Pictures --report pictures.jsonl   for auditors: a line for each entry\n\n\
        Run it again at any time: what is in sync is not read again. A run that was stopped or\n\
        killed goes on where it was. Without --remove-vanished nothing is ever deleted.")]
    Mirror(MirrorArgs),
    /// Make a configuration and a folder of policies to begin with
    #[command(after_help = examples::INIT)]
    Init {
        /// Where
        #[arg(default_value = ".")]
        folder: PathBuf,
        /// What queues and tables are kept in: SQLite on this host, or SQS and DynamoDB
        #[arg(long, value_parser = engine_types(), default_value = EngineType::Local.as_str())]
        engine: EngineType,
    },
    /// Find all work that the policies ask for, and do it, until every copy is in sync
    #[command(after_help = examples::RUN)]
    Run(RunArgs),
    /// Find work and queue it; meant for cron
    #[command(subcommand, after_help = examples::PRODUCE)]
    Produce(ProduceCommand),
    /// Do queued work until told to stop
    #[command(after_help = examples::WORK)]
    Work(WorkArgs),
    /// Show queues, producers, stores and dead letters
    #[command(after_help = examples::STATUS)]
    Status {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Check, show and explain policies
    #[command(subcommand, after_help = examples::POLICY)]
    Policy(PolicyCommand),
    /// Read copies again and compare them with their sources: each byte, each header, times and modes
    #[command(after_help = "Examples:\n  \
        mill verify ~/Pictures /mnt/backup/Pictures          two folders, mirrored or not\n  \
        mill verify ~/Pictures s3://my-backup/pictures       a folder and its copy in S3\n  \
        mill verify s3://one/photos s3://two/photos --destination-endpoint https://s3.example.org\n  \
        mill verify                       all spaces of all accounts of the configuration\n  \
        mill verify library photos        one space of it\n  \
        mill verify --sample 5            a twentieth of it, another one each time\n\n\
        What is different, missing, only at the copy or not to be read is a fault: exit code 50. What no\n\
        copy can have, such as a link, and what lies in an archive, is named: exit code 2.")]
    Verify(VerifyArgs),
    /// Bring a copy back, into an empty or existing folder or bucket
    #[command(after_help = examples::RESTORE)]
    Restore(RestoreArgs),
    /// Show or release the source that a destination space belongs to
    #[command(subcommand, after_help = examples::SPACES)]
    Spaces(SpacesCommand),
    /// Review deletes that wait for a person
    #[command(after_help = "Examples:\n  \
        mill held list\n  \
        mill held show 3000-9f86d081884c7d65          which items, and why they are held\n  \
        mill held confirm 3000-9f86d081884c7d65       lets exactly these go; the next `mill run` deletes them\n  \
        mill held list --mirror ~/Pictures /mnt/backup/Pictures\n\n\
        What is held stays held until it is back at its source, or exactly it is confirmed.")]
    Held(HeldArgs),
    /// Show what the last runs came to
    #[command(after_help = examples::RUNS)]
    Runs(RunsArgs),
    /// Show where destinations were, or accept where one is now
    #[command(subcommand, after_help = examples::PLACES)]
    Places(PlacesCommand),
    /// Review tasks that were given up
    #[command(name = "deadletters", after_help = examples::DEAD_LETTERS)]
    DeadLetters(DeadLettersArgs),
    /// Show, verify, prove and export what happened to content; make the keys of audit logs
    #[command(subcommand, after_help = examples::audit::AUDIT)]
    Audit(AuditCommand),
    /// Make or check what a fleet stands on
    #[command(subcommand, after_help = examples::INFRA)]
    Infra(InfraCommand),
    /// Show the configuration
    #[command(subcommand, after_help = examples::CONFIG)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Explain something: `exit-codes`, or a command
    #[command(after_help = examples::HELP)]
    Help {
        /// What
        topic: Option<String>,
    },
}

impl Cli {
    /// What its messages call things.
    pub(crate) fn names(&self) -> SubjectNames {
        match &self.command {
            Command::Mirror(mirror) => mirror.names(),
            Command::Restore(restore) => names_of(restore.mirror().as_ref()),
            Command::DeadLetters(letters) => names_of(letters.ends.mirror(&letters.mirror).as_ref()),
            Command::Runs(runs) => names_of(runs.ends.mirror(&runs.mirror).as_ref()),
            Command::Verify(verify) => names_of(verify.ends(|| self.is_configured()).as_ref()),
            _ => SubjectNames::Policies,
        }
    }

    /// Whether there is a configuration.
    pub(crate) fn is_configured(&self) -> bool {
        self.config.is_some() || SettingLayers::are_found()
    }
}

/// The names of the two ends of a mirror: as they were typed.
pub(crate) fn names_of(mirror: Option<&MirrorRequest>) -> SubjectNames {
    mirror.map_or(SubjectNames::Policies, SubjectNames::of_mirror)
}

/// The engines, as an argument names them.
fn engine_types() -> impl TypedValueParser<Value = EngineType> {
    let possible = EngineType::ALL.map(|engine| PossibleValue::new(engine.as_str()).help(engine.about()));
    PossibleValuesParser::new(possible).try_map(|name| name.parse::<EngineType>())
}
