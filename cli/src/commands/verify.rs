//! `mill verify`: read copies again and compare them with their sources.

use std::fmt::Display;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use mill_app::UsageError;
use mill_app::config::Config;
use mill_app::counted::counted;
use mill_app::installation::Installation;
use mill_app::mirror::MirrorRequest;
use mill_app::result_code::ResultCode;
use mill_app::verify::{Verifier, VerifyReport};
use mill_model::{AccountId, SpaceId};
use serde_json::json;

use crate::args::{VerifyArgs, names_of};
use crate::output::{bytes, line};

/// Runs it.
pub(super) async fn run(
    args: VerifyArgs,
    ends: Option<MirrorRequest>,
    config: impl AsyncFn() -> Result<Config>,
) -> Result<ResultCode> {
    let began = Instant::now();
    let verifier = Verifier::new(args.sample, names_of(ends.as_ref()), |remark| line(format!("! {remark}")));
    let is_pair = ends.is_some();
    let compared = if let Some(ends) = ends {
        Box::pin(verifier.ends(&ends)).await?
    } else {
        let mut named = args.places.iter().map(|place| text(place));
        let (only_account, only_space) = (named.next().transpose()?, named.next().transpose()?);
        let only_account = only_account.map(AccountId::new).transpose().map_err(wrong_place)?;
        let only_space = only_space.map(SpaceId::new).transpose().map_err(wrong_place)?;
        if args.ends.any() {
            return Err(UsageError("--source-… and --destination-… belong to two ends: name both".to_owned()).into());
        }
        let installation = Installation::configured(&config().await?).await?;
        verifier.installation(&installation, only_account.as_ref(), only_space.as_ref()).await?
    };
    let (report, seconds) = (compared.report.clone(), began.elapsed().as_secs_f64());
    let is_kept = compared.write_down(sentence(&report, seconds)).await;
    if args.json || !args.quiet || report.result() != ResultCode::Done {
        print(&report, args.json, seconds);
    }
    if is_pair && !is_kept && !args.json && !args.quiet {
        line(
            "No record of this is kept, and no run learns of it: here `mill mirror` never copied the first of the two to the second. \
             If it copies them the other way round, or by other paths, name them as it does.",
        );
    }
    Ok(report.result())
}

fn text(place: &Path) -> Result<&str> {
    place.to_str().ok_or_else(|| wrong_place(format!("`{}` is not UTF-8", place.display())))
}

fn wrong_place(why: impl Display) -> anyhow::Error {
    UsageError(format!("{why}; name an account, an account and a space, or two ends")).into()
}

fn print(report: &VerifyReport, as_json: bool, seconds: f64) {
    let VerifyReport { examined, equal, bytes: read, faults, properties_unknown, left_out, not_compared, .. } = *report;
    let result = report.result();
    if as_json {
        line(
            json!({ "examined": examined, "equal": equal, "faults": faults, "bytes": read,
                "left_out": left_out, "properties_unknown": properties_unknown, "not_compared": not_compared,
                "damaged_copies": report.damaged_copies, "damaged_sources": report.damaged_sources,
                "seconds": (seconds * 1000.0).round() / 1000.0, "exit_code": result.code() })
            .to_string(),
        );
        return;
    }
    line(sentence(report, seconds));
    if report.damaged_copies > 0 {
        line("A damaged copy is compared again by the next run, which copies the item anew.");
    }
    if report.damaged_sources > 0 {
        line(
            "No run copies the damaged bytes of a source over its copy, nor deletes that copy. Restore the item into another folder \
             (`mill restore … --item NAME`), and bring it back from there.",
        );
    }
    if report.unknown_sides > 0 {
        line(format!(
            "The bytes of {} differ, and mill does not know whether a side was damaged or only edited. A run copies the source over \
             the copy: look first.",
            counted(report.unknown_sides, "item")
        ));
    }
    if let Some(what) = report.types.not_compared() {
        line(format!("Not compared for any item: {what}."));
    }
    if properties_unknown > 0 {
        line(format!(
            "Of {properties_unknown} the bytes are equal, and the mode and time are not known: the disk does not keep them, \
             and what Mill wrote down is of another state of these files. The next mirror writes it down anew."
        ));
    }
}

/// What a verification came to, in one sentence.
fn sentence(report: &VerifyReport, seconds: f64) -> String {
    let VerifyReport { examined, equal, bytes: read, faults, not_compared, pairs, .. } = *report;
    let how = match report.result() {
        ResultCode::Warnings if pairs == 0 => "There was nothing to verify",
        ResultCode::Warnings => "Every item looked at is as it should be, but for what is told here",
        ResultCode::Done => "Every item looked at is as it should be",
        _ => "Source and copy differ as named above",
    };
    let named = if not_compared > 0 { format!(", {not_compared} not compared") } else { String::new() };
    let (read, faults) = (bytes(read), counted(faults, "fault"));
    format!(
        "{how}: {examined} of the source examined, {equal} read and equal, {faults}{named}; {read} in {seconds:.1} s."
    )
}
