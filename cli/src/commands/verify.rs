//! `mill verify`: read copies again and compare them with their sources.

use std::time::Instant;

use anyhow::Result;
use mill_app::config::Config;
use mill_app::installation::Installation;
use mill_app::result_code::ResultCode;
use mill_app::verify::{Verifier, VerifyReport};
use mill_model::{AccountId, SpaceId};
use serde_json::json;

use crate::args::VerifyArgs;
use crate::output::{bytes, line};

/// Runs it.
pub(super) async fn run(args: VerifyArgs, config: impl AsyncFn() -> Result<Config>) -> Result<ResultCode> {
    let began = Instant::now();
    let verifier = Verifier::new(args.sample, |remark| line(format!("! {remark}")));
    let report = if let [source, destination] = args.folders.as_slice() {
        verifier.folders(source, destination).await?
    } else {
        let installation = Installation::configured(&config().await?).await?;
        let only_account = args.account.as_deref().map(AccountId::new).transpose()?;
        let only_space = args.space.as_deref().map(SpaceId::new).transpose()?;
        verifier.installation(&installation, only_account.as_ref(), only_space.as_ref()).await?
    };
    print(&report, args.json, began.elapsed().as_secs_f64());
    Ok(report.result())
}

fn print(report: &VerifyReport, as_json: bool, seconds: f64) {
    let VerifyReport { examined, equal, bytes: read, faults, properties_unknown, left_out, pairs } = *report;
    let result = report.result();
    if as_json {
        line(
            json!({ "examined": examined, "equal": equal, "faults": faults, "bytes": read,
                "left_out": left_out, "properties_unknown": properties_unknown,
                "seconds": (seconds * 1000.0).round() / 1000.0, "exit_code": result.code() })
            .to_string(),
        );
        return;
    }
    let how = match result {
        ResultCode::Warnings if pairs == 0 => "There was nothing to verify",
        ResultCode::Warnings => "Every item looked at is as it should be, but for what is told here",
        ResultCode::Done => "Every item looked at is as it should be",
        _ => "Not all is as it should be",
    };
    let read = bytes(read);
    line(format!("{how}: {examined} examined, {equal} read and equal, {faults} faults; {read} in {seconds:.1} s."));
    if properties_unknown > 0 {
        line(format!(
            "Of {properties_unknown} the bytes are equal, and the mode and time are not known: the disk does not keep them, \
             and what Mill wrote down is of another state of these files. The next mirror writes it down anew."
        ));
    }
}
