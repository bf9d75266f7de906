//! The register of destinations: which Mill of this host keeps which place in sync, over accounts, mirrors and
//! installations.
//!
//! Two of them on one place would each remove what the other copies. The table of [owners](crate::owners) knows the sources
//! within one destination store; this one knows the stores, by where they really are. Where a directory can bear a mark, the
//! mark says the same on every host, and the register only tells of places that lie in one another.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mill_ports::{KeyRange, RowKey, RowPrecondition, Table, TableError, TableErrorKind};
use serde::{Deserialize, Serialize};

/// Who keeps a place in sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationKeeper {
    /// Names by which it is known again: a store of an installation, a mirror by its source's path or place. One that is
    /// equal is enough, so that a source that moved, or was replaced at its path, is the same keeper.
    pub names: Vec<String>,
    /// What a person calls it, for messages.
    pub shown: String,
}

impl DestinationKeeper {
    /// Whether both are one.
    pub fn is(&self, other: &Self) -> bool {
        self.names.iter().any(|name| other.names.contains(name))
    }
}

/// A place that is kept in sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationPlace {
    /// What holds it: a file system, or a bucket of a service.
    pub holder: String,
    /// Where it is in there.
    pub within: PathBuf,
    /// What tells it from another that may stand there later.
    pub identity: String,
    /// What a person calls it.
    pub shown: String,
}

impl DestinationPlace {
    fn key(&self) -> RowKey {
        RowKey::new(self.holder.clone(), self.identity.clone())
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct DestinationRow {
    keeper: DestinationKeeper,
    ground: DestinationPlace,
}

/// What a claim came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// It is this keeper's.
    Ours,
    /// It, or something that it lies in or that lies in it, is another's.
    Anothers {
        /// Whose.
        keeper: DestinationKeeper,
        /// What.
        ground: DestinationPlace,
    },
}

/// The register, a row a place.
#[derive(Debug, Clone)]
pub struct Destinations {
    table: Arc<dyn Table>,
}

impl Destinations {
    /// Its name.
    pub const TABLE: &str = "destinations";

    /// The register kept in `table`.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// Whose a place is, were `keeper` to claim it. Rows of places that are `gone` say nothing.
    ///
    /// # Errors
    /// The table's.
    pub async fn look(
        &self,
        ground: &DestinationPlace,
        keeper: &DestinationKeeper,
        gone: impl Fn(&DestinationPlace) -> bool,
    ) -> Result<ClaimOutcome, TableError> {
        let (mut range, nested) = (KeyRange::default(), |a: &Path, b: &Path| a.starts_with(b) || b.starts_with(a));
        loop {
            let page = self.table.query(&ground.holder, &range, 100).await?;
            for row in &page.rows {
                // What nobody can read any more is nobody's.
                let Ok(DestinationRow { keeper: other, ground: theirs }) = serde_json::from_slice(&row.value) else {
                    continue;
                };
                let same = theirs.identity == ground.identity;
                if (same || nested(&theirs.within, &ground.within)) && !other.is(keeper) && (same || !gone(&theirs)) {
                    return Ok(ClaimOutcome::Anothers { keeper: other, ground: theirs });
                }
            }
            match page.rows.last().filter(|_| !page.end) {
                Some(last) => range.after = Some(last.sort.clone()),
                None => return Ok(ClaimOutcome::Ours),
            }
        }
    }

