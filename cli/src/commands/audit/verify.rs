//! `mill audit verify`: whether anything is wrong with a log, or with proofs from it.

use std::fs;
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use indicatif::{MultiProgress, ProgressBar};
use mill_app::UsageError;
use mill_app::audit_log::keys::parse_keys;
use mill_app::audit_log::log_fault::LogFault;
use mill_app::audit_log::proof_folder::verify_folder;
use mill_app::audit_log::readable_log::{LogChoice, ReadableLog};
use mill_app::audit_log::verification::{LogVerification, VerifiedCopy, entries};
use mill_app::config::Config;
use mill_app::counted::grouped;
use mill_app::installation::Installation;
use mill_app::result_code::ResultCode;
use mill_transparency::PublicKey;
use parking_lot::Mutex;
use serde_json::json;

use crate::args::AuditVerifyArgs;
use crate::output::{line, print_error};

/// Runs it.
pub(super) async fn run(
    args: AuditVerifyArgs,
    config: impl AsyncFn() -> Result<Config>,
    bars: &MultiProgress,
) -> Result<ResultCode> {
    let keys = parse_keys(&args.keys.key)?;
    if let Some(folder) = &args.proof {
        return proofs(folder, keys, args.json);
    }
    if let Some(folder) = &args.folder {
        return verify(&[ReadableLog::of_folder(folder, keys)?], &args, bars).await;
    }
    let config = config().await?;
    let installation = Installation::configured(&config).await?;
    let choice = LogChoice { account: args.account.clone(), store: args.store.clone(), keys };
    let logs = super::opened(&installation, &config, &choice).await?;
    verify(&logs, &args, bars).await
}

async fn verify(logs: &[ReadableLog], args: &AuditVerifyArgs, bars: &MultiProgress) -> Result<ResultCode> {
    if logs.len() > 1 && (args.from.is_some() || args.save_checkpoint.is_some()) {
        return Err(UsageError("several accounts have a log; name the one whose checkpoint this is".into()).into());
    }
    let mut result = ResultCode::Done;
    for log in logs {
        let kept = match &args.from {
            Some(file) => {
                let note =
                    fs::read(file).map_err(|why| UsageError(format!("`{}` cannot be read: {why}", file.display())))?;
                Some(log.kept_checkpoint(&note).with_context(|| format!("`{}`", file.display()))?.checkpoint)
            }
            None => None,
        };
        let progress = VerifyProgress::begin(bars);
        let found = log.verify(kept.as_ref(), &|copy, done, size| progress.show(copy, done, size)).await;
        progress.end();
        let found = found?;
        result = result.max(report(log, &found, args.json));
        if let (Some(file), Some(newest), true) = (&args.save_checkpoint, found.newest(), found.faults.is_empty()) {
            save(file, &newest.checkpoint.note.to_string())?;
        }
        super::log::say_waiting(log).await?;
    }
    Ok(result)
}

fn report(log: &ReadableLog, found: &LogVerification, as_json: bool) -> ResultCode {
    let origin = log.origin();
    for copy in &found.verified {
        line(if as_json {
            json_of(origin, copy)
        } else {
            format!("audit log `{origin}` in {}: {}", copy.copy, copy.sentence())
        });
        if copy.later_form > 0 {
            print_error(&format!(
                "{} of it are of a form that this mill cannot read; their hashes are right",
                entries(copy.later_form)
            ));
        }
    }
    for fault in &found.faults {
        if as_json {
            line(json_of_fault(origin, fault));
        }
        print_error(&format!(
            "the audit log `{origin}` in {} is not verified: {}. Leave it as it is, compare it with another copy or a kept \
             checkpoint, and find out who could write there",
            fault.copy,
            fault.sentence()
        ));
    }
    if !found.faults.is_empty() {
        return ResultCode::Error;
    }
    let size = found.newest().map_or(0, VerifiedCopy::size);
    let behind: Vec<&VerifiedCopy> = found.verified.iter().filter(|copy| copy.is_behind).collect();
    for copy in &behind {
        print_error(&format!(
            "the audit log in {} has only the first {} of {}; what publishes the log next completes it",
            copy.copy,
            grouped(copy.size()),
            grouped(size)
        ));
    }
    if behind.is_empty() { ResultCode::Done } else { ResultCode::Warnings }
}

fn json_of(origin: &str, copy: &VerifiedCopy) -> String {
    json!({
        "log": origin, "copy": copy.copy, "verified": true, "entries": copy.size(), "beside": copy.beside,
        "root": copy.checkpoint.checkpoint.root.to_string(),
        "lastAt": copy.last_at.map(|at| at.to_string()), "keptEntries": copy.kept,
    })
    .to_string()
}

fn json_of_fault(origin: &str, fault: &LogFault) -> String {
    json!({
        "log": origin, "copy": fault.copy, "verified": false, "fault": fault.sentence(),
        "firstBadEntry": fault.first_bad_entry,
    })
    .to_string()
}

/// Replaces a file, whole or not at all.
fn save(file: &Path, note: &str) -> Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let written = fs::write(&beside, note).and_then(|()| fs::rename(&beside, file));
    written.with_context(|| format!("the checkpoint was verified, and cannot be written to `{}`", file.display()))
}

fn proofs(folder: &Path, keys: Vec<PublicKey>, as_json: bool) -> Result<ResultCode> {
    let proven = verify_folder(folder, keys)?;
    for entry in &proven.entries {
        line(if as_json {
            json!({ "log": proven.origin, "index": entry.index, "entries": entry.size, "event": entry.event })
                .to_string()
        } else {
            format!(
                "entry {} of {} of `{}` is proven: {} of `{}` in store `{}` at {}",
                entry.index,
                grouped(entry.size),
                proven.origin,
                entry.event.action,
                entry.event.subject(),
                entry.event.store,
                entry.event.happened_at()
            )
        });
    }
    if proven.key_beside {
        print_error("the key is the one that lay beside the proofs; compare `key.txt` with the key that was published");
    }
    Ok(ResultCode::Done)
}

/// Shows how far a verification is: a bar on a terminal, a line every ten seconds elsewhere.
struct VerifyProgress {
    bar: Option<ProgressBar>,
    said: Mutex<Instant>,
}

const PLAIN_EVERY: Duration = Duration::from_secs(10);

impl VerifyProgress {
    fn begin(bars: &MultiProgress) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bars.add(ProgressBar::new(0)));
        Self { bar, said: Mutex::new(Instant::now()) }
    }

    fn show(&self, copy: &str, done: u64, size: u64) {
        let Some(bar) = &self.bar else {
            let mut said = self.said.lock();
            if said.elapsed() >= PLAIN_EVERY {
                *said = Instant::now();
                print_error(&format!("{copy}: {} of {} verified", grouped(done), entries(size)));
            }
            return;
        };
        bar.set_length(size);
        bar.set_position(done);
        bar.set_message(copy.to_owned());
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
