//! The register of destinations: which Mill of this host keeps which place in sync, across accounts, mirrors and
//! installations.
//!
//! Two keepers of one place would each delete what the other copies. The table of [owners](crate::owners) knows the
//! sources within one destination store; this register knows where the stores really are. If a directory can have a
//! mark, the mark names the keeper on every host, and the register is needed only for places inside one another.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mill_model::OriginalPlace;
use mill_ports::{KeyRange, RowKey, RowPrecondition, Table, TableError, TableErrorKind};
use serde::{Deserialize, Serialize};

/// The Mill that keeps a place in sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationKeeper {
    /// Names that identify it: a store of an installation, or the path or place of a mirror's source. One equal name is
    /// enough, so that a source that moved, or was replaced at its path, is the same keeper.
    pub names: Vec<String>,
    /// Its name in messages.
    pub shown: String,
    /// What it copies, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<OriginalPlace>,
}

impl DestinationKeeper {
    /// Whether both are the same keeper.
    pub fn is(&self, other: &Self) -> bool {
        self.names.iter().any(|name| other.names.contains(name))
    }
}

/// A place that is kept in sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationPlace {
    /// Its holder: a file system, or a bucket of a service.
    pub holder: String,
    /// Its path in the holder.
    pub within: PathBuf,
    /// Its identity, which distinguishes it from another place that may be there later.
    pub identity: String,
    /// Its name in messages.
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
    #[serde(rename = "ground")]
    place: DestinationPlace,
}

/// The result of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // one is looked at, and none is kept
pub enum ClaimOutcome {
    /// It is this keeper's.
    Ours,
    /// The place belongs to another keeper, or one around it or inside it is kept in sync, by whomever.
    OwnedByAnother {
        /// The other keeper.
        keeper: DestinationKeeper,
        /// The place that it keeps.
        place: DestinationPlace,
    },
}

