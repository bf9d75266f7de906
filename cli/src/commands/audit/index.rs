//! `mill audit index`: the content index of a space.

use std::path::Path;

use anyhow::Result;
use mill_app::UsageError;
use mill_app::audit_log::index::{Compared, IndexDifference, Rebuilt, SpaceIndex};
use mill_app::audit_log::manifest::ManifestFormat;
use mill_app::config::Config;
use mill_app::counted::counted;
use mill_app::installation::Installation;
use mill_app::result_code::ResultCode;
use mill_model::ids::escape_for_display;
use mill_model::{Algorithm, ContentId};
use mill_records::content_index::IndexedSpace;
use serde_json::json;

use super::target;
use crate::args::{AuditIndexArgs, AuditIndexCommand as Args};
use crate::output::{line, print_error};

/// Runs it.
pub(super) async fn run(args: AuditIndexArgs, config: &Config) -> Result<ResultCode> {
    let installation = Installation::configured(config).await?;
    let now = installation.engine.clock().now();
    let of = args.space;
    let space = IndexedSpace { account: of.account, store: of.store, space: of.space };
    let index = SpaceIndex::open(&installation, space).await?;
    match args.command {
        Args::Rebuild => {
            let Rebuilt { items, written, gone, refused } = index.rebuild(now).await?;
            line(format!("{}: {written} written anew, {gone} gone from the store", counted(items, "item")));
            Ok(say_refused(refused))
        }
        Args::Compare { json } => compare(&index, json).await,
        Args::Export { format, algorithm, out } => export(&index, (format, &algorithm), out.as_deref()).await,
        Args::Expire { older_than } => {
            let forgotten = index.expire(now.minus(older_than)).await?;
            line(format!("{} forgotten that were deleted before that", counted(forgotten, "item")));
            Ok(ResultCode::Done)
        }
    }
}

fn say_refused(refused: u64) -> ResultCode {
    if refused == 0 {
        return ResultCode::Done;
    }
    print_error(&format!("{refused} of the space cannot be told, or can be no item; the lines above name them"));
    ResultCode::Warnings
}

async fn compare(index: &SpaceIndex, as_json: bool) -> Result<ResultCode> {
    let named = |difference: IndexDifference| {
        let (what, id, how): (_, ContentId, _) = match difference {
            IndexDifference::Missing(id) => ("missing", id, "the store has it, and the index does not".to_owned()),
            IndexDifference::Extra(id) => ("extra", id, "the index has it, and the store does not".to_owned()),
            IndexDifference::Different(id, how) => ("different", id, how),
        };
        line(if as_json {
            json!({ "difference": what, "item": id.as_str(), "how": how }).to_string()
        } else {
            format!("{what}: {}: {how}", escape_for_display(id.as_str()))
        });
    };
    let done = index.compare(named).await?;
    let Compared { same, missing, extra, different, refused } = done;
    let sum =
        format!("{same} the same, {missing} missing in the index, {extra} only in the index, {different} different");
    if as_json {
        print_error(&sum);
    } else {
        line(sum);
    }
    let refused = say_refused(refused);
    Ok(if done.is_same() { refused } else { ResultCode::Warnings })
}

async fn export(
    index: &SpaceIndex,
    (format, algorithm): (ManifestFormat, &str),
    out: Option<&Path>,
) -> Result<ResultCode> {
    let known = [Algorithm::Md5, Algorithm::Sha256];
    let found = known.into_iter().find(|known| known.as_str() == algorithm);
    let algorithm = found.ok_or_else(|| UsageError("manifests have md5 or sha256".into()))?;
    let written = target::written(out, async |out| index.manifest(format, algorithm, out).await).await?;
    let Some(count) = written.filter(|count| count.without_checksum > 0) else { return Ok(ResultCode::Done) };
    let (without, name) = (counted(count.without_checksum, "item"), algorithm.as_str());
    print_error(&match format {
        ManifestFormat::Tsv => format!("the index knows no {name} of {without}: their fields are empty"),
        ManifestFormat::Bagit => format!("the index knows no {name} of {without}: they are not in the manifest"),
    });
    Ok(ResultCode::Warnings)
}
