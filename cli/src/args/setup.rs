//! The arguments of what sets an installation up.

use std::path::PathBuf;

use clap::Subcommand;

use crate::examples;

#[derive(Debug, Subcommand)]
pub(crate) enum InfraCommand {
    /// Compare the deployed queues, tables and policy bucket with what this mill assumes
    #[command(after_help = examples::INFRA_CHECK)]
    Check,
    /// Make the queues and tables that are missing; for trials, and for services without CloudFormation
    #[command(after_help = examples::INFRA_CREATE)]
    Create,
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

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show each value and where it comes from
    #[command(after_help = examples::CONFIG)]
    Show,
}
