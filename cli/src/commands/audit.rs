//! `mill audit`: shows, verifies, proves and exports what happened to content.

mod export;
mod index;
mod log;
mod target;
mod verify;

use std::path::Path;

use anyhow::{Context as _, Result};
use indicatif::MultiProgress;
use mill_app::audit_log::erasure::Erased;
use mill_app::audit_log::keys::{self, NewKey};
use mill_app::audit_log::readable_log::{LogChoice, ReadableLog};
use mill_app::audit_log::verification::entries;
use mill_app::config::Config;
use mill_app::counted::counted;
use mill_app::installation::Installation;
use mill_app::result_code::ResultCode;
use mill_model::{AccountId, ContentId};

use crate::args::{AuditCommand, AuditSpaceArgs};
use crate::output::{line, print_error};

/// Runs it.
pub(super) async fn run(
    command: AuditCommand,
    config: impl AsyncFn() -> Result<Config>,
    bars: MultiProgress,
) -> Result<ResultCode> {
    match command {
        AuditCommand::NewKey { origin, out } => new_key(&origin, &out),
        AuditCommand::PublicKey { account } => {
            let config = config().await?;
            let installation = Installation::configured(&config).await?;
            for key in keys::public_keys(&installation, config.base(), &account).await? {
                line(key.to_string());
            }
            Ok(ResultCode::Done)
        }
        AuditCommand::Log(args) => log::run(args, &config().await?).await,
        AuditCommand::Verify(args) => verify::run(args, config, &bars).await,
        AuditCommand::Prove { space, item, out, keys } => {
            let keys = keys::parse_keys(&keys.key)?;
            let choice = LogChoice { account: Some(space.account.clone()), keys, ..LogChoice::default() };
            prove((&space, &item), &out, &choice, &config().await?).await
        }
        AuditCommand::Export(args) => export::run(args, &config().await?).await,
        AuditCommand::Index(args) => index::run(args, &config().await?).await,
        AuditCommand::EraseUser { account, user, keys } => {
            let keys = keys::parse_keys(&keys.key)?;
            let choice = LogChoice { account: Some(account.clone()), keys, ..LogChoice::default() };
            erase_user((&account, &user), &choice, &config().await?).await
        }
    }
}

fn new_key(origin: &str, out: &Path) -> Result<ResultCode> {
    let NewKey { public, file } = keys::new_key(origin, out)?;
    line(public.to_string());
    let file = std::path::absolute(&file).unwrap_or(file);
    let member = serde_json::json!({ "stores": ["2"], "origin": origin, "signingKeyFile": file.to_string_lossy() });
    print_error(&format!(
        "the secret key is in `{}`, and only you may read it; keep a copy of it, apart from the stores of the log.\n\
         \n\
         Next, in the stores file of the account (the stores are those that will keep the log):\n\
         \n\
         \x20 \"auditLog\": {member}\n\
         \n\
         and `\"audited\": true` at each store whose changes are to be recorded. Publish the line on standard output: it is the \
         public key, by which others verify the log",
        file.display(),
    ));
    Ok(ResultCode::Done)
}

/// Opens the chosen logs, with the keys from where the configuration says.
async fn opened(installation: &Installation, config: &Config, choice: &LogChoice) -> Result<Vec<ReadableLog>> {
    ReadableLog::open(installation, config.base(), choice).await
}

async fn prove(
    (space, item): (&AuditSpaceArgs, &ContentId),
    out: &Path,
    choice: &LogChoice,
    config: &Config,
) -> Result<ResultCode> {
    let installation = Installation::configured(config).await?;
    let logs = opened(&installation, config, choice).await?;
    let log = logs.first().context("the account has no audit log")?;
    let proven = log.prove((&space.store, &space.space, item), out).await?;
    line(format!(
        "`{}` proves {}; `python3 {}` verifies it without Mill",
        out.display(),
        entries(proven.len() as u64),
        out.join("verify.py").display()
    ));
    Ok(ResultCode::Done)
}

async fn erase_user((account, user): (&AccountId, &str), choice: &LogChoice, config: &Config) -> Result<ResultCode> {
    let installation = Installation::configured(config).await?;
    let logs = opened(&installation, config, choice).await?;
    let log = logs.first().context("the account has no audit log")?;
    let Erased { entries: erased, waiting } = log.erase_user(user).await?;
    line(format!("the name was erased from {}; the entries of the log of `{account}` stay", counted(erased, "row")));
    if waiting > 0 {
        print_error(&format!(
            "{} with this name still wait to be published; run this again after that",
            counted(waiting, "event")
        ));
        return Ok(ResultCode::Warnings);
    }
    Ok(ResultCode::Done)
}
