//! `mill init`: creates a configuration and a folder of policies.

use std::path::Path;

use anyhow::{Context, Result, bail};
use mill_app::config::EngineType;
use mill_app::config::reference::template;
use mill_app::result_code::ResultCode;

use crate::output::line;

const ACCOUNTS: &str = "[]\n";

const EXAMPLE: &str = r#"Policy files of Mill. Each account needs its name in `duplication-accounts.json` and two files.
DuraCloud's own files work unchanged. `mill policy check` names every fault.

duplication-accounts.json
    ["library"]

library-stores.json: which stores the account has
    { "stores": [
      { "id": "1", "type": "folder", "root": "/srv/library", "primary": true },
      { "id": "2", "type": "folder", "root": "/mnt/backup/library" }
    ] }

library-duplication-policy.json: what goes where; a space is a folder directly under a store's root
    { "defaultPolicies": [ { "srcStoreId": "1", "destStoreId": "2" } ],
      "spaceDuplicationStorePolicies": { "photos": [ { "srcStoreId": "1", "destStoreId": "2" } ] },
      "spacesToIgnore": [ "scratch" ],
      "compare": "differences",
      "removeVanished": true }

"compare": "differences" queues only what listings and Mill's own proofs cannot show to be in sync. Without it each loop queues
everything, as DuraCloud does: a task, a request to each store and a read of Mill's tables for each unchanged item.
"removeVanished": true (also where it is left out) deletes at the destination what is surely gone from the source; false keeps it.
"#;

/// Creates them, and overwrites nothing.
pub(super) fn run(folder: &Path, engine: EngineType) -> Result<ResultCode> {
    let file = folder.join("mill.toml");
    let policies = folder.join("policies");
    if file.exists() {
        bail!("`{}` is there already; nothing was changed", file.display());
    }
    std::fs::create_dir_all(&policies).with_context(|| format!("`{}` cannot be made", policies.display()))?;
    write(&file, &template(engine.usual_settings()))?;
    for (name, text) in [("duplication-accounts.json", ACCOUNTS), ("README.txt", EXAMPLE)] {
        let path = policies.join(name);
        if !path.exists() {
            write(&path, text)?;
        }
    }
    line(format!("Made `{}` and `{}`.", file.display(), policies.display()));
    if let Some(step) = engine.next_step() {
        line(step);
    }
    line(format!(
        "Next: describe an account as `{}` shows, then `mill policy check`, then `mill run`.",
        policies.join("README.txt").display()
    ));
    Ok(ResultCode::Done)
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("`{}` cannot be written", path.display()))
}
