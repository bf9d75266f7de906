//! The arguments of `mill audit`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use mill_app::audit_log::export::ExportFormat;
use mill_app::audit_log::manifest::ManifestFormat;
use mill_model::{AccountId, AuditAction, ContentId, SpaceId, StoreId};

use crate::examples::audit as examples;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Make the signing key of a new audit log, in a file for you alone, and print its public key
    #[command(after_help = examples::NEW_KEY)]
    NewKey {
        /// The log's name, which no other log has, such as archive.example.org/audit
        origin: String,
        /// The file of the secret key. One that is there is never replaced
        #[arg(long, value_name = "FILE", default_value = "audit-key")]
        out: PathBuf,
    },
    /// Print the public keys of an account's log, for those who verify it
    #[command(after_help = examples::PUBLIC_KEY)]
    PublicKey {
        /// The account
        account: AccountId,
    },
    /// Show what happened to content: the entries of the published log, in order
    #[command(after_help = examples::LOG)]
    Log(AuditLogArgs),
    /// Verify a log: every entry, every hash, the signature, and that nothing was rewritten or removed
    #[command(after_help = examples::VERIFY)]
    Verify(AuditVerifyArgs),
    /// Prove what the log says of one item to somebody without Mill: a folder with entries, proofs and a program that checks them
    #[command(after_help = examples::PROVE)]
    Prove {
        #[command(flatten)]
        space: AuditSpaceArgs,
        /// The item
        item: ContentId,
        /// The folder to make
        #[arg(long, value_name = "FOLDER", default_value = "audit-proof")]
        out: PathBuf,
        #[command(flatten)]
        keys: PublicKeyArgs,
    },
    /// Export the log: in DuraCloud's columns, as JSON lines, or as events of PREMIS 3
    #[command(after_help = examples::EXPORT)]
    Export(AuditExportArgs),
    /// See to the content index of a space: what each item is, by the last change that is known of it
    #[command(after_help = examples::INDEX)]
    Index(AuditIndexArgs),
    /// Erase a person's name from what is kept beside the log; its entries stay and prove what they did
    #[command(after_help = examples::ERASE_USER)]
    EraseUser {
        /// The account
        account: AccountId,
        /// The name
        user: String,
        #[command(flatten)]
        keys: PublicKeyArgs,
    },
}

/// Public keys that a person gives.
#[derive(Debug, Args)]
pub(crate) struct PublicKeyArgs {
    /// The public key of the log, where its secret key cannot be read; once for each, if it has an old and a new one
    #[arg(long, value_name = "VKEY")]
    pub(crate) key: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditSpaceArgs {
    /// The account
    pub(crate) account: AccountId,
    /// The store
    pub(crate) store: StoreId,
    /// The space
    pub(crate) space: SpaceId,
}

#[derive(Debug, Args)]
pub(crate) struct AuditLogArgs {
    /// The log of this account [default: those of all]
    #[arg(long)]
    pub(crate) account: Option<AccountId>,
    /// Only changes in this store
    #[arg(long)]
    pub(crate) store: Option<StoreId>,
    /// Only changes in this space
    #[arg(long)]
    pub(crate) space: Option<SpaceId>,
    /// Only changes of this item. With --store and --space, its entries are found by an index
    #[arg(long)]
    pub(crate) item: Option<ContentId>,
    /// Only changes of this sort, such as add-content or delete-content
    #[arg(long)]
    pub(crate) action: Option<AuditAction>,
    /// Only changes by this person, as far as the name is kept
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Only changes from this time on: 2026-11-30, 2026-11-30T08:00:00Z, or how long ago, such as 2h
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only changes before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Only the last so many of them
    #[arg(long, value_name = "N")]
    pub(crate) last: Option<usize>,
    /// Go on with what is published from now on, until stopped
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Print JSON lines, with names exactly as they are
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) keys: PublicKeyArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AuditVerifyArgs {
    /// The log of this account [default: those of all]
    #[arg(conflicts_with_all = ["folder", "proof"])]
    pub(crate) account: Option<AccountId>,
    /// Only what this store has of it
    #[arg(long, conflicts_with_all = ["folder", "proof"])]
    pub(crate) store: Option<StoreId>,
    /// Verify a log whose files are in this folder; no configuration is needed
    #[arg(long, value_name = "FOLDER", conflicts_with = "proof", requires = "key")]
    pub(crate) folder: Option<PathBuf>,
    /// Verify a folder that `mill audit prove` made; no log and no configuration is needed
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["from", "save_checkpoint"])]
    pub(crate) proof: Option<PathBuf>,
    /// An older checkpoint of the log: it must begin with exactly those entries
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// Keep the checkpoint that was verified in this file, for --from next time. Keep it where nobody who writes the log can
    #[arg(long, value_name = "FILE")]
    pub(crate) save_checkpoint: Option<PathBuf>,
    /// Print a JSON line for each copy of a log, or for each entry of --proof
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) keys: PublicKeyArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AuditExportArgs {
    /// The account
    pub(crate) account: AccountId,
    /// Only changes in this space
    pub(crate) space: Option<SpaceId>,
    /// Only changes in this store
    #[arg(long)]
    pub(crate) store: Option<StoreId>,
    /// The form: tsv, json or premis
    #[arg(long)]
    pub(crate) format: ExportFormat,
    /// A new file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) keys: PublicKeyArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AuditIndexArgs {
    #[command(flatten)]
    pub(crate) space: AuditSpaceArgs,
    #[command(subcommand)]
    pub(crate) command: AuditIndexCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditIndexCommand {
    /// Make it anew from what is in the store; items that are gone stay known as deleted
    #[command(after_help = examples::INDEX_REBUILD)]
    Rebuild,
    /// Compare it with what is in the store, and name each difference; exit code 2 if there is one
    #[command(after_help = examples::INDEX_COMPARE)]
    Compare {
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Print a manifest of the items that it has
    #[command(after_help = examples::INDEX_EXPORT)]
    Export {
        /// The form: tsv as DuraCloud has it, or bagit for a payload manifest
        #[arg(long)]
        format: ManifestFormat,
        /// Which checksums: md5 or sha256
        #[arg(long, default_value = "md5")]
        algorithm: String,
        /// A new file to write [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Forget items that were deleted long ago
    #[command(after_help = examples::INDEX_EXPIRE)]
    Expire {
        /// How long ago at least, such as 30d. Notices that are late by more can bring an item back into the index
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        older_than: Duration,
    },
}
