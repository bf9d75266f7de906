//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use mill_app::config::EngineType;
use mill_app::config::layers::SettingLayers;
use mill_app::held_deletes::Confirmation;
use mill_app::mirror::{EndpointOptions, MirrorRequest};
use mill_app::subject_names::SubjectNames;
use mill_hooks::crash::TEST_BUILD;
use mill_model::QueueName;

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
        mill mirror ~/Pictures /mnt/backup/Pictures -v            a line for each item that changes\n  \
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
        What is different, missing or only at the copy is a fault: exit code 50. What no copy can have,\n\
        such as a link, and what cannot be read, such as an archived object, is named: exit code 2.")]
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
            ..self.ends.clone().request(self.source.clone(), self.destination.clone())
        }
    }
}

/// The engines, as an argument names them.
fn engine_types() -> impl TypedValueParser<Value = EngineType> {
    let possible = EngineType::ALL.map(|engine| PossibleValue::new(engine.as_str()).help(engine.about()));
    PossibleValuesParser::new(possible).try_map(|name| name.parse::<EngineType>())
}

#[derive(Debug, Subcommand)]
pub(crate) enum InfraCommand {
    /// Compare the deployed queues, tables and policy bucket with what this mill assumes
    #[command(after_help = examples::INFRA_CHECK)]
    Check,
    /// Make the queues and tables that are missing; for trials, and for services without CloudFormation
    #[command(after_help = examples::INFRA_CREATE)]
    Create,
}

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
    /// The address of the destination's S3 service
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) destination_endpoint: Option<String>,
    /// The region of the destination
    #[arg(long, global = true, value_name = "REGION")]
    pub(crate) destination_region: Option<String>,
    /// The profile of the AWS configuration by which the destination is written
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) destination_profile: Option<String>,
}

impl EndpointArgs {
    /// Whether any of them is given.
    pub(crate) fn any(&self) -> bool {
        let source = [&self.source_endpoint, &self.source_region, &self.source_profile];
        let destination = [&self.destination_endpoint, &self.destination_region, &self.destination_profile];
        source.into_iter().chain(destination).any(Option::is_some)
    }

    /// The mirror that `--mirror` names, if it does.
    pub(crate) fn mirror(&self, named: &[PathBuf]) -> Option<MirrorRequest> {
        let [source, destination] = named else { return None };
        Some(self.clone().request(source.clone(), destination.clone()))
    }

