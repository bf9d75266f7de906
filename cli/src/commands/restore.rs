//! `mill restore`: restores a space from one of its copies.

use std::time::Instant;

use anyhow::Result;
use mill_app::config::Config;
use mill_app::installation::Installation;
use mill_app::restore::RestoreRequest;
use mill_app::result_code::ResultCode;
use mill_model::{AccountId, SpaceId, StoreId};
use mill_processors::restore::RestorationReport;
use serde_json::json;

use crate::args::RestoreArgs;
use crate::output::{bytes, line};

/// Runs it.
pub(super) async fn run(args: RestoreArgs, config: &Config) -> Result<ResultCode> {
    let began = Instant::now();
    let installation = Installation::configured(config).await?;
    let request = RestoreRequest {
        account: AccountId::new(args.account.as_str())?,
        space: SpaceId::new(args.space.as_str())?,
        from: StoreId::new(args.from.as_str())?,
        to: args.to.clone(),
        overwrite: args.overwrite,
        unproven: args.unproven,
    };
    let restored = request.run(&installation, config).await?;
    let result = if restored.faults.is_empty() { ResultCode::Done } else { ResultCode::Partial };
    print(&restored, &args, began.elapsed().as_secs_f64(), result);
    Ok(result)
}

fn print(restored: &RestorationReport, args: &RestoreArgs, seconds: f64, exit: ResultCode) {
    for fault in &restored.faults {
        line(format!("! {}: {}", fault.item, fault.what));
    }
    if args.json {
        line(
            json!({ "copied": restored.copied, "unchanged": restored.unchanged, "proven": restored.proven,
                "unproven": restored.unproven(),
                "faults": restored.faults.len(), "bytes": restored.bytes,
                "seconds": (seconds * 1000.0).round() / 1000.0, "exit_code": exit.code() })
            .to_string(),
        );
        return;
    }
    let how = if restored.faults.is_empty() { "The space is back" } else { "What is whole is back" };
    line(format!(
        "{how}: {} brought back, {} there already, {} of both proven by their sync proofs, {} named above; {} in {seconds:.1} s.",
        restored.copied,
        restored.unchanged,
        restored.proven,
        restored.faults.len(),
        bytes(restored.bytes)
    ));
    if restored.unproven() > 0 {
        line(format!(
            "Of {} no sync proof tells what was copied: their bytes are those of the copy, and nothing else vouches for them.",
            restored.unproven()
        ));
    }
}
