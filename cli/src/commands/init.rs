//! `mill init`: a configuration and a folder of policies to begin with.

use std::path::Path;

use anyhow::{Context, Result, bail};
use mill_app::config;
use mill_app::result_code::ResultCode;

use crate::args::EngineKind;
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
      "removeVanished": true }
"#;

/// What is set for a fleet: there each look into a queue is a request that costs.
const FLEET: [(&str, &str); 3] =
    [("engine.type", "aws"), ("engine.prefix", "mill"), ("workman.idle-backoff", "1m,2m,4m,8m,8m")];

/// Makes them, and overwrites nothing.
pub(super) fn run(folder: &Path, engine: EngineKind) -> Result<ResultCode> {
    let file = folder.join("mill.toml");
    let policies = folder.join("policies");
    if file.exists() {
        bail!("`{}` is there already; nothing was changed", file.display());
    }
    std::fs::create_dir_all(&policies).with_context(|| format!("`{}` cannot be made", policies.display()))?;
    write(&file, &config::template(if engine == EngineKind::Aws { &FLEET } else { &[] }))?;
    for (name, text) in [("duplication-accounts.json", ACCOUNTS), ("README.txt", EXAMPLE)] {
        let path = policies.join(name);
        if !path.exists() {
            write(&path, text)?;
        }
    }
    line(format!("Made `{}` and `{}`.", file.display(), policies.display()));
    if engine == EngineKind::Aws {
        line("Queues and tables: deploy them, or `mill infra create`; then `mill infra check`.");
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