    /// A mirror between two paths whose ends are reached so.
    pub(crate) fn request(self, source: PathBuf, destination: PathBuf) -> MirrorRequest {
        let options = |endpoint, region, profile| EndpointOptions { endpoint, region, profile };
        MirrorRequest {
            source,
            destination,
            source_options: options(self.source_endpoint, self.source_region, self.source_profile),
            destination_options: options(self.destination_endpoint, self.destination_region, self.destination_profile),
            ..MirrorRequest::default()
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct MirrorArgs {
    /// The folder to copy, or s3://BUCKET/PREFIX; it is only read
    pub(crate) source: PathBuf,
    /// The folder to bring in sync, or s3://BUCKET/PREFIX; a folder is made if its parent is there, a bucket with --create
    pub(crate) destination: PathBuf,
    #[command(flatten)]
    pub(crate) ends: EndpointArgs,
    /// Delete at the destination what is surely gone from the source
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
    /// Take over a destination that was kept in sync with another source
    #[arg(long)]
    pub(crate) take_over: bool,
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
pub(crate) struct WorkArgs {
    /// The queues to serve, highest priority first
    #[arg(long, value_name = "QUEUES", value_delimiter = ',')]
    pub(crate) queues: Vec<QueueName>,
    /// Items in hand at once
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<u32>,
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

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Name every fault of every policy file, with line and column
    #[command(after_help = examples::POLICY_CHECK)]
    Check {
        /// A folder of policy files [default: the configured one]
        folder: Option<PathBuf>,
    },
    /// Show what an account's policy comes to
    #[command(after_help = examples::POLICY_SHOW)]
    Show {
        /// The account
        account: String,
    },
    /// Say which rule applies to a space, and why
    #[command(after_help = examples::POLICY_EXPLAIN)]
    Explain {
        /// The account
        account: String,
        /// The space
        space: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Two ends: a folder, such as ./photos, or s3://BUCKET/PREFIX, each with a slash. Or, of a configured installation, only this
    /// account, or only this space of it
    #[arg(num_args = 0..=2, value_names = ["SOURCE|ACCOUNT", "DESTINATION|SPACE"])]
    pub(crate) places: Vec<PathBuf>,
    /// Compare two folders; the same as naming them alone
    #[arg(long, hide = true, num_args = 2, value_names = ["SOURCE", "DESTINATION"], conflicts_with = "places")]
    pub(crate) folders: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) ends: EndpointArgs,
    /// Read only so many per cent of the items, drawn by chance
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100), default_value_t = 100)]
    pub(crate) sample: u8,
    /// Print the summary as one JSON object, on the last line of standard output
    #[arg(long)]
    pub(crate) json: bool,
}

impl VerifyArgs {
    /// The two ends to compare, if it is not about the configured installation. No account or space has a slash in its
    /// name; where there is no configuration, any two words are ends.
    pub(crate) fn ends(&self, is_configured: impl FnOnce() -> bool) -> Option<MirrorRequest> {
        use std::os::unix::ffi::OsStrExt as _;
        let is_path = |place: &PathBuf| place.as_os_str().as_bytes().contains(&b'/');
        let (source, destination) = match (self.folders.as_slice(), self.places.as_slice()) {
            ([source, destination], _) => (source, destination),
            (_, [source, destination])
                if is_path(source) || is_path(destination) || self.ends.any() || !is_configured() =>
            {
                (source, destination)
            }
            _ => return None,
        };
        Some(self.ends.clone().request(source.clone(), destination.clone()))
    }
}

#[derive(Debug, Args)]
#[command(override_usage = "mill restore [OPTIONS] --from <STORE> <ACCOUNT> <SPACE> <TO>\n       \
                            mill restore [OPTIONS] --mirror <SOURCE> <DESTINATION> <TO>")]
#[allow(clippy::struct_excessive_bools)] // each is a flag of the command line
pub(crate) struct RestoreArgs {
    /// The account and the space, and the place to bring the copy back to: a folder, or s3://BUCKET/PREFIX. With --mirror, that
    /// place alone. What is there already is kept unless it differs
    #[arg(required = true, num_args = 1..=3, value_names = ["ACCOUNT", "SPACE", "TO"])]
    pub(crate) places: Vec<PathBuf>,
    /// The store to bring it back from
    #[arg(long, value_name = "STORE", required_unless_present = "mirror", conflicts_with = "mirror")]
    pub(crate) from: Option<String>,
    /// Bring back the DESTINATION of this mirror; its SOURCE may be gone
    #[arg(long, num_args = 2, value_names = ["SOURCE", "DESTINATION"])]
    pub(crate) mirror: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) ends: EndpointArgs,
    /// The address of the S3 service of TO
    #[arg(long, value_name = "URL")]
    pub(crate) to_endpoint: Option<String>,
    /// The region of TO
    #[arg(long, value_name = "REGION")]
    pub(crate) to_region: Option<String>,
    /// The profile of the AWS configuration by which TO is written
    #[arg(long, value_name = "NAME")]
    pub(crate) to_profile: Option<String>,
    /// Make the bucket of TO, if it is not there
    #[arg(long)]
    pub(crate) create: bool,
    /// Replace files at TO that differ, by what is proven to be as it was copied
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Bring back also what is not as it was when it was copied, which is named all the same, and let what was never proven
    /// replace files that differ
    #[arg(long)]
    pub(crate) unproven: bool,
    /// Print the summary as one JSON object, on the last line of standard output
    #[arg(long)]
    pub(crate) json: bool,
}

impl RestoreArgs {
    /// The mirror whose copy is to come back, if it is one.
    pub(crate) fn mirror(&self) -> Option<MirrorRequest> {
        self.ends.mirror(&self.mirror)
    }

