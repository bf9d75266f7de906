//! What stands in for the fleet engine where Mill is built without the feature `aws`: every call says so.

#![expect(missing_docs, reason = "each is documented in its twin, `aws`")]
#![allow(clippy::unused_async)] // as the real ones are

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use mill_model::{SpaceId, StoreAddress};
use mill_policy::S3Spec;
use mill_ports::{Clock, DeletableStore, StoreError};
use mill_records::destinations::DestinationPlace;

use crate::config::Config;

const WITHOUT: &str = "this mill was built without the feature `aws`: it has neither the fleet engine nor stores in S3";

pub async fn open_engine(_: &Config, _: bool) -> Result<mill_local::LocalEngine> {
    bail!(WITHOUT)
}

pub async fn policy_store(_: &Config, _: StoreAddress, _: &SpaceId) -> Result<Arc<dyn DeletableStore>> {
    bail!(WITHOUT)
}

#[derive(Debug, Clone)]
pub struct S3Handle(Infallible);

impl S3Handle {
    pub fn ground(&self, _: &SpaceId) -> Option<DestinationPlace> {
        match self.0 {}
    }

    pub fn name(&self) -> String {
        match self.0 {}
    }

    pub fn overlap(&self, _: &Self) -> Option<String> {
        match self.0 {}
    }

    pub async fn witness(&self, _: &Self) -> Result<Option<Result<(), String>>, StoreError> {
        match self.0 {}
    }
}

pub async fn open_store(
    _: StoreAddress,
    _: &S3Spec,
    _: &Path,
    _: Arc<dyn Clock>,
) -> Result<(Arc<dyn DeletableStore>, S3Handle)> {
    bail!(WITHOUT)
}

/// By what is written alone.
pub async fn overlaps(_: &[&S3Spec]) -> Result<Vec<(usize, usize, String)>> {
    Ok(Vec::new())
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Location {
    pub bucket: String,
    pub prefix: String,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub profile: Option<String>,
}

impl S3Location {
    pub fn of(text: &str) -> Option<Self> {
        let bucket = text.strip_prefix("s3://")?.to_owned();
        Some(Self { bucket, prefix: String::new(), endpoint: None, region: None, profile: None })
    }

    pub async fn open(
        &self,
        _: StoreAddress,
        _: &SpaceId,
        _: Arc<dyn Clock>,
    ) -> Result<(Arc<dyn DeletableStore>, S3Handle)> {
        bail!(WITHOUT)
    }

    pub async fn overlap(&self, _: &Self) -> Result<Option<String>> {
        bail!(WITHOUT)
    }
}

impl std::fmt::Display for S3Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s3://{}", self.bucket)
    }
}

pub async fn create(_: &Config) -> Result<String> {
    bail!(WITHOUT)
}

pub async fn check(_: &Config) -> Result<Vec<[String; 4]>> {
    bail!(WITHOUT)
}
