//! The program that is called for each new space: it may write a mail, publish to a topic, or make a policy.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mill_model::{AccountId, SpaceId, StoreId};
use mill_ports::Clock;
use mill_processors::NewSpaceListener;
use tokio::process::Command;
use tracing::{debug, warn};

/// A program that takes longer is ended.
const PATIENCE: Duration = Duration::from_secs(30);

/// Calls a program. A failure is said in the log, and changes nothing of what is recorded.
#[derive(Debug)]
pub(crate) struct NewSpaceCommand {
    /// The program.
    pub(crate) program: PathBuf,
    /// Its time.
    pub(crate) clock: Arc<dyn Clock>,
}

#[async_trait]
impl NewSpaceListener for NewSpaceCommand {
    async fn new_space(&self, account: &AccountId, store: &StoreId, space: &SpaceId) {
        let mut command = Command::new(&self.program);
        command.args([account.as_str(), store.as_str(), space.as_str()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let ended = tokio::select! {
            ended = command.status() => ended.map_err(|error| error.to_string()),
            () = self.clock.sleep(PATIENCE) => Err(format!("it took longer than {} s, and was ended", PATIENCE.as_secs())),
        };
        let why = match ended {
            Ok(status) if status.success() => {
                debug!(%account, %store, %space, "the command of new spaces was called");
                return;
            }
            Ok(status) => status.to_string(),
            Err(error) => error,
        };
        let program = self.program.display();
        warn!(%account, %store, %space, %program, why, "the command of new spaces failed (`workman.new-space-command`)");
    }
}
