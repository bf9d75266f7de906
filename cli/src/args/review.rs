//! The arguments of what looks at copies, brings them back, and reviews what waits for a person.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mill_app::mirror::{EndpointOptions, MirrorRequest};
use mill_policy::ServerOption;

use super::EndpointArgs;
use crate::examples;

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
    /// Say nothing if every item is as it should be, for cron
    #[arg(long, short)]
    pub(crate) quiet: bool,
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
    /// How the server of TO differs from Amazon's: pathStyle=false, wholeChecksums=false
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) to_option: Vec<ServerOption>,
    /// Make the bucket of TO, if it is not there
    #[arg(long)]
    pub(crate) create: bool,
    /// Bring back only this item, or what lies in this folder of the copy; may be given again
    #[arg(long, value_name = "NAME")]
    pub(crate) item: Vec<String>,
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
        EndpointOptions {
            endpoint: self.to_endpoint.clone(),
            region: self.to_region.clone(),
            profile: self.to_profile.clone(),
            options: self.to_option.clone(),
        }
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
