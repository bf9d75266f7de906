//! `mill audit export`.

use anyhow::{Context as _, Result};
use mill_app::audit_log::entry_filter::EntryFilter;
use mill_app::audit_log::export;
use mill_app::audit_log::keys::parse_keys;
use mill_app::audit_log::readable_log::LogChoice;
use mill_app::audit_log::verification::entries;
use mill_app::config::Config;
use mill_app::installation::Installation;
use mill_app::result_code::ResultCode;

use super::target;
use crate::args::AuditExportArgs;
use crate::output::print_error;

/// Runs it.
pub(super) async fn run(args: AuditExportArgs, config: &Config) -> Result<ResultCode> {
    let installation = Installation::configured(config).await?;
    let choice = LogChoice { account: Some(args.account), keys: parse_keys(&args.keys.key)?, ..LogChoice::default() };
    let logs = super::opened(&installation, config, &choice).await?;
    let log = logs.first().context("the account has no audit log")?;
    super::log::say_waiting(log).await?;
    let Some(reader) = log.reader().await? else {
        print_error(&format!("nothing is published in the audit log `{}` yet, so nothing was exported", log.origin()));
        return Ok(ResultCode::Warnings);
    };
    let filter = EntryFilter { store: args.store, space: args.space, ..EntryFilter::default() };
    let exported =
        target::written(args.out.as_deref(), async |out| export::export(&reader, &filter, args.format, out).await);
    if let (Some(count), Some(out)) = (exported.await?, &args.out) {
        print_error(&format!("`{}` has {}", out.display(), entries(count)));
    }
    Ok(ResultCode::Done)
}
