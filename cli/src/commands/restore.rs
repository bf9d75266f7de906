//! `mill restore`: brings a copy back.

use std::time::Instant;

use anyhow::{Result, anyhow};
use mill_app::UsageError;
use mill_app::config::Config;
use mill_app::installation::Installation;
use mill_app::restore::{MirrorRestoration, NamedParts, RestoreRequest, SpaceCopy};
use mill_app::result_code::ResultCode;
use mill_app::subject_names::RestoreNames;
use mill_model::{AccountId, SpaceId, StoreId};
use serde_json::json;

use crate::args::{RestoreArgs, names_of};
use crate::output::{bytes, line};

/// Runs it.
pub(super) async fn run(args: RestoreArgs, config: impl AsyncFn() -> Result<Config>) -> Result<ResultCode> {
    let began = Instant::now();
    let (place, mirror) = (args.places.last().cloned().unwrap_or_default(), args.mirror());
    let request = RestoreRequest {
        to: place.clone(),
        to_options: args.to_options(),
        parts: NamedParts::of(&args.item).map_err(|error| UsageError(format!("--item: {error}")))?,
        create: args.create,
        overwrite: args.overwrite,
        unproven: args.unproven,
    };
    let shown = place.display().to_string();
    let names = RestoreNames { copy: names_of(mirror.as_ref()), to: &shown };
    let restored = match (&mirror, args.places.as_slice()) {
        (Some(mirror), [_]) => named(&names, Box::pin(request.mirror(mirror)).await)?,
        (None, [account, space, _]) => {
            let copy = SpaceCopy {
                account: AccountId::new(account.display().to_string())?,
                space: SpaceId::new(space.display().to_string())?,
                from: StoreId::new(args.from.clone().unwrap_or_default())?,
            };
            if args.ends.any() {
                return Err(UsageError("--source-… and --destination-… belong to --mirror".to_owned()).into());
            }
            let config = config().await?;
            let installation = Installation::configured(&config).await?;
            let report = named(&names, Box::pin(request.space(&copy, &installation, &config)).await)?;
            MirrorRestoration { report, is_known: true }
        }
        (Some(_), _) => return Err(UsageError("with --mirror, name only the place to bring it back to".into()).into()),
        (None, _) => {
            return Err(UsageError("name the account, the space and the place to bring it back to".into()).into());
        }
    };
    let result = match &restored.report {
        report if !report.faults.is_empty() => ResultCode::Partial,
        report if !report.not_kept.is_empty() => ResultCode::Warnings,
        // Nothing vouches for these bytes: success would be taken for a proof, unless this was asked for.
        report if report.unproven() > 0 && !args.unproven => ResultCode::Warnings,
        _ => ResultCode::Done,
    };
    print(&restored, &args, (began.elapsed().as_secs_f64(), result), &names);
    Ok(result)
}

/// The error with the names that the person typed.
fn named<T>(names: &RestoreNames<'_>, result: Result<T>) -> Result<T> {
    result.map_err(|error| match error {
        usage if usage.is::<UsageError>() => usage,
        error => anyhow!(names.text(&format!("{error:#}"))),
    })
}

fn print(
    MirrorRestoration { report: restored, is_known }: &MirrorRestoration,
    args: &RestoreArgs,
    (seconds, exit): (f64, ResultCode),
    names: &RestoreNames<'_>,
) {
    for fault in restored.faults.iter().chain(&restored.not_kept) {
        line(format!("! {}: {}", fault.item, names.text(&fault.what.to_string())));
    }
    if !is_known {
        line("No `mill mirror` of these two is known here, so there are no sync proofs of the copy.");
    }
    if args.json {
        line(
            json!({ "copied": restored.copied, "unchanged": restored.unchanged, "proven": restored.proven,
                "unproven": restored.unproven(), "not_kept": restored.not_kept.len(),
                "faults": restored.faults.len(), "bytes": restored.bytes,
                "seconds": (seconds * 1000.0).round() / 1000.0, "exit_code": exit.code() })
            .to_string(),
        );
        return;
    }
    let how = match (restored.faults.len(), restored.copied + restored.unchanged) {
        (0, _) if args.item.is_empty() => "The copy is back",
        (0, _) => "What was asked for is back",
        (_, 0) => "Nothing was brought back",
        _ => "Restored, but for what is named above",
    };
    line(format!(
        "{how}: {} brought back, {} there already; {} in {seconds:.1} s.",
        restored.copied,
        restored.unchanged,
        bytes(restored.bytes)
    ));
    if restored.proven > 0 {
        line(format!("Proven to be what was copied: {}.", restored.proven));
    }
    if !restored.not_kept.is_empty() {
        line(format!(
            "Of {} the bytes are back, and the place that they are in now does not keep all of what else they had.",
            restored.not_kept.len()
        ));
    }
    if restored.unproven() > 0 {
        line(format!(
            "Of {} mill has no record of what was copied: they are as the copy has them, and whether it was damaged is not known.",
            restored.unproven()
        ));
    }
}