    /// Makes a place `keeper`'s unless another's is there. Of two that claim at once one wins.
    ///
    /// # Errors
    /// The table's.
    pub async fn claim(
        &self,
        ground: &DestinationPlace,
        keeper: &DestinationKeeper,
        gone: impl Fn(&DestinationPlace) -> bool,
    ) -> Result<ClaimOutcome, TableError> {
        let row = DestinationRow { keeper: keeper.clone(), ground: ground.clone() };
        let written = || serde_json::to_vec(&row).map(Bytes::from).unwrap_or_default();
        match self.table.put(&ground.key(), written(), RowPrecondition::Absent).await {
            Ok(_) => {}
            Err(error) if error.kind == TableErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
        let claim = self.look(ground, keeper, gone).await?;
        match &claim {
            // The names may have changed: it is known by today's from now on.
            ClaimOutcome::Ours => drop(self.table.put(&ground.key(), written(), RowPrecondition::Always).await?),
            ClaimOutcome::Anothers { ground: theirs, .. } if theirs.identity != ground.identity => {
                self.table.delete(&ground.key(), RowPrecondition::Always).await?;
            }
            ClaimOutcome::Anothers { .. } => {}
        }
        Ok(claim)
    }

    /// Whose this very place is.
    ///
    /// # Errors
    /// The table's.
    pub async fn keeper(&self, ground: &DestinationPlace) -> Result<Option<DestinationKeeper>, TableError> {
        let row = self.table.get(&ground.key()).await?;
        Ok(row.and_then(|row| serde_json::from_slice::<DestinationRow>(&row.value).ok()).map(|row| row.keeper))
    }

    /// Makes a place nobody's. Gives the keeper that it had.
    ///
    /// # Errors
    /// The table's.
    pub async fn release(&self, ground: &DestinationPlace) -> Result<Option<DestinationKeeper>, TableError> {
        let Some(row) = self.table.get(&ground.key()).await? else { return Ok(None) };
        self.table.delete(&ground.key(), RowPrecondition::VersionIs(row.version)).await?;
        Ok(serde_json::from_slice::<DestinationRow>(&row.value).ok().map(|row| row.keeper))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_table::TestTable;

    fn keeper(name: &str) -> DestinationKeeper {
        DestinationKeeper { names: vec![name.to_owned()], shown: name.to_owned() }
    }

    fn ground(within: &str) -> DestinationPlace {
        let shown = format!("/mnt{within}");
        DestinationPlace { holder: "disk".into(), within: within.into(), identity: format!("disk{within}"), shown }
    }

    async fn claimed(destinations: &Destinations, within: &str, name: &str) -> bool {
        destinations.claim(&ground(within), &keeper(name), |_| false).await.unwrap() == ClaimOutcome::Ours
    }

    #[tokio::test]
    async fn a_place_has_one_keeper_and_so_has_all_that_lies_in_it() {
        let destinations = Destinations::new(Arc::new(TestTable::with_page_max(1)));
        assert!(claimed(&destinations, "/copies/photos", "a").await);
        assert!(claimed(&destinations, "/copies/photos", "a").await);
        assert!(claimed(&destinations, "/copies/letters", "b").await);
        assert!(claimed(&destinations, "/copies/photos2", "b").await, "a path is no text");
        for within in ["/copies/photos", "/copies/photos/2026", "/copies", "/"] {
            assert!(!claimed(&destinations, within, "b").await, "{within}");
        }
        assert_eq!(destinations.release(&ground("/copies/photos")).await.unwrap(), Some(keeper("a")));
        assert_eq!(destinations.release(&ground("/copies/photos")).await.unwrap(), None);
        assert!(claimed(&destinations, "/copies/photos", "b").await);
        assert!(claimed(&destinations, "/copies", "b").await, "what was refused has left no claim");
        assert!(!claimed(&destinations, "/copies", "a").await);
    }

    #[tokio::test]
    async fn a_keeper_is_known_by_any_of_its_names() {
        let destinations = Destinations::new(Arc::new(TestTable::default()));
        let keeper =
            |names: [&str; 2]| DestinationKeeper { names: names.map(str::to_owned).to_vec(), shown: "it".into() };
        let claim = async |names| {
            destinations.claim(&ground("/x"), &keeper(names), |_| false).await.unwrap() == ClaimOutcome::Ours
        };
        assert!(claim(["path /a", "place 1"]).await);
        assert!(claim(["path /a", "place 2"]).await, "another disk at the same path");
        assert!(claim(["path /b", "place 2"]).await, "the same disk at another path");
        assert!(!claim(["path /a", "place 1"]).await, "what it was called once it is not any more");
    }

    #[tokio::test]
    async fn what_is_gone_stands_in_nobodys_way_and_of_two_at_once_one_wins() {
        let destinations = Destinations::new(Arc::new(TestTable::yielding()));
        assert!(claimed(&destinations, "/gone/deep", "a").await);
        let gone = |ground: &DestinationPlace| ground.within == Path::new("/gone/deep");
        let claim = destinations.claim(&ground("/gone"), &keeper("b"), gone).await.unwrap();
        assert_eq!(claim, ClaimOutcome::Ours);
        let claims = futures::join!(claimed(&destinations, "/x", "a"), claimed(&destinations, "/x", "b"));
        assert!(claims.0 != claims.1, "{claims:?}");
    }
}