/// The register: one row for each place.
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

    /// What a claim of a place by `keeper` would return. Rows of places that are `gone` are ignored.
    ///
    /// # Errors
    /// The table's.
    pub async fn preview_claim(
        &self,
        place: &DestinationPlace,
        keeper: &DestinationKeeper,
        gone: impl Fn(&DestinationPlace) -> bool,
    ) -> Result<ClaimOutcome, TableError> {
        let (mut range, nested) = (KeyRange::default(), |a: &Path, b: &Path| a.starts_with(b) || b.starts_with(a));
        loop {
            let page = self.table.query(&place.holder, &range, 100).await?;
            for row in &page.rows {
                // A row that cannot be read belongs to nobody.
                let Ok(DestinationRow { keeper: other, place: theirs }) = serde_json::from_slice(&row.value) else {
                    continue;
                };
                let same = theirs.identity == place.identity;
                // The copies of one source inside one another would remove each other's too.
                let in_the_way =
                    if same { !other.is(keeper) } else { nested(&theirs.within, &place.within) && !gone(&theirs) };
                if in_the_way {
                    return Ok(ClaimOutcome::OwnedByAnother { keeper: other, place: theirs });
                }
            }
            match page.rows.last().filter(|_| !page.end) {
                Some(last) => range.after = Some(last.sort.clone()),
                None => return Ok(ClaimOutcome::Ours),
            }
        }
    }

    /// Claims a place for `keeper`, unless it belongs to another. Of two claims at once, one wins.
    ///
    /// # Errors
    /// The table's.
    pub async fn claim(
        &self,
        place: &DestinationPlace,
        keeper: &DestinationKeeper,
        gone: impl Fn(&DestinationPlace) -> bool,
    ) -> Result<ClaimOutcome, TableError> {
        let row = DestinationRow { keeper: keeper.clone(), place: place.clone() };
        let written = || serde_json::to_vec(&row).map(Bytes::from).unwrap_or_default();
        match self.table.put(&place.key(), written(), RowPrecondition::Absent).await {
            Ok(_) => {}
            Err(error) if error.kind == TableErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
        let claim = self.preview_claim(place, keeper, gone).await?;
        match &claim {
            // The names may have changed: today's names identify it from now on.
            ClaimOutcome::Ours => drop(self.table.put(&place.key(), written(), RowPrecondition::Always).await?),
            ClaimOutcome::OwnedByAnother { place: theirs, .. } if theirs.identity != place.identity => {
                self.table.delete(&place.key(), RowPrecondition::Always).await?;
            }
            ClaimOutcome::OwnedByAnother { .. } => {}
        }
        Ok(claim)
    }

    /// The keeper of exactly this place.
    ///
    /// # Errors
    /// The table's.
    pub async fn keeper(&self, place: &DestinationPlace) -> Result<Option<DestinationKeeper>, TableError> {
        self.keeper_of(&place.holder, &place.identity).await
    }

    /// The keeper of the place of this identity in a holder.
    ///
    /// # Errors
    /// The table's.
    pub async fn keeper_of(&self, holder: &str, identity: &str) -> Result<Option<DestinationKeeper>, TableError> {
        let row = self.table.get(&RowKey::new(holder, identity)).await?;
        Ok(row.and_then(|row| serde_json::from_slice::<DestinationRow>(&row.value).ok()).map(|row| row.keeper))
    }

    /// The places inside one or around it, and the place itself, that are not `gone`, and their keepers.
    ///
    /// # Errors
    /// The table's.
    pub async fn near(
        &self,
        place: &DestinationPlace,
        gone: impl Fn(&DestinationPlace) -> bool,
    ) -> Result<Vec<(DestinationPlace, DestinationKeeper)>, TableError> {
        let (mut range, mut near) = (KeyRange::default(), Vec::new());
        loop {
            let page = self.table.query(&place.holder, &range, 100).await?;
            let rows = page.rows.iter().filter_map(|row| serde_json::from_slice::<DestinationRow>(&row.value).ok());
            let is_near = |theirs: &DestinationPlace| {
                let nested = theirs.within.starts_with(&place.within) || place.within.starts_with(&theirs.within);
                theirs.identity == place.identity || nested && !gone(theirs)
            };
            near.extend(rows.filter(|row| is_near(&row.place)).map(|row| (row.place, row.keeper)));
            match page.rows.last().filter(|_| !page.end) {
                Some(last) => range.after = Some(last.sort.clone()),
                None => return Ok(near),
            }
        }
    }

    /// Releases a place, and returns the keeper that it had.
    ///
    /// # Errors
    /// The table's.
    pub async fn release(&self, place: &DestinationPlace) -> Result<Option<DestinationKeeper>, TableError> {
        let Some(row) = self.table.get(&place.key()).await? else { return Ok(None) };
        self.table.delete(&place.key(), RowPrecondition::VersionIs(row.version)).await?;
        Ok(serde_json::from_slice::<DestinationRow>(&row.value).ok().map(|row| row.keeper))
    }

    /// Releases all places inside one, and returns their keepers.
    ///
    /// # Errors
    /// The table's.
    pub async fn release_inside(&self, place: &DestinationPlace) -> Result<Vec<DestinationKeeper>, TableError> {
        let mut keepers = Vec::new();
        let is_inside =
            |theirs: &DestinationPlace| theirs.identity != place.identity && theirs.within.starts_with(&place.within);
        for (theirs, _) in self.near(place, |_| false).await?.into_iter().filter(|(theirs, _)| is_inside(theirs)) {
            keepers.extend(self.release(&theirs).await?);
        }
        Ok(keepers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_table::TestTable;

    fn keeper(name: &str) -> DestinationKeeper {
        DestinationKeeper { names: vec![name.to_owned()], shown: name.to_owned(), original: None }
    }

    fn place(within: &str) -> DestinationPlace {
        let shown = format!("/mnt{within}");
        DestinationPlace { holder: "disk".into(), within: within.into(), identity: format!("disk{within}"), shown }
    }

    async fn claimed(destinations: &Destinations, within: &str, name: &str) -> bool {
        destinations.claim(&place(within), &keeper(name), |_| false).await.unwrap() == ClaimOutcome::Ours
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
        assert_eq!(destinations.release(&place("/copies/photos")).await.unwrap(), Some(keeper("a")));
        assert_eq!(destinations.release(&place("/copies/photos")).await.unwrap(), None);
        assert!(claimed(&destinations, "/copies/photos", "b").await);
        assert!(!claimed(&destinations, "/copies", "a").await);
        assert!(!claimed(&destinations, "/copies", "b").await, "also where the one inside is its own");
        assert_eq!(destinations.release_inside(&place("/copies")).await.unwrap(), vec![keeper("b"); 3]);
        assert!(claimed(&destinations, "/copies", "b").await, "what was refused has left no claim");
        assert!(
            !claimed(&destinations, "/copies/letters", "b").await,
            "what was released is claimed anew by the one around it alone"
        );
    }

    #[tokio::test]
    async fn a_keeper_is_known_by_any_of_its_names() {
        let destinations = Destinations::new(Arc::new(TestTable::default()));
        let keeper = |names: [&str; 2]| DestinationKeeper {
            names: names.map(str::to_owned).to_vec(),
            shown: "it".into(),
            original: None,
        };
        let claim = async |names| {
            destinations.claim(&place("/x"), &keeper(names), |_| false).await.unwrap() == ClaimOutcome::Ours
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
        let gone = |place: &DestinationPlace| place.within == Path::new("/gone/deep");
        let claim = destinations.claim(&place("/gone"), &keeper("b"), gone).await.unwrap();
        assert_eq!(claim, ClaimOutcome::Ours);
        let claims = futures::join!(claimed(&destinations, "/x", "a"), claimed(&destinations, "/x", "b"));
        assert!(claims.0 != claims.1, "{claims:?}");
    }
}