    /// How to reach TO in S3.
    pub(crate) fn to_options(&self) -> EndpointOptions {
        let Self { to_endpoint, to_region, to_profile, .. } = self;
        EndpointOptions { endpoint: to_endpoint.clone(), region: to_region.clone(), profile: to_profile.clone() }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum SpacesCommand {
    /// Show it
    #[command(after_help = examples::SPACES_OWNER)]
    Owner(DestinationSpaceArgs),
    /// Let another source take the space over: after moving an account to another source store, say
    #[command(after_help = examples::SPACES_RELEASE)]
    Release(DestinationSpaceArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum PlacesCommand {
    /// List the folders of all destinations: where each was, and whether it is there
    #[command(after_help = examples::PLACES_LIST)]
    List,
    /// Accept what stands at a destination's root now, after its disk was replaced, say
    #[command(after_help = examples::PLACES_ACCEPT)]
    Accept {
        /// The account
        account: String,
        /// The destination store
        store: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DestinationSpaceArgs {
    /// The account
    pub(crate) account: String,
    /// The destination store
    pub(crate) store: String,
    /// The space
    pub(crate) space: String,
}

#[derive(Debug, Args)]
pub(crate) struct HeldArgs {
    #[command(subcommand)]
    pub(crate) command: HeldCommand,
    /// Those of a one-off mirror, instead of the configured installation
    #[arg(long, global = true, num_args = 2, value_names = ["SOURCE", "DESTINATION"])]
    pub(crate) mirror: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) ends: EndpointArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    #[command(subcommand)]
    pub(crate) command: RunsCommand,
    /// Those of a one-off mirror, instead of the configured installation
    #[arg(long, global = true, num_args = 2, value_names = ["SOURCE", "DESTINATION"])]
    pub(crate) mirror: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) ends: EndpointArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List the last hundred, the last one first
    #[command(after_help = examples::RUNS_LIST)]
    List {
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Show one: the first items that it changed or could not, its remarks and its sums
    #[command(after_help = examples::RUNS_SHOW)]
    Show {
        /// Its id, as listed [default: the last one]
        id: Option<String>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum HeldCommand {
    /// List them
    #[command(after_help = examples::HELD_LIST)]
    List {
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Name each item of one list
    #[command(after_help = examples::HELD_SHOW)]
    Show {
        /// Its token, as listed
        token: String,
    },
    /// Let a list go: its items are deleted, as far as each is still gone when its turn comes
    #[command(after_help = examples::HELD_CONFIRM)]
    Confirm {
        /// The tokens, as listed
        #[arg(required = true)]
        tokens: Vec<String>,
    },
    /// Drop a list; what is still gone then is held again by the next run
    #[command(after_help = examples::HELD_WITHDRAW)]
    Withdraw {
        /// The tokens, as listed
        #[arg(required = true)]
        tokens: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DeadLettersArgs {
    #[command(subcommand)]
    pub(crate) command: DeadLettersCommand,
    /// Those of a one-off mirror, instead of the configured installation
    #[arg(long, global = true, num_args = 2, value_names = ["SOURCE", "DESTINATION"])]
    pub(crate) mirror: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) ends: EndpointArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// List them
    #[command(after_help = examples::DEAD_LETTERS_LIST)]
    List {
        /// Also those retried or discarded
        #[arg(long)]
        all: bool,
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Show one with its whole history
    #[command(after_help = examples::DEAD_LETTERS_SHOW)]
    Show {
        /// Its id, as listed
        id: String,
    },
    /// Send one, or all, to their queues again
    #[command(after_help = examples::DEAD_LETTERS_RETRY)]
    Retry {
        /// Their ids, as listed
        #[arg(required_unless_present = "all")]
        ids: Vec<String>,
        /// All open ones
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
    /// Close one, or all, with a reason
    #[command(after_help = examples::DEAD_LETTERS_DISCARD)]
    Discard {
        /// Their ids, as listed
        #[arg(required_unless_present = "all")]
        ids: Vec<String>,
        /// All open ones
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        /// Why
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show each value and where it comes from
    #[command(after_help = examples::CONFIG)]
    Show,
}
