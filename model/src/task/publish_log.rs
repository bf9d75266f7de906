//! The arguments of the kind `publish-log`.

use serde::{Deserialize, Serialize};

use super::{TaskArgs, TaskKind};
use crate::ids::{AccountId, StoreAddress};

/// Looks whether changes wait for their place in the account's audit log, and publishes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishLogTask {
    /// Whose log it is.
    pub account: AccountId,
}

impl TaskArgs for PublishLogTask {
    const KIND: TaskKind = TaskKind::of("publish-log");

    fn account(&self) -> &AccountId {
        &self.account
    }

    fn subject(&self) -> String {
        format!("the audit log of {}", self.account)
    }

    /// None: which stores have the log, the account's files say when the task runs.
    fn stores(&self) -> Vec<StoreAddress> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_is_opened_for_ever() {
        let golden = include_bytes!("../../testdata/wire/v1-publish-log.json");
        crate::wire::assert_golden(golden, &PublishLogTask { account: "acct".parse().unwrap() });
    }
}
