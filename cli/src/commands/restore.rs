//! `mill restore`: bring a space back from one of its copies.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use mill_app::UsageError;
use mill_app::config::Config;
use mill_app::exit::Exit;
use mill_app::files::create_folder;
use mill_app::installation::Works;
use mill_app::placement_checks::overlapping;
use mill_app::store_registry::open_plain;
use mill_local::folder::{Extent, Layout};
use mill_model::{AccountId, SpaceId, StoreAddress, StoreId};
use mill_policy::StoreKind;
use mill_processors::restore::{Restoration, RestorationReport};
use mill_records::sync_proofs::SpacePair;
use serde_json::json;

use crate::args::Restore;
use crate::output::{bytes, line};

/// Items in hand at once.
const AT_ONCE: usize = 64;

/// Runs it.
pub(super) async fn run(args: Restore, config: &Config) -> Result<Exit> {
    let began = Instant::now();
    let works = Works::configured(config).await?;
    let account = AccountId::new(args.account.as_str())?;
    let space = SpaceId::new(args.space.as_str())?;
    let from = StoreId::new(args.from.as_str())?;
    let policy = works.policies.account(&account).await?;
    if policy.store(&from).is_none() {
        let known: Vec<String> = policy.stores().iter().map(|store| store.id.to_string()).collect();
        bail!("account `{account}` has no store `{from}`; it has: {}", known.join(", "));
    }
    let store = policy.store(&from);
    if let Some(StoreKind::Folder { root }) = store.map(|store| &store.kind) {
        let extent =
            |path: &Path| Extent::of(path).with_context(|| format!("it is not known what `{}` holds", path.display()));
        if let Some(overlap) = extent(&config.base().join(root))?.overlap(&extent(&args.to)?) {
            return Err(UsageError(overlapping(&overlap)).into());
        }
    }
    let copy = works.stores.source(&account, &from).await?;
    // Before anything is made for it.
    Restoration::has_copy(&*copy, &space).await?;
    let made = !args.to.is_dir();
    if made {
        create_folder(&args.to).with_context(|| format!("`{}` cannot be made", args.to.display()))?;
    }
    let to = std::fs::canonicalize(&args.to)?;
    let address = StoreAddress { account: AccountId::new("restore")?, store: StoreId::new("to")? };
    let sealed = policy.stores().iter().filter(|store| store.id != from).map(|store| SpacePair {
        account: account.clone(),
        source: store.id.clone(),
        destination: from.clone(),
        space: space.clone(),
    });
    let restoration = Restoration {
        copy,
        from: StoreAddress { account: account.clone(), store: from.clone() },
        space: space.clone(),
        to: open_plain(works.engine.clock.clone(), address, to, Layout::Single(space.clone())),
        sealed: sealed.collect(),
        seals: works.seals(),
        overwrite: args.overwrite,
        unproven: args.unproven,
        concurrency: AT_ONCE.try_into()?,
    };
    restoration.to.remove_stale_uploads().await;
    let restored = restoration.run().await.inspect_err(|_| {
        // A restore that brought nothing back leaves no empty folder behind. A folder that holds something stays.
        if made {
            let _ = std::fs::remove_dir(&args.to);
        }
    })?;
    let exit = if restored.faults.is_empty() { Exit::Done } else { Exit::Partial };
    print(&restored, &args, began.elapsed().as_secs_f64(), exit);
    Ok(exit)
}

fn print(restored: &RestorationReport, args: &Restore, seconds: f64, exit: Exit) {
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
        "{how}: {} brought back, {} there already, {} of both proven by their seals, {} named above; {} in {seconds:.1} s.",
        restored.copied,
        restored.unchanged,
        restored.proven,
        restored.faults.len(),
        bytes(restored.bytes)
    ));
    if restored.unproven() > 0 {
        line(format!(
            "Of {} no seal tells what was copied: their bytes are those of the copy, and nothing else vouches for them.",
            restored.unproven()
        ));
    }
}
